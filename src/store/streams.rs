//! Live streams in PostgreSQL, as their owners and viewers know them.

use nova_actors::id::{StreamId, UserId};
use nova_actors::port::{KeyHash, LifeState, SILENCE_MAX};
use time::OffsetDateTime;

use super::{Store, StoreError};

/// Streams one user may have; each is a row and a key.
pub const STREAMS_MAX: i64 = 100;

/// A stream as the API tells it.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Its id.
    pub id: StreamId,
    /// Whose.
    pub owner: UserId,
    /// As its owner calls it.
    pub title: String,
    /// Whether broadcasts are kept.
    pub record: bool,
    /// Only its owner, and whom the owner lets, may see and watch it.
    pub is_private: bool,
    /// Grows with every change its owner makes.
    pub version: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When its owner last changed it.
    pub updated_at: OffsetDateTime,
    /// Where it is in its life. A broadcast that went down with its node is over.
    pub state: LifeState,
    /// When the broadcast began.
    pub started_at: Option<OffsetDateTime>,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
    /// Who watches.
    pub viewers: u32,
    /// The most who watched the broadcast at a time.
    pub viewers_peak: u32,
    /// All viewers of the broadcast together, in seconds.
    pub watched_s: u64,
}

/// A stream to be made.
#[derive(Debug)]
pub struct NewStream<'a> {
    /// Its id.
    pub id: StreamId,
    /// Whose.
    pub owner: UserId,
    /// As its owner calls it.
    pub title: &'a str,
    /// Whether broadcasts are kept.
    pub record: bool,
    /// Whether not everybody may watch.
    pub is_private: bool,
    /// Of its key.
    pub key: KeyHash,
    /// The time of it.
    pub now: OffsetDateTime,
}

/// What an owner changes; what is left out stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamEdit<'a> {
    /// As its owner calls it.
    pub title: Option<&'a str>,
    /// Whether broadcasts are kept.
    pub record: Option<bool>,
    /// Whether not everybody may watch.
    pub is_private: Option<bool>,
}

/// Why a stream was not changed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Nobody has a stream with this id, or not the one who asks.
    #[error("there is no such stream")]
    NotFound,
    /// It is not the version that was read.
    #[error("the stream has changed")]
    Changed,
    /// The user has [`STREAMS_MAX`].
    #[error("this user has as many streams as may be")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for StreamError {
    fn from(error: sqlx::Error) -> StreamError {
        StreamError::Store(error.into())
    }
}

/// A row, as all queries below select it.
struct Row {
    id: uuid::Uuid,
    owner_id: uuid::Uuid,
    title: String,
    record: bool,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    state: String,
    started_at: Option<OffsetDateTime>,
    ended_at: Option<OffsetDateTime>,
    heard_at: Option<OffsetDateTime>,
    viewers: i32,
    viewers_peak: i32,
    watched_s: i64,
    visibility: String,
}

impl Row {
    fn stream(self, now: OffsetDateTime) -> Stream {
        let silent = self.heard_at.is_none_or(|heard| heard + SILENCE_MAX < now);
        let (state, ended_at) = match self.state.as_str() {
            "live" if silent => (LifeState::Ended, self.heard_at),
            "live" => (LifeState::Live, None),
            "ended" => (LifeState::Ended, self.ended_at),
            _ => (LifeState::Idle, None),
        };
        Stream {
            id: self.id.into(),
            owner: self.owner_id.into(),
            title: self.title,
            record: self.record,
            is_private: self.visibility != "public",
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            state,
            started_at: self.started_at,
            ended_at,
            // The table keeps them from being negative.
            viewers: if state == LifeState::Live { self.viewers.try_into().unwrap_or(0) } else { 0 },
            viewers_peak: self.viewers_peak.try_into().unwrap_or(0),
            watched_s: self.watched_s.try_into().unwrap_or(0),
        }
    }
}

