//! Datagrams of nobody: none is believed, and none ends in a panic.

use super::*;

#[test]
fn no_datagram_ends_in_a_panic_or_is_believed() {
    let mut call = Call::new();
    let (ann, _) = (call.join(), call.join());
    let address = call.people[ann].client.address;
    let mut random = 1_u64;
    for len in 0..3_000 {
        let datagram: Vec<u8> = (0..len % 1_400)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) as u8
            })
            .collect();
        let mut out = Out::default();
        call.sfu.input(&datagram, address, call.now, &mut out);
        call.sfu.input(&datagram, "203.0.113.5:9".parse().unwrap(), call.now, &mut out);
        assert!(out.events.is_empty());
    }
    assert_eq!(call.sfu.by_address.len(), 2);
    // What strangers tried counts against new streams for a second.
    call.pass(1_100);
    call.voice(ann, 1, 30);
    assert_eq!(call.sfu.counts().packets_in, 1, "and who was there still is");
}

#[test]
fn nobody_is_believed_to_be_at_port_0() {
    let mut call = Call::new();
    let client = Client::new("192.0.2.9:5000", call.sfu.identity.fingerprint());
    let (_, answer) =
        call.sfu.join(ROOM, &offer_of(sdp::tests::OFFER, client.fingerprint()), call.now).unwrap();
    let server = credentials_of(&answer);
    let binding = client.binding(&server, &server.password);
    for (port, answers) in [(0, 0), (5_000, 1)] {
        let mut out = Out::default();
        call.sfu.input(&binding, SocketAddr::from(([192, 0, 2, 9], port)), call.now, &mut out);
        assert_eq!((out.transmits.len(), call.sfu.by_address.len()), (answers, answers));
    }
    assert_eq!(call.sfu.counts().unknown, 1);
}
