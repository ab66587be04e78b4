//! WebRTC stacks that are in no browser, each with an ICE, a DTLS, an SRTP and encoders of its own: aiortc, and GStreamer's webrtcbin on
//! libnice. They publish streams and watch them, and take part in calls.

use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::app::TestApp;
use crate::broadcaster::{Stream, says};
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;
use crate::services::eventually;

/// The first start installs aiortc.
const PATIENCE: Duration = Duration::from_secs(180);

/// Which stack.
#[derive(Debug, Clone, Copy)]
pub enum Stack {
    Aiortc,
    Gstreamer,
}

/// A publisher, a viewer or a participant. It is killed when it is dropped.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    told: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub fn start(stack: Stack, arguments: &[&str]) -> Peer {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = match stack {
            Stack::Aiortc => Command::new(root.join("scripts/wish-peer")),
            Stack::Gstreamer => {
                // The distribution's own, whose packages hold GStreamer's bindings.
                let mut command = Command::new("/usr/bin/python3");
                command.arg(root.join("src/tests/gst_peer.py"));
                command
            }
        };
        command.args(arguments).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("scripts/wish-peer can be run");
        let told = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Peer { input: child.stdin.take(), told, child }
    }

    /// The next thing of this kind that happened and is like this.
    pub async fn tells(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
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

    /// Is answered by whoever decides about the room.
    pub async fn hears(&mut self, answer: &Value) {
        let line = format!("{answer}\n");
        self.input.as_mut().expect("a pipe").write_all(line.as_bytes()).await.expect("it reads");
    }

    /// Ends its session, as the drafts say where it has one.
    pub async fn leaves(mut self, status: Option<u16>) {
        drop(self.input.take());
        assert_eq!(self.tells("left", |_| true).await["status"], json!(status));
        assert!(self.child.wait().await.expect("it ends").success());
    }
}

#[actix_rt::test]
async fn who_is_no_browser_publishes_and_watches_too() {
    publishes_and_watches(Stack::Aiortc).await;
}

#[actix_rt::test]
async fn gstreamer_publishes_and_watches_over_webrtc_too() {
    publishes_and_watches(Stack::Gstreamer).await;
}

async fn publishes_and_watches(stack: Stack) {
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

    let mut early = Peer::start(stack, &["whep", &whep]);
    let refused = early.is_answered().await;
    assert_eq!(refused["status"], 409, "{refused}");
    assert!(refused["retry_after"].as_str().is_some_and(|after| after.parse::<u32>().is_ok()), "{refused}");
    let mut nobody = Peer::start(stack, &["whip", &whip, "live_nobodys"]);
    assert_eq!(nobody.is_answered().await["status"], 401);

    let mut publisher = Peer::start(stack, &["whip", &whip, &stream.key]);
    assert_eq!(publisher.is_answered().await["status"], 201);
    stream.becomes(&app, "live").await;
    let mut viewer = Peer::start(stack, &["whep", &whep]);
    assert_eq!(viewer.is_answered().await["status"], 201);
    let seen = viewer.sees_and_hears().await;
    println!("published and watched by {stack:?}: {seen}");
    let entries = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
    let codecs = says("ffprobe", &[&entries[..], &[&stream.url(&app)]].concat()).await;
    assert!(codecs.contains("h264") && codecs.contains("opus"), "{codecs}");
    viewer.leaves(Some(200)).await;
    gauge("nova_whep_sessions", 0.0).await;
    publisher.leaves(Some(200)).await;
    gauge("nova_whip_sessions", 0.0).await;
    stream.becomes(&app, "ended").await;

    // What came over RTMP, its AAC made Opus.
    let encoder = stream.publish(&app);
    stream.becomes(&app, "live").await;
    let mut viewer = Peer::start(stack, &["whep", &whep]);
    assert_eq!(viewer.is_answered().await["status"], 201);
    let seen = viewer
        .tells("seen", |seen| seen["pictures"].as_u64() > Some(60) && seen["energy"].as_f64() > Some(0.01));
    let seen = seen.await;
    println!("published by FFmpeg and watched by {stack:?}: {seen}");
    assert_ne!(seen["first_ms"], json!(null));
    viewer.leaves(Some(200)).await;
    gauge("nova_whep_sessions", 0.0).await;
    encoder.stop().await;
}

#[actix_rt::test]
async fn who_is_no_browser_takes_part_in_a_call_too() {
    take_part(Stack::Aiortc).await;
}

#[actix_rt::test]
async fn gstreamer_takes_part_in_a_call_too() {
    take_part(Stack::Gstreamer).await;
}

async fn take_part(stack: Stack) {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let (status, made) = ann.asks(Method::POST, "/v1/rooms", Some(json!({}))).await;
    assert_eq!(status, 201, "{made}");
    let room = text(&made, "id");
    let mut there = Vec::new();
    for person in [&ann, &bo] {
        let mut device = Device::returns(&app, &person.session.token()).await.0;
        let mut peer = Peer::start(stack, &["room"]);
        let offer = peer.tells("offer", |_| true).await["sdp"].take();
        let joined = device.asks(json!({ "type": "room.join", "room": room, "offer": offer })).await;
        assert_eq!(joined["type"], "room.joined", "{joined}");
        peer.hears(&joined["answer"]).await;
        peer.tells("connected", |_| true).await;
        // Its voice and its face are the first it offers.
        let text = offer.as_str().expect("text");
        let mids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
        let tracks =
            json!([{ "mid": mids[0], "source": "microphone" }, { "mid": mids[1], "source": "camera" }]);
        let published = device.asks(json!({ "type": "room.publish", "tracks": tracks })).await;
        assert_eq!(published["type"], "room.published", "{published}");
        there.push((device, peer, published["tracks"][1]["track"].clone()));
    }
    let faces = [there[1].2.clone(), there[0].2.clone()];
    for ((device, ..), face) in there.iter_mut().zip(faces) {
        let want = json!([{ "track": face, "height": 180 }]);
        assert_eq!(device.asks(json!({ "type": "room.view", "want": want })).await["type"], "ok");
    }
    for (device, peer, _) in &mut there {
        println!("{}", peer.sees_and_hears().await);
        // They have shown for a while that they are there.
        assert_eq!(device.asks(json!({ "type": "room.hand", "up": false })).await["type"], "ok");
    }
    for (_, peer, _) in there {
        peer.leaves(None).await;
    }
}
