//! A media shard without its socket: participants, their tracks, and who gets which packet. Datagrams, wishes and time in;
//! datagrams and events out.
//!
//! A packet is opened once, kept once ([`crate::rtp::ring`]), and for each subscriber numbered anew ([`crate::rtp::rewriter`]) and
//! sealed. Who is in a room and may publish is decided elsewhere; here it is carried out at the speed of media: which tracks are in
//! whose slots, which layer of each, and who speaks.
//!
//! | file | what it settles |
//! |---|---|
//! | `datagrams` | whose a datagram is, and what is done with it |
//! | `place` | which shard of a node it is, and how ufrags say so |
//! | `member` | one participant: transport, tracks, slots |
//! | `tracks` | what participants publish |
//! | `allowance` | how much one may publish |
//! | `fed` | publishers within this process: streams that are shown to many |
//! | `listener` | subscribers within this process: rooms that are made streams |
//! | `forward` | from a publisher's packet to the subscribers' |
//! | `selector` | whether one of these is sent on a slot |
//! | `copy` | one of these, as it is written |
//! | `rate` | what each layer costs |
//! | `silence` | sound that says nothing is not sent on |
//! | `binding` | which track is in which slot, who speaks |
//! | `topics` | what is said on data channels, to whom it goes |
//! | [`stress`] | what is sent less of when there is too much to do |
//! | `contain` | a panic over one participant costs nobody else |
//! | `absence` | what is not held against anybody after the shard itself was away |
//! | `plan` | which layer of it is sent, as the receiver's path carries it |
//! | `feedback` | RTCP in both directions, and what is due when |
//! | `out` | what comes out: datagrams, events, packets that are handed out |
//! | `counts` | what is counted, and how participants do |

mod absence;
mod allowance;
mod binding;
mod contain;
mod copy;
mod counts;
mod datagrams;
mod fed;
mod feedback;
mod forward;
mod listener;
mod member;
mod out;
mod place;
mod plan;
mod rate;
mod selector;
mod silence;
pub mod stress;
mod topics;
mod tracks;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::peer::{Credentials, Identity, Peer};
use crate::sdp::{Answerer, Direction, Kind, Offer};
use allowance::Allowance;
use member::Member;

pub use binding::{PICTURES_MAX, SPEAKERS_MAX, Want};
pub use counts::{Counts, Survey};
pub use fed::Packet;
pub use listener::PICTURE_SLOT;
pub use out::{Event, Out, Taken};
pub use place::{Astray, Marks, Place};
pub use topics::Trouble;
pub use tracks::{Source, TRACKS_MAX, TrackKey};

/// How often [`Sfu::poll`] wants to be asked.
pub const POLL: Duration = Duration::from_millis(25);

/// One participant of a node's shards; never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    shard: u8,
    index: u32,
    generation: u32,
}

impl MemberId {
    /// The shard they are on, by its number.
    pub fn shard(self) -> u8 {
        self.shard
    }

    /// What the ufrag of a participant begins with, in hexadecimal: two digits of the shard, and twice eight more.
    fn token(self) -> String {
        format!("{:02x}{:08x}{:08x}", self.shard, self.index, self.generation)
    }

    fn of_token(ufrag: &str) -> Option<MemberId> {
        let read = |digits: Option<&str>| u32::from_str_radix(digits?, 16).ok();
        let shard = u8::try_from(read(ufrag.get(..2))?).ok()?;
        Some(MemberId { shard, index: read(ufrag.get(2..10))?, generation: read(ufrag.get(10..18))? })
    }
}

/// A room, as its decider names it.
pub type RoomKey = u128;

/// Why something cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SfuError {
    /// The participant has left.
    #[error("the participant has left")]
    Gone,
    /// The offer has no such m-line, or it does not send, or sends something else.
    #[error("there is no m-line of this mid that sends what the source says")]
    NoSuchMid,
    /// As many as may be.
    #[error("a participant publishes at most {TRACKS_MAX} tracks")]
    TooManyTracks,
    /// A new offer says less than the one before.
    #[error("an m-line of an earlier offer is missing or means something else")]
    Shrunk,
    /// The shard has ended, and no other takes its place.
    #[error("the media of this node has ended")]
    Ended,
    /// The operating system gives no random numbers.
    #[error("no random numbers")]
    Random,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Sfu {
    place: Place,
    identity: Arc<Identity>,
    addresses: Vec<SocketAddr>,
    members: Slab<Member>,
    generation: u32,
    rooms: HashMap<RoomKey, Room>,
    by_address: HashMap<SocketAddr, u32>,
    /// Who is worked on.
    at_work: Option<u32>,
    counts: Counts,
    random: u64,
    packet: Vec<u8>,
    polled: Option<Instant>,
    /// When it was last asked anything.
    awake: Instant,
    faces_max: usize,
    publish_kbps_max: u32,
    /// When the shard's NTP time began; only differences of it mean anything.
    epoch: Instant,
}

