//! What each message consists of, as JSON Schema (2020-12).

mod calls;

use nova_actors::id::{
    CallId, ConversationId, DeviceId, MediaId, PostId, RoomId, SessionId, StreamId, UserId,
};
use serde_json::{Map, Value, json};

use super::super::goodbye::Goodbye;
use super::super::wire::{
    ATTACHMENTS_MAX, CLIENT_BYTES_MAX, CLIENT_MSG_ID_LEN_MAX, COUNTED_MAX, EMOJI_BYTES_MAX, FOCUS_MAX,
    KIND_BYTES_MAX, MENTIONS_MAX, PULL_LIMIT_MAX, SEQUENCE_MAX, TOKEN_BYTES_MAX, WATCHED_MAX,
    WAVEFORM_BYTES_MAX,
};
use super::{Message, Request, samples};
use crate::error::Code;

/// How a `ref` stands in a message.
#[derive(Clone, Copy)]
enum Ref {
    Needed,
    Possible,
    None,
}

/// An object with these fields and no others; a name that ends in `?` may be left out.
fn object(fields: &[(&str, Value)]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema) in fields {
        let plain = name.trim_end_matches('?');
        if plain == *name {
            required.push(plain);
        }
        properties.insert(plain.to_owned(), schema.clone());
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn message(name: &str, reference: Ref, fields: &[(&str, Value)]) -> Value {
    let mut all = vec![("type", json!({ "const": name }))];
    match reference {
        Ref::Needed => all.push(("ref", named("Ref"))),
        Ref::Possible => all.push(("ref?", named("Ref"))),
        Ref::None => {}
    }
    all.extend_from_slice(fields);
    object(&all)
}

fn named(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The same, or `null`.
fn or_null(mut schema: Value) -> Value {
    match schema.get("type").and_then(Value::as_str).map(str::to_owned) {
        Some(kind) => {
            schema = with(schema, "type", json!([kind, "null"]));
            if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
                values.push(Value::Null);
            }
            schema
        }
        None => json!({ "anyOf": [schema, { "type": "null" }] }),
    }
}

/// The same with one keyword more.
fn with(mut schema: Value, keyword: &str, value: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert(keyword.to_owned(), value);
    }
    schema
}

fn about(schema: Value, words: &str) -> Value {
    with(schema, "description", json!(words))
}

fn text(len_max: usize) -> Value {
    json!({ "type": "string", "maxLength": len_max })
}

fn boolean() -> Value {
    json!({ "type": "boolean" })
}

fn number(max: u64) -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": max })
}

fn list(of: Value, len_max: usize) -> Value {
    json!({ "type": "array", "items": of, "maxItems": len_max })
}

fn id(prefix: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$") })
}

/// What several messages have in common.
pub(super) fn shared() -> Value {
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let goodbyes: Vec<_> = Goodbye::ALL.iter().map(|goodbye| goodbye.code()).collect();
    let mut all = json!({
        "Ref": about(number(u64::MAX), "A number the client chooses; the answer carries the same."),
        "Sequence": about(number(SEQUENCE_MAX), "A place in a conversation's log; the first is 1."),
        "Time": { "type": "string", "format": "date-time", "description": "RFC 3339; the engine says UTC with milliseconds." },
        "ConversationId": id(ConversationId::PREFIX),
        "UserId": id(UserId::PREFIX),
        "DeviceId": id(DeviceId::PREFIX),
        "SessionId": id(SessionId::PREFIX),
        "PostId": id(PostId::PREFIX),
        "StreamId": id(StreamId::PREFIX),
        "RoomId": id(RoomId::PREFIX),
        "CallId": id(CallId::PREFIX),
        "MediaId": id(MediaId::PREFIX),
        "ClientMsgId": {
            "type": "string",
            "pattern": format!("^[!-~]{{1,{CLIENT_MSG_ID_LEN_MAX}}}$"),
            "description": "The client's own name of what it says: the same for every attempt, best a UUID. The same name with the same content gives the same entry; with other content it is refused with `idempotency_mismatch`.",
        },
        "Token": about(text(TOKEN_BYTES_MAX), "An access token: `access_token` of `POST /v1/sessions`."),
        "Voice": object(&[
            ("media", about(named("MediaId"), "The recording.")),
            ("duration_ms", about(number(u32::MAX.into()), "How long it is, in milliseconds.")),
            ("waveform", about(text(WAVEFORM_BYTES_MAX), "Its loudness, base64 of one byte per bar.")),
        ]),
        "Location": location(),
        "Entry": entry(&[]),
        "Presence": presence(&[]),
        "Counted": object(&[
            ("conversation", named("ConversationId")),
            ("online", about(number(u64::MAX), "Members who are here.")),
        ]),
        "Movement": {
            "description": "Where a live position has moved to, or that it is shown no longer.",
            "anyOf": [
                object(&[
                    ("latitude", json!({ "type": "number", "minimum": -90, "maximum": 90 })),
                    ("longitude", json!({ "type": "number", "minimum": -180, "maximum": 180 })),
                    ("accuracy_m?", json!({ "type": ["number", "null"], "minimum": 0, "maximum": 1e8 })),
                ]),
                object(&[("ended", json!({ "const": true }))]),
            ],
        },
        "ErrorCode": { "type": "string", "enum": codes, "description": "Stable names to branch on; `/docs#errors` lists them." },
        "GoodbyeCode": { "type": "integer", "enum": goodbyes },
    });
    for (name, schema) in calls::shared() {
        all = with(all, name, schema);
    }
    all
}

