//! What live streams ask of a shard: to send a stream's frames to its viewers, to take those of a publisher, and to be sent what a
//! participant of a room would be.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use nova_media::rtp::payload::Codec;
use nova_media::sdp::Offer;
use nova_media::sfu::{Event, MemberId, Out, Packet, RoomKey, Sfu, SfuError, Source, Taken, TrackKey};
use tokio::sync::{mpsc, oneshot};

use super::Media;
use super::placement::Seat;
use super::shard::Order;

/// How it stands with somebody who is no participant of a call.
///
/// Written by the shard, read by whoever let them in: nothing is lost on the way, however busy either is.
#[derive(Debug, Default)]
pub struct Standing(AtomicU8);

/// See [`Standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// Has not come yet.
    Awaited,
    /// Media flows.
    Connected,
    /// Has left, or was never reached; the shard knows nothing of them any more.
    Gone,
}

impl Standing {
    /// As of now.
    pub fn get(&self) -> Stands {
        match self.0.load(Ordering::Acquire) {
            0 => Stands::Awaited,
            1 => Stands::Connected,
            _ => Stands::Gone,
        }
    }

    fn set(&self, stands: Stands) {
        let value = match stands {
            Stands::Awaited => 0,
            Stands::Connected => 1,
            Stands::Gone => 2,
        };
        self.0.store(value, Ordering::Release);
    }
}

/// What the shard is told to do for streams.
#[derive(Debug)]
pub(super) enum StreamOrder {
    Attend {
        seat: Seat,
        offer: Box<Offer>,
        standing: Arc<Standing>,
        answer: oneshot::Sender<Result<(MemberId, String), SfuError>>,
    },
    OpenFeed {
        seat: Seat,
        tracks: Vec<(TrackKey, Source, Codec)>,
        answer: oneshot::Sender<Result<MemberId, SfuError>>,
    },
    Feed {
        member: MemberId,
        track: TrackKey,
        at_us: u64,
        came: Instant,
        packets: Vec<Packet>,
    },
    Receive {
        member: MemberId,
        tracks: Vec<(TrackKey, String, Source)>,
        sink: mpsc::Sender<Taken>,
        answer: oneshot::Sender<Result<(), SfuError>>,
    },
    AskKeyframe {
        member: MemberId,
        track: TrackKey,
    },
    Listen {
        seat: Seat,
        sink: mpsc::Sender<Taken>,
        answer: oneshot::Sender<Result<MemberId, SfuError>>,
    },
    BeginAnew {
        listener: MemberId,
    },
}

impl StreamOrder {
    /// Of whom it is, when they are there already.
    pub(super) fn member(&self) -> Option<MemberId> {
        match self {
            StreamOrder::Feed { member, .. }
            | StreamOrder::Receive { member, .. }
            | StreamOrder::AskKeyframe { member, .. }
            | StreamOrder::BeginAnew { listener: member } => Some(*member),
            StreamOrder::Attend { .. } | StreamOrder::OpenFeed { .. } | StreamOrder::Listen { .. } => None,
        }
    }
}

/// Those at the shard who are no participants of calls.
#[derive(Debug, Default)]
pub(super) struct Attending {
    standings: HashMap<MemberId, Arc<Standing>>,
    sinks: HashMap<MemberId, mpsc::Sender<Taken>>,
}

impl Attending {
    pub(super) fn carry_out(
        &mut self,
        order: StreamOrder,
        sfu: &mut Sfu,
        seats: &mut HashMap<MemberId, Seat>,
        now: Instant,
        out: &mut Out,
    ) {
        match order {
            StreamOrder::Attend { seat, offer, standing, answer } => {
                let joined = sfu.join(seat.room(), &offer, now);
                if let Ok((member, _)) = &joined {
                    self.standings.insert(*member, standing);
                    seats.insert(*member, seat);
                }
                if let Err(Ok((member, _))) = answer.send(joined) {
                    self.standings.remove(&member);
                    sfu.leave(member, now, out);
                    seats.remove(&member);
                }
            }
            StreamOrder::OpenFeed { seat, tracks, answer } => {
                let opened = sfu.open_feed(seat.room(), &tracks, now);
                if let Ok(member) = &opened {
                    seats.insert(*member, seat);
                }
                if let Err(Ok(member)) = answer.send(opened) {
                    sfu.leave(member, now, out);
                    seats.remove(&member);
                }
            }
            // Of a feed that was closed meanwhile.
            StreamOrder::Feed { member, track, at_us, came, packets } => {
                let _ = sfu.feed(member, track, at_us, came, &packets, now, out);
            }
            StreamOrder::Receive { member, tracks, sink, answer } => {
                let published = tracks.into_iter().try_for_each(|(track, mid, source)| {
                    sfu.publish(member, track, &mid, source, false)?;
                    sfu.take(member, track)
                });
                if published.is_ok() {
                    self.sinks.insert(member, sink);
                }
                let _ = answer.send(published);
            }
            StreamOrder::AskKeyframe { member, track } => {
                let _ = sfu.ask_keyframe(member, track);
            }
            StreamOrder::Listen { seat, sink, answer } => {
                let opened = sfu.open_listener(seat.room(), now);
                if let Ok(member) = &opened {
                    // What happens to it is nobody's news.
                    self.standings.insert(*member, Arc::default());
                    self.sinks.insert(*member, sink);
                    seats.insert(*member, seat);
                }
                if let Err(Ok(member)) = answer.send(opened) {
                    self.left(member);
                    sfu.leave(member, now, out);
                    seats.remove(&member);
                }
            }
            // Of one that has left meanwhile.
            StreamOrder::BeginAnew { listener } => {
                let _ = sfu.renew_picture(listener);
            }
        }
    }

