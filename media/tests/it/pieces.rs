//! However bytes are cut into reads, the same comes out; and whatever they are, nothing breaks.

use std::time::Instant;

use bytes::Bytes;
use nova_media::frame::timeline;
use nova_media::rtmp::chunk::Assembler;
use nova_media::rtmp::{EndReason, Ingest, Output, kind};
use proptest::prelude::*;

use crate::encoder::{
    ASC_48K, AVCC_480I, AVCC_720P, Encoder, SERVER_HANDSHAKE_BYTES, messages, picture, replies,
};

/// Everything a connection gives for `bytes` in pieces of these lengths, its publish accepted at once. Acceptance falls between
/// two reads, and with it its answer, so answers are compared without their order and the rest with it.
fn outcome(parts: &[&[u8]], pieces: &[usize]) -> (Vec<(u8, Bytes)>, Vec<Output>) {
    let now = Instant::now();
    let mut ingest = Ingest::new(now, 5);
    let mut outputs = Vec::new();
    let mut lengths = pieces.iter().cycle();
    let mut parts = parts.iter().copied();
    let mut rest = parts.next().unwrap();
    while !rest.is_empty() {
        let length = (*lengths.next().unwrap()).clamp(1, rest.len());
        let (piece, after) = rest.split_at(length);
        rest = if after.is_empty() { parts.next().unwrap_or_default() } else { after };
        let given = ingest.handle_input(now, piece);
        let asked = given.iter().any(|output| matches!(output, Output::PublishRequested(_)));
        outputs.extend(given);
        if asked {
            outputs.extend(ingest.accept_publish(now));
        }
    }
    let answers = replies(&outputs);
    let mut assembler = Assembler::new();
    assembler.set_chunk_bytes_max(4_096);
    let answers = answers.get(SERVER_HANDSHAKE_BYTES..).unwrap_or_default();
    let mut answers: Vec<_> = messages(&mut assembler, answers)
        .into_iter()
        .map(|message| (message.kind, message.payload))
        .collect();
    answers.sort();
    outputs.retain(|output| !matches!(output, Output::Reply(_)));
    (answers, outputs)
}

/// The request for a broadcast, and the broadcast, with something of everything.
fn broadcast(steps: &[(u8, u32, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    let mut encoder = Encoder::asking("live", "key");
    let request = encoder.take();
    encoder.message(2, kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &5_000_u32.to_be_bytes());
    encoder.video_header(AVCC_720P);
    encoder.audio_header(ASC_48K);
    let mut time = 0xff_ff00_u32;
    for (what, step, body) in steps {
        time = time.wrapping_add(*step);
        match what % 10 {
            0 => encoder.picture(time, true),
            1 | 2 => encoder.picture(time, false),
            3 | 4 => encoder.sound(time),
            5 => encoder.message(6, kind::VIDEO, time, body),
            6 => encoder.message(4, kind::AUDIO, time, body),
            7 => encoder.video_header(AVCC_480I),
            8 => encoder.message(3, kind::COMMAND, 0, body),
            _ => {
                // A long message in chunks of 128 that do not repeat the timestamp.
                encoder.chunk_size(128);
                let mut long = picture(0, true);
                long.extend(body.iter().cycle().take(if body.is_empty() { 0 } else { 400 }));
                let mut header = vec![7];
                header.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
                header.extend(&(long.len() as u32).to_be_bytes()[1..]);
                header.extend([kind::VIDEO, 1, 0, 0, 0]);
                if time >= 0xff_ffff {
                    header.extend(time.to_be_bytes());
                }
                encoder.bytes.extend(header);
                for (n, piece) in long.chunks(128).enumerate() {
                    if n > 0 {
                        encoder.bytes.push(0xc7);
                    }
                    encoder.bytes.extend(piece);
                }
                encoder.chunk_size(65_536);
            }
        }
    }
    (request, encoder.take())
}

#[test]
fn what_comes_with_the_request_is_judged_after_it_whenever_that_is() {
    // A command that cannot be read ends a connection before publishing, and is passed over after.
    let (request, media) = broadcast(&[(8, 0, vec![7]), (0, 0, Vec::new())]);
    let bytes = [request, media].concat();
    let whole = outcome(&[&bytes], &[bytes.len()]);
    assert!(outcome(&[&bytes], &[1]) == whole);
    assert!(matches!(whole.1.last(), Some(Output::Media(_))), "{:?}", whole.1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_cut_does_not_matter(
        steps in prop::collection::vec((any::<u8>(), 0_u32..5_000, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
        pieces in prop::collection::vec(1_usize..300, 1..20),
    ) {
        let (request, media) = broadcast(&steps);
        let bytes = [request, media].concat();
        let whole = outcome(&[&bytes], &[bytes.len()]);
        prop_assert!(outcome(&[&bytes], &pieces) == whole);
        prop_assert!(outcome(&[&bytes], &[1]) == whole);
        let mut last = [0; 2];
        for output in &whole.1 {
            if let Output::Media(nova_media::frame::Media::Frame(frame)) = output {
                let seen = &mut last[usize::from(frame.track == nova_media::frame::Track::Audio)];
                prop_assert!(frame.dts.ticks() > *seen);
                prop_assert!(frame.dts.millis() >= timeline::ORIGIN_MS - 1_000);
                *seen = frame.dts.ticks();
            }
        }
    }

    #[test]
    fn bent_bytes_break_nothing_and_cut_does_not_matter(
        steps in prop::collection::vec((any::<u8>(), 0_u32..5_000, prop::collection::vec(any::<u8>(), 0..40)), 0..30),
        bends in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        pieces in prop::collection::vec(1_usize..300, 1..20),
    ) {
        let (request, mut media) = broadcast(&steps);
        for (place, byte) in bends {
            let place = place.index(media.len());
            media[place] = byte;
        }
        // What breaks the chunks ends the connection at once, verdict or not: so here the verdict falls before.
        let parts = [&request[..], &media];
        prop_assert!(outcome(&parts, &pieces) == outcome(&parts, &[usize::MAX]));
    }

    #[test]
    fn noise_breaks_nothing(
        greeted in any::<bool>(),
        noise in prop::collection::vec(any::<u8>(), 0..2_000),
        pieces in prop::collection::vec(1_usize..300, 1..20),
    ) {
        // Nothing at all says nothing.
        prop_assume!(greeted || !noise.is_empty());
        let mut bytes = if greeted { Encoder::greeted().take() } else { Vec::new() };
        bytes.extend(noise);
        let (_, outputs) = outcome(&[&bytes], &pieces);
        let ends = outputs.iter().filter(|output| matches!(output, Output::Ended(_))).count();
        prop_assert!(ends <= 1);
        let said_goodbye = outputs.iter().any(|output| matches!(output, Output::Ended(EndReason::Closed)));
        prop_assert!(!said_goodbye, "only this side closes");
    }
}
