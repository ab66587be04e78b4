//! The threads actors live on.

use std::io;

use actix::{Arbiter, ArbiterHandle};

/// A thread with an event queue of its own. To be called inside an actix system, whose end stops it.
///
/// What is still under way there when it is stopped is dropped inside its runtime, as a runtime does by itself. An arbiter drops it when it
/// has left the runtime already, where a connection of a database's pool cannot be given back and panics.
///
/// # Errors
/// The operating system gives no thread, or no event queue.
pub fn thread() -> io::Result<ArbiterHandle> {
    let inside = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Called on the new thread, which stays inside to its end: nothing else enters or leaves around it.
        std::mem::forget(runtime.enter());
        Ok(runtime)
    };
    Ok(Arbiter::try_with_tokio_rt(inside)?.handle())
}

/// The threads actors live on. An actor stays on its thread for life; the same id always goes to the same thread.
#[derive(Debug, Clone)]
pub struct Workers {
    first: ArbiterHandle,
    others: Vec<ArbiterHandle>,
}

impl Workers {
    /// Starts `count` threads (at least one). To be called inside an actix system, whose end stops them.
    ///
    /// # Errors
    /// The operating system gives no thread, or no event queue.
    pub fn start(count: usize) -> io::Result<Self> {
        let first = thread()?;
        let others = (1..count).map(|_| thread()).collect::<io::Result<_>>()?;
        Ok(Self { first, others })
    }

    /// The thread this is called on; actors then share its (perhaps paused) time. `None` outside an actix system.
    #[must_use]
    pub fn here() -> Option<Self> {
        Arbiter::try_current().map(|first| Self { first, others: Vec::new() })
    }

    /// Ends the threads with all actors on them, at once; [`drain`](crate::directory::Directory::drain) the directories first.
    pub fn stop(&self) {
        for worker in std::iter::once(&self.first).chain(&self.others) {
            worker.stop();
        }
    }

    /// The thread for what hashes to `hash`.
    pub(crate) fn of(&self, hash: u64) -> &ArbiterHandle {
        let count = self.others.len() as u64 + 1;
        let place = usize::try_from(hash % count).unwrap_or(0);
        place.checked_sub(1).and_then(|place| self.others.get(place)).unwrap_or(&self.first)
    }
}
