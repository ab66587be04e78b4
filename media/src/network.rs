//! Paths made of a seed, for tests: rate, queue, delay, jitter, loss, reordering. The same seed is the same path.

use std::time::{Duration, Instant};

/// How a path is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) rate_bps: u64,
    /// From end to end, without waiting.
    pub(crate) delay: Duration,
    /// At most so much more, at random, without changing the order.
    pub(crate) jitter: Duration,
    /// The share that is lost.
    pub(crate) loss: f64,
    /// The share that is overtaken by what follows.
    pub(crate) reorder: f64,
    /// As long as this may wait before the narrowest place; what would wait longer is lost.
    pub(crate) queue: Duration,
}

/// One direction of a path, with what is on its way.
pub(crate) struct Link<T> {
    path: Path,
    random: u64,
    /// When the narrowest place is free again.
    free_at: Option<Instant>,
    latest: Option<Instant>,
    on_way: Vec<(Instant, u64, T)>,
    count: u64,
}

impl<T> Link<T> {
    pub(crate) fn new(path: Path, seed: u64) -> Link<T> {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Link { path, random, free_at: None, latest: None, on_way: Vec::new(), count: 0 }
    }

    pub(crate) fn path(&self) -> Path {
        self.path
    }

    /// How long something that is sent now would wait.
    pub(crate) fn waiting(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Path)) {
        change(&mut self.path);
    }

    /// Something of so many bytes begins its way.
    pub(crate) fn send(&mut self, what: T, bytes: usize, now: Instant) {
        if self.chance() < self.path.loss {
            return;
        }
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        if free_at - now > self.path.queue {
            return;
        }
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / self.path.rate_bps as f64);
        let free_at = free_at + takes;
        self.free_at = Some(free_at);
        let jitter = self.path.jitter.mul_f64(self.chance());
        let arrives = free_at + self.path.delay + jitter;
        let late = self.chance() < self.path.reorder;
        let arrives = match late {
            true => arrives + Duration::from_millis(15),
            false => self.latest.map_or(arrives, |latest| latest.max(arrives)),
        };
        if !late {
            self.latest = Some(arrives);
        }
        self.count += 1;
        self.on_way.push((arrives, self.count, what));
    }

    /// What has arrived by now, in order, and when.
    pub(crate) fn arrive(&mut self, now: Instant) -> Vec<(T, Instant)> {
        let (mut arrived, on_way): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.on_way).into_iter().partition(|(at, ..)| *at <= now);
        self.on_way = on_way;
        arrived.sort_by_key(|(at, count, _)| (*at, *count));
        arrived.into_iter().map(|(at, _, what)| (what, at)).collect()
    }

    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}
