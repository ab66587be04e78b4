//! Who is here: told to those who watch, over all nodes, and to nobody whom a block is between.

use std::time::Duration;

use nova::config::Secret;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;

use crate::accounts::{logs_in, registers};
use crate::app::{TestApp, eventually};
use crate::chat_people::Person;
use crate::chat_socket::Device;
use crate::program::Program;
use crate::services::{self, Redis};

impl Device {
    /// Watches somebody from now on; how they are.
    async fn watches(&mut self, user: &str) -> Value {
        let answer = self.asks(json!({ "type": "presence", "watch": [user] })).await;
        assert_eq!(answer["type"], "presence", "{answer}");
        answer["users"][0].clone()
    }

    /// The next that is told of somebody.
    async fn hears_of(&mut self, user: &str) -> Value {
        loop {
            let push = self.hears("presence").await;
            if push["user"] == user {
                return push;
            }
        }
    }
}

/// One second to linger, three for a node to be dead.
fn quick(config: &mut nova::config::Config) {
    (config.chat.presence_linger_s, config.chat.presence_lease_s) = (1, 3);
}

#[actix_rt::test]
async fn ann_sees_bo_come_and_go_and_when_he_was_last_here() {
    let app = TestApp::start_with(quick).await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let (token, bo_id) = (bo.session.token(), bo.id());
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    assert_eq!(anns.watches(&bo_id).await, json!({ "user": bo_id, "state": "offline" }), "he was never here");
    let bos = Device::returns(&app, &token).await.0;
    assert_eq!(anns.hears_of(&bo_id).await["state"], "online");
    bos.leaves().await;
    let gone = anns.hears_of(&bo_id).await;
    assert_eq!(gone["state"], "offline");
    assert!(gone["last_seen"].is_string(), "{gone}");
    // Whoever asks is told what those who watched were told.
    let mut again = Device::returns(&app, &logs_in(&app, "ann").await.token()).await.0;
    let asked = again.watches(&bo_id).await;
    assert_eq!((&asked["state"], &asked["last_seen"]), (&gone["state"], &gone["last_seen"]));
    // Watching somebody else ends it.
    again.watches(&ann.id()).await;
    let _bos = Device::returns(&app, &token).await.0;
    assert_eq!(anns.hears_of(&bo_id).await["state"], "online");
    again.asks(json!({ "type": "ping" })).await;
    assert!(again.pushes.iter().all(|push| push["user"] != bo_id), "{:?}", again.pushes);
    let many: Vec<_> = (0..201).map(|_| nova_actors::id::UserId::generate().to_string()).collect();
    assert_eq!(again.asks(json!({ "type": "presence", "watch": many })).await["code"], "invalid_fields");
}

#[actix_rt::test]
async fn old_socket_closes_after_the_new_one_opened_user_stays_online() {
    let app = TestApp::start_with(quick).await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let old = Device::returns(&app, &bo.session.token()).await.0;
    assert_eq!(anns.watches(&bo.id()).await["state"], "online");
    // The same device again, which ends the old connection; then another device, before that ends.
    let mut new = Device::returns(&app, &bo.session.token()).await.0;
    drop(old);
    let mut tablet = Device::returns(&app, &logs_in(&app, "bobo").await.token()).await.0;
    new.asks(json!({ "type": "ping" })).await;
    new.leaves().await;
    // Longer than he would linger.
    let cy = Person::new(&app, "cyril").await;
    let cys = Device::returns(&app, &cy.session.token()).await.0;
    let watch = json!({ "type": "presence", "watch": [bo.id(), cy.id()] });
    assert_eq!(anns.asks(watch).await["users"][1]["state"], "online");
    cys.leaves().await;
    assert_eq!(anns.hears("presence").await["user"], cy.id(), "Cy left later and is gone, Bo is not");
    tablet.asks(json!({ "type": "ping" })).await;
    assert!(anns.pushes.iter().all(|push| push["type"] != "presence"), "{:?}", anns.pushes);
    assert_eq!(anns.watches(&bo.id()).await["state"], "online");
}

#[actix_rt::test]
async fn a_block_hides_both_from_each_other_at_once() {
    let app = TestApp::start_with(quick).await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let cy = Person::new(&app, "cyril").await;
    let talk = ann.gathers(&[&bo, &cy], "us").await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    assert_eq!(anns.watches(&bo.id()).await["state"], "online");
    assert_eq!(bos.watches(&ann.id()).await["state"], "online");
    let block = format!("/v1/users/{}/block", bo.id());
    assert_eq!(ann.asks(Method::PUT, &block, None).await.0, 204);
    for (device, other) in [(&mut anns, bo.id()), (&mut bos, ann.id())] {
        let hidden = json!({ "type": "presence", "user": other, "state": "offline" });
        assert_eq!(device.hears_of(&other).await, hidden);
        assert_eq!(device.watches(&other).await, json!({ "user": other, "state": "offline" }));
    }
    // In the group they share, neither hears of the other's typing and reading; everybody else does.
    let seq = cys.says(&talk, "hello").await;
    bos.has_numbers_up_to(&talk, seq).await;
    bos.tells(json!({ "type": "typing", "conversation": talk, "on": true })).await;
    let read = format!("/v1/conversations/{talk}/read");
    assert_eq!(bo.asks(Method::PUT, &read, Some(json!({ "seq": seq }))).await.0, 200);
    assert_eq!(cys.hears("typing").await["user"], bo.id());
    let receipt = cys.hears("receipt").await;
    assert_eq!((&receipt["user"], &receipt["read"]), (&json!(bo.id()), &json!(seq)), "told over REST too");
    let seq = cys.says(&talk, "both have heard what was before").await;
    anns.has_numbers_up_to(&talk, seq).await;
    let of_bo = |push: &&Value| push["user"] == bo.id() && push["type"] != "presence";
    assert_eq!(anns.pushes.iter().find(of_bo), None);
    assert_eq!(ann.asks(Method::DELETE, &block, None).await.0, 204);
    assert_eq!(anns.hears_of(&bo.id()).await["state"], "online");
    assert_eq!(bos.hears_of(&ann.id()).await["state"], "online");
}

