//! Presence by interest: who is told of whose coming and going.
//!
//! [`nova_actors::presence`] knows who is where; here are the sockets that asked, the bus, and the table that remembers when somebody was
//! last seen. A device names whom it watches; every change of one of them goes once to each worker, encoded once. It is not told of whoever
//! has a block with its user, in either direction: for them the other is away, and has never been seen.
//!
//! Everything is bounded by what devices ask for: at most [`WATCHED_MAX`] people each. For a conversation with more members than that a
//! device asks for a count, which costs the same however many come and go.
//!
//! What one node says of its users is batched on one topic that all nodes hear: a few bytes for each who comes or goes, which the rate of
//! connects bounds. That is simpler than subscribing to each watched user on the bus, and it answers `presence` without asking anybody.

mod desk;
mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nova_actors::clock::Clock;
use nova_actors::id::{ConversationId, NodeId, UserId};
use nova_actors::port::{self, Bus, MessageLog};
use nova_actors::presence::{Change, Said, Settings, State};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::blocks::Blocks;
use super::relay::Blocked;
use crate::chat::Door;
use crate::chat::encoded::Class;
use crate::chat::seam::{Delivery, DeviceHandle, Gone, Topic};
use crate::chat::wire::{self, Counted, PresenceOf, PresenceState, Push};
use crate::error::ApiError;
use crate::journal::Journal;
use crate::store::Store;
use crate::telemetry::Metrics;
use desk::Desk;

/// People one device watches; a conversation of more is counted.
pub const WATCHED_MAX: usize = 200;
/// Sightings one statement writes.
const WRITE_LEN_MAX: usize = 1_000;
/// Sightings that wait for the database at most; when full, those of whoever comes are left out, which are only for the case that
/// the node dies.
const UNWRITTEN_MAX: usize = 100_000;

/// Presence on this node. Cheap to clone.
#[derive(Clone)]
pub struct Presences(Arc<Inner>);

struct Inner {
    node: NodeId,
    store: Store,
    journal: Journal,
    blocks: Blocks,
    bus: Arc<dyn Bus>,
    door: Arc<OnceLock<Door>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    desk: Mutex<Desk>,
    /// There is something to say.
    wake: Notify,
}

/// What nodes say, and who said it.
#[derive(Serialize, Deserialize)]
struct Spoken {
    node: NodeId,
    #[serde(flatten)]
    said: Said,
}

/// Where nodes tell each other who is here.
fn topic() -> port::Topic {
    port::Topic::new("presence").expect("a word is a name on the bus")
}

impl Presences {
    /// Nobody is here yet. Runs on the current runtime until the last clone is gone; `blocked` tells between whom a block came or went.
    #[expect(clippy::too_many_arguments, reason = "it is wired once, in `app`")]
    pub fn start(
        node: NodeId,
        settings: Settings,
        store: Store,
        journal: Journal,
        blocks: Blocks,
        bus: Arc<dyn Bus>,
        door: Arc<OnceLock<Door>>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        blocked: broadcast::Receiver<Blocked>,
    ) -> Presences {
        let (desk, wake) = (Mutex::new(Desk::new(node, settings)), Notify::new());
        let inner = Inner { node, store, journal, blocks, bus, door, clock, metrics, desk, wake };
        let presences = Presences(Arc::new(inner));
        tokio::spawn(upkeep::hear(Arc::downgrade(&presences.0)));
        tokio::spawn(upkeep::speak(Arc::downgrade(&presences.0)));
        tokio::spawn(upkeep::write(Arc::downgrade(&presences.0)));
        tokio::spawn(upkeep::count(Arc::downgrade(&presences.0)));
        tokio::spawn(upkeep::look_at_blocks(Arc::downgrade(&presences.0), blocked));
        presences
    }

    /// A socket of somebody opened.
    pub fn came(&self, device: &DeviceHandle) {
        let mut desk = self.0.desk();
        let change = desk.presence.came(device.user(), device.session());
        if change.is_some() && desk.unwritten.len() < UNWRITTEN_MAX {
            desk.unwritten.insert(device.user(), self.0.clock.now());
        }
        self.0.show(&mut desk, change);
        drop(desk);
        self.0.wake.notify_one();
    }

    /// It closed.
    pub fn went(&self, device: &DeviceHandle) {
        let at = self.0.clock.now();
        let mut desk = self.0.desk();
        desk.presence.went(device.user(), device.session(), Instant::now(), at);
        desk.unwritten.insert(device.user(), at);
        desk.forget(device.session());
    }

