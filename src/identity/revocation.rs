//! What was ended before its time: access tokens are believed without asking anybody, so every node must know which not to believe.
//!
//! A revocation is written to PostgreSQL, kept here, told to the other nodes over the bus, and kept by them, each for as long as an access
//! token of it may live. Nodes load what they missed at their start and after a gap on the bus, and every few seconds while the bus
//! is away. Bounded by what can be revoked in the life of an access token: an entry is 40 bytes, and each stands for a log-in.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use nova_actors::id::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// Revocations a listener may be behind; one that is further behind hears `Lagged` and asks [`Revocations::why`] for all it holds.
pub const LISTENER_LEN_MAX: usize = 1_024;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The device logged out.
    LoggedOut,
    /// Another device of the user removed it.
    Removed,
    /// An old refresh token was used: two parties had the session.
    Reuse,
    /// The password was set anew.
    Password,
    /// The user was suspended.
    Suspended,
    /// The account was deleted.
    Deleted,
    /// The user logged in on too many others since.
    Evicted,
}

impl Why {
    const ALL: [Why; 7] =
        [Why::LoggedOut, Why::Removed, Why::Reuse, Why::Password, Why::Suspended, Why::Deleted, Why::Evicted];

    /// As the database names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::LoggedOut => "logged_out",
            Why::Removed => "removed",
            Why::Reuse => "reuse",
            Why::Password => "password",
            Why::Suspended => "suspended",
            Why::Deleted => "deleted",
            Why::Evicted => "evicted",
        }
    }

    /// Reads what [`as_str`](Self::as_str) wrote.
    pub fn read(text: &str) -> Option<Why> {
        Why::ALL.into_iter().find(|why| why.as_str() == text)
    }
}

/// A session that ended, as listeners hear it: its sockets are to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Whose it was.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Why.
    pub why: Why,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// What this node knows to be revoked.
#[derive(Debug)]
pub struct Revocations {
    /// By device; forgotten at the second given.
    devices: RwLock<HashMap<DeviceId, (Why, i64)>>,
    listeners: broadcast::Sender<Revoked>,
    token_s: i64,
}

impl Revocations {
    /// None yet; each is kept for the life of an access token, `token_s`, and the skew of clocks.
    pub fn new(token_s: u32) -> Revocations {
        let token_s = i64::from(token_s) + super::tokens::CLOCK_SKEW_S;
        Revocations { devices: RwLock::default(), listeners: broadcast::channel(LISTENER_LEN_MAX).0, token_s }
    }

    /// Remembers a revocation and tells the listeners, once.
    pub fn add(&self, revoked: Revoked) {
        let until = revoked.at.saturating_add(self.token_s);
        let known = self
            .devices
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(revoked.device, (revoked.why, until));
        if known.is_none() {
            // Nobody listening is no error.
            let _: Result<usize, _> = self.listeners.send(revoked);
        }
    }

    /// Why the session of `device` has ended, if it has.
    pub fn why(&self, device: DeviceId) -> Option<Why> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.get(&device).map(|(why, _)| *why)
    }

    /// Hears every session that ends from now on.
    pub fn listen(&self) -> broadcast::Receiver<Revoked> {
        self.listeners.subscribe()
    }

    /// Forgets those whose tokens are dead by themselves.
    pub fn tidy(&self, now: OffsetDateTime) {
        let now = now.unix_timestamp();
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, (_, until)| *until > now);
        devices.shrink_to_fit();
    }

    /// Since when to load revocations: older ones concern no living token.
    pub fn since(&self, now: OffsetDateTime) -> OffsetDateTime {
        now - time::Duration::seconds(self.token_s)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);

    fn revoked(why: Why) -> Revoked {
        Revoked { user: UserId::generate(), device: DeviceId::generate(), why, at: NOON.unix_timestamp() }
    }

    #[test]
    fn a_revocation_is_kept_as_long_as_a_token_lives() {
        let revocations = Revocations::new(900);
        let revoked = revoked(Why::Removed);
        assert_eq!(revocations.why(revoked.device), None);
        revocations.add(revoked);
        assert_eq!(revocations.why(revoked.device), Some(Why::Removed));
        revocations.tidy(NOON + time::Duration::seconds(900));
        assert_eq!(revocations.why(revoked.device), Some(Why::Removed));
        revocations.tidy(NOON + time::Duration::seconds(961));
        assert_eq!(revocations.why(revoked.device), None);
    }

    #[test]
    fn listeners_hear_each_once() {
        let revocations = Revocations::new(900);
        let mut listener = revocations.listen();
        let revoked = revoked(Why::Suspended);
        revocations.add(revoked);
        revocations.add(revoked);
        assert_eq!(listener.try_recv().ok(), Some(revoked));
        assert!(listener.try_recv().is_err());
    }

    #[test]
    fn reasons_are_read_again() {
        for why in Why::ALL {
            assert_eq!(Why::read(why.as_str()), Some(why));
            assert_eq!(serde_json::to_value(why).unwrap(), why.as_str());
        }
    }
}
