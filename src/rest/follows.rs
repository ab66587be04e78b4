//! `/v1/users/{user}/follow`, `/mute`, `/followers`, `/following`: who follows whom.

use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::UserId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::page::place;
use super::users::person;
use super::{Cursor, Json, List, PageQuery, Path, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::social::FOLLOWS_MAX;
use crate::store::follows::{FollowError, Followed};

impl From<FollowError> for ApiError {
    fn from(error: FollowError) -> ApiError {
        match error {
            FollowError::Blocked => ApiError::because(Code::Unreachable, "this person cannot be followed"),
            FollowError::TooMany => ApiError::because(
                Code::Conflict,
                format!("you follow {FOLLOWS_MAX} people, which is as many as may be"),
            ),
            FollowError::Store(error) => error.into(),
        }
    }
}

/// Somebody's name, as it stands beside what they wrote.
#[derive(Serialize, ToSchema)]
pub(super) struct Person {
    /// TypeID `user_…`.
    #[schema(value_type = String, example = "user_01h455vb4pex5vsknk084sn02q")]
    pub(super) id: UserId,
    /// The name as typed.
    pub(super) username: String,
    /// What others read.
    pub(super) display_name: String,
}

/// Somebody in a list of followers or followed.
#[derive(Serialize, ToSchema)]
pub(super) struct Follow {
    /// Who.
    user: Person,
    /// Since when.
    #[serde(serialize_with = "instant::serialize")]
    since: OffsetDateTime,
    /// Whether the caller follows them.
    followed_by_me: bool,
}

impl From<Followed> for Follow {
    fn from(followed: Followed) -> Follow {
        let Followed { user: id, username, display_name, since, is_followed } = followed;
        Follow { user: Person { id, username, display_name }, since, followed_by_me: is_followed }
    }
}

#[derive(Serialize, Deserialize)]
struct FollowersCursor(UserId, i128, UserId);

impl Cursor for FollowersCursor {
    const LIST: &'static str = "followers";
}

#[derive(Serialize, Deserialize)]
struct FollowingCursor(UserId, i128, UserId);

impl Cursor for FollowingCursor {
    const LIST: &'static str = "following";
}

/// Follow somebody. Following twice is following once.
#[utoipa::path(
    put, path = "/v1/users/{user}/follow", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 204, description = "Followed"),
        (status = 403, description = "`unreachable`: one has blocked the other", body = Problem),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
        (status = 409, description = "`conflict`: oneself, or the caller follows as many as may be", body = Problem),
    )
)]
pub(super) async fn follow(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let other = another(&engine, &caller, &path.0, "nobody follows themself").await?;
    engine.store.follow(caller.user, other, engine.clock.now()).await?;
    engine.feeds.forget(caller.user);
    Ok(HttpResponse::NoContent().finish())
}

/// Follow somebody no longer.
#[utoipa::path(
    delete, path = "/v1/users/{user}/follow", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 204, description = "Not followed"),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
        (status = 409, description = "`conflict`: oneself", body = Problem),
    )
)]
pub(super) async fn unfollow(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let other = another(&engine, &caller, &path.0, "nobody follows themself").await?;
    engine.store.unfollow(caller.user, other, engine.clock.now()).await?;
    engine.feeds.forget(caller.user);
    Ok(HttpResponse::NoContent().finish())
}

/// See no posts of somebody in feeds, without them knowing.
#[utoipa::path(
    put, path = "/v1/users/{user}/mute", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 204, description = "Muted"),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
        (status = 409, description = "`conflict`: oneself", body = Problem),
    )
)]
pub(super) async fn mute(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let other = another(&engine, &caller, &path.0, "nobody mutes themself").await?;
    engine.store.mute_user(caller.user, other, true, engine.clock.now()).await?;
    engine.feeds.forget(caller.user);
    Ok(HttpResponse::NoContent().finish())
}

/// See the posts of somebody again.
#[utoipa::path(
    delete, path = "/v1/users/{user}/mute", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 204, description = "Not muted"),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
        (status = 409, description = "`conflict`: oneself", body = Problem),
    )
)]
pub(super) async fn unmute(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let other = another(&engine, &caller, &path.0, "nobody mutes themself").await?;
    engine.store.mute_user(caller.user, other, false, engine.clock.now()).await?;
    engine.feeds.forget(caller.user);
    Ok(HttpResponse::NoContent().finish())
}

/// Who follows somebody, the newest first.
#[utoipa::path(
    get, path = "/v1/users/{user}/followers", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann"), PageQuery),
    responses(
        (status = 200, description = "A page of them", body = List<Follow>),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
    )
)]
pub(super) async fn followers(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Result<Json<List<Follow>>, ApiError> {
    let of = person(&engine, &path.0).await?;
    let page = query.0.page::<FollowersCursor>(&request)?;
    let after =
        page.after.as_ref().map(|FollowersCursor(list, at, id)| place(of, *list, *at, *id)).transpose()?;
    let rows = engine.store.followers(of, caller.user, after, page.rows()).await?;
    let key = |row: &Followed| FollowersCursor(of, row.since.unix_timestamp_nanos(), row.user);
    Ok(Json(page.answer(rows, key, Follow::from)))
}

/// Whom somebody follows, the newest first.
#[utoipa::path(
    get, path = "/v1/users/{user}/following", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann"), PageQuery),
    responses(
        (status = 200, description = "A page of them", body = List<Follow>),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
    )
)]
pub(super) async fn following(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Result<Json<List<Follow>>, ApiError> {
    let of = person(&engine, &path.0).await?;
    let page = query.0.page::<FollowingCursor>(&request)?;
    let after =
        page.after.as_ref().map(|FollowingCursor(list, at, id)| place(of, *list, *at, *id)).transpose()?;
    let rows = engine.store.following(of, caller.user, after, page.rows()).await?;
    let key = |row: &Followed| FollowingCursor(of, row.since.unix_timestamp_nanos(), row.user);
    Ok(Json(page.answer(rows, key, Follow::from)))
}

/// Somebody who is not the caller.
async fn another(
    engine: &Engine,
    caller: &Caller,
    named: &str,
    oneself: &'static str,
) -> Result<UserId, ApiError> {
    let other = person(engine, named).await?;
    if other == caller.user { Err(ApiError::because(Code::Conflict, oneself)) } else { Ok(other) }
}
