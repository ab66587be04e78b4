//! The thread of a shard: reads what comes, does what it is told, sends what comes of both.
//!
//! A panic over one participant expels them and nobody else, be it over what they sent (`nova_media::sfu` contains it) or over an order.
//! One anywhere else leaves nothing here that could be trusted: everybody on the shard is told to come again, and it goes on with nobody.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use nova_media::peer::Failure;
use nova_media::sdp::Offer;
use nova_media::sfu::stress::Shedding;
use nova_media::sfu::{Event, MemberId, Out, POLL, Sfu, SfuError, Source, TrackKey, Want};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use super::counting::Counting;
use super::demux::{Demux, Handed, Parcel, SILENT_FOR};
use super::egress::Egress;
use super::placement::Seat;
use super::sojourn::{Clocks, Outgoing};
use super::tcp::Outlets;
use super::{fault, streams};
use crate::telemetry::Metrics;

/// Bytes of one read: as many datagrams as the kernel joins.
const READ_BYTES: usize = 64 << 10;
/// How often what was counted is added to the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often the clock is looked at while nobody is here.
const IDLE_POLL: Duration = Duration::from_millis(500);
/// Before it begins anew a shard that panicked waits for so long: what breaks it each time does not fill a core and the log.
const PAUSE: Duration = Duration::from_millis(100);
/// Parcels of other shards that are taken up before the own socket is looked at again.
const PARCELS_AT_ONCE: usize = 16;

/// What the shard is told to do.
#[derive(Debug)]
pub(super) enum Order {
    Join {
        seat: Seat,
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
    TellAgain {
        member: MemberId,
    },
    Leave {
        member: MemberId,
    },
    Stream(streams::StreamOrder),
    Fault(fault::Fault),
}

impl Order {
    /// Of whom it is, when they are there already.
    fn member(&self) -> Option<MemberId> {
        match self {
            Order::Offer { member, .. }
            | Order::Publish { member, .. }
            | Order::Unpublish { member, .. }
            | Order::Mute { member, .. }
            | Order::View { member, .. }
            | Order::LetTalk { member, .. }
            | Order::TellAgain { member }
            | Order::Leave { member } => Some(*member),
            Order::Stream(order) => order.member(),
            Order::Fault(fault) => fault.member(),
            Order::Join { .. } => None,
        }
    }
}

/// One thread, one socket, and who is spoken to through it.
pub(super) struct Shard {
    pub(super) sfu: Sfu,
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    pub(super) demux: Demux,
    events: mpsc::Sender<Event>,
    pub(super) metrics: Metrics,
    out: Out,
    pub(super) egress: Egress,
    outlets: Outlets,
    attending: streams::Attending,
    seats: HashMap<MemberId, Seat>,
    pub(super) counting: Counting,
    /// Time that was worked, since it was counted last.
    pub(super) busy: Duration,
    pub(super) shedding: Shedding,
    pub(super) overloaded: Arc<AtomicBool>,
}

impl Shard {
    pub(super) fn new(
        sfu: Sfu,
        (socket, state): (tokio::net::UdpSocket, UdpSocketState),
        demux: Demux,
        events: mpsc::Sender<Event>,
        outlets: Outlets,
        metrics: Metrics,
        overloaded: Arc<AtomicBool>,
    ) -> Shard {
        let counting = Counting::new(&sfu, &demux);
        let egress = Egress::new(metrics.rtc_forward_duration.local());
        Shard {
            sfu,
            socket,
            state,
            demux,
            events,
            metrics,
            out: Out::default(),
            egress,
            outlets,
            attending: streams::Attending::default(),
            seats: HashMap::new(),
            counting,
            busy: Duration::ZERO,
            shedding: Shedding::new(Instant::now()),
            overloaded,
        }
    }

