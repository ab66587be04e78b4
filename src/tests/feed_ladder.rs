//! Every level of the ladder, with what it stands on killed, slow or lying: the answer is 200, and says where it comes from.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nova::feeds::experiments::Experiment;
use nova::feeds::features::NAMES;
use nova::identity::Role;
use nova_actors::id::{PostId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::app::{TestApp, eventually};
use crate::social::{Person, texts};

/// A model that puts first what is liked most.
fn put_model(folder: &Path, slot: &str, name: &str) {
    let weights: BTreeMap<_, _> =
        NAMES.iter().map(|feature| (*feature, f64::from(u8::from(*feature == "likes")))).collect();
    let file = json!({ "format": 1, "name": name, "features": 1, "weights": weights });
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(format!("{slot}.json")), file.to_string()).unwrap();
}

async fn ranked(reader: &Person<'_>) -> Value {
    reader.reads("/v1/feeds/home?mode=ranked").await
}

/// Waits until a page comes from this level, for this reason.
async fn comes_from(reader: &Person<'_>, path: &str, level: &str, reason: Option<&str>) -> Value {
    eventually(&format!("{path} from {level} because of {reason:?}"), async || {
        let page = reader.reads(path).await;
        let ranking = &page["ranking"];
        (ranking["level"] == level && ranking["reason"].as_str() == reason).then_some(page)
    })
    .await
}

