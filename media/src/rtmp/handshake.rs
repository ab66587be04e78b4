//! The handshake (RTMP 1.0, section 5.2), and the one with digests that Flash added to it.
//!
//! A client of the first kind gets its bytes echoed. One of the second kind put an HMAC of its bytes at a place the
//! bytes themselves name, in one of two layouts; it is answered in the same layout. Neither proves anything about
//! anybody: the keys are known to all.

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Error;

const VERSION: u8 = 3;
/// Length of C1, C2, S1 and S2.
const PACKET_BYTES: usize = 1_536;
const DIGEST_BYTES: usize = 32;
/// What S1 says of the server when it carries a digest; clients only look whether it is zero.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

const CLIENT_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001";
const SERVER_KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57, 0x6e,
    0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

/// The two places where the offset of the digest may stand.
const LAYOUTS: [usize; 2] = [8, 772];

/// The server's side of a handshake.
#[derive(Debug)]
pub struct Handshake {
    received: Vec<u8>,
    answered: bool,
    random: u64,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More has to come.
    Waiting,
    /// S0, S1 and S2, to be sent in one piece.
    Answer(Bytes),
    /// Chunks follow.
    Done,
}

impl Handshake {
    /// Waits for C0. `seed` makes the bytes that the standard wants to be random enough to tell one connection from another.
    pub fn new(seed: u64) -> Self {
        // Xorshift stays at zero.
        Self { received: Vec::new(), answered: false, random: seed | 1 }
    }

    /// Reads from `input` up to the next thing to do.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Progress, Error> {
        let wanted = if self.answered { PACKET_BYTES } else { 1 + PACKET_BYTES };
        let missing = wanted - self.received.len();
        let (taken, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
        self.received.extend_from_slice(taken);
        *input = rest;
        if !self.answered
            && let Some(&version) = self.received.first()
            && version != VERSION
        {
            // 6 and 8 would be encrypted RTMP, which keeps nothing secret; 22 is TLS and letters are HTTP at the wrong port.
            return Err(Error::Version(version));
        }
        if self.received.len() < wanted {
            return Ok(Progress::Waiting);
        }
        let received = std::mem::take(&mut self.received);
        if self.answered {
            // C2 should echo S1; clients that do not are everywhere.
            return Ok(Progress::Done);
        }
        self.answered = true;
        Ok(Progress::Answer(self.answer(received.get(1..).unwrap_or_default())))
    }

    fn answer(&mut self, c1: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + 2 * PACKET_BYTES);
        out.put_u8(VERSION);
        match LAYOUTS.into_iter().find_map(|layout| digest_of(c1, layout).map(|digest| (layout, digest))) {
            None => {
                out.put_bytes(0, 8);
                self.put_random(&mut out, PACKET_BYTES - 8);
                out.put_slice(c1);
            }
            Some((layout, client_digest)) => {
                let mut s1 = BytesMut::with_capacity(PACKET_BYTES);
                s1.put_bytes(0, 4);
                s1.put_slice(&SERVER_VERSION);
                self.put_random(&mut s1, PACKET_BYTES - 8);
                if let Some((before, after, place)) = around_digest(&s1, layout) {
                    let digest = hmac(SERVER_KEY, &[before, after]);
                    if let Some(place) = s1.get_mut(place..place + DIGEST_BYTES) {
                        place.copy_from_slice(&digest);
                    }
                }
                out.put_slice(&s1);
                let mut s2 = BytesMut::with_capacity(PACKET_BYTES);
                self.put_random(&mut s2, PACKET_BYTES - DIGEST_BYTES);
                let key = hmac(&[SERVER_KEY, &SERVER_KEY_TAIL].concat(), &[&client_digest]);
                let digest = hmac(&key, &[&s2]);
                out.put_slice(&s2);
                out.put_slice(&digest);
            }
        }
        out.freeze()
    }

    fn put_random(&mut self, out: &mut BytesMut, count: usize) {
        for _ in 0..count {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            out.put_u8((self.random >> 32) as u8);
        }
    }
}

