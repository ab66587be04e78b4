//! Coming into a room: `room.join`, with or without a lobby, `room.admit`, `room.lobby`; coming back to one's place in it, and leaving.

use nova_actors::id::{RoomId, UserId};
use nova_actors::room::{self, Guest, Participant, ParticipantId, Role, Room};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::places::Place;
use super::signalling::{
    Answered, NAME_CHARS_MAX, because, fields, invalid, of_media, read_offer, refused, show_participant,
    show_track,
};
use super::{Calls, Coming, Held, Seat, event};
use crate::chat::seam::{DeviceHandle, Refusal};
use crate::chat::wire::{Answer, RoomRequest};
use crate::error::Code;

/// `room.join {room, offer, name?}`: the same device again takes its place over. `room.join {room, resume, offer?}`: it comes back to
/// its place over another connection; with an offer over other paths too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Join {
    room: RoomId,
    #[serde(default)]
    offer: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    resume: Option<ParticipantId>,
}

/// `room.admit {user, admit}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admit {
    user: UserId,
    admit: bool,
}

/// `room.lobby {on}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lobby {
    on: bool,
}

/// `room.leave {room?}`: with a room only that one, also while a `room.join` is on its way; who is not there any more has left.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    #[serde(default)]
    room: Option<RoomId>,
}

