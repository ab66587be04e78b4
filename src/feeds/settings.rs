//! What operators decide while the engine runs, read again and again: the switch, the experiments, the folder of models.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Feeds;
use crate::store::StoreError;

/// How often it looks: a switch that is thrown in an emergency works within a second.
const EVERY: Duration = Duration::from_secs(1);
/// Looks between two looks into the folder of models.
const MODELS_EVERY: u32 = 2;

/// Runs for as long as the node does. What cannot be read stays as it was.
pub async fn keep_reading(feeds: Arc<Feeds>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for nth in 0_u32.. {
        ticks.tick().await;
        if let Err(error) = read(&feeds).await {
            tracing::debug!(%error, "the settings of feeds stay as they were");
        }
        if nth % MODELS_EVERY == 0 {
            let of = feeds.clone();
            // A folder on a disk that does not answer holds up nobody but this loop.
            let _looked = tokio::task::spawn_blocking(move || of.models.look(&of.metrics)).await;
        }
    }
}

/// Reads the settings once.
pub async fn read(feeds: &Feeds) -> Result<(), StoreError> {
    let direct = feeds.store.feeds_direct().await?;
    if feeds.direct.swap(direct, Ordering::Relaxed) != direct {
        tracing::warn!(direct, "feeds are read straight from PostgreSQL, or are no longer");
    }
    let experiments = feeds.store.experiments().await?;
    let mut known = feeds.experiments.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if known[..] != experiments[..] {
        *known = experiments.into();
    }
    Ok(())
}
