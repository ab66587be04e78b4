//! The event log: what happened, in order, for everybody who has to know.
//!
//! ```text
//! a change ─┬─ its row                      one transaction
//!           └─ outbox ── sequencer ── event_log(topic, part, place) ── groups of consumers: effect and cursor, one transaction
//! ```
//!
//! | file | what it settles |
//! |---|---|
//! | [`schema`] | the messages, as in `proto/` |
//! | [`notices`] | a group: who is to be told of what others did |
//! | [`kafka`] | a group: Apache Kafka is told everything, when it is configured |
//! | [`sequencer`] | who gives places, and the days that are kept |
//! | [`consumer`] | reading: batches, retries, dead letters, how far behind |
//!
//! # Promises
//!
//! - **Nothing is told that did not happen, and nothing that happened is lost**: the outbox row is in the transaction of the change.
//! - **Events of one key are in order.** Whoever changes something locks it first and writes the outbox row under that lock, so the rows
//!   of one key are numbered and committed one after another, and the sequencer takes committed rows by number.
//! - **Places are dense** in each part, so how far a group is behind is a subtraction.
//! - **One sequencer**: it moves rows over the very connection whose session holds an advisory lock. A connection that breaks loses lock
//!   and transaction together, so there is nothing to fence.
//! - **Effect and cursor commit together** for effects in PostgreSQL; the row of the cursor is locked meanwhile and is the lease: a dead
//!   owner's transaction is rolled back and the part is free at once. What a consumer does elsewhere (a cache, a webhook) is repeated
//!   after a crash and must bear it: versions and event ids are there for that.
//! - **Nothing is announced with NOTIFY**: it takes a lock over all commits. The sequencer is woken inside a node and looks by itself else.
//!
//! # Chat
//!
//! What is said enters as one row for each part of a batch that the journal commits ([`Event::MessagesSent`]): `append_entries` writes it
//! under the locks of the conversations, so chat pays for one row and not for a hundred. The row says where the messages are and not what
//! they say: a message that is deleted, or the place of somebody who has moved on, is gone from the conversation, and a log that is kept
//! for days must not be where it is still found. Who reads the event asks the store ([`Store::sent`](crate::store::Store::sent)).
//! Receipts are told in the same way ([`Event::ReceiptsMoved`]), in order for each member.

pub mod consumer;
pub mod kafka;
pub mod notices;
pub mod schema;
pub mod sequencer;

use nova_actors::id::EventId;
use prost::Message as _;
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;
use uuid::Uuid;

pub use consumer::{Consumer, HandleError};

macro_rules! topics {
    ($($variant:ident $number:literal $name:literal $parts:literal $words:literal;)*) => {
        /// What an event is about; each topic has its parts, read side by side.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Topic {
            $(#[doc = $words] $variant,)*
        }

        impl Topic {
            /// All of them.
            pub const ALL: &'static [Topic] = &[$(Topic::$variant),*];

            /// As operators and bridges name it.
            pub fn name(self) -> &'static str {
                match self { $(Topic::$variant => $name),* }
            }

            /// As the database names it.
            pub fn number(self) -> i16 {
                match self { $(Topic::$variant => $number),* }
            }

            /// How many parts it has.
            pub fn parts(self) -> i16 {
                match self { $(Topic::$variant => $parts),* }
            }
        }
    };
}

topics! {
    Content 1 "content-events" 6 "Posts, comments, likes; by post. Stories; by story.";
    Media 2 "media-events" 3 "Uploads, broadcasts, recordings; by medium or stream.";
    User 3 "user-events" 3 "Accounts, follows, blocks; by who acts.";
    Messaging 4 "messaging-events" 3 "Where messages are; by conversation.";
    Notification 5 "notification-events" 2 "Notifications; by recipient.";
    Analytics 6 "analytics-events" 6 "What readers do; by reader.";
    FeedUpdates 7 "feed-updates" 3 "Posts that were put on feeds; by post.";
    Ranking 8 "ranking-updates" 3 "Scores; by post.";
    TrustSafety 9 "trust-safety-events" 3 "What moderators decide; by subject.";
    RealtimeChat 10 "realtime-chat" 3 "Receipts; by conversation.";
}

impl Topic {
    /// The topic of this name.
    pub fn named(name: &str) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.name() == name)
    }

    /// The topic with this number.
    pub fn numbered(number: i16) -> Option<Topic> {
        Topic::ALL.iter().copied().find(|topic| topic.number() == number)
    }

    /// The part a key belongs to, for ever: the last eight bytes of a UUIDv7 are random.
    pub fn part_of(self, key: Uuid) -> i16 {
        let (_, low) = key.as_u64_pair();
        // Less than the number of parts.
        (low % self.parts() as u64) as i16
    }
}

