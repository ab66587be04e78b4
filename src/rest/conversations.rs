//! `/v1/conversations`: the inbox, direct conversations and groups.

use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::{ConversationId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::entries::EntryView;
use super::{Cursor, ETag, Json, List, PageQuery, Path, Query, instant};
use crate::app::Engine;
use crate::conversations::Conversations;
use crate::error::{ApiError, Problem};
use crate::identity::Caller;
use crate::store::conversations::{Conversation, Edit};

/// A conversation as the caller sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct ConversationView {
    /// TypeID `conv_…`.
    #[schema(example = "conv_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// `direct`, `group` or `live`.
    #[schema(example = "direct")]
    kind: &'static str,
    /// What a group is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    title: Option<String>,
    /// The other one of a direct conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    peer: Option<UserId>,
    /// Which history the numbers belong to; changes only when history was lost.
    epoch: u32,
    /// The number of the newest entry.
    last_seq: u64,
    /// How far the caller has read.
    read_seq: u64,
    /// The caller joined after this entry.
    joined_seq: u64,
    /// Entries the caller has not read.
    unread: u64,
    /// The caller's role: `owner`, `admin` or `member`.
    #[schema(example = "member")]
    role: &'static str,
    /// Until when the caller wants no notifications from it.
    #[serde(skip_serializing_if = "Option::is_none", with = "instant::option")]
    #[schema(nullable = false)]
    muted_until: Option<OffsetDateTime>,
    /// How long entries are kept, in seconds; for ever when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retention_s: Option<i64>,
    /// When it was made.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// When its newest entry was written.
    #[serde(serialize_with = "instant::serialize")]
    last_at: OffsetDateTime,
    /// The newest entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_entry: Option<EntryView>,
}

impl From<Conversation> for ConversationView {
    fn from(conversation: Conversation) -> ConversationView {
        ConversationView {
            id: conversation.id.to_string(),
            kind: conversation.kind.as_str(),
            peer: conversation.peer,
            epoch: conversation.epoch,
            last_seq: conversation.last_seq,
            read_seq: conversation.read_seq,
            joined_seq: conversation.joined_seq,
            unread: conversation.unread(),
            role: conversation.role.as_str(),
            muted_until: conversation.muted_until,
            retention_s: conversation.retention_s,
            created_at: conversation.created_at,
            last_at: conversation.last_at,
            last_entry: conversation.last_entry.map(EntryView::from),
            title: conversation.title,
        }
    }
}

/// Where the inbox goes on.
#[derive(Serialize, Deserialize)]
struct InboxCursor(i128, ConversationId);

impl Cursor for InboxCursor {
    const LIST: &'static str = "inbox";
}

/// Which conversation to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NewKind {
    /// With one other person: the same pair has one.
    Direct,
    /// With any number.
    Group,
}

/// A conversation to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewConversation {
    /// Direct or group.
    kind: NewKind,
    /// The others: one for a direct conversation, at most 1,000 for a group.
    #[schema(value_type = Vec<String>, max_items = 1000)]
    members: Vec<UserId>,
    /// What a group is called.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    title: Option<String>,
}

/// Begins a conversation. The same two people have one direct conversation: asked for again, it is answered with 200.
#[utoipa::path(
    post, path = "/v1/conversations", tag = "conversations", security(("bearer" = [])), request_body = NewConversation,
    responses(
        (status = 201, description = "Begun", body = ConversationView),
        (status = 200, description = "These two have it already", body = ConversationView),
        (status = 403, description = "`unreachable`: one has blocked the other", body = Problem),
        (status = 422, description = "`no_such_user`, `invalid_fields`", body = Problem),
    )
)]
pub(super) async fn create(
    caller: Caller,
    conversations: web::Data<Conversations>,
    body: Json<NewConversation>,
) -> Result<HttpResponse, ApiError> {
    let Json(new) = body;
    let (conversation, made) = match (new.kind, new.members.as_slice()) {
        (NewKind::Direct, [other]) if new.title.is_none() => {
            conversations.direct(caller.user, *other).await?
        }
        (NewKind::Direct, [_]) => return Err(ApiError::field("title", "is for groups")),
        (NewKind::Direct, _) => {
            return Err(ApiError::field("members", "must be one for a direct conversation"));
        }
        (NewKind::Group, others) => {
            (conversations.group(caller.user, others, new.title.as_deref()).await?, true)
        }
    };
    let mut response = if made { HttpResponse::Created() } else { HttpResponse::Ok() };
    response.insert_header(("etag", ETag::of_version(conversation.version).as_str()));
    if made {
        response.insert_header(("location", format!("/v1/conversations/{}", conversation.id)));
    }
    Ok(response.json(ConversationView::from(conversation)))
}

