//! Conversations over the socket: offline queues, resuming, several devices, several nodes.

mod device;

use std::time::Duration;

use futures_util::StreamExt as _;
use nova::config::Secret;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use tokio_tungstenite::tungstenite::Message;

use crate::accounts::{logs_in, registers};
use crate::app::TestApp;
use crate::chat_people::{Person, text};
use crate::program::Program;
use crate::services::{self, Redis};

pub use device::Device;

#[actix_rt::test]
async fn what_bo_missed_waits_for_him_and_waits_no_more_once_he_has_it() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let (mut anns, waited) = Device::returns(&app, &ann.session.token()).await;
    assert_eq!(waited, 0);
    // She is connected when the conversation begins.
    let talk = ann.writes_to(&bo).await;
    anns.says(&talk, "hello").await;
    ann.says(&talk, "over REST").await;
    anns.has_read_in_order(&["hello", "over REST"]).await;
    let (mut bos, waited) = Device::returns(&app, &bo.session.token()).await;
    assert_eq!(waited, 2, "his queue began when he logged in, though his first socket opens now");
    bos.has_read_in_order(&["hello", "over REST"]).await;
    bos.says(&talk, "hello Ann").await;
    anns.has_read_in_order(&["hello", "over REST", "hello Ann"]).await;
    bos.has_numbers_up_to(&talk, 3).await;
    bos.acks(&talk, 3).await;
    let receipt = loop {
        let receipt = anns.hears("receipt").await;
        if receipt["user"] == bo.id() {
            break receipt;
        }
    };
    assert_eq!(receipt["delivered"], 3, "{receipt}");
    bos.leaves().await;
    anns.says(&talk, "gone?").await;
    let (mut bos, waited) = Device::returns(&app, &bo.session.token()).await;
    assert_eq!(waited, 1);
    bos.has_read_in_order(&["gone?"]).await;
    assert_eq!(bos.asks(json!({ "type": "read", "conversation": talk, "seq": 4 })).await["type"], "ok");
    assert_eq!(anns.hears("receipt").await["read"], 4);
    bos.tells(json!({ "type": "typing", "conversation": talk, "on": true })).await;
    assert_eq!(anns.hears("typing").await["user"], bo.id());
}

#[actix_rt::test]
async fn a_lost_answer_and_five_retries_are_one_entry() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let mut device = Device::connects(&app, &ann.session.token()).await;
    // The answer never comes to her: the connection ends first.
    device
        .tells(
            json!({ "type": "send", "ref": 9, "conversation": talk, "client_msg_id": "m1", "text": "once" }),
        )
        .await;
    drop(device);
    crate::app::eventually("it is written", async || {
        bo.inbox(&talk).await.filter(|line| line["last_seq"] == 1)
    })
    .await;
    for _ in 0..5 {
        let (mut device, _) = Device::returns(&app, &ann.session.token()).await;
        let sent = device.sends(&talk, "m1", "once").await;
        assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(true)), "{sent}");
        let other = device.sends(&talk, "m1", "twice").await;
        assert_eq!(other["code"], "idempotency_mismatch", "{other}");
        device.leaves().await;
    }
    bo.has_read_in_order(&talk, &["once"]).await;
}

#[actix_rt::test]
async fn every_device_of_a_user_has_everything_each_with_its_own_queue() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    ann.says(&talk, "before the tablet").await;
    let tablet = logs_in(&app, "bobo").await;
    let mut phone = Device::returns(&app, &bo.session.token()).await.0;
    phone.has_read_in_order(&["before the tablet"]).await;
    phone.says(&talk, "from the phone").await;
    let (mut tablet, waited) = Device::returns(&app, &tablet.token()).await;
    assert_eq!(waited, 1, "what was said before it logged in is history");
    tablet.has_read_in_order(&["from the phone"]).await;
    tablet.says(&talk, "from the tablet").await;
    phone.has_read_in_order(&["before the tablet", "from the phone", "from the tablet"]).await;
    let pull = json!({ "type": "pull", "conversation": talk, "epoch": 1, "after": 0, "limit": 10 });
    let pulled = tablet.asks(pull).await;
    assert_eq!((&pulled["recovered"], &pulled["top"]), (&json!(true), &json!(3)), "{pulled}");
    assert_eq!(pulled["entries"][0]["body"]["text"], "before the tablet");
    let other = json!({ "type": "pull", "conversation": talk, "epoch": 2, "after": 0, "limit": 10 });
    assert_eq!(tablet.asks(other).await["recovered"], false, "another history is not continued");
}

