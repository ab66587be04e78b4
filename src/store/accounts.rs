//! Accounts in PostgreSQL.

use nova_actors::id::UserId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::events::{Told, tell};
use super::sessions::{self, NewDevice};
use super::{OnConstraint as _, Store, StoreError};
use crate::events::{Event, bytes, millis, schema};
use crate::identity::names::{EmailAddress, Username};
use crate::identity::revocation::{Revoked, Why};

/// How long nobody else may have the name of a deleted account: long enough for those who knew it to hear.
pub const NAME_HELD: time::Duration = time::Duration::days(90);
/// How long the rest of a deleted account is kept, for whoever must answer an authority or a mistake.
pub const PURGED_AFTER: time::Duration = time::Duration::days(7);

/// Why an account cannot be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Somebody has this name, or one that looks like it.
    #[error("the username is taken")]
    UsernameTaken,
    /// Somebody has this address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// It is not what the writer had read.
    #[error("the account has changed meanwhile")]
    Changed,
    /// There is no such account, or not any more.
    #[error("there is no such account")]
    Gone,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> AccountError {
        AccountError::Store(error.into())
    }
}

/// An account to be made.
#[derive(Debug)]
pub struct NewAccount {
    /// Its id.
    pub id: UserId,
    /// The name.
    pub username: Username,
    /// The address.
    pub email: EmailAddress,
    /// What others read.
    pub display_name: String,
    /// PHC string.
    pub password_hash: String,
    /// `moderator`, `admin`.
    pub roles: Vec<String>,
    /// The time of it.
    pub now: OffsetDateTime,
}

/// An account that is not deleted.
#[derive(Clone)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// The name as typed.
    pub username: String,
    /// What others read.
    pub display_name: String,
    /// What the user tells about themself.
    pub bio: String,
    /// The address.
    pub email: String,
    /// `moderator`, `admin`.
    pub roles: Vec<String>,
    /// Grows with every change.
    pub version: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
    /// Since when it is suspended.
    pub suspended_at: Option<OffsetDateTime>,
    /// Whether a second factor is asked for.
    pub totp_enabled: bool,
}

/// Personal data prints masked.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account")
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What a profile is to become; what is `None` stays.
#[derive(Debug, Default)]
pub struct ProfileChange {
    /// A new name.
    pub username: Option<Username>,
    /// What others read.
    pub display_name: Option<String>,
    /// What the user tells about themself.
    pub bio: Option<String>,
}

