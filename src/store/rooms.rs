//! Rooms for group calls in PostgreSQL: what has to outlive the node a room is on.

use nova_actors::id::{CallId, ConversationId, NodeId, RoomId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::nodes;

/// Rooms one user may have at a time, those of calls aside.
pub const ROOMS_PER_USER_MAX: i64 = 20;

/// A room as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub id: RoomId,
    /// Who made it.
    pub owner: UserId,
    /// What it is about.
    pub title: Option<String>,
    /// Only members of this conversation come in.
    pub conversation: Option<ConversationId>,
    /// The call that is held in it.
    pub call: Option<CallId>,
    /// The call is between two people.
    pub is_direct: bool,
    /// How many may be there.
    pub participants_max: usize,
    /// Newcomers wait until a host lets them in.
    pub has_lobby: bool,
    /// Nobody may come any more.
    pub is_locked: bool,
    /// Whom a host has taken out.
    pub removed: Vec<UserId>,
    /// The node it is on.
    pub node: Option<NodeId>,
    /// How many were there when its node last said so.
    pub participants: usize,
}

impl Store {
    /// Keeps a new room; `false` when its owner has as many as may be.
    pub async fn make_room(&self, room: &Kept, now: OffsetDateTime) -> Result<bool, StoreError> {
        let mut tx = self.pool().begin().await?;
        // One at a time for each owner, so that the count holds.
        sqlx::query("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE")
            .bind(room.owner.as_uuid())
            .execute(&mut *tx)
            .await?;
        let has: i64 =
            sqlx::query_scalar("SELECT count(*) FROM rooms WHERE owner_id = $1 AND call_id IS NULL")
                .bind(room.owner.as_uuid())
                .fetch_one(&mut *tx)
                .await?;
        if has >= ROOMS_PER_USER_MAX {
            return Ok(false);
        }
        insert(&mut tx, room, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A room.
    pub async fn room(&self, id: RoomId) -> Result<Option<Kept>, StoreError> {
        let row = sqlx::query(
            "SELECT r.*, coalesce(c.is_direct, false) AS is_direct FROM rooms r LEFT JOIN calls c ON c.id = r.call_id WHERE r.id = $1",
        );
        let row = row.bind(id.as_uuid()).fetch_optional(self.pool()).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// Takes a room from a node that is gone, or from none; `false` when it is with another by now.
    pub async fn claim_room(
        &self,
        id: RoomId,
        from: Option<NodeId>,
        to: NodeId,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let claimed = sqlx::query(
            "UPDATE rooms SET node_id = $3, used_at = $4 WHERE id = $1 AND node_id IS NOT DISTINCT FROM $2",
        )
        .bind(id.as_uuid())
        .bind(from.map(|node| node.as_uuid()))
        .bind(to.as_uuid())
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(claimed.rows_affected() > 0)
    }

    /// A node says how many are in its rooms; gives those that are still its own.
    pub async fn vouch_for_rooms(
        &self,
        node: NodeId,
        rooms: &[(RoomId, usize)],
        now: OffsetDateTime,
    ) -> Result<Vec<RoomId>, StoreError> {
        let ids: Vec<Uuid> = rooms.iter().map(|(id, _)| id.as_uuid()).collect();
        let counts: Vec<i32> =
            rooms.iter().map(|(_, count)| i32::try_from(*count).unwrap_or(i32::MAX)).collect();
        let own: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE rooms r SET used_at = $4, participants = here.count
             FROM unnest($2::uuid[], $3::integer[]) AS here (id, count)
             WHERE r.id = here.id AND r.node_id = $1 RETURNING r.id",
        )
        .bind(node.as_uuid())
        .bind(ids)
        .bind(counts)
        .bind(now)
        .fetch_all(self.pool())
        .await?;
        Ok(own.into_iter().map(RoomId::from_uuid).collect())
    }

    /// What a host has decided outlives the node.
    pub async fn keep_room(
        &self,
        id: RoomId,
        is_locked: bool,
        has_lobby: bool,
        removed: &[UserId],
    ) -> Result<(), StoreError> {
        let removed: Vec<Uuid> = removed.iter().map(UserId::as_uuid).collect();
        sqlx::query("UPDATE rooms SET is_locked = $2, has_lobby = $3, removed = $4 WHERE id = $1")
            .bind(id.as_uuid())
            .bind(is_locked)
            .bind(has_lobby)
            .bind(removed)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// A room has ended; with a node, unless another has it by now.
    pub async fn drop_room(&self, id: RoomId, node: Option<NodeId>) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM rooms WHERE id = $1 AND ($2::uuid IS NULL OR node_id = $2)")
            .bind(id.as_uuid())
            .bind(node.map(|node| node.as_uuid()))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Forgets rooms nobody has been in for so long.
    pub async fn drop_unused_rooms(&self, since: OffsetDateTime) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM rooms WHERE id IN (SELECT id FROM rooms WHERE used_at < $1 LIMIT 500 FOR UPDATE SKIP LOCKED)",
        )
        .bind(since)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Those of these people who are not in the conversation they are named with any more.
    pub async fn no_members(
        &self,
        seats: &[(ConversationId, UserId)],
    ) -> Result<Vec<(ConversationId, UserId)>, StoreError> {
        let conversations: Vec<Uuid> = seats.iter().map(|(conversation, _)| conversation.as_uuid()).collect();
        let users: Vec<Uuid> = seats.iter().map(|(_, user)| user.as_uuid()).collect();
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT seat.conversation, seat.person FROM unnest($1::uuid[], $2::uuid[]) AS seat (conversation, person)
             WHERE NOT EXISTS (SELECT FROM members m
                 WHERE m.conversation_id = seat.conversation AND m.user_id = seat.person AND m.left_at IS NULL)",
        )
        .bind(conversations)
        .bind(users)
        .fetch_all(self.pool())
        .await?;
        let ids = |(conversation, user)| (ConversationId::from_uuid(conversation), UserId::from_uuid(user));
        Ok(rows.into_iter().map(ids).collect())
    }

    /// Clients reach this node under another address than the other nodes do.
    pub async fn node_is_reached_at(&self, node: NodeId, public_url: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE nodes SET public_url = $2 WHERE id = $1")
            .bind(node.as_uuid())
            .bind(public_url)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Calls take place on this node.
    pub async fn node_has_calls(&self, node: NodeId) -> Result<(), StoreError> {
        sqlx::query("UPDATE nodes SET has_calls = true WHERE id = $1")
            .bind(node.as_uuid())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Where clients reach the nodes that are there and have calls.
    pub async fn nodes_with_calls(&self, now: OffsetDateTime) -> Result<Vec<(NodeId, String)>, StoreError> {
        let rows: Vec<(Uuid, String)> = sqlx::query_as(
            "SELECT id, coalesce(public_url, url) FROM nodes WHERE heard_at > $1 AND has_calls",
        )
        .bind(now - nodes::SILENCE_MAX)
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|(id, url)| (NodeId::from_uuid(id), url)).collect())
    }

    /// Where clients reach the nodes that are there.
    pub async fn node_addresses(&self, now: OffsetDateTime) -> Result<Vec<(NodeId, String)>, StoreError> {
        let rows: Vec<(Uuid, String)> =
            sqlx::query_as("SELECT id, coalesce(public_url, url) FROM nodes WHERE heard_at > $1")
                .bind(now - nodes::SILENCE_MAX)
                .fetch_all(self.pool())
                .await?;
        Ok(rows.into_iter().map(|(id, url)| (NodeId::from_uuid(id), url)).collect())
    }
}

pub(super) async fn insert(
    tx: &mut PgConnection,
    room: &Kept,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO rooms (id, owner_id, title, conversation_id, call_id, max_participants, has_lobby, node_id, created_at, used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
    )
    .bind(room.id.as_uuid())
    .bind(room.owner.as_uuid())
    .bind(&room.title)
    .bind(room.conversation.map(|id| id.as_uuid()))
    .bind(room.call.map(|id| id.as_uuid()))
    .bind(i32::try_from(room.participants_max).unwrap_or(i32::MAX))
    .bind(room.has_lobby)
    .bind(room.node.map(|id| id.as_uuid()))
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}

fn read(row: &PgRow) -> Result<Kept, sqlx::Error> {
    let removed: Vec<Uuid> = row.try_get("removed")?;
    let id = |column| row.try_get::<Option<Uuid>, _>(column);
    let number =
        |column| Ok::<_, sqlx::Error>(usize::try_from(row.try_get::<i32, _>(column)?).unwrap_or_default());
    Ok(Kept {
        id: RoomId::from_uuid(row.try_get("id")?),
        owner: UserId::from_uuid(row.try_get("owner_id")?),
        title: row.try_get("title")?,
        conversation: id("conversation_id")?.map(ConversationId::from_uuid),
        call: id("call_id")?.map(CallId::from_uuid),
        is_direct: row.try_get("is_direct")?,
        participants_max: number("max_participants")?,
        has_lobby: row.try_get("has_lobby")?,
        is_locked: row.try_get("is_locked")?,
        removed: removed.into_iter().map(UserId::from_uuid).collect(),
        node: id("node_id")?.map(NodeId::from_uuid),
        participants: number("participants")?,
    })
}
