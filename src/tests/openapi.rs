//! The contract in writing: the checked-in copy, and what a fuzzer makes of it.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::accounts::registers;
use crate::app::TestApp;

/// Set, the test that compares the copy renews it instead: `make openapi`.
const RENEW: &str = "NOVA_RENEW_OPENAPI";

#[test]
fn the_checked_in_copy_is_what_the_code_says() {
    let documents = [
        ("openapi.json", nova::rest::openapi::document()),
        ("asyncapi.json", nova::chat::asyncapi::document()),
    ];
    for (name, document) in documents {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(&path, document).unwrap_or_else(|why| panic!("{name} cannot be written: {why}"));
        }
        let copy = std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{name} is missing: {why}"));
        let differs = document.lines().zip(copy.lines()).position(|(ours, copy)| ours != copy);
        let line = differs.unwrap_or_else(|| document.lines().count().min(copy.lines().count())) + 1;
        assert!(document == copy, "{name} differs from the code in line {line}; `make openapi` renews it");
    }
}

#[actix_web::test]
async fn the_node_serves_the_same_document() {
    let app = TestApp::start().await;
    let documents = [
        ("/openapi.json", nova::rest::openapi::document()),
        ("/asyncapi.json", nova::chat::asyncapi::document()),
    ];
    for (path, document) in documents {
        let served = app.http.get(app.at(path)).send().await.expect("answered");
        assert_eq!(served.headers()["content-type"], "application/json");
        assert_eq!(served.text().await.expect("text"), document);
    }
}

#[test]
fn every_call_has_a_name_of_its_own() {
    let document: Value = serde_json::from_str(nova::rest::openapi::document()).expect("JSON");
    let calls = document["paths"].as_object().expect("paths").values().flat_map(|item| item.as_object());
    let mut names = std::collections::BTreeSet::new();
    for call in calls.flat_map(|methods| methods.values()) {
        let name = call["operationId"].as_str().expect("it has a name");
        assert!(names.insert(name.to_owned()), "{name} stands twice");
    }
    assert!(names.contains("accounts_delete_me") && names.contains("sessions_log_out"), "{names:?}");
}

/// What must hold for every answer: no 5xx, no status, type, header or body the document does not name, nothing
/// accepted that the document forbids, no call that ignores who asks.
const CHECKS: [&str; 2] = [
    "--checks",
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
     response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance,ignored_auth",
];

/// What it asks is counted, not timed: some ten seconds' worth. Beyond this it hangs.
const FUZZ_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(600);

/// Runs the fuzzer against a node; `options` go to it.
async fn fuzz(app: &TestApp, token: &str, document: Option<&Path>, options: &[&str]) -> Output {
    let mut fuzzer =
        tokio::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/schemathesis"));
    fuzzer.arg(&app.url).arg(token).args(options).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(document) = document {
        fuzzer.env("DOCUMENT", document);
    }
    let output = tokio::time::timeout(FUZZ_TIME_MAX, fuzzer.output()).await;
    output.expect("the fuzzer ends within ten minutes").expect("scripts/schemathesis can be run")
}

fn words(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[actix_web::test]
async fn a_fuzzer_finds_no_failure_and_nothing_undocumented() {
    let app = TestApp::start().await;
    let ann = registers(&app, "ann").await;
    // One seed and so many examples for every run, so that a finding is somebody's change and neither the day's luck nor the
    // machine's; another seed by the environment.
    let seed = std::env::var("NOVA_FUZZ_SEED").unwrap_or_else(|_| "1".to_owned());
    let budget = ["--max-examples", "6", "--seed", &seed, "--request-timeout", "60", "--continue-on-failure"];
    // These two end the session everything else is asked with; the stories of sessions and accounts tell of them.
    let keep = ["--exclude-operation-id", "accounts_delete_me", "--exclude-operation-id", "sessions_log_out"];
    let output = fuzz(&app, &ann.token(), None, &[&CHECKS[..], &budget, &keep].concat()).await;
    assert!(output.status.success(), "{}", words(&output));
}

#[actix_web::test]
async fn the_fuzzer_notices_when_the_document_is_wrong() {
    let app = TestApp::start().await;
    let mut document: Value = serde_json::from_str(nova::rest::openapi::document()).expect("JSON");
    let responses = document.pointer_mut("/paths/~1livez/get/responses").and_then(Value::as_object_mut);
    responses.expect("/livez is documented").remove("200").expect("it answers 200");
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    serde_json::to_writer(file.as_file(), &document).expect("written");
    let options = [&CHECKS[..], &["--include-path", "/livez", "--max-examples", "3"]].concat();
    let output = fuzz(&app, "none", Some(file.path()), &options).await;
    let words = words(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("Undocumented status code"), "{words}");
}

/// Has somebody else's validator read the examples of a description of the socket.
async fn examples_of(document: &Value) -> Output {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    serde_json::to_writer(file.as_file(), document).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/schemathesis");
    let mut reader = tokio::process::Command::new(script);
    reader.arg("--examples").arg(file.path()).stdin(Stdio::null()).kill_on_drop(true);
    reader.output().await.expect("scripts/schemathesis can be run")
}

#[actix_web::test]
async fn what_the_socket_says_is_what_its_description_says_also_to_another_validator() {
    let mut document: Value = serde_json::from_str(nova::chat::asyncapi::document()).expect("JSON");
    let read = examples_of(&document).await;
    assert!(read.status.success(), "{}", words(&read));
    let token = document.pointer_mut("/components/schemas/Token/type").expect("a token is described");
    *token = "integer".into();
    let read = examples_of(&document).await;
    assert_eq!(read.status.code(), Some(1), "{}", words(&read));
}
