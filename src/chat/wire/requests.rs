//! The bodies of requests, their bounds, and what is checked of them beyond their types.
//!
//! A field that may be left out may be `null` as well.

use nova_actors::id::{ConversationId, MediaId, StreamId, UserId};
use serde::{Deserialize, Deserializer, Serialize};
use time::OffsetDateTime;

use crate::conversations::draft::Movement;

/// Characters of a `client_msg_id`: a UUID and something to spare.
pub(in crate::chat) const CLIENT_MSG_ID_LEN_MAX: usize = 64;
/// Bytes of an emoji: the longest sequences of Unicode 16 have about 40.
pub(in crate::chat) const EMOJI_BYTES_MAX: usize = 64;
/// Bytes of a token: a little more than the engine itself issues.
pub(in crate::chat) const TOKEN_BYTES_MAX: usize = 4 << 10;
/// Bytes of what a client calls itself.
pub(in crate::chat) const CLIENT_BYTES_MAX: usize = 256;
/// Bytes of the name of a kind or a request.
pub(in crate::chat) const KIND_BYTES_MAX: usize = 32;
/// People mentioned in one message, things attached to it, and members who see a location.
pub(in crate::chat) const MENTIONS_MAX: usize = 100;
pub(in crate::chat) const ATTACHMENTS_MAX: usize = 20;
/// Bytes of a voice message's waveform, as base64 of one byte per bar.
pub(in crate::chat) const WAVEFORM_BYTES_MAX: usize = 512;
/// Users whose presence one connection watches; of more, a conversation's count is told.
pub(in crate::chat) const WATCHED_MAX: usize = 200;
/// Conversations whose members one connection has counted.
pub(in crate::chat) const COUNTED_MAX: usize = 20;
/// Conversations on screen.
pub(in crate::chat) const FOCUS_MAX: usize = 50;
/// Entries of one `pull`.
pub(in crate::chat) const PULL_LIMIT_MAX: u32 = 500;

/// The highest sequence: the database counts in signed 64 bits.
pub(in crate::chat) const SEQUENCE_MAX: u64 = i64::MAX as u64;

/// `null` is absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The body of a `ping`: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {}

/// `connect {token, client?, focus?}`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The access token.
    pub token: String,
    /// What the client calls itself, for people who look into logs.
    #[serde(default)]
    pub client: Option<String>,
    /// Conversations on screen: replayed first.
    #[serde(default, deserialize_with = "or_default")]
    pub focus: Vec<ConversationId>,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("client", &self.client)
            .field("focus", &self.focus)
            .finish_non_exhaustive()
    }
}

/// `send {conversation, client_msg_id, text?, kind?, reply_to?, mentions?, attachments?, location?}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Where to.
    pub conversation: ConversationId,
    /// The client's own name of this message: the same for every attempt.
    pub client_msg_id: String,
    /// What was written.
    #[serde(default)]
    pub text: Option<String>,
    /// What kind of message, where its parts do not say.
    #[serde(default)]
    pub kind: Option<String>,
    /// The message this answers, by sequence.
    #[serde(default)]
    pub reply_to: Option<u64>,
    /// Who is mentioned.
    #[serde(default, deserialize_with = "or_default")]
    pub mentions: Vec<UserId>,
    /// What is attached.
    #[serde(default, deserialize_with = "or_default")]
    pub attachments: Vec<Attachment>,
    /// A place.
    #[serde(default)]
    pub location: Option<Location>,
}

/// Something attached: an uploaded medium by its id, or with what its display needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Attachment {
    /// The id alone.
    Id(MediaId),
    /// A voice message.
    Voice {
        /// The recording.
        media: MediaId,
        /// How long it is.
        duration_ms: u32,
        /// Its loudness, base64 of one byte per bar.
        waveform: String,
    },
}

/// A place, for whom and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Radius of the circle it lies in, metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_m: Option<f64>,
    /// Who sees it.
    #[serde(default, deserialize_with = "or_default")]
    pub scope: LocationScope,
    /// The members who see it when the scope is `members`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<UserId>,
    /// Until when it is shared live; without it, it is one place at one time.
    #[serde(default, with = "super::rfc3339_ms::option", skip_serializing_if = "Option::is_none")]
    pub until: Option<OffsetDateTime>,
}

