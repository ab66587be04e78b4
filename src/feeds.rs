//! Feeds: what somebody reads when they come, whatever is broken.
//!
//! | file | what it settles |
//! |---|---|
//! | [`heads`] | the newest posts of readers, kept in this process or in Redis |
//! | [`tail`] | how heads hear what happens: they follow the event log |
//! | [`ladder`] | levels, the time each has, and when one is left alone |
//! | [`features`], [`model`], [`rank`] | what is known of a post, learned models, and the order that follows, as plain numbers |
//! | [`ranking`] | ranked pages: candidates, snapshots, why a post stands where it stands |
//! | [`experiments`] | who is shown another order, and whom it made a difference to |
//! | [`settings`] | what operators decide while the engine runs, and the folder of models |
//! | [`training`] | `nova rank-train`: a model from what readers did |
//!
//! # The ladder
//!
//! A page comes from the first level that can give it in its time, and says which: `model` (L0, a learned model), `engagement` (L1, age
//! against counters), `newest` (L2, the head of the reader), `database` (L3, straight from PostgreSQL), `last_good` (L4, what this reader was shown
//! before). A latest page begins at L2. The answer is 200 always, and no later than the budgets of all levels together. Whatever the level,
//! posts are read from PostgreSQL in the moment they are shown, by the one query that knows who may read what; only the last
//! level shows what is kept, and only while PostgreSQL is away, when nobody can block or delete anything either.
//!
//! `nova admin feeds direct on` takes everything that is kept about feeds out of the way: pages come from L3 on every node within a second.
//!
//! # Decisions
//!
//! - **Heads live where they are read, and follow the log.** The plan was lists in Redis, written for each follower by whoever consumes
//!   a post, with authors too large for that read apart. A node that follows the log itself needs none of it: it knows which of *its*
//!   readers follow an author, so a post costs as many writes as there are readers here now, without a query for followers, without
//!   giants, without a lease, and the same with one node as with ten. Whoever follows more than [`heads::AUTHORS_MAX`] has no head and is read from
//!   PostgreSQL each time: nothing is lossy.
//! - **In memory unless asked otherwise.** A head in memory weighs 16 bytes for each post and each author, 7 KiB for most and 38 KiB at
//!   most, so [`heads::READERS_MAX`] of them are bounded; a page costs no round trip, and nothing else has to be there. A node that starts makes
//!   each head at the reader's first page, with one read of an index for each followed author: 1 ms for somebody who follows forty
//!   people, 24 to 38 ms for 1,800 (`benches/README.md`; `nova bench feeds cold` measures it through the door).
//! - **In Redis when nodes come and go** (`NOVA_FEED_HEADS=redis`): a node that starts finds the heads of its readers, PostgreSQL is not
//!   asked for all of them at once, and posts are kept in Redis, not in every node a reader meets. A post is still written for nobody: a head says how far the log
//!   was followed for it, and whoever reads it adds what the log said since, from the latest events each node remembers. So what keeps a head
//!   contiguous is one comparison when it is read, and neither a lost write, a flushed Redis, an evicted key, a restored backup
//!   nor a node that dies can break it; [`heads::redis`] has the argument step by step. It costs a round trip for each page and
//!   50 KiB of Redis for most readers, 80 KiB at most, and a node keeps whom its readers follow all the same, to tell them of newer posts.
//! - **A head is contiguous**: everything the reader may see above its floor is in it. What is below comes from PostgreSQL.
//! - **Follow, unfollow, mute and block drop the head**; the next page makes it again in one query. At once on the node that was asked,
//!   with the log on the others.
//! - **A ranked page is a snapshot**: the order is kept for fifteen minutes under the cursor, so pages never repeat a post, while what
//!   they show is read anew.

