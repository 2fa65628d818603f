//! Real phones: each plays tone bursts of its own and records what it hears.

use std::f64::consts::TAU;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::outcomes::wait_for_participants;
use crate::ports::{port, ports};
use crate::server::{CALLER, CERTIFICATE, Meeting, Server};

#[test]
fn every_phone_hears_the_three_others_alike_and_never_itself() {
    let server = Server::start("");
    let (meeting, elsewhere) = (server.book(&json!({})), server.book(&json!({})));
    let mut phones: Vec<Phone> = VOICES.iter().map(|v| Phone::start(&server, v)).collect();
    // The one elsewhere has company: who is alone hears music.
    phones.extend([FIFTH, COMPANY].iter().map(|v| Phone::start(&server, v)));
    thread::scope(|scope| {
        for (index, phone) in phones.iter_mut().enumerate() {
            let booked = if index < VOICES.len() {
                &meeting
            } else {
                &elsewhere
            };
            scope.spawn(move || phone.enter(booked));
        }
    });
    wait_for_participants(&server, &meeting.id, VOICES.len());
    wait_for_participants(&server, &elsewhere.id, 2);
    assert_codecs(&server, &meeting);
    sleep(TALK);
    for phone in &mut phones {
        phone.write("\n/quit\n");
    }
    let recordings: Vec<Recording> = phones.into_iter().map(Phone::finish).collect();
    let heard: Vec<[f64; 4]> = recordings.iter().map(Recording::levels).collect();
    for (name, levels) in NAMES.iter().zip(&heard) {
        eprintln!("{name}: {}", in_words(levels));
    }
    for (own, levels) in heard.iter().take(VOICES.len()).enumerate() {
        assert_hears_others(NAMES[own], own, levels);
    }
    let company = recordings[VOICES.len()].level(&COMPANY);
    eprintln!(
        "the fifth's company: {} Hz {company:.1} dBFS",
        COMPANY.tone_hz
    );
    assert!(
        (company - SENT_DBFS).abs() <= LEVEL_ERROR_DB,
        "the fifth hears its company"
    );
    let told = in_words(&heard[VOICES.len()]);
    for level in heard[VOICES.len()] {
        assert!(
            level < SENT_DBFS - SEPARATION_DB,
            "the fifth hears the other meeting: {told}"
        );
    }
}

fn assert_hears_others(name: &str, own: usize, levels: &[f64; 4]) {
    let others = || (0..levels.len()).filter(|i| *i != own).map(|i| levels[i]);
    let (lowest, highest) = (
        others().fold(f64::INFINITY, f64::min),
        others().fold(f64::NEG_INFINITY, f64::max),
    );
    let told = in_words(levels);
    assert!(highest - lowest <= EVENNESS_DB, "{name}, uneven: {told}");
    assert!(
        (lowest - SENT_DBFS).abs() <= LEVEL_ERROR_DB,
        "{name}, wrong level: {told}"
    );
    assert!(
        (highest - SENT_DBFS).abs() <= LEVEL_ERROR_DB,
        "{name}, wrong level: {told}"
    );
    assert!(
        levels[own] <= lowest - SEPARATION_DB,
        "{name} hears itself: {told}"
    );
}

/// The phones did get the codecs they are here for.
fn assert_codecs(server: &Server, meeting: &Meeting) {
    let people = server.get(&format!("/v1/meetings/{}/participants", meeting.id));
    let items = people["items"].as_array().expect("a list");
    let mut codecs: Vec<String> = items
        .iter()
        .map(|item| item["codec"].as_str().expect("a codec").to_lowercase())
        .collect();
    codecs.sort();
    assert_eq!(codecs, ["g722", "opus", "pcmu", "pcmu"], "{people}");
}

fn in_words(levels: &[f64; 4]) -> String {
    let each: Vec<String> = VOICES
        .iter()
        .zip(levels)
        .map(|(voice, level)| format!("{} Hz {level:.1} dBFS", voice.tone_hz))
        .collect();
    each.join(", ")
}

