//! Where the door ends and the deciders begin.
//!
//! The door knows sockets, tokens, limits and order; it does not know what a conversation is. A decider implements
//! [`Deciders`], is told of every device that connects, hears every request of it in order, and speaks back through its
//! [`DeviceHandle`] or, to all who subscribed to a topic, through [`Door::deliver`](super::Door::deliver).
//!
//! # Replay and cutover
//!
//! [`subscribe`](DeviceHandle::subscribe) first, read the log afterwards, page by page: [`room`](DeviceHandle::room) waits until the
//! device has taken most of the pages before, [`replay`](DeviceHandle::replay) sends one. At the end of the log say
//! [`cutover`](DeviceHandle::cutover) with the last sequence there was; while the answer is [`Cutover::Behind`], read on from
//! its `next`. What is delivered to the topic meanwhile is held back and merged, see [`order`](super::order).
//! When deliveries were lost on the way to a socket the door notices by the sequence and asks for the same through
//! [`Deciders::hole`].

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use nova_actors::id::{ConversationId, DeviceId, SessionId, StreamId, UserId};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};

use super::encoded::{Class, Encoded};
use super::goodbye::Goodbye;
use super::hub::{SocketKey, ToHub, ToSocket};
use super::order::Cutover;
use super::wire::{Answer, FromDevice};
use crate::error::Code;

/// Who decides. Every method is called on the thread of the socket, must not block it, and may be called for many sockets at once.
pub trait Deciders: Send + Sync + 'static {
    /// A device whose token was believed. `Err` ends the connection. Until this answers nothing else of the device is heard.
    fn open(&self, opening: Opening) -> LocalBoxFuture<'static, Result<Welcome, Goodbye>>;

    /// A request. Called in the order in which the device sent them; what must keep that order is put in line before this
    /// returns, and [`Hearing::Later`] only waits for the answer. At most [`IN_FLIGHT_MAX`](super::session::IN_FLIGHT_MAX)
    /// answers of one device are waited for; then its socket is read no further. The futures run to their end also when the
    /// device leaves.
    fn hear(&self, device: &DeviceHandle, request: FromDevice) -> Hearing;

    /// Deliveries of `topic` from sequence `next` on did not reach the device: replay from there and cut over. Called once per
    /// hole; the topic is held back until the cutover.
    fn hole(&self, device: &DeviceHandle, topic: Topic, next: u64);

    /// The device has left. Called once for every [`open`](Self::open) that was `Ok`.
    fn closed(&self, device: &DeviceHandle);
}

/// Who believes access tokens.
pub trait Tokens: Send + Sync + 'static {
    /// Whose token this is, or the goodbye that says why not.
    fn verify(&self, token: String) -> LocalBoxFuture<'static, Result<Believed, Goodbye>>;
}

/// What a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Believed {
    /// Who.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// Until when; the socket is closed with 4501 then, unless it was given a new one.
    pub expires_at: OffsetDateTime,
}

/// A device that connects.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The device.
    pub device: DeviceHandle,
    /// What the client calls itself.
    pub client: Option<String>,
    /// Conversations on its screen.
    pub focus: Vec<ConversationId>,
}

/// How a device is received.
#[derive(Default)]
pub struct Welcome {
    /// Entries that wait for it, as `connected` tells it.
    pub queue: u64,
    /// Conversations in which more waits than is pushed: it is told of each as a `gap`.
    pub gaps: usize,
    /// What happens after `connected` was sent: subscriptions and the replay.
    pub then: Option<LocalBoxFuture<'static, ()>>,
}

/// What becomes of a request. `Ok(None)` answers `ok` if the request had a `ref`.
pub enum Hearing {
    /// Answered.
    Now(Result<Option<Answer>, Refusal>),
    /// Will be answered.
    Later(LocalBoxFuture<'static, Result<Option<Answer>, Refusal>>),
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, as clients branch on it.
    pub code: Code,
    /// Why, in words.
    pub detail: String,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Refusal {
        Refusal { code, detail: code.title().to_owned(), retry_after_ms: None }
    }
}

/// What sockets subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(u128);

macro_rules! topics {
    ($($id:ty)+) => {
        $(impl From<$id> for Topic {
            fn from(id: $id) -> Topic {
                Topic(id.as_uuid().as_u128())
            }
        })+
    };
}

topics! { ConversationId UserId StreamId }

impl Topic {
    /// The coming and going of a user, for those who watch them: another topic than the user's own, so nobody hears what is for the user.
    pub fn presence(of: UserId) -> Topic {
        Topic(!of.as_uuid().as_u128())
    }
}

/// Something for all who subscribed to a topic.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// To whom.
    pub topic: Topic,
    /// Its sequence, for what must arrive in order, without hole and without repeat; `None` for hints.
    pub seq: Option<u64>,
    /// What it is worth.
    pub class: Class,
    /// Replaces what waits under the same slot and class: the hash of whose receipt or presence it is.
    pub slot: Option<u64>,
    /// What is said.
    pub message: Encoded,
    /// Users whose devices do not get it, in the order of their ids: who is typing, and those they have a block with.
    pub except: Option<Arc<[UserId]>>,
}

