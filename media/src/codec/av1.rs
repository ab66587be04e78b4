//! AV1: the AV1CodecConfigurationRecord (AV1 in ISOBMFF, 2.3) and what is needed of the sequence and frame headers (AV1
//! specification, 5.3 to 5.9).

use bytes::Bytes;

use super::{Error, Picture, Sight};
use crate::bits::{BitReader, ByteReader, Read, Truncated};

/// OBU types (6.2.2).
mod obu {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const FRAME_HEADER: u8 = 3;
    pub(super) const FRAME: u8 = 6;
}

/// How to decode an AV1 track.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The `av1C` record.
    pub record: Bytes,
    /// `seq_profile`: 0 main, 1 high, 2 professional.
    pub profile: u8,
    /// `seq_level_idx` of the first operating point.
    pub level: u8,
    /// Whether the tier is the high one.
    pub high_tier: bool,
    /// Bits in a sample: 8, 10 or 12.
    pub bit_depth: u8,
    /// The picture, as the sequence header has it.
    pub picture: Picture,
}

impl Configuration {
    /// Reads an `av1C` record. It has to hold the sequence header: nothing else tells the size.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let mut reader = ByteReader::new(record);
        if reader.u8()? != 0x81 {
            return Err(Error::Invalid("version of the av1C record"));
        }
        let profile_level = reader.u8()?;
        let flags = reader.u8()?;
        reader.skip(1)?;
        let mut picture = None;
        for unit in Units::new(reader.rest()) {
            let (kind, body) = unit?;
            if kind == obu::SEQUENCE_HEADER {
                picture = Some(sequence_header(body)?);
                break;
            }
        }
        Ok(Self {
            record: record.clone(),
            profile: profile_level >> 5,
            level: profile_level & 0x1f,
            high_tier: flags & 0x80 != 0,
            bit_depth: match (flags & 0x40 != 0, flags & 0x20 != 0) {
                (false, _) => 8,
                (true, false) => 10,
                (true, true) => 12,
            },
            picture: picture.ok_or(Error::Invalid("av1C record without a sequence header"))?,
        })
    }

    /// `av01.` with profile, level and tier, and bit depth (AV1 in ISOBMFF, section 5).
    pub fn codecs(&self) -> String {
        let tier = if self.high_tier { 'H' } else { 'M' };
        format!("av01.{}.{:02}{tier}.{:02}", self.profile, self.level, self.bit_depth)
    }

    /// What is in a temporal unit of this track. A unit whose lengths do not add up is refused.
    pub fn look(&self, payload: &[u8]) -> Result<Sight, Truncated> {
        let mut sight = Sight { keyframe: false, picture: false };
        for unit in Units::new(payload) {
            let (kind, body) = unit?;
            if matches!(kind, obu::FRAME_HEADER | obu::FRAME) {
                // show_existing_frame, then frame_type, whose 0 is a key frame, then show_frame.
                let first = body.first().copied().unwrap_or(0x80);
                sight.keyframe |= first & 0b1111_0000 == 0b0001_0000;
                sight.picture = true;
            }
        }
        Ok(sight)
    }
}

/// The units of a temporal unit, each with its type.
struct Units<'a> {
    rest: ByteReader<'a>,
}

impl<'a> Units<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self { rest: ByteReader::new(data) }
    }

    fn unit(&mut self) -> Read<(u8, &'a [u8])> {
        let header = self.rest.u8()?;
        if header & 0x04 != 0 {
            self.rest.skip(1)?;
        }
        let length = if header & 0x02 != 0 { leb128(&mut self.rest)? } else { self.rest.len() };
        Ok((header >> 3 & 0xf, self.rest.take(length)?))
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = Read<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let unit = self.unit();
        if unit.is_err() {
            self.rest = ByteReader::new(&[]);
        }
        Some(unit)
    }
}

/// A number in LEB128 (4.10.5), at most 32 bits.
fn leb128(reader: &mut ByteReader<'_>) -> Read<usize> {
    let mut value = 0_u64;
    for group in 0..8 {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map(|value| value as usize).map_err(|_| Truncated);
        }
    }
    Err(Truncated)
}

/// Size and rate from a sequence header (5.5.1).
fn sequence_header(body: &[u8]) -> Result<Picture, Error> {
    let mut reader = BitReader::new(body);
    reader.skip(3 + 1)?;
    let mut frames_per_s = None;
    if reader.flag()? {
        reader.skip(5)?;
    } else {
        let mut delay_bits = None;
        if reader.flag()? {
            let (units, time_scale) = (reader.bits(32)?, reader.bits(32)?);
            if reader.flag()? {
                let ticks = u64::from(reader.uvlc()?) + 1;
                frames_per_s = Picture::rate(time_scale, u64::from(units).saturating_mul(ticks));
            }
            if reader.flag()? {
                delay_bits = Some(reader.bits(5)? as usize + 1);
                reader.skip(32 + 5 + 5)?;
            }
        }
        let display_delays = reader.flag()?;
        for _ in 0..=reader.bits(5)? {
            reader.skip(12)?;
            if reader.bits(5)? > 7 {
                reader.skip(1)?;
            }
            if let Some(bits) = delay_bits
                && reader.flag()?
            {
                reader.skip(2 * bits + 1)?;
            }
            if display_delays && reader.flag()? {
                reader.skip(4)?;
            }
        }
    }
    let (width_bits, height_bits) = (reader.bits(4)? + 1, reader.bits(4)? + 1);
    let (width, height) = (reader.bits(width_bits)? + 1, reader.bits(height_bits)? + 1);
    Ok(Picture { width, height, frames_per_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by libaom: 1280x720, Main profile, level 3.1, 8 bits.
    const AV1C: &[u8] = &[
        0x81, 0x05, 0x0c, 0x00, 0x0a, 0x0b, 0x00, 0x00, 0x00, 0x2d, 0x4c, 0xff, 0xb3, 0xcd, 0xaf, 0x90, 0x04,
    ];

    #[test]
    fn an_av1c_record_tells_size_and_profile() {
        let configuration = Configuration::parse(&Bytes::from_static(AV1C)).unwrap();
        assert_eq!(configuration.codecs(), "av01.0.05M.08");
        assert_eq!((configuration.picture.width, configuration.picture.height), (1280, 720));
        assert_eq!(configuration.picture.frames_per_s, None);
    }

    #[test]
    fn a_record_cut_or_bent_anywhere_does_not_panic() {
        for end in 0..AV1C.len() {
            assert!(Configuration::parse(&Bytes::from_static(&AV1C[..end])).is_err(), "cut at {end}");
        }
        for bit in 0..AV1C.len() * 8 {
            let mut broken = AV1C.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            drop(Configuration::parse(&broken.into()));
        }
    }

    #[test]
    fn key_frames_are_told_by_their_headers() {
        let configuration = Configuration::parse(&Bytes::from_static(AV1C)).unwrap();
        // A temporal delimiter, then a frame: shown key frame, shown inter frame, repeated frame.
        for (first, keyframe) in [(0x10, true), (0x30, false), (0x80, false), (0x00, false)] {
            let unit = [0x12, 0x00, 0x32, 0x02, first, 0x00];
            assert_eq!(configuration.look(&unit), Ok(Sight { keyframe, picture: true }));
        }
        assert_eq!(configuration.look(&[0x12, 0x00]), Ok(Sight { keyframe: false, picture: false }));
        assert_eq!(configuration.look(&[0x32, 0x7f, 0x10]), Err(Truncated));
    }
}
