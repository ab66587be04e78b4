//! How far devices have everything, and how far people have read.

use nova_actors::conversation::Seq;
use nova_actors::id::{ConversationId, DeviceId, UserId};
use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::entries::{signed, unsigned, unsigned_epoch};
use super::{Store, StoreError};

/// One conversation as a device finds it when it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Which.
    pub conversation: ConversationId,
    /// Its history.
    pub epoch: u32,
    /// The device has everything up to here.
    pub cursor: Seq,
    /// The newest entry when this was read.
    pub top: Seq,
}

impl Store {
    /// Every conversation of `user` with how far `device` has it, in one statement. Where the device never said how far it is, it is
    /// where its user joined, or where the conversation was when the device logged in, whichever is later; that is remembered, so it is
    /// looked for once.
    pub async fn resume(&self, user: UserId, device: DeviceId) -> Result<Vec<Resume>, StoreError> {
        let rows = sqlx::query(
            "WITH mine AS MATERIALIZED (
                 SELECT c.id, c.epoch, c.last_seq, m.joined_seq, cursor.seq AS known, d.created_at, m.joined_at
                 FROM members m
                 JOIN conversations c ON c.id = m.conversation_id
                 JOIN devices d ON d.id = $2 AND d.user_id = $1
                 LEFT JOIN device_cursors cursor ON cursor.device_id = $2 AND cursor.conversation_id = c.id
                 WHERE m.user_id = $1 AND m.left_at IS NULL
             ), placed AS MATERIALIZED (
                 SELECT mine.*, CASE
                     WHEN known IS NOT NULL THEN known
                     WHEN joined_at >= created_at THEN joined_seq
                     ELSE coalesce((
                         SELECT e.seq FROM entries e
                         WHERE e.conversation_id = mine.id AND e.at <= mine.created_at ORDER BY e.seq DESC LIMIT 1
                     ), joined_seq)
                 END AS found
                 FROM mine
             ), kept AS (
                 INSERT INTO device_cursors (device_id, conversation_id, seq)
                 SELECT $2, id, found FROM placed WHERE known IS NULL AND joined_at < created_at
                 ON CONFLICT DO NOTHING
             )
             SELECT id, epoch, last_seq, least(greatest(found, joined_seq), last_seq) AS cursor FROM placed ORDER BY id",
        );
        let rows = rows.bind(user.as_uuid()).bind(device.as_uuid()).fetch_all(self.pool()).await?;
        let resume = |row: sqlx::postgres::PgRow| {
            Ok(Resume {
                conversation: ConversationId::from_uuid(row.try_get("id")?),
                epoch: unsigned_epoch(row.try_get("epoch")?),
                cursor: unsigned(row.try_get("cursor")?),
                top: unsigned(row.try_get("last_seq")?),
            })
        };
        rows.into_iter().map(resume).collect()
    }

    /// Moves devices forward; what is behind where a device is already changes nothing. A cursor never passes the log, and devices only
    /// have cursors in conversations of their user. One row per device and conversation.
    pub async fn acknowledge(&self, acks: &[(DeviceId, ConversationId, Seq)]) -> Result<u64, StoreError> {
        let moved = sqlx::query(
            "WITH acked AS (
                 SELECT d.id AS device_id, d.user_id, c.id AS conversation_id, least(a.seq, c.last_seq) AS seq
                 FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS a (device_id, conversation_id, seq)
                 JOIN devices d ON d.id = a.device_id
                 JOIN conversations c ON c.id = a.conversation_id
                 JOIN members m ON m.conversation_id = c.id AND m.user_id = d.user_id AND m.left_at IS NULL
             ), delivered AS (
                 UPDATE members m SET delivered_seq = a.seq
                 FROM (SELECT conversation_id, user_id, max(seq) AS seq FROM acked GROUP BY 1, 2) a
                 WHERE m.conversation_id = a.conversation_id AND m.user_id = a.user_id AND m.delivered_seq < a.seq
                 RETURNING m.conversation_id, m.user_id, m.delivered_seq, m.read_seq
             ), told AS (
                 -- Written once all rows are held: receipts of one member are told in order.
                 INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
                 SELECT event_id_at(now()), 10, event_part(conversation_id, 3::smallint), (array_agg(conversation_id))[1],
                        'ReceiptsMoved', 1, 0,
                        string_agg(receipt_moved(conversation_id, user_id, delivered_seq, read_seq, floor(extract(epoch FROM now()) * 1000)::bigint), ''), now()
                 FROM delivered GROUP BY event_part(conversation_id, 3::smallint)
             )
             INSERT INTO device_cursors AS cursor (device_id, conversation_id, seq)
             SELECT device_id, conversation_id, seq FROM acked ORDER BY 1, 2
             ON CONFLICT (device_id, conversation_id) DO UPDATE SET seq = excluded.seq WHERE cursor.seq < excluded.seq",
        );
        let column =
            |of: fn(&(DeviceId, ConversationId, Seq)) -> Uuid| acks.iter().map(of).collect::<Vec<_>>();
        let moved = moved
            .bind(column(|ack| ack.0.as_uuid()))
            .bind(column(|ack| ack.1.as_uuid()))
            .bind(acks.iter().map(|ack| signed(ack.2)).collect::<Vec<_>>());
        let moved = moved.execute(self.pool()).await?.rows_affected();
        self.woken().outbox.notify_one();
        Ok(moved)
    }

    /// `user` has read up to `seq`, or to the end where that is earlier. Says how far they have read now and whether that moved; `None` when
    /// they are not in the conversation.
    pub async fn mark_read(
        &self,
        of: ConversationId,
        user: UserId,
        seq: Seq,
    ) -> Result<Option<(Seq, bool)>, StoreError> {
        let read: Option<(i64, bool)> = sqlx::query_as(
            "WITH before AS (
                 SELECT m.read_seq, least($3, c.last_seq) AS wanted FROM members m JOIN conversations c ON c.id = m.conversation_id
                 WHERE m.conversation_id = $1 AND m.user_id = $2 AND m.left_at IS NULL
             ), moved AS (
                 UPDATE members m SET read_seq = before.wanted FROM before
                 WHERE m.conversation_id = $1 AND m.user_id = $2 AND m.read_seq < before.wanted
                 RETURNING m.conversation_id, m.user_id, m.delivered_seq, m.read_seq
             ), told AS (
                 INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
                 SELECT event_id_at(now()), 10, event_part(conversation_id, 3::smallint), conversation_id, 'ReceiptsMoved', 1, 0,
                        receipt_moved(conversation_id, user_id, delivered_seq, read_seq, floor(extract(epoch FROM now()) * 1000)::bigint), now()
                 FROM moved
             )
             SELECT coalesce(moved.read_seq, before.read_seq), moved.read_seq IS NOT NULL
             FROM before LEFT JOIN moved ON true",
        )
        .bind(of.as_uuid())
        .bind(user.as_uuid())
        .bind(signed(seq))
        .fetch_optional(self.pool())
        .await?;
        self.woken().outbox.notify_one();
        Ok(read.map(|(seq, moved)| (unsigned(seq), moved)))
    }

    /// Forgets the cursors of devices that were not seen since `before`.
    pub async fn sweep_cursors(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM device_cursors cursor USING devices d WHERE d.id = cursor.device_id AND d.last_seen_at < $1",
        );
        Ok(gone.bind(before).execute(self.pool()).await?.rows_affected())
    }
}