fn location() -> Value {
    let mut location = object(&[
        (
            "latitude",
            json!({ "type": "number", "minimum": -90, "maximum": 90, "description": "Degrees north." }),
        ),
        (
            "longitude",
            json!({ "type": "number", "minimum": -180, "maximum": 180, "description": "Degrees east." }),
        ),
        (
            "accuracy_m?",
            json!({ "type": ["number", "null"], "minimum": 0, "maximum": 1e8, "description": "Radius of the circle it lies in, metres." }),
        ),
        (
            "scope?",
            json!({ "type": ["string", "null"], "enum": ["conversation", "members", null], "description": "Who sees it; `conversation` when left out." }),
        ),
        (
            "members?",
            about(
                or_null(list(named("UserId"), MENTIONS_MAX)),
                "Who sees it, named exactly when the scope is `members`.",
            ),
        ),
        (
            "until?",
            about(
                or_null(named("Time")),
                "Until when it is shared live; without it, it is one place at one time.",
            ),
        ),
    ]);
    // Members are named exactly when they are whom it is for.
    location = with(
        location,
        "if",
        json!({ "properties": { "scope": { "const": "members" } }, "required": ["scope"] }),
    );
    location = with(
        location,
        "then",
        json!({ "properties": { "members": { "type": "array", "minItems": 1 } }, "required": ["members"] }),
    );
    location = with(
        location,
        "else",
        json!({ "properties": { "members": { "type": ["array", "null"], "maxItems": 0 } } }),
    );
    location
}

fn entry(before: &[(&str, Value)]) -> Value {
    let kinds = ["message", "edit", "delete", "reaction", "member", "call", "live", "title"];
    let mut fields = before.to_vec();
    fields.extend([
        ("conversation", named("ConversationId")),
        ("epoch", about(named("Sequence"), "Which history `seq` belongs to; changes only when history was lost.")),
        ("seq", about(named("Sequence"), "Its place: one more than the entry before.")),
        ("kind", json!({ "type": "string", "enum": kinds })),
        ("sender?", about(named("UserId"), "Who; absent for what the engine itself says.")),
        ("at", named("Time")),
        ("client_msg_id?", named("ClientMsgId")),
        ("body", json!({ "type": "object", "description": "By kind. `message`: what was sent (`text`, `reply_to`, `mentions`, `attachments`, `location`). `edit`: `target`, `text`. `delete`: `target`. `reaction`: `target`, `emoji`, `on`. `member`: `action`, whom it is about, and `owner` where an owner left it to somebody. `title`: what changed of `title` and `retention_s`. `call`: `call`, `room`, `media`, `state`, and where there are any `outcome`, `answered_by`, `duration_s`. `{hidden: true}` stands for what others were shown." })),
    ]);
    object(&fields)
}

