//! The relay: what was committed, here or on another node, on its way to the sockets of this node.
//!
//! One task of a node, which alone holds the state: for every conversation somebody on this node follows, an [`Order`]. What the
//! journal committed, what the bus says and what is read from the log where something is missing meet there and leave in
//! sequence. The bus only makes it quick: after a gap on it, after every subscription, and every [`COMPARE_EVERY`] in any case, the
//! relay asks the log how far it has come, and reads what it did not hear of. A conversation nobody here follows is not held at all.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use nova_actors::conversation::order::{Missing, Order};
use nova_actors::conversation::sample::Sampler;
use nova_actors::conversation::{Entry, EntryKind, Seq, Top};
use nova_actors::id::{ConversationId, NodeId, UserId};
use nova_actors::port::{self, Bus, BusEvent, MessageLog};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::blocks::Blocks;
use super::talk::Following;
use crate::chat::Door;
use crate::chat::encoded::{Class, Encoded};
use crate::chat::seam::{Delivery, DeviceHandle, Topic};
use crate::chat::wire::{self, Push};
use crate::journal::{Committed, Journal};
use crate::telemetry::Metrics;

/// What may wait for the relay. When full, what was committed is not told but found by comparing, as soon as there is room again.
const RELAY_LEN_MAX: usize = 16_384;
/// What may wait for the bus. When full, the other nodes find it by comparing.
const OUTGOING_LEN_MAX: usize = 16_384;
/// How often the log is asked how far the followed conversations have come.
pub const COMPARE_EVERY: Duration = Duration::from_secs(20);
/// Conversations asked for in one statement.
const COMPARE_LEN: usize = 1_000;
/// Entries read at once where some are missing.
const READ_LEN: u32 = 200;
/// New members that may wait to be looked after; whoever is further behind looks after everybody.
const JOINED_LEN_MAX: usize = 1_024;
/// How long after a failed subscription it is tried again; meanwhile comparing finds what happens.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// The way to the relay. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    told: mpsc::Sender<Told>,
    outgoing: mpsc::Sender<(port::Topic, Bytes)>,
    /// Something did not fit: everything is to be compared.
    lost: Arc<AtomicBool>,
    following: Arc<Following>,
    /// Who became a member of something: their devices are to follow it.
    joined: broadcast::Sender<UserId>,
    /// Between whom a block came or went.
    blocked: broadcast::Sender<Blocked>,
    blocks: Blocks,
    door: Arc<OnceLock<Door>>,
    node: NodeId,
}

/// Between whom a block came or went; `None` when it may be anybody.
pub type Blocked = Option<(UserId, UserId)>;

/// What the relay is told.
enum Told {
    Committed(Vec<Arc<Entry>>),
    Reached(ConversationId, Top),
    Follow { conversation: ConversationId, top: Seq, is_live: bool },
    Unfollow { conversation: ConversationId },
    Heard(About, BusEvent),
    Read { conversation: ConversationId, missing: Missing, found: Option<nova_actors::conversation::Range> },
    Tops(Vec<(ConversationId, Top)>),
    Left { conversation: ConversationId, user: UserId, seq: Seq },
}

