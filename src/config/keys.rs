//! Every key that a configuration may hold: one flat table, the only list of names.

use Kind::{Boolean, Integer, List, Text};
use Reload::{Live, Restart};

/// What a key's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list of texts; separated by commas in the environment.
    List,
}

impl Kind {
    /// The words for an error message.
    pub(super) const fn allowed(self) -> &'static str {
        match self {
            Self::Text => "must be a text in quotes",
            Self::Integer => "must be a whole number",
            Self::Boolean => "must be true or false",
            Self::List => "must be a list of texts, like [\"one\", \"two\"]",
        }
    }
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// On SIGHUP, for calls that come afterwards.
    Live,
    /// On the next start.
    Restart,
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key with its section, such as `sip.tls.key`.
    pub path: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// When a change takes effect.
    pub reload: Reload,
    /// It may hold a password: never printed, and `…_file` may name a file that holds it.
    pub secret: bool,
}

/// Sections that may be written more than once, as `[[name]]`.
pub const TABLES: [&str; 4] = ["number", "asterisk", "jitsi", "sip.trunk"];

/// All keys.
pub const KEYS: &[KeyInfo] = &[
    key("node.name", Text, Restart),
    key("node.data_dir", Text, Restart),
    key("node.drain_timeout", Text, Live),
    key("sip.listen", List, Restart),
    key("sip.advertise", Text, Restart),
    key("sip.tls.certificate", Text, Live),
    key("sip.tls.key", Text, Live),
    key("sip.tls.client_certificate", Text, Restart),
    key("sip.tls.client_key", Text, Restart),
    key("sip.tls.client_authority", Text, Restart),
    key("sip.trusted", List, Live),
    key("sip.session_timer", Text, Restart),
    key("sip.dns_servers", List, Restart),
    key("sip.trunk.name", Text, Restart),
    key("sip.trunk.peers", List, Restart),
    key("sip.trunk.registrar", Text, Restart),
    key("sip.trunk.user", Text, Restart),
    secret("sip.trunk.password", Restart),
    key("sip.trunk.realm", Text, Restart),
    key("sip.trunk.dial_realm", Text, Restart),
    key("sip.trunk.transport", Text, Restart),
    key("sip.trunk.tls_certificate", Text, Restart),
    key("sip.trunk.tls_key", Text, Restart),
    key("sip.trunk.tls_authority", Text, Restart),
    key("sip.trunk.tls_names", List, Restart),
    key("sip.trunk.tls_required", Boolean, Restart),
    key("sip.trunk.auth_user", Text, Restart),
    secret("sip.trunk.auth_password", Restart),
    key("sip.trunk.auth_algorithms", List, Restart),
    key("sip.trunk.dial", Text, Restart),
    key("sip.trunk.dial_prefixes", List, Restart),
    key("sip.trunk.qualify_frequency", Integer, Restart),
    key("sip.trunk.srtp", Text, Restart),
    key("sip.trunk.trust_identity", Boolean, Restart),
    key("sip.trunk.calls", Integer, Restart),
    key("sip.trunk.numbers", List, Restart),
    key("media.address", Text, Restart),
    key("media.ports", Text, Restart),
    key("media.threads", Integer, Restart),
    key("media.shared", List, Restart),
    key("media.realtime", Boolean, Restart),
    key("http.listen", Text, Restart),
    key("http.admin_listen", Text, Restart),
    key("http.public_url", Text, Restart),
    secret("database.url", Restart),
    key("asterisk.name", Text, Restart),
    key("asterisk.url", Text, Restart),
    key("asterisk.user", Text, Restart),
    secret("asterisk.password", Restart),
    key("asterisk.app", Text, Restart),
    key("asterisk.plain_text", Boolean, Restart),
    key("asterisk.take_over", List, Restart),
    key("jitsi.organisation", Text, Restart),
    key("jitsi.domains", List, Restart),
    key("jitsi.number_form", Text, Restart),
    secret("fsapi.password", Restart),
    key("fsapi.bridge_to", Text, Restart),
    key("asterisk.rest", Text, Restart),
    key("asterisk.leave_to", List, Restart),
    key("asterisk.dial", Text, Restart),
    key("number.number", Text, Live),
    key("number.country", Text, Live),
    key("number.language", Text, Live),
    key("number.organisation", Text, Live),
    key("number.label", Text, Live),
    key("pin.length", Integer, Restart),
    key("pin.attempts", Integer, Live),
    key("pin.failure_budget", Integer, Restart),
    key("privacy.show", Text, Restart),
    key("privacy.store", Text, Restart),
    key("privacy.retain_days", Integer, Restart),
    secret("privacy.hash_key", Restart),
    key("limits.calls", Integer, Live),
    key("limits.calls_per_source", Integer, Live),
    key("limits.ring_ms", Integer, Live),
    key("limits.dial_ring_seconds", Integer, Live),
    key("limits.media_timeout_seconds", Integer, Restart),
    key("limits.hold_timeout_seconds", Integer, Restart),
    key("limits.pin_wait_seconds", Integer, Live),
    key("limits.wait_minutes", Integer, Live),
    key("limits.alone_minutes", Integer, Live),
    key("limits.call_hours", Integer, Live),
    key("webhooks.allow", List, Restart),
    key("prompts.folder", Text, Restart),
    key("log.format", Text, Restart),
];

