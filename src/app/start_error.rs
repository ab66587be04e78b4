//! Why a node cannot start: one enum of everything that is tried before the ready line.

use std::path::PathBuf;

use super::ListenError;
use crate::bus::redis::RedisRefusal;
use crate::identity::IdentityStartError;
use crate::objects::ObjectsRefusal;
use crate::postgres::PostgresError;
use crate::rtc::RtcError;
use crate::store::StoreError;

/// Why a node cannot start; each prints as one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on, or TLS material cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The data directory cannot be made.
    #[error("cannot create the data directory {path}: {source}; choose another with --data-dir", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded PostgreSQL does not start.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys of the database cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityStartError),
    /// The media port of calls cannot be used.
    #[error(transparent)]
    Rtc(#[from] RtcError),
    /// Heads are to be where nothing is.
    #[error(
        "NOVA_FEED_HEADS=redis keeps the newest posts of readers in Redis, and no Redis is configured: set REDIS_URL, or NOVA_FEED_HEADS=memory"
    )]
    NoRedisForHeads,
    /// The bus between nodes cannot be used.
    #[error(transparent)]
    Bus(#[from] RedisRefusal),
    /// There is no place for objects.
    #[error(transparent)]
    Objects(#[from] ObjectsRefusal),
    /// The operating system gives no threads.
    #[error("cannot start the threads of the live streams: {0}")]
    Threads(std::io::Error),
    /// A command would change what running nodes could not hear of.
    #[error(
        "Redis cannot be reached, so running nodes would not hear of a change: check that it runs and that REDIS_URL is right"
    )]
    BusAway,
    /// The server ended by itself.
    #[error("the HTTP server stopped: {0}")]
    Server(std::io::Error),
}
