//! Heads in Redis: they outlive the node that made them, and are the same for all nodes.
//!
//! A head says how far the log was followed for it (its *marks*), and nothing is believed of it beyond that. Every node follows the
//! log itself and remembers its latest events (the window); what a head lacks between its marks and what the node has heard, the node
//! adds when it reads it. So a post is written for nobody, no index of followers must be whole, and there is no owner to fail over.
//! Why a head stays contiguous, whatever happens between any two steps:
//!
//! - **Made**: the marks are taken first, whom the reader follows and their posts are read from PostgreSQL after that. What the log
//!   said up to the marks was committed before, so it is in what was read.
//! - **Read**: the window must reach back to the marks and know the event that stands there (another database, or one that was
//!   restored from a backup, has another), and what the reader follows must not have changed in the log since. Else the head is void
//!   and made anew.
//! - **Brought forward**, so that the window does not leave it behind: the posts it lacks and new marks, in one step, and only
//!   while it is what was read, by its *generation* (whom the reader follows is one for each) and its marks. Of two nodes one comes too late and
//!   changes nothing.
//! - **Follow, unfollow, mute, block**: the node that was asked believes no head of that reader but one it made after that,
//!   until it has heard the log beyond that moment; the others, and later ones, find it in the log. Nothing has to be deleted in Redis, so
//!   nothing is lost when that fails. The same for posts: whoever was answered sees theirs on this node before the log says it.
//! - **Redis flushed, restarted, or one key of two evicted**: there is no head, and it is made anew. Restarted with old data, or a
//!   replica took over that had not heard of all: the marks are old as well. A node that dies has done all of a step or nothing.
//! - **Redis away or slow**: each call has a limit, half of what the level has, and after five failures none is made for two seconds; pages come
//!   from the next level. What it says that cannot be is no head: it is made anew.

mod script;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use nova_actors::clock::Clock;
use nova_actors::id::{PostId, UserId};
use uuid::Uuid;

use super::super::ladder::Breaker;
use super::watched::{Seen, Watched};
use super::window::{Marks, Window};
use super::{Away, Build, HEAD_POSTS, Mark, Part, Slice, What};
use crate::bus::redis::Bus;
use crate::telemetry::Metrics;
use script::{Keys, Raw, Unread};

/// Events of each part that are heard again at the start: heads that are less far behind are ready then.
const LOOKBACK: i64 = 2_000;
/// A head that is so many events behind in some part is brought forward: half of what a node looks back.
const BEHIND: i64 = LOOKBACK / 2;
/// And one that lacks so many posts, so that they are not added again for each page.
const LACKING: usize = 50;
/// Heads of one round, those that were read last: more would hold up who reads. What falls behind for good is made anew when it is read.
const ROUND_MAX: usize = 1_000;
/// Heads that are brought forward at once; they share round trips.
const AT_ONCE: usize = 64;
/// How long after something was said here the log has said it, when it was heard to its end: longer than anything may wait for its
/// place there.
const TOLD_MS: i64 = 5_000;
/// What was said here and may not be in the log yet; of more posts the oldest, of more readers all are treated as if they had changed
/// what they follow.
const SAID_MAX: usize = 10_000;

/// The heads in a Redis.
#[derive(Clone)]
pub struct Heads(Arc<Shared>);

struct Shared {
    bus: Bus,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// How long one call may take.
    limit: Duration,
    breaker: Breaker,
    is_forwarding: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    window: Window,
    watched: Watched,
    /// Where the log was when heads were last looked through for those that are behind.
    looked: Marks,
    count: u64,
    /// Posts by author that were said here.
    posts: HashMap<UserId, Vec<(PostId, bool)>>,
    /// The same, the oldest first, and when.
    said: VecDeque<(i64, UserId, PostId)>,
    /// Whose heads are not believed.
    barred: HashMap<UserId, Barred>,
    /// Nobody's heads are.
    all_barred: Option<Barred>,
}

/// What a reader follows has changed here, and the log may not say so yet.
#[derive(Debug, Clone, Copy)]
struct Barred {
    /// What began before this number does not know it.
    token: u64,
    at_ms: i64,
    /// The head that was made since.
    made: Option<Uuid>,
}

