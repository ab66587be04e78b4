//! Ann logs in on several devices, and somebody steals a token.

use nova::config::{Config, Secret};
use nova::identity::{Role, Why};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::ConnectOptions as _;

use crate::accounts::{PASSWORD, Session, ask, get, logs_in, post, registers};
use crate::app::{TestApp, eventually};
use crate::services::{self, Database};

async fn refreshes(app: &TestApp, token: &str, retry_key: Option<&str>) -> Result<Session, Value> {
    let mut request = app.http.post(app.at("/v1/sessions/refresh")).json(&json!({ "refresh_token": token }));
    if let Some(key) = retry_key {
        request = request.header("idempotency-key", key);
    }
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let body: Value = response.json().await.expect("JSON");
    if status == 201 { Ok(Session { body }) } else { Err(body["code"].clone()) }
}

#[actix_rt::test]
async fn a_refresh_token_is_good_once_and_an_old_one_ends_the_session() {
    let app = TestApp::start().await;
    let first = registers(&app, "ann").await;
    let other = logs_in(&app, "ann").await;
    let second = refreshes(&app, &first.text("refresh_token"), None).await.unwrap();
    let third = refreshes(&app, &second.text("refresh_token"), None).await.unwrap();
    assert_eq!(third.text("device_id"), first.text("device_id"));
    assert_eq!(get(&app, "/v1/me", &third.token()).await.0, 200);
    // The thief comes with the first one, long out of use.
    assert_eq!(refreshes(&app, &first.text("refresh_token"), None).await.unwrap_err(), "session_revoked");
    assert_eq!(get(&app, "/v1/me", &third.token()).await.1["code"], "session_revoked");
    assert_eq!(refreshes(&app, &third.text("refresh_token"), None).await.unwrap_err(), "session_revoked");
    assert_eq!(get(&app, "/v1/me", &other.token()).await.0, 200, "her other device knows nothing of it");
}

#[actix_rt::test]
async fn an_answer_that_was_lost_may_be_asked_for_again_by_who_asked() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let token = ann.text("refresh_token");
    let lost = refreshes(&app, &token, Some("key-1")).await.unwrap();
    let again = refreshes(&app, &token, Some("key-1")).await.unwrap();
    assert_eq!(get(&app, "/v1/me", &again.token()).await.0, 200);
    let next = refreshes(&app, &again.text("refresh_token"), Some("key-2")).await.unwrap();
    assert_eq!(
        refreshes(&app, &lost.text("refresh_token"), Some("key-3")).await.unwrap_err(),
        "session_revoked"
    );
    assert_eq!(get(&app, "/v1/me", &next.token()).await.1["code"], "session_revoked");
}

#[actix_rt::test]
async fn a_stolen_token_without_the_word_that_went_with_it_ends_the_session_at_once() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let token = ann.text("refresh_token");
    let next = refreshes(&app, &token, Some("the-word")).await.unwrap();
    assert_eq!(refreshes(&app, &token, Some("a-guess")).await.unwrap_err(), "session_revoked");
    assert_eq!(get(&app, "/v1/me", &next.token()).await.1["code"], "session_revoked");
}

#[actix_rt::test]
async fn of_many_refreshes_at_once_one_is_good_and_the_session_ends() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let token = ann.text("refresh_token");
    let answers = futures_util::future::join_all((0..10).map(|_| refreshes(&app, &token, None))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.1["code"], "session_revoked");
}

#[actix_rt::test]
async fn many_retries_of_one_refresh_at_once_leave_a_session_that_lives() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let token = ann.text("refresh_token");
    let answers =
        futures_util::future::join_all((0..10).map(|_| refreshes(&app, &token, Some("one-word")))).await;
    // Those who came while the first was being answered are told so; everybody else got the same answer.
    let busy = |answer: &Result<Session, Value>| {
        answer.as_ref().is_err_and(|code| code == &json!("request_in_progress"))
    };
    assert!(answers.iter().all(|answer| answer.is_ok() || busy(answer)), "{answers:?}");
    let tokens: std::collections::BTreeSet<_> =
        answers.iter().flatten().map(|s| s.text("refresh_token")).collect();
    assert_eq!(tokens.len(), 1, "{answers:?}");
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.0, 200);
}

#[actix_rt::test]
async fn what_is_no_refresh_token_is_just_wrong() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let mut guess = ann.text("refresh_token");
    guess.replace_range(10..14, "AAAA");
    for token in ["", "x", &guess, &ann.token(), &"a".repeat(10_000)] {
        assert_eq!(refreshes(&app, token, None).await.unwrap_err(), "invalid_token", "{token}");
    }
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.0, 200, "a guess ends nothing");
}

