//! Rate limits: who may ask how often. (Attempts to log in have limits of their own, where accounts are.)
//!
//! Each limit is a bucket per key that holds a minute's requests and refills evenly (GCRA, by `governor`). Buckets are
//! kept per node and in memory only. Answers tell how one stands, in the fields of
//! draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy: "ip";q=6000;w=60` and `RateLimit: "ip";r=5999;t=1`, where `t`
//! is the seconds until the bucket is full again. A refusal is 429 with `Retry-After`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use crate::config::LimitsConfig;
use crate::error::{ApiError, Code};
use crate::rest::client;

/// Buckets one limit remembers: about 12 MiB when all are used. When full, the bucket not used for longest is
/// forgotten, which makes it full again. Somebody who can ask from more addresses than this is not stopped by a
/// limit per address anyway, and those who ask most are never the ones forgotten.
const BUCKETS_MAX: usize = 100_000;

const WINDOW_S: u32 = 60;

/// The limits of one node.
#[derive(Debug)]
pub struct Limits {
    /// All requests from one address.
    ip: Option<Limit>,
    /// All requests of one user.
    user: Option<Limit>,
    /// Batches of what one user does with what they are shown.
    batches: Option<Limit>,
}

/// Batches a minute; a client that sends what it sees every few seconds needs a third of them.
const BATCHES_PER_MINUTE: u32 = 60;

impl Limits {
    /// The limits an operator chose; 0 switches one off.
    pub fn new(config: &LimitsConfig) -> Limits {
        Limits {
            ip: Limit::new("ip", config.ip_requests_per_minute),
            user: Limit::new("user", config.user_requests_per_minute),
            batches: Limit::new("events", config.user_requests_per_minute.min(BATCHES_PER_MINUTE)),
        }
    }

    /// Counts a request from an address.
    pub fn request_from(&self, address: IpAddr) -> Result<Option<Standing>, Refused> {
        self.ip.as_ref().map(|limit| limit.take(client::prefix(address))).transpose()
    }

    /// Counts a request of a user.
    pub fn request_of(&self, user: Uuid) -> Result<Option<Standing>, Refused> {
        self.user.as_ref().map(|limit| limit.take(user.as_u128())).transpose()
    }

    /// Counts a batch of what a user does.
    pub fn batch_of(&self, user: Uuid) -> Result<Option<Standing>, Refused> {
        self.batches.as_ref().map(|limit| limit.take(user.as_u128())).transpose()
    }

    /// What `RateLimit-Policy` says: the limits that count every request.
    pub fn policy(&self) -> Option<HeaderValue> {
        let limits = [&self.ip, &self.user].into_iter().flatten();
        let text = limits
            .map(|limit| format!("\"{}\";q={};w={WINDOW_S}", limit.name, limit.quota))
            .collect::<Vec<_>>()
            .join(", ");
        HeaderValue::from_str(&text).ok().filter(|_| !text.is_empty())
    }
}

/// How somebody stands with one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The limit's name.
    pub name: &'static str,
    /// Requests left right now.
    pub remaining: u32,
    /// Seconds until all of the quota is there again.
    pub full_in_s: u64,
}

/// What `RateLimit` says.
pub fn standing_header(standings: impl IntoIterator<Item = Standing>) -> Option<HeaderValue> {
    let mut text = String::with_capacity(48);
    for Standing { name, remaining, full_in_s } in standings {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}\"{name}\";r={remaining};t={full_in_s}")
            .expect("a string takes what it is given");
    }
    HeaderValue::try_from(text).ok().filter(|value| !value.is_empty())
}

/// Too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// How the refused stands.
    pub standing: Standing,
    /// When the next request would be let in.
    pub retry_after: Duration,
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        let detail = match refused.standing.name {
            "ip" => "too many requests from your address; wait as Retry-After says",
            "events" => {
                "too many batches of events by this user; send fewer that hold more, and wait as Retry-After says"
            }
            _ => "too many requests by this user; wait as Retry-After says",
        };
        ApiError::because(Code::RateLimited, detail).retry_after(refused.retry_after)
    }
}

