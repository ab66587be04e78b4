//! The manner of the API: what is the same for every request, whatever it asks.
//!
//! [`around`] is the outermost middleware. From outside in: the request gets its id and its client's address; a
//! head that is too large is refused; it is counted against its address; a preflight is answered; the handler
//! runs, and if it panics the request is answered 500 and nobody else notices. From inside out: every refusal
//! becomes a problem (RFC 9457) with the request's id, and every answer gets its headers.
//!
//! # What is answered below us
//!
//! A request that is no HTTP never becomes a request: actix-http answers it itself, with an empty body, and closes
//! the connection. There is no hook for those answers. They are: 400 for a head that does not parse, 431 for a head
//! beyond 128 KiB or 96 fields, 408 for a head that does not arrive in time. Heads between our own bound and that one are
//! answered here, as problems.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, ResponseError, web};
use futures_util::FutureExt as _;
use ipnet::IpNet;
use ring::hmac;
use tracing::Instrument as _;

use crate::config::Config;
use crate::error::{ApiError, Code};
use crate::playback;
use crate::rest::context::{Context, X_REQUEST_ID};
use crate::rest::cors::{Cors, Origin};
use crate::rest::exchange::{Answer, Exchange};
use crate::rest::idempotency::{self, Idempotency};
use crate::rest::json::Bounds;
use crate::rest::limits::{self, Limits};
use crate::rest::page::Cursors;
use crate::rest::{client, compression, headers};
use crate::telemetry::Metrics;
use crate::wish::door;

/// Longest path and query together.
const TARGET_BYTES_MAX: usize = 8 << 10;
/// Names and values of all headers together.
const HEADER_BYTES_MAX: usize = 32 << 10;

static RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Thirty-two secret bytes all nodes of an installation share, derived from the data key that lies sealed in the
/// database ([`crate::identity::Identity::derive_key`]). Keys for different uses are derived, so none tells about another.
#[derive(Clone)]
pub struct SharedSecret([u8; 32]);

impl SharedSecret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 32]) -> SharedSecret {
        SharedSecret(bytes)
    }

    /// The key for one use (HKDF's expand step for a single block, RFC 5869 section 2.3).
    pub fn derive(&self, usage: &str) -> [u8; 32] {
        let mut message = usage.as_bytes().to_vec();
        message.push(1);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), &message);
        *tag.as_ref().first_chunk().expect("HMAC-SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

/// What one node needs to treat all requests alike; made once, shared by its workers as `web::Data<Manner>`.
#[derive(Debug)]
pub struct Manner {
    /// Who may ask how often.
    pub limits: Limits,
    /// Whose pages may call.
    pub cors: Cors,
    /// Writes and reads the cursors of lists.
    pub cursors: Cursors,
    /// What is counted.
    pub metrics: Metrics,
    pub(super) idempotency: Idempotency,
    pub(super) body: Bounds,
    policy: Option<HeaderValue>,
    proxies: Vec<IpNet>,
    tls: bool,
}

impl Manner {
    /// The manner an operator chose.
    pub fn new(config: &Config, secret: &SharedSecret, metrics: Metrics) -> Manner {
        let http = &config.http;
        let limits = Limits::new(&config.limits);
        let public_tls = http.public_url.as_ref().is_some_and(|url| url.starts_with("https://"));
        Manner {
            policy: limits.policy(),
            limits,
            cors: Cors::new(&http.cors_origins),
            cursors: Cursors::new(&secret.derive("cursors")),
            metrics,
            idempotency: Idempotency::new(secret),
            body: Bounds {
                bytes_max: http.body_bytes_max as usize,
                time_max: Duration::from_secs(http.body_s.into()),
            },
            proxies: http.trusted_proxies.clone(),
            tls: http.tls_cert.is_some() || public_tls,
        }
    }

    /// The manner of the engine that answers this request.
    pub fn of(request: &HttpRequest) -> Result<&Manner, ApiError> {
        Manner::data(request).map(|manner| manner.get_ref())
    }

    pub(super) fn data(request: &HttpRequest) -> Result<&web::Data<Manner>, ApiError> {
        request.app_data::<web::Data<Manner>>().ok_or_else(missing)
    }

    /// The client behind a connection; for doors that take requests before [`around`] does.
    pub fn client(&self, peer: Option<std::net::SocketAddr>, headers: &HeaderMap) -> std::net::IpAddr {
        client::address(peer, headers, &self.proxies)
    }

    /// The headers every answer gets.
    fn dress(&self, context: &Context, origin: Origin, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(context.request_id()) {
            headers.insert(X_REQUEST_ID, id);
        }
        if let Some(standing) = limits::standing_header(context.standings()) {
            headers.insert(RATELIMIT.clone(), standing);
            if let Some(policy) = &self.policy {
                headers.insert(RATELIMIT_POLICY.clone(), policy.clone());
            }
        }
        self.cors.apply(origin, headers);
        headers::apply(headers, self.tls);
    }
}

fn missing() -> ApiError {
    ApiError::internal("the application was built without web::Data<Manner>")
}

/// The outermost middleware: `App::new().wrap(from_fn(manner::around))`.
pub async fn around<B>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Answer>, actix_web::Error>
where
    B: MessageBody + 'static,
{
    let manner = request.app_data::<web::Data<Manner>>().cloned().ok_or_else(missing)?;
    let context = Context::new(request.headers(), manner.client(request.peer_addr(), request.headers()));
    request.extensions_mut().insert(context.clone());
    let origin = manner.cors.origin(request.headers());
    let mut exchange = Exchange::begin(&request, context.clone(), manner.metrics.clone());
    let span = exchange.span();

    let outcome = match admit(&manner, &context, &request) {
        Ok(None) => {
            playback::keep_what_is_read(request.head_mut());
            AssertUnwindSafe(async { idempotency::around(request, next).await })
                .catch_unwind()
                .instrument(span.clone())
                .await
        }
        Ok(Some(response)) => {
            return Ok(finish(&manner, &context, origin, exchange, request.into_response(response)));
        }
        Err(error) => {
            let response = error.respond(context.request_id());
            return Ok(finish(&manner, &context, origin, exchange, request.into_response(response)));
        }
    };
    let error = match outcome {
        Ok(Ok(response)) => {
            let response = span.in_scope(|| problem(response, context.request_id()));
            return Ok(finish(&manner, &context, origin, exchange, response));
        }
        Ok(Err(error)) => translate(&error),
        Err(panic) => {
            manner.metrics.http_panics.inc();
            span.in_scope(|| tracing::error!(panic = panic_words(panic.as_ref()), "a handler panicked"));
            ApiError::new(Code::Internal)
        }
    };
    exchange.broken(error.status_code());
    Err(Broken { error, manner, context, origin }.into())
}

/// What is checked before anything runs; a response when that is the answer.
fn admit(
    manner: &Manner,
    context: &Context,
    request: &ServiceRequest,
) -> Result<Option<HttpResponse>, ApiError> {
    if playback::is_path(request.path()) {
        // A viewer asks several times a second and is bounded by what may wait at once.
        return bounds(request).map(|()| None);
    }
    match manner.limits.request_from(context.client()) {
        Ok(standing) => context.stands_with_address(standing),
        Err(refused) => {
            context.stands_with_address(Some(refused.standing));
            manner.metrics.rate_limited.with_label_values(&[refused.standing.name]).inc();
            return Err(refused.into());
        }
    }
    bounds(request)?;
    if door::is_path(request.path()) && request.method() == actix_web::http::Method::OPTIONS {
        return Ok(Some(door::options()));
    }
    manner.cors.preflight(request.method(), request.headers()).transpose()
}

/// Whether the head of a request is of a size we read.
fn bounds(request: &ServiceRequest) -> Result<(), ApiError> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        let detail = format!("path and query together may have {TARGET_BYTES_MAX} bytes");
        return Err(ApiError::because(Code::UriTooLong, detail));
    }
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    if fields.sum::<usize>() > HEADER_BYTES_MAX {
        let detail = format!("all headers together may have {HEADER_BYTES_MAX} bytes");
        return Err(ApiError::because(Code::HeadersTooLarge, detail));
    }
    Ok(())
}

