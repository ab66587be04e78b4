//! Packets out of an Ogg stream (RFC 3533) and into one, as one program hands Opus to another (RFC 7845) over a pipe.
//!
//! One logical stream; checksums are written and not looked at, for a pipe loses nothing. Everything is bounded, since what the other program made
//! of a stranger's media is a stranger's too.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

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

/// Segments of one page, of at most 255 bytes each (section 6).
const SEGMENTS_MAX: usize = 255;
/// Flags of a page: the first of its stream.
const FIRST: u8 = 2;
/// The checksum's polynomial (section 6: not reflected, nothing added).
const POLYNOMIAL: u32 = 0x04C1_1DB7;

/// Puts packets of Opus into a stream, each on a page of its own.
#[derive(Debug, Default)]
pub struct Pages {
    number: u32,
    /// Samples at 48 kHz so far.
    samples: u64,
}

impl Pages {
    /// The two headers that stand before everything else (RFC 7845 section 5): stereo, nothing to skip.
    pub fn headers(&mut self) -> Bytes {
        const HEAD: &[u8] = b"OpusHead\x01\x02\x00\x00\x80\xbb\x00\x00\x00\x00\x00";
        const TAGS: &[u8] = b"OpusTags\x04\x00\x00\x00nova\x00\x00\x00\x00";
        let mut bytes = BytesMut::new();
        self.write(HEAD, FIRST, &mut bytes);
        self.write(TAGS, 0, &mut bytes);
        bytes.freeze()
    }

    /// A packet that lasts so many samples at 48 kHz. None when it is too large for one page, which no voice is.
    pub fn page(&mut self, packet: &[u8], samples: u32) -> Option<Bytes> {
        if packet.len() >= SEGMENTS_MAX * 255 {
            return None;
        }
        self.samples += u64::from(samples);
        let mut bytes = BytesMut::with_capacity(HEAD + packet.len() / 255 + 1 + packet.len());
        self.write(packet, 0, &mut bytes);
        Some(bytes.freeze())
    }

    fn write(&mut self, packet: &[u8], flags: u8, bytes: &mut BytesMut) {
        /// Tells this stream from others on the same pipe; there are none.
        const SERIAL: u32 = 1;
        const CHECKSUM_AT: usize = 22;
        let from = bytes.len();
        bytes.extend_from_slice(b"OggS\0");
        bytes.put_u8(flags);
        bytes.put_u64_le(self.samples);
        bytes.put_u32_le(SERIAL);
        bytes.put_u32_le(self.number);
        bytes.put_u32_le(0);
        let whole = packet.len() / 255;
        bytes.put_u8(whole as u8 + 1);
        bytes.put_bytes(255, whole);
        bytes.put_u8((packet.len() % 255) as u8);
        bytes.extend_from_slice(packet);
        self.number = self.number.wrapping_add(1);
        let checksum = checksum(bytes.get(from..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(from + CHECKSUM_AT..from + CHECKSUM_AT + 4) {
            place.copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            sum << 1 ^ if sum >> 31 == 1 { POLYNOMIAL } else { 0 }
        })
    })
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

    #[test]
    fn the_checksum_is_that_of_the_format() {
        assert_eq!(checksum(b""), 0);
        assert_eq!(checksum(&[1]), POLYNOMIAL, "x^32 leaves the polynomial's lower part");
        assert_eq!(checksum(&[1, 0, 0, 0, 0]), checksum(&POLYNOMIAL.to_be_bytes()));
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1_500), 0..20)) {
            let (mut pages, mut read) = (Pages::default(), Packets::default());
            read.push(&pages.headers());
            for packet in &packets {
                read.push(&pages.page(packet, 960).expect("it is small"));
            }
            let found: Vec<Bytes> = std::iter::from_fn(|| read.take().expect("it is Ogg")).collect();
            prop_assert!(found[0].starts_with(b"OpusHead") && found[1].starts_with(b"OpusTags"));
            prop_assert_eq!(&found[2..], &packets[..]);
        }

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
