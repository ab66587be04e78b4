//! Fragments: `moof` and `mdat`.

use bytes::{BufMut, Bytes};

use super::boxes::{boxed, full};

/// A sample another depends on nothing for, and one that depends on others (ISO/IEC 14496-12, 8.8.3.1).
const SYNC_SAMPLE: u32 = 0x0200_0000;
const DEPENDENT_SAMPLE: u32 = 0x0101_0000;

/// One frame as a fragment holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Until the next one is decoded, in ticks of the track.
    pub duration: u32,
    /// From decoding to showing, in ticks of the track.
    pub composition: i32,
    /// Decoding can start here.
    pub keyframe: bool,
    /// The coded data.
    pub payload: Bytes,
}

/// What one track adds to a fragment.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The track's number in the init segment.
    pub track_id: u32,
    /// When the first sample is decoded, in ticks of the track since the stream's zero.
    pub decode_time: u64,
    /// The samples, in decoding order.
    pub samples: &'a [Sample],
}

/// Writes a fragment: the headers of all runs, then their data in the same order. Runs without samples are left out.
/// `sequence` counts fragments from 1.
pub fn fragment(sequence: u32, runs: &[Run<'_>]) -> Bytes {
    const HEADERS_BYTES: usize = 24;
    const RUN_BYTES: usize = 80;
    const SAMPLE_BYTES: usize = 16;
    let samples: usize = runs.iter().map(|run| run.samples.len()).sum();
    let data_bytes: usize = runs.iter().flat_map(|run| run.samples).map(|sample| sample.payload.len()).sum();
    let mut out =
        Vec::with_capacity(HEADERS_BYTES + runs.len() * RUN_BYTES + samples * SAMPLE_BYTES + 8 + data_bytes);
    // Where each run's data begins is known once the headers are written.
    let mut offsets = Vec::with_capacity(runs.len());
    boxed(&mut out, b"moof", |out| {
        full(out, b"mfhd", 0, 0, |out| out.put_u32(sequence));
        for run in runs.iter().filter(|run| !run.samples.is_empty()) {
            boxed(out, b"traf", |out| offsets.push(put_run(out, run)));
        }
    });
    let mut data_start = out.len() + 8;
    for (place, run) in offsets.into_iter().zip(runs.iter().filter(|run| !run.samples.is_empty())) {
        if let Some(place) = out.get_mut(place..place + 4) {
            place.copy_from_slice(&(data_start as u32).to_be_bytes());
        }
        data_start += run.samples.iter().map(|sample| sample.payload.len()).sum::<usize>();
    }
    boxed(&mut out, b"mdat", |out| {
        for sample in runs.iter().flat_map(|run| run.samples) {
            out.put_slice(&sample.payload);
        }
    });
    out.into()
}

/// Writes a run and gives where its data offset stands.
fn put_run(out: &mut Vec<u8>, run: &Run<'_>) -> usize {
    const BASE_IS_MOOF: u32 = 0x02_0000;
    const DATA_OFFSET: u32 = 0x1;
    const DURATION_SIZE_FLAGS_COMPOSITION: u32 = 0x100 | 0x200 | 0x400 | 0x800;
    full(out, b"tfhd", 0, BASE_IS_MOOF, |out| out.put_u32(run.track_id));
    full(out, b"tfdt", 1, 0, |out| out.put_u64(run.decode_time));
    let mut offset_place = 0;
    full(out, b"trun", 1, DATA_OFFSET | DURATION_SIZE_FLAGS_COMPOSITION, |out| {
        out.put_u32(run.samples.len() as u32);
        offset_place = out.len();
        out.put_u32(0);
        for sample in run.samples {
            out.put_u32(sample.duration);
            out.put_u32(sample.payload.len() as u32);
            out.put_u32(if sample.keyframe { SYNC_SAMPLE } else { DEPENDENT_SAMPLE });
            out.put_i32(sample.composition);
        }
    });
    offset_place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_one_allocation_and_its_offsets_point_at_the_data() {
        let sample = |byte: u8, len: usize| Sample {
            duration: 3_000,
            composition: -1_500,
            keyframe: byte == 1,
            payload: Bytes::from(vec![byte; len]),
        };
        let (video, audio) = ([sample(1, 100), sample(2, 50)], [sample(3, 7)]);
        let whole = fragment(
            9,
            &[
                Run { track_id: 1, decode_time: 90_000, samples: &video },
                Run { track_id: 3, decode_time: 0, samples: &[] },
                Run { track_id: 2, decode_time: 1 << 33, samples: &audio },
            ],
        );
        let offsets: Vec<usize> = whole
            .windows(4)
            .enumerate()
            .filter(|(_, name)| name == b"trun")
            .map(|(at, _)| u32::from_be_bytes(whole[at + 12..at + 16].try_into().unwrap()) as usize)
            .collect();
        assert_eq!(offsets.len(), 2);
        assert_eq!(whole[offsets[0]..offsets[0] + 150], [vec![1; 100], vec![2; 50]].concat());
        assert_eq!(whole[offsets[1]..], [3; 7]);
    }
}
