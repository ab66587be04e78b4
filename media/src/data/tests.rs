//! A client and its counterpart with a wire between them, and what a client must not be able to do.

use std::time::Duration;

use super::talker::Talker;
use super::*;

/// A client, its counterpart, and what passed between them.
struct Wire {
    talker: Talker,
    data: Data,
    now: Instant,
    said: Vec<Said>,
    ending: Option<Ending>,
    /// Packets to the client that are lost from now on.
    deaf: bool,
}

impl Wire {
    fn new() -> Wire {
        let now = crate::rtp::beginning();
        let data = Data::new(usize::MAX, now);
        let mut wire = Wire {
            talker: Talker::new(now).unwrap(),
            data,
            now,
            said: Vec::new(),
            ending: None,
            deaf: false,
        };
        wire.carry();
        assert!(wire.talker.is_connected());
        wire
    }

    /// Carries packets until both are quiet.
    fn carry(&mut self) {
        loop {
            let up = self.talker.outgoing(self.now);
            for packet in &up {
                self.input(packet.clone());
            }
            if self.ending.is_some() {
                self.data.end();
            }
            let down = self.data.outgoing(self.now);
            if up.is_empty() && down.is_empty() {
                return;
            }
            for packet in down.into_iter().filter(|_| !self.deaf) {
                self.talker.hear(packet, self.now);
            }
        }
    }

    fn input(&mut self, packet: Bytes) {
        if self.ending.is_none() {
            self.ending = self.data.input(packet, self.now, &mut self.said).err();
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += Duration::from_millis(25);
            if self.ending.is_none() {
                self.ending = self.data.poll(self.now).err();
            }
            self.carry();
        }
    }

    fn opens(&mut self, stream: u16, topic: &str, reliability: Reliability) {
        self.talker.opens(stream, topic, reliability == Reliability::Reliable, reliability, self.now);
        self.carry();
    }

    fn says(&mut self, stream: u16, text: &str) {
        self.talker.says(stream, text, self.now);
        self.carry();
    }
}

#[test]
fn topics_are_opened_and_messages_pass_both_ways() {
    let mut wire = Wire::new();
    wire.opens(0, "chat", Reliability::Reliable);
    wire.opens(2, "pointer", Reliability::Repeats(0));
    assert_eq!(wire.talker.open, [0, 2]);
    wire.says(0, "good morning");
    wire.talker.sends(2, Kind::Binary, &[1, 2], wire.now);
    wire.talker.sends(0, Kind::StringEmpty, &[0], wire.now);
    wire.carry();
    let said: Vec<_> =
        wire.said.iter().map(|it| (&*it.topic, it.lossy, it.is_text, it.bytes.to_vec())).collect();
    let expected = [
        ("chat", false, true, b"good morning".to_vec()),
        ("pointer", true, false, vec![1, 2]),
        ("chat", false, true, vec![]),
    ];
    assert_eq!(said, expected);
    assert!(wire.data.takes("chat") && !wire.data.takes("cha"));
    let long = Bytes::from(vec![b'x'; MESSAGE_BYTES_MAX + SENDER_BYTES_MAX]);
    assert_eq!(wire.data.say("chat", false, true, &long), Ok(true));
    assert_eq!(wire.data.say("pointer", true, false, &Bytes::from_static(&[9])), Ok(true));
    assert_eq!(wire.data.say("nobody's", false, true, &long), Ok(false));
    wire.carry();
    wire.talker.heard.sort_by_key(|(stream, ..)| *stream);
    assert_eq!(wire.talker.heard, [(0, true, long), (2, false, Bytes::from_static(&[9]))]);
    wire.talker.closes(0, wire.now);
    wire.pass(500);
    assert!(!wire.data.takes("chat") && wire.data.takes("pointer"));
    wire.opens(0, "chat again", Reliability::Reliable);
    assert!(wire.data.takes("chat again") && wire.ending.is_none());
}

#[test]
fn a_beginning_that_is_repeated_is_answered_alike() {
    let now = crate::rtp::beginning();
    let (mut talker, mut data) = (Talker::new(now).unwrap(), Data::new(usize::MAX, now));
    let init = talker.outgoing(now);
    let mut answers = Vec::new();
    for _ in 0..2 {
        data.input(init[0].clone(), now, &mut Vec::new()).unwrap();
        answers.push(data.outgoing(now));
    }
    assert!(!answers[0].is_empty() && answers[0] == answers[1]);
    talker.hear(answers[1][0].clone(), now);
    for packet in talker.outgoing(now) {
        data.input(packet, now, &mut Vec::new()).unwrap();
    }
    for packet in data.outgoing(now) {
        talker.hear(packet, now);
    }
    assert!(talker.is_connected());
    // Another beginning does not end what stands.
    let other = Talker::new(now).unwrap().outgoing(now);
    data.input(other[0].clone(), now, &mut Vec::new()).unwrap();
    assert!(data.outgoing(now).is_empty());
}

#[test]
fn what_was_lost_on_the_way_is_repeated_where_that_was_promised() {
    let mut wire = Wire::new();
    wire.opens(0, "chat", Reliability::Reliable);
    wire.opens(2, "pointer", Reliability::Repeats(0));
    wire.pass(500);
    wire.deaf = true;
    for topic in ["chat", "pointer"] {
        wire.data.say(topic, false, true, &Bytes::from_static(b"lost")).unwrap();
    }
    wire.pass(100);
    wire.deaf = false;
    wire.pass(5_000);
    assert_eq!(wire.talker.heard, [(0, true, Bytes::from_static(b"lost"))]);
    assert_eq!(wire.ending, None);
}