fn presence(before: &[(&str, Value)]) -> Value {
    let mut fields = before.to_vec();
    fields.extend([
        ("user", named("UserId")),
        ("state", json!({ "type": "string", "enum": ["online", "offline"] })),
        ("last_seen?", about(named("Time"), "When they were last here.")),
    ]);
    object(&fields)
}

fn request(
    name: &'static str,
    answer: Option<&'static str>,
    summary: &'static str,
    fields: &[(&str, Value)],
) -> Request {
    let reference = if answer.is_some() { Ref::Needed } else { Ref::Possible };
    let payload = message(name, reference, fields);
    Request {
        message: Message { key: name, name, summary, payload, examples: samples::request(name) },
        answer,
    }
}

/// Everything a device may say.
pub(super) fn requests() -> Vec<Request> {
    let conversation = || ("conversation", named("ConversationId"));
    let target = || ("target", about(named("Sequence"), "Which message, by `seq`."));
    let own_name = || ("client_msg_id?", or_null(named("ClientMsgId")));
    let mut edit = request(
        "edit",
        Some("sent"),
        "Another text for a message, or where a live position has moved to.",
        &[
            conversation(),
            target(),
            ("text?", json!({ "type": ["string", "null"], "minLength": 1 })),
            ("location?", about(or_null(named("Movement")), "In place of a text.")),
            own_name(),
        ],
    );
    // One of the two.
    edit.message.payload = with(
        edit.message.payload,
        "if",
        json!({ "properties": { "text": { "type": "string" } }, "required": ["text"] }),
    );
    edit.message.payload =
        with(edit.message.payload, "then", json!({ "properties": { "location": { "type": "null" } } }));
    edit.message.payload = with(
        edit.message.payload,
        "else",
        json!({ "properties": { "location": { "type": "object" } }, "required": ["location"] }),
    );
    let mut send = request(
        "send",
        Some("sent"),
        "A message to a conversation. The answer leaves after the commit.",
        &[
            conversation(),
            ("client_msg_id", named("ClientMsgId")),
            ("text?", about(json!({ "type": ["string", "null"] }), "What was written.")),
            (
                "kind?",
                about(or_null(text(KIND_BYTES_MAX)), "What kind of message, where its parts do not say."),
            ),
            ("reply_to?", about(or_null(named("Sequence")), "The message this answers, by `seq`.")),
            ("mentions?", or_null(list(named("UserId"), MENTIONS_MAX))),
            (
                "attachments?",
                about(
                    or_null(list(json!({ "anyOf": [named("MediaId"), named("Voice")] }), ATTACHMENTS_MAX)),
                    "Uploaded media by id; a voice message with what its display needs.",
                ),
            ),
            ("location?", or_null(named("Location"))),
        ],
    );
    let something = json!([
        { "properties": { "text": { "type": "string", "minLength": 1 } }, "required": ["text"] },
        { "properties": { "attachments": { "type": "array", "minItems": 1 } }, "required": ["attachments"] },
        { "properties": { "location": { "type": "object" } }, "required": ["location"] },
    ]);
    send.message.payload = with(send.message.payload, "anyOf", something);
    let mut all = vec![
        request(
            "connect",
            Some("connected"),
            "The first message, within ten seconds.",
            &[
                ("token", named("Token")),
                (
                    "client?",
                    about(
                        or_null(text(CLIENT_BYTES_MAX)),
                        "What the client calls itself, for people who look into logs.",
                    ),
                ),
                (
                    "focus?",
                    about(
                        or_null(list(named("ConversationId"), FOCUS_MAX)),
                        "Conversations on screen: replayed first.",
                    ),
                ),
            ],
        ),
        send,
        edit,
        request("delete", Some("sent"), "Takes a message back.", &[conversation(), target(), own_name()]),
        request(
            "react",
            Some("sent"),
            "Puts an emoji to a message, or takes it away.",
            &[
                conversation(),
                target(),
                ("emoji", json!({ "type": "string", "minLength": 1, "maxLength": EMOJI_BYTES_MAX })),
                ("on", about(boolean(), "Put or taken away.")),
                own_name(),
            ],
        ),
        request(
            "ack",
            None,
            "This device has everything up to `seq`: it is not sent again.",
            &[conversation(), ("seq", named("Sequence"))],
        ),
        request(
            "read",
            Some("ok"),
            "This user has read up to `seq`. It never goes back.",
            &[conversation(), ("seq", named("Sequence"))],
        ),
        request(
            "typing",
            None,
            "Somebody is writing, or stopped. Never stored.",
            &[conversation(), ("on", boolean())],
        ),
        request(
            "pull",
            Some("entries"),
            "Entries of a conversation after `after`: all that were asked for, or none.",
            &[
                conversation(),
                ("epoch", about(named("Sequence"), "The history the client knows.")),
                ("after", about(named("Sequence"), "The last entry the client has; 0 for none.")),
                ("limit", json!({ "type": "integer", "minimum": 1, "maximum": PULL_LIMIT_MAX })),
            ],
        ),
        request(
            "presence",
            Some("presence_answer"),
            "Whose presence is wanted from now on; replaces whoever was watched before.",
            &[
                ("watch", list(named("UserId"), WATCHED_MAX)),
                (
                    "conversations?",
                    about(
                        or_null(list(named("ConversationId"), COUNTED_MAX)),
                        "Of which only the number of members who are here is wanted.",
                    ),
                ),
            ],
        ),
        request(
            "watch",
            Some("watching"),
            "The chat beside a live stream.",
            &[("stream", named("StreamId"))],
        ),
        request("unwatch", Some("ok"), "No longer.", &[("stream", named("StreamId"))]),
        request(
            "refresh",
            Some("ok"),
            "A new access token of the same device, before the old one expires.",
            &[("token", named("Token"))],
        ),
        request("ping", Some("pong"), "Is anybody there?", &[]),
    ];
    all.extend(calls::requests());
    all
}

