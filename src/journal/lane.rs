//! One lane of the journal: one batch under way, the next one collecting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nova_actors::conversation::{AppendError, Appended, NewEntry, Top};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Committed, JournalConfig};
use crate::store::conversations::appended_entry;
use crate::store::entries::Outcome;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Batches of so many were made by load; a smaller one waits for nobody.
const LOADED_LEN: usize = 8;

/// How long after a failure a batch is tried again, at first; doubles up to half a second.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(500);

/// What an append is answered.
pub(super) type Answer = Result<Appended, AppendError>;

/// An entry that waits to be written, and who waits for that.
pub(super) struct Waiting {
    pub(super) entry: NewEntry,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Answer>,
    pub(super) since: Instant,
}

pub(super) struct Lane {
    pub(super) store: Store,
    pub(super) config: JournalConfig,
    pub(super) metrics: Metrics,
    pub(super) committed: Arc<dyn Committed>,
    pub(super) waiting_bytes: Arc<AtomicUsize>,
    pub(super) receiver: mpsc::Receiver<Waiting>,
    pub(super) closing: watch::Receiver<bool>,
}

/// Waits until the journal closes.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error says that the journal itself is gone.
    let _closed = closing.wait_for(|closing| *closing).await.is_ok();
}

impl Lane {
    /// Writes until everybody who could give it an entry is gone, or the journal closes and nothing waits.
    pub(super) async fn run(mut self) {
        // What was taken from the queue and is in no batch yet.
        let mut next = VecDeque::new();
        let mut last_len = 0;
        loop {
            if next.is_empty() {
                let first = tokio::select! {
                    biased;
                    first = self.receiver.recv() => first,
                    () = closed(&mut self.closing) => {
                        self.receiver.close();
                        self.receiver.recv().await
                    }
                };
                match first {
                    Some(first) => next.push_back(first),
                    None => return,
                }
            }
            self.collect(&mut next, last_len).await;
            let (batch, bytes) = self.cut(&mut next);
            last_len = batch.len();
            let again = self.write(batch).await;
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            for waiting in again.into_iter().rev() {
                self.waiting_bytes.fetch_add(waiting.bytes, Ordering::Relaxed);
                next.push_front(waiting);
            }
        }
    }

    /// Takes what waits. Under load, when little of it is there yet, gives it a moment.
    async fn collect(&mut self, next: &mut VecDeque<Waiting>, last_len: usize) {
        let deadline = Instant::now() + self.config.company_max;
        loop {
            while next.len() < self.config.batch_len_max {
                match self.receiver.try_recv() {
                    Ok(waiting) => next.push_back(waiting),
                    Err(_) => break,
                }
            }
            if last_len < LOADED_LEN || next.len() >= last_len / 2 {
                return;
            }
            match timeout_at(deadline, self.receiver.recv()).await {
                Ok(Some(waiting)) => next.push_back(waiting),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The next batch, within its bounds; one entry at least.
    fn cut(&self, next: &mut VecDeque<Waiting>) -> (Vec<Waiting>, usize) {
        let mut batch = Vec::with_capacity(next.len().min(self.config.batch_len_max));
        let mut bytes = 0;
        while let Some(first) = next.front() {
            let full =
                batch.len() >= self.config.batch_len_max || bytes + first.bytes > self.config.batch_bytes_max;
            if full && !batch.is_empty() {
                break;
            }
            bytes += first.bytes;
            batch.extend(next.pop_front());
        }
        (batch, bytes)
    }

    /// Writes a batch and answers it; gives back what is to be written again with the next.
    async fn write(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let began = Instant::now();
        self.metrics.journal_batches.inc();
        self.metrics.journal_batch_entries.observe(batch.len() as f64);
        let mut again = Vec::new();
        // Halves of a batch that was refused as a whole, in order.
        let mut parts = VecDeque::from([batch]);
        while let Some(mut part) = parts.pop_front() {
            let entries: Vec<NewEntry> = part.iter().map(|waiting| waiting.entry.clone()).collect();
            match self.append(&entries, began).await {
                Ok(outcomes) => self.answer(part, outcomes, &mut again),
                Err(error) if error.is_transient() || part.len() == 1 => {
                    tracing::error!(%error, entries = part.len(), "entries could not be written");
                    let unavailable = AppendError::Unavailable { reason: error.to_string() };
                    for waiting in part {
                        // Who has stopped waiting will ask again.
                        let _heard = waiting.answer.send(Err(unavailable.clone()));
                    }
                }
                Err(_) => {
                    let second = part.split_off(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(part);
                }
            }
        }
        self.metrics.journal_batch_duration.observe(began.elapsed().as_secs_f64());
        again
    }

    /// Appends, and tries again while that may help.
    async fn append(&self, entries: &[NewEntry], began: Instant) -> Result<Vec<Outcome>, StoreError> {
        let mut pause = RETRY_MIN;
        loop {
            let error = match self.store.append_entries(entries).await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            if began.elapsed() + pause > self.config.patience {
                return Err(error);
            }
            tracing::warn!(%error, entries = entries.len(), "a batch is written again");
            self.metrics.journal_retries.inc();
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn answer(&self, part: Vec<Waiting>, outcomes: Vec<Outcome>, again: &mut Vec<Waiting>) {
        let mut committed = Vec::with_capacity(part.len());
        let mut answers = Vec::with_capacity(part.len());
        for (waiting, outcome) in part.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Appended(appended, body) => {
                    if appended.duplicate {
                        let top = Top { epoch: appended.epoch, seq: appended.seq };
                        self.committed.reached(waiting.entry.conversation, top);
                    } else {
                        self.metrics.entries.with_label_values(&[waiting.entry.kind.as_str()]).inc();
                        committed.push(Arc::new(appended_entry(&waiting.entry, &appended, body)));
                    }
                    self.metrics.journal_append_duration.observe(waiting.since.elapsed().as_secs_f64());
                    answers.push((waiting.answer, Ok(appended)));
                }
                Outcome::Refused(refusal) => answers.push((waiting.answer, Err(refusal.into()))),
                Outcome::Again => again.push(waiting),
            }
        }
        if !committed.is_empty() {
            self.committed.committed(committed);
        }
        for (answer, said) in answers {
            // Who has stopped waiting will ask again and find it.
            let _heard = answer.send(said);
        }
    }
}
