//! H.265: the HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1) and the size in the sequence parameter set
//! (ITU-T H.265, 7.3.2.2).

use std::fmt::Write;

use bytes::Bytes;

use super::{Error, Picture, Sight, nal_units};
use crate::bits::{BitReader, ByteReader, Read, Truncated, unescaped};

/// NAL unit types (ITU-T H.265, table 7-1).
mod unit {
    /// Up to here units carry slices.
    pub(super) const SLICE_LAST: u8 = 31;
    pub(super) const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=21;
    pub(super) const SPS: u8 = 33;
}

/// How to decode an HEVC track.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The `hvcC` record.
    pub record: Bytes,
    /// `general_profile_space`, 0 to 3.
    pub profile_space: u8,
    /// `general_profile_idc`.
    pub profile: u8,
    /// Whether the tier is the high one.
    pub high_tier: bool,
    /// `general_profile_compatibility_flags`.
    pub compatibility: u32,
    /// The six bytes of constraint flags.
    pub constraints: [u8; 6],
    /// `general_level_idc`: thirty times the level.
    pub level: u8,
    /// Bytes before each NAL unit that tell its length.
    pub length_size: u8,
    /// The picture; its rate is the average the record gives, where it does.
    pub picture: Picture,
}

impl Configuration {
    /// Reads an `hvcC` record.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let mut reader = ByteReader::new(record);
        // Version 0 was written by drafts that did not change the layout.
        if reader.u8()? > 1 {
            return Err(Error::Invalid("version of the hvcC record"));
        }
        let general = reader.u8()?;
        let compatibility = reader.u32()?;
        let constraints = reader.array::<6>()?;
        let level = reader.u8()?;
        reader.skip(2 + 1 + 1 + 1 + 1)?;
        let average_rate = reader.u16()?;
        let length_size = (reader.u8()? & 3) + 1;
        let mut picture = None;
        for _ in 0..reader.u8()? {
            let kind = reader.u8()? & 0x3f;
            for _ in 0..reader.u16()? {
                let length = reader.u16()?;
                let nal = reader.take(length.into())?;
                if kind == unit::SPS && picture.is_none() {
                    picture = Some(sequence_parameters(nal)?);
                }
            }
        }
        let mut picture = picture.ok_or(Error::Invalid("hvcC record without an SPS"))?;
        picture.frames_per_s = Picture::rate(average_rate.into(), 256);
        Ok(Self {
            record: record.clone(),
            profile_space: general >> 6,
            high_tier: general & 0x20 != 0,
            profile: general & 0x1f,
            compatibility,
            constraints,
            level,
            length_size,
            picture,
        })
    }

    /// `hvc1.` with profile, compatibility, tier and level, and constraints (ISO/IEC 14496-15, annex E.3).
    pub fn codecs(&self) -> String {
        let mut codecs = "hvc1.".to_owned();
        if let Some(space) = [None, Some('A'), Some('B'), Some('C')].get(usize::from(self.profile_space)) {
            codecs.extend(*space);
        }
        let tier = if self.high_tier { 'H' } else { 'L' };
        let compatibility = self.compatibility.reverse_bits();
        write!(codecs, "{}.{compatibility:x}.{tier}{}", self.profile, self.level)
            .expect("a String takes all");
        let used = self.constraints.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        for byte in self.constraints.iter().take(used) {
            write!(codecs, ".{byte:x}").expect("a String takes all");
        }
        codecs
    }

    /// What is in a frame of this track. A frame whose lengths do not add up is refused.
    pub fn look(&self, payload: &[u8]) -> Result<Sight, Truncated> {
        let mut sight = Sight { keyframe: false, picture: false };
        for nal in nal_units(payload, self.length_size) {
            let Some(kind) = nal?.first().map(|header| header >> 1 & 0x3f) else { continue };
            sight.picture |= kind <= unit::SLICE_LAST;
            sight.keyframe |= unit::RANDOM_ACCESS.contains(&kind);
        }
        Ok(sight)
    }
}

