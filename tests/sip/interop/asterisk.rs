//! A real Asterisk 22 between phones and a node, with a trunk to it for each cell.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Cell, Client};
use crate::baresip::{Phone, Voice};
use crate::families::has_ipv6;
use crate::ports::{port, ports};
use crate::server::{CERTIFICATE, CERTIFICATE_KEY, Server};

/// An Asterisk that passes calls on to one node, by trunks that differ.
pub(super) struct SwitchBoard {
    folder: tempfile::TempDir,
    sip: u16,
    /// In the order of their numbers.
    trunks: Vec<String>,
}

impl SwitchBoard {
    pub(super) fn start(server: &Server, cells: &[Cell]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let etc = folder.path().join("etc");
        fs::create_dir(&etc).expect("made");
        let cells = cells.iter().filter(|cell| cell.client == Client::Asterisk);
        let voices: Vec<Voice> = cells.map(|cell| cell.voice).collect();
        let mut pjsip = transports(server);
        for (number, voice) in voices.iter().enumerate() {
            pjsip += &trunk(server, number, voice);
        }
        fs::write(etc.join("pjsip.conf"), pjsip).expect("written");
        fs::write(etc.join("extensions.conf"), EXTENSIONS).expect("written");
        let (sip, rtp) = (port(), ports(RTP_PORTS));
        let started = script()
            .arg("start")
            .args([folder.path().join("run"), etc])
            .arg(format!("sip={sip}"))
            .arg(format!("http={}", port()))
            .arg(format!("rtp={rtp}-{}", rtp + RTP_PORTS - 1))
            .output()
            .expect("bash runs");
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "{said}");
        // It would pass packets on as they are, and a phone that has heard others before drops those.
        let unload = ["module unload bridge_native_rtp.so"];
        let run = folder.path().join("run");
        let unloaded = script().arg("cli").arg(run).args(unload).status();
        assert!(unloaded.expect("bash runs").success());
        Self {
            folder,
            sip,
            trunks: voices.iter().map(key).collect(),
        }
    }

    /// A phone that is passed on by the trunk with this voice.
    pub(super) fn phone(&self, server: &Server, voice: &Voice, user: &str) -> Phone {
        let trunk = self.trunks.iter().position(|trunk| *trunk == key(voice));
        let number = format!("9{}", trunk.expect("a trunk for each"));
        let own = Voice {
            transport: "udp",
            ipv6: false,
            encrypts: false,
            ..*voice
        };
        Phone::calling_as(server, &own, self.sip, &number, user)
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }
}

impl Drop for SwitchBoard {
    fn drop(&mut self) {
        let _stopped = script().arg("stop").arg(self.run()).status();
    }
}

fn key(voice: &Voice) -> String {
    format!(
        "{} {} {} {}",
        voice.codec, voice.encrypts, voice.transport, voice.ipv6
    )
}

fn transports(server: &Server) -> String {
    let mut text = PHONES.to_owned();
    let own = server.folder.path().display();
    let tls = port();
    let hosts = [("4", "127.0.0.1"), ("6", "[::1]")].into_iter();
    for (name, host) in hosts.filter(|(name, _)| *name == "4" || has_ipv6()) {
        for over in ["udp", "tcp"] {
            let written = write!(
                text,
                "[{over}{name}]\ntype = transport\nprotocol = {over}\nbind = {host}:@SIP_PORT@\n\n"
            );
            written.expect("a String takes all");
        }
        let written = write!(
            text,
            "[tls{name}]\ntype = transport\nprotocol = tls\nbind = {host}:{tls}\nmethod = tlsv1_2\n\
             cert_file = {own}/{CERTIFICATE}\npriv_key_file = {own}/{CERTIFICATE_KEY}\nverify_server = no\n\n"
        );
        written.expect("a String takes all");
    }
    text
}

fn trunk(server: &Server, number: usize, voice: &Voice) -> String {
    let Voice {
        transport, ipv6, ..
    } = voice;
    let (host, family) = if *ipv6 {
        ("[::1]", 6)
    } else {
        ("127.0.0.1", 4)
    };
    let port = match *transport {
        "tls" => server.tls_port,
        _ => server.sip_port,
    };
    let codec = match voice.codec {
        "pcmu" => "ulaw",
        "pcma" => "alaw",
        "g722" => "g722",
        _ => "opus",
    };
    // Either Asterisk gives signs of life, or it knows nothing of them and we do.
    let timers = if number.is_multiple_of(2) {
        "always"
    } else {
        "no"
    };
    let encryption = if voice.encrypts { "sdes" } else { "no" };
    format!(
        "[cell{number}]\ntype = endpoint\ncontext = nobody\ntransport = {transport}{family}\naors = cell{number}\n\
         disallow = all\nallow = {codec}\ndirect_media = no\nmoh_passthrough = yes\nmedia_encryption = {encryption}\n\
         rtp_ipv6 = {ipv6}\ntimers = {timers}\ntimers_min_se = 90\ntimers_sess_expires = 90\n\n\
         [cell{number}]\ntype = aor\ncontact = sip:1000@{host}:{port}\\;transport={transport}\n\n",
        ipv6 = if *ipv6 { "yes" } else { "no" },
    )
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/asterisk"))
}

const EXTENSIONS: &str = "[general]\nstatic = yes\nwriteprotect = yes\n\n\
    [phones]\nexten => _9X,1,Dial(PJSIP/cell${EXTEN:1})\n same => n,Hangup()\n";
const PHONES: &str = "[global]\ntype = global\nendpoint_identifier_order = ip\n\n\
    [phones]\ntype = endpoint\ncontext = phones\ndisallow = all\nallow = ulaw,alaw,g722,opus\ndirect_media = no\n\n\
    [phones]\ntype = identify\nendpoint = phones\nmatch = 127.0.0.1\n\n";
const RTP_PORTS: u16 = 60;
