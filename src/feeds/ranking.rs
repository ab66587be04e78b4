//! Ranked pages: candidates, the order of a reader's arm, snapshots to go on in, and why a post stands where it stands.

use std::sync::{Arc, PoisonError};

use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::experiments::{Experiment, Ranking};
use super::features::{Features, NAMES};
use super::ladder::{Level, Tried};
use super::model::{HOME, Model};
use super::rank::{ENGAGEMENT, Ranker, engagement};
use super::{Feeds, HEAD_POSTS, Page, Place};
use crate::store::StoreError;
use crate::store::feeds::Snapshot;

/// How a reader's feed is ordered, and because of which experiment.
struct Choice {
    ranker: Ranker,
    /// Why it is not a model.
    reason: Option<&'static str>,
    arm: Option<(Arc<[Experiment]>, usize, String)>,
}

/// Why a post stands where it stands.
#[derive(Debug, Clone)]
pub struct Explained {
    /// Which.
    pub post: PostId,
    /// What it is worth to what ordered the page; nothing where time alone did.
    pub score: Option<f64>,
    /// What is known of it, by name.
    pub features: Vec<(&'static str, f64)>,
    /// What each feature added to the score, by name; of a model alone.
    pub parts: Vec<(&'static str, f64)>,
}

impl Feeds {
    /// The first page of a ranked feed, from the best level that gives it.
    pub(super) async fn first_ranked(&self, reader: UserId, limit: usize) -> Page {
        let mut tried = Vec::new();
        if self.is_direct() {
            return self.newest(reader, None, limit, tried, Some("direct")).await;
        }
        let choice = self.choose(reader);
        let mut reason = choice.reason;
        if matches!(choice.ranker, Ranker::Model(_)) {
            let page = self.rank(Level::Model, reader, &choice, &choice.ranker, limit);
            match self.on(Level::Model, &mut tried, page).await {
                Ok(page) => return Page { tried, arm: choice.named(), ..page },
                Err(why) => reason = Some(why),
            }
        }
        let ranker = match choice.ranker {
            Ranker::Newest => Ranker::Newest,
            _ => Ranker::Engagement,
        };
        let page = self.rank(Level::Engagement, reader, &choice, &ranker, limit);
        match self.on(Level::Engagement, &mut tried, page).await {
            Ok(page) => Page { tried, reason, arm: choice.named(), ..page },
            Err(why) => self.newest(reader, None, limit, tried, reason.or(Some(why))).await,
        }
    }

    /// A further page of a ranked feed. `None` when its order is not kept any more.
    pub(super) async fn in_snapshot(
        &self,
        reader: UserId,
        id: Uuid,
        offset: u16,
        limit: usize,
    ) -> Option<Page> {
        let page = async {
            let Some(snapshot) = self.store.feed_snapshot(id, reader).await? else { return Ok(None) };
            let now = self.clock.now();
            self.page_of_order(reader, id, &snapshot, usize::from(offset), limit, now).await.map(Some)
        };
        let mut tried: Vec<Tried> = Vec::new();
        // The order is there already: what it costs is reading posts, as of the newest.
        match self.on(Level::Newest, &mut tried, page).await {
            Ok(page) => page.map(|page| Page { tried, ..page }),
            Err(reason) => {
                let page = self.kept(reader, Some(Place::In(id, offset)));
                Some(Page { reason: Some(reason), tried, ..page })
            }
        }
    }

    /// Orders the candidates on a level and keeps the order.
    async fn rank(
        &self,
        level: Level,
        reader: UserId,
        choice: &Choice,
        ranker: &Ranker,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let now = self.clock.now();
        let candidates = self.candidates(reader).await?;
        let features = match level == Level::Model || choice.compares_models() {
            true => self.store.post_features(reader, &candidates).await?,
            false => self.store.post_counters(&candidates).await?,
        };
        let posts = ranker.order(&features, now);
        // What a lower level gave is no arm's doing.
        if *ranker == choice.ranker {
            self.expose(reader, choice, &features, limit, now);
        }
        let level = if *ranker == Ranker::Newest { Level::Newest } else { level };
        let snapshot = Snapshot { posts, level, model: ranker.name().to_owned() };
        let id = Uuid::now_v7();
        let page = self.page_of_order(reader, id, &snapshot, 0, limit, now).await?;
        if page.next.is_some() {
            self.store.keep_feed_snapshot(id, reader, &snapshot, now).await?;
        }
        Ok(page)
    }

    /// The posts that may be on a ranked page: the head, else the newest of PostgreSQL.
    async fn candidates(&self, reader: UserId) -> Result<Vec<PostId>, StoreError> {
        if self.is_fresh()
            && let Some(slice) = self.slice(reader, None, HEAD_POSTS).await?
        {
            return Ok(slice.ids);
        }
        self.store.home_ids(reader, None, HEAD_POSTS as i64).await
    }

    async fn page_of_order(
        &self,
        reader: UserId,
        id: Uuid,
        snapshot: &Snapshot,
        offset: usize,
        limit: usize,
        now: OffsetDateTime,
    ) -> Result<Page, StoreError> {
        let (mut posts, mut place) = (Vec::new(), offset);
        while posts.len() < limit && place < snapshot.posts.len() {
            let wanted: Vec<_> =
                snapshot.posts.iter().skip(place).take(limit - posts.len()).copied().collect();
            place += wanted.len();
            // The first page was made of what is followed now; a later one finds what is followed no more.
            let wanted = match offset {
                0 => wanted,
                _ => self.store.still_at_home(reader, &wanted).await?,
            };
            posts.extend(self.store.posts_shown(reader, &wanted).await?);
        }
        let more = place < snapshot.posts.len();
        let next = u16::try_from(place).ok().filter(|_| more).map(|place| Place::In(id, place));
        Ok(Page { model: snapshot.model.clone(), ..Page::new(snapshot.level, posts, next, now) })
    }

    /// How the feed of `reader` is ordered.
    fn choose(&self, reader: UserId) -> Choice {
        let experiments = self.experiments.read().unwrap_or_else(PoisonError::into_inner).clone();
        let of = experiments
            .iter()
            .enumerate()
            .find_map(|(nth, experiment)| experiment.arm_of(reader).map(|arm| (nth, arm)));
        let (ranker, reason) = self.ranker(of.map_or(&Ranking::Control, |(_, arm)| &arm.ranking));
        let arm = of.map(|(nth, arm)| (experiments.clone(), nth, arm.name.clone()));
        Choice { ranker, reason, arm }
    }

    fn ranker(&self, ranking: &Ranking) -> (Ranker, Option<&'static str>) {
        let slot = match ranking {
            Ranking::Engagement => return (Ranker::Engagement, None),
            Ranking::Newest => return (Ranker::Newest, None),
            Ranking::Control => HOME,
            Ranking::Model(slot) => slot,
        };
        match self.models.get(slot) {
            Some(model) => (Ranker::Model(model), None),
            None => (Ranker::Engagement, Some("no_model")),
        }
    }

    /// Tells, beside the request, that the reader's arm made a difference: another would have shown another first page.
    fn expose(
        &self,
        reader: UserId,
        choice: &Choice,
        features: &[Features],
        limit: usize,
        now: OffsetDateTime,
    ) {
        let Some((experiments, nth, arm)) = &choice.arm else { return };
        let Some(experiment) = experiments.get(*nth) else { return };
        let first = |ranker: &Ranker| {
            let mut order = ranker.order(features, now);
            order.truncate(limit);
            order
        };
        let shown = first(&choice.ranker);
        if experiment.arms.iter().all(|other| first(&self.ranker(&other.ranking).0) == shown) {
            return;
        }
        let day = now.unix_timestamp() / 86_400;
        let key = (reader, experiment.name.clone(), arm.clone());
        if self.exposed.get(&key) == Some(day) {
            return;
        }
        self.exposed.insert(key, day);
        let (store, name, arm) = (self.store.clone(), experiment.name.clone(), arm.clone());
        tokio::spawn(async move {
            if let Err(error) = store.tell_exposure(reader, &name, &arm, now).await {
                tracing::debug!(%error, "an exposure is not told");
            }
        });
    }

    /// Why each post of a page stands where it stands, as it is known now.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn explain(&self, reader: UserId, page: &Page) -> Result<Vec<Explained>, StoreError> {
        let ids: Vec<_> = page.posts.iter().map(|post| post.id).collect();
        let now = self.clock.now();
        let features = self.store.post_features(reader, &ids).await?;
        let model: Option<Arc<Model>> = self.models.called(&page.model);
        let explained = ids.iter().filter_map(|id| {
            let features = features.iter().find(|features| features.post == *id)?;
            let values = features.values(now);
            let (score, parts) = match (&model, page.model.as_str()) {
                (Some(model), _) => (Some(model.score(features, now)), Some(model.parts(features, now))),
                (None, ENGAGEMENT) => (Some(engagement(features, now)), None),
                _ => (None, None),
            };
            let named = |numbers: [f64; NAMES.len()]| NAMES.into_iter().zip(numbers).collect::<Vec<_>>();
            let parts = parts.map(named).unwrap_or_default();
            Some(Explained { post: *id, score, features: named(values), parts })
        });
        Ok(explained.collect())
    }

    /// How long each level may take, in the order they are tried.
    pub fn budgets(&self) -> [(Level, std::time::Duration); 4] {
        [Level::Model, Level::Engagement, Level::Newest, Level::Database]
            .map(|level| (level, self.budgets.of(level)))
    }
}

impl Choice {
    /// Whether an arm beside the reader's own needs what only a model asks for.
    fn compares_models(&self) -> bool {
        let Some((experiments, nth, _)) = &self.arm else { return false };
        let needs = |ranking: &Ranking| matches!(ranking, Ranking::Control | Ranking::Model(_));
        experiments.get(*nth).is_some_and(|experiment| experiment.arms.iter().any(|arm| needs(&arm.ranking)))
    }

    /// The experiment and the arm, by name.
    fn named(&self) -> Option<(String, String)> {
        let (experiments, nth, arm) = self.arm.as_ref()?;
        experiments.get(*nth).map(|experiment| (experiment.name.clone(), arm.clone()))
    }
}
