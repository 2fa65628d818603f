//! Where webhooks may lead: out into the internet, and inside only where the operator says so. An organisation
//! names the address, so it could name the database's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::booking::change::FieldError;
use crate::config::{AllowedTarget, Network};

/// What `webhooks.allow` says.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    networks: Vec<Network>,
    hosts: Vec<String>,
}

impl Reach {
    /// These besides what is public.
    #[must_use]
    pub fn new(allowed: &[AllowedTarget]) -> Self {
        let mut reach = Self::default();
        for target in allowed {
            match target {
                AllowedTarget::Network(network) => reach.networks.push(*network),
                AllowedTarget::Host(host) => reach.hosts.push(host.clone()),
            }
        }
        reach
    }

    /// Reads where a webhook is to lead. A name is looked at again whenever it is resolved.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, text: &str) -> Result<Url, FieldError> {
        let wrong = |message: &str| FieldError::new("url", "invalid", message);
        let url = Url::parse(text)
            .ok()
            .filter(|_| text.len() <= URL_BYTES_MAX);
        let url = url
            .ok_or_else(|| wrong("must be a URL like https://host/path, of at most 2,000 bytes"))?;
        let host = url.host().ok_or_else(|| wrong("must name a host"))?;
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(wrong("must hold no user, no password and no fragment"));
        }
        let literal = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let inside = "leads where webhooks may not lead; the operator allows hosts and networks in webhooks.allow";
        if literal.is_some_and(|address| !self.may_connect(&url, address)) {
            return Err(FieldError::new("url", "not_allowed", inside));
        }
        let is_named = self.is_named(&url) || literal.is_some();
        match url.scheme() {
            "https" => Ok(url),
            "http" if is_named && literal.is_none_or(|address| self.is_allowed(address)) => Ok(url),
            _ => Err(wrong(
                "must begin with https://; http:// is only for hosts and networks in webhooks.allow",
            )),
        }
    }

    /// May this URL be sent to at this address?
    #[must_use]
    pub fn may_connect(&self, url: &Url, address: IpAddr) -> bool {
        let trusted = self.is_named(url) || self.is_allowed(address);
        trusted || (url.scheme() == "https" && is_public(address))
    }

    fn is_named(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        self.hosts
            .iter()
            .any(|named| named.eq_ignore_ascii_case(host))
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(address))
    }
}

/// Is it an address that anybody on the internet may have? By IANA's registries of special-purpose addresses.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |network: [u8; 4], prefix: u32| {
        let mask = u32::MAX << (32 - prefix);
        (address.to_bits() ^ u32::from_be_bytes(network)) & mask == 0
    };
    !SPECIAL_V4
        .iter()
        .any(|(network, prefix)| within(*network, *prefix))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    match (first, second) {
        // 6to4 carries an IPv4 address that a router would send to.
        (0x2002, _) => is_public_v4(Ipv4Addr::from_bits(
            u32::from(second) << 16 | u32::from(third),
        )),
        // Teredo, benchmarks, ORCHID; documentation.
        (0x2001, 0..=0x01FF | 0x0DB8) | (0x3FFF, 0..=0x0FFF) => false,
        // NAT64 does so too, in its last half (RFC 6052).
        (0x0064, 0xFF9B) => {
            address.to_bits() & (u128::from(u64::MAX) << 32) == NAT64 & (u128::from(u64::MAX) << 32)
                && is_public_v4(Ipv4Addr::from_bits(
                    (address.to_bits() & 0xFFFF_FFFF) as u32,
                ))
        }
        _ => first & 0xE000 == 0x2000,
    }
}

const URL_BYTES_MAX: usize = 2_000;
const NAT64: u128 = 0x0064_FF9B << 96;
/// This host, private, shared, loopback, link-local, protocol assignments, documentation, 6to4 relays,
/// benchmarks, multicast, reserved.
const SPECIAL_V4: [([u8; 4], u32); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(allowed: &[&str]) -> Reach {
        let allowed: Vec<AllowedTarget> =
            allowed.iter().map(|text| text.parse().unwrap()).collect();
        Reach::new(&allowed)
    }

    fn reads(reach: &Reach, url: &str) -> bool {
        reach.read(url).is_ok()
    }

    #[test]
    fn nothing_inside_is_named_in_whatever_way_it_is_written() {
        let reach = reach(&[]);
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://0x7f.1/",
            "https://127.1/",
            "https://0/",
            "https://10.1.2.3/",
            "https://172.31.0.1/",
            "https://192.168.0.1/",
            "https://169.254.169.254/",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[64:ff9b:1::1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:db8::1]/",
            "https://[ff02::1]/",
            "https://255.255.255.255/",
            "https://224.0.0.1/",
            "https://[::7f00:1]/",
            "https://[fec0::1]/",
            "https://[100::1]/",
        ] {
            assert!(!reads(&reach, url), "{url}");
        }
        for url in [
            "https://portal.example.org/hook?x=1",
            "https://93.184.216.34/",
            "https://[2606:4700::1111]:8443/",
        ] {
            assert!(reads(&reach, url), "{url}");
        }
    }

    #[test]
    fn only_https_and_nothing_but_where_to() {
        let reach = reach(&[]);
        for url in [
            "http://portal.example.org/",
            "ftp://portal.example.org/",
            "https://user@portal.example.org/",
            "https://portal.example.org/#x",
            "https://",
            "portal.example.org",
            "",
            "file:///etc/passwd",
            &format!("https://portal.example.org/{}", "x".repeat(2_000)),
        ] {
            assert!(!reads(&reach, url), "{url}");
        }
    }

    #[test]
    fn what_the_operator_allows_may_be_inside_and_plain() {
        let reach = reach(&["192.0.2.0/24", "Portal.internal", "fd00::/8"]);
        for url in [
            "http://192.0.2.7:8080/",
            "http://portal.INTERNAL/x",
            "https://[fd00::1]/",
        ] {
            assert!(reads(&reach, url), "{url}");
        }
        assert!(!reads(&reach, "http://192.0.3.7/") && !reads(&reach, "http://other.internal/"));
        let at = |url: &str, address: &str| {
            reach.may_connect(&url.parse().unwrap(), address.parse().unwrap())
        };
        assert!(at("http://portal.internal/", "10.0.0.1"), "by name");
        assert!(
            at("https://rebound.example.org/", "192.0.2.1"),
            "by network"
        );
        assert!(!at("https://rebound.example.org/", "10.0.0.1"));
        assert!(!at("https://rebound.example.org/", "::ffff:127.0.0.1"));
        assert!(at("https://portal.example.org/", "93.184.216.34"));
        assert!(
            !at("http://portal.example.org/", "93.184.216.34"),
            "never plain"
        );
    }
}
