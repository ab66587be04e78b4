//! The actor of these tests: a ledger of numbers, written to a journal before it is answered.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use actix::{
    Actor, AsyncContext, Handler, Message, MessageResult, Running,
    fut::{WrapFuture, wrap_future},
};
use async_trait::async_trait;
use nova_actors::{
    context::{Context, Resident},
    directory::{Directory, Settings, Start},
    error::StartError,
    hears_faults,
    id::RoomId,
    observer::Observer,
    workers::Workers,
};
use tokio::{sync::Notify, time::Instant};

pub const SOON: Duration = Duration::from_secs(20);
pub const TICK: Duration = Duration::from_millis(10);

/// What is durable, and switches for what goes wrong.
#[derive(Default)]
pub struct Journal {
    written: Mutex<HashMap<RoomId, Vec<u32>>>,
    pub starts: AtomicUsize,
    pub panic_at_start: AtomicBool,
    pub fail_at_start: AtomicBool,
    pub start_takes: Mutex<Duration>,
    pub awake: AtomicBool,
}

impl Journal {
    pub fn of(&self, id: RoomId) -> Vec<u32> {
        self.written.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    fn append(&self, id: RoomId, number: u32) {
        self.written.lock().unwrap().entry(id).or_default().push(number);
    }
}

pub struct Ledger {
    id: RoomId,
    numbers: Vec<u32>,
    ticks: usize,
    journal: Arc<Journal>,
    /// Broken actors must not be asked anything; this one would take the process down.
    hostile: bool,
}

hears_faults!(Ledger);

impl Resident for Ledger {
    const KIND: &'static str = "ledger";
    /// Small, so that tests fill it; more than actix's own 16, so that they see whose bound holds.
    const MAILBOX_LEN_MAX: usize = 20;

    fn may_sleep(&self) -> bool {
        !self.journal.awake.load(SeqCst)
    }
}

impl Actor for Ledger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, |ledger, _| ledger.ticks += 1);
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        assert!(!self.hostile, "a broken actor was asked whether it stops");
        Running::Continue
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!self.hostile, "a broken actor was told that it has stopped");
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        assert!(!self.hostile, "even its destructor panics");
    }
}

/// Writes a number; says how many there are.
#[derive(Message, PartialEq)]
#[rtype(result = "usize")]
pub struct Add(pub u32);

impl Handler<Add> for Ledger {
    type Result = usize;

    fn handle(&mut self, Add(number): Add, _: &mut Context<Self>) -> usize {
        self.journal.append(self.id, number);
        self.numbers.push(number);
        self.numbers.len()
    }
}

#[derive(Message, PartialEq)]
#[rtype(result = "Vec<u32>")]
pub struct Read;

impl Handler<Read> for Ledger {
    type Result = Vec<u32>;

    fn handle(&mut self, _: Read, _: &mut Context<Self>) -> Vec<u32> {
        self.numbers.clone()
    }
}

/// How often the interval has ticked since the start, and where.
#[derive(Message)]
#[rtype(result = "(usize, ThreadId)")]
pub struct Ticks;

impl Handler<Ticks> for Ledger {
    type Result = MessageResult<Ticks>;

    fn handle(&mut self, _: Ticks, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.ticks, thread::current().id()))
    }
}

/// Takes up nothing until it is notified.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Busy(pub Arc<Notify>);

impl Handler<Busy> for Ledger {
    type Result = ();

    fn handle(&mut self, Busy(until): Busy, ctx: &mut Context<Self>) {
        ctx.wait(wrap_future(async move { until.notified().await }));
    }
}

/// Answers after a while, taking up other messages meanwhile.
#[derive(Message, PartialEq)]
#[rtype(result = "()")]
pub struct Slowly(pub Duration);

impl Handler<Slowly> for Ledger {
    type Result = actix::ResponseActFuture<Self, ()>;

    fn handle(&mut self, Slowly(takes): Slowly, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move { tokio::time::sleep(takes).await }.into_actor(self))
    }
}

/// Says itself again for as long as it may: a mailbox that is never empty.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Echo(pub Arc<AtomicBool>);

impl Handler<Echo> for Ledger {
    type Result = ();

