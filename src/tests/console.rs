//! The web console as people use it, in a real browser.

use nova::config::Config;

use crate::app::{TestApp, eventually};
use crate::browser::Browser;

mod account;
mod calls;
mod calls_encrypted;
mod calls_screen;
mod calls_sound;
mod calls_tcp;
mod calls_view;
mod live;

/// The console of a fresh node, opened in a fresh browser.
struct Visit {
    app: TestApp,
    browser: Browser,
}

impl Visit {
    async fn start() -> Visit {
        Visit::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Visit {
        let app = TestApp::start_with(change).await;
        Visit { browser: Browser::start().await, app }
    }

    async fn open(&self, path: &str) {
        self.browser.open(&self.app.at(path)).await;
    }
}

#[actix_rt::test]
async fn the_documentation_shows_every_call_without_the_internet() {
    let visit = Visit::start().await;
    let openapi = visit.app.http.get(visit.app.at("/openapi.json")).send().await.unwrap();
    let openapi: serde_json::Value = openapi.json().await.unwrap();
    let calls: usize = openapi["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| {
            path.as_object()
                .unwrap()
                .keys()
                .filter(|key| ["get", "put", "post", "patch", "delete", "head"].contains(&key.as_str()))
                .count()
        })
        .sum();
    assert!(calls > 0);

    visit.open("/docs").await;
    visit.browser.find(".call").await;
    let shown =
        visit.browser.run("return document.querySelectorAll('main section[id^=tag-] .call').length").await;
    assert_eq!(shown, calls);
    visit.browser.is_clean(&[404]).await;
    assert_eq!(visit.browser.origins().await, std::slice::from_ref(&visit.app.url));

    // What a problem's `type` points at.
    visit.open("/docs/errors#rate_limited").await;
    visit.browser.sees("#rate_limited", "429").await;

    visit.browser.fill("search", "readyz").await;
    let script = "return [...document.querySelectorAll('main .call .path')].map((one) => one.textContent)";
    eventually("only what was looked for", async || {
        let found = visit.browser.run(script).await;
        let found = found.as_array().unwrap();
        (found.len() < calls && found.contains(&"/readyz".into())).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn a_guest_is_led_to_the_log_in_and_back() {
    let visit = Visit::start().await;
    visit.open("/").await;
    visit.browser.find("#login").await;
    assert_eq!(visit.browser.path().await, "/console/login");
    visit.open("/console/devices").await;
    visit.browser.find("#login").await;
    let query = visit.browser.run("return location.search").await;
    assert_eq!(query, "?next=%2Fdevices");
    visit.open("/console/nowhere").await;
    visit.browser.sees("h1", "There is no such page").await;
    visit.browser.is_clean(&[]).await;
    assert_eq!(visit.browser.origins().await, std::slice::from_ref(&visit.app.url));
}

#[actix_rt::test]
async fn the_policy_holds_in_a_real_browser_and_a_breach_is_noticed() {
    let visit = Visit::start().await;
    visit.open("/console/login").await;
    visit.browser.find("#login").await;
    visit.browser.is_clean(&[]).await;
    let breach = "
        const style = document.createElement('style');
        style.textContent = 'body { display: none }';
        document.head.append(style);
        try { document.body.setAttribute('onclick', 'window.broken = true') } catch { }
        document.body.click();
        try { document.body.insertAdjacentHTML('beforeend', '<p>') } catch (refused) { window.refused = refused.name }
        return [getComputedStyle(document.body).display, window.broken ?? null, window.refused ?? null]";
    let outcome = visit.browser.run(breach).await;
    assert_eq!(outcome, serde_json::json!(["block", null, "TypeError"]));
    let sources: Vec<_> = visit.browser.log().await.into_iter().map(|entry| entry.source).collect();
    assert!(sources.iter().filter(|source| *source == "security").count() >= 2, "{sources:?}");

    let elsewhere = "return fetch('http://localhost:1/').catch((refused) => refused.name)";
    assert_eq!(visit.browser.run(elsewhere).await, "TypeError");
    let sources: Vec<_> = visit.browser.log().await.into_iter().map(|entry| entry.source).collect();
    assert!(sources.contains(&"security".to_owned()), "{sources:?}");
}
