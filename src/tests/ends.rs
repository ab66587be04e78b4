//! A node that ends while the database is slow, and what its threads have under way then.

use std::fs::File;
use std::time::Duration;

use reqwest::Client;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::broadcaster::{Encoder, made_at, source};
use crate::program::Program;
use crate::services;

/// What each kind of thread waits for in the test, as PostgreSQL tells it: a part of the statement, and why it waits.
const UNDER_WAY: [(&str, &str, &str); 4] = [
    ("a request", "SELECT s.id, s.owner_id, s.title", "Lock"),
    ("a request that is finished whoever waits for it", "SELECT id FROM users", "Lock"),
    ("a publisher's key", "s.key_hash = $1", "Lock"),
    ("a note of the actor of a stream", "UPDATE streams s", "Timeout"),
];

/// A publisher that could connect again by itself (`capsEx`), and waits for the answer about its key.
async fn publisher(addr: &str) -> TcpStream {
    let text = |text: &str| [&[2, 0, text.len() as u8], text.as_bytes()].concat();
    let number = |number: f64| [&[0], &number.to_be_bytes()[..]].concat();
    let key = |text: &str| [&[0, text.len() as u8], text.as_bytes()].concat();
    let command = |name: &str, transaction: f64, rest: &[Vec<u8>], stream: u8| {
        let body = [text(name), number(transaction), rest.concat()].concat();
        [&[3, 0, 0, 0, 0, 0, body.len() as u8, 20, stream, 0, 0, 0], &body[..]].concat()
    };
    let mut handshake = vec![0; 1 + 2 * 1_536];
    handshake[0] = 3;
    let (object, end, null) = (vec![3], vec![0, 0, 9], vec![5]);
    let app = [object, key("app"), text("live"), key("capsEx"), number(1.0), end];
    let said = [
        handshake,
        command("connect", 1.0, &app, 0),
        command("createStream", 2.0, std::slice::from_ref(&null), 0),
        command("publish", 3.0, &[null, text("a key of nobody"), text("live")], 1),
    ];
    let mut socket = TcpStream::connect(addr).await.expect("a connection");
    socket.write_all(&said.concat()).await.expect("written");
    socket
}

/// Which of them wait in the database.
async fn waiting(database: &mut PgConnection) -> Vec<&'static str> {
    let statements: Vec<(String, String)> = sqlx::query_as(
        "SELECT query, wait_event_type FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'active' AND wait_event_type IS NOT NULL",
    )
    .fetch_all(database)
    .await
    .expect("looked at");
    let waits = |(_, part, why): &&(_, &str, &str)| {
        statements.iter().any(|(statement, waits_for)| statement.contains(part) && waits_for == why)
    };
    UNDER_WAY.iter().filter(waits).map(|(what, ..)| *what).collect()
}

#[actix_web::test]
async fn whatever_is_under_way_when_the_time_to_drain_is_over_is_cut_off_without_a_panic() {
    nova::app::use_ring();
    let (data, database) = (tempfile::tempdir().expect("a directory"), services::database().await);
    let url = database.options().to_url_lossy().to_string();
    let said = data.path().join("said");
    let more = ["--database-url", &url, "--database-statement-ms", "60000", "--drain-s", "1"];
    let node = Program::serve_saying(data.path(), &more, File::create(&said).expect("a file"));
    let door = node.url("http");
    let rtmp = node.ready["rtmp"].as_str().expect("an address").to_owned();
    let (stream, key, token) = made_at(&door, json!({ "title": "Friday" })).await;
    let pictures = ["-re", "-stream_loop", "-1", "-i", source(), "-c", "copy"];
    let _encoder = Encoder::start(&pictures, &format!("rtmp://{rtmp}/live/{key}"));
    let deadline = Instant::now() + Duration::from_secs(30);
    let client = Client::new();
    let get = || client.get(format!("{door}/v1/streams/{stream}")).bearer_auth(&token);
    loop {
        let told: serde_json::Value = get().send().await.expect("an answer").json().await.expect("json");
        if told["state"] == "live" {
            break;
        }
        assert!(Instant::now() < deadline, "the stream is not live: {told}");
        sleep(Duration::from_millis(50)).await;
    }

    let options = database.options();
    let (mut slow, mut looks) =
        tokio::try_join!(options.connect(), options.connect()).expect("the database takes connections");
    sqlx::raw_sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NEW; END';
         CREATE TRIGGER slow BEFORE UPDATE ON streams FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    .execute(&mut looks)
    .await
    .expect("the notes of a stream take long");
    while waiting(&mut looks).await.is_empty() {
        assert!(Instant::now() < deadline, "nothing is noted of the stream");
        sleep(Duration::from_millis(50)).await;
    }
    let mut slow = slow.begin().await.expect("begun");
    sqlx::query("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").execute(&mut *slow).await.expect("locked");
    let _publisher = publisher(&rtmp).await;
    let post = client.post(format!("{door}/v1/streams")).bearer_auth(&token);
    let post = post.header("Idempotency-Key", "one").json(&json!({ "title": "Saturday" }));
    let asked = [tokio::spawn(get().send()), tokio::spawn(post.send())];
    while waiting(&mut looks).await.len() < UNDER_WAY.len() {
        assert!(Instant::now() < deadline, "only {:?} wait", waiting(&mut looks).await);
        sleep(Duration::from_millis(20)).await;
    }

    let ended = tokio::task::spawn_blocking(move || node.end(Signal::TERM)).await.expect("it ends");
    let said = std::fs::read_to_string(said).expect("what it said");
    assert!(ended.success(), "{ended:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for asked in asked {
        asked.await.expect("asked").expect_err("was cut off");
    }
}
