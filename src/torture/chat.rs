//! `nova torture chat`: two nodes, one PostgreSQL, one Redis; people who talk; and whatever can happen to them, in an order given by a
//! number that is printed.
//!
//! In the end everything is well again. Then every device that is connected must come to be shown the end of all its conversations without
//! being asked to do anything, everything said must be answered, and each device connects once more and takes what waits for it. Then the
//! [judge](super::check) reads.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nova_actors::conversation::Entry;
use nova_actors::id::ConversationId;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::TortureError;
use super::check::check;
use super::device::{Device, Phase, World};
use super::history::{InboxLine, Place, Record, Told};
use super::proxy::{Proxy, Way};
use crate::bench::installation::{Installation, Node, Redis};
use crate::bench::people::{self, Rest, Town};
use crate::postgres::PostgresHealth;

/// People, and devices of each.
const USERS: usize = 6;
const DEVICES: usize = 2;
/// Once all is well, so long may it take until everybody has been shown everything: a node that missed something on the bus compares
/// itself with the log every twenty seconds.
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// A node that is asked to leave has left by then.
const LEAVE_MAX: Duration = Duration::from_secs(30);
/// PostgreSQL is back by then.
const RECOVER_MAX: Duration = Duration::from_secs(60);
/// Faults that are printed.
const SHOWN_MAX: usize = 25;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Harm {
    /// A node is killed, and started again.
    Kill,
    /// A node stands still for a while.
    Pause,
    /// A node is cut off from Redis: connections end.
    Cut,
    /// A node is cut off from Redis, and not told.
    Silence,
    /// Redis forgets everything.
    Flush,
    /// Redis is killed, and started again.
    Redis,
    /// PostgreSQL is restarted in good order.
    Postgres,
    /// PostgreSQL is ended at once, and recovers.
    Crash,
    /// One node after the other is asked to leave, and started again.
    Rolling,
    /// All devices leave and come back at once.
    Stampede,
    /// A node is killed while the other is cut off from Redis.
    KillCut,
}

/// `nova torture chat`.
#[derive(Debug, Args)]
pub struct ChatTorture {
    /// What decides the order of things; default: another each time. It is printed.
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// For how long things happen.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,

    /// What is to happen; default: everything.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub harm: Vec<Harm>,

    /// Leave logs and data in the temporary directory, also when nothing is wrong.
    #[arg(long)]
    pub keep: bool,
}

struct Site {
    installation: Installation,
    redis: Redis,
    proxies: Vec<Proxy>,
    nodes: Vec<Option<Node>>,
    doors: Vec<SocketAddr>,
}

/// Options of the nodes: few threads, so that their turns differ; peers that stand still are noticed soon.
const OPTIONS: &[&str] = &["--workers", "1", "--ws-ping-s", "5", "--drain-s", "10"];

