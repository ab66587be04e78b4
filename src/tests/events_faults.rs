//! The program is killed, and sessions are ended, at every step from a change to its effect: nothing is lost, nothing has its effect twice,
//! and what happens to one thing stays in order.
//!
//! A step is stopped where it is by a trigger that waits for a lock the test holds. Then the whole node goes by SIGKILL, or only the
//! session of that step, and the lock is let go.

mod heads;

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nova::events::{Consumer, Event, HandleError, Logged, Topic, consumer, id, sequencer};
use nova::store::Store;
use nova::store::events::Cursor;
use nova::telemetry::Metrics;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgConnection};
use uuid::Uuid;

use crate::accounts::PASSWORD;
use crate::app::eventually;
use crate::events::log;
use crate::program::Program;
use crate::services;

/// What the triggers wait for.
const LOCK: i64 = 0x0066_6175_6c74;

/// Where something is stopped: the name, the table, when, and for which rows.
const STEPS: &[(&str, &str, &str, &str)] = &[
    ("the change is written", "post_likes", "AFTER INSERT", "true"),
    ("its event is written", "outbox", "AFTER INSERT", "NEW.topic = 1"),
    ("the change is committed", "outbox", "DEFERRED", "NEW.topic = 1"),
    ("the sequencer has taken it", "outbox", "AFTER DELETE", "OLD.topic = 1"),
    ("the sequencer gives it a place", "event_parts", "AFTER UPDATE OR INSERT", "NEW.topic = 1"),
    ("the sequencer commits", "event_parts", "DEFERRED", "NEW.topic = 1"),
    ("the consumer has its effect", "outbox", "AFTER INSERT", "NEW.topic = 5"),
    (
        "the consumer moves its cursor",
        "event_groups",
        "AFTER UPDATE",
        "NEW.topic = 1 AND NEW.place > OLD.place",
    ),
    ("the consumer commits", "event_groups", "DEFERRED", "NEW.topic = 1"),
];

