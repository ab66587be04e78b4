//! Live streams in the console: a broadcast is begun, looked after and watched, with sound, by a real browser.

mod desk;

use std::time::Duration;

use serde_json::Value;

use super::Visit;
use crate::broadcaster::{Encoder, made, source};
use crate::browser::Browser;
use crate::live_ladder::{rungs, transcoder};
use crate::services::eventually;

/// How long a browser, an encoder and an engine on the same busy cores may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long a stretch has to be seen without a wait for media.
const STRETCH_S: f64 = 15.0;
/// How long such a stretch is looked for: other programs may take the cores away in between.
const SEARCH: Duration = Duration::from_secs(120);

/// What the player says of itself.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at_s: f64,
    stalls: u64,
    latency_s: Option<f64>,
    /// By the media's own clock, which is this machine's.
    clock_latency_s: Option<f64>,
    audio_bytes: u64,
    pictures: u64,
    /// The highest sample of a moment of sound.
    loudness: f64,
}

impl Seen {
    async fn of(browser: &Browser) -> Option<Seen> {
        let script = "
            const stage = document.querySelector('.stage[data-state=playing]');
            const video = stage?.querySelector('video');
            if (!video) return null;
            if (!window.ear) {
                const context = new AudioContext();
                window.ear = context.createAnalyser();
                const source = context.createMediaElementSource(video);
                source.connect(window.ear);
                window.ear.connect(context.destination);
                window.listened = video;
            }
            const samples = new Float32Array(window.ear.fftSize);
            window.ear.getFloatTimeDomainData(samples);
            return {
                at: video.currentTime,
                stalls: Number(stage.dataset.stalls),
                latency: stage.dataset.latency === undefined ? null : Number(stage.dataset.latency),
                clock: stage.dataset.clockLatency === undefined ? null : Number(stage.dataset.clockLatency),
                audio: video.webkitAudioDecodedByteCount,
                pictures: video.getVideoPlaybackQuality().totalVideoFrames,
                loudness: Math.max(...samples.map(Math.abs)),
            }";
        let seen = browser.run(script).await;
        let count = |name: &str| seen[name].as_u64().unwrap_or_default();
        Some(Seen {
            at_s: seen["at"].as_f64()?,
            stalls: count("stalls"),
            latency_s: seen["latency"].as_f64(),
            clock_latency_s: seen["clock"].as_f64(),
            audio_bytes: count("audio"),
            pictures: count("pictures"),
            loudness: seen["loudness"].as_f64().unwrap_or_default(),
        })
    }
}

impl Visit {
    /// A stream that is made in the studio; where its publisher connects to, the key included.
    async fn makes_a_stream(&self, title: &str) -> String {
        self.browser.follow("Live").await;
        self.browser.follow("Go live").await;
        self.makes(title).await
    }

    /// The same, with the studio open.
    async fn makes(&self, title: &str) -> String {
        let browser = &self.browser;
        browser.fill("title", title).await;
        browser.press("Make it").await;
        let text = async |id: &str| {
            let text = browser.find(&format!("#{id}")).await.attr("data-text").await.expect("an attribute");
            text.expect("it is there")
        };
        let (server, key) = (text("ingest-url").await, text("stream-key").await);
        assert!(
            !browser.text("#stream-key").await.contains(&key),
            "the key is covered until it is asked for"
        );
        format!("{server}/{key}")
    }
}

fn publishes(address: &str) -> Encoder {
    Encoder::start(&["-re", "-stream_loop", "-1", "-i", source(), "-c", "copy"], address)
}

