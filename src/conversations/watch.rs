//! Who watches which stream, and the chat beside it: live mode.
//!
//! A viewer is no member. Their device follows the chat from the moment it asks, is pushed what is said as long as it can keep up, and a number of
//! viewers in place of presence; older entries are pulled. Nothing waits for a device that was away.
//!
//! How many watch is counted in two ways: by the playlists players ask for (the stream's node knows, and notes it), and by the people whose
//! devices watch over a socket. Whoever plays a stream with its chat open is in both, and nothing tells which of one is which of the
//! other; so the larger number is told, which never counts anybody twice.
//!
//! Nodes tell each other how many people watch with them, each second that it changed and again within `SAID_FOR`; a node that says nothing
//! any more is not counted after that.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use nova_actors::clock::Clock;
use nova_actors::id::{ConversationId, NodeId, SessionId, StreamId, UserId};
use nova_actors::port::{self, Bus, BusEvent, SILENCE_MAX};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::relay::{Blocked, Relay};
use crate::chat::Door;
use crate::chat::encoded::Class;
use crate::chat::seam::{Delivery, DeviceHandle, Gone, Topic};
use crate::chat::wire::{self, Answer, Push};
use crate::error::{ApiError, Code};
use crate::store::Store;

/// Streams one device watches at a time: what fits on a screen.
pub const WATCHED_MAX: usize = 8;
/// How often changed numbers are told, to nodes and to devices.
const TICK: Duration = Duration::from_secs(1);
/// How often the numbers of players are read, what did not change is told to the nodes again, and those are sent away who may not watch
/// a private stream any more.
const READ_EVERY: u32 = 5;
/// What another node said is true for so long.
const SAID_FOR: Duration = Duration::from_secs(15);
/// Streams in one message between nodes.
const COUNTS_LEN_MAX: usize = 1_000;
/// How long after a failed subscription it is tried again.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// Who watches on this node. Cheap to clone.
#[derive(Clone)]
pub struct Watching(Arc<Inner>);

struct Inner {
    node: NodeId,
    store: Store,
    relay: Relay,
    bus: Arc<dyn Bus>,
    door: Arc<OnceLock<Door>>,
    clock: Arc<dyn Clock>,
    desk: Mutex<Desk>,
}

#[derive(Default)]
struct Desk {
    streams: HashMap<StreamId, Watched>,
    sessions: HashMap<SessionId, Vec<StreamId>>,
    /// Streams nobody here watches any more, which the other nodes have not been told.
    left: HashSet<StreamId>,
}

/// A stream somebody on this node watches.
struct Watched {
    chat: ConversationId,
    owner: UserId,
    devices: HashMap<SessionId, DeviceHandle>,
    /// How many each other node has, and when it said so.
    others: HashMap<NodeId, (u64, Instant)>,
    players: u64,
    /// What devices and nodes were told last.
    told: Option<u64>,
    said: Option<u64>,
}

impl Watched {
    /// People who watch with a device on this node.
    fn here(&self) -> u64 {
        self.devices.values().map(DeviceHandle::user).collect::<HashSet<_>>().len() as u64
    }

    fn viewers(&self) -> u64 {
        let others: u64 = self.others.values().map(|(count, _)| count).sum();
        self.players.max(self.here() + others)
    }
}

/// How many people watch with the devices of a node.
#[derive(Serialize, Deserialize)]
struct Counts {
    node: NodeId,
    counts: Vec<(StreamId, u64)>,
}

fn topic() -> port::Topic {
    port::Topic::new("watching").expect("a word is a name on the bus")
}

impl Watching {
    /// Nobody watches yet. Runs on the current runtime until the last clone is gone.
    pub fn start(
        node: NodeId,
        store: Store,
        relay: Relay,
        bus: Arc<dyn Bus>,
        door: Arc<OnceLock<Door>>,
        clock: Arc<dyn Clock>,
    ) -> Watching {
        let blocked = relay.hear_blocked();
        let inner = Inner { node, store, relay, bus, door, clock, desk: Mutex::default() };
        let watching = Watching(Arc::new(inner));
        tokio::spawn(hear(Arc::downgrade(&watching.0)));
        tokio::spawn(count(Arc::downgrade(&watching.0)));
        tokio::spawn(look_at_blocks(Arc::downgrade(&watching.0), blocked));
        watching
    }

