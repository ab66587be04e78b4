//! What participants of a call send over keys they have: two of them hear and see each other, and say what the input says, sealed as it
//! should be; time passes, and what they want changes.
//!
//! However it goes, what is sent out for what came is bounded, and so is what is kept.
#![no_main]

mod held;
mod script;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nova_media::peer::client::Client;
use nova_media::peer::{Credentials, Identity};
use nova_media::rtp::packet::Header;
use nova_media::sdp::Offer;
use nova_media::sfu::{Event, MemberId, Out, Sfu, Source, Want};

use held::HELD;
use script::Script;

/// A microphone, a camera in two layers, and a slot for each.
const OFFER: &str = include_str!("call.sdp");
/// Bytes both may have together: a second of everything they send, and what is remembered of what they were sent.
const HELD_BYTES_MAX: usize = 16 << 20;
/// The shape of pictures that say in their headers what they are made of.
const DESCRIBED: u8 = 3;
/// Datagrams that come of one: to the other, asked for again, in redundant sound, of a probe.
const SENT_AT_ONCE_MAX: usize = 600;

static IDENTITIES: LazyLock<[Arc<Identity>; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Arc::new(Identity::generate().expect("a certificate"))));

fuzz_target!(|data: &[u8]| {
    let held = HELD.load(Ordering::Relaxed);
    let mut call = Call::new(held);
    let mut script = Script(data);
    while let Some(step) = script.u8() {
        call.take(step, &mut script);
    }
});

struct Person {
    client: Client,
    id: MemberId,
    from: SocketAddr,
    /// The streams it is sent.
    streams: Vec<u32>,
    sequence: u16,
}

struct Call {
    sfu: Sfu,
    now: Instant,
    people: Vec<Person>,
    held: usize,
}

impl Call {
    fn new(held: usize) -> Call {
        let (now, [ours, theirs]) = (Instant::now(), &*IDENTITIES);
        let sfu = Sfu::new(ours.clone(), vec![SocketAddr::from(([192, 0, 2, 1], 7_000))], 9, now);
        let mut call = Call { sfu, now, people: Vec::new(), held };
        for number in 0..2_u16 {
            let client = Client::new(theirs.clone(), ours.fingerprint(), now).expect("a client");
            let mut offer = Offer::read(OFFER).expect("an offer");
            offer.fingerprint = theirs.fingerprint();
            let (id, answer) = call.sfu.join(7, &offer, now).expect("room");
            let line = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
            let server = Credentials {
                ufrag: line("a=ice-ufrag:").to_owned(),
                password: line("a=ice-pwd:").to_owned(),
            };
            let binding = client.binding(&server, &server.password, [1; 12]);
            let from = SocketAddr::from(([192, 0, 2, 9], 5_000 + number));
            call.people.push(Person { client, id, from, streams: Vec::new(), sequence: 0 });
            call.send(usize::from(number), &binding);
            for _ in 0..6 {
                for datagram in call.people[usize::from(number)].client.outgoing() {
                    call.send(usize::from(number), &datagram);
                }
            }
            assert!(call.people[usize::from(number)].client.is_connected());
            let keys = 10 * u64::from(number);
            call.sfu.publish(id, keys + 1, "0", Source::Microphone, false).expect("a voice");
            call.sfu.publish(id, keys + 2, "1", Source::Camera, false).expect("a face");
        }
        call.pass(50);
        call
    }

    fn send(&mut self, who: usize, datagram: &[u8]) {
        let mut out = Out::default();
        self.sfu.input(datagram, self.people[who].from, self.now, &mut out);
        self.carry(out);
    }

    fn carry(&mut self, out: Out) {
        assert!(out.transmits.len() <= SENT_AT_ONCE_MAX, "{} datagrams at once", out.transmits.len());
        assert!(!out.events.iter().any(|event| matches!(event, Event::Closed(_))));
        for transmit in out.transmits {
            let Some(person) = self.people.iter_mut().find(|one| one.from == transmit.to) else { continue };
            if !matches!(transmit.bytes.first(), Some(128..=191)) {
                person.client.hear(&transmit.bytes, self.now);
            } else if let Some(ssrc) = transmit.bytes.get(8..12).and_then(|ssrc| ssrc.first_chunk())
                && person.streams.len() < 8
            {
                let ssrc = u32::from_be_bytes(*ssrc);
                person.streams.retain(|known| *known != ssrc);
                person.streams.push(ssrc);
            }
        }
        let held = HELD.load(Ordering::Relaxed).saturating_sub(self.held);
        assert!(held <= HELD_BYTES_MAX, "{held} bytes are held");
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        while self.now < end {
            self.now += nova_media::sfu::POLL;
            let mut out = Out::default();
            self.sfu.poll(self.now, &mut out);
            self.carry(out);
        }
    }

