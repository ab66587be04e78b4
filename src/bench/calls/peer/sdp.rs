//! The SDP of a peer: what it offers, and what it reads in the answer.

use std::fmt::Write as _;
use std::net::SocketAddr;

use nova_media::peer::{Credentials, Fingerprint};
use nova_media::rtp::payload::Codec;

use crate::bench::BenchError;
use crate::bench::calls::canned::RIDS;

/// A peer's side of its ICE session.
pub const UFRAG: &str = "peer";
/// See [`UFRAG`].
pub const PASSWORD: &str = "aaaaaaaaaaaaaaaaaaaaaaaa";

/// What a peer sends and receives.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Slots for sound and for pictures.
    pub ears: usize,
    /// See `ears`.
    pub eyes: usize,
    /// Whether it has a microphone.
    pub has_voice: bool,
    /// Layers of its camera; 0 for none.
    pub layers: usize,
}

/// The offer of a peer.
pub fn offer(shape: Shape, fingerprint: &Fingerprint) -> String {
    let mut mids = Vec::new();
    let mut media = String::new();
    let ice = format!("a=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\na=setup:actpass\r\n");
    let mut section = |mid: String, is_sound: bool, sends: bool, layers: usize| {
        let kind = if is_sound { "audio 9 UDP/TLS/RTP/SAVPF 111" } else { "video 9 UDP/TLS/RTP/SAVPF 96 97" };
        let _ = write!(
            media,
            "m={kind}\r\nc=IN IP4 0.0.0.0\r\n{ice}a=mid:{mid}\r\na=rtcp-mux\r\n\
             a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
             a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
        );
        let _ = match is_sound {
            true => write!(
                media,
                "a=extmap:14 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=rtpmap:111 opus/48000/2\r\n"
            ),
            false => write!(
                media,
                "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=rtpmap:96 VP8/90000\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
            ),
        };
        let rids = RIDS.get(..layers).unwrap_or_default();
        if layers > 1 {
            for rid in rids {
                let _ = write!(media, "a=rid:{rid} send\r\n");
            }
            let _ = write!(media, "a=simulcast:send {}\r\n", rids.join(";"));
        }
        let _ = write!(media, "a={}\r\n", if sends { "sendonly" } else { "recvonly" });
        mids.push(mid);
    };
    section("0".to_owned(), true, true, 0);
    section("1".to_owned(), false, true, shape.layers);
    for ear in 0..shape.ears {
        section(format!("a{ear}"), true, false, 0);
    }
    for eye in 0..shape.eyes {
        section(format!("v{eye}"), false, false, 0);
    }
    let mut digits = String::new();
    for (at, byte) in fingerprint.iter().enumerate() {
        let _ = write!(digits, "{}{byte:02X}", if at == 0 { "" } else { ":" });
    }
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=fingerprint:sha-256 {digits}\r\n{media}",
        mids.join(" ")
    )
}

fn line<'a>(answer: &'a str, key: &str) -> Result<&'a str, BenchError> {
    let found = answer.lines().find_map(|line| line.strip_prefix(key));
    found.map(str::trim).ok_or_else(|| BenchError::because(format!("an answer without {key}")))
}

/// The server's side of the ICE session.
pub(super) fn session(answer: &str) -> Result<Credentials, BenchError> {
    let value = |key| Ok::<_, BenchError>(line(answer, key)?.to_owned());
    Ok(Credentials { ufrag: value("a=ice-ufrag:")?, password: value("a=ice-pwd:")? })
}

/// What is sent to a peer, as the answer says.
pub(super) struct Slot {
    pub(super) mid: String,
    pub(super) codec: Codec,
    /// Of its packets, and of its retransmissions where there are any.
    pub(super) ssrcs: Vec<u32>,
}

/// What a peer reads in an answer.
pub(super) struct Answer {
    /// The server's side of the ICE session.
    pub(super) ice: Credentials,
    /// Of the server's certificate.
    pub(super) fingerprint: Fingerprint,
    /// Where the server is reached best.
    pub(super) server: SocketAddr,
    pub(super) slots: Vec<Slot>,
}

impl Answer {
    pub(super) fn read(answer: &str) -> Result<Answer, BenchError> {
        let line = |key: &str| line(answer, key);
        let mut fingerprint = [0; 32];
        let digits = line("a=fingerprint:sha-256 ")?.split(':');
        for (place, digits) in fingerprint.iter_mut().zip(digits) {
            *place = u8::from_str_radix(digits, 16).map_err(BenchError::because)?;
        }
        let candidate: Vec<&str> = line("a=candidate:")?.split(' ').collect();
        let (ip, port) = (candidate.get(4), candidate.get(5));
        let server = ip.zip(port).and_then(|(ip, port)| format!("{ip}:{port}").parse::<SocketAddr>().ok());
        let server = server.ok_or_else(|| BenchError::because("an answer without an address"))?;
        let slots = answer.split("m=").skip(1).filter_map(slot).collect();
        Ok(Answer { ice: session(answer)?, fingerprint, server, slots })
    }
}

/// An m-line of the answer; `None` when nothing is sent on it.
fn slot(part: &str) -> Option<Slot> {
    let mid = part.lines().find_map(|line| line.strip_prefix("a=mid:")).map(str::trim)?;
    if !part.lines().any(|line| line.trim() == "a=sendonly") {
        return None;
    }
    let codec = if part.starts_with("audio") { Codec::Opus } else { Codec::Vp8 };
    let ssrcs = part.lines().filter_map(|line| line.strip_prefix("a=ssrc:"));
    let ssrcs = ssrcs.filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
    Some(Slot { mid: mid.to_owned(), codec, ssrcs })
}
