//! Heads of feeds, made from the log alone: they are what a fresh look says, and so again from any place in it and from nothing.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use nova::events::{Consumer, Event, HandleError, Logged, Topic, consumer, id};
use nova::store::events::ReplayFrom;
use reqwest::Method;
use sqlx::PgConnection;

use crate::app::TestApp;
use crate::events::{beside, log};
use crate::social::{Person, texts};

/// Makes the heads of feeds from nothing but what happened.
struct Heads;

#[async_trait]
impl Consumer for Heads {
    fn group(&self) -> &'static str {
        "heads"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Content, Topic::User]
    }

    async fn take(&self, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
        for event in events {
            let (table, one, other, there) = match event.event().map_err(HandleError::because)? {
                Some(Event::PostCreated(post)) => {
                    ("head_posts", post.post_id, post.author_id, post.visibility != 3)
                }
                Some(Event::PostDeleted(post)) => ("head_posts", post.post_id, post.author_id, false),
                Some(Event::UserFollowed(follow)) => {
                    ("head_follows", follow.follower_id, follow.followee_id, true)
                }
                Some(Event::UserUnfollowed(follow)) => {
                    ("head_follows", follow.follower_id, follow.followee_id, false)
                }
                _ => continue,
            };
            // The version, or the time of what has none, guards against what is older and comes late.
            let sql = format!(
                "INSERT INTO {table} AS h (one, other, there, top) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (one, other) DO UPDATE SET there = excluded.there, top = excluded.top WHERE h.top <= excluded.top"
            );
            let top = if event.version > 0 { event.version } else { event.place };
            let put =
                sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id(&one)).bind(id(&other)).bind(there).bind(top);
            put.execute(&mut *tx).await?;
        }
        Ok(())
    }
}

#[actix_rt::test]
async fn heads_made_again_from_the_log_are_what_a_fresh_look_says() {
    let app = TestApp::start().await;
    let store = beside(&app).await;
    sqlx::raw_sql(
        "CREATE TABLE head_posts (one uuid, other uuid, there boolean, top bigint, PRIMARY KEY (one, other));
         CREATE TABLE head_follows (one uuid, other uuid, there boolean, top bigint, PRIMARY KEY (one, other));",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let mut people = Vec::new();
    for n in 0..5 {
        people.push(Person::new(&app, &format!("person{n}")).await);
    }
    let mut dice = 7_u64;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((dice >> 33) % sides).unwrap()
    };
    let mut posts: Vec<(usize, String)> = Vec::new();
    for step in 0..120 {
        let (who, other) = (roll(5), roll(5));
        match roll(6) {
            0 | 1 => posts.push((who, people[who].posts(&format!("{step}")).await)),
            2 => posts.push((who, people[who].posts_for(&format!("secret {step}"), "private").await)),
            3 if !posts.is_empty() => {
                let (author, post) = posts.swap_remove(roll(posts.len() as u64));
                assert_eq!(
                    people[author].asks(Method::DELETE, &format!("/v1/posts/{post}"), None).await.0,
                    204
                );
            }
            4 if who != other => people[who].takes_back("follow", &people[other]).await,
            _ if who != other => people[who].puts("follow", &people[other]).await,
            _ => {}
        }
    }
    log(&store).await;
    let made = async || {
        consumer::drain(&store, &app.engine.metrics, &Heads).await.unwrap();
        let mut heads = BTreeMap::new();
        for (nth, person) in people.iter().enumerate() {
            let reader = person.id().parse::<nova_actors::id::UserId>().unwrap().as_uuid();
            let rows: Vec<String> = sqlx::query_scalar(
                "SELECT p.text FROM head_posts h JOIN posts p ON p.id = h.one
                 WHERE h.there AND h.other IN (SELECT f.other FROM head_follows f WHERE f.one = $1 AND f.there)
                 ORDER BY h.one DESC LIMIT 100",
            )
            .bind(reader)
            .fetch_all(store.pool())
            .await
            .unwrap();
            heads.insert(nth, rows);
        }
        heads
    };
    let from_log = made().await;
    for (nth, person) in people.iter().enumerate() {
        let own: BTreeSet<_> =
            texts(&person.reads(&format!("/v1/users/{}/posts?limit=100", person.id())).await)
                .into_iter()
                .collect();
        let fresh = texts(&person.reads("/v1/feeds/home?limit=100").await);
        let of_others: Vec<_> = fresh.into_iter().filter(|text| !own.contains(text)).collect();
        assert_eq!(from_log[&nth], of_others, "person {nth}");
    }
    assert!(from_log.values().map(Vec::len).sum::<usize>() > 20, "{from_log:?}");
    // From a place in the middle, and from the beginning: the same.
    for place in [8, 3, 1] {
        store.replay_group("heads", None, ReplayFrom::Place(place)).await.unwrap();
        assert_eq!(made().await, from_log, "replayed from {place}");
    }
    sqlx::raw_sql("TRUNCATE head_posts, head_follows").execute(store.pool()).await.unwrap();
    store.replay_group("heads", None, ReplayFrom::Place(1)).await.unwrap();
    assert_eq!(made().await, from_log, "made again from nothing");
}
