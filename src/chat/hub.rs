//! One per worker: the sockets the worker owns, and who of them wants to hear of which topic.
//!
//! Other threads send a hub one message per delivery; it writes straight to its sockets. Everything in here belongs to one thread
//! and is never held across an await.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::encoded::{Class, Encoded};
use super::frame::{self, Opcode};
use super::goodbye::Goodbye;
use super::order::{Cutover, Offered, Order, Weighed};
use super::seam::{Delivery, Topic};
use super::socket::{Phase, Socket, Written};
use super::tally::Tally;
use super::wheel::Wheel;
use super::wire;

/// Messages that wait for a worker: some hundred milliseconds of its work. When full, hints are dropped and whoever has an
/// entry waits.
pub(super) const HUB_LEN_MAX: usize = 8_192;
/// Sockets that are written to before others of the thread have their turn: about half a millisecond.
const SLICE: usize = 128;
/// Ticks the peer has to answer a close frame.
pub(super) const CLOSE_LIMIT_TICKS: u32 = 5;
/// Sockets of a worker that are said goodbye at once when the node leaves, and the pause before the next.
const DRAIN_BATCH: usize = 500;
const DRAIN_PAUSE: Duration = Duration::from_millis(100);
/// A device that has less than this before it has room for another page of a replay.
const ROOM_BYTES: usize = 64 << 10;

/// Which socket of a worker; a place that was used again is another socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SocketKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What a hub is told.
#[derive(Debug)]
pub(super) enum ToHub {
    Deliver(Delivery),
    Top { topic: Topic, seq: u64 },
    Socket(SocketKey, ToSocket),
    Drain,
}

/// What one socket is told.
#[derive(Debug)]
pub(super) enum ToSocket {
    Push { class: Class, slot: Option<u64>, message: Encoded },
    Subscribe { topic: Topic, next: u64 },
    Unsubscribe { topic: Topic },
    Replay { topic: Topic, entries: Vec<(u64, Encoded)> },
    Cutover { topic: Topic, top: u64, answer: oneshot::Sender<Cutover> },
    Room { answer: oneshot::Sender<()> },
    Goodbye(Goodbye),
}

/// An entry that is held back while a replay runs.
#[derive(Debug)]
struct Held(Class, Encoded);

impl Weighed for Held {
    fn len_bytes(&self) -> usize {
        self.1.payload().len()
    }
}

/// One socket's interest in a topic.
struct Interest {
    socket: Rc<Socket>,
    order: Order<Held>,
}

/// The hub of one worker.
pub(super) struct Hub {
    pub(super) door: Arc<Shared>,
    pub(super) sender: mpsc::Sender<ToHub>,
    sockets: RefCell<Slab<Rc<Socket>>>,
    /// Places stay where they are, so a delivery in slices misses nobody.
    topics: RefCell<HashMap<Topic, Slab<Interest>>>,
    wheel: RefCell<Wheel<SocketKey>>,
    generation: Cell<u32>,
    pub(super) tally: Tally,
}

impl Hub {
    /// Starts the hub of this thread.
    pub(super) fn start(door: Arc<Shared>) -> Rc<Hub> {
        let (sender, receiver) = mpsc::channel(HUB_LEN_MAX);
        door.add_hub(sender.clone());
        let hub = Rc::new(Hub {
            tally: Tally::new(&door.metrics),
            door,
            sender,
            sockets: RefCell::default(),
            topics: RefCell::default(),
            wheel: RefCell::default(),
            generation: Cell::new(0),
        });
        actix_rt::spawn(hub.clone().hear(receiver));
        actix_rt::spawn(hub.clone().tick());
        hub
    }

    async fn hear(self: Rc<Self>, mut receiver: mpsc::Receiver<ToHub>) {
        while let Some(told) = receiver.recv().await {
            // What made one message fail is not to take every socket of the worker with it; a delivery that was lost by it
            // is noticed by the sequence of the next.
            if AssertUnwindSafe(self.hear_one(told)).catch_unwind().await.is_err() {
                self.failed();
            }
        }
    }

