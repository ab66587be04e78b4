//! What the SFU has to know of a payload: where a picture can be begun with, and VP8's counters, which a subscriber must see without
//! a jump when it is moved to another layer.

use crate::bits::ByteReader;

/// Codecs that are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 6184, packetization mode 1.
    H264,
}

impl Codec {
    /// As an SDP names it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Vp8 => "VP8",
            Codec::H264 => "H264",
        }
    }

    /// Ticks of its RTP timestamps a second.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Vp8 | Codec::H264 => 90_000,
        }
    }

    /// Whether it is sound.
    pub fn is_audio(self) -> bool {
        self == Codec::Opus
    }

    /// Whether this packet begins a picture that needs none before it.
    pub fn begins_keyframe(self, payload: &[u8]) -> bool {
        match self {
            Codec::Opus => true,
            Codec::Vp8 => Vp8::read(payload).is_some_and(|vp8| vp8.begins_keyframe),
            Codec::H264 => h264_begins_keyframe(payload).unwrap_or(false),
        }
    }
}

/// The descriptor of a VP8 payload (RFC 7741 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8 {
    /// The picture's number, of 15 or 7 bits.
    pub picture_id: Option<u16>,
    /// Whether the number has 15 bits.
    pub is_long: bool,
    /// Counts the pictures of the lowest temporal layer.
    pub tl0: Option<u8>,
    /// Temporal layer.
    pub temporal: Option<u8>,
    /// Whether a picture of a higher temporal layer needs none of its own layer before it.
    pub is_sync: bool,
    /// Counts keyframes, of 5 bits.
    pub key_idx: Option<u8>,
    /// Whether the packet begins a picture.
    pub begins_picture: bool,
    /// Whether the packet begins a keyframe.
    pub begins_keyframe: bool,
    /// Where the picture's bytes begin.
    pub body_at: usize,
    picture_id_at: usize,
    tl0_at: usize,
    key_idx_at: usize,
}

impl Vp8 {
    /// Reads the descriptor; `None` when it is broken.
    pub fn read(payload: &[u8]) -> Option<Vp8> {
        let mut reader = ByteReader::new(payload);
        let at = |reader: &ByteReader<'_>| payload.len() - reader.len();
        let first = reader.u8().ok()?;
        let mut vp8 = Vp8 {
            picture_id: None,
            is_long: false,
            tl0: None,
            temporal: None,
            is_sync: false,
            key_idx: None,
            begins_picture: false,
            begins_keyframe: false,
            body_at: 0,
            picture_id_at: 0,
            tl0_at: 0,
            key_idx_at: 0,
        };
        if first & 0x80 != 0 {
            let has = reader.u8().ok()?;
            if has & 0x80 != 0 {
                vp8.picture_id_at = at(&reader);
                let high = reader.u8().ok()?;
                vp8.is_long = high & 0x80 != 0;
                vp8.picture_id = Some(if vp8.is_long {
                    u16::from(high & 0x7F) << 8 | u16::from(reader.u8().ok()?)
                } else {
                    u16::from(high)
                });
            }
            if has & 0x40 != 0 {
                vp8.tl0_at = at(&reader);
                vp8.tl0 = Some(reader.u8().ok()?);
            }
            if has & 0x30 != 0 {
                vp8.key_idx_at = at(&reader);
                let byte = reader.u8().ok()?;
                vp8.temporal = (has & 0x20 != 0).then_some(byte >> 6);
                vp8.is_sync = has & 0x20 != 0 && byte & 0x20 != 0;
                vp8.key_idx = (has & 0x10 != 0).then_some(byte & 0x1F);
            }
        }
        vp8.body_at = at(&reader);
        vp8.begins_picture = first & 0x10 != 0 && first & 0x07 == 0;
        vp8.begins_keyframe = vp8.begins_picture && reader.peek().is_some_and(|byte| byte & 1 == 0);
        Some(vp8)
    }

