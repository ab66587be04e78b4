//! Refresh tokens: how a device proves that it is still the one that logged in.
//!
//! A token has two random halves: the *family*, which all tokens of one device share, and the *secret*, new with every rotation. The
//! database holds the SHA-256 of the family and of the newest secret, one row a device however often it rotates. So every token that was
//! ever ours is told from a guess, for ever: the right family with the newest secret rotates; the right family with any other secret is
//! an old token, which means two parties hold this session, and ends it (RFC 9700 section 4.14.2). A guess of 128 bits is just wrong.
//!
//! **A lost answer.** A client that never got the answer holds only the old token, and must not lose its session by asking again. It is
//! told from a thief by its `Idempotency-Key`: a random word that travelled with the first attempt only and is stored as a hash. The token
//! before the newest, with the key of the rotation that replaced it, within [`RETRY`], rotates once more. Whoever stole just the token
//! does not have the word, so reuse is still noticed at the first use; and if somebody had both, the owner's next refresh would show
//! it, because the retry put the token that was on its way out of use. Without the header there is no second try.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use sha2::{Digest as _, Sha256};

/// How long after a rotation its answer may be asked for again.
pub const RETRY: Duration = Duration::from_secs(120);
const FAMILY_LEN: usize = 16;
const SECRET_LEN: usize = 32;
/// What a refresh token begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "nova_rt_";

/// SHA-256 of a secret.
pub type Hash = [u8; 32];

/// A refresh token; prints masked.
pub struct RefreshToken {
    family: [u8; FAMILY_LEN],
    secret: [u8; SECRET_LEN],
}

impl RefreshToken {
    /// The first token of a new family.
    pub fn generate() -> RefreshToken {
        RefreshToken { family: random(), secret: random() }
    }

    /// The next token of this family.
    pub fn next(&self) -> RefreshToken {
        RefreshToken { family: self.family, secret: random() }
    }

    /// Reads what [`text`](Self::text) wrote.
    pub fn read(text: &str) -> Option<RefreshToken> {
        let mut bytes = [0; FAMILY_LEN + SECRET_LEN];
        let encoded = text.strip_prefix(PREFIX)?;
        if encoded.len() != 64 || B64.decode_slice(encoded, &mut bytes).ok()? != bytes.len() {
            return None;
        }
        let (family, secret) = bytes.split_first_chunk::<FAMILY_LEN>()?;
        Some(RefreshToken { family: *family, secret: secret.try_into().ok()? })
    }

    /// For the client.
    pub fn text(&self) -> String {
        let mut bytes = self.family.to_vec();
        bytes.extend_from_slice(&self.secret);
        format!("{PREFIX}{}", B64.encode(bytes))
    }

    /// What a device is found by.
    pub fn family_hash(&self) -> Hash {
        hash(&self.family)
    }

    /// What tells the newest token from the others.
    pub fn secret_hash(&self) -> Hash {
        hash(&self.secret)
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken(***)")
    }
}

/// SHA-256 of anything random; slow hashing adds nothing to that.
pub fn hash(secret: &[u8]) -> Hash {
    Sha256::digest(secret).into()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("an operating system without randomness can run nothing of this");
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_read_again_and_prints_masked() {
        let token = RefreshToken::generate();
        let read = RefreshToken::read(&token.text()).unwrap();
        assert_eq!((read.family, read.secret), (token.family, token.secret));
        let next = token.next();
        assert_eq!(next.family_hash(), token.family_hash());
        assert_ne!(next.secret_hash(), token.secret_hash());
        assert_eq!(format!("{token:?}"), "RefreshToken(***)");
    }

    proptest! {
        #[test]
        fn one_token_has_one_spelling(noise in any::<String>(), tail in "[A-Za-z0-9_=-]{60,66}") {
            prop_assert!(RefreshToken::read(&noise).is_none());
            let text = format!("{PREFIX}{tail}");
            if let Some(token) = RefreshToken::read(&text) {
                prop_assert_eq!(token.text(), text);
            }
        }
    }
}
