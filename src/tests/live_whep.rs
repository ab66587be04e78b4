//! Streams that are watched over WebRTC, by a real browser.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts;
use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Stream, made};
use crate::browser::Browser;
use crate::live_nodes::Shared;

/// How long a browser, an encoder and an engine on the same busy cores may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a page needs to watch: a WHEP client of a few lines.
const CLIENT: &str = "

    window.watch = async (address, headers = {}) => {
        const pc = new RTCPeerConnection();
        window.pc = pc;
        pc.addTransceiver('audio', { direction: 'recvonly' });
        pc.addTransceiver('video', { direction: 'recvonly' });
        const video = document.createElement('video');
        video.autoplay = true;
        video.srcObject = new MediaStream();
        document.body.append(video);
        window.video = video;
        pc.ontrack = ({ track }) => video.srcObject.addTrack(track);
        window.began = performance.now();
        const canvas = document.createElement('canvas');
        canvas.width = canvas.height = 1;
        const pen = canvas.getContext('2d', { willReadFrequently: true });
        window.flashes = [];
        let bright = true;
        const see = () => {
            window.first ??= performance.now() - window.began;
            pen.drawImage(video, 0, 0, 1, 1);
            const now = pen.getImageData(0, 0, 1, 1).data[0] > 128;
            if (now && !bright) window.flashes.push(Date.now() % 1000);
            bright = now;
            video.requestVideoFrameCallback(see);
        };
        video.requestVideoFrameCallback(see);
        await pc.setLocalDescription();
        window.offer = pc.localDescription.sdp;
        const answer = await fetch(address, {
            method: 'POST', headers: { 'content-type': 'application/sdp', ...headers }, body: window.offer,
        });
        window.watchStatus = answer.status;
        window.session = answer.headers.get('location');
        window.tag = answer.headers.get('etag');
        window.answer = await answer.text();
        if (answer.ok) await pc.setRemoteDescription({ type: 'answer', sdp: window.answer });
    };
    window.restart = async () => {
        const pc = window.pc;
        pc.restartIce();
        await pc.setLocalDescription();
        const fragment = pc.localDescription.sdp.split('\\r\\n').filter((line) => /^a=ice-(ufrag|pwd):/.test(line)).slice(0, 2);
        const told = await fetch(window.session, {
            method: 'PATCH', headers: { 'content-type': 'application/trickle-ice-sdpfrag', 'if-match': '*' },
            body: fragment.join('\\r\\n') + '\\r\\n',
        });
        const text = await told.text();
        const line = (key) => text.split('\\r\\n').find((line) => line.startsWith(key));
        window.tag = told.headers.get('etag');
        const sdp = window.answer
            .replace(/^a=ice-ufrag:.*$/gm, line('a=ice-ufrag:')).replace(/^a=ice-pwd:.*$/gm, line('a=ice-pwd:'));
        await pc.setRemoteDescription({ type: 'answer', sdp });
        return told.status;
    };
    window.stats = async () => {
        let pictures = 0, sound = 0, samples = 0, delay = 0;
        for (const one of (await window.pc.getStats()).values()) {
            if (one.type !== 'inbound-rtp') continue;
            if (one.kind === 'video') { pictures = one.framesDecoded; delay = one.jitterBufferDelay / one.jitterBufferEmittedCount; }
            if (one.kind === 'audio') { sound = one.totalAudioEnergy; samples = one.totalSamplesReceived - one.concealedSamples; }
        }
        window.seen = { pictures, sound, samples, delay, state: window.pc.connectionState };
    };";

#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub pictures: u64,
    pub sound: f64,
}

pub async fn opens_the_client(browser: &Browser, app: &TestApp) {
    browser.open(&app.at("/console/login")).await;
    browser.run(CLIENT).await;
}

pub async fn watches(browser: &Browser, address: &str) -> Value {
    // 0: the page's policy does not let it go where it is sent.
    let script = format!(
        "window.watchStatus = null; window.watch({}).catch(() => {{ window.watchStatus ??= 0 }})",
        json!(address)
    );
    browser.run(&script).await;
    eventually("the offer is answered", async || {
        Some(browser.run("return window.watchStatus").await).filter(|status| !status.is_null())
    })
    .await
}

async fn seen(browser: &Browser) -> Seen {
    let seen = browser.run("window.stats(); return window.seen ?? {}").await;
    Seen {
        pictures: seen["pictures"].as_u64().unwrap_or_default(),
        sound: seen["sound"].as_f64().unwrap_or_default(),
    }
}

