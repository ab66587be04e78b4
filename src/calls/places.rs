//! Which node a room is on.
//!
//! Not every node has calls: one without the role `rtc` sends everybody to one that has.
//!
//! A room lives in the memory of one node; PostgreSQL says which, and a lease on the bus says whether that node is still there. Whoever
//! wants to join on another node is told where to go; when the node is gone, the room is opened on the one that was asked. A node that
//! stood still for so long that its rooms were taken finds out when it next vouches for them, and lets them go.

use std::sync::Weak;
use std::time::Duration;

use nova_actors::id::{ConversationId, NodeId, RoomId, UserId};
use nova_actors::port::{Lease, LeaseName};
use nova_actors::room::{Bound, ParticipantId, Room};
use tokio::time::{MissedTickBehavior, interval};

use super::signalling::because;
use super::{Inner, ROOMS_MAX};
use crate::chat::seam::Refusal;
use crate::conversations::talk::refused;
use crate::error::Code;
use crate::store::rooms::Kept;

/// For how long a node is believed to be there after it last said so; then its rooms may be opened elsewhere.
const LEASE: Duration = Duration::from_secs(3);
/// How often it says so.
const RENEW_EVERY: Duration = Duration::from_millis(750);
/// A question whether a node is there holds its lease for so long when it is not.
const QUESTION: Duration = Duration::from_millis(500);
/// Rooms nobody was in for so long are forgotten.
const UNUSED_MAX: time::Duration = time::Duration::hours(1);
/// When to ask again for a room that is on its way from one node to another.
const AGAIN_MS: u64 = 500;

/// Where a room is.
pub(super) enum Place {
    /// On this node.
    Here,
    /// On another one, which clients reach there.
    There(String),
}

fn lease_name(node: NodeId) -> LeaseName {
    LeaseName::new(format!("calls:{node}")).expect("an id is a name on the bus")
}

impl Inner {
    /// Finds a room; opens it here when it is on no node that is there.
    pub(super) async fn place(&self, id: RoomId) -> Result<Place, Refusal> {
        let unavailable = |error| refused(&crate::error::ApiError::from(error));
        for _ in 0..3 {
            if self.lock().rooms.contains_key(&id) {
                return Ok(Place::Here);
            }
            if self.is_leaving() {
                return Err(Code::Draining.into());
            }
            let kept = self.store.room(id).await.map_err(unavailable)?.ok_or(Code::NotFound)?;
            let from = kept.node;
            if let Some(node) = from.filter(|node| *node != self.node)
                && !self.is_gone(node).await
            {
                let now = self.clock.now();
                let addresses = self.store.node_addresses(now).await.map_err(unavailable)?;
                let url = addresses.into_iter().find(|(known, _)| *known == node).map(|(_, url)| url);
                return url.map(Place::There).ok_or_else(on_its_way);
            }
            if !self.are_here {
                let (_, url) = self.node_with_calls(id.as_uuid().as_u128(), from).await?;
                return Ok(Place::There(url));
            }
            let now = self.clock.now();
            if self.store.claim_room(id, from, self.node, now).await.map_err(unavailable)? {
                self.open(kept)?;
                return Ok(Place::Here);
            }
        }
        Err(on_its_way())
    }

