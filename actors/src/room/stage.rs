//! Who is seen where a room is shown to others as one picture: a shared screen, else whoever speaks.

use std::time::Duration;

use tokio::time::Instant;

use super::{ParticipantId, Room, Source, TrackId};

/// Whoever has the stage keeps it for so long against others who speak: a picture that changes with every word is hard to watch.
pub const STAY: Duration = Duration::from_secs(2);

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub struct Stage {
    shown: Option<(TrackId, Instant)>,
    speakers: Vec<ParticipantId>,
}

impl Stage {
    /// These speak, the loudest first.
    pub fn hear(&mut self, speakers: Vec<ParticipantId>) {
        self.speakers = speakers;
    }

    /// What is to be seen now; nothing where nobody shows anything.
    pub fn direct(&mut self, room: &Room, now: Instant) -> Option<TrackId> {
        let of = |source: Source| room.tracks().filter(move |track| track.source == source && !track.muted);
        // The latest: whoever shares a second screen wants it to be seen.
        let screen = of(Source::Screen).map(|track| track.id).max();
        let camera = |of_whom: ParticipantId| of(Source::Camera).find(|track| track.participant == of_whom);
        let speaker = self.speakers.iter().find_map(|one| camera(*one)).map(|track| track.id);
        let present = self.shown.filter(|(shown, _)| of(Source::Camera).any(|track| track.id == *shown));
        let stays = present.filter(|(_, since)| now.saturating_duration_since(*since) < STAY);
        let first = of(Source::Camera).map(|track| track.id).next();
        let chosen = screen
            .or(stays.map(|(shown, _)| shown))
            .or(speaker)
            .or(present.map(|(shown, _)| shown))
            .or(first);
        if chosen != self.shown.map(|(shown, _)| shown) {
            self.shown = chosen.map(|chosen| (chosen, now));
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::super::Guest;
    use super::*;
    use crate::id::{DeviceId, RoomId, SessionId, UserId};

    fn joins(room: &mut Room, user: UserId) -> ParticipantId {
        let guest = Guest { user, device: DeviceId::generate(), session: SessionId::generate(), name: None };
        room.join(guest, Instant::now()).unwrap().0
    }

    #[test]
    fn the_stage_follows_who_speaks_but_not_every_word() {
        let (owner, now) = (UserId::generate(), Instant::now());
        let mut room = Room::new(RoomId::generate(), owner, None, 9, now);
        let (ann, bo) = (joins(&mut room, owner), joins(&mut room, UserId::generate()));
        let mut stage = Stage::default();
        assert_eq!(stage.direct(&room, now), None);
        room.publish(ann, 1, Source::Camera, false).unwrap();
        room.publish(bo, 2, Source::Camera, false).unwrap();
        room.publish(bo, 3, Source::Microphone, false).unwrap();
        assert_eq!(stage.direct(&room, now), Some(1), "somebody, before anybody spoke");
        stage.hear(vec![bo, ann]);
        assert_eq!(stage.direct(&room, now + STAY / 2), Some(1));
        assert_eq!(stage.direct(&room, now + STAY), Some(2));
        stage.hear(Vec::new());
        assert_eq!(stage.direct(&room, now + 3 * STAY), Some(2), "who spoke last stays");
        // At once: a camera that is off, a screen that is shared, and its end.
        room.mute(bo, 2, true).unwrap();
        assert_eq!(stage.direct(&room, now + 3 * STAY), Some(1));
        room.publish(bo, 4, Source::Screen, false).unwrap();
        assert_eq!(stage.direct(&room, now + 3 * STAY), Some(4));
        room.unpublish(bo, 4).unwrap();
        assert_eq!(stage.direct(&room, now + 3 * STAY), Some(1));
        room.leave(ann, now);
        assert_eq!(stage.direct(&room, now + 3 * STAY), None);
    }
}
