//! What a receiver's path carries, and what is done with it.
//!
//! The [`Estimator`] learns from transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) when packets arrived: a queue
//! that grows is seen before it overflows (`delay`, after draft-ietf-rmcat-gcc-02), losses count as well, and what lies beyond what is
//! sent is found out by probes. Receivers that tell less are believed what they tell: REMB, or the losses of their reports.
//!
//! What to send for it is decided by [`allocate`], a pure function.

pub mod allocate;
mod delay;
mod sent;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::rtp::rtcp::Feedback;
use delay::{Delay, Usage};
use sent::Sent;

/// What is believed of a path before anything is known of it, bits a second.
pub const START_BPS: u64 = 2_000_000;
/// No path is believed to carry less: a voice and a small face.
pub const LEAST_BPS: u64 = 100_000;
/// More is never asked for: twenty-five large tiles.
pub const MOST_BPS: f64 = 60e6;
/// After overuse the estimate is this share of what arrived (draft-ietf-rmcat-gcc-02 section 5.5).
const BACK_OFF: f64 = 0.85;
/// What arrived is looked at over this.
const ACKED_OVER_US: i64 = 500_000;
/// Growth in a second while the end of the path is not near.
const GROWTH: f64 = 1.08;
/// Losses are judged over so long at least.
const LOSS_EVERY: Duration = Duration::from_millis(500);
/// Above this share of losses the path is too full, below the other it may carry more.
const LOSS_HIGH: f64 = 0.10;
const LOSS_LOW: f64 = 0.05;
/// Without feedback for so long the path is believed less and less.
const SILENCE: Duration = Duration::from_millis(1_500);
/// A probe lasts so long, and is asked about at [`PROBE_STEP`].
const PROBE_LEN: Duration = Duration::from_millis(100);
/// The time between two calls of [`Estimator::padding_due`].
const PROBE_STEP: Duration = Duration::from_millis(25);
/// The pause before the next probe: after one that found more, and at most after ones that did not.
const PROBE_PAUSE_MIN: Duration = Duration::from_millis(400);
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(3);
/// A queue of this is nothing; one of [`DRAIN_MS`] more gets nothing to grow on.
const QUEUE_FREE_MS: f64 = 60.0;
const DRAIN_MS: f64 = 400.0;

/// A queue that is full grows by a quarter, not to twice its size: there is one of each kind for each receiver, and a size it keeps.
fn make_little_room<T>(queue: &mut VecDeque<T>) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact((queue.len() / 4).max(32));
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Estimator {
    started: Instant,
    sent: Sent,
    delay: Delay,
    /// Arrived: when by the receiver's clock, and bytes.
    acked: VecDeque<(i64, u32)>,
    acked_bytes: u64,
    estimate: f64,
    /// What arrived when the path was last too full, smoothed.
    capacity: Option<f64>,
    usage: Usage,
    lost: u64,
    judged: u64,
    loss: f64,
    loss_at: Instant,
    decreased_at: Option<Instant>,
    updated_at: Instant,
    heard_at: Option<Instant>,
    last_sent_at: Option<Instant>,
    rtt: Duration,
    /// What was sent before this says nothing of the round trip.
    rtt_from_us: i64,
    remb: Option<u64>,
    probe: Option<Probe>,
    probe_next: Instant,
    probe_pause: Duration,
}

#[derive(Debug)]
struct Probe {
    target: f64,
    began: Instant,
    bytes: u64,
    first_sent_us: i64,
    last_sent_us: i64,
    arrived_bytes: u64,
    first_arrival_us: i64,
    last_arrival_us: i64,
}

impl Estimator {
    /// Of a path of which nothing is known.
    pub fn new(now: Instant) -> Estimator {
        Estimator {
            started: now,
            sent: Sent::default(),
            delay: Delay::default(),
            acked: VecDeque::new(),
            acked_bytes: 0,
            estimate: START_BPS as f64,
            capacity: None,
            usage: Usage::Normal,
            lost: 0,
            judged: 0,
            loss: 0.0,
            loss_at: now,
            decreased_at: None,
            updated_at: now,
            heard_at: None,
            last_sent_at: None,
            rtt: Duration::from_millis(100),
            rtt_from_us: 0,
            remb: None,
            probe: None,
            probe_next: now,
            probe_pause: PROBE_PAUSE_MIN,
        }
    }

