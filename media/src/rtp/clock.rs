//! The clocks of a publisher's sound and pictures, laid beside each other.
//!
//! RTP timestamps begin anywhere and say nothing of another track's. What is known at first is when packets arrive, so a track begins when
//! its first one came. Sender reports (RFC 3550 section 6.4.1) tell when it was on the publisher's own clock, the same for all its tracks,
//! at one timestamp of each; with one of both it is known how far apart they are. Then pictures are moved to where they belong: at once
//! while none was shown, afterwards by [`STEP_MS`] with each, so that none is left out and none stands still. Sound is never moved, since
//! that is heard.

use super::rtcp::SenderTime;

/// By how much one picture is moved from where the one before it was, in milliseconds: a tenth of a second is made up for in 50 pictures.
const STEP_MS: i64 = 2;
/// Tracks that are further apart than this, in milliseconds, have clocks nobody can mean: arrival has to do.
const APART_MS_MAX: i64 = 5_000;

/// When the packets of one track were made, in milliseconds since the beginning.
#[derive(Debug)]
pub(super) struct TrackClock {
    ticks_per_ms: i64,
    /// How many milliseconds after the beginning the first packet came.
    began_ms: Option<u32>,
    /// The latest timestamp, as it came, and widened from the first.
    last: u32,
    passed: i64,
    /// What the publisher told last: its own time in milliseconds, and the widened timestamp of it.
    told: Option<(SenderTime, i64)>,
}

impl TrackClock {
    pub(super) fn new(ticks_per_ms: i64) -> TrackClock {
        TrackClock { ticks_per_ms, began_ms: None, last: 0, passed: 0, told: None }
    }

    /// When a packet was made that came `since_ms` after the beginning, as far as this track alone knows.
    pub(super) fn at_ms(&mut self, timestamp: u32, since_ms: u32) -> u32 {
        let began = match self.began_ms {
            Some(began) => began,
            None => {
                self.last = timestamp;
                self.began_ms = Some(since_ms);
                let told = self.told.map(|(time, _)| (time, self.widen(time.timestamp)));
                self.told = told;
                since_ms
            }
        };
        self.passed = self.widen(timestamp);
        self.last = timestamp;
        began.wrapping_add((self.passed / self.ticks_per_ms) as u32)
    }

    /// The publisher told the time.
    pub(super) fn hear(&mut self, time: SenderTime) {
        if self.told.is_none_or(|(told, _)| told != time) {
            self.told = Some((time, self.widen(time.timestamp)));
        }
    }

    fn widen(&self, timestamp: u32) -> i64 {
        self.passed + i64::from(timestamp.wrapping_sub(self.last).cast_signed())
    }

    /// The publisher's time minus ours, in milliseconds, as it was told last.
    fn ahead_ms(&self) -> Option<i64> {
        let (time, passed) = self.told?;
        Some(time.millis() - i64::from(self.began_ms?) - passed / self.ticks_per_ms)
    }
}

/// Keeps pictures beside their sound.
#[derive(Debug, Default)]
pub(super) struct Lips {
    /// By how much pictures are to be moved, and by how much they are.
    wanted_ms: i64,
    moved_ms: i64,
    shown: bool,
}

impl Lips {
    /// Looks how far the two are apart.
    pub(super) fn compare(&mut self, sound: &TrackClock, pictures: &TrackClock) {
        if let (Some(sound), Some(pictures)) = (sound.ahead_ms(), pictures.ahead_ms()) {
            let apart_ms = pictures.saturating_sub(sound);
            if (-APART_MS_MAX..=APART_MS_MAX).contains(&apart_ms) {
                self.wanted_ms = apart_ms;
            }
        }
    }

    /// Where a picture belongs that is at `at_ms` by its own track's clock.
    pub(super) fn place(&mut self, at_ms: u32) -> u32 {
        let step = self.wanted_ms - self.moved_ms;
        self.moved_ms += if self.shown { step.clamp(-STEP_MS, STEP_MS) } else { step };
        self.shown = true;
        at_ms.wrapping_add(self.moved_ms as u32)
    }

    pub(super) fn moved_ms(&self) -> i64 {
        self.moved_ms
    }
}
