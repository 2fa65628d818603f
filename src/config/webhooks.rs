//! Where webhooks may lead besides the internet.

use std::str::FromStr;

use super::Network;

/// One of `webhooks.allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedTarget {
    /// Every address of a network.
    Network(Network),
    /// A host of this name, whatever its address.
    Host(String),
}

/// A text is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a network or a host's name, like \"192.0.2.0/24\" or \"portal.internal\"")]
pub struct BadTarget;

impl FromStr for AllowedTarget {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        let is_label = |label: &str| {
            let mut bytes = label.bytes();
            !label.is_empty()
                && label.len() <= 63
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        // A number at the end makes it an address that isn't written well.
        let last_is_name = !text
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
        if text.len() <= 253 && last_is_name && text.split('.').all(is_label) {
            Ok(Self::Host(text.to_ascii_lowercase()))
        } else {
            Err(BadTarget)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_names_are_told_apart() {
        let is_host = |text: &str| matches!(text.parse(), Ok(AllowedTarget::Host(_)));
        let is_network = |text: &str| matches!(text.parse(), Ok(AllowedTarget::Network(_)));
        assert!(is_network("192.0.2.0/24") && is_network("::1") && is_network("127.0.0.1"));
        assert!(is_host("Portal.internal") && is_host("localhost"));
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "a b",
            "https://x",
            "x:80",
            "*.internal",
            "a..b",
        ] {
            assert!(bad.parse::<AllowedTarget>().is_err(), "{bad}");
        }
    }
}