impl Store {
    /// Makes a stream.
    pub async fn add_stream(&self, new: &NewStream<'_>) -> Result<Stream, StreamError> {
        let mut tx = self.pool().begin().await?;
        // One user's requests take turns here, so that they count the same streams.
        sqlx::query!("SELECT id FROM users WHERE id = $1 FOR UPDATE", new.owner.as_uuid())
            .fetch_optional(&mut *tx)
            .await?;
        let has = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM streams WHERE owner_id = $1"#,
            new.owner.as_uuid()
        )
        .fetch_one(&mut *tx)
        .await?;
        if has >= STREAMS_MAX {
            return Err(StreamError::TooMany);
        }
        let row = sqlx::query_as!(
            Row,
            "INSERT INTO streams (id, owner_id, title, record, key_hash, created_at, updated_at, visibility)
             VALUES ($1, $2, $3, $4, $5, $6, $6, $7)
             RETURNING id, owner_id, title, record, version, created_at, updated_at, state, started_at, ended_at, heard_at,
                       viewers, viewers_peak, watched_s, visibility",
            new.id.as_uuid(),
            new.owner.as_uuid(),
            new.title,
            new.record,
            &new.key.0[..],
            new.now,
            visibility(new.is_private),
        )
        .fetch_one(&mut *tx)
        .await?;
        super::stream_chats::add_stream_chat(&mut tx, new.id, new.owner, new.now).await?;
        tx.commit().await?;
        Ok(row.stream(new.now))
    }

    /// The stream with this id. Of an owner who is suspended or gone there is none.
    pub async fn stream(&self, id: StreamId, now: OffsetDateTime) -> Result<Option<Stream>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT s.id, s.owner_id, s.title, s.record, s.version, s.created_at, s.updated_at, s.state, s.started_at,
                    s.ended_at, s.heard_at, s.viewers, s.viewers_peak, s.watched_s, s.visibility
             FROM streams s JOIN users u ON u.id = s.owner_id
             WHERE s.id = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL",
            id.as_uuid()
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| row.stream(now)))
    }

    /// What is on the air and `viewer` may see, newest first, after a place in that list.
    pub async fn live_streams(
        &self,
        viewer: UserId,
        after: Option<(OffsetDateTime, StreamId)>,
        rows: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<Stream>, StoreError> {
        let (at, id) = after.unzip();
        let rows = sqlx::query_as!(
            Row,
            "SELECT s.id, s.owner_id, s.title, s.record, s.version, s.created_at, s.updated_at, s.state, s.started_at,
                    s.ended_at, s.heard_at, s.viewers, s.viewers_peak, s.watched_s, s.visibility
             FROM streams s JOIN users u ON u.id = s.owner_id
             WHERE s.state = 'live' AND s.heard_at >= $1
               AND ($2::timestamptz IS NULL OR (s.started_at, s.id) < ($2, $3))
               AND u.deleted_at IS NULL AND u.suspended_at IS NULL
               AND may_see_stream(s.id, s.owner_id, s.visibility, $5)
             ORDER BY s.started_at DESC, s.id DESC LIMIT $4",
            now - SILENCE_MAX,
            at,
            id.map(|id| id.as_uuid()),
            rows,
            viewer.as_uuid()
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| row.stream(now)).collect())
    }

    /// All streams of one user, newest first, after a place in that list.
    pub async fn streams_of(
        &self,
        owner: UserId,
        after: Option<StreamId>,
        rows: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<Stream>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, owner_id, title, record, version, created_at, updated_at, state, started_at, ended_at, heard_at,
                    viewers, viewers_peak, watched_s, visibility
             FROM streams WHERE owner_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
            owner.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| row.stream(now)).collect())
    }

    /// Changes what the owner may change; with `version`, only when it is that one.
    pub async fn edit_stream(
        &self,
        id: StreamId,
        owner: UserId,
        version: Option<i64>,
        edit: StreamEdit<'_>,
        now: OffsetDateTime,
    ) -> Result<Stream, StreamError> {
        let StreamEdit { title, record, is_private } = edit;
        let row = sqlx::query_as!(
            Row,
            "UPDATE streams SET title = coalesce($4, title), record = coalesce($5, record), version = version + 1, updated_at = $6,
                                visibility = coalesce($7, visibility)
             WHERE id = $1 AND owner_id = $2 AND ($3::bigint IS NULL OR version = $3)
             RETURNING id, owner_id, title, record, version, created_at, updated_at, state, started_at, ended_at, heard_at,
                       viewers, viewers_peak, watched_s, visibility",
            id.as_uuid(),
            owner.as_uuid(),
            version,
            title,
            record,
            now,
            is_private.map(visibility)
        )
        .fetch_optional(self.pool())
        .await?;
        match row {
            Some(row) => Ok(row.stream(now)),
            None if version.is_some() => Err(StreamError::Changed),
            None => Err(StreamError::NotFound),
        }
    }

    /// Gives a stream another key.
    pub async fn set_stream_key(
        &self,
        id: StreamId,
        owner: UserId,
        key: KeyHash,
        now: OffsetDateTime,
    ) -> Result<(), StreamError> {
        let changed = sqlx::query!(
            "UPDATE streams SET key_hash = $3, version = version + 1, updated_at = $4 WHERE id = $1 AND owner_id = $2",
            id.as_uuid(),
            owner.as_uuid(),
            &key.0[..],
            now
        )
        .execute(self.pool())
        .await?;
        if changed.rows_affected() == 0 { Err(StreamError::NotFound) } else { Ok(()) }
    }

    /// Removes a stream; with `version`, only when it is that one.
    pub async fn delete_stream(
        &self,
        id: StreamId,
        owner: UserId,
        version: Option<i64>,
    ) -> Result<(), StreamError> {
        let deleted = sqlx::query!(
            "DELETE FROM streams WHERE id = $1 AND owner_id = $2 AND ($3::bigint IS NULL OR version = $3)",
            id.as_uuid(),
            owner.as_uuid(),
            version
        )
        .execute(self.pool())
        .await?;
        match deleted.rows_affected() {
            0 if version.is_some() => Err(StreamError::Changed),
            0 => Err(StreamError::NotFound),
            _ => Ok(()),
        }
    }
}

fn visibility(is_private: bool) -> &'static str {
    if is_private { "private" } else { "public" }
}
