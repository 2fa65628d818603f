//! How what SIP listens at is bound: IPv4, IPv6, or both by one socket.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use crate::config::{ListenAddress, SipTransport};

/// An address to be bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Binding {
    address: SocketAddr,
    /// Another socket takes the IPv4 side of its port.
    only_ipv6: bool,
}

impl Binding {
    /// `[::]` takes IPv4 too, unless something else of the list listens there.
    pub(super) fn of(at: &ListenAddress, all: &[ListenAddress]) -> Self {
        let is_stream = |one: &ListenAddress| one.transport != SipTransport::Udp;
        let takes_its_port = |other: &ListenAddress| {
            other.address.is_ipv4()
                && other.address.port() == at.address.port()
                && is_stream(other) == is_stream(at)
        };
        Self {
            address: at.address,
            only_ipv6: at.address.is_ipv6()
                && at.address.port() != 0
                && all.iter().any(takes_its_port),
        }
    }

    pub(super) fn datagrams(self) -> io::Result<UdpSocket> {
        UdpSocket::from_std(self.bind(Type::DGRAM)?.into())
    }

    fn bind(self, kind: Type) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), kind, None)?;
        socket.set_nonblocking(true)?;
        if self.address.is_ipv6() {
            socket.set_only_v6(self.only_ipv6)?;
        }
        if kind == Type::STREAM {
            // A restart does not wait for old connections.
            socket.set_reuse_address(true)?;
        }
        socket.bind(&self.address.into())?;
        Ok(socket)
    }

    pub(super) fn listen(self) -> io::Result<TcpListener> {
        let socket = self.bind(Type::STREAM)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_ipv6_leaves_ipv4_alone_where_something_else_listens_there() {
        let only_ipv6 = |all: &[&str]| -> Vec<bool> {
            let all: Vec<ListenAddress> = all.iter().map(|at| at.parse().unwrap()).collect();
            let each = all.iter().map(|at| Binding::of(at, &all).only_ipv6);
            each.collect()
        };
        assert_eq!(only_ipv6(&["udp:[::]:5060"]), [false]);
        assert_eq!(
            only_ipv6(&["udp:[::]:5060", "udp:0.0.0.0:5060"]),
            [true, false]
        );
        assert_eq!(
            only_ipv6(&["udp:[::]:5060", "tcp:0.0.0.0:5060"]),
            [false, false]
        );
        assert_eq!(
            only_ipv6(&["tls:[::]:5061", "tcp:192.0.2.1:5061"]),
            [true, false]
        );
        assert_eq!(
            only_ipv6(&["udp:[::]:5060", "udp:0.0.0.0:5062"]),
            [false, false]
        );
    }
}
