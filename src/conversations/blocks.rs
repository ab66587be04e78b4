//! Who does not see whom: the blocks of those who are here, remembered for as long as they hold.
//!
//! A block works both ways for everything that is shown without being said: presence, typing, receipts. The table of blocks is the truth;
//! this is a copy for what is too quick and too frequent to ask it every time, forgotten on every node when it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nova_actors::id::UserId;
use quick_cache::sync::Cache;

use crate::store::{Store, StoreError};

/// Users whose blocks are remembered; most have none, and then it is a few bytes. When full the one not asked for longest is read again.
const REMEMBERED_MAX: usize = 65_536;

/// Blocks, by user. Cheap to clone.
#[derive(Clone)]
pub struct Blocks(Arc<Inner>);

struct Inner {
    store: Store,
    known: Cache<UserId, Arc<[UserId]>>,
    /// Grows when anything is forgotten: what was read before is not remembered after.
    version: AtomicU64,
}

impl Blocks {
    /// Of nobody yet.
    pub fn new(store: Store) -> Blocks {
        Blocks(Arc::new(Inner { store, known: Cache::new(REMEMBERED_MAX), version: AtomicU64::new(0) }))
    }

    /// Everybody who has blocked `user` or was blocked by them, in the order of their ids.
    pub async fn of(&self, user: UserId) -> Result<Arc<[UserId]>, StoreError> {
        if let Some(known) = self.0.known.get(&user) {
            return Ok(known);
        }
        let version = self.0.version.load(Ordering::SeqCst);
        let mut blocks = self.0.store.blocks_of(user).await?;
        blocks.sort_unstable();
        let blocks: Arc<[UserId]> = blocks.into();
        self.0.known.insert(user, blocks.clone());
        if self.0.version.load(Ordering::SeqCst) != version {
            self.0.known.remove(&user);
        }
        Ok(blocks)
    }

    /// As [`Self::of`], when it is remembered.
    pub fn known(&self, user: UserId) -> Option<Arc<[UserId]>> {
        self.0.known.get(&user)
    }

    /// Something between these two has changed.
    pub fn forget(&self, one: UserId, other: UserId) {
        self.0.version.fetch_add(1, Ordering::SeqCst);
        self.0.known.remove(&one);
        self.0.known.remove(&other);
    }

    /// Anything may have changed.
    pub fn forget_all(&self) {
        self.0.version.fetch_add(1, Ordering::SeqCst);
        self.0.known.clear();
    }
}
