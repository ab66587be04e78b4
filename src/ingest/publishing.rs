//! A publisher that was let in, over whatever door it came: what is written, counted and told of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nova_actors::error::{DeliveryError, LookupError, StartError};
use nova_actors::id::StreamId;
use nova_actors::live_stream::{Departure, Farewell, Grant, Left, OnAir, Publish, Refusal};
use nova_actors::port::KeyHash;
use nova_media::frame::Media;
use nova_media::frame::timeline::Sanitised;
use nova_media::rtmp::{Dropped, PublishRequest, Report};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::live::{Live, hash_key};

/// How long the decision about a publisher may take: a database that is slow, an actor that starts, a node that
/// has died and whose lease has to expire.
const VERDICT_LIMIT: Duration = Duration::from_secs(12);

/// A publisher that was let in.
pub(crate) struct Publishing<'a> {
    live: &'a Live,
    pub(crate) grant: Grant,
    /// What of its report is counted already.
    counted: Report,
    /// There is something to play, and the stream has not been told.
    first: bool,
}

impl<'a> Publishing<'a> {
    pub(crate) fn begin(live: &'a Live, grant: Grant) -> Publishing<'a> {
        live.metrics.publishers.inc();
        Publishing { live, grant, counted: Report::default(), first: false }
    }

    /// Passes media on; refused when somebody else publishes by now.
    pub(crate) fn write(&mut self, media: &Media) -> Result<(), Farewell> {
        let began = Instant::now();
        let unix_ms = (self.live.clock.now().unix_timestamp_nanos() / 1_000_000) as i64;
        let Grant { session, broadcast } = &self.grant;
        let written = broadcast.write(*session, unix_ms, media).map_err(|_| Farewell::TakenOver)?;
        self.first |= written.first;
        if written.parts > 0 {
            let metrics = &self.live.metrics;
            metrics.hls_parts.inc_by(written.parts.into());
            metrics.hls_part_bytes.inc_by(written.part_bytes);
            metrics.hls_part_made.observe(began.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Tells the stream that there is something to play; again until it has heard.
    pub(crate) async fn tell_first(&mut self) {
        if self.first {
            let Grant { session, broadcast } = &self.grant;
            // Not started for it: a stream that is not there any more is somebody else's by now, or finds the broadcast on the air
            // when it is started again.
            let there = self.live.streams.existing(broadcast.stream());
            self.first = there.is_some_and(|there| there.try_send(OnAir { session: *session }).is_err());
        }
    }

    pub(crate) fn report(&mut self, report: Report) {
        let before = std::mem::replace(&mut self.counted, report);
        for ((reason, now), (_, was)) in mended(&report.sanitised).into_iter().zip(mended(&before.sanitised))
        {
            self.live.metrics.frames_sanitised.with_label_values(&[reason]).inc_by(now.saturating_sub(was));
        }
        for ((reason, now), (_, was)) in dropped(&report.dropped).into_iter().zip(dropped(&before.dropped)) {
            self.live.metrics.frames_dropped.with_label_values(&[reason]).inc_by(now.saturating_sub(was));
        }
        self.grant.broadcast.report(self.grant.session, report);
    }

    pub(crate) async fn end(mut self, report: Report, how: Departure) {
        self.report(report);
        self.live.metrics.publishers.dec();
        let Grant { session, broadcast } = &self.grant;
        let left = Left { session: *session, how };
        // Not started for it: that would take the stream from the node that goes on with it.
        if let Some(there) = self.live.streams.existing(broadcast.stream())
            && there.send(left, VERDICT_LIMIT).await.is_err()
        {
            // It notices by itself that nobody is at the other end.
            tracing::debug!(stream = %broadcast.stream(), "a departure could not be told");
        }
    }
}

/// What was mended in timestamps, by the reason metrics name it by.
fn mended(of: &Sanitised) -> [(&'static str, u64); 9] {
    [
        ("wrap_24", of.wraps_24),
        ("wrap_32", of.wraps_32),
        ("repeated", of.repeated),
        ("backwards", of.backwards),
        ("gap", of.gaps),
        ("outlier", of.outliers),
        ("jump", of.jumps),
        ("composition", of.compositions),
        ("audio_resync", of.audio_resyncs),
    ]
}

/// What was not passed on, by the reason metrics name it by.
fn dropped(of: &Dropped) -> [(&'static str, u64); 6] {
    [
        ("unconfigured", of.unconfigured),
        ("broken", of.broken),
        ("unsupported", of.unsupported),
        ("other_track", of.other_track),
        ("empty", of.empty),
        ("early", of.early),
    ]
}

/// Asks whose key it is, and that stream whether its publisher may begin.
pub(crate) async fn judge(
    live: Arc<Live>,
    request: PublishRequest,
    hang_up: oneshot::Sender<Farewell>,
) -> Result<Grant, Refusal> {
    let key = hash_key(&request.key);
    let found = timeout(VERDICT_LIMIT, live.kept.with_key(key)).await;
    let stream: StreamId = match found {
        Ok(Ok(found)) => found.ok_or(Refusal::UnknownKey)?,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a stream key could not be looked up");
            return Err(Refusal::Unavailable);
        }
        Err(_) => return Err(Refusal::Unavailable),
    };
    let granted = admit(&live, stream, key, hang_up).await;
    tracing::info!(%stream, encoder = request.encoder, app = request.app, accepted = granted.is_ok(), "a publisher came");
    granted
}

/// Asks a stream whether a publisher that has its key may begin.
pub(crate) async fn admit(
    live: &Live,
    stream: StreamId,
    key: KeyHash,
    hang_up: oneshot::Sender<Farewell>,
) -> Result<Grant, Refusal> {
    let granted = live.streams.send(stream, Publish { key, hang_up }, VERDICT_LIMIT).await;
    granted.map_err(|error| match error {
        DeliveryError::Lookup(LookupError::Start(StartError::NotFound)) => Refusal::UnknownKey,
        error => {
            tracing::warn!(%stream, %error, "nobody could decide about a publisher");
            Refusal::Unavailable
        }
    })?
}