/// What lies before and after the digest in this layout, and where it is.
fn around_digest(packet: &[u8], layout: usize) -> Option<(&[u8], &[u8], usize)> {
    let offset: usize = packet.get(layout..layout + 4)?.iter().map(|&byte| usize::from(byte)).sum();
    let place = offset % 728 + layout + 4;
    Some((packet.get(..place)?, packet.get(place + DIGEST_BYTES..)?, place))
}

/// The client's digest, when this packet has a right one in this layout.
fn digest_of(c1: &[u8], layout: usize) -> Option<[u8; DIGEST_BYTES]> {
    let (before, after, place) = around_digest(c1, layout)?;
    let found = c1.get(place..place + DIGEST_BYTES)?;
    let digest = hmac(CLIENT_KEY, &[before, after]);
    (digest == found).then_some(digest)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(c1: &[u8]) -> Bytes {
        let mut handshake = Handshake::new(7);
        let whole = [&[VERSION][..], c1].concat();
        match handshake.read(&mut whole.as_slice()) {
            Ok(Progress::Answer(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn plain_c1() -> Vec<u8> {
        (0..PACKET_BYTES).map(|n| if n < 8 { 0 } else { n as u8 }).collect()
    }

    #[test]
    fn a_simple_client_gets_its_bytes_back() {
        let c1 = plain_c1();
        let answer = answer_to(&c1);
        assert_eq!(answer.len(), 1 + 2 * PACKET_BYTES);
        assert_eq!(answer[0], VERSION);
        assert_eq!(answer[1..9], [0; 8]);
        assert_eq!(&answer[1 + PACKET_BYTES..], &c1);
    }

    #[test]
    fn a_client_with_a_digest_is_answered_in_its_layout() {
        for layout in LAYOUTS {
            let mut c1 = plain_c1();
            c1[4..8].copy_from_slice(&[128, 0, 7, 2]);
            let (before, after, place) = around_digest(&c1, layout).unwrap();
            let digest = hmac(CLIENT_KEY, &[before, after]);
            c1[place..place + DIGEST_BYTES].copy_from_slice(&digest);

            let answer = answer_to(&c1);
            let (s1, s2) = answer[1..].split_at(PACKET_BYTES);
            let (before, after, place) = around_digest(s1, layout).unwrap();
            assert_eq!(hmac(SERVER_KEY, &[before, after]), s1[place..place + DIGEST_BYTES]);
            let key = hmac(&[SERVER_KEY, &SERVER_KEY_TAIL].concat(), &[&digest]);
            let (random, proof) = s2.split_at(PACKET_BYTES - DIGEST_BYTES);
            assert_eq!(hmac(&key, &[random]), proof);
        }
    }

    #[test]
    fn it_comes_in_any_pieces_and_takes_no_byte_too_many() {
        let mut whole = vec![VERSION];
        whole.extend(plain_c1());
        whole.extend([9; PACKET_BYTES]);
        whole.push(42);
        for piece in [1, 7, 1_000, whole.len()] {
            let mut handshake = Handshake::new(0);
            let (mut answers, mut left) = (0, whole.len());
            'pieces: for bytes in whole.chunks(piece) {
                let mut input = bytes;
                while !input.is_empty() {
                    let before = input.len();
                    let progress = handshake.read(&mut input).unwrap();
                    left -= before - input.len();
                    match progress {
                        Progress::Waiting => {}
                        Progress::Answer(_) => answers += 1,
                        Progress::Done => break 'pieces,
                    }
                }
            }
            assert_eq!((answers, left), (1, 1), "in pieces of {piece}");
        }
    }

    #[test]
    fn who_does_not_speak_rtmp_is_told_at_the_first_byte() {
        for first in [0, 2, 6, 22, b'G', 0xff] {
            assert_eq!(Handshake::new(1).read(&mut &[first][..]), Err(Error::Version(first)));
        }
        assert_eq!(Handshake::new(1).read(&mut &[VERSION][..]), Ok(Progress::Waiting));
    }
}
