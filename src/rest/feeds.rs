//! `/v1/feeds`: what somebody reads when they come.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, web};
use nova_actors::id::{PostId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::page::{Limit, another_list};
use super::posts::PostBody;
use super::{Cursor, Json, Manner, Page, PageQuery, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Problem};
use crate::feeds::{self, Level, Place};
use crate::identity::{Caller, Role};

/// How a feed is ordered.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// The newest first.
    Latest,
    /// By age, engagement and how much the reader likes the author.
    Ranked,
}

/// Which page of the feed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedQuery {
    /// How it is ordered; `latest` when left out.
    #[param(nullable = false, inline)]
    mode: Option<Mode>,
    /// Where the page before ended. One of a ranked feed is good for fifteen minutes.
    #[param(max_length = 512, nullable = false)]
    cursor: Option<String>,
    /// How many.
    #[serde(default)]
    #[param(value_type = u8, minimum = 1, maximum = 100, default = 25, required = false)]
    limit: Limit,
    /// Tell why each post stands where it stands; for administrators.
    #[param(nullable = false)]
    explain: Option<bool>,
}

/// A page of a feed.
#[derive(Serialize, ToSchema)]
pub(super) struct Feed {
    /// The posts, in the order to be shown.
    items: Vec<PostBody>,
    /// What to give as `cursor` for the page after this one; absent at the end. A page may be empty and not be the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
    /// How the page came to be.
    ranking: Ranking,
}

/// How a page of a feed came to be.
#[derive(Serialize, ToSchema)]
pub(super) struct Ranking {
    /// What gave the page: `model` (ranked by a learned model), `engagement` (ranked by age and engagement), `newest` (from memory),
    /// `database` (straight from what is kept) or, while the database is away, `last_good` (what the reader was shown before).
    #[schema(example = "newest")]
    level: &'static str,
    /// What ordered it: `chronological`, the name of a formula, or that of a model.
    #[schema(example = "chronological")]
    model: String,
    /// Why no better level gave it: `no_model`, `no_head`, `log_behind`, `too_slow`, `failed`, `breaker_open`, or `direct` while an operator
    /// has switched everything that is kept off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
    /// Everything committed before is in it.
    #[serde(serialize_with = "instant::serialize")]
    fresh_as_of: OffsetDateTime,
    /// How it was made, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    explain: Option<Explanation>,
}

/// How a page was made.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    /// What was tried, the best level first.
    tried: Vec<TriedBody>,
    /// The experiment the reader is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    experiment: Option<ArmBody>,
    /// Why each post stands where it stands, as it is known now.
    posts: Vec<ExplainedBody>,
}

/// A level that was tried.
#[derive(Serialize, ToSchema)]
#[schema(as = FeedLevelTried)]
pub(super) struct TriedBody {
    /// Which.
    #[schema(example = "model")]
    level: &'static str,
    /// `ok`, `too_slow`, `failed` or `breaker_open`.
    #[schema(example = "ok")]
    outcome: &'static str,
    /// How long it took, in milliseconds.
    took_ms: f64,
    /// How long it may take, in milliseconds.
    budget_ms: u64,
}

/// An experiment and an arm of it.
#[derive(Serialize, ToSchema)]
#[schema(as = FeedArm)]
pub(super) struct ArmBody {
    /// The experiment.
    name: String,
    /// The reader's arm.
    arm: String,
}

