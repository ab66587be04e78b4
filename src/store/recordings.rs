//! Recordings in PostgreSQL.

use nova_actors::id::{NodeId, RecordingId, StreamId, UserId};
use serde_json::json;
use time::OffsetDateTime;

use super::events::{self, Told};
use super::webhooks::{moment, tell};
use super::{Store, StoreError};
use crate::events::{bytes, millis, schema};

/// A recording as the API tells it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Its id.
    pub id: RecordingId,
    /// Of which stream.
    pub stream: StreamId,
    /// Whose.
    pub owner: UserId,
    /// Whether not everybody may watch the stream.
    pub is_private: bool,
    /// What the stream was called when it began.
    pub title: String,
    /// Where its objects are.
    pub folder: String,
    /// Whether it can be played.
    pub is_ready: bool,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When its broadcast was over.
    pub ended_at: Option<OffsetDateTime>,
    /// How long it plays.
    pub duration_ms: u64,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// Whether there is a picture of it.
    pub has_thumbnail: bool,
}

/// A recording to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its id.
    pub id: RecordingId,
    /// Where its objects go.
    pub folder: String,
}

/// What is known of a recording once its playlist is there.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    /// How long it plays.
    pub duration_ms: u64,
    /// Bytes of its segments.
    pub size_bytes: u64,
    /// How many there are.
    pub segments: u32,
    /// Whether there is a picture of it.
    pub has_thumbnail: bool,
}

struct Row {
    id: uuid::Uuid,
    stream_id: Option<uuid::Uuid>,
    owner_id: uuid::Uuid,
    title: String,
    folder: String,
    state: String,
    started_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
    duration_ms: i64,
    size_bytes: i64,
    thumbnail: bool,
    visibility: String,
}

impl Row {
    /// None of one whose stream is gone.
    fn recording(self) -> Option<Recording> {
        Some(Recording {
            id: self.id.into(),
            stream: self.stream_id?.into(),
            owner: self.owner_id.into(),
            is_private: self.visibility != "public",
            title: self.title,
            folder: self.folder,
            is_ready: self.state == "ready",
            started_at: self.started_at,
            ended_at: self.ended_at,
            // The table keeps them from being negative.
            duration_ms: self.duration_ms.try_into().unwrap_or(0),
            size_bytes: self.size_bytes.try_into().unwrap_or(0),
            has_thumbnail: self.thumbnail,
        })
    }
}

struct OpenRow {
    id: uuid::Uuid,
    folder: String,
}

impl From<OpenRow> for Open {
    fn from(row: OpenRow) -> Open {
        Open { id: row.id.into(), folder: row.folder }
    }
}

