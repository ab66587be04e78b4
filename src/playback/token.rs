//! Playback tokens: who has one may open the playlists of a private stream, and of what is kept of it, until it expires.
//!
//! ```text
//! base64url( version (1 byte) · stream id (16) · expires at, Unix seconds (8) · first 16 bytes of HMAC-SHA-256 of what stands before )
//! ```
//!
//! Every node checks it by itself. Only playlists ask for one: what they list lies under names nobody guesses and is the same for all
//! viewers, so caches serve it. A player that goes on longer than its token gets another with the same call and puts it into the query
//! of its next playlist request; somebody who was sent away is out when theirs has expired.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nova_actors::id::StreamId;
use ring::hmac;
use time::OffsetDateTime;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
const TOKEN_CHARS: usize = 55;

/// Makes tokens and knows them again.
#[derive(Debug, Clone)]
pub struct Tokens(hmac::Key);

impl Tokens {
    /// The tokens of an installation.
    pub fn new(key: &[u8]) -> Tokens {
        Tokens(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A token that opens `stream` until then.
    pub fn make(&self, stream: StreamId, until: OffsetDateTime) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(stream.as_uuid().as_bytes());
        bytes.extend_from_slice(&until.unix_timestamp().to_be_bytes());
        let tag = hmac::sign(&self.0, &bytes);
        bytes.extend(tag.as_ref().iter().take(TAG_BYTES));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether this token opens `stream` now.
    pub fn opens(&self, token: &str, stream: StreamId, now: OffsetDateTime) -> bool {
        if token.len() != TOKEN_CHARS {
            return false;
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Some((signed, tag)) =
            bytes.len().checked_sub(TAG_BYTES).and_then(|at| bytes.split_at_checked(at))
        else {
            return false;
        };
        let expected = hmac::sign(&self.0, signed);
        let expected = expected.as_ref().get(..TAG_BYTES).unwrap_or(&[]);
        let same: bool = subtle::ConstantTimeEq::ct_eq(expected, tag).into();
        let (Some(until), Some(of)) = (signed.get(17..25), signed.get(1..17)) else { return false };
        let until = until.try_into().map(i64::from_be_bytes).unwrap_or(0);
        same && signed.first() == Some(&VERSION)
            && of == stream.as_uuid().as_bytes()
            && until > now.unix_timestamp()
    }
}

/// The token in a query.
pub(crate) fn in_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("token="))
}

#[cfg(test)]
mod tests {
    use time::Duration;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_token_opens_its_stream_until_it_expires() {
        let tokens = Tokens::new(&[1; 32]);
        let (stream, now) = (StreamId::generate(), datetime!(2026-01-02 12:00 UTC));
        let token = tokens.make(stream, now + Duration::MINUTE);
        assert_eq!(token.len(), TOKEN_CHARS);
        assert!(tokens.opens(&token, stream, now));
        assert!(!tokens.opens(&token, stream, now + Duration::MINUTE), "it has expired");
        assert!(!tokens.opens(&token, StreamId::generate(), now), "it is for another stream");
        assert!(!Tokens::new(&[2; 32]).opens(&token, stream, now), "somebody else made it");
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("text");
            assert!(!tokens.opens(&forged, stream, now), "changed at {at}");
        }
        assert!(!tokens.opens("", stream, now) && !tokens.opens(&"A".repeat(TOKEN_CHARS), stream, now));
        assert_eq!(in_query("_HLS_msn=3&token=x"), Some("x"));
        assert_eq!(in_query("tokens=x"), None);
    }
}
