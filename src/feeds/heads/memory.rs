//! Heads in this process. No clock, no database: what happens comes in, pages go out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nova_actors::id::{PostId, UserId};

use super::window::Marks;
use super::{Away, Build, HEAD_POSTS, Mark, Part, READERS_MAX, Slice, What};

/// Posts that are remembered for heads being made: some seconds of them.
const RECENT_MAX: usize = 10_000;

/// Heads by reader, and readers by author.
#[derive(Debug, Default)]
pub struct Heads(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    heads: HashMap<UserId, Head>,
    readers: HashMap<UserId, HashSet<UserId>>,
    /// The number of the first of `recent`.
    first: u64,
    recent: VecDeque<(UserId, PostId, bool)>,
    builds: HashMap<UserId, u64>,
    count: u64,
}

#[derive(Debug)]
struct Head {
    /// The oldest first.
    ids: Vec<PostId>,
    /// Nothing is missing at all, not only above the oldest.
    is_whole: bool,
    authors: Vec<UserId>,
    used: u64,
}

impl Heads {
    /// Up to so many posts below `after`; `None` without a head.
    pub fn slice(&self, reader: UserId, after: Option<PostId>, rows: usize) -> Option<Slice> {
        let mut inner = self.lock();
        inner.count += 1;
        let now = inner.count;
        let head = inner.heads.get_mut(&reader)?;
        head.used = now;
        let end = after.map_or(head.ids.len(), |after| head.ids.partition_point(|id| *id < after));
        let ids = head.ids.get(..end).unwrap_or_default().iter().rev().take(rows).copied().collect();
        Some(Slice { ids, is_whole: head.is_whole })
    }

    /// Begins to make the head of a reader; what is posted from now on will be in it.
    pub fn begin(&self, reader: UserId) -> Build {
        let mut inner = self.lock();
        inner.count += 1;
        let token = inner.count;
        inner.builds.insert(reader, token);
        let since = inner.first + inner.recent.len() as u64;
        Build { reader, token, since, marks: Marks::default() }
    }

    /// No head is made after all.
    pub fn abandon(&self, build: &Build) {
        let mut inner = self.lock();
        if inner.builds.get(&build.reader) == Some(&build.token) {
            inner.builds.remove(&build.reader);
        }
    }

    /// Makes the head of what was read after [`begin`](Heads::begin): whom the reader follows, themself among them, and their newest posts;
    /// more than [`HEAD_POSTS`] say that there are older ones. `false` when what the reader follows has changed since.
    pub fn fill(&self, build: &Build, authors: Vec<UserId>, ids: Vec<PostId>) -> bool {
        let mut inner = self.lock();
        if inner.builds.get(&build.reader) != Some(&build.token) {
            return false;
        }
        inner.builds.remove(&build.reader);
        let Some(skip) = build.since.checked_sub(inner.first) else { return false };
        let is_whole = ids.len() <= HEAD_POSTS;
        let of: HashSet<_> = authors.iter().copied().collect();
        let mut head = Head { ids, is_whole, authors, used: inner.count };
        head.ids.sort_unstable();
        head.ids.dedup();
        let missed = inner.recent.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        for (author, post, is_private) in missed {
            if of.contains(author) && (!is_private || *author == build.reader) {
                head.put(*post);
            }
        }
        head.trim();
        inner.drop_head(build.reader);
        while inner.heads.len() >= READERS_MAX {
            // Of some, the one that was not read for longest.
            let oldest =
                inner.heads.iter().take(32).min_by_key(|(_, head)| head.used).map(|(reader, _)| *reader);
            let Some(oldest) = oldest else { break };
            inner.drop_head(oldest);
        }
        for author in &head.authors {
            inner.readers.entry(*author).or_default().insert(build.reader);
        }
        inner.heads.insert(build.reader, head);
        true
    }

    /// A post is there; says whose heads it is new in. Told twice is told once.
    pub fn posted(&self, author: UserId, post: PostId, is_private: bool) -> Vec<UserId> {
        let mut new_in = Vec::new();
        let mut inner = self.lock();
        if inner.recent.len() == RECENT_MAX {
            inner.recent.pop_front();
            inner.first += 1;
        }
        inner.recent.push_back((author, post, is_private));
        let Inner { heads, readers, .. } = &mut *inner;
        for reader in readers.get(&author).into_iter().flatten() {
            if is_private && *reader != author {
                continue;
            }
            if let Some(head) = heads.get_mut(reader) {
                if head.put(post) {
                    new_in.push(*reader);
                }
                head.trim();
            }
        }
        new_in
    }