/// How a phone is set up and what it plays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    /// The codec's name in baresip's account line.
    pub(crate) codec: &'static str,
    pub(crate) module: &'static str,
    /// Rate and channels that baresip runs the codec at.
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    pub(crate) transport: &'static str,
    /// It and whom it calls are at `::1`.
    pub(crate) ipv6: bool,
    /// Its audio is encrypted (SRTP with keys in the SDP), or there is none.
    pub(crate) encrypts: bool,
    /// The same with keys by a handshake (DTLS-SRTP) instead.
    pub(crate) shakes_hands: bool,
    /// It finds its way by checks (ICE).
    pub(crate) checks: bool,
    /// No frequency of the keypad is near; 0 is silence.
    pub(crate) tone_hz: f64,
    pub(crate) on_ms: u32,
    pub(crate) off_ms: u32,
    /// Of its packets, and asked of those that it is sent.
    pub(crate) packet_ms: u32,
}

/// A running baresip.
pub(crate) struct Phone {
    process: Child,
    stdin: ChildStdin,
    folder: tempfile::TempDir,
    uri: String,
}

impl Phone {
    fn start(server: &Server, voice: &Voice) -> Self {
        let port = match voice.transport {
            "tls" => server.tls_port,
            _ => server.sip_port,
        };
        Self::calling(server, voice, port, "1000")
    }

    /// One that will call this number at this port of the machine.
    pub(crate) fn calling(server: &Server, voice: &Voice, port: u16, number: &str) -> Self {
        Self::calling_as(server, voice, port, number, CALLER)
    }

    /// The same, from this number.
    pub(crate) fn calling_as(
        server: &Server,
        voice: &Voice,
        port: u16,
        number: &str,
        user: &str,
    ) -> Self {
        let uri = format!(
            "sip:{number}@{}:{port};transport={}",
            voice.host(),
            voice.transport
        );
        let account = format!("<sip:{user}@{}>;regint=0", voice.host());
        Self::running(server, voice, self::port(), &account, uri)
    }

    /// One that proves who it is where it is asked.
    pub(crate) fn proving(server: &Server, voice: &Voice, user: &str, password: &str) -> Self {
        let uri = format!("sip:1000@{}:{}", voice.host(), server.sip_port);
        let account = format!(
            "<sip:{user}@{}>;regint=0;auth_user={user};auth_pass={password}",
            voice.host()
        );
        Self::running(server, voice, port(), &account, uri)
    }

