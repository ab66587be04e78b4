//! Opus: the identification header (RFC 7845, section 5.1) and the length of packets (RFC 6716, section 3.1).

use bytes::Bytes;

use super::Error;
use crate::bits::ByteReader;

/// How to decode an Opus track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The `OpusHead` header.
    pub record: Bytes,
    /// Channels.
    pub channels: u8,
    /// Samples at 48 kHz to drop at the start.
    pub pre_skip: u16,
    /// The rate of the recording, for people: Opus counts at 48 kHz whatever it was.
    pub input_rate_hz: u32,
    /// Gain to apply, in 1/256 dB.
    pub gain: i16,
}

impl Configuration {
    /// Reads an `OpusHead`.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let mut reader = ByteReader::new(record);
        if reader.take(8)? != b"OpusHead" {
            return Err(Error::Invalid("name of the OpusHead"));
        }
        // The upper half of the version is incompatible, the lower is not (5.1, version).
        if reader.u8()? >> 4 != 0 {
            return Err(Error::Invalid("version of the OpusHead"));
        }
        let channels = reader.u8()?;
        let pre_skip = reader.u16_le()?;
        let input_rate_hz = reader.u32_le()?;
        let gain = reader.u16_le()? as i16;
        let family = reader.u8()?;
        if channels == 0 || family == 0 && channels > 2 {
            return Err(Error::Invalid("channels of the OpusHead"));
        }
        if family != 0 {
            reader.skip(2 + usize::from(channels))?;
        }
        Ok(Self { record: record.clone(), channels, pre_skip, input_rate_hz, gain })
    }
}

/// How many samples at 48 kHz a packet lasts, by its first bytes; none for an empty packet or one longer than
/// 120 ms, which RFC 6716 forbids.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        11 | 7 | 3 => 2_880,
        config @ 0..=11 => 480 << (config & 3),
        config @ 12..=15 => 480 << (config & 1),
        config => 120 << (config & 3),
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frame * frames;
    (1..=5_760).contains(&samples).then_some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opus_head_is_read() {
        let record = Bytes::from_static(b"OpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00");
        let configuration = Configuration::parse(&record).unwrap();
        assert_eq!((configuration.channels, configuration.pre_skip), (2, 312));
        assert_eq!((configuration.input_rate_hz, configuration.gain), (48_000, 0));
        for end in 0..record.len() {
            assert!(Configuration::parse(&record.slice(..end)).is_err());
        }
        assert!(Configuration::parse(&Bytes::from_static(b"OpusHead\x01\x03\0\0\0\0\0\0\0\0\0")).is_err());
    }

    #[test]
    fn packets_tell_their_length() {
        for (packet, samples) in [
            (&[0xfc_u8][..], Some(960)),
            (&[0xe0], Some(120)),
            (&[0x78], Some(960)),
            (&[0x18], Some(2_880)),
            (&[0x19], Some(5_760)),
            (&[0xff, 3], Some(2_880)),
            (&[0xff, 63], None),
            (&[0xff], None),
            (&[], None),
        ] {
            assert_eq!(packet_samples(packet), samples, "{packet:02x?}");
        }
    }
}
