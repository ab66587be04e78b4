//! What answers a request.

use serde_json::{Value, json};

use super::super::Message;
use super::{Ref, about, boolean, calls, message, named, number, object, said};

/// Everything that answers a request.
pub(in super::super) fn answers() -> Vec<Message> {
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
