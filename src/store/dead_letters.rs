//! Dead letters in PostgreSQL: events a group could not take, and what became of them.

use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;

use super::events::{Cursor, logged};
use super::{Store, StoreError};
use crate::events::Logged;

/// An event a group could not take.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its number among them.
    pub id: i64,
    /// Which group.
    pub group: String,
    /// The event.
    pub event: Logged,
    /// Why.
    pub error: String,
    /// Since when.
    pub failed_at: OffsetDateTime,
}

fn letter(row: &sqlx::postgres::PgRow) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        id: row.try_get("id")?,
        group: row.try_get("group_name")?,
        event: logged(row)?,
        error: row.try_get("error")?,
        failed_at: row.try_get("failed_at")?,
    })
}

impl Store {
    /// Puts what stands next among the dead letters and goes on, unless somebody has taken it meanwhile; says whether it did.
    pub async fn bury(
        &self,
        tx: &mut PgConnection,
        group: &str,
        cursor: &Cursor,
        event: &Logged,
        error: &str,
    ) -> Result<bool, StoreError> {
        let moved = sqlx::query(
            "UPDATE event_groups SET place = $5, failures = 0, error = NULL, retry_at = NULL
             WHERE name = $1 AND topic = $2 AND part = $3 AND place = $4",
        )
        .bind(group)
        .bind(cursor.topic.number())
        .bind(cursor.part)
        .bind(cursor.place)
        .bind(event.place)
        .execute(&mut *tx)
        .await?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO dead_letters (group_name, topic, part, place, event_id, key, kind, schema_version, version, payload, at,
                                       error, failed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now())",
        )
        .bind(group)
        .bind(event.topic.number())
        .bind(event.part)
        .bind(event.place)
        .bind(event.id.as_uuid())
        .bind(event.key)
        .bind(&event.kind)
        .bind(event.schema_version)
        .bind(event.version)
        .bind(&event.payload)
        .bind(event.at)
        .bind(error)
        .execute(tx)
        .await?;
        Ok(true)
    }

    /// What groups could not take, the newest first.
    pub async fn dead_letters(&self, group: Option<&str>, rows: i64) -> Result<Vec<DeadLetter>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM dead_letters WHERE $1::text IS NULL OR group_name = $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(group)
        .bind(rows)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(letter).collect()
    }

    /// Marks dead letters, one or all of a group, to be given to their group once more; says how many.
    pub async fn retry_dead_letters(&self, group: &str, id: Option<i64>) -> Result<u64, StoreError> {
        let due = sqlx::query(
            "UPDATE dead_letters SET is_due = true WHERE group_name = $1 AND ($2::bigint IS NULL OR id = $2)",
        );
        Ok(due.bind(group).bind(id).execute(self.pool()).await?.rows_affected())
    }

    /// Locks the oldest dead letter of a group that is to be given once more; none of what is paused.
    pub async fn take_due_letter(
        &self,
        tx: &mut PgConnection,
        group: &str,
    ) -> Result<Option<DeadLetter>, StoreError> {
        let row = sqlx::query(
            "SELECT d.* FROM dead_letters d
             WHERE d.group_name = $1 AND d.is_due AND NOT EXISTS (
                 SELECT FROM event_groups g WHERE g.name = d.group_name AND g.topic = d.topic AND g.part = d.part AND g.is_paused)
             ORDER BY d.id LIMIT 1 FOR UPDATE OF d SKIP LOCKED",
        );
        let row = row.bind(group).fetch_optional(tx).await?;
        row.as_ref().map(letter).transpose()
    }

    /// What became of a dead letter that was given once more: it is gone, or stays with the new reason.
    pub async fn settle_letter(
        &self,
        tx: &mut PgConnection,
        id: i64,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        let settled = match error {
            None => sqlx::query("DELETE FROM dead_letters WHERE id = $1").bind(id),
            Some(error) => sqlx::query(
                "UPDATE dead_letters SET is_due = false, error = $2, failed_at = now() WHERE id = $1",
            )
            .bind(id)
            .bind(error),
        };
        settled.execute(tx).await?;
        Ok(())
    }

    /// How many dead letters each group has.
    pub async fn dead_letter_counts(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows =
            sqlx::query_as("SELECT group_name, count(*) FROM dead_letters GROUP BY group_name ORDER BY 1");
        Ok(rows.fetch_all(self.pool()).await?)
    }

    /// Takes dead letters away: one, or all of a group; says how many.
    pub async fn drop_dead_letters(&self, group: &str, id: Option<i64>) -> Result<u64, StoreError> {
        let dropped =
            sqlx::query("DELETE FROM dead_letters WHERE group_name = $1 AND ($2::bigint IS NULL OR id = $2)");
        Ok(dropped.bind(group).bind(id).execute(self.pool()).await?.rows_affected())
    }
}
