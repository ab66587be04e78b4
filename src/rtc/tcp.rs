//! The media port over TCP (ICE-TCP, RFC 6544), for whose network lets no UDP through and needs no TURN server then.
//!
//! A client that opens a connection sends over it what it would over UDP, each datagram behind its [length](framing). It is carried to the
//! shard its binding request names, as a [`Parcel`] like those of other shards, and the shard answers to the connection's address as to any.
//! All connections are on one thread of their own, for who comes this way has waited for worse.
//!
//! Over TCP nothing is lost and everything waits. So that this is noticed where the bandwidth is estimated, little waits here: when a
//! client does not read, what is newer is lost.
//!
//! A stranger has [`STRANGER_FOR`] to send a request with a ufrag of this node's, and to be answered, which only who signs it is. Who
//! was not answered for [`SILENT_FOR`] is a stranger again: participants renew their consent every few seconds (RFC 7675 section 5).

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use nova_media::framing;
use nova_media::peer::Transmit;
use nova_media::sfu::Marks;
use nova_media::stun::{self, Binding};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{timeout, timeout_at};

use super::demux::{Parcel, Ways};
use crate::telemetry::Metrics;

/// Connections there are at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 1_024;
/// Of them from one address, which may be a house with many people.
const OF_ONE_MAX: usize = 64;
/// How long a connection may be open without an answer.
const STRANGER_FOR: Duration = Duration::from_secs(5);
/// How long it may be without another.
const SILENT_FOR: Duration = Duration::from_secs(60);
/// Datagrams that wait for a client to read: a tenth of a second of a good picture. What is newer is lost.
const WAITING_MAX: usize = 64;
/// Bytes that wait in the kernel for the same.
const SOCKET_BYTES: usize = 64 << 10;
/// Bytes of one read, and about as many of one write.
const PIECE_BYTES: usize = 8 << 10;
/// Bytes that are read of one connection a second, more than anybody may publish; who sends more waits.
const READ_BYTES_PER_S: f64 = 4.0 * 1_048_576.0;
/// How far somebody may be ahead of that: a large picture comes at once.
const AHEAD_MAX: Duration = Duration::from_millis(250);
/// A client that takes nothing for so long has gone.
const STUCK_FOR: Duration = Duration::from_secs(10);
/// How long nobody is let in after a connection could not be taken: no file can be opened.
const EXHAUSTED_FOR: Duration = Duration::from_millis(100);

/// The ways to those who came over TCP. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlets(Arc<Mutex<HashMap<SocketAddr, mpsc::Sender<BytesMut>>>>);

impl Outlets {
    /// Takes what is to go over TCP; gives back what is not. What there is no room for, or no connection any more, is lost and counted.
    pub(super) fn take(&self, transmit: Transmit, metrics: &Metrics) -> Option<Transmit> {
        if !framing::is_marked(transmit.to) {
            return Some(transmit);
        }
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = open.get(&transmit.to).is_some_and(|outlet| outlet.try_send(transmit.bytes).is_ok());
        if !sent {
            metrics.rtc_tcp_lost.inc();
        }
        None
    }

    /// Lists a connection, unless there are too many.
    fn list(&self, address: SocketAddr, outlet: mpsc::Sender<BytesMut>, metrics: &Metrics) -> Option<Listed> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = |ip: IpAddr| open.keys().filter(|known| known.ip() == ip).count();
        if open.len() >= CONNECTIONS_MAX || of_one(address.ip()) >= OF_ONE_MAX {
            return None;
        }
        open.insert(address, outlet);
        metrics.rtc_tcp_connections.inc();
        Some(Listed { address, outlets: self.clone(), metrics: metrics.clone() })
    }
}

/// A connection among the others, until this is dropped.
struct Listed {
    address: SocketAddr,
    outlets: Outlets,
    metrics: Metrics,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.outlets.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
        self.metrics.rtc_tcp_connections.dec();
    }
}

/// Keeps the port open, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(#[expect(dead_code, reason = "its end is the news")] watch::Sender<()>);

/// See the [module documentation](self).
pub(super) struct Door {
    /// The ways to the shards.
    pub(super) ways: Ways,
    /// What ufrags of this node are told by.
    pub(super) marks: Marks,
    /// Where shards find who is here.
    pub(super) outlets: Outlets,
    /// What is counted.
    pub(super) metrics: Metrics,
}

