//! Accounts in the console: signing up, logging in, two factors, devices, profile, the end.

use std::time::{SystemTime, UNIX_EPOCH};

use fantoccini::key::Key;
use totp_rs::{Algorithm, Builder, Secret};

use super::Visit;
use crate::app::eventually;
use crate::browser::Browser;

/// What people type.
const PASSWORD: &str = "harbour lantern quartz";

impl Visit {
    /// Signs up through the page, and ends on the overview.
    pub(super) async fn signs_up(&self, username: &str) {
        self.open("/console/signup").await;
        let browser = &self.browser;
        browser.fill("username", username).await;
        browser.fill("email", &format!("{username}@example.org")).await;
        browser.fill("password", PASSWORD).await;
        browser.press("Create the account").await;
        browser.sees("h1", &format!("Hello, {username}")).await;
    }

    async fn logs_in(&self, browser: &Browser, username: &str) {
        browser.open(&self.app.at("/console/login")).await;
        browser.fill("login", username).await;
        browser.fill("password", PASSWORD).await;
        browser.press("Log in").await;
    }
}

/// What the authenticator that was given `secret` shows some seconds from now.
fn code(secret: &str, ahead_s: u64) -> String {
    let secret = Secret::try_from_base32(secret).expect("base32");
    let totp = Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_step_duration(30)
        .with_secret(secret);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    totp.build_noncompliant().generate(now.as_secs() + ahead_s).to_string()
}

#[actix_rt::test]
async fn a_new_user_signs_up_leaves_returns_and_says_something_about_herself() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    assert_eq!(browser.path().await, "/console/");

    browser.press("Log out").await;
    browser.sees("main", "You are logged out.").await;
    assert_eq!(browser.path().await, "/console/login");

    browser.fill("login", "ann").await;
    browser.fill("password", "not my password").await;
    browser.press("Log in").await;
    browser.sees("[role=alert]", "not the right password").await;
    browser.is_clean(&[401]).await;
    browser.fill("password", PASSWORD).await;
    browser.press("Log in").await;
    browser.sees("h1", "Hello, ann").await;

    browser.follow("Profile").await;
    browser.fill("display_name", "Ann Archer").await;
    browser.fill("bio", "I keep the lighthouse.").await;
    browser.press("Save").await;
    browser.sees("main", "Saved").await;
    browser.reload().await;
    browser.find("#bio").await;
    let bio = browser.run("return document.getElementById('bio').value").await;
    assert_eq!(bio, "I keep the lighthouse.");
    visit.open("/console/").await;
    browser.sees("h1", "Hello, Ann Archer").await;

    browser.is_clean(&[]).await;
    assert_eq!(browser.origins().await, std::slice::from_ref(&visit.app.url));
}

#[actix_rt::test]
async fn a_name_that_is_taken_is_told_at_its_field() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    browser.press("Log out").await;
    browser.find("#login").await;
    visit.open("/console/signup").await;
    browser.fill("username", "Ann").await;
    browser.fill("email", "other@example.org").await;
    browser.fill("password", PASSWORD).await;
    browser.press("Create the account").await;
    browser.sees("#username-error", "taken").await;
    crate::app::eventually("what is wrong has the focus", async || {
        (browser.run("return document.activeElement.id").await == "username").then_some(())
    })
    .await;
    browser.is_clean(&[409]).await;
}

#[actix_rt::test]
async fn a_profile_that_was_changed_elsewhere_is_not_overwritten_unasked() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    browser.follow("Profile").await;
    browser.fill("bio", "From my desk.").await;

    let token = browser.run("return JSON.parse(localStorage.getItem('nova.session')).access_token").await;
    let elsewhere = visit.app.http.patch(visit.app.at("/v1/me")).bearer_auth(token.as_str().unwrap());
    let elsewhere = elsewhere.json(&serde_json::json!({ "bio": "From my phone." })).send().await.unwrap();
    assert_eq!(elsewhere.status(), 200);

    browser.press("Save").await;
    browser.sees("#conflict", "From my phone.").await;
    browser.press("Keep mine, to save it over that").await;
    browser.press("Save").await;
    browser.sees("main", "Saved").await;
    let me = visit.app.http.get(visit.app.at("/v1/me")).bearer_auth(token.as_str().unwrap());
    let me: serde_json::Value = me.send().await.unwrap().json().await.unwrap();
    assert_eq!(me["bio"], "From my desk.");
    browser.is_clean(&[412]).await;
}

