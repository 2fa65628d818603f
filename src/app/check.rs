//! `voicebridge check`: is everything in place? A line each, with what to change.

use std::net::{TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use super::cli::ConfigFile;
use super::node::media_bind_address;
use crate::booking::Bookings;
use crate::config::{Config, SipConfig, SipTransport};
use crate::prompts::Prompts;
use crate::signalling::{AsteriskFinding, Resolver, TlsIdentity, check_asterisk, check_trunk};

/// What was looked at, and what was found.
struct Line {
    what: String,
    verdict: Verdict,
}

enum Verdict {
    Good(String),
    Warning(String),
    Failed(String),
}

/// Looks at configuration, store, ports, prompts, trunks and Asterisks; exit code 1 if any fails.
pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = super::load(file)?;
    let mut lines = vec![Line::new("configuration", Verdict::Good("read".to_owned()))];
    lines.extend(
        config
            .warnings()
            .into_iter()
            .map(|warning| Line::new("configuration", Verdict::Warning(warning))),
    );
    lines.extend(super::runtime()?.block_on(store(&config)));
    lines.extend(tls(&config));
    lines.extend(ports(&config));
    lines.extend(prompts(&config));
    lines.extend(super::runtime()?.block_on(trunks(&config)));
    lines.extend(super::runtime()?.block_on(asterisks(&config)));
    for line in &lines {
        super::say(&line.in_words())?;
    }
    let failed = lines
        .iter()
        .any(|line| matches!(line.verdict, Verdict::Failed(_)));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

impl Line {
    fn new(what: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            what: what.into(),
            verdict,
        }
    }

    fn in_words(&self) -> String {
        let (word, text) = match &self.verdict {
            Verdict::Good(text) => ("ok", text),
            Verdict::Warning(text) => ("warning", text),
            Verdict::Failed(text) => ("FAILED", text),
        };
        format!("{word:8} {}: {text}", self.what)
    }
}

async fn store(config: &Config) -> Vec<Line> {
    let bookings = match super::store::open(config).await {
        Ok(bookings) => bookings,
        Err(error) => return vec![Line::new("store", Verdict::Failed(format!("{error:#}")))],
    };
    let findings = bookings.check(wall()).await;
    let lines = findings.into_iter().map(|finding| {
        let verdict = if finding.failed {
            Verdict::Failed(finding.message)
        } else {
            Verdict::Good(finding.message)
        };
        Line::new("store", verdict)
    });
    lines.chain([echo(&bookings).await]).collect()
}

/// What `probe` calls to hear itself; nobody else is ever told this PIN.
async fn echo(bookings: &Bookings) -> Line {
    let verdict = match bookings.ensure_echo_meeting(wall()).await {
        Ok(pin) => Verdict::Good(format!(
            "the echo meeting for `voicebridge probe` has PIN {}",
            pin.expose()
        )),
        Err(error) => Verdict::Failed(error.to_string()),
    };
    Line::new("probe", verdict)
}

/// Certificate and key fit each other.
fn tls(config: &Config) -> Option<Line> {
    config.sip.tls.as_ref()?;
    let verdict = match TlsIdentity::load(&config.sip) {
        Ok(_) => Verdict::Good("certificate and key fit".to_owned()),
        Err(error) => Verdict::Failed(error.to_string()),
    };
    Some(Line::new("sip.tls", verdict))
}

/// Every port that `serve` would take is taken for a moment.
fn ports(config: &Config) -> Vec<Line> {
    let sip = config.sip.listen.iter().map(|at| {
        let bound = match at.transport {
            SipTransport::Udp => UdpSocket::bind(at.address).map(|_| ()),
            SipTransport::Tcp | SipTransport::Tls => TcpListener::bind(at.address).map(|_| ()),
        };
        (format!("sip.listen {at}"), bound)
    });
    let http = [
        Some(("http.listen", config.http.listen)),
        config.http.admin_listen.map(|at| ("http.admin_listen", at)),
    ];
    let http = http
        .into_iter()
        .flatten()
        .map(|(key, at)| (format!("{key} {at}"), TcpListener::bind(at).map(|_| ())));
    let lines = sip.chain(http).map(|(what, bound)| {
        let verdict = match bound {
            Ok(()) => Verdict::Good("free".to_owned()),
            Err(error) => Verdict::Failed(format!(
                "{error}; end what uses it (is voicebridge running?), or configure another"
            )),
        };
        Line::new(what, verdict)
    });
    let mut lines: Vec<Line> = lines.collect();
    lines.push(media_ports(config));
    lines
}

/// Ports for audio are taken by others too: one in use does no harm, all in use does.
fn media_ports(config: &Config) -> Line {
    let all: Vec<u16> = config.media.ports.range().collect();
    let any = media_bind_address(config);
    let taken = all
        .iter()
        .filter(|port| UdpSocket::bind((any, **port)).is_err())
        .count();
    let verdict = match taken {
        0 => Verdict::Good("free".to_owned()),
        taken if taken * 2 < all.len() => {
            Verdict::Warning(format!("{taken} of {} are in use", all.len()))
        }
        taken => Verdict::Failed(format!(
            "{taken} of {} are in use; configure another range",
            all.len()
        )),
    };
    Line::new(format!("media.ports {}", config.media.ports), verdict)
}

/// Each trunk is asked whether it is there, and would know us.
async fn trunks(config: &Config) -> Vec<Line> {
    let resolver = Resolver::new(&config.sip.dns_servers);
    let mut lines = Vec::new();
    for trunk in &config.sip.trunks {
        let alone = SipConfig {
            trunks: vec![trunk.clone()],
            ..config.sip.clone()
        };
        // Where a certificate can't be read, that has been said.
        let identity = TlsIdentity::load(&alone).ok().map(Arc::new);
        let checked = check_trunk(trunk, identity.as_ref(), &resolver).await;
        let verdict = match checked {
            Ok(text) => Verdict::Good(text),
            Err(text) => Verdict::Failed(text),
        };
        lines.push(Line::new(format!("trunk {}", trunk.name), verdict));
    }
    lines
}

/// Each Asterisk is asked what it has, and audio is sent through it.
async fn asterisks(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    for asterisk in &config.asterisks {
        let found = check_asterisk(asterisk, config.media.ports.range()).await;
        let name = format!("asterisk {}", asterisk.name);
        lines.extend(found.into_iter().map(|finding| {
            let verdict = match finding {
                AsteriskFinding::Good(text) => Verdict::Good(text),
                AsteriskFinding::Warning(text) => Verdict::Warning(text),
                AsteriskFinding::Failed(text) => Verdict::Failed(text),
            };
            Line::new(name.as_str(), verdict)
        }));
    }
    lines
}

fn prompts(config: &Config) -> Vec<Line> {
    let (_, problems) = Prompts::load(&super::prompt_folders(config));
    if problems.is_empty() {
        return vec![Line::new(
            "prompts",
            Verdict::Good("recorded voices in all languages".to_owned()),
        )];
    }
    problems
        .into_iter()
        .map(|problem| Line::new("prompts", Verdict::Warning(problem.to_string())))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "a shell's clock")]
fn wall() -> Timestamp {
    Timestamp::now()
}