impl Door {
    /// Lets connections in, on a thread of its own.
    pub(super) fn open(self, listener: std::net::TcpListener) -> io::Result<Open> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (open, mut end) = watch::channel(());
        let entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        std::thread::Builder::new().name("nova-media-tcp".to_owned()).spawn(move || {
            let everybody = LocalSet::new();
            everybody.block_on(&runtime, async {
                tokio::select! {
                    _ = end.changed() => {}
                    () = Rc::new(self).let_in(&listener) => {}
                }
            });
        })?;
        Ok(Open(open))
    }

    async fn let_in(self: Rc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    tokio::task::spawn_local(self.clone().serve(stream, framing::mark(from)));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection to the media port was not taken");
                    tokio::time::sleep(EXHAUSTED_FOR).await;
                }
            }
        }
    }

    async fn serve(self: Rc<Self>, stream: TcpStream, from: SocketAddr) {
        let (outlet, waiting) = mpsc::channel(WAITING_MAX);
        let Some(_listed) = self.outlets.list(from, outlet, &self.metrics) else { return };
        // Without them it is slower, and works.
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET_BYTES);
        let (reading, writing) = stream.into_split();
        let trusted_until = Cell::new(Instant::now() + STRANGER_FOR);
        tokio::select! {
            () = self.read(reading, from, &trusted_until) => {}
            () = write(writing, waiting, &trusted_until) => {}
        }
    }

    /// Carries what comes to the shards, until it ends, or is not what a client sends.
    async fn read(&self, mut reading: OwnedReadHalf, from: SocketAddr, trusted_until: &Cell<Instant>) {
        let (mut came, mut shard, mut paid_until) = (BytesMut::new(), None, Instant::now());
        loop {
            came.reserve(PIECE_BYTES);
            let limit = trusted_until.get();
            let read = match timeout_at(limit.into(), reading.read_buf(&mut came)).await {
                Ok(Ok(read @ 1..)) => read,
                // It was answered meanwhile.
                Err(_) if trusted_until.get() > limit => continue,
                _ => return,
            };
            paid_until =
                paid_until.max(Instant::now()) + Duration::from_secs_f64(read as f64 / READ_BYTES_PER_S);
            if let Some(ahead) = paid_until.checked_duration_since(Instant::now() + AHEAD_MAX) {
                tokio::time::sleep(ahead).await;
            }
            let mut parcel = Parcel::new(Parcel::VIA_TCP, Instant::now());
            loop {
                let datagram = match framing::take(&mut came) {
                    Ok(Some(datagram)) => datagram,
                    Ok(None) => break,
                    Err(_) => return,
                };
                if stun::is_stun(&datagram) {
                    let named = Binding::read(&datagram).ok().and_then(|it| self.marks.shard_of(it.to_ufrag));
                    let Some(named) = named else { return };
                    if let Some(before) = shard.replace(named).filter(|before| *before != named) {
                        self.hand(
                            before,
                            std::mem::replace(&mut parcel, Parcel::new(Parcel::VIA_TCP, Instant::now())),
                        );
                    }
                }
                if shard.is_none() {
                    return;
                }
                // One of nothing is allowed (RFC 4571 section 2), and says nothing.
                if !datagram.is_empty() {
                    parcel.push(&datagram, from, false);
                }
            }
            shard.inspect(|shard| self.hand(*shard, parcel));
        }
    }

    fn hand(&self, shard: u8, parcel: Parcel) {
        // What there is no room for is lost as it would be over UDP.
        let _ = self.ways.hand(shard, parcel);
    }
}

/// Sends what waits, until the client has gone.
async fn write(
    mut writing: OwnedWriteHalf,
    mut waiting: mpsc::Receiver<BytesMut>,
    trusted_until: &Cell<Instant>,
) {
    let mut out = BytesMut::new();
    while let Some(next) = waiting.recv().await {
        framing::put(&next, &mut out);
        while out.len() < PIECE_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            framing::put(&next, &mut out);
        }
        let Ok(Ok(())) = timeout(STUCK_FOR, writing.write_all(&out)).await else { return };
        out.clear();
        trusted_until.set(Instant::now() + SILENT_FOR);
    }
}
