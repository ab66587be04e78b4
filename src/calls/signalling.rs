//! The requests of `nova.v1` about calls, carried out: `room.join` and its kin. What they are made of is in `requests`.

mod requests;

use std::sync::atomic::Ordering;

use nova_actors::id::RoomId;
use nova_actors::room::{self, Participant, Role, Room, Source, Track};
pub(crate) use nova_media::sdp::OFFER_BYTES_MAX;
use nova_media::sdp::Offer;
use nova_media::sfu::{MemberId, SfuError, Want};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Calls, Seat, event};
use crate::chat::seam::{DeviceHandle, Refusal};
use crate::chat::wire::{Answer, RoomRequest};
use crate::error::Code;
use requests::{
    Candidate, Hand, Kick, Lock, Mute, Publication, Publish, Reoffer, SetRole, Unpublish, View, Wanted,
};

pub(crate) use requests::{HEIGHT_MAX, KINDS, NAME_CHARS_MAX, WANTS_MAX};

/// Whether the fields of a request are as they must be, whoever says it and wherever: what the document promises.
#[cfg(test)]
pub(crate) fn check(request: RoomRequest) -> Result<(), Refusal> {
    match request.kind.as_str() {
        kind if kind.starts_with("call.") => super::life::check(request),
        "room.join" | "room.admit" | "room.lobby" | "room.leave" => super::entrance::check(request),
        "room.offer" => bounded(&fields::<Reoffer>(request)?.offer),
        "room.candidate" => fields::<Candidate>(request).map(drop),
        "room.publish" => fields::<Publish>(request)?.check(),
        "room.unpublish" => fields::<Unpublish>(request).map(drop),
        "room.mute" => fields::<Mute>(request).map(drop),
        "room.view" => fields::<View>(request)?.check(),
        "room.hand" => fields::<Hand>(request).map(drop),
        "room.kick" => fields::<Kick>(request).map(drop),
        "room.role" => fields::<SetRole>(request).map(drop),
        "room.lock" => fields::<Lock>(request).map(drop),
        "room.stream" | "room.unstream" => super::streaming::check(request),
        _ => Err(Code::UnknownType.into()),
    }
}

/// An offer that is too large to be looked at.
#[cfg(test)]
pub(super) fn bounded(offer: &str) -> Result<(), Refusal> {
    match offer.len() > OFFER_BYTES_MAX {
        true => Err(invalid("offer", "it is too large")),
        false => Ok(()),
    }
}

pub(super) type Answered = Result<Option<Answer>, Refusal>;

impl Calls {
    /// Answers one request of a device.
    pub(super) async fn signal(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        match request.kind.as_str() {
            "room.join" => self.join(device, request).await,
            "room.admit" => self.admit(device, request),
            "room.lobby" => self.lobby(device, request).await,
            "room.offer" => self.reoffer(device, fields(request)?).await,
            "room.candidate" => fields::<Candidate>(request).map(|_| None),
            "room.publish" => self.publish(device, fields(request)?).await,
            "room.unpublish" => self.unpublish(device, fields(request)?).await,
            "room.mute" => self.mute(device, fields(request)?).await,
            "room.view" => self.view(device, fields(request)?).await,
            "room.kick" => self.kick(device, fields(request)?).await,
            "room.lock" => self.lock_room(device, fields(request)?).await,
            "room.role" => self.set_role(device, fields(request)?).await,
            "room.hand" => self.raise_hand(device, fields(request)?),
            "room.stream" => Box::pin(self.stream(device, request)).await,
            "room.unstream" => self.unstream(device, request),
            "room.leave" => self.go(device, request).await,
            _ => self.call_signal(device, request).await,
        }
    }

    async fn reoffer(&self, device: &DeviceHandle, Reoffer { offer }: Reoffer) -> Answered {
        let offer = read_offer(&offer)?;
        let (_, member) = self.seat(device)?;
        let answer = self.0.media.offer(member, offer).await.map_err(of_media)?;
        let mut told = Map::new();
        told.insert("type".to_owned(), "room.answer".into());
        told.insert("answer".to_owned(), answer.into());
        Ok(Some(Answer::Other(told)))
    }

