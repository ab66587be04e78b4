//! Logged-in devices in PostgreSQL.

use nova_actors::id::{DeviceId, UserId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::identity::refresh::{self, Hash};
use crate::identity::revocation::{Revoked, Why};

/// Devices one user is logged in on; whoever logs in on more is logged out where they have not been for longest.
pub const DEVICES_MAX: i64 = 50;
/// How long a session that ended is kept: longer than any access token lives.
const ENDED_KEPT: time::Duration = time::Duration::days(2);

/// A device to be logged in.
#[derive(Debug)]
pub struct NewDevice {
    /// Its id.
    pub id: DeviceId,
    /// Whose.
    pub user: UserId,
    /// As the user calls it.
    pub name: String,
    /// As the client says: `web`, `ios`, `android` …
    pub platform: String,
    /// The network it is in.
    pub network: Option<String>,
    /// Of its refresh tokens.
    pub family_hash: Hash,
    /// Of the first.
    pub secret_hash: Hash,
    /// The time of it.
    pub now: OffsetDateTime,
    /// When the session ends unless it is refreshed.
    pub expires_at: OffsetDateTime,
}

/// A device that is logged in.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// As the user calls it.
    pub name: String,
    /// As the client said: `web`, `ios`, `android` …
    pub platform: String,
    /// The network it was last seen in.
    pub network: Option<String>,
    /// When it was logged in.
    pub created_at: OffsetDateTime,
    /// When it last refreshed.
    pub last_seen_at: OffsetDateTime,
}

/// A refresh token as it was presented, and what is to follow it.
#[derive(Debug)]
pub struct Presented {
    /// Which device.
    pub family_hash: Hash,
    /// Which of its tokens.
    pub secret_hash: Hash,
    /// SHA-256 of the request's `Idempotency-Key`.
    pub rotation_hash: Option<Hash>,
    /// The token to come.
    pub next_hash: Hash,
    /// The network it came from.
    pub network: Option<String>,
    /// The time of it.
    pub now: OffsetDateTime,
    /// When the session ends unless it is refreshed again.
    pub expires_at: OffsetDateTime,
}

/// What came of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The next token is the good one now.
    Rotated {
        /// Whose.
        user: UserId,
        /// Which device.
        device: DeviceId,
    },
    /// It was an old token: the session has just been ended.
    Reused(Revoked),
    /// The session had ended before.
    Ended,
    /// Not a token of ours, or one of a session long gone.
    Unknown,
}

/// What the database knows of a session when one of its tokens comes.
#[derive(Debug, Clone, Copy)]
struct Family {
    newest: Hash,
    previous: Option<Hash>,
    rotation: Option<Hash>,
    rotated_at: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    /// The newest token: the one before it is forgotten.
    Newest,
    /// The one before, asked for again by who asked for it.
    Retry,
    /// Any other.
    Old,
}

impl Family {
    fn judge(&self, secret: &Hash, rotation: Option<&Hash>, now: OffsetDateTime) -> Judgement {
        let is_soon = (now - self.rotated_at).unsigned_abs() <= refresh::RETRY;
        let is_asker = rotation.is_some() && rotation == self.rotation.as_ref();
        if *secret == self.newest {
            Judgement::Newest
        } else if is_soon && is_asker && self.previous == Some(*secret) {
            Judgement::Retry
        } else {
            Judgement::Old
        }
    }
}

