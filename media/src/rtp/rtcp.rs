//! RTCP: reports (RFC 3550 section 6), NACK, PLI and FIR (RFC 4585, RFC 5104), REMB and transport-wide feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use crate::bits::{ByteReader, Truncated};

/// Packets of one compound that are looked at.
const PACKETS_MAX: usize = 32;
/// Sequence numbers one NACK packet may ask for; a browser that lost more asks for a keyframe.
const NACKED_MAX: usize = 512;
/// Packets one transport-wide feedback may speak of; browsers send one for every 50 to 250 ms.
const FEEDBACK_PACKETS_MAX: usize = 4_096;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// A datagram that is no RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not RTCP")]
pub struct Malformed;

impl From<Truncated> for Malformed {
    fn from(_: Truncated) -> Malformed {
        Malformed
    }
}

/// One instant on a publisher's clock, and by the timestamps of one of its tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderTime {
    /// NTP time, 32 bits of seconds and 32 of their fraction.
    pub ntp: u64,
    /// The RTP timestamp of that time.
    pub timestamp: u32,
}

impl SenderTime {
    /// The publisher's clock in milliseconds.
    pub fn millis(self) -> i64 {
        let fraction = ((self.ntp & 0xffff_ffff) * 1_000) >> 32;
        ((self.ntp >> 32) * 1_000 + fraction).cast_signed()
    }
}

/// Whether a datagram that looks like RTP is RTCP (RFC 5761 section 4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    datagram.get(1).is_some_and(|kind| (192..=223).contains(kind))
}

/// What is learnt of a compound packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rtcp {
    /// When the sender's timestamps were.
    SenderReport {
        /// Whose.
        ssrc: u32,
        /// NTP time, 32 bits of seconds and 32 of their fraction.
        ntp: u64,
        /// The RTP timestamp of that time.
        timestamp: u32,
    },
    /// How a stream of ours arrives.
    Reception(Reception),
    /// Packets to be sent again.
    Nack {
        /// Of which stream.
        ssrc: u32,
        /// Which.
        sequences: Vec<u16>,
    },
    /// A picture that can be begun with is wanted.
    KeyframeRequest {
        /// Of which stream.
        ssrc: u32,
    },
    /// What the receiver believes its path carries, bits a second.
    Remb {
        /// For these streams together.
        bitrate_bps: u64,
    },
    /// When packets arrived.
    Feedback(Feedback),
    /// A stream is over.
    Goodbye {
        /// Which.
        ssrc: u32,
    },
}

/// A report block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reception {
    /// Of which stream.
    pub ssrc: u32,
    /// Lost since the report before, of 256.
    pub fraction_lost: u8,
    /// Lost at all, 24 bits.
    pub lost: u32,
    /// The highest sequence number, wraps counted above.
    pub highest: u32,
    /// In ticks of the stream's clock.
    pub jitter: u32,
    /// The middle of the NTP time of the last sender report.
    pub last_sr: u32,
    /// How long ago that came, in 1/65536 s.
    pub since_last_sr: u32,
}

/// When packets arrived, by transport-wide sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Number of this feedback.
    pub count: u8,
    /// The first packet it speaks of.
    pub base: u16,
    /// From the base on: when each arrived in units of 250 µs since an arbitrary time, or `None` when it did not.
    pub arrivals: Vec<Option<i64>>,
}

/// Reads a compound packet. What is not known is passed over; what is broken ends the reading.
pub fn read(bytes: &[u8], mut heard: impl FnMut(Rtcp)) -> Result<(), Malformed> {
    let mut reader = ByteReader::new(bytes);
    for _ in 0..PACKETS_MAX {
        if reader.is_empty() {
            return Ok(());
        }
        let first = reader.u8()?;
        let kind = reader.u8()?;
        let words = usize::from(reader.u16()?);
        let mut body = reader.take(words * 4)?;
        if first >> 6 != 2 {
            return Err(Malformed);
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last().ok_or(Malformed)?);
            body = body.len().checked_sub(padding).and_then(|len| body.get(..len)).ok_or(Malformed)?;
        }
        read_one(first & 0x1F, kind, body, &mut heard)?;
    }
    Ok(())
}

