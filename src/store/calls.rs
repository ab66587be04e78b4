//! The calls of conversations in PostgreSQL.
//!
//! Whatever happens to a call is decided by [`Call`] while the conversation's row is held, and stands in the log of the conversation
//! from the same commit on: there is no call without its entry, and no entry that is not true.

use nova_actors::call::{Call, Changed, Media, Outcome, Refusal, State};
use nova_actors::conversation::{Entry, EntryKind, NewEntry};
use nova_actors::id::{CallId, ConversationId, DeviceId, NodeId, RoomId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::conversations::{ConversationError, Held, Kind, hold, not_blocked};
use super::entries::unsigned;
use super::rooms::{self, Kept};
use super::{Store, StoreError};
use crate::conversations::draft;

const COLUMNS: &str = "id, conversation_id, room_id, caller_id, media, is_direct, state, outcome, called, declined, answered_by, answered_on,
    started_at, answered_at, ended_at";

/// What became of somebody calling.
#[derive(Debug)]
pub enum Started {
    /// There is a call now, with a room on the node that asked.
    New(Box<Call>, Box<Kept>, Entry),
    /// There was one already.
    Running(Box<Call>),
}

/// Why nothing became of something somebody did to a call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such call, or not for them.
    #[error("there is no such call")]
    NotFound,
    /// The call does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CallError {
    fn from(error: sqlx::Error) -> CallError {
        CallError::Store(error.into())
    }
}

/// What was done to a call.
#[derive(Debug)]
pub struct Done {
    /// As it is now.
    pub call: Call,
    /// What of it is new.
    pub changed: Changed,
    /// The entry that tells of it.
    pub entry: Option<Entry>,
}

impl Store {
    /// Somebody calls those of a conversation they have no block with. Of two who call at the same moment the second finds the call of
    /// the first.
    pub async fn start_call(
        &self,
        conversation: ConversationId,
        caller: UserId,
        media: Media,
        (node, participants_max): (NodeId, usize),
        now: OffsetDateTime,
    ) -> Result<Started, ConversationError> {
        let mut tx = self.pool().begin().await?;
        let Held { kind, .. } = hold(&mut tx, conversation, caller).await?;
        if kind == Kind::Live {
            return Err(ConversationError::WrongKind);
        }
        if let Some(running) = running(&mut tx, conversation).await? {
            return Ok(Started::Running(Box::new(running)));
        }
        let others: Vec<Uuid> = sqlx::query_scalar(
            "SELECT user_id FROM members WHERE conversation_id = $1 AND user_id <> $2 AND left_at IS NULL ORDER BY user_id",
        )
        .bind(conversation.as_uuid())
        .bind(caller.as_uuid())
        .fetch_all(&mut *tx)
        .await?;
        let others: Vec<UserId> = others.into_iter().map(UserId::from_uuid).collect();
        let is_direct = kind == Kind::Direct;
        let called = if is_direct {
            not_blocked(&mut tx, caller, &others).await?;
            others
        } else {
            unblocked(&mut tx, caller, &others).await?
        };
        let call = Call::new(conversation, caller, called, is_direct, media, now);
        insert(&mut tx, &call, now).await?;
        let room = Kept {
            id: call.room,
            owner: caller,
            title: None,
            conversation: Some(conversation),
            call: Some(call.id),
            is_direct,
            participants_max,
            has_lobby: false,
            is_locked: false,
            removed: Vec::new(),
            node: Some(node),
            participants: 0,
        };
        rooms::insert(&mut tx, &room, now).await?;
        let entry = tell(&mut tx, &call).await?;
        self.commit(tx).await?;
        Ok(Started::New(Box::new(call), Box::new(room), entry))
    }

    /// Lets `change` decide about a call, and writes what it decided.
    pub async fn change_call(
        &self,
        id: CallId,
        change: impl FnOnce(&mut Call) -> Result<Changed, Refusal>,
    ) -> Result<Done, CallError> {
        let conversation: Option<Uuid> =
            sqlx::query_scalar("SELECT conversation_id FROM calls WHERE id = $1")
                .bind(id.as_uuid())
                .fetch_optional(self.pool())
                .await?;
        let conversation = conversation.ok_or(CallError::NotFound)?;
        let mut tx = self.pool().begin().await?;
        // Always first: who starts a call holds it too, so nobody waits for each other in a circle.
        sqlx::query("SELECT FROM conversations WHERE id = $1 FOR NO KEY UPDATE")
            .bind(conversation)
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM calls WHERE id = $1")))
            .bind(id.as_uuid())
            .fetch_optional(&mut *tx)
            .await?;
        let mut call = read(&row.ok_or(CallError::NotFound)?)?;
        let changed = change(&mut call)?;
        let entry = match changed {
            Changed::Nothing => None,
            Changed::Declined => {
                update(&mut tx, &call).await?;
                None
            }
            Changed::State => {
                update(&mut tx, &call).await?;
                if call.state.outcome().is_some() {
                    sqlx::query("DELETE FROM rooms WHERE call_id = $1")
                        .bind(id.as_uuid())
                        .execute(&mut *tx)
                        .await?;
                }
                Some(tell(&mut tx, &call).await?)
            }
        };
        self.commit(tx).await?;
        Ok(Done { call, changed, entry })
    }