#[actix_rt::test]
async fn who_comes_in_follows_at_once_and_who_is_out_hears_of_it_last() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let talk = ann.gathers(&[&bo], "us").await;
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    ann.says(&talk, "without Cy").await;
    let member = format!("/v1/conversations/{talk}/members/{}", cy.id());
    assert_eq!(ann.asks(Method::PUT, &member, Some(json!({}))).await.0, 204);
    ann.says(&talk, "with Cy").await;
    assert_eq!(cys.has_numbers_up_to(&talk, 4).await, [3, 4]);
    assert_eq!(cys.entries[0]["body"]["action"], "added");
    // A place that is not for Cy is not shown to him, also not live.
    let place = json!({ "latitude": 1.5, "longitude": 2.5, "scope": "members", "members": [bo.id()] });
    assert_eq!(ann.sends(&talk, "here", json!({ "location": place })).await.0, 201);
    cys.has_numbers_up_to(&talk, 5).await;
    assert_eq!(cys.entries[2]["body"], json!({ "hidden": true }));
    assert_eq!(ann.asks(Method::DELETE, &member, None).await.0, 204);
    cys.has_numbers_up_to(&talk, 6).await;
    assert_eq!(cys.entries[3]["body"]["action"], "removed");
    ann.says(&talk, "again without Cy").await;
    assert_eq!(cys.sends(&talk, "m", "hello?").await["code"], "not_a_member");
    // Something he does follow comes after it: what he should not hear would have come before.
    let other = cy.writes_to(&bo).await;
    cy.says(&other, "bye").await;
    cys.has_numbers_up_to(&other, 1).await;
    assert_eq!(cys.has_numbers_up_to(&talk, 6).await, [3, 4, 5, 6]);
}

#[actix_rt::test]
async fn more_than_a_thousand_are_a_gap_to_be_pulled() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let journal = app.engine.conversations.clone();
    let (of, sender) = (talk.parse().unwrap(), ann.id().parse().unwrap());
    let message = |number: u64| {
        nova::conversations::draft::Draft::Message(nova::conversations::draft::Message {
            text: Some(format!("number {number}")),
            ..Default::default()
        })
    };
    for number in 0..1_001_u64 {
        journal.send(of, sender, &format!("m{number}"), &message(number)).await.unwrap();
    }
    let (mut bos, waited) = Device::returns(&app, &bo.session.token()).await;
    assert_eq!(waited, 0);
    assert_eq!(app.metric("nova_ws_resumes_total{outcome=\"gap\"}").await, Some(1.0));
    let gap = bos.hears("gap").await;
    assert_eq!((&gap["from"], &gap["to"]), (&json!(1), &json!(1_001)), "{gap}");
    ann.says(&talk, "after the gap").await;
    assert_eq!(bos.has_numbers_up_to(&talk, 1_002).await, [1_002]);
    let pull = json!({ "type": "pull", "conversation": talk, "epoch": 1, "after": 0, "limit": 500 });
    assert_eq!(bos.asks(pull).await["entries"].as_array().unwrap().len(), 500);
}

