//! The chat beside a stream: read and written without membership, moderated, over all nodes.

use nova::config::Secret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::registers;
use crate::app::{TestApp, eventually};
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;
use crate::services;

impl Person<'_> {
    /// Makes a stream; its id.
    async fn makes_a_stream(&self) -> String {
        let made = self.asks(Method::POST, "/v1/streams", Some(json!({ "title": "Friday" }))).await;
        assert_eq!(made.0, 201, "{}", made.1);
        text(&made.1["stream"], "id")
    }

    async fn chat(&self, stream: &str) -> Value {
        self.gets(&format!("/v1/streams/{stream}/chat")).await
    }

    async fn moderates(&self, method: Method, stream: &str, what: &str, body: Option<Value>) -> StatusCode {
        self.asks(method, &format!("/v1/streams/{stream}/chat{what}"), body).await.0
    }
}

impl Device {
    async fn watches_stream(&mut self, stream: &str) -> Value {
        self.asks(json!({ "type": "watch", "stream": stream })).await
    }

    /// Reads until a number of viewers is told.
    async fn hears_of_viewers(&mut self, count: u64) {
        while self.hears("viewers").await["count"] != count {}
    }

    /// Reads until an entry is pushed for which `is_it`.
    async fn is_shown(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.entries.iter().position(&is_it) {
                return self.entries.remove(at);
            }
            self.takes().await;
        }
    }
}

#[actix_rt::test]
async fn viewers_talk_beside_a_stream_on_two_nodes_without_being_members() {
    let redis = services::redis().await;
    let here = TestApp::start_with(|config| {
        config.bus.redis_url = Some(Secret::from(redis.url.clone()));
        config.bus.redis_namespace = redis.namespace.clone();
    })
    .await;
    let there = TestApp::start_with(|config| {
        config.database = here.engine.config.database.clone();
        config.bus = here.engine.config.bus.clone();
    })
    .await;
    let ann = Person::new(&here, "ann").await;
    let bo = Person { app: &there, session: registers(&there, "bobo").await };
    let stream = ann.makes_a_stream().await;
    let mut anns = Device::returns(&here, &ann.session.token()).await.0;
    let mut bos = Device::returns(&there, &bo.session.token()).await.0;
    let watching = anns.watches_stream(&stream).await;
    let chat = text(&watching, "chat");
    assert_eq!((&watching["type"], &watching["viewers"]), (&json!("watching"), &json!(1)), "{watching}");
    assert_eq!(anns.watches_stream(&stream).await["chat"], chat, "again is the same");
    assert_eq!(bos.watches_stream(&stream).await["chat"], chat);
    anns.hears_of_viewers(2).await;
    bos.hears_of_viewers(2).await;
    bos.says(&chat, "hello").await;
    anns.says(&chat, "welcome").await;
    for device in [&mut anns, &mut bos] {
        device.has_read_in_order(&["hello", "welcome"]).await;
    }
    // Somebody who comes later reads what was said, over REST and over the socket; it is in nobody's inbox.
    let cy = Person::new(&here, "cyril").await;
    let words: Vec<_> = cy.reads(&chat).await.iter().map(|entry| entry["body"]["text"].clone()).collect();
    assert_eq!(words, ["hello", "welcome"]);
    assert_eq!(cy.says(&chat, "over REST").await, 3);
    let mut cys = Device::returns(&here, &cy.session.token()).await.0;
    let pull = json!({ "type": "pull", "conversation": chat, "epoch": 1, "after": 0, "limit": 10 });
    assert_eq!(cys.asks(pull).await["entries"].as_array().map(Vec::len), Some(3));
    assert_eq!(cy.inbox(&chat).await, None);
    assert_eq!(
        cys.asks(json!({ "type": "read", "conversation": chat, "seq": 1 })).await["code"],
        "not_a_member"
    );
    bos.is_shown(|entry| entry["seq"] == 3).await;
    // Who does not watch any more is shown nothing and is not counted.
    assert_eq!(bos.asks(json!({ "type": "unwatch", "stream": stream })).await["type"], "ok");
    anns.hears_of_viewers(1).await;
    anns.says(&chat, "bye").await;
    bos.asks(json!({ "type": "ping" })).await;
    assert!(bos.entries.iter().all(|entry| entry["body"]["text"] != "bye"));
    // With the stream everything goes.
    assert_eq!(ann.asks(Method::DELETE, &format!("/v1/streams/{stream}"), None).await.0, 204);
    assert_eq!(anns.sends(&chat, "late", "anybody?").await["code"], "not_a_member");
    let none = nova_actors::id::StreamId::generate().to_string();
    assert_eq!(anns.watches_stream(&none).await["code"], "not_found");
}

