//! The outbox of webhooks in PostgreSQL.

use nova_actors::id::EventId;
use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Store, StoreError};

/// For how long events are kept, delivered or not.
const KEPT: time::Duration = time::Duration::days(7);
/// Events spread at once.
const SPREAD_MAX: i64 = 100;

/// An attempt to be made.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Of which event.
    pub event: EventId,
    /// How many were made, this one included.
    pub attempts: i32,
    /// What to send.
    pub body: String,
}

/// A time as events tell it.
pub(super) fn moment(at: OffsetDateTime) -> Value {
    at.format(&Rfc3339).map_or(Value::Null, Value::String)
}

/// Adds an event to the outbox, as part of a transaction.
pub(super) async fn tell(
    connection: &mut PgConnection,
    kind: &str,
    data: Value,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let body = json!({ "type": kind, "timestamp": moment(now), "data": data }).to_string();
    sqlx::query!(
        "INSERT INTO webhook_events (id, at, body) VALUES ($1, $2, $3)",
        EventId::new(now).as_uuid(),
        now,
        body
    )
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Makes a delivery for each endpoint of every event since `since` that has none yet, and forgets events of long ago.
    pub async fn spread_webhooks(
        &self,
        endpoints: &[String],
        since: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "WITH fresh AS (
                 UPDATE webhook_events SET is_spread = true WHERE id IN (
                     SELECT id FROM webhook_events WHERE NOT is_spread AND at >= $2 ORDER BY at LIMIT $4
                     FOR UPDATE SKIP LOCKED)
                 RETURNING id)
             INSERT INTO webhook_deliveries (event_id, endpoint, due_at)
             SELECT fresh.id, endpoint, $3 FROM fresh, unnest($1::text[]) AS endpoint
             ON CONFLICT DO NOTHING",
            endpoints,
            since,
            now,
            SPREAD_MAX
        )
        .execute(self.pool())
        .await?;
        sqlx::query!(
            "DELETE FROM webhook_events WHERE id IN (SELECT id FROM webhook_events WHERE at < $1 ORDER BY at LIMIT 500)",
            now - KEPT
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Takes what is due at an endpoint; nobody else takes it before `until`.
    pub async fn due_webhooks(
        &self,
        endpoint: &str,
        limit: i64,
        until: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query!(
            "UPDATE webhook_deliveries d SET attempts = attempts + 1, due_at = $3
             FROM webhook_events e
             WHERE e.id = d.event_id AND d.endpoint = $1 AND d.event_id IN (
                 SELECT event_id FROM webhook_deliveries
                 WHERE endpoint = $1 AND settled_at IS NULL AND due_at <= $4
                 ORDER BY due_at, event_id LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING d.event_id, d.attempts, e.body",
            endpoint,
            limit,
            until,
            now
        )
        .fetch_all(self.pool())
        .await?;
        let delivery = |row: uuid::Uuid, attempts, body| Delivery { event: row.into(), attempts, body };
        Ok(rows.into_iter().map(|row| delivery(row.event_id, row.attempts, row.body)).collect())
    }

    /// Notes how an attempt went: tried again at `again`, or settled without it.
    pub async fn settle_webhook(
        &self,
        event: EventId,
        endpoint: &str,
        again: Option<OffsetDateTime>,
        error: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE webhook_deliveries
             SET due_at = coalesce($3, due_at), settled_at = CASE WHEN $3::timestamptz IS NULL THEN $5::timestamptz END,
                 last_error = $4
             WHERE event_id = $1 AND endpoint = $2",
            event.as_uuid(),
            endpoint,
            again,
            error,
            now
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
