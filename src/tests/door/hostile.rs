//! Everything a stranger, or a device gone bad, can do to the door at once, while a bystander keeps talking.
//!
//! The short version runs with every test. The full one, against the real program in a process of its own, whose memory is
//! measured, is run by hand: see [`at_full_size_the_program_survives_and_does_not_grow`].

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nova_actors::id::{DeviceId, UserId};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Client;
use super::crier::{Crier, Server, token};
use crate::app::{config, eventually};
use crate::program::Program;

/// How many of each.
#[derive(Clone, Copy)]
struct Size {
    /// Handshakes that are begun and never finished.
    half_open: usize,
    /// Handshakes that are finished a byte at a time.
    slow: usize,
    /// Sockets that never say `connect`.
    silent: usize,
    /// Each: as many as there are devices to spare.
    devices: usize,
}

/// Longer than the longest patience of the door.
const END_WITHIN: Duration = Duration::from_secs(90);
/// Connections begun before the others have their turn.
const BATCH: usize = 200;

const HANDSHAKE: &str = "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: nova.v1\r\n\r\n";

/// How many connections of each kind ended how.
type Ends = BTreeMap<(&'static str, String), usize>;

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0xFE);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xFF);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn connect(token: &str) -> Vec<u8> {
    let connect = json!({ "type": "connect", "ref": 1, "token": token }).to_string();
    [HANDSHAKE.as_bytes(), &masked(0x81, connect.as_bytes())].concat()
}

/// Everything up to the end of a connection; a reset is an end as well.
async fn to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let read = tokio::time::timeout(END_WITHIN, stream.read_to_end(&mut heard)).await;
    match read.expect("the door ends it") {
        Ok(_) => {}
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}")
        }
    }
    heard
}

/// The texts of what was heard behind the handshake, and the status of the close frame.
fn frames(heard: &[u8]) -> (Vec<Value>, Option<u16>) {
    let Some(head) = heard.windows(4).position(|end| end == b"\r\n\r\n") else { return (Vec::new(), None) };
    let (mut rest, mut texts) = (&heard[head + 4..], Vec::new());
    while let [first, len, more @ ..] = rest {
        let (len, more) = match (len, more) {
            (126, [a, b, more @ ..]) => (usize::from(u16::from_be_bytes([*a, *b])), more),
            (len, more) => (usize::from(*len), more),
        };
        let Some((payload, more)) = more.split_at_checked(len) else { break };
        match first {
            0x81 => texts.push(serde_json::from_slice(payload).expect("JSON")),
            0x88 => return (texts, payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            _ => {}
        }
        rest = more;
    }
    (texts, None)
}

/// How a connection ended: the number of the goodbye, the status of the close frame; or of the answer to the handshake.
fn end(heard: &[u8]) -> String {
    let (texts, status) = frames(heard);
    match texts.iter().find(|text| text["type"] == "goodbye") {
        Some(goodbye) => format!("{} {}", goodbye["code"], status.unwrap_or_default()),
        None => String::from_utf8_lossy(heard.split(|byte| *byte == b'\r').next().unwrap_or_default())
            .into_owned(),
    }
}

async fn half_open(addr: SocketAddr) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(b"GET /v1/ws HTTP/1.1\r\nhost: x\r\n").await.expect("sent");
    end(&to_the_end(&mut stream).await)
}

/// Writes the bytes one at a time until the other side ends it.
async fn trickle(stream: TcpStream, bytes: Vec<u8>, pause: Duration) -> Vec<u8> {
    let (mut reads, mut writes) = stream.into_split();
    let writing = tokio::spawn(async move {
        for byte in bytes.iter().cycle() {
            if writes.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
    });
    let mut heard = Vec::new();
    let read = tokio::time::timeout(END_WITHIN, reads.read_to_end(&mut heard)).await;
    // An error is an end too: what was written after the end resets the connection.
    let _: std::io::Result<usize> = read.expect("the door ends it");
    writing.abort();
    heard
}

async fn slow_handshake(addr: SocketAddr) -> String {
    let stream = TcpStream::connect(addr).await.expect("connects");
    end(&trickle(stream, b"GET /v1/ws HTTP/1.1\r\nx-pad: ".to_vec(), Duration::from_millis(100)).await)
}

async fn silent(addr: SocketAddr) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(HANDSHAKE.as_bytes()).await.expect("sent");
    end(&to_the_end(&mut stream).await)
}

