//! Asterisk's ConfBridge, as silent and as bare as it can be set up.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::call::{Answered, Dial, Lines};
use crate::scenario::{Scenario, Seat};
use crate::server::{MEDIA_PORTS, SERVER_CORE, Server};
use crate::system;

/// An instance that runs.
pub(crate) struct Instance {
    pub(crate) pid: u32,
    folder: PathBuf,
    pub(crate) sip: SocketAddr,
}

/// One with a conference.
pub(crate) struct Asterisk {
    instance: Instance,
    seats: Vec<Seat>,
    lines: Option<Lines>,
}

impl Asterisk {
    /// Can it be had here?
    pub(crate) fn get() -> anyhow::Result<()> {
        run(Command::new(SCRIPT).arg("get")).map(|_| ())
    }

    pub(crate) fn start(
        jitter_buffer: bool,
        scenario: &Scenario,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        // The best that any participant has, and no conversion where all have the same.
        let rate = if scenario.has_opus() { "48000" } else { "8000" };
        let buffer = if jitter_buffer { "yes" } else { "no" };
        let bridges = CONFBRIDGE.replace("RATE", rate).replace("BUFFER", buffer);
        let files = [
            ("pjsip.conf", PJSIP),
            ("extensions.conf", EXTENSIONS),
            ("confbridge.conf", &bridges),
        ];
        Ok(Self {
            instance: Instance::start(folder, &files, MEDIA_PORTS, None)?,
            seats: scenario.seats(),
            lines: None,
        })
    }
}

impl Instance {
    /// Starts it with these files over its defaults, on the server's core.
    pub(crate) fn start(
        folder: &Path,
        files: &[(&str, &str)],
        rtp: (u16, u16),
        http: Option<u16>,
    ) -> anyhow::Result<Self> {
        let (config, folder) = (folder.join("conf"), folder.join("asterisk"));
        fs::create_dir_all(&config)?;
        for (name, text) in files {
            fs::write(config.join(name), text)?;
        }
        let mut command = Command::new(SCRIPT);
        command.arg("start").args([&folder, &config]);
        command.arg(format!("rtp={}-{}", rtp.0, rtp.1));
        command.args(http.map(|port| format!("http={port}")));
        let pid = run(system::bind_to_core(&mut command, SERVER_CORE))?;
        let ports = fs::read_to_string(folder.join("ports"))?;
        let port = ports.lines().find_map(|line| line.strip_prefix("sip="));
        let port: u16 = port.context("no SIP port")?.parse()?;
        Ok(Self {
            pid: pid.trim().parse()?,
            folder,
            sip: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }
}

impl Server for Asterisk {
    fn pid(&self) -> u32 {
        self.instance.pid
    }

    fn call(&mut self, rtp_port: u16, answered: &mut dyn FnMut(Answered)) -> anyhow::Result<()> {
        let lines = self.lines.insert(Lines::new(self.instance.sip, rtp_port)?);
        let dials = self.seats.iter().map(|seat| Dial {
            index: seat.index,
            uri: format!("sip:7{:03}@{}", seat.meeting, self.instance.sip),
            pin: None,
            codec: seat.codec,
            levels: seat.levels,
        });
        lines.place(dials, answered)
    }

    fn hold(&mut self, duration: Duration) -> anyhow::Result<usize> {
        self.lines.as_mut().context("no calls")?.hold(duration)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        self.lines.as_mut().context("no calls")?.hang_up()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _stopped = run(Command::new(SCRIPT).arg("stop").arg(&self.folder));
    }
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/asterisk");

pub(crate) const PJSIP: &str = "\
[udp]
type = transport
protocol = udp
bind = 127.0.0.1:@SIP_PORT@

[callers]
type = endpoint
transport = udp
context = conference
disallow = all
allow = ulaw,alaw,g722,opus
direct_media = no
dtmf_mode = rfc4733
timers = no
rtp_timeout = 0
send_connected_line = no

[callers]
type = identify
endpoint = callers
match = 127.0.0.0/8
";

const EXTENSIONS: &str = "\
[conference]
exten => _7XXX,1,Answer()
 same => n,ConfBridge(${EXTEN},bridge,caller)
";

const CONFBRIDGE: &str = "\
[general]

[bridge]
type = bridge
max_members = 5000
internal_sample_rate = RATE
mixing_interval = 20
video_mode = none

[caller]
type = user
quiet = yes
announce_join_leave = no
announce_user_count = no
music_on_hold_when_empty = no
dsp_drop_silence = no
talk_detection_events = no
jitterbuffer = BUFFER
";
