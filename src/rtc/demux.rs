//! Which shard a datagram is for, when the kernel gave it to another's socket.
//!
//! The kernel chooses among the sockets of one port without knowing of rooms. A shard that reads what is not its own hands it over: the
//! datagrams of one read that are for the same shard go together as a [`Parcel`], copied once, over a bounded queue, and wake it once.
//! What does not fit is lost and counted, as in a socket that is full. And it is [wished](super::steering) that the kernel gives what comes
//! from there to the right socket, which it does from a few milliseconds later on: a packet that was handed over had waited for two threads
//! and cost both, and with as many shards as a large machine has hardly any would come to its own by chance.
//!
//! Whose a datagram is:
//!
//! - An address a participant of this shard vouched for is theirs; most datagrams end here, as if there were no other shards.
//! - A binding request says by its ufrag which shard it is for ([`Astray::To`]). That shard alone knows the password. When the signature is
//!   right and the address new to whoever handed it over, it answers with a [`Claim`]: from now on all that comes from there is its.
//! - Anything else is handed over when its address was claimed so, and nobody's otherwise.
//!
//! So no address is believed before a signed binding request came from it, wherever it comes in, and who only makes things up costs the
//! shard that reads it what it would cost without the others: a look into two maps, or for a binding request the mark of its ufrag. Maps
//! belong to one shard each; there is no lock that somebody could hold.
//!
//! Claims may be lost too, for what they say is found out again: the next binding request is handed over as one from a new address, and a
//! datagram whose receiver knows nothing of its address is answered with word that it is nobody's. Claims of those who are silent end.
//!
//! Sockets that are connected, one for each participant, would bring each what is its, too. But each read would bring the datagrams of one
//! participant in place of thirty, each would need its own place in epoll, and before Linux 6.13 the kernel finds one of them by walking
//! through all of the port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nova_media::sfu::{Astray, Sfu};
use nova_media::stun;
use tokio::sync::mpsc;

use super::steering::{Steering, Wish};

/// Parcels that wait for a shard. When full they are lost and counted.
const PARCELS_MAX: usize = 4_096;
/// Bytes of all parcels that wait for a shard, as many as its socket holds.
const PARCELS_BYTES_MAX: usize = 8 << 20;
/// What a parcel has room for at first: a few datagrams.
const PARCEL_BYTES: usize = 4 << 10;
/// Claims that wait for a shard, which looks at them as soon as a datagram is of no address it knows. When full they are lost, and made again.
const CLAIMS_MAX: usize = 4_096;
/// A claimed address from which nothing came for so long, or twice that, is nobody's: consent is given anew every thirty seconds (RFC 7675
/// section 5.1).
pub(super) const SILENT_FOR: Duration = Duration::from_secs(60);

/// Datagrams that came to another shard's socket in one read.
#[derive(Debug)]
pub(super) struct Parcel {
    /// Whose socket.
    pub(super) via: u8,
    /// When they were read.
    pub(super) came: Instant,
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    from: SocketAddr,
    len: usize,
    is_new: bool,
}

/// One datagram of a parcel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed<'a> {
    pub(super) from: SocketAddr,
    pub(super) datagram: &'a [u8],
    /// Whether its address is not claimed, for whoever read it.
    pub(super) is_new: bool,
}

impl Parcel {
    /// It came over TCP: there is no shard to be told whose it is.
    pub(super) const VIA_TCP: u8 = u8::MAX;

    pub(super) fn new(via: u8, came: Instant) -> Parcel {
        Parcel { via, came, bytes: Vec::new(), heads: Vec::new() }
    }

    pub(super) fn push(&mut self, datagram: &[u8], from: SocketAddr, is_new: bool) {
        if self.heads.is_empty() {
            self.bytes.reserve(PARCEL_BYTES.max(datagram.len()));
        }
        self.bytes.extend_from_slice(datagram);
        self.heads.push(Head { from, len: datagram.len(), is_new });
    }

    /// What it takes of memory.
    fn size(&self) -> usize {
        size_of::<Parcel>() + self.bytes.capacity() + self.heads.capacity() * size_of::<Head>()
    }

    /// What is in it, in the order in which it came.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Handed<'_>> {
        let mut rest = self.bytes.as_slice();
        self.heads.iter().map_while(move |head| {
            let (datagram, later) = rest.split_at_checked(head.len)?;
            rest = later;
            Some(Handed { from: head.from, datagram, is_new: head.is_new })
        })
    }
}

/// What a shard says of an address to the shard whose socket its datagrams come to.
#[derive(Debug, Clone, Copy)]
enum Claim {
    Mine { address: SocketAddr, shard: u8 },
    NotMine { address: SocketAddr, shard: u8 },
}

