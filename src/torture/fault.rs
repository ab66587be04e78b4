//! What must not be, and where it was seen.

use std::sync::Arc;

use super::history::Place;

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// Something was acknowledged or shown, and does not stand where it was said to stand.
    #[error("conversation {place}: {key} was given the number {seq}, and is not there")]
    Missing {
        /// Where.
        place: Place,
        /// What.
        key: Arc<str>,
        /// Its number.
        seq: u64,
    },
    /// One message has two numbers.
    #[error("conversation {place}: {key} has the numbers {one} and {other}")]
    Twice {
        /// Where.
        place: Place,
        /// What.
        key: Arc<str>,
        /// One number.
        one: u64,
        /// The other.
        other: u64,
    },
    /// A number was left out.
    #[error("{who}, conversation {place}: {next} came after {after}")]
    Hole {
        /// Whose view; the log is one as well.
        who: Who,
        /// Where.
        place: Place,
        /// The last before it.
        after: u64,
        /// What came.
        next: u64,
    },
    /// A number came again on the same connection.
    #[error("{who}, conversation {place}: {seq} came again after {after}")]
    Repeat {
        /// Whose view.
        who: Who,
        /// Where.
        place: Place,
        /// What came again.
        seq: u64,
        /// The last before it.
        after: u64,
    },
    /// Two messages have one number.
    #[error("conversation {place}: {seq} of epoch {epoch} is {one} and {other}")]
    SeqUsedTwice {
        /// Where.
        place: Place,
        /// In which history.
        epoch: u64,
        /// Which number.
        seq: u64,
        /// One message.
        one: Arc<str>,
        /// The other.
        other: Arc<str>,
    },
    /// An answer said that it was whole, and was not.
    #[error("{who}, conversation {place}: recovered from {after}, but {why}")]
    NotRecovered {
        /// Who asked.
        who: Who,
        /// Where.
        place: Place,
        /// From where.
        after: u64,
        /// What is wrong with it.
        why: String,
    },
    /// What is unread is not what lies past what was read.
    #[error("user {user}, conversation {place}: {unread} unread with {read} of {top} read")]
    Unread {
        /// Whose.
        user: usize,
        /// Where.
        place: Place,
        /// What the inbox says is unread.
        unread: u64,
        /// What it says was read.
        read: u64,
        /// The end of the log.
        top: u64,
    },
    /// A reading that was acknowledged is forgotten.
    #[error("user {user}, conversation {place}: had read {acknowledged}, and now only {read}")]
    ReadForgotten {
        /// Whose.
        user: usize,
        /// Where.
        place: Place,
        /// What was acknowledged.
        acknowledged: u64,
        /// What is known of it.
        read: u64,
    },
    /// Long after all was well again a connected device had not been shown the end.
    #[error("{who}, conversation {place}: connected, and shown nothing past {last:?} of {top}")]
    Stale {
        /// Who.
        who: Who,
        /// Where.
        place: Place,
        /// What it was shown last.
        last: Option<u64>,
        /// The end of the log.
        top: u64,
    },
    /// Somebody was refused what they may.
    #[error("{who}: {key} was refused with {code}")]
    Refused {
        /// Who.
        who: Who,
        /// What.
        key: Arc<str>,
        /// Why.
        code: String,
    },
}

/// Whose view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A device's, by its place in the list.
    Device(usize),
    /// The log's own.
    Log,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Device(number) => write!(f, "device {number}"),
            Who::Log => f.write_str("the log"),
        }
    }
}
