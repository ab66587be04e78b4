//! Binding requests and their answers (RFC 8489), as far as an ICE-lite agent needs them (RFC 8445 section 2.5).
//!
//! A message is read without copying and believed only after [`Binding::is_signed_with`]: whoever sends it proves that they know the
//! password that was given to them over the signalling.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;

use crate::bits::{ByteReader, Truncated};

/// Bytes of a message that is looked at; browsers send about 100.
pub const MESSAGE_BYTES_MAX: usize = 1_280;
/// Attributes of a message that is looked at; browsers send about eight.
const ATTRIBUTES_MAX: usize = 24;
/// Bytes of a user name: two ufrags of at most 256 and a colon (RFC 8839 section 5.4).
const USERNAME_BYTES_MAX: usize = 513;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const PRIORITY: u16 = 0x0024;
const ICE_CONTROLLING: u16 = 0x802A;
/// The priority of the only candidate of a peer, as one that is found by its requests (RFC 8445 section 5.1.2).
const PEER_REFLEXIVE: u32 = (110 << 24) | (65_535 << 8) | 255;
const FINGERPRINT_XOR: u32 = 0x5354_554E;
const INTEGRITY_BYTES: usize = 20;
const HEADER_BYTES: usize = 20;

/// Why a datagram is no binding request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Not a STUN message, or a broken one.
    #[error("this is not a STUN message")]
    Malformed,
    /// A STUN message that nobody here asked for.
    #[error("this is not a binding request")]
    NotARequest,
    /// It does not say whom it is for, or is not signed.
    #[error("the binding request is not signed")]
    Unsigned,
}

impl From<Truncated> for StunError {
    fn from(_: Truncated) -> StunError {
        StunError::Malformed
    }
}

/// Whether the first byte is that of a STUN message (RFC 7983).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| *byte <= 3)
}

/// Whether it begins as the answer to a binding request does.
pub fn is_answer(datagram: &[u8]) -> bool {
    datagram.first_chunk().is_some_and(|kind| u16::from_be_bytes(*kind) == BINDING_SUCCESS)
}

/// A binding request, not yet believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    message: &'a [u8],
    /// Names the request in its answer.
    pub transaction: [u8; 12],
    /// The receiver's ufrag.
    pub to_ufrag: &'a str,
    /// The sender's ufrag.
    pub from_ufrag: &'a str,
    /// Whether the sender has chosen this path.
    pub nominates: bool,
    /// Where the signature begins.
    signed_bytes: usize,
}

impl<'a> Binding<'a> {
    /// Reads a datagram. Nothing in it is true before its signature was checked.
    pub fn read(message: &'a [u8]) -> Result<Binding<'a>, StunError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(StunError::Malformed);
        }
        let mut reader = ByteReader::new(message);
        let kind = reader.u16()?;
        let len = usize::from(reader.u16()?);
        if kind & 0xC000 != 0 || reader.u32()? != MAGIC_COOKIE || len % 4 != 0 {
            return Err(StunError::Malformed);
        }
        let transaction = reader.array::<12>()?;
        if reader.len() != len {
            return Err(StunError::Malformed);
        }
        if kind != BINDING_REQUEST {
            return Err(StunError::NotARequest);
        }
        let (mut username, mut nominates, mut signed_bytes) = (None, false, None);
        for _ in 0..ATTRIBUTES_MAX {
            if reader.is_empty() {
                break;
            }
            let at = message.len() - reader.len();
            let attribute = reader.u16()?;
            let len = usize::from(reader.u16()?);
            let value = reader.take(len)?;
            reader.skip(len.next_multiple_of(4) - len)?;
            match attribute {
                // What stands behind the signature is not signed; only the checksum may.
                FINGERPRINT => {
                    let given = ByteReader::new(value).u32()?;
                    let mut crc = flate2::Crc::new();
                    crc.update(message.get(..at).unwrap_or_default());
                    if !reader.is_empty() || crc.sum() ^ FINGERPRINT_XOR != given {
                        return Err(StunError::Malformed);
                    }
                }
                _ if signed_bytes.is_some() => {}
                USERNAME if len <= USERNAME_BYTES_MAX => {
                    let text = std::str::from_utf8(value).map_err(|_| StunError::Malformed)?;
                    username = text.split_once(':');
                }
                MESSAGE_INTEGRITY if len == INTEGRITY_BYTES => signed_bytes = Some(at),
                USE_CANDIDATE => nominates = true,
                _ => {}
            }
        }
        let ((to_ufrag, from_ufrag), signed_bytes) = username.zip(signed_bytes).ok_or(StunError::Unsigned)?;
        Ok(Binding { message, transaction, to_ufrag, from_ufrag, nominates, signed_bytes })
    }

    /// Whether its sender knows the receiver's password.
    pub fn is_signed_with(&self, password: &[u8]) -> bool {
        let Some(signed) = self.message.get(..self.signed_bytes) else { return false };
        let behind = self.message.get(self.signed_bytes + 4..);
        let Some(signature) = behind.and_then(|behind| behind.get(..INTEGRITY_BYTES)) else { return false };
        // The length that was signed ends with the signature (RFC 8489 section 14.5).
        let Ok(len) = u16::try_from(self.signed_bytes + 4 + INTEGRITY_BYTES - HEADER_BYTES) else {
            return false;
        };
        let mut signed = signed.to_vec();
        if let Some(place) = signed.get_mut(2..4) {
            place.copy_from_slice(&len.to_be_bytes());
        }
        hmac::verify(&key(password), &signed, signature).is_ok()
    }

    /// The answer: where the request was seen to come from, signed with the receiver's password.
    pub fn answer(&self, seen: SocketAddr, password: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.extend_from_slice(&BINDING_SUCCESS.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(&self.transaction);
        let mut mapped = vec![0];
        let port = seen.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let mask = MAGIC_COOKIE.to_be_bytes().into_iter().chain(self.transaction);
        match seen.ip().to_canonical() {
            IpAddr::V4(ip) => {
                mapped.push(1);
                mapped.extend_from_slice(&port.to_be_bytes());
                mapped.extend(ip.octets().into_iter().zip(mask).map(|(byte, mask)| byte ^ mask));
            }
            IpAddr::V6(ip) => {
                mapped.push(2);
                mapped.extend_from_slice(&port.to_be_bytes());
                mapped.extend(ip.octets().into_iter().zip(mask).map(|(byte, mask)| byte ^ mask));
            }
        }
        attribute(&mut out, XOR_MAPPED_ADDRESS, &mapped);
        sign(&mut out, password);
        out
    }
}

