//! The life of calls in conversations, over the socket: `call.start`, `call.accept`, `call.decline`, `call.cancel`, and the push `call`.
//!
//! [`nova_actors::call`] decides and PostgreSQL keeps what was decided ([`crate::store::calls`]); here it is told: by an entry, which
//! waits for who is away, and by a push to every device of everybody concerned, on every node, which makes it ring and stop ringing.
//! Every node ends what has rung for too long and what no node vouches for any more, so nothing rings on because a node has died.
//! How nodes hear of each other's calls is in `nodes`.

mod nodes;

use std::sync::{Arc, Weak};
use std::time::Duration;

use nova_actors::call::{Call, Changed, Emptied, Media, Refusal as CallRefusal, State};
use nova_actors::id::{CallId, ConversationId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::signalling::{Answered, because, fields};
use super::{Calls, Inner, Seat};
use crate::chat::encoded::Class;
use crate::chat::seam::{DeviceHandle, Refusal};
use crate::chat::wire::{self, Answer, Push, RoomRequest, rfc3339_ms};
use crate::conversations::relay::Blocked;
use crate::conversations::talk::refused;
use crate::error::{ApiError, Code};
use crate::store::calls::{CallError, Done, Started};
use nodes::Told;

pub(super) use nodes::hear;

/// How often this node looks for calls that are over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it says which rooms and calls go on here, in looks.
const VOUCH_EVERY: u32 = 5;
/// A call no node has vouched for in so long is over: its node died, and nobody has opened its room elsewhere.
const SILENCE_MAX: Duration = Duration::from_secs(40);
/// A node that could not reach the database ends no silent calls for so long: the others could not vouch for theirs either.
const WELL_FOR: Duration = Duration::from_secs(20);
/// `call.start {conversation, media}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    conversation: ConversationId,
    media: MediaName,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MediaName {
    Audio,
    Video,
}

/// `call.accept|decline|cancel {call}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    call: CallId,
}

/// Whether the fields of a request about a call are as they must be.
#[cfg(test)]
pub(super) fn check(request: RoomRequest) -> Result<(), Refusal> {
    match request.kind.as_str() {
        "call.start" => fields::<Start>(request).map(drop),
        "call.accept" | "call.decline" | "call.cancel" => fields::<Which>(request).map(drop),
        _ => Err(Code::UnknownType.into()),
    }
}

impl Calls {
    /// Answers one request about a call.
    pub(super) async fn call_signal(&self, device: &DeviceHandle, request: RoomRequest) -> Answered {
        match request.kind.as_str() {
            "call.start" => self.start_call(device, fields(request)?).await,
            "call.accept" => {
                let Which { call } = fields(request)?;
                let call = self.0.accept(call, device).await?;
                Ok(Some(answer("call.accepted", &call)))
            }
            "call.decline" => {
                let Which { call } = fields(request)?;
                self.0.concerns(call, device.user()).await?;
                let now = self.0.clock.now();
                self.0.change(call, |call| call.decline(device.user(), now)).await?;
                Ok(None)
            }
            "call.cancel" => {
                let Which { call } = fields(request)?;
                self.0.concerns(call, device.user()).await?;
                let now = self.0.clock.now();
                self.0.change(call, |call| call.cancel(device.user(), now)).await?;
                Ok(None)
            }
            _ => Err(Code::UnknownType.into()),
        }
    }

