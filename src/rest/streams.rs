//! `/v1/streams`: what people broadcast.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::StreamId;
use nova_actors::live_stream::{ChangeKey, Delete, News, SetPrivate};
use nova_actors::port::LifeState;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::Duration;
use utoipa::{IntoParams, ToSchema};

use super::instant;
use super::page::Limit;
use super::{Cursor, ETag, Json, List, Page, Path, Query};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::live;
use crate::store::streams as store;
use crate::store::streams::{NewStream, STREAMS_MAX, Stream, StreamError};

const TITLE_CHARS_MAX: usize = 140;
/// How long a stream may take to hear what its owner did. What it does not hear now it reads when it is next started.
const TELL_LIMIT: Duration = Duration::from_secs(5);

impl From<StreamError> for ApiError {
    fn from(error: StreamError) -> ApiError {
        match error {
            StreamError::NotFound => Code::NotFound.into(),
            StreamError::Changed => Code::PreconditionFailed.into(),
            StreamError::TooMany => ApiError::because(
                Code::Conflict,
                format!("you have {STREAMS_MAX} streams, which is as many as may be; delete one first"),
            ),
            StreamError::Store(error) => error.into(),
        }
    }
}

/// A time that may be absent.
#[derive(Serialize)]
struct Moment(#[serde(serialize_with = "instant::serialize")] OffsetDateTime);

/// A stream.
#[derive(Serialize, ToSchema)]
#[schema(as = Stream)]
pub(super) struct StreamBody {
    /// TypeID `stream_…`.
    #[schema(example = "stream_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Whose: TypeID `user_…`.
    owner: String,
    /// As its owner calls it.
    title: String,
    /// Whether broadcasts are kept.
    record: bool,
    /// Who may see and watch it.
    visibility: Visibility,
    /// `idle` until somebody publishes, `live` while something is on the air, then `ended`; publishing again makes it `live` again.
    #[schema(example = "live")]
    state: &'static str,
    /// Where it is played, as long as it is live.
    playback_url: String,
    /// A picture of the broadcast, while it is live and when there is one; another address with each picture. Not given of a private
    /// stream, whose picture is asked for with its playback token.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    thumbnail_url: Option<String>,
    /// Who watches now.
    viewers: u32,
    /// The most who watched the broadcast at a time.
    viewers_peak: u32,
    /// When the broadcast began.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Moment>,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Moment>,
    /// When the stream was made.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// When its owner last changed it.
    #[serde(serialize_with = "instant::serialize")]
    updated_at: OffsetDateTime,
}

impl StreamBody {
    fn of(engine: &Engine, stream: Stream) -> StreamBody {
        // Here it is known to the second; the database hears every ten.
        let audience = engine.live.broadcasts.of(stream.id).filter(|_| stream.state == LifeState::Live);
        let (viewers, viewers_peak) = match &audience {
            Some(broadcast) => (broadcast.audience().count(), broadcast.audience().peak()),
            None => (stream.viewers, stream.viewers_peak),
        };
        let shown = audience.as_ref().filter(|_| !stream.is_private);
        let thumbnail = shown.and_then(|_| engine.live.thumbnails.of(stream.id));
        StreamBody {
            thumbnail_url: thumbnail.map(|thumbnail| {
                let at = thumbnail.at_unix_s;
                format!("{}/live/{}/thumbnail.jpg?at={at}", engine.public_url(), stream.id)
            }),
            playback_url: format!("{}/live/{}/index.m3u8", engine.public_url(), stream.id),
            id: stream.id.to_string(),
            owner: stream.owner.to_string(),
            title: stream.title,
            record: stream.record,
            visibility: if stream.is_private { Visibility::Private } else { Visibility::Public },
            state: stream.state.as_str(),
            viewers,
            viewers_peak,
            started_at: stream.started_at.map(Moment),
            ended_at: stream.ended_at.map(Moment),
            created_at: stream.created_at,
            updated_at: stream.updated_at,
        }
    }
}

/// A stream to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStreamBody {
    /// 1 to 140 characters.
    #[schema(min_length = 1, max_length = 140, example = "Friday session")]
    title: String,
    /// Whether broadcasts are kept.
    #[serde(default)]
    #[schema(default = false)]
    record: bool,
    /// Who may see and watch it; `public` unless said.
    visibility: Option<Visibility>,
}

/// Who may see a stream and watch it.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Visibility {
    /// Everybody; watching takes no account.
    Public,
    /// Its owner and whom the owner names (`PUT /v1/streams/{stream_id}/viewers/{user_id}`), with a playback token.
    Private,
}

/// A stream and how to publish to it.
#[derive(Serialize, ToSchema)]
pub(super) struct PublishBody {
    /// The stream.
    stream: StreamBody,
    /// Who has it publishes. It is shown this once and kept nowhere; `POST /v1/streams/{id}/key` makes another.
    #[schema(example = "live_mZ0mXbZJ0b1eX2yq3Yl0bqv5m2s")]
    stream_key: String,
    /// The server address for OBS and others that ask for address and key apart; with `/` and the key behind it, one for FFmpeg.
    #[schema(example = "rtmp://nova.example/live")]
    ingest_url: String,
}

