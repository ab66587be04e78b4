//! Who may do how much: a rate as one number, and the number of open files.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A rate with a burst (GCRA): `per_s` events a second, and up to `burst_s` seconds' worth at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// `None` for 0: without a limit.
    pub fn new(per_s: u32, burst_s: u32) -> Option<Rate> {
        let interval_ns = 1_000_000_000_u64.checked_div(u64::from(per_s))?;
        Some(Rate { interval_ns, burst_ns: u64::from(burst_s) * 1_000_000_000 })
    }

    /// Counts one event at `now`; `Err` says how long to wait.
    pub fn take(self, meter: &Meter, now: Duration) -> Result<(), Duration> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let counted = meter.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at_ns| {
            let full_at_ns = full_at_ns.max(now_ns);
            (full_at_ns + self.interval_ns <= now_ns + self.burst_ns.max(self.interval_ns))
                .then(|| full_at_ns + self.interval_ns)
        });
        match counted {
            Ok(_) => Ok(()),
            Err(full_at_ns) => {
                let burst_ns = self.burst_ns.max(self.interval_ns);
                Err(Duration::from_nanos(
                    (full_at_ns + self.interval_ns).saturating_sub(now_ns + burst_ns).max(1),
                ))
            }
        }
    }
}

/// How much of a [`Rate`] is used: the time at which its bucket is full again, in nanoseconds since the process began to count.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

/// Lets this process open as many files as the system lets it; answers how many. A connection is a file.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    let effective = if raised.is_ok() { now.maximum } else { now.current };
    effective.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_burst_through_and_then_one_at_a_time() {
        let (rate, meter) = (Rate::new(10, 2).unwrap(), Meter::default());
        let start = Duration::from_secs(100);
        assert_eq!((0..100).filter(|_| rate.take(&meter, start).is_ok()).count(), 20);
        let wait = rate.take(&meter, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(rate.take(&meter, start + wait - Duration::from_nanos(1)).is_err());
        assert!(rate.take(&meter, start + wait).is_ok());
        assert!(rate.take(&meter, start + wait).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!(
            (0..100).filter(|_| rate.take(&meter, later).is_ok()).count(),
            20,
            "a full bucket holds no more"
        );
        assert_eq!(Rate::new(0, 5), None);
    }

    #[test]
    fn as_many_files_as_the_system_allows() {
        let files = raise_open_files();
        assert_eq!(
            rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX),
            files
        );
    }
}