    /// One that has this number and is called there; it rings, or answers at once.
    pub(crate) fn called(
        server: &Server,
        voice: &Voice,
        number: &str,
        port: u16,
        answers: bool,
    ) -> Self {
        let mode = if answers { ";answermode=auto" } else { "" };
        let account = format!("<sip:{number}@{}>;regint=0{mode}", voice.host());
        let phone = Self::running(server, voice, port, &account, String::new());
        let deadline = Instant::now() + ANSWER;
        while UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < deadline, "baresip doesn't listen");
            sleep(Duration::from_millis(50));
        }
        phone
    }

    /// One that registers at this port of the machine as who has this number, and answers at once.
    pub(crate) fn registered(
        server: &Server,
        voice: &Voice,
        number: &str,
        registrar: u16,
        password: &str,
    ) -> Self {
        let account = format!(
            "<sip:{number}@{}:{registrar}>;auth_user={number};auth_pass={password};regint=60;answermode=auto",
            voice.host()
        );
        Self::running(server, voice, port(), &account, String::new())
    }

    fn running(server: &Server, voice: &Voice, port: u16, account: &str, uri: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vouched = server.folder.path().join(CERTIFICATE);
        voice.write_configuration(folder.path(), &vouched, port, account);
        let output = File::create(folder.path().join("out")).expect("output file");
        let mut process = Command::new("baresip")
            .arg("-v")
            .arg("-f")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("output file"))
            .stderr(output)
            .spawn()
            .expect("baresip is installed (scripts/install-test-deps)");
        let stdin = process.stdin.take().expect("piped");
        Self {
            process,
            stdin,
            folder,
            uri,
        }
    }

    /// Dials and keys in the PIN, as fast as baresip's own key release allows.
    pub(crate) fn enter(&mut self, meeting: &Meeting) {
        self.dial();
        sleep(Duration::from_millis(500));
        self.key_in(&format!("{}#", meeting.guest));
    }

    /// As fast as baresip's own key release allows.
    pub(crate) fn key_in(&mut self, keys: &str) {
        for key in keys.chars() {
            self.write(&key.to_string());
            sleep(KEY);
        }
    }

    /// Dials and waits for the answer; while the node has too much to do for another call, again and again.
    pub(crate) fn dial(&mut self) {
        self.ask_for_call();
        let (deadline, mut refused) = (Instant::now() + RELIEF, 0);
        let is_refused = |said: &str| said.matches(": session closed: 503 ").count();
        self.wait_until(deadline, |phone| {
            if phone.recording().is_some() {
                return true;
            }
            if is_refused(&phone.said()) > refused {
                refused += 1;
                sleep(BREATH);
                phone.ask_for_call();
            }
            false
        });
    }

    /// Dials.
    pub(crate) fn ask_for_call(&mut self) {
        self.write(&format!("/dial {}\n", self.uri));
    }

    /// Waits until it is in a call.
    pub(crate) fn wait_for_call(&mut self) {
        self.wait_until(Instant::now() + ANSWER, |phone| phone.recording().is_some());
    }

    fn wait_until(&mut self, deadline: Instant, mut is_so: impl FnMut(&mut Self) -> bool) {
        while !is_so(self) {
            let ended = self.process.try_wait().expect("waited");
            assert!(ended.is_none(), "baresip gave up: {ended:?}");
            assert!(Instant::now() < deadline, "not answered");
            sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it has been called so many times.
    pub(crate) fn wait_for_ringing(&mut self, times: usize) {
        let deadline = Instant::now() + ANSWER;
        loop {
            let said = fs::read(self.folder.path().join("out")).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if said.matches("Incoming call from").count() >= times {
                return;
            }
            assert!(Instant::now() < deadline, "it doesn't ring: {said}");
            sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).expect("baresip runs");
        self.stdin.flush().expect("baresip runs");
    }

    /// What it has heard in the last so many seconds; `None`: it wasn't in a call for so long.
    pub(crate) fn has_heard(&self, seconds: f64) -> Option<Recording> {
        Recording::end_of(&self.recording()?, seconds, 0)
    }

    /// What it has printed.
    pub(crate) fn said(&self) -> String {
        let said = fs::read(self.folder.path().join("out")).unwrap_or_default();
        String::from_utf8_lossy(&said).replace('\r', "\n")
    }

    /// What it hears; the file is there once the call is answered.
    fn recording(&self) -> Option<PathBuf> {
        let files = fs::read_dir(self.folder.path()).expect("its folder");
        files
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().ends_with("-dec.wav"))
    }

    pub(crate) fn finish(mut self) -> Recording {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.process.try_wait().expect("waited").is_none() {
            assert!(Instant::now() < deadline, "baresip does not quit");
            sleep(Duration::from_millis(20));
        }
        Recording::read(&self.recording().expect("a recording"))
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        if self.process.try_wait().ok().flatten().is_none() {
            let _killed = self.process.kill();
            let _ended = self.process.wait();
        }
        if thread::panicking() {
            let output = fs::read(self.folder.path().join("out")).unwrap_or_default();
            eprintln!(
                "baresip: {}",
                String::from_utf8_lossy(&output).replace('\r', "\n")
            );
        }
    }
}

