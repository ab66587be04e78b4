//! WebSocket frames (RFC 6455 section 5) from the server's side: bytes in, messages out, and the other way round.
//!
//! [`FrameReader`] takes bytes in whatever pieces they arrive, checks every rule at the first byte that breaks it, and holds
//! nothing but its own few fields between messages. What a peer announces is compared with the limit before a byte of it is
//! kept, and memory grows with what has arrived, never with what was promised. Text is checked as UTF-8 while it arrives.
//!
//! [`encode`] and [`encode_with`] make complete frames: made once, their bytes are shared by all sockets they go to.

use bytes::Bytes;

use super::deflate;

/// The largest message a device may send, in bytes, over all its fragments and after decompression; announced in `connected`.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// The largest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Fragments of one message. Nobody needs more: without this bound a message of empty fragments never ends.
pub const FRAGMENTS_MAX: u32 = 4_096;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const OPCODE: u8 = 0x0F;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const LEN: u8 = 0x7F;
const LEN_IS_U16: u8 = 126;
const LEN_IS_U64: u8 = 127;
const MASK_LEN: usize = 4;
/// Two bytes, eight of length, four of mask.
const HEAD_LEN_MAX: usize = 14;
/// A server's head has no mask.
const SERVER_HEAD_LEN_MAX: usize = 10;

/// What a frame carries (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message begun before.
    Continuation,
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
    /// The end, with a code and a reason or nothing.
    Close,
    /// Asks for a pong with the same payload.
    Ping,
    /// Answers a ping, or says by itself that the peer lives.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }
}

/// What a peer has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A ping; the answer is a pong with the same bytes, at most [`CONTROL_BYTES_MAX`].
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The peer says goodbye, with a code (RFC 6455 section 7.4) and a reason unless it said neither. Nothing follows.
    Close(Option<(u16, String)>),
}

/// Which rule the peer broke. The connection is to be failed with [`close_code`](FrameError::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A reserved bit without an extension that gives it a meaning (section 5.2).
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode nobody has given a meaning (section 5.2).
    #[error("a reserved opcode")]
    ReservedOpcode,
    /// A frame from a client is masked (section 5.1).
    #[error("a frame without a mask")]
    Unmasked,
    /// A control frame in pieces (section 5.5).
    #[error("a fragmented control frame")]
    FragmentedControl,
    /// A control frame of more than [`CONTROL_BYTES_MAX`] (section 5.5).
    #[error("a control frame of more than {CONTROL_BYTES_MAX} bytes")]
    LongControl,
    /// A continuation of nothing (section 5.4).
    #[error("a continuation without a beginning")]
    NothingToContinue,
    /// A new message before the end of the one before (section 5.4).
    #[error("a new message within an unfinished one")]
    Interleaved,
    /// A length that fits in fewer bytes, or has its highest bit set (section 5.2).
    #[error("a length that is not written in the shortest way")]
    Length,
    /// Text, or the reason of a close frame, is not UTF-8 (section 8.1).
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A close frame with one byte, or with a code that is not one (section 7.4).
    #[error("a close frame without a valid code")]
    CloseCode,
    /// More than the limit, as announced by the frame or found while decompressing.
    #[error("a message of more than the announced limit")]
    TooBig,
    /// More than [`FRAGMENTS_MAX`].
    #[error("a message of more than {FRAGMENTS_MAX} fragments")]
    TooManyFragments,
    /// Compressed data that cannot be decompressed (RFC 7692 section 7.2.2).
    #[error("data that cannot be decompressed")]
    Inflate,
}

impl FrameError {
    /// The status code of the close frame that tells the peer (RFC 6455 section 7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            FrameError::NotUtf8 | FrameError::Inflate => 1007,
            FrameError::TooManyFragments => 1008,
            FrameError::TooBig => 1009,
            _ => 1002,
        }
    }
}

/// Puts messages together from the bytes of one connection.
///
/// The same bytes give the same messages and the same error however they are cut. After an error nothing more is to be read.
#[derive(Debug)]
pub struct FrameReader {
    message_bytes_max: usize,
    /// Whether permessage-deflate was agreed on.
    deflate: bool,
    head: [u8; HEAD_LEN_MAX],
    head_len: u8,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The message whose fragments are arriving.
    message: Option<Message>,
    data: Vec<u8>,
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    remaining: usize,
    /// Turned so that its first byte meets the next byte that arrives.
    mask: [u8; MASK_LEN],
}

#[derive(Debug, Clone, Copy)]
struct Message {
    text: bool,
    compressed: bool,
    fragments: u32,
    /// Bytes of the data known to be UTF-8.
    valid: usize,
}

