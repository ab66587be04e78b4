//! `/v1/totp`: the second factor.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Json;
use crate::error::{ApiError, Problem};
use crate::identity::{Caller, Identity};

/// What an authenticator is told.
#[derive(Serialize, ToSchema)]
pub(super) struct TotpSetup {
    /// To be typed: base32.
    secret: String,
    /// To be shown as a QR code.
    otpauth_url: String,
}

/// A code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TotpCode {
    /// Six digits.
    #[schema(max_length = 64, example = "123456")]
    code: String,
}

/// What to keep for the day the authenticator is lost.
#[derive(Serialize, ToSchema)]
pub(super) struct RecoveryCodes {
    /// Ten codes, each good once in the place of a code of the authenticator. They are never shown again.
    recovery_codes: Vec<String>,
}

/// Begin to set an authenticator up.
#[utoipa::path(
    post, path = "/v1/totp", tag = "2FA", security(("bearer" = [])),
    responses(
        (status = 201, description = "Show it, and confirm with a first code", body = TotpSetup),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 409, description = "`conflict`: one is set up already", body = Problem),
    )
)]
pub(super) async fn begin(identity: web::Data<Identity>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let setup = identity.begin_totp(&caller).await?;
    let body = TotpSetup { secret: setup.secret, otpauth_url: setup.otpauth_url };
    Ok(HttpResponse::Created().insert_header(("Cache-Control", "no-store")).json(body))
}

/// Confirm the authenticator with its first code. From now on log-in asks for one.
#[utoipa::path(
    post, path = "/v1/totp/confirm", tag = "2FA", security(("bearer" = [])), request_body = TotpCode,
    responses(
        (status = 200, description = "In use", body = RecoveryCodes),
        (status = 401, description = "Also `invalid_totp_code`", body = Problem),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 409, description = "`conflict`: none was begun, or one is in use already", body = Problem),
    )
)]
pub(super) async fn confirm(
    identity: web::Data<Identity>,
    caller: Caller,
    body: Json<TotpCode>,
) -> Result<HttpResponse, ApiError> {
    let recovery_codes = identity.confirm_totp(&caller, &body.0.code).await?;
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(RecoveryCodes { recovery_codes }))
}

/// Remove the authenticator, with a code of it or a recovery code.
#[utoipa::path(
    delete, path = "/v1/totp", tag = "2FA", security(("bearer" = [])), request_body = TotpCode,
    responses(
        (status = 204, description = "Removed; log-in asks for the password alone"),
        (status = 401, description = "Also `invalid_totp_code`", body = Problem),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 409, description = "`conflict`: none is in use", body = Problem),
    )
)]
pub(super) async fn remove(
    identity: web::Data<Identity>,
    caller: Caller,
    body: Json<TotpCode>,
) -> Result<HttpResponse, ApiError> {
    identity.remove_totp(&caller, &body.0.code).await?;
    Ok(HttpResponse::NoContent().finish())
}
