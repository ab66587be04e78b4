//! Frames of AAC out of an ADTS stream (ISO/IEC 14496-3, 1.A.2.2), as an encoder hands them over a pipe.

use bytes::{Buf as _, Bytes, BytesMut};

/// The bytes are no ADTS stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a stream of AAC in ADTS")]
pub struct Malformed;

/// Bytes before a frame, and with a checksum.
const HEADER: usize = 7;
const CHECKED_HEADER: usize = 9;

/// Takes a stream apart.
#[derive(Debug, Default)]
pub struct Frames(BytesMut);

impl Frames {
    /// More bytes have come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, without its header; `None` until more bytes come.
    pub fn take(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(header) = self.0.first_chunk::<HEADER>() else { return Ok(None) };
        // The sync word, and layer 0; the lowest bit says that there is no checksum.
        if header[0] != 0xFF || header[1] & 0xF6 != 0xF0 {
            return Err(Malformed);
        }
        let before = if header[1] & 1 == 1 { HEADER } else { CHECKED_HEADER };
        let whole =
            usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
        // A header whose frame holds several blocks of data would need them taken apart; no encoder writes it.
        if whole < before || header[6] & 3 != 0 {
            return Err(Malformed);
        }
        if self.0.len() < whole {
            return Ok(None);
        }
        let mut frame = self.0.split_to(whole);
        frame.advance(before);
        Ok(Some(frame.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::aac::Configuration;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..800), 0..10), step in 1_usize..900,
        ) {
            let stereo = Configuration::parse(&Bytes::from_static(&[0x11, 0x90])).expect("AAC-LC, 48 kHz, stereo");
            let mut stream = Vec::new();
            for frame in &frames {
                stream.extend_from_slice(&stereo.adts_header(frame.len()).expect("a header"));
                stream.extend_from_slice(frame);
            }
            let (mut reader, mut found) = (Frames::default(), Vec::new());
            for bytes in stream.chunks(step) {
                reader.push(bytes);
                while let Some(frame) = reader.take().expect("it is ADTS") {
                    found.push(frame);
                }
            }
            prop_assert_eq!(&found[..], &frames[..]);
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Frames::default();
            reader.push(&[0xFF, 0xF1]);
            reader.push(&bytes);
            while let Ok(Some(_)) = reader.take() {}
        }
    }
}
