//! What keeps the embedded PostgreSQL from starting is told by the program in one sentence, with an exit code that is not zero.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::start;
use crate::services::kept_dir;

/// What the program says when it is told to serve `dir` and cannot. It fails if it can.
fn refusal(dir: &Path, args: &[&str]) -> String {
    refusal_of(nova(), dir, args)
}

fn nova() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nova"))
}

#[expect(clippy::disallowed_methods, reason = "polls a child with a deadline, on a thread of the test's own")]
fn refusal_of(mut command: Command, dir: &Path, args: &[&str]) -> String {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|name| name.starts_with("NOVA_") || name.ends_with("_URL"));
        if ours {
            command.env_remove(name);
        }
    }
    command.args([
        "serve",
        "--log",
        "error",
        "--http-addr",
        "127.0.0.1:0",
        "--metrics-addr",
        "127.0.0.1:0",
        "--rtmp-addr",
        "127.0.0.1:0",
        "--rtc-addr",
        "127.0.0.1:0",
    ]);
    command.arg("--data-dir").arg(dir).args(args);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match child.try_wait().expect("our child") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().expect("our child");
                panic!("it did not refuse");
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut words = String::new();
    child.stderr.take().expect("its words").read_to_string(&mut words).expect("text");
    assert_eq!(status.code(), Some(1), "{words}");
    let sentences: Vec<&str> = words.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(sentences.len(), 1, "one sentence: {words}");
    sentences[0].strip_prefix("nova: ").expect("it says who speaks").to_owned()
}

fn says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "{part:?} is missing in: {words}");
    }
}

#[test]
fn missing_binaries() {
    let dir = kept_dir("pg");
    let empty = dir.join("bin");
    std::fs::create_dir(&empty).expect("made");
    let words = refusal(&dir.join("data"), &["--postgres-bin-dir", empty.to_str().expect("text")]);
    says(
        &words,
        &["does not hold a usable PostgreSQL 14", "there is no `postgres` in it", "--postgres-bin-dir"],
    );
}

#[test]
fn binaries_that_are_too_old() {
    use std::os::unix::fs::PermissionsExt;
    let dir = kept_dir("pg");
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).expect("made");
    for name in ["postgres", "initdb"] {
        std::fs::write(bin.join(name), "#!/bin/sh\necho 'postgres (PostgreSQL) 13.4'\n").expect("written");
        std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).expect("executable");
    }
    let words = refusal(&dir.join("data"), &["--postgres-bin-dir", bin.to_str().expect("text")]);
    says(&words, &["does not hold a usable PostgreSQL 14 or newer (only version 13)"]);
}

#[test]
fn a_data_directory_that_cannot_be_made() {
    let dir = kept_dir("pg");
    std::fs::write(dir.join("file"), "x").expect("written");
    let words = refusal(&dir.join("file/data"), &[]);
    says(&words, &["cannot create the data directory", "choose another with --data-dir"]);
}

#[test]
fn something_else_where_the_cluster_belongs() {
    let dir = kept_dir("pg");
    let cluster = dir.join("postgres");
    std::fs::create_dir(&cluster).expect("made");
    std::fs::write(cluster.join("holiday.jpg"), "x").expect("written");
    give_to_postgres(&cluster);
    says(&refusal(&dir, &[]), &["is not a PostgreSQL cluster", "move it away"]);
    assert!(cluster.join("holiday.jpg").exists(), "it was left alone");
}

#[tokio::test]
async fn another_major_version() {
    let dir = kept_dir("pg");
    start(&dir).await.expect("starts").stop().await;
    std::fs::write(dir.join("postgres/PG_VERSION"), "11\n").expect("written");
    let words = refusal(&dir, &[]);
    says(
        &words,
        &["was written by PostgreSQL 11 and this machine has version", "install PostgreSQL 11", "pg_upgrade"],
    );
}

#[tokio::test]
async fn another_owner() {
    let dir = kept_dir("pg");
    let cluster = dir.join("postgres");
    if rustix::process::geteuid().is_root() {
        start(&dir).await.expect("starts").stop().await;
        std::os::unix::fs::chown(&cluster, Some(1), Some(1)).expect("given away");
        says(&refusal(&dir, &[]), &["belongs to", "and PostgreSQL would run as", "chown -R"]);
    } else {
        // Whoever is not root cannot give a folder away, but can point to one of root's.
        std::os::unix::fs::symlink("/usr", &cluster).expect("linked");
        says(&refusal(&dir, &[]), &["belongs to root", "chown -R"]);
    }
}

#[tokio::test]
async fn another_engine() {
    let dir = kept_dir("pg");
    let embedded = start(&dir).await.expect("starts");
    let words = refusal(&dir, &[]);
    says(&words, &[&format!("another engine (process {}) is using", std::process::id()), "stop it first"]);
    embedded.stop().await;
}

#[tokio::test]
async fn a_setting_postgres_does_not_take() {
    let dir = kept_dir("pg");
    start(&dir).await.expect("starts").stop().await;
    std::fs::write(dir.join("postgres/postgresql.local.conf"), "shared_bufers = 1\n").expect("written");
    give_to_postgres(&dir.join("postgres/postgresql.local.conf"));
    let words = refusal(&dir, &[]);
    says(&words, &["PostgreSQL did not start; its last words in", "postgres.log", "shared_bufers"]);
}

/// The disk is a small one of its own, in a mount namespace that ends with the program.
#[test]
fn a_full_disk() {
    let dir = kept_dir("pg");
    let disk = dir.join("disk");
    std::fs::create_dir(&disk).expect("made");
    let mut command = Command::new("unshare");
    // Whoever is not root mounts inside a namespace where they are.
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-rm" });
    command.args(["sh", "-c", "mount -t tmpfs -o size=24m none \"$1\" && shift && exec \"$@\"", "sh"]);
    command.arg(&disk).arg(env!("CARGO_BIN_EXE_nova"));
    let words = refusal_of(command, &disk.join("data"), &[]);
    says(&words, &["the disk that holds", "is full", "needs at least 160 MiB free", "--data-dir"]);
}

/// Only root has to let PostgreSQL be somebody else, who must be able to reach its files.
#[test]
fn a_folder_the_account_may_not_enter() {
    use std::os::unix::fs::PermissionsExt;
    let dir = kept_dir("pg");
    let closed = dir.join("closed");
    std::fs::create_dir(&closed).expect("made");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("closed");
    if rustix::process::geteuid().is_root() {
        let words = refusal(&closed.join("data"), &[]);
        says(
            &words,
            &["because the engine is root, may not enter", "closed", "--data-dir it can reach", "chmod o+x"],
        );
    } else {
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).expect("closed");
        says(&refusal(&closed.join("data"), &[]), &["cannot create the data directory", "--data-dir"]);
    }
}

/// What is under the cluster's name is looked at only when it belongs to whom it must.
fn give_to_postgres(path: &Path) {
    if rustix::process::geteuid().is_root() {
        let status = Command::new("chown").arg("-R").arg("postgres").arg(path).status().expect("chown runs");
        assert!(status.success(), "the account postgres is there");
    }
}
