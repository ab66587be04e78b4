//! `/whep/{stream_id}`: a stream is watched over WebRTC (draft-ietf-wish-whep; what it shares with WHIP is RFC 9725).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::StreamId;
use nova_actors::live_stream::Broadcast;
use nova_media::codec::Configuration;
use nova_media::rtp::payload::Codec;
use nova_media::sdp::{Direction, Kind, Offer};

use super::door::{self, RETRY_AFTER, created, session_calls};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::playback::{needs_a_token, token};
use crate::rest::sdp::{self, Sdp, SdpFragment};
use crate::rest::{Context, Path};

/// How long the token is good for with which somebody is sent to another node: for the way there.
const ON_THE_WAY: Duration = Duration::from_secs(60);

/// Watch a stream over WebRTC.
///
/// The offer receives H.264 and Opus (`a=recvonly`); the answer is final, and media flows as soon as the client has found its way. A
/// private stream asks for a playback token, as `token` or as bearer, or for the access token of somebody who may watch. The session
/// ends with `DELETE` to `Location`, with the stream, or when the client is silent for half a minute. On another node than the
/// publisher's the answer is 307 with the address there, which clients follow by themselves (RFC 9725 section 4.5).
#[utoipa::path(
    post, path = "/whep/{stream_id}", tag = "playback", security((), ("bearer" = [])),
    request_body(content = String, content_type = "application/sdp", description = "An offer"),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 201, description = "The answer; `Location` is the session, `ETag` its ICE session", content_type = "application/sdp", body = String),
        (status = 307, description = "The publisher is on another node: the same request goes to `Location`"),
        (status = 400, description = "`malformed_request`: this is no offer that could be answered", body = Problem),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: there is no such stream", body = Problem),
        (status = 406, description = "`not_acceptable`: the stream has nothing that the offer receives", body = Problem),
        (status = 409, description = "`conflict`: the stream is not live; try again in `Retry-After` seconds", body = Problem),
        (status = 413, description = "`payload_too_large`", body = Problem),
        (status = 415, description = "`unsupported_media_type`: the body must be application/sdp", body = Problem),
        (status = 503, description = "`overloaded`: too many watch over WebRTC; `unavailable`: the stream is on its way from one node to another", body = Problem),
    )
)]
pub(crate) async fn watch(
    request: HttpRequest,
    engine: web::Data<Engine>,
    context: Context,
    path: Path<String>,
    body: Sdp,
) -> Result<HttpResponse, ApiError> {
    let answered = offered(&request, &engine, &context, &path.0, &body.0).await;
    let outcome = match &answered {
        Ok(answer) if answer.status() == StatusCode::TEMPORARY_REDIRECT => "moved",
        Ok(_) => "answered",
        Err(error) => error.code().as_str(),
    };
    engine.metrics.whep_offers.with_label_values(&[outcome]).inc();
    answered
}

async fn offered(
    request: &HttpRequest,
    engine: &Engine,
    context: &Context,
    stream: &str,
    offer: &str,
) -> Result<HttpResponse, ApiError> {
    sdp::accepts(request, sdp::SDP)?;
    let stream: StreamId = stream.parse().map_err(|_| Code::NotFound)?;
    let broadcast = match on_air(engine, request, stream).await? {
        OnAir::Here(broadcast) => broadcast,
        OnAir::There(address) => {
            return Ok(HttpResponse::TemporaryRedirect()
                .insert_header((header::LOCATION, address))
                .insert_header((header::CACHE_CONTROL, "no-store"))
                .finish());
        }
    };
    let mut offer = Offer::read(offer)?;
    fits(&offer, &broadcast)?;
    for section in &mut offer.sections {
        section.formats.retain(|format| matches!(format.codec, Codec::H264 | Codec::Opus));
        // A stream has no data channels, and its sound is not worth twice its bytes.
        section.data = None;
        section.formats.iter_mut().for_each(|format| format.red = None);
    }
    let answered = engine.wish.watch(broadcast, offer, context.client()).await?;
    Ok(created("whep", stream, answered))
}

