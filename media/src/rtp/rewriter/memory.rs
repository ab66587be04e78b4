//! What was sent, for as long as it may be asked for again: not the packets, which their source keeps once for everybody
//! ([`Ring`]), but of what each was made.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Sent, Shift, SourceId};
use crate::rtp::ring::Ring;

/// Packets a subscriber may ask for again: as many as a [`Ring`] keeps, and for as long.
const SENT_LEN: usize = Ring::LEN;
const SENT_MS: u32 = Ring::AGE_MAX.as_millis() as u32;
/// There is room for so many at first; more is made while what would be forgotten is younger than that. Both divide 2^16.
const SENT_LEN_MIN: usize = 64;
/// Sources whose packets may still be asked for again.
const EPOCHS_MAX: usize = 8;
/// How often a packet is sent again.
const REPEATS_MAX: u8 = 3;

/// What is remembered of a packet; there are up to five hundred for each slot.
#[derive(Debug, Clone, Copy)]
struct Trace {
    sequence: u16,
    source_sequence: u16,
    /// Pictures that had been left out of its source before it.
    pictures_out: u16,
    epoch: u8,
    /// How often it was sent again; [`NOTHING`](Trace::NOTHING) where nothing is remembered.
    repeats: u8,
    /// When it was sent last, in milliseconds since the stream began.
    sent_ms: u32,
}

impl Trace {
    const NOTHING: u8 = u8::MAX;
    const NONE: Trace = Trace {
        sequence: 0,
        source_sequence: 0,
        pictures_out: 0,
        epoch: 0,
        repeats: Trace::NOTHING,
        sent_ms: 0,
    };

