//! Readers whose heads in Redis this node has seen, and whom they follow: who is told of a post here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nova_actors::id::{PostId, UserId};
use uuid::Uuid;

use super::READERS_MAX;
use super::window::Marks;

/// Heads by reader, readers by author; the one that was not read for longest goes.
#[derive(Debug, Default)]
pub(super) struct Watched {
    heads: HashMap<UserId, Seen>,
    readers: HashMap<UserId, HashSet<UserId>>,
    count: u64,
}

/// What is known of a head.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Which head of the reader it is.
    pub(super) generation: Uuid,
    pub(super) authors: Arc<[UserId]>,
    /// How far it was followed when it was seen.
    pub(super) marks: Marks,
    /// The oldest post, when there are others below.
    pub(super) floor: Option<PostId>,
    /// The newest the reader was told of or shown.
    newest: Option<PostId>,
    /// The higher, the later it was read.
    pub(super) used: u64,
}

impl Watched {
    /// What is known of the head of a reader.
    pub(super) fn get(&self, reader: UserId) -> Option<&Seen> {
        self.heads.get(&reader)
    }

    /// A head was seen.
    pub(super) fn see(
        &mut self,
        reader: UserId,
        generation: Uuid,
        authors: Arc<[UserId]>,
        marks: Marks,
        floor: Option<PostId>,
    ) {
        self.count += 1;
        let used = self.count;
        if let Some(seen) = self.heads.get_mut(&reader).filter(|seen| seen.generation == generation) {
            (seen.marks, seen.floor, seen.used) = (marks, floor, used);
            return;
        }
        let newest = self.heads.get(&reader).and_then(|seen| seen.newest);
        self.forget(reader);
        while self.heads.len() >= READERS_MAX {
            let oldest =
                self.heads.iter().take(32).min_by_key(|(_, seen)| seen.used).map(|(reader, _)| *reader);
            let Some(oldest) = oldest else { break };
            self.forget(oldest);
        }
        for author in authors.iter() {
            self.readers.entry(*author).or_default().insert(reader);
        }
        self.heads.insert(reader, Seen { generation, authors, marks, floor, newest, used });
    }

    /// A head was brought forward.
    pub(super) fn forwarded(&mut self, reader: UserId, generation: Uuid, marks: Marks) {
        if let Some(seen) = self.heads.get_mut(&reader).filter(|seen| seen.generation == generation) {
            seen.marks = marks;
        }
    }

    /// The reader was shown posts down from this one.
    pub(super) fn shown(&mut self, reader: UserId, newest: Option<PostId>) {
        if let Some(seen) = self.heads.get_mut(&reader) {
            seen.newest = seen.newest.max(newest);
        }
    }

    /// A post is there: says to whom that is news.
    pub(super) fn posted(&mut self, author: UserId, post: PostId, is_private: bool) -> Vec<UserId> {
        let Watched { heads, readers, .. } = self;
        let mut news = Vec::new();
        for reader in readers.get(&author).into_iter().flatten() {
            if (!is_private || *reader == author)
                && let Some(seen) = heads.get_mut(reader)
                && seen.newest.is_none_or(|newest| newest < post)
            {
                seen.newest = Some(post);
                news.push(*reader);
            }
        }
        news
    }

    /// In how many heads a post is.
    pub(super) fn holding(&self, author: UserId, post: PostId, is_private: bool) -> usize {
        let holds = |reader: &&UserId| {
            (!is_private || **reader == author)
                && self.heads.get(reader).is_some_and(|seen| seen.floor.is_none_or(|floor| floor <= post))
        };
        self.readers.get(&author).into_iter().flatten().filter(holds).count()
    }

    /// The head of a reader is to be made anew.
    pub(super) fn forget(&mut self, reader: UserId) {
        let Some(seen) = self.heads.remove(&reader) else { return };
        for author in seen.authors.iter() {
            if let Some(readers) = self.readers.get_mut(author) {
                readers.remove(&reader);
                if readers.is_empty() {
                    self.readers.remove(author);
                }
            }
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (UserId, &Seen)> {
        self.heads.iter().map(|(reader, seen)| (*reader, seen))
    }
}
