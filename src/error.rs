//! What a refused request looks like from outside: one table, one shape.
//!
//! Inside, errors are enums that branch; here they become words. Every error that leaves the engine is an
//! [`ApiError`]: a [`Code`] from the table below, which fixes its HTTP status and its public title, and a
//! sentence that says what to do. Rendered as `application/problem+json` (RFC 9457). What went wrong inside
//! is logged once, where the response is made, and never sent.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::http::StatusCode;
use actix_web::http::header;
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    ($($variant:ident $code:literal $status:ident $title:literal;)*) => {
        /// The stable names of everything the engine can refuse; the table is the whole public error surface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $code, "`: ", $title)] $variant,)*
        }

        impl Code {
            /// Every code there is, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The snake_case name clients branch on.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code),* }
            }

            /// The HTTP status this code is answered with.
            pub fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status),* }
            }

            /// The same words each time this code is answered (RFC 9457 section 3.1.3).
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),* }
            }
        }
    };
}

codes! {
    MalformedRequest    "malformed_request"     BAD_REQUEST            "the request could not be read";
    MalformedJson       "malformed_json"        BAD_REQUEST            "the body is not valid JSON";
    UnknownType         "unknown_type"          BAD_REQUEST            "there is no request of this type";
    InvalidCursor       "invalid_cursor"        BAD_REQUEST            "this cursor does not belong to this list";
    InvalidQuery        "invalid_query"         BAD_REQUEST            "the query string is not valid";
    InvalidPath         "invalid_path"          BAD_REQUEST            "the address is not valid";
    Unauthenticated     "unauthenticated"       UNAUTHORIZED           "log in first";
    InvalidCredentials  "invalid_credentials"   UNAUTHORIZED           "the login or the password is wrong";
    TokenExpired        "token_expired"         UNAUTHORIZED           "the access token has expired";
    InvalidToken        "invalid_token"         UNAUTHORIZED           "the token is not valid";
    SessionRevoked      "session_revoked"       UNAUTHORIZED           "this session was ended";
    TotpRequired        "totp_required"         UNAUTHORIZED           "a code from your authenticator is needed";
    InvalidTotpCode     "invalid_totp_code"     UNAUTHORIZED           "the code is wrong or was used already";
    Forbidden           "forbidden"             FORBIDDEN              "you may not do this";
    AccountSuspended    "account_suspended"     FORBIDDEN              "this account is suspended";
    NotAMember          "not_a_member"          FORBIDDEN              "you are not in this conversation";
    RoleTooLow          "role_too_low"          FORBIDDEN              "your role in this conversation does not allow this";
    NotYours            "not_yours"             FORBIDDEN              "this message is not yours to change";
    Unreachable         "unreachable"           FORBIDDEN              "this person cannot be written to";
    RoomLocked          "room_locked"           FORBIDDEN              "the host lets nobody in";
    Removed             "removed"               FORBIDDEN              "the host took you out of this room";
    TimedOut            "timed_out"             FORBIDDEN              "a moderator of this chat has timed you out";
    NotFound            "not_found"             NOT_FOUND              "there is nothing here";
    NoSuchTarget        "no_such_target"        NOT_FOUND              "the conversation has no such message";
    MethodNotAllowed    "method_not_allowed"    METHOD_NOT_ALLOWED     "this method is not allowed here";
    NotAcceptable       "not_acceptable"        NOT_ACCEPTABLE         "no representation you accept exists";
    Timeout             "timeout"               REQUEST_TIMEOUT        "the request took too long to arrive";
    Conflict            "conflict"              CONFLICT               "the current state does not allow this";
    CallOver            "call_over"             CONFLICT               "this call has ended";
    AnsweredElsewhere   "answered_elsewhere"    CONFLICT               "this call was answered on another device";
    RoomFull            "room_full"             CONFLICT               "the room is full";
    TargetDeleted       "target_deleted"        CONFLICT               "this message was deleted";
    UsernameTaken       "username_taken"        CONFLICT               "this username, or one that looks like it, is taken";
    EmailTaken          "email_taken"           CONFLICT               "this e-mail address is in use";
    RequestInProgress   "request_in_progress"   CONFLICT               "the first request with this key is still running";
    PreconditionFailed  "precondition_failed"   PRECONDITION_FAILED    "it has changed since you read it";
    PayloadTooLarge     "payload_too_large"     PAYLOAD_TOO_LARGE      "the body is too large";
    UriTooLong          "uri_too_long"          URI_TOO_LONG           "the address is too long";
    UnsupportedMedia    "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "the body is of a kind that is not taken here";
    RangeNotSatisfiable "range_not_satisfiable" RANGE_NOT_SATISFIABLE  "it ends before this range";
    Misdirected         "misdirected"           MISDIRECTED_REQUEST    "this node does not do this; ask one that does";
    InvalidFields       "invalid_fields"        UNPROCESSABLE_ENTITY   "some fields are not valid";
    IdempotencyMismatch "idempotency_mismatch"  UNPROCESSABLE_ENTITY   "this key was used with another request";
    UpgradeRequired     "upgrade_required"      UPGRADE_REQUIRED       "this address speaks WebSocket";
    NoSuchUser          "no_such_user"          UNPROCESSABLE_ENTITY   "one of these people does not exist";
    PreconditionNeeded  "precondition_required" PRECONDITION_REQUIRED  "say which version you change with If-Match";
    RateLimited         "rate_limited"          TOO_MANY_REQUESTS      "too many requests";
    SlowMode            "slow_mode"             TOO_MANY_REQUESTS      "this chat is slow; wait before you write again";
    HeadersTooLarge     "headers_too_large"     REQUEST_HEADER_FIELDS_TOO_LARGE "the headers are too large";
    Internal            "internal"              INTERNAL_SERVER_ERROR  "something broke on our side";
    Overloaded          "overloaded"            SERVICE_UNAVAILABLE    "too busy right now";
    Unavailable         "unavailable"           SERVICE_UNAVAILABLE    "a part this needs is away";
    Draining            "draining"              SERVICE_UNAVAILABLE    "this node is leaving; ask another";
}

