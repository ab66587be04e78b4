//! Decoder configurations and what the coded data tells about itself.
//!
//! A configuration keeps the record as it came (`avcC`, `hvcC`, `av1C`, AudioSpecificConfig, `OpusHead`): packaging puts those very
//! bytes into the init segment. What is read out of it beside that is for playlists, clocks and people.

pub mod aac;
pub mod adts;
pub mod av1;
pub mod h264;
pub mod hevc;
pub mod ivf;
pub mod ogg;
pub mod opus;

use bytes::Bytes;

use crate::bits::{ByteReader, Truncated};
use crate::time::Timebase;

/// Why a configuration record was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record is shorter than it says.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// A field has a value the format does not allow, or one no decoder takes.
    #[error("the {0} cannot be right")]
    Invalid(&'static str),
}

/// How to decode a track.
#[derive(Debug, Clone, PartialEq)]
pub enum Configuration {
    /// H.264 (AVC).
    H264(h264::Configuration),
    /// H.265 (HEVC).
    Hevc(hevc::Configuration),
    /// AV1.
    Av1(av1::Configuration),
    /// AAC.
    Aac(aac::Configuration),
    /// Opus.
    Opus(opus::Configuration),
}

impl Configuration {
    /// The record as the publisher sent it.
    pub fn record(&self) -> &Bytes {
        match self {
            Self::H264(configuration) => &configuration.record,
            Self::Hevc(configuration) => &configuration.record,
            Self::Av1(configuration) => &configuration.record,
            Self::Aac(configuration) => &configuration.record,
            Self::Opus(configuration) => &configuration.record,
        }
    }

    /// The value for CODECS in a playlist (RFC 6381 and the registrations it names).
    pub fn codecs(&self) -> String {
        match self {
            Self::H264(configuration) => configuration.codecs(),
            Self::Hevc(configuration) => configuration.codecs(),
            Self::Av1(configuration) => configuration.codecs(),
            Self::Aac(configuration) => configuration.codecs(),
            Self::Opus(_) => "opus".to_owned(),
        }
    }

    /// The ticks in which this track's frames count time.
    pub fn timebase(&self) -> Timebase {
        match self {
            Self::H264(_) | Self::Hevc(_) | Self::Av1(_) => Timebase::VIDEO,
            Self::Aac(configuration) => Timebase::new(configuration.sample_rate_hz).unwrap_or(Timebase::OPUS),
            Self::Opus(_) => Timebase::OPUS,
        }
    }

    /// The picture, when it is one.
    pub fn picture(&self) -> Option<Picture> {
        match self {
            Self::H264(configuration) => Some(configuration.picture),
            Self::Hevc(configuration) => Some(configuration.picture),
            Self::Av1(configuration) => Some(configuration.picture),
            Self::Aac(_) | Self::Opus(_) => None,
        }
    }
}

/// What a picture is like.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Picture {
    /// Width in pixels as shown, after cropping.
    pub width: u32,
    /// Height in pixels as shown, after cropping.
    pub height: u32,
    /// Pictures a second, where the stream says so.
    pub frames_per_s: Option<f64>,
}

impl Picture {
    /// The rate of `time_scale` units a second with `units` of them for each picture, when that is one between
    /// 1 and 1000.
    fn rate(time_scale: u32, units: u64) -> Option<f64> {
        if units == 0 {
            return None;
        }
        let rate = f64::from(time_scale) / units as f64;
        (1.0..=1_000.0).contains(&rate).then_some(rate)
    }
}

/// The NAL units of one frame, each behind its length in `length_size` bytes (ISO/IEC 14496-15, 4.3.3.2). Ends with an
/// error where a unit claims more than is there.
pub fn nal_units(payload: &[u8], length_size: u8) -> NalUnits<'_> {
    NalUnits { rest: ByteReader::new(payload), length_size }
}

/// Iterator over NAL units; see [`nal_units`].
#[derive(Debug, Clone)]
pub struct NalUnits<'a> {
    rest: ByteReader<'a>,
    length_size: u8,
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Result<&'a [u8], Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let length = match self.length_size {
            1 => self.rest.u8().map(u32::from),
            2 => self.rest.u16().map(u32::from),
            3 => self.rest.u24(),
            _ => self.rest.u32(),
        };
        let unit = length.and_then(|length| self.rest.take(length as usize));
        if unit.is_err() {
            self.rest = ByteReader::new(&[]);
        }
        Some(unit)
    }
}

/// What a look into a video frame tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Decoding can start here.
    pub keyframe: bool,
    /// There is a picture in it, not only parameter sets or messages.
    pub picture: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nal_units_are_told_apart_by_their_lengths() {
        let payload = [0, 0, 0, 2, 0x65, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x41];
        let units: Vec<_> = nal_units(&payload, 4).collect();
        assert_eq!(units, [Ok(&[0x65, 1][..]), Ok(&[][..]), Ok(&[0x41][..])]);
        assert_eq!(nal_units(&[0, 1, 9], 2).collect::<Vec<_>>(), [Ok(&[9][..])]);
    }

    #[test]
    fn a_nal_unit_longer_than_its_frame_ends_the_walk_with_an_error() {
        for payload in [&[0xff, 0xff, 0xff, 0xff, 1][..], &[0, 0, 0][..], &[0, 0, 0, 2, 1][..]] {
            assert_eq!(nal_units(payload, 4).collect::<Vec<_>>(), [Err(Truncated)]);
        }
    }

    #[test]
    fn a_rate_nobody_means_is_no_rate() {
        assert_eq!(Picture::rate(60, 2), Some(30.0));
        assert_eq!(Picture::rate(60, 0), None);
        assert_eq!(Picture::rate(u32::MAX, 1), None);
    }
}
