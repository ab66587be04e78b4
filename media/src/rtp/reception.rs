//! How streams of a publisher arrive: what the reports say of them, what is asked for again, and when which packet came.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::is_newer;
use super::rtcp::Reception as Block;

/// Packets of one stream that are asked for again; when more are missing only a keyframe helps.
const MISSING_MAX: usize = 128;
/// Times a packet is asked for, and the pause between: a round trip and a little.
const ASKS_MAX: u8 = 5;
const ASK_PAUSE: Duration = Duration::from_millis(80);
/// Time a packet out of order has to come by itself.
const ASK_AFTER: Duration = Duration::from_millis(15);
/// Arrivals that wait for the next feedback. Feedback leaves every 50 ms; more than this is a flood and begins anew.
const ARRIVALS_MAX: usize = 2_048;

/// One stream as it arrives.
#[derive(Debug)]
pub struct Stream {
    clock_rate: u32,
    base: u32,
    highest: u32,
    received: u32,
    expected_before: u32,
    received_before: u32,
    jitter: f64,
    transit: Option<f64>,
    started: Instant,
    last_sr: Option<(u32, Instant)>,
    missing: BTreeMap<u32, (Instant, u8)>,
    overwhelmed: bool,
}

impl Stream {
    /// A stream whose first packet has this number.
    pub fn new(clock_rate: u32, first: u16, now: Instant) -> Stream {
        // One wrap above zero, so that packets from before the first have a number too.
        let highest = 0x1_0000 | u32::from(first);
        Stream {
            clock_rate,
            base: highest,
            highest: highest - 1,
            received: 0,
            expected_before: 0,
            received_before: 0,
            jitter: 0.0,
            transit: None,
            started: now,
            last_sr: None,
            missing: BTreeMap::new(),
            overwhelmed: false,
        }
    }

    /// Counts a packet.
    pub fn receive(&mut self, sequence: u16, timestamp: u32, now: Instant) {
        self.received = self.received.wrapping_add(1);
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if is_newer(sequence, self.highest as u16) {
            let next = self.highest.wrapping_add(u32::from(ahead));
            if usize::from(ahead) > MISSING_MAX {
                self.missing.clear();
                self.overwhelmed = true;
            } else {
                // Who leaps half of all numbers with each packet has soon used up the bits above, too.
                for behind in 1..u32::from(ahead) {
                    self.missing.insert(self.highest.wrapping_add(behind), (now + ASK_AFTER, 0));
                }
            }
            self.highest = next;
        } else {
            let back = u32::from((self.highest as u16).wrapping_sub(sequence));
            self.missing.remove(&self.highest.wrapping_sub(back));
        }
        if self.missing.len() > MISSING_MAX {
            self.missing.clear();
            self.overwhelmed = true;
        }
        // RFC 3550 appendix A.8, in ticks.
        let arrived = now.saturating_duration_since(self.started).as_secs_f64() * f64::from(self.clock_rate);
        let transit = arrived - f64::from(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit - before).abs();
            // A timestamp that wrapped or jumped says nothing of the path.
            if difference < f64::from(self.clock_rate) * 10.0 {
                self.jitter += (difference - self.jitter) / 16.0;
            }
        }
    }

    /// A sender report came.
    pub fn hear_report(&mut self, ntp: u64, now: Instant) {
        self.last_sr = Some(((ntp >> 16) as u32, now));
    }

    /// What has to be asked for again now. `Err` when so much is missing that only a keyframe helps.
    pub fn asks(&mut self, now: Instant) -> Result<Vec<u16>, Overwhelmed> {
        if std::mem::take(&mut self.overwhelmed) {
            return Err(Overwhelmed);
        }
        let mut asked = Vec::new();
        self.missing.retain(|sequence, (due, asks)| {
            if now >= *due {
                if *asks >= ASKS_MAX {
                    return false;
                }
                *asks += 1;
                *due = now + ASK_PAUSE;
                asked.push(*sequence as u16);
            }
            true
        });
        Ok(asked)
    }

    /// The report block of this stream, since the report before.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> Block {
        let expected = self.highest.wrapping_sub(self.base).wrapping_add(1);
        let lately_expected = expected.wrapping_sub(self.expected_before);
        let lately_received = self.received.wrapping_sub(self.received_before);
        self.expected_before = expected;
        self.received_before = self.received;
        let lost = lately_expected.saturating_sub(lately_received);
        let fraction = u64::from(lost) * 256 / u64::from(lately_expected.max(1));
        let (last_sr, since) = self.last_sr.map_or((0, 0), |(ntp, at)| {
            (ntp, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32)
        });
        Block {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            lost: expected.saturating_sub(self.received) & 0xFF_FFFF,
            highest: self.highest.wrapping_sub(0x1_0000),
            jitter: self.jitter as u32,
            last_sr,
            since_last_sr: since,
        }
    }
}