/// Waits until there are many more pictures and some sound.
pub async fn sees_and_hears(browser: &Browser, since: Seen) -> Seen {
    crate::services::eventually("the viewer sees and hears", PATIENCE, async || {
        let seen = seen(browser).await;
        (seen.pictures > since.pictures + 60 && seen.sound > since.sound + 0.001).then_some(seen)
    })
    .await
}

/// A picture that is bright in the first third of each second of this machine's clock, and a tone.
fn flashes(app: &TestApp, stream: &Stream) -> Encoder {
    let picture =
        "color=c=black:s=320x180:r=30,drawbox=w=iw:h=ih:color=white:t=fill:enable='lt(mod(time(0),1),0.33)'";
    let arguments = [
        &["-re", "-f", "lavfi", "-i", picture, "-re", "-f", "lavfi", "-i", "sine=r=48000"][..],
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-g",
            "60",
            "-pix_fmt",
            "yuv420p",
        ],
        &["-c:a", "aac"],
    ]
    .concat();
    Encoder::start(&arguments, &stream.ingest(app))
}

pub async fn post(
    app: &TestApp,
    path: &str,
    kind: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    app.http.post(app.at(path)).header("content-type", kind).body(body).send().await.expect("an answer")
}

async fn becomes(app: &TestApp, metric: &str, value: f64) {
    crate::services::eventually(&format!("{metric} is {value}"), PATIENCE, async || {
        app.metric(metric).await.filter(|now| (now - value).abs() < 0.1)
    })
    .await;
}

#[actix_rt::test]
async fn a_stream_is_seen_and_heard_within_a_second() {
    let app = TestApp::start_with(|config| config.rtc.whep_sessions_max = 6).await;
    let stream = Stream::of(&app, "ann").await;
    let path = format!("/whep/{}", stream.id);
    let browser = Browser::start_with_devices().await;
    opens_the_client(&browser, &app).await;

    // Before there is anything to watch.
    assert_eq!(watches(&browser, &path).await, 409);
    let offer = browser.run("return window.offer").await.as_str().expect("an offer").to_owned();
    let early = post(&app, &path, "application/sdp", offer.clone()).await;
    assert_eq!(early.status(), StatusCode::CONFLICT);
    assert!(early.headers().contains_key("retry-after"));
    let nobodys =
        post(&app, "/whep/stream_01h455vb4pex5vsknk084sn02q", "application/sdp", offer.clone()).await;
    assert_eq!(nobodys.status(), StatusCode::NOT_FOUND);

    let _encoder = flashes(&app, &stream);
    stream.becomes(&app, "live").await;

    // What is no offer is refused in words.
    for (kind, body, status) in [
        ("application/json", offer.clone(), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/sdp", "v=1".to_owned(), StatusCode::BAD_REQUEST),
        ("application/sdp", format!("v=0\r\n{}", "a=x\r\n".repeat(20_000)), StatusCode::PAYLOAD_TOO_LARGE),
        ("application/sdp", offer.replace("a=recvonly", "a=inactive"), StatusCode::NOT_ACCEPTABLE),
        ("application/sdp", offer.replace("H264/90000", "H263/90000"), StatusCode::NOT_ACCEPTABLE),
    ] {
        let answer = post(&app, &path, kind, body).await;
        assert_eq!(answer.status(), status, "{}", answer.text().await.expect("text"));
    }
    let json_only = app.http.post(app.at(&path)).header("content-type", "application/sdp");
    let answer =
        json_only.header("accept", "application/json").body(offer.clone()).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_ACCEPTABLE);
    let asked = app.http.request(Method::OPTIONS, app.at(&path)).header("origin", "https://player.example");
    let asked = asked.header("access-control-request-method", "POST").send().await.expect("an answer");
    assert_eq!(
        (asked.status(), &asked.headers()["access-control-allow-origin"] == "*"),
        (StatusCode::NO_CONTENT, true)
    );
    assert_eq!(asked.headers()["accept-post"], "application/sdp");

    assert_eq!(watches(&browser, &path).await, 201);
    let first = sees_and_hears(&browser, Seen { pictures: 0, sound: 0.0 }).await;
    eventually("they count as a viewer", async || (stream.stats(&app).await["viewers"] == 1).then_some(()))
        .await;
    assert_eq!(app.metric("nova_opus_children").await, Some(1.0));
    let flashes = crate::services::eventually("some flashes are seen", PATIENCE, async || {
        let flashes = browser.run("return window.flashes").await;
        let flashes: Vec<f64> = flashes.as_array()?.iter().filter_map(Value::as_f64).collect();
        (flashes.len() >= 7).then_some(flashes)
    })
    .await;
    let mut sorted = flashes.clone();
    sorted.sort_by(f64::total_cmp);
    let to_first = browser.run("return window.first").await;
    println!(
        "glass to glass over WebRTC: median {} ms of {flashes:?}; first picture after {to_first} ms; {:?}",
        sorted[sorted.len() / 2],
        browser.run("return window.seen").await
    );

    // Their network changes, and they tell of it.
    let session = browser.run("return window.session").await.as_str().expect("a session").to_owned();
    let change = async |tag: Option<&str>, body: &'static str| {
        let request =
            app.http.patch(app.at(&session)).header("content-type", "application/trickle-ice-sdpfrag");
        let request = tag.map_or(request.try_clone(), |tag| Some(request.header("if-match", tag)));
        request.expect("a request").body(body).send().await.expect("an answer").status()
    };
    let tag = browser.run("return window.tag").await.as_str().expect("a tag").to_owned();
    assert_eq!(change(None, "a=candidate:1\r\n").await, StatusCode::PRECONDITION_REQUIRED);
    assert_eq!(change(Some("\"other\""), "a=candidate:1\r\n").await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(change(Some(&tag), "a=candidate:1\r\n").await, StatusCode::NO_CONTENT);
    assert_eq!(change(Some("*"), "a=candidate:1\r\n").await, StatusCode::BAD_REQUEST);
    browser
        .run("window.restarted = null; window.restart().then((status) => { window.restarted = status })")
        .await;
    eventually("ICE begins anew", async || {
        (browser.run("return window.restarted").await == json!(200)).then_some(())
    })
    .await;
    assert_eq!(change(Some(&tag), "a=candidate:1\r\n").await, StatusCode::PRECONDITION_FAILED, "a new tag");
    sees_and_hears(&browser, first).await;

    // Who was let in and never comes is forgotten; so is who leaves, and the child with the last of them.
    for _ in 0..5 {
        let answer = post(&app, &path, "application/sdp", offer.clone()).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert!(answer.headers()["location"].to_str().expect("text").starts_with(&path));
    }
    // As many as may be, until they are.
    let full = post(&app, &path, "application/sdp", offer.clone()).await;
    assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(full.headers()["retry-after"], "2");
    becomes(&app, "nova_whep_sessions", 6.0).await;
    becomes(&app, "nova_whep_sessions", 1.0).await;
    let left = app.http.delete(app.at(&session)).send().await.expect("an answer");
    assert_eq!(left.status(), StatusCode::OK);
    let again = app.http.delete(app.at(&session)).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    becomes(&app, "nova_opus_children", 0.0).await;
    becomes(&app, "nova_rtc_participants", 0.0).await;
}

