//! Turns packets of changing sources into one stream that never breaks: for each subscriber and slot its own sequence numbers,
//! timestamps and VP8 counters. What was sent is kept in mind (`memory`) for as long as it may be asked for again.

mod memory;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::is_newer;
use super::payload::Vp8;
use memory::Memory;

/// Places at which packets were left out; late packets from before the oldest are dropped.
const RANGES_MAX: usize = 16;
/// Out of the sequence further back than this is no late packet but a source that began anew.
const LATE_MAX: u16 = 1_000;

/// Whose packets come in: a layer of a track. Two with the same number are one stream.
pub type SourceId = u64;

/// What has to be added to a source's values, modulo their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shift {
    timestamp: u32,
    picture_id: u16,
    tl0: u8,
    key_idx: u8,
    frame_number: u16,
}

impl Shift {
    /// The timestamp the subscriber sees.
    pub fn timestamp(self, of_source: u32) -> u32 {
        of_source.wrapping_add(self.timestamp)
    }

    /// The number of a frame in [dependency descriptors](super::dependency) the subscriber sees. There are gaps in it.
    pub fn frame_number(self, of_source: u16) -> u16 {
        of_source.wrapping_add(self.frame_number)
    }

    /// Writes the counters the subscriber sees into a copy of the payload.
    pub fn rewrite(self, vp8: Vp8, payload: &mut [u8]) {
        let picture_id = vp8.picture_id.unwrap_or(0).wrapping_add(self.picture_id) & 0x7FFF;
        let tl0 = vp8.tl0.unwrap_or(0).wrapping_add(self.tl0);
        let key_idx = vp8.key_idx.unwrap_or(0).wrapping_add(self.key_idx) & 0x1F;
        vp8.rewrite(payload, picture_id, tl0, key_idx);
    }

    /// The same after so many pictures of the source that were left out.
    fn past(self, pictures_out: u16) -> Shift {
        Shift { picture_id: self.picture_id.wrapping_sub(pictures_out), ..self }
    }
}

/// A packet that was sent, and of what it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// As the subscriber numbers it.
    pub sequence: u16,
    /// Whose it was.
    pub source: SourceId,
    /// As the source numbers it.
    pub source_sequence: u16,
    /// How it was changed.
    pub shift: Shift,
}

impl Sent {
    /// The same under another number.
    pub fn numbered(self, sequence: u16) -> Sent {
        Sent { sequence, ..self }
    }
}

/// One packet of a source.
#[derive(Debug, Clone, Copy)]
pub struct Incoming {
    /// Of which source.
    pub source: SourceId,
    /// Its number there.
    pub sequence: u16,
    /// Its time there.
    pub timestamp: u32,
    /// Its counters, for VP8.
    pub vp8: Option<Vp8>,
    /// Its number in a [dependency descriptor](super::dependency).
    pub frame_number: Option<u16>,
}

#[derive(Debug)]
struct Current {
    source: SourceId,
    highest: u16,
    shift: Shift,
    /// From which number of the source on how much is added, and how many of its pictures were left out; oldest first.
    ranges: VecDeque<Range>,
    picture_out: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    from: u16,
    add: u16,
    pictures_out: u16,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub struct Rewriter {
    clock_rate: u32,
    current: Option<Current>,
    next_sequence: u16,
    last_timestamp: u32,
    last_at: Option<Instant>,
    last_picture_id: u16,
    last_tl0: u8,
    last_key_idx: u8,
    last_frame_number: u16,
    memory: Memory,
}

impl Rewriter {
    /// A stream that begins at `sequence`; give a random one (RFC 3550 section 5.1), below 2^15 so that SRTP's count of wraps cannot
    /// be guessed wrong from the first packets.
    pub fn new(clock_rate: u32, sequence: u16) -> Rewriter {
        Rewriter {
            clock_rate,
            current: None,
            next_sequence: sequence & 0x7FFF,
            last_timestamp: u32::from(sequence) << 8,
            last_at: None,
            last_picture_id: 0,
            last_tl0: 0,
            last_key_idx: 0,
            last_frame_number: 0,
            memory: Memory::new(),
        }
    }

    /// The same for what nobody asks for again: sound.
    pub fn without_memory(self) -> Rewriter {
        Rewriter { memory: Memory::of_nothing(), ..self }
    }

    /// Whose packets are forwarded.
    pub fn source(&self) -> Option<SourceId> {
        self.current.as_ref().map(|current| current.source)
    }

