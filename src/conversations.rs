//! What people do in conversations, the same over REST and over the socket.
//!
//! Nothing is decided twice: what is sent is read and bounded here ([`draft`]), the log decides whether its sender may
//! (`append_entries` holds the conversation's row while it looks), and what was committed is told to who shows it
//! ([`crate::journal::Committed`]) before its sender hears of it.

pub mod blocks;
pub mod draft;
mod following;
pub mod presence;
pub mod relay;
pub mod stream_chat;
pub mod talk;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use nova_actors::clock::Clock;
use nova_actors::conversation::{AppendError, Appended, Entry, EntryKind, Refusal, Role, Seq};
use nova_actors::id::{ConversationId, DeviceId, UserId};
use nova_actors::port::MessageLog;
use time::OffsetDateTime;

use crate::error::{ApiError, Code};
use crate::journal::{Committed, Journal, JournalConfig};
use crate::store::conversations::{Conversation, ConversationError, Edit, InboxKey};
use crate::store::entries::Which;
use crate::store::members::Listed;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use blocks::Blocks;
use draft::{Draft, Invalid};

/// How often what is past its retention, and positions whose time has come, are taken out of the log.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Entries of each conversation one statement takes.
const SWEEP_BITE: i64 = 1_000;
/// Cursors of devices that were not seen for so long are forgotten.
const CURSORS_KEPT: time::Duration = time::Duration::days(60);

/// Members one call may bring together.
pub const INVITED_MAX: usize = 1_000;

/// The conversations of this engine, as the doors reach them. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    store: Store,
    journal: Journal,
    committed: Arc<dyn Committed>,
    blocks: Blocks,
    clock: Arc<dyn Clock>,
}

