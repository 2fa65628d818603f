//! SIP sockets: datagrams and streams in, bytes out. No SIP is understood here.
//!
//! Everything that arrives goes through one bounded queue to the gateway; when it is full a datagram
//! is dropped and counted (its sender repeats it, RFC 3261 section 17.1) and a stream is not read on.

mod binding;
mod keep_alive;
mod outbox;
mod outgoing;
mod peers;
mod resolver;
mod stream;
mod tls;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use outgoing::{Outgoing, Unreached};
pub use resolver::Resolver;
pub(crate) use tls::connector;
pub use tls::{TlsError, TlsIdentity};

use super::clock;
use crate::config::{ListenAddress, Network, SipTransport};
use crate::sip::event::{ConnectionId, Flow, Transmit, TrunkId};
use crate::sip::locate::{LeftAlone, Target};
use binding::Binding;
use outbox::Outbox;
use stream::{Admission, Door};

/// What a socket tells the gateway.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// One datagram.
    Datagram(Flow, Bytes),
    /// A connection was accepted; bytes for it go into its outbox.
    Opened(ConnectionId, Outbox),
    /// Whoever opened it has shown a certificate of these trunks.
    Proven(ConnectionId, Vec<TrunkId>),
    /// Bytes of a stream.
    Stream(Flow, Bytes),
    /// A connection is gone.
    Closed(ConnectionId),
    /// There is a way to a trunk's registrar.
    Reached {
        /// Which.
        trunk: TrunkId,
        /// The way.
        flow: Flow,
        /// Where calls from there find us.
        local: SocketAddr,
    },
    /// The search for ways to a trunk has come to rest.
    Sought {
        /// Which.
        trunk: TrunkId,
        /// How it stands.
        sought: Sought,
    },
}

/// How the search for ways to a trunk stands.
#[derive(Debug, Default)]
pub(crate) struct Sought {
    /// Where its name leads to, as far as that is believed.
    pub(crate) addresses: Vec<IpAddr>,
    /// What is used.
    pub(crate) current: Option<Target>,
    /// There is another one to go to, should that fail.
    pub(crate) has_another: bool,
    /// Something is held against what is used, from before.
    pub(crate) is_doubted: bool,
    /// Those that aren't used for a while.
    pub(crate) left: Vec<LeftAlone>,
    /// So many wishes were seen to.
    pub(crate) heard: u64,
}

/// What the sockets count. Written by socket tasks, read by metrics.
#[derive(Debug, Default)]
pub(crate) struct TransportCounters {
    /// Datagrams dropped because the gateway was behind.
    pub(crate) datagrams_dropped: AtomicU64,
    /// Connections refused by a limit.
    pub(crate) connections_refused: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub(crate) handshakes_failed: AtomicU64,
    /// Certificates of callers over TLS that no trunk has, or that are no good.
    pub(crate) certificates_refused: AtomicU64,
    /// Sends that the kernel refused.
    pub(crate) send_failures: AtomicU64,
}

/// The sockets SIP listens on.
#[derive(Debug)]
pub(crate) struct Transport {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    connections: HashMap<ConnectionId, Outbox>,
    counters: Arc<TransportCounters>,
    admission: watch::Sender<Admission>,
    door: Door,
    identity: Option<Arc<TlsIdentity>>,
    tasks: JoinSet<()>,
}

/// A SIP listening address that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("sip.listen: cannot listen on {listen}: {source}; is another SIP server running there?")]
pub struct ListenError {
    listen: ListenAddress,
    source: io::Error,
}

