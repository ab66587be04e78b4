//! Whole calls in memory: clients with ICE, DTLS and SRTP of their own, and the shard between them.

use bytes::BytesMut;

mod contain;
mod demux;
mod encrypted;
mod faces;
mod feed;
mod limits;
mod listener;
mod moves;
mod network;
mod red;
mod selector;
mod strangers;
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
        self.picture_of(who, rid, sequence, &[0x10, u8::from(!keyframe), rid.as_bytes()[0]]);
    }

    fn picture_of(&mut self, who: usize, rid: &str, sequence: u16, payload: &[u8]) {
        let number = sequence.to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"1"), (10, rid.as_bytes())];
        let ssrc = u32::from(rid.as_bytes()[0]) << 8;
        let timestamp = u32::from(sequence) * 3_000;
        let mut packet = Vec::new();
        Header { marker: true, payload_type: 96, sequence, timestamp, ssrc, extensions }.write(&mut packet);
        packet.extend_from_slice(payload);
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
fn the_sound_of_a_screen_stays_while_many_speak_and_takes_nobody_the_only_voice() {
    let section = sdp::tests::OFFER.split("m=").nth(3).unwrap();
    let two_slots = format!("{}m={}", sdp::tests::OFFER, section.replace("a=mid:2", "a=mid:4"));
    let two_slots = two_slots.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1 2 3 4");
    let mut call = Call::new();
    let (shares, hears_two, hears_one) = (call.join(), call.join_with(&two_slots), call.join());
    let speakers = [call.join(), call.join(), call.join()];
    call.publish(shares, 1, "0", Source::ScreenAudio);
    for (who, key) in speakers.into_iter().zip(10..) {
        call.publish(who, key, "0", Source::Microphone);
    }
    for sequence in 0..100 {
        call.voice(shares, sequence, 60);
        for (who, level) in speakers.into_iter().zip([40, 30, 20]) {
            call.voice(who, sequence, level);
        }
        call.pass(25);
    }
    let heard = |who: usize| -> Vec<TrackKey> {
        let id = call.people[who].id;
        let slots = call.events.iter().rev().find_map(|event| match event {
            Event::Slots(of, slots) if *of == id => Some(slots),
            _ => None,
        });
        let mut heard: Vec<TrackKey> = slots.unwrap().iter().filter_map(|(_, track)| *track).collect();
        heard.sort_unstable();
        heard
    };
    assert_eq!((heard(hears_two), heard(hears_one), heard(shares)), (vec![1, 12], vec![12], vec![12]));
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

#[test]
fn silence_is_not_sent_on_and_nobody_misses_it() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "0", Source::Microphone);
    call.sfu.take(call.people[ann].id, 1).unwrap();
    call.pass(50);
    for sequence in 0..200 {
        call.voice(ann, sequence, if (40..160).contains(&sequence) { 127 } else { 30 });
        call.pass(25);
    }
    let heard: Vec<(u16, bool)> = call.people[bo]
        .rtp
        .iter()
        .map(|bytes| Packet::read(bytes).unwrap())
        .map(|packet| (packet.sequence, packet.marker))
        .collect();
    // 80 of sound, 200 ms of silence, then one each 400 ms.
    assert_eq!(heard.len(), 80 + 8 + 7);
    assert!(heard.windows(2).all(|two| two[1].0 == two[0].0 + 1), "{heard:?}");
    let begins: Vec<usize> = (0..heard.len()).filter(|at| heard[*at].1).collect();
    assert_eq!(begins.last(), Some(&(heard.len() - 40)), "sound that follows a pause says so");
    assert_eq!(call.sfu.counts().silent, 200 - heard.len() as u64);
    assert_eq!(call.taken.len(), 200, "who takes a track takes all of it");
}

#[test]
fn who_offers_more_slots_than_there_are_has_the_rest_inactive() {
    let slot = |kind: &str, mid: usize| {
        let section =
            sdp::tests::OFFER.split("m=").skip(3).find(|section| section.starts_with(kind)).unwrap();
        let (head, rest) = section.split_once("a=mid:").unwrap();
        format!("m={head}a=mid:{mid}{}", &rest[1..])
    };
    let more: String =
        (4..31).map(|mid| slot("video", mid)).chain([slot("audio", 31), slot("audio", 32)]).collect();
    let mut call = Call::new();
    let mids: Vec<String> = (0..33).map(|mid| mid.to_string()).collect();
    let begin = sdp::tests::OFFER.replace("BUNDLE 0 1 2 3", &format!("BUNDLE {}", mids.join(" ")));
    let offer = offer_of(&format!("{begin}{more}"), [1; 32]);
    let (id, answer) = call.sfu.join(ROOM, &offer, call.now).unwrap();
    // 28 for pictures, three of them too many; as many for sound as there are.
    assert_eq!((answer.matches("a=sendonly").count(), answer.matches("a=inactive").count()), (25 + 3, 3));
    let again = call.sfu.offer(id, &offer, call.now).unwrap();
    assert_eq!(again.matches("a=sendonly").count(), 28);
}

/// An offer of somebody with room for another face.
fn two_faces() -> String {
    let slot = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=setup:actpass\r\na=mid:4\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";
    format!("{}{slot}", sdp::tests::OFFER.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1 2 3 4"))
}

#[test]
fn two_thousand_who_come_and_go_leave_nothing_behind() {
    let mut call = Call::new();
    let offer = offer_of(sdp::tests::OFFER, [1; 32]);
    let stays = call.join();
    for turn in 0..2_000 {
        // Each twentieth is seen and heard, and the others are gone before they were ever reached.
        let id = if turn % 20 == 0 {
            let who = call.join();
            call.publish(who, 2 * turn, "1", Source::Camera);
            call.publish(who, 2 * turn + 1, "0", Source::Microphone);
            call.pass(25);
            for sequence in 0..20 {
                call.picture(who, "q", sequence, sequence == 0);
                call.voice(who, sequence, 30);
            }
            assert_eq!(call.people[stays].rtp.drain(..).count(), 40);
            call.people.pop().unwrap().id
        } else {
            let (id, _) = call.sfu.join(ROOM, &offer, call.now).unwrap();
            call.sfu.publish(id, 1, "1", Source::Camera, false).unwrap();
            call.pass(25);
            id
        };
        call.sfu.leave(id, call.now, &mut Out::default());
        assert_eq!(call.sfu.leave_twice(id), SfuError::Gone);
    }
    call.pass(25);
    assert_eq!((call.sfu.len(), call.sfu.members.capacity() < 16), ((1, 1), true));
    assert_eq!((call.sfu.by_address.len(), call.sfu.rooms.len()), (1, 1));
    let stays = &call.sfu.members[call.people[stays].id.index as usize];
    assert!(stays.slots.iter().all(|slot| slot.bound.is_none()) && stays.streams.is_empty());
}

impl Sfu {
    fn leave_twice(&mut self, id: MemberId) -> SfuError {
        self.unpublish(id, 1).unwrap_err()
    }
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
