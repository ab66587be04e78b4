//! Stories, in PostgreSQL. Every query is told what time it is: a story is there until its last moment and not after it, whatever the clock
//! of the database says.

use nova_actors::id::{StoryId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{Told, tell};
use super::posts::named;
use super::visibility::Visibility;
use super::{Store, StoreError};
use crate::events::{Event, bytes, millis, schema};
use crate::social::{STORIES_MAX, STORY_KEPT};

/// A story as somebody sees it.
#[derive(Debug, Clone)]
pub struct Story {
    /// Its id.
    pub id: StoryId,
    /// Whose.
    pub author: UserId,
    /// Their name.
    pub username: String,
    /// What others read of them.
    pub display_name: String,
    /// What was written.
    pub text: String,
    /// Who may see it.
    pub visibility: Visibility,
    /// Who is named in it.
    pub mentions: Vec<UserId>,
    /// When it was told.
    pub created_at: OffsetDateTime,
    /// When it is gone.
    pub expires_at: OffsetDateTime,
    /// Whether the reader has looked at it.
    pub is_seen: bool,
    /// How many have; only its author is told.
    pub views: Option<i64>,
}

/// A story to be told.
#[derive(Debug)]
pub struct NewStory<'a> {
    /// Its id.
    pub id: StoryId,
    /// Whose.
    pub author: UserId,
    /// What was written.
    pub text: &'a str,
    /// Who may see it.
    pub visibility: Visibility,
    /// Names in it, as they are looked up.
    pub names: &'a [String],
    /// The time of it.
    pub now: OffsetDateTime,
}

/// Somebody who has looked at a story.
#[derive(Debug, Clone)]
pub struct StoryViewer {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub username: String,
    /// What others read of them.
    pub display_name: String,
    /// When they looked first.
    pub viewed_at: OffsetDateTime,
}

/// A place in a list of viewers.
pub type ViewerKey = (OffsetDateTime, UserId);

/// Why nothing was done with a story.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// There is none, or not for whoever asks, or its day is over.
    #[error("there is no such story")]
    NotFound,
    /// It is somebody else's.
    #[error("the story is somebody else's")]
    NotYours,
    /// [`STORIES_MAX`] of theirs are there.
    #[error("tells as many stories as may be")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for StoryError {
    fn from(error: sqlx::Error) -> StoryError {
        StoryError::Store(error.into())
    }
}

struct Row {
    id: Uuid,
    author: Uuid,
    username: String,
    display_name: String,
    text: String,
    visibility: String,
    mentions: Vec<Uuid>,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    is_seen: bool,
    views: Option<i64>,
}

