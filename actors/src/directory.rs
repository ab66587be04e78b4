//! Where actors are found: id → address.
//!
//! - **On demand.** A lookup starts the actor from durable state when it is not there; lookups of one id at the same time start
//!   one actor and get one address.
//! - **Sleep.** An actor nobody has spoken to for [`Settings::idle_after`] ends, when [`Resident::may_sleep`] agrees. A message
//!   meets either an actor that will handle it or a closed gate; [`Directory::send`] and [`Directory::tell`] then look up again.
//! - **Panics.** A panic ends one actor: its neighbours on the thread go on, who waits for its answer hears
//!   [`SendError::Died`], and it is started again from durable state after a back-off that doubles, unasked.
//! - **Crash loops.** A panic within [`Settings::steady_after`] of the start continues a streak. From the
//!   [`Settings::crashes_max`]th on nothing is restarted unasked, and the id answers [`LookupError::Unavailable`] until its
//!   back-off has passed; the next lookup then tries once more.
//! - **Bounds.** At most [`Settings::live_max`] actors live or start; beyond it lookups are refused with [`LookupError::Full`].

mod slot;

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use actix::{Handler, Message, dev::ToEnvelope};
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{
    address::Address,
    context::{A_YEAR, Context, Ended, Life, Resident, words_of},
    error::{DeliveryError, LookupError, SendError, StartError, TrySendError},
    observer::Observer,
    workers::Workers,
};
use slot::{Next, Outcome, Slot, State};

/// Makes actors from what is durable.
#[async_trait]
pub trait Start: Send + Sync + 'static {
    /// What an actor is found by.
    type Id: Copy + Eq + Hash + fmt::Display + Send + Sync + 'static;
    /// What is made.
    type Actor: Resident;

    /// Loads the actor `id`. It runs on the thread the actor will live on, never twice at a time for one id, and must not block.
    async fn start(&self, id: Self::Id) -> Result<Self::Actor, StartError>;
}

/// How a directory treats its actors.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Actors that may live at a time: a bound on memory. When full, lookups of further ids are refused.
    pub live_max: usize,
    /// An actor nobody has spoken to for so long is put to sleep.
    pub idle_after: Duration,
    /// A start that takes longer has failed.
    pub start_limit: Duration,
    /// How long a crashed actor is left alone at first; doubles with every crash of the streak.
    pub backoff_min: Duration,
    /// How long it is left alone at most.
    pub backoff_max: Duration,
    /// A streak of so many crashes is a crash loop.
    pub crashes_max: u32,
    /// An actor that has lived for so long has recovered: its next crash is a first one.
    pub steady_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            live_max: 100_000,
            idle_after: Duration::from_secs(120),
            start_limit: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(30),
            crashes_max: 4,
            steady_after: Duration::from_secs(60),
        }
    }
}

/// How a directory is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Actors that live or start.
    pub live: usize,
    /// Ids that are left alone after a crash.
    pub resting: usize,
    /// Messages that wait, over all mailboxes.
    pub waiting: usize,
    /// Messages that wait in the fullest mailbox.
    pub deepest: usize,
}

/// Finds actors by id. Clones share it.
pub struct Directory<S: Start> {
    inner: Arc<Inner<S>>,
}

/// Locks are spread over so many maps; each is held for a look, never while something waits.
const SHARDS: usize = 16;

struct Inner<S: Start> {
    start: S,
    settings: Settings,
    workers: Workers,
    observer: Arc<dyn Observer>,
    shards: [Shard<S>; SHARDS],
    live: AtomicUsize,
    draining: AtomicBool,
}

type Shard<S> = Mutex<HashMap<<S as Start>::Id, Slot<<S as Start>::Actor>>>;

impl<S: Start> Directory<S> {
    /// A directory without anybody in it. Actors live on `workers`; `observer` hears what happens to them.
    pub fn new(start: S, settings: Settings, workers: Workers, observer: Arc<dyn Observer>) -> Self {
        let settings = settings.in_bounds();
        let shards = std::array::from_fn(|_| Mutex::default());
        let (live, draining) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { inner: Arc::new(Inner { start, settings, workers, observer, shards, live, draining }) }
    }

