//! Addresses that keep the mailbox's bound.

use std::{fmt, sync::Arc, time::Duration};

use actix::{Actor, Addr, Handler, Message, dev::ToEnvelope};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    context::{A_YEAR, Context},
    error::{SendError, TrySendError},
    gate::{Gate, Refused},
};

/// Where an actor is spoken to. Cheap to clone; clones share the mailbox's bound.
pub struct Address<A>
where
    A: Actor<Context = Context<A>>,
{
    addr: Addr<A>,
    gate: Arc<Gate>,
}

impl<A> Address<A>
where
    A: Actor<Context = Context<A>>,
{
    pub(crate) fn new(addr: Addr<A>, gate: Arc<Gate>) -> Self {
        Self { addr, gate }
    }

    /// Leaves a message, without waiting for anything. `Ok` says it is in the mailbox; should the actor panic before it gets to it,
    /// the message is lost and counted ([`Observer::lost`](crate::observer::Observer::lost)).
    #[expect(clippy::disallowed_methods, reason = "the gate was passed")]
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        match self.gate.try_enter() {
            Ok(()) => {
                self.addr.try_send(message).map_err(|refused| TrySendError::Closed(refused.into_inner()))
            }
            Err(Refused::Full) => Err(TrySendError::Full(message)),
            Err(Refused::Closed) => Err(TrySendError::Closed(message)),
        }
    }

    /// Leaves a message and waits for the answer, both within `limit`. When the future is dropped before the actor has got to
    /// the message, the message is taken back.
    #[expect(clippy::disallowed_methods, reason = "the gate was passed; it is what senders wait at")]
    pub async fn send<M>(&self, message: M, limit: Duration) -> Result<M::Result, SendError<M>>
    where
        A: Handler<M>,
        Context<A>: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let deadline = Instant::now() + limit.min(A_YEAR);
        let _asking = self.gate.ask();
        match timeout_at(deadline, self.gate.enter()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(SendError::Closed(message)),
            Err(_) => return Err(SendError::Full(message)),
        }
        match timeout_at(deadline, self.addr.send(message)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(SendError::Died),
            Err(_) => Err(SendError::TimedOut),
        }
    }

    /// Whether the actor takes messages; it may stop doing so at any moment.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.gate.is_closed()
    }

    /// Messages that wait for it.
    #[must_use]
    pub fn mailbox_depth(&self) -> usize {
        self.gate.depth()
    }

    /// Messages that may wait for it.
    #[must_use]
    pub fn mailbox_capacity(&self) -> usize {
        self.gate.capacity()
    }

    /// Waits until the actor is gone.
    pub async fn ended(&self) {
        // The sender lives in the gate, which this address holds.
        let _ = self.end().wait_for(|ended| *ended).await;
    }

    pub(crate) fn end(&self) -> watch::Receiver<bool> {
        self.gate.ended()
    }

    pub(crate) fn request_sleep(&self) {
        self.gate.request_sleep();
    }
}

impl<A> Clone for Address<A>
where
    A: Actor<Context = Context<A>>,
{
    fn clone(&self) -> Self {
        Self { addr: self.addr.clone(), gate: Arc::clone(&self.gate) }
    }
}

/// Equal when they reach the same life of the same actor.
impl<A> PartialEq for Address<A>
where
    A: Actor<Context = Context<A>>,
{
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.gate, &other.gate)
    }
}

impl<A> fmt::Debug for Address<A>
where
    A: Actor<Context = Context<A>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("alive", &self.is_alive())
            .field("depth", &self.mailbox_depth())
            .finish()
    }
}
