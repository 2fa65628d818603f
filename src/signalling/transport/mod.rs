//! SIP sockets: datagrams and streams in, bytes out. No SIP is understood here.
//!
//! Everything that arrives goes through one bounded queue to the gateway; when it is full a datagram
//! is dropped and counted (its sender repeats it, RFC 3261 section 17.1) and a stream is not read on.

mod tcp;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::config::{ListenAddress, SipTransport};
use crate::sip::event::{ConnectionId, Flow, Transmit};

/// What a socket tells the gateway.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// One datagram.
    Datagram(Flow, Bytes),
    /// A connection was accepted; bytes for it go into the sender.
    Opened(ConnectionId, mpsc::Sender<Bytes>),
    /// Bytes of a stream.
    Stream(Flow, Bytes),
    /// A connection is gone.
    Closed(ConnectionId),
}

/// What the sockets count. Written by socket tasks, read by metrics.
#[derive(Debug, Default)]
pub(crate) struct TransportCounters {
    /// Datagrams dropped because the gateway was behind.
    pub(crate) datagrams_dropped: AtomicU64,
    /// Connections refused by a limit.
    pub(crate) connections_refused: AtomicU64,
    /// Sends that the kernel refused.
    pub(crate) send_failures: AtomicU64,
}

/// The sockets SIP listens on.
#[derive(Debug)]
pub(crate) struct Transport {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<SocketAddr>,
    connections: HashMap<ConnectionId, mpsc::Sender<Bytes>>,
    counters: Arc<TransportCounters>,
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
    /// Binds all addresses; UDP flows are numbered in the order of the configuration.
    pub(crate) async fn bind(
        listen: &[ListenAddress],
    ) -> Result<(Self, mpsc::Receiver<Inbound>), ListenError> {
        let (inbound, receiver) = mpsc::channel(INBOUND_QUEUE);
        let mut transport = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            connections: HashMap::new(),
            counters: Arc::default(),
            tasks: JoinSet::new(),
        };
        let limits = Arc::new(tcp::ConnectionLimits::default());
        for at in listen {
            match at.transport {
                SipTransport::Udp => transport.listen_udp(at.address, &inbound).await,
                SipTransport::Tcp => transport.listen_tcp(at.address, &limits, &inbound).await,
                SipTransport::Tls => Err(io::ErrorKind::Unsupported.into()),
            }
            .map_err(|source| ListenError {
                listen: *at,
                source,
            })?;
        }
        Ok((transport, receiver))
    }

    async fn listen_udp(
        &mut self,
        address: SocketAddr,
        inbound: &mpsc::Sender<Inbound>,
    ) -> io::Result<()> {
        let socket = Arc::new(UdpSocket::bind(address).await?);
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

    async fn listen_tcp(
        &mut self,
        address: SocketAddr,
        limits: &Arc<tcp::ConnectionLimits>,
        inbound: &mpsc::Sender<Inbound>,
    ) -> io::Result<()> {
        let listener = tcp::listen(address).await?;
        self.tcp.push(listener.local_addr()?);
        self.tasks.spawn(tcp::accept(
            listener,
            Arc::clone(limits),
            inbound.clone(),
            Arc::clone(&self.counters),
        ));
        Ok(())
    }

    /// Remembers how to write to a connection.
    pub(crate) fn opened(&mut self, connection: ConnectionId, writer: mpsc::Sender<Bytes>) {
        self.connections.insert(connection, writer);
    }

    /// Forgets a connection; its task ends with its writer.
    pub(crate) fn close(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
    }

    /// Sends one message. Never waits: what the kernel or a slow reader does not take is counted and
    /// left to SIP's retransmissions; a connection whose queue is full is closed, and `false` says so.
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
            Flow::Tcp { connection, .. } => {
                let Some(writer) = self.connections.get(&connection) else {
                    return false;
                };
                if writer.try_send(transmit.bytes).is_ok() {
                    return true;
                }
                self.counters.send_failures.fetch_add(1, Ordering::Relaxed);
                self.close(connection);
                false
            }
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

    /// What was dropped or refused so far, by reason.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("datagrams_dropped", read(&self.counters.datagrams_dropped)),
            ("connections", read(&self.counters.connections_refused)),
            ("send_failures", read(&self.counters.send_failures)),
        ]
    }
}

/// Messages that may wait for the gateway; at some 10 us each, a tenth of a second of work.
const INBOUND_QUEUE: usize = 8_192;

/// Time a new connection has for its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);
