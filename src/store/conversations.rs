//! Conversations in PostgreSQL: making them, finding them, the inbox.

use nova_actors::conversation::{Entry, NewEntry, Role, Seq};
use nova_actors::id::{ConversationId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::entries::{self, Outcome, corrupt, unsigned, unsigned_epoch};
use super::{Store, StoreError};

/// What kind of conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of two people; there is one for each pair.
    Direct,
    /// Of those somebody brought together.
    Group,
    /// Beside a live stream; everybody may write.
    Live,
}

impl Kind {
    /// As the database and the API name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Group => "group",
            Kind::Live => "live",
        }
    }

    fn read(text: &str) -> Result<Kind, StoreError> {
        let known = [Kind::Direct, Kind::Group, Kind::Live].into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| corrupt(format!("a conversation of kind {text}")))
    }
}

/// A conversation as one of its members sees it.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its kind.
    pub kind: Kind,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// The other one of a direct conversation.
    pub peer: Option<UserId>,
    /// Its history.
    pub epoch: u32,
    /// The newest entry.
    pub last_seq: Seq,
    /// How long entries are kept; for ever when absent.
    pub retention_s: Option<i64>,
    /// Grows with every change of the title and the retention.
    pub version: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When its newest entry was committed.
    pub last_at: OffsetDateTime,
    /// The reader's role.
    pub role: Role,
    /// How far the reader has read.
    pub read_seq: Seq,
    /// The reader joined after this entry.
    pub joined_seq: Seq,
    /// Until when the reader wants no notifications from it.
    pub muted_until: Option<OffsetDateTime>,
    /// The newest entry, unless it was removed by retention.
    pub last_entry: Option<Entry>,
}

impl Conversation {
    /// Entries the reader has not read: derived, never counted on its own.
    pub fn unread(&self) -> u64 {
        self.last_seq.saturating_sub(self.read_seq.max(self.joined_seq))
    }
}

/// Where a list of conversations goes on: the newest entry's time, then the id.
pub type InboxKey = (OffsetDateTime, ConversationId);

/// Why a conversation was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// Somebody named is no user.
    #[error("no such user")]
    NoSuchUser(UserId),
    /// One has blocked the other.
    #[error("one has blocked the other")]
    Blocked,
    /// There is no such conversation, or the caller is not in it.
    #[error("no such conversation")]
    NotFound,
    /// The caller's role is not enough.
    #[error("the role is not enough")]
    NotAllowed,
    /// This cannot be done to a conversation of this kind.
    #[error("not to a conversation of this kind")]
    WrongKind,
    /// The conversation has as many members as it may.
    #[error("full")]
    Full,
    /// The conversation was changed meanwhile.
    #[error("changed meanwhile")]
    Changed,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ConversationError {
    fn from(error: sqlx::Error) -> Self {
        ConversationError::Store(error.into())
    }
}

/// Members of one conversation at most; a larger audience is a live conversation.
pub const MEMBERS_MAX: usize = 10_000;

const COLUMNS: &str =
    "c.id, c.kind, c.title, c.epoch, c.last_seq, c.retention_s, c.version, c.created_at, c.last_at,
    CASE WHEN c.direct_low = m.user_id THEN c.direct_high ELSE c.direct_low END AS peer,
    m.role, m.read_seq, m.joined_seq, m.muted_until,
    e.seq, e.kind AS entry_kind, e.sender, e.client_msg_id, e.at, e.body::text AS body";

