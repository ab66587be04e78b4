//! `/v1/streams/{stream_id}/recordings` and `/v1/recordings`: what is kept of broadcasts.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::RecordingId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Cursor, Json, List, PageQuery, Path, Query, instant, streams};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::store::recordings::Recording;

/// A time that may be absent.
#[derive(Serialize)]
struct Moment(#[serde(serialize_with = "instant::serialize")] OffsetDateTime);

/// What is kept of a broadcast.
#[derive(Serialize, ToSchema)]
#[schema(as = Recording)]
pub(super) struct RecordingBody {
    /// TypeID `rec_…`.
    #[schema(example = "rec_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Of which stream: TypeID `stream_…`.
    stream: String,
    /// What the stream was called when the broadcast began.
    title: String,
    /// `recording` while the broadcast goes on, `ready` when it can be played.
    #[schema(example = "ready")]
    state: &'static str,
    /// When the broadcast began.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "instant::serialize")]
    started_at: OffsetDateTime,
    /// When it was ready.
    #[schema(value_type = String, format = DateTime, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    /// How long it plays, in milliseconds; 0 until it is ready.
    duration_ms: u64,
    /// Bytes of its segments; 0 until it is ready.
    size_bytes: u64,
    /// Where it is played (HLS), once it is ready.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    playback_url: Option<String>,
    /// A picture of it, when one could be made.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail_url: Option<String>,
}

impl RecordingBody {
    fn of(engine: &Engine, recording: Recording) -> RecordingBody {
        let at = |name: &str| format!("{}/recordings/{}/{name}", engine.public_url(), recording.id);
        let is_ready = recording.is_ready;
        RecordingBody {
            playback_url: is_ready.then(|| at("index.m3u8")),
            thumbnail_url: (is_ready && recording.has_thumbnail).then(|| at("thumbnail.jpg")),
            id: recording.id.to_string(),
            stream: recording.stream.to_string(),
            title: recording.title,
            state: if is_ready { "ready" } else { "recording" },
            started_at: recording.started_at,
            ended_at: recording.ended_at.filter(|_| is_ready).map(Moment),
            duration_ms: recording.duration_ms,
            size_bytes: recording.size_bytes,
        }
    }
}

/// A place in the list of a stream's recordings.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Place(RecordingId);

impl Cursor for Place {
    const LIST: &'static str = "recordings";
}

/// What is kept of the broadcasts of a stream, newest first.
#[utoipa::path(
    get, path = "/v1/streams/{stream_id}/recordings", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`"), PageQuery),
    responses(
        (status = 200, description = "Recordings, newest first", body = List<RecordingBody>),
        (status = 404, description = "`not_found`: there is no such stream", body = Problem),
    )
)]
pub(super) async fn list(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Result<Json<List<RecordingBody>>, ApiError> {
    let page = query.0.page::<Place>(&request)?;
    let stream = streams::visible(&engine, &caller, &path.0).await?;
    let rows = engine.store.recordings_of(stream.id, page.after.map(|Place(id)| id), page.rows()).await?;
    Ok(Json(page.answer(rows, |row| Place(row.id), |row| RecordingBody::of(&engine, row))))
}

/// One recording.
#[utoipa::path(
    get, path = "/v1/recordings/{recording_id}", tag = "streams", security(("bearer" = [])),
    params(("recording_id" = String, Path, description = "TypeID `rec_…`")),
    responses(
        (status = 200, description = "The recording", body = RecordingBody),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn read(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let recording = find(&engine, &path.0).await?;
    // Who may see the stream may see what is kept of it.
    streams::visible(&engine, &caller, &recording.stream.to_string()).await?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(RecordingBody::of(&engine, recording)))
}

/// Delete a recording of one's own stream. It is gone for everybody at once; its bytes follow.
#[utoipa::path(
    delete, path = "/v1/recordings/{recording_id}", tag = "streams", security(("bearer" = [])),
    params(("recording_id" = String, Path, description = "TypeID `rec_…`")),
    responses(
        (status = 204, description = "Deleted; of one that is being recorded nothing more is kept"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn delete(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let recording = find(&engine, &path.0).await?;
    if recording.owner != caller.user {
        streams::visible(&engine, &caller, &recording.stream.to_string()).await?;
        return Err(ApiError::because(Code::Forbidden, "only its owner may do this"));
    }
    match engine.store.delete_recording(recording.id, engine.clock.now()).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Code::NotFound.into()),
    }
}

async fn find(engine: &Engine, id: &str) -> Result<Recording, ApiError> {
    let id: RecordingId = id.parse().map_err(|_| Code::NotFound)?;
    Ok(engine.store.recording(id).await?.ok_or(Code::NotFound)?)
}
