//! One connection of a publisher, from its first byte to its last.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nova_actors::live_stream::{Departure, Farewell, Grant, Refusal};
use nova_media::rtmp::{self, EndReason, Output};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::{interval, sleep_until, timeout};

use super::publishing::{Publishing, judge};
use super::{READ_BYTES, RECONNECT_LIMIT, WRITE_LIMIT};
use crate::live::Live;

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
            let how = match ended {
                Some(EndReason::Unpublished) => Departure::Finished,
                _ => Departure::Dropped,
            };
            publishing.end(ingest.report(Instant::now()), how).await;
        }
        None => tracing::debug!(%peer, reason, said, bytes_in, "a connection ended before it published"),
    }
    // What was said last should arrive; whether it does is no longer our business.
    let _ = timeout(WRITE_LIMIT, socket.shutdown()).await;
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
