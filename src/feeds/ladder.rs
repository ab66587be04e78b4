//! The levels a page may come from, the time each has, and when one is left alone.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

/// Failures in a row after which a level is left alone for a while.
const FAILURES: u32 = 5;
/// How long it is left alone; after that one page tries it.
const OPEN_MS: i64 = 2_000;

/// What gave a page, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Ranked by a learned model.
    Model,
    /// Ranked by age and engagement.
    Engagement,
    /// The newest, from the head.
    Newest,
    /// The newest, straight from PostgreSQL.
    Database,
    /// What the reader was shown before.
    LastGood,
}

impl Level {
    /// As the API and the metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Model => "model",
            Level::Engagement => "engagement",
            Level::Newest => "newest",
            Level::Database => "database",
            Level::LastGood => "last_good",
        }
    }

    /// The level of this name.
    pub fn named(name: &str) -> Option<Level> {
        let all = [Level::Model, Level::Engagement, Level::Newest, Level::Database, Level::LastGood];
        all.into_iter().find(|level| level.as_str() == name)
    }
}

/// How long each level may take. A page takes no longer than all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// [`Level::Model`].
    pub model: Duration,
    /// [`Level::Engagement`].
    pub engagement: Duration,
    /// [`Level::Newest`].
    pub newest: Duration,
    /// [`Level::Database`].
    pub database: Duration,
}

impl Budgets {
    /// Of one level; the last needs nobody and has none.
    pub fn of(&self, level: Level) -> Duration {
        match level {
            Level::Model => self.model,
            Level::Engagement => self.engagement,
            Level::Newest => self.newest,
            Level::Database => self.database,
            Level::LastGood => Duration::ZERO,
        }
    }
}

/// What happened on one level while a page was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub level: Level,
    /// `ok`, or why not.
    pub outcome: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// Leaves a level alone that fails, so that nobody waits for it in vain.
#[derive(Debug)]
pub struct Breaker {
    failures: AtomicU32,
    open_until_ms: AtomicI64,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker { failures: AtomicU32::new(0), open_until_ms: AtomicI64::new(i64::MIN) }
    }
}

impl Breaker {
    /// Whether the level may be tried now. After a pause one may, and the others when that one succeeded or the pause is over again.
    pub fn lets(&self, now_ms: i64) -> bool {
        if self.failures.load(Ordering::Relaxed) < FAILURES {
            return true;
        }
        let until = self.open_until_ms.load(Ordering::Relaxed);
        now_ms >= until
            && self
                .open_until_ms
                .compare_exchange(until, now_ms + OPEN_MS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// It went well.
    pub fn closed(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// It did not.
    pub fn failed(&self, now_ms: i64) {
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        if failures >= FAILURES {
            self.open_until_ms.store(now_ms + OPEN_MS, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_fails_is_left_alone_and_tried_by_one_at_a_time() {
        let breaker = Breaker::default();
        for _ in 1..FAILURES {
            breaker.failed(0);
            assert!(breaker.lets(0));
        }
        breaker.failed(0);
        assert!(!breaker.lets(1) && !breaker.lets(OPEN_MS - 1));
        assert!(breaker.lets(OPEN_MS), "one tries");
        assert!(!breaker.lets(OPEN_MS), "and one alone");
        assert!(breaker.lets(2 * OPEN_MS), "another when that one never said how it went");
        breaker.closed();
        assert!(breaker.lets(2 * OPEN_MS) && breaker.lets(2 * OPEN_MS));
    }

    #[test]
    fn levels_have_names_that_lead_back() {
        for level in [Level::Model, Level::Engagement, Level::Newest, Level::Database, Level::LastGood] {
            assert_eq!(Level::named(level.as_str()), Some(level));
        }
    }
}
