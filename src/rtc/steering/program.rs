//! The program the kernel asks which shard's socket a datagram is for.
//!
//! It makes one number of the address and the port, halves what it knows until few are left, and compares those one by one: 1,800 addresses
//! are seven halvings and fifteen comparisons. Two addresses have the same number once in 2^32. Who finds a port that gives them that of another
//! has what they send read by the other's shard, which believes them no more than their own would have.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_B, BPF_H, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_MISC,
    BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, sock_filter, sock_fprog,
};
use nix::sys::socket::{SetSockOpt, sockopt};

/// An odd number that spreads its multiples well: 2^32 divided by the golden ratio.
const SPREAD: u32 = 0x9e37_79b1;
/// Numbers that are compared one by one. A jump of a comparison goes 255 instructions far.
const BUCKET: usize = 16;
/// There is no such socket: the kernel goes by its hash.
const NOBODYS: u32 = u32::MAX;
/// Where the IP header begins, for whoever loads from the packet (`SKF_NET_OFF`, linux/filter.h).
const IP: u32 = 0xfff0_0000;
/// The first byte of an IPv4 header without options. Behind options nothing is looked for.
const IPV4: u32 = 0x45;
/// What comes next in an IPv6 header, where that is UDP (RFC 8200 section 3). Behind other headers nothing is looked for.
const UDP: u32 = 17;

/// What the program knows an address by.
pub(super) fn number(address: SocketAddr) -> u32 {
    let add = |hash: u32, word: u32| hash.wrapping_mul(SPREAD).wrapping_add(word);
    // A socket of IPv6 tells of those who come over IPv4 in another form than that of their packets.
    let hash = match address.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let [first, rest @ ..] = [96, 64, 32, 0].map(|from| (ip.to_bits() >> from) as u32);
            rest.into_iter().fold(first, add)
        }
    };
    add(hash, u32::from(address.port()))
}

/// Has the kernel steer what comes to the port of this socket, from now on by this table: numbers of addresses, and the place of the socket
/// among those of its port. Whatever it steered before, it does so no more.
pub(super) fn attach(socket: &UdpSocket, table: &BTreeMap<u32, u8>) -> io::Result<()> {
    let mut program = program(table);
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    Ok(sockopt::AttachReusePortCbpf.set(socket, &sock_fprog { len, filter: program.as_mut_ptr() })?)
}

fn program(table: &BTreeMap<u32, u8>) -> Vec<sock_filter> {
    let entries: Vec<(u32, u8)> = table.iter().map(|(number, shard)| (*number, *shard)).collect();
    let four = hash(&[12], 20);
    let mut six = vec![
        step(BPF_ALU | BPF_RSH | BPF_K, 4),
        when(BPF_JEQ, 6, 1, 0),
        step(BPF_RET | BPF_K, NOBODYS),
        step(BPF_LD | BPF_B | BPF_ABS, IP + 6),
        when(BPF_JEQ, UDP, 1, 0),
        step(BPF_RET | BPF_K, NOBODYS),
    ];
    six.extend(hash(&[8, 12, 16, 20], 40));
    let mut program =
        vec![step(BPF_LD | BPF_B | BPF_ABS, IP), when(BPF_JEQ, IPV4, 1, 0), skip(four.len() + 1)];
    program.extend(four);
    program.push(skip(six.len()));
    program.extend(six);
    program.extend(search(&entries));
    program
}

/// Makes the [`number`] of the address that is these words of the IP header, and of the port that is behind it.
fn hash(words: &[u32], port: u32) -> Vec<sock_filter> {
    let word = |at: &u32| step(BPF_LD | BPF_W | BPF_ABS, IP + at);
    let mut steps: Vec<sock_filter> = words.first().map(word).into_iter().collect();
    let port = step(BPF_LD | BPF_H | BPF_ABS, IP + port);
    for next in words.iter().skip(1).map(word).chain([port]) {
        let (spread, keep) = (step(BPF_ALU | BPF_MUL | BPF_K, SPREAD), step(BPF_MISC | BPF_TAX, 0));
        steps.extend([spread, keep, next, step(BPF_ALU | BPF_ADD | BPF_X, 0)]);
    }
    steps
}

/// Gives the place that stands beside the number in these, which are in order.
fn search(entries: &[(u32, u8)]) -> Vec<sock_filter> {
    let (below, above) = entries.split_at(entries.len() / 2);
    match above.first() {
        Some((middle, _)) if entries.len() > BUCKET => {
            let (below, above) = (search(below), search(above));
            let mut steps = vec![when(BPF_JGE, *middle, 0, 1), skip(below.len())];
            steps.extend(below);
            steps.extend(above);
            steps
        }
        _ => compare(entries),
    }
}

/// The same for few.
fn compare(entries: &[(u32, u8)]) -> Vec<sock_filter> {
    let mut places: Vec<u8> = entries.iter().map(|(_, place)| *place).collect();
    places.sort_unstable();
    places.dedup();
    // After the comparisons: nobody's, and the places in order.
    let mut steps = Vec::new();
    for (left, (number, place)) in (0..entries.len()).rev().zip(entries) {
        let far = left + 1 + places.partition_point(|one| one < place);
        steps.push(when(BPF_JEQ, *number, u8::try_from(far).unwrap_or(u8::MAX), 0));
    }
    steps.push(step(BPF_RET | BPF_K, NOBODYS));
    steps.extend(places.into_iter().map(|place| step(BPF_RET | BPF_K, u32::from(place))));
    steps
}

