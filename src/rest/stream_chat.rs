//! `/v1/streams/{stream_id}/chat`: the chat beside a stream, and who moderates it.
//!
//! What is said in it is read and written as in any conversation, without being a member.

use actix_web::{HttpResponse, web};
use nova_actors::id::{ConversationId, StreamId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Json, Path, instant};
use crate::conversations::Conversations;
use crate::conversations::stream_chat::{SLOW_MODE_MAX_S, TIME_OUT_MAX_S};
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::store::stream_chats::StreamChat;

/// The chat of a stream.
#[derive(Serialize, ToSchema)]
pub(super) struct StreamChatView {
    /// Where it is said: TypeID `conv_…`.
    #[schema(value_type = String)]
    conversation: ConversationId,
    /// Seconds people wait between two messages; 0 for none.
    slow_mode_s: i32,
    /// The newest entry's number.
    last_seq: u64,
    /// Whether the caller moderates it; the owner of the stream does.
    is_moderator: bool,
    /// Until when the caller may not write.
    #[serde(with = "instant::option", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timed_out_until: Option<OffsetDateTime>,
}

impl From<StreamChat> for StreamChatView {
    fn from(chat: StreamChat) -> StreamChatView {
        StreamChatView {
            conversation: chat.conversation,
            slow_mode_s: chat.slow_mode_s,
            last_seq: chat.top,
            is_moderator: chat.is_moderator,
            timed_out_until: chat.muted_until,
        }
    }
}

/// What moderators decide.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamChatEdit {
    /// Seconds between two messages of one person, 0 to 3600.
    #[schema(minimum = 0, maximum = 3600)]
    slow_mode_s: i32,
}

/// For how long.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeOut {
    /// 1 to 1209600, two weeks.
    #[schema(minimum = 1, maximum = 1209600)]
    seconds: i64,
}

/// Until when.
#[derive(Serialize, ToSchema)]
pub(super) struct TimedOut {
    /// Who.
    #[schema(value_type = String)]
    user: UserId,
    /// Then they may write again.
    #[serde(serialize_with = "instant::serialize")]
    until: OffsetDateTime,
}

/// Who moderates beside the owner.
#[derive(Serialize, ToSchema)]
pub(super) struct Moderators {
    /// At most 100.
    #[schema(value_type = Vec<String>)]
    items: Vec<UserId>,
}

fn stream(id: &str) -> Result<StreamId, ApiError> {
    Ok(id.parse().map_err(|_| Code::NotFound)?)
}

fn user(id: &str) -> Result<UserId, ApiError> {
    Ok(id.parse().map_err(|_| Code::NotFound)?)
}

/// The chat beside a stream.
#[utoipa::path(
    get, path = "/v1/streams/{stream_id}/chat", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "The chat", body = StreamChatView),
        (status = 404, description = "`not_found`: no such stream, or a block is between its owner and the caller", body = Problem),
    )
)]
pub(super) async fn chat(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<String>,
) -> Result<web::Json<StreamChatView>, ApiError> {
    let chat = conversations.stream_chat(stream(&path.0)?, caller.user).await?;
    Ok(web::Json(chat.into()))
}

/// Slows the chat beside a stream down, or lets it go again.
#[utoipa::path(
    patch, path = "/v1/streams/{stream_id}/chat", tag = "streams", security(("bearer" = [])), request_body = StreamChatEdit,
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "As it is now", body = StreamChatView),
        (status = 403, description = "`forbidden`: the caller does not moderate it", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn edit(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<String>,
    body: Json<StreamChatEdit>,
) -> Result<web::Json<StreamChatView>, ApiError> {
    let seconds = body.0.slow_mode_s;
    if !(0..=SLOW_MODE_MAX_S).contains(&seconds) {
        return Err(ApiError::field("slow_mode_s", format!("must be 0 to {SLOW_MODE_MAX_S}")));
    }
    let chat = conversations.slow_mode(stream(&path.0)?, caller.user, seconds).await?;
    Ok(web::Json(chat.into()))
}

/// Who moderates the chat beside a stream.
#[utoipa::path(
    get, path = "/v1/streams/{stream_id}/chat/moderators", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "Those whom the owner appointed", body = Moderators),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn moderators(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<String>,
) -> Result<web::Json<Moderators>, ApiError> {
    let items = conversations.moderators(stream(&path.0)?, caller.user).await?;
    Ok(web::Json(Moderators { items }))
}

/// Appoints somebody to moderate the chat beside one's own stream.
#[utoipa::path(
    put, path = "/v1/streams/{stream_id}/chat/moderators/{user}", tag = "streams", security(("bearer" = [])),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("user" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 204, description = "They moderate it"),
        (status = 403, description = "`forbidden`: it is somebody else's stream", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 409, description = "`conflict`: it is the owner, or there are as many moderators as may be", body = Problem),
        (status = 422, description = "`no_such_user`", body = Problem),
    )
)]
pub(super) async fn appoint(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (stream, user) = (stream(&path.0.0)?, user(&path.0.1)?);
    conversations.moderator(stream, caller.user, user, true).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Somebody moderates the chat beside one's own stream no longer.
#[utoipa::path(
    delete, path = "/v1/streams/{stream_id}/chat/moderators/{user}", tag = "streams", security(("bearer" = [])),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("user" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 204, description = "They do not moderate it"),
        (status = 403, description = "`forbidden`: it is somebody else's stream", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 409, description = "`conflict`: it is the owner", body = Problem),
    )
)]
pub(super) async fn dismiss(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (stream, user) = (stream(&path.0.0)?, user(&path.0.1)?);
    conversations.moderator(stream, caller.user, user, false).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Keeps somebody from writing in the chat beside a stream for a while.
#[utoipa::path(
    put, path = "/v1/streams/{stream_id}/chat/timeouts/{user}", tag = "streams", security(("bearer" = [])), request_body = TimeOut,
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("user" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 200, description = "Until when", body = TimedOut),
        (status = 403, description = "`forbidden`: the caller does not moderate it; `role_too_low`: not the owner, and moderators only by the owner", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 422, description = "`no_such_user`, `invalid_fields`", body = Problem),
    )
)]
pub(super) async fn time_out(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(String, String)>,
    body: Json<TimeOut>,
) -> Result<web::Json<TimedOut>, ApiError> {
    let seconds = body.0.seconds;
    if !(1..=TIME_OUT_MAX_S).contains(&seconds) {
        return Err(ApiError::field("seconds", format!("must be 1 to {TIME_OUT_MAX_S}")));
    }
    let (stream, user) = (stream(&path.0.0)?, user(&path.0.1)?);
    let until = conversations.time_out(stream, caller.user, user, Some(seconds)).await?;
    let until = until.ok_or_else(|| ApiError::internal("a time-out without an end"))?;
    Ok(web::Json(TimedOut { user, until }))
}

/// Lets somebody write again in the chat beside a stream.
#[utoipa::path(
    delete, path = "/v1/streams/{stream_id}/chat/timeouts/{user}", tag = "streams", security(("bearer" = [])),
    params(
        ("stream_id" = String, Path, description = "TypeID `stream_…`"),
        ("user" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 204, description = "They may write"),
        (status = 403, description = "`forbidden`: the caller does not moderate it", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 422, description = "`no_such_user`", body = Problem),
    )
)]
pub(super) async fn let_write(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (stream, user) = (stream(&path.0.0)?, user(&path.0.1)?);
    conversations.time_out(stream, caller.user, user, None).await?;
    Ok(HttpResponse::NoContent().finish())
}