/// An edit; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamEdit {
    /// 1 to 140 characters.
    #[schema(min_length = 1, max_length = 140)]
    title: Option<String>,
    /// Whether broadcasts are kept, from the next on.
    record: Option<bool>,
    /// Who may see and watch it, from now on.
    visibility: Option<Visibility>,
}

/// Which streams, and which page of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamsQuery {
    /// `live`: what is on the air, everybody's, newest first. Without it: the caller's own, whatever their state.
    #[param(nullable = false, inline)]
    state: Option<WantedState>,
    /// Where the page before ended.
    #[param(max_length = 512, nullable = false)]
    cursor: Option<String>,
    /// How many.
    #[serde(default)]
    #[param(value_type = u8, minimum = 1, maximum = 100, default = 25, required = false)]
    limit: Limit,
}

/// The state a list is of.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum WantedState {
    /// On the air.
    Live,
}

/// A place in the list of what is on the air.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct LivePlace(#[serde(with = "time::serde::rfc3339")] OffsetDateTime, StreamId);

impl Cursor for LivePlace {
    const LIST: &'static str = "live_streams";
}

/// A place in the list of one user's streams.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct OwnPlace(StreamId);

impl Cursor for OwnPlace {
    const LIST: &'static str = "own_streams";
}

/// Make a stream, and get its key.
#[utoipa::path(
    post, path = "/v1/streams", tag = "streams", security(("bearer" = [])), request_body = NewStreamBody,
    responses(
        (status = 201, description = "Made; the key is in this answer only", body = PublishBody),
        (status = 409, description = "`conflict`: the caller has as many streams as may be", body = Problem),
    )
)]
pub(super) async fn create(
    engine: web::Data<Engine>,
    caller: Caller,
    body: Json<NewStreamBody>,
) -> Result<HttpResponse, ApiError> {
    let title = title(&body.0.title)?;
    let (stream_key, key) = live::stream_key().map_err(|error| ApiError::internal(error.to_string()))?;
    let now = engine.clock.now();
    let is_private = body.0.visibility == Some(Visibility::Private);
    let new = NewStream {
        id: StreamId::new(now),
        owner: caller.user,
        title,
        record: body.0.record,
        is_private,
        key,
        now,
    };
    let stream = engine.store.add_stream(&new).await?;
    let location = format!("/v1/streams/{}", stream.id);
    let tag = ETag::of_version(stream.version);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, location))
        .insert_header((header::ETAG, tag.as_str()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(PublishBody {
            stream: StreamBody::of(&engine, stream),
            stream_key,
            ingest_url: engine.ingest_url(),
        }))
}

/// What is on the air, or one's own streams.
#[utoipa::path(
    get, path = "/v1/streams", tag = "streams", security(("bearer" = [])), params(StreamsQuery),
    responses((status = 200, description = "Streams, newest first", body = List<StreamBody>))
)]
pub(super) async fn list(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    query: Query<StreamsQuery>,
) -> Result<Json<List<StreamBody>>, ApiError> {
    let now = engine.clock.now();
    let Query(StreamsQuery { state, cursor, limit }) = query;
    let body = |stream| StreamBody::of(&engine, stream);
    Ok(Json(match state {
        Some(WantedState::Live) => {
            let page = Page::<LivePlace>::of(&request, cursor.as_deref(), limit)?;
            let after = page.after.map(|LivePlace(at, id)| (at, id));
            let rows = engine.store.live_streams(caller.user, after, page.rows(), now).await?;
            page.answer(rows, |row| LivePlace(row.started_at.unwrap_or(row.created_at), row.id), body)
        }
        None => {
            let page = Page::<OwnPlace>::of(&request, cursor.as_deref(), limit)?;
            let after = page.after.map(|OwnPlace(id)| id);
            let rows = engine.store.streams_of(caller.user, after, page.rows(), now).await?;
            page.answer(rows, |row| OwnPlace(row.id), body)
        }
    }))
}

/// One stream.
#[utoipa::path(
    get, path = "/v1/streams/{stream_id}", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "The stream; `ETag` names what its owner made it, not how it goes", body = StreamBody),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn read(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let stream = visible(&engine, &caller, &path.0).await?;
    Ok(answer(&engine, stream))
}

