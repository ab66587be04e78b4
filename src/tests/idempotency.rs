//! Retries with an `Idempotency-Key`: one effect, one answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use nova::error::{ApiError, Code};
use nova::rest::Json;
use nova::store::{Store, StoreConfig};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::app::{TestApp, eventually};
use crate::stage::Stage;

/// What the handlers of a stage have done, and what holds them up.
struct Works {
    runs: AtomicUsize,
    begun: AtomicUsize,
    /// Those that wait at the gate or work behind it.
    running: AtomicUsize,
    gate: Semaphore,
}

/// One that runs, until it is done or goes with its node.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn of(count: &'a AtomicUsize) -> Running<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Running(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Works {
    fn new() -> Arc<Works> {
        Arc::new(Works {
            runs: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            gate: Semaphore::new(0),
        })
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

async fn order(works: Data<Works>, body: Json<Value>) -> impl Responder {
    let number = works.runs.fetch_add(1, Ordering::SeqCst) + 1;
    HttpResponse::Created()
        .insert_header(("location", format!("/t/orders/{number}")))
        .json(json!({ "number": number, "ordered": body.0 }))
}

/// Waits at the gate in the middle of its work.
async fn slow(works: Data<Works>) -> impl Responder {
    let _running = Running::of(&works.running);
    works.begun.fetch_add(1, Ordering::SeqCst);
    works.gate.acquire().await.expect("the gate stays").forget();
    let number = works.runs.fetch_add(1, Ordering::SeqCst) + 1;
    HttpResponse::Created().json(json!({ "number": number }))
}

async fn refused(works: Data<Works>) -> Result<HttpResponse, ApiError> {
    works.runs.fetch_add(1, Ordering::SeqCst);
    Err(ApiError::field("colour", "must be red"))
}

async fn away(works: Data<Works>) -> Result<HttpResponse, ApiError> {
    match works.runs.fetch_add(1, Ordering::SeqCst) {
        0 => Err(Code::Unavailable.into()),
        1 => panic!("the second try broke"),
        _ => Ok(HttpResponse::NoContent().finish()),
    }
}

async fn put(works: Data<Works>) -> impl Responder {
    works.runs.fetch_add(1, Ordering::SeqCst);
    HttpResponse::NoContent()
}

fn routes(works: &Arc<Works>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let works = works.clone();
    move |cfg| {
        cfg.app_data(Data::from(works.clone()))
            .service(web::resource("/t/orders").route(web::post().to(order)).route(web::put().to(put)))
            .route("/t/slow", web::post().to(slow))
            .route("/t/refused", web::post().to(refused))
            .route("/t/away", web::post().to(away));
    }
}

async fn post(app: &TestApp, stage: &Stage, path: &str, key: &str, body: &Value) -> reqwest::Response {
    let request = app.http.post(stage.at(path)).header("idempotency-key", key).json(body);
    request.send().await.expect("answered")
}

fn replayed(response: &reqwest::Response) -> bool {
    response.headers().get("idempotency-replayed").is_some_and(|value| value == "true")
}

async fn code(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("a problem");
    (status, body["code"].as_str().expect("a code").to_owned())
}

/// A pool of the test's own: what is borrowed from the node's goes back on the runtime it was borrowed on, and the
/// test's stands still while it waits for the node to end.
async fn store(app: &TestApp) -> Store {
    let url = app.engine.config.database.database_url.as_ref().expect("tests name a database").expose();
    let options = url.parse().expect("a URL");
    Store::connect(options, &StoreConfig { connections_max: 1, ..StoreConfig::default() })
        .await
        .expect("connects")
}

/// Rows of requests that are running or done.
async fn rows(app: &TestApp) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM idempotent_requests");
    count.fetch_one(store(app).await.pool()).await.expect("counted")
}

/// A request that was sent and then torn off: the door reads a reset, not an end.
async fn hang_up(stage: &Stage, works: &Works, path: &str, key: &str, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut socket = TcpStream::connect(stage.addr).await.expect("connects");
    socket.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
    eventually("the request runs", async || (works.begun() == 1).then_some(())).await;
    socket.set_zero_linger().expect("closes with a reset");
}

