//! `/whep/{stream_id}`: a stream is watched over WebRTC (draft-ietf-wish-whep; what it shares with WHIP is RFC 9725).

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::StreamId;
use nova_actors::live_stream::Broadcast;
use nova_media::codec::Configuration;
use nova_media::peer::Credentials;
use nova_media::rtp::payload::Codec;
use nova_media::sdp::{Direction, Kind, Offer, SdpError};
use std::sync::Arc;
use std::time::Duration;

use super::Refusal;
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::playback;
use crate::rest::sdp::{self, Sdp, SdpFragment};
use crate::rest::{Context, Path};

/// When a viewer who came too early, or to a full house, may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::Full => {
                ApiError::because(Code::Overloaded, refusal.to_string()).retry_after(RETRY_AFTER)
            }
            Refusal::Sfu(error) => {
                ApiError::because(Code::Conflict, error.to_string()).retry_after(RETRY_AFTER)
            }
        }
    }
}

impl From<SdpError> for ApiError {
    fn from(error: SdpError) -> ApiError {
        let code = match error {
            SdpError::TooLarge => Code::PayloadTooLarge,
            _ => Code::MalformedRequest,
        };
        ApiError::because(code, error.to_string())
    }
}

/// Whether this path is one of WHEP or WHIP.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/whep/") || path.starts_with("/whip/")
}

/// Lets the pages of every origin watch and publish: whoever has the address, the token or the key may, and no cookie says who that is.
pub(crate) fn open_to_all(headers: &mut HeaderMap) {
    const EXPOSED: &str = "accept-patch, etag, link, location, retry-after, x-request-id";
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("cross-origin"));
}

/// The answer to `OPTIONS`, a page's preflight included.
pub(crate) fn options() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, if-match"))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "7200"))
        .insert_header(("accept-post", sdp::SDP))
        .finish()
}

/// Watch a stream over WebRTC.
///
/// The offer receives H.264 and Opus (`a=recvonly`); the answer is final, and media flows as soon as the client has found its way. A
/// private stream asks for a playback token, as `token` or as bearer, or for the access token of somebody who may watch. The session
/// ends with `DELETE` to `Location`, with the stream, or when the client is silent for half a minute.
#[utoipa::path(
    post, path = "/whep/{stream_id}", tag = "playback", security((), ("bearer" = [])),
    request_body(content = String, content_type = "application/sdp", description = "An offer"),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("token" = Option<String>, Query, description = "Of a private stream: the playback token"),
    ),
    responses(
        (status = 201, description = "The answer; `Location` is the session, `ETag` its ICE session", content_type = "application/sdp", body = String),
        (status = 400, description = "`malformed_request`: this is no offer that could be answered", body = Problem),
        (status = 403, description = "`forbidden`: the stream is private, and the token is missing, wrong or has expired", body = Problem),
        (status = 404, description = "`not_found`: there is no such stream", body = Problem),
        (status = 406, description = "`not_acceptable`: the stream has nothing that the offer receives", body = Problem),
        (status = 409, description = "`conflict`: the stream is not live; try again in `Retry-After` seconds", body = Problem),
        (status = 413, description = "`payload_too_large`", body = Problem),
        (status = 415, description = "`unsupported_media_type`: the body must be application/sdp", body = Problem),
        (status = 503, description = "`overloaded`: too many watch over WebRTC; `unavailable`: the publisher is on another node", body = Problem),
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
    let broadcast = playback::on_air(engine, request, stream).await?;
    let mut offer = Offer::read(offer)?;
    fits(&offer, &broadcast)?;
    for section in &mut offer.sections {
        section.formats.retain(|format| matches!(format.codec, Codec::H264 | Codec::Opus));
    }
    let answered = engine.wish.watch(broadcast, offer, context.client()).await?;
    Ok(created("whep", stream, answered))
}

/// The answer to an offer.
pub(super) fn created(door: &str, stream: StreamId, answered: super::Answered) -> HttpResponse {
    HttpResponse::Created()
        .content_type(sdp::SDP)
        .insert_header((header::LOCATION, format!("/{door}/{stream}/{}", answered.name)))
        .insert_header((header::ETAG, format!("\"{}\"", answered.tag)))
        .insert_header(("accept-patch", sdp::FRAGMENT))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(answered.sdp)
}