    async fn start_call(&self, device: &DeviceHandle, start: Start) -> Answered {
        let inner = &self.0;
        let media = match start.media {
            MediaName::Audio => Media::Audio,
            MediaName::Video => Media::Video,
        };
        let now = inner.clock.now();
        if inner.is_leaving() {
            return Err(Code::Draining.into());
        }
        // A node without calls of its own rings, and who answers goes to the one that will hold the room.
        let node = match inner.are_here {
            true => inner.node,
            false => inner.node_with_calls(start.conversation.as_uuid().as_u128(), None).await?.0,
        };
        let room = (node, inner.participants_max);
        let started = inner.store.start_call(start.conversation, device.user(), media, room, now).await;
        let call = match started.map_err(|error| refused(&ApiError::from(error)))? {
            Started::New(call, room, entry) => {
                if inner.are_here {
                    inner.open(*room)?;
                }
                inner.told.committed(vec![Arc::new(entry)]);
                inner.tell_call(&call).await;
                *call
            }
            // Two who call each other at the same moment talk to each other, and who calls where a call goes on joins it.
            Started::Running(call) if call.caller != device.user() => inner.accept(call.id, device).await?,
            Started::Running(call) => *call,
        };
        Ok(Some(answer("call.ringing", &call)))
    }

    /// What rings for somebody whose device has just connected.
    pub(super) async fn ring_for(&self, device: &DeviceHandle) {
        match self.0.store.ringing_for(device.user(), self.0.clock.now()).await {
            Ok(ringing) => {
                for call in ringing {
                    let message = wire::push(&Push::Other(show("call", &call)));
                    // A device that has left needs nothing more.
                    let _gone = device.push(Class::Durable, None, message).await.is_err();
                }
            }
            Err(error) => tracing::warn!(%error, "a device was not told what rings for it"),
        }
    }
}

impl Inner {
    pub(super) async fn accept(&self, call: CallId, device: &DeviceHandle) -> Result<Call, Refusal> {
        self.concerns(call, device.user()).await?;
        let now = self.clock.now();
        self.change(call, |call| call.accept(device.user(), device.device(), now)).await
    }

    /// Whether somebody may come into a room: into one of a conversation its members. Who comes into the room of a call that rings for
    /// them has answered it.
    pub(super) async fn let_in(&self, room: RoomId, device: &DeviceHandle) -> Result<(), Refusal> {
        let (owner, bound) = {
            let rooms = self.lock();
            let room = rooms.rooms.get(&room).ok_or(Code::NotFound)?;
            (room.owner, room.bound)
        };
        let Some(bound) = bound else {
            let blocks = self.blocks.of(device.user()).await.map_err(|error| refused(&error.into()))?;
            if blocks.contains(&owner) {
                return Err(because(Code::Unreachable, "who made this room cannot be reached by you"));
            }
            return Ok(());
        };
        let role = self.store.role(bound.conversation, device.user()).await;
        if role.map_err(|error| refused(&ApiError::from(error)))?.is_none() {
            return Err(Code::NotAMember.into());
        }
        let Some(call) = bound.call else { return Ok(()) };
        let (user, now) = (device.user(), self.clock.now());
        self.change(call, |call| match call.state {
            State::Ringing if user != call.caller => call.accept(user, device.device(), now),
            State::Ended(_) => Err(CallRefusal::Over),
            State::Ringing | State::Active => Ok(Changed::Nothing),
        })
        .await?;
        Ok(())
    }

