//! Which pages may call the API from a browser (the Fetch standard, section 3.2).
//!
//! Origins are compared exactly as configured; there is no wildcard. Credentials are never allowed: tokens travel
//! in `Authorization`, which a page must set itself, so no cookie can be misused.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::error::{ApiError, Code};

/// Seconds a browser may remember a preflight answer; browsers cap it at two hours themselves.
const PREFLIGHT_MAX_AGE_S: &str = "7200";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const HEADERS: &str =
    "authorization, content-type, idempotency-key, if-match, if-none-match, traceparent, x-request-id";
const EXPOSED: &str =
    "etag, idempotency-replayed, location, ratelimit, ratelimit-policy, retry-after, x-request-id";

/// The origins whose pages may call.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<HeaderValue>,
}

/// What a request's `Origin` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It came from no page, or from one that need not ask.
    None,
    /// A page of this origin may read the answer.
    Allowed(HeaderValue),
    /// A page of another origin; the browser will keep the answer from it.
    Foreign,
}

impl Cors {
    /// Lets the pages of these origins call.
    pub fn new(origins: &[String]) -> Cors {
        let origins =
            origins.iter().filter_map(|origin| HeaderValue::from_str(&origin.to_ascii_lowercase()).ok());
        Cors { origins: origins.collect() }
    }

    /// What the request's origin means.
    pub fn origin(&self, headers: &HeaderMap) -> Origin {
        match headers.get(header::ORIGIN) {
            None => Origin::None,
            Some(origin) if self.origins.contains(origin) => Origin::Allowed(origin.clone()),
            Some(_) => Origin::Foreign,
        }
    }

    /// The answer to a preflight, when this request is one.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Result<HttpResponse, ApiError>> {
        if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        match self.origin(headers) {
            Origin::None => None,
            Origin::Foreign => Some(Err(ApiError::because(
                Code::Forbidden,
                "pages of this origin may not call; an operator can add it to cors_origins",
            ))),
            Origin::Allowed(_) => Some(Ok(HttpResponse::build(StatusCode::NO_CONTENT)
                .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
                .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
                .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_S))
                .insert_header((
                    header::VARY,
                    "Access-Control-Request-Method, Access-Control-Request-Headers",
                ))
                .finish())),
        }
    }

    /// Adds what lets a page read the answer, and tells caches that it depends on the origin.
    pub fn apply(&self, origin: Origin, headers: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        vary(headers, "Origin");
        if let Origin::Allowed(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// Adds a name to `Vary`.
pub(super) fn vary(headers: &mut HeaderMap, name: &'static str) {
    static VARY: HeaderName = header::VARY;
    let there = headers.get_all(&VARY).any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(name) || entry.trim() == "*")
    });
    if !there {
        headers.append(VARY.clone(), HeaderValue::from_static(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn origins_are_exact() {
        let cors = Cors::new(&["https://App.example".to_owned()]);
        let origin = |origin| cors.origin(&headers(&[(header::ORIGIN, origin)]));
        assert!(matches!(origin("https://app.example"), Origin::Allowed(_)));
        for foreign in [
            "http://app.example",
            "https://app.example:444",
            "https://evil.app.example",
            "https://app.example.evil",
            "null",
            "*",
        ] {
            assert_eq!(origin(foreign), Origin::Foreign, "{foreign}");
        }
        assert_eq!(cors.origin(&HeaderMap::new()), Origin::None);
    }

    #[test]
    fn vary_names_each_once() {
        let mut answer = headers(&[(header::VARY, "accept-encoding, ORIGIN")]);
        vary(&mut answer, "Origin");
        vary(&mut answer, "Accept");
        vary(&mut answer, "Accept");
        let lines: Vec<_> = answer.get_all(header::VARY).collect();
        assert_eq!(lines, ["accept-encoding, ORIGIN", "Accept"]);
    }
}
