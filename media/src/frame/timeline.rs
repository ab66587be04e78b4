//! The timestamp sanitiser: from a publisher's 32-bit millisecond clock, with all its accidents, to one
//! timeline a stream that only moves forward.
//!
//! What arrives is *wire time*; what leaves is *stream time*, which starts at [`ORIGIN_MS`]. The difference
//! is an offset, the same for both tracks as long as the publisher's clock behaves:
//!
//! | what the clock does | what happens | counted as |
//! |---|---|---|
//! | wraps at 2³² ms (49.7 days) | widened | `wraps_32` |
//! | wraps at 2²⁴ ms (4.66 hours, senders without extended timestamps) | offset grows by 2²⁴ | `wraps_24` |
//! | stands still, or goes back by less than [`BACKWARDS_MS_MAX`] | one millisecond after the last frame | `repeated`, `backwards` |
//! | leaves out up to [`JUMP_MS_MIN`], or any time the other track went on through | kept: it is a real hole | `gaps` |
//! | moves further than [`GAP_MS_MIN`], in either direction, for one frame | that frame goes where it was expected | `outliers` |
//! | moves further and stays there | a new offset, [`Stamp::jump_ms`] says so | `jumps` |
//!
//! A hole or a jump is believed when the other track is there already, or at the second frame that agrees with it;
//! the first goes where it was expected meanwhile. The other track adopts the offset the first one found, so sound and
//! picture stay together.

use super::Track;
use crate::time::{Timebase, Timestamp, Widener};

/// Stream time of the first frame, in milliseconds: far enough from zero that a second track which begins a
/// little earlier, or a picture shown before it is decoded, needs no negative time.
pub const ORIGIN_MS: i64 = 10_000;
/// A step forward longer than this is a jump of the clock, not a hole in the media, in milliseconds.
pub const JUMP_MS_MIN: i64 = 10_000;
/// A step back of at most this is disorder and is pressed flat; a longer one is a jump, in milliseconds.
pub const BACKWARDS_MS_MAX: i64 = 250;
/// A step forward longer than this, and three times longer than usual, needs to be confirmed; it is counted as a
/// hole, in milliseconds.
pub const GAP_MS_MIN: i64 = 1_000;
/// The largest distance between decoding and showing a picture that is believed, in milliseconds.
pub const COMPOSITION_MS_MAX: i64 = 10_000;
/// How far the clock of counted samples may be from the publisher's before it is set again, in milliseconds.
/// Below it lie rounding to milliseconds and the jitter of encoders; above it people see lips move.
pub const AUDIO_DRIFT_MS_MAX: i64 = 50;
/// The step assumed before a track has shown its own, in milliseconds.
const STEP_MS_DEFAULT: i64 = 20;
/// What a 24-bit millisecond counter loses when it wraps.
const WRAP_24_MS: i64 = 1 << 24;

/// How often which accident was mended since the publisher came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sanitised {
    /// The clock passed 2²⁴ ms and started again.
    pub wraps_24: u64,
    /// The clock passed 2³² ms and started again.
    pub wraps_32: u64,
    /// A frame had the same time as the one before it.
    pub repeated: u64,
    /// A frame was a little older than the one before it.
    pub backwards: u64,
    /// A hole longer than a second.
    pub gaps: u64,
    /// One frame far away from its neighbours.
    pub outliers: u64,
    /// The clock moved for good.
    pub jumps: u64,
    /// A composition offset nobody can mean.
    pub compositions: u64,
    /// The count of audio samples was set again by the publisher's clock.
    pub audio_resyncs: u64,
}

/// Where a frame belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Stream time of decoding, in milliseconds; grows strictly in each track.
    pub dts_ms: i64,
    /// When the publisher's clock was found to have jumped for good: by how much, in milliseconds.
    pub jump_ms: Option<i64>,
}

/// The timeline of one publisher.
#[derive(Debug, Default)]
pub struct Timeline {
    widener: Widener<32>,
    epoch_32: i64,
    /// Stream time minus wire time, as last agreed.
    offset: Option<i64>,
    video: Clock,
    audio: Clock,
    sanitised: Sanitised,
}

