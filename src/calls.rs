//! Group calls: who is in which room on this node, told over the WebSocket (`deciders`); media goes through [`crate::rtc`].
//!
//! [`nova_actors::room`] decides; here it is carried out: the shard is told, everybody in the room hears `room.event`. A room lives in
//! memory on one node (`places`) and ends when nobody has been there for a while (`sweep`); who comes back within the lease keeps their place
//! (`entrance`). A host makes it a live stream (`streaming`). Calls of conversations ring, are answered and end (`life`); each has a room of its own.
//!
//! A client goes to the node its room is on, so signalling crosses no bus: when that node dies, so do the sockets of everybody in its
//! rooms, and they come back at once, to wherever the room is opened next.
//!
//! Nothing is awaited under the lock, so every request is a few microseconds of it.

mod deciders;
mod entrance;
pub(crate) mod examples;
mod happenings;
mod life;
mod places;
pub(crate) mod signalling;
mod streaming;
mod sweep;
mod turn;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nova_actors::call::Emptied;
use nova_actors::clock::Clock;
use nova_actors::id::{CallId, ConversationId, DeviceId, NodeId, RoomId, SessionId, UserId};
use nova_actors::port::Bus;
use nova_actors::room::{Participant, ParticipantId, Role, Room, TrackId};
use nova_media::sfu::{Event, MemberId};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::Instant;

use crate::chat::Door;
use crate::chat::encoded::Class;
use crate::chat::limits::{Meter, Rate};
use crate::chat::wire::{self, Push};
use crate::config::RtcConfig;
use crate::conversations::blocks::Blocks;
use crate::conversations::relay::Blocked;
use crate::egress::Egress;
use crate::journal::Committed;
use crate::rtc::Media;
use crate::store::rooms::{Kept, ROOMS_PER_USER_MAX};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

pub use deciders::WithCalls;

/// Rooms of one node; each is a few hundred bytes. When full, new ones are answered 503.
const ROOMS_MAX: usize = 10_000;
/// How often one user may ask to come into rooms: once a second, and so many times at once.
const JOIN_BURST: u32 = 20;
/// Users whose joins are counted. When full the one not seen for longest is forgotten, which lets them in anew.
const JOINERS_MAX: usize = 65_536;

/// Why a room cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// This user has as many as may be.
    #[error("you have {ROOMS_PER_USER_MAX} rooms, which is as many as may be; delete one first")]
    TooMany,
    /// There is none of this id.
    #[error("there is no such room")]
    NotFound,
    /// It is somebody else's.
    #[error("only who made a room may delete it")]
    NotYours,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// Only members of this conversation come in.
    pub conversation: Option<ConversationId>,
    /// Whether nobody may come any more.
    pub locked: bool,
    /// Whether newcomers wait until a host lets them in.
    pub lobby: bool,
    /// How many may be there.
    pub participants_max: usize,
    /// How many are there.
    pub participants: usize,
}

/// A room to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoom {
    /// Who makes it.
    pub owner: UserId,
    /// What it is about.
    pub title: Option<String>,
    /// Only members of this conversation come in; the owner has to be one.
    pub conversation: Option<ConversationId>,
    /// Whether newcomers wait until a host lets them in.
    pub lobby: bool,
    /// How many may be there; at most what is configured.
    pub participants_max: Option<u32>,
}

/// The calls of a node. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

/// What calls stand on.
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// Whether calls take place here: otherwise who joins one is told where to go.
    pub are_here: bool,
    /// Where calls of conversations are kept.
    pub store: Store,
    /// The other nodes.
    pub bus: Arc<dyn Bus>,
    /// Hears what calls write into conversations.
    pub told: Arc<dyn Committed>,
    /// Who does not see whom.
    pub blocks: Blocks,
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
    are_here: bool,
    store: Store,
    bus: Arc<dyn Bus>,
    told: Arc<dyn Committed>,
    media: Media,
    door: Arc<OnceLock<Door>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    participants_max: usize,
    turn: Option<turn::Turn>,
    blocks: Blocks,
    join_rate: Option<Rate>,
    joins: quick_cache::sync::Cache<UserId, Arc<Meter>>,
    started: Instant,
    leaving: AtomicBool,
    left: Notify,
    next_track: AtomicU64,
    /// Makes streams of rooms, once it is there.
    egress: OnceLock<Egress>,
    rooms: Mutex<Rooms>,
}

/// Everything there is, under one lock.
#[derive(Default)]
struct Rooms {
    rooms: HashMap<RoomId, Room>,
    seats: HashMap<Seat, Held>,
    by_member: HashMap<MemberId, Seat>,
    by_session: HashMap<SessionId, Seat>,
    /// Who waits to be let in, and where.
    waiting: HashMap<SessionId, RoomId>,
    /// Who has asked to come in and has no answer yet.
    coming: HashMap<SessionId, Coming>,
    /// Those that are streamed.
    shows: HashMap<RoomId, streaming::Show>,
}

/// A `room.join` that is on its way.
#[derive(Debug, Clone, Copy)]
struct Coming {
    room: RoomId,
    /// They have left already.
    has_left: bool,
}

/// A participant of a room.
type Seat = (RoomId, ParticipantId);

/// What a participant has at the shard.
#[derive(Debug, Clone, Default)]
struct Held {
    member: Option<MemberId>,
    /// The m-line of each track.
    mids: HashMap<TrackId, String>,
    /// Which track is in which slot, as the shard last said.
    slots: BTreeMap<String, Option<TrackId>>,
    /// When it asked to join; taken when its media is connected.
    asked: Option<Instant>,
}

