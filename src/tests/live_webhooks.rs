//! What the operator's own servers hear of streams, while they work, fail, are slow and come back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use nova::config::Secret;
use nova_actors::id::StreamId;
use reqwest::Method;

use crate::accounts;
use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Stream, made};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// An HTTP server that keeps what it hears and answers as it was told to.
struct Receiver {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// The answers to give first; after them everything is fine. An empty one is none at all.
    answers: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Clone)]
struct Heard {
    head: String,
    body: String,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        line.unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    fn told(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Whether it comes from who has the secret.
    fn is_genuine(&self) -> bool {
        let secret = SECRET.strip_prefix("whsec_").expect("a secret");
        let key = base64::engine::general_purpose::STANDARD.decode(secret).expect("base64");
        let signed =
            format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), signed.as_bytes());
        let tag = base64::engine::general_purpose::STANDARD.encode(tag);
        self.header("webhook-signature") == format!("v1,{tag}")
    }
}

impl Receiver {
    async fn start(answers: &[&'static str]) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?of=nova", listener.local_addr().expect("an address"));
        let receiver =
            Receiver { url, heard: Arc::default(), answers: Arc::new(Mutex::new(answers.to_vec())) };
        let (heard, answers) = (Arc::clone(&receiver.heard), Arc::clone(&receiver.answers));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (heard, answers) = (Arc::clone(&heard), Arc::clone(&answers));
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    let (head, body) = loop {
                        let mut piece = [0; 4_096];
                        let Ok(count @ 1..) = socket.read(&mut piece).await else { return };
                        bytes.extend_from_slice(&piece[..count]);
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                        let length = head.lines().find_map(|line| {
                            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                        });
                        if body.len() >= length.unwrap_or(0_usize) {
                            break (head.to_owned(), body.to_owned());
                        }
                    };
                    heard.lock().expect("whole").push(Heard { head, body });
                    let answer = {
                        let mut answers = answers.lock().expect("whole");
                        if answers.is_empty() { "204 No Content" } else { answers.remove(0) }
                    };
                    if answer.is_empty() {
                        // Never answers, as long as the other side waits.
                        let _ = socket.read(&mut [0]).await;
                        return;
                    }
                    let answer =
                        format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                    let _ = socket.write_all(answer.as_bytes()).await;
                });
            }
        });
        receiver
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("whole").clone()
    }

    /// What it was told, each event once, in the order it first heard of it.
    fn kinds(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let mut kinds = Vec::new();
        for heard in self.heard() {
            let id = heard.header("webhook-id").to_owned();
            if !ids.contains(&id) {
                ids.push(id);
                kinds.push(heard.told()["type"].as_str().expect("a type").to_owned());
            }
        }
        kinds
    }
}

