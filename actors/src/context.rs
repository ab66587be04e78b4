//! The context actors of this crate run in.
//!
//! actix 0.13 leaves four things open that this closes:
//! - A panic unwinds through the actor's future, whose destructor then calls `stopping` and `stopped` on the broken actor, and
//!   where `stopping` says `Continue` even further handlers, all during unwinding, where a second panic aborts the process. Here
//!   the panic is caught at the actor's own future; nothing of the broken actor runs again.
//! - Every clone of an address may put a message beyond the mailbox's bound. Here a gate before the mailbox counts all of them.
//! - An actor goes on for as long as its mailbox has anything. Here it lets its neighbours have a turn after 64 messages.
//! - An actor that stops drops what waits in its mailbox. Here an actor [sleeps](Context::sleep) only when nothing waits, and
//!   who comes later is told so before the message is taken.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFuture, ActorState, Addr, AsyncContext, Handler, Message, SpawnHandle,
    dev::{
        AsyncContextParts, ContextFut, ContextParts, Envelope, EnvelopeProxy, Mailbox, MessageResponse,
        OneshotSender, ToEnvelope, channel,
    },
};
use tokio::{
    task::yield_now,
    time::{Instant, Sleep, sleep_until},
};

use crate::{address::Address, gate::Gate, observer::Observer};

/// An actor that lives in a [`Directory`](crate::directory::Directory).
pub trait Resident: Actor<Context = Context<Self>> + Send {
    /// What metrics and logs call it, in snake case.
    const KIND: &'static str;

    /// Messages that may wait for it; its doc gives the reason. When full, senders hear `Full` with their message in hand.
    const MAILBOX_LEN_MAX: usize;

    /// Whether it may be put to sleep when nobody has spoken to it for a while. Asked on its own thread; an actor with work that
    /// is not a message (a call in progress, a timer that matters) says no.
    fn may_sleep(&self) -> bool {
        true
    }
}

/// What a handler does things with; the same calls as actix's own (`spawn`, `wait`, `run_later`, `run_interval`, `notify`).
pub struct Context<A>
where
    A: Actor<Context = Self>,
{
    parts: ContextParts<A>,
    gate: Arc<Gate>,
    latest_message: Instant,
    burst_len: u32,
}

/// Messages an actor takes up before its neighbours on the thread have a turn. actix would go on for as long as there are any.
const BURST_LEN_MAX: u32 = 64;

/// The shortest idle time; less would be a busy loop.
const IDLE_MIN: Duration = Duration::from_millis(1);

/// What stands for "never" where instants would overflow.
pub(crate) const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

impl<A> Context<A>
where
    A: Actor<Context = Self>,
{
    /// The actor's own address, with its bound. (actix's `address` gives one without.)
    #[must_use]
    pub fn own_address(&self) -> Address<A> {
        Address::new(self.parts.address(), Arc::clone(&self.gate))
    }

    /// Ends the actor as soon as no message waits, whatever [`Resident::may_sleep`] says. Use this in place of `stop`, which drops
    /// what waits.
    pub fn sleep(&mut self) {
        self.gate.request_sleep();
    }
}

impl<A> ActorContext for Context<A>
where
    A: Actor<Context = Self>,
{
    fn stop(&mut self) {
        self.parts.stop();
    }

    fn terminate(&mut self) {
        self.parts.terminate();
    }

    fn state(&self) -> ActorState {
        self.parts.state()
    }
}

impl<A> AsyncContext<A> for Context<A>
where
    A: Actor<Context = Self>,
{
    fn spawn<F>(&mut self, future: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.parts.spawn(future)
    }

    fn wait<F>(&mut self, future: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.parts.wait(future);
    }

    fn waiting(&self) -> bool {
        self.parts.waiting()
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.parts.cancel_future(handle)
    }

    fn address(&self) -> Addr<A> {
        self.parts.address()
    }
}

impl<A> AsyncContextParts<A> for Context<A>
where
    A: Actor<Context = Self>,
{
    fn parts(&mut self) -> &mut ContextParts<A> {
        &mut self.parts
    }
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        Envelope::with_proxy(Box::new(Letter { message: Some(message), answer }))
    }
}

/// A message in the mailbox.
struct Letter<M: Message> {
    message: Option<M>,
    answer: Option<OneshotSender<M::Result>>,
}

impl<A, M> EnvelopeProxy<A> for Letter<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, ctx: &mut Context<A>) {
        ctx.gate.leave();
        ctx.latest_message = Instant::now();
        ctx.burst_len += 1;
        if ctx.burst_len >= BURST_LEN_MAX {
            ctx.burst_len = 0;
            ctx.wait(actix::fut::wrap_future(yield_now()));
        }
        // Who has stopped waiting for the answer has taken the message back.
        if self.answer.as_ref().is_some_and(OneshotSender::is_closed) {
            return;
        }
        if let Some(message) = self.message.take() {
            let _closes = ClosesOnPanic(Arc::clone(&ctx.gate));
            actor.handle(message, ctx).handle(ctx, self.answer.take());
        }
    }
}

