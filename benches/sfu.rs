//! What calls cost without sockets: a packet forwarded from one to 49, a packet renumbered for one, a plan of what one is sent, what strangers
//! and who sends too much cost; and the memory of each participant of a room of fifty with nine tiles, as the allocator counts it.
//!
//! `cargo bench -p nova-media --bench sfu`. Prints a table; five rounds, the middle one counts, the spread is shown.

#![allow(clippy::disallowed_methods, reason = "a measure needs a clock")]
#![allow(clippy::expect_used, reason = "a measure that cannot be taken is no measure")]

use std::alloc::System;
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nova_media::bandwidth::allocate::{Rank, Snapshot, Step, Wish, allocate};
use nova_media::peer::client::Client;
use nova_media::peer::{Credentials, Identity};
use nova_media::rtp::packet::Header;
use nova_media::rtp::payload::Vp8;
use nova_media::rtp::rewriter::{Incoming, Rewriter};
use nova_media::rtp::rtcp;
use nova_media::sdp::Offer;
use nova_media::sfu::{Event, MemberId, Out, POLL, Sfu, Source, Want};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 5;
const PEOPLE: usize = 50;
const TILES: usize = 9;
const RIDS: [&str; 3] = ["q", "h", "f"];
const PICTURE_BYTES: usize = 1_100;
const SOUND_BYTES: usize = 80;
/// Packets a second of the layers: 150, 880 and 2,500 kbit/s.
const LAYER_PACKETS_PER_S: [u64; 3] = [17, 100, 284];

fn main() {
    println!("| what | time each | allocations each |\n|---|---|---|");
    forward("voice of 80 bytes", Source::Microphone, SOUND_BYTES);
    forward("picture of 1,100 bytes", Source::Camera, PICTURE_BYTES);
    rewrite();
    refusals();
    for tiles in [TILES, 25] {
        plan(tiles);
    }
    println!("\n| room of {PEOPLE}, {TILES} tiles, three voices | memory of a participant |\n|---|---|");
    memory("connected, nothing published", 0);
    memory("everybody publishes, 5 s", 5);
}

/// Somebody in a room, and what they send.
struct Person {
    id: MemberId,
    client: Client,
    address: SocketAddr,
    number: u16,
    sequences: [u16; 4],
    layers: usize,
    /// The engine's side of their ICE session.
    ice: Credentials,
    /// Of what is sent to them in their last tile.
    tile: u32,
}

struct Room {
    sfu: Sfu,
    now: Instant,
    people: Vec<Person>,
    out: Out,
}

impl Room {
    fn new() -> Room {
        let now = Instant::now();
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let sfu = Sfu::new(identity, vec![SocketAddr::from(([192, 0, 2, 1], 7_000))], 9, now);
        Room { sfu, now, people: Vec::new(), out: Out::default() }
    }