#[derive(Debug, Default)]
struct Clock {
    offset: i64,
    last: Option<i64>,
    step: i64,
    doubt: Option<Doubt>,
}

/// A single strange frame.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    wire: i64,
    /// The offset that would make it right.
    offset: i64,
}

impl Timeline {
    /// A timeline on which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was mended so far.
    pub fn sanitised(&self) -> Sanitised {
        self.sanitised
    }

    /// Places the next frame of `track`, which the publisher stamped `wire_ms`.
    pub fn stamp(&mut self, track: Track, wire_ms: u32) -> Stamp {
        let wire = self.widen(wire_ms);
        let shared = *self.offset.get_or_insert(ORIGIN_MS - wire);
        let (clock, other) = match track {
            Track::Video => (&mut self.video, &self.audio),
            Track::Audio => (&mut self.audio, &self.video),
        };
        let Some(last) = clock.last else {
            // The first frame of a late track stands by its own time, unless that has nothing to do with
            // the track that is already here.
            let placed = wire + shared;
            let dts_ms = match other.last {
                Some(there) if (placed - there).abs() > JUMP_MS_MIN => {
                    self.sanitised.jumps += 1;
                    there
                }
                _ => placed.max(0),
            };
            clock.offset = dts_ms - wire;
            clock.step = STEP_MS_DEFAULT;
            clock.last = Some(dts_ms);
            return Stamp { dts_ms, jump_ms: None };
        };

        let step_max = GAP_MS_MIN.max(3 * clock.step);
        let continues = |offset: i64| {
            let step = wire + offset - last;
            let beside = other.last.is_some_and(|there| (wire + offset - there).abs() <= GAP_MS_MIN);
            step >= -BACKWARDS_MS_MAX && (step <= step_max || beside)
        };
        let doubt = clock.doubt.take();
        let mut jump_ms = None;
        let placed = if continues(clock.offset) {
            self.sanitised.outliers += u64::from(doubt.is_some());
            wire + clock.offset
        } else if continues(shared) {
            clock.offset = shared;
            wire + shared
        } else if continues(clock.offset + WRAP_24_MS) {
            clock.offset += WRAP_24_MS;
            self.offset = Some(clock.offset);
            self.sanitised.wraps_24 += 1;
            wire + clock.offset
        } else if let Some(doubt) = doubt.filter(|doubt| {
            let since = wire - doubt.wire;
            (-BACKWARDS_MS_MAX..=JUMP_MS_MIN).contains(&since)
        }) {
            let hole = wire + clock.offset - last;
            if (0..=JUMP_MS_MIN).contains(&hole) {
                wire + clock.offset
            } else {
                jump_ms = Some(clock.offset - doubt.offset);
                clock.offset = doubt.offset;
                self.offset = Some(doubt.offset);
                self.sanitised.jumps += 1;
                wire + doubt.offset
            }
        } else {
            self.sanitised.outliers += u64::from(doubt.is_some());
            let expected = last + clock.step;
            clock.doubt = Some(Doubt { wire, offset: expected - wire });
            expected
        };

        let step = placed - last;
        let dts_ms = if step > 0 {
            if step > step_max {
                self.sanitised.gaps += 1;
            }
            clock.step = (clock.step * 3 + step.min(JUMP_MS_MIN) + 2) / 4;
            placed
        } else {
            if step == 0 {
                self.sanitised.repeated += 1;
            } else {
                self.sanitised.backwards += 1;
            }
            last + 1
        };
        clock.last = Some(dts_ms);
        Stamp { dts_ms, jump_ms }
    }

    /// A composition offset that can be believed, in milliseconds: as it came when it is near, else none.
    pub fn composition(&mut self, offset_ms: i32) -> i64 {
        let offset_ms = i64::from(offset_ms);
        if offset_ms.abs() > COMPOSITION_MS_MAX {
            self.sanitised.compositions += 1;
            return 0;
        }
        offset_ms
    }

    /// Notes that a [`SampleClock`] was set again.
    pub fn audio_was_set_again(&mut self) {
        self.sanitised.audio_resyncs += 1;
    }

