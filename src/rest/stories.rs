//! `/v1/stories`: what people tell for a day, and who has looked.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::{StoryId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::follows::Person;
use super::page::{another_list, place};
use super::users::person;
use super::{Cursor, Json, List, PageQuery, Path, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::social::{STORIES_MAX, STORY_CHARS_MAX, words};
use crate::store::stories::{NewStory, Story, StoryError, StoryViewer};
use crate::store::visibility::Visibility;

impl From<StoryError> for ApiError {
    fn from(error: StoryError) -> ApiError {
        match error {
            StoryError::NotFound => Code::NotFound.into(),
            StoryError::NotYours => ApiError::because(Code::Forbidden, "only its author may do this"),
            StoryError::TooMany => ApiError::because(
                Code::Conflict,
                format!("you tell {STORIES_MAX} stories, which is as many as may be; delete one"),
            ),
            StoryError::Store(error) => error.into(),
        }
    }
}

/// A story as the caller sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Story)]
pub(super) struct StoryBody {
    /// TypeID `story_…`.
    #[schema(value_type = String, example = "story_01h455vb4pex5vsknk084sn02q")]
    id: StoryId,
    /// Who tells it.
    author: Person,
    /// What was written.
    text: String,
    /// Who may see it.
    visibility: Visibility,
    /// Who is named in it: TypeIDs `user_…`.
    #[schema(value_type = Vec<String>)]
    mentions: Vec<UserId>,
    /// When it was told.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// When it is gone, for everybody.
    #[serde(serialize_with = "instant::serialize")]
    expires_at: OffsetDateTime,
    /// Whether the caller has looked at it; never of one's own.
    seen: bool,
    /// How many have looked at it; only its author is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    views: Option<i64>,
}

impl From<Story> for StoryBody {
    fn from(story: Story) -> StoryBody {
        StoryBody {
            id: story.id,
            author: Person { id: story.author, username: story.username, display_name: story.display_name },
            text: story.text,
            visibility: story.visibility,
            mentions: story.mentions,
            created_at: story.created_at,
            expires_at: story.expires_at,
            seen: story.is_seen,
            views: story.views,
        }
    }
}

/// What one author tells.
#[derive(Serialize, ToSchema)]
pub(super) struct Telling {
    /// Who.
    author: Person,
    /// Their stories, the oldest first.
    stories: Vec<StoryBody>,
    /// Whether the caller has looked at all of them.
    seen: bool,
}

/// A story to be told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStoryBody {
    /// 1 to 500 characters. `@names` in it count; at most 50 different ones.
    #[schema(min_length = 1, max_length = 500, example = "Fog. The horn sounds every minute.")]
    text: String,
    /// Who may see it; followers when left out.
    #[schema(nullable = true, default = "followers")]
    visibility: Option<Visibility>,
}

/// Somebody who has looked at a story.
#[derive(Serialize, ToSchema)]
pub(super) struct Viewer {
    /// Who.
    user: Person,
    /// When they looked first.
    #[serde(serialize_with = "instant::serialize")]
    viewed_at: OffsetDateTime,
}

impl From<StoryViewer> for Viewer {
    fn from(viewer: StoryViewer) -> Viewer {
        let StoryViewer { user: id, username, display_name, viewed_at } = viewer;
        Viewer { user: Person { id, username, display_name }, viewed_at }
    }
}

#[derive(Serialize, Deserialize)]
struct StoriesCursor(UserId, StoryId);

impl Cursor for StoriesCursor {
    const LIST: &'static str = "stories";
}

#[derive(Serialize, Deserialize)]
struct ViewersCursor(StoryId, i128, UserId);

impl Cursor for ViewersCursor {
    const LIST: &'static str = "story_viewers";
}

/// Tell a story. It is gone after 24 hours, to the second.
#[utoipa::path(
    post, path = "/v1/stories", tag = "stories", security(("bearer" = [])), request_body = NewStoryBody,
    responses(
        (status = 201, description = "Told", body = StoryBody),
        (status = 409, description = "`conflict`: the caller tells as many as may be", body = Problem),
    )
)]
pub(super) async fn create(
    engine: web::Data<Engine>,
    caller: Caller,
    body: Json<NewStoryBody>,
) -> Result<HttpResponse, ApiError> {
    let (text, found) = words::read(&body.0.text, STORY_CHARS_MAX)?;
    let now = engine.clock.now();
    let new = NewStory {
        id: StoryId::new(now),
        author: caller.user,
        text: &text,
        visibility: body.0.visibility.unwrap_or(Visibility::Followers),
        names: &found.names,
        now,
    };
    engine.store.add_story(&new).await?;
    let story = engine.store.story(new.id, caller.user, now).await?.ok_or(Code::NotFound)?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/stories/{}", story.id)))
        .json(StoryBody::from(story)))
}