/// A message of which a byte comes now and then, so that it never ends; pings are not answered.
async fn slow_frame(addr: SocketAddr, token: String) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(&connect(&token)).await.expect("sent");
    stream.write_all(&[0x81, 0xFE, 0xEA, 0x60, 0, 0, 0, 0]).await.expect("sent");
    end(&trickle(stream, vec![b' '], Duration::from_millis(50)).await)
}

/// Asks as fast as it can.
async fn flood(addr: SocketAddr, token: String) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(&connect(&token)).await.expect("sent");
    let burst: Vec<u8> = (0..50)
        .flat_map(|n| masked(0x81, json!({ "type": "ping", "ref": n }).to_string().as_bytes()))
        .collect();
    let (mut reads, mut writes) = stream.into_split();
    let writing = tokio::spawn(async move { while writes.write_all(&burst).await.is_ok() {} });
    let mut heard = Vec::new();
    let read = tokio::time::timeout(END_WITHIN, reads.read_to_end(&mut heard)).await;
    // What was written after the end resets the connection.
    let _: std::io::Result<usize> = read.expect("the door ends it");
    writing.abort();
    let refused = frames(&heard).0.iter().any(|text| text["code"] == "rate_limited");
    format!("{}{}", if refused { "refused, " } else { "" }, end(&heard))
}

/// Breaks a rule of the protocol of frames.
async fn broken(addr: SocketAddr, token: String, bytes: Vec<u8>) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connects");
    stream.write_all(&connect(&token)).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
    end(&to_the_end(&mut stream).await)
}

