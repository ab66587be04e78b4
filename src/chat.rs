//! The WebSocket door: `GET /v1/ws`, subprotocol `nova.v1`.
//!
//! Bytes become frames, frames become requests, and nothing here decides what they mean: that is behind [`seam::Deciders`].
//!
//! | file | what it settles |
//! |---|---|
//! | [`upgrade`] | the handshake, and who is let in |
//! | [`frame`], [`deflate`] | RFC 6455 and RFC 7692, without sockets |
//! | [`wire`], [`goodbye`] | the messages of `nova.v1`, and the numbered ends |
//! | [`asyncapi`] | the same for those who write clients: `/asyncapi.json` |
//! | `session`, `socket`, [`outbox`] | one connection: its task, its state, what waits for it |
//! | `hub`, [`wheel`], `tally` | one worker: its sockets and topics, its clock, its counts |
//! | [`order`] | replay and live deliveries merged without hole or repeat |
//! | [`seam`], `roster`, [`tokens`] | what deciders see, who is connected, whose token is believed |
//!
//! What reads bytes from strangers ([`frame`], [`deflate`], [`wire::read`]) knows no sockets and is fuzzed by a package of its own,
//! `src/chat/fuzz`, which compiles these files without the house around them.

pub mod asyncapi;
pub mod deflate;
pub mod encoded;
pub mod frame;
pub mod goodbye;
mod hub;
pub mod limits;
pub mod order;
pub mod outbox;
mod roster;
pub mod seam;
pub mod session;
mod socket;
mod tally;
pub mod tokens;
pub mod transport;
pub mod upgrade;
pub mod wheel;
pub mod wire;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_http::header::{self, HeaderMap};
use nova_actors::clock::Clock;
use nova_actors::id::{DeviceId, UserId};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::config::{ChatConfig, HttpConfig};
use crate::error::{ApiError, Code};
use crate::rest::client;
use crate::telemetry::Metrics;

use hub::{Hub, ToHub};
use limits::{Meter, Rate};
use roster::Roster;
use seam::{Believed, Deciders, Delivery, DeviceHandle, NotTaken, Tokens, Topic};
use wire::Limits;

/// Addresses whose connects are counted. When full the one not seen for longest is forgotten, which lets it in anew.
const ADDRESSES_MAX: usize = 65_536;
/// Seconds' worth of connects that may come at once, and of requests.
const CONNECT_BURST_S: u32 = 2;
const REQUEST_BURST_S: u32 = 2;
/// A device that was let in says `connect` within this.
const CONNECT_LIMIT_TICKS: u32 = 10;
/// Of the files a process may open, what is left for everything but sockets: an eighth.
const FILES_FOR_OTHERS: u64 = 8;

/// The WebSocket door of a node. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Shared>);

/// What all workers share.
struct Shared {
    config: ChatConfig,
    origins: Vec<String>,
    /// Where clients reach the other nodes; a page of theirs may connect here too.
    nodes: RwLock<Vec<String>>,
    trusted_proxies: Vec<ipnet::IpNet>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    tokens: Arc<dyn Tokens>,
    deciders: Arc<dyn Deciders>,
    hubs: RwLock<Vec<mpsc::Sender<ToHub>>>,
    roster: Roster,
    started: Instant,
    connect_rate: Option<Rate>,
    connects: Meter,
    address_rate: Option<Rate>,
    addresses: quick_cache::sync::Cache<u128, Arc<Meter>>,
    request_rate: Option<Rate>,
    user_request_rate: Option<Rate>,
    /// A second of the wheels of all workers.
    tick: Duration,
    sockets: AtomicUsize,
    sockets_max: usize,
    leaving: AtomicBool,
    /// Whether this node has sockets at all.
    is_open: bool,
    empty: Notify,
    /// Spreads pings and returns; not for secrets.
    random: AtomicU64,
}

