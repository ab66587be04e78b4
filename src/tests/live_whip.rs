//! Streams that are published over WebRTC, by a real browser.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::app::{TestApp, eventually};
use crate::broadcaster::{Stream, says};
use crate::browser::Browser;
use crate::live_whep::{Seen, opens_the_client, post, sees_and_hears, watches};

/// A WHIP client of a few lines.
const CLIENT: &str = "
    window.publish = async (address, key) => {
        const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 320, height: 180 } });
        const pc = new RTCPeerConnection();
        window.publisher = pc;
        pc.addTransceiver(media.getAudioTracks()[0], { direction: 'sendonly' });
        const video = pc.addTransceiver(media.getVideoTracks()[0], { direction: 'sendonly' });
        const codecs = RTCRtpSender.getCapabilities('video').codecs.filter((codec) =>
            /rtx/.test(codec.mimeType) || /H264/.test(codec.mimeType) && /packetization-mode=1/.test(codec.sdpFmtpLine) && /42e0/.test(codec.sdpFmtpLine));
        video.setCodecPreferences(codecs);
        await pc.setLocalDescription();
        window.published = pc.localDescription.sdp;
        const answer = await fetch(address, {
            method: 'POST', headers: { 'content-type': 'application/sdp', authorization: `Bearer ${key}` },
            body: window.published,
        });
        window.publishing = answer.headers.get('location');
        window.publishingTag = answer.headers.get('etag');
        const sdp = await answer.text();
        if (answer.ok) await pc.setRemoteDescription({ type: 'answer', sdp });
        window.publishStatus = answer.status;
    };";

async fn publishes(browser: &Browser, address: &str, key: &str) {
    browser.run(CLIENT).await;
    browser
        .run(&format!("window.publishStatus = null; window.publish({}, {})", json!(address), json!(key)))
        .await;
    let status = eventually("the offer is answered", async || {
        Some(browser.run("return window.publishStatus").await).filter(|status| !status.is_null())
    })
    .await;
    assert_eq!(status, 201);
}

