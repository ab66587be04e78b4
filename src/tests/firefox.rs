//! A real Firefox, driven over its own protocol (Marionette: JSON behind its length, over TCP), so that no driver is needed between.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::services::eventually;

/// What is not there by then will not come; generous, because many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// A camera and a microphone that are not there and the picture of a tab, allowed; and nothing from outside.
const PREFERENCES: &str = r#"
user_pref("marionette.port", 0);
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.getusermedia.browser.enabled", true);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("network.proxy.type", 0);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.normandy.enabled", false);
user_pref("media.gmp-manager.updateEnabled", false);
user_pref("browser.startup.homepage_override.mstone", "ignore");
"#;

/// A browser window with a profile of its own; gone with the test.
pub struct Firefox {
    wire: Mutex<Wire>,
    child: Child,
    _profile: tempfile::TempDir,
}

struct Wire {
    stream: TcpStream,
    commands: u64,
}

impl Wire {
    async fn message(&mut self) -> Value {
        let mut len = 0;
        loop {
            match self.stream.read_u8().await.expect("Firefox is there") {
                b':' => break,
                digit => len = len * 10 + usize::from(digit - b'0'),
            }
        }
        let mut text = vec![0; len];
        self.stream.read_exact(&mut text).await.expect("Firefox is there");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// What comes of a command, or why nothing does.
    async fn ask(&mut self, command: &str, parameters: &Value) -> Result<Value, Value> {
        self.commands += 1;
        let text = json!([0, self.commands, command, parameters]).to_string();
        let text = format!("{}:{text}", text.len());
        self.stream.write_all(text.as_bytes()).await.expect("Firefox is there");
        let Value::Array(mut answer) = self.message().await else { panic!("no answer to {command}") };
        assert_eq!(answer[1], self.commands);
        if answer[2].is_null() { Ok(answer.remove(3)) } else { Err(answer.remove(2)) }
    }
}

impl Firefox {
    /// Starts a window of a desk's size.
    pub async fn start() -> Firefox {
        let profile = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(profile.path().join("user.js"), PREFERENCES).expect("written");
        let name = ["firefox-esr", "firefox"].into_iter().find(|name| {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&paths).any(|path| path.join(name).is_file())
        });
        let child = Command::new(name.expect("Firefox is installed; `scripts/install test` does it"))
            .args(["--headless", "--marionette", "--no-remote", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .envs([("MOZ_HEADLESS_WIDTH", "1280"), ("MOZ_HEADLESS_HEIGHT", "900")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Firefox can be run");
        let stream = eventually("Firefox listens", PATIENCE, async || {
            let port = std::fs::read_to_string(profile.path().join("MarionetteActivePort")).ok()?;
            TcpStream::connect(("127.0.0.1", port.trim().parse().ok()?)).await.ok()
        });
        let mut wire = Wire { stream: stream.await, commands: 0 };
        assert_eq!(wire.message().await["marionetteProtocol"], 3);
        wire.ask("WebDriver:NewSession", &json!({})).await.expect("a session");
        Firefox { wire: Mutex::new(wire), child, _profile: profile }
    }

    async fn ask(&self, command: &str, parameters: Value) -> Result<Value, Value> {
        self.wire.lock().await.ask(command, &parameters).await
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.ask("WebDriver:Navigate", json!({ "url": url })).await.expect("the address opens");
    }

    /// What a script in the page returns.
    pub async fn run(&self, script: &str) -> Value {
        // In the page itself, so that what one script leaves on `window` the next one finds.
        let parameters = json!({ "script": script, "args": [], "sandbox": null, "newSandbox": false });
        self.ask("WebDriver:ExecuteScript", parameters).await.expect("the script runs")["value"].take()
    }

    /// Waits until the element's text has these words.
    pub async fn sees(&self, css: &str, words: &str) {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(css));
        eventually(&format!("{words:?} in {css} in Firefox"), PATIENCE, async || {
            self.run(&script).await.as_str().is_some_and(|text| text.contains(words)).then_some(())
        })
        .await;
    }

    async fn element(&self, using: &str, value: &str) -> String {
        let parameters = json!({ "using": using, "value": value });
        eventually(&format!("{value} in Firefox"), PATIENCE, async || {
            let found = self.ask("WebDriver:FindElement", parameters.clone()).await.ok()?;
            let id = found["value"].as_object()?.values().next()?.as_str()?;
            Some(id.to_owned())
        })
        .await
    }

    /// Types into the field with this id.
    pub async fn fill(&self, id: &str, text: &str) {
        let field = self.element("css selector", &format!("[id='{id}']")).await;
        let typed = json!({ "id": field, "text": text });
        self.ask("WebDriver:ElementSendKeys", typed).await.expect("the field takes text");
    }

    /// Clicks the first element that `css` finds.
    pub async fn click(&self, css: &str) {
        let element = self.element("css selector", css).await;
        self.ask("WebDriver:ElementClick", json!({ "id": element })).await.expect("it can be clicked");
    }

    /// Clicks the button with these words on it.
    pub async fn press(&self, words: &str) {
        let button = self.element("xpath", &format!("//button[normalize-space()={}]", json!(words))).await;
        self.ask("WebDriver:ElementClick", json!({ "id": button })).await.expect("it can be clicked");
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // Its other processes end with it.
        let _gone = (self.child.kill(), self.child.wait());
    }
}
