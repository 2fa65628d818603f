//! What peers are told to send to: our Contact, and our Via in requests.

use std::net::SocketAddr;

use crate::sip::address::{NameAddr, Target};
use crate::sip::endpoint::Endpoint;
use crate::sip::event::{Flow, StreamTransport};
use crate::sip::message::{self, Request};

impl Endpoint {
    /// `host:port` that peers on this flow reach us by, where it is configured.
    pub(super) fn advertised(&self, flow: Flow) -> Option<&str> {
        self.contact(flow).filter(|host_port| {
            !host_port.is_empty()
                && message::host_ip(host_port).is_none_or(|ip| !ip.is_unspecified())
        })
    }

    /// What our Contact says: as configured, else the address the caller dialled, else (tel) the hop
    /// that it was routed to. Where a proxy stands between, what was dialled may be the proxy's own address:
    /// then ours, as the proxy reaches it.
    pub(super) fn host_port(&self, flow: Flow, request: &Request, target: &Target) -> String {
        if let Some(host_port) = self.advertised(flow) {
            return host_port.to_owned();
        }
        if let Some(own) = is_proxied(request).then(|| self.reached_at(flow)).flatten() {
            return own.to_string();
        }
        let routed = || {
            let route = NameAddr::parse(request.headers.list("Route").next()?)?;
            Target::parse(&route.uri).ok()
        };
        [Some(target.clone()), routed()]
            .into_iter()
            .flatten()
            .map(|target| target.host_port)
            .find(|host_port| !host_port.is_empty())
            .unwrap_or_else(|| "voicebridge.invalid".to_owned())
    }

    /// The address that the peer of a flow reaches us at, with the port that listens there.
    fn reached_at(&self, flow: Flow) -> Option<SocketAddr> {
        let bound: SocketAddr = self.contact(flow)?.parse().ok()?;
        let own = self.config.own_address?;
        Some(SocketAddr::new(
            own(flow.peer().ip().to_canonical())?,
            bound.port(),
        ))
    }

    fn contact(&self, flow: Flow) -> Option<&str> {
        let contacts = match flow {
            Flow::Udp { socket, .. } => self.config.udp_contacts.get(socket),
            Flow::Stream {
                over: StreamTransport::Tcp,
                ..
            } => Some(&self.config.tcp_contact),
            Flow::Stream {
                over: StreamTransport::Tls,
                ..
            } => Some(&self.config.tls_contact),
        };
        contacts.map(|contacts| contacts.of(flow.peer().ip()).as_str())
    }
}

/// Did somebody pass it on, who may have left the request line as it was dialled?
fn is_proxied(request: &Request) -> bool {
    let headers = &request.headers;
    headers.first("Record-Route").is_some() || headers.list("Via").nth(1).is_some()
}
