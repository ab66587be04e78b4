//! Rooms for calls over the socket: who comes in, who decides, who comes back, on one node and on two. No media flows here; the
//! console's tests see and hear.

use std::time::{Duration, Instant};

use nova::config::Secret;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;

use crate::accounts::{logs_in, registers};
use crate::app::TestApp;
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;
use crate::program::Program;
use crate::services;

/// A microphone, a camera in two layers and a slot for each, as Chromium offers them, shortened to what is read.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2 3\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:wTe0\r\na=ice-pwd:yCHnnxOk6WL7cl9FGU3eFgaz\r\n\
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
a=setup:actpass\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=mid:1\r\n\
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
a=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
a=rid:q send\r\na=rid:h send\r\na=simulcast:send q;h\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=setup:actpass\r\na=mid:2\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=setup:actpass\r\na=mid:3\r\na=recvonly\r\na=rtcp-mux\r\n\
a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";

impl Person<'_> {
    async fn makes_a_room(&self, body: Value) -> String {
        let (status, room) = self.asks(Method::POST, "/v1/rooms", Some(body)).await;
        assert_eq!(status, 201, "{room}");
        text(&room, "id")
    }
}

impl Device {
    async fn joins(&mut self, room: &str, name: &str) -> Value {
        self.asks(json!({ "type": "room.join", "room": room, "offer": OFFER, "name": name })).await
    }

    /// Joins, and is in; its number.
    async fn is_in(&mut self, room: &str, name: &str) -> u64 {
        let joined = self.joins(room, name).await;
        assert_eq!(joined["type"], "room.joined", "{joined}");
        joined["participant"].as_u64().expect("a number")
    }

    /// Waits until this happens in the room.
    async fn sees(&mut self, event: &str) -> Value {
        loop {
            let told = self.hears("room.event").await;
            if told["event"] == event {
                return told;
            }
        }
    }

    async fn does(&mut self, what: &str, mut fields: Value) -> Value {
        fields["type"] = format!("room.{what}").into();
        self.asks(fields).await
    }
}

#[actix_rt::test]
async fn the_host_lets_in_silences_removes_and_locks() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let room = ann.makes_a_room(json!({ "title": "Monday", "lobby": true, "max_participants": 2 })).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    anns.is_in(&room, "Ann").await;
    assert_eq!(bos.joins(&room, "Bo").await["type"], "room.waiting");
    let waiting = anns.sees("waiting").await;
    assert_eq!(waiting["waiting"], json!([{ "user": bo.id(), "name": "Bo" }]), "{waiting}");
    assert_eq!(anns.does("admit", json!({ "user": bo.id(), "admit": true })).await["type"], "ok");
    bos.sees("admitted").await;
    let bo_is = bos.is_in(&room, "Bo").await;
    assert_eq!(anns.sees("joined").await["participant"]["user"], bo.id());
    assert_eq!(cys.joins(&room, "Cy").await["code"], "room_full");

    // Two tracks of one person, one of each source; what nobody offered is not published.
    let tracks =
        json!({ "tracks": [{ "mid": "0", "source": "microphone" }, { "mid": "1", "source": "camera" }] });
    let published = bos.does("publish", tracks.clone()).await;
    assert_eq!(published["type"], "room.published", "{published}");
    assert_eq!(bos.does("publish", tracks).await["code"], "conflict");
    let microphone = published["tracks"][0]["track"].clone();
    anns.sees("published").await;
    assert_eq!(bos.does("lock", json!({ "locked": true })).await["code"], "forbidden");
    assert_eq!(bos.does("kick", json!({ "participant": 1 })).await["code"], "forbidden");
    assert_eq!(bos.does("admit", json!({ "user": cy.id(), "admit": true })).await["code"], "forbidden");
    assert_eq!(anns.does("mute", json!({ "track": microphone, "muted": true })).await["type"], "ok");
    assert_eq!(bos.sees("muted").await["track"], microphone);
    assert_eq!(anns.does("mute", json!({ "track": microphone, "muted": false })).await["code"], "forbidden");
    assert_eq!(bos.does("hand", json!({ "up": true })).await["type"], "ok");
    assert_eq!(anns.sees("hand").await["up"], true);
    assert_eq!(anns.does("role", json!({ "participant": bo_is, "role": "listener" })).await["type"], "ok");
    assert_eq!(bos.sees("role").await["role"], "listener");
    anns.sees("unpublished").await;

    assert_eq!(anns.does("kick", json!({ "participant": bo_is })).await["type"], "ok");
    assert_eq!(bos.sees("closed").await["reason"], "removed");
    assert_eq!(anns.sees("left").await["reason"], "removed");
    assert_eq!(bos.joins(&room, "Bo").await["code"], "removed");
    assert_eq!(anns.does("lobby", json!({ "on": false })).await["type"], "ok");
    assert_eq!(anns.does("lock", json!({ "locked": true })).await["type"], "ok");
    assert_eq!(cys.joins(&room, "Cy").await["code"], "room_locked");
    let shown = cy.gets(&format!("/v1/rooms/{room}")).await;
    assert_eq!(
        (&shown["locked"], &shown["lobby"], &shown["participants"]),
        (&json!(true), &json!(false), &json!(1))
    );
    // The same device from another connection takes its place over.
    let mut again = Device::returns(&app, &ann.session.token()).await.0;
    again.is_in(&room, "Ann").await;
    assert_eq!(cy.asks(Method::DELETE, &format!("/v1/rooms/{room}"), None).await.0, 403);
    assert_eq!(ann.asks(Method::DELETE, &format!("/v1/rooms/{room}"), None).await.0, 204);
    assert_eq!(again.sees("closed").await["reason"], "deleted");
    assert_eq!(again.joins(&room, "Ann").await["code"], "not_found");
}

