//! Logging in, staying logged in, and ending it.

use std::net::IpAddr;
use std::sync::Arc;

use nova_actors::id::{DeviceId, UserId};

use super::passwords::{Password, Verdict};
use super::refresh::{self, RefreshToken};
use super::{Caller, Identity, IdentityError, Parts, Why, names};
use crate::store::accounts::Account;
use crate::store::credentials::Credentials;
use crate::store::sessions::{Device, NewDevice, Presented, Rotation};

/// Where a session comes from.
#[derive(Debug, Clone, Default)]
pub struct From {
    /// What the user calls the device.
    pub name: String,
    /// What it is: `web`, `ios`, `android` …
    pub platform: String,
    /// Its network, see [`network`].
    pub network: Option<String>,
}

/// A session as its device receives it.
pub struct LoggedIn {
    /// Whose.
    pub account: Arc<Account>,
    /// Which device.
    pub device: DeviceId,
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// Seconds the access token is good for.
    pub expires_in: u32,
}

/// Tokens print masked.
impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("device", &self.device).finish_non_exhaustive()
    }
}

/// The network of an address, for showing where a device is: /24 of IPv4, /48 of IPv6. The address itself is never stored.
pub fn network(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    let prefix = if address.is_ipv4() { 24 } else { 48 };
    ipnet::IpNet::new(address, prefix).ok().map(|network| network.trunc().to_string())
}

impl Identity {
    /// Logs in by name or e-mail address. An unknown login, a wrong password and an account without one take the same time and get the
    /// same words; a second factor is spoken of only after the password was right.
    pub async fn log_in(
        &self,
        login: &str,
        password: &str,
        totp_code: Option<&str>,
        from: From,
    ) -> Result<LoggedIn, IdentityError> {
        let parts = &self.parts;
        let found = parts.store.credentials(&names::login_key(login)).await?;
        let credentials = parts.check_password(password, found).await?;
        if credentials.totp_enabled {
            let code = totp_code.ok_or(IdentityError::TotpRequired)?;
            parts.spend_code(credentials.user, code).await?;
        }
        if credentials.suspended {
            return Err(IdentityError::Suspended);
        }
        let token = RefreshToken::generate();
        let device = parts.new_device(credentials.user, &token, from);
        let evicted = parts.store.log_in(&device, &credentials.password_hash).await?;
        parts.revoked(evicted.ok_or(IdentityError::InvalidCredentials)?).await;
        parts.logged_in(credentials.user, device.id, &token).await
    }

    /// Gives the next tokens for a refresh token, or ends the session when the token is an old one. `retry_key` is the request's
    /// `Idempotency-Key`: see [`refresh`] for what it is good for.
    pub async fn refresh(
        &self,
        token: &str,
        retry_key: Option<&str>,
        network: Option<String>,
    ) -> Result<LoggedIn, IdentityError> {
        let parts = &self.parts;
        let token = RefreshToken::read(token).ok_or(IdentityError::InvalidToken)?;
        let next = token.next();
        let now = parts.now();
        let presented = Presented {
            family_hash: token.family_hash(),
            secret_hash: token.secret_hash(),
            rotation_hash: retry_key.map(|key| refresh::hash(key.as_bytes())),
            next_hash: next.secret_hash(),
            network,
            now,
            expires_at: now + parts.session_life(),
        };
        match parts.store.rotate(&presented).await? {
            Rotation::Rotated { user, device } => parts.logged_in(user, device, &next).await,
            Rotation::Reused(revoked) => {
                tracing::warn!(user.id = %revoked.user, device.id = %revoked.device, "an old refresh token was used; its session is ended");
                parts.revoked(vec![revoked]).await;
                Err(IdentityError::Revoked(Why::Reuse))
            }
            Rotation::Ended => Err(IdentityError::Revoked(Why::Removed)),
            Rotation::Unknown => Err(IdentityError::InvalidToken),
        }
    }

    /// The devices a user is logged in on, newest log-in first.
    pub async fn devices(
        &self,
        user: UserId,
        after: Option<DeviceId>,
        rows: i64,
    ) -> Result<Vec<Device>, IdentityError> {
        Ok(self.parts.store.devices(user, after, rows, self.parts.now()).await?)
    }

    /// Ends one session of a user at once, on every node; `false` when there is none such.
    pub async fn end_session(&self, user: UserId, device: DeviceId, why: Why) -> Result<bool, IdentityError> {
        let revoked = self.parts.store.revoke(user, device, why, self.parts.now()).await?;
        let found = revoked.is_some();
        self.parts.revoked(revoked.into_iter().collect()).await;
        Ok(found)
    }

    /// Ends every session of a user; returns how many.
    pub async fn end_sessions(&self, user: UserId, why: Why) -> Result<usize, IdentityError> {
        let revoked = self.parts.store.revoke_sessions(user, why, self.parts.now()).await?;
        let count = revoked.len();
        self.parts.revoked(revoked).await;
        Ok(count)
    }

    /// Asks for the password again, and for a code where one is used: before what cannot be undone.
    pub async fn confirm(
        &self,
        caller: &Caller,
        password: &str,
        totp_code: Option<&str>,
    ) -> Result<(), IdentityError> {
        let found = self.parts.store.credentials_of(caller.user).await?;
        let credentials = self.parts.check_password(password, found).await?;
        if credentials.totp_enabled {
            let code = totp_code.ok_or(IdentityError::TotpRequired)?;
            self.parts.spend_code(caller.user, code).await?;
        }
        Ok(())
    }
}

impl Parts {
    /// One hash, whoever asks and whatever is found.
    async fn check_password(
        &self,
        typed: &str,
        found: Option<Credentials>,
    ) -> Result<Credentials, IdentityError> {
        let stored = found.as_ref().map(|credentials| credentials.password_hash.clone());
        let verdict = self.passwords.verify(Password::attempt(typed), stored).await?;
        match (verdict, found) {
            (Verdict::Right { better_hash }, Some(mut credentials)) => {
                if let Some(better) = better_hash {
                    self.store
                        .improve_password_hash(credentials.user, &credentials.password_hash, &better)
                        .await?;
                    credentials.password_hash = better;
                }
                Ok(credentials)
            }
            _ => Err(IdentityError::InvalidCredentials),
        }
    }

    pub(super) fn session_life(&self) -> time::Duration {
        time::Duration::days(i64::from(self.config.session_days))
    }

    pub(super) fn new_device(&self, user: UserId, token: &RefreshToken, from: From) -> NewDevice {
        let now = self.now();
        NewDevice {
            id: DeviceId::new(now),
            user,
            name: from.name,
            platform: from.platform,
            network: from.network,
            family_hash: token.family_hash(),
            secret_hash: token.secret_hash(),
            now,
            expires_at: now + self.session_life(),
        }
    }

    pub(super) async fn logged_in(
        &self,
        user: UserId,
        device: DeviceId,
        token: &RefreshToken,
    ) -> Result<LoggedIn, IdentityError> {
        let account =
            self.accounts.get(user, &self.store).await?.ok_or(IdentityError::Revoked(Why::Deleted))?;
        let (access_token, expires_in) = self.sign(user, device)?;
        Ok(LoggedIn { account, device, access_token, refresh_token: token.text(), expires_in })
    }
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn a_network_does_not_tell_the_address() {
        let network = |text: &str| network(text.parse().unwrap()).unwrap();
        assert_eq!(network("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(network("::ffff:192.0.2.77"), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2:3::4"), "2001:db8:1::/48");
    }
}