macro_rules! events {
    ($($variant:ident $topic:ident $schema:literal;)*) => {
        /// Something that happened.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "each is the message of its name")]
        pub enum Event {
            $($variant(schema::$variant),)*
        }

        impl Event {
            /// The names of all kinds.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($variant)),*];

            /// The name of its message.
            pub fn kind(&self) -> &'static str {
                match self { $(Event::$variant(_) => stringify!($variant)),* }
            }

            /// Where it belongs.
            pub fn topic(&self) -> Topic {
                match self { $(Event::$variant(_) => Topic::$topic),* }
            }

            /// The version of its message's shape. It grows when a consumer must know that a meaning has changed.
            pub fn schema_version(&self) -> i16 {
                match self { $(Event::$variant(_) => $schema),* }
            }

            /// Its bytes.
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Event::$variant(event) => event.encode_to_vec()),* }
            }

            /// Reads bytes of a kind; `None` when a newer engine has written what this one does not know.
            ///
            /// # Errors
            /// When the bytes are not of that kind.
            pub fn decode(kind: &str, payload: &[u8]) -> Result<Option<Event>, prost::DecodeError> {
                match kind {
                    $(stringify!($variant) => schema::$variant::decode(payload).map(Event::$variant).map(Some),)*
                    _ => Ok(None),
                }
            }
        }

        $(impl From<schema::$variant> for Event {
            fn from(event: schema::$variant) -> Event {
                Event::$variant(event)
            }
        })*
    };
}

events! {
    PostCreated Content 1;
    PostUpdated Content 1;
    PostDeleted Content 1;
    PostLiked Content 1;
    PostUnliked Content 1;
    CommentCreated Content 1;
    CommentDeleted Content 1;
    StoryCreated Content 1;
    StoryDeleted Content 1;
    UserRegistered User 1;
    UserProfileUpdated User 1;
    UserDeleted User 1;
    UserFollowed User 1;
    UserUnfollowed User 1;
    UserMuted User 1;
    UserBlocked User 1;
    MediaUploaded Media 1;
    StreamStarted Media 1;
    StreamEnded Media 1;
    RecordingReady Media 1;
    MessagesSent Messaging 1;
    ReceiptsMoved RealtimeChat 1;
    NotificationCreated Notification 1;
    BehaviourObserved Analytics 1;
    ExperimentExposed Analytics 1;
    FeedUpdated FeedUpdates 1;
    RankingUpdated Ranking 1;
    ContentJudged TrustSafety 1;
    AccountJudged TrustSafety 1;
    AccountBlocked TrustSafety 1;
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Where.
    pub topic: Topic,
    /// Which part.
    pub part: i16,
    /// Its number there.
    pub place: i64,
    /// Its id: what a sink outside knows a repetition by.
    pub id: EventId,
    /// What it is about; events of one key are in order.
    pub key: Uuid,
    /// The name of its message.
    pub kind: String,
    /// The version of the message's shape.
    pub schema_version: i16,
    /// The version of what changed.
    pub version: i64,
    /// The message.
    pub payload: Vec<u8>,
    /// When it happened.
    pub at: OffsetDateTime,
}

impl Logged {
    /// What it says; `None` when this engine does not know its kind.
    ///
    /// # Errors
    /// When the bytes are not of that kind.
    pub fn event(&self) -> Result<Option<Event>, prost::DecodeError> {
        Event::decode(&self.kind, &self.payload)
    }

    /// As it leaves the log.
    pub fn envelope(&self) -> schema::Envelope {
        schema::Envelope {
            event_id: self.id.as_uuid().as_bytes().to_vec(),
            kind: self.kind.clone(),
            schema_version: self.schema_version.try_into().unwrap_or(0),
            key: self.key.as_bytes().to_vec(),
            version: self.version,
            at_ms: millis(self.at),
            payload: self.payload.clone(),
        }
    }
}

/// A time as events tell it.
pub fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// An id as events tell it.
pub fn bytes(id: impl Into<Uuid>) -> Vec<u8> {
    id.into().as_bytes().to_vec()
}

/// An id that is always the same for these two (UUID version 8, RFC 9562 section 5.8): of what may be told again.
pub fn derived(one: Uuid, other: Uuid) -> Uuid {
    let hash = digest(&SHA256, &[one.into_bytes(), other.into_bytes()].concat());
    let mut short = [0; 16];
    short.iter_mut().zip(hash.as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
    uuid::Builder::from_custom_bytes(short).into_uuid()
}

/// The id in an event; the nil one, which is nobody's, when it is none.
pub fn id(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

#[cfg(test)]
mod contract;
