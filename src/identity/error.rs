//! Why identity refuses, and the words for it at the door.

use std::time::Duration;

use super::passwords::PoolFull;
use super::revocation::Why;
use super::tokens::TokenError;
use crate::error::{ApiError, Code, FieldError};
use crate::store::StoreError;
use crate::store::accounts::AccountError;

/// Why identity refuses.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such login, or another password; nobody is told which.
    #[error("the login or the password is wrong")]
    InvalidCredentials,
    /// The password is right, and a second factor is asked for.
    #[error("a code is needed")]
    TotpRequired,
    /// The code is wrong, or was used.
    #[error("the code is wrong or was used")]
    InvalidTotpCode,
    /// Too many wrong codes; no further one is looked at for so long.
    #[error("too many wrong codes")]
    TotpLocked(Duration),
    /// A second factor is in use already, or none is.
    #[error("the second factor is not in the state this needs: {0}")]
    TotpState(&'static str),
    /// The account is suspended.
    #[error("the account is suspended")]
    Suspended,
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Busy(#[from] PoolFull),
    /// Too many attempts to log in; the next is looked at after so long.
    #[error("too many attempts to log in")]
    TooManyAttempts(Duration),
    /// Not a token of ours.
    #[error("the token is not valid")]
    InvalidToken,
    /// A token of ours whose time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The session ended before its time.
    #[error("the session was ended")]
    Revoked(Why),
    /// A role is needed that the caller has not.
    #[error("the caller has not the role this needs")]
    RoleNeeded,
    /// Registration is closed.
    #[error("registration is closed")]
    RegistrationClosed,
    /// Some fields are not as they must be.
    #[error("some fields are not valid")]
    Fields(Vec<FieldError>),
    /// The account cannot be made or changed.
    #[error(transparent)]
    Account(AccountError),
    /// There is no key to sign with.
    #[error("no signing key has come to its time yet; the clocks of the nodes differ too much")]
    NoSigningKey,
    /// What is sealed does not open.
    #[error(transparent)]
    Seal(#[from] super::seal::SealBroken),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AccountError> for IdentityError {
    fn from(error: AccountError) -> IdentityError {
        match error {
            AccountError::Store(error) => IdentityError::Store(error),
            other => IdentityError::Account(other),
        }
    }
}

impl From<TokenError> for IdentityError {
    fn from(error: TokenError) -> IdentityError {
        match error {
            TokenError::Expired => IdentityError::TokenExpired,
            TokenError::Invalid | TokenError::UnknownKey(_) | TokenError::NotYet => {
                IdentityError::InvalidToken
            }
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> ApiError {
        match error {
            IdentityError::InvalidCredentials => Code::InvalidCredentials.into(),
            IdentityError::TotpRequired => Code::TotpRequired.into(),
            IdentityError::InvalidTotpCode => Code::InvalidTotpCode.into(),
            IdentityError::TotpLocked(wait) => {
                ApiError::because(Code::RateLimited, "too many wrong codes; wait before the next")
                    .retry_after(wait)
            }
            IdentityError::TotpState(words) => ApiError::because(Code::Conflict, words),
            IdentityError::Suspended | IdentityError::Revoked(Why::Suspended) => {
                Code::AccountSuspended.into()
            }
            IdentityError::Busy(full) => ApiError::new(Code::Overloaded).retry_after(full.retry_after),
            IdentityError::TooManyAttempts(wait) => {
                ApiError::because(Code::RateLimited, "too many attempts to log in; wait as Retry-After says")
                    .retry_after(wait)
            }
            IdentityError::InvalidToken => Code::InvalidToken.into(),
            IdentityError::TokenExpired => Code::TokenExpired.into(),
            IdentityError::Revoked(_) => Code::SessionRevoked.into(),
            IdentityError::RoleNeeded => Code::Forbidden.into(),
            IdentityError::RegistrationClosed => {
                ApiError::because(Code::Forbidden, "accounts are made by the operator here")
            }
            IdentityError::Fields(fields) => ApiError::fields(fields),
            IdentityError::Account(AccountError::UsernameTaken) => Code::UsernameTaken.into(),
            IdentityError::Account(AccountError::EmailTaken) => Code::EmailTaken.into(),
            IdentityError::Account(AccountError::Changed) => Code::PreconditionFailed.into(),
            IdentityError::Account(AccountError::Gone) => Code::SessionRevoked.into(),
            IdentityError::Account(AccountError::Store(error)) | IdentityError::Store(error) => error.into(),
            error @ (IdentityError::NoSigningKey | IdentityError::Seal(_)) => ApiError::internal(error),
        }
    }
}
