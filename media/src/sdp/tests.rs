//! An offer as browsers write it, and the answer.

use proptest::prelude::*;

use super::*;
use crate::peer::Credentials;

/// What Chromium 156 says of a microphone, a camera in two layers and one slot for each, shortened to what is read.
pub(crate) const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2 3\r\na=extmap-allow-mixed\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:wTe0\r\na=ice-pwd:yCHnnxOk6WL7cl9FGU3eFgaz\r\n\
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
a=setup:actpass\r\na=mid:0\r\na=extmap:14 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
a=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=mid:1\r\n\
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
a=sendonly\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
a=rtpmap:102 H264/90000\r\na=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\na=rid:q send\r\na=rid:h send\r\na=simulcast:send q;h\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=setup:actpass\r\na=mid:2\r\na=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103\r\na=setup:actpass\r\na=mid:3\r\n\
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\na=recvonly\r\na=rtcp-mux\r\n\
a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n";

#[test]
fn an_offer_is_read() {
    let offer = Offer::read(OFFER).unwrap();
    assert_eq!(offer.ice.ufrag, "wTe0");
    assert_eq!((offer.fingerprint[0], offer.fingerprint[31]), (0, 31));
    let [microphone, camera, ear, eye] = offer.sections.as_slice() else { panic!("{offer:?}") };
    assert_eq!((microphone.direction, ear.direction), (Direction::Sends, Direction::Receives));
    assert_eq!(microphone.extension(Extension::AudioLevel), Some(14));
    assert_eq!(camera.rids, ["q", "h"]);
    let formats: Vec<_> = camera.formats.iter().map(|it| (it.codec, it.payload_type, it.rtx)).collect();
    assert_eq!(formats, [(Codec::Vp8, 96, Some(97)), (Codec::H264, 102, Some(103))]);
    assert_eq!(eye.formats[1].rtx, None);
}

#[test]
fn the_answer_takes_one_codec_to_publish_and_all_for_a_slot() {
    let offer = Offer::read(OFFER).unwrap();
    let ice = Credentials { ufrag: "ours".to_owned(), password: "a".repeat(24) };
    let told = ["192.0.2.1:7000", "[2001:db8::1]:7000"].map(|told| told.parse().unwrap());
    let addresses = [told[0], told[1], crate::framing::mark(told[0])];
    let answerer = Answerer { ice: &ice, fingerprint: &[0xAB; 32], addresses: &addresses, version: 1 };
    let slot = |ssrc| Some(Slot { ssrc, rtx_ssrc: ssrc + 1 });
    let answer = answerer.answer(&offer, &[None, None, slot(10), slot(20)]);
    let parts: Vec<&str> = answer.split("m=").collect();
    assert_eq!(parts.len(), 5, "{answer}");
    assert!(parts[0].contains("a=group:BUNDLE 0 1 2 3\r\n") && parts[0].contains("a=ice-lite"));
    assert!(parts[2].starts_with("video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"), "{}", parts[2]);
    assert!(parts[2].contains("a=simulcast:recv q;h") && parts[2].contains("a=recvonly"));
    assert!(parts[3].contains("a=sendonly") && parts[3].contains("a=ssrc:10 cname"));
    assert!(parts[4].starts_with("video 9 UDP/TLS/RTP/SAVPF 96 97 102\r\n"), "{}", parts[4]);
    assert!(parts[4].contains("a=ssrc-group:FID 20 21"));
    assert!(parts[4].contains("a=candidate:2 1 udp 2130706175 2001:db8::1 7000 typ host"), "{}", parts[4]);
    let over_tcp = "a=candidate:3 1 tcp 1520434687 192.0.2.1 7000 typ host tcptype passive\r\n";
    assert!(parts[4].contains(over_tcp), "{}", parts[4]);
    assert_eq!(answer.matches("a=setup:passive").count(), 4);
}

