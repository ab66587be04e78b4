//! The event log in PostgreSQL: outbox, log, cursors.

use nova_actors::id::EventId;
use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::entries::corrupt;
use super::{Store, StoreError};
use crate::events::{Event, Logged, Topic};

/// An event to be told with what it is about.
#[derive(Debug)]
pub struct Told {
    /// What it is about; events of one key are in order.
    pub key: Uuid,
    /// The version of what changed.
    pub version: i64,
    /// What happened.
    pub event: Event,
}

/// How far a group has come in a part, while this transaction holds it.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// The topic.
    pub topic: Topic,
    /// The part.
    pub part: i16,
    /// The last place it has taken.
    pub place: i64,
    /// Tries of what stands next that failed.
    pub failures: i32,
}

/// How far a group is behind in a part.
#[derive(Debug, Clone)]
pub struct Lag {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: Topic,
    /// The part.
    pub part: i16,
    /// The last place it has taken.
    pub place: i64,
    /// Events it has not taken.
    pub behind: i64,
    /// How long the next of them has waited, in seconds.
    pub age_s: i64,
    /// Whether an operator has paused it.
    pub is_paused: bool,
    /// Tries of the next that failed.
    pub failures: i32,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// Writes events into the outbox of a transaction. What they tell of is locked by it.
pub(super) async fn tell(
    tx: &mut PgConnection,
    at: OffsetDateTime,
    told: &[Told],
) -> Result<(), sqlx::Error> {
    insert(tx, at, told.iter().map(|told| (EventId::new(at), told)).collect()).await
}

/// As [`tell`], with ids that are known already: of what may be told again, so that those who hear it know that.
pub(super) async fn tell_as(
    tx: &mut PgConnection,
    at: OffsetDateTime,
    told: &[(EventId, Told)],
) -> Result<(), sqlx::Error> {
    insert(tx, at, told.iter().map(|(id, told)| (*id, told)).collect()).await
}

async fn insert(
    tx: &mut PgConnection,
    at: OffsetDateTime,
    told: Vec<(EventId, &Told)>,
) -> Result<(), sqlx::Error> {
    if told.is_empty() {
        return Ok(());
    }
    let (ids, told): (Vec<Uuid>, Vec<&Told>) =
        told.into_iter().map(|(id, told)| (id.as_uuid(), told)).unzip();
    let column = |of: &dyn Fn(&Told) -> i16| told.iter().map(|told| of(told)).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO outbox (event_id, topic, part, key, kind, schema_version, version, payload, at)
         SELECT i.*, $9 FROM unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::uuid[], $5::text[], $6::smallint[], $7::bigint[],
                                    $8::bytea[]) AS i",
    )
    .bind(ids)
    .bind(column(&|told| told.event.topic().number()))
    .bind(column(&|told| told.event.topic().part_of(told.key)))
    .bind(told.iter().map(|told| told.key).collect::<Vec<_>>())
    .bind(told.iter().map(|told| told.event.kind()).collect::<Vec<_>>())
    .bind(column(&|told| told.event.schema_version()))
    .bind(told.iter().map(|told| told.version).collect::<Vec<_>>())
    .bind(told.iter().map(|told| told.event.encode()).collect::<Vec<_>>())
    .bind(at)
    .execute(tx)
    .await
    .map(drop)
}

fn topic(number: i16) -> Result<Topic, StoreError> {
    Topic::numbered(number).ok_or_else(|| corrupt(format!("an event of topic {number}")))
}

pub(super) fn logged(row: &sqlx::postgres::PgRow) -> Result<Logged, StoreError> {
    Ok(Logged {
        topic: topic(row.try_get("topic")?)?,
        part: row.try_get("part")?,
        place: row.try_get("place")?,
        id: row.try_get::<Uuid, _>("event_id")?.into(),
        key: row.try_get("key")?,
        kind: row.try_get("kind")?,
        schema_version: row.try_get("schema_version")?,
        version: row.try_get("version")?,
        payload: row.try_get("payload")?,
        at: row.try_get("at")?,
    })
}

impl Store {
    /// Commits a transaction that may have told something, and wakes the sequencer.
    pub(super) async fn commit(&self, tx: sqlx::Transaction<'_, sqlx::Postgres>) -> Result<(), sqlx::Error> {
        tx.commit().await?;
        self.woken().outbox.notify_one();
        Ok(())
    }

