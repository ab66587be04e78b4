//! The ways to one participant, and which of them packets take.
//!
//! A browser has an address for each of its networks, and has shown with a signed request that it is reached at each. It says which one it
//! prefers by nominating it (RFC 8445 section 8.1.1). When that network goes away, Chromium takes two and a half seconds to believe it, sends
//! over another from then on, and says so two and a half seconds later still. Nobody has to wait that long:
//!
//! - Who has been heard all the time and is not heard for [`SILENT_AFTER`] is sent to at another address of theirs, if there is one they have
//!   signed for lately. A lite agent cannot ask whether that is still good, and need not: the first way stays known, and is taken again
//!   with the first packet that comes over it.
//! - Packets that could be opened are proof of where they came from: if they come over another way, and none over the present one, they
//!   are answered where they came from.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{ADDRESSES_MAX, CONSENT_LIMIT};
use crate::framing::is_marked;

/// Nothing came for so long from somebody who was heard all the time: their way is gone.
const SILENT_AFTER: Duration = Duration::from_millis(300);
/// Packets in a second that make somebody heard all the time. Who only listens tells ten or twenty times a second what arrived.
const STEADY_PACKETS: u32 = 8;
/// Nothing came over the present way for so long while packets come over another: it was left. What is merely overtaken is sooner there.
const LEFT_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Path {
    address: SocketAddr,
    signed_at: Instant,
    heard_at: Instant,
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: Vec<Path>,
    chosen: Option<SocketAddr>,
    /// Packets since the beginning of this second, and in the one before.
    heard: (u32, u32),
    second: Option<Instant>,
    /// Another way was tried because of the present silence.
    tried: bool,
    /// Packets took another way than before, and some were lost meanwhile.
    moved: bool,
}

impl Paths {
    /// Where packets go.
    pub(super) fn chosen(&self) -> Option<SocketAddr> {
        self.chosen
    }

    pub(super) fn knows(&self, address: SocketAddr) -> bool {
        self.known.iter().any(|path| path.address == address)
    }

    /// A signed request came from here; gives what is not believed any more because there are too many.
    pub(super) fn sign(&mut self, from: SocketAddr, nominates: bool, now: Instant) -> Option<SocketAddr> {
        let mut forgotten = None;
        if let Some(path) = self.known.iter_mut().find(|path| path.address == from) {
            path.signed_at = now;
        } else {
            if self.known.len() >= ADDRESSES_MAX {
                let oldest = self.known.iter().position(|path| Some(path.address) != self.chosen);
                forgotten = oldest.map(|at| self.known.remove(at).address);
            }
            self.known.push(Path { address: from, signed_at: now, heard_at: now });
        }
        if nominates || self.chosen.is_none() {
            self.choose(from, now);
        }
        forgotten
    }

    /// A packet that could be opened came from here.
    pub(super) fn hear(&mut self, from: SocketAddr, now: Instant) {
        self.count(now);
        self.heard.0 += 1;
        self.tried = false;
        let Some(path) = self.known.iter_mut().find(|path| path.address == from) else { return };
        path.heard_at = now;
        if self.chosen != Some(from) && self.silence(now) >= LEFT_AFTER {
            self.choose(from, now);
        }
    }

    /// Time has passed.
    pub(super) fn poll(&mut self, now: Instant) {
        self.count(now);
        let steady = self.heard.0.max(self.heard.1) >= STEADY_PACKETS;
        if self.tried || !steady || self.silence(now) < SILENT_AFTER {
            return;
        }
        let fresh = |path: &&Path| {
            Some(path.address) != self.chosen && now.saturating_duration_since(path.signed_at) < CONSENT_LIMIT
        };
        // A connection of TCP went with the way of UDP it was opened beside, if not before.
        let rank = |path: &&Path| (!is_marked(path.address), path.signed_at);
        let Some(other) = self.known.iter().filter(fresh).max_by_key(rank) else { return };
        self.tried = true;
        self.choose(other.address, now);
    }

