//! `[[asterisk]]`: all that can be wrong with one, and with several.

use std::net::IpAddr;

use super::{Reader, not_empty, public_url};
use crate::config::NodeConfig;
use crate::config::asterisk::{AsteriskConfig, DialTemplate, RestWay};
use crate::config::error::ConfigError;
use crate::config::raw::RawTable;
use crate::config::secret::Secret;
use crate::units::DialplanPlace;

/// Reads all of them.
pub(super) fn read(
    tables: &[RawTable],
    node: &NodeConfig,
    errors: &mut Vec<ConfigError>,
) -> Vec<AsteriskConfig> {
    let mut all: Vec<AsteriskConfig> = Vec::new();
    for table in tables {
        let mut reader = Reader {
            items: &table.items,
            errors,
        };
        let Some(asterisk) = reader.asterisk(table, node) else {
            continue;
        };
        if all.iter().any(|other| other.name == asterisk.name) {
            reader.refuse("asterisk.name", "stands in another [[asterisk]] already");
        }
        if all.iter().any(|other| other.url == asterisk.url) {
            reader.refuse(
                "asterisk.url",
                "stands in another [[asterisk]] already; one is enough for all its numbers",
            );
        }
        all.push(asterisk);
    }
    all
}

impl Reader<'_> {
    fn asterisk(&mut self, table: &RawTable, node: &NodeConfig) -> Option<AsteriskConfig> {
        self.require("asterisk.name", table, "a name for it");
        self.require(
            "asterisk.url",
            table,
            "its HTTP server, like \"http://127.0.0.1:8088\"",
        );
        self.require("asterisk.user", table, "a user of its ari.conf");
        self.require(
            "asterisk.password",
            table,
            "that user's password, or asterisk.password_file",
        );
        let name = self.text("asterisk.name", plain_name);
        let url = self.text("asterisk.url", public_url);
        let user = self.text("asterisk.user", user);
        let password = self.text("asterisk.password", |text| {
            not_empty(text).map(|text| Secret::new(&text))
        });
        let app = self.text("asterisk.app", plain_name);
        let url = url.filter(|url| self.may_carry_a_password(url));
        let take_over = self.list("asterisk.take_over", plain_name);
        let rest = self.text("asterisk.rest", RestWay::parse);
        let leave_to = self.list("asterisk.leave_to", context);
        let app = match self.items.contains_key("asterisk.app") {
            true => app?,
            false => self.app_of(node)?,
        };
        let dial = self.text("asterisk.dial", DialTemplate::parse);
        let take_over = take_over.unwrap_or_default();
        if take_over.contains(&app) {
            self.refuse(
                "asterisk.take_over",
                "names this node's own app; it is for those of other nodes",
            );
        }
        Some(AsteriskConfig {
            name: name?,
            url: url?,
            user: user?,
            password: password?,
            app,
            take_over,
            rest: rest.unwrap_or_default(),
            leave_to: leave_to.unwrap_or_default(),
            dial,
        })
    }

    /// The name by which the dialplan calls this node where none is written.
    fn app_of(&mut self, node: &NodeConfig) -> Option<String> {
        let app = format!("voicebridge-{}", node.name);
        if plain_name(&app).is_ok() {
            return Some(app);
        }
        self.refuse(
            "asterisk.name",
            "needs an asterisk.app: node.name has characters that Stasis(...) doesn't take",
        );
        None
    }

    /// Without encryption a password goes to this machine only, unless the operator says that he wants it.
    fn may_carry_a_password(&mut self, url: &str) -> bool {
        let safe =
            self.flag("asterisk.plain_text") || url.starts_with("https://") || is_loopback(url);
        if !safe {
            self.refuse(
                "asterisk.url",
                "would send the password over the network in the clear; use https://, or write plain_text = true where the network is your own",
            );
        }
        safe
    }
}

fn is_loopback(url: &str) -> bool {
    let authority = url.split('/').nth(2).unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// What `Stasis(...)`, file names and labels take.
fn plain_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    let ok = (1..=63).contains(&text.len()) && text.bytes().all(fits);
    ok.then(|| text.to_owned())
        .ok_or_else(|| "must be 1 to 63 letters, digits, '-' or '_'".to_owned())
}

fn context(text: &str) -> Result<String, String> {
    let fits = DialplanPlace::is_context(text).then(|| text.to_owned());
    fits.ok_or_else(|| DialplanPlace::CONTEXT.to_owned())
}

/// RFC 7617: a colon would end the user's name.
fn user(text: &str) -> Result<String, String> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    ok.then(|| text.to_owned())
        .ok_or_else(|| "must be a name of ari.conf, without ':'".to_owned())
}
