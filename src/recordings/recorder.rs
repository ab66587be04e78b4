//! One broadcast on its way into the object store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nova_actors::id::StreamId;
use nova_actors::port::Tap;
use nova_media::hls::{Kept, Whole};
use time::OffsetDateTime;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::{BEAT_EVERY, Inner, PAUSE_MAX, left, new_folder, path};
use crate::store::recordings::Open;
use crate::telemetry::Metrics;

/// Segments of one broadcast that wait to be written: a minute of the usual ones, which is how long an object store may be away without a
/// hole in the recording. When full, the newest is lost to the recording, and counted.
pub const SEGMENTS_WAITING_MAX: usize = 32;
/// The first pause after an attempt that failed.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Pauses that grow.
#[derive(Debug, Default)]
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn next(&mut self) -> Duration {
        self.0 = (self.0 * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        self.0
    }
}

/// A segment that waits.
struct Waiting {
    segment: Whole,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

/// The publisher's end of the queue.
#[derive(Debug)]
struct Feed {
    queue: Option<mpsc::Sender<Waiting>>,
    over: Arc<AtomicBool>,
    room: Arc<tokio::sync::Semaphore>,
    metrics: Metrics,
}

/// Begins to keep a broadcast; the first whole segment decides whether its owner wants that.
pub(super) fn begin(inner: &Arc<Inner>, stream: StreamId, broadcast: String) -> Box<dyn Tap> {
    let (queue, waiting) = mpsc::channel(SEGMENTS_WAITING_MAX);
    let over = Arc::new(AtomicBool::new(false));
    let task = record(Arc::clone(inner), stream, broadcast, waiting, Arc::clone(&over));
    inner.runtime.spawn(task);
    Box::new(Feed { queue: Some(queue), over, room: Arc::clone(&inner.room), metrics: inner.metrics.clone() })
}

impl Tap for Feed {
    fn whole(&mut self, segment: Whole) {
        let Some(queue) = &self.queue else { return };
        if queue.is_closed() {
            // It is not to be kept.
            self.queue = None;
            return;
        }
        let bytes = segment.parts.iter().map(Bytes::len).sum::<usize>();
        let room = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX));
        let sent = room.map_err(|_| ()).and_then(|room| {
            let waiting = Waiting { segment, since: Instant::now(), _room: room };
            queue.try_send(waiting).or_else(|error| match error {
                TrySendError::Full(_) => Err(()),
                TrySendError::Closed(_) => Ok(()),
            })
        });
        if sent.is_err() {
            self.metrics.recording_segments.with_label_values(&["lost"]).inc();
        }
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Release);
        self.queue = None;
    }
}

/// Counts a task as long as it runs.
struct Writing<'a>(&'a Inner);

impl<'a> Writing<'a> {
    fn begin(inner: &'a Inner) -> Writing<'a> {
        inner.writing.send_modify(|writing| *writing += 1);
        inner.metrics.recordings.inc();
        Writing(inner)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.send_modify(|writing| *writing -= 1);
        self.0.metrics.recordings.dec();
    }
}

async fn record(
    inner: Arc<Inner>,
    stream: StreamId,
    broadcast: String,
    mut queue: mpsc::Receiver<Waiting>,
    over: Arc<AtomicBool>,
) {
    let mut leaving = inner.leaving.subscribe();
    let first = tokio::select! {
        first = queue.recv() => first,
        () = left(&mut leaving) => None,
    };
    // A broadcast without a whole segment is nothing to keep.
    let Some(first) = first else { return };
    let _writing = Writing::begin(&inner);
    let Some(open) = open(&inner, stream, &broadcast, &first.segment).await else { return };
    let mut writer = Writer { inner: &inner, open, init: None, heard: Instant::now() };
    let mut next = Some(first);
    while let Some(waiting) = next {
        if !writer.keep(waiting).await {
            return;
        }
        next = writer.next(&mut queue).await;
    }
    if over.load(Ordering::Acquire) && !*inner.leaving.borrow() {
        inner.see_to_the_end(&writer.open).await;
    }
}

/// The row of the recording; none when nobody wants it, or the node leaves before the database is there.
async fn open(inner: &Inner, stream: StreamId, broadcast: &str, first: &Whole) -> Option<Open> {
    let folder = new_folder().ok()?;
    // It is known of a segment only when it is whole.
    let began = i128::from(first.at_unix_ms) * 1_000_000;
    let began = OffsetDateTime::from_unix_timestamp_nanos(began).unwrap_or_else(|_| inner.now());
    let mut pause = Pause::default();
    loop {
        match inner.store.begin_recording(stream, broadcast, inner.node, &folder, began, inner.now()).await {
            Ok(open) => return open,
            Err(error) => tracing::warn!(%stream, %error, "a recording could not begin yet"),
        }
        if !inner.wait(pause.next()).await {
            return None;
        }
    }
}

struct Writer<'a> {
    inner: &'a Inner,
    open: Open,
    /// The init segment that was written last.
    init: Option<Bytes>,
    heard: Instant,
}

impl Writer<'_> {
    /// Writes a segment, however often that has to be tried; false when the recording is over for us.
    async fn keep(&mut self, waiting: Waiting) -> bool {
        let Waiting { segment, since, _room } = waiting;
        let mut pause = Pause::default();
        loop {
            if !self.beat().await {
                return false;
            }
            match self.write(&segment).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(recording = %self.open.id, %error, "a segment could not be kept yet");
                    self.inner.metrics.recording_lag.set(since.elapsed().as_secs() as i64);
                }
            }
            if !self.inner.wait(pause.next()).await {
                return false;
            }
        }
        let metrics = &self.inner.metrics;
        let bytes = segment.parts.iter().map(Bytes::len).sum::<usize>();
        metrics.recording_segments.with_label_values(&["kept"]).inc();
        metrics.recording_bytes.inc_by(bytes as u64);
        metrics.recording_kept.observe(since.elapsed().as_secs_f64());
        metrics.recording_lag.set(since.elapsed().as_secs() as i64);
        true
    }

    async fn write(&mut self, segment: &Whole) -> Result<(), crate::objects::ObjectError> {
        let objects = &self.inner.objects;
        let at = |kept: Kept| path(self.open.id, &self.open.folder, &kept.name());
        if self.init.as_ref() != Some(&segment.init_bytes) {
            objects.put(&at(Kept::Init { msn: segment.msn }), vec![segment.init_bytes.clone()]).await?;
            self.init = Some(segment.init_bytes.clone());
        }
        objects.put(&at(Kept::of(segment)), segment.parts.clone()).await
    }

    /// The next segment, as soon as there is one; none when there is none any more.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Waiting>) -> Option<Waiting> {
        let mut leaving = self.inner.leaving.subscribe();
        loop {
            tokio::select! {
                biased;
                waiting = queue.recv() => return waiting,
                // What waited was written above; nothing more is waited for.
                () = left(&mut leaving) => return queue.try_recv().ok(),
                () = tokio::time::sleep_until(self.heard + BEAT_EVERY) => {
                    if !self.beat().await {
                        queue.close();
                        return None;
                    }
                }
            }
        }
    }

    /// Says now and then that this recording is being written; false when it should not be. A database that is away changes nothing.
    async fn beat(&mut self) -> bool {
        if self.heard.elapsed() < BEAT_EVERY {
            return true;
        }
        self.heard = Instant::now();
        self.inner.hear(&self.open).await != Some(false)
    }
}
