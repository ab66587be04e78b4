//! permessage-deflate (RFC 7692), always without context takeover in both directions.
//!
//! Without context takeover a message is compressed on its own: the same compressed frame goes to every socket that agreed on
//! the extension, and no connection holds a window (32 KiB and more, each way). Compressors belong to the thread.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What the answer to the handshake says when the extension was agreed on.
pub const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Smaller messages are sent as they are: compressing them costs more than it saves.
pub const COMPRESS_BYTES_MIN: usize = 256;

/// Offers that are looked at; the rest of a header is noise.
const OFFERS_MAX: usize = 8;

/// A sync flush ends in this; the extension leaves it out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// What is decompressed at a time, in bytes.
const CHUNK_BYTES: usize = 4 << 10;

/// Why a message cannot be decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateError {
    /// It is larger than the limit; nothing beyond the limit was made.
    TooBig,
    /// It is not what a compressor makes.
    Malformed,
}

thread_local! {
    static INFLATE: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::fast(), false));
}

/// Whether the `Sec-WebSocket-Extensions` of a client hold an offer that can be taken (RFC 7692 section 7.1).
///
/// An offer with `server_max_window_bits` asks for a window the compressor here cannot promise, so it is left alone and the next
/// one is looked at; an offer with an unknown, repeated or malformed parameter is left alone too.
pub fn accepts(offers: &str) -> bool {
    offers.split(',').take(OFFERS_MAX).any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return false;
        }
        let mut seen = Vec::new();
        parts.all(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (parameter, None),
            };
            let known = match (name, value) {
                (
                    "server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits",
                    None,
                ) => true,
                ("client_max_window_bits", Some(bits)) => {
                    matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
                }
                // The largest window is what the compressor has anyway.
                ("server_max_window_bits", Some(bits)) => bits == "15",
                _ => false,
            };
            let new = !seen.contains(&name);
            seen.push(name);
            known && new
        })
    })
}

/// Decompresses one message to at most `bytes_max` bytes.
pub fn inflate(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    INFLATE.with_borrow_mut(|inflate| {
        inflate.reset(false);
        let mut out = Vec::new();
        for part in [message, &TAIL] {
            let mut rest = part;
            loop {
                let (total_in, total_out) = (inflate.total_in(), inflate.total_out());
                // One byte beyond the limit is enough to know.
                let room = CHUNK_BYTES.min(bytes_max + 1 - out.len());
                let mut chunk = [0; CHUNK_BYTES];
                let chunk = chunk.get_mut(..room).unwrap_or_default();
                let status = inflate
                    .decompress(rest, chunk, FlushDecompress::Sync)
                    .map_err(|_| InflateError::Malformed)?;
                let made = usize::try_from(inflate.total_out() - total_out).unwrap_or(usize::MAX);
                out.extend_from_slice(chunk.get(..made).unwrap_or_default());
                if out.len() > bytes_max {
                    return Err(InflateError::TooBig);
                }
                let used = usize::try_from(inflate.total_in() - total_in).unwrap_or(usize::MAX);
                rest = rest.get(used..).unwrap_or_default();
                match status {
                    // A final block ends the message for its sender; what follows it means nothing.
                    Status::StreamEnd => return Ok(out),
                    _ if rest.is_empty() && made < room => break,
                    Status::BufError if used == 0 && made == 0 => return Err(InflateError::Malformed),
                    _ => {}
                }
            }
        }
        Ok(out)
    })
}

/// Compresses one message; `None` where that does not make it smaller.
pub fn deflate(message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < COMPRESS_BYTES_MIN {
        return None;
    }
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut out = Vec::with_capacity(message.len());
        // The room is as large as the message: what does not fit in it has not become smaller.
        let status = deflate.compress_vec(message, &mut out, FlushCompress::Sync).ok()?;
        let whole = deflate.total_in() == message.len() as u64 && out.ends_with(&TAIL);
        if status != Status::Ok || !whole {
            return None;
        }
        out.truncate(out.len() - TAIL.len());
        Some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way_there_and_back() {
        let text = "a conversation repeats itself. ".repeat(200);
        let small = deflate(text.as_bytes()).expect("smaller");
        assert!(small.len() < text.len() / 10, "{}", small.len());
        assert_eq!(inflate(&small, text.len()).unwrap(), text.as_bytes());
        assert_eq!(inflate(&small, text.len() - 1), Err(InflateError::TooBig));
        // The next message begins with nothing of this one.
        assert_eq!(inflate(&deflate(text.as_bytes()).unwrap(), text.len()).unwrap(), text.as_bytes());
        assert_eq!(inflate(&[0], 10).unwrap(), b"", "an empty message is one zero byte (section 7.2.3.6)");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let mut bomb = Vec::with_capacity(1 << 20);
        let mut compress = Compress::new(Compression::best(), false);
        compress.compress_vec(&vec![0; 64 << 20], &mut bomb, FlushCompress::Finish).unwrap();
        assert!(bomb.len() < 70 << 10, "{}", bomb.len());
        assert_eq!(inflate(&bomb, 64 << 10), Err(InflateError::TooBig));
    }

    #[test]
    fn noise_is_refused_or_bounded() {
        for seed in 0..2_000_u32 {
            let noise: Vec<u8> =
                (0..seed % 97).map(|n| (seed.wrapping_mul(2_654_435_761) >> (n % 24)) as u8).collect();
            if let Ok(out) = inflate(&noise, 1_000) {
                assert!(out.len() <= 1_000);
            }
        }
        assert_eq!(inflate(&[0xFF; 16], 1_000), Err(InflateError::Malformed));
    }

    #[test]
    fn what_does_not_shrink_stays_as_it_is() {
        assert_eq!(deflate(b"short"), None);
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(4_096)
        .collect();
        assert_eq!(deflate(&noise), None);
    }

    #[test]
    fn offers_are_taken_or_left_as_a_whole() {
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=10, permessage-deflate",
            "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=\"15\"",
        ] {
            assert!(accepts(offer), "{offer}");
        }
        for offer in [
            "",
            "permessage-bzip2",
            "permessage-deflate; server_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; new_parameter",
        ] {
            assert!(!accepts(offer), "{offer}");
        }
    }
}