impl Join {
    fn check(&self) -> Result<(), Refusal> {
        match &self.name {
            Some(name) if name.chars().count() > NAME_CHARS_MAX || name.trim().is_empty() => {
                Err(invalid("name", format!("1 to {NAME_CHARS_MAX} characters are wanted")))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the fields of a request to come in, or about who may, are as they must be.
#[cfg(test)]
pub(super) fn check(request: RoomRequest) -> Result<(), Refusal> {
    match request.kind.as_str() {
        "room.join" => {
            let join: Join = fields(request)?;
            join.check()?;
            join.offer.as_deref().map_or(Ok(()), super::signalling::bounded)
        }
        "room.admit" => fields::<Admit>(request).map(drop),
        "room.lobby" => fields::<Lobby>(request).map(drop),
        "room.leave" => fields::<Leave>(request).map(drop),
        _ => Err(Code::UnknownType.into()),
    }
}

impl Calls {
    pub(super) async fn join(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        let join: Join = fields(request)?;
        join.check()?;
        let offer = join.offer.as_deref().map(read_offer).transpose()?;
        self.0.count_join(device.user())?;
        // From here on somebody may say that they leave again.
        let (session, room) = (device.session(), join.room);
        self.0.lock().coming.insert(session, Coming { room, has_left: false });
        let answered = self.come_in(device, join, offer).await;
        let has_left = self.0.lock().coming.remove(&session).is_some_and(|coming| coming.has_left);
        if has_left {
            let seat = self.0.lock().by_session.get(&session).copied().filter(|seat| seat.0 == room);
            if let Some(seat) = seat {
                self.0.leave(seat, "left").await;
            }
            if self.0.lock().waiting.get(&session) == Some(&room) {
                self.0.stop_waiting(session);
            }
            return Err(because(Code::Conflict, "you left this room while you came in"));
        }
        answered
    }

    async fn come_in(
        &self,
        device: &DeviceHandle,
        join: Join,
        offer: Option<nova_media::sdp::Offer>,
    ) -> Answered {
        let asked = self.0.clock.instant();
        if let Place::There(url) = self.0.place(join.room).await? {
            return Ok(Some(said("room.moved", json!({ "room": join.room, "url": url }))));
        }
        if let Some(participant) = join.resume {
            return self.resume(device, (join.room, participant), offer).await;
        }
        let offer = offer.ok_or_else(|| invalid("offer", "one is wanted"))?;
        self.0.let_in(join.room, device).await?;
        // A connection is in one room at a time.
        if let Ok((seat, _)) = self.seat(device)
            && seat.0 != join.room
        {
            self.0.leave(seat, "left").await;
        }
        let waits = self.0.lock().waiting.get(&device.session()).copied();
        if waits.is_some_and(|room| room != join.room) {
            self.0.stop_waiting(device.session());
        }
        let guest = Guest {
            user: device.user(),
            device: device.device(),
            session: device.session(),
            name: join.name,
        };
        let (participant, before) = {
            let mut rooms = self.0.lock();
            let room = rooms.rooms.get_mut(&join.room).ok_or(Code::NotFound)?;
            let (participant, replaced) = match room.join(guest, self.0.clock.instant()) {
                Ok(joined) => joined,
                Err(room::Refusal::Waits) => {
                    rooms.waiting.insert(device.session(), join.room);
                    if let Some(room) = rooms.rooms.get(&join.room) {
                        self.0.tell_hosts(room);
                    }
                    return Ok(Some(said("room.waiting", json!({ "room": join.room }))));
                }
                Err(refusal) => return Err(refused(refusal)),
            };
            let before = replaced.as_ref().and_then(|replaced| rooms.give_up((join.room, replaced.id)));
            if let (Some(replaced), Some(room)) = (&replaced, rooms.rooms.get(&join.room)) {
                let words = json!({ "participant": replaced.id, "reason": "replaced" });
                self.0.tell(room, Some(participant), &event(join.room, "left", words));
                if replaced.session != device.session() {
                    self.0.push(replaced, event(join.room, "closed", json!({ "reason": "replaced" })));
                }
            }
            (participant, before)
        };
        let seat = (join.room, participant);
        if let Some(before) = before {
            self.0.media.leave(before).await;
        }
        let joined = self.0.media.join(join.room.as_uuid().as_u128(), offer).await;
        let (member, answer) = match joined {
            Ok(joined) => joined,
            Err(error) => {
                self.0.leave(seat, "media").await;
                return Err(of_media(error));
            }
        };
        let told = {
            let mut rooms = self.0.lock();
            let here = rooms.rooms.get(&join.room).and_then(|room| room.participant(participant)).cloned();
            if let Some(here) = &here {
                rooms
                    .seats
                    .insert(seat, Held { member: Some(member), asked: Some(asked), ..Held::default() });
                rooms.by_member.insert(member, seat);
                rooms.by_session.insert(device.session(), seat);
                if let Some(room) = rooms.rooms.get(&join.room) {
                    let words = json!({ "participant": show_participant(here) });
                    self.0.tell(room, Some(participant), &event(join.room, "joined", words));
                }
            }
            here.and_then(|_| {
                let mut told = state(rooms.rooms.get(&join.room)?, participant);
                told.insert("streaming".to_owned(), rooms.streaming(join.room));
                Some(told)
            })
        };
        let Some(mut told) = told else {
            // Removed, or the room deleted, while the shard was asked.
            self.0.media.leave(member).await;
            return Err(Code::NotFound.into());
        };
        self.0.let_talk(seat).await;
        told.insert("answer".to_owned(), answer.into());
        told.insert("ice_servers".to_owned(), self.0.ice_servers(device.user()));
        told.insert("slots".to_owned(), Value::Array(Vec::new()));
        Ok(Some(Answer::Other(told)))
    }

    /// The same device over another connection; what it publishes and is sent goes on.
    async fn resume(
        &self,
        device: &DeviceHandle,
        seat: Seat,
        offer: Option<nova_media::sdp::Offer>,
    ) -> Answered {
        let (member, mut told) = {
            let mut rooms = self.0.lock();
            let room = rooms.rooms.get_mut(&seat.0).ok_or(Code::NotFound)?;
            let before = room.resume(seat.1, device.device(), device.session()).map_err(refused)?;
            let mut told = state(room, seat.1);
            rooms.by_session.remove(&before);
            rooms.by_session.insert(device.session(), seat);
            told.insert("streaming".to_owned(), rooms.streaming(seat.0));
            let held = rooms.seats.get(&seat).ok_or(Code::NotFound)?;
            let slots = held.slots.iter().map(|(mid, track)| json!({ "mid": mid, "track": track }));
            told.insert("slots".to_owned(), slots.collect());
            (held.member.ok_or(Code::NotFound)?, told)
        };
        if let Some(offer) = offer {
            let answer = self.0.media.offer(member, offer).await.map_err(of_media)?;
            told.insert("answer".to_owned(), answer.into());
        }
        // What was said while nobody heard it is not said by the state of the room.
        self.0.media.tell_again(member).await;
        told.insert("ice_servers".to_owned(), self.0.ice_servers(device.user()));
        Ok(Some(Answer::Other(told)))
    }

    pub(super) async fn go(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        let Leave { room } = fields(request)?;
        let session = device.session();
        let (seat, waits) = {
            let mut rooms = self.0.lock();
            if let (Some(room), Some(coming)) = (room, rooms.coming.get_mut(&session))
                && coming.room == room
            {
                coming.has_left = true;
            }
            let is_meant = |id: RoomId| room.is_none_or(|room| room == id);
            let seat = rooms.by_session.get(&session).copied().filter(|seat| is_meant(seat.0));
            (seat, rooms.waiting.get(&session).copied().is_some_and(is_meant))
        };
        match seat {
            Some(seat) => self.0.leave(seat, "left").await,
            None if waits => {
                self.0.stop_waiting(session);
            }
            None if room.is_none() => return Err(self.in_no_room()),
            None => {}
        }
        Ok(None)
    }

    pub(super) fn admit(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        let Admit { user, admit } = fields(request)?;
        let (seat, _) = self.seat(device)?;
        let guests = self.with_room(seat, |room| room.admit(seat.1, user, admit))?;
        let (what, words) =
            if admit { ("admitted", json!({})) } else { ("closed", json!({ "reason": "refused" })) };
        self.dismiss(seat.0, &guests, what, &words);
        Ok(None)
    }

    pub(super) async fn lobby(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        let Lobby { on } = fields(request)?;
        let (seat, _) = self.seat(device)?;
        let guests = self.with_room(seat, |room| room.set_lobby(seat.1, on))?;
        self.dismiss(seat.0, &guests, "admitted", &json!({}));
        self.tell_room(seat.0, "lobby", json!({ "on": on }));
        self.0.keep(seat.0).await;
        Ok(None)
    }

    /// These wait no longer.
    fn dismiss(&self, room: RoomId, guests: &[Guest], what: &str, words: &Value) {
        let mut rooms = self.0.lock();
        for guest in guests {
            rooms.waiting.remove(&guest.session);
            self.0.push_to(guest.user, guest.device, guest.session, event(room, what, words.clone()));
        }
        if let Some(room) = rooms.rooms.get(&room) {
            self.0.tell_hosts(room);
        }
    }
}

impl super::Inner {
    /// Tells the hosts who waits.
    pub(super) fn tell_hosts(&self, room: &Room) {
        let waiting: Vec<Value> = room.waiting().iter().map(show_guest).collect();
        let hosts = room.participants().filter(|one| one.role == Role::Host);
        for host in hosts {
            self.push(host, event(room.id, "waiting", json!({ "waiting": waiting })));
        }
    }

    /// Tells the shard how somebody is called on data channels, and whether others hear them there.
    pub(super) async fn let_talk(&self, seat: super::Seat) {
        let talks = {
            let rooms = self.lock();
            let participant = rooms.rooms.get(&seat.0).and_then(|room| room.participant(seat.1));
            let member = rooms.seats.get(&seat).and_then(|held| held.member);
            participant.zip(member).map(|(one, member)| (member, one.role >= Role::Speaker))
        };
        if let Some((member, may_speak)) = talks {
            self.media.let_talk(member, seat.1, may_speak).await;
        }
    }

    /// Keeps what hosts have decided.
    pub(super) async fn keep(&self, room: RoomId) {
        let kept = {
            let rooms = self.lock();
            rooms.rooms.get(&room).map(|room| (room.locked, room.has_lobby, room.removed.clone()))
        };
        let Some((locked, lobby, removed)) = kept else { return };
        if let Err(error) = self.store.keep_room(room, locked, lobby, &removed).await {
            tracing::warn!(%room, %error, "what a host has decided would not outlive this node");
        }
    }

    /// How often somebody may ask to come in; each time costs an offer to be answered.
    fn count_join(&self, user: UserId) -> Result<(), Refusal> {
        let make = || Ok::<_, std::convert::Infallible>(Default::default());
        let Ok(meter) = self.joins.get_or_insert_with(&user, make);
        let Some(rate) = self.join_rate else { return Ok(()) };
        rate.take(&meter, self.clock.instant().saturating_duration_since(self.started)).map_err(|wait| {
            self.metrics.rate_limited.with_label_values(&["room.join"]).inc();
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let refusal = because(Code::RateLimited, "you join rooms too often; wait a moment");
            Refusal { retry_after_ms: Some(wait_ms), ..refusal }
        })
    }
}

/// Everything a newcomer has to know.
pub(super) fn state(room: &Room, you: ParticipantId) -> Map<String, Value> {
    let is_host = room.participant(you).is_some_and(|one: &Participant| one.role == Role::Host);
    let waiting: Vec<Value> =
        if is_host { room.waiting().iter().map(show_guest).collect() } else { Vec::new() };
    let words = json!({
        "type": "room.joined",
        "room": room.id,
        "participant": you,
        "title": room.title,
        "conversation": room.bound.map(|bound| bound.conversation),
        "call": room.bound.and_then(|bound| bound.call),
        "locked": room.locked,
        "lobby": room.has_lobby,
        "waiting": waiting,
        "participants": room.participants().map(show_participant).collect::<Vec<_>>(),
        "tracks": room.tracks().map(show_track).collect::<Vec<_>>(),
        "expires_in": room::LEASE.as_secs(),
    });
    match words {
        Value::Object(words) => words,
        _ => Map::new(),
    }
}

pub(super) fn show_guest(guest: &Guest) -> Value {
    json!({ "user": guest.user, "name": guest.name })
}

fn said(kind: &str, words: Value) -> Answer {
    let mut told = Map::new();
    told.insert("type".to_owned(), kind.into());
    if let Value::Object(words) = words {
        told.extend(words);
    }
    Answer::Other(told)
}
