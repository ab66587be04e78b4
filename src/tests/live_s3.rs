//! Recordings in a bucket: a real S3 server, a real broadcast, a real player; and what happens while the server is away.

use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::broadcaster::{Encoder, source};
use crate::live_recordings::seconds_of;
use crate::program::Program;
use crate::services::{eventually, free_port};

/// The first start installs it.
const PATIENCE: Duration = Duration::from_secs(180);

/// An S3 server with one bucket. It is killed when it is dropped.
pub(crate) struct S3 {
    pub(crate) url: String,
    bucket: &'static str,
    child: Child,
}

impl S3 {
    pub(crate) async fn start(port: u16, bucket: &'static str) -> S3 {
        nova::app::use_ring();
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/s3-server");
        let child = Command::new(script)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("scripts/s3-server can be run");
        let s3 = S3 { url: format!("http://127.0.0.1:{port}"), bucket, child };
        let http = reqwest::Client::new();
        eventually("the bucket is there", PATIENCE, async || {
            let made = http.put(format!("{}/{bucket}", s3.url)).send().await.ok()?;
            made.status().is_success().then_some(())
        })
        .await;
        s3
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)).expect("it runs");
        rustix::process::kill_process(pid, signal).expect("it is ours");
    }

    /// The names in the bucket.
    async fn names(&self) -> Vec<String> {
        let http = reqwest::Client::new();
        let listed =
            http.get(format!("{}/{}?list-type=2", self.url, self.bucket)).send().await.expect("it answers");
        let text = listed.text().await.expect("text");
        text.split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split("</Key>").next())
            .map(str::to_owned)
            .collect()
    }
}

#[actix_web::test]
async fn a_recording_in_a_bucket_is_played_survives_the_server_being_away_and_is_deleted() {
    let s3 = S3::start(free_port(), "films").await;
    let data = tempfile::tempdir().expect("a directory");
    let more = ["--objects", "s3://films/nova/eu", "--objects-endpoint", &s3.url, "--stream-resume-s", "1"];
    let environment =
        [("AWS_ACCESS_KEY_ID", "tests"), ("AWS_SECRET_ACCESS_KEY", "tests"), ("AWS_REGION", "eu-central-1")];
    let engine = Program::serve_in(data.path(), &more, &environment);
    let http = reqwest::Client::new();
    let (url, rtmp) = (engine.url("http"), engine.ready["rtmp"].as_str().expect("an address").to_owned());
    let asks = async |method: Method, path: &str, token: &str, body: Value| {
        let request = http.request(method, format!("{url}{path}")).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let answer = request.send().await.expect("answers");
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap_or_default())
    };
    let ann = json!({ "username": "ann", "email": "ann@example.org", "password": "a long way home" });
    let token = asks(Method::POST, "/v1/accounts", "", ann).await.1["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let film = json!({ "title": "in a bucket", "record": true });
    let (_, made) = asks(Method::POST, "/v1/streams", &token, film).await;
    let id = made["stream"]["id"].as_str().expect("an id").to_owned();
    let key = made["stream_key"].as_str().expect("a key").to_owned();
    let input = ["-re", "-stream_loop", "-1", "-i", source(), "-c", "copy"];
    let encoder = Encoder::start(&input, &format!("rtmp://{rtmp}/live/{key}"));
    let metrics = format!("http://{}/metrics", engine.ready["metrics"].as_str().expect("an address"));
    let metric = async |name: &str| {
        let text = http.get(&metrics).send().await.expect("metrics").text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_default()
    };
    let kept = r#"nova_recording_segments_total{outcome="kept"}"#;
    eventually("a segment is in the bucket", PATIENCE, async || (metric(kept).await >= 1.0).then_some(()))
        .await;
    assert!(
        s3.names().await.iter().all(|name| name.starts_with("nova/eu/recordings/")),
        "{:?}",
        s3.names().await
    );

    // It stands still as a network that is gone: killed, it would forget what it has.
    s3.signal(rustix::process::Signal::STOP);
    eventually("segments wait", PATIENCE, async || {
        (metric("nova_recording_lag_seconds").await >= 1.0).then_some(())
    })
    .await;
    s3.signal(rustix::process::Signal::CONT);
    let before = metric(kept).await;
    eventually("what waited is kept", PATIENCE, async || (metric(kept).await >= before + 2.0).then_some(()))
        .await;
    encoder.stop().await;

    let told = eventually("the recording is ready", PATIENCE, async || {
        let (_, body) = asks(Method::GET, &format!("/v1/streams/{id}/recordings"), &token, Value::Null).await;
        (body["items"][0]["state"] == "ready").then(|| body["items"][0].clone())
    })
    .await;
    let seconds = seconds_of(told["playback_url"].as_str().expect("an address")).await;
    let duration = told["duration_ms"].as_u64().expect("a number") as f64 / 1_000.0;
    assert!((seconds - duration).abs() < 0.5 && seconds > 4.0, "{seconds} of {duration}");
    assert_eq!(metric(r#"nova_recording_segments_total{outcome="lost"}"#).await, 0.0);

    let recording = format!("/v1/recordings/{}", told["id"].as_str().expect("an id"));
    let (status, _) = asks(Method::DELETE, &recording, &token, Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    eventually("nothing is left in the bucket", PATIENCE, async || s3.names().await.is_empty().then_some(()))
        .await;
    assert!(engine.end(rustix::process::Signal::TERM).success());
}
