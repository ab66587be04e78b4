//! The embedded PostgreSQL: a private server the engine starts, owns and stops when nobody gave it a `DATABASE_URL`.
//!
//! - The cluster is `<data dir>/postgres`, made on the first start by the machine's own `initdb` under another name and renamed when
//!   it is whole. It has data checksums, UTF-8 and the sort order of code points. Beside it lie `postgres.log` (bounded),
//!   `postgres.lock` and `postgres.run` with the socket; a data directory too deep for a socket's name has its socket in a private
//!   folder of the runtime directory or `/tmp`.
//! - There is no network port. The socket's folder is open to PostgreSQL's account and root alone, and the server asks the kernel
//!   who is there (`peer`) and lets in only those two. The engine works as the role `nova`, which owns the database `nova` and is no
//!   superuser; `postgres` is the superuser, for an operator: `psql -h <data dir>/postgres.run -U postgres`.
//! - PostgreSQL refuses to be root. An engine that is root lets it run as whoever owns the surrounding folder, else as `postgres`,
//!   else `nobody`, and gives it its files. Whoever made the cluster keeps it.
//! - One engine per data directory: a lock that the kernel gives back when the engine ends.
//! - **An engine that is killed** takes its server along: a leash process sees a pipe close and asks for a fast shutdown. Should that
//!   not have happened either, the next start finds what is left by asking the kernel which PostgreSQL processes stand in the
//!   cluster's folder, stops them, and starts anew. Nothing is adopted, so there is one way to be started and one configuration;
//!   PostgreSQL recovers from its WAL what was acknowledged.
//! - **A command** beside the engine ([`Visit`]) uses the running engine's server; when none runs, it starts it and stops it again.
//! - **A server that dies** while the engine runs is started again with growing pauses; [`Embedded::health`] tells readiness.
//!
//! Every refusal is one sentence that says what to do: [`PostgresError`].

mod account;
mod binaries;
mod cluster;
mod error;
mod keeper;
mod log;
mod orphan;
mod server;
mod settings;
mod visit;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;

use account::Account;
use binaries::Binaries;
use cluster::Layout;
pub use error::PostgresError;
use keeper::Keeper;
use log::Log;
use server::{Plan, Server};
pub use visit::Visit;

/// The oldest PostgreSQL we work with.
const MAJOR_MIN: u32 = 14;

/// The role that owns the engine's database, and the database.
const OWNER: &str = "nova";

/// The superuser.
const ADMIN: &str = "postgres";

/// What can be decided about the embedded PostgreSQL.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The folder with `postgres` and `initdb`; `None` looks through PATH and the usual places.
    pub bin_dir: Option<PathBuf>,
    /// Connections the engine's pool will hold; the server takes a few more.
    pub connections_max: u16,
    /// How long a start may take. Recovery after a crash is part of it: up to a gigabyte of WAL is replayed.
    pub start_max: Duration,
    /// How long a fast shutdown may take before an immediate one is asked for, which leaves recovery to the next start.
    pub stop_max: Duration,
    /// Whether what is acknowledged is on the disk. Only a test that throws its data away says no.
    pub durable: bool,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            bin_dir: None,
            connections_max: 16,
            start_max: Duration::from_secs(120),
            stop_max: Duration::from_secs(10),
            durable: true,
        }
    }
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresHealth {
    /// It takes connections.
    Running {
        /// Its process.
        pid: u32,
    },
    /// It died and is being started again.
    Restarting {
        /// How often that was tried since it last ran well.
        attempts: u32,
        /// Why it is down.
        reason: String,
    },
    /// The engine stopped it.
    Stopped,
}

/// The running server. Dropping it stops the server in the background; [`stop`](Self::stop) waits for it.
#[derive(Debug)]
pub struct Embedded {
    options: PgConnectOptions,
    admin_options: PgConnectOptions,
    health: watch::Receiver<PostgresHealth>,
    stop: watch::Sender<bool>,
}

impl Embedded {
    /// Starts the server of `data_dir`, making the folder and the cluster when they are not there, and waits until it is ready.
    ///
    /// # Errors
    /// Whatever keeps it from serving, as one sentence that says what to do; nothing stays running then.
    pub async fn start(data_dir: &Path, config: &EmbeddedConfig) -> Result<Embedded, PostgresError> {
        let (data_dir, config) = (data_dir.to_owned(), config.clone());
        let cluster = data_dir.join("postgres");
        let prepared = tokio::task::spawn_blocking(move || prepare(&data_dir, config)).await;
        let (plan, lock) =
            prepared.map_err(|error| PostgresError::Initdb { dir: cluster, words: error.to_string() })??;
        let mut log = Log::at(plan.layout.log());
        let server = Server::start(&plan, &mut log).await?;
        let options = plan.options(OWNER, OWNER);
        let admin_options = plan.options(ADMIN, "postgres");
        let running = PostgresHealth::Running { pid: server.pid().unwrap_or_default() };
        let (told, health) = watch::channel(running);
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(Keeper { plan, log, health: told, stopping, lock }.keep(server));
        Ok(Embedded { options, admin_options, health, stop })
    }

    /// How the engine connects: over the socket, as the owner of the database `nova`.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// How an operator (or a test that makes databases) connects: as the superuser, to the database `postgres`.
    pub fn admin_options(&self) -> PgConnectOptions {
        self.admin_options.clone()
    }

    /// How the server is, now and from now on.
    pub fn health(&self) -> watch::Receiver<PostgresHealth> {
        self.health.clone()
    }

    /// Stops the server and waits until it is gone: a fast shutdown, and when that takes longer than
    /// [`EmbeddedConfig::stop_max`] an immediate one. Connections that are still open are closed.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let mut health = self.health.clone();
        // The keeper says so last of all; if it is gone without a word, the server is too.
        let _last_word = health.wait_for(|health| *health == PostgresHealth::Stopped).await;
    }
}

/// Decides everything and makes what is missing on the disk. Blocks: it runs programs and writes files.
fn prepare(data_dir: &Path, config: EmbeddedConfig) -> Result<(Plan, File), PostgresError> {
    let layout = Layout::open(data_dir)?;
    let lock = layout.lock()?;
    layout.check_room()?;
    // Whose it is comes first: what belongs to another cannot be read.
    let account = Account::choose(&layout.data_dir, &layout.cluster())?;
    let major = layout.major()?;
    let binaries: Binaries = binaries::find(config.bin_dir.as_deref(), major, &layout.cluster())?;
    if major.is_none() {
        tracing::info!(version = binaries.version.0, account = %account.name, "making a PostgreSQL cluster");
        layout.initialise(&binaries, &account)?;
    }
    layout.configure(&config, &account)?;
    let socket_dir = layout.socket_dir(&account)?;
    Ok((Plan { binaries, account, layout, socket_dir, config }, lock))
}
