//! What devices say.

use serde_json::json;

use super::super::super::wire::{
    ATTACHMENTS_MAX, CLIENT_BYTES_MAX, COUNTED_MAX, EMOJI_BYTES_MAX, FOCUS_MAX, KIND_BYTES_MAX, MENTIONS_MAX,
    PULL_LIMIT_MAX, WATCHED_MAX,
};
use super::super::Request;
use super::{about, boolean, calls, list, named, or_null, request, text, with};

/// Everything a device may say.
pub(in super::super) fn requests() -> Vec<Request> {
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
