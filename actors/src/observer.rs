//! What happens to actors, told to whoever counts it.

/// Hears what happens to actors; the root package makes Prometheus metrics of it. `kind` is [`Resident::KIND`].
///
/// It is called on the actors' threads, [`Self::mailbox_depth`] with every message: implementations count, and neither block nor panic.
///
/// [`Resident::KIND`]: crate::context::Resident::KIND
#[expect(unused_variables, reason = "an observer implements what it counts")]
pub trait Observer: Send + Sync + 'static {
    /// An actor was started, for the first time or after sleep.
    fn started(&self, kind: &'static str) {}

    /// An actor was started again after it had panicked.
    fn restarted(&self, kind: &'static str) {}

    /// An actor ended because nobody needed it.
    fn slept(&self, kind: &'static str) {}

    /// An actor ended by its own decision, or with its thread.
    fn stopped(&self, kind: &'static str) {}

    /// An actor panicked, while running or while starting.
    fn crashed(&self, kind: &'static str) {}

    /// An actor panicked again and again and is left alone until its back-off has passed.
    fn contained(&self, kind: &'static str) {}

    /// A message was refused because the mailbox was full.
    fn mailbox_full(&self, kind: &'static str) {}

    /// A message was taken up; so many waited, itself included.
    fn mailbox_depth(&self, kind: &'static str, depth: usize) {}

    /// So many messages waited in the mailbox of an actor that ended: it panicked or stopped itself. Who waits for an answer hears
    /// of it; a message that was only told is lost.
    fn lost(&self, kind: &'static str, messages: usize) {}
}

/// Counts nothing.
impl Observer for () {}
