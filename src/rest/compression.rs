//! Smaller answers where it pays: large JSON that was asked for with GET.
//!
//! Answers to POST are left alone: they may hold tokens next to what the client sent, and their length would tell
//! about both (BREACH). Answers with an `ETag` are left alone: the tag names these very bytes, and it is what
//! `If-Match` sends back. Anything larger than a kibibyte is packed on the blocking pool by actix-http.

use actix_http::encoding::Encoder;
use actix_web::body::{BodySize, BoxBody, MessageBody as _};
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, AcceptEncoding, ContentEncoding, Encoding, Header as _};

use crate::rest::cors;

/// Below this an answer fits into one packet anyway.
const BYTES_MIN: u64 = 1_400;

/// Packs the body when it is worth it and the client takes it.
pub(super) fn apply(mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let large = matches!(response.response().body().size(), BodySize::Sized(bytes) if bytes >= BYTES_MIN);
    let headers = response.headers();
    let json = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let own = headers.contains_key(header::ETAG) || headers.contains_key(header::CONTENT_ENCODING);
    if !large || !json || own || response.request().method() != Method::GET {
        return response;
    }
    cors::vary(response.headers_mut(), "Accept-Encoding");
    let supported = [Encoding::brotli(), Encoding::gzip(), Encoding::identity()];
    let wanted = response
        .request()
        .headers()
        .contains_key(header::ACCEPT_ENCODING)
        .then(|| AcceptEncoding::parse(response.request()).ok())
        .flatten()
        .and_then(|accepted| accepted.negotiate(supported.iter()));
    let encoding = match wanted {
        Some(Encoding::Known(encoding @ (ContentEncoding::Brotli | ContentEncoding::Gzip))) => encoding,
        _ => return response,
    };
    response.map_body(|head, body| BoxBody::new(Encoder::response(encoding, head, body)))
}
