//! VP8 in RTP (RFC 7741): from payloads to pictures.

use bytes::{Bytes, BytesMut};

use super::payload::Vp8;

/// Bytes of one picture that is put together; a larger one is nobody's.
const PICTURE_BYTES_MAX: usize = 4 << 20;

/// A picture that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// When it is shown, in ticks of 90 kHz.
    pub timestamp: u32,
    /// Decoding can start here.
    pub keyframe: bool,
    /// As the decoder takes it.
    pub payload: Bytes,
}

/// Puts pictures together of payloads that come in order.
#[derive(Debug, Default)]
pub struct Depacketizer {
    timestamp: Option<u32>,
    picture: BytesMut,
    keyframe: bool,
    /// Its beginning is there, and nothing of it is missing.
    whole: bool,
}

impl Depacketizer {
    /// A payload that follows the one before in the sequence. Gives the picture it ends. Of a picture that cannot be put together
    /// nothing is given, and `true` beside it.
    pub fn push(&mut self, payload: &[u8], timestamp: u32, marker: bool) -> (Option<Picture>, bool) {
        // A picture without its marker has lost its end.
        let mut lost = self.timestamp.is_some_and(|before| before != timestamp);
        if lost {
            *self = Depacketizer::default();
        }
        let begins = self.timestamp.replace(timestamp).is_none();
        match Vp8::read(payload) {
            Some(vp8) => {
                if begins {
                    (self.whole, self.keyframe) = (vp8.begins_picture, vp8.begins_keyframe);
                }
                let body = payload.get(vp8.body_at..).unwrap_or_default();
                if self.picture.len() + body.len() > PICTURE_BYTES_MAX {
                    self.whole = false;
                }
                if self.whole {
                    self.picture.extend_from_slice(body);
                }
            }
            None => self.whole = false,
        }
        if !marker {
            return (None, lost);
        }
        let ended = std::mem::take(self);
        lost |= !ended.whole;
        let picture = ended.whole.then(|| Picture {
            timestamp,
            keyframe: ended.keyframe,
            payload: ended.picture.freeze(),
        });
        (picture, lost)
    }

    /// Payloads between the one before and the next are lost, and with them the picture that is open.
    pub fn lose(&mut self) {
        self.whole = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_picture_is_what_its_payloads_hold() {
        let mut depacketizer = Depacketizer::default();
        assert_eq!(depacketizer.push(&[0x90, 0x80, 5, 0x00, 1], 9, false), (None, false));
        let (picture, lost) = depacketizer.push(&[0x80, 0x80, 5, 2, 3], 9, true);
        let picture = picture.expect("it is whole");
        assert_eq!((&picture.payload[..], picture.keyframe, lost), (&[0x00, 1, 2, 3][..], true, false));
        let (picture, _) = depacketizer.push(&[0x10, 0x01], 10, true);
        assert!(picture.is_some_and(|picture| !picture.keyframe && picture.timestamp == 10));
    }

    #[test]
    fn of_a_picture_with_a_hole_nothing_is_given() {
        let mut depacketizer = Depacketizer::default();
        assert_eq!(depacketizer.push(&[0x00, 1], 1, true), (None, true), "its beginning is missing");
        depacketizer.push(&[0x10, 0x00], 2, false);
        depacketizer.lose();
        assert_eq!(depacketizer.push(&[0x00, 2], 2, true), (None, true));
        depacketizer.push(&[0x10, 0x00], 3, false);
        let (next, lost) = depacketizer.push(&[0x10, 0x00], 4, true);
        assert!(lost && next.is_some_and(|next| next.timestamp == 4), "one lost its end, the next is whole");
    }

    proptest! {
        #[test]
        fn no_payloads_end_in_a_panic(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0_u32..3, any::<bool>()), 0..40),
        ) {
            let mut depacketizer = Depacketizer::default();
            for (payload, timestamp, marker) in payloads {
                let _ = depacketizer.push(&payload, timestamp, marker);
            }
        }
    }
}
