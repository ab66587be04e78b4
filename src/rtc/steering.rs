//! Has the kernel give what comes from a participant's address to the socket of their shard, so that nothing has to be handed over.
//!
//! The kernel asks a small [`program`] which of the sockets of one port a datagram is for (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)): classic
//! BPF, which anybody may attach to sockets of their own. A shard whose participant's datagrams come to another's socket says so, and the
//! program is made anew; of any other address it says nothing, and the kernel goes by its hash as before. What is not steered yet, or not any
//! more, or wrongly, is handed over as if there were no program ([`demux`](super::demux)): nothing that is right depends on it. Wishes may be
//! lost, so a shard says again from time to time what is its own, and what was not said again is forgotten.
//!
//! A thread of its own makes the program, because having the kernel check and translate a thousand instructions is not for a thread that
//! has packets to forward.

mod program;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::demux::SILENT_FOR;
use crate::telemetry::Metrics;

/// Addresses that are steered at a time; those of more are handed over. Their program has 4,030 instructions at most, of 4,096 that a kernel
/// takes. It has to fit into `net.core.optmem_max` besides, as the kernel translates it: before Linux 6.7 that has room for 700 to 1,000.
const ADDRESSES_MAX: usize = 1_800;
/// Wishes that wait. When full they are lost: the address is handed over, or steered for nothing, until it is said again what is whose.
const WISHES_MAX: usize = 4_096;
/// What was not said again for so long is nobody's: twice may be lost. Shards say it every [`SILENT_FOR`].
const FORGOTTEN_AFTER: Duration = Duration::from_secs(SILENT_FOR.as_secs() * 5 / 2);
/// From one program to the next at least: everybody of a large room comes at once.
const PAUSE: Duration = Duration::from_millis(20);

/// What a shard says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// What comes from there is this shard's.
    Mine(SocketAddr, u8),
    /// It is not, or not any more.
    NotMine(SocketAddr, u8),
}

/// The way to the thread that steers. Cheap to clone; the thread ends with the last.
#[derive(Debug, Clone)]
pub(super) struct Steering(Option<mpsc::Sender<Wish>>);

impl Steering {
    /// Everything goes by the kernel's hash.
    pub(super) fn none() -> Steering {
        Steering(None)
    }

    /// Steers what comes to the port of this socket, which is [one of several](super::sockets::open), in whose order shards are numbered.
    /// Whether that goes, and how many addresses are steered, is told to the metrics.
    pub(super) fn start(socket: &UdpSocket, metrics: &Metrics) -> io::Result<Steering> {
        let socket = socket.try_clone()?;
        let (wishes, heard) = mpsc::channel(WISHES_MAX);
        let told =
            Told { steers: metrics.rtc_steering.clone(), steered: metrics.rtc_steered_addresses.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("nova-steering".to_owned());
        thread.spawn(move || runtime.block_on(steer(socket, heard, told)))?;
        Ok(Steering(Some(wishes)))
    }

    /// Steers nothing; what it is told is heard.
    #[cfg(test)]
    pub(super) fn heard() -> (Steering, mpsc::Receiver<Wish>) {
        let (wishes, heard) = mpsc::channel(WISHES_MAX);
        (Steering(Some(wishes)), heard)
    }

    /// Says what is to be, and soon is.
    pub(super) fn wish(&self, wish: Wish) {
        if let Some(wishes) = &self.0 {
            // What does not fit is handed over.
            let _ = wishes.try_send(wish);
        }
    }
}

/// What the metrics are told.
struct Told {
    /// 1 as long as the kernel does it.
    steers: IntGauge,
    steered: IntGauge,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.steers.set(0);
        self.steered.set(0);
    }
}

/// Until nobody is left who could wish for anything, or the kernel refuses.
async fn steer(socket: UdpSocket, mut wishes: mpsc::Receiver<Wish>, told: Told) {
    let mut table = Table::default();
    // Said when the node starts, and not only when somebody calls.
    let mut is_changed = true;
    loop {
        if is_changed {
            if let Err(error) = table.attach(&socket) {
                // A sandbox may know no such option. The program before stays, and what it says is still right where it matters.
                tracing::warn!(%error, "what comes to the socket of the wrong media shard is handed over: the kernel does not steer it");
                return;
            }
            told.steers.set(1);
            told.steered.set(i64::try_from(table.places.len()).unwrap_or(i64::MAX));
        }
        let next = Instant::now() + if is_changed { PAUSE } else { Duration::ZERO };
        let wish = match timeout(SILENT_FOR, wishes.recv()).await {
            Ok(Some(wish)) => Some(wish),
            Ok(None) => return,
            Err(_silence) => None,
        };
        sleep_until(next).await;
        let now = Instant::now();
        is_changed = table.forget(now);
        for wish in wish.into_iter().chain(std::iter::from_fn(|| wishes.try_recv().ok())) {
            is_changed |= table.hear(wish, now);
        }
    }
}

