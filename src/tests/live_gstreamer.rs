//! The other media framework: GStreamer publishes, and FFmpeg plays what it published; GStreamer plays, to the end.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::app::TestApp;
use crate::broadcaster::{Stream, says};
use crate::services::eventually;

const PATIENCE: Duration = Duration::from_secs(90);

#[actix_web::test]
async fn gstreamer_publishes_and_ffmpeg_plays() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let location = format!("location={}", stream.ingest(&app));
    let picture = "videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=30/1,format=I420 ! \
        x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 bitrate=400 ! h264parse ! mux.";
    let sound = "audiotestsrc is-live=true ! audioconvert ! voaacenc ! aacparse ! mux.";
    let mut publisher = Command::new("gst-launch-1.0")
        .args(["-q", "flvmux", "name=mux", "streamable=true", "!", "rtmp2sink", &location])
        .args(picture.split_whitespace().chain(sound.split_whitespace()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("GStreamer is installed");
    let mut playlist = stream.playlist(&app).await;
    eventually("three segments are whole", PATIENCE, async || {
        (playlist.reload(&app).await.matches("#EXTINF:").count() >= 3).then_some(())
    })
    .await;
    let stats = stream.stats(&app).await;
    let encoder = stats["publisher"]["encoder"].as_str().unwrap_or_default();
    assert!(encoder.starts_with("GStreamer"), "{stats}");
    // Two seconds of both, decoded without a complaint.
    let url = stream.url(&app);
    assert_eq!(
        says("ffmpeg", &["-v", "error", "-xerror", "-i", &url, "-t", "2", "-f", "null", "-"]).await,
        ""
    );
    publisher.kill().await.expect("it is ours");
}

/// A GStreamer player that decodes what it plays at the pace of life and says so of every piece.
struct Player {
    child: Child,
    /// Pictures and pieces of sound it has shown.
    shown: [u64; 2],
    /// When the first and the latest of both are shown, in seconds.
    at_s: [Option<(f64, f64)>; 2],
    /// What else it said.
    words: Vec<String>,
}

impl Player {
    /// `playbin` has the older HLS demultiplexer, `playbin3` the newer one.
    fn start(kind: &str, url: &str) -> Player {
        let child = Command::new("gst-launch-1.0")
            .args(["-v", kind, &format!("uri={url}")])
            .args(["video-sink=fakesink name=pictures silent=false sync=true"])
            .args(["audio-sink=fakesink name=sound silent=false sync=true"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("GStreamer is installed");
        Player { child, shown: [0; 2], at_s: [None; 2], words: Vec::new() }
    }

    /// Reads what it says, until enough was seen and heard, or up to its end.
    async fn plays(&mut self, enough: Option<u64>) {
        let out = self.child.stdout.take().expect("piped");
        let mut lines = BufReader::new(out).lines();
        while let Some(line) = lines.next_line().await.expect("text") {
            let track = ["(pictures:sink)", "(sound:sink)"].iter().position(|sink| line.contains(sink));
            let Some(track) = track.filter(|_| line.contains("chain")) else {
                if !line.contains("last-message") && !line.contains("caps =") {
                    self.words.push(line);
                }
                continue;
            };
            let pts = line.split("pts: ").nth(1).and_then(|rest| rest.split(',').next());
            if let Some(pts) = pts {
                let sixties = pts.split(':').filter_map(|part| part.parse::<f64>().ok());
                let at_s = sixties.fold(0.0, |sum, part| sum * 60.0 + part);
                self.at_s[track].get_or_insert((at_s, at_s)).1 = at_s;
            }
            self.shown[track] += 1;
            if enough.is_some_and(|enough| self.shown.iter().all(|shown| *shown >= enough)) {
                break;
            }
        }
        self.child.stdout = Some(lines.into_inner().into_inner());
    }
}

#[actix_web::test]
async fn gstreamer_plays_and_ends_with_the_broadcast() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    eventually("three segments are whole", PATIENCE, async || {
        (playlist.reload(&app).await.matches("#EXTINF:").count() >= 3).then_some(())
    })
    .await;
    let kinds = ["playbin", "playbin3"];
    let mut players = kinds.map(|kind| Player::start(kind, &stream.url(&app)));
    let [one, other] = &mut players;
    let begin = async { tokio::join!(one.plays(Some(120)), other.plays(Some(120))) };
    timeout(PATIENCE, begin).await.expect("both see and hear");
    // Nobody tells them of the end: the playlist does.
    let end = async { tokio::join!(one.plays(None), other.plays(None), encoder.stop()) };
    timeout(PATIENCE, end).await.expect("both come to an end");
    for (kind, player) in kinds.into_iter().zip(&mut players) {
        let ended = timeout(PATIENCE, player.child.wait()).await.expect("it ends").expect("its status");
        assert!(ended.success(), "{kind}: {ended} {:?}", player.words);
        assert!(player.words.iter().any(|words| words.contains("Got EOS")), "{kind}: {:?}", player.words);
        assert!(!player.words.iter().any(|words| words.contains("ERROR")), "{kind}: {:?}", player.words);
        println!("{kind}: {:?} pictures and pieces of sound, between {:?} s", player.shown, player.at_s);
        // Nothing is missing of what it has played: a part is ten pictures. On a busy machine players leave out some that come late.
        for (track, per_s) in [(0, 30.0), (1, 44_100.0 / 1_024.0)] {
            let (first_s, last_s) = player.at_s[track].expect("some was shown");
            let (shown, due) = (player.shown[track] as f64, (last_s - first_s) * per_s + 1.0);
            assert!(shown >= 120.0 && (shown - due).abs() < 8.0, "{kind}: {shown} of {due}");
        }
    }
}
