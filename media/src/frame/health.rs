//! How a broadcast is doing, seen from the ingest side: what a broadcaster wants to know before the viewers
//! tell them.

use std::time::{Duration, Instant};

use super::{Frame, Track};
use crate::time::Timestamp;

/// How long the rates look back, in whole seconds.
const WINDOW_S: u64 = 5;
const SLOTS: usize = WINDOW_S as usize + 1;
/// A picture that comes later than this many usual intervals after the one before it means that the encoder
/// left some out.
const SKIP_RATIO: f64 = 1.6;
/// How many steps tell the usual interval.
const STEPS: usize = 15;
/// No rhythm is faster than 240 pictures a second.
const MIN_STEP_S: f64 = 1.0 / 240.0;

/// The state of a broadcast at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Health {
    /// Video payload over the last five seconds, in bits a second.
    pub video_bitrate_bps: u64,
    /// Audio payload over the last five seconds, in bits a second.
    pub audio_bitrate_bps: u64,
    /// Pictures that arrived over the last five seconds, a second.
    pub frames_per_s: f32,
    /// Video frames since the publisher came.
    pub video_frames: u64,
    /// Audio frames since the publisher came.
    pub audio_frames: u64,
    /// Pictures in the last whole GOP; zero before there was one.
    pub gop_frames: u32,
    /// Length of the last whole GOP in milliseconds; zero before there was one.
    pub gop_ms: u32,
    /// The longest GOP so far in milliseconds, the open one included.
    pub gop_ms_longest: u32,
    /// Whether pictures arrive in another order than they are shown. Browsers cannot play such a stream by WebRTC.
    pub b_frames: bool,
    /// How unevenly pictures arrive compared with their timestamps, in milliseconds (RFC 3550, 6.4.1).
    pub jitter_ms: f32,
    /// Pictures the encoder left out, as far as the holes in its timestamps tell.
    pub frames_skipped: u64,
}

/// Watches the frames go by.
#[derive(Debug, Default)]
pub struct Meter {
    health: Health,
    slots: [Slot; SLOTS],
    began: Option<Instant>,
    gop_start: Option<Timestamp>,
    gop_frames: u32,
    shown_last: Option<Timestamp>,
    previous: Option<(Instant, Timestamp)>,
    steps_s: [f64; STEPS],
    steps: usize,
    jitter_s: f64,
}

