//! Calls in conversations over the socket: ringing, answering, missing, on several devices and several nodes.

use nova::app::App;
use nova::config::Secret;
use reqwest::Method;
use serde_json::{Value, json};

use crate::accounts::{logs_in, registers};
use crate::app::{TestApp, config, eventually};
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;
use crate::services;

impl Device {
    pub async fn calls(&mut self, conversation: &str) -> Value {
        self.asks(json!({ "type": "call.start", "conversation": conversation, "media": "video" })).await
    }

    pub async fn answers(&mut self, what: &str, call: &str) -> Value {
        self.asks(json!({ "type": format!("call.{what}"), "call": call })).await
    }

    /// Waits until it is told that a call is so.
    pub async fn is_told(&mut self, call: &str, state: &str) -> Value {
        loop {
            let told = self.hears("call").await;
            if told["call"] == call && told["state"] == state {
                return told;
            }
        }
    }

    /// How calls stand in the log, as this device was shown it, once so many entries tell of them.
    async fn log_of_calls(&mut self, len: usize) -> Vec<(String, String)> {
        loop {
            let calls: Vec<_> = self.entries.iter().filter(|entry| entry["kind"] == "call").collect();
            if calls.len() >= len {
                let words = |body: &Value, field: &str| body[field].as_str().unwrap_or_default().to_owned();
                return calls
                    .iter()
                    .map(|entry| (words(&entry["body"], "state"), words(&entry["body"], "outcome")))
                    .collect();
            }
            self.takes().await;
        }
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(state, outcome)| ((*state).to_owned(), (*outcome).to_owned())).collect()
}

/// Lets the time pass for which calls ring.
async fn rings_long_enough(app: &TestApp) {
    sqlx::query("UPDATE calls SET started_at = started_at - interval '1 minute', ring_until = ring_until - interval '1 minute'")
        .execute(app.engine.store.pool())
        .await
        .expect("time passes");
}

#[actix_rt::test]
async fn it_rings_on_every_device_and_stops_when_one_answers() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let tablet = logs_in(&app, "bobo").await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut phone = Device::returns(&app, &bo.session.token()).await.0;
    let ringing = anns.calls(&talk).await;
    assert_eq!(
        (&ringing["type"], &ringing["state"]),
        (&json!("call.ringing"), &json!("ringing")),
        "{ringing}"
    );
    let call = text(&ringing, "call");
    assert_eq!(phone.is_told(&call, "ringing").await["caller"], ann.id());
    // A device that connects while it rings rings too.
    let mut second = Device::returns(&app, &tablet.token()).await.0;
    second.is_told(&call, "ringing").await;
    let accepted = phone.answers("accept", &call).await;
    assert_eq!(
        (&accepted["type"], &accepted["room"]),
        (&json!("call.accepted"), &ringing["room"]),
        "{accepted}"
    );
    let told = second.is_told(&call, "active").await;
    assert_eq!(
        (&told["answered_by"], &told["answered_on"]),
        (&json!(bo.id()), &json!(bo.session.text("device_id")))
    );
    anns.is_told(&call, "active").await;
    assert_eq!(second.answers("accept", &call).await["code"], "answered_elsewhere");
    assert_eq!(
        phone.answers("accept", &call).await["type"],
        "call.accepted",
        "a lost answer is asked for again"
    );
    assert_eq!(anns.answers("cancel", &call).await["code"], "conflict");
    // Who calls again where a call goes on is in that one.
    assert_eq!(anns.calls(&talk).await["call"], call);
    assert_eq!(phone.log_of_calls(2).await, pairs(&[("ringing", ""), ("active", "")]));
    // A block ends it, and the log says so although nobody may write there any more.
    assert_eq!(bo.asks(Method::PUT, &format!("/v1/users/{}/block", ann.id()), None).await.0, 204);
    assert_eq!(anns.is_told(&call, "ended").await["outcome"], "answered");
    assert_eq!(anns.log_of_calls(3).await[2], ("ended".to_owned(), "answered".to_owned()));
    assert_eq!(anns.calls(&talk).await["code"], "unreachable");
}

#[actix_rt::test]
async fn a_missed_call_waits_for_who_was_away() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let cancelled = text(&anns.calls(&talk).await, "call");
    assert_eq!(anns.answers("cancel", &cancelled).await["type"], "ok");
    let missed = text(&anns.calls(&talk).await, "call");
    rings_long_enough(&app).await;
    assert_eq!(anns.is_told(&missed, "ended").await["outcome"], "missed");
    let (mut bos, waited) = Device::returns(&app, &bo.session.token()).await;
    assert_eq!(waited, 4, "two calls, each of which began and ended");
    let log = pairs(&[("ringing", ""), ("ended", "cancelled"), ("ringing", ""), ("ended", "missed")]);
    assert_eq!(bos.log_of_calls(4).await, log);
    assert_eq!(bos.answers("accept", &missed).await["code"], "call_over");
    // Something he is told comes after it: what should not ring would have been told before.
    bos.says(&talk, "sorry").await;
    assert!(bos.pushes.iter().all(|push| push["type"] != "call"), "{:?}", bos.pushes);
    assert_eq!(ann.inbox(&talk).await.unwrap()["unread"], 1, "her own calls are no news to her");
    let calls =
        async || app.metric("nova_calls_total{outcome=\"missed\"}").await.filter(|calls| *calls == 1.0);
    eventually("it is counted", calls).await;
}

