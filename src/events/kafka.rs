//! The bridge to Apache Kafka: one more group of the event log, which sends what happens on to topics of the same names.
//!
//! | file | what it settles |
//! |---|---|
//! | [`records`] | what is sent: an [`Envelope`](super::schema::Envelope) under its key, and which partition that belongs to |
//! | [`link`] | the connection: topics, partitions, batches |
//!
//! # Promises
//!
//! - **At least once.** The cursor moves when every broker that must have the events has acknowledged them (`acks=all`). What is sent again
//!   after a failure carries the same `event_id`, in the envelope and as a header.
//! - **In order for each key.** Whoever owns a part waits for the acknowledgement of a batch before the next one is sent, and a key has one
//!   partition: by `murmur2`, as the partitioner of Kafka's own client has it, so other producers and `Streams` agree. What is sent again
//!   begins at or before what is missing, so the first time each event is seen is in order.
//! - **Nothing is skipped while Kafka is away**: events wait, `nova_event_lag{group="kafka"}` tells how many, for as long as the log keeps
//!   them. Only what a broker refuses for itself (a record that is too large for it) becomes a dead letter, as with any group.

pub mod link;
pub mod records;

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{Consumer, HandleError, Logged, Topic};
use crate::store::Store;
use link::{Link, Refusal};

/// The name its cursors are kept under.
pub const GROUP: &str = "kafka";
/// How long one turn may wait for Kafka; below the time any group has for a turn.
const SEND_MAX: Duration = Duration::from_secs(12);
/// How long Kafka is left alone after a failure: parts that come meanwhile are told the same at once.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// How Kafka is reached, and what is made there.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Brokers that are asked for the others, as `host:port`.
    pub brokers: Vec<String>,
    /// What the names of topics begin with there.
    pub prefix: String,
    /// Whether topics that are missing are made.
    pub creates_topics: bool,
    /// Copies of each of their partitions; none leaves it to the broker.
    pub replicas: Option<i16>,
}

/// Sends what happens to Kafka.
pub struct Kafka {
    store: Store,
    link: Mutex<State>,
}

/// What is known of Kafka.
struct State {
    link: Link,
    /// Why nothing could be sent, and until when that is taken to hold.
    away: Option<(String, Instant)>,
}

impl Kafka {
    /// A bridge that connects with the first event.
    pub fn new(settings: Settings, store: Store) -> Kafka {
        Kafka { store, link: Mutex::new(State { link: Link::new(settings), away: None }) }
    }
}

#[async_trait]
impl Consumer for Kafka {
    fn group(&self) -> &'static str {
        GROUP
    }

    fn topics(&self) -> &'static [Topic] {
        Topic::ALL
    }

    async fn take(&self, _tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
        let records = records::of(&self.store, events).await?;
        let Some(topic) = events.first().map(|event| event.topic) else { return Ok(()) };
        let mut state = self.link.lock().await;
        if let Some((reason, until)) = &state.away
            && Instant::now() < *until
        {
            return Err(HandleError::away(reason));
        }
        let sent = timeout(SEND_MAX, state.link.send(topic, records)).await;
        let refusal = match sent {
            Ok(Ok(())) => {
                if state.away.take().is_some() {
                    tracing::info!("Kafka takes events again");
                }
                return Ok(());
            }
            Ok(Err(refusal)) => refusal,
            Err(_late) => state.link.is_silent(SEND_MAX),
        };
        match refusal {
            Refusal::OfRecords(reason) => Err(HandleError::because(reason)),
            Refusal::Away(reason) => {
                // What a connection still holds is not known; the next turn begins with a new one.
                state.link.hang_up();
                // Said once, and again when the reason is another; how many events wait is measured.
                if state.away.as_ref().is_none_or(|(known, _)| *known != reason) {
                    tracing::warn!("{reason}; events wait for it");
                }
                state.away = Some((reason.clone(), Instant::now() + LEFT_ALONE));
                Err(HandleError::away(reason))
            }
        }
    }
}