#[actix_web::test]
async fn streams_that_begin_and_end_are_told_and_a_slow_or_failing_server_holds_up_nobody_else() {
    let good = Receiver::start(&[]).await;
    let failing = Receiver::start(&["500 Internal Server Error", "302 Found"]).await;
    let slow = Receiver::start(&["", "", "", "", "", ""]).await;
    let urls = vec![good.url.clone(), failing.url.clone(), slow.url.clone()];
    let app = TestApp::start_with(|config| {
        config.webhooks.webhook_urls = urls;
        config.webhooks.webhook_secret = Some(Secret::from(SECRET));
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let path = format!("/v1/streams/{}", stream.id);
    let record = Some(json!({ "record": true }));
    let (status, body) = accounts::ask(&app, Method::PATCH, &path, Some(&stream.owner.token()), record).await;
    assert!(status.is_success(), "{body}");
    let source = made("five", "320x180", 5, &[]);
    let input = source.to_str().expect("utf-8");
    let encoder = Encoder::start(&["-re", "-i", input, "-c", "copy"], &stream.ingest(&app));
    eventually("the good server hears that it is live", async || {
        (good.kinds() == ["stream.live"]).then_some(())
    })
    .await;
    let (ended_well, said) = encoder.ended().await;
    assert!(ended_well, "{said}");
    eventually("the good server hears of the end and of the recording", async || {
        let mut kinds = good.kinds();
        kinds.sort_unstable();
        (kinds == ["recording.ready", "stream.ended", "stream.live"]).then_some(())
    })
    .await;
    for heard in good.heard() {
        assert!(heard.is_genuine(), "{}", heard.head);
        assert_eq!(heard.header("content-type"), "application/json");
        let told = heard.told();
        assert_eq!(told["data"]["stream"], stream.id.as_str(), "{told}");
        assert_eq!(told["data"]["owner"], stream.owner.user().as_str(), "{told}");
    }
    let log = crate::events::log(&crate::events::beside(&app).await).await;
    let of_it = log.iter().filter(|event| event.key == stream.id.parse::<StreamId>().unwrap().as_uuid());
    let mut kinds: Vec<_> = of_it.map(|event| event.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["RecordingReady", "StreamEnded", "StreamStarted"], "the event log hears the same");
    let ended =
        good.heard().iter().map(Heard::told).find(|told| told["type"] == "stream.ended").expect("told");
    assert!(ended["data"]["ended_at"].as_str() > ended["data"]["started_at"].as_str(), "{ended}");
    eventually("the failing server hears it again until it is well", async || {
        let heard = failing.heard();
        let first = heard.first()?.header("webhook-id").to_owned();
        let again = heard.iter().filter(|heard| heard.header("webhook-id") == first).count();
        (again >= 2 && failing.kinds().len() == 3).then_some(())
    })
    .await;
    assert!(failing.heard().iter().all(Heard::is_genuine), "each attempt is signed at its own time");
    assert!(!slow.heard().is_empty(), "it was asked, and holds up nobody");
    // Counted when the server's answer has been read, which is later than what the server saw.
    for (outcome, at_least) in [("delivered", 6.0), ("failed", 2.0)] {
        let series = format!("nova_webhooks_total{{outcome=\"{outcome}\"}}");
        eventually(&series, async || app.metric(&series).await.filter(|count| *count >= at_least)).await;
    }
}

#[actix_web::test]
async fn what_could_not_be_told_is_told_when_the_server_is_back_also_after_a_restart() {
    let database = crate::services::database().await;
    let url = {
        use sqlx::ConnectOptions as _;
        database.options().to_url_lossy().to_string()
    };
    // A port nobody listens on yet.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let start = || {
        let (url, hook) = (url.clone(), format!("http://{address}/"));
        TestApp::start_with(move |config| {
            config.database.database_url = Some(Secret::from(url));
            config.webhooks.webhook_urls = vec![hook];
            config.webhooks.webhook_secret = Some(Secret::from(SECRET));
        })
    };
    let app = start().await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    eventually("nobody could be told", async || {
        app.metric("nova_webhooks_total{outcome=\"failed\"}").await.filter(|failed| *failed >= 1.0)
    })
    .await;
    encoder.stop().await;
    stream.becomes(&app, "ended").await;
    actix_web::rt::task::spawn_blocking(move || app.stop()).await.expect("the node ended well");

    let listener = TcpListener::bind(address).await.expect("still free");
    let _app = start().await;
    let told = tokio::time::timeout(Duration::from_secs(30), async {
        let mut kinds = Vec::new();
        while kinds.len() < 2 {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut bytes = vec![0; 16_384];
            let mut length = 0;
            while !String::from_utf8_lossy(&bytes[..length]).contains("\"type\"") {
                length += socket.read(&mut bytes[length..]).await.expect("bytes");
            }
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            for kind in ["stream.live", "stream.ended"] {
                if text.contains(kind) {
                    kinds.push(kind);
                }
            }
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await
                .expect("sent");
        }
        kinds.sort_unstable();
        kinds
    });
    assert_eq!(told.await.expect("in time"), ["stream.ended", "stream.live"]);
}
