//! `/v1/posts`: what people share with those who follow them, and who likes it.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::{PostId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::follows::Person;
use super::page::another_list;
use super::users::person;
use super::{Cursor, ETag, Json, List, PageQuery, Path, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::social::{POST_CHARS_MAX, words};
use crate::store::posts::{NewPost, Post, PostEdit, PostError, PostVersion};
use crate::store::visibility::Visibility;

impl From<PostError> for ApiError {
    fn from(error: PostError) -> ApiError {
        match error {
            PostError::NotFound => Code::NotFound.into(),
            PostError::NotYours => ApiError::because(Code::Forbidden, "only its author may do this"),
            PostError::Changed => Code::PreconditionFailed.into(),
            PostError::Store(error) => error.into(),
        }
    }
}

/// A post as the caller sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Post)]
pub(super) struct PostBody {
    /// TypeID `post_…`.
    #[schema(value_type = String, example = "post_01h455vb4pex5vsknk084sn02q")]
    id: PostId,
    /// Who wrote it.
    author: Person,
    /// What it is made of: `text`.
    #[schema(example = "text")]
    kind: String,
    /// What was written.
    text: String,
    /// Who may read it.
    visibility: Visibility,
    /// Tags in its text and beside it, as they are compared: without the sign, without case.
    tags: Vec<String>,
    /// Who is named in it: TypeIDs `user_…`.
    #[schema(value_type = Vec<String>)]
    mentions: Vec<UserId>,
    /// Grows with every edit; `ETag` names it.
    version: i64,
    /// How many like it.
    likes: i64,
    /// How many comments and replies it has.
    comments: i64,
    /// Whether the caller likes it.
    liked: bool,
    /// When it was posted.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
    /// When it was last edited.
    #[serde(skip_serializing_if = "Option::is_none", with = "instant::option")]
    #[schema(nullable = false)]
    edited_at: Option<OffsetDateTime>,
}

impl From<Post> for PostBody {
    fn from(post: Post) -> PostBody {
        PostBody {
            id: post.id,
            author: Person { id: post.author, username: post.username, display_name: post.display_name },
            kind: post.kind,
            text: post.text,
            visibility: post.visibility,
            tags: post.tags,
            mentions: post.mentions,
            version: post.version,
            likes: post.likes,
            comments: post.comments,
            liked: post.is_liked,
            created_at: post.created_at,
            edited_at: post.edited_at,
        }
    }
}

/// A post to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPostBody {
    /// 1 to 5,000 characters. `#tags` and `@names` in it count; at most 30 and 50 different ones.
    #[schema(min_length = 1, max_length = 5000, example = "The lamp is lit. #lighthouse")]
    text: String,
    /// Who may read it; everybody when left out.
    #[schema(nullable = true, default = "public")]
    visibility: Option<Visibility>,
    /// Tags beside those in the text.
    #[schema(max_items = 30)]
    tags: Option<Vec<String>>,
}

/// A change; what is left out or `null` stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PostEditBody {
    /// 1 to 5,000 characters. The tags become those of the new text, and those given with it.
    #[schema(min_length = 1, max_length = 5000)]
    text: Option<String>,
    /// Who may read it.
    visibility: Option<Visibility>,
    /// Tags beside those in the text, in place of those it has.
    #[schema(max_items = 30)]
    tags: Option<Vec<String>>,
}

/// What a post said before.
#[derive(Serialize, ToSchema)]
#[schema(as = PostVersion)]
pub(super) struct VersionBody {
    /// Which version it was.
    version: i64,
    /// What was written.
    text: String,
    /// Who might read it.
    visibility: Visibility,
    /// Since when it said so.
    #[serde(serialize_with = "instant::serialize")]
    at: OffsetDateTime,
}

impl From<PostVersion> for VersionBody {
    fn from(version: PostVersion) -> VersionBody {
        let PostVersion { version, text, visibility, at } = version;
        VersionBody { version, text, visibility, at }
    }
}

/// How many like a post.
#[derive(Serialize, ToSchema)]
pub(super) struct Likes {
    /// How many.
    likes: i64,
    /// Whether the caller is among them.
    liked: bool,
}