#[test]
fn redundant_sound_is_answered_in_the_clients_order() {
    let red = "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n";
    let offer = OFFER.replace("a=rtpmap:63 red/48000/2\r\n", red);
    let first = |text: &str| Offer::read(text).unwrap().sections[0].formats[0].clone();
    assert_eq!((first(OFFER).red, first(&offer).red), (None, Some(63)), "only where it says of what");
    assert_eq!(first(&offer.replace("111/111", "111/96")).red, None);
    let answered = |text: &str| answer_to(&Offer::read(text).unwrap());
    assert!(answered(&offer).contains("m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n"));
    let preferred = answered(&offer.replace("SAVPF 111 63", "SAVPF 63 111"));
    assert!(preferred.contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n"), "{preferred}");
    assert!(preferred.contains(red) && preferred.contains("a=rtpmap:111 opus/48000/2\r\n"), "{preferred}");
}

#[test]
fn what_cannot_be_answered_is_said() {
    let changed = |from: &str, to: &str| Offer::read(&OFFER.replace(from, to)).unwrap_err();
    assert_eq!(changed("a=group:BUNDLE 0 1 2 3", "a=x"), SdpError::Unbundled);
    assert_eq!(changed("BUNDLE 0 1 2 3", "BUNDLE 0 1 2"), SdpError::Unbundled);
    assert_eq!(changed("sha-256", "sha-1"), SdpError::NoFingerprint);
    assert_eq!(changed("a=ice-pwd:", "a=x:"), SdpError::NoCredentials);
    assert_eq!(changed("actpass", "passive"), SdpError::Setup);
    assert_eq!(changed("a=mid:3", "a=mid:2"), SdpError::Malformed);
    assert_eq!(changed("v=0", "x"), SdpError::Malformed);
    assert_eq!(Offer::read(&"v".repeat(OFFER_BYTES_MAX + 1)), Err(SdpError::TooLarge));
}

/// The offer of [`OFFER`] with one m-line more.
pub(crate) fn offer_with(media: &str) -> String {
    format!("{}{media}", OFFER.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1 2 3 4"))
}

/// As Chromium writes it.
pub(crate) const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=setup:actpass\r\n\
a=mid:4\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

fn answer_to(offer: &Offer) -> String {
    let ice = Credentials { ufrag: "ours".to_owned(), password: "a".repeat(24) };
    Answerer { ice: &ice, fingerprint: &[0; 32], addresses: &[], version: 1 }.answer(offer, &[])
}

#[test]
fn what_is_not_carried_is_refused_by_its_port() {
    for media in
        ["application 9 UDP/BFCP *", "application 0 UDP/DTLS/SCTP webrtc-datachannel", "text 9 RTP/AVP 98"]
    {
        let offer = Offer::read(&offer_with(&format!("m={media}\r\na=mid:4\r\n"))).unwrap();
        assert_eq!(offer.sections[4].data, None);
        let answer = answer_to(&offer);
        let (name, rest) = media.split_once(' ').unwrap();
        let (_, rest) = rest.split_once(' ').unwrap();
        assert!(answer.contains(&format!("m={name} 0 {rest}\r\n")), "{answer}");
        assert!(answer.contains("a=group:BUNDLE 0 1 2 3\r\n"), "{answer}");
    }
}

/// Firefox gives a port to the first m-line alone.
#[test]
fn what_has_no_port_but_that_of_the_bundle_is_carried() {
    let offer = OFFER.replace("m=video 9 ", "m=video 0 ");
    assert_ne!(offer, OFFER);
    assert!(Offer::read(&offer).unwrap().sections.iter().any(|section| section.kind.is_none()));
    let offer = offer.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=bundle-only\r\n");
    assert_eq!(answer_to(&Offer::read(&offer).unwrap()), answer_to(&Offer::read(OFFER).unwrap()));
    let data = DATA.replace("application 9", "application 0").replace("a=mid:4", "a=bundle-only\r\na=mid:4");
    assert_eq!(Offer::read(&offer_with(&data)).unwrap().sections[4].data, Some(262_144));
}

#[test]
fn data_channels_are_answered_over_the_same_transport() {
    let offer = Offer::read(&offer_with(DATA)).unwrap();
    assert_eq!((offer.sections[4].data, offer.sections[0].data), (Some(262_144), None));
    let answer = answer_to(&offer);
    assert!(answer.contains("a=group:BUNDLE 0 1 2 3 4\r\n"), "{answer}");
    let data = answer.split("m=").last().unwrap();
    assert!(data.starts_with("application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "{data}");
    assert!(data.contains("a=sctp-port:5000\r\na=max-message-size:16384\r\n"), "{data}");
    assert!(data.contains("a=setup:passive") && data.contains("a=ice-ufrag:ours"), "{data}");
    let unsaid = Offer::read(&offer_with(&DATA.replace("a=max-message-size:262144\r\n", ""))).unwrap();
    assert_eq!(unsaid.sections[4].data, Some(64 << 10));
    let any = Offer::read(&offer_with(&DATA.replace("262144", "0"))).unwrap();
    assert_eq!(any.sections[4].data, Some(usize::MAX));
    assert_eq!(Offer::read(&offer_with(&DATA.replace("262144", "x"))), Err(SdpError::Malformed));
}

#[test]
fn what_every_browser_decodes_is_known_however_it_is_written() {
    let has_h264 = |fmtp: &str| {
        let offer =
            OFFER.replace("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", fmtp);
        let formats = &Offer::read(&offer).unwrap().sections[1].formats;
        formats.iter().any(|format| format.codec == Codec::H264)
    };
    for profile in ["42e01f", "42E01F", "42c00d", "42401f", "4d800d", "58c01e"] {
        assert!(has_h264(&format!("packetization-mode=1; profile-level-id={profile}")), "{profile}");
    }
    // With tools browsers lack, in another manner, or unsaid.
    for fmtp in [
        "packetization-mode=1;profile-level-id=42001f",
        "packetization-mode=1;profile-level-id=4d001f",
        "packetization-mode=1;profile-level-id=64001f",
        "packetization-mode=0;profile-level-id=42e01f",
        "profile-level-id=42e01f",
        "packetization-mode=1;profile-level-id=42",
        "packetization-mode=1",
    ] {
        assert!(!has_h264(fmtp), "{fmtp}");
    }
}

proptest! {
    #[test]
    fn no_text_ends_in_a_panic(cut in 0usize..OFFER.len(), insert in "[\\PC\r\n]{0,20}") {
        let mut text = offer_with(DATA);
        text.insert_str(cut, &insert);
        let ice = Credentials { ufrag: "ours".to_owned(), password: "a".repeat(24) };
        if let Ok(offer) = Offer::read(&text) {
            let _ = Answerer { ice: &ice, fingerprint: &[0; 32], addresses: &[], version: 1 }.answer(&offer, &[]);
        }
        let _ = Offer::read(&text[..cut]);
    }
}
