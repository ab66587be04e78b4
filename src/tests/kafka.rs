//! The bridge of the event log: a real broker is told everything, in order for each key, whoever dies on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use nova::events::kafka::records::partition;
use nova::events::schema::{Envelope, MessagesSent};
use nova::events::{Logged, Topic};
use nova::store::Store;
use prost::Message as _;
use reqwest::Method;
use rskafka::BackoffConfig;
use rskafka::client::partition::UnknownTopicHandling;
use rskafka::client::{Client, ClientBuilder};
use rustix::process::Signal;
use serde_json::json;
use sqlx::ConnectOptions as _;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::app::TestApp;
use crate::chat_people;
use crate::events::{beside, log};
use crate::live_s3::S3;
use crate::program::Program;
use crate::services::{self, eventually, free_port};
use crate::social::Person;

/// The first start installs it.
const PATIENCE: Duration = Duration::from_secs(180);

/// A broker. It is killed when it is dropped.
struct Broker {
    port: u16,
    storage: String,
    child: Child,
    /// Where it keeps what it has acknowledged; without one it forgets with its end.
    s3: Option<S3>,
}

impl Broker {
    async fn start() -> Broker {
        Broker::on(free_port(), "memory://tansu/".to_owned(), None).await
    }

    /// One that has what it acknowledged after it was killed.
    async fn start_durable() -> Broker {
        let s3 = S3::start(free_port(), "kafka").await;
        Broker::on(free_port(), "s3://kafka/".to_owned(), Some(s3)).await
    }

    async fn on(port: u16, storage: String, s3: Option<S3>) -> Broker {
        let child = Broker::spawn(port, &storage, s3.as_ref());
        let broker = Broker { port, storage, child, s3 };
        broker.client().await;
        broker
    }

    fn spawn(port: u16, storage: &str, s3: Option<&S3>) -> Child {
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka-server");
        let mut command = Command::new(script);
        command.arg(port.to_string()).arg(storage).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        if let Some(s3) = s3 {
            command.env("AWS_ENDPOINT", &s3.url);
        }
        command.spawn().expect("scripts/kafka-server can be run")
    }

    async fn kill(&mut self) {
        self.child.kill().await.expect("our own child");
    }