    /// The address of `id`, which is started if it is not there. May wait for a start or a first back-off.
    ///
    /// # Errors
    /// See [`LookupError`].
    pub async fn address(&self, id: S::Id) -> Result<Address<S::Actor>, LookupError> {
        loop {
            match Inner::next(&self.inner, id)? {
                Next::Live(address) => return Ok(address),
                Next::Starting(outcome) => return outcome.wait().await,
                Next::Ending(mut ended) => {
                    // An error says that the actor's gate is gone: it has ended.
                    let _ = ended.wait_for(|ended| *ended).await;
                }
                Next::Resting(until) => sleep_until(until).await,
            }
        }
    }

    /// The address of `id` if it is there; starts nothing.
    #[must_use]
    pub fn existing(&self, id: S::Id) -> Option<Address<S::Actor>> {
        match &self.inner.shard(id).get(&id)?.state {
            State::Live(address, _) if address.is_alive() => Some(address.clone()),
            _ => None,
        }
    }

    /// Sends `message` to `id` and waits for the answer, all within `limit`. An actor that falls asleep meanwhile is woken; a message
    /// an actor may have seen is never sent a second time.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    pub async fn send<M>(
        &self,
        id: S::Id,
        mut message: M,
        limit: Duration,
    ) -> Result<M::Result, DeliveryError>
    where
        S::Actor: Handler<M>,
        Context<S::Actor>: ToEnvelope<S::Actor, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let deadline = Instant::now() + limit.min(A_YEAR);
        loop {
            let address = self.address_until(id, deadline).await?;
            match address.send(message, deadline.saturating_duration_since(Instant::now())).await {
                Ok(answer) => return Ok(answer),
                Err(SendError::Closed(returned)) => message = returned,
                Err(SendError::Full(_)) => return Err(DeliveryError::MailboxFull),
                Err(SendError::TimedOut) => return Err(DeliveryError::TimedOut),
                Err(SendError::Died) => return Err(DeliveryError::Died),
            }
        }
    }

    /// Leaves `message` in the mailbox of `id`, which is started or woken within `limit`; waits for nothing else.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    pub async fn tell<M>(&self, id: S::Id, mut message: M, limit: Duration) -> Result<(), DeliveryError>
    where
        S::Actor: Handler<M>,
        Context<S::Actor>: ToEnvelope<S::Actor, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let deadline = Instant::now() + limit.min(A_YEAR);
        loop {
            let address = self.address_until(id, deadline).await?;
            match address.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(returned)) => message = returned,
                Err(TrySendError::Full(_)) => return Err(DeliveryError::MailboxFull),
            }
        }
    }

    async fn address_until(&self, id: S::Id, deadline: Instant) -> Result<Address<S::Actor>, DeliveryError> {
        let found = timeout_at(deadline, self.address(id)).await;
        Ok(found.map_err(|_| DeliveryError::Unreached)??)
    }

    /// How the directory is; looks at every actor once, so ask at the pace of a scrape.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { live: self.inner.live.load(SeqCst), ..Stats::default() };
        for shard in &self.inner.shards {
            for slot in lock(shard).values() {
                match &slot.state {
                    State::Live(address, _) => {
                        stats.waiting += address.mailbox_depth();
                        stats.deepest = stats.deepest.max(address.mailbox_depth());
                    }
                    State::Resting(until) => stats.resting += usize::from(*until > Instant::now()),
                    State::Starting(_) => {}
                }
            }
        }
        stats
    }

    /// Starts nobody any more, and puts everybody to sleep as soon as nothing waits for them, whatever they think of it. Says how
    /// many are left when `limit` has passed.
    pub async fn drain(&self, limit: Duration) -> usize {
        let deadline = Instant::now() + limit.min(A_YEAR);
        self.inner.draining.store(true, SeqCst);
        // Starts that were under way become actors, so it takes more than one look; nothing new begins, so it comes to an end.
        loop {
            let changes: Vec<_> = self
                .inner
                .shards
                .iter()
                .flat_map(|shard| lock(shard).values().filter_map(Slot::leave).collect::<Vec<_>>())
                .collect();
            let all = futures_util::future::join_all(changes.into_iter().map(slot::Change::wait));
            let none = self.inner.live.load(SeqCst) == 0;
            if none || timeout_at(deadline, all).await.is_err() {
                break;
            }
        }
        self.inner.live.load(SeqCst)
    }
}