session_calls!("/whep/{stream_id}/{session}", "playback");

/// Where a stream is watched over WebRTC.
enum OnAir {
    /// Its publisher is here.
    Here(Arc<Broadcast>),
    /// Its publisher is on another node, and this is its address there.
    There(String),
}

/// Where a stream is on the air, for somebody who may watch it: with a playback token, in the query or as bearer, or with the access
/// token of somebody who may see the stream.
async fn on_air(engine: &Engine, request: &HttpRequest, stream: StreamId) -> Result<OnAir, ApiError> {
    let now = engine.clock.now();
    let here = engine.live.broadcasts.of(stream);
    let here = here.filter(|here| !here.has_ended() && here.views().borrow().is_some());
    let is_private = match &here {
        Some(here) => here.is_private(),
        None => engine.store.stream(stream, now).await?.ok_or(Code::NotFound)?.is_private,
    };
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.split_once(' ').map(|(_, token)| token.trim()));
    let in_query = token::in_query(request.query_string());
    let opens = |token: &str| engine.playback_tokens.opens(token, stream, now);
    if is_private && !in_query.into_iter().chain(bearer).any(opens) {
        let caller = engine.identity.authenticate(bearer.ok_or_else(needs_a_token)?).await;
        let caller = caller.map_err(|_| needs_a_token())?;
        let owner = engine.store.stream(stream, now).await?.map(|stream| stream.owner);
        if owner != Some(caller.user) && !engine.store.may_see_stream(stream, caller.user).await? {
            return Err(needs_a_token());
        }
    }
    if let Some(here) = here {
        return Ok(OnAir::Here(here));
    }
    match engine.relays.address(stream).await? {
        // A bearer is not sent on to another origin by browsers, so what it was good for goes with the address.
        Some(url) if is_private => {
            let token = engine.playback_tokens.make(stream, now + ON_THE_WAY);
            Ok(OnAir::There(format!("{url}/whep/{stream}?token={token}")))
        }
        Some(url) => Ok(OnAir::There(format!("{url}/whep/{stream}"))),
        None => {
            Err(ApiError::because(Code::Conflict, "the stream is not live; try again")
                .retry_after(RETRY_AFTER))
        }
    }
}

/// Whether a broadcast has what an offer receives.
fn fits(offer: &Offer, broadcast: &Arc<Broadcast>) -> Result<(), ApiError> {
    let refuse = |words: &'static str| Err(ApiError::because(Code::NotAcceptable, words));
    let receives = |kind: Kind| {
        offer.sections.iter().find(|one| one.kind == Some(kind) && one.direction == Direction::Receives)
    };
    let (video, audio) = (receives(Kind::Video), receives(Kind::Audio));
    if video.is_none() && audio.is_none() {
        return refuse("the offer has no m-line that receives (`a=recvonly`)");
    }
    let takes = |section: &nova_media::sdp::Section, codec: Codec| {
        section.formats.iter().any(|format| format.codec == codec)
    };
    if video.is_some_and(|section| !takes(section, Codec::H264)) {
        return refuse(
            "pictures are sent as H.264 (`packetization-mode=1`, baseline), and the offer has none",
        );
    }
    if audio.is_some_and(|section| !takes(section, Codec::Opus)) {
        return refuse("sound is sent as Opus, and the offer has none");
    }
    let [coded, _] = broadcast.configurations();
    if let (Some(_), Some(coded)) = (video, coded) {
        if !matches!(*coded, Configuration::H264(_)) {
            return refuse(
                "the stream's pictures are not H.264, which is all that WebRTC carries here; watch it over HLS",
            );
        }
        if broadcast.condition().report.health.b_frames {
            return refuse(
                "the stream has B-frames, which WebRTC cannot carry; watch it over HLS, or publish without them (`-bf 0`)",
            );
        }
    }
    Ok(())
}