    /// Refuses who is not in the conversation of a call.
    async fn concerns(&self, call: CallId, user: UserId) -> Result<(), Refusal> {
        match self.store.call_for(call, user).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(because(Code::NotFound, "there is no such call")),
            Err(error) => Err(refused(&error.into())),
        }
    }

    /// Does something to a call, and tells what came of it.
    async fn change(
        &self,
        call: CallId,
        change: impl FnOnce(&mut Call) -> Result<Changed, CallRefusal>,
    ) -> Result<Call, Refusal> {
        let done = self.store.change_call(call, change).await;
        let Done { call, changed, entry } = done.map_err(|error| match error {
            CallError::NotFound => because(Code::NotFound, error.to_string()),
            CallError::Refused(refusal) => because(refusal_code(refusal), refusal.to_string()),
            CallError::Store(error) => refused(&error.into()),
        })?;
        if let Some(entry) = entry {
            self.told.committed(vec![Arc::new(entry)]);
        }
        if changed != Changed::Nothing {
            self.tell_call(&call).await;
        }
        if changed == Changed::State {
            match call.state {
                State::Ended(outcome) => {
                    self.metrics.calls.with_label_values(&[outcome.as_str()]).inc();
                    self.close(call.room, "ended").await;
                }
                State::Active => {
                    let rang = call.answered_at.map_or(time::Duration::ZERO, |at| at - call.started_at);
                    self.metrics.call_ring_duration.observe(rang.as_seconds_f64());
                }
                State::Ringing => {}
            }
        }
        Ok(call)
    }

    /// Nobody is left in the room of a call.
    pub(super) async fn emptied(&self, call: CallId, how: Emptied) {
        let now = self.clock.now();
        if let Err(refusal) = self.change(call, |call| Ok(call.emptied(how, now))).await {
            // The sweep comes back to it: nobody vouches for it any more.
            tracing::warn!(%call, detail = refusal.detail, "the end of a call is not written yet");
        }
    }

    /// Tells every device of everybody concerned how a call is, on every node.
    async fn tell_call(&self, call: &Call) {
        let told = Told {
            node: self.node,
            users: call.told(),
            over: call.state.outcome().map(|_| (call.room, "ended".to_owned())),
            message: Some(show("call", call)),
        };
        if let Some(message) = &told.message {
            self.push_call(&told.users, message);
        }
        self.tell_nodes(&told).await;
    }

    fn push_call(&self, users: &[UserId], message: &Map<String, Value>) {
        let Some(door) = self.door.get() else { return };
        let message = wire::push(&Push::Other(message.clone()));
        for device in users.iter().flat_map(|user| door.devices_of(*user)) {
            let _busy = device.try_push(Class::Durable, None, message.clone()).is_err();
        }
    }

    /// Looks for calls that are over, here or anywhere, those no node vouches for too where `silent` says so; vouches for those that go
    /// on in this node's rooms. Says whether the database could be asked.
    async fn look(&self, vouch: bool, silent: bool) -> bool {
        if self.is_leaving() {
            return true;
        }
        let mut is_well = true;
        if vouch {
            is_well &= self.vouch().await;
            self.vouch_for_rooms().await;
            self.meet_nodes().await;
        }
        let abandoned: Vec<CallId> = {
            let (rooms, now) = (self.lock(), self.clock.instant());
            rooms.rooms.values().filter_map(|room| room.abandoned_call(now)).collect()
        };
        for call in abandoned {
            self.emptied(call, Emptied::Lost).await;
        }
        let now = self.clock.now();
        let silent_since = if silent { now - SILENCE_MAX } else { time::OffsetDateTime::UNIX_EPOCH };
        match self.store.calls_to_end(now, silent_since).await {
            Ok(calls) => {
                for call in calls {
                    let over = |call: &mut Call| {
                        Ok(match call.pass(now) {
                            Changed::Nothing => call.emptied(Emptied::Lost, now),
                            changed => changed,
                        })
                    };
                    if let Err(refusal) = self.change(call, over).await {
                        tracing::warn!(%call, detail = refusal.detail, "a call could not be ended; it is tried again");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known which calls are over");
                is_well = false;
            }
        }
        is_well
    }

    /// Says that the calls in this node's rooms go on; whether that was written.
    async fn vouch(&self) -> bool {
        let here: Vec<(RoomId, CallId)> = {
            let rooms = self.lock();
            let of = |room: &nova_actors::room::Room| Some((room.id, room.bound?.call?));
            rooms.rooms.values().filter_map(of).collect()
        };
        if here.is_empty() {
            return true;
        }
        let calls: Vec<CallId> = here.iter().map(|(_, call)| *call).collect();
        match self.store.vouch_for_calls(&calls, self.clock.now()).await {
            Ok(running) => {
                // Ended by another node, and this one did not hear of it.
                for (room, _) in here.into_iter().filter(|(_, call)| !running.contains(call)) {
                    self.close(room, "ended").await;
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, "nobody hears that the calls of this node go on");
                false
            }
        }
    }

    /// Lets pages of the other nodes connect here: a client comes to where its room is.
    async fn meet_nodes(&self) {
        let Some(door) = self.door.get() else { return };
        match self.store.node_addresses(self.clock.now()).await {
            Ok(nodes) => door.meet(nodes.into_iter().map(|(_, url)| url).collect()),
            Err(error) => tracing::debug!(%error, "the other nodes are not known"),
        }
    }

    /// A block came between two people: what they have between them is over.
    async fn blocked(&self, pair: Blocked) {
        let owned: Vec<(UserId, Seat, UserId)> = {
            let rooms = self.lock();
            let open = rooms.rooms.values().filter(|room| room.bound.is_none());
            let seats = open.flat_map(|room| {
                room.participants().map(|one| (room.owner, (room.id, one.id), one.user)).collect::<Vec<_>>()
            });
            let concerns = |owner: UserId, user: UserId| match pair {
                Some((one, other)) => (owner, user) == (one, other) || (owner, user) == (other, one),
                None => owner != user,
            };
            seats.filter(|(owner, _, user)| concerns(*owner, *user)).collect()
        };
        for (owner, seat, user) in owned {
            match self.blocks.of(user).await {
                Ok(blocks) if blocks.contains(&owner) => self.leave(seat, "blocked").await,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "it is not known whether somebody may stay in a room; they do")
                }
            }
        }
        match self.store.blocked_calls(pair).await {
            Ok(calls) => {
                for call in calls {
                    self.emptied(call, Emptied::Lost).await;
                }
            }
            Err(error) => tracing::warn!(%error, "it is not known which calls a block ends"),
        }
    }
}

