//! What a viewer sees of a stream: puts packets in order, waits for what is missing, shows whole frames, and reports freezes. For load
//! peers and tests; a browser does the same with a decoder behind it.
//!
//! A frame is shown when all before it since the last keyframe were, as a decoder asks for. What never comes is passed over with the next
//! keyframe.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::packet::Packet;
use super::payload::{Codec, Vp8};

/// Longer than this without a new frame is a freeze.
pub const FREEZE: Duration = Duration::from_millis(500);
/// Packets that wait for one before them; when more, the oldest are given up.
const WAITING_MAX: usize = 512;

/// What was seen, since the stream began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets, without repeats.
    pub packets: u64,
    /// Packets that came before.
    pub repeats: u64,
    /// Frames that were shown.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Packets that were passed over because they never came.
    pub lost: u64,
    /// Frames that could not be decoded: something they need is missing or not what it should be.
    pub broken: u64,
    /// Frames whose timestamp is before that of the frame before.
    pub backwards: u64,
    /// Gaps of more than [`FREEZE`] between two frames.
    pub freezes: u64,
    /// The longest gap between two frames.
    pub longest: Duration,
}

struct Part {
    timestamp: u32,
    marker: bool,
    begins_frame: bool,
    begins_keyframe: bool,
    is_padding: bool,
    vp8: Option<Vp8>,
}

/// A viewer of one stream.
#[derive(Default)]
pub struct Witness {
    seen: Seen,
    highest: Option<u64>,
    /// The next packet to be shown.
    next: u64,
    waiting: BTreeMap<u64, Part>,
    /// Begun with a keyframe, and nothing was missing since.
    is_whole: bool,
    last: Option<Frame>,
    shown_at: Option<Instant>,
    stuck_since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Frame {
    timestamp: u32,
    tl0: Option<u8>,
    picture: Option<u16>,
}

impl Witness {
    /// What was seen.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Since when nothing could be shown although packets came: a viewer asks for a keyframe.
    pub fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// Whether a frame was shown within [`FREEZE`].
    pub fn is_showing(&self, now: Instant) -> bool {
        self.shown_at.is_some_and(|at| now.saturating_duration_since(at) <= FREEZE)
    }

    /// What is shown is taken away or changes on purpose: the time until the next frame is no freeze.
    pub fn interrupt(&mut self) {
        self.shown_at = None;
        self.stuck_since = None;
    }

    /// The time that has passed without a frame counts as well; to be asked at the end.
    pub fn end(&mut self, now: Instant) {
        self.gap(now);
    }

    /// A packet came, or one that was sent again, under its own number.
    pub fn hear(&mut self, sequence: u16, packet: &Packet<'_>, payload: &[u8], codec: Codec, now: Instant) {
        let at = match self.highest {
            None => 0x1_0000 | u64::from(sequence),
            Some(highest) => {
                let ahead = i64::from(sequence.wrapping_sub(highest as u16).cast_signed());
                highest.saturating_add_signed(ahead)
            }
        };
        if self.highest.is_none() {
            self.next = at;
        }
        self.highest = self.highest.max(Some(at));
        let vp8 = if codec == Codec::Vp8 { Vp8::read(payload) } else { None };
        let part = Part {
            timestamp: packet.timestamp,
            marker: packet.marker || payload.is_empty() || codec.is_audio(),
            begins_frame: begins_frame(codec, payload),
            begins_keyframe: !payload.is_empty() && codec.begins_keyframe(payload),
            is_padding: payload.is_empty(),
            vp8,
        };
        if at < self.next || self.waiting.contains_key(&at) {
            self.seen.repeats += 1;
            return;
        }
        self.seen.packets += 1;
        self.waiting.insert(at, part);
        self.show(now);
        if self.waiting.len() > WAITING_MAX {
            self.pass_over();
        }
        self.stuck_since = match self.is_stuck() {
            true => self.stuck_since.or(Some(now)),
            false => None,
        };
    }

    fn is_stuck(&self) -> bool {
        let reached = self.highest.map_or(self.next, |highest| highest + 1);
        !self.is_whole || reached.saturating_sub(self.next) > self.waiting.len() as u64
    }

    fn show(&mut self, now: Instant) {
        loop {
            // A whole keyframe further on heals everything before it.
            if !self.is_whole || self.end_of_frame(self.next).is_none() {
                let begin = self.waiting.iter().rev().find(|(at, part)| {
                    part.begins_keyframe && **at >= self.next && self.end_of_frame(**at).is_some()
                });
                let Some((begin, _)) = begin else {
                    // Nothing of what waits can be begun with: what came before the first keyframe is of no use.
                    return;
                };
                let begin = *begin;
                let passed = begin - self.next;
                let there = self.waiting.range(..begin).count() as u64;
                if self.is_whole {
                    self.seen.lost += passed.saturating_sub(there);
                }
                self.waiting = self.waiting.split_off(&begin);
                self.next = begin;
                self.is_whole = true;
                self.last = None;
            }
            let Some(end) = self.end_of_frame(self.next) else { return };
            self.show_frame(end, now);
        }
    }

