//! What the engine says by itself.

use serde_json::{Value, json};

use super::super::Message;
use super::{Ref, about, boolean, calls, entry, message, named, number, presence, said};

/// Everything the engine says by itself.
pub(in super::super) fn pushes() -> Vec<Message> {
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
