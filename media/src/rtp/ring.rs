//! What was received of one layer, kept for a while: one copy for all subscribers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::temporal::Part;

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
    /// When it came.
    pub at: Instant,
    /// What the codec made.
    pub payload: Bytes,
    /// Its [dependency descriptor](super::dependency), as the publisher wrote it; empty where there is none.
    pub descriptor: Bytes,
    /// What it is to who is not sent all; `None` where there are no temporal layers.
    pub part: Option<Part>,
}

/// The last packets of one layer by sequence number.
///
/// Of [`Ring::AGE_MAX`] and at most [`Ring::LEN`] unless said otherwise: a receiver far away asks several times within that, and later a
/// keyframe is the better help. When full the oldest is forgotten.
#[derive(Debug)]
pub struct Ring {
    /// From `first` on; `None` what has not come.
    packets: VecDeque<Option<Kept>>,
    first: u16,
    len_max: usize,
    age_max: Duration,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::keeping(Ring::LEN, Ring::AGE_MAX)
    }
}

impl Ring {
    /// Packets that are kept.
    pub const LEN: usize = 512;
    /// For how long.
    pub const AGE_MAX: Duration = Duration::from_millis(1_000);

    /// A ring of at most so many packets, none older than that. `len_max` is at most 8,192, a quarter of what numbers can tell apart.
    pub fn keeping(len_max: usize, age_max: Duration) -> Ring {
        Ring { packets: VecDeque::new(), first: 0, len_max: len_max.min(8_192), age_max }
    }

    /// Keeps a packet; `false` when it was there, or is too old to be kept.
    pub fn put(&mut self, kept: Kept) -> bool {
        let (now, sequence) = (kept.at, kept.sequence);
        if self.packets.is_empty() {
            self.first = sequence;
        }
        let place = usize::from(sequence.wrapping_sub(self.first));
        if place < 0x8000 {
            if place >= 2 * self.len_max {
                // What is between was never here.
                self.packets.clear();
                self.first = sequence;
            }
            let place = usize::from(sequence.wrapping_sub(self.first));
            if place >= self.packets.len() {
                self.packets.resize(place + 1, None);
            }
        } else {
            let before = usize::from(self.first.wrapping_sub(sequence));
            if before + self.packets.len() > self.len_max {
                return false;
            }
            for _ in 0..before {
                self.packets.push_front(None);
            }
            self.first = sequence;
        }
        let place = usize::from(sequence.wrapping_sub(self.first));
        match self.packets.get_mut(place) {
            Some(slot) if slot.is_none() => *slot = Some(kept),
            _ => return false,
        }
        self.forget(now);
        true
    }

    /// The packet with this number, if it is still there.
    pub fn get(&self, sequence: u16) -> Option<&Kept> {
        self.packets.get(usize::from(sequence.wrapping_sub(self.first)))?.as_ref()
    }

    /// The packets from this number on, in order, as far as they have come.
    pub fn from(&self, sequence: u16) -> impl Iterator<Item = &Kept> {
        let skip = usize::from(sequence.wrapping_sub(self.first));
        self.packets.iter().skip(skip).flatten()
    }

    /// The newest number there is.
    pub fn newest(&self) -> Option<u16> {
        let behind = u16::try_from(self.packets.len()).ok()?.checked_sub(1)?;
        Some(self.first.wrapping_add(behind))
    }

    /// Time has passed: what is too old goes, and the room it took. Without this a layer that is made no more, because nobody watches it,
    /// would keep its last packets for good; to be called now and then.
    pub fn age(&mut self, now: Instant) {
        self.forget(now);
        if self.packets.capacity() > 4 * self.packets.len().max(16) {
            self.packets.shrink_to(2 * self.packets.len());
        }
    }

    fn forget(&mut self, now: Instant) {
        let age_max = self.age_max;
        let is_old = |kept: &Option<Kept>| {
            kept.as_ref().is_none_or(|kept| now.saturating_duration_since(kept.at) > age_max)
        };
        while self.packets.len() > self.len_max
            || self.packets.len() > 1 && self.packets.front().is_some_and(is_old)
        {
            self.packets.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(sequence: u16) -> Kept {
        let at = crate::rtp::beginning();
        Kept {
            sequence,
            timestamp: 0,
            marker: false,
            keyframe: false,
            at,
            payload: Bytes::new(),
            descriptor: Bytes::new(),
            part: None,
        }
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

    #[test]
    fn a_quiet_layer_keeps_little() {
        let (mut ring, start) = (Ring::default(), crate::rtp::beginning());
        for sequence in 0..100 {
            let at = start + Duration::from_millis(u64::from(sequence) * 100);
            assert!(ring.put(Kept { at, ..kept(sequence) }));
        }
        assert_eq!((ring.packets.len(), ring.get(89).is_some(), ring.get(88).is_some()), (11, true, false));
        assert_eq!(ring.from(95).count(), 5);
        ring.age(start + Duration::from_secs(10));
        assert_eq!((ring.packets.len(), ring.newest()), (10, Some(99)));
        ring.age(start + Duration::from_secs(30));
        assert_eq!((ring.packets.len(), ring.newest()), (1, Some(99)), "what comes next is known to be next");
        assert!(ring.packets.capacity() <= 64, "{}", ring.packets.capacity());
        assert!(ring.put(Kept { at: start + Duration::from_secs(60), ..kept(30_000) }));
        assert_eq!((ring.packets.len(), ring.newest()), (1, Some(30_000)));
    }
}
