//! How a broadcast looks: pictures that child processes make, and what becomes of the broadcast when they cannot.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::StatusCode;

use crate::app::TestApp;
use crate::broadcaster::{Stream, says};
use crate::services::eventually;

/// A child process for each picture, beside everything else that runs.
const PATIENCE: Duration = Duration::from_secs(30);

async fn counted(app: &TestApp, result: &str) -> f64 {
    app.metric(&format!(r#"nova_thumbnails_total{{result="{result}"}}"#)).await.unwrap_or_default()
}

async fn status(app: &TestApp, stream: &Stream) -> StatusCode {
    let url = app.at(&format!("/live/{}/thumbnail.jpg", stream.id));
    app.http.get(url).send().await.expect("an answer").status()
}

#[actix_web::test]
async fn a_broadcast_has_a_picture_that_is_renewed() {
    let app = TestApp::start_with(|config| config.live.thumbnail_s = 1).await;
    let stream = Stream::of(&app, "ann").await;
    assert_eq!(status(&app, &stream).await, StatusCode::NOT_FOUND);
    assert!(stream.told(&app).await.get("thumbnail_url").is_none());
    let _encoder = stream.publish(&app);
    let url = eventually("there is a picture", PATIENCE, async || {
        stream.told(&app).await["thumbnail_url"].as_str().map(str::to_owned)
    })
    .await;
    let answer = app.http.get(&url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "image/jpeg");
    assert_eq!(answer.headers()["cache-control"], "public, max-age=5");
    let jpeg = answer.bytes().await.expect("bytes");
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("picture.jpg");
    std::fs::write(&file, &jpeg).expect("written");
    let entries = ["-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0"];
    let told = says("ffprobe", &[&entries[..], &[file.to_str().expect("UTF-8")]].concat()).await;
    assert_eq!(told.trim(), "mjpeg,320,180");
    eventually("it is renewed", PATIENCE, async || {
        let told = stream.told(&app).await;
        (told["thumbnail_url"].as_str()? != url).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn a_child_that_dies_or_is_absent_takes_nothing_with_it() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let crashes = folder.path().join("ffmpeg");
    std::fs::write(&crashes, "#!/bin/sh\nkill -SEGV $$\n").expect("written");
    std::fs::set_permissions(&crashes, std::fs::Permissions::from_mode(0o755)).expect("made a program");
    for (program, result) in [(crashes, "no_picture"), (PathBuf::from("/nowhere/ffmpeg"), "no_program")] {
        let app = TestApp::start_with(|config| {
            config.live.thumbnail_s = 1;
            config.live.ffmpeg = program;
        })
        .await;
        let stream = Stream::of(&app, "ann").await;
        let _encoder = stream.publish(&app);
        let mut playlist = stream.playlist(&app).await;
        eventually("it was tried", PATIENCE, async || (counted(&app, result).await >= 1.0).then_some(()))
            .await;
        assert_eq!(status(&app, &stream).await, StatusCode::NOT_FOUND);
        let (msn, _) = playlist.hint();
        let answer = playlist.ask(&app, &format!("_HLS_msn={}&_HLS_part=0", msn + 1)).await;
        assert_eq!(answer.status(), StatusCode::OK, "the broadcast goes on");
        playlist.reload(&app).await;
        assert_eq!(counted(&app, "made").await, 0.0);
    }
}
