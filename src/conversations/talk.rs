//! What devices say over the socket, and what they are shown of it: the deciders behind the WebSocket door.
//!
//! A device that connects follows all conversations of its user. First it subscribes, then the log is read from its cursor to the
//! end, page by page as it takes them, then it is cut over (`replay`): so nothing falls between what was and what comes. Whoever becomes a member
//! while connected follows the conversation from then on, and whoever is taken out hears of that last.

mod replay;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use nova_actors::clock::Clock;
use nova_actors::conversation::Seq;
use nova_actors::id::{ConversationId, DeviceId, UserId};
use nova_actors::port::MessageLog;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::Conversations;
use super::draft::{self, Draft};
use super::following::Following;
use super::presence::Presences;
use super::relay::{Relay, wire_entry};
use super::watch::Watching;
use crate::chat::Door;
use crate::chat::encoded::Class;
use crate::chat::goodbye::Goodbye;
use crate::chat::seam::{Deciders, DeviceHandle, Gone, Hearing, Opening, Refusal, Topic, Welcome};
use crate::chat::wire::{self, Answer, FromDevice, Push};
use crate::error::{ApiError, Code};
use crate::store::cursors::Resume;
use replay::REPLAY_LEN_MAX;

/// Acknowledgements are written so often; a node that dies repeats what was acknowledged since, and devices know it by its number.
const ACKS_EVERY: Duration = Duration::from_millis(250);
/// The deciders of conversations. Cheap to clone.
#[derive(Clone)]
pub struct Talk(Arc<Inner>);

struct Inner {
    conversations: Conversations,
    relay: Relay,
    presences: Presences,
    watching: Watching,
    following: Arc<Following>,
    door: Arc<OnceLock<Door>>,
    clock: Arc<dyn Clock>,
    /// How far devices said they are since that was written last: one number for each device and conversation.
    acks: Mutex<BTreeMap<(DeviceId, ConversationId), (UserId, Seq)>>,
}

impl Talk {
    /// Deciders over `conversations`; writes acknowledgements on the current runtime until the door is gone.
    pub fn start(
        conversations: Conversations,
        relay: Relay,
        presences: Presences,
        watching: Watching,
        door: Arc<OnceLock<Door>>,
        clock: Arc<dyn Clock>,
    ) -> Talk {
        let following = relay.following();
        let inner = Inner {
            conversations,
            relay,
            presences,
            watching,
            following,
            door,
            clock,
            acks: Mutex::default(),
        };
        let talk = Talk(Arc::new(inner));
        tokio::spawn(write_acks(Arc::downgrade(&talk.0)));
        tokio::spawn(look_after_joined(Arc::downgrade(&talk.0)));
        talk
    }

    /// Writes what devices acknowledged and was not written yet.
    pub async fn flush(&self) {
        self.0.flush().await;
    }

    /// `user` became a member of something: their devices here follow it.
    async fn joined(&self, user: UserId) {
        let Some(door) = self.0.door.get() else { return };
        for device in door.devices_of(user) {
            match self.0.conversations.store.resume(user, device.device()).await {
                // Gone already is as good.
                Ok(resumes) => drop(self.follow(&device, resumes).await),
                Err(error) => {
                    tracing::warn!(%error, "a new member's device is sent away to resume");
                    let _gone = device.goodbye(Goodbye::InsufficientState).await.is_err();
                }
            }
        }
    }

    /// Puts an entry in line at once, so that a device's entries keep the order in which it said them.
    fn send(
        &self,
        device: &DeviceHandle,
        of: ConversationId,
        client_msg_id: String,
        draft: &Draft,
    ) -> Hearing {
        let inner = &self.0;
        let entry = match draft.entry(of, device.user(), &client_msg_id, inner.clock.now()) {
            Ok(entry) => entry,
            Err(invalid) => return Hearing::Now(Err(refused(&invalid.into()))),
        };
        let answered = match inner.conversations.journal.submit(entry) {
            Ok(answered) => answered,
            Err(error) => return Hearing::Now(Err(refused(&error.into()))),
        };
        Hearing::Later(Box::pin(async move {
            let appended = answered.await.map_err(|error| refused(&error.into()))?;
            Ok(Some(Answer::Sent {
                conversation: of,
                client_msg_id,
                epoch: u64::from(appended.epoch),
                seq: appended.seq,
                at: appended.at,
                duplicate: appended.duplicate,
            }))
        }))
    }