/// What nodes tell each other of one conversation.
#[derive(Serialize, Deserialize)]
struct Said {
    node: NodeId,
    #[serde(flatten)]
    what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum What {
    Entry {
        epoch: u32,
        seq: Seq,
        kind: i16,
        sender: UserId,
        at_ms: i64,
        client_msg_id: Arc<str>,
        body: Arc<str>,
        visible_to: Option<Arc<[UserId]>>,
    },
    Receipt {
        user: UserId,
        delivered: Option<Seq>,
        read: Option<Seq>,
        hidden_from: Arc<[UserId]>,
    },
    Typing {
        user: UserId,
        on: bool,
        hidden_from: Arc<[UserId]>,
    },
    Blocked {
        one: UserId,
        other: UserId,
    },
    Left {
        conversation: ConversationId,
        user: UserId,
        seq: Seq,
    },
    Joined {
        users: Vec<UserId>,
    },
}

impl Relay {
    /// Starts the relay on the current runtime; `door` is set before the first socket is let in.
    pub fn start(
        node: NodeId,
        bus: Arc<dyn Bus>,
        journal: OnceLockJournal,
        door: Arc<OnceLock<Door>>,
        blocks: Blocks,
        metrics: Metrics,
    ) -> Relay {
        let (told, hears) = mpsc::channel(RELAY_LEN_MAX);
        let (outgoing, publishes) = mpsc::channel(OUTGOING_LEN_MAX);
        let joined = broadcast::Sender::new(JOINED_LEN_MAX);
        let blocked = broadcast::Sender::new(JOINED_LEN_MAX);
        let relay = Relay {
            told,
            outgoing,
            lost: Arc::default(),
            following: Arc::default(),
            joined,
            blocked,
            blocks,
            door,
            node,
        };
        let state = State {
            node,
            bus: bus.clone(),
            journal,
            door: relay.door.clone(),
            followed: HashMap::new(),
            told: relay.told.downgrade(),
            lost: relay.lost.clone(),
            following: relay.following.clone(),
            joined: relay.joined.clone(),
            blocked: relay.blocked.clone(),
            blocks: relay.blocks.clone(),
            metrics,
            reads: JoinSet::new(),
        };
        tokio::spawn(state.run(hears));
        tokio::spawn(subscribe(bus.clone(), About::Members, relay.told.downgrade()));
        tokio::spawn(publish(bus, publishes));
        relay
    }

    /// Who follows what on this node.
    pub(super) fn following(&self) -> Arc<Following> {
        self.following.clone()
    }

    /// Hears who became a member of something, on whichever node. Who hears `Lagged` looks after everybody.
    pub(super) fn hear_joined(&self) -> broadcast::Receiver<UserId> {
        self.joined.subscribe()
    }

    /// Hears between whom a block came or went, on whichever node.
    pub fn hear_blocked(&self) -> broadcast::Receiver<Blocked> {
        self.blocked.subscribe()
    }

    /// Somebody on this node follows a conversation, which had come to `top` before; what comes after goes to the sockets.
    pub async fn follow(&self, conversation: ConversationId, top: Seq) {
        // The relay ends with the node.
        let _ended = self.told.send(Told::Follow { conversation, top, is_live: false }).await.is_err();
    }

    /// As [`Self::follow`], for the chat of a stream: a sample of what is said goes to the sockets that can take it.
    pub async fn follow_live(&self, conversation: ConversationId, top: Seq) {
        let _ended = self.told.send(Told::Follow { conversation, top, is_live: true }).await.is_err();
    }

    /// Somebody does not follow it any more; once for every [`Self::follow`].
    pub async fn unfollow(&self, conversation: ConversationId) {
        let _ended = self.told.send(Told::Unfollow { conversation }).await.is_err();
    }

    /// How far somebody has come, for everybody who follows on any node. A hint: it may be lost.
    pub fn receipt(
        &self,
        of: ConversationId,
        user: UserId,
        delivered: Option<Seq>,
        read: Option<Seq>,
        hidden_from: Arc<[UserId]>,
    ) {
        if let Some(door) = self.door.get() {
            show_receipt(door, of, user, delivered, read, hidden_from.clone());
        }
        self.say(of, What::Receipt { user, delivered, read, hidden_from });
    }

    /// Somebody writes, or stopped, for everybody who follows on any node. A hint: it may be lost.
    pub fn typing(&self, of: ConversationId, user: UserId, on: bool, hidden_from: Arc<[UserId]>) {
        if let Some(door) = self.door.get() {
            show_typing(door, of, user, on, &hidden_from);
        }
        self.say(of, What::Typing { user, on, hidden_from });
    }

    fn say(&self, of: ConversationId, what: What) {
        self.say_on(topic(of), what);
    }

    fn say_on(&self, topic: port::Topic, what: What) {
        let payload =
            serde_json::to_vec(&Said { node: self.node, what }).expect("what is said is texts and numbers");
        // When full, entries are found by comparing; hints are hints.
        let _full = self.outgoing.try_send((topic, payload.into())).is_err();
    }

    fn tell(&self, told: Told) {
        if self.told.try_send(told).is_err() {
            self.lost.store(true, Ordering::SeqCst);
        }
    }
}

/// The journal, which is made after the relay it tells.
pub type OnceLockJournal = Arc<OnceLock<Journal>>;

impl Committed for Relay {
    fn committed(&self, entries: Vec<Arc<Entry>>) {
        for entry in &entries {
            self.say(entry.conversation, said(entry));
        }
        self.tell(Told::Committed(entries));
    }

