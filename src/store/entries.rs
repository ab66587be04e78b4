//! Entries of conversations in PostgreSQL. `append_entries` of the migrations numbers them; besides it only [`super::calls`]
//! writes here, which tells of calls whoever may still write.

use std::sync::Arc;

use nova_actors::conversation::{Appended, Entry, EntryKind, NewEntry, Range, Refusal, Seq, Top};
use nova_actors::id::{ConversationId, UserId};
use serde::Deserialize;
use sqlx::Row;
use sqlx::postgres::{PgExecutor, PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::events::schema::{MessageSent, SentRange};
use crate::events::{bytes, id, millis};

/// For so long a client may repeat what it sent, whatever the retention.
const KEYS_KEPT: time::Duration = time::Duration::days(7);

/// What became of one entry of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It stands in the log. The body, where it is not the one that was given.
    Appended(Appended, Option<Arc<str>>),
    /// It does not.
    Refused(Refusal),
    /// It depends on another entry of the same batch: give it again, with the next.
    Again,
}

/// Which entries of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those after a number, oldest first.
    After(Seq),
    /// Those before a number, newest first.
    Before(Seq),
}

impl Store {
    /// Appends a batch in one round trip and one commit; the answers are in the order of the entries.
    pub async fn append_entries(&self, entries: &[NewEntry]) -> Result<Vec<Outcome>, StoreError> {
        let outcomes = append(self.pool(), entries).await?;
        self.woken().outbox.notify_one();
        Ok(outcomes)
    }