/// Too much is missing to ask for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is missing to ask for each packet")]
pub struct Overwhelmed;

/// When packets came, by transport-wide number, until it is told to their sender.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// From `base` on.
    waiting: VecDeque<Option<i64>>,
    base: u16,
    count: u8,
    started: Option<Instant>,
}

impl Arrivals {
    /// Notes a packet.
    pub fn note(&mut self, sequence: u16, now: Instant) {
        let started = *self.started.get_or_insert(now);
        let at = i64::try_from(now.saturating_duration_since(started).as_micros() / 250).unwrap_or(0);
        if self.waiting.is_empty() {
            self.base = sequence;
        }
        let place = usize::from(sequence.wrapping_sub(self.base));
        if place >= 0x8000 {
            // From before what is being gathered: told as lost already, and estimators live with that.
            return;
        }
        if place >= ARRIVALS_MAX {
            self.waiting.clear();
            self.base = sequence;
            self.waiting.push_back(Some(at));
            return;
        }
        if self.waiting.len() <= place {
            self.waiting.resize(place + 1, None);
        }
        if let Some(slot) = self.waiting.get_mut(place) {
            *slot = Some(at);
        }
    }

    /// What is to be told: number of the feedback, the first packet, and the arrivals from it on.
    pub fn take(&mut self) -> Option<(u8, u16, Vec<Option<i64>>)> {
        if self.waiting.is_empty() {
            return None;
        }
        let arrivals: Vec<_> = self.waiting.drain(..).collect();
        let count = self.count;
        self.count = count.wrapping_add(1);
        Some((count, self.base, arrivals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_asked_for_until_it_comes() {
        let start = crate::rtp::beginning();
        let at = |ms| start + Duration::from_millis(ms);
        let mut stream = Stream::new(90_000, 65_534, start);
        for sequence in [65_534, 65_535, 2, 3] {
            stream.receive(sequence, 0, start);
        }
        assert_eq!(stream.asks(at(5)), Ok(vec![]), "it may just be out of order");
        assert_eq!(stream.asks(at(20)), Ok(vec![0, 1]));
        assert_eq!(stream.asks(at(40)), Ok(vec![]));
        stream.receive(0, 0, at(60));
        assert_eq!(stream.asks(at(110)), Ok(vec![1]));
        let block = stream.report(9, at(200));
        assert_eq!((block.lost, block.fraction_lost, block.highest & 0xFFFF), (1, 42, 3));
        for ms in [300, 400, 500, 600, 700, 800] {
            let _ = stream.asks(at(ms));
        }
        assert_eq!(stream.asks(at(2_000)), Ok(vec![]), "given up");
        stream.receive(2_000, 0, at(2_000));
        assert_eq!(stream.asks(at(2_100)), Err(Overwhelmed));
        assert_eq!(stream.asks(at(2_200)), Ok(vec![]));
    }

    #[test]
    fn who_leaps_through_all_numbers_there_are_is_counted_on() {
        let start = crate::rtp::beginning();
        let mut stream = Stream::new(90_000, 0, start);
        let mut sequence = 0_u16;
        // To the last number of 32 bits, and over it with a gap.
        while stream.highest < u32::MAX - 0x7FFF {
            sequence = sequence.wrapping_add(0x7FFF);
            stream.receive(sequence, 0, start);
        }
        stream.receive(u16::MAX, 0, start);
        assert_eq!((stream.highest, stream.asks(start)), (u32::MAX, Err(Overwhelmed)));
        stream.receive(3, 0, start);
        let due = start + ASK_AFTER;
        // The last leap before was one of three.
        assert_eq!((stream.highest, stream.asks(due)), (3, Ok(vec![0, 1, 2, 65_533, 65_534])));
    }

    #[test]
    fn arrivals_are_told_once() {
        let start = crate::rtp::beginning();
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.take(), None);
        arrivals.note(65_535, start);
        arrivals.note(1, start + Duration::from_millis(2));
        assert_eq!(arrivals.take(), Some((0, 65_535, vec![Some(0), None, Some(8)])));
        arrivals.note(2, start + Duration::from_millis(3));
        assert_eq!(arrivals.take(), Some((1, 2, vec![Some(12)])));
        arrivals.note(2, start);
        arrivals.note(30_000, start);
        assert_eq!(arrivals.take(), Some((2, 30_000, vec![Some(0)])));
    }
}
