//! The shard itself was away: its thread did not run for a while, so nobody's packets were heard and nothing was sent.
//!
//! That is nobody's fault. Without this, the first look at the clock would find all layers silent and all paths dead: everybody would fall
//! to the lowest layer, publishers would be asked for keyframes of that and soon after of the one before, and estimates would sink,
//! although everything is as it was.

use std::time::{Duration, Instant};

use super::Sfu;
use super::member::{Member, Track};

/// The shard is asked something every [`POLL`](super::POLL); after so long without it was away.
const AWAY: Duration = Duration::from_millis(150);

impl Sfu {
    /// The shard is asked something at this time.
    pub(super) fn note_awake(&mut self, now: Instant) {
        let away = now.saturating_duration_since(self.awake);
        self.awake = self.awake.max(now);
        if away >= AWAY {
            for (_, member) in &mut self.members {
                member.excuse(away, now);
            }
        }
    }
}

impl Member {
    /// So much time did not pass for what is judged by its silence.
    fn excuse(&mut self, away: Duration, now: Instant) {
        self.peer.excuse(away);
        self.estimator.excuse(away, now);
        for track in &mut self.tracks {
            track.excuse(away, now);
        }
    }
}

impl Track {
    fn excuse(&mut self, away: Duration, now: Instant) {
        // Who came after the shard was awake for the last time is not from the future.
        let later = |at: &mut Option<Instant>| *at = at.map(|at| (at + away).min(now));
        later(&mut self.spoke_at);
        for layer in &mut self.layers {
            later(&mut layer.heard_at);
            later(&mut layer.resumed_at);
        }
    }
}
