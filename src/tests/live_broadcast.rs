//! A broadcaster points an encoder at the engine; a moment later others watch.

use reqwest::StatusCode;
use serde_json::Value;

use crate::accounts;
use crate::app::{TestApp, eventually};
use crate::broadcaster::{Playlist, Stream, attribute, says};

#[actix_web::test]
async fn ffmpeg_publishes_and_ffprobe_and_ffmpeg_watch() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    assert_eq!(stream.told(&app).await["state"], "idle");
    assert_eq!(
        app.http.get(stream.url(&app)).send().await.expect("an answer").status(),
        StatusCode::NOT_FOUND
    );

    let encoder = stream.publish(&app);
    let playlist = stream.playlist(&app).await;
    assert!(playlist.text.contains("#EXT-X-PART:"), "{}", playlist.text);
    let index = app.http.get(stream.url(&app)).send().await.expect("an answer");
    assert_eq!(index.headers()["content-type"], "application/vnd.apple.mpegurl");
    assert_eq!(index.headers()["access-control-allow-origin"], "*");
    let index = index.text().await.expect("text");
    let variant =
        index.lines().find_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:")).expect("a rendition");
    assert_eq!(attribute(variant, "RESOLUTION"), "320x180");
    assert_eq!(attribute(variant, "FRAME-RATE"), "30.000");
    assert!(attribute(variant, "CODECS").starts_with("avc1."), "{variant}");
    assert!(attribute(variant, "CODECS").ends_with(",mp4a.40.2"), "{variant}");
    assert!(attribute(variant, "BANDWIDTH").parse::<u64>().expect("a number") > 50_000, "{variant}");

    // The list of what is on the air, the owner's view, the metrics.
    let told = stream.becomes(&app, "live").await;
    assert_eq!(told["playback_url"], stream.url(&app));
    let bob = accounts::registers(&app, "bob").await;
    let (_, list) = accounts::get(&app, "/v1/streams?state=live", &bob.token()).await;
    let ids: Vec<_> = list["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
    assert_eq!(ids, [&told["id"]]);
    let publisher = eventually("the owner sees pictures arrive", async || {
        let stats = stream.stats(&app).await;
        let arrives =
            stats["publisher"]["frames_per_s"].as_f64().is_some_and(|rate| (25.0..35.0).contains(&rate));
        arrives.then(|| stats["publisher"].clone())
    })
    .await;
    assert!(publisher["video_bitrate_bps"].as_u64().is_some_and(|rate| rate > 50_000), "{publisher}");
    assert!(publisher["encoder"].as_str().is_some_and(|name| name.starts_with("Lavf")), "{publisher}");
    assert_eq!(publisher["timestamps_mended"], 0, "{publisher}");
    assert_eq!(app.metric("nova_publishers").await, Some(1.0));
    assert_eq!(app.metric("nova_streams_live").await, Some(1.0));

    // FFmpeg knows no parts: it begins when a segment is whole.
    let mut playlist = playlist;
    eventually("a segment is whole", async || playlist.reload(&app).await.contains("#EXTINF:").then_some(()))
        .await;
    // Real players: what the streams are, and four seconds decoded without a complaint.
    let url = stream.url(&app);
    let probed =
        says("ffprobe", &["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", &url]).await;
    let mut codecs: Vec<_> = probed.split_whitespace().collect();
    codecs.sort_unstable();
    codecs.dedup();
    assert_eq!(codecs, ["aac", "h264"]);
    let entries = ["-show_entries", "packet=codec_type,dts_time", "-read_intervals", "%+4", "-of", "csv=p=0"];
    let packets = says("ffprobe", &[&["-v", "error"], &entries[..], &[&url]].concat()).await;
    for track in ["video", "audio"] {
        let dts: Vec<f64> = packets
            .lines()
            .filter_map(|line| {
                line.strip_prefix(track)?.strip_prefix(',')?.trim_end_matches(',').parse().ok()
            })
            .collect();
        assert!(dts.len() > 60, "{track}: {} packets", dts.len());
        let step = |pair: &[f64]| pair[1] - pair[0];
        assert!(dts.windows(2).all(|pair| step(pair) > 0.0 && step(pair) < 0.05), "{track}: {dts:?}");
    }
    assert!(
        eventually("the players are counted", async || {
            app.metric("nova_viewers").await.filter(|count| *count >= 1.0)
        })
        .await
            >= 1.0
    );

    // The button is pressed: the playlist gets its end, and the stream has a peak to remember.
    encoder.stop().await;
    let told = stream.becomes(&app, "ended").await;
    assert!(told["viewers_peak"].as_u64().is_some_and(|peak| peak >= 1), "{told}");
    assert!(told["ended_at"].as_str() > told["started_at"].as_str(), "{told}");
    let last = Playlist::open(&app, &stream.url(&app)).await.expect("it can be watched to its end");
    assert!(last.text.ends_with("#EXT-X-ENDLIST\n"), "{}", last.text);
    let (_, list) = accounts::get(&app, "/v1/streams?state=live", &bob.token()).await;
    assert_eq!(list["items"], Value::Array(Vec::new()));
    assert_eq!(app.metric("nova_publishers").await, Some(0.0));
}
