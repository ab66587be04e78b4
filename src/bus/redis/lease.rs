//! Leases as keys that expire.

use std::sync::LazyLock;
use std::time::Duration;

use nova_actors::id::NodeId;
use nova_actors::port::{Lease, LeaseName};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};

/// Takes a free lease. The fence is one counter for all names, so no key is left behind by names nobody uses any more; it is never
/// below the server's time in microseconds, so it grows even when Redis has lost everything. Numbers stay below 2^53, where Lua
/// counts exactly, until the year 2255.
static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 1 then return false end \
         local time = redis.call('TIME') \
         local now = tonumber(time[1]) * 1000000 + tonumber(time[2]) \
         local last = tonumber(redis.call('GET', KEYS[2]) or '0') \
         local fence = string.format('%.0f', math.max(last + 1, now)) \
         redis.call('SET', KEYS[2], fence) \
         redis.call('SET', KEYS[1], ARGV[1] .. '#' .. fence, 'PX', ARGV[2]) \
         return fence",
    )
});

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('DEL', KEYS[1])",
    )
});

/// Where one lease lives.
pub(super) struct Keys {
    lease: String,
    fence: String,
}

impl Keys {
    pub(super) fn of(namespace: &str, name: &LeaseName) -> Keys {
        Keys { lease: format!("{{{namespace}}}:lease:{name}"), fence: format!("{{{namespace}}}:fence") }
    }
}

/// The fence, or nothing while somebody has the lease.
pub(super) async fn acquire(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    holder: NodeId,
    ttl: Duration,
) -> Result<Option<u64>, RedisError> {
    let mut script = ACQUIRE.prepare_invoke();
    script.key(&keys.lease).key(&keys.fence).arg(holder.to_string()).arg(milliseconds(ttl));
    script.invoke_async(connection).await
}

/// Whether it was still held.
pub(super) async fn renew(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    lease: &Lease,
    ttl: Duration,
) -> Result<bool, RedisError> {
    let mut script = RENEW.prepare_invoke();
    script.key(&keys.lease).arg(value(lease)).arg(milliseconds(ttl));
    script.invoke_async(connection).await
}

pub(super) async fn release(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    lease: &Lease,
) -> Result<(), RedisError> {
    let mut script = RELEASE.prepare_invoke();
    script.key(&keys.lease).arg(value(lease));
    script.invoke_async(connection).await
}

fn value(lease: &Lease) -> String {
    format!("{}#{}", lease.holder, lease.fence)
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
