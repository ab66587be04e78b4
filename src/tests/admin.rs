//! What an operator does by hand, with the real program: the first administrator, and people who cannot help themselves.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::accounts::{PASSWORD, get, logs_in, post, registers};
use crate::app::TestApp;
use crate::program::{Program, nova};
use crate::services::eventually;
use crate::totp::sets_up;

/// Nodes without a bus look every two seconds.
const HEARD: Duration = Duration::from_secs(3);

/// A `nova admin` command on a data directory.
fn on(data: &Path, words: &[&str]) -> Command {
    let mut command = nova(&["admin"]);
    command.args(words).arg("--data-dir").arg(data);
    command
}

/// A `nova admin` command with the configuration of a node in this process.
fn beside(app: &TestApp, words: &[&str]) -> Command {
    let config = &app.engine.config;
    let mut command = nova(&["admin"]);
    command.args(words).env("NOVA_DATA_DIR", &config.data_dir);
    command.env("DATABASE_URL", config.database.database_url.as_ref().expect("a database").expose());
    if let Some(redis) = &config.bus.redis_url {
        command.env("REDIS_URL", redis.expose()).env("NOVA_REDIS_NAMESPACE", &config.bus.redis_namespace);
    }
    command
}

fn feed(command: &mut Command, input: &str) -> Child {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    child
}

/// Its lines on standard output.
fn done(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect()
}

/// The sentence it refuses with.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains(" WARN ")).collect();
    assert_eq!(lines.len(), 1, "one sentence: {said}");
    lines[0].to_owned()
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program runs")
}

async fn says(engine: &Program, login: &str, password: &str) -> (StatusCode, Value) {
    nova::app::use_ring();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client");
    let body = json!({ "login": login, "password": password });
    let url = format!("{}/v1/sessions", engine.url("http"));
    let answer = client.post(url).json(&body).send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

#[test]
fn a_new_epoch_is_begun_only_while_no_node_runs() {
    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &[]);
    let told = refused(&run(&mut on(data.path(), &["new-epoch"])));
    assert!(told.contains("stop them all"), "{told}");
    assert!(engine.end(Signal::TERM).success());
    let told = done(&run(&mut on(data.path(), &["new-epoch"])));
    assert!(told[0].starts_with("0 conversations have the epoch "), "{told:?}");
}

#[actix_web::test]
async fn the_first_administrator_is_made_before_the_engine_runs_and_others_while_it_does() {
    let data = tempfile::tempdir().expect("a directory");
    let nobody = refused(&run(&mut on(data.path(), &["suspend", "ann"])));
    assert!(
        nobody.starts_with("nova: there is no database in ") && nobody.contains("--data-dir"),
        "{nobody}"
    );

    let new = ["create-user", "ann", "ann@example.org", "--role", "admin"];
    let made = done(&run(&mut on(data.path(), &new)));
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made[0].starts_with("ann (user_") && made[0].ends_with(" has an account with the role admin"));
    let password = made[1].strip_prefix("password: ").expect("shown once").to_owned();
    assert!(!data.path().join("postgres/postmaster.pid").exists(), "the database is stopped again");

    // Two at once take turns instead of stopping the database under each other.
    let two = ["moderator", "admin"].map(|role| {
        on(data.path(), &["grant", "ann@example.org", role]).spawn().expect("the program starts")
    });
    for command in two {
        assert_eq!(done(&command.wait_with_output().expect("it ends")).len(), 1);
    }

    let engine = Program::serve(data.path(), &[]);
    let (status, session) = says(&engine, "ann", &password).await;
    assert_eq!(status, 201, "{session}");
    let mut roles: Vec<&str> =
        session["user"]["roles"].as_array().expect("roles").iter().filter_map(Value::as_str).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["admin", "moderator"]);

    let new = ["create-user", "bobo", "bobo@example.org", "--password-stdin"];
    let made = feed(&mut on(data.path(), &new), "a long way home\n").wait_with_output().expect("it ends");
    let made = done(&made);
    assert_eq!(made.len(), 1, "a password that was given is not shown: {made:?}");
    let (status, session) = says(&engine, "bobo", "a long way home").await;
    assert_eq!((status.as_u16(), &session["user"]["roles"]), (201, &json!([])), "{session}");

    let taken = feed(&mut on(data.path(), &new), "a long way home\n").wait_with_output().expect("it ends");
    assert_eq!(refused(&taken), "nova: the username is taken");
    assert!(engine.end(Signal::TERM).success(), "the engine's database is left running for it");
}

