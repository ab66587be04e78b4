//! The headers every answer carries so that browsers take it for what it is and nothing else.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that every answer gets unless its handler set them itself.
static ALWAYS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // An answer of the API is data: it loads nothing, runs nothing and is shown in no frame.
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    // Pages of configured origins read answers through CORS, which this does not touch.
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Two years, the least that browsers' preload lists take.
const HSTS: &str = "max-age=63072000; includeSubDomains";

/// Adds the security headers and, where the handler said nothing, that nobody may store the answer.
///
/// An answer with an `ETag` may be kept by the one who asked, and must be checked before it is used again.
pub fn apply(headers: &mut HeaderMap, tls: bool) {
    for (name, value) in &ALWAYS {
        if !headers.contains_key(name) {
            headers.insert(name.clone(), HeaderValue::from_static(value));
        }
    }
    if tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        let rule = if headers.contains_key(header::ETAG) { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_has_the_last_word() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        apply(&mut headers, false);
        assert_eq!(headers.get(header::CACHE_CONTROL).expect("set"), "public, max-age=60");
        assert_eq!(headers.get(header::CONTENT_SECURITY_POLICY).expect("set"), "default-src 'self'");
        assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY), "HSTS without TLS");
    }

    #[test]
    fn answers_are_not_stored_unless_they_can_be_checked() {
        let mut plain = HeaderMap::new();
        apply(&mut plain, true);
        assert_eq!(plain.get(header::CACHE_CONTROL).expect("set"), "no-store");
        assert!(plain.contains_key(header::STRICT_TRANSPORT_SECURITY));
        let mut tagged = HeaderMap::new();
        tagged.insert(header::ETAG, HeaderValue::from_static("\"1\""));
        apply(&mut tagged, true);
        assert_eq!(tagged.get(header::CACHE_CONTROL).expect("set"), "private, no-cache");
    }
}
