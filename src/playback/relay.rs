//! Viewers of a stream whose publisher is on another node.
//!
//! ```text
//! viewers ⇄ this node ── one request at a time: the next view ──▶ the node with the publisher
//!                     ── each part and segment once ────────────▶
//! ```
//!
//! The first viewer of a stream that is not here starts a [`Relay`]: it asks the other node for one view after the other, each as soon as
//! it is there, and shows it to the viewers here, who wait for it as they would for one that was made here. Files are fetched when
//! somebody wants them, once, however many want them at that moment, and kept while there is room. So a stream costs the publisher's node
//! the same for each other node, whatever the number of viewers.
//!
//! When the publisher's node dies, or the publisher goes to another, viewers are told to try again in a second, and the relay looks where
//! the stream is now.

pub(super) mod door;
mod told;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nova_actors::id::{NodeId, StreamId};
use nova_actors::live_stream::View;
use nova_actors::live_stream::audience::Audience;
use nova_media::hls::{self, Edge};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep};

use super::{RETRY_AFTER, gone, not_live};
use crate::error::{ApiError, Code};
use crate::nodes::{self, Seal};
use crate::rest::stream_stats::StreamStats;
use crate::store::Store;
use crate::telemetry::Metrics;
use told::{Ask, Told};

pub use door::configure;

/// Bytes of other nodes' files that are kept: the windows of some dozens of streams.
const FILES_BYTES_MAX: u64 = 256 << 20;
/// Files that are expected among them.
const FILES_EXPECTED: usize = 10_000;
/// A larger file of another node is not taken.
const FILE_BYTES_MAX: usize = 64 << 20;
/// A larger view is not taken: a playlist of hundreds of segments is a tenth of it.
const VIEW_BYTES_MAX: usize = 4 << 20;
/// How long a request between nodes may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// A stream nobody has watched here for so long is not relayed any more.
const IDLE_AFTER: Duration = Duration::from_secs(30);
/// How long a stream may be unreachable before its relay ends: publishers that dropped are back by then, or will not be.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// The pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(300);
/// For how long it is remembered that a stream is not on the air.
const NOT_LIVE_FOR: Duration = Duration::from_secs(1);
/// Streams of which that is remembered.
const NOT_LIVE_MAX: usize = 10_000;
/// Streams of other nodes that are relayed at a time; more are answered 503.
const RELAYS_MAX: usize = 10_000;

/// The name of the source among renditions.
pub(super) const SOURCE: &str = "source";
/// Renditions of one stream that are relayed beside its source; ladders have fewer.
const RENDITIONS_MAX: usize = 8;

/// A stream of another node, as viewers here see it.
#[derive(Debug)]
pub struct Relay {
    pub(super) stream: StreamId,
    pub(super) name: String,
    pub(super) settings: hls::Settings,
    pub(super) views: watch::Sender<Option<Arc<View>>>,
    pub(super) audience: Audience,
    /// When somebody last asked for it, in milliseconds since the relays began.
    wanted_ms: AtomicU64,
    pub(super) is_private: AtomicBool,
    /// Where the other node is reached.
    url: Mutex<String>,
    /// Those of its renditions that are watched here, beside the source. Each is asked for on its own, and only the source's relay says
    /// how many watch: whoever watches keeps that one going too.
    renditions: Mutex<HashMap<String, Arc<OnceCell<Arc<Rendition>>>>>,
}

/// Another rendition of a stream of another node.
#[derive(Debug)]
struct Rendition {
    name: String,
    views: watch::Sender<Option<Arc<View>>>,
    wanted_ms: AtomicU64,
}

/// Where a relay is found, or being made.
type Place = Arc<OnceCell<Arc<Relay>>>;

/// The streams of other nodes that are watched here. Clones share them.
#[derive(Clone)]
pub struct Relays(Arc<Inner>);

struct Inner {
    store: Store,
    node: NodeId,
    seal: Seal,
    clock: Arc<dyn nova_actors::clock::Clock>,
    metrics: Metrics,
    http: reqwest::Client,
    runtime: Handle,
    began: Instant,
    relays: Mutex<HashMap<StreamId, Place>>,
    not_live: quick_cache::sync::Cache<StreamId, Instant>,
    files: quick_cache::sync::Cache<String, Bytes, ByBytes>,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl quick_cache::Weighter<String, Bytes> for ByBytes {
    fn weight(&self, name: &String, file: &Bytes) -> u64 {
        (name.len() + file.len()) as u64
    }
}

/// Why another node did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("it has no such stream or file")]
    NotThere,
    #[error("it cannot be asked: {0}")]
    Away(String),
}

