//! Comments, in PostgreSQL. A reply answers a comment, never another reply.

use nova_actors::id::{CommentId, PostId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{Told, tell};
use super::posts::{PostError, named, readable, told};
use super::{Store, StoreError};
use crate::events::{bytes, millis, schema};

/// A comment as somebody sees it.
#[derive(Debug, Clone)]
pub struct Comment {
    /// Its id.
    pub id: CommentId,
    /// What it is about.
    pub post: PostId,
    /// Whose.
    pub author: UserId,
    /// Their name.
    pub username: String,
    /// What others read of them.
    pub display_name: String,
    /// The comment this answers.
    pub parent: Option<CommentId>,
    /// What was written; empty once it is deleted.
    pub text: String,
    /// Who is named in it.
    pub mentions: Vec<UserId>,
    /// How many answer it.
    pub replies: i64,
    /// Whether it was deleted; it is shown as such as long as somebody answers it.
    pub is_deleted: bool,
    /// When it was written.
    pub created_at: OffsetDateTime,
}

/// A comment to be made.
#[derive(Debug)]
pub struct NewComment<'a> {
    /// Its id.
    pub id: CommentId,
    /// What it is about.
    pub post: PostId,
    /// Whose.
    pub author: UserId,
    /// The comment it answers. One that is itself an answer stands for the one it answers.
    pub parent: Option<CommentId>,
    /// What was written.
    pub text: &'a str,
    /// Names in it, as they are looked up.
    pub names: &'a [String],
    /// The time of it.
    pub now: OffsetDateTime,
}

/// Why there is no comment.
#[derive(Debug, thiserror::Error)]
pub enum CommentError {
    /// About the post.
    #[error(transparent)]
    Post(#[from] PostError),
    /// The comment to be answered is not among those of the post.
    #[error("there is no such comment")]
    NoParent,
}

impl From<sqlx::Error> for CommentError {
    fn from(error: sqlx::Error) -> CommentError {
        CommentError::Post(error.into())
    }
}

struct Row {
    id: Uuid,
    post_id: Uuid,
    author: Uuid,
    username: String,
    display_name: String,
    parent: Option<Uuid>,
    text: String,
    mentions: Vec<Uuid>,
    replies: i64,
    is_deleted: bool,
    created_at: OffsetDateTime,
}

impl From<Row> for Comment {
    fn from(row: Row) -> Comment {
        Comment {
            id: row.id.into(),
            post: row.post_id.into(),
            author: row.author.into(),
            username: row.username,
            display_name: row.display_name,
            parent: row.parent.map(CommentId::from),
            text: if row.is_deleted { String::new() } else { row.text },
            mentions: if row.is_deleted {
                Vec::new()
            } else {
                row.mentions.into_iter().map(UserId::from).collect()
            },
            replies: row.replies,
            is_deleted: row.is_deleted,
            created_at: row.created_at,
        }
    }
}

impl Store {
    /// Makes a comment on a post its author may see.
    ///
    /// # Errors
    /// [`PostError::NotFound`], [`CommentError::NoParent`].
    pub async fn add_comment(&self, new: &NewComment<'_>) -> Result<Comment, CommentError> {
        let mut tx = self.pool().begin().await?;
        let post_author = readable(&mut tx, new.post, new.author).await?;
        let parent = match new.parent {
            Some(parent) => Some(
                sqlx::query_scalar!(
                    r#"SELECT coalesce(parent, id) AS "id!" FROM comments
                       WHERE id = $1 AND post_id = $2 AND deleted_at IS NULL AND NOT is_blocked($3, author)"#,
                    parent.as_uuid(),
                    new.post.as_uuid(),
                    new.author.as_uuid()
                )
                .fetch_optional(&mut *tx)
                .await?
                .ok_or(CommentError::NoParent)?,
            ),
            None => None,
        };
        let mentions = named(&mut tx, new.author, new.names).await?;
        let row = sqlx::query_as!(
            Row,
            r#"WITH made AS (
                   INSERT INTO comments (id, post_id, author, parent, text, mentions, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
                   RETURNING *
               )
               SELECT made.id, made.post_id, made.author, u.username, u.display_name, made.parent, made.text, made.mentions,
                      0::bigint AS "replies!", false AS "is_deleted!", made.created_at
               FROM made JOIN users u ON u.id = made.author"#,
            new.id.as_uuid(),
            new.post.as_uuid(),
            new.author.as_uuid(),
            parent,
            new.text,
            &mentions,
            new.now
        )
        .fetch_one(&mut *tx)
        .await?;
        let event = schema::CommentCreated {
            comment_id: bytes(new.id),
            post_id: bytes(new.post),
            post_author_id: bytes(post_author),
            author_id: bytes(new.author),
            parent_id: parent.map(bytes).unwrap_or_default(),
            text: new.text.to_owned(),
            mentions: mentions.iter().copied().map(bytes).collect(),
            at_ms: millis(new.now),
        };
        tell(&mut tx, new.now, &[told(new.post, 0, event)]).await?;
        self.commit(tx).await?;
        Ok(row.into())
    }