#[actix_rt::test]
async fn a_room_its_host_has_left_has_another() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let room = ann.makes_a_room(json!({ "lobby": true })).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    anns.is_in(&room, "Ann").await;
    bos.joins(&room, "Bo").await;
    anns.sees("waiting").await;
    anns.does("admit", json!({ "user": bo.id(), "admit": true })).await;
    let bo_is = bos.is_in(&room, "Bo").await;
    // Cyril waits while the host goes: Bo, who is host then, hears of him and lets him in.
    assert_eq!(cys.joins(&room, "Cy").await["type"], "room.waiting");
    assert_eq!(anns.does("leave", json!({})).await["type"], "ok");
    let role = bos.sees("role").await;
    assert_eq!((&role["participant"], &role["role"]), (&json!(bo_is), &json!("host")), "{role}");
    assert_eq!(bos.sees("waiting").await["waiting"], json!([{ "user": cy.id(), "name": "Cy" }]));
    assert_eq!(bos.does("admit", json!({ "user": cy.id(), "admit": true })).await["type"], "ok");
    cys.is_in(&room, "Cy").await;
    // Who made the room is its host again.
    anns.is_in(&room, "Ann").await;
    assert_eq!(cys.sees("joined").await["participant"]["role"], "host");
}

#[actix_rt::test]
async fn who_leaves_while_coming_in_is_not_there() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let room = ann.makes_a_room(json!({})).await;
    let other = ann.makes_a_room(json!({})).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    anns.is_in(&room, "Ann").await;
    // One after the other without waiting, as a page that is closed while it joins.
    bos.tells(json!({ "ref": 901, "type": "room.join", "room": room, "offer": OFFER })).await;
    bos.tells(json!({ "ref": 902, "type": "room.leave", "room": room })).await;
    let mut answers = std::collections::HashMap::new();
    while answers.len() < 2 {
        if let Some(answer) = bos.takes().await {
            answers.insert(answer["ref"].as_u64().expect("a number"), answer);
        }
    }
    assert_eq!(answers[&902]["type"], "ok", "{answers:?}");
    let shown = bo.gets(&format!("/v1/rooms/{room}")).await;
    assert_eq!(shown["participants"], 1, "{shown} after {answers:?}");
    // To leave again, or another room than the one it is in, changes nothing.
    let is = bos.is_in(&room, "Bo").await;
    assert_eq!(bos.does("leave", json!({ "room": other })).await["type"], "ok");
    assert_eq!(bos.does("hand", json!({ "up": true })).await["type"], "ok", "{is} is still in");
    for _ in 0..2 {
        assert_eq!(bos.does("leave", json!({ "room": room })).await["type"], "ok");
    }
    assert_eq!(bos.does("leave", json!({})).await["code"], "conflict");
}

