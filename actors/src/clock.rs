//! What time it is, as a port: nothing in this crate asks the machine by itself.
//!
//! Timers inside actors run on tokio's time, which tests pause. [`ManualClock::following`] ties the wall clock to it, so a day
//! passes in a moment and both agree about it.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;

/// What time it is.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of the world, in UTC. It may step back.
    fn now(&self) -> OffsetDateTime;

    /// The time of the process, for measuring how long something takes. It never steps back.
    fn instant(&self) -> Instant;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock in the hand of a test.
#[derive(Debug)]
pub struct ManualClock {
    /// Where the hands were put, and when.
    set: Mutex<(OffsetDateTime, Instant)>,
    follows: bool,
}

impl ManualClock {
    /// A clock that stands at `at` until it is told to [advance](Self::advance).
    #[must_use]
    pub fn standing(at: OffsetDateTime) -> Self {
        Self { set: Mutex::new((at, Instant::now())), follows: false }
    }

    /// A clock that reads `at` now and goes on with tokio's time: in a paused runtime it moves as timers do.
    #[must_use]
    pub fn following(at: OffsetDateTime) -> Self {
        Self { set: Mutex::new((at, Instant::now())), follows: true }
    }

    /// Moves the wall clock on by `by`; the instant of a standing clock moves too.
    pub fn advance(&self, by: Duration) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.0 += by;
        if !self.follows {
            set.1 += by;
        }
    }

    /// Puts the wall clock to `at`, forwards or backwards; instants do not notice.
    pub fn set(&self, at: OffsetDateTime) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.0 = at;
        if self.follows {
            set.1 = Instant::now();
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if self.follows { set.0 + set.1.elapsed() } else { set.0 }
    }

    fn instant(&self) -> Instant {
        if self.follows { Instant::now() } else { self.set.lock().unwrap_or_else(PoisonError::into_inner).1 }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test(start_paused = true)]
    async fn a_standing_clock_moves_by_hand_only() {
        let clock = ManualClock::standing(NOON);
        let start = clock.instant();
        tokio::time::advance(HOUR).await;
        assert_eq!((clock.now(), clock.instant()), (NOON, start));
        clock.advance(HOUR);
        assert_eq!((clock.now(), clock.instant()), (NOON + HOUR, start + HOUR));
        clock.set(NOON);
        assert_eq!((clock.now(), clock.instant()), (NOON, start + HOUR));
    }

    #[tokio::test(start_paused = true)]
    async fn a_following_clock_agrees_with_the_timers() {
        let clock = ManualClock::following(NOON);
        let start = clock.instant();
        tokio::time::sleep(24 * HOUR).await;
        assert_eq!(clock.now(), NOON + 24 * HOUR);
        assert_eq!(clock.instant() - start, 24 * HOUR);
        clock.set(NOON);
        clock.advance(HOUR);
        tokio::time::sleep(HOUR).await;
        assert_eq!(clock.now(), NOON + 2 * HOUR);
    }

    #[test]
    fn the_system_clock_tells_utc() {
        assert!(SystemClock.now().offset().is_utc());
        assert!(SystemClock.now() > datetime!(2026-01-01 00:00 UTC));
    }
}