    /// Hands packets to whoever takes them. Who does not keep up has a loss, as on the network.
    pub(super) fn hand_out(&self, taken: &mut Vec<Taken>) {
        for packet in taken.drain(..) {
            if let Some(sink) = self.sinks.get(&packet.member) {
                let _ = sink.try_send(packet);
            }
        }
    }

    /// Somebody was told to leave.
    pub(super) fn left(&mut self, member: MemberId) {
        self.sinks.remove(&member);
        if let Some(standing) = self.standings.remove(&member) {
            standing.set(Stands::Gone);
        }
    }

    /// Takes an event that is about one of them; whoever has to leave the shard for it is given.
    pub(super) fn hear(&mut self, event: &Event) -> Heard {
        let (member, stands) = match event {
            Event::Connected(member) => (member, Stands::Connected),
            Event::Failed(member, _) | Event::Closed(member) => (member, Stands::Gone),
            Event::Slots(member, _)
            | Event::Wanted(member, ..)
            | Event::Paused(member, ..)
            | Event::Data(member, _) => (member, Stands::Awaited),
            Event::Speakers(..) => return Heard::Others,
        };
        let Some(standing) = self.standings.get(member) else { return Heard::Others };
        match stands {
            Stands::Awaited => Heard::Taken,
            Stands::Connected => {
                standing.set(Stands::Connected);
                Heard::Taken
            }
            Stands::Gone => {
                self.left(*member);
                Heard::Leaves(*member)
            }
        }
    }
}

/// Whose an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// A call's.
    Others,
    /// One of ours, and all is done.
    Taken,
    /// One of ours, who has gone.
    Leaves(MemberId),
}

impl Media {
    /// Somebody comes to a stream; gives the answer to their offer. How it stands with them is written to `standing`.
    pub async fn attend(
        &self,
        room: RoomKey,
        offer: Offer,
        standing: Arc<Standing>,
    ) -> Result<(MemberId, String), SfuError> {
        let offer = Box::new(offer);
        let order = |seat, answer| StreamOrder::Attend { seat, offer, standing, answer };
        self.ask_in(room, |seat, answer| Order::Stream(order(seat, answer))).await
    }

    /// A publisher within this process, and its tracks. It [leaves](Media::leave) as everybody does.
    pub async fn open_feed(
        &self,
        room: RoomKey,
        tracks: Vec<(TrackKey, Source, Codec)>,
    ) -> Result<MemberId, SfuError> {
        let order = |seat, answer| StreamOrder::OpenFeed { seat, tracks, answer };
        self.ask_in(room, |seat, answer| Order::Stream(order(seat, answer))).await
    }

    /// Packets of one picture or piece of sound, in order; `at_us` on the clock all tracks of the feed share. They came at `came`.
    pub async fn feed(
        &self,
        member: MemberId,
        track: TrackKey,
        at_us: u64,
        came: Instant,
        packets: Vec<Packet>,
    ) {
        let order = StreamOrder::Feed { member, track, at_us, came, packets };
        self.tell(member, Order::Stream(order)).await;
    }

    /// Takes what somebody who [attends](Media::attend) sends: their tracks with their m-lines, and where the packets go.
    pub async fn receive(
        &self,
        member: MemberId,
        tracks: Vec<(TrackKey, String, Source)>,
        sink: mpsc::Sender<Taken>,
    ) -> Result<(), SfuError> {
        let order = |answer| StreamOrder::Receive { member, tracks, sink, answer };
        self.ask(member, |answer| Order::Stream(order(answer))).await
    }

    /// Asks the publisher of a track for a keyframe.
    pub async fn ask_keyframe(&self, member: MemberId, track: TrackKey) {
        self.tell(member, Order::Stream(StreamOrder::AskKeyframe { member, track })).await;
    }

    /// Listens to a room: the voices and the picture a participant would be sent go to `sink`. It says what it wants to
    /// [see](Media::view) and [leaves](Media::leave) as everybody does.
    pub async fn listen(&self, room: RoomKey, sink: mpsc::Sender<Taken>) -> Result<MemberId, SfuError> {
        let order = |seat, answer| StreamOrder::Listen { seat, sink, answer };
        self.ask_in(room, |seat, answer| Order::Stream(order(seat, answer))).await
    }

    /// Whoever listens has lost what it had of the picture: it begins anew with a keyframe.
    pub async fn begin_anew(&self, listener: MemberId) {
        self.tell(listener, Order::Stream(StreamOrder::BeginAnew { listener })).await;
    }
}