impl Store {
    /// Logs a device in, unless the account was deleted or suspended meanwhile, or its password changed: then
    /// `None`. Returns the devices that had to make room.
    pub async fn log_in(
        &self,
        device: &NewDevice,
        password_hash: &str,
    ) -> Result<Option<Vec<Revoked>>, StoreError> {
        let mut tx = self.pool().begin().await?;
        // Held against whoever ends the sessions of this account: they wait, and then see this one.
        let stands = sqlx::query_scalar!(
            r#"SELECT 1 AS "one!" FROM users
               WHERE id = $1 AND password_hash = $2 AND deleted_at IS NULL AND suspended_at IS NULL FOR SHARE"#,
            device.user.as_uuid(),
            password_hash,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if stands.is_none() {
            return Ok(None);
        }
        insert(&mut tx, device).await?;
        let rows = sqlx::query_scalar!(
            "UPDATE devices SET revoked_at = $2, revoked_why = 'evicted' WHERE id IN (
                 SELECT id FROM devices WHERE user_id = $1 AND revoked_at IS NULL
                 ORDER BY last_seen_at DESC, id DESC OFFSET $3)
             RETURNING id",
            device.user.as_uuid(),
            device.now,
            DEVICES_MAX,
        )
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(rows.into_iter().map(|id| revoked(device.user, id, Why::Evicted, device.now)).collect()))
    }

    /// Takes a refresh token in and puts the next one in its place, or ends the session when it was an old one.
    pub async fn rotate(&self, presented: &Presented) -> Result<Rotation, StoreError> {
        let mut tx = self.pool().begin().await?;
        let row = sqlx::query!(
            "SELECT id, user_id, secret_hash, previous_hash, rotation_hash, rotated_at, expires_at, revoked_at
             FROM devices WHERE family_hash = $1 FOR UPDATE",
            &presented.family_hash[..],
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(Rotation::Unknown) };
        if row.revoked_at.is_some() || row.expires_at <= presented.now {
            return Ok(Rotation::Ended);
        }
        let user = UserId::from(row.user_id);
        let family = Family {
            newest: digest(&row.secret_hash),
            previous: row.previous_hash.as_deref().map(digest),
            rotation: row.rotation_hash.as_deref().map(digest),
            rotated_at: row.rotated_at,
        };
        let judgement = family.judge(&presented.secret_hash, presented.rotation_hash.as_ref(), presented.now);
        if judgement == Judgement::Old {
            sqlx::query!(
                "UPDATE devices SET revoked_at = $2, revoked_why = 'reuse' WHERE id = $1",
                row.id,
                presented.now
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            return Ok(Rotation::Reused(revoked(user, row.id, Why::Reuse, presented.now)));
        }
        // A retry replaces the answer that was lost; when the rotation was stays, so retries do not prolong themselves.
        sqlx::query!(
            "UPDATE devices SET secret_hash = $2, previous_hash = $3, rotation_hash = $4,
                    rotated_at = CASE WHEN $5 THEN rotated_at ELSE $6 END,
                    last_seen_at = $6, expires_at = $7, network = coalesce($8, network)
             WHERE id = $1",
            row.id,
            &presented.next_hash[..],
            &presented.secret_hash[..],
            presented.rotation_hash.as_ref().map(|hash| &hash[..]),
            judgement == Judgement::Retry,
            presented.now,
            presented.expires_at,
            presented.network,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Rotation::Rotated { user, device: row.id.into() })
    }

    /// The devices a user is logged in on, newest log-in first, after the one given.
    pub async fn devices(
        &self,
        user: UserId,
        after: Option<DeviceId>,
        limit: i64,
        now: OffsetDateTime,
    ) -> Result<Vec<Device>, StoreError> {
        let rows = sqlx::query_as!(
            DeviceRow,
            "SELECT id, name, platform, network, created_at, last_seen_at FROM devices
             WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND ($3::uuid IS NULL OR id < $3)
             ORDER BY id DESC LIMIT $4",
            user.as_uuid(),
            now,
            after.map(|device| device.as_uuid()),
            limit,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Ends one session of a user; `None` when there is none such.
    pub async fn revoke(
        &self,
        user: UserId,
        device: DeviceId,
        why: Why,
        now: OffsetDateTime,
    ) -> Result<Option<Revoked>, StoreError> {
        let done = sqlx::query!(
            "UPDATE devices SET revoked_at = $3, revoked_why = $4
             WHERE id = $2 AND user_id = $1 AND revoked_at IS NULL",
            user.as_uuid(),
            device.as_uuid(),
            now,
            why.as_str(),
        )
        .execute(self.pool())
        .await?;
        Ok((done.rows_affected() > 0).then(|| revoked(user, device.as_uuid(), why, now)))
    }

    /// Ends every session of a user.
    pub async fn revoke_sessions(
        &self,
        user: UserId,
        why: Why,
        now: OffsetDateTime,
    ) -> Result<Vec<Revoked>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        revoke_all(&mut connection, user, None, why, now).await
    }

    /// The sessions that were ended since.
    pub async fn revoked_since(&self, since: OffsetDateTime) -> Result<Vec<Revoked>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT id, user_id, revoked_at AS "revoked_at!", revoked_why FROM devices WHERE revoked_at > $1"#,
            since
        )
        .fetch_all(self.pool())
        .await?;
        let read = |why: Option<String>| why.as_deref().and_then(Why::read).unwrap_or(Why::Removed);
        let revoked = |row: (uuid::Uuid, uuid::Uuid, OffsetDateTime, Option<String>)| {
            revoked(row.1.into(), row.0, read(row.3), row.2)
        };
        Ok(rows
            .into_iter()
            .map(|row| revoked((row.id, row.user_id, row.revoked_at, row.revoked_why)))
            .collect())
    }

    /// Forgets sessions that ended or ran out long enough ago, at most `limit` of each; returns how many.
    pub async fn purge_devices(&self, now: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
        let gone = sqlx::query!(
            "DELETE FROM devices WHERE id IN (
                 (SELECT id FROM devices WHERE revoked_at < $1 LIMIT $2) UNION
                 (SELECT id FROM devices WHERE expires_at < $1 LIMIT $2))",
            now - ENDED_KEPT,
            limit,
        )
        .execute(self.pool())
        .await?;
        Ok(gone.rows_affected())
    }
}