async fn arm(connection: &mut PgConnection, step: usize) {
    let (_, table, when, rows) = STEPS[step];
    let (kind, when) = match when {
        "DEFERRED" => ("CONSTRAINT TRIGGER", "AFTER INSERT OR UPDATE".to_owned()),
        when => ("TRIGGER", when.to_owned()),
    };
    let deferred = if kind == "TRIGGER" { "" } else { "DEFERRABLE INITIALLY DEFERRED" };
    let sql = format!(
        "CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF {rows} THEN PERFORM pg_advisory_xact_lock_shared({LOCK}); END IF;
             RETURN NULL;
         END $$;
         CREATE {kind} stop_here {when} ON {table} {deferred} FOR EACH ROW EXECUTE FUNCTION stop_here();"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// A node as a process of its own, on this database.
fn node(data: &std::path::Path, url: &str) -> Program {
    Program::serve_in(data, &[], &[("DATABASE_URL", url)])
}

struct Client {
    http: reqwest::Client,
    token: String,
}

impl Client {
    async fn asks(
        &self,
        at: &Program,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(u16, Value)> {
        let mut request =
            self.http.request(method, format!("{}{path}", at.url("http"))).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or(Value::Null)))
    }
}

async fn registers(http: &reqwest::Client, at: &Program, name: &str) -> Client {
    let body = json!({ "username": name, "email": format!("{name}@example.org"), "password": PASSWORD });
    let answer =
        http.post(format!("{}/v1/accounts", at.url("http"))).json(&body).send().await.expect("answered");
    let body: Value = answer.json().await.expect("JSON");
    let token = body["access_token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    Client { http: http.clone(), token }
}

/// The sessions that wait where they were stopped.
async fn stopped(connection: &mut PgConnection) -> Vec<i32> {
    let waiting = sqlx::query_scalar(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
         AND ((classid::bigint << 32) | objid::bigint) = $1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    );
    waiting.bind(LOCK).fetch_all(connection).await.unwrap()
}

#[actix_rt::test]
async fn at_every_step_a_node_or_a_session_is_killed_and_nothing_is_lost_or_done_twice() {
    let database = services::database().await;
    let store = database.store().await;
    let url = database.options().to_url_lossy().to_string();
    let data = tempfile::tempdir().unwrap();
    nova::app::use_ring();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let mut engine = node(data.path(), &url);
    let author = registers(&http, &engine, "author").await;
    let mut likers = Vec::new();
    for n in 0..STEPS.len() * 2 {
        likers.push(registers(&http, &engine, &format!("liker{n}")).await);
    }
    let post = author.asks(&engine, Method::POST, "/v1/posts", Some(json!({ "text": "0" }))).await.unwrap().1;
    let path = format!("/v1/posts/{}", post["id"].as_str().expect("an id"));
    let mut holder = database.options().connect().await.unwrap();
    let mut acknowledged = Vec::new();
    for (step, (name, ..)) in STEPS.iter().enumerate() {
        for whole_node in [true, false] {
            arm(&mut holder, step).await;
            sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut holder).await.unwrap();
            let nth = 2 * step + usize::from(whole_node);
            let like_path = format!("{path}/like");
            let like = likers[nth].asks(&engine, Method::PUT, &like_path, None);
            let killing = async {
                let pids = eventually(&format!("it stops where {name}"), async || {
                    let pids = stopped(&mut holder).await;
                    (!pids.is_empty()).then_some(pids)
                })
                .await;
                if whole_node {
                    let pid = i32::try_from(engine.pid()).ok().and_then(Pid::from_raw).expect("a process");
                    kill_process(pid, Signal::KILL).unwrap();
                } else {
                    sqlx::query("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid")
                        .bind(pids)
                        .execute(&mut holder)
                        .await
                        .unwrap();
                }
                sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(&mut holder).await.unwrap();
                eventually("nobody waits any more", async || {
                    stopped(&mut holder).await.is_empty().then_some(())
                })
                .await;
                sqlx::raw_sql("DROP FUNCTION stop_here CASCADE").execute(&mut holder).await.unwrap();
            };
            let (liked, ()) = tokio::join!(like, killing);
            if liked.is_some_and(|(status, _)| status == 200) {
                acknowledged.push(nth);
            }
            if whole_node {
                engine = node(data.path(), &url);
            }
            // Life goes on: the next version of the post.
            let edit = Some(json!({ "text": format!("{nth}") }));
            eventually("it can be edited", async || {
                let (status, _) = author.asks(&engine, Method::PATCH, &path, edit.clone()).await?;
                (status == 200).then_some(())
            })
            .await;
        }
    }
    assert!(acknowledged.len() >= STEPS.len(), "{acknowledged:?}");

    // Who was not answered asks again; the same is no second like.
    for liker in &likers {
        let (status, body) = liker.asks(&engine, Method::PUT, &format!("{path}/like"), None).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    let wanted = likers.len();
    let told = eventually("everybody's like is told to its author", async || {
        let all = log(&store).await;
        let likes = all.iter().filter(|event| event.kind == "PostLiked").count();
        let of_likes = |event: &&Logged| matches!(event.event(), Ok(Some(Event::NotificationCreated(notice))) if notice.kind == "like");
        (likes >= wanted && all.iter().filter(of_likes).count() >= wanted).then_some(all)
    })
    .await;
    let mut by: HashMap<Uuid, usize> = HashMap::new();
    let mut versions = Vec::new();
    for event in &told {
        match event.event() {
            Ok(Some(Event::PostLiked(like))) => *by.entry(id(&like.user_id)).or_default() += 1,
            Ok(Some(Event::NotificationCreated(notice))) if notice.kind == "like" => {
                *by.entry(id(&notice.sender_id)).or_default() += 10
            }
            Ok(Some(Event::PostCreated(_) | Event::PostUpdated(_))) => versions.push(event.version),
            _ => {}
        }
    }
    assert_eq!(by.len(), wanted);
    assert!(by.values().all(|told| *told == 11), "each like and each notification once: {by:?}");
    let edits = 1 + 2 * i64::try_from(STEPS.len()).unwrap();
    assert_eq!(versions, (1..=edits).collect::<Vec<_>>(), "every version once, in order");
    let ids: BTreeSet<_> = told.iter().map(|event| event.id.as_uuid()).collect();
    assert_eq!(ids.len(), told.len());
    eventually("the group has taken everything", async || {
        let lag = store.event_lag().await.unwrap();
        (lag.iter().map(|lag| lag.behind).sum::<i64>() == 0).then_some(())
    })
    .await;
    assert!(store.dead_letters(None, 10).await.unwrap().is_empty());
}

/// The process whose session holds the sequencer's lock, told by the port of its connection.
async fn sequencer_pid(store: &Store) -> Option<i32> {
    let held = sqlx::query_scalar(
        "SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND ((l.classid::bigint << 32) | l.objid::bigint) = $1",
    );
    held.bind(sequencer::LOCK).fetch_optional(store.pool()).await.unwrap()
}

#[actix_rt::test]
async fn another_node_gives_places_when_the_one_that_did_dies_or_hangs() {
    let database = services::database().await;
    let store = database.store().await;
    let url = database.options().to_url_lossy().to_string();
    nova::app::use_ring();
    let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // The first is the sequencer, since there is no other.
    let first = node(folders[0].path(), &url);
    let before = eventually("there is a sequencer", async || sequencer_pid(&store).await).await;
    let second = node(folders[1].path(), &url);
    let author = registers(&http, &second, "author").await;
    assert_eq!(sequencer_pid(&store).await, Some(before), "one at a time");
    let taken_over = async |after: &str, by: &Program, was: i32| {
        let began = Instant::now();
        let posted =
            author.asks(by, Method::POST, "/v1/posts", Some(json!({ "text": after }))).await.unwrap();
        assert_eq!(posted.0, 201, "{}", posted.1);
        log(&store).await;
        let now = eventually("another session has the lock", async || sequencer_pid(&store).await).await;
        assert_ne!(now, was);
        eprintln!("{after}: events went on after {} ms", began.elapsed().as_millis());
        now
    };
    // It hangs: its session is ended for its silence.
    let pid = i32::try_from(first.pid()).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let now = taken_over("the sequencer hung", &second, before).await;
    kill_process(pid, Signal::CONT).unwrap();
    // It wakes, and finds that it is not the one any more.
    assert_eq!(
        author.asks(&first, Method::POST, "/v1/posts", Some(json!({ "text": "awake" }))).await.unwrap().0,
        201
    );
    log(&store).await;
    assert_eq!(sequencer_pid(&store).await, Some(now));
    // It dies.
    second.end(Signal::KILL);
    taken_over("the sequencer was killed", &first, now).await;
}

/// Takes events in one statement for each batch.
struct Bulk;

#[async_trait]
impl Consumer for Bulk {
    fn group(&self) -> &'static str {
        "bulk"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Content]
    }

    async fn take(&self, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
        let ids: Vec<_> = events.iter().map(|event| event.id.as_uuid()).collect();
        // No ON CONFLICT: a second effect would be an error.
        sqlx::query("INSERT INTO effects (grp, event_id, n) SELECT 'bulk', unnest($1::uuid[]), 1")
            .bind(ids)
            .execute(tx)
            .await?;
        Ok(())
    }
}

