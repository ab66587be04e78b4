//! What a publisher over WebRTC sends, and what a child process makes of sound: pieces behind a byte each that says what they are.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nova_media::codec::{nal_units, ogg};
use nova_media::frame::{Media, Track};
use nova_media::rtp::intake::Intake;
use nova_media::rtp::ring::Kept;
use nova_media::rtp::rtcp::SenderTime;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut intake = Intake::new(now);
    let mut packets = ogg::Packets::default();
    let (mut sequence, mut timestamp) = (0_u16, 0_u32);
    let mut check = |media: Media| {
        if let Media::Frame(frame) = media
            && frame.track == Track::Video
        {
            assert!(nal_units(&frame.payload, 4).all(|unit| unit.is_ok()));
        }
    };
    for piece in data.split(|byte| *byte == 0xFE) {
        let Some((what, payload)) = piece.split_first() else { continue };
        sequence = sequence.wrapping_add(u16::from(what & 3));
        timestamp = timestamp.wrapping_add(u32::from(what >> 2 & 1) * 3_000);
        now += Duration::from_millis(u64::from(what >> 3 & 3) * 150);
        let payload = Bytes::copy_from_slice(payload);
        let kept = Kept { sequence, timestamp, marker: what & 0x20 != 0, keyframe: false, payload: payload.clone(), descriptor: Bytes::new(), part: None, at: now };
        let told = SenderTime { ntp: payload.iter().take(8).fold(0, |ntp, byte| ntp << 8 | u64::from(*byte)), timestamp };
        intake.hear(if what & 1 == 0 { Track::Audio } else { Track::Video }, told);
        match what >> 6 {
            0 | 1 => intake.push(Track::Video, kept, now, &mut check),
            2 => intake.push(Track::Audio, kept, now, &mut check),
            _ => {
                packets.push(&payload);
                while let Ok(Some(_)) = packets.take() {}
            }
        }
    }
});
