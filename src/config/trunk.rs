//! A trunk: whom calls come from by direct SIP, who is told where we are, and by whom we call people.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::TlsFiles;
use crate::config::address::{HostPort, Network, SipTransport};
use crate::config::secret::Secret;

/// One `[[sip.trunk]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkConfig {
    /// What it is called in logs, metrics and call records.
    pub name: String,
    /// Networks that its calls come from, beside its registrar's address.
    pub peers: Vec<Network>,
    /// Who is told where we are.
    pub registrar: Option<RegistrarConfig>,
    /// How it calls people; `None`: it doesn't.
    pub dial: Option<TrunkDial>,
    /// Over what it may be reached: never empty; of several its DNS records choose.
    pub transports: Vec<SipTransport>,
    /// Certificates, ours and its.
    pub tls: TrunkTls,
    /// Who we are there.
    pub user: Option<String>,
    /// For its challenges; `None`: it knows us by our address.
    pub password: Option<Secret>,
    /// What the password is for; `None`: for the registrar's realm.
    pub realm: Option<String>,
    /// The same for whoever takes our calls there; `None`: it is the same.
    pub dial_realm: Option<String>,
    /// What its calls must prove to know (they are challenged); `None`: its address is enough.
    pub proves: Option<TrunkProof>,
    /// How often it is asked whether it is there; `None`: never.
    pub qualify_frequency: Option<Duration>,
    /// Encrypted audio.
    pub srtp: SrtpPolicy,
    /// P-Asserted-Identity from there says who calls (RFC 3325 section 9.1).
    pub trust_identity: bool,
    /// How many calls it may have at once, both ways together; `None`: as many as there is room for.
    pub calls: Option<usize>,
    /// The numbers that it brings; others are not answered. Empty: all.
    pub numbers: Vec<String>,
}

/// What whoever calls by a trunk must prove to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkProof {
    /// The user.
    pub user: String,
    /// His password.
    pub password: Secret,
    /// By which he may prove it, the one that is liked best first; never empty.
    pub algorithms: Vec<DigestAlgorithm>,
}

/// An algorithm of Digest authentication that is challenged with (RFC 8760).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// What is to be used.
    Sha256,
    /// What old telephones know.
    Md5,
}

impl DigestAlgorithm {
    /// Its name in a challenge.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut all = [Self::Sha256, Self::Md5].into_iter();
        all.find(|one| one.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| "must be \"SHA-256\" or \"MD5\"".to_owned())
    }
}

/// By which certificates a trunk and we know each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrunkTls {
    /// Who we are where it asks; `None`: what [`SipConfig::client_tls`] says.
    ///
    /// [`SipConfig::client_tls`]: crate::config::SipConfig::client_tls
    pub client: Option<TlsFiles>,
    /// The authority that its certificates chain to, where we connect and where it does.
    pub authority: Option<PathBuf>,
    /// Who it is in the certificate that it calls us with (RFC 5922); empty: it isn't known by one.
    pub names: Vec<String>,
    /// Its calls come with that certificate, or are refused.
    pub required: bool,
}

/// Who is told where we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrarConfig {
    /// Where it is.
    pub host: HostPort,
    /// Who we are there.
    pub user: String,
}

/// How a trunk calls people: `sip:{number}@sip.example.org`, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkDial {
    /// Where calls go that have no registrar to go to.
    pub host: HostPort,
    /// What stands behind the host.
    after: String,
    /// How numbers must begin that go this way; none: all do.
    prefixes: Vec<String>,
}

impl TrunkDial {
    /// Reads one. The number is all that stands before the host, so that it can be nothing but a number.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let allowed = || {
            "must be sip:{number}@HOST or sip:{number}@HOST:PORT, perhaps with ;parameters behind"
                .to_owned()
        };
        let rest = text.strip_prefix("sip:{number}@").ok_or_else(allowed)?;
        let (host, after) = match rest.find(';') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.=;+".contains(&b);
        if !after.bytes().all(plain) {
            return Err(allowed());
        }
        Ok(Self {
            host: host.parse().map_err(|_| allowed())?,
            after: after.to_owned(),
            prefixes: Vec::new(),
        })
    }

    pub(super) fn only(self, prefixes: Vec<String>) -> Self {
        Self { prefixes, ..self }
    }

    /// Do calls to this number, which holds digits and perhaps a `+` in front, go this way?
    #[must_use]
    pub fn takes(&self, number: &str) -> bool {
        let begins = |prefix: &String| number.starts_with(prefix.as_str());
        self.prefixes.is_empty() || self.prefixes.iter().any(begins)
    }

    /// What is called to reach `number`.
    #[must_use]
    pub fn of(&self, number: &str) -> String {
        format!("sip:{number}@{}{}", self.host, self.after)
    }
}

/// Whether a trunk's calls have encrypted audio (SRTP, with keys by SDES, RFC 4568, or DTLS, RFC 5763).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SrtpPolicy {
    /// Calls that offer nothing else are refused.
    Off,
    /// As the call offers it.
    #[default]
    Offer,
    /// Calls without are refused.
    Require,
}

impl SrtpPolicy {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "offer" => Ok(Self::Offer),
            "require" => Ok(Self::Require),
            _ => Err("must be \"off\", \"offer\" or \"require\"".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_in_its_place_and_only_some_go_this_way() {
        for (template, called) in [
            ("sip:{number}@sip.example.org", "sip:+39061@sip.example.org"),
            (
                "sip:{number}@192.0.2.7:5070;user=phone",
                "sip:+39061@192.0.2.7:5070;user=phone",
            ),
            ("sip:{number}@[2001:db8::1]", "sip:+39061@[2001:db8::1]"),
        ] {
            let dial = TrunkDial::parse(template).unwrap();
            assert_eq!(dial.of("+39061"), called);
            assert!(dial.takes("+39061") && dial.takes("100"));
        }
        for bad in [
            "",
            "{number}",
            "sip:{number}",
            "sip:{number}@",
            "sip:0{number}@h",
            "sip:{number}0@h",
            "sip:{number};x@h",
            "sip:{number}@{number}",
            "sip:{number}@h;a>",
            "sip:{number}@h;a b",
            "sip:{number}@h?Replaces=x",
            "sips:{number}@h",
            "PJSIP/{number}@carrier",
        ] {
            assert!(TrunkDial::parse(bad).is_err(), "{bad}");
        }
        let dial = TrunkDial::parse("sip:{number}@h").unwrap();
        let dial = dial.only(vec!["+39".to_owned(), "0".to_owned()]);
        assert!(dial.takes("+39061") && dial.takes("061"));
        assert!(!dial.takes("+4930") && !dial.takes("39061"));
    }
}