    /// The device watches a stream from now on: it is pushed what is said beside it, and how many watch.
    pub async fn watch(&self, device: &DeviceHandle, stream: StreamId) -> Result<Answer, ApiError> {
        let inner = &self.0;
        let chat = inner.store.stream_chat(stream, device.user(), inner.clock.now()).await?;
        let chat = chat.ok_or(Code::NotFound)?;
        {
            let mut desk = inner.desk();
            let streams = desk.sessions.entry(device.session()).or_default();
            if !streams.contains(&stream) {
                if streams.len() >= WATCHED_MAX {
                    let most = format!("a device watches {WATCHED_MAX} streams at most; unwatch one first");
                    return Err(ApiError::because(Code::Conflict, most));
                }
                streams.push(stream);
            }
            let new = || Watched {
                chat: chat.conversation,
                owner: chat.owner,
                devices: HashMap::new(),
                others: HashMap::new(),
                players: 0,
                told: None,
                said: None,
            };
            let watched = desk.streams.entry(stream).or_insert_with(new);
            if watched.devices.insert(device.session(), device.clone()).is_some() {
                let viewers = watched.viewers();
                return Ok(Answer::Watching { stream, chat: chat.conversation, viewers });
            }
            desk.left.remove(&stream);
        }
        inner.relay.follow_live(chat.conversation, chat.top).await;
        let subscribed = async {
            device.subscribe(chat.conversation.into(), chat.top + 1).await?;
            device.subscribe(stream.into(), 1).await
        };
        // Gone already is as good; then it was let go of by who heard of its end.
        let _gone = subscribed.await.is_err();
        let since = inner.clock.now() - SILENCE_MAX;
        let players = inner.store.viewer_counts(&[stream], since).await?;
        let mut desk = inner.desk();
        let viewers = match desk.streams.get_mut(&stream) {
            Some(watched) => {
                watched.players = players.first().map_or(0, |(_, count)| u64::from(*count));
                watched.viewers()
            }
            None => 0,
        };
        Ok(Answer::Watching { stream, chat: chat.conversation, viewers })
    }

    /// No longer.
    pub async fn unwatch(&self, device: &DeviceHandle, stream: StreamId) {
        let chat = self.0.desk().forget(device.session(), stream);
        if let Some(chat) = chat {
            self.0.relay.unfollow(chat).await;
            let unsubscribed = async {
                device.unsubscribe(chat.into()).await?;
                device.unsubscribe(stream.into()).await
            };
            let _gone = unsubscribed.await.is_err();
        }
    }

    /// The streams that are watched by their own owners, and with which devices.
    pub fn owners(&self) -> Vec<(StreamId, Vec<DeviceHandle>)> {
        let desk = self.0.desk();
        let of = |(stream, watched): (&StreamId, &Watched)| {
            let is_own = |device: &&DeviceHandle| device.user() == watched.owner;
            let devices: Vec<_> = watched.devices.values().filter(is_own).cloned().collect();
            (!devices.is_empty()).then_some((*stream, devices))
        };
        desk.streams.iter().filter_map(of).collect()
    }

    /// The device has left.
    pub async fn closed(&self, session: SessionId) {
        let chats: Vec<_> = {
            let mut desk = self.0.desk();
            let streams = desk.sessions.remove(&session).unwrap_or_default();
            streams.into_iter().filter_map(|stream| desk.forget(session, stream)).collect()
        };
        for chat in chats {
            self.0.relay.unfollow(chat).await;
        }
    }
}

