//! What can go wrong between us and the database, sorted by what one does about it.

use std::time::Duration;

use crate::error::{ApiError, Code};

/// When a client may try again that met a database which is away: about what a restart or a fail-over takes at best.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database is away, refuses connections, or all of ours are busy for too long. Nothing is known to be wrong with the
    /// request: it may be tried again.
    #[error("PostgreSQL is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// A statement or a lock took longer than it may. It had no effect and may be tried again.
    #[error("PostgreSQL took too long: {0}")]
    TooSlow(#[source] sqlx::Error),
    /// Another transaction was in the way (serialisation failure, deadlock). It had no effect and may be tried again at once.
    #[error("another transaction was in the way: {0}")]
    Contended(#[source] sqlx::Error),
    /// A constraint refused it.
    #[error("the constraint {name} refused it")]
    Constraint {
        /// The constraint's name in the database.
        name: String,
        /// The refusal.
        source: sqlx::Error,
    },
    /// Anything else: a mistake of ours, or damage.
    #[error("PostgreSQL refused: {0}")]
    Database(#[source] sqlx::Error),
    /// The server is too old.
    #[error("the database server is PostgreSQL {found}, and {min} or newer is needed: upgrade it")]
    TooOld {
        /// Its major version.
        found: i32,
        /// The oldest we work with.
        min: i32,
    },
    /// The database cannot hold what people write.
    #[error("the database has the encoding {found}, and UTF8 is needed: make it anew with ENCODING 'UTF8'")]
    Encoding {
        /// Its encoding.
        found: String,
    },
    /// The server cannot be reached, or not as we are told to.
    #[error("cannot connect to the database: {0}; check that it runs and that DATABASE_URL is right")]
    Connect(#[source] sqlx::Error),
    /// A newer engine has been here.
    #[error(
        "the database is at migration {database} and this engine knows only up to {engine}: a newer engine has used it; start \
         that version or a later one"
    )]
    Newer {
        /// The newest migration the database has.
        database: i64,
        /// The newest migration this engine has.
        engine: i64,
    },
    /// A migration that was applied is not the one we have under its number.
    #[error(
        "migration {version} of the database differs from this engine's: the database belongs to another line of versions"
    )]
    Different {
        /// Its number.
        version: i64,
    },
    /// Another node has been migrating for too long.
    #[error("another node has been migrating the database for {} s: look at that node, then start this one again", waited.as_secs())]
    MigrationBusy {
        /// How long we waited for it.
        waited: Duration,
    },
    /// A migration failed; it was rolled back.
    #[error("migration {version} failed and was rolled back: {source}")]
    Migration {
        /// Its number.
        version: i64,
        /// Why.
        source: sqlx::Error,
    },
}

impl StoreError {
    /// The constraint that refused, if one did.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            StoreError::Constraint { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Whether the same thing may succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::TooSlow(_) | StoreError::Contended(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        let refused = match &error {
            sqlx::Error::Database(refused) => refused,
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_) => return StoreError::Unavailable(error),
            _ => return StoreError::Database(error),
        };
        if let Some(name) = refused.constraint() {
            return StoreError::Constraint { name: name.to_owned(), source: error };
        }
        // Appendix A of the PostgreSQL manual.
        let code = refused.code().unwrap_or_default().into_owned();
        match code.as_str() {
            // query_canceled is our statement_timeout, lock_not_available our lock_timeout.
            "57014" | "55P03" => StoreError::TooSlow(error),
            "40001" | "40P01" => StoreError::Contended(error),
            // idle_in_transaction_session_timeout, disk_full, out_of_memory, too_many_connections; read_only_sql_transaction is a
            // server that became a replica under us.
            "25P03" | "53100" | "53200" | "53300" | "25006" => StoreError::Unavailable(error),
            // connection exceptions; admin_shutdown, crash_shutdown, cannot_connect_now.
            code if code.starts_with("08") || code.starts_with("57P") => StoreError::Unavailable(error),
            _ => StoreError::Database(error),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        match error.is_transient() {
            true => ApiError::new(Code::Unavailable).caused_by(error).retry_after(RETRY_AFTER),
            false => ApiError::internal(error),
        }
    }
}

/// Gives the constraints of a statement their meaning.
///
/// ```text
/// query.execute(pool).await.on_constraint([
///     ("users_username_key", AccountError::UsernameTaken),
///     ("users_email_key", AccountError::EmailTaken),
/// ])?;
/// ```
pub trait OnConstraint<T> {
    /// The error named for the constraint that refused, or what [`StoreError`] becomes in `E`.
    fn on_constraint<E: From<StoreError>>(
        self,
        meanings: impl IntoIterator<Item = (&'static str, E)>,
    ) -> Result<T, E>;
}

impl<T, F: Into<StoreError>> OnConstraint<T> for Result<T, F> {
    fn on_constraint<E: From<StoreError>>(
        self,
        meanings: impl IntoIterator<Item = (&'static str, E)>,
    ) -> Result<T, E> {
        self.map_err(|error| {
            let error = error.into();
            let meaning = meanings.into_iter().find(|(name, _)| error.constraint() == Some(name));
            meaning.map_or_else(|| error.into(), |(_, meaning)| meaning)
        })
    }
}
