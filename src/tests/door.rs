//! The WebSocket door from outside: independent clients, raw sockets, attacks.

mod crier;
mod handshakes;
mod hostile;
mod timers;
mod wires;

use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use nova_actors::id::{DeviceId, UserId};
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::app::{config, eventually};
use crier::{Crier, Server, token};
use handshakes::handshake;

fn start(follows: bool, change: impl FnOnce(&mut nova::config::Config)) -> Server {
    let mut config = config(Path::new("/nowhere"));
    config.http.workers = Some(2);
    change(&mut config);
    Server::start(Crier::new(follows), &config, None)
}

/// A client by somebody else's hand (tungstenite).
struct Client<S = tokio::net::TcpStream> {
    socket: WebSocketStream<S>,
    next_ref: u64,
}

impl Client {
    async fn dial(server: &Server) -> Client {
        Client::dial_addr(server.addr).await
    }

    async fn dial_addr(addr: std::net::SocketAddr) -> Client {
        let stream = tokio::net::TcpStream::connect(addr).await.expect("connects");
        Client::over(stream, &format!("ws://{addr}/v1/ws")).await
    }

    async fn connect(server: &Server, user: UserId, device: DeviceId, cursor: Option<u64>) -> Client {
        Client::dial(server).await.opened(&token(user, device, 900), cursor).await
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    /// Makes a WebSocket of a connection.
    async fn over(stream: S, url: &str) -> Client<S> {
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", "nova.v1".parse().expect("a header"));
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.expect("upgrades");
        assert_eq!(response.headers()["sec-websocket-protocol"], "nova.v1");
        Client { socket, next_ref: 0 }
    }

    /// Says `connect`.
    async fn opened(mut self, token: &str, cursor: Option<u64>) -> Client<S> {
        let client_name = cursor.map(|cursor| cursor.to_string());
        let answer = self.ask(json!({"type": "connect", "token": token, "client": client_name})).await;
        assert_eq!(answer["type"], "connected", "{answer}");
        self
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// Sends a request and waits for its answer; what is pushed meanwhile is passed over.
    async fn ask(&mut self, mut request: Value) -> Value {
        self.next_ref += 1;
        request["ref"] = json!(self.next_ref);
        self.say(request).await;
        loop {
            let message = self.hear().await;
            if message["ref"] == self.next_ref {
                return message;
            }
        }
    }

    async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(Duration::from_secs(20), self.socket.next());
        next.await.expect("something within 20 s").expect("not the end").expect("readable")
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} in place of a text"),
            }
        }
    }

    async fn hear_seqs(&mut self, up_to: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last().is_none_or(|last| *last < up_to) {
            let message = self.hear().await;
            if message["type"] == "entry" {
                seqs.push(message["seq"].as_u64().expect("a number"));
            }
        }
        seqs
    }

    /// What is said last: the goodbye, and the status of the close frame.
    async fn last_words(&mut self) -> (Value, u16) {
        let mut goodbye = Value::Null;
        loop {
            match self.next().await {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["type"] == "goodbye" {
                        goodbye = message;
                    }
                }
                Message::Close(frame) => return (goodbye, frame.map_or(1005, |frame| frame.code.into())),
                _ => {}
            }
        }
    }
}

#[actix_web::test]
async fn what_one_says_everybody_hears_once_and_in_order() {
    let server = start(true, |_| {});
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await);
    }
    for client in &mut all {
        while client.hear().await["type"] != "drained" {}
    }
    let conversation = server.crier.conversation();
    for n in 0..40_u64 {
        let client = &mut all[n as usize % 5];
        let id = format!("m{n}");
        client.say(json!({"type": "send", "ref": 100 + n, "conversation": conversation, "client_msg_id": id, "text": "hello"})).await;
    }
    for client in &mut all {
        assert_eq!(client.hear_seqs(40).await, (1..=40).collect::<Vec<_>>());
    }
    // Typing is heard by the others only.
    let (first, others) = all.split_first_mut().expect("five");
    first.say(json!({"type": "typing", "conversation": conversation, "on": true})).await;
    for client in others {
        while client.hear().await["type"] != "typing" {}
    }
    let pong = first.ask(json!({"type": "ping"})).await;
    assert_eq!(pong["type"], "pong");
}