impl Voice {
    /// As URIs have it.
    fn host(&self) -> &'static str {
        if self.ipv6 { "[::1]" } else { "127.0.0.1" }
    }

    fn write_configuration(&self, folder: &Path, vouched: &Path, sip: u16, account: &str) {
        let first = ports(RTP_PORTS);
        let path = folder.display();
        let config = format!(
            "poll_method epoll\nsip_listen {host}:{sip}\nnet_interface {address}\n\
             sip_cafile {vouched}\nsip_verify_server yes\n\
             rtp_ports {first}-{last}\nrtcp_mux {muxed}\naudio_level no\n\
             audio_source aufile,{path}/tone.wav\naudio_player aubridge,heard\naudio_alert aubridge,alert\n\
             module_path /usr/lib/baresip/modules\nmodule stdio.so\nmodule {module}\nmodule aufile.so\n\
             module srtp.so\nmodule dtls_srtp.so\nmodule ice.so\nmodule aubridge.so\nmodule sndfile.so\nsnd_path {path}\nmodule_tmp account.so\nmodule_app menu.so\n",
            host = self.host(),
            address = self.host().trim_matches(['[', ']']),
            vouched = vouched.display(),
            last = first + RTP_PORTS - 1,
            module = self.module,
            muxed = if self.shakes_hands { "yes" } else { "no" },
        );
        let encryption = match (self.encrypts, self.shakes_hands) {
            (_, true) => ";mediaenc=dtls_srtp",
            (true, false) => ";mediaenc=srtp-mand",
            (false, false) => "",
        };
        let checks = if self.checks { ";medianat=ice" } else { "" };
        let account = format!(
            "{account};audio_codecs={};ptime={}{encryption}{checks}\n",
            self.codec, self.packet_ms
        );
        fs::write(folder.join("config"), config).expect("written");
        fs::write(folder.join("accounts"), account).expect("written");
        fs::write(folder.join("tone.wav"), self.wave()).expect("written");
    }

    /// RIFF WAVE, 16 bit PCM.
    pub(crate) fn wave(&self) -> Vec<u8> {
        let block = self.channels * 2;
        let frames = self.rate * PLAY_SECONDS;
        let bytes = frames * u32::from(block);
        let mut file = Vec::with_capacity(44 + bytes as usize);
        file.extend(b"RIFF");
        file.extend((36 + bytes).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
        file.extend(self.channels.to_le_bytes());
        file.extend(self.rate.to_le_bytes());
        file.extend((self.rate * u32::from(block)).to_le_bytes());
        file.extend(block.to_le_bytes());
        file.extend(b"\x10\0data");
        file.extend(bytes.to_le_bytes());
        for frame in 0..frames {
            let sample = self.sample(frame).to_le_bytes();
            for _ in 0..self.channels {
                file.extend(sample);
            }
        }
        file
    }

    pub(crate) fn sample(&self, frame: u32) -> i16 {
        let milliseconds = u64::from(frame) * 1_000 / u64::from(self.rate);
        let on = milliseconds % u64::from(self.on_ms + self.off_ms) < u64::from(self.on_ms);
        let phase = self.tone_hz * f64::from(frame) / f64::from(self.rate);
        let amplitude = 10_f64.powf(SENT_DBFS / 20.0) * 2_f64.sqrt() * 32_768.0;
        if on {
            (amplitude * (TAU * phase).sin()).round() as i16
        } else {
            0
        }
    }
}

/// What a phone heard: one channel.
pub(crate) struct Recording {
    rate: f64,
    samples: Vec<i16>,
}

impl Recording {
    /// Walks the chunks: what wrote the file may put more than two into it.
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("read");
        let number = |at: usize, length: usize| {
            let raw = bytes[at..at + length].iter().rev();
            raw.fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (mut rate, mut channels, mut at) = (0.0, 1, 12);
        loop {
            let (name, length) = (&bytes[at..at + 4], number(at + 4, 4));
            at += 8;
            match name {
                b"fmt " => {
                    assert_eq!(number(at + 14, 2), 16, "bits per sample");
                    (channels, rate) = (number(at + 2, 2), number(at + 4, 4) as f64);
                }
                b"data" => {
                    let end = (at + length).min(bytes.len());
                    let frames = bytes[at..end].chunks_exact(2 * channels);
                    let samples = frames.map(|f| i16::from_le_bytes([f[0], f[1]])).collect();
                    return Self { rate, samples };
                }
                _ => {}
            }
            at += length + length % 2;
        }
    }