    fn revive(&mut self) {
        self.child = Broker::spawn(self.port, &self.storage, self.s3.as_ref());
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    async fn client(&self) -> Client {
        let retries = BackoffConfig { deadline: Some(Duration::from_secs(1)), ..BackoffConfig::default() };
        eventually("the broker answers", PATIENCE, async || {
            let client = ClientBuilder::new(vec![self.address()]).backoff_config(retries.clone());
            client.build().await.ok()
        })
        .await
    }

    /// Everything in a topic, partition by partition, in order.
    async fn records(&self, topic: &str) -> Vec<Told> {
        let client = self.client().await;
        let topics = client.list_topics().await.expect("it answers");
        let Some(there) = topics.iter().find(|there| there.name == topic) else { return Vec::new() };
        let mut all = Vec::new();
        for number in &there.partitions {
            let from = client.partition_client(topic, *number, UnknownTopicHandling::Retry).await.unwrap();
            let mut next = 0;
            loop {
                let (records, _) = from.fetch_records(next, 1..4 << 20, 50).await.expect("it answers");
                let Some(last) = records.last() else { break };
                next = last.offset + 1;
                all.extend(records.into_iter().map(|read| {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                    let header = |name: &str| text(&read.record.headers[name]);
                    let envelope = Envelope::decode(read.record.value.as_deref().unwrap()).unwrap();
                    let told = Told {
                        partition: *number as usize,
                        partitions: there.partitions.len(),
                        key: text(read.record.key.as_deref().unwrap()).parse().unwrap(),
                        id: header("event_id").parse().unwrap(),
                        at_ms: read.record.timestamp.timestamp_millis(),
                        envelope,
                    };
                    assert_eq!(header("kind"), told.envelope.kind);
                    assert_eq!(told.id.as_bytes().as_slice(), told.envelope.event_id);
                    assert_eq!(told.key.as_bytes().as_slice(), told.envelope.key);
                    assert_eq!(told.at_ms, told.envelope.at_ms);
                    told
                }));
            }
        }
        all
    }
}

/// A record of the bridge.
struct Told {
    partition: usize,
    partitions: usize,
    key: Uuid,
    id: Uuid,
    at_ms: i64,
    envelope: Envelope,
}

/// The ids of each key, in the order in which they were seen first; and how many were seen again.
fn by_key(seen: impl IntoIterator<Item = (Uuid, Uuid)>) -> (BTreeMap<Uuid, Vec<Uuid>>, usize) {
    let (mut keys, mut known, mut again): (BTreeMap<Uuid, Vec<Uuid>>, _, _) =
        (BTreeMap::new(), BTreeSet::new(), 0);
    for (key, id) in seen {
        match known.insert(id) {
            true => keys.entry(key).or_default().push(id),
            false => again += 1,
        }
    }
    (keys, again)
}

/// Fails unless Kafka has of these topics what the log has, in the order of the log for each key; says how many records came again.
async fn is_the_log(broker: &Broker, prefix: &str, topics: &[Topic], log: &[Logged]) -> usize {
    let mut again = 0;
    for topic in topics {
        let told = broker.records(&format!("{prefix}{}", topic.name())).await;
        let logged: Vec<_> = log.iter().filter(|event| event.topic == *topic).collect();
        for told in &told {
            assert_eq!(told.partition, partition(told.key, told.partitions), "{}", topic.name());
            let event = logged.iter().find(|event| event.id.as_uuid() == told.id).expect("it was logged");
            assert_eq!(event.envelope(), told.envelope, "what was logged is what is told");
        }
        let (there, repeats) = by_key(told.iter().map(|told| (told.key, told.id)));
        let (here, _) = by_key(logged.iter().map(|event| (event.key, event.id.as_uuid())));
        assert!(there == here, "{}: not all, or not in order\n{there:?}\n{here:?}", topic.name());
        again += repeats;
    }
    again
}

/// Waits until everything in the log has been taken.
async fn is_drained(store: &Store) {
    eventually("Kafka has everything", PATIENCE, async || {
        let lags = store.event_lag().await.ok()?;
        let mut kafka = lags.iter().filter(|lag| lag.group == "kafka").peekable();
        (kafka.peek().is_some() && kafka.all(|lag| lag.behind == 0)).then_some(())
    })
    .await;
}

const PEOPLE_AND_POSTS: &[Topic] = &[Topic::Content, Topic::User, Topic::Notification];

#[actix_rt::test]
async fn what_happens_is_told_to_kafka_under_the_same_keys_in_the_same_order() {
    let broker = Broker::start().await;
    let app = TestApp::start_with(|config| {
        config.kafka.kafka_brokers = vec![broker.address()];
        config.kafka.kafka_topic_prefix = Some("town.".to_owned());
    })
    .await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    bo.puts("follow", &ann).await;
    for number in 0..5 {
        let id = ann.posts(&format!("{number} @bobo")).await;
        for verb in [Method::PUT, Method::DELETE, Method::PUT] {
            assert_eq!(bo.asks(verb, &format!("/v1/posts/{id}/like"), None).await.0, 200);
        }
    }
    let (cy, dan) =
        (chat_people::Person::new(&app, "cyd").await, chat_people::Person::new(&app, "dan").await);
    let talk = cy.writes_to(&dan).await;
    for number in 0..20 {
        cy.says(&talk, &format!("word {number}")).await;
    }
    let store = beside(&app).await;
    let all = log(&store).await;
    is_drained(&store).await;
    assert_eq!(
        is_the_log(&broker, "town.", PEOPLE_AND_POSTS, &all).await,
        0,
        "nothing failed, so nothing came twice"
    );

    // What the log only points at is told with its words, under the key of its conversation.
    let talk = talk.parse::<nova_actors::id::ConversationId>().unwrap().as_uuid();
    let told = broker.records("town.messaging-events").await;
    let words: Vec<String> = told
        .iter()
        .filter(|told| told.key == talk)
        .flat_map(|told| MessagesSent::decode(&told.envelope.payload[..]).unwrap().messages)
        .filter(|message| message.kind == "message")
        .map(|message| {
            serde_json::from_str::<serde_json::Value>(&message.body).unwrap()["text"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(words, (0..20).map(|number| format!("word {number}")).collect::<Vec<_>>());
    let topics = broker.client().await.list_topics().await.unwrap();
    let parts = |topic: Topic| {
        let there = topics.iter().find(|there| there.name == format!("town.{}", topic.name()));
        there.map(|there| there.partitions.len())
    };
    assert_eq!((parts(Topic::Content), parts(Topic::Notification)), (Some(6), Some(2)));
}

/// Posts without pause until it is told to stop.
async fn posts_until(person: &Person<'_>, stop: &std::sync::atomic::AtomicBool) -> usize {
    let mut posted = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let id = person.posts("while it dies").await;
        let edit = json!({ "text": "edited while it dies" });
        assert_eq!(person.asks(Method::PATCH, &format!("/v1/posts/{id}"), Some(edit)).await.0, 200);
        posted += 1;
    }
    posted
}

#[actix_rt::test]
async fn a_broker_that_is_killed_under_load_has_everything_in_order_when_it_is_back() {
    let mut broker = Broker::start_durable().await;
    let app = TestApp::start_with(|config| config.kafka.kafka_brokers = vec![broker.address()]).await;
    let people =
        [Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyd").await];
    let store = beside(&app).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let behind = async || {
        let lags = store.event_lag().await.unwrap();
        lags.iter().filter(|lag| lag.group == "kafka").map(|lag| lag.behind).sum::<i64>()
    };
    let dies = async {
        for _ in 0..2 {
            let taken = || app.engine.metrics.events_consumed.with_label_values(&["kafka"]).get();
            let before = taken();
            eventually("Kafka takes events", PATIENCE, async || (taken() > before + 20).then_some(())).await;
            broker.kill().await;
            eventually("events wait", PATIENCE, async || (behind().await > 50).then_some(())).await;
            let seen = eventually("operators see that", PATIENCE, async || {
                let mut all = 0.0;
                for part in 0..6 {
                    let series =
                        format!(r#"nova_event_lag{{group="kafka",part="{part}",topic="content-events"}}"#);
                    all += app.metric(&series).await.unwrap_or_default();
                }
                (all > 50.0).then_some(all)
            })
            .await;
            let why = told_why(&store).await;
            assert!(why.contains(&broker.address()) && why.contains("NOVA_KAFKA_BROKERS"), "{why}");
            println!("{seen} events waited: {why}");
            broker.revive();
        }
        broker.client().await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let load = join_all(people.iter().map(|person| posts_until(person, &stop)));
    let (posted, ()) = futures_util::future::join(load, dies).await;
    let all = log(&store).await;
    is_drained(&store).await;
    assert!(store.dead_letters(Some("kafka"), 10).await.unwrap().is_empty());
    let again = is_the_log(&broker, "", PEOPLE_AND_POSTS, &all).await;
    println!("{posted:?} posts, {} events, {again} records came twice", all.len());
}

#[actix_rt::test]
async fn a_node_that_is_killed_repeats_only_what_has_the_same_id() {
    let broker = Broker::start_durable().await;
    let database = services::database().await;
    let store = database.store().await;
    let url = database.options().to_url_lossy().to_string();
    let data = tempfile::tempdir().expect("a directory");
    let more = ["--database-url", &url, "--kafka-brokers", &broker.address()];
    let http = reqwest::Client::new();
    let mut token = None;
    let mut posted = 0;
    for round in 0..3 {
        let engine = Program::serve(data.path(), &more);
        let url = engine.url("http");
        if token.is_none() {
            let ann = json!({ "username": "ann", "email": "ann@example.org", "password": "a long way home" });
            let made = http.post(format!("{url}/v1/accounts")).json(&ann).send().await.unwrap();
            let made: serde_json::Value = made.json().await.unwrap();
            token = Some(made["access_token"].as_str().expect("a token").to_owned());
        }
        // The kill comes while posts are on their way to Kafka.
        let posts = (0..40).map(|_| {
            let post = json!({ "text": format!("round {round}") });
            http.post(format!("{url}/v1/posts")).bearer_auth(token.as_deref().unwrap()).json(&post).send()
        });
        for answer in join_all(posts).await {
            assert_eq!(answer.unwrap().status(), 201);
            posted += 1;
        }
        if round < 2 {
            engine.end(Signal::KILL);
        } else {
            let all = log(&store).await;
            is_drained(&store).await;
            assert_eq!(all.iter().filter(|event| event.kind == "PostCreated").count(), posted);
            let again = is_the_log(&broker, "", PEOPLE_AND_POSTS, &all).await;
            println!("{} events, {again} records came twice", all.len());
            assert!(engine.end(Signal::TERM).success());
        }
    }
}

/// Why the bridge does not send, as an operator is told.
async fn told_why(store: &Store) -> String {
    eventually("it says why", PATIENCE, async || {
        let lags = store.event_lag().await.ok()?;
        lags.into_iter().filter(|lag| lag.group == "kafka").find_map(|lag| lag.error)
    })
    .await
}

#[actix_rt::test]
async fn an_address_where_no_kafka_is_and_topics_that_are_not_there_are_told_in_a_sentence() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let app = TestApp::start_with(|config| config.kafka.kafka_brokers = vec![nobody.clone()]).await;
    let ann = Person::new(&app, "ann").await;
    ann.posts("told to nobody").await;
    let store = beside(&app).await;
    let why = told_why(&store).await;
    let wanted = format!("Kafka cannot be used at {nobody}: error connecting to broker \"{nobody}\": ");
    assert!(why.starts_with(&wanted), "{why}");
    assert!(why.ends_with("check that it runs and that NOVA_KAFKA_BROKERS is right"), "{why}");
    // However often it is tried, nothing is given up.
    let tried = eventually("it is tried again and again", PATIENCE, async || {
        let lags = store.event_lag().await.ok()?;
        lags.iter()
            .filter(|lag| lag.group == "kafka")
            .map(|lag| lag.failures)
            .max()
            .filter(|tried| *tried > 6)
    })
    .await;
    assert!(store.dead_letters(None, 10).await.unwrap().is_empty(), "after {tried} tries");
    app.stop();

    let broker = Broker::start().await;
    let app = TestApp::start_with(|config| {
        config.kafka.kafka_brokers = vec![broker.address()];
        config.kafka.kafka_create_topics = false;
    })
    .await;
    let ann = Person::new(&app, "ann").await;
    let store = beside(&app).await;
    let why = told_why(&store).await;
    assert!(why.contains("has no topic user-events: make it, with 3 partitions or more"), "{why}");
    let controller = broker.client().await.controller_client().unwrap();
    controller.create_topic("user-events", 5, 1, 5_000).await.expect("it is made");
    controller.create_topic("content-events", 1, 1, 5_000).await.expect("it is made");
    ann.posts("told to those who made topics").await;
    let all = log(&store).await;
    is_drained_of(&store, &[Topic::User, Topic::Content]).await;
    assert_eq!(is_the_log(&broker, "", &[Topic::User, Topic::Content], &all).await, 0);
}

async fn is_drained_of(store: &Store, topics: &[Topic]) {
    eventually("Kafka has these topics", PATIENCE, async || {
        let lags = store.event_lag().await.ok()?;
        lags.iter()
            .filter(|lag| lag.group == "kafka" && topics.contains(&lag.topic))
            .all(|lag| lag.behind == 0)
            .then_some(())
    })
    .await;
}
