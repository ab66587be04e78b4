//! What a client offers: reads its SDP, line by line and within bounds, and passes over what nothing here understands.

use super::{Direction, Extension, Format, Kind, SdpError, Section};
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
        let mut sections = media.iter().map(|lines| section(lines)).collect::<Result<Vec<_>, _>>()?;
        if sections.is_empty() {
            return Err(SdpError::Malformed);
        }
        // It does not fit into headers of one byte, which are mixed with others only where that is agreed on (RFC 8285 section 4.1.2).
        if !session.contains(&"a=extmap-allow-mixed") {
            for section in &mut sections {
                section.extensions.retain(|(_, extension)| *extension != Extension::DependencyDescriptor);
            }
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
