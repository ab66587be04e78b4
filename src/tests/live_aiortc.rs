//! Streams that are published and watched over WebRTC by a stack that is in no browser: aiortc, with an ICE, a DTLS, an SRTP and
//! encoders of its own.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::app::TestApp;
use crate::broadcaster::{Stream, says};
use crate::services::eventually;

/// The first start installs it.
const PATIENCE: Duration = Duration::from_secs(180);

/// A publisher or a viewer. It is killed when it is dropped.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    told: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(arguments: &[&str]) -> Peer {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wish-peer");
        let mut command = Command::new(script);
        command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("scripts/wish-peer can be run");
        let told = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Peer { input: child.stdin.take(), told, child }
    }

    /// The next thing of this kind that happened and is like this.
    async fn tells(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let read = async {
            loop {
                let line = self.told.next_line().await.expect("text").expect("it has not ended");
                let told: Value = serde_json::from_str(&line).expect("JSON");
                if told["what"] == what && is_it(&told) {
                    return told;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{what} is not told"))
    }

    async fn is_answered(&mut self) -> Value {
        self.tells("answered", |_| true).await
    }

    /// Both levels of the picture, and a tone.
    async fn sees_and_hears(&mut self) -> Value {
        self.tells("seen", |seen| {
            let number = |field: &str| seen[field].as_f64().unwrap_or_default();
            number("pictures") > 60.0 && number("levels") > 1.0 && number("energy") > 0.01
        })
        .await
    }

    /// Ends its session, as the drafts say.
    async fn leaves(mut self) {
        drop(self.input.take());
        assert_eq!(self.tells("left", |_| true).await["status"], 200);
        assert!(self.child.wait().await.expect("it ends").success());
    }
}

#[actix_rt::test]
async fn who_is_no_browser_publishes_and_watches_too() {
    let app = TestApp::start_with(|config| config.live.stream_resume_s = 1).await;
    let stream = Stream::of(&app, "ann").await;
    let whip = app.at(&format!("/whip/{}", stream.id));
    let whep = app.at(&format!("/whep/{}", stream.id));
    let gauge = async |name: &str, value: f64| {
        eventually(&format!("{name} is {value}"), PATIENCE, async || {
            app.metric(name).await.filter(|now| (now - value).abs() < 0.1)
        })
        .await;
    };

    let mut early = Peer::start(&["whep", &whep]);
    let refused = early.is_answered().await;
    assert_eq!(refused["status"], 409, "{refused}");
    assert!(refused["retry_after"].as_str().is_some_and(|after| after.parse::<u32>().is_ok()), "{refused}");
    let mut nobody = Peer::start(&["whip", &whip, "live_nobodys"]);
    assert_eq!(nobody.is_answered().await["status"], 401);

    let mut publisher = Peer::start(&["whip", &whip, &stream.key]);
    assert_eq!(publisher.is_answered().await["status"], 201);
    stream.becomes(&app, "live").await;
    let mut viewer = Peer::start(&["whep", &whep]);
    assert_eq!(viewer.is_answered().await["status"], 201);
    let seen = viewer.sees_and_hears().await;
    println!("published and watched by aiortc: {seen}");
    let entries = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
    let codecs = says("ffprobe", &[&entries[..], &[&stream.url(&app)]].concat()).await;
    assert!(codecs.contains("h264") && codecs.contains("opus"), "{codecs}");
    viewer.leaves().await;
    gauge("nova_whep_sessions", 0.0).await;
    publisher.leaves().await;
    gauge("nova_whip_sessions", 0.0).await;
    stream.becomes(&app, "ended").await;

    // What came over RTMP, its AAC made Opus.
    let encoder = stream.publish(&app);
    stream.becomes(&app, "live").await;
    let mut viewer = Peer::start(&["whep", &whep]);
    assert_eq!(viewer.is_answered().await["status"], 201);
    let seen = viewer
        .tells("seen", |seen| seen["pictures"].as_u64() > Some(60) && seen["energy"].as_f64() > Some(0.01));
    let seen = seen.await;
    println!("published by FFmpeg and watched by aiortc: {seen}");
    assert_ne!(seen["first_ms"], json!(null));
    viewer.leaves().await;
    gauge("nova_whep_sessions", 0.0).await;
    encoder.stop().await;
}