fn finish(
    manner: &Manner,
    context: &Context,
    origin: Origin,
    mut exchange: Exchange,
    response: ServiceResponse<BoxBody>,
) -> ServiceResponse<Answer> {
    let mut response = compression::apply(response);
    if playback::is_path(response.request().path()) {
        playback::open_to_all(response.headers_mut());
        manner.dress(context, Origin::None, response.headers_mut());
    } else if door::is_path(response.request().path()) {
        door::open_to_all(response.headers_mut());
        manner.dress(context, Origin::None, response.headers_mut());
    } else {
        manner.dress(context, origin, response.headers_mut());
    }
    exchange.answered(&response);
    response.map_body(|_, body| Answer::new(body, exchange))
}

/// Makes a refusal a problem, whoever made it: one of our errors, one of actix's, or a bare status.
pub(super) fn problem(response: ServiceResponse<BoxBody>, request_id: &str) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let bare = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
    let error = match response.response().error() {
        Some(error) => translate(error),
        None if bare => ApiError::new(Code::for_status(status)),
        None => return response,
    };
    log_cause(&error);
    let (request, refused) = response.into_parts();
    let mut told = error.respond(request_id);
    // A status that stands for no code of ours is still the status.
    *told.status_mut() = status;
    for (name, value) in refused.headers() {
        if !told.headers().contains_key(name) {
            told.headers_mut().append(name.clone(), value.clone());
        }
    }
    ServiceResponse::new(request, told)
}

/// An error that came out of a handler, an extractor or actix itself, as one of ours.
fn translate(error: &actix_web::Error) -> ApiError {
    if let Some(error) = error.as_error::<ApiError>() {
        return error.outward();
    }
    let code = Code::for_status(error.as_response_error().status_code());
    ApiError::new(code).caused_by(error.to_string())
}

/// Our own failures are logged here, once, with their whole chain of causes.
fn log_cause(error: &ApiError) {
    if !error.code().status().is_server_error() {
        return;
    }
    let cause = std::error::Error::source(error).map(tracing::field::display);
    match error.code() {
        Code::Internal => tracing::error!(code = error.code().as_str(), cause, "a request failed"),
        _ => tracing::warn!(code = error.code().as_str(), cause, "a request was turned away"),
    }
}

fn panic_words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

/// A refusal whose request is gone: it went down with the handler.
struct Broken {
    error: ApiError,
    manner: web::Data<Manner>,
    context: Context,
    origin: Origin,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl ResponseError for Broken {
    fn status_code(&self) -> actix_web::http::StatusCode {
        self.error.status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = self.error.respond(self.context.request_id());
        self.manner.dress(&self.context, self.origin.clone(), response.headers_mut());
        response
    }
}
