//! Posts, in PostgreSQL: made, shown, edited and taken away.

use nova_actors::id::{EventId, PostId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{Told, tell};
use super::visibility::Visibility;
use super::{Store, StoreError};
use crate::events::{bytes, millis, schema};

/// A post as somebody sees it.
#[derive(Debug, Clone)]
pub struct Post {
    /// Its id.
    pub id: PostId,
    /// Whose.
    pub author: UserId,
    /// Their name.
    pub username: String,
    /// What others read of them.
    pub display_name: String,
    /// What it is made of.
    pub kind: String,
    /// What was written.
    pub text: String,
    /// Who may read it.
    pub visibility: Visibility,
    /// Its tags.
    pub tags: Vec<String>,
    /// Who is named in it.
    pub mentions: Vec<UserId>,
    /// Grows with every edit.
    pub version: i64,
    /// How many like it.
    pub likes: i64,
    /// How many comments and replies it has.
    pub comments: i64,
    /// Whether the reader likes it.
    pub is_liked: bool,
    /// When it was posted.
    pub created_at: OffsetDateTime,
    /// When it was last edited.
    pub edited_at: Option<OffsetDateTime>,
}

/// A post to be made.
#[derive(Debug)]
pub struct NewPost<'a> {
    /// Its id.
    pub id: PostId,
    /// Whose.
    pub author: UserId,
    /// What was written.
    pub text: &'a str,
    /// Who may read it.
    pub visibility: Visibility,
    /// Its tags.
    pub tags: &'a [String],
    /// Names in it, as they are looked up.
    pub names: &'a [String],
    /// The time of it.
    pub now: OffsetDateTime,
}

/// A change of a post; what is `None` stays.
#[derive(Debug, Default)]
pub struct PostEdit<'a> {
    /// The text, with the names in it.
    pub text: Option<(&'a str, &'a [String])>,
    /// Its tags.
    pub tags: Option<&'a [String]>,
    /// Who may read it.
    pub visibility: Option<Visibility>,
}

/// What a post was before an edit.
#[derive(Debug, Clone)]
pub struct PostVersion {
    /// Which.
    pub version: i64,
    /// What was written.
    pub text: String,
    /// Who might read it.
    pub visibility: Visibility,
    /// Since when it said so.
    pub at: OffsetDateTime,
}

/// Why a post was not changed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There is no such post, or the reader may not know of it.
    #[error("there is no such post")]
    NotFound,
    /// It is somebody else's.
    #[error("the post is somebody else's")]
    NotYours,
    /// It is not the version that was read.
    #[error("the post has changed")]
    Changed,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PostError {
    fn from(error: sqlx::Error) -> PostError {
        PostError::Store(error.into())
    }
}

struct Row {
    id: Uuid,
    author: Uuid,
    username: String,
    display_name: String,
    kind: String,
    text: String,
    visibility: String,
    tags: Vec<String>,
    mentions: Vec<Uuid>,
    version: i64,
    likes: i64,
    comments: i64,
    is_liked: bool,
    created_at: OffsetDateTime,
    edited_at: Option<OffsetDateTime>,
}

impl From<Row> for Post {
    fn from(row: Row) -> Post {
        Post {
            id: row.id.into(),
            author: row.author.into(),
            username: row.username,
            display_name: row.display_name,
            kind: row.kind,
            text: row.text,
            visibility: Visibility::read(&row.visibility),
            tags: row.tags,
            mentions: row.mentions.into_iter().map(UserId::from).collect(),
            version: row.version,
            likes: row.likes,
            comments: row.comments,
            is_liked: row.is_liked,
            created_at: row.created_at,
            edited_at: row.edited_at,
        }
    }
}

