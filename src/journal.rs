//! The journal: where this node writes the logs of conversations, many entries in one commit.
//!
//! A conversation belongs to a lane, by hash. A lane collects while its batch before is on its way, so a batch is as large as the
//! load makes it: one entry when little happens, which waits for nobody, and hundreds when much does. PostgreSQL gives the numbers
//! (`append_entries`), in the order in which the lane was given the entries.
//!
//! Trying again is safe, because every entry has a key under which it is found: after a lost connection the same batch is written
//! once more, and what had been committed answers as a duplicate. The entry that PostgreSQL cannot take fails alone: a batch that
//! is refused as a whole is split until it stands by itself.

mod lane;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nova_actors::conversation::{AppendError, Appended, Entry, Member, NewEntry, Range, Seq, Top};
use nova_actors::id::{ConversationId, UserId};
use nova_actors::port::{LogError, MessageLog, RANGE_LEN_MAX};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// How a journal works.
#[derive(Debug, Clone, Copy)]
pub struct JournalConfig {
    /// Batches under way at a time, each on a connection of its own; what they wait for is the disk.
    pub lanes: usize,
    /// Entries in one batch at most: beyond a few hundred an entry costs no less, and others wait longer.
    pub batch_len_max: usize,
    /// Bytes in one batch at most.
    pub batch_bytes_max: usize,
    /// Entries that wait in one lane at most. At ten thousand a second they are written within a second; when full, the next is
    /// answered `overloaded`.
    pub waiting_len_max: usize,
    /// Bytes that wait in all lanes together at most; when full, as above.
    pub waiting_bytes_max: usize,
    /// How long a lane waits for company at most, and only under load.
    pub company_max: Duration,
    /// How long a batch is tried for; then its entries are answered `unavailable`.
    pub patience: Duration,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            lanes: 2,
            batch_len_max: 256,
            batch_bytes_max: 1 << 20,
            waiting_len_max: 4_096,
            waiting_bytes_max: 32 << 20,
            company_max: Duration::from_millis(2),
            patience: Duration::from_secs(8),
        }
    }
}

/// Hears what has been committed here, in the order of the numbers of each conversation. It must not block.
pub trait Committed: Send + Sync + 'static {
    /// These entries stand in the log now.
    fn committed(&self, entries: Vec<Arc<Entry>>);

    /// The log of a conversation goes to here at least: an entry that had been appended before was found. It may have been committed by
    /// a try whose answer was lost, and so have been told to nobody.
    fn reached(&self, conversation: ConversationId, top: Top);

    /// These people became members of a conversation.
    fn joined(&self, users: &[UserId]);

    /// Somebody is out of a conversation; the entry that tells of it is `seq`.
    fn left(&self, conversation: ConversationId, user: UserId, seq: Seq);

    /// Somebody has read on. Those in `hidden_from`, who are in the order of their ids, do not hear of it.
    fn read(&self, conversation: ConversationId, user: UserId, seq: Seq, hidden_from: Arc<[UserId]>);

    /// Between two people a block came or went.
    fn blocked(&self, one: UserId, other: UserId);
}

/// Told to nobody: for a node nobody connects to.
impl Committed for () {
    fn committed(&self, _: Vec<Arc<Entry>>) {}

    fn reached(&self, _: ConversationId, _: Top) {}

    fn joined(&self, _: &[UserId]) {}

    fn left(&self, _: ConversationId, _: UserId, _: Seq) {}

    fn read(&self, _: ConversationId, _: UserId, _: Seq, _: Arc<[UserId]>) {}

    fn blocked(&self, _: UserId, _: UserId) {}
}

/// Writes the logs of conversations.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    lanes: Vec<mpsc::Sender<lane::Waiting>>,
    /// Bytes that wait.
    waiting_bytes: Arc<AtomicUsize>,
    config: JournalConfig,
    metrics: Metrics,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Says once that it is over.
    closing: watch::Sender<bool>,
}

