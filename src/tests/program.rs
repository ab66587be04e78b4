//! The program as an operator meets it: its ready line, its exit codes, its one sentence when something is wrong.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::services::Redis;

const NOVA: &str = env!("CARGO_BIN_EXE_nova");

/// A command line of the program, cut off from the environment of the test.
pub fn nova(arguments: &[&str]) -> Command {
    let mut command = Command::new(NOVA);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ours = |name: &str| name.starts_with("NOVA_") || name.starts_with("OTEL_");
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env_remove("DATABASE_URL").env_remove("REDIS_URL");
    command
}

/// A running `nova serve` with the embedded default, on free ports.
pub struct Program {
    child: Child,
    /// The ready line.
    pub ready: Value,
    /// From the start of the process to the ready line.
    pub took: Duration,
}

impl Program {
    /// Starts it and waits for the ready line.
    pub fn serve(data_dir: &Path, more: &[&str]) -> Program {
        Program::serve_in(data_dir, more, &[])
    }

    /// The same, with variables of the environment.
    pub fn serve_in(data_dir: &Path, more: &[&str], environment: &[(&str, &str)]) -> Program {
        Program::start(data_dir, more, environment, Stdio::inherit())
    }

    /// The same, with what it says in a file.
    pub fn serve_saying(data_dir: &Path, more: &[&str], said: File) -> Program {
        Program::start(data_dir, more, &[], said.into())
    }

    fn start(data_dir: &Path, more: &[&str], environment: &[(&str, &str)], said: Stdio) -> Program {
        let data_dir = data_dir.to_str().expect("utf-8");
        let mut arguments = vec!["serve", "--data-dir", data_dir, "--http-addr", "127.0.0.1:0"];
        arguments.extend([
            "--metrics-addr",
            "127.0.0.1:0",
            "--rtmp-addr",
            "127.0.0.1:0",
            "--rtc-addr",
            "127.0.0.1:0",
            "--workers",
            "1",
        ]);
        arguments.extend(more);
        let started = Instant::now();
        let mut command = nova(&arguments);
        command.envs(environment.iter().copied()).stderr(said);
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a ready line: {line:?}"));
        Program { child, ready, took: started.elapsed() }
    }

    /// `scheme://address` of the HTTP door.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.ready["http"].as_str().expect("an address"))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes, and how many files it has open.
    pub fn weight(&self) -> (u64, usize) {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        let kib: u64 = rss.trim().trim_end_matches(" kB").parse().expect("a number");
        (kib << 10, std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count())
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it runs");
        self.child.wait().expect("it ends")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // A test that failed half-way leaves nothing running; after `end` there is nothing left to stop.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Runs a command that is expected to refuse; returns its exit code and what it said.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("the program starts");
    assert!(output.stdout.is_empty(), "nothing is promised: {:?}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8(output.stderr).expect("text");
    // Logs of what was tried before stand above; the sentence is the last line.
    let sentence = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    (output.status.code(), sentence)
}

fn client() -> reqwest::Client {
    nova::app::use_ring();
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("a client")
}

#[actix_web::test]
async fn what_was_acknowledged_survives_kill_9_of_the_engine() {
    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &[]);
    let ann =
        serde_json::json!({"username": "ann", "email": "ann@example.org", "password": "a long way home"});
    let made = client()
        .post(format!("{}/v1/accounts", engine.url("http")))
        .json(&ann)
        .send()
        .await
        .expect("answers");
    assert_eq!(made.status(), 201, "{:?}", made.text().await);
    assert_eq!(engine.end(Signal::KILL).signal(), Some(9));

    let engine = Program::serve(data.path(), &[]);
    assert!(engine.took < Duration::from_secs(20), "recovered and ready after {:?}", engine.took);
    let login = serde_json::json!({"login": "ann", "password": "a long way home"});
    let back = client()
        .post(format!("{}/v1/sessions", engine.url("http")))
        .json(&login)
        .send()
        .await
        .expect("answers");
    assert_eq!(back.status(), 201, "{:?}", back.text().await);
    assert!(engine.end(Signal::TERM).success());
}

#[actix_web::test]
async fn asked_to_stop_it_drains_and_exits_0() {
    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &[]);
    let ready = client().get(format!("{}/readyz", engine.url("http"))).send().await.expect("answers");
    assert_eq!(ready.status(), 200);
    let asked = Instant::now();
    let ended = engine.end(Signal::TERM);
    assert!(ended.success(), "{ended:?}");
    assert!(asked.elapsed() < Duration::from_secs(30), "it took {:?}", asked.elapsed());
    let left = std::fs::read_to_string(data.path().join("postgres/postmaster.pid"));
    assert!(left.is_err(), "PostgreSQL stopped with the engine");
}

#[test]
fn a_taken_port_is_one_sentence_that_names_the_flag() {
    let data = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("an address").to_string();
    let data = data.path().to_str().expect("utf-8");
    let (code, said) = refused(&mut nova(&["serve", "--data-dir", data, "--http-addr", &addr]));
    assert_eq!(code, Some(1));
    assert!(said.starts_with(&format!("nova: cannot listen on {addr}: ")), "{said}");
    assert!(said.contains("--http-addr"), "{said}");
}