impl Transport {
    /// Binds all addresses; UDP flows are numbered in the order of the configuration. What listens over
    /// TLS answers as `identity`.
    pub(crate) async fn bind(
        listen: &[ListenAddress],
        identity: Option<&Arc<TlsIdentity>>,
    ) -> Result<(Self, mpsc::Receiver<Inbound>), ListenError> {
        let (inbound, receiver) = mpsc::channel(INBOUND_QUEUE);
        let counters: Arc<TransportCounters> = Arc::default();
        let (admission, asked) = watch::channel(Admission::default());
        let plain = Door {
            limits: Arc::default(),
            admission: asked,
            inbound: inbound.clone(),
            counters: Arc::clone(&counters),
            identity: None,
        };
        let mut transport = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            connections: HashMap::new(),
            counters,
            admission,
            door: plain.clone(),
            identity: identity.cloned(),
            tasks: JoinSet::new(),
        };
        for at in listen {
            let binding = Binding::of(at, listen);
            match (at.transport, identity) {
                (SipTransport::Udp, _) => transport.listen_udp(binding, &inbound),
                (SipTransport::Tcp, _) => transport.listen_stream(binding, plain.clone()),
                (SipTransport::Tls, Some(identity)) => {
                    let identity = Some(Arc::clone(identity));
                    let door = Door {
                        identity,
                        ..plain.clone()
                    };
                    transport.listen_stream(binding, door)
                }
                (SipTransport::Tls, None) => Err(io::Error::other("it has no certificate")),
            }
            .map_err(|source| ListenError {
                listen: *at,
                source,
            })?;
        }
        Ok((transport, receiver))
    }

    /// From now on each host may have so many connections, those in `known` networks as many as there are.
    pub(crate) fn admit(&self, known: Vec<Network>, per_source: usize) {
        self.admission.send_replace(Admission { known, per_source });
    }

    fn listen_udp(&mut self, binding: Binding, inbound: &mpsc::Sender<Inbound>) -> io::Result<()> {
        let socket = Arc::new(binding.datagrams()?);
        let index = self.udp.len();
        self.udp.push(Arc::clone(&socket));
        self.tasks.spawn(udp::receive(
            socket,
            index,
            inbound.clone(),
            Arc::clone(&self.counters),
        ));
        Ok(())
    }

    fn listen_stream(&mut self, binding: Binding, door: Door) -> io::Result<()> {
        let listener = binding.listen()?;
        let bound = match door.identity {
            None => &mut self.tcp,
            Some(_) => &mut self.tls,
        };
        bound.push(listener.local_addr()?);
        self.tasks.spawn(door.accept(listener));
        Ok(())
    }

    /// Remembers how to write to a connection.
    pub(crate) fn opened(&mut self, connection: ConnectionId, writer: Outbox) {
        self.connections.insert(connection, writer);
    }

    /// Forgets a connection; its task ends with its writer.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Sends one message. Never waits: what the kernel or a slow reader does not take is counted and
    /// left to SIP's retransmissions; a connection for which too much waits is closed, and `false` says so.
    pub(crate) fn send(&mut self, transmit: Transmit) -> bool {
        match transmit.flow {
            Flow::Udp { socket, peer } => {
                let sent = self
                    .udp
                    .get(socket)
                    .map(|s| s.try_send_to(&transmit.bytes, peer));
                if !matches!(sent, Some(Ok(_))) {
                    self.counters.send_failures.fetch_add(1, Ordering::Relaxed);
                }
                true
            }
            Flow::Stream { connection, .. } => {
                let Some(writer) = self.connections.get(&connection) else {
                    return false;
                };
                if writer.put(transmit.bytes) {
                    return true;
                }
                self.counters.send_failures.fetch_add(1, Ordering::Relaxed);
                self.close(connection);
                false
            }
        }
    }

    /// What is needed to reach somebody ourselves.
    pub(crate) fn outgoing(&self, resolver: Resolver) -> Outgoing {
        Outgoing {
            door: self.door.clone(),
            resolver,
            identity: self.identity.clone(),
            udp: self.udp_addresses(),
            tcp: self.tcp.clone(),
            tls: self.tls.clone(),
        }
    }

    /// The bound UDP addresses, by flow number.
    pub(crate) fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.udp
            .iter()
            .filter_map(|s| s.local_addr().ok())
            .collect()
    }

    /// The bound TCP addresses.
    pub(crate) fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// The bound TLS addresses.
    pub(crate) fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// What was dropped or refused so far, by reason.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("datagrams_dropped", read(&self.counters.datagrams_dropped)),
            ("connections", read(&self.counters.connections_refused)),
            ("tls_handshakes", read(&self.counters.handshakes_failed)),
            ("certificates", read(&self.counters.certificates_refused)),
            ("send_failures", read(&self.counters.send_failures)),
        ]
    }
}

