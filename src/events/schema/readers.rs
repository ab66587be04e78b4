//! `notification-events`, `analytics-events`, `feed-updates`, `ranking-updates`: what readers are shown and what they do.

/// Notification created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NotificationCreated {
    /// Notification's id.
    #[prost(bytes = "vec", tag = "1")]
    pub notification_id: Vec<u8>,
    /// Recipient's id.
    #[prost(bytes = "vec", tag = "2")]
    pub recipient_id: Vec<u8>,
    /// Sender's id; empty when it comes from the engine.
    #[prost(bytes = "vec", tag = "3")]
    pub sender_id: Vec<u8>,
    /// Kind.
    #[prost(string, tag = "4")]
    pub kind: String,
    /// What it is about, as a TypeID.
    #[prost(string, tag = "5")]
    pub subject: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
}

/// Behaviour observed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BehaviourObserved {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// `impression`, `open`, `like`, `hide`, `dwell`.
    #[prost(string, tag = "2")]
    pub action: String,
    /// Post's id.
    #[prost(bytes = "vec", tag = "3")]
    pub post_id: Vec<u8>,
    /// Position.
    #[prost(uint32, tag = "4")]
    pub position: u32,
    /// Level.
    #[prost(string, tag = "5")]
    pub level: String,
    /// Model.
    #[prost(string, tag = "6")]
    pub model: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "7")]
    pub at_ms: i64,
    /// How long it was looked at, in milliseconds.
    #[prost(uint32, tag = "8")]
    pub dwell_ms: u32,
}

/// Experiment exposed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExperimentExposed {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// Experiment.
    #[prost(string, tag = "2")]
    pub experiment: String,
    /// Arm.
    #[prost(string, tag = "3")]
    pub arm: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}

/// Feed updated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FeedUpdated {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// How many readers of a node have it in what they are shown next.
    #[prost(uint64, tag = "3")]
    pub readers: u64,
    /// The author is read, not pushed.
    #[prost(bool, tag = "4")]
    pub pulled: bool,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "5")]
    pub at_ms: i64,
}

/// Ranking updated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RankingUpdated {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Score.
    #[prost(double, tag = "2")]
    pub score: f64,
    /// Model.
    #[prost(string, tag = "3")]
    pub model: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}