impl Calls {
    /// Calls over the shard, on the current runtime.
    pub fn start(config: &RtcConfig, parts: Parts) -> Calls {
        let Parts { node, are_here, store, bus, told, blocks, blocked, media, events, door, clock, metrics } =
            parts;
        let calls = Calls(Arc::new(Inner {
            node,
            are_here,
            store,
            bus: bus.clone(),
            told,
            media,
            door,
            started: clock.instant(),
            clock,
            metrics,
            participants_max: config.rtc_participants_max as usize,
            turn: turn::Turn::new(config),
            blocks,
            join_rate: Rate::new(1, JOIN_BURST),
            joins: quick_cache::sync::Cache::new(JOINERS_MAX),
            leaving: AtomicBool::new(false),
            left: Notify::new(),
            next_track: AtomicU64::new(1),
            egress: OnceLock::new(),
            rooms: Mutex::default(),
        }));
        tokio::spawn(happenings::hear_media(Arc::downgrade(&calls.0), events));
        tokio::spawn(sweep::keep_sweeping(Arc::downgrade(&calls.0)));
        tokio::spawn(life::look_after(Arc::downgrade(&calls.0)));
        tokio::spawn(life::hear(Arc::downgrade(&calls.0), bus));
        tokio::spawn(places::hold_lease(Arc::downgrade(&calls.0)));
        tokio::spawn(life::look_at_blocks(Arc::downgrade(&calls.0), blocked));
        calls
    }

    /// Rooms can be made streams from now on.
    pub fn stream_with(&self, egress: Egress) {
        // Once, where the parts of a node meet.
        let _set = self.0.egress.set(egress);
    }

    /// A new room. It is opened by whoever comes first, on the node they come to.
    pub async fn create(&self, room: NewRoom) -> Result<Shown, RoomError> {
        let NewRoom { owner, title, conversation, lobby, participants_max } = room;
        let inner = &self.0;
        let now = inner.clock.now();
        let most = inner.participants_max;
        let kept = Kept {
            id: RoomId::new(now),
            owner,
            title,
            conversation,
            call: None,
            is_direct: false,
            participants_max: participants_max.map_or(most, |wanted| most.min(wanted as usize)),
            has_lobby: lobby,
            is_locked: false,
            removed: Vec::new(),
            node: None,
            participants: 0,
        };
        match inner.store.make_room(&kept, now).await? {
            true => Ok(show(kept)),
            false => Err(RoomError::TooMany),
        }
    }

    /// A room.
    pub async fn room(&self, id: RoomId) -> Result<Shown, RoomError> {
        let mut shown = show(self.0.store.room(id).await?.ok_or(RoomError::NotFound)?);
        if let Some(room) = self.0.lock().rooms.get(&id) {
            shown.participants = room.participants().count();
        }
        Ok(shown)
    }

    /// Ends a room, wherever it is; everybody in it hears so.
    pub async fn delete(&self, id: RoomId, by: UserId) -> Result<(), RoomError> {
        if self.room(id).await?.owner != by {
            return Err(RoomError::NotYours);
        }
        self.0.store.drop_room(id, None).await?;
        self.0.end_everywhere(id, "deleted").await;
        Ok(())
    }

    /// This node leaves: its rooms may be opened elsewhere, and what happens in them here means nothing any more.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::SeqCst);
        self.0.left.notify_one();
    }
}

fn show(room: Kept) -> Shown {
    Shown {
        id: room.id,
        owner: room.owner,
        title: room.title,
        conversation: room.conversation,
        locked: room.is_locked,
        lobby: room.has_lobby,
        participants_max: room.participants_max,
        participants: room.participants,
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

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    fn ice_servers(&self, user: UserId) -> Value {
        let server = self.turn.as_ref().map(|turn| turn.server_for(user, self.clock.now()));
        Value::Array(server.into_iter().collect())
    }

    /// Tells one participant. A device that is away, or too busy to be told, asks for the room's state when it comes back.
    fn push(&self, to: &Participant, message: Map<String, Value>) {
        self.push_to(to.user, to.device, to.session, message);
    }

    fn push_to(&self, user: UserId, device: DeviceId, session: SessionId, message: Map<String, Value>) {
        let device = self.door.get().and_then(|door| door.device(user, device));
        let there = device.filter(|device| device.session() == session);
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

    /// Ends a room, when it is here; everybody in it hears so.
    async fn close(&self, id: RoomId, reason: &str) {
        let (people, members) = {
            let mut rooms = self.lock();
            let Some(room) = rooms.rooms.remove(&id) else { return };
            rooms.shows.remove(&id);
            let people: Vec<Participant> = room.participants().cloned().collect();
            let members: Vec<_> = people.iter().filter_map(|one| rooms.give_up((id, one.id))).collect();
            for guest in room.waiting() {
                rooms.waiting.remove(&guest.session);
                let words = event(id, "closed", json!({ "reason": reason }));
                self.push_to(guest.user, guest.device, guest.session, words);
            }
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
        let call = self.take_out(seat, reason).await;
        // On a node that leaves, people are on their way to another.
        if let Some(call) = call.filter(|_| !self.is_leaving()) {
            if !self.is_own(seat.0).await {
                return self.close(seat.0, "moved").await;
            }
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
            if let (Some(_), Some(room)) = (&left, rooms.rooms.get_mut(&id)) {
                self.hand_over(room);
            }
            let call = left.and_then(|_| rooms.rooms.get(&id)?.deserted_call());
            (member, call)
        };
        if let Some(member) = member {
            self.media.leave(member).await;
        }
        call
    }

    /// Finds somebody who decides, when no host is left; everybody hears who.
    fn hand_over(&self, room: &mut Room) {
        let Some(successor) = room.succeed() else { return };
        let words = json!({ "participant": successor, "role": signalling::role_name(Role::Host) });
        self.tell(room, None, &event(room.id, "role", words));
        self.tell_hosts(room);
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
