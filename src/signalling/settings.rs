//! What the gateway needs to know of the configuration.

use std::net::IpAddr;

use crate::call::CallLimits;
use crate::config::{Network, Number};
use crate::units::Language;

/// The gateway's part of the configuration.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The limits of every call.
    pub call_limits: CallLimits,
    /// Calls at once, in all.
    pub calls_max: usize,
    /// Calls at once from one address that is not trusted.
    pub calls_per_source_max: usize,
    /// Networks without source limits.
    pub trusted: Vec<Network>,
    /// What SDP names as our address; `None`: the one that faces the peer.
    pub media_address: Option<IpAddr>,
    /// The numbers served; empty: every dialled user part but an emergency number.
    pub numbers: Vec<Number>,
    /// The language of numbers that are not configured.
    pub language: Language,
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
    /// Finds a dialled user part among the numbers: equal in all digits, whatever stands between them,
    /// with or without the leading `+` or `00`.
    pub(super) fn number_dialled(&self, dialled: &str) -> Dialled {
        let wanted = significant(dialled);
        let found = self.numbers.iter().find(|number| significant(&number.number) == wanted);
        match found {
            Some(number) => Dialled { number: number.number.clone(), language: number.language, served: true },
            None => Dialled {
                number: dialled.to_owned(),
                language: self.language,
                served: self.numbers.is_empty(),
            },
        }
    }

    /// Is the address in a trusted network?
    pub(super) fn is_trusted(&self, source: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(source))
    }
}

fn significant(number: &str) -> String {
    let kept: String = number.chars().filter(char::is_ascii_alphanumeric).collect();
    let international = kept.strip_prefix("00").map(str::to_owned);
    international.unwrap_or(kept)
}
