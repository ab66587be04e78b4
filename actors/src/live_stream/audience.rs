//! Who watches: counted by the playlists they ask for.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::{Duration, Instant};

use crate::id::NodeId;

/// Viewers told apart; whoever comes when there are so many is served and not counted. Each costs about 32 bytes.
const VIEWERS_MAX: usize = 1_000_000;

/// Other nodes whose viewers are counted; more there are not.
const NODES_MAX: usize = 1_000;

/// The viewers of one broadcast, those on other nodes included. A viewer is whoever asked for a media playlist lately: players do so with every part.
#[derive(Debug)]
pub struct Audience {
    gone_after: Duration,
    seen: Mutex<HashMap<u64, Instant>>,
    /// What other nodes last said of theirs.
    elsewhere: Mutex<HashMap<NodeId, (u32, Instant)>>,
    count: AtomicU32,
    peak: AtomicU32,
    watched_ms: AtomicU64,
}

impl Audience {
    /// Nobody yet. Who has not been heard of for `gone_after` has left.
    #[must_use]
    pub fn new(gone_after: Duration) -> Self {
        Self {
            gone_after,
            seen: Mutex::default(),
            elsewhere: Mutex::default(),
            count: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            watched_ms: AtomicU64::new(0),
        }
    }

    /// A viewer was heard of. `who` tells viewers apart, and says nothing else of them.
    pub fn heard(&self, who: u64, now: Instant) {
        let mut seen = self.seen();
        if seen.len() < VIEWERS_MAX || seen.contains_key(&who) {
            seen.insert(who, now);
        }
        self.counted(seen.len());
    }

    /// Another node says how many watch there.
    pub fn elsewhere(&self, node: NodeId, count: u32, now: Instant) {
        {
            let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
            if elsewhere.len() < NODES_MAX || elsewhere.contains_key(&node) {
                elsewhere.insert(node, (count, now));
            }
        }
        self.counted(self.seen().len());
    }

    /// Forgets who has left, and adds what the others watched in the `passed` since the last time.
    pub fn tick(&self, now: Instant, passed: Duration) {
        let mut seen = self.seen();
        seen.retain(|_, heard| now.saturating_duration_since(*heard) < self.gone_after);
        if seen.len() < seen.capacity() / 4 {
            seen.shrink_to_fit();
        }
        let here = seen.len();
        drop(seen);
        {
            let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
            elsewhere.retain(|_, (_, heard)| now.saturating_duration_since(*heard) < self.gone_after);
        }
        let watching = self.counted(here);
        let watched_ms = passed.as_millis() as u64 * u64::from(watching);
        self.watched_ms.fetch_add(watched_ms, Relaxed);
    }

    /// Who watches now.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// Who watches on this node.
    #[must_use]
    pub fn here(&self) -> u32 {
        u32::try_from(self.seen().len()).unwrap_or(u32::MAX)
    }

    /// The most who watched at a time.
    #[must_use]
    pub fn peak(&self) -> u32 {
        self.peak.load(Relaxed)
    }

    /// What all viewers watched together, in seconds.
    #[must_use]
    pub fn watched_s(&self) -> u64 {
        self.watched_ms.load(Relaxed) / 1_000
    }

    fn counted(&self, here: usize) -> u32 {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        let elsewhere = elsewhere.values().fold(0_u32, |sum, (count, _)| sum.saturating_add(*count));
        let count = u32::try_from(here).unwrap_or(u32::MAX).saturating_add(elsewhere);
        self.count.store(count, Relaxed);
        self.peak.fetch_max(count, Relaxed);
        count
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_count_once_leave_when_silent_and_their_time_adds_up() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let audience = Audience::new(second * 8);
        for who in [1, 2, 3, 2, 1] {
            audience.heard(who, start);
        }
        assert_eq!((audience.count(), audience.peak()), (3, 3));
        audience.tick(start + second, second);
        assert_eq!(audience.watched_s(), 3);
        audience.heard(2, start + second * 5);
        audience.tick(start + second * 8, second);
        assert_eq!((audience.count(), audience.peak(), audience.watched_s()), (1, 3, 4));
        audience.tick(start + second * 13, second);
        assert_eq!((audience.count(), audience.peak(), audience.watched_s()), (0, 3, 4));
    }

    #[test]
    fn viewers_on_other_nodes_count_until_their_node_is_silent() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let audience = Audience::new(second * 8);
        let (one, other) = (NodeId::generate(), NodeId::generate());
        audience.heard(1, start);
        audience.elsewhere(one, 4, start);
        audience.elsewhere(other, 2, start);
        audience.elsewhere(one, 3, start + second);
        assert_eq!((audience.count(), audience.peak()), (6, 7));
        audience.tick(start + second * 8, second);
        assert_eq!((audience.count(), audience.watched_s()), (3, 3), "only the node that spoke again");
    }
}
