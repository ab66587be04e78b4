//! Viewers of a live stream, as many as are asked for: the load of `benches/live`.
//!
//! ```text
//! live parked  HOST:PORT STREAM CONNECTIONS ROUNDS PID    requests that wait for the next segment and are woken together
//! live viewers HOST:PORT STREAM VIEWERS SECONDS PID       players at the low-latency edge: each waits for each part, then takes it
//! live floor   CONNECTIONS ROUNDS BYTES                    what waking them costs at least on this machine
//! live segment HOST:PORT STREAM                           the address of a whole segment that will stay for a while
//! ```
//!
//! HTTP/1.1 by hand over one connection for each viewer, so that the load costs little beside what is measured. `PID` is the
//! engine's process, whose memory and CPU time are read from `/proc`. The last line of the output is one JSON object.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measure that cannot be made ends, and it lasts as long as it lasts"
)]

#[path = "floor.rs"]
mod floor;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    nova::chat::limits::raise_open_files();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let seen = match words[..] {
        ["parked", host, stream, connections, rounds, pid] => {
            parked(host, stream, number(connections), number(rounds), number(pid))
        }
        ["viewers", host, stream, count, seconds, pid] => {
            viewers(host, stream, number(count), number(seconds), number(pid))
        }
        ["floor", connections, rounds, bytes] => {
            floor::floor(number(connections), number(rounds), number(bytes))
        }
        // What `floor` starts for itself.
        ["waits", address, connections, rounds, bytes] => {
            return floor::waits(address, number(connections), number(rounds), number(bytes));
        }
        ["segment", host, stream] => on_this_thread(segment(host, stream)),
        _ => {
            println!("benches/live says how this is used");
            return;
        }
    };
    println!("{seen}");
}

/// Threads the viewers are divided among: with one, its own pace would be what is measured.
const THREADS: usize = 2;

fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// One connection that asks one thing after the other.
struct Asker {
    socket: TcpStream,
    host: String,
    buffer: BytesMut,
}

struct Answer {
    status: u16,
    body: BytesMut,
}

impl Asker {
    async fn connect(host: &str) -> Asker {
        let socket = TcpStream::connect(host).await.expect("the engine accepts");
        socket.set_nodelay(true).unwrap();
        Asker { socket, host: host.to_owned(), buffer: BytesMut::with_capacity(8 << 10) }
    }

    async fn ask(&mut self, path: &str, headers: &str) -> Answer {
        self.send(path, headers).await;
        self.answer().await
    }