/// Texts that are no requests: each is refused with a code, and the connection goes on.
async fn nonsense(addr: SocketAddr, token: String) -> String {
    let mut client = Client::dial_addr(addr).await.opened(&token, None).await;
    let deep =
        format!("{{\"ref\":1,\"type\":\"room.x\",\"a\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let wide = format!("{{\"ref\":1,\"type\":\"ping\"{}}}", ",\"a\":1".repeat(9_000));
    let wrong = "user_01h455vb4pex5vsknk084sn02q";
    let texts = [
        ("", "malformed_json"),
        ("\u{0}", "malformed_json"),
        ("[[[[[[", "malformed_json"),
        ("{\"type\":\"ping\",\"ref\":1} {}", "malformed_json"),
        (&deep, "malformed_json"),
        (&wide, "invalid_fields"),
        ("{\"ref\":1e999,\"type\":\"ping\"}", "malformed_json"),
        ("{\"ref\":-1,\"type\":\"ping\"}", "invalid_fields"),
        ("{\"ref\":1,\"type\":\"\\ud800\"}", "malformed_json"),
        ("{\"ref\":1,\"type\":\"sned\"}", "unknown_type"),
        ("{\"ref\":1}", "invalid_fields"),
        ("{\"ref\":1,\"type\":\"send\"}", "invalid_fields"),
        (
            &json!({ "ref": 1, "type": "pull", "conversation": wrong, "epoch": 1, "after": 0, "limit": 10 })
                .to_string(),
            "invalid_fields",
        ),
        (&json!({ "ref": 1, "type": "watch", "stream": wrong }).to_string(), "invalid_fields"),
    ]
    .map(|(text, code)| (text.to_owned(), code));
    for (text, code) in texts {
        let sent = tokio_tungstenite::tungstenite::Message::text(text.clone());
        futures_util::SinkExt::send(&mut client.socket, sent).await.expect("sent");
        let answer = loop {
            let answer = client.hear().await;
            if answer["type"] == "error" {
                break answer;
            }
        };
        assert_eq!(answer["code"], code, "{}: {answer}", text.chars().take(80).collect::<String>());
    }
    assert_eq!(client.ask(json!({ "type": "ping" })).await["type"], "pong", "and it still speaks");
    "goes on".to_owned()
}

/// What breaks the rules of frames, and how that ends.
fn broken_frames() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (vec![0xF1, 0x80, 0, 0, 0, 0], "4504 1002"),
        (vec![0x83, 0x80, 0, 0, 0, 0], "4504 1002"),
        (vec![0x81, 0x01, b'x'], "4504 1002"),
        (vec![0x80, 0x80, 0, 0, 0, 0], "4504 1002"),
        (vec![0x89, 0xFE, 0, 126, 0, 0, 0, 0], "4504 1002"),
        (vec![0x88, 0x81, 0, 0, 0, 0, 3], "4504 1002"),
        (masked(0x81, b"\xED\xA0\x80"), "4504 1007"),
        (masked(0x82, b"binary"), "4504 1003"),
        ([&[0x81, 0xFF][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(), "4504 1002"),
        ([&[0x81, 0xFF][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat(), "4504 1009"),
        ([masked(0x01, b""), masked(0x00, b"").repeat(4_096)].concat(), "4504 1008"),
    ]
}

/// Does all of it at once; `tokens` are of devices nobody else uses.
async fn attack(addr: SocketAddr, size: Size, tokens: Vec<String>) -> Ends {
    let mut all = JoinSet::new();
    let mut tokens = tokens.into_iter();
    let mut token = || tokens.next().expect("enough tokens");
    for _ in 0..size.devices {
        let (trickles, floods, talks) = (token(), token(), token());
        all.spawn(async move { ("slow frame", slow_frame(addr, trickles).await) });
        all.spawn(async move { ("flood", flood(addr, floods).await) });
        all.spawn(async move { ("nonsense", nonsense(addr, talks).await) });
    }
    for (bytes, expected) in broken_frames() {
        let token = token();
        all.spawn(async move {
            let end = broken(addr, token, bytes.clone()).await;
            assert_eq!(end, expected, "{:?}", &bytes[..bytes.len().min(20)]);
            ("broken frame", end)
        });
    }
    for n in 0..size.slow.max(size.silent).max(size.half_open) {
        if n < size.slow {
            all.spawn(async move { ("slow handshake", slow_handshake(addr).await) });
        }
        if n < size.silent {
            all.spawn(async move { ("silent", silent(addr).await) });
        }
        if n < size.half_open {
            all.spawn(async move { ("half-open", half_open(addr).await) });
        }
        if n % BATCH == BATCH - 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut ends = Ends::new();
    while let Some(ended) = all.join_next().await {
        let (kind, end) = ended.expect("no attacker was surprised");
        *ends.entry((kind, end)).or_default() += 1;
    }
    ends
}

/// Somebody who has nothing to do with it; their round trips until `done`.
async fn bystander(mut client: Client, done: tokio::sync::watch::Receiver<bool>) -> Vec<Duration> {
    let mut trips = Vec::new();
    while !*done.borrow() {
        let asked = Instant::now();
        assert_eq!(client.ask(json!({ "type": "ping" })).await["type"], "pong");
        trips.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    trips.sort_unstable();
    trips
}

/// Attacks while somebody else talks; what became of the attackers, and the round trips.
async fn attacked(addr: SocketAddr, size: Size, mut tokens: Vec<String>) -> (Ends, Vec<Duration>) {
    let client = Client::dial_addr(addr).await.opened(&tokens.pop().expect("a token"), None).await;
    let (done, told) = tokio::sync::watch::channel(false);
    let talking = tokio::spawn(bystander(client, told));
    let ends = attack(addr, size, tokens).await;
    done.send(true).expect("the bystander waits");
    (ends, talking.await.expect("the bystander was not harmed"))
}

fn tokens_wanted(size: Size) -> usize {
    3 * size.devices + broken_frames().len() + 1
}

/// Everybody ended the way that is meant for them.
fn check(ends: &Ends, size: Size) {
    let of = |kind: &str, how: &dyn Fn(&str) -> bool| {
        ends.iter().filter(|((of, end), _)| *of == kind && how(end)).map(|(_, count)| count).sum::<usize>()
    };
    // Before the head is whole there is nobody to say goodbye to: 408, or the end.
    let too_late = |end: &str| end.is_empty() || end.starts_with("HTTP/1.1 408 ");
    assert_eq!(of("half-open", &too_late), size.half_open, "{ends:?}");
    assert_eq!(of("slow handshake", &too_late), size.slow, "{ends:?}");
    assert_eq!(of("silent", &|end| end == "4504 4504"), size.silent, "{ends:?}");
    // A reset may overtake the last words on its way to somebody who keeps writing.
    assert_eq!(
        of("slow frame", &|end| end == "4003 4003" || end.starts_with("HTTP/1.1 101 ")),
        size.devices,
        "{ends:?}"
    );
    let flooded = |end: &str| end == "refused, 4505 4505" || end.contains("HTTP/1.1 101 ");
    assert_eq!(of("flood", &flooded), size.devices, "{ends:?}");
    assert_eq!(of("nonsense", &|end| end == "goes on"), size.devices, "{ends:?}");
}

#[actix_web::test]
async fn strangers_and_devices_gone_bad_are_sent_away_and_a_bystander_is_unharmed() {
    let size = Size { half_open: 300, slow: 10, silent: 100, devices: 3 };
    let mut config = config(Path::new("/nowhere"));
    config.http.workers = Some(1);
    (config.chat.ws_connects_per_s, config.chat.ws_ip_connects_per_s) = (0, 0);
    // Ten of these are more than it takes a slow machine to answer a ping, and two of them come between two of the bystander.
    config.chat.ws_ping_s = 10;
    let server = Server::start_ticking(Crier::new(false), &config, None, Duration::from_millis(200));
    let tokens =
        (0..tokens_wanted(size)).map(|_| token(UserId::generate(), DeviceId::generate(), 90_000)).collect();
    let (ends, trips) = attacked(server.addr, size, tokens).await;
    check(&ends, size);
    assert!(trips.last().is_some_and(|longest| *longest < Duration::from_secs(10)), "{:?}", trips.last());
    eventually("all have left", async || (server.door.sockets() == 0).then_some(())).await;
    assert_eq!(server.metrics.ws_goodbyes.with_label_values(&["4505"]).get(), 3);
    assert_eq!(server.metrics.ws_goodbyes.with_label_values(&["4003"]).get(), 3);
    assert_eq!(server.metrics.ws_outbox_bytes.get(), 0, "nothing is kept of them");
}

/// 10,000 half-open handshakes and the rest in proportion, twice, against the program itself:
/// `cargo test -p nova --test integration --locked -- --ignored --nocapture door::hostile`.
#[actix_web::test]
#[ignore = "takes a minute and more than 10,000 open files; run by hand, see benches/README.md"]
async fn at_full_size_the_program_survives_and_does_not_grow() {
    nova::app::use_ring();
    let size = Size { half_open: 10_000, slow: 200, silent: 1_000, devices: 3 };
    assert!(nova::chat::limits::raise_open_files() > 12_000, "too few files may be opened here: ulimit -Hn");
    let data = tempfile::tempdir().expect("a directory");
    let limits = [
        "--ws-connects-per-s",
        "0",
        "--ws-ip-connects-per-s",
        "0",
        "--ws-ping-s",
        "5",
        "--ws-sockets-per-user",
        "1000",
    ];
    let limits = [
        &limits[..],
        &["--ip-logins-per-minute", "0", "--account-logins-per-minute", "0", "--ip-requests-per-minute", "0"],
    ]
    .concat();
    let engine = Program::serve(data.path(), &limits);
    let http = Arc::new(reqwest::Client::new());
    let post = async |path: &str, body: Value| -> Value {
        let answer =
            http.post(format!("{}{path}", engine.url("http"))).json(&body).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    };
    let mut tokens = Vec::new();
    for n in 0..tokens_wanted(size) {
        // A user each: what one does counts for all of a user's devices.
        let account = json!({ "username": format!("user{n}"), "email": format!("{n}@example.org"), "password": crate::accounts::PASSWORD });
        tokens
            .push(post("/v1/accounts", account).await["access_token"].as_str().expect("a token").to_owned());
    }
    let addr: SocketAddr = engine.ready["http"].as_str().expect("an address").parse().expect("an address");
    let mut after = Vec::new();
    for round in 1..=3 {
        let began = Instant::now();
        let (before, files) = engine.weight();
        let (ends, trips) = attacked(addr, size, tokens.clone()).await;
        check(&ends, size);
        eventually("the files are closed", async || (engine.weight().1 <= files + 50).then_some(())).await;
        let (rss, files) = engine.weight();
        let trip = |share: f64| trips[((trips.len() - 1) as f64 * share) as usize];
        println!(
            "round {round}: {:?}; memory {} -> {} KiB, {files} files; bystander p50 {:?} p99 {:?} max {:?}; {ends:?}",
            began.elapsed(),
            before >> 10,
            rss >> 10,
            trip(0.5),
            trip(0.99),
            trip(1.0),
        );
        assert!(trip(1.0) < Duration::from_secs(5), "{:?}", trip(1.0));
        after.push(rss);
    }
    // What the first round made room for is used again.
    assert!(after[2] < after[1] + (8 << 20), "it grows: {after:?}");
    assert!(engine.end(Signal::TERM).success());
}
