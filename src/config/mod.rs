//! The configuration: what was written (`RawConfig`) becomes what is true ([`Config`]), once, at
//! start and on SIGHUP.
//!
//! A TOML file, then `VOICEBRIDGE_SECTION__KEY` variables over it, then checks; everything that is
//! wrong is reported at once, each with its key, its place and what is allowed. Relative paths are
//! relative to the working directory.

mod address;
mod asterisk;
mod error;
mod keys;
mod neighbours;
mod number;
mod raw;
mod read;
mod secret;
mod sip;
mod trunk;
mod webhooks;

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use address::{
    BadAddresses, BadAdvertised, BadHostPort, BadListenAddress, BadNetwork, BadPortRange, HostPort,
    ListenAddress, Network, PerFamily, PortRange, SipTransport,
};
pub use asterisk::{AsteriskConfig, DialTemplate, RestWay};
pub use error::{ConfigError, ConfigErrors, Origin};
pub use keys::{KEYS, KeyInfo, Kind, Reload, TABLES};
pub use neighbours::{FsapiConfig, JitsiConfig, NumberForm};
pub use number::{BadCountry, BadNumber, Country, EMERGENCY_NUMBERS, Number, check_number};
pub use secret::Secret;
pub use sip::{SipConfig, TlsFiles};
pub use trunk::{
    DigestAlgorithm, RegistrarConfig, SrtpPolicy, TrunkConfig, TrunkDial, TrunkProof, TrunkTls,
};
pub use webhooks::{AllowedTarget, BadTarget};

use raw::RawConfig;

/// How a node runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// The node itself.
    pub node: NodeConfig,
    /// Signalling.
    pub sip: SipConfig,
    /// Audio.
    pub media: MediaConfig,
    /// The API.
    pub http: HttpConfig,
    /// The store.
    pub database: DatabaseConfig,
    /// Numbers that callers dial. Empty: whatever is dialled is answered, emergency numbers apart.
    pub numbers: Vec<Number>,
    /// Asterisks whose callers come over ARI.
    pub asterisks: Vec<AsteriskConfig>,
    /// Jitsi Meets whose conferences can be dialled into.
    pub jitsi: Vec<JitsiConfig>,
    /// How a FreeSWITCH in front asks what to do with calls.
    pub fsapi: Option<FsapiConfig>,
    /// PINs and how often one may guess.
    pub pin: PinConfig,
    /// Personal data.
    pub privacy: PrivacyConfig,
    /// How much and how long.
    pub limits: LimitsConfig,
    /// Where booking systems are told of events.
    pub webhooks: WebhooksConfig,
    /// What callers hear.
    pub prompts: PromptsConfig,
    /// The log.
    pub log: LogConfig,
}

/// Where booking systems are told of events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WebhooksConfig {
    /// Hosts and networks that webhooks may lead to although they aren't public, and without TLS.
    pub allow: Vec<AllowedTarget>,
}

/// The node itself.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// Its name in call records and among other nodes.
    pub name: String,
    /// Where it keeps what it writes.
    pub data_dir: PathBuf,
    /// After SIGTERM, how long calls may go on.
    pub drain_timeout: Duration,
}

/// Audio.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaConfig {
    /// What callers are told to send audio to, by its family; `None`: the address that their call arrived at.
    pub address: PerFamily<Option<IpAddr>>,
    /// Ports for audio.
    pub ports: PortRange,
    /// Media threads; `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    /// Networks whose peers send audio from the very address that they announce: they share ports.
    pub shared: Vec<Network>,
    /// Do media threads run before all other work of the machine, in memory that isn't swapped out?
    pub realtime: bool,
}

/// The API.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Where metrics and health are served instead of at `listen`.
    pub admin_listen: Option<SocketAddr>,
    /// What its users reach it by, without a slash at the end; for links.
    pub public_url: Option<String>,
}

/// The store.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseConfig {
    /// Which.
    pub url: DatabaseUrl,
}

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server; its URL may hold a password.
    Postgres(Secret),
}

/// PINs and how often one may guess.
#[derive(Debug, Clone, PartialEq)]
pub struct PinConfig {
    /// Digits of a new PIN.
    pub length: u32,
    /// Wrong PINs in one call before it ends.
    pub attempts: u32,
    /// Wrong PINs in one hour from all callers together before guesses are no longer evaluated.
    pub failure_budget: u32,
}

/// How much of a caller's number is shown or kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberPrivacy {
    /// The last four digits.
    Last4,
    /// Nothing.
    None,
    /// All of it.
    Full,
}

