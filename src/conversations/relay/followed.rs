//! What the relay knows of every conversation somebody on this node follows, and what it does with what it is told.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use nova_actors::conversation::order::{Missing, Order};
use nova_actors::conversation::sample::Sampler;
use nova_actors::conversation::{Entry, EntryKind, Range, Seq, Top};
use nova_actors::id::{ConversationId, NodeId, UserId};
use nova_actors::port::{Bus, BusEvent, MessageLog};
use time::OffsetDateTime;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::said::{About, Said, What, subscribe};
use super::shown::{delivery, live_delivery, show_receipt, show_typing};
use super::{Blocked, OnceLockJournal, Relay, Told};
use crate::chat::Door;
use crate::chat::seam::{DeviceHandle, Topic};
use crate::conversations::blocks::Blocks;
use crate::conversations::following::Following;
use crate::telemetry::Metrics;

/// How often the log is asked how far the followed conversations have come.
pub const COMPARE_EVERY: Duration = Duration::from_secs(20);
/// Conversations asked for in one statement.
const COMPARE_LEN: usize = 1_000;
/// Entries read at once where some are missing.
const READ_LEN: u32 = 200;

struct Followed {
    order: Order<Arc<Entry>>,
    /// In the chat of a stream: what of it is shown.
    live: Option<Sampler>,
    followers: usize,
    /// Who is taken out once the entry that tells of it was shown.
    leaving: Vec<(Seq, UserId)>,
    subscription: AbortHandle,
}

pub(super) struct State {
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
    pub(super) fn new(relay: &Relay, bus: Arc<dyn Bus>, journal: OnceLockJournal, metrics: Metrics) -> State {
        State {
            node: relay.node,
            bus,
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
        }
    }

    pub(super) async fn run(mut self, mut hears: mpsc::Receiver<Told>) {
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

    async fn read(&mut self, conversation: ConversationId, missing: Missing, found: Option<Range>) {
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
