//! Feeds: what somebody reads when they come, whatever is broken.
//!
//! | file | what it settles |
//! |---|---|
//! | [`heads`] | the newest posts of readers, kept in this process |
//! | [`tail`] | how heads hear what happens: they follow the event log |
//! | [`rank`] | the order of a ranked feed, as plain numbers |
//!
//! # The ladder
//!
//! A page comes from the first level that can give it in its time, and says which: `engagement` (ranked by [`rank`]), `newest` (from
//! the head of the reader), `database` (straight from PostgreSQL), `last_good` (what this reader was shown before). The answer is 200 always.
//! Whatever the level, posts are read from PostgreSQL in the moment they are shown, by the one query that knows who may read what;
//! only the last level shows what is kept, and only while PostgreSQL is away, when nobody can block or delete anything either.
//!
//! # Decisions
//!
//! - **Heads live where they are read, and follow the log.** The plan was lists in Redis, written for each follower by whoever consumes
//!   a post, with authors too large for that read apart. A node that follows the log itself needs none of it: it knows which of *its*
//!   readers follow an author, so a post costs as many writes as there are readers here now, without a query for followers, without
//!   giants, without a lease, and the same with one node as with ten. A node that starts has no heads and makes each at the
//!   reader's first page.
//! - **A head is contiguous**: everything the reader may see above its floor is in it. What is below comes from PostgreSQL.
//! - **Follow, unfollow, mute and block drop the head**; the next page makes it again in one query. At once on the node that was asked,
//!   with the log on the others.
//! - **A ranked page is a snapshot**: the order is kept for fifteen minutes under the cursor, so pages never repeat a post, while what
//!   they show is read anew.

pub mod heads;
pub mod rank;
pub mod tail;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use nova_actors::clock::Clock;
use nova_actors::id::{PostId, UserId};
use quick_cache::sync::Cache;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::store::posts::Post;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use heads::Heads;

/// How long a page from a head may take.
const HEAD_MAX: Duration = Duration::from_secs(2);
/// How long a page straight from PostgreSQL may take.
const DATABASE_MAX: Duration = Duration::from_secs(3);
/// A head that has not heard from the log for this long may lack posts, and is not shown.
const STALE_MS: i64 = 5_000;
/// Failures in a row after which PostgreSQL is left alone for a while.
const BREAKER_FAILURES: u32 = 5;
/// How long it is left alone.
const BREAKER_OPEN_MS: i64 = 2_000;
/// Readers whose last page is kept.
const LAST_GOOD_MAX: usize = 10_000;
/// Posts in a head, and candidates of a ranked page.
pub const HEAD_POSTS: usize = 400;
/// Times a page is filled up when posts in it are not for the reader any more.
const ROUNDS: usize = 5;

/// What gave a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Ranked by age and engagement.
    Engagement,
    /// The newest, from the head.
    Newest,
    /// The newest, straight from PostgreSQL.
    Database,
    /// What the reader was shown before.
    LastGood,
}

impl Level {
    /// As the API and the metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Engagement => "engagement",
            Level::Newest => "newest",
            Level::Database => "database",
            Level::LastGood => "last_good",
        }
    }
}

/// A page of a feed.
#[derive(Debug, Clone)]
pub struct Page {
    /// What is shown.
    pub posts: Vec<Post>,
    /// Where the next page goes on; none at the end.
    pub next: Option<Place>,
    /// What gave it.
    pub level: Level,
    /// Why no better level did.
    pub reason: Option<&'static str>,
    /// Everything committed before is in it.
    pub fresh_as_of: OffsetDateTime,
}

/// A place in a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Place {
    /// Below this post; a page of the newest.
    Below(PostId),
    /// So far in this snapshot; a page that was ranked.
    In(Uuid, u16),
}

impl Place {
    /// Above everything.
    fn top() -> Place {
        Place::Below(PostId::from_uuid(Uuid::max()))
    }
}

/// The feeds of this node's readers.
pub struct Feeds {
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    heads: Heads,
    /// When the log was last read to its end, in milliseconds.
    heard_ms: AtomicI64,
    failures: AtomicU32,
    closed_until_ms: AtomicI64,
    last_good: Cache<UserId, Arc<Page>>,
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").finish_non_exhaustive()
    }
}

impl Feeds {
    /// Feeds without heads; [`tail::follow`] keeps them.
    pub fn new(store: Store, clock: Arc<dyn Clock>, metrics: Metrics) -> Feeds {
        Feeds {
            store,
            clock,
            metrics,
            heads: Heads::default(),
            heard_ms: AtomicI64::new(i64::MIN),
            failures: AtomicU32::new(0),
            closed_until_ms: AtomicI64::new(i64::MIN),
            last_good: Cache::new(LAST_GOOD_MAX),
        }
    }

    /// A post of `author` is there, for others too or for them alone: whoever was answered sees it on their next page.
    pub fn posted(&self, author: UserId, post: PostId, is_private: bool) {
        self.heads.posted(author, post, is_private);
    }

