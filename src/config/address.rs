//! Addresses as they are written in a configuration.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What SIP is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SipTransport {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Encrypted streams.
    Tls,
}

impl fmt::Display for SipTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        })
    }
}

/// A text is not a [`SipTransport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be \"udp\", \"tcp\" or \"tls\"")]
pub struct BadSipTransport;

impl FromStr for SipTransport {
    type Err = BadSipTransport;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "udp" => Ok(Self::Udp),
            "tcp" => Ok(Self::Tcp),
            "tls" => Ok(Self::Tls),
            _ => Err(BadSipTransport),
        }
    }
}

/// Where SIP is listened for, written `udp:0.0.0.0:5060` or `tcp:[::]:5060`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// Over what.
    pub transport: SipTransport,
    /// Where; port 0 lets the system choose.
    pub address: SocketAddr,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.address)
    }
}

/// A text is not a [`ListenAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be udp:, tcp: or tls: before ADDRESS:PORT, like \"udp:0.0.0.0:5060\" or \"tls:[::]:5061\""
)]
pub struct BadListenAddress;

impl FromStr for ListenAddress {
    type Err = BadListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (transport, address) = text.split_once(':').ok_or(BadListenAddress)?;
        let transport = transport.parse().map_err(|_| BadListenAddress)?;
        let address = address.parse().map_err(|_| BadListenAddress)?;
        Ok(Self { transport, address })
    }
}

/// UDP ports for audio, written `20000-29999`; a call takes an even one and the odd one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last; it belongs to the range.
    pub last: u16,
}

impl PortRange {
    /// As a range.
    #[must_use]
    pub const fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// How many calls fit: pairs of an even port and the next.
    #[must_use]
    pub const fn pairs(self) -> usize {
        let first_even = self.first as usize + self.first as usize % 2;
        (self.last as usize + 1).saturating_sub(first_even) / 2
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// A text is not a [`PortRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be FIRST-LAST within 1024-65535 and hold an even port with the one after it, like \"20000-29999\""
)]
pub struct BadPortRange;

impl FromStr for PortRange {
    type Err = BadPortRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').ok_or(BadPortRange)?;
        let port = |digits: &str| digits.trim().parse().map_err(|_| BadPortRange);
        let range = Self {
            first: port(first)?,
            last: port(last)?,
        };
        if range.first >= 1024 && range.pairs() > 0 {
            Ok(range)
        } else {
            Err(BadPortRange)
        }
    }
}

/// One thing for peers who come by IPv4, and one for those who come by IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerFamily<T> {
    /// For the former.
    pub v4: T,
    /// For the latter.
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// What is for this peer; an IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub const fn of(&self, peer: IpAddr) -> &T {
        match peer.to_canonical() {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        }
    }
}

impl<T: Clone> PerFamily<T> {
    /// The same for all.
    pub fn both(of: T) -> Self {
        Self {
            v4: of.clone(),
            v6: of,
        }
    }
}

/// Addresses that can be reached, written `192.0.2.7`, `2001:db8::7` or both with a comma between.
impl FromStr for PerFamily<Option<IpAddr>> {
    type Err = BadAddresses;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut all = Self::default();
        for part in text.split(',') {
            let ip: IpAddr = part.trim().parse().map_err(|_| BadAddresses)?;
            let place = match ip {
                IpAddr::V4(_) => &mut all.v4,
                IpAddr::V6(_) => &mut all.v6,
            };
            if ip.is_unspecified() || place.replace(ip).is_some() {
                return Err(BadAddresses);
            }
        }
        Ok(all)
    }
}

/// A host's name, which is for all peers, or an address for each family, written like [`HostPort`].
impl FromStr for PerFamily<Option<HostPort>> {
    type Err = BadAdvertised;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Result<Vec<HostPort>, _> =
            text.split(',').map(|part| part.trim().parse()).collect();
        let parts = parts.map_err(|_| BadAdvertised)?;
        if let [name] = parts.as_slice()
            && name.ip().is_none()
        {
            return Ok(Self::both(Some(name.clone())));
        }
        let mut all = Self::default();
        for part in parts {
            let place = match part.ip().ok_or(BadAdvertised)? {
                IpAddr::V4(_) => &mut all.v4,
                IpAddr::V6(_) => &mut all.v6,
            };
            if place.replace(part).is_some() {
                return Err(BadAdvertised);
            }
        }
        Ok(all)
    }
}

impl super::Config {
    /// Is audio to be received by IPv6 too? Only where something else is, so that no port is open there
    /// that nobody knows of.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        let mut listen = self.sip.listen.iter();
        listen.any(|at| at.address.is_ipv6()) || self.media.address.v6.is_some()
    }
}