impl Desk {
    /// Gives the chat that is to be let go of.
    fn forget(&mut self, session: SessionId, stream: StreamId) -> Option<ConversationId> {
        if let Some(streams) = self.sessions.get_mut(&session) {
            streams.retain(|known| *known != stream);
            if streams.is_empty() {
                self.sessions.remove(&session);
            }
        }
        let watched = self.streams.get_mut(&stream)?;
        watched.devices.remove(&session)?;
        let chat = watched.chat;
        if watched.devices.is_empty() {
            self.streams.remove(&stream);
            self.left.insert(stream);
        }
        Some(chat)
    }
}

impl Inner {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, payload: &[u8]) {
        let Ok(Counts { node, counts }) = serde_json::from_slice(payload) else {
            return tracing::warn!("numbers of viewers could not be read");
        };
        if node == self.node {
            return;
        }
        let now = Instant::now();
        let mut desk = self.desk();
        for (stream, count) in counts {
            let Some(watched) = desk.streams.get_mut(&stream) else { continue };
            if count == 0 {
                watched.others.remove(&node);
            } else if watched.others.insert(node, (count, now)).is_none() {
                // Who just began to count has not heard of this node either.
                watched.said = None;
            }
        }
    }

    /// Tells the nodes and the devices what has changed.
    async fn tell(&self, again: bool) {
        let counts = {
            let mut desk = self.desk();
            let now = Instant::now();
            let mut counts: Vec<_> = desk.left.drain().map(|stream| (stream, 0)).collect();
            for (stream, watched) in &mut desk.streams {
                watched.others.retain(|_, (_, at)| *at + SAID_FOR > now);
                let here = watched.here();
                if again || watched.said != Some(here) {
                    watched.said = Some(here);
                    counts.push((*stream, here));
                }
                let viewers = watched.viewers();
                if watched.told != Some(viewers) && self.push(*stream, viewers) {
                    watched.told = Some(viewers);
                }
            }
            counts
        };
        for counts in counts.chunks(COUNTS_LEN_MAX) {
            let counts = Counts { node: self.node, counts: counts.to_vec() };
            let payload = serde_json::to_vec(&counts).expect("ids and numbers");
            // Not heard is told again.
            let _lost = self.bus.publish(&topic(), payload.into()).await.is_err();
        }
    }

    fn push(&self, stream: StreamId, count: u64) -> bool {
        let Some(door) = self.door.get() else { return false };
        let delivery = Delivery {
            topic: stream.into(),
            seq: None,
            class: Class::Presence,
            slot: Some(stream.as_uuid().as_u128() as u64),
            message: wire::push(&Push::Viewers { stream, count }),
            except: None,
        };
        door.try_deliver(&delivery).is_ok()
    }

    async fn read_players(&self) {
        let streams: Vec<_> = self.desk().streams.keys().copied().collect();
        if streams.is_empty() {
            return;
        }
        match self.store.viewer_counts(&streams, self.clock.now() - SILENCE_MAX).await {
            Ok(players) => {
                let players: HashMap<_, _> = players.into_iter().collect();
                for (stream, watched) in &mut self.desk().streams {
                    watched.players = players.get(stream).copied().map_or(0, u64::from);
                }
            }
            Err(error) => tracing::debug!(%error, "players were not counted"),
        }
    }

    /// Sends those away from a chat who have a block with its owner.
    async fn look_at_block(&self, one: UserId, other: UserId) {
        let devices: Vec<_> = {
            let desk = self.desk();
            let of = |(stream, watched): (&StreamId, &Watched)| {
                let blocked = match watched.owner {
                    owner if owner == one => other,
                    owner if owner == other => one,
                    _ => return Vec::new(),
                };
                let devices = watched.devices.values().filter(|device| device.user() == blocked);
                devices.map(|device| (*stream, device.clone())).collect::<Vec<_>>()
            };
            desk.streams.iter().flat_map(of).collect()
        };
        for (stream, device) in devices {
            match self.store.stream_chat(stream, device.user(), self.clock.now()).await {
                Ok(Some(_)) => {}
                Ok(None) => self.dismiss(&device, stream).await,
                Err(error) => tracing::warn!(%error, "it is not known whether a viewer may stay; they do"),
            }
        }
    }

    /// Sends those away who watch a stream that has become private, or that they were let watch before.
    async fn look_at_private(&self) {
        let streams: Vec<_> = self.desk().streams.keys().copied().collect();
        if streams.is_empty() {
            return;
        }
        let uninvited = async {
            let private = self.store.private_streams(&streams).await?;
            if private.is_empty() {
                return Ok(Vec::new());
            }
            let watching: Vec<_> = {
                let desk = self.desk();
                let of = |stream: &StreamId| {
                    let devices = desk.streams.get(stream).map(|watched| watched.devices.values());
                    let users: HashSet<_> = devices.into_iter().flatten().map(DeviceHandle::user).collect();
                    users.into_iter().map(|user| (*stream, user)).collect::<Vec<_>>()
                };
                private.iter().flat_map(of).collect()
            };
            self.store.uninvited(&watching).await
        };
        let uninvited: Vec<(StreamId, UserId)> = match uninvited.await {
            Ok(uninvited) => uninvited,
            Err(error) => {
                tracing::warn!(%error, "it is not known whether the viewers of private streams may stay; they do");
                return;
            }
        };
        for (stream, user) in uninvited {
            let devices: Vec<_> = {
                let desk = self.desk();
                let devices = desk.streams.get(&stream).map(|watched| watched.devices.values());
                devices.into_iter().flatten().filter(|device| device.user() == user).cloned().collect()
            };
            for device in devices {
                self.dismiss(&device, stream).await;
            }
        }
    }

    async fn dismiss(&self, device: &DeviceHandle, stream: StreamId) {
        let chat = self.desk().forget(device.session(), stream);
        if let Some(chat) = chat {
            self.relay.unfollow(chat).await;
            let _gone = send_away(device, stream, chat).await.is_err();
        }
    }
}

