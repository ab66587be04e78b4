//! What is durable about live streams.

use std::fmt;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::id::{NodeId, StreamId, UserId};

/// SHA-256 of a stream key. The key itself is shown once and kept nowhere; it has 160 random bits, so nobody guesses it back from this.
#[derive(Clone, Copy)]
pub struct KeyHash(pub [u8; 32]);

/// Compares every byte, so that the time it takes tells nothing.
impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(set)")
    }
}

/// A stream as its actor needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    /// Which.
    pub id: StreamId,
    /// Whose.
    pub owner: UserId,
    /// Who has this key publishes.
    pub key: KeyHash,
    /// Whether not everybody may watch.
    pub is_private: bool,
    /// The broadcast that is on the air, or was the last.
    pub airing: Option<Airing>,
}

/// Where a stream is in its life. Publishing again after the end begins another broadcast of the same stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifeState {
    /// Nobody has published yet.
    Idle,
    /// On the air, or back within the resume window.
    Live,
    /// The last broadcast is over.
    Ended,
}

impl LifeState {
    /// As the database and the API name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Live => "live",
            Self::Ended => "ended",
        }
    }
}

/// The broadcast of a stream that is on the air, or was the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Airing {
    /// [`LifeState::Live`] or [`LifeState::Ended`].
    pub state: LifeState,
    /// Where its publisher is, or was.
    pub node: NodeId,
    /// When there was something to play.
    pub started_at: OffsetDateTime,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
    /// When this was true. A broadcast nobody has spoken of for [`SILENCE_MAX`] went down with its node.
    pub heard_at: OffsetDateTime,
    /// Who watches.
    pub viewers: u32,
    /// The most who watched at a time.
    pub viewers_peak: u32,
    /// Over all viewers together, in seconds.
    pub watched_s: u64,
    /// What tells it from the other broadcasts of the stream, in every address.
    pub broadcast: String,
    /// Where it stands: what another node needs to go on with it.
    pub standing: Standing,
}

/// Where a broadcast stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The media sequence number of the next segment.
    pub next_msn: u64,
    /// Discontinuities so far.
    pub discontinuities: u64,
    /// Publishers so far.
    pub sessions: u64,
}

/// A broadcast its node has said nothing of for so long is over: the node has died, and its publisher did not come to another. The
/// node says something every five seconds, and publishers come back within twenty.
pub const SILENCE_MAX: time::Duration = time::Duration::seconds(25);

/// Why the store of streams did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store of streams is unavailable: {reason}")]
pub struct StreamsError {
    /// What the adapter knows of it, for logs.
    pub reason: String,
}

/// Keeps what is durable about streams.
#[async_trait]
pub trait Streams: Send + Sync + 'static {
    /// The stream with this id, unless it does not exist.
    async fn load(&self, id: StreamId) -> Result<Option<StreamRecord>, StreamsError>;

    /// The stream with this key.
    async fn with_key(&self, key: KeyHash) -> Result<Option<StreamId>, StreamsError>;

    /// Notes how the broadcast of a stream is. Of one that does not exist any more, nothing is noted.
    async fn note(&self, id: StreamId, airing: &Airing) -> Result<(), StreamsError>;
}
