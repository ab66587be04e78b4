//! AAC: the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).

use bytes::Bytes;

use super::Error;
use crate::bits::{BitReader, Read};

/// Table 1.18: sampling frequency by index.
const SAMPLE_RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// The index that says the frequency itself follows.
const RATE_FOLLOWS: u32 = 15;
/// Table 1.19: channels by configuration; 0 means that the stream describes them.
const CHANNELS: [u8; 15] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8];

/// Audio object types (table 1.17).
mod object {
    pub(super) const SBR: u32 = 5;
    pub(super) const PS: u32 = 29;
    pub(super) const ESCAPE: u32 = 31;
}

/// How to decode an AAC track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The AudioSpecificConfig.
    pub record: Bytes,
    /// The audio object type as signalled first: 2 for AAC-LC, 5 for HE-AAC, 29 for HE-AAC v2.
    pub object_type: u8,
    /// The rate at which the core codec counts its samples, and this track its time.
    pub sample_rate_hz: u32,
    /// Channels of the core codec; 0 when the record does not tell.
    pub channels: u8,
    /// Samples of the core codec in each frame: 1024, or 960 in broadcasting.
    pub frame_samples: u32,
}

impl Configuration {
    /// Reads an AudioSpecificConfig.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let mut reader = BitReader::new(record);
        let object_type = object_type(&mut reader)?;
        let sample_rate_hz = sample_rate(&mut reader)?;
        let channel_index = reader.bits(4)?;
        let mut core = object_type;
        if matches!(object_type, object::SBR | object::PS) {
            sample_rate(&mut reader)?;
            core = self::object_type(&mut reader)?;
        }
        if object_type == 0 || object_type > 95 {
            return Err(Error::Invalid("audio object type"));
        }
        if !(1_000..=192_000).contains(&sample_rate_hz) {
            return Err(Error::Invalid("sampling frequency"));
        }
        let mut channels = CHANNELS.get(channel_index as usize).copied().unwrap_or(0);
        let mut frame_samples = 1024;
        if matches!(core, 1..=4 | 6 | 7 | 17 | 19..=23) {
            let short = reader.flag()?;
            frame_samples = match (core, short) {
                // The low-delay object counts half.
                (23, true) => 480,
                (23, false) => 512,
                (_, true) => 960,
                (_, false) => 1024,
            };
            if reader.flag()? {
                reader.skip(14)?;
            }
            reader.skip(1)?;
            if channel_index == 0 {
                channels = program_channels(&mut reader)?;
            }
        }
        Ok(Self {
            record: record.clone(),
            object_type: object_type as u8,
            sample_rate_hz,
            channels,
            frame_samples,
        })
    }

    /// What stands before a frame of `len` bytes in a stream of its own (ADTS, ISO/IEC 14496-3, 1.A.2.2). None when the header cannot say
    /// what the stream is: channels it describes itself, frames of 960 samples, a rate or a core that has no number there.
    pub fn adts_header(&self, len: usize) -> Option<[u8; 7]> {
        let rate = SAMPLE_RATES_HZ.iter().position(|rate| *rate == self.sample_rate_hz)? as u8;
        // HE-AAC is AAC-LC with more in it.
        let core = match u32::from(self.object_type) {
            object::SBR | object::PS => 2,
            core @ 1..=4 => core as u8,
            _ => return None,
        };
        let channels =
            CHANNELS.iter().position(|channels| *channels == self.channels && *channels != 0)? as u8;
        let whole = u16::try_from(len + 7).ok().filter(|whole| *whole < 1 << 13)?;
        if self.frame_samples != 1_024 || channels > 7 {
            return None;
        }
        Some([
            0xFF,
            0xF1,
            (core - 1) << 6 | rate << 2 | channels >> 2,
            (channels & 3) << 6 | (whole >> 11) as u8,
            (whole >> 3) as u8,
            (whole << 5) as u8 | 0x1F,
            0xFC,
        ])
    }

    /// `mp4a.40.` and the object type (RFC 6381, section 3.3).
    pub fn codecs(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

fn object_type(reader: &mut BitReader<'_>) -> Read<u32> {
    match reader.bits(5)? {
        object::ESCAPE => Ok(32 + reader.bits(6)?),
        plain => Ok(plain),
    }
}

fn sample_rate(reader: &mut BitReader<'_>) -> Result<u32, Error> {
    match reader.bits(4)? {
        RATE_FOLLOWS => Ok(reader.bits(24)?),
        index => {
            SAMPLE_RATES_HZ.get(index as usize).copied().ok_or(Error::Invalid("sampling frequency index"))
        }
    }
}

/// The channels a program_config_element (4.4.1.1) lists.
fn program_channels(reader: &mut BitReader<'_>) -> Read<u8> {
    reader.skip(4 + 2 + 4)?;
    let elements = reader.bits(4)? + reader.bits(4)? + reader.bits(4)?;
    let low_frequency = reader.bits(2)?;
    reader.skip(3 + 4)?;
    for mixdown_bits in [4, 4, 3] {
        if reader.flag()? {
            reader.skip(mixdown_bits)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..elements {
        channels += if reader.flag()? { 2 } else { 1 };
        reader.skip(4)?;
    }
    Ok(channels as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_encoders_send_is_understood() {
        for (record, codecs, rate_hz, channels, samples) in [
            (&[0x12, 0x10][..], "mp4a.40.2", 44_100, 2, 1024),
            (&[0x11, 0x90], "mp4a.40.2", 48_000, 2, 1024),
            (&[0x11, 0x90, 0x56, 0xe5, 0x00], "mp4a.40.2", 48_000, 2, 1024),
            (&[0x11, 0xb0], "mp4a.40.2", 48_000, 6, 1024),
            (&[0x14, 0x08], "mp4a.40.2", 16_000, 1, 1024),
            (&[0x12, 0x14], "mp4a.40.2", 44_100, 2, 960),
            // HE-AAC, explicit: core 22.05 kHz, output 44.1 kHz.
            (&[0x2b, 0x92, 0x08, 0x00], "mp4a.40.5", 22_050, 2, 1024),
            (&[0xeb, 0x8a, 0x08, 0x00], "mp4a.40.29", 22_050, 1, 1024),
            // A rate of its own: index 15, then 24 bits.
            (&[0x17, 0x80, 0x5d, 0xc0, 0x10], "mp4a.40.2", 48_000, 2, 1024),
        ] {
            let configuration = Configuration::parse(&Bytes::from_static(record)).unwrap();
            assert_eq!(configuration.codecs(), codecs, "{record:02x?}");
            assert_eq!(
                (configuration.sample_rate_hz, configuration.channels, configuration.frame_samples),
                (rate_hz, channels, samples),
                "{record:02x?}"
            );
        }
    }

    #[test]
    fn a_frame_can_stand_in_a_stream_of_its_own_where_its_header_can_say_so() {
        let adts = |record: &'static [u8]| {
            Configuration::parse(&Bytes::from_static(record)).unwrap().adts_header(100)
        };
        // 44.1 kHz is number 4, stereo 2, and 107 bytes in all.
        assert_eq!(adts(&[0x12, 0x10]), Some([0xFF, 0xF1, 0x50, 0x80, 13, 0x7F, 0xFC]));
        assert_eq!(
            adts(&[0x2b, 0x92, 0x08, 0x00]).map(|header| header[2]),
            Some(0x5C),
            "its core, at its rate"
        );
        assert_eq!(adts(&[0x12, 0x14]), None, "frames of 960 samples");
        let usual = Configuration::parse(&Bytes::from_static(&[0x12, 0x10])).unwrap();
        assert_eq!(usual.adts_header(8_185), None, "longer than can be said");
    }

    #[test]
    fn channels_may_be_listed_one_by_one() {
        // Configuration 0, then front centre, front pair, back pair and a low-frequency channel.
        let bits = concat!(
            "00010", "0011", "0000", "0", "0", "0", // AAC-LC, 48 kHz, listed, 1024
            "0000", "01", "0011", "0010", "0000", "0001", "01", "000", "0000", "0", "0", "0", // counts
            "0", "0000", "1", "0000", "1", "0001", "0000",
        );
        let record: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0, |sum, (n, bit)| sum | (bit - b'0') << (7 - n)))
            .collect();
        assert_eq!(Configuration::parse(&record.into()).unwrap().channels, 6);
    }

    #[test]
    fn nonsense_is_refused() {
        for record in [&[][..], &[0x12], &[0x00, 0x00], &[0x16, 0xd0], &[0x17, 0x80, 0, 0, 0x10], &[0xff]] {
            assert!(Configuration::parse(&Bytes::from_static(record)).is_err(), "{record:02x?}");
        }
    }
}
