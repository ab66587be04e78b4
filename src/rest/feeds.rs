//! `/v1/feeds`: what somebody reads when they come.

use actix_web::{HttpRequest, web};
use nova_actors::id::{PostId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::page::Limit;
use super::posts::PostBody;
use super::{Cursor, Json, List, Page, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;

/// How a feed is ordered.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// The newest first.
    Latest,
}

/// Which page of the feed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedQuery {
    /// How it is ordered; `latest` when left out.
    #[param(nullable = false, inline)]
    mode: Option<Mode>,
    /// Where the page before ended.
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
    /// What to give as `cursor` for the page after this one; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
    /// How the page came to be.
    ranking: Ranking,
}

/// How a page of a feed came to be.
#[derive(Serialize, ToSchema)]
pub(super) struct Ranking {
    /// What gave the page: `database`, straight from what is kept.
    #[schema(example = "database")]
    level: &'static str,
    /// What ordered it: `chronological`.
    #[schema(example = "chronological")]
    model: &'static str,
    /// Everything committed before is in it.
    #[serde(serialize_with = "instant::serialize")]
    fresh_as_of: OffsetDateTime,
}

#[derive(Serialize, Deserialize)]
struct HomeCursor(UserId, PostId);

impl Cursor for HomeCursor {
    const LIST: &'static str = "home_latest";
}

/// The caller's home feed: posts of those they follow, and their own.
#[utoipa::path(
    get, path = "/v1/feeds/home", tag = "feeds", security(("bearer" = [])), params(FeedQuery),
    responses(
        (status = 200, description = "A page of it; one that is empty and has a cursor is not the last", body = Feed),
        (status = 400, description = "`invalid_cursor`: it belongs to another list or another reader", body = Problem),
    )
)]
pub(super) async fn home(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    query: Query<FeedQuery>,
) -> Result<Json<Feed>, ApiError> {
    let Query(FeedQuery { mode, cursor, limit }) = query;
    let Mode::Latest = mode.unwrap_or(Mode::Latest);
    let page = Page::<HomeCursor>::of(&request, cursor.as_deref(), limit)?;
    if page.after.as_ref().is_some_and(|HomeCursor(reader, _)| *reader != caller.user) {
        return Err(ApiError::because(Code::InvalidCursor, "begin this list again without a cursor"));
    }
    let after = page.after.as_ref().map(|HomeCursor(_, id)| *id);
    let fresh_as_of = engine.clock.now();
    let ids = engine.store.home_ids(caller.user, after, page.rows()).await?;
    let List { items, next_cursor } = page.answer(ids, |id| HomeCursor(caller.user, *id), |id| id);
    let posts = engine.store.posts_shown(caller.user, &items).await?;
    Ok(Json(Feed {
        items: posts.into_iter().map(PostBody::from).collect(),
        next_cursor,
        ranking: Ranking { level: "database", model: "chronological", fresh_as_of },
    }))
}