    /// Somebody comes and is connected.
    fn join(&mut self, identity: &Arc<Identity>) {
        let offer = Offer::read(&offer(&identity.fingerprint())).expect("an offer");
        let (id, answer) = self.sfu.join(1, &offer, self.now).expect("joins");
        let line = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key)).expect("a line").trim();
        let ice =
            Credentials { ufrag: line("a=ice-ufrag:").to_owned(), password: line("a=ice-pwd:").to_owned() };
        let tile = answer.lines().filter_map(|line| line.strip_prefix("a=ssrc-group:FID ")).next_back();
        let tile = tile.and_then(|tile| tile.split(' ').next()?.parse().ok()).expect("a tile");
        let digits = line("a=fingerprint:sha-256 ").split(':');
        let mut fingerprint = [0; 32];
        for (place, digits) in fingerprint.iter_mut().zip(digits) {
            *place = u8::from_str_radix(digits, 16).expect("a digit");
        }
        let mut client = Client::new(identity.clone(), fingerprint, self.now).expect("a client");
        let address = SocketAddr::from(([192, 0, 2, 9], 5_000 + self.people.len() as u16));
        let binding = client.binding(&ice, &ice.password, [7; 12]);
        self.sfu.input(&binding, address, self.now, &mut self.out);
        for _ in 0..20 {
            for datagram in client.outgoing() {
                self.sfu.input(&datagram, address, self.now, &mut self.out);
            }
            for transmit in self.out.transmits.drain(..).filter(|transmit| transmit.to == address) {
                client.hear(&transmit.bytes, self.now);
            }
        }
        assert!(client.is_connected(), "a handshake without losses ends");
        self.people.push(Person { id, client, address, number: 0, sequences: [0; 4], layers: 3, ice, tile });
    }

    fn fill(&mut self, people: usize) {
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        for _ in 0..people {
            self.join(&identity);
        }
    }

    fn publish(&mut self, at: usize, source: Source) {
        let person = self.people.get(at).expect("is there");
        let (mid, key) = if source == Source::Microphone { ("0", 1) } else { ("1", 2) };
        self.sfu.publish(person.id, key + 2 * at as u64, mid, source, false).expect("publishes");
    }

    /// Everybody looks at the next so many of the circle, at this height.
    fn look(&mut self, height: u16) {
        for (at, person) in self.people.iter().enumerate() {
            let others = (1..=TILES).map(|step| 2 + 2 * ((at + step) % PEOPLE) as u64);
            let wants = others.map(|track| Want::new(track, height)).collect();
            self.sfu.view(person.id, wants).expect("is there");
        }
    }

    /// Time passes; what is told of layers nobody watches is heeded.
    fn pass(&mut self) {
        self.now += POLL;
        self.sfu.poll(self.now, &mut self.out);
        for event in self.out.events.drain(..) {
            if let Event::Wanted(id, _, highest) = event
                && let Some(person) = self.people.iter_mut().find(|person| person.id == id)
            {
                person.layers = highest.map_or(0, |highest| highest + 1);
            }
        }
        self.out.transmits.clear();
    }

    fn send(&mut self, at: usize, packet: &[u8]) {
        let person = self.people.get_mut(at).expect("is there");
        let sealed = person.client.seal(packet).expect("is connected");
        self.sfu.input(&sealed, person.address, self.now, &mut self.out);
        self.out.transmits.clear();
    }
}

/// The offer of somebody with a microphone, a camera of three layers, three slots for voices and [`TILES`] for faces.
fn offer(fingerprint: &[u8; 32]) -> String {
    let (mut media, mut mids) = (String::new(), String::new());
    let ice = "a=ice-ufrag:peer\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\na=setup:actpass\r\n";
    let mut section = |mid: &str, is_sound: bool, sends: bool| {
        let direction = if sends { "sendonly" } else { "recvonly" };
        let (kind, formats) = match is_sound {
            true => (
                "audio 9 UDP/TLS/RTP/SAVPF 111",
                "a=extmap:14 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=rtpmap:111 opus/48000/2\r\n",
            ),
            false => (
                "video 9 UDP/TLS/RTP/SAVPF 96 97",
                "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rtpmap:96 VP8/90000\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
            ),
        };
        let layers = if sends && !is_sound {
            "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n"
        } else {
            ""
        };
        write!(
            media,
            "m={kind}\r\nc=IN IP4 0.0.0.0\r\n{ice}a=mid:{mid}\r\na=rtcp-mux\r\n\
             a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
             a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n{formats}{layers}a={direction}\r\n"
        )
        .expect("a string takes everything");
        mids = format!("{mids} {mid}");
    };
    section("0", true, true);
    section("1", false, true);
    (0..3).for_each(|ear| section(&format!("a{ear}"), true, false));
    (0..TILES).for_each(|eye| section(&format!("v{eye}"), false, false));
    let digits: Vec<String> = fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{mids}\r\na=fingerprint:sha-256 {}\r\n{media}",
        digits.join(":")
    )
}

