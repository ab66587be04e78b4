//! `/v1/users`: other people's profiles.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::UserId;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::etag::answer_content;
use super::{Path, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::store::accounts::Account;
use crate::store::follows::Standing;

/// The public face of an account.
#[derive(Serialize, ToSchema)]
pub(super) struct Profile {
    /// TypeID `user_…`.
    #[schema(example = "user_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// The name as typed.
    username: String,
    /// What others read.
    display_name: String,
    /// What the user tells about themself.
    bio: String,
    /// When the account was made.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// How many follow them.
    followers: i64,
    /// How many they follow.
    following: i64,
    /// How many posts of theirs there are, those nobody else may read left out.
    posts: i64,
    /// How the caller and they stand to each other.
    relation: Relation,
}

/// How a caller and somebody else stand to each other.
#[derive(Serialize, ToSchema)]
pub(super) struct Relation {
    /// The caller follows them.
    following: bool,
    /// They follow the caller.
    followed_by: bool,
    /// The caller has muted them.
    muted: bool,
    /// The caller has blocked them.
    blocked: bool,
}

impl Profile {
    fn of(account: &Account, standing: &Standing) -> Profile {
        Profile {
            id: account.id.to_string(),
            username: account.username.clone(),
            display_name: account.display_name.clone(),
            bio: account.bio.clone(),
            created_at: account.created_at,
            followers: standing.followers,
            following: standing.following,
            posts: standing.posts,
            relation: Relation {
                following: standing.is_followed,
                followed_by: standing.follows_reader,
                muted: standing.is_muted,
                blocked: standing.is_blocked,
            },
        }
    }
}

/// Somebody's profile, by id or by name.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 200, description = "The profile; `ETag` names what is answered", body = Profile),
        (status = 304, description = "It has not changed since `If-None-Match`"),
        (status = 403, description = "`account_suspended`: the caller's own", body = Problem),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
    )
)]
pub(super) async fn profile(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let account = account(&engine, &path.0).await?;
    let standing = engine.store.standing(account.id, caller.user).await?;
    answer_content(&request, &Profile::of(&account, &standing))
}

/// Whom a path names, by id or by name. Whoever is suspended is not shown to others.
async fn account(engine: &Engine, named: &str) -> Result<Arc<Account>, ApiError> {
    let account = match named.strip_prefix('@') {
        Some(name) => engine.identity.account_named(name).await?,
        None => engine.identity.account(named.parse().map_err(|_| Code::NotFound)?).await?,
    };
    Ok(account.filter(|account| account.suspended_at.is_none()).ok_or(Code::NotFound)?)
}

/// The id of whom a path names, by id or by name.
pub(super) async fn person(engine: &Engine, named: &str) -> Result<UserId, ApiError> {
    Ok(account(engine, named).await?.id)
}
