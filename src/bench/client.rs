//! A WebSocket client that costs next to nothing, so that a measure is of the server and not of its load.
//!
//! One task for each socket, one buffer for all of a thread, one `read` for each time something arrived, no copy of what arrives whole.
//! Frames to the server are masked with zeros, which RFC 6455 allows a program that runs no foreign scripts.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::ready;

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes read at once; shared by all sockets of a thread.
const READ_BYTES: usize = 256 << 10;
/// What the kernel takes for a socket that is narrow.
const NARROW_BYTES: u32 = 16 << 10;
/// The longest head of an answer to the handshake that is looked at.
const HEAD_BYTES_MAX: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// A text message.
    Text(&'a [u8]),
    /// A ping, to be answered with this.
    Ping(&'a [u8]),
    /// The end, with the code of the close frame where it has one.
    Close(Option<u16>),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// It was lost, or there is nobody.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server wants none; the first line of its answer.
    #[error("the server answered the handshake with `{0}`")]
    Refused(String),
}

/// The way to a server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Writer(Rc<Outgoing>);

#[derive(Debug)]
struct Outgoing {
    half: OwnedWriteHalf,
    /// What the socket did not take yet.
    waiting: RefCell<Vec<u8>>,
}

/// What comes from a server.
#[derive(Debug)]
pub struct Reader {
    half: OwnedReadHalf,
    /// The beginning of a frame whose end has not come yet.
    rest: Vec<u8>,
    /// What came with the handshake was not looked at yet.
    is_fresh: bool,
}

/// Connects and upgrades. Must be called on a thread with a `LocalSet`.
pub async fn dial(
    addr: SocketAddr,
    path: &str,
    protocol: Option<&str>,
) -> Result<(Writer, Reader), DialError> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    upgrade(stream, path, protocol).await
}

/// As [`dial`], over a connection that takes little at a time: somebody who stops reading is felt soon.
pub async fn dial_narrow(
    addr: SocketAddr,
    path: &str,
    protocol: Option<&str>,
) -> Result<(Writer, Reader), DialError> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(NARROW_BYTES)?;
    upgrade(socket.connect(addr).await?, path, protocol).await
}

async fn upgrade(
    mut stream: TcpStream,
    path: &str,
    protocol: Option<&str>,
) -> Result<(Writer, Reader), DialError> {
    let addr = stream.peer_addr()?;
    let protocol =
        protocol.map_or_else(String::new, |protocol| format!("sec-websocket-protocol: {protocol}\r\n"));
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() > HEAD_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    if !answer.starts_with(b"HTTP/1.1 101") {
        let line = String::from_utf8_lossy(&answer);
        return Err(DialError::Refused(line.lines().next().unwrap_or_default().to_owned()));
    }
    let rest = answer.split_off(end);
    let (half, write) = stream.into_split();
    let writer = Writer(Rc::new(Outgoing { half: write, waiting: RefCell::default() }));
    Ok((writer, Reader { half, rest, is_fresh: true }))
}

impl Writer {
    /// Says something: at once, or as soon as the socket takes it. Whether the server is still there is the reader's to find out.
    pub fn say(&self, text: &str) {
        self.send(1, text.as_bytes());
    }

    /// Answers a ping.
    pub fn pong(&self, payload: &[u8]) {
        self.send(10, payload);
    }

    /// Says goodbye.
    pub fn close(&self) {
        self.send(8, &1000_u16.to_be_bytes());
    }

    fn send(&self, opcode: u8, payload: &[u8]) {
        let frame = masked(opcode, payload);
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.is_empty() {
            waiting.extend_from_slice(&frame);
            return;
        }
        let taken = self.0.half.try_write(&frame).unwrap_or(0);
        let left = frame.get(taken..).unwrap_or_default();
        if !left.is_empty() {
            waiting.extend_from_slice(left);
            tokio::task::spawn_local(self.clone().flush());
        }
    }

    /// Writes what waits; one at a time, since only the first that waits starts it.
    async fn flush(self) {
        loop {
            if self.0.half.writable().await.is_err() {
                return;
            }
            let mut waiting = self.0.waiting.borrow_mut();
            match self.0.half.try_write(&waiting) {
                Ok(taken) => drop(waiting.drain(..taken)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            if waiting.is_empty() {
                return;
            }
        }
    }
}

impl Reader {
    /// Waits until something arrives and gives `hear` what is whole of it; `Err` at the end of the connection.
    pub async fn read(&mut self, mut hear: impl FnMut(Heard<'_>)) -> io::Result<()> {
        if std::mem::take(&mut self.is_fresh) {
            let before = std::mem::take(&mut self.rest);
            let taken = take_frames(&before, &mut hear)?;
            self.rest.extend_from_slice(before.get(taken..).unwrap_or_default());
            if taken > 0 {
                return Ok(());
            }
        }
        std::future::poll_fn(|cx| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut self.half).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return std::task::Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                if self.rest.is_empty() {
                    let taken = take_frames(bytes, &mut hear)?;
                    self.rest.extend_from_slice(bytes.get(taken..).unwrap_or_default());
                } else {
                    self.rest.extend_from_slice(bytes);
                    let taken = take_frames(&self.rest, &mut hear)?;
                    self.rest.drain(..taken);
                }
                if self.rest.is_empty() {
                    // An idle socket keeps nothing.
                    self.rest = Vec::new();
                }
                std::task::Poll::Ready(Ok(()))
            })
        })
        .await
    }
}

fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => frame.push(0x80 | len),
        (_, Ok(len)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Gives `hear` every whole message at the front of `input`; how many bytes those were.
fn take_frames(input: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> io::Result<usize> {
    let mut rest = input;
    while let Some(Frame { opcode, is_last, payload, mut behind }) = split(rest)? {
        match (opcode, is_last) {
            (1, true) => hear(Heard::Text(payload)),
            (1, false) => {
                let Some((whole, after)) = join(payload, behind)? else { break };
                hear(Heard::Text(&whole));
                behind = after;
            }
            (9, true) => hear(Heard::Ping(payload)),
            (8, true) => hear(Heard::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))),
            (10, true) => {}
            (other, _) => {
                return Err(io::Error::other(format!("a frame of kind {other} is not part of the protocol")));
            }
        }
        rest = behind;
    }
    Ok(input.len() - rest.len())
}

/// A message that comes in parts, which our own server never does: the whole of it, once it is there, and what follows.
fn join<'a>(first: &[u8], mut rest: &'a [u8]) -> io::Result<Option<(Vec<u8>, &'a [u8])>> {
    let mut whole = first.to_vec();
    while let Some(Frame { opcode, is_last, payload, behind }) = split(rest)? {
        if opcode != 0 {
            return Err(io::Error::other(format!("a frame of kind {opcode} within a message of parts")));
        }
        whole.extend_from_slice(payload);
        rest = behind;
        if is_last {
            return Ok(Some((whole, rest)));
        }
    }
    Ok(None)
}

/// A frame: what it is, what it holds, and what follows.
struct Frame<'a> {
    opcode: u8,
    is_last: bool,
    payload: &'a [u8],
    behind: &'a [u8],
}

/// The first frame, when it is whole.
fn split(input: &[u8]) -> io::Result<Option<Frame<'_>>> {
    let Some((&[first, second], rest)) = input.split_first_chunk() else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(io::Error::other("a frame that is compressed or masked"));
    }
    let (len, rest) = match second {
        126 => match rest.split_first_chunk() {
            Some((len, rest)) => (usize::from(u16::from_be_bytes(*len)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((len, rest)) => (usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX), rest),
            None => return Ok(None),
        },
        len => (usize::from(len), rest),
    };
    let (opcode, is_last) = (first & 0x0F, first & 0x80 != 0);
    Ok(rest.split_at_checked(len).map(|(payload, behind)| Frame { opcode, is_last, payload, behind }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_wherever_the_stream_is_cut() {
        let long = "x".repeat(70_000);
        let mut bytes = Vec::new();
        for (opcode, payload) in [(1, "hello"), (9, ""), (1, &long[..300]), (1, &long), (8, "ab")] {
            // What a server sends is not masked.
            let mut frame = masked(opcode, payload.as_bytes());
            let mask_at = frame.len() - payload.len() - 4;
            frame.drain(mask_at..mask_at + 4);
            frame[1] &= 0x7F;
            bytes.extend(frame);
        }
        // Another comes in three parts.
        bytes.extend(b"\x01\x02no\x00\x00\x80\x03va!");
        for cut in [1, 2, 3, 9, 500, 4_096, bytes.len()] {
            let (mut heard, mut rest) = (Vec::new(), Vec::new());
            for chunk in bytes.chunks(cut) {
                rest.extend_from_slice(chunk);
                let taken = take_frames(&rest, &mut |frame| {
                    heard.push(match frame {
                        Heard::Text(text) => text.len(),
                        Heard::Ping(_) => 1,
                        Heard::Close(code) => usize::from(code.unwrap_or_default()),
                    });
                })
                .unwrap();
                rest.drain(..taken);
            }
            assert_eq!(
                (heard.as_slice(), rest.len()),
                ([5, 1, 300, 70_000, 0x6162, 5].as_slice(), 0),
                "{cut}"
            );
        }
    }

    #[test]
    fn what_is_no_frame_of_a_server_is_an_error() {
        for bytes in [[0xC1, 0], [0x81, 0x80]] {
            assert!(split(&bytes).is_err());
        }
        for bytes in [&[0x82, 0][..], &[0x80, 0], &[0x09, 0], &[0x01, 0, 0x81, 0]] {
            assert!(take_frames(bytes, &mut |_| ()).is_err());
        }
        assert!(split(&[0x81]).unwrap().is_none());
    }
}
