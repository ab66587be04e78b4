//! `/v1/sessions`: logging in, staying logged in, and the devices page.

use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::DeviceId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::accounts::Me;
use super::instant;
use super::{Context, Cursor, Json, List, PageQuery, Path, Query};
use crate::error::{ApiError, Code, FieldError, Problem};
use crate::identity::sessions::network;
use crate::identity::{Caller, From, Identity, LoggedIn, Why, names};

/// Longest `Idempotency-Key` that is looked at.
const RETRY_KEY_BYTES_MAX: usize = 255;
/// Longest name of a platform.
const PLATFORM_CHARS_MAX: usize = 32;

/// The device somebody logs in from.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceInput {
    /// As its user would know it in a list, at most 50 characters.
    #[schema(max_length = 200, example = "Ann's phone")]
    name: Option<String>,
    /// What it is: `web`, `ios`, `android`, `desktop` or another word.
    #[schema(max_length = 32, example = "web")]
    platform: Option<String>,
}

impl DeviceInput {
    pub(super) fn read(input: Option<&DeviceInput>, context: &Context) -> Result<From, ApiError> {
        let name = names::device_name(input.and_then(|device| device.name.as_deref()));
        let platform = input.and_then(|device| device.platform.as_deref()).unwrap_or("unknown");
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        let fits = (1..=PLATFORM_CHARS_MAX).contains(&platform.len()) && platform.chars().all(is_word);
        let mut refused = Vec::new();
        if let Err(error) = &name {
            refused.push(FieldError { field: "device.name".to_owned(), message: error.to_string() });
        }
        if !fits {
            let message = "it must have 1 to 32 letters, digits, spaces, - _ or .".to_owned();
            refused.push(FieldError { field: "device.platform".to_owned(), message });
        }
        match name {
            Ok(name) if fits => {
                let platform = platform.to_ascii_lowercase();
                Ok(From { name, platform, network: network(context.client()) })
            }
            _ => Err(ApiError::fields(refused)),
        }
    }
}

/// A log-in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    /// The username or the e-mail address.
    #[schema(max_length = 254, example = "ann")]
    login: String,
    /// The password.
    #[schema(max_length = 1024, format = Password)]
    password: String,
    /// Six digits of the authenticator, or a recovery code; needed after `totp_required`.
    #[schema(max_length = 64)]
    totp_code: Option<String>,
    /// The device that logs in.
    device: Option<DeviceInput>,
}

/// A refresh.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Refresh {
    /// The newest refresh token.
    #[schema(max_length = 255)]
    refresh_token: String,
}

/// A session, as its device receives it.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    user: Me,
    /// For `Authorization: Bearer`: an EdDSA JWT, to be verified with `/.well-known/jwks.json`.
    access_token: String,
    /// For `POST /v1/sessions/refresh`, once.
    refresh_token: String,
    /// Seconds the access token is good for.
    expires_in: u32,
    /// TypeID `dev_…`.
    device_id: String,
}

impl Session {
    pub(super) fn answer(session: &LoggedIn) -> HttpResponse {
        let body = Session {
            user: Me::from(&*session.account),
            access_token: session.access_token.clone(),
            refresh_token: session.refresh_token.clone(),
            expires_in: session.expires_in,
            device_id: session.device.to_string(),
        };
        // RFC 6749 section 5.1: tokens are not to be kept by anybody between.
        HttpResponse::Created().insert_header(("Cache-Control", "no-store")).json(body)
    }
}

/// A logged-in device.
#[derive(Serialize, ToSchema)]
pub(super) struct Device {
    /// TypeID `dev_…`.
    device_id: String,
    /// As its user named it.
    name: String,
    /// `web`, `ios`, `android` …
    platform: String,
    /// Whether it is the device that asks.
    current: bool,
    /// The network it was last seen in: /24 of IPv4, /48 of IPv6. Addresses are not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "192.0.2.0/24")]
    network: Option<String>,
    /// When it logged in.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// When it last logged in or refreshed.
    #[serde(serialize_with = "instant::serialize")]
    last_seen_at: OffsetDateTime,
}

/// Where a page of devices ends.
#[derive(Serialize, Deserialize)]
pub(super) struct DeviceCursor(DeviceId);

impl Cursor for DeviceCursor {
    const LIST: &'static str = "sessions";
}

