//! A media shard without its socket: participants, their tracks, and who gets which packet. Datagrams, wishes and time in;
//! datagrams and events out.
//!
//! A packet is opened once, kept once ([`crate::rtp::ring`]), and for each subscriber numbered anew ([`crate::rtp::rewriter`]) and
//! sealed. Who is in a room and may publish is decided elsewhere; here it is carried out at the speed of media: which tracks are in
//! whose slots, which layer of each, and who speaks.
//!
//! | file | what it settles |
//! |---|---|
//! | `place` | which shard of a node it is, and how ufrags say so |
//! | `member` | one participant: transport, tracks, slots |
//! | `fed` | publishers within this process: streams that are shown to many |
//! | `listener` | subscribers within this process: rooms that are made streams |
//! | `forward` | from a publisher's packet to the subscribers' |
//! | `binding` | which track is in which slot, who speaks |
//! | `topics` | what is said on data channels, to whom it goes |
//! | [`stress`] | what is sent less of when there is too much to do |
//! | `absence` | what is not held against anybody after the shard itself was away |
//! | `plan` | which layer of it is sent, as the receiver's path carries it |
//! | `feedback` | RTCP in both directions, and what is due when |

mod absence;
mod binding;
mod fed;
mod feedback;
mod forward;
mod listener;
mod member;
mod place;
mod plan;
pub mod stress;
mod topics;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::peer::{Credentials, Failure, Identity, Input, Peer, Transmit};
use crate::rtp::payload::Codec;
use crate::rtp::ring::Kept;
use crate::rtp::rtcp::SenderTime;
use crate::sdp::{Answerer, Direction, Kind, Offer};
use crate::stun::{self, Binding};
use member::{Member, Track};

pub use binding::{SPEAKERS_MAX, Want};
pub use fed::Packet;
pub use listener::PICTURE_SLOT;
pub use place::{Astray, Marks, Place};
pub use topics::Trouble;

/// How often [`Sfu::poll`] wants to be asked.
pub const POLL: Duration = Duration::from_millis(25);
/// Tracks one participant may publish: microphone, camera, screen and its sound.
pub const TRACKS_MAX: usize = 4;

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

/// A track, as its decider names it; unique in this shard, below 2^60.
pub type TrackKey = u64;

/// What a track shows or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A voice.
    Microphone,
    /// A face.
    Camera,
    /// A screen that is shared.
    Screen,
    /// The sound of what is shared.
    ScreenAudio,
}

impl Source {
    /// Sound or pictures.
    pub fn kind(self) -> Kind {
        match self {
            Source::Microphone | Source::ScreenAudio => Kind::Audio,
            Source::Camera | Source::Screen => Kind::Video,
        }
    }
}

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
    /// The operating system gives no random numbers.
    #[error("no random numbers")]
    Random,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Media may flow.
    Connected(MemberId),
    /// The transport has ended; the participant may come back with a new offer.
    Failed(MemberId, Failure),
    /// The client closed its connection.
    Closed(MemberId),
    /// What is in the slots of a participant: the slot's mid, and the track in it.
    Slots(MemberId, Vec<(String, Option<TrackKey>)>),
    /// Who speaks, the loudest first.
    Speakers(RoomKey, Vec<MemberId>),
    /// A track in a slot of a participant is not sent because their path does not carry even the least of it, or is again.
    Paused(MemberId, TrackKey, bool),
    /// The highest layer of a track that anybody watches, counted from 0; `None` when nobody does.
    Wanted(MemberId, TrackKey, Option<usize>),
    /// Something about the data channels of a participant went wrong.
    Data(MemberId, Trouble),
}

/// What is to be sent, and what is to be told.
#[derive(Debug, Default)]
pub struct Out {
    /// Datagrams, in order.
    pub transmits: Vec<Transmit>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// Packets of tracks that are [taken](Sfu::take), and of what [listeners](Sfu::open_listener) have in their slots.
    pub taken: Vec<Taken>,
    /// Addresses that are nobody's any more.
    pub forgotten: Vec<SocketAddr>,
}

/// A packet that is handed out: of a track that is taken, as its publisher sent it; or of a listener's slot, numbered as one stream
/// whatever is in the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Who publishes the track that is taken, or who listens.
    pub member: MemberId,
    /// In which slot of the listener.
    pub slot: usize,
    /// Of which track.
    pub track: TrackKey,
    /// How it is coded.
    pub codec: Codec,
    /// What.
    pub kept: Kept,
    /// What the publisher told last of the time of this track.
    pub told: Option<SenderTime>,
}

