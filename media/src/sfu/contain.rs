//! A panic over one participant costs that participant, and nobody else.
//!
//! Nothing here is meant to panic, whatever comes. But what participants send is read by libraries of others, and a mistake of theirs would
//! end the thread of the shard and with it every call on it. So what is done for somebody is done within a wall: who was worked on when
//! it fell is expelled with [`Failure::Fault`], and the others go on.
//!
//! Who that is need not be who sent the datagram: what somebody says goes to others, whose seals and channels may be what is broken. Whoever
//! is about to be worked on is noted before ([`Sfu::work_on`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::{Event, MemberId, Out, RoomKey, Sfu};
use crate::peer::Failure;

impl Sfu {
    /// Does something for a participant, where one is known. `None` when it panicked; whoever was worked on then is expelled.
    pub(super) fn contain<T>(
        &mut self,
        whom: Option<u32>,
        now: Instant,
        out: &mut Out,
        work: impl FnOnce(&mut Sfu, &mut Out) -> T,
    ) -> Option<T> {
        self.at_work = whom;
        // What it leaves half done is the expelled one's, or is made anew from what is there with the next look at the clock.
        let done = catch_unwind(AssertUnwindSafe(|| work(self, out)));
        if done.is_err() {
            self.fault(now, out);
        }
        done.ok()
    }

    /// Does something for a whole room. When it panics over nobody in particular nobody can be told from the others, and all are expelled.
    pub(super) fn contain_in(
        &mut self,
        room: RoomKey,
        now: Instant,
        out: &mut Out,
        work: impl FnOnce(&mut Sfu, &mut Out),
    ) {
        if self.contain(None, now, out, work).is_none() && self.at_work.is_none() {
            let members = self.rooms.get(&room).map(|room| room.members.clone()).unwrap_or_default();
            for index in members {
                self.expel(index, now, out);
            }
        }
    }

    /// From now on it is about this participant.
    pub(super) fn work_on(&mut self, index: u32) {
        self.at_work = Some(index);
    }

    /// From now on it is about nobody in particular.
    pub(super) fn work_on_all(&mut self) {
        self.at_work = None;
    }

    /// Something is about to be ordered by a participant, or by nobody, within a wall of the caller's.
    pub fn work_for(&mut self, id: Option<MemberId>) {
        self.at_work = id.filter(|id| self.index(*id).is_ok()).map(|id| id.index);
    }

    /// It fell; whoever was worked on then is expelled.
    pub fn fault(&mut self, now: Instant, out: &mut Out) {
        self.counts.panics += 1;
        if let Some(index) = self.at_work {
            self.expel(index, now, out);
        }
    }

    /// A participant is done for, until it is told to leave.
    fn expel(&mut self, index: u32, now: Instant, out: &mut Out) {
        let Some(member) = self.members.get_mut(index as usize) else { return };
        // What broke may break once more when it says goodbye, or is let go.
        let goodbye = catch_unwind(AssertUnwindSafe(|| member.peer.close(now, &mut out.transmits)));
        member.peer.abandon();
        let rest = catch_unwind(AssertUnwindSafe(|| {
            member.data = None;
            member.taps.clear();
            member.streams.clear();
            member.slots.clear();
            member.tracks.clear();
        }));
        self.counts.panics += u64::from(goodbye.is_err()) + u64::from(rest.is_err());
        if !std::mem::replace(&mut member.failed, true) {
            out.events.push(Event::Failed(member.id, Failure::Fault));
        }
        let room = member.room;
        self.mark_stale(room);
    }

    /// Everybody has gone at once, because the shard itself broke; whoever comes is another than all before. Addresses are nobody's.
    pub fn restart(&mut self, now: Instant, out: &mut Out) {
        let begun = Sfu {
            place: self.place.clone(),
            generation: self.generation,
            counts: self.counts,
            faces_max: self.faces_max,
            publish_kbps_max: self.publish_kbps_max,
            epoch: self.epoch,
            ..Sfu::new(self.identity.clone(), std::mem::take(&mut self.addresses), self.random, now)
        };
        let broken = std::mem::replace(self, begun);
        out.forgotten.extend(broken.by_address.keys());
        // What broke may break once more when it is let go.
        let gone = catch_unwind(AssertUnwindSafe(|| drop(broken)));
        self.counts.panics += u64::from(gone.is_err());
    }
}
