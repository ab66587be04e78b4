//! What the kernel alone takes to send a voice to everybody: the most any engine could do here.
//!
//! One thread sends datagrams of a voice's size, as many at a time as the engine does, at the moments and to as many sockets as the measure
//! has; this process receives them, as it does as the participants. Only the CPU time of the sending calls is counted: on the loopback interface
//! it holds the kernel's way to the receiver too.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::canned::SOUND_BYTES;
use crate::rtc::egress::send_each;

/// Bytes of a sealed voice: its header, extensions and tag with it.
const BYTES: usize = 12 + 12 + SOUND_BYTES + 16;
/// From one packet of a voice to its next.
const EVERY: Duration = Duration::from_millis(20);
/// Packets of each voice: four seconds.
const PACKETS: usize = 200;

/// Packets of a busy core, if in each of so many rooms a voice goes to so many ears.
pub(super) async fn measure(rooms: usize, ears: usize) -> io::Result<f64> {
    let mut listeners = JoinSet::new();
    let mut addresses = Vec::new();
    for _ in 0..rooms * ears {
        let ear = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        addresses.push(ear.local_addr()?);
        listeners.spawn_local(async move {
            let mut datagram = [0; 2 * BYTES];
            while ear.recv(&mut datagram).await.is_ok() {}
        });
    }
    let (told, heard) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("floor".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = told.send(runtime.and_then(|runtime| runtime.block_on(send(&addresses, rooms, ears))));
    })?;
    heard.await.map_err(io::Error::other)?
}

async fn send(addresses: &[SocketAddr], rooms: usize, ears: usize) -> io::Result<f64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let voice = [7; BYTES];
    // Voices of different rooms speak at different moments.
    let mut ticks = interval(EVERY / u32::try_from(rooms.max(1)).unwrap_or(u32::MAX));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sent, mut spent) = (0, Duration::ZERO);
    for _ in 0..PACKETS {
        for room in addresses.chunks(ears.max(1)) {
            ticks.tick().await;
            let before = worked();
            let mut rest = room;
            while !rest.is_empty() {
                let gone = send_each(&socket, rest.iter().map(|to| (*to, &voice[..])))?;
                rest = rest.get(gone..).unwrap_or_default();
                sent += gone;
            }
            spent += worked().saturating_sub(before);
        }
    }
    Ok(sent as f64 / spent.as_secs_f64().max(1e-9))
}

/// CPU time of this thread.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
