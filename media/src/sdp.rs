//! Offers of browsers, and the answers to them (RFC 8866, RFC 9429): the client offers, the server answers, ICE-lite and DTLS passive.
//!
//! What is sent to a client goes through the receive slots of its offer: m-lines it only receives on. They are fixed when it joins;
//! which track is in which slot is told by messages, so nobody's coming or going negotiates anything.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::data::MESSAGE_BYTES_MAX;
use crate::peer::{Credentials, Fingerprint};
use crate::rtp::payload::Codec;

/// Bytes of an offer. Browsers with 14 m-lines and two codecs write about 30 KiB.
pub const OFFER_BYTES_MAX: usize = 60 << 10;
/// m-lines of an offer: 4 to send on, 3 slots for sound, 25 for pictures, data.
pub const SECTIONS_MAX: usize = 33;
/// Lines of one m-line.
const LINES_MAX: usize = 256;
/// Characters of a mid or a rid; browsers use one or two.
const NAME_LEN_MAX: usize = 16;
/// Layers of one m-line.
pub const RIDS_MAX: usize = 3;
/// What a client that says nothing of it takes of a message on a data channel (RFC 8841 section 6.1).
const MESSAGE_BYTES_UNSAID: usize = 64 << 10;

/// Why an offer cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Too long, or too many lines.
    #[error("the offer is too large: at most 60 KiB, 33 m-lines and 256 lines in each")]
    TooLarge,
    /// Not an SDP.
    #[error("the offer is not an SDP")]
    Malformed,
    /// Without bundling everything would need a port of its own.
    #[error("the offer does not bundle all its m-lines (`a=group:BUNDLE`)")]
    Unbundled,
    /// Nobody could be trusted.
    #[error("the offer has no SHA-256 fingerprint (`a=fingerprint:sha-256`)")]
    NoFingerprint,
    /// ICE cannot begin.
    #[error("the offer has no ICE credentials (`a=ice-ufrag`, `a=ice-pwd`)")]
    NoCredentials,
    /// We answer as the server.
    #[error("the offer must leave the DTLS role to us (`a=setup:actpass` or `active`)")]
    Setup,
}

/// Header extensions that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extension {
    /// Which m-line a packet belongs to (RFC 9143).
    Mid,
    /// Which layer (RFC 8852).
    Rid,
    /// Which layer a retransmission repairs.
    RepairedRid,
    /// How loud (RFC 6464).
    AudioLevel,
    /// Transport-wide sequence number.
    TransportCc,
    /// When it was sent.
    AbsSendTime,
}

impl Extension {
    const ALL: [Extension; 6] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::AudioLevel,
        Extension::TransportCc,
        Extension::AbsSendTime,
    ];

    fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Extension::AbsSendTime => "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        }
    }
}

/// What an m-line is for, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client sends.
    Sends,
    /// The client receives: a slot.
    Receives,
    /// Neither, at present.
    Idle,
}

/// Sound or pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// A codec of an m-line that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// Which.
    pub codec: Codec,
    /// How the client numbers it.
    pub payload_type: u8,
    /// How the client numbers its retransmissions.
    pub rtx: Option<u8>,
    /// How the client numbers it with what was said before once more (RFC 2198).
    pub red: Option<u8>,
    /// The client would rather send that.
    red_first: bool,
    fmtp: Option<String>,
}

impl Format {
    /// Whether packets of this number are its, plain or with what was before.
    pub fn is_of(&self, payload_type: u8) -> bool {
        self.payload_type == payload_type || self.red == Some(payload_type)
    }
}

/// One m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub mid: String,
    /// `None`: nothing we carry; it is refused.
    pub kind: Option<Kind>,
    /// What it is for.
    pub direction: Direction,
    /// What is understood of its codecs, the client's favourite first.
    pub formats: Vec<Format>,
    /// What is understood of its extensions, by the client's number.
    pub extensions: Vec<(u8, Extension)>,
    /// The layers the client sends, lowest first; empty without simulcast.
    pub rids: Vec<String>,
    /// Data channels (RFC 8841): bytes of the largest message the client takes.
    pub data: Option<usize>,
    /// The client does not want it any more.
    is_refused: bool,
    media: String,
}

