//! A leg's way to its peer: sockets of its own, or a shared port.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::{Control, LegEntry, LegState, OpenedLeg, random};
use crate::engine::config::EngineError;
use crate::engine::io::{RECEIVE_BYTES, enlarge};
use crate::engine::outlet::reachable;
use crate::engine::shared::KnownPeer;
use crate::engine::sound::SoundAsked;
use crate::media::command::{
    LegCommand, LegKind, LegPort, LegSockets, MixerCommand, Route, SharedPort,
};
use crate::units::LegId;

/// A leg's way to its peer, as the control side knows it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// By sockets of its own.
    Own {
        /// The RTP one's port.
        port: u16,
    },
    /// By a shared port, though it isn't known yet who will send to it.
    Awaiting {
        /// Which.
        port: SharedPort,
    },
    /// By a shared port.
    Shared {
        /// Which.
        port: SharedPort,
        /// Who sends to it.
        peer: KnownPeer,
    },
}

impl Control {
    /// Opens a participant's leg: sockets only, until something is agreed with the peer.
    ///
    /// # Errors
    /// [`EngineError::LegsExhausted`], [`EngineError::PortsExhausted`], [`EngineError::Io`].
    pub fn open_leg(&mut self) -> Result<OpenedLeg, EngineError> {
        self.open(LegKind::Caller)
    }

    /// Opens a leg of any kind.
    ///
    /// # Errors
    /// As [`Self::open_leg`]; [`EngineError::Unsupported`] for relays and trunks, which are reserved.
    pub fn open(&mut self, kind: LegKind) -> Result<OpenedLeg, EngineError> {
        match kind {
            LegKind::Caller => {}
            LegKind::Relay | LegKind::Trunk => return Err(EngineError::Unsupported(kind)),
        }
        self.check_room()?;
        let (sockets, port) = self.ports.bind(random()?)?;
        let thread = self.least_loaded(None);
        Ok(self.opened(thread, Way::Own { port }, LegPort::Own(sockets)))
    }

    /// Opens a participant's leg whose peer sends from the address that it announces: it shares a
    /// port with others, where `EngineConfig::shared` allows it and no other call has the same peer.
    ///
    /// # Errors
    /// As [`Self::open_leg`].
    pub fn open_leg_for(&mut self, peer: KnownPeer) -> Result<OpenedLeg, EngineError> {
        self.check_room()?;
        let thread = self.least_loaded(None);
        if self.config.shared
            && let Some(port) = self.shared_port_for(thread, peer)?
        {
            self.shared.take(port, peer);
            let home = self.shared.home(port);
            return Ok(self.opened(home, Way::Shared { port, peer }, LegPort::Shared(port)));
        }
        let (sockets, port) = self.ports.bind(random()?)?;
        Ok(self.opened(thread, Way::Own { port }, LegPort::Own(sockets)))
    }

    /// Opens a participant's leg whose peer's address will be known before anything is agreed on, though not
    /// yet, and which is then told by [`Self::name_peer`]: it shares a port with others, where
    /// `EngineConfig::shared` allows it.
    ///
    /// # Errors
    /// As [`Self::open_leg`].
    pub fn open_leg_to_be_named(&mut self) -> Result<OpenedLeg, EngineError> {
        if !self.config.shared {
            return self.open_leg();
        }
        self.check_room()?;
        let thread = self.least_loaded(None);
        let port = match self.shared.any_at(thread) {
            Some(port) => port,
            None if self.shared.has_room(thread) => {
                let (sockets, rtp) = self.ports.bind(random()?)?;
                self.open_shared_port(thread, sockets, rtp)
            }
            None => return self.open_leg(),
        };
        Ok(self.opened(thread, Way::Awaiting { port }, LegPort::Shared(port)))
    }

    /// The peer of a leg that was opened by [`Self::open_leg_to_be_named`], before `connect_leg`.
    ///
    /// # Errors
    /// [`EngineError::UnknownLeg`]; [`EngineError::PeerTaken`] where another leg has this peer.
    pub fn name_peer(&mut self, leg: LegId, peer: KnownPeer) -> Result<(), EngineError> {
        let entry = self.legs.get_mut(&leg).ok_or(EngineError::UnknownLeg)?;
        let Way::Awaiting { port } = entry.way else {
            return Ok(());
        };
        if !self.shared.is_free(port, peer) {
            return Err(EngineError::PeerTaken);
        }
        self.shared.take(port, peer);
        entry.way = Way::Shared { port, peer };
        Ok(())
    }

    /// The peer is about to send from another address, or from one that isn't known beforehand.
    /// Returns the port that the leg receives at from then on, to be told to the peer: another one
    /// where a shared port can't be kept.
    ///
    /// # Errors
    /// [`EngineError::UnknownLeg`]; as [`Self::open_leg`] where another port is needed.
    pub fn readdress(&mut self, leg: LegId, peer: Option<KnownPeer>) -> Result<u16, EngineError> {
        let entry = self.legs.get_mut(&leg).ok_or(EngineError::UnknownLeg)?;
        let (port, old) = match entry.way {
            Way::Own { port } => return Ok(port),
            Way::Awaiting { port } => return Ok(self.shared.rtp(port)),
            Way::Shared { port, peer } => (port, peer),
        };
        let Some(new) = peer.filter(|new| self.shared.exchange(port, old, *new)) else {
            return self.take_own_port(leg);
        };
        entry.way = Way::Shared { port, peer: new };
        if new != old {
            let route = entry.route(leg);
            self.route(port, old, Route::Nowhere);
            self.route(port, new, route);
        }
        Ok(self.shared.rtp(port))
    }

