//! Entries: the lines of a conversation's log.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::id::{ConversationId, UserId};

/// The number of an entry in its conversation: from 1, without a hole.
pub type Seq = u64;

/// The first 16 bytes of the SHA-256 of what was sent: a retry has the same, another message with the same id has not.
pub type ContentHash = [u8; 16];

/// The longest id a client may give a message; an UUID or a TypeID has room.
pub const CLIENT_MSG_ID_CHARS_MAX: usize = 64;

macro_rules! kinds {
    ($($(#[$doc:meta])+ $variant:ident = $number:literal $name:literal;)+) => {
        /// What an entry is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EntryKind {
            $($(#[$doc])+ $variant = $number,)+
        }

        impl EntryKind {
            /// Every kind there is.
            pub const ALL: &'static [EntryKind] = &[$(EntryKind::$variant),+];

            /// As clients read it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(EntryKind::$variant => $name),+ }
            }

            /// As the database holds it.
            #[must_use]
            pub const fn number(self) -> i16 {
                match self { $(EntryKind::$variant => $number),+ }
            }

            /// Reads what [`Self::number`] wrote.
            #[must_use]
            pub const fn from_number(number: i16) -> Option<EntryKind> {
                match number { $($number => Some(EntryKind::$variant),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// Somebody wrote.
    Message = 1 "message";
    /// Somebody changed what they wrote.
    Edit = 2 "edit";
    /// Somebody took back what they, or as an administrator another, wrote.
    Delete = 3 "delete";
    /// Somebody answered with a sign, or took it away.
    Reaction = 4 "reaction";
    /// Who is in the conversation changed.
    Member = 5 "member";
    /// A call began or ended.
    Call = 6 "call";
    /// A live stream began or ended.
    Live = 7 "live";
    /// The conversation has another title.
    Title = 8 "title";
}

/// An entry that stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub conversation: ConversationId,
    /// The history it belongs to.
    pub epoch: u32,
    /// Its number.
    pub seq: Seq,
    /// What it is.
    pub kind: EntryKind,
    /// Who made it.
    pub sender: UserId,
    /// When it was committed, in whole milliseconds.
    pub at: OffsetDateTime,
    /// The id its sender gave it.
    pub client_msg_id: Arc<str>,
    /// The body as JSON text; its shape follows from the kind. This crate hands it on and does not look into it.
    pub body: Arc<str>,
    /// Who may see the body; everybody in the conversation when absent. Its sender is among them.
    pub visible_to: Option<Arc<[UserId]>>,
}

/// An entry that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Where it is to stand.
    pub conversation: ConversationId,
    /// Who makes it.
    pub sender: UserId,
    /// What it is.
    pub kind: EntryKind,
    /// The key under which sending it again finds it; 1 to [`CLIENT_MSG_ID_CHARS_MAX`] characters.
    pub client_msg_id: Arc<str>,
    /// Of what was sent.
    pub content_hash: ContentHash,
    /// The entry it changes or answers.
    pub target: Option<Seq>,
    /// The body as a JSON object in text, without NUL characters.
    pub body: Arc<str>,
    /// Who may see the body, its sender included; also stands in it.
    pub visible_to: Option<Arc<[UserId]>>,
}

impl NewEntry {
    /// Bytes it occupies where it waits.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        size_of::<Self>() + self.client_msg_id.len() + self.body.len()
    }
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The history it stands in.
    pub epoch: u32,
    /// Its number.
    pub seq: Seq,
    /// When it was committed.
    pub at: OffsetDateTime,
    /// It had been appended before, by the same sender under the same id with the same content; this is the earlier number.
    pub duplicate: bool,
}

/// Why an entry was not appended. Nothing of it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The sender used this id for something else in this conversation.
    #[error("this id was used for another message")]
    IdempotencyMismatch,
    /// There is no such conversation.
    #[error("no such conversation")]
    NoSuchConversation,
    /// The sender is not in it.
    #[error("not a member")]
    NotAMember,
    /// The target is no message of this conversation, or not one the sender is shown.
    #[error("no such target")]
    NoSuchTarget,
    /// Only its sender edits a message; its sender or an administrator deletes it.
    #[error("not theirs to change")]
    NotYours,
    /// The message was deleted.
    #[error("the target was deleted")]
    TargetDeleted,
    /// In a direct conversation, one of the two has blocked the other.
    #[error("one has blocked the other")]
    Blocked,
    /// In the chat of a stream: too soon after the message before.
    #[error("too soon after the message before")]
    TooSoon {
        /// When it is time.
        until: OffsetDateTime,
    },
    /// In the chat of a stream: a moderator has said so.
    #[error("timed out")]
    TimedOut {
        /// Until when.
        until: OffsetDateTime,
    },
}

/// Why an append has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It was refused; trying again changes nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// More waits than may wait. Nothing happened.
    #[error("too much waits to be written")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The log did not answer. It may or may not have happened: trying again under the same id tells.
    #[error("the log is unavailable: {reason}")]
    Unavailable {
        /// What is known of it, for logs.
        reason: String,
    },
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Top {
    /// Its history.
    pub epoch: u32,
    /// Its newest number; 0 before the first.
    pub seq: Seq,
}

/// Entries in sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// How far the conversation had come when this was read.
    pub top: Top,
    /// Entries up to here were removed by retention; nothing of them will ever be read.
    pub removed: Seq,
}

/// What somebody may do in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Writes.
    Member,
    /// Adds, removes, deletes what others wrote, gives the title.
    Admin,
    /// Makes administrators; there is one.
    Owner,
}

impl Role {
    /// As the database and the API name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is owner, admin or member")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Role, RoleError> {
        [Role::Member, Role::Admin, Role::Owner]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(RoleError)
    }
}

/// Somebody in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// What they may do.
    pub role: Role,
    /// How far they have read.
    pub read: Seq,
    /// How far at least one of their devices has everything.
    pub delivered: Seq,
}
