//! Who may publish, and what happens when publishers come, go, drop and return.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::accounts;
use crate::app::{TestApp, eventually};
use crate::broadcaster::{Encoder, Playlist, Stream, source};

/// Waits until the playlist tells of a discontinuity with something after it.
async fn goes_on_after_a_discontinuity(app: &TestApp, playlist: &mut Playlist) {
    eventually("the playlist goes on after a discontinuity", async || {
        let text = playlist.reload(app).await;
        let after = text.split("#EXT-X-DISCONTINUITY\n").nth(1)?;
        assert!(!text.contains("#EXT-X-ENDLIST"), "{text}");
        (after.contains("#EXT-X-MAP:") && after.contains("#EXT-X-PART:")).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_wrong_key_is_refused_in_words_the_broadcaster_reads() {
    let app = TestApp::start().await;
    let address = format!("rtmp://{}/live/live_nobodys", app.engine.rtmp_addr);
    let (well, words) = Encoder::start(&["-re", "-i", source(), "-c", "copy"], &address).ended().await;
    assert!(!well);
    assert!(words.contains("this stream key is not known"), "{words}");
    assert_eq!(app.metric("nova_rtmp_refused_total{reason=\"key\"}").await, Some(1.0));
}

#[actix_web::test]
async fn who_drops_and_comes_back_goes_on_after_a_discontinuity() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    let live = stream.becomes(&app, "live").await;
    encoder.crash().await;
    let _encoder = stream.publish(&app);
    goes_on_after_a_discontinuity(&app, &mut playlist).await;
    let told = stream.told(&app).await;
    assert_eq!((&told["state"], &told["started_at"]), (&json!("live"), &live["started_at"]), "one broadcast");
}

#[actix_web::test]
async fn who_does_not_come_back_has_ended() {
    let app = TestApp::start_with(|config| config.live.stream_resume_s = 1).await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    stream.becomes(&app, "live").await;
    encoder.crash().await;
    stream.becomes(&app, "ended").await;
    assert!(playlist.reload(&app).await.ends_with("#EXT-X-ENDLIST\n"));
    // The same key begins another broadcast, at another address.
    let _encoder = stream.publish(&app);
    stream.becomes(&app, "live").await;
    let next = stream.playlist(&app).await;
    assert_ne!(next.url, playlist.url);
    assert!(!next.text.contains("#EXT-X-DISCONTINUITY\n"), "{}", next.text);
}

#[actix_web::test]
async fn the_same_key_takes_over_from_a_connection_that_hangs() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let hanging = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    hanging.freeze();
    let _encoder = stream.publish(&app);
    goes_on_after_a_discontinuity(&app, &mut playlist).await;
    eventually("the old connection is closed", async || {
        app.metric("nova_rtmp_connections").await.filter(|open| *open == 1.0)
    })
    .await;
    assert_eq!(stream.told(&app).await["state"], "live");
}

#[actix_web::test]
async fn a_new_key_sends_the_publisher_away_and_the_old_one_is_void() {
    let app = TestApp::start().await;
    let mut stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    let path = format!("/v1/streams/{}/key", stream.id);
    let bob = accounts::registers(&app, "bob").await;
    let (status, _) = accounts::post(&app, &path, Some(&bob.token()), json!({})).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "only its owner");
    let (status, body) = accounts::post(&app, &path, Some(&stream.owner.token()), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let (well, words) = encoder.ended().await;
    assert!(!well, "{words}");
    let (_, words) = stream.publish(&app).ended().await;
    assert!(words.contains("this stream key is not known"), "{words}");
    stream.key = body["stream_key"].as_str().expect("a key").to_owned();
    let _encoder = stream.publish(&app);
    goes_on_after_a_discontinuity(&app, &mut playlist).await;
}

#[actix_web::test]
async fn a_deleted_stream_is_gone_for_its_publisher_and_its_viewers() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    let path = format!("/v1/streams/{}", stream.id);
    let (status, _) = accounts::ask(&app, Method::DELETE, &path, Some(&stream.owner.token()), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (well, words) = encoder.ended().await;
    assert!(!well, "{words}");
    assert!(playlist.reload(&app).await.ends_with("#EXT-X-ENDLIST\n"));
    let (status, _) = accounts::get(&app, &path, &stream.owner.token()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[actix_web::test]
async fn a_node_that_leaves_lets_its_publishers_and_viewers_go() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let playlist = stream.playlist(&app).await;
    let (msn, _) = playlist.hint();
    let waiting = tokio::spawn(app.http.get(format!("{}?_HLS_msn={}", playlist.url, msn + 1)).send());
    eventually("the viewer waits", async || {
        app.metric("nova_playback_waiting").await.filter(|waiting| *waiting == 1.0)
    })
    .await;
    actix_web::rt::task::spawn_blocking(move || app.stop()).await.expect("the node ended well");
    let answer = waiting.await.expect("asked").expect("an answer");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!encoder.ended().await.0);
}
