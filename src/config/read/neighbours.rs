//! `[[jitsi]]` and `[fsapi]`: all that can be wrong with them.

use super::{Reader, not_empty};
use crate::config::address::is_host;
use crate::config::error::ConfigError;
use crate::config::neighbours::{FsapiConfig, JitsiConfig, NumberForm};
use crate::config::raw::RawTable;
use crate::config::secret::Secret;

/// Reads all `[[jitsi]]`.
pub(super) fn jitsi(tables: &[RawTable], errors: &mut Vec<ConfigError>) -> Vec<JitsiConfig> {
    let mut all: Vec<JitsiConfig> = Vec::new();
    for table in tables {
        let mut reader = Reader {
            items: &table.items,
            errors,
        };
        let Some(one) = reader.jitsi(table) else {
            continue;
        };
        if all
            .iter()
            .any(|other| other.organisation == one.organisation)
        {
            reader.refuse(
                "jitsi.organisation",
                "stands in another [[jitsi]] already; one takes several domains",
            );
        }
        all.push(one);
    }
    all
}

impl Reader<'_> {
    fn jitsi(&mut self, table: &RawTable) -> Option<JitsiConfig> {
        self.require(
            "jitsi.organisation",
            table,
            "whose meetings its conferences become",
        );
        let what =
            "what stands behind the @ of its conferences, like [\"conference.meet.example.org\"]";
        self.require("jitsi.domains", table, what);
        let organisation = self.text("jitsi.organisation", not_empty);
        let domains = self.list("jitsi.domains", domain);
        if domains.as_ref().is_some_and(Vec::is_empty) {
            self.refuse("jitsi.domains", &format!("must name {what}"));
        }
        let number_form = self.text("jitsi.number_form", |text| match text {
            "list" => Ok(NumberForm::List),
            "countries" => Ok(NumberForm::Countries),
            _ => Err("must be \"list\" or \"countries\"".to_owned()),
        });
        Some(JitsiConfig {
            organisation: organisation?,
            domains: domains?,
            number_form: number_form.unwrap_or_default(),
        })
    }

    /// Password and target go together.
    pub(super) fn fsapi(&mut self) -> Option<FsapiConfig> {
        let password = self.text("fsapi.password", |text| {
            let enough = text.len() >= PASSWORD_BYTES_MIN && !text.contains(char::is_whitespace);
            enough.then(|| Secret::new(text)).ok_or_else(|| {
                format!("must have at least {PASSWORD_BYTES_MIN} characters and no space")
            })
        });
        let bridge_to = self.text("fsapi.bridge_to", |text| {
            let (host, port) = match text.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
                _ => (text, None),
            };
            let fits = is_host(host) && port.is_none_or(|port| port.parse::<u16>().is_ok());
            fits.then(|| text.to_owned()).ok_or_else(|| {
                "must be a host, with or without a port, like \"sip.example.org:5060\"".to_owned()
            })
        });
        let has = |key| self.items.contains_key(key);
        match (has("fsapi.password"), has("fsapi.bridge_to")) {
            (true, false) => self.refuse("fsapi.password", "needs fsapi.bridge_to beside it"),
            (false, true) => self.refuse("fsapi.bridge_to", "needs fsapi.password beside it"),
            (true, true) | (false, false) => {}
        }
        Some(FsapiConfig {
            password: password?,
            bridge_to: bridge_to?,
        })
    }
}

fn domain(text: &str) -> Result<String, String> {
    if is_host(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a domain, like \"conference.meet.example.org\"".to_owned())
    }
}

const PASSWORD_BYTES_MIN: usize = 16;