    /// Whether packets took another way since this was last asked, and some were lost meanwhile.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Nobody was there to hear anything for so long.
    pub(super) fn excuse(&mut self, away: Duration) {
        for path in &mut self.known {
            path.heard_at += away;
            path.signed_at += away;
        }
    }

    fn choose(&mut self, address: SocketAddr, now: Instant) {
        if self.chosen.is_some_and(|chosen| chosen != address) {
            self.moved |= self.silence(now) >= LEFT_AFTER;
        }
        self.chosen = Some(address);
    }

    /// How long nothing came over the present way.
    fn silence(&self, now: Instant) -> Duration {
        let chosen = self.known.iter().find(|path| Some(path.address) == self.chosen);
        chosen.map_or(Duration::MAX, |path| now.saturating_duration_since(path.heard_at))
    }

    fn count(&mut self, now: Instant) {
        let since = *self.second.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed >= Duration::from_secs(1) {
            let before = if passed < Duration::from_secs(2) { self.heard.0 } else { 0 };
            (self.heard, self.second) = ((0, before), Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Somebody with two networks who is heard fifty times a second over the first, for two seconds.
    fn heard() -> (Paths, SocketAddr, SocketAddr, Instant) {
        let (one, two) = ("192.0.2.1:1000".parse().unwrap(), "198.51.100.1:2000".parse().unwrap());
        let mut now = crate::rtp::beginning();
        let mut paths = Paths::default();
        assert_eq!(paths.sign(one, true, now), None);
        assert_eq!(paths.sign(two, false, now), None);
        for _ in 0..100 {
            now += 20 * MS;
            paths.hear(one, now);
            paths.poll(now);
        }
        assert_eq!((paths.chosen(), paths.take_moved()), (Some(one), false));
        (paths, one, two, now)
    }

    #[test]
    fn who_falls_silent_is_sent_to_elsewhere_until_they_are_heard_again() {
        let (mut paths, one, two, mut now) = heard();
        paths.poll(now + 299 * MS);
        assert_eq!(paths.chosen(), Some(one));
        now += 300 * MS;
        paths.poll(now);
        assert_eq!((paths.chosen(), paths.take_moved()), (Some(two), true));
        // It is tried once and not back and forth.
        for _ in 0..100 {
            now += 25 * MS;
            paths.poll(now);
        }
        assert_eq!((paths.chosen(), paths.take_moved()), (Some(two), false));
        // It was only a pause.
        paths.hear(one, now);
        assert_eq!((paths.chosen(), paths.take_moved()), (Some(one), true));
    }

    #[test]
    fn who_sends_over_another_way_is_answered_there_before_it_is_nominated() {
        let (mut paths, one, two, now) = heard();
        paths.hear(two, now + 50 * MS);
        assert_eq!(paths.chosen(), Some(one), "what was overtaken is no change of way");
        paths.hear(one, now + 60 * MS);
        paths.hear(two, now + 170 * MS);
        assert_eq!((paths.chosen(), paths.take_moved()), (Some(two), true));
    }

    #[test]
    fn nobody_is_sent_where_they_are_not_known_to_be() {
        let (mut paths, one, two, now) = heard();
        paths.hear("203.0.113.9:9".parse().unwrap(), now + 200 * MS);
        assert_eq!(paths.chosen(), Some(one));
        // Who signed for the other way half a minute ago may be gone from there, and who hardly ever says anything is not missed.
        let mut stale = heard().0;
        let late = now + CONSENT_LIMIT;
        for at in 0..100 {
            stale.hear(one, late + at * 20 * MS);
        }
        stale.poll(late + 2_500 * MS);
        assert_eq!(stale.chosen(), Some(one));
        let mut quiet = Paths::default();
        quiet.sign(one, true, now);
        quiet.sign(two, false, now);
        quiet.hear(one, now + 500 * MS);
        quiet.poll(now + 2_000 * MS);
        assert_eq!(quiet.chosen(), Some(one));
    }

    #[test]
    fn a_shard_that_was_away_has_missed_nobody() {
        let (mut paths, one, _, now) = heard();
        paths.excuse(2_000 * MS);
        paths.poll(now + 2_020 * MS);
        assert_eq!(paths.chosen(), Some(one));
    }
}