#[actix_rt::test]
async fn ten_thousand_events_wait_for_a_paused_group_and_are_drained_by_two() {
    let database = services::database().await;
    let store = database.store().await;
    sqlx::raw_sql("CREATE TABLE effects (grp text, event_id uuid, n int, PRIMARY KEY (grp, event_id))")
        .execute(store.pool())
        .await
        .unwrap();
    let metrics = Metrics::new();
    store.join_group("bulk", Bulk.topics()).await.unwrap();
    assert_eq!(store.pause_group("bulk", None, true).await.unwrap(), 6);
    sqlx::query(
        "INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
         SELECT event_id_at(now()), 1, event_part(key, 6::smallint), key, 'PostDeleted', 1, 1, '', now()
         FROM (SELECT gen_random_uuid() AS key FROM generate_series(1, 10000)) k",
    )
    .execute(store.pool())
    .await
    .unwrap();
    let mut connection = store.connection().await.unwrap();
    while sequencer::sequence(&mut connection).await.unwrap() > 0 {}
    let behind = async || {
        let lag = store.event_lag().await.unwrap();
        lag.iter().map(|lag| lag.behind).sum::<i64>()
    };
    consumer::drain(&store, &metrics, &Bulk).await.unwrap();
    assert_eq!(behind().await, 10_000);
    store.pause_group("bulk", None, false).await.unwrap();
    // Two nodes' loops at once: each part has one owner at a time.
    let (one, other) =
        tokio::join!(consumer::drain(&store, &metrics, &Bulk), consumer::drain(&store, &metrics, &Bulk));
    assert!(one.is_ok() && other.is_ok());
    eventually("everything is taken", async || {
        consumer::drain(&store, &metrics, &Bulk).await.unwrap();
        (behind().await == 0).then_some(())
    })
    .await;
    let effects: i64 =
        sqlx::query_scalar("SELECT count(*) FROM effects").fetch_one(store.pool()).await.unwrap();
    assert_eq!(effects, 10_000);
}