/// The middle of what was measured.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[actix_rt::test]
async fn a_broadcast_is_begun_looked_after_and_watched_with_sound() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let address = visit.makes_a_stream("Friday session").await;
    browser.follow("I have kept it, on to the desk").await;
    browser.sees("#health", "No encoder is connected").await;
    assert!(!browser.text("main").await.contains("live_"), "the key is shown once");

    // The watch page opens before there is anything to see, and begins by itself.
    browser.follow("Watch it as viewers do").await;
    browser.sees(".curtain", "Not live yet").await;
    let encoder = publishes(&address);
    let mut seen: Vec<Seen> = Vec::new();
    let mut stretch = 0;
    eventually("a stretch without a wait", SEARCH, async || {
        let now = Seen::of(browser).await?;
        if seen.last().is_some_and(|before| before.stalls != now.stalls) {
            stretch = seen.len();
        }
        seen.push(now);
        (now.at_s - seen[stretch].at_s >= STRETCH_S).then_some(())
    })
    .await;
    let (first, last) = (seen[stretch], seen[seen.len() - 1]);
    let seen = &seen[stretch..];
    let latency = median(seen.iter().filter_map(|seen| seen.latency_s).collect());
    let by_clock = median(seen.iter().filter_map(|seen| seen.clock_latency_s).collect());
    println!("latency {latency:.2} s, by the media's clock {by_clock:.2} s, stalls before {}", first.stalls);
    assert!((0.3..5.0).contains(&latency), "{latency}");
    assert!((0.3..6.0).contains(&by_clock), "{by_clock}");
    assert!(last.audio_bytes > first.audio_bytes, "sound is decoded: {seen:?}");
    assert!(last.pictures > first.pictures + 200, "pictures are shown: {first:?} {last:?}");
    assert!(seen.iter().any(|seen| seen.loudness > 0.01), "the tone is heard: {seen:?}");
    browser.sees(".latency", "s behind").await;
    browser.sees("#viewers", "1 viewer").await;

    // Its owner sees how it goes; others find it in the list.
    browser.follow("Your desk").await;
    eventually("the desk sees pictures arrive", PATIENCE, async || {
        browser.text("#health").await.contains("All is well").then_some(())
    })
    .await;
    browser.sees("#health", "Lavf").await;
    browser.follow("Live").await;
    browser.sees(".programme", "Friday session").await;
    browser.click(".programme li a").await;
    eventually("it plays again", PATIENCE, async || {
        browser.has(".stage[data-state=playing]").await.then_some(())
    })
    .await;

    // What is paused waits, and goes on at the edge.
    browser.click("[aria-label=Pause]").await;
    browser.sees(".over", "Paused").await;
    browser.click("[aria-label=Play]").await;
    eventually("it goes on", PATIENCE, async || {
        browser.has(".stage[data-state=playing]").await.then_some(())
    })
    .await;
    browser.click("[aria-label=Mute]").await;
    assert_eq!(browser.run("return document.querySelector('video').muted").await, true);

    encoder.stop().await;
    eventually("the end is told", PATIENCE, async || {
        browser.text(".curtain").await.contains("The broadcast has ended").then_some(())
    })
    .await;
    let again = publishes(&address);
    eventually("the next broadcast begins by itself", PATIENCE, async || {
        browser.has(".stage[data-state=playing]").await.then_some(())
    })
    .await;
    again.stop().await;
    browser.is_clean(&[]).await;
    assert_eq!(browser.origins().await, std::slice::from_ref(&visit.app.url));
}

