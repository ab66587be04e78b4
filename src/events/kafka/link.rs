//! The connection to Kafka: one client, the topics as they are there, one connection for each partition that is written to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::Settings;
use super::records::partition;
use crate::events::Topic;

/// How long Kafka may take to be reached.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long it may take to make a topic.
const CREATE_MAX_MS: i32 = 5_000;
/// How long the number of partitions of a topic is believed; the same as `metadata.max.age.ms` of Kafka's own client.
const BELIEVED: Duration = Duration::from_secs(300);
/// Bytes in one request: brokers take 1 MiB unless they are told otherwise (`message.max.bytes`).
const BATCH_BYTES_MAX: usize = 900 << 10;
/// Bytes of an answer: those of a cluster of many thousand partitions.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Why records were not sent.
#[derive(Debug)]
pub enum Refusal {
    /// It lies in the records: sending them again does not help.
    OfRecords(String),
    /// It does not: they wait.
    Away(String),
}

/// Where records go.
pub struct Link {
    settings: Settings,
    client: Option<Arc<Client>>,
    topics: HashMap<Topic, Partitions>,
}

/// A topic as it is in Kafka.
struct Partitions {
    /// By number; opened when the first record goes there.
    open: Vec<Option<Arc<PartitionClient>>>,
    seen: Instant,
}

impl Link {
    /// One that is not connected yet.
    pub fn new(settings: Settings) -> Link {
        Link { settings, client: None, topics: HashMap::new() }
    }

    /// Gives up the connection; the next record makes another.
    pub fn hang_up(&mut self) {
        self.client = None;
        self.topics.clear();
    }

    /// What is said when Kafka did not answer for so long.
    pub fn is_silent(&self, after: Duration) -> Refusal {
        let (brokers, seconds) = (self.brokers(), after.as_secs());
        Refusal::Away(format!(
            "Kafka at {brokers} did not answer within {seconds} s; check that it runs and that NOVA_KAFKA_BROKERS is right"
        ))
    }

    /// Sends records of a topic, and returns when all of them are acknowledged: those of one key in order.
    pub async fn send(&mut self, topic: Topic, records: Vec<(Uuid, Record)>) -> Result<(), Refusal> {
        let client = self.client().await?;
        let name = format!("{}{}", self.settings.prefix, topic.name());
        if self.topics.get(&topic).is_none_or(|known| known.seen.elapsed() > BELIEVED) {
            let partitions = self.partitions(&client, topic, &name).await?;
            let open = (0..partitions).map(|_| None).collect();
            self.topics.insert(topic, Partitions { open, seen: Instant::now() });
        }
        let Some(known) = self.topics.get_mut(&topic) else { return Ok(()) };
        let mut by: HashMap<usize, Vec<Record>> = HashMap::new();
        for (key, record) in records {
            by.entry(partition(key, known.open.len())).or_default().push(record);
        }
        let mut sends = Vec::with_capacity(by.len());
        for (number, records) in by {
            let Some(open) = known.open.get_mut(number) else { continue };
            let to = match open {
                Some(to) => Arc::clone(to),
                None => {
                    let wanted = i32::try_from(number).unwrap_or(i32::MAX);
                    let opening = client.partition_client(&name, wanted, UnknownTopicHandling::Error);
                    let to = Arc::new(opening.await.map_err(|error| refusal(&self.settings, &name, error))?);
                    Arc::clone(open.insert(to))
                }
            };
            sends.push(send(to, records));
        }
        let sent = try_join_all(sends).await;
        sent.map(drop).map_err(|error| refusal(&self.settings, &name, error))
    }

