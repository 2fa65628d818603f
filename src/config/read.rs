//! From what was written to what is true: each value parsed and checked, errors gathered.

mod asterisk;
mod neighbours;
mod trunk;

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::address::{ListenAddress, is_host};
use crate::config::error::ConfigError;
use crate::config::number::{self, Number};
use crate::config::raw::{Item, Items, RawConfig, RawTable, Value};
use crate::config::{
    Config, DatabaseConfig, DatabaseUrl, HttpConfig, LimitsConfig, LogConfig, LogFormat,
    MediaConfig, NodeConfig, NumberPrivacy, PinConfig, PrivacyConfig, PromptsConfig, Secret,
    SipConfig, SipTransport, TlsFiles, WebhooksConfig,
};
use crate::units::Language;

/// Reads everything; what is wrong is added to `errors` and its default taken instead.
pub(super) fn read(raw: &RawConfig, errors: &mut Vec<ConfigError>) -> Config {
    let mut reader = Reader {
        items: &raw.plain,
        errors,
    };
    let node = reader.node();
    let mut config = Config {
        sip: reader.sip(),
        media: reader.media(),
        http: reader.http(),
        database: reader.database(&node),
        pin: reader.pin(),
        privacy: reader.privacy(),
        limits: reader.limits(),
        prompts: reader.prompts(&node),
        log: reader.log(),
        webhooks: reader.webhooks(),
        fsapi: reader.fsapi(),
        numbers: read_numbers(
            raw.tables.get("number").map_or(&[], Vec::as_slice),
            reader.errors,
        ),
        asterisks: asterisk::read(
            raw.tables.get("asterisk").map_or(&[], Vec::as_slice),
            &node,
            reader.errors,
        ),
        jitsi: neighbours::jitsi(
            raw.tables.get("jitsi").map_or(&[], Vec::as_slice),
            reader.errors,
        ),
        node,
    };
    config.sip.trunks = trunk::read(
        raw.tables.get("sip.trunk").map_or(&[], Vec::as_slice),
        &config.sip.listen,
        reader.errors,
    );
    reader.refuse_shared_ports(&config);
    config
}

/// Reads the values of one table.
struct Reader<'a> {
    items: &'a Items,
    errors: &'a mut Vec<ConfigError>,
}

