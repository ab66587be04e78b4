//! The sockets of the shards, all on one UDP address: the kernel gives a datagram to one of them by a hash of where it comes from and
//! where it goes (`SO_REUSEPORT`, socket(7)), so what comes from one address always comes to the same,
//! until it is [steered](super) to another.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net;

/// Opens so many sockets on one address; port 0 becomes the same free port for all.
///
/// The first is bound before it shares. So a port that is taken is an error whoever has it: `SO_REUSEPORT` alone would let a second engine
/// of the same user in, and every other call would go to the wrong one.
pub fn open(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = UdpSocket::bind(address)?;
    if count <= 1 {
        return Ok(vec![first]);
    }
    let bound = first.local_addr()?;
    net::sockopt::set_socket_reuseport(&first, true)?;
    let another = || -> io::Result<UdpSocket> {
        let family = if bound.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
        let socket = net::socket_with(family, net::SocketType::DGRAM, net::SocketFlags::CLOEXEC, None)?;
        net::sockopt::set_socket_reuseport(&socket, true)?;
        net::bind(&socket, &bound)?;
        Ok(UdpSocket::from(socket))
    };
    let others: io::Result<Vec<UdpSocket>> = (1..count).map(|_| another()).collect();
    Ok(std::iter::once(first).chain(others?).collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn is_taken<T>(opened: io::Result<T>) -> bool {
        opened.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    }

    #[test]
    fn all_are_on_one_port_which_nobody_else_can_have() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets = open(any, 3).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        assert!(is_taken(open(address, 3)) && is_taken(open(address, 1)), "by another engine");
        drop(sockets);
        let alone = UdpSocket::bind(address).unwrap();
        assert!(is_taken(open(address, 3)), "by anybody");
        drop(alone);
        assert_eq!(open(address, 2).unwrap().len(), 2, "whoever had it has gone");
    }

    #[test]
    fn one_sender_always_comes_to_the_same_and_many_come_to_all() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let any: SocketAddr = any.parse().unwrap();
            let sockets = open(any, 2).unwrap();
            let address = sockets[0].local_addr().unwrap();
            // With 64 senders the chance that one socket has none is one of 2^63.
            let senders: Vec<UdpSocket> = (0..64).map(|_| UdpSocket::bind(any).unwrap()).collect();
            for sender in senders.iter().chain(&senders) {
                sender.send_to(b"hello", address).unwrap();
            }
            let came: Vec<Vec<SocketAddr>> = sockets
                .iter()
                .map(|socket| {
                    socket.set_nonblocking(true).unwrap();
                    std::iter::from_fn(|| Some(socket.recv_from(&mut [0; 16]).ok()?.1)).collect()
                })
                .collect();
            assert_eq!(came[0].len() + came[1].len(), 128);
            assert!(came.iter().all(|came| !came.is_empty()));
            assert!(came[0].iter().all(|sender| !came[1].contains(sender)));
        }
    }
}
