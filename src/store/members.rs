//! Who is in a conversation, and who has blocked whom.

use nova_actors::conversation::{Entry, Member, NewEntry, Role};
use nova_actors::id::{ConversationId, UserId};
use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::conversations::{
    ConversationError, Kind, MEMBERS_MAX, hold, join, not_blocked, read_role, role_of, tell, users_exist,
};
use super::entries::unsigned;
use super::follows::{hold_pair, remove_follow, tell_block};
use super::{Store, StoreError};

/// A member as lists show them.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Who, with how far they have come.
    pub member: Member,
    /// Since when.
    pub joined_at: OffsetDateTime,
}

/// What changed of the members of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Somebody came in.
    Added(UserId, Role),
    /// Somebody may do more or less than before.
    Role(UserId, Role),
    /// Somebody was sent out.
    Removed(UserId),
    /// Somebody went; an owner leaves the conversation to somebody else, unless nobody is left.
    Left(UserId, Option<UserId>),
}

impl Store {
    /// Everybody in a conversation.
    pub async fn members(&self, of: ConversationId) -> Result<Vec<Member>, StoreError> {
        let rows = sqlx::query(
            "SELECT user_id, role, read_seq, delivered_seq FROM members WHERE conversation_id = $1 AND left_at IS NULL",
        );
        rows.bind(of.as_uuid()).fetch_all(self.pool()).await?.iter().map(member).collect()
    }

