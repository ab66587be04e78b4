//! The UDP door of calls: one media shard, a thread with one socket, and the [`Sfu`] behind it.
//!
//! Media never passes a mailbox: a datagram is read, opened, sealed for each subscriber and sent on this thread. What others want of
//! it comes as `Order`s over a bounded channel, what happened goes out as [`Event`]s over another.
//!
//! Datagrams are read many at a time and sent with segmentation offload where several of one size go to one address: a large picture
//! is one call to the kernel for each subscriber instead of thirty.

mod fault;
mod shard;
pub mod streams;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nova_media::peer::{Identity, IdentityError};
use nova_media::sdp::Offer;
use nova_media::sfu::{Event, MemberId, RoomKey, Sfu, SfuError, Source, TrackKey, Want};
use quinn_udp::{UdpSockRef, UdpSocketState};
use tokio::sync::{mpsc, oneshot};

use crate::config::RtcConfig;
use crate::telemetry::Metrics;
use shard::{Order, Shard};

/// Orders that wait for the shard: joins and mutes of a whole room at once. When full, whoever orders waits.
const ORDERS_MAX: usize = 1_024;
/// Events that wait to be told. When full they are lost and counted: slots and speakers are told anew when they next change.
const EVENTS_MAX: usize = 16_384;
/// Bytes the kernel holds for us in each direction: a hundred milliseconds of a busy shard.
const SOCKET_BYTES: usize = 8 << 20;

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

/// The shard, from outside. Cheap to clone; the shard ends with the last.
#[derive(Debug, Clone)]
pub struct Media {
    orders: mpsc::Sender<Order>,
    is_overloaded: Arc<AtomicBool>,
}

impl Media {
    /// Starts the shard on `socket`. Gives its events too.
    pub fn start(
        config: &RtcConfig,
        socket: UdpSocket,
        metrics: Metrics,
    ) -> Result<(Media, mpsc::Receiver<Event>), RtcError> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // What the kernel does not grant is done without.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
        let (identity, now) = (Arc::new(Identity::generate()?), Instant::now());
        let addresses = addresses(config, socket.local_addr()?);
        let sfu = Sfu::new(identity, addresses, u64::from_le_bytes(seed), now);
        let (orders, to_do) = mpsc::channel(ORDERS_MAX);
        let (events, heard) = mpsc::channel(EVENTS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let is_overloaded = Arc::new(AtomicBool::new(false));
        let overloaded = is_overloaded.clone();
        std::thread::Builder::new().name("nova-media-0".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match tokio::net::UdpSocket::from_std(socket) {
                    Ok(socket) => {
                        let shard = Shard::new(sfu, socket, state, events, metrics, overloaded);
                        shard.run(to_do).await;
                    }
                    Err(error) => tracing::error!(%error, "the media port cannot be used"),
                }
            });
        })?;
        Ok((Media { orders, is_overloaded }, heard))
    }

    /// Whether it has more to do than it can: no new rooms are to be made.
    pub fn is_overloaded(&self) -> bool {
        self.is_overloaded.load(Ordering::Relaxed)
    }

    /// No shard at all, on a node whose calls are elsewhere: whoever is asked for is not there, and nothing ever happens.
    pub fn elsewhere() -> (Media, mpsc::Receiver<Event>) {
        (Media { orders: mpsc::channel(1).0, is_overloaded: Arc::default() }, mpsc::channel(1).1)
    }

    /// Somebody comes; gives the answer to their offer.
    pub async fn join(&self, room: RoomKey, offer: Offer) -> Result<(MemberId, String), SfuError> {
        self.ask(|answer| Order::Join { room, offer: Box::new(offer), answer }).await
    }

    /// Somebody offers anew.
    pub async fn offer(&self, member: MemberId, offer: Offer) -> Result<String, SfuError> {
        self.ask(|answer| Order::Offer { member, offer: Box::new(offer), answer }).await
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
        self.ask(|answer| Order::Publish { member, track, mid, source, muted, answer }).await
    }

    /// A track is taken back.
    pub async fn unpublish(&self, member: MemberId, track: TrackKey) {
        self.tell(Order::Unpublish { member, track }).await;
    }

    /// A track is muted or not.
    pub async fn mute(&self, member: MemberId, track: TrackKey, muted: bool) {
        self.tell(Order::Mute { member, track, muted }).await;
    }

    /// Somebody says what they want to see.
    pub async fn view(&self, member: MemberId, wants: Vec<Want>) {
        self.tell(Order::View { member, wants }).await;
    }

    /// Somebody may have data channels; `number` stands before what they say there, if they may.
    pub async fn let_talk(&self, member: MemberId, number: u32, may_speak: bool) {
        self.tell(Order::LetTalk { member, number, may_speak }).await;
    }

    /// Somebody leaves.
    pub async fn leave(&self, member: MemberId) {
        self.tell(Order::Leave { member }).await;
    }

    async fn tell(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::error!("the media shard has ended");
        }
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
