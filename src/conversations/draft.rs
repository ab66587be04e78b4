//! What people send, before it has a number: typed, bounded, turned into the body that is stored and shown.
//!
//! The same for REST and for the socket, so a retry over the other door is known as the same message: the content hash is of the body
//! made here, in which every field has its place and absent ones are left out.

mod announcement;
mod place;

use std::sync::Arc;

use nova_actors::conversation::{CLIENT_MSG_ID_CHARS_MAX, ContentHash, EntryKind, NewEntry, Seq};
use nova_actors::id::{ConversationId, MediaId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use utoipa::ToSchema;

use place::{check_location, check_movement};

pub use announcement::{call_entry, created_entry, member_entry, moderated_entry, title_entry};
pub use place::{Location, LocationScope, Movement};

/// The longest text of a message, in bytes. With the rest of a body it stays below the 64 KiB of a socket's message.
pub const TEXT_BYTES_MAX: usize = 32 << 10;
/// People named in one message at most.
pub const MENTIONS_MAX: usize = 100;
/// What one message carries at most.
pub const ATTACHMENTS_MAX: usize = 20;
/// Base64 of 384 bars of a waveform.
pub const WAVEFORM_CHARS_MAX: usize = 512;
/// The longest emoji sequences of Unicode have about 40 bytes.
pub const EMOJI_BYTES_MAX: usize = 64;
/// The longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 100;

/// What a message is made of. At least one of text, attachments and location is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it is where its parts do not say: `text`, `image`, `video`, `voice`, `file`, `location`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MessageKind>,
    /// The message this answers, by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    /// Who is named in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// What it carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// A place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Words.
    Text,
    /// Pictures.
    Image,
    /// Films.
    Video,
    /// Speech.
    Voice,
    /// Anything else.
    File,
    /// A place.
    Location,
}

/// Something a message carries: an uploaded medium by its id, or a voice message with what its display needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attachment {
    /// The id alone.
    Id(MediaId),
    /// A voice message.
    Voice {
        /// The recording.
        media: MediaId,
        /// How long it is.
        duration_ms: u32,
        /// Its loudness, base64 of one byte for each bar.
        waveform: String,
    },
}

/// [`Attachment`] as the document shows it: there an id is a text.
#[derive(ToSchema)]
#[schema(as = Attachment)]
#[expect(dead_code, reason = "it is only described")]
#[serde(untagged)]
pub(crate) enum AttachmentText {
    /// TypeID `media_…`.
    Id(String),
    /// A voice message.
    Voice {
        /// The recording, TypeID `media_…`.
        media: String,
        /// How long it is.
        #[schema(minimum = 1, maximum = 14400000)]
        duration_ms: u32,
        /// Its loudness, base64 of one byte for each bar.
        #[schema(max_length = 512)]
        waveform: String,
    },
}

/// What is to be appended.
#[derive(Debug, Clone, PartialEq)]
pub enum Draft {
    /// A message.
    Message(Message),
    /// Another text for a message.
    Edit {
        /// Its number.
        target: Seq,
        /// The text.
        text: String,
    },
    /// A live position that moves, or ends.
    Move {
        /// The message it came in, by number.
        target: Seq,
        /// Where to.
        movement: Movement,
    },
    /// A message taken back.
    Delete {
        /// Its number.
        target: Seq,
    },
    /// A sign put to a message, or taken from it.
    React {
        /// Its number.
        target: Seq,
        /// The sign.
        emoji: String,
        /// Put, or taken away.
        on: bool,
    },
}

/// A field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {message}")]
pub struct Invalid {
    /// Which.
    pub field: &'static str,
    /// What is wrong with it.
    pub message: String,
}

impl Invalid {
    fn new(field: &'static str, message: impl Into<String>) -> Invalid {
        Invalid { field, message: message.into() }
    }
}

/// What stands in the log.
#[derive(Serialize)]
struct MessageBody<'a> {
    #[serde(flatten)]
    message: &'a Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    visible_to: Option<&'a [UserId]>,
}

impl Draft {
    /// Another text for a message, or where its live position has moved to; one of the two.
    pub fn edit(target: Seq, text: Option<String>, location: Option<Movement>) -> Result<Draft, Invalid> {
        match (text, location) {
            (Some(text), None) => Ok(Draft::Edit { target, text }),
            (None, Some(movement)) => Ok(Draft::Move { target, movement }),
            (None, None) => Err(Invalid::new("text", "is missing, and no location is there")),
            (Some(_), Some(_)) => Err(Invalid::new("location", "and text exclude each other")),
        }
    }

