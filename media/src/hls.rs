//! Low-latency HLS (draft-pantos-hls-rfc8216bis) from frames: cut into parts and segments, kept in a window, told in playlists.
//!
//! [`Segmenter`] turns media into [`Cut`]s, [`Window`] keeps what is listed and renders a [`Snapshot`] for each of them, and
//! [`reload::decide`] says whether a request is answered now, waits for the next snapshot, or is refused. All of it is plain
//! state: the actor that owns a stream feeds it, and readers share the snapshots.
//!
//! [`Rendition`] makes the same segments once more from other pictures: what a transcoder yields, cut where the source was cut.

pub mod multivariant;
mod playlist;
pub mod reload;
pub mod rendition;
mod segmenter;
pub mod vod;
mod window;

use std::time::Duration;

use bytes::Bytes;

pub use rendition::Rendition;
pub use segmenter::Segmenter;
pub use vod::Kept;
pub use window::{Edge, Report, Snapshot, Whole, Window};

/// How a stream is cut. Fixed for its life: players hold a server to what the first playlist said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The longest part, in milliseconds.
    pub part_target_ms: u32,
    /// Segments end at the first keyframe after this, in milliseconds.
    pub segment_target_ms: u32,
    /// The longest segment, in whole seconds; where no keyframe comes before it, the segment ends without one.
    pub target_duration_s: u32,
    /// Whole segments that stay listed.
    pub segments_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { part_target_ms: 333, segment_target_ms: 2_000, target_duration_s: 4, segments_max: 6 }
    }
}

impl Settings {
    /// These settings for pictures at this rate. A part holds whole frames and has to last 85 % of the part target at least
    /// (8216bis, 4.4.3.7), so the target is moved to what whole frames fill: down to it, or up to one frame of a very slow stream.
    /// To be asked before the first playlist, with the rate of the first configuration.
    pub fn for_rate(mut self, frames_per_s: Option<f64>) -> Self {
        if let Some(rate) = frames_per_s.filter(|rate| rate.is_finite() && *rate > 0.0) {
            let frame_ms = 1_000.0 / rate;
            let frames = (f64::from(self.part_target_ms) / frame_ms).floor().max(1.0);
            let filled_ms = frames * frame_ms;
            if filled_ms < f64::from(self.part_target_ms) * 0.9 || filled_ms > f64::from(self.part_target_ms)
            {
                // Clocks that count in milliseconds make some frames one longer.
                self.part_target_ms = (filled_ms.ceil() as u32 + 1).min(self.target_duration_s * 1_000);
            }
        }
        self
    }
}

/// What the segmenter has finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// The init segment of everything that follows.
    Init(Init),
    /// A segment begins.
    Begin(Begin),
    /// A part of it.
    Part(Part),
    /// It is whole.
    End,
}

/// An init segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Counts the init segments of this stream from 0.
    pub number: u32,
    /// The bytes.
    pub bytes: Bytes,
}

/// What is known when a segment begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Its media sequence number.
    pub msn: u64,
    /// What came before does not continue into it.
    pub discontinuity: bool,
    /// When its first frame was taken in, by the media clock, in milliseconds since 1970.
    pub at_unix_ms: i64,
}

/// A part of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its length.
    pub duration: Duration,
    /// It starts with a keyframe.
    pub independent: bool,
    /// It could not be made, and holds nothing: a hole in this rendition that others may not have.
    pub gap: bool,
    /// The bytes.
    pub bytes: Bytes,
}