#[actix_rt::test]
async fn a_viewer_chooses_the_quality_and_loses_nothing_when_its_transcoder_dies() {
    let visit = Visit::start_with(|config| {
        config.live.ladder = rungs("148p:150");
        config.live.ladder_cores = Some(2.0);
    })
    .await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let address = visit.makes_a_stream("In two sizes").await;
    browser.follow("I have kept it, on to the desk").await;
    let encoder = publishes(&address);
    eventually("the desk tells of the smaller one", PATIENCE, async || {
        browser.text("#renditions").await.contains("148p").then_some(())
    })
    .await;
    browser.follow("Watch it as viewers do").await;
    let lines = async || {
        let script = "return document.querySelector('.stage[data-state=playing] video')?.videoHeight ?? 0";
        browser.run(script).await.as_u64().unwrap_or_default()
    };
    eventually("there is a choice", PATIENCE, async || {
        browser.text(".quality").await.contains("148p").then_some(())
    })
    .await;
    let chooses = async |words: &str| {
        let script = format!(
            "const select = document.querySelector('.quality');
             select.value = [...select.options].find((one) => one.textContent.includes('{words}')).value;
             select.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        );
        browser.run(&script).await;
    };
    let is_shown = async |wanted: u64| {
        eventually(&format!("{wanted} lines are shown"), PATIENCE, async || {
            (lines().await == wanted).then_some(())
        })
        .await;
    };
    chooses("148p").await;
    is_shown(148).await;
    chooses("180p").await;
    is_shown(180).await;
    chooses("148p").await;
    is_shown(148).await;

    // Its transcoder dies while it is watched: what is missing is taken from the source, or passed over, and playing goes on.
    chooses("Auto").await;
    let child = transcoder("148").expect("it runs");
    rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it is ours");
    let played = "return document.querySelector('.stage[data-state=playing] video')?.currentTime ?? 0";
    let at = browser.run(played).await.as_f64().unwrap_or_default();
    eventually("it plays on", PATIENCE, async || {
        browser.run(played).await.as_f64().filter(|seconds| *seconds > at + 8.0)
    })
    .await;
    eventually("another transcoder runs", PATIENCE, async || transcoder("148").filter(|now| *now != child))
        .await;
    encoder.stop().await;
}

#[actix_rt::test]
async fn a_viewer_turns_to_the_lowest_latency_and_back_and_hears_why_where_it_is_not_to_be_had() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let address = visit.makes_a_stream("At once").await;
    browser.follow("I have kept it, on to the desk").await;
    browser.follow("Watch it as viewers do").await;
    let encoder = publishes(&address);
    let plays_over = async |way: &str| {
        let css = format!(".stage[data-state=playing][data-over={way}]");
        let plays = async || browser.has(&css).await.then_some(());
        browser.receives(&format!("it plays over {way}"), PATIENCE, plays).await;
        let latency = "return Number(document.querySelector('.stage').dataset.latency ?? 'NaN')";
        browser.receives("the latency is told", PATIENCE, async || browser.run(latency).await.as_f64()).await
    };
    let over_hls = plays_over("hls").await;
    browser.click("[aria-label='Lowest latency']").await;
    let over_webrtc = plays_over("webrtc").await;
    println!("{over_hls:.2} s behind over HLS, {over_webrtc:.3} s over WebRTC");
    assert!(over_webrtc < over_hls, "{over_webrtc} {over_hls}");
    let moves = async || {
        let pictures = "return document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames";
        let before = browser.run(pictures).await.as_u64().expect("a number");
        let more = async || browser.run(pictures).await.as_u64().filter(|now| *now > before + 60);
        browser.receives("pictures are shown", PATIENCE, more).await;
    };
    moves().await;
    assert_eq!(visit.app.metric("nova_whep_sessions").await, Some(1.0));
    assert_eq!(browser.run("return document.querySelector('video').muted").await, false);
    browser.picture("watch-lowest-wide").await;
    browser.narrow().await;
    browser.picture("watch-lowest-narrow").await;

    // What is paused goes on at the edge, and the sound is turned off and on as over HLS.
    browser.click("[aria-label=Pause]").await;
    browser.sees(".over", "Paused").await;
    browser.click("[aria-label=Play]").await;
    plays_over("webrtc").await;
    browser.click("[aria-label=Mute]").await;
    assert_eq!(browser.run("return document.querySelector('video').muted").await, true);

    browser.click("[aria-label='Lowest latency']").await;
    plays_over("hls").await;
    moves().await;
    eventually("they have left", PATIENCE, async || {
        visit.app.metric("nova_whep_sessions").await.filter(|there| *there == 0.0)
    })
    .await;

    // It is remembered; and where it cannot be had, that is said, and HLS goes on.
    browser.click("[aria-label='Lowest latency']").await;
    plays_over("webrtc").await;
    encoder.stop().await;
    browser.sees(".curtain", "The broadcast has ended").await;
    // The next is announced a while before it can be watched: whoever comes too early waits for it.
    browser
        .run(
            "const ask = window.fetch;
            window.early = 0;
            window.fetch = (address, how) => {
                if (how?.method !== 'POST' || !String(address).includes('/whep/') || ++window.early > 4) return ask(address, how);
                return Promise.resolve(new Response('{}', { status: 409, headers: { 'retry-after': '1' } }));
            };",
        )
        .await;
    let reordered = made("b-frames", "320x180", 30, &["-bf", "2"]);
    let reordered = reordered.to_str().expect("a path in UTF-8");
    let encoder = Encoder::start(&["-re", "-stream_loop", "-1", "-i", reordered, "-c", "copy"], &address);
    let refused = eventually("the other broadcast is refused", PATIENCE, async || {
        let text = browser.run("return document.querySelector('.refused')?.textContent ?? null").await;
        text.as_str().map(str::to_owned)
    })
    .await;
    assert!(refused.contains("B-frames"), "{refused}");
    assert!(browser.run("return window.early").await.as_u64() > Some(4));
    plays_over("hls").await;
    browser.picture("watch-lowest-refused-narrow").await;
    browser.click(".refused button").await;
    assert!(!browser.has(".refused").await);
    encoder.stop().await;
    // 404: whoever leaves a broadcast that has just ended is not there any more.
    browser.is_clean(&[404, 406, 409]).await;
}