    /// What `reader` follows has changed.
    pub fn forget(&self, reader: UserId) {
        self.heads.forget(reader);
        self.last_good.remove(&reader);
    }

    /// Drops every head, as a node that starts has none.
    pub fn forget_all(&self) {
        self.heads.clear();
    }

    /// The page of the newest after a place.
    pub async fn latest(&self, reader: UserId, after: Option<PostId>, limit: usize) -> Page {
        let reason = match self.first(reader, after, limit).await {
            Ok(page) => return self.give(reader, after.is_none(), page),
            Err(reason) => reason,
        };
        if reason != "breaker_open" {
            let page = self.page_of_database(reader, after, limit, Some(reason));
            if let Some(page) = self.in_time(DATABASE_MAX, page).await {
                return self.give(reader, after.is_none(), page);
            }
        }
        self.kept(reader, after.map(Place::Below), reason)
    }

    /// The ranked page at a place: the first makes the snapshot, the others read it. `None` when the snapshot is gone.
    pub async fn ranked(&self, reader: UserId, at: Option<(Uuid, u16)>, limit: usize) -> Option<Page> {
        if !self.is_closed() {
            let page = self.in_snapshot(reader, at, limit);
            match self.in_time(HEAD_MAX, page).await {
                Some(Some(page)) => return Some(self.give(reader, at.is_none(), page)),
                Some(None) => return None,
                None => {}
            }
        }
        match at {
            // Without an order there is still the newest.
            None => Some(self.latest(reader, None, limit).await),
            Some((snapshot, offset)) => {
                Some(self.kept(reader, Some(Place::In(snapshot, offset)), "ranking_away"))
            }
        }
    }

    /// Posts in this order as `reader` sees them, from everybody.
    pub async fn discover(&self, reader: UserId, after: Option<PostId>, limit: usize) -> Page {
        let page = async {
            let now = self.clock.now();
            let ids = self.store.discover_ids(reader, after, limit as i64 + 1).await?;
            let more = ids.len() > limit;
            let shown: Vec<_> = ids.into_iter().take(limit).collect();
            let next = shown.last().filter(|_| more).map(|id| Place::Below(*id));
            let posts = self.store.posts_shown(reader, &shown).await?;
            Ok(Page { posts, next, level: Level::Database, reason: None, fresh_as_of: now })
        };
        match self.in_time(DATABASE_MAX, page).await {
            Some(page) => {
                self.metrics.feed_pages.with_label_values(&[page.level.as_str()]).inc();
                page
            }
            None => {
                let next = Some(after.map_or(Place::top(), Place::Below));
                let fresh_as_of = self.clock.now();
                let reason = Some("database_away");
                Page { posts: Vec::new(), next, level: Level::LastGood, reason, fresh_as_of }
            }
        }
    }

