//! Janus' AudioBridge, its participants by plain RTP. It has no SIP side that mixes; its HTTP interface lets
//! one in at a time.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use voicebridge::media::codec::Codec;

use crate::call::Answered;
use crate::scenario::{Scenario, Seat};
use crate::server::{MEDIA_PORTS, Process, Server, free_port};
use crate::wire::address_of;

/// A server with its rooms.
pub(crate) struct Janus {
    process: Process,
    http: ureq::Agent,
    base: String,
    session: u64,
    seats: Vec<Seat>,
    /// One per participant.
    handles: Vec<u64>,
    joined: Receiver<Joined>,
    stop: Arc<AtomicBool>,
    events: Option<JoinHandle<()>>,
}

struct Joined {
    handle: u64,
    to: Option<SocketAddrV4>,
}

impl Janus {
    /// Is it installed?
    pub(crate) fn is_there() -> bool {
        Command::new("janus").arg("--version").output().is_ok()
    }

    pub(crate) fn start(scenario: &Scenario, folder: &Path) -> anyhow::Result<Self> {
        let port = free_port()?;
        configure(folder, port, scenario)?;
        let log = folder.join("janus.log");
        let mut command = Command::new("janus");
        command.arg("-F").arg(folder).arg("--disable-colors");
        let mut process = Process::start(&mut command, &log)?;
        process.wait_for_port(port, &log)?;
        let http = ureq::Agent::new_with_defaults();
        let base = format!("http://127.0.0.1:{port}/janus");
        let created = post(&http, &base, &json!({"janus": "create"}))?;
        let session = created["data"]["id"].as_u64().context("no session")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, joined) = channel();
        let events = std::thread::spawn({
            let (url, stop) = (format!("{base}/{session}?maxev=200"), Arc::clone(&stop));
            move || listen(&url, &sender, &stop)
        });
        Ok(Self {
            process,
            http,
            base,
            session,
            seats: scenario.seats(),
            handles: Vec::new(),
            joined,
            stop,
            events: Some(events),
        })
    }

    fn ask(&self, handle: Option<u64>, body: &Value) -> anyhow::Result<Value> {
        let path = handle.map_or(String::new(), |handle| format!("/{handle}"));
        post(
            &self.http,
            &format!("{}/{}{path}", self.base, self.session),
            body,
        )
    }

    /// One participant joins; its handle.
    fn join(&self, seat: &Seat, rtp_port: u16) -> anyhow::Result<u64> {
        let attach = json!({"janus": "attach", "plugin": "janus.plugin.audiobridge"});
        let handle = self.ask(None, &attach)?["data"]["id"].as_u64();
        let handle = handle.context("no handle")?;
        let (codec, payload_type) = match seat.codec {
            Codec::Pcmu => ("pcmu", 0),
            Codec::Pcma => ("pcma", 8),
            Codec::Opus => ("opus", OPUS_PAYLOAD_TYPE),
            Codec::G722 => bail!("it doesn't speak G.722"),
        };
        let body = json!({
            "request": "join", "room": 1 + seat.meeting, "id": 1 + seat.index, "codec": codec,
            "bitrate": 24_000, "quality": 5,
            "rtp": {"ip": address_of(seat.index).to_string(), "port": rtp_port, "payload_type": payload_type},
        });
        self.ask(Some(handle), &json!({"janus": "message", "body": body}))?;
        Ok(handle)
    }
}

impl Server for Janus {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn call(&mut self, rtp_port: u16, answered: &mut dyn FnMut(Answered)) -> anyhow::Result<()> {
        for place in 0..self.seats.len() {
            let handle = self.join(&self.seats[place], rtp_port)?;
            self.handles.push(handle);
            let to = loop {
                let joined = self.joined.recv_timeout(Duration::from_secs(10));
                let joined = joined.context("a participant wasn't let in")?;
                if joined.handle == handle {
                    break joined.to.context("a participant was refused")?;
                }
            };
            let payload_type = match self.seats[place].codec {
                Codec::Pcmu | Codec::G722 => 0,
                Codec::Pcma => 8,
                Codec::Opus => OPUS_PAYLOAD_TYPE,
            };
            answered(Answered {
                index: self.seats[place].index,
                to,
                payload_type,
                levels: false,
            });
        }
        Ok(())
    }

