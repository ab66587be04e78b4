//! Packets of one stream in their order again, for who has to put pictures together of them.
//!
//! A packet that is missing is waited for, for as long as asking for it again may take; then it is given up, and said to be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ring::Kept;

/// How long a missing packet is waited for: two round trips across an ocean, after which a keyframe is quicker.
const PATIENCE: Duration = Duration::from_millis(400);
/// Packets that wait for a missing one. When full it is given up.
const WAITING_MAX: usize = 2_048;
/// Out of the sequence further than this is no loss but a source that began anew.
const JUMP_MAX: u16 = 4_096;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The next packet.
    Packet(Kept),
    /// What was between the last and the next is lost.
    Lost,
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub struct Reorder {
    /// The number that is due, wraps counted.
    due: Option<u64>,
    waiting: BTreeMap<u64, Kept>,
    since: Option<Instant>,
}

impl Reorder {
    /// A packet came. Late ones and repeats are dropped.
    pub fn push(&mut self, kept: Kept, now: Instant) {
        let first = u64::from(kept.sequence) + (1 << 16);
        let due = *self.due.get_or_insert(first);
        let ahead = kept.sequence.wrapping_sub(due as u16);
        let place = match ahead {
            0..JUMP_MAX => due + u64::from(ahead),
            // It is late: either it was given up, or it is here already.
            _ if ahead > u16::MAX - JUMP_MAX => return,
            _ => {
                self.waiting.clear();
                let anew = (due | 0xFFFF) + 1 + (1 << 16) + u64::from(kept.sequence);
                // Not what is due: that something is missing is said before it is given.
                self.due = Some(anew - 1);
                self.since = Some(now.checked_sub(PATIENCE).unwrap_or(now));
                anew
            }
        };
        self.waiting.insert(place, kept);
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// What can be given now.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        let (first, _) = self.waiting.first_key_value()?;
        let (first, due) = (*first, self.due?);
        if first == due {
            let (_, kept) = self.waiting.pop_first()?;
            self.due = Some(due + 1);
            self.since = (!self.waiting.is_empty()).then_some(now);
            return Some(Next::Packet(kept));
        }
        let waited = self.since.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        if waited || self.waiting.len() >= WAITING_MAX {
            self.due = Some(first);
            return Some(Next::Lost);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn kept(sequence: u16) -> Kept {
        Kept {
            sequence,
            timestamp: 0,
            marker: false,
            keyframe: false,
            payload: Bytes::new(),
            descriptor: Bytes::new(),
            part: None,
            at: crate::rtp::beginning(),
        }
    }

    fn given(reorder: &mut Reorder, now: Instant) -> Vec<Option<u16>> {
        std::iter::from_fn(|| reorder.next(now))
            .map(|next| match next {
                Next::Packet(kept) => Some(kept.sequence),
                Next::Lost => None,
            })
            .collect()
    }

    #[test]
    fn a_missing_packet_is_waited_for_and_then_given_up() {
        let (mut reorder, now) = (Reorder::default(), crate::rtp::beginning());
        for sequence in [65_534, 0, 1] {
            reorder.push(kept(sequence), now);
        }
        assert_eq!(given(&mut reorder, now), [Some(65_534)]);
        reorder.push(kept(65_535), now);
        assert_eq!(given(&mut reorder, now), [Some(65_535), Some(0), Some(1)]);
        reorder.push(kept(3), now);
        assert_eq!(given(&mut reorder, now), []);
        assert_eq!(given(&mut reorder, now + PATIENCE), [None, Some(3)]);
        reorder.push(kept(2), now);
        assert_eq!(given(&mut reorder, now + PATIENCE), [], "too late");
        reorder.push(kept(30_000), now);
        assert_eq!(given(&mut reorder, now), [None, Some(30_000)], "it began anew");
    }

    proptest! {
        #[test]
        fn what_is_given_is_in_order_and_once(
            start: u16, steps in prop::collection::vec((0_u16..40, 0_u64..200), 1..300),
        ) {
            let (mut reorder, mut now) = (Reorder::default(), crate::rtp::beginning());
            let mut last = None;
            for (step, passed) in steps {
                now += Duration::from_millis(passed);
                let at = last.unwrap_or(start).wrapping_add(step).wrapping_sub(8);
                reorder.push(kept(at), now);
                for sequence in given(&mut reorder, now).into_iter().flatten() {
                    if let Some(last) = last { prop_assert!(super::super::is_newer(sequence, last)); }
                    last = Some(sequence);
                }
            }
        }
    }
}
