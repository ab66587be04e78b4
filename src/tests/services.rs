//! The real services the tests talk to: started on demand, once per test binary, gone when it ends.
//!
//! A static is never dropped and a test binary may be killed, so nothing here relies on a destructor: PostgreSQL hangs on its engine's
//! leash (`nova::postgres`), and a janitor of ours, a shell that waits for the end of a pipe only this process holds, takes
//! away the folder.
//!
//! Redis hangs on such a shell as well.
//!
//! `NOVA_TEST_DATABASE_URL` names a server to use instead (a role that may create databases), and
//! `NOVA_TEST_REDIS_URL` a Redis; the tests are the same. Those that kill or starve a server always start their own.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nova::bus::redis::RedisConfig;
use nova::postgres::{Embedded, EmbeddedConfig};
use nova::store::{Store, StoreConfig};
use rustix::process::{Pid, Signal};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::sync::mpsc;

/// The migrated database that others are copied from.
const TEMPLATE: &str = "nova_test_template";

/// A database of one test's own; it is dropped with this.
#[derive(Debug)]
pub(crate) struct Database {
    name: String,
    options: PgConnectOptions,
    server: &'static Server,
}

impl Database {
    /// How to connect to it, as its owner.
    pub(crate) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// A pool on it, of the size the tests need.
    pub(crate) async fn store(&self) -> Store {
        let config = StoreConfig { connections_max: 8, ..StoreConfig::default() };
        Store::connect(self.options(), &config).await.expect("the test database takes connections")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The thread that owns the server does it; a test does not wait for that.
        let _ended = self.server.unwanted.send(self.name.clone());
    }
}

/// A fresh database with all migrations applied.
pub(crate) async fn database() -> Database {
    create(TEMPLATE).await
}

/// A fresh database with nothing in it.
pub(crate) async fn empty_database() -> Database {
    create("template0").await
}

async fn create(template: &str) -> Database {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let server = server().await;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("nova_test_{}_{number}", std::process::id());
    let mut admin = server.admin.clone().connect().await.expect("the server takes connections");
    let statement = format!("CREATE DATABASE {name} OWNER {} TEMPLATE {template}", server.owner);
    admin.execute(AssertSqlSafe(statement)).await.expect("a database is made");
    admin.close().await.expect("closed");
    let options = server.options.clone().database(&name);
    Database { name, options, server }
}

#[derive(Debug)]
struct Server {
    options: PgConnectOptions,
    admin: PgConnectOptions,
    owner: String,
    unwanted: mpsc::UnboundedSender<String>,
}

/// The server all tests share. It lives on a thread of its own: a test's runtime ends with the test.
async fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    tokio::task::spawn_blocking(|| SERVER.get_or_init(start_server)).await.expect("the server starts")
}

fn start_server() -> Server {
    let (ready, started) = std::sync::mpsc::channel();
    // Bounded by the tests themselves: one name for each database one of them was given.
    let (unwanted, drop_these) = mpsc::unbounded_channel();
    let serve = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(serve(ready, drop_these));
    };
    std::thread::Builder::new().name("test-services".to_owned()).spawn(serve).expect("a thread");
    let (options, admin, owner) = started.recv().expect("the server started; its words are above");
    Server { options, admin, owner, unwanted }
}

/// Runs the server for as long as the process lives.
async fn serve(
    ready: std::sync::mpsc::Sender<(PgConnectOptions, PgConnectOptions, String)>,
    mut unwanted: mpsc::UnboundedReceiver<String>,
) {
    let (options, admin, _embedded) = match std::env::var("NOVA_TEST_DATABASE_URL") {
        Ok(url) => {
            let options: PgConnectOptions = url.parse().expect("NOVA_TEST_DATABASE_URL is a PostgreSQL URL");
            (options.clone(), options, None)
        }
        Err(_unset) => {
            let config = EmbeddedConfig { connections_max: 300, durable: false, ..EmbeddedConfig::default() };
            let dir = kept_dir("postgres");
            let embedded = Embedded::start(&dir, &config).await.expect("the embedded PostgreSQL starts");
            (embedded.connect_options(), embedded.admin_options(), Some(embedded))
        }
    };
    let owner = options.get_username().to_owned();
    make_template(&options, &admin, &owner).await;
    ready.send((options, admin.clone(), owner)).expect("somebody waits");
    while let Some(name) = unwanted.recv().await {
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        // The whole cluster goes with the process; this only saves room until then.
        if let Ok(mut admin) = admin.clone().connect().await {
            let _dropped = admin.execute(AssertSqlSafe(statement)).await;
        }
    }
}

/// Migrates one database once; copies of it cost a tenth of that.
async fn make_template(options: &PgConnectOptions, admin: &PgConnectOptions, owner: &str) {
    let mut connection = admin.clone().connect().await.expect("the server takes connections");
    for statement in [
        format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)"),
        format!("CREATE DATABASE {TEMPLATE} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'"),
    ] {
        connection.execute(AssertSqlSafe(statement)).await.expect("the template is made");
    }
    let config = StoreConfig { connections_max: 1, ..StoreConfig::default() };
    let store = Store::connect(options.clone().database(TEMPLATE), &config).await.expect("connected");
    store.migrate().await.expect("the migrations apply");
    store.close().await;
    connection.close().await.expect("closed");
}

