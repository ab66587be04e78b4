//! What lies between a device and the door: TLS, compression, frames by hand.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use nova_actors::id::{DeviceId, UserId};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};

use super::crier::{Crier, Server, token};
use super::{Client, start};
use crate::app::config;

/// A client by hand: nothing is answered or checked that a test does not.
pub(super) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Connects; also gives the head of the answer. `headers` are lines.
    pub(super) fn open(addr: SocketAddr, headers: &str) -> (Raw, String) {
        let stream = TcpStream::connect(addr).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut raw = Raw { stream, unread: Vec::new() };
        let head = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: nova.v1\r\n{headers}\r\n"
        );
        raw.stream.write_all(head.as_bytes()).expect("sent");
        let end = loop {
            match raw.unread.windows(4).position(|end| end == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert!(raw.more(), "the answer ends: {:?}", raw.unread),
            }
        };
        let answer = String::from_utf8(raw.unread.drain(..end).collect()).expect("text");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        (raw, answer)
    }

    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        let len = self.stream.read(&mut chunk).expect("something within 20 s");
        self.unread.extend_from_slice(&chunk[..len]);
        len > 0
    }

    /// Sends one masked frame.
    pub(super) fn frame(&mut self, first: u8, payload: &[u8]) {
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..126 => frame.push(0x80 | len as u8),
            len => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(len).expect("short").to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).expect("sent");
    }

    pub(super) fn say(&mut self, message: &Value) {
        self.frame(0x81, message.to_string().as_bytes());
    }

    /// The next frame that is not a ping: the first of those comes at any moment of the interval.
    pub(super) fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        const PING: u8 = 0x89;
        std::iter::from_fn(|| self.next_or_ping()).find(|(first, _)| *first != PING)
    }

    /// The first byte of the next frame and its payload; `None` at the end of the connection.
    pub(super) fn next_or_ping(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let parsed = match self.unread.as_slice() {
                [first, len @ 0..126, ..] => Some((*first, 2, usize::from(*len))),
                [first, 126, a, b, ..] => Some((*first, 4, usize::from(u16::from_be_bytes([*a, *b])))),
                _ => None,
            };
            if let Some((first, head, len)) = parsed
                && self.unread.len() >= head + len
            {
                let payload = self.unread[head..head + len].to_vec();
                self.unread.drain(..head + len);
                return Some((first, payload));
            }
            if !self.more() {
                return None;
            }
        }
    }
}

/// What a sync flush ends in, and the extension leaves out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Decompresses a message that was compressed on its own.
fn inflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    Decompress::new(false)
        .decompress_vec(&[payload, &TAIL].concat(), &mut out, FlushDecompress::Sync)
        .expect("it stands on its own");
    out
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    Compress::new(Compression::best(), false)
        .compress_vec(text, &mut out, FlushCompress::Sync)
        .expect("compresses");
    assert_eq!(out.split_off(out.len() - TAIL.len()), TAIL);
    out
}

#[actix_web::test]
async fn compression_is_offered_agreed_on_and_carries_nothing_from_message_to_message() {
    let server = start(true, |config| config.chat.ws_deflate = true);
    let offer = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
    let open = |offer: &str| {
        let (mut raw, answer) = Raw::open(server.addr, offer);
        raw.say(&json!({"type": "connect", "ref": 1, "token": token(UserId::generate(), DeviceId::generate(), 900)}));
        let hear = |raw: &mut Raw, kind: &str| {
            let (_, text) = raw.next().expect("a message");
            let message: Value = serde_json::from_slice(&text).expect("short messages are not compressed");
            assert_eq!(message["type"], kind, "{message}");
        };
        hear(&mut raw, "connected");
        hear(&mut raw, "drained");
        (raw, answer)
    };
    let ((mut ann, agreed), (mut bo, _), (mut plain, none)) = (open(offer), open(offer), open(""));
    let accepted = "sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";
    assert!(agreed.contains(accepted), "{agreed}");
    assert!(!none.contains("extensions"), "{none}");
    let said = "hello hello hello. ".repeat(100);
    let mut sizes = Vec::new();
    for _ in 0..2 {
        server.door.deliver(server.crier.commit(&said)).await;
        let (first, packed) = ann.next().expect("an entry");
        assert_eq!(first, 0xC1, "compressed text, in one frame");
        assert_eq!(bo.next().expect("an entry"), (0xC1, packed.clone()), "the same bytes for everybody");
        let (first, text) = plain.next().expect("an entry");
        assert_eq!((first, inflate(&packed)), (0x81, text.clone()));
        assert!(packed.len() < text.len() / 4, "{} of {}", packed.len(), text.len());
        sizes.push(packed.len());
    }
    assert!(sizes[0].abs_diff(sizes[1]) < 16, "the second leans on nothing of the first: {sizes:?}");
    // And the other way round; what is not compressed is as welcome.
    let request = json!({"type": "ping", "ref": 5}).to_string();
    ann.frame(0xC1, &deflate(request.as_bytes()));
    ann.frame(0x81, request.as_bytes());
    for _ in 0..2 {
        let (_, text) = ann.next().expect("an answer");
        assert_eq!(serde_json::from_slice::<Value>(&text).expect("JSON")["type"], "pong");
    }
    // A bomb is a message of more than the limit.
    ann.frame(0xC1, &deflate(&[b' '; 1 << 20]));
    assert!(ann.next().expect("a goodbye").1.starts_with(b"{\"type\":\"goodbye\",\"code\":4504"));
    assert_eq!(
        ann.next().expect("a close frame"),
        (0x88, [&1009_u16.to_be_bytes()[..], b"a message of more than the announced limit"].concat())
    );
    // Who did not agree on it may not use it.
    plain.frame(0xC1, &deflate(request.as_bytes()));
    plain.next().expect("a goodbye");
    assert_eq!(plain.next().expect("a close frame").1[..2], 1002_u16.to_be_bytes());
}

