//! What waits for one device while its socket takes nothing more.
//!
//! An outbox holds nothing while it is empty. It is bounded in bytes; what is worth least makes room for what is worth more,
//! and what may not be dropped and does not fit ends the connection ([`Overflow`]).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::encoded::Class;

/// A device that is 1 MiB behind is gone or asleep; when full of what may not be dropped, goodbye 4001: it resumes from its
/// cursor.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;
/// What a queued message costs beside its bytes, so that many small ones are bounded too.
const ITEM_BYTES: usize = 64;
/// Shedding makes more room than is needed right now, so that it is not done for every message.
const ROOM_BYTES: usize = OUTBOX_BYTES_MAX / 4;

/// What may not be dropped does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// Messages dropped, by class.
pub type Shed = [u32; Class::ALL.len()];

/// The bounded queue of encoded messages for one device.
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Cost of all items.
    bytes: usize,
    /// How many items have left at the front; the place of an item is its number less this.
    left: u64,
    /// Where the latest message of a slot is, by number.
    slots: HashMap<(Class, u64), u64>,
    /// Bytes of the front that the socket has taken.
    taken: usize,
}

#[derive(Debug)]
struct Item {
    /// Empty when it was shed or replaced.
    frame: Bytes,
    class: Class,
    slot: Option<u64>,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What the messages cost, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// The rest of a message of which the socket took the first `taken` bytes; nothing waits before it.
    pub fn begin(&mut self, frame: Bytes, class: Class, taken: usize) {
        let queue = self.0.get_or_insert_default();
        queue.append(frame, class, None);
        queue.taken = taken;
    }

    /// Puts a message at the end. One that has a `slot` replaces the one of its class and slot that still waits. What had to
    /// be dropped for it, or it itself, is added to `shed`.
    pub fn push(
        &mut self,
        frame: Bytes,
        class: Class,
        slot: Option<u64>,
        shed: &mut Shed,
    ) -> Result<(), Overflow> {
        let queue = self.0.get_or_insert_default();
        let pushed = queue.push(frame, class, slot, shed);
        if queue.items.is_empty() {
            self.0 = None;
        }
        pushed
    }

    /// Drops everything but a message the socket has taken a part of, and puts the last words after it; they always fit.
    pub fn last_words(&mut self, frames: impl IntoIterator<Item = Bytes>) {
        let queue = self.0.get_or_insert_default();
        queue.items.truncate(usize::from(queue.taken > 0));
        queue.slots.clear();
        queue.bytes = queue.items.iter().map(Item::cost).sum();
        for frame in frames {
            queue.append(frame, Class::Durable, None);
        }
    }

    /// Puts the last words after all that waits; they always fit.
    pub fn finish(&mut self, frames: impl IntoIterator<Item = Bytes>) {
        let queue = self.0.get_or_insert_default();
        for frame in frames {
            queue.append(frame, Class::Durable, None);
        }
    }

    /// What to give the socket next, in order.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let queue = self.0.as_deref();
        let taken = queue.map_or(0, |queue| queue.taken);
        let items = queue.into_iter().flat_map(|queue| &queue.items);
        items
            .enumerate()
            .map(move |(n, item)| item.frame.get(if n == 0 { taken } else { 0 }..).unwrap_or_default())
            .filter(|chunk| !chunk.is_empty())
    }

    /// The socket took the next `bytes`.
    pub fn advance(&mut self, bytes: usize) {
        let Some(queue) = &mut self.0 else { return };
        queue.taken += bytes;
        while let Some(front) = queue.items.front() {
            if queue.taken < front.frame.len() {
                return;
            }
            queue.taken -= front.frame.len();
            queue.pop();
        }
        self.0 = None;
    }
}

impl Item {
    fn cost(&self) -> usize {
        self.frame.len() + ITEM_BYTES
    }
}

