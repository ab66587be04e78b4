//! One of everything: what devices may say, and what the engine says, encoded by the engine.

use std::str::FromStr;
use std::sync::Arc;

use nova_actors::id::{ConversationId, DeviceId, SessionId, StreamId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::macros::datetime;

use super::super::encoded::Encoded;
use super::super::frame::MESSAGE_BYTES_MAX;
use super::super::goodbye::Goodbye;
use super::super::wire::{self, Answer, Counted, Entry, Limits, PresenceOf, PresenceState, Push};
use crate::calls::examples;
use crate::error::Code;

const CONVERSATION: &str = "conv_01h455vb4pex5vsknk084sn02q";
const USER: &str = "user_01h455vb4pex5vsknk084sn02q";
const OTHER: &str = "user_01h455vb4pex5vsknk084sn02r";
const DEVICE: &str = "dev_01h455vb4pex5vsknk084sn02q";
const SESSION: &str = "sess_01h455vb4pex5vsknk084sn02q";
const POST: &str = "post_01h455vb4pex5vsknk084sn02q";
const STREAM: &str = "stream_01h455vb4pex5vsknk084sn02q";
const MEDIA: &str = "media_01h455vb4pex5vsknk084sn02q";
const ROOM: &str = "room_01h455vb4pex5vsknk084sn02q";
const CALL: &str = "call_01h455vb4pex5vsknk084sn02q";
const CLIENT_MSG_ID: &str = "0198f2f0-1c1e-7d55-a3c3-0a6d3f0e4d11";

/// What is said of calls, as the document calls it.
const SAID_OF_CALLS: &[&str] = &[
    "call.ringing",
    "call.accepted",
    "room.joined",
    "room.moved",
    "room.waiting",
    "room.answer",
    "room.published",
    "call",
    "room.event.joined",
    "room.event.left",
    "room.event.published",
    "room.event.unpublished",
    "room.event.muted",
    "room.event.slots",
    "room.event.speakers",
    "room.event.layers",
    "room.event.paused",
    "room.event.data",
    "room.event.hand",
    "room.event.role",
    "room.event.locked",
    "room.event.lobby",
    "room.event.waiting",
    "room.event.streaming",
    "room.event.admitted",
    "room.event.closed",
];

/// Examples of a request: with all it may carry, and with what it must.
pub(super) fn request(kind: &str) -> Vec<Value> {
    match kind {
        "connect" => vec![
            json!({ "ref": 1, "type": "connect", "token": "eyJ0eXAi", "client": "example/1.0", "focus": [CONVERSATION] }),
            json!({ "ref": 1, "type": "connect", "token": "eyJ0eXAi" }),
        ],
        "send" => vec![
            json!({ "ref": 2, "type": "send", "conversation": CONVERSATION, "client_msg_id": CLIENT_MSG_ID, "text": "hello" }),
            json!({ "ref": 2, "type": "send", "conversation": CONVERSATION, "client_msg_id": CLIENT_MSG_ID, "text": "hello Bo",
                "kind": "text", "reply_to": 3, "mentions": [OTHER], "attachments": [MEDIA] }),
            json!({ "ref": 3, "type": "send", "conversation": CONVERSATION, "client_msg_id": CLIENT_MSG_ID,
                "attachments": [{ "media": MEDIA, "duration_ms": 1200, "waveform": "AAEC" }] }),
            json!({ "ref": 4, "type": "send", "conversation": CONVERSATION, "client_msg_id": CLIENT_MSG_ID,
                "location": { "latitude": 48.1, "longitude": 11.5, "accuracy_m": 12.0, "scope": "members", "members": [OTHER],
                    "until": "2026-01-02T12:00:00.000Z" } }),
        ],
        "edit" => vec![
            json!({ "ref": 5, "type": "edit", "conversation": CONVERSATION, "target": 4, "text": "hello Bo!",
                "client_msg_id": CLIENT_MSG_ID }),
            json!({ "ref": 5, "type": "edit", "conversation": CONVERSATION, "target": 5,
                "location": { "latitude": 48.2, "longitude": 11.6, "accuracy_m": 8.0 } }),
            json!({ "ref": 5, "type": "edit", "conversation": CONVERSATION, "target": 5, "location": { "ended": true } }),
        ],
        "delete" => {
            vec![
                json!({ "ref": 6, "type": "delete", "conversation": CONVERSATION, "target": 4, "client_msg_id": CLIENT_MSG_ID }),
            ]
        }
        "react" => {
            vec![
                json!({ "ref": 7, "type": "react", "conversation": CONVERSATION, "target": 4, "emoji": "👍", "on": true, "client_msg_id": CLIENT_MSG_ID }),
            ]
        }
        "ack" => vec![
            json!({ "type": "ack", "conversation": CONVERSATION, "seq": 9 }),
            json!({ "ref": 8, "type": "ack", "conversation": CONVERSATION, "seq": 9 }),
        ],
        "read" => vec![json!({ "ref": 8, "type": "read", "conversation": CONVERSATION, "seq": 9 })],
        "typing" => vec![json!({ "type": "typing", "conversation": CONVERSATION, "on": true })],
        "pull" => {
            vec![
                json!({ "ref": 9, "type": "pull", "conversation": CONVERSATION, "epoch": 1, "after": 0, "limit": 100 }),
            ]
        }
        "presence" => {
            vec![json!({ "ref": 10, "type": "presence", "watch": [OTHER], "conversations": [CONVERSATION] })]
        }
        "watch" | "unwatch" => vec![json!({ "ref": 11, "type": kind, "stream": STREAM })],
        "refresh" => vec![json!({ "ref": 12, "type": "refresh", "token": "eyJ0eXAi" })],
        "ping" => vec![json!({ "ref": 13, "type": "ping" })],
        _ => call_request(kind),
    }
}

/// Examples of a request about calls.
fn call_request(kind: &str) -> Vec<Value> {
    let with = |fields: Value| {
        let mut request = fields;
        if let Some(request) = request.as_object_mut() {
            request.insert("ref".to_owned(), 14.into());
            request.insert("type".to_owned(), kind.into());
        }
        request
    };
    let several = match kind {
        "call.start" => vec![json!({ "conversation": CONVERSATION, "media": "video" })],
        "call.accept" | "call.decline" | "call.cancel" => vec![json!({ "call": CALL })],
        "room.join" => vec![
            json!({ "room": ROOM, "offer": "v=0", "name": "Ann" }),
            json!({ "room": ROOM, "resume": 3, "offer": "v=0" }),
            json!({ "room": ROOM, "resume": 3 }),
        ],
        "room.offer" => vec![json!({ "offer": "v=0" })],
        "room.candidate" => vec![json!({ "candidate": { "candidate": "candidate:1", "sdpMid": "0" } })],
        "room.publish" => {
            vec![json!({ "tracks": [{ "mid": "0", "source": "microphone", "muted": false }] })]
        }
        "room.unpublish" => vec![json!({ "track": 7 })],
        "room.mute" => vec![json!({ "track": 7, "muted": true })],
        "room.view" => vec![
            json!({ "want": [{ "track": 7, "height": 360 }, { "track": 8, "height": 90, "fps": 15, "priority": 1 }] }),
        ],
        "room.hand" => vec![json!({ "up": true })],
        "room.kick" => vec![json!({ "participant": 3 })],
        "room.role" => vec![json!({ "participant": 3, "role": "listener" })],
        "room.lock" => vec![json!({ "locked": true })],
        "room.lobby" => vec![json!({ "on": true })],
        "room.admit" => vec![json!({ "user": OTHER, "admit": true })],
        "room.stream" => vec![json!({ "stream": STREAM })],
        "room.unstream" => vec![json!({})],
        "room.leave" => vec![json!({}), json!({ "room": ROOM })],
        _ => Vec::new(),
    };
    several.into_iter().map(with).collect()
}

fn id<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| unreachable!("the ids above are ids of these nouns"))
}

