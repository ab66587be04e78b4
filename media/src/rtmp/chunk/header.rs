//! What a chunk begins with (RTMP 1.0, section 5.3.1).

use crate::bits::{ByteReader, Read};

/// A timestamp field that says that the timestamp follows in four bytes.
pub(super) const EXTENDED: u32 = 0xff_ffff;
/// Three bytes of basic header, eleven of message header, four of timestamp.
pub(super) const HEADER_BYTES_MAX: usize = 18;

/// What a chunk begins with.
pub(super) struct Header {
    pub(super) fmt: u8,
    pub(super) chunk_stream_id: u32,
    /// The value and whether it was extended.
    pub(super) timestamp: Option<(u32, bool)>,
    pub(super) length_kind: Option<(usize, u8)>,
    pub(super) stream_id: Option<u32>,
}

impl Header {
    /// Reads a header (5.3.1); refused as long as it is not whole.
    pub(super) fn parse(bytes: &[u8]) -> Read<Self> {
        let mut reader = ByteReader::new(bytes);
        let first = reader.u8()?;
        let chunk_stream_id = match first & 0x3f {
            0 => 64 + u32::from(reader.u8()?),
            1 => 64 + u32::from(reader.u16_le()?),
            id => id.into(),
        };
        let fmt = first >> 6;
        let field = if fmt < 3 { Some(reader.u24()?) } else { None };
        let length_kind = if fmt < 2 { Some((reader.u24()? as usize, reader.u8()?)) } else { None };
        let stream_id = if fmt < 1 { Some(reader.u32_le()?) } else { None };
        let timestamp = match field {
            Some(EXTENDED) => Some((reader.u32()?, true)),
            Some(field) => Some((field, false)),
            None => None,
        };
        Ok(Self { fmt, chunk_stream_id, timestamp, length_kind, stream_id })
    }
}
