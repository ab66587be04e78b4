//! Chunks: how RTMP cuts messages so that they can be interleaved (RTMP 1.0, section 5.3).
//!
//! The [`Assembler`] takes bytes in any pieces and gives whole messages. It keeps one partial message for each
//! chunk stream, allocates only in proportion to bytes that really came, and uses up at least one byte of input
//! in every step, so that no input makes it spin.
//!
//! Where senders disagree with the document, or with each other:
//! - A chunk of type 3 after an extended timestamp repeats that field, or does not. The field is compared byte by
//!   byte with what it would have to be; the first difference says that it is payload.
//! - A message that starts with type 3 adds the last delta; after a type 0 that is its timestamp (5.3.1.2.4), and
//!   FFmpeg counts on it. Only where that timestamp was extended is the step taken to be nothing.
//! - A chunk stream may start with type 1 (some encoders do for pings): it counts from zero.
//! - A header in the middle of a message drops what was there of it.

mod header;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};

use super::Error;
use super::limits::{
    ACK_WINDOW_BYTES_MIN, CHUNK_BYTES_MAX, CHUNK_STREAMS_MAX, IN_FLIGHT_BYTES_MAX, MESSAGE_BYTES_MAX,
};
use header::{HEADER_BYTES_MAX, Header};

/// The chunk size both sides begin with.
pub const CHUNK_BYTES_DEFAULT: usize = 128;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Message type id.
    pub kind: u8,
    /// Message stream id.
    pub stream_id: u32,
    /// Absolute, in milliseconds, wrapping at 2³².
    pub timestamp_ms: u32,
    /// The body.
    pub payload: Bytes,
}

/// What reading gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole message.
    Message(Message),
    /// The peer's window is used up: it is to be told that so many bytes came, modulo 2³².
    Acknowledge(u32),
}

/// Puts messages together; see the [module documentation](self).
#[derive(Debug)]
pub struct Assembler {
    streams: Vec<ChunkStream>,
    chunk_bytes_max: usize,
    in_flight_bytes: usize,
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    step: Step,
    /// Bytes taken for a timestamp that turned out to be payload: read again before anything else.
    again: Vec<u8>,
    received_bytes: u64,
    acknowledged_bytes: u64,
    window_bytes: Option<u64>,
    restarted: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Header,
    /// Comparing what follows a type 3 header with the last extended timestamp; so many bytes agreed.
    Timestamp {
        stream: usize,
        agreed: usize,
    },
    Payload {
        stream: usize,
        left: usize,
    },
}

#[derive(Debug, Default)]
struct ChunkStream {
    id: u32,
    kind: u8,
    stream_id: u32,
    length: usize,
    timestamp_ms: u32,
    delta_ms: u32,
    /// The last extended timestamp field, while it is in force.
    extended: Option<u32>,
    /// The last header of this stream was a type 0.
    absolute: bool,
    /// A message is being put together.
    open: bool,
    body: Vec<u8>,
}

impl Default for Assembler {
    fn default() -> Self {
        Self::new()
    }
}

impl Assembler {
    /// An assembler at the start of a connection.
    pub fn new() -> Self {
        Self {
            streams: Vec::new(),
            chunk_bytes_max: CHUNK_BYTES_DEFAULT,
            in_flight_bytes: 0,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            step: Step::Header,
            again: Vec::new(),
            received_bytes: 0,
            acknowledged_bytes: 0,
            window_bytes: None,
            restarted: 0,
        }
    }

    /// The peer's chunks are this long from here on. Nothing is refused: 0 becomes 1, and what is above
    /// [`CHUNK_BYTES_MAX`] is longer than any message anyway.
    pub fn set_chunk_bytes_max(&mut self, bytes: u32) {
        self.chunk_bytes_max = (bytes as usize).clamp(1, CHUNK_BYTES_MAX);
    }

    /// The peer wants to hear of its bytes at least this often. Zero changes nothing; very little is raised to
    /// [`ACK_WINDOW_BYTES_MIN`].
    pub fn set_window_bytes(&mut self, bytes: u32) {
        if bytes != 0 {
            self.window_bytes = Some(u64::from(bytes).max(ACK_WINDOW_BYTES_MIN));
        }
    }

