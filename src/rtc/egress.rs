//! What waits to be sent, and how it is: as few calls to the kernel as there can be.
//!
//! Packets of one size to one address go as one, which the kernel or the network card takes apart (segmentation offload). Of what is left,
//! a voice to each of many addresses, many go with one call (sendmmsg(2)). On loopback that takes a tenth off what the kernel needs for
//! one; nearly half of the rest is its own way to the receiver, which nothing here makes shorter (benches/README.md).

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use prometheus::local::LocalHistogram;
use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use smallvec::SmallVec;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::sojourn::{self, Outgoing};

/// Bytes of one send with segmentation offload.
const SEND_BYTES_MAX: usize = 60_000;
/// Datagrams to different addresses that go with one call. More would save hardly anything: what a call costs beside its datagrams is
/// shared by so many already.
const CALL_MAX: usize = 16;

/// See the [module documentation](self).
pub(super) struct Egress {
    waiting: Vec<Outgoing>,
    /// What goes as one, one after the other.
    burst: Vec<u8>,
    /// How long packets were kept; added to the metrics when everything is.
    kept_for: LocalHistogram,
    unsent: u64,
}

impl Egress {
    /// Nothing waits. How long packets were kept is told to `kept_for`.
    pub(super) fn new(kept_for: LocalHistogram) -> Egress {
        Egress { waiting: Vec::new(), burst: Vec::new(), kept_for, unsent: 0 }
    }

    /// These are to be sent next.
    pub(super) fn line_up(&mut self, next: impl Iterator<Item = Outgoing>) {
        self.waiting.extend(next);
    }

    /// Tells the metrics how long packets were kept, and gives how many could not be sent since this was asked last.
    pub(super) fn count(&mut self) -> u64 {
        self.kept_for.flush();
        std::mem::take(&mut self.unsent)
    }

    /// Sends what waits. The order of packets to one address stays; between addresses it does not matter.
    pub(super) fn send(&mut self, socket: &UdpSocket, state: &UdpSocketState) {
        let mut waiting = std::mem::take(&mut self.waiting);
        if waiting.len() > 1 {
            waiting.sort_by_key(|one| one.transmit.to);
        }
        let mut rest = waiting.as_slice();
        let mut singles = 0;
        while let Some(next) = rest.get(singles..).filter(|next| !next.is_empty()) {
            match together(next, state) {
                1 => singles += 1,
                count => {
                    let (now, later) = rest.split_at(singles);
                    self.send_singles(now, socket);
                    let (now, later) = later.split_at(count);
                    self.send_burst(now, socket, state);
                    (rest, singles) = (later, 0);
                }
            }
        }
        self.send_singles(rest, socket);
        waiting.clear();
        self.waiting = waiting;
    }

    /// Of one size but the last, to one address.
    fn send_burst(&mut self, burst: &[Outgoing], socket: &UdpSocket, state: &UdpSocketState) {
        let Some(Outgoing { transmit: first, .. }) = burst.first() else { return };
        self.burst.clear();
        for one in burst {
            self.burst.extend_from_slice(&one.transmit.bytes);
        }
        let transmit = quinn_udp::Transmit {
            destination: first.to,
            ecn: None,
            contents: &self.burst,
            segment_size: Some(first.bytes.len()),
            src_ip: None,
        };
        let send = || state.try_send(UdpSockRef::from(socket), &transmit);
        // A full socket drops: what matters is asked for again, and what is late is worth nothing.
        match socket.try_io(Interest::WRITABLE, send) {
            Ok(()) => sojourn::note_sent(&self.kept_for, burst),
            Err(_) => self.unsent += burst.len() as u64,
        }
    }

    /// Each on its own, in calls of [`CALL_MAX`].
    fn send_singles(&mut self, singles: &[Outgoing], socket: &UdpSocket) {
        let mut rest = singles;
        while !rest.is_empty() {
            let each = rest.iter().map(|one| (one.transmit.to, &one.transmit.bytes[..]));
            let gone = match socket.try_io(Interest::WRITABLE, || send_each(socket, each.clone())) {
                Ok(gone) => gone,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent += rest.len() as u64;
                    return;
                }
                Err(_) => 0,
            };
            let (sent, mut later) = rest.split_at(gone.min(rest.len()));
            sojourn::note_sent(&self.kept_for, sent);
            // What the first cannot be done with is no reason not to send the others.
            if sent.is_empty() {
                self.unsent += 1;
                later = later.get(1..).unwrap_or_default();
            }
            rest = later;
        }
    }
}

