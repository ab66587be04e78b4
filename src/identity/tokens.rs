//! Access tokens: compact JWS (RFC 7515) signed with Ed25519 (RFC 8037), claims as in RFC 9068.
//!
//! The whole format is this file over `ring`: one algorithm, one header, six claims. A JWT library would bring a second opinion on
//! `alg`, and the one we know of brings either a crypto library under a licence outside our list, or RSA. What is read is bounded, the
//! algorithm is ours and not the token's, and nothing is believed before the signature is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use nova_actors::id::{DeviceId, SigningKeyId, UserId};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The longest token that is looked at; ours have about 400 bytes.
pub const TOKEN_BYTES_MAX: usize = 1_024;
/// How far ahead the clock of the node that signed may be. Expiry has no such leeway: a token is good for as long as was said, by the
/// clock of whoever looks.
pub const CLOCK_SKEW_S: i64 = 60;

const ALGORITHM: &str = "EdDSA";
/// RFC 9068 section 2.1: keeps other tokens of the same issuer from being taken for this one.
const TYPE: &str = "at+jwt";

/// What an access token says. Times are seconds since 1970 (RFC 7519 `NumericDate`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it: the option `issuer`.
    pub iss: String,
    /// The user.
    pub sub: UserId,
    /// The device it was issued to.
    pub sid: DeviceId,
    /// When it was issued.
    pub iat: i64,
    /// When it expires.
    pub exp: i64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of ours: its shape, type, algorithm, signature or issuer.
    #[error("not a token of this engine")]
    Invalid,
    /// It names a key this node does not know.
    #[error("signed with an unknown key")]
    UnknownKey(SigningKeyId),
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Issued further in the future than clocks differ.
    #[error("issued in the future")]
    NotYet,
}

#[derive(Deserialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: SigningKeyId,
    /// Extensions the reader must understand (RFC 7515 section 4.1.11); we understand none.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// Signs `claims`.
pub fn sign(claims: &Claims, kid: SigningKeyId, key: &Ed25519KeyPair) -> String {
    let header = serde_json::json!({ "alg": ALGORITHM, "typ": TYPE, "kid": kid });
    let claims = serde_json::to_vec(claims).expect("claims are texts and numbers");
    let mut token = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims));
    let signature = key.sign(token.as_bytes());
    token.push('.');
    B64.encode_string(signature.as_ref(), &mut token);
    token
}

/// Checks the signature of `token` and reads it. `key` gives the public key of an id.
pub fn verify(
    token: &str,
    issuer: &str,
    key: impl FnOnce(SigningKeyId) -> Option<[u8; 32]>,
) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Invalid);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Invalid)?;
    let header = B64.decode(header).map_err(|_| TokenError::Invalid)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Invalid)?;
    if header.alg != ALGORITHM || header.typ != TYPE || header.crit.is_some() {
        return Err(TokenError::Invalid);
    }
    let public = key(header.kid).ok_or(TokenError::UnknownKey(header.kid))?;
    let signature = B64.decode(signature).map_err(|_| TokenError::Invalid)?;
    UnparsedPublicKey::new(&ED25519, public)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| TokenError::Invalid)?;
    let claims = B64.decode(claims).map_err(|_| TokenError::Invalid)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| TokenError::Invalid)?;
    if claims.iss != issuer || claims.exp <= claims.iat {
        return Err(TokenError::Invalid);
    }
    Ok(claims)
}

