//! What nodes say to each other over the bus, and how it is heard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nova_actors::conversation::{Entry, Seq};
use nova_actors::id::{ConversationId, NodeId, UserId};
use nova_actors::port::{self, Bus, BusEvent};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Told;

/// How long after a failed subscription it is tried again; meanwhile comparing finds what happens.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// What nodes tell each other of one conversation.
#[derive(Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) node: NodeId,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    Entry {
        epoch: u32,
        seq: Seq,
        kind: i16,
        sender: UserId,
        at_ms: i64,
        client_msg_id: Arc<str>,
        body: Arc<str>,
        visible_to: Option<Arc<[UserId]>>,
    },
    Receipt {
        user: UserId,
        delivered: Option<Seq>,
        read: Option<Seq>,
        hidden_from: Arc<[UserId]>,
    },
    Typing {
        user: UserId,
        on: bool,
        hidden_from: Arc<[UserId]>,
    },
    Blocked {
        one: UserId,
        other: UserId,
    },
    Left {
        conversation: ConversationId,
        user: UserId,
        seq: Seq,
    },
    Joined {
        users: Vec<UserId>,
    },
}

/// Where nodes tell each other who came and went.
pub(super) fn members_topic() -> port::Topic {
    port::Topic::new("members").expect("a word is a name on the bus")
}

/// What is heard of on the bus.
#[derive(Clone, Copy)]
pub(super) enum About {
    Conversation(ConversationId),
    Members,
}

pub(super) fn topic(of: ConversationId) -> port::Topic {
    port::Topic::new(of.to_string()).expect("an id is a name on the bus")
}

pub(super) fn said(entry: &Entry) -> What {
    What::Entry {
        epoch: entry.epoch,
        seq: entry.seq,
        kind: entry.kind.number(),
        sender: entry.sender,
        at_ms: (entry.at.unix_timestamp_nanos() / 1_000_000) as i64,
        client_msg_id: entry.client_msg_id.clone(),
        body: entry.body.clone(),
        visible_to: entry.visible_to.clone(),
    }
}

/// Tells the other nodes, in order.
pub(super) async fn publish(bus: Arc<dyn Bus>, mut publishes: mpsc::Receiver<(port::Topic, Bytes)>) {
    while let Some((topic, payload)) = publishes.recv().await {
        if let Err(error) = bus.publish(&topic, payload).await {
            tracing::debug!(%topic, %error, "not told to the other nodes; they find it by comparing");
        }
    }
}

/// Hears of something on the bus, for as long as the relay wants it. What was said before the subscription stood, or was lost, is a gap.
pub(super) async fn subscribe(bus: Arc<dyn Bus>, about: About, told: mpsc::WeakSender<Told>) {
    let topic = match about {
        About::Conversation(conversation) => topic(conversation),
        About::Members => members_topic(),
    };
    loop {
        match bus.subscribe(&topic).await {
            Ok(mut subscription) => {
                let mut event = Some(BusEvent::Gap);
                while let Some(heard) = event {
                    let Some(told) = told.upgrade() else { return };
                    if told.send(Told::Heard(about, heard)).await.is_err() {
                        return;
                    }
                    drop(told);
                    event = subscription.next().await;
                }
            }
            Err(error) => {
                tracing::warn!(%topic, %error, "not heard on the bus; comparing finds what happens")
            }
        }
        sleep(SUBSCRIBE_AGAIN).await;
    }
}
