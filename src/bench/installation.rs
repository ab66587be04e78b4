//! An installation of its own: PostgreSQL, Redis where several nodes need it, and nodes of this very program, each a process.
//!
//! Everything lies in one folder below the temporary directory and is gone at the end; also when this process is killed, the processes
//! are: each hangs on a shell that waits for the end of a pipe. PostgreSQL is as safe as an operator's: what is acknowledged is on the disk.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::measure::Processes;
use crate::app::{Errand, StartError};
use crate::cli::{Cli, Command as Asked};
use crate::config::{Config, Secret};
use crate::postgres::{Embedded, EmbeddedConfig, PostgresError, PostgresHealth};

/// How long a node may take to be ready; the first makes the schema, others may find a database that recovers.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a Redis may take.
const REDIS_MAX: Duration = Duration::from_secs(10);
/// Connections to PostgreSQL of one node.
const CONNECTIONS: u16 = 16;
/// What nodes are told beside their addresses: limits that protect from one address or user are out of the way, because here all
/// come from one address; and tokens outlive any run.
const NODE_OPTIONS: &[(&str, &str)] = &[
    ("--ws-connects-per-s", "0"),
    ("--ws-ip-connects-per-s", "0"),
    ("--ws-sockets-per-user", "10000"),
    ("--ws-requests-per-s", "0"),
    ("--ws-user-requests-per-s", "0"),
    ("--ip-requests-per-minute", "0"),
    ("--user-requests-per-minute", "0"),
    ("--access-token-s", "86400"),
    ("--log", "warn"),
];

/// Why there is no installation; each prints as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The store or identity.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A node ended before it was ready, or was not ready in time.
    #[error("a node did not become ready; its own words are in {}", log.display())]
    Node {
        /// What it wrote.
        log: PathBuf,
    },
    /// Redis did not answer.
    #[error("redis-server did not start: is it installed?")]
    Redis,
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError::Io { what, source }
}