    fn check_room(&self) -> Result<(), EngineError> {
        if self.legs.len() < self.config.legs_max {
            Ok(())
        } else {
            Err(EngineError::LegsExhausted)
        }
    }

    fn opened(&mut self, thread: usize, way: Way, port: LegPort) -> OpenedLeg {
        let leg = LegId(self.next_leg);
        self.next_leg += 1;
        self.threads[thread].legs += 1;
        let number = match way {
            Way::Own { port } => port,
            Way::Awaiting { port } | Way::Shared { port, .. } => self.shared.rtp(port),
        };
        let socket = own_socket(&port);
        let state = LegState::Opened {
            port,
            waiting: Vec::new(),
        };
        self.legs.insert(
            leg,
            LegEntry {
                way,
                thread,
                state,
                parameters: None,
                bridge: None,
                sound: SoundAsked::default(),
                socket,
            },
        );
        let rtp = SocketAddr::new(self.config.address, number);
        OpenedLeg { leg, rtp }
    }

    /// Sends what belongs to a handshake from the leg's own port. `false`: it has none, or the system doesn't take
    /// it; whoever shakes hands tries again.
    pub fn send_handshake(&self, leg: LegId, to: SocketAddr, datagram: &[u8]) -> bool {
        let entry = self.legs.get(&leg);
        let to = reachable(to, self.config.address.is_ipv6());
        entry
            .and_then(|entry| entry.socket.as_ref())
            .is_some_and(|socket| socket.send_to(datagram, to).is_ok())
    }

    /// Says where a leg's packets go, on the home thread of its shared port.
    pub(super) fn route_leg(&mut self, leg: LegId, route: Route) {
        if let Some(entry) = self.legs.get(&leg)
            && let Way::Shared { port, peer } = entry.way
        {
            self.route(port, peer, route);
        }
    }

    /// The leg is gone.
    pub(super) fn release_way(&mut self, way: Way) {
        match way {
            Way::Own { port } => self.ports.release(port),
            Way::Awaiting { .. } => {}
            Way::Shared { port, peer } => self.shared.free(port, peer),
        }
    }

    fn route(&mut self, port: SharedPort, peer: KnownPeer, route: Route) {
        let home = self.shared.home(port);
        for source in peer.sources(port) {
            self.threads[home].push(MixerCommand::Route { source, route });
        }
    }

    /// From a shared port to sockets of its own.
    fn take_own_port(&mut self, leg: LegId) -> Result<u16, EngineError> {
        let (sockets, port) = self.ports.bind(random()?)?;
        self.route_leg(leg, Route::Nowhere);
        let Some(entry) = self.legs.get_mut(&leg) else {
            return Err(EngineError::UnknownLeg);
        };
        let old = std::mem::replace(&mut entry.way, Way::Own { port });
        entry.socket = Some(Arc::clone(&sockets.rtp));
        match &mut entry.state {
            LegState::Opened { port, .. } => *port = LegPort::Own(sockets),
            LegState::Living { .. } | LegState::Moving { .. } | LegState::Closing => {
                self.command(leg, LegCommand::Rewire(LegPort::Own(sockets)));
            }
        }
        self.release_way(old);
        Ok(port)
    }

    /// A shared port that the peer can send to: on that thread, else on any other, so that it is
    /// rare for a packet to be passed on.
    fn shared_port_for(
        &mut self,
        thread: usize,
        peer: KnownPeer,
    ) -> Result<Option<SharedPort>, EngineError> {
        if let Some(port) = self.shared.free_at(thread, peer) {
            return Ok(Some(port));
        }
        if !self.shared.has_room(thread) {
            return Ok(self.shared.free_anywhere(peer));
        }
        let (sockets, rtp) = self.ports.bind(random()?)?;
        Ok(Some(self.open_shared_port(thread, sockets, rtp)))
    }

    fn open_shared_port(&mut self, home: usize, sockets: LegSockets, rtp: u16) -> SharedPort {
        if let Some(bytes) = enlarge(&sockets.rtp)
            && !std::mem::replace(&mut self.warned_of_buffers, true)
        {
            tracing::warn!(
                bytes,
                wanted = RECEIVE_BYTES,
                "the kernel gives the shared media ports too little room: packets may be lost under load; raise net.core.rmem_max and net.core.wmem_max"
            );
        }
        let port = self.shared.add(home, rtp);
        let sockets = Arc::new(sockets);
        for (index, thread) in self.threads.iter_mut().enumerate() {
            thread.push(MixerCommand::OpenPort {
                port,
                sockets: Arc::clone(&sockets),
                is_home: index == home,
            });
        }
        port
    }
}

/// What a leg's control side sends through.
fn own_socket(port: &LegPort) -> Option<Arc<UdpSocket>> {
    match port {
        LegPort::Own(sockets) => Some(Arc::clone(&sockets.rtp)),
        LegPort::Shared(_) => None,
    }
}
