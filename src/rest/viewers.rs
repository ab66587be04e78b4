//! `/v1/streams/{stream_id}/playback` and `/viewers`: who may watch a private stream, and what they need for it.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::UserId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Cursor, Json, List, PageQuery, Path, Query, instant, streams};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;

/// How long a playback token lives unless the request says otherwise: longer than a hiccup, shorter than a grudge.
const TOKEN_S: u32 = 600;
const TOKEN_S_MIN: u32 = 60;
const TOKEN_S_MAX: u32 = 86_400;

/// What a player needs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaybackAsk {
    /// Seconds the token is to live, 60 to 86400. Players that cannot change their address need as long as they play.
    #[serde(default)]
    #[schema(minimum = 60, maximum = 86400, default = 600)]
    expires_in_s: Option<u32>,
}

/// How to play a stream.
#[derive(Serialize, ToSchema)]
pub(super) struct Playback {
    /// The multivariant playlist, with the token where one is needed.
    playback_url: String,
    /// For the query (`token`) of playlist requests of a private stream, those of its recordings included.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// When the token expires; ask again before.
    #[schema(nullable = false, value_type = Option<String>, format = DateTime)]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
}

#[derive(Serialize)]
struct Moment(#[serde(serialize_with = "instant::serialize")] OffsetDateTime);

/// Somebody who may watch.
#[derive(Serialize, ToSchema)]
pub(super) struct Viewer {
    /// TypeID `user_…`.
    user: String,
}

/// A place in the list of viewers.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place(UserId);

impl Cursor for Place {
    const LIST: &'static str = "stream_viewers";
}

/// Get what a player needs. The token of a private stream is short-lived; this call renews it.
#[utoipa::path(
    post, path = "/v1/streams/{stream_id}/playback", tag = "streams", security(("bearer" = [])), request_body = PlaybackAsk,
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "Where and with what it is played", body = Playback),
        (status = 404, description = "`not_found`: there is no such stream, or none for you", body = Problem),
    )
)]
pub(super) async fn playback(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    body: Json<PlaybackAsk>,
) -> Result<HttpResponse, ApiError> {
    let seconds = body.0.expires_in_s.unwrap_or(TOKEN_S);
    if !(TOKEN_S_MIN..=TOKEN_S_MAX).contains(&seconds) {
        let words = format!("must be {TOKEN_S_MIN} to {TOKEN_S_MAX}");
        return Err(ApiError::field("expires_in_s", words));
    }
    let stream = streams::visible(&engine, &caller, &path.0).await?;
    let mut playback_url = format!("{}/live/{}/index.m3u8", engine.public_url(), stream.id);
    let until = engine.clock.now() + time::Duration::seconds(seconds.into());
    let token = stream.is_private.then(|| engine.playback_tokens.make(stream.id, until));
    if let Some(token) = &token {
        playback_url = format!("{playback_url}?token={token}");
    }
    let expires_at = token.is_some().then_some(Moment(until));
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(Playback {
        playback_url,
        token,
        expires_at,
    }))
}

/// Who may watch one's own private stream.
#[utoipa::path(
    get, path = "/v1/streams/{stream_id}/viewers", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`"), PageQuery),
    responses(
        (status = 200, description = "In the order of their ids", body = List<Viewer>),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn list(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Result<Json<List<Viewer>>, ApiError> {
    let page = query.0.page::<Place>(&request)?;
    let stream = streams::own(&engine, &caller, &path.0).await?;
    let rows = engine.store.stream_viewers(stream.id, page.after.map(|Place(id)| id), page.rows()).await?;
    Ok(Json(page.answer(rows, |row| Place(*row), |row| Viewer { user: row.to_string() })))
}

/// Let somebody watch one's own private stream.
#[utoipa::path(
    put, path = "/v1/streams/{stream_id}/viewers/{user_id}", tag = "streams", security(("bearer" = [])),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("user_id" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 204, description = "They may watch"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`: the stream or the user", body = Problem),
        (status = 409, description = "`conflict`: as many may watch as can be named", body = Problem),
    )
)]
pub(super) async fn put(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (stream, user) = both(&engine, &caller, &path.0).await?;
    match engine.store.add_stream_viewer(stream, user, engine.clock.now()).await? {
        Some(true) => Ok(HttpResponse::NoContent().finish()),
        Some(false) => {
            Err(ApiError::because(Code::Conflict, "as many may watch this stream as can be named"))
        }
        None => Err(Code::NotFound.into()),
    }
}

/// Do not let somebody watch one's own private stream any longer than the token they have.
#[utoipa::path(
    delete, path = "/v1/streams/{stream_id}/viewers/{user_id}", tag = "streams", security(("bearer" = [])),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("user_id" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 204, description = "They may not, or might not before"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`: the stream", body = Problem),
    )
)]
pub(super) async fn remove(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (stream, user) = both(&engine, &caller, &path.0).await?;
    engine.store.remove_stream_viewer(stream, user).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn both(
    engine: &Engine,
    caller: &Caller,
    (stream, user): &(String, String),
) -> Result<(nova_actors::id::StreamId, UserId), ApiError> {
    let stream = streams::own(engine, caller, stream).await?;
    Ok((stream.id, user.parse().map_err(|_| Code::NotFound)?))
}
