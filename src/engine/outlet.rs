//! The sending side of a media thread. What goes through an own socket is sent at once, what goes
//! through a shared port a batch at a time.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use crate::engine::health::Counters;
use crate::engine::io::{Outbox, Sent};
use crate::media::command::{LegPort, LegSlot, LegSockets, SharedPort};
use crate::media::sender::Transmit;

/// The shared ports that a thread sends through, and what waits to be sent.
pub(super) struct SharedOutlet {
    /// By [`SharedPort`]. The sockets are those that the home thread receives from: the kernel lets
    /// several threads use one.
    ports: Box<[Option<Arc<LegSockets>>]>,
    outbox: Outbox,
    /// What waits goes through this one.
    waiting_for: Option<SharedPort>,
}

/// The sockets of a thread's legs, as what a mixer sends through.
pub(super) struct Outlet<'a> {
    pub(super) ports: &'a [Option<LegPort>],
    pub(super) shared: &'a mut SharedOutlet,
    pub(super) is_ipv6: bool,
    pub(super) counters: &'a Counters,
}

impl SharedOutlet {
    pub(super) fn new(is_shared: bool) -> Self {
        let ports = if is_shared { SHARED_PORTS_MAX } else { 0 };
        Self {
            ports: (0..ports).map(|_| None).collect(),
            outbox: Outbox::new(),
            waiting_for: None,
        }
    }

    pub(super) fn open_port(&mut self, port: SharedPort, sockets: Arc<LegSockets>) {
        if let Some(place @ None) = self.ports.get_mut(port.0 as usize) {
            *place = Some(sockets);
        }
    }

    fn push(&mut self, port: SharedPort, to: SocketAddr, packet: &[u8]) -> Sent {
        let mut sent = Sent::default();
        if self.outbox.is_full() || self.waiting_for.is_some_and(|other| other != port) {
            sent = self.flush();
        }
        self.waiting_for = Some(port);
        sent.errors += u64::from(!self.outbox.push(to, packet));
        sent
    }

    fn flush(&mut self) -> Sent {
        let port = self.waiting_for.take();
        let sockets = port.and_then(|port| self.ports.get(port.0 as usize)?.as_ref());
        sockets.map_or_else(Sent::default, |sockets| self.outbox.flush(&sockets.rtp))
    }

    fn socket(&self, port: SharedPort, is_rtcp: bool) -> Option<&UdpSocket> {
        let sockets = self.ports.get(port.0 as usize)?.as_ref()?;
        Some(sockets.of(is_rtcp))
    }
}

impl Outlet<'_> {
    /// Sends what waits.
    pub(super) fn flush(&mut self) {
        let sent = self.shared.flush();
        self.count(sent);
    }

    fn reachable(&self, to: SocketAddr) -> SocketAddr {
        reachable(to, self.is_ipv6)
    }

    fn send_now(&self, socket: &UdpSocket, to: SocketAddr, packet: &[u8]) {
        let taken = socket.send_to(packet, self.reachable(to)).is_ok();
        self.count(Sent {
            packets: u64::from(taken),
            errors: u64::from(!taken),
        });
    }

    fn count(&self, sent: Sent) {
        self.counters.packets_out.add(sent.packets);
        self.counters.send_errors.add(sent.errors);
    }
}

impl Transmit for Outlet<'_> {
    fn hasten(&mut self) {
        self.flush();
    }

    fn prefetch(&self, leg: LegSlot) {
        if let Some(Some(port)) = self.ports.get(leg.0 as usize) {
            port.prefetch();
        }
    }

    fn rtp(&mut self, leg: LegSlot, to: SocketAddr, packet: &[u8]) {
        match self.ports.get(leg.0 as usize) {
            Some(Some(LegPort::Own(sockets))) => self.send_now(&sockets.rtp, to, packet),
            Some(Some(LegPort::Shared(port))) => {
                let to = self.reachable(to);
                let sent = self.shared.push(*port, to, packet);
                self.count(sent);
            }
            Some(None) | None => {}
        }
    }

    fn rtcp(&mut self, leg: LegSlot, to: SocketAddr, muxed: bool, packet: &[u8]) {
        let socket = match self.ports.get(leg.0 as usize) {
            Some(Some(LegPort::Own(sockets))) => Some(sockets.of(!muxed)),
            Some(Some(LegPort::Shared(port))) => self.shared.socket(*port, !muxed),
            Some(None) | None => None,
        };
        if let Some(socket) = socket {
            self.send_now(socket, to, packet);
        }
    }
}

/// An IPv6 socket reaches IPv4 peers by their mapped addresses (RFC 4291 section 2.5.5.2).
pub(super) fn reachable(to: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(v4) if is_ipv6 => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), to.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => to,
    }
}

/// Shared ports of a whole engine.
pub(super) const SHARED_PORTS_MAX: usize = 2_048;
