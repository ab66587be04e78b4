//! One child of an egress: bytes in, pieces out, and what it costs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ffmpeg::{Bounds, Pipes, Running, StartError};

/// It lives as long as the room is streamed; more of an address space than a decoder of 4K pictures takes; behind the engine.
const BOUNDS: Bounds = Bounds { cpu_s: None, memory_bytes: 2 << 30, niceness: 5 };
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// How often its CPU time is read.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// How long it may give nothing for what it was fed before it is stuck.
const STALL: Duration = Duration::from_secs(5);
/// The same for what it gives first. A machine that is busy with other things takes long to start a program, and longer if it is killed for
/// that and started again.
pub(super) const START: Duration = Duration::from_secs(30);

/// Makes pieces of what the child writes; false when it cannot be right.
pub(super) type Cut<T> = Box<dyn FnMut(&[u8], &mut Vec<T>) -> bool + Send>;

/// A child that runs; it is killed when this is dropped.
pub(super) struct Child<T> {
    input: mpsc::Sender<Bytes>,
    output: mpsc::Receiver<T>,
    used_us: Arc<AtomicU64>,
    told_us: u64,
    began: Instant,
    /// Since when something was fed that nothing came back for.
    owed_since: Option<Instant>,
    has_given: bool,
    task: JoinHandle<()>,
}

impl<T: Send + 'static> Child<T> {
    /// Starts one that has at most so much waiting before and behind it. Inside a runtime.
    pub(super) fn start(
        program: &Path,
        arguments: &[&str],
        (input_max, output_max): (usize, usize),
        cut: Cut<T>,
    ) -> Result<Child<T>, StartError> {
        let (running, Pipes { input: stdin, output: stdout }) = Running::start(program, arguments, &BOUNDS)?;
        let (input, fed) = mpsc::channel(input_max);
        let (given, output) = mpsc::channel(output_max);
        let used_us = Arc::new(AtomicU64::new(0));
        let used = Arc::clone(&used_us);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = feed(stdin, fed) => {}
                () = read(stdout, given, cut) => {}
                () = measure(&running, &used) => {}
            }
            let ended = running.kill().await;
            tracing::debug!(words = ended.words, "a child of an egress has ended");
        });
        let began = Instant::now();
        Ok(Child { input, output, used_us, told_us: 0, began, owed_since: None, has_given: false, task })
    }

    /// Hands it a piece; whether it could be taken.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        self.owed_since.get_or_insert_with(Instant::now);
        self.input.try_send(bytes).is_ok()
    }

    /// What it has given and nobody took yet.
    pub(super) fn take(&mut self) -> Option<T> {
        let taken = self.output.try_recv().ok();
        if taken.is_some() {
            (self.owed_since, self.has_given) = (None, true);
        }
        taken
    }

    /// Whether it is of no use any more, because it has given nothing for so long.
    pub(super) fn is_stuck(&self) -> bool {
        let patience = if self.has_given { STALL } else { START };
        self.owed_since.is_some_and(|since| since.elapsed() > patience)
    }

    /// Whether it has ended and all it gave was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.output.is_closed() && self.output.is_empty()
    }

    /// For how long it has been there.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// CPU time it used since it was asked last.
    pub(super) fn used(&mut self) -> Duration {
        let used = self.used_us.load(Ordering::Relaxed);
        Duration::from_micros(used.saturating_sub(std::mem::replace(&mut self.told_us, used)))
    }
}

impl<T> Drop for Child<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn feed(mut stdin: ChildStdin, mut fed: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = fed.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read<T>(mut stdout: ChildStdout, given: mpsc::Sender<T>, mut cut: Cut<T>) {
    let (mut buffer, mut pieces) = (vec![0; READ_BYTES], Vec::new());
    while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
        if !cut(buffer.get(..count).unwrap_or_default(), &mut pieces) {
            return;
        }
        for piece in pieces.drain(..) {
            if given.send(piece).await.is_err() {
                return;
            }
        }
    }
}

/// Does not end.
async fn measure(running: &Running, used_us: &AtomicU64) {
    let mut ticks = interval(MEASURE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(used) = running.cpu_time() {
            used_us.store(u64::try_from(used.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}