#[actix_rt::test]
async fn a_reader_that_stops_is_sent_away_nobody_else_notices_and_it_recovers_everything() {
    /// More than an outbox and what the kernel holds for somebody who takes nothing; the test ends as soon as it is full.
    const SAID_MAX: u64 = 900;
    let app = TestApp::start_with(|config| {
        (config.chat.ws_requests_per_s, config.chat.ws_user_requests_per_s) = (0, 0);
    })
    .await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let mut others = Vec::new();
    for number in 0..6 {
        others.push(Person::new(&app, &format!("other{number}")).await);
    }
    let all: Vec<&Person<'_>> = std::iter::once(&bo).chain(&others).collect();
    let talk = ann.gathers(&all, "many").await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut readers = Vec::new();
    for other in &others {
        readers.push(Device::returns(&app, &other.session.token()).await.0);
    }
    let (mut stopped, _) = Device::returns(&app, &bo.session.token()).await;
    let words = "x".repeat(30_000);
    let sent_away = async || app.metric("nova_ws_goodbyes_total{code=\"4001\"}").await == Some(1.0);
    let mut top = 1;
    while !sent_away().await {
        assert!(top < SAID_MAX, "whoever takes nothing is sent away");
        top = anns.says(&talk, &words).await;
        // The others have it as soon as it was said.
        for reader in &mut readers {
            assert_eq!(reader.has_numbers_up_to(&talk, top).await.last(), Some(&top));
        }
    }
    for mut reader in readers {
        assert_eq!(
            reader.has_numbers_up_to(&talk, top).await,
            (1..=top).collect::<Vec<_>>(),
            "nobody else noticed"
        );
        reader.leaves().await;
    }
    // What he still reads is in order, and ends with the reason.
    let goodbye = stopped.hears("goodbye").await;
    assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4001), &json!(true)), "{goodbye}");
    let seen = stopped.entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    let last = seen.len() as u64;
    assert!(last < top, "he was behind");
    let (mut back, waited) = Device::returns(&app, &bo.session.token()).await;
    assert_eq!(waited, top, "he acknowledged nothing");
    assert_eq!(back.has_numbers_up_to(&talk, top).await, (1..=top).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn where_a_device_was_is_forgotten_when_it_was_not_seen_for_sixty_days() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    ann.says(&talk, "one").await;
    ann.says(&talk, "two").await;
    let mut device = Device::returns(&app, &bo.session.token()).await.0;
    device.acks(&talk, 2).await;
    device.leaves().await;
    let acked = async || {
        let cursors = sqlx::query_scalar("SELECT count(*) FROM device_cursors WHERE seq = 2");
        let cursors: i64 = cursors.fetch_one(app.engine.store.pool()).await.unwrap();
        (cursors == 1).then_some(())
    };
    crate::app::eventually("what was acknowledged is written", acked).await;
    let store = &app.engine.store;
    let sixty_days_ago = time::OffsetDateTime::now_utc() - time::Duration::days(60);
    assert_eq!(store.sweep_cursors(sixty_days_ago).await.unwrap(), 0, "it was here today");
    let aged = sqlx::query("UPDATE devices SET last_seen_at = now() - interval '61 days' WHERE user_id = $1");
    let user: nova_actors::id::UserId = bo.id().parse().unwrap();
    aged.bind(user.as_uuid()).execute(store.pool()).await.unwrap();
    assert_eq!(store.sweep_cursors(sixty_days_ago).await.unwrap(), 1);
    let (mut device, waited) = Device::returns(&app, &bo.session.token()).await;
    assert_eq!(waited, 2, "its queue begins where it logged in");
    device.has_read_in_order(&["one", "two"]).await;
}

#[actix_rt::test]
async fn after_a_restore_devices_are_told_to_read_anew() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    ann.says(&talk, "kept").await;
    let mut device = Device::returns(&app, &bo.session.token()).await.0;
    let pull =
        |epoch: u64| json!({ "type": "pull", "conversation": talk, "epoch": epoch, "after": 1, "limit": 10 });
    assert_eq!(device.asks(pull(1)).await["recovered"], true);
    // As it is after a backup was put back: what was said since is gone, and its numbers are given out again.
    let store = &app.engine.store;
    let now = time::OffsetDateTime::now_utc();
    let (epoch, changed) = store.begin_epoch(now).await.unwrap();
    assert_eq!(changed, 1);
    let pulled = device.asks(pull(1)).await;
    assert_eq!((&pulled["recovered"], &pulled["epoch"]), (&json!(false), &json!(epoch)), "{pulled}");
    assert_eq!(ann.says(&talk, "said anew").await, 2);
    device.has_numbers_up_to(&talk, 2).await;
    assert_eq!(device.entries.last().unwrap()["epoch"], epoch);
    assert_eq!(bo.inbox(&talk).await.unwrap()["epoch"], epoch);
    // The same backup put back once more gives another epoch, also within the same second.
    assert!(
        store.begin_epoch(now).await.unwrap().1 == 1 && bo.inbox(&talk).await.unwrap()["epoch"] == epoch + 1
    );
}

