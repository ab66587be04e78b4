//! Takes away what is left of stories whose day is over. Nobody sees them any more by then: every query asks for the time.

use std::sync::Arc;
use std::time::Duration;

use nova_actors::clock::Clock;
use tokio::time::{MissedTickBehavior, interval};

use crate::store::Store;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(60);
/// Stories in one statement, their views with them.
const ROWS: i64 = 200;
/// Rows stay this long after their time, so that nothing that began before it finds them half gone.
const AFTER: time::Duration = time::Duration::minutes(1);

/// Runs for as long as the node does.
pub async fn keep_sweeping(store: Store, clock: Arc<dyn Clock>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        loop {
            match store.sweep_stories(clock.now() - AFTER, ROWS).await {
                Ok(swept) if swept >= ROWS.unsigned_abs() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "old stories are taken away later");
                    break;
                }
            }
        }
    }
}
