//! Broadcasters with real encoders, and viewers with real players.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::accounts::{self, Session};
use crate::app::{TestApp, eventually};

/// How long an encoder or a player may take for what a test asks of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream somebody has made.
pub struct Stream {
    pub id: String,
    pub key: String,
    pub owner: Session,
}

impl Stream {
    /// `name` registers and makes a stream.
    pub async fn of(app: &TestApp, name: &str) -> Stream {
        let owner = accounts::registers(app, name).await;
        let (status, body) = accounts::post(
            app,
            "/v1/streams",
            Some(&owner.token()),
            json!({ "title": format!("{name} plays") }),
        )
        .await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        assert_eq!(body["ingest_url"], format!("rtmp://{}/live", app.engine.rtmp_addr));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Stream { id: text(&body["stream"]["id"]), key: text(&body["stream_key"]), owner }
    }

    /// As the API tells it.
    pub async fn told(&self, app: &TestApp) -> Value {
        let (status, body) =
            accounts::get(app, &format!("/v1/streams/{}", self.id), &self.owner.token()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// How its owner sees it.
    pub async fn stats(&self, app: &TestApp) -> Value {
        let path = format!("/v1/streams/{}/stats", self.id);
        let (status, body) = accounts::get(app, &path, &self.owner.token()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Where publishers connect to, the key included.
    pub fn ingest(&self, app: &TestApp) -> String {
        format!("rtmp://{}/live/{}", app.engine.rtmp_addr, self.key)
    }

    /// Where it is played.
    pub fn url(&self, app: &TestApp) -> String {
        app.at(&format!("/live/{}/index.m3u8", self.id))
    }

    /// Publishes the usual pictures and sound at the pace of life, again and again.
    pub fn publish(&self, app: &TestApp) -> Encoder {
        let arguments = ["-re", "-stream_loop", "-1", "-i", source(), "-c", "copy"];
        Encoder::start(&arguments, &self.ingest(app))
    }

    /// The media playlist, as soon as there is one.
    pub async fn playlist(&self, app: &TestApp) -> Playlist {
        eventually("the stream can be played", async || Playlist::open(app, &self.url(app)).await).await
    }

    /// Waits until the API says so.
    pub async fn becomes(&self, app: &TestApp, state: &str) -> Value {
        eventually(&format!("the stream is {state}"), async || {
            Some(self.told(app).await).filter(|told| told["state"] == state)
        })
        .await
    }
}

/// The same at the HTTP door of a program: the id and the key of a stream, and its owner's token.
pub async fn made_at(url: &str, stream: Value) -> (String, String, String) {
    let http = reqwest::Client::new();
    let post = async |path: &str, token: &str, body: &Value| -> Value {
        let request = http.post(format!("{url}{path}")).bearer_auth(token).json(body);
        request.send().await.expect("answers").json().await.expect("json")
    };
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let ann = json!({ "username": "ann", "email": "ann@example.org", "password": "a long way home" });
    let token = text(&post("/v1/accounts", "", &ann).await["access_token"]);
    let made = post("/v1/streams", &token, &stream).await;
    (text(&made["stream"]["id"]), text(&made["stream_key"]), token)
}

/// A media playlist, and where it is.
pub struct Playlist {
    pub url: String,
    pub text: String,
}

impl Playlist {
    /// Follows a multivariant playlist; none while there is nothing to play.
    pub async fn open(app: &TestApp, index: &str) -> Option<Playlist> {
        let response = app.http.get(index).send().await.expect("an answer");
        if response.status() != StatusCode::OK {
            return None;
        }
        let text = response.text().await.expect("text");
        let uri = text.lines().find(|line| !line.starts_with('#')).expect("a rendition").to_owned();
        let url = beside(index, &uri);
        let text = app.http.get(&url).send().await.expect("an answer").text().await.expect("text");
        Some(Playlist { url, text })
    }

    /// As it is now.
    pub async fn reload(&mut self, app: &TestApp) -> &str {
        let response = app.http.get(&self.url).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        self.text = response.text().await.expect("text");
        &self.text
    }

    /// With delivery directives.
    pub async fn ask(&self, app: &TestApp, query: &str) -> reqwest::Response {
        app.http.get(format!("{}?{query}", self.url)).send().await.expect("an answer")
    }

    /// The address of what it lists.
    pub fn of(&self, uri: &str) -> String {
        beside(&self.url, uri)
    }

    /// The values of a tag, in order.
    pub fn tags(&self, tag: &str) -> Vec<&str> {
        let prefix = format!("#{tag}:");
        self.text.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).collect()
    }

    /// Segment number and part number of the part it promises.
    pub fn hint(&self) -> (u64, u32) {
        let hint = self.tags("EXT-X-PRELOAD-HINT");
        let uri = attribute(hint.first().expect("a hint"), "URI");
        let (msn, part) = uri
            .rsplit('/')
            .next()
            .and_then(|name| name.strip_suffix(".m4s"))
            .and_then(|name| name.split_once('.'))
            .expect("a part");
        (msn.parse().expect("a number"), part.parse().expect("a number"))
    }
}

/// An attribute of a tag, without its quotes.
pub fn attribute(attributes: &str, name: &str) -> String {
    let at = format!("{name}=");
    let start = attributes.split(&at).nth(1).unwrap_or_else(|| panic!("no {name} in {attributes}"));
    match start.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().expect("quoted").to_owned(),
        None => start.split(',').next().expect("a value").to_owned(),
    }
}

fn beside(url: &str, uri: &str) -> String {
    url::Url::parse(url).expect("a URL").join(uri).expect("a URL").to_string()
}

/// FFmpeg, publishing. It is killed when it is dropped.
pub struct Encoder(Child);

impl Encoder {
    pub fn start(arguments: &[&str], address: &str) -> Encoder {
        let child = Command::new("ffmpeg")
            .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
            .args(arguments)
            .args(["-f", "flv", address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("ffmpeg is installed");
        Encoder(child)
    }

    /// Stops as a broadcaster does who presses the button.
    pub async fn stop(self) {
        self.signal(rustix::process::Signal::INT);
        self.ended().await;
    }

    /// Is gone without a word.
    pub async fn crash(self) {
        self.signal(rustix::process::Signal::KILL);
        self.ended().await;
    }

    /// Neither sends nor reads any more, as behind a broken network.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Whether it ended well, and its last words.
    pub async fn ended(self) -> (bool, String) {
        let output = timeout(PATIENCE, self.0.wait_with_output()).await.expect("it ends").expect("its words");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)).expect("it runs");
        rustix::process::kill_process(pid, signal).expect("it is ours");
    }
}

/// Half a minute of H.264 with a keyframe each second, and AAC; made once.
pub fn source() -> &'static str {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    let path = SOURCE.get_or_init(|| made("source", "320x180", 30, &[]));
    path.to_str().expect("a path in UTF-8")
}

/// A file of so many seconds in the folder of this build, made unless it is there.
pub fn made(name: &str, size: &str, seconds: u32, more: &[&str]) -> PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}-{size}-{seconds}.flv"));
    if path.exists() {
        return path;
    }
    // Under another name until it is whole: tests of several processes may make it at once.
    let growing = folder.join(format!("{name}-{size}-{}.part", std::process::id()));
    let picture = format!("testsrc2=size={size}:rate=30");
    let ended = std::process::Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-f", "lavfi", "-i", &picture])
        .args(["-f", "lavfi", "-i", "sine=r=44100", "-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv420p", "-b:v", "400k"])
        .args(more)
        .args(["-c:a", "aac", "-f", "flv"])
        .arg(&growing)
        .status()
        .expect("ffmpeg is installed");
    assert!(ended.success(), "the source cannot be made");
    std::fs::rename(&growing, &path).expect("the source is kept");
    path
}

/// What a program says of an address, on standard output.
pub async fn says(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PATIENCE, run).await.expect("it ends in time").expect("it is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}