/// One limit.
#[derive(Debug)]
pub(crate) struct Limit {
    name: &'static str,
    quota: NonZeroU32,
    limiter: RateLimiter<u128, Buckets, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
}

impl Limit {
    /// A bucket per key that holds `per_minute`; none for 0.
    pub(crate) fn new(name: &'static str, per_minute: u32) -> Option<Limit> {
        let quota = NonZeroU32::new(per_minute)?;
        let clock = DefaultClock::default();
        let limiter = RateLimiter::new(Quota::per_minute(quota), Buckets::new(BUCKETS_MAX), clock.clone());
        Some(Limit { name, quota, limiter, clock })
    }

    /// Takes one from the bucket of `key`.
    pub(crate) fn take(&self, key: u128) -> Result<Standing, Refused> {
        let standing = |remaining: u32| Standing {
            name: self.name,
            remaining,
            full_in_s: (u64::from(self.quota.get().saturating_sub(remaining)) * u64::from(WINDOW_S))
                .div_ceil(u64::from(self.quota.get())),
        };
        match self.limiter.check_key(&key) {
            Ok(state) => Ok(standing(state.remaining_burst_capacity())),
            Err(until) => {
                Err(Refused { standing: standing(0), retry_after: until.wait_time_from(self.clock.now()) })
            }
        }
    }
}

/// Where the buckets are kept: a cache that forgets when it is full.
#[derive(Debug)]
struct Buckets(quick_cache::sync::Cache<u128, Arc<InMemoryState>>);

impl Buckets {
    fn new(buckets_max: usize) -> Buckets {
        Buckets(quick_cache::sync::Cache::new(buckets_max))
    }
}

impl StateStore for Buckets {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let made = self.0.get_or_insert_with(key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(bucket) = made;
        bucket.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(per_minute: u32) -> Limits {
        Limits::new(&LimitsConfig {
            ip_requests_per_minute: per_minute,
            user_requests_per_minute: per_minute,
            ip_logins_per_minute: per_minute,
            account_logins_per_minute: per_minute,
        })
    }

    #[test]
    fn a_bucket_empties_and_says_when_to_come_back() {
        let limits = limits(3);
        let address = "192.0.2.1".parse().expect("an address");
        let left: Vec<_> = (0..3)
            .map(|_| limits.request_from(address).expect("let in").expect("counted").remaining)
            .collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = limits.request_from(address).expect_err("the bucket is empty");
        assert_eq!(refused.standing, Standing { name: "ip", remaining: 0, full_in_s: 60 });
        assert!((19..=20).contains(&refused.retry_after.as_secs()), "{refused:?}");
        assert!(limits.request_from("192.0.2.2".parse().expect("an address")).is_ok());
    }

    #[test]
    fn zero_switches_a_limit_off() {
        let limits = limits(0);
        let address = "192.0.2.1".parse().expect("an address");
        assert!((0..1000).all(|_| limits.request_from(address) == Ok(None)));
        assert_eq!(limits.policy(), None);
        assert_eq!(standing_header([]), None);
    }

    #[test]
    fn headers_are_structured_fields() {
        assert_eq!(limits(100).policy().expect("two limits"), "\"ip\";q=100;w=60, \"user\";q=100;w=60");
        let standing = |name| Standing { name, remaining: 99, full_in_s: 1 };
        let header = standing_header([standing("ip"), standing("user")]).expect("two standings");
        assert_eq!(header, "\"ip\";r=99;t=1, \"user\";r=99;t=1");
    }

    #[test]
    fn memory_is_bounded_and_the_busy_are_remembered() {
        let buckets = Buckets::new(1_000);
        let limiter: RateLimiter<u128, Buckets, DefaultClock, StateInformationMiddleware> = RateLimiter::new(
            Quota::per_minute(NonZeroU32::new(50).expect("not zero")),
            buckets,
            DefaultClock::default(),
        );
        for stranger in 0..100_000_u128 {
            assert!(limiter.check_key(&(stranger + 1)).is_ok());
            if stranger % 10 == 0 {
                let _ = limiter.check_key(&0);
            }
        }
        assert!(limiter.check_key(&0).is_err(), "the one who asks most was forgotten");
        assert!(limiter.into_state_store().0.len() <= 1_000);
    }
}
