//! Ann sets an authenticator up, and loses it.

use nova::identity::totp::code_at;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use time::Duration;

use crate::accounts::{PASSWORD, Session, ask, get, post, registers};
use crate::app::TestApp;

/// An authenticator as a phone has it.
pub(crate) struct Authenticator(Vec<u8>);

impl Authenticator {
    fn new(setup: &Value) -> Authenticator {
        let secret = totp_rs::Secret::try_from_base32(setup["secret"].as_str().unwrap()).unwrap();
        Authenticator(secret.as_bytes().to_vec())
    }

    /// The code `steps` from now: the engine takes one step off, which gives a test three codes without waiting.
    fn code(&self, app: &TestApp, steps: i32) -> String {
        code_at(&self.0, app.engine.clock.now() + steps * Duration::seconds(30))
    }
}

pub(crate) async fn sets_up(app: &TestApp, session: &Session) -> (Authenticator, Vec<String>) {
    let (status, setup) = ask(app, Method::POST, "/v1/totp", Some(&session.token()), None).await;
    assert_eq!(status, 201, "{setup}");
    assert!(setup["otpauth_url"].as_str().unwrap().starts_with("otpauth://totp/"), "{setup}");
    let authenticator = Authenticator::new(&setup);
    let code = authenticator.code(app, -1);
    let (status, body) = post(app, "/v1/totp/confirm", Some(&session.token()), json!({ "code": code })).await;
    assert_eq!(status, 200, "{body}");
    let codes = body["recovery_codes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|code| code.as_str().unwrap().to_owned())
        .collect();
    (authenticator, codes)
}

async fn tries(app: &TestApp, password: &str, code: Option<&str>) -> Value {
    let mut body = json!({ "login": "ann", "password": password });
    if let Some(code) = code {
        body["totp_code"] = json!(code);
    }
    let (status, answer) = post(app, "/v1/sessions", None, body).await;
    if status == 201 { json!("in") } else { answer["code"].clone() }
}

#[actix_rt::test]
async fn a_code_is_asked_for_after_the_password_and_taken_once() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let (authenticator, recovery) = sets_up(&app, &ann).await;
    assert_eq!(recovery.len(), 10);
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.1["totp_enabled"], true);
    let code = authenticator.code(&app, 0);
    assert_eq!(
        tries(&app, "wrong", None).await,
        "invalid_credentials",
        "nothing is told before the password is right"
    );
    assert_eq!(tries(&app, "wrong", Some(&code)).await, "invalid_credentials");
    assert_eq!(tries(&app, PASSWORD, None).await, "totp_required");
    assert_eq!(tries(&app, PASSWORD, Some(&code)).await, "in");
    assert_eq!(tries(&app, PASSWORD, Some(&code)).await, "invalid_totp_code", "a code is good once");
    let next = authenticator.code(&app, 1);
    let at_once = futures_util::future::join_all((0..8).map(|_| tries(&app, PASSWORD, Some(&next)))).await;
    assert_eq!(
        at_once.iter().filter(|answer| **answer == "in").count(),
        1,
        "also for eight at once: {at_once:?}"
    );
}

#[actix_rt::test]
async fn a_recovery_code_is_good_once_and_is_not_kept_readable() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let (_, recovery) = sets_up(&app, &ann).await;
    let code = recovery[3].to_uppercase().replace('-', " ");
    assert_eq!(tries(&app, PASSWORD, Some(&code)).await, "in");
    assert_eq!(tries(&app, PASSWORD, Some(&code)).await, "invalid_totp_code");
    assert_eq!(tries(&app, PASSWORD, Some(&recovery[4])).await, "in");
    let url = app.engine.config.database.database_url.as_ref().unwrap().expose();
    let mut database = sqlx::PgConnection::connect(url).await.unwrap();
    let kept: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT code_hash FROM recovery_codes").fetch_all(&mut database).await.unwrap();
    assert_eq!(kept.len(), 10);
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed_secret FROM totp").fetch_one(&mut database).await.unwrap();
    let plain = recovery[0].replace('-', "");
    assert!(
        kept.iter()
            .chain([&sealed])
            .all(|bytes| !bytes.windows(plain.len()).any(|part| part == plain.as_bytes()))
    );
}

#[actix_rt::test]
async fn who_guesses_codes_is_made_to_wait() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let (authenticator, _) = sets_up(&app, &ann).await;
    let right = authenticator.code(&app, 1);
    let wrong = if right == "000000" { "111111" } else { "000000" };
    let guesses = futures_util::future::join_all((0..20).map(|_| tries(&app, PASSWORD, Some(wrong)))).await;
    let looked_at = guesses.iter().filter(|answer| **answer == "invalid_totp_code").count();
    let held_back = guesses.iter().filter(|answer| **answer == "rate_limited").count();
    assert_eq!((looked_at, held_back), (5, 15), "{guesses:?}");
    assert_eq!(
        tries(&app, PASSWORD, Some(&right)).await,
        "rate_limited",
        "not even the right one is looked at now"
    );
    assert_eq!(tries(&app, "wrong", Some(&right)).await, "invalid_credentials");
}

#[actix_rt::test]
async fn an_authenticator_is_set_up_once_and_removed_with_a_code() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let token = ann.token();
    let confirm = post(&app, "/v1/totp/confirm", Some(&token), json!({ "code": "123456" })).await;
    assert_eq!(confirm.0, 409, "nothing was begun");
    assert_eq!(
        ask(&app, Method::DELETE, "/v1/totp", Some(&token), Some(json!({ "code": "123456" }))).await.0,
        409
    );
    let (authenticator, _) = sets_up(&app, &ann).await;
    assert_eq!(ask(&app, Method::POST, "/v1/totp", Some(&token), None).await.0, 409, "one is in use");
    let remove = |code: String| {
        let (app, token) = (&app, &token);
        async move { ask(app, Method::DELETE, "/v1/totp", Some(token), Some(json!({ "code": code }))).await }
    };
    assert_eq!(remove("nonsense".to_owned()).await.1["code"], "invalid_totp_code");
    assert_eq!(remove(authenticator.code(&app, 0)).await.0, 204);
    assert_eq!(tries(&app, PASSWORD, None).await, "in");
}

#[actix_rt::test]
async fn an_account_with_a_second_factor_is_deleted_with_a_code() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let (authenticator, _) = sets_up(&app, &ann).await;
    let token = ann.token();
    let delete = |body: Value| {
        let (app, token) = (&app, &token);
        async move { ask(app, Method::DELETE, "/v1/me", Some(token), Some(body)).await }
    };
    assert_eq!(delete(json!({ "password": PASSWORD })).await.1["code"], "totp_required");
    assert_eq!(
        delete(json!({ "password": PASSWORD, "totp_code": authenticator.code(&app, 0) })).await.0,
        204
    );
}
