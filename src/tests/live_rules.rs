//! The rules of low-latency HLS (draft-pantos-hls-rfc8216bis, 6.2.5), by query and status.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::{Duration, Instant};

use reqwest::StatusCode;

use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Playlist, Stream, attribute, made, says};
use crate::services;

/// How long an encoder on busy cores may take for what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// With a live edge that stands still every limit can be asked for exactly.
#[actix_web::test]
async fn limits_hold_to_the_last_part_waits_end_and_after_the_end_nothing_is_waited_for() {
    let app = TestApp::start_with(|config| {
        // Target durations of two seconds: a wait ends after six.
        config.live.hls_segment_ms = 1_000;
        config.live.stream_resume_s = 600;
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    services::eventually("segments have left the playlist", PATIENCE, async || {
        playlist.reload(&app).await;
        let first: u64 = playlist.tags("EXT-X-MEDIA-SEQUENCE")[0].parse().expect("a number");
        (first >= 2).then_some(())
    })
    .await;
    // Gone without a word: they may come back for ten minutes, and until then nothing comes.
    encoder.crash().await;
    eventually("they are gone", async || {
        app.metric("nova_publishers").await.filter(|publishers| *publishers == 0.0)
    })
    .await;
    eventually("the segment that was begun is closed", async || {
        playlist.reload(&app).await;
        (playlist.hint().1 == 0).then_some(())
    })
    .await;
    assert!(!playlist.text.contains("#EXT-X-ENDLIST"), "{}", playlist.text);
    let (msn, _) = playlist.hint();
    let status = async |query: String| playlist.ask(&app, &query).await.status();

    // The last segment is `msn - 1`: two more may be asked for, and of the next one three seconds of parts.
    assert_eq!(status(format!("_HLS_msn={}", msn + 2)).await, StatusCode::BAD_REQUEST);
    assert_eq!(status(format!("_HLS_msn={msn}&_HLS_part=10")).await, StatusCode::BAD_REQUEST);
    let waits = async |query: String| {
        let waiting = tokio::spawn(app.http.get(format!("{}?{query}", playlist.url)).send());
        eventually("it waits", async || {
            app.metric("nova_playback_waiting").await.filter(|waiting| *waiting == 1.0)
        })
        .await;
        waiting.abort();
        eventually("it waits no more", async || {
            app.metric("nova_playback_waiting").await.filter(|waiting| *waiting == 0.0)
        })
        .await;
    };
    for query in [
        format!("_HLS_msn={}", msn + 1),
        format!("_HLS_msn={}&_HLS_part=0", msn + 1),
        format!("_HLS_msn={msn}&_HLS_part=9"),
    ] {
        waits(query).await;
    }
    // What is there, and what was there, is answered at once: also a part past the end of a segment, which is the first of the next.
    for query in [
        format!("_HLS_msn={}", msn - 1),
        format!("_HLS_msn={}&_HLS_part=0", msn - 1),
        format!("_HLS_msn={}&_HLS_part=70", msn - 2),
        "_HLS_msn=0".to_owned(),
        "_HLS_msn=0&_HLS_part=3&_HLS_skip=YES".to_owned(),
    ] {
        let answer = playlist.ask(&app, &query).await;
        assert_eq!(answer.status(), StatusCode::OK, "{query}");
        assert_eq!(answer.text().await.expect("text"), playlist.text, "{query}");
    }

    // Nothing comes, and so nobody is made to wait for longer than three target durations; nor for the part that was promised.
    let hint = playlist.of(&attribute(playlist.tags("EXT-X-PRELOAD-HINT")[0], "URI"));
    let began = Instant::now();
    let query = format!("_HLS_msn={msn}");
    let (reload, part) = tokio::join!(playlist.ask(&app, &query), app.http.get(&hint).send());
    let part = part.expect("an answer");
    for answer in [&reload, &part] {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    }
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());

    // They come back and end it: what was asked for before the end is of no matter any more.
    let encoder = stream.publish(&app);
    eventually("the playlist goes on", async || {
        (playlist.reload(&app).await.contains("#EXT-X-DISCONTINUITY\n")).then_some(())
    })
    .await;
    encoder.stop().await;
    stream.becomes(&app, "ended").await;
    let whole = playlist.reload(&app).await.to_owned();
    assert!(whole.ends_with("#EXT-X-ENDLIST\n") && !whole.contains("#EXT-X-PRELOAD-HINT"), "{whole}");
    for query in ["_HLS_msn=99999", "_HLS_msn=99999&_HLS_part=7", "_HLS_msn=99999&_HLS_part=7&_HLS_skip=YES"]
    {
        let answer = playlist.ask(&app, query).await;
        assert_eq!(answer.status(), StatusCode::OK, "{query}");
        assert_eq!(answer.text().await.expect("text"), whole, "{query}");
    }
    assert_eq!(app.metric("nova_playback_waiting").await, Some(0.0));
}

/// A part: where it is, how long, and whether it begins with a keyframe.
type Part = (String, f64, bool);

/// A segment as a playlist tells of it.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    uri: String,
    duration_s: f64,
    date_ms: i64,
    /// Those of old segments are not told any more.
    parts: Vec<Part>,
}

