//! The UDP door of calls: one media shard, a thread with one socket, and the [`Sfu`] behind it.
//!
//! Media never passes a mailbox: a datagram is read, opened, sealed for each subscriber and sent on this thread. What others want of
//! it comes as `Order`s over a bounded channel, what happened goes out as [`Event`]s over another.
//!
//! Datagrams are read many at a time and sent with segmentation offload where several of one size go to one address: a large picture
//! is one call to the kernel for each subscriber instead of thirty.

mod fault;
pub mod streams;

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nova_media::peer::{Identity, IdentityError, Transmit};
use nova_media::sdp::Offer;
use nova_media::sfu::stress::Shedding;
use nova_media::sfu::{Event, MemberId, Out, POLL, RoomKey, Sfu, SfuError, Source, TrackKey, Want};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use crate::config::RtcConfig;
use crate::telemetry::Metrics;

/// Orders that wait for the shard: joins and mutes of a whole room at once. When full, whoever orders waits.
const ORDERS_MAX: usize = 1_024;
/// Events that wait to be told. When full they are lost and counted: slots and speakers are told anew when they next change.
const EVENTS_MAX: usize = 16_384;
/// Bytes of one read: as many datagrams as the kernel joins.
const READ_BYTES: usize = 64 << 10;
/// Bytes the kernel holds for us in each direction: a hundred milliseconds of a busy shard.
const SOCKET_BYTES: usize = 8 << 20;
/// Bytes of one send with segmentation offload.
const SEND_BYTES_MAX: usize = 60_000;
/// How often what was counted is added to the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(1);

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

/// What the shard is told to do.
#[derive(Debug)]
enum Order {
    Join {
        room: RoomKey,
        offer: Box<Offer>,
        answer: oneshot::Sender<Result<(MemberId, String), SfuError>>,
    },
    Offer {
        member: MemberId,
        offer: Box<Offer>,
        answer: oneshot::Sender<Result<String, SfuError>>,
    },
    Publish {
        member: MemberId,
        track: TrackKey,
        mid: String,
        source: Source,
        muted: bool,
        answer: oneshot::Sender<Result<(), SfuError>>,
    },
    Unpublish {
        member: MemberId,
        track: TrackKey,
    },
    Mute {
        member: MemberId,
        track: TrackKey,
        muted: bool,
    },
    View {
        member: MemberId,
        wants: Vec<Want>,
    },
    LetTalk {
        member: MemberId,
        number: u32,
        may_speak: bool,
    },
    Leave {
        member: MemberId,
    },
    Stream(streams::StreamOrder),
    Fault(fault::Fault),
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

struct Shard {
    sfu: Sfu,
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    events: mpsc::Sender<Event>,
    metrics: Metrics,
    out: Out,
    burst: Vec<u8>,
    attending: streams::Attending,
    counted: nova_media::sfu::Counts,
    unsent: u64,
    /// Time that was worked, since it was counted last.
    busy: Duration,
    shedding: Shedding,
    overloaded: Arc<AtomicBool>,
}

impl Shard {
    fn new(
        sfu: Sfu,
        socket: tokio::net::UdpSocket,
        state: UdpSocketState,
        events: mpsc::Sender<Event>,
        metrics: Metrics,
        overloaded: Arc<AtomicBool>,
    ) -> Shard {
        let counted = sfu.counts();
        Shard {
            sfu,
            socket,
            state,
            events,
            metrics,
            out: Out::default(),
            burst: Vec::new(),
            attending: streams::Attending::default(),
            counted,
            unsent: 0,
            busy: Duration::ZERO,
            shedding: Shedding::new(Instant::now()),
            overloaded,
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut buffers = vec![vec![0; READ_BYTES]; BATCH_SIZE];
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counted_at = Instant::now();
        loop {
            let began;
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    began = Instant::now();
                    self.sfu.poll(began, &mut self.out);
                    let passed = began.duration_since(counted_at);
                    if passed >= COUNT_EVERY {
                        counted_at = began;
                        self.shed(passed, began);
                        self.count();
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => {
                        began = Instant::now();
                        self.carry_out(order);
                    }
                    // Nobody is left who could order anything: the node is leaving.
                    None => return,
                },
                readable = self.socket.readable() => {
                    if let Err(error) = readable {
                        tracing::error!(%error, "the media port broke");
                        return;
                    }
                    began = Instant::now();
                    self.read(&mut buffers, began);
                }
            }
            let forwards = !self.out.transmits.is_empty();
            self.flush();
            let took = began.elapsed();
            self.busy += took;
            if forwards {
                self.metrics.rtc_forward_duration.observe(took.as_secs_f64());
            }
        }
    }

