//! Second factors in PostgreSQL.

use nova_actors::id::UserId;
use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::identity::refresh::Hash;
use crate::identity::totp::wait_after;

/// What an attempt at a code begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// No second factor is set up.
    NotSetUp,
    /// Too many wrong codes; no further one is looked at until then.
    Locked(OffsetDateTime),
    /// The attempt is counted as wrong until [`Store::accept_step`] or [`Store::accept_recovery`] says otherwise.
    Open {
        /// The sealed secret.
        sealed_secret: Vec<u8>,
        /// Whether it was confirmed by a first code.
        confirmed: bool,
    },
}

impl Store {
    /// Begins to set a second factor up; one that was not confirmed is replaced. `false` when one is in use.
    pub async fn begin_totp(
        &self,
        user: UserId,
        sealed_secret: &[u8],
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "INSERT INTO totp (user_id, sealed_secret, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (user_id) DO UPDATE SET sealed_secret = $2, created_at = $3, last_step = 0
             WHERE totp.confirmed_at IS NULL",
            user.as_uuid(),
            sealed_secret,
            now,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Counts an attempt before its code is looked at, so that those who guess in parallel are counted too.
    pub async fn attempt_totp(&self, user: UserId, now: OffsetDateTime) -> Result<Attempt, StoreError> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query!(
            "SELECT sealed_secret, confirmed_at, failures, locked_until FROM totp WHERE user_id = $1 FOR UPDATE",
            user.as_uuid()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(Attempt::NotSetUp) };
        if let Some(until) = row.locked_until.filter(|until| *until > now) {
            return Ok(Attempt::Locked(until));
        }
        let failures = row.failures.saturating_add(1);
        let wait = wait_after(u32::try_from(failures).unwrap_or(0));
        sqlx::query!(
            "UPDATE totp SET failures = $2, locked_until = $3 WHERE user_id = $1",
            user.as_uuid(),
            failures,
            (!wait.is_zero()).then(|| now + wait),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Attempt::Open { sealed_secret: row.sealed_secret, confirmed: row.confirmed_at.is_some() })
    }

    /// Spends the code of a time step; `false` when it, or a later one, was spent before.
    pub async fn accept_step(&self, user: UserId, step: i64) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "UPDATE totp SET last_step = $2, failures = 0, locked_until = NULL WHERE user_id = $1 AND last_step < $2",
            user.as_uuid(),
            step,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Spends a recovery code; `false` when there is none such, or it was spent before.
    pub async fn accept_recovery(
        &self,
        user: UserId,
        code: &Hash,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query!(
            "WITH spent AS (
                 UPDATE recovery_codes SET used_at = $3
                 WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL RETURNING 1)
             UPDATE totp SET failures = 0, locked_until = NULL WHERE user_id = $1 AND EXISTS (SELECT FROM spent)",
            user.as_uuid(),
            &code[..],
            now,
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Puts a second factor to use by the step of its first right code; `false` when it is in use already, that step
    /// was spent, or another secret was set up meanwhile.
    pub async fn confirm_totp(
        &self,
        user: UserId,
        step: i64,
        sealed_secret: &[u8],
        recovery: &[Hash],
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "UPDATE totp SET confirmed_at = $3, last_step = $2, failures = 0, locked_until = NULL
             WHERE user_id = $1 AND confirmed_at IS NULL AND last_step < $2 AND sealed_secret = $4",
            user.as_uuid(),
            step,
            now,
            sealed_secret,
        )
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let hashes: Vec<Vec<u8>> = recovery.iter().map(|hash| hash.to_vec()).collect();
        sqlx::query!("DELETE FROM recovery_codes WHERE user_id = $1", user.as_uuid())
            .execute(&mut *tx)
            .await?;
        sqlx::query!(
            "INSERT INTO recovery_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])",
            user.as_uuid(),
            &hashes
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "UPDATE users SET version = version + 1, updated_at = $2 WHERE id = $1",
            user.as_uuid(),
            now
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes a second factor out of use; `false` when there was none.
    pub async fn remove_totp(&self, user: UserId, now: OffsetDateTime) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        let done =
            sqlx::query!("DELETE FROM totp WHERE user_id = $1", user.as_uuid()).execute(&mut *tx).await?;
        sqlx::query!(
            "UPDATE users SET version = version + 1, updated_at = $2 WHERE id = $1",
            user.as_uuid(),
            now
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(done.rows_affected() > 0)
    }
}
