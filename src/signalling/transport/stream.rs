//! Streams in and out, plain or over TLS: one task a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use dashmap::DashMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::UnixTime;

use super::outbox::{FOR_ANYBODY, FOR_KNOWN, Queued, outbox};
use super::tls::TlsIdentity;
use super::{FIRST_BYTES, Inbound, TransportCounters, canonical, keep_alive};
use crate::config::Network;
use crate::sip::event::{ConnectionId, Flow, StreamTransport};
use crate::sip::limits::host_of;

/// How many connections there may be, in all and from one host.
#[derive(Debug, Default)]
pub(super) struct ConnectionLimits {
    open: AtomicUsize,
    per_source: DashMap<IpAddr, usize>,
    last_id: AtomicU64,
}

/// From whom how many connections are taken.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// As many as there may be in all: whole offices and carriers come from one host.
    pub(super) known: Vec<Network>,
    /// From each other host.
    pub(super) per_source: usize,
}

impl Admission {
    fn knows(&self, peer: IpAddr) -> bool {
        self.known.iter().any(|network| network.contains(peer))
    }

    /// How long a connection may be open before anything is said on it, and how much may wait for it. An SBC may
    /// connect long before it calls.
    fn terms(&self, peer: IpAddr) -> (Duration, usize) {
        if self.knows(peer) {
            (IDLE, FOR_KNOWN)
        } else {
            (FIRST_BYTES, FOR_ANYBODY)
        }
    }
}

/// A place taken among the connections; given back when dropped.
struct Place {
    limits: Arc<ConnectionLimits>,
    source: IpAddr,
}

impl Place {
    fn take(limits: &Arc<ConnectionLimits>, admission: &Admission, peer: IpAddr) -> Option<Self> {
        let source = host_of(peer);
        if limits.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            limits.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *limits.per_source.entry(source).or_insert(0) += 1;
        let place = Self {
            limits: Arc::clone(limits),
            source,
        };
        let from_source = limits.per_source.get(&source).map_or(0, |count| *count);
        let most = admission.per_source.max(CONNECTIONS_PER_SOURCE_MIN);
        (admission.knows(peer) || from_source <= most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(mut count) = self.limits.per_source.get_mut(&self.source) {
            *count = count.saturating_sub(1);
        }
        self.limits
            .per_source
            .remove_if(&self.source, |_, count| *count == 0);
    }
}

/// What the connections of one listener, or those that we open, have in common.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) limits: Arc<ConnectionLimits>,
    pub(super) admission: watch::Receiver<Admission>,
    pub(super) inbound: mpsc::Sender<Inbound>,
    pub(super) counters: Arc<TransportCounters>,
    /// `None`: plain TCP.
    pub(super) identity: Option<Arc<TlsIdentity>>,
}