    /// The last so many seconds of a file that is still being written; its head may be written when it is
    /// closed: then it is one channel of this rate.
    pub(crate) fn end_of(path: &Path, seconds: f64, rate: u32) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut head = [0; HEAD_BYTES];
        file.read_exact(&mut head).ok()?;
        let (channels, rate) = match head.starts_with(b"RIFF") {
            true => (
                u64::from(u16::from_le_bytes([head[22], head[23]])),
                u32::from_le_bytes(std::array::from_fn(|at| head[24 + at])),
            ),
            false => (1, rate),
        };
        let bytes = (f64::from(rate) * seconds) as u64 * 2 * channels;
        let length = file.metadata().ok()?.len().checked_sub(HEAD_BYTES as u64)?;
        let written = length / (2 * channels);
        let from = (written * 2 * channels).checked_sub(bytes)?;
        file.seek(SeekFrom::Start(HEAD_BYTES as u64 + from)).ok()?;
        let mut part = Vec::new();
        file.take(bytes).read_to_end(&mut part).ok()?;
        let frames = part.chunks_exact(2 * channels as usize);
        Some(Self {
            rate: f64::from(rate),
            samples: frames.map(|f| i16::from_le_bytes([f[0], f[1]])).collect(),
        })
    }

    /// The level of a tone in its bursts, dBFS.
    pub(crate) fn level_of(&self, tone_hz: f64) -> f64 {
        let window = (self.rate * WINDOW_SECONDS) as usize;
        let blocks = self.samples.chunks_exact(window);
        let mut levels: Vec<f64> = blocks
            .map(|block| level_of(tone_hz, self.rate, block))
            .collect();
        levels.sort_by(f64::total_cmp);
        levels.get(levels.len() * 9 / 10).copied().unwrap_or(-140.0)
    }

    fn levels(&self) -> [f64; 4] {
        VOICES.map(|voice| self.level(&voice))
    }

    /// The level of a voice's tone in its bursts, dBFS: of all windows the 90th percentile, from the time
    /// when all were in and had been told so, and before the first left.
    pub(crate) fn level(&self, voice: &Voice) -> f64 {
        let seconds = self.samples.len() as f64 / self.rate;
        assert!(
            seconds > TALK.as_secs_f64(),
            "only {seconds} s were recorded"
        );
        self.level_between(voice, TALK.as_secs_f64() - SETTLE_SECONDS, LEAVE_SECONDS)
    }

    /// The same from so many to so many seconds before the end.
    pub(crate) fn level_between(&self, voice: &Voice, from: f64, to: f64) -> f64 {
        let at = |before_end: f64| self.samples.len() - (before_end * self.rate) as usize;
        let part = &self.samples[at(from)..at(to)];
        let window = (self.rate * WINDOW_SECONDS) as usize;
        let mut levels: Vec<f64> = part
            .chunks_exact(window)
            .map(|block| level_of(voice.tone_hz, self.rate, block))
            .collect();
        levels.sort_by(f64::total_cmp);
        levels[levels.len() * 9 / 10]
    }
}

/// RMS of one frequency under a Hann window, whose side lobes (unlike those of no window) are far below
/// what is to be told apart here: dBFS.
fn level_of(hz: f64, rate: f64, block: &[i16]) -> f64 {
    let (mut real, mut imaginary, mut weight) = (0.0, 0.0, 0.0);
    // Both waves are turned on from sample to sample: their sines are too dear where many phones are heard.
    let turned = |(sin, cos): (f64, f64), (by_sin, by_cos): (f64, f64)| {
        (sin * by_cos + cos * by_sin, cos * by_cos - sin * by_sin)
    };
    let window = (TAU / block.len() as f64).sin_cos();
    let tone = (TAU * hz / rate).sin_cos();
    let (mut at, mut wave) = ((TAU * 0.5 / block.len() as f64).sin_cos(), (0.0, 1.0));
    for sample in block {
        let hann = 0.5 - 0.5 * at.1;
        real += hann * wave.1 * f64::from(*sample);
        imaginary += hann * wave.0 * f64::from(*sample);
        weight += hann;
        (at, wave) = (turned(at, window), turned(wave, tone));
    }
    let amplitude = 2.0 * f64::hypot(real, imaginary) / weight / 32_768.0;
    20.0 * (amplitude / 2_f64.sqrt()).max(1e-7).log10()
}

