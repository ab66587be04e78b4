//! JSON bodies: bounded before they are read, and refused with the field that is wrong.
//!
//! [`Json`] takes a body in and gives one out. On the way in, in this order: the media type must be
//! `application/json` (415), the body must not be coded (415), `Content-Length` and then the bytes themselves
//! must fit (413), the bytes must arrive in time (408), nest no deeper than [`DEPTH_MAX`], be JSON (400, with
//! line and column) and be what the handler takes (422, every field as a dotted path).

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Code, FieldError};
use crate::rest::manner::Manner;

/// How deep arrays and objects may nest; nothing the API takes is deeper than six.
pub const DEPTH_MAX: usize = 32;

/// A JSON body, in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Json<T>, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let accepted = media_type(request).and_then(|()| Bounds::of(request));
        let payload = payload.take();
        Box::pin(async move {
            let body = collect(payload, accepted?).await?;
            object(&body)?;
            from_slice(&body).map(Json)
        })
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self.0)
    }
}

/// How much of a body may come, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes_max: usize,
    pub(super) time_max: Duration,
}

impl Bounds {
    /// The bounds for this request, or 413 when its `Content-Length` is already beyond them.
    pub(super) fn of(request: &HttpRequest) -> Result<Bounds, ApiError> {
        let bounds = Manner::of(request)?.body;
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        match declared {
            Some(length) if length > bounds.bytes_max as u64 => Err(bounds.too_large()),
            _ => Ok(bounds),
        }
    }

    fn too_large(&self) -> ApiError {
        let detail = format!("the body is larger than the {} bytes allowed here", self.bytes_max);
        ApiError::because(Code::PayloadTooLarge, detail)
    }
}

/// Reads a whole body within its bounds.
pub(super) async fn collect(mut payload: Payload, bounds: Bounds) -> Result<Bytes, ApiError> {
    let read = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                ApiError::because(Code::MalformedRequest, "the body broke off or its framing is wrong")
                    .caused_by(error.to_string())
            })?;
            if body.len() + chunk.len() > bounds.bytes_max {
                return Err(bounds.too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(bounds.time_max, read).await {
        Ok(body) => body,
        Err(_) => Err(ApiError::because(Code::Timeout, "the body took too long to arrive; send it again")),
    }
}

fn media_type(request: &HttpRequest) -> Result<(), ApiError> {
    let wrong = |detail: &'static str| Err(ApiError::because(Code::UnsupportedMedia, detail));
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return wrong("the body must not be compressed; leave Content-Encoding out");
    }
    let Some(value) = request.headers().get(header::CONTENT_TYPE) else {
        return wrong("say what the body is: Content-Type: application/json");
    };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return wrong("the body must be application/json");
    }
    let foreign = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) => {
            name.eq_ignore_ascii_case("charset") && !value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        None => false,
    };
    match parts.any(foreign) {
        true => wrong("JSON is always UTF-8 (RFC 8259 section 8.1); leave the charset out"),
        false => Ok(()),
    }
}

/// Every body is an object. Serde would take an array for a struct, field by field.
fn object(body: &[u8]) -> Result<(), ApiError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') | None => Ok(()),
        Some(_) => {
            // What is no JSON at all is told so.
            from_slice::<serde::de::IgnoredAny>(body)?;
            Err(ApiError::field("", "the body must be an object"))
        }
    }
}

/// Parses JSON; refusals name the place, or the field and what would be right.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::because(Code::MalformedJson, "the body is empty; send a JSON object"));
    }
    shallow(body)?;
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| refusal(&error))?;
    parser.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// Counts brackets outside of strings, before anything recurses.
fn shallow(body: &[u8]) -> Result<(), ApiError> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            let detail = format!("the body nests deeper than {DEPTH_MAX} levels");
            return Err(ApiError::because(Code::MalformedJson, detail));
        }
    }
    Ok(())
}

fn malformed(error: &serde_json::Error) -> ApiError {
    let words = error.to_string();
    // serde_json ends its sentence with the place; we begin ours with it.
    let what = words.rsplit_once(" at line ").map_or(words.as_str(), |(what, _)| what);
    let detail = format!("line {}, column {}: {what}", error.line(), error.column());
    ApiError::because(Code::MalformedJson, detail)
}

fn refusal(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    match error.inner().classify() {
        serde_json::error::Category::Data => {
            let words = error.inner().to_string();
            let what = words.rsplit_once(" at line ").map_or(words.as_str(), |(what, _)| what);
            ApiError::fields(vec![field_error(&path_text(error.path()), what)])
        }
        _ => malformed(error.inner()),
    }
}

/// A path as `device.name` or `members.3`; empty for the root.
pub(super) fn path_text(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        let name = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&name);
    }
    text
}