#[actix_rt::test]
async fn who_loses_the_connection_comes_back_to_the_same_place() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let room = ann.makes_a_room(json!({})).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let ann_is = anns.is_in(&room, "Ann").await;
    let bo_is = bos.is_in(&room, "Bo").await;
    let tracks = [json!({ "mid": "0", "source": "microphone" }), json!({ "mid": "1", "source": "camera" })];
    let published = bos.does("publish", json!({ "tracks": tracks })).await;
    assert_eq!(published["type"], "room.published", "{published}");
    let camera = published["tracks"][1]["track"].clone();
    let unwatched = (camera, Value::Null);
    let layers = bos.sees("layers").await;
    assert_eq!((layers["track"].clone(), layers["highest"].clone()), unwatched);
    bos.leaves().await;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let resumed = bos.does("join", json!({ "room": room, "resume": bo_is })).await;
    assert_eq!(
        (&resumed["type"], &resumed["participant"]),
        (&json!("room.joined"), &json!(bo_is)),
        "{resumed}"
    );
    assert_eq!(resumed["tracks"].as_array().map(Vec::len), Some(2), "what he publishes goes on");
    let layers = bos.sees("layers").await;
    assert_eq!((layers["track"].clone(), layers["highest"].clone()), unwatched, "he may have missed it");
    assert_eq!(resumed.get("answer"), None);
    // Over another network too: the offer is answered for the same place.
    let offered = bos.does("join", json!({ "room": room, "resume": bo_is, "offer": OFFER })).await;
    assert!(offered["answer"].as_str().is_some_and(|answer| answer.contains("a=ice-lite")), "{offered}");
    // Nobody takes another's place.
    let other = json!({ "room": room, "resume": ann_is });
    assert_eq!(bos.does("join", other).await["code"], "not_found");
    // He hears what happens from then on.
    assert_eq!(anns.does("hand", json!({ "up": true })).await["type"], "ok");
    assert_eq!(bos.sees("hand").await["participant"], ann_is);
}

#[actix_rt::test]
async fn a_room_of_a_conversation_is_for_its_members_and_blocks_hold() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let talk = ann.gathers(&[&bo], "us").await;
    let refused = cy.asks(Method::POST, "/v1/rooms", Some(json!({ "conversation_id": talk }))).await;
    assert_eq!(refused.1["code"], "not_a_member");
    let room = ann.makes_a_room(json!({ "conversation_id": talk })).await;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    bos.is_in(&room, "Bo").await;
    assert_eq!(cys.joins(&room, "Cy").await["code"], "not_a_member");
    let member = format!("/v1/conversations/{talk}/members/{}", bo.id());
    assert_eq!(ann.asks(Method::DELETE, &member, None).await.0, 204);
    assert_eq!(bos.sees("closed").await["reason"], "not_a_member");
    // In a room of her own whoever she blocks has to go, and does not come in.
    let room = ann.makes_a_room(json!({})).await;
    cys.is_in(&room, "Cy").await;
    assert_eq!(ann.asks(Method::PUT, &format!("/v1/users/{}/block", cy.id()), None).await.0, 204);
    assert_eq!(cys.sees("closed").await["reason"], "blocked");
    assert_eq!(cys.joins(&room, "Cy").await["code"], "unreachable");
}

#[actix_rt::test]
async fn a_direct_call_is_over_when_one_leaves() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let ringing = anns.calls(&talk).await;
    let (call, room) = (text(&ringing, "call"), text(&ringing, "room"));
    anns.is_in(&room, "Ann").await;
    // Whoever comes into the room of a call that rings for them has answered it.
    bos.is_in(&room, "Bo").await;
    anns.is_told(&call, "active").await;
    assert_eq!(bos.does("leave", json!({})).await["type"], "ok");
    assert_eq!(anns.is_told(&call, "ended").await["outcome"], "answered");
    assert_eq!(anns.sees("closed").await["reason"], "ended");
    assert_eq!(bos.joins(&room, "Bo").await["code"], "not_found");
    // Who hangs up before anybody has answered has given up.
    let ringing = anns.calls(&talk).await;
    anns.is_in(&text(&ringing, "room"), "Ann").await;
    anns.does("leave", json!({})).await;
    assert_eq!(bos.is_told(&text(&ringing, "call"), "ended").await["outcome"], "cancelled");
}