#[actix_rt::test]
async fn a_second_factor_is_set_up_asked_for_and_switched_off() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    browser.follow("Security").await;
    browser.press("Set it up").await;
    browser.find("svg.qr").await;
    let secret = browser.text("#totp-secret").await.replace(' ', "");
    browser.fill("code", "000000").await;
    browser.press("Switch it on").await;
    browser.sees("#code-error", "wrong").await;
    browser.fill("code", &code(&secret, 0)).await;
    browser.press("Switch it on").await;
    browser.find("#recovery-codes").await;
    let codes = browser.text("#recovery-codes").await;
    let codes: Vec<&str> = codes.split_whitespace().collect();
    assert_eq!(codes.len(), 10);
    browser.press("I have kept them").await;
    browser.sees("main", "You are asked for a code").await;
    assert!(!browser.text("main").await.contains(codes[0]), "the codes are shown once");

    browser.press("Log out").await;
    browser.find("#login").await;
    visit.logs_in(browser, "ann").await;
    // The confirming code is spent; the next one is good already.
    browser.fill("code", &code(&secret, 30)).await;
    browser.press("Log in").await;
    browser.sees("h1", "Hello, ann").await;

    browser.press("Log out").await;
    browser.find("#login").await;
    visit.logs_in(browser, "ann").await;
    browser.fill("code", codes[0]).await;
    browser.press("Log in").await;
    browser.sees("h1", "Hello, ann").await;

    browser.follow("Security").await;
    browser.press("Switch it off…").await;
    browser.fill("code", codes[1]).await;
    browser.press("Switch it off").await;
    browser.sees("main", "Set it up").await;
    browser.press("Log out").await;
    browser.find("#login").await;
    visit.logs_in(browser, "ann").await;
    browser.sees("h1", "Hello, ann").await;
    browser.is_clean(&[401]).await;
}

#[actix_rt::test]
async fn a_device_that_is_revoked_is_logged_out_at_once() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    let phone = Browser::start().await;
    visit.logs_in(&phone, "ann").await;
    phone.sees("h1", "Hello, ann").await;
    let session = phone.run("return JSON.parse(localStorage.getItem('nova.session')).device_id").await;

    browser.follow("Devices").await;
    browser.sees(".row:first-child", "This device").await;
    let row = format!("[data-device='{}']", session.as_str().unwrap());
    browser.click(&format!("{row} button")).await;
    browser.press("Log it out").await;
    eventually("the device leaves the list", async || (!browser.has(&row).await).then_some(())).await;

    // Its socket is told, whatever page it shows; what its next refresh would say is told by the tests of sessions.
    phone.sees("main", "logged out from another one").await;
    assert_eq!(phone.path().await, "/console/login");
    let kept = phone.run("return localStorage.getItem('nova.session')").await;
    assert!(kept.is_null(), "nothing is kept of a session that ended");
    phone.is_clean(&[401]).await;

    browser.reload().await;
    browser.sees(".row:first-child", "This device").await;
    browser.is_clean(&[]).await;
}

#[actix_rt::test]
async fn two_tabs_renew_one_after_the_other_and_both_stay() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    // Both find an old access token at the same moment, and share one refresh token.
    let script = "
        const kept = JSON.parse(localStorage.getItem('nova.session'));
        kept.renew_at = 0;
        localStorage.setItem('nova.session', JSON.stringify(kept));
        window.other = window.open('/console/devices');
        location.href = '/console/devices';";
    browser.run(script).await;
    browser.sees(".row:first-child", "This device").await;
    let windows = eventually("a second tab", async || {
        let windows = browser.windows().await;
        (windows.len() == 2).then_some(windows)
    })
    .await;
    for window in windows {
        browser.switch_to(window).await;
        browser.sees(".row:first-child", "This device").await;
        browser.is_clean(&[]).await;
    }
}

