//! Live streams over TLS and HTTP/2, as players have them: one connection for everything.

use std::time::Duration;

use reqwest::{StatusCode, Version};

use crate::app::{TestApp, eventually};
use crate::broadcaster::{Stream, attribute, says};
use crate::program::certificate;

#[actix_web::test]
async fn playlists_that_are_waited_for_and_parts_share_one_http_2_connection() {
    let folder = tempfile::tempdir().expect("a directory");
    let (made, cert, key) = certificate(folder.path());
    let mut app = TestApp::start_with(|config| {
        config.http.tls_cert = Some(cert.clone());
        config.http.tls_key = Some(key);
    })
    .await;
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([trusted]).timeout(Duration::from_secs(30));
    app.http = client.build().expect("a client");
    app.url = format!("https://{}", app.http_addr);

    let stream = Stream::of(&app, "ann").await;
    let encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;
    eventually("a segment is whole", async || playlist.reload(&app).await.contains("#EXTINF:").then_some(()))
        .await;

    // A segment that begins in a while is waited for; meanwhile everything else comes over the same connection.
    let (msn, _) = playlist.hint();
    let query = format!("_HLS_msn={}&_HLS_part=2", msn + 1);
    let mut reload = Box::pin(playlist.ask(&app, &query));
    let mut fetched = 0;
    let answer = loop {
        let uri = attribute(playlist.tags("EXT-X-PART").last().expect("a part"), "URI");
        let url = playlist.of(&uri);
        tokio::select! {
            answer = &mut reload => break answer,
            part = app.http.get(url).send() => {
                let part = part.expect("an answer");
                assert_eq!((part.status(), part.version()), (StatusCode::OK, Version::HTTP_2));
                assert!(part.bytes().await.expect("bytes").len() > 500);
                fetched += 1;
            }
        }
    };
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    drop(reload);
    let text = answer.text().await.expect("text");
    assert!(text.contains(&format!("/{}.2.m4s\"", msn + 1)), "{text}");
    assert!(fetched > 3, "{fetched} parts came while a playlist was waited for");
    playlist.text = text;

    // Many wait on it at once, and all are answered with what they waited for.
    let (msn, part) = playlist.hint();
    let hint = playlist.of(&attribute(playlist.tags("EXT-X-PRELOAD-HINT")[0], "URI"));
    let query = format!("_HLS_msn={msn}&_HLS_part={part}");
    let waits = futures_util::future::join_all((0..50).map(|_| playlist.ask(&app, &query)));
    let (answers, hinted) = tokio::join!(waits, app.http.get(&hint).send());
    let hinted = hinted.expect("an answer");
    assert!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&hinted.status()), "{}", hinted.status());
    assert_eq!(hinted.version(), Version::HTTP_2);
    for answer in answers {
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        assert!(answer.headers().contains_key("strict-transport-security"));
    }

    // Another implementation says the same, and FFmpeg plays it.
    let cert = cert.to_str().expect("UTF-8");
    let told = ["--http2", "--silent", "--cacert", cert, "--output", "/dev/null", "--write-out"];
    let told = [&told[..], &["%{http_version} %{http_code} %{content_type}", &playlist.url]].concat();
    assert_eq!(says("curl", &told).await, "2 200 application/vnd.apple.mpegurl");
    let entries = ["-v", "error", "-ca_file", cert, "-show_entries", "stream=codec_name", "-of", "csv=p=0"];
    let codecs = says("ffprobe", &[&entries[..], &[&stream.url(&app)]].concat()).await;
    assert!(codecs.contains("h264") && codecs.contains("aac"), "{codecs}");
    encoder.stop().await;
}
