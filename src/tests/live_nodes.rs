//! Two nodes: a publisher on one, viewers on both, and what happens when the publisher or its node moves.

use std::time::Duration;

use nova::config::{Config, Secret};
use reqwest::StatusCode;
use serde_json::json;
use sqlx::ConnectOptions as _;

use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Playlist, Stream, attribute, says, source};
use crate::chat_socket::Device;
use crate::live_ladder::{opened, rungs, variants};
use crate::services::{self, Database};

/// What two nodes have in common.
pub struct Shared {
    database: Database,
    redis: nova::bus::redis::RedisConfig,
}

impl Shared {
    pub async fn new() -> Shared {
        Shared { database: services::database().await, redis: services::redis().await }
    }

    fn config(&self, config: &mut Config) {
        config.database.database_url = Some(Secret::from(self.database.options().to_url_lossy().to_string()));
        config.bus.redis_url = Some(Secret::from(self.redis.url.clone()));
        config.bus.redis_namespace.clone_from(&self.redis.namespace);
    }

    pub async fn node(&self) -> TestApp {
        TestApp::start_with(|config| self.config(config)).await
    }
}

#[actix_web::test]
async fn viewers_on_the_other_node_watch_live_and_each_part_is_fetched_once() {
    let shared = Shared::new().await;
    let (here, there) = (shared.node().await, shared.node().await);
    let stream = Stream::of(&here, "ann").await;
    let path = format!("/live/{}/index.m3u8", stream.id);
    assert_eq!(
        there.http.get(there.at(&path)).send().await.expect("an answer").status(),
        StatusCode::NOT_FOUND
    );
    let encoder = stream.publish(&here);
    stream.becomes(&here, "live").await;
    let mut playlist = stream.playlist(&there).await;
    assert!(playlist.url.starts_with(&there.url), "{}", playlist.url);

    // Blocking reload works through it: the part that was promised is waited for, and there.
    let (msn, part) = playlist.hint();
    let answer = playlist.ask(&there, &format!("_HLS_msn={msn}&_HLS_part={part}")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let text = answer.text().await.expect("text");
    assert!(
        text.contains(&format!("/{msn}.{part}.m4s\"")) || text.contains(&format!("/{}.0.m4s\"", msn + 1)),
        "{text}"
    );
    let bad = playlist.ask(&there, &format!("_HLS_msn={}", msn + 50)).await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);

    // Ten viewers want one segment; it comes from the other node once.
    eventually("a segment is whole", async || {
        playlist.reload(&there).await.contains("#EXTINF:").then_some(())
    })
    .await;
    let uri = playlist.text.lines().find(|line| line.ends_with(".m4s")).expect("a segment").to_owned();
    let before = there.metric("nova_relay_bytes_total").await.expect("a metric");
    let fetches = (0..10).map(|_| async {
        let answer = there.http.get(playlist.of(&uri)).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["cache-control"], "public, max-age=31536000, immutable");
        answer.bytes().await.expect("bytes")
    });
    let files = futures_util::future::join_all(fetches).await;
    let fetched = there.metric("nova_relay_bytes_total").await.expect("a metric") - before;
    assert_eq!(fetched, files[0].len() as f64);
    let original =
        here.http.get(here.at(&playlist.of(&uri)[there.url.len()..])).send().await.expect("an answer");
    assert_eq!(files[0], original.bytes().await.expect("bytes"));
    let gone = there.http.get(playlist.of("1/99999.m4s")).send().await.expect("an answer");
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);

    // A real player plays it there, and its viewer counts here.
    let url = stream.url(&there);
    let probed =
        says("ffprobe", &["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", &url]).await;
    assert!(probed.contains("h264") && probed.contains("aac"), "{probed}");
    eventually("the viewers there are counted here", async || {
        let stats = stream.stats(&here).await;
        stats["viewers"].as_u64().filter(|viewers| *viewers >= 1)
    })
    .await;
    assert_eq!(there.metric("nova_relays").await, Some(1.0));

    // Nobody else is told anything over the way between nodes.
    let internal = format!("/internal/live/{}", stream.id);
    let stranger = here.http.get(here.at(&internal)).send().await.expect("an answer");
    assert_eq!(stranger.status(), StatusCode::NOT_FOUND);

    encoder.stop().await;
    eventually("its end is seen there", async || {
        playlist.reload(&there).await.ends_with("#EXT-X-ENDLIST\n").then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_publisher_that_comes_to_the_other_node_takes_over_and_viewers_see_a_discontinuity() {
    let shared = Shared::new().await;
    let (here, there) = (shared.node().await, shared.node().await);
    let stream = Stream::of(&here, "ann").await;
    let first = stream.publish(&here);
    let before = stream.playlist(&here).await;
    stream.becomes(&here, "live").await;
    let second =
        Encoder::start(&["-re", "-stream_loop", "-1", "-i", source(), "-c", "copy"], &stream.ingest(&there));
    // The address the viewers have stays what it was, on both nodes.
    for app in [&there, &here] {
        let url = format!("{}{}", app.url, &before.url[here.url.len()..]);
        eventually("it goes on after a discontinuity", async || {
            let answer = app.http.get(&url).send().await.expect("an answer");
            if answer.status() != StatusCode::OK {
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "players try again after it");
                return None;
            }
            let text = answer.text().await.expect("text");
            let after = text.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
            let msn: u64 = {
                let tag = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
                tag.expect("a number").parse().expect("a number")
            };
            assert!(msn > before.hint().0, "{text}");
            (after.contains("#EXT-X-MAP:") && after.contains("#EXT-X-PART:")).then_some(())
        })
        .await;
    }
    let (ended_well, _) = first.ended().await;
    assert!(!ended_well, "the first was sent away");
    assert_eq!(stream.told(&here).await["state"], "live");
    assert_eq!(here.metric("nova_publishers").await, Some(0.0));
    assert_eq!(there.metric("nova_publishers").await, Some(1.0));
    second.stop().await;
    stream.becomes(&here, "ended").await;
}

#[actix_web::test]
async fn when_the_publishers_node_dies_the_stream_goes_on_where_the_publisher_comes_back() {
    let shared = Shared::new().await;
    let there = shared.node().await;
    let stream = Stream::of(&there, "ann").await;
    let data = tempfile::tempdir().expect("a directory");
    let database = shared.database.options().to_url_lossy().to_string();
    let shares = [
        "--database-url",
        &database,
        "--redis-url",
        &shared.redis.url,
        "--redis-namespace",
        &shared.redis.namespace,
    ];
    let doomed = crate::program::Program::serve(data.path(), &shares);
    let rtmp = doomed.ready["rtmp"].as_str().expect("an address");
    let input = ["-re", "-stream_loop", "-1", "-i", source(), "-c", "copy"];
    let first = Encoder::start(&input, &format!("rtmp://{rtmp}/live/{}", stream.key));
    let mut playlist = stream.playlist(&there).await;
    eventually("some segments are there", async || {
        playlist.reload(&there).await;
        (playlist.hint().0 >= 2).then_some(())
    })
    .await;
    let last = playlist.hint().0;
    doomed.end(rustix::process::Signal::KILL);
    drop(first);
    let _second = Encoder::start(&input, &stream.ingest(&there));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let text = loop {
        let answer = there.http.get(&playlist.url).send().await.expect("an answer");
        if answer.status() == StatusCode::OK {
            let text = answer.text().await.expect("text");
            if text.contains("#EXT-X-DISCONTINUITY\n") {
                break text;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "it does not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let goes_on = Playlist { url: playlist.url.clone(), text };
    let msn: u64 = goes_on.tags("EXT-X-MEDIA-SEQUENCE")[0].parse().expect("a number");
    assert!(msn > last, "no segment has the name of another: {}", goes_on.text);
    let map = attribute(goes_on.tags("EXT-X-MAP")[0], "URI");
    assert_eq!(there.http.get(goes_on.of(&map)).send().await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(stream.told(&there).await["state"], "live");
}

#[actix_web::test]
async fn renditions_and_the_owners_view_are_the_same_on_the_other_node() {
    let shared = Shared::new().await;
    let here = TestApp::start_with(|config| {
        shared.config(config);
        config.live.ladder = rungs("146p:150");
        config.live.ladder_cores = Some(2.0);
    })
    .await;
    let there = shared.node().await;
    let stream = Stream::of(&here, "ann").await;
    let mut device = Device::connects(&there, &stream.owner.token()).await;
    let watching = device.asks(json!({ "type": "watch", "stream": stream.id })).await;
    assert_eq!(watching["type"], "watching", "{watching}");
    let encoder = stream.publish(&here);
    let told = variants(&there, &stream, 2).await;
    let mut rendition = opened(&there, &stream, &told[1].1).await;
    let (msn, _) = rendition.hint();
    let answer = rendition.ask(&there, &format!("_HLS_msn={}&_HLS_part=0", msn + 1)).await;
    assert_eq!(answer.status(), StatusCode::OK, "waited for there, too");
    eventually("a segment is whole", async || {
        rendition.reload(&there).await.contains("#EXTINF:").then_some(())
    })
    .await;
    let uri = rendition.text.lines().find(|line| line.ends_with(".m4s")).expect("a segment").to_owned();
    let bytes = async |app: &TestApp, url: String| {
        let answer = app.http.get(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.expect("bytes")
    };
    let url = rendition.of(&uri);
    assert_eq!(bytes(&there, url.clone()).await, bytes(&here, here.at(&url[there.url.len()..])).await);
    let nothing = opened(&there, &stream, &told[1].1.replace("146p", "9000p")).await;
    assert!(nothing.text.contains("not_found"), "{}", nothing.text);

    // The owner's device is at the node without the publisher: it is told all the same, and so is who asks there.
    let pushed = loop {
        let pushed = device.hears("stream_stats").await;
        if pushed["stats"]["transcoding"]["renditions"][0]["flowing"] == true {
            break pushed;
        }
    };
    assert_eq!(pushed["stream"], stream.id);
    assert_eq!(pushed["stats"]["state"], "live", "{pushed}");
    assert!(pushed["stats"]["publisher"]["video_frames"].as_u64() > Some(0), "{pushed}");
    let asked = stream.stats(&there).await;
    assert_eq!(asked["transcoding"]["renditions"][0]["name"], "146p", "{asked}");
    assert!(asked["publisher"]["video_frames"].as_u64() > Some(0), "{asked}");

    encoder.stop().await;
    let last = loop {
        let pushed = device.hears("stream_stats").await;
        if pushed["stats"].get("publisher").is_none() {
            break pushed;
        }
    };
    assert_eq!(last["stats"]["state"], "ended", "told once more: {last}");
}
