//! Who is who: accounts, the devices logged in to them, and the tokens that say so.
//!
//! [`Identity`] is one node's share of it. PostgreSQL holds the truth; what every request needs is held here: the keys that verify access
//! tokens ([`keys`]), what was revoked before its time ([`revocation`]), the tokens verified lately and the accounts read lately. Nodes
//! tell each other what changed over the bus and load what they missed (`upkeep`), so a request with a token costs no query.
//!
//! | file | what it settles |
//! |---|---|
//! | [`names`] | usernames, e-mail addresses, display names: what is one, and which are the same |
//! | [`passwords`] | which are taken, how they are hashed, and the threads that do it |
//! | [`tokens`], [`keys`] | access tokens, and the keys that sign them |
//! | [`refresh`] | refresh tokens: rotation, reuse, the lost answer |
//! | [`totp`] | second factors and recovery codes |
//! | [`seal`] | what lies sealed in the database, and with what |
//! | [`revocation`] | what ended before its time |
//! | [`caller`] | who makes a request |

pub mod accounts;
mod attempts;
mod cache;
pub mod caller;
mod error;
pub mod keys;
pub mod names;
pub mod passwords;
pub mod refresh;
pub mod revocation;
pub mod seal;
mod second_factor;
pub mod sessions;
pub mod tokens;
pub mod totp;
mod upkeep;

use std::sync::Arc;

use nova_actors::clock::Clock;
use nova_actors::id::{DeviceId, NodeId, UserId};
use nova_actors::port::Bus;
use time::OffsetDateTime;
use tokio::sync::broadcast;

use crate::config::{Config, IdentityConfig};
use crate::store::{Store, StoreError};

pub use caller::{Caller, Role};
pub use error::IdentityError;
pub use revocation::{Revoked, Why};
pub use second_factor::Setup;
pub use sessions::{From, LoggedIn};

use cache::{Accounts, Verified};
use keys::{Keys, StoredKey};
use passwords::Passwords;
use revocation::Revocations;
use seal::{SealError, Sealer, Secrets};
use tokens::TokenError;

/// Why a node cannot take part in identity; each prints as one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityStartError {
    /// The data key does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A signing key does not open although the data key did: the row was damaged.
    #[error(
        "a row of the table signing_keys is damaged: delete the row; a new key is made at the next start"
    )]
    SigningKey,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The threads that hash passwords cannot be started.
    #[error("cannot start the threads that hash passwords: {0}")]
    Threads(std::io::Error),
}

/// One node's share of identity.
#[derive(Debug)]
pub struct Identity {
    parts: Arc<Parts>,
    upkeep: tokio::task::JoinHandle<()>,
}

/// What upkeep shares with requests.
struct Parts {
    config: IdentityConfig,
    node: NodeId,
    clock: Arc<dyn Clock>,
    store: Store,
    bus: Arc<dyn Bus>,
    /// Nobody tells this node what other processes do: there is no bus between them.
    is_alone: bool,
    sealer: Sealer,
    keys: Keys,
    reload: upkeep::Reload,
    attempts: attempts::Attempts,
    revocations: Revocations,
    verified: Verified,
    accounts: Accounts,
    passwords: Passwords,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("node", &self.node).field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Identity {
    /// Opens the keys of the database, making them when it has none, loads what is revoked, and starts to listen. Must be called inside
    /// a tokio runtime; what runs in the background ends when the value is dropped.
    pub async fn start(
        config: &Config,
        node: NodeId,
        clock: Arc<dyn Clock>,
        store: Store,
        bus: Arc<dyn Bus>,
    ) -> Result<Identity, IdentityStartError> {
        let sealer = open_sealer(config, &store, clock.now()).await?;
        let is_alone = config.bus.redis_url.is_none();
        let attempts = attempts::Attempts::new(&config.limits);
        let config = config.identity.clone();
        let passwords =
            Passwords::start(config.password_thread_count(), usize::from(config.password_queue_max))
                .map_err(IdentityStartError::Threads)?;
        let parts = Arc::new(Parts {
            revocations: Revocations::new(config.access_token_s),
            keys: Keys::default(),
            reload: upkeep::Reload::default(),
            verified: Verified::default(),
            accounts: Accounts::default(),
            passwords,
            attempts,
            sealer,
            node,
            clock,
            store,
            bus,
            is_alone,
            config,
        });
        parts.turn_keys().await?;
        let upkeep = parts.begin_upkeep().await?;
        Ok(Identity { upkeep: tokio::spawn(upkeep), parts })
    }

    /// Believes an access token, or says why not. Asks nobody, unless the token names a key this node has not heard of.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, IdentityError> {
        let parts = &self.parts;
        let digest = cache::digest(token);
        let claims = match parts.verified.get(&digest) {
            Some(claims) => claims,
            None => {
                let claims = match parts.verify(token) {
                    Err(TokenError::UnknownKey(_)) if parts.reload_for_unknown_key().await => {
                        parts.verify(token)
                    }
                    verified => verified,
                }?;
                parts.verified.insert(digest, claims);
                claims
            }
        };
        claims.check_time(parts.now())?;
        match parts.revocations.why(claims.device) {
            Some(why) => Err(IdentityError::Revoked(why)),
            None => Ok(Caller { user: claims.user, device: claims.device, expires_at: claims.expires_at() }),
        }
    }