impl ChatTorture {
    /// Tortures, judges, prints. Whether nothing was wrong.
    pub async fn run(&self) -> Result<bool, TortureError> {
        let seed = self.seed.unwrap_or_else(|| {
            u64::from(uuid::Uuid::now_v7().as_fields().2) << 16 | u64::from(std::process::id())
        });
        println(&format!("seed {seed}"))?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut site = Box::pin(Site::start()).await?;
        let (world, users, devices) = site.people(seed).await?;
        let mut living = JoinSet::new();
        for device in &devices {
            living.spawn_local(device.clone().live());
        }
        let mut done: BTreeMap<Harm, u32> = BTreeMap::new();
        let all = match self.harm.is_empty() {
            true => Harm::value_variants().to_vec(),
            false => self.harm.clone(),
        };
        let end = Instant::now() + Duration::from_secs(self.seconds.into());
        // Each once before any comes again.
        let mut bag: Vec<Harm> = Vec::new();
        while Instant::now() < end {
            sleep(Duration::from_millis(rng.random_range(300..1_500))).await;
            if bag.is_empty() {
                bag.clone_from(&all);
            }
            let harm = bag.swap_remove(rng.random_range(0..bag.len()));
            Box::pin(site.suffer(harm, &mut rng, &world)).await?;
            *done.entry(harm).or_default() += 1;
        }
        let mut record = Record::default();
        let settled = Box::pin(site.settle(&world, &devices)).await?;
        Box::pin(come_back(&world, &devices)).await;
        world.phase.set(Phase::End);
        while living.join_next().await.is_some() {}
        Box::pin(site.read(&world, &users, &mut record)).await?;
        record.devices = devices.iter().map(|device| device.history()).collect();
        let faults = check(&record);
        for fault in faults.iter().take(SHOWN_MAX) {
            println(&format!("WRONG: {fault}"))?;
        }
        let done: Vec<_> = done.iter().map(|(harm, count)| format!("{count} × {}", name(*harm))).collect();
        let entries: usize = record.logs.values().map(Vec::len).sum();
        println(&format!(
            "{} faults in {entries} entries, {} acknowledged, {} shown on {} connections; everybody had everything after {:.1} s; {}",
            faults.len(),
            world.acknowledged.get(),
            world.shown.get(),
            world.connects.get(),
            settled.as_secs_f64(),
            done.join(", "),
        ))?;
        if self.keep || !faults.is_empty() {
            site.installation.folder().keep();
            println(&format!("logs and data: {}", site.installation.folder().path().display()))?;
        }
        Box::pin(site.end()).await;
        Ok(faults.is_empty())
    }
}

fn name(harm: Harm) -> String {
    harm.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn println(text: &str) -> Result<(), TortureError> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(TortureError::because)
}

/// Everybody leaves and connects once more, and takes what waits.
async fn come_back(world: &World, devices: &[Rc<Device>]) {
    world.stampede.set(world.stampede.get() + 1);
    // Those who do not make it have a hole, which the judge finds.
    sleep(Duration::from_millis(500)).await;
    let _all = timeout(SETTLE_MAX, until(|| devices.iter().all(|device| device.is_quiet()))).await.is_ok();
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(50)).await;
    }
}