/// Closes the gate of an actor whose handler panics, before the unwinding comes to who waits for the answer: looking the actor up
/// again at once, they must not meet what is left of it.
struct ClosesOnPanic(Arc<Gate>);

impl Drop for ClosesOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

/// Puts the actor to sleep when it is idle. It is one of the actor's own futures, and is looked at whenever any of them is.
struct Watch {
    idle_after: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<A: Resident> ActorFuture<A> for Watch {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<Self::Output> {
        // Whoever comes here has taken up all there was, or has let others go first.
        ctx.burst_len = 0;
        ctx.gate.register(task.waker());
        // Without any address nobody can ever speak to it again.
        if (ctx.gate.sleep_requested() || !ctx.parts.connected()) && ctx.gate.try_sleep() {
            ctx.parts.terminate();
            return Poll::Ready(());
        }
        let Self { idle_after, timer } = &mut *self;
        while timer.as_mut().poll(task).is_ready() {
            let until = ctx.latest_message + *idle_after;
            let now = Instant::now();
            if until > now {
                timer.as_mut().reset(until);
            } else if actor.may_sleep() && ctx.gate.try_sleep() {
                ctx.parts.terminate();
                return Poll::Ready(());
            } else {
                timer.as_mut().reset(now + *idle_after);
            }
        }
        Poll::Pending
    }
}

/// How an actor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nobody needed it; nothing waited.
    Slept,
    /// It said so itself, or its thread ended.
    Stopped,
    /// It panicked.
    Crashed,
}

/// An actor's future, from its start to its end.
pub(crate) struct Life<A: Resident> {
    future: Option<ContextFut<A, Context<A>>>,
    gate: Arc<Gate>,
    on_end: Option<Box<dyn FnOnce(Ended)>>,
}

impl<A: Resident> Life<A> {
    /// Prepares `actor` to live, with its address. `on_end` is called once, when no handler will ever run again, and before anybody
    /// who waits for the end hears of it.
    pub(crate) fn new(
        actor: A,
        idle_after: Duration,
        observer: Arc<dyn Observer>,
        on_end: impl FnOnce(Ended) + 'static,
    ) -> (Address<A>, Self) {
        let gate = Arc::new(Gate::new(A::KIND, A::MAILBOX_LEN_MAX, observer));
        // 0: actix's own bound is off, the gate's holds.
        let (sender, receiver) = channel::channel(0);
        let mailbox = Mailbox::new(receiver);
        let (now, idle_after) = (Instant::now(), idle_after.clamp(IDLE_MIN, A_YEAR));
        let mut parts = ContextParts::new(mailbox.sender_producer());
        parts.spawn(Watch { idle_after, timer: Box::pin(sleep_until(now + idle_after)) });
        let ctx = Context { parts, gate: Arc::clone(&gate), latest_message: now, burst_len: 0 };
        let life = Self {
            future: Some(ContextFut::new(ctx, actor, mailbox)),
            gate: Arc::clone(&gate),
            on_end: Some(Box::new(on_end)),
        };
        (Address::new(Addr::new(sender), gate), life)
    }

    fn end(&mut self, ended: Ended) {
        // First nobody comes in, then who waits inside hears of it, then the directory, then who waits for the end.
        self.gate.close();
        let future = self.future.take();
        let broken = catch_unwind(AssertUnwindSafe(|| drop(future))).is_err();
        let ended = if broken { Ended::Crashed } else { ended };
        if let Some(on_end) = self.on_end.take() {
            on_end(ended);
        }
        self.gate.end();
    }
}

impl<A: Resident> Future for Life<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(future) = &mut this.future else { return Poll::Ready(()) };
        // Unwind safety: after a panic nothing of the actor is looked at again, it is only dropped.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *future).poll(task))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {
                let ended = if this.gate.has_slept() { Ended::Slept } else { Ended::Stopped };
                this.end(ended);
            }
            Err(panic) => {
                tracing::error!(actor = A::KIND, panic = words_of(&*panic), "an actor panicked");
                // Terminated, the future's destructor leaves the actor alone.
                future.ctx().parts.terminate();
                this.end(Ended::Crashed);
            }
        }
        Poll::Ready(())
    }
}

impl<A: Resident> Drop for Life<A> {
    fn drop(&mut self) {
        if self.future.is_some() {
            self.end(Ended::Stopped);
        }
    }
}

/// What a panic said, for the log.
pub(crate) fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("something without words")
}
