//! Reading fragmented MP4 as it comes out of a pipe, sample by sample: the way back from a transcoder.
//!
//! Only what FFmpeg's muxer writes with `empty_moov+default_base_moof` is read: a `moov` that announces H.264 tracks, then
//! fragments whose data follows their headers. Whatever else the boxes say is passed over; what contradicts itself is refused. Every
//! length is bounded before anything is kept for it.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::bits::{ByteReader, Read, Truncated};
use crate::codec::{self, Configuration, h264};
use crate::frame::{Frame, Track};
use crate::time::{Timebase, Timestamp};

/// Headers of all tracks, or of one fragment.
const HEADERS_BYTES_MAX: usize = 1 << 20;
/// The data of one fragment: a keyframe of any codec at any rate we make.
const DATA_BYTES_MAX: usize = 16 << 20;
/// Tracks of one file.
const TRACKS_MAX: usize = 16;
/// Samples of one fragment.
const SAMPLES_MAX: usize = 4_096;

/// Why a stream of boxes was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A box is shorter than its content.
    #[error(transparent)]
    Truncated(#[from] Truncated),
    /// A decoder's record cannot be read.
    #[error(transparent)]
    Codec(#[from] codec::Error),
    /// A box that is larger than it may be, or smaller than its own header.
    #[error("a box of {0} bytes")]
    Size(u64),
    /// Something that contradicts itself, or that no transcoder of ours writes.
    #[error("the {0} cannot be right")]
    Invalid(&'static str),
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A track, with its place among the tracks of the file, from 0.
    Track {
        /// Its place.
        place: usize,
        /// How it is decoded.
        configuration: Arc<Configuration>,
    },
    /// A sample of a track that was announced.
    Sample {
        /// The place of its track.
        place: usize,
        /// The sample.
        frame: Frame,
        /// How long it lasts, in ticks of its timestamps.
        duration: u32,
    },
}

/// Reads boxes as their bytes come; see the [module documentation](self).
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// Bytes of a box nobody needs that are still to come.
    skip: u64,
    tracks: Vec<Entry>,
    /// What the last `moof` told of the samples in the `mdat` behind it.
    runs: Vec<Run>,
    /// Size of that `moof`: data offsets count from its first byte.
    moof_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: u32,
    timebase: Timebase,
    /// Defaults for its samples (`trex`).
    defaults: Defaults,
}

#[derive(Debug, Clone, Copy, Default)]
struct Defaults {
    duration: u32,
    size: u32,
    flags: u32,
}

/// Samples of one track that lie one behind the other.
#[derive(Debug)]
struct Run {
    place: usize,
    offset: usize,
    decode_time: i64,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    duration: u32,
    size: u32,
    composition: i32,
    keyframe: bool,
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they come.
    ///
    /// # Errors
    /// [`ReadError`]; nothing can be read behind it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ReadError> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min(self.buffer.len() as u64);
                self.buffer.advance(skipped as usize);
                self.skip -= skipped;
                if self.skip > 0 {
                    return Ok(events);
                }
            }
            let mut header = ByteReader::new(&self.buffer);
            let (Ok(size), Ok(name)) = (header.u32(), header.array::<4>()) else { return Ok(events) };
            let most = match &name {
                b"moov" | b"moof" => HEADERS_BYTES_MAX,
                b"mdat" => DATA_BYTES_MAX,
                _ if size >= 8 => {
                    self.skip = size.into();
                    continue;
                }
                _ => return Err(ReadError::Size(size.into())),
            };
            let size = size as usize;
            if !(8..=most).contains(&size) {
                return Err(ReadError::Size(size as u64));
            }
            if self.buffer.len() < size {
                return Ok(events);
            }
            let whole = self.buffer.split_to(size).freeze();
            match &name {
                b"moov" => self.movie(&whole.slice(8..), &mut events)?,
                b"moof" => {
                    self.moof_bytes = size;
                    self.fragment(&whole.slice(8..))?;
                }
                _ => self.data(&whole, &mut events)?,
            }
        }
    }

    fn movie(&mut self, moov: &Bytes, events: &mut Vec<Event>) -> Result<(), ReadError> {
        if !self.tracks.is_empty() {
            return Err(ReadError::Invalid("second moov"));
        }
        for (name, content) in boxes(moov)? {
            match &name {
                b"trak" => {
                    if self.tracks.len() == TRACKS_MAX {
                        return Err(ReadError::Invalid("number of tracks"));
                    }
                    let (entry, configuration) = track(&content)?;
                    let place = self.tracks.len();
                    self.tracks.push(entry);
                    events.push(Event::Track { place, configuration: Arc::new(configuration) });
                }
                b"mvex" => {
                    for (_, trex) in boxes(&content)?.into_iter().filter(|(name, _)| name == b"trex") {
                        let mut reader = ByteReader::new(&trex);
                        reader.skip(4)?;
                        let id = reader.u32()?;
                        reader.skip(4)?;
                        let (duration, size, flags) = (reader.u32()?, reader.u32()?, reader.u32()?);
                        if let Some(entry) = self.tracks.iter_mut().find(|entry| entry.id == id) {
                            entry.defaults = Defaults { duration, size, flags };
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fragment(&mut self, moof: &Bytes) -> Result<(), ReadError> {
        self.runs.clear();
        for (_, traf) in boxes(moof)?.into_iter().filter(|(name, _)| name == b"traf") {
            let mut header = None;
            let mut decode_time = 0;
            for (name, content) in boxes(&traf)? {
                match &name {
                    b"tfhd" => header = Some(self.fragment_header(&content)?),
                    b"tfdt" => decode_time = self::decode_time(&content)?,
                    b"trun" => {
                        let (place, defaults) = header.ok_or(ReadError::Invalid("trun before its tfhd"))?;
                        let run = run(&content, place, defaults, decode_time)?;
                        decode_time = run
                            .samples
                            .iter()
                            .fold(decode_time, |at, sample| at.saturating_add(sample.duration.into()));
                        if self.runs.iter().map(|run| run.samples.len()).sum::<usize>() + run.samples.len()
                            > SAMPLES_MAX
                        {
                            return Err(ReadError::Invalid("number of samples"));
                        }
                        self.runs.push(run);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Which track a fragment is of, and the defaults for its samples (ISO/IEC 14496-12, 8.8.7).
    fn fragment_header(&self, tfhd: &Bytes) -> Result<(usize, Defaults), ReadError> {
        let mut reader = ByteReader::new(tfhd);
        let flags = reader.u32()? & 0xff_ffff;
        let id = reader.u32()?;
        let place = self.tracks.iter().position(|entry| entry.id == id);
        let place = place.ok_or(ReadError::Invalid("track of a fragment"))?;
        let mut defaults = self.tracks.get(place).map(|entry| entry.defaults).unwrap_or_default();
        if flags & 0x1 != 0 {
            return Err(ReadError::Invalid("base of a fragment's offsets"));
        }
        if flags & 0x2 != 0 {
            reader.skip(4)?;
        }
        if flags & 0x8 != 0 {
            defaults.duration = reader.u32()?;
        }
        if flags & 0x10 != 0 {
            defaults.size = reader.u32()?;
        }
        if flags & 0x20 != 0 {
            defaults.flags = reader.u32()?;
        }
        Ok((place, defaults))
    }

    fn data(&mut self, mdat: &Bytes, events: &mut Vec<Event>) -> Result<(), ReadError> {
        for run in std::mem::take(&mut self.runs) {
            let timebase = self.tracks.get(run.place).map_or(Timebase::VIDEO, |entry| entry.timebase);
            let at = run.offset.checked_sub(self.moof_bytes).filter(|at| *at >= 8);
            let mut at = at.ok_or(ReadError::Invalid("data offset"))?;
            let mut decoded = run.decode_time;
            for sample in run.samples {
                let end = at + sample.size as usize;
                let payload = (end <= mdat.len()).then(|| mdat.slice(at..end));
                let payload = payload.ok_or(ReadError::Invalid("size of a sample"))?;
                at = end;
                let dts = Timestamp::new(decoded, timebase);
                let pts = dts.offset(sample.composition.into());
                decoded = decoded.saturating_add(sample.duration.into());
                events.push(Event::Sample {
                    place: run.place,
                    frame: Frame { track: Track::Video, dts, pts, keyframe: sample.keyframe, payload },
                    duration: sample.duration,
                });
            }
        }
        Ok(())
    }
}

/// The boxes that lie one behind the other in `content`.
fn boxes(content: &Bytes) -> Result<Vec<([u8; 4], Bytes)>, ReadError> {
    let mut reader = ByteReader::new(content);
    let mut found = Vec::new();
    while !reader.is_empty() {
        let size = reader.u32()?;
        let name = reader.array::<4>()?;
        let length = (size as usize).checked_sub(8).ok_or(ReadError::Size(size.into()))?;
        found.push((name, content.slice_ref(reader.take(length)?)));
    }
    Ok(found)
}

/// The box under this path of names.
fn find(content: &Bytes, path: &[&[u8; 4]]) -> Result<Bytes, ReadError> {
    let mut here = content.clone();
    for name in path {
        let found = boxes(&here)?.into_iter().find(|(found, _)| found == *name);
        here = found.ok_or(ReadError::Invalid("track without what describes it"))?.1;
    }
    Ok(here)
}

fn track(trak: &Bytes) -> Result<(Entry, Configuration), ReadError> {
    let tkhd = find(trak, &[b"tkhd"])?;
    let id = after_times(&tkhd)?.u32()?;
    let mdhd = find(trak, &[b"mdia", b"mdhd"])?;
    let timebase = Timebase::new(after_times(&mdhd)?.u32()?).ok_or(ReadError::Invalid("timescale"))?;
    let stsd = find(trak, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
    // Version and number of entries, then the first entry.
    let entries = boxes(&part(&stsd, 8)?)?;
    let (_, avc1) =
        entries.into_iter().find(|(name, _)| name == b"avc1").ok_or(ReadError::Invalid("coding"))?;
    // The fixed fields of a visual sample entry (12.1.3) are 78 bytes.
    let record = find(&part(&avc1, 78)?, &[b"avcC"])?;
    let configuration = Configuration::H264(h264::Configuration::parse(&record)?);
    Ok((Entry { id, timebase, defaults: Defaults::default() }, configuration))
}

fn part(content: &Bytes, from: usize) -> Result<Bytes, ReadError> {
    (from <= content.len()).then(|| content.slice(from..)).ok_or(ReadError::Truncated(Truncated))
}

/// A reader behind version, flags and the two times of a header, whose width the version tells.
fn after_times(header: &Bytes) -> Read<ByteReader<'_>> {
    let mut reader = ByteReader::new(header);
    let version = reader.u8()?;
    reader.skip(3)?;
    reader.skip(if version == 1 { 16 } else { 8 })?;
    Ok(reader)
}

fn decode_time(tfdt: &Bytes) -> Result<i64, ReadError> {
    let mut reader = ByteReader::new(tfdt);
    let version = reader.u8()?;
    reader.skip(3)?;
    let time = match version {
        1 => u64::from_be_bytes(reader.array()?),
        _ => reader.u32()?.into(),
    };
    // Sums of it have to stay numbers.
    i64::try_from(time).ok().filter(|time| *time < 1 << 60).ok_or(ReadError::Invalid("decode time"))
}

/// A run of samples (8.8.8).
fn run(trun: &Bytes, place: usize, defaults: Defaults, decode_time: i64) -> Result<Run, ReadError> {
    /// "This sample is not a sync sample" (8.8.3.1).
    const NOT_SYNC: u32 = 0x1_0000;
    let mut reader = ByteReader::new(trun);
    let flags = reader.u32()? & 0xff_ffff;
    let count = reader.u32()? as usize;
    if count > SAMPLES_MAX {
        return Err(ReadError::Invalid("number of samples"));
    }
    if flags & 0x1 == 0 {
        return Err(ReadError::Invalid("run without a data offset"));
    }
    let offset = reader.u32()? as usize;
    let first_flags = if flags & 0x4 != 0 { Some(reader.u32()?) } else { None };
    let mut samples = Vec::new();
    for n in 0..count {
        let duration = if flags & 0x100 != 0 { reader.u32()? } else { defaults.duration };
        let size = if flags & 0x200 != 0 { reader.u32()? } else { defaults.size };
        let own = if flags & 0x400 != 0 { reader.u32()? } else { defaults.flags };
        let composition = if flags & 0x800 != 0 { reader.u32()? as i32 } else { 0 };
        let own = first_flags.filter(|_| n == 0).unwrap_or(own);
        if size as usize > DATA_BYTES_MAX {
            return Err(ReadError::Invalid("size of a sample"));
        }
        samples.push(Sample { duration, size, composition, keyframe: own & NOT_SYNC == 0 });
    }
    Ok(Run { place, offset, decode_time, samples })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fmp4::{self, TrackEntry};

    fn configuration() -> Configuration {
        // 1280x720, high profile, from x264.
        let record = [
            0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50,
            0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83,
            0x19, 0x60, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
        ];
        Configuration::H264(h264::Configuration::parse(&Bytes::from(record.to_vec())).expect("a record"))
    }

    fn sample(duration: u32, keyframe: bool, byte: u8) -> fmp4::Sample {
        fmp4::Sample { duration, composition: 1_500, keyframe, payload: Bytes::from(vec![byte; 40]) }
    }

    fn file() -> Vec<u8> {
        let configuration = configuration();
        let mut file = fmp4::init(&[
            TrackEntry { id: 1, configuration: &configuration },
            TrackEntry { id: 2, configuration: &configuration },
        ])
        .to_vec();
        file.extend_from_slice(&[0, 0, 0, 12, b'f', b'r', b'e', b'e', 1, 2, 3, 4]);
        let (one, other) = ([sample(3_000, true, 1), sample(3_000, false, 2)], [sample(3_600, true, 3)]);
        let runs = [
            fmp4::Run { track_id: 1, decode_time: 1 << 33, samples: &one },
            fmp4::Run { track_id: 2, decode_time: 7, samples: &other },
        ];
        file.extend_from_slice(&fmp4::fragment(1, &runs));
        file
    }

    #[test]
    fn what_we_write_is_read_back_whatever_the_pieces_it_comes_in() {
        let file = file();
        for piece in [1, 7, 100, file.len()] {
            let mut reader = Reader::new();
            let events: Vec<_> =
                file.chunks(piece).flat_map(|bytes| reader.push(bytes).expect("it is well formed")).collect();
            let [Event::Track { place: 0, configuration }, Event::Track { place: 1, .. }, samples @ ..] =
                &events[..]
            else {
                panic!("{events:?}");
            };
            assert_eq!(**configuration, self::configuration());
            let told: Vec<_> = samples
                .iter()
                .map(|event| match event {
                    Event::Sample { place, frame, duration } => {
                        assert_eq!(frame.pts.ticks() - frame.dts.ticks(), 1_500);
                        (
                            *place,
                            frame.dts.ticks(),
                            *duration,
                            frame.keyframe,
                            frame.payload[0],
                            frame.payload.len(),
                        )
                    }
                    Event::Track { .. } => panic!("a track among samples"),
                })
                .collect();
            let start = 1 << 33;
            assert_eq!(
                told,
                [
                    (0, start, 3_000, true, 1, 40),
                    (0, start + 3_000, 3_000, false, 2, 40),
                    (1, 7, 3_600, true, 3, 40)
                ]
            );
        }
    }

    #[test]
    fn what_lies_about_its_lengths_is_refused_and_nothing_panics() {
        let good = file();
        for (name, size) in [(b"moov", 4_u32), (b"mdat", 0xffff_ffff), (b"moof", 2 << 20), (b"free", 3)] {
            let mut odd = size.to_be_bytes().to_vec();
            odd.extend_from_slice(name);
            assert_eq!(Reader::new().push(&odd), Err(ReadError::Size(size.into())));
        }
        // Every byte of it, bent.
        for at in 0..good.len() {
            for bent in [0, 0x7f, 0xff] {
                let mut file = good.clone();
                file[at] = bent;
                let _ = Reader::new().push(&file);
            }
            let _ = Reader::new().push(&good[..at]);
        }
    }
}
