//! FFmpeg as a child process: bounded when it starts, spoken to over pipes, gone with whoever holds it.
//!
//! The child is the `ffmpeg` program, fed over a pipe and read from another, and not this binary with FFmpeg linked in. Linking
//! would ask every machine that builds the engine for FFmpeg's headers and libclang, put a minute on each build, tie the binary to
//! one version of the libraries, and end in the same place: a child process that reads a pipe. The program costs a start of some
//! tens of milliseconds, is what distributions keep patched, and may be absent: then what it would have made is not there.
//!
//! What the child gets of the machine is bounded: address space, CPU time where an end is to be expected, no files, no core, no
//! network, no environment, a lower priority than the engine's. What it reads came from a stranger's encoder.
//!
//! [`Running`] is one child; [`Backoff`] says how long to wait before the next when one has died. Pictures
//! ([`live::still`](crate::live::still)) take one child each, ladders one for as long as a publisher stays.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What the child says is heard to its end, so that it never waits for us; this much of the latest is kept.
const WORDS_BYTES_MAX: usize = 2 << 10;
/// Files a child may have open: its pipes and what its libraries look at when they start.
const FILES_MAX: u64 = 64;
/// How long a child that has ended its work may take to be gone.
const EXIT_LIMIT: Duration = Duration::from_secs(5);
/// What its last words may take to arrive after it is gone.
const WORDS_LIMIT: Duration = Duration::from_secs(1);

/// What a child may use of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// CPU seconds of its life; none for a child that lives as long as what it reads.
    pub cpu_s: Option<u64>,
    /// Address space.
    pub memory_bytes: u64,
    /// Added to the priority of the engine: the engine goes before its children.
    pub niceness: i32,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program on this machine.
    #[error("the program {0} is not on this machine")]
    NoProgram(String),
    /// It could not be started, or has no pipes.
    #[error("the child cannot be used: {0}")]
    Child(#[from] io::Error),
}

/// A child that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    hearing: JoinHandle<()>,
}

/// The two pipes of a child.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads. Closed (dropped), the child finishes what it has and ends.
    pub input: ChildStdin,
    /// What it writes.
    pub output: ChildStdout,
}

impl Running {
    /// Starts the program with these arguments, behind those that keep it to pipes and quiet. To be called inside a tokio runtime.
    pub fn start<S: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        bounds: &Bounds,
    ) -> Result<(Running, Pipes), StartError> {
        let mut child = Command::new(program)
            .env_clear()
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-protocol_whitelist", "pipe"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => StartError::NoProgram(program.display().to_string()),
                _ => StartError::Child(error),
            })?;
        let pid = child.id().and_then(|id| Pid::from_raw(id as i32));
        // It was started a moment ago and has read nothing yet: it waits for its input.
        if let Some(pid) = pid {
            restrain(pid, bounds);
        }
        let (Some(input), Some(output), Some(words)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(StartError::Child(io::Error::other("it has no pipes")));
        };
        let said = Arc::default();
        let hearing = tokio::spawn(hear(words, Arc::clone(&said)));
        Ok((Running { child, said, hearing }, Pipes { input, output }))
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// The CPU time it has used so far; none where the system does not tell.
    pub fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // The second field is the program's name, which may hold anything: count from behind it (proc(5)).
        let (_, fields) = stat.rsplit_once(')')?;
        let mut ticks = fields.split_ascii_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
        let ticks = ticks.next()? + ticks.next()?;
        let per_s = rustix::param::clock_ticks_per_second().max(1);
        Some(Duration::from_secs_f64(ticks as f64 / per_s as f64))
    }

    /// Waits until it has ended by itself, or kills it when `limit` has passed. How it ended, and what it said last.
    pub async fn ended(mut self, limit: Duration) -> Ended {
        let status = match timeout(limit, self.child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = self.child.start_kill();
                timeout(EXIT_LIMIT, self.child.wait()).await.ok().and_then(Result::ok)
            }
        };
        // A grandchild may hold the pipe open; nobody waits for that.
        let _ = timeout(WORDS_LIMIT, &mut self.hearing).await;
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&said);
        let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        Ended { well: status.is_some_and(|status| status.success()), words: described(first, status) }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) -> Ended {
        let _ = self.child.start_kill();
        self.ended(EXIT_LIMIT).await
    }
}

