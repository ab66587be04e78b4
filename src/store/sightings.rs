//! When people were last seen.

use nova_actors::id::UserId;
use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError};

impl Store {
    /// Notes when people were seen; what is known to be later stays. Those who do not exist are left out, and nobody stands in it twice.
    pub async fn note_seen(&self, seen: &[(UserId, OffsetDateTime)]) -> Result<(), StoreError> {
        let noted = sqlx::query(
            "INSERT INTO sightings AS known (user_id, seen_at)
             SELECT u.id, seen.at FROM unnest($1::uuid[], $2::timestamptz[]) AS seen (user_id, at)
             JOIN users u ON u.id = seen.user_id ORDER BY u.id
             ON CONFLICT (user_id) DO UPDATE SET seen_at = excluded.seen_at WHERE known.seen_at < excluded.seen_at",
        );
        let noted = noted
            .bind(seen.iter().map(|(user, _)| user.as_uuid()).collect::<Vec<_>>())
            .bind(seen.iter().map(|(_, at)| *at).collect::<Vec<_>>());
        noted.execute(self.pool()).await?;
        Ok(())
    }

    /// When people were last seen, as far as they ever were.
    pub async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, OffsetDateTime)>, StoreError> {
        let rows = sqlx::query("SELECT user_id, seen_at FROM sightings WHERE user_id = ANY ($1)");
        let rows = rows.bind(users.iter().map(|user| user.as_uuid()).collect::<Vec<_>>());
        let seen = |row: sqlx::postgres::PgRow| {
            Ok((UserId::from_uuid(row.try_get::<Uuid, _>("user_id")?), row.try_get("seen_at")?))
        };
        rows.fetch_all(self.pool()).await?.into_iter().map(seen).collect()
    }

    /// Everybody `user` has blocked or is blocked by.
    pub async fn blocks_of(&self, user: UserId) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT blocked FROM blocks WHERE blocker = $1 UNION SELECT blocker FROM blocks WHERE blocked = $1",
        )
        .bind(user.as_uuid())
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(UserId::from_uuid).collect())
    }
}
