//! Init segments and fragments, read back by a second implementation and by ffprobe.

use std::process::Command;

use bytes::Bytes;
use mp4_atom::{Any, DecodeMaybe};
use nova_media::codec::Configuration;
use nova_media::fmp4::{Run, Sample, TrackEntry, fragment, init};
use nova_media::frame::{Frame, Media, Track};
use nova_media::rtmp::Output;
use tempfile::TempDir;

use crate::encoder::{Door, frames, media};
use crate::ffmpeg::{probe, published};
use crate::recorded;

fn configurations(outputs: &[Output]) -> Vec<&Configuration> {
    media(outputs)
        .into_iter()
        .filter_map(|media| match media {
            Media::Configuration { configuration, .. } => Some(&**configuration),
            _ => None,
        })
        .collect()
}

fn samples(frames: &[&Frame]) -> Vec<Sample> {
    frames
        .iter()
        .enumerate()
        .map(|(n, frame)| {
            let next = frames.get(n + 1).map_or(frame.dts.ticks() + 1_024, |next| next.dts.ticks());
            Sample {
                duration: (next - frame.dts.ticks()) as u32,
                composition: (frame.pts.ticks() - frame.dts.ticks()) as i32,
                keyframe: frame.keyframe,
                payload: frame.payload.clone(),
            }
        })
        .collect()
}

/// Everything a door gave, as an init segment and fragments of half a second at most.
fn packaged(outputs: &[Output]) -> Bytes {
    let configurations = configurations(outputs);
    let entries: Vec<_> =
        (1..).zip(&configurations).map(|(id, configuration)| TrackEntry { id, configuration }).collect();
    let mut whole = init(&entries).to_vec();
    let tracks = [Track::Video, Track::Audio].map(|track| frames(outputs, track));
    for piece in 0..200 {
        let window = 10_000 + piece * 500..10_500 + piece * 500;
        let runs = tracks.each_ref().map(|frames| {
            let here: Vec<_> = samples(frames)
                .into_iter()
                .zip(frames)
                .filter(|(_, frame)| window.contains(&frame.dts.millis()))
                .collect();
            (
                here.first().map_or(0, |(_, frame)| frame.dts.ticks() as u64),
                here.into_iter().map(|(s, _)| s).collect::<Vec<_>>(),
            )
        });
        let runs: Vec<_> = (1..)
            .zip(&runs)
            .map(|(track_id, (decode_time, samples))| Run { track_id, decode_time: *decode_time, samples })
            .collect();
        if runs.iter().any(|run| !run.samples.is_empty()) {
            whole.extend(fragment(piece as u32 + 1, &runs));
        }
    }
    whole.into()
}

fn assert_every_packet_is_there(outputs: &[Output], codecs: [&str; 2]) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("stream.mp4");
    std::fs::write(&path, packaged(outputs)).unwrap();
    let found = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stderr), "");
    assert_eq!(String::from_utf8_lossy(&found.stdout).split_whitespace().collect::<Vec<_>>(), codecs);
    let packets = probe(&path);
    for track in [Track::Video, Track::Audio] {
        let wanted = frames(outputs, track);
        let got: Vec<_> = packets.iter().filter(|packet| packet.video == (track == Track::Video)).collect();
        assert_eq!(got.len(), wanted.len(), "{track:?}");
        for (n, (got, wanted)) in got.iter().zip(wanted).enumerate() {
            assert_eq!((got.size, got.keyframe), (wanted.payload.len(), wanted.keyframe), "{track:?} {n}");
            // ffprobe counts in the ticks of the track; the stream's zero may be moved by its edit list.
            let step = got.dts - packets.iter().find(|one| one.video == got.video).unwrap().dts;
            assert_eq!(step, wanted.dts.ticks() - frames(outputs, track)[0].dts.ticks(), "{track:?} {n}");
            assert_eq!(got.pts - got.dts, wanted.pts.ticks() - wanted.dts.ticks(), "{track:?} {n}");
        }
    }
}

#[test]
fn ffprobe_finds_every_packet_of_a_published_file() {
    let (outputs, _folder) = published();
    assert_every_packet_is_there(&outputs, ["h264", "aac"]);
}

#[test]
fn hevc_av1_and_opus_are_packaged_too() {
    assert_every_packet_is_there(&recorded::play(recorded::HEVC_OPUS).outputs, ["hevc", "opus"]);
    assert_every_packet_is_there(&recorded::play(recorded::AV1_AAC).outputs, ["av1", "aac"]);
}

#[test]
fn a_second_implementation_reads_the_same_boxes() {
    let door: Door = recorded::play(recorded::AV1_AAC);
    let whole = packaged(&door.outputs);
    let mut rest = &whole[..];
    let mut names = Vec::new();
    let mut samples = 0;
    while let Some(atom) = Any::decode_maybe(&mut rest).unwrap() {
        match atom {
            Any::Ftyp(_) => names.push("ftyp"),
            Any::Moov(moov) => {
                names.push("moov");
                assert_eq!((moov.trak.len(), moov.mvex.unwrap().trex.len()), (2, 2));
                assert_eq!(moov.trak[0].mdia.mdhd.timescale, 90_000);
                assert_eq!(moov.trak[1].mdia.mdhd.timescale, 48_000);
            }
            Any::Moof(moof) => {
                names.push("moof");
                for traf in &moof.traf {
                    assert_eq!(
                        traf.tfdt.as_ref().unwrap().base_media_decode_time
                            / [90_000, 48_000][traf.tfhd.track_id as usize - 1],
                        10
                    );
                    samples += traf.trun.iter().map(|trun| trun.samples.len()).sum::<usize>();
                }
            }
            Any::Mdat(_) => names.push("mdat"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(names[..4], ["ftyp", "moov", "moof", "mdat"]);
    assert_eq!(samples, door.frames(Track::Video).len() + door.frames(Track::Audio).len());
}