    async fn send(&mut self, path: &str, headers: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.host);
        self.socket.write_all(request.as_bytes()).await.expect("the engine listens");
    }

    async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break self.buffer.split_to(end + 4);
            }
            let read = self.socket.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(read > 0, "the engine hung up");
        };
        let head = std::str::from_utf8(&head).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a sized answer");
        let length: usize = length.trim().parse().unwrap();
        self.buffer.reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            let read = self.socket.read_buf(&mut self.buffer).await.expect("an answer");
            assert!(read > 0, "the engine hung up");
        }
        Answer { status, body: self.buffer.split_to(length) }
    }

    /// The path of the media playlist, once there is something to play.
    async fn playlist(&mut self, stream: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let index = self.ask(&format!("/live/{stream}/index.m3u8"), "").await;
            if index.status == 200 {
                let text = String::from_utf8(index.body.to_vec()).unwrap();
                let uri = text.lines().find(|line| !line.starts_with('#')).expect("a rendition");
                return format!("/live/{stream}/{uri}");
            }
            assert!(Instant::now() < deadline, "nothing is on the air: {}", index.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The value of the last `NAME="…"` in a text.
fn last<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.rfind(name).unwrap_or_else(|| panic!("no {name} in {text}")) + name.len();
    text[at..].split('"').next().unwrap()
}

/// The part that is promised: segment and number in it.
fn hint(playlist: &str) -> (u64, u32) {
    let uri = last(playlist, "TYPE=PART,URI=\"");
    let (msn, part) = uri.rsplit('/').next().unwrap().strip_suffix(".m4s").unwrap().split_once('.').unwrap();
    (msn.parse().unwrap(), part.parse().unwrap())
}

fn parked(host: &str, stream: &str, connections: usize, rounds: usize, pid: usize) -> Value {
    let before_kib = resident_kib(pid);
    let (together, share) = (Barrier::new(THREADS), connections.div_ceil(THREADS));
    let (idle_kib, shares): (Vec<u64>, Vec<Vec<Woken>>) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| on_this_thread(park(host, stream, share, rounds, pid, &together))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut spreads_ms: Vec<f64> = (0..rounds)
        .map(|round| {
            let of = |what: fn(&Woken) -> Instant| shares.iter().map(move |share| what(&share[round]));
            let (first, latest) =
                (of(|woken| woken.first).min().unwrap(), of(|woken| woken.latest).max().unwrap());
            let sent = of(|woken| woken.sent).max().unwrap();
            assert!(
                sent < first,
                "not all waited when the segment came: this machine needs fewer connections"
            );
            (latest - first).as_secs_f64() * 1_000.0
        })
        .collect();
    let most_kib = shares.iter().flatten().map(|woken| woken.resident_kib).max().unwrap();
    let by_round: Vec<f64> = spreads_ms.iter().map(|spread| spread.round()).collect();
    spreads_ms.sort_by(f64::total_cmp);
    let kib_each = |least: u64, most: u64| most.saturating_sub(least) as f64 / (share * THREADS) as f64;
    let idle_kib = idle_kib.into_iter().max().unwrap();
    let answers = (share * THREADS * rounds) as f64;
    let us_each = |of: fn(&Woken) -> f64| shares[0].iter().map(of).sum::<f64>() * 1e6 / answers;
    json!({
        "connections": share * THREADS,
        "spread_ms": by_round,
        "spread_ms_median": spreads_ms[spreads_ms.len() / 2].round(),
        "connection_kib_each": kib_each(before_kib, idle_kib),
        "request_kib_each": kib_each(idle_kib, most_kib),
        "engine_us_each": us_each(|woken| woken.engine_s),
        "load_us_each": us_each(|woken| woken.load_s),
    })
}

/// What became of one round of one thread.
struct Woken {
    /// When the last request had been sent.
    sent: Instant,
    /// When the first byte of the first and of the last answer were there.
    first: Instant,
    latest: Instant,
    /// Of the engine, while all waited.
    resident_kib: u64,
    /// CPU time of the engine and of all threads here, from when all waited to when all had an answer.
    engine_s: f64,
    load_s: f64,
}

async fn park(
    host: &str,
    stream: &str,
    connections: usize,
    rounds: usize,
    pid: usize,
    together: &Barrier,
) -> (u64, Vec<Woken>) {
    let own_pid = std::process::id() as usize;
    let mut control = Asker::connect(host).await;
    let playlist = control.playlist(stream).await;
    let mut askers = Vec::with_capacity(connections);
    for _ in 0..connections {
        // Each has asked once, as players have before they wait.
        let mut asker = Asker::connect(host).await;
        asker.ask(&playlist, "accept-encoding: gzip\r\n").await;
        askers.push(asker);
    }
    // What the connections take, before anything waits on them.
    together.wait();
    let idle_kib = resident_kib(pid);
    let mut seen = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        together.wait();
        let text = control.ask(&playlist, "").await;
        let (msn, _) = hint(std::str::from_utf8(&text.body).unwrap());
        control.ask(&format!("{playlist}?_HLS_msn={}&_HLS_part=0", msn + 1), "").await;
        // A segment has just begun: all ask for the one after it, and wait the longer part of two seconds.
        let path = format!("{playlist}?_HLS_msn={}&_HLS_part=0", msn + 2);
        let mut waiting = JoinSet::new();
        for mut asker in askers.drain(..) {
            let path = path.clone();
            waiting.spawn_local(async move {
                asker.send(&path, "accept-encoding: gzip\r\n").await;
                let sent = Instant::now();
                // Only that it came: what is read here while others wait is taken from the engine, which has the same cores.
                asker.socket.peek(&mut [0]).await.expect("an answer");
                (asker, sent, Instant::now())
            });
        }
        let looked = tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            (resident_kib(pid), cpu_s(pid), cpu_s(own_pid))
        });
        let (mut sent, mut began) = (Vec::with_capacity(connections), Vec::with_capacity(connections));
        while let Some(done) = waiting.join_next().await {
            let (asker, sent_at, began_at) = done.unwrap();
            sent.push(sent_at);
            began.push(began_at);
            askers.push(asker);
        }
        together.wait();
        let (engine_s, load_s) = (cpu_s(pid), cpu_s(own_pid));
        let (resident_kib, engine_before_s, load_before_s) = looked.await.unwrap();
        for asker in &mut askers {
            assert_eq!(asker.answer().await.status, 200);
        }
        seen.push(Woken {
            sent: *sent.iter().max().unwrap(),
            first: *began.iter().min().unwrap(),
            latest: *began.iter().max().unwrap(),
            resident_kib,
            engine_s: engine_s - engine_before_s,
            load_s: load_s - load_before_s,
        });
    }
    (idle_kib, seen)
}

