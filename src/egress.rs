//! A room as a live stream: who is on the stage, and everybody who speaks, for viewers beyond the room's size; and its recording.
//!
//! The shard gives what it would send a participant ([`Media::listen`]): one picture, and the voices that are heard. Children decode
//! (`eye`, `ear`), the last picture is shown thirty times a second whoever it is of, the voices are mixed ([`nova_media::mix`]), and
//! two children make H.264 of one size and AAC of it (`encoder`), which is written to the broadcast as a publisher's frames are. So
//! playlists, renditions, recordings and viewers over WebRTC follow as from RTMP.
//!
//! Raw pictures in the middle are what makes it hold: a speaker who changes, another codec or size, a camera that is switched off, a
//! decoder that dies are another picture at the next thirtieth of a second, never a break in the stream. They cost a few hundredths of a
//! core in pipes, beside a third of one to encode. The clock in the middle, and nobody's timestamps, is what joins sound and picture.
//!
//! | file | what it settles |
//! |---|---|
//! | `eye` | from packets of the stage to raw pictures |
//! | `ear` | from packets of a voice to samples |
//! | `encoder` | from raw pictures and samples to frames |
//! | `child` | one FFmpeg process: pipes, and what it costs |
//!
//! It is admitted as ladders are ([`Budget`](crate::live::transcoder::admission::Budget)): smaller where less is left, and refused where
//! nothing is.

mod child;
mod ear;
mod encoder;
mod eye;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use bytes::Bytes;
use nova_actors::id::StreamId;
use nova_actors::live_stream::{Departure, Farewell, Refusal as Refused, Step};
use nova_actors::port::StreamsError;
use nova_media::codec::Picture;
use nova_media::frame::Media as Coded;
use nova_media::frame::health::Meter;
use nova_media::mix::{self, Voice};
use nova_media::rtmp::Report;
use nova_media::sfu::{MemberId, PICTURE_SLOT, RoomKey, SPEAKERS_MAX, SfuError, Taken, TrackKey, Want};
use prometheus::IntGauge;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ffmpeg::{Backoff, StartError};
use crate::ingest::publishing::{Publishing, admit};
use crate::live::Live;
use crate::live::transcoder::admission::Share;
use crate::live::transcoder::rung::{Source, Target};
use crate::rtc::Media;
use crate::telemetry::Metrics;
use ear::Ear;
use encoder::Encoder;
use eye::Eye;

/// Pictures a second.
const PICTURES_PER_S: u32 = 30;
/// What is shown, the largest first: the first that fits into what is left of the node's cores.
const SIZES: [Size; 3] = [
    Size { width: 1_280, height: 720, kbit_s: 2_500 },
    Size { width: 854, height: 480, kbit_s: 1_200 },
    Size { width: 640, height: 360, kbit_s: 700 },
];
/// Packets that wait to be decoded: a second of a large picture and three voices. When full they are lost, as on the network.
const PACKETS_MAX: usize = 2_048;
/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(10);
/// Sound that is mixed at a time.
const SOUND_MS: u64 = 20;
const SOUND_SAMPLES: usize = mix::RATE_HZ as usize / 1_000 * SOUND_MS as usize;
/// What was not shown in time by more than this is left out: the machine stood still, and the stream's time with it.
const LATE_MAX: Duration = Duration::from_millis(500);
/// When nobody is on the stage the last picture stays for so long, for whoever only turns their camera.
const LAST_PICTURE_STAYS: Duration = Duration::from_secs(1);
/// How often the owner's view of the publisher is brought up to date, and what it costs measured.
const REPORT_EVERY: Duration = Duration::from_secs(1);
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// Lines of the stage, of which the shard is asked for the layer that fits.
const STAGE_LINES: u16 = 720;

/// One size of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    width: u32,
    height: u32,
    kbit_s: u32,
}

impl Size {
    /// Bytes of a raw picture of this size, 4:2:0.
    fn bytes(self) -> usize {
        (self.width * self.height * 3 / 2) as usize
    }

    /// Nobody on the stage: dark, a little blue.
    fn empty(self) -> Bytes {
        const DARK: [u8; 3] = [28, 134, 124];
        let lines = (self.width * self.height) as usize;
        let plane = |of: usize, value: u8| std::iter::repeat_n(value, of);
        let [luma, blue, red] = DARK;
        plane(lines, luma).chain(plane(lines / 4, blue)).chain(plane(lines / 4, red)).collect()
    }
}

/// The pauses before a child that died is started again.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(250), Duration::from_secs(30))
}

/// Why a room cannot be made a stream.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such stream any more.
    #[error("there is no such stream")]
    NotFound,
    /// Nobody can decide about the stream.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The database.
    #[error(transparent)]
    Store(#[from] StreamsError),
    /// The cores of this node are in use.
    #[error("{0}; lower the ladders of other streams, or give `--ladder-cores` more")]
    NoCores(String),
    /// FFmpeg.
    #[error("{0}; install FFmpeg on this node, or say with `--ffmpeg` where it is")]
    Program(#[from] StartError),
    /// The room is not at the shard.
    #[error(transparent)]
    Sfu(#[from] SfuError),
}

/// Why a room is not a stream any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was to end.
    Stopped,
    /// Somebody else publishes the stream.
    TakenOver,
    /// The stream was deleted, or its key was replaced.
    Deleted,
    /// The node, or who decides about the stream, begins anew.
    Restarted,
}

impl Ended {
    /// As it is told.
    pub fn as_str(self) -> &'static str {
        match self {
            Ended::Stopped => "stopped",
            Ended::TakenOver => "taken_over",
            Ended::Deleted => "deleted",
            Ended::Restarted => "restarted",
        }
    }
}

