//! Order on the wire: the entries of one conversation reach one socket in sequence, without hole and without repeat.
//!
//! Two sources speak at once: the log, read from the device's cursor on, and what happens meanwhile. [`Order`] is where they
//! meet, for one socket and one conversation. Whatever is offered, in whatever interleaving, it lets through exactly the entry
//! that is next; what was seen before is dropped, what comes too early while a replay runs is held back. Where something is
//! missing and no replay runs, it asks for one.
//!
//! ```text
//!           ┌── Live: next ──────────────── offered seq > next: a hole ──┐
//!           │        ▲                                                   ▼
//!           │        └── cutover(top): nothing missing ──── Replaying: next, held back, top seen
//!           │                                                            ▲
//!           └── a new subscription begins here ──────────────────────────┘
//! ```
//!
//! The rule for whoever replays: subscribe first, read the log afterwards, up to its end; then say
//! [`cutover`](Order::cutover) with the last sequence that was read. Everything committed before that read is in it, and
//! everything committed later is offered to the subscription: so nothing falls between. Where the answer is
//! [`Cutover::Behind`] more was offered than could be held back, and it stands in the log: read on.
//!
//! State, no clock, no I/O.

use std::collections::VecDeque;

/// Entries held back for one replay; the newest are kept. What is let go stands in the log, and the replay reads on.
pub const HELD_LEN_MAX: usize = 64;
/// Bytes held back for one replay, as entries above; a conversation of large messages is cut here.
pub const HELD_BYTES_MAX: usize = 128 << 10;

/// What is offered: a thing with a length.
pub trait Weighed {
    /// Bytes it occupies.
    fn len_bytes(&self) -> usize;
}

/// What to do with an entry that was offered live.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is next: send it.
    Send,
    /// Seen before.
    Repeat,
    /// A replay is on its way and will meet it.
    Held,
    /// Entries from `next` on are missing and nobody reads them: a replay from there is needed. Said once; held from now on.
    Hole {
        /// The first that is missing.
        next: u64,
    },
}

/// How a replay ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Cutover {
    /// Live from here on.
    Live {
        /// The next sequence that is let through.
        next: u64,
    },
    /// Entries from `next` to `top` are in the log and were not held back: read them, then cut over again.
    Behind {
        /// The first that is missing.
        next: u64,
        /// The highest that was offered.
        top: u64,
    },
    /// Nobody is replaying: live already.
    NotReplaying,
}

/// Where one socket is in one conversation.
#[derive(Debug)]
pub struct Order<T> {
    next: u64,
    replay: Option<Box<Replay<T>>>,
}

#[derive(Debug)]
struct Replay<T> {
    /// Entries offered meanwhile, their sequences without a hole between them.
    held: VecDeque<(u64, T)>,
    held_bytes: usize,
    /// The highest sequence offered; 0 for none.
    top: u64,
}

impl<T: Weighed> Order<T> {
    /// A subscription that has everything before `next`; a replay from `next` is on its way.
    pub fn replaying(next: u64) -> Order<T> {
        Order { next, replay: Some(Box::new(Replay { held: VecDeque::new(), held_bytes: 0, top: 0 })) }
    }

    /// The sequence that is let through next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Whether a replay is on its way.
    pub fn is_replaying(&self) -> bool {
        self.replay.is_some()
    }

    /// An entry that was just committed, or that another node told of. `entry` is only called where it is kept.
    pub fn offer(&mut self, seq: u64, entry: impl FnOnce() -> T) -> Offered {
        if seq < self.next {
            return Offered::Repeat;
        }
        match &mut self.replay {
            None if seq == self.next => {
                self.next += 1;
                Offered::Send
            }
            None => {
                let next = self.next;
                *self = Order::replaying(next);
                self.offer(seq, entry);
                Offered::Hole { next }
            }
            Some(replay) => {
                replay.hold(seq, entry);
                Offered::Held
            }
        }
    }

    /// Somebody knows that the log reaches to `top`. Gives where a replay must begin if this socket has not seen it.
    pub fn known_top(&mut self, top: u64) -> Option<u64> {
        if top < self.next {
            return None;
        }
        match &mut self.replay {
            Some(replay) => {
                replay.top = replay.top.max(top);
                None
            }
            None => {
                let next = self.next;
                let mut order = Order::replaying(next);
                if let Some(replay) = &mut order.replay {
                    replay.top = top;
                }
                *self = order;
                Some(next)
            }
        }
    }

    /// An entry read from the log. `true`: send it. A replay reads in order, so an entry beyond `next` means that those
    /// between do not exist any more (retention), and they are skipped.
    pub fn replayed(&mut self, seq: u64) -> bool {
        if seq < self.next || self.replay.is_none() {
            return false;
        }
        self.next = seq + 1;
        true
    }

    /// The log has been read to its end, which was `top`. What was held back and is next now goes to `send`.
    pub fn cutover(&mut self, top: u64, mut send: impl FnMut(u64, T)) -> Cutover {
        let Some(mut replay) = self.replay.take() else { return Cutover::NotReplaying };
        self.next = self.next.max(top.saturating_add(1));
        while let Some((seq, entry)) = replay.held.pop_front() {
            if seq > self.next {
                replay.held.push_front((seq, entry));
                break;
            }
            replay.held_bytes -= entry.len_bytes();
            if seq == self.next {
                self.next += 1;
                send(seq, entry);
            }
        }
        if replay.top >= self.next {
            let (next, top) = (self.next, replay.top);
            self.replay = Some(replay);
            return Cutover::Behind { next, top };
        }
        Cutover::Live { next: self.next }
    }

    /// Bytes held back.
    pub fn held_bytes(&self) -> usize {
        self.replay.as_ref().map_or(0, |replay| replay.held_bytes)
    }
}

impl<T: Weighed> Replay<T> {
    fn hold(&mut self, seq: u64, entry: impl FnOnce() -> T) {
        let follows = self.held.back().is_none_or(|(last, _)| seq == last + 1);
        if !follows {
            if self.held.back().is_some_and(|(last, _)| seq <= *last) {
                // Seen, or older than what is held: the log has it.
                return;
            }
            // After a hole only the newer run is worth keeping.
            self.held.clear();
            self.held_bytes = 0;
        }
        self.top = self.top.max(seq);
        let entry = entry();
        self.held_bytes += entry.len_bytes();
        self.held.push_back((seq, entry));
        while self.held.len() > HELD_LEN_MAX || self.held_bytes > HELD_BYTES_MAX {
            let Some((_, entry)) = self.held.pop_front() else { break };
            self.held_bytes -= entry.len_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
