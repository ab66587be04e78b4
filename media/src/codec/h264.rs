//! H.264: the AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) and what is needed of the sequence parameter set
//! (ITU-T H.264, 7.3.2.1.1 and E.1.1).

use bytes::{BufMut, Bytes, BytesMut};

use super::{Error, Picture, Sight, nal_units};
use crate::bits::{BitReader, ByteReader, Read, Truncated, unescaped};

/// NAL unit types (ITU-T H.264, table 7-1).
mod unit {
    pub(super) const SLICE: u8 = 1;
    pub(super) const SLICE_OF_IDR: u8 = 5;
    pub(super) const SPS: u8 = 7;
    pub(super) const PPS: u8 = 8;
}

/// How to decode an H.264 track.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// The `avcC` record.
    pub record: Bytes,
    /// `profile_idc`.
    pub profile: u8,
    /// The constraint flags, as they follow the profile.
    pub constraints: u8,
    /// `level_idc`: ten times the level.
    pub level: u8,
    /// Bytes before each NAL unit that tell its length.
    pub length_size: u8,
    /// The first sequence parameter set, with its NAL header.
    pub sps: Bytes,
    /// The first picture parameter set, with its NAL header.
    pub pps: Bytes,
    /// The picture, as the sequence parameter set has it.
    pub picture: Picture,
}

impl Configuration {
    /// Reads an `avcC` record.
    pub fn parse(record: &Bytes) -> Result<Self, Error> {
        let mut reader = ByteReader::new(record);
        if reader.u8()? != 1 {
            return Err(Error::Invalid("version of the avcC record"));
        }
        let (profile, constraints, level) = (reader.u8()?, reader.u8()?, reader.u8()?);
        let length_size = (reader.u8()? & 3) + 1;
        let sps = first_of(&mut reader, 0x1f)?.ok_or(Error::Invalid("avcC record without an SPS"))?;
        let pps = first_of(&mut reader, 0xff)?.ok_or(Error::Invalid("avcC record without a PPS"))?;
        let picture = sequence_parameters(sps)?;
        Ok(Self {
            profile,
            constraints,
            level,
            length_size,
            sps: record.slice_ref(sps),
            pps: record.slice_ref(pps),
            picture,
            record: record.clone(),
        })
    }

    /// Makes a record of parameter sets that came inside the stream, for units with 4-byte lengths.
    pub fn from_parameter_sets(sps: &[u8], pps: &[u8]) -> Result<Self, Error> {
        let [_, profile, constraints, level, ..] = *sps else { return Err(Truncated.into()) };
        let (sps_len, pps_len) = match (u16::try_from(sps.len()), u16::try_from(pps.len())) {
            (Ok(sps_len), Ok(pps_len)) => (sps_len, pps_len),
            _ => return Err(Error::Invalid("length of a parameter set")),
        };
        let mut record = BytesMut::with_capacity(16 + sps.len() + pps.len());
        record.put_slice(&[1, profile, constraints, level, 0xff, 0xe1]);
        record.put_u16(sps_len);
        record.put_slice(sps);
        record.put_u8(1);
        record.put_u16(pps_len);
        record.put_slice(pps);
        if matches!(profile, 100 | 110 | 122 | 144) {
            let chroma = sequence_chroma(sps)?;
            record.put_slice(&[0xfc | chroma.format, 0xf8 | chroma.luma_depth, 0xf8 | chroma.depth, 0]);
        }
        Self::parse(&record.freeze())
    }

    /// `avc1.` and profile, constraints and level in hexadecimal (RFC 6381, section 3.3).
    pub fn codecs(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }

    /// What is in a frame of this track. A frame whose lengths do not add up is refused.
    pub fn look(&self, payload: &[u8]) -> Result<Sight, Truncated> {
        let mut sight = Sight { keyframe: false, picture: false };
        for nal in nal_units(payload, self.length_size) {
            match nal?.first().map(|header| header & 0x1f) {
                Some(unit::SLICE_OF_IDR) => sight = Sight { keyframe: true, picture: true },
                Some(unit::SLICE..unit::SLICE_OF_IDR) => sight.picture = true,
                _ => {}
            }
        }
        Ok(sight)
    }

    /// The configuration that parameter sets inside this frame ask for, when it differs from this one. Sets that
    /// cannot be read change nothing.
    pub fn changed_by(&self, payload: &[u8]) -> Option<Self> {
        let (sps, pps) = parameter_sets(payload, self.length_size);
        let sps = sps.filter(|sps| *sps != self.sps);
        if sps.is_none() && pps.is_none_or(|pps| pps == self.pps) || self.length_size != 4 {
            return None;
        }
        Self::from_parameter_sets(sps.unwrap_or(&self.sps), pps.unwrap_or(&self.pps)).ok()
    }
}

