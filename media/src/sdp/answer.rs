//! What is answered to an offer: ICE-lite, DTLS passive, one codec for what is published and all of them for a slot.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Direction, Extension, Format, Kind, Offer, Section};
use crate::data::MESSAGE_BYTES_MAX;
use crate::framing;
use crate::peer::{Credentials, Fingerprint};

/// What is sent on a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Of its packets.
    pub ssrc: u32,
    /// Of its retransmissions.
    pub rtx_ssrc: u32,
}

/// Our side of the session.
#[derive(Debug, Clone, Copy)]
pub struct Answerer<'a> {
    /// Our side of the ICE session.
    pub ice: &'a Credentials,
    /// Of our certificate.
    pub fingerprint: &'a Fingerprint,
    /// Where we are reached, over UDP or, if [marked so](framing::mark), TCP; the best first.
    pub addresses: &'a [SocketAddr],
    /// Counts the answers of a session, from 1.
    pub version: u64,
}

impl Answerer<'_> {
    /// The answer. `slots` says for each m-line in order what is sent on it; `None` where nothing is.
    pub fn answer(&self, offer: &Offer, slots: &[Option<Slot>]) -> String {
        let mut out = String::with_capacity(1_024 * offer.sections.len());
        let mut bundle = String::new();
        for section in offer.sections.iter().filter(|section| is_accepted(section)) {
            let _ = write!(bundle, " {}", section.mid);
        }
        let _ = write!(
            out,
            "v=0\r\no=nova 1 {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{bundle}\r\na=ice-lite\r\n\
             a=extmap-allow-mixed\r\na=msid-semantic: WMS *\r\n",
            self.version
        );
        for (at, section) in offer.sections.iter().enumerate() {
            self.section(&mut out, section, slots.get(at).copied().flatten());
        }
        out
    }

    fn section(&self, out: &mut String, section: &Section, slot: Option<Slot>) {
        if !is_accepted(section) {
            // Refused: the port is 0 and the rest is only form (RFC 3264 section 6).
            let mut words = section.media.split(' ');
            let kind = words.next().unwrap_or("application");
            let rest = words.skip(1).collect::<Vec<_>>().join(" ");
            let _ = write!(
                out,
                "m={kind} 0 {rest}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=inactive\r\n",
                section.mid
            );
            return;
        }
        if section.data.is_some() {
            return self.data_section(out, section);
        }
        let name = if section.kind == Some(Kind::Audio) { "audio" } else { "video" };
        // A track is published in one codec, so that a room has as few as it can; a slot takes what anybody publishes.
        let formats: Vec<&Format> = match section.direction {
            Direction::Receives => section.formats.iter().collect(),
            _ => section.formats.iter().take(1).collect(),
        };
        let _ = write!(out, "m={name} 9 UDP/TLS/RTP/SAVPF");
        for format in &formats {
            // Clients send what stands first.
            let both = [Some(format.payload_type), format.red];
            let both = if format.red_first { [both[1], both[0]] } else { both };
            for payload_type in both.into_iter().flatten() {
                let _ = write!(out, " {payload_type}");
            }
            if let Some(rtx) = format.rtx {
                let _ = write!(out, " {rtx}");
            }
        }
        let _ =
            write!(out, "\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
        self.transport(out, section);
        for (id, extension) in &section.extensions {
            // What only a sender of layers writes has no place on a slot.
            let fits = section.direction != Direction::Receives
                || matches!(
                    extension,
                    Extension::Mid | Extension::TransportCc | Extension::DependencyDescriptor
                );
            if fits {
                let _ = write!(out, "a=extmap:{id} {}\r\n", extension.uri());
            }
        }
        for format in formats {
            self.format(out, format);
        }
        match (section.direction, slot) {
            (Direction::Sends, _) => {
                let _ = write!(out, "a=recvonly\r\n");
                if !section.rids.is_empty() {
                    for rid in &section.rids {
                        let _ = write!(out, "a=rid:{rid} recv\r\n");
                    }
                    let _ = write!(out, "a=simulcast:recv {}\r\n", section.rids.join(";"));
                }
            }
            (Direction::Receives, Some(Slot { ssrc, rtx_ssrc })) => {
                let _ = write!(out, "a=sendonly\r\na=msid:slot {mid}\r\n", mid = section.mid);
                if section.formats.iter().any(|format| format.rtx.is_some()) {
                    let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\n");
                    let _ = write!(out, "a=ssrc:{ssrc} cname:nova\r\na=ssrc:{rtx_ssrc} cname:nova\r\n");
                } else {
                    let _ = write!(out, "a=ssrc:{ssrc} cname:nova\r\n");
                }
            }
            _ => {
                let _ = write!(out, "a=inactive\r\n");
            }
        }
        self.candidates(out);
    }

    /// The m-line of data channels (RFC 8841 section 10.2).
    fn data_section(&self, out: &mut String, section: &Section) {
        let _ = write!(out, "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n");
        self.transport(out, section);
        let _ = write!(out, "a=sctp-port:5000\r\na=max-message-size:{MESSAGE_BYTES_MAX}\r\n");
        self.candidates(out);
    }

    fn transport(&self, out: &mut String, section: &Section) {
        let _ = write!(out, "a=mid:{}\r\n", section.mid);
        let Credentials { ufrag, password } = self.ice;
        let _ = write!(
            out,
            "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=ice-options:trickle\r\na=fingerprint:sha-256 "
        );
        for (at, byte) in self.fingerprint.iter().enumerate() {
            let _ = write!(out, "{}{byte:02X}", if at == 0 { "" } else { ":" });
        }
        let _ = write!(out, "\r\na=setup:passive\r\n");
    }

    fn candidates(&self, out: &mut String) {
        for (at, address) in self.addresses.iter().enumerate() {
            // The first is the best: host candidates differ only in their local preference (RFC 8445 section 5.1.2.1). Those of TCP come
            // after UDP and before what TURN relays, with the preference of who waits for connections in three bits (RFC 6544 section 4.2).
            let is_tcp = framing::is_marked(*address);
            let (kind, preference) = if is_tcp { (90_u32, 4 << 13 | 8_191) } else { (126, 65_535) };
            let priority = kind << 24 | (preference - at as u32) << 8 | 255;
            let (protocol, ending) = if is_tcp { ("tcp", " tcptype passive") } else { ("udp", "") };
            let (ip, port) = (address.ip().to_canonical(), address.port());
            let _ = write!(
                out,
                "a=candidate:{} 1 {protocol} {priority} {ip} {port} typ host{ending}\r\n",
                at + 1
            );
        }
        let _ = write!(out, "a=end-of-candidates\r\n");
    }

    fn format(&self, out: &mut String, format: &Format) {
        let Format { codec, payload_type, rtx, red, fmtp, .. } = format;
        let channels = if codec.is_audio() { "/2" } else { "" };
        let _ = write!(out, "a=rtpmap:{payload_type} {}/{}{channels}\r\n", codec.name(), codec.clock_rate());
        let _ = write!(out, "a=rtcp-fb:{payload_type} transport-cc\r\n");
        if !codec.is_audio() {
            for feedback in ["ccm fir", "nack", "nack pli"] {
                let _ = write!(out, "a=rtcp-fb:{payload_type} {feedback}\r\n");
            }
        }
        if let Some(fmtp) = fmtp {
            let _ = write!(out, "a=fmtp:{payload_type} {fmtp}\r\n");
        }
        if let Some(red) = red {
            let rate = codec.clock_rate();
            let _ =
                write!(out, "a=rtpmap:{red} red/{rate}/2\r\na=fmtp:{red} {payload_type}/{payload_type}\r\n");
        }
        if let Some(rtx) = rtx {
            let rate = codec.clock_rate();
            let _ = write!(out, "a=rtpmap:{rtx} rtx/{rate}\r\na=fmtp:{rtx} apt={payload_type}\r\n");
        }
    }
}

fn is_accepted(section: &Section) -> bool {
    section.kind.is_some() && !section.formats.is_empty() || section.data.is_some()
}
