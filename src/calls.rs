//! Group calls: who is in which room on this node, told over the WebSocket; media goes through [`crate::rtc`].
//!
//! [`nova_actors::room`] decides; here it is carried out: the shard is told, everybody in the room hears `room.event`. A room lives in
//! memory on one node and ends when nobody has been there for a while; who comes back within the lease keeps their place.
//!
//! Nothing is awaited under the lock, so every request is a few microseconds of it.

mod life;
mod signalling;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use nova_actors::call::{Call, Emptied};
use nova_actors::clock::Clock;
use nova_actors::id::{CallId, NodeId, RoomId, SessionId, UserId};
use nova_actors::port::Bus;
use nova_actors::room::{Participant, ParticipantId, Room, TrackId};
use nova_media::sfu::{Event, MemberId};
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::chat::Door;
use crate::chat::encoded::Class;
use crate::chat::goodbye::Goodbye;
use crate::chat::seam::{Deciders, DeviceHandle, Hearing, Opening, Topic, Welcome};
use crate::chat::wire::{self, FromDevice, Push};
use crate::config::RtcConfig;
use crate::conversations::relay::Blocked;
use crate::journal::Committed;
use crate::rtc::Media;
use crate::store::Store;
use crate::telemetry::Metrics;

/// Rooms of one node; each is a few hundred bytes. When full, new ones are answered 503.
const ROOMS_MAX: usize = 10_000;
/// Rooms one user may have at a time.
const ROOMS_PER_USER_MAX: usize = 20;
/// How often leases and empty rooms are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Why a room cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// This node has as many as it can.
    #[error("this node holds as many rooms as it can")]
    Overloaded,
    /// This user has as many as may be.
    #[error("you have {ROOMS_PER_USER_MAX} rooms, which is as many as may be; delete one first")]
    TooMany,
    /// There is none of this id.
    #[error("there is no such room")]
    NotFound,
    /// It is somebody else's.
    #[error("only who made a room may delete it")]
    NotYours,
}

/// A room as REST shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub id: RoomId,
    /// Who made it.
    pub owner: UserId,
    /// What it is about.
    pub title: Option<String>,
    /// Whether nobody may come any more.
    pub locked: bool,
    /// How many are there.
    pub participants: usize,
}

/// The calls of a node. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

/// What calls stand on.
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// Where calls of conversations are kept.
    pub store: Store,
    /// The other nodes.
    pub bus: Arc<dyn Bus>,
    /// Hears what calls write into conversations.
    pub told: Arc<dyn Committed>,
    /// Says between whom a block came or went.
    pub blocked: broadcast::Receiver<Blocked>,
    /// The shard.
    pub media: Media,
    /// What happens at the shard.
    pub events: mpsc::Receiver<Event>,
    /// Where devices are found, once it is there.
    pub door: Arc<OnceLock<Door>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
}

struct Inner {
    node: NodeId,
    store: Store,
    bus: Arc<dyn Bus>,
    told: Arc<dyn Committed>,
    media: Media,
    door: Arc<OnceLock<Door>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    participants_max: usize,
    next_track: AtomicU64,
    rooms: Mutex<Rooms>,
}

/// Everything there is, under one lock.
#[derive(Default)]
struct Rooms {
    rooms: HashMap<RoomId, Room>,
    seats: HashMap<Seat, Held>,
    by_member: HashMap<MemberId, Seat>,
    by_session: HashMap<SessionId, Seat>,
}

/// A participant of a room.
type Seat = (RoomId, ParticipantId);

/// What a participant has at the shard.
#[derive(Debug, Clone, Default)]
struct Held {
    member: Option<MemberId>,
    /// The m-line of each track.
    mids: HashMap<TrackId, String>,
    /// When it asked to join; taken when its media is connected.
    asked: Option<Instant>,
}

impl Calls {
    /// Calls over the shard, on the current runtime.
    pub fn start(config: &RtcConfig, parts: Parts) -> Calls {
        let Parts { node, store, bus, told, blocked, media, events, door, clock, metrics } = parts;
        let calls = Calls(Arc::new(Inner {
            node,
            store,
            bus: bus.clone(),
            told,
            media,
            door,
            clock,
            metrics,
            participants_max: config.rtc_participants_max as usize,
            next_track: AtomicU64::new(1),
            rooms: Mutex::default(),
        }));
        tokio::spawn(hear_media(Arc::downgrade(&calls.0), events));
        tokio::spawn(sweep(Arc::downgrade(&calls.0)));
        tokio::spawn(life::look_after(Arc::downgrade(&calls.0)));
        tokio::spawn(life::hear(Arc::downgrade(&calls.0), bus));
        tokio::spawn(life::look_at_blocks(Arc::downgrade(&calls.0), blocked));
        calls
    }