/// A text is not what peers can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a host name or an address, with or without a port, like \"sip.example.org\" or \"192.0.2.7:5060\", or an address of each family, like \"192.0.2.7, [2001:db8::7]\""
)]
pub struct BadAdvertised;

/// A text is not a reachable address, or one for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an address that callers can reach, like \"192.0.2.7\", or one of each family, like \"192.0.2.7, 2001:db8::7\""
)]
pub struct BadAddresses;

/// A network, written `192.0.2.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Does `address` lie in it? An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                (network.to_bits() ^ address.to_bits()) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A text is not a [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a network, like \"192.0.2.7\" or \"192.0.2.0/24\"")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = text
            .split_once('/')
            .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .map_or(Ok(longest), str::parse)
            .map_err(|_| BadNetwork)?;
        if prefix <= longest {
            Ok(Self { address, prefix })
        } else {
            Err(BadNetwork)
        }
    }
}

/// A host, with or without a port: `HOST` or `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; IPv6 in brackets, as SIP writes it.
    pub host: String,
    /// A port other than the usual one.
    pub port: Option<u16>,
}

impl HostPort {
    /// The address, where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// A text is not a [`HostPort`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a host name or an address, with or without a port, like \"sip.example.org\", \"192.0.2.7:5060\" or \"[2001:db8::7]\""
)]
pub struct BadHostPort;

impl FromStr for HostPort {
    type Err = BadHostPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(text).ok_or(BadHostPort)?;
        if !is_host(host) {
            return Err(BadHostPort);
        }
        let port = port
            .map(str::parse::<NonZeroU16>)
            .transpose()
            .map_err(|_| BadHostPort)?;
        Ok(Self {
            host: host.to_owned(),
            port: port.map(NonZeroU16::get),
        })
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT` into host and port.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (host, rest) = text.split_at_checked(end)?;
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    Some(
        text.split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    )
}

/// A host as SIP writes it (RFC 3261 section 25.1, `host`).
pub(super) fn is_host(host: &str) -> bool {
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_round_trip() {
        for text in [
            "udp:0.0.0.0:5060",
            "tcp:[::]:5060",
            "tls:0.0.0.0:5061",
            "udp:127.0.0.1:0",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "5060",
            "udp:5060",
            "udp:localhost:5060",
            "sctp:0.0.0.0:5060",
            "udp:0.0.0.0:70000",
        ] {
            assert_eq!(bad.parse::<ListenAddress>(), Err(BadListenAddress), "{bad}");
        }
    }

    #[test]
    fn a_port_range_counts_pairs_that_start_even() {
        let pairs = |text: &str| text.parse::<PortRange>().map(PortRange::pairs);
        assert_eq!(pairs("20000-29999"), Ok(5000));
        assert_eq!(pairs("20001-20003"), Ok(1));
        assert_eq!(pairs("65534-65535"), Ok(1));
        for bad in [
            "20001-20002",
            "20000",
            "29999-20000",
            "80-90",
            "20000-70000",
            "a-b",
        ] {
            assert_eq!(pairs(bad), Err(BadPortRange), "{bad}");
        }
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let inside = |network: &str, address: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(address.parse().unwrap())
        };
        assert!(inside("192.0.2.0/24", "192.0.2.255"));
        assert!(!inside("192.0.2.0/24", "192.0.3.0"));
        assert!(inside("192.0.2.7", "192.0.2.7"));
        assert!(!inside("192.0.2.7", "192.0.2.8"));
        assert!(inside("0.0.0.0/0", "203.0.113.9"));
        assert!(inside("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!inside("::/0", "192.0.2.1"));
        assert!(inside("192.0.2.0/24", "::ffff:192.0.2.1"));
        for bad in [
            "",
            "192.0.2.0/33",
            "::/129",
            "192.0.2/24",
            "example.org",
            "10.0.0.0/",
        ] {
            assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
        }
    }

    #[test]
    fn what_is_advertised_is_a_host_with_or_without_a_port() {
        let read = |text: &str| text.parse::<HostPort>().map(|a| (a.host, a.port));
        assert_eq!(
            read("sip.example.org"),
            Ok(("sip.example.org".to_owned(), None))
        );
        assert_eq!(
            read("192.0.2.7:5080"),
            Ok(("192.0.2.7".to_owned(), Some(5080)))
        );
        assert_eq!(
            read("[2001:db8::7]:5080"),
            Ok(("[2001:db8::7]".to_owned(), Some(5080)))
        );
        for bad in [
            "",
            "a b",
            "host:",
            "host:0",
            "host:x",
            "2001:db8::7",
            "[::1",
            "[::1]5060",
            "-a.org",
            "sip:host",
        ] {
            assert_eq!(read(bad), Err(BadHostPort), "{bad}");
        }
    }
}