#[actix_rt::test]
async fn a_group_is_called_until_one_answers_or_all_have_declined() {
    let app = TestApp::start().await;
    let (ann, bo, cy, dee) = (
        Person::new(&app, "ann").await,
        Person::new(&app, "bobo").await,
        Person::new(&app, "cyril").await,
        Person::new(&app, "deedee").await,
    );
    let talk = ann.gathers(&[&bo, &cy, &dee], "us").await;
    // Dee wants nothing of Ann: her devices do not ring.
    assert_eq!(dee.asks(Method::PUT, &format!("/v1/users/{}/block", ann.id()), None).await.0, 204);
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    let mut dees = Device::returns(&app, &dee.session.token()).await.0;
    let call = text(&anns.calls(&talk).await, "call");
    for device in [&mut bos, &mut cys] {
        device.is_told(&call, "ringing").await;
    }
    assert_eq!(bos.answers("decline", &call).await["type"], "ok");
    let told = cys.is_told(&call, "ringing").await;
    assert_eq!(told["declined"], json!([bo.id()]), "it rings on for Cy");
    assert_eq!(cys.answers("decline", &call).await["type"], "ok");
    assert_eq!(anns.is_told(&call, "ended").await["outcome"], "declined");
    // Two who call at the same moment are in one call.
    let call = text(&bos.calls(&talk).await, "call");
    let joined = cys.calls(&talk).await;
    assert_eq!((&joined["call"], &joined["state"]), (&json!(call), &json!("active")), "{joined}");
    assert_eq!(anns.answers("accept", &call).await["type"], "call.accepted", "in a group others join later");
    // Dee, who came later, finds it in the conversation.
    let found = dee.gets(&format!("/v1/conversations/{talk}/call")).await;
    assert_eq!((&found["id"], &found["state"]), (&json!(call), &json!("active")), "{found}");
    assert_eq!(dees.log_of_calls(4).await[2..], pairs(&[("ringing", ""), ("active", "")]));
    let stranger = Person::new(&app, "eve").await;
    let mut eves = Device::returns(&app, &stranger.session.token()).await.0;
    assert_eq!(eves.answers("accept", &call).await["code"], "not_found");
    assert_eq!(eves.calls(&talk).await["code"], "not_a_member");
    for hostile in [
        json!({ "type": "call.start", "conversation": talk }),
        json!({ "type": "call.start", "conversation": talk, "media": "hologram" }),
        json!({ "type": "call.accept", "call": "call_1" }),
        json!({ "type": "call.accept", "call": talk }),
        json!({ "type": "call.cancel", "call": call, "more": 1 }),
        json!({ "type": "call.decline" }),
    ] {
        assert_eq!(eves.asks(hostile.clone()).await["code"], "invalid_fields", "{hostile}");
    }
    assert_eq!(eves.asks(json!({ "type": "call.hold", "call": call })).await["code"], "unknown_type");
}

#[actix_rt::test]
async fn calls_cross_nodes_and_a_node_that_dies_leaves_nothing_ringing() {
    let redis = services::redis().await;
    let here = TestApp::start_with(|config| {
        config.bus.redis_url = Some(Secret::from(redis.url.clone()));
        config.bus.redis_namespace = redis.namespace.clone();
    })
    .await;
    let (database, bus) = (here.engine.config.database.clone(), here.engine.config.bus.clone());
    let there = TestApp::start_with(|config| {
        config.database = database;
        config.bus = bus;
    })
    .await;
    let (ann, bo) =
        (Person::new(&there, "ann").await, Person { app: &here, session: registers(&here, "bobo").await });
    let talk = ann.writes_to(&bo).await;
    let mut anns = Device::returns(&there, &ann.session.token()).await.0;
    let mut bos = Device::returns(&here, &bo.session.token()).await.0;
    let call = text(&anns.calls(&talk).await, "call");
    bos.is_told(&call, "ringing").await;
    assert_eq!(bos.answers("decline", &call).await["type"], "ok");
    assert_eq!(anns.is_told(&call, "ended").await["outcome"], "declined");
    // Ann's node goes while it rings; the other ends it.
    let call = text(&anns.calls(&talk).await, "call");
    bos.is_told(&call, "ringing").await;
    drop(anns);
    there.stop();
    rings_long_enough(&here).await;
    assert_eq!(bos.is_told(&call, "ended").await["outcome"], "missed");
    let log = bos.log_of_calls(4).await;
    assert_eq!(log[3], ("ended".to_owned(), "missed".to_owned()), "{log:?}");
}

#[actix_rt::test]
async fn a_media_port_another_engine_shares_among_its_shards_is_taken() {
    let taken = nova::rtc::sockets::open("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.rtc.rtc_addr = taken[0].local_addr().unwrap();
    let address = config.rtc.rtc_addr;
    let Err(refused) = App::build(config).await else { panic!("two engines are on one port") };
    let said = refused.to_string();
    assert!(said.starts_with(&format!("cannot listen on {address}: ")), "{said}");
    assert!(said.contains("--rtc-addr"), "{said}");
}
