//! Setting a second factor up, asking for it, and taking it away.

use std::time::Duration;

use nova_actors::id::UserId;
use time::OffsetDateTime;

use super::totp::{self, Code};
use super::{Caller, Identity, IdentityError, Parts};
use crate::store::totp::Attempt;

/// What an authenticator is told.
pub struct Setup {
    /// The secret, to be typed: base32.
    pub secret: String,
    /// The same as an address, to be shown as a QR code.
    pub otpauth_url: String,
}

/// Secrets print masked.
impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Setup(***)")
    }
}

fn place(user: UserId) -> String {
    format!("totp.sealed_secret {user}")
}

impl Identity {
    /// Begins to set a second factor up; it is asked for after [`confirm_totp`](Self::confirm_totp).
    pub async fn begin_totp(&self, caller: &Caller) -> Result<Setup, IdentityError> {
        let parts = &self.parts;
        let account = self.me(caller).await?;
        let secret = totp::generate_secret();
        let sealed = parts.sealer.seal(&place(caller.user), &secret);
        match parts.store.begin_totp(caller.user, &sealed, parts.now()).await? {
            true => Ok(Setup {
                otpauth_url: totp::url(&secret, &parts.config.issuer, &account.username),
                secret: totp::secret_text(&secret),
            }),
            false => Err(IdentityError::TotpState("an authenticator is set up already; remove it first")),
        }
    }

    /// Puts the second factor to use by its first right code. Returns the recovery codes, which are never shown again.
    pub async fn confirm_totp(&self, caller: &Caller, code: &str) -> Result<Vec<String>, IdentityError> {
        let parts = &self.parts;
        let now = parts.now();
        let sealed = match parts.open_attempt(caller.user, now).await? {
            Attempt::Open { sealed_secret, confirmed: false } => sealed_secret,
            Attempt::Open { confirmed: true, .. } => {
                return Err(IdentityError::TotpState("an authenticator is set up already; remove it first"));
            }
            _ => return Err(IdentityError::TotpState("begin with POST /v1/totp")),
        };
        let Some(Code::Totp(digits)) = Code::read(code) else { return Err(IdentityError::InvalidTotpCode) };
        let secret = parts.sealer.open(&place(caller.user), &sealed)?;
        let step = totp::step_of(&secret, &digits, now).ok_or(IdentityError::InvalidTotpCode)?;
        let (shown, hashes): (Vec<_>, Vec<_>) = totp::recovery_codes().into_iter().unzip();
        match parts.store.confirm_totp(caller.user, step, &sealed, &hashes, now).await? {
            true => {
                parts.changed(caller.user).await;
                Ok(shown)
            }
            false => Err(IdentityError::InvalidTotpCode),
        }
    }

    /// Takes the second factor away, with a code of it.
    pub async fn remove_totp(&self, caller: &Caller, code: &str) -> Result<(), IdentityError> {
        if !self.me(caller).await?.totp_enabled {
            return Err(IdentityError::TotpState("no authenticator is set up"));
        }
        self.parts.spend_code(caller.user, code).await?;
        self.disable_totp(caller.user).await.map(drop)
    }

    /// Takes the second factor away without a code; for operators. `false` when there was none.
    pub async fn disable_totp(&self, user: UserId) -> Result<bool, IdentityError> {
        let removed = self.parts.store.remove_totp(user, self.parts.now()).await?;
        self.parts.changed(user).await;
        Ok(removed)
    }
}

impl Parts {
    /// Accepts a code of the authenticator or a recovery code, once.
    pub(super) async fn spend_code(&self, user: UserId, code: &str) -> Result<(), IdentityError> {
        let now = self.now();
        let Attempt::Open { sealed_secret, confirmed: true } = self.open_attempt(user, now).await? else {
            // It was taken away since we looked: the password alone is not what was asked for then.
            return Err(IdentityError::InvalidTotpCode);
        };
        let accepted = match Code::read(code) {
            Some(Code::Totp(digits)) => {
                let secret = self.sealer.open(&place(user), &sealed_secret)?;
                match totp::step_of(&secret, &digits, now) {
                    Some(step) => self.store.accept_step(user, step).await?,
                    None => false,
                }
            }
            Some(Code::Recovery(hash)) => self.store.accept_recovery(user, &hash, now).await?,
            None => false,
        };
        if accepted { Ok(()) } else { Err(IdentityError::InvalidTotpCode) }
    }

    async fn open_attempt(&self, user: UserId, now: OffsetDateTime) -> Result<Attempt, IdentityError> {
        match self.store.attempt_totp(user, now).await? {
            Attempt::Locked(until) => {
                Err(IdentityError::TotpLocked(Duration::try_from(until - now).unwrap_or(Duration::ZERO)))
            }
            attempt => Ok(attempt),
        }
    }
}