#[test]
fn missing_postgres_binaries_are_one_sentence() {
    let data = tempfile::tempdir().expect("a directory");
    let arguments = [
        "--http-addr",
        "127.0.0.1:0",
        "--metrics-addr",
        "127.0.0.1:0",
        "--rtmp-addr",
        "127.0.0.1:0",
        "--rtc-addr",
        "127.0.0.1:0",
        "--postgres-bin-dir",
        "/nonexistent",
    ];
    let mut command = nova(&["serve", "--data-dir", data.path().to_str().expect("utf-8")]);
    let (code, said) = refused(command.args(arguments));
    assert_eq!(code, Some(1));
    assert!(said.starts_with("nova: ") && said.contains("/nonexistent"), "{said}");
}

#[test]
fn a_wrong_key_of_the_configuration_is_one_sentence() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("nova.toml");
    std::fs::write(&file, "drains = 10\n").expect("written");
    let (code, said) = refused(&mut nova(&["serve", "--config", file.to_str().expect("utf-8")]));
    assert_eq!(code, Some(2));
    assert!(said.contains("unknown key `drains`; did you mean `drain_s`?"), "{said}");
}

#[test]
fn a_full_disk_is_one_sentence() {
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().to_str().expect("utf-8");
    // A disk of a few megabytes that only this process tree sees; a user namespace where we are not root.
    let arguments = format!(
        "--data-dir {path} --http-addr 127.0.0.1:0 --metrics-addr 127.0.0.1:0 --rtmp-addr 127.0.0.1:0 --rtc-addr 127.0.0.1:0"
    );
    let script =
        format!("mount -t tmpfs -o size=12m,mode=0755 nova-full {path} && exec {NOVA} serve {arguments}");
    let namespaces = if rustix::process::getuid().is_root() { "--mount" } else { "--mount --map-root-user" };
    let mut command = Command::new("unshare");
    command.args(namespaces.split(' ')).args(["sh", "-c", &script]).stdin(Stdio::null());
    command.env_remove("DATABASE_URL");
    let (code, said) = refused(&mut command);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("nova: ") && said.contains("is full"), "{said}");
}

#[test]
fn config_check_prints_what_options_come_to_and_keeps_secrets() {
    let mut command = nova(&["config", "check", "--drain-s", "7"]);
    command.env("DATABASE_URL", "postgres://nova:hunter2@db.example/nova");
    let output = command.output().expect("runs");
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("drain_s = 7  # flag\n"), "{said}");
    assert!(said.contains("database_url = set  # environment\n"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let (code, said) = refused(&mut nova(&["config", "check", "--drain-s", "31"]));
    assert_eq!(code, Some(2), "{said}");
}

/// A certificate for this machine's own addresses, and the files it and its key are in.
pub fn certificate(folder: &Path) -> (rcgen::CertifiedKey<rcgen::KeyPair>, PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
        .expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    (made, cert, key)
}

#[actix_web::test]
async fn with_a_certificate_of_its_own_redis_is_spoken_to_over_tls() {
    let data = tempfile::tempdir().expect("a directory");
    let (_made, cert, key) = certificate(data.path());
    let redis = Redis::start_with_tls(&cert, &key);
    let bus = |engine: &Program| {
        let ready = format!("{}/readyz", engine.url("http"));
        async move {
            let body: Value = client().get(ready).send().await.expect("answers").json().await.expect("JSON");
            let named =
                body["dependencies"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "bus"));
            named.expect("the bus is named").clone()
        }
    };
    let trusted = [("SSL_CERT_FILE", cert.to_str().expect("utf-8"))];
    let engine = Program::serve_in(data.path(), &["--redis-url", &redis.tls_url()], &trusted);
    let seen = bus(&engine).await;
    assert_eq!(seen["up"], true, "{seen}");
    assert!(engine.end(Signal::TERM).success());
    // Whoever does not know the certificate does not speak to it: the node starts, and says that it is alone.
    let other = [("SSL_CERT_FILE", "/dev/null")];
    let engine = Program::serve_in(data.path(), &["--redis-url", &redis.tls_url()], &other);
    let seen = bus(&engine).await;
    assert_eq!(seen["up"], false, "{seen}");
}

#[actix_web::test]
async fn with_a_certificate_the_door_speaks_tls_and_http_2() {
    let data = tempfile::tempdir().expect("a directory");
    let (made, cert, key) = certificate(data.path());
    let tls = ["--tls-cert", cert.to_str().expect("utf-8"), "--tls-key", key.to_str().expect("utf-8")];
    let engine = Program::serve(data.path(), &tls);
    nova::app::use_ring();
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).expect("a certificate");
    let http = reqwest::Client::builder().tls_certs_only([trusted]).build().expect("a client");
    let live = http.get(format!("{}/livez", engine.url("https"))).send().await.expect("answers");
    assert_eq!(live.status(), 200);
    assert_eq!(live.version(), reqwest::Version::HTTP_2);
    assert!(live.headers().contains_key("strict-transport-security"));

    let mut plain =
        std::net::TcpStream::connect(engine.ready["http"].as_str().expect("an address")).expect("connects");
    std::io::Write::write_all(&mut plain, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    // The server ends such a connection, with an alert or with a reset.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "plain text is not answered on the TLS door");
}
