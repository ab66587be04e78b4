//! Thumbnails of what is on the air on this node, renewed while it lasts.
//!
//! One picture at a time for the whole node, stream after stream: that is the admission. A node with more streams than it can make
//! pictures of in one period has older pictures, and never a busier CPU.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use nova_actors::id::StreamId;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Live;
use super::still::{self, StillError};

/// After so many failures in a row a stream is left alone for 2, 4, 8 … periods, at most for 2 to the power of this.
const BACKOFF_POWER_MAX: u32 = 6;
/// A program that was not there is looked for again after so long.
const PROGRAM_PAUSE: Duration = Duration::from_secs(60);

/// A picture of a broadcast.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// JPEG.
    pub jpeg: Bytes,
    /// Of which broadcast.
    pub broadcast: String,
    /// When it was taken, in seconds since 1970.
    pub at_unix_s: i64,
}

/// The latest picture of each broadcast of this node.
#[derive(Debug, Default)]
pub struct Thumbnails(RwLock<HashMap<StreamId, Thumbnail>>);

impl Thumbnails {
    /// The picture of a stream's broadcast.
    #[must_use]
    pub fn of(&self, stream: StreamId) -> Option<Thumbnail> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned()
    }

    fn put(&self, stream: StreamId, thumbnail: Thumbnail) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(stream, thumbnail);
    }

    /// Forgets those of broadcasts that are no more.
    fn keep(&self, on_air: &HashSet<(StreamId, String)>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|stream, thumbnail| on_air.contains(&(*stream, thumbnail.broadcast.clone())));
    }
}

/// How it went with a stream lately.
#[derive(Debug, Default)]
struct Luck {
    failures: u32,
    skip: u32,
}

/// Takes pictures every `period` until the node leaves.
pub async fn keep_taking(live: Arc<Live>, program: PathBuf, period: Duration) {
    let mut leaving = live.leaving();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lucks: HashMap<StreamId, Luck> = HashMap::new();
    let mut program_back = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // An error says that the node is gone already.
            _ = leaving.wait_for(|leaving| *leaving) => return,
        }
        let broadcasts = live.broadcasts.all();
        let on_air: HashSet<_> = broadcasts.iter().map(|one| (one.stream(), one.name().to_owned())).collect();
        live.thumbnails.keep(&on_air);
        lucks.retain(|stream, _| broadcasts.iter().any(|one| one.stream() == *stream));
        for broadcast in broadcasts {
            if Instant::now() < program_back || *leaving.borrow() {
                break;
            }
            let luck = lucks.entry(broadcast.stream()).or_default();
            if luck.skip > 0 {
                luck.skip -= 1;
                continue;
            }
            let Some(pieces) = broadcast.still() else { continue };
            let at_unix_s = live.clock.now().unix_timestamp();
            let made = still::of(&program, &pieces).await;
            let result = made.as_ref().map_or_else(StillError::as_str, |_| "made");
            live.metrics.thumbnails.with_label_values(&[result]).inc();
            match made {
                Ok(jpeg) => {
                    *luck = Luck::default();
                    let broadcast_name = broadcast.name().to_owned();
                    live.thumbnails
                        .put(broadcast.stream(), Thumbnail { jpeg, broadcast: broadcast_name, at_unix_s });
                }
                Err(error @ StillError::NoProgram(_)) => {
                    tracing::warn!(%error, "there are no thumbnails without it");
                    program_back = Instant::now() + PROGRAM_PAUSE;
                }
                Err(error) => {
                    luck.failures += 1;
                    luck.skip = 1 << luck.failures.min(BACKOFF_POWER_MAX);
                    tracing::warn!(stream = %broadcast.stream(), %error, failures = luck.failures, "a thumbnail could not be made");
                }
            }
        }
    }
}
