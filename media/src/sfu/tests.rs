//! Whole calls in memory: clients with ICE, DTLS and SRTP of their own, and the shard between them.

use bytes::BytesMut;

mod demux;
mod listener;
mod moves;
mod network;
mod red;
mod selector;
mod topics;

use super::*;
use crate::peer::Fingerprint;
use crate::peer::tests::Client;
use crate::rtp::packet::{Header, Packet};
use crate::rtp::rtcp::{self, Rtcp};
use crate::sdp;

const ROOM: RoomKey = 7;

struct Person {
    client: Client,
    id: MemberId,
    rtp: Vec<BytesMut>,
    rtcp: Vec<Rtcp>,
}

struct Call {
    sfu: Sfu,
    now: Instant,
    people: Vec<Person>,
    events: Vec<Event>,
    taken: Vec<Taken>,
}

fn offer_of(text: &str, fingerprint: Fingerprint) -> Offer {
    let mut offer = Offer::read(text).unwrap();
    offer.fingerprint = fingerprint;
    offer
}

fn credentials_of(answer: &str) -> Credentials {
    let line = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    Credentials { ufrag: line("a=ice-ufrag:"), password: line("a=ice-pwd:") }
}

impl Call {
    fn new() -> Call {
        let now = crate::rtp::beginning();
        let identity = Arc::new(Identity::generate().unwrap());
        let sfu = Sfu::new(identity, vec!["192.0.2.1:7000".parse().unwrap()], 9, now);
        Call { sfu, now, people: Vec::new(), events: Vec::new(), taken: Vec::new() }
    }

    fn join(&mut self) -> usize {
        self.join_with(sdp::tests::OFFER)
    }

    fn join_with(&mut self, offer: &str) -> usize {
        let at = self.people.len();
        let client = Client::new(&format!("192.0.2.9:{}", 5_000 + at), self.sfu.identity.fingerprint());
        let (id, answer) = self.sfu.join(ROOM, &offer_of(offer, client.fingerprint()), self.now).unwrap();
        let server = credentials_of(&answer);
        let binding = client.binding(&server, &server.password);
        self.people.push(Person { client, id, rtp: Vec::new(), rtcp: Vec::new() });
        self.send(at, &binding);
        for _ in 0..10 {
            for datagram in self.people[at].client.outgoing() {
                self.send(at, &datagram);
            }
        }
        assert!(self.people[at].client.is_connected());
        at
    }

    fn send(&mut self, from: usize, datagram: &[u8]) {
        let (mut out, address) = (Out::default(), self.people[from].client.address);
        self.sfu.input(datagram, address, self.now, &mut out);
        self.carry(out);
    }

