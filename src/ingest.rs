//! The RTMP door: publishers come in here.
//!
//! One task for each connection, on threads of its own, drives a [`nova_media::rtmp::Ingest`]: bytes go in, replies go out, media
//! goes to the broadcast. Who may publish is decided by the stream's actor before the publisher hears that it may.
//!
//! What a stranger may cost: a connection that is refused for want of a seat costs an accept; one that has a seat costs
//! `READ_BYTES` and what [`nova_media::rtmp::limits`] allows, for as long as its deadlines let it stay.

pub(crate) mod publishing;
mod seats;
mod visit;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_rt::ArbiterHandle;
use nova_actors::workers;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::LiveConfig;
use crate::live::Live;
use seats::Seats;

/// Bytes read at a time from one publisher: a few packets; a keyframe takes several turns, between which others have theirs.
const READ_BYTES: usize = 16 << 10;
/// A publisher that does not take its replies for so long has gone.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// A TLS handshake may take so long.
const TLS_LIMIT: Duration = Duration::from_secs(5);
/// When the process has no descriptors left, accepting is tried again after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long publishers that can reconnect by themselves have for it when the node leaves.
const RECONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The listening sockets of the door.
#[derive(Debug)]
pub struct Sockets {
    /// RTMP.
    pub plain: TcpListener,
    /// RTMP in TLS.
    pub tls: Option<(TcpListener, Arc<rustls::ServerConfig>)>,
}

/// The open door.
#[derive(Debug)]
pub struct Ingest {
    seats: Arc<Seats>,
    threads: Vec<ArbiterHandle>,
}

/// What every connection of the door shares.
struct Door {
    live: Arc<Live>,
    threads: Vec<ArbiterHandle>,
    seats: Arc<Seats>,
}

impl Ingest {
    /// Opens the door. To be called inside an actix system.
    pub fn open(
        config: &LiveConfig,
        threads: usize,
        sockets: Sockets,
        live: Arc<Live>,
    ) -> io::Result<Ingest> {
        let threads = (0..threads.max(1)).map(|_| workers::thread()).collect::<io::Result<Vec<_>>>()?;
        let seats = Arc::new(Seats::new(
            config.rtmp_connections_max as usize,
            config.rtmp_connections_per_ip_max,
            live.metrics.rtmp_connections.clone(),
        ));
        let door = Arc::new(Door { live, threads: threads.clone(), seats: Arc::clone(&seats) });
        let Sockets { plain, tls } = sockets;
        let mut listeners = vec![(plain, None)];
        listeners.extend(tls.map(|(listener, config)| (listener, Some(TlsAcceptor::from(config)))));
        for (listener, tls) in listeners {
            listener.set_nonblocking(true)?;
            door.on_thread(0, accept(Arc::clone(&door), listener, tls));
        }
        Ok(Ingest { seats, threads })
    }

    /// Waits until every publisher has left, once [`Live::leave`] was called, but no longer than `limit`; then closes the door.
    pub async fn close(&self, limit: Duration) {
        if timeout(limit, self.seats.emptied()).await.is_err() {
            tracing::warn!(left = self.seats.taken(), "publishers were cut off when the drain limit passed");
        }
        for thread in &self.threads {
            thread.stop();
        }
    }
}

impl Door {
    fn on_thread(&self, turn: usize, task: impl Future<Output = ()> + Send + 'static) {
        let place = turn.checked_rem(self.threads.len()).unwrap_or(0);
        if let Some(thread) = self.threads.get(place) {
            // A thread that takes nothing any more is that of a door that is closed.
            let _ = thread.spawn(task);
        }
    }
}

async fn accept(door: Arc<Door>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the RTMP door cannot be opened");
            return;
        }
    };
    let mut leaving = door.live.leaving();
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error says that the node is gone already.
            _ = leaving.wait_for(|leaving| *leaving) => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let seat = match Seats::take(&door.seats, peer.ip()) {
            Ok(seat) => seat,
            Err(full) => {
                door.live.metrics.rtmp_refused.with_label_values(&[full.as_str()]).inc();
                continue;
            }
        };
        turn += 1;
        // The socket belongs to the event queue of the thread that serves it.
        let Ok(socket) = socket.into_std() else { continue };
        let (visited, tls) = (Arc::clone(&door), tls.clone());
        door.on_thread(turn, async move {
            let _seat = seat;
            if let Err(error) = receive(&visited, socket, peer, tls).await {
                tracing::debug!(%peer, %error, "a connection ended before it began");
            }
        });
    }
}

async fn receive(
    door: &Door,
    socket: std::net::TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
) -> io::Result<()> {
    let socket = TcpStream::from_std(socket)?;
    socket.set_nodelay(true)?;
    match tls {
        None => visit::attend(&door.live, socket, peer).await,
        Some(tls) => {
            let socket = timeout(TLS_LIMIT, tls.accept(socket)).await.map_err(io::Error::other)??;
            visit::attend(&door.live, socket, peer).await;
        }
    }
    Ok(())
}
