//! The AsyncAPI 3.0 document of the WebSocket, served at `/asyncapi.json`.
//!
//! It is made from what the code goes by: the table of requests ([`FromDevice::KINDS`]), the bounds they are checked against, the
//! numbered goodbyes, the codes of refusals; and its examples of what the engine says are messages the engine has encoded. What JSON
//! Schema needs beside that stands in `schemas`, and tests hold it to the code from both sides: whatever is done to
//! an example, the schema and [`wire::read`](super::wire::read) agree on whether it is still a request; and everything the
//! engine can say is valid, with no field that is not described and none described that is never said. A copy lies in
//! the repository as `asyncapi.json`, so that a change of the protocol is seen in review.

mod samples;
mod schemas;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::goodbye::Goodbye;
use super::upgrade;
use super::wire::{FromDevice, SUBPROTOCOL};
use crate::calls::signalling::KINDS;

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&build()).expect("the document is made of JSON values");
    text.push('\n');
    text
});

/// The document as text, pretty-printed; made once.
pub fn document() -> &'static str {
    &DOCUMENT
}

/// One message of the protocol.
struct Message {
    /// What `components` call it: a type may be a request, an answer and a push.
    key: &'static str,
    /// Its `type`.
    name: &'static str,
    summary: &'static str,
    payload: Value,
    examples: Vec<Value>,
}

/// A request, and how it is answered.
struct Request {
    message: Message,
    /// The key of its answer; none for what is never answered but by a refusal.
    answer: Option<&'static str>,
}

fn build() -> Value {
    let requests = schemas::requests();
    let answers = schemas::answers();
    let pushes = schemas::pushes();
    let mut operations = Map::new();
    for Request { message, answer } in &requests {
        let replies = answer.iter().copied().chain(["error"]).map(message_of_channel);
        operations.insert(
            message.key.to_owned(),
            json!({
                "action": "receive",
                "channel": { "$ref": "#/channels/socket" },
                "summary": message.summary,
                "messages": [message_of_channel(message.key)],
                "reply": { "channel": { "$ref": "#/channels/socket" }, "messages": Vec::from_iter(replies) },
            }),
        );
    }
    for message in &pushes {
        operations.insert(
            message.key.to_owned(),
            json!({
                "action": "send",
                "channel": { "$ref": "#/channels/socket" },
                "summary": message.summary,
                "messages": [message_of_channel(message.key)],
            }),
        );
    }
    let (mut of_channel, mut messages) = (Map::new(), Map::new());
    for message in requests.iter().map(|request| &request.message).chain(&answers).chain(&pushes) {
        let reference = json!({ "$ref": format!("#/components/messages/{}", message.key) });
        of_channel.insert(message.key.to_owned(), reference);
        let examples = message.examples.iter().map(|example| json!({ "payload": example }));
        messages.insert(
            message.key.to_owned(),
            json!({
                "name": message.name,
                "summary": message.summary,
                "payload": message.payload,
                "examples": Vec::from_iter(examples),
            }),
        );
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Nova WebSocket",
            "version": env!("CARGO_PKG_VERSION"),
            "description": description(),
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": upgrade::PATH,
                "title": "The socket of a device",
                "description": format!(
                    "One connection of a device. The handshake offers the subprotocol `{SUBPROTOCOL}`; one that cannot be let in is \
                     answered with a problem (RFC 9457), with `Retry-After` where coming back helps."
                ),
                "messages": of_channel,
                "bindings": { "ws": { "method": "GET", "bindingVersion": "0.1.0" } },
            }
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas::shared() },
    })
}

fn message_of_channel(key: &str) -> Value {
    json!({ "$ref": format!("#/channels/socket/messages/{key}") })
}

fn description() -> String {
    let mut goodbyes = String::new();
    for goodbye in Goodbye::ALL {
        goodbyes.push_str(&format!("\n- `{}`: {}", goodbye.code(), goodbye.reason()));
    }
    format!(
        "One JSON object per text message. A request carries `ref`, a number of your choice, and has exactly one answer with the \
         same `ref`: its own, or `error`. What has no `ref` is a push.\n\n\
         `connect` is the first message, within ten seconds; what the device missed follows as `entry` pushes, then `drained`. \
         Requests: {}.\n\n\
         Entries of one conversation come in the order of `seq`, without hole and without repeat, on every connection. A field that \
         may be left out of a request may be `null` as well; a field that is not described here is refused.\n\n\
         A connection ends with `goodbye` and a close frame of the same number. 4000 to 4499: come back, after `after_ms`, and resume. \
         4500 to 4999: stay away until the cause is mended.\n{goodbyes}",
        FromDevice::KINDS.iter().chain(KINDS).map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", "),
    )
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validator;