/// Personal data.
#[derive(Debug, Clone, PartialEq)]
pub struct PrivacyConfig {
    /// What the API shows of callers' numbers.
    pub show: NumberPrivacy,
    /// What call records keep of them.
    pub store: NumberPrivacy,
    /// Days after which call records are deleted.
    pub retain_days: u32,
    /// What callers' hashes are made with; `None`: with a key that lies in the store.
    pub hash_key: Option<Secret>,
}

/// How much and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsConfig {
    /// Calls at once.
    pub calls: usize,
    /// Calls at once from one address that isn't trusted.
    pub calls_per_source: usize,
    /// How long a call rings before it is answered.
    pub ring: Duration,
    /// How long somebody is rung whom we call.
    pub dial_ring: Duration,
    /// Silence on the wire after which a call is hung up.
    pub media_timeout: Duration,
    /// The same while the caller has us on hold.
    pub hold_timeout: Duration,
    /// From the answer to an accepted PIN.
    pub pin_wait: Duration,
    /// Waiting for the start or the host.
    pub wait: Duration,
    /// Alone in a meeting.
    pub alone: Duration,
    /// Any call at all.
    pub call: Duration,
}

/// What callers hear.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptsConfig {
    /// The operator's own recordings; they win over all others. It may be missing.
    pub folder: PathBuf,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, in Elastic Common Schema.
    Json,
}

/// The log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// How it is written.
    pub format: LogFormat,
}

/// What a reload changes, and what it can't.
#[derive(Debug, Clone, PartialEq)]
pub struct Reloaded {
    /// The running configuration with what may change now.
    pub config: Config,
    /// Sections in which something was changed that waits for the next start.
    pub restart_needed: Vec<&'static str>,
}

impl Config {
    /// Reads `file`, lets `environment` override it, and checks everything.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let text = match file {
            Some(file) => read_file(file)?,
            None => String::new(),
        };
        Self::parse(file.unwrap_or(Path::new("")), &text, environment)
    }

    /// Like [`Self::load`], of a text that was read already; `file` is its name in errors.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut raw = RawConfig::default();
        raw.add_file(file, text, &mut errors);
        raw.add_environment(environment, &mut errors);
        let config = read::read(&raw, &mut errors);
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// What `written` changes in the running configuration `self`: keys marked [`Reload::Live`]
    /// are taken over, the others are named.
    #[must_use]
    pub fn reload(&self, written: Self) -> Reloaded {
        let config = Self {
            node: NodeConfig {
                drain_timeout: written.node.drain_timeout,
                ..self.node.clone()
            },
            sip: SipConfig {
                tls: self
                    .sip
                    .tls
                    .as_ref()
                    .and(written.sip.tls.clone())
                    .or(self.sip.tls.clone()),
                trusted: written.sip.trusted.clone(),
                ..self.sip.clone()
            },
            numbers: written.numbers.clone(),
            pin: PinConfig {
                attempts: written.pin.attempts,
                ..self.pin.clone()
            },
            limits: LimitsConfig {
                media_timeout: self.limits.media_timeout,
                hold_timeout: self.limits.hold_timeout,
                ..written.limits.clone()
            },
            ..self.clone()
        };
        let restart_needed = [
            ("node", config.node != written.node),
            ("sip", config.sip != written.sip),
            ("media", config.media != written.media),
            ("http", config.http != written.http),
            ("database", config.database != written.database),
            ("asterisk", config.asterisks != written.asterisks),
            ("jitsi", config.jitsi != written.jitsi),
            ("fsapi", config.fsapi != written.fsapi),
            ("pin", config.pin != written.pin),
            ("privacy", config.privacy != written.privacy),
            ("limits", config.limits != written.limits),
            ("webhooks", config.webhooks != written.webhooks),
            ("prompts", config.prompts != written.prompts),
            ("log", config.log != written.log),
        ];
        let restart_needed = restart_needed
            .into_iter()
            .filter(|(_, changed)| *changed)
            .map(|(section, _)| section);
        Reloaded {
            restart_needed: restart_needed.collect(),
            config,
        }
    }

    /// What is allowed but probably not meant; a sentence each, for `check` and the log at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        [
            self.sip.warning(),
            self.pin.warning(),
            self.ports_warning(),
            self.http.warning(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn ports_warning(&self) -> Option<String> {
        let (pairs, calls) = (self.media.ports.pairs(), self.limits.calls);
        (pairs < calls).then(|| {
            format!("media.ports {} is enough for {pairs} calls, limits.calls is {calls}: widen the one or lower the other", self.media.ports)
        })
    }
}