/// Whose the addresses are, by the [numbers](program::number) the program knows them by, and when that was said last.
#[derive(Debug)]
struct Table {
    places: BTreeMap<u32, (u8, Instant)>,
    /// How many the kernel has room for.
    max: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table { places: BTreeMap::new(), max: ADDRESSES_MAX }
    }
}

impl Table {
    /// Whether something is not as before.
    fn hear(&mut self, wish: Wish, now: Instant) -> bool {
        match wish {
            Wish::Mine(address, shard) => {
                let number = program::number(address);
                let has_room = self.places.len() < self.max || self.places.contains_key(&number);
                let before = if has_room { self.places.insert(number, (shard, now)) } else { None };
                has_room && before.is_none_or(|(before, _)| before != shard)
            }
            Wish::NotMine(address, shard) => {
                let number = program::number(address);
                // It may be another shard's by now.
                let is_theirs = self.places.get(&number).is_some_and(|(known, _)| *known == shard);
                is_theirs && self.places.remove(&number).is_some()
            }
        }
    }

    /// Forgets what was not said again. Whether something was.
    fn forget(&mut self, now: Instant) -> bool {
        let before = self.places.len();
        self.places.retain(|_, (_, said)| now.duration_since(*said) < FORGOTTEN_AFTER);
        self.places.len() < before
    }

    /// Has the kernel steer by this: by as much of it as the kernel has room for.
    fn attach(&mut self, socket: &UdpSocket) -> io::Result<()> {
        loop {
            let places = self.places.iter().map(|(number, (shard, _))| (*number, *shard)).collect();
            match program::attach(socket, &places) {
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory && !self.places.is_empty() => {
                    self.max = self.places.len() * 7 / 8;
                    while self.places.len() > self.max {
                        self.places.pop_last();
                    }
                    tracing::info!(
                        addresses = self.max,
                        "the kernel steers no more addresses to their media shards; net.core.optmem_max of 131072 would do for {ADDRESSES_MAX}"
                    );
                }
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(nth: usize) -> SocketAddr {
        let [.., high, low] = nth.to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(192, 0, high, low), 5_000))
    }

    #[test]
    fn an_address_is_whose_it_was_last_and_there_is_room_for_so_many() {
        let (mut table, now) = (Table::default(), Instant::now());
        let mine = |nth, shard| Wish::Mine(address(nth), shard);
        let not_mine = |nth, shard| Wish::NotMine(address(nth), shard);
        let mut hears = |wish| table.hear(wish, now);
        assert!(hears(mine(0, 1)) && !hears(mine(0, 1)), "it is told once");
        assert!(hears(mine(0, 2)) && !hears(not_mine(0, 1)), "it went over to another");
        assert!(hears(not_mine(0, 2)) && !hears(not_mine(0, 2)));
        assert!((0..ADDRESSES_MAX).all(|nth| hears(mine(nth, 1))));
        assert!(!hears(mine(ADDRESSES_MAX, 1)), "one too many");
        assert!(hears(mine(7, 2)) && hears(not_mine(8, 1)));
        assert!(hears(mine(ADDRESSES_MAX, 1)), "there is room again");
        assert_eq!(table.places.len(), ADDRESSES_MAX);
    }

    #[test]
    fn what_is_not_said_again_is_forgotten() {
        let (mut table, now) = (Table::default(), Instant::now());
        assert!(table.hear(Wish::Mine(address(0), 1), now) && table.hear(Wish::Mine(address(1), 1), now));
        let later = now + SILENT_FOR * 2;
        assert!(!table.forget(later), "twice may be lost");
        assert!(!table.hear(Wish::Mine(address(1), 1), later));
        assert!(table.forget(now + FORGOTTEN_AFTER), "nobody said that it is not theirs any more");
        assert_eq!(table.places.len(), 1);
        assert!(table.forget(later + FORGOTTEN_AFTER) && table.places.is_empty());
    }

    #[test]
    fn a_kernel_with_little_room_steers_as_many_as_it_can() {
        let sockets = super::super::sockets::open((Ipv4Addr::LOCALHOST, 0).into(), 8).unwrap();
        let (mut table, now) = (Table::default(), Instant::now());
        for nth in 0..ADDRESSES_MAX {
            assert!(table.hear(Wish::Mine(address(nth), nth as u8 % 8), now));
        }
        table.attach(&sockets[0]).unwrap();
        let room: usize =
            std::fs::read_to_string("/proc/sys/net/core/optmem_max").unwrap().trim().parse().unwrap();
        assert_eq!(table.places.len(), table.max);
        assert!(room < 131_072 || table.max == ADDRESSES_MAX, "{} of {room} bytes", table.max);
        assert!(room < 20_480 || table.max > 600, "{} of {room} bytes", table.max);
        let mut one_more = || table.hear(Wish::Mine(address(ADDRESSES_MAX), 1), now);
        assert!(!one_more() && !one_more());
    }
}