impl Store {
    /// The direct conversation of two people; made when they have none yet. Says whether it was made.
    pub async fn direct_conversation(
        &self,
        id: ConversationId,
        caller: UserId,
        other: UserId,
        now: OffsetDateTime,
    ) -> Result<(ConversationId, bool), ConversationError> {
        let mut tx = self.pool().begin().await?;
        users_exist(&mut tx, &[other]).await?;
        let (low, high) = if caller < other { (caller, other) } else { (other, caller) };
        let found: Option<Uuid> = sqlx::query_scalar(
            "SELECT id FROM conversations WHERE kind = 'direct' AND direct_low = $1 AND direct_high = $2",
        )
        .bind(low.as_uuid())
        .bind(high.as_uuid())
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(found) = found {
            return Ok((ConversationId::from_uuid(found), false));
        }
        let blocked: bool = sqlx::query_scalar("SELECT is_blocked($1, $2)")
            .bind(low.as_uuid())
            .bind(high.as_uuid())
            .fetch_one(&mut *tx)
            .await?;
        if blocked {
            return Err(ConversationError::Blocked);
        }
        // Two who begin at once: the second waits for the first and then finds what it made.
        let made: Option<Uuid> = sqlx::query_scalar(
            "INSERT INTO conversations (id, kind, direct_low, direct_high, created_by, created_at, last_at)
             VALUES ($1, 'direct', $2, $3, $4, $5, $5)
             ON CONFLICT (direct_low, direct_high) WHERE kind = 'direct' DO NOTHING RETURNING id",
        )
        .bind(id.as_uuid())
        .bind(low.as_uuid())
        .bind(high.as_uuid())
        .bind(caller.as_uuid())
        .bind(now)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(made) = made else {
            let found: Uuid = sqlx::query_scalar(
                "SELECT id FROM conversations WHERE kind = 'direct' AND direct_low = $1 AND direct_high = $2",
            )
            .bind(low.as_uuid())
            .bind(high.as_uuid())
            .fetch_one(&mut *tx)
            .await?;
            return Ok((ConversationId::from_uuid(found), false));
        };
        join(&mut tx, id, &[(low, Role::Member), (high, Role::Member)], 0, now).await?;
        self.commit(tx).await?;
        Ok((ConversationId::from_uuid(made), true))
    }

    /// A new group of `owner` and `others`; `first` is its first entry and tells of them.
    pub async fn create_group(
        &self,
        id: ConversationId,
        owner: UserId,
        others: &[UserId],
        title: Option<&str>,
        first: NewEntry,
        now: OffsetDateTime,
    ) -> Result<Entry, ConversationError> {
        let mut tx = self.pool().begin().await?;
        users_exist(&mut tx, others).await?;
        not_blocked(&mut tx, owner, others).await?;
        sqlx::query(
            "INSERT INTO conversations (id, kind, title, created_by, created_at, last_at) VALUES ($1, 'group', $2, $3, $4, $4)",
        )
        .bind(id.as_uuid())
        .bind(title)
        .bind(owner.as_uuid())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let mut members: Vec<_> = others.iter().map(|user| (*user, Role::Member)).collect();
        members.push((owner, Role::Owner));
        join(&mut tx, id, &members, 0, now).await?;
        let entry = tell(&mut tx, first).await?;
        self.commit(tx).await?;
        Ok(entry)
    }

    /// A conversation as `user` sees it; `None` when they are not in it.
    pub async fn conversation(
        &self,
        id: ConversationId,
        user: UserId,
    ) -> Result<Option<Conversation>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM members m JOIN conversations c ON c.id = m.conversation_id
             LEFT JOIN entries e ON e.conversation_id = c.id AND e.seq = c.last_seq AND e.seq > c.removed_seq
             WHERE c.id = $1 AND m.user_id = $2 AND m.left_at IS NULL"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id.as_uuid()).bind(user.as_uuid());
        row.fetch_optional(self.pool()).await?.as_ref().map(conversation).transpose()
    }

    /// The conversations of `user` with their newest entries, the latest first, in one statement. Direct conversations in which one has
    /// blocked the other are not among them.
    pub async fn inbox(
        &self,
        user: UserId,
        after: Option<InboxKey>,
        rows: i64,
    ) -> Result<Vec<Conversation>, StoreError> {
        let sql = format!(
            "WITH page AS MATERIALIZED (
                 SELECT c.id FROM members m JOIN conversations c ON c.id = m.conversation_id
                 WHERE m.user_id = $1 AND m.left_at IS NULL
                   AND ($2::timestamptz IS NULL OR (c.last_at, c.id) < ($2, $3))
                   AND NOT (c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high))
                 ORDER BY c.last_at DESC, c.id DESC LIMIT $4
             )
             SELECT {COLUMNS} FROM page JOIN conversations c ON c.id = page.id
             JOIN members m ON m.conversation_id = c.id AND m.user_id = $1
             LEFT JOIN entries e ON e.conversation_id = c.id AND e.seq = c.last_seq AND e.seq > c.removed_seq
             ORDER BY c.last_at DESC, c.id DESC"
        );
        let (at, id) = after.map(|(at, id)| (at, id.as_uuid())).unzip();
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(user.as_uuid()).bind(at).bind(id).bind(rows);
        rows.fetch_all(self.pool()).await?.iter().map(conversation).collect()
    }

    /// Gives a group another title or retention; `None` leaves it as it is. `entry` tells of the title. With `version` only when nobody
    /// changed it since.
    pub async fn edit_conversation(
        &self,
        id: ConversationId,
        caller: UserId,
        edit: Edit<'_>,
        entry: Option<NewEntry>,
    ) -> Result<Option<Entry>, ConversationError> {
        let mut tx = self.pool().begin().await?;
        let held = hold(&mut tx, id, caller).await?;
        if held.kind != Kind::Group {
            return Err(ConversationError::WrongKind);
        }
        if held.role < Role::Admin {
            return Err(ConversationError::NotAllowed);
        }
        if edit.version.is_some_and(|version| version != held.version) {
            return Err(ConversationError::Changed);
        }
        sqlx::query(
            "UPDATE conversations SET title = CASE WHEN $2 THEN $3 ELSE title END,
                    retention_s = CASE WHEN $4 THEN $5 ELSE retention_s END, version = version + 1 WHERE id = $1",
        )
        .bind(id.as_uuid())
        .bind(edit.title.is_some())
        .bind(edit.title.flatten())
        .bind(edit.retention_s.is_some())
        .bind(edit.retention_s.flatten())
        .execute(&mut *tx)
        .await?;
        let told = match entry {
            Some(entry) => Some(tell(&mut tx, entry).await?),
            None => None,
        };
        self.commit(tx).await?;
        Ok(told)
    }
}