impl From<reqwest::Error> for AskError {
    fn from(error: reqwest::Error) -> AskError {
        AskError::Away(error.without_url().to_string())
    }
}

impl Relays {
    /// None yet. Their tasks run where this is called.
    pub fn new(
        store: Store,
        node: NodeId,
        seal: Seal,
        clock: Arc<dyn nova_actors::clock::Clock>,
        metrics: Metrics,
    ) -> Relays {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_LIMIT)
            .connect_timeout(Duration::from_secs(2))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap_or_default();
        Relays(Arc::new(Inner {
            store,
            node,
            seal,
            clock,
            metrics,
            http,
            runtime: Handle::current(),
            began: Instant::now(),
            relays: Mutex::default(),
            not_live: quick_cache::sync::Cache::new(NOT_LIVE_MAX),
            files: quick_cache::sync::Cache::with_weighter(FILES_EXPECTED, FILES_BYTES_MAX, ByBytes),
        }))
    }

    /// The relay of a stream that is on the air on another node.
    pub(super) async fn find(&self, stream: StreamId) -> Result<Arc<Relay>, ApiError> {
        let inner = &self.0;
        let place = {
            let mut relays = inner.relays();
            match relays.get(&stream) {
                Some(place) => Arc::clone(place),
                None => {
                    if inner.not_live.get(&stream).is_some_and(|until| Instant::now() < until) {
                        return Err(not_live());
                    }
                    if relays.len() >= RELAYS_MAX {
                        return Err(ApiError::because(Code::Overloaded, "too many streams are watched here")
                            .retry_after(RETRY_AFTER));
                    }
                    Arc::clone(relays.entry(stream).or_default())
                }
            }
        };
        let made = place.get_or_try_init(|| Inner::begin(inner, stream, &place)).await;
        match made {
            Ok(relay) => {
                relay.wanted_ms.store(inner.now_ms(), Ordering::Relaxed);
                Ok(Arc::clone(relay))
            }
            Err(error) => {
                inner.forget(stream, &place);
                if error.code() == Code::NotFound {
                    inner.not_live.insert(stream, Instant::now() + NOT_LIVE_FOR);
                }
                Err(error)
            }
        }
    }

    /// A file of a relayed stream: from here when it was fetched before, else from the node that has it. The other node waits for a part
    /// that is about to come.
    pub(super) async fn file(&self, relay: &Relay, epoch: &str, file: &str) -> Result<Bytes, ApiError> {
        let inner = &self.0;
        let target = format!("/internal/live/{}/{}/{epoch}/{file}", relay.stream, relay.name);
        let fetched = inner.files.get_or_insert_async(&target, async {
            let url = lock(&relay.url).clone();
            let bytes = inner.get(&url, &target, FILE_BYTES_MAX).await?;
            inner.metrics.relay_bytes.inc_by(bytes.len() as u64);
            Ok(bytes)
        });
        fetched.await.map_err(|error: AskError| match error {
            AskError::NotThere => gone(),
            AskError::Away(reason) => ApiError::unavailable(reason, RETRY_AFTER),
        })
    }

    /// The views of a rendition of a relayed stream.
    pub(super) async fn views_of(
        &self,
        relay: &Arc<Relay>,
        name: &str,
    ) -> Result<watch::Receiver<Option<Arc<View>>>, ApiError> {
        if name == SOURCE {
            return Ok(relay.views.subscribe());
        }
        let inner = &self.0;
        let place = {
            let mut renditions = lock(&relay.renditions);
            match renditions.get(name) {
                Some(place) => Arc::clone(place),
                None if renditions.len() >= RENDITIONS_MAX => return Err(not_live()),
                None => Arc::clone(renditions.entry(name.to_owned()).or_default()),
            }
        };
        let made = place.get_or_try_init(|| async {
            let ask = Ask::rendition(inner.node, name, None);
            let url = lock(&relay.url).clone();
            let told = inner.ask(&url, relay.stream, &ask).await.map_err(|error| match error {
                AskError::NotThere => not_live(),
                AskError::Away(_) => between_nodes().caused_by(error),
            })?;
            if told.broadcast != relay.name {
                return Err(not_live());
            }
            let rendition = Arc::new(Rendition {
                name: name.to_owned(),
                views: watch::Sender::new(Some(Arc::new(told.view()))),
                wanted_ms: AtomicU64::new(inner.now_ms()),
            });
            inner.runtime.spawn(follow_rendition(
                Arc::clone(inner),
                Arc::clone(relay),
                Arc::clone(&rendition),
            ));
            Ok(rendition)
        });
        match made.await {
            Ok(rendition) => {
                rendition.wanted_ms.store(inner.now_ms(), Ordering::Relaxed);
                Ok(rendition.views.subscribe())
            }
            Err(error) => {
                // Names nobody has are not kept.
                let mut renditions = lock(&relay.renditions);
                if renditions.get(name).is_some_and(|there| there.get().is_none()) {
                    renditions.remove(name);
                }
                Err(error)
            }
        }
    }

    /// Where clients reach the node of a stream's publisher; none of a stream that is not on the air on another node.
    pub(crate) async fn address(&self, stream: StreamId) -> Result<Option<String>, ApiError> {
        let inner = &self.0;
        let now = inner.clock.now();
        let place = inner.store.stream_place(stream, now).await?;
        let Some(place) = place.filter(|place| place.node != inner.node) else { return Ok(None) };
        let addresses = inner.store.node_addresses(now).await?;
        let url = addresses.into_iter().find(|(node, _)| *node == place.node).map(|(_, url)| url);
        url.map(Some).ok_or_else(between_nodes)
    }

    /// How the broadcast of a stream goes, as the node of its publisher says.
    pub(crate) async fn stats(&self, stream: StreamId) -> Option<StreamStats> {
        let inner = &self.0;
        let url = inner.locate(stream).await.ok()?;
        let target = format!("/internal/live/{stream}/stats");
        serde_json::from_slice(&inner.get(&url, &target, VIEW_BYTES_MAX).await.ok()?).ok()
    }

    /// Who watches streams of other nodes here.
    pub fn viewers(&self) -> u32 {
        let relays = self.0.relays();
        relays.values().filter_map(|place| place.get()).map(|relay| relay.audience.count()).sum()
    }
}