#[actix_rt::test]
async fn resuming_while_others_keep_sending_leaves_no_hole_and_no_repeat() {
    const EACH: u64 = 150;
    let app = TestApp::start_with(|config| {
        (config.chat.ws_requests_per_s, config.chat.ws_user_requests_per_s) = (0, 0);
        config.chat.ws_ip_connects_per_s = 0;
    })
    .await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let talk = ann.gathers(&[&bo, &cy], "us").await;
    let speak = async |person: &Person<'_>| {
        let mut device = Device::returns(&app, &person.session.token()).await.0;
        for number in 0..EACH {
            device.says(&talk, &format!("number {number}")).await;
        }
    };
    let top = 1 + 2 * EACH;
    let listen = async {
        let mut seen = 0;
        while seen < top {
            // He comes, reads a little, says how far he is, and is gone.
            let mut device = Device::connects(&app, &bo.session.token()).await;
            let seqs = device.has_numbers_up_to(&talk, (seen + 7).min(top)).await;
            let first = seqs[0];
            assert!(first <= seen + 1, "a hole between {seen} and {first}");
            assert_eq!(seqs, (first..first + seqs.len() as u64).collect::<Vec<_>>(), "in order, once");
            seen = *seqs.last().unwrap();
            device.acks(&talk, seen).await;
            device.leaves().await;
        }
    };
    tokio::join!(speak(&ann), speak(&cy), listen);
}

#[actix_rt::test]
async fn two_nodes_show_one_order_also_when_redis_dies_between_them() {
    const EACH: u64 = 40;
    let (database, mut redis) = (services::database().await, Redis::start());
    let (database_url, redis_url) = (database.options().to_url_lossy().to_string(), redis.url());
    let node = || {
        let (database_url, redis_url) = (database_url.clone(), redis_url.clone());
        TestApp::start_with(move |config| {
            config.database.database_url = Some(Secret::from(database_url));
            config.bus.redis_url = Some(Secret::from(redis_url));
            config.bus.redis_namespace = "two".to_owned();
        })
    };
    let (here, there) = (node().await, node().await);
    let (ann, bo) =
        (Person::new(&here, "ann").await, Person { app: &there, session: registers(&there, "bobo").await });
    let talk = ann.writes_to(&bo).await;
    let mut anns = Device::returns(&here, &ann.session.token()).await.0;
    let mut bos = Device::returns(&there, &bo.session.token()).await.0;
    let speak = async |device: &mut Device| {
        for number in 0..EACH {
            device.says(&talk, &format!("number {number}")).await;
        }
    };
    tokio::join!(speak(&mut anns), speak(&mut bos));
    for device in [&mut anns, &mut bos] {
        assert_eq!(device.has_numbers_up_to(&talk, 2 * EACH).await, (1..=2 * EACH).collect::<Vec<_>>());
    }
    assert_eq!(
        anns.entries.iter().map(|entry| &entry["client_msg_id"]).collect::<Vec<_>>(),
        bos.entries.iter().map(|entry| &entry["client_msg_id"]).collect::<Vec<_>>()
    );
    // Without the bus everything is still written, and shown where it was said.
    redis.kill();
    for number in 0..EACH {
        anns.says(&talk, &format!("alone {number}")).await;
    }
    let top = 3 * EACH;
    assert_eq!(anns.has_numbers_up_to(&talk, top).await, (1..=top).collect::<Vec<_>>());
    redis.revive();
    // The other node finds what it did not hear: after the gap the bus tells of, or by comparing.
    assert_eq!(bos.has_numbers_up_to(&talk, top).await, (1..=top).collect::<Vec<_>>());
    // A receipt is said once and not repeated: it crosses when both nodes are back on the bus.
    for node in [&here, &there] {
        let mut bus = node.engine.bus.health();
        let back = bus.wait_for(|bus| bus.connected);
        tokio::time::timeout(Duration::from_secs(20), back)
            .await
            .expect("the bus is back")
            .expect("it lives");
    }
    // Bo goes to the other node: nothing is lost, nothing comes twice.
    bos.acks(&talk, top).await;
    anns.hears("receipt").await;
    let acked = async || {
        let path = format!("/v1/conversations/{talk}/members");
        let members = ann.gets(&path).await;
        let line = members["items"].as_array()?.iter().find(|line| line["user"] == bo.id())?.clone();
        (line["delivered_seq"] == top).then_some(())
    };
    crate::app::eventually("what Bo acknowledged is written", acked).await;
    bos.leaves().await;
    anns.says(&talk, "where are you?").await;
    let (mut bos, waited) = Device::returns(&here, &bo.session.token()).await;
    assert_eq!((waited, text(&bos.entries[0]["body"], "text")), (1, "where are you?".to_owned()));
    assert_eq!(bos.has_numbers_up_to(&talk, top + 1).await, [top + 1]);
}