impl<S: Start> Clone for Directory<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S: Start> fmt::Debug for Directory<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("of", &S::Actor::KIND).field("stats", &self.stats()).finish()
    }
}

impl<S: Start> Inner<S> {
    fn shard(&self, id: S::Id) -> MutexGuard<'_, HashMap<S::Id, Slot<S::Actor>>> {
        let [first, ..] = &self.shards;
        let place = usize::try_from(hash_of(id) >> 32).unwrap_or(0) % SHARDS;
        lock(self.shards.get(place).unwrap_or(first))
    }

    /// What a lookup does next. Begins a start where one is due.
    fn next(this: &Arc<Self>, id: S::Id) -> Result<Next<S::Actor>, LookupError> {
        let mut slots = this.shard(id);
        let now = Instant::now();
        let streak = match slots.get(&id) {
            None => 0,
            Some(Slot { state: State::Live(address, _), .. }) if address.is_alive() => {
                return Ok(Next::Live(address.clone()));
            }
            Some(Slot { state: State::Live(address, _), .. }) => return Ok(Next::Ending(address.end())),
            Some(Slot { state: State::Starting(outcome), .. }) => return Ok(Next::Starting(outcome.clone())),
            Some(Slot { state: State::Resting(until), streak }) if *until > now => {
                if *streak >= this.settings.crashes_max {
                    return Err(LookupError::Unavailable { retry_after: *until - now });
                }
                return Ok(Next::Resting(*until));
            }
            Some(Slot { state: State::Resting(_), streak }) => *streak,
        };
        if this.draining.load(SeqCst) {
            return Err(LookupError::Draining);
        }
        let live_max = this.settings.live_max;
        this.live
            .fetch_update(SeqCst, SeqCst, |live| (live < live_max).then_some(live + 1))
            .map_err(|_| LookupError::Full { live_max })?;
        let (say, outcome) = Outcome::pair();
        slots.insert(id, Slot { state: State::Starting(outcome.clone()), streak });
        drop(slots);
        let starting = Starting { inner: Arc::clone(this), id, streak, say: Some(say) };
        // A thread that is gone drops the future, and with it the start: that is said like any failure.
        this.workers.of(hash_of(id)).spawn(starting.run());
        Ok(Next::Starting(outcome))
    }

    /// The actor has ended: frees its place, and sees to its return when it crashed.
    fn ended(this: &Arc<Self>, id: S::Id, ended: Ended) {
        let mut slots = this.shard(id);
        let Some(Slot { state: State::Live(_, since), streak }) = slots.get(&id) else { return };
        let (steady, streak) = (since.elapsed() >= this.settings.steady_after, *streak);
        let streak = if steady { 0 } else { streak };
        this.live.fetch_sub(1, SeqCst);
        match ended {
            Ended::Crashed => return Self::crashed(this, id, streak + 1, slots),
            // Who crashed a moment ago and now sleeps has not recovered yet.
            _ if streak > 0 => {
                slots.insert(id, Slot { state: State::Resting(Instant::now()), streak });
            }
            _ => {
                slots.remove(&id);
            }
        }
        drop(slots);
        match ended {
            Ended::Slept => this.observer.slept(S::Actor::KIND),
            _ => this.observer.stopped(S::Actor::KIND),
        }
    }

    /// Leaves `id` alone for its back-off; restarts it afterwards unless it is in a crash loop.
    fn crashed(
        this: &Arc<Self>,
        id: S::Id,
        streak: u32,
        mut slots: MutexGuard<'_, HashMap<S::Id, Slot<S::Actor>>>,
    ) {
        let now = Instant::now();
        let backoff = this.settings.backoff(streak);
        let until = now + backoff;
        // What has rested for long has nothing to be remembered for.
        slots.retain(|_, slot| !slot.forgotten(now, this.settings.steady_after));
        slots.insert(id, Slot { state: State::Resting(until), streak });
        drop(slots);
        this.observer.crashed(S::Actor::KIND);
        if streak >= this.settings.crashes_max {
            tracing::error!(actor = S::Actor::KIND, %id, streak, ?backoff, "an actor crashes again and again");
            this.observer.contained(S::Actor::KIND);
            return;
        }
        let directory = Arc::downgrade(this);
        this.workers.of(hash_of(id)).spawn(async move {
            sleep_until(until).await;
            let Some(inner) = directory.upgrade() else { return };
            if let Err(error) = (Directory { inner }).address(id).await {
                tracing::warn!(actor = S::Actor::KIND, %id, %error, "an actor that crashed was not restarted");
            }
        });
    }
}

