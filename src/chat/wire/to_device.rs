//! What is said to devices.

use std::sync::Arc;

use nova_actors::id::{ConversationId, DeviceId, PostId, SessionId, StreamId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::super::encoded::Encoded;
use super::super::goodbye::Goodbye;
use super::rfc3339_ms;
use crate::error::Code;

/// Bytes to begin with; most messages are smaller.
const LEN_HINT: usize = 256;

/// Anything that is said: an answer with its `ref`, or a push.
#[derive(Debug, Clone, Serialize)]
pub struct ToDevice<T> {
    /// The request this answers.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// What is said.
    #[serde(flatten)]
    pub body: T,
}

/// The answer to a request.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// To `connect`.
    Connected {
        /// This connection.
        session: SessionId,
        /// Whose it is.
        user: UserId,
        /// From which device.
        device: DeviceId,
        /// How often the server pings.
        ping_interval_ms: u32,
        /// What a client may do.
        limits: Limits,
        /// Entries that wait for this device.
        queue: u64,
    },
    /// To `send`, `edit`, `delete` and `react`, after the commit.
    Sent {
        /// Where.
        conversation: ConversationId,
        /// The client's own name of it.
        client_msg_id: String,
        /// The history it is part of.
        epoch: u64,
        /// Its place.
        seq: u64,
        /// When.
        #[serde(with = "rfc3339_ms")]
        at: OffsetDateTime,
        /// Whether it had arrived before.
        duplicate: bool,
    },
    /// To `pull`.
    Entries {
        /// Where.
        conversation: ConversationId,
        /// The history they are part of.
        epoch: u64,
        /// The entries, in sequence.
        entries: Vec<Entry>,
        /// The last sequence there is.
        top: u64,
        /// Whether they follow on what the client has; otherwise it reloads.
        recovered: bool,
    },
    /// To `presence`.
    Presence {
        /// How each is.
        users: Vec<PresenceOf>,
        /// How many are here of each conversation that was asked for.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        conversations: Vec<Counted>,
    },
    /// To `watch`.
    Watching {
        /// The stream.
        stream: StreamId,
        /// Its chat.
        chat: ConversationId,
        /// How many watch.
        viewers: u64,
    },
    /// To `ping`.
    Pong {
        /// The server's time.
        #[serde(with = "rfc3339_ms")]
        at: OffsetDateTime,
    },
    /// It is done.
    Ok,
    /// An answer whose type and fields its decider chose: `room.joined` and so on. A JSON object with `type`.
    #[serde(untagged)]
    Other(serde_json::Map<String, serde_json::Value>),
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of a message.
    pub message_bytes: u32,
    /// Requests per second, sustained.
    pub requests_per_s: u32,
}

/// One entry of a conversation's log.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Where.
    pub conversation: ConversationId,
    /// The history it is part of.
    pub epoch: u64,
    /// Its place.
    pub seq: u64,
    /// `message`, `edit`, `delete`, `reaction`, `member`, `call`, `live`, `title`.
    pub kind: String,
    /// Who; absent for what the engine itself says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<UserId>,
    /// When.
    #[serde(with = "rfc3339_ms")]
    pub at: OffsetDateTime,
    /// The sender's own name of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_msg_id: Option<String>,
    /// What it says, as stored.
    pub body: Arc<RawValue>,
}

/// How somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PresenceOf {
    /// Who.
    pub user: UserId,
    /// Here or not.
    pub state: PresenceState,
    /// When they were last here.
    #[serde(with = "rfc3339_ms::option", skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<OffsetDateTime>,
}

/// How many members of a conversation are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Which.
    pub conversation: ConversationId,
    /// How many.
    pub online: u64,
}

/// Here or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// At least one device is connected.
    Online,
    /// None is.
    Offline,
}

/// What nobody asked for.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Push {
    /// An entry of a conversation.
    Entry(Entry),
    /// The offline queue is empty.
    Drained {
        /// Entries that were in it.
        count: u64,
    },
    /// Too much to push: pull it.
    Gap {
        /// Where.
        conversation: ConversationId,
        /// The history it is part of.
        epoch: u64,
        /// The first that is not pushed.
        from: u64,
        /// The last.
        to: u64,
    },
    /// How far somebody is.
    Receipt {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// What their devices have.
        #[serde(skip_serializing_if = "Option::is_none")]
        delivered: Option<u64>,
        /// What they have read.
        #[serde(skip_serializing_if = "Option::is_none")]
        read: Option<u64>,
    },
    /// Somebody is writing, or stopped.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
        /// Writing, or stopped.
        on: bool,
    },
    /// Somebody came or went.
    Presence(PresenceOf),
    /// How many members of a conversation are here now.
    Online(Counted),
    /// Something happened elsewhere.
    Notification {
        /// As `GET /v1/notifications` lists it.
        notification: Arc<RawValue>,
    },
    /// There is a newer post in the user's home feed; which, and whether it may be read, says the feed.
    Feed {
        /// It, or one at least as new.
        newest: PostId,
    },
    /// How many watch a stream.
    Viewers {
        /// Which.
        stream: StreamId,
        /// How many.
        count: u64,
    },
    /// How the broadcast of one's own stream goes.
    StreamStats {
        /// Which.
        stream: StreamId,
        /// As `GET /v1/streams/{stream_id}/stats` says it.
        stats: Arc<RawValue>,
    },
    /// A stream is not watched any more: a block came between its owner and this user.
    Unwatched {
        /// Which.
        stream: StreamId,
    },
    /// A push whose type and fields its decider chose: `room.event`, `call`. A JSON object with `type`.
    #[serde(untagged)]
    Other(serde_json::Map<String, serde_json::Value>),
}

#[derive(Debug, Serialize)]
struct Error<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<u64>,
    r#type: &'static str,
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Leaving {
    r#type: &'static str,
    code: u16,
    reason: &'static str,
    reconnect: bool,
    after_ms: u32,
}

/// The answer to the request `reference`.
pub fn answer(reference: u64, answer: &Answer) -> Encoded {
    encode(&ToDevice { reference: Some(reference), body: answer })
}

/// A push; encode it once for everybody it goes to.
pub fn push(push: &Push) -> Encoded {
    encode(push)
}

/// A refusal of the request `reference`.
pub fn refuse(reference: Option<u64>, code: Code, detail: &str, retry_after_ms: Option<u64>) -> Encoded {
    encode(&Error { reference, r#type: "error", code: code.as_str(), detail, retry_after_ms })
}

/// The last message, before the close frame.
pub(in super::super) fn goodbye(goodbye: Goodbye, after_ms: u32) -> Encoded {
    let (code, reason, reconnect) = (goodbye.code(), goodbye.reason(), goodbye.reconnect());
    encode(&Leaving { r#type: "goodbye", code, reason, reconnect, after_ms })
}

fn encode(message: &impl Serialize) -> Encoded {
    Encoded::text(LEN_HINT, |frame| {
        serde_json::to_writer(frame, message).expect("messages are texts, numbers and valid JSON");
    })
}