#[actix_rt::test]
async fn an_account_is_deleted_by_who_knows_its_password() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.signs_up("ann").await;
    browser.follow("Profile").await;
    browser.press("Delete my account…").await;
    browser.fill("confirm_username", "ann").await;
    browser.fill("password", "not my password").await;
    browser.press("Delete my account").await;
    browser.sees("dialog", "not the right password").await;
    browser.fill("password", PASSWORD).await;
    browser.press("Delete my account").await;
    browser.sees("main", "Your account is deleted.").await;
    visit.logs_in(browser, "ann").await;
    browser.sees("[role=alert]", "not the right password").await;
    browser.is_clean(&[401]).await;
}

#[actix_rt::test]
async fn the_keyboard_alone_is_enough() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    visit.open("/console/signup").await;
    browser.find("#username").await;
    browser.tab_to("a.skip", 2).await;
    for (field, text) in [("username", "ann"), ("email", "ann@example.org"), ("password", PASSWORD)] {
        browser.tab_to(&format!("#{field}"), 10).await;
        browser.keys(text.chars()).await;
    }
    browser.keys([char::from(Key::Enter)]).await;
    browser.sees("h1", "Hello, ann").await;
    let focus = "return document.activeElement.tagName + ' ' + document.activeElement.textContent";
    eventually("the new page's heading has the focus", async || {
        (browser.run(focus).await == "H1 Hello, ann").then_some(())
    })
    .await;

    browser.tab_to("a[href='/console/']", 40).await;
    browser.tab_to("a[href='/console/devices']", 10).await;
    browser.keys([char::from(Key::Enter)]).await;
    browser.sees("h1", "Devices").await;
    browser.sees(".row:first-child", "This device").await;
    eventually("the new page's heading has the focus", async || {
        (browser.run(focus).await == "H1 Devices").then_some(())
    })
    .await;

    browser.tab_to("a[href='/console/profile']", 40).await;
    browser.keys([char::from(Key::Enter)]).await;
    browser.find("#bio").await;
    browser.tab_to("button.ghost", 40).await;
    browser.keys([char::from(Key::Enter)]).await;
    browser.find("dialog[open]").await;
    browser.keys([char::from(Key::Escape)]).await;
    eventually("the dialog goes", async || (!browser.has("dialog").await).then_some(())).await;
    assert!(browser.has("button.ghost:focus").await, "the focus is back where it was");
    browser.is_clean(&[]).await;
}

#[actix_rt::test]
async fn nothing_is_wider_than_a_phone() {
    let visit = Visit::start().await;
    let browser = &visit.browser;
    browser.narrow().await;
    let fits = async |page: &str| {
        let over = browser.run("return document.documentElement.scrollWidth - window.innerWidth").await;
        assert!(over.as_i64().unwrap() <= 0, "{page} is {over} px too wide");
    };
    visit.open("/console/login").await;
    browser.find("#login").await;
    fits("log in").await;
    visit.signs_up("ann-with-a-name-of-30-letters1").await;
    for (page, sign) in [
        ("/console/", ".cards"),
        ("/console/profile", "#bio"),
        ("/console/security", "main form"),
        ("/console/devices", ".row"),
        ("/docs", ".call"),
    ] {
        visit.open(page).await;
        browser.find(sign).await;
        fits(page).await;
    }
    visit.open("/console/devices").await;
    browser.find(".row").await;
    browser.press("Menu").await;
    browser.follow("Security").await;
    browser.press("Set it up").await;
    browser.find("svg.qr").await;
    fits("the second factor").await;
    browser.is_clean(&[404]).await;
}