/// Log in.
///
/// An unknown login and a wrong password get the same answer in the same time.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "sessions", request_body = LogIn,
    responses(
        (status = 201, description = "Logged in", body = Session),
        (status = 401, description = "`invalid_credentials`; after the right password `totp_required`, `invalid_totp_code`", body = Problem),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 503, description = "`overloaded`: too many passwords wait to be hashed; see `Retry-After`", body = Problem),
    )
)]
pub(super) async fn log_in(
    identity: web::Data<Identity>,
    context: Context,
    body: Json<LogIn>,
) -> Result<HttpResponse, ApiError> {
    let Json(given) = body;
    identity.attempt_from(context.client())?;
    identity.attempt_on(&given.login)?;
    let from = DeviceInput::read(given.device.as_ref(), &context)?;
    let session = identity.log_in(&given.login, &given.password, given.totp_code.as_deref(), from).await?;
    Ok(Session::answer(&session))
}

/// Get the next tokens.
///
/// A refresh token is good once. An old one ends the session: two parties have it. A client whose answer was lost sends the same request
/// with the same `Idempotency-Key` again within two minutes, and gets new tokens.
#[utoipa::path(
    post, path = "/v1/sessions/refresh", tag = "sessions", request_body = Refresh,
    responses(
        (status = 201, description = "The next tokens", body = Session),
        (status = 401, description = "`invalid_token`; `session_revoked`: log in again", body = Problem),
        (status = 403, description = "`account_suspended`", body = Problem),
    )
)]
pub(super) async fn refresh(
    request: HttpRequest,
    identity: web::Data<Identity>,
    context: Context,
    body: Json<Refresh>,
) -> Result<HttpResponse, ApiError> {
    identity.attempt_from(context.client())?;
    let retry_key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
    let retry_key = retry_key.filter(|key| (1..=RETRY_KEY_BYTES_MAX).contains(&key.len()));
    let session = identity.refresh(&body.0.refresh_token, retry_key, network(context.client())).await?;
    Ok(Session::answer(&session))
}

/// The devices one is logged in on, newest log-in first.
#[utoipa::path(
    get, path = "/v1/sessions", tag = "sessions", security(("bearer" = [])), params(PageQuery),
    responses(
        (status = 200, description = "The devices", body = List<Device>),
        (status = 403, description = "`account_suspended`", body = Problem),
    )
)]
pub(super) async fn devices(
    request: HttpRequest,
    identity: web::Data<Identity>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = query.0.page::<DeviceCursor>(&request)?;
    let after = page.after.as_ref().map(|cursor| cursor.0);
    let devices = identity.devices(caller.user, after, page.rows()).await?;
    let list = page.answer(
        devices,
        |device| DeviceCursor(device.id),
        |device| Device {
            current: device.id == caller.device,
            device_id: device.id.to_string(),
            name: device.name,
            platform: device.platform,
            network: device.network,
            created_at: device.created_at,
            last_seen_at: device.last_seen_at,
        },
    );
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "private, no-cache")).json(list))
}

/// Log this device out.
#[utoipa::path(
    delete, path = "/v1/sessions/current", tag = "sessions", security(("bearer" = [])),
    responses(
        (status = 204, description = "Logged out; the tokens are dead on every node"),
        (status = 403, description = "`account_suspended`", body = Problem),
    )
)]
pub(super) async fn log_out(identity: web::Data<Identity>, caller: Caller) -> Result<HttpResponse, ApiError> {
    identity.end_session(caller.user, caller.device, Why::LoggedOut).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Log one of one's devices out. Its tokens die and its sockets close, on every node.
#[utoipa::path(
    delete, path = "/v1/sessions/{device_id}", tag = "sessions", security(("bearer" = [])),
    params(("device_id" = String, Path, description = "TypeID `dev_…`", example = "dev_01h455vb4pex5vsknk084sn02q")),
    responses(
        (status = 204, description = "Logged out"),
        (status = 403, description = "`account_suspended`", body = Problem),
        (status = 404, description = "`not_found`: one is not logged in there", body = Problem),
    )
)]
pub(super) async fn end_session(
    identity: web::Data<Identity>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let device: DeviceId = path.0.parse().map_err(|_| Code::NotFound)?;
    let why = if device == caller.device { Why::LoggedOut } else { Why::Removed };
    match identity.end_session(caller.user, device, why).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Code::NotFound.into()),
    }
}