#[actix_rt::test]
async fn moderators_delete_time_out_and_slow_down() {
    let app = TestApp::start().await;
    let (ann, mo) = (Person::new(&app, "ann").await, Person::new(&app, "momo").await);
    let (bo, cy) = (Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let stream = ann.makes_a_stream().await;
    let chat = text(&ann.chat(&stream).await, "conversation");
    let mut cys = Device::returns(&app, &cy.session.token()).await.0;
    cys.watches_stream(&stream).await;
    bo.says(&chat, "rude").await;
    cys.is_shown(|entry| entry["body"]["text"] == "rude").await;
    let message = format!("/v1/conversations/{chat}/messages/1");
    let appoint = format!("/moderators/{}", mo.id());
    assert_eq!(mo.asks(Method::DELETE, &message, None).await.1["code"], "not_yours");
    assert_eq!(mo.moderates(Method::PUT, &stream, &appoint, None).await, 403);
    assert_eq!(ann.moderates(Method::PUT, &stream, &appoint, None).await, 204);
    assert_eq!(mo.chat(&stream).await["is_moderator"], true);
    let listed = bo.gets(&format!("/v1/streams/{stream}/chat/moderators")).await;
    assert_eq!(listed["items"], json!([mo.id()]));
    assert_eq!(mo.asks(Method::DELETE, &message, None).await.0, 200);
    cys.is_shown(|entry| entry["kind"] == "delete" && entry["body"]["target"] == 1).await;

    let time_out = format!("/timeouts/{}", bo.id());
    let hour = Some(json!({ "seconds": 3600 }));
    assert_eq!(cy.moderates(Method::PUT, &stream, &time_out, hour.clone()).await, 403);
    assert_eq!(mo.moderates(Method::PUT, &stream, &time_out, hour.clone()).await, 200);
    cys.is_shown(|entry| entry["kind"] == "live" && entry["body"]["user"] == bo.id()).await;
    let (status, refused) = bo.sends(&chat, "again", json!({ "text": "rude again" })).await;
    assert_eq!((status.as_u16(), &refused["code"]), (403, &json!("timed_out")), "{refused}");
    assert!(bo.chat(&stream).await["timed_out_until"].is_string());
    assert_eq!(mo.moderates(Method::DELETE, &stream, &time_out, None).await, 204);
    bo.says(&chat, "sorry").await;
    let owner = format!("/timeouts/{}", ann.id());
    assert_eq!(mo.moderates(Method::PUT, &stream, &owner, hour.clone()).await, 403, "not the owner");
    assert_eq!(ann.moderates(Method::PUT, &stream, &format!("/timeouts/{}", mo.id()), hour).await, 200);
    assert_eq!(ann.moderates(Method::DELETE, &stream, &appoint, None).await, 204);
    assert_eq!(mo.moderates(Method::PATCH, &stream, "", Some(json!({ "slow_mode_s": 5 }))).await, 403);

    assert_eq!(ann.moderates(Method::PATCH, &stream, "", Some(json!({ "slow_mode_s": 3601 }))).await, 422);
    assert_eq!(ann.moderates(Method::PATCH, &stream, "", Some(json!({ "slow_mode_s": 3600 }))).await, 200);
    bo.says(&chat, "slowly").await;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let refused = bos.sends(&chat, "soon", "too soon").await;
    assert_eq!(refused["code"], "slow_mode", "{refused}");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|ms| ms > 3_000_000), "{refused}");
    cy.says(&chat, "each for themself").await;
    ann.says(&chat, "one").await;
    ann.says(&chat, "two: the owner does not wait").await;
}

#[actix_rt::test]
async fn a_block_by_the_owner_ends_watching_at_once() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let stream = ann.makes_a_stream().await;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let chat = text(&bos.watches_stream(&stream).await, "chat");
    let block = format!("/v1/users/{}/block", bo.id());
    assert_eq!(ann.asks(Method::PUT, &block, None).await.0, 204);
    assert_eq!(bos.hears("unwatched").await["stream"], stream);
    ann.says(&chat, "in peace").await;
    assert_eq!(bos.watches_stream(&stream).await["code"], "not_found");
    assert_eq!(bos.sends(&chat, "m", "hello?").await["code"], "unreachable");
    let (status, body) = bo.asks(Method::GET, &format!("/v1/conversations/{chat}/entries"), None).await;
    assert_eq!((status.as_u16(), &body["code"]), (403, &json!("not_a_member")));
    assert!(bos.entries.iter().all(|entry| entry["body"]["text"] != "in peace"));
}

