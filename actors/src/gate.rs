//! The bound of a mailbox, and the one place where falling asleep and being spoken to meet.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use futures_util::task::AtomicWaker;
use tokio::sync::{Semaphore, TryAcquireError, watch};

use crate::observer::Observer;

/// Stands before an actor's mailbox. A message takes a place before it enters and gives it back when the actor takes it up, so
/// the mailbox never holds more than there are places, however many addresses there are.
pub(crate) struct Gate {
    kind: &'static str,
    capacity: usize,
    places: Semaphore,
    taken: AtomicUsize,
    /// Senders that wait for an answer; with one of them the actor does not fall asleep.
    asking: AtomicUsize,
    /// Somebody tries to close: no place does not mean full then.
    closing: AtomicBool,
    sleep: AtomicBool,
    slept: AtomicBool,
    /// Wakes the actor's task.
    waker: AtomicWaker,
    /// Whether the actor is gone and its directory knows.
    ended: watch::Sender<bool>,
    observer: Arc<dyn Observer>,
}

/// Why a message may not enter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No place is free.
    Full,
    /// The actor is asleep, or dead.
    Closed,
}

/// Lasts as long as a sender waits for an answer.
pub(crate) struct Asking<'a>(&'a Gate);

impl Gate {
    pub(crate) fn new(kind: &'static str, capacity: usize, observer: Arc<dyn Observer>) -> Self {
        let capacity = capacity.clamp(1, u32::MAX as usize >> 4);
        Self {
            kind,
            capacity,
            places: Semaphore::new(capacity),
            taken: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            sleep: AtomicBool::new(false),
            slept: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            ended: watch::Sender::new(false),
            observer,
        }
    }

    /// Takes a place if there is one.
    pub(crate) fn try_enter(&self) -> Result<(), Refused> {
        let mut looked = 0;
        loop {
            looked += 1;
            match self.places.try_acquire() {
                Ok(place) => {
                    self.taken.fetch_add(1, SeqCst);
                    place.forget();
                    return Ok(());
                }
                Err(TryAcquireError::Closed) => return Err(Refused::Closed),
                // Who closes says so and takes every place; who closes in vain gives them back before unsaying it.
                Err(TryAcquireError::NoPermits) if self.closing.load(SeqCst) => return Err(Refused::Closed),
                // The first look may have met a vain closing that is over by now.
                Err(TryAcquireError::NoPermits) if looked < 2 => {}
                Err(TryAcquireError::NoPermits) => {
                    self.observer.mailbox_full(self.kind);
                    return Err(Refused::Full);
                }
            }
        }
    }

    /// Takes a place, waiting for one in the order of coming; [`Refused::Closed`] is the only refusal.
    pub(crate) async fn enter(&self) -> Result<(), Refused> {
        let place = self.places.acquire().await.map_err(|_| Refused::Closed)?;
        self.taken.fetch_add(1, SeqCst);
        place.forget();
        Ok(())
    }

    /// The actor has taken up a message.
    pub(crate) fn leave(&self) {
        let counted = self.taken.fetch_update(SeqCst, SeqCst, |taken| taken.checked_sub(1));
        if let Ok(depth) = counted {
            self.observer.mailbox_depth(self.kind, depth);
            self.places.add_permits(1);
        }
    }

