//! A host makes the room a live stream of theirs: `room.stream`, `room.unstream`. Everybody in the room is told, and whoever comes later;
//! how it is made is [`crate::egress`]'s.

use std::sync::{Arc, Weak};

use nova_actors::id::{RoomId, StreamId};
use nova_actors::live_stream::Refusal as Refused;
use nova_actors::room::ParticipantId;
use nova_actors::room::stage::Stage;
use serde::Deserialize;
use serde_json::{Value, json};

use super::signalling::{Answered, because, fields, of_media};
use super::{Calls, Inner, Rooms, event};
use crate::chat::seam::{DeviceHandle, Refusal};
use crate::chat::wire::RoomRequest;
use crate::egress::{self, Ended, Showing};
use crate::error::Code;

/// `room.stream {stream}`: one of the host's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    stream: StreamId,
}

/// `room.unstream {}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unstream {}

/// A room that is streamed.
pub(super) struct Show {
    /// Tells it from what the room was before.
    number: u64,
    stream: StreamId,
    by: ParticipantId,
    recorded: bool,
    stage: Stage,
    /// None while it is begun.
    showing: Option<Showing>,
}

impl Show {
    fn told(&self) -> Value {
        told(self.stream, self.by, self.recorded)
    }
}

/// As it is told.
pub(super) fn told(stream: StreamId, by: ParticipantId, recorded: bool) -> Value {
    json!({ "stream": stream, "by": by, "recorded": recorded })
}

/// Whether the fields of a request about streaming are as they must be.
#[cfg(test)]
pub(super) fn check(request: RoomRequest) -> Result<(), Refusal> {
    match request.kind.as_str() {
        "room.stream" => fields::<Stream>(request).map(drop),
        _ => fields::<Unstream>(request).map(drop),
    }
}

impl Rooms {
    /// What a room is streamed as; null when it is not.
    pub(super) fn streaming(&self, room: RoomId) -> Value {
        let show = self.shows.get(&room).filter(|show| show.showing.is_some());
        show.map_or(Value::Null, Show::told)
    }

    /// Who speaks in a room, for its stage.
    pub(super) fn hear_speakers(&mut self, room: RoomId, speakers: &[ParticipantId]) {
        if let Some(show) = self.shows.get_mut(&room) {
            show.stage.hear(speakers.to_vec());
        }
    }
}

impl Calls {
    pub(super) async fn stream(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        let Stream { stream } = fields(request)?;
        let ((id, by), _) = self.seat(device)?;
        self.with_room((id, by), |room| room.host(by))?;
        let egress = self.0.egress.get().ok_or(Code::Unavailable)?;
        let kept = self.0.store.stream(stream, self.0.clock.now()).await;
        let kept = kept.map_err(|error| crate::conversations::talk::refused(&error.into()))?;
        let kept = kept.filter(|kept| kept.owner == device.user());
        let recorded = kept.ok_or_else(|| because(Code::NotFound, "you have no such stream"))?.record;
        let number = self.0.next_track.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        {
            let mut rooms = self.0.lock();
            match rooms.shows.get(&id) {
                Some(show) if show.stream == stream => return Ok(None),
                Some(_) => {
                    return Err(because(
                        Code::Conflict,
                        "the room is another stream already; end that first",
                    ));
                }
                None => {}
            }
            let stage = Stage::default();
            rooms.shows.insert(id, Show { number, stream, by, recorded, stage, showing: None });
        }
        match egress.begin(id.as_uuid().as_u128(), stream).await {
            Ok((showing, ended)) => {
                let begun = {
                    let mut rooms = self.0.lock();
                    let show = rooms.shows.get_mut(&id).filter(|show| show.number == number);
                    // The room has ended meanwhile, or was left by all; then the stream ends with `showing`.
                    show.map(|show| show.showing = Some(showing)).is_some()
                };
                if !begun {
                    return Err(because(Code::Conflict, "the room has ended"));
                }
                self.0.direct(id);
                self.tell_room(id, "streaming", json!({ "streaming": told(stream, by, recorded) }));
                let inner = Arc::downgrade(&self.0);
                tokio::spawn(async move {
                    let ended = ended.await.unwrap_or(Ended::Restarted);
                    over(&inner, id, number, ended);
                });
                Ok(None)
            }
            Err(refusal) => {
                let mut rooms = self.0.lock();
                if rooms.shows.get(&id).is_some_and(|show| show.number == number) {
                    rooms.shows.remove(&id);
                }
                Err(refused(refusal))
            }
        }
    }

    pub(super) fn unstream(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        let Unstream {} = fields(request)?;
        let ((id, by), _) = self.seat(device)?;
        self.with_room((id, by), |room| room.host(by))?;
        let shown = self.0.lock().shows.remove(&id);
        if shown.ok_or_else(|| because(Code::Conflict, "the room is not streamed"))?.showing.is_some() {
            self.0.tell_ended(id, Ended::Stopped);
        }
        Ok(None)
    }
}

impl Inner {
    /// Brings the stage of a room up to date.
    pub(super) fn direct(&self, id: RoomId) {
        let mut rooms = self.lock();
        let Rooms { rooms, shows, .. } = &mut *rooms;
        if let (Some(room), Some(show)) = (rooms.get(&id), shows.get_mut(&id))
            && let Some(showing) = &show.showing
        {
            showing.show(show.stage.direct(room, self.clock.instant()));
        }
    }

    /// Brings the stages of all rooms up to date; rooms nobody is in are streamed no more.
    pub(super) fn look_at_shows(&self) {
        let ids: Vec<RoomId> = {
            let mut rooms = self.lock();
            let Rooms { rooms, shows, .. } = &mut *rooms;
            shows.retain(|id, _| rooms.get(id).is_some_and(|room| room.participants().next().is_some()));
            shows.keys().copied().collect()
        };
        for id in ids {
            self.direct(id);
        }
    }

    fn tell_ended(&self, id: RoomId, ended: Ended) {
        let rooms = self.lock();
        if let Some(room) = rooms.rooms.get(&id) {
            let words = json!({ "streaming": null, "reason": ended.as_str() });
            self.tell(room, None, &event(id, "streaming", words));
        }
    }
}

/// A stream has ended by itself.
fn over(inner: &Weak<Inner>, id: RoomId, number: u64, ended: Ended) {
    let Some(inner) = inner.upgrade() else { return };
    let was_this = {
        let mut rooms = inner.lock();
        let this = rooms.shows.get(&id).is_some_and(|show| show.number == number);
        this.then(|| rooms.shows.remove(&id)).is_some()
    };
    if was_this {
        inner.tell_ended(id, ended);
    }
}

fn refused(refusal: egress::Refusal) -> Refusal {
    let code = match &refusal {
        egress::Refusal::NotFound | egress::Refusal::Refused(Refused::UnknownKey) => Code::NotFound,
        egress::Refusal::Refused(Refused::Unavailable)
        | egress::Refusal::Store(_)
        | egress::Refusal::Program(_) => Code::Unavailable,
        egress::Refusal::NoCores(_) => Code::Overloaded,
        egress::Refusal::Sfu(error) => return of_media(*error),
    };
    because(code, refusal.to_string())
}
