//! Who may ask how often, as clients meet it.

use nova::config::Config;
use serde_json::Value;

use crate::app::TestApp;

async fn limited(change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::start_with(|config| {
        config.limits.ip_requests_per_minute = 4;
        change(config);
    })
    .await
}

async fn ask(app: &TestApp, forwarded: Option<&str>) -> reqwest::Response {
    let mut request = app.http.get(app.at("/livez"));
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    request.send().await.expect("answered")
}

#[actix_web::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let app = limited(|_| {}).await;
    for left in [3, 2, 1, 0] {
        let answer = ask(&app, None).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ratelimit-policy"], "\"ip\";q=4;w=60");
        let standing = answer.headers()["ratelimit"].to_str().expect("text");
        assert!(standing.starts_with(&format!("\"ip\";r={left};t=")), "{standing}");
    }
    let refused = ask(&app, None).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers()["ratelimit"].to_str().expect("text").starts_with("\"ip\";r=0;"));
    let wait: u64 = refused.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=15).contains(&wait), "{wait}");
    assert_eq!(refused.json::<Value>().await.expect("a problem")["code"], "rate_limited");
    // The metrics have a door of their own.
    assert_eq!(app.metric(r#"nova_rate_limited_total{limit="ip"}"#).await, Some(1.0));
}

#[actix_web::test]
async fn nobody_lies_about_where_they_are() {
    let app = limited(|_| {}).await;
    for number in 0..4 {
        assert_eq!(ask(&app, Some(&format!("203.0.113.{number}"))).await.status(), 200);
    }
    assert_eq!(ask(&app, Some("203.0.113.9")).await.status(), 429);
}

#[actix_web::test]
async fn behind_a_trusted_proxy_everybody_has_a_bucket() {
    let app =
        limited(|config| config.http.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")]).await;
    for _ in 0..4 {
        assert_eq!(ask(&app, Some("6.6.6.6, 203.0.113.1")).await.status(), 200);
    }
    assert_eq!(ask(&app, Some("7.7.7.7, 203.0.113.1")).await.status(), 429);
    assert_eq!(ask(&app, Some("203.0.113.2")).await.status(), 200);
    // One customer's /64 is one bucket.
    for number in 0..4 {
        assert_eq!(ask(&app, Some(&format!("2001:db8::{number}"))).await.status(), 200);
    }
    assert_eq!(ask(&app, Some("2001:db8::ffff")).await.status(), 429);
    assert_eq!(ask(&app, Some("2001:db8:0:1::1")).await.status(), 200);
}

#[actix_web::test]
async fn zero_is_no_limit() {
    let app = TestApp::start().await;
    let answer = ask(&app, None).await;
    assert!(
        !answer.headers().contains_key("ratelimit") && !answer.headers().contains_key("ratelimit-policy")
    );
}
