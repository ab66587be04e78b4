//! What people in a call say on data channels.

use bytes::Bytes;

use super::*;
use crate::data::dcep::Reliability;
use crate::data::talker::Talker;
use crate::data::{Ending, MESSAGE_BYTES_MAX};
use crate::sfu::Trouble;

/// A call, and the talkers of its people.
struct Round {
    call: Call,
    talkers: Vec<Talker>,
}

impl Round {
    /// Of so many people, with the numbers 1 and on; all are on the topics `chat` (stream 0) and `pointer` (stream 2).
    fn of(people: u32) -> Round {
        let mut round = Round { call: Call::new(), talkers: Vec::new() };
        for number in 1..=people {
            let at = round.joins();
            round.call.sfu.let_talk(round.call.people[at].id, number, true).unwrap();
            round.carry();
            assert!(round.talkers[at].is_connected());
            round.opens(at, 0, "chat", Reliability::Reliable);
            round.opens(at, 2, "pointer", Reliability::Repeats(0));
        }
        round
    }

    fn joins(&mut self) -> usize {
        self.talkers.push(Talker::new(self.call.now).unwrap());
        self.call.join_with(&sdp::tests::offer_with(sdp::tests::DATA))
    }

    /// Carries packets until everybody is quiet.
    fn carry(&mut self) {
        loop {
            let mut quiet = true;
            for (at, talker) in self.talkers.iter_mut().enumerate() {
                for packet in talker.outgoing(self.call.now) {
                    self.call.people[at].client.write_data(&packet);
                }
                for datagram in self.call.people[at].client.outgoing() {
                    quiet = false;
                    self.call.send(at, &datagram);
                }
            }
            for (person, talker) in self.call.people.iter_mut().zip(&mut self.talkers) {
                for packet in person.client.take_data() {
                    quiet = false;
                    talker.hear(packet.freeze(), self.call.now);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn opens(&mut self, who: usize, stream: u16, topic: &str, reliability: Reliability) {
        self.talkers[who].opens(stream, topic, true, reliability, self.call.now);
        self.carry();
    }

    fn says(&mut self, who: usize, stream: u16, text: &str) {
        self.talkers[who].says(stream, text, self.call.now);
        self.carry();
    }

    fn heard(&mut self, who: usize) -> Vec<(u16, String)> {
        let heard = self.talkers[who].heard.drain(..);
        heard.map(|(stream, _, bytes)| (stream, String::from_utf8(bytes.to_vec()).unwrap())).collect()
    }

    fn troubles(&self, who: usize) -> Vec<Trouble> {
        let id = self.call.people[who].id;
        let troubles = self.call.events.iter().filter_map(|event| match event {
            Event::Data(of, trouble) if *of == id => Some(*trouble),
            _ => None,
        });
        troubles.collect()
    }
}

#[test]
fn what_one_says_the_others_hear_with_whose_it_is() {
    let mut round = Round::of(3);
    round.says(0, 0, "good morning");
    round.says(1, 2, "12,7");
    assert_eq!(round.heard(0), [(2, "2 12,7".to_owned())]);
    assert_eq!(round.heard(1), [(0, "1 good morning".to_owned())]);
    assert_eq!(round.heard(2), [(0, "1 good morning".to_owned()), (2, "2 12,7".to_owned())]);
    let now = round.call.now;
    round.talkers[2].sends(0, rtc_sctp::PayloadProtocolIdentifier::Binary, &[7, 8], now);
    round.carry();
    assert_eq!(round.talkers[0].heard, [(0, false, Bytes::from_static(&[0, 0, 0, 3, 7, 8]))]);
    let counts = round.call.sfu.counts();
    assert_eq!((counts.messages_in, counts.messages_out), (3, 6));
}

#[test]
fn only_who_takes_part_in_a_topic_hears_it() {
    let mut round = Round::of(2);
    round.opens(0, 4, "game", Reliability::Reliable);
    round.says(0, 4, "e4");
    assert_eq!(round.heard(1), []);
    round.opens(1, 8, "game", Reliability::Reliable);
    round.says(0, 4, "e5");
    assert_eq!(round.heard(1), [(8, "1 e5".to_owned())], "on a channel of their own number");
    let other = round.call.now;
    round.talkers[1].closes(8, other);
    round.carry();
    round.says(0, 4, "f4");
    assert_eq!(round.heard(1), []);
}

#[test]
fn long_messages_pass_whole() {
    let mut round = Round::of(2);
    round.says(0, 0, &"x".repeat(MESSAGE_BYTES_MAX));
    assert_eq!(round.heard(1)[0].1.len(), MESSAGE_BYTES_MAX + 2);
}

#[test]
fn who_only_listens_hears_and_is_not_heard() {
    let mut round = Round::of(2);
    let id = round.call.people[1].id;
    round.call.sfu.let_talk(id, 2, false).unwrap();
    round.says(0, 0, "welcome");
    round.says(1, 0, "thanks");
    round.says(1, 2, "0,0");
    assert_eq!(round.heard(0), []);
    assert_eq!(round.heard(1), [(0, "1 welcome".to_owned())]);
    assert_eq!(round.troubles(1), [Trouble::OnlyListens], "told once");
    assert_eq!(round.call.sfu.counts().messages_refused, 2);
    round.call.sfu.let_talk(id, 2, true).unwrap();
    round.says(1, 0, "thanks");
    assert_eq!(round.heard(0), [(0, "2 thanks".to_owned())]);
}

#[test]
fn who_breaks_the_rules_loses_the_channels_and_nothing_else() {
    let mut round = Round::of(3);
    round.says(0, 0, &"x".repeat(MESSAGE_BYTES_MAX + 1));
    assert_eq!(round.troubles(0), [Trouble::Ended(Ending::TooLarge)]);
    assert_eq!(round.talkers[0].closed.len(), 2);
    round.says(1, 0, "and the rest of us?");
    assert_eq!(round.heard(0), []);
    assert_eq!(round.heard(2), [(0, "2 and the rest of us?".to_owned())]);
    // Media goes on, and no new association comes of what is sent still.
    round.call.publish(0, 1, "1", Source::Camera);
    round.call.pass(50);
    round.call.picture(0, "q", 1, true);
    assert!(!round.call.people[1].rtp.is_empty());
    round.talkers[0] = Talker::new(round.call.now).unwrap();
    round.carry();
    assert!(!round.talkers[0].is_connected());
}

#[test]
fn who_was_not_let_talk_has_no_channels() {
    let mut round = Round::of(0);
    let at = round.joins();
    round.carry();
    assert!(!round.talkers[at].is_connected());
    // And without an m-line nothing is believed either.
    let mut call = Call::new();
    let at = call.join();
    call.sfu.let_talk(call.people[at].id, 1, true).unwrap();
    let init = Talker::new(call.now).unwrap().outgoing(call.now);
    call.people[at].client.write_data(&init[0]);
    for datagram in call.people[at].client.outgoing() {
        call.send(at, &datagram);
    }
    assert!(call.people[at].client.take_data().is_empty());
}

#[test]
fn a_reader_who_is_away_costs_little_and_ends_alone() {
    let mut round = Round::of(2);
    // Bo hears nothing any more, and acknowledges nothing.
    for at in 0..6_000 {
        let now = round.call.now;
        round.talkers[0].says(if at % 2 == 0 { 2 } else { 0 }, &"x".repeat(1_000), now);
        for packet in round.talkers[0].outgoing(now) {
            round.call.people[0].client.write_data(&packet);
        }
        for datagram in round.call.people[0].client.outgoing() {
            round.call.send(0, &datagram);
        }
        for packet in round.call.people[0].client.take_data() {
            round.talkers[0].hear(packet.freeze(), now);
        }
        round.call.pass(25);
        if !round.troubles(1).is_empty() {
            break;
        }
    }
    assert_eq!(round.troubles(1), [Trouble::Ended(Ending::Slow)]);
    assert_eq!(round.troubles(0), []);
    assert!(round.call.sfu.counts().messages_too_slow > 100);
}
