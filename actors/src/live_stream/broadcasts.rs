//! The broadcasts of a node.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::broadcast::Broadcast;
use crate::id::StreamId;

/// The broadcasts of a node, by stream. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Broadcasts(Arc<RwLock<HashMap<StreamId, Arc<Broadcast>>>>);

impl Broadcasts {
    /// The broadcast of a stream, while it is on the air and for a while after.
    #[must_use]
    pub fn of(&self, stream: StreamId) -> Option<Arc<Broadcast>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Broadcast>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn put(&self, broadcast: Arc<Broadcast>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(broadcast.stream(), broadcast);
    }

    /// Removes this broadcast, unless another has taken its place.
    pub(super) fn remove(&self, broadcast: &Arc<Broadcast>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.get(&broadcast.stream()).is_some_and(|there| Arc::ptr_eq(there, broadcast)) {
            all.remove(&broadcast.stream());
        }
    }
}

#[cfg(test)]
mod tests {
    use nova_media::hls::Settings;

    use super::*;

    #[test]
    fn only_the_broadcast_that_is_there_is_removed() {
        let (all, stream) = (Broadcasts::default(), StreamId::generate());
        let make = |name: &str| Arc::new(Broadcast::new(stream, name.into(), Settings::default()));
        let (old, new) = (make("a"), make("b"));
        all.put(Arc::clone(&old));
        all.put(Arc::clone(&new));
        all.remove(&old);
        assert!(all.of(stream).is_some_and(|there| Arc::ptr_eq(&there, &new)));
        all.remove(&new);
        assert!(all.of(stream).is_none());
    }
}
