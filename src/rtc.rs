//! The media door of calls: shards, each a thread with a UDP socket and the [`Sfu`] behind it, all on one port, and one thread for who
//! comes over TCP.
//!
//! Media never passes a mailbox: a datagram is read, opened, sealed for each subscriber and sent on one thread. What others want of
//! it comes as `Order`s over a bounded channel, what happened goes out as [`Event`]s over another that all shards share.
//!
//! Datagrams are read many at a time and sent with segmentation offload where several of one size go to one address: a large picture
//! is one call to the kernel for each subscriber instead of thirty. What goes to many addresses goes many at a time too. What came first
//! does not wait for all that was read with it: it is sent when it is another sender's turn.
//!
//! A room is on one shard, so one call is never more than one core; different calls use different ones. The kernel is told which
//! addresses are whose; what it gave to another shard's socket before is handed over.
//!
//! | file | what it settles |
//! |---|---|
//! | [`sockets`] | one port for all, and nobody else's |
//! | `placement` | on which shard a room is |
//! | `demux` | which shard a datagram is for |
//! | `steering` | has the kernel give it to that shard's socket |
//! | `shard` | the thread: what comes, what it is told |
//! | `tcp` | the same for whose network lets no UDP through |
//! | `egress` | what waits to be sent, in how many calls to the kernel |
//! | `sojourn` | how long a packet is kept |
//! | `counting` | what is told of it in metrics, and what it sheds |
//! | [`streams`] | what live streams ask of it |
//! | `fault` | a thread that does not run, or breaks, for measures |

mod counting;
mod demux;
pub(crate) mod egress;
mod fault;
mod placement;
mod shard;
pub mod sockets;
mod sojourn;
mod steering;
pub mod streams;
mod tcp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nova_media::framing;
use nova_media::peer::{Identity, IdentityError};
use nova_media::sdp::Offer;
use nova_media::sfu::{Event, Marks, MemberId, Place, RoomKey, Sfu, SfuError, Source, TrackKey, Want};
use quinn_udp::{UdpSockRef, UdpSocketState};
use tokio::sync::{mpsc, oneshot};

use crate::config::RtcConfig;
use crate::telemetry::Metrics;
use demux::{Demux, Parcel};
use placement::{Placement, Seat};
use shard::{Order, Shard};
use steering::Steering;
use tcp::{Door, Open, Outlets};

/// Orders that wait for a shard: joins and mutes of a whole room at once. When full, whoever orders waits.
const ORDERS_MAX: usize = 1_024;
/// Events that wait to be told. When full they are lost and counted: slots and speakers are told anew when they next change.
const EVENTS_MAX: usize = 16_384;
/// Bytes the kernel holds for us in each direction: a hundred milliseconds of a busy shard.
const SOCKET_BYTES: usize = 8 << 20;

