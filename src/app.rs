//! The one place where the parts meet: from configuration to a running node, and back to nothing.
//!
//! [`App::build`] wires from sink to source (store and bus first, doors last) and returns only when the node
//! can serve. [`App::run_until`] serves, then leaves politely: readiness says `draining`, no new connection is
//! accepted, open requests are answered, the pool is closed and the embedded PostgreSQL, if it is ours, stops. What is
//! still open when the drain limit has passed is cut off: dropped inside the runtime of its thread.

mod engine;
mod errand;
mod listen;
mod start_error;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use actix_web::web;
use nova_actors::clock::{Clock, SystemClock};
use nova_actors::id::NodeId;
use nova_actors::port::Bus;
use sqlx::postgres::PgConnectOptions;

use crate::calls::{self, Calls, WithCalls};
use crate::chat::Door;
use crate::chat::tokens::{AccessTokens, hang_up_revoked};
use crate::config::{Config, FeedHeads, NodeRole, RtcConfig};
use crate::conversations::Conversations;
use crate::conversations::blocks::Blocks;
use crate::conversations::presence::Presences;
use crate::conversations::relay::Relay;
use crate::conversations::talk::Talk;
use crate::conversations::watch::Watching;
use crate::egress::Egress;
use crate::feeds::Feeds;
use crate::feeds::heads::{self, Heads};
use crate::health::{Health, Kinds};
use crate::identity::Identity;
use crate::ingest::{Ingest, Sockets};
use crate::live::{Live, owners, thumbnails};
use crate::nodes::{self, Presence, Seal};
use crate::objects::Objects;
use crate::playback::relay::Relays;
use crate::playback::token::Tokens;
use crate::postgres::Embedded;
use crate::recordings::{self, Recordings};
use crate::rest::manner::{Manner, SharedSecret};
use crate::rtc::{Media, RtcError};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use crate::webhooks::Webhooks;
use crate::wish::Wish;

pub use engine::Engine;
pub use errand::Errand;
pub use listen::ListenError;
pub use start_error::StartError;

