//! Where requests to a name go (RFC 3263), without asking anybody: [`Lookup`] says which DNS records it wants and
//! makes targets of them, [`Targets`] says which of those is used and which are left alone for a while.

mod lookup;
mod targets;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use lookup::{Found, Lookup, NotFound, RECORDS_MAX};
pub use targets::{Fault, LeftAlone, Targets};

use crate::config::SipTransport;

/// What is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// A name or an address; one of IPv6 may stand in brackets.
    pub host: String,
    /// Where it is written, no SRV record is asked for (RFC 3263 section 4.2).
    pub port: Option<u16>,
    /// Over what it may be reached. Of several the name's owner chooses, by NAPTR or by SRV.
    pub transports: Vec<SipTransport>,
}

/// What DNS is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Query {
    /// Which transports there are.
    Naptr(String),
    /// Who serves one of them.
    Srv(String),
    /// A and AAAA.
    Addresses(String),
}

/// What DNS says; no records where there is no such name, or none of that kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// In no order.
    pub records: Vec<Record>,
    /// How long that is true.
    pub ttl: Duration,
}

/// One record, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// RFC 3403.
    Naptr {
        /// The lower, the earlier.
        order: u16,
        /// Among those of one order: the lower, the earlier.
        preference: u16,
        /// `s`: an SRV record comes next.
        flags: String,
        /// `SIP+D2U` and the like.
        service: String,
        /// Whose SRV record that is.
        replacement: String,
    },
    /// RFC 2782.
    Srv {
        /// The lower, the earlier.
        priority: u16,
        /// Among those of one priority: the higher, the more often first.
        weight: u16,
        /// Where it listens.
        port: u16,
        /// Its name; `.` says that there is no such service.
        target: String,
    },
    /// A or AAAA.
    Address(IpAddr),
}

/// One place that a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Over what.
    pub transport: SipTransport,
    /// Where.
    pub at: SocketAddr,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.at)
    }
}

/// RFC 3261 section 19.1.2.
const fn usual_port(transport: SipTransport) -> u16 {
    match transport {
        SipTransport::Udp | SipTransport::Tcp => 5_060,
        SipTransport::Tls => 5_061,
    }
}
