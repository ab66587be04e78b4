//! `/whip/{stream_id}`: a stream is published over WebRTC (RFC 9725), with its stream key as bearer.
//!
//! Who publishes attends the media shard in a room of its own, and the packets of its tracks come out of it: put in order, made frames
//! ([`Intake`]) and written to the broadcast, so that playlists, recordings, pictures and viewers over WebRTC follow as from RTMP. A
//! keyframe is asked for once in a segment, since encoders of calls make none by themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::StreamId;
use nova_actors::live_stream::{Departure, Farewell, Grant, Refusal as Refused};
use nova_media::frame::{Media as Coded, Track};
use nova_media::rtmp::{Dropped, PublishRequest, Report};
use nova_media::rtp::intake::Intake;
use nova_media::rtp::payload::Codec;
use nova_media::sdp::{Direction, Kind, Offer, Section};
use nova_media::sfu::{MemberId, SfuError, Source, Taken};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::door::{self, created, session_calls};
use super::{Answered, Inner, Refusal, Role, Session, Wish, name, ufrag};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::ingest::publishing::{Publishing, judge};
use crate::live::hash_key;
use crate::rest::sdp::{self, Sdp, SdpFragment};
use crate::rest::{Context, Path, client};
use crate::rtc::streams::{Standing, Stands};

/// Packets that wait to be made frames: a second of a large picture. When full they are lost, as on the network.
const PACKETS_MAX: usize = 4_096;
/// How often it is looked whether a packet is to be given up, and whether the publisher is still there.
const TICK: Duration = Duration::from_millis(50);
/// How often the owner's view of the publisher is brought up to date.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// After a loss a keyframe is asked for again so often.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(500);
/// When a publisher who cannot begin now may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Publish a stream over WebRTC.
///
/// The offer sends H.264 (`packetization-mode=1`) and Opus. Whoever comes with the same key takes over. The session ends with `DELETE` to
/// `Location`, which ends the broadcast; a publisher that is gone without a word is waited for as over RTMP.
#[utoipa::path(
    post, path = "/whip/{stream_id}", tag = "streams", security(("stream_key" = [])),
    request_body(content = String, content_type = "application/sdp", description = "An offer"),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 201, description = "The answer; `Location` is the session, `ETag` its ICE session", content_type = "application/sdp", body = String),
        (status = 400, description = "`malformed_request`: this is no offer that could be answered", body = Problem),
        (status = 401, description = "`unauthenticated`: the bearer is not the key of this stream", body = Problem),
        (status = 406, description = "`not_acceptable`: the offer sends nothing that is taken", body = Problem),
        (status = 413, description = "`payload_too_large`", body = Problem),
        (status = 415, description = "`unsupported_media_type`: the body must be application/sdp", body = Problem),
        (status = 503, description = "`unavailable`: nobody can decide about the stream right now", body = Problem),
    )
)]
pub(crate) async fn publish(
    request: HttpRequest,
    engine: web::Data<Engine>,
    context: Context,
    path: Path<String>,
    body: Sdp,
) -> Result<HttpResponse, ApiError> {
    sdp::accepts(&request, sdp::SDP)?;
    let wrong_key = || ApiError::because(Code::Unauthenticated, "send the key of this stream as bearer");
    let stream: StreamId = path.0.parse().map_err(|_| wrong_key())?;
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key =
        bearer.and_then(|value| value.split_once(' ')).map(|(_, key)| key.trim()).ok_or_else(wrong_key)?;
    let known = engine.live.kept.with_key(hash_key(key)).await;
    let known = known.map_err(|error| ApiError::unavailable(error.to_string(), RETRY_AFTER))?;
    if known != Some(stream) {
        return Err(wrong_key());
    }
    let mut offer = Offer::read(&body.0)?;
    let tracks = tracks(&mut offer)?;
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let ask = PublishRequest {
        key: key.to_owned(),
        app: "whip".to_owned(),
        query: String::new(),
        tc_url: String::new(),
        encoder: agent.unwrap_or_default().chars().take(128).collect(),
        kind: "live".to_owned(),
    };
    let answered = engine.wish.publish(ask, offer, tracks, context.client()).await?;
    Ok(created("whip", stream, answered))
}

session_calls!("/whip/{stream_id}/{session}", "streams");

/// The m-lines that send what is taken: one of pictures, one of sound. Of the offer is left what we choose of it: one codec, one layer.
fn tracks(offer: &mut Offer) -> Result<Vec<(Source, String)>, ApiError> {
    let refuse = |words: &'static str| Err(ApiError::because(Code::NotAcceptable, words));
    let mut tracks = Vec::new();
    for (kind, source, codec) in
        [(Kind::Video, Source::Camera, Codec::H264), (Kind::Audio, Source::Microphone, Codec::Opus)]
    {
        let sends = |one: &&mut Section| one.kind == Some(kind) && one.direction == Direction::Sends;
        let mut sending = offer.sections.iter_mut().filter(sends);
        let Some(section) = sending.next() else { continue };
        if sending.next().is_some() {
            return refuse("a stream has one picture and one sound, and the offer sends more");
        }
        section.formats.retain(|format| format.codec == codec);
        section.rids.clear();
        if section.formats.is_empty() {
            return refuse("pictures are taken as H.264 (`packetization-mode=1`, baseline), sound as Opus");
        }
        tracks.push((source, section.mid.clone()));
    }
    // A stream has no data channels.
    offer.sections.iter_mut().for_each(|section| section.data = None);
    match tracks.is_empty() {
        true => refuse("the offer has no m-line that sends (`a=sendonly`)"),
        false => Ok(tracks),
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::UnknownKey => ApiError::because(Code::Unauthenticated, refused.to_string()),
            Refused::Unavailable => {
                ApiError::because(Code::Unavailable, refused.to_string()).retry_after(RETRY_AFTER)
            }
        }
    }
}