/// The next packet of a layer (0 to 2) or of a voice (3).
fn packet(person: &mut Person, place: usize, which: usize, level: u8, bytes: usize) -> Vec<u8> {
    let sequence = person.sequences.get_mut(which).expect("one of four");
    *sequence = sequence.wrapping_add(1);
    person.number = person.number.wrapping_add(1);
    let (number, sequence, ssrc) = (person.number.to_be_bytes(), *sequence, (place * 8 + which + 1) as u32);
    let mut packet = Vec::new();
    let rid = RIDS.get(which).copied().unwrap_or_default().as_bytes();
    let (payload_type, extensions): (u8, &[(u8, &[u8])]) = match which {
        3 => (111, &[(3, &number), (4, b"0"), (14, &[level])]),
        _ => (96, &[(3, &number), (4, b"1"), (10, rid)]),
    };
    let timestamp = u32::from(sequence) * 900;
    Header { marker: true, payload_type, sequence, timestamp, ssrc, extensions }.write(&mut packet);
    let end = packet.len() + bytes;
    if which < 3 {
        // A picture each, the first a keyframe.
        let [high, low] = (sequence | 0x8000).to_be_bytes();
        packet.extend_from_slice(&[0x90, 0xF0, high, low, sequence as u8, 0, u8::from(sequence != 1)]);
    }
    packet.resize(end, 0x55);
    packet
}

/// Rounds of something done `count` times, which gives so many of what is told.
fn tell(what: &str, mut round: impl FnMut() -> (Duration, Stats, u64)) {
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let (took, stats, count) = round();
            (took.as_nanos() as f64 / count as f64, stats.allocations as f64 / count as f64)
        })
        .collect();
    rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (Some(least), Some(middle), Some(most)) = (rounds.first(), rounds.get(ROUNDS / 2), rounds.last())
    else {
        return;
    };
    println!("| {what} | {:.0} ns ({:.0} to {:.0}) | {:.2} |", middle.0, least.0, most.0, middle.1);
}

/// From a sealed packet of one to sealed packets for 49.
fn forward(what: &str, source: Source, bytes: usize) {
    const PACKETS: usize = 2_000;
    let mut room = Room::new();
    room.fill(PEOPLE);
    room.publish(0, source);
    room.pass();
    let which = if source == Source::Microphone { 3 } else { 0 };
    let next = |room: &mut Room| {
        let person = room.people.first_mut().expect("is there");
        let packet = packet(person, 0, which, 20, bytes);
        person.client.seal(&packet).expect("is connected")
    };
    let begin = next(&mut room);
    let from = room.people.first().expect("is there").address;
    room.sfu.input(&begin, from, room.now, &mut room.out);
    (0..20).for_each(|_| room.pass());
    tell(&format!("forward, 1 → {}: {what}, for each sent", PEOPLE - 1), || {
        let sealed: Vec<_> = (0..PACKETS).map(|_| next(&mut room)).collect();
        let (before, region, began) = (room.sfu.counts().packets_out, Region::new(ALLOCATOR), Instant::now());
        for packet in &sealed {
            // As fast as anybody may send sound, and half as much again would be refused.
            room.now += Duration::from_millis(3);
            room.sfu.input(packet, from, room.now, &mut room.out);
            black_box(&room.out.transmits);
            room.out.transmits.clear();
        }
        let (took, stats) = (began.elapsed(), region.change());
        let sent = room.sfu.counts().packets_out - before;
        assert_eq!(sent, (PACKETS * (PEOPLE - 1)) as u64, "everybody is sent everything");
        (took, stats, sent)
    });
}

