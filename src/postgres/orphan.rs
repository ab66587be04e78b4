//! What an engine that died left running.
//!
//! PostgreSQL's processes all stand in their cluster's folder, so the kernel can be asked who is left there, also when
//! `postmaster.pid` is missing, stale, or names a process that is somebody else by now. Where there is no `/proc` the question is
//! left to PostgreSQL's own check, which refuses to start a second server.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::error::{PostgresError, files};

/// How long each way of asking may take: a fast shutdown writes a checkpoint, an immediate one only ends processes.
const PATIENCE: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(10)),
    (Signal::QUIT, Duration::from_secs(5)),
    (Signal::KILL, Duration::from_secs(5)),
];

/// How often we look whether they are gone; an exit cannot be waited for, they are not our children.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Stops whatever still runs on `cluster` and takes away a pid file nobody stands behind.
///
/// The caller holds the lock of the data directory, so no living engine uses what is found. Blocks until they are gone.
pub(super) fn clear(cluster: &Path) -> Result<(), PostgresError> {
    let pid_file = cluster.join("postmaster.pid");
    let found = processes_in(cluster);
    if let Some(first) = found.first() {
        tracing::warn!(processes = found.len(), "stopping a PostgreSQL that an engine left behind");
        end(cluster, read_pid(&pid_file), first.as_raw_nonzero().get())?;
    }
    // With nobody left in the folder the file is stale. PostgreSQL finds that out by itself unless the number has been given to
    // another process of the same account, which would keep it from starting for as long as that process lives.
    let alive = read_pid(&pid_file).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
    if alive && Path::new("/proc/self").exists() {
        tracing::warn!("removing a stale postmaster.pid whose number is somebody else's by now");
        std::fs::remove_file(&pid_file).map_err(files("remove", &pid_file))?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a blocking thread asks the kernel until they are gone; nobody else is on it"
)]
fn end(cluster: &Path, postmaster: Option<Pid>, first: i32) -> Result<(), PostgresError> {
    for (signal, patience) in PATIENCE {
        let mut deadline = Instant::now() + patience;
        let mut asked: Vec<Pid> = Vec::new();
        loop {
            let left = processes_in(cluster);
            if left.is_empty() {
                return Ok(());
            }
            // The postmaster tells its children; without it each is told by itself.
            let leader = postmaster.filter(|pid| signal != Signal::KILL && left.contains(pid));
            for pid in leader.map_or(left, |leader| vec![leader]) {
                if !asked.contains(&pid) {
                    tell(cluster, pid, signal);
                    asked.push(pid);
                    deadline = Instant::now() + patience;
                }
            }
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Err(PostgresError::Orphan { dir: cluster.to_owned(), pid: first })
}

/// Signals a process after making sure that the number still means it.
fn tell(cluster: &Path, pid: Pid, signal: Signal) {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if stands_in(cluster, pid) {
        // It may be gone by now, which is all we want.
        let _gone = pidfd_send_signal(handle, signal);
    }
}

fn read_pid(pid_file: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 0)?)
}

/// PostgreSQL's processes whose folder is `cluster`. Zombies have none and do not count.
fn processes_in(cluster: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| stands_in(cluster, *pid)).collect()
}

fn stands_in(cluster: &Path, pid: Pid) -> bool {
    let process = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
    let here = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == cluster);
    // Not somebody's shell that happens to stand there.
    here && std::fs::read_link(process.join("exe")).is_ok_and(|exe| {
        exe.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("postgres"))
    })
}