/// The device has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device has left")]
pub struct Gone;

/// It was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The worker of the socket is too busy; for hints: drop it, otherwise wait.
    #[error("the worker of the socket is busy")]
    Busy,
    /// The worker has ended.
    #[error("the device has left")]
    Gone,
}

/// One connected device, from anywhere. Cheap to clone; does not keep the connection open.
#[derive(Clone)]
pub struct DeviceHandle(Arc<Known>);

struct Known {
    user: UserId,
    device: DeviceId,
    session: SessionId,
    socket: SocketKey,
    hub: mpsc::Sender<ToHub>,
}

impl DeviceHandle {
    pub(super) fn new(
        believed: &Believed,
        session: SessionId,
        socket: SocketKey,
        hub: mpsc::Sender<ToHub>,
    ) -> DeviceHandle {
        let Believed { user, device, .. } = *believed;
        DeviceHandle(Arc::new(Known { user, device, session, socket, hub }))
    }

    /// Whose.
    pub fn user(&self) -> UserId {
        self.0.user
    }

    /// Which device.
    pub fn device(&self) -> DeviceId {
        self.0.device
    }

    /// Which connection of it.
    pub fn session(&self) -> SessionId {
        self.0.session
    }

    /// Says something to this device, or drops it when its worker is too busy.
    pub fn try_push(&self, class: Class, slot: Option<u64>, message: Encoded) -> Result<(), NotTaken> {
        let what = ToSocket::Push { class, slot, message };
        self.0.hub.try_send(ToHub::Socket(self.0.socket, what)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Busy,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Gone,
        })
    }

    /// Says something to this device; waits while its worker is too busy.
    pub async fn push(&self, class: Class, slot: Option<u64>, message: Encoded) -> Result<(), Gone> {
        self.tell(ToSocket::Push { class, slot, message }).await
    }

    /// From now on deliveries of `topic` are held back for this device, which has everything before `next`; until
    /// [`cutover`](Self::cutover). Again on the same topic: begins anew.
    pub async fn subscribe(&self, topic: Topic, next: u64) -> Result<(), Gone> {
        self.tell(ToSocket::Subscribe { topic, next }).await
    }

    /// Hears nothing of `topic` any more.
    pub async fn unsubscribe(&self, topic: Topic) -> Result<(), Gone> {
        self.tell(ToSocket::Unsubscribe { topic }).await
    }

    /// Sends a page of the log, in sequence; what the device has already is dropped.
    pub async fn replay(&self, topic: Topic, entries: Vec<(u64, Encoded)>) -> Result<(), Gone> {
        self.tell(ToSocket::Replay { topic, entries }).await
    }

    /// The log was read to its end, `top`, after the subscription.
    pub async fn cutover(&self, topic: Topic, top: u64) -> Result<Cutover, Gone> {
        let (answer, answered) = oneshot::channel();
        self.tell(ToSocket::Cutover { topic, top, answer }).await?;
        answered.await.map_err(|_| Gone)
    }

    /// Waits until the device has taken most of what it was sent.
    pub async fn room(&self) -> Result<(), Gone> {
        let (answer, answered) = oneshot::channel();
        self.tell(ToSocket::Room { answer }).await?;
        answered.await.map_err(|_| Gone)
    }

    /// Ends the connection; waits while its worker is too busy.
    pub async fn goodbye(&self, goodbye: Goodbye) -> Result<(), Gone> {
        self.tell(ToSocket::Goodbye(goodbye)).await
    }

    async fn tell(&self, what: ToSocket) -> Result<(), Gone> {
        self.0.hub.send(ToHub::Socket(self.0.socket, what)).await.map_err(|_| Gone)
    }
}

impl fmt::Debug for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Known { user, device, session, .. } = &*self.0;
        f.debug_struct("DeviceHandle")
            .field("user", user)
            .field("device", device)
            .field("session", session)
            .finish()
    }
}
