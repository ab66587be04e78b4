//! What a publisher costs: nanoseconds and allocations for each RTMP message of a 2.1 Mbit/s broadcast, and the part of a
//! core that is; first the ingest alone, then with fMP4 parts and a playlist, plain and gzipped, for each of them.
//!
//! `cargo bench -p nova-media --bench rtmp`. Prints a table; five rounds, the middle one counts, the spread is shown.

#![allow(clippy::disallowed_methods, reason = "a measure needs a clock")]
#![allow(clippy::expect_used, reason = "a measure that cannot be taken is no measure")]

use std::alloc::System;
use std::time::Instant;

use nova_media::frame::Media;
use nova_media::hls::{Cut, Segmenter, Settings, Window};
use nova_media::rtmp::amf0::{self, Value};
use nova_media::rtmp::{Ingest, Output, kind};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SECONDS: u32 = 60;
const ROUNDS: usize = 5;
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
    0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];

/// Bytes of an encoder whose chunks have this length.
struct Encoder {
    bytes: Vec<u8>,
    chunk: usize,
    messages: u64,
}

impl Encoder {
    fn message(&mut self, stream: u8, kind: u8, time: u32, payload: &[u8]) {
        self.messages += 1;
        self.bytes.push(stream);
        self.bytes.extend(time.to_be_bytes().iter().skip(1));
        self.bytes.extend((payload.len() as u32).to_be_bytes().iter().skip(1));
        self.bytes.push(kind);
        self.bytes.extend(1_u32.to_le_bytes());
        for (n, chunk) in payload.chunks(self.chunk).enumerate() {
            if n > 0 {
                self.bytes.push(0xc0 | stream);
            }
            self.bytes.extend(chunk);
        }
    }
}

/// Everything up to the publish request, which goes unmeasured.
fn opening(chunk: usize) -> Encoder {
    let mut encoder = Encoder { bytes: vec![0; 1 + 2 * 1_536], chunk: 128, messages: 0 };
    if let Some(first) = encoder.bytes.first_mut() {
        *first = 3;
    }
    encoder.message(2, kind::SET_CHUNK_SIZE, 0, &(chunk as u32).to_be_bytes());
    encoder.chunk = chunk;
    let connect = ["connect".into(), 1.0.into(), Value::object([("app", "live".into())])];
    encoder.message(3, kind::COMMAND, 0, &amf0::encode(&connect));
    let publish = ["publish".into(), 2.0.into(), Value::Null, "key".into(), "live".into()];
    encoder.message(3, kind::COMMAND, 0, &amf0::encode(&publish));
    encoder
}

/// 720p at 30 pictures a second with a keyframe every two seconds, and AAC at 128 kbit/s: 2.1 Mbit/s together.
fn broadcast(chunk: usize) -> Encoder {
    let mut encoder = Encoder { bytes: Vec::new(), chunk, messages: 0 };
    encoder.message(6, kind::VIDEO, 0, &[&[0x17, 0, 0, 0, 0], AVCC].concat());
    encoder.message(4, kind::AUDIO, 0, &[0xaf, 0, 0x11, 0x90]);
    let mut sounds = 0;
    for n in 0..SECONDS * 30 {
        let keyframe = n % 60 == 0;
        let len = if keyframe { 60_000_u32 } else { 7_340 };
        let mut picture = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        picture.extend(len.to_be_bytes());
        picture.push(if keyframe { 0x65 } else { 0x41 });
        picture.resize(9 + len as usize, 0x5a);
        encoder.message(6, kind::VIDEO, n * 100 / 3, &picture);
        while sounds * 1_024 / 48 < n * 100 / 3 {
            let mut sound = vec![0xaf, 1];
            sound.resize(343, 0x5a);
            encoder.message(4, kind::AUDIO, sounds * 1_024 / 48, &sound);
            sounds += 1;
        }
    }
    encoder
}

/// Publishes the broadcast and gives how many frames came out; `packaging` is handed each of them with what belongs to it.
fn publish(opening: &[u8], broadcast: &[u8], read: usize, mut packaging: impl FnMut(&Media)) -> u64 {
    let now = Instant::now();
    let mut ingest = Ingest::new(now, 1);
    ingest.handle_input(now, opening);
    ingest.accept_publish(now);
    let mut frames = 0;
    for piece in broadcast.chunks(read) {
        for output in ingest.handle_input(now, piece) {
            if let Output::Media(media) = output {
                frames += u64::from(matches!(media, Media::Frame(_)));
                packaging(&media);
            }
        }
    }
    frames
}

/// Packages as a stream's owner does and gives how many snapshots that made and how many bytes the window holds.
fn package(opening: &[u8], broadcast: &[u8], read: usize) -> (u64, u64, usize) {
    let settings = Settings::default().for_rate(Some(30.0));
    let mut segmenter = Segmenter::new(settings, 0);
    let mut window = Window::new(settings, "e1");
    let mut snapshots = 0;
    let mut held = 0;
    let frames = publish(opening, broadcast, read, |media| {
        for cut in segmenter.push(0, media) {
            let part = matches!(cut, Cut::Part(_));
            window.apply(cut);
            if part {
                snapshots += u64::from(window.snapshot(&[]).is_some());
                held = held.max(window.bytes_held());
            }
        }
    });
    (frames, snapshots, held)
}

fn main() {
    println!(
        "what        chunk   read   ns/message (spread)   allocations/message   % of a core at 2.1 Mbit/s"
    );
    for (what, chunk, read) in [
        ("ingest", 128, 16 << 10),
        ("ingest", 4_096, 1_448),
        ("ingest", 4_096, 16 << 10),
        ("ingest", 65_536, 64 << 10),
        ("packaging", 4_096, 16 << 10),
    ] {
        let opening = opening(chunk);
        let broadcast = broadcast(chunk);
        let mut rounds = Vec::new();
        let mut allocations = 0;
        let mut made = None;
        for _ in 0..ROUNDS {
            let region = Region::new(ALLOCATOR);
            let started = Instant::now();
            let frames = if what == "ingest" {
                publish(&opening.bytes, &broadcast.bytes, read, |_| {})
            } else {
                let (frames, snapshots, held) = package(&opening.bytes, &broadcast.bytes, read);
                made = Some((snapshots, held));
                frames
            };
            rounds.push(started.elapsed().as_secs_f64());
            let change = region.change();
            allocations = change.allocations + change.reallocations;
            assert_eq!(frames, broadcast.messages - 2, "every message is a frame but the two headers");
        }
        rounds.sort_by(f64::total_cmp);
        let per_message = |seconds: &f64| seconds * 1e9 / broadcast.messages as f64;
        let middle = rounds.get(ROUNDS / 2).expect("there were rounds");
        println!(
            "{what:<10}  {chunk:>5}  {read:>5}  {:>6.0} ({:.0} to {:.0})  {:>20.2}  {:>24.4}",
            per_message(middle),
            rounds.first().map_or(0.0, per_message),
            rounds.last().map_or(0.0, per_message),
            allocations as f64 / broadcast.messages as f64,
            middle / f64::from(SECONDS) * 100.0,
        );
        if let Some((snapshots, held)) = made {
            println!(
                "            {snapshots} playlists in {SECONDS} s of media; at most {} KiB of parts held",
                held >> 10
            );
        }
    }
}
