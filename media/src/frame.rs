//! The one currency of media inside the engine.
//!
//! Whatever a broadcaster's protocol was, it becomes [`Media`]: frames with a clean clock, and between
//! them the configuration a decoder needs and the marks where the timeline was mended.

pub mod health;
pub mod timeline;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::Configuration;
use crate::time::Timestamp;

/// Which of a stream's two tracks something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// One coded picture or one coded piece of sound.
///
/// Video counts time in 90 kHz ticks, audio in its own samples (AAC at its core rate, Opus at 48 kHz). In one
/// track `dts` grows strictly; `pts` may lie on either side of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The track it belongs to.
    pub track: Track,
    /// When it is decoded.
    pub dts: Timestamp,
    /// When it is shown or heard.
    pub pts: Timestamp,
    /// Whether decoding can start here: for video by what the picture is, not by what its label says.
    /// Every audio frame is a start.
    pub keyframe: bool,
    /// The coded data: H.264 and HEVC as length-prefixed NAL units, AV1 as one temporal unit, AAC without ADTS, Opus as one packet.
    pub payload: Bytes,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("track", &self.track)
            .field("dts", &self.dts)
            .field("pts", &self.pts)
            .field("keyframe", &self.keyframe)
            .field("payload_len", &self.payload.len())
            .finish()
    }
}

/// What a publisher's connection yields, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Media {
    /// How to decode the frames of this track from here on. Comes before the first of them and again only
    /// when it differs: packaging then needs a new init segment.
    Configuration {
        /// The track it is for.
        track: Track,
        /// The decoder configuration.
        configuration: Arc<Configuration>,
    },
    /// A frame.
    Frame(Frame),
    /// The publisher's clock jumped and was mended: the frames before and after may not belong together, and
    /// wall-clock dates have to be taken anew. Frame timestamps go on without a hole.
    Discontinuity {
        /// How far the publisher's clock moved, in milliseconds; negative is backwards.
        jump_ms: i64,
    },
    /// A track in a coding this engine does not take; said once for each coding. Its frames are dropped.
    Unsupported {
        /// The track.
        track: Track,
        /// What the coding is called.
        coding: String,
    },
}
