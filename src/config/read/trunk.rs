//! `[[sip.trunk]]`: all that can be wrong with one, and with several.

use super::{Reader, dialled, not_empty, parsed};
use crate::config::address::{ListenAddress, SipTransport};
use crate::config::error::ConfigError;
use crate::config::raw::RawTable;
use crate::config::secret::Secret;
use crate::config::trunk::{RegistrarConfig, SrtpPolicy, TrunkConfig};

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
        let has_registrar = self.items.contains_key("sip.trunk.registrar");
        if !has_registrar {
            self.require(
                "sip.trunk.peers",
                table,
                "the networks that its calls come from, or sip.trunk.registrar",
            );
        }
        let name = self.text("sip.trunk.name", not_empty);
        let peers = self.list("sip.trunk.peers", parsed);
        let registrar = self.registrar(table, listen);
        let srtp = self.text("sip.trunk.srtp", SrtpPolicy::parse);
        let numbers = self.list("sip.trunk.numbers", dialled);
        Some(TrunkConfig {
            name: name?,
            peers: peers.unwrap_or_default(),
            registrar,
            srtp: srtp.unwrap_or_default(),
            trust_identity: self.flag("sip.trunk.trust_identity"),
            numbers: numbers.unwrap_or_default(),
        })
    }

    fn registrar(&mut self, table: &RawTable, listen: &[ListenAddress]) -> Option<RegistrarConfig> {
        if !self.items.contains_key("sip.trunk.registrar") {
            for key in [
                "sip.trunk.user",
                "sip.trunk.password",
                "sip.trunk.transport",
            ] {
                self.refuse(key, "has no use without sip.trunk.registrar beside it");
            }
            return None;
        }
        self.require("sip.trunk.user", table, "who we are to its registrar");
        let host = self.text("sip.trunk.registrar", parsed);
        let user = self.text("sip.trunk.user", user);
        let password = self.text("sip.trunk.password", |text| {
            not_empty(text).map(|text| Secret::new(&text))
        });
        let transport = self.text("sip.trunk.transport", parsed);
        let transport = transport.unwrap_or(SipTransport::Udp);
        if !listen.iter().any(|at| at.transport == transport) {
            let allowed = format!(
                "leads to calls by {transport}, and nothing in sip.listen begins with {transport}:"
            );
            self.refuse("sip.trunk.registrar", &allowed);
        }
        Some(RegistrarConfig {
            host: host?,
            transport,
            user: user?,
            password,
        })
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
