//! Redundant audio (RFC 2198): a packet holds what was said before once more, so that who lost one packet has lost nothing.

use bytes::Bytes;

use crate::bits::ByteReader;

/// Pieces beside the newest that are looked at; browsers send one.
const BEFORE_MAX: usize = 9;
/// Bytes of a payload: with its headers it fits every path.
const PAYLOAD_BYTES_MAX: usize = 1_100;
/// The length of a header with an offset and a length, and of the last one.
const HEADER_LEN: usize = 4;

/// What a payload holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Red<'a> {
    /// The payload type of the newest piece.
    pub payload_type: u8,
    /// The newest piece.
    pub newest: &'a [u8],
    /// Those before it, the oldest first: payload type, by how much its timestamp is smaller, and the piece.
    pub before: Vec<(u8, u16, &'a [u8])>,
}

impl<'a> Red<'a> {
    /// Reads a payload; `None` when it is none of this kind.
    pub fn read(payload: &'a [u8]) -> Option<Red<'a>> {
        let mut reader = ByteReader::new(payload);
        let mut headers = Vec::new();
        let payload_type = loop {
            let first = reader.u8().ok()?;
            if first & 0x80 == 0 {
                break first;
            }
            if headers.len() >= BEFORE_MAX {
                return None;
            }
            // 14 bits of offset, 10 of length.
            let bits = reader.u24().ok()?;
            headers.push((first & 0x7F, (bits >> 10) as u16, (bits & 0x3FF) as usize));
        };
        let mut before = Vec::with_capacity(headers.len());
        for (kind, offset, len) in headers {
            before.push((kind, offset, reader.take(len).ok()?));
        }
        let newest = reader.rest();
        (!newest.is_empty()).then_some(Red { payload_type, newest, before })
    }
}

/// A payload of a piece and the one before it, whose timestamp is smaller by `offset`. `None` when they are too far apart or too large.
pub fn write(payload_type: u8, offset: u32, before: &[u8], newest: &[u8]) -> Option<Bytes> {
    let len = HEADER_LEN + before.len() + 1 + newest.len();
    if !(1..1 << 14).contains(&offset) || before.len() >= 1 << 10 || len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut payload = Vec::with_capacity(len);
    let header = u32::from(payload_type | 0x80) << 24 | offset << 10 | before.len() as u32;
    payload.extend_from_slice(&header.to_be_bytes());
    payload.push(payload_type & 0x7F);
    payload.extend_from_slice(before);
    payload.extend_from_slice(newest);
    Some(payload.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_is_read_as_chromium_writes_it() {
        // 20 ms before: 960 ticks, 3 bytes.
        let payload = [0x80 | 111, 0x0F, 0x00, 0x03, 111, 1, 2, 3, 4, 5];
        let red = Red { payload_type: 111, newest: &[4, 5], before: vec![(111, 960, &[1, 2, 3][..])] };
        assert_eq!(Red::read(&payload), Some(red));
        assert_eq!(write(111, 960, &[1, 2, 3], &[4, 5]).as_deref(), Some(&payload[..]));
        let alone = Red { payload_type: 111, newest: &[9], before: Vec::new() };
        assert_eq!(Red::read(&[111, 9]), Some(alone));
    }

    #[test]
    fn what_does_not_fit_is_not_written_and_what_is_cut_off_not_read() {
        assert_eq!(write(111, 0, &[1], &[2]), None);
        assert_eq!(write(111, 1 << 14, &[1], &[2]), None);
        assert_eq!(write(111, 960, &[0; 600], &[0; 600]), None);
        let payload = [0x80 | 111, 0x0F, 0x00, 0x03, 111, 1, 2, 3];
        for len in 0..=payload.len() {
            assert_eq!(Red::read(&payload[..len]), None, "{len} bytes");
        }
        assert_eq!(Red::read(&[0xFF; 60]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Red::read(&bytes);
        }
    }
}
