//! Who makes a request.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use nova_actors::id::{DeviceId, UserId};
use time::OffsetDateTime;

use super::{Identity, IdentityError};
use crate::error::{ApiError, Code};
use crate::rest::{Context, Manner};

/// The authenticated maker of a request. A handler that takes one is closed to everybody else; one that takes `Option<Caller>` is open, and
/// still refuses a token that is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// When their access token expires.
    pub expires_at: OffsetDateTime,
}

/// What somebody may do beyond what everybody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Handles reports.
    Moderator,
    /// Does everything.
    Admin,
}

impl Role {
    /// As the database and the API name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Moderator => "moderator",
            Role::Admin => "admin",
        }
    }
}

impl Identity {
    /// Refuses a caller who has not at least this role. Roles are read where they are kept, not from the token, so taking one away takes
    /// effect at once.
    pub async fn require(&self, caller: &Caller, role: Role) -> Result<(), IdentityError> {
        let account = self.me(caller).await?;
        let has = |wanted: Role| account.roles.iter().any(|has| has == wanted.as_str());
        if has(Role::Admin) || has(role) { Ok(()) } else { Err(IdentityError::RoleNeeded) }
    }
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Caller, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let token = bearer(&request)?.ok_or(Code::Unauthenticated)?;
            let identity = request.app_data::<web::Data<Identity>>().ok_or_else(missing)?;
            let caller = identity.authenticate(token).await?;
            Context::of(&request)?.identify(Manner::of(&request)?, caller.user.as_uuid())?;
            Ok(caller)
        })
    }
}

fn missing() -> ApiError {
    ApiError::internal("the application was built without web::Data<Identity>")
}

/// The token of an `Authorization: Bearer` header (RFC 6750 section 2.1).
fn bearer(request: &HttpRequest) -> Result<Option<&str>, ApiError> {
    let Some(value) = request.headers().get(header::AUTHORIZATION) else { return Ok(None) };
    let words = value.to_str().ok().and_then(|value| value.split_once(' '));
    match words {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim()))
        }
        _ => Err(ApiError::because(Code::InvalidToken, "send `Authorization: Bearer` and an access token")),
    }
}