/// Makes streams of the rooms of one node. Cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    media: Media,
    live: Arc<Live>,
    program: PathBuf,
    metrics: Metrics,
    runtime: Handle,
}

/// A room that is a stream; dropped, it is none any more, and the broadcast ends.
#[derive(Debug)]
pub struct Showing {
    stage: watch::Sender<Option<TrackKey>>,
}

impl Showing {
    /// Whose picture is shown from now on; nobody's is a dark one.
    pub fn show(&self, track: Option<TrackKey>) {
        self.stage.send_if_modified(|shown| std::mem::replace(shown, track) != track);
    }
}

impl Egress {
    /// Of no room yet. What has to be done is done on the current runtime.
    pub fn new(media: Media, live: Arc<Live>, program: PathBuf, metrics: Metrics) -> Egress {
        Egress(Arc::new(Inner { media, live, program, metrics, runtime: Handle::current() }))
    }

    /// A room becomes this stream; how it ends is told.
    pub async fn begin(
        &self,
        room: RoomKey,
        stream: StreamId,
    ) -> Result<(Showing, oneshot::Receiver<Ended>), Refusal> {
        let inner = &self.0;
        let record = inner.live.kept.load(stream).await?.ok_or(Refusal::NotFound)?;
        let (size, share) = inner.admit()?;
        let segment_ms = inner.live.segment_ms();
        // Before anybody is sent away for it.
        let encoder = Encoder::start(&inner.program, size, segment_ms)?;
        let (sink, packets) = mpsc::channel(PACKETS_MAX);
        let listener = inner.media.listen(room, sink).await?;
        let (hang_up, farewell) = oneshot::channel();
        let granted = admit(&inner.live, stream, record.key, hang_up).await;
        let grant = match granted {
            Ok(grant) => grant,
            Err(refused) => {
                inner.media.leave(listener).await;
                return Err(refused.into());
            }
        };
        tracing::info!(%stream, ?size, "a room is streamed");
        let (stage, staged) = watch::channel(None);
        let (tell, told) = oneshot::channel();
        let program = &inner.program;
        let show = Show {
            inner: Arc::clone(inner),
            listener,
            staged,
            farewell,
            encoder,
            eye: Eye::new(program, size),
            ears: std::array::from_fn(|_| Ear::new(program)),
            voices: std::array::from_fn(|_| Voice::default()),
            picture: size.empty(),
            empty: size.empty(),
            left_at: None,
            shown: 0,
            said: 0,
            began: Moment::now(),
            share,
            meter: Meter::new(),
            _counted: Counted::new(&inner.metrics.egress_rooms),
        };
        inner.runtime.spawn(async move {
            let ended = Box::pin(show.run(packets, grant)).await;
            // Whoever began it may be gone.
            let _ = tell.send(ended);
        });
        Ok((Showing { stage }, told))
    }
}

impl Inner {
    /// The largest size that fits into what is left of the cores.
    fn admit(&self) -> Result<(Size, Share), Refusal> {
        let mut reason = None;
        for size in SIZES {
            let Size { width, height, kbit_s } = size;
            let frames_per_s = Some(f64::from(PICTURES_PER_S));
            let source = Source { picture: Picture { width, height, frames_per_s } };
            let step = Step { name: format!("{height}p"), width, height };
            let target = Target { step, kbit_s, megapixels_s: source.megapixels_s() };
            let admitted = self.live.budget.admit(&source, vec![target]);
            if let Some(share) = admitted.share {
                return Ok((size, share));
            }
            reason = admitted.reason;
        }
        self.metrics.transcoder_refused.inc();
        Err(Refusal::NoCores(reason.unwrap_or_default()))
    }
}

/// Counts a room as long as it is a stream.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A room, as it is shown.
struct Show {
    inner: Arc<Inner>,
    listener: MemberId,
    staged: watch::Receiver<Option<TrackKey>>,
    farewell: oneshot::Receiver<Farewell>,
    encoder: Encoder,
    eye: Eye,
    ears: [Ear; SPEAKERS_MAX],
    voices: [Voice; SPEAKERS_MAX],
    /// What is shown.
    picture: Bytes,
    empty: Bytes,
    /// Since when nobody is on the stage.
    left_at: Option<Instant>,
    /// Pictures that were due so far, and pieces of sound.
    shown: u64,
    said: u64,
    /// When the first was.
    began: Moment,
    share: Share,
    meter: Meter,
    _counted: Counted,
}

