//! Counts of one worker, gathered without sharing a cache line with the others and told to the metrics once a tick.

use std::cell::Cell;

use super::encoded::Class;
use super::outbox::Shed;
use crate::telemetry::Metrics;

/// A count since the last flush.
#[derive(Debug, Default)]
pub(super) struct Count(Cell<u64>);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }
}

/// Counts of one worker.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) frames_in: Count,
    pub(super) frames_out: Count,
    pub(super) would_block: Count,
    shed: [Count; Class::ALL.len()],
    outbox_bytes: Cell<i64>,
    told_bytes: Cell<i64>,
    metrics: Metrics,
}

impl Tally {
    pub(super) fn new(metrics: &Metrics) -> Tally {
        Tally {
            frames_in: Count::default(),
            frames_out: Count::default(),
            would_block: Count::default(),
            shed: Default::default(),
            outbox_bytes: Cell::new(0),
            told_bytes: Cell::new(0),
            metrics: metrics.clone(),
        }
    }

    /// An outbox went from `before` to `after` bytes.
    pub(super) fn outbox(&self, before: usize, after: usize) {
        self.outbox_bytes.set(self.outbox_bytes.get() + after as i64 - before as i64);
    }

    pub(super) fn shed(&self, shed: &Shed) {
        for (count, more) in self.shed.iter().zip(shed) {
            count.add(u64::from(*more));
        }
    }

    /// Tells the metrics.
    pub(super) fn flush(&self, metrics: &Metrics) {
        metrics.ws_frames.with_label_values(&["in"]).inc_by(self.frames_in.0.take());
        metrics.ws_frames.with_label_values(&["out"]).inc_by(self.frames_out.0.take());
        metrics.ws_would_block.inc_by(self.would_block.0.take());
        for (class, count) in Class::ALL.into_iter().zip(&self.shed) {
            let count = count.0.take();
            if count > 0 {
                metrics.ws_shed.with_label_values(&[class.label()]).inc_by(count);
            }
        }
        let bytes = self.outbox_bytes.get();
        metrics.ws_outbox_bytes.add(bytes - self.told_bytes.replace(bytes));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let metrics = self.metrics.clone();
        self.flush(&metrics);
    }
}