    /// Makes the cursors of a group where it has none; they begin where the log begins.
    pub async fn join_group(&self, group: &str, topics: &[Topic]) -> Result<(), StoreError> {
        let all = topics.iter().flat_map(|topic| (0..topic.parts()).map(|part| (topic.number(), part)));
        let (numbers, parts): (Vec<i16>, Vec<i16>) = all.unzip();
        sqlx::query(
            "INSERT INTO event_groups (name, topic, part) SELECT $1, i.topic, i.part
             FROM unnest($2::smallint[], $3::smallint[]) AS i (topic, part)
             WHERE NOT EXISTS (SELECT FROM event_groups g WHERE g.name = $1 AND g.topic = i.topic AND g.part = i.part)
             ON CONFLICT DO NOTHING",
        )
        .bind(group)
        .bind(numbers)
        .bind(parts)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Locks the cursor of the part that is furthest behind among those nobody is at.
    pub async fn take_cursor(
        &self,
        tx: &mut PgConnection,
        group: &str,
    ) -> Result<Option<Cursor>, StoreError> {
        let row = sqlx::query(
            "SELECT g.topic, g.part, g.place, g.failures FROM event_groups g JOIN event_parts p USING (topic, part)
             WHERE g.name = $1 AND NOT g.is_paused AND g.place < p.head AND (g.retry_at IS NULL OR g.retry_at <= now())
             ORDER BY p.head - g.place DESC LIMIT 1 FOR NO KEY UPDATE OF g SKIP LOCKED",
        )
        .bind(group)
        .fetch_optional(tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Cursor {
            topic: topic(row.try_get("topic")?)?,
            part: row.try_get("part")?,
            place: row.try_get("place")?,
            failures: row.try_get("failures")?,
        }))
    }

    /// What follows a cursor, and the place it then has. Events that are not kept any more are passed over.
    pub async fn events_after(
        &self,
        tx: &mut PgConnection,
        cursor: &Cursor,
        rows: i64,
    ) -> Result<(Vec<Logged>, i64), StoreError> {
        let rows = sqlx::query(
            "SELECT topic, part, place, event_id, key, kind, schema_version, version, payload, at FROM event_log
             WHERE topic = $1 AND part = $2 AND place > $3 ORDER BY place LIMIT $4",
        )
        .bind(cursor.topic.number())
        .bind(cursor.part)
        .bind(cursor.place)
        .bind(rows)
        .fetch_all(&mut *tx)
        .await?;
        let events = rows.iter().map(logged).collect::<Result<Vec<_>, _>>()?;
        let top = match events.last() {
            Some(last) => last.place,
            // All of it is older than what is kept.
            None => {
                let head = sqlx::query_scalar("SELECT head FROM event_parts WHERE topic = $1 AND part = $2");
                let head =
                    head.bind(cursor.topic.number()).bind(cursor.part).fetch_optional(&mut *tx).await?;
                // Nothing was ever told there.
                head.unwrap_or(cursor.place)
            }
        };
        Ok((events, top))
    }

    /// The last places given in all parts of these topics.
    pub async fn event_heads(&self, topics: &[Topic]) -> Result<Vec<(Topic, i16, i64)>, StoreError> {
        let numbers: Vec<i16> = topics.iter().map(|topic| topic.number()).collect();
        let rows = sqlx::query("SELECT topic, part, head FROM event_parts WHERE topic = ANY ($1)");
        let rows = rows.bind(numbers).fetch_all(self.pool()).await?;
        let head = |row: &sqlx::postgres::PgRow| {
            Ok((topic(row.try_get("topic")?)?, row.try_get("part")?, row.try_get("head")?))
        };
        rows.iter().map(head).collect()
    }

