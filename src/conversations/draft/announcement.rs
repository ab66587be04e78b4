//! Entries of the engine's own making: what it says in a conversation when something about it has changed.

use nova_actors::call::Call;
use nova_actors::conversation::{EntryKind, NewEntry, Role};
use nova_actors::id::{ConversationId, UserId};

use super::hash;
use crate::store::members::Change;

/// What the engine says about a change of members.
pub fn member_entry(conversation: ConversationId, actor: UserId, change: Change) -> NewEntry {
    let body = match change {
        Change::Added(user, role) => {
            serde_json::json!({ "action": "added", "user": user, "role": role.as_str() })
        }
        Change::Role(user, role) => {
            serde_json::json!({ "action": "role", "user": user, "role": role.as_str() })
        }
        Change::Removed(user) => serde_json::json!({ "action": "removed", "user": user }),
        Change::Left(user, None) => serde_json::json!({ "action": "left", "user": user }),
        Change::Left(user, Some(owner)) => {
            serde_json::json!({ "action": "left", "user": user, "owner": owner })
        }
    };
    own(conversation, actor, EntryKind::Member, &body)
}

/// The first entry of a group.
pub fn created_entry(
    conversation: ConversationId,
    owner: UserId,
    others: &[UserId],
    title: Option<&str>,
) -> NewEntry {
    let mut body = serde_json::json!({ "action": "created", "users": others, "role": Role::Member.as_str() });
    if let (Some(title), Some(body)) = (title, body.as_object_mut()) {
        body.insert("title".to_owned(), title.into());
    }
    own(conversation, owner, EntryKind::Member, &body)
}

/// The title of a group changed, or how long it keeps entries: what changed stands in it, `null` where it was taken away.
pub fn title_entry(
    conversation: ConversationId,
    actor: UserId,
    title: Option<Option<&str>>,
    retention_s: Option<Option<i64>>,
) -> NewEntry {
    let mut body = serde_json::Map::new();
    if let Some(title) = title {
        body.insert("title".to_owned(), title.into());
    }
    if let Some(retention_s) = retention_s {
        body.insert("retention_s".to_owned(), retention_s.into());
    }
    own(conversation, actor, EntryKind::Title, &body.into())
}

/// How a call of a conversation is now.
pub fn call_entry(call: &Call) -> NewEntry {
    let mut body = serde_json::json!({
        "call": call.id, "room": call.room, "media": call.media.as_str(), "state": call.state.as_str(),
    });
    if let Some(body) = body.as_object_mut() {
        if let Some(outcome) = call.state.outcome() {
            body.insert("outcome".to_owned(), outcome.as_str().into());
        }
        if let Some((user, _)) = call.answered_by {
            body.insert("answered_by".to_owned(), user.to_string().into());
        }
        if let Some(talked) = call.talked_for() {
            body.insert("duration_s".to_owned(), talked.as_secs().into());
        }
    }
    own(call.conversation, call.caller, EntryKind::Call, &body)
}

/// What a moderator did in the chat of a stream.
pub fn moderated_entry(conversation: ConversationId, actor: UserId, what: &serde_json::Value) -> NewEntry {
    own(conversation, actor, EntryKind::Live, what)
}

/// An entry of the engine's own making; its key is new, because it is written in the transaction that makes it true.
fn own(conversation: ConversationId, sender: UserId, kind: EntryKind, body: &serde_json::Value) -> NewEntry {
    let body = body.to_string();
    NewEntry {
        conversation,
        sender,
        kind,
        client_msg_id: format!("nova-{}", uuid::Uuid::now_v7().simple()).into(),
        content_hash: hash(kind, &body),
        target: None,
        body: body.into(),
        visible_to: None,
    }
}
