//! Temporal layers: which of a stream's pictures can be left out, and when more can be sent again.

use super::payload::Vp8;

/// What a packet's picture is to who is not sent all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The temporal layer it is of, from 0, below 8; pictures need none of a higher one.
    pub temporal: u8,
    /// Whether the packet begins the picture.
    pub begins: bool,
    /// Layers up to which one can be sent from this picture on, a bit for each.
    switches: u8,
    /// Who is sent fewer layers than this cannot.
    needs: u8,
}

impl Part {
    /// As a VP8 payload descriptor says (RFC 7741 section 4.2): a picture that depends on the lowest layer alone is one of its layer from
    /// which that can be sent. A layer between that was not sent would be missed by what follows.
    pub fn of_vp8(vp8: &Vp8) -> Option<Part> {
        let temporal = vp8.temporal?;
        let switches = if vp8.is_sync { 1 << temporal } else { 0 };
        Some(Part { temporal, begins: vp8.begins_picture, switches, needs: temporal.saturating_sub(1) })
    }

    /// One that says itself up to which layers one can be sent from it on.
    pub(super) fn switching(temporal: u8, begins: bool, switches: u8) -> Part {
        Part { temporal, begins, switches, needs: 0 }
    }

    /// The layer up to which who is sent as many as `now` can be sent from this picture on, at most `wanted`; `None` when it is no more.
    pub fn rises(&self, now: u8, wanted: u8) -> Option<u8> {
        let switches = if now >= self.needs { self.switches } else { 0 };
        (0..8).rev().find(|layer| *layer <= wanted && *layer > now && switches & 1 << layer != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_point_of_vp8_is_of_use_to_who_has_the_layer_below() {
        let vp8 = Vp8::read(&[0x90, 0x20, 2 << 6 | 0x20, 1]).unwrap();
        let part = Part::of_vp8(&vp8).unwrap();
        assert_eq!((part.temporal, part.begins), (2, true));
        assert_eq!((part.rises(0, u8::MAX), part.rises(1, u8::MAX), part.rises(1, 1)), (None, Some(2), None));
        assert_eq!(part.rises(2, u8::MAX), None);
        assert_eq!(Part::of_vp8(&Vp8::read(&[0x10, 1]).unwrap()), None);
    }
}
