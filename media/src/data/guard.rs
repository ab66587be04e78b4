//! What is let through to the SCTP library, which trusts its peer: packets that would cost it memory or time without bound are not.
//!
//! Seven of its habits are guarded against: it walks to whatever TSN a FORWARD TSN names, one by one; it takes data that fill a gap
//! however much is held already; it counts the bytes it holds, not the chunks, each of which takes far more and is looked through
//! whenever another comes; it keeps requests to reset streams that lie in the future, and its own that were never answered; it opens
//! a stream for any number; it looks up whatever an acknowledgement names, as often as it is named; and it answers each heartbeat with
//! a packet. How it steps from chunk to chunk is [`super::chunk`]'s matter. Each packet is looked at before it goes in, and where the
//! library is, is read from what it sends.

use std::time::Instant;

use super::Ending;
use super::chunk::{self, kind, parameter};
use crate::bits::ByteReader;
use crate::bucket::Bucket;

/// Bytes of a packet; clients keep to about 1,200, because no path carries more than 1,500 in one piece.
pub(super) const PACKET_BYTES_MAX: usize = 2_048;
/// Streams of an association, a quarter of which can be open: browsers use every other number.
pub(super) const STREAMS_MAX: u16 = 64;
/// How far ahead of what is acknowledged data may be: a thousand chunks on their way.
const AHEAD_MAX: u32 = 1_024;
/// Bytes of data that are taken when no more was asked for: what repairs a gap, and what the client had sent before it heard.
const OVERRUN_BYTES_MAX: usize = 64 << 10;
/// Chunks of messages that are not whole, or wait for an earlier one: several times what a client may send at once.
const HELD_MAX: u32 = 2_048;
/// Requests to reset streams once more data are there: so many ahead, and so many until then.
const RESETS_AHEAD_MAX: u32 = 4;
const RESETS_WAITING_MAX: u32 = 8;
/// Requests of ours to reset streams that the client has not answered; more of the client's are not taken then.
const RESETS_UNANSWERED_MAX: usize = 64;
/// TSNs that an acknowledgement may name beyond the first gap: more than can be on their way.
const GAPS_MAX: u32 = 16 << 10;
/// What a client's chunks may [cost] a second, and at once; what is beyond is lost on the way, as it were. Who says as much as it may,
/// and hears forty-nine others who do, needs half of it.
const COST_PER_S: u32 = 8_192;
const COST_BURST: u32 = 32_768;

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
#[derive(Debug)]
pub(super) struct Guard {
    /// The last TSN in sequence; `None` before an association has begun.
    cumulative: Option<u32>,
    is_full: bool,
    overrun: usize,
    /// Chunks of data that went in and have not come out, or more, since nothing was held.
    held: u32,
    resets_waiting: u32,
    /// Numbers of our requests to reset streams.
    resets_unanswered: Vec<u32>,
    budget: Bucket,
    /// Bytes the client may send when nothing is held.
    room: u32,
}

impl Guard {
    /// Nothing has begun; the library has room for so many bytes.
    pub(super) fn new(room: u32, now: Instant) -> Guard {
        Guard {
            cumulative: None,
            is_full: false,
            overrun: 0,
            held: 0,
            resets_waiting: 0,
            resets_unanswered: Vec::new(),
            budget: Bucket::new(COST_PER_S, COST_BURST, now),
            room,
        }
    }

    /// An association has begun. What the client may cost stays what it was.
    pub(super) fn begin(&mut self, init: Init) {
        self.cumulative = Some(init.first_tsn.wrapping_sub(1));
        (self.is_full, self.overrun, self.held, self.resets_waiting) = (false, 0, 0, 0);
        self.resets_unanswered.clear();
    }

