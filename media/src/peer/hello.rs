//! What a ClientHello offers, read before DTLS answers it: which seals for media the client knows.

use bytes::BytesMut;

use crate::bits::ByteReader;

/// What a ClientHello offers for SRTP (RFC 5764 section 4.1.1, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SrtpOffer {
    /// AES-GCM among others.
    Gcm,
    /// Others only.
    Other,
    /// It is not whole yet, or its pieces came out of order.
    Unfinished,
}

impl SrtpOffer {
    /// Reads the datagrams of a ClientHello (RFC 6347 section 4.2.2).
    pub(super) fn read(datagrams: &[BytesMut]) -> SrtpOffer {
        let mut hello = Vec::new();
        for datagram in datagrams {
            let mut records = ByteReader::new(datagram);
            // A datagram holds one record or several.
            while let Some((len, offset, piece)) = hello_piece(&mut records) {
                if offset == hello.len() && hello.len() + piece.len() <= len {
                    hello.extend_from_slice(piece);
                }
                if hello.len() == len {
                    return match offers_gcm(&hello) {
                        Some(true) => SrtpOffer::Gcm,
                        _ => SrtpOffer::Other,
                    };
                }
            }
        }
        SrtpOffer::Unfinished
    }
}

/// The next record, if it is a piece of a ClientHello: the length of the whole, where the piece begins, and the piece.
fn hello_piece<'a>(records: &mut ByteReader<'a>) -> Option<(usize, usize, &'a [u8])> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let kind = records.u8().ok()?;
    records.skip(2 + 8).ok()?;
    let len = usize::from(records.u16().ok()?);
    let mut record = ByteReader::new(records.take(len).ok()?);
    if kind != HANDSHAKE || record.u8().ok()? != CLIENT_HELLO {
        return None;
    }
    let whole = usize::try_from(record.u24().ok()?).ok()?;
    record.skip(2).ok()?;
    let offset = usize::try_from(record.u24().ok()?).ok()?;
    let len = usize::try_from(record.u24().ok()?).ok()?;
    Some((whole, offset, record.take(len).ok()?))
}

/// Whether a whole ClientHello offers an AES-GCM profile; `None` when it offers none at all.
fn offers_gcm(hello: &[u8]) -> Option<bool> {
    const USE_SRTP: u16 = 14;
    let mut reader = ByteReader::new(hello);
    // Version and random; then session, cookie, cipher suites, compression methods, and the length of the extensions.
    reader.skip(2 + 32).ok()?;
    for _ in 0..2 {
        let len = usize::from(reader.u8().ok()?);
        reader.skip(len).ok()?;
    }
    let len = usize::from(reader.u16().ok()?);
    reader.skip(len).ok()?;
    let len = usize::from(reader.u8().ok()?);
    reader.skip(len).ok()?;
    reader.skip(2).ok()?;
    loop {
        let (kind, len) = (reader.u16().ok()?, usize::from(reader.u16().ok()?));
        let value = reader.take(len).ok()?;
        if kind == USE_SRTP {
            let mut profiles = ByteReader::new(value);
            let len = usize::from(profiles.u16().ok()?);
            let list = profiles.take(len).ok()?;
            return Some(list.chunks_exact(2).any(|profile| matches!(profile, [0, 7 | 8])));
        }
    }
}