    async fn hear_one(self: &Rc<Self>, told: ToHub) {
        match told {
            ToHub::Deliver(delivery) => self.deliver(&delivery).await,
            ToHub::Top { topic, seq } => self.compare_top(topic, seq),
            ToHub::Socket(key, told) => {
                if let Some(socket) = self.socket(key) {
                    self.tell(&socket, told);
                }
            }
            ToHub::Drain => drop(actix_rt::spawn(self.clone().drain())),
        }
    }

    fn failed(&self) {
        self.door.metrics.ws_worker_panics.inc();
        tracing::error!("a worker of the WebSocket door failed over one message and goes on");
    }

    /// A place for a new socket.
    pub(super) fn add(&self, make: impl FnOnce(SocketKey) -> Socket) -> Rc<Socket> {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        let mut sockets = self.sockets.borrow_mut();
        let place = sockets.vacant_entry();
        let index = u32::try_from(place.key()).expect("a process has fewer files than that");
        let socket = Rc::new(make(SocketKey { index, generation }));
        place.insert(socket.clone());
        socket
    }

    /// The socket has ended: forgets it and all its interests.
    pub(super) fn remove(&self, socket: &Socket) {
        for (topic, place) in socket.topics.take() {
            self.lose_interest(topic, place);
        }
        self.sockets.borrow_mut().try_remove(socket.key.index as usize);
    }

    fn socket(&self, key: SocketKey) -> Option<Rc<Socket>> {
        let sockets = self.sockets.borrow();
        sockets.get(key.index as usize).filter(|socket| socket.key == key).cloned()
    }

    /// The tick the wheel stands at.
    pub(super) fn now(&self) -> u32 {
        self.wheel.borrow().now()
    }

    /// Looks at the socket again at the tick `due`, and not before.
    pub(super) fn arm(&self, socket: &Socket, due: u32) {
        socket.armed.set(self.wheel.borrow_mut().put(due, socket.key));
    }

    async fn tick(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(self.door.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let due = self.wheel.borrow_mut().turn();
            let now = self.now();
            for slice in due.chunks(SLICE) {
                for socket in slice.iter().filter_map(|key| self.socket(*key)) {
                    if socket.armed.get() == now
                        && catch_unwind(AssertUnwindSafe(|| self.is_due(&socket, now))).is_err()
                    {
                        self.failed();
                    }
                }
                tokio::task::yield_now().await;
            }
            self.tally.flush(&self.door.metrics);
        }
    }

    fn is_due(&self, socket: &Socket, now: u32) {
        match socket.phase.get() {
            Phase::Connecting => self.goodbye(socket, Goodbye::ProtocolError),
            Phase::Opening => self.goodbye(socket, Goodbye::InsufficientState),
            Phase::Closing => socket.die(),
            Phase::Dead => {}
            Phase::Open if now >= socket.expires_at.get() => self.goodbye(socket, Goodbye::TokenExpired),
            Phase::Open => {
                if now >= socket.ping_at.get() {
                    if socket.unheard.replace(true) {
                        return self.goodbye(socket, Goodbye::PingTimeout);
                    }
                    socket.ping_at.set(now + self.door.config.ping_ticks());
                    self.write(socket, Class::Durable, None, &PING);
                }
                self.arm(socket, socket.ping_at.get().min(socket.expires_at.get()));
            }
        }
    }

    /// Says something to a socket: straight, or through its outbox when it takes nothing.
    pub(super) fn send(&self, socket: &Socket, class: Class, slot: Option<u64>, message: &Encoded) {
        let open = socket.phase.get() == Phase::Open;
        if open || (class == Class::Durable && socket.phase.get().is_before_open()) {
            self.write(socket, class, slot, message.bytes(socket.deflate));
        }
    }

    pub(super) fn write(&self, socket: &Socket, class: Class, slot: Option<u64>, frame: &Bytes) {
        self.tally.frames_out.add(1);
        match socket.write(class, slot, frame, &self.tally) {
            Written::Sent | Written::Queued => {}
            Written::Overflow => self.goodbye(socket, Goodbye::SlowConsumer),
            Written::Broken => socket.die(),
        }
    }

