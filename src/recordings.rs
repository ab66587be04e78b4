//! Recordings: what is kept of broadcasts, while they are on the air and afterwards.
//!
//! ```text
//! publisher → Broadcast ──(segment is whole)──▶ queue ──▶ a task for each broadcast ──▶ object store
//!                                                              │ end                        │ names of objects
//!                                                              ▼                            ▼
//!                                                        PostgreSQL row ◀── ready ── playlist, picture
//! ```
//!
//! - **Off the media path.** The publisher's thread puts shared bytes into a bounded queue and goes on. An object store that is slow, full
//!   or away makes the queue fill, then segments are lost and counted; viewers never notice.
//! - **Survives a crash up to the last whole segment.** The name of an object says all that its playlist needs
//!   ([`nova_media::hls::vod`]), so the list of objects is the journal. Whoever finds a recording whose node is silent makes the
//!   playlist of what is there.
//! - **One broadcast, one recording.** A broadcast that goes on after a drop, or on another node, goes on with the same recording, with a
//!   discontinuity.
//! - **Deletion** is a mark on the row, at once; the objects follow, and the row goes last, so a crash in between leaves nothing behind.

mod recorder;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nova_actors::clock::Clock;
use nova_actors::id::{NodeId, RecordingId, StreamId};
use nova_actors::port::{Recorder, Tap};
use nova_media::hls::vod;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::live::still;
use crate::objects::{ObjectError, Objects};
use crate::store::recordings::{Made, Open};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

pub use recorder::SEGMENTS_WAITING_MAX;

/// What a recording's playlist is called.
pub const PLAYLIST: &str = "index.m3u8";
/// What its picture is called.
pub const THUMBNAIL: &str = "thumbnail.jpg";
/// Of larger segments no picture is made.
const PICTURED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of segments that wait to be written, over all recordings of the node. They are shared with the live window as long as that
/// has them; when full, segments are lost to their recordings.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// How often a recording says that it is being written.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// A recording nobody has said anything of for so long has lost its node.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often recordings without a node, and without anybody who wants them, are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to write.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Random bytes in the name of a folder.
const FOLDER_BYTES: usize = 10;

/// How recordings are treated.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a broadcast without a publisher may go on; until then nobody finishes its recording for it.
    pub resume: Duration,
    /// How long recordings are kept; for ever unless given.
    pub keep: Option<Duration>,
    /// Other nodes may go on with what this one began.
    pub has_peers: bool,
    /// The program that makes pictures.
    pub ffmpeg: PathBuf,
}

/// The recordings of one node. Clones share them.
#[derive(Clone)]
pub struct Recordings(Arc<Inner>);

struct Inner {
    settings: Settings,
    store: Store,
    objects: Objects,
    node: NodeId,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Where the tasks run: not on the thread of the actors.
    runtime: Handle,
    room: Arc<Semaphore>,
    leaving: watch::Sender<bool>,
    writing: watch::Sender<usize>,
}

/// Why a recording was not made.
#[derive(Debug, thiserror::Error)]
enum FinishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl Recordings {
    /// The recordings of a node; looks after those of nodes that are gone, until it is stopped. Its tasks run where this is called.
    pub fn start(
        settings: Settings,
        store: Store,
        objects: Objects,
        node: NodeId,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Recordings {
        let recordings = Recordings(Arc::new(Inner {
            settings,
            store,
            objects,
            node,
            clock,
            metrics,
            runtime: Handle::current(),
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
            leaving: watch::Sender::new(false),
            writing: watch::Sender::new(0),
        }));
        recordings.0.runtime.spawn(Arc::clone(&recordings.0).keep_tidy());
        recordings
    }

    /// The object store behind them.
    pub fn objects(&self) -> &Objects {
        &self.0.objects
    }

    /// Writes what waits, as long as `limit` allows. What is left open another node finishes, or this one when it is back.
    pub async fn stop(&self, limit: Duration) {
        self.0.leaving.send_replace(true);
        let mut writing = self.0.writing.subscribe();
        if timeout(limit, writing.wait_for(|writing| *writing == 0)).await.is_err() {
            tracing::warn!("segments of recordings still waited for the object store when the limit passed");
        }
    }
}

impl Recorder for Recordings {
    fn tap(&self, stream: StreamId, broadcast: &str) -> Box<dyn Tap> {
        recorder::begin(&self.0, stream, broadcast.to_owned())
    }
}

impl fmt::Debug for Recordings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recordings").field("objects", &self.0.objects).finish_non_exhaustive()
    }
}

/// The path of what belongs to a recording.
pub fn path(id: RecordingId, folder: &str, name: &str) -> String {
    format!("recordings/{id}/{folder}/{name}")
}

fn folder(id: RecordingId, folder: &str) -> String {
    format!("recordings/{id}/{folder}")
}

