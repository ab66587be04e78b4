//! Publishers within the process: who comes is sent the present GOP.

use super::*;
use crate::rtp::payload::Codec;
use crate::sfu;

#[test]
fn who_comes_in_the_middle_of_a_gop_is_sent_what_it_has_so_far_and_then_what_is_new() {
    let mut call = Call::new();
    let tracks = [(1, Source::Camera, Codec::H264), (2, Source::Microphone, Codec::Opus)];
    let feed = call.sfu.open_feed(ROOM, &tracks, call.now).unwrap();
    let show = |call: &mut Call, from: u32, to: u32| {
        for at in from..to {
            let kind = if at.is_multiple_of(60) { 0x65 } else { 0x41 };
            let packet = |marker| sfu::Packet {
                payload: vec![kind, at as u8, u8::from(marker)].into(),
                timestamp: at * 3_000,
                marker,
            };
            let mut out = Out::default();
            let packets = [packet(false), packet(true)];
            call.sfu.feed(feed, 1, u64::from(at) * 33_333, call.now, &packets, call.now, &mut out).unwrap();
            let sound = sfu::Packet { payload: vec![9].into(), timestamp: at * 1_600, marker: false };
            call.sfu.feed(feed, 2, u64::from(at) * 33_333, call.now, &[sound], call.now, &mut out).unwrap();
            call.carry(out);
            call.now += Duration::from_millis(33);
        }
    };
    show(&mut call, 0, 100);
    let viewer = call.join();
    call.pass(25);
    call.people[viewer].rtp.retain(|bytes| Packet::read(bytes).unwrap().payload_type == 102);
    assert_eq!(call.people[viewer].rtp.len(), 40, "as many as one turn sends");
    show(&mut call, 100, 102);
    call.pass(100);
    show(&mut call, 102, 104);
    let seen: Vec<_> = call.people[viewer].rtp.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
    let pictures: Vec<_> = seen.iter().filter(|packet| packet.payload_type == 102).collect();
    let order: Vec<u8> = pictures.iter().map(|packet| packet.payload[1]).collect();
    assert_eq!(
        order,
        (60..104).flat_map(|at| [at, at]).collect::<Vec<u8>>(),
        "from the keyframe on, each once"
    );
    assert!(pictures.windows(2).all(|two| two[1].sequence == two[0].sequence.wrapping_add(1)));
    let times: Vec<u32> = pictures.iter().step_by(2).map(|packet| packet.timestamp).collect();
    let steps: Vec<u32> = times.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
    assert!(
        steps[..39].iter().all(|step| *step == 150) && steps[39..].iter().all(|step| *step == 3_000),
        "{steps:?}"
    );
    assert!(seen.len() > pictures.len(), "and there is sound");

    // They leave, and the feed too: nothing is left.
    let mut out = Out::default();
    call.sfu.leave(call.people[viewer].id, call.now, &mut out);
    call.sfu.leave(feed, call.now, &mut out);
    assert_eq!(call.sfu.len(), (0, 0));
}

#[test]
fn the_first_viewer_is_sent_the_present_gop_that_came_before_there_was_a_feed() {
    let mut call = Call::new();
    call.pass(5_000);
    let feed = call.sfu.open_feed(ROOM, &[(1, Source::Camera, Codec::H264)], call.now).unwrap();
    // Three seconds of pictures at once, each of which came when it was shown.
    for at in 0..100_u32 {
        let came = call.now - Duration::from_millis(33) * (99 - at);
        let kind = if at == 10 { 0x65 } else { 0x41 };
        let packet =
            sfu::Packet { payload: vec![kind, at as u8].into(), timestamp: at * 3_000, marker: true };
        let mut out = Out::default();
        call.sfu.feed(feed, 1, u64::from(at) * 33_333, came, &[packet], call.now, &mut out).unwrap();
        call.carry(out);
    }
    let viewer = call.join();
    call.pass(200);
    let seen: Vec<_> = call.people[viewer].rtp.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
    let order: Vec<u8> =
        seen.iter().filter(|packet| packet.payload_type == 102).map(|packet| packet.payload[1]).collect();
    assert_eq!(order, (10..100).collect::<Vec<u8>>(), "from the keyframe on, each once");
    let last = seen.iter().rfind(|packet| packet.payload_type == 102).unwrap();
    let (ssrc, sequence, timestamp) = (last.ssrc, last.sequence, last.timestamp);

    // It could not read the first of them, and asks for a keyframe, again and again as browsers do: it is sent them once more.
    call.people[viewer].rtp.clear();
    call.pass(400);
    for _ in 0..5 {
        let mut compound = Vec::new();
        rtcp::write_pli(&mut compound, 2, ssrc);
        call.says_rtcp(viewer, &compound);
        call.pass(50);
    }
    call.pass(100);
    let seen: Vec<_> = call.people[viewer].rtp.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
    let again: Vec<_> = seen.iter().filter(|packet| packet.payload_type == 102).collect();
    let order: Vec<u8> = again.iter().map(|packet| packet.payload[1]).collect();
    assert_eq!(order, (10..100).collect::<Vec<u8>>(), "from the keyframe on, each once");
    assert_eq!(again[0].sequence, sequence.wrapping_add(1));
    assert!(again[0].timestamp.wrapping_sub(timestamp) < 0x8000_0000, "time goes forward");
}
