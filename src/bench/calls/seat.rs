//! A place in a room: the signalling of one participant over its WebSocket.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_json::{Value, json};

use super::peer::Peer;
use crate::bench::BenchError;
use crate::bench::client::{self, Heard, Reader, Writer};

/// The signalling of one participant.
pub struct Seat {
    writer: Writer,
    reader: Reader,
    next_ref: u64,
    /// What came and was not asked for.
    pushes: VecDeque<Value>,
}

impl Seat {
    /// Connects, and waits until nothing is waiting for it.
    pub async fn connect(addr: SocketAddr, token: &str) -> Result<Seat, BenchError> {
        let (writer, reader) =
            client::dial(addr, "/v1/ws", Some("nova.v1")).await.map_err(BenchError::because)?;
        let mut seat = Seat { writer, reader, next_ref: 1, pushes: VecDeque::new() };
        seat.writer.say(&json!({ "type": "connect", "ref": 0, "token": token }).to_string());
        loop {
            for message in seat.read().await? {
                match message.get("type").and_then(Value::as_str) {
                    Some("drained") => return Ok(seat),
                    Some("error" | "goodbye") => {
                        return Err(BenchError::because(format!("a socket was not let in: {message}")));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&mut self, mut request: Value) -> Result<Value, BenchError> {
        let reference = self.next_ref;
        self.next_ref += 1;
        if let Some(fields) = request.as_object_mut() {
            fields.insert("ref".to_owned(), reference.into());
        }
        self.writer.say(&request.to_string());
        loop {
            let mut answer = None;
            for message in self.read().await? {
                match message.get("ref").and_then(Value::as_u64) {
                    Some(known) if known == reference => answer = Some(message),
                    _ => self.pushes.push_back(message),
                }
            }
            if let Some(answer) = answer {
                if answer.get("type").and_then(Value::as_str) == Some("error") {
                    return Err(BenchError::because(format!("`{request}` was answered {answer}")));
                }
                return Ok(answer);
            }
        }
    }

    /// Says something whose answer nobody waits for.
    pub fn say(&mut self, mut request: Value) {
        if let Some(fields) = request.as_object_mut() {
            fields.insert("ref".to_owned(), self.next_ref.into());
        }
        self.next_ref += 1;
        self.writer.say(&request.to_string());
    }

    /// Hears what the engine tells of the room, and has the peer act on it; until it is dropped, or the connection ends.
    pub async fn listen(mut self, peer: Rc<Peer>) {
        loop {
            while let Some(message) = self.pushes.pop_front() {
                obey(&peer, &message);
            }
            match self.read().await {
                Ok(messages) => self.pushes.extend(messages),
                Err(_) => return,
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<Value>, BenchError> {
        let (mut heard, mut closed) = (Vec::new(), None);
        let writer = &self.writer;
        let read = self.reader.read(|one| match one {
            Heard::Text(text) => heard.extend(serde_json::from_slice::<Value>(text)),
            Heard::Ping(payload) => writer.pong(payload),
            Heard::Close(code) => closed = Some(code),
        });
        read.await.map_err(BenchError::because)?;
        match closed {
            Some(code) => Err(BenchError::because(format!("the socket was closed with {code:?}"))),
            None => Ok(heard),
        }
    }
}

fn obey(peer: &Peer, message: &Value) {
    match message.get("event").and_then(Value::as_str) {
        Some("slots") => {
            for slot in message.get("slots").and_then(Value::as_array).into_iter().flatten() {
                let mid = slot.get("mid").and_then(Value::as_str).unwrap_or_default();
                peer.bind(mid, slot.get("track").and_then(Value::as_u64));
            }
        }
        Some("layers") => {
            let highest = message.get("highest").and_then(Value::as_u64);
            peer.watched(highest.and_then(|highest| usize::try_from(highest).ok()));
        }
        Some("paused") => {
            if let Some(track) = message.get("track").and_then(Value::as_u64) {
                peer.pause(track);
            }
        }
        _ => {}
    }
}
