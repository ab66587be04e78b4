//! The bus over Redis 6.2 or newer: pub/sub for events, keys that expire for leases.
//!
//! - **Names.** Pub/sub ignores database numbers, so everything begins with a namespace: `nova:bus:{topic}` for channels, and
//!   `{nova}:lease:{name}` for leases, whose braces keep them on one node of a cluster.
//! - **Two connections**: one hears, one speaks. [`publish`](port::Bus::publish) waits until Redis has taken the message; while one
//!   batch is on its way the next gathers, so one caller waits for a round trip and thousands share one.
//! - **Redis dies**: both connections are made anew with growing, jittered pauses; every topic is subscribed again, and then each
//!   subscriber hears a gap. **Redis is slow**: every command has a time limit, and a probe the node sends to itself each second tells
//!   the lag; after three seconds of silence the connections are given up. **Redis lies** (answers nobody can read, an older
//!   version): a typed refusal at the start, a new attempt later.
//! - **Redis is away when the node starts**: the node starts all the same, degraded, and says so. Redis holds nothing that is not
//!   elsewhere, so its outage must not grow when a node happens to restart during it; only what waiting does not heal (a wrong
//!   password, a wrong server) refuses the start.
//! - **Heads of feeds** ([`crate::feeds::heads::redis`]) use the connection that speaks, with a time limit of their own.
//! - **Leases** carry a fence that grows even when Redis forgets everything: it is never below the time in microseconds. A fail-over
//!   to a replica that had not heard of a lease can give it out twice; the store refuses the lower fence.

mod driver;
mod lease;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, RedisError};
use async_trait::async_trait;
use bytes::Bytes;
use nova_actors::id::NodeId;
use nova_actors::port::{self, BusError, BusHealth, Inlet, Lease, LeaseName, Subscription, Topic};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use driver::Driver;

/// Messages that wait to be sent. A queue this long is a tenth of a second at the speed of one Redis; when full, the publisher is told
/// [`BusError::Unavailable`] at once.
const OUTGOING_LEN_MAX: usize = 8192;

/// Bytes that wait to be sent, so that large payloads do not make a queue of two gigabytes; when full: as above.
const OUTGOING_BYTES_MAX: usize = 32 << 20;

/// Changes of subscriptions that wait for the connection. A subscriber waits its turn; one that leaves does not, and is found out by
/// the next message nobody wants.
const CHANGES_LEN_MAX: usize = 1024;

/// What can be decided about the bus over Redis.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:6379/0`, `rediss://…` for TLS, `redis+unix:///path` for a socket.
    pub url: String,
    /// What every name begins with; nodes with the same namespace belong together.
    pub namespace: String,
    /// How long one command may take.
    pub command_max: Duration,
    /// How long making one connection may take.
    pub connect_max: Duration,
    /// How often a node sends a probe to itself.
    pub probe_every: Duration,
    /// How long no probe may be heard before the connections are given up.
    pub silence_max: Duration,
    /// The first pause before a new attempt to connect; it doubles with each that fails.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl RedisConfig {
    /// The defaults, for one server.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: "nova".to_owned(),
            command_max: Duration::from_secs(1),
            connect_max: Duration::from_secs(2),
            probe_every: Duration::from_secs(1),
            silence_max: Duration::from_secs(3),
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(5),
        }
    }
}

/// The URL may hold a password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("url", &"set")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// Why a node must not start with this Redis; each prints as one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RedisRefusal {
    /// The URL cannot be used.
    #[error("REDIS_URL cannot be used: {0}")]
    Url(#[source] RedisError),
    /// The server does not let us in.
    #[error("Redis does not let us in: {0}; check the user and the password in REDIS_URL")]
    Denied(#[source] RedisError),
    /// Whatever answers there is not Redis.
    #[error("what answers at REDIS_URL is not a Redis: {0}")]
    NotRedis(String),
    /// The server is too old.
    #[error("Redis {found} is too old: version 6.2 or newer is needed")]
    TooOld {
        /// Its version.
        found: String,
    },
}

/// The bus over Redis. Clones share its connections; when the last is dropped they are closed and all subscriptions end.
#[derive(Clone)]
pub struct Bus {
    outgoing: mpsc::Sender<Outgoing>,
    changes: mpsc::Sender<Change>,
    room: Arc<Semaphore>,
    hub: Arc<Hub>,
}

/// What the bus and its driver share.
struct Hub {
    config: RedisConfig,
    topics: Mutex<Topics>,
    number: AtomicU64,
    speaking: RwLock<Option<MultiplexedConnection>>,
    health: watch::Sender<BusHealth>,
}

#[derive(Default)]
struct Topics {
    /// By channel.
    inlets: HashMap<String, Vec<(u64, Inlet)>>,
    /// Whether a connection hears: then a new topic is asked for, otherwise the next connection asks for all there are.
    live: bool,
}

/// A message on its way out.
struct Outgoing {
    channel: String,
    payload: Bytes,
    taken: oneshot::Sender<Result<(), BusError>>,
    _room: OwnedSemaphorePermit,
}

/// What the hearing connection should change.
enum Change {
    Subscribe(String, oneshot::Sender<()>),
    Unsubscribe(String),
}

impl Bus {
    /// Connects. A Redis that cannot be reached is no error: the bus is degraded until it can.
    ///
    /// # Errors
    /// [`RedisRefusal`], for what waiting does not heal.
    pub async fn connect(config: RedisConfig) -> Result<Bus, RedisRefusal> {
        let client = Client::open(config.url.as_str()).map_err(RedisRefusal::Url)?;
        let (outgoing, to_send) = mpsc::channel(OUTGOING_LEN_MAX);
        let (changes, to_change) = mpsc::channel(CHANGES_LEN_MAX);
        let hub = Arc::new(Hub {
            config,
            topics: Mutex::default(),
            number: AtomicU64::new(0),
            speaking: RwLock::new(None),
            health: watch::Sender::new(BusHealth::default()),
        });
        let driver = Driver::new(client, Arc::clone(&hub), to_send, to_change);
        driver.start().await?;
        Ok(Bus { outgoing, changes, room: Arc::new(Semaphore::new(OUTGOING_BYTES_MAX)), hub })
    }

    /// Runs a command on the connection that speaks, within the time limit.
    async fn ask<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, RedisError>,
    ) -> Result<T, BusError> {
        self.command(self.hub.config.command_max, command).await?.map_err(unavailable)
    }

    /// Runs a command of another part of the engine on the connection that speaks, within its own time limit.
    pub(crate) async fn command<T>(
        &self,
        limit: Duration,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> T,
    ) -> Result<T, BusError> {
        let connection = self.hub.speaking.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut connection) = connection else { return Err(unavailable("not connected")) };
        let limit = limit.min(self.hub.config.command_max);
        timeout(limit, command(&mut connection)).await.map_err(|_late| unavailable("no answer in time"))
    }

    /// What every name in this Redis begins with.
    pub(crate) fn namespace(&self) -> &str {
        &self.hub.config.namespace
    }
}

