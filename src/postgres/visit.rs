//! Using the cluster of a data directory for a moment, whether an engine runs on it or not.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, sleep};

use super::cluster::Layout;
use super::error::{PostgresError, files};
use super::server::over_socket;
use super::{Embedded, EmbeddedConfig, OWNER};

/// How often an engine that is starting or stopping is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The cluster of a data directory while a command uses it: the one a running engine has, or one started for the moment.
///
/// Commands on one data directory take turns, by a lock on the directory itself that the kernel gives back; so none stops a server
/// another still uses. An engine that is started while a command has the cluster is refused, as by another engine.
#[derive(Debug)]
pub struct Visit {
    options: PgConnectOptions,
    embedded: Option<Embedded>,
    _turn: File,
}

impl Visit {
    /// Finds the running server, or starts one; makes the cluster only if `makes_cluster`.
    ///
    /// # Errors
    /// [`PostgresError::NoCluster`], and whatever keeps the server from serving.
    pub async fn begin(
        data_dir: &Path,
        config: &EmbeddedConfig,
        makes_cluster: bool,
    ) -> Result<Visit, PostgresError> {
        let there = data_dir.join("postgres").try_exists();
        if !makes_cluster && matches!(there, Ok(false)) {
            return Err(PostgresError::NoCluster { dir: data_dir.to_owned() });
        }
        let dir = data_dir.to_owned();
        let turn = tokio::task::spawn_blocking(move || take_turn(&dir)).await;
        let turn = turn.map_err(|error| files("lock", data_dir)(io::Error::other(error)))??;
        let deadline = Instant::now() + config.start_max;
        loop {
            // The engine's own lock decides, so there is no moment in which both believe to be alone.
            let in_use = match Embedded::start(data_dir, config).await {
                Ok(embedded) => {
                    let options = embedded.connect_options();
                    return Ok(Visit { options, embedded: Some(embedded), _turn: turn });
                }
                Err(error @ PostgresError::InUse { .. }) => error,
                Err(error) => return Err(error),
            };
            if let Some(socket_dir) = running(&data_dir.join("postgres"))? {
                let options = over_socket(&socket_dir, OWNER, OWNER);
                return Ok(Visit { options, embedded: None, _turn: turn });
            }
            if Instant::now() > deadline {
                return Err(in_use);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// How to connect: over the socket, as the owner of the database `nova`.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Stops the server if it was started for this visit.
    pub async fn end(self) {
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}

fn take_turn(data_dir: &Path) -> Result<File, PostgresError> {
    let dir = Layout::open(data_dir)?.data_dir;
    let open = File::open(&dir).map_err(files("open", &dir))?;
    rustix::fs::flock(&open, FlockOperation::LockExclusive)
        .map_err(|error| files("lock", &dir)(error.into()))?;
    Ok(open)
}

/// The folder of the running server's socket, once it takes connections.
fn running(cluster: &Path) -> Result<Option<PathBuf>, PostgresError> {
    let path = cluster.join("postmaster.pid");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(socket_dir(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files("read", &path)(error)),
    }
}

/// The fifth line of `postmaster.pid` is the socket's folder, the eighth the state (PostgreSQL's `miscadmin.h`, `LOCK_FILE_LINE_…`).
fn socket_dir(postmaster_pid: &str) -> Option<PathBuf> {
    let lines: Vec<&str> = postmaster_pid.lines().collect();
    let ready = lines.get(7).is_some_and(|state| state.trim() == "ready");
    lines.get(4).filter(|dir| ready && !dir.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_when_it_is_ready_and_not_before() {
        let file = |socket: &str, state: &str| {
            format!("4711\n/data/postgres\n1700000000\n5432\n{socket}\n\n   123   456\n{state}\n")
        };
        assert_eq!(socket_dir(&file("/data/postgres.run", "ready   ")), Some("/data/postgres.run".into()));
        assert_eq!(socket_dir(&file("/data/postgres.run", "starting")), None);
        assert_eq!(socket_dir(&file("", "ready")), None);
        assert_eq!(socket_dir("4711\n/data/postgres\n"), None);
    }
}