/// Whole segments by number, and the parts of the one that has begun.
fn read(playlist: &Playlist) -> (BTreeMap<u64, Told>, Vec<Part>) {
    let (mut told, mut parts, mut date_ms, mut duration_s) = (BTreeMap::new(), Vec::new(), 0, 0.0);
    let number = |text: &str| text.parse::<f64>().expect("a number");
    for line in playlist.text.lines() {
        if let Some(part) = line.strip_prefix("#EXT-X-PART:") {
            let independent = part.contains("INDEPENDENT=YES");
            parts.push((attribute(part, "URI"), number(&attribute(part, "DURATION")), independent));
        } else if let Some(date) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            let at = time::OffsetDateTime::parse(date, &time::format_description::well_known::Rfc3339)
                .expect("a date");
            date_ms = i64::try_from(at.unix_timestamp_nanos() / 1_000_000).expect("milliseconds");
        } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
            duration_s = number(duration.trim_end_matches(','));
        } else if let Some(name) = line.strip_suffix(".m4s").filter(|_| !line.starts_with('#')) {
            let msn = name.rsplit('/').next().expect("a name").parse().expect("a number");
            let parts = std::mem::take(&mut parts);
            told.insert(msn, Told { uri: line.to_owned(), duration_s, date_ms, parts });
        }
    }
    (told, parts)
}

