//! Whose a datagram is, and what is done with it.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Astray, Event, MemberId, Out, Sfu};
use crate::peer::Input;
use crate::stun::{self, Binding};

impl Sfu {
    /// A datagram came, and there is no other shard it could be for.
    pub fn input(&mut self, datagram: &[u8], from: SocketAddr, now: Instant, out: &mut Out) {
        if self.input_unless_astray(datagram, from, now, out).is_some() {
            self.count_unknown();
        }
    }

    /// A datagram came. When it is for nobody here nothing has happened, and nothing is counted: it may be another shard's.
    pub fn input_unless_astray(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) -> Option<Astray> {
        let index = self.by_address.get(&from).copied();
        self.contain(index, now, out, |sfu, out| sfu.hear(index, datagram, from, now, out)).flatten()
    }

    fn hear(
        &mut self,
        index: Option<u32>,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) -> Option<Astray> {
        self.note_awake(now);
        if stun::is_stun(datagram) {
            return self.hear_binding(datagram, from, now, out);
        }
        let Some(member) = index.and_then(|index| self.members.get_mut(index as usize)) else {
            return Some(Astray::Unvouched);
        };
        let id = member.id;
        match member.peer.input(datagram, from, now, &mut out.transmits) {
            Input::Nothing => {}
            Input::Connected => {
                out.events.push(Event::Connected(id));
                let room = member.room;
                self.mark_stale(room);
            }
            Input::Rtp(packet) => self.forward(id.index, &packet, now, out),
            Input::Rtcp(compound) => self.hear_rtcp(id.index, &compound, now, out),
            Input::Data(packets) => self.hear_data(id.index, packets, now, out),
            Input::Closed => out.events.push(Event::Closed(id)),
        }
        None
    }

    /// A datagram was nobody's.
    pub fn count_unknown(&mut self) {
        self.counts.unknown += 1;
    }

    /// Whether somebody here vouched for an address.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// An address is somebody else's from now on: a participant of another shard vouched for it later than whoever did here.
    pub fn forget(&mut self, address: SocketAddr) {
        self.by_address.remove(&address);
    }

    fn hear_binding(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut Out,
    ) -> Option<Astray> {
        let Ok(binding) = Binding::read(datagram) else {
            self.count_unknown();
            return None;
        };
        // Nothing can be sent there, and a kernel that refuses to is taken for one that takes no packets together, from then on.
        if from.port() == 0 {
            self.count_unknown();
            return None;
        }
        let id = MemberId::of_token(binding.to_ufrag);
        if let Some(id) = id.filter(|id| id.shard != self.place.shard)
            && self.place.marks.are_on(binding.to_ufrag)
        {
            return Some(Astray::To(id.shard));
        }
        self.at_work = id.filter(|id| self.index(*id).is_ok()).map(|id| id.index);
        let member = id.and_then(|id| self.member(id).ok());
        let heard = member.and_then(|member| {
            member.peer.hear_binding(&binding, from, now).map(|heard| (member.id.index, heard))
        });
        let Some((index, (answer, forgotten))) = heard else {
            self.count_unknown();
            return None;
        };
        if let Some(forgotten) = forgotten {
            self.by_address.remove(&forgotten);
            out.forgotten.push(forgotten);
        }
        self.by_address.insert(from, index);
        out.transmits.push(answer);
        None
    }
}
