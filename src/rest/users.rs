//! `/v1/users`: other people's profiles.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::instant;
use super::{ETag, Path};
use crate::error::{ApiError, Code, Problem};
use crate::identity::{Caller, Identity};
use crate::store::accounts::Account;

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
}

impl From<&Account> for Profile {
    fn from(account: &Account) -> Profile {
        Profile {
            id: account.id.to_string(),
            username: account.username.clone(),
            display_name: account.display_name.clone(),
            bio: account.bio.clone(),
            created_at: account.created_at,
        }
    }
}

/// Somebody's profile, by id or by name.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "users", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 200, description = "The profile; `ETag` names its version", body = Profile),
        (status = 304, description = "It has not changed since `If-None-Match`"),
        (status = 403, description = "`account_suspended`: the caller's own", body = Problem),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
    )
)]
pub(super) async fn profile(
    request: HttpRequest,
    identity: web::Data<Identity>,
    _: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let account = match path.0.strip_prefix('@') {
        Some(name) => identity.account_named(name).await?,
        None => identity.account(path.0.parse().map_err(|_| Code::NotFound)?).await?,
    };
    // Whoever is suspended is not shown to others.
    let account = account.filter(|account| account.suspended_at.is_none()).ok_or(Code::NotFound)?;
    ETag::of_version(account.version).answer(&request, &Profile::from(&*account))
}
