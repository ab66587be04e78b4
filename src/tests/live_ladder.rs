//! The ladder: renditions beside the source, made by a real FFmpeg, switched between by a real player, and lost with it.

use std::collections::BTreeMap;
use std::time::Duration;

use nova::live::transcoder::rung::Rung;
use reqwest::StatusCode;
use serde_json::Value;

use crate::app::TestApp;
use crate::broadcaster::{Playlist, Stream, attribute, says};
use crate::services::eventually;

/// How long an encoder, a transcoder and an engine on the same busy cores may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);

pub fn rungs(text: &str) -> Vec<Rung> {
    text.split(',').map(|rung| rung.parse().expect("a rung")).collect()
}

/// A node that makes 144 lines of the usual source of 180.
async fn node() -> TestApp {
    TestApp::start_with(|config| {
        config.live.ladder = rungs("720p,144p:150");
        config.live.ladder_cores = Some(2.0);
        config.live.thumbnail_s = 0;
    })
    .await
}

/// The multivariant playlist as soon as it has so many variants: their attributes and addresses, in order.
pub async fn variants(app: &TestApp, stream: &Stream, count: usize) -> Vec<(String, String)> {
    eventually("the renditions are listed", PATIENCE, async || {
        let answer = app.http.get(stream.url(app)).send().await.expect("an answer");
        if answer.status() != StatusCode::OK {
            return None;
        }
        let text = answer.text().await.expect("text");
        let lines: Vec<&str> = text.lines().collect();
        let told: Vec<_> = lines
            .windows(2)
            .filter_map(|pair| {
                Some((pair[0].strip_prefix("#EXT-X-STREAM-INF:")?.to_owned(), pair[1].to_owned()))
            })
            .collect();
        (told.len() == count).then_some(told)
    })
    .await
}

pub async fn opened(app: &TestApp, stream: &Stream, uri: &str) -> Playlist {
    let url = app.at(&format!("/live/{}/{uri}", stream.id));
    let text = app.http.get(&url).send().await.expect("an answer").text().await.expect("text");
    Playlist { url, text }
}

/// What is told of each whole segment, by its number: its length, its date, whether a discontinuity comes before it, whether it is a gap.
fn segments(playlist: &str) -> BTreeMap<u64, (String, String, bool, bool)> {
    let mut told = BTreeMap::new();
    let (mut length, mut date, mut discontinuity, mut gap) = (String::new(), String::new(), false, false);
    for line in playlist.lines() {
        if let Some(value) = line.strip_prefix("#EXTINF:") {
            length = value.to_owned();
        } else if let Some(value) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            date = value.to_owned();
        } else if line == "#EXT-X-DISCONTINUITY" {
            discontinuity = true;
        } else if line == "#EXT-X-GAP" {
            gap = true;
        } else if let Some(name) = line.strip_suffix(".m4s") {
            let msn = name.rsplit('/').next().expect("a name").parse().expect("a number");
            told.insert(msn, (length.clone(), date.clone(), discontinuity, gap));
            (discontinuity, gap) = (false, false);
        }
    }
    told
}

/// Timestamps of the pictures of a segment, in seconds, and how large they are; read by FFmpeg.
async fn pictures(app: &TestApp, playlist: &Playlist, msn: u64) -> (Vec<f64>, String) {
    let bytes = async |uri: String| {
        let answer = app.http.get(playlist.of(&uri)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{uri}");
        answer.bytes().await.expect("bytes")
    };
    let map = attribute(playlist.tags("EXT-X-MAP").last().expect("an init segment"), "URI");
    let segment =
        playlist.text.lines().find(|line| line.ends_with(&format!("/{msn}.m4s"))).expect("it is listed");
    let file = tempfile::NamedTempFile::new().expect("a file");
    let whole = [bytes(map).await, bytes(segment.to_owned()).await].concat();
    std::fs::write(file.path(), whole).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let entries = ["-v", "error", "-select_streams", "v", "-show_entries"];
    let packets = ["packet=pts_time", "-of", "csv=p=0", path];
    let times = says("ffprobe", &[&entries[..], &packets[..]].concat()).await;
    let mut times: Vec<f64> =
        times.lines().map(|line| line.trim_matches(',').parse().expect("seconds")).collect();
    times.sort_by(f64::total_cmp);
    // Every packet can be decoded, and there is sound.
    let said = says("ffmpeg", &["-v", "error", "-xerror", "-i", path, "-f", "null", "-"]).await;
    assert_eq!(said, "");
    let streams = ["-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0", path];
    let streams = says("ffprobe", &streams).await.split_whitespace().collect::<Vec<_>>().join(" ");
    (times, streams)
}

/// The transcoder's process, as the kernel knows it: a child of this one that writes a rendition of so many lines.
pub fn transcoder(lines: &str) -> Option<rustix::process::Pid> {
    let ours = std::process::id().to_string();
    std::fs::read_dir("/proc").expect("/proc").flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_it = parent == ours
            && command.contains("frag_every_frame")
            && command.contains(&format!(":{lines}:flags"));
        is_it.then(|| rustix::process::Pid::from_raw(pid)).flatten()
    })
}