    async fn pull(&self, user: UserId, pull: wire::Pull) -> Result<Answer, ApiError> {
        let conversations = &self.0.conversations;
        conversations.reader(pull.conversation, user).await?;
        let range = conversations.journal.range(pull.conversation, pull.after, pull.limit).await;
        let range = range.map_err(|error| ApiError::unavailable(error, Duration::from_secs(2)))?;
        let range = range.ok_or(Code::NotAMember)?;
        let epoch = u64::from(range.top.epoch);
        // All or nothing: entries that do not follow on what the client has are no help to it.
        let recovered = pull.epoch == epoch && pull.after <= range.top.seq && pull.after >= range.removed;
        let (now, mut entries) = (self.0.clock.now(), Vec::new());
        if recovered {
            for mut entry in range.entries {
                super::show(&mut entry, user, now);
                let body = serde_json::value::RawValue::from_string(entry.body.as_ref().to_owned());
                entries.push(wire_entry(&entry, body.map_err(ApiError::internal)?.into()));
            }
        }
        Ok(Answer::Entries { conversation: pull.conversation, epoch, entries, top: range.top.seq, recovered })
    }

    /// Tells those who follow that somebody writes; a hint, which is not worth a second try.
    fn typing(&self, user: UserId, typing: wire::Typing) -> Hearing {
        let wire::Typing { conversation, on } = typing;
        let blocks = self.0.conversations.blocks().clone();
        if let Some(hidden_from) = blocks.known(user) {
            self.0.relay.typing(conversation, user, on, hidden_from);
            return Hearing::Now(Ok(None));
        }
        let relay = self.0.relay.clone();
        Hearing::Later(Box::pin(async move {
            if let Ok(hidden_from) = blocks.of(user).await {
                relay.typing(conversation, user, on, hidden_from);
            }
            Ok(None)
        }))
    }

    async fn presence(&self, device: &DeviceHandle, asked: wire::Presence) -> Result<Answer, ApiError> {
        let wire::Presence { watch, conversations: mut counted } = asked;
        counted.sort_unstable();
        counted.dedup();
        for conversation in &counted {
            self.0.conversations.role(*conversation, device.user()).await?;
        }
        let (users, conversations) = self.0.presences.watch(device, watch, counted).await?;
        Ok(Answer::Presence { users, conversations })
    }
}

impl Inner {
    async fn flush(&self) {
        let acks = std::mem::take(&mut *self.acks.lock().unwrap_or_else(PoisonError::into_inner));
        if acks.is_empty() {
            return;
        }
        let rows: Vec<_> = acks.iter().map(|((device, of), (_, seq))| (*device, *of, *seq)).collect();
        if let Err(error) = self.conversations.acknowledge(&rows).await {
            // Not lost for good: the device is further behind than it said, and is shown again what it knows.
            tracing::warn!(%error, "acknowledgements were not written");
            return;
        }
        let mut delivered = BTreeMap::new();
        for ((_, of), (user, seq)) in acks {
            let reached = delivered.entry((of, user)).or_insert(seq);
            *reached = seq.max(*reached);
        }
        for ((of, user), seq) in delivered {
            // A hint; whoever looks the members up finds it.
            if let Ok(hidden_from) = self.conversations.blocks.of(user).await {
                self.relay.receipt(of, user, Some(seq), None, hidden_from);
            }
        }
    }
}

async fn write_acks(inner: std::sync::Weak<Inner>) {
    let mut ticks = interval(ACKS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        inner.flush().await;
    }
}