/// What is counted, since the shard began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// RTP packets that were opened.
    pub packets_in: u64,
    /// Bytes of their payloads.
    pub bytes_in: u64,
    /// RTP packets that were sent.
    pub packets_out: u64,
    /// Bytes of their payloads.
    pub bytes_out: u64,
    /// Packets subscribers asked for again and got.
    pub repeated: u64,
    /// Packets publishers were asked for again.
    pub asked_again: u64,
    /// Keyframes publishers were asked for.
    pub keyframes_asked: u64,
    /// Packets subscribers asked for again, whether or not they got them.
    pub nacked: u64,
    /// Keyframes subscribers asked for.
    pub keyframes_wished: u64,
    /// Packets that were sent to see what a path carries.
    pub probes: u64,
    /// Datagrams from addresses nobody vouched for.
    pub unknown: u64,
    /// Messages that came on data channels.
    pub messages_in: u64,
    /// Messages that were given to data channels.
    pub messages_out: u64,
    /// Messages that were lost because their sender said more than may be said.
    pub messages_too_fast: u64,
    /// Messages that were lost because their receiver was slow.
    pub messages_too_slow: u64,
    /// Messages of participants who only listen.
    pub messages_refused: u64,
}

/// How participants do at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// Tracks in slots that are paused because a path does not carry them.
    pub paused: usize,
    /// What paths are believed to carry, bits a second, of those that say something.
    pub estimates_bps: Vec<u64>,
    /// Shares of packets that were lost lately on those paths.
    pub losses: Vec<f64>,
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
    counts: Counts,
    random: u64,
    packet: Vec<u8>,
    polled: Option<Instant>,
    /// When it was last asked anything.
    awake: Instant,
    faces_max: usize,
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
            counts: Counts::default(),
            random: seed | 1,
            packet: Vec::with_capacity(crate::rtp::packet::PACKET_BYTES_MAX),
            polled: None,
            awake: now,
            faces_max: usize::MAX,
            epoch: now,
        }
    }

    /// The same as one of the shards of a node.
    pub fn at(self, place: Place) -> Sfu {
        Sfu { place, ..self }
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
        let mut member = Member::new(id, room, peer, offer, now);
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
        let result = self.offer_to(&mut member, offer, now);
        // The place that was just left is the next to be taken.
        let again = self.members.insert(member);
        debug_assert_eq!(again, index);
        result
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

    /// A participant publishes what it sends on an m-line.
    pub fn publish(
        &mut self,
        id: MemberId,
        key: TrackKey,
        mid: &str,
        source: Source,
        muted: bool,
    ) -> Result<(), SfuError> {
        let member = self.member(id)?;
        let section = member.sections.iter().find(|section| section.mid == mid).ok_or(SfuError::NoSuchMid)?;
        let format = section.formats.first().ok_or(SfuError::NoSuchMid)?;
        if section.kind != Some(source.kind()) || section.direction == Direction::Receives {
            return Err(SfuError::NoSuchMid);
        }
        if member.tracks.iter().any(|track| track.mid == mid) {
            return Err(SfuError::NoSuchMid);
        }
        if member.tracks.len() >= TRACKS_MAX {
            return Err(SfuError::TooManyTracks);
        }
        let track = Track::new(key, mid, source, muted, format.codec, &section.rids);
        member.tracks.push(track);
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }

    /// A participant publishes a track no more.
    pub fn unpublish(&mut self, id: MemberId, key: TrackKey) -> Result<(), SfuError> {
        let member = self.member(id)?;
        member.streams.retain(|_, stream| stream.track != key);
        member.taps.retain(|tapped| *tapped != key);
        member.tracks.retain(|track| track.key != key);
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }

    /// Hands out the packets of a track too, in [`Out::taken`].
    pub fn take(&mut self, id: MemberId, key: TrackKey) -> Result<(), SfuError> {
        let member = self.member(id)?;
        if !member.taps.contains(&key) {
            member.taps.push(key);
        }
        Ok(())
    }

    /// Asks the publisher of a track for a keyframe; it is asked at most every half second.
    pub fn ask_keyframe(&mut self, id: MemberId, key: TrackKey) -> Result<(), SfuError> {
        let track = self.member(id)?.track(key).ok_or(SfuError::Gone)?;
        for layer in &mut track.layers {
            layer.keyframe_wanted = true;
        }
        Ok(())
    }

    /// A track is muted or not.
    pub fn mute(&mut self, id: MemberId, key: TrackKey, muted: bool) -> Result<(), SfuError> {
        let member = self.member(id)?;
        if let Some(track) = member.tracks.iter_mut().find(|track| track.key == key) {
            track.muted = muted;
            track.level = binding::SILENCE;
        }
        let room = member.room;
        self.mark_stale(room);
        Ok(())
    }

    /// What a participant wants to see, the most important first. Without a wish it sees who spoke last.
    pub fn view(&mut self, id: MemberId, wants: Vec<Want>) -> Result<(), SfuError> {
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
        let Some(mut member) = self.members.try_remove(index) else { return };
        member.peer.close(now, &mut out.transmits);
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
        self.note_awake(now);
        if stun::is_stun(datagram) {
            return self.hear_binding(datagram, from, now, out);
        }
        let index = self.by_address.get(&from).copied();
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
            if let (Some(kind), false) = (open, known) {
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