impl Conversations {
    /// Conversations kept in `store`, and the journal that writes them, on the current runtime. `committed` hears of everything that
    /// is written here.
    pub fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        committed: Arc<dyn Committed>,
        blocks: Blocks,
    ) -> Conversations {
        let journal = Journal::start(store.clone(), JournalConfig::default(), metrics, committed.clone());
        Conversations { store, journal, committed, blocks, clock }
    }

    /// Where the logs are written and read.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes away what is past its time, for as long as the pool is open. Any node may; whoever comes second finds nothing left to do.
    pub async fn keep_swept(self) {
        let Conversations { store, clock, .. } = self;
        sweep(store, clock).await;
    }

    /// Finishes what is being written; nothing is taken after that.
    pub async fn close(&self) {
        self.journal.close().await;
    }

    /// The direct conversation of the caller with somebody; says whether it was made just now.
    pub async fn direct(&self, caller: UserId, other: UserId) -> Result<(Conversation, bool), ApiError> {
        if caller == other {
            return Err(ApiError::field("members", "must be somebody else"));
        }
        let now = self.clock.now();
        let (id, made) = self.store.direct_conversation(ConversationId::new(now), caller, other, now).await?;
        if made {
            self.committed.joined(&[caller, other]);
        }
        Ok((self.conversation(id, caller).await?, made))
    }

    /// A new group of the caller and others.
    pub async fn group(
        &self,
        caller: UserId,
        others: &[UserId],
        title: Option<&str>,
    ) -> Result<Conversation, ApiError> {
        if let Some(title) = title {
            draft::check_title(title)?;
        }
        if others.len() > INVITED_MAX {
            return Err(ApiError::field("members", format!("must be at most {INVITED_MAX}")));
        }
        let mut others: Vec<UserId> = others.iter().copied().filter(|user| *user != caller).collect();
        others.sort_unstable();
        others.dedup();
        let now = self.clock.now();
        let id = ConversationId::new(now);
        let first = draft::created_entry(id, caller, &others, title);
        let entry = self.store.create_group(id, caller, &others, title, first, now).await?;
        self.committed.committed(vec![Arc::new(entry)]);
        others.push(caller);
        self.committed.joined(&others);
        self.conversation(id, caller).await
    }

    /// A conversation as the caller sees it.
    pub async fn conversation(&self, id: ConversationId, caller: UserId) -> Result<Conversation, ApiError> {
        let found = self.store.conversation(id, caller).await?;
        let mut found = found.ok_or_else(not_a_member)?;
        self.shown(&mut found, caller);
        Ok(found)
    }

    /// The caller's conversations, the latest first.
    pub async fn inbox(
        &self,
        caller: UserId,
        after: Option<InboxKey>,
        rows: i64,
    ) -> Result<Vec<Conversation>, ApiError> {
        let mut inbox = self.store.inbox(caller, after, rows).await?;
        for conversation in &mut inbox {
            self.shown(conversation, caller);
        }
        Ok(inbox)
    }

    /// Another title or retention for a group.
    pub async fn edit(
        &self,
        id: ConversationId,
        caller: UserId,
        edit: Edit<'_>,
    ) -> Result<Conversation, ApiError> {
        if let Some(Some(title)) = edit.title {
            draft::check_title(title)?;
        }
        let changes = edit.title.is_some() || edit.retention_s.is_some();
        let entry = changes.then(|| draft::title_entry(id, caller, edit.title, edit.retention_s));
        let told = self.store.edit_conversation(id, caller, edit, entry).await?;
        self.tell(told);
        self.conversation(id, caller).await
    }

    /// Entries of a conversation, as the caller may see them.
    pub async fn entries(
        &self,
        id: ConversationId,
        caller: UserId,
        which: Which,
        limit: i64,
    ) -> Result<Vec<Entry>, ApiError> {
        self.reader(id, caller).await?;
        let now = self.clock.now();
        let mut entries = self.store.entries(id, which, limit).await?;
        for entry in &mut entries {
            show(entry, caller, now);
        }
        Ok(entries)
    }

    /// What the caller may do in a conversation; refuses who is not in it.
    pub async fn role(&self, id: ConversationId, caller: UserId) -> Result<Role, ApiError> {
        self.store.role(id, caller).await?.ok_or_else(not_a_member)
    }

    /// Appends what the caller sends; the answer comes after the commit.
    pub async fn send(
        &self,
        id: ConversationId,
        caller: UserId,
        client_msg_id: &str,
        draft: &Draft,
    ) -> Result<Appended, ApiError> {
        let entry = draft.entry(id, caller, client_msg_id, self.clock.now())?;
        Ok(self.journal.append(entry).await?)
    }

    /// A page of the members of a conversation.
    pub async fn members(
        &self,
        id: ConversationId,
        caller: UserId,
        after: Option<UserId>,
        rows: i64,
    ) -> Result<Vec<Listed>, ApiError> {
        self.role(id, caller).await?;
        Ok(self.store.members_page(id, after, rows).await?)
    }

    /// Brings somebody into a group, or gives them another role.
    pub async fn put_member(
        &self,
        id: ConversationId,
        caller: UserId,
        user: UserId,
        role: Option<Role>,
    ) -> Result<(), ApiError> {
        let entry = |change| draft::member_entry(id, caller, change);
        let told = self.store.put_member(id, caller, user, role, entry, self.clock.now()).await?;
        self.tell(told);
        // Where only the role changed they follow it already.
        self.committed.joined(&[user]);
        Ok(())
    }

    /// Takes somebody out of a group, or lets the caller leave it.
    pub async fn remove_member(
        &self,
        id: ConversationId,
        caller: UserId,
        user: UserId,
    ) -> Result<(), ApiError> {
        let entry = |change| draft::member_entry(id, caller, change);
        let told = self.store.remove_member(id, caller, user, entry, self.clock.now()).await?;
        let seq = told.as_ref().map(|entry| entry.seq);
        self.tell(told);
        if let Some(seq) = seq {
            self.committed.left(id, user, seq);
        }
        Ok(())
    }

    /// Until when the caller wants no notifications from a conversation.
    pub async fn mute(
        &self,
        id: ConversationId,
        caller: UserId,
        until: Option<OffsetDateTime>,
    ) -> Result<(), ApiError> {
        match self.store.mute_conversation(id, caller, until).await? {
            true => Ok(()),
            false => Err(not_a_member()),
        }
    }

    /// The caller has read up to `seq`; says how far they have read now.
    pub async fn read(&self, id: ConversationId, caller: UserId, seq: Seq) -> Result<Seq, ApiError> {
        let (read, moved) = self.store.mark_read(id, caller, seq).await?.ok_or_else(not_a_member)?;
        if moved {
            match self.blocks.of(caller).await {
                Ok(blocks) => self.committed.read(id, caller, read, blocks),
                // A hint; whoever looks the members up finds it.
                Err(error) => tracing::debug!(%error, "a receipt is not told"),
            }
        }
        Ok(read)
    }

    /// Devices have everything up to these numbers.
    pub async fn acknowledge(&self, acks: &[(DeviceId, ConversationId, Seq)]) -> Result<(), StoreError> {
        self.store.acknowledge(acks).await.map(drop)
    }

    /// The caller wants nothing to do with somebody, or does again.
    pub async fn block(&self, caller: UserId, other: UserId, on: bool) -> Result<(), ApiError> {
        if caller == other {
            return Err(ApiError::because(Code::Conflict, "nobody blocks themself"));
        }
        match on {
            true => self.store.block(caller, other, self.clock.now()).await?,
            false => self.store.unblock(caller, other, self.clock.now()).await?,
        }
        self.committed.blocked(caller, other);
        Ok(())
    }

    /// Who does not see whom.
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    fn tell(&self, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.committed.committed(vec![Arc::new(entry)]);
        }
    }

    fn shown(&self, conversation: &mut Conversation, caller: UserId) {
        if let Some(entry) = &mut conversation.last_entry {
            show(entry, caller, self.clock.now());
        }
    }
}

