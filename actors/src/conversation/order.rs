//! One conversation's entries as a node hears of them, put in sequence.
//!
//! Three sources speak at once: what was committed here, what other nodes say on the bus, and what is read from the log where
//! something is missing. Whatever is offered in whatever order, twice or not at all, [`Order`] lets every entry through once, in
//! sequence, without a hole; where one is missing it says which to read. One per conversation with somebody online, so a hole is
//! read once for the node and not once for every socket.
//!
//! State, no clock, no I/O.

use std::collections::BTreeMap;

use super::Seq;

/// Entries that may wait for a missing one. The missing one is being read meanwhile, so few wait; when full the latest are let go,
/// and are read from the log like those that were lost.
pub const WAITING_LEN_MAX: usize = 256;

/// Puts entries of one conversation in sequence.
#[derive(Debug)]
pub struct Order<T> {
    /// The last that was let through.
    last: Seq,
    /// The highest anybody spoke of.
    top: Seq,
    /// What came too early.
    waiting: BTreeMap<Seq, T>,
    /// Somebody reads what is missing.
    reading: bool,
}

/// Entries `after + 1` up to `to` are missing: to be read from the log and given to [`Order::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The last that is not missing.
    pub after: Seq,
    /// The last that is.
    pub to: Seq,
}

impl<T> Order<T> {
    /// Everything up to `last` has been let through.
    #[must_use]
    pub fn after(last: Seq) -> Self {
        Self { last, top: last, waiting: BTreeMap::new(), reading: false }
    }

    /// The last that was let through.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.last
    }

    /// Somebody speaks of `entry`. What may go is pushed to `out`.
    pub fn offer(&mut self, seq: Seq, entry: T, out: &mut Vec<T>) {
        self.top = self.top.max(seq);
        if seq <= self.last {
            return;
        }
        self.waiting.entry(seq).or_insert(entry);
        self.let_through(out);
        if self.waiting.len() > WAITING_LEN_MAX {
            self.waiting.pop_last();
        }
    }

    /// The log is known to have come to `top`.
    pub fn heard_of(&mut self, top: Seq) {
        self.top = self.top.max(top);
    }

    /// What is missing and nobody reads yet. Whoever asks must read it and say [`Self::read`] or [`Self::not_read`].
    pub fn missing(&mut self) -> Option<Missing> {
        if self.reading || self.top <= self.last {
            return None;
        }
        self.reading = true;
        // Up to the first that waits; what lies past that, only when that is reached.
        let to = self.waiting.first_key_value().map_or(self.top, |(seq, _)| seq - 1);
        Some(Missing { after: self.last, to })
    }

    /// The entries that were missing were read, as far as they exist; `through` is how far the log is known for certain to hold no other.
    pub fn read(&mut self, entries: impl IntoIterator<Item = (Seq, T)>, through: Seq, out: &mut Vec<T>) {
        self.reading = false;
        for (seq, entry) in entries {
            self.top = self.top.max(seq);
            if seq > self.last {
                self.waiting.entry(seq).or_insert(entry);
            }
        }
        // Retention removes from the front: what does not exist up to `through` will never come.
        while self.last < through {
            match self.waiting.first_entry() {
                Some(first) if *first.key() <= through => {
                    self.last = *first.key();
                    out.push(first.remove());
                }
                _ => self.last = through,
            }
        }
        self.let_through(out);
        while self.waiting.len() > WAITING_LEN_MAX {
            self.waiting.pop_last();
        }
    }

    /// Reading failed; [`Self::missing`] will ask again.
    pub fn not_read(&mut self) {
        self.reading = false;
    }

    fn let_through(&mut self, out: &mut Vec<T>) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() != self.last + 1 {
                return;
            }
            self.last += 1;
            out.push(first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_missing_is_asked_for_once() {
        let (mut order, mut out) = (Order::after(3), Vec::new());
        order.offer(6, 6, &mut out);
        order.offer(7, 7, &mut out);
        assert_eq!(order.missing(), Some(Missing { after: 3, to: 5 }));
        order.heard_of(9);
        assert_eq!(order.missing(), None, "somebody reads already");
        order.read([(4, 4), (5, 5)], 5, &mut out);
        assert_eq!(out, [4, 5, 6, 7]);
        assert_eq!(order.missing(), Some(Missing { after: 7, to: 9 }));
        order.not_read();
        assert_eq!(order.missing(), Some(Missing { after: 7, to: 9 }), "a failed read is asked for again");
    }

    #[test]
    fn what_retention_removed_is_passed_over() {
        let (mut order, mut out) = (Order::after(0), Vec::new());
        order.heard_of(5);
        order.read([(4, 4), (5, 5)], 5, &mut out);
        assert_eq!((out, order.last(), order.missing()), (vec![4, 5], 5, None));
    }

    #[test]
    fn few_wait() {
        let (mut order, mut out) = (Order::after(0), Vec::new());
        for seq in 2..10_000 {
            order.offer(seq, seq, &mut out);
        }
        assert_eq!(order.waiting.len(), WAITING_LEN_MAX);
        assert_eq!(order.missing(), Some(Missing { after: 0, to: 1 }));
        order.read([(1, 1)], 1, &mut out);
        assert_eq!(out.len(), WAITING_LEN_MAX + 1);
        assert_eq!(order.missing(), Some(Missing { after: out.len() as u64, to: 9_999 }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// The log grows; each entry is told of at any time, twice or never; reads answer late, with what there was, or fail.
        #[test]
        fn everything_goes_out_once_in_sequence(start in 0_u64..5, length in 1_u64..40, steps in prop::collection::vec((0_u8..6, any::<prop::sample::Index>()), 0..200)) {
            let top = start + length;
            let (mut order, mut out) = (Order::after(start), Vec::new());
            let mut committed = start;
            let mut reading = None;
            for (what, index) in steps {
                match what {
                    0 | 1 => committed = (committed + 1).min(top),
                    2 if committed > start => {
                        let seq = start + 1 + index.index((committed - start) as usize) as u64;
                        order.offer(seq, seq, &mut out);
                    }
                    3 => order.heard_of(committed),
                    4 => reading = reading.or_else(|| order.missing()),
                    5 => if let Some(Missing { after, to }) = reading.take() {
                        if index.index(4) == 0 {
                            order.not_read();
                        } else {
                            // A page may be shorter than what was asked for.
                            let to = to.min(after + 1 + index.index(8) as u64);
                            order.read((after + 1..=to).map(|seq| (seq, seq)), to, &mut out);
                        }
                    }
                    _ => {}
                }
            }
            if let Some(Missing { after, to }) = reading.take() {
                order.read((after + 1..=to).map(|seq| (seq, seq)), to, &mut out);
            }
            order.heard_of(top);
            while let Some(Missing { after, to }) = order.missing() {
                order.read((after + 1..=to).map(|seq| (seq, seq)), to, &mut out);
            }
            prop_assert_eq!(out, (start + 1..=top).collect::<Vec<_>>());
        }
    }
}