    async fn publish(&self, device: &DeviceHandle, publish: Publish) -> Answered {
        publish.check()?;
        let Publish { tracks } = publish;
        let (seat, member) = self.seat(device)?;
        let mut published = Vec::new();
        for Publication { mid, source, muted } in tracks {
            let track = self.0.next_track.fetch_add(1, Ordering::Relaxed);
            let source = source.into();
            self.with_room(seat, |room| room.publish(seat.1, track, source, muted))?;
            if let Err(error) = self.0.media.publish(member, track, mid.clone(), source, muted).await {
                let _ = self.with_room(seat, |room| room.unpublish(seat.1, track));
                return Err(of_media(error));
            }
            let shown = {
                let mut rooms = self.0.lock();
                if let Some(held) = rooms.seats.get_mut(&seat) {
                    held.mids.insert(track, mid.clone());
                }
                let room = rooms.rooms.get(&seat.0).ok_or(Code::NotFound)?;
                let track = room.tracks().find(|known| known.id == track).ok_or(Code::NotFound)?;
                let shown = show_track(track);
                self.0.tell(room, Some(seat.1), &event(seat.0, "published", json!({ "track": shown })));
                shown
            };
            let mut shown = shown;
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("mid".to_owned(), mid.into());
            }
            published.push(shown);
        }
        let mut told = Map::new();
        told.insert("type".to_owned(), "room.published".into());
        told.insert("tracks".to_owned(), published.into());
        Ok(Some(Answer::Other(told)))
    }

    async fn unpublish(&self, device: &DeviceHandle, Unpublish { track }: Unpublish) -> Answered {
        let (seat, member) = self.seat(device)?;
        let track = self.with_room(seat, |room| room.unpublish(seat.1, track))?;
        self.withdraw(seat, member, &track).await;
        Ok(None)
    }

    /// A track is gone from the room: tells the shard and everybody.
    async fn withdraw(&self, seat: Seat, member: MemberId, track: &Track) {
        {
            let mut rooms = self.0.lock();
            if let Some(held) = rooms.seats.get_mut(&seat) {
                held.mids.remove(&track.id);
            }
            if let Some(room) = rooms.rooms.get(&seat.0) {
                let words = json!({ "track": track.id, "participant": track.participant });
                self.0.tell(room, None, &event(seat.0, "unpublished", words));
            }
        }
        self.0.media.unpublish(member, track.id).await;
    }

    async fn mute(&self, device: &DeviceHandle, Mute { track, muted }: Mute) -> Answered {
        let (seat, _) = self.seat(device)?;
        let track = self.with_room(seat, |room| room.mute(seat.1, track, muted))?;
        let publisher = {
            let rooms = self.0.lock();
            if let Some(room) = rooms.rooms.get(&seat.0) {
                let words = json!({ "track": track.id, "muted": muted, "by": seat.1 });
                self.0.tell(room, None, &event(seat.0, "muted", words));
            }
            rooms.seats.get(&(seat.0, track.participant)).and_then(|held| held.member)
        };
        if let Some(publisher) = publisher {
            self.0.media.mute(publisher, track.id, muted).await;
        }
        Ok(None)
    }

    async fn view(&self, device: &DeviceHandle, view: View) -> Answered {
        view.check()?;
        let View { want } = view;
        let (_, member) = self.seat(device)?;
        let wants = want.into_iter().map(|Wanted { track, height, fps, priority }| Want {
            track,
            height,
            fps,
            priority,
        });
        self.0.media.view(member, wants.collect()).await;
        Ok(None)
    }

    async fn kick(&self, device: &DeviceHandle, Kick { participant }: Kick) -> Answered {
        let (seat, _) = self.seat(device)?;
        self.with_room(seat, |room| room.remove(seat.1, participant))?;
        self.0.leave((seat.0, participant), "removed").await;
        self.0.keep(seat.0).await;
        Ok(None)
    }

    async fn lock_room(&self, device: &DeviceHandle, Lock { locked }: Lock) -> Answered {
        let (seat, _) = self.seat(device)?;
        self.with_room(seat, |room| room.lock(seat.1, locked))?;
        self.tell_room(seat.0, "locked", json!({ "locked": locked }));
        self.0.keep(seat.0).await;
        Ok(None)
    }

    async fn set_role(&self, device: &DeviceHandle, SetRole { participant, role }: SetRole) -> Answered {
        let (seat, _) = self.seat(device)?;
        let role = role.into();
        let taken = self.with_room(seat, |room| room.set_role(seat.1, participant, role))?;
        let words = json!({ "participant": participant, "role": role_name(role) });
        self.tell_room(seat.0, "role", words);
        let theirs = (seat.0, participant);
        self.0.let_talk(theirs).await;
        let member = self.0.lock().seats.get(&theirs).and_then(|held| held.member);
        if let Some(member) = member {
            for track in taken {
                self.withdraw(theirs, member, &track).await;
            }
        }
        Ok(None)
    }

    fn raise_hand(&self, device: &DeviceHandle, Hand { up }: Hand) -> Answered {
        let (seat, _) = self.seat(device)?;
        self.with_room(seat, |room| room.raise_hand(seat.1, up))?;
        self.tell_room(seat.0, "hand", json!({ "participant": seat.1, "up": up }));
        Ok(None)
    }

    pub(super) fn tell_room(&self, id: RoomId, what: &str, words: Value) {
        let rooms = self.0.lock();
        if let Some(room) = rooms.rooms.get(&id) {
            self.0.tell(room, None, &event(id, what, words));
        }
    }

    pub(super) fn with_room<T>(
        &self,
        seat: Seat,
        with: impl FnOnce(&mut Room) -> Result<T, room::Refusal>,
    ) -> Result<T, Refusal> {
        let mut rooms = self.0.lock();
        let room = rooms.rooms.get_mut(&seat.0).ok_or(Code::NotFound)?;
        with(room).map_err(refused)
    }

    /// Where a device sits, and what it has at the shard.
    pub(super) fn seat(&self, device: &DeviceHandle) -> Result<(Seat, MemberId), Refusal> {
        let rooms = self.0.lock();
        let seat = rooms.by_session.get(&device.session()).copied();
        let found = seat.and_then(|seat| Some((seat, rooms.seats.get(&seat)?.member?)));
        found.ok_or_else(|| self.in_no_room())
    }

    /// Why a request that is about a room cannot be carried out.
    pub(super) fn in_no_room(&self) -> Refusal {
        match self.0.are_here {
            true => because(Code::Conflict, "this connection is in no room; join one first"),
            false => {
                because(Code::Conflict, "this node has no calls; join a room, and you are told where it is")
            }
        }
    }
}

