//! The chat beside each stream: a conversation of kind `live`, and who may do more or less in it.

use nova_actors::conversation::{Entry, NewEntry, Seq};
use nova_actors::id::{ConversationId, StreamId, UserId};
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::conversations::{ConversationError, tell};
use super::entries::unsigned;
use super::events::Told;
use super::{Store, StoreError};
use crate::events::{bytes, millis, schema};

/// What is said beside a stream is kept for a day.
const KEPT_S: i64 = 86_400;
/// Moderators a chat has at most.
pub const MODERATORS_MAX: i64 = 100;

/// The chat of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamChat {
    /// Of which.
    pub stream: StreamId,
    /// Whose.
    pub owner: UserId,
    /// Where it is said.
    pub conversation: ConversationId,
    /// The newest entry when this was read.
    pub top: Seq,
    /// Seconds between two messages of one person; 0 for none.
    pub slow_mode_s: i32,
    /// Whether who asks moderates it; the owner does.
    pub is_moderator: bool,
    /// Until when who asks may not write.
    pub muted_until: Option<OffsetDateTime>,
}

/// Who may read a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A member.
    Member,
    /// Somebody who may watch the stream it is the chat of.
    Viewer,
}

impl Store {
    /// The chat of a stream as `reader` finds it; made now when the stream is older than chats are. `None` when there is no such stream,
    /// its owner is gone or suspended, or `reader` may not watch it.
    pub async fn stream_chat(
        &self,
        stream: StreamId,
        reader: UserId,
        now: OffsetDateTime,
    ) -> Result<Option<StreamChat>, StoreError> {
        if let Some(found) = self.find_stream_chat(stream, reader).await? {
            return Ok(Some(found));
        }
        let mut tx = self.pool().begin().await?;
        let owner: Option<Uuid> = sqlx::query_scalar(
            "SELECT s.owner_id FROM streams s JOIN users u ON u.id = s.owner_id
             WHERE s.id = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND may_watch(s.id, s.owner_id, $2)",
        )
        .bind(stream.as_uuid())
        .bind(reader.as_uuid())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(owner) = owner else { return Ok(None) };
        add_stream_chat(&mut tx, stream, UserId::from_uuid(owner), now).await?;
        self.commit(tx).await?;
        self.find_stream_chat(stream, reader).await
    }

    async fn find_stream_chat(
        &self,
        stream: StreamId,
        reader: UserId,
    ) -> Result<Option<StreamChat>, StoreError> {
        let row = sqlx::query(
            "SELECT s.owner_id, c.id, c.last_seq, chat.slow_mode_s, seat.muted_until,
                    s.owner_id = $2 OR coalesce(seat.is_moderator, false) AS is_moderator
             FROM stream_chats chat
             JOIN streams s ON s.id = chat.stream_id
             JOIN users u ON u.id = s.owner_id
             JOIN conversations c ON c.id = chat.conversation_id
             LEFT JOIN chat_seats seat ON seat.conversation_id = c.id AND seat.user_id = $2
             WHERE chat.stream_id = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND may_watch(s.id, s.owner_id, $2)",
        );
        let row = row.bind(stream.as_uuid()).bind(reader.as_uuid()).fetch_optional(self.pool()).await?;
        row.map(|row| {
            Ok(StreamChat {
                stream,
                owner: UserId::from_uuid(row.try_get("owner_id")?),
                conversation: ConversationId::from_uuid(row.try_get("id")?),
                top: unsigned(row.try_get("last_seq")?),
                slow_mode_s: row.try_get("slow_mode_s")?,
                is_moderator: row.try_get("is_moderator")?,
                muted_until: row.try_get("muted_until")?,
            })
        })
        .transpose()
    }

    /// Whether somebody may read a conversation, and as what.
    pub async fn reader(&self, of: ConversationId, user: UserId) -> Result<Option<Reader>, StoreError> {
        let is_member: Option<bool> = sqlx::query_scalar(
            "SELECT m.user_id IS NOT NULL FROM conversations c
             LEFT JOIN members m ON m.conversation_id = c.id AND m.user_id = $2 AND m.left_at IS NULL
             WHERE c.id = $1 AND (m.user_id IS NOT NULL OR c.kind = 'live'
                 AND EXISTS (SELECT FROM stream_chats chat WHERE chat.conversation_id = c.id AND may_watch(chat.stream_id, c.created_by, $2))
                 AND EXISTS (SELECT FROM users u WHERE u.id = c.created_by AND u.deleted_at IS NULL AND u.suspended_at IS NULL))",
        )
        .bind(of.as_uuid())
        .bind(user.as_uuid())
        .fetch_optional(self.pool())
        .await?;
        Ok(is_member.map(|is_member| if is_member { Reader::Member } else { Reader::Viewer }))
    }

