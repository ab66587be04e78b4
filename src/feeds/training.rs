//! `nova rank-train`: a linear model from what readers did, written only when it orders better than time does.
//!
//! A *visit* is what one reader was shown without a pause of half an hour: the posts, each with what it was worth to them (nothing 0, opened 1,
//! liked 2, commented on 3; hidden is nothing). What is known of a post is what was known when it was shown: likes, comments and follows that came
//! later are not counted, so the model learns nothing it would not have in use.
//!
//! Visits are divided by time: the model learns from the first four fifths and is judged by the last, by NDCG@20 against the newest first on the same
//! visits. It learns by comparing pairs of one visit (logistic loss on the difference of scores, full-batch gradient with a little weight
//! decay), which makes the same model from the same data each time.
//!
//! What it does not correct: posts near the top are looked at more, whatever they are. A model learned from ranked pages inherits some of their order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;

use super::features::{self, Features, NAMES};
use super::model::{Model, ModelFile, Trained, is_name};
use crate::app::{Errand, StartError};
use crate::config::Config;
use crate::store::StoreError;

/// A pause that ends a visit.
const PAUSE: time::Duration = time::Duration::minutes(30);
/// What a reader did after a day is not a page's doing.
pub const COUNTS_FOR: time::Duration = time::Duration::hours(24);
/// Of so many visits the last judges what the others taught.
const JUDGES_ONE_OF: usize = 5;
/// Fewer visits to be judged by say nothing.
const JUDGED_MIN: usize = 20;
/// Pairs of one visit at most, so that one long visit does not speak for all.
const PAIRS_MAX: usize = 400;
const ROUNDS: usize = 300;
const STEP: f64 = 0.5;
const DECAY: f64 = 1e-3;
/// Places that count.
const TOP: usize = 20;

/// `nova rank-train`.
#[derive(Debug, Args)]
pub struct RankTrain {
    /// Where the model goes; default: `home.json` in the folder of models, which the engine reads at once.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// What pages say they were ordered by; default: `home-` and the time.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Impressions that are read at most, the latest.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..=5_000_000))]
    pub impressions_max: u32,

    /// The engine's configuration.
    #[command(flatten)]
    pub config: Box<Config>,
}

/// Why no model was written; each prints as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Nobody could tell it apart.
    #[error("the name must be lowercase letters, digits, `-` and `_`")]
    Name,
    /// Not enough to learn from.
    #[error(
        "{visits} visits with anything that was opened, liked or commented on are too few: {needed} are needed; clients tell them with POST /v1/events"
    )]
    TooFew {
        /// How many there are.
        visits: usize,
        /// How many are needed.
        needed: usize,
    },
    /// It does not do better than time.
    #[error(
        "the model orders no better than the newest first (NDCG@20 {model:.4} against {chronological:.4} on {judged_by} later visits), so it was not written"
    )]
    NoBetter {
        /// Of the model.
        model: f64,
        /// Of the newest first.
        chronological: f64,
        /// On how many visits.
        judged_by: usize,
    },
    /// The file.
    #[error("the model cannot be written to {}: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database or the bus cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A post that was shown to a reader, as it was known then.
#[derive(Debug, Clone)]
pub struct Shown {
    /// To whom.
    pub reader: UserId,
    /// When.
    pub at: OffsetDateTime,
    /// What was known of it.
    pub features: Features,
    /// What it was worth to them, 0 to 3.
    pub worth: u8,
}

/// What one reader was shown without a pause.
#[derive(Debug, Clone)]
pub struct Visit {
    began: OffsetDateTime,
    shown: Vec<Shown>,
}

impl RankTrain {
    /// Learns, judges and writes; returns the lines to be shown. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`TrainError`], as one sentence; nothing was written then.
    pub async fn run(&self) -> Result<Vec<String>, TrainError> {
        let now = OffsetDateTime::now_utc();
        let name = self.name.clone().unwrap_or_else(|| format!("home-{}", now.unix_timestamp()));
        if !is_name(&name) {
            return Err(TrainError::Name);
        }
        let errand = Errand::open(&self.config, false).await?;
        let shown = errand.store().shown_posts(self.impressions_max.into()).await;
        errand.close().await;
        let (model, trained) = learn(&name, visits(shown?))?;
        let path = self.out.clone().unwrap_or_else(|| self.config.feed_models().join("home.json"));
        let said = format!(
            "{} was learned from {} visits and orders {} later ones better than time does: NDCG@20 {:.4} against {:.4}; written to {}",
            model.name(),
            trained.visits,
            trained.judged_by,
            trained.ndcg_at_20,
            trained.chronological_ndcg_at_20,
            path.display()
        );
        write(&path, &model, trained).map_err(|source| TrainError::Write { path, source })?;
        Ok(vec![said])
    }
}

