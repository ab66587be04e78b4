//! What is let through to the SCTP library, which trusts its peer: packets that would cost it memory or time without bound are not.
//!
//! Four of its habits are guarded against: it walks to whatever TSN a FORWARD TSN names, one by one; it takes data that fill a gap
//! however much is held already; it keeps requests to reset streams that lie in the future; and it opens a stream for any number. Each
//! packet is looked at before it goes in, and where the library is, is read from the acknowledgements it sends.

use super::Ending;
use crate::bits::ByteReader;

/// Bytes of a packet; clients keep to about 1,200, because no path carries more than 1,500 in one piece.
pub(super) const PACKET_BYTES_MAX: usize = 2_048;
/// Streams of an association, a quarter of which can be open: browsers use every other number.
pub(super) const STREAMS_MAX: u16 = 64;
/// How far ahead of what is acknowledged data may be: a thousand chunks on their way.
const AHEAD_MAX: u32 = 1_024;
/// Bytes of data that are taken when no more was asked for: what repairs a gap, and what the client had sent before it heard.
const OVERRUN_BYTES_MAX: usize = 64 << 10;
/// Requests to reset streams once more data are there: so many ahead, and so many until then.
const RESETS_AHEAD_MAX: u32 = 4;
const RESETS_WAITING_MAX: u32 = 8;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const INIT: u8 = 1;
    pub(super) const SACK: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const SHUTDOWN_ACK: u8 = 8;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const SHUTDOWN_COMPLETE: u8 = 14;
    pub(super) const RECONFIG: u8 = 130;
    pub(super) const FORWARD_TSN: u8 = 192;
}

/// The client's side of an association that begins (RFC 9260 section 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Init {
    tag: u32,
    first_tsn: u32,
}

/// What is to be done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go in.
    Pass,
    /// It is not taken; who sent it in good faith repeats it.
    Drop,
    /// An association begins.
    Begin(Init),
}

/// See the [module documentation](self).
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The last TSN in sequence; `None` before an association has begun.
    cumulative: Option<u32>,
    is_full: bool,
    overrun: usize,
    resets_waiting: u32,
}

impl Guard {
    /// An association has begun.
    pub(super) fn begin(init: Init) -> Guard {
        Guard { cumulative: Some(init.first_tsn.wrapping_sub(1)), ..Guard::default() }
    }

    /// Judges a packet of the client.
    pub(super) fn inspect(&mut self, packet: &[u8]) -> Result<Verdict, Ending> {
        if packet.len() > PACKET_BYTES_MAX {
            return Ok(Verdict::Drop);
        }
        let Some(chunks) = chunks(packet) else { return Ok(Verdict::Drop) };
        if let [(kind::INIT, body)] = chunks.as_slice() {
            return Ok(init(body).map_or(Verdict::Drop, Verdict::Begin));
        }
        let Some(cumulative) = self.cumulative else { return Ok(Verdict::Drop) };
        for (kind, body) in chunks {
            if !self.admits(kind, body, cumulative)? {
                return Ok(Verdict::Drop);
            }
        }
        Ok(Verdict::Pass)
    }

    fn admits(&mut self, kind: u8, body: &[u8], cumulative: u32) -> Result<bool, Ending> {
        // What is behind is a repetition, which the library knows. It may be a little further than it has acknowledged: what seems
        // to be far behind from here can be far ahead from there.
        let ahead = |tsn: u32| match tsn.wrapping_sub(cumulative) {
            distance @ 1..=0xBFFF_FFFF => distance,
            _ => 0,
        };
        let mut reader = ByteReader::new(body);
        match kind {
            kind::DATA => {
                let (Ok(tsn), Ok(stream)) = (reader.u32(), reader.u16()) else { return Ok(false) };
                let Ok(()) = reader.skip(6) else { return Ok(false) };
                if stream >= STREAMS_MAX {
                    return Err(Ending::Protocol);
                }
                if reader.is_empty() || ahead(tsn) > AHEAD_MAX {
                    return Ok(false);
                }
                if self.is_full {
                    self.overrun += reader.len();
                    if self.overrun > OVERRUN_BYTES_MAX {
                        return Err(Ending::Protocol);
                    }
                }
                Ok(true)
            }
            kind::FORWARD_TSN => Ok(reader.u32().is_ok_and(|tsn| ahead(tsn) <= AHEAD_MAX)),
            kind::RECONFIG => Ok(self.admits_reset(&mut reader, ahead)),
            // What the library calls an error is the client's right.
            kind::ABORT => Err(Ending::Closed),
            kind::SACK
            | kind::HEARTBEAT
            | kind::SHUTDOWN
            | kind::SHUTDOWN_ACK
            | kind::COOKIE_ECHO
            | kind::SHUTDOWN_COMPLETE => Ok(true),
            _ => Ok(false),
        }
    }

