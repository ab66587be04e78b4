//! `GET /livez`, `GET /readyz`, `GET /api/v1/health`: for load balancers, orchestrators and people.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Engine;
use crate::health::{Report, Status};

/// A node with its report.
#[derive(Debug, Serialize, ToSchema)]
pub struct NodeHealth {
    /// The report of `/readyz`.
    #[serde(flatten)]
    pub report: Report,
    /// The engine's version.
    pub version: &'static str,
    /// This process (`node_…`).
    #[schema(value_type = String)]
    pub node: nova_actors::id::NodeId,
    /// Seconds since it became ready.
    pub uptime_s: u64,
}

/// Whether the process runs at all: an orchestrator restarts it when this fails.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process runs", body = String, content_type = "text/plain")))]
pub async fn livez() -> impl Responder {
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .content_type("text/plain; charset=utf-8")
        .body("ok\n")
}

/// Whether this node should be sent work, and how each dependency does.
///
/// 200 when ready or degraded; 503 when PostgreSQL does not answer or the node is leaving.
#[utoipa::path(get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "Ready, or degraded but serving", body = Report),
              (status = 503, description = "Unavailable or draining", body = Report)))]
pub async fn readyz(engine: web::Data<Engine>) -> impl Responder {
    let report = engine.health.report();
    respond(report.status, &report)
}

/// The same as `/readyz`, with the node's version and uptime.
#[utoipa::path(get, path = "/api/v1/health", tag = "operations",
    responses((status = 200, description = "Ready, or degraded but serving", body = NodeHealth),
              (status = 503, description = "Unavailable or draining", body = NodeHealth)))]
pub async fn health(engine: web::Data<Engine>) -> impl Responder {
    let report = engine.health.report();
    let status = report.status;
    let uptime_s = engine.clock.instant().duration_since(engine.started).as_secs();
    respond(status, &NodeHealth { report, version: env!("CARGO_PKG_VERSION"), node: engine.node, uptime_s })
}

fn respond(status: Status, body: &impl Serialize) -> HttpResponse {
    let code = match status {
        Status::Ready | Status::Degraded => StatusCode::OK,
        Status::Unavailable | Status::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    HttpResponse::build(code).insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}