fn described(words: &str, status: Option<std::process::ExitStatus>) -> String {
    match status {
        Some(status) => format!("{words} ({status})"),
        None => format!("{words} (it does not end)"),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// It says that all went well.
    pub well: bool,
    /// The first of its last words, and its exit status.
    pub words: String,
}

/// Bounds what the child may use.
fn restrain(pid: Pid, bounds: &Bounds) {
    let most = |bound: u64| Rlimit { current: Some(bound), maximum: Some(bound) };
    let limits = [
        (Resource::Cpu, bounds.cpu_s),
        (Resource::As, Some(bounds.memory_bytes)),
        (Resource::Nofile, Some(FILES_MAX)),
        (Resource::Core, Some(0)),
        (Resource::Fsize, Some(0)),
    ];
    for (resource, bound) in limits {
        let Some(bound) = bound else { continue };
        if let Err(error) = rustix::process::prlimit(Some(pid), resource, most(bound)) {
            tracing::debug!(%error, "a bound of a child could not be set");
        }
    }
    if let Err(error) = rustix::process::setpriority_process(Some(pid), bounds.niceness) {
        tracing::debug!(%error, "the priority of a child could not be lowered");
    }
}

/// Hears all it says, and keeps the latest.
async fn hear(mut words: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1_024];
    while let Ok(count @ 1..) = words.read(&mut buffer).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let over = said.len().saturating_sub(WORDS_BYTES_MAX);
        said.drain(..over);
    }
}

/// Pauses between one child's death and the next one's start: they double from `least` to `most`, and begin anew after a child that
/// ran well for a while.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// No pause was made yet.
    pub fn new(least: Duration, most: Duration) -> Backoff {
        Backoff { least, most, next: least }
    }

    /// The pause after a child that ran for so long.
    pub fn after(&mut self, ran: Duration) -> Duration {
        // Whoever lasts longer than the longest pause is not one that dies at once.
        if ran > self.most {
            self.next = self.least;
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { cpu_s: Some(5), memory_bytes: 1 << 30, niceness: 10 };

    fn script(text: &str) -> tempfile::TempPath {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        let path = file.into_temp_path();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("made a program");
        path
    }

    #[test]
    fn pauses_double_to_their_bound_and_begin_anew_after_a_long_life() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second * 8);
        let mut after = |ran: Duration| backoff.after(ran).as_secs();
        assert_eq!([0, 0, 0, 0, 0].map(|_| after(Duration::ZERO)), [1, 2, 4, 8, 8]);
        assert_eq!(after(second * 8), 8, "not long enough");
        assert_eq!(after(second * 9), 1);
        assert_eq!(after(second), 2);
    }

    #[actix_rt::test]
    async fn a_child_that_talks_without_end_is_heard_and_its_bounds_are_set() {
        let path = script(
            "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\necho >&2\nulimit -v >&2\nulimit -n >&2\nnice >&2\n",
        );
        let (running, pipes) = Running::start(&path, [""; 0], &BOUNDS).expect("started");
        assert!(running.pid().is_some() && running.cpu_time().is_some());
        drop(pipes.input);
        let said = Arc::clone(&running.said);
        let ended = running.ended(Duration::from_secs(30)).await;
        assert!(ended.well, "{ended:?}");
        let said = String::from_utf8(said.lock().expect("whole").clone()).expect("text");
        assert!(said.len() <= WORDS_BYTES_MAX);
        assert!(said.ends_with("\n1048576\n64\n10\n"), "{said}");
    }

    #[actix_rt::test]
    async fn a_child_that_does_not_end_is_killed() {
        let path = script("#!/bin/sh\nexec sleep 600\n");
        let (running, _pipes) = Running::start(&path, [""; 0], &BOUNDS).expect("started");
        let ended = running.ended(Duration::from_millis(50)).await;
        assert!(!ended.well && ended.words.contains("signal: 9"), "{ended:?}");
        let absent = Running::start(Path::new("/nowhere/ffmpeg"), [""; 0], &BOUNDS).map(|_| ());
        assert!(matches!(absent, Err(StartError::NoProgram(_))), "{absent:?}");
    }
}