    fn carry(&mut self, out: Out) {
        self.events.extend(out.events);
        self.taken.extend(out.taken);
        for transmit in out.transmits {
            let Some(person) = self.people.iter_mut().find(|one| one.client.address == transmit.to) else {
                continue;
            };
            match transmit.bytes.first() {
                Some(128..=191) => {
                    let clear = person.client.open(&transmit.bytes).expect("it can be opened");
                    if rtcp::is_rtcp(&clear) {
                        rtcp::read(&clear, |one| person.rtcp.push(one)).unwrap();
                    } else {
                        person.rtp.push(clear);
                    }
                }
                _ => person.client.hear(&transmit.bytes),
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += POLL;
            let mut out = Out::default();
            self.sfu.poll(self.now, &mut out);
            self.carry(out);
        }
    }

    fn publish(&mut self, who: usize, key: TrackKey, mid: &str, source: Source) {
        let id = self.people[who].id;
        self.sfu.publish(id, key, mid, source, false).unwrap();
    }

    /// A packet of a picture: of layer `rid`, whose stream is named after it.
    fn picture(&mut self, who: usize, rid: &str, sequence: u16, keyframe: bool) {
        let number = sequence.to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"1"), (10, rid.as_bytes())];
        let ssrc = u32::from(rid.as_bytes()[0]) << 8;
        let timestamp = u32::from(sequence) * 3_000;
        let mut packet = Vec::new();
        Header { marker: true, payload_type: 96, sequence, timestamp, ssrc, extensions }.write(&mut packet);
        packet.extend_from_slice(&[0x10, u8::from(!keyframe), rid.as_bytes()[0]]);
        self.say(who, &packet);
    }

    fn voice(&mut self, who: usize, sequence: u16, level: u8) {
        let number = sequence.to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"0"), (14, &[level])];
        let ssrc = 40 + who as u32;
        let mut packet = Vec::new();
        Header { marker: false, payload_type: 111, sequence, timestamp: 0, ssrc, extensions }
            .write(&mut packet);
        packet.push(9);
        self.say(who, &packet);
    }

    fn say(&mut self, who: usize, packet: &[u8]) {
        let sealed = self.people[who].client.seal(packet);
        self.send(who, &sealed);
    }

    fn says_rtcp(&mut self, who: usize, compound: &[u8]) {
        let sealed = self.people[who].client.seal_rtcp(compound);
        self.send(who, &sealed);
    }

    fn keyframes_asked(&self, who: usize, ssrc: u32) -> usize {
        self.people[who].rtcp.iter().filter(|one| **one == Rtcp::KeyframeRequest { ssrc }).count()
    }
}

const Q: u32 = (b'q' as u32) << 8;
const H: u32 = (b'h' as u32) << 8;

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
    let small = vec![Want { track: 1, height: 180 }];
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
    call.sfu.view(call.people[bo].id, vec![Want { track: 1, height: 700 }]).unwrap();
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
fn the_publisher_hears_when_its_packets_arrived_and_what_is_missing() {
    let mut call = Call::new();
    let ann = call.join();
    call.publish(ann, 1, "1", Source::Camera);
    for sequence in [1, 2, 4] {
        call.picture(ann, "q", sequence, sequence == 1);
    }
    call.pass(100);
    let heard = &call.people[ann].rtcp;
    let feedback = heard.iter().find_map(|one| match one {
        Rtcp::Feedback(feedback) => Some(feedback),
        _ => None,
    });
    let feedback = feedback.expect("a feedback");
    assert_eq!((feedback.base, feedback.arrivals.len()), (1, 4));
    assert_eq!(feedback.arrivals.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, true]);
    assert!(heard.contains(&Rtcp::Nack { ssrc: Q, sequences: vec![3] }), "{heard:?}");
}

#[test]
fn of_many_voices_the_loudest_is_let_in() {
    let mut call = Call::new();
    let people: Vec<usize> = (0..4).map(|_| call.join()).collect();
    for who in &people {
        call.publish(*who, 10 + *who as u64, "0", Source::Microphone);
    }
    for sequence in 0..100 {
        for who in &people {
            // The last of them is loud, the others whisper; each has one slot for sound.
            call.voice(*who, sequence, if *who == 3 { 20 } else { 100 });
        }
        call.pass(25);
    }
    let last = call.events.iter().rev().find_map(|event| match event {
        Event::Speakers(ROOM, speakers) => Some(speakers.clone()),
        _ => None,
    });
    assert_eq!(last, Some(vec![call.people[3].id]));
    let slots = |who: usize| {
        let id = call.people[who].id;
        call.events.iter().rev().find_map(|event| match event {
            Event::Slots(of, slots) if *of == id => Some(slots[0].1),
            _ => None,
        })
    };
    assert_eq!((slots(0), slots(1), slots(2)), (Some(Some(13)), Some(Some(13)), Some(Some(13))));
}