impl Code {
    /// The code that stands for a bare HTTP status, for answers made below our handlers.
    pub fn for_status(status: StatusCode) -> Code {
        let exact = Code::ALL.iter().copied().find(|code| code.status() == status);
        exact.unwrap_or(if status.is_server_error() { Code::Internal } else { Code::MalformedRequest })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One field of a request that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, as a dotted path from the root of the body (`device.name`).
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The body of every refusal (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// A relative reference that names the kind of problem: `/docs/errors#{code}`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same words for every problem with this code.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What happened this time and what to do about it.
    pub detail: String,
    /// The stable name to branch on.
    pub code: String,
    /// The id of this request, also in the `X-Request-Id` header and in the logs.
    pub request_id: String,
    /// The fields that are not as they must be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// A refusal on its way out.
#[derive(Debug)]
pub struct ApiError {
    code: Code,
    detail: Cow<'static, str>,
    fields: Vec<FieldError>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApiError {
    /// A refusal with the sentence its code has in the table.
    pub fn new(code: Code) -> ApiError {
        ApiError {
            code,
            detail: Cow::Borrowed(code.title()),
            fields: Vec::new(),
            retry_after: None,
            source: None,
        }
    }

    /// A refusal that says what happened this time.
    pub fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { detail: detail.into(), ..ApiError::new(code) }
    }

    /// One field that is not as it must be.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> ApiError {
        ApiError::fields(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// Several fields that are not as they must be.
    pub fn fields(fields: Vec<FieldError>) -> ApiError {
        ApiError { fields, ..ApiError::new(Code::InvalidFields) }
    }

    /// Our own failure: the cause is logged, the caller reads that it is not their fault.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> ApiError {
        ApiError { source: Some(source.into()), ..ApiError::new(Code::Internal) }
    }

    /// A dependency is away or too slow; the caller may try again after `retry_after`.
    pub fn unavailable(
        source: impl Into<Box<dyn StdError + Send + Sync>>,
        retry_after: Duration,
    ) -> ApiError {
        ApiError { source: Some(source.into()), ..ApiError::new(Code::Unavailable) }.retry_after(retry_after)
    }

    /// Adds what went wrong inside, for the log.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> ApiError {
        self.source = Some(source.into());
        self
    }

    /// Says when to come back; rounded up to whole seconds in `Retry-After` (RFC 9110 section 10.2.3).
    pub fn retry_after(mut self, after: Duration) -> ApiError {
        self.retry_after = Some(after);
        self
    }

    /// The same refusal under another code.
    pub fn with_code(self, code: Code) -> ApiError {
        let detail = Cow::Borrowed(code.title());
        ApiError { code, detail, ..self }
    }

    /// What may be told of this refusal, and its cause as words, for whoever renders it from a shared reference.
    pub fn outward(&self) -> ApiError {
        ApiError {
            code: self.code,
            detail: self.detail.clone(),
            fields: self.fields.clone(),
            retry_after: self.retry_after,
            source: self.source.as_ref().map(|source| chain(source.as_ref()).into()),
        }
    }

    /// The stable name of this refusal.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The public sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// When to come back, if that was said.
    pub fn retry_after_hint(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The body for one request.
    pub fn problem(&self, request_id: &str) -> Problem {
        Problem {
            kind: format!("/docs/errors#{}", self.code),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone().into_owned(),
            code: self.code.as_str().to_owned(),
            request_id: request_id.to_owned(),
            errors: self.fields.clone(),
        }
    }

    /// The whole response for one request.
    pub fn respond(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.code.status());
        response.content_type("application/problem+json");
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(after) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, after.as_secs_f64().ceil().max(1.0) as u64));
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"nova\""));
        }
        if self.code.status() == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 section 15.5.22: what to upgrade to; RFC 6455 section 4.4: in which version.
            response.insert_header((header::UPGRADE, "websocket"));
            response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
        }
        let body = serde_json::to_string(&self.problem(request_id));
        response.body(body.expect("a problem is made of strings and numbers"))
    }
}

/// An error and everything below it, in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)?;
        for field in &self.fields {
            write!(f, "; {}: {}", field.field, field.message)?;
        }
        Ok(())
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> ApiError {
        ApiError::new(code)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    /// Without a request at hand the id is empty; the outermost middleware renders it again with the id.
    fn error_response(&self) -> HttpResponse {
        self.respond("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let name = code.as_str();
            assert!(seen.insert(name), "{name} stands twice in the table");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{name}");
        }
    }

    #[test]
    fn an_inner_cause_stays_inside() {
        let error = ApiError::internal(std::io::Error::other("password is hunter2"));
        let body = serde_json::to_string(&error.problem("req_1")).expect("serialises");
        assert!(!body.contains("hunter2"), "{body}");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("password is hunter2"));
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let response = ApiError::new(Code::RateLimited).retry_after(Duration::from_millis(1_200)).respond("");
        assert_eq!(response.headers().get(header::RETRY_AFTER).map(|v| v.as_bytes()), Some(&b"2"[..]));
    }
}
