//! Feeds are walked while everything changes under the reader, and answered while parts are away.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
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
    let app = TestApp::start().await;
    // A seed that fails is printed; `NOVA_WALK_SEED` walks it again.
    let seeds = match std::env::var("NOVA_WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => vec![1, 2],
    };
    for seed in seeds {
        for mode in ["latest", "ranked"] {
            walks(&app, seed, mode).await;
        }
    }
}

#[actix_rt::test]
async fn a_head_is_what_postgres_says_whatever_happens() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await);
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
    let url = sqlx::ConnectOptions::to_url_lossy(&*one.engine.store.pool().connect_options()).to_string();
    let redis = one.engine.config.bus.clone();
    let other = TestApp::start_with(|config| {
        config.database.database_url = Some(url.into());
        config.bus = redis;
    })
    .await;
    let (ann, bo) = (Person::new(&one, "ann").await, Person::new(&one, "bobo").await);
    bo.puts("follow", &ann).await;
    let there = Person { app: &other, session: bo.session.clone() };
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