    /// How the present source's values are changed.
    pub fn shift(&self) -> Option<Shift> {
        self.current.as_ref().map(|current| current.shift)
    }

    /// The number the next packet in order gets.
    pub fn next_sequence(&self) -> u16 {
        self.next_sequence
    }

    /// The time of the last packet in order.
    pub fn timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// Gives a packet its place in the stream; `None` when it comes too late to have one. A packet of another source than the one
    /// before begins where that ended: what a picture needs must have come before, so with a keyframe.
    pub fn forward(&mut self, incoming: Incoming, now: Instant) -> Option<Sent> {
        let Incoming { source, sequence, timestamp, vp8, frame_number } = incoming;
        let goes_on = self.current.as_ref().is_some_and(|current| {
            let back = current.highest.wrapping_sub(sequence);
            current.source == source && (is_newer(sequence, current.highest) || back <= LATE_MAX)
        });
        if !goes_on {
            self.begin(incoming, now);
        }
        let current = self.current.as_mut()?;
        let late = goes_on && !is_newer(sequence, current.highest);
        let range = if late {
            *current.ranges.iter().rev().find(|range| !is_newer(range.from, sequence))?
        } else {
            current.highest = sequence;
            *current.ranges.back()?
        };
        let (out, shift) = (sequence.wrapping_add(range.add), current.shift.past(range.pictures_out));
        if !late {
            self.next_sequence = out.wrapping_add(1);
            self.last_timestamp = shift.timestamp(timestamp);
            self.last_at = Some(now);
            if let Some(frame_number) = frame_number {
                self.last_frame_number = shift.frame_number(frame_number);
            }
            if let Some(vp8) = vp8 {
                self.last_picture_id = vp8.picture_id.unwrap_or(0).wrapping_add(shift.picture_id) & 0x7FFF;
                self.last_tl0 = vp8.tl0.unwrap_or(0).wrapping_add(shift.tl0);
                self.last_key_idx = vp8.key_idx.unwrap_or(0).wrapping_add(shift.key_idx) & 0x1F;
            }
        }
        self.memory.remember(out, sequence, range.pictures_out, now);
        Some(Sent { sequence: out, source, source_sequence: sequence, shift })
    }

    /// Whether this packet comes after everything of the present source.
    pub fn is_next(&self, source: SourceId, sequence: u16) -> bool {
        self.current.as_ref().is_some_and(|it| it.source == source && is_newer(sequence, it.highest))
    }

    /// Leaves out a packet of the present source, so that its absence does not look like a loss. `picture` is the number of its picture,
    /// of which nothing is sent.
    pub fn leave_out(&mut self, source: SourceId, sequence: u16, picture: Option<u16>) {
        let Some(current) = self.current.as_mut().filter(|current| current.source == source) else { return };
        if !is_newer(sequence, current.highest) {
            return;
        }
        // What was lost between keeps its number, in case it comes late.
        let Some(last) = current.ranges.back().copied() else { return };
        self.next_sequence = sequence.wrapping_add(last.add);
        current.highest = sequence;
        let is_new = picture.is_some() && current.picture_out != picture;
        current.picture_out = picture;
        let pictures_out = last.pictures_out.wrapping_add(u16::from(is_new));
        let range = Range { from: sequence.wrapping_add(1), add: last.add.wrapping_sub(1), pictures_out };
        current.push(range, sequence);
    }

    /// A packet outside of every source: padding. Its number, and the timestamp it repeats.
    pub fn pad(&mut self) -> (u16, u32) {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        if let Some(current) = &mut self.current
            && let Some(last) = current.ranges.back().copied()
        {
            let from = current.highest.wrapping_add(1);
            current.push(Range { from, add: last.add.wrapping_add(1), ..last }, from);
        }
        (sequence, self.last_timestamp)
    }

    /// The source is gone; the next one goes on from here.
    pub fn release(&mut self) {
        self.current = None;
    }

    /// What was sent under this number, to be sent again; `None` when it is unknown, was sent again less than `pause` ago, or three
    /// times already.
    pub fn again(&mut self, sequence: u16, now: Instant, pause: Duration) -> Option<Sent> {
        self.memory.again(sequence, now, pause)
    }

    /// What was sent under this number, whether or not it was sent again: to fill a path with.
    pub fn look_up(&self, sequence: u16) -> Option<Sent> {
        self.memory.look_up(sequence)
    }

