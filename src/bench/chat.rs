//! `nova bench chat`: one scenario for each figure that is promised of chat.
//!
//! | scenario | what is done | what is told |
//! |---|---|---|
//! | `fanout` | one conversation of all sockets, one of them speaks | CPU of the server for each delivery, times |
//! | `large` | the same with 5,000 members | times, losses |
//! | `idle` | sockets that are connected and silent but for pings | memory of each, CPU, drift |
//! | `direct` | pairs that talk | from sending to `sent`, and to the other's device |
//! | `across` | the same with the two on different nodes, over Redis | as above |
//! | `sustained` | a thousand conversations, each sender says the next thing when the last one is answered | durable sends a second |
//! | `stopped` | one of a thousand reads nothing for a minute | times of the others, what becomes of it |
//! | `resume` | one device comes back to ten thousand entries | entries a second |
//!
//! CPU and memory are of the node's process, read from `/proc`; PostgreSQL's are told beside them.

mod idle;
mod resume;
mod stopped;
mod sustained;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nova_actors::id::UserId;
use tokio::time::Instant;

use super::BenchError;
use super::installation::{Installation, Node, Redis};
use super::measure::{Line, Processes, Times, load};
use super::people::{Device, Town};
use super::swarm::{Dial, Speech, Swarm};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One conversation of 2,000 sockets, 20 messages a second of 128 bytes.
    Fanout,
    /// 9,000 sockets that are silent.
    Idle,
    /// 100 pairs, 500 messages a second.
    Direct,
    /// As `direct`, over two nodes.
    Across,
    /// 1,000 conversations, as much as goes.
    Sustained,
    /// One device, 10,000 entries.
    Resume,
    /// One conversation of 5,000 sockets, 20 messages a second.
    Large,
    /// One conversation of 1,001 sockets, of which one stops reading for a minute.
    Stopped,
}

/// `nova bench chat`.
#[derive(Debug, Args)]
pub struct ChatBench {
    /// What to measure; default: everything, one after the other.
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,

    /// A server that runs already, in place of nodes of our own: its HTTP door.
    #[arg(long, value_name = "ADDR")]
    pub addr: Option<SocketAddr>,

    /// What that server speaks.
    #[arg(long, value_enum, default_value = "nova", requires = "addr")]
    pub speech: Speech,

    /// Its process, when it runs on this machine: for CPU and memory.
    #[arg(long, value_name = "PID", requires = "addr")]
    pub pid: Option<u32>,

    /// Access tokens of devices of that server, one a line; without it people are registered, as quickly as the server allows.
    #[arg(long, value_name = "FILE", requires = "addr")]
    pub token_file: Option<PathBuf>,

    /// Sockets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=60_000))]
    pub sockets: Option<u32>,

    /// Conversations they are in.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=30_000))]
    pub conversations: Option<u32>,

    /// Messages a second over all; of `sustained` a bound, which it has none of by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,

    /// Bytes of the text of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = clap::value_parser!(u32).range(12..=32_000))]
    pub bytes: u32,

    /// How long is measured, in seconds; default: 15, of `idle` and `stopped` 60.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: Option<u32>,

    /// Worker threads of our nodes; default: one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Print rows of a table in Markdown.
    #[arg(long)]
    pub markdown: bool,

    /// Fail when a figure is not what is promised; losses and repeats always fail.
    #[arg(long)]
    pub strict: bool,
}

/// Where something is measured.
struct Place {
    installation: Option<Installation>,
    redis: Option<Redis>,
    nodes: Vec<Node>,
    doors: Vec<SocketAddr>,
    server: Option<Processes>,
    postgres: Option<Processes>,
}

/// After the last message, what is still on its way has this long.
const LATE_MAX: Duration = Duration::from_secs(20);
/// Before a measure everything has run for a while.
const WARM_S: f64 = 2.0;