/// A viewer at the edge of a real broadcast for a quarter of a minute: what it was promised, what it was told, what it could fetch.
#[actix_web::test]
async fn who_follows_the_edge_finds_every_promise_kept() {
    let app = TestApp::start_with(|config| {
        config.live.hls_segment_ms = 1_000;
        config.live.hls_segments = 60;
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    let fixed = ["EXT-X-VERSION", "EXT-X-TARGETDURATION", "EXT-X-PART-INF", "EXT-X-SERVER-CONTROL"];
    let promised: Vec<Vec<String>> =
        fixed.map(|tag| playlist.tags(tag).into_iter().map(str::to_owned).collect()).to_vec();
    let number = |text: &str| text.parse::<f64>().expect("a number");
    let target_s = number(&promised[1][0]);
    let part_s = number(&attribute(&promised[2][0], "PART-TARGET"));
    let control = &promised[3][0];
    assert_eq!(attribute(control, "CAN-BLOCK-RELOAD"), "YES");
    assert!(number(&attribute(control, "PART-HOLD-BACK")) >= 3.0 * part_s, "{control}");
    assert!(number(&attribute(control, "CAN-SKIP-UNTIL")) >= 6.0 * target_s, "{control}");
    let hold_back = attribute(&control.replace("PART-HOLD-BACK", "PART"), "HOLD-BACK");
    assert!(number(&hold_back) >= 3.0 * target_s, "{control}");

    let mut known: BTreeMap<u64, Told> = BTreeMap::new();
    while known.len() < 16 {
        let (msn, part) = playlist.hint();
        let hint = playlist.of(&attribute(playlist.tags("EXT-X-PRELOAD-HINT")[0], "URI"));
        let query = format!("_HLS_msn={msn}&_HLS_part={part}");
        let (answer, hinted) = tokio::join!(playlist.ask(&app, &query), app.http.get(&hint).send());
        assert_eq!(answer.status(), StatusCode::OK);
        playlist.text = answer.text().await.expect("text");
        assert!(playlist.hint() > (msn, part), "what was waited for is there");
        // The part that was promised: its size is told with its first byte, so all of it is there by then.
        let hinted = hinted.expect("an answer");
        if hinted.status() == StatusCode::OK {
            let length: usize =
                hinted.headers()["content-length"].to_str().expect("text").parse().expect("a number");
            assert_eq!(hinted.bytes().await.expect("bytes").len(), length);
        } else {
            // Void, because its segment ended before it.
            assert_eq!(hinted.status(), StatusCode::NOT_FOUND);
            assert_eq!(playlist.hint().0, msn + 1, "{}", playlist.text);
        }

        let now: Vec<Vec<String>> =
            fixed.map(|tag| playlist.tags(tag).into_iter().map(str::to_owned).collect()).to_vec();
        assert_eq!(now, promised, "these never change");
        let (told, begun) = read(&playlist);
        let numbers: Vec<u64> = told.keys().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        for (msn, segment) in &told {
            if let Some(before) = known.get(msn) {
                assert_eq!(
                    (&segment.uri, segment.duration_s, segment.date_ms),
                    (&before.uri, before.duration_s, before.date_ms)
                );
            }
            assert!(segment.duration_s.round() <= target_s, "{segment:?}");
            if let Some(next) = told.get(&(msn + 1)) {
                let off_ms = next.date_ms - segment.date_ms - (segment.duration_s * 1_000.0).round() as i64;
                assert!(off_ms.abs() <= 1, "dates follow the media: {segment:?} {next:?}");
            }
            if let Some(((_, _, first), rest)) = segment.parts.split_first() {
                assert!(*first, "a segment begins with a keyframe: {segment:?}");
                let sum: f64 = segment.parts.iter().map(|(_, duration_s, _)| duration_s).sum();
                assert!((sum - segment.duration_s).abs() < 0.001, "{segment:?}");
                let full = segment.parts.len() - 1;
                assert!(
                    segment.parts[..full].iter().all(|(_, duration_s, _)| *duration_s >= 0.85 * part_s),
                    "{rest:?}"
                );
            }
        }
        let lengths = told.values().flat_map(|segment| &segment.parts).chain(&begun);
        assert!(lengths.into_iter().all(|(_, duration_s, _)| *duration_s <= part_s), "{}", playlist.text);
        // Parts are told of for three target durations from the end on, and not of what is older.
        let mut behind_s: f64 = begun.iter().map(|(_, duration_s, _)| duration_s).sum();
        for segment in told.values().rev() {
            assert_eq!(segment.parts.is_empty(), behind_s > 3.0 * target_s, "{behind_s} {segment:?}");
            behind_s += segment.duration_s;
        }
        known.extend(told);
    }

    // What is longer ago than six target durations a delta update leaves out, and nothing else.
    let skipped = services::eventually("both are of one moment", PATIENCE, async || {
        let whole = playlist.reload(&app).await.to_owned();
        let delta = playlist.ask(&app, "_HLS_skip=YES").await.text().await.expect("text");
        let other = playlist.ask(&app, "_HLS_skip=v2").await.text().await.expect("text");
        let skip =
            delta.lines().find_map(|line| line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS="))?.to_owned();
        let rest = delta.split("#EXT-X-SKIP").nth(1)?.split_once('\n')?.1;
        (whole.ends_with(rest) && other == delta).then(|| {
            let (all, left) = (whole.matches("#EXTINF:").count(), rest.matches("#EXTINF:").count());
            let skipped: usize = skip.parse().expect("a number");
            assert_eq!(left + skipped, all, "{delta}");
            skipped
        })
    })
    .await;
    assert!(skipped >= 2, "{skipped}");

    // An independent reader of the files: each is as long as was told, and one follows the other.
    let bytes = async |uri: &str| {
        let answer = app.http.get(playlist.of(uri)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{uri}");
        answer.bytes().await.expect("bytes")
    };
    let init = bytes(&attribute(playlist.tags("EXT-X-MAP")[0], "URI")).await;
    let mut ended_s: Option<f64> = None;
    for segment in known.values() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), [init.clone(), bytes(&segment.uri).await].concat()).expect("written");
        let path = file.path().to_str().expect("UTF-8");
        let entries =
            ["-v", "error", "-select_streams", "v", "-show_entries", "packet=dts_time", "-of", "csv=p=0"];
        let packets = says("ffprobe", &[&entries[..], &[path]].concat()).await;
        let dts: Vec<f64> = packets.lines().map(|line| number(line.trim_matches(','))).collect();
        assert!(dts.windows(2).all(|pair| (0.03..0.037).contains(&(pair[1] - pair[0]))), "{dts:?}");
        let frame_s = 1.0 / 30.0;
        let (first, last) = (dts[0], dts[dts.len() - 1]);
        assert!((last - first + frame_s - segment.duration_s).abs() <= frame_s, "{segment:?} {dts:?}");
        assert!(ended_s.is_none_or(|ended| (first - ended - frame_s).abs() < 0.005), "{ended_s:?} {first}");
        ended_s = Some(last);
    }
    encoder.stop().await;
}
