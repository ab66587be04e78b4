//! One of everything that is said of calls, for the document of the protocol: made by what says it.

use nova_actors::call::{Call, Emptied, Media};
use nova_actors::id::{ConversationId, DeviceId, RoomId, SessionId, UserId};
use nova_actors::room::{Bound, Guest, Role, Room, Source};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;
use uuid::Uuid;

use super::signalling::{show_participant, show_track};
use super::{entrance, event, life, streaming};

const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);
const A: Uuid = Uuid::from_u128(0x0191_8600_0000_7000_8000_0000_0000_0001);
const B: Uuid = Uuid::from_u128(0x0191_8600_0000_7000_8000_0000_0000_0002);

fn call() -> Call {
    let (ann, bo) = (UserId::from_uuid(A), UserId::from_uuid(B));
    let mut call = Call::new(ConversationId::from_uuid(A), ann, vec![bo], true, Media::Video, NOON);
    call.id = A.into();
    call.room = A.into();
    call
}

fn answered() -> Call {
    let mut call = call();
    let answered = call.accept(UserId::from_uuid(B), DeviceId::from_uuid(B), NOON);
    assert!(answered.is_ok(), "it rang for them");
    call
}

fn guest(id: Uuid, name: &str) -> Guest {
    Guest {
        user: id.into(),
        device: id.into(),
        session: SessionId::from_uuid(id),
        name: Some(name.to_owned()),
    }
}

/// A room with somebody in it who publishes, and somebody before its door.
fn room() -> Room {
    let now = Instant::now();
    let mut room = Room::new(RoomId::from_uuid(A), A.into(), Some("Monday's round".to_owned()), 100, now);
    room.bound = Some(Bound { conversation: A.into(), call: Some(A.into()), is_direct: false });
    room.has_lobby = true;
    let joined = room.join(guest(A, "Ann"), now).map(|(id, _)| room.publish(id, 7, Source::Camera, false));
    assert!(matches!(joined, Ok(Ok(()))), "it is empty");
    let _waits = room.join(guest(B, "Bo"), now).is_err();
    room
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Every answer to a request about calls.
pub(crate) fn answers() -> Vec<Map<String, Value>> {
    let room = room();
    let mut joined = entrance::state(&room, 1);
    joined.insert("answer".to_owned(), "v=0\r\n…".into());
    joined.insert("slots".to_owned(), json!([{ "mid": "3", "track": 7 }, { "mid": "4", "track": null }]));
    let turn =
        json!({ "urls": ["turn:turn.example:3478"], "username": "1767398400:user_…", "credential": "…" });
    joined.insert("ice_servers".to_owned(), json!([turn]));
    joined.insert("streaming".to_owned(), streaming::told(A.into(), 1, true));
    let mut published: Vec<Value> = room.tracks().map(show_track).collect();
    if let Some(Value::Object(track)) = published.first_mut() {
        track.insert("mid".to_owned(), "1".into());
    }
    vec![
        life::show("call.ringing", &call()),
        life::show("call.ringing", &answered()),
        life::show("call.accepted", &answered()),
        joined,
        fields(json!({ "type": "room.moved", "room": room.id, "url": "https://node7.nova.example" })),
        fields(json!({ "type": "room.waiting", "room": room.id })),
        fields(json!({ "type": "room.answer", "answer": "v=0\r\n…" })),
        fields(json!({ "type": "room.published", "tracks": published })),
    ]
}

/// Everything that is said of calls unasked.
pub(crate) fn pushes() -> Vec<Map<String, Value>> {
    let room = room();
    let people: Vec<Value> = room.participants().map(show_participant).collect();
    let tracks: Vec<Value> = room.tracks().map(show_track).collect();
    let waiting: Vec<Value> = room.waiting().iter().map(entrance::show_guest).collect();
    let mut over = answered();
    over.emptied(Emptied::Left, NOON + time::Duration::minutes(1));
    let mut all =
        vec![life::show("call", &call()), life::show("call", &answered()), life::show("call", &over)];
    let events = [
        ("joined", json!({ "participant": people.first() })),
        ("left", json!({ "participant": 2, "reason": "left" })),
        ("published", json!({ "track": tracks.first() })),
        ("unpublished", json!({ "track": 7, "participant": 1 })),
        ("muted", json!({ "track": 7, "muted": true, "by": 1 })),
        ("slots", json!({ "slots": [{ "mid": "3", "track": 7 }, { "mid": "4", "track": null }] })),
        ("speakers", json!({ "participants": [2, 1] })),
        ("layers", json!({ "track": 7, "highest": 1 })),
        ("layers", json!({ "track": 7, "highest": null })),
        ("paused", json!({ "track": 7, "paused": true })),
        ("data", json!({ "reason": "slow", "ended": true })),
        ("data", json!({ "reason": "role_too_low", "ended": false })),
        ("hand", json!({ "participant": 1, "up": true })),
        ("role", json!({ "participant": 1, "role": super::signalling::role_name(Role::Host) })),
        ("locked", json!({ "locked": true })),
        ("lobby", json!({ "on": true })),
        ("waiting", json!({ "waiting": waiting })),
        ("streaming", json!({ "streaming": streaming::told(A.into(), 1, false) })),
        ("streaming", json!({ "streaming": null, "reason": "stopped" })),
        ("admitted", json!({})),
        ("closed", json!({ "reason": "ended" })),
    ];
    all.extend(events.into_iter().map(|(what, words)| event(room.id, what, words)));
    all
}
