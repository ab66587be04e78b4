//! How a node's dependencies do, and whether it should be sent work.
//!
//! A task asks every dependency once a second, under a time limit, and publishes one [`Report`]; the health
//! endpoints read the last report, so asking them costs the dependencies nothing.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nova_actors::port::Bus;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::rtc::Media;
use crate::store::Store;
use crate::telemetry::Metrics;

/// How often the dependencies are asked.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A dependency that has not answered by then counts as down.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// Whether the node should be sent work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything answers.
    Ready,
    /// Something is away that the node can do without for a while; it serves what it can.
    Degraded,
    /// PostgreSQL does not answer: nothing durable can be accepted here.
    Unavailable,
    /// The node is leaving.
    Draining,
}

/// One dependency, as last seen.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Dependency {
    /// What it is: `postgres`, `bus`; `media` when part of what carries calls has ended.
    pub name: &'static str,
    /// Which kind of it is in use: `embedded` or `external`, `local` or `redis`, `shards`.
    pub kind: &'static str,
    /// Whether it answered.
    pub up: bool,
    /// Milliseconds it took to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// What is wrong, for an operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The state of a node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Report {
    /// The verdict.
    pub status: Status,
    /// What it rests on.
    pub dependencies: Vec<Dependency>,
}

/// The watched dependencies of a node.
pub struct Health {
    reports: watch::Receiver<Vec<Dependency>>,
    media: OnceLock<Media>,
    draining: AtomicBool,
    task: tokio::task::JoinHandle<()>,
}

/// Which kinds of dependencies a node was started with.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// `embedded` or `external`.
    pub postgres: &'static str,
    /// `local` or `redis`.
    pub bus: &'static str,
}

impl Health {
    /// Asks every dependency once and starts the task that goes on asking.
    pub async fn watch(store: Store, bus: Arc<dyn Bus>, kinds: Kinds, metrics: Metrics) -> Health {
        let first = check(&store, bus.as_ref(), kinds, &metrics).await;
        let (reports, receiver) = watch::channel(first);
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_EVERY).await;
                reports.send_replace(check(&store, bus.as_ref(), kinds, &metrics).await);
            }
        });
        Health { reports: receiver, media: OnceLock::new(), draining: AtomicBool::new(false), task }
    }

    /// The state as of the last check.
    pub fn report(&self) -> Report {
        let mut dependencies = self.reports.borrow().clone();
        let (ended, shards) = self.media.get().map_or((0, 0), Media::ended);
        dependencies.extend(media_problem(ended, shards));
        Report { status: verdict(self.draining.load(Ordering::Relaxed), &dependencies), dependencies }
    }

    /// From now on it is also asked how the media of calls does.
    pub fn watch_media(&self, media: Media) {
        // Once, when the node starts.
        let _ = self.media.set(media);
    }

    /// Says from now on that the node is leaving.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the node is leaving.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").field(&self.report()).finish()
    }
}

fn verdict(draining: bool, dependencies: &[Dependency]) -> Status {
    let down = |name: &str| dependencies.iter().any(|dependency| dependency.name == name && !dependency.up);
    match draining {
        true => Status::Draining,
        false if down("postgres") => Status::Unavailable,
        false if dependencies.iter().any(|dependency| !dependency.up) => Status::Degraded,
        false => Status::Ready,
    }
}

/// A shard that panics begins anew; one whose socket broke cannot.
fn media_problem(ended: usize, shards: usize) -> Option<Dependency> {
    let problem = format!("{ended} of {shards} media shards have ended; restart the node");
    (ended > 0).then(|| dependency("media", "shards", Some(problem), None))
}

async fn check(store: &Store, bus: &dyn Bus, kinds: Kinds, metrics: &Metrics) -> Vec<Dependency> {
    let asked = Instant::now();
    let answer = tokio::time::timeout(CHECK_LIMIT, store.ping()).await;
    let took = asked.elapsed();
    let problem = match answer {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", CHECK_LIMIT.as_secs())),
    };
    let postgres = dependency("postgres", kinds.postgres, problem, Some(took));

    let health = *bus.health().borrow();
    let problem = (!health.connected).then(|| "not connected; trying again".to_owned());
    let bus = dependency("bus", kinds.bus, problem, health.lag);

    let dependencies = vec![postgres, bus];
    for dependency in &dependencies {
        metrics.dependency_up.with_label_values(&[dependency.name]).set(i64::from(dependency.up));
        if let Some(ms) = dependency.latency_ms {
            metrics.dependency_check_duration.with_label_values(&[dependency.name]).observe(ms / 1_000.0);
        }
    }
    dependencies
}

fn dependency(
    name: &'static str,
    kind: &'static str,
    problem: Option<String>,
    took: Option<Duration>,
) -> Dependency {
    let up = problem.is_none();
    let latency_ms = took.filter(|_| up).map(|took| (took.as_secs_f64() * 1e6).round() / 1e3);
    Dependency { name, kind, up, latency_ms, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &'static str, up: bool) -> Dependency {
        Dependency { name, kind: "external", up, latency_ms: None, problem: None }
    }

    #[test]
    fn only_postgres_and_leaving_take_a_node_out() {
        assert_eq!(verdict(false, &[seen("postgres", true), seen("bus", true)]), Status::Ready);
        assert_eq!(verdict(false, &[seen("postgres", true), seen("bus", false)]), Status::Degraded);
        assert_eq!(verdict(false, &[seen("postgres", false), seen("bus", false)]), Status::Unavailable);
        assert_eq!(verdict(true, &[seen("postgres", true), seen("bus", true)]), Status::Draining);
        assert_eq!(media_problem(0, 2), None);
        let ended = media_problem(1, 2).expect("a problem");
        assert_eq!(verdict(false, &[seen("postgres", true), ended]), Status::Degraded);
    }
}