    /// From now on the device watches these people and counts these conversations, and no others; says how they are. The caller has seen to it
    /// that they are its user's conversations.
    pub async fn watch(
        &self,
        device: &DeviceHandle,
        users: Vec<UserId>,
        conversations: Vec<ConversationId>,
    ) -> Result<(Vec<PresenceOf>, Vec<Counted>), ApiError> {
        let inner = &self.0;
        let turn = inner.desk().turn(device);
        let _turn = turn.lock().await;
        let wanted: HashSet<UserId> = users.iter().copied().collect();
        // First it is noted that they are watched, then the blocks are read: a block that comes between is told of, and looked at again.
        let (dropped, added) = {
            let mut desk = inner.desk();
            desk.want(device.session(), &wanted)
        };
        for user in dropped {
            let _gone = device.unsubscribe(Topic::presence(user)).await.is_err();
        }
        let blocks = inner.blocks.of(device.user()).await?;
        let seen: HashMap<_, _> = inner.store.last_seen(&users).await?.into_iter().collect();
        let shown: Vec<_> = added.into_iter().filter(|user| blocks.binary_search(user).is_err()).collect();
        for user in &shown {
            // Gone already is as good.
            let _gone = device.subscribe(Topic::presence(*user), 1).await.is_err();
        }
        let mut counted = Vec::with_capacity(conversations.len());
        for conversation in &conversations {
            let online = self.0.counts(*conversation).await?;
            counted.push(Counted { conversation: *conversation, online });
        }
        // From here to the answer nothing else runs on the socket's thread: no change can overtake it.
        let mut desk = inner.desk();
        desk.count_for(device.session(), conversations, &counted);
        let Desk { watchers, presence, unwritten, .. } = &mut *desk;
        let known = watchers.get_mut(&device.session()).map(|watcher| &mut watcher.users);
        if let Some(known) = known {
            for user in shown {
                if let Some(is_shown) = known.get_mut(&user) {
                    *is_shown = true;
                }
            }
        }
        let is_shown = |user: &UserId| {
            watchers.get(&device.session()).is_some_and(|watcher| watcher.users.get(user) == Some(&true))
        };
        let mut answer = Vec::with_capacity(users.len());
        let mut told = HashSet::new();
        for user in users.iter().filter(|user| told.insert(**user)) {
            let last = seen.get(user).copied().max(unwritten.get(user).copied());
            answer.push(match is_shown(user) {
                true => presence_of(*user, presence.of(*user), last),
                false => hidden(*user),
            });
        }
        Ok((answer, counted))
    }

    /// Tells the other nodes that this one leaves; its users have a moment to come back elsewhere.
    pub async fn leave(&self) {
        self.0.desk().presence.leave();
        self.0.say().await;
        self.0.write().await;
    }