    /// The entry to append, once everything in it is as it must be.
    pub fn entry(
        &self,
        conversation: ConversationId,
        sender: UserId,
        client_msg_id: &str,
        now: OffsetDateTime,
    ) -> Result<NewEntry, Invalid> {
        check_client_msg_id(client_msg_id)?;
        let (kind, target, visible_to, body) = match self {
            Draft::Message(message) => {
                check_message(message, now)?;
                let visible_to = message.visible_to(sender);
                let body = text(&MessageBody { message, visible_to: visible_to.as_deref() });
                (EntryKind::Message, message.reply_to, visible_to, body)
            }
            Draft::Edit { target, text: words } => {
                check_text("text", words, TEXT_BYTES_MAX)?;
                check_target(*target)?;
                let body = text(&serde_json::json!({ "target": target, "text": words }));
                (EntryKind::Edit, Some(*target), None, body)
            }
            Draft::Move { target, movement } => {
                check_movement(movement)?;
                check_target(*target)?;
                let body = text(&serde_json::json!({ "target": target, "location": movement }));
                (EntryKind::Edit, Some(*target), None, body)
            }
            Draft::Delete { target } => {
                check_target(*target)?;
                (EntryKind::Delete, Some(*target), None, text(&serde_json::json!({ "target": target })))
            }
            Draft::React { target, emoji, on } => {
                check_target(*target)?;
                check_text("emoji", emoji, EMOJI_BYTES_MAX)?;
                let body = text(&serde_json::json!({ "target": target, "emoji": emoji, "on": on }));
                (EntryKind::Reaction, Some(*target), None, body)
            }
        };
        Ok(NewEntry {
            conversation,
            sender,
            kind,
            client_msg_id: client_msg_id.into(),
            content_hash: hash(kind, &body),
            target,
            body: body.into(),
            visible_to,
        })
    }
}

impl Message {
    /// Who may see it, its sender included; everybody when absent.
    fn visible_to(&self, sender: UserId) -> Option<Arc<[UserId]>> {
        let location = self.location.as_ref().filter(|location| location.scope == LocationScope::Members)?;
        let mut users = location.members.clone();
        users.push(sender);
        users.sort_unstable();
        users.dedup();
        Some(users.into())
    }
}

fn text(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("a body is made of texts, numbers and ids")
}

fn hash(kind: EntryKind, body: &str) -> ContentHash {
    let mut hash = Sha256::new();
    hash.update(kind.as_str());
    hash.update([0]);
    hash.update(body);
    *hash.finalize().first_chunk().expect("SHA-256 has 32 bytes")
}

/// Whether a client may call a message so.
pub fn check_client_msg_id(id: &str) -> Result<(), Invalid> {
    let sane =
        (1..=CLIENT_MSG_ID_CHARS_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if sane {
        return Ok(());
    }
    Err(Invalid::new(
        "client_msg_id",
        format!("must have 1 to {CLIENT_MSG_ID_CHARS_MAX} visible ASCII characters"),
    ))
}

fn check_target(target: Seq) -> Result<(), Invalid> {
    if (1..=i64::MAX as u64).contains(&target) {
        Ok(())
    } else {
        Err(Invalid::new("target", "must be the number of an entry"))
    }
}

/// Not empty, not too long, and nothing PostgreSQL cannot hold.
fn check_text(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::new(field, "must not be empty"));
    }
    if text.len() > bytes_max {
        return Err(Invalid::new(field, format!("must have at most {bytes_max} bytes")));
    }
    if text.contains('\0') {
        return Err(Invalid::new(field, "must not contain the character U+0000"));
    }
    Ok(())
}