impl Store {
    /// Makes a post, and gives it back as its author sees it.
    ///
    /// One statement, and so one commit and one answer to wait for: the row, its event and the author's name.
    pub async fn add_post(&self, new: &NewPost<'_>) -> Result<Post, StoreError> {
        let mentions = match new.names {
            [] => Vec::new(),
            names => named(&mut *self.pool().acquire().await?, new.author, names).await?,
        };
        let event = schema::PostCreated {
            post_id: bytes(new.id),
            author_id: bytes(new.author),
            kind: "text".to_owned(),
            text: new.text.to_owned(),
            visibility: new.visibility.told(),
            tags: new.tags.to_vec(),
            mentions: mentions.iter().copied().map(bytes).collect(),
            at_ms: millis(new.now),
        };
        let told = told(new.id, 1, event);
        let author = sqlx::query!(
            "WITH made AS (
                 INSERT INTO posts (id, author, kind, text, visibility, tags, mentions, created_at)
                 VALUES ($1, $2, 'text', $3, $4, $5, $6, $7)
             ), told AS (
                 INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
                 VALUES ($8, $9, $10, $1, $11, $12, 1, $13, $7)
             )
             SELECT username, display_name FROM users WHERE id = $2",
            new.id.as_uuid(),
            new.author.as_uuid(),
            new.text,
            new.visibility.as_str(),
            new.tags,
            &mentions,
            new.now,
            EventId::new(new.now).as_uuid(),
            told.event.topic().number(),
            told.event.topic().part_of(told.key),
            told.event.kind(),
            told.event.schema_version(),
            told.event.encode()
        )
        .fetch_one(self.pool())
        .await?;
        self.woken().outbox.notify_one();
        Ok(Post {
            id: new.id,
            author: new.author,
            username: author.username,
            display_name: author.display_name,
            kind: "text".to_owned(),
            text: new.text.to_owned(),
            visibility: new.visibility,
            tags: new.tags.to_vec(),
            mentions: mentions.into_iter().map(UserId::from).collect(),
            version: 1,
            likes: 0,
            comments: 0,
            is_liked: false,
            created_at: new.now,
            edited_at: None,
        })
    }

    /// These posts as `reader` sees them, in this order. Those the reader may not see, or that are gone, are left out: whatever a cache or
    /// a list said before, nothing leaves the engine that this query does not give.
    pub async fn posts_shown(&self, reader: UserId, ids: &[PostId]) -> Result<Vec<Post>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(PostId::as_uuid).collect();
        // `may_read` and `counted`, written out: as functions, called for every post, they were four fifths of the time of this query.
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT p.id, p.author, u.username, u.display_name, p.kind, p.text, p.visibility, p.tags, p.mentions, p.version,
                      coalesce((SELECT c.n FROM counters c WHERE c.subject = p.id AND c.what = 4), 0)
                          + coalesce((SELECT sum(d.by) FROM counter_deltas d WHERE d.subject = p.id AND d.what = 4), 0)::bigint AS "likes!",
                      coalesce((SELECT c.n FROM counters c WHERE c.subject = p.id AND c.what = 5), 0)
                          + coalesce((SELECT sum(d.by) FROM counter_deltas d WHERE d.subject = p.id AND d.what = 5), 0)::bigint AS "comments!",
                      EXISTS (SELECT FROM post_likes l WHERE l.post_id = p.id AND l.user_id = $1) AS "is_liked!",
                      p.created_at, p.edited_at
               FROM unnest($2::uuid[]) WITH ORDINALITY AS wanted (id, nth)
               JOIN posts p ON p.id = wanted.id JOIN users u ON u.id = p.author
               WHERE p.deleted_at IS NULL AND u.deleted_at IS NULL AND u.suspended_at IS NULL
                 AND (p.author = $1 OR (p.visibility <> 'private'
                     AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocker = $1 AND b.blocked = p.author)
                     AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocker = p.author AND b.blocked = $1)
                     AND (p.visibility = 'public'
                         OR EXISTS (SELECT FROM follows f WHERE f.follower = $1 AND f.followee = p.author))))
               ORDER BY wanted.nth"#,
            reader.as_uuid(),
            &ids
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Post::from).collect())
    }

    /// One post as `reader` sees it.
    pub async fn post(&self, id: PostId, reader: UserId) -> Result<Option<Post>, StoreError> {
        Ok(self.posts_shown(reader, &[id]).await?.pop())
    }

    /// Ids of the posts of `author` that `reader` may see, the newest first.
    pub async fn posts_of(
        &self,
        author: UserId,
        reader: UserId,
        after: Option<PostId>,
        rows: i64,
    ) -> Result<Vec<PostId>, StoreError> {
        let ids = sqlx::query_scalar!(
            "SELECT p.id FROM posts p
             WHERE p.author = $1 AND p.deleted_at IS NULL AND may_read($2, p.author, p.visibility)
               AND ($3::uuid IS NULL OR p.id < $3)
             ORDER BY p.id DESC LIMIT $4",
            author.as_uuid(),
            reader.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(PostId::from).collect())
    }

    /// Changes a post of `author`; with `version`, only when it is that one. What changes nothing makes no new version.
    ///
    /// # Errors
    /// [`PostError::NotFound`], [`PostError::NotYours`], [`PostError::Changed`].
    pub async fn edit_post(
        &self,
        id: PostId,
        author: UserId,
        version: Option<i64>,
        edit: &PostEdit<'_>,
        now: OffsetDateTime,
    ) -> Result<(), PostError> {
        let mut tx = self.pool().begin().await?;
        hold(&mut tx, id, author, version).await?;
        let mentions = match edit.text {
            Some((_, names)) => Some(named(&mut tx, author, names).await?),
            None => None,
        };
        let text = edit.text.map(|(text, _)| text);
        let visibility = edit.visibility.map(Visibility::as_str);
        let edited = sqlx::query!(
            "WITH before AS (
                 SELECT * FROM posts WHERE id = $1
                   AND ($2::text IS DISTINCT FROM NULL AND text <> $2 OR $3::text IS NOT NULL AND visibility <> $3
                        OR $4::text[] IS NOT NULL AND tags <> $4)
             ), kept AS (
                 INSERT INTO post_versions (post_id, version, text, visibility, at)
                 SELECT id, version, text, visibility, coalesce(edited_at, created_at) FROM before
             )
             UPDATE posts p SET text = coalesce($2, p.text), visibility = coalesce($3, p.visibility), tags = coalesce($4, p.tags),
                    mentions = coalesce($5, p.mentions), version = p.version + 1, edited_at = $6
             FROM before WHERE p.id = before.id
             RETURNING p.version, p.text, p.visibility, p.tags, p.mentions",
            id.as_uuid(),
            text,
            visibility,
            edit.tags,
            mentions.as_deref(),
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(post) = edited {
            let event = schema::PostUpdated {
                post_id: bytes(id),
                author_id: bytes(author),
                text: post.text,
                visibility: Visibility::read(&post.visibility).told(),
                tags: post.tags,
                mentions: post.mentions.into_iter().map(bytes).collect(),
                at_ms: millis(now),
            };
            tell(&mut tx, now, &[told(id, post.version, event)]).await?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Takes a post away; with `version`, only when it is that one.
    ///
    /// # Errors
    /// [`PostError::NotFound`], [`PostError::NotYours`], [`PostError::Changed`].
    pub async fn delete_post(
        &self,
        id: PostId,
        author: UserId,
        version: Option<i64>,
        now: OffsetDateTime,
    ) -> Result<(), PostError> {
        let mut tx = self.pool().begin().await?;
        hold(&mut tx, id, author, version).await?;
        let version = sqlx::query_scalar!(
            "UPDATE posts SET deleted_at = $2, version = version + 1 WHERE id = $1 RETURNING version",
            id.as_uuid(),
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        let event = schema::PostDeleted { post_id: bytes(id), author_id: bytes(author), at_ms: millis(now) };
        tell(&mut tx, now, &[told(id, version, event)]).await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// What a post said before, the newest first, as far as `reader` may see what it was then.
    pub async fn post_versions(&self, post: &Post, reader: UserId) -> Result<Vec<PostVersion>, StoreError> {
        let rows = sqlx::query!(
            "SELECT version, text, visibility, at FROM post_versions
             WHERE post_id = $1 AND may_read($2, $3, visibility) ORDER BY version DESC LIMIT 100",
            post.id.as_uuid(),
            reader.as_uuid(),
            post.author.as_uuid()
        )
        .fetch_all(self.pool())
        .await?;
        let version = |row: i64, text, visibility: &str, at| PostVersion {
            version: row,
            text,
            visibility: Visibility::read(visibility),
            at,
        };
        Ok(rows.into_iter().map(|row| version(row.version, row.text, &row.visibility, row.at)).collect())
    }
}

/// An event of a post.
pub(super) fn told(post: PostId, version: i64, event: impl Into<crate::events::Event>) -> Told {
    Told { key: post.as_uuid(), version, event: event.into() }
}

/// Locks a post of `author`: what happens to it happens one after another, and so do its events.
async fn hold(
    tx: &mut sqlx::PgConnection,
    id: PostId,
    author: UserId,
    version: Option<i64>,
) -> Result<(), PostError> {
    let row = sqlx::query!(
        r#"SELECT author, version, may_read($2, author, visibility) AS "readable!" FROM posts
           WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE"#,
        id.as_uuid(),
        author.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    let row = row.filter(|row| row.readable).ok_or(PostError::NotFound)?;
    if row.author != author.as_uuid() {
        return Err(PostError::NotYours);
    }
    match version {
        Some(version) if version != row.version => Err(PostError::Changed),
        _ => Ok(()),
    }
}

/// The author of a post that `reader` may see.
pub(super) async fn readable(
    tx: &mut sqlx::PgConnection,
    id: PostId,
    reader: UserId,
) -> Result<UserId, PostError> {
    let author = sqlx::query_scalar!(
        "SELECT p.author FROM posts p JOIN users u ON u.id = p.author
         WHERE p.id = $1 AND p.deleted_at IS NULL AND u.deleted_at IS NULL AND u.suspended_at IS NULL
           AND may_read($2, p.author, p.visibility)",
        id.as_uuid(),
        reader.as_uuid()
    )
    .fetch_optional(tx)
    .await?;
    author.map(UserId::from).ok_or(PostError::NotFound)
}

/// Who these names are, as far as they may be named by `author`.
pub(super) async fn named(
    tx: &mut sqlx::PgConnection,
    author: UserId,
    names: &[String],
) -> Result<Vec<Uuid>, sqlx::Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar!(
        "SELECT id FROM users WHERE username_fold = ANY ($1) AND deleted_at IS NULL AND suspended_at IS NULL
           AND NOT is_blocked($2, id)
         ORDER BY id",
        names,
        author.as_uuid()
    )
    .fetch_all(tx)
    .await
}
