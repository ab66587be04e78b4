//! Nodes that do only a part of what the engine does, and are one engine together.

use nova::config::{NodeRole, Secret};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::accounts::registers;
use crate::app::TestApp;
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;
use crate::program::{Program, nova};
use crate::services::{self, Redis};

/// How a node answers who wants a socket.
async fn refuses_a_socket(app: &TestApp) -> (u16, Value) {
    let mut request = format!("ws://{}/v1/ws", app.http_addr).into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", "nova.v1".parse().expect("a header"));
    let stream = tokio::net::TcpStream::connect(app.http_addr).await.expect("connects");
    match tokio_tungstenite::client_async(request, stream).await {
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            (answer.status().as_u16(), serde_json::from_slice(body).unwrap_or_default())
        }
        other => panic!("{other:?} in place of a refusal"),
    }
}

#[actix_rt::test]
async fn parts_that_run_apart_are_one_engine_and_say_what_is_elsewhere() {
    let (database, redis) = (services::database().await, Redis::start());
    let (database_url, redis_url) = (database.options().to_url_lossy().to_string(), redis.url());
    let node = |roles: &[NodeRole]| {
        let (database_url, redis_url, roles) = (database_url.clone(), redis_url.clone(), roles.to_vec());
        TestApp::start_with(move |config| {
            config.roles = roles;
            config.database.database_url = Some(Secret::from(database_url));
            config.bus.redis_url = Some(Secret::from(redis_url));
            config.bus.redis_namespace = "roles".to_owned();
        })
    };
    let api = node(&[NodeRole::Api, NodeRole::Worker]).await;
    let chat = node(&[NodeRole::Chat]).await;
    for app in [&api, &chat] {
        assert_eq!(app.ready.as_object().map(|line| line.len()), Some(3), "{}", app.ready);
        for path in ["/livez", "/readyz", "/api/v1/health", "/openapi.json", "/asyncapi.json"] {
            assert_eq!(app.http.get(app.at(path)).send().await.expect("an answer").status(), 200, "{path}");
        }
    }
    // What one does and the other does not.
    let ann = Person::new(&api, "ann").await;
    let elsewhere = Person { app: &chat, session: registers(&api, "anna").await };
    for (path, role) in [("/v1/me", "api"), ("/v1/rooms/x", "rtc"), ("/live/x/index.m3u8", "api or ingest")] {
        let (status, problem) = elsewhere.asks(Method::GET, path, None).await;
        assert_eq!((status.as_u16(), text(&problem, "code")), (421, "misdirected".to_owned()), "{path}");
        assert!(text(&problem, "detail").contains(&format!("role {role} ")), "{problem}");
    }
    let console = chat.http.get(chat.at("/console")).send().await.expect("an answer");
    assert_eq!(console.status(), 404, "the console is of the API");
    let (status, problem) = ann.asks(Method::POST, "/v1/rooms", Some(json!({}))).await;
    assert_eq!((status.as_u16(), text(&problem, "code")), (421, "misdirected".to_owned()));
    let (status, problem) = refuses_a_socket(&api).await;
    assert_eq!((status, text(&problem, "code")), (421, "misdirected".to_owned()));
    // Together they are one engine.
    let bo = Person::new(&api, "bobo").await;
    let talk = ann.writes_to(&bo).await;
    let mut bos = Device::returns(&chat, &bo.session.token()).await.0;
    ann.says(&talk, "over REST").await;
    bos.has_read_in_order(&["over REST"]).await;
    bos.says(&talk, "over the socket").await;
    ann.has_read_in_order(&talk, &["over REST", "over the socket"]).await;
    let refused = bos.asks(json!({ "type": "room.join", "room": "room_01h455vb4pex5vsknk084sn02q" })).await;
    assert_eq!(refused["code"], "not_found", "{refused}");
    let refused = bos.asks(json!({ "type": "call.start", "conversation": talk, "media": "audio" })).await;
    assert_eq!(refused["code"], "unavailable", "no node has calls: {refused}");
    // One comes that has; who is elsewhere rings from there and is told where to talk.
    let calls = node(&[NodeRole::Chat, NodeRole::Rtc]).await;
    let ringing = bos.asks(json!({ "type": "call.start", "conversation": talk, "media": "audio" })).await;
    assert_eq!(ringing["type"], "call.ringing", "{ringing}");
    let moved = bos.asks(json!({ "type": "room.join", "room": ringing["room"], "offer": "v=0" })).await;
    assert_eq!(moved["code"], "invalid_fields", "an offer is looked at first: {moved}");
    let join = json!({ "type": "room.join", "room": ringing["room"] });
    let moved = bos.asks(join.clone()).await;
    assert_eq!((&moved["type"], &moved["url"]), (&json!("room.moved"), &json!(calls.url)), "{moved}");
    let refused = bos.asks(json!({ "type": "room.hand", "up": true })).await;
    assert_eq!(refused["code"], "conflict", "{refused}");
    let mut there = Device::returns(&calls, &bo.session.token()).await.0;
    let wanted = there.asks(join).await;
    assert_eq!(text(&wanted, "detail"), "offer: one is wanted", "the room is opened there: {wanted}");
    // Only the worker gives events their places.
    let sequences = async |app: &TestApp| app.metric("nova_event_sequencer").await;
    crate::app::eventually("the worker orders events", async || {
        (sequences(&api).await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(sequences(&chat).await, Some(0.0));
}

#[test]
fn the_program_opens_only_the_doors_of_its_roles() {
    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &["--roles", "api,ingest"]);
    assert!(engine.ready.get("rtmp").is_some() && engine.ready.get("rtc").is_none(), "{}", engine.ready);
    assert!(engine.end(rustix::process::Signal::TERM).success());
    let output = nova(&["serve", "--roles", "api,typo"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("possible values: api, chat, ingest, rtc, worker"),
        "{said}"
    );
}
