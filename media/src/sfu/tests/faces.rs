//! Which pictures of whom are sent: from a keyframe on, in the layer that fits, and as many as a path and the shard carry.

use super::*;
use crate::rtp::payload::Vp8;

#[test]
fn a_face_is_seen_from_its_keyframe_on_and_again_when_asked_for() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    call.pass(50);
    call.picture(ann, "q", 10, false);
    call.pass(50);
    assert!(call.people[bo].rtp.is_empty(), "nothing can be begun with");
    assert_eq!(call.keyframes_asked(ann, Q), 1);
    call.picture(ann, "q", 11, true);
    for sequence in 12..15 {
        call.picture(ann, "q", sequence, false);
    }
    let seen: Vec<_> = call.people[bo].rtp.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
    assert_eq!(seen.len(), 4);
    assert!(seen.windows(2).all(|two| two[1].sequence == two[0].sequence + 1));
    assert!(seen.windows(2).all(|two| two[1].timestamp.wrapping_sub(two[0].timestamp) == 3_000));
    let (ssrc, lost) = (seen[0].ssrc, seen[2].sequence);
    assert_eq!(seen[2].payload, [0x10, 1, b'q']);
    let slot = Event::Slots(call.people[bo].id, vec![("2".to_owned(), None), ("3".to_owned(), Some(1))]);
    assert!(call.events.contains(&slot), "{:?}", call.events);

    call.people[bo].rtp.clear();
    let mut nack = Vec::new();
    rtcp::write_nack(&mut nack, 1, ssrc, &[lost]);
    call.says_rtcp(bo, &nack);
    let again = Packet::read(&call.people[bo].rtp[0]).unwrap();
    assert_eq!((again.ssrc, again.payload_type), (ssrc + 1, 97));
    assert_eq!(again.payload, [&lost.to_be_bytes()[..], &[0x10, 1, b'q']].concat());
    call.says_rtcp(bo, &nack);
    assert_eq!(call.people[bo].rtp.len(), 1, "asked twice at once");
}

#[test]
fn a_keyframe_whose_beginning_comes_last_is_seen_whole() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    call.pass(50);
    let [first, second, third]: [&[u8]; 3] = [&[0x10, 0, b'1'], &[0x00, 1, b'2'], &[0x00, 1, b'3']];
    for (sequence, payload) in [(11, second), (12, third), (10, first)] {
        call.picture_of(ann, "q", sequence, payload);
    }
    call.pass(25);
    call.picture_of(ann, "q", 13, &[0x10, 1, b'4']);
    let seen: Vec<_> = call.people[bo].rtp.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
    let shown: Vec<u8> = seen.iter().map(|packet| packet.payload[2]).collect();
    assert_eq!(shown, b"1234");
    assert!(seen.windows(2).all(|two| two[1].sequence == two[0].sequence + 1));
}

#[test]
fn a_layer_that_is_made_no_more_keeps_nothing() {
    let mut call = Call::new();
    let (ann, _bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    for sequence in 1..40 {
        call.picture(ann, "h", sequence, sequence == 1);
        call.pass(25);
    }
    let kept = |call: &Call| {
        let layers = &call.sfu.members[call.people[ann].id.index as usize].tracks[0].layers;
        layers.iter().map(|layer| layer.ring.from(1).count()).sum::<usize>()
    };
    assert_eq!(kept(&call), 39);
    call.pass(2_500);
    assert!(kept(&call) <= 1, "{} packets", kept(&call));
}

#[test]
fn a_larger_tile_moves_to_the_larger_layer_on_its_keyframe() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    let small = vec![Want::new(1, 180)];
    call.sfu.view(call.people[bo].id, small).unwrap();
    call.pass(50);
    let both = |call: &mut Call, sequence, keyframe| {
        call.picture(ann, "q", sequence, keyframe);
        call.picture(ann, "h", sequence, keyframe);
        call.pass(25);
    };
    both(&mut call, 1, true);
    // So much later the keyframe of the other layer is too old to be begun with.
    for sequence in 2..20 {
        both(&mut call, sequence, false);
    }
    let shown = |call: &Call| -> Vec<u8> {
        call.people[bo].rtp.iter().map(|bytes| Packet::read(bytes).unwrap().payload[2]).collect()
    };
    assert_eq!(shown(&call), b"q".repeat(19));
    call.sfu.view(call.people[bo].id, vec![Want::new(1, 700)]).unwrap();
    call.pass(50);
    both(&mut call, 20, false);
    assert_eq!(shown(&call), b"q".repeat(20), "until the keyframe the small one goes on");
    assert_eq!(call.keyframes_asked(ann, H), 1);
    both(&mut call, 21, true);
    both(&mut call, 22, false);
    assert_eq!(shown(&call), [b"q".repeat(21), b"hh".to_vec()].concat());
    let sequences: Vec<u16> =
        call.people[bo].rtp.iter().map(|it| Packet::read(it).unwrap().sequence).collect();
    assert!(sequences.windows(2).all(|two| two[1] == two[0] + 1), "{sequences:?}");
    assert!(call.events.contains(&Event::Wanted(call.people[ann].id, 1, Some(0))));
    assert!(call.events.contains(&Event::Wanted(call.people[ann].id, 1, Some(1))));
}

