//! What is set on a media socket: expedited forwarding, no fragments, and on a shared one room for a
//! frame's worth of packets of all its legs.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Marks all packets of a socket for expedited forwarding (RFC 3246). A kernel that refuses sends
/// them unmarked, which does no harm.
pub(in crate::engine) fn expedite(socket: &UdpSocket) {
    // An IPv6 socket sends to IPv4 peers too, whose packets are marked by the former.
    let _unmarked = set(socket, libc::IPPROTO_IP, libc::IP_TOS, EXPEDITED);
    if socket.local_addr().is_ok_and(|address| address.is_ipv6()) {
        let _unmarked = set(socket, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, EXPEDITED);
    }
}

/// Lets packets go out as they are or not at all (RFC 6864): only for what might be cut in pieces the
/// kernel draws a number for each packet, which takes as long as finding its way. Far below any path's
/// limit, ours never need it; and no router's word makes that limit smaller.
pub(in crate::engine) fn keep_whole(socket: &UdpSocket) {
    let _numbered = set(
        socket,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::IP_PMTUDISC_PROBE,
    );
}

/// Gives a shared socket large buffers. What it got for receiving, where that is less.
pub(in crate::engine) fn enlarge(socket: &UdpSocket) -> Option<usize> {
    let sizes = [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BYTES),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BYTES),
    ];
    for (forced, asked, bytes) in sizes {
        // The former needs CAP_NET_ADMIN, the latter is cut to net.core.rmem_max or wmem_max.
        if set(socket, libc::SOL_SOCKET, forced, bytes).is_err() {
            let _smaller = set(socket, libc::SOL_SOCKET, asked, bytes);
        }
    }
    // The kernel counts its own overhead in and therefore doubles what it is asked for (socket(7)).
    let got = get(socket, libc::SOL_SOCKET, libc::SO_RCVBUF).map_or(0, |doubled| doubled / 2);
    (got < RECEIVE_BYTES).then(|| usize::try_from(got).unwrap_or(0))
}

/// So many packets of legs does a socket keep at least, whatever network card brings them.
pub(in crate::engine) fn packets_kept(socket: &UdpSocket) -> usize {
    let bytes = get(socket, libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap_or(0);
    usize::try_from(bytes / PACKET_BYTES_KEPT).unwrap_or(0)
}

pub(super) fn set(socket: &UdpSocket, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is a living int, as all these options want.
    super::check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

fn get(socket: &UdpSocket, level: i32, name: i32) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: there is room for an int, and `length` says so.
    super::check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    })?;
    Ok(value)
}

/// DSCP 46 above two bits of congestion notification.
const EXPEDITED: libc::c_int = 46 << 2;
/// 4,000 legs' packets of 20 ms, at the 768 bytes that the kernel counts for a small one, and as
/// much again for a thread that comes late.
pub(in crate::engine) const RECEIVE_BYTES: libc::c_int = 8 << 20;
/// What the kernel counts for a packet at the most: a buffer of 2 KiB of the network card, and its own notes.
const PACKET_BYTES_KEPT: libc::c_int = 2_304;
/// What a whole bridge sends in one tick, while the network card takes it.
const SEND_BYTES: libc::c_int = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_is_marked_for_expedited_forwarding() {
        let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
        expedite(&v4);
        assert_eq!(get(&v4, libc::IPPROTO_IP, libc::IP_TOS).unwrap(), 0xB8);
        let v6 = UdpSocket::bind("[::]:0").unwrap();
        expedite(&v6);
        let class = get(&v6, libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
        assert_eq!(class.unwrap(), 0xB8);
        assert_eq!(get(&v6, libc::IPPROTO_IP, libc::IP_TOS).unwrap(), 0xB8);
    }

    #[test]
    fn media_is_never_sent_in_pieces() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            keep_whole(&socket);
            let mode = get(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
            assert_eq!(mode.unwrap(), libc::IP_PMTUDISC_PROBE);
        }
    }

    #[test]
    fn a_shared_socket_gets_larger_buffers_or_says_what_it_got() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = get(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap();
        let short = enlarge(&socket);
        let after = get(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap();
        assert!(after >= before);
        assert_eq!(short.is_none(), after / 2 >= RECEIVE_BYTES);
        assert!(short.is_none_or(|bytes| bytes as i32 == after / 2));
    }

    #[test]
    fn so_many_packets_as_it_says_does_a_socket_keep() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let kept = packets_kept(&socket);
        assert!(kept >= 20, "{kept}");
        for _ in 0..kept.min(500) {
            let sent = sender.send_to(&[0; 172], socket.local_addr().unwrap());
            sent.unwrap();
        }
        let received = std::iter::from_fn(|| socket.recv(&mut [0; 200]).ok());
        assert_eq!(received.count(), kept.min(500));
        if enlarge(&socket).is_none() {
            assert!(packets_kept(&socket) > 7_000);
        }
    }
}