#[actix_rt::test]
async fn a_large_conversation_is_counted() {
    let app = TestApp::start_with(quick).await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.gathers(&[&bo], "us").await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let ask = json!({ "type": "presence", "watch": [], "conversations": [talk] });
    let counted = anns.asks(ask.clone()).await;
    assert_eq!(counted["conversations"], json!([{ "conversation": talk, "online": 1 }]));
    let _bos = Device::returns(&app, &bo.session.token()).await.0;
    let online = anns.hears("online").await;
    assert_eq!((&online["conversation"], &online["online"]), (&json!(talk), &json!(2)));
    let mut cys = Device::returns(&app, &registers(&app, "cyril").await.token()).await.0;
    assert_eq!(cys.asks(ask).await["code"], "not_a_member");
}

#[actix_rt::test]
async fn over_two_nodes_also_when_one_is_killed_and_when_redis_is_lost_and_back() {
    let (database, mut redis) = (services::database().await, Redis::start());
    let (database_url, redis_url) = (database.options().to_url_lossy().to_string(), redis.url());
    let here = TestApp::start_with(|config| {
        quick(config);
        config.database.database_url = Some(Secret::from(database_url.clone()));
        config.bus.redis_url = Some(Secret::from(redis_url.clone()));
        config.bus.redis_namespace = "nova".to_owned();
        config.identity.secret = Some(Secret::from("one secret for both of them, 32 bytes"));
    })
    .await;
    let data = tempfile::tempdir().expect("a directory");
    let more = [
        ["--database-url", &database_url],
        ["--redis-url", &redis_url],
        ["--secret", "one secret for both of them, 32 bytes"],
        ["--presence-linger-s", "1"],
        ["--presence-lease-s", "3"],
    ];
    let there = Program::serve(data.path(), &more.concat());
    let there_addr = there.ready["http"].as_str().expect("an address").parse().expect("an address");
    let (ann, bo) = (Person::new(&here, "ann").await, Person::new(&here, "bobo").await);
    let cy = Person::new(&here, "cyril").await;
    let mut anns = Device::returns(&here, &ann.session.token()).await.0;
    anns.watches(&bo.id()).await;
    let bos = Device::dials(there_addr, &bo.session.token()).await;
    assert_eq!(anns.hears_of(&bo.id()).await["state"], "online", "there");
    // He goes from there to here; the end over there is told later than his coming here.
    let bos_here = Device::returns(&here, &bo.session.token()).await.0;
    bos.leaves().await;
    let cys = Device::dials(there_addr, &cy.session.token()).await;
    let watch = json!({ "type": "presence", "watch": [bo.id(), cy.id()] });
    eventually("Cy is online there, Bo here", async || {
        let users = anns.asks(watch.clone()).await["users"].clone();
        (users[0]["state"] == "online" && users[1]["state"] == "online").then_some(())
    })
    .await;
    cys.leaves().await;
    let mut told = anns.hears("presence").await;
    while told["user"] != cy.id() || told["state"] != "offline" {
        assert_ne!((&told["user"], &told["state"]), (&json!(bo.id()), &json!("offline")), "he is here");
        told = anns.hears("presence").await;
    }

    // Without Redis nobody seems to leave; what happened meanwhile is found when it is back.
    let cys = Device::dials(there_addr, &cy.session.token()).await;
    eventually("Cy is back there", async || {
        (anns.watches(&cy.id()).await["state"] == "online").then_some(())
    })
    .await;
    redis.kill();
    bos_here.leaves().await;
    eventually("Bo lingers no more", async || {
        (anns.watches(&bo.id()).await["state"] == "offline").then_some(())
    })
    .await;
    cys.leaves().await;
    assert_eq!(anns.watches(&cy.id()).await["state"], "online", "as far as anybody here knows");
    redis.revive();
    tokio::time::timeout(Duration::from_secs(20), async {
        while anns.hears_of(&cy.id()).await["state"] != "offline" {}
    })
    .await
    .expect("what was not heard is found");

    // A node that is killed takes its users with it.
    let cys = Device::dials(there_addr, &cy.session.token()).await;
    assert_eq!(anns.hears_of(&cy.id()).await["state"], "online");
    there.end(Signal::KILL);
    let gone = anns.hears_of(&cy.id()).await;
    assert_eq!(gone["state"], "offline");
    assert!(gone["last_seen"].is_string(), "{gone}");
    drop(cys);
}
