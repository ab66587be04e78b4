//! Reading the log: one loop for each group on each node.
//!
//! A turn is one transaction: lock the cursor of a part that has something new and nobody is at, read what follows, let the consumer do
//! what it does, move the cursor, commit. A consumer that fails is tried again with growing pauses, then event by event; the one that
//! cannot be taken becomes a dead letter and its part goes on.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx::PgConnection;
use tokio::time::{Instant, timeout};

use super::{Logged, Topic};
use crate::store::events::Lag;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Events in one turn.
const BATCH: i64 = 500;
/// How long it waits to be told of new events; those of other nodes are found then.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a turn may take before it is a failure.
const TURN_MAX: Duration = Duration::from_secs(20);
/// Tries of one event before it is a dead letter.
const TRIES: i32 = 5;
/// The first pause after a failure; it doubles.
const PAUSE_FIRST_MS: i64 = 100;
/// The longest.
const PAUSE_MAX_MS: i64 = 5_000;

/// Why a consumer did not take events.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct HandleError {
    reason: String,
    is_away: bool,
}

impl HandleError {
    /// For a reason that may lie in the events: after some tries the one that cannot be taken is a dead letter.
    pub fn because(reason: impl std::fmt::Display) -> HandleError {
        HandleError { reason: reason.to_string(), is_away: false }
    }

    /// Where the events are to go is not there: they wait until it is, however long that takes.
    pub fn away(reason: impl std::fmt::Display) -> HandleError {
        HandleError { reason: reason.to_string(), is_away: true }
    }
}

impl From<sqlx::Error> for HandleError {
    fn from(error: sqlx::Error) -> HandleError {
        HandleError::because(error)
    }
}

impl From<StoreError> for HandleError {
    fn from(error: StoreError) -> HandleError {
        HandleError::because(error)
    }
}

/// Somebody who has to know what happened.
#[async_trait]
pub trait Consumer: Send + Sync + 'static {
    /// The name its cursors are kept under. Another name reads the log from its beginning.
    fn group(&self) -> &'static str;

    /// What it reads.
    fn topics(&self) -> &'static [Topic];

    /// Takes events of one part, in order. What it does over `tx` commits with the cursor: it has its effect once. What it does elsewhere
    /// is repeated after a failure.
    async fn take(&self, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError>;
}

/// Runs one group on this node for as long as the node does.
pub async fn run(store: Store, metrics: Metrics, consumer: impl Consumer) {
    loop {
        // Before the look, so that what is logged after it is heard of.
        let logged = store.woken().logged.notified();
        tokio::pin!(logged);
        logged.as_mut().enable();
        match drain(&store, &metrics, &consumer).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(group = consumer.group(), %error, "events are read later"),
        }
        let _woken = timeout(LOOK_EVERY, logged).await;
    }
}

/// Takes turns until nothing is left that can be taken now.
///
/// # Errors
/// When the database is away.
pub async fn drain(store: &Store, metrics: &Metrics, consumer: &impl Consumer) -> Result<(), StoreError> {
    store.join_group(consumer.group(), consumer.topics()).await?;
    while retry(store, metrics, consumer).await? {}
    while turn(store, metrics, consumer).await? {}
    Ok(())
}

/// Gives a consumer a dead letter an operator wants it to have once more; says whether there was one. It comes late: versions tell a
/// consumer what is newer.
async fn retry(store: &Store, metrics: &Metrics, consumer: &impl Consumer) -> Result<bool, StoreError> {
    let group = consumer.group();
    let mut tx = store.pool().begin().await?;
    let Some(letter) = store.take_due_letter(&mut tx, group).await? else { return Ok(false) };
    match give(consumer, &mut tx, std::slice::from_ref(&letter.event)).await {
        Ok(()) => {
            store.settle_letter(&mut tx, letter.id, None).await?;
            tx.commit().await?;
            metrics.events_consumed.with_label_values(&[group]).inc();
        }
        Err(failed) => {
            tx.rollback().await?;
            metrics.event_failures.with_label_values(&[group]).inc();
            let mut tx = store.pool().begin().await?;
            store.settle_letter(&mut tx, letter.id, Some(&failed.reason)).await?;
            tx.commit().await?;
        }
    }
    Ok(true)
}