/// A start under way. Dropped before its end (its thread is gone), it has failed.
struct Starting<S: Start> {
    inner: Arc<Inner<S>>,
    id: S::Id,
    streak: u32,
    say: Option<slot::Say<S::Actor>>,
}

impl<S: Start> Starting<S> {
    async fn run(mut self) {
        let (id, limit) = (self.id, self.inner.settings.start_limit);
        let start = timeout(limit, AssertUnwindSafe(self.inner.start.start(id)).catch_unwind()).await;
        match start {
            Ok(Ok(Ok(actor))) => self.live(actor),
            Ok(Ok(Err(error))) => self.failed(error),
            Ok(Err(panic)) => {
                tracing::error!(actor = S::Actor::KIND, %id, panic = words_of(&*panic), "a start panicked");
                self.panicked();
            }
            Err(_) => self.failed(StartError::Failed { reason: format!("it took longer than {limit:?}") }),
        }
    }

    fn live(&mut self, actor: S::Actor) {
        let Some(say) = self.say.take() else { return };
        let (id, streak, inner) = (self.id, self.streak, &self.inner);
        let observer = Arc::clone(&inner.observer);
        let directory = Arc::downgrade(inner);
        let (address, life) = Life::new(actor, inner.settings.idle_after, observer, move |ended| {
            if let Some(inner) = directory.upgrade() {
                Inner::ended(&inner, id, ended);
            }
        });
        inner.shard(id).insert(id, Slot { state: State::Live(address.clone(), Instant::now()), streak });
        if streak > 0 {
            inner.observer.restarted(S::Actor::KIND);
        } else {
            inner.observer.started(S::Actor::KIND);
        }
        actix::spawn(life);
        say.send(Ok(address));
    }

    fn failed(&mut self, error: StartError) {
        let Some(say) = self.say.take() else { return };
        let mut slots = self.inner.shard(self.id);
        self.inner.live.fetch_sub(1, SeqCst);
        if self.streak > 0 {
            slots.insert(self.id, Slot { state: State::Resting(Instant::now()), streak: self.streak });
        } else {
            slots.remove(&self.id);
        }
        drop(slots);
        say.send(Err(LookupError::Start(error)));
    }

    fn panicked(&mut self) {
        let Some(say) = self.say.take() else { return };
        let streak = self.streak + 1;
        let slots = self.inner.shard(self.id);
        self.inner.live.fetch_sub(1, SeqCst);
        Inner::crashed(&self.inner, self.id, streak, slots);
        say.send(Err(LookupError::Unavailable { retry_after: self.inner.settings.backoff(streak) }));
    }
}

impl<S: Start> Drop for Starting<S> {
    fn drop(&mut self) {
        self.failed(StartError::Failed { reason: "its thread has ended".into() });
    }
}

impl Settings {
    /// Instants do not overflow by what somebody meant as "never".
    fn in_bounds(mut self) -> Self {
        for time in
            [&mut self.start_limit, &mut self.backoff_min, &mut self.backoff_max, &mut self.steady_after]
        {
            *time = (*time).min(A_YEAR);
        }
        self
    }

    fn backoff(&self, streak: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(streak.saturating_sub(1));
        self.backoff_min.saturating_mul(doubled).min(self.backoff_max)
    }
}

/// The same in every process of one build, so that a dump of two nodes can be compared.
fn hash_of(id: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