    /// To be held from before entering until the answer has come.
    pub(crate) fn ask(&self) -> Asking<'_> {
        self.asking.fetch_add(1, SeqCst);
        Asking(self)
    }

    /// Closes when no message waits and nobody waits for an answer. Once this says `true` no message has entered that is not
    /// handled already, and none ever will.
    pub(crate) fn try_sleep(&self) -> bool {
        self.closing.store(true, SeqCst);
        let all = u32::try_from(self.capacity).unwrap_or(u32::MAX);
        let Ok(places) = self.places.try_acquire_many(all) else {
            self.closing.store(false, SeqCst);
            return false;
        };
        if self.asking.load(SeqCst) > 0 {
            // The places come back before it is unsaid: a sender in between hears `Closed` and looks again.
            drop(places);
            self.closing.store(false, SeqCst);
            return false;
        }
        places.forget();
        self.places.close();
        self.slept.store(true, SeqCst);
        true
    }

    /// Lets nobody in any more; those who wait outside are sent away.
    pub(crate) fn close(&self) {
        self.closing.store(true, SeqCst);
        self.places.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.places.is_closed()
    }

    /// Asks the actor to fall asleep as soon as nothing waits.
    pub(crate) fn request_sleep(&self) {
        self.sleep.store(true, SeqCst);
        self.waker.wake();
    }

    pub(crate) fn sleep_requested(&self) -> bool {
        self.sleep.load(SeqCst)
    }

    /// Whether it was closed by [`Self::try_sleep`].
    pub(crate) fn has_slept(&self) -> bool {
        self.slept.load(SeqCst)
    }

    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Says that the actor is gone, to who waits in [`Self::ended`].
    pub(crate) fn end(&self) {
        let left = self.taken.load(SeqCst);
        if left > 0 {
            self.observer.lost(self.kind, left);
        }
        self.ended.send_replace(true);
    }

    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Messages that wait.
    pub(crate) fn depth(&self) -> usize {
        self.taken.load(SeqCst)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.0.asking.fetch_sub(1, SeqCst) == 1 && self.0.sleep_requested() {
            self.0.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(capacity: usize) -> Gate {
        Gate::new("test", capacity, Arc::new(()))
    }

    #[test]
    fn a_place_is_free_again_when_the_message_is_taken_up() {
        let gate = gate(2);
        assert_eq!(
            [gate.try_enter(), gate.try_enter(), gate.try_enter()],
            [Ok(()), Ok(()), Err(Refused::Full)]
        );
        assert_eq!(gate.depth(), 2);
        gate.leave();
        assert_eq!([gate.try_enter(), gate.try_enter()], [Ok(()), Err(Refused::Full)]);
        for _ in 0..5 {
            gate.leave();
        }
        assert_eq!(gate.places.available_permits(), 2, "what never entered frees nothing");
    }

    #[test]
    fn nobody_falls_asleep_who_is_spoken_to() {
        let gate = gate(2);
        gate.try_enter().unwrap();
        assert!(!gate.try_sleep(), "a message waits");
        gate.leave();
        let asking = gate.ask();
        assert!(!gate.try_sleep(), "somebody waits for an answer");
        drop(asking);
        assert_eq!(gate.try_enter(), Ok(()), "a vain attempt changes nothing");
        gate.leave();
        assert!(gate.try_sleep() && gate.is_closed() && gate.has_slept());
        assert_eq!(gate.try_enter(), Err(Refused::Closed));
    }

    #[tokio::test]
    async fn who_waits_for_a_place_is_sent_away_when_it_closes() {
        let gate = Arc::new(gate(1));
        gate.try_enter().unwrap();
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await }
        });
        tokio::task::yield_now().await;
        gate.close();
        assert_eq!(waiting.await.unwrap(), Err(Refused::Closed));
    }

    /// Senders race with a closer: every message that entered was there before the closing.
    #[test]
    fn no_message_enters_an_actor_that_falls_asleep() {
        for _ in 0..300 {
            let gate = Arc::new(gate(4));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    std::thread::spawn(move || {
                        loop {
                            match gate.try_enter() {
                                Ok(()) => {
                                    assert!(!gate.has_slept(), "entered after the closing");
                                    gate.leave();
                                }
                                Err(Refused::Closed) if gate.is_closed() => return,
                                Err(_) => std::hint::spin_loop(),
                            }
                        }
                    })
                })
                .collect();
            while !gate.try_sleep() {
                std::hint::spin_loop();
            }
            assert_eq!(gate.depth(), 0);
            for sender in senders {
                sender.join().unwrap();
            }
        }
    }
}
