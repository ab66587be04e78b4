//! The header of an RTP packet (RFC 3550 section 5.1) and its extensions (RFC 8285).

use crate::bits::{ByteReader, Truncated};

/// Bytes of a packet without what SRTP adds; more than any path's MTU.
pub const PACKET_BYTES_MAX: usize = 1_500;
/// Extensions of a packet that are looked at.
const EXTENSIONS_MAX: usize = 16;

/// A datagram that is no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an RTP packet")]
pub struct Malformed;

impl From<Truncated> for Malformed {
    fn from(_: Truncated) -> Malformed {
        Malformed
    }
}

/// An RTP packet in clear, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Ends a frame of pictures; begins a talk spurt.
    pub marker: bool,
    /// Which codec, as negotiated.
    pub payload_type: u8,
    /// Its place.
    pub sequence: u16,
    /// In the codec's clock.
    pub timestamp: u32,
    /// Which stream.
    pub ssrc: u32,
    /// The profile of the extensions: `0xBEDE` or `0x100?`.
    profile: u16,
    extensions: &'a [u8],
    /// What the codec made, padding taken off.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet that was decrypted.
    pub fn read(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        if bytes.len() > PACKET_BYTES_MAX {
            return Err(Malformed);
        }
        let mut reader = ByteReader::new(bytes);
        let first = reader.u8()?;
        if first >> 6 != 2 {
            return Err(Malformed);
        }
        let second = reader.u8()?;
        let sequence = reader.u16()?;
        let timestamp = reader.u32()?;
        let ssrc = reader.u32()?;
        reader.skip(usize::from(first & 0x0F) * 4)?;
        let (mut profile, mut extensions) = (0, &[][..]);
        if first & 0x10 != 0 {
            profile = reader.u16()?;
            let words = usize::from(reader.u16()?);
            extensions = reader.take(words * 4)?;
        }
        let mut payload = reader.rest();
        if first & 0x20 != 0 {
            let padding = usize::from(*payload.last().ok_or(Malformed)?);
            let len = payload.len().checked_sub(padding).filter(|_| padding > 0).ok_or(Malformed)?;
            payload = payload.get(..len).unwrap_or_default();
        }
        let (marker, payload_type) = (second & 0x80 != 0, second & 0x7F);
        Ok(Packet { marker, payload_type, sequence, timestamp, ssrc, profile, extensions, payload })
    }

    /// The value of the extension with this id, as negotiated.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    /// All extensions: id and value.
    pub fn extensions(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let (mut reader, profile) = (ByteReader::new(self.extensions), self.profile);
        std::iter::from_fn(move || {
            loop {
                let first = reader.u8().ok()?;
                if first == 0 {
                    continue;
                }
                let (id, len) = match profile {
                    // 15 ends the list (RFC 8285 section 4.2).
                    0xBEDE if first >> 4 == 15 => return None,
                    0xBEDE => (first >> 4, usize::from(first & 0x0F) + 1),
                    profile if profile & 0xFFF0 == 0x1000 => (first, usize::from(reader.u8().ok()?)),
                    _ => return None,
                };
                return Some((id, reader.take(len).ok()?));
            }
        })
        .take(EXTENSIONS_MAX)
    }
}

/// A header to be written; the payload follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header<'a> {
    /// See [`Packet::marker`].
    pub marker: bool,
    /// See [`Packet::payload_type`].
    pub payload_type: u8,
    /// See [`Packet::sequence`].
    pub sequence: u16,
    /// See [`Packet::timestamp`].
    pub timestamp: u32,
    /// See [`Packet::ssrc`].
    pub ssrc: u32,
    /// Extensions by id (1 to 14), each of 1 to 255 bytes.
    pub extensions: &'a [(u8, &'a [u8])],
}

