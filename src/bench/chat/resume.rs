//! A device that comes back to a long queue.

use nova_actors::conversation::NewEntry;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{ChatBench, Place};
use crate::bench::BenchError;
use crate::bench::measure::{Line, load};
use crate::conversations::draft::{Draft, Message};

impl ChatBench {
    pub(super) async fn resume(&self, place: &Place) -> Result<Vec<Line>, BenchError> {
        /// More than this in one conversation is a gap to be pulled.
        const EACH: usize = 1_000;
        const TIMES: usize = 5;
        let Some(installation) = &place.installation else {
            return Err(BenchError::because("`resume` writes its queue itself: leave out --addr"));
        };
        let conversations = self.conversations.map_or(10, |conversations| conversations as usize);
        let town = self.town(place)?;
        let devices = self.devices(&town, conversations + 1).await?;
        let (one, others) = devices.split_first().ok_or_else(|| BenchError::because("nobody"))?;
        let members: Vec<_> = others.iter().map(|other| vec![one.clone(), other.clone()]).collect();
        let ids = town.conversations(&members).await?;
        let text = "x".repeat(self.bytes as usize);
        for (id, other) in ids.iter().zip(others) {
            let entries: Result<Vec<NewEntry>, _> = (0..EACH)
                .map(|number| {
                    let message = Message { text: Some(text.clone()), ..Message::default() };
                    let key = format!("queued-{number}");
                    Draft::Message(message).entry(*id, other.user, &key, OffsetDateTime::now_utc())
                })
                .collect();
            let entries = entries.map_err(|invalid| BenchError::because(invalid.message))?;
            for some in entries.chunks(250) {
                let appended = installation.errand().store().append_entries(some).await;
                appended.map_err(BenchError::because)?;
            }
        }
        let queued = (conversations * EACH) as u64;
        let (mut rates, mut cpu_us) = (Vec::new(), Vec::new());
        let mut worst = (0, 0, queued);
        for _ in 0..TIMES {
            // It acknowledges nothing, so everything waits again.
            let (before, began) = (place.cpu(), Instant::now());
            let heard = crate::bench::swarm::drain(place.door(0)?, &one.token).await?;
            let took = began.elapsed().as_secs_f64();
            if let (Some(before), Some(after)) = (before, place.cpu()) {
                cpu_us.push((after.0 - before.0).as_secs_f64() * 1e6 / queued as f64);
            }
            rates.push(heard.entries as f64 / took);
            worst = (worst.0.max(heard.repeats), worst.1.max(heard.holes), worst.2.min(heard.entries));
        }
        rates.sort_by(f64::total_cmp);
        let middle = rates.get(TIMES / 2).copied().unwrap_or_default();
        let (slowest, quickest) =
            (rates.first().copied().unwrap_or_default(), rates.last().copied().unwrap_or_default());
        let title = format!("resuming {queued} entries of {conversations} conversations");
        let cpu = cpu_us.iter().sum::<f64>() / cpu_us.len().max(1) as f64;
        Ok(vec![
            Line::promised(
                format!("{title}: from dialling to `drained`"),
                "≥ 50,000/s",
                format!("{middle:.0}/s ({slowest:.0} to {quickest:.0} of {TIMES}), load {}", load()),
                middle >= 50_000.0,
            ),
            Line::told(format!("{title}: CPU an entry"), format!("{cpu:.1} µs")),
            Line::promised(
                format!("{title}: losses, repeats"),
                "0",
                format!("{}, {}", queued - worst.2 + worst.1, worst.0),
                worst == (0, 0, queued),
            ),
        ])
    }
}