#[actix_web::test]
async fn a_device_that_returns_has_read_in_order_while_others_keep_talking() {
    let server = start(true, |config| config.chat.ws_requests_per_s = 0);
    for n in 0..2_000 {
        server.crier.commit(&format!("before {n}"));
    }
    let (door, crier) = (server.door.clone(), server.crier.clone());
    let talking = actix_web::rt::spawn(async move {
        for n in 0..2_000 {
            let delivery = crier.commit(&format!("meanwhile {n}"));
            door.deliver(delivery).await;
            tokio::task::yield_now().await;
        }
    });
    let mut returned = Vec::new();
    for cursor in [0, 10, 1_500, 2_000] {
        returned.push((
            cursor,
            Client::connect(&server, UserId::generate(), DeviceId::generate(), Some(cursor)).await,
        ));
    }
    talking.await.expect("talked");
    for (cursor, client) in &mut returned {
        assert_eq!(client.hear_seqs(4_000).await, (*cursor + 1..=4_000).collect::<Vec<_>>(), "from {cursor}");
    }
}

#[actix_web::test]
async fn what_is_lost_on_the_way_to_the_sockets_is_found_and_replayed() {
    let server = start(true, |_| {});
    let mut bo = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    while bo.hear().await["type"] != "drained" {}
    for n in 0..30 {
        let delivery = server.crier.commit("x");
        if n % 3 == 1 {
            server.door.deliver(delivery).await;
        }
    }
    // 29 was the last that was delivered; what is behind it is found by comparing.
    assert_eq!(bo.hear_seqs(29).await, (1..=29).collect::<Vec<_>>());
    server.door.announce_top(server.crier.topic(), 30).await;
    assert_eq!(bo.hear_seqs(30).await, [30]);
}

