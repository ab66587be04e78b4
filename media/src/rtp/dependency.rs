//! The dependency descriptor of a picture, in the header of its packets
//! (<https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension>), as far as one who forwards needs it: where a keyframe
//! begins, the frame's number, and its temporal layer.
//!
//! It stands outside of what the codec made, so it is there also where that is encrypted end to end. What a picture depends on is told by
//! differences of numbers and by templates, which come anew with every keyframe; a subscriber who is moved to another layer at a keyframe needs
//! nothing changed but the numbers, by as much for each.

use super::temporal::Part;
use crate::bits::BitReader;

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

/// The templates of a layer's pictures: what comes with a keyframe, and what follows refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// The number of the first.
    offset: u8,
    /// Of each the temporal layer, and the layers up to which one can be sent from a picture of it on, a bit for each.
    pictures: Vec<(u8, u8)>,
    /// The highest temporal layer of each decode target.
    targets: Vec<u8>,
}

/// What a decode target is told of a picture (section A.8.3): it is not of it, or may be left out, or one can go on with the target from it on, or needs it.
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;
/// Templates that can be told apart.
const TEMPLATES_MAX: usize = 64;

impl Templates {
    /// Reads them; `None` where there are none, or what is no structure of at most eight temporal layers (section A.8.2).
    pub fn read(descriptor: &[u8]) -> Option<Templates> {
        let extended =
            descriptor.get(MANDATORY_BYTES..).filter(|_| descriptor.len() <= DESCRIPTOR_BYTES_MAX)?;
        let mut reader = BitReader::new(extended);
        let has_templates = reader.flag().ok()?;
        reader.skip(4).ok()?;
        if !has_templates {
            return None;
        }
        let offset = reader.bits(6).ok()? as u8;
        let target_count = reader.bits(5).ok()? as usize + 1;
        let (mut temporal, mut layers) = (0_u8, Vec::new());
        loop {
            layers.push(temporal);
            match reader.bits(2).ok()? {
                1 => temporal += 1,
                // The next spatial layer.
                2 => temporal = 0,
                3 => break,
                _ => {}
            }
            if layers.len() >= TEMPLATES_MAX || temporal >= 8 {
                return None;
            }
        }
        let mut indications = Vec::with_capacity(layers.len() * target_count);
        for _ in 0..layers.len() * target_count {
            indications.push(reader.bits(2).ok()?);
        }
        let of_picture = |at: usize| indications.iter().skip(at * target_count).take(target_count);
        let mut targets = vec![0; target_count];
        for (at, temporal) in layers.iter().enumerate() {
            for (highest, indication) in targets.iter_mut().zip(of_picture(at)) {
                if *indication != NOT_PRESENT {
                    *highest = (*highest).max(*temporal);
                }
            }
        }
        let switches = |at: usize| switches_of(&targets, of_picture(at).copied());
        let pictures = layers.iter().enumerate().map(|(at, temporal)| (*temporal, switches(at))).collect();
        Some(Templates { offset, pictures, targets })
    }

    /// What the picture of a descriptor is to who is not sent all; `None` when it refers to no template.
    pub fn part(&self, descriptor: &[u8]) -> Option<Part> {
        let (flags, extended) = descriptor.split_first()?;
        let at = usize::from((flags & 0x3F).wrapping_sub(self.offset) & 0x3F);
        let (temporal, switches) = *self.pictures.get(at)?;
        let own = self.own_switches(extended.get(MANDATORY_BYTES - 1..)?);
        Some(Part::switching(temporal, flags & 0x80 != 0, own.unwrap_or(switches)))
    }

