//! What was measured, and how it is told.

use std::time::Duration;

use super::meter::Spread;
use super::{CallsBench, Crowd, Scenario};
use crate::bench::measure::{Line, Times, load};

/// When everybody sees everything again after a stall, at the latest.
const RECOVERS_IN: Duration = Duration::from_secs(1);

/// What a measure gave.
pub(super) struct Measured {
    pub(super) took: Duration,
    pub(super) cpu: Duration,
    pub(super) recovery: Option<Recovery>,
    /// How long the node kept each packet it sent.
    pub(super) forwards: Spread,
    /// Shares of the last second in which the node's shards worked.
    pub(super) busy: Vec<f64>,
    /// Datagrams that came to another shard's socket: those that were handed over, and those that were lost.
    pub(super) handed: f64,
    /// See `handed`.
    pub(super) handed_lost: f64,
    pub(super) packets: u64,
    pub(super) published: u64,
    pub(super) bytes: u64,
    pub(super) repeats: u64,
    pub(super) latency: Times,
    pub(super) frames: u64,
    pub(super) freezes: u64,
    pub(super) lost: u64,
    pub(super) broken: u64,
    pub(super) longest: Duration,
}

/// How it went after nothing was forwarded for a while.
pub(super) struct Recovery {
    /// When everybody saw everything again; `None`: never.
    pub(super) after: Option<Duration>,
    /// Participants who do not see everything.
    pub(super) blind: usize,
    /// Participants whose media path ended.
    pub(super) gone: u64,
    /// Keyframes publishers were asked for.
    pub(super) keyframes: u64,
}

impl Measured {
    fn rate(&self) -> String {
        let seconds = self.took.as_secs_f64();
        format!(
            "{:.0}/s in, {:.0}/s out, {:.1} Mbit/s out, {} again, load {}",
            self.published as f64 / seconds,
            self.packets as f64 / seconds,
            self.bytes as f64 * 8e-6 / seconds,
            self.repeats,
            load()
        )
    }

    fn one_way(&self) -> String {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| self.latency.quantile_ms(share));
        format!("p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2} ms")
    }

    fn frozen(&self) -> String {
        format!(
            "{} in {} frames, the longest gap {} ms, {} packets never came, {} frames broken",
            self.freezes,
            self.frames,
            self.longest.as_millis(),
            self.lost,
            self.broken
        )
    }
}

impl CallsBench {
    pub(super) fn title(&self, scenario: Scenario, rooms: usize) -> String {
        let peers = self.peers;
        match scenario {
            Scenario::Audio => format!("{rooms} × audio 1 → {}", peers - 1),
            Scenario::Video => format!("{rooms} × video of {} kbit/s 1 → {}", self.kbps, peers - 1),
            Scenario::Room => format!("{rooms} × room of {peers}, {} tiles", self.tiles),
            Scenario::Idle => format!("{rooms} × room of {peers}, silent"),
        }
    }