    /// A call, for somebody who is in its conversation.
    pub async fn call_for(&self, id: CallId, user: UserId) -> Result<Option<Call>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM calls WHERE id = $1 AND EXISTS (
                 SELECT FROM members m WHERE m.conversation_id = calls.conversation_id AND m.user_id = $2 AND m.left_at IS NULL)"
        )));
        let row = row.bind(id.as_uuid()).bind(user.as_uuid()).fetch_optional(self.pool()).await?;
        row.as_ref().map(read).transpose()
    }

    /// The call that goes on in a conversation.
    pub async fn running_call(&self, of: ConversationId) -> Result<Option<Call>, StoreError> {
        let mut connection = self.pool().acquire().await?;
        running(&mut connection, of).await
    }

    /// What rings for somebody and was not declined by them.
    pub async fn ringing_for(&self, user: UserId, now: OffsetDateTime) -> Result<Vec<Call>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM calls WHERE state = 'ringing' AND called @> ARRAY[$1] AND NOT declined @> ARRAY[$1] AND ring_until > $2"
        )));
        rows.bind(user.as_uuid()).bind(now).fetch_all(self.pool()).await?.iter().map(read).collect()
    }

    /// Calls that have rung for long enough, and those no node vouches for since `silent_since`: to be ended by whoever comes first.
    pub async fn calls_to_end(
        &self,
        now: OffsetDateTime,
        silent_since: OffsetDateTime,
    ) -> Result<Vec<CallId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM calls WHERE state = 'ringing' AND ring_until <= $1
             UNION SELECT id FROM calls WHERE state <> 'ended' AND heard_at < $2 LIMIT 100",
        )
        .bind(now)
        .bind(silent_since)
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(CallId::from_uuid).collect())
    }

    /// Running calls of two people one of whom has blocked the other: of these two, or of anybody.
    pub async fn blocked_calls(&self, pair: Option<(UserId, UserId)>) -> Result<Vec<CallId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT calls.id FROM calls JOIN conversations c ON c.id = calls.conversation_id
             WHERE calls.state <> 'ended' AND calls.is_direct AND is_blocked(c.direct_low, c.direct_high)
               AND ($1::uuid IS NULL OR (c.direct_low = least($1, $2::uuid) AND c.direct_high = greatest($1, $2)))",
        )
        .bind(pair.map(|(one, _)| one.as_uuid()))
        .bind(pair.map(|(_, other)| other.as_uuid()))
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(CallId::from_uuid).collect())
    }

    /// The node of these calls' rooms says that they go on; gives those that have not ended.
    pub async fn vouch_for_calls(
        &self,
        calls: &[CallId],
        now: OffsetDateTime,
    ) -> Result<Vec<CallId>, StoreError> {
        let ids: Vec<Uuid> = calls.iter().map(CallId::as_uuid).collect();
        let running: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE calls SET heard_at = $2 WHERE id = ANY ($1) AND state <> 'ended' RETURNING id",
        )
        .bind(ids)
        .bind(now)
        .fetch_all(self.pool())
        .await?;
        Ok(running.into_iter().map(CallId::from_uuid).collect())
    }
}

async fn running(tx: &mut PgConnection, of: ConversationId) -> Result<Option<Call>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM calls WHERE conversation_id = $1 AND state <> 'ended'"
    )));
    let row = row.bind(of.as_uuid()).fetch_optional(tx).await?;
    row.as_ref().map(read).transpose()
}

async fn unblocked(
    tx: &mut PgConnection,
    caller: UserId,
    others: &[UserId],
) -> Result<Vec<UserId>, StoreError> {
    let ids: Vec<Uuid> = others.iter().map(UserId::as_uuid).collect();
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT other.id FROM unnest($2::uuid[]) AS other (id) WHERE NOT is_blocked($1, other.id) ORDER BY other.id",
    )
    .bind(caller.as_uuid())
    .bind(ids)
    .fetch_all(tx)
    .await?;
    Ok(ids.into_iter().map(UserId::from_uuid).collect())
}

async fn insert(tx: &mut PgConnection, call: &Call, now: OffsetDateTime) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO calls (id, conversation_id, room_id, caller_id, media, is_direct, state, called, started_at, ring_until,
             answered_at, heard_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(call.id.as_uuid())
    .bind(call.conversation.as_uuid())
    .bind(call.room.as_uuid())
    .bind(call.caller.as_uuid())
    .bind(call.media.as_str())
    .bind(call.is_direct)
    .bind(call.state.as_str())
    .bind(uuids(&call.called))
    .bind(call.started_at)
    .bind(call.ring_until())
    .bind(call.answered_at)
    .bind(now)
    .execute(tx)
    .await?;
    Ok(())
}