    /// Writes other counters into a copy of the payload this was read from. The picture's number keeps its width.
    pub fn rewrite(&self, payload: &mut [u8], picture_id: u16, tl0: u8, key_idx: u8) {
        if self.picture_id.is_some() {
            if self.is_long {
                if let Some(place) = payload.get_mut(self.picture_id_at..self.picture_id_at + 2) {
                    place.copy_from_slice(&(picture_id | 0x8000).to_be_bytes());
                }
            } else if let Some(place) = payload.get_mut(self.picture_id_at) {
                *place = picture_id as u8 & 0x7F;
            }
        }
        if let (Some(_), Some(place)) = (self.tl0, payload.get_mut(self.tl0_at)) {
            *place = tl0;
        }
        if let (Some(_), Some(place)) = (self.key_idx, payload.get_mut(self.key_idx_at)) {
            *place = *place & 0xE0 | key_idx & 0x1F;
        }
    }
}

/// An IDR picture, or the parameter sets before one (RFC 6184 section 5.2).
fn h264_begins_keyframe(payload: &[u8]) -> Option<bool> {
    const IDR: u8 = 5;
    const SPS: u8 = 7;
    let begins = |kind: u8| kind & 0x1F == IDR || kind & 0x1F == SPS;
    let mut reader = ByteReader::new(payload);
    let first = reader.u8().ok()?;
    Some(match first & 0x1F {
        // STAP-A: several in one packet.
        24 => loop {
            let Ok(len) = reader.u16() else { break false };
            let unit = reader.take(usize::from(len)).ok()?;
            if unit.first().copied().is_some_and(begins) {
                break true;
            }
        },
        // FU-A: the first piece of one.
        28 => {
            let header = reader.u8().ok()?;
            header & 0x80 != 0 && begins(header)
        }
        _ => begins(first),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keyframes_are_known_by_their_first_packet() {
        assert!(Codec::Vp8.begins_keyframe(&[0x10, 0x00]));
        assert!(!Codec::Vp8.begins_keyframe(&[0x10, 0x01]), "an inter frame");
        assert!(!Codec::Vp8.begins_keyframe(&[0x00, 0x00]), "not the beginning of the partition");
        assert!(Codec::Vp8.begins_keyframe(&[0x90, 0xE0, 0x81, 0x02, 0x03, 0x20, 0x00]));
        assert!(Codec::H264.begins_keyframe(&[0x65, 1]) && Codec::H264.begins_keyframe(&[0x67, 1]));
        assert!(!Codec::H264.begins_keyframe(&[0x41, 1]));
        assert!(Codec::H264.begins_keyframe(&[0x78, 0, 1, 0x67, 0, 1, 0x68]));
        assert!(Codec::H264.begins_keyframe(&[0x7C, 0x85]) && !Codec::H264.begins_keyframe(&[0x7C, 0x05]));
    }

    proptest! {
        #[test]
        fn counters_are_rewritten_in_place(
            picture in 0u16..0x8000, tl0: u8, key in 0u8..32, long: bool,
            to_picture in 0u16..0x8000, to_tl0: u8, to_key in 0u8..32,
        ) {
            let mut payload = vec![0x90, 0xF0];
            if long { payload.extend_from_slice(&(picture | 0x8000).to_be_bytes()); } else { payload.push(picture as u8 & 0x7F); }
            payload.extend_from_slice(&[tl0, 0x40 | key, 0x01]);
            let before = Vp8::read(&payload).unwrap();
            prop_assert_eq!((before.tl0, before.key_idx, before.temporal), (Some(tl0), Some(key), Some(1)));
            before.rewrite(&mut payload, to_picture, to_tl0, to_key);
            let after = Vp8::read(&payload).unwrap();
            let mask = if long { 0x7FFF } else { 0x7F };
            prop_assert_eq!((after.picture_id, after.tl0), (Some(to_picture & mask), Some(to_tl0)));
            prop_assert_eq!((after.key_idx, after.temporal), (Some(to_key), Some(1)));
            prop_assert_eq!(payload.last(), Some(&0x01));
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
                let _ = codec.begins_keyframe(&bytes);
            }
        }
    }
}