    fn widen(&mut self, wire_ms: u32) -> i64 {
        let first = self.offset.is_none();
        let wire = self.widener.widen(wire_ms);
        let epoch = wire >> 32;
        if !first && epoch > self.epoch_32 {
            self.epoch_32 = epoch;
            self.sanitised.wraps_32 += 1;
        }
        wire
    }
}

/// Audio time by counting samples: millisecond stamps make 1024 samples last 21 ms, then 22, then 21, and
/// the ear hears the seams. The publisher's clock only sets the count when the two have drifted apart.
#[derive(Debug)]
pub struct SampleClock {
    timebase: Timebase,
    next: i64,
    /// The count is ahead of the publisher and gives way by half of every frame until they meet.
    ahead: bool,
}

impl SampleClock {
    /// A clock of one tick a sample that starts at `dts_ms` of stream time, but not before `not_before` ticks.
    pub fn new(timebase: Timebase, dts_ms: i64, not_before: i64) -> Self {
        let start = Timestamp::from_millis(dts_ms).rescale(timebase).ticks();
        Self { timebase, next: start.max(not_before), ahead: false }
    }

    /// Stream time of the frame of `samples` the publisher put at `dts_ms`, and whether the clock had to be set
    /// again for it.
    pub fn stamp(&mut self, dts_ms: i64, samples: u32) -> (Timestamp, bool) {
        let ticks = |millis| Timestamp::from_millis(millis).rescale(self.timebase).ticks();
        let (target, limit) = (ticks(dts_ms), ticks(AUDIO_DRIFT_MS_MAX));
        let drift = target - self.next;
        let mut set_again = false;
        if drift > limit {
            self.next = target;
            self.ahead = false;
            set_again = true;
        } else if drift < -limit && !self.ahead {
            self.ahead = true;
            set_again = true;
        } else if drift >= 0 {
            self.ahead = false;
        }
        let dts = self.next();
        let samples = i64::from(samples.max(1));
        self.next += if self.ahead { (samples / 2).max(1) } else { samples };
        (dts, set_again)
    }

    /// What a tick is.
    pub fn timebase(&self) -> Timebase {
        self.timebase
    }