    fn reached(&self, conversation: ConversationId, top: Top) {
        self.tell(Told::Reached(conversation, top));
    }

    fn joined(&self, users: &[UserId]) {
        for user in users {
            // Nobody listening is no error.
            let _nobody = self.joined.send(*user).is_err();
        }
        for users in users.chunks(JOINED_LEN_MAX) {
            self.say_on(members_topic(), What::Joined { users: users.to_vec() });
        }
    }

    fn left(&self, conversation: ConversationId, user: UserId, seq: Seq) {
        self.tell(Told::Left { conversation, user, seq });
        self.say_on(members_topic(), What::Left { conversation, user, seq });
    }

    fn read(&self, conversation: ConversationId, user: UserId, seq: Seq, hidden_from: Arc<[UserId]>) {
        self.receipt(conversation, user, None, Some(seq), hidden_from);
    }

    fn blocked(&self, one: UserId, other: UserId) {
        self.blocks.forget(one, other);
        // Nobody listening is no error.
        let _nobody = self.blocked.send(Some((one, other))).is_err();
        self.say_on(members_topic(), What::Blocked { one, other });
    }
}

/// Where nodes tell each other who came and went.
fn members_topic() -> port::Topic {
    port::Topic::new("members").expect("a word is a name on the bus")
}

/// What is heard of on the bus.
#[derive(Clone, Copy)]
enum About {
    Conversation(ConversationId),
    Members,
}

fn topic(of: ConversationId) -> port::Topic {
    port::Topic::new(of.to_string()).expect("an id is a name on the bus")
}

fn said(entry: &Entry) -> What {
    What::Entry {
        epoch: entry.epoch,
        seq: entry.seq,
        kind: entry.kind.number(),
        sender: entry.sender,
        at_ms: (entry.at.unix_timestamp_nanos() / 1_000_000) as i64,
        client_msg_id: entry.client_msg_id.clone(),
        body: entry.body.clone(),
        visible_to: entry.visible_to.clone(),
    }
}

async fn publish(bus: Arc<dyn Bus>, mut publishes: mpsc::Receiver<(port::Topic, Bytes)>) {
    while let Some((topic, payload)) = publishes.recv().await {
        if let Err(error) = bus.publish(&topic, payload).await {
            tracing::debug!(%topic, %error, "not told to the other nodes; they find it by comparing");
        }
    }
}

struct Followed {
    order: Order<Arc<Entry>>,
    /// In the chat of a stream: what of it is shown.
    live: Option<Sampler>,
    followers: usize,
    /// Who is taken out once the entry that tells of it was shown.
    leaving: Vec<(Seq, UserId)>,
    subscription: AbortHandle,
}

struct State {
    node: NodeId,
    bus: Arc<dyn Bus>,
    journal: OnceLockJournal,
    door: Arc<OnceLock<Door>>,
    followed: HashMap<ConversationId, Followed>,
    told: mpsc::WeakSender<Told>,
    lost: Arc<AtomicBool>,
    following: Arc<Following>,
    joined: broadcast::Sender<UserId>,
    blocked: broadcast::Sender<Blocked>,
    blocks: Blocks,
    metrics: Metrics,
    /// Reads and comparisons under way; they end with the relay.
    reads: JoinSet<()>,
}

impl State {
    async fn run(mut self, mut hears: mpsc::Receiver<Told>) {
        let mut compare = interval(COMPARE_EVERY);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                told = hears.recv() => match told {
                    Some(told) => {
                        // What made one message fail is not to take live delivery from everybody: whatever was lost with
                        // it is found by comparing.
                        if AssertUnwindSafe(self.hear(told)).catch_unwind().await.is_err() {
                            tracing::error!("the relay failed over one message and goes on");
                            self.lost.store(true, Ordering::SeqCst);
                        }
                    }
                    None => break,
                },
                _ = compare.tick() => self.compare_all(),
                Some(_) = self.reads.join_next() => {}
            }
            if self.lost.swap(false, Ordering::SeqCst) {
                self.compare_all();
            }
        }
        for followed in self.followed.values() {
            followed.subscription.abort();
        }
    }

    async fn hear(&mut self, told: Told) {
        match told {
            Told::Committed(entries) => {
                for entry in entries {
                    self.offer(entry).await;
                }
            }
            Told::Reached(conversation, top) => self.heard_of(conversation, top).await,
            Told::Follow { conversation, top, is_live } => self.follow(conversation, top, is_live),
            Told::Unfollow { conversation } => self.unfollow(conversation),
            Told::Heard(about, BusEvent::Message(payload)) => self.heard(about, &payload).await,
            Told::Heard(about, BusEvent::Gap) => self.look_again(about),
            Told::Left { conversation, user, seq } => self.leave(conversation, user, seq).await,
            Told::Read { conversation, missing, found } => self.read(conversation, missing, found).await,
            Told::Tops(tops) => {
                for (conversation, top) in tops {
                    self.heard_of(conversation, top).await;
                }
            }
        }
    }

    fn follow(&mut self, conversation: ConversationId, top: Seq, is_live: bool) {
        if let Some(followed) = self.followed.get_mut(&conversation) {
            followed.followers += 1;
            return;
        }
        let about = About::Conversation(conversation);
        let subscription = tokio::spawn(subscribe(self.bus.clone(), about, self.told.clone())).abort_handle();
        let live = is_live.then(|| Sampler::new(tokio::time::Instant::now()));
        let order = Order::after(top);
        let followed = Followed { order, live, followers: 1, leaving: Vec::new(), subscription };
        self.followed.insert(conversation, followed);
    }

    fn unfollow(&mut self, conversation: ConversationId) {
        let Some(followed) = self.followed.get_mut(&conversation) else { return };
        followed.followers -= 1;
        if followed.followers == 0 {
            followed.subscription.abort();
            self.followed.remove(&conversation);
        }
    }

    /// Something was said that nobody here heard; it stands in the log, or in the list of members.
    fn look_again(&mut self, about: About) {
        match about {
            About::Conversation(conversation) => self.compare(vec![conversation]),
            About::Members => {
                let users: HashSet<_> = self
                    .door
                    .get()
                    .map(Door::devices)
                    .unwrap_or_default()
                    .iter()
                    .map(DeviceHandle::user)
                    .collect();
                for user in users {
                    let _nobody = self.joined.send(user).is_err();
                }
                self.blocks.forget_all();
                let _nobody = self.blocked.send(None).is_err();
            }
        }
    }

    async fn heard(&mut self, about: About, payload: &[u8]) {
        let Ok(said) = serde_json::from_slice::<Said>(payload) else {
            // From a node of another version.
            tracing::warn!("something on the bus could not be read");
            return self.look_again(about);
        };
        // What this node said itself it has told its sockets already.
        if said.node == self.node {
            return;
        }
        let Some(door) = self.door.get() else { return };
        match (about, said.what) {
            (
                About::Conversation(of),
                What::Entry { epoch, seq, kind, sender, at_ms, client_msg_id, body, visible_to },
            ) => {
                let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
                let (Some(kind), Ok(at)) = (EntryKind::from_number(kind), at) else {
                    return self.look_again(about);
                };
                let entry =
                    Entry { conversation: of, epoch, seq, kind, sender, at, client_msg_id, body, visible_to };
                self.offer(Arc::new(entry)).await;
            }
            (About::Conversation(of), What::Receipt { user, delivered, read, hidden_from }) => {
                show_receipt(door, of, user, delivered, read, hidden_from);
            }
            (About::Conversation(of), What::Typing { user, on, hidden_from }) => {
                show_typing(door, of, user, on, &hidden_from);
            }
            (_, What::Blocked { one, other }) => {
                self.blocks.forget(one, other);
                let _nobody = self.blocked.send(Some((one, other))).is_err();
            }
            (_, What::Joined { users }) => {
                for user in users {
                    let _nobody = self.joined.send(user).is_err();
                }
            }
            (_, What::Left { conversation, user, seq }) => self.leave(conversation, user, seq).await,
            (About::Members, _) => tracing::warn!("something was said where it does not belong"),
        }
    }

    /// `user` is out of a conversation; what tells of it, `seq`, is the last they are shown.
    async fn leave(&mut self, conversation: ConversationId, user: UserId, seq: Seq) {
        let Some(followed) = self.followed.get_mut(&conversation) else { return };
        followed.leaving.push((seq, user));
        followed.order.heard_of(seq);
        self.show(conversation, Vec::new()).await;
    }

    async fn let_go(&mut self, conversation: ConversationId) {
        let (Some(followed), Some(door)) = (self.followed.get_mut(&conversation), self.door.get()) else {
            return;
        };
        let last = followed.order.last();
        let gone: Vec<_> = followed.leaving.extract_if(.., |(seq, _)| *seq <= last).collect();
        let mut unfollowed = 0;
        for (_, user) in gone {
            for device in door.devices_of(user) {
                if self.following.remove(device.session(), conversation) {
                    // Gone already is as good.
                    let _gone = device.unsubscribe(conversation.into()).await.is_err();
                    unfollowed += 1;
                }
            }
        }
        for _ in 0..unfollowed {
            self.unfollow(conversation);
        }
    }

    async fn offer(&mut self, entry: Arc<Entry>) {
        let conversation = entry.conversation;
        let Some(followed) = self.followed.get_mut(&conversation) else { return };
        let mut out = Vec::new();
        followed.order.offer(entry.seq, entry, &mut out);
        self.show(conversation, out).await;
    }

    async fn heard_of(&mut self, conversation: ConversationId, top: Top) {
        let Some(followed) = self.followed.get_mut(&conversation) else { return };
        followed.order.heard_of(top.seq);
        self.show(conversation, Vec::new()).await;
    }

    async fn read(
        &mut self,
        conversation: ConversationId,
        missing: Missing,
        found: Option<nova_actors::conversation::Range>,
    ) {
        let Some(followed) = self.followed.get_mut(&conversation) else { return };
        let Some(found) = found else {
            // Comparing comes back to it.
            return followed.order.not_read();
        };
        let mut out = Vec::new();
        let whole = found.entries.len() < READ_LEN as usize;
        let last = found.entries.last().map_or(missing.after, |entry| entry.seq);
        let through = if whole { last.max(missing.to.min(found.top.seq)) } else { last };
        let entries = found.entries.into_iter().map(|entry| (entry.seq, Arc::new(entry)));
        followed.order.read(entries, through, &mut out);
        self.show(conversation, out).await;
    }

    /// Gives the sockets what may go, and has read what is missing.
    async fn show(&mut self, conversation: ConversationId, entries: Vec<Arc<Entry>>) {
        if let Some(door) = self.door.get() {
            let mut live = self.followed.get_mut(&conversation).and_then(|followed| followed.live.as_mut());
            for entry in entries {
                if let Some(sampler) = &mut live {
                    // What moderators do is not left out by us; a socket that is too far behind loses it with the rest.
                    let must = matches!(entry.kind, EntryKind::Delete | EntryKind::Live);
                    // A place that is for some only is for nobody here: viewers are told one by one nowhere.
                    let shows =
                        entry.visible_to.is_none() && sampler.shows(tokio::time::Instant::now(), must);
                    if !shows || door.try_deliver(&live_delivery(&entry)).is_err() {
                        self.metrics.live_entries_left_out.inc();
                    }
                } else if entry.visible_to.is_some() {
                    // Not the same for everybody: every socket reads it as its user may see it.
                    door.announce_top(Topic::from(conversation), entry.seq).await;
                } else {
                    door.deliver(delivery(&entry)).await;
                }
            }
        }
        self.let_go(conversation).await;
        let missing = self.followed.get_mut(&conversation).and_then(|followed| followed.order.missing());
        let (Some(missing), Some(journal)) = (missing, self.journal.get().cloned()) else { return };
        let told = self.told.clone();
        self.reads.spawn(async move {
            let found = journal.range(conversation, missing.after, READ_LEN).await;
            let found =
                found.map_err(|error| tracing::warn!(%error, "missing entries were not read")).ok().flatten();
            if let Some(told) = told.upgrade() {
                let _ended = told.send(Told::Read { conversation, missing, found }).await.is_err();
            }
        });
    }

    fn compare_all(&mut self) {
        let all: Vec<_> = self.followed.keys().copied().collect();
        for some in all.chunks(COMPARE_LEN) {
            self.compare(some.to_vec());
        }
    }

    fn compare(&mut self, of: Vec<ConversationId>) {
        let (told, Some(journal)) = (self.told.clone(), self.journal.get().cloned()) else { return };
        self.reads.spawn(async move {
            match journal.tops(&of).await {
                Ok(tops) => {
                    if let Some(told) = told.upgrade() {
                        let _ended = told.send(Told::Tops(tops)).await.is_err();
                    }
                }
                Err(error) => tracing::warn!(%error, "conversations were not compared with the log"),
            }
        });
    }
}

