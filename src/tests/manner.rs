//! How the API behaves whatever it is asked: over real HTTP, and over bare sockets where HTTP libraries are too polite.

use std::time::Duration;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use nova::error::ApiError;
use nova::rest::{Context, Json, Path, Query};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::TestApp;
use crate::stage::Stage;

#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Note {
    text: String,
    #[serde(default)]
    stars: u8,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    stars: u8,
}

fn routes(cfg: &mut ServiceConfig) {
    async fn echo(note: Json<Note>) -> Json<Note> {
        note
    }
    async fn broken() -> HttpResponse {
        panic!("the handler broke")
    }
    async fn failing() -> Result<HttpResponse, ApiError> {
        Err(ApiError::internal(std::io::Error::other("the password is hunter2")))
    }
    async fn numbered(number: Path<u8>, filter: Query<Filter>) -> String {
        format!("{} {}", number.0, filter.0.stars)
    }
    async fn whole(body: web::Bytes) -> String {
        body.len().to_string()
    }
    async fn large() -> HttpResponse {
        let items: Vec<_> =
            (0..500).map(|number| json!({ "number": number, "text": "the same words" })).collect();
        HttpResponse::Ok().json(json!({ "items": items }))
    }
    async fn who(context: Context) -> String {
        context.client().to_string()
    }
    async fn bare(request: HttpRequest) -> HttpResponse {
        let status = request.match_info().query("status").parse().expect("a status");
        HttpResponse::build(
            StatusCode::from_u16(status).expect("a status").as_u16().try_into().expect("a status"),
        )
        .finish()
    }
    cfg.route("/t/echo", web::post().to(echo))
        .route("/t/broken", web::get().to(broken))
        .route("/t/failing", web::get().to(failing))
        .route("/t/numbered/{number}", web::get().to(numbered))
        .route("/t/whole", web::post().to(whole))
        .route("/t/large", web::get().to(large))
        .route("/t/who", web::get().to(who))
        .route("/t/bare/{status}", web::get().to(bare));
}

/// Checks that an answer is a problem, and returns its body.
async fn problem(response: reqwest::Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status().as_u16(), status, "{response:?}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{response:?}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["status"], status, "{body}");
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["type"], format!("/docs/errors#{code}"), "{body}");
    assert_eq!(body["request_id"], id, "{body}");
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    body
}

/// Writes bytes to the door and reads until it hangs up or `limit` has passed.
async fn converse(addr: std::net::SocketAddr, bytes: &[u8], limit: Duration) -> String {
    let mut socket = TcpStream::connect(addr).await.expect("connects");
    // The door may hang up before everything is written; what it said first is what counts.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(limit, socket.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[actix_web::test]
async fn what_is_not_there_or_not_allowed_is_a_problem() {
    let app = TestApp::start().await;
    for path in ["/nothing", "/v1/nothing", "/v1", "/%ff%fe", "/..%2f..%2fetc/passwd", "/v1/%00"] {
        let response = app.http.get(app.at(path)).send().await.expect("answered");
        problem(response, 404, "not_found").await;
    }
    let response = app.http.post(app.at("/openapi.json")).send().await.expect("answered");
    assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
    problem(response, 405, "method_not_allowed").await;
    let strange = Method::from_bytes(b"FROBNICATE").expect("a method");
    let response = app.http.request(strange, app.at("/openapi.json")).send().await.expect("answered");
    problem(response, 405, "method_not_allowed").await;
    let response = app.http.request(Method::OPTIONS, app.at("/openapi.json")).send().await.expect("answered");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (204, &"GET, HEAD, OPTIONS".parse().expect("a value"))
    );
    let head = app.http.head(app.at("/openapi.json")).send().await.expect("answered");
    assert_eq!(head.status(), 200);
    assert!(
        head.headers()["content-length"].to_str().expect("text").parse::<u64>().expect("a number") > 1000
    );
    assert!(head.bytes().await.expect("read").is_empty());
}