#[derive(Debug, Default)]
struct Room {
    members: Vec<u32>,
    speakers: Vec<u32>,
    stale: bool,
}

impl Sfu {
    /// A shard that is reached at `addresses`, the best first.
    pub fn new(identity: Arc<Identity>, addresses: Vec<SocketAddr>, seed: u64, now: Instant) -> Sfu {
        Sfu {
            place: Place::default(),
            identity,
            addresses,
            members: Slab::new(),
            generation: 0,
            rooms: HashMap::new(),
            by_address: HashMap::new(),
            at_work: None,
            counts: Counts::default(),
            random: seed | 1,
            packet: Vec::with_capacity(crate::rtp::packet::PACKET_BYTES_MAX),
            polled: None,
            awake: now,
            faces_max: usize::MAX,
            publish_kbps_max: allowance::KBPS,
            epoch: now,
        }
    }

    /// The same as one of the shards of a node.
    pub fn at(self, place: Place) -> Sfu {
        Sfu { place, ..self }
    }

    /// The same where each participant publishes at most so many thousand bits a second.
    pub fn publishing_at_most(self, kbps: u32) -> Sfu {
        Sfu { publish_kbps_max: kbps, ..self }
    }

    /// What is counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Participants and rooms there are.
    pub fn len(&self) -> (usize, usize) {
        (self.members.len(), self.rooms.len())
    }

