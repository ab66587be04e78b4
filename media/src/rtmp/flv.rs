//! The bodies of audio and video messages: FLV tags (FLV 10.1, annex E.4) and their extension by enhanced RTMP v2.
//!
//! What this engine does not know it names or passes over; it never guesses.

use bytes::Bytes;

use crate::bits::{ByteReader, Read, Truncated};

/// A coding this engine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// H.264.
    H264,
    /// H.265.
    Hevc,
    /// AV1.
    Av1,
    /// AAC.
    Aac,
    /// Opus.
    Opus,
}

/// What a tag holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// A decoder configuration record.
    Configuration {
        /// In this coding.
        coding: Coding,
        /// The record.
        record: Bytes,
    },
    /// Coded media.
    Media {
        /// In this coding.
        coding: Coding,
        /// From decoding to showing, in milliseconds.
        composition_ms: i32,
        /// What the tag says; the data knows better.
        keyframe: bool,
        /// The coded data.
        payload: Bytes,
    },
    /// A track beside the first one.
    OtherTrack,
    /// A coding this engine does not take.
    Unsupported(String),
    /// Nothing to play: ends of sequences, colour information, commands to the decoder.
    Nothing,
}

const FRAME_KEY: u8 = 1;
const FRAME_COMMAND: u8 = 5;
const EX_VIDEO: u8 = 0x80;
const SOUND_AAC: u8 = 10;
const SOUND_EX: u8 = 9;

/// Packet types of enhanced RTMP; 0 to 2 mean the same in sound and pictures.
mod packet {
    pub(super) const SEQUENCE_START: u8 = 0;
    pub(super) const CODED_FRAMES: u8 = 1;
    pub(super) const CODED_FRAMES_X: u8 = 3;
    pub(super) const MULTITRACK_AUDIO: u8 = 5;
    pub(super) const MULTITRACK_VIDEO: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

/// Multitrack types of enhanced RTMP.
mod multitrack {
    pub(super) const ONE_TRACK: u8 = 0;
    pub(super) const MANY_TRACKS: u8 = 1;
    pub(super) const MANY_CODINGS: u8 = 2;
}

/// Reads the body of a video message.
pub fn video(body: &Bytes) -> Result<Tag, Truncated> {
    let mut reader = ByteReader::new(body);
    let first = reader.u8()?;
    if first & EX_VIDEO != 0 {
        let frame = first >> 4 & 7;
        let mut packet = first & 0xf;
        skip_modifiers(&mut reader, &mut packet)?;
        if frame == FRAME_COMMAND {
            return Ok(Tag::Nothing);
        }
        let (four_cc, data) = match enhanced(&mut reader, &mut packet, packet::MULTITRACK_VIDEO)? {
            Some(found) => found,
            None => return Ok(Tag::OtherTrack),
        };
        let coding = match &four_cc {
            b"avc1" => Coding::H264,
            b"hvc1" => Coding::Hevc,
            b"av01" => Coding::Av1,
            _ => return Ok(Tag::Unsupported(name(four_cc))),
        };
        let mut reader = ByteReader::new(data);
        let composition_ms = match (packet, coding) {
            (packet::CODED_FRAMES, Coding::H264 | Coding::Hevc) => reader.i24()?,
            _ => 0,
        };
        let data = body.slice_ref(reader.rest());
        return Ok(match packet {
            packet::SEQUENCE_START => Tag::Configuration { coding, record: data },
            packet::CODED_FRAMES | packet::CODED_FRAMES_X => {
                Tag::Media { coding, composition_ms, keyframe: frame == FRAME_KEY, payload: data }
            }
            _ => Tag::Nothing,
        });
    }
    if first >> 4 == FRAME_COMMAND {
        return Ok(Tag::Nothing);
    }
    let coding = match first & 0xf {
        7 => Coding::H264,
        // Not in the standard, but what Chinese encoders send.
        12 => Coding::Hevc,
        other => return Ok(Tag::Unsupported(legacy_video(other))),
    };
    let packet = reader.u8()?;
    let composition_ms = reader.i24()?;
    let data = body.slice_ref(reader.rest());
    Ok(match packet {
        0 => Tag::Configuration { coding, record: data },
        1 => Tag::Media { coding, composition_ms, keyframe: first >> 4 == FRAME_KEY, payload: data },
        _ => Tag::Nothing,
    })
}

/// Reads the body of an audio message.
pub fn audio(body: &Bytes) -> Result<Tag, Truncated> {
    let mut reader = ByteReader::new(body);
    let first = reader.u8()?;
    let media = |coding, payload| Tag::Media { coding, composition_ms: 0, keyframe: true, payload };
    match first >> 4 {
        SOUND_AAC => {
            let packet = reader.u8()?;
            let data = body.slice_ref(reader.rest());
            Ok(match packet {
                0 => Tag::Configuration { coding: Coding::Aac, record: data },
                1 => media(Coding::Aac, data),
                _ => Tag::Nothing,
            })
        }
        SOUND_EX => {
            let mut packet = first & 0xf;
            skip_modifiers(&mut reader, &mut packet)?;
            let (four_cc, data) = match enhanced(&mut reader, &mut packet, packet::MULTITRACK_AUDIO)? {
                Some(found) => found,
                None => return Ok(Tag::OtherTrack),
            };
            let coding = match &four_cc {
                b"mp4a" => Coding::Aac,
                b"Opus" => Coding::Opus,
                _ => return Ok(Tag::Unsupported(name(four_cc))),
            };
            let data = body.slice_ref(data);
            Ok(match packet {
                packet::SEQUENCE_START => Tag::Configuration { coding, record: data },
                packet::CODED_FRAMES => media(coding, data),
                _ => Tag::Nothing,
            })
        }
        other => Ok(Tag::Unsupported(legacy_audio(other))),
    }
}

/// Passes over modifiers (ModEx) in front of the packet, each of which says what follows it.
fn skip_modifiers(reader: &mut ByteReader<'_>, packet: &mut u8) -> Read<()> {
    while *packet == packet::MOD_EX {
        let length = match usize::from(reader.u8()?) + 1 {
            256 => usize::from(reader.u16()?) + 1,
            length => length,
        };
        reader.skip(length)?;
        *packet = reader.u8()? & 0xf;
    }
    Ok(())
}

/// The FourCC and the data of the first track; none when the message has only others.
fn enhanced<'a>(
    reader: &mut ByteReader<'a>,
    packet: &mut u8,
    multitrack: u8,
) -> Read<Option<([u8; 4], &'a [u8])>> {
    if *packet != multitrack {
        return Ok(Some((reader.array()?, reader.rest())));
    }
    let first = reader.u8()?;
    *packet = first & 0xf;
    let (kind, mut four_cc) = match first >> 4 {
        kind @ (multitrack::ONE_TRACK | multitrack::MANY_TRACKS) => (kind, Some(reader.array()?)),
        multitrack::MANY_CODINGS => (multitrack::MANY_CODINGS, None),
        _ => return Ok(None),
    };
    while !reader.is_empty() {
        if kind == multitrack::MANY_CODINGS {
            four_cc = Some(reader.array()?);
        }
        let track = reader.u8()?;
        let data = match kind {
            multitrack::ONE_TRACK => reader.take(reader.len())?,
            _ => {
                let length = reader.u24()?;
                reader.take(length as usize)?
            }
        };
        if let (0, Some(four_cc)) = (track, four_cc) {
            return Ok(Some((four_cc, data)));
        }
    }
    Ok(None)
}