    /// A new room.
    pub fn create(&self, owner: UserId, title: Option<String>) -> Result<Shown, RoomError> {
        let inner = &self.0;
        let mut rooms = inner.lock();
        if rooms.rooms.len() >= ROOMS_MAX {
            return Err(RoomError::Overloaded);
        }
        if rooms.rooms.values().filter(|room| room.owner == owner).count() >= ROOMS_PER_USER_MAX {
            return Err(RoomError::TooMany);
        }
        let id = RoomId::new(inner.clock.now());
        let room = Room::new(id, owner, title, inner.participants_max, inner.clock.instant());
        let shown = show(&room);
        rooms.rooms.insert(id, room);
        inner.count(&rooms);
        Ok(shown)
    }

    /// A room.
    pub fn room(&self, id: RoomId) -> Result<Shown, RoomError> {
        self.0.lock().rooms.get(&id).map(show).ok_or(RoomError::NotFound)
    }

    /// Ends a room; everybody in it hears so.
    pub async fn delete(&self, id: RoomId, by: UserId) -> Result<(), RoomError> {
        let owner = self.room(id)?.owner;
        if owner != by {
            return Err(RoomError::NotYours);
        }
        self.0.close(id, "deleted").await;
        Ok(())
    }
}

fn show(room: &Room) -> Shown {
    Shown {
        id: room.id,
        owner: room.owner,
        title: room.title.clone(),
        locked: room.locked,
        participants: room.participants().count(),
    }
}

impl Rooms {
    /// Forgets what a participant has at the shard; gives what has to leave there.
    fn give_up(&mut self, seat: Seat) -> Option<MemberId> {
        self.by_session.retain(|_, known| *known != seat);
        let member = self.seats.remove(&seat)?.member?;
        self.by_member.remove(&member);
        Some(member)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, rooms: &Rooms) {
        self.metrics.rtc_rooms.set(i64::try_from(rooms.rooms.len()).unwrap_or(i64::MAX));
    }

    /// Tells one participant. A device that is away, or too busy to be told, asks for the room's state when it comes back.
    fn push(&self, to: &Participant, message: Map<String, Value>) {
        let device = self.door.get().and_then(|door| door.device(to.user, to.device));
        let there = device.filter(|device| device.session() == to.session);
        if let Some(device) = there {
            let _ = device.try_push(Class::Durable, None, wire::push(&Push::Other(message)));
        }
    }

    /// Tells everybody in a room but one.
    fn tell(&self, room: &Room, but: Option<ParticipantId>, message: &Map<String, Value>) {
        for participant in room.participants().filter(|one| Some(one.id) != but) {
            self.push(participant, message.clone());
        }
    }

    /// Opens the room of a call that begins.
    fn open_call(&self, call: &Call) {
        let mut rooms = self.lock();
        let mut room = Room::new(call.room, call.caller, None, self.participants_max, self.clock.instant());
        room.bound = Some(life::bound(call));
        rooms.rooms.insert(call.room, room);
        self.count(&rooms);
    }

    /// Ends a room, when it is here; everybody in it hears so.
    async fn close(&self, id: RoomId, reason: &str) {
        let (people, members) = {
            let mut rooms = self.lock();
            let Some(room) = rooms.rooms.remove(&id) else { return };
            let people: Vec<Participant> = room.participants().cloned().collect();
            let members: Vec<_> = people.iter().filter_map(|one| rooms.give_up((id, one.id))).collect();
            self.count(&rooms);
            (people, members)
        };
        for participant in &people {
            self.push(participant, event(id, "closed", json!({ "reason": reason })));
        }
        for member in members {
            self.media.leave(member).await;
        }
    }

    /// A participant leaves for a reason, and everybody hears so. A call nobody is left in is over.
    async fn leave(&self, seat: Seat, reason: &str) {
        if let Some(call) = self.take_out(seat, reason).await {
            let how = if reason == "left" { Emptied::Left } else { Emptied::Lost };
            self.emptied(call, how).await;
        }
    }

    /// Gives the call that is over with it.
    async fn take_out(&self, (id, participant): Seat, reason: &str) -> Option<CallId> {
        let (member, call) = {
            let mut rooms = self.lock();
            let now = self.clock.instant();
            let left = rooms.rooms.get_mut(&id).and_then(|room| room.leave(participant, now));
            let member = rooms.give_up((id, participant));
            if let (Some(left), Some(room)) = (&left, rooms.rooms.get(&id)) {
                let words = json!({ "participant": participant, "reason": reason });
                self.tell(room, None, &event(id, "left", words));
                if reason != "left" {
                    self.push(left, event(id, "closed", json!({ "reason": reason })));
                }
            }
            let call = left.and_then(|_| rooms.rooms.get(&id)?.deserted_call());
            (member, call)
        };
        if let Some(member) = member {
            self.media.leave(member).await;
        }
        call
    }