/// Whole or not at all: an engine may read it meanwhile.
fn write(path: &Path, model: &Model, trained: Trained) -> std::io::Result<()> {
    let file = ModelFile {
        format: 1,
        name: model.name().to_owned(),
        features: features::VERSION,
        weights: NAMES.iter().map(|name| (*name).to_owned()).zip(model.weights()).collect::<BTreeMap<_, _>>(),
        trained: Some(trained),
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension("json.new");
    std::fs::write(&beside, serde_json::to_vec_pretty(&file)?)?;
    std::fs::rename(&beside, path)
}

/// Divides what was shown into visits, in the order of their beginnings; those in which nothing was worth anything say nothing.
pub fn visits(mut shown: Vec<Shown>) -> Vec<Visit> {
    shown.sort_by_key(|one| (one.reader, one.at));
    let mut visits: Vec<Visit> = Vec::new();
    for one in shown {
        match visits.last_mut().and_then(|visit| visit.shown.last().map(|last| (last.reader, last.at))) {
            Some((reader, at)) if reader == one.reader && one.at - at < PAUSE => {
                let Some(visit) = visits.last_mut() else { continue };
                // Shown again is shown once; what it was worth is the most it was.
                match visit.shown.iter_mut().find(|other| other.features.post == one.features.post) {
                    Some(before) => before.worth = before.worth.max(one.worth),
                    None => visit.shown.push(one),
                }
            }
            _ => visits.push(Visit { began: one.at, shown: vec![one] }),
        }
    }
    visits.retain(|visit| {
        let most = visit.shown.iter().map(|one| one.worth).max();
        most > visit.shown.iter().map(|one| one.worth).min()
    });
    visits.sort_by_key(|visit| visit.began);
    visits
}

/// A model of these visits that is better than time, with what it was judged by.
///
/// # Errors
/// [`TrainError::TooFew`], [`TrainError::NoBetter`].
pub fn learn(name: &str, visits: Vec<Visit>) -> Result<(Model, Trained), TrainError> {
    let cut = visits.len() - visits.len() / JUDGES_ONE_OF;
    let (past, later) = visits.split_at(cut);
    if later.len() < JUDGED_MIN {
        return Err(TrainError::TooFew { visits: visits.len(), needed: JUDGED_MIN * JUDGES_ONE_OF });
    }
    let model = Model::with_weights(name, fit(past));
    let mean = |order: &dyn Fn(&Shown) -> f64| {
        later.iter().map(|visit| ndcg(visit, order)).sum::<f64>() / later.len() as f64
    };
    let of_model = mean(&|one| model.score(&one.features, one.at));
    let of_time = mean(&|one| one.features.created_at.unix_timestamp_nanos() as f64);
    if of_model <= of_time {
        return Err(TrainError::NoBetter { model: of_model, chronological: of_time, judged_by: later.len() });
    }
    let trained = Trained {
        visits: past.len(),
        judged_by: later.len(),
        ndcg_at_20: of_model,
        chronological_ndcg_at_20: of_time,
    };
    Ok((model, trained))
}

/// The weights that tell best which of two posts of a visit was worth more.
fn fit(visits: &[Visit]) -> [f64; NAMES.len()] {
    let mut pairs: Vec<[f64; NAMES.len()]> = Vec::new();
    for visit in visits {
        let values: Vec<_> = visit.shown.iter().map(|one| (one.worth, one.features.values(one.at))).collect();
        let better = values.iter().flat_map(|(worth, better)| {
            let worse = values.iter().filter(move |(less, _)| less < worth);
            worse.map(move |(_, worse)| {
                let mut difference = *better;
                difference.iter_mut().zip(worse).for_each(|(value, less)| *value -= less);
                difference
            })
        });
        pairs.extend(better.take(PAIRS_MAX));
    }
    // Each feature in steps of its own size, so that one step suits all; folded back into the weights at the end.
    let mut scale = [0.0; NAMES.len()];
    for pair in &pairs {
        scale.iter_mut().zip(pair).for_each(|(sum, value)| *sum += value * value);
    }
    let count = pairs.len().max(1) as f64;
    scale.iter_mut().for_each(|sum| *sum = (*sum / count).sqrt());
    // What is the same everywhere tells nothing apart, and would get a weight without bound.
    scale.iter_mut().filter(|size| **size < 1e-3).for_each(|size| *size = f64::INFINITY);
    let mut weights = [0.0; NAMES.len()];
    for _ in 0..ROUNDS {
        let mut gradient = weights.map(|weight| -DECAY * weight);
        for pair in &pairs {
            let apart: f64 =
                weights.iter().zip(pair).zip(scale).map(|((w, value), size)| w * value / size).sum();
            let wrong = 1.0 / (1.0 + apart.exp());
            for ((slope, value), size) in gradient.iter_mut().zip(pair).zip(scale) {
                *slope += wrong * value / size / count;
            }
        }
        weights.iter_mut().zip(gradient).for_each(|(weight, slope)| *weight += STEP * slope);
    }
    weights.iter_mut().zip(scale).for_each(|(weight, size)| *weight /= size);
    weights
}

/// How well an order puts first what was worth most, 0 to 1 (normalised discounted cumulative gain of the first 20, gain 2^worth - 1).
fn ndcg(visit: &Visit, score: &dyn Fn(&Shown) -> f64) -> f64 {
    let gain = |order: &[u8]| -> f64 {
        let gains = order.iter().take(TOP).enumerate();
        gains.map(|(place, worth)| (f64::from(*worth).exp2() - 1.0) / (place as f64 + 2.0).log2()).sum()
    };
    let mut by_score: Vec<(f64, PostId, u8)> =
        visit.shown.iter().map(|one| (score(one), one.features.post, one.worth)).collect();
    by_score.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let order: Vec<u8> = by_score.iter().map(|(_, _, worth)| *worth).collect();
    let mut best = order.clone();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let most = gain(&best);
    if most > 0.0 { gain(&order) / most } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    use time::macros::datetime;

    use super::*;

    /// Visits of twenty posts each; what they are worth is `worth`'s to say.
    fn some(visits: usize, worth: impl Fn(&Features, &mut StdRng) -> u8) -> Vec<Shown> {
        let mut dice = StdRng::seed_from_u64(7);
        let mut all = Vec::new();
        for nth in 0..visits {
            let at = datetime!(2026-03-01 12:00 UTC) + time::Duration::minutes(45 * nth as i64);
            let reader = UserId::generate();
            for _ in 0..20 {
                let created_at = at - time::Duration::minutes(dice.random_range(1..2_000));
                let features = Features {
                    post: PostId::new(created_at),
                    author: UserId::generate(),
                    created_at,
                    likes: dice.random_range(0..50),
                    comments: dice.random_range(0..5),
                    affinity: dice.random_range(0..4),
                    is_mutual: dice.random_bool(0.3),
                };
                let worth = worth(&features, &mut dice);
                all.push(Shown { reader, at, features, worth });
            }
        }
        all
    }

    #[test]
    fn what_readers_like_is_learned() {
        let shown = some(150, |features, dice| {
            if features.affinity > 1 && dice.random_bool(0.8) { 2 } else { u8::from(dice.random_bool(0.1)) }
        });
        let (model, trained) = learn("m", visits(shown.clone())).expect("better than time");
        assert!(trained.ndcg_at_20 > trained.chronological_ndcg_at_20 + 0.1, "{trained:?}");
        let weights = model.weights();
        assert!(weights[4] > 0.5, "affinity counts: {weights:?}");
        assert_eq!(learn("m", visits(shown)).unwrap().0, model, "the same data make the same model");
    }

    #[test]
    fn a_model_that_loses_to_time_is_refused_and_so_is_little() {
        // The newest is the best and nothing else is known: a perfect order that no model can beat.
        let shown = some(150, |features, _| {
            u8::from(features.created_at > datetime!(2020-01-01 0:00 UTC) && features.likes < 0)
        });
        assert!(matches!(learn("m", visits(shown)), Err(TrainError::TooFew { visits: 0, .. })));
        let mut by_age = some(150, |_, _| 0);
        for visit in by_age.chunks_mut(20) {
            visit.sort_by_key(|one| std::cmp::Reverse(one.features.created_at));
            visit.iter_mut().take(3).for_each(|one| one.worth = 2);
        }
        let refused = learn("m", visits(by_age)).expect_err("time is perfect here");
        assert!(
            matches!(refused, TrainError::NoBetter { chronological, .. } if chronological > 0.999),
            "{refused}"
        );
        assert!(matches!(learn("m", Vec::new()), Err(TrainError::TooFew { needed: 100, .. })));
    }

    #[test]
    fn visits_end_with_a_pause_and_show_each_post_once() {
        let mut shown = some(1, |_, _| 0);
        shown.truncate(3);
        shown[0].worth = 1;
        let again = Shown { worth: 2, ..shown[0].clone() };
        let mut late = shown[1].clone();
        late.at += time::Duration::hours(1);
        shown.extend([again, late]);
        let visits = visits(shown);
        assert_eq!(visits.len(), 1, "in the second nothing was worth anything");
        assert_eq!(visits[0].shown.iter().map(|one| one.worth).collect::<Vec<_>>(), [2, 0, 0]);
    }
}