impl Store {
    /// Makes an account, and the device it is logged in from.
    pub async fn create_account(
        &self,
        new: &NewAccount,
        device: Option<&NewDevice>,
    ) -> Result<(), AccountError> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!(
            "INSERT INTO users (id, username, username_fold, display_name, email, email_key, password_hash, roles,
                                created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
            new.id.as_uuid(),
            new.username.as_str(),
            new.username.fold(),
            new.display_name,
            new.email.as_str(),
            new.email.key(),
            new.password_hash,
            &new.roles,
            new.now,
        )
        .execute(&mut *tx)
        .await
        .on_constraint([
            ("users_username_fold_key", AccountError::UsernameTaken),
            ("users_email_key_key", AccountError::EmailTaken),
        ])?;
        claim(&mut tx, new.id, &new.username, new.now).await?;
        let event = schema::UserRegistered {
            user_id: bytes(new.id),
            username: new.username.as_str().to_owned(),
            email: new.email.as_str().to_owned(),
            registered_at_ms: millis(new.now),
        };
        tell(&mut tx, new.now, &[told(new.id, 1, event)]).await?;
        if let Some(device) = device {
            sessions::insert(&mut tx, device).await?;
        }
        Ok(self.commit(tx).await?)
    }

    /// The account with this id, unless it is deleted.
    pub async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        let row = sqlx::query_as!(
            AccountRow,
            r#"SELECT u.id, username, display_name, bio, email AS "email!", roles, version, u.created_at, updated_at,
                      suspended_at,
                      EXISTS (SELECT FROM totp t WHERE t.user_id = u.id AND t.confirmed_at IS NOT NULL) AS "totp_enabled!"
               FROM users u WHERE u.id = $1 AND deleted_at IS NULL"#,
            user.as_uuid(),
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(Into::into))
    }

    /// The accounts that were changed or deleted since.
    pub async fn changed_since(&self, since: OffsetDateTime) -> Result<Vec<UserId>, StoreError> {
        let ids = sqlx::query_scalar!("SELECT id FROM users WHERE updated_at > $1", since)
            .fetch_all(self.pool())
            .await?;
        Ok(ids.into_iter().map(UserId::from).collect())
    }

    /// The id of the account that is found by this fold of a name.
    pub async fn user_by_name(&self, fold: &str) -> Result<Option<UserId>, StoreError> {
        let id =
            sqlx::query_scalar!("SELECT id FROM users WHERE username_fold = $1 AND deleted_at IS NULL", fold)
                .fetch_optional(self.pool())
                .await?;
        Ok(id.map(UserId::from))
    }

    /// Changes a profile, if it is still at `version` where one is given.
    pub async fn change_profile(
        &self,
        user: UserId,
        version: Option<i64>,
        change: &ProfileChange,
        now: OffsetDateTime,
    ) -> Result<(), AccountError> {
        let mut tx = self.pool().begin().await?;
        let found = sqlx::query_scalar!(
            "SELECT version FROM users WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            user.as_uuid()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(AccountError::Gone)?;
        if version.is_some_and(|version| version != found) {
            return Err(AccountError::Changed);
        }
        if let Some(username) = &change.username {
            // The old name is given up at once: whoever renames does not keep two.
            sqlx::query!("DELETE FROM username_claims WHERE user_id = $1", user.as_uuid())
                .execute(&mut *tx)
                .await?;
            claim(&mut tx, user, username, now).await?;
        }
        let version = sqlx::query_scalar!(
            "UPDATE users SET username = coalesce($2, username), username_fold = coalesce($3, username_fold),
                    display_name = coalesce($4, display_name), bio = coalesce($5, bio),
                    version = version + 1, updated_at = $6
             WHERE id = $1 RETURNING version",
            user.as_uuid(),
            change.username.as_ref().map(Username::as_str),
            change.username.as_ref().map(Username::fold),
            change.display_name.as_deref(),
            change.bio.as_deref(),
            now,
        )
        .fetch_one(&mut *tx)
        .await
        .on_constraint([("users_username_fold_key", AccountError::UsernameTaken)])?;
        let event = schema::UserProfileUpdated {
            user_id: bytes(user),
            username: change.username.as_ref().map(|username| username.as_str().to_owned()),
            display_name: change.display_name.clone(),
            avatar_url: None,
            updated_at_ms: millis(now),
        };
        tell(&mut tx, now, &[told(user, version, event)]).await?;
        Ok(self.commit(tx).await?)
    }

    /// Suspends an account and ends its sessions, or lets it in again.
    pub async fn suspend(
        &self,
        user: UserId,
        suspended: bool,
        now: OffsetDateTime,
    ) -> Result<Vec<Revoked>, AccountError> {
        let mut tx = self.pool().begin().await?;
        let version = sqlx::query_scalar!(
            "UPDATE users SET suspended_at = CASE WHEN $2 THEN coalesce(suspended_at, $3) END,
                    version = version + 1, updated_at = $3
             WHERE id = $1 AND deleted_at IS NULL RETURNING version",
            user.as_uuid(),
            suspended,
            now,
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(AccountError::Gone)?;
        let event = schema::AccountJudged {
            account_id: bytes(user),
            verdict: if suspended { "suspended" } else { "restored" }.to_owned(),
            scope: String::new(),
            moderator_id: Vec::new(),
            until_ms: 0,
            at_ms: millis(now),
        };
        tell(&mut tx, now, &[told(user, version, event)]).await?;
        let revoked = match suspended {
            true => sessions::revoke_all(&mut tx, user, None, Why::Suspended, now).await?,
            false => Vec::new(),
        };
        self.commit(tx).await?;
        Ok(revoked)
    }

    /// Gives a role or takes it.
    pub async fn set_role(
        &self,
        user: UserId,
        role: &str,
        has: bool,
        now: OffsetDateTime,
    ) -> Result<(), AccountError> {
        let changed = sqlx::query!(
            "UPDATE users SET roles = array_remove(roles, $2) || CASE WHEN $3 THEN ARRAY[$2] ELSE '{}' END,
                    version = version + 1, updated_at = $4
             WHERE id = $1 AND deleted_at IS NULL",
            user.as_uuid(),
            role,
            has,
            now,
        )
        .execute(self.pool())
        .await?;
        if changed.rows_affected() == 0 { Err(AccountError::Gone) } else { Ok(()) }
    }

    /// Deletes an account for everybody's eyes: sessions end, the address is free, the name stays held, the rest is
    /// purged later.
    pub async fn delete_account(
        &self,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Revoked>, AccountError> {
        let mut tx = self.pool().begin().await?;
        let version = sqlx::query_scalar!(
            "UPDATE users SET deleted_at = $2, email_key = NULL, password_hash = NULL, version = version + 1,
                    updated_at = $2
             WHERE id = $1 AND deleted_at IS NULL RETURNING version",
            user.as_uuid(),
            now,
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(AccountError::Gone)?;
        let event = schema::UserDeleted { user_id: bytes(user), at_ms: millis(now) };
        tell(&mut tx, now, &[told(user, version, event)]).await?;
        sqlx::query!(
            "UPDATE username_claims SET held_until = $2 WHERE user_id = $1",
            user.as_uuid(),
            now + NAME_HELD
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!("DELETE FROM totp WHERE user_id = $1", user.as_uuid()).execute(&mut *tx).await?;
        let revoked = sessions::revoke_all(&mut tx, user, None, Why::Deleted, now).await?;
        self.commit(tx).await?;
        Ok(revoked)
    }

    /// Removes what is personal of accounts deleted long enough ago, and frees names held long enough; at most
    /// `limit` of each. The row stays, without a face: others' conversations still point at it. Returns how much was
    /// removed.
    pub async fn purge_accounts(&self, now: OffsetDateTime, limit: i64) -> Result<u64, StoreError> {
        let purged = sqlx::query!(
            "UPDATE users SET username = '', username_fold = '', display_name = '', bio = '', email = NULL, purged_at = $1
             WHERE id IN (SELECT id FROM users WHERE deleted_at < $2 AND purged_at IS NULL LIMIT $3 FOR UPDATE SKIP LOCKED)",
            now,
            now - PURGED_AFTER,
            limit,
        )
        .execute(self.pool())
        .await?;
        let freed = sqlx::query!(
            "DELETE FROM username_claims
             WHERE look IN (SELECT look FROM username_claims WHERE held_until < $1 LIMIT $2)",
            now,
            limit,
        )
        .execute(self.pool())
        .await?;
        Ok(purged.rows_affected() + freed.rows_affected())
    }
}

/// An event of an account, which this transaction holds.
fn told(user: UserId, version: i64, event: impl Into<Event>) -> Told {
    Told { key: user.as_uuid(), version, event: event.into() }
}

/// Claims the looks of a name; always in the same order, so that two who want the same wait for each other and not
/// in a circle.
async fn claim(
    tx: &mut PgConnection,
    user: UserId,
    username: &Username,
    now: OffsetDateTime,
) -> Result<(), AccountError> {
    let mut looks = username.looks();
    looks.sort();
    sqlx::query!("DELETE FROM username_claims WHERE look = ANY($1) AND held_until < $2", &looks, now)
        .execute(&mut *tx)
        .await?;
    sqlx::query!(
        "INSERT INTO username_claims (look, user_id) SELECT unnest($1::text[]), $2",
        &looks,
        user.as_uuid()
    )
    .execute(&mut *tx)
    .await
    .on_constraint([("username_claims_pkey", AccountError::UsernameTaken)])?;
    Ok(())
}

struct AccountRow {
    id: uuid::Uuid,
    username: String,
    display_name: String,
    bio: String,
    email: String,
    roles: Vec<String>,
    version: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    suspended_at: Option<OffsetDateTime>,
    totp_enabled: bool,
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Account {
        Account {
            id: row.id.into(),
            username: row.username,
            display_name: row.display_name,
            bio: row.bio,
            email: row.email,
            roles: row.roles,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            suspended_at: row.suspended_at,
            totp_enabled: row.totp_enabled,
        }
    }
}
