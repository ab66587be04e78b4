//! What is measured: times, CPU and memory of processes, and how they are told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::BenchError;

/// Times of one kind, in microseconds.
#[derive(Debug, Default)]
pub struct Times {
    sorted: Vec<u32>,
}

impl Times {
    /// Of these, in any order.
    pub fn new(mut us: Vec<u32>) -> Times {
        us.sort_unstable();
        Times { sorted: us }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The time that `share` of them do not exceed (nearest rank), in milliseconds; 0 where there are none.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        let at = rank.clamp(1, self.sorted.len().max(1)) - 1;
        f64::from(self.sorted.get(at).copied().unwrap_or_default()) / 1_000.0
    }
}

/// `p50 1.2, p99 3.4, p99.9 5.6, max 7.8 ms`.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|share| self.quantile_ms(share));
        write!(f, "p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} ms")
    }
}

/// Processes whose CPU and memory are looked at together: one, or one and all it has started.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    /// Their numbers.
    pub pids: Vec<u32>,
    /// Whether their children count as well.
    pub with_children: bool,
}

impl Processes {
    /// One process alone.
    pub fn one(pid: u32) -> Processes {
        Processes { pids: vec![pid], with_children: false }
    }

    fn all(&self) -> Vec<u32> {
        if !self.with_children {
            return self.pids.clone();
        }
        let mut all = self.pids.clone();
        let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
        for pid in numbers {
            // The name may hold spaces and brackets; what follows the last bracket does not.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let parent =
                stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
            if parent.is_some_and(|parent| self.pids.contains(&parent)) {
                all.push(pid);
            }
        }
        all
    }

    /// CPU time so far, user and system, of those that live. The kernel counts it in nanoseconds for each thread.
    pub fn cpu(&self) -> Duration {
        let tasks = self.all().into_iter().flat_map(|pid| {
            std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))).into_iter().flatten().flatten()
        });
        let ns = tasks.filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(ns.sum())
    }

    /// Memory that is resident, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.resident().all
    }

    /// Memory that is resident, and of what kind.
    pub fn resident(&self) -> Resident {
        let of = |pid: u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let bytes = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
            };
            let all = bytes("VmRSS:")?;
            Some(Resident { all, own: all.saturating_sub(bytes("RssFile:")?) })
        };
        let each = self.all().into_iter().filter_map(of);
        each.fold(Resident::default(), |sum, one| Resident { all: sum.all + one.all, own: sum.own + one.own })
    }
}

/// Memory that is resident, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// All of it.
    pub all: u64,
    /// What is no page of a file. Pages of files are code that has run, above all: they are there once, whatever it runs for.
    pub own: u64,
}

impl Resident {
    /// What was added to `before`, for each of so many, in KiB.
    pub fn added(self, before: Resident, each: usize) -> String {
        let kib = |now: u64, before: u64| now.saturating_sub(before) / 1_024 / each.max(1) as u64;
        let own = kib(self.own, before.own);
        format!("{own} KiB, and {} KiB of code", kib(self.all, before.all).saturating_sub(own))
    }
}

/// The load of the machine over the last minute, as the kernel counts it; a figure without it says little.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// One line of a result.
#[derive(Debug)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// What is promised; nothing for what is only told.
    pub promised: String,
    /// What was seen.
    pub seen: String,
    /// Whether the promise was kept.
    pub kept: Option<bool>,
}

impl Line {
    /// Something that is only told.
    pub fn told(what: impl Into<String>, seen: impl Into<String>) -> Line {
        Line { what: what.into(), promised: String::new(), seen: seen.into(), kept: None }
    }

    /// Something that is promised.
    pub fn promised(
        what: impl Into<String>,
        promised: impl Into<String>,
        seen: impl Into<String>,
        kept: bool,
    ) -> Line {
        Line { what: what.into(), promised: promised.into(), seen: seen.into(), kept: Some(kept) }
    }

    /// Prints it: as a sentence, or as a row of a table in Markdown.
    pub fn tell(&self, markdown: bool) -> Result<(), BenchError> {
        use std::io::Write as _;
        let text = match (markdown, self.promised.as_str()) {
            (true, _) => self.row(),
            (false, "") => format!("{}: {}", self.what, self.seen),
            (false, promised) => {
                let verdict = if self.kept == Some(false) { "missed" } else { "met" };
                format!("{}: {}  (promised: {promised}; {verdict})", self.what, self.seen)
            }
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(BenchError::because)
    }

    /// A row of a table in Markdown.
    pub fn row(&self) -> String {
        let mark = match self.kept {
            Some(false) => " (missed)",
            _ => "",
        };
        format!("| {} | {} | {}{mark} |", self.what, self.promised, self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let times = Times::new((1..=1_000).rev().map(|ms| ms * 1_000).collect());
        let of = |share| times.quantile_ms(share);
        assert_eq!([of(0.5), of(0.99), of(0.999), of(1.0), of(0.0)], [500.0, 990.0, 999.0, 1_000.0, 1.0]);
        assert_eq!(Times::default().quantile_ms(0.5), 0.0);
        assert_eq!(Times::new(vec![1_500]).to_string(), "p50 1.5, p99 1.5, p99.9 1.5, max 1.5 ms");
    }

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let me = Processes { pids: vec![std::process::id()], with_children: true };
        let before = me.cpu();
        let mut sum = 0_u64;
        while me.cpu() < before + Duration::from_millis(5) {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
        }
        let resident = me.resident();
        assert!(resident.own > 1 << 20 && resident.all > resident.own, "{resident:?}");
        let before = Resident { all: resident.all - (8 << 10), own: resident.own - (6 << 10) };
        assert_eq!(resident.added(before, 2), "3 KiB, and 1 KiB of code");
        assert_eq!(Processes::one(u32::MAX).cpu(), Duration::ZERO);
    }
}
