//! The chunks of a packet of SCTP (RFC 9260 section 3.2), read as strictly as they have to be for `rtc-sctp`.
//!
//! The library steps from chunk to chunk by the length of what it understood, not by the length that was told. Where the two differ,
//! the rest of a chunk is read as chunks that nobody has looked at. So a client's chunk whose contents do not take its length exactly
//! is none, and neither is one of a kind that the library does not read safely (ERROR).

use crate::bits::ByteReader;

/// Kinds of chunks (RFC 9260 section 3.2, RFC 3758 section 3.2, RFC 6525 section 3.1).
pub mod kind {
    #![allow(missing_docs, reason = "the RFC's names")]
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const SACK: u8 = 3;
    pub const HEARTBEAT: u8 = 4;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const COOKIE_ECHO: u8 = 10;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
    pub const RECONFIG: u8 = 130;
    pub const FORWARD_TSN: u8 = 192;
}

/// Kinds of parameters (RFC 9260 section 3.2.1, RFC 4895 section 3.3, RFC 6525 section 4).
pub(super) mod parameter {
    pub(in crate::data) const HEARTBEAT_INFO: u16 = 1;
    pub(in crate::data) const OUTGOING_RESET: u16 = 13;
    pub(in crate::data) const RESPONSE: u16 = 16;
    pub(super) const REQUESTED_HMAC: u16 = 0x8004;
    pub(super) const FORWARD_TSN_SUPPORTED: u16 = 0xC000;
}

/// A chunk: its kind, and its value without the padding.
pub type Chunk<'a> = (u8, &'a [u8]);

/// The chunks of a client's packet. `None` when there are none, or when one is not [exact](self).
pub fn read(packet: &[u8]) -> Option<Vec<Chunk<'_>>> {
    split(packet).filter(|chunks| chunks.iter().all(|(kind, body)| is_exact(*kind, body)))
}

/// The chunks of a packet by the lengths they tell. `None` when there are none, or when they do not add up.
pub(super) fn split(packet: &[u8]) -> Option<Vec<Chunk<'_>>> {
    let mut reader = ByteReader::new(packet);
    reader.skip(12).ok()?;
    let mut chunks = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u8().ok()?;
        reader.skip(1).ok()?;
        let len = usize::from(reader.u16().ok()?);
        chunks.push((kind, reader.take(len.checked_sub(4)?).ok()?));
        // The last may come without its padding.
        let _ = reader.skip(padding(len));
    }
    (!chunks.is_empty()).then_some(chunks)
}

/// The parameters of a chunk: kind and value. `None` when they do not add up.
pub(super) fn parameters(body: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut reader = ByteReader::new(body);
    let mut parameters = Vec::new();
    while !reader.is_empty() {
        let (kind, len) = (reader.u16().ok()?, usize::from(reader.u16().ok()?));
        parameters.push((kind, reader.take(len.checked_sub(4)?).ok()?));
        // Padding stands between parameters; after the last there may be none.
        let _ = reader.skip(padding(len));
    }
    Some(parameters)
}

fn padding(len: usize) -> usize {
    len.next_multiple_of(4) - len
}

fn is_exact(kind: u8, body: &[u8]) -> bool {
    match kind {
        // TSN, stream, sequence number and protocol; then there is at least a byte.
        kind::DATA => body.len() > 12,
        kind::INIT => body.split_at_checked(16).is_some_and(|(_, rest)| is_exact_beginning(rest)),
        kind::SACK => {
            let mut reader = ByteReader::new(body);
            let counts = reader.skip(8).and_then(|()| Ok((reader.u16()?, reader.u16()?)));
            counts
                .is_ok_and(|(gaps, repeated)| reader.len() == 4 * (usize::from(gaps) + usize::from(repeated)))
        }
        kind::HEARTBEAT => {
            parameters(body).is_some_and(|found| matches!(found[..], [(parameter::HEARTBEAT_INFO, _)]))
        }
        kind::RECONFIG => parameters(body)
            .is_some_and(|found| (1..=2).contains(&found.len()) && found.iter().all(is_exact_request)),
        kind::FORWARD_TSN => body.len() >= 4 && body.len().is_multiple_of(4),
        kind::SHUTDOWN => body.len() == 4,
        kind::SHUTDOWN_ACK | kind::SHUTDOWN_COMPLETE => body.is_empty(),
        // How it ends is not read.
        kind::ABORT | kind::COOKIE_ECHO => true,
        _ => false,
    }
}

