//! `nova bench events`: how fast what happens gets its place in the log, and how fast it is read again.
//!
//! | scenario | what is done | what is told |
//! |---|---|---|
//! | `log` | several connections commit events as fast as they can; a node gives them their places | events a second, from commit to place |
//! | `replay` | a group reads all of that from its beginning | events a second, with nothing done and with a row written for each |
//! | `failover` | the node that gives places is killed, of two | from the kill to the next event in the log |
//!
//! Events are written as the store writes them: some in one transaction, with their bytes made here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use clap::{Args, ValueEnum};
use nova_actors::id::{EventId, PostId, UserId};
use rustix::process::Signal;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::BenchError;
use super::installation::{Installation, Node};
use super::measure::{Line, Times};
use crate::events::{Consumer, Event, HandleError, Logged, Topic, bytes, consumer, millis, schema};
use crate::store::Store;
use crate::telemetry::Metrics;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// As many events as go.
    Log,
    /// Everything that `log` has written, read again.
    Replay,
    /// The sequencer is killed, five times.
    Failover,
}

/// `nova bench events`.
#[derive(Debug, Args)]
pub struct EventsBench {
    /// What to measure; default: everything, one after the other.
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,

    /// How long events are written, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,

    /// Connections that write.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub writers: u32,

    /// Events in one transaction.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub each: u32,

    /// Bytes of the text of a post.
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub bytes: u32,

    /// Fail when a figure is not what is promised; losses always fail.
    #[arg(long)]
    pub strict: bool,
}

/// How long the log may take to have the last of it.
const LATE_MAX: Duration = Duration::from_secs(60);
/// How long another node may take to go on.
const FAILOVER_MAX: Duration = Duration::from_secs(30);
/// Rounds of `failover`.
const ROUNDS: usize = 5;
/// Promised of a second.
const LOGGED_PROMISED: f64 = 5_000.0;
const REPLAYED_PROMISED: f64 = 20_000.0;

impl EventsBench {
    /// Measures, and prints what is seen. Whether all promises that count were kept.
    pub async fn run(&self) -> Result<bool, BenchError> {
        let all = [Scenario::Log, Scenario::Replay, Scenario::Failover];
        let scenarios = if self.scenarios.is_empty() { &all[..] } else { &self.scenarios };
        let installation = Installation::start("bench").await?;
        let measured = Box::pin(self.measure(&installation, scenarios)).await;
        installation.end().await;
        let mut is_good = true;
        for line in measured? {
            let counts = self.strict || line.promised == "0";
            is_good &= line.kept.unwrap_or(true) || !counts;
            line.tell(false)?;
        }
        Ok(is_good)
    }

    async fn measure(
        &self,
        installation: &Installation,
        scenarios: &[Scenario],
    ) -> Result<Vec<Line>, BenchError> {
        let store = installation.errand().store().clone();
        let mut lines = Vec::new();
        if scenarios.contains(&Scenario::Log) || scenarios.contains(&Scenario::Replay) {
            let node = installation.node("node-1", None, None, &[]).await?;
            let logged = self.log(&store).await?;
            if scenarios.contains(&Scenario::Log) {
                lines.extend(logged);
            }
            drop(node);
        }
        if scenarios.contains(&Scenario::Replay) {
            lines.extend(replay(&store).await?);
        }
        if scenarios.contains(&Scenario::Failover) {
            lines.extend(failover(installation, &store).await?);
        }
        Ok(lines)
    }

    async fn log(&self, store: &Store) -> Result<Vec<Line>, BenchError> {
        let began = Instant::now();
        let until = began + Duration::from_secs(self.seconds.into());
        let mut writers = JoinSet::new();
        for _ in 0..self.writers {
            let (pool, text, each) = (store.pool().clone(), "x".repeat(self.bytes as usize), self.each);
            writers.spawn(async move {
                let mut written = 0_u64;
                while Instant::now() < until {
                    write(&pool, each, &text).await?;
                    written += u64::from(each);
                }
                Ok::<_, sqlx::Error>(written)
            });
        }
        let mut written = 0;
        while let Some(one) = writers.join_next().await {
            written += one.map_err(BenchError::because)?.map_err(BenchError::because)?;
        }
        let committed = began.elapsed().as_secs_f64();
        let has_all = async {
            while heads(store).await? < written {
                sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, BenchError>(())
        };
        let late = timeout(LATE_MAX, has_all).await;
        let logged = began.elapsed().as_secs_f64();
        let lost = written.saturating_sub(heads(store).await?);
        late.map_or(Ok(()), |read| read)?;
        let waits: Vec<f64> = sqlx::query_scalar(
            "SELECT (extract(epoch FROM logged_at - at) * 1000000)::float8 FROM event_log TABLESAMPLE SYSTEM (20) WHERE topic = 1",
        )
        .fetch_all(store.pool())
        .await
        .map_err(BenchError::because)?;
        // Of the sequencer's transaction its beginning is known, which may lie a little before a row it takes.
        let waits = Times::new(waits.into_iter().map(|us| us.max(0.0) as u32).collect());
        let rate = written as f64 / logged;
        let seen = format!(
            "{rate:.0}/s: {written} events in {logged:.1} s, {} in each commit of {} connections; committed at {:.0}/s",
            self.each,
            self.writers,
            written as f64 / committed
        );
        Ok(vec![
            Line::promised("event log", "≥ 5,000/s", seen, rate >= LOGGED_PROMISED),
            Line::told("from the change to its place, under that load", waits.to_string()),
            Line::promised("events without a place", "0", lost.to_string(), lost == 0),
        ])
    }
}

/// Commits so many events in one transaction.
async fn write(pool: &PgPool, each: u32, text: &str) -> Result<(), sqlx::Error> {
    let now = OffsetDateTime::now_utc();
    let posts: Vec<PostId> = (0..each).map(|_| PostId::new(now)).collect();
    let event = |post: &PostId| {
        Event::from(schema::PostCreated {
            post_id: bytes(*post),
            author_id: bytes(UserId::from_uuid(uuid::Uuid::nil())),
            kind: "text".to_owned(),
            text: text.to_owned(),
            visibility: schema::Visibility::Public.into(),
            tags: Vec::new(),
            mentions: Vec::new(),
            at_ms: millis(now),
        })
    };
    sqlx::query(
        "INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
         SELECT i.id, 1, i.part, i.key, 'PostCreated', 1, 1, i.payload, clock_timestamp()
         FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::bytea[]) AS i (id, part, key, payload)",
    )
    .bind(posts.iter().map(|_| EventId::new(now).as_uuid()).collect::<Vec<_>>())
    .bind(posts.iter().map(|post| Topic::Content.part_of(post.as_uuid())).collect::<Vec<_>>())
    .bind(posts.iter().map(PostId::as_uuid).collect::<Vec<_>>())
    .bind(posts.iter().map(|post| event(post).encode()).collect::<Vec<_>>())
    .execute(pool)
    .await
    .map(drop)
}