    fn is_of(&self, sequence: u16) -> bool {
        self.repeats != Trace::NOTHING && self.sequence == sequence
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Memory {
    began: Option<Instant>,
    /// By the lower bits of their numbers.
    sent: Vec<Trace>,
    /// The last sources, and how they were changed; the newest is `epoch`.
    epochs: VecDeque<(SourceId, Shift)>,
    epoch: u8,
    remembers: bool,
}

impl Memory {
    /// Nothing was sent yet.
    pub(super) fn new() -> Memory {
        Memory { began: None, sent: Vec::new(), epochs: VecDeque::new(), epoch: 0, remembers: true }
    }

    /// Nothing will be asked for.
    pub(super) fn of_nothing() -> Memory {
        Memory { remembers: false, ..Memory::new() }
    }

    /// What is sent from now on is of this source, and changed so.
    pub(super) fn begin(&mut self, source: SourceId, shift: Shift) {
        self.epoch = self.epoch.wrapping_add(1);
        self.epochs.push_back((source, shift));
        if self.epochs.len() > EPOCHS_MAX {
            self.epochs.pop_front();
        }
    }

    /// The packet of the present source with the number `source_sequence` there was sent under `sequence`, after so many pictures that
    /// were left out.
    pub(super) fn remember(&mut self, sequence: u16, source_sequence: u16, pictures_out: u16, now: Instant) {
        if !self.remembers {
            return;
        }
        let sent_ms = ms_between(*self.began.get_or_insert(now), now);
        let trace = Trace { sequence, source_sequence, pictures_out, epoch: self.epoch, repeats: 0, sent_ms };
        let before = self.place(sequence).and_then(|place| self.sent.get(place));
        let is_wanted = |before: &Trace| {
            before.repeats != Trace::NOTHING && sent_ms.saturating_sub(before.sent_ms) <= SENT_MS
        };
        if self.sent.len() < SENT_LEN && before.is_none_or(is_wanted) {
            self.make_room();
        }
        if let Some(place) = self.place(sequence)
            && let Some(place) = self.sent.get_mut(place)
        {
            *place = trace;
        }
    }

    /// See [`Rewriter::again`](super::Rewriter::again).
    pub(super) fn again(&mut self, sequence: u16, now: Instant, pause: Duration) -> Option<Sent> {
        let now_ms = ms_between(self.began?, now);
        let place = self.place(sequence)?;
        let trace = self.sent.get_mut(place).filter(|trace| trace.is_of(sequence))?;
        let recently =
            trace.repeats > 0 && u128::from(now_ms.saturating_sub(trace.sent_ms)) < pause.as_millis();
        if recently || trace.repeats >= REPEATS_MAX {
            return None;
        }
        trace.sent_ms = now_ms;
        trace.repeats += 1;
        let trace = *trace;
        self.recall(trace)
    }

    /// See [`Rewriter::look_up`](super::Rewriter::look_up).
    pub(super) fn look_up(&self, sequence: u16) -> Option<Sent> {
        let trace = self.sent.get(self.place(sequence)?).filter(|trace| trace.is_of(sequence))?;
        self.recall(*trace)
    }

    fn recall(&self, trace: Trace) -> Option<Sent> {
        let back = usize::from(self.epoch.wrapping_sub(trace.epoch));
        let (source, shift) = *self.epochs.get(self.epochs.len().checked_sub(back + 1)?)?;
        let Trace { sequence, source_sequence, pictures_out, .. } = trace;
        Some(Sent { sequence, source, source_sequence, shift: shift.past(pictures_out) })
    }

    fn place(&self, sequence: u16) -> Option<usize> {
        usize::from(sequence).checked_rem(self.sent.len())
    }

    fn make_room(&mut self) {
        let len = (2 * self.sent.len()).clamp(SENT_LEN_MIN, SENT_LEN);
        let before = std::mem::replace(&mut self.sent, vec![Trace::NONE; len]);
        for trace in before.into_iter().filter(|trace| trace.repeats != Trace::NOTHING) {
            if let Some(place) = self.sent.get_mut(usize::from(trace.sequence) % len) {
                *place = trace;
            }
        }
    }
}

fn ms_between(began: Instant, now: Instant) -> u32 {
    u32::try_from(now.saturating_duration_since(began).as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::incoming;
    use super::super::{Rewriter, Sent};
    use super::*;

    #[test]
    fn a_packet_is_not_repeated_at_once_nor_for_ever() {
        let (mut rewriter, start) = (Rewriter::new(90_000, 5), crate::rtp::beginning());
        rewriter.forward(incoming(1, 10, 0), start);
        let pause = Duration::from_millis(100);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(rewriter.again(5, at(10), pause).map(|sent| sent.source_sequence), Some(10));
        assert_eq!(rewriter.again(5, at(60), pause), None);
        assert!(rewriter.again(5, at(200), pause).is_some() && rewriter.again(5, at(400), pause).is_some());
        assert_eq!(rewriter.again(5, at(600), pause), None, "three times are enough");
        assert_eq!(rewriter.again(6, at(600), pause), None, "never sent");
    }

    #[test]
    fn as_much_is_remembered_as_may_be_asked_for_again() {
        let (mut rewriter, start) = (Rewriter::new(90_000, 5), crate::rtp::beginning());
        let forward = |rewriter: &mut Rewriter, sequence: u16, at: Duration| {
            rewriter.forward(incoming(1, sequence, 0), start + at).expect("in order")
        };
        // A tile, over the wrap of its numbers.
        let every = Duration::from_millis(10);
        let sent: Vec<Sent> =
            (0..70_000).map(|step| forward(&mut rewriter, step as u16, every * step)).collect();
        assert_eq!(rewriter.memory.sent.len(), 128, "a second of it, and no more than that");
        for one in &sent[sent.len() - 100..] {
            assert_eq!(rewriter.look_up(one.sequence), Some(*one));
        }
        // A picture of many packets at once.
        let burst: Vec<Sent> =
            (70_000..70_400_u32).map(|step| forward(&mut rewriter, step as u16, every * 70_000)).collect();
        assert!(burst.iter().all(|one| rewriter.look_up(one.sequence) == Some(*one)));
        assert_eq!(rewriter.memory.sent.len(), SENT_LEN);
        let last = sent[sent.len() - 1];
        assert_eq!(rewriter.look_up(last.sequence), Some(last), "what was there is still there");
    }
}