impl FrameReader {
    /// A reader of messages of at most `message_bytes_max` bytes; with `deflate` they may be compressed.
    pub fn new(message_bytes_max: usize, deflate: bool) -> FrameReader {
        FrameReader {
            message_bytes_max,
            deflate,
            head: [0; HEAD_LEN_MAX],
            head_len: 0,
            frame: None,
            message: None,
            data: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Reads from `input` until a message is whole or the input is used up; what was read is cut off its front.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Received>, FrameError> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_head(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let frame = self.read_payload(frame, input)?;
            if frame.remaining > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            self.frame = None;
            if let Some(received) = self.finish(frame)? {
                return Ok(Some(received));
            }
        }
    }

    /// Bytes held for messages that are not whole yet.
    pub fn held_bytes(&self) -> usize {
        self.data.capacity() + self.control.capacity()
    }

    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        loop {
            let len = usize::from(self.head_len);
            if len >= 2 && len == self.head_len_wanted() {
                self.head_len = 0;
                return self.begin().map(Some);
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            if let Some(place) = self.head.get_mut(len) {
                *place = byte;
            }
            self.head_len += 1;
            match len {
                0 => self.check_first(byte)?,
                1 => self.check_second(byte)?,
                _ => {}
            }
        }
    }

    fn head_len_wanted(&self) -> usize {
        let [_, second, ..] = self.head;
        let extended = match second & LEN {
            LEN_IS_U16 => 2,
            LEN_IS_U64 => 8,
            _ => 0,
        };
        2 + extended + MASK_LEN
    }

    fn check_first(&self, byte: u8) -> Result<(), FrameError> {
        let opcode = Opcode::from_bits(byte & OPCODE).ok_or(FrameError::ReservedOpcode)?;
        let may_be_compressed = self.deflate && matches!(opcode, Opcode::Text | Opcode::Binary);
        if byte & RSV2_AND_3 != 0 || (byte & RSV1 != 0 && !may_be_compressed) {
            return Err(FrameError::ReservedBit);
        }
        match opcode {
            Opcode::Continuation if self.message.is_none() => Err(FrameError::NothingToContinue),
            Opcode::Text | Opcode::Binary if self.message.is_some() => Err(FrameError::Interleaved),
            Opcode::Close | Opcode::Ping | Opcode::Pong if byte & FIN == 0 => {
                Err(FrameError::FragmentedControl)
            }
            _ => Ok(()),
        }
    }

    fn check_second(&self, byte: u8) -> Result<(), FrameError> {
        let [first, ..] = self.head;
        if first & CONTROL != 0 && usize::from(byte & LEN) > CONTROL_BYTES_MAX {
            return Err(FrameError::LongControl);
        }
        if byte & MASKED == 0 { Err(FrameError::Unmasked) } else { Ok(()) }
    }

    /// The head is whole and its first two bytes are checked.
    fn begin(&mut self) -> Result<Frame, FrameError> {
        let [first, second, a, b, c, d, e, f, g, h, i, j, k, l] = self.head;
        let (len, mask) = match second & LEN {
            LEN_IS_U16 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
            LEN_IS_U64 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [i, j, k, l]),
            short => (u64::from(short), [a, b, c, d]),
        };
        let shortest = match second & LEN {
            LEN_IS_U16 => len >= u64::from(LEN_IS_U16),
            LEN_IS_U64 => len > u64::from(u16::MAX) && len >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(FrameError::Length);
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(FrameError::ReservedOpcode)?;
        let room = if first & CONTROL != 0 {
            CONTROL_BYTES_MAX
        } else {
            self.message_bytes_max.saturating_sub(self.data.len())
        };
        let remaining = usize::try_from(len).ok().filter(|len| *len <= room).ok_or(FrameError::TooBig)?;
        match opcode {
            Opcode::Text | Opcode::Binary => {
                let (text, compressed) = (opcode == Opcode::Text, first & RSV1 != 0);
                self.message = Some(Message { text, compressed, fragments: 1, valid: 0 });
            }
            Opcode::Continuation => {
                let message = self.message.as_mut().ok_or(FrameError::NothingToContinue)?;
                message.fragments += 1;
                if message.fragments > FRAGMENTS_MAX {
                    return Err(FrameError::TooManyFragments);
                }
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        Ok(Frame { opcode, fin: first & FIN != 0, remaining, mask })
    }

    fn read_payload(&mut self, mut frame: Frame, input: &mut &[u8]) -> Result<Frame, FrameError> {
        let (arrived, rest) = input.split_at(frame.remaining.min(input.len()));
        *input = rest;
        frame.remaining -= arrived.len();
        let control = matches!(frame.opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
        let into = if control { &mut self.control } else { &mut self.data };
        let start = into.len();
        into.extend_from_slice(arrived);
        unmask(into.get_mut(start..).unwrap_or_default(), frame.mask);
        frame.mask.rotate_left(arrived.len() % MASK_LEN);
        if let (false, Some(message)) = (control, &mut self.message)
            && message.text
            && !message.compressed
        {
            message.valid += valid_utf8(self.data.get(message.valid..).unwrap_or_default())?;
        }
        Ok(frame)
    }

    /// All of a frame has arrived; gives what is whole by it.
    fn finish(&mut self, frame: Frame) -> Result<Option<Received>, FrameError> {
        Ok(Some(match frame.opcode {
            Opcode::Ping => Received::Ping(std::mem::take(&mut self.control)),
            Opcode::Pong => Received::Pong(std::mem::take(&mut self.control)),
            Opcode::Close => Received::Close(read_close(&std::mem::take(&mut self.control))?),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                let Some(message) = self.message.filter(|_| frame.fin) else { return Ok(None) };
                self.message = None;
                let mut data = std::mem::take(&mut self.data);
                if message.compressed {
                    data = deflate::inflate(&data, self.message_bytes_max).map_err(|error| match error {
                        deflate::InflateError::TooBig => FrameError::TooBig,
                        deflate::InflateError::Malformed => FrameError::Inflate,
                    })?;
                }
                if message.text {
                    Received::Text(String::from_utf8(data).map_err(|_| FrameError::NotUtf8)?)
                } else {
                    Received::Binary(data)
                }
            }
        }))
    }
}

/// Bytes at the front that are whole characters; what is left may become one.
fn valid_utf8(bytes: &[u8]) -> Result<usize, FrameError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(FrameError::NotUtf8),
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; MASK_LEN]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn read_close(payload: &[u8]) -> Result<Option<(u16, String)>, FrameError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(FrameError::CloseCode) };
    };
    let code = u16::from_be_bytes(*code);
    // What the registry of RFC 6455 section 11.7 lists for use on the wire, and the ranges of sections 7.4.2.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(FrameError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| FrameError::NotUtf8)?;
    Ok(Some((code, reason.to_owned())))
}