impl Reader<'_> {
    fn node(&mut self) -> NodeConfig {
        let default = NodeConfig::default();
        NodeConfig {
            name: self.text("node.name", node_name).unwrap_or(default.name),
            data_dir: self.text("node.data_dir", path).unwrap_or(default.data_dir),
            drain_timeout: self
                .text("node.drain_timeout", duration)
                .unwrap_or(default.drain_timeout),
        }
    }

    fn sip(&mut self) -> SipConfig {
        let default = SipConfig::default();
        let listen = self.list("sip.listen", parsed);
        if listen.as_ref().is_some_and(Vec::is_empty) {
            self.refuse(
                "sip.listen",
                "must name at least one address, like [\"udp:0.0.0.0:5060\"]",
            );
        }
        let listen = listen.unwrap_or(default.listen);
        SipConfig {
            tls: self.tls(&listen),
            client_tls: self.tls_files("sip.tls.client_certificate", "sip.tls.client_key"),
            client_authority: self.text("sip.tls.client_authority", path),
            listen,
            advertise: self.text("sip.advertise", parsed).unwrap_or_default(),
            trusted: self.list("sip.trusted", parsed).unwrap_or(default.trusted),
            session_timer: self.text("sip.session_timer", session_timer),
            dns_servers: self.list("sip.dns_servers", dns_server).unwrap_or_default(),
            trunks: Vec::new(),
        }
    }

    /// Certificate and key go together, and with an address that listens over TLS.
    fn tls(&mut self, listen: &[ListenAddress]) -> Option<TlsFiles> {
        let (certificate, key) = ("sip.tls.certificate", "sip.tls.key");
        let files = self.tls_files(certificate, key);
        let written = [certificate, key]
            .iter()
            .any(|key| self.items.contains_key(*key));
        if !written && listens_over_tls(listen) {
            self.refuse(
                "sip.listen",
                "has an address over TLS, which needs sip.tls.certificate and sip.tls.key",
            );
        }
        files
    }

    /// Both, or neither.
    fn tls_files(&mut self, certificate: &'static str, key: &'static str) -> Option<TlsFiles> {
        match (self.text(certificate, path), self.text(key, path)) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (None, Some(_)) => {
                self.refuse(key, &format!("needs {certificate} beside it"));
                None
            }
            (Some(_), None) => {
                self.refuse(certificate, &format!("needs {key} beside it"));
                None
            }
        }
    }

    fn media(&mut self) -> MediaConfig {
        MediaConfig {
            address: self.text("media.address", parsed).unwrap_or_default(),
            ports: self
                .text("media.ports", parsed)
                .unwrap_or(MediaConfig::default().ports),
            threads: self
                .integer("media.threads", 1..=256)
                .and_then(NonZeroUsize::new),
            shared: self.list("media.shared", parsed).unwrap_or_default(),
            realtime: self.flag("media.realtime"),
        }
    }

    fn webhooks(&mut self) -> WebhooksConfig {
        WebhooksConfig {
            allow: self.list("webhooks.allow", parsed).unwrap_or_default(),
        }
    }

    fn http(&mut self) -> HttpConfig {
        HttpConfig {
            listen: self
                .text("http.listen", socket_address)
                .unwrap_or(HttpConfig::default().listen),
            admin_listen: self.text("http.admin_listen", socket_address),
            public_url: self.text("http.public_url", public_url),
        }
    }

    fn database(&mut self, node: &NodeConfig) -> DatabaseConfig {
        let url = self.text("database.url", |text| text.parse::<DatabaseUrl>());
        DatabaseConfig {
            url: url.unwrap_or_else(|| DatabaseUrl::default_in(&node.data_dir)),
        }
    }

    fn pin(&mut self) -> PinConfig {
        let default = PinConfig::default();
        PinConfig {
            length: self.integer("pin.length", 6..=16).unwrap_or(default.length),
            attempts: self
                .integer("pin.attempts", 1..=10)
                .unwrap_or(default.attempts),
            failure_budget: self
                .integer("pin.failure_budget", 1..=1_000_000)
                .unwrap_or(default.failure_budget),
        }
    }

    fn privacy(&mut self) -> PrivacyConfig {
        let default = PrivacyConfig::default();
        PrivacyConfig {
            show: self
                .text("privacy.show", number_privacy)
                .unwrap_or(default.show),
            store: self
                .text("privacy.store", number_privacy)
                .unwrap_or(default.store),
            retain_days: self
                .integer("privacy.retain_days", 1..=3650)
                .unwrap_or(default.retain_days),
            hash_key: self.text("privacy.hash_key", |text| {
                let is_long_enough = text.len() >= HASH_KEY_BYTES_MIN;
                is_long_enough
                    .then(|| Secret::new(text))
                    .ok_or_else(|| "must have at least 32 characters".to_owned())
            }),
        }
    }

    fn limits(&mut self) -> LimitsConfig {
        let default = LimitsConfig::default();
        let minutes = |count: u64| Duration::from_secs(count * 60);
        LimitsConfig {
            calls: self
                .integer("limits.calls", 1..=30_000)
                .unwrap_or(default.calls),
            calls_per_source: self
                .integer("limits.calls_per_source", 1..=30_000)
                .unwrap_or(default.calls_per_source),
            ring: self
                .integer("limits.ring_ms", 0..=10_000)
                .map_or(default.ring, Duration::from_millis),
            dial_ring: self
                .integer("limits.dial_ring_seconds", 5..=120)
                .map_or(default.dial_ring, Duration::from_secs),
            media_timeout: self
                .integer("limits.media_timeout_seconds", 2..=3600)
                .map_or(default.media_timeout, Duration::from_secs),
            hold_timeout: self
                .integer("limits.hold_timeout_seconds", 2..=86_400)
                .map_or(default.hold_timeout, Duration::from_secs),
            pin_wait: self
                .integer("limits.pin_wait_seconds", 5..=3600)
                .map_or(default.pin_wait, Duration::from_secs),
            wait: self
                .integer("limits.wait_minutes", 1..=1440)
                .map_or(default.wait, minutes),
            alone: self
                .integer("limits.alone_minutes", 1..=1440)
                .map_or(default.alone, minutes),
            call: self
                .integer("limits.call_hours", 1..=168)
                .map_or(default.call, |hours: u64| minutes(hours * 60)),
        }
    }

    fn prompts(&mut self, node: &NodeConfig) -> PromptsConfig {
        match self.text("prompts.folder", path) {
            Some(folder) => PromptsConfig { folder },
            None => PromptsConfig::default_in(&node.data_dir),
        }
    }

    fn log(&mut self) -> LogConfig {
        let format = |text: &str| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be \"text\" or \"json\"".to_owned()),
        };
        LogConfig {
            format: self
                .text("log.format", format)
                .unwrap_or(LogConfig::default().format),
        }
    }

    /// SIP and audio over UDP can't share a port, nor two listeners one address.
    fn refuse_shared_ports(&mut self, config: &Config) {
        let listen = &config.sip.listen;
        if listen.iter().enumerate().any(|(index, one)| {
            one.address.port() != 0 && listen.iter().take(index).any(|other| other == one)
        }) {
            self.refuse("sip.listen", "names one address twice");
        }
        let in_ports = |port: u16| config.media.ports.range().contains(&port);
        let clash = listen
            .iter()
            .find(|one| one.transport == SipTransport::Udp && in_ports(one.address.port()));
        if let Some(clash) = clash {
            let key = if self.items.contains_key("media.ports") {
                "media.ports"
            } else {
                "sip.listen"
            };
            self.refuse(
                key,
                &format!(
                    "{clash} lies in media.ports {}; keep SIP's UDP ports out of it",
                    config.media.ports
                ),
            );
        }
        if config.http.admin_listen == Some(config.http.listen) {
            self.refuse(
                "http.admin_listen",
                "is the same as http.listen; leave it out to serve both there",
            );
        }
    }

    /// The text of `key`, parsed; `None` where it isn't written, or wrong.
    fn text<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let item = self.items.get(key)?;
        let parsed = match &item.value {
            Value::Text(text) => parse(text),
            Value::Secret(secret) => parse(secret.expose()),
            Value::Integer(_) | Value::Boolean(_) | Value::List(_) => return None,
        };
        parsed
            .map_err(|allowed| self.errors.push(bad(key, item, &allowed)))
            .ok()
    }

    /// The whole number of `key`; `None` where it isn't written, or out of `range`.
    fn integer<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let item = self.items.get(key)?;
        let Value::Integer(number) = item.value else {
            return None;
        };
        let fits = range
            .contains(&number)
            .then(|| T::try_from(number).ok())
            .flatten();
        if fits.is_none() {
            self.errors.push(bad(
                key,
                item,
                &format!("must be {} to {}", range.start(), range.end()),
            ));
        }
        fits
    }

    /// Is `key` written, and true?
    fn flag(&self, key: &'static str) -> bool {
        let value = self.items.get(key).map(|item| &item.value);
        matches!(value, Some(Value::Boolean(true)))
    }

    /// The texts of `key`, each parsed; `None` where it isn't written, or one of them is wrong.
    fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Value::List(texts) = &self.items.get(key)?.value else {
            return None;
        };
        let mut all = Vec::new();
        for (text, origin) in texts {
            match parse(text) {
                Ok(value) => all.push(value),
                Err(allowed) => self.errors.push(ConfigError::BadValue {
                    origin: origin.clone(),
                    key: key.to_owned(),
                    value: Some(format!("{text:?}")),
                    allowed,
                }),
            }
        }
        (all.len() == texts.len()).then_some(all)
    }

    /// Reports a value that is wrong for a reason beyond its own form.
    fn refuse(&mut self, key: &'static str, allowed: &str) {
        if let Some(item) = self.items.get(key) {
            self.errors.push(bad(key, item, allowed));
        }
    }

    /// Reports a key that its table needs.
    fn require(&mut self, key: &'static str, table: &RawTable, allowed: &str) {
        if !self.items.contains_key(key) {
            let missing = ConfigError::Missing {
                origin: table.origin.clone(),
                key: key.to_owned(),
                allowed: allowed.to_owned(),
            };
            self.errors.push(missing);
        }
    }
}

