//! Who is in a group call, what each publishes, and who may do what. A plain state: no sockets, no media, no clock of its own.
//!
//! Media flows elsewhere; what is decided here is told to it. A participant whose device is gone keeps the place for
//! [`LEASE`], so that a network change is no farewell; then the place is given up, and nobody stays as a ghost.
//!
//! What only hosts decide is in `hosts`, who waits for that in `lobby`; who is seen where a room is shown as one picture, in [`stage`].

mod hosts;
mod lobby;
pub mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::id::{CallId, ConversationId, DeviceId, RoomId, SessionId, UserId};

pub use lobby::WAITING_MAX;
pub use nova_media::sfu::Source;

/// How long a participant whose device is gone may come back.
pub const LEASE: Duration = Duration::from_secs(30);
/// How long a room without anybody is kept.
pub const EMPTY_KEPT: Duration = Duration::from_secs(600);
/// Tracks of one participant: microphone, camera, screen and its sound.
pub const TRACKS_MAX: usize = 4;
/// Devices of one user in one room.
pub const DEVICES_MAX: usize = 4;

/// One participant of a room, by number; numbers are not used again.
pub type ParticipantId = u32;
/// One track, by number, unique on its node.
pub type TrackId = u64;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Hears and sees.
    Listener,
    /// Publishes too.
    Speaker,
    /// Decides about others too.
    Host,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many as may be are there.
    #[error("the room is full")]
    Full,
    /// The host lets nobody in.
    #[error("the room is locked")]
    Locked,
    /// They were taken out.
    #[error("you were removed from this room")]
    Removed,
    /// A host has to let them in first.
    #[error("a host has to let you in first")]
    Waits,
    /// As many devices of theirs as may be are there.
    #[error("four of your devices are in this room, which is as many as may be")]
    TooManyDevices,
    /// Not in the room, or not any more.
    #[error("this participant is not in the room")]
    NotHere,
    /// There is no such track.
    #[error("there is no such track of yours")]
    NoSuchTrack,
    /// As many as may be.
    #[error("a participant publishes at most four tracks, one of each source")]
    TooManyTracks,
    /// The role does not allow it.
    #[error("your role in this room does not allow this")]
    RoleTooLow,
}

/// Somebody in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// Which.
    pub id: ParticipantId,
    /// Who.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Over which connection.
    pub session: SessionId,
    /// What they call themselves here.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Whether they want to speak.
    pub hand: bool,
    /// Since when their device is gone.
    pub away_since: Option<Instant>,
}

/// Something that is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Which.
    pub id: TrackId,
    /// By whom.
    pub participant: ParticipantId,
    /// What it shows.
    pub source: Source,
    /// Whether it is withheld.
    pub muted: bool,
}

/// Who comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Who.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Over which connection.
    pub session: SessionId,
    /// What they call themselves here.
    pub name: Option<String>,
}

/// What a room is for, when it belongs to a conversation: only its members come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Whose members.
    pub conversation: ConversationId,
    /// The call that is held in it.
    pub call: Option<CallId>,
    /// The call is between two people: it is over when one of them leaves.
    pub is_direct: bool,
}

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Which.
    pub id: RoomId,
    /// Who made it.
    pub owner: UserId,
    /// What it is about.
    pub title: Option<String>,
    /// Whether nobody may come any more.
    pub locked: bool,
    /// What it is for.
    pub bound: Option<Bound>,
    /// Newcomers wait until a host lets them in.
    pub has_lobby: bool,
    /// How many may be there.
    pub participants_max: usize,
    /// Whom a host has taken out.
    pub removed: Vec<UserId>,
    participants: BTreeMap<ParticipantId, Participant>,
    tracks: BTreeMap<TrackId, Track>,
    waiting: Vec<Guest>,
    admitted: Vec<UserId>,
    next: ParticipantId,
    empty_since: Option<Instant>,
}

impl Room {
    /// An empty room.
    pub fn new(
        id: RoomId,
        owner: UserId,
        title: Option<String>,
        participants_max: usize,
        now: Instant,
    ) -> Room {
        Room {
            id,
            owner,
            title,
            locked: false,
            bound: None,
            has_lobby: false,
            participants_max,
            removed: Vec::new(),
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
            waiting: Vec::new(),
            admitted: Vec::new(),
            next: 1,
            empty_since: Some(now),
        }
    }

