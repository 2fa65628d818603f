//! Streams in and out: one task a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dashmap::DashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{FIRST_BYTES, Inbound, TransportCounters};
use crate::sip::event::{ConnectionId, Flow};

/// How many connections there may be, in all and from one address.
#[derive(Debug, Default)]
pub(super) struct ConnectionLimits {
    open: AtomicUsize,
    per_source: DashMap<IpAddr, usize>,
    last_id: AtomicU64,
}

/// A place taken among the connections; given back when dropped.
struct Place {
    limits: Arc<ConnectionLimits>,
    source: IpAddr,
}

impl Place {
    fn take(limits: &Arc<ConnectionLimits>, source: IpAddr) -> Option<Self> {
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
        (from_source <= CONNECTIONS_PER_SOURCE_MAX).then_some(place)
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

/// Binds with address reuse, so that a restart does not wait for old connections.
pub(super) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

/// Accepts until the gateway is gone.
pub(super) async fn accept(
    listener: TcpListener,
    limits: Arc<ConnectionLimits>,
    inbound: mpsc::Sender<Inbound>,
    counters: Arc<TransportCounters>,
) {
    while !inbound.is_closed() {
        match listener.accept().await {
            Ok((stream, peer)) => match Place::take(&limits, peer.ip()) {
                Some(place) => {
                    let id = ConnectionId(limits.last_id.fetch_add(1, Ordering::Relaxed) + 1);
                    tokio::spawn(serve(
                        stream,
                        Flow::Tcp {
                            connection: id,
                            peer,
                        },
                        id,
                        place,
                        inbound.clone(),
                    ));
                }
                None => {
                    counters.connections_refused.fetch_add(1, Ordering::Relaxed);
                }
            },
            // Out of descriptors, most likely: wait instead of spinning.
            Err(error) => {
                tracing::warn!(%error, "accepting a SIP connection failed, trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries one connection until either side closes it.
async fn serve(
    stream: TcpStream,
    flow: Flow,
    id: ConnectionId,
    place: Place,
    inbound: mpsc::Sender<Inbound>,
) {
    let (writer, outgoing) = mpsc::channel(OUTGOING_QUEUE);
    if inbound.send(Inbound::Opened(id, writer)).await.is_err() {
        return;
    }
    // An error on a connection means that it is over; the gateway is told in every case.
    let _ended = carry(stream, flow, &inbound, outgoing).await;
    drop(place);
    let _gateway_gone = inbound.send(Inbound::Closed(id)).await;
}

async fn carry(
    stream: TcpStream,
    flow: Flow,
    inbound: &mpsc::Sender<Inbound>,
    mut outgoing: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut patience = FIRST_BYTES;
    loop {
        tokio::select! {
            read = timeout(patience, reader.read_buf(&mut buffer)) => {
                if read?? == 0 || inbound.send(Inbound::Stream(flow, buffer.split().freeze())).await.is_err() {
                    return Ok(());
                }
                patience = IDLE;
                buffer.reserve(READ_BYTES);
            }
            message = outgoing.recv() => match message {
                Some(bytes) => timeout(WRITE, writer.write_all(&bytes)).await??,
                None => return Ok(()),
            },
        }
    }
}

const CONNECTIONS_MAX: usize = 4_096;
const CONNECTIONS_PER_SOURCE_MAX: usize = 50;
const OUTGOING_QUEUE: usize = 256;
const READ_BYTES: usize = 4_096;
/// A quiet connection is kept as long as a call may last without a word on it (RFC 5626 peers send
/// keep-alives every two minutes, others nothing at all).
const IDLE: Duration = Duration::from_secs(13 * 3_600);
const WRITE: Duration = Duration::from_secs(10);
