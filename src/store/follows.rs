//! Who follows, mutes and blocks whom, in PostgreSQL.

use nova_actors::id::UserId;
use time::OffsetDateTime;

use super::events::{Told, tell};
use super::{Store, StoreError};
use crate::events::{Event, bytes, millis, schema};
use crate::social::FOLLOWS_MAX;

/// Why somebody does not follow.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// One has blocked the other.
    #[error("one has blocked the other")]
    Blocked,
    /// They follow [`FOLLOWS_MAX`].
    #[error("follows as many as may be")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for FollowError {
    fn from(error: sqlx::Error) -> FollowError {
        FollowError::Store(error.into())
    }
}

/// Somebody in a list of followers or followed.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub username: String,
    /// What others read.
    pub display_name: String,
    /// Since when.
    pub since: OffsetDateTime,
    /// Whether the reader follows them.
    pub is_followed: bool,
}

/// A place in such a list.
pub type FollowKey = (OffsetDateTime, UserId);

/// How somebody stands to others, and a reader to them.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// How many follow them.
    pub followers: i64,
    /// How many they follow.
    pub following: i64,
    /// Posts of theirs that are not private.
    pub posts: i64,
    /// Whether the reader follows them.
    pub is_followed: bool,
    /// Whether they follow the reader.
    pub follows_reader: bool,
    /// Whether the reader has muted them.
    pub is_muted: bool,
    /// Whether the reader has blocked them.
    pub is_blocked: bool,
}

impl Store {
    /// `follower` follows `followee` from now on; says whether that is new.
    ///
    /// # Errors
    /// [`FollowError::Blocked`], [`FollowError::TooMany`].
    pub async fn follow(
        &self,
        follower: UserId,
        followee: UserId,
        now: OffsetDateTime,
    ) -> Result<bool, FollowError> {
        let mut tx = self.pool().begin().await?;
        hold_pair(&mut tx, follower, followee).await?;
        let may = sqlx::query!(
            r#"SELECT is_blocked($1, $2) AS "blocked!", counted($1, 2::smallint) AS "following!""#,
            follower.as_uuid(),
            followee.as_uuid()
        )
        .fetch_one(&mut *tx)
        .await?;
        if may.blocked {
            return Err(FollowError::Blocked);
        }
        if may.following >= FOLLOWS_MAX {
            return Err(FollowError::TooMany);
        }
        let added = sqlx::query!(
            "INSERT INTO follows (follower, followee, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            follower.as_uuid(),
            followee.as_uuid(),
            now
        )
        .execute(&mut *tx)
        .await?;
        let added = added.rows_affected() > 0;
        if added {
            let event = schema::UserFollowed {
                follower_id: bytes(follower),
                followee_id: bytes(followee),
                at_ms: millis(now),
            };
            tell(&mut tx, now, &[told(follower, event)]).await?;
        }
        self.commit(tx).await?;
        Ok(added)
    }

    /// `follower` follows `followee` no longer; says whether they did.
    pub async fn unfollow(
        &self,
        follower: UserId,
        followee: UserId,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        let removed = remove_follow(&mut tx, follower, followee, now).await?;
        self.commit(tx).await?;
        Ok(removed)
    }