#[actix_web::test]
async fn a_decider_that_breaks_takes_no_worker_with_it() {
    let server = start(true, |config| config.http.workers = Some(1));
    let mut bo = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    while bo.hear().await["type"] != "drained" {}
    server.crier.commit("lost on the way");
    server.crier.break_once();
    server.door.deliver(server.crier.commit("shows the hole, and the decider breaks over it")).await;
    eventually("it is counted", async || (server.metrics.ws_worker_panics.get() == 1).then_some(())).await;
    // Somebody who comes now is served by the same worker.
    let mut ann = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    while ann.hear().await["type"] != "drained" {}
    server.door.deliver(server.crier.commit("and goes on")).await;
    assert_eq!(ann.hear_seqs(3).await, [3]);
    assert_eq!(bo.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[actix_web::test]
async fn requests_are_answered_or_refused_with_their_ref() {
    let server = start(false, |_| {});
    let mut ann = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    for (request, code) in [
        (json!({"type": "sned"}), "unknown_type"),
        (json!({"type": "send", "text": "x"}), "invalid_fields"),
        (json!({"type": "connect", "token": "again"}), "conflict"),
        (json!({"type": "refresh", "token": "forged"}), "invalid_token"),
        (json!({"type": "delete", "conversation": server.crier.conversation(), "target": 1}), "internal"),
    ] {
        let answer = ann.ask(request.clone()).await;
        assert_eq!(
            (answer["type"].as_str(), answer["code"].as_str()),
            (Some("error"), Some(code)),
            "{request}: {answer}"
        );
    }
    ann.socket.send(Message::text("not json")).await.expect("sent");
    assert_eq!(ann.hear().await["code"], "malformed_json");
    let read = ann.ask(json!({"type": "read", "conversation": server.crier.conversation(), "seq": 0})).await;
    assert_eq!(read["type"], "ok", "and after all this it still speaks");
}

#[actix_web::test]
async fn every_way_to_begin_wrongly_is_said_a_numbered_goodbye() {
    let server = start(false, |_| {});
    let (user, device) = (UserId::generate(), DeviceId::generate());
    for (first, code) in [
        (json!({"type": "connect", "ref": 1, "token": "forged"}), 4500),
        (json!({"type": "ping", "ref": 1}), 4504),
        (json!({"type": "connect"}), 4504),
        (json!({"type": "connect", "ref": 1, "token": token(user, device, 0)}), 4501),
    ] {
        let mut client = Client::dial(&server).await;
        client.say(first.clone()).await;
        let (goodbye, status) = client.last_words().await;
        assert_eq!((goodbye["code"].as_u64(), status), (Some(code), code as u16), "{first}");
        assert_eq!((&goodbye["reconnect"], &goodbye["after_ms"]), (&json!(false), &json!(0)));
    }
    // A device that connects again replaces itself; the old end takes nothing with it.
    let mut old = Client::connect(&server, user, device, None).await;
    let _new = Client::connect(&server, user, device, None).await;
    assert_eq!(old.last_words().await.1, 4503);
    eventually("the old one is cleared up", async || (server.crier.closed() == [device]).then_some(())).await;
    assert_eq!(server.door.devices_of(user).len(), 1);
    server
        .door
        .device(user, device)
        .expect("connected")
        .goodbye(nova::chat::goodbye::Goodbye::SessionRevoked)
        .await
        .expect("there");
    eventually("it left", async || server.door.devices_of(user).is_empty().then_some(())).await;
}

#[actix_web::test]
async fn a_flood_is_slowed_and_then_ended() {
    let server = start(false, |config| config.chat.ws_requests_per_s = 10);
    let mut flood = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    for n in 0..200 {
        // The server ends it before all are sent.
        if flood.socket.feed(Message::text(json!({"type": "ping", "ref": n}).to_string())).await.is_err() {
            break;
        }
    }
    drop(flood.socket.flush().await);
    let first_refusal = loop {
        let answer = flood.hear().await;
        if answer["type"] == "error" {
            break answer;
        }
    };
    assert_eq!(first_refusal["code"], "rate_limited");
    assert!(
        first_refusal["retry_after_ms"].as_u64().is_some_and(|ms| (1..=100).contains(&ms)),
        "{first_refusal}"
    );
    let (goodbye, status) = flood.last_words().await;
    assert_eq!((goodbye["code"].as_u64(), status), (Some(4505), 4505));
}

#[actix_web::test]
async fn a_reader_that_stops_is_said_goodbye_and_nobody_else_notices() {
    let server = start(true, |_| {});
    let mut stopped = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    let mut reading = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    while stopped.hear().await["type"] != "drained" {}
    while reading.hear().await["type"] != "drained" {}
    let text = "x".repeat(32 << 10);
    let sizes = 400;
    for seq in 1..=sizes {
        server.door.deliver(server.crier.commit(&text)).await;
        assert_eq!(reading.hear_seqs(seq).await, [seq]);
    }
    assert_eq!(server.metrics.ws_goodbyes.with_label_values(&["4001"]).get(), 1);
    // It sleeps on until nothing of it is left here; the kernel has its last words.
    eventually("only the one that reads is here", async || {
        (server.metrics.ws_connections.get() == 1).then_some(())
    })
    .await;
    // What it can still read is in order, and ends with the goodbye.
    let mut last = 0;
    let (goodbye, status) = loop {
        match stopped.next().await {
            Message::Text(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                if message["type"] == "goodbye" {
                    let Message::Close(Some(CloseFrame { code, .. })) = stopped.next().await else {
                        panic!("a close frame")
                    };
                    break (message, u16::from(code));
                }
                last += 1;
                assert_eq!(message["seq"], last);
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((goodbye["code"].as_u64(), status, &goodbye["reconnect"]), (Some(4001), 4001, &json!(true)));
    assert!(last < sizes, "it was behind");
}

#[actix_web::test]
async fn a_node_that_leaves_says_when_to_come_back() {
    let server = start(false, |_| {});
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await);
    }
    let door = server.door.clone();
    let draining = actix_web::rt::spawn(async move { door.drain(Duration::from_secs(10)).await });
    let mut waits = std::collections::BTreeSet::new();
    for client in &mut clients {
        let (goodbye, status) = client.last_words().await;
        assert_eq!((status, &goodbye["reconnect"]), (4000, &json!(true)));
        waits.insert(goodbye["after_ms"].as_u64().expect("a number"));
        // Reading on answers the close frame.
        while client.socket.next().await.is_some_and(|next| next.is_ok()) {}
    }
    assert!(waits.len() > 10, "they come back apart: {waits:?}");
    draining.await.expect("drained");
    assert_eq!(server.door.sockets(), 0);
    let (status, body) = handshake(&server, &[]);
    assert_eq!(status, 503, "{body}");
}