    /// Gives the socket what waits for it.
    pub(super) fn flush(&self, socket: &Socket) -> std::io::Result<()> {
        let flushed = socket.flush(&self.tally);
        if socket.outbox.borrow().bytes() < ROOM_BYTES {
            for answer in socket.wants_room.take() {
                // Whoever asked may have stopped waiting.
                let _: Result<(), ()> = answer.send(());
            }
        }
        flushed
    }

    /// Says why, numbered, and closes with the same number.
    pub(super) fn goodbye(&self, socket: &Socket, goodbye: Goodbye) {
        self.leave(socket, goodbye, goodbye.code(), goodbye.reason());
    }

    /// Says why and closes with a status of the WebSocket protocol itself.
    pub(super) fn leave(&self, socket: &Socket, goodbye: Goodbye, status: u16, reason: &str) {
        if matches!(socket.phase.get(), Phase::Closing | Phase::Dead) {
            return;
        }
        self.door.metrics.ws_goodbyes.with_label_values(&[goodbye.label()]).inc();
        let words = wire::goodbye(goodbye, goodbye.after_ms(self.door.random()));
        let words = [words.bytes(socket.deflate).clone(), frame::encode_close(status, reason)];
        self.tally.frames_out.add(2);
        // Who takes nothing hears why, when it wakes, and not what waited: that is there when it is back.
        let at_once = matches!(goodbye, Goodbye::SlowConsumer | Goodbye::PingTimeout);
        socket.close(words, at_once, &self.tally);
        self.arm(socket, self.now() + CLOSE_LIMIT_TICKS);
    }

    fn tell(&self, socket: &Rc<Socket>, told: ToSocket) {
        match told {
            ToSocket::Push { class, slot, message } => self.send(socket, class, slot, &message),
            ToSocket::Subscribe { topic, next } => self.gain_interest(socket, topic, next),
            ToSocket::Unsubscribe { topic } => {
                let place = socket.topics.borrow().iter().position(|(known, _)| *known == topic);
                if let Some(at) = place {
                    let (_, place) = socket.topics.borrow_mut().swap_remove(at);
                    self.lose_interest(topic, place);
                }
            }
            ToSocket::Replay { topic, mut entries } => {
                // The topic is looked up once for the page: a device may follow thousands.
                let replaying =
                    self.with_order(socket, topic, |order| entries.retain(|(seq, _)| order.replayed(*seq)));
                if replaying.is_some() {
                    for (_, message) in &entries {
                        self.send(socket, Class::Durable, None, message);
                    }
                }
            }
            ToSocket::Cutover { topic, top, answer } => {
                let mut merged = Vec::new();
                let cutover = self.with_order(socket, topic, |order| {
                    order.cutover(top, |_, Held(class, message)| merged.push((class, message)))
                });
                for (class, message) in merged {
                    self.send(socket, class, None, &message);
                }
                // Whoever asked may have stopped waiting.
                let _: Result<(), Cutover> = answer.send(cutover.unwrap_or(Cutover::NotReplaying));
            }
            ToSocket::Room { answer } => {
                if socket.outbox.borrow().bytes() < ROOM_BYTES {
                    let _: Result<(), ()> = answer.send(());
                } else if socket.phase.get() == Phase::Open {
                    socket.wants_room.borrow_mut().push(answer);
                }
            }
            ToSocket::Goodbye(goodbye) => self.goodbye(socket, goodbye),
        }
    }

    fn gain_interest(&self, socket: &Rc<Socket>, topic: Topic, next: u64) {
        if matches!(socket.phase.get(), Phase::Closing | Phase::Dead) {
            return;
        }
        if self.with_order(socket, topic, |order| *order = Order::replaying(next)).is_some() {
            return;
        }
        let mut topics = self.topics.borrow_mut();
        let interest = Interest { socket: socket.clone(), order: Order::replaying(next) };
        let place = topics.entry(topic).or_default().insert(interest);
        socket.topics.borrow_mut().push((topic, place));
    }

    fn lose_interest(&self, topic: Topic, place: usize) {
        let mut topics = self.topics.borrow_mut();
        if let Some(interests) = topics.get_mut(&topic) {
            interests.try_remove(place);
            if interests.is_empty() {
                topics.remove(&topic);
            }
        }
    }

