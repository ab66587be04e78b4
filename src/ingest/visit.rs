//! One connection of a publisher, from its first byte to its last.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nova_actors::error::{DeliveryError, LookupError, StartError};
use nova_actors::id::StreamId;
use nova_actors::live_stream::{Departure, Farewell, Grant, Left, OnAir, Publish, Refusal};
use nova_media::frame::Media;
use nova_media::frame::timeline::Sanitised;
use nova_media::rtmp::{self, Dropped, EndReason, Output, PublishRequest, Report};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::{interval, sleep_until, timeout};

use super::{READ_BYTES, RECONNECT_LIMIT, WRITE_LIMIT};
use crate::live::{Live, hash_key};

/// How long the decision about a publisher may take: a database that is slow, an actor that starts, a node that
/// has died and whose lease has to expire.
const VERDICT_LIMIT: Duration = Duration::from_secs(12);
/// How often the owner's view of the publisher is brought up to date.
const REPORT_EVERY: Duration = Duration::from_secs(1);
const LEAVING: &str = "The server is about to restart; connect again.";

/// Where a decision is waited for.
type Verdict = Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send>>;

/// Serves one connection until it ends.
pub(super) async fn attend(
    live: &Arc<Live>,
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
) {
    let mut ingest = rtmp::Ingest::new(Instant::now(), seed());
    let mut buffer = vec![0; READ_BYTES];
    let mut judging: Option<Verdict> = None;
    let mut hang_up: Option<oneshot::Receiver<Farewell>> = None;
    let mut publishing: Option<Publishing<'_>> = None;
    let mut leaving = live.leaving();
    let mut told_to_leave: Option<Instant> = None;
    let mut ticks = interval(REPORT_EVERY);
    let mut replies = BytesMut::new();

    let ended = loop {
        let deadline = [ingest.next_deadline(), told_to_leave].into_iter().flatten().min();
        let outputs = tokio::select! {
            read = socket.read(&mut buffer) => match read {
                Ok(count @ 1..) => {
                    live.metrics.ingest_bytes.inc_by(count as u64);
                    ingest.handle_input(Instant::now(), buffer.get(..count).unwrap_or_default())
                }
                Ok(0) | Err(_) => break None,
            },
            () = at(deadline) => match told_to_leave {
                Some(until) if until <= Instant::now() => ingest.close(LEAVING),
                _ => ingest.handle_timeout(Instant::now()),
            },
            verdict = judged(&mut judging) => {
                judging = None;
                match verdict {
                    Ok(grant) => {
                        publishing = Some(Publishing::begin(live, grant));
                        ingest.accept_publish(Instant::now())
                    }
                    Err(refusal) => {
                        live.metrics.rtmp_refused.with_label_values(&[reason_of(refusal)]).inc();
                        ingest.refuse_publish(&refusal.to_string())
                    }
                }
            }
            farewell = heard(&mut hang_up), if publishing.is_some() => {
                hang_up = None;
                ingest.close(&farewell.to_string())
            }
            _ = ticks.tick(), if publishing.is_some() => {
                if let Some(publishing) = &mut publishing {
                    publishing.report(ingest.report(Instant::now()));
                }
                continue;
            }
            _ = leaving.wait_for(|leaving| *leaving), if told_to_leave.is_none() => {
                told_to_leave = Some(Instant::now() + RECONNECT_LIMIT);
                match ingest.request_reconnect(LEAVING) {
                    Some(request) => vec![Output::Reply(request)],
                    None => ingest.close(LEAVING),
                }
            }
        };
        let mut ended = None;
        for output in outputs {
            match output {
                Output::Reply(bytes) => replies.extend_from_slice(&bytes),
                Output::PublishRequested(request) => {
                    let (sender, receiver) = oneshot::channel();
                    hang_up = Some(receiver);
                    judging = Some(Box::pin(judge(Arc::clone(live), request, sender)));
                }
                Output::Media(media) => {
                    let written = publishing.as_mut().map(|publishing| publishing.write(&media));
                    if written == Some(Err(Farewell::TakenOver)) && ended.is_none() {
                        // The farewell is on its way here too; this came first.
                        for output in ingest.close(&Farewell::TakenOver.to_string()) {
                            match output {
                                Output::Reply(bytes) => replies.extend_from_slice(&bytes),
                                Output::Ended(reason) => ended = Some(reason),
                                _ => {}
                            }
                        }
                    }
                }
                Output::Metadata(metadata) => {
                    if let Some(Publishing { grant, .. }) = &publishing {
                        grant.broadcast.describe(grant.session, metadata);
                    }
                }
                Output::Ended(reason) => ended = Some(reason),
            }
        }
        if !replies.is_empty() {
            let written = timeout(WRITE_LIMIT, async {
                socket.write_all(&replies).await?;
                socket.flush().await
            });
            let written = written.await;
            replies.clear();
            if !matches!(written, Ok(Ok(()))) && ended.is_none() {
                break None;
            }
        }
        if let Some(publishing) = &mut publishing {
            publishing.tell_first().await;
        }
        if ended.is_some() {
            break ended;
        }
    };
    let reason = ended.as_ref().map_or("dropped", label);
    live.metrics.rtmp_ended.with_label_values(&[reason]).inc();
    let said = ended.as_ref().map(tracing::field::display);
    let bytes_in = ingest.bytes_in();
    match publishing {
        Some(publishing) => {
            tracing::info!(%peer, stream = %publishing.grant.broadcast.stream(), reason, said, bytes_in, "a publisher left");
            publishing.end(ingest.report(Instant::now()), ended).await;
        }
        None => tracing::debug!(%peer, reason, said, bytes_in, "a connection ended before it published"),
    }
    // What was said last should arrive; whether it does is no longer our business.
    let _ = timeout(WRITE_LIMIT, socket.shutdown()).await;
}