/// The caller's conversations with their newest entries, the latest first.
#[utoipa::path(
    get, path = "/v1/conversations", tag = "conversations", security(("bearer" = [])), params(PageQuery),
    responses((status = 200, description = "A page of the inbox", body = List<ConversationView>))
)]
pub(super) async fn inbox(
    request: HttpRequest,
    caller: Caller,
    conversations: web::Data<Conversations>,
    query: Query<PageQuery>,
) -> Result<web::Json<List<ConversationView>>, ApiError> {
    let page = query.0.page::<InboxCursor>(&request)?;
    let after = match &page.after {
        Some(InboxCursor(at, id)) => {
            let at = OffsetDateTime::from_unix_timestamp_nanos(*at).map_err(ApiError::internal)?;
            Some((at, *id))
        }
        None => None,
    };
    let rows = conversations.inbox(caller.user, after, page.rows()).await?;
    let key = |row: &Conversation| InboxCursor(row.last_at.unix_timestamp_nanos(), row.id);
    Ok(web::Json(page.answer(rows, key, ConversationView::from)))
}

/// One conversation.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation}", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`")),
    responses(
        (status = 200, description = "The conversation; `ETag` names the version `PATCH` asks for", body = ConversationView),
        (status = 403, description = "`not_a_member`", body = Problem),
    )
)]
pub(super) async fn conversation(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
) -> Result<HttpResponse, ApiError> {
    Ok(answer(conversations.conversation(path.0, caller.user).await?))
}

/// What is to be changed; what is left out stays, `null` takes away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditConversation {
    /// What the group is called: one line, not only spaces.
    #[serde(default, deserialize_with = "given")]
    #[schema(required = false, value_type = Option<String>, min_length = 1, max_length = 100)]
    title: Option<Option<String>>,
    /// How long entries are kept, in seconds, at least a minute.
    #[serde(default, deserialize_with = "given")]
    #[schema(required = false, value_type = Option<i64>, minimum = 60)]
    retention_s: Option<Option<i64>>,
}

/// Tells `null` from absent.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// The shortest retention: shorter than a sweep it would promise what is not kept.
const RETENTION_S_MIN: i64 = 60;

/// Changes a group: its title, how long it keeps entries. For administrators. A `title` entry tells of it.
#[utoipa::path(
    patch, path = "/v1/conversations/{conversation}", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = String, Path, description = "TypeID `conv_…`"),
        ("If-Match" = Option<String>, Header, description = "The version the caller has seen; without it the change is made in any case"),
    ),
    request_body = EditConversation,
    responses(
        (status = 200, description = "Changed", body = ConversationView),
        (status = 403, description = "`not_a_member`, `role_too_low`", body = Problem),
        (status = 409, description = "`conflict`: not a group", body = Problem),
        (status = 412, description = "`precondition_failed`", body = Problem),
    )
)]
pub(super) async fn edit(
    request: HttpRequest,
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
    body: Json<EditConversation>,
) -> Result<HttpResponse, ApiError> {
    let Json(edit) = body;
    if edit.retention_s.flatten().is_some_and(|seconds| seconds < RETENTION_S_MIN) {
        return Err(ApiError::field("retention_s", format!("must be at least {RETENTION_S_MIN}")));
    }
    if let Some(Some(title)) = &edit.title {
        crate::conversations::draft::check_title(title)?;
    }
    let seen = conversations.conversation(path.0, caller.user).await?;
    // The store compares again under the lock: what If-Match was checked against here is what it must still be there.
    let version = request.headers().contains_key("if-match").then_some(seen.version);
    ETag::of_version(seen.version).check(&request)?;
    let change = Edit {
        title: edit.title.as_ref().map(|title| title.as_deref()),
        retention_s: edit.retention_s,
        version,
    };
    Ok(answer(conversations.edit(path.0, caller.user, change).await?))
}

