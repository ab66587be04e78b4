//! Who wants to know of whom, on this node.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use nova_actors::id::{ConversationId, NodeId, SessionId, UserId};
use nova_actors::presence::{Presence, Settings};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::chat::seam::DeviceHandle;
use crate::chat::wire::Counted;

/// What is known, and who wants to know it.
pub(super) struct Desk {
    pub(super) presence: Presence,
    pub(super) watchers: HashMap<SessionId, Watcher>,
    /// Who watches somebody, whether they are shown or not.
    pub(super) watched: HashMap<UserId, HashSet<SessionId>>,
    pub(super) counted: HashMap<ConversationId, Count>,
    /// Changes a worker was too busy for: what is true by then is told with the next tick.
    pub(super) again: HashSet<UserId>,
    pub(super) unwritten: BTreeMap<UserId, OffsetDateTime>,
}

/// A device that watches.
pub(super) struct Watcher {
    pub(super) device: DeviceHandle,
    /// Whom, and whether they are shown.
    pub(super) users: HashMap<UserId, bool>,
    pub(super) conversations: Vec<ConversationId>,
    /// Its requests take turns.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

/// A conversation that is counted.
pub(super) struct Count {
    pub(super) watchers: usize,
    pub(super) members: Arc<[UserId]>,
    pub(super) read_at: Option<Instant>,
    pub(super) online: u64,
}

impl Desk {
    pub(super) fn new(node: NodeId, settings: Settings) -> Desk {
        Desk {
            presence: Presence::new(node, settings),
            watchers: HashMap::new(),
            watched: HashMap::new(),
            counted: HashMap::new(),
            again: HashSet::new(),
            unwritten: BTreeMap::new(),
        }
    }

    pub(super) fn turn(&mut self, device: &DeviceHandle) -> Arc<tokio::sync::Mutex<()>> {
        // Of one that has left nothing is kept.
        if !self.presence.has(device.user(), device.session()) {
            return Arc::default();
        }
        let new = || Watcher {
            device: device.clone(),
            users: HashMap::new(),
            conversations: Vec::new(),
            turn: Arc::default(),
        };
        self.watchers.entry(device.session()).or_insert_with(new).turn.clone()
    }

    /// Notes whom a device watches: who is not watched any more and was shown, and who is new.
    pub(super) fn want(
        &mut self,
        session: SessionId,
        wanted: &HashSet<UserId>,
    ) -> (Vec<UserId>, Vec<UserId>) {
        let Some(watcher) = self.watchers.get_mut(&session) else { return Default::default() };
        let (mut dropped, mut shown) = (Vec::new(), Vec::new());
        watcher.users.retain(|user, is_shown| {
            if wanted.contains(user) {
                return true;
            }
            dropped.push(*user);
            if *is_shown {
                shown.push(*user);
            }
            false
        });
        let mut added = Vec::new();
        for user in wanted {
            // Whoever is watched but hidden is looked at again.
            if !*watcher.users.entry(*user).or_insert(false) {
                added.push(*user);
                self.watched.entry(*user).or_default().insert(session);
            }
        }
        for user in dropped {
            self.unwatch(user, session);
        }
        (shown, added)
    }

    pub(super) fn unwatch(&mut self, user: UserId, session: SessionId) {
        if let Some(sessions) = self.watched.get_mut(&user) {
            sessions.remove(&session);
            if sessions.is_empty() {
                self.watched.remove(&user);
            }
        }
    }

    pub(super) fn count_for(&mut self, session: SessionId, wanted: Vec<ConversationId>, counted: &[Counted]) {
        let Some(watcher) = self.watchers.get_mut(&session) else { return };
        for Counted { conversation, online } in counted {
            let new = || Count { watchers: 0, members: Arc::default(), read_at: None, online: *online };
            self.counted.entry(*conversation).or_insert_with(new).watchers += 1;
        }
        let before = std::mem::replace(&mut watcher.conversations, wanted);
        self.stop_counting(before);
    }

    pub(super) fn stop_counting(&mut self, conversations: Vec<ConversationId>) {
        for conversation in conversations {
            if let Some(count) = self.counted.get_mut(&conversation) {
                count.watchers -= 1;
                if count.watchers == 0 {
                    self.counted.remove(&conversation);
                }
            }
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        let Some(watcher) = self.watchers.remove(&session) else { return };
        for user in watcher.users.into_keys() {
            self.unwatch(user, session);
        }
        self.stop_counting(watcher.conversations);
    }
}