/// A title: one line, not empty, not too long.
pub fn check_title(title: &str) -> Result<(), Invalid> {
    check_text("title", title, TITLE_CHARS_MAX * 4)?;
    if title.chars().count() > TITLE_CHARS_MAX || title.chars().any(char::is_control) {
        return Err(Invalid::new(
            "title",
            format!("must be one line of at most {TITLE_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

fn check_message(message: &Message, now: OffsetDateTime) -> Result<(), Invalid> {
    match &message.text {
        Some(text) => check_text("text", text, TEXT_BYTES_MAX)?,
        None if message.attachments.is_empty() && message.location.is_none() => {
            return Err(Invalid::new("text", "is missing, and nothing else is there"));
        }
        None => {}
    }
    if let Some(target) = message.reply_to {
        check_target(target).map_err(|error| Invalid { field: "reply_to", ..error })?;
    }
    if message.mentions.len() > MENTIONS_MAX {
        return Err(Invalid::new("mentions", format!("must be at most {MENTIONS_MAX}")));
    }
    if message.attachments.len() > ATTACHMENTS_MAX {
        return Err(Invalid::new("attachments", format!("must be at most {ATTACHMENTS_MAX}")));
    }
    message.attachments.iter().try_for_each(check_attachment)?;
    message.location.as_ref().map_or(Ok(()), |location| check_location(location, now))
}

fn check_attachment(attachment: &Attachment) -> Result<(), Invalid> {
    let Attachment::Voice { duration_ms, waveform, .. } = attachment else { return Ok(()) };
    if !(1..=14_400_000).contains(duration_ms) {
        return Err(Invalid::new("attachments", "a voice message lasts from a millisecond to four hours"));
    }
    use base64::Engine as _;
    if waveform.len() > WAVEFORM_CHARS_MAX
        || base64::engine::general_purpose::STANDARD.decode(waveform).is_err()
    {
        return Err(Invalid::new(
            "attachments",
            format!("a waveform is base64 of at most {WAVEFORM_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);

    fn entry(draft: &Draft) -> Result<NewEntry, Invalid> {
        let uuid = uuid::Uuid::from_u128;
        draft.entry(ConversationId::from_uuid(uuid(1)), UserId::from_uuid(uuid(2)), "m1", NOON)
    }

    fn message(json: serde_json::Value) -> Draft {
        Draft::Message(serde_json::from_value(json).expect("a message"))
    }

    #[test]
    fn the_same_content_has_the_same_hash_and_other_content_another() {
        let hello = entry(&message(serde_json::json!({ "text": "hello" }))).unwrap();
        let same =
            entry(&message(serde_json::json!({ "text": "hello", "mentions": [], "kind": null }))).unwrap();
        assert_eq!(hello, same);
        assert_eq!(&*hello.body, r#"{"text":"hello"}"#);
        let others = [
            message(serde_json::json!({ "text": "hello!" })),
            message(serde_json::json!({ "text": "hello", "reply_to": 1 })),
            Draft::Edit { target: 1, text: "hello".to_owned() },
        ];
        for other in others {
            assert_ne!(entry(&other).unwrap().content_hash, hello.content_hash, "{other:?}");
        }
    }

    #[test]
    fn a_place_for_some_is_for_them_and_its_sender() {
        let bo = UserId::from_uuid(uuid::Uuid::from_u128(9));
        let place = message(serde_json::json!({
            "location": { "latitude": 52.5, "longitude": 13.4, "scope": "members", "members": [bo], "until": "2026-01-02T12:30:00Z" }
        }));
        let entry = entry(&place).unwrap();
        let shown_to = entry.visible_to.clone().unwrap();
        assert_eq!(&shown_to[..], &[entry.sender, bo]);
        assert_eq!(crate::store::entries::visible_to(&entry.body).unwrap(), Some(shown_to));
        assert!(entry.body.contains(r#""until":"2026-01-02T12:30:00.000Z""#), "{}", entry.body);
    }

    #[test]
    fn what_is_not_as_it_must_be_is_refused_by_field() {
        let place = |location: serde_json::Value| message(serde_json::json!({ "location": location }));
        let refused = [
            (message(serde_json::json!({})), "text"),
            (message(serde_json::json!({ "text": " \n" })), "text"),
            (message(serde_json::json!({ "text": "a\0b" })), "text"),
            (message(serde_json::json!({ "text": "x".repeat(TEXT_BYTES_MAX + 1) })), "text"),
            (message(serde_json::json!({ "text": "x", "reply_to": 0 })), "reply_to"),
            (place(serde_json::json!({ "latitude": 91, "longitude": 0 })), "location"),
            (place(serde_json::json!({ "latitude": 1, "longitude": 0, "scope": "members" })), "location"),
            (
                place(serde_json::json!({ "latitude": 1, "longitude": 0, "until": "2026-01-02T11:59:59Z" })),
                "location",
            ),
            (
                place(serde_json::json!({ "latitude": 1, "longitude": 0, "until": "2026-01-04T12:00:00Z" })),
                "location",
            ),
            (Draft::Edit { target: 0, text: "x".to_owned() }, "target"),
            (Draft::React { target: 1, emoji: String::new(), on: true }, "emoji"),
            (Draft::Delete { target: u64::MAX }, "target"),
        ];
        for (draft, field) in refused {
            assert_eq!(entry(&draft).expect_err("refused").field, field, "{draft:?}");
        }
        for id in ["", "a b", "ä", &"x".repeat(65)] {
            let error = message(serde_json::json!({ "text": "x" }))
                .entry(ConversationId::generate(), UserId::generate(), id, NOON)
                .expect_err("refused");
            assert_eq!(error.field, "client_msg_id", "{id:?}");
        }
    }
}
