//! One participant without a browser: its socket, its keys, what it sends, and what it sees. What it offers, and reads in the answer, is
//! in `sdp`; what is in one of its slots, in `view`.

mod sdp;
mod view;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nova_media::peer::client::Client;
use nova_media::peer::{Credentials, Identity};
use nova_media::rtp::packet::Packet;
use nova_media::rtp::payload::Codec;
use nova_media::rtp::reception::Arrivals;
use nova_media::rtp::rtcp::{self, Rtcp};
use nova_media::rtp::witness::Seen;
use nova_media::stun;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;

use super::canned::{Layer, TRANSPORT_ID, Voice, stamp_of};
use crate::bench::BenchError;
use sdp::{Answer, Slot};
use view::View;

pub use sdp::{PASSWORD, Shape, UFRAG, offer};

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;
/// What the kernel holds for one peer.
const SOCKET_BYTES: usize = 4 << 20;
/// How often a peer asks for what did not arrive.
const FEEDBACK_EVERY: Duration = Duration::from_millis(50);
/// It says what arrived as soon as this did, so that saying it takes a twentieth of the rate, and in any case after so long: as libwebrtc does.
const ARRIVALS_BYTES: usize = 20 * 68;
const ARRIVALS_EVERY: Duration = Duration::from_millis(250);
/// How often it shows that it is still there.
const CONSENT_EVERY: Duration = Duration::from_secs(4);
thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = RefCell::new(vec![vec![0; READ_BYTES]; BATCH_SIZE]);
}

/// What all peers of a run have seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets of sound and of pictures that arrived.
    pub packets: Cell<u64>,
    /// Bytes of their payloads.
    pub bytes: Cell<u64>,
    /// Packets that were sent again.
    pub repeats: Cell<u64>,
    /// Packets that were published.
    pub published: Cell<u64>,
    /// Packets that could not be opened.
    pub unopened: Cell<u64>,
    /// From sending to arrival, in microseconds.
    pub latency_us: RefCell<Vec<u32>>,
    /// Whether times are kept; of one in so many packets.
    pub time_one_of: Cell<u64>,
}

/// One participant.
pub struct Peer {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
    server: SocketAddr,
    tally: Rc<Tally>,
    began: Instant,
    inner: RefCell<Inner>,
}

struct Inner {
    client: Client,
    ice: Credentials,
    /// Whether a request of this session was answered, or the server's own was; as browsers do, it says nothing else before.
    is_answered: bool,
    views: Vec<View>,
    /// By SSRC: which view, and whether it is what was sent again.
    by_ssrc: HashMap<u32, (usize, bool)>,
    voice: Option<Voice>,
    layers: Vec<Layer>,
    number: u16,
    arrivals: Arrivals,
    arrivals_told: Instant,
    untold_bytes: usize,
    told: Instant,
    consented: Option<Instant>,
    requests: u64,
    /// Of a hundred packets so many are lost on the way here.
    loss_percent: u32,
    random: u64,
    first_frame: Option<Instant>,
}

