//! Ordering candidates, and putting a post on heads; in this process.

use std::sync::Arc;

use nova_actors::id::{PostId, UserId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{micros, within};
use crate::bench::measure::{Line, Times};
use crate::feeds::HEAD_POSTS;
use crate::feeds::features::{Features, NAMES};
use crate::feeds::heads::memory::Heads;
use crate::feeds::model::Model;
use crate::feeds::rank::Ranker;

/// What needs no node.
pub(super) fn rank() -> Vec<Line> {
    let mut dice = StdRng::seed_from_u64(1);
    let now = OffsetDateTime::now_utc();
    let authors: Vec<_> = (0..40).map(|_| UserId::generate()).collect();
    let all: Vec<Features> = (0..HEAD_POSTS)
        .map(|nth| {
            let created_at = now - time::Duration::minutes(nth as i64);
            Features {
                post: PostId::new(created_at),
                author: authors.get(dice.random_range(0..40)).copied().unwrap_or_else(UserId::generate),
                created_at,
                likes: dice.random_range(0..1_000),
                comments: dice.random_range(0..100),
                affinity: dice.random_range(0..20),
                is_mutual: dice.random_bool(0.3),
            }
        })
        .collect();
    let weights = NAMES.map(|_| dice.random_range(-1.0..1.0));
    let ranker = Ranker::Model(Arc::new(Model::with_weights("bench", weights)));
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let began = Instant::now();
        std::hint::black_box(ranker.order(std::hint::black_box(&all), now));
        times.push(micros(began.elapsed()));
    }
    let times = Times::new(times);
    let mut lines = vec![within("400 candidates scored and ordered", &times, 0.99, 1.0)];

    const READERS: usize = 10_000;
    let heads = Heads::default();
    let author = UserId::generate();
    for _ in 0..READERS {
        let reader = UserId::generate();
        let build = heads.begin(reader);
        heads.fill(&build, vec![author, reader], all.iter().map(|features| features.post).collect());
    }
    let began = Instant::now();
    const POSTS: usize = 50;
    for _ in 0..POSTS {
        heads.posted(author, PostId::generate(), false);
    }
    let rate = (READERS * POSTS) as f64 / began.elapsed().as_secs_f64();
    lines.push(Line::promised(
        "heads a post is put on",
        "≥ 50,000/s",
        format!("{rate:.0}/s"),
        rate >= 50_000.0,
    ));
    lines
}
