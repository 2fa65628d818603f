//! The RTCP side of a leg: when it reports, whereto, and under which name.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::media::leg::losses::Losses;
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
    pub(super) losses: Losses,
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
            losses: Losses::default(),
            cname: Cname::new(origin.ssrc.0),
        }
    }

    /// A report came from there, from the peer's host. Without a key that `proves` whose it is, the first
    /// one decides, unless one comes from where the peer said: another one on that host is sent nothing.
    pub(super) fn note_source(&mut self, from: SocketAddr, proves: bool) {
        let ip = from.ip().to_canonical();
        let described = SocketAddr::new(ip, from.port()) == self.described;
        if proves || described || self.heard_from.is_none() {
            self.heard_from = Some(from);
        }
    }

    /// Where reports go: where they come from, else where the peer said, unless it has turned
    /// out to be somewhere else (behind a NAT).
    pub(super) fn destination(&self, rtp: SocketAddr) -> Option<SocketAddr> {
        let described = (self.described.ip() == rtp.ip()).then_some(self.described);
        let to = if self.muxed {
            Some(rtp)
        } else {
            self.heard_from.or(described)
        };
        // Nowhere: a hold by `c=0.0.0.0` (RFC 3264 section 8.4).
        to.filter(|to| to.port() != 0 && !to.ip().is_unspecified())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_that_holds_by_an_address_of_zeros_gets_no_reports_there() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut reporting = Reporting {
            schedule: RtcpSchedule::new(crate::media::seeded::start(), 1),
            described: address("0.0.0.0:4001"),
            muxed: false,
            heard_from: None,
            round_trip: None,
            losses: Losses::default(),
            cname: Cname::new(1),
        };
        assert_eq!(reporting.destination(address("0.0.0.0:4000")), None);
        reporting.muxed = true;
        assert_eq!(reporting.destination(address("0.0.0.0:4000")), None);
        let phone = address("192.0.2.7:4000");
        assert_eq!(reporting.destination(phone), Some(phone));
    }
}
