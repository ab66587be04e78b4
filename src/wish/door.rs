//! What the doors of WHIP and WHEP have in common (RFC 9725): their pages' origins, answers, and the sessions behind them.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use nova_actors::id::StreamId;
use nova_media::peer::Credentials;
use nova_media::sdp::SdpError;

use super::{Answered, Refusal};
use crate::app::Engine;
use crate::error::{ApiError, Code};
use crate::rest::sdp;

/// When a viewer who came too early, or to a full house, may ask again.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

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

/// The calls of a session at one door, `PATCH` and `DELETE` of its `Location`: the same for who watches and who publishes, and described
/// once.
macro_rules! session_calls {
    ($path:literal, $tag:literal) => {
        /// Tell of another network, or of candidates.
        ///
        /// With `If-Match: *` and other ICE credentials it is a restart of ICE, and the answer has ours; with the session's `ETag` it tells of
        /// candidates, of which a server with a public address needs none.
        #[utoipa::path(
            patch, path = $path, tag = $tag,
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
                (status = 413, description = "`payload_too_large`", body = Problem),
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
            door::changed(&request, &engine, &path.0, &body.0).await
        }

        /// End the session: who watches leaves; of who publishes the broadcast ends.
        #[utoipa::path(
            delete, path = $path, tag = $tag,
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
            door::ended(&engine, &path.0).await
        }
    };
}
pub(super) use session_calls;

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

/// The answer to an offer.
pub(super) fn created(door: &str, stream: StreamId, answered: Answered) -> HttpResponse {
    HttpResponse::Created()
        .content_type(sdp::SDP)
        .insert_header((header::LOCATION, format!("/{door}/{stream}/{}", answered.name)))
        .insert_header((header::ETAG, format!("\"{}\"", answered.tag)))
        .insert_header(("accept-patch", sdp::FRAGMENT))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(answered.sdp)
}

/// Hears of another network, or of candidates.
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

/// Ends a session.
pub(super) async fn ended(
    engine: &Engine,
    (stream, name): &(String, String),
) -> Result<HttpResponse, ApiError> {
    let stream: StreamId = stream.parse().map_err(|_| Code::NotFound)?;
    engine.wish.session(stream, name).ok_or(Code::NotFound)?;
    engine.wish.leave(name).await;
    Ok(HttpResponse::Ok().finish())
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
