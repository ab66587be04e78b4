//! What a shard does when it has more to do than it can: it sends fewer faces, then takes no new rooms; and takes that back when it is calm
//! again. Voices go on.

use std::time::{Duration, Instant};

/// Busy for more than this share of the time is stress, less than the other is calm.
const STRESS: f64 = 0.85;
const CALM: f64 = 0.60;
/// How quickly the level rises, and how slowly it falls.
const RISE_EVERY: Duration = Duration::from_secs(1);
const FALL_EVERY: Duration = Duration::from_secs(5);
/// Faces each participant is sent, by level.
const FACES: [usize; 6] = [usize::MAX, 16, 9, 4, 2, 1];
/// From this level on there are no new rooms.
const REFUSES_FROM: usize = 3;
/// How much of a new measure counts.
const SMOOTHING: f64 = 0.5;

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Shedding {
    busy: f64,
    level: usize,
    changed: Instant,
}

impl Shedding {
    /// Calm.
    pub fn new(now: Instant) -> Shedding {
        Shedding { busy: 0.0, level: 0, changed: now }
    }

    /// The shard was busy for this share of the time since the last call. Gives the level, from 0.
    pub fn note(&mut self, busy: f64, now: Instant) -> usize {
        self.busy += (busy.clamp(0.0, 1.0) - self.busy) * SMOOTHING;
        let since = now.saturating_duration_since(self.changed);
        let next = match self.busy {
            busy if busy > STRESS && since >= RISE_EVERY => (self.level + 1).min(FACES.len() - 1),
            busy if busy < CALM && since >= FALL_EVERY => self.level.saturating_sub(1),
            _ => self.level,
        };
        if next != self.level {
            (self.level, self.changed) = (next, now);
        }
        self.level
    }

    /// The level, from 0.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Faces each participant is sent at most.
    pub fn faces_max(&self) -> usize {
        FACES.get(self.level).copied().unwrap_or(1)
    }

    /// Whether new rooms are refused.
    pub fn refuses_rooms(&self) -> bool {
        self.level >= REFUSES_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stress_takes_faces_and_then_rooms_and_calm_gives_them_back() {
        let start = crate::rtp::beginning();
        let at = |tenths: u64| start + Duration::from_millis(tenths * 100);
        let mut shedding = Shedding::new(start);
        assert_eq!((shedding.faces_max(), shedding.refuses_rooms()), (usize::MAX, false));
        for tenths in 0..15 {
            shedding.note(1.0, at(tenths));
        }
        assert_eq!((shedding.level(), shedding.faces_max(), shedding.refuses_rooms()), (1, 16, false));
        for tenths in 15..200 {
            shedding.note(0.95, at(tenths));
        }
        assert_eq!((shedding.level(), shedding.faces_max(), shedding.refuses_rooms()), (5, 1, true));
        for tenths in 200..300 {
            shedding.note(0.7, at(tenths));
        }
        assert_eq!(shedding.level(), 5, "neither stress nor calm changes nothing");
        for tenths in 300..600 {
            shedding.note(0.2, at(tenths));
        }
        assert_eq!((shedding.level(), shedding.refuses_rooms()), (0, false));
    }
}