async fn look_after_joined(inner: std::sync::Weak<Inner>) {
    let Some(mut joined) = inner.upgrade().map(|inner| inner.relay.hear_joined()) else { return };
    loop {
        let users = match joined.recv().await {
            Ok(user) => HashSet::from([user]),
            Err(RecvError::Lagged(_)) => {
                let door = inner.upgrade().and_then(|inner| inner.door.get().cloned());
                door.map(|door| door.devices()).unwrap_or_default().iter().map(DeviceHandle::user).collect()
            }
            Err(RecvError::Closed) => return,
        };
        let Some(inner) = inner.upgrade() else { return };
        for user in users {
            Talk(inner.clone()).joined(user).await;
        }
    }
}

/// A refusal of the API, as the socket says it.
pub(crate) fn refused(error: &ApiError) -> Refusal {
    let mut detail = error.detail().to_owned();
    for field in error.problem("").errors {
        detail = format!("{detail}; {}: {}", field.field, field.message);
    }
    let retry_after_ms =
        error.retry_after_hint().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Refusal { code: error.code(), detail, retry_after_ms }
}

fn message(draft: wire::Draft) -> Result<draft::Message, Refusal> {
    // The fields are the same by name; the kind is one of a few words here.
    let read = |value| serde_json::from_value(value).map_err(|_| Refusal::from(Code::InvalidFields));
    Ok(draft::Message {
        text: draft.text,
        kind: draft.kind.map(|kind| read(kind.into())).transpose()?,
        reply_to: draft.reply_to,
        mentions: draft.mentions,
        attachments: draft
            .attachments
            .into_iter()
            .map(|attachment| match attachment {
                wire::Attachment::Id(media) => draft::Attachment::Id(media),
                wire::Attachment::Voice { media, duration_ms, waveform } => {
                    draft::Attachment::Voice { media, duration_ms, waveform }
                }
            })
            .collect(),
        location: draft.location.map(|location| draft::Location {
            latitude: location.latitude,
            longitude: location.longitude,
            accuracy_m: location.accuracy_m,
            scope: match location.scope {
                wire::LocationScope::Conversation => draft::LocationScope::Conversation,
                wire::LocationScope::Members => draft::LocationScope::Members,
            },
            members: location.members,
            until: location.until,
        }),
    })
}

fn new_key(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::now_v7().simple())
}