async fn send_away(device: &DeviceHandle, stream: StreamId, chat: ConversationId) -> Result<(), Gone> {
    device.unsubscribe(Topic::from(chat)).await?;
    device.unsubscribe(Topic::from(stream)).await?;
    device.push(Class::Durable, None, wire::push(&Push::Unwatched { stream })).await
}

async fn hear(inner: Weak<Inner>) {
    loop {
        let Some(bus) = inner.upgrade().map(|inner| inner.bus.clone()) else { return };
        match bus.subscribe(&topic()).await {
            Ok(mut subscription) => {
                while let Some(heard) = subscription.next().await {
                    let Some(inner) = inner.upgrade() else { return };
                    match heard {
                        BusEvent::Message(payload) => inner.heard(&payload),
                        // It is all said again within seconds.
                        BusEvent::Gap => {}
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "viewers of other nodes are not heard of"),
        }
        sleep(SUBSCRIBE_AGAIN).await;
    }
}

async fn count(inner: Weak<Inner>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = 0_u32;
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        turn = turn.wrapping_add(1);
        let again = turn.is_multiple_of(READ_EVERY);
        if again {
            inner.read_players().await;
            inner.look_at_private().await;
        }
        inner.tell(again).await;
    }
}

async fn look_at_blocks(inner: Weak<Inner>, mut blocked: broadcast::Receiver<Blocked>) {
    loop {
        let pairs = match blocked.recv().await {
            Ok(Some(pair)) => vec![pair],
            Ok(None) | Err(RecvError::Lagged(_)) => {
                let Some(inner) = inner.upgrade() else { return };
                let desk = inner.desk();
                let of = |watched: &Watched| {
                    let owner = watched.owner;
                    let users: HashSet<_> = watched.devices.values().map(DeviceHandle::user).collect();
                    users.into_iter().map(move |user| (owner, user)).collect::<Vec<_>>()
                };
                desk.streams.values().flat_map(of).collect()
            }
            Err(RecvError::Closed) => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        for (one, other) in pairs {
            inner.look_at_block(one, other).await;
        }
    }
}