impl Heads {
    /// Heads in the Redis of the bus; each call may take so long.
    pub fn new(bus: Bus, clock: Arc<dyn Clock>, metrics: Metrics, limit: Duration) -> Heads {
        Heads(Arc::new(Shared {
            bus,
            clock,
            metrics,
            limit,
            breaker: Breaker::default(),
            is_forwarding: AtomicBool::new(false),
            inner: Mutex::default(),
        }))
    }

    /// Reads a head, and adds what it lacks.
    async fn read(&self, reader: UserId, after: Option<PostId>, rows: usize) -> Result<Option<Slice>, Away> {
        let known = self.0.lock().watched.get(reader).map(|seen| seen.generation);
        let Some(raw) = self.0.ask_for(reader, known, after, rows).await? else {
            self.0.count("none");
            return Ok(None);
        };
        let raw = match raw.authors.is_empty() && !self.0.knows(reader, raw.generation) {
            // What was known is forgotten meanwhile.
            true => self.0.ask_for(reader, None, after, rows).await?.filter(|raw| !raw.authors.is_empty()),
            false => Some(raw),
        };
        let slice = raw.and_then(|raw| self.0.lock().judge(reader, raw, after, rows));
        let Some((slice, forward)) = slice else {
            self.0.count("void");
            return Ok(None);
        };
        self.0.count("found");
        if let Some(forward) = forward {
            self.forward(vec![forward]);
        }
        Ok(Some(slice))
    }

    /// Brings heads forward, beside whoever found that they are behind; one such round at a time, the next finds the rest.
    fn forward(&self, heads: Vec<Forward>) {
        if heads.is_empty() || self.0.is_forwarding.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = self.0.clone();
        tokio::spawn(async move {
            let _done = Done(&shared.is_forwarding);
            let each = futures_util::stream::iter(heads).map(|head| shared.bring(head));
            each.buffer_unordered(AT_ONCE).collect::<()>().await;
        });
    }
}

/// Lets the next round begin, however this one ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What is to be written to a head.
struct Forward {
    reader: UserId,
    generation: Uuid,
    from: Marks,
    to: Marks,
    /// The newest, and one more than a head holds, so that one that is full then knows that it is not whole.
    posts: Vec<PostId>,
}

