//! voicebridge itself, the built program, with one media thread.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::call::{Answered, Dial, Lines};
use crate::scenario::{Scenario, Seat};
use crate::server::{Counts, MEDIA_PORTS, Process, Server, free_port};

/// A node and its meetings.
pub(crate) struct Voicebridge {
    process: Process,
    http_port: u16,
    sip: SocketAddr,
    pins: Vec<String>,
    seats: Vec<Seat>,
    lines: Option<Lines>,
}

impl Voicebridge {
    pub(crate) fn start(known: bool, scenario: &Scenario, folder: &Path) -> anyhow::Result<Self> {
        Self::start_with("", MEDIA_PORTS, known, scenario, folder)
    }

    /// With more in its configuration, and these ports for audio.
    pub(crate) fn start_with(
        more: &str,
        media: (u16, u16),
        known: bool,
        scenario: &Scenario,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let (sip_port, http_port) = (free_port()?, free_port()?);
        let config = folder.join("voicebridge.toml");
        let written = configuration(known, folder, sip_port, http_port, media);
        fs::write(&config, written + more)?;
        let key = create_key(&config)?;
        let log = folder.join("voicebridge.log");
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--config"]).arg(&config);
        let mut process = Process::start(&mut command, &log)?;
        process.wait_for_port(http_port, &log)?;
        let pins = (0..scenario.meetings).map(|_| book(http_port, &key));
        Ok(Self {
            process,
            http_port,
            sip: SocketAddr::from(([127, 0, 0, 1], sip_port)),
            pins: pins.collect::<anyhow::Result<_>>()?,
            seats: scenario.seats(),
            lines: None,
        })
    }

    /// The calls of all participants by way of whoever listens there.
    pub(crate) fn dials(&self, to: SocketAddr) -> impl Iterator<Item = Dial> {
        dials(&self.seats, &self.pins, to)
    }

    /// Where it takes calls by SIP.
    pub(crate) const fn sip(&self) -> SocketAddr {
        self.sip
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> Option<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.http_port);
        ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
    }

    /// Does this build know that mode at all?
    pub(crate) fn knows_addresses(folder: &Path) -> anyhow::Result<bool> {
        let config = folder.join("voicebridge.toml");
        fs::write(
            &config,
            configuration(true, folder, free_port()?, free_port()?, MEDIA_PORTS),
        )?;
        let output = Command::new(PROGRAM)
            .args(["check", "--config"])
            .arg(&config)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        Ok(!text.contains("media.shared"))
    }
}

impl Server for Voicebridge {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn call(&mut self, rtp_port: u16, answered: &mut dyn FnMut(Answered)) -> anyhow::Result<()> {
        let lines = self.lines.insert(Lines::new(self.sip, rtp_port)?);
        let dials = dials(&self.seats, &self.pins, self.sip);
        lines.place(dials, answered)
    }

    fn hold(&mut self, duration: Duration) -> anyhow::Result<usize> {
        self.lines.as_mut().context("no calls")?.hold(duration)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        self.lines.as_mut().context("no calls")?.hang_up()
    }

    fn counts(&self) -> Option<Counts> {
        let text = self.metrics()?;
        // One media thread.
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))?
                .trim()
                .parse()
                .ok()
        };
        Some(Counts {
            concealed: value("voicebridge_concealed_frames_total")?,
            ticks: value("voicebridge_tick_lateness_seconds_count{thread=\"0\"}")?,
            punctual: value("voicebridge_tick_lateness_seconds_bucket{le=\"0.002\",thread=\"0\"}")?,
        })
    }
}

/// The calls of all participants by way of `to`.
fn dials<'a>(
    seats: &'a [Seat],
    pins: &'a [String],
    to: SocketAddr,
) -> impl Iterator<Item = Dial> + use<'a> {
    seats.iter().map(move |seat| Dial {
        index: seat.index,
        uri: format!("sip:1000@{to}"),
        pin: Some(pins[seat.meeting].clone()),
        codec: seat.codec,
        levels: seat.levels,
    })
}

fn configuration(
    known: bool,
    folder: &Path,
    sip_port: u16,
    http_port: u16,
    (first, last): (u16, u16),
) -> String {
    let shared = if known {
        "media.shared = [\"127.0.0.0/8\"]\n"
    } else {
        ""
    };
    format!(
        "node.data_dir = {data:?}\nnode.drain_timeout = \"1s\"\n\
         sip.listen = [\"udp:127.0.0.1:{sip_port}\"]\nsip.trusted = [\"127.0.0.0/8\"]\n\
         http.listen = \"127.0.0.1:{http_port}\"\n\
         media.address = \"127.0.0.1\"\nmedia.ports = \"{first}-{last}\"\nmedia.threads = 1\n{shared}\
         limits.calls = 5000\nlimits.calls_per_source = 5000\n",
        data = folder.join("data"),
    )
}

fn create_key(config: &Path) -> anyhow::Result<String> {
    let output = Command::new(PROGRAM)
        .args([
            "key",
            "create",
            "--organisation",
            "compare",
            "--role",
            "booking",
            "--config",
        ])
        .arg(config)
        .output()?;
    if !output.status.success() {
        bail!("no key: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A meeting that is open now; its guests' PIN.
fn book(http_port: u16, key: &str) -> anyhow::Result<String> {
    let body = json!({
        "title": "Comparison", "timezone": "UTC", "ends_at": null, "starts_at": "2020-01-01T00:00:00Z",
    });
    let mut answer = ureq::post(format!("http://127.0.0.1:{http_port}/v1/meetings"))
        .header("Authorization", format!("Bearer {key}"))
        .send_json(&body)?;
    let meeting: Value = answer.body_mut().read_json()?;
    let pin = meeting["pins"]["guest"].as_str();
    Ok(pin.context("a meeting without a PIN")?.to_owned())
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_voicebridge");