impl Wish {
    /// Somebody publishes.
    async fn publish(
        &self,
        ask: PublishRequest,
        offer: Offer,
        tracks: Vec<(Source, String)>,
        address: std::net::IpAddr,
    ) -> Result<Answered, ApiError> {
        let inner = &self.0;
        let address = client::prefix(address);
        let name = name().map_err(|_| Refusal::from(SfuError::Random))?;
        let (hang_up, farewell) = oneshot::channel();
        let grant = judge(Arc::clone(&inner.live), ask, hang_up).await?;
        let standing = Arc::new(Standing::default());
        // From here on dropped `farewell` tells the stream that nobody publishes.
        let first = inner.next_track.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        let room = uuid::Uuid::now_v7().as_u128();
        let attended = inner.media.attend(room, offer.clone(), Arc::clone(&standing)).await;
        let (member, sdp) = attended.map_err(Refusal::from)?;
        let (sink, packets) = mpsc::channel(PACKETS_MAX);
        let shows = tracks.iter().any(|(source, _)| source.kind() == Kind::Video);
        let keyed = tracks.into_iter().map(|(source, mid)| match source.kind() {
            Kind::Video => (first, mid, source),
            Kind::Audio => (first + 1, mid, source),
        });
        if let Err(error) = inner.media.receive(member, keyed.collect(), sink).await {
            inner.media.leave(member).await;
            return Err(Refusal::from(error).into());
        }
        let tag = ufrag(&sdp).to_owned();
        let end = Arc::new(Notify::new());
        let session = Session {
            role: Role::Publisher(Arc::clone(&end)),
            broadcast: Arc::clone(&grant.broadcast),
            member,
            standing: Arc::clone(&standing),
            address,
            who: 0,
            offer,
            tag: tag.clone(),
        };
        {
            let mut state = inner.state();
            state.sessions.insert(name.clone(), session);
            inner.count(&state);
        }
        let reception = Reception {
            inner: Arc::clone(inner),
            name: name.clone(),
            member,
            video: first,
            shows,
            standing,
            packets,
            farewell,
            end,
        };
        inner.runtime.spawn(reception.run(grant));
        Ok(Answered { name, tag, sdp })
    }
}

/// A publisher's packets, from the shard to the broadcast.
struct Reception {
    inner: Arc<Inner>,
    name: String,
    member: MemberId,
    video: u64,
    /// Whether it offered pictures.
    shows: bool,
    standing: Arc<Standing>,
    packets: mpsc::Receiver<Taken>,
    farewell: oneshot::Receiver<Farewell>,
    end: Arc<Notify>,
}

impl Reception {
    async fn run(mut self, grant: Grant) {
        let live = Arc::clone(&self.inner.live);
        let segment = Duration::from_millis(grant.broadcast.settings().segment_target_ms.into());
        let mut publishing = Publishing::begin(&live, grant);
        let intake = Intake::new(Instant::now());
        let mut intake = if self.shows { intake.awaiting_pictures() } else { intake };
        let mut media: Vec<Coded> = Vec::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut leaving = live.leaving();
        let (mut asked, mut reported): (Option<Instant>, Instant) = (None, Instant::now());
        let how = loop {
            let now = tokio::select! {
                taken = self.packets.recv() => {
                    // The shard has let go of the sink: they have left.
                    let Some(Taken { track, kept, told, .. }) = taken else { break Departure::Dropped };
                    let track = if track == self.video { Track::Video } else { Track::Audio };
                    let now = Instant::now();
                    told.into_iter().for_each(|time| intake.hear(track, time));
                    intake.push(track, kept, now, |one| media.push(one));
                    now
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    intake.poll(now, |one| media.push(one));
                    now
                }
                _ = &mut self.farewell => break Departure::Dropped,
                () = self.end.notified() => break Departure::Finished,
                _ = leaving.wait_for(|leaving| *leaving) => break Departure::Dropped,
            };
            if self.standing.get() == Stands::Gone {
                break Departure::Dropped;
            }
            if media.drain(..).any(|one| publishing.write(&one).is_err()) {
                break Departure::Dropped;
            }
            publishing.tell_first().await;
            let pause = if intake.wants_keyframe() { KEYFRAME_PAUSE } else { segment };
            if self.standing.get() == Stands::Connected
                && asked.is_none_or(|at| now.saturating_duration_since(at) >= pause)
            {
                asked = Some(now);
                self.inner.media.ask_keyframe(self.member, self.video).await;
            }
            if now.saturating_duration_since(reported) >= REPORT_EVERY {
                reported = now;
                publishing.report(report(&intake, now));
            }
        };
        {
            let mut state = self.inner.state();
            state.sessions.remove(&self.name);
            self.inner.count(&state);
        }
        self.inner.media.leave(self.member).await;
        let broadcast = Arc::clone(&publishing.grant.broadcast);
        tracing::info!(stream = %broadcast.stream(), ?how, lost = intake.lost(), pictures_moved_ms = intake.moved_ms(), "a publisher over WebRTC left");
        publishing.end(report(&intake, Instant::now()), how).await;
    }
}

fn report(intake: &Intake, now: Instant) -> Report {
    let dropped = Dropped { broken: intake.lost(), ..Dropped::default() };
    Report { health: intake.health(now), dropped, ..Report::default() }
}