pub(crate) const PCMU: Voice = Voice {
    codec: "pcmu",
    module: "g711.so",
    rate: 8_000,
    channels: 1,
    transport: "udp",
    ipv6: false,
    encrypts: false,
    shakes_hands: false,
    checks: false,
    tone_hz: 500.0,
    on_ms: 300,
    off_ms: 200,
    packet_ms: 20,
};
pub(crate) const PCMA: Voice = Voice {
    codec: "pcma",
    tone_hz: 1_050.0,
    on_ms: 350,
    off_ms: 250,
    ..PCMU
};
pub(crate) const G722: Voice = Voice {
    codec: "g722",
    module: "g722.so",
    rate: 16_000,
    tone_hz: 1_850.0,
    on_ms: 400,
    off_ms: 150,
    ..PCMU
};
pub(crate) const OPUS: Voice = Voice {
    codec: "opus/48000/2",
    module: "opus.so",
    rate: 48_000,
    channels: 2,
    tone_hz: 2_500.0,
    on_ms: 450,
    off_ms: 300,
    ..PCMU
};
const VOICES: [Voice; 4] = [
    PCMU,
    Voice {
        transport: "tcp",
        tone_hz: 1_050.0,
        on_ms: 350,
        off_ms: 250,
        ..PCMU
    },
    G722,
    Voice {
        transport: "tcp",
        encrypts: true,
        ..OPUS
    },
];
const FIFTH: Voice = Voice {
    tone_hz: 0.0,
    transport: "udp",
    ..PCMU
};
const COMPANY: Voice = Voice {
    tone_hz: 3_000.0,
    transport: "tls",
    encrypts: true,
    ..PCMU
};
const NAMES: [&str; 5] = [
    "PCMU, UDP",
    "PCMU, TCP",
    "G.722, UDP",
    "Opus, TCP, SRTP",
    "elsewhere",
];

pub(crate) const SENT_DBFS: f64 = -20.0;
const EVENNESS_DB: f64 = 3.0;
pub(crate) const LEVEL_ERROR_DB: f64 = 3.0;
pub(crate) const SEPARATION_DB: f64 = 30.0;
/// Of a WAVE file with one chunk before its samples.
const HEAD_BYTES: usize = 44;
const WINDOW_SECONDS: f64 = 0.1;
const PLAY_SECONDS: u32 = 150;
/// From the moment all are in until they leave: first they are told how many others there are.
pub(crate) const TALK: Duration = Duration::from_secs(20);
const SETTLE_SECONDS: f64 = 7.0;
const LEAVE_SECONDS: f64 = 2.0;
const ANSWER: Duration = Duration::from_secs(20);
/// How long a node may refuse calls because its machine is busy with something else.
const RELIEF: Duration = Duration::from_secs(60);
const BREATH: Duration = Duration::from_secs(2);
/// baresip holds a key typed at its console for 250 ms, and a busy machine may read it late.
const KEY: Duration = Duration::from_millis(600);
const RTP_PORTS: u16 = 20;

/// Ends the call of two phones that were in together, the first with [`PCMA`], the other with [`PCMU`]: each heard the
/// other as loud as he spoke, and not himself.
pub(crate) fn assert_they_heard_each_other(mut first: Phone, mut second: Phone) {
    for phone in [&mut first, &mut second] {
        phone.write("\n/quit\n");
    }
    let (by_first, by_second) = (first.finish(), second.finish());
    for (heard, other, own) in [(by_first, PCMU, PCMA), (by_second, PCMA, PCMU)] {
        let (level, echo) = (heard.level(&other), heard.level(&own));
        assert!((level - SENT_DBFS).abs() <= LEVEL_ERROR_DB, "{level}");
        assert!(echo < SENT_DBFS - SEPARATION_DB, "hears himself: {echo}");
    }
}