fn read_one(count: u8, kind: u8, body: &[u8], heard: &mut impl FnMut(Rtcp)) -> Result<(), Malformed> {
    let mut reader = ByteReader::new(body);
    match (kind, count) {
        (SENDER_REPORT, blocks) => {
            let ssrc = reader.u32()?;
            let ntp = u64::from(reader.u32()?) << 32 | u64::from(reader.u32()?);
            let timestamp = reader.u32()?;
            reader.skip(8)?;
            heard(Rtcp::SenderReport { ssrc, ntp, timestamp });
            read_blocks(&mut reader, blocks, heard)?;
        }
        (RECEIVER_REPORT, blocks) => {
            reader.skip(4)?;
            read_blocks(&mut reader, blocks, heard)?;
        }
        (GOODBYE, sources) => {
            for _ in 0..sources {
                heard(Rtcp::Goodbye { ssrc: reader.u32()? });
            }
        }
        (TRANSPORT_FEEDBACK, 1) => {
            reader.skip(4)?;
            let ssrc = reader.u32()?;
            let mut sequences = Vec::new();
            while !reader.is_empty() {
                let (first, mask) = (reader.u16()?, reader.u16()?);
                sequences.push(first);
                sequences.extend(
                    (0..16).filter(|bit| mask >> bit & 1 == 1).map(|bit| first.wrapping_add(bit + 1)),
                );
                if sequences.len() > NACKED_MAX {
                    return Err(Malformed);
                }
            }
            heard(Rtcp::Nack { ssrc, sequences });
        }
        (TRANSPORT_FEEDBACK, 15) => {
            reader.skip(8)?;
            heard(Rtcp::Feedback(read_feedback(&mut reader)?));
        }
        (PAYLOAD_FEEDBACK, 1) => {
            reader.skip(4)?;
            heard(Rtcp::KeyframeRequest { ssrc: reader.u32()? });
        }
        (PAYLOAD_FEEDBACK, 4) => {
            reader.skip(8)?;
            while !reader.is_empty() {
                heard(Rtcp::KeyframeRequest { ssrc: reader.u32()? });
                reader.skip(4)?;
            }
        }
        (PAYLOAD_FEEDBACK, 15) => {
            reader.skip(8)?;
            if reader.take(4)? == b"REMB" {
                reader.skip(1)?;
                let value = reader.u24()?;
                let bitrate_bps = u64::from(value & 0x3_FFFF).checked_shl(value >> 18).unwrap_or(u64::MAX);
                heard(Rtcp::Remb { bitrate_bps });
            }
        }
        _ => {}
    }
    Ok(())
}

fn read_blocks(
    reader: &mut ByteReader<'_>,
    blocks: u8,
    heard: &mut impl FnMut(Rtcp),
) -> Result<(), Malformed> {
    for _ in 0..blocks {
        heard(Rtcp::Reception(Reception {
            ssrc: reader.u32()?,
            fraction_lost: reader.u8()?,
            lost: reader.u24()?,
            highest: reader.u32()?,
            jitter: reader.u32()?,
            last_sr: reader.u32()?,
            since_last_sr: reader.u32()?,
        }));
    }
    Ok(())
}

fn read_feedback(reader: &mut ByteReader<'_>) -> Result<Feedback, Malformed> {
    let base = reader.u16()?;
    let packets = usize::from(reader.u16()?);
    let reference = i64::from(reader.i24()?) * 256;
    let count = reader.u8()?;
    if packets > FEEDBACK_PACKETS_MAX {
        return Err(Malformed);
    }
    let mut symbols: Vec<u8> = Vec::with_capacity(packets);
    while symbols.len() < packets {
        let chunk = reader.u16()?;
        if chunk & 0x8000 == 0 {
            let run = usize::from(chunk & 0x1FFF).min(packets - symbols.len());
            if run == 0 {
                return Err(Malformed);
            }
            symbols.resize(symbols.len() + run, (chunk >> 13 & 3) as u8);
        } else if chunk & 0x4000 == 0 {
            symbols.extend((0..14).rev().map(|bit| (chunk >> bit & 1) as u8));
        } else {
            symbols.extend((0..7).rev().map(|two| (chunk >> (two * 2) & 3) as u8));
        }
    }
    symbols.truncate(packets);
    let mut at = reference;
    let mut arrivals = Vec::with_capacity(packets);
    for symbol in symbols {
        arrivals.push(match symbol {
            1 => {
                at += i64::from(reader.u8()?);
                Some(at)
            }
            2 => {
                at += i64::from(reader.u16()?.cast_signed());
                Some(at)
            }
            _ => None,
        });
    }
    Ok(Feedback { count, base, arrivals })
}

