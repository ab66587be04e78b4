//! A real Chromium, driven through chromedriver: one of its own for each test, without the internet, gone with the test.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::key::Key;
use fantoccini::wd::{WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use crate::services::{eventually, polled};

/// A page that is not there by then will not come; generous, because many tests share few cores.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has a page keep the connections it makes in `window.connections`, for whoever wants to look into them.
pub const KEEPS_CONNECTIONS: &str = "window.connections = [];
    window.RTCPeerConnection = new Proxy(RTCPeerConnection, {
        construct(made, wanted) {
            const connection = new made(...wanted);
            window.connections.push(connection);
            return connection;
        },
    });";

/// A browser window with a profile of its own.
pub struct Browser {
    client: Client,
    driver: Child,
    /// The browser's own process, which chromedriver would leave behind if it were killed.
    browser_pid: Option<i32>,
    _profile: tempfile::TempDir,
}

/// What the browser wrote to its console.
#[derive(Debug)]
pub struct LogEntry {
    /// Who wrote it: `network`, `javascript`, `security`, `console-api`, …
    pub source: String,
    pub level: String,
    pub message: String,
}

impl Browser {
    /// Starts a window of a desk's size. Every name but loopback's leads nowhere, so nothing can come from outside.
    pub async fn start() -> Browser {
        Browser::start_as(&[]).await
    }

    /// The same with a camera that shows a moving picture and a microphone that beeps, both allowed.
    pub async fn start_with_devices() -> Browser {
        Browser::start_as(&[
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            "--autoplay-policy=no-user-gesture-required",
        ])
        .await
    }

    async fn start_as(more: &[&str]) -> Browser {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let (driver, port) = start_driver();
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--window-size=1280,900".to_owned(),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".to_owned(),
        ];
        arguments.extend(more.iter().map(|one| (*one).to_owned()));
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": chromium(), "args": arguments },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("it is an object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .expect("chromedriver starts Chromium");
        let pid = client.capabilities().and_then(|given| given.get("goog:processID")).and_then(Value::as_i64);
        let browser_pid = pid.and_then(|pid| i32::try_from(pid).ok());
        let browser = Browser { client, driver, browser_pid, _profile: profile };
        browser
            .devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": KEEPS_CONNECTIONS }))
            .await;
        browser
    }

    /// Opens an address and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.expect("the address opens");
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.client.refresh().await.expect("the page loads again");
    }

    /// The first element that `css` finds, once there is one.
    pub async fn find(&self, css: &str) -> Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css} did not appear: {error}\n{}", self.text("body").await),
        }
    }

    /// Whether there is such an element now.
    pub async fn has(&self, css: &str) -> bool {
        !self.client.find_all(Locator::Css(css)).await.expect("the browser answers").is_empty()
    }

    /// The visible text of an element.
    pub async fn text(&self, css: &str) -> String {
        self.run(&format!("return document.querySelector({})?.innerText ?? ''", json!(css)))
            .await
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until the element's text has these words.
    pub async fn sees(&self, css: &str, words: &str) {
        eventually(&format!("{words:?} in {css}"), PATIENCE, async || {
            self.text(css).await.contains(words).then_some(())
        })
        .await;
    }

    /// Clicks the first element that `css` finds.
    pub async fn click(&self, css: &str) {
        eventually(&format!("a click on {css}"), PATIENCE, async || {
            match self.find(css).await.click().await {
                // The page was drawn anew since it was found.
                Err(error) if error.is_stale_element_reference() => None,
                clicked => {
                    clicked.expect("it can be clicked");
                    Some(())
                }
            }
        })
        .await;
    }

    /// Clicks the button with these words on it, in the open dialog if there is one.
    pub async fn press(&self, words: &str) {
        let path = format!("//button[normalize-space()={words}]", words = json!(words));
        let inside = format!("//dialog{path}");
        let what = format!("a button {words:?}");
        let found =
            eventually(&what, PATIENCE, async || match self.client.find(Locator::XPath(&inside)).await {
                Ok(button) => Some(button),
                Err(_) => self.client.find(Locator::XPath(&path)).await.ok(),
            });
        found.await.click().await.expect("the button can be pressed");
    }

    /// Follows the link with these words on it.
    pub async fn follow(&self, words: &str) {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::LinkText(words)).await;
        found.expect("the link is there").click().await.expect("the link can be followed");
    }

    /// Replaces what stands in the field with this id.
    pub async fn fill(&self, id: &str, text: &str) {
        let field = self.find(&format!("[id='{id}']")).await;
        field.clear().await.expect("the field can be cleared");
        field.send_keys(text).await.expect("the field takes text");
    }

    /// Presses one key after the other, wherever the focus is.
    pub async fn keys(&self, keys: impl IntoIterator<Item = char>) {
        let mut actions = KeyActions::new("keys".to_owned());
        for key in keys {
            actions = actions.then(KeyAction::Down { value: key }).then(KeyAction::Up { value: key });
        }
        self.client.perform_actions(actions).await.expect("the keys are pressed");
    }

    /// Moves on with the Tab key until `css` has the focus; a person gives up too after `most` times.
    pub async fn tab_to(&self, css: &str, most: usize) {
        for _ in 0..most {
            if self.has(&format!("{css}:focus")).await {
                return;
            }
            self.keys([char::from(Key::Tab)]).await;
        }
        let there = self.run("return document.activeElement.outerHTML").await;
        panic!("{css} was not reached with {most} times Tab; the focus is on {there}");
    }

    /// What a script in the page returns.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.expect("the script runs")
    }

    /// What the page's connections have sent and received of pictures and sound, for the message of a test that waits for more in vain.
    pub async fn connections(&self) -> Value {
        self.run(
            "const kept = [
                'type', 'kind', 'mid', 'rid', 'packetsReceived', 'packetsLost', 'packetsSent', 'framesReceived', 'framesDecoded',
                'framesDropped', 'framesSent', 'framesEncoded', 'keyFramesDecoded', 'keyFramesEncoded', 'pliCount', 'nackCount',
                'freezeCount', 'codecId', 'decoderImplementation', 'qualityLimitationReason', 'active', 'frameWidth', 'ssrc',
            ];
            const of = (one) => Object.fromEntries(kept.filter((name) => name in one).map((name) => [name, one[name]]));
            const wanted = ({ type }) => type === 'inbound-rtp' || type === 'outbound-rtp';
            return Promise.all((window.connections ?? []).map(async (connection) => ({
                state: connection.connectionState,
                streams: [...(await connection.getStats()).values()].filter(wanted).map(of),
            })));",
        )
        .await
    }

    /// Waits for something that connections bring; if it does not come, what they have brought is told.
    pub async fn receives<T>(
        &self,
        what: &str,
        within: Duration,
        condition: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        match polled(within, condition).await {
            Some(value) => value,
            None => panic!("{what} did not happen within {within:?}, over {:#}", self.connections().await),
        }
    }

    /// All tabs of this browser.
    pub async fn windows(&self) -> Vec<WindowHandle> {
        self.client.windows().await.expect("the browser answers")
    }

    /// Goes on in another tab.
    pub async fn switch_to(&self, window: WindowHandle) {
        self.client.switch_to_window(window).await.expect("the tab is there");
    }

    /// The present address below the origin.
    pub async fn path(&self) -> String {
        self.client.current_url().await.expect("the browser answers").path().to_owned()
    }

    /// Makes the window as wide as a phone.
    pub async fn narrow(&self) {
        let screen = json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// Writes what is seen, light and dark, to the folder in `NOVA_TEST_PICTURES`; without it nothing is done.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("NOVA_TEST_PICTURES").map(PathBuf::from) else { return };
        for scheme in ["light", "dark"] {
            let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            self.devtools("Emulation.setEmulatedMedia", media).await;
            let picture = self.client.screenshot().await.expect("the window can be pictured");
            std::fs::write(folder.join(format!("{name}-{scheme}.png")), picture)
                .expect("the folder can be written to");
        }
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [] })).await;
    }

    /// Runs a command of the DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.client
            .issue_cmd(Extension { path: "goog/cdp/execute", body })
            .await
            .expect("the command is known")
    }

    /// What was written to the console since the last time.
    pub async fn log(&self) -> Vec<LogEntry> {
        let command = Extension { path: "se/log", body: json!({ "type": "browser" }) };
        let entries = self.client.issue_cmd(command).await.expect("the log can be read");
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| LogEntry {
                source: text(entry, "source"),
                level: text(entry, "level"),
                message: text(entry, "message"),
            })
            .collect()
    }

    /// Fails when the page broke: an exception, a breach of its policy, a file that could not be loaded. Refusals of
    /// the API are in the console too and are no fault: those with a status in `refused` are expected.
    pub async fn is_clean(&self, refused: &[u16]) {
        let expected = |entry: &LogEntry| {
            entry.source == "network"
                && refused.iter().any(|status| entry.message.contains(&format!("status of {status} ")))
        };
        let wrong: Vec<_> = self
            .log()
            .await
            .into_iter()
            .filter(|entry| ["SEVERE", "WARNING"].contains(&entry.level.as_str()) && !expected(entry))
            .collect();
        assert!(wrong.is_empty(), "the console has {wrong:#?}");
    }

    /// Where the page's files came from, as origins.
    pub async fn origins(&self) -> Vec<String> {
        let script = "return [...new Set(performance.getEntriesByType('resource').map((one) => new URL(one.name).origin))]";
        let origins = self.run(script).await;
        origins.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is chromedriver's child and would outlive it.
        if let Some(pid) = self.browser_pid.and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _gone = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}