/// New numbers for packets of VP8.
fn rewrite() {
    const PACKETS: u64 = 200_000;
    let mut payload = vec![0x55; PICTURE_BYTES];
    if let Some(descriptor) = payload.first_chunk_mut::<7>() {
        *descriptor = [0x90, 0xF0, 0x80, 1, 1, 0, 1];
    }
    let (mut rewriter, now) = (Rewriter::new(90_000, 1), Instant::now());
    let mut sequence = 0_u16;
    tell("rewrite: numbers and counters of a packet", || {
        let (region, began) = (Region::new(ALLOCATOR), Instant::now());
        for _ in 0..PACKETS {
            sequence = sequence.wrapping_add(1);
            let vp8 = Vp8::read(black_box(&payload));
            let incoming =
                Incoming { source: 1, sequence, timestamp: u32::from(sequence), vp8, frame_number: None };
            let sent = rewriter.forward(incoming, now).expect("it is in order");
            sent.shift.rewrite(vp8.expect("it is VP8"), &mut payload);
        }
        (began.elapsed(), region.change(), PACKETS)
    });
}

/// What comes and goes nowhere: from strangers, from who knows somebody's name in ICE and not their password, and from a participant who
/// sends more than they may.
fn refusals() {
    const DATAGRAMS: usize = 20_000;
    let mut room = Room::new();
    room.fill(PEOPLE);
    room.publish(0, Source::Microphone);
    room.pass();
    let stranger = SocketAddr::from(([203, 0, 113, 9], 9));
    let person = room.people.first_mut().expect("is there");
    let (from, ice) = (person.address, person.ice.clone());
    let mut media = packet(person, 0, 3, 20, SOUND_BYTES);
    media.truncate(120);
    let nobodys = Credentials { ufrag: "ab".repeat(12), ..ice.clone() };
    let unnamed = person.client.binding(&nobodys, &ice.password, [7; 12]);
    let misnamed = person.client.binding(&ice, "not the password of anybody", [7; 12]);
    let signed = person.client.binding(&ice, &ice.password, [7; 12]);
    for (what, datagram, address, is_unknown) in [
        ("a packet from an unknown address", &media, stranger, true),
        ("a binding request for nobody", &unnamed, stranger, true),
        ("a binding request with a right name and a wrong password", &misnamed, stranger, true),
        ("a binding request as it should be, with its answer", &signed, from, false),
    ] {
        tell(what, || {
            let (unknown, region, began) =
                (room.sfu.counts().unknown, Region::new(ALLOCATOR), Instant::now());
            for _ in 0..DATAGRAMS {
                room.sfu.input(black_box(datagram), address, room.now, &mut room.out);
                room.out.transmits.clear();
            }
            let (took, stats) = (began.elapsed(), region.change());
            let unknown = room.sfu.counts().unknown - unknown;
            assert_eq!(unknown, if is_unknown { DATAGRAMS as u64 } else { 0 });
            (took, stats, DATAGRAMS as u64)
        });
    }
    // As many packets as one datagram can ask for again, of which nothing is known.
    let tile = room.people.first().expect("is there").tile;
    let (mut asks, all) = (Vec::new(), (0..510).collect::<Vec<u16>>());
    for at in 0..11 {
        rtcp::write_nack(&mut asks, 1, tile, &all.iter().map(|one| one + at * 512).collect::<Vec<_>>());
    }
    tell(&format!("a request for {} packets again, {} bytes", 510 * 11, asks.len()), || {
        let person = room.people.first_mut().expect("is there");
        let sealed: Vec<_> = (0..500).filter_map(|_| person.client.seal_rtcp(&asks)).collect();
        let (asked, region, began) = (room.sfu.counts().nacked, Region::new(ALLOCATOR), Instant::now());
        for compound in &sealed {
            // No more than may be said.
            room.now += Duration::from_millis(20);
            room.sfu.input(compound, from, room.now, &mut room.out);
            room.out.transmits.clear();
        }
        let (took, stats) = (began.elapsed(), region.change());
        assert_eq!(room.sfu.counts().nacked - asked, 500 * 510 * 11);
        (took, stats, 500)
    });
    let next = |room: &mut Room| {
        let person = room.people.first_mut().expect("is there");
        let packet = packet(person, 0, 3, 20, SOUND_BYTES);
        person.client.seal(&packet).expect("is connected")
    };
    for _ in 0..1_000 {
        let sealed = next(&mut room);
        room.sfu.input(&sealed, from, room.now, &mut room.out);
    }
    tell("a voice of 80 bytes of who has said too much", || {
        let sealed: Vec<_> = (0..DATAGRAMS).map(|_| next(&mut room)).collect();
        let (refused, region, began) =
            (room.sfu.counts().refused_sound, Region::new(ALLOCATOR), Instant::now());
        for packet in &sealed {
            room.sfu.input(packet, from, room.now, &mut room.out);
            room.out.transmits.clear();
        }
        let (took, stats) = (began.elapsed(), region.change());
        assert_eq!(room.sfu.counts().refused_sound - refused, DATAGRAMS as u64);
        (took, stats, DATAGRAMS as u64)
    });
}