fn raw(value: &Value) -> Arc<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value printed is JSON").into()
}

/// What the document calls a message about calls: its type, and of an event in a room which.
fn of_call(fields: &serde_json::Map<String, Value>) -> &'static str {
    let text = |field: &str| fields.get(field).and_then(Value::as_str).unwrap_or_default();
    let name = match text("type") {
        "room.event" => format!("room.event.{}", text("event")),
        kind => kind.to_owned(),
    };
    let known = SAID_OF_CALLS.iter().find(|known| **known == name);
    known.unwrap_or_else(|| unreachable!("{name} has a name in the document"))
}

fn entry(sender: Option<UserId>) -> Entry {
    Entry {
        conversation: id(CONVERSATION),
        epoch: 1,
        seq: 4,
        kind: "message".to_owned(),
        sender,
        at: datetime!(2026-01-02 12:00:00.5 UTC),
        client_msg_id: sender.map(|_| CLIENT_MSG_ID.to_owned()),
        body: raw(&json!({ "text": "hello" })),
    }
}

/// Every answer there is.
pub(super) fn answers() -> Vec<Answer> {
    let (conversation, at) = (id::<ConversationId>(CONVERSATION), datetime!(2026-01-02 12:00:00.5 UTC));
    vec![
        Answer::Connected {
            session: id::<SessionId>(SESSION),
            user: id(USER),
            device: id::<DeviceId>(DEVICE),
            ping_interval_ms: 25_000,
            limits: Limits { message_bytes: MESSAGE_BYTES_MAX as u32, requests_per_s: 50 },
            queue: 3,
        },
        Answer::Sent {
            conversation,
            client_msg_id: CLIENT_MSG_ID.to_owned(),
            epoch: 1,
            seq: 4,
            at,
            duplicate: false,
        },
        Answer::Entries {
            conversation,
            epoch: 1,
            entries: vec![entry(Some(id(USER))), entry(None)],
            top: 4,
            recovered: true,
        },
        Answer::Presence {
            users: vec![
                PresenceOf { user: id(USER), state: PresenceState::Online, last_seen: None },
                PresenceOf { user: id(OTHER), state: PresenceState::Offline, last_seen: Some(at) },
            ],
            conversations: vec![Counted { conversation, online: 3 }],
        },
        Answer::Watching { stream: id::<StreamId>(STREAM), chat: conversation, viewers: 12 },
        Answer::Pong { at },
        Answer::Ok,
    ]
    .into_iter()
    .chain(examples::answers().into_iter().map(Answer::Other))
    .collect()
}

