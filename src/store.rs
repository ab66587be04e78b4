//! PostgreSQL, which holds the truth: the pool, its limits, its migrations, its errors.
//!
//! [`Store`] is cheap to clone; each noun adds its queries in a file of its own below `store/`. Every connection has its limits set
//! while it is made: how long a statement runs, how long it waits for a lock, how long a transaction may idle. A pool that has nothing
//! free in time answers [`StoreError::Unavailable`], which the doors say as 503; so a slow database makes callers wait for a known
//! time, and never piles them up.

pub mod accounts;
mod airings;
pub mod behaviours;
pub mod calls;
pub mod comments;
pub mod conversations;
pub mod credentials;
pub mod cursors;
pub mod dead_letters;
pub mod entries;
mod error;
pub mod events;
pub mod experiments;
pub mod feeds;
pub mod follows;
pub mod idempotency;
pub mod likes;
pub mod members;
mod migrations;
pub mod nodes;
pub mod notices;
pub mod posts;
pub mod recordings;
pub mod rooms;
pub mod sessions;
pub mod sightings;
pub mod signing_keys;
pub mod stories;
pub mod stream_chats;
pub mod stream_viewers;
pub mod streams;
pub mod totp;
pub mod training;
pub mod visibility;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

pub use error::{OnConstraint, StoreError};
pub use migrations::MIGRATIONS;

/// The oldest PostgreSQL we work with.
const MAJOR_MIN: i32 = 14;

/// How often a server that is not there yet is asked again.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long statements that are under way are waited for when a node leaves.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What can be decided about the connections to PostgreSQL.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Connections at most; what wants more waits.
    pub connections_max: u32,
    /// Connections kept open while nothing happens, so the first after a pause does not wait for one.
    pub connections_min: u32,
    /// How long a caller waits for a connection before it is [`StoreError::Unavailable`].
    pub acquire_max: Duration,
    /// How long one statement may run (`statement_timeout`).
    pub statement_max: Duration,
    /// How long one statement may wait for a lock (`lock_timeout`).
    pub lock_max: Duration,
    /// How long a transaction may do nothing (`idle_in_transaction_session_timeout`): its locks hold others up.
    pub idle_in_transaction_max: Duration,
    /// How long [`Store::connect`] waits for a server that is not there yet: it may start at the same time as we do.
    pub connect_max: Duration,
    /// Who we say we are in `pg_stat_activity`.
    pub application_name: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            connections_max: 16,
            connections_min: 1,
            acquire_max: Duration::from_secs(3),
            statement_max: Duration::from_secs(10),
            lock_max: Duration::from_secs(5),
            idle_in_transaction_max: Duration::from_secs(30),
            connect_max: Duration::from_secs(30),
            application_name: "nova".to_owned(),
        }
    }
}

/// The way to PostgreSQL. Clones share one pool.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    /// For connections outside the pool, without its limits.
    options: PgConnectOptions,
    answer_max: Duration,
    woken: Arc<Woken>,
}

/// What parts of this node wake each other with; what other nodes do is found by looking.
#[derive(Debug, Default)]
pub struct Woken {
    /// Something was committed to the outbox.
    pub outbox: Notify,
    /// Events have got their places.
    pub logged: Notify,
}

/// How busy the pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolUse {
    /// Connections that are open.
    pub open: u32,
    /// Of these, how many nobody uses.
    pub idle: u32,
    /// How many there may be.
    pub max: u32,
}

impl Store {
    /// Opens the pool, and looks whether the server is one we can work with.
    ///
    /// # Errors
    /// [`StoreError::Connect`] when it is not there within [`StoreConfig::connect_max`] or refuses us, [`StoreError::TooOld`],
    /// [`StoreError::Encoding`].
    pub async fn connect(options: PgConnectOptions, config: &StoreConfig) -> Result<Store, StoreError> {
        let options = options.application_name(&config.application_name);
        // Set by the first packet of each connection, so no connection is ever without them.
        let limited = options.clone().options([
            ("statement_timeout", config.statement_max.as_millis().to_string()),
            ("lock_timeout", config.lock_max.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", config.idle_in_transaction_max.as_millis().to_string()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.connections_max)
            .min_connections(config.connections_min.min(config.connections_max))
            .acquire_timeout(config.acquire_max)
            .connect_lazy_with(limited);
        let store = Store { pool, options, answer_max: config.acquire_max, woken: Arc::default() };
        store.check_server(config.connect_max).await?;
        Ok(store)
    }

    async fn check_server(&self, patience: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + patience;
        let (version, encoding) = loop {
            let look = sqlx::query_as::<_, (i32, String)>(
                "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')",
            );
            match look.fetch_one(&self.pool).await {
                Ok(found) => break found,
                Err(error) => match StoreError::from(error) {
                    StoreError::Unavailable(error) if Instant::now() < deadline => {
                        tracing::info!(%error, "waiting for PostgreSQL");
                        sleep(ASK_EVERY).await;
                    }
                    StoreError::Unavailable(error) | StoreError::Database(error) => {
                        return Err(StoreError::Connect(error));
                    }
                    other => return Err(other),
                },
            }
        };
        match version / 10_000 {
            found if found < MAJOR_MIN => Err(StoreError::TooOld { found, min: MAJOR_MIN }),
            _ if encoding != "UTF8" => Err(StoreError::Encoding { found: encoding }),
            _ => Ok(()),
        }
    }

    /// Brings the database to the shape this engine knows. Nodes that start at once take turns; whoever comes second finds nothing
    /// left to do. Returns how many migrations were applied.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::Different`], [`StoreError::Migration`], [`StoreError::MigrationBusy`].
    pub async fn migrate(&self) -> Result<usize, StoreError> {
        self.migrate_with(&MIGRATIONS).await
    }

    /// [`migrate`](Self::migrate) with other migrations than the engine's own.
    pub async fn migrate_with(&self, migrations: &sqlx::migrate::Migrator) -> Result<usize, StoreError> {
        let applied = migrations::run(&self.options, migrations).await?;
        tracing::info!(applied, "the database is up to date");
        Ok(applied)
    }

    /// Whether the database answers, by one round trip that takes no longer than a caller would wait for a connection.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let asked = timeout(self.answer_max, sqlx::query("SELECT 1").execute(&self.pool)).await;
        match asked {
            Ok(answer) => answer.map(drop).map_err(StoreError::from),
            Err(_late) => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
        }
    }

    /// The pool, for queries.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection outside the pool, without its limits.
    pub async fn connection(&self) -> Result<sqlx::PgConnection, StoreError> {
        Ok(sqlx::ConnectOptions::connect(&self.options).await?)
    }

    /// What parts of this node wake each other with.
    pub fn woken(&self) -> &Woken {
        &self.woken
    }

    /// How busy the pool is, for metrics.
    pub fn pool_use(&self) -> PoolUse {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        PoolUse { open: self.pool.size(), idle, max: self.pool.options().get_max_connections() }
    }

    /// Closes the pool: waits for what is under way, refuses what comes later. Whoever does not give a connection back by then, because
    /// the thread that would is gone, is not waited for: PostgreSQL hears that it is closed when the process ends.
    pub async fn close(&self) {
        if tokio::time::timeout(CLOSE_MAX, self.pool.close()).await.is_err() {
            tracing::warn!("the database's pool was left with connections in use");
        }
    }
}
