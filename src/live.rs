//! Live streams on this node: where they are found, their keys, and what their two doors share.
//!
//! Publishers come in by [`crate::ingest`], viewers by [`crate::playback`]; [`nova_actors::live_stream`] decides, and media goes
//! from one door to the other through the [`Broadcast`]s without passing a mailbox.
//!
//! [`Broadcast`]: nova_actors::live_stream::Broadcast

pub mod owners;
pub mod still;
pub mod thumbnails;
pub mod transcoder;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nova_actors::clock::Clock;
use nova_actors::directory::{Directory, Settings as DirectorySettings};
use nova_actors::id::NodeId;
use nova_actors::live_stream::{
    Broadcasts, ChangeKey, Claims, Delete, GiveUp, LiveStreams, News, SetPrivate, Settings, StartLiveStream,
};
use nova_actors::port::{Bus, BusEvent, KeyHash, Recorder, Streams};
use nova_actors::workers::Workers;
use nova_media::hls;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use crate::config::LiveConfig;
use crate::rest::client;
use crate::store::Store;
use crate::telemetry::Metrics;
use thumbnails::Thumbnails;
use transcoder::Transcoders;
use transcoder::admission::Budget;

/// Threads the actors of live streams live on. They hear a few messages a minute; media and viewers are elsewhere.
const ACTOR_THREADS: usize = 1;
/// How long a stream without publisher and viewers stays in memory.
const IDLE_AFTER: Duration = Duration::from_secs(120);
/// How long a stream may take to start: a node that has died keeps it for some seconds.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a stream may take to hear what happened elsewhere.
const TELL_LIMIT: Duration = Duration::from_secs(5);
/// How often streams whose node is silent are looked for, and the pause before a bus that is away is asked again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What stream keys begin with, so that people and scanners know one when they see it.
const KEY_PREFIX: &str = "live_";
/// Random bytes of a stream key: more than anybody can try.
const KEY_BYTES: usize = 20;

/// The live streams of one node.
pub struct Live {
    /// Who decides.
    pub streams: LiveStreams,
    /// What is durable.
    pub kept: Arc<dyn Streams>,
    /// What is on the air here.
    pub broadcasts: Broadcasts,
    /// How it looks.
    pub thumbnails: Thumbnails,
    /// The cores of this node that transcode.
    pub budget: Arc<Budget>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Which streams are this node's.
    pub claims: Arc<Claims>,
    /// What is counted.
    pub metrics: Metrics,
    /// Requests that may wait for a part at a time, over all workers. Each is a parked task of a few kibibytes; when full, further
    /// ones are answered 503.
    pub waits: Semaphore,
    segment_ms: u32,
    leaving: watch::Sender<bool>,
    /// Tells viewers apart without remembering who they are.
    viewers: RandomState,
    workers: Workers,
}

impl Live {
    /// The streams of a node that has none on the air. To be called inside an actix system.
    pub fn new(
        config: &LiveConfig,
        node: NodeId,
        clock: Arc<dyn Clock>,
        kept: Arc<dyn Streams>,
        recorder: Arc<dyn Recorder>,
        bus: Arc<dyn Bus>,
        metrics: Metrics,
    ) -> io::Result<Live> {
        let broadcasts = Broadcasts::default();
        let claims = Arc::new(Claims::new(bus, node));
        let (ladder, cores) = (config.ladder.clone(), config.ladder_cores());
        let transcoder = Transcoders::new(ladder, config.ffmpeg.clone(), cores, metrics.clone());
        let budget = transcoder.budget();
        let start = StartLiveStream {
            claims: Arc::clone(&claims),
            node,
            settings: settings(config),
            streams: Arc::clone(&kept),
            recorder,
            transcoder: Arc::new(transcoder),
            broadcasts: broadcasts.clone(),
            clock: Arc::clone(&clock),
        };
        let workers = Workers::start(ACTOR_THREADS)?;
        let directory = DirectorySettings {
            idle_after: IDLE_AFTER,
            start_limit: START_LIMIT,
            ..DirectorySettings::default()
        };
        Ok(Live {
            streams: Directory::new(start, directory, workers.clone(), Arc::new(())),
            kept,
            broadcasts,
            thumbnails: Thumbnails::default(),
            budget,
            clock,
            claims,
            metrics,
            waits: Semaphore::new(config.playback_waits_max as usize),
            segment_ms: config.hls_segment_ms,
            leaving: watch::Sender::new(false),
            viewers: RandomState::new(),
            workers,
        })
    }