impl PinConfig {
    /// Wrong guesses that hit a PIN, expected in 30 days of an attack that never stops: guesses
    /// evaluated, times PINs that exist, over PINs that could exist.
    fn expected_hits(&self) -> f64 {
        const PINS: f64 = 1000.0;
        const HOURS: f64 = 720.0;
        f64::from(self.failure_budget) * HOURS * PINS / 10_f64.powf(f64::from(self.length))
    }

    fn warning(&self) -> Option<String> {
        const HITS_MAX: f64 = 0.01;
        let hits = self.expected_hits();
        (hits > HITS_MAX).then(|| {
            format!(
                "pin.length {} with pin.failure_budget {}: somebody who guesses without pause for 30 days finds {hits:.2} of 1,000 PINs; \
                 longer PINs or a smaller budget bring that below {HITS_MAX}",
                self.length, self.failure_budget
            )
        })
    }
}

impl HttpConfig {
    fn warning(&self) -> Option<String> {
        (!self.listen.ip().is_loopback()).then(|| {
            format!("http.listen {} can be reached from other machines without encryption: API keys and PINs pass it; put a TLS proxy in front", self.listen)
        })
    }
}

impl DatabaseUrl {
    /// The store in `data_dir` that is used where none is configured.
    #[must_use]
    pub fn default_in(data_dir: &Path) -> Self {
        Self::Sqlite(data_dir.join("voicebridge.db"))
    }
}

impl std::str::FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                let is_file = !path.is_empty() && !path.starts_with(':') && !path.contains('?');
                is_file
                    .then(|| Self::Sqlite(PathBuf::from(path)))
                    .ok_or_else(|| {
                        "must name a file and nothing else, like \"sqlite:data/voicebridge.db\""
                            .to_owned()
                    })
            }
            Some(("postgres" | "postgresql", rest)) => {
                let place = rest
                    .strip_prefix("//")
                    .and_then(|rest| rest.split_once('/'));
                let has_name = place.is_some_and(|(host, name)| {
                    !host.ends_with('@') && !name.is_empty() && !name.starts_with('?')
                });
                has_name.then(|| Self::Postgres(Secret::new(text))).ok_or_else(|| {
                    "must name a host and a database, like \"postgres://voicebridge@db.example.org/voicebridge\"".to_owned()
                })
            }
            Some(_) | None => Err(
                "must be \"sqlite:FILE\" or \"postgres://USER:PASSWORD@HOST/DATABASE\"".to_owned(),
            ),
        }
    }
}

impl PromptsConfig {
    /// The folder in `data_dir` that is used where none is configured.
    #[must_use]
    pub fn default_in(data_dir: &Path) -> Self {
        Self {
            folder: data_dir.join("prompts"),
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "voicebridge".to_owned(),
            data_dir: PathBuf::from("data"),
            drain_timeout: minutes(5),
        }
    }
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self {
            address: PerFamily::default(),
            ports: PortRange {
                first: 20_000,
                last: 29_999,
            },
            threads: None,
            shared: Vec::new(),
            realtime: false,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: None,
            public_url: None,
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default_in(&NodeConfig::default().data_dir),
        }
    }
}

impl Default for PinConfig {
    fn default() -> Self {
        Self {
            length: 10,
            attempts: 3,
            failure_budget: 100,
        }
    }
}

impl Default for PrivacyConfig {
    fn default() -> Self {
        Self {
            show: NumberPrivacy::Last4,
            store: NumberPrivacy::Last4,
            retain_days: 90,
            hash_key: None,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            calls: 1000,
            calls_per_source: 100,
            ring: Duration::ZERO,
            dial_ring: Duration::from_secs(25),
            media_timeout: Duration::from_secs(30),
            hold_timeout: minutes(5),
            pin_wait: Duration::from_secs(90),
            wait: minutes(30),
            alone: minutes(30),
            call: minutes(12 * 60),
        }
    }
}

impl Default for PromptsConfig {
    fn default() -> Self {
        Self::default_in(&NodeConfig::default().data_dir)
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
        }
    }
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

fn read_file(file: &Path) -> Result<String, ConfigErrors> {
    fs::read_to_string(file).map_err(|error| {
        ConfigErrors(vec![ConfigError::Unreadable {
            file: file.to_owned(),
            reason: error.to_string(),
        }])
    })
}

#[cfg(test)]
mod tests;
