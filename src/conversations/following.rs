//! Which device follows which conversation on this node.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nova_actors::id::{ConversationId, SessionId};

/// Who follows what on this node.
#[derive(Debug, Default)]
pub(super) struct Following(Mutex<HashMap<SessionId, HashSet<ConversationId>>>);

impl Following {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, HashSet<ConversationId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A device is here, and follows nothing yet.
    pub(super) fn came(&self, session: SessionId) {
        self.lock().insert(session, HashSet::new());
    }

    /// It is not here any more; what it followed.
    pub(super) fn left(&self, session: SessionId) -> HashSet<ConversationId> {
        self.lock().remove(&session).unwrap_or_default()
    }

    /// What it follows.
    pub(super) fn of(&self, session: SessionId) -> HashSet<ConversationId> {
        self.lock().get(&session).cloned().unwrap_or_default()
    }

    /// A device follows a conversation from now on: `false` when it was so already, or the device has left.
    pub(super) fn add(&self, session: SessionId, conversation: ConversationId) -> bool {
        self.lock().get_mut(&session).is_some_and(|follows| follows.insert(conversation))
    }

    /// It follows it no more: `false` when it was not so.
    pub(super) fn remove(&self, session: SessionId, conversation: ConversationId) -> bool {
        self.lock().get_mut(&session).is_some_and(|follows| follows.remove(&conversation))
    }

    /// Whether it is so.
    pub(super) fn has(&self, session: SessionId, conversation: ConversationId) -> bool {
        self.lock().get(&session).is_some_and(|follows| follows.contains(&conversation))
    }
}
