//! Broadcasts of live streams in PostgreSQL: what the actor of a stream reads of it when it begins, and notes while it is on the air.

use async_trait::async_trait;
use nova_actors::id::{NodeId, StreamId, UserId};
use nova_actors::port::{Airing, KeyHash, LifeState, Standing, StreamRecord, Streams, StreamsError};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::events::{self, Told};
use super::webhooks::{moment, tell};
use super::{Store, StoreError};
use crate::events::{Event, bytes, millis, schema};

impl Store {
    /// What was last noted of the broadcast of a stream, as it was noted.
    pub async fn airing(&self, id: StreamId) -> Result<Option<Airing>, StoreError> {
        Ok(self.noted(id).await?.and_then(|row| row.airing()))
    }

    async fn noted(&self, id: StreamId) -> Result<Option<NotedRow>, sqlx::Error> {
        sqlx::query_as!(
            NotedRow,
            "SELECT owner_id, key_hash, state, node_id, started_at, ended_at, heard_at, viewers, viewers_peak, watched_s, broadcast,
                    next_msn, discontinuities, sessions, visibility
             FROM streams WHERE id = $1",
            id.as_uuid()
        )
        .fetch_optional(self.pool())
        .await
    }
}

/// A stream as its actor reads it.
struct NotedRow {
    owner_id: uuid::Uuid,
    key_hash: Vec<u8>,
    state: String,
    node_id: Option<uuid::Uuid>,
    started_at: Option<OffsetDateTime>,
    ended_at: Option<OffsetDateTime>,
    heard_at: Option<OffsetDateTime>,
    viewers: i32,
    viewers_peak: i32,
    watched_s: i64,
    broadcast: Option<String>,
    next_msn: i64,
    discontinuities: i64,
    sessions: i64,
    visibility: String,
}

impl NotedRow {
    fn airing(&self) -> Option<Airing> {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        Some(Airing {
            state: if self.state == "live" { LifeState::Live } else { LifeState::Ended },
            node: NodeId::from(self.node_id?),
            started_at: self.started_at?,
            ended_at: self.ended_at,
            heard_at: self.heard_at?,
            viewers: self.viewers.try_into().unwrap_or(0),
            viewers_peak: self.viewers_peak.try_into().unwrap_or(0),
            watched_s: number(self.watched_s),
            broadcast: self.broadcast.clone()?,
            standing: Standing {
                next_msn: number(self.next_msn),
                discontinuities: number(self.discontinuities),
                sessions: number(self.sessions),
            },
        })
    }
}

/// Whether two times are one: the database keeps microseconds, the clock tells more.
fn same(one: OffsetDateTime, other: OffsetDateTime) -> bool {
    (one - other).abs() < time::Duration::MILLISECOND
}

fn unavailable(error: impl Into<StoreError>) -> StreamsError {
    StreamsError { reason: error.into().to_string() }
}

#[async_trait]
impl Streams for Store {
    async fn load(&self, id: StreamId) -> Result<Option<StreamRecord>, StreamsError> {
        let row = self.noted(id).await.map_err(unavailable)?;
        Ok(row.map(|row| StreamRecord {
            id,
            owner: row.owner_id.into(),
            airing: row.airing(),
            is_private: row.visibility != "public",
            // The table checks the length; a hash of another is that of no key.
            key: KeyHash(row.key_hash.try_into().unwrap_or_default()),
        }))
    }

    async fn with_key(&self, key: KeyHash) -> Result<Option<StreamId>, StreamsError> {
        let found = sqlx::query_scalar!(
            "SELECT s.id FROM streams s JOIN users u ON u.id = s.owner_id
             WHERE s.key_hash = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL",
            &key.0[..]
        )
        .fetch_optional(self.pool())
        .await
        .map_err(unavailable)?;
        Ok(found.map(StreamId::from))
    }

    async fn note(&self, id: StreamId, airing: &Airing) -> Result<(), StreamsError> {
        let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let long = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut tx = self.pool().begin().await.map_err(unavailable)?;
        let row = sqlx::query!(
            r#"UPDATE streams s
               SET state = $2, node_id = $3, started_at = $4, ended_at = $5, heard_at = $6, viewers = $7, viewers_peak = $8,
                   watched_s = $9, broadcast = $10, next_msn = $11, discontinuities = $12, sessions = $13
               FROM (SELECT id, state, started_at FROM streams WHERE id = $1 FOR UPDATE) old
               WHERE s.id = old.id
               RETURNING old.state AS "was!", old.started_at AS "was_started_at?", s.owner_id, s.title, s.visibility"#,
            id.as_uuid(),
            airing.state.as_str(),
            airing.node.as_uuid(),
            airing.started_at,
            airing.ended_at,
            airing.heard_at,
            count(airing.viewers),
            count(airing.viewers_peak),
            long(airing.watched_s),
            airing.broadcast,
            long(airing.standing.next_msn),
            long(airing.standing.discontinuities),
            long(airing.standing.sessions)
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(unavailable)?;
        // What changed is told in the transaction that changes it.
        if let Some(row) = row
            && (row.was != airing.state.as_str()
                || !row.was_started_at.is_some_and(|was| same(was, airing.started_at)))
        {
            let owner = UserId::from(row.owner_id);
            let (title, started_at) = (row.title, moment(airing.started_at));
            let (kind, data) = match airing.state {
                LifeState::Live => (
                    "stream.live",
                    json!({ "stream": id, "owner": owner, "title": &title, "started_at": started_at }),
                ),
                LifeState::Idle | LifeState::Ended => (
                    "stream.ended",
                    json!({
                        "stream": id,
                        "owner": owner,
                        "title": &title,
                        "started_at": started_at,
                        "ended_at": airing.ended_at.map_or(Value::Null, moment),
                        "viewers_peak": airing.viewers_peak,
                        "watched_s": airing.watched_s,
                    }),
                ),
            };
            tell(&mut tx, kind, data, airing.heard_at).await.map_err(unavailable)?;
            let event: Event = match airing.state {
                LifeState::Live => schema::StreamStarted {
                    stream_id: bytes(id),
                    owner_id: bytes(owner),
                    title,
                    private: row.visibility != "public",
                    started_at_ms: millis(airing.started_at),
                }
                .into(),
                LifeState::Idle | LifeState::Ended => schema::StreamEnded {
                    stream_id: bytes(id),
                    owner_id: bytes(owner),
                    started_at_ms: millis(airing.started_at),
                    ended_at_ms: millis(airing.ended_at.unwrap_or(airing.heard_at)),
                    viewers_peak: airing.viewers_peak,
                    watched_s: airing.watched_s,
                }
                .into(),
            };
            let told = Told { key: id.as_uuid(), version: 0, event };
            events::tell(&mut tx, airing.heard_at, &[told]).await.map_err(unavailable)?;
        }
        self.commit(tx).await.map_err(unavailable)?;
        Ok(())
    }
}
