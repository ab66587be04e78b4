//! The embedded PostgreSQL, with the machine's own binaries.

mod refusal;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nova::postgres::{Embedded, EmbeddedConfig, PostgresError, PostgresHealth};
use rustix::process::{Pid, Signal};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::services::{eventually, kept_dir};

/// Generous: the machine may be busy. The three seconds of a start are asserted where they are measured.
const SOON: Duration = Duration::from_secs(60);

/// Names the data directory in a copy of this test binary that plays the engine.
const ROLE: &str = "NOVA_TEST_ENGINE_DATA_DIR";

async fn start(dir: &Path) -> Result<Embedded, PostgresError> {
    Embedded::start(dir, &EmbeddedConfig::default()).await
}

async fn write_note(embedded: &Embedded, text: &str) {
    let mut connection = embedded.connect_options().connect().await.expect("connects");
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text text)").await.expect("a table");
    sqlx::query("INSERT INTO notes VALUES ($1)").bind(text).execute(&mut connection).await.expect("written");
    connection.close().await.expect("closed");
}

async fn notes(embedded: &Embedded) -> Vec<String> {
    let mut connection = embedded.connect_options().connect().await.expect("connects");
    let notes = sqlx::query_scalar("SELECT text FROM notes ORDER BY text").fetch_all(&mut connection).await;
    connection.close().await.expect("closed");
    notes.expect("the notes are there")
}

fn server_pid(embedded: &Embedded) -> Pid {
    match *embedded.health().borrow() {
        PostgresHealth::Running { pid } => Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid"),
        ref other => panic!("the server is {other:?}"),
    }
}

fn is_alive(pid: Pid) -> bool {
    // A zombie that nobody waits for yet is dead for us.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn a_first_start_makes_the_cluster_and_later_ones_find_it_within_three_seconds() {
    let dir = kept_dir("pg");
    let first = Instant::now();
    let embedded = start(&dir).await.expect("starts");
    println!("first start: {:?}", first.elapsed());
    write_note(&embedded, "kept").await;
    let pid = server_pid(&embedded);
    embedded.stop().await;
    assert!(!is_alive(pid), "stop waits for the end");
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        let embedded = start(&dir).await.expect("starts again");
        best = best.min(began.elapsed());
        assert_eq!(notes(&embedded).await, ["kept"]);
        let began = Instant::now();
        embedded.stop().await;
        println!("stop: {:?}", began.elapsed());
    }
    println!("start on existing data: {best:?}");
    assert!(best < Duration::from_secs(3), "ready after {best:?}");
}

#[tokio::test]
async fn the_engine_is_no_superuser_and_the_cluster_is_as_promised() {
    let dir = kept_dir("pg");
    let embedded = start(&dir).await.expect("starts");
    let mut connection = embedded.connect_options().connect().await.expect("connects");
    let show = async |connection: &mut sqlx::PgConnection, name: &str| {
        let setting = sqlx::query_scalar::<_, String>("SELECT current_setting($1)").bind(name.to_owned());
        setting.fetch_one(connection).await.expect(name)
    };
    for (name, value) in [
        ("is_superuser", "off"),
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("timezone", "UTC"),
    ] {
        assert_eq!(show(&mut connection, name).await, value, "{name}");
    }
    connection.close().await.expect("closed");
    embedded.stop().await;
}

#[tokio::test]
async fn a_second_engine_on_the_same_data_is_refused() {
    let dir = kept_dir("pg");
    let embedded = start(&dir).await.expect("starts");
    let refused = start(&dir).await.expect_err("the data directory is taken");
    let words = refused.to_string();
    assert!(matches!(refused, PostgresError::InUse { .. }), "{words}");
    assert!(words.contains(&format!("(process {})", std::process::id())), "{words}");
    write_note(&embedded, "undisturbed").await;
    embedded.stop().await;
    let next = start(&dir).await.expect("what was given back can be taken");
    assert_eq!(notes(&next).await, ["undisturbed"]);
    next.stop().await;
}

/// Plays the engine of `test` when this process was started to; says its server's pid and stays until it is killed.
async fn play_engine() -> bool {
    let Some(dir) = std::env::var_os(ROLE) else { return false };
    let embedded = start(Path::new(&dir)).await.expect("starts");
    write_note(&embedded, "acknowledged").await;
    println!("\nserver {}", server_pid(&embedded).as_raw_nonzero());
    std::future::pending().await
}

/// Another process that runs an engine on `dir`, and the pid of its server.
fn engine(test: &str, dir: &Path) -> (Child, Pid) {
    let mut command = Command::new(std::env::current_exe().expect("we know ourselves"));
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(ROLE, dir);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("another of us");
    let lines = BufReader::new(child.stdout.take().expect("its words")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("server ")?.parse().ok());
    (child, Pid::from_raw(pid.expect("it says its server")).expect("a pid"))
}

#[tokio::test]
async fn a_killed_engine_takes_its_server_along_and_its_data_come_back() {
    if play_engine().await {
        return;
    }
    let dir = kept_dir("pg");
    let test = "postgres::a_killed_engine_takes_its_server_along_and_its_data_come_back";
    let (mut child, server) = engine(test, &dir);
    assert!(is_alive(server));
    child.kill().expect("killed");
    child.wait().expect("gone");
    eventually("the server left with its engine", SOON, async || (!is_alive(server)).then_some(())).await;
    let embedded = start(&dir).await.expect("starts");
    assert_eq!(notes(&embedded).await, ["acknowledged"]);
    embedded.stop().await;
}