/// What arrived in one second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    video_bytes: u64,
    audio_bytes: u64,
    video_frames: u64,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a frame that arrived at `now`.
    pub fn observe(&mut self, now: Instant, frame: &Frame) {
        let began = *self.began.get_or_insert(now);
        let second = now.saturating_duration_since(began).as_secs();
        if let Some(slot) = self.slots.get_mut((second % SLOTS as u64) as usize) {
            if slot.second != second {
                *slot = Slot { second, ..Slot::default() };
            }
            let bytes = frame.payload.len() as u64;
            match frame.track {
                Track::Video => {
                    slot.video_bytes += bytes;
                    slot.video_frames += 1;
                }
                Track::Audio => slot.audio_bytes += bytes,
            }
        }
        match frame.track {
            Track::Video => self.observe_picture(now, frame),
            Track::Audio => self.health.audio_frames += 1,
        }
    }

    fn observe_picture(&mut self, now: Instant, frame: &Frame) {
        self.health.video_frames += 1;
        if frame.keyframe {
            if let Some(start) = self.gop_start {
                self.health.gop_frames = self.gop_frames;
                self.health.gop_ms = millis(frame.dts.since(start));
            }
            self.gop_start = Some(frame.dts);
            self.gop_frames = 0;
            self.shown_last = None;
        }
        self.gop_frames = self.gop_frames.saturating_add(1);
        if let Some(start) = self.gop_start {
            let open_ms = millis(frame.dts.since(start));
            self.health.gop_ms_longest = self.health.gop_ms_longest.max(open_ms).max(self.health.gop_ms);
        }
        match self.shown_last {
            Some(shown) if frame.pts < shown => self.health.b_frames = true,
            _ => self.shown_last = Some(frame.pts),
        }
        if let Some((arrived, dts)) = self.previous {
            let step_s = frame.dts.since(dts).as_secs_f64();
            let waited_s = now.saturating_duration_since(arrived).as_secs_f64();
            self.jitter_s += ((waited_s - step_s).abs() - self.jitter_s) / 16.0;
            // The middle of the last steps is the rhythm: a few odd ones, as at the start of some encoders, do not bend it.
            if self.steps >= STEPS {
                let mut steps = self.steps_s;
                steps.sort_by(f64::total_cmp);
                let usual_s = steps.get(STEPS / 2).copied().unwrap_or(step_s).max(MIN_STEP_S);
                if step_s > usual_s * SKIP_RATIO {
                    self.health.frames_skipped += (step_s / usual_s).round() as u64 - 1;
                }
            }
            if let Some(place) = self.steps_s.get_mut(self.steps % STEPS) {
                *place = step_s;
            }
            self.steps += 1;
        }
        self.previous = Some((now, frame.dts));
    }

    /// How the broadcast is doing at `now`.
    pub fn health(&self, now: Instant) -> Health {
        let mut health = self.health;
        health.jitter_ms = (self.jitter_s * 1_000.0) as f32;
        let Some(began) = self.began else { return health };
        // The running second is left out, unless it is the first: a burst at the start is not a rate.
        let second = now.saturating_duration_since(began).as_secs();
        let first = second.saturating_sub(WINDOW_S);
        let last = second.saturating_sub(1);
        let span_s = (last - first + 1) as f64;
        let seen = self.slots.iter().filter(|slot| (first..=last).contains(&slot.second));
        let (mut video, mut audio, mut frames) = (0, 0, 0);
        for slot in seen {
            video += slot.video_bytes;
            audio += slot.audio_bytes;
            frames += slot.video_frames;
        }
        health.video_bitrate_bps = (video as f64 * 8.0 / span_s) as u64;
        health.audio_bitrate_bps = (audio as f64 * 8.0 / span_s) as u64;
        health.frames_per_s = (frames as f64 / span_s) as f32;
        health
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "an Instant can be had no other way; only distances from it count"
)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn picture(dts_ms: i64, pts_ms: i64, keyframe: bool, len: usize) -> Frame {
        Frame {
            track: Track::Video,
            dts: Timestamp::from_millis(dts_ms),
            pts: Timestamp::from_millis(pts_ms),
            keyframe,
            payload: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn ten_seconds_of_25_pictures_a_second_are_told_as_such() {
        let start = Instant::now();
        let mut meter = Meter::new();
        for n in 0..=250 {
            let ms = n * 40;
            meter.observe(
                start + Duration::from_millis(ms),
                &picture(ms as i64, ms as i64, n % 50 == 0, 1_000),
            );
        }
        let health = meter.health(start + Duration::from_secs(10));
        assert_eq!(health.video_bitrate_bps, 25 * 8_000);
        assert_eq!(health.frames_per_s, 25.0);
        assert_eq!((health.gop_frames, health.gop_ms, health.gop_ms_longest), (50, 2_000, 2_000));
        assert!(!health.b_frames);
        assert!(health.jitter_ms < 0.001);
        assert_eq!(health.frames_skipped, 0);
        let later = meter.health(start + Duration::from_secs(60));
        assert_eq!((later.video_bitrate_bps, later.frames_per_s), (0, 0.0), "silence is told as silence");
    }

    #[test]
    fn reordering_holes_and_uneven_arrival_are_seen() {
        let start = Instant::now();
        let mut meter = Meter::new();
        // The first pictures lie close together, as GStreamer's do when it reorders.
        for (n, ms) in [0, 1, 2].into_iter().chain((1..30).map(|n| n * 40)).enumerate() {
            let composition = if n % 3 == 1 { 80 } else { 0 };
            meter.observe(start, &picture(ms, ms + composition, n == 0, 10));
        }
        assert_eq!(meter.health(start).frames_skipped, 0);
        meter.observe(start, &picture(1_160 + 40 * 4, 2_000, false, 10));
        let health = meter.health(start);
        assert!(health.b_frames);
        assert_eq!(health.frames_skipped, 3);
        assert!(health.jitter_ms > 5.0, "all of them came at once: {}", health.jitter_ms);
        assert_eq!(health.gop_ms_longest, 1_320, "an open GOP counts");
    }
}
