//! What readers do, in PostgreSQL: each event once, and told in the transaction that says so.

use std::collections::HashSet;

use nova_actors::id::{EventId, PostId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{Told, tell_as};
use super::{Store, StoreError};
use crate::events::{bytes, derived, millis, schema};

/// How long the id of an event is known: what is older when it comes is refused before.
pub const KNOWN_FOR: time::Duration = time::Duration::hours(48);
/// Ids forgotten at once.
const BITE: i64 = 5_000;

/// What somebody did.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// As their client named it; another client may use the same name.
    pub id: EventId,
    /// `impression`, `open`, `like`, `hide`, `dwell`.
    pub action: &'static str,
    /// With which post.
    pub post: PostId,
    /// Where in the list it stood; 0 is the first.
    pub position: u32,
    /// Which level of the feed gave it.
    pub level: String,
    /// What ordered it.
    pub model: String,
    /// How long it was looked at.
    pub dwell_ms: u32,
    /// When, by the client's clock.
    pub at: OffsetDateTime,
}

impl Store {
    /// Tells what a reader did; says how much of it is new and about a post there is or was.
    pub async fn add_behaviours(
        &self,
        reader: UserId,
        all: &[Behaviour],
        now: OffsetDateTime,
    ) -> Result<usize, StoreError> {
        // An id that comes twice in one batch is what it was first.
        let mut ids = HashSet::new();
        let all: Vec<&Behaviour> = all.iter().filter(|one| ids.insert(one.id.as_uuid())).collect();
        let mut tx = self.pool().begin().await?;
        // In the order of the ids, so that two who send the same wait for each other and not in a circle.
        let fresh = sqlx::query_scalar!(
            "INSERT INTO behaviours (user_id, event_id, at)
             SELECT $1, i.id, $4 FROM unnest($2::uuid[], $3::uuid[]) AS i (id, post)
             WHERE EXISTS (SELECT FROM posts p WHERE p.id = i.post)
             ORDER BY i.id ON CONFLICT DO NOTHING RETURNING event_id",
            reader.as_uuid(),
            &all.iter().map(|one| one.id.as_uuid()).collect::<Vec<_>>(),
            &all.iter().map(|one| one.post.as_uuid()).collect::<Vec<_>>(),
            now
        )
        .fetch_all(&mut *tx)
        .await?;
        let fresh: HashSet<Uuid> = fresh.into_iter().collect();
        let mut told = Vec::with_capacity(fresh.len());
        for one in all {
            if !fresh.contains(&one.id.as_uuid()) {
                continue;
            }
            let event = schema::BehaviourObserved {
                user_id: bytes(reader),
                action: one.action.to_owned(),
                post_id: bytes(one.post),
                position: one.position,
                level: one.level.clone(),
                model: one.model.clone(),
                at_ms: millis(one.at),
                dwell_ms: one.dwell_ms,
            };
            let told_of = Told { key: reader.as_uuid(), version: 0, event: event.into() };
            // Another reader's client may use the same name.
            told.push((EventId::from_uuid(derived(reader.as_uuid(), one.id.as_uuid())), told_of));
        }
        tell_as(&mut tx, now, &told).await?;
        self.commit(tx).await?;
        Ok(told.len())
    }

    /// Forgets ids that cannot come again; says how many. To be called again while there are some.
    pub async fn sweep_behaviours(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let swept = sqlx::query!(
            "DELETE FROM behaviours WHERE (user_id, event_id) IN (
                 SELECT user_id, event_id FROM behaviours WHERE at < $1 ORDER BY at LIMIT $2)",
            now - KNOWN_FOR,
            BITE
        )
        .execute(self.pool())
        .await?;
        Ok(swept.rows_affected())
    }
}