    /// A page of the members of a conversation, by id.
    pub async fn members_page(
        &self,
        of: ConversationId,
        after: Option<UserId>,
        rows: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        let rows = sqlx::query(
            "SELECT user_id, role, read_seq, delivered_seq, joined_at FROM members
             WHERE conversation_id = $1 AND left_at IS NULL AND ($2::uuid IS NULL OR user_id > $2) ORDER BY user_id LIMIT $3",
        )
        .bind(of.as_uuid())
        .bind(after.map(|user| user.as_uuid()))
        .bind(rows)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| Ok(Listed { member: member(row)?, joined_at: row.try_get("joined_at")? }))
            .collect()
    }

    /// What `user` may do in a conversation; `None` when they are not in it.
    pub async fn role(&self, of: ConversationId, user: UserId) -> Result<Option<Role>, ConversationError> {
        let mut connection = self.pool().acquire().await?;
        role_of(&mut connection, of, user).await
    }

    /// Brings `user` into a group, or gives them another role; whoever is in it with that role already stays as they are, and `None` is
    /// answered. `entry` makes the entry that tells of what was done.
    pub async fn put_member(
        &self,
        of: ConversationId,
        caller: UserId,
        user: UserId,
        role: Option<Role>,
        entry: impl Fn(Change) -> NewEntry,
        now: OffsetDateTime,
    ) -> Result<Option<Entry>, ConversationError> {
        let mut tx = self.pool().begin().await?;
        let held = hold(&mut tx, of, caller).await?;
        if held.kind != Kind::Group {
            return Err(ConversationError::WrongKind);
        }
        let present = role_of(&mut tx, of, user).await?;
        let wanted = role.or(present).unwrap_or(Role::Member);
        if present == Some(wanted) {
            return Ok(None);
        }
        // Only the owner makes administrators, and hands the conversation over.
        let needed = if wanted > Role::Member || present.is_some() { Role::Owner } else { Role::Admin };
        if held.role < needed || (user == caller && present.is_some()) {
            return Err(ConversationError::NotAllowed);
        }
        let change = if present.is_some() {
            Change::Role(user, wanted)
        } else {
            users_exist(&mut tx, &[user]).await?;
            not_blocked(&mut tx, caller, &[user]).await?;
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM members WHERE conversation_id = $1 AND left_at IS NULL",
            )
            .bind(of.as_uuid())
            .fetch_one(&mut *tx)
            .await?;
            if count >= MEMBERS_MAX as i64 {
                return Err(ConversationError::Full);
            }
            Change::Added(user, wanted)
        };
        match change {
            // What tells of their coming is the first they hear.
            Change::Added(..) => join(&mut tx, of, &[(user, wanted)], held.last_seq, now).await?,
            _ => set_role(&mut tx, of, user, wanted).await?,
        }
        if wanted == Role::Owner {
            set_role(&mut tx, of, caller, Role::Admin).await?;
        }
        let told = tell(&mut tx, entry(change)).await?;
        self.commit(tx).await?;
        Ok(Some(told))
    }

    /// Takes `user` out of a group: themself, or somebody whose role is above theirs. An owner who goes leaves it to whoever has the
    /// highest role, and among them has been in it for longest. `None` when they are not in it.
    pub async fn remove_member(
        &self,
        of: ConversationId,
        caller: UserId,
        user: UserId,
        entry: impl Fn(Change) -> NewEntry,
        now: OffsetDateTime,
    ) -> Result<Option<Entry>, ConversationError> {
        let mut tx = self.pool().begin().await?;
        let held = hold(&mut tx, of, caller).await?;
        if held.kind != Kind::Group {
            return Err(ConversationError::WrongKind);
        }
        let Some(role) = role_of(&mut tx, of, user).await? else { return Ok(None) };
        if user != caller && (held.role < Role::Admin || held.role <= role) {
            return Err(ConversationError::NotAllowed);
        }
        let successor = if role == Role::Owner { successor(&mut tx, of, user).await? } else { None };
        let change = if user == caller { Change::Left(user, successor) } else { Change::Removed(user) };
        // Told while they are still in it: it is the last they hear.
        let told = tell(&mut tx, entry(change)).await?;
        sqlx::query(
            "UPDATE members SET left_at = $3, role = 'member' WHERE conversation_id = $1 AND user_id = $2",
        )
        .bind(of.as_uuid())
        .bind(user.as_uuid())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if let Some(successor) = successor {
            set_role(&mut tx, of, successor, Role::Owner).await?;
        }
        self.commit(tx).await?;
        Ok(Some(told))
    }

    /// Until when `user` wants no notifications from a conversation; `None`: they want them. `false` when they are not in it.
    pub async fn mute_conversation(
        &self,
        of: ConversationId,
        user: UserId,
        until: Option<OffsetDateTime>,
    ) -> Result<bool, StoreError> {
        let muted = sqlx::query(
            "UPDATE members SET muted_until = $3 WHERE conversation_id = $1 AND user_id = $2 AND left_at IS NULL",
        );
        let muted = muted.bind(of.as_uuid()).bind(user.as_uuid()).bind(until).execute(self.pool()).await?;
        Ok(muted.rows_affected() > 0)
    }

    /// `blocker` wants nothing to do with `blocked` from now on: neither follows the other any more.
    pub async fn block(
        &self,
        blocker: UserId,
        blocked: UserId,
        now: OffsetDateTime,
    ) -> Result<(), ConversationError> {
        let mut tx = self.pool().begin().await?;
        users_exist(&mut tx, &[blocked]).await?;
        hold_pair(&mut tx, blocker, blocked).await?;
        remove_follow(&mut tx, blocker, blocked, now).await?;
        remove_follow(&mut tx, blocked, blocker, now).await?;
        let added = sqlx::query(
            "INSERT INTO blocks (blocker, blocked, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(blocker.as_uuid())
        .bind(blocked.as_uuid())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if added.rows_affected() > 0 {
            tell_block(&mut tx, blocker, blocked, true, now).await?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Takes a block back.
    pub async fn unblock(
        &self,
        blocker: UserId,
        blocked: UserId,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool().begin().await?;
        let unblocked = sqlx::query("DELETE FROM blocks WHERE blocker = $1 AND blocked = $2");
        let unblocked = unblocked.bind(blocker.as_uuid()).bind(blocked.as_uuid()).execute(&mut *tx).await?;
        if unblocked.rows_affected() > 0 {
            tell_block(&mut tx, blocker, blocked, false, now).await?;
        }
        self.commit(tx).await?;
        Ok(())
    }

    /// Whether either of two people has blocked the other.
    pub async fn is_blocked(&self, one: UserId, other: UserId) -> Result<bool, StoreError> {
        let blocked = sqlx::query_scalar("SELECT is_blocked($1, $2)");
        Ok(blocked.bind(one.as_uuid()).bind(other.as_uuid()).fetch_one(self.pool()).await?)
    }
}

/// Who is to own a conversation whose owner goes.
async fn successor(
    tx: &mut sqlx::PgConnection,
    of: ConversationId,
    owner: UserId,
) -> Result<Option<UserId>, ConversationError> {
    let next: Option<Uuid> = sqlx::query_scalar(
        "SELECT user_id FROM members WHERE conversation_id = $1 AND user_id <> $2 AND left_at IS NULL
         ORDER BY role = 'admin' DESC, joined_at, user_id LIMIT 1",
    )
    .bind(of.as_uuid())
    .bind(owner.as_uuid())
    .fetch_optional(tx)
    .await?;
    Ok(next.map(UserId::from_uuid))
}

async fn set_role(
    tx: &mut sqlx::PgConnection,
    of: ConversationId,
    user: UserId,
    role: Role,
) -> Result<(), ConversationError> {
    let set = sqlx::query("UPDATE members SET role = $3 WHERE conversation_id = $1 AND user_id = $2");
    set.bind(of.as_uuid()).bind(user.as_uuid()).bind(role.as_str()).execute(tx).await?;
    Ok(())
}

fn member(row: &sqlx::postgres::PgRow) -> Result<Member, StoreError> {
    Ok(Member {
        user: UserId::from_uuid(row.try_get::<Uuid, _>("user_id")?),
        role: read_role(row.try_get("role")?)?,
        read: unsigned(row.try_get("read_seq")?),
        delivered: unsigned(row.try_get("delivered_seq")?),
    })
}
