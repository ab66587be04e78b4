//! One child, from its first frame to its last.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use nova_actors::live_stream::{Broadcast, Heard, Listener, Session, Step};
use nova_media::codec::Configuration;
use nova_media::fmp4::reader::{Event, ReadError};
use nova_media::fmp4::{self, Reader, TrackEntry};
use nova_media::frame::{Frame, Media, Track};
use nova_media::time::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::admission::Share;
use super::rung::{Source, Target, arguments};
use crate::ffmpeg::{Bounds, Pipes, Running, StartError};
use crate::telemetry::Metrics;

/// No end of its CPU time is to be expected; the address space of three encoders of 1440p; behind the engine, before pictures.
const BOUNDS: Bounds = Bounds { cpu_s: None, memory_bytes: 4 << 30, niceness: 5 };
/// The track of the pictures in what the child reads.
const TRACK: u32 = 1;
/// What waits for the child's pipe. Behind it, the listener's queue fills and leaves frames out.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;
/// How often it is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long renditions may wait for the child, with players that wait for them, before what they wait for becomes a gap.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the child may give nothing for what it was fed before it is killed.
const STALL: Duration = Duration::from_secs(8);
/// How long it may take to give what it still has when nothing follows.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// How often its CPU time is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Why a child has ended, unless it was told to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// There is none.
    #[error("the program {0} is not on this machine")]
    NoProgram(String),
    /// It could not be started or spoken to.
    #[error("the transcoder cannot be used: {0}")]
    Child(#[from] io::Error),
    /// It ended by itself.
    #[error("the transcoder died: {0}")]
    Died(String),
    /// It gave nothing for too long.
    #[error("the transcoder gave nothing for {} s", STALL.as_secs())]
    Stalled,
    /// What it gave cannot be read.
    #[error("what the transcoder gives cannot be read: {0}")]
    Unreadable(#[from] ReadError),
}

impl Ended {
    /// What metrics call it.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Ended::NoProgram(_) => "no_program",
            Ended::Child(_) => "child",
            Ended::Died(_) => "died",
            Ended::Stalled => "stalled",
            Ended::Unreadable(_) => "unreadable",
        }
    }
}

/// What one child is for.
pub(super) struct Run<'a> {
    pub(super) program: &'a Path,
    pub(super) metrics: &'a Metrics,
    pub(super) broadcast: &'a Weak<Broadcast>,
    pub(super) session: Session,
    pub(super) targets: &'a [Target],
    pub(super) source: Source,
    pub(super) video: Arc<Configuration>,
}

/// The child at work.
struct Work<'a> {
    run: &'a Run<'a>,
    steps: Vec<Step>,
    reader: Reader,
    unwritten: VecDeque<Bytes>,
    unwritten_bytes: usize,
    fragments: u32,
    /// Up to where pictures were fed: when the latest is shown.
    fed: Option<Timestamp>,
    /// The listener has left frames out, and the next picture was not there yet.
    missed: bool,
    /// Since when something was fed that nothing came back for yet.
    owed_since: Option<Instant>,
}

/// Counts a child as long as it runs.
struct Counted<'a>(&'a Metrics);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.transcoders.dec();
    }
}

impl Run<'_> {
    /// Runs to the end of the child, or of what it is for. Why it ended, when it should not have; and what was heard meanwhile and is
    /// not for this child.
    pub(super) async fn last(
        &self,
        listener: &mut Listener,
        first: Frame,
        mut share: Share,
    ) -> (Option<Ended>, Option<Heard>) {
        let steps: Vec<Step> = self.targets.iter().map(|target| target.step.clone()).collect();
        // Before anything else: from here on, renditions wait for these pictures.
        let climbs = |from| {
            let broadcast = self.broadcast.upgrade();
            broadcast.is_some_and(|broadcast| {
                broadcast.ladder().climb(self.session, &steps, self.source.picture.frames_per_s, from)
            })
        };
        if !climbs(first.pts) {
            return (None, None);
        }
        let (running, pipes) =
            match Running::start(self.program, arguments(&self.source, self.targets), &BOUNDS) {
                Ok(started) => started,
                Err(StartError::NoProgram(program)) => return (Some(Ended::NoProgram(program)), None),
                Err(StartError::Child(error)) => return (Some(error.into()), None),
            };
        tracing::info!(pid = running.pid(), session = self.session, renditions = ?steps.iter().map(|step| &step.name).collect::<Vec<_>>(), "a transcoder begins");
        self.metrics.transcoders.inc();
        let _counted = Counted(self.metrics);
        let mut work = Work {
            run: self,
            steps: steps.clone(),
            reader: Reader::new(),
            unwritten: VecDeque::new(),
            unwritten_bytes: 0,
            fragments: 0,
            fed: None,
            missed: false,
            owed_since: None,
        };
        work.queue(fmp4::init(&[TrackEntry { id: TRACK, configuration: &self.video }]));
        work.feed(first);
        let Pipes { mut input, mut output } = pipes;
        let ended = work.go_on(listener, &running, &mut share, (&mut input, &mut output), &climbs).await;
        match ended {
            Ok(held) => {
                drop(input);
                if timeout(FLUSH_LIMIT, work.drain(&mut output)).await.is_err() {
                    tracing::debug!("a transcoder kept what it had");
                }
                drop(running.kill().await);
                (None, held)
            }
            Err(ended) => {
                let words = running.kill().await.words;
                let died = matches!(&ended, Ended::Died(_));
                (Some(if died { Ended::Died(words) } else { ended }), None)
            }
        }
    }
}