/// Tell of another network, or of candidates.
///
/// With `If-Match: *` and other ICE credentials it is a restart of ICE, and the answer has ours; with the session's `ETag` it tells of
/// candidates, of which a server with a public address needs none.
#[utoipa::path(
    patch, path = "/whep/{stream_id}/{session}", tag = "playback",
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag", description = "RFC 8840"),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("session" = String, Path, description = "As `Location` names it"),
        ("If-Match" = String, Header, description = "The session's `ETag`, or `*` for a restart"),
    ),
    responses(
        (status = 200, description = "ICE begins anew, with these credentials", content_type = "application/trickle-ice-sdpfrag", body = String),
        (status = 204, description = "Heard"),
        (status = 400, description = "`malformed_request`: a restart needs `a=ice-ufrag` and `a=ice-pwd`", body = Problem),
        (status = 404, description = "`not_found`: there is no such session any more", body = Problem),
        (status = 412, description = "`precondition_failed`: ICE has begun anew since", body = Problem),
        (status = 415, description = "`unsupported_media_type`: the body must be application/trickle-ice-sdpfrag", body = Problem),
        (status = 428, description = "`precondition_required`: there is no `If-Match`", body = Problem),
    )
)]
pub(crate) async fn change(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<(String, String)>,
    body: SdpFragment,
) -> Result<HttpResponse, ApiError> {
    changed(&request, &engine, &path.0, &body.0).await
}

/// The same for who watches and who publishes.
pub(super) async fn changed(
    request: &HttpRequest,
    engine: &Engine,
    (stream, name): &(String, String),
    fragment: &str,
) -> Result<HttpResponse, ApiError> {
    let stream: StreamId = stream.parse().map_err(|_| Code::NotFound)?;
    let session = engine.wish.session(stream, name).ok_or(Code::NotFound)?;
    let matches = request.headers().get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let matches = matches.ok_or(Code::PreconditionNeeded)?.trim();
    if matches != "*" {
        let same = matches.trim_matches('"') == session.tag;
        return if same {
            Ok(HttpResponse::NoContent().finish())
        } else {
            Err(Code::PreconditionFailed.into())
        };
    }
    let value = |key: &str| fragment.lines().find_map(|line| line.trim_end().strip_prefix(key));
    let (Some(ufrag), Some(password)) = (value("a=ice-ufrag:"), value("a=ice-pwd:")) else {
        return Err(ApiError::because(
            Code::MalformedRequest,
            "a restart of ICE needs `a=ice-ufrag` and `a=ice-pwd`",
        ));
    };
    if !(4..=256).contains(&ufrag.len()) || !(22..=256).contains(&password.len()) {
        return Err(SdpError::NoCredentials.into());
    }
    let mut offer = session.offer;
    offer.ice = Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() };
    let answered = engine.wish.restart(name, offer).await?;
    Ok(HttpResponse::Ok()
        .content_type(sdp::FRAGMENT)
        .insert_header((header::ETAG, format!("\"{}\"", answered.tag)))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(fragment_of(&answered.sdp)))
}

/// Watch no more.
#[utoipa::path(
    delete, path = "/whep/{stream_id}/{session}", tag = "playback",
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("session" = String, Path, description = "As `Location` names it"),
    ),
    responses(
        (status = 200, description = "Ended"),
        (status = 404, description = "`not_found`: there is no such session any more", body = Problem),
    )
)]
pub(crate) async fn end(
    engine: web::Data<Engine>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    ended(&engine, &path.0).await
}

/// The same for who watches and who publishes.
pub(super) async fn ended(
    engine: &Engine,
    (stream, name): &(String, String),
) -> Result<HttpResponse, ApiError> {
    let stream: StreamId = stream.parse().map_err(|_| Code::NotFound)?;
    engine.wish.session(stream, name).ok_or(Code::NotFound)?;
    engine.wish.leave(name).await;
    Ok(HttpResponse::Ok().finish())
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

/// What an answer says of ICE alone (RFC 8840 section 4.4).
fn fragment_of(sdp: &str) -> String {
    const SESSION: [&str; 2] = ["a=ice-lite", "a=group:BUNDLE"];
    const MEDIA: [&str; 5] = ["a=mid:", "a=ice-", "a=candidate:", "a=end-of-candidates", "m="];
    let mut fragment = String::new();
    let mut sections = 0;
    for line in sdp.lines() {
        sections += usize::from(line.starts_with("m="));
        let wanted: &[&str] = match sections {
            0 => &SESSION,
            // All m-lines are one bundle.
            1 => &MEDIA,
            _ => break,
        };
        if wanted.iter().any(|known| line.starts_with(known)) {
            fragment.push_str(line);
            fragment.push_str("\r\n");
        }
    }
    fragment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_has_the_ice_of_the_first_m_line_and_nothing_else() {
        let answer = "v=0\r\no=nova 1 1 IN IP4 127.0.0.1\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\nm=audio 9 X 1\r\na=mid:0\r\n\
            a=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:passive\r\na=candidate:1\r\na=end-of-candidates\r\nm=video 9 X 2\r\na=mid:1\r\n";
        let expected = "a=group:BUNDLE 0 1\r\na=ice-lite\r\nm=audio 9 X 1\r\na=mid:0\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n\
            a=candidate:1\r\na=end-of-candidates\r\n";
        assert_eq!(fragment_of(answer), expected);
    }
}
