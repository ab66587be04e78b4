//! The edge of `deploy/nginx-edge.conf` in front of a node: however many watch, the node hands out each part once.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use reqwest::StatusCode;

use crate::app::{TestApp, eventually};
use crate::broadcaster::{Playlist, Stream, attribute};

const VIEWERS: usize = 20;
/// Parts each of them plays.
const PARTS: usize = 9;

/// A running nginx with the recipe, on a free port, with a cache of its own.
struct Edge {
    nginx: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Edge {
    /// `change` turns the recipe's switches.
    async fn before(app: &TestApp, change: impl FnOnce(String) -> String) -> Edge {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let place = folder.path().display();
        let recipe = include_str!("../../deploy/nginx-edge.conf");
        let replaced = |text: String, what: &str, with: &str| {
            assert!(text.contains(what), "the recipe has no {what:?} any more");
            text.replace(what, with)
        };
        let text = replaced(recipe.to_owned(), "/var/cache/nginx/nova", &format!("{place}/cache"));
        let text = replaced(text, "server 127.0.0.1:8080;", &format!("server {};", app.http_addr));
        let text = replaced(text, "listen 8088;", &format!("listen 127.0.0.1:{port};"));
        std::fs::write(folder.path().join("edge.conf"), change(text)).expect("written");
        // One process, of whoever runs the tests, that keeps to this folder.
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        let whole = format!(
            "daemon off; master_process off; pid {place}/pid; error_log stderr warn;
             events {{ worker_connections 1024; }}
             http {{ access_log off; {temporary} include {place}/edge.conf; }}"
        );
        let main = folder.path().join("nginx.conf");
        std::fs::write(&main, whole).expect("written");
        let nginx = Command::new(program())
            .args(["-p", &place.to_string(), "-c", &main.display().to_string(), "-e", "stderr"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx starts; `scripts/install test` installs it");
        let edge = Edge { nginx, url: format!("http://127.0.0.1:{port}"), _folder: folder };
        eventually("the edge listens", async || {
            app.http
                .get(format!("{}/livez", edge.url))
                .send()
                .await
                .ok()
                .filter(|it| it.status() == StatusCode::OK)
        })
        .await;
        edge
    }

    fn index(&self, stream: &Stream) -> String {
        format!("{}/live/{}/index.m3u8", self.url, stream.id)
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _gone = self.nginx.kill();
        let _reaped = self.nginx.wait();
    }
}

/// Distributions keep it where ordinary users do not look.
fn program() -> &'static str {
    ["/usr/sbin/nginx", "/usr/local/sbin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or("nginx")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// What was fetched, by its address; the sizes.
type Fetched = Arc<Mutex<HashMap<String, usize>>>;

/// Watches through the edge as a low-latency player does: waits for each next part, then fetches it.
async fn watches(app: &TestApp, index: &str, fetched: &Fetched) -> usize {
    let mut playlist = Playlist::open(app, index).await.expect("it is on the air");
    let mut played = 0;
    while played < PARTS {
        let (msn, part) = playlist.hint();
        let answer = playlist.ask(app, &format!("_HLS_msn={msn}&_HLS_part={part}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        playlist.text = answer.text().await.expect("text");
        let latest = playlist.tags("EXT-X-PART").last().map(|part| attribute(part, "URI")).expect("a part");
        let url = playlist.of(&latest);
        let part = app.http.get(&url).send().await.expect("an answer");
        assert_eq!(part.status(), StatusCode::OK, "{url}");
        let size = part.bytes().await.expect("bytes").len();
        assert_eq!(*fetched.lock().expect("not poisoned").entry(latest).or_insert(size), size);
        played += 1;
    }
    played
}

/// Parts the node has handed out, and their bytes.
async fn handed_out(app: &TestApp) -> (f64, f64) {
    let route = r#"nova_http_requests_total{method="GET",route="/live/{stream_id}/{broadcast}/{epoch}/{file}",status="200"}"#;
    let bytes = r#"nova_playback_bytes_total{kind="part"}"#;
    (app.metric(route).await.unwrap_or_default(), app.metric(bytes).await.unwrap_or_default())
}

async fn node() -> TestApp {
    TestApp::start_with(|config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await
}

#[actix_web::test]
async fn many_watch_and_the_node_hands_out_each_part_once() {
    let app = node().await;
    let edge = Edge::before(&app, |text| text).await;
    let stream = Stream::of(&app, "ann").await;
    let _encoder = stream.publish(&app);
    stream.playlist(&app).await;

    let fetched = Fetched::default();
    let index = edge.index(&stream);
    let played: usize =
        join_all((0..VIEWERS).map(|_| watches(&app, &index, &fetched))).await.into_iter().sum();
    assert_eq!(played, VIEWERS * PARTS);
    let fetched = fetched.lock().expect("not poisoned").clone();
    let (requests, bytes) = handed_out(&app).await;
    assert!(fetched.len() >= PARTS, "{fetched:?}");
    let expected: usize = fetched.values().sum();
    // A core that was taken away for longer than a tenth of a second lets one be asked for again: seldom, never by the crowd.
    let again = requests - fetched.len() as f64;
    assert!((0.0..=2.0).contains(&again), "{requests} requests for {} parts", fetched.len());
    assert!(bytes >= expected as f64 && bytes <= expected as f64 * 1.5, "{bytes} bytes for {expected}");

    // Whole segments too; what is refused is not kept.
    let mut playlist = Playlist::open(&app, &index).await.expect("on the air");
    eventually("a segment is whole", async || playlist.reload(&app).await.contains("#EXTINF:").then_some(()))
        .await;
    let segment = playlist.text.lines().find(|line| line.ends_with(".m4s")).expect("a segment").to_owned();
    let cached = async |url: &str| {
        let answer = app.http.get(url).send().await.expect("an answer");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{url}");
        (answer.status(), answer.headers()["x-cache"].to_str().expect("text").to_owned())
    };
    let url = playlist.of(&segment);
    assert_eq!(cached(&url).await, (StatusCode::OK, "MISS".to_owned()));
    assert_eq!(cached(&format!("{url}?again")).await, (StatusCode::OK, "HIT".to_owned()));
    let nothing = playlist.of("1/99999.m4s");
    for _ in 0..2 {
        assert_eq!(cached(&nothing).await, (StatusCode::NOT_FOUND, "MISS".to_owned()));
    }
    // Playlists pass, so each viewer is heard by the node.
    let directed = format!("{}?_HLS_msn=0&_HLS_part=0", playlist.url);
    for _ in 0..2 {
        assert_eq!(cached(&directed).await, (StatusCode::OK, "BYPASS".to_owned()));
    }
}

#[actix_web::test]
async fn playlists_can_be_collapsed_too() {
    let app = node().await;
    let edge = Edge::before(&app, |text| text.replace("default pass;", "default collapse;")).await;
    let stream = Stream::of(&app, "ann").await;
    let _encoder = stream.publish(&app);
    stream.playlist(&app).await;
    let fetched = Fetched::default();
    let index = edge.index(&stream);
    join_all((0..VIEWERS).map(|_| watches(&app, &index, &fetched))).await;
    let route = r#"nova_http_requests_total{method="GET",route="/live/{stream_id}/{broadcast}/{rendition}.m3u8",status="200"}"#;
    let playlists = app.metric(route).await.unwrap_or_default();
    // One at a time and a tenth of a second waits at the node, not one for each viewer and part.
    let crowd = (VIEWERS * PARTS) as f64;
    assert!(playlists >= PARTS as f64 && playlists < crowd / 2.0, "{playlists} of {crowd}");
    let unpacked = Playlist::open(&app, &index).await.expect("on the air");
    assert!(unpacked.text.starts_with("#EXTM3U"), "who takes no gzip gets none");
    let packed = app
        .http
        .get(&unpacked.url)
        .header("accept-encoding", "br, gzip;q=0.9")
        .send()
        .await
        .expect("an answer");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
}
