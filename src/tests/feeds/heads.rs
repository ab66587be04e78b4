//! The newest posts of readers, in this process and in a real Redis: one contract, and what Redis adds to it.

use std::sync::Arc;
use std::time::Duration;

use nova::bus::redis::{Bus, RedisConfig};
use nova::feeds::HEAD_POSTS;
use nova::feeds::heads::{Away, Heads, Mark, Slice, What, memory, redis};
use nova::telemetry::Metrics;
use nova_actors::clock::{Clock, ManualClock};
use nova_actors::id::{PostId, UserId};
use time::macros::datetime;
use uuid::Uuid;

use crate::services::{self, Redis, eventually};

const CONTENT: (i16, i16) = (1, 0);
pub(super) const USER: (i16, i16) = (3, 0);

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::standing(datetime!(2026-01-02 12:00 UTC)))
}

pub(super) async fn in_redis(
    config: &RedisConfig,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
) -> Arc<dyn Heads> {
    let bus = Bus::connect(config.clone()).await.expect("Redis is there");
    Arc::new(redis::Heads::new(bus, clock, metrics.clone(), Duration::from_secs(5)))
}

/// A log that is heard by the heads at once.
struct Log<'a> {
    heads: &'a dyn Heads,
    content: i64,
    user: i64,
}