#[tokio::test]
async fn a_server_left_behind_is_stopped_and_its_data_come_back() {
    if play_engine().await {
        return;
    }
    let dir = kept_dir("pg");
    let test = "postgres::a_server_left_behind_is_stopped_and_its_data_come_back";
    let (mut child, server) = engine(test, &dir);
    // Without its leash the server does not notice.
    let leash = leash_of(server);
    rustix::process::kill_process(leash, Signal::KILL).expect("cut");
    eventually("the leash is cut", SOON, async || (!is_alive(leash)).then_some(())).await;
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(is_alive(server), "an orphan");
    let embedded = start(&dir).await.expect("starts");
    assert!(!is_alive(server), "the orphan is gone");
    assert_ne!(server_pid(&embedded), server);
    assert_eq!(notes(&embedded).await, ["acknowledged"]);
    embedded.stop().await;
}

fn leash_of(server: Pid) -> Pid {
    let wanted = server.as_raw_nonzero().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let mut leashes = processes.filter_map(|entry| {
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let is_leash = words.contains(&b"nova-leash".as_slice()) && words.contains(&wanted.as_bytes());
        is_leash.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    });
    Pid::from_raw(leashes.next().expect("the server has a leash")).expect("a pid")
}

#[tokio::test]
async fn a_server_that_dies_is_started_again() {
    let dir = kept_dir("pg");
    let embedded = start(&dir).await.expect("starts");
    write_note(&embedded, "acknowledged").await;
    let (mut health, server) = (embedded.health(), server_pid(&embedded));
    rustix::process::kill_process(server, Signal::KILL).expect("killed");
    let down = tokio::time::timeout(
        SOON,
        health.wait_for(|health| matches!(health, PostgresHealth::Restarting { .. })),
    );
    let reason = format!("{:?}", *down.await.expect("in time").expect("the keeper lives"));
    assert!(reason.contains("signal: 9"), "{reason}");
    let up = tokio::time::timeout(
        SOON,
        health.wait_for(|health| matches!(health, PostgresHealth::Running { .. })),
    );
    up.await.expect("in time").expect("the keeper lives");
    assert_ne!(server_pid(&embedded), server);
    assert_eq!(notes(&embedded).await, ["acknowledged"]);
    embedded.stop().await;
    assert_eq!(*embedded.health().borrow(), PostgresHealth::Stopped);
}

#[tokio::test]
async fn a_data_directory_too_deep_for_a_socket_works_all_the_same() {
    let dir = kept_dir("pg");
    let deep = dir.join("d".repeat(120));
    let embedded = start(&deep).await.expect("starts");
    write_note(&embedded, "deep").await;
    let socket = embedded.connect_options().get_socket().expect("a socket").clone();
    assert!(!socket.starts_with(&dir), "{}", socket.display());
    embedded.stop().await;
    std::fs::remove_dir(&socket).expect("nothing is left in it");
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_begun_anew() {
    let dir = kept_dir("pg");
    let unfinished = dir.join("postgres.new/base");
    std::fs::create_dir_all(&unfinished).expect("made");
    std::fs::write(unfinished.join("half"), "a file").expect("written");
    std::fs::write(dir.join("postgres.new/PG_VERSION"), "15\n").expect("written");
    let embedded = start(&dir).await.expect("starts");
    write_note(&embedded, "whole").await;
    assert!(!dir.join("postgres.new").exists());
    embedded.stop().await;
}

/// After a crash of the machine the number in `postmaster.pid` may be somebody else's.
#[tokio::test]
async fn a_stale_pid_file_that_names_a_stranger_is_no_obstacle() {
    let dir = kept_dir("pg");
    start(&dir).await.expect("starts").stop().await;
    // The stranger runs as the same account, which is what keeps PostgreSQL from starting.
    let cluster = std::fs::metadata(dir.join("postgres")).expect("the cluster");
    let mut stranger = Command::new("sleep");
    stranger.arg("600").current_dir("/");
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::MetadataExt;
        std::os::unix::process::CommandExt::uid(&mut stranger, cluster.uid());
    }
    let mut stranger = stranger.spawn().expect("a stranger");
    let pid_file = dir.join("postgres/postmaster.pid");
    let stale =
        format!("{}\n{}\n1700000000\n5432\n/tmp\n\n  1  1\n", stranger.id(), dir.join("postgres").display());
    std::fs::write(&pid_file, stale).expect("written");
    let started = start(&dir).await;
    let alive = stranger.try_wait().expect("our child").is_none();
    stranger.kill().expect("our child");
    stranger.wait().expect("our child");
    let embedded = started.expect("starts");
    assert!(alive, "the stranger was left alone");
    embedded.stop().await;
}

#[tokio::test]
async fn nobody_else_on_the_machine_is_let_in() {
    use std::os::unix::fs::PermissionsExt;
    let dir = kept_dir("pg");
    let embedded = start(&dir).await.expect("starts");
    let socket_dir = embedded.connect_options().get_socket().expect("a socket").clone();
    let socket = socket_dir.join(".s.PGSQL.5432");
    for (path, mode) in [(&socket_dir, 0o700), (&socket, 0o700), (&dir.join("postgres"), 0o700)] {
        let found = std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    // The second lock: even where the folder let everybody through, PostgreSQL asks the kernel who is there.
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&socket_dir, std::fs::Permissions::from_mode(0o755)).expect("opened");
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).expect("opened");
        let mut psql = Command::new("psql");
        psql.args(["-X", "-U", "nova", "-d", "nova", "-c", "SELECT 1", "-h"])
            .arg(&socket_dir)
            .current_dir("/");
        let daemon = 1;
        std::os::unix::process::CommandExt::uid(&mut psql, daemon);
        let refused = psql.output().expect("psql is installed");
        let words = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && words.contains("Peer authentication failed"), "{words}");
    }
    embedded.stop().await;
}