/// A call as it is told: `{type, call, conversation, room, caller, media, state, …}`.
pub(super) fn show(kind: &str, call: &Call) -> Map<String, Value> {
    let mut told = Map::new();
    let words = json!({
        "type": kind,
        "call": call.id,
        "conversation": call.conversation,
        "room": call.room,
        "caller": call.caller,
        "media": call.media.as_str(),
        "state": call.state.as_str(),
        "declined": call.declined,
    });
    if let Value::Object(words) = words {
        told.extend(words);
    }
    if call.state == State::Ringing {
        told.insert("ring_until".to_owned(), rfc3339_ms::text(call.ring_until()).into());
    }
    if let Some(outcome) = call.state.outcome() {
        told.insert("outcome".to_owned(), outcome.as_str().into());
    }
    if let Some((user, device)) = call.answered_by {
        told.insert("answered_by".to_owned(), user.to_string().into());
        told.insert("answered_on".to_owned(), device.to_string().into());
    }
    told
}

fn answer(kind: &str, call: &Call) -> Answer {
    Answer::Other(show(kind, call))
}

fn refusal_code(refusal: CallRefusal) -> Code {
    match refusal {
        CallRefusal::Over => Code::CallOver,
        CallRefusal::AnsweredElsewhere => Code::AnsweredElsewhere,
        CallRefusal::OwnCall | CallRefusal::Answered => Code::Conflict,
        CallRefusal::NotTheCaller => Code::Forbidden,
    }
}

/// Looks after calls for as long as there is somebody who could hear of them.
pub(super) async fn look_after(inner: Weak<Inner>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut turn, mut well_since) = (0_u32, Instant::now());
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.store.pool().is_closed() {
            return;
        }
        turn = turn.wrapping_add(1);
        let silent = well_since.elapsed() >= WELL_FOR;
        if !inner.look(turn.is_multiple_of(VOUCH_EVERY), silent).await {
            well_since = Instant::now();
        }
    }
}

/// Ends what a block forbids.
pub(super) async fn look_at_blocks(inner: Weak<Inner>, mut blocked: broadcast::Receiver<Blocked>) {
    loop {
        let pair = match blocked.recv().await {
            Ok(pair) => pair,
            Err(RecvError::Lagged(_)) => None,
            Err(RecvError::Closed) => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        inner.blocked(pair).await;
    }
}