    fn begin(&mut self, first: Incoming, now: Instant) {
        let (timestamp, shift) = match self.last_at {
            // As much time passes in the stream as passed outside of it.
            Some(at) => {
                let passed = now.saturating_duration_since(at).as_micros();
                let ticks = passed * u128::from(self.clock_rate) / 1_000_000;
                (self.last_timestamp.wrapping_add((ticks as u32).max(1)), 1)
            }
            None => (self.last_timestamp, 0),
        };
        let vp8 = first.vp8;
        let picture_id = vp8.and_then(|vp8| vp8.picture_id).unwrap_or(0);
        let tl0 = vp8.and_then(|vp8| vp8.tl0).unwrap_or(0);
        let key_idx = vp8.and_then(|vp8| vp8.key_idx).unwrap_or(0);
        let shift = Shift {
            timestamp: timestamp.wrapping_sub(first.timestamp),
            picture_id: self.last_picture_id.wrapping_add(shift).wrapping_sub(picture_id),
            tl0: self.last_tl0.wrapping_add(shift as u8).wrapping_sub(tl0),
            key_idx: self.last_key_idx.wrapping_add(shift as u8).wrapping_sub(key_idx),
            frame_number: self
                .last_frame_number
                .wrapping_add(shift)
                .wrapping_sub(first.frame_number.unwrap_or(0)),
        };
        let add = self.next_sequence.wrapping_sub(first.sequence);
        self.current = Some(Current {
            source: first.source,
            highest: first.sequence,
            shift,
            ranges: VecDeque::from([Range { from: first.sequence, add, pictures_out: 0 }]),
            picture_out: None,
        });
        self.memory.begin(first.source, shift);
    }
}

impl Current {
    /// From here on it is another range; where the last began at `at` it held nothing and is replaced.
    fn push(&mut self, range: Range, at: u16) {
        match self.ranges.back_mut() {
            Some(last) if last.from == at => *last = range,
            _ => self.ranges.push_back(range),
        }
        if self.ranges.len() > RANGES_MAX {
            self.ranges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    pub(super) fn incoming(source: SourceId, sequence: u16, timestamp: u32) -> Incoming {
        Incoming { source, sequence, timestamp, vp8: None, frame_number: None }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Next,
        Lost,
        LeftOut,
        Switch(u16, u32),
        Pad,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            10 => Just(Step::Next), 1 => Just(Step::Lost), 2 => Just(Step::LeftOut),
            1 => (any::<u16>(), any::<u32>()).prop_map(|(sequence, timestamp)| Step::Switch(sequence, timestamp)),
            1 => Just(Step::Pad),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        /// The receiver sees a gap exactly where a packet was lost on the way to us, no number twice, and time that never runs back.
        #[test]
        fn a_receiver_sees_one_stream(start: u16, first: u16, steps in steps()) {
            let mut rewriter = Rewriter::new(90_000, start);
            let (mut now, mut source, mut sequence, mut timestamp) = (crate::rtp::beginning(), 1, first, 5_u32);
            let (mut expected, mut last_time, mut seen) = (rewriter.next_sequence(), None::<u32>, HashSet::new());
            let mut begun = false;
            for step in steps {
                now += Duration::from_millis(33);
                timestamp = timestamp.wrapping_add(2_970);
                match step {
                    Step::Next => {
                        let sent = rewriter.forward(incoming(source, sequence, timestamp), now).unwrap();
                        prop_assert_eq!(sent.sequence, expected);
                        prop_assert!(seen.insert(sent.sequence));
                        let time = sent.shift.timestamp(timestamp);
                        if let Some(last) = last_time { prop_assert!(time.wrapping_sub(last) < 90_000 * 60); }
                        last_time = Some(time);
                        expected = expected.wrapping_add(1);
                        sequence = sequence.wrapping_add(1);
                        begun = true;
                    }
                    Step::Lost => {
                        sequence = sequence.wrapping_add(1);
                        if begun { expected = expected.wrapping_add(1); }
                    }
                    Step::LeftOut => {
                        rewriter.leave_out(source, sequence, None);
                        sequence = sequence.wrapping_add(1);
                    }
                    Step::Switch(to, at) => {
                        // What was lost at the end of the source before is nobody's.
                        expected = rewriter.next_sequence();
                        (source, sequence, timestamp) = (source + 1, to, at);
                        begun = false;
                    }
                    Step::Pad => {
                        if !begun || rewriter.next_sequence() != expected { continue; }
                        let (padding, _) = rewriter.pad();
                        prop_assert_eq!(padding, expected);
                        prop_assert!(seen.insert(padding));
                        expected = expected.wrapping_add(1);
                    }
                }
            }
        }

        /// Packets of one source in any near order get the numbers they would have got in order.
        #[test]
        fn late_packets_keep_their_place(start: u16, first: u16, swaps in proptest::collection::vec(0usize..60, 0..30)) {
            let mut order: Vec<u16> = (0..64).map(|step| first.wrapping_add(step)).collect();
            for at in swaps { order[1..].swap(at, at + 2); }
            let mut rewriter = Rewriter::new(48_000, start);
            let begin = rewriter.next_sequence();
            for sequence in order {
                let sent = rewriter.forward(incoming(1, sequence, 0), crate::rtp::beginning()).unwrap();
                prop_assert_eq!(sent.sequence.wrapping_sub(begin), sequence.wrapping_sub(first));
            }
        }
    }

    #[test]
    fn counters_of_vp8_go_on_over_a_switch() {
        let payload = |picture: u16, tl0: u8, key: u8| {
            let [high, low] = (picture | 0x8000).to_be_bytes();
            vec![0x90, 0xF0, high, low, tl0, key, 0]
        };
        let mut rewriter = Rewriter::new(90_000, 5);
        let mut now = crate::rtp::beginning();
        let mut seen = Vec::new();
        for (source, sequence, picture, tl0, key) in
            [(1, 10, 100, 7, 3), (1, 11, 101, 8, 3), (2, 900, 0x7FFF, 255, 31), (2, 901, 0, 0, 31)]
        {
            now += Duration::from_millis(33);
            let mut payload = payload(picture, tl0, key);
            let vp8 = Vp8::read(&payload);
            let sent = rewriter
                .forward(Incoming { source, sequence, timestamp: 1, vp8, frame_number: None }, now)
                .expect("in order");
            sent.shift.rewrite(vp8.unwrap(), &mut payload);
            let out = Vp8::read(&payload).unwrap();
            seen.push((sent.sequence, out.picture_id.unwrap(), out.tl0.unwrap(), out.key_idx.unwrap()));
        }
        assert_eq!(seen, [(5, 0, 0, 0), (6, 1, 1, 0), (7, 2, 2, 1), (8, 3, 3, 1)]);
    }

    #[test]
    fn pictures_that_are_left_out_are_not_missed() {
        let payload = |picture: u16, temporal: u8| {
            let [high, low] = (picture | 0x8000).to_be_bytes();
            vec![0x90, 0xF0, high, low, (picture / 2) as u8, temporal << 6, 1]
        };
        let (mut rewriter, now) = (Rewriter::new(90_000, 5), crate::rtp::beginning());
        let mut seen = Vec::new();
        // Every other picture has two packets and is left out.
        let (mut sequence, mut lost) = (10, Vec::new());
        for picture in 100..140_u16 {
            let (temporal, packets) = if picture % 2 == 0 { (0, 1) } else { (1, 2) };
            for _ in 0..packets {
                let mut payload = payload(picture, temporal);
                let vp8 = Vp8::read(&payload);
                if temporal == 1 {
                    rewriter.leave_out(1, sequence, Some(picture));
                } else if picture == 120 {
                    lost.push((sequence, payload));
                } else {
                    let sent = rewriter
                        .forward(Incoming { source: 1, sequence, timestamp: 1, vp8, frame_number: None }, now)
                        .unwrap();
                    sent.shift.rewrite(vp8.unwrap(), &mut payload);
                    seen.push((sent.sequence, Vp8::read(&payload).unwrap().picture_id.unwrap()));
                }
                sequence += 1;
                if picture == 124 && temporal == 0 {
                    let (sequence, mut payload) = lost.pop().unwrap();
                    let vp8 = Vp8::read(&payload);
                    let sent = rewriter
                        .forward(Incoming { source: 1, sequence, timestamp: 1, vp8, frame_number: None }, now)
                        .unwrap();
                    sent.shift.rewrite(vp8.unwrap(), &mut payload);
                    seen.push((sent.sequence, Vp8::read(&payload).unwrap().picture_id.unwrap()));
                    assert_eq!(rewriter.look_up(sent.sequence), Some(sent));
                }
            }
        }
        seen.sort_unstable();
        let expected: Vec<(u16, u16)> = (0..20).map(|step| (5 + step, step)).collect();
        assert_eq!(seen, expected);
    }
}
