//! One run of the server process: started, watched, stopped.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::account::Account;
use super::binaries::Binaries;
use super::cluster::{Layout, SOCKET_PORT, clean_environment};
use super::error::{PostgresError, ROOM_TO_START_MIB, tells_of_full_disk};
use super::log::Log;
use super::{ADMIN, EmbeddedConfig, OWNER, orphan};

/// How often a starting server is asked whether it is ready. Asking costs a refused connection.
const ASK_EVERY: Duration = Duration::from_millis(15);

/// What one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What an immediate shutdown may take before the process is killed; it writes nothing.
const IMMEDIATE_STOP_MAX: Duration = Duration::from_secs(5);

/// The leash: a shell that waits for the end of a pipe only the engine holds. When the engine ends, however it ends, the pipe
/// closes and the server is asked for a fast shutdown. So no server outlives its engine for longer than a checkpoint takes.
const LEASH: &str = "trap '' HUP INT TERM; read -r _; kill -INT \"$1\" 2>/dev/null";

/// Everything that is decided before the server is started, and holds for each of its runs.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) binaries: Binaries,
    pub(super) account: Account,
    pub(super) layout: Layout,
    pub(super) socket_dir: PathBuf,
    pub(super) config: EmbeddedConfig,
}

impl Plan {
    /// How the engine connects.
    pub(super) fn options(&self, role: &str, database: &str) -> PgConnectOptions {
        over_socket(&self.socket_dir, role, database)
    }

    fn server(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.binaries.postgres);
        // The folder is named on the command line so that an operator sees in the list of processes whose server this is.
        command.arg("-D").arg(self.layout.cluster()).arg("-k").arg(&self.socket_dir);
        command.args(["-c", "listen_addresses=", "-p", &SOCKET_PORT.to_string()]);
        self.dress(&mut command);
        command
    }

    fn dress(&self, command: &mut std::process::Command) {
        clean_environment(command);
        // Its own group: Ctrl-C at the terminal is for the engine, which stops the server after its own work is done.
        command
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.account.run_as(command);
    }
}

/// How to connect to a server whose socket lies in `socket_dir`.
pub(super) fn over_socket(socket_dir: &Path, role: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(SOCKET_PORT)
        .username(role)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

/// A server process that is ready.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    leash: Child,
}

impl Server {
    /// Starts the server and waits until it takes connections to the engine's database, which the first start makes.
    pub(super) async fn start(plan: &Plan, log: &mut Log) -> Result<Server, PostgresError> {
        let cluster = plan.layout.cluster();
        let cleared = tokio::task::spawn_blocking(move || orphan::clear(&cluster)).await;
        cleared.map_err(|error| PostgresError::Start {
            log: log.path().to_owned(),
            words: error.to_string(),
        })??;
        let mut server = Server::spawn(plan, log)?;
        match server.ready(plan, log).await {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    fn spawn(plan: &Plan, log: &mut Log) -> Result<Server, PostgresError> {
        let refused = |program: &PathBuf| {
            let (program, account) = (program.clone(), plan.account.name.clone());
            move |source| PostgresError::Spawn { program, account, source }
        };
        let output = log.open()?;
        let mut command = plan.server();
        command.stderr(output);
        let child = Command::from(command).spawn().map_err(refused(&plan.binaries.postgres))?;
        let shell = PathBuf::from("/bin/sh");
        let mut leash = std::process::Command::new(&shell);
        leash.args(["-c", LEASH, "nova-leash"]).arg(child.id().unwrap_or_default().to_string());
        plan.dress(&mut leash);
        leash.stdin(Stdio::piped());
        match Command::from(leash).spawn() {
            Ok(leash) => Ok(Server { child, leash }),
            Err(error) => {
                signal(&child, Signal::QUIT);
                Err(refused(&shell)(error))
            }
        }
    }

    async fn ready(&mut self, plan: &Plan, log: &Log) -> Result<(), PostgresError> {
        let options = plan.options(OWNER, OWNER);
        let began = Instant::now();
        let deadline = began + plan.config.start_max;
        let mut prepared = false;
        loop {
            if let Ok(Some(_status)) = self.child.try_wait() {
                let words = log.tail();
                return Err(match tells_of_full_disk(&words) {
                    true => PostgresError::DiskFull {
                        dir: plan.layout.data_dir.clone(),
                        needed_mib: ROOM_TO_START_MIB,
                    },
                    false => PostgresError::Start { log: log.path().to_owned(), words },
                });
            }
            match timeout(ANSWER_MAX, options.connect()).await {
                Ok(Ok(connection)) => {
                    // Its own goodbye; one that fails ends with the socket.
                    let _closed = connection.close().await;
                    return Ok(());
                }
                Ok(Err(error)) if !prepared && lacks_database(&error) => {
                    prepare(plan).await?;
                    prepared = true;
                    continue;
                }
                Ok(Err(error)) if !may_become_ready(&error) => return Err(error.into()),
                _ => {}
            }
            if Instant::now() > deadline {
                return Err(PostgresError::StartTimeout {
                    waited: began.elapsed(),
                    log: log.path().to_owned(),
                    words: log.tail(),
                });
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// The process id.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the process ends, and says how.
    pub(super) async fn ended(&mut self) -> String {
        let how = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        // Its number may be somebody else's soon.
        let _gone = self.leash.kill().await;
        how
    }

    /// Asks for a fast shutdown (open transactions are rolled back, a checkpoint is written), then an immediate one, then kills.
    /// Says whether the first was enough.
    pub(super) async fn stop(mut self, patience: Duration) -> bool {
        signal(&self.child, Signal::INT);
        let fast = timeout(patience, self.child.wait()).await.is_ok();
        if !fast {
            signal(&self.child, Signal::QUIT);
            if timeout(IMMEDIATE_STOP_MAX, self.child.wait()).await.is_err() {
                let _gone = self.child.kill().await;
            }
        }
        let _gone = self.leash.kill().await;
        fast
    }
}

fn signal(child: &Child, signal: Signal) {
    // A child that was waited for has no id: it cannot be mistaken for somebody else.
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // It may have ended by itself, which is what we want.
        let _gone = kill_process(pid, signal);
    }
}

/// `57P03 cannot_connect_now` while it starts and recovers, and no socket before that.
fn may_become_ready(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(refused) => refused.code().as_deref() == Some("57P03"),
        _ => false,
    }
}

/// A new cluster has neither our role (`28000`) nor our database (`3D000`).
fn lacks_database(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|refused| refused.code());
    matches!(code.as_deref(), Some("28000" | "3D000"))
}

/// Makes the engine's role and database. The role is an ordinary one that owns its database, as it would be on a server somebody
/// else runs: what works here works there.
async fn prepare(plan: &Plan) -> Result<(), sqlx::Error> {
    let mut admin = plan.options(ADMIN, "postgres").connect().await?;
    let exists = |query: &'static str| sqlx::query_scalar::<_, bool>(query);
    if !exists("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'nova')").fetch_one(&mut admin).await? {
        admin.execute("CREATE ROLE nova LOGIN").await?;
    }
    if !exists("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'nova')").fetch_one(&mut admin).await?
    {
        admin.execute("CREATE DATABASE nova OWNER nova TEMPLATE template0 ENCODING 'UTF8'").await?;
    }
    admin.close().await
}
