//! What time and limits do to a connection. Seconds of the door are made short, so nobody waits for them.

use std::path::Path;
use std::time::{Duration, Instant};

use nova_actors::id::{DeviceId, UserId};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::crier::{Crier, Server, token};
use super::wires::Raw;
use super::{Client, handshake, start};
use crate::app::{TestApp, config, eventually};

/// A server whose seconds are `tick_ms` milliseconds.
fn start_ticking(tick_ms: u64, change: impl FnOnce(&mut nova::config::Config)) -> Server {
    let mut config = config(Path::new("/nowhere"));
    config.http.workers = Some(2);
    change(&mut config);
    Server::start_ticking(Crier::new(false), &config, None, Duration::from_millis(tick_ms))
}

fn somebody(seconds: u64) -> String {
    token(UserId::generate(), DeviceId::generate(), seconds)
}

#[actix_web::test]
async fn who_does_not_say_connect_within_ten_seconds_is_sent_away() {
    let server = start_ticking(20, |_| {});
    let (goodbye, status) = Client::dial(&server).await.last_words().await;
    assert_eq!((goodbye["code"].as_u64(), status), (Some(4504), 4504));
    eventually("it is forgotten", async || (server.door.sockets() == 0).then_some(())).await;
}

#[test]
fn who_does_not_answer_a_ping_is_gone() {
    let server = start_ticking(20, |config| config.chat.ws_ping_s = 5);
    let (mut raw, _) = Raw::open(server.addr, "");
    raw.say(&json!({"type": "connect", "ref": 1, "token": somebody(900)}));
    let mut pinged = false;
    let mut goodbye = Value::Null;
    let status = loop {
        match raw.next_or_ping().expect("a close frame before the end") {
            (0x89, payload) => pinged = payload.is_empty(),
            (0x81, text) => goodbye = serde_json::from_slice(&text).expect("JSON"),
            (0x88, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("{other:?}"),
        }
    };
    assert!(pinged);
    assert_eq!((goodbye["code"].as_u64(), &goodbye["reconnect"], status), (Some(4003), &json!(true), 4003));
}

#[actix_web::test]
async fn who_answers_pings_stays() {
    let server = start_ticking(200, |config| config.chat.ws_ping_s = 5);
    let mut client = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    let mut pings = 0;
    while pings < 3 {
        // Reading on answers it.
        pings += u32::from(matches!(client.next().await, Message::Ping(_)));
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[actix_web::test]
async fn a_token_that_expires_ends_the_socket_unless_it_was_refreshed() {
    let server = start_ticking(20, |config| config.chat.ws_ping_s = 600);
    let (user, device) = (UserId::generate(), DeviceId::generate());
    let mut refreshes = Client::dial(&server).await.opened(&token(user, device, 100), None).await;
    let mut expires = Client::dial(&server).await.opened(&somebody(100), None).await;
    for (other, code) in [(somebody(9_000), "invalid_token"), ("forged".to_owned(), "invalid_token")] {
        assert_eq!(refreshes.ask(json!({"type": "refresh", "token": other})).await["code"], code);
    }
    let refreshed = refreshes.ask(json!({"type": "refresh", "token": token(user, device, 900_000)})).await;
    assert_eq!(refreshed["type"], "ok", "{refreshed}");
    let (goodbye, status) = expires.last_words().await;
    assert_eq!((goodbye["code"].as_u64(), &goodbye["reconnect"], status), (Some(4501), &json!(false), 4501));
    // Longer than the first token was good for.
    let lived = Instant::now();
    while lived.elapsed() < Duration::from_millis(300) {
        assert_eq!(refreshes.ask(json!({"type": "ping"})).await["type"], "pong");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[actix_web::test]
async fn a_user_has_so_many_sockets() {
    let server = start(false, |config| config.chat.ws_sockets_per_user = 2);
    let user = UserId::generate();
    let first = Client::connect(&server, user, DeviceId::generate(), None).await;
    let _second = Client::connect(&server, user, DeviceId::generate(), None).await;
    let mut third = Client::dial(&server).await;
    third.say(json!({"type": "connect", "ref": 1, "token": token(user, DeviceId::generate(), 900)})).await;
    assert_eq!(third.last_words().await.1, 4505);
    let _else = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    drop(first);
    eventually("the first has left", async || (server.door.devices_of(user).len() == 1).then_some(())).await;
    Client::connect(&server, user, DeviceId::generate(), None).await;
}

#[actix_web::test]
async fn the_requests_of_all_devices_of_a_user_count_together() {
    let server = start(false, |config| config.chat.ws_user_requests_per_s = 1);
    let user = UserId::generate();
    let mut phone = Client::connect(&server, user, DeviceId::generate(), None).await;
    let mut tablet = Client::connect(&server, user, DeviceId::generate(), None).await;
    for n in 0..10 {
        phone.say(json!({"type": "ping", "ref": 100 + n})).await;
    }
    let mut refused = None;
    for _ in 0..20 {
        let answer = tablet.ask(json!({"type": "ping"})).await;
        if answer["type"] == "error" {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the phone has used it up");
    assert_eq!(refused["code"], "rate_limited");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|ms| (1..=1_000).contains(&ms)), "{refused}");
    let mut other = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    assert_eq!(other.ask(json!({"type": "ping"})).await["type"], "pong", "others have their own");
}

#[test]
fn a_node_lets_in_so_many_a_second() {
    let server = start(false, |config| {
        (config.chat.ws_connects_per_s, config.chat.ws_ip_connects_per_s) = (1, 0);
    });
    let refused: Vec<_> =
        (0..12).map(|_| handshake(&server, &[])).filter(|(status, _)| *status != 101).collect();
    assert!(!refused.is_empty());
    for (status, answer) in refused {
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("retry-after: 1\r\n") && answer.contains("\"overloaded\""), "{answer}");
    }
}

#[actix_web::test]
async fn a_message_has_at_most_64_kib() {
    let server = start(false, |_| {});
    let mut client = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    let of_len = |len: usize| {
        let text = r#"{"ref":7,"type":"ping"}"#;
        format!("{text}{}", " ".repeat(len - text.len()))
    };
    for (len, fits) in [(65_535, true), (65_536, true), (65_537, false)] {
        futures_util::SinkExt::send(&mut client.socket, Message::text(of_len(len))).await.expect("sent");
        if fits {
            assert_eq!(client.hear().await["type"], "pong", "{len}");
        } else {
            let (goodbye, status) = client.last_words().await;
            assert_eq!((goodbye["code"].as_u64(), status), (Some(4504), 1009));
        }
    }
}

#[actix_web::test]
async fn those_who_are_sent_away_together_are_told_in_batches() {
    const SOCKETS: usize = 1_100;
    let mut config = config(Path::new("/nowhere"));
    config.http.workers = Some(1);
    (config.chat.ws_connects_per_s, config.chat.ws_ip_connects_per_s) = (0, 0);
    let server = Server::start(Crier::new(false), &config, None);
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(Raw::open(server.addr, "").0);
    }
    assert_eq!(server.door.sockets(), SOCKETS);
    let began = Instant::now();
    let door = server.door.clone();
    let draining = actix_web::rt::spawn(async move { door.drain(Duration::from_secs(30)).await });
    let waits = tokio::task::spawn_blocking(move || {
        let mut waits = std::collections::BTreeSet::new();
        for raw in &mut sockets {
            let (_, text) = raw.next().expect("a goodbye");
            let goodbye: Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4000), &json!(true)), "{goodbye}");
            waits.insert(goodbye["after_ms"].as_u64().expect("a number"));
            assert_eq!(raw.next().expect("a close frame").0, 0x88);
            raw.frame(0x88, &4_000_u16.to_be_bytes());
        }
        waits
    });
    let waits = waits.await.expect("no panic");
    // Three batches of at most 500, a pause between each.
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert!(waits.len() > SOCKETS / 2, "they come back apart: {} times", waits.len());
    assert!(waits.last().is_some_and(|last| (5_000..10_000).contains(last)), "{:?}", waits.last());
    draining.await.expect("drained");
    assert_eq!(server.door.sockets(), 0);
}

