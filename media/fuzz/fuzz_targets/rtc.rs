//! What strangers send to the UDP port of calls, and what clients offer: by the first byte a reader, the rest its input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_media::peer::Credentials;
use nova_media::rtp::packet::Packet;
use nova_media::rtp::payload::{Codec, Vp8};
use nova_media::rtp::rtcp;
use nova_media::sdp::{Answerer, Offer};
use nova_media::stun::Binding;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which % 4 {
        0 => {
            if let Ok(binding) = Binding::read(data) {
                let _ = binding.is_signed_with(b"password");
                let _ = binding.answer("192.0.2.1:9".parse().expect("an address"), b"password");
            }
        }
        1 => {
            if let Ok(packet) = Packet::read(data) {
                let _ = packet.extensions().count();
                for codec in [Codec::Opus, Codec::Vp8, Codec::H264] {
                    let _ = codec.begins_keyframe(packet.payload);
                }
                if let Some(vp8) = Vp8::read(packet.payload) {
                    vp8.rewrite(&mut packet.payload.to_vec(), 1, 2, 3);
                }
            }
        }
        2 => drop(rtcp::read(data, |_| {})),
        _ => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            if let Ok(offer) = Offer::read(text) {
                let ice = Credentials { ufrag: "ours".to_owned(), password: "password".to_owned() };
                let answerer = Answerer { ice: &ice, fingerprint: &[0; 32], addresses: &[], version: 1 };
                let _ = answerer.answer(&offer, &[]);
            }
        }
    }
});
