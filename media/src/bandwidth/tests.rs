//! A sender with layers, a path made of a seed, and a receiver that says what arrived.

use super::allocate::{Rank, Snapshot, Step, Wish, allocate};
use super::*;
use crate::network::{Link, Path};
use crate::rtp::reception::Arrivals;

/// Of the layers of a camera.
const LAYERS_BPS: [u64; 3] = [150_000, 500_000, 1_800_000];
const PACKET_BYTES: usize = 1_100;

struct Sender {
    estimator: Estimator,
    there: Link<(u16, Instant)>,
    back: Link<Feedback>,
    arrivals: Arrivals,
    now: Instant,
    start: Instant,
    owed: f64,
    step: Option<usize>,
    /// For each packet: how long it waited in the path, in milliseconds.
    queued_ms: Vec<f64>,
    history: Vec<(Duration, Option<usize>, u64)>,
}

impl Sender {
    fn new(path: Path, seed: u64) -> Sender {
        let now = crate::rtp::beginning();
        Sender {
            estimator: Estimator::new(now),
            there: Link::new(path, seed),
            back: Link::new(Path { rate_bps: 1_000_000, loss: 0.0, ..path }, seed ^ 7),
            arrivals: Arrivals::default(),
            now,
            start: now,
            owed: 0.0,
            step: None,
            queued_ms: Vec::new(),
            history: Vec::new(),
        }
    }

    fn plan(&mut self) -> u64 {
        let steps = LAYERS_BPS.iter().enumerate().map(|(layer, bps)| Step { layer, temporal: 0, bps: *bps });
        let wish = Wish { rank: Rank::Stage, priority: 0, steps: steps.collect(), now: self.step };
        let budget_bps = self.estimator.budget_bps(self.now);
        let plan = allocate(&Snapshot { budget_bps, wishes: vec![wish] });
        self.step = plan.steps[0];
        plan.wanted_bps
    }

    fn pass(&mut self, seconds: f64) {
        let end = self.now + Duration::from_secs_f64(seconds);
        let (mut told, mut tick, mut frame) = (self.now, self.now, self.now);
        let mut wanted = self.plan();
        while self.now < end {
            self.now += Duration::from_millis(1);
            if self.now >= tick {
                tick += Duration::from_millis(25);
                wanted = self.plan();
                let padding = self.estimator.padding_due(wanted, self.now);
                for _ in 0..padding.div_ceil(PACKET_BYTES) {
                    self.send();
                }
                let at = self.now - self.start;
                self.history.push((at, self.step, self.estimator.estimate_bps().unwrap_or(0)));
            }
            if self.now >= frame {
                frame += Duration::from_millis(33);
                let bps = self.step.map_or(0, |step| LAYERS_BPS[step]);
                self.owed += bps as f64 * 0.033 / 8.0;
                while self.owed >= PACKET_BYTES as f64 {
                    self.owed -= PACKET_BYTES as f64;
                    self.send();
                }
            }
            for ((number, sent), at) in self.there.arrive(self.now) {
                self.arrivals.note(number, at);
                let waited =
                    (at - sent).as_secs_f64() * 1_000.0 - self.there.path().delay.as_secs_f64() * 1_000.0;
                self.queued_ms.push(waited);
            }
            if self.now - told >= Duration::from_millis(100) {
                told = self.now;
                if let Some((count, base, arrivals)) = self.arrivals.take() {
                    self.back.send(Feedback { count, base, arrivals }, 80, self.now);
                }
            }
            for (feedback, at) in self.back.arrive(self.now) {
                self.estimator.hear(&feedback, at);
            }
        }
        let _ = wanted;
    }

    fn send(&mut self) {
        let number = self.estimator.send(PACKET_BYTES, self.now);
        self.there.send((number, self.now), PACKET_BYTES, self.now);
    }

    fn p95_queue_ms(&self) -> f64 {
        let mut sorted = self.queued_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() * 95 / 100).copied().unwrap_or(0.0)
    }
}

fn path() -> Path {
    Path {
        rate_bps: 3_000_000,
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(3),
        loss: 0.002,
        reorder: 0.0,
        queue: Duration::from_millis(1_000),
    }
}

#[test]
fn a_path_that_narrows_and_widens_is_followed() {
    for seed in 1..=5 {
        let mut sender = Sender::new(path(), seed);
        sender.pass(20.0);
        assert_eq!(sender.step, Some(2), "seed {seed}: {:?}", sender.history.last());
        sender.there.change(|path| path.rate_bps = 500_000);
        sender.pass(20.0);
        let narrow: Vec<_> =
            sender.history.iter().filter(|(at, ..)| at.as_secs() >= 25 && at.as_secs() < 40).collect();
        assert!(narrow.iter().all(|(_, step, _)| *step < Some(2)), "seed {seed}");
        let shown = narrow.iter().filter(|(_, step, _)| step.is_some()).count();
        assert!(shown * 10 >= narrow.len() * 9, "seed {seed}: shown {shown} of {}", narrow.len());
        sender.there.change(|path| path.rate_bps = 3_000_000);
        sender.pass(20.0);
        let back = sender.history.iter().find(|(at, step, _)| at.as_secs() >= 40 && *step == Some(2));
        let back = back.map(|(at, ..)| at.as_secs_f64() - 40.0).expect("the high layer comes back");
        let p95 = sender.p95_queue_ms();
        println!("seed {seed}: back after {back:.1} s, queue p95 {p95:.0} ms");
        assert!(back <= 10.0, "seed {seed}: back after {back:.1} s");
        assert!(p95 <= 300.0, "seed {seed}: queue p95 {p95:.0} ms");
    }
}

#[test]
fn jitter_and_a_few_losses_do_not_take_the_picture_away() {
    for seed in 1..=5 {
        let rough = Path { jitter: Duration::from_millis(12), loss: 0.03, reorder: 0.01, ..path() };
        let mut sender = Sender::new(rough, seed);
        sender.pass(30.0);
        let late: Vec<_> = sender.history.iter().filter(|(at, ..)| at.as_secs() >= 10).collect();
        let high = late.iter().filter(|(_, step, _)| *step == Some(2)).count();
        assert!(high * 10 >= late.len() * 8, "seed {seed}: {high} of {}", late.len());
    }
}

#[test]
fn a_path_that_loses_a_third_is_used_less() {
    let mut sender = Sender::new(Path { loss: 0.33, ..path() }, 3);
    sender.pass(15.0);
    assert!(sender.step < Some(2), "{:?}", sender.history.last());
    assert!(sender.estimator.loss() > 0.2);
}

#[test]
fn a_receiver_that_says_nothing_more_is_believed_less_and_one_that_never_did_is_not_limited() {
    let start = crate::rtp::beginning();
    let at = |ms| start + Duration::from_millis(ms);
    let mut estimator = Estimator::new(start);
    estimator.send(1_000, at(0));
    assert_eq!(estimator.budget_bps(at(0)), None);
    estimator.hear_remb(700_000);
    assert_eq!(estimator.budget_bps(at(0)), Some(700_000));
    estimator.hear(&Feedback { count: 0, base: 0, arrivals: vec![Some(4)] }, at(50));
    let before = estimator.estimate_bps().unwrap();
    assert!(before >= START_BPS);
    for ms in (60..6_000).step_by(25) {
        estimator.send(1_000, at(ms));
        estimator.padding_due(0, at(ms));
    }
    assert!(estimator.estimate_bps().unwrap() < before / 2);
}