#[actix_rt::test]
async fn who_names_nobody_is_told_so_in_one_sentence() {
    let app = TestApp::start().await;
    let ghost = nova_actors::id::UserId::generate().to_string();
    for login in ["nobody1", "nobody@example.org", ghost.as_str()] {
        let said = refused(&run(&mut beside(&app, &["end-sessions", login])));
        assert_eq!(said, format!("nova: nobody has the username, e-mail address or id `{login}`"));
    }
    let new = ["create-user", "a", "no address", "--password-stdin"];
    let said = refused(&feed(&mut beside(&app, &new), "short").wait_with_output().expect("it ends"));
    for field in ["username: ", "email: ", "password: "] {
        assert!(said.contains(field), "{said}");
    }
    let empty = refused(&run(&mut beside(&app, &new)));
    assert_eq!(empty, "nova: no password was read from standard input: it is empty");
    // Port 1 of the loopback takes no connections.
    let away = run(beside(&app, &["suspend", "nobody1"]).env("REDIS_URL", "redis://127.0.0.1:1/0"));
    let away = refused(&away);
    assert!(away.starts_with("nova: Redis cannot be reached"), "{away}");
}

#[actix_rt::test]
async fn suspending_ends_living_sessions_and_keeps_out() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    assert_eq!(get(&app, "/v1/me", &ann.token()).await.0, 200);
    let said = done(&run(&mut beside(&app, &["suspend", "ANN"])));
    assert_eq!(said, [format!("ann ({}) is suspended; 1 session ended", ann.user())]);
    eventually("the session ends", HEARD, async || {
        let (status, problem) = get(&app, "/v1/me", &ann.token()).await;
        (status != 200).then(|| assert_eq!(problem["code"], "account_suspended"))
    })
    .await;
    let right = json!({ "login": "ann", "password": PASSWORD });
    let (_, problem) = post(&app, "/v1/sessions", None, right).await;
    assert_eq!(problem["code"], "account_suspended");

    done(&run(&mut beside(&app, &["unsuspend", &ann.user()])));
    logs_in(&app, "ann").await;
}

#[actix_rt::test]
async fn a_reset_password_works_and_the_old_one_does_not() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let said = done(&run(&mut beside(&app, &["reset-password", "ann@example.org"])));
    assert_eq!(said[0], format!("ann ({}) has a new password; 1 session ended", ann.user()));
    let password = said[1].strip_prefix("password: ").expect("shown once");
    eventually("the session ends", HEARD, async || {
        (get(&app, "/v1/me", &ann.token()).await.0 == 401).then_some(())
    })
    .await;
    let old = json!({ "login": "ann", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/sessions", None, old).await.1["code"], "invalid_credentials");
    let new = json!({ "login": "ann", "password": password });
    assert_eq!(post(&app, "/v1/sessions", None, new).await.0, 201);

    let reset = ["reset-password", "ann", "--password-stdin"];
    let given = feed(&mut beside(&app, &reset), "over the hills again\r\n").wait_with_output();
    assert_eq!(done(&given.expect("it ends")).len(), 1);
    let given = json!({ "login": "ann", "password": "over the hills again" });
    assert_eq!(post(&app, "/v1/sessions", None, given).await.0, 201);
}

#[actix_rt::test]
async fn roles_sessions_and_second_factors_change_under_a_running_node() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    let shows = async |roles: Value| {
        eventually("the roles change", HEARD, async || {
            (get(&app, "/v1/me", &ann.token()).await.1["roles"] == roles).then_some(())
        })
        .await;
    };
    shows(json!([])).await;
    done(&run(&mut beside(&app, &["grant", "ann", "moderator"])));
    shows(json!(["moderator"])).await;
    done(&run(&mut beside(&app, &["revoke", "ann", "moderator"])));
    shows(json!([])).await;

    let listed = done(&run(&mut beside(&app, &["sessions", "ann"])));
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].starts_with(&ann.text("device_id")), "{listed:?}");

    let _phone_that_is_lost = sets_up(&app, &ann).await;
    let right = json!({ "login": "ann", "password": PASSWORD });
    assert_eq!(post(&app, "/v1/sessions", None, right).await.1["code"], "totp_required");
    done(&run(&mut beside(&app, &["disable-totp", "ann"])));
    logs_in(&app, "ann").await;
    let again = done(&run(&mut beside(&app, &["disable-totp", "ann"])));
    assert!(again[0].ends_with(" had no second factor"), "{again:?}");

    let said = done(&run(&mut beside(&app, &["end-sessions", "ann"])));
    assert!(said[0].ends_with(" is logged out; 2 sessions ended"), "{said:?}");
    eventually("the session ends", HEARD, async || {
        (get(&app, "/v1/me", &ann.token()).await.1["code"] == "session_revoked").then_some(())
    })
    .await;
    let listed = done(&run(&mut beside(&app, &["sessions", "ann"])));
    assert!(listed[0].ends_with(" is logged in nowhere"), "{listed:?}");
}

