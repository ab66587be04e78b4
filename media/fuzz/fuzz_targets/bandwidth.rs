//! What receivers say of their paths: feedback, true and false, REMB and losses in any order and at any time, and what is made of it: an
//! estimate, probes, and a plan of what is sent. Each step is a byte that says what, and the bytes it needs.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nova_media::bandwidth::allocate::{Rank, Snapshot, Step, Wish, allocate};
use nova_media::bandwidth::{Estimator, LEAST_BPS, MOST_BPS};
use nova_media::rtp::rtcp::{self, Rtcp};

/// A probe lasts a tenth of a second and is given out in one call at most.
const PADDING_MAX: usize = MOST_BPS as usize / 8 / 10;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut path = Estimator::new(now);
    // Numbers and times, by the clock of the path, of what was sent.
    let (mut sent, began, mut count) = (Vec::<(u16, i64)>::new(), now, 0_u8);
    let mut rest = data.iter().copied();
    let mut wanted = 0;
    while let Some(what) = rest.next() {
        let mut next = || rest.next().unwrap_or(0);
        match what % 8 {
            0 => {
                for _ in 0..next() {
                    let number = path.send(usize::from(what) * 11, now);
                    sent.push((number, quarters(now - began)));
                }
            }
            1 => {
                now += Duration::from_millis(u64::from(next()).pow(2) / 8);
                wanted = u64::from(next()) << (what >> 3);
                let padding = path.padding_due(wanted, now);
                assert!(padding <= PADDING_MAX, "{padding}");
                if padding > 0 {
                    sent.push((path.send(padding, now), quarters(now - began)));
                }
            }
            2 => {
                let len = next();
                let bytes: Vec<u8> = (0..len).map(|_| next()).collect();
                hear(&mut path, &bytes, now);
            }
            3 => {
                // As a receiver would write it: how late each came, or that it did not; and the clock of some jumps.
                let (told, shift) = (usize::from(next()), i64::from(what >> 3) << (what >> 3));
                let Some(first) = sent.len().checked_sub(told).and_then(|at| sent.get(at)).copied() else {
                    continue;
                };
                let late = |at: i64, next: u8| (next != 255).then(|| shift + at + i64::from(next) * 4);
                let arrivals: Vec<Option<i64>> =
                    sent.iter().rev().take(told).rev().map(|(_, at)| late(*at, next())).collect();
                let mut compound = Vec::new();
                rtcp::write_feedback(&mut compound, 1, 2, count, first.0, &arrivals);
                count = count.wrapping_add(1);
                hear(&mut path, &compound, now);
            }
            4 => path.hear_remb(u64::from(next()) << (what >> 2)),
            5 => path.hear_loss(next(), now),
            6 => {
                let away = Duration::from_millis(u64::from(next()) * 20);
                now += away;
                path.excuse(away, now);
            }
            _ => plan(path.budget_bps(now), &mut next),
        }
        sent.drain(..sent.len().saturating_sub(512));
        check(&path, now);
    }
    plan(path.budget_bps(now), &mut || wanted as u8);
});

fn quarters(since: Duration) -> i64 {
    (since.as_micros() / 250) as i64
}

fn hear(path: &mut Estimator, compound: &[u8], now: Instant) {
    let _ = rtcp::read(compound, |one| match one {
        Rtcp::Feedback(feedback) => path.hear(&feedback, now),
        Rtcp::Remb { bitrate_bps } => path.hear_remb(bitrate_bps),
        Rtcp::Reception(report) => path.hear_loss(report.fraction_lost, now),
        _ => {}
    });
}

/// An estimate is a number between the least and the most, whatever was said.
fn check(path: &Estimator, now: Instant) {
    let estimate = path.estimate_bps();
    if let Some(estimate) = estimate {
        assert!((LEAST_BPS..=MOST_BPS as u64).contains(&estimate), "{estimate}");
    }
    assert_eq!(path.budget_bps(now).is_some(), estimate.is_some());
    assert!(path.budget_bps(now) <= estimate);
    assert!(path.queue_ms().is_finite() && path.queue_ms() >= 0.0, "{}", path.queue_ms());
    assert!((0.0..=1.0).contains(&path.loss()), "{}", path.loss());
    assert!(path.rtt() <= Duration::from_secs(2), "{:?}", path.rtt());
}

/// What is sent costs no more than the path carries, but for what may never be taken away.
fn plan(budget_bps: Option<u64>, next: &mut impl FnMut() -> u8) {
    let wishes: Vec<Wish> = (0..next() % 26)
        .map(|_| {
            let kind = next();
            let rank = [Rank::Tile, Rank::Stage, Rank::Screen, Rank::Tile][usize::from(kind & 3)];
            let mut bps = 0;
            let steps: Vec<Step> = (0..usize::from(kind >> 2 & 7))
                .map(|at| {
                    bps += u64::from(next()) << ((kind >> 5 & 3) * 8);
                    Step { layer: at / 2, temporal: (at % 2) as u8, bps }
                })
                .collect();
            let now = steps.len().checked_sub(usize::from(kind >> 6) + 1);
            Wish { rank, priority: kind >> 6, steps, now }
        })
        .collect();
    let snapshot = Snapshot { budget_bps, wishes };
    let plan = allocate(&snapshot);
    assert_eq!(plan.steps.len(), snapshot.wishes.len());
    let each = || snapshot.wishes.iter().zip(&plan.steps);
    let spent: u64 = each().filter_map(|(wish, step)| Some(wish.steps.get((*step)?)?.bps)).sum();
    assert_eq!(spent, plan.spent_bps);
    assert!(each().all(|(wish, step)| step.is_none_or(|step| step < wish.steps.len())));
    let never: u64 = each()
        .filter(|(wish, _)| wish.rank < Rank::Tile)
        .filter_map(|(wish, _)| Some(wish.steps.first()?.bps))
        .sum();
    if let Some(budget) = budget_bps {
        assert!(plan.spent_bps <= budget.max(never), "{plan:?} of {budget}");
    }
}