impl Door {
    /// A door, not yet open: give [`upgrade::service`] to the server.
    pub fn new(
        config: &ChatConfig,
        http: &HttpConfig,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        tokens: Arc<dyn Tokens>,
        deciders: Arc<dyn Deciders>,
    ) -> Door {
        let files = limits::raise_open_files();
        let by_files = usize::try_from(files - files / FILES_FOR_OTHERS).unwrap_or(usize::MAX);
        let by_config = http.connections_max as usize * http.worker_count();
        let origins = http.cors_origins.iter().chain(&http.public_url);
        let origins = origins.map(|origin| origin.to_ascii_lowercase()).collect();
        Door(Arc::new(Shared {
            connect_rate: Rate::new(config.ws_connects_per_s, CONNECT_BURST_S),
            address_rate: Rate::new(config.ws_ip_connects_per_s, CONNECT_BURST_S),
            request_rate: Rate::new(config.ws_requests_per_s, REQUEST_BURST_S),
            user_request_rate: Rate::new(config.ws_user_requests_per_s, REQUEST_BURST_S),
            config: config.clone(),
            origins,
            nodes: RwLock::default(),
            trusted_proxies: http.trusted_proxies.clone(),
            random: AtomicU64::new(clock.now().unix_timestamp_nanos() as u64),
            clock,
            metrics,
            tokens,
            deciders,
            hubs: RwLock::default(),
            roster: Roster::default(),
            started: Instant::now(),
            connects: Meter::default(),
            addresses: quick_cache::sync::Cache::new(ADDRESSES_MAX),
            tick: Duration::from_secs(1),
            sockets: AtomicUsize::new(0),
            sockets_max: by_files.min(by_config),
            leaving: AtomicBool::new(false),
            is_open: true,
            empty: Notify::new(),
        }))
    }

