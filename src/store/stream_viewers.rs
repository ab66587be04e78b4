//! Who may watch private streams, in PostgreSQL.

use nova_actors::id::{StreamId, UserId};
use time::OffsetDateTime;

use super::{Store, StoreError};

/// People one stream may name.
const VIEWERS_MAX: i64 = 10_000;

impl Store {
    /// Lets somebody watch a stream. None when there is no such user; false when `VIEWERS_MAX` may already.
    pub async fn add_stream_viewer(
        &self,
        stream: StreamId,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Option<bool>, StoreError> {
        let mut tx = self.pool().begin().await?;
        // One stream's requests take turns, so that they count the same viewers.
        sqlx::query!("SELECT id FROM streams WHERE id = $1 FOR UPDATE", stream.as_uuid())
            .fetch_optional(&mut *tx)
            .await?;
        let has = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM stream_viewers WHERE stream_id = $1 AND user_id <> $2"#,
            stream.as_uuid(),
            user.as_uuid()
        )
        .fetch_one(&mut *tx)
        .await?;
        if has >= VIEWERS_MAX {
            return Ok(Some(false));
        }
        let known = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM users WHERE id = $1 AND deleted_at IS NULL) AS "known!""#,
            user.as_uuid()
        )
        .fetch_one(&mut *tx)
        .await?;
        if !known {
            return Ok(None);
        }
        sqlx::query!(
            "INSERT INTO stream_viewers (stream_id, user_id, created_at)
             SELECT id, $2, $3 FROM streams WHERE id = $1 ON CONFLICT DO NOTHING",
            stream.as_uuid(),
            user.as_uuid(),
            now
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(true))
    }

    /// Lets somebody watch a stream no longer.
    pub async fn remove_stream_viewer(&self, stream: StreamId, user: UserId) -> Result<(), StoreError> {
        sqlx::query!(
            "DELETE FROM stream_viewers WHERE stream_id = $1 AND user_id = $2",
            stream.as_uuid(),
            user.as_uuid()
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Who may watch a stream, in the order of their ids, after a place in that list.
    pub async fn stream_viewers(
        &self,
        stream: StreamId,
        after: Option<UserId>,
        rows: i64,
    ) -> Result<Vec<UserId>, StoreError> {
        let rows = sqlx::query_scalar!(
            "SELECT user_id FROM stream_viewers
             WHERE stream_id = $1 AND ($2::uuid IS NULL OR user_id > $2) ORDER BY user_id LIMIT $3",
            stream.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(UserId::from).collect())
    }

    /// Whether somebody may see a stream and what is kept of it.
    pub async fn may_see_stream(&self, stream: StreamId, user: UserId) -> Result<bool, StoreError> {
        let may = sqlx::query_scalar!(
            r#"SELECT may_see_stream(id, owner_id, visibility, $2) AS "may!" FROM streams WHERE id = $1"#,
            stream.as_uuid(),
            user.as_uuid()
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(may.unwrap_or(false))
    }
}
