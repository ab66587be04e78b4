//! What comes out of a shard: datagrams to be sent, events to be told, packets that are handed out.

use std::net::SocketAddr;

use super::{MemberId, RoomKey, TrackKey, Trouble};
use crate::peer::{Failure, Transmit};
use crate::rtp::payload::Codec;
use crate::rtp::ring::Kept;
use crate::rtp::rtcp::SenderTime;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Media may flow.
    Connected(MemberId),
    /// The transport has ended; the participant may come back with a new offer.
    Failed(MemberId, Failure),
    /// The client closed its connection.
    Closed(MemberId),
    /// What is in the slots of a participant: the slot's mid, and the track in it.
    Slots(MemberId, Vec<(String, Option<TrackKey>)>),
    /// Who speaks, the loudest first.
    Speakers(RoomKey, Vec<MemberId>),
    /// A track in a slot of a participant is not sent because their path does not carry even the least of it, or is again.
    Paused(MemberId, TrackKey, bool),
    /// The highest layer of a track that anybody watches, counted from 0; `None` when nobody does.
    Wanted(MemberId, TrackKey, Option<usize>),
    /// Something about the data channels of a participant went wrong.
    Data(MemberId, Trouble),
}

/// What is to be sent, and what is to be told.
#[derive(Debug, Default)]
pub struct Out {
    /// Datagrams, in order.
    pub transmits: Vec<Transmit>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// Packets of tracks that are [taken](super::Sfu::take), and of what [listeners](super::Sfu::open_listener) have in their slots.
    pub taken: Vec<Taken>,
    /// Addresses that are nobody's any more.
    pub forgotten: Vec<SocketAddr>,
}

/// A packet that is handed out: of a track that is taken, as its publisher sent it; or of a listener's slot, numbered as one stream
/// whatever is in the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Who publishes the track that is taken, or who listens.
    pub member: MemberId,
    /// In which slot of the listener.
    pub slot: usize,
    /// Of which track.
    pub track: TrackKey,
    /// How it is coded.
    pub codec: Codec,
    /// What.
    pub kept: Kept,
    /// What the publisher told last of the time of this track.
    pub told: Option<SenderTime>,
}