impl ChatBench {
    /// Measures, and prints what is seen. Whether all promises that count were kept.
    pub async fn run(&self) -> Result<bool, BenchError> {
        let all = [
            Scenario::Fanout,
            Scenario::Large,
            Scenario::Idle,
            Scenario::Direct,
            Scenario::Across,
            Scenario::Sustained,
            Scenario::Resume,
            Scenario::Stopped,
        ];
        let scenarios = if self.scenarios.is_empty() { &all[..] } else { &self.scenarios };
        let mut is_good = true;
        for scenario in scenarios {
            let lines = Box::pin(self.measure(*scenario)).await?;
            for line in lines {
                let counts = self.strict || line.promised == "0";
                is_good &= line.kept.unwrap_or(true) || !counts;
                line.tell(self.markdown)?;
            }
        }
        Ok(is_good)
    }

    async fn measure(&self, scenario: Scenario) -> Result<Vec<Line>, BenchError> {
        let place = self.place(scenario).await?;
        let measured = match scenario {
            Scenario::Fanout => self.fan_out(&place, 2_000, "fan-out").await,
            Scenario::Large => self.fan_out(&place, 5_000, "large conversation").await,
            Scenario::Idle => self.idle(&place).await,
            Scenario::Direct => self.direct(&place, "direct").await,
            Scenario::Across => self.direct(&place, "direct, over two nodes").await,
            Scenario::Sustained => self.sustained(&place).await,
            Scenario::Resume => self.resume(&place).await,
            Scenario::Stopped => Box::pin(self.stopped(&place)).await,
        };
        Box::pin(place.end()).await;
        measured
    }

    fn seconds(&self, default: u32) -> f64 {
        f64::from(self.seconds.unwrap_or(default))
    }

    async fn place(&self, scenario: Scenario) -> Result<Place, BenchError> {
        if let Some(addr) = self.addr {
            if scenario == Scenario::Across {
                return Err(BenchError::because("`across` needs two nodes of its own: leave out --addr"));
            }
            let server = self.pid.map(Processes::one);
            return Ok(Place {
                installation: None,
                redis: None,
                nodes: Vec::new(),
                doors: vec![addr],
                server,
                postgres: None,
            });
        }
        let installation = Installation::start("bench").await?;
        let is_two = scenario == Scenario::Across;
        let redis = if is_two { Some(Redis::start(None).await?) } else { None };
        let bus = redis.as_ref().map(|redis| redis.addr);
        let workers = self.workers.map(|workers| workers.to_string());
        let more: Vec<&str> = workers.iter().flat_map(|workers| ["--workers", workers]).collect();
        let mut nodes = vec![installation.node("node-1", None, bus, &more).await?];
        if is_two {
            nodes.push(installation.node("node-2", None, bus, &more).await?);
        }
        let pids = nodes.iter().map(|node| node.process.pid()).collect();
        Ok(Place {
            doors: nodes.iter().map(|node| node.http).collect(),
            server: Some(Processes { pids, with_children: false }),
            postgres: Some(installation.postgres_processes()),
            installation: Some(installation),
            redis,
            nodes,
        })
    }

