//! `/v1/accounts` and `/v1/me`: registering, and one's own account.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::instant;
use super::sessions::{DeviceInput, Session};
use super::{Context, ETag, Json};
use crate::error::{ApiError, Problem};
use crate::identity::accounts::{ProfileEdit, Registration};
use crate::identity::{Caller, Identity};
use crate::store::accounts::Account;

/// Somebody who registers.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewAccount {
    /// 3 to 30 letters and digits of one script, with single `.`, `_` or `-` between them. Compared without regard to case, and no two
    /// that look alike exist.
    #[schema(min_length = 3, max_length = 120, example = "ann")]
    username: String,
    /// Compared without regard to case.
    #[schema(max_length = 254, example = "ann@example.org")]
    email: String,
    /// At least 8 characters and at most 256 bytes, and none of the commonest.
    #[schema(min_length = 8, max_length = 256, format = Password)]
    password: String,
    /// What others read; the username when left out.
    #[schema(min_length = 1, max_length = 200)]
    display_name: Option<String>,
    /// The device that registers.
    device: Option<DeviceInput>,
}

/// One's own account.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    /// TypeID `user_…`.
    #[schema(example = "user_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// The name as typed.
    username: String,
    /// What others read.
    display_name: String,
    /// What the user tells about themself.
    bio: String,
    /// Never shown to others.
    email: String,
    /// `moderator`, `admin`.
    roles: Vec<String>,
    /// Whether log-in asks for a second factor.
    totp_enabled: bool,
    /// When the account was made.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(serialize_with = "instant::serialize")]
    updated_at: OffsetDateTime,
}

impl From<&Account> for Me {
    fn from(account: &Account) -> Me {
        Me {
            id: account.id.to_string(),
            username: account.username.clone(),
            display_name: account.display_name.clone(),
            bio: account.bio.clone(),
            email: account.email.clone(),
            roles: account.roles.clone(),
            totp_enabled: account.totp_enabled,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

/// An edit of one's own profile; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MeEdit {
    /// Another name; the old one is free at once.
    #[schema(min_length = 3, max_length = 120)]
    username: Option<String>,
    /// What others read, 1 to 50 characters.
    #[schema(min_length = 1, max_length = 200)]
    display_name: Option<String>,
    /// At most 500 characters.
    #[schema(max_length = 2000)]
    bio: Option<String>,
}

/// Proof that it is the user who asks, and not just their device.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    /// The password.
    #[schema(max_length = 1024, format = Password)]
    password: String,
    /// Six digits, or a recovery code; needed when log-in asks for one.
    #[schema(max_length = 64)]
    totp_code: Option<String>,
}

/// Another password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPassword {
    /// The password until now.
    #[schema(max_length = 1024, format = Password)]
    current_password: String,
    /// At least 8 characters and at most 256 bytes, and none of the commonest.
    #[schema(min_length = 8, max_length = 256, format = Password)]
    password: String,
    /// Six digits, or a recovery code; needed when log-in asks for one.
    #[schema(max_length = 64)]
    totp_code: Option<String>,
}

/// Register, and log in.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = NewAccount,
    responses(
        (status = 201, description = "Registered and logged in", body = Session),
        (status = 403, description = "`forbidden`: the operator makes the accounts here", body = Problem),
        (status = 409, description = "`username_taken`, `email_taken`", body = Problem),
        (status = 503, description = "`overloaded`: too many passwords wait to be hashed; see `Retry-After`", body = Problem),
    )
)]
pub(super) async fn register(
    identity: web::Data<Identity>,
    context: Context,
    body: Json<NewAccount>,
) -> Result<HttpResponse, ApiError> {
    identity.attempt_from(context.client())?;
    let Json(new) = body;
    let from = DeviceInput::read(new.device.as_ref(), &context)?;
    let registration = Registration {
        username: &new.username,
        email: &new.email,
        password: &new.password,
        display_name: new.display_name.as_deref(),
    };
    let session = identity.register(&registration, from).await?;
    Ok(Session::answer(&session))
}

