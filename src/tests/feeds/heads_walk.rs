//! Heads of readers through everything that may happen to them between any two steps: posts, follows, a log that lags, nodes that hear of it at
//! different times and die, heads half made, a Redis that loses or brings back what it had; compared with what a database says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nova::bus::redis::RedisConfig;
use nova::feeds::HEAD_POSTS;
use nova::feeds::heads::{Build, Heads, Mark, Slice, What, memory};
use nova::telemetry::Metrics;
use nova_actors::clock::{Clock, ManualClock};
use nova_actors::id::{PostId, UserId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use super::heads::{Hand, USER, clock, in_redis};
use crate::services::Redis;

/// A node as heads know it: how far it has heard the log, what it was asked, a head it makes.
struct Node {
    heads: Arc<dyn Heads>,
    /// Events of the log it has heard.
    heard: usize,
    /// Changes of what readers follow that it was asked for, by their number.
    asked: BTreeSet<usize>,
    /// Posts others may see as it knows: heard or said here.
    known: BTreeSet<PostId>,
    making: Option<Making>,
}

/// A head being made: of whom, and what was read for it so far.
type Making = (UserId, Build, Option<Vec<UserId>>, Option<Vec<PostId>>);

/// A database with its log, the nodes on it, and the heads they share or do not.
struct World {
    clock: Arc<ManualClock>,
    readers: Vec<UserId>,
    authors: Vec<UserId>,
    follows: BTreeMap<UserId, BTreeSet<UserId>>,
    /// By id: whose, and for them alone.
    posts: BTreeMap<PostId, (UserId, bool)>,
    /// What happened and has no place yet, with the time.
    outbox: VecDeque<(time::OffsetDateTime, What)>,
    log: Vec<(Mark, Option<What>)>,
    tops: BTreeMap<(i16, i16), i64>,
    /// Changes of what readers follow, in the order they were committed.
    changes: Vec<UserId>,
    /// How many of them are in the log up to each of its events.
    changes_at: Vec<usize>,
    nodes: Vec<Node>,
    found: usize,
}

impl World {
    fn new(clock: Arc<ManualClock>) -> World {
        let people = |n: usize| (0..n).map(|_| UserId::generate()).collect::<Vec<_>>();
        let readers = people(2);
        let follows = readers.iter().map(|reader| (*reader, BTreeSet::from([*reader]))).collect();
        let mut authors = people(4);
        authors.push(readers[0]);
        let tops = BTreeMap::from([((1, 0), 0), ((1, 1), 0), (USER, 0)]);
        let (posts, nodes) = Default::default();
        let (outbox, log, changes, changes_at) = Default::default();
        World {
            clock,
            readers,
            authors,
            follows,
            posts,
            outbox,
            log,
            tops,
            changes,
            changes_at,
            nodes,
            found: 0,
        }
    }

    /// A node starts: it hears what was said shortly before.
    fn start(&self, heads: Arc<dyn Heads>) -> Node {
        for (part, top) in &self.tops {
            heads.starts(*part, (top - heads.lookback()).max(0));
        }
        for (mark, what) in &self.log {
            if mark.place > self.tops[&mark.part] - heads.lookback() {
                heads.heard(*mark, *what);
            }
        }
        let known = self.log.iter().filter_map(|(_, what)| match what {
            Some(What::Posted { post, .. }) => Some(*post),
            _ => None,
        });
        Node { heads, heard: self.log.len(), asked: BTreeSet::new(), known: known.collect(), making: None }
    }

    fn tell(&mut self, what: What) {
        self.outbox.push_back((self.clock.now(), what));
    }

    /// Gives up to so many events their places.
    fn sequence(&mut self, rows: usize) {
        for _ in 0..rows.min(self.outbox.len()) {
            let (_, what) = self.outbox.pop_front().unwrap();
            let part = match what {
                What::Posted { post, .. } => (1, i16::from(post.as_uuid().as_bytes()[15] % 2)),
                What::Forget(_) => USER,
            };
            self.log_in(part, Some(what));
        }
    }

    fn log_in(&mut self, part: (i16, i16), what: Option<What>) {
        let top = self.tops.get_mut(&part).unwrap();
        *top += 1;
        self.log.push((Mark { part, place: *top, event: Uuid::now_v7() }, what));
        let before = self.changes_at.last().copied().unwrap_or(0);
        self.changes_at.push(before + usize::from(matches!(what, Some(What::Forget(_)))));
    }

    fn hear(&mut self, nth: usize, rows: usize) {
        let node = &mut self.nodes[nth];
        for (mark, what) in self.log[node.heard..].iter().take(rows) {
            node.heads.heard(*mark, *what);
            if let Some(What::Posted { post, .. }) = what {
                node.known.insert(*post);
            }
            node.heard += 1;
        }
        let now = self.clock.now();
        let is_moving = self.outbox.front().is_none_or(|(at, _)| *at >= now - time::Duration::seconds(3));
        if node.heard == self.log.len() && is_moving {
            node.heads.caught_up(i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap());
        }
    }

    fn post(&mut self, nth: usize, author: UserId, post: PostId, is_private: bool) {
        self.posts.insert(post, (author, is_private));
        self.tell(What::Posted { author, post, is_private });
        let node = &mut self.nodes[nth];
        node.heads.posted(author, post, is_private);
        node.known.insert(post);
    }

    fn change(&mut self, nth: usize, reader: UserId, author: UserId) {
        let follows = self.follows.get_mut(&reader).unwrap();
        if author != reader && !follows.remove(&author) {
            follows.insert(author);
        }
        self.changes.push(reader);
        self.tell(What::Forget(reader));
        let node = &mut self.nodes[nth];
        node.asked.insert(self.changes.len());
        node.heads.forget(reader);
    }

    fn is_visible(&self, reader: UserId, post: PostId) -> bool {
        let (author, is_private) = self.posts[&post];
        self.follows[&reader].contains(&author) && (!is_private || author == reader)
    }

    /// One step of making a head, the others between.
    async fn make(&mut self, nth: usize, reader: UserId) {
        let made = match self.nodes[nth].making.take() {
            None => Some((reader, self.nodes[nth].heads.begin(reader), None, None)),
            Some((reader, build, None, _)) => {
                let authors = self.follows[&reader].iter().copied().collect();
                Some((reader, build, Some(authors), None))
            }
            Some((reader, build, Some(authors), None)) => {
                // As the database says it: of those who were followed when they were read.
                let of = |(_, (author, is_private)): &(&PostId, &(UserId, bool))| {
                    authors.contains(author) && (!is_private || *author == reader)
                };
                let ids = self.posts.iter().rev().filter(of).map(|(post, _)| *post).take(HEAD_POSTS + 1);
                let ids = ids.collect();
                Some((reader, build, Some(authors), Some(ids)))
            }
            Some((_, build, Some(authors), Some(ids))) => {
                let filled = self.nodes[nth].heads.fill(&build, authors, ids).await;
                assert!(filled.is_ok(), "Redis is there");
                None
            }
        };
        self.nodes[nth].making = made;
    }

    /// Reads from a head, and compares with what the node knows of the database.
    async fn read(&mut self, nth: usize, reader: UserId, after: Option<PostId>, rows: usize) {
        let node = &self.nodes[nth];
        let slice = node.heads.slice(reader, after, rows).await;
        let Some(Slice { ids, is_whole }) = slice.expect("Redis is there") else { return };
        self.found += 1;
        let heard = node.heard.checked_sub(1).map_or(0, |last| self.changes_at[last]);
        let mut unheard = (heard + 1..=self.changes.len()).filter(|n| self.changes[n - 1] == reader);
        if !unheard.all(|n| node.asked.contains(&n)) {
            // The node cannot know yet what the reader follows.
            return;
        }
        assert!(ids.is_sorted_by(|newer, older| newer > older) && ids.len() <= rows);
        for id in &ids {
            assert!(self.is_visible(reader, *id), "{id} is not for the reader");
            assert!(after.is_none_or(|after| *id < after));
        }
        let is_end = ids.len() < rows && is_whole;
        let last = ids.last().copied().filter(|_| !is_end);
        if !is_end && last.is_none() {
            return;
        }
        let owed = node.known.iter().filter(|post| {
            after.is_none_or(|after| **post < after)
                && last.is_none_or(|last| **post >= last)
                && self.is_visible(reader, **post)
        });
        for post in owed {
            // A private one that was shown to others is owed when that was heard.
            let heard = self.log[..node.heard].iter().any(|(_, what)| {
                matches!(what, Some(What::Posted { post: of, is_private, author }) if of == post && (!is_private || *author == reader))
            });
            assert!(!heard || ids.contains(post), "{post} is missing at node {nth}");
        }
    }
}

/// Everything that may happen, in an order the dice decide.
async fn everything_happens(
    seed: u64,
    mut hand: Option<Hand>,
    clock: Arc<ManualClock>,
    make: impl AsyncFn() -> Arc<dyn Heads>,
) -> usize {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut world = World::new(clock);
    for _ in 0..3 {
        let node = world.start(make().await);
        world.nodes.push(node);
    }
    for _ in 0..3_000 {
        let nth = dice.random_range(0..world.nodes.len());
        let reader = world.readers[dice.random_range(0..world.readers.len())];
        let author = world.authors[dice.random_range(0..world.authors.len())];
        match dice.random_range(0..100) {
            0..8 => world.post(nth, author, PostId::generate(), dice.random_bool(0.2)),
            8 => {
                for _ in 0..dice.random_range(20..80) {
                    world.post(nth, author, PostId::generate(), false);
                }
            }
            9..12 if !world.posts.is_empty() => {
                // It is shown to others from now on, or edited.
                let which = dice.random_range(0..world.posts.len());
                let (post, author) = world.posts.iter().nth(which).map(|(post, of)| (*post, of.0)).unwrap();
                world.post(nth, author, post, false);
            }
            12..14 => world.change(nth, reader, author),
            14..30 => world.sequence(dice.random_range(1..100)),
            30..40 => world.hear(nth, dice.random_range(1..100)),
            40..50 => world.hear(nth, usize::MAX),
            50..52 => {
                world.sequence(usize::MAX);
                for nth in 0..world.nodes.len() {
                    world.hear(nth, usize::MAX);
                }
            }
            52 => {
                // Much that means nothing here, up to more than is remembered.
                let part = (1, dice.random_range(0..2));
                for _ in 0..[300, 1_200, 9_000][dice.random_range(0..3)] {
                    world.log_in(part, None);
                }
            }
            53..55 => world.clock.advance(Duration::from_millis(dice.random_range(100..6_000))),
            55 => {
                let node = world.start(make().await);
                world.nodes[nth] = node;
            }
            56 => {
                if let Some(hand) = &mut hand {
                    match dice.random_range(0..4) {
                        0 => hand.lose(true, 0).await,
                        1 => hand.lose(false, dice.random_range(0..100)).await,
                        2 => hand.keep().await,
                        _ => hand.put_back().await,
                    }
                }
            }
            57..78 => world.make(nth, reader).await,
            _ => {
                let after = match dice.random_range(0..3) {
                    0 if !world.posts.is_empty() => world
                        .posts
                        .keys()
                        .rev()
                        .nth(dice.random_range(0..world.posts.len().min(100)))
                        .copied(),
                    _ => None,
                };
                let rows = [3, 20, HEAD_POSTS][dice.random_range(0..3)];
                world.read(nth, reader, after, rows).await;
            }
        }
    }
    println!("seed {seed}: {} heads were found", world.found);
    world.found
}

/// Seeds to walk; `NOVA_HEADS_SEED` walks one that failed again.
fn seeds(n: u64) -> Vec<u64> {
    match std::env::var("NOVA_HEADS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (1..=n).collect(),
    }
}

#[tokio::test]
async fn heads_in_memory_are_contiguous_whatever_happens() {
    for seed in seeds(4) {
        let make = async || Arc::new(memory::Heads::default()) as Arc<dyn Heads>;
        assert!(everything_happens(seed, None, clock(), make).await > 30);
    }
}

#[tokio::test]
async fn heads_in_redis_are_contiguous_whatever_happens_to_them_and_the_nodes() {
    let server = Redis::start();
    let metrics = Metrics::default();
    for seed in seeds(8) {
        let config = RedisConfig { namespace: format!("seed{seed}"), ..RedisConfig::new(server.url()) };
        let clock = clock();
        let hand = Hand::on(&server.url()).await;
        let make = async || in_redis(&config, clock.clone(), &metrics).await;
        assert!(everything_happens(seed, Some(hand), clock.clone(), make).await > 30);
    }
    let text = String::from_utf8(metrics.render()).expect("text");
    // The walk has seen every way.
    for outcome in ["found", "none", "void", "made", "forwarded", "outrun"] {
        let series = format!("nova_feed_heads_redis_total{{outcome=\"{outcome}\"}}");
        assert!(text.contains(&series), "{outcome} never happened:\n{text}");
    }
}