#[test]
fn who_leaves_and_what_is_muted_is_forwarded_no_more() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "0", Source::Microphone);
    call.pass(50);
    call.voice(ann, 1, 30);
    assert_eq!(call.people[bo].rtp.len(), 1);
    call.sfu.mute(call.people[ann].id, 1, true).unwrap();
    call.pass(50);
    call.voice(ann, 2, 30);
    assert_eq!(call.people[bo].rtp.len(), 1);
    call.sfu.mute(call.people[ann].id, 1, false).unwrap();
    call.pass(50);
    call.voice(ann, 3, 30);
    let seen: Vec<u16> = call.people[bo].rtp.iter().map(|it| Packet::read(it).unwrap().sequence).collect();
    assert_eq!(seen[1], seen[0] + 1, "silence is no loss");
    let mut out = Out::default();
    call.sfu.leave(call.people[ann].id, call.now, &mut out);
    call.voice(ann, 4, 30);
    assert_eq!(call.people[bo].rtp.len(), 2);
    assert_eq!(call.sfu.counts().unknown, 1);
    call.sfu.leave(call.people[bo].id, call.now, &mut out);
    assert_eq!(call.sfu.len(), (0, 0));
    assert!(call.sfu.by_address.is_empty());
}

/// An offer of somebody with room for another face.
fn two_faces() -> String {
    let slot = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=setup:actpass\r\na=mid:4\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";
    format!("{}{slot}", sdp::tests::OFFER.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1 2 3 4"))
}

#[test]
fn what_a_path_does_not_carry_is_paused_and_said() {
    let mut call = Call::new();
    let (ann, cat) = (call.join(), call.join());
    let bo = call.join_with(&two_faces());
    let id = call.people[bo].id;
    for (who, key) in [(ann, 1), (cat, 2)] {
        call.publish(who, key, "1", Source::Camera);
    }
    let wants = [1, 2].map(|track| Want { track, height: 360 });
    call.sfu.view(id, wants.to_vec()).unwrap();
    // REMB (draft-alvestrand-rmcat-remb-03 section 2.2).
    let remb = |exponent: u8, mantissa: u32| {
        let [_, high, middle, low] = mantissa.to_be_bytes();
        let head = [0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1];
        [&head[..], &[exponent << 2 | high, middle, low, 0, 0, 0, 7]].concat()
    };
    call.says_rtcp(bo, &remb(0, 170_000));
    call.pass(50);
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

#[test]
fn two_thousand_who_come_and_go_leave_nothing_behind() {
    let mut call = Call::new();
    let offer = offer_of(sdp::tests::OFFER, [1; 32]);
    for _ in 0..2_000 {
        let (id, _) = call.sfu.join(ROOM, &offer, call.now).unwrap();
        call.sfu.publish(id, 1, "1", Source::Camera, false).unwrap();
        call.pass(25);
        call.sfu.leave(id, call.now, &mut Out::default());
        assert_eq!(call.sfu.leave_twice(id), SfuError::Gone);
    }
    assert_eq!((call.sfu.len(), call.sfu.members.capacity() < 16), ((0, 0), true));
}

impl Sfu {
    fn leave_twice(&mut self, id: MemberId) -> SfuError {
        self.unpublish(id, 1).unwrap_err()
    }
}

#[test]
fn no_datagram_ends_in_a_panic_or_is_believed() {
    let mut call = Call::new();
    let (ann, _) = (call.join(), call.join());
    let address = call.people[ann].client.address;
    let mut random = 1_u64;
    for len in 0..3_000 {
        let datagram: Vec<u8> = (0..len % 1_400)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as u8
            })
            .collect();
        let mut out = Out::default();
        call.sfu.input(&datagram, address, call.now, &mut out);
        call.sfu.input(&datagram, "203.0.113.5:9".parse().unwrap(), call.now, &mut out);
        assert!(out.events.is_empty());
    }
    assert_eq!(call.sfu.by_address.len(), 2);
    // What strangers tried counts against new streams for a second.
    call.pass(1_100);
    call.voice(ann, 1, 30);
    assert_eq!(call.sfu.counts().packets_in, 1, "and who was there still is");
}