impl Peer {
    /// A peer that was answered. Does not connect yet.
    pub fn new(
        identity: &Arc<Identity>,
        answer: &str,
        tally: &Rc<Tally>,
        began: Instant,
        loss_percent: u32,
    ) -> Result<Peer, BenchError> {
        let Answer { ice, fingerprint, server, slots } = Answer::read(answer)?;
        let (mut views, mut by_ssrc) = (Vec::new(), HashMap::new());
        for Slot { mid, codec, ssrcs } in slots {
            for (at, ssrc) in ssrcs.iter().enumerate() {
                by_ssrc.insert(*ssrc, (views.len(), at == 1));
            }
            views.push(View::new(mid, ssrcs.first().copied().unwrap_or_default(), codec));
        }
        // The server is on this machine; some do not talk from one of its addresses to another.
        let socket = std::net::UdpSocket::bind((server.ip(), 0)).map_err(BenchError::because)?;
        socket.set_nonblocking(true).map_err(BenchError::because)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).map_err(BenchError::because)?;
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BYTES);
        let socket = tokio::net::UdpSocket::from_std(socket).map_err(BenchError::because)?;
        let now = Instant::now();
        let client = Client::new(identity.clone(), fingerprint, now).map_err(BenchError::because)?;
        Ok(Peer {
            socket,
            state,
            server,
            tally: tally.clone(),
            began,
            inner: RefCell::new(Inner {
                client,
                ice,
                is_answered: false,
                views,
                by_ssrc,
                voice: None,
                layers: Vec::new(),
                number: 0,
                arrivals: Arrivals::default(),
                arrivals_told: now,
                untold_bytes: 0,
                told: now,
                consented: None,
                requests: 0,
                loss_percent,
                random: 0x9E37_79B9_7F4A_7C15,
                first_frame: None,
            }),
        })
    }

    /// Goes on in the ICE session of a new answer.
    pub fn restart(&self, answer: &str) -> Result<(), BenchError> {
        let mut inner = self.inner.borrow_mut();
        inner.ice = sdp::session(answer)?;
        inner.consented = None;
        Ok(())
    }

    /// Waits until its socket takes something; what is sent before is lost.
    pub async fn opens(&self) -> Result<(), BenchError> {
        self.socket.writable().await.map_err(BenchError::because)
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.inner.borrow().client.is_connected()
    }

    /// When the first frame or sound came.
    pub fn first_frame(&self) -> Option<Instant> {
        self.inner.borrow().first_frame
    }

    /// Whether it sends and has nobody to see: in rooms of one publisher.
    pub fn publishes_alone(&self) -> bool {
        let inner = self.inner.borrow();
        (inner.voice.is_some() || !inner.layers.is_empty()) && inner.views.len() <= 1
    }

    /// Whether every slot that has something in it shows it now.
    pub fn sees_now(&self) -> bool {
        let inner = self.inner.borrow();
        let pictures = inner.views.iter().filter(|view| view.codec != Codec::Opus && view.bound.is_some());
        pictures
            .clone()
            .all(|view| view.witness.stuck_since().is_none() && view.witness.is_showing(Instant::now()))
    }

    /// From now on it speaks.
    pub fn speak(&self, voice: Voice) {
        self.inner.borrow_mut().voice = Some(voice);
    }

    /// Whether it speaks and shows nothing.
    pub fn only_speaks(&self) -> bool {
        let inner = self.inner.borrow();
        inner.voice.is_some() && inner.layers.is_empty()
    }

    /// From now on it shows its face.
    pub fn show(&self, layers: Vec<Layer>) {
        self.inner.borrow_mut().layers = layers;
    }

    /// The highest layer anybody watches; what is above is not made.
    pub fn watched(&self, highest: Option<usize>) {
        for (at, layer) in self.inner.borrow_mut().layers.iter_mut().enumerate() {
            layer.is_on = highest.is_some_and(|highest| at <= highest);
        }
    }

    /// Layers that are made at present.
    pub fn layers_made(&self) -> usize {
        self.inner.borrow().layers.iter().filter(|layer| layer.is_on).count()
    }

    /// Sends a datagram as it is: for peers that mean harm.
    pub fn throw(&self, datagram: &[u8]) {
        self.send(datagram);
    }

    /// Seals a packet of its own making; `None` before it is connected.
    pub fn seal(&self, packet: &[u8]) -> Option<bytes::BytesMut> {
        self.inner.borrow_mut().client.seal(packet)
    }

    /// What is in a slot from now on.
    pub fn bind(&self, mid: &str, track: Option<u64>) {
        let mut inner = self.inner.borrow_mut();
        if let Some(view) = inner.views.iter_mut().find(|view| view.mid == mid)
            && view.bound != track
        {
            view.bound = track;
            view.witness.interrupt();
        }
    }

    /// Every slot has something in it, and keeps it.
    pub fn bind_all(&self) {
        for (at, view) in self.inner.borrow_mut().views.iter_mut().enumerate() {
            view.bound = Some(at as u64);
        }
    }

    /// What is in a slot is not sent for a while, and the engine said so.
    pub fn pause(&self, track: u64) {
        let mut inner = self.inner.borrow_mut();
        for view in inner.views.iter_mut().filter(|view| view.bound == Some(track)) {
            view.witness.interrupt();
        }
    }

    /// What was seen in all slots of pictures.
    pub fn seen(&self) -> Vec<Seen> {
        let mut inner = self.inner.borrow_mut();
        let now = Instant::now();
        let views = inner.views.iter_mut().filter(|view| view.codec != Codec::Opus);
        let seen = views.map(|view| {
            if view.bound.is_some() {
                view.witness.end(now);
            }
            view.witness.seen()
        });
        seen.collect()
    }

    /// Does what is due: media, feedback, requests, the handshake.
    pub fn tick(&self, now: Instant) {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        let due = |at: Option<Instant>, every: Duration| at.is_none_or(|at| now.duration_since(at) >= every);
        let early = if inner.client.is_connected() { CONSENT_EVERY } else { FEEDBACK_EVERY };
        if due(inner.consented, early) {
            inner.consented = Some(now);
            inner.requests += 1;
            let mut transaction = [0; 12];
            transaction[..8].copy_from_slice(&inner.requests.to_be_bytes());
            self.send(&inner.client.binding(&inner.ice, &inner.ice.password, transaction));
            if inner.is_answered && !inner.client.is_connected() {
                inner.client.poll(now);
            }
        }
        if inner.is_answered {
            for datagram in inner.client.outgoing() {
                self.send(&datagram);
            }
        }
        if !inner.client.is_connected() {
            return;
        }
        let stamp = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(0);
        let (client, number) = (&mut inner.client, &mut inner.number);
        let mut published = 0;
        let mut send = |packet: &[u8]| {
            published += 1;
            if let Some(sealed) = client.seal(packet) {
                self.send(&sealed);
            }
        };
        if let Some(voice) = &mut inner.voice {
            voice.say(now, number, stamp, &mut send);
        }
        for layer in &mut inner.layers {
            layer.show(now, number, stamp, &mut send);
        }
        self.tally.published.set(self.tally.published.get() + published);
        if now.duration_since(inner.told) >= FEEDBACK_EVERY {
            inner.told = now;
            for compound in inner.feedback(now) {
                if let Some(sealed) = inner.client.seal_rtcp(&compound) {
                    self.send(&sealed);
                }
            }
        }
    }

    /// Hears until it is dropped.
    pub async fn listen(self: Rc<Peer>) {
        while self.socket.readable().await.is_ok() {
            self.read();
        }
    }

    fn send(&self, datagram: &[u8]) {
        // What the kernel does not take is lost, as on any path.
        let _ = self.socket.try_send_to(datagram, self.server);
    }

    /// Servers that are full agents ask back; whether this one did.
    fn answer(&self, datagram: &[u8]) -> bool {
        let binding = stun::Binding::read(datagram).ok();
        let signed = binding.filter(|binding| binding.is_signed_with(PASSWORD.as_bytes()));
        if let Some(binding) = &signed {
            self.send(&binding.answer(self.server, PASSWORD.as_bytes()));
        }
        signed.is_some()
    }

    fn read(&self) {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        BUFFERS.with_borrow_mut(|buffers| {
            let read = {
                let mut slices: Vec<IoSliceMut<'_>> =
                    buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
                let recv = || self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas);
                self.socket.try_io(Interest::READABLE, recv)
            };
            let Ok(read) = read else { return };
            let now = Instant::now();
            let mut inner = self.inner.borrow_mut();
            for (buffer, meta) in buffers.iter().zip(&metas).take(read) {
                let bytes = buffer.get(..meta.len).unwrap_or_default();
                for datagram in bytes.chunks(meta.stride.max(1)) {
                    if stun::is_stun(datagram) {
                        // A full agent that wants to lead itself answers with an error, and asks.
                        inner.is_answered |= stun::is_answer(datagram) || self.answer(datagram);
                        continue;
                    }
                    inner.hear(datagram, now, self.began, &self.tally);
                }
            }
            if inner.is_answered {
                for datagram in inner.client.outgoing() {
                    self.send(&datagram);
                }
            }
        });
    }
}

