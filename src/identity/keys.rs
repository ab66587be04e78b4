//! The keys that sign access tokens, as this node knows them.
//!
//! Keys lie in PostgreSQL, the private halves sealed; every node holds them all. The one that signs is the newest whose time has come.
//! A new one is made [`PUBLISH_LEAD`] before its time, so that every node, and everybody who keeps a copy of the JWKS for as long
//! as they may, knows it before its first token. An old one stays until the last of its tokens is dead.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use nova_actors::id::SigningKeyId;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use super::seal::{SealBroken, Sealer};

/// How long a key is known before it signs: twice what others may keep the JWKS ([`JWKS_AGE_S`]).
pub const PUBLISH_LEAD: Duration = Duration::minutes(10);
/// How long others may keep a copy of the JWKS, in seconds.
pub const JWKS_AGE_S: u32 = 300;
/// How much longer than its tokens a key is kept: clocks differ, and the life of tokens may have been configured anew.
const KEPT_LONGER: Duration = Duration::hours(1);

/// A key as the database keeps it.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// Its name; the `kid` of its tokens.
    pub id: SigningKeyId,
    /// The public half.
    pub public_key: [u8; 32],
    /// The private half, sealed.
    pub sealed_private: Vec<u8>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// From when on it signs.
    pub signs_from: OffsetDateTime,
}

impl StoredKey {
    /// A new key.
    pub fn generate(sealer: &Sealer, now: OffsetDateTime, signs_from: OffsetDateTime) -> StoredKey {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("an operating system without randomness can run nothing of this");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("every 32 bytes are a seed");
        let public_key = pair.public_key().as_ref().try_into().expect("public keys of Ed25519 have 32 bytes");
        let id = SigningKeyId::new(now);
        StoredKey {
            id,
            public_key,
            sealed_private: sealer.seal(&place(id), &seed),
            created_at: now,
            signs_from,
        }
    }
}

fn place(id: SigningKeyId) -> String {
    format!("signing_keys.sealed_private {id}")
}

struct Key {
    id: SigningKeyId,
    public_key: [u8; 32],
    pair: Ed25519KeyPair,
    signs_from: OffsetDateTime,
}

/// The keys. Cheap to read, replaced as a whole.
#[derive(Default)]
pub struct Keys(RwLock<Arc<Vec<Key>>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().iter().map(|key| key.id)).finish()
    }
}

impl Keys {
    /// Takes what the database has; what is known here stands until all of it was opened. Says whether a key is gone.
    pub fn replace(&self, stored: Vec<StoredKey>, sealer: &Sealer) -> Result<bool, SealBroken> {
        let mut keys = Vec::new();
        for key in stored {
            let seed = sealer.open(&place(key.id), &key.sealed_private)?;
            let pair =
                Ed25519KeyPair::from_seed_and_public_key(&seed, &key.public_key).map_err(|_| SealBroken)?;
            keys.push(Key { id: key.id, public_key: key.public_key, pair, signs_from: key.signs_from });
        }
        keys.sort_by_key(|key| (key.signs_from, key.id));
        let is_gone = |was: &Key| !keys.iter().any(|key| key.id == was.id);
        let lost = self.all().iter().any(is_gone);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(lost)
    }

    /// Signs with the newest key whose time has come; `None` when there is none.
    pub fn sign(
        &self,
        now: OffsetDateTime,
        sign: impl FnOnce(SigningKeyId, &Ed25519KeyPair) -> String,
    ) -> Option<String> {
        let keys = self.all();
        keys.iter().rfind(|key| key.signs_from <= now).map(|key| sign(key.id, &key.pair))
    }

    /// The public half of a key.
    pub fn public(&self, id: SigningKeyId) -> Option<[u8; 32]> {
        self.all().iter().find(|key| key.id == id).map(|key| key.public_key)
    }

    /// What others verify with.
    pub fn jwks(&self) -> Jwks {
        let jwk = |key: &Key| Jwk {
            kty: "OKP",
            crv: "Ed25519",
            alg: "EdDSA",
            key_use: "sig",
            kid: key.id.to_string(),
            x: B64.encode(key.public_key),
        };
        Jwks { keys: self.all().iter().map(jwk).collect() }
    }

    fn all(&self) -> Arc<Vec<Key>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A JSON Web Key Set (RFC 7517 section 5).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Jwks {
    /// The keys, the one that signs and those before and after it.
    pub keys: Vec<Jwk>,
}

/// One public key (RFC 8037 section 2).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: &'static str,
    /// Always `Ed25519`.
    pub crv: &'static str,
    /// Always `EdDSA`.
    pub alg: &'static str,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub key_use: &'static str,
    /// The `kid` of the tokens it verifies.
    pub kid: String,
    /// The key, base64url.
    pub x: String,
}