fn sequence_parameters(sps: &[u8]) -> Result<Picture, Error> {
    let plain = unescaped(sps);
    let mut reader = BitReader::new(&plain);
    reader.skip(16 + 4)?;
    let sub_layers = reader.bits(3)?;
    reader.skip(1)?;
    profile_tier_level(&mut reader, sub_layers)?;
    reader.ue()?;
    let chroma = reader.ue()?;
    let separate_planes = chroma == 3 && reader.flag()?;
    let (mut width, mut height) = (u64::from(reader.ue()?), u64::from(reader.ue()?));
    if reader.flag()? {
        let (horizontal, vertical) = match (chroma, separate_planes) {
            (1, _) => (2, 2),
            (2, _) => (2, 1),
            _ => (1, 1),
        };
        let sides = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * horizontal;
        let ends = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * vertical;
        width = width.saturating_sub(sides);
        height = height.saturating_sub(ends);
    }
    match (u16::try_from(width), u16::try_from(height)) {
        (Ok(width @ 1..), Ok(height @ 1..)) => {
            Ok(Picture { width: width.into(), height: height.into(), frames_per_s: None })
        }
        _ => Err(Error::Invalid("picture size")),
    }
}

/// Passes over profile_tier_level (7.3.3).
fn profile_tier_level(reader: &mut BitReader<'_>, sub_layers: u32) -> Read<()> {
    const PROFILE_BITS: usize = 88;
    const LEVEL_BITS: usize = 8;
    reader.skip(PROFILE_BITS + LEVEL_BITS)?;
    let mut bits = 0;
    for _ in 0..sub_layers {
        bits += if reader.flag()? { PROFILE_BITS } else { 0 };
        bits += if reader.flag()? { LEVEL_BITS } else { 0 };
    }
    if sub_layers > 0 {
        reader.skip(2 * (8 - sub_layers as usize))?;
    }
    reader.skip(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by x265: 1280x720, Main profile, level 3.1.
    const HVCC_720P: &[u8] = &[
        0x01, 0x01, 0x60, 0x00, 0x00, 0x00, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x5d, 0xf0, 0x00, 0xfc, 0xfd,
        0xf8, 0xf8, 0x00, 0x00, 0x0f, 0x03, 0xa0, 0x00, 0x01, 0x00, 0x18, 0x40, 0x01, 0x0c, 0x01, 0xff, 0xff,
        0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d, 0x95, 0x98,
        0x09, 0xa1, 0x00, 0x01, 0x00, 0x2b, 0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00,
        0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x5d, 0xa0, 0x02, 0x80, 0x80, 0x2d, 0x16, 0x59, 0x59, 0xa4, 0x93,
        0x2b, 0xc0, 0x5a, 0x02, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10, 0xa2, 0x00,
        0x01, 0x00, 0x07, 0x44, 0x01, 0xc1, 0x72, 0xb4, 0x62, 0x40,
    ];

    #[test]
    fn an_hvcc_record_tells_size_profile_and_rate() {
        let configuration = Configuration::parse(&Bytes::from_static(HVCC_720P)).unwrap();
        assert_eq!(configuration.codecs(), "hvc1.1.6.L93.90");
        assert_eq!((configuration.picture.width, configuration.picture.height), (1280, 720));
        assert_eq!(configuration.picture.frames_per_s, None, "x265 leaves the average out");

        let mut rated = HVCC_720P.to_vec();
        rated[19..21].copy_from_slice(&(30_u16 * 256).to_be_bytes());
        assert_eq!(Configuration::parse(&rated.into()).unwrap().picture.frames_per_s, Some(30.0));
        assert_eq!(configuration.length_size, 4);
    }

    #[test]
    fn a_record_cut_anywhere_is_refused_and_nothing_panics() {
        for end in 0..HVCC_720P.len() {
            assert!(Configuration::parse(&Bytes::from_static(&HVCC_720P[..end])).is_err(), "cut at {end}");
        }
        for bit in 0..HVCC_720P.len() * 8 {
            let mut broken = HVCC_720P.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            drop(Configuration::parse(&broken.into()));
        }
    }

    #[test]
    fn random_access_pictures_are_keyframes() {
        let configuration = Configuration::parse(&Bytes::from_static(HVCC_720P)).unwrap();
        let look = |kind: u8| configuration.look(&[0, 0, 0, 2, kind << 1, 1]).unwrap();
        for kind in [16, 19, 20, 21] {
            assert_eq!(look(kind), Sight { keyframe: true, picture: true });
        }
        assert_eq!(look(1), Sight { keyframe: false, picture: true });
        assert_eq!(look(unit::SPS), Sight { keyframe: false, picture: false });
    }
}