    /// A node calls take place on, the same for the same `key` as long as nodes neither come nor go; `gone` is not asked.
    pub(super) async fn node_with_calls(
        &self,
        key: u128,
        gone: Option<NodeId>,
    ) -> Result<(NodeId, String), Refusal> {
        let nodes = self.store.nodes_with_calls(self.clock.now()).await;
        let nodes = nodes.map_err(|error| refused(&crate::error::ApiError::from(error)))?;
        let rank = |node: NodeId| {
            (node.as_uuid().as_u128() ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
        };
        let others = nodes.into_iter().filter(|(node, _)| Some(*node) != gone);
        let chosen = others.max_by_key(|(node, _)| rank(*node));
        chosen.ok_or_else(|| because(Code::Unavailable, "no node that has calls is there; ask again"))
    }

    /// A node that does not hold its lease is gone. While the bus cannot be asked, only one that is silent in the database too.
    async fn is_gone(&self, node: NodeId) -> bool {
        match self.bus.acquire(&lease_name(node), self.node, QUESTION).await {
            Ok(Some(lease)) => {
                // It expires by itself very soon.
                let _kept = self.bus.release(&lease).await.is_err();
                true
            }
            Ok(None) => false,
            Err(_) => match self.store.node_addresses(self.clock.now()).await {
                Ok(addresses) => addresses.iter().all(|(known, _)| *known != node),
                Err(_) => false,
            },
        }
    }

    /// Makes a room that this node was given.
    pub(super) fn open(&self, kept: Kept) -> Result<(), Refusal> {
        let mut rooms = self.lock();
        if rooms.rooms.len() >= ROOMS_MAX || self.media.is_overloaded() {
            return Err(Code::Overloaded.into());
        }
        let Kept { id, owner, title, participants_max, .. } = kept;
        let mut room = Room::new(id, owner, title, participants_max, self.clock.instant());
        room.bound = kept.conversation.map(|conversation| Bound {
            conversation,
            call: kept.call,
            is_direct: kept.is_direct,
        });
        room.has_lobby = kept.has_lobby;
        room.locked = kept.is_locked;
        room.removed = kept.removed;
        rooms.rooms.entry(id).or_insert(room);
        self.count(&rooms);
        Ok(())
    }

    /// Says who is in this node's rooms; lets go of those that are another's or have ended, and of people who may not be there any more.
    pub(super) async fn vouch_for_rooms(&self) {
        let here: Vec<(RoomId, usize)> = {
            let rooms = self.lock();
            rooms.rooms.values().map(|room| (room.id, room.participants().count())).collect()
        };
        let now = self.clock.now();
        if !here.is_empty() {
            match self.store.vouch_for_rooms(self.node, &here, now).await {
                Ok(own) => {
                    for (room, _) in here.iter().filter(|(room, _)| !own.contains(room)) {
                        self.close(*room, "moved").await;
                    }
                }
                Err(error) => tracing::warn!(%error, "nobody hears that the rooms of this node are there"),
            }
        }
        self.look_at_members().await;
        if let Err(error) = self.store.drop_unused_rooms(now - UNUSED_MAX).await {
            tracing::warn!(%error, "rooms nobody uses are still kept; it is tried again");
        }
    }

    /// Whoever is not in a conversation any more is not in its rooms either.
    async fn look_at_members(&self) {
        let seated: Vec<(RoomId, ParticipantId, ConversationId, UserId)> = {
            let rooms = self.lock();
            let of = |room: &Room| {
                let Some(bound) = room.bound else { return Vec::new() };
                let seat =
                    |one: &nova_actors::room::Participant| (room.id, one.id, bound.conversation, one.user);
                room.participants().map(seat).collect::<Vec<_>>()
            };
            rooms.rooms.values().flat_map(of).collect()
        };
        if seated.is_empty() {
            return;
        }
        let asked: Vec<_> = seated.iter().map(|(.., conversation, user)| (*conversation, *user)).collect();
        match self.store.no_members(&asked).await {
            Ok(gone) => {
                for (room, participant, conversation, user) in seated {
                    if gone.contains(&(conversation, user)) {
                        self.leave((room, participant), "not_a_member").await;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "it is not known who may still be in the rooms here"),
        }
    }

    /// Whether a room is this node's in the database too.
    pub(super) async fn is_own(&self, room: RoomId) -> bool {
        match self.store.room(room).await {
            Ok(kept) => kept.is_none_or(|kept| kept.node == Some(self.node)),
            Err(_) => true,
        }
    }
}

fn on_its_way() -> Refusal {
    let refusal = because(Code::Unavailable, "the room moves from one node to another; ask again");
    Refusal { retry_after_ms: Some(AGAIN_MS), ..refusal }
}

/// Says that this node is there, for as long as it is.
pub(super) async fn hold_lease(inner: Weak<Inner>) {
    let Some((bus, node)) = inner.upgrade().map(|inner| (inner.bus.clone(), inner.node)) else { return };
    let name = lease_name(node);
    let mut ticks = interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut held: Option<Lease> = None;
    loop {
        let left = match inner.upgrade() {
            Some(inner) => tokio::select! {
                _ = ticks.tick() => false,
                () = inner.left.notified() => true,
            },
            None => true,
        };
        if left {
            if let Some(lease) = held {
                let _expires = bus.release(&lease).await.is_err();
            }
            return;
        }
        held = match held {
            Some(lease) => match bus.renew(&lease, LEASE).await {
                Ok(true) => Some(lease),
                // Somebody may have taken rooms of ours meanwhile.
                Ok(false) => {
                    let again = bus.acquire(&name, node, LEASE).await.ok().flatten();
                    if let Some(inner) = inner.upgrade() {
                        inner.vouch_for_rooms().await;
                    }
                    again
                }
                // Nobody else can take it either.
                Err(_) => Some(lease),
            },
            None => bus.acquire(&name, node, LEASE).await.ok().flatten(),
        };
    }
}
