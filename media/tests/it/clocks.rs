//! Publishers' clocks, from the wire to the frames: wraps, jumps and holes as encoders really have them.

use nova_media::frame::{Media, Track};
use nova_media::rtmp::kind;

use crate::encoder::{ASC_48K, AVCC_720P, Door, Encoder};

/// Pictures every 40 ms and sound every 21 or 22 ms in order of their times, for `length_ms`, with the clock bent by `bend`.
fn broadcast(length_ms: u32, bend: impl Fn(u32) -> u32) -> Door {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.audio_header(ASC_48K);
    let (mut picture, mut sound) = (0, 0);
    while picture * 40 < length_ms {
        if sound * 1_024 / 48 < picture * 40 {
            encoder.sound(bend(sound * 1_024 / 48));
            sound += 1;
        } else {
            encoder.picture(bend(picture * 40), picture % 25 == 0);
            picture += 1;
        }
    }
    door.hear(&encoder.take());
    assert_eq!(door.ended(), None);
    for track in [Track::Video, Track::Audio] {
        assert!(door.times(track).windows(2).all(|pair| pair[1] > pair[0]), "{track:?}");
    }
    door
}

fn jumps(door: &Door) -> Vec<i64> {
    let jump = |media: &&Media| match media {
        Media::Discontinuity { jump_ms } => Some(*jump_ms),
        _ => None,
    };
    door.media().iter().filter_map(jump).collect()
}

/// Sound never further from the picture than at the start, by frame number.
fn assert_together(door: &Door, allowed_ms: i64) {
    for (n, ms) in door.times(Track::Video).iter().enumerate() {
        assert!((ms - n as i64 * 40).abs() <= allowed_ms, "picture {n} at {ms}");
    }
    for (n, ms) in door.times(Track::Audio).iter().enumerate() {
        assert!((ms - n as i64 * 1_024 / 48).abs() <= allowed_ms, "sound {n} at {ms}");
    }
}

#[test]
fn a_stream_that_starts_near_2_to_the_24_or_2_to_the_32_plays_through() {
    for start in [0xff_fff0, 0xff_0000, 0xffff_fff0, 0xffff_f000] {
        let door = broadcast(10_000, |ms| ms.wrapping_add(start));
        assert_together(&door, 1);
        assert_eq!(jumps(&door), [0; 0], "{start:#x}");
        let sanitised = door.ingest.report(door.now).sanitised;
        assert_eq!((sanitised.gaps, sanitised.backwards, sanitised.outliers), (0, 0, 0), "{start:#x}");
    }
}

#[test]
fn a_sender_with_a_24_bit_clock_plays_through_its_wrap() {
    let door = broadcast(10_000, |ms| (ms + 0xff_f000) & 0xff_ffff);
    assert_together(&door, 1);
    assert_eq!(jumps(&door), [0; 0]);
    assert_eq!(door.ingest.report(door.now).sanitised.wraps_24, 1);
}

#[test]
fn an_hour_forward_and_five_seconds_back_are_mended_with_sound_and_picture_together() {
    for jump in [3_600_000_i64, -5_000, 86_400_000, -20_000] {
        let bend = |ms: u32| {
            let start = 1_000_000;
            if ms < 5_000 { start + ms } else { (i64::from(start + ms) + jump) as u32 }
        };
        let door = broadcast(10_000, bend);
        assert_together(&door, 60);
        let found = jumps(&door);
        assert_eq!(found.len(), 1, "{jump}: {found:?}");
        assert!((found[0] - jump).abs() < 100, "{found:?}");
    }
}

#[test]
fn a_hole_of_three_seconds_in_both_tracks_is_kept() {
    let door = broadcast(10_000, |ms| if ms < 5_000 { ms } else { ms + 3_000 });
    assert_eq!(jumps(&door), [0; 0]);
    let last = *door.times(Track::Video).last().unwrap();
    assert_eq!(last, 9_960 + 3_000);
    assert!((door.times(Track::Audio).last().unwrap() - last).abs() < 60);
}

#[test]
fn a_minute_without_media_is_closed_and_told() {
    let door = broadcast(10_000, |ms| if ms < 5_000 { ms } else { ms + 60_000 });
    assert_together(&door, 60);
    let found = jumps(&door);
    assert!(found.len() == 1 && (found[0] - 60_000).abs() < 100, "{found:?}");
}

#[test]
fn a_clock_that_never_moves_gives_frames_that_do() {
    let door = broadcast(20_000, |_| 77);
    assert_eq!(door.frames(Track::Video).len(), 500);
    assert!(door.ingest.report(door.now).sanitised.repeated > 0);
}

#[test]
fn composition_offsets_keep_their_sign() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    for (n, composition_ms) in [80, 120, -40, 0, 0x7f_ffff].into_iter().enumerate() {
        encoder.picture_shown(n as u32 * 40, composition_ms, n == 0);
    }
    door.hear(&encoder.take());
    let offsets: Vec<_> =
        door.frames(Track::Video).iter().map(|frame| frame.pts.millis() - frame.dts.millis()).collect();
    assert_eq!(offsets, [80, 120, -40, 0, 0], "the last one nobody can mean");
    assert!(door.frames(Track::Video).iter().all(|frame| frame.pts.ticks() >= 0));
}

#[test]
fn deltas_and_one_byte_headers_keep_time_over_the_wrap() {
    // As FFmpeg writes: a full header, then deltas, then nothing but the chunk's first byte.
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.audio_header(ASC_48K);
    encoder.message(5, kind::AUDIO, 0xffff_ffe0, &[0xaf, 1, 9]);
    encoder.bytes.extend([0x85, 0, 0, 21, 0xaf, 1, 9]);
    for _ in 0..100 {
        encoder.bytes.extend([0xc5, 0xaf, 1, 9]);
    }
    door.hear(&encoder.take());
    assert_eq!(door.times(Track::Audio).len(), 102);
    assert_eq!(door.ingest.report(door.now).sanitised.wraps_32, 1);
    assert!(door.times(Track::Audio).windows(2).all(|pair| (21..=22).contains(&(pair[1] - pair[0]))));
}
