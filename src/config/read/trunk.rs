//! `[[sip.trunk]]`: all that can be wrong with one, and with several.

use std::time::Duration;

use super::{Reader, dialled, listens_over_tls, not_empty, parsed, path};
use crate::config::address::{HostPort, ListenAddress, SipTransport};
use crate::config::error::ConfigError;
use crate::config::raw::RawTable;
use crate::config::secret::Secret;
use crate::config::trunk::{
    DigestAlgorithm, RegistrarConfig, SrtpPolicy, TrunkConfig, TrunkDial, TrunkProof, TrunkTls,
};

/// Reads all of them; `listen` is where we can be called.
pub(super) fn read(
    tables: &[RawTable],
    listen: &[ListenAddress],
    errors: &mut Vec<ConfigError>,
) -> Vec<TrunkConfig> {
    let mut all: Vec<TrunkConfig> = Vec::new();
    for table in tables {
        let mut reader = Reader {
            items: &table.items,
            errors,
        };
        let Some(trunk) = reader.trunk(table, listen) else {
            continue;
        };
        if all.iter().any(|other| other.name == trunk.name) {
            reader.refuse("sip.trunk.name", "stands in another [[sip.trunk]] already");
        }
        all.push(trunk);
    }
    all
}

impl Reader<'_> {
    fn trunk(&mut self, table: &RawTable, listen: &[ListenAddress]) -> Option<TrunkConfig> {
        self.require("sip.trunk.name", table, "a name for it");
        let (registers, dials) = (
            self.items.contains_key("sip.trunk.registrar"),
            self.items.contains_key("sip.trunk.dial"),
        );
        if !registers && !dials {
            self.require(
                "sip.trunk.peers",
                table,
                "the networks that its calls come from, sip.trunk.registrar, or sip.trunk.dial",
            );
        }
        let name = self.text("sip.trunk.name", not_empty);
        let peers = self.list("sip.trunk.peers", parsed);
        let transports = self.trunk_transports(listen);
        let registrar = self.registrar(table);
        let dial = self.trunk_dial();
        let (user, password, realm) = self.trunk_credentials(table);
        let dial_realm = self.dial_realm(password.is_some() && dials);
        let tls = self.trunk_tls(listen);
        let proves = self.proves(table);
        let qualify_frequency = self.qualify_frequency(registers || dials);
        let srtp = self.text("sip.trunk.srtp", SrtpPolicy::parse);
        let calls = self.integer("sip.trunk.calls", 1..=30_000);
        let numbers = self.list("sip.trunk.numbers", dialled);
        Some(TrunkConfig {
            name: name?,
            peers: peers.unwrap_or_default(),
            registrar: registrar
                .zip(user.clone())
                .map(|(host, user)| RegistrarConfig { host, user }),
            dial,
            transports,
            tls,
            user,
            password,
            realm,
            dial_realm,
            proves,
            qualify_frequency,
            srtp: srtp.unwrap_or_default(),
            trust_identity: self.flag("sip.trunk.trust_identity"),
            calls,
            numbers: numbers.unwrap_or_default(),
        })
    }

    fn registrar(&mut self, table: &RawTable) -> Option<HostPort> {
        let host = self.text("sip.trunk.registrar", parsed);
        if self.items.contains_key("sip.trunk.registrar") {
            self.require("sip.trunk.user", table, "who we are to its registrar");
        }
        host
    }

    /// Both ways lead to calls by this transport: theirs to our Contact, and what they ask for within ours.
    fn trunk_transports(&mut self, listen: &[ListenAddress]) -> Vec<SipTransport> {
        const KEY: &str = "sip.trunk.transport";
        let listens = |transport: &SipTransport| listen.iter().any(|at| at.transport == *transport);
        let wanted = self
            .text(KEY, transports)
            .unwrap_or(vec![SipTransport::Udp]);
        let ways = ["sip.trunk.registrar", "sip.trunk.dial"];
        let way = ways.into_iter().find(|key| self.items.contains_key(*key));
        match (way, wanted.as_slice()) {
            (Some(way), [transport]) if !listens(transport) => {
                let allowed = format!(
                    "leads to calls by {transport}, and nothing in sip.listen begins with {transport}:"
                );
                self.refuse(way, &allowed);
            }
            (None, _) if self.items.contains_key(KEY) => self.refuse(KEY, NEEDS_A_WAY),
            (Some(_) | None, _) => {}
        }
        let [_] = wanted.as_slice() else {
            return wanted.into_iter().filter(listens).collect();
        };
        wanted
    }

    /// Who its calls are to prove to be.
    fn proves(&mut self, table: &RawTable) -> Option<TrunkProof> {
        const KEYS: [&str; 3] = [
            "sip.trunk.auth_user",
            "sip.trunk.auth_password",
            "sip.trunk.auth_algorithms",
        ];
        let who = self.text(KEYS[0], user);
        let password = self.text(KEYS[1], |text| {
            not_empty(text).map(|text| Secret::new(&text))
        });
        if KEYS.iter().any(|key| self.items.contains_key(*key)) {
            self.require(KEYS[0], table, "who its calls are to prove to be");
            self.require(KEYS[1], table, "the password for sip.trunk.auth_user");
            self.require(
                "sip.trunk.peers",
                table,
                "the networks whose calls are to prove it",
            );
        }
        let algorithms = self.list(KEYS[2], DigestAlgorithm::parse);
        let mut algorithms = algorithms.unwrap_or_default();
        if algorithms.is_empty() {
            algorithms = vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5];
        }
        Some(TrunkProof {
            user: who?,
            password: password?,
            algorithms,
        })
    }

    fn trunk_tls(&mut self, listen: &[ListenAddress]) -> TrunkTls {
        let tls = TrunkTls {
            client: self.tls_files("sip.trunk.tls_certificate", "sip.trunk.tls_key"),
            authority: self.text("sip.trunk.tls_authority", path),
            names: self
                .list("sip.trunk.tls_names", certificate_name)
                .unwrap_or_default(),
            required: self.flag("sip.trunk.tls_required"),
        };
        if tls.required && tls.names.is_empty() {
            let allowed = "needs sip.trunk.tls_names beside it: who it is in its certificate";
            self.refuse("sip.trunk.tls_required", allowed);
        }
        if tls.required && !listens_over_tls(listen) {
            let allowed = "would refuse every call: nothing in sip.listen begins with tls:";
            self.refuse("sip.trunk.tls_required", allowed);
        }
        tls
    }

    fn qualify_frequency(&mut self, leads_there: bool) -> Option<Duration> {
        const KEY: &str = "sip.trunk.qualify_frequency";
        if !leads_there {
            self.refuse(KEY, NEEDS_A_WAY);
            return None;
        }
        let seconds: Option<u64> = self.integer(KEY, 0..=86_400);
        seconds
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs)
    }

    /// Whoever takes calls may be another server than the registrar, with a realm of its own.
    fn dial_realm(&mut self, has_use: bool) -> Option<String> {
        const KEY: &str = "sip.trunk.dial_realm";
        if !has_use {
            let allowed = "has no use without sip.trunk.dial and sip.trunk.password beside it";
            self.refuse(KEY, allowed);
            return None;
        }
        self.text(KEY, realm)
    }

    fn trunk_dial(&mut self) -> Option<TrunkDial> {
        if !self.items.contains_key("sip.trunk.dial") {
            let allowed = "has no use without sip.trunk.dial beside it";
            self.refuse("sip.trunk.dial_prefixes", allowed);
            return None;
        }
        let dial = self.text("sip.trunk.dial", TrunkDial::parse);
        let prefixes = self.list("sip.trunk.dial_prefixes", prefix);
        Some(dial?.only(prefixes.unwrap_or_default()))
    }

    /// Who we are there, and for whom the password is: nobody else is ever sent what is made of it.
    fn trunk_credentials(
        &mut self,
        table: &RawTable,
    ) -> (Option<String>, Option<Secret>, Option<String>) {
        let registers = self.items.contains_key("sip.trunk.registrar");
        if !registers && !self.items.contains_key("sip.trunk.dial") {
            for key in ["sip.trunk.user", "sip.trunk.password", "sip.trunk.realm"] {
                self.refuse(key, NEEDS_A_WAY);
            }
            return (None, None, None);
        }
        let user = self.text("sip.trunk.user", user);
        let password = self.text("sip.trunk.password", |text| {
            not_empty(text).map(|text| Secret::new(&text))
        });
        let realm = self.text("sip.trunk.realm", realm);
        if password.is_none() && realm.is_none() {
            return (user, None, None);
        }
        if password.is_none() {
            self.refuse(
                "sip.trunk.realm",
                "has no use without sip.trunk.password beside it",
            );
        } else if !registers {
            self.require("sip.trunk.user", table, "whose password it is");
            self.require(
                "sip.trunk.realm",
                table,
                "the realm that the password is for, as the trunk's challenges name it",
            );
        }
        (user, password, realm)
    }
}

/// The user part of a SIP URI, without what would have to be escaped there or in a quoted text.
fn user(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.!~*'()+".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("must be letters, digits and -_.!~*'()+".to_owned())
    }
}

/// A name as it stands in a certificate, without wildcards (RFC 5922 section 7.2).
fn certificate_name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a name as its certificate holds it, like \"sip.example.org\"".to_owned())
    }
}

/// One, or what its DNS records say of those that are listened for.
fn transports(text: &str) -> Result<Vec<SipTransport>, String> {
    if text == "auto" {
        return Ok(vec![
            SipTransport::Udp,
            SipTransport::Tcp,
            SipTransport::Tls,
        ]);
    }
    let one = text.parse().map(|transport| vec![transport]);
    one.map_err(|_| "must be \"udp\", \"tcp\", \"tls\" or \"auto\"".to_owned())
}

/// How a number may begin.
fn prefix(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("must be how numbers begin, like \"+39\"".to_owned())
    }
}

/// What stands in a quoted text.
fn realm(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['"', '\\']) || text.contains(char::is_control) {
        Err("must be the realm as the trunk's challenges name it".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

const NEEDS_A_WAY: &str = "has no use without sip.trunk.registrar or sip.trunk.dial beside it";
