//! As many durable sends as go.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ChatBench, LATE_MAX, Place, WARM_S, losses};
use crate::bench::BenchError;
use crate::bench::measure::{Line, Processes, Times, load};
use crate::bench::people::Device;

impl ChatBench {
    pub(super) async fn sustained(&self, place: &Place) -> Result<Vec<Line>, BenchError> {
        /// Unanswered messages of one sender.
        const WINDOW: usize = 2;
        let conversations = self.conversations.map_or(1_000, |conversations| conversations as usize);
        let seconds = self.seconds(15);
        let town = self.town(place)?;
        // Each has a listener who is away: what is said waits for them.
        let devices = self.devices(&town, 2 * conversations).await?;
        let members: Vec<_> = devices.chunks(2).map(<[Device]>::to_vec).collect();
        let ids = town.conversations(&members).await?;
        let senders: Vec<_> = devices.iter().step_by(2).cloned().collect();
        let mut swarm = self.swarm();
        swarm.dial(place.dials(&senders)).await?;
        for (at, id) in ids.iter().enumerate() {
            swarm.place(at, *id);
        }
        let who = |number: u64| (number % conversations as u64) as usize;
        let is_bound = self.rate.map(f64::from);
        match is_bound {
            Some(rate) => drop(swarm.say_steadily(rate, WARM_S, who).await),
            None => {
                swarm.loop_on(WINDOW);
                sleep(Duration::from_secs_f64(WARM_S)).await;
            }
        }
        let (before, sent_before) = (place.cpu(), swarm.tally().sent.get());
        swarm.time(true);
        let own = Processes::one(std::process::id());
        let (own_before, began) = (own.cpu(), Instant::now());
        match is_bound {
            Some(rate) => drop(swarm.say_steadily(rate, seconds, who).await),
            None => sleep(Duration::from_secs_f64(seconds)).await,
        }
        let (sent, took) = (swarm.tally().sent.get() - sent_before, began.elapsed().as_secs_f64());
        let (after, own_cpu) = (place.cpu(), own.cpu() - own_before);
        swarm.time(false);
        swarm.loop_off();
        let all = |tally: &crate::bench::swarm::Tally| {
            let refused: u64 = tally.refusals.borrow().values().sum();
            tally.sent.get() + refused >= tally.said.get() && tally.deliveries.get() >= tally.sent.get()
        };
        swarm.hears(LATE_MAX, all).await;
        let times = Times::new(swarm.tally().sent_us.take());
        let per_s = sent as f64 / took;
        let title = format!("durable sends in {conversations} conversations");
        let mut lines = vec![
            Line::promised(
                format!("{title}: sustained"),
                "≥ 10,000/s",
                format!("{per_s:.0}/s over {took:.0} s, load {}", load()),
                per_s >= 10_000.0,
            ),
            Line::told(format!("{title}: from sending to `sent`"), times.to_string()),
        ];
        if let (Some(before), Some(after)) = (before, after) {
            let each_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / sent.max(1) as f64;
            let (node, postgres) = (each_us(after.0 - before.0), each_us(after.1.saturating_sub(before.1)));
            let load = each_us(own_cpu);
            lines.push(Line::told(
                format!("{title}: CPU a message"),
                format!("{node:.0} µs, PostgreSQL {postgres:.0} µs, the load itself {load:.0} µs"),
            ));
        }
        let tally = swarm.tally();
        lines.push(losses(&title, &swarm, tally.said.get(), tally.sent.get()));
        swarm.leave().await;
        Ok(lines)
    }
}