    /// How participants do.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for (_, member) in &self.members {
            survey.paused += member.slots.iter().filter(|slot| slot.paused_at.is_some()).count();
            if let Some(estimate) = member.estimator.estimate_bps() {
                survey.estimates_bps.push(estimate);
                survey.losses.push(member.estimator.loss());
            }
        }
        survey
    }

    /// From now on nobody is sent more faces than this.
    pub fn limit_faces(&mut self, faces_max: usize) {
        if std::mem::replace(&mut self.faces_max, faces_max) != faces_max {
            for room in self.rooms.values_mut() {
                room.stale = true;
            }
        }
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A participant comes. Gives the answer to the offer.
    pub fn join(
        &mut self,
        room: RoomKey,
        offer: &Offer,
        now: Instant,
    ) -> Result<(MemberId, String), SfuError> {
        let id = self.next_id(now)?;
        let local = self.credentials(id)?;
        let peer = Peer::new(self.identity.clone(), local, offer.fingerprint, now);
        let allowance = Allowance::new(self.publish_kbps_max, now);
        let mut member = Member::new(id, room, peer, offer, allowance, now);
        self.open_slots(&mut member, offer);
        let answer = self.answer(&mut member, offer);
        self.members.insert(member);
        let room = self.rooms.entry(room).or_default();
        room.members.push(id.index);
        room.stale = true;
        Ok((id, answer))
    }

    /// The id of who comes next.
    fn next_id(&mut self, now: Instant) -> Result<MemberId, SfuError> {
        self.generation = self.generation.wrapping_add(1);
        let index = u32::try_from(self.members.vacant_key()).map_err(|_| SfuError::Random)?;
        if self.members.is_empty() {
            // While nobody is here the shard need not be asked anything; that was no absence.
            self.awake = self.awake.max(now);
        }
        Ok(MemberId { shard: self.place.shard, index, generation: self.generation })
    }

    /// Names a participant, whoever else has one, and says where in the node they are.
    fn credentials(&self, id: MemberId) -> Result<Credentials, SfuError> {
        let mut credentials = Credentials::generate(&id.token()).map_err(|_| SfuError::Random)?;
        self.place.marks.mark(&mut credentials.ufrag);
        Ok(credentials)
    }

    /// A participant offers anew: more to send, another network. Gives the answer.
    pub fn offer(&mut self, id: MemberId, offer: &Offer, now: Instant) -> Result<String, SfuError> {
        let index = self.index(id)?;
        let mut member = self.members.try_remove(index).ok_or(SfuError::Gone)?;
        let result = catch_unwind(AssertUnwindSafe(|| self.offer_to(&mut member, offer, now)));
        // The place that was just left is the next to be taken.
        let again = self.members.insert(member);
        debug_assert_eq!(again, index);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn offer_to(&mut self, member: &mut Member, offer: &Offer, now: Instant) -> Result<String, SfuError> {
        for (before, section) in member.sections.iter().zip(&offer.sections) {
            if before.mid != section.mid || before.kind != section.kind && section.kind.is_some() {
                return Err(SfuError::Shrunk);
            }
        }
        if offer.sections.len() < member.sections.len() {
            return Err(SfuError::Shrunk);
        }
        if offer.ice != member.remote_ice {
            let local = self.credentials(member.id)?;
            member.peer.restart(local, now);
            member.remote_ice = offer.ice.clone();
        }
        member.sections.clone_from(&offer.sections);
        self.open_slots(member, offer);
        if let Some(room) = self.rooms.get_mut(&member.room) {
            room.stale = true;
        }
        Ok(self.answer(member, offer))
    }

    /// What a participant wants to see, of one priority the most important first. Without a wish it sees who spoke last.
    pub fn view(&mut self, id: MemberId, mut wants: Vec<Want>) -> Result<(), SfuError> {
        wants.sort_by_key(|want| Reverse(want.priority));
        let member = self.member(id)?;
        member.wants = Some(wants);
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }

    /// A participant may have missed what was said to them: what is watched of theirs, and what of theirs to see is paused, is said again.
    pub fn tell_again(&mut self, id: MemberId, out: &mut Out) {
        let Ok(index) = self.index(id) else { return };
        let Some(member) = self.members.get_mut(index) else { return };
        for track in &mut member.tracks {
            track.wanted = None;
        }
        let pictures = member.slots.iter().filter(|slot| slot.kind == Kind::Video);
        let paused = pictures.filter_map(|slot| Some((slot.bound?.1, slot.paused_at.is_some())));
        out.events.extend(paused.map(|(key, paused)| Event::Paused(id, key, paused)));
    }

    /// A participant leaves.
    pub fn leave(&mut self, id: MemberId, now: Instant, out: &mut Out) {
        let Ok(index) = self.index(id) else { return };
        // What of it is broken does not keep it here.
        self.contain(Some(id.index), now, out, |sfu, out| {
            if let Some(member) = sfu.members.get_mut(index) {
                member.peer.close(now, &mut out.transmits);
            }
        });
        let Some(member) = self.members.try_remove(index) else { return };
        let theirs = self.by_address.extract_if(|_, known| *known as usize == index);
        out.forgotten.extend(theirs.map(|(address, _)| address));
        if let Some(room) = self.rooms.get_mut(&member.room) {
            room.members.retain(|known| *known as usize != index);
            room.speakers.retain(|known| *known as usize != index);
            room.stale = true;
            if room.members.is_empty() {
                self.rooms.remove(&member.room);
            }
        }
    }

    /// Time has passed; to be called every [`POLL`].
    pub fn poll(&mut self, now: Instant, out: &mut Out) {
        if self.polled.is_some_and(|at| now.saturating_duration_since(at) < POLL) {
            return;
        }
        self.polled = Some(now);
        self.note_awake(now);
        self.bind(now, out);
        self.bring_up_to_date(now, out);
        self.report(now, out);
        self.keep_talking(now, out);
    }

    fn index(&self, id: MemberId) -> Result<usize, SfuError> {
        let member = self.members.get(id.index as usize).filter(|member| member.id == id);
        member.map(|member| member.id.index as usize).ok_or(SfuError::Gone)
    }

    fn member(&mut self, id: MemberId) -> Result<&mut Member, SfuError> {
        self.members.get_mut(id.index as usize).filter(|member| member.id == id).ok_or(SfuError::Gone)
    }

    fn mark_stale(&mut self, room: RoomKey) {
        if let Some(room) = self.rooms.get_mut(&room) {
            room.stale = true;
        }
    }

    /// Numbers that need not be secret, only differ: xorshift.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn open_slots(&mut self, member: &mut Member, offer: &Offer) {
        for section in offer.sections.iter().filter(|section| section.direction == Direction::Receives) {
            let open = section.kind.filter(|_| !section.formats.is_empty());
            let known = member.slots.iter().any(|slot| slot.mid == section.mid);
            // What is beyond is answered as inactive.
            let is_full = |kind: Kind| {
                let max = if kind == Kind::Audio { SPEAKERS_MAX } else { PICTURES_MAX };
                member.slots.iter().filter(|slot| slot.kind == kind).count() >= max
            };
            if let (Some(kind), false) = (open.filter(|kind| !is_full(*kind)), known) {
                let random = self.next_random();
                // Never 0, never alike within a participant.
                let ssrc = random as u32 & 0xFFFF_FF00 | (member.slots.len() as u32 * 2 + 1);
                member.open_slot(section, kind, ssrc, (random >> 40) as u16);
            }
        }
    }

    fn answer(&self, member: &mut Member, offer: &Offer) -> String {
        member.answers += 1;
        let slots: Vec<_> = offer.sections.iter().map(|section| member.sdp_slot(&section.mid)).collect();
        let answerer = Answerer {
            ice: member.peer.credentials(),
            fingerprint: &self.identity.fingerprint(),
            addresses: &self.addresses,
            version: member.answers,
        };
        answerer.answer(offer, &slots)
    }
}

#[cfg(test)]
mod tests;
