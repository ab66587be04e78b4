//! A call over paths made of a seed: what the viewer sees, and whether it freezes.

use super::*;
use crate::network::{Link, Path};
use crate::rtp::payload::Codec;
use crate::rtp::reception::{Arrivals, Stream};
use crate::rtp::witness::Witness;

/// Bits a second of the two layers.
const RATES_BPS: [u64; 2] = [150_000, 1_500_000];
const RIDS: [&str; 2] = ["q", "h"];

struct Camera {
    sequence: [u16; 2],
    picture: u16,
    owed: [f64; 2],
    wants_keyframe: [bool; 2],
    is_on: [bool; 2],
}

struct Viewer {
    down: Link<BytesMut>,
    up: Link<BytesMut>,
    witness: Witness,
    arrivals: Arrivals,
    stream: Option<Stream>,
    ssrc: u32,
    told: Instant,
    /// When which layer was shown last.
    layers: Vec<(Instant, u8)>,
    waited_ms: Vec<f64>,
    paused: bool,
    begged: Option<Instant>,
}

/// Ann shows her face, Bo looks.
struct Scene {
    call: Call,
    camera: Camera,
    viewer: Viewer,
    ann: usize,
    bo: usize,
    number: u16,
    /// The number of Ann's next piece of sound, if she says anything.
    voice: Option<u16>,
    seen_events: usize,
}

fn path(rate_bps: u64) -> Path {
    Path {
        rate_bps,
        delay: Duration::from_millis(25),
        jitter: Duration::from_millis(2),
        loss: 0.0,
        reorder: 0.0,
        queue: Duration::from_secs(1),
    }
}

impl Scene {
    fn new(path: Path, seed: u64, source: Source) -> Scene {
        let mut call = Call::new();
        let (ann, bo) = (call.join(), call.join());
        call.publish(ann, 1, "1", source);
        call.sfu.view(call.people[bo].id, vec![Want::new(1, 720)]).unwrap();
        Scene::of(call, ann, bo, path, seed)
    }

    /// The same with somebody else whose camera is on and shows nothing: neither of the two is more than a tile. Ann speaks, too.
    fn of_tiles(path: Path, seed: u64) -> Scene {
        let mut call = Call::new();
        let (ann, cat) = (call.join(), call.join());
        let bo = call.join_with(&two_faces());
        call.publish(ann, 1, "1", Source::Camera);
        call.publish(cat, 2, "1", Source::Camera);
        call.publish(ann, 3, "0", Source::Microphone);
        call.sfu.view(call.people[bo].id, [1, 2].map(|track| Want::new(track, 720)).to_vec()).unwrap();
        Scene { voice: Some(1), ..Scene::of(call, ann, bo, path, seed) }
    }

    fn of(call: Call, ann: usize, bo: usize, path: Path, seed: u64) -> Scene {
        let ssrc = call.sfu.members[call.people[bo].id.index as usize].slots[1].ssrc;
        let now = call.now;
        let viewer = Viewer {
            down: Link::new(path, seed),
            up: Link::new(Path { rate_bps: 2_000_000, ..path }, seed ^ 99),
            witness: Witness::default(),
            arrivals: Arrivals::default(),
            stream: None,
            ssrc,
            told: now,
            layers: Vec::new(),
            waited_ms: Vec::new(),
            paused: false,
            begged: None,
        };
        let camera = Camera {
            sequence: [10, 20],
            picture: 0,
            owed: [0.0; 2],
            wants_keyframe: [true; 2],
            is_on: [true; 2],
        };
        Scene { call, camera, viewer, ann, bo, number: 0, voice: None, seen_events: 0 }
    }

    fn pass(&mut self, seconds: f64) {
        let end = self.call.now + Duration::from_secs_f64(seconds);
        let (mut frame, mut tick, mut word) = (self.call.now, self.call.now, self.call.now);
        while self.call.now < end {
            self.call.now += Duration::from_millis(1);
            let now = self.call.now;
            if now >= frame {
                frame += Duration::from_millis(33);
                self.show();
            }
            if now >= word {
                word += Duration::from_millis(20);
                self.speak();
            }
            if now >= tick {
                tick += POLL;
                let mut out = Out::default();
                self.call.sfu.poll(now, &mut out);
                self.carry(out);
            }
            self.view();
        }
    }

