//! H.264 in RTP (RFC 6184, packetization mode 1): from a picture's NAL units to payloads, and back.

use bytes::{BufMut, Bytes, BytesMut};

use crate::bits::ByteReader;
use crate::codec::{h264::Configuration, nal_units};

/// Bytes of one payload: with headers, an extension, a retransmission's number and the seal it fits every path a browser uses.
pub const PAYLOAD_BYTES_MAX: usize = 1_180;
/// Bytes of one picture that is put together; a larger one is nobody's.
pub const PICTURE_BYTES_MAX: usize = 4 << 20;
/// NAL units of one picture that is put together.
const UNITS_MAX: usize = 1_024;

/// NAL unit types (ITU-T H.264 table 7-1, RFC 6184 table 1).
mod unit {
    pub(super) const SLICE: u8 = 1;
    pub(super) const SLICE_OF_IDR: u8 = 5;
    pub(super) const SPS: u8 = 7;
    pub(super) const DELIMITER: u8 = 9;
    pub(super) const FILLER: u8 = 12;
    pub(super) const LAST_SINGLE: u8 = 23;
    pub(super) const STAP_A: u8 = 24;
    pub(super) const FU_A: u8 = 28;
}

const TYPE: u8 = 0x1F;
const FORBIDDEN_AND_REF: u8 = 0xE0;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The payloads of a picture whose units stand behind their lengths; the last of them ends the picture. Before a keyframe that does
/// not carry its parameter sets they are put, since whoever begins there has nothing else. Units that cannot be read are left out.
pub fn payloads(picture: &[u8], keyframe: bool, configuration: &Configuration) -> Vec<Bytes> {
    let mut units: Vec<&[u8]> = nal_units(picture, configuration.length_size)
        .map_while(Result::ok)
        .filter(|unit| {
            unit.first()
                .is_some_and(|first| !matches!(first & TYPE, unit::DELIMITER | unit::FILLER | 0 | 24..))
        })
        .collect();
    if keyframe && !units.iter().any(|unit| kind(unit) == unit::SPS) {
        units.splice(0..0, [&*configuration.sps, &*configuration.pps]);
    }
    let mut payloads = Vec::with_capacity(picture.len() / PAYLOAD_BYTES_MAX + 2);
    let mut rest = units.as_slice();
    while let Some(first) = rest.first() {
        // One header for all, and two bytes of length before each.
        let mut bytes = 1;
        let together = rest.iter().take_while(|unit| {
            bytes += 2 + unit.len();
            bytes <= PAYLOAD_BYTES_MAX
        });
        let taken = match together.count() {
            0 | 1 if first.len() > PAYLOAD_BYTES_MAX => {
                fragment(first, &mut payloads);
                1
            }
            0 | 1 => {
                payloads.push(Bytes::copy_from_slice(first));
                1
            }
            several => {
                payloads.push(aggregate(rest.get(..several).unwrap_or_default()));
                several
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    payloads
}

fn kind(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |first| first & TYPE)
}

/// STAP-A (section 5.7.1): its importance is that of the most important in it.
fn aggregate(units: &[&[u8]]) -> Bytes {
    let headers = units.iter().filter_map(|unit| unit.first());
    let importance = headers.map(|first| first & 0x60).max().unwrap_or(0);
    let mut payload = BytesMut::with_capacity(PAYLOAD_BYTES_MAX);
    payload.put_u8(importance | unit::STAP_A);
    for unit in units {
        payload.put_u16(unit.len() as u16);
        payload.put_slice(unit);
    }
    payload.freeze()
}

/// FU-A (section 5.8): pieces of about the same size, so that none is a lonely byte.
fn fragment(unit: &[u8], payloads: &mut Vec<Bytes>) {
    let Some((first, body)) = unit.split_first() else { return };
    let pieces = body.len().div_ceil(PAYLOAD_BYTES_MAX - 2).max(1);
    let size = body.len().div_ceil(pieces).max(1);
    let last = body.len().div_ceil(size).saturating_sub(1);
    for (at, piece) in body.chunks(size).enumerate() {
        let start = if at == 0 { FU_START } else { 0 };
        let end = if at == last { FU_END } else { 0 };
        let mut payload = BytesMut::with_capacity(piece.len() + 2);
        payload.put_u8(first & FORBIDDEN_AND_REF | unit::FU_A);
        payload.put_u8(start | end | first & TYPE);
        payload.put_slice(piece);
        payloads.push(payload.freeze());
    }
}

/// A picture that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// When it is shown, in ticks of 90 kHz.
    pub timestamp: u32,
    /// Decoding can start here.
    pub keyframe: bool,
    /// Its NAL units, each behind its length in four bytes.
    pub payload: Bytes,
}

/// Puts pictures together of payloads that come in order.
#[derive(Debug, Default)]
pub struct Depacketizer {
    timestamp: Option<u32>,
    picture: BytesMut,
    units: usize,
    /// Where the length of the unit in pieces stands.
    open: Option<usize>,
    keyframe: bool,
    has_slice: bool,
    broken: bool,
}

impl Depacketizer {
    /// A payload that follows the one before in the sequence. Gives the picture it ends: by its marker, or by the time of another one.
    /// Of a picture that cannot be put together nothing is given, and `true` beside it.
    pub fn push(&mut self, payload: &[u8], timestamp: u32, marker: bool) -> (Option<Picture>, bool) {
        let (mut ended, mut lost) = (None, false);
        if self.timestamp.is_some_and(|before| before != timestamp) {
            (ended, lost) = self.end();
        }
        self.timestamp = Some(timestamp);
        if self.take(payload).is_none() {
            self.broken = true;
        }
        if marker && ended.is_none() {
            let (picture, broken) = self.end();
            return (picture, lost || broken);
        }
        (ended, lost)
    }

    /// Payloads between the one before and the next are lost, and with them the picture that is open.
    pub fn lose(&mut self) {
        self.broken = true;
    }

    fn end(&mut self) -> (Option<Picture>, bool) {
        let whole = !self.broken && self.open.is_none() && self.has_slice;
        let lost = !whole && (self.broken || self.open.is_some());
        let payload = std::mem::take(&mut self.picture).freeze();
        let picture = self.timestamp.filter(|_| whole).map(|timestamp| Picture {
            timestamp,
            keyframe: self.keyframe,
            payload,
        });
        *self = Depacketizer::default();
        (picture, lost)
    }

    fn take(&mut self, payload: &[u8]) -> Option<()> {
        let first = *payload.first()?;
        match first & TYPE {
            1..=unit::LAST_SINGLE => self.unit(payload),
            unit::STAP_A => {
                let mut reader = ByteReader::new(payload.get(1..)?);
                while !reader.is_empty() {
                    let len = reader.u16().ok()?;
                    self.unit(reader.take(usize::from(len)).ok()?)?;
                }
                Some(())
            }
            unit::FU_A => self.piece(first, *payload.get(1)?, payload.get(2..)?),
            _ => None,
        }
    }

    fn unit(&mut self, unit: &[u8]) -> Option<()> {
        if self.open.is_some() || self.is_full(unit.len() + 4) {
            return None;
        }
        match unit.first()? & TYPE {
            unit::DELIMITER | unit::FILLER => return Some(()),
            kind => self.see(kind),
        }
        self.units += 1;
        self.picture.put_u32(unit.len() as u32);
        self.picture.put_slice(unit);
        Some(())
    }

    fn piece(&mut self, indicator: u8, header: u8, piece: &[u8]) -> Option<()> {
        if self.is_full(piece.len() + 5) {
            return None;
        }
        if header & FU_START != 0 {
            if self.open.is_some() {
                return None;
            }
            self.open = Some(self.picture.len());
            self.units += 1;
            self.see(header & TYPE);
            self.picture.put_u32(0);
            self.picture.put_u8(indicator & FORBIDDEN_AND_REF | header & TYPE);
        }
        let at = self.open?;
        self.picture.put_slice(piece);
        if header & FU_END != 0 {
            let len = (self.picture.len() - at - 4) as u32;
            self.picture.get_mut(at..at + 4)?.copy_from_slice(&len.to_be_bytes());
            self.open = None;
        }
        Some(())
    }

    fn see(&mut self, kind: u8) {
        self.keyframe |= kind == unit::SLICE_OF_IDR;
        self.has_slice |= (unit::SLICE..=unit::SLICE_OF_IDR).contains(&kind);
    }

    fn is_full(&self, more: usize) -> bool {
        self.units >= UNITS_MAX || self.picture.len() + more > PICTURE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0xc8];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

    fn configuration() -> Configuration {
        Configuration::from_parameter_sets(SPS, PPS).expect("they are read")
    }

    fn picture(units: &[&[u8]]) -> Vec<u8> {
        let mut picture = Vec::new();
        for unit in units {
            picture.extend_from_slice(&(unit.len() as u32).to_be_bytes());
            picture.extend_from_slice(unit);
        }
        picture
    }

    fn together(payloads: &[Bytes]) -> Option<Picture> {
        let mut depacketizer = Depacketizer::default();
        let last = payloads.len().saturating_sub(1);
        let mut given = None;
        for (at, payload) in payloads.iter().enumerate() {
            given = depacketizer.push(payload, 9, at == last).0;
        }
        given
    }

    #[test]
    fn a_keyframe_gets_its_parameter_sets_once() {
        let idr = [&[0x65][..], &[7; 3_000]].concat();
        let bare = payloads(&picture(&[&[9, 0x10], &idr]), true, &configuration());
        assert_eq!(bare[0][0] & 0x1F, 24, "parameter sets in one packet");
        assert!(bare.len() == 4 && bare.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        let shown = together(&bare).expect("a picture");
        assert_eq!(shown.payload, picture(&[SPS, PPS, &idr]), "and the delimiter is left out");
        assert!(shown.keyframe);
        let dressed = payloads(&picture(&[SPS, PPS, &idr]), true, &configuration());
        assert_eq!(dressed, bare);
    }

    #[test]
    fn a_picture_with_a_hole_is_not_given_and_the_next_is() {
        let mut depacketizer = Depacketizer::default();
        let idr = [&[0x65][..], &[7; 3_000]].concat();
        let pieces = payloads(&picture(&[&idr]), false, &configuration());
        assert_eq!(depacketizer.push(&pieces[0], 1, false), (None, false));
        depacketizer.lose();
        assert_eq!(depacketizer.push(&pieces[2], 1, true), (None, true));
        let (next, lost) = depacketizer.push(&[0x41, 1, 2], 2, true);
        assert!(!lost && next.is_some_and(|next| !next.keyframe && next.timestamp == 2));
    }

    #[test]
    fn a_lost_marker_ends_a_picture_with_the_next() {
        let mut depacketizer = Depacketizer::default();
        assert_eq!(depacketizer.push(&[0x41, 1], 1, false), (None, false));
        let (first, _) = depacketizer.push(&[0x41, 2], 2, false);
        assert_eq!(first.map(|first| first.timestamp), Some(1));
    }

    proptest! {
        #[test]
        fn what_is_taken_apart_comes_together_again(
            units in prop::collection::vec((1_u8..6, prop::collection::vec(any::<u8>(), 0..4_000)), 1..12),
        ) {
            let units: Vec<Vec<u8>> =
                units.into_iter().map(|(kind, body)| [vec![0x60 | kind], body].concat()).collect();
            let whole = picture(&units.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let pieces = payloads(&whole, false, &configuration());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= PAYLOAD_BYTES_MAX && !piece.is_empty()));
            let again = together(&pieces).map(|picture| picture.payload);
            prop_assert_eq!(again, Some(Bytes::from(whole)));
        }

        #[test]
        fn no_payloads_end_in_a_panic(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0_u32..3, any::<bool>()), 0..40),
        ) {
            let mut depacketizer = Depacketizer::default();
            for (payload, timestamp, marker) in payloads {
                if let (Some(picture), _) = depacketizer.push(&payload, timestamp, marker) {
                    for unit in nal_units(&picture.payload, 4) { prop_assert!(unit.is_ok()); }
                }
            }
        }
    }
}
