//! A whole connection: handshake, chunks, commands and media. The first byte says where it begins and how it is cut.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use nova_media::frame::{Media, Track};
use nova_media::rtmp::{Ingest, Output};

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let now = Instant::now();
    let mut ingest = Ingest::new(now, 1);
    let mut outputs = Vec::new();
    if first & 1 == 1 {
        let mut greeting = vec![0; 1 + 2 * 1_536];
        greeting[0] = 3;
        outputs.extend(ingest.handle_input(now, &greeting));
    }
    let piece = match first >> 1 & 3 {
        0 => usize::MAX,
        1 => 1,
        2 => 7,
        _ => 1_448,
    };
    for piece in data.chunks(piece) {
        let given = ingest.handle_input(now, piece);
        let asked = given.iter().any(|output| matches!(output, Output::PublishRequested(_)));
        outputs.extend(given);
        if asked {
            outputs.extend(ingest.accept_publish(now));
        }
    }
    // By the instants they mean: an encoder that changes its sample rate goes on in another timebase.
    let (mut video, mut audio) = (None, None);
    let mut answered = 0;
    for (n, output) in outputs.iter().enumerate() {
        match output {
            Output::Media(Media::Frame(frame)) => {
                let last = if frame.track == Track::Video { &mut video } else { &mut audio };
                assert!(frame.dts.ticks() >= 0, "before the beginning");
                assert!(last.is_none_or(|last| frame.dts > last), "time stood still: {last:?}, {:?}", frame.dts);
                *last = Some(frame.dts);
            }
            Output::Ended(_) => assert_eq!(n, outputs.len() - 1, "something followed the end"),
            Output::Reply(bytes) => answered += bytes.len(),
            _ => {}
        }
    }
    assert!(answered <= 4_096 + 40 * data.len(), "{answered} bytes answered to {}", data.len());
    let _ = ingest.report(now);
});
