//! The nodes of one installation: each says in PostgreSQL that it is there and where the others reach it.
//!
//! What nodes ask of each other goes over the HTTP door and is signed: a request carries its time and an HMAC over it, its method and
//! its target, with a key that all nodes of a database share. Nobody who listens learns the key, and what was heard is no good a
//! minute later. Nothing that is asked for this way changes anything.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nova_actors::clock::Clock;
use nova_actors::id::NodeId;
use ring::hmac;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::store::Store;

/// The header a signed request carries.
pub const HEADER: &str = "nova-node";
/// How often a node says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(3);
/// A node nobody has heard of for so long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How far the clocks of two nodes may be apart, in seconds.
const SKEW_S: i64 = 60;

/// Signs what this node asks of others, and knows what others have signed.
#[derive(Clone)]
pub struct Seal {
    key: hmac::Key,
    clock: Arc<dyn Clock>,
}

impl Seal {
    /// The seal of an installation.
    pub fn new(key: &[u8], clock: Arc<dyn Clock>) -> Seal {
        Seal { key: hmac::Key::new(hmac::HMAC_SHA256, key), clock }
    }

    /// What to send with a `GET` of `target` (path and query).
    pub fn sign(&self, target: &str) -> String {
        let at = self.clock.now().unix_timestamp();
        let tag = hmac::sign(&self.key, signed(at, target).as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{at}.{hex}")
    }

    /// Whether another node has signed this.
    pub fn knows(&self, header: &str, target: &str) -> bool {
        let Some((at, hex)) = header.split_once('.') else { return false };
        let Ok(at) = at.parse::<i64>() else { return false };
        if at.abs_diff(self.clock.now().unix_timestamp()) > SKEW_S.unsigned_abs() || !hex.is_ascii() {
            return false;
        }
        let tag: Option<Vec<u8>> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()).collect();
        tag.is_some_and(|tag| hmac::verify(&self.key, signed(at, target).as_bytes(), &tag).is_ok())
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(set)")
    }
}

fn signed(at: i64, target: &str) -> String {
    format!("{at} GET {target}")
}

/// This node among the others. Dropped, it is not told any more that it is there.
#[derive(Debug)]
pub struct Presence {
    leaving: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Presence {
    /// Says that `node` is there, at once and from then on.
    pub async fn begin(store: Store, node: NodeId, url: String, clock: Arc<dyn Clock>) -> Presence {
        let leaving = watch::Sender::new(false);
        let mut left = leaving.subscribe();
        if let Err(error) = store.node_is_there(node, &url, clock.now()).await {
            tracing::warn!(%error, "the other nodes do not know of this one yet");
        }
        let task = tokio::spawn(async move {
            let mut ticks = interval(BEAT_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = left.changed() => break,
                }
                let now = clock.now();
                if let Err(error) = store.node_is_there(node, &url, now).await {
                    tracing::warn!(%error, "the other nodes do not hear of this one");
                }
            }
            // What is not told now is noticed a little later.
            let _ = store.node_is_gone(node).await;
        });
        Presence { leaving, task }
    }

    /// Says that it is gone.
    pub async fn end(self) {
        self.leaving.send_replace(true);
        let _ = timeout(Duration::from_secs(2), self.task).await;
    }
}

/// Where other nodes reach a door that listens on `bound`, unless the operator says otherwise. A door on all addresses is reached on the
/// one this machine speaks to others from.
pub fn url(bound: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let ip = if bound.ip().is_unspecified() { outward() } else { bound.ip() };
    format!("{scheme}://{}", SocketAddr::new(ip, bound.port()))
}

/// The address packets to elsewhere would leave from; none is sent.
fn outward() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address of documentation (RFC 5737); choosing a way to it is all that happens.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr().map(|addr| addr.ip())
    };
    ask().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use nova_actors::clock::ManualClock;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_a_node_signs_another_knows_for_a_minute() {
        let clock = Arc::new(ManualClock::standing(datetime!(2026-01-02 12:00 UTC)));
        let seal = Seal::new(&[1; 32], clock.clone());
        let header = seal.sign("/a?b=c");
        assert!(seal.knows(&header, "/a?b=c"));
        assert!(!seal.knows(&header, "/a?b=d"));
        assert!(!Seal::new(&[2; 32], clock.clone()).knows(&header, "/a?b=c"));
        for odd in ["", ".", "x.y", "1.00", "99999999999999999999.00", "1.\u{e9}"] {
            assert!(!seal.knows(odd, "/a?b=c"), "{odd}");
        }
        clock.advance(Duration::from_secs(61));
        assert!(!seal.knows(&header, "/a?b=c"), "it is old");
    }

    #[test]
    fn a_node_is_reached_where_it_listens() {
        assert_eq!(url("127.0.0.1:8080".parse().expect("an address"), false), "http://127.0.0.1:8080");
        let anywhere = url("0.0.0.0:443".parse().expect("an address"), true);
        assert!(anywhere.starts_with("https://") && !anywhere.contains("0.0.0.0"), "{anywhere}");
    }
}