    /// From the head; made first when there is none.
    async fn first(&self, reader: UserId, after: Option<PostId>, limit: usize) -> Result<Page, &'static str> {
        if self.is_closed() {
            return Err("breaker_open");
        }
        if !self.is_fresh() {
            return Err("log_behind");
        }
        let page = async {
            if !self.heads.has(reader) && !self.make_head(reader).await? {
                return Ok(None);
            }
            self.page_of_head(reader, after, limit).await
        };
        match self.in_time(HEAD_MAX, page).await {
            Some(Some(page)) => Ok(page),
            Some(None) => Err("no_head"),
            None => Err("head_away"),
        }
    }

    /// Makes the head of a reader; `false` when they follow too many, or what they follow changed meanwhile.
    async fn make_head(&self, reader: UserId) -> Result<bool, StoreError> {
        let build = self.heads.begin(reader);
        let authors = self.store.feed_authors(reader, heads::AUTHORS_MAX as i64 + 1).await?;
        if authors.len() > heads::AUTHORS_MAX {
            self.heads.abandon(&build);
            return Ok(false);
        }
        let ids = self.store.head_ids(reader, &authors, HEAD_POSTS as i64 + 1).await?;
        self.metrics.feed_heads_made.inc();
        Ok(self.heads.fill(&build, authors, ids))
    }

    async fn page_of_head(
        &self,
        reader: UserId,
        after: Option<PostId>,
        limit: usize,
    ) -> Result<Option<Page>, StoreError> {
        let fresh_as_of = self.heard_at();
        let (mut posts, mut level, mut place) = (Vec::new(), Level::Newest, after);
        for _ in 0..ROUNDS {
            let wanted = limit + 1 - posts.len();
            let Some(slice) = self.heads.slice(reader, place, wanted) else { return Ok(None) };
            let mut ids = slice.ids;
            let mut is_end = ids.len() < wanted;
            if is_end && !slice.is_whole {
                // Below the floor of the head.
                level = Level::Database;
                let below = ids.last().copied().or(place);
                let rest = self.store.home_ids(reader, below, (wanted - ids.len()) as i64).await?;
                is_end = rest.len() < wanted - ids.len();
                ids.extend(rest);
            }
            place = ids.last().copied().or(place);
            posts.extend(self.store.posts_shown(reader, &ids).await?);
            if is_end || posts.len() > limit {
                let next =
                    (posts.len() > limit).then(|| posts.get(limit.saturating_sub(1)).map(|post| post.id));
                posts.truncate(limit);
                let next = next.flatten().map(Place::Below);
                return Ok(Some(Page { posts, next, level, reason: None, fresh_as_of }));
            }
        }
        // Much of it was taken away: a short page that goes on.
        Ok(Some(Page { posts, next: place.map(Place::Below), level, reason: None, fresh_as_of }))
    }

    async fn page_of_database(
        &self,
        reader: UserId,
        after: Option<PostId>,
        limit: usize,
        reason: Option<&'static str>,
    ) -> Result<Page, StoreError> {
        let fresh_as_of = self.clock.now();
        let ids = self.store.home_ids(reader, after, limit as i64 + 1).await?;
        let more = ids.len() > limit;
        let shown: Vec<_> = ids.into_iter().take(limit).collect();
        let next = shown.last().filter(|_| more).map(|id| Place::Below(*id));
        let posts = self.store.posts_shown(reader, &shown).await?;
        Ok(Page { posts, next, level: Level::Database, reason, fresh_as_of })
    }

    async fn in_snapshot(
        &self,
        reader: UserId,
        at: Option<(Uuid, u16)>,
        limit: usize,
    ) -> Result<Option<Page>, StoreError> {
        let now = self.clock.now();
        let (snapshot, offset, order) = match at {
            Some((snapshot, offset)) => match self.store.feed_snapshot(snapshot, reader).await? {
                Some(order) => (snapshot, usize::from(offset), order),
                None => return Ok(None),
            },
            None => {
                let candidates = self.store.home_ids(reader, None, HEAD_POSTS as i64).await?;
                let features = self.store.post_features(reader, &candidates).await?;
                let order = rank::order(&features, now);
                (Uuid::now_v7(), 0, order)
            }
        };
        let (mut posts, mut place) = (Vec::new(), offset);
        while posts.len() < limit && place < order.len() {
            let wanted: Vec<_> = order.iter().skip(place).take(limit - posts.len()).copied().collect();
            place += wanted.len();
            posts.extend(self.store.posts_shown(reader, &wanted).await?);
        }
        let more = place < order.len();
        if at.is_none() && more {
            self.store.keep_feed_snapshot(snapshot, reader, &order, now).await?;
        }
        let next = u16::try_from(place).ok().filter(|_| more).map(|place| Place::In(snapshot, place));
        Ok(Some(Page { posts, next, level: Level::Engagement, reason: None, fresh_as_of: now }))
    }

    /// What this reader was shown before, or nothing with a cursor: the last level needs nobody.
    fn kept(&self, reader: UserId, at: Option<Place>, reason: &'static str) -> Page {
        self.metrics.feed_pages.with_label_values(&[Level::LastGood.as_str()]).inc();
        let kept = self.last_good.get(&reader).filter(|_| at.is_none());
        match kept {
            Some(page) => Page { level: Level::LastGood, reason: Some(reason), ..(*page).clone() },
            None => Page {
                posts: Vec::new(),
                next: Some(at.unwrap_or(Place::top())),
                level: Level::LastGood,
                reason: Some(reason),
                fresh_as_of: self.heard_at(),
            },
        }
    }

    fn give(&self, reader: UserId, is_first: bool, page: Page) -> Page {
        self.metrics.feed_pages.with_label_values(&[page.level.as_str()]).inc();
        if is_first {
            self.last_good.insert(reader, Arc::new(page.clone()));
        }
        page
    }

    /// What comes within its time; failures count for the breaker.
    async fn in_time<T>(
        &self,
        most: Duration,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        match timeout(most, work).await {
            Ok(Ok(done)) => {
                self.failures.store(0, Ordering::Relaxed);
                return Some(done);
            }
            Ok(Err(error)) => tracing::debug!(%error, "a page of a feed comes from a lower level"),
            Err(_late) => tracing::debug!("a page of a feed comes from a lower level: it took too long"),
        }
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= BREAKER_FAILURES {
            self.closed_until_ms.store(self.now_ms() + BREAKER_OPEN_MS, Ordering::Relaxed);
        }
        None
    }

    fn is_closed(&self) -> bool {
        self.now_ms() < self.closed_until_ms.load(Ordering::Relaxed)
    }

    fn is_fresh(&self) -> bool {
        self.now_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed)) < STALE_MS
    }

    /// The log was read to its end, which was there at `at`.
    fn heard(&self, at: OffsetDateTime) {
        self.heard_ms.store(crate::events::millis(at), Ordering::Relaxed);
    }

    fn heard_at(&self) -> OffsetDateTime {
        let heard = i128::from(self.heard_ms.load(Ordering::Relaxed)) * 1_000_000;
        OffsetDateTime::from_unix_timestamp_nanos(heard).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    fn now_ms(&self) -> i64 {
        crate::events::millis(self.clock.now())
    }
}