/// Why a post stands where it stands.
#[derive(Serialize, ToSchema)]
#[schema(as = FeedPostExplained)]
pub(super) struct ExplainedBody {
    /// TypeID `post_…`.
    #[schema(value_type = String)]
    post: PostId,
    /// What it is worth to what ordered the page; absent where time alone did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    score: Option<f64>,
    /// What is known of it, by name.
    #[schema(value_type = std::collections::HashMap<String, f64>)]
    features: BTreeMap<&'static str, f64>,
    /// What each feature adds to the score of a model.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, f64>, required = false)]
    parts: BTreeMap<&'static str, f64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct HomeCursor(UserId, Place);

impl Cursor for HomeCursor {
    const LIST: &'static str = "home";
}

#[derive(Clone, Serialize, Deserialize)]
struct DiscoverCursor(PostId);

impl Cursor for DiscoverCursor {
    const LIST: &'static str = "discover";
}

/// The caller's home feed: posts of those they follow, and their own. It is answered whatever is broken; `ranking` tells how.
#[utoipa::path(
    get, path = "/v1/feeds/home", tag = "feeds", security(("bearer" = [])), params(FeedQuery),
    responses(
        (status = 200, description = "A page of it", body = Feed),
        (status = 400, description = "`invalid_cursor`: it belongs to another list or reader, or is too old", body = Problem),
        (status = 403, description = "`forbidden`: `explain` is for administrators", body = Problem),
    )
)]
pub(super) async fn home(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    query: Query<FeedQuery>,
) -> Result<Json<Feed>, ApiError> {
    let Query(FeedQuery { mode, cursor, limit, explain }) = query;
    let explain = explain.unwrap_or(false);
    if explain {
        engine.identity.require(&caller, Role::Admin).await?;
    }
    let place = match Page::<HomeCursor>::of(&request, cursor.as_deref(), limit)?.after {
        Some(HomeCursor(reader, _)) if reader != caller.user => return Err(another_list()),
        Some(HomeCursor(_, place)) => Some(place),
        None => None,
    };
    let count = usize::from(limit.get());
    let page = match (mode.unwrap_or(Mode::Latest), place) {
        // Who was given the newest in place of a ranked page goes on below it.
        (_, Some(Place::Below(post))) => engine.feeds.latest(caller.user, Some(post), count).await,
        (_, Some(Place::In(snapshot, offset))) => engine
            .feeds
            .ranked(caller.user, Some((snapshot, offset)), count)
            .await
            .ok_or_else(another_list)?,
        (Mode::Latest, None) => engine.feeds.latest(caller.user, None, count).await,
        (Mode::Ranked, None) => {
            engine.feeds.ranked(caller.user, None, count).await.ok_or_else(another_list)?
        }
    };
    let explanation = if explain { Some(explanation(&engine, caller.user, &page).await) } else { None };
    let next_cursor = page.next.map(|place| HomeCursor(caller.user, place));
    Ok(Json(feed(&request, page, next_cursor, explanation)?))
}

/// What is known of how a page was made; without the posts' features while the database is away.
async fn explanation(engine: &Engine, reader: UserId, page: &feeds::Page) -> Explanation {
    let budgets = engine.feeds.budgets();
    let budget_ms = |level: Level| {
        let found = budgets.iter().find(|(of, _)| *of == level);
        found.map_or(0, |(_, budget)| u64::try_from(budget.as_millis()).unwrap_or(u64::MAX))
    };
    let tried = page.tried.iter().map(|tried| TriedBody {
        level: tried.level.as_str(),
        outcome: tried.outcome,
        took_ms: tried.took.as_secs_f64() * 1e3,
        budget_ms: budget_ms(tried.level),
    });
    let posts = engine.feeds.explain(reader, page).await.unwrap_or_default();
    let posts = posts.into_iter().map(|explained| ExplainedBody {
        post: explained.post,
        score: explained.score,
        features: explained.features.into_iter().collect(),
        parts: explained.parts.into_iter().collect(),
    });
    let experiment = page.arm.clone().map(|(name, arm)| ArmBody { name, arm });
    Explanation { tried: tried.collect(), experiment, posts: posts.collect() }
}

/// Public posts of people the caller does not follow, the newest first.
#[utoipa::path(
    get, path = "/v1/feeds/discover", tag = "feeds", security(("bearer" = [])), params(PageQuery),
    responses(
        (status = 200, description = "A page of them", body = Feed),
        (status = 400, description = "`invalid_cursor`: it belongs to another list", body = Problem),
    )
)]
pub(super) async fn discover(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Result<Json<Feed>, ApiError> {
    let page = query.0.page::<DiscoverCursor>(&request)?;
    let after = page.after.map(|DiscoverCursor(id)| id);
    let page = engine.feeds.discover(caller.user, after, usize::from(page.limit.get())).await;
    let next = page.next.map(|place| match place {
        Place::Below(post) => DiscoverCursor(post),
        Place::In(..) => DiscoverCursor(PostId::from_uuid(Uuid::max())),
    });
    Ok(Json(feed(&request, page, next, None)?))
}

fn feed<C: Cursor>(
    request: &HttpRequest,
    page: feeds::Page,
    next: Option<C>,
    explain: Option<Explanation>,
) -> Result<Feed, ApiError> {
    let cursors = &Manner::of(request)?.cursors;
    Ok(Feed {
        items: page.posts.into_iter().map(PostBody::from).collect(),
        next_cursor: next.map(|next| cursors.write(&next)),
        ranking: Ranking {
            level: page.level.as_str(),
            model: page.model,
            reason: page.reason,
            fresh_as_of: page.fresh_as_of,
            explain,
        },
    })
}