    async fn client(&mut self) -> Result<Arc<Client>, Refusal> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        // Whoever asks tries again with growing pauses of its own.
        let retries = BackoffConfig {
            init_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_millis(500),
            base: 2.0,
            deadline: Some(Duration::from_secs(1)),
        };
        let building = ClientBuilder::new(self.settings.brokers.clone())
            .client_id("nova")
            .max_message_size(ANSWER_BYTES_MAX)
            .backoff_config(retries)
            .build();
        let built = timeout(CONNECT_MAX, building).await.map_err(|_| self.is_silent(CONNECT_MAX))?;
        let client = Arc::new(built.map_err(|error| refusal(&self.settings, "", error))?);
        Ok(Arc::clone(self.client.insert(client)))
    }

    /// How many partitions a topic has in Kafka; makes it when it may.
    async fn partitions(&self, client: &Client, topic: Topic, name: &str) -> Result<usize, Refusal> {
        let failed = |error| refusal(&self.settings, name, error);
        // All of them: who asks for one by name may make it, with as many partitions as the broker thinks fit.
        if let Some(there) = there(client, name).await.map_err(failed)? {
            return Ok(there);
        }
        let (wanted, replicas) = (i32::from(topic.parts()), self.settings.replicas.unwrap_or(-1));
        if !self.settings.creates_topics {
            return Err(Refusal::Away(format!(
                "Kafka at {} has no topic {name}: make it, with {wanted} partitions or more, or set NOVA_KAFKA_CREATE_TOPICS=true",
                self.brokers()
            )));
        }
        let controller = client.controller_client().map_err(failed)?;
        match controller.create_topic(name, wanted, replicas, CREATE_MAX_MS).await {
            Ok(()) => tracing::info!(topic = name, partitions = wanted, "a topic was made in Kafka"),
            // By another node, meanwhile.
            Err(Error::ServerError { protocol_error: ProtocolError::TopicAlreadyExists, .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        // A broker may need a moment to hear of it from its controller: then this is tried again like anything else.
        let missing =
            || Refusal::Away(format!("Kafka has just made the topic {name} and does not show it yet"));
        there(client, name).await.map_err(failed)?.ok_or_else(missing)
    }

    fn brokers(&self) -> String {
        self.settings.brokers.join(", ")
    }
}

/// How many partitions a topic has; none when it is not there.
async fn there(client: &Client, name: &str) -> Result<Option<usize>, Error> {
    let topics = client.list_topics().await?;
    let of = topics.iter().find(|topic| topic.name == name).map(|topic| topic.partitions.len());
    Ok(of.filter(|partitions| *partitions > 0))
}

/// Sends the records of one partition, one request after the other.
async fn send(to: Arc<PartitionClient>, records: Vec<Record>) -> Result<(), Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for record in records {
        let size = record.approximate_size();
        if bytes + size > BATCH_BYTES_MAX && !batch.is_empty() {
            to.produce(std::mem::take(&mut batch), Compression::NoCompression).await?;
            bytes = 0;
        }
        bytes += size;
        batch.push(record);
    }
    to.produce(batch, Compression::NoCompression).await.map(drop)
}

/// What a failure means, in words for whoever runs the engine.
fn refusal(settings: &Settings, topic: &str, error: Error) -> Refusal {
    use ProtocolError::{
        ClusterAuthorizationFailed, InvalidRecord, InvalidReplicationFactor, MessageTooLarge,
        RecordListTooLarge, TopicAuthorizationFailed,
    };
    let brokers = settings.brokers.join(", ");
    match &error {
        Error::ServerError { protocol_error, error_message, .. } => match protocol_error {
            MessageTooLarge | RecordListTooLarge | InvalidRecord => Refusal::OfRecords(format!(
                "Kafka refuses a record of {topic}: {protocol_error:?}; the topic's max.message.bytes must be 1 MiB or more"
            )),
            TopicAuthorizationFailed | ClusterAuthorizationFailed => Refusal::Away(format!(
                "Kafka at {brokers} does not let the engine write to {topic}, or make it: {protocol_error:?}"
            )),
            InvalidReplicationFactor => Refusal::Away(format!(
                "Kafka at {brokers} has too few brokers for the copies of {topic}: set NOVA_KAFKA_REPLICAS"
            )),
            _ => {
                let told = error_message.as_deref().unwrap_or_default();
                Refusal::Away(format!("Kafka at {brokers} does not take {topic}: {protocol_error:?} {told}"))
            }
        },
        error => {
            // Each retry wraps what it retried; the innermost is what happened.
            let told = error.to_string();
            let why = told.rsplit("Source: ").next().unwrap_or_default();
            Refusal::Away(format!(
                "Kafka cannot be used at {brokers}: {why}; check that it runs and that NOVA_KAFKA_BROKERS is right"
            ))
        }
    }
}