fn viewers(host: &str, stream: &str, count: usize, seconds: usize, pid: usize) -> Value {
    let begin = Instant::now() + Duration::from_secs(4);
    let end = begin + Duration::from_secs(seconds as u64);
    let own_pid = std::process::id() as usize;
    let share = count.div_ceil(THREADS);
    let (watched, cores, own_cores, passed_s) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| on_this_thread(audience(host, stream, share, begin, end))))
            .collect();
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let (cpu, own) = (cpu_s(pid), cpu_s(own_pid));
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        let passed_s = begin.elapsed().as_secs_f64();
        let (cores, own_cores) = ((cpu_s(pid) - cpu) / passed_s, (cpu_s(own_pid) - own) / passed_s);
        let watched: Vec<Watched> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (watched, cores, own_cores, passed_s)
    });
    let mut took_ms: Vec<f32> = watched.iter().flat_map(|one| one.took_ms.iter().copied()).collect();
    took_ms.sort_by(f32::total_cmp);
    let at = |share: f64| took_ms[((took_ms.len() - 1) as f64 * share) as usize];
    let bytes: usize = watched.iter().map(|one| one.bytes).sum();
    json!({
        "viewers": watched.len(),
        "cores": cores,
        "cores_of_the_load": own_cores,
        "mbit_s": bytes as f64 * 8.0 / 1e6 / passed_s,
        "parts": took_ms.len(),
        "parts_skipped": watched.iter().map(|one| one.skipped).sum::<usize>(),
        "part_ms_p50": at(0.5),
        "part_ms_p95": at(0.95),
        "part_ms_p99": at(0.99),
    })
}

async fn audience(host: &str, stream: &str, count: usize, begin: Instant, end: Instant) -> Vec<Watched> {
    let mut control = Asker::connect(host).await;
    let playlist = control.playlist(stream).await;
    let base = playlist.rsplit_once('/').unwrap().0.to_owned();
    let mut all = JoinSet::new();
    for _ in 0..count {
        let (host, playlist, base) = (host.to_owned(), playlist.clone(), base.clone());
        all.spawn_local(async move { watch(&host, &playlist, &base, begin, end).await });
    }
    all.join_all().await
}

#[derive(Default)]
struct Watched {
    bytes: usize,
    /// Parts that were there and gone before this viewer came to them.
    skipped: usize,
    /// From the playlist that lists a part to the part's last byte.
    took_ms: Vec<f32>,
}

async fn watch(host: &str, playlist: &str, base: &str, begin: Instant, end: Instant) -> Watched {
    let mut asker = Asker::connect(host).await;
    let text = asker.ask(playlist, "").await;
    let mut next = hint(std::str::from_utf8(&text.body).unwrap());
    let mut watched = Watched::default();
    while Instant::now() < end {
        let (msn, part) = next;
        let answer = asker.ask(&format!("{playlist}?_HLS_msn={msn}&_HLS_part={part}"), "").await;
        let told = Instant::now();
        assert_eq!(answer.status, 200);
        let text = std::str::from_utf8(&answer.body).unwrap();
        let uri = last_part(text);
        let taken = asker.ask(&format!("{base}/{uri}"), "").await;
        assert_eq!(taken.status, 200, "{uri}");
        let now = hint(text);
        if begin <= told {
            watched.bytes += taken.body.len() + answer.body.len();
            watched.took_ms.push(told.elapsed().as_secs_f32() * 1_000.0);
            let steps = if now.0 == msn { now.1.saturating_sub(part) } else { 1 };
            watched.skipped += steps.saturating_sub(1) as usize;
        }
        next = now;
    }
    watched
}

/// The address of the newest part that is listed.
fn last_part(playlist: &str) -> &str {
    let at = playlist.rfind("#EXT-X-PART:").expect("a part");
    playlist[at..].split("URI=\"").nth(1).unwrap().split('"').next().unwrap()
}

async fn segment(host: &str, stream: &str) -> Value {
    let mut control = Asker::connect(host).await;
    let playlist = control.playlist(stream).await;
    let base = playlist.rsplit_once('/').unwrap().0.to_owned();
    let text = control.ask(&playlist, "").await;
    let text = String::from_utf8(text.body.to_vec()).unwrap();
    let uri = text.lines().rfind(|line| !line.starts_with('#')).expect("a whole segment");
    let path = format!("{base}/{uri}");
    let bytes = control.ask(&path, "").await.body.len();
    json!({ "path": path, "bytes": bytes })
}

/// Memory of a process that is in use, in KiB.
fn resident_kib(pid: usize) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// CPU time a process has used, in seconds.
fn cpu_s(pid: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().unwrap()).sum();
    // `getconf CLK_TCK` on every Linux there is.
    ticks / 100.0
}
