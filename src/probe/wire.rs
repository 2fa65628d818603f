//! The phone's SIP socket: one flow to one server, over UDP or TCP.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};

use super::ProbeError;
use crate::sip::event::{ConnectionId, Flow, StreamTransport};

/// Where to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The whole URI, as it goes into the request line.
    pub uri: String,
    host: String,
    port: u16,
    tcp: bool,
}

impl Target {
    /// Reads `sip:user@host[:port][;transport=udp|tcp]`; the host may be an IPv6 address in brackets.
    ///
    /// # Errors
    /// [`ProbeError::Target`].
    pub fn parse(uri: &str) -> Result<Self, ProbeError> {
        let rest = uri.strip_prefix("sip:").ok_or(ProbeError::Target)?;
        let (place, parameters) = rest.split_once(';').unwrap_or((rest, ""));
        let host_port = place
            .rsplit_once('@')
            .map_or(place, |(_, host_port)| host_port);
        let (host, port) = split_port(host_port).ok_or(ProbeError::Target)?;
        let tcp = parameters
            .split(';')
            .any(|parameter| parameter.eq_ignore_ascii_case("transport=tcp"));
        Ok(Self {
            uri: uri.to_owned(),
            host: host.to_owned(),
            port,
            tcp,
        })
    }

    async fn resolve(&self) -> Result<SocketAddr, ProbeError> {
        let mut found = lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(ProbeError::Resolve)?;
        found
            .next()
            .ok_or_else(|| ProbeError::Resolve(io::ErrorKind::NotFound.into()))
    }
}

fn split_port(host_port: &str) -> Option<(&str, u16)> {
    let (host, port) = match host_port.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match host_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_port, None),
        },
    };
    let port = port.map_or(Ok(SIP_PORT), str::parse).ok()?;
    (!host.is_empty()).then_some((host, port))
}

/// The socket.
#[derive(Debug)]
pub(super) enum Wire {
    Udp(UdpSocket, Vec<u8>),
    Tcp(TcpStream, BytesMut),
}

impl Wire {
    /// Opens it; our own address and the flow that the SIP endpoint knows it by.
    pub(super) async fn open(target: &Target) -> Result<(Self, SocketAddr, Flow), ProbeError> {
        let peer = target.resolve().await?;
        if target.tcp {
            let stream = TcpStream::connect(peer)
                .await
                .map_err(ProbeError::Connect)?;
            let local = stream.local_addr().map_err(ProbeError::Connect)?;
            let flow = Flow::Stream {
                connection: ConnectionId(1),
                peer,
                over: StreamTransport::Tcp,
            };
            return Ok((Self::Tcp(stream, BytesMut::new()), local, flow));
        }
        let any: SocketAddr = if peer.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let socket = UdpSocket::bind(any).await.map_err(ProbeError::Connect)?;
        socket.connect(peer).await.map_err(ProbeError::Connect)?;
        let local = socket.local_addr().map_err(ProbeError::Connect)?;
        Ok((
            Self::Udp(socket, vec![0; DATAGRAM_BYTES_MAX]),
            local,
            Flow::Udp { socket: 0, peer },
        ))
    }

    pub(super) async fn receive(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Udp(socket, buffer) => {
                let length = socket.recv(buffer).await?;
                Ok(Bytes::copy_from_slice(
                    buffer.get(..length).unwrap_or_default(),
                ))
            }
            Self::Tcp(stream, buffer) => {
                if stream.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                Ok(buffer.split().freeze())
            }
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket, _) => socket.send(bytes).await.map(|_| ()),
            Self::Tcp(stream, _) => stream.write_all(bytes).await,
        }
    }
}

const SIP_PORT: u16 = 5060;
const DATAGRAM_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_host_port_and_transport() {
        let parsed = |uri| Target::parse(uri).map(|t| (t.host, t.port, t.tcp)).ok();
        assert_eq!(
            parsed("sip:7000@127.0.0.1"),
            Some(("127.0.0.1".into(), 5060, false))
        );
        assert_eq!(
            parsed("sip:7000@host:5080;transport=TCP"),
            Some(("host".into(), 5080, true))
        );
        assert_eq!(
            parsed("sip:7000@[::1]:5070"),
            Some(("::1".into(), 5070, false))
        );
        for bad in ["7000@host", "sip:", "sip:x@host:port", "sip:x@[::1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
