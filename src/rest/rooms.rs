//! `/v1/rooms`: group calls. Who is in one is told over the WebSocket.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use nova_actors::id::{ConversationId, RoomId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Json, Path, instant};
use crate::app::Engine;
use crate::calls::{RoomError, Shown};
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;

const TITLE_CHARS_MAX: usize = 140;

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> ApiError {
        let code = match error {
            RoomError::Overloaded => Code::Overloaded,
            RoomError::TooMany => Code::Conflict,
            RoomError::NotFound => Code::NotFound,
            RoomError::NotYours => Code::Forbidden,
        };
        ApiError::because(code, error.to_string())
    }
}

/// A call in a conversation.
#[derive(Serialize, ToSchema)]
#[schema(as = Call)]
pub(super) struct CallBody {
    /// TypeID `call_…`.
    #[schema(example = "call_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Where people meet: TypeID `room_…`, for `room.join`.
    room: String,
    /// Who called: TypeID `user_…`.
    caller: String,
    /// What it began with: `audio` or `video`.
    #[schema(example = "video")]
    media: &'static str,
    /// `ringing` or `active`.
    #[schema(example = "active")]
    state: &'static str,
    /// When it began to ring.
    #[serde(serialize_with = "instant::serialize")]
    started_at: OffsetDateTime,
}

/// The call that goes on in a conversation.
///
/// Calls begin, are answered and declined over the WebSocket: `call.start` and its kin.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation}/call", tag = "calls", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`")),
    responses(
        (status = 200, description = "The call", body = CallBody),
        (status = 403, description = "`not_a_member`", body = Problem),
        (status = 404, description = "`not_found`: no call goes on", body = Problem),
    )
)]
pub(super) async fn call(
    engine: web::Data<Engine>,
    caller: Caller,
    conversation: Path<ConversationId>,
) -> Result<Json<CallBody>, ApiError> {
    engine.conversations.role(conversation.0, caller.user).await?;
    let call = engine.store.running_call(conversation.0).await?.ok_or(Code::NotFound)?;
    Ok(Json(CallBody {
        id: call.id.to_string(),
        room: call.room.to_string(),
        caller: call.caller.to_string(),
        media: call.media.as_str(),
        state: call.state.as_str(),
        started_at: call.started_at,
    }))
}

/// A room.
#[derive(Serialize, ToSchema)]
#[schema(as = Room)]
pub(super) struct RoomBody {
    /// TypeID `room_…`. Whoever knows it may join with `room.join` over the WebSocket, until the host locks the room.
    #[schema(example = "room_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Who made it, and decides about others in it: TypeID `user_…`.
    host: String,
    /// What it is about.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Whether nobody may come any more.
    locked: bool,
    /// How many are there.
    participants: usize,
}

impl From<Shown> for RoomBody {
    fn from(room: Shown) -> RoomBody {
        RoomBody {
            id: room.id.to_string(),
            host: room.owner.to_string(),
            title: room.title,
            locked: room.locked,
            participants: room.participants,
        }
    }
}

/// A room to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRoomBody {
    /// 1 to 140 characters.
    #[schema(min_length = 1, max_length = 140, example = "Monday's round")]
    title: Option<String>,
}

/// Make a room for a call.
///
/// It lives on this node, and ends ten minutes after the last has left.
#[utoipa::path(
    post, path = "/v1/rooms", tag = "calls", security(("bearer" = [])), request_body = NewRoomBody,
    responses(
        (status = 201, description = "Made", body = RoomBody),
        (status = 409, description = "`conflict`: the caller has as many rooms as may be", body = Problem),
    )
)]
pub(super) async fn create(
    engine: web::Data<Engine>,
    caller: Caller,
    body: Json<NewRoomBody>,
) -> Result<HttpResponse, ApiError> {
    let title = body.0.title;
    if title.as_ref().is_some_and(|title| !(1..=TITLE_CHARS_MAX).contains(&title.chars().count())) {
        return Err(ApiError::field("title", format!("must have 1 to {TITLE_CHARS_MAX} characters")));
    }
    let room = engine.calls.create(caller.user, title)?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/rooms/{}", room.id)))
        .json(RoomBody::from(room)))
}

/// A room.
#[utoipa::path(
    get, path = "/v1/rooms/{room}", tag = "calls", security(("bearer" = [])),
    params(("room" = String, Path, description = "TypeID `room_…`")),
    responses(
        (status = 200, description = "The room", body = RoomBody),
        (status = 404, description = "`not_found`: there is none, or it has ended", body = Problem),
    )
)]
pub(super) async fn read(
    engine: web::Data<Engine>,
    _caller: Caller,
    room: Path<RoomId>,
) -> Result<Json<RoomBody>, ApiError> {
    Ok(Json(engine.calls.room(room.0)?.into()))
}

/// End a room; everybody in it hears so.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}", tag = "calls", security(("bearer" = [])),
    params(("room" = String, Path, description = "TypeID `room_…`")),
    responses(
        (status = 204, description = "Ended"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`: there is none, or it has ended", body = Problem),
    )
)]
pub(super) async fn delete(
    engine: web::Data<Engine>,
    caller: Caller,
    room: Path<RoomId>,
) -> Result<HttpResponse, ApiError> {
    engine.calls.delete(room.0, caller.user).await?;
    Ok(HttpResponse::NoContent().finish())
}