pub mod experiments;
pub mod features;
pub mod heads;
pub mod ladder;
pub mod model;
pub mod rank;
pub mod ranking;
pub mod settings;
pub mod tail;
pub mod training;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use nova_actors::clock::Clock;
use nova_actors::id::{PostId, UserId};
use quick_cache::sync::Cache;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::chat::Door;
use crate::chat::encoded::Class;
use crate::chat::wire::{self, Push};
use crate::store::posts::Post;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use experiments::Experiment;
use heads::{Away, Heads, Mark, What};
pub use ladder::Level;
use ladder::{Breaker, Budgets, Tried};
use model::Models;
use rank::CHRONOLOGICAL;

/// A head that has not heard from the log for this long may lack posts, and is not shown.
const STALE_MS: i64 = 5_000;
/// Readers whose last page is kept.
const LAST_GOOD_MAX: usize = 10_000;
/// Readers, experiments and arms of which it is remembered that an exposure was told.
const EXPOSED_MAX: usize = 100_000;
/// Of what waits for a device the latest word about newer posts is enough; no topic has this number.
const NEWEST_SLOT: u64 = u64::MAX;
/// Posts in a head, and candidates of a ranked page.
pub const HEAD_POSTS: usize = 400;
/// Times a page is filled up when posts in it are not for the reader any more.
const ROUNDS: usize = 5;

/// A page of a feed.
#[derive(Debug, Clone)]
pub struct Page {
    /// What is shown.
    pub posts: Vec<Post>,
    /// Where the next page goes on; none at the end.
    pub next: Option<Place>,
    /// What gave it.
    pub level: Level,
    /// The name of what ordered it.
    pub model: String,
    /// Why no better level did.
    pub reason: Option<&'static str>,
    /// Everything committed before is in it.
    pub fresh_as_of: OffsetDateTime,
    /// What was tried for it, the best first.
    pub tried: Vec<Tried>,
    /// The experiment and the arm that decided how it is ordered.
    pub arm: Option<(String, String)>,
}

impl Page {
    fn new(level: Level, posts: Vec<Post>, next: Option<Place>, fresh_as_of: OffsetDateTime) -> Page {
        let model = CHRONOLOGICAL.to_owned();
        Page { posts, next, level, model, reason: None, fresh_as_of, tried: Vec::new(), arm: None }
    }
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
    /// Where devices hear of newer posts.
    door: Door,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    budgets: Budgets,
    heads: Arc<dyn Heads>,
    models: Models,
    /// The experiments that run, as last read.
    experiments: std::sync::RwLock<Arc<[Experiment]>>,
    /// Everything that is kept is out of the way.
    direct: AtomicBool,
    /// When the log was last read to its end, in milliseconds.
    heard_ms: AtomicI64,
    breakers: [Breaker; 4],
    last_good: Cache<UserId, Arc<Page>>,
    /// On which day, counted from 1970, it was told that an arm made a difference to a reader.
    exposed: Cache<(UserId, String, String), i64>,
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feeds").finish_non_exhaustive()
    }
}

