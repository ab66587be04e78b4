//! What is kept of broadcasts: played by real players, through crashes, and with an object store that is away.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts;
use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Playlist, Stream, attribute, made, made_at, says};
use crate::program::Program;

/// A stream whose broadcasts are kept.
async fn kept(app: &TestApp, name: &str) -> Stream {
    let stream = Stream::of(app, name).await;
    let path = format!("/v1/streams/{}", stream.id);
    let (status, body) = accounts::ask(
        app,
        Method::PATCH,
        &path,
        Some(&stream.owner.token()),
        Some(json!({ "record": true })),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    stream
}

/// Publishes a file of five seconds to its end.
async fn publishes_five_seconds(app: &TestApp, stream: &Stream, copies: &str) {
    let source = made("five", "320x180", 5, &[]);
    let input = source.to_str().expect("utf-8");
    let encoder =
        Encoder::start(&["-re", "-stream_loop", copies, "-i", input, "-c", "copy"], &stream.ingest(app));
    let (ended_well, said) = encoder.ended().await;
    assert!(ended_well, "{said}");
}

async fn recordings(app: &TestApp, stream: &Stream) -> Vec<Value> {
    let path = format!("/v1/streams/{}/recordings", stream.id);
    let (status, body) = accounts::get(app, &path, &stream.owner.token()).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["items"].as_array().expect("items").clone()
}

pub async fn is_ready(app: &TestApp, stream: &Stream) -> Value {
    eventually("the recording is ready", async || {
        recordings(app, stream).await.into_iter().find(|recording| recording["state"] == "ready")
    })
    .await
}

/// Reads a recording as FFmpeg does, and says how many seconds of pictures it found; checks that time only goes forward.
pub async fn seconds_of(url: &str) -> f64 {
    let entries = ["-v", "error", "-show_entries", "packet=codec_type,dts_time", "-of", "csv=p=0", url];
    let packets = says("ffprobe", &entries).await;
    let mut length = 0.0;
    for track in ["video", "audio"] {
        let dts: Vec<f64> = packets
            .lines()
            .filter_map(|line| {
                line.strip_prefix(track)?.strip_prefix(',')?.trim_end_matches(',').parse().ok()
            })
            .collect();
        assert!(dts.len() > 10, "{track}: {} packets in {url}", dts.len());
        assert!(dts.windows(2).all(|pair| pair[1] > pair[0]), "{track}: {dts:?}");
        if track == "video" {
            length = dts[dts.len() - 1] - dts[0];
        }
    }
    length
}

#[actix_web::test]
async fn a_broadcast_is_there_to_be_watched_as_soon_as_it_has_ended_and_can_be_deleted() {
    let app = TestApp::start().await;
    let stream = kept(&app, "ann").await;
    assert_eq!(recordings(&app, &stream).await, Vec::<Value>::new());
    publishes_five_seconds(&app, &stream, "0").await;
    let told = is_ready(&app, &stream).await;
    assert_eq!(told["title"], "ann plays");
    let duration_ms = told["duration_ms"].as_u64().expect("a duration");
    assert!((4_800..5_200).contains(&duration_ms), "{told}");
    // It began with its first picture, not when its first segment was whole.
    let at = |field: &str| {
        let text = told[field].as_str().expect("a time");
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).expect("RFC 3339")
    };
    let aired_ms = (at("ended_at") - at("started_at")).whole_milliseconds();
    // FFmpeg sends the first half a second at once.
    assert!(aired_ms >= i128::from(duration_ms) - 800, "{told}");

    // FFmpeg plays it from the first picture to the last.
    let url = told["playback_url"].as_str().expect("an address").to_owned();
    let seconds = seconds_of(&url).await;
    assert!((4.8..5.2).contains(&seconds), "{seconds}");
    let decoded = says(
        "ffprobe",
        &[
            "-v",
            "error",
            "-count_frames",
            "-show_entries",
            "stream=nb_read_frames",
            "-select_streams",
            "v",
            "-of",
            "csv=p=0",
            &url,
        ],
    )
    .await;
    let frames: u32 =
        decoded.lines().next().expect("a line").trim_end_matches(',').parse().expect("a number");
    assert!((145..=151).contains(&frames), "{frames} pictures");

    let answer = app.http.get(&url).send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/vnd.apple.mpegurl");
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    let playlist = Playlist { text: answer.text().await.expect("text"), url: url.clone() };
    assert!(playlist.text.contains("#EXT-X-PLAYLIST-TYPE:VOD\n"), "{}", playlist.text);
    assert!(playlist.text.ends_with("#EXT-X-ENDLIST\n"), "{}", playlist.text);
    assert!(!playlist.text.contains("#EXT-X-DISCONTINUITY"), "{}", playlist.text);
    let init = attribute(playlist.tags("EXT-X-MAP")[0], "URI");
    let segments: Vec<_> = playlist.text.lines().filter(|line| line.ends_with(".m4s")).collect();
    let lengths: f64 = playlist
        .tags("EXTINF")
        .iter()
        .map(|length| length.trim_end_matches(',').parse::<f64>().expect("a number"))
        .sum();
    assert!((lengths * 1_000.0 - duration_ms as f64).abs() < 10.0, "{lengths} against {duration_ms}");

    // Bytes: whole, in ranges, not again, and not past the end.
    let whole = app.http.get(playlist.of(segments[0])).send().await.expect("an answer");
    assert_eq!(whole.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    let tag = whole.headers()["etag"].clone();
    let whole = whole.bytes().await.expect("bytes");
    let ask = async |name: &str, value: &str| {
        let request = app.http.get(playlist.of(segments[0])).header(name, value);
        request.send().await.expect("an answer")
    };
    for (range, expected, told) in [
        ("bytes=10-19", &whole[10..20], format!("bytes 10-19/{}", whole.len())),
        (
            "bytes=-7",
            &whole[whole.len() - 7..],
            format!("bytes {}-{}/{}", whole.len() - 7, whole.len() - 1, whole.len()),
        ),
    ] {
        let part = ask("range", range).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()["content-range"], told.as_str());
        assert_eq!(&part.bytes().await.expect("bytes")[..], expected);
    }
    assert_eq!(ask("range", "bytes=99999999-").await.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(
        ask("range", "bytes=0-1,3-4").await.status(),
        StatusCode::OK,
        "several ranges are answered whole"
    );
    assert_eq!(ask("if-none-match", tag.to_str().expect("text")).await.status(), StatusCode::NOT_MODIFIED);
    let size: u64 = told["size_bytes"].as_u64().expect("a size");
    assert!(size > whole.len() as u64, "{told}");

    // A picture, when FFmpeg is there, as it is here.
    let picture =
        app.http.get(told["thumbnail_url"].as_str().expect("an address")).send().await.expect("an answer");
    assert_eq!(picture.headers()["content-type"], "image/jpeg");
    assert!(picture.bytes().await.expect("bytes").starts_with(&[0xff, 0xd8]));

    // Nobody else deletes it; when it is deleted nothing is left, its bytes included.
    let bob = accounts::registers(&app, "bob").await;
    let path = format!("/v1/recordings/{}", told["id"].as_str().expect("an id"));
    assert_eq!(accounts::get(&app, &path, &bob.token()).await.0, StatusCode::OK);
    let delete = async |token: String| accounts::ask(&app, Method::DELETE, &path, Some(&token), None).await.0;
    assert_eq!(delete(bob.token()).await, StatusCode::FORBIDDEN);
    assert_eq!(delete(stream.owner.token()).await, StatusCode::NO_CONTENT);
    assert_eq!(app.http.get(&url).send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
    assert_eq!(recordings(&app, &stream).await, Vec::<Value>::new());
    eventually("its bytes are gone", async || {
        let answer = app.http.get(playlist.of(&init)).send().await.expect("an answer");
        (answer.status() == StatusCode::NOT_FOUND).then_some(())
    })
    .await;
    assert!(
        app.metric("nova_recording_segments_total{outcome=\"kept\"}").await.is_some_and(|kept| kept >= 2.0)
    );
}

#[actix_web::test]
async fn an_object_store_that_is_away_costs_the_recording_a_hole_and_the_viewers_nothing() {
    let app = TestApp::start().await;
    let stream = kept(&app, "ann").await;
    let folder = app.engine.config.objects_place();
    let nova::objects::Place::Disk(folder) = folder else { panic!("tests keep objects on disk") };
    // A file where the folder should be: nothing can be written, like on a disk that is full or gone.
    let breaks = |folder: &Path| {
        std::fs::rename(folder, folder.with_extension("away")).expect("renamed");
        std::fs::write(folder, "").expect("written");
    };
    let mends = |folder: &Path| {
        std::fs::remove_file(folder).expect("removed");
        std::fs::rename(folder.with_extension("away"), folder).expect("renamed");
    };
    breaks(&folder);
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    eventually("segments wait", async || {
        app.metric("nova_recording_lag_seconds").await.filter(|lag| *lag >= 1.0)
    })
    .await;
    let (before, _) = playlist.hint();
    eventually("viewers go on", async || {
        playlist.reload(&app).await;
        (playlist.hint().0 > before).then_some(())
    })
    .await;
    mends(&folder);
    eventually("what waited is written", async || {
        app.metric("nova_recording_segments_total{outcome=\"kept\"}").await.filter(|kept| *kept >= 3.0)
    })
    .await;
    encoder.stop().await;
    let told = is_ready(&app, &stream).await;
    let url = told["playback_url"].as_str().expect("an address");
    let text = app.http.get(url).send().await.expect("an answer").text().await.expect("text");
    assert!(!text.contains("#EXT-X-DISCONTINUITY"), "the queue was long enough: {text}");
    seconds_of(url).await;
}

#[actix_web::test]
async fn a_recording_survives_kill_9_up_to_the_last_whole_segment() {
    let data = tempfile::tempdir().expect("a directory");
    let more = ["--stream-resume-s", "1", "--rtmp-connections-max", "10"];
    let engine = Program::serve(data.path(), &more);
    let http = reqwest::Client::new();
    let (url, rtmp) = (engine.url("http"), engine.ready["rtmp"].as_str().expect("an address").to_owned());
    let (id, key, token) = made_at(&url, json!({ "title": "on the edge", "record": true })).await;
    let input = ["-re", "-stream_loop", "-1", "-i", crate::broadcaster::source(), "-c", "copy"];
    let _encoder = Encoder::start(&input, &format!("rtmp://{rtmp}/live/{key}"));
    let metrics = format!("http://{}/metrics", engine.ready["metrics"].as_str().expect("an address"));
    eventually("two segments are kept", async || {
        let text = http.get(&metrics).send().await.expect("metrics").text().await.expect("text");
        let line =
            text.lines().find(|line| line.starts_with("nova_recording_segments_total{outcome=\"kept\"}"))?;
        line.ends_with(" 2").then_some(())
    })
    .await;
    engine.end(rustix::process::Signal::KILL);

    let engine = Program::serve(data.path(), &more);
    let url = engine.url("http");
    let list = format!("{url}/v1/streams/{id}/recordings");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(40);
    let told = loop {
        let body: Value =
            http.get(&list).bearer_auth(&token).send().await.expect("answers").json().await.expect("json");
        if body["items"][0]["state"] == "ready" {
            break body["items"][0].clone();
        }
        assert!(std::time::Instant::now() < deadline, "it was not finished: {body}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert!(told["duration_ms"].as_u64().is_some_and(|ms| (3_900..9_000).contains(&ms)), "{told}");
    let seconds = seconds_of(told["playback_url"].as_str().expect("an address")).await;
    assert!(seconds > 3.8, "{seconds}");
}