/// The way to a shard.
#[derive(Debug, Clone)]
struct Way {
    parcels: mpsc::Sender<Parcel>,
    waiting_bytes: Arc<AtomicUsize>,
    claims: mpsc::Sender<Claim>,
}

/// The ways to all shards.
#[derive(Debug, Clone)]
pub(super) struct Ways(Vec<Way>);

impl Ways {
    /// Hands a parcel to a shard. An error is how many datagrams it had no room for.
    pub(super) fn hand(&self, shard: u8, parcel: Parcel) -> Result<(), u64> {
        let (count, size) = (parcel.heads.len() as u64, parcel.size());
        if count == 0 {
            return Ok(());
        }
        let way = self.0.get(usize::from(shard)).ok_or(count)?;
        let fits = way.waiting_bytes.fetch_add(size, Ordering::Relaxed) < PARCELS_BYTES_MAX;
        if fits && way.parcels.try_send(parcel).is_ok() {
            return Ok(());
        }
        way.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
        Err(count)
    }
}

/// An address of another shard's participant whose datagrams come to this one's socket.
#[derive(Debug, Clone, Copy)]
struct Claimed {
    by: u8,
    was_heard: bool,
}

/// What is counted, since the shard began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Datagrams that were handed to other shards.
    pub(super) handed: u64,
    /// Those other shards had no room for.
    pub(super) lost: u64,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Demux {
    shard: u8,
    ways: Ways,
    /// What is being filled for each shard.
    parcels: Vec<Parcel>,
    waiting_bytes: Arc<AtomicUsize>,
    claims: mpsc::Receiver<Claim>,
    claimed: HashMap<SocketAddr, Claimed>,
    /// Of this shard's participants: whose socket their datagrams come to.
    detours: HashMap<SocketAddr, u8>,
    steering: Steering,
    counts: Counts,
}

impl Demux {
    /// One for each of so many shards, and where its parcels arrive; and the ways to all of them. What need not be handed over for long is
    /// wished for of `steering`.
    pub(super) fn for_each(
        shards: usize,
        steering: &Steering,
    ) -> (Vec<(Demux, mpsc::Receiver<Parcel>)>, Ways) {
        let (mut ways, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let (parcels, handed) = mpsc::channel(PARCELS_MAX);
            let (claims, claimed) = mpsc::channel(CLAIMS_MAX);
            ways.push(Way { parcels, waiting_bytes: Arc::default(), claims });
            ends.push((handed, claimed));
        }
        let (now, ways) = (Instant::now(), Ways(ways));
        let numbered = (0..=u8::MAX).zip(ends);
        let demux = |(shard, (handed, claims))| {
            let demux = Demux {
                shard,
                ways: ways.clone(),
                parcels: ways.0.iter().map(|_| Parcel::new(shard, now)).collect(),
                waiting_bytes: ways
                    .0
                    .get(usize::from(shard))
                    .map(|way| way.waiting_bytes.clone())
                    .unwrap_or_default(),
                claims,
                claimed: HashMap::new(),
                detours: HashMap::new(),
                steering: steering.clone(),
                counts: Counts::default(),
            };
            (demux, handed)
        };
        (numbered.map(demux).collect(), ways)
    }

    /// The number of this shard.
    pub(super) fn shard(&self) -> u8 {
        self.shard
    }

    /// Whether there is no other shard.
    pub(super) fn is_alone(&self) -> bool {
        self.ways.0.len() <= 1
    }

    /// What is counted.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Addresses whose datagrams are handed over here.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// Lays aside a datagram that is another shard's, until [`send`](Self::send). `false` when it is nobody's.
    pub(super) fn lay_aside(
        &mut self,
        astray: Astray,
        datagram: &[u8],
        from: SocketAddr,
        sfu: &mut Sfu,
    ) -> bool {
        let (shard, is_new) = match astray {
            Astray::To(shard) => (shard, self.claimed_by(from) != Some(shard)),
            Astray::Unvouched => {
                if !self.claims.is_empty() {
                    // A claim is made before its request is answered, so it is here before anything else from there can be; and an address
                    // that has gone over to another shard's participant is not handed to the one before.
                    self.hear_claims(sfu);
                }
                let by = self.claimed_by(from);
                let Some(by) = by else { return false };
                (by, false)
            }
        };
        let parcel = self.parcels.get_mut(usize::from(shard)).filter(|_| shard != self.shard);
        parcel.map(|parcel| parcel.push(datagram, from, is_new)).is_some()
    }

