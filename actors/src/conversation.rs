//! Conversations: what is said in them, in which order it is shown.

mod entry;
pub mod order;
pub mod sample;

pub use entry::{
    AppendError, Appended, CLIENT_MSG_ID_CHARS_MAX, ContentHash, Entry, EntryKind, Member, NewEntry, Range,
    Refusal, Role, Seq, Top,
};