/// How much sooner than others the threads of the shards run, as setpriority(2) counts it: whatever else the node and the machine do can
/// wait longer than what somebody says.
const NICENESS: i32 = -10;

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RtcError {
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The socket cannot be used, or there is no thread.
    #[error("cannot open the media port: {0}")]
    Socket(#[from] io::Error),
}

/// The shards, from outside. Cheap to clone; the shards end with the last.
#[derive(Debug, Clone)]
pub struct Media {
    shards: Arc<[Handle]>,
    placement: Arc<Placement>,
    /// The port of TCP, until the last has gone.
    _open: Option<Arc<Open>>,
}

/// One shard, from outside.
#[derive(Debug)]
struct Handle {
    orders: mpsc::Sender<Order>,
    is_overloaded: Arc<AtomicBool>,
}

impl Media {
    /// Starts a shard on each of the sockets, which are [one port's](sockets::open), and lets in who comes over TCP. Gives the shards'
    /// events too. Without sockets there are no shards: calls are elsewhere.
    pub fn start(
        config: &RtcConfig,
        sockets: Vec<UdpSocket>,
        tcp: Option<TcpListener>,
        metrics: &Metrics,
    ) -> Result<(Media, mpsc::Receiver<Event>), RtcError> {
        let steering = match sockets.as_slice() {
            [first, _, ..] => Steering::start(first, metrics)?,
            _ => Steering::none(),
        };
        Media::start_steered(config, sockets, tcp, metrics, &steering)
    }

    fn start_steered(
        config: &RtcConfig,
        sockets: Vec<UdpSocket>,
        tcp: Option<TcpListener>,
        metrics: &Metrics,
        steering: &Steering,
    ) -> Result<(Media, mpsc::Receiver<Event>), RtcError> {
        let Some(first) = sockets.first() else { return Ok(Media::elsewhere()) };
        let (identity, mut reached) =
            (Arc::new(Identity::generate()?), addresses(config, first.local_addr()?));
        if let Some(tcp) = &tcp {
            reached.extend(addresses(config, tcp.local_addr()?).into_iter().map(framing::mark));
        }
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let (placement, marks) = (Arc::new(Placement::new(sockets.len())), Marks::default());
        let (demuxes, ways) = Demux::for_each(sockets.len(), steering);
        let outlets = Outlets::default();
        let mut shards = Vec::new();
        for ((shard, socket), (demux, parcels)) in (0..=u8::MAX).zip(sockets).zip(demuxes) {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
            let (seed, place) = (u64::from_le_bytes(seed), Place { shard, marks: marks.clone() });
            let sfu = Sfu::new(identity.clone(), reached.clone(), seed, Instant::now());
            let sfu = sfu.at(place).publishing_at_most(config.rtc_publish_kbps_max);
            let demux = (demux, parcels, outlets.clone());
            shards.push(Handle::start(sfu, socket, demux, events.clone(), metrics.clone())?);
        }
        let door = Door { ways, marks, outlets, metrics: metrics.clone() };
        let open = tcp.map(|listener| door.open(listener)).transpose()?;
        Ok((Media { shards: shards.into(), placement, _open: open.map(Arc::new) }, heard))
    }

    /// No shard at all: whoever is asked for is not there, and nothing ever happens.
    fn elsewhere() -> (Media, mpsc::Receiver<Event>) {
        let placement = Arc::new(Placement::new(0));
        (Media { shards: Arc::new([]), placement, _open: None }, mpsc::channel(1).1)
    }

    /// Whether all shards have more to do than they can, also the one a new room would be placed on: none are to be made.
    pub fn is_overloaded(&self) -> bool {
        !self.shards.is_empty() && self.shards.iter().all(Handle::is_overloaded)
    }

    /// Shards whose threads have ended, and how many there were. New rooms are on the others.
    pub fn ended(&self) -> (usize, usize) {
        (self.shards.iter().filter(|shard| shard.has_ended()).count(), self.shards.len())
    }

    /// Somebody comes; gives the answer to their offer.
    pub async fn join(&self, room: RoomKey, offer: Offer) -> Result<(MemberId, String), SfuError> {
        self.ask_in(room, |seat, answer| Order::Join { seat, offer: Box::new(offer), answer }).await
    }

    /// Somebody offers anew.
    pub async fn offer(&self, member: MemberId, offer: Offer) -> Result<String, SfuError> {
        self.ask(member, |answer| Order::Offer { member, offer: Box::new(offer), answer }).await
    }

    /// Somebody publishes.
    pub async fn publish(
        &self,
        member: MemberId,
        track: TrackKey,
        mid: String,
        source: Source,
        muted: bool,
    ) -> Result<(), SfuError> {
        self.ask(member, |answer| Order::Publish { member, track, mid, source, muted, answer }).await
    }

    /// A track is taken back.
    pub async fn unpublish(&self, member: MemberId, track: TrackKey) {
        self.tell(member, Order::Unpublish { member, track }).await;
    }

    /// A track is muted or not.
    pub async fn mute(&self, member: MemberId, track: TrackKey, muted: bool) {
        self.tell(member, Order::Mute { member, track, muted }).await;
    }

    /// Somebody says what they want to see.
    pub async fn view(&self, member: MemberId, wants: Vec<Want>) {
        self.tell(member, Order::View { member, wants }).await;
    }

    /// Somebody may have data channels; `number` stands before what they say there, if they may.
    pub async fn let_talk(&self, member: MemberId, number: u32, may_speak: bool) {
        self.tell(member, Order::LetTalk { member, number, may_speak }).await;
    }

    /// Somebody is back who may have missed what was said to them.
    pub async fn tell_again(&self, member: MemberId) {
        self.tell(member, Order::TellAgain { member }).await;
    }

    /// Somebody leaves.
    pub async fn leave(&self, member: MemberId) {
        self.tell(member, Order::Leave { member }).await;
    }

    async fn tell(&self, member: MemberId, order: Order) {
        if let Some(shard) = self.shards.get(usize::from(member.shard())) {
            shard.tell(order).await;
        }
    }

    async fn ask<T>(
        &self,
        member: MemberId,
        order: impl FnOnce(oneshot::Sender<Result<T, SfuError>>) -> Order,
    ) -> Result<T, SfuError> {
        let shard = self.shards.get(usize::from(member.shard())).ok_or(SfuError::Gone)?;
        shard.ask(order).await
    }

    /// Asks the shard a room is on, or is placed on now.
    async fn ask_in<T>(
        &self,
        room: RoomKey,
        order: impl FnOnce(Seat, oneshot::Sender<Result<T, SfuError>>) -> Order,
    ) -> Result<T, SfuError> {
        let is_avoided = |at: usize| self.shards.get(at).is_none_or(Handle::is_overloaded);
        let seat = self.placement.seat(room, is_avoided).ok_or(SfuError::Gone)?;
        let shard = self.shards.get(seat.shard()).ok_or(SfuError::Gone)?;
        if shard.has_ended() {
            return Err(SfuError::Ended);
        }
        shard.ask(|answer| order(seat, answer)).await
    }
}

impl Handle {
    fn start(
        sfu: Sfu,
        socket: UdpSocket,
        (demux, parcels, outlets): (Demux, mpsc::Receiver<Parcel>, Outlets),
        events: mpsc::Sender<Event>,
        metrics: Metrics,
    ) -> Result<Handle, RtcError> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // What the kernel does not grant is done without.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
        let (orders, to_do) = mpsc::channel(ORDERS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let is_overloaded = Arc::new(AtomicBool::new(false));
        let overloaded = is_overloaded.clone();
        std::thread::Builder::new().name(format!("nova-media-{}", demux.shard())).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS)
            {
                tracing::debug!(%error, "a media shard runs no sooner than anything else");
            }
            runtime.block_on(async move {
                match tokio::net::UdpSocket::from_std(socket) {
                    Ok(socket) => {
                        let socket = (socket, state);
                        let shard = Shard::new(sfu, socket, demux, events, outlets, metrics, overloaded);
                        shard.run(to_do, parcels).await;
                    }
                    Err(error) => tracing::error!(%error, "the media port cannot be used"),
                }
            });
        })?;
        Ok(Handle { orders, is_overloaded })
    }

    /// Whether no new room is to be on it.
    fn is_overloaded(&self) -> bool {
        self.has_ended() || self.is_overloaded.load(Ordering::Relaxed)
    }

    /// Nobody takes orders any more.
    fn has_ended(&self) -> bool {
        self.orders.is_closed()
    }

    async fn tell(&self, order: Order) {
        // Of one that has ended is told where it ends, and by the node's health.
        let _ = self.orders.send(order).await;
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, SfuError>>) -> Order,
    ) -> Result<T, SfuError> {
        let (answer, answered) = oneshot::channel();
        self.tell(order(answer)).await;
        answered.await.unwrap_or(Err(SfuError::Gone))
    }
}

/// Where clients are told to send to, the best first.
fn addresses(config: &RtcConfig, bound: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip| SocketAddr::new(ip, bound.port());
    if !config.rtc_public_ip.is_empty() {
        return config.rtc_public_ip.iter().copied().map(at).collect();
    }
    if !bound.ip().is_unspecified() {
        return vec![bound];
    }
    // The address this machine reaches others from; connecting a UDP socket sends nothing.
    let outward = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let outward = outward.ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
    outward.into_iter().chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]).map(at).collect()
}
#[cfg(test)]
mod tests;
