//! Ids: a UUIDv7 inside, TypeID text outside, one Rust type for every noun.
//!
//! The text follows [TypeID 0.3](https://github.com/jetify-com/typeid/tree/main/spec): the noun's prefix, an underscore, and
//! 26 characters of lowercase Crockford base32 (`user_01j…`), so an id sorts by the time it was made in both forms and tells
//! what it names wherever it is met. Two ids of different nouns do not compare, and a text with another noun's prefix is refused
//! with [`IdError::WrongPrefix`].
//!
//! ```
//! use nova_actors::id::{IdError, RoomId, UserId};
//!
//! let ann = UserId::generate();
//! assert_eq!(ann.to_string().parse(), Ok(ann));
//! assert_eq!(ann.to_string().parse::<RoomId>(), Err(IdError::WrongPrefix { expected: "room" }));
//! ```

mod typeid;

use crate::clock::{Clock, SystemClock};

pub use typeid::{IdError, TEXT_LEN_MAX};

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])+
        ///
        #[doc = concat!("Written `", $prefix, "_` and 26 characters.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// What the text begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id carrying the time `now`. Ids made in one process grow, also within a millisecond and while the
            /// clock steps back by less than ten seconds.
            #[must_use]
            pub fn new(now: time::OffsetDateTime) -> Self {
                Self(typeid::next(now))
            }

            /// A new id carrying the system's time.
            #[must_use]
            pub fn generate() -> Self {
                Self::new(SystemClock.now())
            }

            /// The id with this value; what the database holds.
            #[must_use]
            pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }

            /// The value to give the database.
            #[must_use]
            pub const fn as_uuid(&self) -> uuid::Uuid {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                typeid::write($prefix, self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                typeid::write($prefix, self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                typeid::read($prefix, text).map(Self)
            }
        }

        impl From<$name> for uuid::Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                typeid::deserialize($prefix, deserializer).map(Self)
            }
        }
    )+};
}

ids! {
    /// An account.
    UserId = "user";
    /// One installed client of a user.
    DeviceId = "dev";
    /// A chat of two or more.
    ConversationId = "conv";
    /// One live broadcast.
    StreamId = "stream";
    /// One group call.
    RoomId = "room";
    /// A call in a conversation, from its first ring to its end.
    CallId = "call";
    /// Something shared with followers.
    PostId = "post";
    /// An answer to a post.
    CommentId = "comment";
    /// A post that is gone after a day.
    StoryId = "story";
    /// An uploaded picture, sound, video or file.
    MediaId = "media";
    /// What is kept of a broadcast.
    RecordingId = "rec";
    /// One line in a user's list of notifications.
    NotificationId = "notif";
    /// What a user tells the moderators.
    ReportId = "report";
    /// One entry of the event log.
    EventId = "event";
    /// One connection of a device.
    SessionId = "sess";
    /// One running process of the engine; new with every start.
    NodeId = "node";
    /// One request, as it is named in logs and in answers.
    RequestId = "req";
    /// A key that signs access tokens.
    SigningKeyId = "key";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_noun_has_its_own_prefix() {
        let prefixes = [
            UserId::PREFIX,
            DeviceId::PREFIX,
            ConversationId::PREFIX,
            StreamId::PREFIX,
            RoomId::PREFIX,
            CallId::PREFIX,
            PostId::PREFIX,
            CommentId::PREFIX,
            StoryId::PREFIX,
            MediaId::PREFIX,
            RecordingId::PREFIX,
            NotificationId::PREFIX,
            ReportId::PREFIX,
            EventId::PREFIX,
            SessionId::PREFIX,
            NodeId::PREFIX,
            RequestId::PREFIX,
            SigningKeyId::PREFIX,
        ];
        assert_eq!(prefixes.iter().collect::<HashSet<_>>().len(), prefixes.len());
        assert!(prefixes.iter().all(|prefix| prefix.len() + 27 <= TEXT_LEN_MAX));
    }

    #[test]
    fn json_carries_the_text_and_refuses_another_noun() {
        let post = PostId::generate();
        let json = serde_json::to_string(&post).unwrap();
        assert_eq!(json, format!("\"{post}\""));
        assert_eq!(serde_json::from_str::<PostId>(&json).unwrap(), post);
        let refused = serde_json::from_str::<CommentId>(&json).unwrap_err().to_string();
        assert!(refused.contains("`comment_`"), "{refused}");
        assert!(serde_json::from_str::<PostId>("7").is_err());
    }
}
