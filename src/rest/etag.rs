//! Edits that do not overwrite each other, reads that are not sent twice (RFC 9110 sections 8.8.3 and 13).
//!
//! A tag is strong and made from a row's version or from the bytes of an answer. Writers send the tag they read in
//! `If-Match` and get 412 when somebody else was faster; readers send it in `If-None-Match` and get 304 without a
//! body when nothing changed.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;

use crate::error::{ApiError, Code};

/// The tag of one state of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ETag(String);

impl ETag {
    /// The tag of a resource that counts its changes.
    pub fn of_version(version: i64) -> ETag {
        ETag(format!("\"v{version}\""))
    }

    /// The tag of these very bytes.
    pub fn of_bytes(bytes: &[u8]) -> ETag {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let head = digest.as_ref().first_chunk::<16>().expect("SHA-256 has 32 bytes");
        ETag(format!("\"{}\"", URL_SAFE_NO_PAD.encode(head)))
    }

    /// As it stands in the header, with its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an edit of this state may go on: `If-Match` is absent, `*`, or names this tag; else 412.
    ///
    /// A resource that does not exist fails `If-Match: *` too; its handler answers 404 before it asks here.
    pub fn check(&self, request: &HttpRequest) -> Result<(), ApiError> {
        match matches(request.headers(), &header::IF_MATCH, self, true) {
            Some(false) => Err(Code::PreconditionFailed.into()),
            Some(true) | None => Ok(()),
        }
    }

    /// As [`ETag::check`], for edits that may not be made blindly: without `If-Match` it is 428.
    pub fn require(&self, request: &HttpRequest) -> Result<(), ApiError> {
        match request.headers().contains_key(header::IF_MATCH) {
            true => self.check(request),
            false => Err(Code::PreconditionNeeded.into()),
        }
    }

    /// 200 with this body and tag, or 304 when the reader has it already.
    pub fn answer(&self, request: &HttpRequest, body: &impl Serialize) -> Result<HttpResponse, ApiError> {
        let body = serde_json::to_vec(body).map_err(ApiError::internal)?;
        Ok(self.answer_bytes(request, "application/json", Bytes::from(body)))
    }

    /// As [`ETag::answer`], for bytes that exist already.
    pub fn answer_bytes(
        &self,
        request: &HttpRequest,
        content_type: &'static str,
        body: Bytes,
    ) -> HttpResponse {
        let fresh = matches(request.headers(), &header::IF_NONE_MATCH, self, false) == Some(true);
        let status = if fresh { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let mut response = HttpResponse::build(status);
        response.insert_header((header::ETAG, self.0.as_str()));
        match fresh {
            true => response.finish(),
            false => response.content_type(content_type).body(body),
        }
    }
}

/// `SELECT`ed JSON whose tag is that of its bytes: for answers made of several rows.
pub fn answer_content(request: &HttpRequest, body: &impl Serialize) -> Result<HttpResponse, ApiError> {
    let body = Bytes::from(serde_json::to_vec(body).map_err(ApiError::internal)?);
    Ok(ETag::of_bytes(&body).answer_bytes(request, "application/json", body))
}

/// Whether a header lists the tag; none without the header. `If-Match` compares strongly: a tag marked weak does
/// not count. `If-None-Match` compares weakly: proxies that recompress an answer mark its tag weak.
fn matches(headers: &HeaderMap, name: &HeaderName, tag: &ETag, strong: bool) -> Option<bool> {
    let mut lines = headers.get_all(name).peekable();
    lines.peek()?;
    Some(lines.any(|line| {
        let names = |entry: &str| {
            let entry = entry.trim();
            let bare = entry.strip_prefix("W/").filter(|_| !strong).unwrap_or(entry);
            entry == "*" || bare == tag.0
        };
        line.to_str().unwrap_or_default().split(',').any(names)
    }))
}

impl From<&ETag> for HeaderValue {
    fn from(tag: &ETag) -> HeaderValue {
        HeaderValue::from_str(&tag.0).expect("a tag is made of letters, digits, - and _")
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn asks(name: HeaderName, value: &'static str) -> HttpRequest {
        TestRequest::default().insert_header((name, value)).to_http_request()
    }

    #[test]
    fn an_edit_goes_on_when_it_knows_the_state() {
        let tag = ETag::of_version(3);
        for (sent, goes_on) in [
            ("\"v3\"", true),
            ("*", true),
            ("\"v1\", \"v3\"", true),
            ("\"v2\"", false),
            ("W/\"v3\"", false),
            ("v3", false),
            ("", false),
        ] {
            assert_eq!(tag.check(&asks(header::IF_MATCH, sent)).is_ok(), goes_on, "{sent}");
        }
        let blind = TestRequest::default().to_http_request();
        assert!(tag.check(&blind).is_ok());
        assert_eq!(tag.require(&blind).expect_err("blind").code(), Code::PreconditionNeeded);
    }

    #[test]
    fn a_reader_who_has_it_gets_no_body() {
        let tag = ETag::of_bytes(b"body");
        let answer = |sent: &'static str| {
            let response = tag.answer(&asks(header::IF_NONE_MATCH, sent), &"body").expect("serialises");
            (response.status().as_u16(), response.headers().get(header::ETAG).cloned())
        };
        let own: &'static str = Box::leak(tag.as_str().to_owned().into_boxed_str());
        let weak: &'static str = Box::leak(format!("W/{own}").into_boxed_str());
        assert_eq!(answer(own).0, 304);
        assert_eq!(answer(weak).0, 304);
        assert_eq!(answer("*").0, 304);
        assert_eq!(answer("\"other\"").0, 200);
        assert_eq!(answer(own).1.expect("also on 304"), own);
    }

    #[test]
    fn other_content_has_another_tag() {
        assert_ne!(ETag::of_bytes(b"a"), ETag::of_bytes(b"b"));
        assert_ne!(ETag::of_version(1), ETag::of_version(2));
    }
}
