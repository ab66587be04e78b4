//! A reader that stops in a large conversation: what others notice, and what becomes of it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ChatBench, LATE_MAX, Place, WARM_S, losses};
use crate::bench::BenchError;
use crate::bench::measure::{Line, Times, load};
use crate::bench::swarm::{Sleeper, drain};

/// Members beside the one that stops.
const SOCKETS: usize = 1_000;
/// Bytes of a text: at `RATE` more than an outbox and the kernel's buffers hold, before the engine would miss a pong.
const BYTES: usize = 6_000;
/// Messages a second: fewer than a thousand until it returns, so that they are pushed and not told as a gap.
const RATE: f64 = 10.0;
/// Before it stops, the others are timed for as long.
const CALM_S: f64 = 15.0;
/// When it is not sent away within this after it wakes, it never is.
const WAKE_MAX: Duration = Duration::from_secs(20);

impl ChatBench {
    pub(super) async fn stopped(&self, place: &Place) -> Result<Vec<Line>, BenchError> {
        if place.installation.is_none() {
            return Err(BenchError::because("`stopped` counts from the first entry on: leave out --addr"));
        }
        let sockets = self.sockets.map_or(SOCKETS, |sockets| sockets as usize);
        let (rate, seconds) = (self.rate.map_or(RATE, f64::from), self.seconds(60));
        let town = self.town(place)?;
        let devices = self.devices(&town, sockets + 1).await?;
        let conversations = town.conversations(std::slice::from_ref(&devices)).await?;
        let (last, others) = devices.split_last().ok_or_else(|| BenchError::because("nobody"))?;
        let mut swarm = self.swarm_of(BYTES.max(self.bytes as usize));
        swarm.dial(place.dials(others)).await?;
        if let Some(conversation) = conversations.first() {
            swarm.place(0, *conversation);
        }
        let door = place.door(0)?;
        let mut said = swarm.say_steadily(rate, WARM_S, |_| 0).await;
        let mut timed = async |seconds: f64| {
            swarm.time(true);
            said += swarm.say_steadily(rate, seconds, |_| 0).await;
            swarm.hears(LATE_MAX, |tally| tally.deliveries.get() >= said * sockets as u64).await;
            swarm.time(false);
            Times::new(swarm.tally().heard_us.take())
        };
        let calm = timed(CALM_S).await;
        // It reads what was said so far, and then nothing.
        let sleeper = Sleeper::dial(door, &last.token).await?;
        let began = Instant::now();
        let beside = timed(seconds).await;
        sleep(Duration::from_secs_f64((seconds - began.elapsed().as_secs_f64()).max(0.0))).await;
        let woken = sleeper.wakes(WAKE_MAX).await;
        let deliveries = swarm.tally().deliveries.get();
        let returned = drain(door, &last.token).await?;

        let title = format!("a reader of {} stops for {seconds:.0} s, {rate} msgs/s", sockets + 1);
        let (before, meanwhile) = (calm.quantile_ms(0.99), beside.quantile_ms(0.99));
        let bound = (2.0 * before).max(before + 10.0);
        let code = woken.close.map_or("nothing".to_owned(), |code| code.to_string());
        let is_whole = returned.entries == said && returned.holes + returned.repeats == 0;
        let in_order = woken.holes + woken.repeats == 0;
        let lines = vec![
            Line::promised(
                format!("{title}: from sending to hearing, the others"),
                "p99 as before it",
                format!("{beside}; before it {calm}; load {}", load()),
                meanwhile <= bound,
            ),
            Line::promised(format!("{title}: what it is told"), "4001", code, woken.close == Some(4001)),
            Line::promised(
                format!("{title}: lost or repeated to it, before and after it came back"),
                "0",
                format!(
                    "{} of {said} were read when it woke, all {} when it was back; {} left out, {} repeated",
                    woken.entries,
                    returned.entries,
                    woken.holes + returned.holes,
                    woken.repeats + returned.repeats,
                ),
                is_whole && in_order,
            ),
            losses(&title, &swarm, said * sockets as u64, deliveries),
        ];
        swarm.leave().await;
        Ok(lines)
    }
}