    /// Twenty milliseconds of 32 kb/s.
    fn speak(&mut self) {
        let Some(sequence) = self.voice else { return };
        self.voice = Some(sequence.wrapping_add(1));
        let number = self.number.to_be_bytes();
        self.number = self.number.wrapping_add(1);
        let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"0"), (14, &[30])];
        let timestamp = u32::from(sequence) * 960;
        let mut packet = Vec::new();
        Header { marker: false, payload_type: 111, sequence, timestamp, ssrc: 40, extensions }
            .write(&mut packet);
        packet.resize(packet.len() + 80, 9);
        self.publishes(&packet);
    }

    /// Ann sends a packet.
    fn publishes(&mut self, packet: &[u8]) {
        let sealed = self.call.people[self.ann].client.seal(packet);
        let (mut out, address) = (Out::default(), self.call.people[self.ann].client.address);
        self.call.sfu.input(&sealed, address, self.call.now, &mut out);
        self.carry(out);
    }

    fn show(&mut self) {
        self.camera.picture = (self.camera.picture + 1) & 0x7FFF;
        let picture = self.camera.picture;
        for layer in 0..2 {
            if !self.camera.is_on[layer] {
                self.camera.wants_keyframe[layer] = true;
                continue;
            }
            let keyframe = std::mem::take(&mut self.camera.wants_keyframe[layer]);
            self.camera.owed[layer] += RATES_BPS[layer] as f64 * 0.033 / 8.0;
            let packets = ((self.camera.owed[layer] / 1_000.0) as usize).max(1);
            self.camera.owed[layer] -= packets as f64 * 1_000.0;
            let packets = if keyframe { packets * 3 } else { packets };
            for at in 0..packets {
                let number = self.number.to_be_bytes();
                self.number = self.number.wrapping_add(1);
                let rid = RIDS[layer].as_bytes();
                let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"1"), (10, rid)];
                let sequence = self.camera.sequence[layer];
                self.camera.sequence[layer] = sequence.wrapping_add(1);
                let mut packet = Vec::new();
                Header {
                    marker: at + 1 == packets,
                    payload_type: 96,
                    sequence,
                    timestamp: u32::from(picture) * 2_970,
                    ssrc: u32::from(rid[0]) << 8,
                    extensions,
                }
                .write(&mut packet);
                let [high, low] = (picture | 0x8000).to_be_bytes();
                let begins = if at == 0 { 0x90 } else { 0x80 };
                let tl0 = (picture & 0xFF) as u8;
                packet.extend_from_slice(&[
                    begins,
                    0xF0,
                    high,
                    low,
                    tl0,
                    0x20,
                    u8::from(!keyframe),
                    layer as u8,
                ]);
                packet.resize(packet.len() + 992, 7);
                self.publishes(&packet);
            }
        }
    }

    /// What the shard sends: to Ann at once, to Bo over the path.
    fn carry(&mut self, out: Out) {
        let now = self.call.now;
        self.call.events.extend(out.events);
        for transmit in out.transmits {
            if transmit.to == self.call.people[self.bo].client.address {
                self.viewer.down.send(transmit.bytes.clone(), transmit.bytes.len(), now);
            } else if let Some(clear) = self.call.people[self.ann].client.open(&transmit.bytes) {
                let wants = &mut self.camera.wants_keyframe;
                rtcp::read(&clear, |one| match one {
                    Rtcp::KeyframeRequest { ssrc } if ssrc == Q => wants[0] = true,
                    Rtcp::KeyframeRequest { ssrc } if ssrc == H => wants[1] = true,
                    _ => {}
                })
                .unwrap();
            }
        }
        for event in &self.call.events[self.seen_events..] {
            match event {
                Event::Wanted(_, 1, highest) => {
                    self.camera.is_on = [highest.is_some(), *highest == Some(1)];
                }
                Event::Paused(_, 1, paused) => {
                    self.viewer.paused = *paused;
                    self.viewer.witness.interrupt();
                }
                _ => {}
            }
        }
        self.seen_events = self.call.events.len();
    }

    fn view(&mut self) {
        let now = self.call.now;
        for (bytes, at) in self.viewer.down.arrive(now) {
            let Some(clear) = self.call.people[self.bo].client.open(&bytes) else { continue };
            if rtcp::is_rtcp(&clear) {
                continue;
            }
            let packet = Packet::read(&clear).unwrap();
            if let Some(number) = packet.extension(3).and_then(|value| value.first_chunk::<2>()) {
                self.viewer.arrivals.note(u16::from_be_bytes(*number), at);
            }
            // Sound is another stream, and padding no picture.
            if packet.payload_type == 111 || packet.payload.is_empty() {
                continue;
            }
            let (sequence, payload) = match packet.ssrc == self.viewer.ssrc {
                true => (packet.sequence, packet.payload),
                false => match packet.payload.split_first_chunk::<2>() {
                    Some((original, payload)) => (u16::from_be_bytes(*original), payload),
                    None => continue,
                },
            };
            self.viewer.witness.hear(sequence, &packet, payload, Codec::Vp8, at);
            self.viewer.stream.get_or_insert_with(|| Stream::new(90_000, sequence, at)).receive(
                sequence,
                packet.timestamp,
                at,
            );
            if payload.first().is_some_and(|first| first & 0x10 != 0) {
                self.viewer.layers.push((at, payload[7]));
            }
        }
        if now - self.viewer.told >= Duration::from_millis(50) {
            self.viewer.told = now;
            let mut compound = Vec::new();
            if let Some((count, base, arrivals)) = self.viewer.arrivals.take() {
                rtcp::write_feedback(&mut compound, 2, 0, count, base, &arrivals);
            }
            if let Some(Ok(missing)) = self.viewer.stream.as_mut().map(|stream| stream.asks(now))
                && !missing.is_empty()
            {
                rtcp::write_nack(&mut compound, 2, self.viewer.ssrc, &missing);
            }
            let stuck =
                self.viewer.witness.stuck_since().is_some_and(|at| now - at > Duration::from_millis(250));
            if stuck && self.viewer.begged.is_none_or(|at| now - at > Duration::from_millis(300)) {
                self.viewer.begged = Some(now);
                rtcp::write_pli(&mut compound, 2, self.viewer.ssrc);
            }
            if !compound.is_empty() {
                let sealed = self.call.people[self.bo].client.seal_rtcp(&compound);
                self.viewer.up.send(sealed, compound.len(), now);
            }
        }
        for (sealed, at) in self.viewer.up.arrive(now) {
            let (mut out, address) = (Out::default(), self.call.people[self.bo].client.address);
            self.call.sfu.input(&sealed, address, at, &mut out);
            self.carry(out);
        }
        let waited = self.viewer.down.waiting(now).as_secs_f64() * 1_000.0;
        self.viewer.waited_ms.push(waited);
    }

    fn layer_now(&self) -> Option<u8> {
        self.viewer.layers.last().map(|(_, layer)| *layer)
    }

    fn consent(&mut self) {
        // Everybody goes on to be there.
        for who in 0..self.call.people.len() {
            let credentials =
                self.call.sfu.members[self.call.people[who].id.index as usize].peer.credentials().clone();
            let binding = self.call.people[who].client.binding(&credentials, &credentials.password);
            let (mut out, address) = (Out::default(), self.call.people[who].client.address);
            self.call.sfu.input(&binding, address, self.call.now, &mut out);
            self.carry(out);
        }
    }
}

