//! Rooms that are made live streams: participants without a browser who publish real VP8, H.264 and Opus, and a viewer's decoder at the
//! other end.

mod participant;

use std::process::Stdio;
use std::time::{Duration, Instant};

use nova::bench::calls::peer::{Shape, offer};
use nova_media::peer::Identity;
use reqwest::Method;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::app::TestApp;
use crate::broadcaster::{Stream, says};
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;
use crate::live_recordings::{is_ready, seconds_of};
use crate::services::eventually;
use participant::{Clip, Participant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The colour of the latest picture a player would show: red, green, blue.
async fn colour(url: &str) -> Option<[u8; 3]> {
    let arguments =
        ["-v", "error", "-nostdin", "-live_start_index", "-1", "-i", url, "-map", "0:v:0", "-frames:v", "1"];
    let raw = ["-vf", "crop=iw/4:ih/4,scale=1:1", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"];
    let run = Command::new("ffmpeg").args(arguments).args(raw).stdin(Stdio::null()).output();
    run.await.expect("ffmpeg is installed").stdout.first_chunk::<3>().copied()
}

fn is_red([red, green, blue]: [u8; 3]) -> bool {
    red > 150 && green < 90 && blue < 90
}

fn is_blue([red, green, blue]: [u8; 3]) -> bool {
    blue > 150 && red < 90 && green < 90
}

async fn shows(what: &str, url: &str, is_it: fn([u8; 3]) -> bool) {
    eventually(what, PATIENCE, async || colour(url).await.filter(|colour| is_it(*colour))).await;
}

/// How loud the sound of something is on average, in dB below full scale.
async fn loudness(url: &str) -> f64 {
    let arguments =
        ["-nostdin", "-i", url, "-t", "4", "-map", "0:a:0", "-af", "volumedetect", "-f", "null", "-"];
    let run = Command::new("ffmpeg").args(arguments).stdin(Stdio::null()).output();
    let said = String::from_utf8_lossy(&run.await.expect("ffmpeg is installed").stderr).into_owned();
    let mean = said.split("mean_volume: ").nth(1).and_then(|rest| rest.split(' ').next());
    mean.unwrap_or_else(|| panic!("{said}")).parse().expect("a number")
}

/// FFmpeg as the engine finds it, and which processes of it there are.
struct Watched(tempfile::TempDir);

impl Watched {
    fn new() -> Watched {
        let dir = tempfile::tempdir().expect("a directory");
        Watched::starting_after("", dir)
    }

    /// It is as slow to start as on a machine with a hundred other things to do.
    fn slow() -> Watched {
        let dir = tempfile::tempdir().expect("a directory");
        Watched::starting_after("sleep 7", dir)
    }

    fn starting_after(first: &str, dir: tempfile::TempDir) -> Watched {
        let path = dir.path().display();
        let text = format!("#!/bin/sh\n: > {path}/$$\n{first}\nexec /usr/bin/ffmpeg \"$@\"\n");
        let path = dir.path().join("ffmpeg");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a program");
        Watched(dir)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("ffmpeg")
    }

    /// Those that run with this among their arguments.
    fn with(&self, argument: &str) -> Vec<i32> {
        let names = std::fs::read_dir(self.0.path()).expect("a directory").flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let has = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
        };
        pids.filter(has).collect()
    }

    fn kill(&self, argument: &str) {
        for pid in self.with(argument) {
            rustix::process::kill_process(Pid::from_raw(pid).expect("an id"), Signal::KILL)
                .expect("it is ours");
        }
    }
}

/// Everybody reads what waits for them, and answers pings.
async fn hears_all(people: &mut [&mut Participant]) {
    for one in people {
        assert_eq!(one.does("hand", json!({ "up": false })).await["type"], "ok");
    }
}

async fn airs(app: &TestApp, stream: &Stream) {
    eventually("the stream is live", PATIENCE, async || {
        (stream.told(app).await["state"] == "live").then_some(())
    })
    .await;
}

async fn makes(person: &Person<'_>, path: &str, body: Value) -> Value {
    let (status, made) = person.asks(Method::POST, path, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    made
}

#[actix_rt::test]
async fn a_host_makes_the_room_a_stream_that_follows_who_speaks_and_is_recorded() {
    let ffmpeg = Watched::new();
    let app = TestApp::start_with(|config| {
        config.live.ffmpeg = ffmpeg.path();
        config.live.ladder = Vec::new();
        config.live.ladder_cores = Some(4.0);
    })
    .await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let room = text(&makes(&ann, "/v1/rooms", json!({ "title": "Monday" })).await, "id");
    let made = makes(&ann, "/v1/streams", json!({ "title": "Monday", "record": true })).await;
    let of = |part: &str, field: &str| made[part][field].as_str().unwrap_or_default().to_owned();
    let key = made["stream_key"].as_str().expect("a key").to_owned();
    let stream = Stream { id: of("stream", "id"), key, owner: ann.session.clone() };
    let (red, blue) = (Clip::vp8("red", "320x240").await, Clip::h264("blue", "640x360").await);
    let mut anns = Participant::joins(&app, &ann, &room, red, false, 1_000).await;
    let mut bos = Participant::joins(&app, &bo, &room, blue, true, 2_000).await;
    assert_eq!(anns.joined["streaming"], Value::Null);

    // Only hosts, and only what is theirs.
    let ask = json!({ "stream": stream.id });
    assert_eq!(bos.does("stream", ask.clone()).await["code"], "forbidden");
    assert_eq!(bos.does("unstream", json!({})).await["code"], "forbidden");
    let bos_own = makes(&bo, "/v1/streams", json!({ "title": "other" })).await;
    assert_eq!(anns.does("stream", json!({ "stream": bos_own["stream"]["id"] })).await["code"], "not_found");
    assert_eq!(anns.does("unstream", json!({})).await["code"], "conflict");
    assert_eq!(anns.does("stream", json!({ "stream": "stream_1" })).await["code"], "invalid_fields");

    anns.speaks.set(true);
    let asked = Instant::now();
    let answer = anns.does("stream", ask.clone()).await;
    assert_eq!(answer["type"], "ok", "{answer}");
    assert_eq!(anns.does("stream", ask.clone()).await["type"], "ok", "asking twice is asking once");
    let told = bos.sees_streaming().await;
    let shown = json!({ "stream": stream.id, "by": anns.joined["participant"], "recorded": true });
    assert_eq!(told["streaming"], shown, "{told}");
    airs(&app, &stream).await;
    assert_eq!(app.metric("nova_egress_rooms").await, Some(1.0));
    let url = stream.url(&app);
    shows("Ann, who speaks", &url, is_red).await;
    let entries = ["-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0"];
    let codecs = says("ffprobe", &[&entries[..], &[&url]].concat()).await;
    assert!(codecs.contains("h264,1280,720") && codecs.contains("aac"), "{codecs}");
    let loud = loudness(&url).await;
    assert!(loud > -40.0, "{loud} dB");

    // Bo speaks: another codec and another size.
    hears_all(&mut [&mut anns, &mut bos]).await;
    anns.speaks.set(false);
    bos.speaks.set(true);
    shows("Bo, who speaks now", &url, is_blue).await;

    // Encoders and decoders die, and the stream goes on.
    for part in ["libx264", "aac", "rawvideo"] {
        assert!(!ffmpeg.with(part).is_empty(), "{part}");
        ffmpeg.kill(part);
    }
    hears_all(&mut [&mut anns, &mut bos]).await;
    bos.speaks.set(false);
    anns.speaks.set(true);
    shows("Ann again, after a crash", &url, is_red).await;
    let restarts = app.metric("nova_egress_restarts_total{part=\"pictures\"}").await;
    assert!(restarts.is_some_and(|restarts| restarts >= 1.0), "{restarts:?}");
    assert_eq!(stream.told(&app).await["state"], "live");

    // The host is gone: whoever is left is shown on.
    hears_all(&mut [&mut bos]).await;
    drop(anns);
    bos.speaks.set(true);
    shows("Bo, who is left", &url, is_blue).await;
    let mut anns = Device::returns(&app, &ann.session.token()).await.0;
    let identity = Identity::generate().expect("a certificate");
    let offered = offer(Shape { ears: 0, eyes: 0, has_voice: true, layers: 1 }, &identity.fingerprint());
    let back = anns.asks(json!({ "type": "room.join", "room": room, "offer": offered })).await;
    assert_eq!(back["streaming"]["stream"], json!(stream.id), "who comes later is told: {back}");
    assert_eq!(anns.asks(json!({ "type": "room.unstream" })).await["type"], "ok");
    let told = bos.sees_streaming().await;
    assert_eq!((&told["streaming"], &told["reason"]), (&Value::Null, &json!("stopped")), "{told}");
    stream.becomes(&app, "ended").await;
    let lasted = asked.elapsed().as_secs_f64();

    // What was shown is kept, from the first picture to the last, in one piece.
    let kept = is_ready(&app, &stream).await;
    let duration = kept["duration_ms"].as_u64().expect("a duration") as f64 / 1_000.0;
    let at = |field: &str| {
        let text = kept[field].as_str().expect("a time");
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).expect("RFC 3339")
    };
    let aired = (at("ended_at") - at("started_at")).as_seconds_f64();
    // A machine that stands still makes no pictures, and says so. What was shown while the encoder began is kept, though nobody saw it yet.
    let late = app.metric("nova_egress_late_milliseconds_total").await.expect("a number") / 1_000.0;
    let missing = aired - late - duration;
    assert!(missing < 5.0, "{duration} s kept of {aired} s, {late} s late");
    assert!(duration < lasted, "{duration} s kept, {lasted} s after it was asked for");
    let address = kept["playback_url"].as_str().expect("an address");
    let seconds = seconds_of(address).await;
    // Of the end there is sound to which the pictures are still in the encoder: a few, each of which takes long on a busy machine.
    assert!((-0.5..3.0).contains(&(duration - seconds)), "{seconds} of {duration}");
    assert!(loudness(address).await > -40.0);
    eventually("no child is left", PATIENCE, async || {
        let left = ["libx264", "aac", "rawvideo", "s16le"].iter().any(|part| !ffmpeg.with(part).is_empty());
        (!left && app.metric("nova_egress_rooms").await == Some(0.0)).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn a_streamed_room_gives_way_to_an_encoder_and_ends_with_the_room() {
    let app = TestApp::start_with(|config| {
        config.live.ladder = Vec::new();
        config.live.ladder_cores = Some(4.0);
        config.live.stream_resume_s = 1;
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let ann = Person { app: &app, session: stream.owner.clone() };
    let room = text(&makes(&ann, "/v1/rooms", json!({})).await, "id");
    let red = Clip::vp8("red", "320x240").await;
    let mut anns = Participant::joins(&app, &ann, &room, red, false, 1_000).await;
    let ask = json!({ "stream": stream.id });
    assert_eq!(anns.does("stream", ask.clone()).await["type"], "ok");
    assert_eq!(anns.sees_streaming().await["streaming"]["recorded"], false);
    airs(&app, &stream).await;
    let encoder = stream.publish(&app);
    let told = anns.sees_streaming().await;
    assert_eq!((&told["streaming"], &told["reason"]), (&Value::Null, &json!("taken_over")), "{told}");
    encoder.stop().await;
    stream.becomes(&app, "ended").await;
    assert_eq!(anns.does("stream", ask).await["type"], "ok");
    airs(&app, &stream).await;
    assert_eq!(ann.asks(Method::DELETE, &format!("/v1/rooms/{room}"), None).await.0, 204);
    stream.becomes(&app, "ended").await;
    eventually("the room is nobody's stream", PATIENCE, async || {
        app.metric("nova_egress_rooms").await.filter(|rooms| *rooms == 0.0)
    })
    .await;
}

#[actix_rt::test]
async fn a_machine_that_is_slow_to_start_anything_streams_a_room_all_the_same() {
    let ffmpeg = Watched::slow();
    let app = TestApp::start_with(|config| {
        config.live.ffmpeg = ffmpeg.path();
        config.live.ladder = Vec::new();
        config.live.ladder_cores = Some(4.0);
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let ann = Person { app: &app, session: stream.owner.clone() };
    let room = text(&makes(&ann, "/v1/rooms", json!({})).await, "id");
    let red = Clip::vp8("red", "320x240").await;
    let mut anns = Participant::joins(&app, &ann, &room, red, false, 1_000).await;
    anns.speaks.set(true);
    assert_eq!(anns.does("stream", json!({ "stream": stream.id })).await["type"], "ok");
    airs(&app, &stream).await;
    let url = stream.url(&app);
    shows("Ann, who speaks", &url, is_red).await;
    let loud = loudness(&url).await;
    assert!(loud > -40.0, "{loud} dB");
    for part in ["pictures", "sounds", "picture", "voice"] {
        let restarts = app.metric(&format!("nova_egress_restarts_total{{part=\"{part}\"}}")).await;
        assert!(restarts.is_none_or(|restarts| restarts == 0.0), "{part}: {restarts:?}");
    }
}

#[actix_rt::test]
async fn what_this_node_cannot_make_is_refused_with_what_to_do() {
    for (cores, program, code, words) in
        [(0.0, "ffmpeg", "overloaded", "--ladder-cores"), (4.0, "/nowhere/ffmpeg", "unavailable", "--ffmpeg")]
    {
        let app = TestApp::start_with(|config| {
            config.live.ladder_cores = Some(cores);
            config.live.ffmpeg = program.into();
        })
        .await;
        let stream = Stream::of(&app, "ann").await;
        let ann = Person { app: &app, session: stream.owner.clone() };
        let room = text(&makes(&ann, "/v1/rooms", json!({})).await, "id");
        let mut anns = Device::returns(&app, &ann.session.token()).await.0;
        let identity = Identity::generate().expect("a certificate");
        let offered = offer(Shape { ears: 0, eyes: 0, has_voice: true, layers: 1 }, &identity.fingerprint());
        let joined = anns.asks(json!({ "type": "room.join", "room": room, "offer": offered })).await;
        assert_eq!(joined["type"], "room.joined", "{joined}");
        let refused = anns.asks(json!({ "type": "room.stream", "stream": stream.id })).await;
        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{refused}");
        // Nothing is left of the attempt.
        assert_eq!(anns.asks(json!({ "type": "room.unstream" })).await["code"], "conflict");
        assert_eq!(app.metric("nova_egress_rooms").await, Some(0.0));
        assert_eq!(stream.told(&app).await["state"], "idle");
    }
}
