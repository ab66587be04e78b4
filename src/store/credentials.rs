//! What a log-in is checked against, in PostgreSQL: hashes of passwords.

use nova_actors::id::{DeviceId, UserId};
use time::OffsetDateTime;

use super::accounts::AccountError;
use super::{Store, StoreError, sessions};
use crate::identity::revocation::{Revoked, Why};

/// What a log-in is checked against.
#[derive(Clone)]
pub struct Credentials {
    /// Whose.
    pub user: UserId,
    /// PHC string.
    pub password_hash: String,
    /// Whether the account is suspended.
    pub suspended: bool,
    /// Whether a second factor is asked for.
    pub totp_enabled: bool,
}

impl Store {
    /// What a log-in by name or address is checked against. Names have no `@`, addresses do.
    pub async fn credentials(&self, login_key: &str) -> Result<Option<Credentials>, StoreError> {
        let row = sqlx::query_as!(
            CredentialsRow,
            r#"SELECT u.id, password_hash AS "password_hash!", suspended_at,
                      EXISTS (SELECT FROM totp t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL) AS "totp_enabled!"
               FROM users u WHERE (username_fold = $1 OR email_key = $1) AND deleted_at IS NULL"#,
            login_key,
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(Into::into))
    }

    /// What a password given again is checked against.
    pub async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        let row = sqlx::query_as!(
            CredentialsRow,
            r#"SELECT u.id, password_hash AS "password_hash!", suspended_at,
                      EXISTS (SELECT FROM totp t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL) AS "totp_enabled!"
               FROM users u WHERE u.id = $1 AND deleted_at IS NULL"#,
            user.as_uuid(),
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(Into::into))
    }

    /// Replaces a hash by a better one of the same password, unless the password was changed meanwhile.
    pub async fn improve_password_hash(
        &self,
        user: UserId,
        was: &str,
        better: &str,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
            user.as_uuid(),
            was,
            better
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Sets another password and ends every session but `except`.
    pub async fn change_password(
        &self,
        user: UserId,
        hash: &str,
        except: Option<DeviceId>,
        now: OffsetDateTime,
    ) -> Result<Vec<Revoked>, AccountError> {
        let mut tx = self.pool().begin().await?;
        let changed = sqlx::query!(
            "UPDATE users SET password_hash = $2, updated_at = $3 WHERE id = $1 AND deleted_at IS NULL",
            user.as_uuid(),
            hash,
            now
        )
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 0 {
            return Err(AccountError::Gone);
        }
        let revoked = sessions::revoke_all(&mut tx, user, except, Why::Password, now).await?;
        self.commit(tx).await?;
        Ok(revoked)
    }
}

struct CredentialsRow {
    id: uuid::Uuid,
    password_hash: String,
    suspended_at: Option<OffsetDateTime>,
    totp_enabled: bool,
}

impl From<CredentialsRow> for Credentials {
    fn from(row: CredentialsRow) -> Credentials {
        Credentials {
            user: row.id.into(),
            password_hash: row.password_hash,
            suspended: row.suspended_at.is_some(),
            totp_enabled: row.totp_enabled,
        }
    }
}
