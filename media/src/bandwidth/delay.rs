//! Whether packets wait longer and longer on their way: the trend of the time between groups of packets (draft-ietf-rmcat-gcc-02 section 5,
//! with a line through the last groups in place of its filter).

use std::collections::VecDeque;

/// Packets sent within this are one group: they wait for each other.
const BURST_US: i64 = 5_000;
/// Groups the line is drawn through.
const POINTS: usize = 20;
/// How much of a group's delay counts at once.
const SMOOTHING: f64 = 0.9;
/// What the slope is multiplied with to be comparable with the threshold, for each group up to [`COUNTED_MAX`].
const GAIN: f64 = 4.0;
const COUNTED_MAX: u32 = 60;
/// How the threshold follows what is usual (draft section 5.4), per millisecond.
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
/// The trend has to be too steep for so long.
const OVER_FOR_MS: f64 = 10.0;
/// A clock that jumped.
const JUMP_US: i64 = 3_000_000;
/// The least delay is remembered in so many pieces of [`LEAST_EVERY_US`].
const LEAST_PIECES: usize = 6;
const LEAST_EVERY_US: i64 = 5_000_000;

/// How a path is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// A queue drains.
    Under,
    /// Nothing changes.
    Normal,
    /// A queue grows.
    Over,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrival: i64,
    last_arrival: i64,
}

#[derive(Debug)]
pub(super) struct Delay {
    group: Option<Group>,
    before: Option<Group>,
    /// When, and the delay that has gathered, smoothed; in milliseconds.
    points: VecDeque<(f64, f64)>,
    gathered_ms: f64,
    smoothed_ms: f64,
    counted: u32,
    threshold: f64,
    updated_ms: Option<f64>,
    over_ms: f64,
    slope: f64,
    usage: Usage,
    /// The least delays of the last pieces of time, oldest first, and when the newest piece began.
    least: VecDeque<f64>,
    piece_began_us: i64,
    queue_ms: f64,
}

impl Default for Delay {
    fn default() -> Delay {
        Delay {
            group: None,
            before: None,
            points: VecDeque::with_capacity(POINTS),
            gathered_ms: 0.0,
            smoothed_ms: 0.0,
            counted: 0,
            threshold: 12.5,
            updated_ms: None,
            over_ms: 0.0,
            slope: 0.0,
            usage: Usage::Normal,
            least: VecDeque::with_capacity(LEAST_PIECES),
            piece_began_us: 0,
            queue_ms: 0.0,
        }
    }
}

impl Delay {
    /// A packet arrived; times are of two clocks, in microseconds.
    pub(super) fn hear(&mut self, sent: i64, arrival: i64) -> Usage {
        let Some(group) = &mut self.group else {
            self.group = Some(Group::new(sent, arrival));
            return self.usage;
        };
        if sent < group.first_sent {
            // Out of order.
            return self.usage;
        }
        let arrives_with =
            arrival - group.last_arrival <= BURST_US && arrival - group.last_arrival < sent - group.last_sent;
        if sent - group.first_sent <= BURST_US || arrives_with && arrival - group.first_arrival < 100_000 {
            group.last_sent = group.last_sent.max(sent);
            group.last_arrival = group.last_arrival.max(arrival);
            return self.usage;
        }
        let done = std::mem::replace(group, Group::new(sent, arrival));
        if let Some(before) = self.before.replace(done) {
            let sent = done.last_sent - before.last_sent;
            let arrived = done.last_arrival - before.last_arrival;
            if arrived - sent > JUMP_US || arrived < -JUMP_US {
                let least = std::mem::take(&mut self.least);
                let (queue_ms, piece_began_us) = (self.queue_ms, self.piece_began_us);
                *self = Delay { least, queue_ms, piece_began_us, ..Delay::default() };
            } else if arrived >= 0 {
                self.draw(
                    sent as f64 / 1_000.0,
                    arrived as f64 / 1_000.0,
                    done.last_arrival as f64 / 1_000.0,
                );
            }
        }
        self.usage
    }

    /// The least time packets of one feedback took, by the difference of the two clocks.
    pub(super) fn note_queue(&mut self, delay_ms: f64, now_us: i64) {
        if self.least.is_empty() || now_us - self.piece_began_us > LEAST_EVERY_US {
            self.piece_began_us = now_us;
            if self.least.len() >= LEAST_PIECES {
                self.least.pop_front();
            }
            self.least.push_back(delay_ms);
        }
        if let Some(newest) = self.least.back_mut() {
            *newest = newest.min(delay_ms);
        }
        let least = self.least.iter().copied().fold(f64::MAX, f64::min);
        self.queue_ms = (delay_ms - least).max(0.0);
    }

    /// How long packets waited, beyond the least of the last half minute.
    pub(super) fn queue_ms(&self) -> f64 {
        self.queue_ms
    }

    fn draw(&mut self, sent_ms: f64, arrived_ms: f64, at_ms: f64) {
        self.counted = (self.counted + 1).min(COUNTED_MAX);
        self.gathered_ms += arrived_ms - sent_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.gathered_ms;
        if self.points.len() >= POINTS {
            self.points.pop_front();
        }
        self.points.push_back((at_ms, self.smoothed_ms));
        let before = self.slope;
        if self.points.len() >= POINTS / 2 {
            self.slope = slope(&self.points);
        }
        let trend = f64::from(self.counted) * self.slope * GAIN;
        self.usage = if trend > self.threshold {
            self.over_ms += sent_ms;
            match self.over_ms > OVER_FOR_MS && self.slope >= before {
                true => Usage::Over,
                false => self.usage,
            }
        } else {
            self.over_ms = 0.0;
            if trend < -self.threshold { Usage::Under } else { Usage::Normal }
        };
        self.follow(trend, at_ms);
    }

    fn follow(&mut self, trend: f64, at_ms: f64) {
        let passed = self.updated_ms.replace(at_ms).map_or(0.0, |before| (at_ms - before).clamp(0.0, 100.0));
        // A sudden spike is not what is usual.
        if trend.abs() > self.threshold + 15.0 {
            return;
        }
        let share = if trend.abs() < self.threshold { DOWN } else { UP };
        self.threshold += share * (trend.abs() - self.threshold) * passed;
        self.threshold = self.threshold.clamp(6.0, 600.0);
    }
}

impl Group {
    fn new(sent: i64, arrival: i64) -> Group {
        Group { first_sent: sent, last_sent: sent, first_arrival: arrival, last_arrival: arrival }
    }
}

/// Of the line with the least squares.
fn slope(points: &VecDeque<(f64, f64)>) -> f64 {
    let len = points.len() as f64;
    let (x_mean, y_mean) =
        points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / len, y + point.1 / len));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
        (above + (x - x_mean) * (y - y_mean), below + (x - x_mean) * (x - x_mean))
    });
    if below > 0.0 { above / below } else { 0.0 }
}