impl From<Row> for Story {
    fn from(row: Row) -> Story {
        Story {
            id: row.id.into(),
            author: row.author.into(),
            username: row.username,
            display_name: row.display_name,
            text: row.text,
            visibility: Visibility::read(&row.visibility),
            mentions: row.mentions.into_iter().map(UserId::from).collect(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            is_seen: row.is_seen,
            views: row.views,
        }
    }
}

impl Store {
    /// Tells a story; it is there for [`STORY_KEPT`].
    ///
    /// # Errors
    /// [`StoryError::TooMany`].
    pub async fn add_story(&self, new: &NewStory<'_>) -> Result<(), StoryError> {
        let expires_at = new.now + STORY_KEPT;
        let mut tx = self.pool().begin().await?;
        // One after another, so that the bound holds for those who ask twice at once.
        sqlx::query!("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", new.author.as_uuid())
            .fetch_one(&mut *tx)
            .await?;
        let told_already = sqlx::query_scalar!(
            r#"SELECT count(*) AS "n!" FROM stories WHERE author = $1 AND expires_at > $2"#,
            new.author.as_uuid(),
            new.now
        )
        .fetch_one(&mut *tx)
        .await?;
        if told_already >= STORIES_MAX {
            return Err(StoryError::TooMany);
        }
        let mentions = named(&mut tx, new.author, new.names).await?;
        sqlx::query!(
            "INSERT INTO stories (id, author, text, visibility, mentions, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
            new.id.as_uuid(),
            new.author.as_uuid(),
            new.text,
            new.visibility.as_str(),
            &mentions,
            new.now,
            expires_at
        )
        .execute(&mut *tx)
        .await?;
        let event = schema::StoryCreated {
            story_id: bytes(new.id),
            author_id: bytes(new.author),
            text: new.text.to_owned(),
            visibility: new.visibility.told(),
            mentions: mentions.into_iter().map(bytes).collect(),
            at_ms: millis(new.now),
            expires_at_ms: millis(expires_at),
        };
        tell(&mut tx, new.now, &[told(new.id, event)]).await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// One story as `reader` sees it at `now`.
    pub async fn story(
        &self,
        id: StoryId,
        reader: UserId,
        now: OffsetDateTime,
    ) -> Result<Option<Story>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT s.id, s.author, u.username, u.display_name, s.text, s.visibility, s.mentions, s.created_at, s.expires_at,
                      EXISTS (SELECT FROM story_views v WHERE v.story_id = s.id AND v.viewer = $2) AS "is_seen!",
                      CASE WHEN s.author = $2 THEN (SELECT count(*) FROM story_views v WHERE v.story_id = s.id) END AS views
               FROM stories s JOIN users u ON u.id = s.author
               WHERE s.id = $1 AND s.expires_at > $3 AND u.deleted_at IS NULL AND u.suspended_at IS NULL
                 AND may_read($2, s.author, s.visibility)"#,
            id.as_uuid(),
            reader.as_uuid(),
            now
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(Story::from))
    }