impl<'a> Log<'a> {
    fn of(heads: &'a dyn Heads) -> Log<'a> {
        heads.starts(CONTENT, 0);
        heads.starts(USER, 0);
        Log { heads, content: 0, user: 0 }
    }

    fn posted(&mut self, author: UserId, post: PostId, is_private: bool) -> Vec<UserId> {
        self.content += 1;
        let mark = Mark { part: CONTENT, place: self.content, event: Uuid::now_v7() };
        self.heads.heard(mark, Some(What::Posted { author, post, is_private }))
    }

    fn forgot(&mut self, reader: UserId) {
        self.user += 1;
        let mark = Mark { part: USER, place: self.user, event: Uuid::now_v7() };
        self.heads.heard(mark, Some(What::Forget(reader)));
    }
}

async fn filled(heads: &dyn Heads, reader: UserId, authors: &[UserId], posts: &[PostId]) {
    let build = heads.begin(reader);
    assert_eq!(heads.fill(&build, authors.to_vec(), posts.to_vec()).await, Ok(true));
}

async fn newest(heads: &dyn Heads, reader: UserId, rows: usize) -> Vec<PostId> {
    heads.slice(reader, None, rows).await.expect("there").expect("a head").ids
}

fn ids(n: usize) -> Vec<PostId> {
    (0..n).map(|_| PostId::generate()).collect()
}

/// What both adapters promise.
async fn keeps_the_contract(make: impl AsyncFn() -> Arc<dyn Heads>) {
    // A post reaches those who follow, and a private one its author.
    let heads = make().await;
    let heads = heads.as_ref();
    let mut log = Log::of(heads);
    let (ann, bo, cy) = (UserId::generate(), UserId::generate(), UserId::generate());
    assert_eq!(heads.slice(bo, None, 9).await, Ok(None));
    filled(heads, bo, &[ann, bo], &[]).await;
    filled(heads, ann, &[ann], &[]).await;
    filled(heads, cy, &[cy], &[]).await;
    let posts = ids(3);
    let mut told = heads.posted(ann, posts[1], false);
    told.sort();
    assert_eq!(told, [ann, bo], "to whom it is news");
    assert!(log.posted(ann, posts[1], false).is_empty(), "told twice is told once");
    assert_eq!(heads.posted(ann, posts[2], true), [ann]);
    log.posted(ann, posts[0], true);
    assert_eq!(newest(heads, bo, 9).await, [posts[1]]);
    assert_eq!(newest(heads, ann, 9).await, [posts[2], posts[1], posts[0]], "in the order of their times");
    assert_eq!(newest(heads, ann, 2).await, [posts[2], posts[1]]);
    let below = heads.slice(ann, Some(posts[1]), 9).await;
    assert_eq!(below, Ok(Some(Slice { ids: vec![posts[0]], is_whole: true })));
    assert!(newest(heads, cy, 9).await.is_empty());
    assert_eq!((heads.holding(ann, posts[1], false), heads.holding(ann, posts[2], true)), (2, 1));

    // What somebody follows has changed, said here or by the log.
    heads.forget(bo);
    assert_eq!(heads.slice(bo, None, 9).await, Ok(None));
    assert_eq!(heads.holding(ann, posts[1], false), 1);
    filled(heads, bo, &[bo], &[]).await;
    assert!(newest(heads, bo, 9).await.is_empty());
    log.forgot(bo);
    assert_eq!(heads.slice(bo, None, 9).await, Ok(None));
    let build = heads.begin(bo);
    heads.forget(bo);
    assert_eq!(heads.fill(&build, vec![ann], ids(1)).await, Ok(false), "made of what was followed before");
    assert_eq!(heads.slice(bo, None, 9).await, Ok(None));
    let build = heads.begin(bo);
    heads.abandon(&build);

    // What is posted while a head is made is in it.
    let before = posts[1];
    let posts = ids(4);
    log.posted(ann, posts[0], false);
    let build = heads.begin(bo);
    log.posted(ann, posts[2], false);
    heads.posted(bo, posts[1], true);
    assert_eq!(heads.fill(&build, vec![ann, bo], vec![posts[0], before]).await, Ok(true));
    heads.posted(ann, posts[3], false);
    assert_eq!(newest(heads, bo, 9).await, [posts[3], posts[2], posts[1], posts[0], before]);

    // A head is contiguous down to its floor, and what is older is not in it.
    let (ann, bo) = (UserId::generate(), UserId::generate());
    let posts = ids(HEAD_POSTS + 50);
    filled(heads, bo, &[ann], &posts[10..HEAD_POSTS + 11]).await;
    let slice = heads.slice(bo, None, HEAD_POSTS * 2).await.unwrap().unwrap();
    assert_eq!((slice.ids.len(), slice.is_whole), (HEAD_POSTS, false));
    let floor = *slice.ids.last().unwrap();
    log.posted(ann, posts[0], false);
    heads.posted(ann, posts[1], false);
    assert_eq!(newest(heads, bo, HEAD_POSTS * 2).await.last(), Some(&floor));
    assert_eq!((heads.holding(ann, posts[0], false), heads.holding(ann, floor, false)), (0, 1));
    for post in &posts[HEAD_POSTS + 11..] {
        log.posted(ann, *post, false);
    }
    let now = newest(heads, bo, HEAD_POSTS).await;
    let expected: Vec<_> = posts.iter().rev().take(HEAD_POSTS).copied().collect();
    assert_eq!(now, expected);
    let slice = heads.slice(bo, Some(now[2]), 2).await.unwrap().unwrap();
    assert_eq!((slice.ids, slice.is_whole), (now[3..5].to_vec(), false));
    // Exactly as many as fit, and nothing below.
    let cy = UserId::generate();
    filled(heads, cy, &[cy], &posts[..HEAD_POSTS]).await;
    let slice = heads.slice(cy, None, HEAD_POSTS * 2).await.unwrap().unwrap();
    assert_eq!((slice.ids.len(), slice.is_whole), (HEAD_POSTS, true));

    // The log begins anew: what it said before may have been missed.
    heads.starts(CONTENT, 5_000);
    assert_eq!(heads.slice(bo, None, 9).await, Ok(None));
}

#[tokio::test]
async fn heads_in_memory_keep_the_contract() {
    keeps_the_contract(async || Arc::new(memory::Heads::default()) as Arc<dyn Heads>).await;
}

#[tokio::test]
async fn heads_in_redis_keep_the_contract() {
    let config = services::redis().await;
    keeps_the_contract(async || in_redis(&config, clock(), &Metrics::default()).await).await;
}

/// Whatever may be lost or come back in a Redis.
pub(super) struct Hand {
    connection: ::redis::aio::MultiplexedConnection,
    /// Heads as they were once.
    kept: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Hand {
    pub(super) async fn on(url: &str) -> Hand {
        let client = ::redis::Client::open(url).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await.expect("Redis is there");
        Hand { connection, kept: Vec::new() }
    }

    async fn heads(&mut self) -> Vec<Vec<u8>> {
        let keys = ::redis::cmd("KEYS").arg("*:head:*").query_async(&mut self.connection).await;
        keys.expect("answered")
    }

    /// All of it, or one of two keys.
    pub(super) async fn lose(&mut self, all: bool, nth: usize) {
        let keys = self.heads().await;
        let lost: Vec<_> = match all {
            true => keys,
            false if keys.is_empty() => return,
            false => vec![keys[nth % keys.len()].clone()],
        };
        for key in lost {
            let deleted = ::redis::cmd("DEL").arg(key).query_async::<i64>(&mut self.connection).await;
            deleted.expect("answered");
        }
    }

    /// Writes down what is there.
    pub(super) async fn keep(&mut self) {
        let mut kept = Vec::new();
        for key in self.heads().await {
            let dump: Option<Vec<u8>> =
                ::redis::cmd("DUMP").arg(&key).query_async(&mut self.connection).await.expect("answered");
            kept.extend(dump.map(|dump| (key, dump)));
        }
        self.kept = kept;
    }

    /// Puts back what was there when it was written down, as a restart with old data does.
    pub(super) async fn put_back(&mut self) {
        self.lose(true, 0).await;
        for (key, dump) in &self.kept {
            let mut restore = ::redis::cmd("RESTORE");
            restore.arg(key).arg(0).arg(dump).arg("REPLACE");
            restore.query_async::<()>(&mut self.connection).await.expect("answered");
        }
    }
}

#[tokio::test]
async fn heads_outlive_the_node_that_made_them_and_are_brought_forward() {
    let config = services::redis().await;
    let metrics = Metrics::default();
    let count = |outcome: &str| metrics.feed_heads_redis.with_label_values(&[outcome]).get();
    let (ann, bo) = (UserId::generate(), UserId::generate());
    let posts = ids(HEAD_POSTS + 100);
    let one = in_redis(&config, clock(), &metrics).await;
    let mut log = Log::of(one.as_ref());
    filled(one.as_ref(), bo, &[ann, bo], &posts[..10]).await;
    let mut said = Vec::new();
    for post in &posts[10..60] {
        log.posted(ann, *post, false);
        let event = Uuid::now_v7();
        said.push(Mark { part: CONTENT, place: log.content + 1, event });
        log.content += 1;
        one.heard(said[said.len() - 1], None);
    }
    let all: Vec<_> = posts[..60].iter().rev().copied().collect();
    assert_eq!(newest(one.as_ref(), bo, HEAD_POSTS).await, all);
    eventually("what it lacked is written", Duration::from_secs(10), async || {
        (count("forwarded") == 1).then_some(())
    })
    .await;
    let last = log.content - 1;
    drop(one);
    // The next node has heard no more of the log than its last event; nothing was made for it.
    let next = in_redis(&config, clock(), &metrics).await;
    next.starts(CONTENT, last);
    next.starts(USER, 0);
    next.heard(said[said.len() - 1], None);
    assert_eq!(newest(next.as_ref(), bo, HEAD_POSTS).await, all);
    assert_eq!(count("made"), 1);
    // Whoever looks is known to the node from then on: they are told.
    assert_eq!(next.posted(ann, posts[60], false), [bo]);
    // A node on another log, as after a restore of the database, does not believe it.
    let other = in_redis(&config, clock(), &metrics).await;
    other.starts(CONTENT, last);
    other.starts(USER, 0);
    other.heard(Mark { event: Uuid::now_v7(), ..said[said.len() - 1] }, None);
    assert_eq!(other.slice(bo, None, 9).await, Ok(None));
}

#[tokio::test]
async fn a_head_that_went_back_with_its_redis_is_not_brought_forward_from_where_it_was() {
    let server = Redis::start();
    let metrics = Metrics::default();
    let count = |outcome: &str| metrics.feed_heads_redis.with_label_values(&[outcome]).get();
    let mut hand = Hand::on(&server.url()).await;
    let heads = in_redis(&RedisConfig::new(server.url()), clock(), &metrics).await;
    let heads = heads.as_ref();
    let mut log = Log::of(heads);
    let (ann, bo) = (UserId::generate(), UserId::generate());
    filled(heads, bo, &[ann, bo], &[]).await;
    hand.keep().await;
    let posts = ids(60);
    for post in &posts {
        log.posted(ann, *post, false);
    }
    let all: Vec<_> = posts.iter().rev().copied().collect();
    assert_eq!(newest(heads, bo, HEAD_POSTS).await, all);
    let soon = Duration::from_secs(10);
    eventually("it is brought forward", soon, async || (count("forwarded") == 1).then_some(())).await;
    // Redis comes back with what it had before, under the same generation.
    hand.put_back().await;
    for _ in 0..600 {
        log.content += 1;
        heads.heard(Mark { part: CONTENT, place: log.content, event: Uuid::now_v7() }, None);
    }
    heads.caught_up(0);
    eventually("it is not what was known", soon, async || (count("outrun") == 1).then_some(())).await;
    assert_eq!(newest(heads, bo, HEAD_POSTS).await, all, "nothing is missing");
}

#[tokio::test]
async fn what_is_below_the_floor_of_a_head_is_not_written_to_it() {
    let server = Redis::start();
    let metrics = Metrics::default();
    let mut hand = Hand::on(&server.url()).await;
    let heads = in_redis(&RedisConfig::new(server.url()), clock(), &metrics).await;
    let heads = heads.as_ref();
    let mut log = Log::of(heads);
    let (ann, bo) = (UserId::generate(), UserId::generate());
    let posts = ids(HEAD_POSTS + 200);
    filled(heads, bo, &[ann, bo], &posts[199..]).await;
    // A head that has room: one of a version that keeps fewer.
    let key = |what: &str| format!("nova:head:{{{}}}:{what}", bo.as_uuid().simple());
    let cut = ::redis::cmd("ZREMRANGEBYRANK").arg(key("posts")).arg(0).arg(99).to_owned();
    let told = ::redis::cmd("HSET").arg(key("known")).arg("n").arg(HEAD_POSTS - 100).to_owned();
    for command in [cut, told] {
        command.query_async::<i64>(&mut hand.connection).await.expect("answered");
    }
    // Posts from far below are edited.
    for post in &posts[..60] {
        log.posted(ann, *post, false);
    }
    let all: Vec<_> = posts[300..].iter().rev().copied().collect();
    for when in ["before", "after"] {
        let slice = heads.slice(bo, None, HEAD_POSTS).await.expect("there").expect("a head");
        assert_eq!((&slice.ids, slice.is_whole), (&all, false), "{when} it is brought forward");
        eventually("it is brought forward", Duration::from_secs(10), async || {
            (metrics.feed_heads_redis.with_label_values(&["forwarded"]).get() == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_redis_that_lies_or_is_dead_or_slow_is_away_and_soon_left_alone() {
    let mut server = Redis::start();
    let config = RedisConfig { command_max: Duration::from_secs(5), ..RedisConfig::new(server.url()) };
    let metrics = Metrics::default();
    let bus = Bus::connect(config.clone()).await.expect("there");
    let clock = clock();
    let limit = Duration::from_millis(100);
    let heads = redis::Heads::new(bus, clock.clone(), metrics.clone(), limit);
    let heads: &dyn Heads = &heads;
    let mut log = Log::of(heads);
    let (ann, bo) = (UserId::generate(), UserId::generate());
    log.posted(ann, PostId::generate(), false);
    let posts = ids(5);
    filled(heads, bo, &[ann, bo], &posts).await;
    assert_eq!(newest(heads, bo, 9).await.len(), 5);

    // Keys of another kind, fields that are nonsense.
    let mut hand = Hand::on(&server.url()).await;
    let key = |what: &str| format!("nova:head:{{{}}}:{what}", bo.as_uuid().simple());
    let (known, of) = (key("known"), key("posts"));
    for lie in [
        vec!["HSET", &known, "g", "short"],
        vec!["HSET", &known, "w", "perhaps"],
        vec!["HSET", &known, "m", "nonsense"],
        vec!["DEL", &known],
        vec!["SET", &known, "text"],
        vec!["ZADD", &of, "0", "no id"],
        vec!["DEL", &of],
        vec!["SET", &of, "text"],
    ] {
        let mut command = ::redis::cmd(lie[0]);
        lie[1..].iter().for_each(|word| {
            command.arg(*word);
        });
        let _answer: ::redis::Value = command.query_async(&mut hand.connection).await.expect("answered");
        let answer = heads.slice(bo, None, 9).await;
        assert_eq!(answer, Ok(None), "{lie:?}");
        filled(heads, bo, &[ann, bo], &posts).await;
        assert_eq!(newest(heads, bo, 9).await.len(), 5);
    }
    // Slow.
    server.signal(rustix::process::Signal::STOP);
    for _ in 0..5 {
        let began = std::time::Instant::now();
        assert_eq!(heads.slice(bo, None, 9).await, Err(Away));
        assert!(began.elapsed() < limit * 20, "{:?}", began.elapsed());
    }
    let left_alone = || metrics.feed_heads_redis.with_label_values(&["left_alone"]).get();
    assert_eq!((heads.slice(bo, None, 9).await, left_alone()), (Err(Away), 1));
    server.signal(rustix::process::Signal::CONT);
    eventually("it is asked again", Duration::from_secs(10), async || {
        clock.advance(Duration::from_secs(2));
        heads.slice(bo, None, 9).await.ok()?
    })
    .await;
    // Dead, and back with nothing.
    server.kill();
    assert_eq!(heads.slice(bo, None, 9).await, Err(Away));
    let build = heads.begin(bo);
    assert_eq!(heads.fill(&build, vec![ann, bo], posts.clone()).await, Err(Away));
    server.revive();
    eventually("it is asked again", Duration::from_secs(20), async || {
        clock.advance(Duration::from_secs(2));
        (heads.slice(bo, None, 9).await == Ok(None)).then_some(())
    })
    .await;
    filled(heads, bo, &[ann, bo], &posts).await;
    assert_eq!(newest(heads, bo, 9).await.len(), 5);
}