/// The key of that name.
pub(super) fn find(path: &str) -> Option<&'static KeyInfo> {
    KEYS.iter().find(|info| info.path == path)
}

/// The secret of which `path` names the file, as in `database.url_file`.
pub(super) fn find_file_of(path: &str) -> Option<&'static KeyInfo> {
    find(path.strip_suffix("_file")?).filter(|info| info.secret)
}

/// The repeatable section that `path` lies in, or is.
pub(super) fn table_of(path: &str) -> Option<&'static str> {
    TABLES
        .into_iter()
        .find(|table| path == *table || is_below(path, table))
}

/// Is `path` the name of a section?
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|info| is_below(info.path, path))
}

/// The known key that `path` is most probably meant to be: a slip of the pen, or the wrong section.
pub(super) fn suggestion(path: &str) -> Option<&'static str> {
    let slip = |known: &str| strsim::damerau_levenshtein(known, path);
    let names = || KEYS.iter().map(|info| info.path).chain(TABLES);
    let closest = names()
        .min_by_key(|known| slip(known))
        .filter(|known| slip(known) <= 3);
    closest.or_else(|| {
        let last = path.rsplit('.').next()?;
        names().find(|known| known.rsplit('.').next() == Some(last))
    })
}

/// Is `path` a key of the section `section`?
fn is_below(path: &str, section: &str) -> bool {
    path.strip_prefix(section)
        .is_some_and(|rest| rest.starts_with('.'))
}

const fn key(path: &'static str, kind: Kind, reload: Reload) -> KeyInfo {
    KeyInfo {
        path,
        kind,
        reload,
        secret: false,
    }
}

const fn secret(path: &'static str, reload: Reload) -> KeyInfo {
    KeyInfo {
        path,
        kind: Text,
        reload,
        secret: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_wrong_sections_find_the_key_that_was_meant() {
        assert_eq!(suggestion("sip.lisen"), Some("sip.listen"));
        assert_eq!(suggestion("pin.lenght"), Some("pin.length"));
        assert_eq!(suggestion("network.data_dir"), Some("node.data_dir"));
        assert_eq!(suggestion("numbers"), Some("number"));
        assert_eq!(suggestion("colour.of.the.sky"), None);
    }

    #[test]
    fn only_secrets_may_stand_in_a_file_of_their_own() {
        assert_eq!(
            find_file_of("database.url_file").map(|info| info.path),
            Some("database.url")
        );
        assert_eq!(find_file_of("sip.listen_file"), None);
        assert_eq!(find_file_of("database.url"), None);
    }
}