#[actix_web::test]
async fn through_tls_everything_is_as_without() {
    nova::app::use_ring();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("PEM");
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("they belong together");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let trusting = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting));

    let mut config = config(Path::new("/nowhere"));
    config.http.workers = Some(2);
    let server = Server::start(Crier::new(true), &config, Some(tls));
    let open = async |cursor: Option<u64>| {
        let stream = tokio::net::TcpStream::connect(server.addr).await.expect("connects");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, stream).await.expect("a TLS session");
        let token = token(UserId::generate(), DeviceId::generate(), 900);
        Client::over(stream, "wss://localhost/v1/ws").await.opened(&token, cursor).await
    };
    // More than a TLS session holds, and more than an outbox: replayed with back-pressure.
    let text = "x".repeat(4 << 10);
    for _ in 0..600 {
        server.crier.commit(&text);
    }
    let (mut returned, mut ann, mut stopped) = (open(Some(0)).await, open(None).await, open(None).await);
    assert_eq!(returned.hear_seqs(600).await, (1..=600).collect::<Vec<_>>());
    for client in [&mut ann, &mut stopped] {
        while client.hear().await["type"] != "drained" {}
    }
    let conversation = server.crier.conversation();
    let sent = ann
        .ask(json!({"type": "send", "conversation": conversation, "client_msg_id": "m", "text": "hello"}))
        .await;
    assert_eq!((&sent["type"], &sent["seq"]), (&json!("sent"), &json!(601)));
    assert_eq!(returned.hear_seqs(601).await, [601]);
    // A reader that stops is told so, and the others go on.
    let text = "x".repeat(32 << 10);
    for seq in 602..1_000 {
        server.door.deliver(server.crier.commit(&text)).await;
        assert_eq!(returned.hear_seqs(seq).await, [seq]);
    }
    let (goodbye, status) = stopped.last_words().await;
    assert_eq!((goodbye["code"].as_u64(), status), (Some(4001), 4001));
    // Plain HTTP on this port is not an upgrade.
    let mut plain = std::net::TcpStream::connect(server.addr).expect("connects");
    plain.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    std::io::Write::write_all(&mut plain, b"GET /v1/ws HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    // The alert of TLS, or nothing; a reset is an end as well.
    let _: std::io::Result<usize> = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 101"), "{answer:?}");
}

/// Bytes behind a handshake, raw; gives the status of the close frame the server answers with, and whether a goodbye came before.
fn break_rules(server: &Server, bytes: &[u8]) -> (u16, bool) {
    let mut stream = TcpStream::connect(server.addr).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let head = "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: nova.v1\r\n\r\n";
    // In one piece: what comes behind the handshake is not lost.
    stream.write_all(&[head.as_bytes(), bytes].concat()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server ends it");
    let goodbye = answer.windows(9).any(|part| part == b"\"goodbye\"");
    let start = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let mut frames = &answer[start..];
    while let [first, len, rest @ ..] = frames {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            len => (usize::from(*len), rest),
        };
        if *first == 0x88 {
            return (if len == 0 { 1005 } else { u16::from_be_bytes([rest[0], rest[1]]) }, goodbye);
        }
        frames = &rest[len..];
    }
    panic!("no close frame in {answer:?}");
}

#[test]
fn broken_frames_end_one_connection_and_no_other() {
    let server = start(false, |_| {});
    let mask = [0, 0, 0, 0];
    let with = |head: &[u8], payload: &[u8]| [head, &mask, payload].concat();
    for (name, bytes, status) in [
        ("autobahn 3.1: a reserved bit", with(&[0xC1, 0x81], b"x"), 1002),
        ("autobahn 4.1.1: a reserved opcode", with(&[0x83, 0x80], b""), 1002),
        ("an unmasked frame", vec![0x81, 0x01, b'x'], 1002),
        ("autobahn 2.5: a long ping", with(&[0x89, 0xFE, 0, 126], &[0; 126]), 1002),
        ("autobahn 5.9: a continuation of nothing", with(&[0x80, 0x80], b""), 1002),
        ("autobahn 6.3.1: no UTF-8", with(&[0x81, 0x83], b"\xED\xA0\x80"), 1007),
        ("autobahn 7.9.3: a code that may not be sent", with(&[0x88, 0x82], &1005_u16.to_be_bytes()), 1002),
        ("more than is announced", with(&[0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1], b""), 1009),
        ("binary", with(&[0x82, 0x81], b"x"), 1003),
    ] {
        let said = break_rules(&server, &[bytes, with(&[0x88, 0x80], b"")].concat());
        assert_eq!(said, (status, true), "{name}");
    }
    assert_eq!(
        break_rules(&server, &with(&[0x88, 0x82], &1000_u16.to_be_bytes())),
        (1000, false),
        "autobahn 7.1.2"
    );
    assert_eq!(break_rules(&server, &with(&[0x88, 0x80], b"")), (1005, false), "autobahn 7.3.1");
    assert_eq!(server.metrics.ws_goodbyes.with_label_values(&["4504"]).get(), 9);
}
