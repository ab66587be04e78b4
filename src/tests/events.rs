//! What happens is told once, in order, whatever dies on the way.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use nova::events::{Consumer, Event, HandleError, Logged, Topic, consumer};
use nova::store::events::{Cursor, ReplayFrom};
use nova::store::{Store, StoreConfig};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::app::{TestApp, eventually};
use crate::social::Person;

/// Counts in PostgreSQL how often each event had its effect; fails and panics as it is told.
pub struct Counting {
    group: &'static str,
    /// Every so many batches fail after their effect; 0 for none.
    fails_every: usize,
    /// This kind cannot be taken.
    poison: &'static str,
    batches: AtomicUsize,
}

impl Counting {
    pub fn new(group: &'static str) -> Counting {
        Counting { group, fails_every: 0, poison: "", batches: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl Consumer for Counting {
    fn group(&self) -> &'static str {
        self.group
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Content, Topic::User]
    }

    async fn take(&self, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
        for event in events {
            if event.kind == self.poison {
                return Err(HandleError::because("it is poison"));
            }
            sqlx::query(
                "INSERT INTO effects (grp, event_id, n) VALUES ($1, $2, 1) ON CONFLICT (grp, event_id) DO UPDATE SET n = effects.n + 1",
            )
            .bind(self.group)
            .bind(event.id.as_uuid())
            .execute(&mut *tx)
            .await?;
        }
        let batch = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        match self.fails_every {
            every if every > 0 && batch.is_multiple_of(2 * every) => panic!("as a mistake would"),
            every if every > 0 && batch.is_multiple_of(every) => Err(HandleError::because("the power went")),
            _ => Ok(()),
        }
    }
}

/// A way to the database of its own: the node's pool is the node's to close.
pub async fn beside(app: &TestApp) -> Store {
    let options = app.engine.store.pool().connect_options();
    let store = Store::connect((*options).clone(), &StoreConfig::default()).await.unwrap();
    sqlx::query("CREATE TABLE effects (grp text, event_id uuid, n int, PRIMARY KEY (grp, event_id))")
        .execute(store.pool())
        .await
        .unwrap();
    store
}

/// Everything in the log, once all that was told is in it.
pub async fn log(store: &Store) -> Vec<Logged> {
    eventually("the outbox is empty", async || {
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(store.pool()).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    let mut all = Vec::new();
    for topic in Topic::ALL {
        for part in 0..topic.parts() {
            let cursor = nova::store::events::Cursor { topic: *topic, part, place: 0, failures: 0 };
            let mut tx = store.pool().begin().await.unwrap();
            let has: Option<i64> =
                sqlx::query_scalar("SELECT head FROM event_parts WHERE topic = $1 AND part = $2")
                    .bind(topic.number())
                    .bind(part)
                    .fetch_optional(&mut *tx)
                    .await
                    .unwrap();
            let Some(head) = has else { continue };
            let (events, _) = store.events_after(&mut tx, &cursor, 100_000).await.unwrap();
            let places: Vec<_> = events.iter().map(|event| event.place).collect();
            assert_eq!(places, (1..=head).collect::<Vec<_>>(), "{} {part}: places are dense", topic.name());
            assert!(events.iter().all(|event| event.topic.part_of(event.key) == part));
            all.extend(events);
        }
    }
    all
}

pub async fn effects(store: &Store, group: &str) -> Vec<i32> {
    let rows = sqlx::query_scalar("SELECT n FROM effects WHERE grp = $1").bind(group);
    rows.fetch_all(store.pool()).await.unwrap()
}

#[actix_rt::test]
async fn what_people_do_is_told_in_order_with_its_versions() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    bo.puts("follow", &ann).await;
    bo.puts("follow", &ann).await;
    let id = ann.posts("one @bobo #tag").await;
    let path = format!("/v1/posts/{id}");
    for text in ["two", "two", "three"] {
        assert_eq!(ann.asks(Method::PATCH, &path, Some(json!({ "text": text }))).await.0, 200);
    }
    for method in [Method::PUT, Method::PUT, Method::DELETE] {
        assert_eq!(bo.asks(method, &format!("{path}/like"), None).await.0, 200);
    }
    let said = json!({ "text": "hello" });
    let comment = bo.asks(Method::POST, &format!("{path}/comments"), Some(said)).await.1;
    let comment = format!("/v1/comments/{}", comment["id"].as_str().unwrap());
    assert_eq!(bo.asks(Method::DELETE, &comment, None).await.0, 204);
    assert_eq!(ann.asks(Method::DELETE, &path, None).await.0, 204);
    bo.puts("mute", &ann).await;
    ann.puts("block", &bo).await;
    ann.takes_back("block", &bo).await;

    let all = log(&beside(&app).await).await;
    let kinds = |topic: Topic| {
        let of = all.iter().filter(|event| event.topic == topic);
        of.map(|event| (event.kind.as_str(), event.version)).collect::<Vec<_>>()
    };
    let told = [
        ("PostCreated", 1),
        ("PostUpdated", 2),
        ("PostUpdated", 3),
        ("PostLiked", 0),
        ("PostUnliked", 0),
        ("CommentCreated", 0),
        ("CommentDeleted", 0),
        ("PostDeleted", 4),
    ];
    assert_eq!(kinds(Topic::Content), told, "what changes nothing is not told");
    let mut users: Vec<_> = kinds(Topic::User).into_iter().map(|(kind, _)| kind).collect();
    users.sort_unstable();
    let told = [
        "UserBlocked",
        "UserBlocked",
        "UserFollowed",
        "UserMuted",
        "UserRegistered",
        "UserRegistered",
        "UserUnfollowed",
    ];
    assert_eq!(users, told);
    let Ok(Some(Event::PostCreated(created))) =
        all.iter().find(|event| event.kind == "PostCreated").unwrap().event()
    else {
        panic!("it can be read");
    };
    assert_eq!(
        (created.text.as_str(), created.tags, created.mentions.len()),
        ("one @bobo #tag", vec!["tag".to_owned()], 1)
    );
}

#[actix_rt::test]
async fn connections_die_everywhere_and_nothing_is_lost_or_done_twice() {
    let app = TestApp::start().await;
    let store = beside(&app).await;
    let mut people = Vec::new();
    for n in 0..4 {
        people.push(Person::new(&app, &format!("poster{n}")).await);
    }
    let metrics = app.engine.metrics.clone();
    let counting = Counting { fails_every: 7, ..Counting::new("storm") };
    let reading = tokio::spawn(consumer::run(store.clone(), metrics.clone(), counting));

    // Somebody ends every session of the engine again and again: the sequencer's, the consumers', those of requests.
    let posting = AtomicBool::new(true);
    let options = store.pool().connect_options();
    let killing = async {
        let mut killer = sqlx::ConnectOptions::connect(&*options).await.unwrap();
        let mut killed = 0;
        while posting.load(Ordering::Relaxed) {
            let ended: i64 = sqlx::query_scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5",
            )
            .fetch_one(&mut killer)
            .await
            .unwrap();
            killed += ended;
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        let _closed = killer.close().await;
        killed
    };
    let posting_all = async {
        let posts = people.iter().map(|person| async move {
            let mut acknowledged = Vec::new();
            for n in 0..25 {
                let text = json!({ "text": format!("post {n}") });
                let (status, body) = person.asks(Method::POST, "/v1/posts", Some(text)).await;
                assert!([201, 500, 503].contains(&status), "{body}");
                if status != 201 {
                    continue;
                }
                let id = body["id"].as_str().unwrap().to_owned();
                let path = format!("/v1/posts/{id}");
                let (status, body) =
                    person.asks(Method::PATCH, &path, Some(json!({ "text": format!("edited {n}") }))).await;
                let version = if status == 200 { body["version"].as_i64().unwrap() } else { 1 };
                acknowledged.push((id.parse::<nova_actors::id::PostId>().unwrap(), version));
            }
            acknowledged
        });
        let acknowledged = join_all(posts).await.concat();
        posting.store(false, Ordering::Relaxed);
        acknowledged
    };
    let (acknowledged, killed) = tokio::join!(posting_all, killing);
    assert!(killed > 10, "{killed} sessions were ended");
    assert!(acknowledged.len() > 10, "{} posts went through", acknowledged.len());

    let all = log(&store).await;
    let mut versions: HashMap<_, Vec<i64>> = HashMap::new();
    for event in all.iter().filter(|event| event.topic == Topic::Content) {
        versions.entry(event.key).or_default().push(event.version);
    }
    for (id, version) in &acknowledged {
        let told =
            versions.get(&id.as_uuid()).unwrap_or_else(|| panic!("{id} was acknowledged and not told"));
        assert!(told.contains(version), "{id}: {told:?} lacks {version}");
    }
    for (key, told) in &versions {
        assert_eq!(*told, (1..=told.len() as i64).collect::<Vec<_>>(), "{key}: every version once, in order");
    }
    // What was told is what is there: nothing of a change that was rolled back.
    let rows: Vec<(uuid::Uuid, i64)> =
        sqlx::query_as("SELECT id, version FROM posts").fetch_all(store.pool()).await.unwrap();
    let there: BTreeMap<_, _> = rows.into_iter().collect();
    let told: BTreeMap<_, _> = versions.iter().map(|(key, told)| (*key, told.len() as i64)).collect();
    assert_eq!(told, there);

    eventually("the group has taken everything", async || {
        let lag = store.event_lag().await.ok()?;
        let mine = lag.iter().filter(|lag| lag.group == "storm");
        (mine.map(|lag| lag.behind).sum::<i64>() == 0).then_some(())
    })
    .await;
    reading.abort();
    let effects = effects(&store, "storm").await;
    let wanted = all.iter().filter(|event| [Topic::Content, Topic::User].contains(&event.topic)).count();
    assert_eq!((effects.len(), effects.iter().all(|n| *n == 1)), (wanted, true), "each had its effect once");
}

#[actix_rt::test]
async fn a_group_is_paused_drained_replayed_and_goes_on_past_poison() {
    let app = TestApp::start().await;
    let beside = beside(&app).await;
    let ann = Person::new(&app, "ann").await;
    let (store, metrics) = (&beside, &app.engine.metrics);
    let reader = Counting::new("reader");
    store.join_group("reader", reader.topics()).await.unwrap();
    assert_eq!(store.pause_group("reader", None, true).await.unwrap(), 9);
    // A part nothing was told in yet ends where one stands.
    let nowhere = Cursor { topic: Topic::TrustSafety, part: 0, place: 0, failures: 0 };
    let (nothing, top) = store.events_read(&nowhere, 10).await.unwrap();
    assert_eq!((nothing.len(), top), (0, 0));
    let mut posts = Vec::new();
    for n in 0..30 {
        posts.push(ann.posts(&format!("post {n}")).await);
    }
    let read_of = |all: &[Logged]| all.iter().filter(|event| reader.topics().contains(&event.topic)).count();
    let all = read_of(&log(store).await);
    consumer::drain(store, metrics, &reader).await.unwrap();
    let behind = async || {
        let lag = store.event_lag().await.unwrap();
        lag.iter().filter(|lag| lag.group == "reader").map(|lag| lag.behind).sum::<i64>()
    };
    assert_eq!((behind().await, effects(store, "reader").await.len()), (all as i64, 0));
    store.pause_group("reader", None, false).await.unwrap();
    consumer::drain(store, metrics, &reader).await.unwrap();
    assert_eq!((behind().await, effects(store, "reader").await), (0, vec![1; all]));

    assert_eq!(store.replay_group("reader", None, ReplayFrom::Place(1)).await.unwrap(), 9);
    consumer::drain(store, metrics, &reader).await.unwrap();
    assert_eq!(effects(store, "reader").await, vec![2; all], "a replay has its effect again");

    // One event nobody can take holds up nobody.
    assert_eq!(ann.asks(Method::DELETE, &format!("/v1/posts/{}", posts[0]), None).await.0, 204);
    for n in 0..3 {
        ann.posts(&format!("later {n}")).await;
    }
    let all = read_of(&log(store).await);
    let picky = Counting { poison: "PostDeleted", ..Counting::new("picky") };
    eventually("the poison is among the dead letters", async || {
        consumer::drain(store, metrics, &picky).await.unwrap();
        (store.dead_letters(Some("picky"), 10).await.unwrap().len() == 1).then_some(())
    })
    .await;
    eventually("everything else is taken", async || {
        consumer::drain(store, metrics, &picky).await.unwrap();
        (effects(store, "picky").await.len() == all - 1).then_some(())
    })
    .await;
    let letters = store.dead_letters(Some("picky"), 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event.kind.as_str(), letters[0].error.as_str()), ("PostDeleted", "it is poison"));
    assert_eq!(store.drop_dead_letters("picky", None).await.unwrap(), 1);
}
