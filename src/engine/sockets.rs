//! RTP and RTCP sockets: an even port and the one above it (RFC 3550 section 11), out of the
//! configured range, beginning somewhere that can't be predicted.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

use crate::engine::config::EngineError;
use crate::engine::io::{expedite, keep_whole, stamp};
use crate::media::command::LegSockets;

/// The ports that legs may have.
pub(super) struct PortRange {
    address: IpAddr,
    first: u16,
    pairs: u16,
    /// In use by legs of ours.
    taken: HashSet<u16>,
}

impl PortRange {
    pub(super) fn new(address: IpAddr, ports: &RangeInclusive<u16>) -> Self {
        let first = ports.start().saturating_add(ports.start() % 2);
        let pairs = ports.end().saturating_add(1).saturating_sub(first) / 2;
        Self {
            address,
            first,
            pairs,
            taken: HashSet::new(),
        }
    }

    /// Binds a pair, the first free one from a random beginning. The RTP port comes with it.
    pub(super) fn bind(&mut self, random: u32) -> Result<(LegSockets, u16), EngineError> {
        for step in 0..u32::from(self.pairs) {
            let pair = (random % u32::from(self.pairs) + step) % u32::from(self.pairs);
            let port = self.first + 2 * pair as u16;
            if self.taken.contains(&port) {
                continue;
            }
            match self.bind_pair(port) {
                Ok(sockets) => {
                    self.taken.insert(port);
                    return Ok((sockets, port));
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(EngineError::Io(error)),
            }
        }
        Err(EngineError::PortsExhausted)
    }

    /// The pair's sockets are closed.
    pub(super) fn release(&mut self, port: u16) {
        self.taken.remove(&port);
    }

    fn bind_pair(&self, port: u16) -> io::Result<LegSockets> {
        let open = |port| {
            let socket = bind((self.address, port).into())?;
            socket.set_nonblocking(true)?;
            expedite(&socket);
            keep_whole(&socket);
            stamp(&socket);
            Ok::<_, io::Error>(socket)
        };
        Ok(LegSockets {
            rtp: Arc::new(open(port)?),
            rtcp: open(port + 1)?,
        })
    }
}

/// One for IPv6 takes IPv4 too (RFC 3493 section 3.7), whatever the system's default is.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn pairs_are_even_and_lie_within_the_range() {
        let mut range = PortRange::new(LOOPBACK, &(21_001..=21_006));
        let bound: Vec<_> = (0..2).map(|n| range.bind(n).unwrap()).collect();
        let mut ports: Vec<_> = bound.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [21_002, 21_004]);
        assert!(matches!(range.bind(9), Err(EngineError::PortsExhausted)));
        drop(bound);
        range.release(21_004);
        assert_eq!(range.bind(0).unwrap().1, 21_004);
    }

    #[test]
    fn a_port_of_somebody_else_is_passed_over() {
        let theirs = UdpSocket::bind((LOOPBACK, 21_013)).unwrap();
        let mut range = PortRange::new(LOOPBACK, &(21_012..=21_015));
        assert_eq!(range.bind(0).unwrap().1, 21_014);
        drop(theirs);
    }

    #[test]
    fn an_empty_range_has_no_ports() {
        let mut range = PortRange::new(LOOPBACK, &(21_021..=21_021));
        assert!(matches!(range.bind(0), Err(EngineError::PortsExhausted)));
    }
}
