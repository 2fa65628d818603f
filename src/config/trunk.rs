//! A trunk: whom calls come from by direct SIP, and who is told where we are.

use crate::config::address::{HostPort, Network, SipTransport};
use crate::config::secret::Secret;

/// One `[[sip.trunk]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkConfig {
    /// What it is called in logs, metrics and call records.
    pub name: String,
    /// Networks that its calls come from, beside its registrar's address.
    pub peers: Vec<Network>,
    /// Who is told where we are.
    pub registrar: Option<RegistrarConfig>,
    /// Encrypted audio.
    pub srtp: SrtpPolicy,
    /// P-Asserted-Identity from there says who calls (RFC 3325 section 9.1).
    pub trust_identity: bool,
    /// The numbers that it brings; others are not answered. Empty: all.
    pub numbers: Vec<String>,
}

/// Who is told where we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrarConfig {
    /// Where it is.
    pub host: HostPort,
    /// Over what.
    pub transport: SipTransport,
    /// Who we are there.
    pub user: String,
    /// For its challenges; `None`: it knows us by our address.
    pub password: Option<Secret>,
}

/// Whether a trunk's calls have encrypted audio (SRTP with keys by SDES, RFC 4568).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SrtpPolicy {
    /// Calls that offer nothing else are refused.
    Off,
    /// As the call offers it.
    #[default]
    Offer,
    /// Calls without are refused.
    Require,
}

impl SrtpPolicy {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "offer" => Ok(Self::Offer),
            "require" => Ok(Self::Require),
            _ => Err("must be \"off\", \"offer\" or \"require\"".to_owned()),
        }
    }
}