    /// Drops the partial message of a chunk stream.
    pub fn abort(&mut self, chunk_stream_id: u32) {
        if let Some(index) = self.streams.iter().position(|stream| stream.id == chunk_stream_id) {
            self.drop_partial(index);
        }
    }

    /// Bytes held for messages that are not whole yet.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// How many partial messages were dropped because another began in their place.
    pub fn restarted(&self) -> u64 {
        self.restarted
    }

    /// Reads from `input` up to the end of a message. Gives nothing once `input` is used up.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Received>, Error> {
        loop {
            if let Some(total) = self.acknowledgement() {
                return Ok(Some(Received::Acknowledge(total)));
            }
            let message = if self.again.is_empty() {
                if input.is_empty() {
                    return Ok(None);
                }
                let before = input.len();
                let message = self.advance(input)?;
                self.received_bytes += (before - input.len()) as u64;
                message
            } else {
                let again = std::mem::take(&mut self.again);
                let mut rest = again.as_slice();
                let message = self.advance(&mut rest)?;
                self.again.extend_from_slice(rest);
                message
            };
            if let Some(message) = message {
                return Ok(Some(Received::Message(message)));
            }
        }
    }

    /// Due between chunks only, so that it does not depend on how the bytes came.
    fn acknowledgement(&mut self) -> Option<u32> {
        let window = self.window_bytes?;
        let between = matches!(self.step, Step::Header) && self.header_len == 0 && self.again.is_empty();
        if !between || self.received_bytes - self.acknowledged_bytes < window {
            return None;
        }
        self.acknowledged_bytes = self.received_bytes;
        Some(self.received_bytes as u32)
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        match self.step {
            Step::Header => self.read_header(input),
            Step::Timestamp { stream, agreed } => Ok(self.compare_timestamp(stream, agreed, input)),
            Step::Payload { stream, left } => self.read_payload(stream, left, input),
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Error> {
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            if let Some(place) = self.header.get_mut(self.header_len) {
                *place = byte;
            }
            self.header_len += 1;
            let Some(header) = self.header.get(..self.header_len) else { return Err(Error::ChunkHeader) };
            if let Ok(header) = Header::parse(header) {
                self.header_len = 0;
                return self.begin_chunk(&header);
            }
        }
        Ok(None)
    }

    fn begin_chunk(&mut self, header: &Header) -> Result<Option<Message>, Error> {
        let known = self.streams.iter().position(|stream| stream.id == header.chunk_stream_id);
        let index = match known {
            Some(index) => index,
            None if header.fmt >= 2 => return Err(Error::ChunkHeader),
            None if self.streams.len() >= CHUNK_STREAMS_MAX => return Err(Error::ChunkStreams),
            None => {
                self.streams.push(ChunkStream { id: header.chunk_stream_id, ..ChunkStream::default() });
                self.streams.len() - 1
            }
        };
        if header.fmt < 3 {
            self.drop_partial(index);
        }
        let Some(stream) = self.streams.get_mut(index) else { return Err(Error::ChunkStreams) };
        if let Some((length, kind)) = header.length_kind {
            if length > MESSAGE_BYTES_MAX {
                return Err(Error::MessageTooLong(length));
            }
            stream.length = length;
            stream.kind = kind;
        }
        if let Some(stream_id) = header.stream_id {
            stream.stream_id = stream_id;
        }
        if let Some((timestamp, extended)) = header.timestamp {
            stream.extended = extended.then_some(timestamp);
            stream.absolute = header.fmt == 0;
            stream.delta_ms = timestamp;
        }
        if !stream.open {
            stream.open = true;
            stream.timestamp_ms = match (header.fmt, stream.absolute) {
                (0, _) => stream.delta_ms,
                (3, true) if stream.extended.is_some() => stream.timestamp_ms,
                _ => stream.timestamp_ms.wrapping_add(stream.delta_ms),
            };
        }
        if header.fmt == 3 && stream.extended.is_some() {
            self.step = Step::Timestamp { stream: index, agreed: 0 };
            return Ok(None);
        }
        Ok(self.begin_payload(index))
    }

    /// Takes the next bytes for an extended timestamp as long as they could be the one in force.
    fn compare_timestamp(&mut self, index: usize, mut agreed: usize, input: &mut &[u8]) -> Option<Message> {
        let expected = self.streams.get(index).and_then(|stream| stream.extended).unwrap_or(0).to_be_bytes();
        while let (Some(&wanted), Some((&byte, rest))) = (expected.get(agreed), input.split_first()) {
            if byte != wanted {
                // Not repeated: what agreed so far was payload, or already the next header.
                self.again.extend(expected.iter().take(agreed));
                return self.begin_payload(index);
            }
            agreed += 1;
            *input = rest;
        }
        if agreed == expected.len() {
            return self.begin_payload(index);
        }
        self.step = Step::Timestamp { stream: index, agreed };
        None
    }

    fn begin_payload(&mut self, index: usize) -> Option<Message> {
        let stream = self.streams.get(index)?;
        let left = stream.length.saturating_sub(stream.body.len()).min(self.chunk_bytes_max);
        if left == 0 {
            return self.finish(index);
        }
        self.step = Step::Payload { stream: index, left };
        None
    }

    fn read_payload(
        &mut self,
        index: usize,
        left: usize,
        input: &mut &[u8],
    ) -> Result<Option<Message>, Error> {
        let available = input.len();
        let (taken, rest) = input.split_at_checked(left).unwrap_or((input, &[]));
        *input = rest;
        self.in_flight_bytes += taken.len();
        if self.in_flight_bytes > IN_FLIGHT_BYTES_MAX {
            return Err(Error::InFlight);
        }
        let Some(stream) = self.streams.get_mut(index) else { return Err(Error::ChunkStreams) };
        if stream.body.capacity() - stream.body.len() < taken.len() {
            // Room for what is here, or as much again as came before, never for what is only announced.
            let missing = stream.length - stream.body.len();
            stream.body.reserve_exact(missing.min(available.max(stream.body.len())).max(taken.len()));
        }
        stream.body.extend_from_slice(taken);
        let left = left - taken.len();
        if left > 0 {
            self.step = Step::Payload { stream: index, left };
            return Ok(None);
        }
        if stream.body.len() == stream.length {
            return Ok(self.finish(index));
        }
        self.step = Step::Header;
        Ok(None)
    }

    fn finish(&mut self, index: usize) -> Option<Message> {
        self.step = Step::Header;
        let stream = self.streams.get_mut(index)?;
        stream.open = false;
        let body = std::mem::take(&mut stream.body);
        self.in_flight_bytes -= body.len();
        Some(Message {
            kind: stream.kind,
            stream_id: stream.stream_id,
            timestamp_ms: stream.timestamp_ms,
            payload: body.into(),
        })
    }

    fn drop_partial(&mut self, index: usize) {
        if let Some(stream) = self.streams.get_mut(index)
            && stream.open
        {
            self.in_flight_bytes -= stream.body.len();
            stream.body = Vec::new();
            stream.open = false;
            self.restarted += 1;
        }
    }
}

/// Writes a message with a full header, timestamp 0, in chunks of `chunk_bytes_max`, on one of the chunk streams 2 to 63.
pub fn write(
    out: &mut BytesMut,
    chunk_stream_id: u8,
    kind: u8,
    stream_id: u32,
    payload: &[u8],
    chunk_bytes_max: usize,
) {
    out.put_u8(chunk_stream_id & 0x3f);
    out.put_uint(0, 3);
    out.put_uint(payload.len() as u64, 3);
    out.put_u8(kind);
    out.put_u32_le(stream_id);
    for (n, chunk) in payload.chunks(chunk_bytes_max.max(1)).enumerate() {
        if n > 0 {
            out.put_u8(0xc0 | chunk_stream_id & 0x3f);
        }
        out.put_slice(chunk);
    }
}