/// Who sees a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocationScope {
    /// Everybody in the conversation.
    #[default]
    Conversation,
    /// The named members.
    Members,
}

/// `edit {conversation, target, text? | location?}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Where.
    pub conversation: ConversationId,
    /// Which message, by sequence.
    pub target: u64,
    /// The new text.
    #[serde(default)]
    pub text: Option<String>,
    /// In its place: where a live position has moved to, or its end.
    #[serde(default)]
    pub location: Option<Movement>,
    /// The client's own name of this change.
    #[serde(default)]
    pub client_msg_id: Option<String>,
}

/// `delete {conversation, target}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Where.
    pub conversation: ConversationId,
    /// Which message, by sequence.
    pub target: u64,
    /// The client's own name of this change.
    #[serde(default)]
    pub client_msg_id: Option<String>,
}

/// `react {conversation, target, emoji, on}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct React {
    /// Where.
    pub conversation: ConversationId,
    /// Which message, by sequence.
    pub target: u64,
    /// The emoji.
    pub emoji: String,
    /// Put or taken away.
    pub on: bool,
    /// The client's own name of this change.
    #[serde(default)]
    pub client_msg_id: Option<String>,
}

/// `ack {conversation, seq}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Where.
    pub conversation: ConversationId,
    /// Up to and with this sequence.
    pub seq: u64,
}

/// `read {conversation, seq}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Where.
    pub conversation: ConversationId,
    /// Up to and with this sequence.
    pub seq: u64,
}

/// `typing {conversation, on}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Typing {
    /// Where.
    pub conversation: ConversationId,
    /// Writing, or stopped.
    pub on: bool,
}

/// `pull {conversation, epoch, after, limit}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    /// Where.
    pub conversation: ConversationId,
    /// The epoch the client knows.
    pub epoch: u64,
    /// The last sequence the client has.
    pub after: u64,
    /// How many at most, 1 to 500.
    pub limit: u32,
}

/// `presence {watch, conversations?}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Presence {
    /// Whose; replaces whoever was watched before.
    pub watch: Vec<UserId>,
    /// Conversations of which only the number of members who are here is wanted; replaces those before.
    #[serde(default, deserialize_with = "or_default")]
    pub conversations: Vec<ConversationId>,
}

/// `watch {stream}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Which.
    pub stream: StreamId,
}

/// `unwatch {stream}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unwatch {
    /// Which.
    pub stream: StreamId,
}

/// `refresh {token}`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The new access token, of the same user and device.
    pub token: String,
}

impl std::fmt::Debug for Refresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresh").finish_non_exhaustive()
    }
}

/// What the types alone do not say.
pub(super) trait Check {
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

pub(super) fn at_most(field: &str, len: usize, len_max: usize) -> Result<(), String> {
    if len <= len_max { Ok(()) } else { Err(format!("{field}: at most {len_max}, this has {len}")) }
}

fn client_msg_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > CLIENT_MSG_ID_LEN_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "client_msg_id: 1 to {CLIENT_MSG_ID_LEN_MAX} printable ASCII characters are wanted"
        ));
    }
    Ok(())
}

fn place(latitude: f64, longitude: f64, accuracy_m: Option<f64>) -> Result<(), String> {
    if !(-90.0..=90.0).contains(&latitude) {
        return Err("location.latitude: -90 to 90 degrees are wanted".to_owned());
    }
    if !(-180.0..=180.0).contains(&longitude) {
        return Err("location.longitude: -180 to 180 degrees are wanted".to_owned());
    }
    if accuracy_m.is_some_and(|accuracy_m| !(0.0..=1e8).contains(&accuracy_m)) {
        return Err("location.accuracy_m: metres from 0 are wanted".to_owned());
    }
    Ok(())
}

fn sequence(field: &str, seq: u64) -> Result<(), String> {
    if seq <= SEQUENCE_MAX { Ok(()) } else { Err(format!("{field}: beyond every sequence")) }
}