async fn sweep(store: Store, clock: Arc<dyn Clock>) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = store.pool().close_event() => return,
        }
        let now = clock.now();
        let swept = async {
            while store.sweep_entries(now, SWEEP_BITE).await? > 0 {}
            store.sweep_cursors(now - CURSORS_KEPT).await
        };
        if let Err(error) = swept.await {
            tracing::warn!(%error, "what is past its time is still there; it is tried again");
        }
    }
}

/// Leaves of an entry what `reader` may see of it at `now`.
pub fn show(entry: &mut Entry, reader: UserId, now: OffsetDateTime) {
    if entry.visible_to.as_ref().is_some_and(|users| !users.contains(&reader)) {
        entry.body = hidden().into();
    } else if matches!(entry.kind, EntryKind::Message | EntryKind::Edit) && entry.body.contains("\"until\"") {
        // The sweep takes it out of the log a little later.
        if let Some(body) = without_ended_location(&entry.body, now) {
            entry.body = body.into();
        }
    }
}

/// The body of an entry for those it is not shown to.
pub fn hidden() -> &'static str {
    r#"{"hidden":true}"#
}

fn without_ended_location(body: &str, now: OffsetDateTime) -> Option<String> {
    let mut body: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
    let until = body.get("location")?.get("until")?.as_str()?;
    let until = OffsetDateTime::parse(until, &time::format_description::well_known::Rfc3339).ok()?;
    if until > now {
        return None;
    }
    body.insert("location".to_owned(), serde_json::json!({ "ended": true }));
    serde_json::to_string(&body).ok()
}

fn not_a_member() -> ApiError {
    ApiError::new(Code::NotAMember)
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> ApiError {
        ApiError::field(invalid.field, invalid.message)
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> ApiError {
        match error {
            AppendError::Refused(refusal) => {
                let error = ApiError::new(refusal_code(refusal));
                match refusal {
                    Refusal::TooSoon { until } | Refusal::TimedOut { until } => {
                        let wait = until - nova_actors::clock::SystemClock.now();
                        error.retry_after(
                            wait.try_into().unwrap_or(Duration::ZERO).max(Duration::from_millis(1)),
                        )
                    }
                    _ => error,
                }
            }
            AppendError::Overloaded { retry_after } => {
                ApiError::new(Code::Overloaded).retry_after(retry_after)
            }
            AppendError::Unavailable { .. } => ApiError::unavailable(error, Duration::from_secs(2)),
        }
    }
}

/// What a refusal of the log is called outside. Whoever is not in a conversation does not learn whether there is one.
pub fn refusal_code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::IdempotencyMismatch => Code::IdempotencyMismatch,
        Refusal::NoSuchConversation | Refusal::NotAMember => Code::NotAMember,
        Refusal::NoSuchTarget => Code::NoSuchTarget,
        Refusal::NotYours => Code::NotYours,
        Refusal::TargetDeleted => Code::TargetDeleted,
        Refusal::Blocked => Code::Unreachable,
        Refusal::TooSoon { .. } => Code::SlowMode,
        Refusal::TimedOut { .. } => Code::TimedOut,
    }
}

impl From<ConversationError> for ApiError {
    fn from(error: ConversationError) -> ApiError {
        match error {
            ConversationError::NoSuchUser(user) => {
                ApiError::because(Code::NoSuchUser, format!("{user} is nobody"))
            }
            ConversationError::Blocked => Code::Unreachable.into(),
            ConversationError::NotFound => not_a_member(),
            ConversationError::NotAllowed => Code::RoleTooLow.into(),
            ConversationError::WrongKind => {
                ApiError::because(Code::Conflict, "only groups have members, titles and retention to change")
            }
            ConversationError::Full => ApiError::because(Code::Conflict, "the conversation is full"),
            ConversationError::Changed => Code::PreconditionFailed.into(),
            ConversationError::Store(error) => error.into(),
        }
    }
}