#[actix_web::test]
async fn a_retry_gets_the_same_answer_and_no_second_effect() {
    let app = TestApp::start().await;
    let works = Works::new();
    let stage = Stage::open(&app.engine, |_| {}, routes(&works)).await;
    let body = json!({ "what": "tea" });
    let first = post(&app, &stage, "/t/orders", "k1", &body).await;
    assert!(first.status() == 201 && !replayed(&first));
    let location = first.headers()["location"].clone();
    let first = first.bytes().await.expect("read");
    for _ in 0..3 {
        let again = post(&app, &stage, "/t/orders", "k1", &body).await;
        assert!(again.status() == 201 && replayed(&again), "{again:?}");
        assert_eq!(again.headers()["location"], location);
        assert_eq!(again.headers()["content-type"], "application/json");
        assert_eq!(again.bytes().await.expect("read"), first);
    }
    assert_eq!(works.runs(), 1);

    let other = post(&app, &stage, "/t/orders", "k1", &json!({ "what": "coffee" })).await;
    assert_eq!(code(other).await, (422, "idempotency_mismatch".to_owned()));
    let another_key = post(&app, &stage, "/t/orders", "k2", &body).await;
    assert!(another_key.status() == 201 && !replayed(&another_key));
    // Before log-in the path is part of whose key it is.
    assert_eq!(code(post(&app, &stage, "/t/refused", "k1", &body).await).await.0, 422);
    assert_eq!(works.runs(), 3);
    // Without a key, and with other methods, nothing is kept.
    for _ in 0..2 {
        app.http.post(stage.at("/t/orders")).json(&body).send().await.expect("answered");
        app.http.put(stage.at("/t/orders")).header("idempotency-key", "k1").send().await.expect("answered");
    }
    assert_eq!((works.runs(), rows(&app).await), (7, 3));
}

#[actix_web::test]
async fn a_refusal_is_an_answer_too_but_a_failure_is_not() {
    let app = TestApp::start().await;
    let works = Works::new();
    let stage = Stage::open(&app.engine, |_| {}, routes(&works)).await;
    let first = post(&app, &stage, "/t/refused", "k1", &json!({})).await;
    assert_eq!(first.headers()["content-type"], "application/problem+json");
    let first = first.bytes().await.expect("read");
    let again = post(&app, &stage, "/t/refused", "k1", &json!({})).await;
    assert!(again.status() == 422 && replayed(&again));
    assert_eq!(again.headers()["content-type"], "application/problem+json");
    assert_eq!(again.bytes().await.expect("read"), first);
    assert_eq!(works.runs(), 1);

    works.runs.store(0, Ordering::SeqCst);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = post(&app, &stage, "/t/away", "k2", &json!({})).await;
        statuses.push((answer.status().as_u16(), replayed(&answer)));
    }
    assert_eq!(statuses, [(503, false), (500, false), (204, false), (204, true)]);
}

#[actix_web::test]
async fn of_two_at_once_one_runs() {
    let app = TestApp::start().await;
    let works = Works::new();
    let stage = Stage::open(&app.engine, |_| {}, routes(&works)).await;
    let body = json!({});
    let first = async {
        let answer = post(&app, &stage, "/t/slow", "k1", &body).await;
        (answer.status().as_u16(), replayed(&answer))
    };
    let second = async {
        eventually("the first runs", async || (works.begun() == 1).then_some(())).await;
        let answer = post(&app, &stage, "/t/slow", "k1", &body).await;
        assert_eq!(answer.headers()["retry-after"], "1");
        works.gate.add_permits(1);
        code(answer).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first, (201, false));
    assert_eq!(second, (409, "request_in_progress".to_owned()));
    let third = post(&app, &stage, "/t/slow", "k1", &body).await;
    assert!(third.status() == 201 && replayed(&third));
    assert_eq!((works.begun(), works.runs()), (1, 1));

    // Ten at the same instant: one effect, and nobody gets anything but the answer or the advice to wait.
    works.gate.add_permits(100);
    let all = (0..10).map(|_| post(&app, &stage, "/t/slow", "k2", &body));
    let statuses: Vec<u16> = futures_util::future::join_all(all)
        .await
        .into_iter()
        .map(|answer| answer.status().as_u16())
        .collect();
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
    assert!(statuses.contains(&201), "{statuses:?}");
    assert_eq!(works.runs(), 2);
}

#[actix_web::test]
async fn a_client_that_hangs_up_finds_its_answer_later() {
    let app = TestApp::start().await;
    let works = Works::new();
    let stage = Stage::open(&app.engine, |_| {}, routes(&works)).await;
    hang_up(&stage, &works, "/t/slow", "k1", &Value::Null).await;
    // The door has noticed when nothing is in flight.
    let flight = async || app.metric("nova_http_requests_in_flight").await.filter(|open| *open == 0.0);
    eventually("the door notices", flight).await;
    works.gate.add_permits(1);
    eventually("the work is done", async || (works.runs() == 1).then_some(())).await;
    let answer = eventually("the answer is stored", async || {
        let answer = post(&app, &stage, "/t/slow", "k1", &Value::Null).await;
        (answer.status() == 201).then_some(answer)
    })
    .await;
    assert!(replayed(&answer));
    assert_eq!((works.begun(), works.runs()), (1, 1));
}

