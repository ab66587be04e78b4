//! The rules of low-latency HLS (draft-pantos-hls-rfc8216bis, 6.2.5), by query and status.

use std::io::Read as _;

use reqwest::StatusCode;

use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Stream, attribute, made};

#[actix_web::test]
async fn directives_are_answered_waited_for_or_refused() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let _encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    eventually("a segment is whole", async || playlist.reload(&app).await.contains("#EXTINF:").then_some(()))
        .await;
    let status = async |query: &str| playlist.ask(&app, query).await.status();
    for query in ["_HLS_part=0", "_HLS_msn=x", "_HLS_msn=-1", "_HLS_msn=1&_HLS_msn=2", "_HLS_skip=maybe"] {
        assert_eq!(status(query).await, StatusCode::BAD_REQUEST, "{query}");
    }
    let (msn, part) = playlist.hint();
    for query in [format!("_HLS_msn={}", msn + 5), format!("_HLS_msn={}&_HLS_part={}", msn + 1, part + 60)] {
        assert_eq!(status(&query).await, StatusCode::BAD_REQUEST, "{query}");
    }
    assert_eq!(status("_HLS_msn=0&_HLS_part=0").await, StatusCode::OK, "what is long there is answered");
    assert_eq!(status("_HLS_skip=YES").await, StatusCode::OK);

    // The next segment is waited for, and is there when the answer is.
    let answer = playlist.ask(&app, &format!("_HLS_msn={}&_HLS_part=0", msn + 1)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "public, max-age=24", "six target durations");
    let text = answer.text().await.expect("text");
    assert!(text.contains(&format!("/{}.0.m4s\"", msn + 1)), "{text}");

    // So is the part that was promised; everything under its name stays what it is.
    playlist.reload(&app).await;
    let hint = attribute(playlist.tags("EXT-X-PRELOAD-HINT")[0], "URI");
    let part = app.http.get(playlist.of(&hint)).send().await.expect("an answer");
    if part.status() == StatusCode::OK {
        assert_eq!(part.headers()["content-type"], "video/mp4");
        assert_eq!(part.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(part.headers()["cross-origin-resource-policy"], "cross-origin");
        assert!(part.bytes().await.expect("bytes").len() > 500);
    } else {
        // The segment ended before it: a promise of a part past its end is void.
        assert_eq!(part.status(), StatusCode::NOT_FOUND);
    }
    for gone in ["1/99999.m4s", "7/0.m4s", "1/init9.mp4", "1/..m4s"] {
        let answer = app.http.get(playlist.of(gone)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{gone}");
    }

    // A segment is its parts in order, byte for byte, and parts keep the promised length.
    let segment: Vec<_> = playlist.text.lines().filter(|line| line.ends_with(".m4s")).collect();
    let uri = *segment.last().expect("a whole segment");
    let prefix = uri.trim_end_matches("m4s");
    let parts: Vec<_> = playlist
        .tags("EXT-X-PART")
        .into_iter()
        .map(|part| (attribute(part, "URI"), attribute(part, "DURATION").parse::<f64>().expect("a number")))
        .filter(|(uri, _)| uri.starts_with(prefix))
        .collect();
    assert!(parts.len() > 3, "{}", playlist.text);
    assert!(parts.iter().all(|(_, duration)| *duration <= 0.333), "{parts:?}");
    let bytes = async |uri: &str| {
        let answer = app.http.get(playlist.of(uri)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{uri}");
        answer.bytes().await.expect("bytes")
    };
    let mut whole = Vec::new();
    for (uri, _) in &parts {
        whole.extend_from_slice(&bytes(uri).await);
    }
    assert_eq!(bytes(uri).await, whole);

    let packed =
        app.http.get(&playlist.url).header("accept-encoding", "gzip").send().await.expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["vary"], "Accept-Encoding");
    let packed = packed.bytes().await.expect("bytes");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzip");
    assert!(text.starts_with("#EXTM3U\n") && text.contains("#EXT-X-PRELOAD-HINT"), "{text}");
}

/// Parts hold whole pictures: with 15 of them a second a third of a second would be filled to four fifths only, so the target is what four
/// fill (8216bis, 4.4.3.7: at least 85 %).
#[actix_web::test]
async fn parts_fill_their_target_also_where_few_pictures_come() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let slow = made("slow", "320x180", 10, &["-r", "15", "-g", "15"]);
    let input = ["-re", "-stream_loop", "-1", "-i", slow.to_str().expect("UTF-8"), "-c", "copy"];
    let _encoder = Encoder::start(&input, &stream.ingest(&app));
    let mut playlist = stream.playlist(&app).await;
    eventually("two segments are whole", async || {
        (playlist.reload(&app).await.matches("#EXTINF:").count() >= 2).then_some(())
    })
    .await;
    let target: f64 = attribute(playlist.tags("EXT-X-PART-INF")[0], "PART-TARGET").parse().expect("a number");
    assert!((0.260..0.275).contains(&target), "{target}");
    let parts: Vec<(String, f64)> = playlist
        .tags("EXT-X-PART")
        .into_iter()
        .map(|part| (attribute(part, "URI"), attribute(part, "DURATION").parse().expect("a number")))
        .collect();
    for pair in parts.windows(2) {
        // The last of a segment may be shorter.
        let is_last = pair[1].0.contains(".0.m4s");
        assert!(pair[0].1 <= target && (is_last || pair[0].1 >= target * 0.85), "{pair:?} of {target}");
    }
}

#[actix_web::test]
async fn who_waits_is_bounded_and_stops_waiting_when_the_client_leaves() {
    let app = TestApp::start_with(|config| config.live.playback_waits_max = 1).await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let playlist = stream.playlist(&app).await;
    // Nothing comes any more, so whoever waits goes on waiting.
    encoder.freeze();
    let mut frozen = playlist;
    let mut before = String::new();
    let (msn, _) = eventually("nothing comes any more", async || {
        let text = frozen.reload(&app).await.to_owned();
        let still = std::mem::replace(&mut before, text) == frozen.text;
        let hint = frozen.hint();
        if still {
            Some(hint)
        } else {
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
            None
        }
    })
    .await;
    let url = format!("{}?_HLS_msn={msn}", frozen.url);
    let waiting = tokio::spawn(app.http.get(&url).send());
    let parked = async |count: f64| {
        eventually("as many wait as should", async || {
            app.metric("nova_playback_waiting").await.filter(|waiting| *waiting == count)
        })
        .await
    };
    parked(1.0).await;
    let refused = app.http.get(&url).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.headers()["access-control-allow-origin"], "*");
    waiting.abort();
    parked(0.0).await;
}