#[async_trait]
impl port::Bus for Bus {
    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError> {
        BusError::check_payload(&payload)?;
        let full = || unavailable("the outgoing queue is full");
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX).max(1);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| full())?;
        let (taken, answer) = oneshot::channel();
        let outgoing = Outgoing { channel: self.hub.channel(topic), payload, taken, _room: room };
        self.outgoing.try_send(outgoing).map_err(|_| full())?;
        answer.await.unwrap_or_else(|_gone| Err(unavailable("the bus is closing")))
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let channel = self.hub.channel(topic);
        let number = self.hub.number.fetch_add(1, Ordering::Relaxed);
        let (inlet, subscription) = Subscription::pair({
            let (hub, changes) = (Arc::downgrade(&self.hub), self.changes.clone());
            let channel = channel.clone();
            move || {
                if hub.upgrade().is_some_and(|hub| hub.leave(&channel, number)) {
                    // When there is no room for it, the next message nobody wants does the same.
                    let _later = changes.try_send(Change::Unsubscribe(channel));
                }
            }
        });
        let live = {
            let mut topics = self.hub.topics();
            topics.inlets.entry(channel.clone()).or_default().push((number, inlet));
            topics.live
        };
        // Without a connection the next one asks for every topic there is and says a gap, so nothing is missed unseen. Whoever is
        // not confirmed in time goes on as well, and hears a gap when it is.
        if live {
            let (confirm, confirmed) = oneshot::channel();
            let change = Change::Subscribe(channel, confirm);
            let confirmed = async { self.changes.send(change).await.is_ok() && confirmed.await.is_ok() };
            let _or_a_gap = timeout(2 * self.hub.config.command_max, confirmed).await;
        }
        Ok(subscription)
    }

    async fn acquire(
        &self,
        name: &LeaseName,
        holder: NodeId,
        ttl: Duration,
    ) -> Result<Option<Lease>, BusError> {
        BusError::check_ttl(ttl)?;
        let keys = lease::Keys::of(&self.hub.config.namespace, name);
        let fence = self.ask(async |connection| lease::acquire(connection, &keys, holder, ttl).await).await?;
        Ok(fence.map(|fence| Lease { name: name.clone(), holder, fence }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, BusError> {
        BusError::check_ttl(ttl)?;
        let keys = lease::Keys::of(&self.hub.config.namespace, &lease.name);
        self.ask(async |connection| lease::renew(connection, &keys, lease, ttl).await).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), BusError> {
        let keys = lease::Keys::of(&self.hub.config.namespace, &lease.name);
        self.ask(async |connection| lease::release(connection, &keys, lease).await).await
    }

    fn health(&self) -> watch::Receiver<BusHealth> {
        self.hub.health.subscribe()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("config", &self.hub.config).field("health", &self.hub.health).finish()
    }
}

impl Hub {
    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self, topic: &Topic) -> String {
        format!("{}:bus:{topic}", self.config.namespace)
    }

    /// Forgets one subscriber; says whether it was the last of its channel.
    fn leave(&self, channel: &str, number: u64) -> bool {
        let mut topics = self.topics();
        let Some(inlets) = topics.inlets.get_mut(channel) else { return false };
        inlets.retain(|(of, _)| *of != number);
        let last = inlets.is_empty();
        if last {
            topics.inlets.remove(channel);
        }
        last
    }
}

fn unavailable(reason: impl ToString) -> BusError {
    BusError::Unavailable { reason: reason.to_string() }
}
