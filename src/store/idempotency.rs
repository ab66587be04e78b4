//! Requests with an `Idempotency-Key`: who runs one, and what was answered.
//!
//! Whoever runs a request holds a lease on its row and renews it while it runs. A node that dies leaves a row whose
//! lease passes; then the next retry takes it over. An answer is kept for a day and opaque here: it was sealed by
//! [`crate::rest::idempotency`].

use std::time::Duration;

use uuid::Uuid;

use crate::store::{Store, StoreError};

/// How long a stored answer is kept.
pub const KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a lease lasts that nobody renews: what a retry waits for after a node has died.
pub const LEASE: Duration = Duration::from_secs(30);

/// What became of a request that wants to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// Run it; the lease is ours.
    Run,
    /// It ran before; this is its sealed answer.
    Answered(Vec<u8>),
    /// It is running elsewhere.
    Running,
    /// The key was used for another request.
    Mismatch,
}

impl Store {
    /// Takes the lease of the request `id`, or says why not.
    ///
    /// `id` names caller and key, `fingerprint` the request itself, `lease` this attempt.
    pub async fn begin_idempotent(
        &self,
        id: &[u8; 32],
        fingerprint: &[u8; 32],
        lease: Uuid,
    ) -> Result<Begun, StoreError> {
        // A row that is in the way at first may be gone when it is looked at: it was released or swept. Then it is our turn.
        loop {
            let taken = sqlx::query!(
                "INSERT INTO idempotent_requests AS r (id, fingerprint, lease, leased_until, expires_at)
                 VALUES ($1, $2, $3, now() + make_interval(secs => $4), now() + make_interval(secs => $5))
                 ON CONFLICT (id) DO UPDATE
                 SET fingerprint = excluded.fingerprint, lease = excluded.lease, leased_until = excluded.leased_until,
                     expires_at = excluded.expires_at, answer = NULL
                 WHERE (r.answer IS NOT NULL AND r.expires_at <= now())
                    OR (r.answer IS NULL AND r.leased_until <= now()
                        AND (r.fingerprint = excluded.fingerprint OR r.expires_at <= now()))",
                id,
                fingerprint,
                lease,
                LEASE.as_secs_f64(),
                KEEP.as_secs_f64(),
            )
            .execute(self.pool())
            .await?;
            if taken.rows_affected() > 0 {
                return Ok(Begun::Run);
            }
            let there = sqlx::query!("SELECT fingerprint, answer FROM idempotent_requests WHERE id = $1", id)
                .fetch_optional(self.pool())
                .await?;
            match there {
                None => {}
                Some(row) if row.fingerprint != fingerprint => return Ok(Begun::Mismatch),
                Some(row) => return Ok(row.answer.map_or(Begun::Running, Begun::Answered)),
            }
        }
    }

    /// Keeps the lease for another [`LEASE`]; false when somebody else has it.
    pub async fn renew_idempotent(&self, id: &[u8; 32], lease: Uuid) -> Result<bool, StoreError> {
        let renewed = sqlx::query!(
            "UPDATE idempotent_requests SET leased_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND lease = $2 AND answer IS NULL",
            id,
            lease,
            LEASE.as_secs_f64(),
        )
        .execute(self.pool())
        .await?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Keeps the sealed answer; false when the lease had passed to somebody else.
    pub async fn finish_idempotent(
        &self,
        id: &[u8; 32],
        lease: Uuid,
        answer: &[u8],
    ) -> Result<bool, StoreError> {
        let kept = sqlx::query!(
            "UPDATE idempotent_requests SET answer = $3, expires_at = now() + make_interval(secs => $4)
             WHERE id = $1 AND lease = $2 AND answer IS NULL",
            id,
            lease,
            answer,
            KEEP.as_secs_f64(),
        )
        .execute(self.pool())
        .await?;
        Ok(kept.rows_affected() > 0)
    }

    /// Gives the lease back without an answer: the next retry runs at once.
    pub async fn release_idempotent(&self, id: &[u8; 32], lease: Uuid) -> Result<(), StoreError> {
        sqlx::query!(
            "DELETE FROM idempotent_requests WHERE id = $1 AND lease = $2 AND answer IS NULL",
            id,
            lease
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Forgets up to `rows_max` requests whose time is over; returns how many.
    pub async fn sweep_idempotent(&self, rows_max: i64) -> Result<u64, StoreError> {
        let swept = sqlx::query!(
            "DELETE FROM idempotent_requests WHERE id IN (
                 SELECT id FROM idempotent_requests WHERE expires_at <= now() AND leased_until <= now()
                 ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)",
            rows_max,
        )
        .execute(self.pool())
        .await?;
        Ok(swept.rows_affected())
    }
}
