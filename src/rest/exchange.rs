//! One request and its answer, as operators see them: a span, a line in the access log, a count.
//!
//! The line is written when the last byte of the answer has been handed over or the client has gone away, whichever
//! is first; target `nova::access`, so `log = "info,nova::access=off"` is quiet.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use opentelemetry::propagation::Extractor;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::rest::context::Context;
use crate::telemetry::Metrics;

/// What the access log says when the client left before it was answered (nginx's number for it).
const CLIENT_LEFT: u16 = 499;

/// Watches one request from its head to the last byte of its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    started: Instant,
    context: Context,
    method: &'static str,
    route: String,
    status: u16,
    bytes: u64,
    span: Span,
    metrics: Metrics,
}

impl Exchange {
    pub(super) fn begin(request: &ServiceRequest, context: Context, metrics: Metrics) -> Exchange {
        let method = method_label(request.method());
        let span = tracing::info_span!(
            target: "nova::rest",
            "request",
            otel.kind = "server",
            otel.name = Empty,
            http.request.method = method,
            http.route = Empty,
            http.response.status_code = Empty,
            request_id = context.request_id(),
        );
        if request.headers().contains_key("traceparent") {
            let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
                propagator.extract(&Incoming(request.headers()))
            });
            // It fails only when no traces are exported; then there is nothing to join.
            let _ = span.set_parent(parent);
        }
        metrics.http_requests_in_flight.inc();
        Exchange {
            started: Instant::now(),
            context,
            method,
            route: String::new(),
            status: CLIENT_LEFT,
            bytes: 0,
            span,
            metrics,
        }
    }

    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// The head of the answer is known.
    pub(super) fn answered(&mut self, response: &ServiceResponse<BoxBody>) {
        let request = response.request();
        let route = request.match_name().map(str::to_owned).or_else(|| request.match_pattern());
        self.route = route.unwrap_or_else(|| "none".to_owned());
        self.count(response.status());
    }

    /// The answer will be made where the request is not known any more.
    pub(super) fn broken(&mut self, status: StatusCode) {
        self.route = "none".to_owned();
        self.count(status);
    }

    fn count(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        let (method, route) = (self.method, self.route.as_str());
        self.metrics.http_requests.with_label_values(&[method, route, status.as_str()]).inc();
        let took = self.started.elapsed();
        self.metrics.http_request_duration.with_label_values(&[method, route]).observe(took.as_secs_f64());
        if !self.span.is_disabled() {
            self.span.record("otel.name", format_args!("{method} {route}"));
            self.span.record("http.route", route);
            self.span.record("http.response.status_code", self.status);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.metrics.http_requests_in_flight.dec();
        let _entered = self.span.enter();
        let user = self.context.user().map(nova_actors::id::UserId::from_uuid);
        tracing::info!(
            target: "nova::access",
            method = self.method,
            route = self.route,
            status = self.status,
            duration_ms = self.started.elapsed().as_micros() as f64 / 1e3,
            bytes = self.bytes,
            request_id = self.context.request_id(),
            user.id = user.map(tracing::field::display),
        );
    }
}

/// An answer's body that tells its exchange what went out.
#[derive(Debug)]
pub struct Answer {
    body: BoxBody,
    exchange: Exchange,
}

impl Answer {
    pub(super) fn new(body: BoxBody, exchange: Exchange) -> Answer {
        Answer { body, exchange }
    }
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = Pin::new(&mut self.body).poll_next(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &next {
            self.exchange.bytes += chunk.len() as u64;
        }
        next
    }
}

/// Methods as a label: whatever a client makes up is one value.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The headers of a request, for the W3C trace context in them.
struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