/// The first SPS and the first PPS inside a frame.
pub fn parameter_sets(payload: &[u8], length_size: u8) -> (Option<&[u8]>, Option<&[u8]>) {
    let (mut sps, mut pps) = (None, None);
    for nal in nal_units(payload, length_size).map_while(Result::ok) {
        match nal.first().map(|header| header & 0x1f) {
            Some(unit::SPS) => sps = sps.or(Some(nal)),
            Some(unit::PPS) => pps = pps.or(Some(nal)),
            // Parameter sets stand before the pictures that use them.
            Some(unit::SLICE..=unit::SLICE_OF_IDR) => break,
            _ => {}
        }
    }
    (sps, pps)
}

/// Reads a list of parameter sets, its count under `mask`, and gives the first that is not empty.
fn first_of<'a>(reader: &mut ByteReader<'a>, mask: u8) -> Read<Option<&'a [u8]>> {
    let mut first = None;
    for _ in 0..reader.u8()? & mask {
        let length = reader.u16()?;
        let set = reader.take(length.into())?;
        if !set.is_empty() {
            first = first.or(Some(set));
        }
    }
    Ok(first)
}

struct Chroma {
    format: u8,
    luma_depth: u8,
    depth: u8,
    separate_planes: bool,
}

fn sequence_chroma(sps: &[u8]) -> Result<Chroma, Error> {
    let plain = unescaped(sps);
    let mut reader = BitReader::new(&plain);
    reader.skip(8)?;
    Ok(chroma(&mut reader)?)
}