    fn handle(&mut self, Echo(goes_on): Echo, ctx: &mut Context<Self>) {
        if goes_on.load(SeqCst) {
            ctx.own_address().try_send(Echo(goes_on)).unwrap();
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct TurnHostile;

impl Handler<TurnHostile> for Ledger {
    type Result = ();

    fn handle(&mut self, _: TurnHostile, _: &mut Context<Self>) {
        self.hostile = true;
    }
}

/// Makes ledgers from the journal.
pub struct Ledgers(pub Arc<Journal>);

#[async_trait]
impl Start for Ledgers {
    type Id = RoomId;
    type Actor = Ledger;

    async fn start(&self, id: RoomId) -> Result<Ledger, StartError> {
        let journal = Arc::clone(&self.0);
        journal.starts.fetch_add(1, SeqCst);
        assert!(!journal.panic_at_start.load(SeqCst), "a fault on purpose, at the start");
        let takes = *journal.start_takes.lock().unwrap();
        tokio::time::sleep(takes).await;
        if journal.fail_at_start.load(SeqCst) {
            return Err(StartError::NotFound);
        }
        Ok(Ledger { id, numbers: journal.of(id), ticks: 0, journal, hostile: false })
    }
}

#[derive(Default)]
pub struct Counts {
    pub started: AtomicUsize,
    pub restarted: AtomicUsize,
    pub slept: AtomicUsize,
    pub stopped: AtomicUsize,
    pub crashed: AtomicUsize,
    pub contained: AtomicUsize,
    pub full: AtomicUsize,
    pub deepest: AtomicUsize,
    pub lost: AtomicUsize,
}

impl Observer for Counts {
    fn started(&self, kind: &'static str) {
        assert_eq!(kind, "ledger");
        self.started.fetch_add(1, SeqCst);
    }

    fn restarted(&self, _: &'static str) {
        self.restarted.fetch_add(1, SeqCst);
    }

    fn slept(&self, _: &'static str) {
        self.slept.fetch_add(1, SeqCst);
    }

    fn stopped(&self, _: &'static str) {
        self.stopped.fetch_add(1, SeqCst);
    }

    fn crashed(&self, _: &'static str) {
        self.crashed.fetch_add(1, SeqCst);
    }

    fn contained(&self, _: &'static str) {
        self.contained.fetch_add(1, SeqCst);
    }

    fn mailbox_full(&self, _: &'static str) {
        self.full.fetch_add(1, SeqCst);
    }

    fn mailbox_depth(&self, _: &'static str, depth: usize) {
        self.deepest.fetch_max(depth, SeqCst);
    }

    fn lost(&self, _: &'static str, messages: usize) {
        self.lost.fetch_add(messages, SeqCst);
    }
}

/// A directory of ledgers with everything a test looks at.
pub struct House {
    pub directory: Directory<Ledgers>,
    pub journal: Arc<Journal>,
    pub counts: Arc<Counts>,
}

/// Says that what began at `began` took `expected`, as exactly as timers are: each rounds up to a millisecond.
#[track_caller]
pub fn took(began: Instant, expected: Duration) {
    let elapsed = began.elapsed();
    assert!((expected..=expected + 4 * MILLISECOND).contains(&elapsed), "{elapsed:?} is not {expected:?}");
}

const MILLISECOND: Duration = Duration::from_millis(1);

pub const SETTINGS: Settings = Settings {
    live_max: 100,
    idle_after: Duration::from_secs(60),
    start_limit: Duration::from_secs(5),
    backoff_min: Duration::from_millis(100),
    backoff_max: Duration::from_secs(1),
    crashes_max: 3,
    steady_after: Duration::from_secs(30),
};

impl House {
    /// On the test's own thread, whose time is paused for the actors too.
    pub fn here(settings: Settings) -> Self {
        Self::on(Workers::here().unwrap(), settings)
    }

    pub fn on(workers: Workers, settings: Settings) -> Self {
        let (journal, counts) = (Arc::<Journal>::default(), Arc::<Counts>::default());
        let observer: Arc<dyn Observer> = Arc::<Counts>::clone(&counts);
        let directory = Directory::new(Ledgers(Arc::clone(&journal)), settings, workers, observer);
        Self { directory, journal, counts }
    }

    pub async fn numbers(&self, id: RoomId) -> Vec<u32> {
        self.directory.send(id, Read, SOON).await.unwrap()
    }
}
