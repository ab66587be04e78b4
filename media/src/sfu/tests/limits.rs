//! Who publishes more than anybody may: so much of it is forwarded, and nobody else is harmed.

use super::*;

/// Turns of a second.
const TURNS_PER_S: u32 = 40;

/// Ann, who means harm, Bo, who hears and sees, and Cy, whose camera he sees.
struct Scene {
    call: Call,
    ann: usize,
    bo: usize,
    cy: usize,
    /// Pictures of Cy's.
    shown: u16,
}

impl Scene {
    fn new() -> Scene {
        let mut call = Call::new();
        let (ann, bo, cy) = (call.join(), call.join_with(&two_faces()), call.join());
        call.publish(cy, 3, "1", Source::Camera);
        let mut scene = Scene { call, ann, bo, cy, shown: 0 };
        scene.pass(1, |_| {});
        assert!(scene.call.got(bo).1 > 20, "{:?}", scene.call.got(bo));
        scene.call.people[bo].rtp.clear();
        scene
    }

    /// Cy shows 40 pictures a second, while `floods` is done each turn, for so many seconds.
    fn pass(&mut self, seconds: u32, mut floods: impl FnMut(&mut Call)) {
        for turn in 0..seconds * TURNS_PER_S {
            self.shown += 1;
            self.call.picture(self.cy, "h", self.shown, turn % TURNS_PER_S == 0);
            floods(&mut self.call);
            self.call.pass(25);
        }
    }
}

impl Call {
    /// Packets of sound, and pictures of cy's, that somebody was sent.
    fn got(&self, who: usize) -> (usize, usize) {
        let packets = || self.people[who].rtp.iter().map(|bytes| Packet::read(bytes).unwrap());
        let sound = packets().filter(|packet| packet.payload_type == 111).count();
        (sound, packets().filter(|packet| packet.payload.last() == Some(&b'h')).count())
    }

    /// Packets somebody was told arrived, and that did not.
    fn told(&self, who: usize) -> (usize, usize) {
        let arrivals = self.people[who].rtcp.iter().flat_map(|one| match one {
            Rtcp::Feedback(feedback) => feedback.arrivals.clone(),
            _ => Vec::new(),
        });
        let (came, lost): (Vec<_>, Vec<_>) = arrivals.partition(Option::is_some);
        (came.len(), lost.len())
    }
}

#[test]
fn a_flood_of_a_voice_is_five_hundred_packets_a_second_and_others_are_seen_as_before() {
    let mut scene = Scene::new();
    let (ann, bo) = (scene.ann, scene.bo);
    scene.call.publish(ann, 1, "0", Source::Microphone);
    scene.call.pass(50);
    let (mut sequence, mut sent) = (0, 0);
    scene.pass(3, |call| {
        for _ in 0..125 {
            sequence += 1;
            sent += 1;
            call.voice(ann, sequence, 10);
        }
    });
    let (sound, pictures) = scene.call.got(bo);
    assert_eq!(pictures, 120, "every picture of Cy's");
    // A second's worth at once, and three seconds.
    assert!((1_900..=2_000).contains(&sound), "{sound}");
    let counts = scene.call.sfu.counts();
    assert_eq!((counts.refused_sound, counts.refused_bitrate), (sent - sound as u64, 0));
    // Who says as much as people do is heard again, after what there was too much of.
    scene.call.people[bo].rtp.clear();
    scene.pass(1, |call| {
        sequence += 1;
        call.voice(ann, sequence, 10);
    });
    assert_eq!(scene.call.got(bo), (40, 40));
}

#[test]
fn a_flood_of_small_packets_of_pictures_is_bounded_and_its_sender_hears_of_the_loss() {
    let mut scene = Scene::new();
    let (ann, bo) = (scene.ann, scene.bo);
    scene.call.publish(ann, 2, "1", Source::Camera);
    scene.call.pass(50);
    let (mut sequence, mut sent) = (0, 0);
    scene.pass(2, |call| {
        for _ in 0..250 {
            sequence += 1;
            sent += 1;
            call.picture(ann, "q", sequence, true);
        }
    });
    let counts = scene.call.sfu.counts();
    // 20 Mbit/s are 5,000 packets of 500 bytes.
    let passed = sent - counts.refused_bitrate;
    assert!((14_800..=15_000).contains(&passed), "{passed} of {sent}");
    let seen = scene.call.people[bo].rtp.iter().filter(|bytes| bytes.last() == Some(&b'q')).count() as u64;
    assert!(seen <= passed && seen > passed - 1_000, "{seen} of {passed}");
    assert_eq!((scene.call.got(bo).1, counts.refused_sound), (80, 0), "every picture of Cy's");
    scene.call.pass(100);
    let (came, lost) = scene.call.told(ann);
    assert!(came as u64 <= passed, "{came} of {passed} are said to have come");
    assert!(lost > 1_000, "{lost} are said to be lost");
}

