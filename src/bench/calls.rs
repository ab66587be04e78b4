//! `nova bench calls`: one scenario for each figure that is promised of calls.
//!
//! | scenario | what is done | what is told |
//! |---|---|---|
//! | `audio` | rooms of one voice and many ears | packets a second of a busy core, times |
//! | `video` | rooms of one camera of 1,100-byte packets and many eyes | the same |
//! | `room` | fifty people, all with camera and microphone, nine tiles each | CPU, memory, freezes |
//! | `idle` | fifty people who neither speak nor show anything | CPU of each |
//!
//! Participants are peers without a browser ([`peer`]): ICE, DTLS and SRTP as browsers do them, [`canned`] media in, and a model of a
//! viewer ([`nova_media::rtp::witness`]) that puts what arrives in order, asks again for what is missing, and counts what froze. They join
//! as anybody does ([`seat`]). CPU is of the node's process, read from `/proc`. With `--janus` the same is done with Janus, in the same run. Beside
//! voices stands what the kernel alone takes for them (`floor`). Peers, and who has them do what is due, are a `crowd`.

pub mod canned;
mod crowd;
mod floor;
mod janus;
mod joining;
pub mod meter;
pub mod peer;
pub mod seat;
mod told;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use nova_media::peer::Identity;
use nova_media::rtp::witness::Seen;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::BenchError;
use super::installation::{Installation, Node};
use super::measure::{Line, Processes, Times};
use super::people::{Device, Rest, Town};
use canned::RIDS;
use crowd::{Crowd, JOIN_MAX, TICK, conduct, first_ssrc, publish, start_media};
use janus::Janus;
use meter::Meter;
use peer::{Shape, Tally};
use seat::Seat;
use told::{Measured, Recovery};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Rooms of one voice, 50 packets a second.
    Audio,
    /// Rooms of one camera without simulcast, 2 Mbit/s.
    Video,
    /// One room: everybody with a camera of three layers and a microphone, nine tiles of 360 lines, three voices.
    Room,
    /// One room where nothing happens.
    Idle,
}

/// `nova bench calls`.
#[derive(Debug, Args)]
pub struct CallsBench {
    /// What to measure; default: everything, one after the other.
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,

    /// Participants of a room.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub peers: u32,

    /// Rooms; default: of `audio` 20, of `video` 4, else 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rooms: Option<u32>,

    /// Media shards of the engine; default: as many as it has by itself. Rooms are spread over them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub shards: Option<u8>,

    /// Tiles each participant of `room` looks at.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=25))]
    pub tiles: u32,

    /// Bits a second of the camera of `video`, in thousands.
    #[arg(long, value_name = "KBPS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(50..=20_000))]
    pub kbps: u32,

    /// How long is measured, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,

    /// Of a hundred packets so many are lost on the way to each participant.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50))]
    pub loss: u32,

    /// In the middle of the measure the engine is stopped for so many seconds; everybody has to recover without joining again.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub stall: u32,

    /// The same with the threads of the media alone: the signalling goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, conflicts_with = "stall", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub stall_shard: u32,

    /// Measure Janus (Debian's package `janus`, its VideoRoom) beside it, with the same peers and media.
    #[arg(long, conflicts_with_all = ["stall", "stall_shard"])]
    pub janus: bool,

    /// Print rows of a table in Markdown.
    #[arg(long)]
    pub markdown: bool,

    /// Fail when a figure is not what is promised; freezes without loss always fail.
    #[arg(long)]
    pub strict: bool,
}

/// Before a measure everything has run for a while.
const WARM: Duration = Duration::from_secs(3);
/// How long everybody has to see again after a stall, before it is given up.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// When the metrics hold what has just happened.
const COUNTED_AFTER: Duration = Duration::from_millis(2_500);
/// Lines of a tile: the middle layer.
const TILE_HEIGHT: u32 = 360;

impl CallsBench {
    /// Measures, and prints what is seen. Whether all promises that count were kept.
    pub async fn run(&self) -> Result<bool, BenchError> {
        let all = [Scenario::Audio, Scenario::Video, Scenario::Room, Scenario::Idle];
        let scenarios = if self.scenarios.is_empty() { &all[..] } else { &self.scenarios };
        let mut is_good = true;
        for scenario in scenarios {
            let mut lines = Box::pin(self.measure(*scenario)).await?;
            if matches!(scenario, Scenario::Audio) {
                lines.push(self.floor().await?);
            }
            if self.janus && *scenario != Scenario::Idle {
                lines.extend(Box::pin(self.measure_janus(*scenario)).await?);
            }
            for line in lines {
                let counts = self.strict || line.promised == "0";
                is_good &= line.kept.unwrap_or(true) || !counts;
                line.tell(self.markdown)?;
            }
        }
        Ok(is_good)
    }