/// A command that only Chromium's driver knows.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base_url: &url::Url, session_id: Option<&str>) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/{}", session_id.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

/// chromedriver on a port that it chose itself.
fn start_driver() -> (Child, u16) {
    // It chooses a port of one address family and leaves when somebody has that number in the other one: then the next.
    let mut said = Vec::new();
    for _ in 0..10 {
        let mut driver = Command::new(binary("NOVA_TEST_CHROMEDRIVER", &["chromedriver"]))
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts; `scripts/install test` installs it");
        let mut lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let port = line.split_once("started successfully on port ");
            let port = port.and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            said.push(line);
            port
        });
        if let Some(port) = port {
            // What it says later has to go somewhere, or it would wait for a reader.
            std::thread::spawn(move || lines.for_each(drop));
            return (driver, port);
        }
        let _gone = (driver.kill(), driver.wait());
    }
    panic!("chromedriver does not say where it listens, but: {said:?}");
}

fn chromium() -> PathBuf {
    binary("NOVA_TEST_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])
}

/// The named program: from the environment, or the first of these on the path.
fn binary(variable: &str, names: &[&str]) -> PathBuf {
    if let Some(chosen) = std::env::var_os(variable) {
        return chosen.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        names.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    places
        .find(|place| place.is_file())
        .unwrap_or_else(|| panic!("none of {names:?} is installed: run `scripts/install test`"))
}