/// A signed binding request from `from_ufrag` to `to_ufrag`, as a full agent sends it; for load peers and tests.
pub fn request(
    transaction: [u8; 12],
    to_ufrag: &str,
    from_ufrag: &str,
    password: &[u8],
    nominates: bool,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&BINDING_REQUEST.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    out.extend_from_slice(&transaction);
    attribute(&mut out, USERNAME, format!("{to_ufrag}:{from_ufrag}").as_bytes());
    // Full agents believe no request without both (RFC 8445 section 7.1).
    attribute(&mut out, PRIORITY, &PEER_REFLEXIVE.to_be_bytes());
    attribute(&mut out, ICE_CONTROLLING, transaction.split_at(8).0);
    if nominates {
        attribute(&mut out, USE_CANDIDATE, &[]);
    }
    sign(&mut out, password);
    out
}

fn key(password: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password)
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    set_len(out, 0);
}

/// The length of the message as it is, and `more` that will follow.
fn set_len(out: &mut [u8], more: usize) {
    let len = out.len() - HEADER_BYTES + more;
    if let Some(place) = out.get_mut(2..4) {
        place.copy_from_slice(&(len as u16).to_be_bytes());
    }
}

fn sign(out: &mut Vec<u8>, password: &[u8]) {
    set_len(out, 4 + INTEGRITY_BYTES);
    let signature = hmac::sign(&key(password), out);
    attribute(out, MESSAGE_INTEGRITY, signature.as_ref());
    set_len(out, 8);
    let mut crc = flate2::Crc::new();
    crc.update(out);
    attribute(out, FINGERPRINT, &(crc.sum() ^ FINGERPRINT_XOR).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The sample request of RFC 5769 section 2.1; its password is `VOkJxbRl1RmTxUk/WvJxBt`.
    const SAMPLE: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
        002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020\
        000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";

    fn sample() -> Vec<u8> {
        let digits: Vec<u8> = SAMPLE.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn the_sample_of_the_rfc_is_believed_with_its_password_only() {
        let sample = sample();
        let binding = Binding::read(&sample).unwrap();
        assert_eq!((binding.to_ufrag, binding.from_ufrag), ("evtj", "h6vY"));
        assert!(binding.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBt"));
        assert!(!binding.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBu"));
        assert!(!binding.is_signed_with(b""));
    }

    #[test]
    fn an_answer_tells_the_address_and_is_signed() {
        let asked = request([7; 12], "ours", "theirs", b"secret", true);
        let binding = Binding::read(&asked).unwrap();
        assert!(binding.nominates && binding.is_signed_with(b"secret"));
        for seen in ["192.0.2.7:4711", "[2001:db8::7]:4711"] {
            let seen: SocketAddr = seen.parse().unwrap();
            let answer = binding.answer(seen, b"secret");
            assert_eq!(answer[..2], [1, 1]);
            assert_eq!(answer[8..20], [7; 12]);
            let family = if seen.is_ipv4() { 1 } else { 2 };
            assert_eq!(answer[20..26], [0, 0x20, 0, if seen.is_ipv4() { 8 } else { 20 }, 0, family]);
            assert_eq!(u16::from_be_bytes([answer[26], answer[27]]) ^ 0x2112, 4711);
            assert_eq!(Binding::read(&answer), Err(StunError::NotARequest));
        }
    }

    proptest! {
        /// Behind the signature stands only the checksum, which proves nothing.
        #[test]
        fn one_changed_bit_is_not_believed(at in 0usize..100, bit in 0u8..8) {
            let mut sample = sample();
            sample[at] ^= 1 << bit;
            let believed = Binding::read(&sample).is_ok_and(|binding| binding.is_signed_with(b"VOkJxbRl1RmTxUk/WvJxBt"));
            prop_assert!(!believed);
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(binding) = Binding::read(&bytes) {
                let _ = binding.is_signed_with(b"x");
            }
        }
    }
}
