//! Packets out of an Ogg stream (RFC 3533), as one program hands Opus to another (RFC 7845) over a pipe.
//!
//! One logical stream; checksums are not looked at, for a pipe loses nothing. Everything is bounded, since what the other program made
//! of a stranger's media is a stranger's too.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes of one packet; Opus has at most 61,440 of them (RFC 7845 section 6).
const PACKET_BYTES_MAX: usize = 61_440;
const HEAD: usize = 27;

/// The bytes are no Ogg stream, or a packet is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an Ogg stream of Opus")]
pub struct Malformed;

/// Takes a stream apart.
#[derive(Debug, Default)]
pub struct Packets {
    bytes: BytesMut,
    packet: BytesMut,
    /// The lengths of the page that is being read, and which of them is next.
    segments: Vec<u8>,
    next: usize,
}

impl Packets {
    /// More bytes have come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole packet; `None` until more bytes come. Headers are packets too.
    pub fn take(&mut self) -> Result<Option<Bytes>, Malformed> {
        loop {
            while let Some(len) = self.segments.get(self.next).copied() {
                if self.bytes.len() < usize::from(len) {
                    return Ok(None);
                }
                self.packet.extend_from_slice(&self.bytes.split_to(usize::from(len)));
                self.next += 1;
                if self.packet.len() > PACKET_BYTES_MAX {
                    return Err(Malformed);
                }
                // A segment of 255 bytes says that the packet goes on (section 5).
                if len < 255 {
                    return Ok(Some(self.packet.split().freeze()));
                }
            }
            if !self.page()? {
                return Ok(None);
            }
        }
    }

    fn page(&mut self) -> Result<bool, Malformed> {
        let Some(head) = self.bytes.get(..HEAD) else { return Ok(false) };
        if !head.starts_with(b"OggS\0") {
            return Err(Malformed);
        }
        let count = usize::from(head.last().copied().unwrap_or(0));
        let Some(segments) = self.bytes.get(HEAD..HEAD + count) else { return Ok(false) };
        self.segments.clear();
        self.segments.extend_from_slice(segments);
        self.next = 0;
        self.bytes.advance(HEAD + count);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(segments: &[u8], body: &[u8]) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.resize(HEAD - 1, 0);
        page.push(segments.len() as u8);
        page.extend_from_slice(segments);
        page.extend_from_slice(body);
        page
    }

    #[test]
    fn packets_are_told_apart_within_and_across_pages() {
        let stream =
            [page(&[2, 255], &[[1; 2].as_slice(), &[2; 255]].concat()), page(&[3, 0], &[2; 3])].concat();
        for step in [1, 7, stream.len()] {
            let (mut packets, mut found) = (Packets::default(), Vec::new());
            for bytes in stream.chunks(step) {
                packets.push(bytes);
                while let Some(packet) = packets.take().unwrap() {
                    found.push(packet.len());
                }
            }
            assert_eq!(found, [2, 258, 0]);
        }
    }

    #[test]
    fn a_packet_without_an_end_and_what_is_no_page_are_refused() {
        let mut packets = Packets::default();
        packets.push(b"RIFF and the rest of a header of waves");
        assert_eq!(packets.take(), Err(Malformed));
        let mut packets = Packets::default();
        let endless = page(&[255; 255], &[0; 255 * 255]);
        packets.push(&endless);
        assert_eq!(packets.take(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut packets = Packets::default();
            packets.push(b"OggS\0");
            for piece in pieces {
                packets.push(&piece);
                while let Ok(Some(_)) = packets.take() {}
            }
        }
    }
}