impl Deciders for Talk {
    fn open(&self, opening: Opening) -> LocalBoxFuture<'static, Result<Welcome, Goodbye>> {
        let live = self.clone();
        Box::pin(async move {
            let Opening { device, focus, .. } = opening;
            let store = &live.0.conversations.store;
            let mut resumes = store.resume(device.user(), device.device()).await.map_err(|error| {
                tracing::warn!(%error, "a device could not be told what waits for it");
                Goodbye::InsufficientState
            })?;
            // What is on the screen comes first.
            resumes.sort_by_key(|resume| !focus.contains(&resume.conversation));
            let waits =
                |resume: &Resume| Some(resume.top - resume.cursor).filter(|len| *len <= REPLAY_LEN_MAX);
            let queue = resumes.iter().filter_map(waits).sum();
            let gaps = resumes.iter().filter(|resume| waits(resume).is_none()).count();
            live.0.following.came(device.session());
            live.0.presences.came(&device);
            let then = async move {
                // A device that has left needs nothing more.
                let _: Result<(), Gone> = async {
                    let count = live.follow(&device, resumes).await?;
                    device.push(Class::Durable, None, wire::push(&Push::Drained { count })).await
                }
                .await;
            };
            Ok(Welcome { queue, gaps, then: Some(Box::pin(then)) })
        })
    }

    fn hear(&self, device: &DeviceHandle, request: FromDevice) -> Hearing {
        let (live, user) = (self.clone(), device.user());
        match request {
            FromDevice::Send(draft) => {
                let (of, id) = (draft.conversation, draft.client_msg_id.clone());
                match message(draft) {
                    Ok(message) => self.send(device, of, id, &Draft::Message(message)),
                    Err(refusal) => Hearing::Now(Err(refusal)),
                }
            }
            FromDevice::Edit(edit) => {
                let id = edit.client_msg_id.unwrap_or_else(|| new_key("edit"));
                match Draft::edit(edit.target, edit.text, edit.location) {
                    Ok(draft) => self.send(device, edit.conversation, id, &draft),
                    Err(invalid) => Hearing::Now(Err(refused(&invalid.into()))),
                }
            }
            FromDevice::Delete(delete) => {
                let id = delete.client_msg_id.unwrap_or_else(|| format!("delete-{}", delete.target));
                self.send(device, delete.conversation, id, &Draft::Delete { target: delete.target })
            }
            FromDevice::React(react) => {
                let id = react.client_msg_id.unwrap_or_else(|| new_key("react"));
                let draft = Draft::React { target: react.target, emoji: react.emoji, on: react.on };
                self.send(device, react.conversation, id, &draft)
            }
            FromDevice::Ack(ack) => {
                if self.0.following.has(device.session(), ack.conversation) {
                    let mut acks = self.0.acks.lock().unwrap_or_else(PoisonError::into_inner);
                    let acked = acks.entry((device.device(), ack.conversation)).or_insert((user, ack.seq));
                    acked.1 = acked.1.max(ack.seq);
                }
                Hearing::Now(Ok(None))
            }
            FromDevice::Read(read) => Hearing::Later(Box::pin(async move {
                let read = live.0.conversations.read(read.conversation, user, read.seq).await;
                read.map(|_| None).map_err(|error| refused(&error))
            })),
            FromDevice::Typing(typing) => {
                if self.0.following.has(device.session(), typing.conversation) {
                    return self.typing(user, typing);
                }
                Hearing::Now(Ok(None))
            }
            FromDevice::Pull(pull) => Hearing::Later(Box::pin(async move {
                live.pull(user, pull).await.map(Some).map_err(|error| refused(&error))
            })),
            FromDevice::Ping(_) => Hearing::Now(Ok(Some(Answer::Pong { at: self.0.clock.now() }))),
            FromDevice::Connect(_) | FromDevice::Refresh(_) => Hearing::Now(Err(Code::Conflict.into())),
            // Decided elsewhere, where there is somebody who decides it.
            FromDevice::Presence(asked) => {
                let device = device.clone();
                Hearing::Later(Box::pin(async move {
                    live.presence(&device, asked).await.map(Some).map_err(|error| refused(&error))
                }))
            }
            FromDevice::Watch(watch) => {
                let device = device.clone();
                Hearing::Later(Box::pin(async move {
                    let watching = live.0.watching.watch(&device, watch.stream).await;
                    watching.map(Some).map_err(|error| refused(&error))
                }))
            }
            FromDevice::Unwatch(unwatch) => {
                let device = device.clone();
                Hearing::Later(Box::pin(async move {
                    live.0.watching.unwatch(&device, unwatch.stream).await;
                    Ok(None)
                }))
            }
            FromDevice::Room(_) => Hearing::Now(Err(Code::NotFound.into())),
        }
    }

    fn hole(&self, device: &DeviceHandle, topic: Topic, next: u64) {
        let follows = self.0.following.of(device.session());
        let Some(of) = follows.into_iter().find(|of| Topic::from(*of) == topic) else { return };
        let (live, device) = (self.clone(), device.clone());
        actix_rt::spawn(async move {
            // A device that has left needs nothing more.
            let _: Result<u64, Gone> = live.replay(&device, of, next).await;
        });
    }

    fn closed(&self, device: &DeviceHandle) {
        let follows = self.0.following.left(device.session());
        self.0.presences.went(device);
        let (relay, watching, session) = (self.0.relay.clone(), self.0.watching.clone(), device.session());
        actix_rt::spawn(async move {
            watching.closed(session).await;
            for conversation in follows {
                relay.unfollow(conversation).await;
            }
        });
    }
}