impl Show {
    async fn run(
        mut self,
        mut packets: mpsc::Receiver<Taken>,
        grant: nova_actors::live_stream::Grant,
    ) -> Ended {
        let live = Arc::clone(&self.inner.live);
        let mut publishing = Publishing::begin(&live, grant);
        let mut leaving = live.leaving();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut reported, mut measured) = (Instant::now(), Instant::now());
        let mut media: Vec<Coded> = Vec::new();
        self.began = Moment::now();
        let (how, ended) = loop {
            let mut is_new = false;
            tokio::select! {
                taken = packets.recv() => match taken {
                    Some(taken) => self.take(taken),
                    // The shard has ended.
                    None => break (Departure::Dropped, Ended::Restarted),
                },
                _ = ticks.tick() => self.go_on(&mut media),
                changed = self.staged.changed() => match changed {
                    Ok(()) => is_new = true,
                    Err(_) => break (Departure::Finished, Ended::Stopped),
                },
                farewell = &mut self.farewell => break match farewell {
                    Ok(Farewell::TakenOver) => (Departure::Dropped, Ended::TakenOver),
                    Ok(Farewell::Deleted | Farewell::KeyReplaced) => (Departure::Dropped, Ended::Deleted),
                    Ok(Farewell::Restarted) | Err(_) => (Departure::Dropped, Ended::Restarted),
                },
                _ = leaving.wait_for(|leaving| *leaving) => break (Departure::Dropped, Ended::Restarted),
            }
            if is_new {
                self.set_stage().await;
            }
            if self.eye.asks() {
                self.inner.media.begin_anew(self.listener).await;
            }
            let now = Moment::now();
            for one in &media {
                if let Coded::Frame(frame) = one {
                    self.meter.observe(now, frame);
                }
            }
            if media.drain(..).any(|one| publishing.write(&one).is_err()) {
                break (Departure::Dropped, Ended::TakenOver);
            }
            publishing.tell_first().await;
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                publishing.report(Report { health: self.meter.health(now), ..Report::default() });
            }
            if measured.elapsed() >= MEASURE_EVERY {
                let passed = std::mem::replace(&mut measured, Instant::now()).elapsed();
                self.measure(passed);
            }
        };
        self.inner.media.leave(self.listener).await;
        let stream = publishing.grant.broadcast.stream();
        tracing::info!(%stream, ?ended, "a room is streamed no more");
        let report = Report { health: self.meter.health(Moment::now()), ..Report::default() };
        publishing.end(report, how).await;
        ended
    }

    fn take(&mut self, taken: Taken) {
        if taken.slot == PICTURE_SLOT {
            self.eye.see(taken, Moment::now());
        } else if let Some(ear) = self.ears.get_mut(taken.slot) {
            ear.hear(&taken.kept);
        }
    }

    async fn set_stage(&mut self) {
        let track = *self.staged.borrow_and_update();
        self.left_at = track.is_none().then(Instant::now);
        let want = track.map(|track| Want::new(track, STAGE_LINES));
        self.inner.media.view(self.listener, want.into_iter().collect()).await;
    }

    /// Shows and says what is due, and takes what was made of it.
    fn go_on(&mut self, media: &mut Vec<Coded>) {
        let metrics = &self.inner.metrics;
        let now = Moment::now();
        self.eye.look(now);
        for (ear, voice) in self.ears.iter_mut().zip(&mut self.voices) {
            ear.give(voice, metrics);
        }
        if let Some(picture) = self.eye.latest(metrics) {
            self.picture = picture;
        }
        if self.left_at.is_some_and(|at| at.elapsed() >= LAST_PICTURE_STAYS) {
            self.picture = self.empty.clone();
        }
        let said_at = self.began + Duration::from_millis(self.said * SOUND_MS);
        let late = now.saturating_duration_since(said_at);
        if late > LATE_MAX {
            self.began += late;
            metrics.egress_late_ms.inc_by(late.as_millis() as u64);
        }
        let passed = now.saturating_duration_since(self.began);
        while self.said < passed.as_millis() as u64 / SOUND_MS {
            let sound = Bytes::from(mix::mix(&mut self.voices, SOUND_SAMPLES));
            self.encoder.say((self.said * SOUND_SAMPLES as u64) as i64, sound, metrics);
            self.said += 1;
        }
        let due = passed.as_micros() as u64 * u64::from(PICTURES_PER_S) / 1_000_000;
        if due > self.shown {
            // Of several that are due only the last is of use.
            self.shown = due;
            self.encoder.show(due as i64, self.picture.clone());
        }
        self.encoder.take(metrics, |one| media.push(one));
    }

    fn measure(&mut self, passed: Duration) {
        let ears: Duration = self.ears.iter_mut().map(Ear::used).sum();
        let used = self.encoder.used() + self.eye.used() + ears;
        self.share.measured(used.as_secs_f64() / passed.as_secs_f64().max(0.001));
        let millicores = (self.inner.live.budget.used() * 1_000.0) as i64;
        self.inner.metrics.transcoder_millicores.set(millicores);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_stage_is_a_whole_picture() {
        for size in SIZES {
            assert_eq!(size.empty().len(), size.bytes());
            assert!(size.width.is_multiple_of(2) && size.height.is_multiple_of(2), "{size:?}");
        }
    }
}
