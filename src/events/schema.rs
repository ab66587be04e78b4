//! The messages of `proto/nova/events/v1/events.proto`, field by field; a test compares the two.
//!
//! They are written by hand, so that building Nova needs no compiler of another language.

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

/// Media metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MediaMetadata {
    /// Width.
    #[prost(uint32, tag = "1")]
    pub width: u32,
    /// Height.
    #[prost(uint32, tag = "2")]
    pub height: u32,
    /// Size bytes.
    #[prost(uint64, tag = "3")]
    pub size_bytes: u64,
    /// Mime type.
    #[prost(string, tag = "4")]
    pub mime_type: String,
    /// Duration seconds.
    #[prost(double, tag = "5")]
    pub duration_seconds: f64,
}

/// Media uploaded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MediaUploaded {
    /// Media's id.
    #[prost(bytes = "vec", tag = "1")]
    pub media_id: Vec<u8>,
    /// User's id.
    #[prost(bytes = "vec", tag = "2")]
    pub user_id: Vec<u8>,
    /// Empty when it belongs to no post yet.
    #[prost(bytes = "vec", tag = "3")]
    pub post_id: Vec<u8>,
    /// File name.
    #[prost(string, tag = "4")]
    pub file_name: String,
    /// Metadata.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<MediaMetadata>,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
}

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

/// Messages sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MessagesSent {
    /// Messages.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<MessageSent>,
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

/// Notification created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NotificationCreated {
    /// Notification's id.
    #[prost(bytes = "vec", tag = "1")]
    pub notification_id: Vec<u8>,
    /// Recipient's id.
    #[prost(bytes = "vec", tag = "2")]
    pub recipient_id: Vec<u8>,
    /// Sender's id.
    #[prost(bytes = "vec", tag = "3")]
    pub sender_id: Vec<u8>,
    /// Kind.
    #[prost(string, tag = "4")]
    pub kind: String,
    /// What it is about, as a TypeID.
    #[prost(string, tag = "5")]
    pub subject: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "6")]
    pub at_ms: i64,
}

/// Behaviour observed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BehaviourObserved {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// `impression`, `open`, `like`, `hide`.
    #[prost(string, tag = "2")]
    pub action: String,
    /// Post's id.
    #[prost(bytes = "vec", tag = "3")]
    pub post_id: Vec<u8>,
    /// Position.
    #[prost(uint32, tag = "4")]
    pub position: u32,
    /// Level.
    #[prost(string, tag = "5")]
    pub level: String,
    /// Model.
    #[prost(string, tag = "6")]
    pub model: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "7")]
    pub at_ms: i64,
}

/// Experiment exposed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExperimentExposed {
    /// User's id.
    #[prost(bytes = "vec", tag = "1")]
    pub user_id: Vec<u8>,
    /// Experiment.
    #[prost(string, tag = "2")]
    pub experiment: String,
    /// Arm.
    #[prost(string, tag = "3")]
    pub arm: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}

/// Feed updated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FeedUpdated {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Author's id.
    #[prost(bytes = "vec", tag = "2")]
    pub author_id: Vec<u8>,
    /// How many heads it was put on.
    #[prost(uint64, tag = "3")]
    pub readers: u64,
    /// The author is read, not pushed.
    #[prost(bool, tag = "4")]
    pub pulled: bool,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "5")]
    pub at_ms: i64,
}

/// Ranking updated.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RankingUpdated {
    /// Post's id.
    #[prost(bytes = "vec", tag = "1")]
    pub post_id: Vec<u8>,
    /// Score.
    #[prost(double, tag = "2")]
    pub score: f64,
    /// Model.
    #[prost(string, tag = "3")]
    pub model: String,
    /// When, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub at_ms: i64,
}

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
