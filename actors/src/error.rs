//! Why a message did not arrive, or an actor did not come.

use std::{fmt, time::Duration};

/// Why [`Address::try_send`](crate::address::Address::try_send) did not leave the message. Nothing has happened.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<M> {
    /// The mailbox is full. Refuse, drop or wait, as the message deserves.
    #[error("the mailbox is full")]
    Full(M),
    /// The actor is asleep or dead. Look it up again.
    #[error("the actor is not there any more")]
    Closed(M),
}

impl<M> TrySendError<M> {
    /// The message, as it was.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(message) | Self::Closed(message) => message,
        }
    }
}

/// Why [`Address::send`](crate::address::Address::send) has no answer.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError<M> {
    /// The mailbox was full the whole time. Nothing has happened.
    #[error("the mailbox is full")]
    Full(M),
    /// The actor is asleep or dead. Nothing has happened; look it up again.
    #[error("the actor is not there any more")]
    Closed(M),
    /// The answer did not come in time. If the actor has not got to the message, it never will; else it has happened, or will.
    #[error("the actor did not answer in time")]
    TimedOut,
    /// The actor ended with the message in its hands or in its mailbox. It may have happened.
    #[error("the actor ended before it answered")]
    Died,
}

// Messages print nothing of themselves: they carry what people wrote.
impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
        })
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full",
            Self::Closed(_) => "Closed",
            Self::TimedOut => "TimedOut",
            Self::Died => "Died",
        })
    }
}

/// Why an actor could not be made from what is durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is nothing with this id.
    #[error("there is nothing with this id")]
    NotFound,
    /// It could not be loaded now; the next lookup tries again.
    #[error("could not be loaded: {reason}")]
    Failed {
        /// What is known of it, for logs.
        reason: String,
    },
}

/// Why the directory gives no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It panics again and again, and is left alone for so long.
    #[error("it fails again and again; come back in {retry_after:?}")]
    Unavailable {
        /// How long until it is tried again.
        retry_after: Duration,
    },
    /// As many actors live as may.
    #[error("as many actors live here as may: {live_max}")]
    Full {
        /// How many that is.
        live_max: usize,
    },
    /// The node is leaving.
    #[error("this node is draining")]
    Draining,
}

/// Why a message sent through the directory has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// There was nobody to give it to. Nothing has happened.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The mailbox was full. Nothing has happened.
    #[error("the mailbox is full")]
    MailboxFull,
    /// Time ran out before the message was in the mailbox. Nothing has happened.
    #[error("the actor could not be reached in time")]
    Unreached,
    /// As [`SendError::TimedOut`].
    #[error("the actor did not answer in time")]
    TimedOut,
    /// As [`SendError::Died`].
    #[error("the actor ended before it answered")]
    Died,
}
