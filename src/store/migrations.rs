//! Bringing the database to the shape this engine knows.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::{Instant, sleep};

use super::StoreError;

/// The migrations of this engine; the rule they are written by is in `migrations/README.md`.
pub static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Who holds this advisory lock migrates (`"nova:mig"` in ASCII). Advisory locks are per database.
const LOCK: i64 = i64::from_be_bytes(*b"nova:mig");

/// How long a node waits for another that migrates. Expand steps are short; what takes longer is a consumer's work, not a migration's.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// How often it asks. Waiting inside PostgreSQL (`pg_advisory_lock`) would be bounded by the `lock_timeout` that migrations need
/// short, and its open snapshot would hold up `CREATE INDEX CONCURRENTLY` on the node that migrates: a deadlock.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long a migration's statement waits for a table somebody uses. While it waits everybody else queues behind it, so it gives up
/// soon and the start fails instead of the service.
const SESSION: &str =
    "SET lock_timeout = '5s'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// Applies what is missing, one node at a time; each migration is a transaction of its own. Returns how many were applied.
pub(super) async fn run(options: &PgConnectOptions, migrations: &Migrator) -> Result<usize, StoreError> {
    // A connection of its own: it is closed at the end, and its lock with it, whatever happened.
    let mut connection = options.clone().connect().await.map_err(StoreError::Connect)?;
    connection.execute(SESSION).await?;
    wait_for_turn(&mut connection).await?;
    let applied = apply(&mut connection, migrations).await;
    // The lock ends with the connection; a goodbye that fails ends it as well.
    let _closed = connection.close().await;
    applied
}

async fn wait_for_turn(connection: &mut PgConnection) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        let ours = sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)").bind(LOCK);
        if ours.fetch_one(&mut *connection).await? {
            return Ok(());
        }
        let waited = began.elapsed();
        if waited > WAIT_MAX {
            return Err(StoreError::MigrationBusy { waited });
        }
        sleep(ASK_EVERY).await;
    }
}

async fn apply(connection: &mut PgConnection, migrations: &Migrator) -> Result<usize, StoreError> {
    let before = applied(connection).await?;
    let newest = |versions: &[i64]| versions.iter().copied().max().unwrap_or_default();
    let ours: Vec<i64> = migrations.iter().map(|migration| migration.version).collect();
    if newest(&before) > newest(&ours) {
        return Err(StoreError::Newer { database: newest(&before), engine: newest(&ours) });
    }
    let mut migrator = Migrator::with_migrations(migrations.migrations.to_vec());
    // We hold our own lock.
    migrator.set_locking(false);
    migrator.run(&mut *connection).await.map_err(|error| match error {
        MigrateError::Execute(error) => error.into(),
        MigrateError::ExecuteMigration(source, version) => StoreError::Migration { version, source },
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            StoreError::Different { version }
        }
        other => StoreError::Database(sqlx::Error::Migrate(Box::new(other))),
    })?;
    Ok(applied(connection).await?.len().saturating_sub(before.len()))
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let exists = sqlx::query_scalar::<_, bool>("SELECT to_regclass('_sqlx_migrations') IS NOT NULL");
    match exists.fetch_one(&mut *connection).await? {
        true => Ok(sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(connection).await?),
        false => Ok(Vec::new()),
    }
}
