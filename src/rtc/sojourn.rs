//! How long the node keeps a packet: from the kernel's receiving the datagram it came in, to its copy being given to the kernel again.
//!
//! What waits in the socket's buffer while others are forwarded is part of that, so the kernel's time counts, not that of the read. Each
//! copy counts once, when it has gone; what is sent without anything having come is no forwarding.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nova_media::peer::Transmit;
use prometheus::local::LocalHistogram;
use quinn_udp::RecvMeta;

/// A datagram that waited longer did not: the clock was set.
const WAITED_MAX: Duration = Duration::from_secs(10);

/// A datagram that waits to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) transmit: Transmit,
    /// When what it was made of came; `None`: of nothing that came.
    pub(super) came: Option<Instant>,
}

/// The two clocks at one moment: the kernel tells times by one, everything else here by the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    steady: Instant,
    since_epoch: Duration,
}

impl Clocks {
    /// Looks at both.
    pub(super) fn look(steady: Instant) -> Clocks {
        Clocks { steady, since_epoch: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// When what was read came: when it was read, where the kernel does not say.
    pub(super) fn came(self, meta: &RecvMeta) -> Instant {
        let waited = meta.timestamp.and_then(|at| self.since_epoch.checked_sub(at));
        let waited = waited.filter(|waited| *waited <= WAITED_MAX).unwrap_or_default();
        self.steady.checked_sub(waited).unwrap_or(self.steady)
    }
}

/// Counts the times of these, which have gone.
pub(super) fn note_sent(times: &LocalHistogram, sent: &[Outgoing]) {
    if sent.iter().any(|one| one.came.is_some()) {
        let now = Instant::now();
        for came in sent.iter().filter_map(|one| one.came) {
            times.observe(now.saturating_duration_since(came).as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_in_the_kernel_came_before_it_was_read() {
        let steady = Instant::now();
        let clocks = Clocks { steady, since_epoch: Duration::from_secs(1_000) };
        let came = |at: Option<Duration>| {
            let mut meta = RecvMeta::default();
            meta.timestamp = at;
            steady - clocks.came(&meta)
        };
        let ms = Duration::from_millis;
        assert_eq!(came(Some(ms(999_700))), ms(300));
        assert_eq!(came(None), ms(0));
        // The clock was set, to either side.
        assert_eq!((came(Some(ms(1_000_500))), came(Some(ms(1_000)))), (ms(0), ms(0)));
        assert!(Clocks::look(steady).since_epoch > Duration::from_secs(1_600_000_000));
    }
}