#[actix_rt::test]
async fn the_devices_page_names_them_and_removes_them() {
    let app = TestApp::start().await;
    let phone = registers(&app, "ann").await;
    let login = json!({ "login": "ann", "password": PASSWORD, "device": { "name": "Ann's laptop", "platform": "web" } });
    let laptop = Session { body: post(&app, "/v1/sessions", None, login).await.1 };
    let (_, list) = get(&app, "/v1/sessions", &laptop.token()).await;
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(
        (&items[0]["name"], &items[0]["platform"], &items[0]["current"]),
        (&json!("Ann's laptop"), &json!("web"), &json!(true))
    );
    assert_eq!(
        (&items[1]["device_id"], &items[1]["current"]),
        (&json!(phone.text("device_id")), &json!(false))
    );
    assert_eq!(items[0]["network"], "127.0.0.0/24");
    assert!(items[0]["last_seen_at"].as_str().unwrap().ends_with('Z'));
    let (_, page) = get(&app, "/v1/sessions?limit=1", &laptop.token()).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, rest) = get(&app, &format!("/v1/sessions?limit=1&cursor={cursor}"), &laptop.token()).await;
    assert_eq!((&rest["items"][0], rest.get("next_cursor")), (&items[1], None));

    let mut ended = app.engine.identity.revocations();
    let path = format!("/v1/sessions/{}", phone.text("device_id"));
    let bo = registers(&app, "bobo").await;
    assert_eq!(ask(&app, Method::DELETE, &path, Some(&bo.token()), None).await.0, 404, "not his");
    assert_eq!(ask(&app, Method::DELETE, &path, Some(&laptop.token()), None).await.0, 204);
    assert_eq!(get(&app, "/v1/me", &phone.token()).await.1["code"], "session_revoked");
    let heard = ended.try_recv().expect("whoever holds its sockets hears of it");
    assert_eq!((heard.device.to_string(), heard.why), (phone.text("device_id"), Why::Removed));
    assert_eq!(ask(&app, Method::DELETE, &path, Some(&laptop.token()), None).await.0, 404);
    assert_eq!(
        ask(&app, Method::DELETE, "/v1/sessions/dev_nonsense", Some(&laptop.token()), None).await.0,
        404
    );
    assert_eq!(ask(&app, Method::DELETE, "/v1/sessions/current", Some(&laptop.token()), None).await.0, 204);
    assert_eq!(get(&app, "/v1/me", &laptop.token()).await.1["code"], "session_revoked");
    assert_eq!(refreshes(&app, &laptop.text("refresh_token"), None).await.unwrap_err(), "session_revoked");
}