    /// Which of these streams not everybody may watch.
    pub async fn private_streams(&self, streams: &[StreamId]) -> Result<Vec<StreamId>, StoreError> {
        let streams: Vec<Uuid> = streams.iter().map(|id| id.as_uuid()).collect();
        let found: Vec<Uuid> =
            sqlx::query_scalar("SELECT id FROM streams WHERE id = ANY ($1) AND visibility = 'private'")
                .bind(streams)
                .fetch_all(self.pool())
                .await?;
        Ok(found.into_iter().map(StreamId::from_uuid).collect())
    }

    /// Which of these people, each with the stream they watch, may not watch it any more.
    pub async fn uninvited(
        &self,
        watching: &[(StreamId, UserId)],
    ) -> Result<Vec<(StreamId, UserId)>, StoreError> {
        let (streams, users): (Vec<Uuid>, Vec<Uuid>) =
            watching.iter().map(|(stream, user)| (stream.as_uuid(), user.as_uuid())).unzip();
        let found: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT w.stream_id, w.user_id FROM unnest($1::uuid[], $2::uuid[]) AS w (stream_id, user_id)
             JOIN streams s ON s.id = w.stream_id WHERE NOT may_watch(s.id, s.owner_id, w.user_id)",
        )
        .bind(streams)
        .bind(users)
        .fetch_all(self.pool())
        .await?;
        let ids = |(stream, user)| (StreamId::from_uuid(stream), UserId::from_uuid(user));
        Ok(found.into_iter().map(ids).collect())
    }

    /// How many watch streams that are on the air, as their nodes last said.
    pub async fn viewer_counts(
        &self,
        streams: &[StreamId],
        heard_since: OffsetDateTime,
    ) -> Result<Vec<(StreamId, u32)>, StoreError> {
        let rows: Vec<(Uuid, i32)> = sqlx::query_as(
            "SELECT id, viewers FROM streams WHERE id = ANY ($1) AND state = 'live' AND heard_at >= $2",
        )
        .bind(streams.iter().map(|stream| stream.as_uuid()).collect::<Vec<_>>())
        .bind(heard_since)
        .fetch_all(self.pool())
        .await?;
        let viewers = |(id, count): (Uuid, i32)| (StreamId::from_uuid(id), count.try_into().unwrap_or(0));
        Ok(rows.into_iter().map(viewers).collect())
    }

    /// How long people wait between two messages; `entry` tells of it. `None` when it is so already.
    pub async fn set_slow_mode(
        &self,
        chat: ConversationId,
        seconds: i32,
        entry: NewEntry,
    ) -> Result<Option<Entry>, ConversationError> {
        let mut tx = self.pool().begin().await?;
        lock(&mut tx, chat).await?;
        let set = sqlx::query(
            "UPDATE stream_chats SET slow_mode_s = $2 WHERE conversation_id = $1 AND slow_mode_s <> $2",
        );
        if set.bind(chat.as_uuid()).bind(seconds).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let told = tell(&mut tx, entry).await?;
        self.commit(tx).await?;
        Ok(Some(told))
    }

    /// Makes somebody a moderator, or takes that away; whoever becomes one is not timed out any more. `None` when it is so already.
    pub async fn set_moderator(
        &self,
        chat: ConversationId,
        user: UserId,
        on: bool,
        entry: NewEntry,
    ) -> Result<Option<Entry>, ConversationError> {
        let mut tx = self.pool().begin().await?;
        lock(&mut tx, chat).await?;
        if on {
            super::conversations::users_exist(&mut tx, &[user]).await?;
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM chat_seats WHERE conversation_id = $1 AND is_moderator",
            )
            .bind(chat.as_uuid())
            .fetch_one(&mut *tx)
            .await?;
            if count >= MODERATORS_MAX {
                return Err(ConversationError::Full);
            }
        }
        let set = sqlx::query(
            "INSERT INTO chat_seats AS seat (conversation_id, user_id, is_moderator)
             SELECT $1, $2, $3 WHERE $3 OR EXISTS (SELECT FROM chat_seats WHERE conversation_id = $1 AND user_id = $2)
             ON CONFLICT (conversation_id, user_id) DO UPDATE SET is_moderator = $3,
                 muted_until = CASE WHEN $3 THEN NULL ELSE seat.muted_until END
             WHERE seat.is_moderator <> $3",
        );
        let set = set.bind(chat.as_uuid()).bind(user.as_uuid()).bind(on).execute(&mut *tx).await?;
        if set.rows_affected() == 0 {
            return Ok(None);
        }
        let told = tell(&mut tx, entry).await?;
        self.commit(tx).await?;
        Ok(Some(told))
    }

    /// Somebody may not write until then, or may again. Not for the owner, and for moderators only when `by_owner`.
    pub async fn time_out(
        &self,
        chat: ConversationId,
        user: UserId,
        until: Option<OffsetDateTime>,
        by_owner: bool,
        entry: NewEntry,
    ) -> Result<Option<Entry>, ConversationError> {
        let mut tx = self.pool().begin().await?;
        lock(&mut tx, chat).await?;
        super::conversations::users_exist(&mut tx, &[user]).await?;
        let is_above: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM conversations WHERE id = $1 AND created_by = $2)
                 OR NOT $3 AND EXISTS (SELECT FROM chat_seats WHERE conversation_id = $1 AND user_id = $2 AND is_moderator)",
        )
        .bind(chat.as_uuid())
        .bind(user.as_uuid())
        .bind(by_owner)
        .fetch_one(&mut *tx)
        .await?;
        if is_above {
            return Err(ConversationError::NotAllowed);
        }
        let set = sqlx::query(
            "INSERT INTO chat_seats AS seat (conversation_id, user_id, muted_until)
             SELECT $1, $2, $3 WHERE $3 IS NOT NULL OR EXISTS (SELECT FROM chat_seats WHERE conversation_id = $1 AND user_id = $2)
             ON CONFLICT (conversation_id, user_id) DO UPDATE SET muted_until = $3
             WHERE seat.muted_until IS DISTINCT FROM $3",
        );
        let set = set.bind(chat.as_uuid()).bind(user.as_uuid()).bind(until).execute(&mut *tx).await?;
        if set.rows_affected() == 0 {
            return Ok(None);
        }
        let by = entry.sender;
        let told = tell(&mut tx, entry).await?;
        let event = schema::AccountJudged {
            account_id: bytes(user),
            verdict: if until.is_some() { "timed_out" } else { "let_in" }.to_owned(),
            scope: chat.to_string(),
            moderator_id: bytes(by),
            until_ms: until.map_or(0, millis),
            at_ms: millis(told.at),
        };
        let judged = Told { key: user.as_uuid(), version: 0, event: event.into() };
        super::events::tell(&mut tx, told.at, &[judged]).await?;
        self.commit(tx).await?;
        Ok(Some(told))
    }

    /// Who moderates a chat beside its owner.
    pub async fn moderators(&self, chat: ConversationId) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT user_id FROM chat_seats WHERE conversation_id = $1 AND is_moderator ORDER BY user_id",
        )
        .bind(chat.as_uuid())
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(UserId::from_uuid).collect())
    }
}

