//! What somebody who has joined sends to the DTLS of the UDP port: a real client comes as far as the first byte says, and from then on
//! its datagrams go astray, are changed or repeated, and others go between them.
//!
//! However it goes, a participant costs a bounded amount of memory, is sent no more than a few flights for what it sends, and is
//! connected only with the certificate the signalling named.
#![no_main]

mod held;
mod script;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use nova_media::peer::client::Client;
use nova_media::peer::{Credentials, Identity, Input, Peer, Transmit};
use nova_media::stun::Binding;

use held::HELD;
use script::Script;

/// Bytes one participant may have at most, however much it sends, what it is being answered included.
const HELD_BYTES_MAX: usize = 1 << 20;
/// Bytes of all our flights together: each is sent eight times at most, and a verdict for each record that shakes hands.
const SENT_BYTES_MAX: usize = 64 << 10;
/// A flight and an alert.
const SENT_AT_ONCE_MAX: usize = 4 << 10;

/// Ours, theirs, and a stranger's, whose fingerprint the signalling may have named in place of theirs.
static IDENTITIES: LazyLock<[Arc<Identity>; 3]> =
    LazyLock::new(|| [(); 3].map(|()| Arc::new(Identity::generate().expect("a certificate"))));

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let mut call = Call::new(first & 0x80 == 0);
    for _ in 0..first & 7 {
        call.exchange();
    }
    let mut script = Script(rest);
    while let Some(step) = script.u8() {
        call.take(step, &mut script);
    }
    call.now += Duration::from_secs(40);
    assert!(call.peer.poll(call.now, &mut Vec::new()).is_err(), "who is silent has gone");
});

struct Call {
    peer: Peer,
    client: Client,
    from: SocketAddr,
    now: Instant,
    is_named: bool,
    /// What the client has to send, what it has sent, and what it is to hear.
    waiting: Vec<BytesMut>,
    sent: Vec<BytesMut>,
    heard: Vec<Transmit>,
    number: u64,
    held: usize,
    sent_to: usize,
}

impl Call {
    fn new(is_named: bool) -> Call {
        let (now, [ours, theirs, stranger]) = (Instant::now(), &*IDENTITIES);
        let client = Client::new(theirs.clone(), ours.fingerprint(), now).expect("a client");
        let local = Credentials { ufrag: "ours".to_owned(), password: "a password that is long".to_owned() };
        let named = if is_named { theirs } else { stranger };
        let held = HELD.load(Ordering::Relaxed);
        let mut peer = Peer::new(ours.clone(), local.clone(), named.fingerprint(), now);
        let from = SocketAddr::from(([192, 0, 2, 9], 5_000));
        let request = client.binding(&local, &local.password, [1; 12]);
        let binding = Binding::read(&request).expect("a binding request");
        assert!(peer.hear_binding(&binding, from, now).is_some());
        let mut call = Call {
            peer,
            client,
            from,
            now,
            is_named,
            waiting: Vec::new(),
            sent: Vec::new(),
            heard: Vec::new(),
            number: 1_000,
            held,
            sent_to: 0,
        };
        call.listen();
        call
    }

    fn listen(&mut self) {
        self.waiting.extend(self.client.outgoing());
    }

    /// All the client has goes to the peer, and all the peer answers to the client.
    fn exchange(&mut self) {
        for datagram in std::mem::take(&mut self.waiting) {
            self.send(&datagram);
            self.sent.push(datagram);
        }
        self.hear();
    }

    fn hear(&mut self) {
        for transmit in std::mem::take(&mut self.heard) {
            self.client.hear(&transmit.bytes, self.now);
        }
        self.listen();
    }

    fn send(&mut self, datagram: &[u8]) {
        let mut out = Vec::new();
        let input = self.peer.input(datagram, self.from, self.now, &mut out);
        assert!(input != Input::Connected || self.is_named, "connected with somebody else");
        assert!(self.is_named || !self.peer.is_connected());
        self.note(out);
    }

