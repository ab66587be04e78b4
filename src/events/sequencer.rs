//! Gives committed events their places, one node at a time, and keeps the days of the log.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};

use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// How long it waits for this node to say that something was committed; other nodes' commits are found then.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a node that is not the sequencer asks whether it may be.
const STAND_BY: Duration = Duration::from_secs(1);
/// Rows in one transaction: some milliseconds.
const ROWS: i32 = 1_000;
/// How often the days are looked after.
const DAYS_EVERY: Duration = Duration::from_secs(600);
/// Days that are made ahead: a node that sleeps over midnight finds its day.
const DAYS_AHEAD: i32 = 2;
/// How long events are kept, in days.
pub const DAYS_KEPT: i32 = 7;
/// How long the sequencer may say nothing to PostgreSQL before its session is ended, and with it its lock.
const SILENCE_MAX_MS: u32 = 5_000;
/// What the advisory lock is called.
pub const LOCK: i64 = 0x6e6f_7661_0001;

/// Runs for as long as the node does. At any time one node's is the sequencer; the others wait for its session to end.
pub async fn run(store: Store, metrics: Metrics) {
    loop {
        metrics.event_sequencer.set(0);
        if let Err(error) = serve(&store, &metrics).await {
            tracing::debug!(%error, "not the sequencer of the event log");
        }
        metrics.event_sequencer.set(0);
        sleep(STAND_BY).await;
    }
}

/// Becomes the sequencer when nobody is, and stays it until its connection breaks.
async fn serve(store: &Store, metrics: &Metrics) -> Result<(), StoreError> {
    let mut connection = store.connection().await?;
    let mine: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut connection).await?;
    if !mine {
        let _closed = connection.close().await;
        return Ok(());
    }
    // A node that hangs, or is cut off so that nobody hears it end, keeps its session for no longer than this.
    let silence = format!("SET idle_session_timeout = {SILENCE_MAX_MS}");
    sqlx::query(sqlx::AssertSqlSafe(silence)).execute(&mut connection).await?;
    tracing::info!("this node gives events their places");
    metrics.event_sequencer.set(1);
    let mut days = None;
    loop {
        if days.is_none_or(|at: Instant| at.elapsed() > DAYS_EVERY) {
            let dropped = keep_days(&mut connection, None).await?;
            if dropped > 0 {
                tracing::info!(dropped, "days of the event log are over");
            }
            tokio::spawn(forget(store.clone()));
            days = Some(Instant::now());
        }
        let moved = sequence(&mut connection).await?;
        metrics.events_logged.inc_by(moved.unsigned_abs());
        if moved > 0 {
            store.woken().logged.notify_waiters();
        }
        if moved < i64::from(ROWS) {
            let _woken = timeout(LOOK_EVERY, store.woken().outbox.notified()).await;
        }
    }
}

/// Makes the days ahead of a time, of now when there is none, and drops those that are past keeping; says how many.
///
/// # Errors
/// When the database is away.
pub async fn keep_days(connection: &mut PgConnection, at: Option<OffsetDateTime>) -> Result<i32, StoreError> {
    let kept = sqlx::query_scalar("SELECT keep_event_days($1, $2, coalesce($3, now()))");
    Ok(kept.bind(DAYS_AHEAD).bind(DAYS_KEPT).bind(at).fetch_one(connection).await?)
}

/// Forgets the ids of what readers did long ago, beside the sequencer, which waits for nobody.
async fn forget(store: Store) {
    while matches!(store.sweep_behaviours(OffsetDateTime::now_utc()).await, Ok(1..)) {}
}

/// Moves one batch; says how many events it had.
pub async fn sequence(connection: &mut PgConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT sequence_events($1)").bind(ROWS).fetch_one(connection).await?)
}