#[actix_rt::test]
async fn what_a_browser_publishes_is_packaged_and_watched() {
    let app = TestApp::start_with(|config| config.live.stream_resume_s = 1).await;
    let stream = Stream::of(&app, "ann").await;
    let path = format!("/whip/{}", stream.id);
    let browser = Browser::start_with_devices().await;
    opens_the_client(&browser, &app).await;

    publishes(&browser, &path, &stream.key).await;
    stream.becomes(&app, "live").await;
    assert_eq!(app.metric("nova_whip_sessions").await, Some(1.0));
    let playlist = stream.playlist(&app).await;
    assert!(!playlist.tags("EXT-X-PART-INF").is_empty(), "{}", playlist.text);
    eventually("a segment is whole", async || {
        let text = app.http.get(&playlist.url).send().await.expect("an answer").text().await.expect("text");
        text.contains("#EXTINF:").then_some(())
    })
    .await;
    let entries = ["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
    let codecs = says("ffprobe", &[&entries[..], &[&stream.url(&app)]].concat()).await;
    assert!(codecs.contains("h264") && codecs.contains("opus"), "{codecs}");
    assert_eq!(watches(&browser, &format!("/whep/{}", stream.id)).await, 201);
    let seen = sees_and_hears(&browser, Seen { pictures: 0, sound: 0.0 }).await;
    println!("published and watched over WebRTC: {seen:?}");
    assert_eq!(app.metric("nova_opus_children").await, Some(0.0), "Opus passes as it is");
    let stats = stream.stats(&app).await;
    println!("{stats}");

    // Only who has the key publishes, and only what is taken.
    let offer = browser.run("return window.published").await.as_str().expect("an offer").to_owned();
    let without = post(&app, &path, "application/sdp", offer.clone()).await;
    assert_eq!(without.status(), StatusCode::UNAUTHORIZED);
    let with = async |key: &str, kind: &str, body: String| {
        let request = app.http.post(app.at(&path)).header("content-type", kind).bearer_auth(key);
        request.body(body).send().await.expect("an answer").status()
    };
    assert_eq!(with("live_nobodys", "application/sdp", offer.clone()).await, StatusCode::UNAUTHORIZED);
    let key = stream.key.as_str();
    assert_eq!(with(key, "text/plain", offer.clone()).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(with(key, "application/sdp", "v=0".to_owned()).await, StatusCode::BAD_REQUEST);
    let receiving = offer.replace("a=sendonly", "a=recvonly");
    assert_eq!(with(key, "application/sdp", receiving).await, StatusCode::NOT_ACCEPTABLE);

    // What a publisher may ask for is told; its network changes as a viewer's does.
    let asked = app.http.request(Method::OPTIONS, app.at(&path)).send().await.expect("an answer");
    assert_eq!(
        (asked.status(), &asked.headers()["accept-post"] == "application/sdp"),
        (StatusCode::NO_CONTENT, true)
    );
    let session = browser.run("return window.publishing").await.as_str().expect("a session").to_owned();
    let change = async |tag: Option<&str>, kind: &str| {
        let request = app.http.patch(app.at(&session)).header("content-type", kind).body("a=candidate:1\r\n");
        let request = tag.map_or(request.try_clone(), |tag| Some(request.header("if-match", tag)));
        request.expect("a request").send().await.expect("an answer").status()
    };
    let fragment = "application/trickle-ice-sdpfrag";
    let tag = browser.run("return window.publishingTag").await.as_str().expect("a tag").to_owned();
    assert_eq!(change(Some(&tag), fragment).await, StatusCode::NO_CONTENT);
    assert_eq!(change(Some("\"other\""), fragment).await, StatusCode::PRECONDITION_FAILED);
    assert_eq!(change(None, fragment).await, StatusCode::PRECONDITION_REQUIRED);
    assert_eq!(change(Some(&tag), "application/sdp").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);

    // The end is the end of the broadcast.
    let session = browser.run("return window.publishing").await.as_str().expect("a session").to_owned();
    let ended = app.http.request(Method::DELETE, app.at(&session)).send().await.expect("an answer");
    assert_eq!(ended.status(), StatusCode::OK);
    stream.becomes(&app, "ended").await;
    eventually("nobody is left at the shard", async || {
        app.metric("nova_rtc_participants").await.filter(|there| *there == 0.0)
    })
    .await;
}

#[actix_rt::test]
async fn who_is_gone_without_a_word_is_noticed_and_who_comes_with_the_key_takes_over() {
    let app = TestApp::start_with(|config| config.live.stream_resume_s = 1).await;
    let stream = Stream::of(&app, "ann").await;
    let browser = Browser::start_with_devices().await;
    opens_the_client(&browser, &app).await;
    publishes(&browser, &format!("/whip/{}", stream.id), &stream.key).await;
    let mut playlist = stream.playlist(&app).await;
    let encoder = stream.publish(&app);
    eventually("the encoder takes over after a discontinuity", async || {
        playlist.reload(&app).await.contains("#EXT-X-DISCONTINUITY\n").then_some(())
    })
    .await;
    eventually("who published before has gone", async || {
        app.metric("nova_whip_sessions").await.filter(|there| *there == 0.0)
    })
    .await;
    encoder.stop().await;
    stream.becomes(&app, "ended").await;

    // Somebody is let in, and never comes.
    let offer = browser.run("return window.published").await.as_str().expect("an offer").to_owned();
    let request = app.http.post(app.at(&format!("/whip/{}", stream.id))).bearer_auth(&stream.key);
    let answer =
        request.header("content-type", "application/sdp").body(offer).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::CREATED);
    crate::services::eventually("they are forgotten", Duration::from_secs(60), async || {
        app.metric("nova_whip_sessions").await.filter(|there| *there == 0.0)
    })
    .await;
}