impl Site {
    async fn start() -> Result<Site, TortureError> {
        let installation = Installation::start("torture").await?;
        let redis = Redis::start(None).await?;
        let (mut proxies, mut nodes, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..2 {
            let proxy = Proxy::open(redis.addr).await.map_err(TortureError::because)?;
            let node = installation.node(&format!("node-{number}"), None, Some(proxy.addr), OPTIONS).await?;
            doors.push(node.http);
            nodes.push(Some(node));
            proxies.push(proxy);
        }
        Ok(Site { installation, redis, proxies, nodes, doors })
    }

    async fn people(
        &self,
        seed: u64,
    ) -> Result<(Rc<World>, Vec<people::Device>, Vec<Rc<Device>>), TortureError> {
        let town = Town::Own(self.installation.errand());
        let all = town.people(USERS, DEVICES).await?.devices;
        let users: Vec<people::Device> = all.iter().step_by(DEVICES).cloned().collect();
        // All together, three of them, and three pairs.
        let groups: [&[usize]; 5] = [&[0, 1, 2, 3, 4, 5], &[0, 2, 4], &[0, 1], &[2, 3], &[1, 4]];
        let members: Vec<Vec<people::Device>> = groups
            .iter()
            .map(|of| of.iter().filter_map(|user| users.get(*user).cloned()).collect())
            .collect();
        let conversations = town.conversations(&members).await?;
        let world = Rc::new(World {
            doors: self.doors.clone(),
            conversations: conversations.iter().map(ToString::to_string).collect(),
            phase: Cell::new(Phase::Storm),
            stampede: Cell::default(),
            connects: Cell::default(),
            shown: Cell::default(),
            acknowledged: Cell::default(),
        });
        let devices = all.iter().enumerate().map(|(number, device)| {
            let user = number / DEVICES;
            let places =
                (0..groups.len()).filter(|place| groups.get(*place).is_some_and(|of| of.contains(&user)));
            // One never says what it has: sooner or later more waits for it than is pushed.
            let acknowledges = number != 3;
            let token = device.token.clone();
            Rc::new(Device::new(world.clone(), number, user, token, places.collect(), seed, acknowledges))
        });
        let devices = devices.collect();
        Ok((world, users, devices))
    }

    async fn suffer(&mut self, harm: Harm, rng: &mut StdRng, world: &World) -> Result<(), TortureError> {
        let node = rng.random_range(0..self.nodes.len());
        let other = (node + 1) % self.nodes.len();
        let a_while = Duration::from_millis(rng.random_range(200..4_000));
        match harm {
            Harm::Kill => {
                self.kill(node).await;
                sleep(a_while / 4).await;
                self.revive(node).await?;
            }
            Harm::Pause => {
                self.signal(node, Signal::STOP);
                sleep(a_while).await;
                self.signal(node, Signal::CONT);
            }
            Harm::Cut | Harm::Silence => {
                let way = if harm == Harm::Cut { Way::Cut } else { Way::Silent };
                self.set_way(node, way);
                sleep(a_while).await;
                self.set_way(node, Way::Open);
            }
            Harm::Flush => {
                for command in ["FLUSHALL\r\n", "CLIENT KILL TYPE pubsub\r\n"] {
                    self.tell_redis(command).await.map_err(TortureError::because)?;
                }
            }
            Harm::Redis => {
                self.redis.process.signal(Signal::KILL);
                self.redis.process.ended().await;
                sleep(a_while / 4).await;
                self.redis = Redis::start(Some(self.redis.addr.port())).await?;
            }
            Harm::Postgres => self.restart_postgres(Signal::INT).await?,
            Harm::Crash => self.restart_postgres(Signal::QUIT).await?,
            Harm::Rolling => {
                for node in [node, other] {
                    self.signal(node, Signal::TERM);
                    if let Some(Some(leaving)) = self.nodes.get_mut(node) {
                        let left = timeout(LEAVE_MAX, leaving.process.ended()).await;
                        if left != Ok(true) {
                            return Err(TortureError::because(format!(
                                "node {node} was asked to leave and did not end well: {left:?}"
                            )));
                        }
                    }
                    self.revive(node).await?;
                    sleep(a_while / 8).await;
                }
            }
            Harm::Stampede => world.stampede.set(world.stampede.get() + 1),
            Harm::KillCut => {
                self.set_way(other, Way::Cut);
                sleep(a_while / 8).await;
                self.kill(node).await;
                sleep(a_while / 8).await;
                self.set_way(other, Way::Open);
                self.revive(node).await?;
            }
        }
        Ok(())
    }

    fn signal(&self, node: usize, signal: Signal) {
        if let Some(Some(node)) = self.nodes.get(node) {
            node.process.signal(signal);
        }
    }

    fn set_way(&self, node: usize, way: Way) {
        if let Some(proxy) = self.proxies.get(node) {
            proxy.set(way);
        }
    }

    async fn kill(&mut self, node: usize) {
        if let Some(slot) = self.nodes.get_mut(node)
            && let Some(mut node) = slot.take()
        {
            node.process.signal(Signal::KILL);
            node.process.ended().await;
        }
    }

    /// Starts a node again where it was.
    async fn revive(&mut self, node: usize) -> Result<(), TortureError> {
        let (Some(door), Some(proxy)) = (self.doors.get(node), self.proxies.get(node)) else {
            return Ok(());
        };
        let name = format!("node-{node}");
        let revived = self.installation.node(&name, Some(*door), Some(proxy.addr), OPTIONS).await?;
        if let Some(slot) = self.nodes.get_mut(node) {
            *slot = Some(revived);
        }
        Ok(())
    }

    async fn tell_redis(&self, command: &str) -> std::io::Result<()> {
        let mut stream = tokio::net::TcpStream::connect(self.redis.addr).await?;
        stream.write_all(command.as_bytes()).await?;
        let mut answer = [0; 64];
        stream.read(&mut answer).await.map(drop)
    }

    /// Ends PostgreSQL by a signal, and waits until its keeper has started it again.
    async fn restart_postgres(&self, signal: Signal) -> Result<(), TortureError> {
        let mut health = self.installation.postgres.health();
        let running = match &*health.borrow_and_update() {
            PostgresHealth::Running { pid } => *pid,
            _ => return Ok(()),
        };
        if let Some(pid) = i32::try_from(running).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, signal).map_err(TortureError::because)?;
        }
        let again =
            |health: &PostgresHealth| matches!(health, PostgresHealth::Running { pid } if *pid != running);
        match timeout(RECOVER_MAX, health.wait_for(again)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(TortureError::because("PostgreSQL was not started again within a minute")),
        }
    }

    /// All is well: waits until everything is answered and everybody who is connected was shown the end. Says how long it took.
    async fn settle(&self, world: &World, devices: &[Rc<Device>]) -> Result<Duration, TortureError> {
        world.phase.set(Phase::Settle);
        let began = Instant::now();
        loop {
            let tops = self.tops(world).await;
            let behind = |tops: &[u64]| devices.iter().map(|device| device.behind(tops)).collect::<Vec<_>>();
            if let Ok(tops) = &tops {
                let is_quiet = devices.iter().all(|device| device.is_quiet());
                let behind = behind(tops);
                if is_quiet && behind.iter().all(Vec::is_empty) {
                    return Ok(began.elapsed());
                }
                if began.elapsed() > SETTLE_MAX {
                    for (device, behind) in devices.iter().zip(behind) {
                        for (place, last, top) in behind {
                            device.is_stale(place, last, top);
                        }
                    }
                    return Ok(began.elapsed());
                }
            }
            if began.elapsed() > SETTLE_MAX + RECOVER_MAX {
                return Err(TortureError::because("the database does not answer although all is well"));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn tops(&self, world: &World) -> Result<Vec<u64>, TortureError> {
        let ids: Vec<ConversationId> = world.conversations.iter().filter_map(|id| id.parse().ok()).collect();
        let found = self.installation.errand().store().tops(&ids).await.map_err(TortureError::because)?;
        let found: BTreeMap<_, _> = found.into_iter().collect();
        Ok(ids.iter().map(|id| found.get(id).map_or(0, |top| top.seq)).collect())
    }

    /// Reads the logs and the inboxes as they stand.
    async fn read(
        &self,
        world: &World,
        users: &[people::Device],
        record: &mut Record,
    ) -> Result<(), TortureError> {
        let store = self.installation.errand().store();
        for (place, id) in world.conversations.iter().enumerate() {
            let Ok(id) = id.parse() else { continue };
            let range = store.entry_range(id, 0, u32::MAX).await.map_err(TortureError::because)?;
            let entries = range.map(|range| range.entries).unwrap_or_default();
            record.logs.insert(place, entries.iter().map(|entry| told(place, entry)).collect());
        }
        let door = self.doors.first().copied();
        let rest = Rest::new(door.ok_or_else(|| TortureError::because("there is no node"))?)?;
        for (user, device) in users.iter().enumerate() {
            let path = "/v1/conversations?limit=100";
            let inbox = rest.ask(Method::GET, path, Some(&device.token), None).await?;
            for line in inbox.get("items").and_then(Value::as_array).into_iter().flatten() {
                let number = |field: &str| line.get(field).and_then(Value::as_u64).unwrap_or(u64::MAX);
                let id = line.get("id").and_then(Value::as_str).unwrap_or_default();
                let Some(place) = world.conversations.iter().position(|known| known == id) else {
                    continue;
                };
                let (top, read, unread) = (number("last_seq"), number("read_seq"), number("unread"));
                record.inbox.push(InboxLine { user, place, top, read, unread });
            }
        }
        Ok(())
    }

    async fn end(self) {
        for mut node in self.nodes.into_iter().flatten() {
            node.process.signal(Signal::TERM);
            let _left = timeout(LEAVE_MAX, node.process.ended()).await.is_ok();
        }
        drop((self.proxies, self.redis));
        self.installation.end().await;
    }
}

fn told(place: Place, entry: &Entry) -> Told {
    Told { place, epoch: u64::from(entry.epoch), seq: entry.seq, key: entry.client_msg_id.clone() }
}
