//! `/v1/conversations/{conversation}/members`: who is in a conversation.

use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::conversation::Role;
use nova_actors::id::{ConversationId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Cursor, Json, List, PageQuery, Path, Query, instant};
use crate::conversations::Conversations;
use crate::error::{ApiError, Problem};
use crate::identity::Caller;
use crate::store::members::Listed;

/// Somebody in a conversation.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberView {
    /// TypeID `user_…`.
    #[schema(value_type = String)]
    user: UserId,
    /// `owner`, `admin` or `member`.
    #[schema(example = "member")]
    role: &'static str,
    /// Since when.
    #[serde(serialize_with = "instant::serialize")]
    joined_at: OffsetDateTime,
    /// How far they have read.
    read_seq: u64,
    /// How far at least one of their devices has everything.
    delivered_seq: u64,
}

impl From<Listed> for MemberView {
    fn from(listed: Listed) -> MemberView {
        MemberView {
            user: listed.member.user,
            role: listed.member.role.as_str(),
            joined_at: listed.joined_at,
            read_seq: listed.member.read,
            delivered_seq: listed.member.delivered,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MembersCursor(UserId);

impl Cursor for MembersCursor {
    const LIST: &'static str = "members";
}

/// Who is in a conversation.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation}/members", tag = "conversations", security(("bearer" = [])),
    params(("conversation" = String, Path, description = "TypeID `conv_…`"), PageQuery),
    responses(
        (status = 200, description = "A page of its members", body = List<MemberView>),
        (status = 403, description = "`not_a_member`", body = Problem),
    )
)]
pub(super) async fn members(
    request: HttpRequest,
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<ConversationId>,
    query: Query<PageQuery>,
) -> Result<web::Json<List<MemberView>>, ApiError> {
    let page = query.0.page::<MembersCursor>(&request)?;
    let after = page.after.as_ref().map(|MembersCursor(user)| *user);
    let rows = conversations.members(path.0, caller.user, after, page.rows()).await?;
    Ok(web::Json(page.answer(rows, |row| MembersCursor(row.member.user), MemberView::from)))
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RoleName {
    /// Everything; whoever gives it away becomes an administrator.
    Owner,
    /// Adds, removes, deletes what others wrote, gives the title.
    Admin,
    /// Writes.
    Member,
}

impl From<RoleName> for Role {
    fn from(role: RoleName) -> Role {
        match role {
            RoleName::Owner => Role::Owner,
            RoleName::Admin => Role::Admin,
            RoleName::Member => Role::Member,
        }
    }
}

/// Which role.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PutMember {
    /// The role; left out, who is new becomes a member and who is there stays what they are.
    #[serde(default)]
    role: Option<RoleName>,
}

/// Brings somebody into a group, or gives them another role. Administrators bring in members; the owner does the rest.
#[utoipa::path(
    put, path = "/v1/conversations/{conversation}/members/{user}", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = String, Path, description = "TypeID `conv_…`"),
        ("user" = String, Path, description = "TypeID `user_…`"),
    ),
    request_body = PutMember,
    responses(
        (status = 204, description = "They are in it with this role"),
        (status = 403, description = "`not_a_member`, `role_too_low`, `unreachable`: one has blocked the other", body = Problem),
        (status = 409, description = "`conflict`: not a group, or full", body = Problem),
        (status = 422, description = "`no_such_user`", body = Problem),
    )
)]
pub(super) async fn put(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(ConversationId, UserId)>,
    body: Json<PutMember>,
) -> Result<HttpResponse, ApiError> {
    let Path((id, user)) = path;
    conversations.put_member(id, caller.user, user, body.0.role.map(Role::from)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes somebody out of a group, or leaves it. Who has the higher role takes out who has the lower.
#[utoipa::path(
    delete, path = "/v1/conversations/{conversation}/members/{user}", tag = "conversations", security(("bearer" = [])),
    params(
        ("conversation" = String, Path, description = "TypeID `conv_…`"),
        ("user" = String, Path, description = "TypeID `user_…`"),
    ),
    responses(
        (status = 204, description = "They are not in it"),
        (status = 403, description = "`not_a_member`, `role_too_low`", body = Problem),
        (status = 409, description = "`conflict`: not a group", body = Problem),
    )
)]
pub(super) async fn remove(
    caller: Caller,
    conversations: web::Data<Conversations>,
    path: Path<(ConversationId, UserId)>,
) -> Result<HttpResponse, ApiError> {
    let Path((id, user)) = path;
    conversations.remove_member(id, caller.user, user).await?;
    Ok(HttpResponse::NoContent().finish())
}
