//! How many bits a rendition has a second, as measured.

use std::collections::VecDeque;

use nova_media::hls::Cut;
use tokio::time::Duration;

/// How many bits the latest segments have a second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    segments: VecDeque<(u64, Duration)>,
}

/// Segments that are averaged: half a minute of the usual ones.
const RATED_SEGMENTS_MAX: usize = 15;

impl Rates {
    pub(super) fn count(&mut self, cut: &Cut) {
        match cut {
            Cut::Begin(_) => {
                if self.segments.len() == RATED_SEGMENTS_MAX {
                    self.segments.pop_front();
                }
                self.segments.push_back((0, Duration::ZERO));
            }
            Cut::Part(part) if !part.gap => {
                if let Some((bytes, duration)) = self.segments.back_mut() {
                    *bytes += part.bytes.len() as u64;
                    *duration += part.duration;
                }
            }
            Cut::Part(_) | Cut::Init(_) | Cut::End => {}
        }
    }

    /// The highest rate of a segment and the average. The segment that grows counts only while there is no other: the keyframe it
    /// begins with weighs more in it than in the whole.
    pub(super) fn bandwidth_bps(&self) -> (u64, u64) {
        let whole = self.segments.len().saturating_sub(1).max(1);
        let rate = |bytes: u64, duration: Duration| {
            (bytes as f64 * 8.0 / duration.as_secs_f64().max(0.001)).ceil() as u64
        };
        let counted = || self.segments.iter().take(whole);
        let peak = counted().map(|(bytes, duration)| rate(*bytes, *duration)).max().unwrap_or(0);
        let bytes = counted().map(|(bytes, _)| bytes).sum();
        let duration = counted().map(|(_, duration)| duration).sum();
        (peak, rate(bytes, duration).min(peak))
    }
}

#[cfg(test)]
mod tests {
    use nova_media::hls::{Begin, Part};

    use super::*;

    fn part(bytes: usize, ms: u64) -> Cut {
        let duration = Duration::from_millis(ms);
        Cut::Part(Part { duration, independent: true, gap: false, bytes: vec![0; bytes].into() })
    }

    fn begin(msn: u64) -> Cut {
        Cut::Begin(Begin { msn, discontinuity: false, at_unix_ms: 0 })
    }

    #[test]
    fn rates_are_those_of_whole_segments_as_soon_as_there_is_one() {
        let mut rates = Rates::default();
        assert_eq!(rates.bandwidth_bps(), (0, 0));
        rates.count(&begin(0));
        rates.count(&part(1_000, 500));
        assert_eq!(rates.bandwidth_bps(), (16_000, 16_000));
        rates.count(&part(500, 500));
        rates.count(&begin(1));
        rates.count(&part(9_000, 100));
        assert_eq!(rates.bandwidth_bps(), (12_000, 12_000), "the open segment does not count");
        rates.count(&begin(2));
        let (peak, average) = rates.bandwidth_bps();
        assert_eq!(peak, 720_000);
        assert_eq!(average, 76_364, "10.5 kB in 1.1 s");
    }
}