/// Makes the chat of a stream within the transaction that makes the stream, or later. Whoever comes second makes none.
pub(super) async fn add_stream_chat(
    tx: &mut PgConnection,
    stream: StreamId,
    owner: UserId,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // Who makes one at the same time waits here.
    sqlx::query("SELECT FROM streams WHERE id = $1 FOR UPDATE")
        .bind(stream.as_uuid())
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "WITH made AS (
             INSERT INTO conversations (id, kind, created_by, created_at, last_at, retention_s)
             SELECT $1, 'live', $3, $4, $4, $5 WHERE NOT EXISTS (SELECT FROM stream_chats WHERE stream_id = $2)
             RETURNING id
         )
         INSERT INTO stream_chats (stream_id, conversation_id) SELECT $2, id FROM made",
    )
    .bind(ConversationId::new(now).as_uuid())
    .bind(stream.as_uuid())
    .bind(owner.as_uuid())
    .bind(now)
    .bind(KEPT_S)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

async fn lock(tx: &mut PgConnection, chat: ConversationId) -> Result<(), ConversationError> {
    let locked = sqlx::query("SELECT FROM conversations WHERE id = $1 AND kind = 'live' FOR NO KEY UPDATE");
    locked.bind(chat.as_uuid()).fetch_optional(tx).await?.ok_or(ConversationError::NotFound)?;
    Ok(())
}
