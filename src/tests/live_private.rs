//! Streams that not everybody may see.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::{self, Session};
use crate::app::{TestApp, eventually};
use crate::broadcaster::{Playlist, Stream, says};

async fn live_for(app: &TestApp, who: &Session) -> Vec<String> {
    let (_, list) = accounts::get(app, "/v1/streams?state=live", &who.token()).await;
    let ids = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned());
    ids.collect()
}

#[actix_web::test]
async fn a_private_stream_is_for_those_its_owner_names_and_its_playlists_for_those_with_a_token() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let (bob, eve) = (accounts::registers(&app, "bob").await, accounts::registers(&app, "eve").await);
    let path = format!("/v1/streams/{}", stream.id);
    let ann = stream.owner.token();
    let set = async |visibility: &str| {
        let body = Some(json!({ "visibility": visibility }));
        let (status, body) = accounts::ask(&app, Method::PATCH, &path, Some(&ann), body).await;
        assert_eq!((status, body["visibility"].as_str()), (StatusCode::OK, Some(visibility)), "{body}");
    };
    set("private").await;
    let viewer = |who: &Session| format!("{path}/viewers/{}", who.user());
    let name = async |method: Method, who: &Session, by: &str| {
        accounts::ask(&app, method, &viewer(who), Some(by), None).await.0
    };
    assert_eq!(name(Method::PUT, &bob, &bob.token()).await, StatusCode::NOT_FOUND, "he does not even see it");
    assert_eq!(name(Method::PUT, &bob, &ann).await, StatusCode::NO_CONTENT);
    assert_eq!(name(Method::PUT, &bob, &ann).await, StatusCode::NO_CONTENT, "twice is as well");
    assert_eq!(name(Method::PUT, &bob, &bob.token()).await, StatusCode::FORBIDDEN);
    let (_, list) = accounts::get(&app, &format!("{path}/viewers"), &ann).await;
    assert_eq!(list["items"], json!([{ "user": bob.user() }]));

    let _encoder = stream.publish(&app);
    stream.becomes(&app, "live").await;
    assert_eq!(live_for(&app, &bob).await, std::slice::from_ref(&stream.id));
    assert_eq!(live_for(&app, &eve).await, Vec::<String>::new());
    assert_eq!(accounts::get(&app, &path, &eve.token()).await.0, StatusCode::NOT_FOUND);
    let ask = async |who: &str| {
        accounts::post(&app, &format!("{path}/playback"), Some(who), json!({ "expires_in_s": 60 })).await
    };
    assert_eq!(ask(&eve.token()).await.0, StatusCode::NOT_FOUND);
    let (status, playback) = ask(&bob.token()).await;
    assert_eq!(status, StatusCode::OK, "{playback}");
    let (status, _) =
        accounts::post(&app, &format!("{path}/playback"), Some(&ann), json!({ "expires_in_s": 1 })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);

    let without = app.http.get(stream.url(&app)).send().await.expect("an answer");
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    let url = playback["playback_url"].as_str().expect("an address").to_owned();
    let playlist =
        eventually("it can be played with the token", async || Playlist::open(&app, &url).await).await;
    assert!(playlist.url.contains("token="), "the token is handed on: {}", playlist.url);
    let bare = playlist.url.split('?').next().expect("an address").to_owned();
    for wrong in [bare.clone(), format!("{bare}?token=x"), format!("{bare}?token={}", "A".repeat(55))] {
        let answer = app.http.get(&wrong).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{wrong}");
    }
    let answer = app.http.get(&playlist.url).send().await.expect("an answer");
    assert_eq!(answer.headers()["cache-control"], "private, no-store");
    eventually("a segment is whole", async || {
        let text = app.http.get(&playlist.url).send().await.expect("an answer").text().await.expect("text");
        text.contains("#EXTINF:").then_some(())
    })
    .await;
    let codecs =
        says("ffprobe", &["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0", &url]).await;
    assert!(codecs.contains("h264"), "{codecs}");

    let picture = format!("{}/live/{}/thumbnail.jpg", app.url, stream.id);
    let answer = app.http.get(&picture).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN, "nor is its picture for everybody");

    // Taken back: no further token. Public again, and somebody is blocked: not for them.
    assert_eq!(name(Method::DELETE, &bob, &ann).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(&bob.token()).await.0, StatusCode::NOT_FOUND);
    set("public").await;
    let open = app.http.get(stream.url(&app)).send().await.expect("an answer");
    assert_eq!(open.status(), StatusCode::OK);
    let (_, playback) = ask(&eve.token()).await;
    assert_eq!(playback["token"], Value::Null, "{playback}");
    let block = format!("/v1/users/{}/block", eve.user());
    let (status, _) = accounts::ask(&app, Method::PUT, &block, Some(&ann), None).await;
    assert!(status.is_success(), "{status}");
    assert_eq!(accounts::get(&app, &path, &eve.token()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(live_for(&app, &eve).await, Vec::<String>::new());
    assert_eq!(live_for(&app, &bob).await, std::slice::from_ref(&stream.id));
}
