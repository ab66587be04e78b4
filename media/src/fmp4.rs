//! Fragmented MP4 as browsers and HLS take it (ISO/IEC 14496-12, CMAF): an init segment for a set of tracks, and fragments.
//!
//! The boxes are written here and not by a crate: a decoder's record goes in with the very bytes the publisher sent, a
//! fragment is one allocation of its exact size, and there are only two dozen boxes. The tests read everything back with
//! `mp4-atom` and ffprobe.

mod boxes;
mod fragment;
mod init;
pub mod reader;

pub use fragment::{Run, Sample, fragment};
pub use init::{TrackEntry, init};
pub use reader::Reader;