/// What the document calls an answer. A new one has no name until it is given one here, and described.
pub(super) fn answer_key(answer: &Answer) -> &'static str {
    match answer {
        Answer::Connected { .. } => "connected",
        Answer::Sent { .. } => "sent",
        Answer::Entries { .. } => "entries",
        Answer::Presence { .. } => "presence_answer",
        Answer::Watching { .. } => "watching",
        Answer::Pong { .. } => "pong",
        Answer::Ok => "ok",
        Answer::Other(fields) => of_call(fields),
    }
}

/// Every push there is.
pub(super) fn pushes() -> Vec<Push> {
    let (conversation, user) = (id::<ConversationId>(CONVERSATION), id::<UserId>(USER));
    vec![
        Push::Entry(entry(Some(user))),
        Push::Entry(entry(None)),
        Push::Drained { count: 3 },
        Push::Gap { conversation, epoch: 1, from: 5, to: 2_004 },
        Push::Receipt { conversation, user, delivered: Some(4), read: None },
        Push::Receipt { conversation, user, delivered: None, read: Some(4) },
        Push::Typing { conversation, user, on: true },
        Push::Presence(PresenceOf {
            user,
            state: PresenceState::Offline,
            last_seen: Some(datetime!(2026-01-02 12:00:00.5 UTC)),
        }),
        Push::Presence(PresenceOf { user, state: PresenceState::Online, last_seen: None }),
        Push::Notification { notification: raw(&json!({ "kind": "followed" })) },
        Push::Feed { newest: id(POST) },
        Push::Viewers { stream: id(STREAM), count: 12 },
        Push::StreamStats { stream: id(STREAM), stats: raw(&json!({ "state": "live", "viewers": 12 })) },
        Push::Online(Counted { conversation, online: 3 }),
        Push::Unwatched { stream: id(STREAM) },
    ]
    .into_iter()
    .chain(examples::pushes().into_iter().map(Push::Other))
    .collect()
}

/// As [`answer_key`], of a push.
pub(super) fn push_key(push: &Push) -> &'static str {
    match push {
        Push::Entry(_) => "entry",
        Push::Drained { .. } => "drained",
        Push::Gap { .. } => "gap",
        Push::Receipt { .. } => "receipt",
        Push::Typing { .. } => "typing_push",
        Push::Presence(_) => "presence_push",
        Push::Notification { .. } => "notification",
        Push::Feed { .. } => "feed",
        Push::Viewers { .. } => "viewers",
        Push::StreamStats { .. } => "stream_stats",
        Push::Online(_) => "online",
        Push::Unwatched { .. } => "unwatched",
        Push::Other(fields) => of_call(fields),
    }
}

/// Everything the engine says, by what the document calls it.
pub(super) fn all_said() -> Vec<(&'static str, Value)> {
    let plain = |message: Encoded| serde_json::from_slice(message.payload()).expect("the engine says JSON");
    let mut all = Vec::new();
    for answer in answers() {
        all.push((answer_key(&answer), plain(wire::answer(2, &answer))));
    }
    for push in pushes() {
        all.push((push_key(&push), plain(wire::push(&push))));
    }
    all.push((
        "error",
        plain(wire::refuse(Some(2), Code::RateLimited, Code::RateLimited.title(), Some(120))),
    ));
    all.push(("error", plain(wire::refuse(None, Code::MalformedJson, Code::MalformedJson.title(), None))));
    for goodbye in [Goodbye::Drain, Goodbye::TokenExpired] {
        all.push(("goodbye", plain(wire::goodbye(goodbye, goodbye.after_ms(u32::MAX / 2)))));
    }
    all
}

/// Examples of what the engine says.
pub(super) fn said(key: &str) -> Vec<Value> {
    all_said().into_iter().filter(|(of, _)| *of == key).map(|(_, message)| message).collect()
}
