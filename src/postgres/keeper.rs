//! Keeping the server alive until the engine says stop.

use std::fs::File;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::error::PostgresError;
use super::log::Log;
use super::server::{Plan, Server};
use super::{PostgresHealth, orphan};

/// The pause before the first new start; it doubles with each that fails.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause: a disk that got room again should not wait for long.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A server that ran this long ran well: its death is a new story.
const RAN_WELL: Duration = Duration::from_secs(60);

/// How often the length of the log is looked at.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Owns the server from its first readiness to its end.
pub(super) struct Keeper {
    pub(super) plan: Plan,
    pub(super) log: Log,
    pub(super) health: watch::Sender<PostgresHealth>,
    pub(super) stopping: watch::Receiver<bool>,
    /// Given back when the server is gone, not earlier.
    pub(super) lock: File,
}

impl Keeper {
    /// Runs until the engine stops the server or forgets it.
    pub(super) async fn keep(mut self, mut server: Server) {
        let mut since = Instant::now();
        let mut attempts = 0;
        loop {
            let Some(how) = self.watch(&mut server).await else { break };
            if since.elapsed() > RAN_WELL {
                attempts = 0;
            }
            let reason = format!("it ended ({how}): {}", self.log.tail());
            match self.start_again(&mut attempts, reason).await {
                Some(started) => {
                    let pid = started.pid().unwrap_or_default();
                    tracing::warn!(pid, attempts, "PostgreSQL runs again");
                    server = started;
                    since = Instant::now();
                    self.health.send_replace(PostgresHealth::Running { pid });
                }
                None => {
                    // A start that was interrupted may have left a server that is about to go.
                    let cluster = self.plan.layout.cluster();
                    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || orphan::clear(&cluster)).await
                    {
                        tracing::warn!(%error, "PostgreSQL is not quite gone");
                    }
                    return self.farewell();
                }
            }
        }
        if !server.stop(self.plan.config.stop_max).await {
            tracing::warn!("PostgreSQL did not stop in time and was ended; it recovers at the next start");
        }
        self.farewell();
    }

    /// How the server ended, or nothing when it is to be stopped.
    async fn watch(&mut self, server: &mut Server) -> Option<String> {
        let mut look = interval(LOG_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                how = server.ended() => return Some(how),
                () = asked_to_stop(&mut self.stopping) => return None,
                _ = look.tick() => {
                    if let Err(error) = self.log.rotate() {
                        tracing::warn!(%error, "PostgreSQL's log cannot be rotated");
                    }
                }
            }
        }
    }

    /// A server that runs, or nothing when the engine stops meanwhile.
    async fn start_again(&mut self, attempts: &mut u32, mut reason: String) -> Option<Server> {
        loop {
            *attempts += 1;
            tracing::error!(attempts = *attempts, %reason, "PostgreSQL is down");
            self.health.send_replace(PostgresHealth::Restarting { attempts: *attempts, reason });
            let doubled = PAUSE_MIN.saturating_mul(1 << (*attempts - 1).min(10));
            let mut stopping = self.stopping.clone();
            let started = async {
                sleep(doubled.min(PAUSE_MAX)).await;
                Server::start(&self.plan, &mut self.log).await
            };
            let error: PostgresError = tokio::select! {
                started = started => match started {
                    Ok(server) => return Some(server),
                    Err(error) => error,
                },
                () = asked_to_stop(&mut stopping) => return None,
            };
            reason = error.to_string();
        }
    }

    fn farewell(self) {
        // Given back by name: a child that was forked at this moment and has not become its program yet holds a copy of the file, and
        // closing ours would leave the lock with it.
        let _unlocked = rustix::fs::flock(&self.lock, rustix::fs::FlockOperation::Unlock);
        self.health.send_replace(PostgresHealth::Stopped);
    }
}

/// Resolves when the engine says stop, and when the handle it would say it with is gone.
async fn asked_to_stop(stopping: &mut watch::Receiver<bool>) {
    let _or_forgotten = stopping.wait_for(|stop| *stop).await;
}
