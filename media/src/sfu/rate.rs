//! What a layer of pictures costs, and how many there are, with each of its temporal layers: measured as packets come.

use std::time::{Duration, Instant};

use crate::rtp::temporal::Part;

/// What a layer costs is measured over this, and not over a pause.
const RATE_OVER: Duration = Duration::from_millis(500);
const RATE_PAUSE: Duration = Duration::from_secs(2);
/// Temporal layers that are told apart; what is above is of the last. VP8's two bits can say no more (RFC 7741 section 4.2).
const TEMPORAL_LAYERS: usize = 4;
/// So much of the pictures a second that are wished is enough.
const FPS_TOLERANCE: f64 = 0.9;

/// What a layer costs, measured.
#[derive(Debug, Default)]
pub(super) struct Rate {
    since: Option<Instant>,
    has_temporal: bool,
    counted: [Flow; TEMPORAL_LAYERS],
    /// A second.
    measured: Option<[Flow; TEMPORAL_LAYERS]>,
}

/// What a temporal layer carries, without those below it.
#[derive(Debug, Default, Clone, Copy)]
struct Flow {
    bits: f64,
    pictures: f64,
}

impl Flow {
    fn map(self, other: Flow, with: impl Fn(f64, f64) -> f64) -> Flow {
        Flow { bits: with(self.bits, other.bits), pictures: with(self.pictures, other.pictures) }
    }
}

impl Rate {
    /// A packet of so many bytes, which `ends_picture` or not.
    pub(super) fn count(&mut self, bytes: usize, ends_picture: bool, part: Option<Part>, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let temporal = usize::from(part.map_or(0, |part| part.temporal));
        self.has_temporal |= temporal > 0;
        if let Some(flow) = self.counted.get_mut(temporal.min(TEMPORAL_LAYERS - 1)) {
            flow.bits += bytes as f64 * 8.0;
            flow.pictures += f64::from(ends_picture);
        }
        let passed = now.saturating_duration_since(since);
        if passed < RATE_OVER {
            return;
        }
        if passed < RATE_PAUSE {
            let a_second =
                self.counted.map(|flow| flow.map(flow, |counted, _| counted / passed.as_secs_f64()));
            let mut measured = self.measured.unwrap_or(a_second);
            for (before, new) in measured.iter_mut().zip(a_second) {
                *before = before.map(new, |before, new| before * 0.7 + new * 0.3);
            }
            self.measured = Some(measured);
        }
        (self.since, self.counted) = (Some(now), Default::default());
    }

    /// What is measured of the temporal layers up to this one, a second.
    fn up_to(&self, temporal: u8) -> Option<Flow> {
        let layers = self.measured?.into_iter().take(usize::from(temporal).saturating_add(1));
        Some(layers.fold(Flow::default(), |all, flow| all.map(flow, |all, one| all + one)))
    }

    /// Bits a second of the temporal layers up to this one; `unseen` before anything is known.
    pub(super) fn bps(&self, temporal: u8, unseen: u64) -> u64 {
        self.up_to(temporal).map_or(unseen, |flow| flow.bits as u64)
    }

    /// The lowest temporal layer up to which there are so many pictures a second; all when there are not.
    pub(super) fn temporal_for(&self, fps: Option<u8>) -> u8 {
        let Some(fps) = fps else { return u8::MAX };
        // A camera that promises 30 makes 29.9.
        let enough = f64::from(fps) * FPS_TOLERANCE;
        let below = 0..TEMPORAL_LAYERS as u8 - 1;
        let mut below =
            below.filter(|temporal| self.up_to(*temporal).is_some_and(|flow| flow.pictures >= enough));
        below.next().unwrap_or(u8::MAX)
    }

    pub(super) fn has_temporal(&self) -> bool {
        self.has_temporal
    }
}
