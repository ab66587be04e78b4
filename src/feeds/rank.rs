//! The order of a ranked feed: age against engagement, and not one author alone. Numbers in, order out.

use std::collections::HashMap;

use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;

/// The name of what orders, as answers tell it. Another formula has another name.
pub const MODEL: &str = "decay-1";

/// Each further post of an author counts for so much of the one before.
const AUTHOR_AGAIN: f64 = 0.7;

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
}

/// How much a post is worth to its reader now. It falls with age and grows with likes, comments and affinity; a post from the future is
/// as old as one of this moment.
pub fn score(features: &Features, now: OffsetDateTime) -> f64 {
    let hours = ((now - features.created_at).as_seconds_f64() / 3_600.0).max(0.0);
    let engagement = (features.likes.max(0) as f64 + 2.0 * features.comments.max(0) as f64).ln_1p();
    let affinity = (features.affinity.max(0) as f64).ln_1p();
    (1.0 + engagement + 0.5 * affinity) / (hours + 2.0).powf(1.2)
}

/// The best first; posts of one author step back behind each other; what is equal goes by age.
pub fn order(all: &[Features], now: OffsetDateTime) -> Vec<PostId> {
    let mut scored: Vec<_> = all.iter().map(|features| (score(features, now), features)).collect();
    scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(y.post.cmp(&x.post)));
    let mut seen: HashMap<UserId, i32> = HashMap::new();
    let mut damped: Vec<_> = scored
        .into_iter()
        .map(|(score, features)| {
            let before = seen.entry(features.author).or_default();
            let damped = score * AUTHOR_AGAIN.powi(*before);
            *before += 1;
            (damped, features.post)
        })
        .collect();
    damped.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(y.cmp(x)));
    damped.into_iter().map(|(_, post)| post).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);

    fn features(hours: f64, likes: i64, comments: i64) -> Features {
        let created_at = NOW - time::Duration::seconds_f64(hours * 3_600.0);
        Features {
            post: PostId::new(created_at),
            author: UserId::generate(),
            created_at,
            likes,
            comments,
            affinity: 0,
        }
    }

    #[test]
    fn scores_are_what_they_were() {
        for (hours, likes, comments, wanted) in
            [(0.0, 0, 0, 0.435_275_3), (1.0, 10, 0, 0.909_220_2), (24.0, 100, 20, 0.119_105_1)]
        {
            let score = score(&features(hours, likes, comments), NOW);
            assert!((score - wanted).abs() < 1e-3, "{hours} {likes} {comments}: {score}");
        }
    }

    #[test]
    fn one_author_does_not_fill_a_page() {
        let mut all: Vec<_> = (0..5).map(|n| features(1.0 + f64::from(n) / 100.0, 0, 0)).collect();
        let author = all[0].author;
        all.iter_mut().take(4).for_each(|features| features.author = author);
        let order = order(&all, NOW);
        assert_eq!((order[0], order[1]), (all[0].post, all[4].post));
    }

    proptest! {
        #[test]
        fn newer_or_better_liked_is_not_lower(hours in -5.0..1e4_f64, younger in 0.0..100.0_f64, likes in 0..1_000_000_i64, more in 0..1_000_i64) {
            let base = score(&features(hours, likes, 3), NOW);
            prop_assert!(base.is_finite() && base > 0.0);
            prop_assert!(score(&features(hours - younger, likes, 3), NOW) >= base - 1e-12);
            prop_assert!(score(&features(hours, likes + more, 3), NOW) >= base);
            prop_assert!(score(&features(hours, likes, 3 + more), NOW) >= base);
        }

        #[test]
        fn an_order_has_each_once_and_is_the_same_for_every_mixing(n in 0..60_usize, seed: u64) {
            let all: Vec<_> = (0..n).map(|i| features(i as f64 / 3.0, (i as i64 * 7) % 11, 0)).collect();
            let first = order(&all, NOW);
            let mut mixed = all;
            let len = mixed.len().max(1);
            mixed.rotate_left((seed as usize) % len);
            prop_assert_eq!(&order(&mixed, NOW), &first);
            let mut sorted = first;
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), n);
        }
    }
}
