//! What a live stream is asked and told.

use std::sync::Arc;

use actix::Message;
use tokio::sync::oneshot;

use super::broadcast::Broadcast;
use super::state::{Departure, Farewell, Refusal, Session};
use crate::port::KeyHash;

/// A publisher asks to begin.
#[derive(Debug, Message)]
#[rtype(result = "Result<Grant, Refusal>")]
pub struct Publish {
    /// Of the key it has.
    pub key: KeyHash,
    /// Hears when the connection has to end. Dropped without a word, it means [`Farewell::Restarted`]; when its receiver is gone,
    /// so is the publisher.
    pub hang_up: oneshot::Sender<Farewell>,
}

/// A publisher may begin.
#[derive(Debug)]
pub struct Grant {
    /// What its media is written under.
    pub session: Session,
    /// Where its media goes.
    pub broadcast: Arc<Broadcast>,
}

/// A publisher's media can be played.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct OnAir {
    /// Whose.
    pub session: Session,
}

/// A publisher's connection has ended.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Left {
    /// Whose.
    pub session: Session,
    /// How.
    pub how: Departure,
}

/// Another key counts from now on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ChangeKey(pub KeyHash);

/// The stream was deleted.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Delete;

/// Another node goes on with the stream.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct GiveUp;

/// The owner has decided anew whether everybody may watch.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetPrivate(pub bool);