impl Forward {
    fn new(reader: UserId, generation: Uuid, marks: (Marks, Marks), mut posts: Vec<PostId>) -> Forward {
        posts.sort_unstable_by(|one, other| other.cmp(one));
        posts.dedup();
        posts.truncate(HEAD_POSTS + 1);
        Forward { reader, generation, from: marks.0, to: marks.1, posts }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            self.inner.clear_poison();
            let mut inner = poisoned.into_inner();
            // Without a window no head is believed until the log goes on.
            *inner = Inner::default();
            inner
        })
    }

    fn count(&self, outcome: &str) {
        self.metrics.feed_heads_redis.with_label_values(&[outcome]).inc();
    }

    fn now_ms(&self) -> i64 {
        crate::events::millis(self.clock.now())
    }

    fn knows(&self, reader: UserId, generation: Uuid) -> bool {
        self.lock().watched.get(reader).is_some_and(|seen| seen.generation == generation)
    }

    /// Asks Redis, unless it failed too often of late.
    async fn ask<T>(
        &self,
        command: impl AsyncFnOnce(&mut redis::aio::MultiplexedConnection) -> Result<T, redis::RedisError>,
    ) -> Result<T, Away> {
        if !self.breaker.lets(self.now_ms()) {
            self.count("left_alone");
            return Err(Away);
        }
        match self.bus.command(self.limit, command).await {
            Ok(Ok(answer)) => {
                self.breaker.closed();
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Away {
        tracing::debug!(%error, "heads are not read or written");
        self.breaker.failed(self.now_ms());
        self.count("away");
        Away
    }

    async fn ask_for(
        &self,
        reader: UserId,
        known: Option<Uuid>,
        after: Option<PostId>,
        rows: usize,
    ) -> Result<Option<Raw>, Away> {
        let keys = Keys::of(self.bus.namespace(), reader);
        let read = async |connection: &mut redis::aio::MultiplexedConnection| match script::read(
            connection, &keys, known, after, rows,
        )
        .await
        {
            Ok(raw) => Ok(Some(raw)),
            Err(Unread::Lie) => Ok(None),
            Err(Unread::Redis(error)) => Err(error),
        };
        let raw = self.ask(read).await?;
        Ok(raw.unwrap_or_else(|| {
            self.count("lie");
            None
        }))
    }

    async fn bring(&self, head: Forward) {
        let keys = Keys::of(self.bus.namespace(), head.reader);
        let Forward { generation, from, to, posts, .. } = &head;
        let brought = self
            .ask(async |connection| script::forward(connection, &keys, *generation, (from, to), posts).await)
            .await;
        match brought {
            Ok(true) => {
                self.count("forwarded");
                self.lock().watched.forwarded(head.reader, head.generation, head.to);
            }
            // It is another by now, and whoever reads it finds that.
            Ok(false) => self.count("outrun"),
            // It stays where it was.
            Err(Away) => {}
        }
    }
}

impl Inner {
    fn is_believed(&self, reader: UserId, generation: Uuid) -> bool {
        self.all_barred.is_none()
            && self.barred.get(&reader).is_none_or(|barred| barred.made == Some(generation))
    }

    /// Whether what began with this number knows whom the reader follows.
    fn knows_all(&self, reader: UserId, token: u64) -> bool {
        let before = |barred: &Barred| barred.token < token;
        self.all_barred.as_ref().is_none_or(before) && self.barred.get(&reader).is_none_or(before)
    }

    /// A head as it was read with all it lacks, and what is to be written to it if that is much. `None` when it is void.
    fn judge(
        &mut self,
        reader: UserId,
        raw: Raw,
        after: Option<PostId>,
        rows: usize,
    ) -> Option<(Slice, Option<Forward>)> {
        if !self.is_believed(reader, raw.generation) || !self.window.covers(reader, &raw.marks) {
            return None;
        }
        let authors: Arc<[UserId]> = match raw.authors.is_empty() {
            true => {
                let seen = self.watched.get(reader).filter(|seen| seen.generation == raw.generation)?;
                seen.authors.clone()
            }
            false => raw.authors.into(),
        };
        let Raw { generation, is_whole, marks, floor, mut ids, .. } = raw;
        let lacks = self.window.since(reader, &authors, &marks);
        let said = authors.iter().flat_map(|author| {
            let posts = self.posts.get(author).into_iter().flatten();
            posts.filter(move |(_, is_private)| !is_private || *author == reader).map(|(post, _)| *post)
        });
        let floor = floor.filter(|_| !is_whole);
        // What is older than the floor is among what PostgreSQL gives.
        let is_here = |post: &PostId| {
            floor.is_none_or(|floor| floor <= *post) && after.is_none_or(|after| *post < after)
        };
        ids.extend(lacks.iter().copied().chain(said).filter(is_here));
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        ids.truncate(rows);
        let here = self.window.marks();
        let is_behind = lacks.len() >= LACKING || marks.behind(&here) >= BEHIND;
        let forward = is_behind.then(|| Forward::new(reader, generation, (marks.clone(), here), lacks));
        self.watched.see(reader, generation, authors, marks, floor);
        if after.is_none() {
            self.watched.shown(reader, ids.first().copied());
        }
        Some((Slice { ids, is_whole }, forward))
    }

    /// Heads of readers of this node that are behind.
    fn behind(&mut self) -> Vec<Forward> {
        let here = self.window.marks();
        if self.looked.behind(&here) < BEHIND / 2 {
            return Vec::new();
        }
        self.looked = here.clone();
        let is_behind = |(reader, seen): &(UserId, &Seen)| {
            seen.marks.behind(&here) >= BEHIND / 2 && self.window.covers(*reader, &seen.marks)
        };
        let mut heads: Vec<_> = self.watched.all().filter(is_behind).collect();
        heads.sort_unstable_by_key(|(_, seen)| std::cmp::Reverse(seen.used));
        let forward = heads.into_iter().take(ROUND_MAX).map(|(reader, seen)| {
            let lacks = self.window.since(reader, &seen.authors, &seen.marks);
            Forward::new(reader, seen.generation, (seen.marks.clone(), here.clone()), lacks)
        });
        forward.collect()
    }
}

#[async_trait]
impl super::Heads for Heads {
    async fn slice(&self, reader: UserId, after: Option<PostId>, rows: usize) -> Result<Option<Slice>, Away> {
        self.read(reader, after, rows).await
    }

    fn begin(&self, reader: UserId) -> Build {
        let mut inner = self.0.lock();
        inner.count += 1;
        Build { reader, token: inner.count, since: 0, marks: inner.window.marks() }
    }

    fn abandon(&self, _build: &Build) {}

    async fn fill(&self, build: &Build, authors: Vec<UserId>, mut ids: Vec<PostId>) -> Result<bool, Away> {
        let is_whole = ids.len() <= HEAD_POSTS;
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        ids.truncate(HEAD_POSTS);
        let (reader, generation) = (build.reader, Uuid::now_v7());
        if !self.0.lock().knows_all(reader, build.token) {
            return Ok(false);
        }
        let raw = Raw {
            generation,
            is_whole,
            marks: build.marks.clone(),
            floor: ids.last().copied(),
            authors,
            ids,
        };
        let keys = Keys::of(self.0.bus.namespace(), reader);
        self.0.ask(async |connection| script::write(connection, &keys, &raw).await).await?;
        self.0.count("made");
        let mut inner = self.0.lock();
        // It may have changed while Redis was asked: then what stands there is not believed.
        if !inner.knows_all(reader, build.token) {
            return Ok(false);
        }
        if let Some(barred) = inner.barred.get_mut(&reader) {
            barred.made = Some(generation);
        }
        let floor = raw.floor.filter(|_| !is_whole);
        inner.watched.see(reader, generation, raw.authors.into(), raw.marks, floor);
        Ok(true)
    }

    fn posted(&self, author: UserId, post: PostId, is_private: bool) -> Vec<UserId> {
        let now = self.0.now_ms();
        let mut inner = self.0.lock();
        inner.posts.entry(author).or_default().push((post, is_private));
        inner.said.push_back((now, author, post));
        while inner.said.len() > SAID_MAX {
            inner.unsay();
        }
        inner.watched.posted(author, post, is_private)
    }

    fn forget(&self, reader: UserId) {
        let at_ms = self.0.now_ms();
        let mut inner = self.0.lock();
        inner.count += 1;
        let barred = Barred { token: inner.count, at_ms, made: None };
        inner.watched.forget(reader);
        if inner.barred.len() < SAID_MAX || inner.barred.contains_key(&reader) {
            inner.barred.insert(reader, barred);
        } else {
            inner.all_barred = Some(barred);
        }
    }

    fn holding(&self, author: UserId, post: PostId, is_private: bool) -> usize {
        self.0.lock().watched.holding(author, post, is_private)
    }

    fn lookback(&self) -> i64 {
        LOOKBACK
    }

    fn starts(&self, part: Part, place: i64) {
        self.0.lock().window.starts(part, place);
    }

    fn heard(&self, mark: Mark, what: Option<What>) -> Vec<UserId> {
        let mut inner = self.0.lock();
        if !inner.window.hear(mark, what) {
            return Vec::new();
        }
        match what {
            Some(What::Posted { author, post, is_private }) => inner.watched.posted(author, post, is_private),
            Some(What::Forget(reader)) => {
                inner.watched.forget(reader);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn caught_up(&self, at_ms: i64) {
        let mut inner = self.0.lock();
        let until = at_ms - TOLD_MS;
        while inner.said.front().is_some_and(|(at, ..)| *at <= until) {
            inner.unsay();
        }
        inner.barred.retain(|_, barred| barred.at_ms > until);
        inner.all_barred = inner.all_barred.filter(|barred| barred.at_ms > until);
        let behind = inner.behind();
        drop(inner);
        self.forward(behind);
    }

    fn clear(&self) {
        let mut inner = self.0.lock();
        inner.watched = Watched::default();
    }
}

impl Inner {
    /// Forgets the oldest post that was said here.
    fn unsay(&mut self) {
        let Some((_, author, post)) = self.said.pop_front() else { return };
        if let Some(posts) = self.posts.get_mut(&author) {
            if let Some(nth) = posts.iter().position(|(of, _)| *of == post) {
                posts.remove(nth);
            }
            if posts.is_empty() {
                self.posts.remove(&author);
            }
        }
    }
}