/// Edit one's own stream.
#[utoipa::path(
    patch, path = "/v1/streams/{stream_id}", tag = "streams", security(("bearer" = [])), request_body = StreamEdit,
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read; 412 when it is not the current one"),
    ),
    responses(
        (status = 200, description = "As it is now", body = StreamBody),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 412, description = "`precondition_failed`: it has changed since it was read", body = Problem),
    )
)]
pub(super) async fn edit(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    body: Json<StreamEdit>,
) -> Result<HttpResponse, ApiError> {
    let new_title = body.0.title.as_deref().map(title).transpose()?;
    let stream = own(&engine, &caller, &path.0).await?;
    let version = matched(&request, &stream)?;
    let now = engine.clock.now();
    let is_private = body.0.visibility.map(|visibility| visibility == Visibility::Private);
    let id = stream.id;
    let edit = store::StreamEdit { title: new_title, record: body.0.record, is_private };
    let edited = engine.store.edit_stream(id, caller.user, version, edit, now).await?;
    if let Some(is_private) = is_private {
        match engine.live.streams.existing(id) {
            // One that sleeps or dies meanwhile reads it when it is started again.
            Some(actor) => drop(actor.send(SetPrivate(is_private), TELL_LIMIT).await),
            None => engine.live.claims.tell(News::Changed(id)).await,
        }
    }
    Ok(answer(&engine, edited))
}

/// Delete one's own stream. Who publishes to it is sent away.
#[utoipa::path(
    delete, path = "/v1/streams/{stream_id}", tag = "streams", security(("bearer" = [])),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read; 412 when it is not the current one"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 412, description = "`precondition_failed`: it has changed since it was read", body = Problem),
    )
)]
pub(super) async fn delete(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let stream = own(&engine, &caller, &path.0).await?;
    let version = matched(&request, &stream)?;
    engine.store.delete_stream(stream.id, caller.user, version).await?;
    if let Some(actor) = engine.live.streams.existing(stream.id) {
        // One that sleeps or dies meanwhile finds nothing when it is started again.
        let _ = actor.send(Delete, TELL_LIMIT).await;
    } else {
        engine.live.claims.tell(News::Deleted(stream.id)).await;
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Replace the key of one's own stream. The old one is void at once; who publishes with it is sent away.
#[utoipa::path(
    post, path = "/v1/streams/{stream_id}/key", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "The new key, in this answer only", body = PublishBody),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn rotate_key(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let stream = own(&engine, &caller, &path.0).await?;
    let (stream_key, key) = live::stream_key().map_err(|error| ApiError::internal(error.to_string()))?;
    engine.store.set_stream_key(stream.id, caller.user, key, engine.clock.now()).await?;
    if let Some(actor) = engine.live.streams.existing(stream.id) {
        // One that sleeps or dies meanwhile reads the new key when it is started again.
        let _ = actor.send(ChangeKey(key), TELL_LIMIT).await;
    } else {
        engine.live.claims.tell(News::Changed(stream.id)).await;
    }
    let stream = find(&engine, &path.0).await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(PublishBody {
        stream: StreamBody::of(&engine, stream),
        stream_key,
        ingest_url: engine.ingest_url(),
    }))
}

async fn find(engine: &Engine, id: &str) -> Result<Stream, ApiError> {
    let id: StreamId = id.parse().map_err(|_| Code::NotFound)?;
    Ok(engine.store.stream(id, engine.clock.now()).await?.ok_or(Code::NotFound)?)
}

/// A stream this caller may see; for everybody else there is none.
pub(super) async fn visible(engine: &Engine, caller: &Caller, id: &str) -> Result<Stream, ApiError> {
    let stream = find(engine, id).await?;
    if stream.owner != caller.user && !engine.store.may_see_stream(stream.id, caller.user).await? {
        return Err(Code::NotFound.into());
    }
    Ok(stream)
}

pub(super) async fn own(engine: &Engine, caller: &Caller, id: &str) -> Result<Stream, ApiError> {
    let stream = visible(engine, caller, id).await?;
    if stream.owner != caller.user {
        return Err(ApiError::because(Code::Forbidden, "only its owner may do this"));
    }
    Ok(stream)
}

/// The version an edit is for, where the request says so.
fn matched(request: &HttpRequest, stream: &Stream) -> Result<Option<i64>, ApiError> {
    if !request.headers().contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    ETag::of_version(stream.version).check(request)?;
    Ok(Some(stream.version))
}

fn answer(engine: &Engine, stream: Stream) -> HttpResponse {
    let tag = ETag::of_version(stream.version);
    HttpResponse::Ok()
        .insert_header((header::ETAG, tag.as_str()))
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(StreamBody::of(engine, stream))
}

/// A title as it may be shown.
fn title(typed: &str) -> Result<&str, ApiError> {
    let title = typed.trim();
    let fits = (1..=TITLE_CHARS_MAX).contains(&title.chars().count());
    if !fits || title.chars().any(char::is_control) {
        return Err(ApiError::field(
            "title",
            format!("must have 1 to {TITLE_CHARS_MAX} characters in one line"),
        ));
    }
    Ok(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_line_that_fits() {
        assert_eq!(title("  Friday  ").expect("fits"), "Friday");
        assert_eq!(title(&"é".repeat(140)).expect("characters, not bytes").chars().count(), 140);
        for odd in ["", "   ", "a\nb", "a\0b", &"x".repeat(141)] {
            assert!(title(odd).is_err(), "{odd:?}");
        }
    }
}
