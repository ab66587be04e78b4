use super::*;

impl Weighed for u64 {
    fn len_bytes(&self) -> usize {
        1_000
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// A log, a bus that reorders, repeats and loses, and a replay that reads in pages.
struct World {
    dice: Dice,
    /// Entries committed so far: 1 to this.
    log: u64,
    /// Offers on their way.
    bus: Vec<u64>,
    order: Order<u64>,
    /// The replay has read up to here; `None` while none runs.
    replay: Option<u64>,
    seen: Vec<u64>,
}

impl World {
    fn commit(&mut self, loss_percent: u64) {
        self.log += 1;
        if self.dice.below(100) >= loss_percent {
            self.bus.push(self.log);
        }
        if self.dice.below(10) == 0 {
            let again = 1 + self.dice.below(self.log);
            self.bus.push(again);
        }
    }

    fn deliver(&mut self) {
        if self.bus.is_empty() {
            return;
        }
        // Mostly the oldest first, sometimes any.
        let at = if self.dice.below(4) == 0 { self.dice.below(self.bus.len() as u64) as usize } else { 0 };
        let seq = self.bus.remove(at);
        match self.order.offer(seq, || seq) {
            Offered::Send => self.seen.push(seq),
            Offered::Hole { next } => {
                assert!(self.replay.is_none(), "a hole is told while nobody reads");
                self.replay = Some(next - 1);
            }
            Offered::Repeat | Offered::Held => {}
        }
    }

    fn compare_top(&mut self) {
        if let Some(next) = self.order.known_top(self.log) {
            assert!(self.replay.is_none());
            self.replay = Some(next - 1);
        }
    }

    fn replay_step(&mut self) {
        let Some(read) = self.replay else { return };
        let end = self.log.min(read + 1 + self.dice.below(50));
        for seq in read + 1..=end {
            if self.order.replayed(seq) {
                self.seen.push(seq);
            }
        }
        self.replay = Some(end);
        // The end of the log as it was when it was read; more may be committed before the cutover is heard.
        if end == self.log {
            for _ in 0..self.dice.below(4) {
                self.commit(20);
                self.deliver();
            }
            let seen = &mut self.seen;
            match self.order.cutover(end, |seq, entry| {
                assert_eq!(seq, entry);
                seen.push(seq);
            }) {
                Cutover::Live { .. } => self.replay = None,
                Cutover::Behind { next, top } => {
                    assert!(next <= top && top <= self.log, "{next} {top}");
                    self.replay = Some(next - 1);
                }
                Cutover::NotReplaying => panic!("this replay was running"),
            }
        }
        assert!(self.order.held_bytes() <= HELD_BYTES_MAX);
    }
}

#[test]
fn no_interleaving_makes_a_hole_or_a_repeat() {
    for seed in 0..1_000 {
        let mut dice = Dice(seed);
        let (log, cursor) = (dice.below(300), dice.below(100));
        let cursor = cursor.min(log);
        let loss_percent = dice.below(30);
        let mut world = World {
            dice,
            log,
            bus: Vec::new(),
            order: Order::replaying(cursor + 1),
            replay: Some(cursor),
            seen: Vec::new(),
        };
        for _ in 0..1_000 {
            match world.dice.below(10) {
                0..=3 => world.commit(loss_percent),
                4..=7 => world.deliver(),
                8 => world.replay_step(),
                _ if world.dice.below(20) == 0 => world.compare_top(),
                _ => {}
            }
        }
        // Everybody falls silent; the comparison of tops finds what was lost at the end.
        while !world.bus.is_empty() {
            world.deliver();
        }
        for _ in 0..1_000 {
            world.compare_top();
            if world.replay.is_none() && world.order.next() > world.log {
                break;
            }
            while !world.bus.is_empty() {
                world.deliver();
            }
            world.replay_step();
        }
        let expected: Vec<u64> = (cursor + 1..=world.log).collect();
        assert_eq!(world.seen, expected, "seed {seed}");
        assert!(!world.order.is_replaying(), "seed {seed}");
        assert_eq!(world.order.held_bytes(), 0, "seed {seed}");
    }
}

#[test]
fn a_socket_at_the_end_of_the_log_cuts_over_at_once() {
    let mut order = Order::<u64>::replaying(8);
    assert_eq!(order.offer(8, || 8), Offered::Held);
    let mut sent = Vec::new();
    assert_eq!(order.cutover(7, |seq, _| sent.push(seq)), Cutover::Live { next: 9 });
    assert_eq!(sent, [8]);
    assert_eq!(order.offer(8, || 8), Offered::Repeat);
    assert_eq!(order.offer(9, || 9), Offered::Send);
    assert_eq!(order.cutover(9, |_, _| {}), Cutover::NotReplaying);
}

#[test]
fn a_hole_asks_for_one_replay_and_holds_the_rest() {
    let mut order = Order::<u64>::replaying(1);
    assert_eq!(order.cutover(0, |_, _| {}), Cutover::Live { next: 1 });
    assert_eq!(order.offer(3, || 3), Offered::Hole { next: 1 });
    assert_eq!(order.offer(4, || 4), Offered::Held);
    assert!(order.replayed(1));
    assert!(!order.replayed(1));
    assert!(order.replayed(2));
    let mut sent = Vec::new();
    assert_eq!(order.cutover(2, |seq, _| sent.push(seq)), Cutover::Live { next: 5 });
    assert_eq!(sent, [3, 4]);
}

#[test]
fn what_is_held_back_is_bounded_and_the_replay_reads_on() {
    let mut order = Order::<u64>::replaying(1);
    for seq in 1..=1_000 {
        order.offer(seq, || seq);
    }
    assert_eq!(order.held_bytes(), HELD_LEN_MAX * 1_000);
    let mut sent = Vec::new();
    assert_eq!(order.cutover(100, |seq, _| sent.push(seq)), Cutover::Behind { next: 101, top: 1_000 });
    assert!(sent.is_empty());
    for seq in 101..=940 {
        assert!(order.replayed(seq));
    }
    assert_eq!(order.cutover(940, |seq, _| sent.push(seq)), Cutover::Live { next: 1_001 });
    assert_eq!(sent, (941..=1_000).collect::<Vec<_>>());
}

#[test]
fn entries_that_retention_took_are_no_hole() {
    let mut order = Order::<u64>::replaying(1);
    assert!(order.replayed(50), "1 to 49 do not exist any more");
    assert_eq!(order.cutover(50, |_, _| {}), Cutover::Live { next: 51 });
}