impl Check for Connect {
    fn check(&self) -> Result<(), String> {
        at_most("token", self.token.len(), TOKEN_BYTES_MAX)?;
        at_most("client", self.client.as_ref().map_or(0, String::len), CLIENT_BYTES_MAX)?;
        at_most("focus", self.focus.len(), FOCUS_MAX)
    }
}

impl Check for Draft {
    fn check(&self) -> Result<(), String> {
        client_msg_id(&self.client_msg_id)?;
        at_most("kind", self.kind.as_ref().map_or(0, String::len), KIND_BYTES_MAX)?;
        at_most("mentions", self.mentions.len(), MENTIONS_MAX)?;
        at_most("attachments", self.attachments.len(), ATTACHMENTS_MAX)?;
        sequence("reply_to", self.reply_to.unwrap_or(0))?;
        for attachment in &self.attachments {
            if let Attachment::Voice { waveform, .. } = attachment {
                at_most("attachments.waveform", waveform.len(), WAVEFORM_BYTES_MAX)?;
            }
        }
        if let Some(location) = &self.location {
            place(location.latitude, location.longitude, location.accuracy_m)?;
            at_most("location.members", location.members.len(), MENTIONS_MAX)?;
            if (location.scope == LocationScope::Members) == location.members.is_empty() {
                return Err("location.members: named exactly when the scope is members".to_owned());
            }
        }
        let empty = self.text.as_deref().unwrap_or_default().is_empty();
        if empty && self.attachments.is_empty() && self.location.is_none() {
            return Err("text: a message has a text, an attachment or a location".to_owned());
        }
        Ok(())
    }
}

impl Check for Edit {
    fn check(&self) -> Result<(), String> {
        sequence("target", self.target)?;
        if self.text.is_some() == self.location.is_some() {
            return Err("text: a text or a location is wanted, one of them".to_owned());
        }
        match self.location {
            Some(Movement::To { latitude, longitude, accuracy_m }) => place(latitude, longitude, accuracy_m)?,
            Some(Movement::Ended { ended: false }) => {
                return Err("location.ended: it has ended, or it has moved somewhere".to_owned());
            }
            Some(Movement::Ended { ended: true }) | None => {}
        }
        if self.text.as_ref().is_some_and(String::is_empty) {
            return Err("text: to take a message back, delete it".to_owned());
        }
        self.client_msg_id.as_deref().map_or(Ok(()), client_msg_id)
    }
}

impl Check for Delete {
    fn check(&self) -> Result<(), String> {
        sequence("target", self.target)?;
        self.client_msg_id.as_deref().map_or(Ok(()), client_msg_id)
    }
}

impl Check for React {
    fn check(&self) -> Result<(), String> {
        sequence("target", self.target)?;
        if self.emoji.is_empty() {
            return Err("emoji: one is wanted".to_owned());
        }
        at_most("emoji", self.emoji.len(), EMOJI_BYTES_MAX)?;
        self.client_msg_id.as_deref().map_or(Ok(()), client_msg_id)
    }
}

impl Check for Ack {
    fn check(&self) -> Result<(), String> {
        sequence("seq", self.seq)
    }
}

impl Check for Read {
    fn check(&self) -> Result<(), String> {
        sequence("seq", self.seq)
    }
}

impl Check for Pull {
    fn check(&self) -> Result<(), String> {
        sequence("epoch", self.epoch)?;
        sequence("after", self.after)?;
        if (1..=PULL_LIMIT_MAX).contains(&self.limit) {
            Ok(())
        } else {
            Err(format!("limit: 1 to {PULL_LIMIT_MAX} are wanted"))
        }
    }
}

impl Check for Presence {
    fn check(&self) -> Result<(), String> {
        at_most("watch", self.watch.len(), WATCHED_MAX)?;
        at_most("conversations", self.conversations.len(), COUNTED_MAX)
    }
}

impl Check for Refresh {
    fn check(&self) -> Result<(), String> {
        at_most("token", self.token.len(), TOKEN_BYTES_MAX)
    }
}

impl Check for Typing {}
impl Check for Watch {}
impl Check for Unwatch {}
impl Check for Ping {}
