//! Who takes part, each in a browser of their own, and how they come in.

use serde_json::{Value, json};

use super::{Visit, waits_for};
use crate::app::TestApp;
use crate::browser::{Browser, KEEPS_CONNECTIONS};
use crate::firefox::Firefox;

/// What people type.
pub(super) const PASSWORD: &str = "harbour lantern quartz";

/// Makes an account and logs it in, in a browser of its own with a camera and a microphone.
pub(in crate::console) async fn comes(app: &TestApp, name: &str) -> (Browser, Value) {
    let account = json!({ "username": name, "email": format!("{name}@example.org"), "password": PASSWORD });
    let made = app.http.post(app.at("/v1/accounts")).json(&account).send().await.unwrap();
    assert!(made.status().is_success());
    let account: Value = made.json().await.unwrap();
    let browser = Browser::start_with_devices().await;
    browser.open(&app.at("/console/login")).await;
    browser.fill("login", name).await;
    browser.fill("password", PASSWORD).await;
    browser.press("Log in").await;
    browser.sees("h1", &format!("Hello, {name}")).await;
    (browser, account)
}

/// The same in a Firefox.
pub(in crate::console) async fn comes_in_firefox(app: &TestApp, name: &str) -> Firefox {
    let account = json!({ "username": name, "email": format!("{name}@example.org"), "password": PASSWORD });
    let made = app.http.post(app.at("/v1/accounts")).json(&account).send().await.unwrap();
    assert!(made.status().is_success());
    let browser = Firefox::start().await;
    browser.open(&app.at("/console/login")).await;
    browser.fill("login", name).await;
    browser.fill("password", PASSWORD).await;
    browser.press("Log in").await;
    browser.sees("h1", &format!("Hello, {name}")).await;
    browser
}

impl Firefox {
    /// Goes into the call at this address, and keeps its connections for whoever wants to look into them.
    pub(in crate::console) async fn enters(&self, address: &str) {
        self.open(address).await;
        self.run(KEEPS_CONNECTIONS).await;
        self.press("Join now").await;
        self.sees(".group-call[data-state=in]", "Leave").await;
    }
}

/// Ann begins a call in a browser of hers; where it is.
pub(in crate::console) async fn hosts(app: TestApp) -> (Visit, String) {
    let visit = Visit { browser: Browser::start_with_devices().await, app };
    let room = begins(&visit).await;
    (visit, room)
}

/// Ann makes an account in this browser, and begins a call; where it is.
pub(in crate::console) async fn begins(visit: &Visit) -> String {
    let ann = &visit.browser;
    visit.signs_up("ann").await;
    ann.follow("Calls").await;
    ann.press("Start the call").await;
    ann.press("Join now").await;
    waits_for("Ann is in", ann, ".group-call[data-state=in]", true).await;
    ann.path().await
}
