//! How much may be sent to where nobody has shown yet that he is: three times the bytes that came from there, as QUIC
//! allows before an address is validated (RFC 9000 section 8.1), until a report tells that ours arrives (RFC 3550
//! section 6.4.2).

use std::net::IpAddr;

/// What one host has paid for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Consent {
    host: Option<IpAddr>,
    bytes: usize,
    is_given: bool,
    known: Known,
}

/// Who has been sent something: he knows by what name (SSRC) to report on us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Known {
    #[default]
    Nobody,
    At(IpAddr),
    Several,
}

impl Consent {
    /// So many bytes of audio came from there.
    pub(super) fn note_packet(&mut self, host: IpAddr, bytes: usize) {
        if self.host != Some(host) {
            *self = Self {
                host: Some(host),
                known: self.known,
                ..Self::default()
            };
        }
        self.bytes = (self.bytes + 3 * (bytes + HEADERS)).min(BYTES_MAX);
    }

    /// A report came from there, on what only who got it can name.
    pub(super) fn note_report(&mut self, host: IpAddr) {
        self.is_given |= self.host == Some(host) && self.known == Known::At(host);
    }

    /// May a packet be sent there?
    pub(super) fn covers(&self, host: IpAddr) -> bool {
        self.host == Some(host) && (self.is_given || self.bytes > 0)
    }

    /// One was.
    pub(super) fn spend(&mut self, host: IpAddr, bytes: usize) {
        if self.host == Some(host) {
            self.bytes = self.bytes.saturating_sub(bytes + HEADERS);
        }
        self.known = match self.known {
            Known::Nobody => Known::At(host),
            Known::At(known) if known == host => Known::At(host),
            Known::At(_) | Known::Several => Known::Several,
        };
    }
}

/// Of IPv4 and UDP.
const HEADERS: usize = 28;
/// Five seconds of G.711: a telephone may be silent while nobody speaks.
const BYTES_MAX: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// How many packets of 172 bytes it is sent.
    fn sent(consent: &mut Consent, host: IpAddr) -> usize {
        let one = |consent: &mut Consent| consent.covers(host).then(|| consent.spend(host, 172));
        (0..1_000).map_while(|_| one(consent)).count()
    }

    #[test]
    fn a_packet_pays_for_three_of_its_size_and_a_report_for_all() {
        let mut consent = Consent::default();
        assert_eq!(sent(&mut consent, ip(1)), 0);
        consent.note_packet(ip(1), 172);
        assert_eq!(sent(&mut consent, ip(2)), 0, "somebody else");
        assert_eq!(sent(&mut consent, ip(1)), 3);
        (0..500).for_each(|_| consent.note_packet(ip(1), 172));
        assert_eq!(sent(&mut consent, ip(1)), 250);
        consent.note_report(ip(2));
        assert_eq!(sent(&mut consent, ip(1)), 0);
        consent.note_report(ip(1));
        assert_eq!(sent(&mut consent, ip(1)), 1_000);
    }

    #[test]
    fn who_knows_us_from_elsewhere_reports_in_vain() {
        let mut consent = Consent::default();
        consent.note_packet(ip(1), 172);
        consent.note_report(ip(1));
        assert_eq!(
            sent(&mut consent, ip(1)),
            3,
            "nothing was sent yet that he could name"
        );
        consent.note_packet(ip(2), 172);
        assert_eq!(sent(&mut consent, ip(2)), 3);
        for host in [ip(2), ip(1)] {
            consent.note_packet(host, 172);
            consent.note_report(host);
            assert_eq!(sent(&mut consent, host), 3);
        }
    }
}
