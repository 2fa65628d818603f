//! What the gateway needs to know of the configuration.

use std::net::IpAddr;

use crate::call::CallLimits;
use crate::config::{Config, Network, Number};
use crate::engine::KnownPeer;
use crate::media::parameters::MediaParameters;
use crate::units::Language;

/// The gateway's part of the configuration.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    pub(super) call_limits: CallLimits,
    pub(super) calls_max: usize,
    pub(super) calls_per_source_max: usize,
    pub(super) trusted: Vec<Network>,
    pub(super) media_address: Option<IpAddr>,
    pub(super) media_shared: Vec<Network>,
    pub(super) numbers: Vec<Number>,
}

/// A dialled number as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialled {
    /// As configured, else as dialled.
    pub(super) number: String,
    /// What it greets in.
    pub(super) language: Language,
    /// It is answered.
    pub(super) served: bool,
}

impl GatewaySettings {
    /// From the configuration; `call_limits` bounds every call.
    #[must_use]
    pub fn new(config: &Config, call_limits: CallLimits) -> Self {
        Self {
            call_limits,
            calls_max: config.limits.calls,
            calls_per_source_max: config.limits.calls_per_source,
            trusted: config.sip.trusted.clone(),
            media_address: config.media.address,
            media_shared: config.media.shared.clone(),
            numbers: config.numbers.clone(),
        }
    }

    /// Finds a dialled user part among the numbers: equal in all digits, whatever stands between them,
    /// with or without the leading `+` or `00`.
    pub(super) fn number_dialled(&self, dialled: &str) -> Dialled {
        let wanted = significant(dialled);
        let found = self
            .numbers
            .iter()
            .find(|number| significant(&number.number) == wanted);
        match found {
            Some(number) => Dialled {
                number: number.number.clone(),
                language: number.language,
                served: true,
            },
            None => Dialled {
                number: dialled.to_owned(),
                language: LANGUAGE,
                served: self.numbers.is_empty(),
            },
        }
    }

    /// Is the address in a trusted network?
    pub(super) fn is_trusted(&self, source: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(source))
    }

    /// The peer's address, where it is known beforehand: signalling and audio both come from networks
    /// whose peers send from what they announce.
    pub(super) fn known_peer(
        &self,
        source: IpAddr,
        parameters: &MediaParameters,
    ) -> Option<KnownPeer> {
        let shares = |ip| self.media_shared.iter().any(|network| network.contains(ip));
        let peer = KnownPeer::of(parameters)?;
        [source, peer.rtp.ip(), peer.rtcp.ip()]
            .into_iter()
            .all(shares)
            .then_some(peer)
    }
}

fn significant(number: &str) -> String {
    let kept: String = number.chars().filter(char::is_ascii_alphanumeric).collect();
    let international = kept.strip_prefix("00").map(str::to_owned);
    international.unwrap_or(kept)
}

/// What numbers that are not configured greet in.
const LANGUAGE: Language = Language::English;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(numbers: &[&str]) -> GatewaySettings {
        let number = |number: &&str| Number {
            number: (*number).to_owned(),
            country: None,
            language: Language::Italian,
            organisation: None,
            label: None,
        };
        let config = Config {
            numbers: numbers.iter().map(number).collect(),
            ..Config::default()
        };
        GatewaySettings::new(&config, CallLimits::default())
    }

    #[test]
    fn a_number_is_found_however_it_was_written() {
        let settings = settings(&["+390612345678", "7000", "demo"]);
        for (dialled, number) in [
            ("+390612345678", "+390612345678"),
            ("00390612345678", "+390612345678"),
            ("390612345678", "+390612345678"),
            ("+39-06.1234-5678", "+390612345678"),
            ("7000", "7000"),
            ("demo", "demo"),
        ] {
            let found = settings.number_dialled(dialled);
            assert_eq!(
                (found.number.as_str(), found.served),
                (number, true),
                "{dialled}"
            );
            assert_eq!(found.language, Language::Italian);
        }
    }

    #[test]
    fn other_numbers_are_served_only_where_none_is_configured() {
        assert!(!settings(&["7000"]).number_dialled("7001").served);
        let any = settings(&[]).number_dialled("whatever");
        assert_eq!((any.number.as_str(), any.served), ("whatever", true));
    }
}