/// Does anything listen over TLS?
fn listens_over_tls(listen: &[ListenAddress]) -> bool {
    listen.iter().any(|at| at.transport == SipTransport::Tls)
}

/// An address, with a port where that isn't 53.
fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = || {
        text.trim_matches(['[', ']'])
            .parse()
            .map(|ip| SocketAddr::new(ip, 53))
    };
    let parsed = text.parse().or_else(|_| bare());
    parsed.map_err(|_: std::net::AddrParseError| {
        "must be an address, like \"192.0.2.53\" or \"[2001:db8::53]:5353\"".to_owned()
    })
}

/// Reads all `[[number]]`.
fn read_numbers(tables: &[RawTable], errors: &mut Vec<ConfigError>) -> Vec<Number> {
    let mut numbers: Vec<Number> = Vec::new();
    for table in tables {
        let mut reader = Reader {
            items: &table.items,
            errors,
        };
        let Some(number) = reader.number(table) else {
            continue;
        };
        if numbers.iter().any(|other| other.number == number.number) {
            reader.refuse("number.number", "stands in another [[number]] already");
        }
        numbers.push(number);
    }
    numbers
}

impl Reader<'_> {
    fn number(&mut self, table: &RawTable) -> Option<Number> {
        self.require(
            "number.number",
            table,
            "what callers dial, like \"+390612345678\"",
        );
        self.require("number.language", table, "\"it\" or \"en\"");
        let number = self.text("number.number", dialled);
        let language = self.text("number.language", parsed::<Language>);
        let country = self.text("number.country", parsed);
        let organisation = self.text("number.organisation", not_empty);
        let label = self.text("number.label", not_empty);
        Some(Number {
            number: number?,
            language: language?,
            country,
            organisation,
            label,
        })
    }
}