#[actix_rt::test]
async fn days_are_made_ahead_and_dropped_after_a_week() {
    let database = services::database().await;
    let store = database.store().await;
    let mut connection = store.connection().await.unwrap();
    let days = async || {
        let names = sqlx::query_scalar::<_, String>(
            "SELECT right(c.relname, 8) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'event_log'::regclass ORDER BY 1",
        );
        names.fetch_all(store.pool()).await.unwrap()
    };
    let today = time::OffsetDateTime::now_utc();
    let mut dropped = 0;
    for day in 0..=12_i64 {
        let now = today + time::Duration::days(day);
        dropped += sequencer::keep_days(&mut connection, Some(now)).await.unwrap();
        // An event of that day, and the ones of two days ahead would find theirs.
        for ahead in 0..=2 {
            sqlx::query(
                "INSERT INTO event_log (topic, part, place, logged_at, event_id, key, kind, schema_version, version, payload, at)
                 VALUES (1, 0, $1, $2, gen_random_uuid(), gen_random_uuid(), 'PostDeleted', 1, 1, '', $2)",
            )
            .bind(day * 10 + ahead)
            .bind(now + time::Duration::days(ahead))
            .execute(&mut connection)
            .await
            .unwrap();
        }
    }
    assert_eq!(dropped, 5, "days 0 to 4 are more than a week old on day 12");
    let name = |day: i64| {
        let at = today + time::Duration::days(day);
        format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day())
    };
    assert_eq!(days().await, (5..=14).map(name).collect::<Vec<_>>());
    // A group that slept goes on with the oldest that is kept.
    let mut tx = store.pool().begin().await.unwrap();
    let cursor = Cursor { topic: Topic::Content, part: 0, place: 0, failures: 0 };
    let (events, _) = store.events_after(&mut tx, &cursor, 1).await.unwrap();
    assert_eq!(events.first().map(|event| event.place), Some(32), "what was written for day 5 on day 3");
    // What is being read is dropped at the next look, and nobody waits for that.
    let later = today + time::Duration::days(13);
    assert_eq!(sequencer::keep_days(&mut connection, Some(later)).await.unwrap(), 0);
    tx.rollback().await.unwrap();
    assert_eq!(sequencer::keep_days(&mut connection, Some(later)).await.unwrap(), 1);
}