    /// Who is there, in the order they came.
    pub fn participants(&self) -> impl Iterator<Item = &Participant> {
        self.participants.values()
    }

    /// One of them.
    pub fn participant(&self, id: ParticipantId) -> Option<&Participant> {
        self.participants.get(&id)
    }

    /// What is published.
    pub fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.values()
    }

    /// Somebody comes. The same device twice is one participant: the place it had is given up, and told as the second.
    pub fn join(
        &mut self,
        guest: Guest,
        now: Instant,
    ) -> Result<(ParticipantId, Option<Participant>), Refusal> {
        let Guest { user, device, .. } = guest;
        let before = self.participants.values().find(|one| one.device == device).map(|one| one.id);
        let is_owner = user == self.owner;
        if self.removed.contains(&user) && !is_owner {
            return Err(Refusal::Removed);
        }
        if before.is_none() {
            if self.locked && !is_owner {
                return Err(Refusal::Locked);
            }
            let theirs = self.participants.values().filter(|one| one.user == user).count();
            if theirs >= DEVICES_MAX {
                return Err(Refusal::TooManyDevices);
            }
            if self.participants.len() >= self.participants_max {
                return Err(Refusal::Full);
            }
            if self.has_lobby && !is_owner && theirs == 0 && !self.admitted.contains(&user) {
                return Err(self.wait(guest));
            }
        }
        let Guest { session, name, .. } = guest;
        let replaced = before.and_then(|before| self.leave(before, now));
        let id = self.next;
        self.next += 1;
        let role =
            if is_owner { Role::Host } else { replaced.as_ref().map_or(Role::Speaker, |before| before.role) };
        let hand = replaced.as_ref().is_some_and(|before| before.hand);
        let participant = Participant { id, user, device, session, name, role, hand, away_since: None };
        self.participants.insert(id, participant);
        self.empty_since = None;
        Ok((id, replaced))
    }

    /// The same device over another connection: it keeps its place and what it publishes.
    pub fn resume(
        &mut self,
        id: ParticipantId,
        device: DeviceId,
        session: SessionId,
    ) -> Result<SessionId, Refusal> {
        let participant = self.participants.get_mut(&id).filter(|one| one.device == device);
        let participant = participant.ok_or(Refusal::NotHere)?;
        participant.away_since = None;
        Ok(std::mem::replace(&mut participant.session, session))
    }

    /// Somebody leaves, and what they published with them.
    pub fn leave(&mut self, id: ParticipantId, now: Instant) -> Option<Participant> {
        let left = self.participants.remove(&id)?;
        self.tracks.retain(|_, track| track.participant != id);
        if self.participants.is_empty() {
            self.empty_since = Some(now);
        }
        Some(left)
    }

    /// The device of somebody is gone, or there again under another connection.
    pub fn reach(&mut self, id: ParticipantId, session: Option<SessionId>, now: Instant) {
        if let Some(participant) = self.participants.get_mut(&id) {
            match session {
                Some(session) => {
                    participant.session = session;
                    participant.away_since = None;
                }
                None => participant.away_since = Some(now),
            }
        }
    }

    /// Whose lease has run out.
    pub fn expired(&self, now: Instant) -> Vec<ParticipantId> {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= LEASE;
        self.participants
            .values()
            .filter(|one| one.away_since.is_some_and(is_over))
            .map(|one| one.id)
            .collect()
    }

    /// The call in it, when nobody is there, or of two people only one.
    pub fn deserted_call(&self) -> Option<CallId> {
        let Bound { call, is_direct, .. } = self.bound?;
        let mut users: Vec<UserId> = self.participants.values().map(|one| one.user).collect();
        users.sort_unstable();
        users.dedup();
        (users.len() < if is_direct { 2 } else { 1 }).then_some(call)?
    }

    /// The call in it, when nobody has been there for longer than somebody may be away.
    pub fn abandoned_call(&self, now: Instant) -> Option<CallId> {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= LEASE;
        self.bound?.call.filter(|_| self.empty_since.is_some_and(is_over))
    }

    /// Whether nobody has been there for so long that it can be forgotten.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.empty_since.is_some_and(|since| now.saturating_duration_since(since) >= EMPTY_KEPT)
    }

    /// Somebody publishes.
    pub fn publish(
        &mut self,
        by: ParticipantId,
        track: TrackId,
        source: Source,
        muted: bool,
    ) -> Result<(), Refusal> {
        let participant = self.participants.get(&by).ok_or(Refusal::NotHere)?;
        if participant.role < Role::Speaker {
            return Err(Refusal::RoleTooLow);
        }
        if self.tracks.values().any(|known| known.participant == by && known.source == source) {
            return Err(Refusal::TooManyTracks);
        }
        self.tracks.insert(track, Track { id: track, participant: by, source, muted });
        Ok(())
    }

    /// Takes back what was published; their own only.
    pub fn unpublish(&mut self, by: ParticipantId, track: TrackId) -> Result<Track, Refusal> {
        match self.tracks.get(&track) {
            Some(known) if known.participant == by => self.tracks.remove(&track).ok_or(Refusal::NoSuchTrack),
            _ => Err(Refusal::NoSuchTrack),
        }
    }

    /// Withholds a track, or shows it again: one's own; the host may silence others, but opens nobody's microphone.
    pub fn mute(&mut self, by: ParticipantId, track: TrackId, muted: bool) -> Result<Track, Refusal> {
        let role = self.participants.get(&by).ok_or(Refusal::NotHere)?.role;
        let known = self.tracks.get_mut(&track).ok_or(Refusal::NoSuchTrack)?;
        if known.participant != by && !(role == Role::Host && muted) {
            return Err(Refusal::RoleTooLow);
        }
        known.muted = muted;
        Ok(known.clone())
    }

    /// Somebody raises or lowers their hand.
    pub fn raise_hand(&mut self, by: ParticipantId, up: bool) -> Result<(), Refusal> {
        self.participants.get_mut(&by).ok_or(Refusal::NotHere)?.hand = up;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn guest(user: UserId) -> Guest {
        Guest { user, device: DeviceId::generate(), session: SessionId::generate(), name: None }
    }

    pub(super) fn room(participants_max: usize) -> (Room, UserId) {
        let owner = UserId::generate();
        (Room::new(RoomId::generate(), owner, None, participants_max, Instant::now()), owner)
    }

    #[test]
    fn a_device_that_comes_twice_is_one_participant() {
        let (mut room, owner) = room(1);
        let ann = guest(owner);
        let (first, replaced) = room.join(ann.clone(), Instant::now()).unwrap();
        assert_eq!(replaced, None);
        room.publish(first, 1, Source::Camera, false).unwrap();
        let (second, replaced) = room.join(ann, Instant::now()).unwrap();
        assert_eq!(replaced.map(|one| one.id), Some(first));
        assert_ne!(first, second);
        assert_eq!((room.participants().count(), room.tracks().count()), (1, 0));
        assert_eq!(room.join(guest(UserId::generate()), Instant::now()), Err(Refusal::Full));
    }

    #[test]
    fn who_comes_back_over_another_connection_keeps_the_place() {
        let (mut room, owner) = room(9);
        let ann = guest(owner);
        let (id, _) = room.join(ann.clone(), Instant::now()).unwrap();
        room.publish(id, 1, Source::Camera, false).unwrap();
        room.reach(id, None, Instant::now());
        let other = SessionId::generate();
        assert_eq!(room.resume(id, DeviceId::generate(), other), Err(Refusal::NotHere), "another's place");
        assert_eq!(room.resume(id, ann.device, other), Ok(ann.session));
        assert!(room.expired(Instant::now() + LEASE).is_empty());
        assert_eq!(room.tracks().count(), 1);
        for _ in 1..DEVICES_MAX {
            room.join(guest(owner), Instant::now()).unwrap();
        }
        assert_eq!(room.join(guest(owner), Instant::now()), Err(Refusal::TooManyDevices));
    }

    #[test]
    fn who_is_away_for_longer_than_the_lease_is_no_ghost() {
        let (mut room, owner) = room(9);
        let (host, _) = room.join(guest(owner), Instant::now()).unwrap();
        let now = Instant::now();
        room.reach(host, None, now);
        assert!(room.expired(now + LEASE - Duration::from_secs(1)).is_empty());
        room.reach(host, Some(SessionId::generate()), now);
        assert!(room.expired(now + LEASE).is_empty());
        room.reach(host, None, now);
        assert_eq!(room.expired(now + LEASE), [host]);
        room.leave(host, now);
        assert!(!room.is_forgotten(now) && room.is_forgotten(now + EMPTY_KEPT));
    }
}
