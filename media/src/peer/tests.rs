//! A client in this process connects, and everything that would make the transport believe a stranger is tried.

use rtc_srtp::protection_profile::ProtectionProfile;

use super::srtp::TRIES_PER_S;
use super::*;
use crate::stun;

/// A client at an address.
pub(crate) struct Client {
    identity: Arc<Identity>,
    client: client::Client,
    pub(crate) address: SocketAddr,
}

impl Client {
    pub(crate) fn new(address: &str, server: Fingerprint) -> Client {
        let identity = Arc::new(Identity::generate().unwrap());
        let client = client::Client::new(identity.clone(), server, crate::rtp::beginning()).unwrap();
        Client { identity, client, address: address.parse().unwrap() }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.client.fingerprint()
    }

    pub(crate) fn binding(&self, server: &Credentials, password: &str) -> Vec<u8> {
        self.client.binding(server, password, [1; 12])
    }

    pub(crate) fn outgoing(&mut self) -> Vec<BytesMut> {
        self.client.outgoing()
    }

    pub(crate) fn hear(&mut self, datagram: &[u8]) {
        self.client.hear(datagram, crate::rtp::beginning());
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    pub(crate) fn seal(&mut self, packet: &[u8]) -> BytesMut {
        self.client.seal(packet).unwrap()
    }

    pub(crate) fn seal_rtcp(&mut self, compound: &[u8]) -> BytesMut {
        self.client.seal_rtcp(compound).unwrap()
    }

    pub(crate) fn write_data(&mut self, packet: &[u8]) {
        self.client.write_data(packet, crate::rtp::beginning());
    }

    pub(crate) fn take_data(&mut self) -> Vec<BytesMut> {
        self.client.take_data()
    }

    pub(crate) fn open(&mut self, datagram: &[u8]) -> Option<BytesMut> {
        self.client.open(datagram)
    }
}

impl Peer {
    pub(crate) fn break_on_purpose(&self) {
        assert!(!self.is_broken, "on purpose");
    }
}

fn rtp(sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = Vec::new();
    crate::rtp::packet::Header { payload_type: 96, sequence, ssrc, ..Default::default() }.write(&mut packet);
    packet.extend_from_slice(b"picture");
    packet
}

fn pair(expected: impl FnOnce(&Client) -> Fingerprint) -> (Peer, Client) {
    let identity = Arc::new(Identity::generate().unwrap());
    let client = Client::new("192.0.2.9:5000", identity.fingerprint());
    let local = Credentials::generate("0000000100000002").unwrap();
    (Peer::new(identity, local, expected(&client), crate::rtp::beginning()), client)
}

fn bind(peer: &mut Peer, client: &Client, from: SocketAddr) -> bool {
    let credentials = peer.credentials().clone();
    let request = client.binding(&credentials, &credentials.password);
    peer.hear_binding(&stun::Binding::read(&request).unwrap(), from, crate::rtp::beginning()).is_some()
}

fn shake(peer: &mut Peer, client: &mut Client) {
    let now = crate::rtp::beginning();
    for _ in 0..10 {
        let mut out = Vec::new();
        for datagram in client.outgoing() {
            peer.input(&datagram, client.address, now, &mut out);
        }
        for transmit in out {
            assert_eq!(transmit.to, client.address);
            client.hear(&transmit.bytes);
        }
    }
}

fn connected() -> (Peer, Client) {
    let (mut peer, mut client) = pair(Client::fingerprint);
    assert!(bind(&mut peer, &client, client.address));
    shake(&mut peer, &mut client);
    assert!(peer.is_connected() && client.is_connected());
    (peer, client)
}

fn hears(peer: &mut Peer, client: &Client, datagram: &[u8]) -> Input {
    peer.input(datagram, client.address, crate::rtp::beginning(), &mut Vec::new())
}

#[test]
fn packets_go_both_ways_under_gcm() {
    let (mut peer, mut client) = connected();
    let Dtls::Done { opening, .. } = &peer.dtls else { panic!("connected") };
    assert!(
        matches!(opening.keys.profile, ProtectionProfile::AeadAes128Gcm),
        "though the client prefers another"
    );
    let sealed = client.seal(&rtp(1, 7));
    assert_eq!(hears(&mut peer, &client, &sealed), Input::Rtp(BytesMut::from(rtp(1, 7).as_slice())));
    let sent = peer.write_rtp(&rtp(5, 9)).unwrap();
    assert_eq!(
        (sent.to, client.open(&sent.bytes)),
        (client.address, Some(BytesMut::from(rtp(5, 9).as_slice())))
    );
}

#[test]
fn a_binding_with_another_password_is_not_answered() {
    let (mut peer, client) = pair(Client::fingerprint);
    let request = client.binding(peer.credentials(), "not the password at all");
    let binding = stun::Binding::read(&request).unwrap();
    assert_eq!(peer.hear_binding(&binding, client.address, crate::rtp::beginning()), None);
    assert!(!peer.believes(client.address) && peer.remote().is_none());
}

#[test]
fn another_certificate_than_was_told_gets_no_keys() {
    let (mut peer, mut client) = pair(|_| [7; 32]);
    assert!(bind(&mut peer, &client, client.address));
    shake(&mut peer, &mut client);
    assert!(!peer.is_connected() && peer.write_rtp(&rtp(1, 1)).is_none());
}

#[test]
fn a_packet_is_taken_once_and_unchanged() {
    let (mut peer, mut client) = connected();
    let sealed = client.seal(&rtp(1, 7));
    let mut changed = sealed.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(hears(&mut peer, &client, &changed), Input::Nothing);
    assert!(matches!(hears(&mut peer, &client, &sealed), Input::Rtp(_)));
    assert_eq!(hears(&mut peer, &client, &sealed), Input::Nothing, "a repeat");
}

#[test]
fn packets_are_opened_across_the_wrap_of_their_numbers() {
    let (mut peer, mut client) = connected();
    for sequence in (65_000..=65_535).chain(0..600) {
        let sealed = client.seal(&rtp(sequence, 7));
        assert!(matches!(hears(&mut peer, &client, &sealed), Input::Rtp(_)), "{sequence}");
    }
}

#[test]
fn strangers_streams_cost_nothing_that_stays() {
    let (mut peer, mut client) = connected();
    for ssrc in 0..100_000_u32 {
        let mut forged = rtp(1, ssrc);
        forged.resize(100, 0);
        assert_eq!(hears(&mut peer, &client, &forged), Input::Nothing);
    }
    let Dtls::Done { opening, .. } = &peer.dtls else { panic!("connected") };
    assert!(opening.known.is_empty() && opening.tries <= TRIES_PER_S);
    let later = crate::rtp::beginning() + Duration::from_secs(2);
    let sealed = client.seal(&rtp(1, 7));
    assert!(matches!(peer.input(&sealed, client.address, later, &mut Vec::new()), Input::Rtp(_)));
}

#[test]
fn another_network_is_followed_once_it_is_signed_for() {
    let (mut peer, mut client) = connected();
    let elsewhere: SocketAddr = "198.51.100.4:6000".parse().unwrap();
    assert!(!peer.believes(elsewhere));
    assert!(bind(&mut peer, &client, elsewhere));
    assert_eq!(peer.write_rtp(&rtp(1, 9)).unwrap().to, elsewhere);
    let sealed = client.seal(&rtp(1, 7));
    assert!(matches!(
        peer.input(&sealed, elsewhere, crate::rtp::beginning(), &mut Vec::new()),
        Input::Rtp(_)
    ));
    let others: Vec<_> = (1..=20).map(|port| SocketAddr::new(elsewhere.ip(), port)).collect();
    for other in &others {
        assert!(bind(&mut peer, &client, *other));
    }
    assert_eq!(others.iter().filter(|other| peer.believes(**other)).count(), ADDRESSES_MAX);
}

#[test]
fn who_is_silent_is_given_up_with_a_reason() {
    let (mut peer, client) = pair(Client::fingerprint);
    let after = |seconds| crate::rtp::beginning() + Duration::from_secs(seconds);
    assert_eq!(peer.poll(after(5), &mut Vec::new()), Ok(()));
    assert_eq!(peer.poll(after(16), &mut Vec::new()), Err(Failure::Ice));
    assert!(bind(&mut peer, &client, client.address));
    assert_eq!(peer.poll(after(16), &mut Vec::new()), Err(Failure::Dtls));
    let (mut peer, _) = connected();
    assert_eq!(peer.poll(after(29), &mut Vec::new()), Ok(()));
    assert_eq!(peer.poll(after(31), &mut Vec::new()), Err(Failure::Silent));
}

#[test]
fn a_hello_in_pieces_is_waited_for() {
    let (_, mut client) = pair(Client::fingerprint);
    let whole = client.outgoing().remove(0);
    assert_eq!(SrtpOffer::read(std::slice::from_ref(&whole)), SrtpOffer::Gcm);
    // Record header of 13 bytes, message header of 12, then the body.
    let body = &whole[25..];
    let piece = |from: usize, to: usize| {
        let mut out = whole[..11].to_vec();
        out.extend_from_slice(&((12 + to - from) as u16).to_be_bytes());
        out.extend_from_slice(&whole[13..19]);
        out.extend_from_slice(&(from as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&((to - from) as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&body[from..to]);
        BytesMut::from(out.as_slice())
    };
    let (first, second) = (piece(0, 40), piece(40, body.len()));
    assert_eq!(SrtpOffer::read(std::slice::from_ref(&first)), SrtpOffer::Unfinished);
    assert_eq!(SrtpOffer::read(&[first.clone(), second.clone()]), SrtpOffer::Gcm);
    assert_eq!(SrtpOffer::read(&[second, first]), SrtpOffer::Unfinished);
    for cut in 0..whole.len() {
        assert_ne!(SrtpOffer::read(&[BytesMut::from(&whole[..cut])]), SrtpOffer::Gcm);
    }
}

/// A record in clear that holds one piece of a message.
fn piece(number: u64, kind: u8, whole: u32, offset: u32, body: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 0xFE, 0xFD, 0, 0];
    record.extend_from_slice(&number.to_be_bytes()[2..]);
    record.extend_from_slice(&(12 + body.len() as u16).to_be_bytes());
    record.push(kind);
    record.extend_from_slice(&whole.to_be_bytes()[1..]);
    record.extend_from_slice(&[0, 1]);
    record.extend_from_slice(&offset.to_be_bytes()[1..]);
    record.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    record.extend_from_slice(body);
    record
}

/// Put together by `rtc-dtls` itself, so many pieces end the stack of the thread, and nothing after this is run.
#[test]
fn a_message_in_very_many_pieces_is_never_put_together() {
    let (mut peer, mut client) = pair(Client::fingerprint);
    assert!(bind(&mut peer, &client, client.address));
    for datagram in client.outgoing() {
        hears(&mut peer, &client, &datagram);
    }
    assert!(matches!(peer.dtls, Dtls::Shaking(_)));
    const PIECES: u32 = 60_000;
    for offset in (0..PIECES).rev() {
        let record = piece(u64::from(PIECES - offset), 11, PIECES, offset, &[0]);
        assert_eq!(hears(&mut peer, &client, &record), Input::Nothing);
    }
}

#[test]
fn whoever_says_goodbye_cannot_begin_anew() {
    let (mut peer, mut client) = connected();
    client.client.close(crate::rtp::beginning());
    let goodbye = client.outgoing();
    assert_eq!(hears(&mut peer, &client, &goodbye[0]), Input::Closed);
    assert!(!peer.is_connected() && peer.write_rtp(&rtp(1, 1)).is_none());
    client.client =
        client::Client::new(client.identity.clone(), peer.identity.fingerprint(), crate::rtp::beginning())
            .unwrap();
    let mut out = Vec::new();
    for datagram in client.outgoing() {
        let input = peer.input(&datagram, client.address, crate::rtp::beginning(), &mut out);
        assert_eq!((input, out.len()), (Input::Nothing, 0), "not even an answer");
    }
    assert_eq!(peer.poll(crate::rtp::beginning() + Duration::from_secs(20), &mut out), Ok(()), "it was here");
}

#[test]
fn a_handshake_again_and_again_is_answered_a_few_times() {
    let (mut peer, mut client) = pair(Client::fingerprint);
    assert!(bind(&mut peer, &client, client.address));
    let mut said = Vec::new();
    let now = crate::rtp::beginning();
    for _ in 0..10 {
        let mut out = Vec::new();
        for datagram in client.outgoing() {
            peer.input(&datagram, client.address, now, &mut out);
            said.push(datagram);
        }
        for transmit in out {
            client.hear(&transmit.bytes);
        }
    }
    assert!(peer.is_connected());
    let (mut bytes_in, mut bytes_out) = (0, 0);
    for round in 0..2_000_u64 {
        for datagram in &said {
            // The number of each record is new, else it is only a repeated datagram.
            let mut again = datagram.clone();
            again[5..11].copy_from_slice(&(1_000 + round * 64).to_be_bytes()[2..]);
            let mut out = Vec::new();
            assert_eq!(peer.input(&again, client.address, now, &mut out), Input::Nothing);
            bytes_in += again.len();
            bytes_out += out.iter().map(|transmit| transmit.bytes.len()).sum::<usize>();
        }
    }
    assert!(peer.is_connected() && bytes_out < 2_000, "{bytes_in} in, {bytes_out} out");
    let sealed = client.seal(&rtp(1, 7));
    assert!(matches!(hears(&mut peer, &client, &sealed), Input::Rtp(_)));
}