/// What one is sent of so many tiles, each of three layers with two frame rates, when the path carries half of it.
fn plan(tiles: usize) {
    const PLANS: u64 = 20_000;
    let steps: Vec<Step> = [75, 150, 440, 880, 1_250, 2_500]
        .into_iter()
        .enumerate()
        .map(|(at, kbps)| Step { layer: at / 2, temporal: (at % 2) as u8, bps: kbps * 1_000 })
        .collect();
    let wish = Wish { rank: Rank::Tile, priority: 0, steps, now: Some(2) };
    let snapshot = Snapshot { budget_bps: Some(tiles as u64 * 1_250_000), wishes: vec![wish; tiles] };
    tell(&format!("allocate: a plan of {tiles} tiles"), || {
        let (region, began) = (Region::new(ALLOCATOR), Instant::now());
        for _ in 0..PLANS {
            black_box(allocate(black_box(&snapshot)));
        }
        (began.elapsed(), region.change(), PLANS)
    });
}

/// Everybody in a room; all publish for so many seconds of the room's time, or nothing at all.
fn memory(what: &str, seconds: u64) {
    let region = Region::new(ALLOCATOR);
    let mut room = Room::new();
    room.fill(PEOPLE);
    for at in 0..PEOPLE {
        if seconds > 0 {
            room.publish(at, Source::Microphone);
            room.publish(at, Source::Camera);
        }
    }
    room.look(720);
    room.pass();
    let per_poll = |packets_per_s: u64, poll: u64| {
        let until = |poll: u64| packets_per_s * POLL.as_millis() as u64 * poll / 1_000;
        until(poll + 1) - until(poll)
    };
    for poll in 0..seconds * 1_000 / POLL.as_millis() as u64 {
        // As people do who have come: first large tiles, for there are few, then small ones.
        if Duration::from_secs(2) == POLL * poll as u32 {
            room.look(360);
        }
        for at in 0..PEOPLE {
            let level = if at < 3 { 20 } else { 100 };
            let layers = room.people.get(at).map_or(0, |person| person.layers);
            let rates = LAYER_PACKETS_PER_S.into_iter().take(layers).enumerate().chain([(3, 50)]);
            for (which, rate) in rates {
                for _ in 0..per_poll(rate, poll) {
                    let bytes = if which == 3 { SOUND_BYTES } else { PICTURE_BYTES };
                    let person = room.people.get_mut(at).expect("is there");
                    let packet = packet(person, at, which, level, bytes);
                    room.send(at, &packet);
                }
            }
        }
        room.pass();
    }
    let Room { sfu, people, out, .. } = room;
    assert_eq!(seconds > 0, sfu.counts().packets_out > 0);
    drop((people, out));
    let kib =
        |stats: Stats| (stats.bytes_allocated - stats.bytes_deallocated) as f64 / 1_024.0 / PEOPLE as f64;
    println!("| {what} | {:.1} KiB |", kib(region.change()));
    drop(sfu);
}