    /// Makes the seconds of all time limits as long as `tick`, so that a test does not wait for them. Before anything is made of the
    /// door; afterwards it has no effect.
    #[must_use]
    pub fn ticking(mut self, tick: Duration) -> Door {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.tick = tick;
        }
        self
    }

    /// Where clients reach the nodes there are: pages of theirs may connect here.
    pub fn meet(&self, urls: Vec<String>) {
        let urls = urls.into_iter().map(|url| url.to_ascii_lowercase()).collect();
        *self.0.nodes.write().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// Where clients reach the nodes there are, as this one last heard.
    pub fn nodes(&self) -> Vec<String> {
        self.0.nodes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A door that lets nobody in, for a node that has other roles. Before anything is made of the door; afterwards it has no effect.
    #[must_use]
    pub fn closed(mut self) -> Door {
        if let Some(shared) = Arc::get_mut(&mut self.0) {
            shared.is_open = false;
        }
        self
    }

    fn hub(&self) -> Rc<Hub> {
        Hub::start(self.0.clone())
    }

    /// Delivers to all sockets of this node that subscribed to the topic; waits while a worker is too busy. For entries: one
    /// that was lost would leave a hole.
    pub async fn deliver(&self, delivery: Delivery) {
        for hub in self.0.hubs() {
            // A worker that has ended has no sockets.
            let _: Result<(), _> = hub.send(ToHub::Deliver(delivery.clone())).await;
        }
    }

    /// As [`deliver`](Self::deliver), but drops it for a worker that is too busy. For hints.
    pub fn try_deliver(&self, delivery: &Delivery) -> Result<(), NotTaken> {
        let mut taken = Ok(());
        for hub in self.0.hubs() {
            if hub.try_send(ToHub::Deliver(delivery.clone())).is_err() {
                taken = Err(NotTaken::Busy);
            }
        }
        taken
    }

    /// The log of `topic` reaches to `seq`: sockets that are not there are told to [`Deciders::hole`]. Finds what was lost
    /// when nothing follows it.
    pub async fn announce_top(&self, topic: Topic, seq: u64) {
        for hub in self.0.hubs() {
            let _: Result<(), _> = hub.send(ToHub::Top { topic, seq }).await;
        }
    }

    /// The connected devices of a user on this node.
    pub fn devices_of(&self, user: UserId) -> Vec<DeviceHandle> {
        self.0.roster.of(user)
    }

    /// All connected devices of this node.
    pub fn devices(&self) -> Vec<DeviceHandle> {
        self.0.roster.all()
    }

    /// One connected device.
    pub fn device(&self, user: UserId, device: DeviceId) -> Option<DeviceHandle> {
        self.0.roster.device(user, device)
    }

    /// Connections of this node, those that have not said `connect` included.
    pub fn sockets(&self) -> usize {
        self.0.sockets.load(Ordering::Relaxed)
    }

    /// Lets nobody in any more, says 4000 to everybody in batches, and returns when all have left or `limit` has passed.
    pub async fn drain(&self, limit: Duration) {
        self.0.leaving.store(true, Ordering::SeqCst);
        for hub in self.0.hubs() {
            let _: Result<(), _> = hub.send(ToHub::Drain).await;
        }
        let all_left = async {
            loop {
                let mut changed = std::pin::pin!(self.0.empty.notified());
                changed.as_mut().enable();
                if self.sockets() == 0 {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(limit, all_left).await.is_err() {
            tracing::warn!(
                sockets = self.sockets(),
                "sockets were cut off: they had not left when the limit passed"
            );
        }
    }
}

impl Shared {
    fn hubs(&self) -> Vec<mpsc::Sender<ToHub>> {
        self.hubs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add_hub(&self, hub: mpsc::Sender<ToHub>) {
        self.hubs.write().unwrap_or_else(PoisonError::into_inner).push(hub);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A number that looks random (splitmix64).
    fn random(&self) -> u32 {
        let mut z = self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z >> 32) as u32
    }

    fn connect_ticks(&self) -> u32 {
        CONNECT_LIMIT_TICKS
    }

    /// The tick at which a token expires.
    fn expiry_tick(&self, believed: &Believed, now: u32) -> u32 {
        let left_s = (believed.expires_at - self.clock.now()).whole_seconds().max(0);
        now.saturating_add(u32::try_from(left_s).unwrap_or(u32::MAX))
    }

    /// A page may connect when its origin is configured, or is the one this engine is reached under.
    fn lets_in_pages_of(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        let origin = origin.to_ascii_lowercase();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let own = origin.split_once("://").map(|(_, authority)| authority);
        self.origins.contains(&origin)
            || self.nodes.read().unwrap_or_else(PoisonError::into_inner).contains(&origin)
            || (own.is_some() && own == host.map(str::to_ascii_lowercase).as_deref())
    }

    /// Counts a connection in, or says when to come back.
    fn admit(&self, address: IpAddr) -> Result<(), ApiError> {
        if !self.is_open {
            return Err(ApiError::because(Code::Misdirected, "a node with the role chat has the sockets"));
        }
        if self.leaving.load(Ordering::SeqCst) {
            return Err(Code::Draining.into());
        }
        let busy = |wait| ApiError::because(Code::Overloaded, "too many connect at once").retry_after(wait);
        if let Some(rate) = self.address_rate {
            let make = || Ok::<_, std::convert::Infallible>(Arc::default());
            let Ok(meter) = self.addresses.get_or_insert_with(&client::prefix(address), make);
            rate.take(&meter, self.now()).map_err(busy)?;
        }
        if let Some(rate) = self.connect_rate {
            rate.take(&self.connects, self.now()).map_err(busy)?;
        }
        if self.sockets.fetch_add(1, Ordering::Relaxed) >= self.sockets_max {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
            return Err(ApiError::because(Code::Overloaded, "this node holds as many connections as it can"));
        }
        self.metrics.ws_connections.inc();
        Ok(())
    }

    /// A connection that was counted in has ended.
    fn left(&self) {
        self.metrics.ws_connections.dec();
        if self.sockets.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.empty.notify_waiters();
        }
    }
}

impl ChatConfig {
    /// The ping interval in ticks of a worker's wheel, which are seconds.
    fn ping_ticks(&self) -> u32 {
        u32::from(self.ws_ping_s)
    }

    /// How presence is judged.
    pub fn presence(&self) -> nova_actors::presence::Settings {
        nova_actors::presence::Settings {
            linger: Duration::from_secs(self.presence_linger_s.into()),
            lease: Duration::from_secs(self.presence_lease_s.into()),
        }
    }

    /// What clients are told; 0 requests per second is no limit, and then a high number is told.
    fn announced(&self) -> Limits {
        let requests_per_s = if self.ws_requests_per_s == 0 { u32::MAX } else { self.ws_requests_per_s };
        Limits { message_bytes: frame::MESSAGE_BYTES_MAX as u32, requests_per_s }
    }
}
