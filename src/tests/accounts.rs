//! Ann registers, reads and changes her account, and deletes it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::TestApp;

/// What somebody holds after logging in.
#[derive(Clone, Debug)]
pub struct Session {
    /// The answer.
    pub body: Value,
}

impl Session {
    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.body)).to_owned()
    }

    pub fn token(&self) -> String {
        self.text("access_token")
    }

    pub fn user(&self) -> String {
        self.body["user"]["id"].as_str().expect("an id").to_owned()
    }
}

pub const PASSWORD: &str = "correct horse battery";

/// Asks, with a token and a body where there are any.
pub async fn ask(
    app: &TestApp,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let mut request = app.http.request(method, app.at(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let text = response.text().await.expect("text");
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") })
}

pub async fn get(app: &TestApp, path: &str, token: &str) -> (StatusCode, Value) {
    ask(app, Method::GET, path, Some(token), None).await
}

pub async fn post(app: &TestApp, path: &str, token: Option<&str>, body: Value) -> (StatusCode, Value) {
    ask(app, Method::POST, path, token, Some(body)).await
}

/// Registers `name` with the password everybody has here.
pub async fn registers(app: &TestApp, name: &str) -> Session {
    let account = json!({ "username": name, "email": format!("{name}@example.org"), "password": PASSWORD });
    let (status, body) = post(app, "/v1/accounts", None, account).await;
    assert_eq!(status, 201, "{body}");
    Session { body }
}

pub async fn logs_in(app: &TestApp, login: &str) -> Session {
    let (status, body) =
        post(app, "/v1/sessions", None, json!({ "login": login, "password": PASSWORD })).await;
    assert_eq!(status, 201, "{body}");
    Session { body }
}

#[actix_rt::test]
async fn ann_registers_and_is_who_she_says() {
    let app = TestApp::start().await;
    let ann = registers(&app, "Ann").await;
    assert_eq!(ann.body["expires_in"], 900);
    assert!(ann.text("device_id").starts_with("dev_") && ann.user().starts_with("user_"));
    let (status, me) = get(&app, "/v1/me", &ann.token()).await;
    assert_eq!(status, 200);
    assert_eq!(me, ann.body["user"]);
    assert_eq!(
        (&me["username"], &me["display_name"], &me["email"]),
        (&json!("Ann"), &json!("Ann"), &json!("Ann@example.org"))
    );
    for login in ["ann", "ANN", "ann@EXAMPLE.org"] {
        assert_eq!(logs_in(&app, login).await.user(), ann.user());
    }
}

#[actix_rt::test]
async fn what_is_wrong_is_said_field_by_field() {
    let app = TestApp::start().await;
    let wrong =
        json!({ "username": "a", "email": "nobody", "password": "12345678", "display_name": "\u{202e}x" });
    let (status, problem) = post(&app, "/v1/accounts", None, wrong).await;
    assert_eq!(status, 422, "{problem}");
    let fields: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["username", "email", "display_name", "password"]);
    let (status, problem) = post(&app, "/v1/accounts", None, json!({ "username": "ann" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("invalid_fields")));
}

#[actix_rt::test]
async fn nobody_has_a_name_that_looks_like_anns() {
    let app = TestApp::start().await;
    registers(&app, "PaulaO1").await;
    for name in ["paulao1", "PAULAO1", "Paula01", "PaulaOl", "PauIaO1"] {
        let account = json!({ "username": name, "email": format!("x{}@example.org", name.len()), "password": PASSWORD });
        let (status, problem) = post(&app, "/v1/accounts", None, account).await;
        assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("username_taken")), "{name}");
    }
    let account = json!({ "username": "another", "email": "PAULAO1@Example.org", "password": PASSWORD });
    let (status, problem) = post(&app, "/v1/accounts", None, account).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("email_taken")));
}

#[actix_rt::test]
async fn a_hundred_at_once_make_one_account() {
    let app = TestApp::start_with(|config| config.identity.password_queue_max = 200).await;
    let tries = (0..100).map(|n| {
        let account =
            json!({ "username": "ann", "email": format!("ann{n}@example.org"), "password": PASSWORD });
        post(&app, "/v1/accounts", None, account)
    });
    let answers = futures_util::future::join_all(tries).await;
    let made = answers.iter().filter(|(status, _)| *status == 201).count();
    let taken =
        answers.iter().filter(|(status, body)| *status == 409 && body["code"] == "username_taken").count();
    assert_eq!((made, taken), (1, 99));
}

#[actix_rt::test]
async fn a_profile_is_changed_by_who_has_read_it() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let read = app.http.get(app.at("/v1/me")).bearer_auth(ann.token()).send().await.unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    let edit = |tag: String, name: &str| {
        let request = app.http.patch(app.at("/v1/me")).bearer_auth(ann.token()).header("if-match", tag);
        request.json(&json!({ "display_name": name, "bio": "one\ntwo" })).send()
    };
    let changed = edit(tag.clone(), "  Ann   de Vries ").await.unwrap();
    assert_eq!(changed.status(), 200);
    let new_tag = changed.headers()["etag"].to_str().unwrap().to_owned();
    assert_ne!(new_tag, tag);
    let (_, me) = get(&app, "/v1/me", &ann.token()).await;
    assert_eq!(
        (&me["display_name"], &me["bio"]),
        (&json!("Ann de Vries"), &json!("one\ntwo")),
        "her own write is read back at once"
    );
    assert_eq!(edit(tag, "late").await.unwrap().status(), 412);
    let again =
        app.http.get(app.at("/v1/me")).bearer_auth(ann.token()).header("if-none-match", new_tag).send();
    assert_eq!(again.await.unwrap().status(), 304);
}