async fn update(tx: &mut PgConnection, call: &Call) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE calls SET state = $2, outcome = $3, declined = $4, answered_by = $5, answered_on = $6, answered_at = $7, ended_at = $8
         WHERE id = $1",
    )
    .bind(call.id.as_uuid())
    .bind(call.state.as_str())
    .bind(call.state.outcome().map(Outcome::as_str))
    .bind(uuids(&call.declined))
    .bind(call.answered_by.map(|(user, _)| user.as_uuid()))
    .bind(call.answered_by.map(|(_, device)| device.as_uuid()))
    .bind(call.answered_at)
    .bind(call.ended_at)
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes the entry that tells how a call is. `append_entries` would judge its sender; a call ends also when whoever called was blocked
/// or has left the conversation meanwhile, and the log says so. The conversation's row is held by this transaction.
async fn tell(tx: &mut PgConnection, call: &Call) -> Result<Entry, StoreError> {
    let NewEntry { conversation, sender, kind, client_msg_id, content_hash, body, .. } =
        draft::call_entry(call);
    let row = sqlx::query(
        "WITH top AS (
             UPDATE conversations SET last_seq = last_seq + 1, last_at = date_trunc('milliseconds', clock_timestamp())
             WHERE id = $1 RETURNING epoch, last_seq, last_at
         ), seen AS (
             UPDATE members m SET read_seq = top.last_seq FROM top
             WHERE m.conversation_id = $1 AND m.user_id = $2 AND m.read_seq = top.last_seq - 1
         ), told AS (
             INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
             SELECT event_id_at(top.last_at), 4, event_part($1, 3::smallint), $1, 'MessagesSent', 1, 0,
                    sent_range($1, top.epoch, top.last_seq, top.last_seq), top.last_at
             FROM top
         )
         INSERT INTO entries (conversation_id, seq, kind, sender, client_msg_id, content_hash, at, body)
         SELECT $1, top.last_seq, $3, $2, $4, $5, top.last_at, $6::jsonb FROM top
         RETURNING seq, at, (SELECT epoch FROM top) AS epoch",
    )
    .bind(conversation.as_uuid())
    .bind(sender.as_uuid())
    .bind(kind.number())
    .bind(client_msg_id.as_ref())
    .bind(content_hash.as_slice())
    .bind(body.as_ref())
    .fetch_one(tx)
    .await?;
    Ok(Entry {
        conversation,
        epoch: u32::try_from(row.try_get::<i32, _>("epoch")?).unwrap_or_default(),
        seq: unsigned(row.try_get("seq")?),
        kind: EntryKind::Call,
        sender,
        at: row.try_get("at")?,
        client_msg_id,
        body,
        visible_to: None,
    })
}

fn uuids(users: &[UserId]) -> Vec<Uuid> {
    users.iter().map(UserId::as_uuid).collect()
}

fn read(row: &PgRow) -> Result<Call, StoreError> {
    let users = |column| -> Result<Vec<UserId>, sqlx::Error> {
        Ok(row.try_get::<Vec<Uuid>, _>(column)?.into_iter().map(UserId::from_uuid).collect())
    };
    let outcome: Option<String> = row.try_get("outcome")?;
    let outcome = outcome.and_then(|text| Outcome::ALL.into_iter().find(|known| known.as_str() == text));
    // The table's checks leave nothing else.
    let state = match (row.try_get::<String, _>("state")?.as_str(), outcome) {
        ("ringing", _) => State::Ringing,
        ("active", _) => State::Active,
        (_, outcome) => State::Ended(outcome.unwrap_or(Outcome::Failed)),
    };
    let media = if row.try_get::<String, _>("media")? == "audio" { Media::Audio } else { Media::Video };
    let answered_by: Option<Uuid> = row.try_get("answered_by")?;
    let answered_on: Option<Uuid> = row.try_get("answered_on")?;
    Ok(Call {
        id: CallId::from_uuid(row.try_get("id")?),
        conversation: ConversationId::from_uuid(row.try_get("conversation_id")?),
        room: RoomId::from_uuid(row.try_get("room_id")?),
        caller: UserId::from_uuid(row.try_get("caller_id")?),
        media,
        is_direct: row.try_get("is_direct")?,
        state,
        called: users("called")?,
        declined: users("declined")?,
        answered_by: answered_by
            .zip(answered_on)
            .map(|(user, device)| (UserId::from_uuid(user), DeviceId::from_uuid(device))),
        started_at: row.try_get("started_at")?,
        answered_at: row.try_get("answered_at")?,
        ended_at: row.try_get("ended_at")?,
    })
}
