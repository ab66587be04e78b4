//! One clock for all sockets of a worker: a timing wheel in place of a timer per connection.

/// Slots of the wheel; what is due further ahead stays in its slot for more than one turn.
const SLOTS: usize = 64;

/// Things that are due at a tick. A tick is as long as whoever turns the wheel makes it.
#[derive(Debug)]
pub struct Wheel<T> {
    slots: Vec<Vec<(u32, T)>>,
    now: u32,
}

impl<T> Default for Wheel<T> {
    fn default() -> Wheel<T> {
        Wheel { slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect(), now: 0 }
    }
}

impl<T> Wheel<T> {
    /// The tick the wheel stands at.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Puts `what` to the tick `due`; what is due already comes with the next turn. Answers the tick it comes at.
    pub fn put(&mut self, due: u32, what: T) -> u32 {
        let due = due.max(self.now + 1);
        if let Some(slot) = self.slots.get_mut(due as usize % SLOTS) {
            slot.push((due, what));
        }
        due
    }

    /// Goes on by one tick and gives what is due at it.
    pub fn turn(&mut self) -> Vec<T> {
        self.now += 1;
        let Some(slot) = self.slots.get_mut(self.now as usize % SLOTS) else { return Vec::new() };
        let mut due = Vec::new();
        let mut later = Vec::new();
        for (at, what) in slot.drain(..) {
            if at <= self.now { due.push(what) } else { later.push((at, what)) }
        }
        *slot = later;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_once_at_its_tick() {
        let mut wheel = Wheel::default();
        let mut expected = std::collections::BTreeMap::<u32, Vec<u32>>::new();
        for n in 0..500_u32 {
            let due = 1 + n * 7 % 300;
            assert_eq!(wheel.put(due, n), due);
            expected.entry(due).or_default().push(n);
        }
        for tick in 1..=300 {
            let mut due = wheel.turn();
            due.sort_unstable();
            assert_eq!(due, expected.remove(&tick).unwrap_or_default(), "tick {tick}");
        }
        assert!(expected.is_empty());
    }

    #[test]
    fn what_is_due_already_comes_with_the_next_turn() {
        let mut wheel = Wheel::default();
        for _ in 0..10 {
            wheel.turn();
        }
        assert_eq!(wheel.put(3, "late"), 11);
        assert_eq!(wheel.put(10, "now"), 11);
        assert_eq!(wheel.turn(), ["late", "now"]);
    }
}
