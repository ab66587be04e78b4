//! Faults on purpose: how measures and tests show what it costs when the shard's thread does not run.
//!
//! Out of reach of everybody who is not told of it: only tests, and the signal SIGUSR2 of the node's own user in a node that was started
//! with `--rtc-fault-stall-s`, which no help names.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::Media;
use super::shard::Order;

/// What happens to the shard.
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
                tracing::warn!(?long, "the media shard stalls on purpose");
                std::thread::sleep(long);
            }
        }
    }
}

impl Media {
    /// Stops the shard's thread for so long, once it has done what it was ordered before.
    pub(crate) async fn stall(&self, long: Duration) {
        self.tell(Order::Fault(Fault::Stall(long))).await;
    }

    /// From now on SIGUSR2 stops the shard's thread for so long.
    pub(crate) fn stall_on_signal(&self, long: Duration) -> io::Result<()> {
        let (mut signals, media) = (signal(SignalKind::user_defined2())?, self.clone());
        tracing::warn!("faults on purpose are allowed: SIGUSR2 stalls the media shard");
        actix_rt::spawn(async move {
            while signals.recv().await.is_some() {
                media.stall(long).await;
            }
        });
        Ok(())
    }
}
