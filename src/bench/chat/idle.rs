//! Sockets that are connected and silent: what each costs while nothing happens.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ChatBench, Place};
use crate::bench::BenchError;
use crate::bench::measure::{Line, load};
use crate::bench::people::Device;
use crate::bench::swarm::Speech;

impl ChatBench {
    pub(super) async fn idle(&self, place: &Place) -> Result<Vec<Line>, BenchError> {
        let sockets = self.sockets.map_or(9_000, |sockets| sockets as usize);
        let seconds = self.seconds(60);
        let server = place.server.clone().ok_or_else(|| BenchError::because("`idle` needs --pid"))?;
        let town = self.town(place)?;
        const WARM: usize = 100;
        let devices = self.devices(&town, sockets + WARM).await?;
        let pairs = self.conversations.map_or(0, |pairs| pairs as usize);
        if self.speech == Speech::Nova && pairs > 0 {
            let rest = devices.get(WARM..).unwrap_or_default();
            let members: Vec<Vec<Device>> = (0..pairs)
                .map(|pair| {
                    (0..2).filter_map(|side| rest.get((2 * pair + side) % rest.len()).cloned()).collect()
                })
                .collect();
            town.conversations(&members).await?;
        }
        let mut swarm = self.swarm();
        let dials = place.dials(&devices);
        let (warm, many) = dials.split_at(WARM);
        swarm.dial(warm.to_vec()).await?;
        let empty = server.resident_bytes();
        swarm.dial(many.to_vec()).await?;
        // What connecting took is given back or used again after a moment; the promise is of what stays.
        sleep(Duration::from_secs(3)).await;
        let full = server.resident_bytes();
        let each = (full.saturating_sub(empty)) as f64 / sockets as f64;
        let (cpu, began) = (server.cpu(), Instant::now());
        let mut most = full;
        while began.elapsed().as_secs_f64() < seconds {
            sleep(Duration::from_secs_f64(5.0_f64.min(seconds))).await;
            most = most.max(server.resident_bytes());
        }
        let last = server.resident_bytes();
        let percent = (server.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
        let percent = percent / (sockets as f64 / 1_000.0);
        let ended = swarm.tally().ended.get();
        let title = match pairs {
            0 => format!("{sockets} idle sockets"),
            pairs => format!("{sockets} idle sockets in {pairs} conversations"),
        };
        let kib = |bytes: f64| bytes / 1_024.0;
        let drift = kib(last as f64 - full as f64) / sockets as f64;
        let told = |what: &str, promise: &str, seen: String, kept: bool| match self.speech {
            Speech::Nova => Line::promised(format!("{title}: {what}"), promise, seen, kept),
            _ => Line::told(format!("{title}: {what}"), seen),
        };
        let lines = vec![
            told("memory a socket", "≤ 8 KiB", format!("{:.2} KiB", kib(each)), kib(each) <= 8.0),
            told(
                "CPU for 1,000 sockets",
                "≤ 1 % of a core",
                format!("{percent:.3} % over {seconds:.0} s, load {}", load()),
                percent <= 1.0,
            ),
            told(
                "memory after that",
                "flat",
                format!("{drift:+.2} KiB a socket, {:.1} MiB at most", kib(most as f64) / 1_024.0),
                drift.abs() <= 0.5,
            ),
            Line::promised(format!("{title}: sockets that ended"), "0", ended.to_string(), ended == 0),
        ];
        swarm.leave().await;
        Ok(lines)
    }
}