    /// The layers up to which one can be sent from a picture on that says itself what it is to each target, and not what its template says. With
    /// templates of its own it is not looked for: they say it.
    fn own_switches(&self, extended: &[u8]) -> Option<u8> {
        let mut reader = BitReader::new(extended);
        let [has_templates, has_active, is_own, _, _] =
            std::array::from_fn(|_| reader.flag().unwrap_or(false));
        if has_templates || !is_own {
            return None;
        }
        if has_active {
            reader.skip(self.targets.len()).ok()?;
        }
        self.targets.iter().try_fold(0, |switches, highest| {
            let switches_here = reader.bits(2).ok()? == SWITCH;
            Some(if switches_here { switches | 1 << highest } else { switches })
        })
    }
}

/// Layers up to which one can be sent from a picture on that says this to each target.
fn switches_of(targets: &[u8], indications: impl Iterator<Item = u32>) -> u8 {
    let switching = targets.iter().zip(indications).filter(|(_, indication)| *indication == SWITCH);
    switching.fold(0, |switches, (highest, _)| switches | 1 << highest)
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

    /// What Chromium 156 writes for VP8 in three temporal layers, after flags and number: of the lowest layer all can be gone on with, of the
    /// middle one only with all.
    const THREE_LAYERS: [u8; 13] =
        [0x80, 0x02, 0x14, 0xEA, 0xA8, 0x60, 0x41, 0x4D, 0x14, 0x10, 0x20, 0x84, 0x26];

    #[test]
    fn temporal_layers_are_known_by_templates() {
        let keyframe = [&[0x80, 0, 1][..], &THREE_LAYERS].concat();
        let templates = Templates::read(&keyframe).unwrap();
        assert_eq!(templates.targets, [0, 1, 2]);
        let part = |descriptor: &[u8]| templates.part(descriptor).unwrap();
        let rises = |descriptor: &[u8]| [0, 1].map(|now| part(descriptor).rises(now, u8::MAX));
        assert_eq!((part(&keyframe).temporal, part(&keyframe).begins), (0, true));
        assert_eq!(rises(&keyframe), [Some(2), Some(2)]);
        assert_eq!(part(&keyframe).rises(0, 1), Some(1));
        let temporal = [0x81, 0xC2, 0x43, 0x04].map(|flags| part(&[flags, 0, 2]).temporal);
        assert_eq!(temporal, [0, 1, 2, 2]);
        assert!(!part(&[0x43, 0, 2]).begins, "a later packet");
        assert_eq!((rises(&[0xC2, 0, 2]), part(&[0xC2, 0, 2]).rises(0, 1)), ([Some(2), Some(2)], None));
        assert_eq!(rises(&[0xC3, 0, 2]), [None, None]);
        // It is needed by its own target, whatever its template says: -RR.
        assert_eq!(rises(&[0xC2, 0, 2, 0b0010_0001, 0b1110_0000]), [None, None]);
        // A mask of active targets stands before what it says: -SS.
        assert_eq!(part(&[0xC2, 0, 2, 0b0110_0011, 0b0010_1000]).rises(0, 1), Some(1));
        assert_eq!(templates.part(&[0xC5, 0, 2]), None, "no such template");
        assert_eq!(templates.part(&[0xC5]), None);
        assert_eq!(Templates::read(&[0xC2, 0, 1]), None);
        assert_eq!(Templates::read(&keyframe[..9]), None, "its end is missing");
    }

    proptest! {
        #[test]
        fn what_templates_say_is_of_eight_layers(bytes in prop::collection::vec(any::<u8>(), 0..140), other in prop::collection::vec(any::<u8>(), 0..12)) {
            let bytes = [&[0x80, 0, 1, 0x80][..], &bytes].concat();
            let Some(templates) = Templates::read(&bytes) else { return Ok(()) };
            prop_assert!(templates.pictures.len() <= TEMPLATES_MAX && templates.targets.len() <= 32);
            for descriptor in [&bytes, &other] {
                if let Some(part) = templates.part(descriptor) {
                    prop_assert!(part.temporal < 8);
                    prop_assert!(part.rises(0, 7).is_none_or(|layer| (1..8).contains(&layer)));
                }
            }
        }

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
