//! Who is at the other end: the address that limits and logs go by.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::http::header::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// Proxies in one chain that are looked at; what lies beyond is taken as the last of these.
const HOPS_MAX: usize = 16;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address: the peer's, or, when the peer is a trusted proxy, the right-most address of
/// `X-Forwarded-For` that is not a trusted proxy itself.
///
/// Everything left of that one was written by the client and is not believed. An entry that is not an address
/// ends the search at the proxy that wrote it. `Forwarded` (RFC 7239) is not read: a proxy that writes one of
/// the two headers hands the other through as the client wrote it, so only one of them can be believed.
pub fn address(peer: Option<SocketAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let trusts = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    // Only a Unix socket has no address; whoever can open it is on this machine.
    let peer = peer.map_or(IpAddr::V6(Ipv6Addr::LOCALHOST), |peer| peer.ip().to_canonical());
    if trusted.is_empty() || !trusts(&peer) {
        return peer;
    }
    let lines: Vec<_> = headers.get_all(&X_FORWARDED_FOR).collect();
    let entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer;
    for entry in entries.take(HOPS_MAX) {
        let Some(address) = std::str::from_utf8(entry).ok().and_then(parse) else { break };
        client = address;
        if !trusts(&address) {
            break;
        }
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`.
fn parse(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// What one customer of a network provider is known by: the whole IPv4 address, or the first 64 bits of an IPv6
/// one, because a customer has at least a /64 and can use a new address of it for every request.
pub fn prefix(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR.clone(), HeaderValue::from_str(line).expect("a header"));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().expect("a network")).collect();
        address(Some(SocketAddr::new(peer.parse().expect("an address"), 1)), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = &["10.0.0.0/8", "2001:db8:f::/48"];
        for (peer, forwarded, client) in [
            ("192.0.2.9", &["203.0.113.1"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.1, 10.2.3.4"], "203.0.113.1"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.1", "10.2.3.4"], "203.0.113.1"),
            ("10.0.0.1", &["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
            ("10.0.0.1", &["203.0.113.1, unknown, 10.2.3.4"], "10.2.3.4"),
            ("10.0.0.1", &["203.0.113.1:4711"], "203.0.113.1"),
            ("10.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("2001:db8:f::1", &["2001:db8::1"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &[", ,"], "10.0.0.1"),
        ] {
            assert_eq!(seen(peer, forwarded, proxies), client, "{peer} {forwarded:?}");
        }
        assert_eq!(seen("10.0.0.1", &["203.0.113.1"], &[]), "10.0.0.1");
    }

    #[test]
    fn ipv6_customers_are_known_by_their_64() {
        let prefix = |text: &str| prefix(text.parse().expect("an address"));
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::ffff:1"));
        assert_ne!(prefix("2001:db8::1"), prefix("2001:db8:0:1::1"));
        assert_ne!(prefix("192.0.2.1"), prefix("192.0.2.2"));
        assert_eq!(prefix("192.0.2.1"), prefix("::ffff:192.0.2.1"));
    }

    proptest! {
        /// Whatever a client writes to the left, it never chooses the address it is known by.
        #[test]
        fn a_client_cannot_choose_its_address(lie in "[ -~]{0,80}", hops in 0_usize..20) {
            let line = format!("{lie}, 203.0.113.7{}", ", 10.0.0.2".repeat(hops));
            let expected = if hops < HOPS_MAX { "203.0.113.7" } else { "10.0.0.2" };
            prop_assert_eq!(seen("10.0.0.1", &[&line], &["10.0.0.0/8"]), expected);
        }
    }
}