    fn claimed_by(&mut self, address: SocketAddr) -> Option<u8> {
        let claimed = self.claimed.get_mut(&address)?;
        claimed.was_heard = true;
        Some(claimed.by)
    }

    /// A binding request of this shard's own was answered: whoever claimed its address before has lost it, and hears of that. What they wished
    /// for before may be carried out after this, and then what comes from there comes to them.
    pub(super) fn note_answered(&mut self, datagram: &[u8], from: SocketAddr, sfu: &Sfu) {
        if !self.claimed.is_empty()
            && stun::is_stun(datagram)
            && sfu.knows(from)
            && let Some(claimed) = self.claimed.remove(&from)
        {
            self.claim(from, claimed.by);
        }
    }

    /// Hands over what was laid aside.
    pub(super) fn send(&mut self, came: Instant) {
        for (shard, parcel) in (0..=u8::MAX).zip(&mut self.parcels) {
            let count = parcel.heads.len() as u64;
            if count == 0 {
                continue;
            }
            let full = std::mem::replace(parcel, Parcel::new(self.shard, came));
            match self.ways.hand(shard, Parcel { came, ..full }) {
                Ok(()) => self.counts.handed += count,
                Err(lost) => self.counts.lost += lost,
            }
        }
    }

    /// A parcel was taken from the queue.
    pub(super) fn note_taken(&self, parcel: &Parcel) {
        self.waiting_bytes.fetch_sub(parcel.size(), Ordering::Relaxed);
    }

    /// An address whose datagrams come `via` another shard is of a participant here.
    pub(super) fn claim(&mut self, address: SocketAddr, via: u8) {
        self.detours.insert(address, via);
        self.steering.wish(Wish::Mine(address, self.shard));
        self.say(via, Claim::Mine { address, shard: self.shard });
    }

    /// It is not, or not any more.
    pub(super) fn disclaim(&self, address: SocketAddr, via: u8) {
        self.say(via, Claim::NotMine { address, shard: self.shard });
    }

    /// An address is no participant's of this shard any more.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        if let Some(via) = self.detours.remove(&address) {
            self.steering.wish(Wish::NotMine(address, self.shard));
            self.disclaim(address, via);
        }
    }

    fn say(&self, via: u8, claim: Claim) {
        if let Some(way) = self.ways.0.get(usize::from(via)) {
            // When it does not fit it is said again when it matters again.
            let _ = way.claims.try_send(claim);
        }
    }

    /// Hears what others say of addresses; from time to time, and whenever it decides.
    pub(super) fn hear_claims(&mut self, sfu: &mut Sfu) {
        while let Ok(claim) = self.claims.try_recv() {
            match claim {
                Claim::Mine { address, shard } => {
                    sfu.forget(address);
                    self.detours.remove(&address);
                    self.claimed.insert(address, Claimed { by: shard, was_heard: true });
                }
                Claim::NotMine { address, shard } => {
                    if self.claimed.get(&address).is_some_and(|claimed| claimed.by == shard) {
                        self.claimed.remove(&address);
                    }
                }
            }
        }
    }

    /// Forgets claimed addresses that were silent since this was asked last, and says again which are this shard's; to be asked every
    /// [`SILENT_FOR`].
    pub(super) fn sweep(&mut self) {
        self.claimed.retain(|_, claimed| std::mem::take(&mut claimed.was_heard));
        for address in self.detours.keys() {
            self.steering.wish(Wish::Mine(*address, self.shard));
        }
    }
}

#[cfg(test)]
mod tests {
    use nova_media::peer::Identity;

    use super::*;

    /// Two shards: what comes to the socket of one is for the other.
    struct Two {
        one: Demux,
        other: Demux,
        parcels: mpsc::Receiver<Parcel>,
        sfu: Sfu,
    }

    impl Two {
        fn new() -> Two {
            let (mut both, _) = Demux::for_each(2, &Steering::none());
            let (other, parcels) = both.pop().unwrap();
            let (one, _) = both.pop().unwrap();
            let identity = Arc::new(Identity::generate().unwrap());
            Two { one, other, parcels, sfu: Sfu::new(identity, Vec::new(), 1, Instant::now()) }
        }

        fn comes(&mut self, astray: Astray, datagram: &[u8], from: SocketAddr) -> bool {
            self.one.lay_aside(astray, datagram, from, &mut self.sfu)
        }

        fn claims_of_one(&mut self) -> usize {
            self.one.hear_claims(&mut self.sfu);
            self.one.claimed()
        }
    }