impl Feeds {
    /// Feeds without heads; [`tail::follow`] keeps them, [`settings::keep_reading`] the rest.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        budgets: Budgets,
        models: PathBuf,
        door: Door,
        heads: Arc<dyn Heads>,
    ) -> Feeds {
        Feeds {
            store,
            door,
            clock,
            metrics,
            budgets,
            heads,
            models: Models::of(models),
            experiments: std::sync::RwLock::new(Arc::from([])),
            direct: AtomicBool::new(false),
            heard_ms: AtomicI64::new(i64::MIN),
            breakers: Default::default(),
            last_good: Cache::new(LAST_GOOD_MAX),
            exposed: Cache::new(EXPOSED_MAX),
        }
    }

    /// A post of `author` is there, for others too or for them alone: whoever was answered sees it on their next page.
    /// Those who look at their feed here hear that there is something newer.
    pub fn posted(&self, author: UserId, post: PostId, is_private: bool) {
        self.hint(self.heads.posted(author, post, is_private), author, post);
    }

    /// The log says something.
    fn heard_of(&self, mark: Mark, what: Option<What>) {
        let new_in = self.heads.heard(mark, what);
        match what {
            Some(What::Posted { author, post, .. }) => self.hint(new_in, author, post),
            Some(What::Forget(reader)) => {
                self.last_good.remove(&reader);
            }
            None => {}
        }
    }

    fn hint(&self, new_in: Vec<UserId>, author: UserId, post: PostId) {
        let mut message = None;
        for reader in new_in.into_iter().filter(|reader| *reader != author) {
            for device in self.door.devices_of(reader) {
                let message = message.get_or_insert_with(|| wire::push(&Push::Feed { newest: post }));
                // A hint: a device that is too far behind reads its feed later.
                let _taken = device.try_push(Class::Presence, Some(NEWEST_SLOT), message.clone());
            }
        }
    }

    /// What `reader` follows has changed.
    pub fn forget(&self, reader: UserId) {
        self.heads.forget(reader);
        self.last_good.remove(&reader);
    }

    /// Drops what this node knows of heads, as when it starts.
    pub fn forget_all(&self) {
        self.heads.clear();
    }

    /// The page of the newest after a place.
    pub async fn latest(&self, reader: UserId, after: Option<PostId>, limit: usize) -> Page {
        let page = self.newest(reader, after, limit, Vec::new(), None).await;
        self.give(reader, after.is_none(), page)
    }

    /// The ranked page at a place: the first makes the snapshot, the others read it. `None` when the snapshot is gone.
    pub async fn ranked(&self, reader: UserId, at: Option<(Uuid, u16)>, limit: usize) -> Option<Page> {
        let page = match at {
            Some((snapshot, offset)) => self.in_snapshot(reader, snapshot, offset, limit).await?,
            None => self.first_ranked(reader, limit).await,
        };
        Some(self.give(reader, at.is_none(), page))
    }

    /// Posts of people `reader` does not follow, the newest first.
    pub async fn discover(&self, reader: UserId, after: Option<PostId>, limit: usize) -> Page {
        let page = async {
            let now = self.clock.now();
            let ids = self.store.discover_ids(reader, after, limit as i64 + 1).await?;
            let more = ids.len() > limit;
            let shown: Vec<_> = ids.into_iter().take(limit).collect();
            let next = shown.last().filter(|_| more).map(|id| Place::Below(*id));
            Ok(Page::new(Level::Database, self.store.posts_shown(reader, &shown).await?, next, now))
        };
        let mut tried = Vec::new();
        let page = match self.on(Level::Database, &mut tried, page).await {
            Ok(page) => page,
            Err(reason) => {
                let next = Some(after.map_or(Place::top(), Place::Below));
                let page = Page::new(Level::LastGood, Vec::new(), next, self.clock.now());
                Page { reason: Some(reason), ..page }
            }
        };
        self.metrics.feed_pages.with_label_values(&[page.level.as_str()]).inc();
        Page { tried, ..page }
    }

    /// The page of the newest from the head, else from PostgreSQL, else what is kept. `reason` is why no better level gave it.
    async fn newest(
        &self,
        reader: UserId,
        after: Option<PostId>,
        limit: usize,
        mut tried: Vec<Tried>,
        reason: Option<&'static str>,
    ) -> Page {
        let mut why = reason;
        let from_head = match (self.is_direct(), self.is_fresh()) {
            (true, _) => Err("direct"),
            (_, false) => Err("log_behind"),
            _ => {
                let page = self.page_of_head(reader, after, limit);
                match self.on(Level::Newest, &mut tried, page).await {
                    Ok(Some(page)) => Ok(page),
                    Ok(None) => Err("no_head"),
                    Err(reason) => Err(reason),
                }
            }
        };
        let page = match from_head {
            Ok(page) => page,
            Err(because) => {
                why = why.or(Some(because));
                let page = self.page_of_database(reader, after, limit);
                match self.on(Level::Database, &mut tried, page).await {
                    Ok(page) => page,
                    Err(_) => self.kept(reader, after.map(Place::Below)),
                }
            }
        };
        Page { reason: why, tried, ..page }
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
        Ok(self.heads.fill(&build, authors, ids).await.unwrap_or(false))
    }

    /// Up to so many posts of the head of a reader, which is made when there is none.
    async fn slice(
        &self,
        reader: UserId,
        after: Option<PostId>,
        rows: usize,
    ) -> Result<Option<heads::Slice>, StoreError> {
        match self.heads.slice(reader, after, rows).await {
            Ok(Some(slice)) => return Ok(Some(slice)),
            // What cannot be read cannot be written either.
            Err(Away) => return Ok(None),
            Ok(None) => {}
        }
        match self.make_head(reader).await? {
            true => Ok(self.heads.slice(reader, after, rows).await.unwrap_or(None)),
            false => Ok(None),
        }
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
            let Some(slice) = self.slice(reader, place, wanted).await? else { return Ok(None) };
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
                return Ok(Some(Page::new(level, posts, next.flatten().map(Place::Below), fresh_as_of)));
            }
        }
        // Much of it was taken away: a short page that goes on.
        Ok(Some(Page::new(level, posts, place.map(Place::Below), fresh_as_of)))
    }

    async fn page_of_database(
        &self,
        reader: UserId,
        after: Option<PostId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let fresh_as_of = self.clock.now();
        let ids = self.store.home_ids(reader, after, limit as i64 + 1).await?;
        let more = ids.len() > limit;
        let shown: Vec<_> = ids.into_iter().take(limit).collect();
        let next = shown.last().filter(|_| more).map(|id| Place::Below(*id));
        Ok(Page::new(Level::Database, self.store.posts_shown(reader, &shown).await?, next, fresh_as_of))
    }

    /// What this reader was shown before, or nothing with a cursor: the last level needs nobody.
    fn kept(&self, reader: UserId, at: Option<Place>) -> Page {
        let kept = self.last_good.get(&reader).filter(|_| at.is_none());
        match kept {
            Some(page) => Page { level: Level::LastGood, ..(*page).clone() },
            None => {
                let next = Some(at.unwrap_or(Place::top()));
                Page::new(Level::LastGood, Vec::new(), next, self.heard_at())
            }
        }
    }

    fn give(&self, reader: UserId, is_first: bool, page: Page) -> Page {
        self.metrics.feed_pages.with_label_values(&[page.level.as_str()]).inc();
        if is_first && page.level != Level::LastGood {
            self.last_good.insert(reader, Arc::new(page.clone()));
        }
        page
    }

    /// What a level gives in its time, and what happened there; failures count for its breaker.
    async fn on<T>(
        &self,
        level: Level,
        tried: &mut Vec<Tried>,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, &'static str> {
        let breaker = self.breakers.get(level as usize);
        let began = Instant::now();
        let mut say = |outcome| tried.push(Tried { level, outcome, took: began.elapsed() });
        if breaker.is_some_and(|breaker| !breaker.lets(self.now_ms())) {
            say("breaker_open");
            return Err("breaker_open");
        }
        let reason = match timeout(self.budgets.of(level), work).await {
            Ok(Ok(done)) => {
                if let Some(breaker) = breaker {
                    breaker.closed();
                }
                say("ok");
                return Ok(done);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, level = level.as_str(), "a page of a feed comes from a lower level");
                "failed"
            }
            Err(_late) => "too_slow",
        };
        if let Some(breaker) = breaker {
            breaker.failed(self.now_ms());
        }
        self.metrics.feed_level_failures.with_label_values(&[level.as_str(), reason]).inc();
        say(reason);
        Err(reason)
    }

    /// Whether everything that is kept is out of the way.
    pub fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
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