impl Work<'_> {
    /// Until the child fails or what it is for is over; then, what was heard that is not for it.
    async fn go_on(
        &mut self,
        listener: &mut Listener,
        running: &Running,
        share: &mut Share,
        (input, output): (&mut ChildStdin, &mut ChildStdout),
        climbs: &impl Fn(Timestamp) -> bool,
    ) -> Result<Option<Heard>, Ended> {
        let mut buffer = vec![0; READ_BYTES];
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut measured, mut used) = (Instant::now(), Duration::ZERO);
        loop {
            let chunk = self.unwritten.front().cloned();
            tokio::select! {
                heard = listener.next(), if self.unwritten_bytes < UNWRITTEN_BYTES_MAX => match heard {
                    Some(Heard::Media(Media::Frame(frame))) if frame.track == Track::Video => {
                        if self.missed && !self.catch_up(&frame, climbs) {
                            return Ok(None);
                        }
                        self.feed(frame);
                    }
                    Some(Heard::Media(Media::Configuration { track: Track::Video, configuration })) => {
                        if configuration != self.run.video {
                            return Ok(Some(Heard::Media(Media::Configuration { track: Track::Video, configuration })));
                        }
                    }
                    Some(Heard::Gop(_) | Heard::Media(_)) => {}
                    Some(Heard::Missed) => {
                        self.missed = true;
                        self.run.metrics.transcoder_missed.inc();
                    }
                    heard => return Ok(heard),
                },
                wrote = write(input, chunk.as_ref()), if chunk.is_some() => match wrote {
                    Ok(count) => self.wrote(count),
                    Err(_) => return Err(Ended::Died(String::new())),
                },
                read = output.read(&mut buffer) => match read {
                    Ok(count @ 1..) => self.take(buffer.get(..count).unwrap_or_default())?,
                    Ok(0) | Err(_) => return Err(Ended::Died(String::new())),
                },
                _ = looks.tick() => {
                    if self.owed_since.is_some_and(|since| since.elapsed() > STALL) {
                        return Err(Ended::Stalled);
                    }
                    self.look_after();
                    if measured.elapsed() >= MEASURE_EVERY && let Some(now) = running.cpu_time() {
                        let passed = std::mem::replace(&mut measured, Instant::now()).elapsed();
                        share.measured((now.saturating_sub(used)).as_secs_f64() / passed.as_secs_f64().max(0.001));
                        used = now;
                    }
                }
            }
        }
    }

    /// Lets go of what has been waited for too long, and counts what could not be made.
    fn look_after(&mut self) {
        let Some(broadcast) = self.run.broadcast.upgrade() else { return };
        if broadcast.ladder().waiting_since().is_some_and(|since| since.elapsed() > PATIENCE) {
            broadcast.ladder().give_up(self.run.session);
        }
        self.run.metrics.rendition_gaps.inc_by(broadcast.ladder().take_gaps());
    }

    /// Goes on behind frames that were left out; false when the session has not the desk any more.
    fn catch_up(&mut self, next: &Frame, climbs: &impl Fn(Timestamp) -> bool) -> bool {
        self.missed = false;
        if let (Some(broadcast), Some(fed)) = (self.run.broadcast.upgrade(), self.fed) {
            // One tick behind the latest that was fed: that one comes yet.
            broadcast.ladder().stop(self.run.session, Some(fed.offset(1)));
        }
        climbs(next.pts)
    }

    fn feed(&mut self, frame: Frame) {
        self.fragments = self.fragments.wrapping_add(1);
        self.fed = Some(self.fed.map_or(frame.pts, |fed| fed.max(frame.pts)));
        self.owed_since.get_or_insert_with(Instant::now);
        let sample = fmp4::Sample {
            // Nobody looks at it: what follows has a time of its own.
            duration: 1,
            composition: i32::try_from(frame.pts.ticks() - frame.dts.ticks()).unwrap_or(0),
            keyframe: frame.keyframe,
            payload: frame.payload,
        };
        let decode_time = u64::try_from(frame.dts.ticks()).unwrap_or(0);
        let run = fmp4::Run { track_id: TRACK, decode_time, samples: &[sample] };
        self.queue(fmp4::fragment(self.fragments, &[run]));
    }

    fn queue(&mut self, bytes: Bytes) {
        self.unwritten_bytes += bytes.len();
        self.unwritten.push_back(bytes);
    }

    fn wrote(&mut self, count: usize) {
        self.unwritten_bytes = self.unwritten_bytes.saturating_sub(count);
        if let Some(front) = self.unwritten.front_mut() {
            front.advance(count.min(front.len()));
            if front.is_empty() {
                self.unwritten.pop_front();
            }
        }
    }

    /// Passes on what the child gave.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.owed_since = None;
        let events = self.reader.push(bytes)?;
        let Some(broadcast) = self.run.broadcast.upgrade() else { return Ok(()) };
        let (ladder, session) = (broadcast.ladder(), self.run.session);
        for event in events {
            match event {
                Event::Track { place, configuration } => {
                    if let Some(step) = self.steps.get(place) {
                        ladder.configure(session, &step.name, configuration);
                    }
                }
                Event::Sample { place, frame, duration } => {
                    let Some(step) = self.steps.get(place) else { continue };
                    let made = ladder.push(session, &step.name, frame, duration);
                    self.run.metrics.rendition_parts.inc_by(made.parts.into());
                    self.run.metrics.rendition_part_bytes.inc_by(made.bytes);
                }
            }
        }
        Ok(())
    }

    /// Passes on what the child still has, to its end.
    async fn drain(&mut self, output: &mut ChildStdout) {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            if self.take(buffer.get(..count).unwrap_or_default()).is_err() {
                return;
            }
        }
    }
}

async fn write(input: &mut ChildStdin, chunk: Option<&Bytes>) -> io::Result<usize> {
    match chunk {
        Some(chunk) => input.write(chunk).await,
        None => std::future::pending().await,
    }
}
