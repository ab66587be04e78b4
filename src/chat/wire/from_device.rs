//! What devices say: one text in, one request or one refusal out.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::requests::{
    Ack, Check as _, Connect, Delete, Draft, Edit, KIND_BYTES_MAX, Ping, Presence, Pull, React, Read,
    Refresh, Typing, Unwatch, Watch, at_most,
};
use crate::error::Code;

/// Characters of the words a request is refused with; what was sent is not sent back whole.
const DETAIL_CHARS_MAX: usize = 400;

/// A request that is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The request's `ref`, where one could be read.
    pub reference: Option<u64>,
    /// What is wrong, as clients branch on it.
    pub code: Code,
    /// What is wrong, in words.
    pub detail: String,
}

macro_rules! from_device {
    ($($(#[$doc:meta])+ $kind:literal $name:ident($body:ty) $answer:ident;)+) => {
        /// A request, by type.
        #[derive(Debug, Clone, PartialEq)]
        pub enum FromDevice {
            $($(#[$doc])+ $name($body),)+
            /// `room.*` and `call.*`: signalling of group calls.
            Room(RoomRequest),
        }

        impl FromDevice {
            /// The types of all requests but `room.*` and `call.*`, in the order of the contract.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            fn read(kind: &str, body: Map<String, Value>) -> Option<Result<FromDevice, String>> {
                match kind {
                    $($kind => Some(fields::<$body>(body).map(FromDevice::$name)),)+
                    _ if kind.starts_with("room.") || kind.starts_with("call.") => {
                        Some(Ok(FromDevice::Room(RoomRequest { kind: kind.to_owned(), body })))
                    }
                    _ => None,
                }
            }

            fn check(&self) -> Result<(), String> {
                match self {
                    $(FromDevice::$name(body) => body.check(),)+
                    FromDevice::Room(request) => at_most("type", request.kind.len(), KIND_BYTES_MAX),
                }
            }

            /// Whether it has an answer, so that it cannot be without a `ref`.
            pub fn is_answered(&self) -> bool {
                match self {
                    $(FromDevice::$name(_) => from_device!(@$answer),)+
                    FromDevice::Room(_) => true,
                }
            }
        }
    };
    (@answered) => { true };
    (@unanswered) => { false };
}

from_device! {
    /// The first message.
    "connect" Connect(Connect) answered;
    /// A message to a conversation.
    "send" Send(Draft) answered;
    /// Another text for a message.
    "edit" Edit(Edit) answered;
    /// A message taken back.
    "delete" Delete(Delete) answered;
    /// An emoji put to a message, or taken from it.
    "react" React(React) answered;
    /// This device has everything up to here.
    "ack" Ack(Ack) unanswered;
    /// This user has read up to here.
    "read" Read(Read) answered;
    /// Somebody is writing, or stopped.
    "typing" Typing(Typing) unanswered;
    /// Entries of a conversation.
    "pull" Pull(Pull) answered;
    /// Whose presence is wanted from now on.
    "presence" Presence(Presence) answered;
    /// The chat beside a live stream.
    "watch" Watch(Watch) answered;
    /// No longer.
    "unwatch" Unwatch(Unwatch) answered;
    /// A new access token.
    "refresh" Refresh(Refresh) answered;
    /// Is anybody there?
    "ping" Ping(Ping) answered;
}

/// A request about a group call, whose fields its decider reads with [`RoomRequest::fields`].
#[derive(Debug, Clone, PartialEq)]
pub struct RoomRequest {
    /// `room.join` and so on.
    pub kind: String,
    /// All fields but `type` and `ref`.
    pub body: Map<String, Value>,
}

impl RoomRequest {
    /// Reads the fields as `T`; the error names the field.
    pub fn fields<T: DeserializeOwned>(self) -> Result<T, String> {
        fields(self.body)
    }
}

/// Reads one message: its `ref` and what it asks.
pub fn read(text: &str) -> Result<(Option<u64>, FromDevice), Refused> {
    let refused = |reference, code, detail: String| Refused { reference, code, detail: shortened(detail) };
    let mut body: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| refused(None, Code::MalformedJson, format!("one JSON object is wanted: {error}")))?;
    let reference = match body.remove("ref") {
        None => None,
        Some(value) => match value.as_u64() {
            Some(reference) => Some(reference),
            None => {
                let detail = "ref: a whole number from 0 is wanted".to_owned();
                return Err(refused(None, Code::InvalidFields, detail));
            }
        },
    };
    let Some(Value::String(kind)) = body.remove("type") else {
        return Err(refused(reference, Code::InvalidFields, "type: a text is wanted".to_owned()));
    };
    let request = match FromDevice::read(&kind, body) {
        Some(request) => request,
        None => {
            let kind: String = kind.chars().take(KIND_BYTES_MAX).collect();
            return Err(refused(
                reference,
                Code::UnknownType,
                format!("there is no request of type {kind:?}"),
            ));
        }
    };
    let request = request.map_err(|detail| refused(reference, Code::InvalidFields, detail))?;
    request.check().map_err(|detail| refused(reference, Code::InvalidFields, detail))?;
    if reference.is_none() && request.is_answered() {
        return Err(refused(
            None,
            Code::InvalidFields,
            format!("ref: a `{kind}` is answered, so it needs a number"),
        ));
    }
    Ok((reference, request))
}

/// A name of a field may be as long as a message.
fn shortened(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(end);
    }
    detail
}

/// The error names the field by its path.
fn fields<T: DeserializeOwned>(body: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(body)).map_err(|error| {
        match error.path().to_string().as_str() {
            "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        }
    })
}