fn head(out: &mut Vec<u8>, count: u8, kind: u8, words: usize) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&(words as u16).to_be_bytes());
}

/// Asks for a picture that can be begun with.
pub fn write_pli(out: &mut Vec<u8>, sender: u32, ssrc: u32) {
    head(out, 1, PAYLOAD_FEEDBACK, 2);
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
}

/// Asks for packets again, in ascending order.
pub fn write_nack(out: &mut Vec<u8>, sender: u32, ssrc: u32, sequences: &[u16]) {
    let mut pairs: Vec<(u16, u16)> = Vec::new();
    for sequence in sequences {
        match pairs.last_mut() {
            Some((first, mask)) if (1..=16).contains(&sequence.wrapping_sub(*first)) => {
                *mask |= 1 << (sequence.wrapping_sub(*first) - 1);
            }
            _ => pairs.push((*sequence, 0)),
        }
    }
    head(out, 1, TRANSPORT_FEEDBACK, 2 + pairs.len());
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    for (first, mask) in pairs {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
    }
}

/// Says how streams arrive; at most 31.
pub fn write_receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[Reception]) {
    let blocks = blocks.get(..31).unwrap_or(blocks);
    head(out, blocks.len() as u8, RECEIVER_REPORT, 1 + 6 * blocks.len());
    out.extend_from_slice(&sender.to_be_bytes());
    for block in blocks {
        out.extend_from_slice(&block.ssrc.to_be_bytes());
        out.extend_from_slice(&(u32::from(block.fraction_lost) << 24 | block.lost & 0xFF_FFFF).to_be_bytes());
        out.extend_from_slice(&block.highest.to_be_bytes());
        out.extend_from_slice(&block.jitter.to_be_bytes());
        out.extend_from_slice(&block.last_sr.to_be_bytes());
        out.extend_from_slice(&block.since_last_sr.to_be_bytes());
    }
}

/// Says when timestamps of a stream are, how much was sent, and whose it is.
pub fn write_sender_report(out: &mut Vec<u8>, ssrc: u32, ntp: u64, timestamp: u32, packets: u32, bytes: u32) {
    head(out, 0, SENDER_REPORT, 6);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(&packets.to_be_bytes());
    out.extend_from_slice(&bytes.to_be_bytes());
    // CNAME "nova": item 1, four bytes, then the end.
    head(out, 1, DESCRIPTION, 3);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, 4, b'n', b'o', b'v', b'a', 0, 0]);
}

