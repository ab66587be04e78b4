//! `nova rank-train` learns from what clients told over REST, or refuses.

use nova::feeds::model::Model;
use nova::feeds::training::{RankTrain, TrainError};
use nova::store::{Store, StoreConfig};
use nova_actors::id::EventId;
use reqwest::Method;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::app::{TestApp, eventually};
use crate::events::log;
use crate::social::Person;

/// Visits of each reader: as many as fit into a day, which is how old what a client tells may be.
const VISITS: i32 = 24;
/// Three posts of one author, then three of another.
const POSTS: usize = 6;

/// Readers, and the posts they were shown, the oldest first.
struct World<'a> {
    readers: Vec<Person<'a>>,
    posts: Vec<String>,
}

impl<'a> World<'a> {
    /// Readers who have liked what Ann posted before; since then she has posted three times, and Bo three times after her.
    async fn new(app: &'a TestApp) -> World<'a> {
        let (ann, bo) = (Person::new(app, "ann").await, Person::new(app, "bobo").await);
        let mut readers = Vec::new();
        for name in ["cyd", "dan", "eve", "fay", "gus"] {
            let reader = Person::new(app, name).await;
            reader.puts("follow", &ann).await;
            reader.puts("follow", &bo).await;
            readers.push(reader);
        }
        for number in 0..2 {
            let liked = ann.posts(&format!("before {number}")).await;
            for reader in &readers {
                assert_eq!(reader.asks(Method::PUT, &format!("/v1/posts/{liked}/like"), None).await.0, 200);
            }
        }
        let mut posts = Vec::new();
        for author in [&ann, &bo] {
            for number in 0..POSTS / 2 {
                posts.push(author.posts(&format!("{number}")).await);
            }
        }
        // Two days go by.
        let store = beside(app).await;
        for table in ["posts", "post_likes"] {
            let earlier = format!("UPDATE {table} SET created_at = created_at - interval '2 days'");
            sqlx::query(sqlx::AssertSqlSafe(earlier)).execute(store.pool()).await.unwrap();
        }
        World { readers, posts }
    }

    /// Everybody comes again and again, is shown all of it, the newest first, opens some and hides one.
    async fn is_read(&self, opened: [usize; 3], hidden: usize) {
        let now = OffsetDateTime::now_utc();
        for reader in &self.readers {
            let mut told = Vec::new();
            for visit in 0..VISITS {
                let came = now - Duration::hours(23) + Duration::minutes(55) * visit;
                let mut tell = |action: &str, nth: usize, after_s: i64| {
                    told.push(json!({
                        "id": EventId::generate(), "action": action, "post": self.posts[nth], "position": POSTS - 1 - nth,
                        "level": "newest", "model": "chronological",
                        "at": (came + Duration::seconds(after_s)).format(&Rfc3339).unwrap(),
                    }));
                };
                (0..POSTS).rev().for_each(|nth| tell("impression", nth, 0));
                opened.into_iter().for_each(|nth| tell("open", nth, 20));
                tell("hide", hidden, 40);
            }
            for batch in told.chunks(100) {
                let (status, body) =
                    reader.asks(Method::POST, "/v1/events", Some(json!({ "events": batch }))).await;
                assert_eq!((status, &body["accepted"]), (202, &json!(batch.len())), "{body}");
            }
        }
    }
}

async fn train(app: &TestApp) -> Result<Vec<String>, TrainError> {
    log(&beside(app).await).await;
    let mut config = app.engine.config.clone();
    config.bus.redis_url = None;
    RankTrain { out: None, name: None, impressions_max: 10_000, config: Box::new(config) }.run().await
}

/// A way to the database beside the node's own.
async fn beside(app: &TestApp) -> Store {
    let options = app.engine.store.pool().connect_options();
    Store::connect((*options).clone(), &StoreConfig::default()).await.unwrap()
}

#[actix_rt::test]
async fn what_readers_did_becomes_an_order_they_are_shown() {
    let app = TestApp::start().await;
    let world = World::new(&app).await;
    assert!(
        matches!(train(&app).await, Err(TrainError::TooFew { visits: 0, .. })),
        "nobody has told anything yet"
    );
    // They open what Ann posted, though Bo's is newer, and like one of it.
    world.is_read([0, 1, 2], 5).await;
    let reader = &world.readers[0];
    assert_eq!(reader.asks(Method::PUT, &format!("/v1/posts/{}/like", world.posts[1]), None).await.0, 200);
    let said = train(&app).await.expect("it is better than time");
    let visits = world.readers.len() * VISITS as usize;
    assert!(
        said[0].contains(&format!("was learned from {} visits and orders {}", visits * 4 / 5, visits / 5)),
        "{said:?}"
    );
    let file = std::fs::read(app.engine.config.feed_models().join("home.json"))
        .expect("it is written where the engine looks");
    let model = Model::read(&file).expect("what is written can be read");
    // The running engine reads it, and what readers were fond of is shown first.
    let page = eventually("pages are ordered by it", async || {
        let page = reader.reads("/v1/feeds/home?mode=ranked").await;
        (page["ranking"]["model"] == model.name()).then_some(page)
    })
    .await;
    assert_eq!(page["ranking"]["level"], "model");
    let authors: Vec<&Value> =
        page["items"].as_array().unwrap().iter().map(|item| &item["author"]["username"]).collect();
    assert_eq!(authors[..3], ["ann", "ann", "ann"], "{authors:?}");
}

#[actix_rt::test]
async fn readers_who_want_the_newest_get_no_model() {
    let app = TestApp::start().await;
    let world = World::new(&app).await;
    world.is_read([3, 4, 5], 0).await;
    let refused = train(&app).await.expect_err("no order is better than time's");
    assert!(
        matches!(refused, TrainError::NoBetter { chronological, judged_by: 24, .. } if chronological > 0.999),
        "{refused}"
    );
    assert!(!app.engine.config.feed_models().join("home.json").exists(), "nothing was written");
}
