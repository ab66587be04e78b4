//! The init segment: what has to be known before the first fragment.

use bytes::{BufMut, Bytes};

use super::boxes::{boxed, full};
use crate::codec::{Configuration, Picture, aac, opus};

/// The identity matrix in 16.16 and 2.30 fixed point (ISO/IEC 14496-12, 8.2.2).
const MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// ISO 639-2/T `und`, five bits a letter.
const LANGUAGE_UNDETERMINED: u16 = 0x55c4;

/// A track to be announced.
#[derive(Debug, Clone, Copy)]
pub struct TrackEntry<'a> {
    /// Its number, from 1; fragments refer to it.
    pub id: u32,
    /// How it is decoded. Fragments count time in this configuration's timebase.
    pub configuration: &'a Configuration,
}

/// Writes the init segment (`ftyp` and `moov`) of these tracks.
pub fn init(tracks: &[TrackEntry<'_>]) -> Bytes {
    let mut out = Vec::with_capacity(1_024);
    boxed(&mut out, b"ftyp", |out| {
        out.put_slice(b"iso6");
        out.put_u32(0);
        out.put_slice(b"iso6cmfcmp41");
    });
    boxed(&mut out, b"moov", |out| {
        full(out, b"mvhd", 0, 0, |out| {
            out.put_u64(0);
            out.put_u32(1_000);
            out.put_u32(0);
            out.put_u32(0x1_0000);
            out.put_u16(0x100);
            out.put_bytes(0, 10);
            MATRIX.iter().for_each(|&number| out.put_u32(number));
            out.put_bytes(0, 24);
            out.put_u32(tracks.iter().map(|track| track.id).max().unwrap_or(0) + 1);
        });
        for track in tracks {
            put_track(out, track);
        }
        boxed(out, b"mvex", |out| {
            for track in tracks {
                full(out, b"trex", 0, 0, |out| {
                    out.put_u32(track.id);
                    out.put_u32(1);
                    out.put_bytes(0, 12);
                });
            }
        });
    });
    out.into()
}

fn put_track(out: &mut Vec<u8>, track: &TrackEntry<'_>) {
    const ENABLED_IN_MOVIE: u32 = 3;
    let picture = track.configuration.picture();
    boxed(out, b"trak", |out| {
        full(out, b"tkhd", 0, ENABLED_IN_MOVIE, |out| {
            out.put_u64(0);
            out.put_u32(track.id);
            out.put_bytes(0, 4 + 4 + 8 + 2 + 2);
            out.put_u16(if picture.is_some() { 0 } else { 0x100 });
            out.put_u16(0);
            MATRIX.iter().for_each(|&number| out.put_u32(number));
            let Picture { width, height, .. } = picture.unwrap_or_default();
            out.put_u32(width << 16);
            out.put_u32(height << 16);
        });
        boxed(out, b"mdia", |out| {
            full(out, b"mdhd", 0, 0, |out| {
                out.put_u64(0);
                out.put_u32(track.configuration.timebase().ticks_per_second());
                out.put_u32(0);
                out.put_u16(LANGUAGE_UNDETERMINED);
                out.put_u16(0);
            });
            full(out, b"hdlr", 0, 0, |out| {
                out.put_u32(0);
                out.put_slice(if picture.is_some() { b"vide" } else { b"soun" });
                out.put_bytes(0, 12);
                out.put_slice(b"nova\0");
            });
            boxed(out, b"minf", |out| {
                match picture {
                    Some(_) => full(out, b"vmhd", 0, 1, |out| out.put_bytes(0, 8)),
                    None => full(out, b"smhd", 0, 0, |out| out.put_bytes(0, 4)),
                }
                boxed(out, b"dinf", |out| {
                    full(out, b"dref", 0, 0, |out| {
                        out.put_u32(1);
                        full(out, b"url ", 0, 1, |_| {});
                    });
                });
                boxed(out, b"stbl", |out| {
                    full(out, b"stsd", 0, 0, |out| {
                        out.put_u32(1);
                        put_sample_entry(out, track);
                    });
                    full(out, b"stts", 0, 0, |out| out.put_u32(0));
                    full(out, b"stsc", 0, 0, |out| out.put_u32(0));
                    full(out, b"stsz", 0, 0, |out| out.put_u64(0));
                    full(out, b"stco", 0, 0, |out| out.put_u32(0));
                });
            });
        });
    });
}

fn put_sample_entry(out: &mut Vec<u8>, track: &TrackEntry<'_>) {
    match track.configuration {
        Configuration::H264(one) => put_visual(out, b"avc1", b"avcC", &one.picture, &one.record),
        Configuration::Hevc(one) => put_visual(out, b"hvc1", b"hvcC", &one.picture, &one.record),
        Configuration::Av1(one) => put_visual(out, b"av01", b"av1C", &one.picture, &one.record),
        Configuration::Aac(one) => put_aac(out, track.id, one),
        Configuration::Opus(one) => put_opus(out, one),
    }
}

/// A visual sample entry (12.1.3) with the decoder's record in it.
fn put_visual(out: &mut Vec<u8>, name: &[u8; 4], record_name: &[u8; 4], picture: &Picture, record: &[u8]) {
    boxed(out, name, |out| {
        out.put_bytes(0, 6);
        out.put_u16(1);
        out.put_bytes(0, 16);
        out.put_u16(picture.width as u16);
        out.put_u16(picture.height as u16);
        // 72 dots an inch, one frame in a sample, no name for the compressor.
        out.put_u32(0x48_0000);
        out.put_u32(0x48_0000);
        out.put_u32(0);
        out.put_u16(1);
        out.put_bytes(0, 32);
        out.put_u16(24);
        out.put_i16(-1);
        boxed(out, record_name, |out| out.put_slice(record));
    });
}

/// An audio sample entry (12.2.3) up to its own boxes.
fn put_audio(out: &mut Vec<u8>, channels: u8, rate_hz: u32) {
    out.put_bytes(0, 6);
    out.put_u16(1);
    out.put_bytes(0, 8);
    out.put_u16(if channels == 0 { 2 } else { channels.into() });
    out.put_u16(16);
    out.put_u32(0);
    // 16.16 fixed point: higher rates do not fit and are told by the decoder's record alone.
    out.put_u32(if rate_hz <= 0xffff { rate_hz << 16 } else { 0 });
}

fn put_aac(out: &mut Vec<u8>, track_id: u32, configuration: &aac::Configuration) {
    /// Tags of ISO/IEC 14496-1, 7.2.2.1.
    mod tag {
        pub(super) const STREAM: u8 = 3;
        pub(super) const DECODER: u8 = 4;
        pub(super) const SPECIFIC: u8 = 5;
        pub(super) const SYNC: u8 = 6;
    }
    const MPEG4_AUDIO: u8 = 0x40;
    /// Audio, upstream flag clear, reserved bit set.
    const AUDIO_STREAM: u8 = 0x15;

    let mut decoder = vec![MPEG4_AUDIO, AUDIO_STREAM];
    decoder.put_bytes(0, 3 + 4 + 4);
    put_descriptor(&mut decoder, tag::SPECIFIC, &configuration.record);
    let mut stream = Vec::new();
    stream.put_u16(track_id as u16);
    stream.put_u8(0);
    put_descriptor(&mut stream, tag::DECODER, &decoder);
    put_descriptor(&mut stream, tag::SYNC, &[2]);

    boxed(out, b"mp4a", |out| {
        put_audio(out, configuration.channels, configuration.sample_rate_hz);
        full(out, b"esds", 0, 0, |out| put_descriptor(out, tag::STREAM, &stream));
    });
}

/// A descriptor with its length in as many groups of seven bits as it takes.
fn put_descriptor(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.put_u8(tag);
    let length = content.len();
    for group in (1..4).rev() {
        if length >> (7 * group) > 0 {
            out.put_u8(0x80 | (length >> (7 * group) & 0x7f) as u8);
        }
    }
    out.put_u8((length & 0x7f) as u8);
    out.put_slice(content);
}

/// `dOps` says what `OpusHead` says, the other way round (Opus in ISOBMFF, 4.3.2).
fn put_opus(out: &mut Vec<u8>, configuration: &opus::Configuration) {
    boxed(out, b"Opus", |out| {
        put_audio(out, configuration.channels, 48_000);
        boxed(out, b"dOps", |out| {
            out.put_u8(0);
            out.put_u8(configuration.channels);
            out.put_u16(configuration.pre_skip);
            out.put_u32(configuration.input_rate_hz);
            out.put_i16(configuration.gain);
            // The channel mapping, family first, is the same in both.
            out.put_slice(configuration.record.get(18..).unwrap_or(&[0]));
        });
    });
}