/// A folder that is gone with this, unless it is kept.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    /// A new one below the temporary directory.
    pub fn new(what: &str) -> io::Result<Folder> {
        let name = format!("nova-{what}-{}", uuid::Uuid::now_v7().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Folder { path, is_kept: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it for whoever wants to look into it.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed is in the temporary directory.
            let _gone = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A process of ours that does not outlive us.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    /// Ends it when this process ends without a word.
    _leash: Child,
}

impl Process {
    /// Starts it.
    pub fn start(mut command: Command) -> io::Result<Process> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        // Ctrl-C at the terminal ends us, and we end it.
        command.process_group(0);
        let child = command.spawn()?;
        let pid = child.id().ok_or(io::ErrorKind::NotFound)?;
        const SCRIPT: &str = "trap '' HUP INT TERM; read -r _; kill -KILL \"$1\" 2>/dev/null";
        let mut leash = Command::new("/bin/sh");
        leash.args(["-c", SCRIPT, "nova-leash", &pid.to_string()]).current_dir("/").process_group(0);
        leash.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let leash = leash.spawn()?;
        Ok(Process { child, pid, _leash: leash })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.child.id().is_some()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            let _ended = kill_process(pid, signal).is_err();
        }
    }

    /// Waits for its end; whether it ended well.
    pub async fn ended(&mut self) -> bool {
        self.child.wait().await.is_ok_and(|status| status.success())
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Its HTTP door.
    pub http: SocketAddr,
    /// Its metrics.
    pub metrics: SocketAddr,
}

/// What a node says when it is ready.
#[derive(Deserialize)]
struct Ready {
    http: SocketAddr,
    metrics: SocketAddr,
}

/// The `redis-server` of an installation; it keeps nothing on the disk.
#[derive(Debug)]
pub struct Redis {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Redis {
    /// Starts one on a port, or on a free one, and waits until it answers.
    pub async fn start(port: Option<u16>) -> Result<Redis, InstallError> {
        let port = match port {
            Some(port) => port,
            None => free_port().map_err(io_error("no port is free"))?,
        };
        let mut command = Command::new("redis-server");
        let port_text = port.to_string();
        command.args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(command).map_err(|_| InstallError::Redis)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let deadline = Instant::now() + REDIS_MAX;
        while tokio::net::TcpStream::connect(addr).await.is_err() {
            if Instant::now() > deadline || !matches!(process.child.try_wait(), Ok(None)) {
                return Err(InstallError::Redis);
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Redis { process, addr })
    }
}

/// A port of loopback that nobody listens on.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// An installation without nodes yet.
#[derive(Debug)]
pub struct Installation {
    /// PostgreSQL.
    pub postgres: Embedded,
    errand: Option<Errand>,
    database_url: String,
    secret: String,
    /// Dropped last.
    folder: Folder,
}

impl Installation {
    /// Starts PostgreSQL in a folder of its own and makes the schema.
    pub async fn start(what: &str) -> Result<Installation, InstallError> {
        let folder = Folder::new(what).map_err(io_error("the temporary directory cannot be written"))?;
        let config = EmbeddedConfig { connections_max: 4 * CONNECTIONS, ..EmbeddedConfig::default() };
        let postgres = Embedded::start(folder.path(), &config).await?;
        let options: PgConnectOptions = postgres.connect_options();
        let database_url = options.to_url_lossy().to_string();
        let secret = uuid::Uuid::now_v7().to_string();
        let mut config = default_config();
        config.data_dir = folder.path().to_owned();
        config.database.database_url = Some(Secret::from(database_url.clone()));
        config.identity.secret = Some(Secret::from(secret.clone()));
        let errand = Errand::open(&config, false).await?;
        Ok(Installation { postgres, errand: Some(errand), database_url, secret, folder })
    }

    /// Its store and its identity, from this process.
    pub fn errand(&self) -> &Errand {
        self.errand.as_ref().expect("it is there until the end")
    }

    /// Has PostgreSQL write down what was put into it, so that this does not happen while something is measured.
    pub async fn settle(&self) -> Result<(), sqlx::Error> {
        let mut admin = self.postgres.admin_options().connect().await?;
        sqlx::query("CHECKPOINT").execute(&mut admin).await?;
        admin.close().await
    }

    /// Where its files are.
    pub fn folder(&mut self) -> &mut Folder {
        &mut self.folder
    }

    /// PostgreSQL's processes.
    pub fn postgres_processes(&self) -> Processes {
        let pids = match &*self.postgres.health().borrow() {
            PostgresHealth::Running { pid } => vec![*pid],
            _ => Vec::new(),
        };
        Processes { pids, with_children: true }
    }

    /// Starts a node and waits until it is ready. `http` is where it listens, `None` for a free port; `redis` where its bus is.
    pub async fn node(
        &self,
        name: &str,
        http: Option<SocketAddr>,
        redis: Option<SocketAddr>,
        more: &[&str],
    ) -> Result<Node, InstallError> {
        let program = std::env::current_exe().map_err(io_error("this program cannot be found again"))?;
        let data = self.folder.path().join(name);
        std::fs::create_dir_all(&data).map_err(io_error("a folder of a node"))?;
        let log = self.folder.path().join(format!("{name}.log"));
        let stderr = std::fs::File::options().create(true).append(true).open(&log);
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let ours = ["NOVA_", "OTEL_", "DATABASE_URL", "REDIS_URL"];
            if name.to_str().is_some_and(|name| ours.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        command.arg("serve").arg("--data-dir").arg(&data);
        command.args(["--http-addr", &http.unwrap_or(any).to_string()]);
        command.args([
            "--metrics-addr",
            "127.0.0.1:0",
            "--rtmp-addr",
            "127.0.0.1:0",
            "--rtc-addr",
            "127.0.0.1:0",
        ]);
        command.args(["--database-connections-max", &CONNECTIONS.to_string()]);
        command.args(NODE_OPTIONS.iter().flat_map(|(option, value)| [option, value]));
        command.args(more);
        command.env("DATABASE_URL", &self.database_url).env("NOVA_SECRET", &self.secret);
        // Several nodes on one machine; an engine without calls does not look at it.
        command.env("NOVA_RTC_ADDR", "127.0.0.1:0");
        if let Some(redis) = redis {
            command.env("REDIS_URL", format!("redis://{redis}"));
        }
        command.stdout(Stdio::piped()).stderr(stderr.map_err(io_error("the log of a node"))?);
        let mut process = Process::start(command).map_err(io_error("a node cannot be started"))?;
        let out = process.child.stdout.take().expect("piped");
        let ready = async {
            let mut lines = BufReader::new(out).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Ok(ready) = serde_json::from_str::<Ready>(&line) {
                    return Some(ready);
                }
            }
            None
        };
        match timeout(READY_MAX, ready).await {
            Ok(Some(Ready { http, metrics })) => Ok(Node { process, http, metrics }),
            _ => Err(InstallError::Node { log }),
        }
    }

    /// Ends what is left and takes the files away.
    pub async fn end(mut self) {
        if let Some(errand) = self.errand.take() {
            errand.close().await;
        }
        self.postgres.stop().await;
    }
}

/// The configuration nobody has said anything to, whatever the environment of this process says.
fn default_config() -> Config {
    let (cli, _) = crate::config::parse(["nova", "serve"]).expect("nothing was asked that could be refused");
    let Cli { command: Asked::Serve(config) } = cli else { unreachable!("`serve` was asked") };
    let mut config = *config;
    config.bus.redis_url = None;
    config.identity.access_token_s = 86_400;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_hears_signals_and_is_waited_for() {
        let sleeper = || {
            let mut command = Command::new("sleep");
            command.arg("600");
            Process::start(command).unwrap()
        };
        let mut process = sleeper();
        assert!(Path::new(&format!("/proc/{}", process.pid())).exists());
        process.signal(Signal::KILL);
        assert!(!process.ended().await);
        process.signal(Signal::KILL);
    }

    #[test]
    fn a_folder_is_gone_with_its_owner() {
        let folder = Folder::new("test").unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