/// What we asked for is done, or streams of the client are to be reset; the library knows no other request. A response tells TSNs
/// only to requests that are never made here (RFC 6525 section 4.4).
fn is_exact_request((kind, value): &(u16, &[u8])) -> bool {
    match *kind {
        parameter::RESPONSE => value.len() == 8,
        parameter::OUTGOING_RESET => value.len() >= 12 && value.len().is_multiple_of(2),
        _ => false,
    }
}

/// Parameters of an INIT. The library does not read one that is the last and has no value, and takes it for another chunk.
fn is_exact_beginning(body: &[u8]) -> bool {
    let Some(found) = parameters(body) else { return false };
    let is_exact = |(kind, value): &(u16, &[u8])| match *kind {
        parameter::FORWARD_TSN_SUPPORTED => value.is_empty(),
        parameter::REQUESTED_HMAC => value.len().is_multiple_of(2),
        parameter::RESPONSE | parameter::OUTGOING_RESET => false,
        _ => true,
    };
    found.iter().all(is_exact) && found.last().is_none_or(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[Chunk<'_>]) -> Vec<u8> {
        let mut packet = vec![0; 12];
        for (kind, body) in chunks {
            packet.extend_from_slice(&[*kind, 0]);
            packet.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
            packet.extend_from_slice(body);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    /// Of each kind one that is exact.
    const EXACT: [(u8, &[u8]); 12] = [
        (kind::DATA, &[0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 51, b'x']),
        (kind::INIT, &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1]),
        (
            kind::INIT,
            &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1, 0xC0, 0, 0, 4, 0x80, 8, 0, 6, 130, 192],
        ),
        (kind::SACK, &[0, 0, 0, 1, 0, 0, 9, 9, 0, 1, 0, 1, 0, 2, 0, 2, 0, 0, 0, 1]),
        (kind::HEARTBEAT, &[0, 1, 0, 7, 1, 2, 3]),
        (kind::ABORT, &[0, 12, 0, 4]),
        (kind::SHUTDOWN, &[0, 0, 0, 1]),
        (kind::SHUTDOWN_ACK, &[]),
        (kind::COOKIE_ECHO, &[1, 2, 3]),
        (kind::SHUTDOWN_COMPLETE, &[]),
        (
            kind::RECONFIG,
            &[
                0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 0, 0, 0, 16, 0, 12, 0, 0, 0, 1, 0, 0,
                0, 1,
            ],
        ),
        (kind::FORWARD_TSN, &[0, 0, 0, 1, 0, 2, 0, 1]),
    ];

    #[test]
    fn exact_chunks_are_read_alone_and_together() {
        for one in EXACT {
            assert_eq!(read(&packet(&[one])), Some(vec![one]), "kind {}", one.0);
        }
        assert_eq!(read(&packet(&EXACT)), Some(EXACT.to_vec()));
        assert_eq!(read(&packet(&[])), None);
    }

    #[test]
    fn nothing_hides_behind_what_a_chunk_takes() {
        // What the library would go on to read as a chunk of its own.
        let hidden = [9, 0, 0, 8, 0, 1, 0, 22];
        let takes_all = [kind::DATA, kind::ABORT, kind::COOKIE_ECHO];
        for (kind, body) in EXACT.into_iter().filter(|(kind, _)| !takes_all.contains(kind)) {
            let mut longer = body.to_vec();
            longer.resize(longer.len().next_multiple_of(4), 0);
            longer.extend_from_slice(&hidden);
            // There it is another parameter, or another stream.
            let is_read = matches!(kind, kind::INIT | kind::FORWARD_TSN);
            assert_eq!(read(&packet(&[(kind, &longer)])).is_some(), is_read, "kind {kind}");
        }
        let within: [(u8, &[u8]); 6] = [
            (kind::RECONFIG, &[0, 16, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1, 9, 0, 0, 8, 0, 1, 0, 22]),
            (kind::RECONFIG, &[0, 13, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0]),
            (
                kind::INIT,
                &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1, 0xC0, 0, 0, 12, 9, 0, 0, 8, 0, 1, 0, 22],
            ),
            (kind::INIT, &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1, 0xC0, 0, 0, 4]),
            (kind::INIT, &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1, 0, 16, 0, 8, 9, 0, 0, 8]),
            (kind::INIT, &[0, 0, 0, 7, 0, 1, 0, 0, 0, 9, 0, 9, 0, 0, 0, 1, 0x80, 4, 0, 7, 0, 1, 0]),
        ];
        for one in within {
            assert_eq!(read(&packet(&[one])), None, "{one:?}");
        }
        assert_eq!(read(&packet(&[(9, &hidden[4..])])), None, "an error");
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: u8) {
            let _ = read(&bytes);
            let _ = parameters(&bytes);
            let _ = read(&packet(&[(kind, &bytes)]));
        }
    }
}
