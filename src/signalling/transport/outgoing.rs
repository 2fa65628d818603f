//! Ways to peers that we look for: registrars of trunks. A name is resolved anew each time, and its
//! addresses are tried one after the other.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::stream::Door;
use super::{Inbound, local_address, tls};
use crate::config::SipTransport;
use crate::sip::event::{ConnectionId, Flow, StreamTransport, TrunkId};

/// What is needed to reach somebody.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(super) door: Door,
    /// Our datagram sockets, by their number in a flow.
    pub(super) udp: Vec<SocketAddr>,
    /// Where connections are taken.
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
}

/// Whom a trunk is to be reached at.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) trunk: TrunkId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) transport: SipTransport,
}

impl Outgoing {
    /// Looks for a way; the gateway is told of it by [`Inbound::Reached`]. Of several addresses another one comes
    /// first each `turn`, for the one before it led nowhere (RFC 3263 section 4.3).
    ///
    /// # Errors
    /// Of the address that was tried last.
    pub(crate) async fn reach(&self, to: &Destination, turn: usize) -> io::Result<()> {
        let host = to.host.trim_matches(['[', ']']);
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let found = lookup_host((host, to.port)).await?.take(ADDRESSES_MAX);
        for peer in from_turn(found.collect(), turn) {
            let reached = match to.transport {
                SipTransport::Udp => self.by_datagrams(to.trunk, peer).await,
                SipTransport::Tcp => self.by_stream(to.trunk, peer, None).await,
                SipTransport::Tls => self.by_stream(to.trunk, peer, Some(host)).await,
            };
            match reached {
                Ok(()) => return Ok(()),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A datagram socket of ours in the peer's address family.
    async fn by_datagrams(&self, trunk: TrunkId, peer: SocketAddr) -> io::Result<()> {
        let here = local_address(peer.ip())?;
        let (socket, local) = listening(&self.udp, here)
            .ok_or_else(|| io::Error::other("sip.listen has no udp: address of that family"))?;
        self.tell(trunk, Flow::Udp { socket, peer }, local).await
    }

    /// A connection; over TLS the peer's certificate must be for `name`.
    async fn by_stream(
        &self,
        trunk: TrunkId,
        peer: SocketAddr,
        name: Option<&str>,
    ) -> io::Result<()> {
        let stream = within(TcpStream::connect(peer)).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?.ip();
        let connection = self.door.next_connection();
        match name {
            None => {
                let flow = stream_flow(connection, peer, StreamTransport::Tcp);
                let contact = contact(&self.tcp, local)?;
                self.door.carry_out(stream, flow).await?;
                self.tell(trunk, flow, contact).await
            }
            Some(name) => {
                let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
                let connector = tls::connector().map_err(io::Error::other)?;
                let stream = within(connector.connect(name, stream)).await;
                let stream = stream.inspect_err(|_| {
                    let failed = &self.door.counters.handshakes_failed;
                    failed.fetch_add(1, Ordering::Relaxed);
                })?;
                let flow = stream_flow(connection, peer, StreamTransport::Tls);
                let contact = contact(&self.tls, local)?;
                self.door.carry_out(stream, flow).await?;
                self.tell(trunk, flow, contact).await
            }
        }
    }

    async fn tell(&self, trunk: TrunkId, flow: Flow, local: SocketAddr) -> io::Result<()> {
        let reached = Inbound::Reached { trunk, flow, local };
        let told = self.door.inbound.send(reached).await;
        told.map_err(|_| io::Error::other("the gateway has stopped"))
    }
}

/// All of them, beginning with another one each turn.
fn from_turn(mut peers: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let first = turn.checked_rem(peers.len()).unwrap_or(0);
    peers.rotate_left(first);
    peers
}

/// Which of our addresses is reached at `here`, and as what: one that listens there or everywhere, else
/// the first of that family, else `[::]`, which takes IPv4 too.
fn listening(own: &[SocketAddr], here: IpAddr) -> Option<(usize, SocketAddr)> {
    let family = || {
        let all = own.iter().enumerate();
        all.filter(|(_, at)| at.is_ipv4() == here.is_ipv4())
    };
    let (place, at) = family()
        .find(|(_, at)| at.ip() == here || at.ip().is_unspecified())
        .or_else(|| family().next())
        .or_else(|| {
            let mut all = own.iter().enumerate();
            all.find(|(_, at)| at.ip() == Ipv6Addr::UNSPECIFIED)
        })?;
    let ip = if at.ip().is_unspecified() {
        here
    } else {
        at.ip()
    };
    Some((place, SocketAddr::new(ip, at.port())))
}

/// What a Contact names: where connections are taken, for the port that we connect from isn't one.
fn contact(own: &[SocketAddr], here: IpAddr) -> io::Result<SocketAddr> {
    let listening = listening(own, here).map(|(_, at)| at);
    listening.ok_or_else(|| io::Error::other("sip.listen has no address of that family"))
}

const fn stream_flow(connection: ConnectionId, peer: SocketAddr, over: StreamTransport) -> Flow {
    Flow::Stream {
        connection,
        peer,
        over,
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await?
}

/// For a connection, and for its handshake.
const PATIENCE: Duration = Duration::from_secs(5);
const ADDRESSES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_led_nowhere_is_tried_last_the_next_time() {
        let all: Vec<SocketAddr> = ["192.0.2.1:5060", "192.0.2.2:5060", "[2001:db8::1]:5060"]
            .map(|at| at.parse().unwrap())
            .to_vec();
        let first = |turn| from_turn(all.clone(), turn).first().copied();
        let firsts: Vec<_> = (0..4).filter_map(first).collect();
        assert_eq!(firsts, [all[0], all[1], all[2], all[0]]);
        assert_eq!(from_turn(all.clone(), 2), [all[2], all[0], all[1]]);
        assert_eq!(from_turn(Vec::new(), 5), []);
    }

    #[test]
    fn peers_are_told_an_address_where_something_listens() {
        let own = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|at| at.parse().unwrap()).collect()
        };
        let here = "10.0.1.5".parse().unwrap();
        for (all, expected) in [
            (&["10.0.0.5:5060"][..], Some((0, "10.0.0.5:5060"))),
            (
                &["127.0.0.1:5060", "0.0.0.0:5062"],
                Some((1, "10.0.1.5:5062")),
            ),
            (
                &["[::]:5060", "10.0.0.5:5061", "10.0.1.5:5063"],
                Some((2, "10.0.1.5:5063")),
            ),
            (&["[::1]:5060", "[::]:5062"], Some((1, "10.0.1.5:5062"))),
            (&["[::1]:5060"], None),
        ] {
            let expected = expected.map(|(place, at)| (place, at.parse().unwrap()));
            assert_eq!(listening(&own(all), here), expected, "{all:?}");
        }
    }
}
