//! `/v1/feeds`: what somebody reads when they come.

use actix_web::{HttpRequest, web};
use nova_actors::id::{PostId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::page::Limit;
use super::posts::PostBody;
use super::{Cursor, Json, Manner, Page, PageQuery, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::feeds::{self, Level, Place, rank};
use crate::identity::Caller;

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
    /// What gave the page: `engagement` (ranked), `newest` (from memory), `database` (straight from what is kept) or, while the database
    /// is away, `last_good` (what the reader was shown before).
    #[schema(example = "newest")]
    level: &'static str,
    /// What ordered it: `chronological`, or the name of a formula.
    #[schema(example = "chronological")]
    model: &'static str,
    /// Why no better level gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
    /// Everything committed before is in it.
    #[serde(serialize_with = "instant::serialize")]
    fresh_as_of: OffsetDateTime,
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
    )
)]
pub(super) async fn home(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    query: Query<FeedQuery>,
) -> Result<Json<Feed>, ApiError> {
    let Query(FeedQuery { mode, cursor, limit }) = query;
    let place = match Page::<HomeCursor>::of(&request, cursor.as_deref(), limit)?.after {
        Some(HomeCursor(reader, _)) if reader != caller.user => return Err(again()),
        Some(HomeCursor(_, place)) => Some(place),
        None => None,
    };
    let count = usize::from(limit.get());
    let page = match (mode.unwrap_or(Mode::Latest), place) {
        // Who was given the newest in place of a ranked page goes on below it.
        (_, Some(Place::Below(post))) => engine.feeds.latest(caller.user, Some(post), count).await,
        (_, Some(Place::In(snapshot, offset))) => {
            engine.feeds.ranked(caller.user, Some((snapshot, offset)), count).await.ok_or_else(again)?
        }
        (Mode::Latest, None) => engine.feeds.latest(caller.user, None, count).await,
        (Mode::Ranked, None) => engine.feeds.ranked(caller.user, None, count).await.ok_or_else(again)?,
    };
    let next_cursor = page.next.map(|place| HomeCursor(caller.user, place));
    Ok(Json(feed(&request, page, next_cursor)?))
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
    Ok(Json(feed(&request, page, next)?))
}

fn feed<C: Cursor>(request: &HttpRequest, page: feeds::Page, next: Option<C>) -> Result<Feed, ApiError> {
    let cursors = &Manner::of(request)?.cursors;
    let model = if page.level == Level::Engagement { rank::MODEL } else { "chronological" };
    Ok(Feed {
        items: page.posts.into_iter().map(PostBody::from).collect(),
        next_cursor: next.map(|next| cursors.write(&next)),
        ranking: Ranking {
            level: page.level.as_str(),
            model,
            reason: page.reason,
            fresh_as_of: page.fresh_as_of,
        },
    })
}

fn again() -> ApiError {
    ApiError::because(Code::InvalidCursor, "begin this list again without a cursor")
}