/// Twice as much sound as time: an encoder whose microphone does not say at which rate it listens. Chromium's decoder stops for good after
/// some twenty seconds of it, with everything it would need in its buffer.
#[actix_rt::test]
async fn a_viewer_whose_decoder_gives_up_is_moved_on() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let address = visit.makes_a_stream("Too much sound").await;
    browser.follow("I have kept it, on to the desk").await;
    browser.follow("Watch it as viewers do").await;
    let picture = "setpts=(RTCTIME-RTCSTART)/(TB*1000000)";
    let sound = "asetpts=(RTCTIME-RTCSTART)/(TB*1000000)";
    let source =
        ["-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30", "-f", "lavfi", "-i", "sine=r=44100"];
    let coded =
        ["-vf", picture, "-af", sound, "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
    let more = ["-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac"];
    let encoder = Encoder::start(&[&source[..], &coded, &more].concat(), &address);
    // Where the player is, how often it has waited, and how much it has from there.
    let script = "
        const stage = document.querySelector('.stage');
        const video = stage?.querySelector('video');
        if (!video?.buffered.length) return null;
        return [video.currentTime, Number(stage.dataset.stalls), video.buffered.end(video.buffered.length - 1) - video.currentTime]";
    let seen = async || {
        let seen = browser.run(script).await;
        Some((seen[0].as_f64()?, seen[1].as_u64()?, seen[2].as_f64()?))
    };
    let (stuck_s, _, ahead_s) = eventually("it waits with enough to play", PATIENCE, async || {
        let before = seen().await?;
        let now = seen().await?;
        (now.1 > 0 && now.0 == before.0 && now.2 > 1.0).then_some(now)
    })
    .await;
    let waits = std::time::Instant::now();
    let moved_s = eventually("it goes on", PATIENCE, async || {
        seen().await.map(|(at, ..)| at).filter(|at| *at > stuck_s + 0.5)
    })
    .await;
    let waited = waits.elapsed();
    println!("stuck at {stuck_s:.2} s with {ahead_s:.2} s ahead, at {moved_s:.2} s after {waited:.1?}");
    // hls.js alone takes twelve seconds: it moves when what is behind has left the playlist.
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    encoder.stop().await;
}

