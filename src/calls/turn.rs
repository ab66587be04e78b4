//! Relays for those whose network lets no UDP through: time-limited credentials of a TURN server that shares a secret with this engine,
//! as coturn's `use-auth-secret` has them (draft-uberti-behave-turn-rest-00).
//!
//! The name is `<unix seconds until which it is good>:<user>`, the password its HMAC-SHA1 under the secret; the TURN server computes the
//! same, and nothing is asked of anybody.

use base64::Engine as _;
use nova_actors::id::UserId;
use ring::hmac;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::config::RtcConfig;

/// How long credentials are good for: a long call, and its changes of network.
const GOOD_FOR: time::Duration = time::Duration::hours(12);

/// The TURN servers of an installation.
pub(super) struct Turn {
    urls: Vec<String>,
    key: hmac::Key,
}

impl Turn {
    /// Those of the configuration, when there are any.
    pub(super) fn new(config: &RtcConfig) -> Option<Turn> {
        let secret = config.turn_secret.as_ref()?;
        // What the TURN server computes is HMAC-SHA1; as a MAC it is sound.
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose().as_bytes());
        (!config.turn_urls.is_empty()).then(|| Turn { urls: config.turn_urls.clone(), key })
    }

    /// One entry of `iceServers` (WebRTC section 4.2.4) for somebody.
    pub(super) fn server_for(&self, user: UserId, now: OffsetDateTime) -> Value {
        let username = format!("{}:{user}", (now + GOOD_FOR).unix_timestamp());
        let password = hmac::sign(&self.key, username.as_bytes());
        let credential = base64::engine::general_purpose::STANDARD.encode(password);
        json!({ "urls": self.urls, "username": username, "credential": credential })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_password_is_what_coturn_computes() {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"north");
        let turn = Turn { urls: vec!["turn:turn.example:3478".to_owned()], key };
        let user = UserId::from_uuid(uuid::Uuid::from_u128(1));
        let server = turn.server_for(user, datetime!(2026-01-02 00:00 UTC));
        let username = format!("1767355200:{user}");
        assert_eq!(server["username"], username);
        // `printf %s 1767355200:user_00000000000000000000000001 | openssl dgst -sha1 -hmac north -binary | base64`
        assert_eq!(server["credential"], CREDENTIAL);
    }

    const CREDENTIAL: &str = "CdXxsXVB87XrGVu7bbyY7ZNZ02s=";
}
