//! What was received of one layer, kept for a while: one copy for all subscribers.

use bytes::Bytes;

use super::is_newer;

/// One packet in clear, as the publisher sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The publisher's sequence number.
    pub sequence: u16,
    /// The publisher's timestamp.
    pub timestamp: u32,
    /// Ends a frame.
    pub marker: bool,
    /// Begins a picture that needs none before it.
    pub keyframe: bool,
    /// What the codec made.
    pub payload: Bytes,
}

/// The last packets of one layer by sequence number.
///
/// Of [`Ring::LEN`] packets: more than a second of a layer of 3 Mbit/s, so that a receiver far away still finds what it asks for.
/// When full the oldest is forgotten.
#[derive(Debug, Default)]
pub struct Ring {
    slots: Vec<Option<Kept>>,
    newest: Option<u16>,
}

impl Ring {
    /// Packets that are kept.
    pub const LEN: usize = 512;

    /// Keeps a packet; `false` when it was there, or is too old to be kept.
    pub fn put(&mut self, kept: Kept) -> bool {
        if self.slots.is_empty() {
            self.slots.resize(Self::LEN, None);
        }
        let newest = *self.newest.get_or_insert(kept.sequence);
        if !is_newer(kept.sequence, newest) && usize::from(newest.wrapping_sub(kept.sequence)) >= Self::LEN {
            return false;
        }
        if is_newer(kept.sequence, newest) {
            self.newest = Some(kept.sequence);
        }
        let Some(slot) = self.slots.get_mut(usize::from(kept.sequence) % Self::LEN) else { return false };
        if slot.as_ref().is_some_and(|known| known.sequence == kept.sequence) {
            return false;
        }
        *slot = Some(kept);
        true
    }

    /// The packet with this number, if it is still there.
    pub fn get(&self, sequence: u16) -> Option<&Kept> {
        let kept = self.slots.get(usize::from(sequence) % Self::LEN)?.as_ref()?;
        let fresh = self.newest.is_some_and(|newest| usize::from(newest.wrapping_sub(sequence)) < Self::LEN);
        (kept.sequence == sequence && fresh).then_some(kept)
    }

    /// The newest number there is.
    pub fn newest(&self) -> Option<u16> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(sequence: u16) -> Kept {
        Kept { sequence, timestamp: 0, marker: false, keyframe: false, payload: Bytes::new() }
    }

    proptest! {
        #[test]
        fn it_has_exactly_the_latest(start: u16, steps in proptest::collection::vec(0u16..30, 1..400)) {
            let mut ring = Ring::default();
            let (mut at, mut sent) = (start, Vec::new());
            for step in steps {
                at = at.wrapping_add(step);
                ring.put(kept(at));
                sent.push(at);
            }
            for sequence in sent {
                let fresh = usize::from(at.wrapping_sub(sequence)) < Ring::LEN;
                prop_assert_eq!(ring.get(sequence).is_some(), fresh);
            }
            prop_assert!(ring.get(at.wrapping_add(1)).is_none());
        }
    }

    #[test]
    fn a_repeat_and_the_too_old_are_not_kept() {
        let mut ring = Ring::default();
        assert!(ring.put(kept(65_535)) && ring.put(kept(0)) && !ring.put(kept(65_535)));
        assert!(ring.put(kept(600)));
        assert!(!ring.put(kept(60)));
    }
}
