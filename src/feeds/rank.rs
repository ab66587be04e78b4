//! The order of a ranked feed: what a post is worth, and not one author alone. Numbers in, order out.

use std::collections::HashMap;
use std::sync::Arc;

use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;

use super::features::Features;
use super::model::Model;

/// The name of the formula of age and engagement, as answers tell it. Another formula has another name.
pub const ENGAGEMENT: &str = "decay-2";
/// The name of the order of the newest.
pub const CHRONOLOGICAL: &str = "chronological";

/// Each further post of an author counts for so much less than the one before.
const AUTHOR_AGAIN: f64 = 0.7;

/// What orders.
#[derive(Debug, Clone, PartialEq)]
pub enum Ranker {
    /// A learned model.
    Model(Arc<Model>),
    /// Age against likes and comments.
    Engagement,
    /// The newest first.
    Newest,
}

impl Ranker {
    /// As answers name it.
    pub fn name(&self) -> &str {
        match self {
            Ranker::Model(model) => model.name(),
            Ranker::Engagement => ENGAGEMENT,
            Ranker::Newest => CHRONOLOGICAL,
        }
    }

    /// The best first; posts of one author step back behind each other; what is equal goes by age.
    pub fn order(&self, all: &[Features], now: OffsetDateTime) -> Vec<PostId> {
        match self {
            Ranker::Model(model) => order_by(all, |features| model.score(features, now)),
            Ranker::Engagement => order_by(all, |features| engagement(features, now)),
            Ranker::Newest => {
                let mut ids: Vec<_> = all.iter().map(|features| features.post).collect();
                ids.sort_unstable_by(|a, b| b.cmp(a));
                ids
            }
        }
    }
}

/// How much a post is worth by age and engagement: it falls with age and grows with likes and comments.
pub fn engagement(features: &Features, now: OffsetDateTime) -> f64 {
    let engagement = (features.likes.max(0) as f64 + 2.0 * features.comments.max(0) as f64).ln_1p();
    (1.0 + engagement) / (features.hours(now) + 2.0).powf(1.2)
}

fn order_by(all: &[Features], score: impl Fn(&Features) -> f64) -> Vec<PostId> {
    let mut scored: Vec<_> = all.iter().map(|features| (score(features), features)).collect();
    scored.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(y.post.cmp(&x.post)));
    // A model's scores may be below zero: what is taken away is measured by how far apart the best and the worst are.
    let spread = match (scored.first(), scored.last()) {
        (Some((best, _)), Some((worst, _))) => (best - worst).max(f64::MIN_POSITIVE),
        _ => return Vec::new(),
    };
    let worst = scored.last().map_or(0.0, |(worst, _)| *worst);
    let mut seen: HashMap<UserId, i32> = HashMap::new();
    let mut damped: Vec<_> = scored
        .into_iter()
        .map(|(score, features)| {
            let before = seen.entry(features.author).or_default();
            let above = (score - worst) / spread;
            let damped = (above + 0.5) * AUTHOR_AGAIN.powi(*before);
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
    use crate::feeds::features::NAMES;

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
            is_mutual: false,
        }
    }

    #[test]
    fn scores_are_what_they_were() {
        for (hours, likes, comments, wanted) in
            [(0.0, 0, 0, 0.435_275_3), (1.0, 10, 0, 0.909_220_2), (24.0, 100, 20, 0.119_105_1)]
        {
            let score = engagement(&features(hours, likes, comments), NOW);
            assert!((score - wanted).abs() < 1e-3, "{hours} {likes} {comments}: {score}");
        }
    }

    #[test]
    fn one_author_does_not_fill_a_page() {
        let mut all: Vec<_> = (0..5).map(|n| features(1.0 + f64::from(n) / 100.0, 0, 0)).collect();
        let author = all[0].author;
        all.iter_mut().take(4).for_each(|features| features.author = author);
        let order = Ranker::Engagement.order(&all, NOW);
        assert_eq!(order[0], all[0].post);
        assert!(
            order.iter().position(|post| *post == all[4].post) < Some(3),
            "the other author comes forward"
        );
    }

    #[test]
    fn a_model_orders_by_its_weights() {
        let mut likes_only = [0.0; NAMES.len()];
        likes_only[1] = 1.0;
        let all = [features(1.0, 1, 0), features(2.0, 9, 0), features(3.0, 5, 0)];
        let model = Ranker::Model(Arc::new(Model::with_weights("likes", likes_only)));
        assert_eq!(model.order(&all, NOW), [all[1].post, all[2].post, all[0].post]);
        assert_eq!(Ranker::Newest.order(&all, NOW), [all[0].post, all[1].post, all[2].post]);
    }

    proptest! {
        #[test]
        fn newer_or_better_liked_is_not_lower(hours in -5.0..1e4_f64, younger in 0.0..100.0_f64, likes in 0..1_000_000_i64, more in 0..1_000_i64) {
            let base = engagement(&features(hours, likes, 3), NOW);
            prop_assert!(base.is_finite() && base > 0.0);
            prop_assert!(engagement(&features(hours - younger, likes, 3), NOW) >= base - 1e-12);
            prop_assert!(engagement(&features(hours, likes + more, 3), NOW) >= base);
            prop_assert!(engagement(&features(hours, likes, 3 + more), NOW) >= base);
        }

        #[test]
        fn an_order_has_each_once_and_is_the_same_for_every_mixing(
            n in 0..60_usize, seed: u64, weights in prop::array::uniform6(-1e6..1e6_f64), lie: i64,
        ) {
            let mut all: Vec<_> = (0..n).map(|i| features(i as f64 / 3.0, (i as i64 * 7) % 11, 0)).collect();
            // Counters that lie change the order and nothing else.
            if let Some(first) = all.first_mut() {
                (first.likes, first.comments, first.affinity) = (lie, lie, lie);
            }
            for ranker in [Ranker::Engagement, Ranker::Newest, Ranker::Model(Arc::new(Model::with_weights("m", weights)))] {
                let first = ranker.order(&all, NOW);
                let mut mixed = all.clone();
                let len = mixed.len().max(1);
                mixed.rotate_left((seed as usize) % len);
                prop_assert_eq!(&ranker.order(&mixed, NOW), &first);
                let mut sorted = first;
                sorted.sort_unstable();
                sorted.dedup();
                prop_assert_eq!(sorted.len(), n);
            }
        }
    }
}