/// Makes `ring` what every TLS connection of this process uses; before the first is made. Calling it again does nothing.
pub fn use_ring() {
    // The error says that a provider was chosen already, which here can only have been this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A node that is ready to serve.
pub struct App {
    engine: Arc<Engine>,
    server: Server,
    http_addr: SocketAddr,
    metrics_addr: SocketAddr,
    ingest: Option<Ingest>,
    embedded: Option<Embedded>,
    presence: Presence,
    attending: AbortOnDrop,
    webhooks: Webhooks,
}

/// A task that ends with what it belongs to.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl App {
    /// Starts everything the configuration asks for; when this returns, the node is ready.
    ///
    /// Must be called inside an actix system.
    pub async fn build(config: Config) -> Result<App, StartError> {
        use_ring();
        // A taken port is the most common mistake and the cheapest to notice: before anything is started.
        if config.feeds.feed_heads == FeedHeads::Redis && config.bus.redis_url.is_none() {
            return Err(StartError::NoRedisForHeads);
        }
        let http = listen::bind("--http-addr", config.http.http_addr)?;
        let has_ingest = config.has_role(NodeRole::Ingest);
        let rtmp = has_ingest.then(|| listen::bind("--rtmp-addr", config.live.rtmp_addr)).transpose()?;
        let rtmps = config.live.rtmps_addr.filter(|_| has_ingest);
        let rtmps = rtmps.map(|addr| listen::bind("--rtmps-addr", addr)).transpose()?;
        let open = |config: &RtcConfig| listen::bind_udp("--rtc-addr", config.rtc_addr, config.shard_count());
        let (rtc, rtc_addr) = match config.has_role(NodeRole::Rtc) {
            true => open(&config.rtc)?,
            false => (Vec::new(), config.rtc.rtc_addr),
        };
        let tcp = (!rtc.is_empty() && config.rtc.rtc_tcp).then_some(config.rtc.rtc_addr);
        let rtc_tcp = tcp.map(|addr| listen::bind("--rtc-addr", addr)).transpose()?;
        let metrics_listener = listen::bind("--metrics-addr", config.telemetry.metrics_addr)?;
        let tls = listen::tls(&config.http)?;
        let rtmp_addr = rtmp.as_ref().map_or(Ok(config.live.rtmp_addr), listen::address)?;
        let rtmps = rtmps.zip(tls.clone().map(Arc::new));
        let (http_addr, metrics_addr) = (listen::address(&http)?, listen::address(&metrics_listener)?);

        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let node = NodeId::generate();
        let metrics = Metrics::default();

        let embedded = match config.database.database_url {
            Some(_) => None,
            None => Some(start_postgres(&config).await?),
        };
        let store = Store::connect(database(&config, embedded.as_ref())?, &config.database.store()).await?;
        store.migrate().await?;
        let redis = connect_redis(&config).await?;
        let bus = bus(redis.clone());

        let kinds = Kinds {
            postgres: if embedded.is_some() { "embedded" } else { "external" },
            bus: if config.bus.redis_url.is_some() { "redis" } else { "local" },
        };
        let health = Health::watch(store.clone(), bus.clone(), kinds, metrics.clone()).await;
        let identity = Identity::start(&config, node, clock.clone(), store.clone(), bus.clone()).await?;
        let identity = Arc::new(identity);
        let secret = SharedSecret::new(identity.derive_key("rest"));
        let (journal, door) = (Arc::default(), Arc::default());
        let blocks = Blocks::new(store.clone());
        let relay = Relay::start(
            node,
            bus.clone(),
            Arc::clone(&journal),
            Arc::clone(&door),
            blocks.clone(),
            metrics.clone(),
        );
        let told = Arc::new(relay.clone());
        let conversations =
            Conversations::start(store.clone(), clock.clone(), metrics.clone(), told, blocks.clone());
        // Each is made once, here.
        let _set = journal.set(conversations.journal().clone());
        let presences = Presences::start(
            node,
            config.chat.presence(),
            store.clone(),
            conversations.journal().clone(),
            blocks.clone(),
            bus.clone(),
            Arc::clone(&door),
            clock.clone(),
            metrics.clone(),
            relay.hear_blocked(),
        );
        let watching = Watching::start(
            node,
            store.clone(),
            relay.clone(),
            bus.clone(),
            Arc::clone(&door),
            clock.clone(),
        );
        let talk = Talk::start(
            conversations.clone(),
            relay.clone(),
            presences.clone(),
            watching.clone(),
            Arc::clone(&door),
            clock.clone(),
        );
        let tokens = Arc::new(AccessTokens(identity.clone()));
        // Without sockets calls are elsewhere.
        let (media, events) = Media::start(&config.rtc, rtc, rtc_tcp, &metrics)?;
        if config.rtc.rtc_fault_stall_s > 0 {
            media
                .stall_on_signal(Duration::from_secs(config.rtc.rtc_fault_stall_s.into()))
                .map_err(RtcError::from)?;
        }
        if config.rtc.rtc_fault_break {
            media.break_on_signal().map_err(RtcError::from)?;
        }
        health.watch_media(media.clone());
        let parts = calls::Parts {
            node,
            are_here: config.has_role(NodeRole::Rtc),
            store: store.clone(),
            bus: bus.clone(),
            told: Arc::new(relay.clone()),
            blocks,
            blocked: relay.hear_blocked(),
            media: media.clone(),
            events,
            door: Arc::clone(&door),
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let calls = Calls::start(&config.rtc, parts);
        let deciders = WithCalls { others: talk.clone(), calls: calls.clone() };
        let chat =
            Door::new(&config.chat, &config.http, clock.clone(), metrics.clone(), tokens, Arc::new(deciders));
        let chat = if config.has_role(NodeRole::Chat) { chat } else { chat.closed() };
        let _set = door.set(chat.clone());
        tokio::spawn(hang_up_revoked(chat.clone(), identity.clone()));
        let is_worker = config.has_role(NodeRole::Worker);
        if is_worker {
            tokio::spawn(crate::social::fold::keep_folding(store.clone()));
            tokio::spawn(crate::social::stories::keep_sweeping(store.clone(), clock.clone()));
            tokio::spawn(conversations.clone().keep_swept());
            tokio::spawn(crate::events::sequencer::run(store.clone(), metrics.clone()));
            tokio::spawn(crate::events::consumer::keep_measuring(store.clone(), metrics.clone()));
            let notices = crate::events::notices::Notices(store.clone());
            tokio::spawn(crate::events::consumer::run(store.clone(), metrics.clone(), notices));
            if let Some(settings) = config.kafka.settings() {
                let kafka = crate::events::kafka::Kafka::new(settings, store.clone());
                tokio::spawn(crate::events::consumer::run(store.clone(), metrics.clone(), kafka));
            }
        }
        let (budgets, models) = (config.feeds.budgets(), config.feed_models());
        let heads: Arc<dyn Heads> = match redis.filter(|_| config.feeds.feed_heads == FeedHeads::Redis) {
            // What Redis does not answer in half of a level's time leaves the other half for PostgreSQL.
            Some(redis) => {
                let limit = budgets.newest.min(budgets.engagement).min(budgets.model) / 2;
                Arc::new(heads::redis::Heads::new(redis, clock.clone(), metrics.clone(), limit))
            }
            None => Arc::new(heads::memory::Heads::default()),
        };
        let feeds = Arc::new(Feeds::new(
            store.clone(),
            clock.clone(),
            metrics.clone(),
            budgets,
            models,
            chat.clone(),
            heads,
        ));
        tokio::spawn(crate::feeds::settings::keep_reading(feeds.clone()));
        tokio::spawn(crate::feeds::tail::follow(feeds.clone(), node));
        let manner = Manner::new(&config, &secret, metrics.clone());
        let objects = Objects::open(&config.objects_place(), config.objects.objects_endpoint.as_deref())?;
        let keeping = keeping(&config);
        let recordings =
            Recordings::start(keeping, store.clone(), objects, node, clock.clone(), metrics.clone());
        let (kept, recorder) = (Arc::new(store.clone()), Arc::new(recordings.clone()));
        let live = Live::new(&config.live, node, clock.clone(), kept, recorder, bus.clone(), metrics.clone());
        let live = Arc::new(live.map_err(StartError::Threads)?);
        let wish = Wish::start(
            media.clone(),
            live.clone(),
            config.live.ffmpeg.clone(),
            config.rtc.whep_sessions_max as usize,
            metrics.clone(),
        );
        calls.stream_with(Egress::new(media, live.clone(), config.live.ffmpeg.clone(), metrics.clone()));
        let attending = live.clone().attend(node, bus.clone(), store.clone());
        let attending = AbortOnDrop(tokio::spawn(attending));
        let seal = Seal::new(&identity.derive_key("nodes"), clock.clone());
        let playback_tokens = Tokens::new(&identity.derive_key("playback"));
        let relays = Relays::new(store.clone(), node, seal.clone(), clock.clone(), metrics.clone());
        if config.live.thumbnail_s > 0 {
            let period = Duration::from_secs(config.live.thumbnail_s.into());
            tokio::spawn(thumbnails::keep_taking(live.clone(), config.live.ffmpeg.clone(), period));
        }
        let threads = config.live.ingest_thread_count();
        let sockets = rtmp.map(|plain| Sockets { plain, tls: rtmps });
        let open = |sockets| Ingest::open(&config.live, threads, sockets, live.clone());
        let ingest = sockets.map(open).transpose().map_err(StartError::Threads)?;
        let started = clock.instant();
        let engine = Arc::new(Engine {
            started,
            node,
            clock,
            metrics,
            store,
            bus,
            identity,
            feeds,
            conversations,
            live,
            relays,
            seal,
            playback_tokens,
            recordings,
            presences,
            calls,
            wish,
            talk,
            chat,
            health,
            http_addr,
            rtmp_addr,
            rtc_addr,
            config,
        });
        let server = listen::serve(
            web::Data::from(engine.clone()),
            web::Data::new(manner),
            http,
            metrics_listener,
            tls,
        )?;
        tokio::spawn(owners::keep_telling(Arc::downgrade(&engine), watching));
        let told = &engine.config.webhooks;
        let webhooks = Webhooks::start(
            if is_worker { &told.webhook_urls } else { &[] },
            told.webhook_secret.as_ref(),
            &engine.store,
            &engine.clock,
            &engine.metrics,
        );
        let derived = || nodes::url(http_addr, engine.config.http.tls_cert.is_some());
        let url = engine.config.http.node_url.clone().unwrap_or_else(derived);
        let presence = Presence::begin(engine.store.clone(), node, url, engine.clock.clone()).await;
        if let Some(url) = &engine.config.http.node_public_url {
            engine.store.node_is_reached_at(node, url).await?;
        }
        // Calls are joined over the socket.
        if engine.config.has_role(NodeRole::Rtc) && engine.config.has_role(NodeRole::Chat) {
            engine.store.node_has_calls(node).await?;
        }
        Ok(App { engine, server, http_addr, metrics_addr, ingest, embedded, presence, attending, webhooks })
    }

    /// What the doors share; for tests and for commands that run beside the server.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The address of the HTTP door.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// The line printed on standard output when the node is ready: the doors it has.
    pub fn ready_line(&self) -> String {
        let mut line = serde_json::Map::new();
        line.insert("ready".to_owned(), true.into());
        let mut has = |door: &str, addr: SocketAddr| {
            line.insert(door.to_owned(), addr.to_string().into());
        };
        has("http", self.http_addr);
        if self.ingest.is_some() {
            has("rtmp", self.engine.rtmp_addr);
        }
        if self.engine.config.has_role(NodeRole::Rtc) {
            has("rtc", self.engine.rtc_addr);
        }
        has("metrics", self.metrics_addr);
        serde_json::Value::Object(line).to_string()
    }

    /// Serves until `stop` resolves, then drains; returns when nothing of the node is left.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let App { engine, server, ingest, embedded, presence, attending, webhooks, .. } = self;
        let handle = server.handle();
        let mut running = listen::Running::start(server).map_err(StartError::Threads)?;
        let served = tokio::select! {
            ended = running.ended() => ended.map_err(StartError::Server),
            () = stop => {
                drain(&engine, &handle, ingest.as_ref(), running).await;
                Ok(())
            }
        };
        engine.talk.flush().await;
        engine.presences.leave().await;
        // What was accepted is written before the pool closes.
        engine.conversations.close().await;
        engine.recordings.stop(Duration::from_secs(3)).await;
        engine.live.stop(Duration::from_secs(1)).await;
        drop((attending, webhooks));
        presence.end().await;
        engine.store.close().await;
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
        served
    }
}

