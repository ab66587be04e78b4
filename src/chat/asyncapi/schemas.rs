//! What each message consists of, as JSON Schema (2020-12).

mod answers;
mod calls;
mod pushes;
mod requests;

use nova_actors::id::{
    CallId, ConversationId, DeviceId, MediaId, PostId, RoomId, SessionId, StreamId, UserId,
};
use serde_json::{Map, Value, json};

use super::super::goodbye::Goodbye;
use super::super::wire::{
    CLIENT_MSG_ID_LEN_MAX, MENTIONS_MAX, SEQUENCE_MAX, TOKEN_BYTES_MAX, WAVEFORM_BYTES_MAX,
};
use super::{Message, Request, samples};
use crate::error::Code;

pub(super) use answers::answers;
pub(super) use pushes::pushes;
pub(super) use requests::requests;

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

fn said(key: &'static str, name: &'static str, summary: &'static str, payload: Value) -> Message {
    Message { key, name, summary, payload, examples: samples::said(key) }
}