    /// Hears every session that ends from now on, on any node; whoever holds sockets closes those of the device. One who hears `Lagged` asks
    /// [`is_revoked`](Self::is_revoked) for each it holds.
    pub fn revocations(&self) -> broadcast::Receiver<Revoked> {
        self.parts.revocations.listen()
    }

    /// Why a device's session ended, if it did within the life of an access token.
    pub fn is_revoked(&self, device: DeviceId) -> Option<Why> {
        self.parts.revocations.why(device)
    }

    /// The public keys access tokens are verified with.
    pub fn jwks(&self) -> keys::Jwks {
        self.parts.keys.jwks()
    }

    /// An access token for a device that stands in the store already: for tools that make many people at once ([`crate::bench`]).
    pub fn vouch_for(&self, user: UserId, device: DeviceId) -> Result<String, IdentityError> {
        self.parts.sign(user, device).map(|(token, _expires_in)| token)
    }

    /// A key for another purpose, the same on every node of this database.
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        self.parts.sealer.derive(purpose)
    }

    /// Seals what lies in the database.
    pub fn sealer(&self) -> &Sealer {
        &self.parts.sealer
    }

    /// The pool of threads that hash.
    pub fn passwords(&self) -> &Passwords {
        &self.parts.passwords
    }

    /// Makes the next signing key when it is due, removes dead ones, and loads them all. Upkeep does it every minute on one of the nodes;
    /// for tests and operators who do not want to wait.
    pub async fn turn_keys(&self) -> Result<(), IdentityStartError> {
        self.parts.turn_keys().await
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

impl Parts {
    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    fn verify(&self, token: &str) -> Result<cache::Claims, TokenError> {
        let claims = tokens::verify(token, &self.config.issuer, |kid| self.keys.public(kid))?;
        Ok(cache::Claims { user: claims.sub, device: claims.sid, iat: claims.iat, exp: claims.exp })
    }

    /// A token for `device`, and the seconds it is good for.
    fn sign(&self, user: UserId, device: DeviceId) -> Result<(String, u32), IdentityError> {
        let now = self.now();
        let iat = now.unix_timestamp();
        let expires_in = self.config.access_token_s;
        let exp = iat + i64::from(expires_in);
        let claims = tokens::Claims { iss: self.config.issuer.clone(), sub: user, sid: device, iat, exp };
        let token = self.keys.sign(now, |kid, key| tokens::sign(&claims, kid, key));
        Ok((token.ok_or(IdentityError::NoSigningKey)?, expires_in))
    }

    async fn turn_keys(&self) -> Result<(), IdentityStartError> {
        let now = self.now();
        let make = |signs_from| StoredKey::generate(&self.sealer, now, signs_from);
        let (days, token_s) = (self.config.signing_key_days, self.config.access_token_s);
        if self.store.turn_signing_keys(now, days, token_s, make).await? {
            self.tell(&upkeep::News::Keys).await;
        }
        self.load_keys().await
    }

    async fn load_keys(&self) -> Result<(), IdentityStartError> {
        let stored = self.store.signing_keys().await?;
        if self.keys.replace(stored, &self.sealer).map_err(|_| IdentityStartError::SigningKey)? {
            self.verified.clear();
        }
        Ok(())
    }
}

async fn open_sealer(
    config: &Config,
    store: &Store,
    now: OffsetDateTime,
) -> Result<Sealer, IdentityStartError> {
    let is_embedded = config.database.database_url.is_none();
    let secrets = Secrets::gather(config)?;
    let first = Sealer::generate().to_sealed(&secrets, is_embedded);
    let kept = store.data_key(&first, now).await?;
    let (sealer, reseal) = Sealer::from_sealed(&kept, &secrets, is_embedded)?;
    let sealed_by = match reseal {
        true => {
            let becomes = sealer.to_sealed(&secrets, is_embedded);
            store.reseal_data_key(&kept, &becomes).await?;
            becomes.sealed_by
        }
        false => kept.sealed_by,
    };
    if sealed_by == seal::SealedBy::Open {
        tracing::warn!("the keys in the database are not sealed: set NOVA_SECRET, the same on all nodes");
    }
    Ok(sealer)
}