async fn transcoding(app: &TestApp, stream: &Stream) -> Value {
    stream.stats(app).await["transcoding"].clone()
}

#[actix_web::test]
async fn renditions_are_cut_where_the_source_is_and_tell_of_each_other() {
    let app = node().await;
    let stream = Stream::of(&app, "ann").await;
    let _encoder = stream.publish(&app);
    let told = variants(&app, &stream, 2).await;
    assert!(told[0].1.ends_with("/source.m3u8") && told[1].1.ends_with("/144p.m3u8"), "{told:?}");
    let (variant, uri) = &told[1];
    assert_eq!(attribute(variant, "RESOLUTION"), "256x144");
    assert_eq!(attribute(variant, "FRAME-RATE"), attribute(&told[0].0, "FRAME-RATE"));
    let codecs = attribute(variant, "CODECS");
    assert!(codecs.starts_with("avc1.64") && codecs.ends_with(",mp4a.40.2"), "{codecs}");
    let rate = |name: &str| attribute(variant, name).parse::<u64>().expect("a rate");
    assert!(
        rate("BANDWIDTH") >= rate("AVERAGE-BANDWIDTH") && rate("AVERAGE-BANDWIDTH") > 20_000,
        "{variant}"
    );

    let mut source = opened(&app, &stream, &told[0].1).await;
    let mut rendition = opened(&app, &stream, uri).await;
    let common = eventually("three segments are whole in both", PATIENCE, async || {
        let (one, other) = (segments(source.reload(&app).await), segments(rendition.reload(&app).await));
        let common: Vec<u64> = one.keys().filter(|msn| other.contains_key(msn)).copied().collect();
        for msn in &common {
            assert_eq!(one[msn], other[msn], "segment {msn}");
            assert!(!other[msn].3, "nothing is missing");
        }
        (common.len() >= 3).then_some(common)
    })
    .await;
    for tag in ["EXT-X-TARGETDURATION", "EXT-X-PART-INF", "EXT-X-SERVER-CONTROL"] {
        assert_eq!(source.tags(tag), rendition.tags(tag));
    }
    // Where the others stand, from both.
    for (playlist, other) in [(&source, "144p.m3u8"), (&rendition, "source.m3u8")] {
        let reports = playlist.tags("EXT-X-RENDITION-REPORT");
        assert_eq!(reports.len(), 1, "{}", playlist.text);
        assert_eq!(attribute(reports[0], "URI"), other);
        let (hint, _) = playlist.hint();
        let last: u64 = attribute(reports[0], "LAST-MSN").parse().expect("a number");
        assert!(last.abs_diff(hint) <= 2, "{}", playlist.text);
    }
    // The same pictures at the same instants, smaller, each segment from a keyframe on.
    for msn in &common[..2] {
        let (one, _) = pictures(&app, &source, *msn).await;
        let (other, streams) = pictures(&app, &rendition, *msn).await;
        assert_eq!(streams, "h264,256,144 aac");
        assert_eq!(one.len(), other.len(), "segment {msn}");
        assert!(one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 0.0015), "{one:?} {other:?}");
        let first =
            rendition.tags("EXT-X-PART").into_iter().find(|part| part.contains(&format!("/{msn}.0.m4s")));
        assert!(first.is_none_or(|part| part.contains("INDEPENDENT=YES")), "{first:?}");
    }
    // Waited for, as the source is.
    let (msn, _) = rendition.hint();
    let answer = rendition.ask(&app, &format!("_HLS_msn={}&_HLS_part=1", msn + 1)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(rendition.ask(&app, &format!("_HLS_msn={}", msn + 9)).await.status(), StatusCode::BAD_REQUEST);
    let nothing = opened(&app, &stream, &uri.replace("144p", "9000p")).await;
    assert!(nothing.text.contains("not_found"), "{}", nothing.text);

    let told = transcoding(&app, &stream).await;
    assert_eq!((&told["state"], &told["restarts"]), (&"running".into(), &0.into()), "{told}");
    assert_eq!(told["renditions"][0]["name"], "144p");
    assert_eq!(told["renditions"][0]["flowing"], true, "{told}");
    assert_eq!(app.metric("nova_transcoders").await, Some(1.0));
    assert!(app.metric("nova_rendition_parts_total").await > Some(5.0));
}