#[test]
fn who_comes_just_after_a_keyframe_is_sent_it_from_what_is_kept() {
    let mut call = Call::new();
    let ann = call.join();
    call.publish(ann, 1, "1", Source::Camera);
    call.picture(ann, "q", 1, true);
    call.picture(ann, "q", 2, false);
    let bo = call.join();
    call.pass(50);
    let seen = |call: &Call| -> Vec<u8> {
        call.people[bo].rtp.iter().map(|bytes| Packet::read(bytes).unwrap().payload[1]).collect()
    };
    assert_eq!(seen(&call), [0, 1]);
    call.picture(ann, "q", 3, false);
    assert_eq!((seen(&call), call.keyframes_asked(ann, Q)), (vec![0, 1, 1], 0));
    call.pass(500);
    call.picture(ann, "q", 4, false);
    let cat = call.join();
    call.pass(50);
    assert!(call.people[cat].rtp.is_empty(), "an old keyframe is of no use");
    assert_eq!(call.keyframes_asked(ann, Q), 1);
}

/// What a receiver says its path carries, `mantissa << exponent` bit/s: REMB (draft-alvestrand-rmcat-remb-03 section 2.2).
fn remb(exponent: u8, mantissa: u32) -> Vec<u8> {
    let [_, high, middle, low] = mantissa.to_be_bytes();
    let head = [0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1];
    [&head[..], &[exponent << 2 | high, middle, low, 0, 0, 0, 7]].concat()
}

/// Somebody sees track 1 of one and track 2 of another, and their path carries the first alone; who shows them, and who sees.
fn room_for_one_face() -> (Call, [usize; 2], usize) {
    let mut call = Call::new();
    let (ann, cat) = (call.join(), call.join());
    let bo = call.join_with(&two_faces());
    let id = call.people[bo].id;
    for (who, key) in [(ann, 1), (cat, 2)] {
        call.publish(who, key, "1", Source::Camera);
    }
    let wants = [1, 2].map(|track| Want::new(track, 360));
    call.sfu.view(id, wants.to_vec()).unwrap();
    call.says_rtcp(bo, &remb(0, 170_000));
    call.pass(50);
    (call, [ann, cat], bo)
}

#[test]
fn what_a_path_does_not_carry_is_paused_and_said() {
    let (mut call, [ann, cat], bo) = room_for_one_face();
    let id = call.people[bo].id;
    assert!(call.events.contains(&Event::Paused(id, 2, true)), "{:?}", call.events);
    assert!(!call.events.iter().any(|event| matches!(event, Event::Paused(_, 1, _))));
    assert_eq!(call.sfu.survey().paused, 1);
    for (sequence, who) in [(1, ann), (1, cat)] {
        call.picture(who, "q", sequence, true);
    }
    assert_eq!(call.people[bo].rtp.len(), 1, "only the first is sent");
    call.says_rtcp(bo, &remb(5, 200_000));
    call.pass(1_100);
    assert!(call.events.contains(&Event::Paused(id, 2, false)), "{:?}", call.events);
    call.picture(cat, "q", 2, true);
    assert_eq!(call.people[bo].rtp.len(), 2);
}

#[test]
fn what_is_preferred_is_paused_last_and_of_equal_ones_the_first() {
    let (mut call, [ann, cat], bo) = room_for_one_face();
    let id = call.people[bo].id;
    let mut sequences = [0; 2];
    let mut shown = |call: &mut Call, wants: [Want; 2]| -> Vec<u8> {
        call.sfu.view(id, wants.to_vec()).unwrap();
        // Longer than whoever was paused stays so, and than what two pictures cost is taken for a measure.
        for _ in 0..2 {
            call.says_rtcp(bo, &remb(0, 170_000));
            call.pass(1_100);
        }
        call.people[bo].rtp.clear();
        for (sequence, (who, name)) in sequences.iter_mut().zip([(ann, b'1'), (cat, b'2')]) {
            *sequence += 1;
            call.picture_of(who, "q", *sequence, &[0x10, 0, name]);
        }
        call.people[bo].rtp.iter().map(|bytes| Packet::read(bytes).unwrap().payload[2]).collect()
    };
    let [first, second] = [1, 2].map(|track| Want::new(track, 360));
    let preferred = Want { priority: 1, ..second };
    assert_eq!(shown(&mut call, [first, second]), b"1");
    assert_eq!(shown(&mut call, [first, preferred]), b"2", "the higher number");
    assert_eq!(shown(&mut call, [first, second]), b"1");
    assert_eq!(shown(&mut call, [second, first]), b"2", "whichever slot it is in");
}