#[actix_rt::test]
async fn who_renames_gives_the_old_name_up() {
    let app = TestApp::start().await;
    let (ann, bo) = (registers(&app, "ann").await, registers(&app, "bobo").await);
    let rename = |session: Session, name: &'static str| {
        let app = &app;
        async move {
            ask(app, Method::PATCH, "/v1/me", Some(&session.token()), Some(json!({ "username": name }))).await
        }
    };
    assert_eq!(rename(bo.clone(), "Ann").await.1["code"], "username_taken");
    assert_eq!(rename(ann.clone(), "ANN").await.0, 200, "another spelling of one's own name");
    assert_eq!(rename(ann.clone(), "anna").await.0, 200);
    assert_eq!(rename(bo.clone(), "ann").await.0, 200);
    assert_eq!(get(&app, "/v1/users/@ann", &ann.token()).await.1["id"], json!(bo.user()));
    assert_eq!(logs_in(&app, "anna").await.user(), ann.user());
}

#[actix_rt::test]
async fn a_new_password_ends_the_other_sessions() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let other = logs_in(&app, "ann").await;
    let change = |current: &str, new: &str| {
        let body = json!({ "current_password": current, "password": new });
        let token = ann.token();
        let app = &app;
        async move { ask(app, Method::PUT, "/v1/me/password", Some(&token), Some(body)).await }
    };
    assert_eq!(change("not it", "another passphrase").await.1["code"], "invalid_credentials");
    assert_eq!(change(PASSWORD, "password").await.0, 422);
    assert_eq!(change(PASSWORD, "another passphrase").await.0, 204);
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.0, 200);
    assert_eq!(get(&app, "/v1/me", &other.token()).await.1["code"], "session_revoked");
    let old = json!({ "login": "ann", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/sessions", None, old).await.1["code"], "invalid_credentials");
    let new = json!({ "login": "ann", "password": "another passphrase" });
    assert_eq!(post(&app, "/v1/sessions", None, new).await.0, 201);
}

#[actix_rt::test]
async fn a_deleted_account_is_gone_and_its_name_is_held() {
    let app = TestApp::start().await;
    let (ann, bo) = (registers(&app, "ann").await, registers(&app, "bobo").await);
    let other = logs_in(&app, "ann").await;
    let delete = |password: &str| {
        let (body, token) = (json!({ "password": password }), ann.token());
        let app = &app;
        async move { ask(app, Method::DELETE, "/v1/me", Some(&token), Some(body)).await }
    };
    assert_eq!(delete("not it").await.1["code"], "invalid_credentials");
    assert_eq!(delete(PASSWORD).await.0, 204);
    for session in [&ann, &other] {
        assert_eq!(get(&app, "/v1/me", &session.token()).await.1["code"], "session_revoked");
        let refresh = json!({ "refresh_token": session.text("refresh_token") });
        assert_eq!(post(&app, "/v1/sessions/refresh", None, refresh).await.0, 401);
    }
    assert_eq!(get(&app, &format!("/v1/users/{}", ann.user()), &bo.token()).await.0, 404);
    assert_eq!(get(&app, "/v1/users/@ann", &bo.token()).await.0, 404);
    let login = json!({ "login": "ann", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/sessions", None, login).await.1["code"], "invalid_credentials");
    let same_name = json!({ "username": "ann", "email": "other@example.org", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/accounts", None, same_name).await.1["code"], "username_taken");
    let same_address = json!({ "username": "annette", "email": "ann@example.org", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/accounts", None, same_address).await.0, 201);
}

#[actix_rt::test]
async fn what_is_personal_is_purged_and_the_name_freed_in_time() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let proof = json!({ "password": PASSWORD });
    assert_eq!(ask(&app, Method::DELETE, "/v1/me", Some(&ann.token()), Some(proof)).await.0, 204);
    let store = &app.engine.store;
    let id = nova_id(&ann.user());
    let now = app.engine.clock.now();
    let kept = || async {
        let row: (Option<String>, String) = sqlx::query_as("SELECT email, username FROM users WHERE id = $1")
            .bind(id)
            .fetch_one(store.pool())
            .await
            .unwrap();
        row
    };
    assert_eq!(store.purge_accounts(now, 100).await.unwrap(), 0, "not yet");
    assert_eq!(kept().await.1, "ann");
    assert!(store.purge_accounts(now + time::Duration::days(8), 100).await.unwrap() > 0);
    assert_eq!(kept().await, (None, String::new()));
    assert!(store.purge_accounts(now + time::Duration::days(91), 100).await.unwrap() > 0);
    registers(&app, "ann").await;
}

fn nova_id(text: &str) -> uuid::Uuid {
    text.parse::<nova_actors::id::UserId>().expect("an id").as_uuid()
}

#[actix_rt::test]
async fn where_registration_is_closed_nobody_registers() {
    let app = TestApp::start_with(|config| config.identity.open_registration = false).await;
    let account = json!({ "username": "ann", "email": "ann@example.org", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/accounts", None, account).await.0, StatusCode::FORBIDDEN);
}