#[actix_rt::test]
async fn wrong_password_unknown_login_and_absurd_ones_cost_one_hash_and_say_the_same() {
    let app = TestApp::start().await;
    registers(&app, "ann").await;
    let long = "x".repeat(5_000);
    let mut answers = Vec::new();
    for (login, password) in [
        ("ann", "wrong"),
        ("nobody", PASSWORD),
        ("nobody@example.org", "x"),
        ("", ""),
        ("ann", &long),
        (&long, "x"),
        ("\u{0}", "\u{0}"),
    ] {
        let before = app.engine.identity.passwords().hashes();
        let (status, mut problem) =
            post(&app, "/v1/sessions", None, json!({ "login": login, "password": password })).await;
        assert_eq!(status, 401, "{problem}");
        assert_eq!(app.engine.identity.passwords().hashes() - before, 1, "{login}");
        problem.as_object_mut().unwrap().remove("request_id");
        answers.push(problem);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
}

#[actix_rt::test]
async fn guessing_a_password_is_slowed_by_account_and_by_address() {
    let app = TestApp::start_with(|config| config.limits.account_logins_per_minute = 3).await;
    registers(&app, "ann").await;
    let wrong =
        |login: &str| post(&app, "/v1/sessions", None, json!({ "login": login, "password": "wrong" }));
    for login in ["ann", "ANN", "Ann"] {
        assert_eq!(wrong(login).await.0, 401);
    }
    let response = app
        .http
        .post(app.at("/v1/sessions"))
        .json(&json!({ "login": "ann", "password": PASSWORD }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() <= 20);
    assert_eq!(wrong("bobo").await.0, 401, "others may try");

    let app = TestApp::start_with(|config| config.limits.ip_logins_per_minute = 2).await;
    registers(&app, "ann").await;
    assert_eq!(post(&app, "/v1/sessions", None, json!({ "login": "bobo", "password": "x" })).await.0, 401);
    assert_eq!(refreshes(&app, "x", None).await.unwrap_err(), "rate_limited");
}

#[actix_rt::test]
async fn when_too_many_passwords_wait_the_next_is_told_when_to_come_back() {
    let app = TestApp::start_with(|config| {
        config.identity.password_threads = Some(1);
        config.identity.password_queue_max = 1;
    })
    .await;
    let ann = registers(&app, "ann").await;
    let tries = (0..20).map(|_| {
        app.http.post(app.at("/v1/sessions")).json(&json!({ "login": "ann", "password": PASSWORD })).send()
    });
    let all = futures_util::future::join_all(tries);
    let token = ann.token();
    let meanwhile = get(&app, "/v1/me", &token);
    let (answers, me) = futures_util::future::join(all, meanwhile).await;
    assert_eq!(me.0, 200, "others are served meanwhile");
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status() == 503).collect();
    assert!(!busy.is_empty() && answers.iter().any(|answer| answer.status() == 201), "{answers:?}");
    assert!(
        busy.iter().all(|answer| answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().is_ok())
    );
}

#[actix_rt::test]
async fn tokens_that_are_not_ours_are_refused_with_the_reason() {
    let app = TestApp::start_with(|config| config.identity.access_token_s = 5).await;
    let ann = registers(&app, "ann").await;
    let token = ann.token();
    let at = token.len() - 10;
    let other = if token.as_bytes()[at] == b'A' { 'B' } else { 'A' };
    let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
    for token in ["x", "a.b.c", &changed, &"a".repeat(4_000)] {
        assert_eq!(get(&app, "/v1/me", token).await.1["code"], "invalid_token", "{token}");
    }
    for header in ["Basic YTpi", "Bearer", "Bearer ", "bearer\u{a0}x"] {
        let response =
            app.http.get(app.at("/v1/me")).header("authorization", header.as_bytes()).send().await.unwrap();
        assert_eq!(response.status(), 401, "{header}");
        assert!(response.headers().contains_key("www-authenticate"));
    }
    let expired = eventually("the token expires", async || {
        let (status, body) = get(&app, "/v1/me", &token).await;
        (status == 401).then_some(body)
    });
    assert_eq!(expired.await["code"], "token_expired");
}

#[actix_rt::test]
async fn a_token_is_verified_with_the_published_keys_alone() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let jwks: Value =
        app.http.get(app.at("/.well-known/jwks.json")).send().await.unwrap().json().await.unwrap();
    let key = |kid: nova_actors::id::SigningKeyId| {
        use base64::Engine as _;
        let keys = jwks["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == kid.to_string())?;
        let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key["x"].as_str()?).ok()?;
        x.try_into().ok()
    };
    let claims = nova::identity::tokens::verify(&ann.token(), "nova", key).unwrap();
    assert_eq!((claims.sub.to_string(), claims.sid.to_string()), (ann.user(), ann.text("device_id")));
    assert_eq!(claims.exp - claims.iat, 900);
}

/// A URL every node of one installation can be given.
fn url(database: &Database) -> Secret {
    Secret::from(database.options().to_url_lossy().to_string())
}

#[actix_rt::test]
async fn a_node_that_starts_knows_what_was_ended_before() {
    let database = services::database().await;
    let same = |config: &mut Config| config.database.database_url = Some(url(&database));
    let app = TestApp::start_with(same).await;
    let ann = registers(&app, "ann").await;
    assert_eq!(ask(&app, Method::DELETE, "/v1/sessions/current", Some(&ann.token()), None).await.0, 204);
    app.stop();
    let app = TestApp::start_with(same).await;
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.1["code"], "session_revoked");
}

#[actix_rt::test]
async fn an_engine_in_another_process_ends_sessions_too() {
    // Without a bus between them, as `nova admin` beside a running engine.
    let database = services::database().await;
    let same = |config: &mut Config| {
        config.database.database_url = Some(url(&database));
        config.bus.redis_url = None;
    };
    let (app, beside) = (TestApp::start_with(same).await, TestApp::start_with(same).await);
    let ann = registers(&app, "ann").await;
    assert_eq!(get(&beside, "/v1/me", &ann.token()).await.0, 200, "tokens of one are good on the other");
    beside.engine.identity.set_role(ann.user().parse().unwrap(), Role::Admin, true).await.unwrap();
    eventually("the role is noticed", async || {
        (get(&app, "/v1/me", &ann.token()).await.1["roles"] == json!(["admin"])).then_some(())
    })
    .await;
    beside.engine.identity.suspend(ann.user().parse().unwrap(), true).await.unwrap();
    eventually("the suspension is noticed", async || {
        (get(&app, "/v1/me", &ann.token()).await.1["code"] == "account_suspended").then_some(())
    })
    .await;
}