/// Posts to a program that runs beside the test.
async fn post(url: String, token: Option<&str>, body: Value) -> Value {
    nova::app::use_ring();
    let mut request = reqwest::Client::new().post(url).json(&body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("an answer").json().await.expect("JSON")
}

#[actix_rt::test]
async fn what_was_sent_before_a_kill_9_is_there_once() {
    let data = tempfile::tempdir().expect("a directory");
    let limits = ["--ws-requests-per-s", "0", "--ws-user-requests-per-s", "0"];
    let engine = Program::serve(data.path(), &limits);
    let url = |engine: &Program, path: &str| format!("{}{path}", engine.url("http"));
    let addr = |engine: &Program| engine.ready["http"].as_str().unwrap().parse().unwrap();
    let mut people = Vec::new();
    for name in ["ann", "bobo"] {
        let account = json!({ "username": name, "email": format!("{name}@example.org"), "password": crate::accounts::PASSWORD });
        people.push(post(url(&engine, "/v1/accounts"), None, account).await);
    }
    let token = |person: usize| text(&people[person], "access_token");
    let body = json!({ "kind": "direct", "members": [people[1]["user"]["id"]] });
    let talk = text(&post(url(&engine, "/v1/conversations"), Some(&token(0)), body).await, "id");
    let send = |number: u64| {
        json!({ "type": "send", "ref": 100 + number, "conversation": talk,
                "client_msg_id": format!("m{number}"), "text": format!("number {number}") })
    };
    let mut ann = Device::dials(addr(&engine), &token(0)).await;
    for number in 0..200 {
        ann.tells(send(number)).await;
    }
    // Some are answered, others are anywhere between her and the disk.
    let mut sent = Vec::new();
    while sent.len() < 50 {
        if let Some(answer) = ann.takes().await {
            assert_eq!(answer["type"], "sent", "{answer}");
            sent.push((answer["client_msg_id"].clone(), answer["seq"].clone()));
        }
    }
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&engine.end(Signal::KILL)), Some(9));
    drop(ann);

    let engine = Program::serve(data.path(), &limits);
    let mut ann = Device::dials(addr(&engine), &token(0)).await;
    for number in 0..200 {
        ann.tells(send(number)).await;
    }
    let mut again = Vec::new();
    while again.len() < 200 {
        if let Some(answer) = ann.takes().await {
            assert_eq!(answer["type"], "sent", "{answer}");
            again.push((answer["client_msg_id"].clone(), answer["seq"].clone()));
        }
    }
    for acknowledged in &sent {
        assert!(again.contains(acknowledged), "{acknowledged:?} was acknowledged and is not where it was");
    }
    let mut bo = Device::dials(addr(&engine), &token(1)).await;
    assert_eq!(bo.has_numbers_up_to(&talk, 200).await, (1..=200).collect::<Vec<_>>());
    let ids: std::collections::HashSet<_> =
        bo.entries.iter().map(|entry| entry["client_msg_id"].to_string()).collect();
    assert_eq!(ids.len(), 200, "each once");
    // Leaving politely, it tells its sockets when to come back.
    let left = tokio::task::spawn_blocking(move || engine.end(Signal::TERM));
    let goodbye = bo.hears("goodbye").await;
    assert_eq!((&goodbye["code"], &goodbye["reconnect"]), (&json!(4000), &json!(true)), "{goodbye}");
    assert!(matches!(bo.socket.next().await, Some(Ok(Message::Close(_)))));
    drop(bo);
    drop(ann);
    assert!(left.await.expect("no panic").success());
}