/// An encoder hangs, and its broadcaster starts another with the same key.
#[actix_rt::test]
async fn a_viewer_watches_on_when_another_encoder_takes_over() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let address = visit.makes_a_stream("With a bad cable").await;
    browser.follow("I have kept it, on to the desk").await;
    browser.follow("Watch it as viewers do").await;
    let first = publishes(&address);
    let pictures = async || {
        let script = "return document.querySelector('.stage[data-state=playing] video')
            ?.getVideoPlaybackQuality().totalVideoFrames ?? 0";
        browser.run(script).await.as_u64().unwrap_or_default()
    };
    eventually("it plays", PATIENCE, async || (pictures().await > 60).then_some(())).await;
    first.freeze();
    let since = std::time::Instant::now();
    let _second = publishes(&address);
    let at = "return document.querySelector('video').currentTime";
    let before = browser.run(at).await.as_f64().expect("seconds");
    // More than what lay in its buffer: it has passed the seam.
    eventually("it plays on", PATIENCE, async || {
        let state = browser.run("return document.querySelector('.stage')?.dataset.state ?? null").await;
        assert_ne!(state, "failed");
        browser.run(at).await.as_f64().filter(|now| *now > before + 8.0)
    })
    .await;
    println!("eight seconds on, {:.1} s after its encoder hung", since.elapsed().as_secs_f64());
    let index = browser.run("return performance.getEntriesByType('resource').map((one) => one.name).findLast((name) => name.includes('/source.m3u8'))").await;
    let playlist =
        visit.app.http.get(index.as_str().expect("an address").split('?').next().expect("it")).send().await;
    let playlist = playlist.expect("an answer").text().await.expect("text");
    let seams = playlist.matches("#EXT-X-DISCONTINUITY\n").count()
        + playlist.matches("#EXT-X-DISCONTINUITY-SEQUENCE:1\n").count();
    assert_eq!(seams, 1, "{playlist}");
    browser.is_clean(&[]).await;
}

#[actix_rt::test]
async fn a_broadcast_that_was_kept_is_watched_afterwards() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    browser.follow("Live").await;
    browser.follow("Go live").await;
    browser.click("#record").await;
    let address = visit.makes("Saturday").await;
    browser.follow("I have kept it, on to the desk").await;
    browser.follow("Watch it as viewers do").await;
    let encoder = publishes(&address);
    eventually("it plays", PATIENCE, async || browser.has(".stage[data-state=playing]").await.then_some(()))
        .await;
    let played = "return document.querySelector('video')?.currentTime ?? 0";
    eventually("some of it was seen", PATIENCE, async || {
        browser.run(played).await.as_f64().filter(|seconds| *seconds > 5.0)
    })
    .await;
    encoder.stop().await;
    eventually("it is in the list", PATIENCE, async || browser.has("[data-recording]").await.then_some(()))
        .await;
    browser.click("[data-recording] a").await;
    browser.find("video[controls]").await;
    browser.run("document.querySelector('video').muted = true").await;
    eventually("it plays from its beginning", PATIENCE, async || {
        browser.run("document.querySelector('video').play().catch(() => {})").await;
        let seconds = browser.run(played).await.as_f64()?;
        (1.0..4.0).contains(&seconds).then_some(())
    })
    .await;
    let length = browser.run("return document.querySelector('video').duration").await;
    assert!(length.as_f64().is_some_and(|seconds| seconds > 4.0), "{length}");
    browser.press("Delete this recording…").await;
    browser.press("Delete it").await;
    browser.sees(".curtain", "The broadcast has ended").await;
    eventually("it is gone", PATIENCE, async || (!browser.has("[data-recording]").await).then_some(())).await;
    browser.is_clean(&[]).await;
    assert_eq!(browser.origins().await, std::slice::from_ref(&visit.app.url));
}
