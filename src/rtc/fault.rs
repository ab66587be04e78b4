//! Faults on purpose: how measures and tests show what it costs when the threads of the shards do not run, or break.
//!
//! Out of reach of everybody who is not told of it: only tests, and the signal SIGUSR2 of the node's own user in a node that was started
//! with `--rtc-fault-stall-s` or `--rtc-fault-break`, which no help names.

use std::io;
use std::time::Duration;

use nova_media::sfu::MemberId;
use tokio::signal::unix::{SignalKind, signal};

use super::Media;
use super::shard::Order;

/// What happens to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its thread does nothing for so long; whatever comes waits in the socket, or does not fit.
    Stall(Duration),
    /// Its thread panics.
    Break,
    /// What is done for somebody panics.
    #[cfg(test)]
    Expel(MemberId),
}

impl Fault {
    /// Over whom it is.
    pub(super) fn member(self) -> Option<MemberId> {
        match self {
            Fault::Stall(_) | Fault::Break => None,
            #[cfg(test)]
            Fault::Expel(member) => Some(member),
        }
    }

    /// Does it, on the shard's thread.
    #[expect(clippy::disallowed_methods, reason = "a thread that does not run is what it is for")]
    #[expect(clippy::panic, reason = "and one that breaks")]
    pub(super) fn strike(self) {
        match self {
            Fault::Stall(long) => {
                tracing::warn!(?long, "a media shard stalls on purpose");
                std::thread::sleep(long);
            }
            Fault::Break => panic!("a media shard breaks on purpose"),
            #[cfg(test)]
            Fault::Expel(_) => panic!("what is done for somebody breaks on purpose"),
        }
    }
}

impl Media {
    /// Strikes all shards, once each has done what it was ordered before.
    pub(super) async fn strike(&self, fault: Fault) {
        for shard in self.shards.iter() {
            shard.tell(Order::Fault(fault)).await;
        }
    }

    /// From now on SIGUSR2 stops the threads of all shards for so long.
    pub(crate) fn stall_on_signal(&self, long: Duration) -> io::Result<()> {
        self.strike_on_signal(Fault::Stall(long))
    }

    /// From now on SIGUSR2 makes the threads of all shards panic.
    pub(crate) fn break_on_signal(&self) -> io::Result<()> {
        self.strike_on_signal(Fault::Break)
    }

    fn strike_on_signal(&self, fault: Fault) -> io::Result<()> {
        let (mut signals, media) = (signal(SignalKind::user_defined2())?, self.clone());
        tracing::warn!(?fault, "faults on purpose are allowed: SIGUSR2 strikes the media shards");
        actix_rt::spawn(async move {
            while signals.recv().await.is_some() {
                media.strike(fault).await;
            }
        });
        Ok(())
    }
}
