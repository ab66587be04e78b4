//! Adds the open changes of counters up, beside the requests.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::store::Store;

/// How often it looks. Numbers are exact in between; what is not folded only costs their readers a little.
const EVERY: Duration = Duration::from_secs(1);
/// Changes in one transaction: its locks are held for milliseconds.
const ROWS: i32 = 5_000;

/// Runs for as long as the node does.
pub async fn keep_folding(store: Store) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            match store.fold_counters(ROWS).await {
                Ok(folded) if folded >= i64::from(ROWS) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "counters are folded later");
                    break;
                }
            }
        }
    }
}