impl Inner {
    fn hear(&mut self, datagram: &[u8], now: Instant, began: Instant, tally: &Tally) {
        match datagram.first() {
            Some(20..=63) => return self.client.hear(datagram, now),
            Some(128..=191) => {}
            _ => return,
        }
        if self.loss_percent > 0 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            if self.random % 100 < u64::from(self.loss_percent) {
                return;
            }
        }
        let Some(clear) = self.client.open(datagram) else {
            tally.unopened.set(tally.unopened.get() + 1);
            return;
        };
        if rtcp::is_rtcp(&clear) {
            let layers = &mut self.layers;
            // What cannot be read was not asked for.
            let _ = rtcp::read(&clear, |one| {
                if let Rtcp::KeyframeRequest { ssrc } = one {
                    for layer in layers.iter_mut().filter(|layer| layer.ssrc == ssrc) {
                        layer.wants_keyframe = true;
                    }
                }
            });
            return;
        }
        let Ok(packet) = Packet::read(&clear) else { return };
        if let Some(number) = packet.extension(TRANSPORT_ID).and_then(|value| value.first_chunk::<2>()) {
            self.arrivals.note(u16::from_be_bytes(*number), now);
            self.untold_bytes += clear.len();
        }
        let Some((at, is_repeat)) = self.by_ssrc.get(&packet.ssrc).copied() else { return };
        let Some(view) = self.views.get_mut(at) else { return };
        let (sequence, payload) = match (is_repeat, packet.payload.split_first_chunk::<2>()) {
            (false, _) => (packet.sequence, packet.payload),
            (true, Some((original, payload))) => (u16::from_be_bytes(*original), payload),
            // Padding to see what the path carries.
            (true, None) => return,
        };
        tally.packets.set(tally.packets.get() + 1);
        tally.bytes.set(tally.bytes.get() + payload.len() as u64);
        tally.repeats.set(tally.repeats.get() + u64::from(is_repeat));
        let one_of = tally.time_one_of.get();
        if one_of > 0
            && !is_repeat
            && tally.packets.get().is_multiple_of(one_of)
            && let Some(stamp) = stamp_of(payload, view.codec.is_audio())
        {
            let now_us = now.duration_since(began).as_micros();
            let took = u32::try_from(now_us.saturating_sub(u128::from(stamp))).unwrap_or(u32::MAX);
            tally.latency_us.borrow_mut().push(took);
        }
        if view.codec.is_audio() {
            self.first_frame = self.first_frame.or(Some(now));
            return;
        }
        view.hear(sequence, &packet, payload, now);
        if self.first_frame.is_none() && view.witness.seen().frames > 0 {
            self.first_frame = Some(now);
        }
    }

    /// What is said of what arrived, and of each slot by itself, as browsers do: some servers take all of a packet to be of one slot.
    fn feedback(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let enough = self.untold_bytes >= ARRIVALS_BYTES
            || now.saturating_duration_since(self.arrivals_told) >= ARRIVALS_EVERY;
        if enough && let Some((count, mut base, arrivals)) = self.arrivals.take() {
            (self.untold_bytes, self.arrivals_told) = (0, now);
            let mut compound = Vec::new();
            for part in arrivals.chunks(256) {
                if part.iter().any(Option::is_some) {
                    rtcp::write_feedback(&mut compound, 2, 0, count, base, part);
                }
                base = base.wrapping_add(256);
            }
            if !compound.is_empty() {
                all.push(compound);
            }
        }
        all.extend(self.views.iter_mut().filter_map(|view| view.asks(now)));
        all
    }
}