    /// Judges a packet of the client.
    pub(super) fn inspect(&mut self, packet: &[u8], now: Instant) -> Result<Verdict, Ending> {
        if packet.len() > PACKET_BYTES_MAX {
            return Ok(Verdict::Drop);
        }
        let Some(chunks) = chunk::read(packet) else { return Ok(Verdict::Drop) };
        let costs = chunks.iter().map(|(kind, body)| cost(*kind, body));
        let Some(costs) = costs.sum::<Option<u32>>().filter(|costs| self.budget.has(*costs, now)) else {
            return Ok(Verdict::Drop);
        };
        self.budget.take(costs);
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
                let ahead = ahead(tsn);
                if ahead > AHEAD_MAX {
                    return Ok(false);
                }
                self.held += u32::from(ahead > 0);
                if self.is_full {
                    self.overrun += reader.len();
                }
                if self.overrun > OVERRUN_BYTES_MAX || self.held > HELD_MAX {
                    return Err(Ending::Protocol);
                }
                Ok(true)
            }
            kind::FORWARD_TSN => Ok(reader.u32().is_ok_and(|tsn| ahead(tsn) <= AHEAD_MAX)),
            kind::RECONFIG => Ok(self.admits_reset(body, ahead)),
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
    fn admits_reset(&mut self, body: &[u8], ahead: impl Fn(u32) -> u32) -> bool {
        for (kind, value) in chunk::parameters(body).unwrap_or_default() {
            let mut value = ByteReader::new(value);
            if kind == parameter::RESPONSE {
                let Ok(number) = value.u32() else { return false };
                self.resets_unanswered.retain(|asked| *asked != number);
                continue;
            }
            let Ok(last_tsn) = value.skip(8).and_then(|()| value.u32()) else { return false };
            let ahead = ahead(last_tsn);
            if ahead > RESETS_AHEAD_MAX
                || ahead > 0 && self.resets_waiting >= RESETS_WAITING_MAX
                || self.resets_unanswered.len() >= RESETS_UNANSWERED_MAX
            {
                return false;
            }
            self.resets_waiting += u32::from(ahead > 0);
        }
        true
    }

    /// A message of so many chunks was taken out.
    pub(super) fn note_read(&mut self, chunks: usize) {
        self.held = self.held.saturating_sub(u32::try_from(chunks).unwrap_or(u32::MAX));
    }

    /// A packet of the library's, on its way to the client: what it acknowledges is where it is.
    pub(super) fn note_sent(&mut self, packet: &[u8]) {
        for (kind, body) in chunk::split(packet).unwrap_or_default() {
            match kind {
                kind::SACK => self.note_acknowledged(body),
                kind::RECONFIG => self.note_asked(body),
                _ => {}
            }
        }
    }

    fn note_acknowledged(&mut self, body: &[u8]) {
        let mut reader = ByteReader::new(body);
        let (Ok(tsn), Ok(credit)) = (reader.u32(), reader.u32()) else { return };
        if self.cumulative.replace(tsn) != Some(tsn) {
            self.resets_waiting = 0;
        }
        self.is_full = credit == 0;
        if !self.is_full {
            self.overrun = 0;
        }
        if credit >= self.room {
            self.held = 0;
        }
    }

    fn note_asked(&mut self, body: &[u8]) {
        for (kind, value) in chunk::parameters(body).unwrap_or_default() {
            if let (parameter::OUTGOING_RESET, Ok(number)) = (kind, ByteReader::new(value).u32())
                && !self.resets_unanswered.contains(&number)
            {
                self.resets_unanswered.push(number);
            }
        }
    }
}