    /// The last packet of the frame that begins here, when all of it is there.
    fn end_of_frame(&self, begin: u64) -> Option<u64> {
        let timestamp = self.waiting.get(&begin)?.timestamp;
        let mut parts = (begin..).map_while(|at| self.waiting.get(&at).map(|part| (at, part)));
        let (at, part) = parts.find(|(_, part)| part.marker || part.timestamp != timestamp)?;
        Some(if part.timestamp == timestamp { at } else { at - 1 })
    }

    fn show_frame(&mut self, end: u64, now: Instant) {
        let rest = self.waiting.split_off(&(end + 1));
        let parts: Vec<Part> = std::mem::replace(&mut self.waiting, rest).into_values().collect();
        self.next = end + 1;
        let Some(first) = parts.first() else { return };
        // Padding has a number and nothing to show.
        if first.is_padding {
            return;
        }
        let frame = Frame {
            timestamp: first.timestamp,
            tl0: first.vp8.and_then(|vp8| vp8.tl0),
            picture: first.vp8.and_then(|vp8| vp8.picture_id),
        };
        // Cut off: the sender went over to another picture, which then needs none before it.
        if parts.last().is_some_and(|last| !last.marker) {
            self.is_whole = false;
            return;
        }
        let is_one = parts.iter().all(|part| part.timestamp == frame.timestamp);
        let is_next = self.last.is_none_or(|last| {
            let temporal = first.vp8.and_then(|vp8| vp8.temporal).unwrap_or(0);
            let tl0 = last
                .tl0
                .zip(frame.tl0)
                .is_none_or(|(last, this)| this.wrapping_sub(last) == u8::from(temporal == 0));
            let mask = if first.vp8.is_some_and(|vp8| vp8.is_long) { 0x7FFF } else { 0x7F };
            let picture = last.picture.zip(frame.picture);
            let picture = picture.is_none_or(|(last, this)| this.wrapping_sub(last) & mask == 1);
            first.begins_keyframe || tl0 && picture
        });
        if !is_one || !first.begins_frame || !is_next {
            self.seen.broken += 1;
            self.is_whole = first.begins_keyframe;
        }
        if self.last.is_some_and(|last| frame.timestamp.wrapping_sub(last.timestamp) >= 0x8000_0000) {
            self.seen.backwards += 1;
        }
        self.last = Some(frame);
        if self.is_whole {
            self.seen.frames += 1;
            self.seen.keyframes += u64::from(first.begins_keyframe);
            self.gap(now);
            self.shown_at = Some(now);
        }
    }

    fn gap(&mut self, now: Instant) {
        let gap = self.shown_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.seen.longest = self.seen.longest.max(gap);
        self.seen.freezes += u64::from(gap > FREEZE);
    }

    fn pass_over(&mut self) {
        let first = self.waiting.keys().next().copied().unwrap_or(self.next);
        let half = first + WAITING_MAX as u64 / 2;
        self.waiting = self.waiting.split_off(&half);
        self.seen.lost += first.saturating_sub(self.next);
        self.next = half;
        self.is_whole = false;
    }
}

/// Whether a packet is the first of its frame. H.264 does not say so; there the timestamp tells.
fn begins_frame(codec: Codec, payload: &[u8]) -> bool {
    codec != Codec::Vp8 || payload.first().is_some_and(|first| first & 0x10 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::packet::Header;

    fn sees(witness: &mut Witness, sequence: u16, timestamp: u32, keyframe: bool, now: Instant) {
        let mut bytes = Vec::new();
        Header { marker: true, payload_type: 96, sequence, timestamp, ..Header::default() }.write(&mut bytes);
        bytes.extend_from_slice(&[0x10, u8::from(!keyframe)]);
        let packet = Packet::read(&bytes).unwrap();
        witness.hear(sequence, &packet, packet.payload, Codec::Vp8, now);
    }

    #[test]
    fn a_gap_in_time_is_a_freeze_and_a_gap_in_numbers_waits_for_a_keyframe() {
        let (mut witness, start) = (Witness::default(), crate::rtp::beginning());
        let at = |ms| start + Duration::from_millis(ms);
        sees(&mut witness, 65_534, 0, false, at(0));
        assert_eq!((witness.seen().frames, witness.stuck_since()), (0, Some(at(0))));
        sees(&mut witness, 65_535, 1, true, at(10));
        sees(&mut witness, 1, 3, false, at(20));
        assert_eq!(witness.seen().frames, 1);
        sees(&mut witness, 0, 2, false, at(30));
        assert_eq!((witness.seen().frames, witness.seen().freezes, witness.stuck_since()), (3, 0, None));
        sees(&mut witness, 3, 5, false, at(40));
        sees(&mut witness, 4, 6, false, at(50));
        assert!(witness.stuck_since().is_some());
        sees(&mut witness, 5, 7, true, at(600));
        assert_eq!((witness.seen().frames, witness.seen().freezes, witness.seen().lost), (4, 1, 1));
        sees(&mut witness, 5, 7, true, at(610));
        assert_eq!(witness.seen().repeats, 1);
        witness.interrupt();
        sees(&mut witness, 6, 8, false, at(6_000));
        assert_eq!((witness.seen().freezes, witness.seen().longest), (1, Duration::from_millis(570)));
        sees(&mut witness, 7, 4, false, at(6_001));
        assert_eq!((witness.seen().backwards, witness.seen().broken), (1, 0));
    }
}