/// Serde's sentences in our words. What was sent is never repeated: it may be a password in the wrong place.
pub(super) fn field_error(path: &str, what: &str) -> FieldError {
    let quoted = |rest: &str| rest.split('`').next().unwrap_or_default().to_owned();
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        _ => format!("{path}.{name}"),
    };
    let (field, message) = if let Some(rest) = what.strip_prefix("missing field `") {
        (below(&quoted(rest)), "is missing".to_owned())
    } else if let Some(rest) = what.strip_prefix("unknown field `") {
        let known = rest.split_once("expected ").map(|(_, known)| known.replace('`', ""));
        let known = known.map(|known| known.trim_start_matches("one of ").to_owned());
        let message = match known {
            Some(known) => format!("is not known here; known are: {}", known.replace(" or ", ", ")),
            None => "is not known here; no fields are taken".to_owned(),
        };
        (below(&quoted(rest)), message)
    } else if let Some(rest) = what.strip_prefix("duplicate field `") {
        (below(&quoted(rest)), "is there twice".to_owned())
    } else if let Some(rest) = what.strip_prefix("unknown variant `") {
        let known = rest.split_once("expected ").map_or("", |(_, known)| known);
        (path.to_owned(), format!("must be {}", known.replace('`', "")))
    } else if let Some((kind, expected)) = what.split_once(", expected ") {
        let kind = kind.split_once(": ").map_or(kind, |(_, kind)| kind);
        let kind = kind.split(['`', '"']).next().unwrap_or_default().trim();
        (path.to_owned(), format!("must be {expected}, not {kind}"))
    } else {
        (path.to_owned(), what.to_owned())
    };
    FieldError { field, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it parses is looked at")]
    struct Login {
        login: String,
        attempts: Option<u8>,
        device: Option<Device>,
        tags: Option<Vec<Device>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it parses is looked at")]
    struct Device {
        name: String,
        kind: Option<Kind>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Phone,
        Desk,
    }

    fn refused(body: &str) -> (Code, Vec<(String, String)>, String) {
        let error = from_slice::<Login>(body.as_bytes()).expect_err("refused");
        let problem = error.problem("");
        let fields = problem.errors.into_iter().map(|field| (field.field, field.message)).collect();
        (error.code(), fields, problem.detail)
    }

    fn field(body: &str) -> (String, String) {
        let (code, mut fields, _) = refused(body);
        assert_eq!(code, Code::InvalidFields, "{body}");
        assert_eq!(fields.len(), 1, "{body}");
        fields.remove(0)
    }

    #[test]
    fn each_wrong_field_is_named_by_its_path() {
        for (body, path, message) in [
            (r#"{}"#, "login", "is missing"),
            (r#"{"login":"a","device":{}}"#, "device.name", "is missing"),
            (r#"{"login":"a","tags":[{"name":"x"},{}]}"#, "tags.1.name", "is missing"),
            (r#"{"login":7}"#, "login", "must be a string, not integer"),
            (r#"{"login":"a","attempts":300}"#, "attempts", "must be u8, not integer"),
            (r#"{"login":"a","device":{"name":"x","kind":"tv"}}"#, "device.kind", "must be phone or desk"),
            (r#"{"login":"a","login":"b"}"#, "login", "is there twice"),
            (
                r#"{"login":"a","device":{"name":"x","colour":1}}"#,
                "device.colour",
                "is not known here; known are: name, kind",
            ),
            (
                r#"{"login":"a","passwort":"x"}"#,
                "passwort",
                "is not known here; known are: login, attempts, device, tags",
            ),
        ] {
            let (named, words) = field(body);
            assert_eq!((named.as_str(), words.as_str()), (path, message), "{body}");
        }
    }

    #[test]
    fn a_body_is_an_object() {
        assert!(object(b" {}").is_ok());
        assert_eq!(object(b"[1]").expect_err("an array").code(), Code::InvalidFields);
        assert_eq!(object(b"nonsense").expect_err("no JSON").code(), Code::MalformedJson);
    }

    #[test]
    fn what_was_sent_is_not_repeated() {
        let (_, message) = field(r#"{"login":"a","attempts":"hunter2"}"#);
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn broken_json_is_placed() {
        let (code, _, detail) = refused("{\"login\": \"a\",\n \"device\" }");
        assert_eq!(code, Code::MalformedJson);
        assert!(detail.starts_with("line 2, column "), "{detail}");
        assert_eq!(refused("").0, Code::MalformedJson);
        assert_eq!(refused("{\"login\":\"a\"} x").0, Code::MalformedJson);
        assert_eq!(refused("{\"login\":\"\u{1}\"}").0, Code::MalformedJson);
    }

    #[test]
    fn depth_is_bounded_before_parsing() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(from_slice::<serde_json::Value>(nested(DEPTH_MAX).as_bytes()).is_ok());
        let error = from_slice::<serde_json::Value>(nested(DEPTH_MAX + 1).as_bytes()).expect_err("too deep");
        assert_eq!(error.code(), Code::MalformedJson);
        let brackets_in_a_string = format!("\"{}\\\"[\"", "[".repeat(100));
        assert!(from_slice::<String>(brackets_in_a_string.as_bytes()).is_ok());
    }
}