/// What a chunk costs, where an acknowledgement of everything costs one. `None` when it is too much for any client.
fn cost(kind: u8, body: &[u8]) -> Option<u32> {
    match kind {
        kind::DATA => Some(8),
        kind::SACK => {
            let mut reader = ByteReader::new(body);
            reader.skip(8).ok()?;
            let gaps = reader.u16().ok()?;
            reader.skip(2).ok()?;
            let mut named = 0_u32;
            for _ in 0..gaps {
                let (first, last) = (reader.u16().ok()?, reader.u16().ok()?);
                named += u32::from(last.saturating_sub(first)) + 1;
            }
            (named <= GAPS_MAX).then_some(1 + named / 16)
        }
        kind::RECONFIG | kind::FORWARD_TSN => Some(16),
        // Each is answered with a packet.
        _ => Some(64),
    }
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
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const ROOM: u32 = 100_000;

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
        let mut guard = Guard::new(ROOM, crate::rtp::beginning());
        let verdict = judge(&mut guard, kind::INIT, &body).unwrap();
        let Verdict::Begin(init) = verdict else { panic!("{verdict:?}") };
        assert_eq!(init, Init { tag: 7, first_tsn: 100 });
        guard.begin(init);
        guard
    }

    fn judge(guard: &mut Guard, kind: u8, body: &[u8]) -> Result<Verdict, Ending> {
        guard.inspect(&packet(&[(kind, body)]), crate::rtp::beginning())
    }

    #[test]
    fn nothing_passes_before_an_association_has_begun() {
        let mut guard = Guard::new(ROOM, crate::rtp::beginning());
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
        let (mut guard, now) = (guard(), crate::rtp::beginning());
        assert_eq!(judge(&mut guard, 5, &[]), Ok(Verdict::Drop), "an answer to nothing");
        assert_eq!(judge(&mut guard, kind::ABORT, &[]), Err(Ending::Closed));
        assert_eq!(guard.inspect(&vec![0; PACKET_BYTES_MAX + 1], now), Ok(Verdict::Drop));
        let mut broken = packet(&[(kind::DATA, &data(100, 0, 9))]);
        broken[15] = 3;
        assert_eq!(guard.inspect(&broken, now), Ok(Verdict::Drop));
        broken[15] = 200;
        assert_eq!(guard.inspect(&broken, now), Ok(Verdict::Drop));
    }

    #[test]
    fn many_small_pieces_end_it() {
        let mut guard = guard();
        let send = |guard: &mut Guard, at: u32| {
            let body = data(100 + at % AHEAD_MAX, 0, 1);
            guard.inspect(
                &packet(&[(kind::DATA, &body)]),
                crate::rtp::beginning() + Duration::from_millis(at.into()),
            )
        };
        for at in 0..HELD_MAX {
            assert_eq!(send(&mut guard, at), Ok(Verdict::Pass));
        }
        guard.note_read(9);
        for at in 0..9 {
            assert_eq!(send(&mut guard, HELD_MAX + at), Ok(Verdict::Pass));
        }
        guard.note_sent(&sack(99, ROOM - 1));
        assert_eq!(send(&mut guard, HELD_MAX + 9), Err(Ending::Protocol));
        guard.note_sent(&sack(99, ROOM));
        assert_eq!(send(&mut guard, HELD_MAX + 10), Ok(Verdict::Pass), "nothing is held any more");
    }

    #[test]
    fn who_answers_no_reset_is_granted_none() {
        let mut guard = guard();
        let asks = |number: u32| {
            let mut body = reset(99);
            body[4..8].copy_from_slice(&number.to_be_bytes());
            packet(&[(kind::RECONFIG, &body)])
        };
        for number in 0..RESETS_UNANSWERED_MAX as u32 {
            assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(99)), Ok(Verdict::Pass));
            guard.note_sent(&asks(number));
            guard.note_sent(&asks(number));
        }
        assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(99)), Ok(Verdict::Drop));
        let answers = |number: u8| [0, 16, 0, 12, 0, 0, 0, number, 0, 0, 0, 1];
        assert_eq!(judge(&mut guard, kind::RECONFIG, &answers(255)), Ok(Verdict::Pass), "to nothing");
        assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(99)), Ok(Verdict::Drop));
        assert_eq!(judge(&mut guard, kind::RECONFIG, &answers(5)), Ok(Verdict::Pass));
        assert_eq!(judge(&mut guard, kind::RECONFIG, &reset(99)), Ok(Verdict::Pass));
    }

    #[test]
    fn what_costs_much_is_taken_seldom() {
        let heartbeat: (u8, &[u8]) = (kind::HEARTBEAT, &[0, 1, 0, 8, 1, 2, 3, 4]);
        let mut guard = guard();
        let begin = crate::rtp::beginning();
        let mut taken = |chunk: (u8, &[u8]), now| {
            (0..100_000).take_while(|_| guard.inspect(&packet(&[chunk]), now) == Ok(Verdict::Pass)).count()
        };
        // The beginning has cost as much as one.
        assert_eq!(taken(heartbeat, begin), COST_BURST as usize / 64 - 1);
        assert_eq!(taken(heartbeat, begin + Duration::from_secs(1)), COST_PER_S as usize / 64);
        let all: (u8, &[u8]) = (kind::SACK, &[0; 12]);
        assert_eq!(taken(all, begin + Duration::from_secs(2)), COST_PER_S as usize);
        let gaps = |blocks: &[[u16; 2]]| {
            let mut body = [0; 12].to_vec();
            body[8..10].copy_from_slice(&(blocks.len() as u16).to_be_bytes());
            body.extend(blocks.iter().flatten().flat_map(|number| number.to_be_bytes()));
            body
        };
        let some = gaps(&[[2, 17], [20, 99], [90, 3]]);
        assert_eq!(cost(kind::SACK, &some), Some(1 + (16 + 80 + 1) / 16));
        let again = gaps(&[[2, 9_000], [2, 9_000]]);
        assert_eq!(
            taken((kind::SACK, &again), begin + Duration::from_secs(20)),
            0,
            "more than can be on its way"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind: u8) {
            let mut guard = guard();
            let _ = guard.inspect(&bytes, crate::rtp::beginning());
            let _ = judge(&mut guard, kind, &bytes);
            guard.note_sent(&packet(&[(kind, &bytes)]));
            guard.note_sent(&bytes);
        }
    }
}