impl Header<'_> {
    /// Writes it behind what is in `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let extended = if self.extensions.is_empty() { 0 } else { 0x10 };
        out.extend_from_slice(&[0x80 | extended, u8::from(self.marker) << 7 | self.payload_type & 0x7F]);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        if self.extensions.is_empty() {
            return;
        }
        // Headers of one byte where every length fits into half of it, else of two (RFC 8285 sections 4.2 and 4.3).
        let is_short = self.extensions.iter().all(|(_, value)| value.len() <= 16);
        let header_bytes = if is_short { 1 } else { 2 };
        let bytes: usize = self.extensions.iter().map(|(_, value)| value.len() + header_bytes).sum();
        let words = bytes.div_ceil(4);
        out.extend_from_slice(if is_short { &[0xBE, 0xDE] } else { &[0x10, 0x00] });
        out.extend_from_slice(&(words as u16).to_be_bytes());
        for (id, value) in self.extensions {
            debug_assert!((1..15).contains(id) && (1..256).contains(&value.len()));
            if is_short {
                out.push(id << 4 | (value.len() as u8).wrapping_sub(1) & 0x0F);
            } else {
                out.extend_from_slice(&[*id, value.len() as u8]);
            }
            out.extend_from_slice(value);
        }
        out.resize(out.len() + words * 4 - bytes, 0);
    }

    /// Writes a packet that has nothing in it but so many bytes of padding, at least one (RFC 3550 section 5.1).
    pub fn write_padding(&self, bytes: u8, out: &mut Vec<u8>) {
        let begin = out.len();
        self.write(out);
        if let Some(first) = out.get_mut(begin) {
            *first |= 0x20;
        }
        let bytes = bytes.max(1);
        out.resize(out.len() + usize::from(bytes) - 1, 0);
        out.push(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            extensions in proptest::collection::btree_map(1u8..15, proptest::collection::vec(any::<u8>(), 1..20), 0..8),
            payload in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let list: Vec<(u8, &[u8])> = extensions.iter().map(|(id, value)| (*id, value.as_slice())).collect();
            let mut bytes = Vec::new();
            Header { marker, payload_type, sequence, timestamp, ssrc, extensions: &list }.write(&mut bytes);
            bytes.extend_from_slice(&payload);
            let packet = Packet::read(&bytes).unwrap();
            prop_assert_eq!((packet.marker, packet.payload_type, packet.sequence), (marker, payload_type, sequence));
            prop_assert_eq!((packet.timestamp, packet.ssrc, packet.payload), (timestamp, ssrc, payload.as_slice()));
            prop_assert_eq!(packet.extensions().collect::<Vec<_>>(), list);
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packet) = Packet::read(&bytes) {
                let _ = packet.extensions().count();
            }
        }
    }

    #[test]
    fn padding_is_taken_off_and_cannot_be_more_than_there_is() {
        let mut bytes = vec![0xA0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9, 0, 2];
        assert_eq!(Packet::read(&bytes).unwrap().payload, [9, 9]);
        bytes[15] = 5;
        assert_eq!(Packet::read(&bytes), Err(Malformed));
        bytes[15] = 0;
        assert_eq!(Packet::read(&bytes), Err(Malformed));

        let mut padded = vec![7];
        let header =
            Header { payload_type: 97, sequence: 5, extensions: &[(3, &[1, 2])], ..Header::default() };
        header.write_padding(255, &mut padded);
        assert_eq!(padded.len(), 1 + 12 + 8 + 255);
        let packet = Packet::read(&padded[1..]).unwrap();
        assert_eq!((packet.sequence, packet.extension(3), packet.payload), (5, Some(&[1, 2][..]), &[][..]));
    }

    #[test]
    fn extensions_of_two_bytes_are_read_too() {
        let bytes = [0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x10, 0, 0, 2, 0, 20, 3, 7, 8, 9, 0, 0, 1];
        let packet = Packet::read(&bytes).unwrap();
        assert_eq!(packet.extension(20), Some(&[7, 8, 9][..]));
        assert_eq!(packet.payload, [1]);
    }
}
