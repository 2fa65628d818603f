//! What is measured: a process that calls can be placed to.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::asterisk::Asterisk;
use crate::call::Answered;
use crate::floor::Floor;
use crate::front::Front;
use crate::janus::Janus;
use crate::scenario::Scenario;
use crate::system;
use crate::voicebridge::Voicebridge;

/// One row of the table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum Kind {
    /// Receives and sends on one socket, and does nothing else.
    FloorShared,
    /// The same on a socket per participant.
    FloorSeparate,
    /// voicebridge, with sockets of its own for each call.
    OwnSockets,
    /// voicebridge, told that its peers send from where they say.
    KnownAddresses,
    /// Asterisk's ConfBridge.
    ConfBridge,
    /// The same with its jitter buffer.
    ConfBridgeBuffered,
    /// Janus' AudioBridge, fed with plain RTP.
    Janus,
    /// voicebridge behind an Asterisk, by ARI with externalMedia.
    Ari,
    /// voicebridge behind an Asterisk that dials it and has the phones send there themselves.
    DirectMedia,
}

impl Kind {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 9] = [
        Self::FloorShared,
        Self::FloorSeparate,
        Self::KnownAddresses,
        Self::OwnSockets,
        Self::ConfBridge,
        Self::ConfBridgeBuffered,
        Self::Janus,
        Self::Ari,
        Self::DirectMedia,
    ];

    /// As people read it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FloorShared => "floor, one socket",
            Self::FloorSeparate => "floor, socket per call",
            Self::OwnSockets => "voicebridge",
            Self::KnownAddresses => "voicebridge, known addresses",
            Self::ConfBridge => "Asterisk ConfBridge",
            Self::ConfBridgeBuffered => "ConfBridge, jitter buffer",
            Self::Janus => "Janus AudioBridge",
            Self::Ari => "voicebridge behind Asterisk, ARI",
            Self::DirectMedia => "voicebridge behind Asterisk, direct media",
        }
    }

    /// Isn't it ours?
    pub(crate) const fn is_peer(self) -> bool {
        matches!(
            self,
            Self::ConfBridge | Self::ConfBridgeBuffered | Self::Janus
        )
    }

    /// Does it mix, or only receive and send?
    pub(crate) const fn is_floor(self) -> bool {
        matches!(self, Self::FloorShared | Self::FloorSeparate)
    }

    /// Starts it on the server's core, with a folder of its own.
    pub(crate) fn start(
        self,
        scenario: &Scenario,
        folder: &Path,
    ) -> anyhow::Result<Box<dyn Server>> {
        Ok(match self {
            Self::FloorShared | Self::FloorSeparate => {
                Box::new(Floor::start(self == Self::FloorShared, scenario)?)
            }
            Self::OwnSockets | Self::KnownAddresses => Box::new(Voicebridge::start(
                self == Self::KnownAddresses,
                scenario,
                folder,
            )?),
            Self::ConfBridge | Self::ConfBridgeBuffered => Box::new(Asterisk::start(
                self == Self::ConfBridgeBuffered,
                scenario,
                folder,
            )?),
            Self::Janus => Box::new(Janus::start(scenario, folder)?),
            Self::Ari | Self::DirectMedia => {
                Box::new(Front::start(self == Self::Ari, scenario, folder)?)
            }
        })
    }
}

/// A running one. It is ended when dropped.
pub(crate) trait Server {
    /// Its process.
    fn pid(&self) -> u32;
    /// The Asterisk in front of it, where there is one.
    fn front(&self) -> Option<u32> {
        None
    }
    /// Places a scenario's calls; participants receive at `rtp_port`. Tells of each that is up.
    fn call(&mut self, rtp_port: u16, answered: &mut dyn FnMut(Answered)) -> anyhow::Result<()>;
    /// Keeps the calls up for so long; how many have ended by then.
    fn hold(&mut self, duration: Duration) -> anyhow::Result<usize>;
    /// Ends them.
    fn hang_up(&mut self) -> anyhow::Result<()>;
    /// What it counted so far, where it tells.
    fn counts(&self) -> Option<Counts> {
        None
    }
}

/// What a server counts about itself.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    /// Frames that it had to make up.
    pub(crate) concealed: f64,
    /// Ticks.
    pub(crate) ticks: f64,
    /// Those that began up to 2 ms after their time.
    pub(crate) punctual: f64,
}

/// A program of ours: started on the server's core, killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it, its output in a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = system::bind_to_core(command, SERVER_CORE)
            .stdin(Stdio::null())
            .stdout(File::create(log)?)
            .stderr(File::options().append(true).open(log)?)
            .spawn();
        Ok(Self(
            child.with_context(|| format!("{name} can't be started"))?,
        ))
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it takes connections, ten seconds at most.
    pub(crate) fn wait_for_port(&mut self, port: u16, log: &Path) -> anyhow::Result<()> {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(());
            }
            if self.0.try_wait()?.is_some() {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        let text = fs::read_to_string(log).unwrap_or_default();
        let end: Vec<&str> = text.lines().rev().take(5).collect();
        bail!("it didn't start: {}", end.join(" | "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// A TCP port that nobody has; UDP is most likely free there as well.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where all servers run; what they are measured by runs elsewhere.
pub(crate) const SERVER_CORE: usize = 0;
/// Where servers have their audio: below what the kernel gives to others.
pub(crate) const MEDIA_PORTS: (u16, u16) = (12_000, 31_999);
