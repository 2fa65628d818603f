//! The RTCP side of a leg: when it reports, whereto, and under which name.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::media::parameters::MediaParameters;
use crate::media::rtcp::RtcpSchedule;
use crate::media::sender::RtpOrigin;

/// The RTCP side of a leg.
pub(super) struct Reporting {
    pub(super) schedule: RtcpSchedule,
    pub(super) described: SocketAddr,
    pub(super) muxed: bool,
    pub(super) heard_from: Option<SocketAddr>,
    pub(super) round_trip: Option<Duration>,
    pub(super) cname: Cname,
}

impl Reporting {
    pub(super) fn new(now: Instant, parameters: &MediaParameters, origin: RtpOrigin) -> Self {
        Self {
            schedule: RtcpSchedule::new(now, u64::from(origin.ssrc.0)),
            described: parameters.remote_rtcp,
            muxed: parameters.remote_rtcp == parameters.remote_rtp,
            heard_from: None,
            round_trip: None,
            cname: Cname::new(origin.ssrc.0),
        }
    }

    /// Where reports go: where they come from, else where the peer said, unless it has turned
    /// out to be somewhere else (behind a NAT).
    pub(super) fn destination(&self, rtp: SocketAddr) -> Option<SocketAddr> {
        if self.muxed {
            return Some(rtp);
        }
        let described = (self.described.ip() == rtp.ip() && self.described.port() != 0)
            .then_some(self.described);
        self.heard_from.or(described)
    }
}

/// A short-term persistent CNAME (RFC 7022 section 4.2): random, nothing personal.
pub(super) struct Cname([u8; 8]);

impl Cname {
    pub(super) fn new(random: u32) -> Self {
        let mut digits = [0; 8];
        for (position, digit) in digits.iter_mut().enumerate() {
            let nibble = random.rotate_left(4 * position as u32 + 4) & 0xF;
            *digit = b"0123456789abcdef"[nibble as usize];
        }
        Self(digits)
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}