    /// Hears what other nodes say of streams, and ends those whose node says nothing any more; for as long as the node lives.
    pub async fn attend(self: Arc<Self>, node: NodeId, bus: Arc<dyn Bus>, store: Store) {
        let hearing = async {
            loop {
                if let Ok(mut news) = bus.subscribe(&News::topic()).await {
                    while let Some(event) = news.next().await {
                        // After a gap: whoever wants a stream asks again; a key that was changed is read at the next start.
                        if let BusEvent::Message(bytes) = event {
                            self.heard(node, News::read(&bytes)).await;
                        }
                    }
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let looking = async {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match store.end_silent_streams(self.clock.now()).await {
                    Ok(0) => {}
                    Ok(ended) => tracing::warn!(ended, "streams ended with their nodes"),
                    Err(error) => tracing::warn!(%error, "streams whose node is gone are not looked for"),
                }
            }
        };
        tokio::join!(hearing, looking);
    }

    async fn heard(&self, here: NodeId, news: Option<News>) {
        match news {
            Some(News::Came(stream, node)) if node != here && self.claims.has(stream) => {
                match self.streams.existing(stream) {
                    // It lets go of the stream itself, after it has noted where it stands.
                    Some(actor) => drop(actor.send(GiveUp, TELL_LIMIT).await),
                    None => self.claims.give_up(stream).await,
                }
            }
            Some(News::Changed(stream)) => {
                let Some(actor) = self.streams.existing(stream) else { return };
                if let Ok(Some(record)) = self.kept.load(stream).await {
                    let _ = actor.send(ChangeKey(record.key), TELL_LIMIT).await;
                    let _ = actor.send(SetPrivate(record.is_private), TELL_LIMIT).await;
                }
            }
            Some(News::Deleted(stream)) => {
                if let Some(actor) = self.streams.existing(stream) {
                    let _ = actor.send(Delete, TELL_LIMIT).await;
                }
            }
            Some(News::Came(..)) | None => {}
        }
    }

    /// How long segments are meant to be: publishers of our own make a keyframe so often.
    pub fn segment_ms(&self) -> u32 {
        self.segment_ms
    }

    /// Becomes true when the node is leaving.
    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    /// Tells publishers and waiting viewers that the node is leaving.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Ends the actors, once the doors are closed.
    pub async fn stop(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let left = self.streams.drain(limit).await;
        if left > 0 {
            tracing::warn!(left, "live streams were still busy when the drain limit passed");
        }
        // Otherwise publishers that go to another node would wait there until the leases expire.
        if timeout_at(until, self.claims.settle()).await.is_err() {
            tracing::warn!("other nodes get streams late: they could not be given up within the drain limit");
        }
        self.workers.stop();
    }

    /// A number that is the same for the same viewer as long as this process lives, and says nothing of who it is.
    pub fn viewer(&self, address: IpAddr, agent: &[u8]) -> u64 {
        self.viewers.hash_one((client::prefix(address), agent))
    }

    /// Brings the gauges up to date; asked with every scrape. `relayed` watch streams of other nodes here.
    pub fn measure(&self, relayed: u32) {
        let views = self.broadcasts.all();
        let live =
            views.iter().filter(|broadcast| !broadcast.has_ended() && broadcast.views().borrow().is_some());
        self.metrics.streams_live.set(live.count() as i64);
        let here: i64 = views.iter().map(|broadcast| i64::from(broadcast.audience().here())).sum();
        self.metrics.viewers.set(here + i64::from(relayed));
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("streams", &self.streams).finish_non_exhaustive()
    }
}

fn settings(config: &LiveConfig) -> Settings {
    let hls = hls::Settings {
        part_target_ms: config.hls_part_ms,
        segment_target_ms: config.hls_segment_ms,
        // Encoders miss the keyframe they were asked for; twice the segment is what they may.
        target_duration_s: (2 * config.hls_segment_ms).div_ceil(1_000),
        segments_max: config.hls_segments.into(),
    };
    Settings { hls, resume: Duration::from_secs(config.stream_resume_s.into()), ..Settings::default() }
}

/// A new stream key, and what is kept of it.
pub fn stream_key() -> Result<(String, KeyHash), getrandom::Error> {
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random)?;
    let key = format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let hash = hash_key(&key);
    Ok((key, hash))
}

/// What is kept of a stream key.
pub fn hash_key(key: &str) -> KeyHash {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    KeyHash(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_known_again() {
        let (one, hash) = stream_key().expect("random bytes");
        let (other, _) = stream_key().expect("random bytes");
        assert_ne!(one, other);
        assert!(one.starts_with("live_") && one.len() == 32, "{one}");
        assert_eq!(hash_key(&one), hash);
        assert_ne!(hash_key(&other), hash);
    }
}
