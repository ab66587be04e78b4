//! The queue between an adapter of the bus and one subscriber.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, task::AtomicWaker};

/// Events one subscriber may be behind. One that is 1024 behind reloads faster than it catches up; when full it hears
/// [`BusEvent::Gap`] in place of what did not fit.
pub const QUEUE_LEN_MAX: usize = 1024;

/// Bytes one subscriber may be behind, so that large payloads do not make 1024 events a quarter of a gigabyte. When full: as
/// [`QUEUE_LEN_MAX`].
pub const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// Somebody published this.
    Message(Bytes),
    /// At this place events may be missing: the connection was lost for a while, or the subscriber was too far behind. What was
    /// learned from the topic before is to be loaded anew.
    Gap,
}

/// Hears one topic; dropping it unsubscribes. It is a [`Stream`] too, which ends when the bus is gone.
pub struct Subscription {
    queue: Arc<Queue>,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

/// The adapter's side of a [`Subscription`].
#[derive(Clone)]
pub struct Inlet {
    ends: Arc<InletEnd>,
}

/// Tells the subscriber when the last inlet is gone.
struct InletEnd {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct State {
    events: VecDeque<BusEvent>,
    bytes: usize,
    /// Something did not fit. Nothing is queued until the reader has come to this place, where it hears of the gap.
    overflowed: bool,
    /// The subscriber is gone.
    left: bool,
    /// The adapter is gone.
    ended: bool,
}

impl Subscription {
    /// The two ends of a new queue. `on_drop` runs when the subscriber goes; it must not block.
    pub fn pair(on_drop: impl FnOnce() + Send + Sync + 'static) -> (Inlet, Self) {
        let queue = Arc::new(Queue::default());
        let inlet = Inlet { ends: Arc::new(InletEnd { queue: Arc::clone(&queue) }) };
        (inlet, Self { queue, on_drop: Some(Box::new(on_drop)) })
    }

    /// The next event; `None` when the bus is gone. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<BusEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<BusEvent> {
        self.queue.lock().take()
    }
}

impl Stream for Subscription {
    type Item = BusEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BusEvent>> {
        // Registered first: what arrives between the look and the sleep wakes the reader.
        self.queue.reader.register(cx.waker());
        let mut state = self.queue.lock();
        match state.take() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.left = true;
        state.events = VecDeque::new();
        state.bytes = 0;
        drop(state);
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.queue.lock().events.len()).finish()
    }
}

impl Inlet {
    /// Queues a message; never waits. Says `false` once the subscriber is gone.
    pub fn message(&self, payload: Bytes) -> bool {
        self.push(BusEvent::Message(payload))
    }

    /// Says that events may be missing at this place; gaps that follow each other become one. `false` as above.
    pub fn gap(&self) -> bool {
        self.push(BusEvent::Gap)
    }

    /// Whether the subscriber is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ends.queue.lock().left
    }

    fn push(&self, event: BusEvent) -> bool {
        let queue = &self.ends.queue;
        let mut state = queue.lock();
        if state.left {
            return false;
        }
        state.put(event);
        drop(state);
        queue.reader.wake();
        true
    }
}

impl fmt::Debug for Inlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inlet").field("waiting", &self.ends.queue.lock().events.len()).finish()
    }
}

impl Drop for InletEnd {
    fn drop(&mut self) {
        self.queue.lock().ended = true;
        self.queue.reader.wake();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, event: BusEvent) {
        if self.overflowed || (event == BusEvent::Gap && self.events.back() == Some(&BusEvent::Gap)) {
            return;
        }
        let bytes = event.bytes();
        if self.events.len() >= QUEUE_LEN_MAX || self.bytes + bytes > QUEUE_BYTES_MAX {
            self.overflowed = true;
        } else {
            self.bytes += bytes;
            self.events.push_back(event);
        }
    }

    fn take(&mut self) -> Option<BusEvent> {
        match self.events.pop_front() {
            Some(event) => {
                self.bytes -= event.bytes();
                Some(event)
            }
            None => std::mem::take(&mut self.overflowed).then_some(BusEvent::Gap),
        }
    }
}

impl BusEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::Message(payload) => payload.len(),
            Self::Gap => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn message(text: &'static str) -> BusEvent {
        BusEvent::Message(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn what_does_not_fit_is_heard_as_one_gap_in_its_place() {
        let (inlet, mut subscription) = Subscription::pair(|| ());
        for _ in 0..QUEUE_LEN_MAX + 500 {
            assert!(inlet.message(Bytes::from_static(b"before")));
        }
        for _ in 0..QUEUE_LEN_MAX {
            assert_eq!(subscription.try_next(), Some(message("before")));
            inlet.message(Bytes::from_static(b"lost with the others"));
        }
        assert_eq!(subscription.try_next(), Some(BusEvent::Gap));
        assert_eq!(subscription.try_next(), None);
        inlet.message(Bytes::from_static(b"after"));
        assert_eq!(subscription.try_next(), Some(message("after")));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (inlet, mut subscription) = Subscription::pair(|| ());
        let large = Bytes::from(vec![0; QUEUE_BYTES_MAX / 4]);
        for _ in 0..5 {
            inlet.message(large.clone());
        }
        for _ in 0..4 {
            assert_eq!(subscription.try_next(), Some(BusEvent::Message(large.clone())));
        }
        assert_eq!(subscription.try_next(), Some(BusEvent::Gap));
        inlet.message(large.clone());
        assert_eq!(
            subscription.try_next(),
            Some(BusEvent::Message(large)),
            "room is counted again from nothing"
        );
    }

    #[test]
    fn gaps_in_a_row_are_one() {
        let (inlet, mut subscription) = Subscription::pair(|| ());
        inlet.gap();
        inlet.gap();
        inlet.message(Bytes::from_static(b"here"));
        inlet.gap();
        let heard: Vec<_> = std::iter::from_fn(|| subscription.try_next()).collect();
        assert_eq!(heard, [BusEvent::Gap, message("here"), BusEvent::Gap]);
    }

    #[tokio::test]
    async fn either_end_hears_of_the_others_going() {
        let gone = Arc::new(AtomicBool::new(false));
        let (inlet, subscription) = Subscription::pair({
            let gone = Arc::clone(&gone);
            move || gone.store(true, Ordering::SeqCst)
        });
        assert!(!inlet.is_closed());
        drop(subscription);
        assert!(inlet.is_closed() && gone.load(Ordering::SeqCst));
        assert!(!inlet.message(Bytes::new()));

        let (inlet, mut subscription) = Subscription::pair(|| ());
        inlet.message(Bytes::from_static(b"last"));
        let waiting = tokio::spawn(async move { (subscription.next().await, subscription.next().await) });
        tokio::task::yield_now().await;
        drop(inlet);
        assert_eq!(waiting.await.unwrap(), (Some(message("last")), None));
    }
}