fn step(code: u32, k: u32) -> sock_filter {
    // All codes are of one byte.
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Goes over so many, one number if it is so and another if not.
fn when(what: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { jt, jf, ..step(BPF_JMP | what | BPF_K, k) }
}

/// Goes over so many.
fn skip(count: usize) -> sock_filter {
    step(BPF_JMP | BPF_JA, u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::rtc::sockets;

    /// What comes to each of the sockets, in the order in which it does.
    fn came(sockets: &[UdpSocket]) -> Vec<Vec<SocketAddr>> {
        let all = |socket: &UdpSocket| {
            std::iter::from_fn(|| Some(socket.recv_from(&mut [0; 16]).ok()?.1)).collect()
        };
        sockets.iter().map(all).collect()
    }

    #[test]
    fn who_is_known_comes_to_their_socket_and_all_others_where_they_came_before() {
        const SENDERS: usize = 200;
        let (four, six) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        let cases: [(IpAddr, &[IpAddr]); 3] =
            [(four, &[four]), (six, &[six]), (Ipv6Addr::UNSPECIFIED.into(), &[four, six])];
        for (at, from) in cases {
            let sockets = sockets::open((at, 0).into(), 3).unwrap();
            sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
            let port = sockets[0].local_addr().unwrap().port();
            let hosts = from.iter().cycle().take(SENDERS);
            let senders: Vec<(UdpSocket, IpAddr)> =
                hosts.map(|host| (UdpSocket::bind((*host, 0)).unwrap(), *host)).collect();
            let all_send = || {
                for (sender, host) in &senders {
                    sender.send_to(b"hello", (*host, port)).unwrap();
                }
                came(&sockets)
            };
            let before = all_send();
            assert!(before.iter().all(|some| !some.is_empty()), "{before:?}");
            assert_eq!(before.iter().map(Vec::len).sum::<usize>(), SENDERS);
            // Half of those who come to a socket are to come to the next.
            let mut table = BTreeMap::new();
            for (place, addresses) in (0..3_u8).zip(&before) {
                table.extend(addresses.iter().step_by(2).map(|one| (number(*one), (place + 1) % 3)));
            }
            attach(&sockets[1], &table).unwrap();
            let steered = all_send();
            for (place, addresses) in before.iter().enumerate() {
                for (nth, address) in addresses.iter().enumerate() {
                    let expected = if nth % 2 == 0 { (place + 1) % 3 } else { place };
                    assert!(steered[expected].contains(address), "{address} of {place}");
                }
            }
            attach(&sockets[0], &BTreeMap::new()).unwrap();
            assert_eq!(all_send(), before, "nobody is known any more");
        }
    }

    #[test]
    fn the_kernel_takes_a_program_for_as_many_addresses_and_shards_as_there_may_be() {
        let sockets = sockets::open((Ipv4Addr::LOCALHOST, 0).into(), 2).unwrap();
        let address = |nth: u32| SocketAddr::from((Ipv4Addr::from_bits(nth << 7), 5_000));
        let table: BTreeMap<u32, u8> =
            (0..super::super::ADDRESSES_MAX as u32).map(|nth| (number(address(nth)), nth as u8)).collect();
        assert_eq!(table.len(), super::super::ADDRESSES_MAX);
        let program = program(&table);
        // `BPF_MAXINSNS` (linux/bpf_common.h).
        assert!(program.len() <= 4_096, "{} instructions", program.len());
        match attach(&sockets[0], &table) {
            // Of room for this there is enough since Linux 6.7.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {}
            outcome => outcome.unwrap(),
        }
        let table = table.into_iter().take(600).collect();
        attach(&sockets[0], &table).unwrap();
        let alone = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(attach(&alone, &table).is_err(), "the port of one socket has nothing to choose from");
    }

    #[test]
    fn every_number_finds_its_place_and_no_other_does() {
        for count in [0_u32, 1, 2, 16, 17, 33, 700] {
            let table: BTreeMap<u32, u8> =
                (0..count).map(|nth| (nth.wrapping_mul(SPREAD), (nth % 5) as u8)).collect();
            let entries: Vec<(u32, u8)> = table.iter().map(|(number, place)| (*number, *place)).collect();
            let steps = search(&entries);
            for (number, place) in &table {
                assert_eq!(runs(&steps, *number), u32::from(*place));
                assert!(table.contains_key(&(number + 1)) || runs(&steps, number + 1) == NOBODYS);
            }
            assert_eq!(runs(&steps, 77), NOBODYS);
        }
    }

    /// What a search gives for a number, as a machine for it would.
    fn runs(steps: &[sock_filter], number: u32) -> u32 {
        let mut at = 0;
        loop {
            let step = steps[at];
            let over = |is_so: bool| usize::from(if is_so { step.jt } else { step.jf });
            at += 1 + match u32::from(step.code) & !BPF_JMP {
                BPF_JA => step.k as usize,
                BPF_JEQ => over(number == step.k),
                BPF_JGE => over(number >= step.k),
                _ => return step.k,
            };
        }
    }
}