/// A publisher that was let in.
struct Publishing<'a> {
    live: &'a Live,
    grant: Grant,
    /// What of its report is counted already.
    counted: Report,
    /// There is something to play, and the stream has not been told.
    first: bool,
}

impl<'a> Publishing<'a> {
    fn begin(live: &'a Live, grant: Grant) -> Publishing<'a> {
        live.metrics.publishers.inc();
        Publishing { live, grant, counted: Report::default(), first: false }
    }

    /// Passes media on; refused when somebody else publishes by now.
    fn write(&mut self, media: &Media) -> Result<(), Farewell> {
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
    async fn tell_first(&mut self) {
        if self.first {
            let Grant { session, broadcast } = &self.grant;
            // Not started for it: a stream that is not there any more is somebody else's by now, or finds the broadcast on the air
            // when it is started again.
            let there = self.live.streams.existing(broadcast.stream());
            self.first = there.is_some_and(|there| there.try_send(OnAir { session: *session }).is_err());
        }
    }

    fn report(&mut self, report: Report) {
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

    async fn end(mut self, report: Report, ended: Option<EndReason>) {
        self.report(report);
        self.live.metrics.publishers.dec();
        let Grant { session, broadcast } = &self.grant;
        let how = match ended {
            Some(EndReason::Unpublished) => Departure::Finished,
            _ => Departure::Dropped,
        };
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
async fn judge(
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
    let granted = live.streams.send(stream, Publish { key, hang_up }, VERDICT_LIMIT).await;
    let granted = granted.map_err(|error| match error {
        DeliveryError::Lookup(LookupError::Start(StartError::NotFound)) => Refusal::UnknownKey,
        error => {
            tracing::warn!(%stream, %error, "nobody could decide about a publisher");
            Refusal::Unavailable
        }
    })?;
    tracing::info!(%stream, encoder = request.encoder, app = request.app, accepted = granted.is_ok(), "a publisher came");
    granted
}

async fn judged(judging: &mut Option<Verdict>) -> Result<Grant, Refusal> {
    match judging {
        Some(verdict) => verdict.await,
        None => pending().await,
    }
}

async fn heard(hang_up: &mut Option<oneshot::Receiver<Farewell>>) -> Farewell {
    match hang_up {
        // Without a word: who decided about the stream is not there any more.
        Some(farewell) => farewell.await.unwrap_or(Farewell::Restarted),
        None => pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// Differs from one connection to the next; nothing secret is made of it.
fn seed() -> u64 {
    getrandom::u64().unwrap_or_default()
}

fn reason_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownKey => "key",
        Refusal::Unavailable => "unavailable",
    }
}

fn label(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Unpublished => "unpublished",
        EndReason::Refused => "refused",
        EndReason::PlayRequested => "play",
        EndReason::Closed => "closed",
        EndReason::TooLate(_) => "too_late",
        EndReason::Protocol(_) => "protocol",
    }
}