/// A complete, unmasked, unfragmented frame.
pub fn encode(opcode: Opcode, payload: &[u8]) -> Bytes {
    encode_with(opcode, payload.len(), |frame| frame.extend_from_slice(payload))
}

/// A complete frame whose payload `write` appends; `len_hint` is how long it will be, about.
pub fn encode_with(opcode: Opcode, len_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    frame_of(FIN | opcode.bits(), len_hint, write)
}

/// A complete frame with a payload that is compressed already (RFC 7692 section 6).
pub(super) fn encode_compressed(opcode: Opcode, payload: &[u8]) -> Bytes {
    frame_of(FIN | RSV1 | opcode.bits(), payload.len(), |frame| frame.extend_from_slice(payload))
}

/// A close frame with `code` and as much of `reason` as fits.
pub fn encode_close(code: u16, reason: &str) -> Bytes {
    let mut end = reason.len().min(CONTROL_BYTES_MAX - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    encode_with(Opcode::Close, 2 + end, |frame| {
        frame.extend_from_slice(&code.to_be_bytes());
        frame.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    })
}

/// The payload is written behind room for the longest head, so it is never moved; the unused room is cut off.
fn frame_of(first: u8, len_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut frame = Vec::with_capacity(SERVER_HEAD_LEN_MAX + len_hint);
    frame.extend_from_slice(&[0; SERVER_HEAD_LEN_MAX]);
    write(&mut frame);
    let len = frame.len() - SERVER_HEAD_LEN_MAX;
    let head = &mut frame.iter_mut().take(SERVER_HEAD_LEN_MAX);
    let start = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < LEN_IS_U16 => {
            put(head, 8, [first, short]);
            8
        }
        (_, Ok(len)) => {
            let [a, b] = len.to_be_bytes();
            put(head, 6, [first, LEN_IS_U16, a, b]);
            6
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = (len as u64).to_be_bytes();
            put(head, 0, [first, LEN_IS_U64, a, b, c, d, e, f, g, h]);
            0
        }
    };
    Bytes::from(frame).slice(start..)
}

fn put<'a, const N: usize>(head: &mut impl Iterator<Item = &'a mut u8>, skip: usize, bytes: [u8; N]) {
    for (place, byte) in head.skip(skip).zip(bytes) {
        *place = byte;
    }
}

#[cfg(test)]
mod tests;
