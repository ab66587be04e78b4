//! What a reader of frames makes of bytes: the cases of Autobahn's suite in `autobahn`, and here what no suite lists.
//!
//! Each case is what a client sends, and what an echoing server answers: the messages it got back, pongs, and at the end the
//! close code. A server that fails a connection closes with the code of the rule that was broken.

mod autobahn;

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(0x81, payload.as_ref())
}

fn ping(payload: &[u8]) -> Vec<u8> {
    frame(0x89, payload)
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes()[..], reason].concat())
}

/// What an echoing server says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// Answers the client's close frame.
    Closed(u16),
    /// Ends the connection because a rule was broken.
    Failed(u16),
}

fn said(payload: impl AsRef<[u8]>) -> Said {
    Said::Text(payload.as_ref().to_vec())
}

/// An echoing server that receives `bytes` in pieces of `piece`.
fn echo_in(reader: &mut FrameReader, bytes: &[u8], piece: usize) -> Vec<Said> {
    let mut all = Vec::new();
    for mut input in bytes.chunks(piece.max(1)) {
        while !input.is_empty() {
            let answer = match reader.read(&mut input) {
                Ok(None) => break,
                Ok(Some(Received::Text(text))) => Said::Text(text.into_bytes()),
                Ok(Some(Received::Binary(data))) => Said::Binary(data),
                Ok(Some(Received::Ping(data))) => Said::Pong(data),
                Ok(Some(Received::Pong(_))) => continue,
                Ok(Some(Received::Close(code))) => Said::Closed(code.map_or(1005, |(code, _)| code)),
                Err(error) => Said::Failed(error.close_code()),
            };
            let last = matches!(answer, Said::Closed(_) | Said::Failed(_));
            all.push(answer);
            if last {
                return all;
            }
        }
    }
    all
}

/// The answer, which is the same however the bytes are cut.
fn echo(bytes: &[u8]) -> Vec<Said> {
    let whole = echo_in(&mut FrameReader::new(MESSAGE_BYTES_MAX, false), bytes, usize::MAX);
    for piece in [1, 2, 3, 7, 64, 997] {
        let cut = echo_in(&mut FrameReader::new(MESSAGE_BYTES_MAX, false), bytes, piece);
        assert_eq!(cut, whole, "in pieces of {piece}");
    }
    whole
}

fn case(number: &str, sent: &[Vec<u8>], expected: &[Said]) {
    assert_eq!(echo(&sent.concat()), expected, "case {number}");
}

fn flate2_raw(data: &[u8]) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::default(), false);
    let mut out = Vec::with_capacity(data.len() + 64);
    compress.compress_vec(data, &mut out, flate2::FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]));
    out.truncate(out.len() - 4);
    out
}

#[test]
fn heads_are_refused_at_the_byte_that_breaks_a_rule() {
    for (bytes, error) in [
        (&[0x81, 0x05][..], FrameError::Unmasked),
        (&[0x83], FrameError::ReservedOpcode),
        (&[0x91], FrameError::ReservedBit),
        (&[0x09], FrameError::FragmentedControl),
        (&[0x89, 0xFE], FrameError::LongControl),
        (&[0x80], FrameError::NothingToContinue),
        (&[0x81, 0xFE, 0x00, 0x7D, 1, 2, 3, 4], FrameError::Length),
        (&[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 4], FrameError::Length),
        (&[0x81, 0xFF, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], FrameError::Length),
        (&[0x81, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4], FrameError::TooBig),
        (&[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4], FrameError::TooBig),
    ] {
        let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, false);
        let (last, front) = bytes.split_last().unwrap();
        assert_eq!(reader.read(&mut &front[..]), Ok(None), "{bytes:02X?}");
        assert_eq!(reader.read(&mut &[*last][..]), Err(error), "{bytes:02X?}");
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn memory_follows_what_arrived_and_not_what_was_promised() {
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, false);
    let whole = frame(0x82, &vec![7; MESSAGE_BYTES_MAX]);
    assert_eq!(reader.read(&mut &whole[..14 + 10]), Ok(None));
    assert!(reader.held_bytes() < 100, "{}", reader.held_bytes());
    assert!(
        matches!(reader.read(&mut &whole[24..]), Ok(Some(Received::Binary(data))) if data.len() == MESSAGE_BYTES_MAX)
    );
    assert_eq!(reader.held_bytes(), 0, "nothing is held between messages");
}

#[test]
fn a_message_of_empty_fragments_ends() {
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, false);
    let mut bytes = frame(0x01, b"");
    bytes.extend(frame(0x00, b"").repeat(FRAGMENTS_MAX as usize));
    assert_eq!(echo_in(&mut reader, &bytes, 4_096), [Said::Failed(1008)]);
}

#[test]
fn lengths_are_written_in_the_shortest_way() {
    for (len, head) in [
        (0, &[0x82, 0][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xFF, 0xFF]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let payload = vec![5; len];
        assert_eq!(encode(Opcode::Binary, &payload), [head, &payload].concat(), "{len}");
    }
    assert_eq!(encode_close(1000, "bye"), &b"\x88\x05\x03\xE8bye"[..]);
    let long = encode_close(4001, &"é".repeat(100));
    assert_eq!(long[1], 2 + 122, "cut between characters");
}

proptest! {
    #[test]
    fn the_same_bytes_say_the_same_however_they_are_cut(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        cuts in proptest::collection::vec(1_usize..40, 1..40),
        deflate in any::<bool>(),
    ) {
        let whole = echo_in(&mut FrameReader::new(256, deflate), &bytes, usize::MAX);
        let mut reader = FrameReader::new(256, deflate);
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        for cut in cuts.iter().cycle() {
            let (piece, tail) = rest.split_at((*cut).min(rest.len()));
            pieces.extend(echo_in(&mut reader, piece, usize::MAX));
            rest = tail;
            if rest.is_empty() || matches!(pieces.last(), Some(Said::Closed(_) | Said::Failed(_))) {
                break;
            }
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn frames_that_keep_the_rules_come_back_as_they_were(
        messages in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(any::<char>(), 0..120), 1_usize..50),
            1..8,
        ),
        piece in 1_usize..200,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (is_text, chars, size) in messages {
            let data = chars.into_iter().collect::<String>().into_bytes();
            let opcode = if is_text { 1 } else { 2 };
            let parts: Vec<&[u8]> = if data.is_empty() { vec![&[][..]] } else { data.chunks(size).collect() };
            for (n, part) in parts.iter().enumerate() {
                let fin = if n + 1 == parts.len() { 0x80 } else { 0 };
                bytes.extend(frame(fin | if n == 0 { opcode } else { 0 }, part));
            }
            expected.push(if is_text { Said::Text(data) } else { Said::Binary(data) });
        }
        prop_assert_eq!(echo_in(&mut FrameReader::new(MESSAGE_BYTES_MAX, false), &bytes, piece), expected);
    }
}