/// Until when to be left alone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mute {
    /// Until then; for good when left out.
    #[serde(default, deserialize_with = "instant::option::deserialize")]
    until: Option<OffsetDateTime>,
}

/// No notifications from this conversation.
#[utoipa::path(
    put, path = "/v1/conversations/{conversation}/mute", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`")), request_body = Mute,
    responses(
        (status = 204, description = "Muted"),
        (status = 403, description = "`not_a_member`", body = Problem),
    )
)]
pub(super) async fn mute(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
    body: Json<Mute>,
) -> Result<HttpResponse, ApiError> {
    let for_good = time::macros::datetime!(9999-01-01 00:00 UTC);
    conversations.mute(path.0, caller.user, Some(body.0.until.unwrap_or(for_good))).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Notifications from this conversation again.
#[utoipa::path(
    delete, path = "/v1/conversations/{conversation}/mute", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`")),
    responses(
        (status = 204, description = "Not muted"),
        (status = 403, description = "`not_a_member`", body = Problem),
    )
)]
pub(super) async fn unmute(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
) -> Result<HttpResponse, ApiError> {
    conversations.mute(path.0, caller.user, None).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// How far the caller has read.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadUpTo {
    /// The number of the last entry that was read.
    seq: u64,
}

/// The caller has read up to here; it never goes back. The answer says how far they have read now.
#[utoipa::path(
    put, path = "/v1/conversations/{conversation}/read", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`")), request_body = ReadUpTo,
    responses(
        (status = 200, description = "How far the caller has read now", body = ReadUpTo),
        (status = 403, description = "`not_a_member`", body = Problem),
    )
)]
pub(super) async fn read(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
    body: Json<ReadUpTo>,
) -> Result<web::Json<ReadUpTo>, ApiError> {
    let seq = conversations.read(path.0, caller.user, body.0.seq).await?;
    Ok(web::Json(ReadUpTo { seq }))
}

/// Wants nothing to do with somebody: neither writes to the other any more, and their direct conversation leaves both inboxes.
#[utoipa::path(
    put, path = "/v1/users/{user}/block", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`")),
    responses(
        (status = 204, description = "Blocked"),
        (status = 409, description = "`conflict`: oneself", body = Problem),
        (status = 422, description = "`no_such_user`", body = Problem),
    )
)]
pub(super) async fn block(
    engine: web::Data<Engine>,
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<UserId>,
) -> Result<HttpResponse, ApiError> {
    conversations.block(caller.user, path.0, true).await?;
    engine.feeds.forget(caller.user);
    engine.feeds.forget(path.0);
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a block back.
#[utoipa::path(
    delete, path = "/v1/users/{user}/block", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`")),
    responses(
        (status = 204, description = "Not blocked"),
        (status = 409, description = "`conflict`: oneself", body = Problem),
    )
)]
pub(super) async fn unblock(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<UserId>,
) -> Result<HttpResponse, ApiError> {
    conversations.block(caller.user, path.0, false).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn answer(conversation: Conversation) -> HttpResponse {
    let etag = ETag::of_version(conversation.version);
    HttpResponse::Ok().insert_header(("etag", etag.as_str())).json(ConversationView::from(conversation))
}
