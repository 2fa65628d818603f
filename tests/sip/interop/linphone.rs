//! linphonec, with files in place of a sound device.

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::baresip::{Recording, Voice};
use crate::ports::{port, ports};
use crate::server::Meeting;

/// A running linphonec.
pub(super) struct Linphone {
    process: Child,
    stdin: ChildStdin,
    folder: tempfile::TempDir,
    uri: String,
    /// Of what it records.
    rate: u32,
}

impl Linphone {
    pub(super) fn start(voice: &Voice, to: u16, user: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Without a place for its database it opens no ports, and says nothing of it.
        fs::create_dir_all(folder.path().join(".local/share/linphone")).expect("made");
        fs::write(folder.path().join("tone.wav"), voice.wave()).expect("written");
        let host = if voice.ipv6 { "[::1]" } else { "127.0.0.1" };
        let (plain, tls, audio) = (port(), port(), ports(2));
        let encryption = if voice.encrypts { "srtp" } else { "none" };
        let text = format!(
            "[sip]\nsip_port={plain}\nsip_tcp_port={plain}\nsip_tls_port={tls}\nuse_ipv6={ipv6}\n\
             verify_server_certs=0\nverify_server_cn=0\nmedia_encryption={encryption}\n\
             media_encryption_mandatory={mandatory}\ncontact=<sip:{user}@{host}>\n\
             [rtp]\naudio_rtp_port={audio}\n{codec}",
            ipv6 = u8::from(voice.ipv6),
            mandatory = u8::from(voice.encrypts),
            codec = only(voice),
        );
        fs::write(folder.path().join("rc"), text).expect("written");
        let output = File::create(folder.path().join("out")).expect("made");
        let mut process = Command::new("linphonec")
            .arg("-c")
            .arg(folder.path().join("rc"))
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("made"))
            .stderr(output)
            .spawn()
            .expect("linphonec is installed (scripts/install-test-deps)");
        let stdin = process.stdin.take().expect("piped");
        Self {
            process,
            stdin,
            folder,
            rate: voice.rate,
            uri: format!("sip:1000@{host}:{to};transport={}", voice.transport),
        }
    }

    pub(super) fn enter(&mut self, meeting: &Meeting) {
        let path = self.folder.path().display().to_string();
        self.wait_for("linphonec>");
        self.write("soundcard use files");
        self.write(&format!("record {path}/heard.wav"));
        self.write(&format!("play {path}/tone.wav"));
        let call = format!("call {}", self.uri);
        self.write(&call);
        self.wait_for("Media streams established");
        self.key_in(&format!("{}#", meeting.guest));
    }

    pub(super) fn key_in(&mut self, keys: &str) {
        for key in keys.chars() {
            self.write(&key.to_string());
            sleep(Duration::from_millis(400));
        }
    }

    pub(super) fn hold(&mut self, on: bool) {
        if on {
            self.write("pause");
            self.wait_for("is now paused");
        } else {
            self.write("resume");
        }
    }

    pub(super) fn write(&mut self, line: &str) {
        let written = self.stdin.write_all(format!("{line}\n").as_bytes());
        written
            .and_then(|()| self.stdin.flush())
            .expect("linphonec runs");
    }

    pub(super) fn has_heard(&self, seconds: f64) -> Option<Recording> {
        Recording::end_of(&self.folder.path().join("heard.wav"), seconds, self.rate)
    }

    pub(super) fn said(&self) -> String {
        let said = fs::read(self.folder.path().join("out")).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// At most some seconds; what wasn't said then shows in what comes of it.
    fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.said().contains(text) && Instant::now() < deadline {
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// This codec and keys, nothing else.
fn only(voice: &Voice) -> String {
    let wanted = voice.codec.split('/').next().unwrap_or_default();
    let known = [
        ("opus", 48_000),
        ("PCMU", 8_000),
        ("PCMA", 8_000),
        ("G722", 8_000),
        ("telephone-event", 8_000),
        ("telephone-event", 48_000),
    ];
    let sections = known.iter().enumerate().map(|(at, (name, rate))| {
        let is_on = name.eq_ignore_ascii_case(wanted) || *name == "telephone-event";
        let is_on = u8::from(is_on);
        format!(
            "[audio_codec_{at}]\nmime={name}\nrate={rate}\nchannels={channels}\nenabled={is_on}\n",
            channels = if *name == "opus" { 2 } else { 1 }
        )
    });
    sections.collect()
}
