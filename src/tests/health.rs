//! What load balancers and operators ask a node.

use serde_json::Value;

use crate::app::{TestApp, eventually};

#[actix_web::test]
async fn a_started_node_is_live_and_ready_and_names_its_dependencies() {
    let app = TestApp::start().await;
    let live = app.http.get(app.at("/livez")).send().await.expect("answers");
    assert_eq!(live.status(), 200);
    let ready = app.http.get(app.at("/readyz")).send().await.expect("answers");
    assert_eq!(ready.status(), 200);
    let report: Value = ready.json().await.expect("JSON");
    assert_eq!(report["status"], "ready");
    let names: Vec<_> =
        report["dependencies"].as_array().expect("a list").iter().map(|d| &d["name"]).collect();
    assert_eq!(names, ["postgres", "bus"]);
    let health: Value =
        app.http.get(app.at("/api/v1/health")).send().await.expect("answers").json().await.expect("JSON");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(health["node"], app.engine.node.to_string());
}

#[actix_web::test]
async fn metrics_have_their_own_port() {
    let app = TestApp::start().await;
    assert_eq!(app.metric("nova_dependency_up{dependency=\"postgres\"}").await, Some(1.0));
    let elsewhere = app.http.get(app.at("/metrics")).send().await.expect("answers");
    assert_eq!(elsewhere.status(), 404);
}

#[actix_web::test]
async fn a_leaving_node_says_so_and_answers_what_is_open() {
    let app = TestApp::start().await;
    app.engine.health.drain();
    let ready = app.http.get(app.at("/readyz")).send().await.expect("answers");
    assert_eq!(ready.status(), 503);
    let report: Value = ready.json().await.expect("JSON");
    assert_eq!(report["status"], "draining");
    let addr = app.http_addr;
    app.stop();
    eventually("the port is free", async || std::net::TcpListener::bind(addr).ok()).await;
}