    /// Parameters of a RE-CONFIG (RFC 6525 section 4): what we asked for is done, or streams of the client are to be reset.
    fn admits_reset(&mut self, reader: &mut ByteReader<'_>, ahead: impl Fn(u32) -> u32) -> bool {
        const OUTGOING_RESET: u16 = 13;
        const RESPONSE: u16 = 16;
        let mut seen = 0;
        while !reader.is_empty() {
            let (Ok(kind), Ok(len)) = (reader.u16(), reader.u16()) else { return false };
            let len = usize::from(len);
            let Some(Ok(value)) = len.checked_sub(4).map(|len| reader.take(len)) else { return false };
            // Padding stands between parameters; after the last there may be none.
            let _ = reader.skip((4 - len % 4) % 4);
            seen += 1;
            match kind {
                RESPONSE => {}
                OUTGOING_RESET => {
                    let mut value = ByteReader::new(value);
                    let Ok(last_tsn) = value.skip(8).and_then(|()| value.u32()) else { return false };
                    let ahead = ahead(last_tsn);
                    if ahead > RESETS_AHEAD_MAX || ahead > 0 && self.resets_waiting >= RESETS_WAITING_MAX {
                        return false;
                    }
                    self.resets_waiting += u32::from(ahead > 0);
                }
                _ => return false,
            }
        }
        (1..=2).contains(&seen)
    }

    /// A packet of the library's, on its way to the client: what it acknowledges is where it is.
    pub(super) fn note_sent(&mut self, packet: &[u8]) {
        for (kind, body) in chunks(packet).unwrap_or_default() {
            let mut reader = ByteReader::new(body);
            if kind != kind::SACK {
                continue;
            }
            let (Ok(tsn), Ok(credit)) = (reader.u32(), reader.u32()) else { continue };
            if self.cumulative.replace(tsn) != Some(tsn) {
                self.resets_waiting = 0;
            }
            self.is_full = credit == 0;
            if !self.is_full {
                self.overrun = 0;
            }
        }
    }
}

/// The chunks of a packet (RFC 9260 section 3.2): kind and value. `None` when they do not add up.
fn chunks(packet: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut reader = ByteReader::new(packet);
    reader.skip(12).ok()?;
    let mut chunks = Vec::new();
    while !reader.is_empty() {
        let kind = reader.u8().ok()?;
        reader.skip(1).ok()?;
        let len = usize::from(reader.u16().ok()?);
        chunks.push((kind, reader.take(len.checked_sub(4)?).ok()?));
        // The last may come without its padding.
        let _ = reader.skip((4 - len % 4) % 4);
    }
    (!chunks.is_empty()).then_some(chunks)
}

