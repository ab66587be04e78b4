//! The relay: what was committed, here or on another node, on its way to the sockets of this node.
//!
//! One task of a node, which alone holds the state: for every conversation somebody on this node follows, an [`Order`](nova_actors::conversation::order::Order). What the
//! journal committed, what the bus says and what is read from the log where something is missing meet there and leave in
//! sequence. The bus only makes it quick: after a gap on it, after every subscription, and every [`COMPARE_EVERY`] in any case, the
//! relay asks the log how far it has come, and reads what it did not hear of. A conversation nobody here follows is not held at all.

mod followed;
mod said;
mod shown;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use nova_actors::conversation::order::Missing;
use nova_actors::conversation::{Entry, Range, Seq, Top};
use nova_actors::id::{ConversationId, NodeId, UserId};
use nova_actors::port::{self, Bus, BusEvent};
use tokio::sync::{broadcast, mpsc};

use super::blocks::Blocks;
use super::following::Following;
use crate::chat::Door;
use crate::journal::{Committed, Journal};
use crate::telemetry::Metrics;
pub use followed::COMPARE_EVERY;
use followed::State;
use said::{About, Said, What, members_topic, publish, said, subscribe, topic};
pub(super) use shown::{encode, wire_entry};
use shown::{show_receipt, show_typing};

/// What may wait for the relay. When full, what was committed is not told but found by comparing, as soon as there is room again.
const RELAY_LEN_MAX: usize = 16_384;
/// What may wait for the bus. When full, the other nodes find it by comparing.
const OUTGOING_LEN_MAX: usize = 16_384;
/// New members that may wait to be looked after; whoever is further behind looks after everybody.
const JOINED_LEN_MAX: usize = 1_024;

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
    Read { conversation: ConversationId, missing: Missing, found: Option<Range> },
    Tops(Vec<(ConversationId, Top)>),
    Left { conversation: ConversationId, user: UserId, seq: Seq },
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
        tokio::spawn(State::new(&relay, bus.clone(), journal, metrics).run(hears));
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