    /// The entries after `after`, oldest first, with how far the conversation has come; from one snapshot.
    pub async fn entry_range(
        &self,
        of: ConversationId,
        after: Seq,
        limit: u32,
    ) -> Result<Option<Range>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.epoch, c.last_seq, c.removed_seq, e.seq, e.kind, e.sender, e.client_msg_id, e.at, e.body::text AS body
             FROM conversations c LEFT JOIN LATERAL (
                 SELECT * FROM entries e WHERE e.conversation_id = c.id AND e.seq > greatest($2, c.removed_seq) ORDER BY e.seq LIMIT $3
             ) e ON true
             WHERE c.id = $1 ORDER BY e.seq",
        );
        let rows =
            rows.bind(of.as_uuid()).bind(signed(after)).bind(i64::from(limit)).fetch_all(self.pool()).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let top =
            Top { epoch: unsigned_epoch(first.try_get("epoch")?), seq: unsigned(first.try_get("last_seq")?) };
        let removed = unsigned(first.try_get("removed_seq")?);
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<Option<i64>, _>("seq")?.is_some() {
                entries.push(entry(of, row)?);
            }
        }
        Ok(Some(Range { entries, top, removed }))
    }

    /// A page of entries.
    pub async fn entries(
        &self,
        of: ConversationId,
        which: Which,
        limit: i64,
    ) -> Result<Vec<Entry>, StoreError> {
        let (from, sql) = match which {
            Which::After(seq) => (
                seq,
                concat!(
                    "SELECT c.epoch, e.seq, e.kind, e.sender, e.client_msg_id, e.at, e.body::text AS body ",
                    "FROM conversations c JOIN entries e ON e.conversation_id = c.id ",
                    "WHERE c.id = $1 AND e.seq > greatest($2, c.removed_seq) ORDER BY e.seq LIMIT $3"
                ),
            ),
            Which::Before(seq) => (
                seq,
                concat!(
                    "SELECT c.epoch, e.seq, e.kind, e.sender, e.client_msg_id, e.at, e.body::text AS body ",
                    "FROM conversations c JOIN entries e ON e.conversation_id = c.id ",
                    "WHERE c.id = $1 AND e.seq < $2 AND e.seq > c.removed_seq ORDER BY e.seq DESC LIMIT $3"
                ),
            ),
        };
        let rows =
            sqlx::query(sql).bind(of.as_uuid()).bind(signed(from)).bind(limit).fetch_all(self.pool()).await?;
        rows.iter().map(|row| entry(of, row)).collect()
    }

    /// What stands at these places now, in their order: messages that were deleted meanwhile have no text, what is gone is left out.
    pub async fn sent(&self, ranges: &[SentRange]) -> Result<Vec<MessageSent>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.conversation_id, r.epoch, e.seq, e.kind, e.sender, e.client_msg_id, e.at, e.body::text AS body
             FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS r (id, epoch, first, last, nth)
             JOIN entries e ON e.conversation_id = r.id AND e.seq BETWEEN r.first AND r.last AND e.kind > 0
             ORDER BY r.nth, e.seq",
        )
        .bind(ranges.iter().map(|range| id(&range.conversation_id)).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| i32::try_from(range.epoch).unwrap_or_default()).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| signed(range.first_seq)).collect::<Vec<_>>())
        .bind(ranges.iter().map(|range| signed(range.last_seq)).collect::<Vec<_>>())
        .fetch_all(self.pool())
        .await?;
        let message = |row: &PgRow| {
            let entry = entry(ConversationId::from_uuid(row.try_get("conversation_id")?), row)?;
            Ok(MessageSent {
                conversation_id: bytes(entry.conversation),
                epoch: entry.epoch,
                seq: entry.seq,
                sender_id: bytes(entry.sender),
                kind: entry.kind.as_str().to_owned(),
                body: entry.body.as_ref().to_owned(),
                at_ms: millis(entry.at),
            })
        };
        rows.iter().map(message).collect()
    }

    /// How far conversations have come.
    pub async fn tops(&self, of: &[ConversationId]) -> Result<Vec<(ConversationId, Top)>, StoreError> {
        let ids: Vec<Uuid> = of.iter().map(|id| id.as_uuid()).collect();
        let rows: Vec<(Uuid, i32, i64)> =
            sqlx::query_as("SELECT id, epoch, last_seq FROM conversations WHERE id = ANY ($1)")
                .bind(ids)
                .fetch_all(self.pool())
                .await?;
        let top = |(id, epoch, seq)| {
            (ConversationId::from_uuid(id), Top { epoch: unsigned_epoch(epoch), seq: unsigned(seq) })
        };
        Ok(rows.into_iter().map(top).collect())
    }

    /// Takes away what is past its conversation's retention, and positions whose time has come; says how many entries changed. Works in
    /// bites, so nobody waits for it long; to be called again while it says that it did something. Of what is younger than
    /// `KEYS_KEPT` the key stays, so that a retry finds it.
    pub async fn sweep_entries(&self, now: OffsetDateTime, bite: i64) -> Result<u64, StoreError> {
        // The first entry that stays bounds what goes: numbers and times grow together.
        let removed = sqlx::query_scalar(
            "WITH due AS (
                 SELECT c.id, c.removed_seq, (
                     SELECT coalesce(max(old.seq), c.removed_seq) FROM (
                         SELECT e.seq, e.at FROM entries e
                         WHERE e.conversation_id = c.id AND e.seq > c.removed_seq ORDER BY e.seq LIMIT $2
                     ) old WHERE old.at < $1 - make_interval(secs => c.retention_s)
                 ) AS up_to
                 FROM conversations c WHERE c.retention_s IS NOT NULL
             ), counted AS (
                 UPDATE conversations c SET removed_seq = due.up_to FROM due WHERE c.id = due.id AND due.up_to > c.removed_seq
             ), gone AS (
                 DELETE FROM entries e USING due
                 WHERE e.conversation_id = due.id AND e.seq > due.removed_seq AND e.seq <= due.up_to AND e.at < $3 RETURNING 1
             ), emptied AS (
                 UPDATE entries e SET kind = 0, body = '{}', target = NULL FROM due
                 WHERE e.conversation_id = due.id AND e.seq > due.removed_seq AND e.seq <= due.up_to AND e.at >= $3 RETURNING 1
             )
             SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM emptied)",
        );
        let removed: i64 = removed.bind(now).bind(bite).bind(now - KEYS_KEPT).fetch_one(self.pool()).await?;
        let forgotten = sqlx::query(
            "DELETE FROM entries e USING (SELECT conversation_id, seq FROM entries WHERE kind = 0 AND at < $1 LIMIT $2) due
             WHERE e.conversation_id = due.conversation_id AND e.seq = due.seq",
        );
        let forgotten =
            forgotten.bind(now - KEYS_KEPT).bind(bite).execute(self.pool()).await?.rows_affected();
        let ended = sqlx::query(
            "UPDATE entries e SET body = e.body || '{\"location\": {\"ended\": true}}'
             FROM (
                 SELECT conversation_id, seq FROM entries
                 WHERE body -> 'location' ->> 'until' IS NOT NULL AND body -> 'location' ->> 'until' <= $1 LIMIT $2
             ) due
             WHERE e.conversation_id = due.conversation_id AND e.seq = due.seq",
        );
        let ended = ended
            .bind(crate::rest::instant::text(now))
            .bind(bite)
            .execute(self.pool())
            .await?
            .rows_affected();
        Ok(removed.unsigned_abs() + forgotten + ended)
    }
}

/// A row of `append_entries`: status, epoch, seq, at, body.
type Judged = (i16, Option<i32>, Option<i64>, OffsetDateTime, Option<String>);