    /// A packet of so many bytes goes out under the next transport-wide number, which this gives.
    pub fn send(&mut self, bytes: usize, now: Instant) -> u16 {
        let at_us = self.us(now);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let in_probe =
            self.probe.as_mut().filter(|probe| now.saturating_duration_since(probe.began) < PROBE_LEN);
        if let Some(probe) = in_probe {
            if probe.bytes == 0 {
                probe.first_sent_us = at_us;
            }
            probe.bytes += u64::from(bytes);
            probe.last_sent_us = at_us;
        }
        self.last_sent_at = Some(now);
        self.sent.push(at_us, bytes)
    }

    /// The receiver says when packets arrived.
    pub fn hear(&mut self, feedback: &Feedback, now: Instant) {
        self.heard_at = Some(now);
        let now_us = self.us(now);
        let (mut newest, mut least_ms) = (None::<i64>, f64::MAX);
        for (at, arrival) in feedback.arrivals.iter().enumerate() {
            let number = feedback.base.wrapping_add(at as u16);
            let Some((sent_us, bytes)) = self.sent.told(number, arrival.is_some()) else { continue };
            self.judged += 1;
            let Some(arrival) = arrival else {
                self.lost += 1;
                continue;
            };
            let arrival_us = arrival.saturating_mul(250);
            newest = newest.max(Some(sent_us));
            make_little_room(&mut self.acked);
            self.acked.push_back((arrival_us, bytes));
            self.acked_bytes += u64::from(bytes);
            self.usage = self.delay.hear(sent_us, arrival_us);
            least_ms = least_ms.min((arrival_us - sent_us) as f64 / 1_000.0);
            if let Some(probe) = &mut self.probe
                && probe.bytes > 0
                && (probe.first_sent_us..=probe.last_sent_us).contains(&sent_us)
            {
                if probe.arrived_bytes == 0 {
                    probe.first_arrival_us = arrival_us;
                }
                probe.arrived_bytes += u64::from(bytes);
                probe.last_arrival_us = probe.last_arrival_us.max(arrival_us);
            }
        }
        if let Some(newest) = newest {
            if newest >= self.rtt_from_us {
                let rtt = Duration::from_micros(u64::try_from(now_us - newest).unwrap_or(0));
                self.rtt = (self.rtt * 7 + rtt.min(Duration::from_secs(2))) / 8;
            }
            self.delay.note_queue(least_ms, now_us);
        }
        self.forget_acked();
        self.judge(now);
    }

    /// The receiver reports that this share of packets is lost (RFC 3550 section 6.4.1); worth something only without feedback.
    pub fn hear_loss(&mut self, fraction_lost: u8, now: Instant) {
        if self.heard_at.is_none() {
            self.heed_loss(f64::from(fraction_lost) / 256.0, now);
        }
    }

    /// The receiver says what it believes of its path; for those that know no better.
    pub fn hear_remb(&mut self, bps: u64) {
        if self.heard_at.is_none() {
            self.remb = Some(bps.max(LEAST_BPS));
        }
    }

    /// Nobody was there to hear the receiver for so long, until now: its silence says nothing, nor does the time its feedback waited.
    pub fn excuse(&mut self, away: Duration, now: Instant) {
        self.heard_at = self.heard_at.map(|at| (at + away).min(now));
        self.updated_at = (self.updated_at + away).min(now);
        self.rtt_from_us = self.us(now);
        // What was to come of it did not come in time.
        self.probe = None;
    }

    /// What the path is believed to carry, bits a second; `None` when nothing was ever said about it.
    pub fn estimate_bps(&self) -> Option<u64> {
        match (self.heard_at, self.remb) {
            (Some(_), _) => Some(self.estimate as u64),
            (None, Some(remb)) => Some(remb.min(self.loss_bound())),
            (None, None) if self.last_sent_at.is_some() && self.loss > LOSS_HIGH => Some(self.loss_bound()),
            (None, None) => None,
        }
    }

