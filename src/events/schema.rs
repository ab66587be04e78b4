//! The messages of `proto/nova/events/v1/events.proto`, field by field; a test compares the two.
//!
//! They are written by hand, so that building Nova needs no compiler of another language.

mod chat;
mod media;
mod readers;
mod safety;

pub use chat::{MessageSent, MessagesSent, ReceiptMoved, ReceiptsMoved, SentRange};
pub use media::{MediaMetadata, MediaUploaded, RecordingReady, StreamEnded, StreamStarted};
pub use readers::{BehaviourObserved, ExperimentExposed, FeedUpdated, NotificationCreated, RankingUpdated};
pub use safety::{AccountBlocked, AccountJudged, ContentJudged};

/// Who may read a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Visibility {
    /// Not said.
    Unspecified = 0,
    /// Everybody.
    Public = 1,
    /// The author's followers.
    Followers = 2,
    /// The author alone.
    Private = 3,
}

/// Envelope.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// Event's id.
    #[prost(bytes = "vec", tag = "1")]
    pub event_id: Vec<u8>,
    /// The name of the message in `payload`.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Schema version.
    #[prost(uint32, tag = "3")]
    pub schema_version: u32,
    /// Key.
    #[prost(bytes = "vec", tag = "4")]
    pub key: Vec<u8>,
    /// The version of what changed.
    #[prost(int64, tag = "5")]
    pub version: i64,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
    /// Payload.
    #[prost(bytes = "vec", tag = "7")]
    pub payload: Vec<u8>,
}

/// Post created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostCreated {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// Kind.
    #[prost(string, tag = "3")]
    pub kind: String,
    /// Text.
    #[prost(string, tag = "4")]
    pub text: String,
    /// Visibility.
    #[prost(enumeration = "Visibility", tag = "5")]
    pub visibility: i32,
    /// Tags.
    #[prost(string, repeated, tag = "6")]
    pub tags: Vec<String>,
    /// Mentions.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub mentions: Vec<Vec<u8>>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "8")]
    pub at_ms: i64,
}

/// Post updated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostUpdated {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// Text.
    #[prost(string, tag = "3")]
    pub text: String,
    /// Visibility.
    #[prost(enumeration = "Visibility", tag = "4")]
    pub visibility: i32,
    /// Tags.
    #[prost(string, repeated, tag = "5")]
    pub tags: Vec<String>,
    /// Mentions.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub mentions: Vec<Vec<u8>>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "7")]
    pub at_ms: i64,
}

/// Post deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostDeleted {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// Post liked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostLiked {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// User's id.
    #[prost(bytes = "vec", tag = "3")]
    pub user_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}

/// Post unliked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PostUnliked {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// User's id.
    #[prost(bytes = "vec", tag = "2")]
    pub user_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// Comment created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommentCreated {
    /// Comment's id.
    #[prost(bytes = "vec", tag = "1")]
    pub comment_id: Vec<u8>,
    /// Post's id.
    #[prost(bytes = "vec", tag = "2")]
    pub post_id: Vec<u8>,
    /// Post author's id.
    #[prost(bytes = "vec", tag = "3")]
    pub post_author_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "4")]
    pub author_id: Vec<u8>,
    /// Empty when it answers no comment.
    #[prost(bytes = "vec", tag = "5")]
    pub parent_id: Vec<u8>,
    /// Text.
    #[prost(string, tag = "6")]
    pub text: String,
    /// Mentions.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub mentions: Vec<Vec<u8>>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "8")]
    pub at_ms: i64,
}

/// Comment deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommentDeleted {
    /// Comment's id.
    #[prost(bytes = "vec", tag = "1")]
    pub comment_id: Vec<u8>,
    /// Post's id.
    #[prost(bytes = "vec", tag = "2")]
    pub post_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// Story created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoryCreated {
    /// Story's id.
    #[prost(bytes = "vec", tag = "1")]
    pub story_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// Text.
    #[prost(string, tag = "3")]
    pub text: String,
    /// Visibility.
    #[prost(enumeration = "Visibility", tag = "4")]
    pub visibility: i32,
    /// Mentions.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub mentions: Vec<Vec<u8>>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
    /// From then on it is gone, without another event.
    #[prost(int64, tag = "7")]
    pub expires_at_ms: i64,
}

/// Story deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StoryDeleted {
    /// Story's id.
    #[prost(bytes = "vec", tag = "1")]
    pub story_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// User registered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserRegistered {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// Username.
    #[prost(string, tag = "2")]
    pub username: String,
    /// Email.
    #[prost(string, tag = "3")]
    pub email: String,
    /// Registered at in milliseconds.
    #[prost(int64, tag = "4")]
    pub registered_at_ms: i64,
}

/// User profile updated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserProfileUpdated {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// Username.
    #[prost(string, optional, tag = "2")]
    pub username: Option<String>,
    /// Display name.
    #[prost(string, optional, tag = "3")]
    pub display_name: Option<String>,
    /// Avatar url.
    #[prost(string, optional, tag = "4")]
    pub avatar_url: Option<String>,
    /// Updated at in milliseconds.
    #[prost(int64, tag = "5")]
    pub updated_at_ms: i64,
}

/// User deleted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserDeleted {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
}

/// User followed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserFollowed {
    /// Follower's id.
    #[prost(bytes = "vec", tag = "1")]
    pub follower_id: Vec<u8>,
    /// Followee's id.
    #[prost(bytes = "vec", tag = "2")]
    pub followee_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// User unfollowed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserUnfollowed {
    /// Follower's id.
    #[prost(bytes = "vec", tag = "1")]
    pub follower_id: Vec<u8>,
    /// Followee's id.
    #[prost(bytes = "vec", tag = "2")]
    pub followee_id: Vec<u8>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
}

/// User muted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserMuted {
    /// Muter's id.
    #[prost(bytes = "vec", tag = "1")]
    pub muter_id: Vec<u8>,
    /// Muted's id.
    #[prost(bytes = "vec", tag = "2")]
    pub muted_id: Vec<u8>,
    /// False when it is taken back.
    #[prost(bool, tag = "3")]
    pub on: bool,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}

/// User blocked.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UserBlocked {
    /// Blocker's id.
    #[prost(bytes = "vec", tag = "1")]
    pub blocker_id: Vec<u8>,
    /// Blocked's id.
    #[prost(bytes = "vec", tag = "2")]
    pub blocked_id: Vec<u8>,
    /// False when it is taken back.
    #[prost(bool, tag = "3")]
    pub on: bool,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}
