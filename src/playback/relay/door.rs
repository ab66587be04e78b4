//! The calls between nodes: another node asks for the views and files of a stream whose publisher is here.

use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::StreamId;
use nova_media::hls::Edge;
use tokio::time::{Instant, timeout_at};

use super::super::pieces::{Pieces, pieces};
use super::super::{gone, not_live};
use super::SOURCE;
use super::told::{Ask, Told};
use crate::app::Engine;
use crate::error::{ApiError, Code};
use crate::nodes;
use crate::rest::stream_stats::StreamStats;
use crate::rest::{Path, query};

/// How long the other node holds a request for a view that is not there yet.
const HOLD: Duration = Duration::from_secs(5);
/// Whether this path is between nodes.
pub(in crate::playback) fn is_path(path: &str) -> bool {
    path.starts_with("/internal/live/")
}

/// The calls between nodes; no part of the API.
pub fn configure(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/internal/live/{stream_id}").name("/internal/live/{stream_id}").get(view))
        .service(
            web::resource("/internal/live/{stream_id}/stats")
                .name("/internal/live/{stream_id}/stats")
                .get(stats),
        )
        .service(
            web::resource("/internal/live/{stream_id}/{broadcast}/{epoch}/{file}")
                .name("/internal/live/{stream_id}/{broadcast}/{epoch}/{file}")
                .get(file),
        );
}

/// Gives another node the next view.
async fn view(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    signed(&request, &engine)?;
    let stream: StreamId = path.0.parse().map_err(|_| not_live())?;
    let broadcast = engine.live.broadcasts.of(stream).ok_or_else(not_live)?;
    let ask: Ask = query::parse(request.query_string())?;
    if ask.rendition.is_none() {
        broadcast.audience().elsewhere(ask.node, ask.viewers, Instant::now());
    }
    let known = match (ask.msn, ask.part, ask.ended) {
        (Some(msn), Some(part), Some(ended)) => Some(Edge { msn, part, ended }),
        _ => None,
    };
    let mut views = broadcast.views_of(ask.rendition.as_deref().unwrap_or(SOURCE)).ok_or_else(not_live)?;
    let mut leaving = engine.live.leaving();
    let deadline = Instant::now() + HOLD;
    loop {
        let view = views.borrow_and_update().clone();
        match view {
            Some(view) if view.moved => return Err(not_live()),
            Some(view) if Some(view.playlist.edge) != known => {
                return Ok(HttpResponse::Ok()
                    .insert_header((header::CACHE_CONTROL, "no-store"))
                    .json(Told::of(&broadcast, &view)));
            }
            _ => {}
        }
        tokio::select! {
            changed = timeout_at(deadline, views.changed()) => match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(not_live()),
                // The same again, so that the other node knows that we are here.
                Err(_) => {
                    let view = views.borrow().clone().ok_or_else(not_live)?;
                    return Ok(HttpResponse::Ok().json(Told::of(&broadcast, &view)));
                }
            },
            _ = leaving.wait_for(|leaving| *leaving) => return Err(Code::Draining.into()),
        }
    }
}

/// Tells another node how a broadcast goes.
async fn stats(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    signed(&request, &engine)?;
    let stream: StreamId = path.0.parse().map_err(|_| not_live())?;
    let stats = StreamStats::here(&engine, stream).ok_or_else(not_live)?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(stats))
}

/// Gives another node a file.
async fn file(
    request: HttpRequest,
    engine: web::Data<Engine>,
    path: Path<(String, String, String, String)>,
) -> Result<HttpResponse, ApiError> {
    signed(&request, &engine)?;
    let stream: StreamId = path.0.0.parse().map_err(|_| gone())?;
    let broadcast =
        engine.live.broadcasts.of(stream).filter(|there| there.name() == path.0.1).ok_or_else(gone)?;
    let pieces = pieces(&engine.live, &broadcast, &path.0.2, &path.0.3).await?.1;
    Ok(HttpResponse::Ok().content_type("video/mp4").body(Pieces::new(pieces)))
}

fn signed(request: &HttpRequest, engine: &Engine) -> Result<(), ApiError> {
    let header = request.headers().get(nodes::HEADER).and_then(|header| header.to_str().ok());
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    match header.is_some_and(|header| engine.seal.knows(header, target)) {
        true => Ok(()),
        // To everybody else there is nothing here.
        false => Err(Code::NotFound.into()),
    }
}