#[actix_web::test]
async fn asked_for_without_an_upgrade_it_says_what_it_is() {
    let app = TestApp::start().await;
    let answer = app.http.get(app.at("/v1/ws")).send().await.expect("answered");
    assert_eq!(answer.status(), 426);
    assert_eq!(
        (&answer.headers()["upgrade"], &answer.headers()["sec-websocket-version"]),
        (&"websocket".parse().unwrap(), &"13".parse().unwrap())
    );
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(problem["code"], "upgrade_required");
}

#[actix_web::test]
async fn what_happens_at_the_door_is_measured() {
    let server = start(true, |_| {});
    for _ in 0..3 {
        server.crier.commit("before");
    }
    let mut ann = Client::connect(&server, UserId::generate(), DeviceId::generate(), Some(0)).await;
    let mut bo = Client::connect(&server, UserId::generate(), DeviceId::generate(), None).await;
    for client in [&mut ann, &mut bo] {
        while client.hear().await["type"] != "drained" {}
    }
    server.door.deliver(server.crier.commit("now")).await;
    assert_eq!(bo.hear_seqs(4).await, [4]);
    let metrics = &server.metrics;
    let resumes = |outcome: &str| metrics.ws_resumes.with_label_values(&[outcome]).get();
    assert_eq!((resumes("replayed"), resumes("current")), (1, 1));
    assert_eq!(
        (metrics.ws_queue_entries.get_sample_count(), metrics.ws_queue_entries.get_sample_sum()),
        (2, 3.0)
    );
    eventually("the delivery is measured", async || {
        (metrics.ws_delivery_duration.get_sample_count() >= 1).then_some(())
    })
    .await;
    assert!(metrics.ws_delivery_duration.get_sample_sum() > 0.0);
}