    fn hold(&mut self, duration: Duration) -> anyhow::Result<usize> {
        std::thread::sleep(duration);
        Ok(0)
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        for handle in std::mem::take(&mut self.handles) {
            self.ask(Some(handle), &json!({"janus": "detach"}))?;
        }
        Ok(())
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // The long poll ends with its session.
        let _destroyed = self.ask(None, &json!({"janus": "destroy"}));
        let _ended = self.events.take().map(JoinHandle::join);
    }
}

fn post(http: &ureq::Agent, url: &str, body: &Value) -> anyhow::Result<Value> {
    let mut body = body.clone();
    body["transaction"] = "t".into();
    let answer: Value = http.post(url).send_json(&body)?.body_mut().read_json()?;
    if answer["janus"] == "error" {
        bail!("Janus: {}", answer["error"]["reason"]);
    }
    Ok(answer)
}

/// Everybody is told of everybody who joins: all of it is fetched, so that it doesn't pile up in the server.
fn listen(url: &str, joined: &Sender<Joined>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let Ok(mut answer) = ureq::get(url).call() else {
            return;
        };
        let Ok(events) = answer.body_mut().read_json::<Value>() else {
            return;
        };
        let one = [events.clone()];
        for event in events.as_array().map_or(&one[..], |events| &events[..]) {
            let data = &event["plugindata"]["data"];
            let is_own = !data["rtp"].is_null();
            if let Some(handle) = event["sender"].as_u64()
                && (is_own || !data["error"].is_null())
            {
                let port = data["rtp"]["port"].as_u64();
                let to = port.map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port as u16));
                if joined.send(Joined { handle, to }).is_err() {
                    return;
                }
            }
        }
    }
}

/// Only what is needed: one plugin, one transport, the rooms.
fn configure(folder: &Path, port: u16, scenario: &Scenario) -> anyhow::Result<()> {
    let library = libraries()?;
    for (kind, file) in [
        ("plugins", "libjanus_audiobridge.so"),
        ("transports", "libjanus_http.so"),
    ] {
        let own = folder.join(kind);
        fs::create_dir_all(&own)?;
        symlink(library.join(kind).join(file), own.join(file))?;
    }
    fs::create_dir_all(folder.join("none"))?;
    let at = folder.display();
    fs::write(
        folder.join("janus.jcfg"),
        format!(
            "general: {{ configs_folder = \"{at}\"; plugins_folder = \"{at}/plugins\"; \
             transports_folder = \"{at}/transports\"; events_folder = \"{at}/none\"; \
             loggers_folder = \"{at}/none\"; debug_level = 3; session_timeout = 0; }}\n\
             nat: {{ ice_lite = true; }}\nmedia: {{ ipv6 = false; }}\n"
        ),
    )?;
    fs::write(
        folder.join("janus.transport.http.jcfg"),
        format!(
            "general: {{ json = \"compact\"; base_path = \"/janus\"; http = true; port = {port}; \
             ip = \"127.0.0.1\"; https = false; }}\nadmin: {{ admin_http = false; }}\n"
        ),
    )?;
    fs::write(
        folder.join("janus.plugin.audiobridge.jcfg"),
        rooms(scenario),
    )?;
    Ok(())
}

fn rooms(scenario: &Scenario) -> String {
    let rate = if scenario.has_opus() { 48_000 } else { 8_000 };
    let (first, last) = MEDIA_PORTS;
    let mut text = format!(
        "general: {{ rtp_port_range = \"{first}-{last}\"; local_ip = \"127.0.0.1\"; events = false; }}\n"
    );
    for room in 1..=scenario.meetings {
        text += &format!(
            "room-{room}: {{ sampling_rate = {rate}; record = false; audiolevel_ext = false; \
             allow_rtp_participants = true; default_prebuffering = {PREBUFFERING}; }}\n"
        );
    }
    text
}

/// Where Debian's package has them.
fn libraries() -> anyhow::Result<std::path::PathBuf> {
    for entry in fs::read_dir("/usr/lib")? {
        let path = entry?.path().join("janus");
        if path.join("plugins/libjanus_audiobridge.so").exists() {
            return Ok(path);
        }
    }
    bail!("Janus' plugins aren't where Debian's package has them")
}

const OPUS_PAYLOAD_TYPE: u8 = 107;
/// Packets that it waits for before it mixes a participant: its default of 6 costs 80 ms more.
const PREBUFFERING: u32 = 1;