    /// Until nobody is left who could order anything, or the socket can be read no more.
    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut parcels: mpsc::Receiver<Parcel>,
    ) {
        while AssertUnwindSafe(self.go_on(&mut orders, &mut parcels)).catch_unwind().await.is_err() {
            self.begin_anew();
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Nothing that was here can be trusted.
    fn begin_anew(&mut self) {
        let (shard, participants) = (self.demux.shard(), self.seats.len());
        tracing::error!(
            shard,
            participants,
            "a media shard panicked and begins anew without its participants"
        );
        self.metrics.rtc_shard_restarts.inc();
        self.let_all_go();
    }

    /// Everybody is told to come again, as if their node had gone.
    fn let_all_go(&mut self) {
        self.out = Out::default();
        self.sfu.restart(Instant::now(), &mut self.out);
        self.egress = Egress::new(self.metrics.rtc_forward_duration.local());
        let gone = std::mem::take(&mut self.seats);
        self.out.events.extend(gone.into_keys().map(|member| Event::Failed(member, Failure::Restarted)));
        self.flush();
    }

    async fn go_on(&mut self, orders: &mut mpsc::Receiver<Order>, parcels: &mut mpsc::Receiver<Parcel>) {
        // Memory that was never written to is not there yet.
        let mut buffers = vec![0; READ_BYTES * BATCH_SIZE];
        let mut ticks = interval(IDLE_POLL);
        let (mut counted_at, mut swept_at) = (Instant::now(), Instant::now());
        loop {
            // Who is here needs a look at the clock more often than nobody does.
            let period = if self.sfu.is_empty() { IDLE_POLL } else { POLL };
            if ticks.period() != period {
                ticks = interval(period);
            }
            let began;
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    began = Instant::now();
                    self.sfu.poll(began, &mut self.out);
                    self.demux.hear_claims(&mut self.sfu);
                    let passed = began.duration_since(counted_at);
                    if passed >= COUNT_EVERY {
                        counted_at = began;
                        self.shed(passed, began);
                        self.count();
                    }
                    if began.duration_since(swept_at) >= SILENT_FOR {
                        swept_at = began;
                        self.demux.sweep();
                    }
                }
                order = orders.recv() => match order {
                    Some(order) => {
                        began = Instant::now();
                        self.carry_out_contained(order);
                    }
                    // Nobody is left who could order anything: the node is leaving.
                    None => return,
                },
                arrived = arrival(&self.socket, parcels) => {
                    began = Instant::now();
                    match arrived {
                        Ok(Some(parcel)) => {
                            self.take_over(&parcel, began);
                            for _ in 1..PARCELS_AT_ONCE {
                                let Ok(parcel) = parcels.try_recv() else { break };
                                self.take_over(&parcel, began);
                            }
                        }
                        Ok(None) => self.read(&mut buffers, began),
                        Err(error) => {
                            tracing::error!(%error, "the media port broke");
                            return self.let_all_go();
                        }
                    }
                }
            }
            self.flush();
            self.busy += began.elapsed();
        }
    }