/// Hears of something on the bus, for as long as the relay wants it. What was said before the subscription stood, or was lost, is a gap.
async fn subscribe(bus: Arc<dyn Bus>, about: About, told: mpsc::WeakSender<Told>) {
    let topic = match about {
        About::Conversation(conversation) => topic(conversation),
        About::Members => members_topic(),
    };
    loop {
        match bus.subscribe(&topic).await {
            Ok(mut subscription) => {
                let mut event = Some(BusEvent::Gap);
                while let Some(heard) = event {
                    let Some(told) = told.upgrade() else { return };
                    if told.send(Told::Heard(about, heard)).await.is_err() {
                        return;
                    }
                    drop(told);
                    event = subscription.next().await;
                }
            }
            Err(error) => {
                tracing::warn!(%topic, %error, "not heard on the bus; comparing finds what happens")
            }
        }
        sleep(SUBSCRIBE_AGAIN).await;
    }
}

/// An entry as a frame for everybody.
pub(super) fn encode(entry: &Entry) -> Encoded {
    let body = RawValue::from_string(entry.body.as_ref().to_owned());
    wire::push(&Push::Entry(wire_entry(entry, body.expect("a body is JSON").into())))
}

/// An entry as the socket shows it.
pub(super) fn wire_entry(entry: &Entry, body: Arc<RawValue>) -> wire::Entry {
    wire::Entry {
        conversation: entry.conversation,
        epoch: u64::from(entry.epoch),
        seq: entry.seq,
        kind: entry.kind.as_str().to_owned(),
        sender: Some(entry.sender),
        at: entry.at,
        client_msg_id: Some(entry.client_msg_id.as_ref().to_owned()),
        body,
    }
}