    fn note(&mut self, mut out: Vec<Transmit>) {
        let bytes: usize = out.iter().map(|transmit| transmit.bytes.len()).sum();
        self.sent_to += bytes;
        assert!(bytes <= SENT_AT_ONCE_MAX, "{bytes} bytes for one datagram");
        assert!(self.sent_to <= SENT_BYTES_MAX, "{} bytes in all", self.sent_to);
        self.heard.append(&mut out);
        // What the client has, and what is on its way, is not the peer's.
        self.heard.truncate(64);
        self.sent.truncate(64);
        self.waiting.truncate(64);
        let held = HELD.load(Ordering::Relaxed).saturating_sub(self.held);
        assert!(held <= HELD_BYTES_MAX, "{held} bytes are held");
    }

    fn take(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 9 {
            0 => self.exchange(),
            1 => {
                let datagram = script.bytes().to_vec();
                self.send(&datagram);
            }
            2 => {
                let record = self.record(script);
                self.send(&record);
            }
            3 => self.send_changed(script),
            4 => self.send_pieces(script),
            5 if !self.waiting.is_empty() => drop(self.waiting.remove(0)),
            6 => {
                self.now += Duration::from_millis(u64::from(script.u16() % 4_000));
                self.client.poll(self.now);
                let mut out = Vec::new();
                // Also later than it takes to give up.
                let _ = self.peer.poll(self.now, &mut out);
                self.note(out);
                self.listen();
            }
            7 => {
                self.client.write_data(script.bytes(), self.now);
                self.listen();
            }
            _ => {
                self.client.close(self.now);
                self.listen();
            }
        }
    }

    /// A record: its content and epoch, the beginning of a message, and the rest.
    fn record(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        let (content, epoch) = (20 + script.byte() % 5, script.byte());
        let body = script.bytes();
        self.framed(content, u16::from(epoch), body)
    }

    fn framed(&mut self, content: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
        self.number += 1;
        let mut record = vec![content, 0xFE, 0xFD];
        record.extend_from_slice(&epoch.to_be_bytes());
        record.extend_from_slice(&self.number.to_be_bytes()[2..]);
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    }

    /// Something the client says or has said, with one byte changed, a number of its own, or both.
    fn send_changed(&mut self, script: &mut Script<'_>) {
        let (which, at, by) = (usize::from(script.byte()), script.u16(), script.byte());
        let all = self.waiting.len() + self.sent.len();
        let Some(which) = which.checked_rem(all) else { return };
        let one = self.waiting.iter().chain(&self.sent).nth(which);
        let Some(mut datagram) = one.map(|datagram| datagram.to_vec()) else { return };
        let len = datagram.len().max(1);
        if let Some(byte) = datagram.get_mut(usize::from(at) % len) {
            *byte ^= by;
        }
        if script.byte() & 1 == 1 && datagram.len() > 11 {
            self.number += 1;
            datagram[5..11].copy_from_slice(&self.number.to_be_bytes()[2..]);
        }
        self.send(&datagram);
        self.hear();
    }

    /// One message in very many pieces, forwards or backwards, in records or datagrams of their own.
    fn send_pieces(&mut self, script: &mut Script<'_>) {
        let (kind, number, order) =
            (script.byte(), script.byte(), script.byte());
        let (whole, count, len) =
            (script.u16(), script.u16() % 20_000, u16::from(script.byte() % 4));
        let mut datagram = Vec::new();
        for at in 0..count {
            let at = if order & 1 == 0 { at } else { count - 1 - at };
            let mut piece = vec![kind, order, 0, 0, 0, number];
            piece[2..4].copy_from_slice(&whole.to_be_bytes());
            piece.extend_from_slice(&u32::from(at.wrapping_mul(len.max(1))).to_be_bytes()[1..]);
            piece.extend_from_slice(&u32::from(len).to_be_bytes()[1..]);
            piece.resize(piece.len() + usize::from(len), at as u8);
            datagram.extend_from_slice(&self.framed(22, u16::from(order >> 1 & 1), &piece));
            if order & 4 == 0 || datagram.len() > 1_300 {
                self.send(&std::mem::take(&mut datagram));
            }
        }
    }
}
