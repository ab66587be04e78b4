//! What strangers send to the UDP port of calls, and what clients offer: by the first byte a reader, the rest its input.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use nova_media::data::talker::Talker;
use nova_media::data::{Data, MESSAGE_BYTES_MAX, chunk, dcep};
use nova_media::peer::Credentials;
use nova_media::rtp::dependency::Descriptor;
use nova_media::rtp::packet::Packet;
use nova_media::rtp::payload::{Codec, Vp8};
use nova_media::rtp::rtcp;
use nova_media::sdp::{Answerer, Offer};
use nova_media::stun::Binding;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which % 6 {
        0 => {
            if let Ok(binding) = Binding::read(data) {
                let _ = binding.is_signed_with(b"password");
                let _ = binding.answer("192.0.2.1:9".parse().expect("an address"), b"password");
            }
        }
        1 => {
            if let Ok(packet) = Packet::read(data) {
                for (_, value) in packet.extensions() {
                    let _ = Descriptor::read(value);
                }
                for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
                    let _ = codec.begins_keyframe(packet.payload);
                }
                if let Some(vp8) = Vp8::read(packet.payload) {
                    vp8.rewrite(&mut packet.payload.to_vec(), 1, 2, 3);
                }
            }
        }
        2 => drop(rtcp::read(data, |_| {})),
        3 => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            if let Ok(offer) = Offer::read(text) {
                let ice = Credentials { ufrag: "ours".to_owned(), password: "password".to_owned() };
                let answerer = Answerer { ice: &ice, fingerprint: &[0; 32], addresses: &[], version: 1 };
                let _ = answerer.answer(&offer, &[]);
            }
        }
        4 => drop(dcep::read(data)),
        _ => talk(data),
    }
});

/// A client that has come as far as the first byte says, and then says what it wants: chunks, each behind its length, in packets whose
/// ports, tag and checksum are right. Sequence numbers at the usual places count from where the two are.
fn talk(data: &[u8]) {
    let mut now = Instant::now();
    let (mut channels, mut said) = (Data::new(MESSAGE_BYTES_MAX, now), Vec::new());
    let Ok(mut talker) = Talker::new(now) else { return };
    let Some((rounds, mut rest)) = data.split_first() else { return };
    let (mut header, mut theirs, mut ours) = ([0; 8], 0, 0);
    for round in 0..rounds % 4 {
        if round == 2 {
            talker.opens(0, "chat", true, dcep::Reliability::Reliable, now);
        }
        for packet in talker.outgoing(now) {
            header.copy_from_slice(&packet[..8]);
            if packet[12] == 1 {
                theirs = number(&packet, 28).unwrap_or(0);
            }
            let _ = channels.input(packet, now, &mut said);
        }
        for packet in channels.outgoing(now) {
            if packet[12] == 2 {
                ours = number(&packet, 28).unwrap_or(0);
            }
            talker.hear(packet, now);
        }
    }
    while let Some((&len, more)) = rest.split_first() {
        let (chunks, after) = more.split_at(more.len().min(usize::from(len)));
        rest = after;
        let mut packet = header.to_vec();
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(chunks);
        let (at, from) = match chunks.first() {
            Some(0 | 192) => (16, theirs),
            Some(3) => (16, ours),
            Some(130) => (28, theirs),
            _ => (0, 0),
        };
        if let Some(told) = number(&packet, at).filter(|_| at > 0) {
            packet[at..at + 4].copy_from_slice(&told.wrapping_add(from).to_be_bytes());
        }
        let sum = crc32c::crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        read_alike(&packet);
        if channels.input(Bytes::from(packet), now, &mut said).is_err() {
            channels.end();
        }
        now += Duration::from_millis(u64::from(len));
        let _ = channels.poll(now);
        let _ = channels.say("chat", len & 1 == 0, true, &Bytes::from_static(b"1 hello"));
        let _ = channels.outgoing(now);
    }
}

/// The library finds the same chunks as whoever looks at them before: nothing hides within another.
fn read_alike(packet: &[u8]) {
    let kinds = |packet| chunk::read(packet).map(|chunks| chunks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>());
    let Some(seen) = kinds(packet) else { return };
    // What ends everything does not get there.
    if seen.contains(&chunk::kind::ABORT) {
        return;
    }
    if let Ok(again) = rtc_sctp::fuzzing::packet_marshal(packet) {
        assert_eq!(kinds(&again), Some(seen), "what was read of {packet:02x?}");
    }
}

fn number(packet: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?))
}
