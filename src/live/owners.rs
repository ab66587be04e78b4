//! Owners who watch their own stream over a socket are told how it goes, every two seconds while somebody publishes: what
//! `GET /v1/streams/{stream_id}/stats` says, without asking. When it is over they are told once more.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nova_actors::id::StreamId;
use serde_json::value::to_raw_value;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::Engine;
use crate::chat::encoded::Class;
use crate::chat::wire::{self, Push};
use crate::conversations::watch::Watching;
use crate::rest::stream_stats::{StreamStats, stats_of};

/// How often they are told.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Tells them for as long as the engine is there.
pub async fn keep_telling(engine: Weak<Engine>, watching: Watching) {
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Those whose owners were last told that somebody publishes.
    let mut on_air = HashSet::new();
    loop {
        ticks.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        let watched = watching.owners();
        on_air.retain(|stream| watched.iter().any(|(watched, _)| watched == stream));
        for (stream, devices) in watched {
            let Some(stats) = news(&engine, stream, &mut on_air).await else { continue };
            let Ok(stats) = to_raw_value(&stats) else { continue };
            let message = wire::push(&Push::StreamStats { stream, stats: Arc::from(stats) });
            for device in devices {
                // Beside the number of viewers, which has the other slot of this stream.
                let slot = !(stream.as_uuid().as_u128() as u64);
                // Two seconds later there is a newer one.
                let _late = device.try_push(Class::Presence, Some(slot), message.clone());
            }
        }
    }
}

/// How a stream goes, while there is something to tell.
async fn news(engine: &Engine, stream: StreamId, on_air: &mut HashSet<StreamId>) -> Option<StreamStats> {
    let found = engine.store.stream(stream, engine.clock.now()).await.ok()??;
    let stats = stats_of(engine, &found).await;
    match stats.has_publisher() {
        true => drop(on_air.insert(stream)),
        false if !on_air.remove(&stream) => return None,
        false => {}
    }
    Some(stats)
}
