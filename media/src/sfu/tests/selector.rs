//! Whatever is chosen for a slot, a viewer sees one stream that can be shown.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::rtp::payload::Codec;
use crate::rtp::rewriter::Rewriter;
use crate::rtp::ring::Kept;
use crate::rtp::temporal::Part;
use crate::rtp::witness::Witness;
use crate::sfu::member::{Slot, StreamOf};

#[derive(Debug, Clone)]
enum Step {
    /// A picture of a layer, in so many packets.
    Picture {
        layer: usize,
        packets: u8,
        keyframe: bool,
    },
    Target(usize),
    Temporal(u8),
    Pause,
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let picture = (0usize..3, 1u8..4, proptest::bool::weighted(0.15));
    let picture = picture.prop_map(|(layer, packets, keyframe)| Step::Picture { layer, packets, keyframe });
    let step = prop_oneof![
        20 => picture, 2 => (0usize..3).prop_map(Step::Target), 1 => (0u8..3).prop_map(Step::Temporal),
        1 => Just(Step::Pause), 1 => Just(Step::Resume),
    ];
    proptest::collection::vec(step, 1..400)
}

/// One layer, as its encoder counts.
#[derive(Clone, Default)]
struct Encoder {
    sequence: u16,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    /// Where in [`PATTERN`] it is.
    turn: usize,
    /// The newest picture of each temporal layer since the keyframe.
    newest: [Option<u16>; 3],
}

/// Three temporal layers as encoders make them: which a picture is of, and of which layers' newest pictures it is made. A picture that is made
/// of the lowest layer alone is a sync point.
const PATTERN: [(usize, &[usize]); 8] =
    [(0, &[0]), (2, &[0]), (1, &[0]), (2, &[0, 1]), (0, &[0]), (2, &[0]), (1, &[0, 1]), (2, &[0, 1, 2])];

/// A picture: its packets, its number, and the numbers of those it cannot be shown without.
struct Picture {
    packets: Vec<Kept>,
    number: u16,
    made_of: Vec<u16>,
}

fn slot() -> Slot {
    let mut call = Call::new();
    let bo = call.join();
    let id = call.people[bo].id;
    let mut member = call.sfu.members.remove(id.index as usize);
    let mut slot = member.slots.remove(1);
    slot.bound = Some((0, 1));
    slot.starving = true;
    slot
}

fn picture(encoder: &mut Encoder, layer: usize, count: u8, keyframe: bool, now: Instant) -> Picture {
    // What no keyframe came before is nothing that could be forwarded.
    let keyframe = keyframe || encoder.newest[0].is_none();
    if keyframe {
        (encoder.turn, encoder.newest) = (0, [None; 3]);
    }
    let (temporal, made_of) = PATTERN[encoder.turn];
    encoder.turn = (encoder.turn + 1) % PATTERN.len();
    let is_sync = made_of == [0];
    let made_of = made_of.iter().filter_map(|of| encoder.newest[*of]).collect();
    encoder.picture = encoder.picture.wrapping_add(1) & 0x7FFF;
    encoder.newest[temporal] = Some(encoder.picture);
    encoder.timestamp = encoder.timestamp.wrapping_add(2_970);
    encoder.tl0 = encoder.tl0.wrapping_add(u8::from(temporal == 0));
    let [high, low] = (encoder.picture | 0x8000).to_be_bytes();
    let packets = (0..count)
        .map(|at| {
            let sequence = encoder.sequence;
            encoder.sequence = sequence.wrapping_add(1);
            let begins = if at == 0 { 0x90 } else { 0x80 };
            let sync = u8::from(is_sync) << 5;
            let payload = [
                begins,
                0xF0,
                high,
                low,
                encoder.tl0,
                (temporal as u8) << 6 | sync,
                u8::from(!keyframe),
                layer as u8,
            ];
            Kept {
                sequence,
                timestamp: encoder.timestamp.wrapping_add(layer as u32 * 1_000_000),
                marker: at + 1 == count,
                keyframe: Codec::Vp8.begins_keyframe(&payload),
                at: now,
                payload: bytes::Bytes::copy_from_slice(&payload),
                descriptor: bytes::Bytes::new(),
                part: crate::rtp::payload::Vp8::read(&payload).and_then(|vp8| Part::of_vp8(&vp8)),
            }
        })
        .collect();
    Picture { packets, number: encoder.picture, made_of }
}

thread_local! {
    static SLOT: std::cell::RefCell<Slot> = std::cell::RefCell::new(slot());
}

proptest! {
    #[test]
    fn one_stream_that_can_be_shown(steps in steps(), start: u16, first: u16) {
        SLOT.with_borrow_mut(|slot| {
            slot.rewriter = Rewriter::new(90_000, start);
            (slot.target, slot.temporal, slot.temporal_now) = (0, u8::MAX, u8::MAX);
            (slot.paused_at, slot.starving) = (None, true);
            let (picture_id, tl0) = (first & 0x7FFF, first as u8);
            let encoder = Encoder { sequence: first, timestamp: u32::from(start) << 16, picture: picture_id, tl0, ..Encoder::default() };
            let mut encoders = [encoder.clone(), encoder.clone(), encoder];
            let (mut witness, mut now, mut sent_pictures) = (Witness::default(), crate::rtp::beginning(), 0);
            let mut shown: HashSet<(usize, u16)> = HashSet::new();
            for step in steps {
                match step {
                    Step::Target(layer) => slot.target = layer,
                    Step::Temporal(temporal) => slot.temporal = temporal,
                    Step::Pause => {
                        slot.paused_at = Some(now);
                        slot.rewriter.release();
                    }
                    Step::Resume => slot.starving |= slot.paused_at.take().is_some(),
                    Step::Picture { layer, packets: count, keyframe } => {
                        now += Duration::from_millis(33);
                        let stream = StreamOf { track: 1, layer, repairs: false };
                        let Picture { packets, number, made_of } = picture(&mut encoders[layer], layer, count, keyframe, now);
                        for kept in packets {
                            let Some(sent) = slot.choose(stream, Codec::Vp8, &kept, now) else { continue };
                            let mut bytes = Vec::new();
                            let timestamp = sent.shift.timestamp(kept.timestamp);
                            Header { marker: kept.marker, sequence: sent.sequence, timestamp, ..Header::default() }
                                .write(&mut bytes);
                            let begin = bytes.len();
                            bytes.extend_from_slice(&kept.payload);
                            let vp8 = crate::rtp::payload::Vp8::read(&kept.payload).unwrap();
                            sent.shift.rewrite(vp8, &mut bytes[begin..]);
                            let packet = Packet::read(&bytes).unwrap();
                            witness.hear(sent.sequence, &packet, packet.payload, Codec::Vp8, now);
                            sent_pictures += u64::from(kept.marker);
                            prop_assert!(made_of.iter().all(|of| shown.contains(&(layer, *of))), "{} lacks {:?}", number, made_of);
                            shown.insert((layer, number));
                        }
                    }
                }
            }
            let seen = witness.seen();
            prop_assert_eq!((seen.broken, seen.backwards, seen.repeats, seen.lost), (0, 0, 0, 0));
            prop_assert_eq!(seen.frames, sent_pictures);
            Ok(())
        })?;
    }
}
