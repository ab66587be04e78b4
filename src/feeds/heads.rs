//! The newest posts of readers: the port, and its two adapters.
//!
//! | file | what it is |
//! |---|---|
//! | [`memory`] | heads in this process |
//! | [`redis`] | heads in Redis, which outlive the node and are one for all nodes |
//! | `window` | what was in the log lately, which heads in Redis are measured against |
//! | `watched` | readers whose heads in Redis this node has seen |
//!
//! One suite, `src/tests/feeds/heads.rs`, holds both to the same promises.

pub mod memory;
pub mod redis;
mod watched;
mod window;

use async_trait::async_trait;
use nova_actors::id::{PostId, UserId};
use uuid::Uuid;

use super::HEAD_POSTS;
use window::Marks;

/// Readers with a head at most, 6 KiB each and as much again for whom they follow; the one that was not read for longest goes.
pub const READERS_MAX: usize = 10_000;
/// Somebody who follows more has no head: they are rare, and each would weigh as much as ten others.
pub const AUTHORS_MAX: usize = 2_000;

/// A part of a topic of the event log, by their numbers.
pub type Part = (i16, i16);

/// Where an event stands in the log, and which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The part it is in.
    pub part: Part,
    /// Its place there; places are dense and begin with 1.
    pub place: i64,
    /// Its id.
    pub event: Uuid,
}

/// What an event means for heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A post is there, for others too or for its author alone.
    Posted {
        /// Whose.
        author: UserId,
        /// Which.
        post: PostId,
        /// For its author alone.
        is_private: bool,
    },
    /// What a reader follows has changed.
    Forget(UserId),
}

/// A head being made: what is posted meanwhile is not missed.
#[derive(Debug)]
pub struct Build {
    reader: UserId,
    /// Its number in this process: what comes later has a higher one.
    token: u64,
    /// What comes next among the posts that are remembered; in memory.
    since: u64,
    /// How far the log was heard when it began; in Redis.
    marks: Marks,
}

/// A piece of a head, the newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct Slice {
    /// The posts.
    pub ids: Vec<PostId>,
    /// There is nothing below the head.
    pub is_whole: bool,
}

/// Heads cannot be asked now: a page comes from the next level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("heads cannot be reached")]
pub struct Away;

/// The heads of this node's readers. A head is contiguous: everything the reader may see above its floor, and that this node has
/// heard of, is in it.
#[async_trait]
pub trait Heads: Send + Sync {
    /// Up to so many posts below `after`; `None` without a head.
    async fn slice(&self, reader: UserId, after: Option<PostId>, rows: usize) -> Result<Option<Slice>, Away>;

    /// Begins to make the head of a reader; what is posted from now on will be in it.
    fn begin(&self, reader: UserId) -> Build;

    /// No head is made after all.
    fn abandon(&self, build: &Build);

    /// Makes the head of what was read after [`begin`](Heads::begin): whom the reader follows, themself among them, and their newest posts;
    /// more than [`HEAD_POSTS`] say that there are older ones. `false` when what the reader follows has changed since.
    async fn fill(&self, build: &Build, authors: Vec<UserId>, ids: Vec<PostId>) -> Result<bool, Away>;

    /// A post is there, said before the log says it; says in whose heads on this node it is new. Told twice is told once.
    fn posted(&self, author: UserId, post: PostId, is_private: bool) -> Vec<UserId>;

    /// What a reader follows has changed, said before the log says it: the head is to be made anew, one being made is void.
    fn forget(&self, reader: UserId);

    /// In how many heads on this node a post of `author` is.
    fn holding(&self, author: UserId, post: PostId, is_private: bool) -> usize;

    /// How many events of each part it wants to hear again when it starts.
    fn lookback(&self) -> i64;

    /// What this part of the log says is heard from behind this place on; what came before may have been missed.
    fn starts(&self, part: Part, place: i64);

    /// The log says something, or something that means nothing here; says in whose heads on this node a post is new.
    fn heard(&self, mark: Mark, what: Option<What>) -> Vec<UserId>;

    /// All that was committed before this time, in milliseconds since 1970, has been heard.
    fn caught_up(&self, at_ms: i64);

    /// Drops what this process knows of heads.
    fn clear(&self);
}
