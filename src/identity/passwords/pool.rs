//! The threads that hash.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Password, Scratch, Verdict, hash, verify};

/// A thread that has had nothing to do for so long gives its 19 MiB back.
const MEMORY_KEPT: Duration = Duration::from_secs(1);
/// What a hash takes, until one was measured.
const HASH_MICROS_GUESS: u64 = 30_000;
/// How much the threads give way to the rest of the engine: with both busy, the others get nine tenths of a shared core.
const NICENESS: i32 = 10;

/// Every thread is busy and as many wait as may; come back then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed")]
pub struct PoolFull {
    /// When there should be room.
    pub retry_after: Duration,
}

/// A bounded pool of threads that hash passwords, beside the workers and giving way to them.
///
/// The queue is bounded by `queue_max` so that nobody waits longer than a client would; full is answered with [`PoolFull`]. A job whose
/// asker has gone is skipped. Threads end when the pool is dropped.
pub struct Passwords {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    queue_max: usize,
    hashes: AtomicU64,
    /// Moving average of what a hash takes, in microseconds.
    hash_micros: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    busy: usize,
    closed: bool,
}

enum Job {
    Hash { password: Password, reply: oneshot::Sender<String> },
    Verify { password: Option<Password>, stored: Option<String>, reply: oneshot::Sender<Verdict> },
}

impl Job {
    fn is_forsaken(&self) -> bool {
        match self {
            Job::Hash { reply, .. } => reply.is_closed(),
            Job::Verify { reply, .. } => reply.is_closed(),
        }
    }

    /// The asker may have gone meanwhile; then nobody is told.
    fn run(self, scratch: &mut Scratch) {
        match self {
            Job::Hash { password, reply } => drop(reply.send(hash(scratch, &password))),
            Job::Verify { password, stored, reply } => {
                drop(reply.send(verify(scratch, password.as_ref(), stored.as_deref())));
            }
        }
    }
}

impl Passwords {
    /// Starts `threads` threads before which at most `queue_max` jobs wait.
    pub fn start(threads: usize, queue_max: usize) -> std::io::Result<Passwords> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            queue_max,
            hashes: AtomicU64::new(0),
            hash_micros: AtomicU64::new(HASH_MICROS_GUESS),
        });
        let pool = Passwords { shared, threads };
        for _ in 0..threads {
            let shared = Arc::clone(&pool.shared);
            // The stack is address space until it is used; Argon2's working memory is on the heap.
            std::thread::Builder::new()
                .name("password".to_owned())
                .stack_size(256 << 10)
                .spawn(move || work(&shared))?;
        }
        Ok(pool)
    }

    /// The PHC string of `password`.
    pub async fn hash(&self, password: Password) -> Result<String, PoolFull> {
        self.ask(|reply| Job::Hash { password, reply }).await
    }

    /// Compares `password` with a stored PHC string. Takes as long without either.
    pub async fn verify(
        &self,
        password: Option<Password>,
        stored: Option<String>,
    ) -> Result<Verdict, PoolFull> {
        self.ask(|reply| Job::Verify { password, stored, reply }).await
    }

    /// How many jobs were done since the start.
    pub fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// How many jobs wait for a thread.
    pub fn queue_len(&self) -> usize {
        self.shared.lock().jobs.len()
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, PoolFull> {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.shared.lock();
            // What an idle thread is about to take does not wait.
            let len_max = self.shared.queue_max + self.threads.saturating_sub(queue.busy);
            if queue.jobs.len() >= len_max {
                queue.jobs.retain(|job| !job.is_forsaken());
            }
            if queue.jobs.len() >= len_max || queue.closed {
                return Err(self.full(queue.jobs.len()));
            }
            queue.jobs.push_back(job(reply));
        }
        self.shared.wake.notify_one();
        // A thread that dies with the job, which nothing in it should make it do, is heard as a full pool.
        answer.await.map_err(|_| self.full(0))
    }

    fn full(&self, waiting: usize) -> PoolFull {
        let jobs = u64::try_from(waiting + 1).unwrap_or(u64::MAX);
        let threads = u64::try_from(self.threads.max(1)).unwrap_or(1);
        let micros = self.shared.hash_micros.load(Ordering::Relaxed).saturating_mul(jobs) / threads;
        PoolFull { retry_after: Duration::from_micros(micros).max(Duration::from_secs(1)) }
    }
}

impl Drop for Passwords {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job somebody still waits for; `None` when the pool is gone. Empties `scratch` when nothing comes for a while.
    fn next(&self, scratch: &mut Scratch) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            match queue.jobs.pop_front() {
                Some(job) if job.is_forsaken() => continue,
                Some(job) => {
                    queue.busy += 1;
                    return Some(job);
                }
                None if scratch.0.is_empty() => {
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    let (woken, time_out) =
                        self.wake.wait_timeout(queue, MEMORY_KEPT).unwrap_or_else(PoisonError::into_inner);
                    queue = woken;
                    if time_out.timed_out() && queue.jobs.is_empty() {
                        *scratch = Scratch::default();
                    }
                }
            }
        }
    }
}

fn work(shared: &Shared) {
    // Without the right to give way the threads still work; nobody need know.
    let _: rustix::io::Result<()> =
        rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    let mut scratch = Scratch::default();
    while let Some(job) = shared.next(&mut scratch) {
        let start = Instant::now();
        shared.hashes.fetch_add(1, Ordering::Relaxed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run(&mut scratch)));
        if outcome.is_err() {
            tracing::error!("a password could not be hashed");
            scratch = Scratch::default();
        }
        shared.lock().busy -= 1;
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let average = shared.hash_micros.load(Ordering::Relaxed);
        shared.hash_micros.store((average.saturating_mul(7).saturating_add(micros)) / 8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(typed: &str) -> Password {
        Password::attempt(typed).unwrap()
    }

    #[tokio::test]
    async fn right_and_wrong_and_nobody_take_one_hash_each() {
        let pool = Passwords::start(1, 8).unwrap();
        let stored = pool.hash(password("correct horse")).await.unwrap();
        for (attempt, stored) in [
            (Some(password("correct horse")), Some(stored.clone())),
            (Some(password("wrong")), Some(stored.clone())),
            (Some(password("correct horse")), None),
            (None, Some(stored)),
        ] {
            let before = pool.hashes();
            pool.verify(attempt, stored).await.unwrap();
            assert_eq!(pool.hashes(), before + 1);
        }
    }

    #[tokio::test]
    async fn a_full_queue_says_when_to_come_back() {
        let pool = Passwords::start(1, 2).unwrap();
        let attempts = (0..20).map(|_| pool.verify(Some(password("correct horse")), None));
        let answers = futures_util::future::join_all(attempts).await;
        let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        // One at work and two waiting; one more for every hash made while the others came.
        assert!((10..=17).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|full| full.retry_after >= Duration::from_secs(1)));
        assert!(pool.verify(None, None).await.is_ok(), "there is room again");
    }

    #[tokio::test]
    async fn nobody_waits_behind_those_who_left() {
        let pool = Passwords::start(1, 4).unwrap();
        for _ in 0..50 {
            let gone = pool.verify(Some(password("correct horse")), None);
            drop(futures_util::future::select(std::pin::pin!(gone), std::future::ready(())).await);
        }
        assert!(pool.verify(None, None).await.is_ok());
        assert!(pool.hashes() < 10, "{} hashes were made for nobody", pool.hashes());
    }
}
