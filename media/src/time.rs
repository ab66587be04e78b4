//! Points on a media timeline.
//!
//! A [`Timestamp`] counts ticks of a [`Timebase`] in 64 bits and never wraps. What arrives from the
//! wire in 16, 24 or 32 bits is widened once, at the edge, by a [`Widener`].

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many ticks a second has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timebase(NonZeroU32);

impl Timebase {
    /// One tick a millisecond: RTMP and FLV.
    pub const MILLIS: Self = Self(NonZeroU32::new(1_000).expect("1000 is not zero"));
    /// 90 kHz: the clock of video in MPEG and RTP.
    pub const VIDEO: Self = Self(NonZeroU32::new(90_000).expect("90000 is not zero"));
    /// 48 kHz: Opus, whatever rate was recorded (RFC 7845, section 4).
    pub const OPUS: Self = Self(NonZeroU32::new(48_000).expect("48000 is not zero"));

    /// A timebase of `ticks_per_second`; none when that is zero.
    pub fn new(ticks_per_second: u32) -> Option<Self> {
        NonZeroU32::new(ticks_per_second).map(Self)
    }

    /// Ticks a second.
    pub fn ticks_per_second(self) -> u32 {
        self.0.get()
    }
}

/// A point on a timeline. Two timestamps are equal, or in order, by the instant they mean, whatever
/// their timebases.
#[derive(Clone, Copy)]
pub struct Timestamp {
    ticks: i64,
    timebase: Timebase,
}

impl Timestamp {
    /// The instant `ticks` after zero.
    pub fn new(ticks: i64, timebase: Timebase) -> Self {
        Self { ticks, timebase }
    }

    /// The instant `millis` after zero, in milliseconds.
    pub fn from_millis(millis: i64) -> Self {
        Self::new(millis, Timebase::MILLIS)
    }

    /// Ticks since zero.
    pub fn ticks(self) -> i64 {
        self.ticks
    }

    /// What a tick is.
    pub fn timebase(self) -> Timebase {
        self.timebase
    }

    /// The same instant in another timebase, to the nearest tick, halves upward.
    pub fn rescale(self, timebase: Timebase) -> Self {
        let from = i128::from(self.timebase.ticks_per_second());
        let to = i128::from(timebase.ticks_per_second());
        let ticks = (i128::from(self.ticks) * to * 2 + from).div_euclid(from * 2);
        let ticks = ticks.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self::new(ticks as i64, timebase)
    }

    /// Whole milliseconds since zero, to the nearest.
    pub fn millis(self) -> i64 {
        self.rescale(Timebase::MILLIS).ticks
    }

    /// Seconds since zero, for people and playlists, not for sums.
    pub fn seconds(self) -> f64 {
        self.ticks as f64 / f64::from(self.timebase.ticks_per_second())
    }

    /// This instant moved by `ticks` of its own timebase.
    pub fn offset(self, ticks: i64) -> Self {
        Self::new(self.ticks.saturating_add(ticks), self.timebase)
    }

    /// How long after `earlier` this is; nothing when it is before.
    pub fn since(self, earlier: Self) -> Duration {
        let here = i128::from(self.ticks) * i128::from(earlier.timebase.ticks_per_second());
        let there = i128::from(earlier.ticks) * i128::from(self.timebase.ticks_per_second());
        let unit =
            i128::from(self.timebase.ticks_per_second()) * i128::from(earlier.timebase.ticks_per_second());
        let nanos = (here - there).max(0) * 1_000_000_000 / unit;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ticks, self.timebase.ticks_per_second())
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let here = i128::from(self.ticks) * i128::from(other.timebase.ticks_per_second());
        let there = i128::from(other.ticks) * i128::from(self.timebase.ticks_per_second());
        here.cmp(&there)
    }
}

/// Widens a counter of `BITS` bits that wraps into one that does not: each value is taken to be the
/// one nearest to the value before it, forwards or backwards.
///
/// `BITS` is between 1 and 32. The first value is taken as it is.
#[derive(Debug, Clone, Default)]
pub struct Widener<const BITS: u32> {
    last: Option<i64>,
}

impl<const BITS: u32> Widener<BITS> {
    const SPAN: i64 = 1 << BITS;

    /// A widener that has seen nothing.
    pub fn new() -> Self {
        Self { last: None }
    }

    /// The value `counter` stands for. Bits above `BITS` are ignored.
    pub fn widen(&mut self, counter: u32) -> i64 {
        let value = i64::from(counter) & (Self::SPAN - 1);
        let wide = match self.last {
            None => value,
            Some(last) => {
                let step = (value - last).rem_euclid(Self::SPAN);
                let step = if step >= Self::SPAN / 2 { step - Self::SPAN } else { step };
                last + step
            }
        };
        self.last = Some(wide);
        wide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_compare_across_timebases() {
        let video = Timestamp::new(90_000, Timebase::VIDEO);
        assert_eq!(video, Timestamp::from_millis(1_000));
        assert!(Timestamp::new(90_001, Timebase::VIDEO) > Timestamp::from_millis(1_000));
        assert_eq!(video.offset(45_000).since(Timestamp::from_millis(1_000)), Duration::from_millis(500));
        assert_eq!(Timestamp::from_millis(0).since(video), Duration::ZERO, "what is earlier is not after");
    }

    #[test]
    fn rescaling_rounds_to_the_nearest_tick_on_both_sides_of_zero() {
        let aac = Timebase::new(44_100).unwrap();
        for (ticks, millis) in [(1024, 23), (-1024, -23), (0, 0), (441, 10), (22, 0), (-23, -1)] {
            assert_eq!(Timestamp::new(ticks, aac).millis(), millis, "{ticks}");
        }
        assert!(Timebase::new(0).is_none());
    }

    #[test]
    fn counters_are_widened_over_their_wrap_in_both_directions() {
        let mut wide = Widener::<32>::new();
        assert_eq!(wide.widen(0xffff_fff0), 0xffff_fff0);
        assert_eq!(wide.widen(0x10), 0x1_0000_0010);
        assert_eq!(wide.widen(0xffff_fff8), 0xffff_fff8, "a late one goes back over the wrap");
        assert_eq!(wide.widen(0x20), 0x1_0000_0020);

        let mut narrow = Widener::<16>::new();
        assert_eq!(narrow.widen(65_535), 65_535);
        assert_eq!(narrow.widen(1), 65_537);
        assert_eq!(Widener::<24>::new().widen(0xff00_0001), 1, "bits above are ignored");
    }
}