    /// Where the frame after the last one begins.
    pub fn next(&self) -> Timestamp {
        Timestamp::new(self.next, self.timebase)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn video(timeline: &mut Timeline, wire: impl IntoIterator<Item = u32>) -> Vec<i64> {
        wire.into_iter().map(|ms| timeline.stamp(Track::Video, ms).dts_ms - ORIGIN_MS).collect()
    }

    #[test]
    fn a_well_behaved_clock_is_left_alone() {
        let mut timeline = Timeline::new();
        assert_eq!(video(&mut timeline, [500, 533, 567, 600]), [0, 33, 67, 100]);
        assert_eq!(timeline.sanitised(), Sanitised::default());
    }

    #[test]
    fn timestamps_start_near_2_to_the_24_and_near_2_to_the_32_and_play_through() {
        let mut timeline = Timeline::new();
        assert_eq!(video(&mut timeline, [0xff_fff0, 0x100_0010, 0x100_0030]), [0, 32, 64]);
        assert_eq!(timeline.sanitised(), Sanitised::default());

        let mut timeline = Timeline::new();
        assert_eq!(video(&mut timeline, [0xffff_fff0, 0x10, 0x30]), [0, 32, 64]);
        assert_eq!(timeline.sanitised(), Sanitised { wraps_32: 1, ..Sanitised::default() });
    }

    #[test]
    fn a_24_bit_clock_wraps_without_a_jump_on_either_track() {
        let mut timeline = Timeline::new();
        assert_eq!(video(&mut timeline, [0xff_ffd0, 0xff_fff0]), [0, 32]);
        assert_eq!(timeline.stamp(Track::Audio, 0xff_fff8).dts_ms - ORIGIN_MS, 40);
        assert_eq!(video(&mut timeline, [0x10, 0x30]), [64, 96]);
        assert_eq!(timeline.stamp(Track::Audio, 0x18).dts_ms - ORIGIN_MS, 72);
        assert_eq!(timeline.sanitised(), Sanitised { wraps_24: 1, ..Sanitised::default() });
    }

    #[test]
    fn an_hour_forward_becomes_one_jump_and_both_tracks_stay_together() {
        let mut timeline = Timeline::new();
        let hour = 3_600_000;
        video(&mut timeline, [0, 40, 80]);
        timeline.stamp(Track::Audio, 90);
        let doubtful = timeline.stamp(Track::Video, hour + 120);
        assert_eq!(doubtful.jump_ms, None, "one frame is not believed");
        let certain = timeline.stamp(Track::Video, hour + 160);
        assert!(certain.jump_ms.is_some_and(|ms| (ms - i64::from(hour)).abs() < 40), "{certain:?}");
        let sound = timeline.stamp(Track::Audio, hour + 170);
        assert_eq!(sound.dts_ms - certain.dts_ms, 10, "sound keeps its distance to the picture");
        assert_eq!(sound.jump_ms, None, "a jump is told once");
        assert_eq!(timeline.sanitised().jumps, 1);
    }

    #[test]
    fn five_seconds_back_becomes_one_jump() {
        let mut timeline = Timeline::new();
        let placed = video(&mut timeline, [10_000, 10_040, 10_080, 5_120, 5_160, 5_200]);
        assert_eq!(timeline.sanitised().jumps, 1);
        assert!(placed.windows(2).all(|w| w[1] > w[0] && w[1] - w[0] <= 40), "{placed:?}");
    }

    #[test]
    fn one_strange_frame_moves_nothing_but_itself() {
        let mut timeline = Timeline::new();
        let placed = video(&mut timeline, [0, 40, 80, 900_000, 160, 200]);
        assert_eq!(placed[4..], [160, 200]);
        assert!(placed[3] > 80 && placed[3] < 160, "{placed:?}");
        assert_eq!(timeline.sanitised(), Sanitised { outliers: 1, ..Sanitised::default() });
    }

    #[test]
    fn a_minute_of_silence_on_one_track_is_kept_and_on_both_is_closed() {
        let mut timeline = Timeline::new();
        timeline.stamp(Track::Audio, 0);
        for ms in (0..60_000).step_by(40) {
            timeline.stamp(Track::Video, ms);
        }
        let sound = timeline.stamp(Track::Audio, 60_000);
        assert_eq!(sound, Stamp { dts_ms: ORIGIN_MS + 60_000, jump_ms: None });
        assert_eq!((timeline.sanitised().gaps, timeline.sanitised().jumps), (1, 0));

        let mut timeline = Timeline::new();
        video(&mut timeline, [0, 40, 80]);
        let placed = video(&mut timeline, [60_120, 60_160]);
        assert!(placed[1] < 300, "{placed:?}");
        assert_eq!(timeline.sanitised().jumps, 1);
    }

    #[test]
    fn a_hole_of_three_seconds_stays_a_hole() {
        let mut timeline = Timeline::new();
        let placed = video(&mut timeline, [0, 40, 3_080, 3_120, 3_160]);
        assert_eq!(placed[3..], [3_120, 3_160]);
        assert!(placed[2] > 40 && placed[2] <= 80, "believed at the second frame: {placed:?}");
        assert_eq!(timeline.sanitised(), Sanitised { gaps: 1, ..Sanitised::default() });
    }

    #[test]
    fn one_frame_nine_seconds_ahead_does_not_part_sound_from_picture() {
        let mut timeline = Timeline::new();
        for n in 0..100 {
            let strange = if n == 50 { 9_000 } else { 0 };
            let picture = timeline.stamp(Track::Video, n * 40 + strange).dts_ms;
            let sound = timeline.stamp(Track::Audio, n * 40 + 5).dts_ms;
            if n != 50 {
                assert_eq!(sound - picture, 5, "frame {n}");
            }
        }
        assert_eq!(timeline.sanitised(), Sanitised { outliers: 1, ..Sanitised::default() });
    }

    #[test]
    fn a_picture_every_two_seconds_is_a_rhythm_and_not_a_row_of_holes() {
        let mut timeline = Timeline::new();
        let placed = video(&mut timeline, (0..40).map(|n| n * 2_000));
        let last = placed.len() as i64 - 1;
        assert_eq!(placed[39], last * 2_000);
        assert!(placed[20..].windows(2).all(|pair| pair[1] - pair[0] == 2_000), "{placed:?}");
    }

    #[test]
    fn a_clock_that_stands_still_gives_growing_timestamps() {
        let mut timeline = Timeline::new();
        let placed = video(&mut timeline, std::iter::repeat_n(7, 1_000));
        assert!(placed.windows(2).all(|w| w[1] > w[0]));
        assert!(timeline.sanitised().repeated >= 1);
    }

    #[test]
    fn sound_that_begins_late_or_with_a_clock_of_its_own_is_laid_beside_the_picture() {
        let mut timeline = Timeline::new();
        video(&mut timeline, (0..=30_000).step_by(40));
        assert_eq!(timeline.stamp(Track::Audio, 30_010).dts_ms, ORIGIN_MS + 30_010);

        let mut timeline = Timeline::new();
        video(&mut timeline, (100_000..=130_000).step_by(40));
        assert_eq!(timeline.stamp(Track::Audio, 0).dts_ms, ORIGIN_MS + 30_000);
    }

    #[test]
    fn an_unbelievable_composition_offset_is_dropped() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.composition(-80), -80);
        assert_eq!(timeline.composition(0x7f_ffff), 0);
        assert_eq!(timeline.sanitised().compositions, 1);
    }

    #[test]
    fn audio_is_counted_in_samples_over_rounded_milliseconds() {
        let mut clock = SampleClock::new(Timebase::new(44_100).unwrap(), 0, 0);
        for frame in 0..10_000_i64 {
            let (dts, set_again) = clock.stamp(frame * 1024 * 1000 / 44_100, 1024);
            assert_eq!((dts.ticks(), set_again), (frame * 1024, false));
        }
    }

    #[test]
    fn a_lost_second_of_audio_sets_the_count_forward() {
        let mut clock = SampleClock::new(Timebase::OPUS, 0, 0);
        clock.stamp(0, 1024);
        let (dts, set_again) = clock.stamp(1_021, 1024);
        assert_eq!((dts.ticks(), set_again), (49_008, true));
    }

    #[test]
    fn a_count_that_runs_ahead_gives_way_without_going_back() {
        let mut clock = SampleClock::new(Timebase::OPUS, 0, 0);
        let mut last = -1;
        let mut set_again = 0;
        for frame in 0..2_000_i64 {
            // The sound card is 1 % slow: 1024 samples are sent every 21.1 ms by the publisher's clock.
            let (dts, again) = clock.stamp(frame * 1024 * 990 / 48_000, 1024);
            let dts = dts.ticks();
            assert!(dts > last);
            last = dts;
            set_again += u32::from(again);
            let drift_ms = (dts - frame * 1024 * 990 / 1_000) / 48;
            assert!((-5..=AUDIO_DRIFT_MS_MAX + 22).contains(&drift_ms), "{drift_ms}");
        }
        assert!(set_again > 0);
    }

    proptest! {
        #[test]
        fn no_clock_makes_time_stand_still_or_run_away(
            steps in prop::collection::vec((any::<bool>(), any::<u32>(), 0u8..4), 1..400),
        ) {
            let mut timeline = Timeline::new();
            let mut last = [i64::MIN; 2];
            let mut wire = 0_u32;
            let mut furthest = ORIGIN_MS;
            for (is_video, number, kind) in steps {
                wire = match kind {
                    0 => number,
                    1 => wire.wrapping_add(number % 50),
                    2 => wire.wrapping_sub(number % 400),
                    _ => wire.wrapping_add(number % 20_000),
                };
                let track = if is_video { Track::Video } else { Track::Audio };
                let stamp = timeline.stamp(track, wire);
                let seen = &mut last[usize::from(is_video)];
                prop_assert!(stamp.dts_ms > *seen);
                prop_assert!(stamp.dts_ms >= 0);
                *seen = stamp.dts_ms;
                prop_assert!(stamp.dts_ms <= furthest + 3 * JUMP_MS_MIN);
                furthest = furthest.max(stamp.dts_ms);
            }
        }
    }
}