impl Queue {
    fn append(&mut self, frame: Bytes, class: Class, slot: Option<u64>) {
        if let Some(slot) = slot {
            self.slots.insert((class, slot), self.left + self.items.len() as u64);
        }
        let item = Item { frame, class, slot };
        self.bytes += item.cost();
        self.items.push_back(item);
    }

    fn pop(&mut self) {
        let Some(item) = self.items.pop_front() else { return };
        self.bytes -= item.cost();
        if let Some(slot) = item.slot
            && self.slots.get(&(item.class, slot)) == Some(&self.left)
        {
            self.slots.remove(&(item.class, slot));
        }
        self.left += 1;
    }

    fn push(
        &mut self,
        frame: Bytes,
        class: Class,
        slot: Option<u64>,
        shed: &mut Shed,
    ) -> Result<(), Overflow> {
        if let Some(slot) = slot
            && let Some(number) = self.slots.get(&(class, slot)).copied()
        {
            let place = usize::try_from(number - self.left).unwrap_or(usize::MAX);
            // A message the socket has begun to take is on the wire.
            if let Some(item) = self.items.get_mut(place).filter(|_| place > 0 || self.taken == 0) {
                self.bytes -= item.frame.len();
                if self.bytes + frame.len() <= OUTBOX_BYTES_MAX {
                    self.bytes += frame.len();
                    item.frame = frame;
                    return Ok(());
                }
                item.frame = Bytes::new();
            }
        }
        let cost = frame.len() + ITEM_BYTES;
        if self.bytes + cost > OUTBOX_BYTES_MAX {
            self.shed(cost, class, shed);
            if self.bytes + cost > OUTBOX_BYTES_MAX {
                if class == Class::Durable {
                    return Err(Overflow);
                }
                count(shed, class);
                return Ok(());
            }
        }
        self.append(frame, class, slot);
        Ok(())
    }

    /// Drops the oldest of what is worth least, and nothing worth more than `class`, until there is ample room.
    fn shed(&mut self, cost: usize, class: Class, shed: &mut Shed) {
        let wanted = OUTBOX_BYTES_MAX.saturating_sub(cost.max(ROOM_BYTES));
        let begun = usize::from(self.taken > 0);
        for victim in Class::ALL.into_iter().filter(|victim| *victim < Class::Durable && *victim <= class) {
            for item in self.items.iter_mut().skip(begun).filter(|item| item.class == victim) {
                if self.bytes <= wanted {
                    break;
                }
                if !item.frame.is_empty() {
                    self.bytes -= item.cost();
                    item.frame = Bytes::new();
                    count(shed, victim);
                }
            }
        }
        // What was dropped leaves; the numbers begin anew.
        let mut place = 0;
        self.items.retain(|item| {
            place += 1;
            place <= begun || !item.frame.is_empty()
        });
        self.bytes = self.items.iter().map(Item::cost).sum();
        self.left = 0;
        self.slots.clear();
        for (number, item) in (0..).zip(&self.items) {
            if let Some(slot) = item.slot {
                self.slots.insert((item.class, slot), number);
            }
        }
    }
}

