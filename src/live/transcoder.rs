//! The ladder: smaller renditions of broadcasts, made by a child process for each.
//!
//! A broadcast's frames go to the child through a [`Listener`], one fragment each, so that nothing waits
//! for a segment; what comes back goes to the broadcast's [`Ladder`](nova_actors::live_stream::Ladder), which cuts it where the source was cut. The publisher knows nothing of
//! it: a child that is slow finds frames left out up to the next keyframe, one that stalls is killed, one that dies is started again
//! after a pause that grows, and all the while the source rendition goes on and the others have gaps.
//!
//! Why a child process and not a library is told in [`ffmpeg`](crate::ffmpeg); for a ladder two things more count. A transcoder is the only
//! part of the engine that uses whole cores for as long as somebody publishes, so it has to be something the kernel can put behind everybody
//! else; and it runs the code most likely to meet its match in a stranger's bitstream, for hours. What an in-process encoder would save is a
//! copy of the coded frames through a pipe: two megabits a second.
//!
//! A ladder is admitted by what it costs ([`admission`]); one this node cannot hold is refused, whole or from the top, and its owner is
//! told in the stream's stats, the operator in a metric and in the log.

pub mod admission;
mod run;
pub mod rung;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nova_actors::live_stream::ladder::{Status, Transcoding};
use nova_actors::live_stream::{Broadcast, Heard, Listener, Session};
use nova_actors::port::Transcoder;
use nova_media::codec::Configuration;
use nova_media::frame::{Frame, Media, Track};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::ffmpeg::Backoff;
use crate::telemetry::Metrics;
use admission::{Admitted, Budget};
use run::{Ended, Run};
use rung::{Rung, Source};

/// The pauses before a child is started again.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// How often a ladder that was refused is tried again.
const ADMIT_AGAIN: Duration = Duration::from_secs(10);
/// How often a program that was not there is looked for.
const PROGRAM_AGAIN: Duration = Duration::from_secs(60);

/// Makes the ladders of a node.
pub struct Transcoders(Arc<Inner>);

struct Inner {
    ladder: Vec<Rung>,
    program: PathBuf,
    budget: Arc<Budget>,
    metrics: Metrics,
    runtime: Handle,
}

impl Transcoders {
    /// Ladders of these rungs, as many as so many cores hold. Their tasks run where this is called.
    pub fn new(ladder: Vec<Rung>, program: PathBuf, cores: f64, metrics: Metrics) -> Transcoders {
        let budget = Budget::new(cores);
        Transcoders(Arc::new(Inner { ladder, program, budget, metrics, runtime: Handle::current() }))
    }

    /// The cores they share with whatever else transcodes on this node.
    pub fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.0.budget)
    }
}

impl Transcoder for Transcoders {
    fn attend(&self, broadcast: &Arc<Broadcast>) {
        if self.0.ladder.is_empty() {
            return;
        }
        broadcast.begin_ladder();
        let listener = broadcast.listen();
        self.0.runtime.spawn(attend(Arc::clone(&self.0), Arc::downgrade(broadcast), listener));
    }
}

impl fmt::Debug for Transcoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcoders").field("ladder", &self.0.ladder).finish_non_exhaustive()
    }
}

/// One broadcast, from its first publisher to its end.
struct Attendance {
    inner: Arc<Inner>,
    /// Not kept alive for it: who else holds the broadcast decides how long it lives.
    broadcast: Weak<Broadcast>,
    session: Session,
    video: Option<Arc<Configuration>>,
    backoff: Backoff,
    /// No child is started before that.
    not_before: Instant,
}

