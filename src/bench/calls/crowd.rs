//! Everybody who takes part: peers, what each publishes, and who has them do what is due.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::canned::{Layer, RIDS, Voice};
use super::peer::{Peer, Shape, Tally};
use super::seat::Seat;
use crate::bench::BenchError;

/// How long everybody has to be connected, and to see something.
pub(super) const JOIN_MAX: Duration = Duration::from_secs(60);

/// How often peers do what is due, each when it is its turn: what is due at one moment would come at one moment, as it does nowhere.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Turns until it is the first peers' again. Browsers send the packets of pictures every five milliseconds, and those of voices at once, so for who
/// only speaks it is always their turn.
const TURNS: usize = 4;
/// Bits a second of the layers of a camera, in thousands: the middle one is 100 packets a second.
pub(super) const LAYERS_KBPS: [u32; 3] = [150, 880, 2_500];

/// Everybody.
pub(super) struct Crowd {
    pub(super) peers: Vec<Rc<Peer>>,
    /// Tracks each published, in the order of peers.
    pub(super) tracks: Vec<Vec<u64>>,
    pub(super) tally: Rc<Tally>,
    pub(super) joined_us: Vec<u32>,
    /// Rooms, and the token of who made each.
    pub(super) rooms: Vec<(String, String)>,
    pub(super) tasks: JoinSet<()>,
}

impl Crowd {
    pub(super) fn new(tally: &Rc<Tally>) -> Crowd {
        Crowd {
            peers: Vec::new(),
            tracks: Vec::new(),
            tally: tally.clone(),
            joined_us: Vec::new(),
            rooms: Vec::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Waits until everybody who should see or hear something does.
    pub(super) async fn see_something(&self) -> Result<(), BenchError> {
        // The first of a room of one publisher sees nobody.
        let blind = |peer: &&Rc<Peer>| peer.first_frame().is_none() && !peer.publishes_alone();
        let all = async {
            while self.peers.iter().any(|peer| blind(&peer)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let seen = timeout(JOIN_MAX, all).await;
        let left = self.peers.iter().filter(blind).count();
        seen.map_err(|_| BenchError::because(format!("{left} peers saw nothing within a minute")))
    }
}

/// Has all peers do what is due, until it is dropped.
pub(super) fn conduct(peers: &[Rc<Peer>]) -> JoinSet<()> {
    let peers = peers.to_vec();
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for turn in (0..TURNS).cycle() {
            ticks.tick().await;
            for (place, peer) in peers.iter().enumerate() {
                if place % TURNS == turn || peer.only_speaks() {
                    peer.tick(Instant::now());
                }
            }
        }
    });
    tasks
}

pub(super) async fn publish(seat: &mut Seat, shape: Shape) -> Result<Vec<u64>, BenchError> {
    let mut tracks = Vec::new();
    if shape.has_voice {
        tracks.push(json!({ "mid": "0", "source": "microphone" }));
    }
    if shape.layers > 0 {
        tracks.push(json!({ "mid": "1", "source": "camera" }));
    }
    if tracks.is_empty() {
        return Ok(Vec::new());
    }
    let answer = seat.ask(json!({ "type": "room.publish", "tracks": tracks })).await?;
    let published = answer.get("tracks").and_then(Value::as_array);
    let keys = published.into_iter().flatten().filter_map(|track| track.get("track")?.as_u64());
    Ok(keys.collect())
}

/// The first of the SSRCs of somebody, of all who take part.
pub(super) fn first_ssrc(nth: usize) -> u32 {
    (1_000 + 16 * nth) as u32
}

pub(super) fn start_media(peer: &Peer, shape: Shape, ssrc: u32, place: usize, kbps: u32) {
    // Not all in the same millisecond.
    let due = Instant::now() + Duration::from_millis(place as u64 * 7 % 33);
    if shape.has_voice {
        // The first three speak, the others are quiet.
        let level = if place < 3 { 20 } else { 100 };
        peer.speak(Voice::new(ssrc, 50, level, due));
    }
    let layers = match shape.layers {
        0 => Vec::new(),
        1 => vec![Layer::new(None, ssrc + 1, kbps, due)],
        _ => RIDS
            .into_iter()
            .zip(LAYERS_KBPS)
            .zip(ssrc + 1..)
            .map(|((rid, kbps), ssrc)| Layer::new(Some(rid), ssrc, kbps, due))
            .collect(),
    };
    peer.show(layers);
}