/// Appends a batch within whatever transaction `executor` is in.
pub(super) async fn append(
    executor: impl PgExecutor<'_>,
    entries: &[NewEntry],
) -> Result<Vec<Outcome>, StoreError> {
    let column = |of: fn(&NewEntry) -> Uuid| entries.iter().map(of).collect::<Vec<_>>();
    let rows: Vec<Judged> = sqlx::query_as(
        "SELECT status, epoch, seq, at, body FROM append_entries($1, $2, $3, $4, $5, $6, $7, $8) ORDER BY ord",
    )
    .bind(column(|entry| entry.conversation.as_uuid()))
    .bind(column(|entry| entry.sender.as_uuid()))
    .bind(entries.iter().map(|entry| entry.kind.number()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| &*entry.client_msg_id).collect::<Vec<&str>>())
    .bind(entries.iter().map(|entry| &entry.content_hash[..]).collect::<Vec<&[u8]>>())
    .bind(entries.iter().map(|entry| entry.target.map(signed)).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.target.map(|_| entry.sender.to_string())).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| &*entry.body).collect::<Vec<&str>>())
    .fetch_all(executor)
    .await?;
    if rows.len() != entries.len() {
        return Err(corrupt(format!("{} answers to {} entries", rows.len(), entries.len())));
    }
    rows.into_iter().map(|(status, epoch, seq, at, body)| outcome(status, epoch, seq, at, body)).collect()
}

fn outcome(
    status: i16,
    epoch: Option<i32>,
    seq: Option<i64>,
    at: OffsetDateTime,
    body: Option<String>,
) -> Result<Outcome, StoreError> {
    Ok(match (status, epoch, seq) {
        (0 | 1, Some(epoch), Some(seq)) => {
            let appended =
                Appended { epoch: unsigned_epoch(epoch), seq: unsigned(seq), at, duplicate: status == 1 };
            Outcome::Appended(appended, body.map(Arc::from))
        }
        (2, ..) => Outcome::Refused(Refusal::IdempotencyMismatch),
        (3, ..) => Outcome::Refused(Refusal::NoSuchConversation),
        (4, ..) => Outcome::Refused(Refusal::NotAMember),
        (5, ..) => Outcome::Refused(Refusal::NoSuchTarget),
        (6, ..) => Outcome::Refused(Refusal::NotYours),
        (7, ..) => Outcome::Refused(Refusal::TargetDeleted),
        (8, ..) => Outcome::Refused(Refusal::Blocked),
        (9, ..) => Outcome::Again,
        (10, ..) => Outcome::Refused(Refusal::TooSoon { until: at }),
        (11, ..) => Outcome::Refused(Refusal::TimedOut { until: at }),
        _ => return Err(corrupt(format!("append_entries answered {status}"))),
    })
}

/// Reads the columns `epoch, seq, kind, sender, client_msg_id, at, body`.
pub(super) fn entry(conversation: ConversationId, row: &PgRow) -> Result<Entry, StoreError> {
    read(conversation, row, "kind")
}

/// As [`entry`], where the kind stands in another column.
pub(super) fn read(conversation: ConversationId, row: &PgRow, kind: &str) -> Result<Entry, StoreError> {
    let number: i16 = row.try_get(kind)?;
    let body: String = row.try_get("body")?;
    Ok(Entry {
        conversation,
        epoch: unsigned_epoch(row.try_get("epoch")?),
        seq: unsigned(row.try_get("seq")?),
        kind: EntryKind::from_number(number).ok_or_else(|| corrupt(format!("an entry of kind {number}")))?,
        sender: UserId::from_uuid(row.try_get("sender")?),
        at: row.try_get("at")?,
        client_msg_id: row.try_get::<&str, _>("client_msg_id")?.into(),
        visible_to: visible_to(&body)?,
        body: body.into(),
    })
}

/// Who may see a body, as it stands in it.
pub(crate) fn visible_to(body: &str) -> Result<Option<Arc<[UserId]>>, StoreError> {
    #[derive(Deserialize)]
    struct Scope {
        visible_to: Option<Arc<[UserId]>>,
    }
    // Few bodies have it, and a look is cheaper than parsing them all; what people write has its quotes escaped.
    if !body.contains("\"visible_to\"") {
        return Ok(None);
    }
    serde_json::from_str::<Scope>(body)
        .map(|scope| scope.visible_to)
        .map_err(|error| corrupt(error.to_string()))
}

pub(super) fn corrupt(what: String) -> StoreError {
    StoreError::Database(sqlx::Error::Protocol(what))
}

/// Numbers of entries are never negative, and never come near the end of either type.
pub(super) fn signed(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// As [`signed`], back.
pub(super) fn unsigned(seq: i64) -> Seq {
    u64::try_from(seq).unwrap_or_default()
}

pub(super) fn unsigned_epoch(epoch: i32) -> u32 {
    u32::try_from(epoch).unwrap_or_default()
}