    /// How many heads a post of `author` is in.
    pub fn holding(&self, author: UserId, post: PostId) -> usize {
        let inner = self.lock();
        let holds = |reader: &&UserId| {
            inner.heads.get(reader).is_some_and(|head| head.ids.binary_search(&post).is_ok())
        };
        inner.readers.get(&author).into_iter().flatten().filter(holds).count()
    }

    /// What a reader follows has changed: the head is to be made anew, one being made is void.
    pub fn forget(&self, reader: UserId) {
        let mut inner = self.lock();
        inner.builds.remove(&reader);
        inner.drop_head(reader);
    }

    /// Drops all heads.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.heads.clear();
        inner.readers.clear();
        inner.builds.clear();
    }

    /// A panic under the lock leaves nothing half-done that a head could not be made without: what was inside is dropped.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            self.0.clear_poison();
            let mut inner = poisoned.into_inner();
            *inner = Inner::default();
            inner
        })
    }
}

impl Inner {
    fn drop_head(&mut self, reader: UserId) {
        let Some(head) = self.heads.remove(&reader) else { return };
        for author in &head.authors {
            if let Some(readers) = self.readers.get_mut(author) {
                readers.remove(&reader);
                if readers.is_empty() {
                    self.readers.remove(author);
                }
            }
        }
    }
}

impl Head {
    /// Says whether it is new there.
    fn put(&mut self, post: PostId) -> bool {
        // What is older than the floor is among what PostgreSQL gives.
        let is_below = !self.is_whole && self.ids.first().is_some_and(|floor| post < *floor);
        if let Err(place) = self.ids.binary_search(&post)
            && !is_below
        {
            self.ids.insert(place, post);
            return true;
        }
        false
    }

    fn trim(&mut self) {
        let over = self.ids.len().saturating_sub(HEAD_POSTS);
        if over > 0 {
            self.ids.drain(..over);
            self.is_whole = false;
        }
    }
}

#[async_trait]
impl super::Heads for Heads {
    async fn slice(&self, reader: UserId, after: Option<PostId>, rows: usize) -> Result<Option<Slice>, Away> {
        Ok(self.slice(reader, after, rows))
    }

    fn begin(&self, reader: UserId) -> Build {
        self.begin(reader)
    }

    fn abandon(&self, build: &Build) {
        self.abandon(build);
    }

    async fn fill(&self, build: &Build, authors: Vec<UserId>, ids: Vec<PostId>) -> Result<bool, Away> {
        Ok(self.fill(build, authors, ids))
    }

    fn posted(&self, author: UserId, post: PostId, is_private: bool) -> Vec<UserId> {
        self.posted(author, post, is_private)
    }

    fn forget(&self, reader: UserId) {
        self.forget(reader);
    }

    fn holding(&self, author: UserId, post: PostId, _is_private: bool) -> usize {
        self.holding(author, post)
    }

    /// Heads begin with the node.
    fn lookback(&self) -> i64 {
        0
    }

    fn starts(&self, _part: Part, _place: i64) {
        self.clear();
    }

    fn heard(&self, _mark: Mark, what: Option<What>) -> Vec<UserId> {
        match what {
            Some(What::Posted { author, post, is_private }) => self.posted(author, post, is_private),
            Some(What::Forget(reader)) => {
                self.forget(reader);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn caught_up(&self, _at_ms: i64) {}

    fn clear(&self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: usize) -> Vec<PostId> {
        (0..n).map(|_| PostId::generate()).collect()
    }

    #[test]
    fn a_head_of_what_somebody_followed_before_is_void() {
        let heads = Heads::default();
        let (ann, bo) = (UserId::generate(), UserId::generate());
        let build = heads.begin(bo);
        heads.forget(bo);
        assert!(!heads.fill(&build, vec![ann], ids(1)));
        let (first, second) = (heads.begin(bo), heads.begin(bo));
        assert!(!heads.fill(&first, vec![ann], ids(1)), "the later one knows more");
        assert!(heads.fill(&second, vec![ann], ids(1)));
        let late = heads.begin(ann);
        for post in ids(RECENT_MAX + 1) {
            heads.posted(ann, post, false);
        }
        assert!(!heads.fill(&late, vec![ann], Vec::new()), "some were forgotten meanwhile");
    }
}
