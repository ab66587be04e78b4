//! How a connection becomes a socket: what is upgraded, what is refused and how that is said.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::crier::Server;
use super::start;

/// Sends a handshake with headers changed (an empty value leaves one out); gives the status and the whole answer.
pub(super) fn handshake(server: &Server, changes: &[(&str, &str)]) -> (u16, String) {
    let mut headers = vec![
        ("host", "example.org"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "chat, nova.v1"),
    ];
    let (mut method, mut path) = ("GET", "/v1/ws");
    for (name, value) in changes {
        match *name {
            "method" => method = value,
            "path" => path = value,
            name => {
                headers.retain(|(known, _)| *known != name);
                headers.push((name, value));
            }
        }
    }
    headers.retain(|(_, value)| !value.is_empty());
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut stream = TcpStream::connect(server.addr).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(format!("{method} {path} HTTP/1.1\r\n{headers}\r\n").as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let mut chunk = [0; 4_096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") || !answer.starts_with(b"HTTP/1.1 101") {
        match stream.read(&mut chunk).expect("an answer") {
            0 => break,
            len => answer.extend_from_slice(&chunk[..len]),
        }
    }
    let answer = String::from_utf8(answer).expect("text");
    let status = answer.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, answer)
}

#[test]
fn handshakes_are_checked_by_the_letter() {
    let server = start(false, |config| config.http.cors_origins = vec!["https://app.example".to_owned()]);
    let (status, answer) = handshake(&server, &[]);
    assert_eq!(status, 101, "{answer}");
    // The example of RFC 6455 section 1.3.
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(!answer.contains("extensions"), "compression is off unless configured: {answer}");
    for (changes, expected) in [
        (&[("origin", "https://app.example")][..], 101),
        (&[("origin", "http://example.org")], 101),
        (&[("origin", "https://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-websocket-version", "8")], 426),
        (&[("sec-websocket-version", "")], 426),
        (&[("sec-websocket-key", "")], 400),
        (&[("sec-websocket-key", "short")], 400),
        (&[("sec-websocket-protocol", "chat")], 400),
        (&[("sec-websocket-protocol", "")], 400),
        (&[("connection", "keep-alive")], 400),
        (&[("path", "/elsewhere")], 404),
        (&[("method", "POST")], 405),
    ] {
        let (status, answer) = handshake(&server, changes);
        assert_eq!(status, expected, "{changes:?}: {answer}");
        if status != 101 {
            assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        }
        assert_eq!(answer.contains("sec-websocket-version: 13"), status == 426, "{answer}");
    }
}

#[test]
fn too_many_connects_are_told_when_to_come_back() {
    let server = start(false, |config| config.chat.ws_ip_connects_per_s = 5);
    let statuses: Vec<_> = (0..12).map(|_| handshake(&server, &[])).collect();
    let refused: Vec<_> = statuses.iter().filter(|(status, _)| *status == 503).collect();
    assert!(!refused.is_empty() && statuses[..10].iter().all(|(status, _)| *status == 101), "{statuses:?}");
    assert!(refused.iter().all(|(_, answer)| answer.contains("retry-after: 1\r\n")), "{refused:?}");
}
