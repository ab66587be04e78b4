//! Offers of browsers, and the answers to them (RFC 8866, RFC 9429): the client offers, the server answers, ICE-lite and DTLS passive.
//!
//! What is sent to a client goes through the receive slots of its offer: m-lines it only receives on. They are fixed when it joins;
//! which track is in which slot is told by messages, so nobody's coming or going negotiates anything.
//!
//! Here is what both sides name: m-lines, codecs, header extensions. `offer` reads, `answer` writes.

mod answer;
mod offer;

use crate::rtp::payload::Codec;

pub use answer::{Answerer, Slot};
pub use offer::{OFFER_BYTES_MAX, Offer, RIDS_MAX, SECTIONS_MAX};

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
    /// What a picture needs ([`crate::rtp::dependency`]).
    DependencyDescriptor,
}

impl Extension {
    const ALL: [Extension; 6] = [
        Extension::Mid,
        Extension::Rid,
        Extension::RepairedRid,
        Extension::AudioLevel,
        Extension::TransportCc,
        Extension::DependencyDescriptor,
    ];

    pub(crate) fn uri(self) -> &'static str {
        match self {
            Extension::Mid => "urn:ietf:params:rtp-hdrext:sdes:mid",
            Extension::Rid => "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            Extension::RepairedRid => "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
            Extension::AudioLevel => "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            Extension::TransportCc => {
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
            }
            Extension::DependencyDescriptor => {
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"
            }
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

#[cfg(test)]
pub(crate) mod tests;