    fn town<'a>(&self, place: &'a Place) -> Result<Town<'a>, BenchError> {
        match &place.installation {
            Some(installation) => Ok(Town::Own(installation.errand())),
            None => Town::foreign(place.door(0)?, self.token_file.as_deref()),
        }
    }

    fn swarm(&self) -> Swarm {
        self.swarm_of(self.bytes as usize)
    }

    fn swarm_of(&self, bytes: usize) -> Swarm {
        Swarm::new(self.speech, bytes)
    }

    async fn devices(&self, town: &Town<'_>, users: usize) -> Result<Vec<Device>, BenchError> {
        if self.speech != Speech::Nova {
            let stranger = Device { user: UserId::generate(), token: String::new() };
            return Ok(vec![stranger; users]);
        }
        Ok(town.people(users, 1).await?.devices)
    }

    async fn fan_out(&self, place: &Place, sockets: usize, name: &str) -> Result<Vec<Line>, BenchError> {
        let sockets = self.sockets.map_or(sockets, |sockets| sockets as usize);
        let groups = self.conversations.map_or(1, |groups| groups as usize).min(sockets);
        let (rate, seconds) = (f64::from(self.rate.unwrap_or(20)), self.seconds(15));
        let town = self.town(place)?;
        let devices = self.devices(&town, sockets).await?;
        let mut members: Vec<Vec<Device>> = vec![Vec::new(); groups];
        for (at, device) in devices.iter().enumerate() {
            if let Some(group) = members.get_mut(at % groups) {
                group.push(device.clone());
            }
        }
        let mut swarm = self.swarm();
        let conversations = match self.speech {
            Speech::Nova => town.conversations(&members).await?,
            _ => Vec::new(),
        };
        swarm.dial(place.dials(&devices)).await?;
        for at in 0..sockets {
            if let Some(conversation) = conversations.get(at % groups) {
                swarm.place(at, *conversation);
            }
        }
        // The first of each conversation speaks.
        let who = |number: u64| (number % groups as u64) as usize;
        let each = |group: usize| (sockets - group).div_ceil(groups) as u64;
        let heard_by = |said: u64| (0..said).map(|number| each(who(number))).sum::<u64>();
        let warm = swarm.say_steadily(rate, WARM_S, who).await;
        swarm.hears(LATE_MAX, |tally| tally.deliveries.get() >= heard_by(warm)).await;
        let before = place.cpu();
        let deliveries_before = swarm.tally().deliveries.get();
        swarm.time(true);
        let began = Instant::now();
        let said = swarm.say_steadily(rate, seconds, who).await;
        let expected = heard_by(said);
        swarm.hears(LATE_MAX, |tally| tally.deliveries.get() >= deliveries_before + expected).await;
        let took = began.elapsed();
        let after = place.cpu();
        swarm.time(false);
        let tally = swarm.tally();
        let deliveries = tally.deliveries.get() - deliveries_before;
        let title = format!("{name}, {sockets} sockets, {rate} msgs/s, {} B", self.bytes);
        let mut lines = Vec::new();
        let each_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / deliveries.max(1) as f64;
        if let (Some(before), Some(after)) = (before, after) {
            let node_us = each_us(after.0 - before.0);
            let all_us = node_us + each_us(after.1.saturating_sub(before.1));
            let is_promised = self.speech == Speech::Nova;
            let what = format!("{title}: server CPU a delivery");
            let seen = format!("{node_us:.2} µs");
            lines.push(match is_promised {
                true => Line::promised(what, "≤ 6 µs", seen, node_us <= 6.0),
                false => Line::told(what, seen),
            });
            if is_promised && place.postgres.is_some() {
                let what = format!("{title}: with PostgreSQL");
                lines.push(Line::promised(what, "≤ 8 µs", format!("{all_us:.2} µs"), all_us <= 8.0));
            }
        }
        let heard = Times::new(tally.heard_us.take());
        let p99 = heard.quantile_ms(0.99);
        let what = format!("{title}: from sending to hearing");
        lines.push(match name {
            "large conversation" if self.speech == Speech::Nova => {
                Line::promised(what, "p99 ≤ 250 ms", heard.to_string(), p99 <= 250.0)
            }
            _ => Line::told(what, heard.to_string()),
        });
        lines.push(Line::told(
            format!("{title}: deliveries"),
            format!("{deliveries} in {:.1} s, load {}", took.as_secs_f64(), load()),
        ));
        lines.push(losses(&title, &swarm, expected, deliveries));
        swarm.leave().await;
        Ok(lines)
    }

    async fn direct(&self, place: &Place, name: &str) -> Result<Vec<Line>, BenchError> {
        let pairs = self.conversations.map_or(100, |pairs| pairs as usize);
        let (rate, seconds) = (f64::from(self.rate.unwrap_or(500)), self.seconds(15));
        let town = self.town(place)?;
        let devices = self.devices(&town, 2 * pairs).await?;
        let members: Vec<_> = devices.chunks(2).map(<[Device]>::to_vec).collect();
        let conversations = town.conversations(&members).await?;
        let mut swarm = self.swarm();
        // The two of a pair are at different doors where there are two.
        swarm.dial(place.dials(&devices)).await?;
        for (at, conversation) in conversations.iter().enumerate() {
            swarm.place(2 * at, *conversation);
            swarm.place(2 * at + 1, *conversation);
        }
        let sockets = swarm.len() as u64;
        // A stride without a common factor with their number: neighbours do not speak one after the other.
        let who = |number: u64| ((number * 7_919) % sockets) as usize;
        let warm = swarm.say_steadily(rate, WARM_S, who).await;
        swarm.hears(LATE_MAX, |tally| tally.deliveries.get() >= 2 * warm).await;
        let (before, heard_before) = (place.cpu(), swarm.tally().deliveries.get());
        swarm.time(true);
        let said = swarm.say_steadily(rate, seconds, who).await;
        swarm.hears(LATE_MAX, |tally| tally.deliveries.get() >= heard_before + 2 * said).await;
        let after = place.cpu();
        let deliveries = swarm.tally().deliveries.get() - heard_before;
        let (sent, heard) = (swarm.tally().sent_us.take(), swarm.tally().heard_us.take());
        let (sent, heard) = (Times::new(sent), Times::new(heard));
        let title = format!("{name}, {rate} msgs/s in {pairs} conversations");
        let (p50, p99, heard_p99) = (sent.quantile_ms(0.5), sent.quantile_ms(0.99), heard.quantile_ms(0.99));
        let bound = if place.doors.len() > 1 { 50.0 } else { 30.0 };
        let mut lines = vec![
            Line::promised(
                format!("{title}: from sending to `sent`"),
                "p50 ≤ 5, p99 ≤ 20 ms",
                sent.to_string(),
                p50 <= 5.0 && p99 <= 20.0,
            ),
            Line::promised(
                format!("{title}: from sending to hearing, own socket and the other's"),
                format!("p99 ≤ {bound:.0} ms"),
                format!("{heard}, load {}", load()),
                heard_p99 <= bound,
            ),
        ];
        if let (Some(before), Some(after)) = (before, after) {
            let each_us = |cpu: Duration| cpu.as_secs_f64() * 1e6 / said.max(1) as f64;
            let (node, postgres) = (each_us(after.0 - before.0), each_us(after.1.saturating_sub(before.1)));
            lines.push(Line::told(
                format!("{title}: CPU a message"),
                format!("{node:.0} µs, PostgreSQL {postgres:.0} µs"),
            ));
        }
        lines.push(losses(&title, &swarm, 2 * said, deliveries));
        swarm.leave().await;
        Ok(lines)
    }
}