fn count(shed: &mut Shed, class: Class) {
    if let Some(count) = shed.get_mut(class as usize) {
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    fn push(
        outbox: &mut Outbox,
        len: usize,
        class: Class,
        slot: Option<u64>,
    ) -> (Result<(), Overflow>, Shed) {
        let mut shed = Shed::default();
        let pushed = outbox.push(frame(len), class, slot, &mut shed);
        (pushed, shed)
    }

    #[test]
    fn what_is_worth_least_goes_first() {
        let mut outbox = Outbox::default();
        let len = 100_000 - ITEM_BYTES;
        for class in [Class::Durable, Class::Receipt, Class::Live, Class::Presence, Class::Typing] {
            for _ in 0..2 {
                assert_eq!(push(&mut outbox, len, class, None), (Ok(()), Shed::default()));
            }
        }
        // 10 of 100,000 bytes; the eleventh does not fit. Three go, for ample room.
        let (pushed, shed) = push(&mut outbox, len, Class::Durable, None);
        assert_eq!((pushed, shed), (Ok(()), [2, 1, 0, 0, 0]));
        let (pushed, shed) = push(&mut outbox, 3 * len, Class::Durable, None);
        assert_eq!((pushed, shed), (Ok(()), [0, 1, 0, 0, 0]));
        let (_, shed) = push(&mut outbox, 3 * len, Class::Typing, None);
        assert_eq!(shed, [1, 0, 0, 0, 0], "what is worth less never drops what is worth more");
        let (pushed, shed) = push(&mut outbox, 3 * len, Class::Durable, None);
        assert_eq!((pushed, shed), (Ok(()), [0, 0, 2, 1, 0]));
        assert_eq!(push(&mut outbox, 5 * len, Class::Durable, None).0, Err(Overflow));
        assert!(outbox.bytes() <= OUTBOX_BYTES_MAX);
        outbox.last_words([frame(200), frame(20)]);
        assert_eq!(outbox.chunks().map(<[u8]>::len).collect::<Vec<_>>(), [200, 20]);
    }

    #[test]
    fn the_latest_receipt_replaces_the_one_that_waits() {
        let mut outbox = Outbox::default();
        push(&mut outbox, 50, Class::Durable, None).0.unwrap();
        for len in 1..1_000 {
            push(&mut outbox, len, Class::Receipt, Some(len as u64 % 3)).0.unwrap();
        }
        let lens: Vec<_> = outbox.chunks().map(<[u8]>::len).collect();
        assert_eq!(lens, [50, 997, 998, 999]);
        outbox.advance(51);
        push(&mut outbox, 10, Class::Receipt, Some(997 % 3)).0.unwrap();
        let lens: Vec<_> = outbox.chunks().map(<[u8]>::len).collect();
        assert_eq!(lens, [996, 998, 999, 10], "what the socket has begun to take stays as it is");
    }

    #[test]
    fn a_message_half_sent_is_finished_whatever_happens() {
        let mut outbox = Outbox::default();
        outbox.begin(frame(1_000), Class::Typing, 10);
        push(&mut outbox, OUTBOX_BYTES_MAX - 2_000, Class::Durable, None).0.unwrap();
        assert_eq!(push(&mut outbox, 2_000, Class::Durable, None).0, Err(Overflow));
        outbox.last_words([frame(30)]);
        assert_eq!(outbox.chunks().map(<[u8]>::len).collect::<Vec<_>>(), [990, 30]);
        outbox.advance(990);
        assert_eq!(outbox.chunks().map(<[u8]>::len).collect::<Vec<_>>(), [30]);
        outbox.advance(30);
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes(), 0);
    }

    proptest! {
        #[test]
        fn bytes_are_counted_and_bounded(
            steps in proptest::collection::vec((0_usize..60_000, 0_usize..5, any::<Option<u8>>(), 0_usize..30_000), 1..200),
        ) {
            let mut outbox = Outbox::default();
            for (len, class, slot, taken) in steps {
                let class = Class::ALL[class];
                let slot = slot.filter(|_| class != Class::Durable).map(u64::from);
                let mut shed = Shed::default();
                let _: Result<(), Overflow> = outbox.push(frame(len + 1), class, slot, &mut shed);
                prop_assert!(outbox.bytes() <= OUTBOX_BYTES_MAX);
                let waiting: usize = outbox.chunks().map(<[u8]>::len).sum();
                prop_assert!(waiting <= outbox.bytes());
                outbox.advance(taken.min(waiting));
                let left: usize = outbox.chunks().map(<[u8]>::len).sum();
                prop_assert_eq!(left, waiting - taken.min(waiting));
                prop_assert_eq!(outbox.is_empty(), left == 0);
            }
        }
    }
}