#[actix_web::test]
async fn bodies_are_refused_by_field_and_never_by_500() {
    let app = TestApp::start().await;
    let stage = Stage::open(&app.engine, |_| {}, routes).await;
    let send = |kind: Option<&'static str>, body: &'static str| {
        let mut request = app.http.post(stage.at("/t/echo")).body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        async { request.send().await.expect("answered") }
    };
    let json = Some("application/json");
    let good = send(Some("application/json; charset=UTF-8"), r#"{"text":"hello"}"#).await;
    assert_eq!(good.json::<Value>().await.expect("JSON"), json!({ "text": "hello", "stars": 0 }));

    problem(send(None, "{}").await, 415, "unsupported_media_type").await;
    problem(send(Some("text/plain"), "{}").await, 415, "unsupported_media_type").await;
    problem(send(Some("application/json; charset=latin1"), "{}").await, 415, "unsupported_media_type").await;
    let broken = problem(send(json, "{\"text\": \n\"a\",,}").await, 400, "malformed_json").await;
    assert!(broken["detail"].as_str().expect("text").starts_with("line 2, column 5"), "{broken}");
    problem(send(json, "").await, 400, "malformed_json").await;
    problem(send(json, "\u{0}").await, 400, "malformed_json").await;
    for (body, field) in [
        ("{}", "text"),
        (r#"{"text":null}"#, "text"),
        (r#"{"text":"a","stars":256}"#, "stars"),
        (r#"{"text":"a","stars":-1}"#, "stars"),
        (r#"{"text":"a","colour":"red"}"#, "colour"),
        (r#"{"text":"a","text":"b"}"#, "text"),
        ("[\"a\"]", ""),
    ] {
        let refused = problem(send(json, body).await, 422, "invalid_fields").await;
        assert_eq!(refused["errors"][0]["field"], field, "{body}: {refused}");
    }
    let deep: &'static str = Box::leak("[".repeat(100_000).into_boxed_str());
    problem(send(json, deep).await, 400, "malformed_json").await;
}

#[actix_web::test]
async fn bodies_are_bounded_in_bytes_and_time() {
    let app = TestApp::start().await;
    let change = |config: &mut nova::config::Config| {
        config.http.body_bytes_max = 2048;
        config.http.body_s = 1;
    };
    let stage = Stage::open(&app.engine, change, routes).await;
    let send = async |bytes: &[u8]| converse(stage.addr, bytes, Duration::from_secs(8)).await;
    let head = "POST /t/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n";

    // Told, not sent: refused before a byte of it comes.
    let told = send(format!("{head}content-length: 2049\r\n\r\n").as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 413 "), "{told}");
    assert!(told.contains("payload_too_large"), "{told}");
    // Sent without having been told.
    let chunks = format!("400\r\n{}\r\n", "a".repeat(1024)).repeat(4);
    let chunked = send(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}").as_bytes()).await;
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
    // Begun and never ended.
    let slow = send(format!("{head}content-length: 100\r\n\r\n{{\"text\":").as_bytes()).await;
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    assert!(slow.contains("\"code\":\"timeout\""), "{slow}");
    // Wrong framing.
    let odd = send(format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").as_bytes()).await;
    assert!(odd.starts_with("HTTP/1.1 400 "), "{odd}");
    // What other extractors read is bounded by them; ours is the one for JSON.
    let full = app.http.post(stage.at("/t/whole")).body("x".repeat(1000)).send().await.expect("answered");
    assert_eq!(full.text().await.expect("text"), "1000");
}

#[actix_web::test]
async fn heads_are_bounded_and_garbage_is_hung_up_on() {
    let app = TestApp::start().await;
    let send = async |bytes: &[u8]| converse(app.http_addr, bytes, Duration::from_secs(8)).await;

    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "a".repeat(9_000));
    let long = send(long.as_bytes()).await;
    assert!(long.starts_with("HTTP/1.1 414 ") && long.contains("uri_too_long"), "{long}");
    let wide =
        format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-wide: {}\r\n\r\n", "a".repeat(40_000));
    let wide = send(wide.as_bytes()).await;
    assert!(wide.starts_with("HTTP/1.1 431 ") && wide.contains("headers_too_large"), "{wide}");

    // Below us: answered by actix-http, without a body, and the connection ends.
    let huge = format!("GET / HTTP/1.1\r\nx-huge: {}", "a".repeat(200_000));
    assert!(send(huge.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert!(send(many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let answer = send(garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{garbage:?}: {answer}");
    }
    // The node is as it was.
    let response = app.http.get(app.at("/livez")).send().await.expect("answered");
    assert_eq!(response.status(), 200);
}

#[actix_web::test]
async fn queries_and_paths_are_refused_by_name() {
    let app = TestApp::start().await;
    let stage = Stage::open(&app.engine, |_| {}, routes).await;
    let get = async |path: &str| app.http.get(stage.at(path)).send().await.expect("answered");
    assert_eq!(get("/t/numbered/7?stars=3").await.text().await.expect("text"), "7 3");
    problem(get("/t/numbered/x?stars=3").await, 400, "invalid_path").await;
    problem(get("/t/numbered/%ff?stars=3").await, 400, "invalid_path").await;
    for query in ["", "stars=x", "stars=300", "stars=%ff", "stars=1&stars=2", "stars=1&colour=red"] {
        let refused = problem(get(&format!("/t/numbered/7?{query}")).await, 400, "invalid_query").await;
        let field = if query.contains("colour") { "colour" } else { "stars" };
        assert_eq!(refused["errors"][0]["field"], field, "{query}: {refused}");
    }
}

#[actix_web::test]
async fn a_panic_is_one_500_and_nobody_else_notices() {
    let app = TestApp::start().await;
    let stage = Stage::open(&app.engine, |_| {}, routes).await;
    let neighbour = app.http.post(stage.at("/t/echo")).json(&json!({ "text": "still here" }));
    let (broken, fine) = tokio::join!(app.http.get(stage.at("/t/broken")).send(), neighbour.send());
    let broken = broken.expect("answered");
    assert_eq!(broken.headers()["x-content-type-options"], "nosniff");
    let body = problem(broken, 500, "internal").await;
    assert!(!body.to_string().contains("the handler broke"), "{body}");
    assert_eq!(fine.expect("answered").status(), 200);
    assert_eq!(app.metric("nova_http_panics_total").await, Some(1.0));

    let body =
        problem(app.http.get(stage.at("/t/failing")).send().await.expect("answered"), 500, "internal").await;
    assert!(!body.to_string().contains("hunter2"), "{body}");
    assert_eq!(app.metric("nova_http_requests_in_flight").await, Some(0.0));
}

#[actix_web::test]
async fn a_bare_status_becomes_a_problem() {
    let app = TestApp::start().await;
    let stage = Stage::open(&app.engine, |_| {}, routes).await;
    for (status, code) in [
        (404, "not_found"),
        (409, "conflict"),
        (418, "malformed_request"),
        (503, "overloaded"),
        (501, "internal"),
    ] {
        let response = app.http.get(stage.at(&format!("/t/bare/{status}"))).send().await.expect("answered");
        assert_eq!(response.status().as_u16(), status);
        let body: Value = response.json().await.expect("a problem");
        assert_eq!(body["code"], code, "{body}");
    }
}

#[actix_web::test]
async fn a_request_keeps_its_id() {
    let app = TestApp::start().await;
    let sent =
        app.http.get(app.at("/livez")).header("x-request-id", "mine-1").send().await.expect("answered");
    assert_eq!(sent.headers()["x-request-id"], "mine-1");
    let odd = app.http.get(app.at("/livez")).header("x-request-id", "a b").send().await.expect("answered");
    assert!(odd.headers()["x-request-id"].to_str().expect("text").starts_with("req_"));
    let route = r#"nova_http_requests_total{method="GET",route="/livez",status="200"}"#;
    assert_eq!(app.metric(route).await, Some(2.0));
}

#[actix_web::test]
async fn answers_carry_what_browsers_need_to_know() {
    let app = TestApp::start().await;
    let plain = app.http.get(app.at("/livez")).send().await.expect("answered");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(plain.headers()[name], value);
    }
    assert!(!plain.headers().contains_key("strict-transport-security"));
    assert!(!plain.headers().contains_key("vary") && !plain.headers().contains_key("server"));
    let public =
        |config: &mut nova::config::Config| config.http.public_url = Some("https://nova.example".to_owned());
    let stage = Stage::open(&app.engine, public, routes).await;
    let secure = app.http.get(stage.at("/livez")).send().await.expect("answered");
    assert!(
        secure.headers()["strict-transport-security"].to_str().expect("text").starts_with("max-age=63072000")
    );
}

#[actix_web::test]
async fn only_pages_of_named_origins_may_call() {
    let app = TestApp::start().await;
    let change =
        |config: &mut nova::config::Config| config.http.cors_origins = vec!["https://app.example".to_owned()];
    let stage = Stage::open(&app.engine, change, routes).await;
    let ask = |origin: &'static str, preflight: bool| {
        let method = if preflight { Method::OPTIONS } else { Method::GET };
        let mut request = app.http.request(method, stage.at("/t/who")).header("origin", origin);
        if preflight {
            request = request
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization, idempotency-key");
        }
        async { request.send().await.expect("answered") }
    };
    let allowed = ask("https://app.example", true).await;
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example");
    assert_eq!(allowed.headers()["access-control-max-age"], "7200");
    assert!(allowed.headers()["access-control-allow-methods"].to_str().expect("text").contains("POST"));
    assert!(
        allowed.headers()["access-control-allow-headers"].to_str().expect("text").contains("idempotency-key")
    );
    assert!(!allowed.headers().contains_key("access-control-allow-credentials"));
    let vary: Vec<_> =
        allowed.headers().get_all("vary").iter().map(|value| value.to_str().expect("text")).collect();
    assert!(vary.contains(&"Origin"), "{vary:?}");

    problem(ask("https://evil.example", true).await, 403, "forbidden").await;
    let read = ask("https://app.example", false).await;
    assert_eq!(read.headers()["access-control-allow-origin"], "https://app.example");
    assert!(read.headers()["access-control-expose-headers"].to_str().expect("text").contains("etag"));
    let kept = ask("https://evil.example", false).await;
    assert!(kept.status() == 200 && !kept.headers().contains_key("access-control-allow-origin"));
    let no_page = app.http.get(stage.at("/t/who")).send().await.expect("answered");
    assert_eq!(no_page.headers()["vary"], "Origin");
}

#[actix_web::test]
async fn large_answers_are_packed_for_those_who_can_unpack() {
    use std::io::Read as _;
    let app = TestApp::start().await;
    let stage = Stage::open(&app.engine, |_| {}, routes).await;
    let get = |accept: Option<&'static str>| {
        let mut request = app.http.get(stage.at("/t/large"));
        if let Some(accept) = accept {
            request = request.header("accept-encoding", accept);
        }
        async { request.send().await.expect("answered") }
    };
    let plain = get(None).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    assert_eq!(plain.headers()["vary"], "Accept-Encoding");
    let plain = plain.bytes().await.expect("read");
    for (accept, coding) in
        [("gzip", "gzip"), ("br", "br"), ("gzip, br", "br"), ("gzip;q=0.5, br;q=0.1", "gzip")]
    {
        let packed = get(Some(accept)).await;
        assert_eq!(packed.headers()["content-encoding"], coding, "{accept}");
        let packed = packed.bytes().await.expect("read");
        assert!(packed.len() * 4 < plain.len(), "{} of {} bytes", packed.len(), plain.len());
        if coding == "gzip" {
            let mut whole = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut whole).expect("gzip");
            assert_eq!(whole, plain);
        }
    }
    for accept in ["identity", "br;q=0", "zstd", "nonsense;;;"] {
        assert!(!get(Some(accept)).await.headers().contains_key("content-encoding"), "{accept}");
    }
}

#[actix_web::test]
async fn the_document_is_not_sent_twice() {
    let app = TestApp::start().await;
    let first = app.http.get(app.at("/openapi.json")).send().await.expect("answered");
    assert_eq!(first.headers()["cache-control"], "private, no-cache");
    let tag = first.headers()["etag"].clone();
    let again =
        app.http.get(app.at("/openapi.json")).header("if-none-match", &tag).send().await.expect("answered");
    assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &tag));
    assert!(again.bytes().await.expect("read").is_empty());
}