#[test]
fn as_many_pictures_are_sent_as_are_enough() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    let mut picture = 0_u16;
    // A second of 40 pictures: 10 of the lowest temporal layer, 10 and 20 of the others. Each is a sync point of its layer.
    let mut second = |call: &mut Call, fps| {
        call.sfu.view(call.people[bo].id, vec![Want { fps, ..Want::new(1, 180) }]).unwrap();
        call.pass(25);
        call.people[bo].rtp.clear();
        for turn in 0..40 {
            let temporal = [0, 2, 1, 2][turn % 4];
            let [high, low] = (picture | 0x8000).to_be_bytes();
            let key = u8::from(picture != 0);
            let payload = [0x90, 0xF0, high, low, (picture / 4) as u8, temporal << 6 | 0x20, key, b'q'];
            call.picture_of(ann, "q", picture, &payload);
            picture += 1;
            call.pass(25);
        }
        let packets = call.people[bo].rtp.iter().map(|bytes| Packet::read(bytes).unwrap());
        let numbers: Vec<(u16, u16)> = packets
            .map(|packet| (packet.sequence, Vp8::read(packet.payload).unwrap().picture_id.unwrap()))
            .collect();
        let follow = |two: &[(u16, u16)]| two[1].0 == two[0].0 + 1 && two[1].1 == two[0].1 + 1;
        assert!(numbers.windows(2).all(follow), "what is left out is not missed: {numbers:?}");
        numbers.len()
    };
    assert_eq!(second(&mut call, None), 40);
    assert_eq!(second(&mut call, Some(30)), 40);
    assert_eq!(second(&mut call, Some(15)), 20);
    assert_eq!(second(&mut call, Some(20)), 20);
    assert_eq!(second(&mut call, Some(1)), 10, "the least there is");
    // The first of the highest comes before one of the middle, which it could be made of.
    assert_eq!(second(&mut call, Some(60)), 39, "all there is");
    assert_eq!(call.keyframes_asked(ann, Q), 1, "and only to begin with was one needed");
}

#[test]
fn who_may_have_missed_it_is_told_again_what_is_paused_and_what_is_watched() {
    let (mut call, [ann, _], bo) = room_for_one_face();
    let told = |call: &mut Call, who: usize| -> Vec<Event> {
        call.events.clear();
        let mut out = Out::default();
        call.sfu.tell_again(call.people[who].id, &mut out);
        call.carry(out);
        call.pass(50);
        call.events.drain(..).filter(|event| matches!(event, Event::Paused(..) | Event::Wanted(..))).collect()
    };
    let (id, shows) = (call.people[bo].id, call.people[ann].id);
    assert_eq!(told(&mut call, bo), [Event::Paused(id, 1, false), Event::Paused(id, 2, true)]);
    // What has ended while they were away is said too, or they would take it for paused for ever.
    call.says_rtcp(bo, &remb(5, 200_000));
    call.pass(1_100);
    assert_eq!(told(&mut call, bo), [Event::Paused(id, 1, false), Event::Paused(id, 2, false)]);
    // Who shows a face sees one too.
    assert_eq!(told(&mut call, ann), [Event::Paused(shows, 2, false), Event::Wanted(shows, 1, Some(1))]);
}

#[test]
fn under_stress_fewer_faces_are_sent_and_voices_go_on() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    call.publish(ann, 2, "0", Source::Microphone);
    call.pass(50);
    call.sfu.limit_faces(0);
    call.pass(50);
    let slots = |call: &Call| {
        let id = call.people[bo].id;
        let last = call.events.iter().rev().find_map(|event| match event {
            Event::Slots(of, slots) if *of == id => Some(slots.clone()),
            _ => None,
        });
        last.unwrap().into_iter().map(|(_, track)| track).collect::<Vec<_>>()
    };
    assert_eq!(slots(&call), [Some(2), None]);
    call.sfu.limit_faces(usize::MAX);
    call.pass(50);
    assert_eq!(slots(&call), [Some(2), Some(1)]);
}
