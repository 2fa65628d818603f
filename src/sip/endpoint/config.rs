//! What an endpoint is told at its start, and what it counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Network, PerFamily};
use crate::sip::endpoint::trunks::TrunkSettings;
use crate::sip::transaction::Timing;

/// An endpoint's settings.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Sent as Server and User-Agent; nothing by default, since a version only helps attackers.
    pub user_agent: Option<String>,
    /// The `host:port` that peers are told for each UDP socket, by its position in [`Flow::Udp`], and by their
    /// family: one socket may serve both. Where one is missing, empty or unspecified (`0.0.0.0:5060`), a call
    /// is told the address that its caller dialled.
    ///
    /// [`Flow::Udp`]: crate::sip::event::Flow::Udp
    pub udp_contacts: Vec<PerFamily<String>>,
    /// The same of TCP.
    pub tcp_contact: PerFamily<String>,
    /// The same of TLS.
    pub tls_contact: PerFamily<String>,
    /// The address of ours that a peer is reached from. It is asked where no other is known, and where it is
    /// missing, what was dialled is taken.
    pub own_address: Option<fn(IpAddr) -> Option<IpAddr>>,
    /// Networks without source limits, whose small requests may get longer answers.
    pub trusted: Vec<Network>,
    /// Trunks; their calls have no source limits either.
    pub trunks: Vec<TrunkSettings>,
    /// Retransmission timers.
    pub timing: Timing,
    /// Sizes and numbers.
    pub limits: SipLimits,
    /// Retry-After of 503 answers, seconds.
    pub retry_after: u32,
    /// How long an INVITE of ours may ring.
    pub ring_time_max: Duration,
    /// How long a call may go on without a sign of life (RFC 4028), seconds, 90 at least: for calls of which the
    /// peer asks for nothing like that. `None`: those have no such limit.
    pub session_interval: Option<u32>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            user_agent: None,
            udp_contacts: Vec::new(),
            tcp_contact: PerFamily::default(),
            tls_contact: PerFamily::default(),
            own_address: None,
            trusted: Vec::new(),
            trunks: Vec::new(),
            timing: Timing::default(),
            limits: SipLimits::default(),
            retry_after: 10,
            ring_time_max: Duration::from_secs(180),
            session_interval: None,
        }
    }
}

/// The limits of an endpoint; what is beyond is refused and counted.
#[derive(Debug, Clone, Copy)]
pub struct SipLimits {
    /// Bytes in a datagram. No phone sends more than an MTU or two.
    pub datagram_bytes: usize,
    /// Bytes in a message on a stream.
    pub stream_bytes: usize,
    /// Bytes in a message's head.
    pub head_bytes: usize,
    /// Header fields in a message: three times what a long proxy chain makes, and still under a
    /// millisecond of parsing.
    pub headers: usize,
    /// Dialogs at once; new calls beyond get 503. The last quarter is for trusted peers.
    pub dialogs: usize,
    /// Transactions at once; new calls beyond get 503. The last quarter is for trusted peers.
    pub transactions: usize,
    /// New calls per second from one source that is not trusted.
    pub source_invites_per_second: f64,
    /// New calls at once from one source that is not trusted.
    pub source_invites_burst: f64,
    /// New calls per second from all sources together that are not trusted.
    pub newcomers_per_second: f64,
    /// New calls at once from all of those.
    pub newcomers_burst: f64,
    /// Sources that are told apart; more share one allowance.
    pub sources: usize,
}

impl Default for SipLimits {
    fn default() -> Self {
        Self {
            datagram_bytes: 8 * 1024,
            stream_bytes: 65_535,
            head_bytes: 16 * 1024,
            headers: 100,
            dialogs: 10_000,
            transactions: 40_000,
            source_invites_per_second: 20.0,
            source_invites_burst: 200.0,
            newcomers_per_second: 100.0,
            newcomers_burst: 500.0,
            sources: 10_000,
        }
    }
}

/// What an endpoint has counted since its start, and what it holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests that came, duplicates included.
    pub requests: u64,
    /// Responses that came.
    pub responses: u64,
    /// Duplicates of requests that were absorbed.
    pub duplicates: u64,
    /// Messages that we sent again because nobody answered.
    pub retransmissions: u64,
    /// Messages and calls not taken, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Dialogs now.
    pub dialogs: usize,
    /// Transactions now.
    pub transactions: usize,
}

impl Counters {
    pub(crate) fn refuse(&mut self, reason: &'static str) {
        *self.refused.entry(reason).or_default() += 1;
    }
}