    async fn hear(&self, heard: Event) {
        match heard {
            Event::Connected(member) => {
                self.metrics.rtc_connected.inc();
                let mut rooms = self.lock();
                let seat = rooms.by_member.get(&member).copied();
                let asked = seat.and_then(|seat| rooms.seats.get_mut(&seat)?.asked.take());
                if let Some(asked) = asked {
                    let waited = self.clock.instant().saturating_duration_since(asked);
                    self.metrics.rtc_join_duration.observe(waited.as_secs_f64());
                }
            }
            Event::Failed(member, failure) => {
                let reason = match failure {
                    nova_media::peer::Failure::Ice => "no_path",
                    nova_media::peer::Failure::Dtls => "no_keys",
                    nova_media::peer::Failure::Silent => "silent",
                };
                self.metrics.rtc_failed.with_label_values(&[reason]).inc();
                self.leave_member(member, reason).await;
            }
            Event::Closed(member) => {
                // Who goes on over the same socket comes back with a new offer; who does not is away.
                let seat = self.lock().by_member.get(&member).copied();
                if let Some(seat) = seat {
                    self.leave(seat, "left").await;
                }
            }
            Event::Slots(member, slots) => {
                let slots: Vec<Value> =
                    slots.into_iter().map(|(mid, track)| json!({ "mid": mid, "track": track })).collect();
                self.tell_member(member, "slots", json!({ "slots": slots }));
            }
            Event::Wanted(member, track, highest) => {
                self.tell_member(member, "layers", json!({ "track": track, "highest": highest }));
            }
            Event::Speakers(key, members) => {
                let rooms = self.lock();
                let id = RoomId::from_uuid(uuid::Uuid::from_u128(key));
                let Some(room) = rooms.rooms.get(&id) else { return };
                let speakers: Vec<ParticipantId> = members
                    .iter()
                    .filter_map(|member| rooms.by_member.get(member))
                    .map(|seat| seat.1)
                    .collect();
                self.tell(room, None, &event(id, "speakers", json!({ "participants": speakers })));
            }
        }
    }

    fn tell_member(&self, member: MemberId, what: &str, words: Value) {
        let rooms = self.lock();
        let Some((id, participant)) = rooms.by_member.get(&member).copied() else { return };
        let participant = rooms.rooms.get(&id).and_then(|room| room.participant(participant));
        if let Some(participant) = participant {
            self.push(participant, event(id, what, words));
        }
    }

    async fn leave_member(&self, member: MemberId, reason: &str) {
        let seat = self.lock().by_member.get(&member).copied();
        if let Some(seat) = seat {
            self.leave(seat, reason).await;
        }
    }
}

/// `room.event {room, event, …}`.
fn event(room: RoomId, what: &str, words: Value) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("type".to_owned(), "room.event".into());
    message.insert("room".to_owned(), room.to_string().into());
    message.insert("event".to_owned(), what.into());
    if let Value::Object(words) = words {
        message.extend(words);
    }
    message
}

async fn hear_media(inner: std::sync::Weak<Inner>, mut events: mpsc::Receiver<Event>) {
    while let Some(heard) = events.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.hear(heard).await;
    }
}

async fn sweep(inner: std::sync::Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let now = inner.clock.instant();
        let expired: Vec<Seat> = {
            let mut rooms = inner.lock();
            rooms.rooms.retain(|_, room| !room.is_forgotten(now));
            inner.count(&rooms);
            let seats =
                rooms.rooms.values().flat_map(|room| room.expired(now).into_iter().map(|id| (room.id, id)));
            seats.collect()
        };
        for seat in expired {
            inner.leave(seat, "expired").await;
        }
    }
}

/// Deciders that hear of calls too; everything else is for the others.
pub struct WithCalls<D> {
    /// Who hears the rest.
    pub others: D,
    /// Who hears `room.*` and `call.*`.
    pub calls: Calls,
}

impl<D: Deciders> Deciders for WithCalls<D> {
    fn open(&self, opening: Opening) -> LocalBoxFuture<'static, Result<Welcome, Goodbye>> {
        let (calls, device) = (self.calls.clone(), opening.device.clone());
        let opened = self.others.open(opening);
        Box::pin(async move {
            let Welcome { queue, then } = opened.await?;
            let then = async move {
                if let Some(then) = then {
                    then.await;
                }
                calls.ring_for(&device).await;
            };
            Ok(Welcome { queue, then: Some(Box::pin(then)) })
        })
    }

    fn hear(&self, device: &DeviceHandle, request: FromDevice) -> Hearing {
        match request {
            FromDevice::Room(request) => {
                let (calls, device) = (self.calls.clone(), device.clone());
                Hearing::Later(Box::pin(async move { calls.signal(&device, request).await }))
            }
            request => self.others.hear(device, request),
        }
    }

    fn hole(&self, device: &DeviceHandle, topic: Topic, next: u64) {
        self.others.hole(device, topic, next);
    }

    fn closed(&self, device: &DeviceHandle) {
        self.calls.0.gone(device);
        self.others.closed(device);
    }
}

impl Inner {
    /// The socket of a device has closed: its lease begins.
    fn gone(&self, device: &DeviceHandle) {
        let mut rooms = self.lock();
        if let Some((id, participant)) = rooms.by_session.remove(&device.session())
            && let Some(room) = rooms.rooms.get_mut(&id)
        {
            room.reach(participant, None, self.clock.instant());
        }
    }
}
