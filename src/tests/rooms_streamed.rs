//! Rooms that are made live streams: participants without a browser who publish real VP8, H.264 and Opus, and a viewer's decoder at the
//! other end.

use std::cell::Cell;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nova::bench::calls::peer::{Peer, Shape, Tally, offer};
use nova_media::codec::{Configuration, ogg};
use nova_media::fmp4::Reader;
use nova_media::fmp4::reader::Event;
use nova_media::peer::Identity;
use nova_media::rtp::h264;
use nova_media::rtp::packet::Header;
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

const PATIENCE: Duration = Duration::from_secs(60);
const PICTURE_EVERY: Duration = Duration::from_millis(40);
const WORD_EVERY: Duration = Duration::from_millis(20);
/// Numbers of codecs and extensions as the offers of native peers have them.
const VIDEO: u8 = 96;
const OPUS: u8 = 111;
const MID: u8 = 4;
const LEVEL: u8 = 14;

/// What somebody shows: payloads of each picture of two seconds, a keyframe every half.
struct Clip(Vec<Vec<Vec<u8>>>);

/// Two seconds of a voice, in packets of 20 ms.
struct Words(Vec<Vec<u8>>);

async fn made(arguments: &str) -> Vec<u8> {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    let quiet = ["-v", "error", "-nostdin"];
    let run = Command::new("ffmpeg").args(quiet).args(words).stdin(Stdio::null()).output();
    let output = run.await.expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Clip {
    /// VP8 of one colour, as a browser's camera would send it.
    async fn vp8(colour: &str, size: &str) -> Clip {
        let ivf = made(&format!(
            "-f lavfi -i color={colour}:size={size}:rate=25:duration=2 -c:v libvpx -deadline realtime -b:v 300k -g 12 \
             -keyint_min 12 -auto-alt-ref 0 -f ivf pipe:1"
        ))
        .await;
        let (mut rest, mut pictures) = (&ivf[32..], Vec::new());
        while let Some((len, _)) = rest.split_first_chunk::<4>() {
            let end = 12 + u32::from_le_bytes(*len) as usize;
            let pieces = rest[12..end].chunks(1_100).enumerate();
            // RFC 7741: the descriptor says where the picture begins.
            pictures.push(
                pieces.map(|(at, piece)| [&[if at == 0 { 0x10 } else { 0 }], piece].concat()).collect(),
            );
            rest = &rest[end..];
        }
        Clip(pictures)
    }

    /// H.264 of one colour.
    async fn h264(colour: &str, size: &str) -> Clip {
        let mp4 = made(&format!(
            "-f lavfi -i color={colour}:size={size}:rate=25:duration=2 -c:v libx264 -profile:v baseline -tune zerolatency -g 12 \
             -pix_fmt yuv420p -f mp4 -movflags empty_moov+default_base_moof+frag_every_frame pipe:1"
        ))
        .await;
        let mut described = None;
        let mut pictures = Vec::new();
        for event in Reader::new().push(&mp4).expect("it is read") {
            match event {
                Event::Track { configuration, .. } => described = Some(configuration),
                Event::Sample { frame, .. } => {
                    let Some(Configuration::H264(found)) = described.as_deref() else { panic!("no H.264") };
                    let payloads = h264::payloads(&frame.payload, frame.keyframe, found);
                    pictures.push(payloads.iter().map(|payload| payload.to_vec()).collect());
                }
            }
        }
        Clip(pictures)
    }
}

impl Words {
    async fn of_pitch(hertz: u32) -> Words {
        let file = made(&format!(
            "-f lavfi -i sine=frequency={hertz}:sample_rate=48000:duration=2 -c:a libopus -b:a 48k -f ogg pipe:1"
        ))
        .await;
        let mut packets = ogg::Packets::default();
        packets.push(&file);
        let all = std::iter::from_fn(|| packets.take().expect("it is Ogg"));
        Words(all.skip(2).map(|packet| packet.to_vec()).collect())
    }
}

/// Somebody in a room, without a browser.
struct Participant {
    device: Device,
    speaks: Rc<Cell<bool>>,
    joined: Value,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Participant {
    /// Joins, connects, and shows its clip; says nothing yet.
    async fn joins(
        app: &TestApp,
        person: &Person<'_>,
        room: &str,
        clip: Clip,
        is_h264: bool,
        ssrc: u32,
    ) -> Self {
        let mut device = Device::returns(app, &person.session.token()).await.0;
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let shape = Shape { ears: 0, eyes: 0, has_voice: true, layers: 1 };
        let mut offered = offer(shape, &identity.fingerprint());
        if is_h264 {
            offered = offered.replace(
                "a=rtpmap:96 VP8/90000\r\n",
                "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
            );
        }
        let joined = device.asks(json!({ "type": "room.join", "room": room, "offer": offered })).await;
        assert_eq!(joined["type"], "room.joined", "{joined}");
        let answer = joined["answer"].as_str().expect("an answer");
        let tally = Rc::new(Tally::default());
        let peer = Rc::new(Peer::new(&identity, answer, &tally, Instant::now(), 0).expect("a peer"));
        tokio::task::spawn_local(Rc::clone(&peer).listen());
        eventually("the peer connects", PATIENCE, async || {
            peer.tick(Instant::now());
            peer.is_connected().then_some(())
        })
        .await;
        let tracks = json!([{ "mid": "0", "source": "microphone" }, { "mid": "1", "source": "camera" }]);
        let published = device.asks(json!({ "type": "room.publish", "tracks": tracks })).await;
        assert_eq!(published["type"], "room.published", "{published}");
        let speaks = Rc::new(Cell::new(false));
        let words = Words::of_pitch(300 + 10 * ssrc).await;
        let task = tokio::task::spawn_local(performs(peer, clip, words, Rc::clone(&speaks), ssrc));
        Participant { device, speaks, joined, task }
    }

    async fn does(&mut self, what: &str, mut fields: Value) -> Value {
        fields["type"] = format!("room.{what}").into();
        self.device.asks(fields).await
    }

    /// Waits until it is told how the room is shown.
    async fn sees_streaming(&mut self) -> Value {
        loop {
            let told = self.device.hears("room.event").await;
            if told["event"] == "streaming" {
                return told;
            }
        }
    }
}

/// Sends at the pace of life.
async fn performs(peer: Rc<Peer>, clip: Clip, words: Words, speaks: Rc<Cell<bool>>, ssrc: u32) {
    let began = Instant::now();
    let (mut shown, mut said, mut number, mut spoken) = (0_u32, 0_u32, 0_u16, 0_u16);
    loop {
        let now = Instant::now();
        peer.tick(now);
        let send = |header: Header<'_>, payload: &[u8]| {
            let mut packet = Vec::with_capacity(1_300);
            header.write(&mut packet);
            packet.extend_from_slice(payload);
            if let Some(sealed) = peer.seal(&packet) {
                peer.throw(&sealed);
            }
        };
        while began + PICTURE_EVERY * shown <= now {
            let payloads = &clip.0[shown as usize % clip.0.len()];
            for (at, payload) in payloads.iter().enumerate() {
                let extensions: &[(u8, &[u8])] = &[(MID, b"1")];
                let (marker, timestamp) = (at + 1 == payloads.len(), shown.wrapping_mul(3_600));
                let sequence = number;
                send(Header { marker, payload_type: VIDEO, sequence, timestamp, ssrc, extensions }, payload);
                number = number.wrapping_add(1);
            }
            shown += 1;
        }
        while began + WORD_EVERY * said <= now {
            // Who does not speak sends nothing, as encoders do in silence.
            if speaks.get() {
                let extensions: &[(u8, &[u8])] = &[(MID, b"0"), (LEVEL, &[10])];
                let (sequence, timestamp, ssrc) = (spoken, said.wrapping_mul(960), ssrc + 1);
                let header =
                    Header { marker: false, payload_type: OPUS, sequence, timestamp, ssrc, extensions };
                send(header, &words.0[said as usize % words.0.len()]);
                spoken = spoken.wrapping_add(1);
            }
            said += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

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

    // What was shown is kept, from the first picture to the last, in one piece.
    let kept = is_ready(&app, &stream).await;
    let duration = kept["duration_ms"].as_u64().expect("a duration") as f64 / 1_000.0;
    let at = |field: &str| {
        let text = kept[field].as_str().expect("a time");
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).expect("RFC 3339")
    };
    let aired = (at("ended_at") - at("started_at")).as_seconds_f64();
    // A machine that stands still makes no pictures, and says so.
    let late = app.metric("nova_egress_late_milliseconds_total").await.expect("a number") / 1_000.0;
    let missing = aired - late - duration;
    assert!((-0.5..5.0).contains(&missing), "{duration} s kept of {aired} s, {late} s late");
    let address = kept["playback_url"].as_str().expect("an address");
    let seconds = seconds_of(address).await;
    assert!((seconds - duration).abs() < 1.0, "{seconds} of {duration}");
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
