//! What comes out of a connection, and why it ends.

use std::fmt;

use bytes::Bytes;

use super::amf0;
use super::command::PublishRequest;
use crate::frame::Media;

/// Why a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte is not that of RTMP.
    #[error("the peer does not speak RTMP: it began with {0:#04x}")]
    Version(u8),
    /// A chunk refers to a header that was never sent.
    #[error("a chunk begins without a header to build on")]
    ChunkHeader,
    /// More than [`super::limits::CHUNK_STREAMS_MAX`].
    #[error("too many chunk streams")]
    ChunkStreams,
    /// Longer than [`super::limits::MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is too long")]
    MessageTooLong(usize),
    /// More than [`super::limits::IN_FLIGHT_BYTES_MAX`].
    #[error("too many bytes in unfinished messages")]
    InFlight,
    /// A command longer than [`super::limits::COMMAND_BYTES_MAX`].
    #[error("a command of {0} bytes is too long")]
    CommandTooLong(usize),
    /// A command that cannot be read.
    #[error("a command cannot be read: {0}")]
    Command(#[from] amf0::Error),
    /// A command out of its turn.
    #[error("{0} came out of its turn")]
    OutOfTurn(&'static str),
}

/// Which time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// [`super::limits::HANDSHAKE_TIMEOUT`].
    Handshake,
    /// [`super::limits::PUBLISH_TIMEOUT`].
    Publish,
    /// [`super::limits::FIRST_MEDIA_TIMEOUT`].
    FirstMedia,
    /// [`super::limits::CONFIGURATION_TIMEOUT`].
    Configuration,
    /// [`super::limits::IDLE_TIMEOUT`].
    Idle,
}

/// Why it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The publisher said so: only this is the end of a broadcast, everything else may be a drop.
    Unpublished,
    /// The key was refused.
    Refused,
    /// The client wanted to watch, which goes another way.
    PlayRequested,
    /// This side closed it.
    Closed,
    /// Something did not come in time.
    TooLate(Deadline),
    /// What came could not be taken.
    Protocol(Error),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpublished => f.write_str("the publisher ended the stream"),
            Self::Refused => f.write_str("the stream key was refused"),
            Self::PlayRequested => {
                f.write_str("the client asked to play, and this server takes streams only")
            }
            Self::Closed => f.write_str("the server closed the connection"),
            Self::TooLate(deadline) => f.write_str(match deadline {
                Deadline::Handshake => "the handshake took too long",
                Deadline::Publish => "nothing was published in time",
                Deadline::FirstMedia => "no media came in time",
                Deadline::Configuration => {
                    "nothing of the media can be decoded: its codec headers are missing or unknown"
                }
                Deadline::Idle => "nothing came for too long",
            }),
            Self::Protocol(error) => error.fmt(f),
        }
    }
}

/// What a publisher's encoder says of the stream. Nothing is built on it: encoders tell what they were set to, not what they do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The encoder's name.
    pub encoder: Option<String>,
    /// Width in pixels.
    pub width: Option<f64>,
    /// Height in pixels.
    pub height: Option<f64>,
    /// Pictures a second.
    pub frames_per_s: Option<f64>,
    /// Video rate in kilobits a second.
    pub video_kbps: Option<f64>,
    /// Audio rate in kilobits a second.
    pub audio_kbps: Option<f64>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Bytes for the peer, in order.
    Reply(Bytes),
    /// A publisher waits for its key to be judged.
    PublishRequested(PublishRequest),
    /// Media, in order.
    Media(Media),
    /// What the encoder says of it, when that is new.
    Metadata(Metadata),
    /// It is over; nothing follows, and further input has no effect.
    Ended(EndReason),
}