    pub(super) fn lines(
        &self,
        scenario: Scenario,
        crowd: &Crowd,
        seen: &Measured,
        rooms: usize,
    ) -> Vec<Line> {
        let title = self.title(scenario, rooms);
        let seconds = seen.took.as_secs_f64();
        let core = seen.cpu.as_secs_f64() / seconds;
        let per_core = seen.packets as f64 / seen.cpu.as_secs_f64().max(1e-9);
        let mut lines = Vec::new();
        let told = |what: &str, seen: String| Line::told(format!("{title}: {what}"), seen);
        let promised = |what: &str, promised: &str, seen: String, kept: bool| {
            Line::promised(format!("{title}: {what}"), promised, seen, kept)
        };
        lines.push(told("packets", seen.rate()));
        let cpu = format!("{per_core:.0}/s, {:.1} % of a core", core * 100.0);
        match scenario {
            Scenario::Audio => {
                lines.push(promised("packets out of a busy core", "≥ 300,000/s", cpu, per_core >= 300e3));
            }
            Scenario::Video => {
                lines.push(promised("packets out of a busy core", "≥ 250,000/s", cpu, per_core >= 250e3));
            }
            Scenario::Room => {
                let is_full = self.peers == 50 && self.tiles == 9 && rooms == 1;
                lines.push(match is_full {
                    true => promised("CPU", "≤ 0.4 core", cpu, core <= 0.4),
                    false => told("CPU", cpu),
                });
            }
            Scenario::Idle => {
                let percent = core * 100.0 / crowd.peers.len() as f64;
                let cpu = format!("{percent:.3} % of a core");
                lines.push(promised("CPU of a participant", "≤ 0.1 % of a core", cpu, percent <= 0.1));
                return lines;
            }
        }
        let bound_ms = |share| seen.forwards.bound(share) * 1e3;
        let forwards = format!(
            "p50 ≤ {:.2}, p90 ≤ {:.2}, p99 ≤ {:.2}, p99.9 ≤ {:.2} ms of {:.0} packets",
            bound_ms(0.5),
            bound_ms(0.9),
            bound_ms(0.99),
            bound_ms(0.999),
            seen.forwards.count()
        );
        let is_quick = bound_ms(0.5) <= 0.2 && bound_ms(0.99) <= 2.0 && seen.forwards.count() > 0.0;
        lines.push(promised("what the node adds", "p50 ≤ 0.2, p99 ≤ 2 ms", forwards, is_quick));
        let busy: Vec<String> = seen.busy.iter().map(|busy| format!("{:.0} %", busy * 100.0)).collect();
        let handed = seen.handed / seconds;
        let shards = format!(
            "busy in the last second {}; {handed:.0} datagrams/s handed over, {} lost",
            busy.join(", "),
            seen.handed_lost
        );
        lines.push(told("media shards", shards));
        lines.push(told("from sending to arrival, participants' own time with it", seen.one_way()));
        if scenario != Scenario::Audio {
            let is_clean = self.loss == 0 && self.stall_s() == 0;
            let freezes = seen.frozen();
            let is_good = seen.freezes == 0 && seen.broken == 0;
            lines.push(match is_clean {
                true => promised("freezes over 500 ms", "0", freezes, is_good),
                false => told("freezes over 500 ms", freezes),
            });
        }
        if let Some(recovery) = &seen.recovery {
            lines.extend(self.recovery_lines(&title, crowd, recovery));
        }
        lines.push(told("from connecting to media", Times::new(crowd.joined_us.clone()).to_string()));
        lines
    }

    /// What Janus did with the same, and what memory it added for each participant.
    pub(super) fn janus_lines(
        &self,
        scenario: Scenario,
        crowd: &Crowd,
        seen: &Measured,
        memory: String,
    ) -> Vec<Line> {
        let title = self.title(scenario, self.rooms_of(scenario));
        let told = |what: &str, seen: String| Line::told(format!("Janus, {title}: {what}"), seen);
        let core = seen.cpu.as_secs_f64() / seen.took.as_secs_f64();
        let per_core = seen.packets as f64 / seen.cpu.as_secs_f64().max(1e-9);
        let mut lines = vec![
            told("packets", seen.rate()),
            told("packets out of a busy core", format!("{per_core:.0}/s, {:.1} % of a core", core * 100.0)),
            told("from sending to arrival, participants' own time with it", seen.one_way()),
        ];
        if scenario != Scenario::Audio {
            lines.push(told("freezes over 500 ms", seen.frozen()));
        }
        lines.push(told("memory of a participant", memory));
        lines.push(told("from connecting to media", Times::new(crowd.joined_us.clone()).to_string()));
        lines
    }

    fn recovery_lines(&self, title: &str, crowd: &Crowd, recovery: &Recovery) -> [Line; 3] {
        let what = match self.stall_shard {
            0 => format!("{title}: the engine stopped for {} s", self.stall),
            long => format!("{title}: the media threads stopped for {long} s"),
        };
        let all = crowd.peers.len();
        let after = recovery.after.map_or("not within ten seconds".to_owned(), |after| {
            format!("after {} ms; {} of {all} still do", after.as_millis(), all - recovery.blind)
        });
        let is_soon = recovery.after.is_some_and(|after| after <= RECOVERS_IN) && recovery.blind == 0;
        let tracks = crowd.tracks.iter().map(Vec::len).sum::<usize>();
        let asked = format!("{}, of {tracks} tracks", recovery.keyframes);
        let is_once = recovery.keyframes <= tracks as u64;
        [
            Line::promised(format!("{what}: all see again"), "≤ 1,000 ms", after, is_soon),
            Line::promised(
                format!("{what}: participants lost"),
                "0",
                recovery.gone.to_string(),
                recovery.gone == 0,
            ),
            Line::promised(format!("{what}: keyframes asked for"), "one of each track", asked, is_once),
        ]
    }
}