impl Door {
    /// Accepts until the gateway is gone.
    pub(super) async fn accept(self, listener: TcpListener) {
        while !self.inbound.is_closed() {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, canonical(peer)),
                // Out of descriptors, most likely: wait instead of spinning.
                Err(error) => {
                    tracing::warn!(%error, "accepting a SIP connection failed, trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let place = Place::take(&self.limits, &self.admission.borrow(), peer.ip());
        let Some(place) = place else {
            self.counters
                .connections_refused
                .fetch_add(1, Ordering::Relaxed);
            return;
        };
        let id = self.next_connection();
        let door = self.clone();
        tokio::spawn(async move {
            // An error on a connection means that it is over.
            let _ended = match door.identity.clone() {
                None => door.serve_plain(stream, peer, id).await,
                Some(identity) => door.serve_secured(stream, peer, id, &identity).await,
            };
            drop(place);
        });
    }

    pub(super) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.limits.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Carries a connection of ours in a task of its own; the gateway has been told of it then.
    pub(super) async fn carry_out(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        flow: Flow,
    ) -> io::Result<()> {
        let stopped = || io::Error::other("the gateway has stopped");
        let connection = flow.connection().ok_or_else(stopped)?;
        let (writer, outgoing) = outbox(FOR_KNOWN);
        let opened = Inbound::Opened(connection, writer);
        self.inbound.send(opened).await.map_err(|_| stopped())?;
        let inbound = self.inbound.clone();
        tokio::spawn(async move {
            // An error on a connection means that it is over.
            // Nobody has to say anything on it before a call does.
            let _ended = carry(stream, flow, &inbound, outgoing, IDLE).await;
            let _gateway_gone = inbound.send(Inbound::Closed(connection)).await;
        });
        Ok(())
    }

    async fn serve_plain(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        connection: ConnectionId,
    ) -> io::Result<()> {
        keep_alive::prepare(&stream)?;
        let over = StreamTransport::Tcp;
        self.serve(stream, peer, connection, over).await
    }

    /// The gateway hears of a connection only when the handshake is done.
    async fn serve_secured(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        connection: ConnectionId,
        identity: &TlsIdentity,
    ) -> io::Result<()> {
        keep_alive::prepare(&stream)?;
        let held = identity.held();
        let handshake = TlsAcceptor::from(Arc::clone(&held.server)).accept(stream);
        let Ok(Ok(stream)) = timeout(FIRST_BYTES, handshake).await else {
            self.counters
                .handshakes_failed
                .fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if !chain.is_empty() {
            match held.peers.of(chain, UnixTime::now()) {
                Ok(trunks) => {
                    let proven = Inbound::Proven(connection, trunks);
                    if self.inbound.send(proven).await.is_err() {
                        return Ok(());
                    }
                }
                Err(why) => {
                    tracing::info!(%peer, why, "a certificate counts for nothing");
                    let refused = &self.counters.certificates_refused;
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let over = StreamTransport::Tls;
        self.serve(stream, peer, connection, over).await
    }

    /// Carries one connection until either side closes it; the gateway is told in every case.
    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite,
        peer: SocketAddr,
        connection: ConnectionId,
        over: StreamTransport,
    ) -> io::Result<()> {
        let flow = Flow::Stream {
            connection,
            peer,
            over,
        };
        let (patience, most) = self.admission.borrow().terms(peer.ip());
        let (writer, outgoing) = outbox(most);
        if self
            .inbound
            .send(Inbound::Opened(connection, writer))
            .await
            .is_err()
        {
            return Ok(());
        }
        let ended = carry(stream, flow, &self.inbound, outgoing, patience).await;
        let _gateway_gone = self.inbound.send(Inbound::Closed(connection)).await;
        ended
    }
}

/// Until it ends, or is silent for longer than `patience` at first, and than [`IDLE`] later.
async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    flow: Flow,
    inbound: &mpsc::Sender<Inbound>,
    mut outgoing: Queued,
    mut patience: Duration,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        tokio::select! {
            read = timeout(patience, reader.read_buf(&mut buffer)) => {
                if read?? == 0 || inbound.send(Inbound::Stream(flow, buffer.split().freeze())).await.is_err() {
                    return Ok(());
                }
                patience = IDLE;
                buffer.reserve(READ_BYTES);
            }
            message = outgoing.take() => match message {
                Some(bytes) => {
                    timeout(WRITE, async {
                        writer.write_all(&bytes).await?;
                        writer.flush().await
                    })
                    .await??;
                    outgoing.written(&bytes);
                }
                // Who takes nothing doesn't take our farewell either.
                None => return timeout(WRITE, writer.shutdown()).await?,
            },
        }
    }
}

const CONNECTIONS_MAX: usize = 4_096;
/// However few calls one host may have: phones that are silent are connected too.
const CONNECTIONS_PER_SOURCE_MIN: usize = 50;
const READ_BYTES: usize = 4_096;
/// A quiet connection is kept as long as a call may last without a word on it (RFC 5626 peers send
/// keep-alives every two minutes, others nothing at all).
const IDLE: Duration = Duration::from_secs(13 * 3_600);
const WRITE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_so_many_connections_and_a_known_one_as_many_as_there_are() {
        let limits = Arc::default();
        let admission = |per_source| Admission {
            known: vec!["198.51.100.0/24".parse().unwrap()],
            per_source,
        };
        let taken = |peer: &str, per_source| {
            let all: Vec<Place> = (0..300)
                .map_while(|_| Place::take(&limits, &admission(per_source), peer.parse().unwrap()))
                .collect();
            all.len()
        };
        assert_eq!(taken("192.0.2.1", 100), 100);
        assert_eq!(taken("192.0.2.1", 1), CONNECTIONS_PER_SOURCE_MIN);
        assert_eq!(taken("198.51.100.1", 1), 300);
    }

    #[test]
    fn who_is_known_may_connect_long_before_he_calls() {
        let admission = Admission {
            known: vec!["198.51.100.0/24".parse().unwrap()],
            per_source: 1,
        };
        let patience = |peer: &str| admission.terms(peer.parse().unwrap()).0;
        assert_eq!(patience("192.0.2.1"), FIRST_BYTES);
        assert_eq!(patience("198.51.100.1"), IDLE);
    }
}