    /// What may be spent now: less than the estimate while a queue has to drain.
    pub fn budget_bps(&self, now: Instant) -> Option<u64> {
        let estimate = self.estimate_bps()?;
        if self.heard_at.is_none() {
            return Some(estimate);
        }
        let too_much = (self.queue_left_ms(now) - QUEUE_FREE_MS) / DRAIN_MS;
        Some((estimate as f64 * (1.0 - too_much.clamp(0.0, 1.0))) as u64)
    }

    /// How long packets wait in the path, beyond the least they ever did.
    pub fn queue_ms(&self) -> f64 {
        self.delay.queue_ms()
    }

    /// How long the path has been at rest: nothing was sent, and nothing more was told of what was.
    fn rest(&self, now: Instant) -> Duration {
        let active = self.heard_at.max(self.last_sent_at);
        active.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// What is left of the queue that was last told of: where nothing is sent it drains, and nobody tells.
    fn queue_left_ms(&self, now: Instant) -> f64 {
        (self.delay.queue_ms() - self.rest(now).as_secs_f64() * 1_000.0).max(0.0)
    }

    /// The share of packets that was lost lately.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// A smoothed round trip, with the time feedback waits for others.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Time has passed, and `wanted_bps` would be of use. To be called every 25 ms. Gives the bytes of padding or repeats that are to be
    /// sent now, to see whether the path carries more.
    pub fn padding_due(&mut self, wanted_bps: u64, now: Instant) -> usize {
        self.grow_old(now);
        self.end_probe(now);
        if self.heard_at.is_none() {
            return 0;
        }
        if self.probe.is_none() {
            let is_at_rest = self.rest(now) > SILENCE;
            let is_calm =
                (self.usage == Usage::Normal || is_at_rest) && self.queue_left_ms(now) < QUEUE_FREE_MS;
            let is_limited = wanted_bps as f64 * 1.1 > self.estimate;
            if !is_calm || !is_limited || now < self.probe_next {
                return 0;
            }
            let target = (self.estimate * 2.0).min(wanted_bps as f64 * 1.3).min(MOST_BPS);
            if target < self.estimate * 1.05 {
                return 0;
            }
            self.probe = Some(Probe {
                target,
                began: now,
                bytes: 0,
                first_sent_us: 0,
                last_sent_us: 0,
                arrived_bytes: 0,
                first_arrival_us: 0,
                last_arrival_us: 0,
            });
        }
        let Some(probe) = &self.probe else { return 0 };
        let passed = now.saturating_duration_since(probe.began);
        if passed >= PROBE_LEN {
            return 0;
        }
        let due = probe.target / 8.0 * (passed + PROBE_STEP).min(PROBE_LEN).as_secs_f64();
        (due as u64).saturating_sub(probe.bytes) as usize
    }

    fn us(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.started).as_micros()).unwrap_or(i64::MAX)
    }

    /// What arrived, bits a second; `None` while too little did.
    fn acked_bps(&self) -> Option<f64> {
        let (first, last) = (self.acked.front()?.0, self.acked.back()?.0);
        let span = last - first;
        (span > ACKED_OVER_US / 4).then(|| self.acked_bytes as f64 * 8e6 / span as f64)
    }

    fn forget_acked(&mut self) {
        let Some((newest, _)) = self.acked.back().copied() else { return };
        while let Some((at, bytes)) = self.acked.front().copied() {
            // A clock that jumped leaves nothing behind either.
            if newest - at <= ACKED_OVER_US && newest >= at {
                break;
            }
            self.acked.pop_front();
            self.acked_bytes -= u64::from(bytes);
        }
    }

    fn judge(&mut self, now: Instant) {
        if now.saturating_duration_since(self.loss_at) >= LOSS_EVERY && self.judged >= 20 {
            let share = self.lost as f64 / self.judged as f64;
            (self.lost, self.judged, self.loss_at) = (0, 0, now);
            self.heed_loss(share, now);
        }
        let passed = now.saturating_duration_since(self.updated_at).min(Duration::from_secs(1));
        self.updated_at = now;
        match self.usage {
            Usage::Over => {
                let pause = self.rtt + Duration::from_millis(100);
                let early = self.decreased_at.is_some_and(|at| now.saturating_duration_since(at) < pause);
                let acked = self.acked_bps().unwrap_or(self.estimate);
                // A probe that was too much says so in its own result.
                if !early && acked * BACK_OFF < self.estimate {
                    self.capacity = Some(self.capacity.map_or(acked, |known| known * 0.8 + acked * 0.2));
                    self.decrease(acked * BACK_OFF, now);
                }
            }
            Usage::Under => {}
            Usage::Normal if self.loss <= LOSS_LOW && self.delay.queue_ms() < QUEUE_FREE_MS => {
                let acked = self.acked_bps().unwrap_or(self.estimate);
                // What is not used is not known to be there.
                if self.estimate < acked * 1.5 + 10_000.0 {
                    let seconds = passed.as_secs_f64();
                    let near = self.capacity.filter(|it| (it * 0.7..it * 1.3).contains(&self.estimate));
                    self.estimate = match near {
                        // About a packet more in each round trip.
                        Some(_) => self.estimate + 9_600.0 / self.rtt.as_secs_f64().max(0.05) * seconds,
                        None => self.estimate * GROWTH.powf(seconds),
                    };
                    if self.capacity.is_some_and(|it| self.estimate > it * 1.3) {
                        self.capacity = None;
                    }
                }
            }
            Usage::Normal => {}
        }
        self.estimate = self.estimate.clamp(LEAST_BPS as f64, MOST_BPS);
    }

    fn decrease(&mut self, to: f64, now: Instant) {
        self.estimate = to.max(LEAST_BPS as f64);
        self.decreased_at = Some(now);
        self.probe = None;
        self.probe_next = now + Duration::from_secs(1);
    }

    fn heed_loss(&mut self, share: f64, now: Instant) {
        self.loss = share;
        if share > LOSS_HIGH {
            self.decrease(self.estimate * (1.0 - 0.5 * share), now);
        }
    }

    fn loss_bound(&self) -> u64 {
        self.estimate.max(LEAST_BPS as f64) as u64
    }

    /// A path that says nothing any more is believed less.
    fn grow_old(&mut self, now: Instant) {
        let Some(heard) = self.heard_at else { return };
        let sending = self.last_sent_at.is_some_and(|at| at > heard);
        if sending && now.saturating_duration_since(heard.max(self.updated_at)) > SILENCE {
            self.updated_at = now;
            self.decrease(self.estimate * 0.7, now);
        }
    }

    fn end_probe(&mut self, now: Instant) {
        let Some(probe) = &self.probe else { return };
        let passed = now.saturating_duration_since(probe.began);
        let all_told = probe.arrived_bytes >= probe.bytes && passed >= PROBE_LEN;
        if !all_told && passed < PROBE_LEN + self.rtt * 2 + Duration::from_millis(150) {
            return;
        }
        let Some(probe) = self.probe.take() else { return };
        let step_us = PROBE_STEP.as_micros() as f64;
        let rate = |bytes: u64, from: i64, to: i64| bytes as f64 * 8e6 / ((to - from) as f64 + step_us);
        let sent = rate(probe.bytes, probe.first_sent_us, probe.last_sent_us);
        let arrived = rate(probe.arrived_bytes, probe.first_arrival_us, probe.last_arrival_us);
        let enough = probe.arrived_bytes * 10 >= probe.bytes * 8 && probe.bytes > 2_000;
        let found = if arrived >= sent * 0.9 { sent.min(probe.target) } else { arrived * 0.9 };
        if enough && found > self.estimate * 1.05 {
            self.estimate = found.min(MOST_BPS);
            self.capacity = None;
            self.probe_pause = PROBE_PAUSE_MIN;
        } else {
            self.probe_pause = (self.probe_pause * 2).min(PROBE_PAUSE_MAX);
        }
        self.probe_next = now + self.probe_pause;
    }
}

#[cfg(test)]
mod tests;
