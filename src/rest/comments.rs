//! `/v1/posts/{post}/comments`: what people say about a post. A reply answers a comment, never another reply.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use nova_actors::id::{CommentId, PostId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::follows::Person;
use super::page::{Limit, another_list};
use super::posts::find;
use super::{Cursor, Json, List, Page, Path, Query, instant};
use crate::app::Engine;
use crate::error::{ApiError, Code, Problem};
use crate::identity::Caller;
use crate::social::{COMMENT_CHARS_MAX, words};
use crate::store::comments::{Comment, CommentError, NewComment};

impl From<CommentError> for ApiError {
    fn from(error: CommentError) -> ApiError {
        match error {
            CommentError::Post(error) => error.into(),
            CommentError::NoParent => ApiError::field("parent", "must be a comment on this post"),
        }
    }
}

/// A comment as the caller sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Comment)]
pub(super) struct CommentBody {
    /// TypeID `comment_…`.
    #[schema(value_type = String, example = "comment_01h455vb4pex5vsknk084sn02q")]
    id: CommentId,
    /// What it is about: TypeID `post_…`.
    #[schema(value_type = String)]
    post: PostId,
    /// Who wrote it.
    author: Person,
    /// The comment it answers: TypeID `comment_…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    parent: Option<CommentId>,
    /// What was written; empty once it is deleted.
    text: String,
    /// Who is named in it: TypeIDs `user_…`.
    #[schema(value_type = Vec<String>)]
    mentions: Vec<UserId>,
    /// How many answer it.
    replies: i64,
    /// Whether it was deleted; it is shown as long as somebody answers it.
    deleted: bool,
    /// When it was written.
    #[serde(serialize_with = "instant::serialize")]
    created_at: OffsetDateTime,
}

impl From<Comment> for CommentBody {
    fn from(comment: Comment) -> CommentBody {
        CommentBody {
            id: comment.id,
            post: comment.post,
            author: Person {
                id: comment.author,
                username: comment.username,
                display_name: comment.display_name,
            },
            parent: comment.parent,
            text: comment.text,
            mentions: comment.mentions,
            replies: comment.replies,
            deleted: comment.is_deleted,
            created_at: comment.created_at,
        }
    }
}

/// A comment to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCommentBody {
    /// 1 to 2,000 characters.
    #[schema(min_length = 1, max_length = 2000, example = "How far does it shine?")]
    text: String,
    /// The comment it answers: TypeID `comment_…`. An answer to an answer joins the comment both are under.
    #[schema(value_type = Option<String>)]
    parent: Option<CommentId>,
}

/// Which comments, and which page of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CommentsQuery {
    /// The replies to this comment, TypeID `comment_…`, instead of the comments on the post.
    #[param(value_type = Option<String>, nullable = false)]
    parent: Option<CommentId>,
    /// Where the page before ended.
    #[param(max_length = 512, nullable = false)]
    cursor: Option<String>,
    /// How many.
    #[serde(default)]
    #[param(value_type = u8, minimum = 1, maximum = 100, default = 25, required = false)]
    limit: Limit,
}

#[derive(Serialize, Deserialize)]
struct CommentsCursor(PostId, Option<CommentId>, CommentId);

impl Cursor for CommentsCursor {
    const LIST: &'static str = "comments";
}

/// Comment on a post, or answer a comment.
#[utoipa::path(
    post, path = "/v1/posts/{post}/comments", tag = "posts", security(("bearer" = [])), request_body = NewCommentBody,
    params(("post" = String, Path, description = "TypeID `post_…`")),
    responses(
        (status = 201, description = "Said", body = CommentBody),
        (status = 404, description = "`not_found`: there is no such post, or not for the caller", body = Problem),
    )
)]
pub(super) async fn create(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    body: Json<NewCommentBody>,
) -> Result<HttpResponse, ApiError> {
    let (text, found) = words::read(&body.0.text, COMMENT_CHARS_MAX)?;
    let post: PostId = path.0.parse().map_err(|_| Code::NotFound)?;
    let now = engine.clock.now();
    let new = NewComment {
        id: CommentId::new(now),
        post,
        author: caller.user,
        parent: body.0.parent,
        text: &text,
        names: &found.names,
        now,
    };
    let comment = engine.store.add_comment(&new).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/v1/comments/{}", comment.id)))
        .json(CommentBody::from(comment)))
}

/// The comments on a post, or the replies to one of them, the oldest first.
#[utoipa::path(
    get, path = "/v1/posts/{post}/comments", tag = "posts", security(("bearer" = [])),
    params(("post" = String, Path, description = "TypeID `post_…`"), CommentsQuery),
    responses(
        (status = 200, description = "A page of them", body = List<CommentBody>),
        (status = 404, description = "`not_found`: there is no such post, or not for the caller", body = Problem),
    )
)]
pub(super) async fn list(
    request: HttpRequest,
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
    query: Query<CommentsQuery>,
) -> Result<Json<List<CommentBody>>, ApiError> {
    let Query(CommentsQuery { parent, cursor, limit }) = query;
    let page = Page::<CommentsCursor>::of(&request, cursor.as_deref(), limit)?;
    let post = find(&engine, &caller, &path.0).await?;
    let after = match &page.after {
        Some(CommentsCursor(list, below, id)) if (*list, *below) == (post.id, parent) => Some(*id),
        Some(_) => {
            return Err(another_list());
        }
        None => None,
    };
    let rows = engine.store.comments(post.id, parent, caller.user, after, page.rows()).await?;
    let key = |row: &Comment| CommentsCursor(post.id, parent, row.id);
    Ok(Json(page.answer(rows, key, CommentBody::from)))
}

/// Delete a comment: one's own, or any on one's own post.
#[utoipa::path(
    delete, path = "/v1/comments/{comment}", tag = "posts", security(("bearer" = [])),
    params(("comment" = String, Path, description = "TypeID `comment_…`")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 403, description = "`forbidden`: neither the comment nor the post is the caller's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn delete(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let id: CommentId = path.0.parse().map_err(|_| Code::NotFound)?;
    engine.store.delete_comment(id, caller.user, engine.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}