    fn address(last: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], last))
    }

    #[test]
    fn what_comes_from_a_claimed_address_is_handed_over_in_order_and_wakes_once() {
        let mut two = Two::new();
        assert!(!two.comes(Astray::Unvouched, b"early", address(1)));
        assert!(!two.comes(Astray::To(0), b"its own", address(1)), "which is not astray");
        assert!(!two.comes(Astray::To(2), b"no such shard", address(1)));
        assert!(two.comes(Astray::To(1), b"request", address(1)));
        two.other.claim(address(1), 0);
        assert!(two.comes(Astray::Unvouched, b"media", address(1)), "heard of just in time");
        assert!(two.comes(Astray::To(1), b"again", address(1)));
        assert!(!two.comes(Astray::Unvouched, b"a stranger's", address(2)));
        let came = Instant::now();
        two.one.send(came);
        two.one.send(came);
        let parcel = two.parcels.try_recv().unwrap();
        assert!(two.parcels.try_recv().is_err());
        two.other.note_taken(&parcel);
        assert_eq!((parcel.via, parcel.came), (0, came));
        let all: Vec<_> = parcel.datagrams().map(|one| (one.datagram, one.from, one.is_new)).collect();
        let from = address(1);
        assert_eq!(all, [(&b"request"[..], from, true), (b"media", from, false), (b"again", from, false)]);
        assert_eq!(two.one.counts(), Counts { handed: 3, lost: 0 });
        assert_eq!(two.other.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_shard_that_takes_nothing_costs_a_bounded_queue_and_loses_the_rest() {
        for datagram in [&[7_u8; 1_200][..], &[7]] {
            let mut two = Two::new();
            let mut sent = 0;
            while two.one.counts().lost == 0 {
                for _ in 0..8 {
                    assert!(two.comes(Astray::To(1), datagram, address(1)));
                }
                two.one.send(Instant::now());
                sent += 8;
                assert!(sent <= 8 * PARCELS_MAX as u64 + 8);
            }
            let waits = two.other.waiting_bytes.load(Ordering::Relaxed);
            assert!(waits < PARCELS_BYTES_MAX + (64 << 10), "{waits}");
            assert_eq!(two.one.counts(), Counts { handed: sent - 8, lost: 8 });
            while let Ok(parcel) = two.parcels.try_recv() {
                two.other.note_taken(&parcel);
            }
            assert_eq!(two.other.waiting_bytes.load(Ordering::Relaxed), 0);
            assert!(two.comes(Astray::To(1), datagram, address(1)));
            two.one.send(Instant::now());
            assert_eq!(two.one.counts().lost, 8, "there is room again");
        }
    }

    #[test]
    fn what_is_wished_for_is_said_again_until_it_is_not_any_more() {
        let (steering, mut wishes) = Steering::heard();
        let (mut both, _) = Demux::for_each(2, &steering);
        let (mut one, _) = both.remove(0);
        one.claim(address(1), 1);
        one.claim(address(2), 1);
        one.sweep();
        one.forget(address(1));
        one.sweep();
        let all: Vec<Wish> = std::iter::from_fn(|| wishes.try_recv().ok()).collect();
        let mine = |last| Wish::Mine(address(last), 0);
        assert!(
            all[..2] == [mine(1), mine(2)] && all[2..4].contains(&mine(1)) && all[2..4].contains(&mine(2))
        );
        assert_eq!(all[4..], [Wish::NotMine(address(1), 0), mine(2)]);
    }

    #[test]
    fn a_claim_ends_when_its_owner_says_so_or_is_silent_or_somebody_else_answered() {
        let mut two = Two::new();
        for last in 1..=3 {
            two.other.claim(address(last), 0);
        }
        assert_eq!(two.claims_of_one(), 3);
        two.other.forget(address(1));
        two.other.forget(address(9));
        assert_eq!(two.claims_of_one(), 2, "of a participant who left");
        two.one.say(0, Claim::NotMine { address: address(2), shard: 5 });
        assert_eq!(two.claims_of_one(), 2, "said by a shard that had no claim");
        two.one.sweep();
        assert!(two.comes(Astray::Unvouched, b"media", address(2)));
        two.one.sweep();
        assert_eq!(two.claims_of_one(), 1, "one was heard of since");
        two.one.note_answered(&[0, 1], address(2), &two.sfu);
        assert_eq!(two.claims_of_one(), 1, "nobody here vouched for it");
        two.one.sweep();
        assert_eq!(two.claims_of_one(), 0);
        assert!(!two.comes(Astray::Unvouched, b"media", address(2)));
        two.other.disclaim(address(2), 0);
        two.other.disclaim(address(2), 7);
        assert_eq!(two.claims_of_one(), 0);
    }
}
