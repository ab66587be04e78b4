//! The bus between parts of one process.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use crate::{
    id::NodeId,
    port::{self, BusError, BusHealth, Inlet, Lease, LeaseName, Subscription, Topic},
};

/// The bus of a node that is alone. Clones share it, so several nodes in one process can talk over it.
///
/// It is always connected and its lag is nothing; a gap comes from a full queue only. Memory is bounded by the subscriptions
/// (each has its own bounded queue, and its owner) and by the leases that have not expired.
#[derive(Debug, Clone)]
pub struct Bus {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    topics: Mutex<HashMap<Topic, Vec<(u64, Inlet)>>>,
    subscription: AtomicU64,
    leases: Mutex<Leases>,
    health: watch::Sender<BusHealth>,
}

#[derive(Debug, Default)]
struct Leases {
    held: HashMap<LeaseName, Held>,
    /// One counter for all names: it grows for each of them, and nothing has to be remembered of names nobody holds.
    fence: u64,
}

#[derive(Debug)]
struct Held {
    holder: NodeId,
    fence: u64,
    until: Instant,
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus {
    /// A bus nobody is on yet.
    #[must_use]
    pub fn new() -> Self {
        let health = watch::Sender::new(BusHealth { connected: true, lag: Some(Duration::ZERO) });
        let hub = Hub {
            topics: Mutex::default(),
            subscription: AtomicU64::new(0),
            leases: Mutex::default(),
            health,
        };
        Self { hub: Arc::new(hub) }
    }
}

#[async_trait]
impl port::Bus for Bus {
    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        BusError::check_payload(&payload)?;
        // Pushing never waits; doing it under the lock gives all subscribers one order.
        if let Some(inlets) = self.hub.topics().get(topic) {
            for (_, inlet) in inlets {
                inlet.message(payload.clone());
            }
        }
        Ok(())
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let number = self.hub.subscription.fetch_add(1, Ordering::Relaxed);
        let hub = Arc::downgrade(&self.hub);
        let (inlet, subscription) = Subscription::pair({
            let topic = topic.clone();
            move || Hub::unsubscribe(&hub, &topic, number)
        });
        self.hub.topics().entry(topic.clone()).or_default().push((number, inlet));
        Ok(subscription)
    }

    async fn acquire(
        &self,
        name: &LeaseName,
        holder: NodeId,
        ttl: Duration,
    ) -> Result<Option<Lease>, BusError> {
        BusError::check_ttl(ttl)?;
        let now = Instant::now();
        let mut leases = self.hub.leases();
        leases.held.retain(|_, held| held.until > now);
        if leases.held.contains_key(name) {
            return Ok(None);
        }
        leases.fence += 1;
        let fence = leases.fence;
        leases.held.insert(name.clone(), Held { holder, fence, until: now + ttl });
        Ok(Some(Lease { name: name.clone(), holder, fence }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, BusError> {
        BusError::check_ttl(ttl)?;
        let now = Instant::now();
        match self.hub.leases().held.get_mut(&lease.name) {
            Some(held) if held.until > now && held.is(lease) => {
                held.until = now + ttl;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<(), BusError> {
        let mut leases = self.hub.leases();
        if leases.held.get(&lease.name).is_some_and(|held| held.is(lease)) {
            leases.held.remove(&lease.name);
        }
        Ok(())
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.hub.health.subscribe()
    }
}

impl Hub {
    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, Vec<(u64, Inlet)>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsubscribe(hub: &Weak<Self>, topic: &Topic, number: u64) {
        let Some(hub) = hub.upgrade() else { return };
        let mut topics = hub.topics();
        let Some(inlets) = topics.get_mut(topic) else { return };
        inlets.retain(|(of, _)| *of != number);
        if inlets.is_empty() {
            topics.remove(topic);
        }
    }
}

impl Held {
    fn is(&self, lease: &Lease) -> bool {
        (self.holder, self.fence) == (lease.holder, lease.fence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contract, port::Bus as _};

    #[tokio::test]
    async fn keeps_the_contract() {
        let shared = Bus::new();
        contract::bus(async || shared.clone()).await;
    }

    #[tokio::test]
    async fn nothing_remains_of_topics_and_leases_nobody_has() {
        let bus = Bus::new();
        let topic = Topic::new("town").unwrap();
        let (one, other) = (bus.subscribe(&topic).await.unwrap(), bus.subscribe(&topic).await.unwrap());
        drop(one);
        assert_eq!(bus.hub.topics().get(&topic).map(Vec::len), Some(1));
        drop(other);
        assert!(bus.hub.topics().is_empty());

        let name = LeaseName::new("sequencer").unwrap();
        let lease = bus.acquire(&name, NodeId::generate(), Duration::from_secs(1)).await.unwrap().unwrap();
        bus.release(&lease).await.unwrap();
        assert!(bus.hub.leases().held.is_empty());
    }
}
