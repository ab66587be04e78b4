//! What readers do, as their clients tell it: bounded, checked, and each event once.

use nova::events::{Event, Topic, id};
use nova_actors::id::{EventId, PostId, UserId};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::events::{beside, log};
use crate::social::Person;

fn now() -> String {
    instant(time::Duration::ZERO)
}

fn instant(from_now: time::Duration) -> String {
    let at = time::OffsetDateTime::now_utc() + from_now;
    at.format(&time::format_description::well_known::Rfc3339).expect("a time")
}

fn event(action: &str, post: &str) -> Value {
    json!({ "id": EventId::generate(), "action": action, "post": post, "position": 3, "level": "newest", "model": "chronological", "at": now() })
}

async fn tells(person: &Person<'_>, events: &[Value]) -> (u16, Value) {
    person.asks(Method::POST, "/v1/events", Some(json!({ "events": events }))).await
}

#[actix_rt::test]
async fn each_event_counts_once_however_often_it_is_sent() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let post = ann.posts("look").await;
    let mut dwell = event("dwell", &post);
    dwell["dwell_ms"] = json!(1500);
    let twice = event("like", &post);
    let nowhere = event("open", &PostId::generate().to_string());
    let batch = [event("impression", &post), dwell, twice.clone(), twice, nowhere];
    assert_eq!(tells(&bo, &batch).await, (202, json!({ "accepted": 3, "ignored": 2 })));
    // A retry, with something new.
    let again = [batch[0].clone(), batch[1].clone(), event("hide", &post)];
    assert_eq!(tells(&bo, &again).await, (202, json!({ "accepted": 1, "ignored": 2 })));
    // Many at once are one.
    let fresh = [event("open", &post)];
    let all = futures_util::future::join_all((0..8).map(|_| tells(&bo, &fresh))).await;
    let accepted: i64 = all
        .iter()
        .map(
            |(status, body)| {
                if *status == 202 { body["accepted"].as_i64().unwrap() } else { panic!("{body}") }
            },
        )
        .sum();
    assert_eq!(accepted, 1);
    // Another's client may use the same name, and that is another event.
    assert_eq!(tells(&ann, &batch[..1]).await.1["accepted"], 1);

    let store = beside(&app).await;
    let all = log(&store).await;
    let reader: UserId = bo.id().parse().unwrap();
    let of_bo: Vec<_> =
        all.iter().filter(|event| event.topic == Topic::Analytics && event.key == reader.as_uuid()).collect();
    let mut actions = Vec::new();
    for event in &of_bo {
        let Ok(Some(Event::BehaviourObserved(seen))) = event.event() else { panic!("{event:?}") };
        assert_eq!((id(&seen.post_id), seen.position), (post.parse::<PostId>().unwrap().as_uuid(), 3));
        assert_eq!((seen.level.as_str(), seen.model.as_str()), ("newest", "chronological"));
        actions.push((seen.action, seen.dwell_ms));
    }
    let wanted = [("impression", 0), ("dwell", 1500), ("like", 0), ("hide", 0), ("open", 0)];
    assert_eq!(actions, wanted.map(|(action, dwell)| (action.to_owned(), dwell)));
    let ids: std::collections::HashSet<_> = all.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), all.len(), "no two events have one id");

    // Ids are known for two days.
    let later = time::OffsetDateTime::now_utc() + time::Duration::hours(49);
    assert_eq!(store.sweep_behaviours(time::OffsetDateTime::now_utc()).await.unwrap(), 0);
    assert_eq!(store.sweep_behaviours(later).await.unwrap(), 6);
}

#[actix_rt::test]
async fn what_cannot_be_is_refused_with_its_field_and_nothing_of_it_is_kept() {
    let app = TestApp::start_with(|config| config.limits.user_requests_per_minute = 1_000).await;
    let ann = Person::new(&app, "ann").await;
    let post = ann.posts("look").await;
    let with = |field: &str, value: Value| {
        let mut event = event("impression", &post);
        event[field] = value;
        event
    };
    let wrong = [
        ("at", with("at", json!(instant(time::Duration::minutes(10))))),
        ("at", with("at", json!(instant(-time::Duration::hours(25))))),
        ("at", with("at", json!("yesterday"))),
        ("position", with("position", json!(10_001))),
        ("position", with("position", json!(-1))),
        ("dwell_ms", with("dwell_ms", json!(5))),
        ("dwell_ms", event("dwell", &post)),
        ("level", with("level", json!("a\u{202e}b"))),
        ("model", with("model", json!("m".repeat(65)))),
        ("action", with("action", json!("stare"))),
        ("post", with("post", json!(ann.id()))),
        ("id", with("id", json!("event_1"))),
        ("more", with("more", json!(1))),
    ];
    for (field, one) in wrong {
        let (status, body) = tells(&ann, &[event("impression", &post), one.clone()]).await;
        assert_eq!(status, 422, "{one}: {body}");
        let named = body["errors"][0]["field"].as_str().expect("a field");
        assert!(named.starts_with("events.1.") && named.ends_with(field), "{named} of {one}");
    }
    for count in [0, 101] {
        let events: Vec<_> = (0..count).map(|_| event("impression", &post)).collect();
        assert_eq!(tells(&ann, &events).await.1["errors"][0]["field"], "events");
    }
    let nobody = app.http.post(app.at("/v1/events")).json(&json!({ "events": [event("open", &post)] }));
    assert_eq!(nobody.send().await.expect("answered").status(), 401);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM behaviours")
        .fetch_one(beside(&app).await.pool())
        .await
        .unwrap();
    assert_eq!(kept, 0);

    let mut last = (0, Value::Null);
    for _ in 0..61 {
        last = tells(&ann, &[]).await;
        if last.0 == 429 {
            break;
        }
    }
    assert_eq!((last.0, &last.1["code"]), (429, &json!("rate_limited")));
    assert_eq!(app.metric(r#"nova_rate_limited_total{limit="events"}"#).await, Some(1.0));
}