    async fn measure(&self, scenario: Scenario) -> Result<Vec<Line>, BenchError> {
        let installation = Installation::start("bench-calls").await?;
        let stall = self.stall_shard.to_string();
        let shards = self.shards.map(|shards| shards.to_string());
        let mut options = vec!["--rtc-participants-max", "1000", "--rtc-fault-stall-s", &stall];
        options.extend(shards.iter().flat_map(|shards| ["--rtc-shards", shards]));
        let mut node = installation.node("node-1", None, None, &options).await?;
        let measured = Box::pin(self.with_node(scenario, &installation, &node)).await;
        node.process.signal(Signal::TERM);
        node.process.ended().await;
        installation.end().await;
        measured
    }

    async fn with_node(
        &self,
        scenario: Scenario,
        installation: &Installation,
        node: &Node,
    ) -> Result<Vec<Line>, BenchError> {
        let rooms = self.rooms_of(scenario);
        let each = self.peers as usize;
        let server = Processes::one(node.process.pid());
        let town = Town::Own(installation.errand());
        let devices = town.people(rooms * each, 1).await?.devices;
        let resident_at_first = server.resident();
        self.warm_up(scenario, node, devices.get(..2).unwrap_or_default()).await?;
        let resident_before = server.resident();
        let mut crowd = self.gather(scenario, node, &devices, each).await?;
        let conductor = conduct(&crowd.peers);
        if scenario != Scenario::Idle {
            crowd.see_something().await?;
        }
        sleep(WARM).await;
        let measured = self.watch(&mut crowd, &server, Some(node)).await?;
        drop(conductor);
        let resident = server.resident();
        let mut lines = self.lines(scenario, &crowd, &measured, rooms);
        let each = crowd.peers.len();
        let (what, added) = (
            format!("{}: memory of a participant", self.title(scenario, rooms)),
            resident.added(resident_before, each),
        );
        let is_small = resident.own.saturating_sub(resident_before.own) <= (512 << 10) * each as u64;
        lines.push(match scenario {
            Scenario::Room => Line::promised(what, "≤ 512 KiB", added, is_small),
            _ => Line::told(what, added),
        });
        let mib = resident_before.all.saturating_sub(resident_at_first.all) as f64 / f64::from(1 << 20);
        let what = format!("{}: memory a first room of two leaves behind", self.title(scenario, rooms));
        lines.push(Line::told(what, format!("{mib:.1} MiB")));
        crowd.tasks.shutdown().await;
        Ok(lines)
    }

    /// What no engine could do better.
    async fn floor(&self) -> Result<Line, BenchError> {
        let (rooms, ears) = (self.rooms_of(Scenario::Audio), self.peers as usize - 1);
        let most = floor::measure(rooms, ears).await.map_err(BenchError::because)?;
        let title = self.title(Scenario::Audio, rooms);
        Ok(Line::told(format!("{title}: the kernel alone, packets of a busy core"), format!("{most:.0}/s")))
    }

    async fn measure_janus(&self, scenario: Scenario) -> Result<Vec<Line>, BenchError> {
        let (rooms, each) = (self.rooms_of(scenario), self.peers as usize);
        let mut janus = Janus::start(rooms).await?;
        let server = Processes::one(janus.process.pid());
        let resident_before = server.resident();
        let mut crowd = self.gather_at_janus(scenario, &janus, rooms, each).await?;
        let conductor = conduct(&crowd.peers);
        crowd.see_something().await?;
        sleep(WARM).await;
        let measured = self.watch(&mut crowd, &server, None).await?;
        drop(conductor);
        let added = server.resident().added(resident_before, rooms * each);
        let lines = self.janus_lines(scenario, &crowd, &measured, added);
        crowd.tasks.shutdown().await;
        janus.process.signal(Signal::TERM);
        janus.process.ended().await;
        Ok(lines)
    }

