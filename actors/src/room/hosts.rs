//! What hosts decide about others, and who is host when none is left.

use super::{ParticipantId, Refusal, Role, Room, Track};

impl Room {
    /// Whether somebody decides about others.
    pub fn host(&self, by: ParticipantId) -> Result<(), Refusal> {
        match self.participants.get(&by) {
            Some(participant) if participant.role == Role::Host => Ok(()),
            Some(_) => Err(Refusal::RoleTooLow),
            None => Err(Refusal::NotHere),
        }
    }

    /// Gives the room to somebody when no host is left in it: to the speaker who has been there longest, before others one whose device is
    /// there. Nobody gets it where only listeners are; who made the room is its host again on coming back.
    pub fn succeed(&mut self) -> Option<ParticipantId> {
        if self.participants.values().any(|one| one.role == Role::Host) {
            return None;
        }
        let speakers = self.participants.values_mut().filter(|one| one.role == Role::Speaker);
        let successor = speakers.min_by_key(|one| (one.away_since.is_some(), one.id))?;
        successor.role = Role::Host;
        Some(successor.id)
    }

    /// The host takes somebody out: they are to leave, and do not come back.
    pub fn remove(&mut self, by: ParticipantId, whom: ParticipantId) -> Result<(), Refusal> {
        self.host(by)?;
        let user = self.participants.get(&whom).ok_or(Refusal::NotHere)?.user;
        if user == self.owner {
            return Err(Refusal::RoleTooLow);
        }
        self.removed.push(user);
        Ok(())
    }

    /// The host lets nobody in any more, or everybody again.
    pub fn lock(&mut self, by: ParticipantId, locked: bool) -> Result<(), Refusal> {
        self.host(by)?;
        self.locked = locked;
        Ok(())
    }

    /// The host says what somebody may do. A listener's tracks are taken back; they are returned.
    pub fn set_role(
        &mut self,
        by: ParticipantId,
        whom: ParticipantId,
        role: Role,
    ) -> Result<Vec<Track>, Refusal> {
        self.host(by)?;
        let participant = self.participants.get_mut(&whom).ok_or(Refusal::NotHere)?;
        participant.role = role;
        if role > Role::Listener {
            return Ok(Vec::new());
        }
        let taken: Vec<Track> =
            self.tracks.values().filter(|track| track.participant == whom).cloned().collect();
        self.tracks.retain(|_, track| track.participant != whom);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::Source;
    use super::super::tests::{guest, room};
    use super::*;
    use crate::id::UserId;

    #[test]
    fn the_host_decides_about_others_and_nobody_else_does() {
        let (mut room, owner) = room(9);
        let (host, _) = room.join(guest(owner), Instant::now()).unwrap();
        let bo = guest(UserId::generate());
        let (other, _) = room.join(bo.clone(), Instant::now()).unwrap();
        room.publish(other, 1, Source::Microphone, false).unwrap();
        assert_eq!(room.publish(other, 2, Source::Microphone, false), Err(Refusal::TooManyTracks));
        assert_eq!(room.lock(other, true), Err(Refusal::RoleTooLow));
        assert_eq!(room.remove(other, host), Err(Refusal::RoleTooLow));
        assert!(room.mute(host, 1, true).unwrap().muted);
        assert_eq!(room.mute(host, 1, false), Err(Refusal::RoleTooLow), "nobody opens another's microphone");
        assert!(!room.mute(other, 1, false).unwrap().muted);
        assert_eq!(room.set_role(host, other, Role::Listener).unwrap().len(), 1);
        assert_eq!(room.publish(other, 3, Source::Camera, false), Err(Refusal::RoleTooLow));
        room.lock(host, true).unwrap();
        assert_eq!(room.join(guest(UserId::generate()), Instant::now()), Err(Refusal::Locked));
        room.lock(host, false).unwrap();
        room.remove(host, other).unwrap();
        room.leave(other, Instant::now());
        assert_eq!(room.join(bo, Instant::now()), Err(Refusal::Removed));
    }

    #[test]
    fn a_room_its_host_has_left_goes_to_the_speaker_who_has_been_there_longest() {
        let (mut room, owner) = room(9);
        let now = Instant::now();
        let ann = guest(owner);
        let (host, _) = room.join(ann.clone(), now).unwrap();
        let [listener, away, bo, cy] =
            std::array::from_fn(|_| room.join(guest(UserId::generate()), now).unwrap().0);
        assert_eq!(room.succeed(), None, "the host is there");
        room.set_role(host, listener, Role::Listener).unwrap();
        room.reach(away, None, now);
        room.leave(host, now);
        assert_eq!(room.succeed(), Some(bo));
        assert_eq!(room.succeed(), None, "one is enough");
        room.set_role(bo, listener, Role::Listener).unwrap();
        // Who made the room decides again, beside who did meanwhile.
        let (again, _) = room.join(ann, now).unwrap();
        let role = |room: &Room, who| room.participant(who).map(|one| one.role);
        assert_eq!((role(&room, again), role(&room, bo)), (Some(Role::Host), Some(Role::Host)));
        for gone in [again, bo, cy] {
            room.leave(gone, now);
        }
        assert_eq!(room.succeed(), Some(away), "better one who may come back than nobody");
        room.leave(away, now);
        assert_eq!(room.succeed(), None, "who only listens does not decide");
    }
}
