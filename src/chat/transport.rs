//! The bytes of a connection, plain or through TLS, read and written without waiting and without a buffer of ours.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::task::{Context, Poll};

use actix_rt::net::TcpStream;
use rustls::ServerConnection;
use socket2::SockRef;

/// TLS as actix accepts it.
pub type TlsStream = actix_tls::accept::rustls_0_23::TlsStream<TcpStream>;

/// Encrypted bytes a connection may hold for a slow reader, beside its outbox; beyond it the outbox fills.
const TLS_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Bytes the kernel holds for a connection beyond what is on the way to its reader. A reader that stops is so noticed when
/// its outbox is full and not megabytes later, and for the last words there is room left in the kernel's buffer.
const UNSENT_BYTES_MAX: u32 = 32 << 10;
/// What the kernel may hold of a connection that is being closed: the rest of one message, what TLS holds, and the last words.
const LAST_BYTES_MAX: usize = 128 << 10;

/// A stream a WebSocket can be made of.
pub trait Transport: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static {
    /// Takes the stream over.
    fn into_wire(self) -> Wire;
}

impl Transport for TcpStream {
    fn into_wire(self) -> Wire {
        bound_unsent(&self);
        Wire(Kind::Plain(self))
    }
}

impl Transport for TlsStream {
    fn into_wire(mut self) -> Wire {
        let (socket, tls): (_, &mut ServerConnection) = self.get_mut();
        bound_unsent(socket);
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX));
        Wire(Kind::Tls(Box::new(RefCell::new(self))))
    }
}

/// The bytes of a connection.
pub struct Wire(Kind);

enum Kind {
    Plain(TcpStream),
    Tls(Box<RefCell<TlsStream>>),
}

/// The socket as rustls wants it: one that says `WouldBlock`.
struct Nonblocking<'a>(&'a TcpStream);

impl io::Read for Nonblocking<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl io::Write for Nonblocking<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.try_write(from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire {
    /// Reads what is there; 0 is the end, `WouldBlock` that there is nothing yet.
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let tls = match &self.0 {
            Kind::Plain(socket) => return socket.try_read(into),
            Kind::Tls(tls) => tls,
        };
        let mut tls = tls.borrow_mut();
        let (socket, tls): (_, &mut ServerConnection) = tls.get_mut();
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut Nonblocking(socket))? == 0 {
                return Ok(0);
            }
            if let Err(error) = tls.process_new_packets() {
                // The alert that says why; the connection is lost either way.
                let _: io::Result<usize> = tls.write_tls(&mut Nonblocking(socket));
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            write_all_there_is(tls, socket)?;
        }
    }

    /// Writes what the connection takes; `WouldBlock` that it takes nothing.
    pub fn try_write(&self, from: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Plain(socket) => socket.try_write(from),
            Kind::Tls(_) => self.try_write_vectored(&[IoSlice::new(from)]),
        }
    }

    /// As [`try_write`](Self::try_write), of several pieces.
    pub fn try_write_vectored(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        let tls = match &self.0 {
            Kind::Plain(socket) => return socket.try_write_vectored(from),
            Kind::Tls(tls) => tls,
        };
        let mut tls = tls.borrow_mut();
        let (socket, tls): (_, &mut ServerConnection) = tls.get_mut();
        write_all_there_is(tls, socket)?;
        if tls.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = tls.writer().write_vectored(from)?;
        write_all_there_is(tls, socket)?;
        Ok(taken)
    }

    /// Whether bytes that were taken still wait to be encrypted or sent.
    pub fn holds_bytes(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Tls(tls) => {
                let mut tls = tls.borrow_mut();
                let (_, tls): (_, &mut ServerConnection) = tls.get_mut();
                tls.wants_write()
            }
        }
    }

    /// Sends what was taken and waits; `WouldBlock` that the socket takes nothing.
    pub fn flush(&self) -> io::Result<()> {
        let Kind::Tls(tls) = &self.0 else { return Ok(()) };
        let mut tls = tls.borrow_mut();
        let (socket, tls): (_, &mut ServerConnection) = tls.get_mut();
        write_all_there_is(tls, socket)?;
        if tls.wants_write() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    /// Wakes when there may be something to read.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Kind::Plain(socket) => socket.poll_read_ready(cx),
            Kind::Tls(tls) => tls.borrow().get_ref().0.poll_read_ready(cx),
        }
    }

    /// Wakes when the connection may take something.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Kind::Plain(socket) => socket.poll_write_ready(cx),
            Kind::Tls(tls) => tls.borrow().get_ref().0.poll_write_ready(cx),
        }
    }

    /// Lets the kernel take the last words also for a reader that takes nothing: it delivers them when the reader wakes, long
    /// after the connection was forgotten here.
    pub fn make_room(&self) {
        match &self.0 {
            Kind::Plain(socket) => make_room(socket),
            Kind::Tls(tls) => make_room(tls.borrow().get_ref().0),
        }
    }

    /// Says that nothing more is sent.
    pub fn shut_down(&self) {
        let stream = match &self.0 {
            Kind::Plain(socket) => return shut_down(socket),
            Kind::Tls(tls) => tls,
        };
        let mut tls = stream.borrow_mut();
        let (socket, tls): (_, &mut ServerConnection) = tls.get_mut();
        tls.send_close_notify();
        // Best effort: the peer sees the end of the connection otherwise.
        let _: io::Result<()> = write_all_there_is(tls, socket);
        shut_down(socket);
    }
}

/// An error leaves the kernel's own bound: a connection that works, with less exact limits.
fn bound_unsent(socket: &TcpStream) {
    let _: io::Result<()> = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
}

/// An error leaves a connection whose last words may not fit.
fn make_room(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    // The kernel reports twice what was asked for: its own accounting is in there.
    if socket.send_buffer_size().is_ok_and(|bytes| bytes < 2 * LAST_BYTES_MAX) {
        let _: io::Result<()> = socket.set_send_buffer_size(LAST_BYTES_MAX);
    }
    let _: io::Result<()> = socket.set_tcp_notsent_lowat(u32::MAX);
}

fn shut_down(socket: &TcpStream) {
    // An error says that the peer has gone already.
    let _: rustix::io::Result<()> = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}

/// Sends until nothing waits or the socket is full.
fn write_all_there_is(tls: &mut ServerConnection, socket: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut Nonblocking(socket)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
