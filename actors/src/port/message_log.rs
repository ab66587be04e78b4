//! The log of every conversation: where numbers are given, and where everything stands that was accepted.

use std::fmt;

use async_trait::async_trait;

use crate::conversation::{AppendError, Appended, Member, NewEntry, Range, Seq, Top};
use crate::id::ConversationId;

/// Entries one [`MessageLog::range`] gives at most.
pub const RANGE_LEN_MAX: u32 = 500;

/// Appends and reads entries.
///
/// The log decides whether the sender may, because only there the question and the number are one: whoever asks a copy of the members
/// may be told what was true a moment ago. An entry is durable when the append is answered; numbers have no hole; entries of
/// one conversation that one node appends one after the other are numbered in that order.
#[async_trait]
pub trait MessageLog: Send + Sync + 'static {
    /// Appends one entry. Asked again with the same conversation, sender, id and content it gives the same number.
    async fn append(&self, entry: NewEntry) -> Result<Appended, AppendError>;

    /// The entries after `after`, at most `limit` (and [`RANGE_LEN_MAX`]), oldest first. `None` when there is no such conversation.
    async fn range(&self, of: ConversationId, after: Seq, limit: u32) -> Result<Option<Range>, LogError>;

    /// How far these conversations have come; those that do not exist are left out.
    async fn tops(&self, of: &[ConversationId]) -> Result<Vec<(ConversationId, Top)>, LogError>;

    /// Who is in a conversation.
    async fn members(&self, of: ConversationId) -> Result<Vec<Member>, LogError>;
}

/// The log did not answer; asking again may help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log is unavailable: {reason}")]
pub struct LogError {
    /// What is known of it, for logs.
    pub reason: String,
}

impl LogError {
    /// From what an adapter knows.
    pub fn because(reason: impl fmt::Display) -> LogError {
        LogError { reason: reason.to_string() }
    }
}