    fn read(&mut self, buffers: &mut [u8], now: Instant) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut read = 0;
        {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.chunks_mut(READ_BYTES).map(IoSliceMut::new).collect();
            let recv = || {
                read = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas)?;
                // Less than there is room for is all there was; whatever comes now wakes anew. Without this the kernel is asked once more,
                // only to hear that, each time something has come.
                if read < BATCH_SIZE { Err(io::Error::from(io::ErrorKind::WouldBlock)) } else { Ok(()) }
            };
            // Not to be read is also an address that cannot be reached any more: its participant's consent runs out.
            let _: io::Result<()> = self.socket.try_io(Interest::READABLE, recv);
        }
        if read == 0 {
            return;
        }
        let clocks = Clocks::look(now);
        // What is handed over has waited since the first of all this came, at most.
        let came = metas.first().map_or(now, |first| clocks.came(first));
        let mut is_ours = [true; BATCH_SIZE];
        if !self.demux.is_alone() {
            // What is another's is handed over before this shard's own is worked on, which takes longer.
            for (is_ours, meta) in is_ours.iter_mut().zip(&metas).take(read) {
                *is_ours = self.sfu.knows(meta.addr);
            }
            self.sort(buffers, metas.iter().zip(is_ours).take(read), false, clocks, now);
            self.demux.send(came);
        }
        self.sort(buffers, metas.iter().zip(is_ours).take(read), true, clocks, now);
        self.demux.send(came);
    }

    /// Takes up what came from addresses that are known to be of participants here, or from the others.
    fn sort<'a>(
        &mut self,
        buffers: &[u8],
        metas: impl Iterator<Item = (&'a RecvMeta, bool)>,
        ours: bool,
        clocks: Clocks,
        now: Instant,
    ) {
        let mut sender = None;
        for (buffer, (meta, is_ours)) in buffers.chunks(READ_BYTES).zip(metas) {
            if is_ours != ours {
                continue;
            }
            self.give_way(&mut sender, meta.addr);
            let came = clocks.came(meta);
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            for datagram in bytes.chunks(meta.stride.max(1)) {
                let astray = self.sfu.input_unless_astray(datagram, meta.addr, now, &mut self.out);
                match astray {
                    None => self.demux.note_answered(datagram, meta.addr, &self.sfu),
                    Some(astray) => {
                        if !self.demux.lay_aside(astray, datagram, meta.addr, &mut self.sfu) {
                            self.sfu.count_unknown();
                        }
                    }
                }
                self.line_up(Some(came));
            }
        }
    }

    /// Takes up what came to the socket of another shard.
    fn take_over(&mut self, parcel: &Parcel, now: Instant) {
        self.demux.note_taken(parcel);
        let mut sender = None;
        for Handed { from, datagram, is_new } in parcel.datagrams() {
            self.give_way(&mut sender, from);
            match self.sfu.input_unless_astray(datagram, from, now, &mut self.out) {
                // Before the answer is sent: what comes in reply to it is known already.
                None if is_new && self.sfu.knows(from) => self.demux.claim(from, parcel.via),
                None => {}
                // Its participant has left, or is elsewhere.
                Some(_) => {
                    self.sfu.count_unknown();
                    self.demux.disclaim(from, parcel.via);
                }
            }
            self.line_up(Some(parcel.came));
        }
    }

    /// It is the next sender's turn: what came of the one before is sent. Packets of one picture go together, and nobody waits for others.
    fn give_way(&mut self, sender: &mut Option<SocketAddr>, next: SocketAddr) {
        if sender.replace(next).is_some_and(|before| before != next) {
            self.send_waiting();
        }
    }

    /// What came of something is to be sent next.
    fn line_up(&mut self, came: Option<Instant>) {
        let transmits = self.out.transmits.drain(..);
        let transmits = transmits.filter_map(|transmit| self.outlets.take(transmit, &self.metrics));
        self.egress.line_up(transmits.map(|transmit| Outgoing { transmit, came }));
    }

    /// Whoever ordered what cannot be done hears that they are gone; whoever it broke over is.
    fn carry_out_contained(&mut self, order: Order) {
        let whom = order.member();
        if let Order::Fault(fault) = order
            && whom.is_none()
        {
            return fault.strike();
        }
        self.sfu.work_for(whom);
        if catch_unwind(AssertUnwindSafe(|| self.carry_out(order))).is_err() {
            self.sfu.fault(Instant::now(), &mut self.out);
        }
    }

    fn carry_out(&mut self, order: Order) {
        let now = Instant::now();
        // Whoever asked may have stopped waiting; what has gone is gone.
        match order {
            Order::Join { seat, offer, answer } => {
                let joined = self.sfu.join(seat.room(), &offer, now);
                if let Ok((member, _)) = &joined {
                    self.seats.insert(*member, seat);
                }
                if let Err(Ok((member, _))) = answer.send(joined) {
                    self.leave(member);
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
            Order::TellAgain { member } => self.sfu.tell_again(member, &mut self.out),
            Order::Leave { member } => {
                self.attending.left(member);
                self.leave(member);
            }
            Order::Fault(fault) => fault.strike(),
            Order::Stream(order) => {
                let Shard { attending, sfu, seats, out, .. } = self;
                attending.carry_out(order, sfu, seats, now, out);
            }
        }
    }

    fn leave(&mut self, member: MemberId) {
        self.sfu.leave(member, Instant::now(), &mut self.out);
        self.seats.remove(&member);
    }

    fn send_waiting(&mut self) {
        self.egress.send(&self.socket, &self.state);
    }

    /// Sends and tells what is to be sent and told.
    fn flush(&mut self) {
        self.line_up(None);
        self.send_waiting();
        self.attending.hand_out(&mut self.out.taken);
        let mut events = std::mem::take(&mut self.out.events);
        for event in events.drain(..) {
            if let Event::Failed(member, Failure::Fault) = event {
                tracing::error!(
                    ?member,
                    "a participant of a call was expelled, for what was done for them panicked"
                );
            }
            match self.attending.hear(&event) {
                streams::Heard::Others => {
                    if self.events.try_send(event).is_err() {
                        self.metrics.rtc_events_lost.inc();
                    }
                }
                streams::Heard::Leaves(member) => self.leave(member),
                streams::Heard::Taken => {}
            }
        }
        events.append(&mut self.out.events);
        self.out.events = events;
        for address in self.out.forgotten.drain(..) {
            self.demux.forget(address);
        }
    }
}

/// Ticks that are late are not made up for.
fn interval(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Waits until there is something to read, or another shard has read something for this one, which is given. Neither makes the other wait.
async fn arrival(
    socket: &tokio::net::UdpSocket,
    parcels: &mut mpsc::Receiver<Parcel>,
) -> io::Result<Option<Parcel>> {
    tokio::select! {
        Some(parcel) = parcels.recv() => Ok(Some(parcel)),
        readable = socket.readable() => readable.map(|()| None),
    }
}
