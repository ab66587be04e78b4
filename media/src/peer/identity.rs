//! Who each side says it is: by its certificate in DTLS, and by name and password in ICE.

use std::sync::Arc;

use ring::digest;
use ring::rand::SecureRandom as _;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::crypto::Certificate;

/// A SHA-256 fingerprint of a certificate (RFC 8122 section 5).
pub type Fingerprint = [u8; 32];

/// A key and its certificate, made anew with every process.
pub struct Identity {
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
    pub(super) certificate: Certificate,
    fingerprint: Fingerprint,
}

/// Why no identity could be made.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for calls could be made: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// A new key on P-256.
    pub fn generate() -> Result<Identity, IdentityError> {
        let provider = rtc_crypto::default_provider().map_err(|error| IdentityError(error.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["nova".to_owned()], provider.crypto())
            .map_err(|error| IdentityError(error.to_string()))?;
        let der = certificate.certificate.first().ok_or_else(|| IdentityError("it is empty".to_owned()))?;
        let fingerprint = fingerprint(der);
        Ok(Identity { provider, certificate, fingerprint })
    }

    /// What the signalling says of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// Of a certificate, as DTLS shows it.
pub(super) fn fingerprint(der: &[u8]) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Name and password of one side of an ICE session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// 4 to 256 characters of `A-Z a-z 0-9 + /`.
    pub ufrag: String,
    /// 22 to 256 characters of the same.
    pub password: String,
}

impl Credentials {
    /// New ones. The ufrag begins with `token`, by which a datagram finds its shard and participant.
    pub fn generate(token: &str) -> Result<Credentials, ring::error::Unspecified> {
        Ok(Credentials { ufrag: format!("{token}{}", random_text(6)?), password: random_text(24)? })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

fn random_text(len: usize) -> Result<String, ring::error::Unspecified> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = vec![0; len];
    ring::rand::SystemRandom::new().fill(&mut random)?;
    let letter = |byte: u8| LETTERS.get(usize::from(byte & 63)).map(|letter| char::from(*letter));
    Ok(random.into_iter().filter_map(letter).collect())
}