/// A name for a folder nobody guesses: lowercase hexadecimal.
fn new_folder() -> Result<String, getrandom::Error> {
    let mut random = [0; FOLDER_BYTES];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Inner {
    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Makes a recording of what is there. Again after a failure, it does the same again.
    async fn finish(&self, open: &Open) -> Result<(), FinishError> {
        let found = self.objects.list(&folder(open.id, &open.folder)).await?;
        let base = format!("{}/", open.folder);
        let Some(vod) = vod::render(&base, found.iter().map(|(name, _)| name.as_str())) else {
            tracing::info!(recording = %open.id, "nothing was kept of a broadcast");
            self.store.delete_recording(open.id, self.now()).await?;
            return Ok(());
        };
        let playlist = path(open.id, &open.folder, PLAYLIST);
        self.objects.put(&playlist, vec![vod.playlist.into()]).await?;
        let has_thumbnail = self.picture(open, &vod.middle).await;
        let size_bytes = found.iter().map(|(_, bytes)| bytes).sum();
        let duration_ms = u64::try_from(vod.duration.as_millis()).unwrap_or(u64::MAX);
        let made = Made { duration_ms, size_bytes, segments: vod.segments, has_thumbnail };
        self.store.recording_is_ready(open.id, made, self.now()).await?;
        tracing::info!(recording = %open.id, duration_ms, size_bytes, "a recording is ready");
        Ok(())
    }

    /// Makes a picture of the recording, when that can be done; a recording without one is as good.
    async fn picture(&self, open: &Open, (init, segment): &(String, String)) -> bool {
        let read = async |name: &str| {
            self.objects.read(&path(open.id, &open.folder, name), PICTURED_BYTES_MAX).await
        };
        let (Ok(init), Ok(segment)) = (read(init).await, read(segment).await) else { return false };
        match still::of(&self.settings.ffmpeg, &[init, segment]).await {
            Ok(picture) => {
                self.objects.put(&path(open.id, &open.folder, THUMBNAIL), vec![picture]).await.is_ok()
            }
            Err(error) => {
                tracing::info!(recording = %open.id, %error, "a recording has no picture");
                false
            }
        }
    }

    /// Looks after what nobody looks after, until the node leaves.
    async fn keep_tidy(self: Arc<Self>) {
        let began = self.clock.instant();
        let mut leaving = self.leaving.subscribe();
        let mut ticks = interval(TIDY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = left(&mut leaving) => return,
            }
            let up_for = self.clock.instant().saturating_duration_since(began);
            let tidied = tokio::select! {
                tidied = self.tidy(up_for) => tidied,
                () = left(&mut leaving) => return,
            };
            if let Err(error) = tidied {
                tracing::warn!(%error, "recordings could not be looked after");
            }
        }
    }

    async fn tidy(&self, up_for: Duration) -> Result<(), FinishError> {
        let now = self.now();
        // The publisher may come back within the resume window, here or elsewhere, and go on with the same recording.
        let silence = match self.settings.has_peers {
            true => Some(SILENCE_MAX + self.settings.resume),
            // Nobody else could have gone on with it while this process was not there.
            false => (up_for >= self.settings.resume).then_some(SILENCE_MAX),
        };
        if let Some(silence) = silence {
            for open in self.store.take_over_recordings(self.node, now - silence, now).await? {
                tracing::info!(recording = %open.id, "finishing a recording whose node is gone");
                self.see_to_the_end(&open).await;
            }
        }
        if let Some(keep) = self.settings.keep {
            let expired = self.store.expire_recordings(now - keep, now).await?;
            if expired > 0 {
                tracing::info!(expired, "recordings are past the time they are kept");
            }
        }
        for unwanted in self.store.unwanted_recordings(now - 3 * SILENCE_MAX).await? {
            self.objects.delete_all(&format!("recordings/{}", unwanted.id)).await?;
            self.store.forget_recording(unwanted.id).await?;
        }
        Ok(())
    }

    /// Finishes a recording, however often that has to be tried, unless the node leaves or nobody wants it any more.
    async fn see_to_the_end(&self, open: &Open) {
        let mut pause = recorder::Pause::default();
        loop {
            match self.finish(open).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(recording = %open.id, %error, "a recording could not be finished yet")
                }
            }
            if !self.wait(pause.next()).await || self.hear(open).await == Some(false) {
                return;
            }
        }
    }

    /// Says that this recording has somebody; whether it still should. Nothing is known when the database is away.
    async fn hear(&self, open: &Open) -> Option<bool> {
        self.store.hear_of_recording(open.id, self.node, self.now()).await.ok()
    }

    /// Waits, unless the node leaves meanwhile; whether it stays.
    async fn wait(&self, pause: Duration) -> bool {
        let mut leaving = self.leaving.subscribe();
        timeout(pause, left(&mut leaving)).await.is_err()
    }
}

/// Waits until the node leaves.
async fn left(leaving: &mut watch::Receiver<bool>) {
    // Whoever could have told us is gone as well.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}