#[test]
fn three_megabits_half_a_megabit_three_megabits() {
    for seed in 1..=3 {
        let mut scene = Scene::new(path(3_000_000), seed, Source::Camera);
        scene.pass(15.0);
        assert_eq!(scene.layer_now(), Some(1), "seed {seed}");
        scene.consent();
        scene.viewer.down.change(|path| path.rate_bps = 500_000);
        scene.pass(20.0);
        assert_eq!(scene.layer_now(), Some(0), "seed {seed}");
        scene.consent();
        scene.viewer.down.change(|path| path.rate_bps = 3_000_000);
        let wide = scene.call.now;
        scene.pass(20.0);
        let back = scene.viewer.layers.iter().find(|(at, layer)| *at > wide && *layer == 1);
        let back = back.map(|(at, _)| (*at - wide).as_secs_f64()).expect("the high layer comes back");
        let mut waited = scene.viewer.waited_ms.clone();
        waited.sort_by(f64::total_cmp);
        let p95 = waited[waited.len() * 95 / 100];
        let seen = scene.viewer.witness.seen();
        println!("seed {seed}: back after {back:.1} s, queue p95 {p95:.0} ms, {seen:?}");
        assert!(back <= 10.0 && p95 <= 300.0, "seed {seed}: back after {back:.1} s, queue p95 {p95:.0} ms");
        assert_eq!((seen.broken, seen.backwards), (0, 0), "seed {seed}: {seen:?}");
        assert!(seen.frames > 1_400, "seed {seed}: {seen:?}");
    }
}