/// Lets a consumer take events, for a bounded time and whatever it does; says why it did not.
async fn give(consumer: &impl Consumer, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
    match AssertUnwindSafe(timeout(TURN_MAX, consumer.take(tx, events))).catch_unwind().await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_late)) => Err(HandleError::because(format!("it took longer than {} s", TURN_MAX.as_secs()))),
        Err(_panic) => Err(HandleError::because("it panicked")),
    }
}

/// One turn; says whether there was anything to take.
async fn turn(store: &Store, metrics: &Metrics, consumer: &impl Consumer) -> Result<bool, StoreError> {
    let group = consumer.group();
    let mut tx = store.pool().begin().await?;
    let Some(cursor) = store.take_cursor(&mut tx, group).await? else { return Ok(false) };
    // After a failure one at a time, so that what cannot be taken is found.
    let rows = if cursor.failures > 0 { 1 } else { BATCH };
    let (events, top) = store.events_after(&mut tx, &cursor, rows).await?;
    let began = Instant::now();
    let taken = give(consumer, &mut tx, &events).await;
    metrics.event_turn_duration.with_label_values(&[group]).observe(began.elapsed().as_secs_f64());
    let failed = match taken {
        Ok(()) => {
            store.move_cursor(&mut tx, group, &cursor, top).await?;
            tx.commit().await?;
            // A consumer may have told something itself.
            store.woken().outbox.notify_one();
            metrics.events_consumed.with_label_values(&[group]).inc_by(events.len() as u64);
            return Ok(true);
        }
        Err(error) => error,
    };
    let HandleError { reason: failed, is_away } = failed;
    tx.rollback().await?;
    let (topic, part, place) = (cursor.topic.name(), cursor.part, cursor.place);
    // What is away is away for every part: its consumer says so once.
    match is_away {
        true => tracing::debug!(group, topic, part, place, failed, "events wait"),
        false => tracing::warn!(group, topic, part, place, failed, "events were not taken"),
    }
    metrics.event_failures.with_label_values(&[group]).inc();
    let mut tx = store.pool().begin().await?;
    let last_try = !is_away && rows == 1 && cursor.failures + 1 >= TRIES;
    match (last_try, events.first()) {
        (true, Some(event)) => {
            if store.bury(&mut tx, group, &cursor, event, &failed).await? {
                metrics.event_dead_letters.with_label_values(&[group]).inc();
            }
        }
        _ => {
            let pause = (PAUSE_FIRST_MS << cursor.failures.clamp(0, 8)).min(PAUSE_MAX_MS);
            store.note_failure(&mut tx, group, &cursor, &failed, pause).await?;
        }
    }
    tx.commit().await?;
    Ok(true)
}

async fn measure(store: &Store) -> Result<(Vec<Lag>, Vec<(String, i64)>, i64), StoreError> {
    Ok((store.event_lag().await?, store.dead_letter_counts().await?, store.outbox_len().await?))
}

/// Measures how far the groups are behind, for as long as the node runs.
pub async fn keep_measuring(store: Store, metrics: Metrics) {
    const EVERY: Duration = Duration::from_secs(5);
    loop {
        match measure(&store).await {
            Ok((lags, letters, waiting)) => {
                metrics.event_outbox.set(waiting);
                // A group without letters any more is not in the list, nor is one that was forgotten.
                metrics.event_dead_letters_kept.reset();
                metrics.event_lag.reset();
                metrics.event_age.reset();
                for (group, count) in letters {
                    metrics.event_dead_letters_kept.with_label_values(&[&group]).set(count);
                }
                for lag in lags {
                    let (topic, part) = (lag.topic.name(), lag.part.to_string());
                    metrics.event_lag.with_label_values(&[&lag.group, topic, &part]).set(lag.behind);
                    metrics.event_age.with_label_values(&[&lag.group, topic, &part]).set(lag.age_s);
                }
            }
            Err(error) => tracing::debug!(%error, "how far behind the events are is measured later"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
