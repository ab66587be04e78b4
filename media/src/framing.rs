//! Datagrams over TCP, for whose network lets none through over UDP (ICE-TCP, RFC 6544): each stands behind its length (RFC 4571).
//!
//! Of a participant's way only the address is known here. That of a TCP connection is marked by what no address of a datagram has, a flow
//! label, so whoever decides who is believed, and to which address is sent, decides alike for both.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use bytes::{Buf as _, BufMut as _, BytesMut};

/// Bytes of a datagram; clients keep to what UDP carries in one piece, about 1,500.
pub const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Bytes of the length before it.
const LENGTH_BYTES: usize = 2;
const MARK: u32 = 1;

/// A client says that a longer datagram follows than anybody sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a datagram is longer than {DATAGRAM_BYTES_MAX} bytes")]
pub struct TooLong;

/// The address of a TCP connection's other end, or of a port that waits for some.
pub fn mark(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddrV6::new(ip, address.port(), MARK, 0).into()
}

/// Whether it is one of TCP.
pub fn is_marked(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.flowinfo() == MARK)
}

/// Takes the next datagram off what came. `None` when it is not whole yet.
pub fn take(came: &mut BytesMut) -> Result<Option<BytesMut>, TooLong> {
    let Some(length) = came.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > DATAGRAM_BYTES_MAX {
        return Err(TooLong);
    }
    if came.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    came.advance(LENGTH_BYTES);
    Ok(Some(came.split_to(length)))
}

/// Adds a datagram to what is to be sent; one that no length can tell is left out.
pub fn put(datagram: &[u8], out: &mut BytesMut) {
    if let Ok(length) = u16::try_from(datagram.len()) {
        out.put_u16(length);
        out.extend_from_slice(datagram);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_of_tcp_is_no_address_of_udp() {
        for address in ["192.0.2.1:5000", "[2001:db8::1]:5000"] {
            let address: SocketAddr = address.parse().unwrap();
            let marked = mark(address);
            assert!(is_marked(marked) && !is_marked(address) && marked != address);
            assert_eq!((marked.ip().to_canonical(), marked.port()), (address.ip(), 5_000));
            assert_eq!(mark(marked), marked);
        }
        assert!(
            !is_marked("[::ffff:192.0.2.1]:5000".parse().unwrap()),
            "as a socket for both families has it"
        );
    }

    #[test]
    fn what_is_longer_than_anybody_sends_is_an_error_before_it_comes() {
        let mut came = BytesMut::from(&[0x08, 0x01][..]);
        assert_eq!(take(&mut came), Err(TooLong));
        let mut came = BytesMut::from(&[0x08, 0x00][..]);
        assert_eq!(take(&mut came), Ok(None));
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_they_are_cut(
            datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..9),
            piece in 1_usize..400,
        ) {
            let mut sent = BytesMut::new();
            datagrams.iter().for_each(|datagram| put(datagram, &mut sent));
            let (mut came, mut taken) = (BytesMut::new(), Vec::new());
            for piece in sent.chunks(piece) {
                came.extend_from_slice(piece);
                while let Some(datagram) = take(&mut came).unwrap() {
                    taken.push(datagram.to_vec());
                }
            }
            prop_assert_eq!(taken, datagrams);
            prop_assert!(came.is_empty());
        }

        #[test]
        fn no_bytes_end_in_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut came = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut came) {}
        }
    }
}
