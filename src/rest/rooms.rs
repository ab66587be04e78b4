//! `/v1/rooms`: group calls. Who is in one is told over the WebSocket.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use nova_actors::id::{ConversationId, RoomId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Json, Path, instant};
use crate::app::Engine;
use crate::calls::{NewRoom, RoomError, Shown};
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;

const TITLE_CHARS_MAX: usize = 140;
const PARTICIPANTS_MAX: u32 = 1_000;

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> ApiError {
        let code = match error {
            RoomError::Store(error) => return error.into(),
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
    /// TypeID `room_…`. Whoever knows it may join with `room.join` over the WebSocket, until the host locks the room; in a room of a
    /// conversation its members.
    #[schema(example = "room_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Who made it, and decides about others in it: TypeID `user_…`.
    host: String,
    /// What it is about.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// Only members of this conversation come in: TypeID `conv_…`.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<String>,
    /// Whether nobody may come any more.
    locked: bool,
    /// Whether newcomers wait until a host lets them in.
    lobby: bool,
    /// How many may be there.
    max_participants: usize,
    /// How many are there.
    participants: usize,
}

impl From<Shown> for RoomBody {
    fn from(room: Shown) -> RoomBody {
        RoomBody {
            id: room.id.to_string(),
            host: room.owner.to_string(),
            title: room.title,
            conversation_id: room.conversation.map(|id| id.to_string()),
            locked: room.locked,
            lobby: room.lobby,
            max_participants: room.participants_max,
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
    /// TypeID `conv_…`: only members of this conversation come in. The caller has to be one.
    #[schema(value_type = Option<String>, example = "conv_01h455vb4pex5vsknk084sn02q")]
    conversation_id: Option<ConversationId>,
    /// How many may be there; never more than the engine allows, which is 100 unless configured otherwise.
    #[schema(minimum = 1, maximum = 1000)]
    max_participants: Option<u32>,
    /// Whether newcomers wait until a host lets them in.
    lobby: Option<bool>,
}

/// Make a room for a call.
///
/// It is opened on the node of whoever comes first, and ends ten minutes after the last has left, or when nobody has come for an hour.
#[utoipa::path(
    post, path = "/v1/rooms", tag = "calls", security(("bearer" = [])), request_body = NewRoomBody,
    responses(
        (status = 201, description = "Made", body = RoomBody),
        (status = 403, description = "`not_a_member` of the conversation", body = Problem),
        (status = 409, description = "`conflict`: the caller has as many rooms as may be", body = Problem),
    )
)]
pub(super) async fn create(
    engine: web::Data<Engine>,
    caller: Caller,
    body: Json<NewRoomBody>,
) -> Result<HttpResponse, ApiError> {
    let NewRoomBody { title, conversation_id: conversation, max_participants: participants_max, lobby } =
        body.0;
    if title.as_ref().is_some_and(|title| !(1..=TITLE_CHARS_MAX).contains(&title.chars().count())) {
        return Err(ApiError::field("title", format!("must have 1 to {TITLE_CHARS_MAX} characters")));
    }
    if participants_max.is_some_and(|most| !(1..=PARTICIPANTS_MAX).contains(&most)) {
        return Err(ApiError::field("max_participants", format!("must be from 1 to {PARTICIPANTS_MAX}")));
    }
    if let Some(conversation) = conversation {
        engine.conversations.role(conversation, caller.user).await?;
    }
    let lobby = lobby.unwrap_or_default();
    let room = NewRoom { owner: caller.user, title, conversation, lobby, participants_max };
    let room = engine.calls.create(room).await?;
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
    Ok(Json(engine.calls.room(room.0).await?.into()))
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