fn bad(key: &str, item: &Item, allowed: &str) -> ConfigError {
    let value = match &item.value {
        Value::Text(text) => Some(format!("{text:?}")),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::List(_) | Value::Secret(_) => None,
    };
    ConfigError::BadValue {
        origin: item.origin.clone(),
        key: key.to_owned(),
        value,
        allowed: allowed.to_owned(),
    }
}

/// By the type's own parser; its error says what is allowed.
fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn dialled(text: &str) -> Result<String, String> {
    number::check_number(text).map_err(|error| error.to_string())
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    not_empty(text).map(PathBuf::from)
}

fn node_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ok = (1..=63).contains(&text.len()) && text.bytes().all(fits);
    ok.then(|| text.to_owned())
        .ok_or_else(|| "must be 1 to 63 letters, digits, '-', '_' or '.'".to_owned())
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "must be ADDRESS:PORT, like \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned())
}

fn public_url(text: &str) -> Result<String, String> {
    web_address(text).map(|url| url.trim_end_matches('/').to_owned())
}

/// An `http` or `https` URL without user, query or fragment.
fn web_address(text: &str) -> Result<&str, String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let ok = rest.is_some_and(|rest| {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let visible = |b: u8| b.is_ascii_graphic() && !b"?#\"<>\\".contains(&b);
        is_host(host)
            && port.is_none_or(|port| port.parse::<u16>().is_ok())
            && path.bytes().all(visible)
    });
    if ok {
        Ok(text)
    } else {
        Err("must be a web address, like \"https://voice.example.org\"".to_owned())
    }
}

/// A whole number with `s`, `m` or `h` behind it.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| {
            let count: u64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
            count.checked_mul(seconds)
        });
    let allowed = || "must be 0s to 24h, written like \"90s\", \"5m\" or \"1h\"".to_owned();
    seconds
        .filter(|seconds| *seconds <= 24 * 3600)
        .map(Duration::from_secs)
        .ok_or_else(allowed)
}

fn session_timer(text: &str) -> Result<Duration, String> {
    duration(text)
        .ok()
        .filter(|timer| *timer >= SESSION_TIMER_MIN)
        .ok_or_else(|| "must be 90s to 24h, written like \"30m\"".to_owned())
}

fn number_privacy(text: &str) -> Result<NumberPrivacy, String> {
    match text {
        "last4" => Ok(NumberPrivacy::Last4),
        "none" => Ok(NumberPrivacy::None),
        "full" => Ok(NumberPrivacy::Full),
        _ => Err("must be \"last4\", \"none\" or \"full\"".to_owned()),
    }
}

/// RFC 4028 section 4.
const SESSION_TIMER_MIN: Duration = Duration::from_secs(90);
/// As long as what is drawn where none is written.
const HASH_KEY_BYTES_MIN: usize = 32;
