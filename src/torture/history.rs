//! What happened, as those saw it whom it happened to.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Which conversation, by its place in the list.
pub type Place = usize;

/// An entry as somebody was told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where.
    pub place: Place,
    /// In which history.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Its sender's own name of it; no two senders use the same.
    pub key: Arc<str>,
}

/// What a device saw or was answered, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was let in, on a new connection.
    Connected,
    /// An entry was pushed.
    Entry(Told),
    /// Entries are not pushed: they are to be pulled.
    Gap {
        /// Where.
        place: Place,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// What it sent was acknowledged.
    Sent(Told),
    /// What it sent was refused for good.
    Refused {
        /// Its own name of it.
        key: Arc<str>,
        /// Why.
        code: String,
    },
    /// Its user's reading up to here was acknowledged.
    Read {
        /// Where.
        place: Place,
        /// Up to where.
        seq: u64,
    },
    /// The answer to a pull.
    Pulled {
        /// Where.
        place: Place,
        /// What it had.
        after: u64,
        /// How many it wanted.
        limit: u64,
        /// The end of the log then.
        top: u64,
        /// Whether the entries follow on what it had.
        recovered: bool,
        /// The entries.
        entries: Vec<Told>,
    },
    /// Long after all was well again, it was connected and had not been shown the end.
    Stale {
        /// Where.
        place: Place,
        /// The last it was shown on this connection; nothing when it was shown none.
        last: Option<u64>,
        /// The end of the log.
        top: u64,
    },
}

/// One device's view.
#[derive(Debug, Default, Clone)]
pub struct History {
    /// Whose.
    pub user: usize,
    /// The conversations it is in.
    pub places: Vec<Place>,
    /// What it saw.
    pub events: Vec<Event>,
}

/// A line of a user's inbox at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLine {
    /// Whose.
    pub user: usize,
    /// Which.
    pub place: Place,
    /// The newest entry.
    pub top: u64,
    /// How far they have read.
    pub read: u64,
    /// How much they have not.
    pub unread: u64,
}

/// Everything there is to be judged.
#[derive(Debug, Default, Clone)]
pub struct Record {
    /// Of every device.
    pub devices: Vec<History>,
    /// Every log as it stands at the end.
    pub logs: BTreeMap<Place, Vec<Told>>,
    /// Every inbox at the end.
    pub inbox: Vec<InboxLine>,
}