#[actix_rt::test]
async fn a_private_stream_is_for_those_who_may_watch_it() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let browser = Browser::start_with_devices().await;
    opens_the_client(&browser, &app).await;
    let path = format!("/whep/{}", stream.id);
    assert_eq!(watches(&browser, &path).await, 409);
    let offer = browser.run("return window.offer").await.as_str().expect("an offer").to_owned();
    let ann = stream.owner.token();
    let edit = format!("/v1/streams/{}", stream.id);
    let private = Some(json!({ "visibility": "private" }));
    assert_eq!(accounts::ask(&app, Method::PATCH, &edit, Some(&ann), private).await.0, StatusCode::OK);

    // Pictures that are shown in another order than they come are nothing for WebRTC, and it says so.
    let source = made("b-frames", "320x180", 30, &["-bf", "2"]);
    let source = source.to_str().expect("a path in UTF-8");
    let encoder =
        Encoder::start(&["-re", "-stream_loop", "-1", "-i", source, "-c", "copy"], &stream.ingest(&app));
    stream.becomes(&app, "live").await;
    let with = async |bearer: &str, query: &str| {
        let request =
            app.http.post(app.at(&format!("{path}{query}"))).header("content-type", "application/sdp");
        let request = if bearer.is_empty() { request } else { request.bearer_auth(bearer) };
        request.body(offer.clone()).send().await.expect("an answer")
    };
    let reordered = eventually("the B-frames are noticed", async || {
        let answer = with(&ann, "").await;
        (answer.status() == StatusCode::NOT_ACCEPTABLE).then_some(answer)
    })
    .await;
    let words = reordered.text().await.expect("text");
    assert!(words.contains("B-frames"), "{words}");
    encoder.stop().await;
    stream.becomes(&app, "ended").await;

    let _encoder = stream.publish(&app);
    stream.becomes(&app, "live").await;
    let eve = accounts::registers(&app, "eve").await;
    for (bearer, query) in [("", ""), ("", "?token=x"), ("x", ""), (&*eve.token(), "")] {
        assert_eq!(with(bearer, query).await.status(), StatusCode::FORBIDDEN, "{bearer} {query}");
    }
    let ask = format!("/v1/streams/{}/playback", stream.id);
    let (_, playback) = accounts::post(&app, &ask, Some(&ann), json!({})).await;
    let token = playback["token"].as_str().expect("a token");
    for (bearer, query) in [("", format!("?token={token}")), (token, String::new()), (&*ann, String::new())] {
        let answer = with(bearer, &query).await;
        assert_eq!(answer.status(), StatusCode::CREATED, "{query}");
        assert!(answer.headers().contains_key("etag") && answer.headers().contains_key("accept-patch"));
    }
    assert_eq!(watches(&browser, &format!("{path}?token={token}")).await, 201);
    sees_and_hears(&browser, Seen { pictures: 0, sound: 0.0 }).await;
}