#[actix_rt::test]
async fn a_model_orders_while_it_is_good_and_explains_itself_to_administrators() {
    let app = TestApp::start().await;
    let folder = app.engine.config.feed_models();
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    bo.puts("follow", &ann).await;
    let liked = ann.posts("old and liked").await;
    for n in 0..3 {
        ann.posts(&format!("new {n}")).await;
    }
    for who in [&ann, &bo] {
        assert_eq!(who.asks(Method::PUT, &format!("/v1/posts/{liked}/like"), None).await.0, 200);
    }
    let path = "/v1/feeds/home?mode=ranked";
    comes_from(&bo, path, "engagement", Some("no_model")).await;
    put_model(&folder, "home", "liked-first");
    let page = comes_from(&bo, path, "model", None).await;
    assert_eq!(
        (&page["ranking"]["model"], texts(&page)[0].as_str()),
        (&json!("liked-first"), "old and liked")
    );

    // A file that is wrong changes nothing and is counted.
    std::fs::write(folder.join("home.json"), "{\"format\":1,\"weights\":{\"age\":1e999}}").unwrap();
    eventually("the file is refused", async || {
        (app.metric("nova_feed_models_refused_total").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(ranked(&bo).await["ranking"]["model"], "liked-first");

    let explained = format!("{path}&explain=true");
    assert_eq!(bo.asks(Method::GET, &explained, None).await.0, 403);
    app.engine.identity.set_role(bo.id().parse().unwrap(), Role::Admin, true).await.unwrap();
    let explain = &bo.reads(&explained).await["ranking"]["explain"];
    assert_eq!(
        (&explain["tried"][0]["level"], &explain["tried"][0]["outcome"]),
        (&json!("model"), &json!("ok"))
    );
    let first = &explain["posts"][0];
    assert_eq!(first["post"], json!(liked));
    let ln3 = 3.0_f64.ln();
    for number in [&first["score"], &first["features"]["likes"], &first["parts"]["likes"]] {
        assert!((number.as_f64().unwrap() - ln3).abs() < 1e-9, "{first}");
    }
    std::fs::remove_file(folder.join("home.json")).unwrap();
    comes_from(&bo, path, "engagement", Some("no_model")).await;
}

#[actix_rt::test]
async fn a_level_that_is_too_slow_is_passed_and_left_alone() {
    let app = TestApp::start_with(|config| {
        config.feeds.feed_model_ms = 100;
        config.feeds.feed_engagement_ms = 100;
    })
    .await;
    put_model(&app.engine.config.feed_models(), "home", "m");
    let ann = Person::new(&app, "ann").await;
    for n in 0..3 {
        ann.posts(&format!("post {n}")).await;
    }
    let path = "/v1/feeds/home?mode=ranked&limit=2";
    // Whoever keeps an order waits: what ranks is slow, what is newest is not.
    let mut beside = app.engine.store.connection().await.unwrap();
    for statement in ["BEGIN", "LOCK TABLE feed_snapshots IN ACCESS EXCLUSIVE MODE"] {
        sqlx::query(statement).execute(&mut beside).await.unwrap();
    }
    // After five failures the levels are not tried for a while.
    let page = comes_from(&ann, path, "newest", Some("breaker_open")).await;
    assert_eq!(texts(&page), ["post 2", "post 1"]);
    for level in ["model", "engagement"] {
        let series = format!("nova_feed_level_failures_total{{level=\"{level}\",reason=\"too_slow\"}}");
        assert!(app.metric(&series).await >= Some(5.0), "{level}");
    }
    sqlx::query("ROLLBACK").execute(&mut beside).await.unwrap();
    // Found out by one page, and the others follow.
    eventually("a better level gives pages again", async || {
        let page = ann.reads(path).await;
        ["model", "engagement"].contains(&page["ranking"]["level"].as_str().unwrap()).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn heads_that_lie_or_are_lost_under_load_cost_nothing_that_may_be_read() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
    bo.puts("follow", &ann).await;
    let mut told = Vec::new();
    for n in 0..30 {
        told.push(ann.posts(&format!("post {n}")).await);
    }
    comes_from(&bo, "/v1/feeds/home", "newest", None).await;
    // What is no post, what is private, and what is of somebody who is not followed and blocks.
    let private = ann.posts_for("for ann", "private").await;
    let blocked = cy.posts_for("for followers", "followers").await;
    let author: UserId = ann.id().parse().unwrap();
    for lie in [PostId::generate(), private.parse().unwrap(), blocked.parse().unwrap()] {
        app.engine.feeds.posted(author, lie, false);
    }
    told.reverse();
    let walk = async || {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = bo.reads(&format!("/v1/feeds/home?limit=7{cursor}")).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    };
    assert_eq!(walk().await, told);
    let losing = async {
        for _ in 0..200 {
            app.engine.feeds.forget_all();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let walking = async {
        for _ in 0..8 {
            assert_eq!(walk().await, told, "a page was not complete while heads were lost");
        }
    };
    tokio::join!(losing, walking);
}

#[actix_rt::test]
async fn the_emergency_switch_takes_everything_that_is_kept_out_of_the_way() {
    let app = TestApp::start().await;
    put_model(&app.engine.config.feed_models(), "home", "m");
    let ann = Person::new(&app, "ann").await;
    ann.posts("one").await;
    comes_from(&ann, "/v1/feeds/home", "newest", None).await;
    let now = OffsetDateTime::now_utc();
    app.engine.store.set_feeds_direct(true, now).await.unwrap();
    for path in ["/v1/feeds/home", "/v1/feeds/home?mode=ranked"] {
        let page = comes_from(&ann, path, "database", Some("direct")).await;
        assert_eq!(texts(&page), ["one"]);
    }
    app.engine.store.set_feeds_direct(false, now).await.unwrap();
    comes_from(&ann, "/v1/feeds/home", "newest", None).await;
    comes_from(&ann, "/v1/feeds/home?mode=ranked", "model", None).await;
}

#[actix_rt::test]
async fn while_the_database_does_not_answer_every_page_is_200_within_the_budgets() {
    let app = TestApp::start_with(|config| {
        config.feeds.feed_model_ms = 200;
        config.feeds.feed_engagement_ms = 200;
        config.feeds.feed_newest_ms = 200;
        config.feeds.feed_database_ms = 200;
    })
    .await;
    put_model(&app.engine.config.feed_models(), "home", "m");
    let ann = Person::new(&app, "ann").await;
    ann.posts("one").await;
    eventually("a page is kept", async || {
        let page = ann.reads("/v1/feeds/home").await;
        (texts(&page) == ["one"] && page["ranking"]["level"] != "last_good").then_some(())
    })
    .await;
    let mut beside = app.engine.store.connection().await.unwrap();
    for statement in ["BEGIN", "LOCK TABLE posts, post_likes IN ACCESS EXCLUSIVE MODE"] {
        sqlx::query(statement).execute(&mut beside).await.unwrap();
    }
    // The budgets of all levels, and what a busy machine adds.
    let most = Duration::from_millis(4 * 200) + Duration::from_secs(3);
    for nth in 0..12 {
        let path = ["/v1/feeds/home?mode=ranked", "/v1/feeds/home"][nth % 2];
        let began = Instant::now();
        let page = ann.reads(path).await;
        assert!(began.elapsed() < most, "{path} took {:?}", began.elapsed());
        assert_eq!(
            (texts(&page), &page["ranking"]["level"]),
            (vec!["one".to_owned()], &json!("last_good")),
            "{page}"
        );
        assert!(page["ranking"]["reason"].is_string());
    }
    sqlx::query("ROLLBACK").execute(&mut beside).await.unwrap();
    eventually("pages are fresh again", async || {
        (ann.reads("/v1/feeds/home").await["ranking"]["level"] != "last_good").then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn whom_an_experiment_makes_a_difference_to_is_told_once() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    bo.puts("follow", &ann).await;
    let old = ann.posts("old and liked").await;
    let cy = Person::new(&app, "cyd").await;
    for who in [&ann, &bo, &cy] {
        assert_eq!(who.asks(Method::PUT, &format!("/v1/posts/{old}/like"), None).await.0, 200);
    }
    ann.posts("new").await;
    app.engine.identity.set_role(bo.id().parse().unwrap(), Role::Admin, true).await.unwrap();
    let begin = async |name: &str, arms: [&str; 2]| {
        let arms = arms.iter().map(|arm| arm.parse().unwrap()).collect();
        let new = Experiment { name: name.to_owned(), salt: "s".to_owned(), ramp: 10_000, arms };
        new.check().unwrap();
        app.engine.store.put_experiment(&new, OffsetDateTime::now_utc()).await.unwrap();
        let path = "/v1/feeds/home?mode=ranked&explain=true";
        eventually("the reader is in it", async || {
            let page = bo.reads(path).await;
            (page["ranking"]["explain"]["experiment"]["name"] == name).then_some(page)
        })
        .await
    };
    let exposures = async || {
        let mut beside = app.engine.store.connection().await.unwrap();
        let both = "SELECT (SELECT count(*) FROM outbox WHERE kind = 'ExperimentExposed')
                         + (SELECT count(*) FROM event_log WHERE kind = 'ExperimentExposed')";
        sqlx::query_scalar::<_, i64>(both).fetch_one(&mut beside).await.unwrap()
    };
    // Without a model both arms order by engagement: it made no difference, and nobody was exposed.
    begin("a-same", ["control:1:control", "other:1:engagement"]).await;
    assert_eq!(exposures().await, 0);
    assert!(app.engine.store.end_experiment("a-same").await.unwrap());
    let page = begin("b-order", ["control:1:control", "newest:1:newest"]).await;
    let arm = page["ranking"]["explain"]["experiment"]["arm"].clone();
    let wanted = if arm == "newest" { "new" } else { "old and liked" };
    assert_eq!(texts(&page)[0], wanted, "{arm}");
    for _ in 0..3 {
        ranked(&bo).await;
    }
    eventually("the exposure is told", async || (exposures().await > 0).then_some(())).await;
    ranked(&bo).await;
    assert_eq!(exposures().await, 1, "once");
}