/// How many of these, the first with what follows it, go as one.
fn together(rest: &[Outgoing], state: &UdpSocketState) -> usize {
    let Some(Outgoing { transmit: first, .. }) = rest.first() else { return 1 };
    let is_to = |one: &Outgoing| one.transmit.to == first.to;
    let len = |one: &Outgoing| one.transmit.bytes.len();
    let most = state.max_gso_segments().min(SEND_BYTES_MAX / first.bytes.len().max(1)).max(1);
    let alike = |one: &&Outgoing| is_to(one) && len(one) == first.bytes.len();
    let count = rest.iter().take(most).take_while(alike).count().max(1);
    // The last may be shorter.
    let ends = |last: &Outgoing| is_to(last) && len(last) < first.bytes.len();
    if count < most && rest.get(count).is_some_and(ends) { count + 1 } else { count }
}

/// Sends so many of these as go, at most [`CALL_MAX`], with one call; how many.
pub(crate) fn send_each<'a>(
    socket: &UdpSocket,
    datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])> + Clone,
) -> io::Result<usize> {
    let datagrams = datagrams.take(CALL_MAX);
    let addresses: SmallVec<[SocketAddrAny; CALL_MAX]> =
        datagrams.clone().map(|(to, _)| SocketAddrAny::from(to)).collect();
    let contents: SmallVec<[[IoSlice<'_>; 1]; CALL_MAX]> =
        datagrams.map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
    let mut controls: [SendAncillaryBuffer<'_, '_, '_>; CALL_MAX] = Default::default();
    let messages = addresses.iter().zip(&contents).zip(&mut controls);
    let mut messages: SmallVec<[MMsgHdr<'_>; CALL_MAX]> = messages
        .map(|((address, contents), control)| MMsgHdr::new_with_addr(address, contents, control))
        .collect();
    Ok(rustix::io::retry_on_intr(|| sendmmsg(socket, &mut messages, SendFlags::empty()))?)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, Instant};

    use bytes::BytesMut;
    use nova_media::peer::Transmit;
    use tokio::time::timeout;

    use super::*;
    use crate::telemetry::Metrics;

    fn outgoing(to: SocketAddr, bytes: &[u8]) -> Outgoing {
        Outgoing { transmit: Transmit { to, bytes: BytesMut::from(bytes) }, came: Some(Instant::now()) }
    }

    async fn arrived(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for _ in 0..count {
            let mut bytes = vec![0; 2_000];
            let received = timeout(Duration::from_secs(20), socket.recv(&mut bytes)).await;
            let len = received.expect("it comes").unwrap();
            bytes.truncate(len);
            all.push(bytes);
        }
        all
    }

    #[tokio::test]
    async fn everybody_gets_what_is_theirs_in_order_and_who_cannot_be_reached_is_no_reason_not_to() {
        let hosts =
            [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)].map(|host| SocketAddr::from((host, 0)));
        let socket = UdpSocket::bind(hosts[0]).await.unwrap();
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        socket.writable().await.unwrap();
        let mut ends = Vec::new();
        // More than go with one call.
        for host in hosts.into_iter().flat_map(|host| [host; 3 * CALL_MAX / 2]) {
            ends.push(UdpSocket::bind(host).await.unwrap());
        }
        let metrics = Metrics::new();
        let mut egress = Egress::new(metrics.rtc_forward_duration.local());
        let line_up = |egress: &mut Egress, piece: &[u8]| {
            let addresses = ends.iter().map(|end| end.local_addr().unwrap());
            egress.line_up(addresses.map(|to| outgoing(to, piece)));
        };
        // A picture of three packets between two voices.
        let pieces: [&[u8]; 5] = [&[1; 80], &[2; 1_100], &[3; 1_100], &[4; 700], &[5; 80]];
        pieces.into_iter().for_each(|piece| line_up(&mut egress, piece));
        assert_eq!(egress.waiting.len(), pieces.len() * ends.len());
        egress.send(&socket, &state);
        for end in &ends {
            assert_eq!(arrived(end, pieces.len()).await, pieces);
        }
        assert_eq!((egress.waiting.len(), egress.count()), (0, 0));
        // One for each, and for port 0, which nothing can be sent to: the first and one in the middle of the order.
        line_up(&mut egress, &[6; 80]);
        egress.line_up(hosts.map(|to| outgoing(to, &[6; 80])).into_iter());
        egress.send(&socket, &state);
        for end in &ends {
            assert_eq!(arrived(end, 1).await, [[6; 80]]);
        }
        assert_eq!((egress.waiting.len(), egress.count(), egress.count()), (0, 2, 0));
        assert_eq!(metrics.rtc_forward_duration.get_sample_count(), 6 * ends.len() as u64);
    }
}