    /// Comments on a post, or the replies to one of them, as `reader` sees them, the oldest first. Whether the reader may see the post is
    /// to be asked before.
    pub async fn comments(
        &self,
        post: PostId,
        parent: Option<CommentId>,
        reader: UserId,
        after: Option<CommentId>,
        rows: i64,
    ) -> Result<Vec<Comment>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT c.id, c.post_id, c.author, u.username, u.display_name, c.parent, c.text, c.mentions,
                      counted(c.id, 6::smallint) AS "replies!", c.deleted_at IS NOT NULL AS "is_deleted!", c.created_at
               FROM comments c JOIN users u ON u.id = c.author
               WHERE c.post_id = $1 AND c.parent IS NOT DISTINCT FROM $2 AND ($3::uuid IS NULL OR c.id > $3)
                 AND (c.deleted_at IS NULL OR counted(c.id, 6::smallint) > 0)
                 AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND NOT is_blocked($4, c.author)
               ORDER BY c.id LIMIT $5"#,
            post.as_uuid(),
            parent.map(|id| id.as_uuid()),
            after.map(|id| id.as_uuid()),
            reader.as_uuid(),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Comment::from).collect())
    }

    /// Takes a comment away: its author may, and the author of the post.
    ///
    /// # Errors
    /// [`PostError::NotFound`], [`PostError::NotYours`].
    pub async fn delete_comment(
        &self,
        id: CommentId,
        caller: UserId,
        now: OffsetDateTime,
    ) -> Result<(), PostError> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query!(
            r#"SELECT c.author, c.post_id, p.author AS post_author, may_read($2, p.author, p.visibility) AS "readable!"
               FROM comments c JOIN posts p ON p.id = c.post_id
               WHERE c.id = $1 AND c.deleted_at IS NULL AND p.deleted_at IS NULL FOR NO KEY UPDATE OF c"#,
            id.as_uuid(),
            caller.as_uuid()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(PostError::NotFound)?;
        // Who wrote it may take it back, even where they may no longer read.
        if row.author != caller.as_uuid() {
            if !row.readable {
                return Err(PostError::NotFound);
            }
            if row.post_author != caller.as_uuid() {
                return Err(PostError::NotYours);
            }
        }
        sqlx::query!("UPDATE comments SET deleted_at = $2 WHERE id = $1", id.as_uuid(), now)
            .execute(&mut *tx)
            .await?;
        let post = PostId::from(row.post_id);
        let event =
            schema::CommentDeleted { comment_id: bytes(id), post_id: bytes(post), at_ms: millis(now) };
        let mut all = vec![told(post, 0, event)];
        if row.author != caller.as_uuid() {
            let event = schema::ContentJudged {
                subject: id.to_string(),
                verdict: "removed".to_owned(),
                reason: "by the author of the post".to_owned(),
                moderator_id: bytes(caller),
                at_ms: millis(now),
            };
            all.push(Told { key: id.as_uuid(), version: 0, event: event.into() });
        }
        tell(&mut tx, now, &all).await?;
        self.commit(tx).await?;
        Ok(())
    }
}
