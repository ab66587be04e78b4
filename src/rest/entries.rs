//! `/v1/conversations/{conversation}/entries` and `/messages`: reading the log, and writing to it.

use std::sync::Arc;

use actix_web::web;
use nova_actors::conversation::{Appended, Entry};
use nova_actors::id::{ConversationId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::page::Limit;
use super::{Json, Path, Query, instant};
use crate::conversations::Conversations;
use crate::conversations::draft::{
    Attachment, AttachmentText, Draft, Location, Message, MessageKind, Movement,
};
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::store::entries::Which;

/// One line of a conversation's log.
#[derive(Serialize, ToSchema)]
pub(super) struct EntryView {
    /// TypeID `conv_…`.
    #[schema(value_type = String)]
    conversation: ConversationId,
    /// Which history its number belongs to.
    epoch: u32,
    /// Its number.
    seq: u64,
    /// `message`, `edit`, `delete`, `reaction`, `member`, `call`, `live` or `title`.
    #[schema(example = "message")]
    kind: &'static str,
    /// Who made it.
    #[schema(value_type = String)]
    sender: UserId,
    /// When it was committed.
    #[serde(serialize_with = "instant::serialize")]
    at: OffsetDateTime,
    /// The id its sender gave it.
    #[schema(value_type = String)]
    client_msg_id: Arc<str>,
    /// Of a message: what was sent, `edited` (the entry that changed it last), `deleted` (the entry that took it back; nothing else is left),
    /// or `hidden` where the reader is not shown it. Of an edit, a delete, a reaction: its `target` and what it does.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> EntryView {
        let body = RawValue::from_string(entry.body.as_ref().to_owned());
        EntryView {
            conversation: entry.conversation,
            epoch: entry.epoch,
            seq: entry.seq,
            kind: entry.kind.as_str(),
            sender: entry.sender,
            at: entry.at,
            client_msg_id: entry.client_msg_id,
            body: body.expect("a body is written as JSON by us or by PostgreSQL"),
        }
    }
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EntriesQuery {
    /// Entries after this number, oldest first.
    #[param(nullable = false)]
    after: Option<u64>,
    /// Entries before this number, newest first. Without either: the newest first.
    #[param(nullable = false)]
    before: Option<u64>,
    /// Entries on the page, 1 to 100; 25 when left out.
    #[serde(default)]
    #[param(value_type = u8, minimum = 1, maximum = 100, default = 25, required = false)]
    limit: Limit,
}

/// Entries of a conversation.
#[derive(Serialize, ToSchema)]
pub(super) struct Entries {
    /// The entries, in the order that was asked for. Fewer than `limit` are the last there are that way.
    items: Vec<EntryView>,
}

/// Entries of a conversation: its history, page by page.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation}/entries", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`"), EntriesQuery),
    responses(
        (status = 200, description = "The entries", body = Entries),
        (status = 403, description = "`not_a_member`", body = Problem),
    )
)]
pub(super) async fn entries(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
    query: Query<EntriesQuery>,
) -> Result<web::Json<Entries>, ApiError> {
    let which = match (query.0.after, query.0.before) {
        (Some(_), Some(_)) => {
            return Err(
                ApiError::field("after", "and `before` exclude each other").with_code(Code::InvalidQuery)
            );
        }
        (Some(after), None) => Which::After(after),
        (None, before) => Which::Before(before.unwrap_or(u64::MAX)),
    };
    let limit = i64::from(query.0.limit.get());
    let entries = conversations.entries(path.0, caller.user, which, limit).await?;
    Ok(web::Json(Entries { items: entries.into_iter().map(EntryView::from).collect() }))
}

/// A message to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// The client's own name of it: the same with every attempt, another for every message.
    #[schema(min_length = 1, max_length = 64)]
    client_msg_id: String,
    /// What was written.
    #[serde(default)]
    #[schema(max_length = 32768, nullable = false)]
    text: Option<String>,
    /// What it is where its parts do not say.
    #[serde(default)]
    #[schema(nullable = false)]
    kind: Option<MessageKind>,
    /// The message this answers, by number.
    #[serde(default)]
    #[schema(minimum = 1, nullable = false)]
    reply_to: Option<u64>,
    /// Who is named in it.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 100)]
    mentions: Vec<UserId>,
    /// What it carries.
    #[serde(default)]
    #[schema(value_type = Vec<AttachmentText>, max_items = 20)]
    attachments: Vec<Attachment>,
    /// A place.
    #[serde(default)]
    #[schema(nullable = false)]
    location: Option<Location>,
}

/// A message that stands in the log.
#[derive(Serialize, ToSchema)]
pub(super) struct Sent {
    /// TypeID `conv_…`.
    #[schema(value_type = String)]
    conversation: ConversationId,
    /// The client's own name of it.
    client_msg_id: String,
    /// Which history its number belongs to.
    epoch: u32,
    /// Its number.
    seq: u64,
    /// When it was committed.
    #[serde(serialize_with = "instant::serialize")]
    at: OffsetDateTime,
    /// It had been sent before, and this is where.
    duplicate: bool,
}

