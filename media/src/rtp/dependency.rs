//! The dependency descriptor of a picture, in the header of its packets
//! (<https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension>), as far as one who forwards needs it: where a keyframe
//! begins, and the frame's number.
//!
//! It stands outside of what the codec made, so it is there also where that is encrypted end to end. What a picture depends on is told by
//! differences of numbers and by templates, which come anew with every keyframe; a subscriber who is moved to another layer at a keyframe needs
//! nothing changed but the numbers, by as much for each.

/// What begins every descriptor: two flags and the number of a template, then the frame's number.
const MANDATORY_BYTES: usize = 3;
/// Bytes of a descriptor that is passed on. Templates of two spatial and three temporal layers are about 60.
pub const DESCRIPTOR_BYTES_MAX: usize = 128;

/// A descriptor, as far as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The frame's number; every layer of a simulcast has gaps in its own.
    pub frame_number: u16,
    /// Whether the packet begins a picture that needs none before it: it is the first, and brings templates.
    pub begins_keyframe: bool,
}

impl Descriptor {
    /// Reads one; `None` when it is too short or too long to be one.
    pub fn read(bytes: &[u8]) -> Option<Descriptor> {
        if bytes.len() > DESCRIPTOR_BYTES_MAX {
            return None;
        }
        let (mandatory, extended) = bytes.split_first_chunk::<MANDATORY_BYTES>()?;
        let [flags, high, low] = *mandatory;
        let begins = flags & 0x80 != 0;
        let has_templates = extended.first().is_some_and(|flags| flags & 0x80 != 0);
        Some(Descriptor {
            frame_number: u16::from_be_bytes([high, low]),
            begins_keyframe: begins && has_templates,
        })
    }
}

/// Writes another number of the frame into a copy of the descriptor.
pub fn renumber(descriptor: &mut [u8], frame_number: u16) {
    if let Some([_, number @ ..]) = descriptor.first_chunk_mut::<MANDATORY_BYTES>() {
        *number = frame_number.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_keyframe_begins_where_templates_do() {
        let read = |bytes: &[u8]| Descriptor::read(bytes).map(|it| (it.frame_number, it.begins_keyframe));
        // As Chromium 156 writes them for VP8.
        assert_eq!(read(&[0x80, 0x00, 0x01, 0x80, 0x02, 0x14, 0xEA]), Some((1, true)));
        assert_eq!(read(&[0x40, 0x00, 0x01]), Some((1, false)), "the last packet of it");
        assert_eq!(read(&[0xC2, 0x01, 0x02]), Some((0x102, false)), "a picture in one packet");
        assert_eq!(read(&[0xC2, 0x01, 0x02, 0x10]), Some((0x102, false)), "with dependencies of its own");
        assert_eq!(read(&[0x00, 0x01, 0x02, 0x80]), Some((0x102, false)), "not the first packet");
        assert_eq!(read(&[0x80, 0x00]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic_and_only_the_number_changes(bytes in prop::collection::vec(any::<u8>(), 0..140), frame_number: u16) {
            let (before, mut changed) = (Descriptor::read(&bytes), bytes.clone());
            renumber(&mut changed, frame_number);
            prop_assert_eq!(Descriptor::read(&changed), before.map(|before| Descriptor { frame_number, ..before }));
            changed.iter_mut().zip(&bytes).skip(1).take(2).for_each(|(new, old)| *new = *old);
            if before.is_some() { prop_assert_eq!(changed, bytes); }
        }
    }
}
