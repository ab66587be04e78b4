//! A device of somebody: says and asks over the socket of a node, and keeps what it is shown.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::app::TestApp;

/// A device that is connected, and what it has seen of one conversation.
pub struct Device {
    pub socket: WebSocketStream<tokio::net::TcpStream>,
    next_ref: u64,
    /// Entries in the order in which they came.
    pub entries: Vec<Value>,
    /// Everything else that was pushed.
    pub pushes: Vec<Value>,
}

impl Device {
    /// Connects with a token; what waits is not read yet.
    pub async fn connects(app: &TestApp, token: &str) -> Device {
        Device::dials(app.http_addr, token).await
    }

    /// Connects to whatever listens there.
    pub async fn dials(addr: std::net::SocketAddr, token: &str) -> Device {
        let mut request = format!("ws://{addr}/v1/ws").into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", "nova.v1".parse().expect("a header"));
        let stream = tokio::net::TcpStream::connect(addr).await.expect("connects");
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("upgrades");
        let mut device = Device { socket, next_ref: 0, entries: Vec::new(), pushes: Vec::new() };
        let answer = device.asks(json!({ "type": "connect", "token": token })).await;
        assert_eq!(answer["type"], "connected", "{answer}");
        device
    }

    /// Connects and reads until its queue is empty; how many waited.
    pub async fn returns(app: &TestApp, token: &str) -> (Device, u64) {
        let mut device = Device::connects(app, token).await;
        let drained = device.hears("drained").await;
        (device, drained["count"].as_u64().expect("a number"))
    }

    pub async fn tells(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// Asks, and waits for the answer; what is pushed meanwhile is kept.
    pub async fn asks(&mut self, mut request: Value) -> Value {
        self.next_ref += 1;
        let reference = self.next_ref;
        request["ref"] = reference.into();
        self.tells(request).await;
        loop {
            if let Some(answer) = self.takes().await
                && answer["ref"] == reference
            {
                return answer;
            }
        }
    }

    /// Takes one message: an answer is given back, a push is kept.
    pub async fn takes(&mut self) -> Option<Value> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.socket.next());
        match next.await.expect("something within 20 s").expect("not the end").expect("readable") {
            Message::Text(words) => {
                let message: Value = serde_json::from_str(&words).expect("JSON");
                if message.get("ref").is_some() {
                    return Some(message);
                }
                let kept = if message["type"] == "entry" { &mut self.entries } else { &mut self.pushes };
                kept.push(message);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?} in place of a text"),
        }
        None
    }

    /// Waits for a push of a kind, and takes it away.
    pub async fn hears(&mut self, kind: &str) -> Value {
        loop {
            if let Some(at) = self.pushes.iter().position(|push| push["type"] == kind) {
                return self.pushes.remove(at);
            }
            self.takes().await;
        }
    }

    /// Says something; its number.
    pub async fn says(&mut self, conversation: &str, words: &str) -> u64 {
        let key = uuid::Uuid::now_v7().to_string();
        let sent = self.sends(conversation, &key, words).await;
        assert_eq!((&sent["type"], &sent["duplicate"]), (&json!("sent"), &json!(false)), "{sent}");
        sent["seq"].as_u64().expect("a number")
    }

    pub async fn sends(&mut self, conversation: &str, key: &str, words: &str) -> Value {
        self.asks(
            json!({ "type": "send", "conversation": conversation, "client_msg_id": key, "text": words }),
        )
        .await
    }

    /// The numbers of the entries of a conversation as they came, once the one with `seq` has.
    pub async fn has_numbers_up_to(&mut self, conversation: &str, seq: u64) -> Vec<u64> {
        loop {
            let of = self.entries.iter().filter(|entry| entry["conversation"] == conversation);
            let seqs: Vec<u64> = of.map(|entry| entry["seq"].as_u64().expect("a number")).collect();
            if seqs.last().is_some_and(|last| *last >= seq) {
                return seqs;
            }
            self.takes().await;
        }
    }

    /// The words it was shown, in the order in which they came, once there are as many.
    pub async fn has_read_in_order(&mut self, words: &[&str]) {
        loop {
            let read: Vec<_> =
                self.entries.iter().filter_map(|entry| entry["body"]["text"].as_str()).collect();
            if read.len() >= words.len() {
                assert_eq!(read, words);
                return;
            }
            self.takes().await;
        }
    }

    pub async fn acks(&mut self, conversation: &str, seq: u64) {
        self.tells(json!({ "type": "ack", "conversation": conversation, "seq": seq })).await;
    }

    pub async fn leaves(mut self) {
        self.socket.close(None).await.expect("closes");
    }
}
