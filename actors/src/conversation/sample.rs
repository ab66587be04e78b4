//! What of a live chat is shown when more is said than anybody reads.
//!
//! State, no clock, no I/O.

use tokio::time::Instant;

/// Entries of one live chat that are shown a second; people read a tenth of it.
pub const SHOWN_PER_S: f64 = 40.0;
/// Entries that may come at once after a quiet moment.
pub const BURST: f64 = 80.0;

/// Lets so many through a second, evenly over time.
#[derive(Debug, Clone, Copy)]
pub struct Sampler {
    left: f64,
    at: Instant,
}

impl Sampler {
    /// A whole burst is left.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// Whether an entry is shown. `must` is for what moderators do: it is always shown, and counts.
    pub fn shows(&mut self, now: Instant, must: bool) -> bool {
        let passed_s = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = passed_s.mul_add(SHOWN_PER_S, self.left).min(BURST);
        let shows = must || self.left >= 1.0;
        if shows {
            self.left = (self.left - 1.0).max(0.0);
        }
        shows
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_thinned_a_conversation_is_not() {
        let start = Instant::now();
        let mut sampler = Sampler::new(start);
        // 1,000 a second for ten seconds.
        let shown =
            (0..10_000_u32).filter(|n| sampler.shows(start + Duration::from_millis(u64::from(*n)), false));
        assert!((470..=490).contains(&shown.count()));
        let later = start + Duration::from_secs(20);
        assert!((0..100_u32).all(|n| sampler.shows(later + Duration::from_millis(u64::from(n) * 30), false)));
    }

    #[test]
    fn what_moderators_do_is_always_shown() {
        let now = Instant::now();
        let mut sampler = Sampler::new(now);
        assert!((0..200).all(|_| sampler.shows(now, true)));
        assert!(!sampler.shows(now, false));
    }
}