#[test]
fn what_one_packet_repeats_counts_as_often_as_it_is_forwarded() {
    let mut scene = Scene::new();
    let bo = scene.bo;
    let text = sdp::tests::OFFER
        .replace("a=rtpmap:63 red/48000/2\r\n", "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n");
    let eve = scene.call.join_with(&text);
    scene.call.publish(eve, 1, "0", Source::Microphone);
    scene.call.pass(50);
    let (mut sequence, mut pieces) = (0_u16, 0);
    scene.pass(2, |call| {
        for _ in 0..25 {
            sequence += 10;
            pieces += 10;
            let number = (sequence / 10).to_be_bytes();
            let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"0"), (14, &[10])];
            let timestamp = u32::from(sequence) * 960;
            let mut packet = Vec::new();
            Header { marker: false, payload_type: 63, sequence, timestamp, ssrc: 77, extensions }
                .write(&mut packet);
            for before in (1..10_u32).rev() {
                packet
                    .extend_from_slice(&(0x80_00_00_00 | 111 << 24 | (before * 960) << 10 | 1).to_be_bytes());
            }
            packet.push(111);
            packet.extend_from_slice(&[9; 10]);
            call.say(eve, &packet);
        }
    });
    let (sound, pictures) = scene.call.got(bo);
    assert_eq!((pieces, pictures), (20_000, 80));
    assert!((1_400..=1_500).contains(&sound), "{sound}");
}

#[test]
fn what_may_be_published_is_what_was_said() {
    let mut call = Call::new();
    call.sfu.publish_kbps_max = 1_000;
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    call.pass(50);
    for sequence in 0..1_000 {
        call.picture(ann, "q", sequence, true);
    }
    assert_eq!((call.people[bo].rtp.len(), call.sfu.counts().refused_bitrate), (250, 750));
    call.pass(1_000);
    call.people[bo].rtp.clear();
    for sequence in 1_000..2_000 {
        call.picture(ann, "q", sequence, true);
    }
    assert_eq!((call.people[bo].rtp.len(), call.sfu.counts().refused_bitrate), (250, 1_500));
}

#[test]
fn a_flood_of_requests_is_bounded_and_who_asks_as_browsers_do_is_not() {
    let mut scene = Scene::new();
    let (bo, cy) = (scene.bo, scene.cy);
    scene.pass(1, |_| {});
    let ssrc = Packet::read(&scene.call.people[bo].rtp[0]).unwrap().ssrc;
    // As much as fits, of numbers of which nothing is known: thirty thousand a second are looked up, not half a million.
    let asks: Vec<u16> = (0..500).map(|at| 20_000 + at * 20).collect();
    let mut storm = Vec::new();
    while storm.len() < 1_000 {
        rtcp::write_nack(&mut storm, 1, ssrc, &asks[..100]);
    }
    let before = scene.call.sfu.counts();
    let mut sent = 0;
    scene.pass(2, |call| {
        for _ in 0..50 {
            sent += 1;
            call.says_rtcp(bo, &storm);
        }
    });
    let counts = scene.call.sfu.counts();
    let heard = sent - (counts.refused_rtcp - before.refused_rtcp);
    let most = 300_000 / storm.len() as u64;
    assert!(heard <= most && heard + 10 > most, "{heard} of {sent}, at most {most}");
    assert_eq!(counts.nacked - before.nacked, heard * 300, "all of what is heard");
    // Twice as often as browsers tell what arrived, both at once.
    scene.pass(1, |_| {});
    let (refused, mut report) = (scene.call.sfu.counts().refused_rtcp, Vec::new());
    rtcp::write_nack(&mut report, 1, ssrc, &asks[..10]);
    scene.pass(2, |call| {
        for who in [bo, cy] {
            call.says_rtcp(who, &report);
        }
    });
    assert_eq!(scene.call.sfu.counts().refused_rtcp, refused);
}

#[test]
fn a_few_bytes_that_say_thousands_of_packets_are_lost_are_not_cheap() {
    let mut call = Call::new();
    let bo = call.join();
    // One that came, and four thousand that did not.
    let told: Vec<Option<i64>> = std::iter::once(Some(0)).chain(vec![None; 4_000]).collect();
    let mut storm = Vec::new();
    for count in 0..25 {
        rtcp::write_feedback(&mut storm, 1, 1, count, 1, &told);
    }
    assert!(storm.len() < 1_000, "{} bytes", storm.len());
    for _ in 0..10 {
        call.says_rtcp(bo, &storm);
    }
    // The second is heard on credit.
    assert_eq!(call.sfu.counts().refused_rtcp, 8);
    call.pass(1_500);
    // What browsers say of 2,400 packets a second, for five seconds.
    for count in 0..100 {
        let mut report = Vec::new();
        rtcp::write_feedback(&mut report, 1, 1, count, u16::from(count) * 120, &[Some(0); 120]);
        call.says_rtcp(bo, &report);
        call.pass(50);
    }
    assert_eq!(call.sfu.counts().refused_rtcp, 8);
}
