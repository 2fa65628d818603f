//! Signalling by direct SIP: where it listens, who it is, who is trusted.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::address::{HostPort, ListenAddress, Network, PerFamily, SipTransport};
use crate::config::trunk::{TrunkConfig, TrunkTls};

/// Signalling.
#[derive(Debug, Clone, PartialEq)]
pub struct SipConfig {
    /// Where calls arrive; never empty.
    pub listen: Vec<ListenAddress>,
    /// Certificate and key of what listens over TLS.
    pub tls: Option<TlsFiles>,
    /// Who we are to trunks that ask for a certificate where we connect.
    pub client_tls: Option<TlsFiles>,
    /// The authority of trunks' certificates, where they name none of their own; `None`: those that the system trusts.
    pub client_authority: Option<PathBuf>,
    /// What peers of either family are told to send to; `None`: the address that a call arrived at.
    pub advertise: PerFamily<Option<HostPort>>,
    /// Peers without limits per source.
    pub trusted: Vec<Network>,
    /// How long a call may go on without a sign of life where its peer asks for none (RFC 4028), 90 s at least;
    /// `None`: for ever.
    pub session_timer: Option<Duration>,
    /// Who is asked where trunks' names lead; empty: whom the system is configured for.
    pub dns_servers: Vec<SocketAddr>,
    /// Trunks.
    pub trunks: Vec<TrunkConfig>,
}

/// Who we are over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those it builds on, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl SipConfig {
    /// Is `address` a trusted peer?
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// What is allowed but not wise.
    pub(super) fn warning(&self) -> Option<String> {
        let listens = self
            .listen
            .iter()
            .any(|at| at.transport == SipTransport::Tls);
        let mut trunks = self.trunks.iter();
        let has_files = self.tls.is_some()
            || self.client_tls.is_some()
            || self.client_authority.is_some()
            || trunks.any(|trunk| trunk.tls != TrunkTls::default());
        (has_files && !listens).then(|| {
            "sip.tls, and what begins with tls_ in [[sip.trunk]], has no use: nothing in sip.listen begins with tls:, like \"tls:0.0.0.0:5061\"".to_owned()
        })
    }
}

impl Default for SipConfig {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060));
        let listen = [SipTransport::Udp, SipTransport::Tcp]
            .map(|transport| ListenAddress { transport, address });
        Self {
            listen: listen.to_vec(),
            tls: None,
            client_tls: None,
            client_authority: None,
            advertise: PerFamily::default(),
            trusted: Vec::new(),
            session_timer: None,
            dns_servers: Vec::new(),
            trunks: Vec::new(),
        }
    }
}