/// From `profile_idc` to the bit depths.
fn chroma(reader: &mut BitReader<'_>) -> Read<Chroma> {
    let profile = reader.bits(8)?;
    reader.skip(16)?;
    reader.ue()?;
    let mut chroma = Chroma { format: 1, luma_depth: 0, depth: 0, separate_planes: false };
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        let format = reader.ue()?;
        chroma.format = (format & 3) as u8;
        chroma.separate_planes = format == 3 && reader.flag()?;
        chroma.luma_depth = (reader.ue()? & 7) as u8;
        chroma.depth = (reader.ue()? & 7) as u8;
        reader.skip(1)?;
        if reader.flag()? {
            for list in 0..if format == 3 { 12 } else { 8 } {
                if reader.flag()? {
                    scaling_list(reader, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    Ok(chroma)
}

fn scaling_list(reader: &mut BitReader<'_>, size: u32) -> Read<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + i64::from(reader.se()?)).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// Size and rate of the pictures a sequence parameter set describes.
pub fn sequence_parameters(sps: &[u8]) -> Result<Picture, Error> {
    let plain = unescaped(sps);
    let mut reader = BitReader::new(&plain);
    if reader.bits(8)? & 0x1f != u32::from(unit::SPS) {
        return Err(Error::Invalid("NAL type of the SPS"));
    }
    let chroma = chroma(&mut reader)?;
    reader.ue()?;
    match reader.ue()? {
        0 => {
            reader.ue()?;
        }
        1 => {
            reader.skip(1)?;
            reader.se()?;
            reader.se()?;
            let cycle = reader.ue()?;
            if cycle > 255 {
                return Err(Error::Invalid("picture order count cycle"));
            }
            for _ in 0..cycle {
                reader.se()?;
            }
        }
        2 => {}
        _ => return Err(Error::Invalid("picture order count type")),
    }
    reader.ue()?;
    reader.skip(1)?;
    let width_mbs = u64::from(reader.ue()?) + 1;
    let height_units = u64::from(reader.ue()?) + 1;
    let frame_mbs_only = reader.flag()?;
    if !frame_mbs_only {
        reader.skip(1)?;
    }
    reader.skip(1)?;
    let fields: u64 = if frame_mbs_only { 1 } else { 2 };
    let (mut width, mut height) = (width_mbs * 16, height_units * 16 * fields);
    if reader.flag()? {
        let (horizontal, vertical) = match (chroma.format, chroma.separate_planes) {
            (1, _) => (2, 2),
            (2, _) => (2, 1),
            _ => (1, 1),
        };
        let sides = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * horizontal;
        let ends = (u64::from(reader.ue()?) + u64::from(reader.ue()?)) * vertical * fields;
        width = width.saturating_sub(sides);
        height = height.saturating_sub(ends);
    }
    let (Ok(width), Ok(height)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(Error::Invalid("picture size"));
    };
    if width == 0 || height == 0 {
        return Err(Error::Invalid("picture size"));
    }
    // What follows is optional; a set that ends inside it still describes its pictures.
    let frames_per_s = usability_rate(&mut reader).unwrap_or(None);
    Ok(Picture { width: width.into(), height: height.into(), frames_per_s })
}

/// The frame rate of the video usability information (E.1.1): two fields make a frame.
fn usability_rate(reader: &mut BitReader<'_>) -> Read<Option<f64>> {
    const EXTENDED_SAR: u32 = 255;
    if !reader.flag()? {
        return Ok(None);
    }
    if reader.flag()? && reader.bits(8)? == EXTENDED_SAR {
        reader.skip(32)?;
    }
    if reader.flag()? {
        reader.skip(1)?;
    }
    if reader.flag()? {
        reader.skip(4)?;
        if reader.flag()? {
            reader.skip(24)?;
        }
    }
    if reader.flag()? {
        reader.ue()?;
        reader.ue()?;
    }
    if !reader.flag()? {
        return Ok(None);
    }
    let units = reader.bits(32)?;
    let time_scale = reader.bits(32)?;
    Ok(Picture::rate(time_scale, 2 * u64::from(units)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by x264: 1280x720, 30 pictures a second, High profile, level 3.1.
    const AVCC_720P30: &[u8] = &[
        0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
        0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
        0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];
    /// Made by x264: 854x480 interlaced, cropped at both edges, 30000/1001 pictures a second.
    const AVCC_480I: &[u8] = &[
        0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0xd8, 0x7b,
        0xcd, 0xe0, 0x22, 0x00, 0x00, 0x07, 0xd2, 0x00, 0x01, 0xd4, 0xc0, 0x3e, 0x2c, 0x5b, 0x2c, 0x01, 0x00,
        0x06, 0x68, 0xfb, 0xa3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];

    fn fixed(bytes: &'static [u8]) -> Bytes {
        Bytes::from_static(bytes)
    }

    #[test]
    fn an_avcc_record_tells_size_profile_and_rate() {
        let configuration = Configuration::parse(&fixed(AVCC_720P30)).unwrap();
        assert_eq!(configuration.codecs(), "avc1.64001f");
        assert_eq!(configuration.length_size, 4);
        assert_eq!((configuration.picture.width, configuration.picture.height), (1280, 720));
        assert_eq!(configuration.picture.frames_per_s, Some(30.0));

        let interlaced = Configuration::parse(&fixed(AVCC_480I)).unwrap().picture;
        assert_eq!((interlaced.width, interlaced.height), (854, 480));
        assert_eq!(interlaced.frames_per_s, Some(30_000.0 / 1_001.0));
    }

    #[test]
    fn a_record_is_made_again_from_its_parameter_sets() {
        let given = Configuration::parse(&fixed(AVCC_720P30)).unwrap();
        let made = Configuration::from_parameter_sets(&given.sps, &given.pps).unwrap();
        assert_eq!(made.record, given.record);
    }

    #[test]
    fn a_record_cut_anywhere_is_refused_and_nothing_panics() {
        for end in 0..AVCC_720P30.len() - 4 {
            assert!(Configuration::parse(&fixed(&AVCC_720P30[..end])).is_err(), "cut at {end}");
        }
        for bit in 0..AVCC_720P30.len() * 8 {
            let mut record = AVCC_720P30.to_vec();
            record[bit / 8] ^= 1 << (bit % 8);
            drop(Configuration::parse(&record.into()));
        }
    }

    #[test]
    fn a_keyframe_is_told_by_its_slices() {
        let configuration = Configuration::parse(&fixed(AVCC_720P30)).unwrap();
        let look = |payload: &[u8]| configuration.look(payload);
        assert_eq!(look(&[0, 0, 0, 1, 0x65]), Ok(Sight { keyframe: true, picture: true }));
        assert_eq!(look(&[0, 0, 0, 1, 0x06, 0, 0, 0, 1, 0x41]), Ok(Sight { keyframe: false, picture: true }));
        assert_eq!(look(&[0, 0, 0, 1, 0x06]), Ok(Sight { keyframe: false, picture: false }));
        assert_eq!(look(&[0, 0, 0, 9, 0x65]), Err(Truncated));
    }

    #[test]
    fn parameter_sets_inside_a_frame_change_the_configuration_only_when_they_differ() {
        let given = Configuration::parse(&fixed(AVCC_720P30)).unwrap();
        let frame = |sps: &[u8], pps: &[u8]| {
            let mut payload = Vec::new();
            for nal in [sps, pps, &[0x65, 1, 2]] {
                payload.extend((nal.len() as u32).to_be_bytes());
                payload.extend(nal);
            }
            payload
        };
        assert_eq!(given.changed_by(&frame(&given.sps, &given.pps)), None);
        let other = Configuration::parse(&fixed(AVCC_480I)).unwrap();
        assert_eq!(given.changed_by(&frame(&other.sps, &other.pps)), Some(other));
        assert_eq!(given.changed_by(&[0, 0, 0, 2, 0x67, 0x64]), None, "what cannot be read changes nothing");
    }
}