impl Store {
    /// Begins the recording of a broadcast, or goes on with the one that another node began. None when the stream's owner wants none,
    /// or has deleted it already. `folder` and `started_at`, when its first frame was taken in, are for a new one.
    pub async fn begin_recording(
        &self,
        stream: StreamId,
        broadcast: &str,
        node: NodeId,
        folder: &str,
        started_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Option<Open>, StoreError> {
        let row = sqlx::query_as!(
            OpenRow,
            "INSERT INTO recordings (id, stream_id, owner_id, title, folder, broadcast, state, node_id, heard_at, started_at)
             SELECT $1, s.id, s.owner_id, s.title, $2, $3, 'recording', $4, $5, $7 FROM streams s
             WHERE s.id = $6
               AND (s.record OR EXISTS (SELECT FROM recordings r WHERE r.stream_id = s.id AND r.broadcast = $3))
             ON CONFLICT (stream_id, broadcast) DO UPDATE SET state = 'recording', node_id = $4, heard_at = $5
             WHERE recordings.deleted_at IS NULL
             RETURNING id, folder",
            RecordingId::new(now).as_uuid(),
            folder,
            broadcast,
            node.as_uuid(),
            now,
            stream.as_uuid(),
            started_at
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(Open::from))
    }

    /// Says that `node` still writes this recording; false when nobody wants it any more, or another node goes on with it.
    pub async fn hear_of_recording(
        &self,
        id: RecordingId,
        node: NodeId,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let heard = sqlx::query!(
            "UPDATE recordings SET heard_at = $3
             WHERE id = $1 AND node_id = $2 AND deleted_at IS NULL AND stream_id IS NOT NULL",
            id.as_uuid(),
            node.as_uuid(),
            now
        )
        .execute(self.pool())
        .await?;
        Ok(heard.rows_affected() > 0)
    }

    /// Says that a recording can be played.
    pub async fn recording_is_ready(
        &self,
        id: RecordingId,
        made: Made,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query!(
            r#"UPDATE recordings r
             SET state = 'ready', ended_at = $2, duration_ms = $3, size_bytes = $4, segments = $5, thumbnail = $6
             FROM (SELECT id, state FROM recordings WHERE id = $1 AND deleted_at IS NULL FOR UPDATE) old
             WHERE r.id = old.id
             RETURNING old.state AS "was!", r.stream_id, r.owner_id, r.title, r.started_at"#,
            id.as_uuid(),
            now,
            i64::try_from(made.duration_ms).unwrap_or(i64::MAX),
            i64::try_from(made.size_bytes).unwrap_or(i64::MAX),
            i32::try_from(made.segments).unwrap_or(i32::MAX),
            made.has_thumbnail
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = row.filter(|row| row.was == "recording") {
            let path = format!("/recordings/{id}/index.m3u8");
            let data = json!({
                "recording": id,
                "stream": row.stream_id.map(StreamId::from),
                "owner": UserId::from(row.owner_id),
                "title": &row.title,
                "started_at": moment(row.started_at),
                "duration_ms": made.duration_ms,
                "size_bytes": made.size_bytes,
                "playback_path": &path,
            });
            tell(&mut tx, "recording.ready", data, now).await?;
            let event = schema::RecordingReady {
                recording_id: bytes(id),
                stream_id: row.stream_id.map(bytes).unwrap_or_default(),
                owner_id: bytes(row.owner_id),
                title: row.title,
                duration_ms: made.duration_ms,
                size_bytes: made.size_bytes,
                playback_path: path,
                started_at_ms: millis(row.started_at),
                at_ms: millis(now),
            };
            let key = row.stream_id.unwrap_or(id.as_uuid());
            events::tell(&mut tx, now, &[Told { key, version: 0, event: event.into() }]).await?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Takes over recordings whose node has not been heard of since `silent`, and is another one.
    pub async fn take_over_recordings(
        &self,
        node: NodeId,
        silent: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Vec<Open>, StoreError> {
        let rows = sqlx::query_as!(
            OpenRow,
            "UPDATE recordings SET node_id = $1, heard_at = $3 WHERE id IN (
                 SELECT id FROM recordings
                 WHERE state = 'recording' AND node_id <> $1 AND heard_at < $2 AND deleted_at IS NULL AND stream_id IS NOT NULL
                 ORDER BY heard_at LIMIT 16 FOR UPDATE SKIP LOCKED)
             RETURNING id, folder",
            node.as_uuid(),
            silent,
            now
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Open::from).collect())
    }

    /// A recording, unless it is deleted or its owner is suspended or gone.
    pub async fn recording(&self, id: RecordingId) -> Result<Option<Recording>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "SELECT r.id, r.stream_id, r.owner_id, r.title, r.folder, r.state, r.started_at, r.ended_at, r.duration_ms, r.size_bytes,
                    r.thumbnail, s.visibility
             FROM recordings r JOIN streams s ON s.id = r.stream_id JOIN users u ON u.id = r.owner_id
             WHERE r.id = $1 AND r.deleted_at IS NULL AND u.deleted_at IS NULL AND u.suspended_at IS NULL",
            id.as_uuid()
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.and_then(Row::recording))
    }

    /// The recordings of a stream, newest first, after a place in that list.
    pub async fn recordings_of(
        &self,
        stream: StreamId,
        after: Option<RecordingId>,
        rows: i64,
    ) -> Result<Vec<Recording>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            "SELECT r.id, r.stream_id, r.owner_id, r.title, r.folder, r.state, r.started_at, r.ended_at, r.duration_ms, r.size_bytes,
                    r.thumbnail, s.visibility
             FROM recordings r JOIN streams s ON s.id = r.stream_id
             WHERE r.stream_id = $1 AND r.deleted_at IS NULL AND ($2::uuid IS NULL OR r.id < $2) ORDER BY r.id DESC LIMIT $3",
            stream.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().filter_map(Row::recording).collect())
    }

    /// Deletes a recording for everybody who asks from now on; its objects follow. False when there is none.
    pub async fn delete_recording(&self, id: RecordingId, now: OffsetDateTime) -> Result<bool, StoreError> {
        let deleted = sqlx::query!(
            "UPDATE recordings SET deleted_at = $2 WHERE id = $1 AND deleted_at IS NULL",
            id.as_uuid(),
            now
        )
        .execute(self.pool())
        .await?;
        Ok(deleted.rows_affected() > 0)
    }

    /// Deletes recordings that ended before `since`, and says how many.
    pub async fn expire_recordings(
        &self,
        since: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let deleted = sqlx::query!(
            "UPDATE recordings SET deleted_at = $2 WHERE id IN (
                 SELECT id FROM recordings WHERE state = 'ready' AND deleted_at IS NULL AND ended_at < $1
                 ORDER BY ended_at LIMIT 100 FOR UPDATE SKIP LOCKED)",
            since,
            now
        )
        .execute(self.pool())
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Recordings whose objects are to be deleted: their own deletion, their stream's or their owner's. Of one that is being written
    /// nobody may have been heard of since `silent`, so that nothing is written behind the broom.
    pub async fn unwanted_recordings(&self, silent: OffsetDateTime) -> Result<Vec<Open>, StoreError> {
        let rows = sqlx::query_as!(
            OpenRow,
            "SELECT r.id, r.folder FROM recordings r JOIN users u ON u.id = r.owner_id
             WHERE (r.deleted_at IS NOT NULL OR r.stream_id IS NULL OR u.deleted_at IS NOT NULL)
               AND (r.state = 'ready' OR r.heard_at < $1)
             ORDER BY r.id LIMIT 16",
            silent
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Open::from).collect())
    }

    /// Forgets a recording whose objects are gone.
    pub async fn forget_recording(&self, id: RecordingId) -> Result<(), StoreError> {
        sqlx::query!("DELETE FROM recordings WHERE id = $1", id.as_uuid()).execute(self.pool()).await?;
        Ok(())
    }
}