fn losses(title: &str, swarm: &Swarm, expected: u64, heard: u64) -> Line {
    let tally = swarm.tally();
    let (lost, repeats, holes) = (expected.saturating_sub(heard), tally.repeats.get(), tally.holes.get());
    let (ended, refusals) = (tally.ended.get(), tally.refusals.borrow());
    let mut seen = format!("{lost} lost, {repeats} repeated, {holes} left out, {ended} sockets ended");
    for (code, count) in refusals.iter() {
        seen = format!("{seen}, {count} × {code}");
    }
    let is_good = lost + repeats + holes + ended == 0 && refusals.is_empty();
    Line::promised(format!("{title}: losses, repeats"), "0", seen, is_good)
}

impl Place {
    fn door(&self, at: usize) -> Result<SocketAddr, BenchError> {
        let door = self.doors.get(at % self.doors.len().max(1));
        door.copied().ok_or_else(|| BenchError::because("there is no node"))
    }

    /// One after the other goes to the next door.
    fn dials(&self, devices: &[Device]) -> Vec<Dial> {
        let doors = self.doors.iter().cycle();
        let dials = devices.iter().zip(doors);
        dials.map(|(device, addr)| Dial { addr: *addr, token: device.token.clone() }).collect()
    }

    /// CPU so far of the nodes, and of PostgreSQL.
    fn cpu(&self) -> Option<(Duration, Duration)> {
        let postgres = self.postgres.as_ref().map_or(Duration::ZERO, Processes::cpu);
        Some((self.server.as_ref()?.cpu(), postgres))
    }

    async fn end(self) {
        for mut node in self.nodes {
            node.process.signal(rustix::process::Signal::TERM);
            node.process.ended().await;
        }
        drop(self.redis);
        if let Some(installation) = self.installation {
            installation.end().await;
        }
    }
}