/// The publisher's encoder makes a keyframe every twenty seconds: who waited for the next would wait for most of them.
#[actix_rt::test]
async fn the_first_viewer_sees_the_present_picture_and_not_the_next_keyframe() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let browser = Browser::start_with_devices().await;
    opens_the_client(&browser, &app).await;
    let source = made("rare-keyframes", "320x180", 60, &["-g", "600", "-keyint_min", "600"]);
    let source = source.to_str().expect("a path in UTF-8");
    let began = std::time::Instant::now();
    let _encoder = Encoder::start(&["-re", "-i", source, "-c", "copy"], &stream.ingest(&app));
    // A part with the keyframe is whole: it has passed.
    stream.becomes(&app, "live").await;
    assert_eq!(watches(&browser, &format!("/whep/{}", stream.id)).await, 201);
    let first_ms = crate::services::eventually("a picture is seen", PATIENCE, async || {
        browser.run("return window.first").await.as_f64()
    })
    .await;
    let published_s = began.elapsed().as_secs_f64();
    println!(
        "the first viewer's first picture after {first_ms:.0} ms, {published_s:.1} s into a GOP of 20 s"
    );
    assert!(published_s < 19.0, "no other keyframe had come: {published_s}");
    sees_and_hears(&browser, Seen { pictures: 0, sound: 0.0 }).await;
}

#[actix_rt::test]
async fn who_asks_another_node_is_sent_to_that_of_the_publisher() {
    let shared = Shared::new().await;
    let (here, there) = (shared.node().await, shared.node().await);
    let stream = Stream::of(&here, "ann").await;
    let encoder = stream.publish(&here);
    stream.becomes(&here, "live").await;
    let path = format!("/whep/{}", stream.id);

    // A page of the other node, whose policy knows the nodes there are.
    let browser = Browser::start_with_devices().await;
    crate::services::eventually("the page is sent on", PATIENCE, async || {
        opens_the_client(&browser, &there).await;
        (watches(&browser, &path).await == 201).then_some(())
    })
    .await;
    sees_and_hears(&browser, Seen { pictures: 0, sound: 0.0 }).await;
    assert_eq!(here.metric("nova_whep_sessions").await, Some(1.0));
    assert_eq!(there.metric("nova_whep_sessions").await, Some(0.0));
    assert!(there.metric("nova_whep_offers_total{outcome=\"moved\"}").await >= Some(1.0));
    eventually("they count as a viewer", async || (stream.stats(&there).await["viewers"] == 1).then_some(()))
        .await;

    // Of a private stream only those are who may watch it, and what lets them in goes with the address.
    let offer = browser.run("return window.offer").await.as_str().expect("an offer").to_owned();
    let edit = format!("/v1/streams/{}", stream.id);
    let private = Some(json!({ "visibility": "private" }));
    let ann = stream.owner.token();
    assert_eq!(accounts::ask(&here, Method::PATCH, &edit, Some(&ann), private).await.0, StatusCode::OK);
    assert_eq!(post(&there, &path, "application/sdp", offer.clone()).await.status(), StatusCode::FORBIDDEN);
    let request =
        there.http.post(there.at(&path)).header("content-type", "application/sdp").bearer_auth(&ann);
    let sent = request.body(offer.clone()).send().await.expect("an answer");
    assert_eq!(sent.status(), StatusCode::TEMPORARY_REDIRECT);
    let address = sent.headers()["location"].to_str().expect("text").to_owned();
    assert!(address.starts_with(&format!("{}{path}?token=", here.url)), "{address}");
    let request = there.http.post(&address).header("content-type", "application/sdp").body(offer.clone());
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::CREATED);

    encoder.stop().await;
    stream.becomes(&there, "ended").await;
    let early = there.http.post(there.at(&path)).header("content-type", "application/sdp").bearer_auth(&ann);
    let early = early.body(offer).send().await.expect("an answer");
    assert_eq!(early.status(), StatusCode::CONFLICT);
}
