//! What Redis does with a head in one step. A head is two keys: a hash with what is known of it (`g` its generation, `w` whether it is
//! whole, `m` how far the log was followed, `a` whom its reader follows, `n` how many posts there are) and a sorted set of posts, all with
//! score 0, so that they are in the order of their ids, which is that of their times. One of two that is gone, or evicted, takes the
//! other with it.

use std::sync::LazyLock;

use nova_actors::id::{PostId, UserId};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};
use uuid::Uuid;

use super::super::HEAD_POSTS;
use super::super::window::Marks;

/// How long a head is kept that nobody reads, in milliseconds: who did not come for fourteen days starts anew.
const KEPT_MS: u64 = 14 * 86_400_000;

/// Some posts of a head, and what is known of it; of whom its reader follows nothing where that is known. What is no head is taken away.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local m = redis.pcall('HMGET', KEYS[1], 'g', 'w', 'm', 'n', 'a') \
         local n = redis.pcall('ZCARD', KEYS[2]) \
         if m.err or not m[1] or type(n) ~= 'number' or tonumber(m[4]) ~= n then \
             redis.call('DEL', KEYS[1], KEYS[2]) return false \
         end \
         redis.call('PEXPIRE', KEYS[1], ARGV[4]) redis.call('PEXPIRE', KEYS[2], ARGV[4]) \
         local ids = redis.call('ZREVRANGEBYLEX', KEYS[2], ARGV[2], '-', 'LIMIT', 0, ARGV[3]) \
         local floor = redis.call('ZRANGE', KEYS[2], 0, 0)[1] or '' \
         local authors = m[5] if m[1] == ARGV[1] then authors = '' end \
         return {m[1], m[2], m[3], floor, authors, ids}",
    )
});

/// A head in the place of what was there.
static WRITE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('DEL', KEYS[1], KEYS[2]) \
         for i = 6, #ARGV do redis.call('ZADD', KEYS[2], 0, ARGV[i]) end \
         redis.call('HSET', KEYS[1], 'g', ARGV[1], 'w', ARGV[2], 'm', ARGV[3], 'a', ARGV[4], 'n', redis.call('ZCARD', KEYS[2])) \
         redis.call('PEXPIRE', KEYS[1], ARGV[5]) redis.call('PEXPIRE', KEYS[2], ARGV[5]) \
         return 1",
    )
});

/// Brings a head forward: posts it lacked, none below its floor, and how far the log was followed for them. Nothing when it is not what
/// was read any more: another head, or the same further on, or further back because Redis was restored.
/// A head that is not whole may have room, when a version made it that keeps fewer.
static FORWARD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local m = redis.call('HMGET', KEYS[1], 'g', 'w', 'n', 'm') \
         if m[1] ~= ARGV[1] or m[4] ~= ARGV[5] then return 0 end \
         local floor = redis.call('ZRANGE', KEYS[2], 0, 0)[1] \
         if tonumber(m[3]) ~= redis.call('ZCARD', KEYS[2]) or (m[2] ~= '1' and not floor) then \
             redis.call('DEL', KEYS[1], KEYS[2]) return 0 \
         end \
         for i = 6, #ARGV do redis.call('ZADD', KEYS[2], 0, ARGV[i]) end \
         if m[2] ~= '1' then redis.call('ZREMRANGEBYLEX', KEYS[2], '-', '(' .. floor) end \
         local over = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[4]) \
         if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[2], 0, over - 1) m[2] = '0' end \
         redis.call('HSET', KEYS[1], 'w', m[2], 'm', ARGV[2], 'n', redis.call('ZCARD', KEYS[2])) \
         redis.call('PEXPIRE', KEYS[1], ARGV[3]) redis.call('PEXPIRE', KEYS[2], ARGV[3]) \
         return 1",
    )
});

/// Where the head of a reader is. The braces keep both keys on one node of a cluster.
pub(super) struct Keys {
    known: String,
    posts: String,
}

impl Keys {
    pub(super) fn of(namespace: &str, reader: UserId) -> Keys {
        let key = |what| format!("{namespace}:head:{{{}}}:{what}", reader.as_uuid().simple());
        Keys { known: key("known"), posts: key("posts") }
    }
}