/// How many places of `content-events` were given.
async fn heads(store: &Store) -> Result<u64, BenchError> {
    let heads = store.event_heads(&[Topic::Content]).await.map_err(BenchError::because)?;
    Ok(heads.iter().map(|(_, _, head)| head.unsigned_abs()).sum())
}

/// Reads, and writes a row for each event where it is asked to.
struct Reader {
    group: &'static str,
    writes: bool,
    read: AtomicU64,
}

#[async_trait]
impl Consumer for Reader {
    fn group(&self) -> &'static str {
        self.group
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Content]
    }

    async fn take(&self, tx: &mut PgConnection, events: &[Logged]) -> Result<(), HandleError> {
        for event in events {
            if event.event().map_err(HandleError::because)?.is_some() {
                self.read.fetch_add(1, Ordering::Relaxed);
            }
        }
        if self.writes {
            let ids: Vec<_> = events.iter().map(|event| event.id.as_uuid()).collect();
            sqlx::query("INSERT INTO bench_effects SELECT unnest($1::uuid[])").bind(ids).execute(tx).await?;
        }
        Ok(())
    }
}

async fn replay(store: &Store) -> Result<Vec<Line>, BenchError> {
    let table = "CREATE TABLE IF NOT EXISTS bench_effects (event_id uuid PRIMARY KEY)";
    sqlx::raw_sql(table).execute(store.pool()).await.map_err(BenchError::because)?;
    let metrics = Metrics::new();
    let mut lines = Vec::new();
    for (group, writes, what) in
        [("bench-read", false, "replay"), ("bench-write", true, "replay, a row written for each event")]
    {
        let reader = Reader { group, writes, read: AtomicU64::new(0) };
        let began = Instant::now();
        consumer::drain(store, &metrics, &reader).await.map_err(BenchError::because)?;
        let took = began.elapsed().as_secs_f64();
        let read = reader.read.load(Ordering::Relaxed);
        let rate = read as f64 / took;
        let seen = format!("{rate:.0}/s: {read} events in {took:.1} s, by one loop of one group");
        lines.push(match writes {
            false => Line::promised(what, "≥ 20,000/s", seen, rate >= REPLAYED_PROMISED),
            true => Line::told(what, seen),
        });
        let missing = heads(store).await?.saturating_sub(read);
        lines.push(Line::promised(
            format!("{what}: events left out"),
            "0",
            missing.to_string(),
            missing == 0,
        ));
    }
    Ok(lines)
}

/// Whether this node gives places.
async fn is_sequencer(node: &Node) -> bool {
    let url = format!("http://{}/metrics", node.metrics);
    let Ok(answer) = reqwest::get(url).await else { return false };
    answer.text().await.is_ok_and(|text| text.lines().any(|line| line == "nova_event_sequencer 1"))
}

async fn failover(installation: &Installation, store: &Store) -> Result<Vec<Line>, BenchError> {
    crate::app::use_ring();
    let mut nodes = vec![
        installation.node("node-a", None, None, &[]).await?,
        installation.node("node-b", None, None, &[]).await?,
    ];
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let found = async {
            loop {
                for (at, node) in nodes.iter().enumerate() {
                    if is_sequencer(node).await {
                        return at;
                    }
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let at =
            timeout(FAILOVER_MAX, found).await.map_err(|_| BenchError::because("no node gives places"))?;
        let before = heads(store).await?;
        let mut killed = nodes.swap_remove(at);
        killed.process.signal(Signal::KILL);
        let began = Instant::now();
        killed.process.ended().await;
        write(store.pool(), 1, "after the kill").await.map_err(BenchError::because)?;
        let goes_on = async {
            while heads(store).await? <= before {
                sleep(Duration::from_millis(5)).await;
            }
            Ok::<_, BenchError>(())
        };
        timeout(FAILOVER_MAX, goes_on).await.map_err(|_| BenchError::because("nobody took over"))??;
        times.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        nodes.push(installation.node(&format!("node-{round}"), None, None, &[]).await?);
    }
    let seen = Times::new(times);
    Ok(vec![Line::told(
        format!("the sequencer killed, to the next event in the log ({ROUNDS} times)"),
        seen.to_string(),
    )])
}