fn said(key: &'static str, name: &'static str, summary: &'static str, payload: Value) -> Message {
    Message { key, name, summary, payload, examples: samples::said(key) }
}

/// Everything that answers a request.
pub(super) fn answers() -> Vec<Message> {
    let answer = |key, name, summary, fields: &[(&str, Value)]| {
        said(key, name, summary, message(name, Ref::Needed, fields))
    };
    let count = || number(u64::MAX);
    let mut all = vec![
        answer(
            "connected",
            "connected",
            "The device is connected.",
            &[
                ("session", about(named("SessionId"), "This connection.")),
                ("user", named("UserId")),
                ("device", named("DeviceId")),
                (
                    "ping_interval_ms",
                    about(
                        number(u32::MAX.into()),
                        "How often the engine pings; a connection that says nothing for as long after a ping is closed with 4003.",
                    ),
                ),
                (
                    "limits",
                    object(&[
                        ("message_bytes", about(number(u32::MAX.into()), "The largest message, in bytes.")),
                        (
                            "requests_per_s",
                            about(
                                number(u32::MAX.into()),
                                "Requests per second, sustained; two seconds' worth at once.",
                            ),
                        ),
                    ]),
                ),
                ("queue", about(count(), "Entries that wait for this device.")),
            ],
        ),
        answer(
            "sent",
            "sent",
            "It is in the log.",
            &[
                ("conversation", named("ConversationId")),
                ("client_msg_id", named("ClientMsgId")),
                ("epoch", named("Sequence")),
                ("seq", named("Sequence")),
                ("at", named("Time")),
                ("duplicate", about(boolean(), "Whether it had arrived before.")),
            ],
        ),
        answer(
            "entries",
            "entries",
            "What was pulled.",
            &[
                ("conversation", named("ConversationId")),
                ("epoch", named("Sequence")),
                ("entries", json!({ "type": "array", "items": named("Entry") })),
                ("top", about(named("Sequence"), "The last entry there is.")),
                (
                    "recovered",
                    about(boolean(), "Whether they follow on what the client has; otherwise it reloads."),
                ),
            ],
        ),
        answer(
            "presence_answer",
            "presence",
            "How each of those who are watched is.",
            &[
                ("users", json!({ "type": "array", "items": named("Presence") })),
                ("conversations?", json!({ "type": "array", "items": named("Counted") })),
            ],
        ),
        answer(
            "watching",
            "watching",
            "The stream is watched.",
            &[
                ("stream", named("StreamId")),
                ("chat", about(named("ConversationId"), "Its chat.")),
                ("viewers", count()),
            ],
        ),
        answer("pong", "pong", "Somebody is.", &[("at", about(named("Time"), "The engine's time."))]),
        answer("ok", "ok", "It is done.", &[]),
        said(
            "error",
            "error",
            "The request is refused. Without `ref` where none could be read.",
            message(
                "error",
                Ref::Possible,
                &[
                    ("code", named("ErrorCode")),
                    ("detail", about(json!({ "type": "string" }), "Why, in words.")),
                    ("retry_after_ms?", about(count(), "When to try again, in milliseconds.")),
                ],
            ),
        ),
    ];
    all.extend(calls::answers());
    all
}

