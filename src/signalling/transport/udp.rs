//! Datagrams in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::{Inbound, TransportCounters, canonical};
use crate::sip::event::Flow;

/// Receives until the gateway is gone.
pub(super) async fn receive(
    socket: Arc<UdpSocket>,
    index: usize,
    inbound: mpsc::Sender<Inbound>,
    counters: Arc<TransportCounters>,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !inbound.is_closed() {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                let peer = canonical(peer);
                let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                let datagram = Inbound::Datagram(
                    Flow::Udp {
                        socket: index,
                        peer,
                    },
                    bytes,
                );
                if inbound.try_send(datagram).is_err() {
                    counters.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            // An ICMP answer to something we sent: says nothing about this socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::warn!(%error, "receiving SIP over UDP failed, trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

const DATAGRAM_BYTES_MAX: usize = 65_535;
