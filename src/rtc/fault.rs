//! Faults on purpose: how measures and tests show what it costs when the threads of the shards do not run.
//!
//! Out of reach of everybody who is not told of it: only tests, and the signal SIGUSR2 of the node's own user in a node that was started
//! with `--rtc-fault-stall-s`, which no help names.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Media;
use super::shard::Order;

/// What happens to a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its thread does nothing for so long; whatever comes waits in the socket, or does not fit.
    Stall(Duration),
}

impl Fault {
    /// Does it, on the shard's thread.
    #[expect(clippy::disallowed_methods, reason = "a thread that does not run is what it is for")]
    pub(super) fn strike(self) {
        match self {
            Fault::Stall(long) => {
                tracing::warn!(?long, "a media shard stalls on purpose");
                std::thread::sleep(long);
            }
        }
    }
}

impl Media {
    /// Stops the threads of all shards for so long, once each has done what it was ordered before.
    pub(crate) async fn stall(&self, long: Duration) {
        for shard in self.shards.iter() {
            shard.tell(Order::Fault(Fault::Stall(long))).await;
        }
    }

    /// From now on SIGUSR2 stops the threads of all shards for so long.
    pub(crate) fn stall_on_signal(&self, long: Duration) -> io::Result<()> {
        let (mut signals, media) = (signal(SignalKind::user_defined2())?, self.clone());
        tracing::warn!("faults on purpose are allowed: SIGUSR2 stalls the media shards");
        actix_rt::spawn(async move {
            while signals.recv().await.is_some() {
                media.stall(long).await;
            }
        });
        Ok(())
    }
}