fn delivery(entry: &Entry) -> Delivery {
    Delivery {
        topic: entry.conversation.into(),
        seq: Some(entry.seq),
        class: Class::Durable,
        slot: None,
        message: encode(entry),
        except: None,
    }
}

/// In the chat of a stream nobody waits for what is missing: whoever wants it pulls it.
fn live_delivery(entry: &Entry) -> Delivery {
    Delivery { seq: None, class: Class::Live, ..delivery(entry) }
}

fn show_receipt(
    door: &Door,
    of: ConversationId,
    user: UserId,
    delivered: Option<Seq>,
    read: Option<Seq>,
    hidden_from: Arc<[UserId]>,
) {
    let message = wire::push(&Push::Receipt { conversation: of, user, delivered, read });
    // The latest of one user in one conversation, of one sort, stands for those before.
    let slot =
        (user.as_uuid().as_u128() ^ of.as_uuid().as_u128().rotate_left(1)) as u64 ^ u64::from(read.is_some());
    let delivery = Delivery {
        topic: of.into(),
        seq: None,
        class: Class::Receipt,
        slot: Some(slot),
        message,
        except: (!hidden_from.is_empty()).then_some(hidden_from),
    };
    // A hint: a worker that is too busy drops it.
    let _busy = door.try_deliver(&delivery).is_err();
}

fn show_typing(door: &Door, of: ConversationId, user: UserId, on: bool, hidden_from: &[UserId]) {
    // Nobody is told that they are typing themselves.
    let mut except: Vec<_> = hidden_from.iter().copied().chain([user]).collect();
    except.sort_unstable();
    let message = wire::push(&Push::Typing { conversation: of, user, on });
    let delivery = Delivery {
        topic: of.into(),
        seq: None,
        class: Class::Typing,
        slot: None,
        message,
        except: Some(except.into()),
    };
    let _busy = door.try_deliver(&delivery).is_err();
}
