//! Sound that says nothing is not sent on: an open microphone in a quiet room costs nobody anything. What is left out is no gap to
//! whoever hears it, so nobody asks for it or takes it for a loss.

use std::time::{Duration, Instant};

use super::Sfu;
use super::forward::Arrived;
use super::member::source_id;

/// The level of a packet without any sound (RFC 6464 section 3).
const DIGITAL_SILENCE: u8 = 127;
/// So much of a silence is sent on, that decoders end in it and not in a sound.
const TAIL: Duration = Duration::from_millis(200);
/// Of the rest one packet in so long, as Opus itself does when it says nothing (RFC 7587 section 3.1.3): a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_millis(400);

/// What becomes of a packet of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is sent on.
    Sound,
    /// It is sent on, and is the first sound after a silence of which not all was.
    Resumed,
    /// It is not.
    Nothing,
}

/// The silence a track is in.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
    /// When the last packet of it was sent on.
    sent_at: Option<Instant>,
    left_out: bool,
}

impl Silence {
    /// A packet of this level came, in -dBov.
    pub(super) fn hear(&mut self, level: u8, now: Instant) -> Heard {
        let lasts = |since: Instant| now.saturating_duration_since(since);
        let is_sound = level < DIGITAL_SILENCE;
        if is_sound {
            self.since = None;
        } else if lasts(*self.since.get_or_insert(now)) >= TAIL
            && self.sent_at.is_some_and(|at| lasts(at) < SIGN_OF_LIFE)
        {
            self.left_out = true;
            return Heard::Nothing;
        }
        self.sent_at = Some(now);
        if is_sound && std::mem::take(&mut self.left_out) { Heard::Resumed } else { Heard::Sound }
    }
}

impl Sfu {
    /// Leaves a packet out for all who have its track in a slot.
    pub(super) fn leave_out(&mut self, from: u32, arrived: Arrived) {
        let Arrived { stream, kept, subscribers, .. } = arrived;
        let source = source_id(stream.track, stream.layer);
        for (to, at) in &subscribers {
            let slot =
                self.members.get_mut(*to as usize).and_then(|subscriber| subscriber.slots.get_mut(*at));
            if let Some(slot) = slot {
                slot.rewriter.leave_out(source, kept.sequence, None);
                self.counts.silent += 1;
            }
        }
        let track = self.members.get_mut(from as usize).and_then(|member| member.track(stream.track));
        if let Some(track) = track {
            track.subscribers = subscribers;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_sent_until_decoders_are_in_it_and_then_now_and_then() {
        let (mut silence, begin) = (Silence::default(), crate::rtp::beginning());
        // Packets of 20 ms: a second of sound, two of silence, and sound again.
        let level = |at: u64| if (50..150).contains(&at) { DIGITAL_SILENCE } else { 30 };
        let heard: Vec<Heard> =
            (0..200).map(|at| silence.hear(level(at), begin + Duration::from_millis(20 * at))).collect();
        assert!(heard[..60].iter().all(|heard| *heard == Heard::Sound), "the tail of it");
        let sent: Vec<usize> = (60..150).filter(|at| heard[*at] != Heard::Nothing).collect();
        assert_eq!(sent, [79, 99, 119, 139]);
        assert_eq!(heard[150], Heard::Resumed);
        assert!(heard[151..].iter().all(|heard| *heard == Heard::Sound));
    }

    #[test]
    fn who_saves_packets_already_is_heard_whole() {
        let (mut silence, begin) = (Silence::default(), crate::rtp::beginning());
        let mut heard = |at: u64| silence.hear(DIGITAL_SILENCE, begin + Duration::from_millis(400 * at));
        assert!((0..20).all(|at| heard(at) == Heard::Sound));
    }
}