async fn attend(inner: Arc<Inner>, broadcast: Weak<Broadcast>, mut listener: Listener) {
    let mut attendance = Attendance {
        inner,
        broadcast,
        session: 0,
        video: None,
        backoff: Backoff::new(PAUSE_LEAST, PAUSE_MOST),
        not_before: Instant::now(),
    };
    let mut held = None;
    loop {
        let heard = match held.take() {
            Some(heard) => heard,
            None => match listener.next().await {
                Some(heard) => heard,
                None => return,
            },
        };
        match heard {
            Heard::Began(session) => {
                (attendance.session, attendance.video) = (session, None);
                attendance.tell(|status| *status = Status { restarts: status.restarts, ..Status::default() });
            }
            Heard::Media(Media::Configuration { track: Track::Video, configuration }) => {
                attendance.video = Some(configuration);
                attendance.not_before = Instant::now();
            }
            Heard::Media(Media::Frame(frame)) if frame.track == Track::Video && frame.keyframe => {
                if Instant::now() >= attendance.not_before {
                    held = attendance.climb(&mut listener, frame).await;
                }
            }
            Heard::Gop(_) | Heard::Media(_) | Heard::Missed | Heard::Interrupted => {}
        }
    }
}

impl Attendance {
    /// Transcodes from this picture on, for as long as one child lasts. What was heard and has to be dealt with next.
    async fn climb(&mut self, listener: &mut Listener, first: Frame) -> Option<Heard> {
        let video = self.video.clone()?;
        let source = Source { picture: video.picture()? };
        let targets = source.targets(&self.inner.ladder);
        if targets.is_empty() {
            // Until it is another source there is nothing to make.
            self.video = None;
            return None;
        }
        let Admitted { targets, refused, share, reason } = self.inner.budget.admit(&source, targets);
        let refused: Vec<String> = refused.into_iter().map(|target| target.step.name).collect();
        if let Some(reason) = &reason {
            self.inner.metrics.transcoder_refused.inc();
            let stream = self.broadcast.upgrade().map(|broadcast| broadcast.stream());
            tracing::warn!(
                stream = stream.map(tracing::field::display),
                ?refused,
                reason,
                "a ladder is not made"
            );
        }
        let Some(share) = share else {
            self.not_before = Instant::now() + ADMIT_AGAIN;
            self.tell(|status| {
                (status.transcoding, status.refused, status.reason) = (Transcoding::Refused, refused, reason);
            });
            return None;
        };
        self.tell(|status| {
            (status.transcoding, status.refused) = (Transcoding::Running, refused);
            status.reason = reason.or(status.reason.take().filter(|_| status.restarts > 0));
        });
        let began = Instant::now();
        let run = Run {
            program: &self.inner.program,
            metrics: &self.inner.metrics,
            broadcast: &self.broadcast,
            session: self.session,
            targets: &targets,
            source,
            video,
        };
        let (ended, held) = run.last(listener, first, share).await;
        if let Some(broadcast) = self.broadcast.upgrade() {
            broadcast.ladder().step_down(self.session);
        }
        let Some(ended) = ended else {
            self.tell(|status| status.transcoding = Transcoding::Off);
            return held;
        };
        let pause = match ended {
            Ended::NoProgram(_) => PROGRAM_AGAIN,
            _ => self.backoff.after(began.elapsed()),
        };
        self.not_before = Instant::now() + pause;
        self.inner.metrics.transcoder_restarts.with_label_values(&[ended.as_str()]).inc();
        let stream = self.broadcast.upgrade().map(|broadcast| broadcast.stream());
        tracing::warn!(stream = stream.map(tracing::field::display), error = %ended, ?pause, "a transcoder has ended; the source goes on");
        self.tell(|status| {
            status.transcoding = Transcoding::Restarting;
            status.restarts += 1;
            status.reason = Some(ended.to_string());
        });
        held
    }

    fn tell(&self, change: impl FnOnce(&mut Status)) {
        if let Some(broadcast) = self.broadcast.upgrade() {
            broadcast.ladder().report(change);
        }
        self.inner.metrics.transcoder_millicores.set((self.inner.budget.used() * 1_000.0) as i64);
    }
}