#[actix_rt::test]
async fn a_live_position_moves_and_ends_at_once_and_is_kept_nowhere() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let mut bos = Device::returns(&app, &bo.session.token()).await.0;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let until = (time::OffsetDateTime::now_utc() + time::Duration::hours(1))
        .format(&time::format_description::well_known::Rfc3339)
        .expect("a time");
    let place = json!({ "latitude": 1.0, "longitude": 2.0, "until": until });
    assert_eq!(ann.sends(&talk, "here", json!({ "location": place })).await.0, 201);
    let to = json!({ "type": "edit", "conversation": talk, "target": 1, "location": { "latitude": 3.5, "longitude": 4.5 } });
    assert_eq!(anns.asks(to.clone()).await["seq"], 2);
    let moved = bos.is_shown(|entry| entry["seq"] == 2).await;
    assert_eq!(moved["body"]["location"]["latitude"], 3.5, "{moved}");
    assert!(moved["body"]["location"]["until"].is_string(), "its end stays: {moved}");
    assert_eq!(anns.asks(to.clone()).await["seq"], 3);
    let read = bo.reads(&talk).await;
    assert_eq!(read[0]["body"]["location"]["latitude"], 3.5);
    assert_eq!(read[1]["body"]["location"], json!({ "ended": true }), "where she was before is kept nowhere");
    let mut bad = to.clone();
    bad["text"] = "and words".into();
    assert_eq!(anns.asks(bad).await["code"], "invalid_fields");
    let path = format!("/v1/conversations/{talk}/messages/1");
    let end = json!({ "client_msg_id": "end", "location": { "ended": true } });
    assert_eq!(bo.asks(Method::PATCH, &path, Some(end.clone())).await.1["code"], "not_yours");
    assert_eq!(ann.asks(Method::PATCH, &path, Some(end)).await.0, 200);
    eventually("the end is shown", async || {
        let read = bo.reads(&talk).await;
        let ended = json!({ "ended": true });
        read.iter().take(3).all(|entry| entry["body"]["location"] == ended).then_some(())
    })
    .await;
    assert_eq!(anns.asks(to).await["code"], "no_such_target", "it has ended");
}

#[actix_rt::test]
async fn the_chat_of_a_private_stream_is_for_those_who_may_watch_it() {
    let app = TestApp::start().await;
    let (ann, bob) = (Person::new(&app, "ann").await, Person::new(&app, "bob").await);
    let stream = ann.makes_a_stream().await;
    let path = format!("/v1/streams/{stream}");
    let mut bobs = Device::returns(&app, &bob.session.token()).await.0;
    let chat = text(&bobs.watches_stream(&stream).await, "chat");
    // It becomes private: who watched is sent away, and finds no way back in.
    let private = ann.asks(Method::PATCH, &path, Some(json!({ "visibility": "private" }))).await;
    assert_eq!(private.0, 200, "{}", private.1);
    assert_eq!(bobs.hears("unwatched").await["stream"], json!(stream));
    assert_eq!(bobs.watches_stream(&stream).await["code"], "not_found");
    let send = json!({ "type": "send", "conversation": chat, "client_msg_id": "a", "text": "hello" });
    assert_eq!(bobs.asks(send.clone()).await["code"], "not_a_member");
    let pull = json!({ "type": "pull", "conversation": chat, "epoch": 1, "after": 0, "limit": 10 });
    assert_eq!(bobs.asks(pull).await["code"], "not_a_member");
    assert_eq!(bob.asks(Method::GET, &format!("{path}/chat"), None).await.0, 404);
    // Whom the owner names is in; whom she names no longer is sent away.
    let invited = format!("{path}/viewers/{}", bob.session.user());
    assert_eq!(ann.asks(Method::PUT, &invited, None).await.0, 204);
    assert_eq!(bobs.watches_stream(&stream).await["type"], "watching");
    assert_eq!(bobs.asks(send).await["type"], "sent");
    assert_eq!(ann.asks(Method::DELETE, &invited, None).await.0, 204);
    assert_eq!(bobs.hears("unwatched").await["stream"], json!(stream));
}