impl Store {
    /// Gives every conversation an epoch it never had; says which, and of how many. Whoever knows another one has to read anew.
    ///
    /// The epoch comes from the clock and not from the database alone: one that is restored from the same backup twice would come to the same
    /// number twice, with different histories behind it.
    pub async fn begin_epoch(&self, now: OffsetDateTime) -> Result<(i32, u64), StoreError> {
        let epoch = i32::try_from((now - EPOCHS_BEGAN).whole_seconds()).unwrap_or(i32::MAX);
        let mut tx = self.pool().begin().await?;
        // However many there are.
        sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut *tx).await?;
        let changed = sqlx::query("UPDATE conversations SET epoch = greatest(epoch + 1, $1)");
        let changed = changed.bind(epoch).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok((epoch, changed))
    }
}

/// From when the seconds of later epochs are counted; the first epoch of every conversation is 1.
const EPOCHS_BEGAN: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

/// What is to be changed of a conversation; the outer `None` leaves it, the inner takes it away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edit<'a> {
    /// The title.
    pub title: Option<Option<&'a str>>,
    /// Seconds entries are kept.
    pub retention_s: Option<Option<i64>>,
    /// The version the caller has seen.
    pub version: Option<i64>,
}

/// A conversation whose row is locked: nothing of its log, its members or itself changes until the transaction ends.
pub(super) struct Held {
    pub(super) kind: Kind,
    pub(super) version: i64,
    pub(super) last_seq: i64,
    /// The caller's.
    pub(super) role: Role,
}

pub(super) async fn hold(
    tx: &mut PgConnection,
    id: ConversationId,
    caller: UserId,
) -> Result<Held, ConversationError> {
    let row =
        sqlx::query("SELECT kind, version, last_seq FROM conversations WHERE id = $1 FOR NO KEY UPDATE");
    let row = row.bind(id.as_uuid()).fetch_optional(&mut *tx).await?.ok_or(ConversationError::NotFound)?;
    // A statement of its own: it sees what was committed before the lock was given.
    let role = role_of(&mut *tx, id, caller).await?.ok_or(ConversationError::NotFound)?;
    Ok(Held {
        kind: Kind::read(row.try_get("kind")?)?,
        version: row.try_get("version")?,
        last_seq: row.try_get("last_seq")?,
        role,
    })
}

pub(super) async fn role_of(
    tx: &mut PgConnection,
    id: ConversationId,
    user: UserId,
) -> Result<Option<Role>, ConversationError> {
    let role: Option<String> = sqlx::query_scalar(
        "SELECT role FROM members WHERE conversation_id = $1 AND user_id = $2 AND left_at IS NULL",
    )
    .bind(id.as_uuid())
    .bind(user.as_uuid())
    .fetch_optional(tx)
    .await?;
    Ok(role.map(|role| read_role(&role)).transpose()?)
}

pub(super) fn read_role(role: &str) -> Result<Role, StoreError> {
    role.parse().map_err(|_| corrupt(format!("a member with the role {role}")))
}

/// Appends what the engine itself has to say within the transaction that makes it true.
pub(super) async fn tell(tx: &mut PgConnection, entry: NewEntry) -> Result<Entry, ConversationError> {
    let outcome = entries::append(tx, std::slice::from_ref(&entry)).await?.pop();
    match outcome {
        Some(Outcome::Appended(appended, _)) => Ok(appended_entry(&entry, &appended, None)),
        Some(Outcome::Refused(nova_actors::conversation::Refusal::Blocked)) => {
            Err(ConversationError::Blocked)
        }
        other => Err(corrupt(format!("the engine's own entry became {other:?}")).into()),
    }
}