    fn with_order<T>(
        &self,
        socket: &Socket,
        topic: Topic,
        with: impl FnOnce(&mut Order<Held>) -> T,
    ) -> Option<T> {
        let place = socket.topics.borrow().iter().find(|(known, _)| *known == topic)?.1;
        let mut topics = self.topics.borrow_mut();
        Some(with(&mut topics.get_mut(&topic)?.get_mut(place)?.order))
    }

    /// Writes to all who are interested, in slices. Whoever comes while it runs subscribed after the entry was committed and
    /// finds it in the log; whoever was there keeps its place.
    async fn deliver(&self, delivery: &Delivery) {
        let (mut from, mut holes, mut broken) = (0, Vec::new(), Vec::new());
        loop {
            let end = from + SLICE;
            let whole = {
                let mut topics = self.topics.borrow_mut();
                let Some(interests) = topics.get_mut(&delivery.topic) else { return };
                let whole = interests.capacity();
                for place in from..end.min(whole) {
                    let Some(Interest { socket, order }) = interests.get_mut(place) else { continue };
                    if let Some(except) = &delivery.except
                        && socket.user().is_some_and(|user| except.binary_search(&user).is_ok())
                    {
                        continue;
                    }
                    let held = || Held(delivery.class, delivery.message.clone());
                    match delivery.seq.map_or(Offered::Send, |seq| order.offer(seq, held)) {
                        Offered::Send if socket.phase.get() == Phase::Open => {
                            self.tally.frames_out.add(1);
                            let frame = delivery.message.bytes(socket.deflate);
                            match socket.write(delivery.class, delivery.slot, frame, &self.tally) {
                                Written::Sent | Written::Queued => {}
                                Written::Overflow => {
                                    broken.push((socket.clone(), Some(Goodbye::SlowConsumer)))
                                }
                                Written::Broken => broken.push((socket.clone(), None)),
                            }
                        }
                        Offered::Hole { next } => holes.push((socket.clone(), next)),
                        Offered::Send | Offered::Repeat | Offered::Held => {}
                    }
                }
                whole
            };
            for (socket, goodbye) in broken.drain(..) {
                match goodbye {
                    Some(goodbye) => self.goodbye(&socket, goodbye),
                    None => socket.die(),
                }
            }
            for (socket, next) in holes.drain(..) {
                self.tell_of_hole(&socket, delivery.topic, next);
            }
            if end >= whole {
                if delivery.seq.is_some() {
                    self.door.metrics.ws_delivery_duration.observe(delivery.message.age().as_secs_f64());
                }
                return;
            }
            from = end;
            tokio::task::yield_now().await;
        }
    }

    fn compare_top(&self, topic: Topic, seq: u64) {
        let mut holes = Vec::new();
        if let Some(interests) = self.topics.borrow_mut().get_mut(&topic) {
            for (_, Interest { socket, order }) in interests.iter_mut() {
                if let Some(next) = order.known_top(seq) {
                    holes.push((socket.clone(), next));
                }
            }
        }
        for (socket, next) in holes {
            self.tell_of_hole(&socket, topic, next);
        }
    }

    fn tell_of_hole(&self, socket: &Socket, topic: Topic, next: u64) {
        self.door.metrics.ws_holes.inc();
        if let (Some(device), Phase::Open) = (socket.handle.get(), socket.phase.get()) {
            self.door.deciders.hole(device, topic, next);
        }
    }

    async fn drain(self: Rc<Self>) {
        let all: Vec<_> = self.sockets.borrow().iter().map(|(_, socket)| socket.key).collect();
        for batch in all.chunks(DRAIN_BATCH) {
            for socket in batch.iter().filter_map(|key| self.socket(*key)) {
                self.goodbye(&socket, Goodbye::Drain);
            }
            tokio::time::sleep(DRAIN_PAUSE).await;
        }
    }
}

/// An unmasked ping without a payload is the same for everybody.
static PING: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| frame::encode(Opcode::Ping, b""));