impl Section {
    /// A place to receive on for somebody within this process, whom no SDP describes.
    pub(crate) fn within(mid: String, kind: Kind, codecs: &[Codec]) -> Section {
        let format = |codec: &Codec| Format {
            codec: *codec,
            payload_type: 0,
            rtx: None,
            red: None,
            red_first: false,
            fmtp: None,
        };
        Section {
            mid,
            kind: Some(kind),
            direction: Direction::Receives,
            formats: codecs.iter().map(format).collect(),
            extensions: Vec::new(),
            rids: Vec::new(),
            data: None,
            is_refused: false,
            media: String::new(),
        }
    }

    /// The client's number of an extension.
    pub fn extension(&self, wanted: Extension) -> Option<u8> {
        self.extensions.iter().find(|(_, extension)| *extension == wanted).map(|(id, _)| *id)
    }
}

/// What a client offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its m-lines.
    pub sections: Vec<Section>,
    /// Of the client's certificate.
    pub fingerprint: Fingerprint,
    /// The client's side of the ICE session; another than before is an ICE restart.
    pub ice: Credentials,
}

impl Offer {
    /// Reads an offer.
    pub fn read(text: &str) -> Result<Offer, SdpError> {
        if text.len() > OFFER_BYTES_MAX {
            return Err(SdpError::TooLarge);
        }
        if !text.starts_with("v=0") {
            return Err(SdpError::Malformed);
        }
        let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
        for line in text.lines().map(str::trim_end) {
            if line.starts_with("m=") {
                parts.push(Vec::new());
            }
            let part = parts.last_mut().ok_or(SdpError::Malformed)?;
            part.push(line);
            if part.len() > LINES_MAX {
                return Err(SdpError::TooLarge);
            }
        }
        if parts.len() > SECTIONS_MAX + 1 {
            return Err(SdpError::TooLarge);
        }
        let (session, media) = parts.split_first().ok_or(SdpError::Malformed)?;
        let sections = media.iter().map(|lines| section(lines)).collect::<Result<Vec<_>, _>>()?;
        if sections.is_empty() {
            return Err(SdpError::Malformed);
        }
        let bundle = value(session, "a=group:BUNDLE").ok_or(SdpError::Unbundled)?;
        let bundled: Vec<&str> = bundle.split(' ').filter(|mid| !mid.is_empty()).collect();
        let all_bundled = |section: &Section| section.is_refused || bundled.contains(&section.mid.as_str());
        if !sections.iter().all(all_bundled) {
            return Err(SdpError::Unbundled);
        }
        for (at, section) in sections.iter().enumerate() {
            if sections.iter().skip(at + 1).any(|other| other.mid == section.mid) {
                return Err(SdpError::Malformed);
            }
        }
        // With everything bundled, what the first m-line says of the transport holds for all (RFC 9143 section 7.2).
        let anywhere =
            |key: &str| value(session, key).or_else(|| media.iter().find_map(|lines| value(lines, key)));
        if !matches!(anywhere("a=setup:"), Some("actpass" | "active")) {
            return Err(SdpError::Setup);
        }
        let (ufrag, password) =
            anywhere("a=ice-ufrag:").zip(anywhere("a=ice-pwd:")).ok_or(SdpError::NoCredentials)?;
        if !(4..=256).contains(&ufrag.len()) || !(22..=256).contains(&password.len()) {
            return Err(SdpError::NoCredentials);
        }
        let fingerprint = session.iter().chain(media.iter().flatten()).find_map(|line| fingerprint(line));
        Ok(Offer {
            sections,
            fingerprint: fingerprint.ok_or(SdpError::NoFingerprint)?,
            ice: Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() },
        })
    }
}

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
    /// Where we are reached, the best first.
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
                || matches!(extension, Extension::Mid | Extension::TransportCc);
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
            // The first is the best: host candidates differ only in their local preference (RFC 8445 section 5.1.2.1).
            let priority = 126_u32 << 24 | (65_535 - at as u32) << 8 | 255;
            let (ip, port) = (address.ip(), address.port());
            let _ = write!(out, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", at + 1);
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

/// What follows `key` in the first line that begins with it.
fn value<'a>(lines: &[&'a str], key: &str) -> Option<&'a str> {
    lines.iter().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn fingerprint(line: &str) -> Option<Fingerprint> {
    let (hash, digits) = line.strip_prefix("a=fingerprint:")?.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = [0; 32];
    let mut bytes = digits.trim().split(':');
    for byte in &mut fingerprint {
        let digits = bytes.next().filter(|digits| digits.len() == 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    bytes.next().is_none().then_some(fingerprint)
}

fn is_name(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn section(lines: &[&str]) -> Result<Section, SdpError> {
    let media = lines.first().and_then(|line| line.strip_prefix("m=")).ok_or(SdpError::Malformed)?;
    // It is said back when the m-line is refused.
    if media.len() > 256 || !media.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(SdpError::Malformed);
    }
    let mut words = media.split(' ');
    let name = words.next();
    let kind = match name {
        Some("audio") => Some(Kind::Audio),
        Some("video") => Some(Kind::Video),
        _ => None,
    };
    // Port 0 also stands where there is no port but that of the bundle (RFC 9143 section 6): so Firefox writes all but the first.
    let is_refused = words.next() == Some("0") && !lines.contains(&"a=bundle-only");
    let protocol = words.next().unwrap_or_default();
    let kind = kind.filter(|_| !is_refused && protocol == "UDP/TLS/RTP/SAVPF");
    let is_data = name == Some("application")
        && !is_refused
        && protocol == "UDP/DTLS/SCTP"
        && words.next() == Some("webrtc-datachannel");
    let message_max = match value(lines, "a=max-message-size:") {
        // As large as there are.
        Some("0") => usize::MAX,
        Some(size) => size.parse().map_err(|_| SdpError::Malformed)?,
        None => MESSAGE_BYTES_UNSAID,
    };
    let mid = value(lines, "a=mid:").filter(|mid| is_name(mid)).ok_or(SdpError::Malformed)?;
    let has = |attribute: &str| lines.contains(&attribute);
    let direction = match (has("a=sendonly") || has("a=sendrecv"), has("a=recvonly")) {
        (_, true) => Direction::Receives,
        (true, _) => Direction::Sends,
        _ => Direction::Idle,
    };
    let mut extensions: Vec<(u8, Extension)> = Vec::new();
    for line in lines.iter().filter_map(|line| line.strip_prefix("a=extmap:")) {
        let Some((id, rest)) = line.split_once(' ') else { continue };
        let id = id.split('/').next().and_then(|id| id.parse().ok()).filter(|id| (1..15).contains(id));
        let uri = rest.split(' ').next().unwrap_or_default();
        let known = Extension::ALL.into_iter().find(|known| known.uri() == uri);
        let (Some(id), Some(known)) = (id, known) else { continue };
        if !extensions.iter().any(|(taken, extension)| *taken == id || *extension == known) {
            extensions.push((id, known));
        }
    }
    let mut rids: Vec<String> = Vec::new();
    if let Some(simulcast) = value(lines, "a=simulcast:send ") {
        for rid in simulcast.split(' ').next().unwrap_or_default().split(';') {
            let rid = rid.split(',').next().unwrap_or_default().trim_start_matches('~');
            if is_name(rid) && rids.len() < RIDS_MAX && !rids.iter().any(|known| known == rid) {
                rids.push(rid.to_owned());
            }
        }
    }
    Ok(Section {
        mid: mid.to_owned(),
        kind,
        direction,
        formats: kind.map(|kind| formats(lines, kind, protocol, media)).unwrap_or_default(),
        extensions,
        rids,
        data: is_data.then_some(message_max),
        is_refused,
        media: media.to_owned(),
    })
}

fn formats(lines: &[&str], kind: Kind, _: &str, media: &str) -> Vec<Format> {
    let payload_types = || media.split(' ').skip(3).filter_map(|word| word.parse::<u8>().ok());
    let fmtp_of = |payload_type: u8| {
        let key = format!("a=fmtp:{payload_type} ");
        value(lines, &key).filter(|fmtp| {
            fmtp.len() <= 256 && fmtp.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        })
    };
    let maps: Vec<(u8, &str)> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '))
        .filter_map(|(payload_type, map)| Some((payload_type.parse().ok().filter(|it| *it < 128)?, map)))
        .collect();
    let mut formats: Vec<Format> = Vec::new();
    // The order of the m-line is the client's order.
    for payload_type in payload_types() {
        let Some((_, map)) = maps.iter().find(|(known, _)| *known == payload_type) else { continue };
        let fmtp = fmtp_of(payload_type);
        let codec = match (kind, map.to_ascii_lowercase().as_str()) {
            (Kind::Audio, "opus/48000/2") => Codec::Opus,
            (Kind::Video, "vp8/90000") => Codec::Vp8,
            (Kind::Video, "h264/90000") if fmtp.is_some_and(is_for_everybody) => Codec::H264,
            _ => continue,
        };
        if formats.iter().any(|known| known.codec == codec) {
            continue;
        }
        let repairs = |(rtx, map): &(u8, &str)| {
            let is_rtx = map.to_ascii_lowercase().starts_with("rtx/");
            let key = format!("a=fmtp:{rtx} ");
            let apt = value(lines, &key).and_then(|fmtp| fmtp.strip_prefix("apt="));
            (is_rtx && apt.and_then(|apt| apt.parse().ok()) == Some(payload_type)).then_some(*rtx)
        };
        let rtx = maps.iter().find_map(repairs);
        let redundant = |(red, map): &(u8, &str)| {
            let is_red = map.eq_ignore_ascii_case("red/48000/2");
            let holds = fmtp_of(*red)?.split('/').all(|held| held.parse() == Ok(payload_type));
            (is_red && holds).then_some(*red)
        };
        let red = maps.iter().find_map(redundant).filter(|_| codec == Codec::Opus);
        let place = |wanted: u8| payload_types().position(|one| one == wanted);
        let red_first = red.is_some_and(|red| place(red).is_some_and(|at| Some(at) < place(payload_type)));
        formats.push(Format { codec, payload_type, rtx, red, red_first, fmtp: fmtp.map(str::to_owned) });
    }
    formats
}

/// Whether H.264 of these parameters is what every browser has (RFC 7742 section 6.2): constrained baseline, however it is written (RFC 6184
/// table 5: by a profile and what is left out of it), in packetization mode 1.
fn is_for_everybody(fmtp: &str) -> bool {
    let value = |name: &str| fmtp.split(';').find_map(|one| one.trim().strip_prefix(name)?.strip_prefix('='));
    let profile = value("profile-level-id").and_then(|digits| u16::from_str_radix(digits.get(..4)?, 16).ok());
    let is_constrained = match profile.map(u16::to_be_bytes) {
        Some([0x42, left_out]) => left_out & 0x4F == 0x40,
        Some([0x4D, left_out]) => left_out & 0x8F == 0x80,
        Some([0x58, left_out]) => left_out & 0xCF == 0xC0,
        _ => false,
    };
    is_constrained && value("packetization-mode") == Some("1")
}

#[cfg(test)]
pub(crate) mod tests;