#[actix_web::test]
async fn a_request_whose_node_dies_is_taken_over() {
    let app = TestApp::start().await;
    let works = Works::new();
    let (doomed, other) = (
        Stage::open(&app.engine, |_| {}, routes(&works)).await,
        Stage::open(&app.engine, |_| {}, routes(&works)).await,
    );
    let body = json!({ "what": "tea" });
    hang_up(&doomed, &works, "/t/slow", "k1", &body).await;
    drop(doomed);
    // Its door is closed; the threads behind it end in their own time.
    eventually("what ran there is gone", async || (works.running() == 0).then_some(())).await;
    works.gate.add_permits(10);
    // It may still be running for all the other node knows.
    let early = post(&app, &other, "/t/slow", "k1", &body).await;
    assert_eq!(code(early).await, (409, "request_in_progress".to_owned()));
    assert_eq!(works.runs(), 0, "the dead node went on working");
    // Thirty seconds later.
    let later = "UPDATE idempotent_requests SET leased_until = leased_until - interval '30 s'";
    sqlx::query(later).execute(store(&app).await.pool()).await.expect("time passes");
    let other_body = post(&app, &other, "/t/slow", "k1", &json!({ "what": "coffee" })).await;
    assert_eq!(code(other_body).await, (422, "idempotency_mismatch".to_owned()));
    let taken = post(&app, &other, "/t/slow", "k1", &body).await;
    assert!(taken.status() == 201 && !replayed(&taken), "{taken:?}");
    assert!(replayed(&post(&app, &other, "/t/slow", "k1", &body).await));
    assert_eq!(works.runs(), 1);
}

#[actix_web::test]
async fn a_key_is_free_again_after_a_day() {
    let app = TestApp::start().await;
    let works = Works::new();
    let stage = Stage::open(&app.engine, |_| {}, routes(&works)).await;
    post(&app, &stage, "/t/orders", "k1", &json!({ "what": "tea" })).await;
    post(&app, &stage, "/t/orders", "k2", &json!({ "what": "tea" })).await;
    assert_eq!(store(&app).await.sweep_idempotent(100).await.expect("swept"), 0);
    let day = "UPDATE idempotent_requests SET expires_at = expires_at - interval '24 h', leased_until = leased_until - interval '24 h'";
    sqlx::query(day).execute(store(&app).await.pool()).await.expect("time passes");
    // Free whether it was swept or not, and for whatever request.
    let other = post(&app, &stage, "/t/orders", "k1", &json!({ "what": "coffee" })).await;
    assert!(other.status() == 201 && !replayed(&other));
    // The engine sweeps by itself too, and may have been first.
    assert!(store(&app).await.sweep_idempotent(100).await.expect("swept") <= 1);
    assert_eq!((works.runs(), rows(&app).await), (3, 1));
}

#[actix_web::test]
async fn what_is_stored_tells_nothing() {
    let app = TestApp::start().await;
    let works = Works::new();
    let stage = Stage::open(&app.engine, |_| {}, routes(&works)).await;
    post(&app, &stage, "/t/orders", "a-random-key", &json!({ "token": "a-secret-token" })).await;
    let row: String = sqlx::query_scalar("SELECT encode(row_to_json(r)::text::bytea, 'escape') || encode(answer, 'escape') FROM idempotent_requests r")
        .fetch_one(store(&app).await.pool())
        .await
        .expect("one row");
    assert!(!row.contains("a-random-key") && !row.contains("a-secret-token"), "{row}");
}

#[actix_web::test]
async fn an_odd_key_is_refused_and_a_large_body_too() {
    let app = TestApp::start().await;
    let works = Works::new();
    let change = |config: &mut nova::config::Config| config.http.body_bytes_max = 2048;
    let stage = Stage::open(&app.engine, change, routes(&works)).await;
    for key in ["", "a b", &"k".repeat(129)] {
        let answer = post(&app, &stage, "/t/orders", key, &json!({})).await;
        assert_eq!(code(answer).await, (400, "malformed_request".to_owned()), "{key:?}");
    }
    let large = post(&app, &stage, "/t/orders", "k1", &json!({ "text": "x".repeat(4096) })).await;
    assert_eq!(code(large).await, (413, "payload_too_large".to_owned()));
    let nowhere = post(&app, &stage, "/t/nowhere", "k1", &json!({})).await;
    assert_eq!(code(nowhere).await, (404, "not_found".to_owned()));
    assert_eq!((works.runs(), rows(&app).await), (0, 0));
}