/// The entry a draft has become.
pub(crate) fn appended_entry(
    entry: &NewEntry,
    appended: &nova_actors::conversation::Appended,
    body: Option<std::sync::Arc<str>>,
) -> Entry {
    let body = body.unwrap_or_else(|| entry.body.clone());
    Entry {
        conversation: entry.conversation,
        epoch: appended.epoch,
        seq: appended.seq,
        kind: entry.kind,
        sender: entry.sender,
        at: appended.at,
        client_msg_id: entry.client_msg_id.clone(),
        visible_to: entries::visible_to(&body).ok().flatten().or_else(|| entry.visible_to.clone()),
        body,
    }
}

/// Makes people members; who was one before comes back.
pub(super) async fn join(
    tx: &mut PgConnection,
    id: ConversationId,
    members: &[(UserId, Role)],
    after: i64,
    now: OffsetDateTime,
) -> Result<(), ConversationError> {
    sqlx::query(
        "INSERT INTO members (conversation_id, user_id, role, joined_at, joined_seq, read_seq)
         SELECT $1, user_id, role, $4, $5, $5 FROM unnest($2::uuid[], $3::text[]) AS new (user_id, role)
         ON CONFLICT (conversation_id, user_id) DO UPDATE SET role = excluded.role, joined_at = excluded.joined_at,
             joined_seq = excluded.joined_seq, read_seq = greatest(members.read_seq, excluded.read_seq), left_at = NULL",
    )
    .bind(id.as_uuid())
    .bind(members.iter().map(|(user, _)| user.as_uuid()).collect::<Vec<_>>())
    .bind(members.iter().map(|(_, role)| role.as_str()).collect::<Vec<_>>())
    .bind(now)
    .bind(after)
    .execute(tx)
    .await?;
    Ok(())
}

/// Refuses users that do not exist, were deleted or are suspended.
pub(super) async fn users_exist(tx: &mut PgConnection, users: &[UserId]) -> Result<(), ConversationError> {
    let ids: Vec<Uuid> = users.iter().map(|user| user.as_uuid()).collect();
    let missing: Option<Uuid> = sqlx::query_scalar(
        "SELECT id FROM unnest($1::uuid[]) AS asked (id)
         WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = asked.id AND u.deleted_at IS NULL AND u.suspended_at IS NULL) LIMIT 1",
    )
    .bind(ids)
    .fetch_optional(tx)
    .await?;
    missing.map_or(Ok(()), |id| Err(ConversationError::NoSuchUser(UserId::from_uuid(id))))
}

/// Refuses when `user` and any of `others` have a block between them.
pub(super) async fn not_blocked(
    tx: &mut PgConnection,
    user: UserId,
    others: &[UserId],
) -> Result<(), ConversationError> {
    let ids: Vec<Uuid> = others.iter().map(|user| user.as_uuid()).collect();
    let blocked: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM unnest($2::uuid[]) AS other (id) WHERE is_blocked($1, other.id))",
    )
    .bind(user.as_uuid())
    .bind(ids)
    .fetch_one(tx)
    .await?;
    if blocked { Err(ConversationError::Blocked) } else { Ok(()) }
}

fn conversation(row: &PgRow) -> Result<Conversation, StoreError> {
    let id = ConversationId::from_uuid(row.try_get("id")?);
    let kind = Kind::read(row.try_get("kind")?)?;
    let last_entry = match row.try_get::<Option<i64>, _>("seq")? {
        None => None,
        Some(_) => Some(entries::read(id, row, "entry_kind")?),
    };
    Ok(Conversation {
        id,
        kind,
        title: row.try_get("title")?,
        peer: match kind {
            Kind::Direct => row.try_get::<Option<Uuid>, _>("peer")?.map(UserId::from_uuid),
            Kind::Group | Kind::Live => None,
        },
        epoch: unsigned_epoch(row.try_get("epoch")?),
        last_seq: unsigned(row.try_get("last_seq")?),
        retention_s: row.try_get("retention_s")?,
        version: row.try_get("version")?,
        created_at: row.try_get("created_at")?,
        last_at: row.try_get("last_at")?,
        role: read_role(row.try_get("role")?)?,
        read_seq: unsigned(row.try_get("read_seq")?),
        joined_seq: unsigned(row.try_get("joined_seq")?),
        muted_until: row.try_get("muted_until")?,
        last_entry,
    })
}