/// A folder that stays until this process has ended and what ran in it has too.
pub(crate) fn kept_dir(what: &str) -> PathBuf {
    let dir =
        tempfile::Builder::new().prefix(&format!("nova-test-{what}-")).tempdir().expect("a folder").keep();
    janitor(&dir);
    dir
}

/// Removes `dir` when this process has ended, however it ended.
fn janitor(dir: &Path) {
    // PostgreSQL may need a moment for its last checkpoint; it takes its pid file away at the very end.
    const SCRIPT: &str = "trap '' HUP INT TERM; read -r _; \
        tries=300; while [ -e \"$1/postgres/postmaster.pid\" ] && [ $tries -gt 0 ]; do sleep 0.1; tries=$((tries-1)); done; \
        rm -rf -- \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", SCRIPT, "nova-test-janitor"]).arg(dir).current_dir("/");
    // Its own group: Ctrl-C at the terminal ends the tests, not those who clean up after them.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    leash(child.expect("a janitor").stdin.take().expect("its pipe"));
}

/// Holds the pipe until this process ends.
fn leash(pipe: ChildStdin) {
    std::mem::forget(pipe);
}

/// Polls until `condition` gives a value; fails loudly when it does not within `within`.
pub(crate) async fn eventually<T>(
    what: &str,
    within: Duration,
    condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let seen = polled(within, condition).await;
    seen.unwrap_or_else(|| panic!("{what} did not happen within {within:?}"))
}

/// Polls until `condition` gives a value; `None` when it does not within `within`.
pub(crate) async fn polled<T>(within: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let seen = condition().await;
        if seen.is_some() || Instant::now() >= deadline {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A Redis all tests share; each has a namespace of its own.
pub(crate) async fn redis() -> RedisConfig {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let url = match std::env::var("NOVA_TEST_REDIS_URL") {
        Ok(url) => url,
        Err(_unset) => {
            let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(Redis::start)).await;
            server.expect("the shared Redis starts").url()
        }
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    RedisConfig { namespace: format!("t{}_{number}", std::process::id()), ..RedisConfig::new(url) }
}

/// A `redis-server` on a free port, which keeps nothing on the disk.
#[derive(Debug)]
pub(crate) struct Redis {
    port: u16,
    child: Child,
    /// Ends the server with this process.
    leash: Child,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Redis {
        // Somebody may take the port between the look and the start: then the next one.
        (0..10).find_map(|_| Redis::start_on(free_port(), None)).expect("redis-server starts on a free port")
    }

    /// One that speaks nothing but TLS, with the PEM files of a certificate and its key.
    pub(crate) fn start_with_tls(certificate: &Path, key: &Path) -> Redis {
        let tls = Some((certificate, key));
        (0..10).find_map(|_| Redis::start_on(free_port(), tls)).expect("redis-server starts on a free port")
    }

    #[expect(clippy::disallowed_methods, reason = "polls a server with a deadline, on a thread of its own")]
    fn start_on(port: u16, tls: Option<(&Path, &Path)>) -> Option<Redis> {
        let mut command = Command::new("redis-server");
        match tls {
            None => command.args(["--port", &port.to_string()]),
            // Unless told otherwise, it hangs up on clients that have no certificate of their own.
            Some((certificate, key)) => command
                .args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"])
                .arg("--tls-cert-file")
                .arg(certificate)
                .arg("--tls-key-file")
                .arg(key),
        };
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().expect("redis-server is installed");
        const SCRIPT: &str = "trap '' HUP INT TERM; read -r _; kill -KILL \"$1\" 2>/dev/null";
        let mut leash = Command::new("/bin/sh");
        leash.args(["-c", SCRIPT, "nova-test-leash", &child.id().to_string()]).current_dir("/");
        std::os::unix::process::CommandExt::process_group(&mut leash, 0);
        let leash = leash.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let leash = leash.expect("a leash");
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Redis { port, child, leash });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(Redis { port, child, leash });
        None
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens, for those who ask for TLS.
    pub(crate) fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// Sends it a signal: SIGSTOP makes it a slow Redis, SIGCONT a quick one again.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("our own child");
    }

    /// Ends it as a crash would. It forgets everything.
    pub(crate) fn kill(&mut self) {
        // The leash first: the number may be somebody else's afterwards.
        for child in [&mut self.leash, &mut self.child] {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
        }
    }

    /// A new one in the place of one that was killed.
    pub(crate) fn revive(&mut self) {
        *self = Redis::start_on(self.port, None).expect("the port is still free");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        for child in [&mut self.leash, &mut self.child] {
            let _gone_already = (child.kill(), child.wait());
        }
    }
}

/// A port nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