#[derive(Serialize, Deserialize)]
struct AuthorCursor(UserId, PostId);

impl Cursor for AuthorCursor {
    const LIST: &'static str = "posts_of";
}

/// Post something.
#[utoipa::path(
    post, path = "/v1/posts", tag = "posts", security(("bearer" = [])), request_body = NewPostBody,
    responses((status = 201, description = "Posted", body = PostBody))
)]
pub(super) async fn create(
    engine: web::Data<Engine>,
    caller: Caller,
    body: Json<NewPostBody>,
) -> Result<HttpResponse, ApiError> {
    let (text, found) = words::read(&body.0.text, POST_CHARS_MAX)?;
    let tags = words::join_tags(found.tags, body.0.tags.as_deref().unwrap_or_default())?;
    let now = engine.clock.now();
    let new = NewPost {
        id: PostId::new(now),
        author: caller.user,
        text: &text,
        visibility: body.0.visibility.unwrap_or(Visibility::Public),
        tags: &tags,
        names: &found.names,
        now,
    };
    let post = engine.store.add_post(&new).await?;
    engine.feeds.posted(caller.user, new.id, new.visibility == Visibility::Private);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/posts/{}", post.id)))
        .insert_header((header::ETAG, ETag::of_version(post.version).as_str()))
        .json(PostBody::from(post)))
}

/// One post.
#[utoipa::path(
    get, path = "/v1/posts/{post}", tag = "posts", security(("bearer" = [])),
    params(("post" = String, Path, description = "TypeID `post_…`")),
    responses(
        (status = 200, description = "The post; `ETag` names the version `PATCH` asks for", body = PostBody),
        (status = 404, description = "`not_found`: there is none, or not for the caller", body = Problem),
    )
)]
pub(super) async fn read(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    Ok(answer(find(&engine, &caller, &path.0).await?))
}

/// Edit one's own post. What it said before can be read under its versions.
#[utoipa::path(
    patch, path = "/v1/posts/{post}", tag = "posts", security(("bearer" = [])), request_body = PostEditBody,
    params(
        ("post" = String, Path, description = "TypeID `post_…`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read; 412 when it is not the current one"),
    ),
    responses(
        (status = 200, description = "As it is now", body = PostBody),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 412, description = "`precondition_failed`: it has changed since it was read", body = Problem),
    )
)]
pub(super) async fn edit(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    body: Json<PostEditBody>,
) -> Result<HttpResponse, ApiError> {
    let read = body.0.text.as_deref().map(|text| words::read(text, POST_CHARS_MAX)).transpose()?;
    let given = body.0.tags.as_deref();
    if let Some(given) = given {
        words::join_tags(Vec::new(), given)?;
    }
    let post = find(&engine, &caller, &path.0).await?;
    let version = matched(&request, &post)?;
    // Tags in the text are always tags of the post.
    let in_text = match (&read, given) {
        (Some((_, found)), _) => Some(found.tags.clone()),
        (None, Some(_)) => Some(words::find(&post.text).tags),
        (None, None) => None,
    };
    let tags = in_text.map(|found| words::join_tags(found, given.unwrap_or_default())).transpose()?;
    let edit = PostEdit {
        text: read.as_ref().map(|(text, found)| (text.as_str(), found.names.as_slice())),
        tags: tags.as_deref(),
        visibility: body.0.visibility,
    };
    engine.store.edit_post(post.id, caller.user, version, &edit, engine.clock.now()).await?;
    let post = find(&engine, &caller, &path.0).await?;
    // It may have been private before.
    engine.feeds.posted(caller.user, post.id, post.visibility == Visibility::Private);
    Ok(answer(post))
}

