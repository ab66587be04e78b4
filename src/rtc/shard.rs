//! The thread of a shard: reads what comes, does what it is told, sends what comes of both.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nova_media::peer::Transmit;
use nova_media::sdp::Offer;
use nova_media::sfu::stress::Shedding;
use nova_media::sfu::{Event, MemberId, Out, POLL, RoomKey, Sfu, SfuError, Source, TrackKey, Want};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

use super::{fault, streams};
use crate::telemetry::Metrics;

/// Bytes of one read: as many datagrams as the kernel joins.
const READ_BYTES: usize = 64 << 10;
/// Bytes of one send with segmentation offload.
const SEND_BYTES_MAX: usize = 60_000;
/// How often what was counted is added to the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What the shard is told to do.
#[derive(Debug)]
pub(super) enum Order {
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

/// One thread, one socket, and who is spoken to through it.
pub(super) struct Shard {
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
    pub(super) fn new(
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

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
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