    fn read(&mut self, buffers: &mut [Vec<u8>], now: Instant) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let read = {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let recv = || self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas);
            self.socket.try_io(Interest::READABLE, recv)
        };
        // Nothing there, or an address that cannot be reached any more: its participant's consent runs out.
        let Ok(read) = read else { return };
        for (buffer, meta) in buffers.iter().zip(&metas).take(read) {
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            for datagram in bytes.chunks(meta.stride.max(1)) {
                self.sfu.input(datagram, meta.addr, now, &mut self.out);
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        let now = Instant::now();
        // Whoever asked may have stopped waiting; what has gone is gone.
        match order {
            Order::Join { room, offer, answer } => {
                let joined = self.sfu.join(room, &offer, now);
                if let Err(Ok((member, _))) = answer.send(joined) {
                    self.sfu.leave(member, now, &mut self.out);
                }
            }
            Order::Offer { member, offer, answer } => {
                let _ = answer.send(self.sfu.offer(member, &offer, now));
            }
            Order::Publish { member, track, mid, source, muted, answer } => {
                let _ = answer.send(self.sfu.publish(member, track, &mid, source, muted));
            }
            Order::Unpublish { member, track } => drop(self.sfu.unpublish(member, track)),
            Order::Mute { member, track, muted } => drop(self.sfu.mute(member, track, muted)),
            Order::View { member, wants } => drop(self.sfu.view(member, wants)),
            Order::LetTalk { member, number, may_speak } => {
                let _ = self.sfu.let_talk(member, number, may_speak);
            }
            Order::Leave { member } => {
                self.attending.left(member);
                self.sfu.leave(member, now, &mut self.out);
            }
            Order::Fault(fault) => fault.strike(),
            Order::Stream(order) => self.attending.carry_out(order, &mut self.sfu, now, &mut self.out),
        }
    }

    /// Sends what waits. The order of packets to one address stays; between addresses it does not matter.
    fn flush(&mut self) {
        let mut transmits = std::mem::take(&mut self.out.transmits);
        if transmits.len() > 1 {
            transmits.sort_by_key(|transmit| transmit.to);
        }
        let segments_max = self.state.max_gso_segments();
        let mut rest = transmits.as_slice();
        while let Some(first) = rest.first() {
            let fits =
                |transmit: &&Transmit| transmit.to == first.to && transmit.bytes.len() == first.bytes.len();
            let most = segments_max.min(SEND_BYTES_MAX / first.bytes.len().max(1)).max(1);
            let mut together = rest.iter().take(most).take_while(fits).count().max(1);
            // The last may be shorter.
            let ends = |last: &&Transmit| last.to == first.to && last.bytes.len() < first.bytes.len();
            if together < most && rest.get(together).as_ref().is_some_and(ends) {
                together += 1;
            }
            let (now, later) = rest.split_at(together);
            self.send(now);
            rest = later;
        }
        transmits.clear();
        self.out.transmits = transmits;
        self.attending.hand_out(&mut self.out.taken);
        let mut events = std::mem::take(&mut self.out.events);
        for event in events.drain(..) {
            match self.attending.hear(&event) {
                streams::Heard::Others => {
                    if self.events.try_send(event).is_err() {
                        self.metrics.rtc_events_lost.inc();
                    }
                }
                streams::Heard::Leaves(member) => self.sfu.leave(member, Instant::now(), &mut self.out),
                streams::Heard::Taken => {}
            }
        }
        events.append(&mut self.out.events);
        self.out.events = events;
    }

    fn send(&mut self, together: &[Transmit]) {
        let Some(first) = together.first() else { return };
        let several = together.len() > 1;
        if several {
            self.burst.clear();
            for transmit in together {
                self.burst.extend_from_slice(&transmit.bytes);
            }
        }
        let transmit = quinn_udp::Transmit {
            destination: first.to,
            ecn: None,
            contents: if several { &self.burst } else { &first.bytes },
            segment_size: several.then_some(first.bytes.len()),
            src_ip: None,
        };
        let send = || self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
        // A full socket drops: what matters is asked for again, and what is late is worth nothing.
        if self.socket.try_io(Interest::WRITABLE, send).is_err() {
            self.unsent += together.len() as u64;
        }
    }

    /// Does less when there is too much to do.
    fn shed(&mut self, passed: Duration, now: Instant) {
        let busy = std::mem::take(&mut self.busy).as_secs_f64() / passed.as_secs_f64();
        let before = self.shedding.level();
        let level = self.shedding.note(busy, now);
        self.sfu.limit_faces(self.shedding.faces_max());
        self.overloaded.store(self.shedding.refuses_rooms(), Ordering::Relaxed);
        self.metrics.rtc_shed_level.set(level as i64);
        if level != before {
            tracing::warn!(level, busy, "the media shard sheds load");
        }
    }

    fn count(&mut self) {
        let (now, before) = (self.sfu.counts(), self.counted);
        let metrics = &self.metrics;
        let packets = |direction, count| metrics.rtc_packets.with_label_values(&[direction]).inc_by(count);
        packets("in", now.packets_in - before.packets_in);
        packets("out", now.packets_out - before.packets_out);
        packets("again", now.repeated - before.repeated);
        packets("unsent", std::mem::take(&mut self.unsent));
        let bytes = |direction, count| metrics.rtc_bytes.with_label_values(&[direction]).inc_by(count);
        bytes("in", now.bytes_in - before.bytes_in);
        bytes("out", now.bytes_out - before.bytes_out);
        metrics.rtc_nacks.inc_by(now.asked_again - before.asked_again);
        metrics.rtc_keyframes.inc_by(now.keyframes_asked - before.keyframes_asked);
        metrics.rtc_unknown.inc_by(now.unknown - before.unknown);
        metrics.rtc_probes.inc_by(now.probes - before.probes);
        let wishes = |kind, count| metrics.rtc_wishes.with_label_values(&[kind]).inc_by(count);
        wishes("nack", now.nacked - before.nacked);
        wishes("pli", now.keyframes_wished - before.keyframes_wished);
        let messages = |direction, count| metrics.rtc_messages.with_label_values(&[direction]).inc_by(count);
        messages("in", now.messages_in - before.messages_in);
        messages("out", now.messages_out - before.messages_out);
        let lost = |reason, count| metrics.rtc_messages_lost.with_label_values(&[reason]).inc_by(count);
        lost("too_fast", now.messages_too_fast - before.messages_too_fast);
        lost("too_slow", now.messages_too_slow - before.messages_too_slow);
        lost("role", now.messages_refused - before.messages_refused);
        let survey = self.sfu.survey();
        metrics.rtc_paused.set(survey.paused as i64);
        for (bps, loss) in survey.estimates_bps.iter().zip(&survey.losses) {
            metrics.rtc_estimate.observe(*bps as f64 / 1_000.0);
            metrics.rtc_loss.observe(loss * 100.0);
        }
        let (members, _) = self.sfu.len();
        metrics.rtc_participants.set(i64::try_from(members).unwrap_or(i64::MAX));
        self.counted = now;
    }
}

#[cfg(test)]
mod tests;