#[test]
fn nobody_is_believed_to_be_at_port_0() {
    let mut call = Call::new();
    let client = Client::new("192.0.2.9:5000", call.sfu.identity.fingerprint());
    let (_, answer) =
        call.sfu.join(ROOM, &offer_of(sdp::tests::OFFER, client.fingerprint()), call.now).unwrap();
    let server = credentials_of(&answer);
    let binding = client.binding(&server, &server.password);
    for (port, answers) in [(0, 0), (5_000, 1)] {
        let mut out = Out::default();
        call.sfu.input(&binding, SocketAddr::from(([192, 0, 2, 9], port)), call.now, &mut out);
        assert_eq!((out.transmits.len(), call.sfu.by_address.len()), (answers, answers));
    }
    assert_eq!(call.sfu.counts().unknown, 1);
}

#[test]
fn who_comes_in_the_middle_of_a_gop_is_sent_what_it_has_so_far_and_then_what_is_new() {
    use crate::rtp::payload::Codec;

    let mut call = Call::new();
    let tracks = [(1, Source::Camera, Codec::H264), (2, Source::Microphone, Codec::Opus)];
    let feed = call.sfu.open_feed(ROOM, &tracks, call.now).unwrap();
    let show = |call: &mut Call, from: u32, to: u32| {
        for at in from..to {
            let kind = if at.is_multiple_of(60) { 0x65 } else { 0x41 };
            let packet = |marker| super::Packet {
                payload: vec![kind, at as u8, u8::from(marker)].into(),
                timestamp: at * 3_000,
                marker,
            };
            let mut out = Out::default();
            let packets = [packet(false), packet(true)];
            call.sfu.feed(feed, 1, u64::from(at) * 33_333, call.now, &packets, call.now, &mut out).unwrap();
            let sound = super::Packet { payload: vec![9].into(), timestamp: at * 1_600, marker: false };
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
    use crate::rtp::payload::Codec;

    let mut call = Call::new();
    call.pass(5_000);
    let feed = call.sfu.open_feed(ROOM, &[(1, Source::Camera, Codec::H264)], call.now).unwrap();
    // Three seconds of pictures at once, each of which came when it was shown.
    for at in 0..100_u32 {
        let came = call.now - Duration::from_millis(33) * (99 - at);
        let kind = if at == 10 { 0x65 } else { 0x41 };
        let packet =
            super::Packet { payload: vec![kind, at as u8].into(), timestamp: at * 3_000, marker: true };
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

#[test]
fn what_is_taken_comes_out_and_its_publisher_is_asked_for_keyframes() {
    let mut call = Call::new();
    let ann = call.join();
    call.publish(ann, 1, "1", Source::Camera);
    let id = call.people[ann].id;
    call.sfu.take(id, 1).unwrap();
    let mut taken = Vec::new();
    for sequence in 1..4 {
        call.picture(ann, "q", sequence, true);
    }
    call.sfu.ask_keyframe(id, 1).unwrap();
    call.pass(50);
    assert_eq!(call.keyframes_asked(ann, Q), 1);
    let sealed = {
        let number = 4_u16.to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"1"), (10, b"q")];
        let mut packet = Vec::new();
        Header { marker: true, payload_type: 96, sequence: 4, timestamp: 12_000, ssrc: Q, extensions }
            .write(&mut packet);
        packet.extend_from_slice(&[0x10, 1, 7]);
        call.people[ann].client.seal(&packet)
    };
    let (mut out, address) = (Out::default(), call.people[ann].client.address);
    call.sfu.input(&sealed, address, call.now, &mut out);
    taken.append(&mut out.taken);
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].member, taken[0].track, taken[0].kept.sequence), (id, 1, 4));
    call.sfu.unpublish(id, 1).unwrap();
    assert_eq!(call.sfu.ask_keyframe(id, 1), Err(SfuError::Gone));
}