/// Everything the engine says by itself.
pub(super) fn pushes() -> Vec<Message> {
    let push = |key, name, summary, fields: &[(&str, Value)]| {
        said(key, name, summary, message(name, Ref::None, fields))
    };
    let conversation = || ("conversation", named("ConversationId"));
    let kind = |name: &str| ("type", json!({ "const": name }));
    let mut all = vec![
        said(
            "entry",
            "entry",
            "An entry of a conversation, live or from the queue of what was missed.",
            entry(&[kind("entry")]),
        ),
        push(
            "drained",
            "drained",
            "The queue of what was missed is empty.",
            &[("count", about(number(u64::MAX), "Entries that were in it."))],
        ),
        push(
            "gap",
            "gap",
            "Too much to push: pull it.",
            &[
                conversation(),
                ("epoch", named("Sequence")),
                ("from", about(named("Sequence"), "The first that is not pushed.")),
                ("to", about(named("Sequence"), "The last.")),
            ],
        ),
        push(
            "receipt",
            "receipt",
            "How far somebody has come.",
            &[
                conversation(),
                ("user", named("UserId")),
                ("delivered?", named("Sequence")),
                ("read?", named("Sequence")),
            ],
        ),
        push(
            "typing_push",
            "typing",
            "Somebody is writing, or stopped.",
            &[conversation(), ("user", named("UserId")), ("on", boolean())],
        ),
        said(
            "presence_push",
            "presence",
            "Somebody who is watched came or went.",
            presence(&[kind("presence")]),
        ),
        push(
            "notification",
            "notification",
            "Something happened elsewhere.",
            &[("notification", about(json!({ "type": "object" }), "As the list of notifications has it."))],
        ),
        push(
            "feed",
            "feed",
            "There is a newer post in the user's home feed. It is a hint, sent to devices on the node that serves the feed; reading the feed says what is there.",
            &[("newest", named("PostId"))],
        ),
        push(
            "viewers",
            "viewers",
            "How many watch a stream.",
            &[("stream", named("StreamId")), ("count", number(u64::MAX))],
        ),
        push(
            "stream_stats",
            "stream_stats",
            "How the broadcast of one's own stream goes; to devices of its owner that watch it, every two seconds while somebody publishes, and \
             once when it is over.",
            &[
                ("stream", named("StreamId")),
                (
                    "stats",
                    about(json!({ "type": "object" }), "As `GET /v1/streams/{stream_id}/stats` says it."),
                ),
            ],
        ),
        push(
            "online",
            "online",
            "How many members of a conversation are here now.",
            &[conversation(), ("online", number(u64::MAX))],
        ),
        push(
            "unwatched",
            "unwatched",
            "A stream is not watched any more: a block came between its owner and this user.",
            &[("stream", named("StreamId"))],
        ),
        push(
            "goodbye",
            "goodbye",
            "The last message; a close frame with the same code follows.",
            &[
                ("code", named("GoodbyeCode")),
                ("reason", json!({ "type": "string" })),
                ("reconnect", about(boolean(), "Whether to come back.")),
                (
                    "after_ms",
                    about(
                        number(u32::MAX.into()),
                        "When to come back, in milliseconds; 0 where nobody is wanted back.",
                    ),
                ),
            ],
        ),
    ];
    all.extend(calls::pushes());
    all
}