    fn take(&mut self, step: u8, script: &mut Script<'_>) {
        let who = usize::from(step >> 7);
        match step % 8 {
            0..=2 => self.send_media(who, script),
            3 => self.send_reports(who, script),
            4 => self.pass(u64::from(script.byte()) * 8),
            5 => {
                if let Some(sealed) = self.people[who].client.seal(script.bytes()) {
                    self.send(who, &sealed);
                }
            }
            6 => self.want(who, script),
            _ => {
                for _ in 0..script.byte() % 64 {
                    let rest = script.0;
                    self.send_media(who, script);
                    script.0 = rest;
                }
            }
        }
    }

    /// A packet as a browser sends it, with what the input says in its place.
    fn send_media(&mut self, who: usize, script: &mut Script<'_>) {
        let (shape, step) = (script.byte(), script.byte());
        let person = &mut self.people[who];
        // By a little, by much, or back.
        person.sequence = match step {
            0..=200 => person.sequence.wrapping_add(1 + u16::from(step / 40)),
            201..=230 => person.sequence.wrapping_sub(u16::from(step)),
            _ => script.u16(),
        };
        let sequence = person.sequence;
        let timestamp = u32::from(sequence) * 3_000 + u32::from(script.u16()) * u32::from(shape & 1);
        let is_voice = shape & 2 != 0;
        let rid: &[u8] = if shape & 4 != 0 { b"q" } else { b"h" };
        let number = sequence.to_be_bytes();
        let level = [script.byte()];
        let voice: &[(u8, &[u8])] = &[(3, &number), (4, b"0"), (14, &level)];
        let face: &[(u8, &[u8])] = &[(3, &number), (4, b"1"), (10, rid)];
        let is_described = !is_voice && shape >> 4 == DESCRIBED;
        let descriptor: &[u8] = if is_described { script.bytes() } else { &[] };
        let descriptor = if descriptor.is_empty() { &[0] } else { descriptor };
        let described: &[(u8, &[u8])] = &[(3, &number), (4, b"1"), (10, rid), (12, descriptor)];
        let repeat: &[(u8, &[u8])] = &[(4, b"1"), (11, rid)];
        let (payload_type, ssrc, extensions) = match (is_voice, shape >> 4) {
            (true, 0) => (63, 1, voice),
            (true, _) => (111, 1, voice),
            (false, 0) => (97, 9, repeat),
            (false, 1) => (102, 4, face),
            (false, 2) => (96, 100 + u32::from(level[0]), face),
            (false, DESCRIBED) => (96, 2 + u32::from(shape >> 2 & 1), described),
            (false, _) => (96, 2 + u32::from(shape >> 2 & 1), face),
        };
        let mut packet = Vec::new();
        Header { marker: shape & 8 != 0, payload_type, sequence, timestamp, ssrc, extensions }
            .write(&mut packet);
        packet.extend_from_slice(script.bytes());
        if let Some(sealed) = self.people[who].client.seal(&packet) {
            self.send(who, &sealed);
        }
    }

    /// A compound; where it names a stream, it is one that is sent, if the input says so.
    fn send_reports(&mut self, who: usize, script: &mut Script<'_>) {
        let named = usize::from(script.byte());
        let mut compound = script.bytes().to_vec();
        let streams = &self.people[who].streams;
        if let Some(ssrc) = named.checked_rem(streams.len()).and_then(|at| streams.get(at))
            && let Some(place) = compound.get_mut(8..12)
        {
            place.copy_from_slice(&ssrc.to_be_bytes());
        }
        if let Some(sealed) = self.people[who].client.seal_rtcp(&compound) {
            self.send(who, &sealed);
        }
    }

    fn want(&mut self, who: usize, script: &mut Script<'_>) {
        let (id, what) = (self.people[who].id, script.byte());
        let keys = 10 * who as u64;
        // What cannot be had is refused.
        match what % 6 {
            0 => drop(self.sfu.view(id, Vec::new())),
            1 => {
                let fps = (what & 128 != 0).then_some(what >> 3);
                let wants =
                    [2, 12].map(|track| Want { fps, priority: what >> 5, ..Want::new(track, script.u16()) });
                let _ = self.sfu.view(id, wants.to_vec());
            }
            2 => drop(self.sfu.mute(id, keys + u64::from(what >> 7) + 1, what & 64 != 0)),
            3 => drop(self.sfu.unpublish(id, keys + u64::from(what >> 7) + 1)),
            4 => drop(self.sfu.publish(id, keys + 2, "1", Source::Screen, false)),
            _ => self.sfu.limit_faces(usize::from(what >> 4)),
        }
    }
}
