//! Who waits until a host lets them in.

use super::{Guest, ParticipantId, Refusal, Room};
use crate::id::{SessionId, UserId};

/// People who may wait to be let in. When full, whoever comes next is told that the room is full.
pub const WAITING_MAX: usize = 50;

impl Room {
    /// Somebody waits for a host; asking again from the same device is waiting once.
    pub(super) fn wait(&mut self, guest: Guest) -> Refusal {
        self.waiting.retain(|one| one.device != guest.device);
        if self.waiting.len() >= WAITING_MAX {
            return Refusal::Full;
        }
        self.waiting.push(guest);
        Refusal::Waits
    }

    /// Who waits, in the order they came.
    pub fn waiting(&self) -> &[Guest] {
        &self.waiting
    }

    /// The host lets somebody in, or not; gives their devices that wait, to be told. Who was let in stays so.
    pub fn admit(&mut self, by: ParticipantId, user: UserId, yes: bool) -> Result<Vec<Guest>, Refusal> {
        self.host(by)?;
        let guests: Vec<Guest> = self.waiting.extract_if(.., |one| one.user == user).collect();
        if guests.is_empty() {
            return Err(Refusal::NotHere);
        }
        if yes {
            self.admitted.push(user);
        }
        Ok(guests)
    }

    /// Newcomers wait from now on, or do not; gives those who wait no longer.
    pub fn set_lobby(&mut self, by: ParticipantId, on: bool) -> Result<Vec<Guest>, Refusal> {
        self.host(by)?;
        self.has_lobby = on;
        if on {
            return Ok(Vec::new());
        }
        Ok(std::mem::take(&mut self.waiting))
    }

    /// Somebody waits no longer: their device is gone. Says whether they did.
    pub fn give_up_waiting(&mut self, session: SessionId) -> Option<Guest> {
        let at = self.waiting.iter().position(|one| one.session == session)?;
        Some(self.waiting.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::tests::{guest, room};
    use super::*;

    #[test]
    fn newcomers_wait_until_the_host_lets_them_in() {
        let (mut room, owner) = room(9);
        room.has_lobby = true;
        let (host, _) = room.join(guest(owner), Instant::now()).unwrap();
        let (bo, cy) = (guest(UserId::generate()), guest(UserId::generate()));
        for one in [&bo, &bo, &cy] {
            assert_eq!(room.join((*one).clone(), Instant::now()), Err(Refusal::Waits));
        }
        assert_eq!(room.waiting(), [bo.clone(), cy.clone()], "asking twice is waiting once");
        assert_eq!(room.admit(host, bo.user, true).unwrap(), std::slice::from_ref(&bo));
        assert_eq!(room.admit(host, bo.user, true), Err(Refusal::NotHere));
        let (bos, _) = room.join(bo, Instant::now()).unwrap();
        assert_eq!(room.admit(bos, cy.user, true), Err(Refusal::RoleTooLow), "only hosts let in");
        assert_eq!(room.admit(host, cy.user, false).unwrap(), std::slice::from_ref(&cy));
        assert_eq!(room.join(cy.clone(), Instant::now()), Err(Refusal::Waits));
        assert_eq!(room.set_lobby(host, false).unwrap(), std::slice::from_ref(&cy));
        room.join(cy, Instant::now()).unwrap();
        room.has_lobby = true;
        for _ in 0..WAITING_MAX {
            assert_eq!(room.join(guest(UserId::generate()), Instant::now()), Err(Refusal::Waits));
        }
        assert_eq!(room.join(guest(UserId::generate()), Instant::now()), Err(Refusal::Full));
    }
}