    /// Whether what happened before `at` still waits for its place.
    pub async fn is_outbox_stuck(&self, at: OffsetDateTime) -> Result<bool, StoreError> {
        let stuck = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM (SELECT at FROM outbox ORDER BY id LIMIT 1) o WHERE o.at < $1)",
        );
        Ok(stuck.bind(at).fetch_one(self.pool()).await?)
    }

    /// As [`events_after`](Store::events_after), outside of a transaction.
    pub async fn events_read(&self, cursor: &Cursor, rows: i64) -> Result<(Vec<Logged>, i64), StoreError> {
        let mut connection = self.pool().acquire().await?;
        self.events_after(&mut connection, cursor, rows).await
    }

    /// Moves a cursor this transaction holds.
    pub async fn move_cursor(
        &self,
        tx: &mut PgConnection,
        group: &str,
        cursor: &Cursor,
        place: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE event_groups SET place = $4, failures = 0, error = NULL, retry_at = NULL
             WHERE name = $1 AND topic = $2 AND part = $3",
        )
        .bind(group)
        .bind(cursor.topic.number())
        .bind(cursor.part)
        .bind(place)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Notes that what stands next was not taken, unless somebody has taken it meanwhile.
    pub async fn note_failure(
        &self,
        tx: &mut PgConnection,
        group: &str,
        cursor: &Cursor,
        error: &str,
        pause_ms: i64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE event_groups SET failures = failures + 1, error = $5, retry_at = now() + $6 * interval '1 millisecond'
             WHERE name = $1 AND topic = $2 AND part = $3 AND place = $4",
        )
        .bind(group)
        .bind(cursor.topic.number())
        .bind(cursor.part)
        .bind(cursor.place)
        .bind(error)
        .bind(pause_ms as f64)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// How far every group is behind in every part it reads.
    pub async fn event_lag(&self) -> Result<Vec<Lag>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.name, g.topic, g.part, g.place, greatest(coalesce(p.head, 0) - g.place, 0) AS behind, g.is_paused,
                    g.failures, g.error, coalesce(extract(epoch FROM now() - next.at), 0)::bigint AS age_s
             FROM event_groups g LEFT JOIN event_parts p USING (topic, part)
             LEFT JOIN LATERAL (
                 SELECT l.at FROM event_log l WHERE l.topic = g.topic AND l.part = g.part AND l.place > g.place ORDER BY l.place LIMIT 1
             ) next ON true
             ORDER BY g.name, g.topic, g.part",
        );
        let rows = rows.fetch_all(self.pool()).await?;
        let lag = |row: &sqlx::postgres::PgRow| {
            Ok(Lag {
                group: row.try_get("name")?,
                topic: topic(row.try_get("topic")?)?,
                part: row.try_get("part")?,
                place: row.try_get("place")?,
                behind: row.try_get("behind")?,
                age_s: row.try_get("age_s")?,
                is_paused: row.try_get("is_paused")?,
                failures: row.try_get("failures")?,
                error: row.try_get("error")?,
            })
        };
        rows.iter().map(lag).collect()
    }

    /// Stops a group from reading, or lets it go on; says how many parts that changed.
    pub async fn pause_group(&self, group: &str, topic: Option<Topic>, on: bool) -> Result<u64, StoreError> {
        let paused = sqlx::query(
            "UPDATE event_groups SET is_paused = $3 WHERE name = $1 AND ($2::smallint IS NULL OR topic = $2) AND is_paused <> $3",
        );
        let paused = paused.bind(group).bind(topic.map(Topic::number)).bind(on).execute(self.pool()).await?;
        Ok(paused.rows_affected())
    }

    /// Sets cursors of a group so that it takes again what is at `place` and after, or what was logged since a time; says how many.
    pub async fn replay_group(
        &self,
        group: &str,
        topic: Option<Topic>,
        from: ReplayFrom,
    ) -> Result<u64, StoreError> {
        let (place, since) = match from {
            ReplayFrom::Place(place) => (Some(place), None),
            ReplayFrom::Since(since) => (None, Some(since)),
        };
        let moved = sqlx::query(
            "UPDATE event_groups g SET failures = 0, error = NULL, retry_at = NULL, place = greatest(0, coalesce($3 - 1,
                 (SELECT min(l.place) - 1 FROM event_log l WHERE l.topic = g.topic AND l.part = g.part AND l.logged_at >= $4), g.place))
             WHERE g.name = $1 AND ($2::smallint IS NULL OR g.topic = $2)",
        );
        let moved = moved.bind(group).bind(topic.map(Topic::number)).bind(place).bind(since);
        Ok(moved.execute(self.pool()).await?.rows_affected())
    }

    /// Takes away the cursors and dead letters of a group; says how many parts it read.
    pub async fn forget_group(&self, group: &str) -> Result<u64, StoreError> {
        let mut tx = self.pool().begin().await?;
        let cursors = sqlx::query("DELETE FROM event_groups WHERE name = $1");
        let parts = cursors.bind(group).execute(&mut *tx).await?.rows_affected();
        sqlx::query("DELETE FROM dead_letters WHERE group_name = $1").bind(group).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(parts)
    }

    /// How many events wait for their place.
    pub async fn outbox_len(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(self.pool()).await?)
    }
}

/// From where a group is to read again.
#[derive(Debug, Clone, Copy)]
pub enum ReplayFrom {
    /// This place of each part.
    Place(i64),
    /// What was logged since then.
    Since(OffsetDateTime),
}
