//! The chat beside a stream: what its owner and its moderators decide.

use std::sync::Arc;

use nova_actors::conversation::Entry;
use nova_actors::id::{ConversationId, StreamId, UserId};
use serde_json::json;
use time::OffsetDateTime;

use super::{Conversations, draft, not_a_member};
use crate::error::{ApiError, Code};
use crate::rest::instant;
use crate::store::conversations::ConversationError;
use crate::store::stream_chats::{Reader, StreamChat};

/// Seconds between two messages of one person at most.
pub const SLOW_MODE_MAX_S: i32 = 3_600;
/// Seconds somebody is timed out for at most: two weeks.
pub const TIME_OUT_MAX_S: i64 = 1_209_600;

impl Conversations {
    /// The chat of a stream as the caller finds it.
    pub async fn stream_chat(&self, stream: StreamId, caller: UserId) -> Result<StreamChat, ApiError> {
        let chat = self.store.stream_chat(stream, caller, self.clock.now()).await?;
        Ok(chat.ok_or(Code::NotFound)?)
    }

    /// What the caller may read; refuses who may not.
    pub async fn reader(&self, of: ConversationId, caller: UserId) -> Result<Reader, ApiError> {
        self.store.reader(of, caller).await?.ok_or_else(not_a_member)
    }

    /// Everybody but moderators waits so long between two messages.
    pub async fn slow_mode(
        &self,
        stream: StreamId,
        caller: UserId,
        seconds: i32,
    ) -> Result<StreamChat, ApiError> {
        let chat = self.moderated(stream, caller).await?;
        let what = json!({ "action": "slow_mode", "slow_mode_s": seconds });
        let entry = draft::moderated_entry(chat.conversation, caller, &what);
        let told = self.store.set_slow_mode(chat.conversation, seconds, entry).await;
        self.say(told)?;
        Ok(StreamChat { slow_mode_s: seconds, ..chat })
    }

    /// Makes somebody a moderator, or takes that away. The owner does.
    pub async fn moderator(
        &self,
        stream: StreamId,
        caller: UserId,
        user: UserId,
        on: bool,
    ) -> Result<(), ApiError> {
        let chat = self.stream_chat(stream, caller).await?;
        if chat.owner != caller {
            return Err(ApiError::because(Code::Forbidden, "only the stream's owner may do this"));
        }
        if user == chat.owner {
            return Err(ApiError::because(Code::Conflict, "the owner moderates without being made to"));
        }
        let what = json!({ "action": if on { "moderator" } else { "no_moderator" }, "user": user });
        let entry = draft::moderated_entry(chat.conversation, caller, &what);
        self.say(self.store.set_moderator(chat.conversation, user, on, entry).await)
    }

    /// Who moderates beside the owner.
    pub async fn moderators(&self, stream: StreamId, caller: UserId) -> Result<Vec<UserId>, ApiError> {
        let chat = self.stream_chat(stream, caller).await?;
        Ok(self.store.moderators(chat.conversation).await?)
    }

    /// Somebody may not write for so long; or may again.
    pub async fn time_out(
        &self,
        stream: StreamId,
        caller: UserId,
        user: UserId,
        seconds: Option<i64>,
    ) -> Result<Option<OffsetDateTime>, ApiError> {
        let chat = self.moderated(stream, caller).await?;
        let until = seconds.map(|seconds| self.clock.now() + time::Duration::seconds(seconds));
        let what = match until {
            Some(until) => json!({ "action": "timed_out", "user": user, "until": instant::text(until) }),
            None => json!({ "action": "not_timed_out", "user": user }),
        };
        let entry = draft::moderated_entry(chat.conversation, caller, &what);
        let by_owner = chat.owner == caller;
        self.say(self.store.time_out(chat.conversation, user, until, by_owner, entry).await)?;
        Ok(until)
    }

    async fn moderated(&self, stream: StreamId, caller: UserId) -> Result<StreamChat, ApiError> {
        let chat = self.stream_chat(stream, caller).await?;
        if !chat.is_moderator {
            return Err(ApiError::because(Code::Forbidden, "only moderators of this chat may do this"));
        }
        Ok(chat)
    }

    fn say(&self, told: Result<Option<Entry>, ConversationError>) -> Result<(), ApiError> {
        if let Some(entry) = told? {
            self.committed.committed(vec![Arc::new(entry)]);
        }
        Ok(())
    }
}
