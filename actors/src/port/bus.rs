//! Between nodes: topics to speak on, and leases that say who may.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use super::Subscription;
use crate::id::NodeId;

/// The longest topic or lease name, in bytes: room for two ids and a word.
pub const NAME_LEN_MAX: usize = 128;

/// The largest payload, in bytes. What is larger travels as a reference to where it is stored.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Carries events and leases between nodes.
///
/// Events are delivered at most once, to everybody who is subscribed at that moment, the speaker's own node included; those of
/// one publisher on one topic arrive in the order they were published. What is lost is never lost unseen: the subscriber hears
/// [`BusEvent::Gap`](super::BusEvent::Gap) and reloads from where the truth is kept.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Gives `payload` to all who are subscribed to `topic`. `Ok` says it has left, not that anybody heard.
    async fn publish(&self, topic: &Topic, payload: Bytes) -> Result<(), BusError>;

    /// Hears everything published on `topic` after this has returned, until the subscription is dropped.
    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError>;

    /// Takes the lease `name` for `ttl`; `None` while anybody has it, the same holder included.
    async fn acquire(
        &self,
        name: &LeaseName,
        holder: NodeId,
        ttl: Duration,
    ) -> Result<Option<Lease>, BusError>;

    /// Keeps `lease` for `ttl` from now; `false` when it has expired, was released, or belongs to another: then stop.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, BusError>;

    /// Gives `lease` back. A lease that is not held any more is left to whoever has it now.
    async fn release(&self, lease: &Lease) -> Result<(), BusError>;

    /// How the bus is; the receiver always holds the latest.
    fn health(&self) -> watch::Receiver<BusHealth>;
}

/// Why the bus did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Not connected, or the answer did not come in time; may or may not have happened.
    #[error("the bus is unavailable: {reason}")]
    Unavailable {
        /// What the adapter knows of it, for logs.
        reason: String,
    },
    /// The payload exceeds [`PAYLOAD_BYTES_MAX`]; nothing was sent.
    #[error("a payload of {bytes} bytes exceeds {PAYLOAD_BYTES_MAX}")]
    PayloadTooLarge {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// Leases are counted in whole milliseconds, at least one and at most a day.
    #[error("a lease lasts from a millisecond to a day, not {ttl:?}")]
    Ttl {
        /// What was asked for.
        ttl: Duration,
    },
}

impl BusError {
    /// Refuses a payload above [`PAYLOAD_BYTES_MAX`]; adapters ask before they send.
    pub fn check_payload(payload: &Bytes) -> Result<(), Self> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            Err(Self::PayloadTooLarge { bytes: payload.len() })
        } else {
            Ok(())
        }
    }

    /// Refuses a time to live outside of a millisecond to a day; adapters ask before they send.
    pub fn check_ttl(ttl: Duration) -> Result<(), Self> {
        const TTL: std::ops::RangeInclusive<Duration> =
            Duration::from_millis(1)..=Duration::from_secs(86_400);
        if TTL.contains(&ttl) { Ok(()) } else { Err(Self::Ttl { ttl }) }
    }
}

/// How the bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BusHealth {
    /// Whether events pass at the moment.
    pub connected: bool,
    /// How long the latest probe took from publishing to hearing it; `None` before the first.
    pub lag: Option<Duration>,
}

/// The right to do something, until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: LeaseName,
    /// Who holds it.
    pub holder: NodeId,
    /// Grows with every acquisition of this name: what is written under a lease carries it, and the store refuses a lower one.
    pub fence: u64,
}

/// Why a text cannot be a name on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a name on the bus is not empty")]
    Empty,
    /// More than [`NAME_LEN_MAX`] bytes.
    #[error("a name on the bus has at most {NAME_LEN_MAX} bytes, this has {len}")]
    TooLong {
        /// Bytes of the text.
        len: usize,
    },
    /// Something that might mean more to an adapter than itself.
    #[error("byte {at} of a name on the bus is none of a-z 0-9 _ - . :")]
    Character {
        /// Place in the text, in bytes from 0.
        at: usize,
    },
}

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong { len: text.len() });
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b':');
    match text.bytes().position(|byte| !allowed(byte)) {
        Some(at) => Err(NameError::Character { at }),
        None => Ok(()),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        ///
        /// From 1 to [`NAME_LEN_MAX`] bytes of `a-z 0-9 _ - . :`, so that ids fit in and no adapter has to escape it. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name, when it is one.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                check_name(text)?;
                Ok(Self(text.into()))
            }

            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// What is spoken about on the bus.
    Topic;
    /// What a lease is on.
    LeaseName;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::ConversationId;

    #[test]
    fn names_are_bounded_and_plain() {
        let of_conversation = format!("conversation:{}", ConversationId::generate());
        assert_eq!(Topic::new(&of_conversation).unwrap().as_str(), of_conversation);
        assert_eq!(Topic::new(""), Err(NameError::Empty));
        assert_eq!(Topic::new("a".repeat(NAME_LEN_MAX)).unwrap().to_string().len(), NAME_LEN_MAX);
        assert_eq!(
            LeaseName::new("a".repeat(NAME_LEN_MAX + 1)),
            Err(NameError::TooLong { len: NAME_LEN_MAX + 1 })
        );
        for text in ["a b", "a*b", "a?b", "a[b", "a\nb", "aéb", "aAb", "a/b"] {
            assert_eq!(LeaseName::new(text), Err(NameError::Character { at: 1 }), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_ends_in_a_panic(text in any::<String>()) {
            if let Ok(name) = Topic::new(&text) {
                prop_assert_eq!(name.as_str(), text);
            }
        }
    }
}
