//! What newer encoders sent when they were recorded: half a second each, every byte from the first on.
//!
//! Recorded from FFmpeg 9.0 (`-c:v libx265 -c:a libopus` and `-c:v libsvtav1 -c:a aac`, `-f flv`), which writes enhanced RTMP, and
//! from GStreamer 1.22 (`x264enc`, `avenc_aac`) by its own sink and by librtmp, the library OBS grew from.

use nova_media::codec::Configuration;
use nova_media::frame::{Frame, Media, Track};
use nova_media::rtmp::{EndReason, Output};

use crate::encoder::Door;

pub(crate) const HEVC_OPUS: &[u8] = include_bytes!("recorded/hevc_opus.rtmp");
pub(crate) const AV1_AAC: &[u8] = include_bytes!("recorded/av1_aac.rtmp");
const GSTREAMER: &[u8] = include_bytes!("recorded/gstreamer_rtmp2sink.rtmp");
const LIBRTMP: &[u8] = include_bytes!("recorded/gstreamer_librtmp.rtmp");

/// Plays a recording, letting its publisher in when it asks.
pub(crate) fn play(recording: &[u8]) -> Door {
    let mut door = Door::new();
    for piece in recording.chunks(1_448) {
        let asked = door.request().is_some();
        door.hear(piece);
        if !asked && door.request().is_some() {
            door.accept();
        }
    }
    assert_eq!(door.ended(), Some(&EndReason::Unpublished));
    assert_eq!(door.ingest.report(door.now).dropped, Default::default());
    door
}

fn configurations(door: &Door) -> Vec<(String, Option<(u32, u32)>)> {
    let told = |media: &&Media| match media {
        Media::Configuration { configuration, .. } => Some((
            configuration.codecs(),
            configuration.picture().map(|picture| (picture.width, picture.height)),
        )),
        _ => None,
    };
    door.media().iter().filter_map(told).collect()
}

/// Keyframes every ten pictures, as the encoder was told, and times 33 or 34 ms apart.
fn assert_pictures(pictures: &[&Frame]) {
    let keyframes: Vec<_> =
        pictures.iter().enumerate().filter(|(_, picture)| picture.keyframe).map(|(n, _)| n).collect();
    assert_eq!(pictures.len(), 15);
    assert!(matches!(keyframes[..], [0, 9 | 10]), "{keyframes:?}");
    let steps: Vec<_> = pictures.windows(2).map(|pair| pair[1].dts.millis() - pair[0].dts.millis()).collect();
    assert!(steps.iter().all(|step| (32..=35).contains(step)), "{steps:?}");
}

#[test]
fn hevc_and_opus_by_enhanced_rtmp() {
    let door = play(HEVC_OPUS);
    let size = Some((128, 72));
    assert_eq!(configurations(&door), [("hvc1.1.6.L30.90".to_owned(), size), ("opus".to_owned(), None)]);
    let pictures = door.frames(Track::Video);
    assert_pictures(&pictures);
    assert!(pictures.iter().any(|picture| picture.pts > picture.dts), "shown in another order than decoded");
    let sounds = door.frames(Track::Audio);
    assert_eq!(sounds.len(), 26);
    assert!(sounds.windows(2).all(|pair| pair[1].dts.ticks() - pair[0].dts.ticks() == 960));
}

#[test]
fn av1_by_enhanced_rtmp_beside_plain_aac() {
    let door = play(AV1_AAC);
    let told = [("av01.0.00M.08".to_owned(), Some((128, 72))), ("mp4a.40.2".to_owned(), None)];
    assert_eq!(configurations(&door), told);
    assert_pictures(&door.frames(Track::Video));
    let sounds = door.frames(Track::Audio);
    assert!(sounds.windows(2).all(|pair| pair[1].dts.ticks() - pair[0].dts.ticks() == 1_024));
    let av1 = |output: &Output| {
        matches!(output, Output::Media(Media::Configuration { configuration, .. })
            if matches!(**configuration, Configuration::Av1(_)))
    };
    assert_eq!(door.outputs.iter().filter(|output| av1(output)).count(), 1);
}

#[test]
fn gstreamer_by_its_own_sink_and_by_librtmp() {
    for (recording, reordered) in [(GSTREAMER, true), (LIBRTMP, false)] {
        let door = play(recording);
        let told = [("avc1.f4000a".to_owned(), Some((128, 72))), ("mp4a.40.2".to_owned(), None)];
        assert_eq!(configurations(&door), told);
        let pictures = door.frames(Track::Video);
        assert_eq!(pictures.len(), 15);
        assert_eq!(door.frames(Track::Audio).len(), 25);
        // While it reorders, GStreamer stamps the first pictures all alike.
        let first = if reordered { 3 } else { 0 };
        let steps: Vec<_> =
            pictures[first..].windows(2).map(|pair| pair[1].dts.millis() - pair[0].dts.millis()).collect();
        assert!(steps.iter().all(|step| (32..=35).contains(step)), "{steps:?}");
        let shown: Vec<_> = pictures.iter().map(|picture| picture.pts.millis()).collect();
        assert_eq!(shown.is_sorted(), !reordered);
        let told = door.outputs.iter().filter(|output| matches!(output, Output::Metadata(_))).count();
        assert_eq!(told, 1, "however often it is repeated");
        assert_eq!(door.ingest.report(door.now).health.frames_skipped, 0);
    }
}