#[actix_rt::test]
async fn an_operator_stops_a_group_sees_what_it_could_not_take_and_gives_it_again() {
    let app = TestApp::start().await;
    let store = crate::events::beside(&app).await;
    let ann = registers(&app, "ann").await;
    let post_something =
        async || post(&app, "/v1/posts", Some(&ann.token()), json!({ "text": "hello" })).await;
    assert_eq!(post_something().await.0, StatusCode::CREATED);
    let says = async |words: &[&str]| {
        let mut command = beside(&app, &[&["events"][..], words].concat());
        tokio::task::spawn_blocking(move || command.output().expect("runs")).await.expect("no panic")
    };
    let groups =
        eventually("the engine's own group has taken everything", Duration::from_secs(60), async || {
            let lines = done(&says(&["groups"]).await);
            lines
                .iter()
                .any(|line| line.starts_with("notices reads content-events user-events: 9 parts, 0 behind, "))
                .then_some(lines)
        })
        .await;
    assert!(groups[0].ends_with("0 paused, 0 failing, 0 dead letters"), "{groups:?}");
    assert_eq!(
        done(&says(&["pause", "notices", "--topic", "content-events"]).await),
        ["notices is paused; that changed 6 parts"]
    );
    assert_eq!(post_something().await.0, StatusCode::CREATED);
    eventually("the group is behind", Duration::from_secs(60), async || {
        let lines = done(&says(&["lag"]).await);
        lines
            .iter()
            .any(|line| {
                line.contains("content-events/")
                    && line.contains(", 1 behind, ")
                    && line.ends_with(", paused")
            })
            .then_some(())
    })
    .await;
    assert_eq!(done(&says(&["resume", "notices"]).await), ["notices goes on; that changed 6 parts"]);
    // What nobody can read becomes a dead letter.
    let broken = "INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
                  VALUES (event_id_at(now()), 1, 0, gen_random_uuid(), 'PostCreated', 1, 1, '\\xff', now())";
    sqlx::query(broken).execute(store.pool()).await.unwrap();
    let letter = async |says_so: &str| {
        eventually(says_so, Duration::from_secs(60), async || {
            let lines = done(&says(&["dead-letters", "notices"]).await);
            (lines.len() == 1 && lines[0].contains(" PostCreated ")).then(|| lines[0].clone())
        })
        .await
    };
    let line = letter("it is a dead letter").await;
    let number = line.split(' ').next().expect("a number").to_owned();
    assert_eq!(
        done(&says(&["retry", "notices", "--id", &number]).await),
        ["1 dead letters of notices are given to it again"]
    );
    eventually("it was given again, in vain", Duration::from_secs(60), async || {
        let due: i64 = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE is_due")
            .fetch_one(store.pool())
            .await
            .unwrap();
        (due == 0).then_some(())
    })
    .await;
    letter("it stays").await;
    // Somebody repairs it.
    sqlx::query("UPDATE dead_letters SET payload = ''").execute(store.pool()).await.unwrap();
    assert_eq!(done(&says(&["retry", "notices"]).await), ["1 dead letters of notices are given to it again"]);
    eventually("it is gone", Duration::from_secs(60), async || {
        (done(&says(&["dead-letters"]).await) == ["there are no dead letters"]).then_some(())
    })
    .await;
    let again = done(&says(&["replay", "notices", "--topic", "user-events", "--from-place", "1"]).await);
    assert_eq!(again, ["notices reads 3 parts again"]);
    // Of a group that reads no more nothing is left to be measured.
    store.join_group("gone", &[nova::events::Topic::User]).await.unwrap();
    assert_eq!(done(&says(&["forget", "gone"]).await), ["gone is forgotten; it read 3 parts"]);
    assert!(store.event_lag().await.unwrap().iter().all(|lag| lag.group != "gone"));
    assert_eq!(
        refused(&says(&["retry", "nobody"]).await),
        "nova: no group is called `nobody`; `nova admin events groups` lists them"
    );
}