    /// `muter` sees no posts of `muted` in feeds, or does again.
    pub async fn mute_user(
        &self,
        muter: UserId,
        muted: UserId,
        on: bool,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let change = match on {
            true => sqlx::query!(
                "INSERT INTO mutes (muter, muted, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                muter.as_uuid(),
                muted.as_uuid(),
                now
            ),
            false => sqlx::query!(
                "DELETE FROM mutes WHERE muter = $1 AND muted = $2",
                muter.as_uuid(),
                muted.as_uuid()
            ),
        };
        let mut tx = self.pool().begin().await?;
        if change.execute(&mut *tx).await?.rows_affected() > 0 {
            let event =
                schema::UserMuted { muter_id: bytes(muter), muted_id: bytes(muted), on, at_ms: millis(now) };
            tell(&mut tx, now, &[told(muter, event)]).await?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Who follows `of`, as `reader` may see it, the newest first.
    pub async fn followers(
        &self,
        of: UserId,
        reader: UserId,
        after: Option<FollowKey>,
        rows: i64,
    ) -> Result<Vec<Followed>, StoreError> {
        let (at, id) = after.unzip();
        Ok(sqlx::query_as!(
            Followed,
            r#"SELECT f.follower AS user, u.username, u.display_name, f.created_at AS since,
                      EXISTS (SELECT FROM follows b WHERE b.follower = $2 AND b.followee = f.follower) AS "is_followed!"
               FROM follows f JOIN users u ON u.id = f.follower
               WHERE f.followee = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND NOT is_blocked($2, f.follower)
                 AND ($3::timestamptz IS NULL OR (f.created_at, f.follower) < ($3, $4))
               ORDER BY f.created_at DESC, f.follower DESC LIMIT $5"#,
            of.as_uuid(),
            reader.as_uuid(),
            at,
            id.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Whom `of` follows, as `reader` may see it, the newest first.
    pub async fn following(
        &self,
        of: UserId,
        reader: UserId,
        after: Option<FollowKey>,
        rows: i64,
    ) -> Result<Vec<Followed>, StoreError> {
        let (at, id) = after.unzip();
        Ok(sqlx::query_as!(
            Followed,
            r#"SELECT f.followee AS user, u.username, u.display_name, f.created_at AS since,
                      EXISTS (SELECT FROM follows b WHERE b.follower = $2 AND b.followee = f.followee) AS "is_followed!"
               FROM follows f JOIN users u ON u.id = f.followee
               WHERE f.follower = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND NOT is_blocked($2, f.followee)
                 AND ($3::timestamptz IS NULL OR (f.created_at, f.followee) < ($3, $4))
               ORDER BY f.created_at DESC, f.followee DESC LIMIT $5"#,
            of.as_uuid(),
            reader.as_uuid(),
            at,
            id.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// How `of` stands to others and `reader` to them.
    pub async fn standing(&self, of: UserId, reader: UserId) -> Result<Standing, StoreError> {
        Ok(sqlx::query_as!(
            Standing,
            r#"SELECT counted($1, 1::smallint) AS "followers!", counted($1, 2::smallint) AS "following!",
                      counted($1, 3::smallint) AS "posts!",
                      EXISTS (SELECT FROM follows WHERE follower = $2 AND followee = $1) AS "is_followed!",
                      EXISTS (SELECT FROM follows WHERE follower = $1 AND followee = $2) AS "follows_reader!",
                      EXISTS (SELECT FROM mutes WHERE muter = $2 AND muted = $1) AS "is_muted!",
                      EXISTS (SELECT FROM blocks WHERE blocker = $2 AND blocked = $1) AS "is_blocked!""#,
            of.as_uuid(),
            reader.as_uuid()
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Adds open changes of counters up; says how many there were.
    pub async fn fold_counters(&self, rows: i32) -> Result<i64, StoreError> {
        let folded = sqlx::query_scalar!(r#"SELECT fold_counters($1) AS "folded!""#, rows);
        Ok(folded.fetch_one(self.pool()).await?)
    }
}

/// What changes between two people takes turns, so that a follow and a block at once do not both stay.
pub(super) async fn hold_pair(
    tx: &mut sqlx::PgConnection,
    one: UserId,
    other: UserId,
) -> Result<(), sqlx::Error> {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 5) # hashtextextended($2::uuid::text, 6))",
        low.as_uuid(),
        high.as_uuid()
    )
    .execute(tx)
    .await
    .map(drop)
}

pub(super) async fn remove_follow(
    tx: &mut sqlx::PgConnection,
    follower: UserId,
    followee: UserId,
    now: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query!(
        "DELETE FROM follows WHERE follower = $1 AND followee = $2",
        follower.as_uuid(),
        followee.as_uuid()
    )
    .execute(&mut *tx)
    .await?;
    if removed.rows_affected() == 0 {
        return Ok(false);
    }
    let event = schema::UserUnfollowed {
        follower_id: bytes(follower),
        followee_id: bytes(followee),
        at_ms: millis(now),
    };
    tell(tx, now, &[told(follower, event)]).await?;
    Ok(true)
}

/// `blocker` has blocked `blocked`, or takes that back.
pub(super) async fn tell_block(
    tx: &mut sqlx::PgConnection,
    blocker: UserId,
    blocked: UserId,
    on: bool,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let event = schema::UserBlocked {
        blocker_id: bytes(blocker),
        blocked_id: bytes(blocked),
        on,
        at_ms: millis(now),
    };
    let watched = schema::AccountBlocked {
        account_id: bytes(blocked),
        blocker_id: bytes(blocker),
        on,
        at_ms: millis(now),
    };
    tell(tx, now, &[told(blocker, event), told(blocked, watched)]).await
}

/// An event of what somebody does, or has done to them; the row that says so is what is locked.
fn told(who: UserId, event: impl Into<Event>) -> Told {
    Told { key: who.as_uuid(), version: 0, event: event.into() }
}
