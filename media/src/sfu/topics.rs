//! What is said on data channels, and to whom it goes: to everybody else in the room who has a channel of the same topic open.
//!
//! Whose a message is stands before it, by the number the room's decider gave: a string stays a string, `12 good morning`; bytes stay
//! bytes, the number in four of them, the highest first.

use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Event, MemberId, Out, Sfu, SfuError};
use crate::data::{Data, Ending, Said};

/// What went wrong about somebody's data channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// They have ended. They come back with another connection.
    Ended(Ending),
    /// It only listens; nothing it says goes anywhere. Told once.
    OnlyListens,
}

/// The data channels of a participant.
#[derive(Debug)]
pub(super) struct Talk {
    /// As its room's decider names it.
    number: u32,
    may_speak: bool,
    refusal_told: bool,
    /// There once something came.
    data: Option<Data>,
    has_ended: bool,
}

impl Sfu {
    /// Lets a participant have data channels, or says anew whether others hear it there. `number` stands before what it says.
    pub fn let_talk(&mut self, id: MemberId, number: u32, may_speak: bool) -> Result<(), SfuError> {
        let member = self.member(id)?;
        let (data, has_ended) = match member.data.take() {
            Some(talk) => (talk.data, talk.has_ended),
            None => (None, false),
        };
        member.data = Some(Box::new(Talk { number, may_speak, refusal_told: false, data, has_ended }));
        Ok(())
    }

    pub(super) fn hear_data(&mut self, from: u32, packets: Vec<BytesMut>, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get_mut(from as usize) else { return };
        let Some(message_max) = member.sections.iter().find_map(|section| section.data) else { return };
        let Some(talk) = member.data.as_mut().filter(|talk| !talk.has_ended) else { return };
        let data = talk.data.get_or_insert_with(|| Data::new(message_max, now));
        let mut said = Vec::new();
        let heard = packets.into_iter().try_for_each(|packet| data.input(packet.freeze(), now, &mut said));
        let (number, may_speak) = (talk.number, talk.may_speak);
        self.counts.messages_in += said.len() as u64;
        if !may_speak && !said.is_empty() {
            self.counts.messages_refused += said.len() as u64;
            if !std::mem::replace(&mut talk.refusal_told, true) {
                out.events.push(Event::Data(member.id, Trouble::OnlyListens));
            }
            said.clear();
        }
        for one in said {
            self.pass_on(from, number, &one, now, out);
        }
        match heard {
            Ok(()) => self.send_data(from, now, out),
            Err(ending) => self.end_data(from, ending, now, out),
        }
    }

    /// Timers of all channels.
    pub(super) fn keep_talking(&mut self, now: Instant, out: &mut Out) {
        let talks = |member: &super::Member| member.data.as_ref().is_some_and(|talk| talk.data.is_some());
        let indexes: Vec<usize> =
            self.members.iter().filter(|(_, member)| talks(member)).map(|(index, _)| index).collect();
        for index in indexes {
            self.contain(Some(index as u32), now, out, |sfu, out| {
                let Some(data) = sfu.data_of(index as u32) else { return };
                match data.poll(now) {
                    Ok(()) => sfu.send_data(index as u32, now, out),
                    Err(ending) => sfu.end_data(index as u32, ending, now, out),
                }
            });
        }
    }

    fn pass_on(&mut self, from: u32, number: u32, said: &Said, now: Instant, out: &mut Out) {
        let Some(room) = self.members.get(from as usize).and_then(|member| self.rooms.get(&member.room))
        else {
            return;
        };
        let others: Vec<u32> = room.members.iter().copied().filter(|other| *other != from).collect();
        // Written once for all.
        let mut written: Option<Bytes> = None;
        for other in others {
            self.work_on(other);
            let Some(data) = self.data_of(other).filter(|data| data.takes(&said.topic)) else { continue };
            let bytes = written.get_or_insert_with(|| with_sender(number, said));
            match data.say(&said.topic, said.lossy, said.is_text, bytes) {
                Ok(true) => {
                    self.counts.messages_out += 1;
                    self.send_data(other, now, out);
                }
                Ok(false) => {}
                Err(ending) => self.end_data(other, ending, now, out),
            }
        }
        self.work_on(from);
    }

    fn data_of(&mut self, index: u32) -> Option<&mut Data> {
        self.members.get_mut(index as usize)?.data.as_mut()?.data.as_mut()
    }

    fn send_data(&mut self, index: u32, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get_mut(index as usize) else { return };
        let Some(data) = member.data.as_mut().and_then(|talk| talk.data.as_mut()) else { return };
        for packet in data.outgoing(now) {
            member.peer.write_data(&packet, now, &mut out.transmits);
        }
        let tally = data.take_tally();
        self.counts.messages_too_fast += tally.too_fast;
        self.counts.messages_too_slow += tally.too_slow;
    }

    fn end_data(&mut self, index: u32, ending: Ending, now: Instant, out: &mut Out) {
        if let Some(data) = self.data_of(index) {
            data.end();
        }
        self.send_data(index, now, out);
        let Some(member) = self.members.get_mut(index as usize) else { return };
        if let Some(talk) = &mut member.data {
            (talk.data, talk.has_ended) = (None, true);
        }
        if ending != Ending::Closed {
            out.events.push(Event::Data(member.id, Trouble::Ended(ending)));
        }
    }
}

fn with_sender(number: u32, said: &Said) -> Bytes {
    if said.is_text {
        let mut bytes = number.to_string().into_bytes();
        bytes.push(b' ');
        bytes.extend_from_slice(&said.bytes);
        return bytes.into();
    }
    let mut bytes = BytesMut::with_capacity(4 + said.bytes.len());
    bytes.put_u32(number);
    bytes.extend_from_slice(&said.bytes);
    bytes.freeze()
}
