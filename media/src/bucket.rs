//! What may be spent over time.

use std::time::Instant;

/// Fills up by so much a second, and holds no more than so much.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_s: f64,
    burst: f64,
    have: f64,
    at: Instant,
}

impl Bucket {
    /// One that is full.
    pub(crate) fn new(per_s: u32, burst: u32, now: Instant) -> Bucket {
        let burst = f64::from(burst);
        Bucket { per_s: per_s.into(), burst, have: burst, at: now }
    }

    /// Whether so much is there.
    pub(crate) fn has(&mut self, amount: u32, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.have = (self.have + passed * self.per_s).min(self.burst);
        self.have >= f64::from(amount)
    }

    /// Takes so much, which [is there](Self::has); what is not is owed, and nothing is there before that is paid.
    pub(crate) fn take(&mut self, amount: u32) {
        self.have -= f64::from(amount);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_fills_up_over_time_to_its_brim() {
        let now = crate::rtp::beginning();
        let mut bucket = Bucket::new(10, 20, now);
        assert!(bucket.has(20, now) && !bucket.has(21, now));
        bucket.take(20);
        assert!(!bucket.has(1, now));
        let later = now + Duration::from_secs(1);
        assert!(bucket.has(10, later) && !bucket.has(11, later));
        assert!(bucket.has(10, now) && !bucket.has(11, later), "a clock that goes back gives nothing");
        let much_later = now + Duration::from_secs(100);
        assert!(bucket.has(20, much_later) && !bucket.has(21, much_later));
    }
}