#[actix_rt::test]
async fn hostile_signalling_is_refused_by_name() {
    let app = TestApp::start_with(|config| config.chat.ws_user_requests_per_s = 0).await;
    let ann = Person::new(&app, "ann").await;
    let room = ann.makes_a_room(json!({})).await;
    let mut eves = Device::returns(&app, &ann.session.token()).await.0;
    // More than an offer may have, and still a message.
    let giant = "a".repeat(62 << 10);
    for (request, code) in [
        (json!({ "type": "room.join", "room": room }), "invalid_fields"),
        (json!({ "type": "room.join", "room": room, "offer": giant }), "invalid_fields"),
        (json!({ "type": "room.join", "room": room, "offer": "v=0" }), "invalid_fields"),
        (
            json!({ "type": "room.join", "room": room, "offer": OFFER, "name": "x".repeat(65) }),
            "invalid_fields",
        ),
        (
            json!({ "type": "room.join", "room": "room_01h455vb4pex5vsknk084sn02q", "offer": OFFER }),
            "not_found",
        ),
        (json!({ "type": "room.join", "room": ann.id(), "offer": OFFER }), "invalid_fields"),
        (json!({ "type": "room.join", "room": room, "resume": 7 }), "not_found"),
        (json!({ "type": "room.join", "room": room, "resume": -1 }), "invalid_fields"),
        (json!({ "type": "room.publish", "tracks": [] }), "conflict"),
        (json!({ "type": "room.offer", "offer": OFFER }), "conflict"),
        (json!({ "type": "room.mute", "track": 1, "muted": true }), "conflict"),
        (json!({ "type": "room.admit", "user": ann.id(), "admit": true }), "conflict"),
        (json!({ "type": "room.leave" }), "conflict"),
        (json!({ "type": "room.dance" }), "unknown_type"),
    ] {
        let answer = eves.asks(request.clone()).await;
        assert_eq!(answer["code"], code, "{request}: {answer}");
    }
    eves.is_in(&room, "Eve").await;
    for (request, code) in [
        (json!({ "type": "room.publish", "tracks": [{ "mid": "9", "source": "camera" }] }), "invalid_fields"),
        (json!({ "type": "room.publish", "tracks": [{ "mid": "0", "source": "smell" }] }), "invalid_fields"),
        (json!({ "type": "room.mute", "track": 99, "muted": true }), "not_found"),
        (json!({ "type": "room.unpublish", "track": 99 }), "not_found"),
        (json!({ "type": "room.kick", "participant": 99 }), "not_found"),
        (json!({ "type": "room.kick", "participant": 1 }), "forbidden"),
        (json!({ "type": "room.role", "participant": 1, "role": "king" }), "invalid_fields"),
        (
            json!({ "type": "room.view", "want": vec![json!({ "track": 1, "height": 90 }); 51] }),
            "invalid_fields",
        ),
        (json!({ "type": "room.view", "want": [{ "track": 1, "height": 9_000 }] }), "invalid_fields"),
        (json!({ "type": "room.view", "want": [{ "track": 1, "height": 90, "fps": 0 }] }), "invalid_fields"),
        (
            json!({ "type": "room.view", "want": [{ "track": 1, "height": 90, "priority": 256 }] }),
            "invalid_fields",
        ),
    ] {
        let answer = eves.asks(request.clone()).await;
        assert_eq!(answer["code"], code, "{request}: {answer}");
    }
    let view =
        json!({ "type": "room.view", "want": [{ "track": 1, "height": 90, "fps": 15, "priority": 255 }] });
    assert_eq!(eves.asks(view).await["type"], "ok");
    // A storm of joins is one participant, and then told to wait.
    let stormed = loop {
        let answer = eves.joins(&room, "Eve").await;
        if answer["type"] == "error" {
            break answer;
        }
    };
    assert_eq!(stormed["code"], "rate_limited", "{stormed}");
    assert!(stormed["retry_after_ms"].as_u64().is_some_and(|wait| (1..=2_000).contains(&wait)), "{stormed}");
    assert_eq!(ann.gets(&format!("/v1/rooms/{room}")).await["participants"], 1);
}

