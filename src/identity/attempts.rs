//! How often a log-in may be tried: from one network, for whatever account, and on one account, from wherever.
//!
//! Buckets as those of [`crate::rest::limits`], on each node: several nodes let in several times as much. An account is counted by what it
//! is looked up by, whether it exists or not, so a limit tells nobody who has one.

use std::net::IpAddr;

use super::{Identity, IdentityError, names, refresh};
use crate::config::LimitsConfig;
use crate::rest::client;
use crate::rest::limits::Limit;

/// The limits of one node.
#[derive(Debug)]
pub(super) struct Attempts {
    networks: Option<Limit>,
    accounts: Option<Limit>,
}

impl Attempts {
    /// As configured; 0 switches one off.
    pub(super) fn new(config: &LimitsConfig) -> Attempts {
        Attempts {
            networks: Limit::new("ip_logins", config.ip_logins_per_minute),
            accounts: Limit::new("account_logins", config.account_logins_per_minute),
        }
    }

    fn of_address(&self, address: IpAddr) -> Result<(), IdentityError> {
        take(self.networks.as_ref(), client::prefix(address))
    }

    fn on_account(&self, key: &str) -> Result<(), IdentityError> {
        let head = refresh::hash(key.as_bytes()).first_chunk::<16>().copied().unwrap_or_default();
        take(self.accounts.as_ref(), u128::from_be_bytes(head))
    }
}

fn take(limit: Option<&Limit>, key: u128) -> Result<(), IdentityError> {
    let Some(limit) = limit else { return Ok(()) };
    limit.take(key).map(drop).map_err(|refused| IdentityError::TooManyAttempts(refused.retry_after))
}

impl Identity {
    /// Counts an attempt to log in, register or refresh from an address.
    pub fn attempt_from(&self, address: IpAddr) -> Result<(), IdentityError> {
        self.parts.attempts.of_address(address)
    }

    /// Counts an attempt to log in to whatever account `login` is looked up as.
    pub fn attempt_on(&self, login: &str) -> Result<(), IdentityError> {
        self.parts.attempts.on_account(&names::login_key(login))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn attempts(per_minute: u32) -> Attempts {
        Attempts::new(&LimitsConfig {
            ip_requests_per_minute: 0,
            user_requests_per_minute: 0,
            ip_logins_per_minute: per_minute,
            account_logins_per_minute: per_minute,
        })
    }

    #[test]
    fn attempts_run_out_for_one_account_and_one_network() {
        let attempts = attempts(3);
        let from = |text: &str| attempts.of_address(text.parse().unwrap());
        for _ in 0..3 {
            assert!(attempts.on_account("ann").is_ok() && from("2001:db8::1").is_ok());
        }
        let Err(IdentityError::TooManyAttempts(wait)) = attempts.on_account("ann") else {
            panic!("a fourth attempt is let in");
        };
        assert!(wait <= Duration::from_secs(20) && wait > Duration::from_secs(10), "{wait:?}");
        assert!(from("2001:db8::ffff").is_err(), "the same /64");
        assert!(attempts.on_account("bo").is_ok());
        assert!(from("2001:db8:0:1::1").is_ok() && from("192.0.2.1").is_ok());
    }

    #[test]
    fn nought_is_no_limit() {
        let attempts = attempts(0);
        assert!((0..1_000).all(|_| attempts.on_account("ann").is_ok()));
    }
}
