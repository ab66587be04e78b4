//! The keys of this database: those that sign access tokens, and the one that seals.

use nova_actors::id::SigningKeyId;
use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::identity::keys::{self, StoredKey};
use crate::identity::seal::{SealedBy, SealedDataKey};

/// Taken by whoever makes a key, so that nodes which start at once make one between them; `pg_advisory_xact_lock`.
const KEY_MAKING_LOCK: i64 = 0x6e6f_7661_6b65_7973;

impl Store {
    /// Every signing key, oldest first.
    pub async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let rows = sqlx::query!(
            "SELECT id, public_key, sealed_private, created_at, signs_from FROM signing_keys ORDER BY signs_from, id"
        )
        .fetch_all(self.pool())
        .await?;
        let keys = rows.into_iter().map(|row| StoredKey {
            id: row.id.into(),
            // The table checks the length; a key of another opens nothing.
            public_key: row.public_key.try_into().unwrap_or_default(),
            sealed_private: row.sealed_private,
            created_at: row.created_at,
            signs_from: row.signs_from,
        });
        Ok(keys.collect())
    }

    /// Makes the next signing key when it is time and nobody has, and removes those whose tokens are dead. Says
    /// whether anything changed.
    pub async fn turn_signing_keys(
        &self,
        now: OffsetDateTime,
        key_days: u16,
        token_s: u32,
        make: impl FnOnce(OffsetDateTime) -> StoredKey,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", KEY_MAKING_LOCK).execute(&mut *tx).await?;
        let rows = sqlx::query!("SELECT id, signs_from FROM signing_keys ORDER BY signs_from, id")
            .fetch_all(&mut *tx)
            .await?;
        let known: Vec<_> =
            rows.into_iter().map(|row| (SigningKeyId::from(row.id), row.signs_from)).collect();
        let dead: Vec<_> = keys::dead(&known, now, token_s).iter().map(SigningKeyId::as_uuid).collect();
        let next = keys::next_signs_from(known.last().map(|(_, signs_from)| *signs_from), now, key_days);
        if let Some(key) = next.map(make) {
            sqlx::query!(
                "INSERT INTO signing_keys (id, public_key, sealed_private, created_at, signs_from)
                 VALUES ($1, $2, $3, $4, $5)",
                key.id.as_uuid(),
                &key.public_key[..],
                key.sealed_private,
                key.created_at,
                key.signs_from,
            )
            .execute(&mut *tx)
            .await?;
        }
        if !dead.is_empty() {
            sqlx::query!("DELETE FROM signing_keys WHERE id = ANY($1)", &dead).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(next.is_some() || !dead.is_empty())
    }

    /// The sealed data key of this database; `first` becomes it when there is none. Nodes that start at once get the
    /// same.
    pub async fn data_key(
        &self,
        first: &SealedDataKey,
        now: OffsetDateTime,
    ) -> Result<SealedDataKey, StoreError> {
        sqlx::query!(
            "INSERT INTO data_key (sealed_by, salt, sealed, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            first.sealed_by.as_str(),
            first.salt,
            first.sealed,
            now,
        )
        .execute(self.pool())
        .await?;
        let row = sqlx::query!("SELECT sealed_by, salt, sealed FROM data_key").fetch_one(self.pool()).await?;
        let sealed_by = SealedBy::read(&row.sealed_by).unwrap_or(SealedBy::Open);
        Ok(SealedDataKey { sealed_by, salt: row.salt, sealed: row.sealed })
    }

    /// Replaces the sealed data key by the same key sealed otherwise, unless another node was faster.
    pub async fn reseal_data_key(
        &self,
        was: &SealedDataKey,
        becomes: &SealedDataKey,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE data_key SET sealed_by = $2, salt = $3, sealed = $4 WHERE sealed = $1",
            was.sealed,
            becomes.sealed_by.as_str(),
            becomes.salt,
            becomes.sealed,
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