/// Says when packets arrived: from `base` on in units of 250 µs, or `None`. The first has to have arrived.
pub fn write_feedback(
    out: &mut Vec<u8>,
    sender: u32,
    ssrc: u32,
    count: u8,
    base: u16,
    arrivals: &[Option<i64>],
) {
    let first = arrivals.iter().flatten().next().copied().unwrap_or(0);
    let reference = first.div_euclid(256);
    let mut at = reference * 256;
    let mut symbols: Vec<u8> = Vec::with_capacity(arrivals.len());
    let mut deltas: Vec<u8> = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let Some(arrival) = arrival else {
            symbols.push(0);
            continue;
        };
        // Beyond eight seconds nobody estimates anything of it.
        let delta = (arrival - at).clamp(i64::from(i16::MIN), i64::from(i16::MAX));
        at += delta;
        match u8::try_from(delta) {
            Ok(small) => {
                symbols.push(1);
                deltas.push(small);
            }
            Err(_) => {
                symbols.push(2);
                deltas.extend_from_slice(&(delta as i16).to_be_bytes());
            }
        }
    }
    let mut chunks: Vec<u16> = Vec::new();
    let mut rest = symbols.as_slice();
    while let Some(symbol) = rest.first() {
        let run = rest.iter().take(0x1FFF).take_while(|other| *other == symbol).count();
        let taken = if run >= 7 {
            chunks.push(u16::from(*symbol) << 13 | run as u16);
            run
        } else {
            let mut chunk = 0xC000;
            for (place, symbol) in rest.iter().take(7).enumerate() {
                chunk |= u16::from(*symbol) << (12 - 2 * place);
            }
            chunks.push(chunk);
            rest.len().min(7)
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    let bytes = 16 + 2 * chunks.len() + deltas.len();
    let padded = bytes.next_multiple_of(4);
    head(out, 15, TRANSPORT_FEEDBACK, padded / 4);
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&base.to_be_bytes());
    out.extend_from_slice(&(arrivals.len() as u16).to_be_bytes());
    let reference = (reference as u32 & 0xFF_FFFF).to_be_bytes();
    out.extend_from_slice(reference.get(1..).unwrap_or_default());
    out.push(count);
    for chunk in chunks {
        out.extend_from_slice(&chunk.to_be_bytes());
    }
    out.extend_from_slice(&deltas);
    // Deltas of zero behind the last are passed over by every reader, so no padding bit is needed.
    out.resize(out.len() + padded - bytes, 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Vec<Rtcp> {
        let mut heard = Vec::new();
        read(bytes, |one| heard.push(one)).unwrap();
        heard
    }

    proptest! {
        #[test]
        fn a_feedback_says_when_packets_arrived(
            base: u16, count: u8, start in 0i64..1_000_000,
            steps in proptest::collection::vec(proptest::option::of(-3_000i64..30_000), 0..300),
        ) {
            let mut at = start;
            let mut arrivals = vec![Some(at)];
            arrivals.extend(steps.into_iter().map(|step| step.map(|step| { at += step; at })));
            let mut bytes = Vec::new();
            write_feedback(&mut bytes, 1, 2, count, base, &arrivals);
            prop_assert_eq!(bytes.len() % 4, 0);
            let expected = arrivals.iter().map(|at| at.map(|at| {
                // The reference has 24 bits of 64 ms.
                let wrap = ((start.div_euclid(256)) + 0x80_0000).div_euclid(0x100_0000) * 0x100_0000 * 256;
                at - wrap
            })).collect::<Vec<_>>();
            prop_assert_eq!(all(&bytes), vec![Rtcp::Feedback(Feedback { count, base, arrivals: expected })]);
        }

        #[test]
        fn a_nack_asks_for_what_it_was_given(start: u16, gaps in proptest::collection::vec(1u16..40, 1..60)) {
            let mut sequences = vec![start];
            for gap in gaps { sequences.push(sequences.last().unwrap().wrapping_add(gap)); }
            let mut bytes = Vec::new();
            write_nack(&mut bytes, 1, 2, &sequences);
            prop_assert_eq!(all(&bytes), vec![Rtcp::Nack { ssrc: 2, sequences }]);
        }

        #[test]
        fn no_bytes_end_in_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 8..200), kind in 200u8..207) {
            let _ = read(&bytes, |_| {});
            bytes[0] = 0x80 | bytes[0] & 0x3F;
            bytes[1] = kind;
            bytes[2] = 0;
            bytes[3] = (bytes.len() / 4 - 1) as u8;
            let _ = read(&bytes, |_| {});
        }
    }

    #[test]
    fn reports_and_requests_are_read_as_written() {
        let block = Reception {
            ssrc: 7,
            fraction_lost: 3,
            lost: 9,
            highest: 70_000,
            jitter: 5,
            last_sr: 1,
            since_last_sr: 2,
        };
        let mut bytes = Vec::new();
        write_receiver_report(&mut bytes, 1, &[block]);
        write_sender_report(&mut bytes, 9, 1 << 40, 90_000, 10, 1_000);
        write_pli(&mut bytes, 1, 7);
        assert_eq!(
            all(&bytes),
            [
                Rtcp::Reception(block),
                Rtcp::SenderReport { ssrc: 9, ntp: 1 << 40, timestamp: 90_000 },
                Rtcp::KeyframeRequest { ssrc: 7 },
            ]
        );
        let remb = [
            0x8F, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1, 0x0B, 0xD0, 0x90, 0, 0, 0, 7,
        ];
        assert_eq!(all(&remb), [Rtcp::Remb { bitrate_bps: 0x3_D090 << 2 }]);
    }
}