fn init(body: &[u8]) -> Option<Init> {
    let mut reader = ByteReader::new(body);
    let tag = reader.u32().ok()?;
    reader.skip(8).ok()?;
    let first_tsn = reader.u32().ok()?;
    (tag != 0).then_some(Init { tag, first_tsn })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; 12];
        for (kind, body) in chunks {
            packet.extend_from_slice(&[*kind, 3]);
            packet.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
            packet.extend_from_slice(body);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    fn data(tsn: u32, stream: u16, len: usize) -> Vec<u8> {
        let mut body = tsn.to_be_bytes().to_vec();
        body.extend_from_slice(&stream.to_be_bytes());
        body.resize(body.len() + 6 + len, 1);
        body
    }

    fn reset(last_tsn: u32) -> Vec<u8> {
        let mut body = vec![0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0];
        body.extend_from_slice(&last_tsn.to_be_bytes());
        body.extend_from_slice(&[0, 2]);
        body
    }

    fn sack(tsn: u32, credit: u32) -> Vec<u8> {
        let body = [tsn.to_be_bytes(), credit.to_be_bytes(), [0; 4]].concat();
        packet(&[(kind::SACK, &body)])
    }

    /// An association whose client begins with TSN 100.
    fn guard() -> Guard {
        let body = [7_u32, 100_000, 64 << 16 | 64, 100].map(u32::to_be_bytes).concat();
        let verdict = Guard::default().inspect(&packet(&[(kind::INIT, &body)])).unwrap();
        let Verdict::Begin(init) = verdict else { panic!("{verdict:?}") };
        assert_eq!(init, Init { tag: 7, first_tsn: 100 });
        Guard::begin(init)
    }

    fn judge(guard: &mut Guard, kind: u8, body: &[u8]) -> Result<Verdict, Ending> {
        guard.inspect(&packet(&[(kind, body)]))
    }

    #[test]
    fn nothing_passes_before_an_association_has_begun() {
        let mut guard = Guard::default();
        for kind in [kind::DATA, kind::COOKIE_ECHO, kind::FORWARD_TSN] {
            assert_eq!(judge(&mut guard, kind, &data(100, 0, 9)), Ok(Verdict::Drop));
        }
    }

    #[test]
    fn data_and_jumps_far_ahead_are_not_taken() {
        let mut guard = guard();
        assert_eq!(judge(&mut guard, kind::DATA, &data(100, 0, 9)), Ok(Verdict::Pass));
        assert_eq!(judge(&mut guard, kind::DATA, &data(99 + AHEAD_MAX, 0, 9)), Ok(Verdict::Pass));
        assert_eq!(judge(&mut guard, kind::DATA, &data(100 + AHEAD_MAX, 0, 9)), Ok(Verdict::Drop));
        assert_eq!(judge(&mut guard, kind::FORWARD_TSN, &(99 + AHEAD_MAX).to_be_bytes()), Ok(Verdict::Pass));
        for tsn in [100 + AHEAD_MAX, 99 + 0x7FFF_FFFF, 99 + 0x8000_0000, 99 + 0x8000_0000 + AHEAD_MAX] {
            assert_eq!(judge(&mut guard, kind::FORWARD_TSN, &tsn.to_be_bytes()), Ok(Verdict::Drop));
        }
        assert_eq!(judge(&mut guard, kind::DATA, &data(3, 0, 9)), Ok(Verdict::Pass), "a repetition");
        guard.note_sent(&sack(150, 9));
        assert_eq!(judge(&mut guard, kind::DATA, &data(100 + AHEAD_MAX, 0, 9)), Ok(Verdict::Pass));
        assert_eq!(judge(&mut guard, kind::DATA, &data(101, 0, 0)), Ok(Verdict::Drop), "without a byte");
        assert_eq!(judge(&mut guard, kind::DATA, &data(101, STREAMS_MAX, 9)), Err(Ending::Protocol));
    }

    #[test]
    fn what_nobody_has_room_for_ends_it() {
        let mut guard = guard();
        guard.note_sent(&sack(100, 0));
        for _ in 0..OVERRUN_BYTES_MAX / 1_024 {
            assert_eq!(judge(&mut guard, kind::DATA, &data(101, 0, 1_024)), Ok(Verdict::Pass));
        }
        assert_eq!(judge(&mut guard, kind::DATA, &data(101, 0, 1)), Err(Ending::Protocol));
        guard.note_sent(&sack(101, 1));
        assert_eq!(judge(&mut guard, kind::DATA, &data(102, 0, 1_024)), Ok(Verdict::Pass));
    }

    #[test]
    fn resets_wait_for_little_and_are_few() {
        let mut guard = guard();
        for _ in 0..100 {
            assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(99)), Ok(Verdict::Pass));
        }
        assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(100 + RESETS_AHEAD_MAX)), Ok(Verdict::Drop));
        for _ in 0..RESETS_WAITING_MAX {
            assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(100)), Ok(Verdict::Pass));
        }
        assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(100)), Ok(Verdict::Drop));
        guard.note_sent(&sack(100, 9));
        assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(101)), Ok(Verdict::Pass));
        assert_eq!(judge(&mut guard, kind::RECONFIG, &[0, 14, 0, 4]), Ok(Verdict::Drop), "another request");
        assert_eq!(judge(&mut guard, kind::RECONFIG, &[]), Ok(Verdict::Drop));
    }

    #[test]
    fn what_does_not_add_up_is_not_taken() {
        let mut guard = guard();
        assert_eq!(judge(&mut guard, 5, &[]), Ok(Verdict::Drop), "an answer to nothing");
        assert_eq!(judge(&mut guard, kind::ABORT, &[]), Err(Ending::Closed));
        assert_eq!(guard.inspect(&vec![0; PACKET_BYTES_MAX + 1]), Ok(Verdict::Drop));
        let mut broken = packet(&[(kind::DATA, &data(100, 0, 9))]);
        broken[15] = 3;
        assert_eq!(guard.inspect(&broken), Ok(Verdict::Drop));
        broken[15] = 200;
        assert_eq!(guard.inspect(&broken), Ok(Verdict::Drop));
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: u8) {
            let mut guard = guard();
            let _ = guard.inspect(&bytes);
            let _ = judge(&mut guard, kind, &bytes);
            guard.note_sent(&packet(&[(kind, &bytes)]));
            guard.note_sent(&bytes);
        }
    }
}
