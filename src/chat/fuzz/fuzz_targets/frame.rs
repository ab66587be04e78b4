//! Frames: the same bytes give the same messages and the same error however they are cut, within their bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_chat_fuzz::chat::frame::{CONTROL_BYTES_MAX, FrameError, FrameReader, Received};

/// Small, so that the limit is met.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

fn read(deflate: bool, pieces: impl Iterator<Item = usize>, mut bytes: &[u8]) -> (Vec<Received>, Option<FrameError>) {
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, deflate);
    let mut all = Vec::new();
    for piece in pieces {
        let (mut input, rest) = bytes.split_at(piece.clamp(1, bytes.len().max(1)).min(bytes.len()));
        bytes = rest;
        loop {
            match reader.read(&mut input) {
                Ok(Some(received)) => {
                    match &received {
                        Received::Text(text) => assert!(text.len() <= MESSAGE_BYTES_MAX),
                        Received::Binary(data) => assert!(data.len() <= MESSAGE_BYTES_MAX),
                        Received::Ping(data) | Received::Pong(data) => assert!(data.len() <= CONTROL_BYTES_MAX),
                        Received::Close(_) => {}
                    }
                    all.push(received);
                }
                Ok(None) => {
                    assert!(input.is_empty(), "it asks for more before it has read what is there");
                    break;
                }
                Err(error) => return (all, Some(error)),
            }
        }
        assert!(reader.held_bytes() <= 2 * (MESSAGE_BYTES_MAX + CONTROL_BYTES_MAX) + 64);
        if bytes.is_empty() {
            break;
        }
    }
    (all, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let deflate = how & 1 != 0;
    let whole = read(deflate, std::iter::once(bytes.len()), bytes);
    let sizes = [usize::from(how >> 1) + 1, 1, 7, 3];
    assert_eq!(read(deflate, sizes.into_iter().cycle(), bytes), whole);
    assert_eq!(read(deflate, std::iter::repeat(1), bytes), whole);
});
