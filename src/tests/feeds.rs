//! Feeds are walked while everything changes under the reader, and answered while parts are away.

mod heads;
mod heads_walk;

use std::collections::{BTreeMap, BTreeSet};

use nova::config::FeedHeads;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
use crate::services::{self, Redis};
use crate::social::{Person, texts};

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// A page comes from the head once the log is heard.
async fn has_a_head(reader: &Person<'_>) {
    eventually("a page from the head", async || {
        let page = reader.reads("/v1/feeds/home").await;
        (page["ranking"]["level"] == "newest").then_some(())
    })
    .await;
}

/// Walks twenty pages while posts arrive, are edited and deleted, authors are unfollowed, muted and blocked.
async fn walks(app: &TestApp, seed: u64, mode: &str) {
    println!("seed {seed}, {mode}");
    let mut dice = StdRng::seed_from_u64(seed);
    let reader = Person::new(app, &format!("reader{mode}{seed}")).await;
    let mut authors = Vec::new();
    for n in 0..5 {
        let author = Person::new(app, &format!("author{n}{mode}{seed}")).await;
        reader.puts("follow", &author).await;
        authors.push(author);
    }
    // Every post by id: whose, and whether the reader may still be shown it.
    let mut posts: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..66 {
        let author = dice.random_range(0..authors.len());
        let visibility =
            ["public", "followers", "private"][usize::from(n % 3 == 0) + usize::from(n % 9 == 0)];
        let id = authors[author].posts_for(&format!("post {n}"), visibility).await;
        if visibility != "private" {
            posts.insert(id, author);
        }
    }
    let before: BTreeSet<String> = posts.keys().cloned().collect();
    let (mut gone, mut hidden): (BTreeSet<String>, BTreeSet<usize>) = Default::default();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for page_number in 0.. {
        let page = reader.reads(&format!("/v1/feeds/home?mode={mode}&limit=3{cursor}")).await;
        for id in ids(&page) {
            let author = posts.get(&id).unwrap_or_else(|| panic!("{id} is not for the reader"));
            assert!(!gone.contains(&id), "{id} was deleted");
            assert!(!hidden.contains(author), "{id} is of somebody hidden");
            assert!(!seen.contains(&id), "{id} is repeated");
            seen.push(id);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        assert!(page_number < 40, "the walk does not end");
        match dice.random_range(0..5) {
            0 => {
                let author = dice.random_range(0..authors.len());
                let id = authors[author].posts("meanwhile").await;
                posts.insert(id, author);
            }
            1 | 2 => {
                let nth = dice.random_range(0..posts.len());
                let (id, author) = posts.iter().nth(nth).map(|(id, author)| (id.clone(), *author)).unwrap();
                if !gone.contains(&id) {
                    assert_eq!(
                        authors[author].asks(Method::DELETE, &format!("/v1/posts/{id}"), None).await.0,
                        204
                    );
                    gone.insert(id);
                }
            }
            3 => {
                let nth = dice.random_range(0..posts.len());
                let (id, author) = posts.iter().nth(nth).map(|(id, author)| (id.clone(), *author)).unwrap();
                let edit = json!({ "text": "edited" });
                authors[author].asks(Method::PATCH, &format!("/v1/posts/{id}"), Some(edit)).await;
            }
            _ if hidden.len() < 3 => {
                let author = dice.random_range(0..authors.len());
                // Each holds at once, on pages of a snapshot too.
                match dice.random_range(0..3) {
                    0 => authors[author].puts("block", &reader).await,
                    1 => reader.puts("mute", &authors[author]).await,
                    _ => reader.takes_back("follow", &authors[author]).await,
                }
                hidden.insert(author);
            }
            _ => {}
        }
    }
    let missed: Vec<_> = before
        .iter()
        .filter(|id| !seen.contains(id) && !gone.contains(*id) && !hidden.contains(&posts[*id]))
        .collect();
    assert!(missed.is_empty(), "{missed:?} were left out");
    if mode == "latest" {
        assert!(seen.is_sorted_by(|a, b| a > b), "the newest first");
    }
}

#[actix_rt::test]
async fn twenty_pages_are_walked_without_repeat_gap_or_anything_forbidden() {
    walks_with_seeds(&TestApp::start().await).await;
}

#[actix_rt::test]
async fn twenty_pages_are_walked_without_repeat_gap_or_anything_forbidden_with_heads_in_redis() {
    let app = with_heads_in_redis().await;
    walks_with_seeds(&app).await;
    assert!(app.metric("nova_feed_heads_redis_total{outcome=\"found\"}").await > Some(20.0));
}

/// A node that keeps heads in a Redis.
async fn with_heads_in_redis() -> TestApp {
    let redis = services::redis().await;
    TestApp::start_with(|config| {
        config.bus.redis_url = Some(redis.url.into());
        config.bus.redis_namespace = redis.namespace;
        config.feeds.feed_heads = FeedHeads::Redis;
    })
    .await
}

async fn walks_with_seeds(app: &TestApp) {
    // A seed that fails is printed; `NOVA_WALK_SEED` walks it again.
    let seeds = match std::env::var("NOVA_WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => vec![1, 2],
    };
    for seed in seeds {
        for mode in ["latest", "ranked"] {
            walks(app, seed, mode).await;
        }
    }
}

#[actix_rt::test]
async fn a_head_is_what_postgres_says_whatever_happens() {
    head_is_what_postgres_says(&TestApp::start().await).await;
}

#[actix_rt::test]
async fn a_head_in_redis_is_what_postgres_says_whatever_happens() {
    head_is_what_postgres_says(&with_heads_in_redis().await).await;
}

async fn head_is_what_postgres_says(app: &TestApp) {
    let (ann, bo, cy) =
        (Person::new(app, "ann").await, Person::new(app, "bobo").await, Person::new(app, "cyd").await);
    cy.puts("follow", &ann).await;
    has_a_head(&cy).await;
    ann.posts("one").await;
    let level = async || cy.reads("/v1/feeds/home").await["ranking"]["level"].clone();
    assert_eq!((cy.home().await, level().await), (vec!["one".to_owned()], json!("newest")));
    // Follows, mutes and blocks hold from the next page on.
    bo.posts("two").await;
    cy.puts("follow", &bo).await;
    assert_eq!(cy.home().await, ["two", "one"]);
    cy.puts("mute", &ann).await;
    assert_eq!(cy.home().await, ["two"]);
    cy.takes_back("mute", &ann).await;
    let private = ann.posts_for("three", "private").await;
    assert_eq!(cy.home().await, ["two", "one"]);
    let public = json!({ "visibility": "public" });
    assert_eq!(ann.asks(Method::PATCH, &format!("/v1/posts/{private}"), Some(public)).await.0, 200);
    assert_eq!(cy.home().await, ["three", "two", "one"]);
    bo.puts("block", &cy).await;
    assert_eq!(cy.home().await, ["three", "one"]);
    // Heads that are lost are made again, and no page is empty meanwhile.
    app.engine.feeds.forget_all();
    assert_eq!(cy.home().await, ["three", "one"]);
    assert_eq!(cy.reads("/v1/feeds/discover").await["items"], json!([]));
    let found = bo.reads("/v1/feeds/discover").await;
    assert_eq!(texts(&found), ["three", "one"]);
    let ranked = cy.reads("/v1/feeds/home?mode=ranked").await;
    assert_eq!(
        (&ranked["ranking"]["level"], ranked["items"].as_array().unwrap().len()),
        (&json!("engagement"), 2)
    );
}

#[actix_rt::test]
async fn another_node_hears_of_posts_over_the_log() {
    let one = TestApp::start().await;
    hears_over_the_log(&one, &beside(&one).await).await;
}

#[actix_rt::test]
async fn another_node_hears_of_posts_over_the_log_with_heads_in_redis() {
    let one = with_heads_in_redis().await;
    hears_over_the_log(&one, &beside(&one).await).await;
}

/// The same person at another node.
fn at<'a>(app: &'a TestApp, person: &Person<'_>) -> Person<'a> {
    Person { app, session: person.session.clone() }
}

/// Another node on the database and the Redis of one.
async fn beside(one: &TestApp) -> TestApp {
    let url = sqlx::ConnectOptions::to_url_lossy(&*one.engine.store.pool().connect_options()).to_string();
    let (redis, heads) = (one.engine.config.bus.clone(), one.engine.config.feeds.feed_heads);
    TestApp::start_with(|config| {
        config.database.database_url = Some(url.into());
        config.bus = redis;
        config.feeds.feed_heads = heads;
    })
    .await
}

async fn hears_over_the_log(one: &TestApp, other: &TestApp) {
    let (ann, bo) = (Person::new(one, "ann").await, Person::new(one, "bobo").await);
    bo.puts("follow", &ann).await;
    let there = Person { app: other, session: bo.session.clone() };
    has_a_head(&there).await;
    let id = ann.posts("from afar").await;
    eventually("the other node's head has it", async || {
        let page = there.reads("/v1/feeds/home").await;
        (page["ranking"]["level"] == "newest" && texts(&page) == ["from afar"]).then_some(())
    })
    .await;
    // An edit and a deletion are there on the next page, not when the log is heard.
    let path = format!("/v1/posts/{id}");
    assert_eq!(ann.asks(Method::PATCH, &path, Some(json!({ "text": "nearer" }))).await.0, 200);
    assert_eq!(there.home().await, ["nearer"]);
    assert_eq!(ann.asks(Method::DELETE, &path, None).await.0, 204);
    for _ in 0..20 {
        assert!(there.home().await.is_empty(), "a deleted post came back");
    }
    ann.posts("from afar").await;
    eventually("the other node's head has the next one", async || {
        (there.home().await == ["from afar"]).then_some(())
    })
    .await;
    bo.takes_back("follow", &ann).await;
    eventually("the other node's head is made anew", async || there.home().await.is_empty().then_some(()))
        .await;
}

#[actix_rt::test]
async fn a_node_that_starts_finds_the_heads_of_its_readers() {
    let first = with_heads_in_redis().await;
    let before = beside(&first).await;
    let (ann, bo) = (Person::new(&first, "ann").await, Person::new(&first, "bobo").await);
    bo.puts("follow", &ann).await;
    let mut all = Vec::new();
    for n in 0..30 {
        all.insert(0, ann.posts(&format!("post {n}")).await);
    }
    let heads_made = async |app: &TestApp| app.metric("nova_feed_heads_made_total").await;
    // Until the follow is heard the head is made anew.
    let stays = eventually("the head stays", async || {
        has_a_head(&at(&before, &bo)).await;
        let made = heads_made(&before).await;
        at(&before, &bo).reads("/v1/feeds/home?limit=100").await;
        (heads_made(&before).await == made).then_some(made)
    })
    .await;
    assert!(stays > Some(0.0));
    before.stop();
    // What happens while it is away is in the head all the same.
    all.insert(0, ann.posts("meanwhile").await);
    let after = beside(&first).await;
    let reader = at(&after, &bo);
    has_a_head(&reader).await;
    let page = reader.reads("/v1/feeds/home?limit=100").await;
    assert_eq!((ids(&page), &page["ranking"]["level"]), (all.clone(), &json!("newest")));
    let ranked = reader.reads("/v1/feeds/home?mode=ranked&limit=100").await;
    assert_eq!(ids(&ranked).len(), all.len());
    assert_eq!(heads_made(&after).await, Some(0.0), "no head was made");
    assert!(after.metric("nova_feed_heads_redis_total{outcome=\"found\"}").await >= Some(2.0));
    // And it goes on from there.
    all.insert(0, ann.posts("and on").await);
    eventually("the next post", async || {
        (ids(&reader.reads("/v1/feeds/home?limit=100").await) == all).then_some(())
    })
    .await;
    assert_eq!(heads_made(&after).await, Some(0.0), "still none was made");
}

#[actix_rt::test]
async fn pages_are_complete_while_the_redis_with_the_heads_is_flushed_stopped_and_dead() {
    let mut redis = Redis::start();
    let url = redis.url();
    let app = TestApp::start_with(|config| {
        config.bus.redis_url = Some(url.clone().into());
        config.feeds.feed_heads = FeedHeads::Redis;
    })
    .await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    bo.puts("follow", &ann).await;
    let mut told = Vec::new();
    for n in 0..30 {
        told.insert(0, ann.posts(&format!("post {n}")).await);
    }
    has_a_head(&bo).await;
    let walk = async || {
        let (mut seen, mut levels, mut cursor) = (Vec::new(), BTreeSet::new(), String::new());
        loop {
            let page = bo.reads(&format!("/v1/feeds/home?limit=7{cursor}")).await;
            seen.extend(ids(&page));
            levels.insert(page["ranking"]["level"].as_str().unwrap().to_owned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (seen, levels),
            }
        }
    };
    let made = app.metric("nova_feed_heads_made_total").await;
    let client = ::redis::Client::open(url.as_str()).unwrap();
    let mut hand = client.get_multiplexed_async_connection().await.unwrap();
    let flushing = async {
        for _ in 0..200 {
            ::redis::cmd("FLUSHALL").query_async::<()>(&mut hand).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let walking = async {
        for _ in 0..8 {
            assert_eq!(walk().await.0, told, "a page was not complete while heads were lost");
        }
    };
    tokio::join!(flushing, walking);
    assert!(app.metric("nova_feed_heads_made_total").await > made, "heads were lost and made again");
    let database = BTreeSet::from(["database".to_owned()]);
    // It does not answer; what it is asked waits no longer than half of the level's time.
    redis.signal(rustix::process::Signal::STOP);
    told.insert(0, ann.posts("while it is slow").await);
    assert_eq!(walk().await, (told.clone(), database.clone()));
    redis.signal(rustix::process::Signal::CONT);
    has_a_head(&bo).await;
    assert_eq!(walk().await.0, told);
    redis.kill();
    told.insert(0, ann.posts("while it is dead").await);
    assert_eq!(walk().await, (told.clone(), database));
    redis.revive();
    has_a_head(&bo).await;
    assert_eq!(walk().await.0, told);
}

#[actix_rt::test]
async fn heads_in_redis_need_a_redis() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = crate::app::config(dir.path());
    config.feeds.feed_heads = FeedHeads::Redis;
    let refused = nova::app::App::build(config).await.err().expect("refused").to_string();
    assert!(refused.contains("set REDIS_URL, or NOVA_FEED_HEADS=memory"), "{refused}");
}

#[actix_rt::test]
async fn a_feed_is_answered_while_the_database_is_away() {
    let app = TestApp::start_with(|config| {
        config.feeds.feed_newest_ms = 500;
        config.feeds.feed_database_ms = 500;
    })
    .await;
    let ann = Person::new(&app, "ann").await;
    for n in 0..3 {
        ann.posts(&format!("post {n}")).await;
    }
    has_a_head(&ann).await;
    let page = ann.reads("/v1/feeds/home?limit=2").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let next = page["next_cursor"].as_str().unwrap().to_owned();
    // Whoever asks for these tables waits, as behind a disk that does not answer.
    let mut beside = app.engine.store.connection().await.unwrap();
    for statement in ["BEGIN", "LOCK TABLE posts, post_likes IN ACCESS EXCLUSIVE MODE"] {
        sqlx::query(statement).execute(&mut beside).await.unwrap();
    }
    let page = ann.reads("/v1/feeds/home?limit=2").await;
    assert_eq!(
        (texts(&page), &page["ranking"]["level"]),
        (vec!["post 2".to_owned(), "post 1".to_owned()], &json!("last_good"))
    );
    assert!(page["ranking"]["reason"].is_string());
    let below = ann.reads(&format!("/v1/feeds/home?limit=2&cursor={next}")).await;
    assert_eq!(
        (&below["items"], below["next_cursor"].is_string()),
        (&json!([]), true),
        "it can be asked again"
    );
    sqlx::query("ROLLBACK").execute(&mut beside).await.unwrap();
    eventually("the feed is fresh again", async || {
        let page = ann.reads(&format!("/v1/feeds/home?limit=2&cursor={next}")).await;
        (texts(&page) == ["post 0"]).then_some(())
    })
    .await;
}