#[test]
fn who_does_not_read_loses_what_nobody_promised_and_then_the_channels() {
    let mut wire = Wire::new();
    wire.opens(0, "chat", Reliability::Reliable);
    wire.opens(2, "pointer", Reliability::Repeats(0));
    wire.deaf = true;
    let message = Bytes::from(vec![b'x'; 1_000]);
    for _ in 0..300 {
        assert_eq!(wire.data.say("pointer", false, false, &message), Ok(true));
        wire.carry();
    }
    let lost = wire.data.take_tally().too_slow;
    assert!((150..300).contains(&lost), "{lost} messages");
    let ending = (0..1_000).find_map(|_| wire.data.say("chat", false, true, &message).err());
    assert_eq!(ending, Some(Ending::Slow));
}

#[test]
fn who_says_too_much_loses_some_or_the_channels() {
    let mut wire = Wire::new();
    wire.opens(0, "chat", Reliability::Reliable);
    wire.opens(2, "pointer", Reliability::Repeats(0));
    for _ in 0..300 {
        wire.says(2, "here");
    }
    assert_eq!(wire.said.len(), RATE.messages_burst as usize);
    assert_eq!(wire.data.take_tally().too_fast, 100);
    wire.pass(1_000);
    for _ in 0..40 {
        wire.says(0, "and");
    }
    assert_eq!(wire.ending, None);
    let more = (0..20).take_while(|_| {
        wire.says(0, "so on");
        wire.ending.is_none()
    });
    assert!(more.count() < 20);
    assert_eq!(wire.ending, Some(Ending::TooFast));
    assert_eq!(wire.talker.closed, [0, 2], "it hears that they are closed");
}

#[test]
fn messages_and_channels_have_bounds() {
    let mut wire = Wire::new();
    wire.opens(0, "chat", Reliability::Reliable);
    wire.says(0, &"x".repeat(MESSAGE_BYTES_MAX));
    assert_eq!((wire.said.len(), wire.ending), (1, None));
    wire.says(0, &"x".repeat(MESSAGE_BYTES_MAX + 1));
    assert_eq!(wire.ending, Some(Ending::TooLarge));

    let mut wire = Wire::new();
    for at in 0..CHANNELS_MAX as u16 {
        wire.opens(at * 2, &format!("topic {at}"), Reliability::Reliable);
    }
    assert_eq!(wire.ending, None);
    wire.opens(40, "one more", Reliability::Reliable);
    assert_eq!(wire.ending, Some(Ending::TooManyChannels));

    let mut wire = Wire::new();
    wire.opens(guard::STREAMS_MAX, "beyond", Reliability::Reliable);
    assert_eq!(wire.ending, Some(Ending::Protocol));
}

#[test]
fn what_is_no_protocol_ends_the_channels() {
    let breaks: [fn(&mut Wire); 3] = [
        |wire| wire.talker.sends(0, Kind::Dcep, b"\x03\x00", wire.now),
        |wire| {
            wire.talker.sends(
                0,
                Kind::Dcep,
                &dcep::write_open("twice", true, Reliability::Reliable),
                wire.now,
            )
        },
        |wire| wire.talker.sends(0, Kind::String, &[0xFF], wire.now),
    ];
    for breaks in breaks {
        let mut wire = Wire::new();
        wire.opens(0, "chat", Reliability::Reliable);
        breaks(&mut wire);
        wire.carry();
        assert_eq!(wire.ending, Some(Ending::Protocol));
    }
}

#[test]
fn a_receiver_of_short_messages_is_sent_none_that_are_longer() {
    let mut wire = Wire::new();
    wire.data.message_max = 10;
    wire.opens(0, "chat", Reliability::Reliable);
    assert_eq!(wire.data.say("chat", false, true, &Bytes::from_static(b"0123456789")), Ok(true));
    assert_eq!(wire.data.say("chat", false, true, &Bytes::from_static(b"0123456789+")), Ok(false));
}

/// A packet with the header of another: a chunk of this kind and value.
fn crafted(like: &[u8], kind: u8, value: &[u8]) -> Bytes {
    let mut packet = like[..8].to_vec();
    packet.extend_from_slice(&[0, 0, 0, 0, kind, 0]);
    packet.extend_from_slice(&(value.len() as u16 + 4).to_be_bytes());
    packet.extend_from_slice(value);
    let sum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet.into()
}

#[test]
fn what_hides_behind_an_acknowledgement_is_not_read() {
    let mut wire = Wire::new();
    wire.opens(0, "chat", Reliability::Reliable);
    wire.talker.says(0, "one", wire.now);
    let said = wire.talker.outgoing(wire.now).remove(0);
    wire.input(said.clone());
    let tsn = u32::from_be_bytes(*said[16..].first_chunk().unwrap());
    let mut jump = [192, 0, 0, 8].to_vec();
    jump.extend_from_slice(&tsn.wrapping_add(0x7000_0000).to_be_bytes());
    let error = [9, 0, 0, 8, 0, 1, 0, 22];
    for hidden in [&jump[..], &error] {
        let acknowledgement = [&[0; 12], hidden].concat();
        wire.input(crafted(&said, chunk::kind::SACK, &acknowledgement));
        wire.carry();
    }
    wire.says(0, "two");
    assert_eq!(wire.said.iter().map(|said| &said.bytes[..]).collect::<Vec<_>>(), [b"one", b"two"]);
    assert_eq!(wire.ending, None);
    // As crafted, but with nothing hidden, it is taken.
    wire.input(crafted(&said, chunk::kind::ABORT, &[]));
    assert_eq!(wire.ending, Some(Ending::Closed));
}
