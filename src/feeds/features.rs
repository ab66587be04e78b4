//! What a ranking knows of a post and its reader, as numbers under names.
//!
//! The set has a version. A model says which one it was trained with and is refused by an engine that computes another: a name never
//! changes its meaning within a version.

use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;

/// The version of this set.
pub const VERSION: u32 = 1;

/// The names, in the order of [`Features::values`].
///
/// | name | value |
/// |---|---|
/// | `age` | ln(1 + hours since it was posted) |
/// | `likes` | ln(1 + likes) |
/// | `comments` | ln(1 + comments) |
/// | `rate` | ln(1 + (likes + 2 × comments) / (hours + 2)) |
/// | `affinity` | ln(1 + posts of its author among the last 200 its reader liked) |
/// | `mutual` | 1 when its author follows its reader, else 0 |
pub const NAMES: [&str; 6] = ["age", "likes", "comments", "rate", "affinity", "mutual"];

/// What is known of a post.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Which.
    pub post: PostId,
    /// Whose.
    pub author: UserId,
    /// When it was posted.
    pub created_at: OffsetDateTime,
    /// How many like it.
    pub likes: i64,
    /// How many comments it has.
    pub comments: i64,
    /// Posts of this author the reader has liked lately.
    pub affinity: i64,
    /// Whether the author follows the reader.
    pub is_mutual: bool,
}

impl Features {
    /// Hours since it was posted; a post from the future is as old as one of this moment.
    pub fn hours(&self, now: OffsetDateTime) -> f64 {
        ((now - self.created_at).as_seconds_f64() / 3_600.0).max(0.0)
    }

    /// The numbers, as [`NAMES`] name them; finite whatever a counter says.
    pub fn values(&self, now: OffsetDateTime) -> [f64; NAMES.len()] {
        let hours = self.hours(now);
        let (likes, comments) = (self.likes.max(0) as f64, self.comments.max(0) as f64);
        [
            hours.ln_1p(),
            likes.ln_1p(),
            comments.ln_1p(),
            ((likes + 2.0 * comments) / (hours + 2.0)).ln_1p(),
            (self.affinity.max(0) as f64).ln_1p(),
            f64::from(u8::from(self.is_mutual)),
        ]
    }
}
