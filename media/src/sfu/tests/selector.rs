//! Whatever is chosen for a slot, a viewer sees one stream that can be shown.

use proptest::prelude::*;

use super::*;
use crate::rtp::payload::Codec;
use crate::rtp::rewriter::Rewriter;
use crate::rtp::ring::Kept;
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
        20 => picture, 2 => (0usize..3).prop_map(Step::Target), 1 => (0u8..2).prop_map(Step::Temporal),
        1 => Just(Step::Pause), 1 => Just(Step::Resume),
    ];
    proptest::collection::vec(step, 1..400)
}

/// One layer, as its encoder counts.
#[derive(Clone, Copy)]
struct Encoder {
    sequence: u16,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    begun: bool,
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

fn packets(encoder: &mut Encoder, layer: usize, count: u8, keyframe: bool, now: Instant) -> Vec<Kept> {
    // What no keyframe came before is nothing that could be forwarded.
    let keyframe = keyframe || !std::mem::replace(&mut encoder.begun, true);
    encoder.picture = encoder.picture.wrapping_add(1) & 0x7FFF;
    encoder.timestamp = encoder.timestamp.wrapping_add(2_970);
    let temporal = if keyframe { 0 } else { (encoder.picture & 1) as u8 };
    encoder.tl0 = encoder.tl0.wrapping_add(u8::from(temporal == 0));
    let [high, low] = (encoder.picture | 0x8000).to_be_bytes();
    (0..count)
        .map(|at| {
            let sequence = encoder.sequence;
            encoder.sequence = sequence.wrapping_add(1);
            let begins = if at == 0 { 0x90 } else { 0x80 };
            let sync = temporal << 5;
            let payload = [
                begins,
                0xF0,
                high,
                low,
                encoder.tl0,
                temporal << 6 | sync,
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
            }
        })
        .collect()
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
            let encoder = Encoder { sequence: first, timestamp: u32::from(start) << 16, picture: first & 0x7FFF, tl0: first as u8, begun: false };
            let mut encoders = [encoder; 3];
            let (mut witness, mut now, mut sent_pictures) = (Witness::default(), crate::rtp::beginning(), 0);
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
                        for kept in packets(&mut encoders[layer], layer, count, keyframe, now) {
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