/// When a further key should sign from, if one is to be made now. `newest` is when the newest key there is signs from.
pub fn next_signs_from(
    newest: Option<OffsetDateTime>,
    now: OffsetDateTime,
    key_days: u16,
) -> Option<OffsetDateTime> {
    let Some(newest) = newest else { return Some(now) };
    let due = newest + Duration::days(i64::from(key_days));
    (now >= due - PUBLISH_LEAD).then(|| due.max(now + PUBLISH_LEAD))
}

/// Which keys nobody needs any more: those replaced so long ago that their last token is dead. Takes and gives `(id, signs_from)`,
/// oldest first.
pub fn dead(keys: &[(SigningKeyId, OffsetDateTime)], now: OffsetDateTime, token_s: u32) -> Vec<SigningKeyId> {
    let kept = Duration::seconds(i64::from(token_s)) + KEPT_LONGER;
    let replaced = keys.iter().zip(keys.iter().skip(1));
    replaced.filter(|(_, (_, replaced_at))| *replaced_at + kept < now).map(|((id, _), _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::identity::tokens::{self, Claims, TokenError};

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);

    #[test]
    fn a_key_is_known_before_it_signs_and_after_it_is_replaced() {
        let sealer = Sealer::generate();
        let first = StoredKey::generate(&sealer, NOON, NOON);
        let second = StoredKey::generate(&sealer, NOON, NOON + Duration::minutes(10));
        let keys = Keys::default();
        assert_eq!(keys.sign(NOON, |_, _| String::new()), None, "without a key nothing is signed");
        keys.replace(vec![second.clone(), first.clone()], &sealer).unwrap();
        let signer = |at| keys.sign(at, |kid, _| kid.to_string());
        assert_eq!(signer(NOON), Some(first.id.to_string()));
        assert_eq!(signer(NOON + Duration::minutes(9)), Some(first.id.to_string()));
        assert_eq!(signer(NOON + Duration::minutes(10)), Some(second.id.to_string()));
        assert_eq!(keys.public(first.id), Some(first.public_key));
        assert_eq!(keys.jwks().keys.len(), 2);
    }

    #[test]
    fn a_token_is_verified_with_what_the_jwks_says() {
        let sealer = Sealer::generate();
        let stored = StoredKey::generate(&sealer, NOON, NOON);
        let keys = Keys::default();
        keys.replace(vec![stored], &sealer).unwrap();
        let iat = NOON.unix_timestamp();
        let claims = Claims {
            iss: "nova".to_owned(),
            sub: nova_actors::id::UserId::generate(),
            sid: nova_actors::id::DeviceId::generate(),
            iat,
            exp: iat + 900,
        };
        let token = keys.sign(NOON, |kid, pair| tokens::sign(&claims, kid, pair)).unwrap();
        let jwks = serde_json::to_value(keys.jwks()).unwrap();
        let x = B64.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
        assert_eq!(jwks["keys"][0]["use"], "sig");
        let kid = jwks["keys"][0]["kid"].as_str().unwrap().parse().unwrap();
        let verified =
            tokens::verify(&token, "nova", |id| (id == kid).then(|| x.clone().try_into().unwrap()));
        assert_eq!(verified, Ok(claims));
        assert!(matches!(
            tokens::verify(&token, "nova", |id| Keys::default().public(id)),
            Err(TokenError::UnknownKey(_))
        ));
    }

    #[test]
    fn a_private_key_opens_in_its_own_row_only() {
        let sealer = Sealer::generate();
        let mut stored = StoredKey::generate(&sealer, NOON, NOON);
        stored.id = SigningKeyId::generate();
        assert_eq!(Keys::default().replace(vec![stored], &sealer), Err::<bool, _>(SealBroken));
    }

    #[test]
    fn keys_follow_each_other_without_a_gap() {
        let days = |n| Duration::days(n);
        assert_eq!(next_signs_from(None, NOON, 30), Some(NOON));
        assert_eq!(next_signs_from(Some(NOON), NOON + days(29), 30), None);
        assert_eq!(next_signs_from(Some(NOON), NOON + days(30) - PUBLISH_LEAD, 30), Some(NOON + days(30)));
        // The engine was off meanwhile: others still get their time to hear of the key.
        assert_eq!(next_signs_from(Some(NOON), NOON + days(90), 30), Some(NOON + days(90) + PUBLISH_LEAD));
    }

    #[test]
    fn a_key_dies_after_its_last_token() {
        let [one, two] = [SigningKeyId::generate(), SigningKeyId::generate()];
        let keys = [(one, NOON), (two, NOON + Duration::days(30))];
        let replaced = NOON + Duration::days(30);
        assert_eq!(dead(&keys, replaced + Duration::seconds(900), 900), []);
        assert_eq!(dead(&keys, replaced + Duration::seconds(901) + KEPT_LONGER, 900), [one]);
        assert_eq!(dead(&keys, NOON + Duration::days(9_000), 900), [one], "the newest stays however old");
    }
}