pub(super) async fn insert(connection: &mut PgConnection, device: &NewDevice) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO devices (id, user_id, name, platform, network, family_hash, secret_hash, rotated_at, created_at,
                              last_seen_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8, $9)",
        device.id.as_uuid(),
        device.user.as_uuid(),
        device.name,
        device.platform,
        device.network,
        &device.family_hash[..],
        &device.secret_hash[..],
        device.now,
        device.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn revoke_all(
    connection: &mut PgConnection,
    user: UserId,
    except: Option<DeviceId>,
    why: Why,
    now: OffsetDateTime,
) -> Result<Vec<Revoked>, StoreError> {
    let rows = sqlx::query_scalar!(
        "UPDATE devices SET revoked_at = $3, revoked_why = $4
         WHERE user_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR id <> $2) RETURNING id",
        user.as_uuid(),
        except.map(|device| device.as_uuid()),
        now,
        why.as_str(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|id| revoked(user, id, why, now)).collect())
}

fn revoked(user: UserId, device: uuid::Uuid, why: Why, at: OffsetDateTime) -> Revoked {
    Revoked { user, device: device.into(), why, at: at.unix_timestamp() }
}

/// The table checks the length; a hash of another matches nothing.
fn digest(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or_default()
}

struct DeviceRow {
    id: uuid::Uuid,
    name: String,
    platform: String,
    network: Option<String>,
    created_at: OffsetDateTime,
    last_seen_at: OffsetDateTime,
}

impl From<DeviceRow> for Device {
    fn from(row: DeviceRow) -> Device {
        Device {
            id: row.id.into(),
            name: row.name,
            platform: row.platform,
            network: row.network,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);
    const NEWEST: Hash = [1; 32];
    const PREVIOUS: Hash = [2; 32];
    const OLDER: Hash = [3; 32];
    const KEY: Hash = [4; 32];
    const OTHER_KEY: Hash = [5; 32];

    #[test]
    fn only_the_newest_token_and_the_retry_of_who_asked_are_good() {
        let family =
            Family { newest: NEWEST, previous: Some(PREVIOUS), rotation: Some(KEY), rotated_at: NOON };
        let at = |secret: &Hash, key: Option<&Hash>, s: i64| {
            family.judge(secret, key, NOON + time::Duration::seconds(s))
        };
        assert_eq!(at(&NEWEST, None, 9_999), Judgement::Newest);
        assert_eq!(at(&PREVIOUS, Some(&KEY), 120), Judgement::Retry);
        assert_eq!(at(&PREVIOUS, Some(&KEY), -5), Judgement::Retry, "another node's clock is behind");
        assert_eq!(at(&PREVIOUS, Some(&KEY), 121), Judgement::Old, "too late");
        assert_eq!(at(&PREVIOUS, Some(&OTHER_KEY), 1), Judgement::Old, "somebody else asked");
        assert_eq!(at(&PREVIOUS, None, 1), Judgement::Old);
        assert_eq!(at(&OLDER, Some(&KEY), 1), Judgement::Old);
        let unkeyed = Family { rotation: None, ..family };
        assert_eq!(unkeyed.judge(&PREVIOUS, None, NOON), Judgement::Old, "no key is not the same key");
    }
}