    /// Brings the gauges up to date; asked with every scrape.
    pub fn measure(&self) {
        let desk = self.0.desk();
        let (here, everywhere) = desk.presence.counts();
        self.0.metrics.presence_users.with_label_values(&["here"]).set(here as i64);
        self.0.metrics.presence_users.with_label_values(&["everywhere"]).set(everywhere as i64);
        self.0.metrics.presence_watched.set(desk.watched.len() as i64);
    }
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who watch.
    fn show(&self, desk: &mut Desk, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            if let State::Offline(Some(at)) = change.state
                && change.is_to_be_written
            {
                desk.unwritten.insert(change.user, at);
            }
            if desk.watched.contains_key(&change.user) {
                self.push(desk, presence_of(change.user, change.state, None));
            }
        }
    }

    fn push(&self, desk: &mut Desk, of: PresenceOf) {
        let Some(door) = self.door.get() else { return };
        let delivery = Delivery {
            topic: Topic::presence(of.user),
            seq: None,
            class: Class::Presence,
            slot: Some(slot(of.user)),
            message: wire::push(&Push::Presence(of)),
            except: None,
        };
        self.metrics.presence_changes.inc();
        if door.try_deliver(&delivery).is_err() {
            desk.again.insert(of.user);
        }
    }

    /// How many members of a conversation are here.
    async fn counts(&self, of: ConversationId) -> Result<u64, ApiError> {
        if let Some(count) = self.desk().counted.get(&of).filter(|count| count.read_at.is_some()) {
            return Ok(count.online);
        }
        let members = self.journal.members(of).await;
        let members = members.map_err(|error| ApiError::unavailable(error, Duration::from_secs(2)))?;
        let desk = self.desk();
        let online = members.iter().filter(|member| desk.presence.of(member.user) == State::Online).count();
        Ok(online as u64)
    }

    /// Says what is to be said.
    async fn say(&self) {
        let said = self.desk().presence.take_said();
        let mut is_lost = false;
        for said in said {
            let payload = serde_json::to_vec(&Spoken { node: self.node, said });
            let payload = payload.expect("what is said is texts and numbers");
            is_lost |= self.bus.publish(&topic(), payload.into()).await.is_err();
        }
        if is_lost {
            self.desk().presence.not_said();
        }
    }

    fn heard(&self, payload: &[u8]) {
        let Ok(Spoken { node, said }) = serde_json::from_slice(payload) else {
            return tracing::warn!("something said of presence could not be read");
        };
        let mut desk = self.desk();
        let changes = desk.presence.heard(node, said, Instant::now(), self.clock.now());
        self.show(&mut desk, changes);
    }

    fn tick(&self) {
        let is_heard = self.bus.health().borrow().connected;
        let mut desk = self.desk();
        let changes = desk.presence.tick(Instant::now(), is_heard);
        self.show(&mut desk, changes);
        for user in std::mem::take(&mut desk.again) {
            if desk.watched.contains_key(&user) {
                let state = desk.presence.of(user);
                self.push(&mut desk, presence_of(user, state, None));
            }
        }
    }

    async fn write(&self) {
        loop {
            let some: Vec<_> = {
                let mut desk = self.desk();
                let some: Vec<_> =
                    desk.unwritten.iter().take(WRITE_LEN_MAX).map(|(user, at)| (*user, *at)).collect();
                for (user, _) in &some {
                    desk.unwritten.remove(user);
                }
                some
            };
            if some.is_empty() {
                return;
            }
            if let Err(error) = self.store.note_seen(&some).await {
                tracing::warn!(%error, "it was not written when people were last seen; it is tried again");
                let mut desk = self.desk();
                for (user, at) in some {
                    desk.unwritten.entry(user).or_insert(at);
                }
                return;
            }
        }
    }

    /// Between these two a block came or went: what either is shown of the other changes at once.
    async fn look_at_block(&self, one: UserId, other: UserId) {
        for (watcher, watched) in [(one, other), (other, one)] {
            let devices: Vec<_> = {
                let desk = self.desk();
                let sessions = desk.watched.get(&watched).into_iter().flatten();
                let watchers = sessions.filter_map(|session| desk.watchers.get(session));
                let own = watchers.filter(|known| known.device.user() == watcher);
                own.map(|known| (known.device.clone(), known.turn.clone())).collect()
            };
            for (device, turn) in devices {
                let _turn = turn.lock().await;
                // A device that left needs nothing more.
                let _gone = self.look_again(&device, watched).await.is_err();
            }
        }
    }

    async fn look_again(&self, device: &DeviceHandle, watched: UserId) -> Result<(), Gone> {
        let is_blocked = match self.blocks.of(device.user()).await {
            Ok(blocks) => blocks.binary_search(&watched).is_ok(),
            Err(error) => {
                tracing::warn!(%error, "blocks were not read; nothing is shown until they are");
                true
            }
        };
        let changed = {
            let mut desk = self.desk();
            let watcher = desk.watchers.get_mut(&device.session());
            let is_shown = watcher.and_then(|watcher| watcher.users.get_mut(&watched));
            is_shown.is_some_and(|is_shown| std::mem::replace(is_shown, !is_blocked) == is_blocked)
        };
        if !changed {
            return Ok(());
        }
        let of = if is_blocked {
            device.unsubscribe(Topic::presence(watched)).await?;
            hidden(watched)
        } else {
            device.subscribe(Topic::presence(watched), 1).await?;
            let seen = self.store.last_seen(&[watched]).await.unwrap_or_default();
            let seen = seen.first().map(|(_, at)| *at);
            presence_of(watched, self.desk().presence.of(watched), seen)
        };
        device.push(Class::Presence, Some(slot(watched)), wire::push(&Push::Presence(of))).await
    }
}

fn presence_of(user: UserId, state: State, stored: Option<OffsetDateTime>) -> PresenceOf {
    match state {
        State::Online => PresenceOf { user, state: PresenceState::Online, last_seen: None },
        State::Offline(last) => {
            PresenceOf { user, state: PresenceState::Offline, last_seen: last.max(stored) }
        }
    }
}

/// How somebody is for whoever has a block with them.
fn hidden(user: UserId) -> PresenceOf {
    PresenceOf { user, state: PresenceState::Offline, last_seen: None }
}

fn slot(user: UserId) -> u64 {
    nova_actors::presence::mark(user)
}