impl Sent {
    fn new(conversation: ConversationId, client_msg_id: String, appended: &Appended) -> Sent {
        let Appended { epoch, seq, at, duplicate } = *appended;
        Sent { conversation, client_msg_id, epoch, seq, at, duplicate }
    }
}

/// Sends a message; answered when it is durable. Sent again with the same `client_msg_id` and content it is the same message.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation}/messages", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`")), request_body = NewMessage,
    responses(
        (status = 201, description = "It stands in the log", body = Sent),
        (status = 200, description = "It stood there before", body = Sent),
        (status = 403, description = "`not_a_member`, `unreachable`: one has blocked the other, `timed_out`: by a moderator of this chat", body = Problem),
        (status = 429, description = "`slow_mode`: too soon after the message before, in the chat of a stream", body = Problem),
        (status = 404, description = "`no_such_target`: what it answers is not there", body = Problem),
        (status = 422, description = "`idempotency_mismatch`: this `client_msg_id` was another message, `invalid_fields`", body = Problem),
        (status = 503, description = "`overloaded`, `unavailable`: send it again, with the same `client_msg_id`", body = Problem),
    )
)]
pub(super) async fn send(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
    body: Json<NewMessage>,
) -> Result<actix_web::HttpResponse, ApiError> {
    let NewMessage { client_msg_id, text, kind, reply_to, mentions, attachments, location } = body.0;
    let message = Message { text, kind, reply_to, mentions, attachments, location };
    let sent = conversations.send(path.0, caller.user, &client_msg_id, &Draft::Message(message)).await?;
    let mut response =
        if sent.duplicate { actix_web::HttpResponse::Ok() } else { actix_web::HttpResponse::Created() };
    Ok(response.json(Sent::new(path.0, client_msg_id, &sent)))
}

/// Another text for a message, or where its live position has moved to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditMessage {
    /// The client's own name of this change.
    #[schema(min_length = 1, max_length = 64)]
    client_msg_id: String,
    /// The text.
    #[serde(default)]
    #[schema(max_length = 32768, nullable = false)]
    text: Option<String>,
    /// In its place: where a live position has moved to, or `{"ended": true}`. For whom and until when it is shown stays as it was.
    #[serde(default)]
    #[schema(nullable = false)]
    location: Option<Movement>,
}

/// Changes the text of a message the caller sent, or moves or ends its live position; the change is an entry of its own.
#[utoipa::path(
    patch, path = "/v1/conversations/{conversation}/messages/{seq}", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = String, Path, description = "TypeID `conv_…`"),
        ("seq" = u64, Path, description = "The number of the message"),
    ),
    request_body = EditMessage,
    responses(
        (status = 200, description = "The entry that changed it", body = Sent),
        (status = 403, description = "`not_a_member`, `not_yours`, `unreachable`", body = Problem),
        (status = 404, description = "`no_such_target`, also: its live position has ended", body = Problem),
        (status = 409, description = "`target_deleted`", body = Problem),
    )
)]
pub(super) async fn edit(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(ConversationId, u64)>,
    body: Json<EditMessage>,
) -> Result<web::Json<Sent>, ApiError> {
    let Path((id, target)) = path;
    let EditMessage { client_msg_id, text, location } = body.0;
    let draft = Draft::edit(target, text, location)?;
    let sent = conversations.send(id, caller.user, &client_msg_id, &draft).await?;
    Ok(web::Json(Sent::new(id, client_msg_id, &sent)))
}

/// Takes a message back: the caller's own, or as an administrator anybody's. Its text is gone from everything that is read from then on. The
/// deletion is an entry of its own; deleting again finds that entry.
#[utoipa::path(
    delete, path = "/v1/conversations/{conversation}/messages/{seq}", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = String, Path, description = "TypeID `conv_…`"),
        ("seq" = u64, Path, description = "The number of the message"),
    ),
    responses(
        (status = 200, description = "The entry that took it back", body = Sent),
        (status = 403, description = "`not_a_member`, `not_yours`, `unreachable`", body = Problem),
        (status = 404, description = "`no_such_target`", body = Problem),
        (status = 409, description = "`target_deleted`: by somebody else", body = Problem),
    )
)]
pub(super) async fn delete(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(ConversationId, u64)>,
) -> Result<web::Json<Sent>, ApiError> {
    let Path((id, target)) = path;
    // A message is deleted once: its number is all the key a repetition needs.
    let client_msg_id = format!("delete-{target}");
    let sent = conversations.send(id, caller.user, &client_msg_id, &Draft::Delete { target }).await?;
    Ok(web::Json(Sent::new(id, client_msg_id, &sent)))
}