/// The stories of those the caller follows and has not muted, and their own: by author, whoever told something last first.
#[utoipa::path(
    get, path = "/v1/stories", tag = "stories", security(("bearer" = [])), params(PageQuery),
    responses(
        (status = 200, description = "A page of authors with their stories", body = List<Telling>),
        (status = 400, description = "`invalid_cursor`: it belongs to another list or reader", body = Problem),
    )
)]
pub(super) async fn followed(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    query: Query<PageQuery>,
) -> Result<Json<List<Telling>>, ApiError> {
    let page = query.0.page::<StoriesCursor>(&request)?;
    let after = match page.after {
        Some(StoriesCursor(reader, _)) if reader != caller.user => return Err(another_list()),
        Some(StoriesCursor(_, story)) => Some(story),
        None => None,
    };
    let now = engine.clock.now();
    let stories = engine.store.stories_followed(caller.user, after, page.rows(), now).await?;
    let mut by_author: Vec<Vec<Story>> = Vec::new();
    for story in stories {
        match by_author.last_mut() {
            Some(last) if last.last().is_some_and(|before| before.author == story.author) => last.push(story),
            _ => by_author.push(vec![story]),
        }
    }
    let newest = |stories: &Vec<Story>| {
        let last = stories.last().map_or(StoryId::from_uuid(uuid::Uuid::nil()), |story| story.id);
        StoriesCursor(caller.user, last)
    };
    Ok(Json(page.answer(by_author, newest, |stories| telling(stories, caller.user))))
}

fn telling(stories: Vec<Story>, reader: UserId) -> Telling {
    let author = stories.first().map(|story| Person {
        id: story.author,
        username: story.username.clone(),
        display_name: story.display_name.clone(),
    });
    // There is none without a story: the list is made of stories.
    let author =
        author.unwrap_or(Person { id: reader, username: String::new(), display_name: String::new() });
    let seen = author.id == reader || stories.iter().all(|story| story.is_seen);
    Telling { author, seen, stories: stories.into_iter().map(StoryBody::from).collect() }
}

/// The stories of somebody that the caller may see, the oldest first.
#[utoipa::path(
    get, path = "/v1/users/{user}/stories", tag = "stories", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann")),
    responses(
        (status = 200, description = "All of them; there is no further page", body = List<StoryBody>),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
    )
)]
pub(super) async fn of_user(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<List<StoryBody>>, ApiError> {
    let author = person(&engine, &path.0).await?;
    let stories = engine.store.stories_of(author, caller.user, engine.clock.now()).await?;
    Ok(Json(List { items: stories.into_iter().map(StoryBody::from).collect(), next_cursor: None }))
}

/// One story.
#[utoipa::path(
    get, path = "/v1/stories/{story}", tag = "stories", security(("bearer" = [])),
    params(("story" = String, Path, description = "TypeID `story_…`")),
    responses(
        (status = 200, description = "The story", body = StoryBody),
        (status = 404, description = "`not_found`: there is none, or not for the caller, or its day is over", body = Problem),
    )
)]
pub(super) async fn read(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<StoryBody>, ApiError> {
    let story = engine.store.story(id(&path.0)?, caller.user, engine.clock.now()).await?;
    Ok(Json(story.ok_or(Code::NotFound)?.into()))
}

/// Delete one's own story before its time.
#[utoipa::path(
    delete, path = "/v1/stories/{story}", tag = "stories", security(("bearer" = [])),
    params(("story" = String, Path, description = "TypeID `story_…`")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn delete(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    engine.store.delete_story(id(&path.0)?, caller.user, engine.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Look at a story; its author sees who has. Looking twice is looking once.
#[utoipa::path(
    put, path = "/v1/stories/{story}/view", tag = "stories", security(("bearer" = [])),
    params(("story" = String, Path, description = "TypeID `story_…`")),
    responses(
        (status = 204, description = "Looked at"),
        (status = 404, description = "`not_found`: there is none, or not for the caller, or its day is over", body = Problem),
    )
)]
pub(super) async fn view(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    engine.store.view_story(id(&path.0)?, caller.user, engine.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Who has looked at one's own story, the newest first.
#[utoipa::path(
    get, path = "/v1/stories/{story}/viewers", tag = "stories", security(("bearer" = [])),
    params(("story" = String, Path, description = "TypeID `story_…`"), PageQuery),
    responses(
        (status = 200, description = "A page of them", body = List<Viewer>),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn viewers(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Result<Json<List<Viewer>>, ApiError> {
    let story = id(&path.0)?;
    let page = query.0.page::<ViewersCursor>(&request)?;
    let after =
        page.after.as_ref().map(|ViewersCursor(of, at, user)| place(story, *of, *at, *user)).transpose()?;
    let now = engine.clock.now();
    let viewers = engine.store.story_viewers(story, caller.user, after, page.rows(), now).await?;
    let key =
        |viewer: &StoryViewer| ViewersCursor(story, viewer.viewed_at.unix_timestamp_nanos(), viewer.user);
    Ok(Json(page.answer(viewers, key, Viewer::from)))
}

fn id(text: &str) -> Result<StoryId, ApiError> {
    Ok(text.parse().map_err(|_| Code::NotFound)?)
}