/// Delete one's own post. It is gone from every feed at once.
#[utoipa::path(
    delete, path = "/v1/posts/{post}", tag = "posts", security(("bearer" = [])),
    params(
        ("post" = String, Path, description = "TypeID `post_…`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that was read; 412 when it is not the current one"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
        (status = 412, description = "`precondition_failed`: it has changed since it was read", body = Problem),
    )
)]
pub(super) async fn delete(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let post = find(&engine, &caller, &path.0).await?;
    let version = matched(&request, &post)?;
    engine.store.delete_post(post.id, caller.user, version, engine.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// What a post said before its edits, the newest first; the last hundred.
#[utoipa::path(
    get, path = "/v1/posts/{post}/versions", tag = "posts", security(("bearer" = [])),
    params(("post" = String, Path, description = "TypeID `post_…`")),
    responses(
        (status = 200, description = "Earlier versions the caller might have read", body = List<VersionBody>),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn versions(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<List<VersionBody>>, ApiError> {
    let post = find(&engine, &caller, &path.0).await?;
    let versions = engine.store.post_versions(&post, caller.user).await?;
    Ok(Json(List { items: versions.into_iter().map(VersionBody::from).collect(), next_cursor: None }))
}

/// Like a post. Liking twice is liking once.
#[utoipa::path(
    put, path = "/v1/posts/{post}/like", tag = "posts", security(("bearer" = [])),
    params(("post" = String, Path, description = "TypeID `post_…`")),
    responses(
        (status = 200, description = "How many like it now", body = Likes),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn like(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<Likes>, ApiError> {
    set_like(&engine, &caller, &path.0, true).await
}

/// Take a like back.
#[utoipa::path(
    delete, path = "/v1/posts/{post}/like", tag = "posts", security(("bearer" = [])),
    params(("post" = String, Path, description = "TypeID `post_…`")),
    responses(
        (status = 200, description = "How many like it now", body = Likes),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn unlike(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<Likes>, ApiError> {
    set_like(&engine, &caller, &path.0, false).await
}

async fn set_like(engine: &Engine, caller: &Caller, id: &str, on: bool) -> Result<Json<Likes>, ApiError> {
    let id: PostId = id.parse().map_err(|_| Code::NotFound)?;
    engine.store.like(id, caller.user, on, engine.clock.now()).await?;
    let post = engine.store.post(id, caller.user).await?.ok_or(Code::NotFound)?;
    Ok(Json(Likes { likes: post.likes, liked: post.is_liked }))
}

/// Somebody's posts, as far as the caller may read them, the newest first.
#[utoipa::path(
    get, path = "/v1/users/{user}/posts", tag = "posts", security(("bearer" = [])),
    params(("user" = String, Path, description = "TypeID `user_…`, or `@` and a username", example = "@ann"), PageQuery),
    responses(
        (status = 200, description = "A page of them", body = List<PostBody>),
        (status = 404, description = "`not_found`: nobody has this id or name", body = Problem),
    )
)]
pub(super) async fn of_user(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<PageQuery>,
) -> Result<Json<List<PostBody>>, ApiError> {
    let author = person(&engine, &path.0).await?;
    let page = query.0.page::<AuthorCursor>(&request)?;
    if page.after.as_ref().is_some_and(|AuthorCursor(list, _)| *list != author) {
        return Err(another_list());
    }
    let after = page.after.as_ref().map(|AuthorCursor(_, id)| *id);
    let ids = engine.store.posts_of(author, caller.user, after, page.rows()).await?;
    let List { items, next_cursor } = page.answer(ids, |id| AuthorCursor(author, *id), |id| id);
    let posts = engine.store.posts_shown(caller.user, &items).await?;
    Ok(Json(List { items: posts.into_iter().map(PostBody::from).collect(), next_cursor }))
}

pub(super) async fn find(engine: &Engine, caller: &Caller, id: &str) -> Result<Post, ApiError> {
    let id: PostId = id.parse().map_err(|_| Code::NotFound)?;
    Ok(engine.store.post(id, caller.user).await?.ok_or(Code::NotFound)?)
}

/// The version a change is for, where the request says so.
fn matched(request: &HttpRequest, post: &Post) -> Result<Option<i64>, ApiError> {
    if !request.headers().contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    ETag::of_version(post.version).check(request)?;
    Ok(Some(post.version))
}

/// Not to be kept: the numbers change without the version.
fn answer(post: Post) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::ETAG, ETag::of_version(post.version).as_str()))
        .insert_header((header::CACHE_CONTROL, "private, no-store"))
        .json(PostBody::from(post))
}
