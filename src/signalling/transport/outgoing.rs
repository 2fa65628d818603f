//! Ways to peers that we look for: registrars of trunks, and where calls of ours go.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::resolver::Resolver;
use super::stream::Door;
use super::{Inbound, Sought, TlsIdentity, keep_alive, local_address};
use crate::config::SipTransport;
use crate::sip::event::{ConnectionId, Flow, StreamTransport, TrunkId};
use crate::sip::locate::{Fault, Found, NotFound, Target, Wanted};

/// What is needed to reach somebody.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(super) door: Door,
    pub(super) resolver: Resolver,
    pub(super) identity: Option<Arc<TlsIdentity>>,
    /// Our datagram sockets, by their number in a flow.
    pub(super) udp: Vec<SocketAddr>,
    /// Where connections are taken.
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) tls: Vec<SocketAddr>,
}

/// Why no way leads to a target.
#[derive(Debug)]
pub(crate) struct Unreached {
    pub(crate) fault: Fault,
    pub(crate) error: io::Error,
}

impl Outgoing {
    /// Where a name leads.
    ///
    /// # Errors
    /// [`NotFound`] says why nowhere.
    pub(crate) async fn look_up(&self, wanted: &Wanted) -> Result<Found, NotFound> {
        let seed = getrandom::u64().map_err(|error| NotFound::Unanswered(error.to_string()))?;
        self.resolver.look_up(wanted, seed).await
    }

    /// Makes a way to one place; the gateway is told of it by [`Inbound::Reached`]. Over TLS the peer's certificate must
    /// be for `name`, whatever DNS made of that (RFC 5922 section 7.3).
    ///
    /// # Errors
    /// What was in the way.
    pub(crate) async fn reach(
        &self,
        trunk: TrunkId,
        target: Target,
        name: &str,
    ) -> Result<(), Unreached> {
        match target.transport {
            SipTransport::Udp => self.by_datagrams(trunk, target.at).await,
            SipTransport::Tcp => self.by_stream(trunk, target.at, None).await,
            SipTransport::Tls => self.by_stream(trunk, target.at, Some(name)).await,
        }
    }

    /// Tells the gateway how the search for a trunk stands; false: it has stopped.
    pub(crate) async fn tell_sought(&self, trunk: TrunkId, sought: Sought) -> bool {
        let sought = Inbound::Sought { trunk, sought };
        self.door.inbound.send(sought).await.is_ok()
    }

    /// A datagram socket of ours in the peer's address family.
    async fn by_datagrams(&self, trunk: TrunkId, peer: SocketAddr) -> Result<(), Unreached> {
        let here = local_address(peer.ip()).map_err(no_way)?;
        let (socket, local) = listening(&self.udp, here).ok_or_else(|| {
            no_way(io::Error::other(
                "sip.listen has no udp: address of that family",
            ))
        })?;
        self.tell(trunk, Flow::Udp { socket, peer }, local).await
    }

    /// A connection; over TLS the peer's certificate must be for `name`.
    async fn by_stream(
        &self,
        trunk: TrunkId,
        peer: SocketAddr,
        name: Option<&str>,
    ) -> Result<(), Unreached> {
        let stream = within(TcpStream::connect(peer)).await;
        let stream = stream.map_err(unconnected)?;
        keep_alive::prepare(&stream).map_err(no_way)?;
        let local = stream.local_addr().map_err(no_way)?.ip();
        let connection = self.door.next_connection();
        match name {
            None => {
                let flow = stream_flow(connection, peer, StreamTransport::Tcp);
                let contact = contact(&self.tcp, local).map_err(no_way)?;
                self.door.carry_out(stream, flow).await.map_err(no_way)?;
                self.tell(trunk, flow, contact).await
            }
            Some(name) => {
                let connected = self.secured(trunk, name, stream).await;
                let stream = connected.map_err(|error| Unreached {
                    fault: Fault::Tls,
                    error,
                })?;
                let flow = stream_flow(connection, peer, StreamTransport::Tls);
                let contact = contact(&self.tls, local).map_err(no_way)?;
                self.door.carry_out(stream, flow).await.map_err(no_way)?;
                self.tell(trunk, flow, contact).await
            }
        }
    }

    async fn secured(
        &self,
        trunk: TrunkId,
        name: &str,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let identity = self.identity.as_ref();
        let connector = identity.and_then(|identity| identity.connector(trunk));
        let connector = connector.ok_or_else(|| io::Error::other("sip.tls is missing"))?;
        let stream = within(connector.connect(name, stream)).await;
        stream.inspect_err(|_| {
            let failed = &self.door.counters.handshakes_failed;
            failed.fetch_add(1, Ordering::Relaxed);
        })
    }

    async fn tell(&self, trunk: TrunkId, flow: Flow, local: SocketAddr) -> Result<(), Unreached> {
        let reached = Inbound::Reached { trunk, flow, local };
        let told = self.door.inbound.send(reached).await;
        told.map_err(|_| no_way(io::Error::other("the gateway has stopped")))
    }
}

const fn no_way(error: io::Error) -> Unreached {
    Unreached {
        fault: Fault::NoWay,
        error,
    }
}

fn unconnected(error: io::Error) -> Unreached {
    let fault = if error.kind() == io::ErrorKind::ConnectionRefused {
        Fault::Refused
    } else if error.kind() == io::ErrorKind::TimedOut {
        Fault::NoAnswer
    } else {
        Fault::NoWay
    };
    Unreached { fault, error }
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

#[cfg(test)]
mod tests {
    use super::*;

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
