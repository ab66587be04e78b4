//! What the WebSocket door costs: server CPU per delivered message, and memory per idle socket.
//!
//! `cargo bench --bench ws_fanout` starts itself twice: the server, with a decider that keeps one conversation in memory, in a
//! process of its own, whose CPU time and resident memory are read from `/proc`; and the load, here. Loopback only; ends by itself.
//!
//! `SOCKETS`, `IDLE`, `IDLE_SECONDS` (less than the ping interval: pings are sent and not answered), `RATE`, `SECONDS` change the measure. The last line is JSON.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measure that cannot be made ends"
)]

#[path = "../src/tests/door/crier.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use more of it")]
mod crier;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nova_actors::id::{DeviceId, UserId};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of the text of each message.
const TEXT_BYTES: usize = 128;
/// Sockets that connect between two looks at the clock.
const BATCH: usize = 100;

fn main() {
    nova::chat::limits::raise_open_files();
    match std::env::args().nth(1).as_deref() {
        Some("server") => serve(std::env::args().nth(2).is_some()),
        _ => measure(),
    }
}

/// Serves until standard input ends; each line says how many messages to deliver now.
fn serve(follows: bool) {
    // Those who are delivered to here do not answer pings, so they are asked once at most.
    let ping_s = if follows { "600" } else { "25" };
    let rates = ["--ws-connects-per-s", "0", "--ws-ip-connects-per-s", "0"];
    let arguments = ["nova", "serve", "--workers", "2", "--ws-ping-s", ping_s].into_iter().chain(rates);
    let (cli, _) = nova::config::parse(arguments).unwrap();
    let nova::cli::Command::Serve(config) = cli.command else { panic!("not `serve`") };
    let server = crier::Server::start(crier::Crier::new(follows), &config, None);
    println!("{}", server.addr);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = "x".repeat(TEXT_BYTES);
    for _ in std::io::stdin().lines() {
        let delivery = server.crier.commit(&text);
        runtime.block_on(server.door.deliver(delivery));
    }
}

struct Running {
    child: Child,
    addr: SocketAddr,
}

impl Running {
    fn start(follows: bool) -> Running {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("server").args(follows.then_some("follows"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Running { addr: line.trim().parse().unwrap(), child }
    }

    /// CPU time so far, user and system, in microseconds: `schedstat` counts nanoseconds for each thread.
    fn cpu_us(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let ns = |task: std::fs::DirEntry| -> f64 {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse().unwrap()
        };
        tasks.map(|task| ns(task.unwrap())).sum::<f64>() / 1_000.0
    }

    fn resident_bytes(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0
    }

    fn say(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"say\n").unwrap();
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// A socket that has said `connect` and heard `connected` (and `drained`, where there is something to follow).
fn dial(addr: SocketAddr, until: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    let connect = format!(
        r#"{{"type":"connect","ref":1,"token":"{}"}}"#,
        crier::token(UserId::generate(), DeviceId::generate(), 86_400)
    );
    let mut bytes = b"GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: nova.v1\r\n\r\n"
        .to_vec();
    match u8::try_from(connect.len()) {
        Ok(len) if len < 126 => bytes.extend([0x81, 0x80 | len]),
        _ => {
            bytes.extend([0x81, 0xFE]);
            bytes.extend((connect.len() as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(connect.as_bytes());
    stream.write_all(&bytes).unwrap();
    let (mut answer, mut chunk) = (Vec::new(), [0; 2_048]);
    while !answer.windows(until.len()).any(|part| part == until.as_bytes()) {
        let len = stream.read(&mut chunk).unwrap();
        assert!(len > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&chunk[..len]);
    }
    stream
}

/// Reads one message past any pings; gives its length.
fn hear(listener: &mut TcpStream, buffer: &mut [u8]) -> usize {
    loop {
        let (mut head, mut len) = ([0; 2], [0; 2]);
        listener.read_exact(&mut head).unwrap();
        if head == [0x89, 0] {
            continue;
        }
        assert_eq!(head, [0x81, 126], "an entry");
        listener.read_exact(&mut len).unwrap();
        let len = usize::from(u16::from_be_bytes(len));
        listener.read_exact(&mut buffer[..len]).unwrap();
        return len;
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn measure() {
    let (sockets, idle) = (number("SOCKETS", 2_000), number("IDLE", 9_000));
    let (rate, seconds) = (number("RATE", 20), number("SECONDS", 15));

    let server = Running::start(false);
    let warm: Vec<_> = (0..BATCH).map(|_| dial(server.addr, "connected")).collect();
    let before = server.resident_bytes();
    let many: Vec<_> = (0..idle).map(|_| dial(server.addr, "connected")).collect();
    let idle_bytes = (server.resident_bytes() - before) / idle as f64;
    let cpu = server.cpu_us();
    let start = Instant::now();
    std::thread::park_timeout(Duration::from_secs(number("IDLE_SECONDS", 20) as u64));
    let idle_cpu_percent =
        (server.cpu_us() - cpu) / start.elapsed().as_micros() as f64 * 100.0 / (idle as f64 / 1_000.0);
    println!(
        "idle: {idle_bytes:.0} B a socket, {idle_cpu_percent:.3} % of a core per 1,000 sockets ({idle} sockets)"
    );
    drop((warm, many));
    server.stop();

    let mut server = Running::start(true);
    let mut listeners: Vec<_> = (0..sockets).map(|_| dial(server.addr, "drained")).collect();
    let messages = rate * seconds;
    let frame_bytes = {
        server.say();
        let (mut len, mut buffer) = (None, vec![0; 64 << 10]);
        for listener in &mut listeners {
            let body = hear(listener, &mut buffer);
            len = Some(body + 4);
        }
        len.unwrap()
    };
    // Two readers take what arrives, as one clock says; the sequence number may grow by some digits.
    let cpu = server.cpu_us();
    let start = Instant::now();
    let share = sockets.div_ceil(2);
    let readers: Vec<_> = std::iter::from_fn(|| {
        let rest = listeners.split_off(listeners.len().saturating_sub(share));
        (!rest.is_empty()).then_some(rest)
    })
    .map(|mut mine| {
        std::thread::spawn(move || {
            let (mut heard, mut buffer) = (0_usize, vec![0; 64 << 10]);
            for _ in 0..messages {
                for listener in &mut mine {
                    hear(listener, &mut buffer);
                    heard += 1;
                }
            }
            heard
        })
    })
    .collect();
    for n in 0..messages {
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        if let Some(wait) = due.checked_sub(start.elapsed()) {
            std::thread::park_timeout(wait);
        }
        server.say();
    }
    let heard: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    let (took, cpu_us) = (start.elapsed(), server.cpu_us() - cpu);
    assert_eq!(heard, messages * sockets, "nothing is lost");
    let delivery_us = cpu_us / heard as f64;
    println!(
        "fan-out: {delivery_us:.2} µs of server CPU a delivery ({heard} deliveries of {frame_bytes} B to {sockets} sockets in {:.1} s)",
        took.as_secs_f64()
    );
    println!(
        r#"{{"idle_bytes":{idle_bytes:.0},"idle_cpu_percent_per_1000":{idle_cpu_percent:.4},"delivery_us":{delivery_us:.3}}}"#
    );
    server.stop();
}