    fn rooms_of(&self, scenario: Scenario) -> usize {
        let default = match scenario {
            Scenario::Audio => 20,
            Scenario::Video => 4,
            Scenario::Room | Scenario::Idle => 1,
        };
        self.rooms.unwrap_or(default) as usize
    }

    /// Two people meet and part, before anything is measured: code that runs for the first time, connections to the database and buffers of
    /// the shard take memory once, however many come after them.
    async fn warm_up(&self, scenario: Scenario, node: &Node, devices: &[Device]) -> Result<(), BenchError> {
        let mut crowd = self.gather(scenario, node, devices, devices.len()).await?;
        let conductor = conduct(&crowd.peers);
        if scenario != Scenario::Idle {
            crowd.see_something().await?;
        }
        sleep(WARM).await;
        drop(conductor);
        let rest = Rest::new(node.http)?;
        for (room, token) in &crowd.rooms {
            rest.ask(reqwest::Method::DELETE, &format!("/v1/rooms/{room}"), Some(token), None).await?;
        }
        crowd.tasks.shutdown().await;
        let gone = async {
            while Meter::of(node).await?.get("nova_rtc_participants") > 0.0 {
                sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        timeout(JOIN_MAX, gone).await.map_err(|_| BenchError::because("a room that was closed goes on"))?
    }

    /// Rooms are made, and everybody comes and publishes.
    async fn gather(
        &self,
        scenario: Scenario,
        node: &Node,
        devices: &[Device],
        each: usize,
    ) -> Result<Crowd, BenchError> {
        let rest = Rest::new(node.http)?;
        let identity = Arc::new(Identity::generate().map_err(BenchError::because)?);
        let tally = Rc::new(Tally::default());
        let mut crowd = Crowd::new(&tally);
        let began = Instant::now();
        for (number, group) in devices.chunks(each).enumerate() {
            let Some(host) = group.first() else { continue };
            let made =
                rest.ask(reqwest::Method::POST, "/v1/rooms", Some(&host.token), Some(json!({}))).await?;
            let room = made.get("id").cloned().unwrap_or_default();
            let id = room.as_str().unwrap_or_default().to_owned();
            crowd.rooms.push((id, host.token.clone()));
            let coming = group.iter().enumerate().map(|(place, device)| {
                let (identity, tally, room) = (&identity, &tally, &room);
                async move {
                    let began_joining = Instant::now();
                    let shape = self.shape(scenario, place);
                    let mut seat = Seat::connect(node.http, &device.token).await?;
                    let text = peer::offer(shape, &identity.fingerprint());
                    let joined =
                        seat.ask(json!({ "type": "room.join", "room": room, "offer": text })).await?;
                    let answer = joined.get("answer").and_then(Value::as_str).unwrap_or_default();
                    let peer = joining::connected(identity, answer, tally, began, self.loss).await?;
                    let took = u32::try_from(began_joining.elapsed().as_micros()).unwrap_or(u32::MAX);
                    let tracks = publish(&mut seat, shape).await?;
                    start_media(&peer, shape, first_ssrc(number * each + place), place, self.kbps);
                    Ok((seat, peer, tracks, took))
                }
            });
            let seats = joining::all(coming).await?;
            let all: Vec<Vec<u64>> = seats.iter().map(|(.., tracks, _)| tracks.clone()).collect();
            for (place, (mut seat, peer, tracks, took)) in seats.into_iter().enumerate() {
                if scenario == Scenario::Room {
                    // The next so many of the circle.
                    let others =
                        (1..=self.tiles as usize).filter_map(|step| all.get((place + step) % all.len()));
                    let want: Vec<Value> = others
                        .filter_map(|tracks| tracks.last())
                        .map(|track| json!({ "track": track, "height": TILE_HEIGHT }))
                        .collect();
                    seat.say(json!({ "type": "room.view", "want": want }));
                }
                crowd.tasks.spawn_local(seat.listen(peer.clone()));
                crowd.peers.push(peer);
                crowd.tracks.push(tracks);
                crowd.joined_us.push(took);
            }
        }
        Ok(crowd)
    }

    fn shape(&self, scenario: Scenario, place: usize) -> Shape {
        let is_first = place == 0;
        match scenario {
            Scenario::Audio => Shape { ears: 1, eyes: 0, has_voice: is_first, layers: 0 },
            Scenario::Video => Shape { ears: 0, eyes: 1, has_voice: false, layers: usize::from(is_first) },
            Scenario::Room => {
                Shape { ears: 3, eyes: self.tiles as usize, has_voice: true, layers: RIDS.len() }
            }
            Scenario::Idle => Shape { ears: 3, eyes: self.tiles as usize, has_voice: false, layers: 0 },
        }
    }

    /// Lets time pass, and tells what it cost.
    async fn watch(
        &self,
        crowd: &mut Crowd,
        server: &Processes,
        node: Option<&Node>,
    ) -> Result<Measured, BenchError> {
        let tally = crowd.tally.clone();
        let before: Vec<Seen> = crowd.peers.iter().flat_map(|peer| peer.seen()).collect();
        let count = |tally: &Tally| (tally.packets.get(), tally.published.get(), tally.bytes.get());
        let counts = count(&tally);
        let repeats = tally.repeats.get();
        tally.latency_us.borrow_mut().clear();
        tally.time_one_of.set(17);
        let meter = match node {
            Some(node) => Meter::of(node).await?,
            None => Meter::default(),
        };
        let (began, cpu) = (Instant::now(), server.cpu());
        let whole = Duration::from_secs(u64::from(self.seconds));
        let mut recovery = None;
        if self.stall_s() > 0
            && let Some(node) = node
        {
            sleep(whole / 3).await;
            recovery = Some(self.stall_all(crowd, node).await?);
        }
        sleep(whole.saturating_sub(began.elapsed())).await;
        let (took, cpu) = (began.elapsed(), server.cpu() - cpu);
        tally.time_one_of.set(0);
        let told = match node {
            Some(node) => Meter::of(node).await?,
            None => Meter::default(),
        };
        let forwards = told.spread(&meter, "nova_rtc_forward_duration_seconds");
        let added = |series: &str| told.get(series) - meter.get(series);
        let after: Vec<Seen> = crowd.peers.iter().flat_map(|peer| peer.seen()).collect();
        let sum = |of: fn(&Seen) -> u64| {
            after.iter().map(of).sum::<u64>().saturating_sub(before.iter().map(of).sum::<u64>())
        };
        let now = count(&tally);
        Ok(Measured {
            took,
            cpu,
            recovery,
            forwards,
            busy: told.labelled("nova_rtc_busy_ratio"),
            handed: added("nova_rtc_handed_over_total{result=\"taken\"}"),
            handed_lost: added("nova_rtc_handed_over_total{result=\"lost\"}"),
            packets: now.0 - counts.0,
            published: now.1 - counts.1,
            bytes: now.2 - counts.2,
            repeats: tally.repeats.get() - repeats,
            latency: Times::new(tally.latency_us.take()),
            frames: sum(|seen| seen.frames),
            freezes: sum(|seen| seen.freezes),
            lost: sum(|seen| seen.lost),
            broken: sum(|seen| seen.broken + seen.backwards),
            longest: after.iter().map(|seen| seen.longest).max().unwrap_or_default(),
        })
    }
}

impl CallsBench {
    /// Seconds of nothing in the middle.
    fn stall_s(&self) -> u32 {
        self.stall.max(self.stall_shard)
    }

    /// Nothing is forwarded for a while, and then everybody is to see again.
    async fn stall_all(&self, crowd: &Crowd, node: &Node) -> Result<Recovery, BenchError> {
        let long = Duration::from_secs(u64::from(self.stall_s()));
        let before = Meter::of(node).await?;
        if self.stall > 0 {
            node.process.signal(Signal::STOP);
            sleep(long).await;
            node.process.signal(Signal::CONT);
        } else {
            node.process.signal(Signal::USR2);
            sleep(long).await;
        }
        let over = Instant::now();
        let blind = || crowd.peers.iter().filter(|peer| !peer.sees_now()).count();
        let mut after = None;
        while over.elapsed() < RECOVERY_MAX {
            if blind() == 0 {
                after = Some(over.elapsed());
                break;
            }
            sleep(TICK).await;
        }
        // What is counted is added to the metrics once a second, and what is asked for twice is so after half of one.
        sleep(COUNTED_AFTER).await;
        let meter = Meter::of(node).await?;
        let added = |name: &str| (meter.sum(name) - before.sum(name)).max(0.0) as u64;
        Ok(Recovery {
            after,
            blind: blind(),
            gone: added("nova_rtc_failed_total"),
            keyframes: added("nova_rtc_keyframe_requests_total"),
        })
    }
}