/// A head as Redis has it: nothing of it is believed before it is read.
pub(super) struct Raw {
    pub(super) generation: Uuid,
    pub(super) is_whole: bool,
    pub(super) marks: Marks,
    pub(super) floor: Option<PostId>,
    /// Nothing when they were known.
    pub(super) authors: Vec<UserId>,
    /// The newest first.
    pub(super) ids: Vec<PostId>,
}

/// What Redis said is no head.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It did not do it.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// What it said makes no sense.
    #[error("what is said to be a head is none")]
    Lie,
}

type Answer = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<Vec<u8>>);

/// Up to so many posts of a head below `after`; with `known`, whom the reader of that generation follows is not said again.
pub(super) async fn read(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    known: Option<Uuid>,
    after: Option<PostId>,
    rows: usize,
) -> Result<Option<Raw>, Unread> {
    let mut script = READ.prepare_invoke();
    let known = known.map_or(Vec::new(), |known| known.as_bytes().to_vec());
    let below = match after {
        Some(after) => [b"(".as_slice(), after.as_uuid().as_bytes()].concat(),
        None => b"+".to_vec(),
    };
    script.key(&keys.known).key(&keys.posts).arg(known).arg(below).arg(rows).arg(KEPT_MS);
    let answer: Option<Answer> = script.invoke_async(connection).await?;
    answer.map(|answer| sense(&answer, after, rows).ok_or(Unread::Lie)).transpose()
}

/// Reads what Redis said.
fn sense(answer: &Answer, after: Option<PostId>, rows: usize) -> Option<Raw> {
    let (generation, whole, marks, floor, authors, ids) = answer;
    let (authors, rest) = authors.as_chunks::<16>();
    if !rest.is_empty() || authors.len() > super::super::AUTHORS_MAX || ids.len() > rows {
        return None;
    }
    let post = |bytes: &Vec<u8>| Uuid::from_slice(bytes).ok().map(PostId::from_uuid);
    let raw = Raw {
        generation: Uuid::from_slice(generation).ok()?,
        is_whole: match whole.as_slice() {
            b"1" => true,
            b"0" => false,
            _ => return None,
        },
        marks: Marks::read(marks)?,
        floor: match floor.is_empty() {
            true => None,
            false => Some(post(floor)?),
        },
        authors: authors.iter().map(|bytes| UserId::from_uuid(Uuid::from_bytes(*bytes))).collect(),
        ids: ids.iter().map(post).collect::<Option<Vec<_>>>()?,
    };
    let is_below = after.is_none_or(|after| raw.ids.first().is_none_or(|first| *first < after));
    let is_above = raw.ids.last().is_none_or(|last| raw.floor.is_some_and(|floor| floor <= *last));
    let is_order = raw.ids.is_sorted_by(|newer, older| newer > older);
    // Whoever lacks something has a floor.
    (is_below && is_above && is_order && (raw.is_whole || raw.floor.is_some())).then_some(raw)
}

/// Puts a head in the place of what is there.
pub(super) async fn write(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    raw: &Raw,
) -> Result<(), RedisError> {
    let mut script = WRITE.prepare_invoke();
    let authors: Vec<u8> = raw.authors.iter().flat_map(|author| *author.as_uuid().as_bytes()).collect();
    script.key(&keys.known).key(&keys.posts);
    script.arg(raw.generation.as_bytes()).arg(i32::from(raw.is_whole)).arg(raw.marks.bytes());
    script.arg(authors).arg(KEPT_MS);
    for id in &raw.ids {
        script.arg(id.as_uuid().as_bytes());
    }
    script.invoke_async(connection).await
}

/// Brings the head of this generation forward from some marks to others; `false` when it is not there any more.
pub(super) async fn forward(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    generation: Uuid,
    marks: (&Marks, &Marks),
    posts: &[PostId],
) -> Result<bool, RedisError> {
    let mut script = FORWARD.prepare_invoke();
    script.key(&keys.known).key(&keys.posts);
    let (from, to) = marks;
    script.arg(generation.as_bytes()).arg(to.bytes()).arg(KEPT_MS).arg(HEAD_POSTS).arg(from.bytes());
    for id in posts {
        script.arg(id.as_uuid().as_bytes());
    }
    script.invoke_async(connection).await
}