pub(super) fn show_participant(participant: &Participant) -> Value {
    json!({
        "participant": participant.id,
        "user": participant.user,
        "name": participant.name,
        "role": role_name(participant.role),
        "hand": participant.hand,
    })
}

pub(super) fn show_track(track: &Track) -> Value {
    let source = match track.source {
        Source::Microphone => "microphone",
        Source::Camera => "camera",
        Source::Screen => "screen",
        Source::ScreenAudio => "screen_audio",
    };
    json!({ "track": track.id, "participant": track.participant, "source": source, "muted": track.muted })
}

pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Listener => "listener",
        Role::Speaker => "speaker",
        Role::Host => "host",
    }
}

pub(super) fn fields<T: DeserializeOwned>(request: RoomRequest) -> Result<T, Refusal> {
    request.fields().map_err(|detail| because(Code::InvalidFields, detail))
}

pub(super) fn read_offer(text: &str) -> Result<Offer, Refusal> {
    Offer::read(text).map_err(|error| invalid("offer", error.to_string()))
}

pub(super) fn invalid(field: &str, detail: impl std::fmt::Display) -> Refusal {
    because(Code::InvalidFields, format!("{field}: {detail}"))
}

pub(super) fn because(code: Code, detail: impl Into<String>) -> Refusal {
    Refusal { detail: detail.into(), ..Refusal::from(code) }
}

pub(super) fn refused(refusal: room::Refusal) -> Refusal {
    let code = match refusal {
        room::Refusal::Full => Code::RoomFull,
        room::Refusal::Locked => Code::RoomLocked,
        room::Refusal::Removed => Code::Removed,
        room::Refusal::RoleTooLow => Code::Forbidden,
        room::Refusal::NotHere | room::Refusal::NoSuchTrack => Code::NotFound,
        // Answered otherwise.
        room::Refusal::Waits => Code::Conflict,
        room::Refusal::TooManyTracks | room::Refusal::TooManyDevices => Code::Conflict,
    };
    because(code, refusal.to_string())
}

pub(super) fn of_media(error: SfuError) -> Refusal {
    let code = match error {
        SfuError::Gone => Code::Conflict,
        SfuError::NoSuchMid | SfuError::Shrunk => Code::InvalidFields,
        SfuError::TooManyTracks => Code::Conflict,
        SfuError::Random | SfuError::Ended => Code::Unavailable,
    };
    because(code, error.to_string())
}