#[actix_rt::test]
async fn a_room_is_on_one_node_and_opened_on_another_when_that_dies() {
    let (redis, database, data) =
        (services::redis().await, services::database().await, tempfile::tempdir().unwrap());
    let database_url = database.options().to_url_lossy().to_string();
    let more =
        ["--database-url", &database_url, "--redis-url", &redis.url, "--redis-namespace", &redis.namespace];
    let there = Program::serve(data.path(), &more);
    let here = TestApp::start_with(|config| {
        config.database.database_url = Some(Secret::from(database_url.clone()));
        config.bus.redis_url = Some(Secret::from(redis.url.clone()));
        config.bus.redis_namespace = redis.namespace.clone();
    })
    .await;
    let there_at = there.ready["http"].as_str().unwrap().parse().unwrap();
    let (ann, bo) =
        (Person::new(&here, "ann").await, Person { app: &here, session: registers(&here, "bobo").await });
    let room = ann.makes_a_room(json!({})).await;
    // Whoever comes first brings the room to the node they are on.
    let mut anns = Device::dials(there_at, &ann.session.token()).await;
    anns.is_in(&room, "Ann").await;
    let mut bos = Device::returns(&here, &bo.session.token()).await.0;
    let moved = bos.joins(&room, "Bo").await;
    assert_eq!((&moved["type"], &moved["url"]), (&json!("room.moved"), &json!(there.url("http"))), "{moved}");
    let tablet = logs_in(&here, "bobo").await;
    let mut there_bos = Device::dials(there_at, &tablet.token()).await;
    there_bos.is_in(&room, "Bo").await;
    assert_eq!(anns.sees("joined").await["participant"]["user"], bo.id());

    let died = Instant::now();
    there.end(Signal::KILL);
    let joined = loop {
        let answer = bos.joins(&room, "Bo").await;
        match answer["type"].as_str() {
            Some("room.joined") => break answer,
            // Sent to where nobody is any more, or asked to wait: like a client, back in a moment.
            Some("room.moved" | "error") => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => panic!("{answer}"),
        }
        assert!(died.elapsed() < Duration::from_secs(20), "{answer}");
    };
    println!("in the room again {} ms after its node was killed", died.elapsed().as_millis());
    assert_eq!(joined["participants"].as_array().map(Vec::len), Some(1), "nobody is there as a ghost");
    let mut anns = Device::returns(&here, &ann.session.token()).await.0;
    anns.is_in(&room, "Ann").await;
    assert_eq!(bos.sees("joined").await["participant"]["role"], "host");
}

#[actix_rt::test]
async fn a_media_shard_that_panics_puts_everybody_out_and_lets_them_in_again_and_no_call_is_over() {
    let app = TestApp::start_with(|config| {
        config.rtc.rtc_shards = Some(1);
        config.rtc.rtc_fault_break = true;
    })
    .await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let ringing = anns.calls(&talk).await;
    let (call, room) = (text(&ringing, "call"), text(&ringing, "room"));
    assert_eq!(bos.answers("accept", &call).await["type"], "call.accepted");
    let before = [anns.is_in(&room, "Ann").await, bos.is_in(&room, "Bo").await];
    rustix::process::kill_process(rustix::process::getpid(), Signal::USR2).expect("a signal");
    for device in [&mut anns, &mut bos] {
        assert_eq!(device.sees("closed").await["reason"], "moved");
    }
    assert_eq!(app.metric("nova_rtc_shard_restarts_total").await, Some(1.0));
    assert_eq!(app.metric(r#"nova_rtc_failed_total{reason="moved"}"#).await, Some(2.0));
    let after = [anns.is_in(&room, "Ann").await, bos.is_in(&room, "Bo").await];
    assert!(after.iter().all(|participant| !before.contains(participant)), "{before:?} {after:?}");
    let shown = ann.gets(&format!("/v1/rooms/{room}")).await;
    assert_eq!(shown["participants"], 2, "{shown}");
    assert_eq!(anns.calls(&talk).await["call"], call, "it goes on");
    let ready = app.http.get(app.at("/readyz")).send().await.expect("answers");
    assert_eq!(ready.json::<Value>().await.expect("JSON")["status"], "ready");
}