/// When to come back to a journal that is full: about two batches later.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(200);

impl Journal {
    /// Starts the lanes on the current runtime. `committed` hears of every entry once it is durable, before its sender does.
    pub fn start(
        store: Store,
        config: JournalConfig,
        metrics: Metrics,
        committed: Arc<dyn Committed>,
    ) -> Journal {
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let closing = watch::Sender::new(false);
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..config.lanes.max(1) {
            let (sender, receiver) = mpsc::channel(config.waiting_len_max.max(1));
            let lane = lane::Lane {
                store: store.clone(),
                config,
                metrics: metrics.clone(),
                committed: committed.clone(),
                waiting_bytes: waiting_bytes.clone(),
                receiver,
                closing: closing.subscribe(),
            };
            lanes.push(sender);
            tasks.push(tokio::spawn(lane.run()));
        }
        let tasks = Mutex::new(tasks);
        Journal { inner: Arc::new(Inner { store, lanes, waiting_bytes, config, metrics, tasks, closing }) }
    }

    /// Writes what waits, takes nothing more, and returns when everything is answered.
    pub async fn close(&self) {
        self.inner.closing.send_replace(true);
        let tasks = std::mem::take(&mut *self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A lane that panicked has been logged; there is nothing left to wait for.
            let _ended = task.await;
        }
    }

    fn lane(&self, of: ConversationId) -> Option<&mpsc::Sender<lane::Waiting>> {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        let lanes = &self.inner.lanes;
        lanes.get(usize::try_from(hasher.finish() >> 32).unwrap_or(0) % lanes.len())
    }

    /// Puts an entry in line at once; what is given waits for its answer. Entries of one conversation that are put in line one after the
    /// other are numbered in that order.
    pub fn submit(
        &self,
        entry: NewEntry,
    ) -> Result<impl Future<Output = Result<Appended, AppendError>> + Send + use<>, AppendError> {
        let answered = self.enqueue(entry)?;
        let gone = |_| AppendError::Unavailable { reason: "the journal ended before it answered".to_owned() };
        Ok(async move { answered.await.map_err(gone)? })
    }

    fn enqueue(&self, entry: NewEntry) -> Result<oneshot::Receiver<lane::Answer>, AppendError> {
        let inner = &self.inner;
        if *inner.closing.borrow() {
            return Err(AppendError::Unavailable { reason: "the journal is closed".to_owned() });
        }
        let overloaded = || {
            inner.metrics.journal_overloaded.inc();
            Err(AppendError::Overloaded { retry_after: FULL_RETRY_AFTER })
        };
        let bytes = entry.len_bytes();
        if inner.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > inner.config.waiting_bytes_max {
            inner.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return overloaded();
        }
        let (answer, answered) = oneshot::channel();
        let waiting = lane::Waiting { entry, bytes, answer, since: tokio::time::Instant::now() };
        let sent = match self.lane(waiting.entry.conversation) {
            Some(lane) => lane.try_send(waiting).is_ok(),
            None => false,
        };
        if !sent {
            inner.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return overloaded();
        }
        Ok(answered)
    }
}

#[async_trait]
impl MessageLog for Journal {
    async fn append(&self, entry: NewEntry) -> Result<Appended, AppendError> {
        self.submit(entry)?.await
    }

    async fn range(&self, of: ConversationId, after: Seq, limit: u32) -> Result<Option<Range>, LogError> {
        self.inner.store.entry_range(of, after, limit.min(RANGE_LEN_MAX)).await.map_err(unavailable)
    }

    async fn tops(&self, of: &[ConversationId]) -> Result<Vec<(ConversationId, Top)>, LogError> {
        self.inner.store.tops(of).await.map_err(unavailable)
    }

    async fn members(&self, of: ConversationId) -> Result<Vec<Member>, LogError> {
        self.inner.store.members(of).await.map_err(unavailable)
    }
}

fn unavailable(error: StoreError) -> LogError {
    LogError::because(error)
}
