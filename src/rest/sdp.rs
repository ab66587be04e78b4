//! Bodies of WHIP and WHEP: session descriptions, bounded before they are read (RFC 9725 section 4.2).

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use nova_media::sdp::OFFER_BYTES_MAX;

use crate::error::{ApiError, Code};
use crate::rest::json::{Bounds, collect};

/// The media type of an offer or an answer.
pub const SDP: &str = "application/sdp";
/// The media type of what is told of ICE afterwards (RFC 8840 section 9).
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// An offer, as `application/sdp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sdp(pub String);

/// Candidates, or other ICE credentials, as `application/trickle-ice-sdpfrag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpFragment(pub String);

impl FromRequest for Sdp {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Sdp, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = text(request, payload, SDP);
        Box::pin(async move { text.await.map(Sdp) })
    }
}

impl FromRequest for SdpFragment {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<SdpFragment, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let text = text(request, payload, FRAGMENT);
        Box::pin(async move { text.await.map(SdpFragment) })
    }
}

/// Whether the client takes an answer of this type (RFC 9110 section 12.5.1).
pub fn accepts(request: &HttpRequest, wanted: &str) -> Result<(), ApiError> {
    let group = wanted.split('/').next().unwrap_or_default();
    let mut ranges = request
        .headers()
        .get_all(header::ACCEPT)
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .filter(|range| !range.trim().is_empty())
        .peekable();
    let fits = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
        !refused && (range == "*/*" || range == wanted || range == format!("{group}/*"))
    };
    if ranges.peek().is_none() || ranges.any(fits) {
        return Ok(());
    }
    Err(ApiError::because(Code::NotAcceptable, format!("the answer is {wanted}, and you do not accept that")))
}

fn text(
    request: &HttpRequest,
    payload: &mut Payload,
    wanted: &'static str,
) -> impl Future<Output = Result<String, ApiError>> + use<> {
    let accepted = media_type(request, wanted).and_then(|()| Bounds::of(request));
    let payload = payload.take();
    async move {
        let bounds = accepted?;
        let bytes_max = bounds.bytes_max.min(OFFER_BYTES_MAX);
        let body = collect(payload, Bounds { bytes_max, ..bounds }).await?;
        String::from_utf8(body.into())
            .map_err(|_| ApiError::because(Code::MalformedRequest, "the body is not text in UTF-8"))
    }
}

fn media_type(request: &HttpRequest, wanted: &str) -> Result<(), ApiError> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_coded = request.headers().contains_key(header::CONTENT_ENCODING);
    if essence.eq_ignore_ascii_case(wanted) && !is_coded {
        return Ok(());
    }
    Err(ApiError::because(Code::UnsupportedMedia, format!("the body must be {wanted}, and not compressed")))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn an_answer_is_given_to_those_who_take_it() {
        let accepts = |value: &'static str| {
            let request = TestRequest::default().insert_header((header::ACCEPT, value)).to_http_request();
            super::accepts(&request, SDP).is_ok()
        };
        assert!(accepts("application/sdp") && accepts("*/*") && accepts("text/html, Application/*;q=0.1"));
        assert!(!accepts("text/html") && !accepts("application/json") && !accepts("application/sdp;q=0"));
        assert!(super::accepts(&TestRequest::default().to_http_request(), SDP).is_ok());
    }
}
