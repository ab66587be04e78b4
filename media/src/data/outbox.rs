//! What waits to be sent to a participant on its channels.
//!
//! Only a little is given to SCTP at a time, and the rest waits here, where it can still be taken back: a reader who is slow loses
//! messages nobody promised first, the oldest first, since a newer one makes it worthless; then, when even the promised ones are too
//! many, its channels end.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Ending;

/// Bytes of messages nobody promised, with [`OVERHEAD_BYTES`] for each: about a second of twenty busy pointers. When full, the oldest go.
pub const LOSSY_BYTES_MAX: usize = 64 << 10;
/// Bytes of promised messages: a conversation of minutes. When full, the channels end with [`Ending::Slow`].
pub const RELIABLE_BYTES_MAX: usize = 256 << 10;
/// What a message costs beside its bytes.
pub const OVERHEAD_BYTES: usize = 64;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) stream: u16,
    pub(super) is_text: bool,
    pub(super) bytes: Bytes,
}

impl Waiting {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Outbox {
    reliable: VecDeque<Waiting>,
    lossy: VecDeque<Waiting>,
    reliable_bytes: usize,
    lossy_bytes: usize,
}

impl Outbox {
    /// One more; says how many were lost for it.
    pub(super) fn push(&mut self, message: Waiting, lossy: bool) -> Result<usize, Ending> {
        if !lossy {
            self.reliable_bytes += message.cost();
            if self.reliable_bytes > RELIABLE_BYTES_MAX {
                return Err(Ending::Slow);
            }
            self.reliable.push_back(message);
            return Ok(0);
        }
        self.lossy_bytes += message.cost();
        self.lossy.push_back(message);
        let mut lost = 0;
        while self.lossy_bytes > LOSSY_BYTES_MAX {
            let Some(oldest) = self.lossy.pop_front() else { break };
            self.lossy_bytes -= oldest.cost();
            lost += 1;
        }
        Ok(lost)
    }

    /// The next, promised ones first.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        if let Some(message) = self.reliable.pop_front() {
            self.reliable_bytes -= message.cost();
            return Some(message);
        }
        let message = self.lossy.pop_front()?;
        self.lossy_bytes -= message.cost();
        Some(message)
    }

    /// A channel is closed.
    pub(super) fn forget(&mut self, stream: u16) {
        self.reliable.retain(|message| message.stream != stream);
        self.lossy.retain(|message| message.stream != stream);
        self.reliable_bytes = self.reliable.iter().map(Waiting::cost).sum();
        self.lossy_bytes = self.lossy.iter().map(Waiting::cost).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(stream: u16, len: usize) -> Waiting {
        Waiting { stream, is_text: false, bytes: Bytes::from(vec![0; len]) }
    }

    #[test]
    fn who_is_slow_loses_the_oldest_that_nobody_promised_and_then_everything() {
        let mut outbox = Outbox::default();
        let fit = LOSSY_BYTES_MAX / (1_000 + OVERHEAD_BYTES);
        for at in 0..fit {
            assert_eq!(outbox.push(message(at as u16, 1_000), true), Ok(0));
        }
        assert_eq!(outbox.push(message(999, 1_000), true), Ok(1));
        outbox.push(message(7, 9), false).unwrap();
        assert_eq!(outbox.pop(), Some(message(7, 9)), "what was promised goes first");
        assert_eq!(outbox.pop().map(|it| it.stream), Some(1), "the oldest was lost");
        let fit = RELIABLE_BYTES_MAX / (1_000 + OVERHEAD_BYTES);
        for _ in 0..fit {
            assert_eq!(outbox.push(message(1, 1_000), false), Ok(0));
        }
        assert_eq!(outbox.push(message(1, 1_000), false), Err(Ending::Slow));
    }

    #[test]
    fn what_was_for_a_channel_goes_with_it() {
        let mut outbox = Outbox::default();
        for stream in [1, 2, 1] {
            outbox.push(message(stream, 10), true).unwrap();
            outbox.push(message(stream, 10), false).unwrap();
        }
        outbox.forget(1);
        assert_eq!(outbox.pop(), Some(message(2, 10)));
        assert_eq!((outbox.reliable_bytes, outbox.lossy_bytes), (0, 10 + OVERHEAD_BYTES));
        assert_eq!(outbox.pop(), Some(message(2, 10)));
        assert_eq!(outbox.pop(), None);
        assert_eq!(outbox.lossy_bytes, 0);
    }
}