#[test]
fn losses_are_repaired_without_a_freeze() {
    for seed in 1..=3 {
        let rough = Path { loss: 0.05, reorder: 0.02, jitter: Duration::from_millis(8), ..path(5_000_000) };
        let mut scene = Scene::new(rough, seed, Source::Camera);
        scene.pass(20.0);
        let seen = scene.viewer.witness.seen();
        assert_eq!((seen.broken, seen.backwards), (0, 0), "seed {seed}: {seen:?}");
        assert!(seen.freezes <= 1 && seen.frames > 520, "seed {seed}: {seen:?}");
        assert!(scene.call.sfu.counts().repeated > 20);
    }
}

#[test]
fn a_layer_that_falls_silent_is_replaced() {
    let mut scene = Scene::new(path(10_000_000), 1, Source::Camera);
    scene.pass(6.0);
    assert_eq!(scene.layer_now(), Some(1));
    let before = scene.viewer.witness.seen();
    // The publisher's encoder gave it up, and says nothing.
    scene.camera.owed[1] = f64::MIN;
    scene.camera.is_on = [true, false];
    scene.pass(2.0);
    assert_eq!(scene.layer_now(), Some(0));
    let after = scene.viewer.witness.seen();
    assert_eq!(after.freezes, before.freezes, "{after:?}");
    scene.camera.owed[1] = 0.0;
    scene.camera.is_on = [true, true];
    scene.pass(2.0);
    assert_eq!(scene.layer_now(), Some(1));
}

#[test]
fn a_path_for_nothing_takes_neither_the_stage_nor_a_screen_away() {
    let narrow = path(100_000);
    for source in [Source::Camera, Source::Screen] {
        let mut scene = Scene::new(narrow, 1, source);
        scene.pass(20.0);
        let paused = scene.call.events.iter().any(|event| matches!(event, Event::Paused(_, 1, true)));
        assert!(!paused, "{source:?}");
        assert!(scene.viewer.witness.seen().packets > 0, "{source:?}");
    }
}

#[test]
fn a_tile_that_a_path_did_not_carry_comes_back_when_it_does() {
    for seed in 1..=3 {
        let mut scene = Scene::of_tiles(path(3_000_000), seed);
        // Voices may be counted among what the path carries, as browsers do, or not: then nothing at all is told while no picture is sent.
        let index = scene.call.people[scene.bo].id.index as usize;
        let slots = &mut scene.call.sfu.members[index].slots;
        slots[0].transport_cc = (seed > 1).then_some(3);
        if seed > 2 {
            // A client that knows no retransmissions.
            slots.iter_mut().flat_map(|slot| &mut slot.formats).for_each(|(_, _, rtx)| *rtx = None);
        }
        scene.pass(5.0);
        assert!(scene.layer_now().is_some() && !scene.viewer.paused, "seed {seed}");
        scene.viewer.down.change(|path| path.rate_bps = 60_000);
        scene.pass(10.0);
        assert!(scene.viewer.paused, "seed {seed}");
        scene.consent();
        // Longer than anything is kept that could be sent again.
        scene.pass(10.0);
        scene.consent();
        scene.viewer.down.change(|path| path.rate_bps = 3_000_000);
        let wide = scene.call.now;
        scene.pass(15.0);
        let seen = scene.viewer.witness.seen();
        let back = scene.viewer.layers.iter().find(|(at, _)| *at > wide + Duration::from_secs(1));
        let back = back.map(|(at, _)| (*at - wide).as_secs_f64());
        println!("seed {seed}: back after {back:?} s, {seen:?}");
        assert!(!scene.viewer.paused && back.is_some_and(|back| back < 10.0), "seed {seed}: {back:?}");
    }
}
