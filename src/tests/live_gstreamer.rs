//! The other media framework: GStreamer publishes, and FFmpeg plays what it published.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

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
