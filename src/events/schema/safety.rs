//! `trust-safety-events`: what moderators decide, and what they may want to know.

/// Content judged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContentJudged {
    /// A TypeID.
    #[prost(string, tag = "1")]
    pub subject: String,
    /// `removed`, `restored`, `limited`.
    #[prost(string, tag = "2")]
    pub verdict: String,
    /// Reason.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// Moderator's id.
    #[prost(bytes = "vec", tag = "4")]
    pub moderator_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "5")]
    pub at_ms: i64,
}

/// Account judged.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AccountJudged {
    /// Account's id.
    #[prost(bytes = "vec", tag = "1")]
    pub account_id: Vec<u8>,
    /// `suspended`, `restored`, `timed_out`, `let_in`.
    #[prost(string, tag = "2")]
    pub verdict: String,
    /// Where it holds, as a TypeID; empty for everywhere.
    #[prost(string, tag = "3")]
    pub scope: String,
    /// Empty when it is not known who.
    #[prost(bytes = "vec", tag = "4")]
    pub moderator_id: Vec<u8>,
    /// Until when, in milliseconds since 1970; 0 for no end.
    #[prost(int64, tag = "5")]
    pub until_ms: i64,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
}

/// Account blocked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AccountBlocked {
    /// Account's id.
    #[prost(bytes = "vec", tag = "1")]
    pub account_id: Vec<u8>,
    /// Blocker's id.
    #[prost(bytes = "vec", tag = "2")]
    pub blocker_id: Vec<u8>,
    /// False when it is taken back.
    #[prost(bool, tag = "3")]
    pub on: bool,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}
