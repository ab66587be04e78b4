//! The social side: what people post, who sees it, and what a text says beyond its letters.
//!
//! Doors are `rest/{follows,posts,comments,stories,feeds}.rs`, what is kept is in the files of the same names under [`crate::store`].
//!
//! # Decisions
//!
//! - **Who may read is one function of the database** (`may_read`), used by every query that gives out a post: by id, in lists, in
//!   feeds, among comments. A block, a changed visibility or an ended follow holds from the next query on, whatever a cache says.
//! - **Numbers are exact without hot rows.** Likes, follows and comments add a row to `counter_deltas` by trigger, in their own
//!   transaction; [`fold`] adds them up in batches. A number is read as counter and open deltas in one snapshot.
//! - **No foreign keys towards posts and users**: each like of one post would lock that post's row for share.
//! - **A story ends by the clock, not by a job**: every query about stories is told the time and asks for those whose day is not over;
//!   [`stories`] takes the rows away later.
//! - **A post carries text only** until media stand in the engine; its kind is told all the same, so clients need not change then.

pub mod fold;
pub mod stories;
pub mod words;

/// Characters of a post at most.
pub const POST_CHARS_MAX: usize = 5_000;
/// Characters of a comment at most.
pub const COMMENT_CHARS_MAX: usize = 2_000;
/// Characters of a story at most: it is read at a glance.
pub const STORY_CHARS_MAX: usize = 500;
/// How long a story is there.
pub const STORY_KEPT: time::Duration = time::Duration::hours(24);
/// Stories somebody tells at once at most: a reader is given all of an author's together.
pub const STORIES_MAX: i64 = 100;
/// Different tags in a post at most.
pub const TAGS_MAX: usize = 30;
/// Different people named in a post or a comment at most: each may be told of it.
pub const MENTIONS_MAX: usize = 50;
/// People somebody may follow at most: reading a feed without heads asks each of them.
pub const FOLLOWS_MAX: i64 = 10_000;