/// An IPv4 peer is one, whichever socket he came by; one of IPv6 reaches him too.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// The address of ours that the kernel would send from to reach `peer`: where nothing else is configured,
/// that is where the peer reaches us.
pub(crate) fn local_address(peer: IpAddr) -> io::Result<IpAddr> {
    let socket = std::net::UdpSocket::bind((any_address(peer), 0))?;
    socket.connect((peer, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// All addresses of the peer's family.
pub(crate) const fn any_address(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// Messages that may wait for the gateway; at some 10 us each, a tenth of a second of work.
const INBOUND_QUEUE: usize = 8_192;

/// Time a new connection has for its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::outbox::{EACH, FOR_ANYBODY, FOR_KNOWN};
    use super::*;
    use crate::sip::event::StreamTransport;

    /// A connection over TCP, and the peer's end of it.
    struct Connected {
        transport: Transport,
        /// Its sockets stop when it is gone.
        _inbound: mpsc::Receiver<Inbound>,
        flow: Flow,
        peer: TcpStream,
    }

    impl Connected {
        async fn from(known: &[&str]) -> Self {
            let listen = ListenAddress {
                transport: SipTransport::Tcp,
                address: "127.0.0.1:0".parse().unwrap(),
            };
            let bound = Transport::bind(&[listen], None).await;
            let (mut transport, mut inbound) = bound.unwrap();
            let known = known.iter().map(|network| network.parse().unwrap());
            transport.admit(known.collect(), 1);
            let peer = TcpStream::connect(transport.tcp_addresses()[0]).await;
            let peer = peer.unwrap();
            let Some(Inbound::Opened(connection, writer)) = inbound.recv().await else {
                panic!("no connection was told")
            };
            transport.opened(connection, writer);
            let flow = Flow::Stream {
                connection,
                peer: peer.local_addr().unwrap(),
                over: StreamTransport::Tcp,
            };
            Self {
                transport,
                _inbound: inbound,
                flow,
                peer,
            }
        }

        fn send(&mut self, bytes: &Bytes) -> bool {
            let (flow, bytes) = (self.flow, bytes.clone());
            self.transport.send(Transmit { flow, bytes })
        }

        fn failures(&self) -> u64 {
            self.transport
                .counters
                .send_failures
                .load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn who_reads_gets_thousands_of_messages_that_are_sent_at_once() {
        let mut connected = Connected::from(&["127.0.0.0/8"]).await;
        let bye = Bytes::from(vec![b'x'; 600]);
        // What was written takes no place any more: all of it would be too much.
        for _ in 0..8 {
            for _ in 0..4_000 {
                assert!(connected.send(&bye));
            }
            let mut taken = vec![0; 4_000 * bye.len()];
            connected.peer.read_exact(&mut taken).await.unwrap();
        }
        assert_eq!(connected.failures(), 0);
    }

    #[tokio::test]
    async fn who_takes_nothing_is_closed_when_too_much_waits_for_him() {
        for (known, most) in [("127.0.0.0/8", FOR_KNOWN), ("192.0.2.0/24", FOR_ANYBODY)] {
            let mut connected = Connected::from(&[known]).await;
            let message = Bytes::from(vec![b'x'; 60_000]);
            let mut sent = 0;
            while connected.send(&message) {
                sent += 1;
            }
            assert_eq!(sent, most / (message.len() + EACH));
            assert_eq!(connected.failures(), 1);
            assert!(connected.transport.connections.is_empty());
            // The rest isn't kept for him.
            let mut taken = Vec::new();
            connected.peer.read_to_end(&mut taken).await.unwrap();
            assert!(taken.is_empty());
        }
    }
}