/// Open requests have until the configured limit; what is still open then is cut off.
async fn drain(
    engine: &Engine,
    handle: &ServerHandle,
    ingest: Option<&Ingest>,
    mut running: listen::Running,
) {
    tracing::info!("draining");
    engine.health.drain();
    engine.live.leave();
    engine.calls.leave();
    let limit = Duration::from_secs(u64::from(engine.config.http.drain_s));
    let politely = async {
        // The server knows nothing of the sockets the WebSocket door has taken over and would end the threads they
        // live on before they have heard their goodbye.
        let doors = async {
            engine.chat.drain(limit).await;
            handle.stop(true).await;
        };
        let publishers = async {
            if let Some(ingest) = ingest {
                ingest.close(limit).await;
            }
        };
        let ((), (), ended) = tokio::join!(publishers, doors, running.ended());
        ended
    };
    match tokio::time::timeout(limit + Duration::from_secs(1), politely).await {
        Ok(Ok(())) => tracing::info!("drained"),
        Ok(Err(error)) => tracing::warn!(%error, "the server ended with an error while draining"),
        Err(_) => {
            tracing::warn!("connections were cut off: they were still open when the drain limit passed")
        }
    }
}

/// How recordings are treated.
fn keeping(config: &Config) -> recordings::Settings {
    let days = config.live.recording_days;
    recordings::Settings {
        resume: Duration::from_secs(config.live.stream_resume_s.into()),
        keep: (days > 0).then(|| Duration::from_secs(u64::from(days) * 86_400)),
        has_peers: config.bus.redis_url.is_some(),
        ffmpeg: config.live.ffmpeg.clone(),
    }
}

async fn connect_redis(config: &Config) -> Result<Option<crate::bus::redis::Bus>, StartError> {
    Ok(match config.bus.redis() {
        Some(redis) => Some(crate::bus::redis::Bus::connect(redis).await?),
        None => None,
    })
}

fn bus(redis: Option<crate::bus::redis::Bus>) -> Arc<dyn Bus> {
    match redis {
        Some(redis) => Arc::new(redis),
        None => Arc::new(nova_actors::memory::Bus::default()),
    }
}

async fn start_postgres(config: &Config) -> Result<Embedded, StartError> {
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|source| StartError::DataDir { path: config.data_dir.clone(), source })?;
    Ok(Embedded::start(&config.data_dir, &config.database.embedded()).await?)
}

/// Where PostgreSQL is: ours, or the configured one.
fn database(config: &Config, embedded: Option<&Embedded>) -> Result<PgConnectOptions, StartError> {
    match (embedded, &config.database.database_url) {
        (Some(embedded), _) => Ok(embedded.connect_options()),
        (None, Some(url)) => url.expose().parse().map_err(|source| StoreError::from(source).into()),
        (None, None) => unreachable!("without a URL the embedded server was started"),
    }
}