#[actix_web::test]
async fn a_transcoder_that_is_killed_leaves_a_gap_and_comes_back_while_the_source_goes_on() {
    let app = TestApp::start_with(|config| {
        config.live.ladder = rungs("150p:150");
        config.live.ladder_cores = Some(2.0);
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let told = variants(&app, &stream, 2).await;
    let mut source = opened(&app, &stream, &told[0].1).await;
    let mut rendition = opened(&app, &stream, &told[1].1).await;
    let child = transcoder("150").expect("it runs");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it is ours");
    let mut seen = BTreeMap::new();
    eventually("a gap, and whole segments behind it", PATIENCE, async || {
        seen.extend(segments(rendition.reload(&app).await));
        let gap = seen.iter().find(|(_, segment)| segment.3).map(|(msn, _)| *msn)?;
        seen.iter().any(|(msn, segment)| *msn > gap && !segment.3).then_some(())
    })
    .await;
    let all: Vec<u64> = seen.keys().copied().collect();
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "no number is left out: {all:?}");
    // The source has no hole, and both have the same segments.
    let whole = segments(source.reload(&app).await);
    assert!(whole.values().all(|segment| !segment.2 && !segment.3), "{}", source.text);
    for (msn, segment) in &whole {
        if let Some(other) = seen.get(msn) {
            assert_eq!((&segment.0, &segment.1, segment.2), (&other.0, &other.1, other.2), "segment {msn}");
        }
    }
    let told = eventually("the ladder is back", PATIENCE, async || {
        Some(transcoding(&app, &stream).await).filter(|told| told["renditions"][0]["flowing"] == true)
    })
    .await;
    assert_eq!((&told["state"], &told["restarts"]), (&"running".into(), &1.into()), "{told}");
    assert!(told["reason"].as_str().expect("a reason").contains("signal: 9"), "{told}");
    assert_eq!(app.metric(r#"nova_transcoder_restarts_total{reason="died"}"#).await, Some(1.0));
    eventually("the gap is counted", PATIENCE, async || {
        (app.metric("nova_rendition_gaps_total").await > Some(0.0)).then_some(())
    })
    .await;
    let again = transcoder("150").expect("another runs");
    assert_ne!(again, child);

    // The end is the end for all of them, and nobody is left behind.
    encoder.stop().await;
    eventually("the rendition has ended", PATIENCE, async || {
        rendition.reload(&app).await.ends_with("#EXT-X-ENDLIST\n").then_some(())
    })
    .await;
    eventually("the transcoder is gone", PATIENCE, async || transcoder("150").is_none().then_some(())).await;
    assert_eq!(app.metric("nova_transcoders").await, Some(0.0));
}

#[actix_web::test]
async fn a_transcoder_that_stands_still_makes_nobody_wait_and_a_ladder_too_dear_is_refused() {
    let app = TestApp::start_with(|config| {
        config.live.ladder = rungs("160p:150");
        config.live.ladder_cores = Some(2.0);
    })
    .await;
    let stream = Stream::of(&app, "ann").await;
    let _encoder = stream.publish(&app);
    let told = variants(&app, &stream, 2).await;
    let mut rendition = opened(&app, &stream, &told[1].1).await;
    let child = transcoder("160").expect("it runs");
    rustix::process::kill_process(child, rustix::process::Signal::STOP).expect("it is ours");
    eventually("what does not come is a gap", PATIENCE, async || {
        rendition.reload(&app).await.contains("GAP=YES").then_some(())
    })
    .await;
    eventually("it is killed and another begins", PATIENCE, async || {
        let stalled = app.metric(r#"nova_transcoder_restarts_total{reason="stalled"}"#).await;
        (stalled >= Some(1.0) && transcoder("160").is_some_and(|now| now != child)).then_some(())
    })
    .await;

    let poor = TestApp::start_with(|config| {
        config.live.ladder = rungs("170p");
        config.live.ladder_cores = Some(0.001);
    })
    .await;
    let stream = Stream::of(&poor, "ann").await;
    let _encoder = stream.publish(&poor);
    let told = eventually("it is refused", PATIENCE, async || {
        Some(transcoding(&poor, &stream).await).filter(|told| told["state"] == "refused")
    })
    .await;
    assert_eq!(told["refused"], serde_json::json!(["170p"]));
    assert!(told["reason"].as_str().expect("a reason").contains("cores"), "{told}");
    assert_eq!(variants(&poor, &stream, 1).await.len(), 1);
    assert!(poor.metric("nova_transcoder_refused_total").await >= Some(1.0));
}