    /// The stories of one author that `reader` may see at `now`, the oldest first: that is how they are told.
    pub async fn stories_of(
        &self,
        author: UserId,
        reader: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Story>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT s.id, s.author, u.username, u.display_name, s.text, s.visibility, s.mentions, s.created_at, s.expires_at,
                      EXISTS (SELECT FROM story_views v WHERE v.story_id = s.id AND v.viewer = $2) AS "is_seen!",
                      CASE WHEN s.author = $2 THEN (SELECT count(*) FROM story_views v WHERE v.story_id = s.id) END AS views
               FROM stories s JOIN users u ON u.id = s.author
               WHERE s.author = $1 AND s.expires_at > $3 AND u.deleted_at IS NULL AND u.suspended_at IS NULL
                 AND may_read($2, s.author, s.visibility)
               ORDER BY s.id"#,
            author.as_uuid(),
            reader.as_uuid(),
            now
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Story::from).collect())
    }

    /// The stories that `reader` may see at `now` of up to so many of those they follow and have not muted, and their own: author by author,
    /// whoever told something last first, of each the oldest first. `after` is the last story of the last author of the page before.
    pub async fn stories_followed(
        &self,
        reader: UserId,
        after: Option<StoryId>,
        authors: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<Story>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"WITH followed AS (
                   SELECT f.followee AS id FROM follows f
                   WHERE f.follower = $1 AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = $1 AND m.muted = f.followee)
                   UNION ALL SELECT $1
               ), telling AS (
                   SELECT followed.id, newest.id AS story FROM followed
                   JOIN users u ON u.id = followed.id AND u.deleted_at IS NULL AND u.suspended_at IS NULL
                   CROSS JOIN LATERAL (
                       SELECT s.id FROM stories s
                       WHERE s.author = followed.id AND s.expires_at > $4 AND may_read($1, s.author, s.visibility)
                       ORDER BY s.id DESC LIMIT 1
                   ) newest
                   WHERE $2::uuid IS NULL OR newest.id < $2
                   ORDER BY newest.id DESC LIMIT $3
               )
               SELECT s.id, s.author, u.username, u.display_name, s.text, s.visibility, s.mentions, s.created_at, s.expires_at,
                      EXISTS (SELECT FROM story_views v WHERE v.story_id = s.id AND v.viewer = $1) AS "is_seen!",
                      CASE WHEN s.author = $1 THEN (SELECT count(*) FROM story_views v WHERE v.story_id = s.id) END AS views
               FROM telling JOIN users u ON u.id = telling.id JOIN stories s ON s.author = telling.id
               WHERE s.expires_at > $4 AND may_read($1, s.author, s.visibility)
               ORDER BY telling.story DESC, s.id"#,
            reader.as_uuid(),
            after.map(|id| id.as_uuid()),
            authors,
            now
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Story::from).collect())
    }

    /// `viewer` looks at a story at `now`; looking twice is looking once, and one's own is looked at by nobody.
    ///
    /// # Errors
    /// [`StoryError::NotFound`].
    pub async fn view_story(
        &self,
        id: StoryId,
        viewer: UserId,
        now: OffsetDateTime,
    ) -> Result<(), StoryError> {
        let story = self.story(id, viewer, now).await?.ok_or(StoryError::NotFound)?;
        if story.author == viewer {
            return Ok(());
        }
        // It may be deleted between the two: then there is nothing to look at.
        sqlx::query!(
            "INSERT INTO story_views (story_id, viewer, viewed_at) SELECT id, $2, $3 FROM stories WHERE id = $1 ON CONFLICT DO NOTHING",
            id.as_uuid(),
            viewer.as_uuid(),
            now
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Who has looked at a story of `author`, the newest first; those who are blocked either way are left out.
    ///
    /// # Errors
    /// [`StoryError::NotFound`], [`StoryError::NotYours`].
    pub async fn story_viewers(
        &self,
        id: StoryId,
        author: UserId,
        after: Option<ViewerKey>,
        rows: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<StoryViewer>, StoryError> {
        let story = self.story(id, author, now).await?.ok_or(StoryError::NotFound)?;
        if story.author != author {
            return Err(StoryError::NotYours);
        }
        let (at, user) = after.unzip();
        Ok(sqlx::query_as!(
            StoryViewer,
            r#"SELECT v.viewer AS user, u.username, u.display_name, v.viewed_at
               FROM story_views v JOIN users u ON u.id = v.viewer
               WHERE v.story_id = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND NOT is_blocked($2, v.viewer)
                 AND ($3::timestamptz IS NULL OR (v.viewed_at, v.viewer) < ($3, $4))
               ORDER BY v.viewed_at DESC, v.viewer DESC LIMIT $5"#,
            id.as_uuid(),
            author.as_uuid(),
            at,
            user.map(|user| user.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Takes a story of `author` away before its time.
    ///
    /// # Errors
    /// [`StoryError::NotFound`], [`StoryError::NotYours`].
    pub async fn delete_story(
        &self,
        id: StoryId,
        author: UserId,
        now: OffsetDateTime,
    ) -> Result<(), StoryError> {
        let story = self.story(id, author, now).await?.ok_or(StoryError::NotFound)?;
        if story.author != author {
            return Err(StoryError::NotYours);
        }
        let mut tx = self.pool().begin().await?;
        let deleted =
            sqlx::query!("DELETE FROM stories WHERE id = $1", id.as_uuid()).execute(&mut *tx).await?;
        if deleted.rows_affected() == 0 {
            return Err(StoryError::NotFound);
        }
        let event =
            schema::StoryDeleted { story_id: bytes(id), author_id: bytes(author), at_ms: millis(now) };
        tell(&mut tx, now, &[told(id, event)]).await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// Takes rows of stories away whose time was over at `before`, up to so many; says how many there were.
    pub async fn sweep_stories(&self, before: OffsetDateTime, rows: i64) -> Result<u64, StoreError> {
        let swept = sqlx::query!(
            "DELETE FROM stories WHERE id IN (SELECT id FROM stories WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
            before,
            rows
        );
        Ok(swept.execute(self.pool()).await?.rows_affected())
    }
}

/// An event of a story: it is told once and deleted at most once.
fn told(story: StoryId, event: impl Into<Event>) -> Told {
    let event = event.into();
    let version = if matches!(event, Event::StoryCreated(_)) { 1 } else { 2 };
    Told { key: story.as_uuid(), version, event }
}
