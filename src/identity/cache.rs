//! What was verified and read lately, so that a request costs neither a signature nor a query.

use std::sync::Arc;
use std::time::Duration;

use nova_actors::id::{DeviceId, UserId};
use quick_cache::sync::Cache;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::tokens::{CLOCK_SKEW_S, TokenError};
use crate::store::accounts::Account;
use crate::store::{Store, StoreError};

/// Tokens remembered: as many as devices ask within a while; each takes about 130 bytes. The least used make room.
const TOKENS_MAX: usize = 32_768;
/// Accounts remembered; each takes about 500 bytes. The least used make room.
const ACCOUNTS_MAX: usize = 16_384;
/// The longest an account is believed without being read again: a net under the news from other nodes, which comes within
/// milliseconds.
const ACCOUNT_AGE_MAX: Duration = Duration::from_secs(60);

/// SHA-256 of a token: what is remembered of it.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(token: &str) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().unwrap_or_default()
}

/// What a verified token says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claims {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
    pub(super) iat: i64,
    pub(super) exp: i64,
}

impl Claims {
    pub(super) fn check_time(&self, now: OffsetDateTime) -> Result<(), TokenError> {
        let now = now.unix_timestamp();
        match now {
            _ if now >= self.exp => Err(TokenError::Expired),
            _ if self.iat > now.saturating_add(CLOCK_SKEW_S) => Err(TokenError::NotYet),
            _ => Ok(()),
        }
    }

    pub(super) fn expires_at(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.exp).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// The tokens whose signature was checked. Expiry and revocation are asked again each time.
pub(super) struct Verified(Cache<Digest, Claims>);

impl Default for Verified {
    fn default() -> Verified {
        Verified(Cache::new(TOKENS_MAX))
    }
}

impl Verified {
    pub(super) fn get(&self, token: &Digest) -> Option<Claims> {
        self.0.get(token)
    }

    pub(super) fn insert(&self, token: Digest, claims: Claims) {
        self.0.insert(token, claims);
    }

    /// After keys were removed: a token of a removed key is not believed on account of having been.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

#[derive(Clone)]
struct Read {
    account: Arc<Account>,
    at: Instant,
}

/// The accounts that were read.
pub(super) struct Accounts(Cache<UserId, Read>);

impl Default for Accounts {
    fn default() -> Accounts {
        Accounts(Cache::new(ACCOUNTS_MAX))
    }
}

impl Accounts {
    /// The account, from memory or from the store; many who ask at once cause one query. What is forgotten while it is being read is
    /// not remembered, so nobody who asks after a change is told what was before it.
    pub(super) async fn get(&self, user: UserId, store: &Store) -> Result<Option<Arc<Account>>, StoreError> {
        loop {
            match self.0.get_value_or_guard_async(&user).await {
                Ok(read) if read.at.elapsed() < ACCOUNT_AGE_MAX => return Ok(Some(read.account)),
                Ok(_) => drop(self.0.remove(&user)),
                Err(guard) => {
                    let Some(account) = store.account(user).await?.map(Arc::new) else { return Ok(None) };
                    // An error says it was forgotten meanwhile; this caller asked before that.
                    let _forgotten = guard.insert(Read { account: Arc::clone(&account), at: Instant::now() });
                    return Ok(Some(account));
                }
            }
        }
    }

    pub(super) fn forget(&self, user: UserId) {
        self.0.remove(&user);
    }

    pub(super) fn forget_all(&self) {
        self.0.clear();
    }
}