impl Claims {
    /// Whether they hold at `now`; to be asked again for every request.
    pub fn check_time(&self, now: OffsetDateTime) -> Result<(), TokenError> {
        let now = now.unix_timestamp();
        if now >= self.exp {
            Err(TokenError::Expired)
        } else if self.iat > now.saturating_add(CLOCK_SKEW_S) {
            Err(TokenError::NotYet)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::KeyPair as _;
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);

    struct Issuer {
        kid: SigningKeyId,
        key: Ed25519KeyPair,
    }

    impl Issuer {
        fn new() -> Issuer {
            Issuer {
                kid: SigningKeyId::generate(),
                key: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
            }
        }

        fn public(&self) -> [u8; 32] {
            self.key.public_key().as_ref().try_into().unwrap()
        }

        fn verify(&self, token: &str) -> Result<Claims, TokenError> {
            verify(token, "nova", |kid| (kid == self.kid).then(|| self.public()))
        }

        /// A token with any header and claims, rightly signed.
        fn forge(&self, header: &str, claims: &str) -> String {
            let signed = format!("{}.{}", B64.encode(header), B64.encode(claims));
            format!("{signed}.{}", B64.encode(self.key.sign(signed.as_bytes())))
        }
    }

    fn claims() -> Claims {
        let iat = NOON.unix_timestamp();
        Claims {
            iss: "nova".to_owned(),
            sub: UserId::generate(),
            sid: DeviceId::generate(),
            iat,
            exp: iat + 900,
        }
    }

    #[test]
    fn a_signed_token_is_read_again() {
        let issuer = Issuer::new();
        let claims = claims();
        let token = sign(&claims, issuer.kid, &issuer.key);
        assert!(token.len() < TOKEN_BYTES_MAX / 2, "{}", token.len());
        assert_eq!(issuer.verify(&token), Ok(claims));
        assert_eq!(verify(&token, "other", |_| Some(issuer.public())), Err(TokenError::Invalid));
        assert_eq!(verify(&token, "nova", |_| None), Err(TokenError::UnknownKey(issuer.kid)));
        assert_eq!(verify(&token, "nova", |_| Some([9; 32])), Err(TokenError::Invalid));
    }

    #[test]
    fn the_algorithm_is_ours_and_not_the_tokens() {
        let issuer = Issuer::new();
        let body = serde_json::to_string(&claims()).unwrap();
        let kid = issuer.kid;
        let header = |alg: &str| format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
        assert!(issuer.verify(&issuer.forge(&header("EdDSA"), &body)).is_ok());
        for alg in ["none", "None", "HS256", "ES256", "RS256", "Ed25519", "eddsa", ""] {
            assert_eq!(issuer.verify(&issuer.forge(&header(alg), &body)), Err(TokenError::Invalid), "{alg}");
        }
        // Unsigned, and signed with the public key as if it were a shared secret.
        let signed = format!("{}.{}", B64.encode(header("none")), B64.encode(&body));
        assert_eq!(issuer.verify(&format!("{signed}.")), Err(TokenError::Invalid));
        let signed = format!("{}.{}", B64.encode(header("HS256")), B64.encode(&body));
        let tag = ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &issuer.public()),
            signed.as_bytes(),
        );
        assert_eq!(issuer.verify(&format!("{signed}.{}", B64.encode(tag))), Err(TokenError::Invalid));
    }

    #[test]
    fn other_headers_and_claims_are_refused_however_well_signed() {
        let issuer = Issuer::new();
        let kid = issuer.kid;
        let good = serde_json::to_value(claims()).unwrap();
        for header in [
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#),
            r#"{"alg":"EdDSA","typ":"at+jwt"}"#.to_owned(),
            r#"{"alg":"EdDSA","typ":"at+jwt","kid":"user_01h455vb4pex5vsknk084sn02q"}"#.to_owned(),
            format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","crit":["exp"]}}"#),
            format!(r#"{{"alg":"EdDSA","alg":"none","typ":"at+jwt","kid":"{kid}"}}"#),
            "[]".to_owned(),
            String::new(),
        ] {
            assert_eq!(
                issuer.verify(&issuer.forge(&header, &good.to_string())),
                Err(TokenError::Invalid),
                "{header}"
            );
        }
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#);
        for claim in ["iss", "sub", "sid", "iat", "exp"] {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(claim);
            assert_eq!(
                issuer.verify(&issuer.forge(&header, &without.to_string())),
                Err(TokenError::Invalid),
                "{claim}"
            );
        }
        for (claim, value) in [
            ("exp", "1e400"),
            ("exp", "\"9999999999\""),
            ("exp", "0"),
            ("sub", "\"room_1\""),
            ("iss", "\"evil\""),
        ] {
            let mut with = good.clone();
            with[claim] = serde_json::from_str(value).unwrap_or_default();
            assert_eq!(
                issuer.verify(&issuer.forge(&header, &with.to_string())),
                Err(TokenError::Invalid),
                "{claim}"
            );
        }
    }

    #[test]
    fn a_token_holds_from_its_issue_to_its_expiry() {
        let claims = claims();
        let at = |s: i64| claims.check_time(NOON + time::Duration::seconds(s));
        assert_eq!(at(0), Ok(()));
        assert_eq!(at(899), Ok(()));
        assert_eq!(at(900), Err(TokenError::Expired));
        assert_eq!(at(-CLOCK_SKEW_S), Ok(()), "the clock of another node is a minute ahead");
        assert_eq!(at(-CLOCK_SKEW_S - 1), Err(TokenError::NotYet));
    }

    proptest! {
        #[test]
        fn no_text_panics_or_passes(noise in any::<String>(), parts in "[A-Za-z0-9_.-]{0,400}") {
            let issuer = Issuer::new();
            prop_assert!(issuer.verify(&noise).is_err());
            prop_assert!(issuer.verify(&parts).is_err());
        }

        #[test]
        fn a_changed_token_is_refused(at in any::<proptest::sample::Index>(), to in "[A-Za-z0-9_.=-]") {
            let issuer = Issuer::new();
            let token = sign(&claims(), issuer.kid, &issuer.key);
            let at = at.index(token.len());
            let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(issuer.verify(&changed).is_err(), "{changed}");
        }

        #[test]
        fn claims_of_any_time_do_not_overflow(iat in any::<i64>(), exp in any::<i64>()) {
            let _: Result<_, _> = Claims { iat, exp, ..claims() }.check_time(NOON);
        }
    }
}
