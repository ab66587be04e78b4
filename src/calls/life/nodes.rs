//! What nodes tell each other of calls: who is to hear of one, and which room is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use nova_actors::id::{NodeId, RoomId, UserId};
use nova_actors::port::{self, Bus, BusEvent};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::calls::Inner;

/// How long after a failed subscription it is tried again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// What nodes tell each other of a call.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) node: NodeId,
    pub(super) users: Vec<UserId>,
    /// The room to be closed, and why.
    pub(super) over: Option<(RoomId, String)>,
    /// What devices are told.
    pub(super) message: Option<Map<String, Value>>,
}

fn topic() -> port::Topic {
    port::Topic::new("calls").expect("a word is a name on the bus")
}

impl Inner {
    /// Ends a room on whichever node it is.
    pub(in crate::calls) async fn end_everywhere(&self, room: RoomId, reason: &str) {
        self.close(room, reason).await;
        let over = Some((room, reason.to_owned()));
        self.tell_nodes(&Told { node: self.node, users: Vec::new(), over, message: None }).await;
    }

    pub(super) async fn tell_nodes(&self, told: &Told) {
        let payload = serde_json::to_vec(told).expect("what is told is texts and ids");
        if let Err(error) = self.bus.publish(&topic(), payload.into()).await {
            // Devices of other nodes stop ringing by the entry, or by the time that was told with the ring; vouching finds what has ended.
            tracing::warn!(%error, "the other nodes do not hear of a call");
        }
    }

    async fn heard(&self, payload: &[u8]) {
        let Ok(Told { node, users, over, message }) = serde_json::from_slice(payload) else {
            return tracing::warn!("something about a call could not be read");
        };
        if node == self.node {
            return;
        }
        if let Some(message) = message {
            self.push_call(&users, &message);
        }
        if let Some((room, reason)) = over {
            self.close(room, &reason).await;
        }
    }
}

/// Hears what other nodes tell of calls.
pub(in crate::calls) async fn hear(inner: Weak<Inner>, bus: Arc<dyn Bus>) {
    loop {
        match bus.subscribe(&topic()).await {
            Ok(mut subscription) => {
                while let Some(heard) = subscription.next().await {
                    let Some(inner) = inner.upgrade() else { return };
                    match heard {
                        BusEvent::Message(payload) => inner.heard(&payload).await,
                        // Entries and the time a ring was told with stop what rings; vouching finds what has ended.
                        BusEvent::Gap => {
                            let _again_soon = inner.vouch().await;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "calls of other nodes are not heard of"),
        }
        if inner.strong_count() == 0 {
            return;
        }
        sleep(SUBSCRIBE_AGAIN).await;
    }
}