impl fmt::Debug for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relays").field("relays", &self.0.relays().len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn relays(&self) -> MutexGuard<'_, HashMap<StreamId, Place>> {
        lock(&self.relays)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn forget(&self, stream: StreamId, place: &Place) {
        let mut relays = self.relays();
        if relays.get(&stream).is_some_and(|there| Arc::ptr_eq(there, place)) {
            relays.remove(&stream);
        }
    }

    /// Where the stream is: another node that can be reached.
    async fn locate(&self, stream: StreamId) -> Result<String, ApiError> {
        let place = self.store.stream_place(stream, self.clock.now()).await?;
        let place = place.filter(|place| place.node != self.node).ok_or_else(not_live)?;
        place.url.ok_or_else(between_nodes)
    }

    async fn begin(inner: &Arc<Inner>, stream: StreamId, place: &Place) -> Result<Arc<Relay>, ApiError> {
        let url = inner.locate(stream).await?;
        let ask = Ask { node: inner.node, viewers: 0, msn: None, part: None, ended: None, rendition: None };
        let told = inner.ask(&url, stream, &ask).await.map_err(|error| match error {
            // It has just ended, or has moved on.
            AskError::NotThere | AskError::Away(_) => between_nodes().caused_by(error),
        })?;
        let (name, settings, is_private) = (told.broadcast.clone(), told.settings(), told.is_private);
        let gone_after = Duration::from_secs((settings.target_duration_s.clamp(1, 60) * 2).into());
        let relay = Arc::new(Relay {
            stream,
            name,
            settings,
            views: watch::Sender::new(Some(Arc::new(told.view()))),
            audience: Audience::new(gone_after),
            wanted_ms: AtomicU64::new(inner.now_ms()),
            is_private: AtomicBool::new(is_private),
            url: Mutex::new(url),
            renditions: Mutex::default(),
        });
        inner.metrics.relays.inc();
        inner.runtime.spawn(follow(Arc::clone(inner), Arc::clone(&relay), Arc::clone(place)));
        Ok(relay)
    }

    async fn ask(&self, url: &str, stream: StreamId, ask: &Ask) -> Result<Told, AskError> {
        let query = serde_urlencoded::to_string(ask).map_err(|error| AskError::Away(error.to_string()))?;
        let bytes = self.get(url, &format!("/internal/live/{stream}?{query}"), VIEW_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|error| AskError::Away(error.to_string()))
    }

    async fn get(&self, url: &str, target: &str, bytes_max: usize) -> Result<Bytes, AskError> {
        let request = self.http.get(format!("{url}{target}")).header(nodes::HEADER, self.seal.sign(target));
        let mut answer = request.send().await?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(AskError::NotThere),
            status => return Err(AskError::Away(format!("it answered {status}"))),
        }
        let mut bytes =
            Vec::with_capacity(answer.content_length().unwrap_or(0).min(bytes_max as u64) as usize);
        while let Some(piece) = answer.chunk().await? {
            if bytes.len() + piece.len() > bytes_max {
                return Err(AskError::Away(format!("it sent more than {bytes_max} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }
}

/// Shows one view after the other, until nobody watches or there are no more.
async fn follow(inner: Arc<Inner>, relay: Arc<Relay>, place: Place) {
    let mut reached = Instant::now();
    let mut ticked = Instant::now();
    let why = loop {
        let now = Instant::now();
        relay.audience.tick(now, now.saturating_duration_since(std::mem::replace(&mut ticked, now)));
        let idle_ms = inner.now_ms().saturating_sub(relay.wanted_ms.load(Ordering::Relaxed));
        if u128::from(idle_ms) > IDLE_AFTER.as_millis() {
            break "nobody watches";
        }
        let edge = relay.views.borrow().as_ref().map(|view| view.playlist.edge);
        let ask = Ask {
            node: inner.node,
            viewers: relay.audience.count(),
            msn: edge.map(|edge| edge.msn),
            part: edge.map(|edge| edge.part),
            ended: edge.map(|edge| edge.ended),
            rendition: None,
        };
        let url = lock(&relay.url).clone();
        match inner.ask(&url, relay.stream, &ask).await {
            Ok(told) if told.broadcast != relay.name => break "another broadcast has begun",
            Ok(told) => {
                reached = Instant::now();
                relay.is_private.store(told.is_private, Ordering::Relaxed);
                let told_edge = Some(Edge { msn: told.msn, part: told.part, ended: told.ended });
                if told_edge != edge {
                    relay.views.send_replace(Some(Arc::new(told.view())));
                }
                continue;
            }
            Err(_) if edge.is_some_and(|edge| edge.ended) => break "it is over",
            Err(error) => {
                tracing::debug!(stream = %relay.stream, %error, "a stream of another node cannot be reached");
            }
        }
        if reached.elapsed() > LOST_AFTER {
            break "it cannot be reached any more";
        }
        sleep(PAUSE).await;
        match inner.locate(relay.stream).await {
            Ok(url) => *lock(&relay.url) = url,
            Err(error) if error.code() == Code::NotFound => break "it is not on another node any more",
            Err(_) => {}
        }
    };
    tracing::debug!(stream = %relay.stream, why, "a stream is not relayed any more");
    inner.forget(relay.stream, &place);
    inner.metrics.relays.dec();
    // Whoever still waits asks again, and finds what there is then.
    relay.views.send_modify(|view| {
        if let Some(latest) = view {
            *view = Some(Arc::new(View { moved: true, ..View::clone(latest) }));
        }
    });
}

/// Shows one view of a rendition after the other, for as long as somebody watches it and its stream is relayed.
async fn follow_rendition(inner: Arc<Inner>, relay: Arc<Relay>, rendition: Arc<Rendition>) {
    let mut failed = 0_u32;
    loop {
        let idle_ms = inner.now_ms().saturating_sub(rendition.wanted_ms.load(Ordering::Relaxed));
        let is_over = relay.views.borrow().as_ref().is_none_or(|view| view.moved);
        let edge = rendition.views.borrow().as_ref().map(|view| view.playlist.edge);
        if is_over || u128::from(idle_ms) > IDLE_AFTER.as_millis() {
            break;
        }
        let ask = Ask::rendition(inner.node, &rendition.name, edge);
        let url = lock(&relay.url).clone();
        match inner.ask(&url, relay.stream, &ask).await {
            Ok(told) if told.broadcast == relay.name => {
                failed = 0;
                let told_edge = Some(Edge { msn: told.msn, part: told.part, ended: told.ended });
                if told_edge != edge {
                    rendition.views.send_replace(Some(Arc::new(told.view())));
                }
                continue;
            }
            Ok(_) => break,
            Err(_) if edge.is_some_and(|edge| edge.ended) => break,
            // A publisher that has changed its node has no ladder there before its first segment.
            Err(_) => failed += 1,
        }
        if PAUSE * failed > LOST_AFTER {
            break;
        }
        sleep(PAUSE).await;
    }
    lock(&relay.renditions).remove(&rendition.name);
    rendition.views.send_modify(|view| {
        if let Some(latest) = view {
            *view = Some(Arc::new(View { moved: true, ..View::clone(latest) }));
        }
    });
}

/// The stream is on its way from one node to another.
fn between_nodes() -> ApiError {
    ApiError::because(Code::Unavailable, "the stream cannot be reached at the moment; try again in a second")
        .retry_after(RETRY_AFTER)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
