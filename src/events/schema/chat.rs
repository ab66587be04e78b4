//! `messaging-events` and `realtime-chat`: what is said, and how far people have it.

/// Message sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MessageSent {
    /// Conversation's id.
    #[prost(bytes = "vec", tag = "1")]
    pub conversation_id: Vec<u8>,
    /// Epoch.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    /// Seq.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// Sender's id.
    #[prost(bytes = "vec", tag = "4")]
    pub sender_id: Vec<u8>,
    /// As in the `kind` of an entry.
    #[prost(string, tag = "5")]
    pub kind: String,
    /// The body as JSON.
    #[prost(string, tag = "6")]
    pub body: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "7")]
    pub at_ms: i64,
}

/// Where messages of one commit are.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SentRange {
    /// Conversation's id.
    #[prost(bytes = "vec", tag = "1")]
    pub conversation_id: Vec<u8>,
    /// Epoch.
    #[prost(uint32, tag = "2")]
    pub epoch: u32,
    /// The number of the first.
    #[prost(uint64, tag = "3")]
    pub first_seq: u64,
    /// The number of the last; all between are of this commit as well.
    #[prost(uint64, tag = "4")]
    pub last_seq: u64,
}

/// Messages sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MessagesSent {
    /// What was said, filled in where the event leaves the engine; empty in the log.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<MessageSent>,
    /// Where it is.
    #[prost(message, repeated, tag = "2")]
    pub ranges: Vec<SentRange>,
}

/// Receipt moved.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReceiptMoved {
    /// Conversation's id.
    #[prost(bytes = "vec", tag = "1")]
    pub conversation_id: Vec<u8>,
    /// User's id.
    #[prost(bytes = "vec", tag = "2")]
    pub user_id: Vec<u8>,
    /// Delivered.
    #[prost(uint64, tag = "3")]
    pub delivered: u64,
    /// Read.
    #[prost(uint64, tag = "4")]
    pub read: u64,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "5")]
    pub at_ms: i64,
}

/// Receipts moved.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReceiptsMoved {
    /// Receipts of one commit.
    #[prost(message, repeated, tag = "1")]
    pub receipts: Vec<ReceiptMoved>,
}