fn name(four_cc: [u8; 4]) -> String {
    four_cc.iter().map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '?' }).collect()
}

fn legacy_video(id: u8) -> String {
    match id {
        2 => "Sorenson H.263".to_owned(),
        3 | 6 => "Screen video".to_owned(),
        4 | 5 => "On2 VP6".to_owned(),
        other => format!("FLV video coding {other}"),
    }
}

fn legacy_audio(id: u8) -> String {
    match id {
        0 | 3 => "linear PCM".to_owned(),
        1 => "ADPCM".to_owned(),
        2 | 14 => "MP3".to_owned(),
        4..=6 => "Nellymoser".to_owned(),
        7 => "G.711 A-law".to_owned(),
        8 => "G.711 µ-law".to_owned(),
        11 => "Speex".to_owned(),
        other => format!("FLV audio coding {other}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture(coding: Coding, composition_ms: i32, keyframe: bool, payload: &'static [u8]) -> Tag {
        Tag::Media { coding, composition_ms, keyframe, payload: Bytes::from_static(payload) }
    }

    #[test]
    fn pictures_in_all_forms_are_read() {
        let record = |coding| Tag::Configuration { coding, record: Bytes::from_static(&[9]) };
        for (body, tag) in [
            (&[0x17, 0, 0, 0, 0, 9][..], record(Coding::H264)),
            (&[0x17, 1, 0, 0, 80, 9], picture(Coding::H264, 80, true, &[9])),
            (&[0x27, 1, 0xff, 0xff, 0xb0, 9], picture(Coding::H264, -80, false, &[9])),
            (&[0x17, 2, 0, 0, 0], Tag::Nothing),
            (&[0x1c, 0, 0, 0, 0, 9], record(Coding::Hevc)),
            (&[0x57, 0], Tag::Nothing),
            (b"\x90hvc1\x09", record(Coding::Hevc)),
            (b"\x91hvc1\0\0\x28\x09", picture(Coding::Hevc, 40, true, &[9])),
            (b"\xa3hvc1\x09", picture(Coding::Hevc, 0, false, &[9])),
            (b"\x91avc1\xff\xff\xff\x09", picture(Coding::H264, -1, true, &[9])),
            (b"\x91av01\x09", picture(Coding::Av1, 0, true, &[9])),
            (b"\x92av01", Tag::Nothing),
            (b"\x94hvc1\x02", Tag::Nothing),
            (b"\xd0\x00", Tag::Nothing),
            (b"\x90vp09\x09", Tag::Unsupported("vp09".into())),
            (b"\x90\xff\x00vp\x09", Tag::Unsupported("??vp".into())),
            (&[0x14, 0], Tag::Unsupported("On2 VP6".into())),
            // A modifier of two bytes (a time offset) before the frames, and one longer than 255.
            (b"\x97\x01\xaa\xbb\x03hvc1\x09", picture(Coding::Hevc, 0, true, &[9])),
        ] {
            assert_eq!(video(&Bytes::from_static(body)), Ok(tag), "{body:02x?}");
        }
        let mut long = b"\x97\xff\x01\x00".to_vec();
        long.extend([0; 257]);
        long.extend(b"\x03hvc1\x09");
        assert_eq!(video(&long.into()), Ok(picture(Coding::Hevc, 0, true, &[9])));
    }

    #[test]
    fn the_first_of_many_tracks_is_taken_and_the_others_are_passed_over() {
        for (body, tag) in [
            (&b"\x96\x03hvc1\x00\x09"[..], picture(Coding::Hevc, 0, true, &[9])),
            (b"\x96\x03hvc1\x01\x09", Tag::OtherTrack),
            (b"\x96\x13hvc1\x01\0\0\x01\x07\x00\0\0\x01\x09", picture(Coding::Hevc, 0, true, &[9])),
            (b"\x96\x23av01\x01\0\0\x01\x07hvc1\x00\0\0\x01\x09", picture(Coding::Hevc, 0, true, &[9])),
            (b"\x96\xf3hvc1", Tag::OtherTrack),
        ] {
            assert_eq!(video(&Bytes::from_static(body)), Ok(tag), "{body:02x?}");
        }
        assert_eq!(video(&Bytes::from_static(b"\x96\x13hvc1\x01\xff\xff\xff\x07")), Err(Truncated));
    }

    #[test]
    fn sound_in_all_forms_is_read() {
        let record = |coding| Tag::Configuration { coding, record: Bytes::from_static(&[9]) };
        for (body, tag) in [
            (&[0xaf, 0, 9][..], record(Coding::Aac)),
            (&[0xaf, 1, 9], picture(Coding::Aac, 0, true, &[9])),
            (&[0xaf, 7, 9], Tag::Nothing),
            (b"\x90Opus\x09", record(Coding::Opus)),
            (b"\x91Opus\x09", picture(Coding::Opus, 0, true, &[9])),
            (b"\x91mp4a\x09", picture(Coding::Aac, 0, true, &[9])),
            (b"\x94Opus\x09", Tag::Nothing),
            (b"\x95\x01Opus\x00\x09", picture(Coding::Opus, 0, true, &[9])),
            (b"\x95\x01Opus\x07\x09", Tag::OtherTrack),
            (b"\x91fLaC\x09", Tag::Unsupported("fLaC".into())),
            (&[0x82, 1], Tag::Unsupported("G.711 µ-law".into())),
            (&[0x2f, 1], Tag::Unsupported("MP3".into())),
        ] {
            assert_eq!(audio(&Bytes::from_static(body)), Ok(tag), "{body:02x?}");
        }
    }

    #[test]
    fn short_bodies_are_truncated() {
        for body in [&[][..], &[0x17], &[0x17, 1, 0, 0], b"\x91hvc1\0\0", b"\x97", b"\x97\xff\xff", b"\x96"] {
            assert_eq!(video(&Bytes::from_static(body)), Err(Truncated), "{body:02x?}");
        }
        for body in [&[][..], &[0xaf], b"\x90Opu", b"\x97\x05"] {
            assert_eq!(audio(&Bytes::from_static(body)), Err(Truncated), "{body:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(first in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..60)) {
            let body = Bytes::from([vec![first], rest].concat());
            drop(video(&body));
            drop(audio(&body));
        }
    }
}
