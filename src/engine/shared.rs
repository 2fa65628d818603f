//! Which peers send to which shared port. Two calls whose peers send from one address can't be told
//! apart on one port, so the second one takes another.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::engine::inlet::HOME_PORTS_MAX;
use crate::engine::outlet::SHARED_PORTS_MAX;
use crate::media::command::{SharedPort, SharedSource};
use crate::media::parameters::MediaParameters;

/// A peer that sends from the very addresses that it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPeer {
    /// Its RTP.
    pub rtp: SocketAddr,
    /// Its RTCP; the same where multiplexed.
    pub rtcp: SocketAddr,
}

impl KnownPeer {
    /// What was agreed on, if it can be sent from: hold in the style of RFC 2543 says nothing.
    #[must_use]
    pub fn of(parameters: &MediaParameters) -> Option<Self> {
        let (rtp, rtcp) = (parameters.remote_rtp, parameters.remote_rtcp);
        let is_real = |address: SocketAddr| !address.ip().is_unspecified() && address.port() != 0;
        (is_real(rtp) && is_real(rtcp)).then_some(Self { rtp, rtcp })
    }

    /// What tells its packets from others' at a port.
    pub(super) fn sources(self, port: SharedPort) -> impl Iterator<Item = SharedSource> {
        let rtcp = (self.rtcp != self.rtp).then_some((true, self.rtcp));
        [(false, self.rtp)]
            .into_iter()
            .chain(rtcp)
            .map(move |(is_rtcp, from)| SharedSource {
                port,
                is_rtcp,
                from,
            })
    }
}

/// All shared ports of an engine, on the control side.
#[derive(Default)]
pub(super) struct SharedPorts {
    ports: Vec<Port>,
    taken: HashSet<SharedSource>,
}

struct Port {
    home: usize,
    rtp: u16,
}

impl SharedPorts {
    /// A port that the peer may send to, on that thread.
    pub(super) fn free_at(&self, home: usize, peer: KnownPeer) -> Option<SharedPort> {
        self.all()
            .find(|port| self.home(*port) == home && self.is_free(*port, peer))
    }

    /// The same on any thread.
    pub(super) fn free_anywhere(&self, peer: KnownPeer) -> Option<SharedPort> {
        self.all().find(|port| self.is_free(*port, peer))
    }

    /// A port on that thread, for a peer that isn't known yet.
    pub(super) fn any_at(&self, home: usize) -> Option<SharedPort> {
        self.all().find(|port| self.home(*port) == home)
    }

    /// May this thread have one more?
    pub(super) fn has_room(&self, home: usize) -> bool {
        let there = self.ports.iter().filter(|port| port.home == home).count();
        there < HOME_PORTS_MAX && self.ports.len() < SHARED_PORTS_MAX
    }

    /// Takes one more into the list.
    pub(super) fn add(&mut self, home: usize, rtp: u16) -> SharedPort {
        let port = SharedPort(self.ports.len() as u16);
        self.ports.push(Port { home, rtp });
        port
    }

    /// A peer sends to this port from now on; it was found free.
    pub(super) fn take(&mut self, port: SharedPort, peer: KnownPeer) {
        self.taken.extend(peer.sources(port));
    }

    /// It does so no more.
    pub(super) fn free(&mut self, port: SharedPort, peer: KnownPeer) {
        for source in peer.sources(port) {
            self.taken.remove(&source);
        }
    }

    /// A peer sends from elsewhere from now on. `false`: another one does already.
    pub(super) fn exchange(&mut self, port: SharedPort, old: KnownPeer, new: KnownPeer) -> bool {
        self.free(port, old);
        let fits = self.is_free(port, new);
        self.take(port, if fits { new } else { old });
        fits
    }

    /// The thread that receives from it.
    pub(super) fn home(&self, port: SharedPort) -> usize {
        self.port(port).map_or(0, |port| port.home)
    }

    /// The number of its RTP port.
    pub(super) fn rtp(&self, port: SharedPort) -> u16 {
        self.port(port).map_or(0, |port| port.rtp)
    }

    /// Does nobody with that peer's addresses send to it?
    pub(super) fn is_free(&self, port: SharedPort, peer: KnownPeer) -> bool {
        peer.sources(port)
            .all(|source| !self.taken.contains(&source))
    }

    fn all(&self) -> impl Iterator<Item = SharedPort> {
        (0..self.ports.len()).map(|index| SharedPort(index as u16))
    }

    fn port(&self, port: SharedPort) -> Option<&Port> {
        self.ports.get(port.0 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(rtp: u16, rtcp: u16) -> KnownPeer {
        KnownPeer {
            rtp: SocketAddr::from(([192, 0, 2, 7], rtp)),
            rtcp: SocketAddr::from(([192, 0, 2, 7], rtcp)),
        }
    }

    #[test]
    fn one_address_sends_to_a_port_once_only() {
        let mut shared = SharedPorts::default();
        let (first, second) = (shared.add(0, 20_000), shared.add(1, 20_002));
        assert_eq!(shared.free_at(0, peer(4_000, 4_001)), Some(first));
        shared.take(first, peer(4_000, 4_001));
        assert_eq!(shared.free_at(0, peer(4_000, 4_001)), None);
        assert_eq!(shared.free_at(0, peer(4_002, 4_001)), None, "its RTCP");
        assert_eq!(shared.free_anywhere(peer(4_000, 4_001)), Some(second));
        assert_eq!(shared.free_at(0, peer(4_002, 4_003)), Some(first));
        shared.free(first, peer(4_000, 4_001));
        assert_eq!(shared.free_at(0, peer(4_000, 4_001)), Some(first));
    }

    #[test]
    fn an_address_is_exchanged_unless_it_is_another_ones() {
        let mut shared = SharedPorts::default();
        let port = shared.add(0, 20_000);
        shared.take(port, peer(4_000, 4_001));
        shared.take(port, peer(5_000, 5_001));
        assert!(!shared.exchange(port, peer(4_000, 4_001), peer(5_000, 4_001)));
        assert_eq!(
            shared.free_at(0, peer(4_000, 4_001)),
            None,
            "it has kept it"
        );
        assert!(shared.exchange(port, peer(4_000, 4_001), peer(4_000, 4_005)));
        assert_eq!(shared.free_at(0, peer(6_000, 4_001)), Some(port));
    }

    #[test]
    fn multiplexed_rtcp_is_no_second_address() {
        assert_eq!(peer(4_000, 4_000).sources(SharedPort(0)).count(), 1);
        assert_eq!(peer(4_000, 4_001).sources(SharedPort(0)).count(), 2);
    }

    #[test]
    fn a_thread_has_a_bounded_number_of_them() {
        let mut shared = SharedPorts::default();
        for n in 0..HOME_PORTS_MAX {
            assert!(shared.has_room(3));
            shared.add(3, 20_000 + 2 * n as u16);
        }
        assert!(!shared.has_room(3) && shared.has_room(0));
    }
}