/// One's own account.
#[utoipa::path(
    get, path = "/v1/me", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "The caller's account; `ETag` names its version", body = Me),
        (status = 304, description = "It has not changed since `If-None-Match`"),
        (status = 403, description = "`account_suspended`", body = Problem),
    )
)]
pub(super) async fn me(
    request: HttpRequest,
    identity: web::Data<Identity>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    let account = identity.me(&caller).await?;
    private(ETag::of_version(account.version).answer(&request, &Me::from(&*account))?)
}

/// Edit one's own profile.
#[utoipa::path(
    patch, path = "/v1/me", tag = "accounts", security(("bearer" = [])), request_body = MeEdit,
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that was read; 412 when it is not the current one")),
    responses(
        (status = 200, description = "As it is now", body = Me),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 409, description = "`username_taken`", body = Problem),
        (status = 412, description = "`precondition_failed`: it has changed since it was read", body = Problem),
    )
)]
pub(super) async fn edit_me(
    request: HttpRequest,
    identity: web::Data<Identity>,
    caller: Caller,
    body: Json<MeEdit>,
) -> Result<HttpResponse, ApiError> {
    let Json(edit) = body;
    let change = Identity::judge_profile(&ProfileEdit {
        username: edit.username.as_deref(),
        display_name: edit.display_name.as_deref(),
        bio: edit.bio.as_deref(),
    })?;
    // The tag is checked against what is read now, and the write against the same version: who comes in between wins.
    let version = match request.headers().contains_key(header::IF_MATCH) {
        true => {
            let account = identity.me(&caller).await?;
            ETag::of_version(account.version).check(&request)?;
            Some(account.version)
        }
        false => None,
    };
    let account = identity.edit_profile(caller.user, version, &change).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((header::ETAG, ETag::of_version(account.version).as_str()));
    private(response.json(Me::from(&*account)))
}

/// Delete one's own account.
///
/// At once nobody finds it, all its sessions end, and its e-mail address may register again. Its name is held for 90 days; the rest is
/// removed after 7.
#[utoipa::path(
    delete, path = "/v1/me", tag = "accounts", security(("bearer" = [])), request_body = Proof,
    responses(
        (status = 204, description = "Deleted"),
        (status = 401, description = "Also `invalid_credentials`, `totp_required`, `invalid_totp_code`", body = Problem),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 503, description = "`overloaded`: too many passwords wait to be hashed; see `Retry-After`", body = Problem),
    )
)]
pub(super) async fn delete_me(
    identity: web::Data<Identity>,
    context: Context,
    caller: Caller,
    body: Json<Proof>,
) -> Result<HttpResponse, ApiError> {
    prove(&identity, &context, &caller, &body.0.password, body.0.totp_code.as_deref()).await?;
    identity.delete_account(caller.user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Set another password. Every other session ends.
#[utoipa::path(
    put, path = "/v1/me/password", tag = "accounts", security(("bearer" = [])), request_body = NewPassword,
    responses(
        (status = 204, description = "Set; every other session has ended"),
        (status = 401, description = "Also `invalid_credentials`, `totp_required`, `invalid_totp_code`", body = Problem),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 503, description = "`overloaded`: too many passwords wait to be hashed; see `Retry-After`", body = Problem),
    )
)]
pub(super) async fn set_password(
    identity: web::Data<Identity>,
    context: Context,
    caller: Caller,
    body: Json<NewPassword>,
) -> Result<HttpResponse, ApiError> {
    let Json(new) = body;
    prove(&identity, &context, &caller, &new.current_password, new.totp_code.as_deref()).await?;
    identity.change_password(&caller, &new.password).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A stolen access token must not be a way to guess the password faster than the log-in is.
async fn prove(
    identity: &Identity,
    context: &Context,
    caller: &Caller,
    password: &str,
    totp_code: Option<&str>,
) -> Result<(), ApiError> {
    identity.attempt_from(context.client())?;
    identity.attempt_on(&caller.user.to_string())?;
    Ok(identity.confirm(caller, password, totp_code).await?)
}

/// Nobody between keeps a copy of what only the caller may read; the caller may, and asks each time whether it is still so.
fn private(mut response: HttpResponse) -> Result<HttpResponse, ApiError> {
    let keep = header::HeaderValue::from_static("private, no-cache");
    if response.status() == StatusCode::OK {
        response.headers_mut().insert(header::CACHE_CONTROL, keep);
    }
    Ok(response)
}
