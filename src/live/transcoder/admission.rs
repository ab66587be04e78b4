//! How many ladders this node can hold.
//!
//! Cores are given out, not threads: a ladder is admitted when what it is expected to cost fits into what is left of the budget, and what
//! it does cost is measured and counted from then on. A child that costs more than was expected makes the next expectation dearer, so a slow
//! machine learns what it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rung::{Source, Target};

/// Cores that a million pixels a second cost to decode.
const DECODE_CORES: f64 = 0.002;
/// Cores that a million pixels a second cost to scale and encode.
const ENCODE_CORES: f64 = 0.012;
/// What a measured cost may make of the expected one.
const FACTOR: std::ops::RangeInclusive<f64> = 0.3..=10.0;
/// How much of the factor each measure decides.
const WEIGHT: f64 = 0.2;

/// The cores this node gives to transcoding.
#[derive(Debug)]
pub struct Budget {
    cores: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: f64,
    /// What ladders cost here, by what they are expected to cost.
    factor: f64,
}

/// What one ladder has of the budget; given back when dropped.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    /// What it is expected to cost on the machine the constants are from.
    nominal: f64,
    cost: f64,
}

/// What can be held of a ladder.
#[derive(Debug)]
pub struct Admitted {
    /// Largest first; none when not even the smallest can be held.
    pub targets: Vec<Target>,
    /// What cannot.
    pub refused: Vec<Target>,
    /// The budget of it.
    pub share: Option<Share>,
    /// Why something was refused, in words.
    pub reason: Option<String>,
}

impl Budget {
    /// So many cores.
    pub fn new(cores: f64) -> Arc<Budget> {
        Arc::new(Budget { cores, state: Mutex::new(State { used: 0.0, factor: 1.0 }) })
    }

    /// Cores that are in use.
    pub fn used(&self) -> f64 {
        self.state().used
    }

    /// Takes as much of these targets (largest first) as fits: the largest is left out first.
    pub fn admit(self: &Arc<Self>, source: &Source, targets: Vec<Target>) -> Admitted {
        let mut state = self.state();
        let left = self.cores - state.used;
        let nominal = |targets: &[Target]| {
            let encode: f64 = targets.iter().map(|target| target.megapixels_s).sum();
            source.megapixels_s() * DECODE_CORES + encode * ENCODE_CORES
        };
        let wanted = nominal(&targets) * state.factor;
        let from = (0..=targets.len())
            .find(|from| nominal(targets.get(*from..).unwrap_or_default()) * state.factor <= left)
            .unwrap_or(targets.len());
        let mut refused = targets;
        let targets = refused.split_off(from);
        let reason = (!refused.is_empty()).then(|| {
            format!(
                "the ladder takes {wanted:.2} cores, and {:.2} of {:.2} are left on this node",
                left.max(0.0),
                self.cores
            )
        });
        let nominal = nominal(&targets);
        let share = (!targets.is_empty()).then(|| {
            let cost = nominal * state.factor;
            state.used += cost;
            Share { budget: Arc::clone(self), nominal, cost }
        });
        Admitted { targets, refused, share, reason }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// The ladder uses so many cores, as measured.
    pub fn measured(&mut self, cores: f64) {
        let mut state = self.budget.state();
        state.used += cores - self.cost;
        self.cost = cores;
        let factor = (cores / self.nominal.max(0.001)).clamp(*FACTOR.start(), *FACTOR.end());
        state.factor += (factor - state.factor) * WEIGHT;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        state.used = (state.used - self.cost).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use nova_media::codec::Picture;

    use super::super::rung::Rung;
    use super::*;

    fn source() -> Source {
        Source { picture: Picture { width: 1_920, height: 1_080, frames_per_s: Some(30.0) } }
    }

    fn targets() -> Vec<Target> {
        let ladder: Vec<Rung> = ["720p", "480p", "360p"].map(|rung| rung.parse().expect("a rung")).to_vec();
        source().targets(&ladder)
    }

    fn names(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|target| target.step.name.as_str()).collect()
    }

    #[test]
    fn what_does_not_fit_is_refused_from_the_top_and_comes_back_with_the_room() {
        let budget = Budget::new(1.0);
        let first = budget.admit(&source(), targets());
        assert_eq!((names(&first.targets), first.reason), (vec!["720p", "480p", "360p"], None));
        let second = budget.admit(&source(), targets());
        assert_eq!((names(&second.targets), names(&second.refused)), (vec!["360p"], vec!["720p", "480p"]));
        let reason = second.reason.expect("something was refused");
        assert!(reason.contains("cores") && reason.contains("of 1.00"), "{reason}");
        let third = budget.admit(&source(), targets());
        assert!(third.targets.is_empty() && third.share.is_none());
        drop(first.share);
        assert_eq!(budget.admit(&source(), targets()).targets.len(), 3);
        drop(second.share);
        assert!(budget.used().abs() < 1e-9, "{}", budget.used());
    }

    #[test]
    fn what_was_measured_counts_and_makes_the_next_dearer() {
        let budget = Budget::new(4.0);
        let mut share = budget.admit(&source(), targets()).share.expect("it fits");
        for _ in 0..30 {
            share.measured(3.0);
        }
        assert!((budget.used() - 3.0).abs() < 1e-9);
        let next = budget.admit(&source(), targets());
        assert!(next.targets.len() < 3, "a ladder takes three cores here: {next:?}");
        drop((share, next));
        assert!(budget.used().abs() < 1e-9);
    }
}
