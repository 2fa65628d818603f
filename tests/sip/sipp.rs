//! sipp, one scenario at a time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::baresip::Voice;
use crate::ports::{port, ports};
use crate::server::Server;

/// What a scenario is run with; keys are what `[name]` stands for in it.
pub(crate) struct Scenario<'a> {
    pub(crate) name: &'a str,
    pub(crate) keys: Vec<(String, String)>,
    pub(crate) number: &'a str,
    pub(crate) tcp: bool,
    /// From `::1` to `::1`.
    pub(crate) ipv6: bool,
    /// It goes on where something comes that the scenario doesn't expect.
    pub(crate) patient: bool,
    pub(crate) calls: u32,
    /// A second.
    pub(crate) rate: u32,
    /// Where to, if not to the server itself.
    pub(crate) port: Option<u16>,
    /// A-law audio that the scenario plays as `keys.alaw`.
    pub(crate) audio: Vec<u8>,
}

impl<'a> Scenario<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        Self {
            name,
            keys: Vec::new(),
            number: "1000",
            tcp: false,
            ipv6: false,
            patient: false,
            calls: 1,
            rate: 20,
            port: None,
            audio: Vec::new(),
        }
    }

    pub(crate) fn key(mut self, name: &str, value: &str) -> Self {
        self.keys.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn number(mut self, number: &'a str) -> Self {
        self.number = number;
        self
    }

    /// Gives it these keys as tones to play.
    pub(crate) fn in_band_keys(mut self, keys: &str) -> Self {
        self.audio = in_band_keys(keys);
        self
    }

    /// Gives it some seconds of a voice to play over and over.
    pub(crate) fn voice(mut self, voice: &Voice) -> Self {
        let frames = 0..6 * voice.rate * (voice.on_ms + voice.off_ms) / 1_000;
        self.audio = frames.map(|frame| alaw(voice.sample(frame))).collect();
        self
    }

    pub(crate) fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    pub(crate) fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// What comes late, once more, is not the end of it: the scenario itself tells what belongs to what.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// So many calls at once.
    pub(crate) fn calls(mut self, calls: u32) -> Self {
        self.calls = calls;
        self
    }

    /// So many of them begin each second.
    pub(crate) fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    /// By way of whoever listens there.
    pub(crate) fn by(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Runs one call and panics with sipp's own words where it did not go as written.
    /// What sipp counted comes back.
    pub(crate) fn run(self, server: &Server) -> Counted {
        let name = self.name.to_owned();
        self.start(server).finish(&name)
    }

    /// Starts one call.
    pub(crate) fn start(self, server: &Server) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/sip/scenarios/{}.xml", self.name));
        let (control, port, media) = (port(), port(), ports(4));
        fs::write(folder.path().join("keys.alaw"), &self.audio).expect("audio written");
        let output = File::create(folder.path().join("out")).expect("output file");
        let mut command = Command::new("sipp");
        command
            .current_dir(folder.path())
            .args([
                "-i",
                if self.ipv6 { "::1" } else { "127.0.0.1" },
                "-p",
                &port.to_string(),
                "-mp",
                &media.to_string(),
            ])
            // Else it takes 8888 or the next, which may be somebody's.
            .args(["-cp", &control.to_string()])
            .args(["-t", if self.tcp { "t1" } else { "u1" }, "-s", self.number])
            .args(["-m", &self.calls.to_string(), "-r", &self.rate.to_string()])
            .args(["-nostdin", "-trace_err", "-error_file", "errors"])
            .args(["-timeout", "90", "-timeout_error"])
            .arg("-sf")
            .arg(&file);
        if self.patient {
            command.args(["-default_behaviors", "all,-abortunexp"]);
        }
        for (key, value) in &self.keys {
            command.args(["-key", key, value]);
        }
        let to = self.port.unwrap_or(server.sip_port);
        let host = if self.ipv6 { "[::1]" } else { "127.0.0.1" };
        command.arg(format!("{host}:{to}"));
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("output file"))
            .stderr(output)
            .spawn()
            .expect("sipp is installed (scripts/install-test-deps)");
        Running { child, folder }
    }
}

/// sipp's last screen: what it received and how often again.
pub(crate) struct Counted(String);

impl Counted {
    /// How often a response came again, at the step where that happened most.
    pub(crate) fn retransmissions_of(&self, status: &str) -> u32 {
        let rows = self.0.lines().filter_map(|line| {
            let (what, counts) = line.split_once("<----------")?;
            (what.trim() == status).then_some(counts)
        });
        rows.filter_map(|counts| counts.split_whitespace().nth(1)?.parse().ok())
            .max()
            .expect("a row for the status on sipp's screen")
    }
}

/// A call under way.
pub(crate) struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    /// Ends it; what it called is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self, name: &str) -> Counted {
        let status = self.child.wait().expect("waited");
        let read =
            |file: &str| fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        assert!(
            status.success(),
            "{name}: {status}\n{}\n{}",
            read("errors"),
            read("out")
        );
        Counted(read("out"))
    }
}

/// Keys as A-law tones: 120 ms on, 100 ms off, -16 dBFS a tone.
fn in_band_keys(keys: &str) -> Vec<u8> {
    let mut audio = vec![ALAW_SILENCE; 800];
    for key in keys.chars() {
        let (low, high) = frequencies(key);
        audio.extend((0..960).map(|n| {
            let t = f64::from(n) / 8_000.0;
            let wave =
                (std::f64::consts::TAU * low * t).sin() + (std::f64::consts::TAU * high * t).sin();
            alaw((wave * 7_300.0) as i16)
        }));
        audio.extend(std::iter::repeat_n(ALAW_SILENCE, 800));
    }
    audio.extend(std::iter::repeat_n(ALAW_SILENCE, 8_000));
    audio
}

fn frequencies(key: char) -> (f64, f64) {
    let rows = [
        ("123A", 697.0),
        ("456B", 770.0),
        ("789C", 852.0),
        ("*0#D", 941.0),
    ];
    let columns = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
    rows.iter()
        .find_map(|(keys, low)| keys.find(key).map(|column| (*low, columns[column])))
        .expect("a key of the keypad")
}

/// ITU-T G.711 A-law, by the segment rule.
fn alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample >= 0 {
        (0x80, i32::from(sample))
    } else {
        (0, -i32::from(sample) - 1)
    };
    let magnitude = magnitude.clamp(0, 32_767) >> 4;
    let segment = (32 - (magnitude >> 5).leading_zeros()) as i32;
    let code = if segment == 0 {
        magnitude >> 1
    } else {
        (segment << 4) | ((magnitude >> segment) & 15)
    };
    (sign | code as u8) ^ 0x55
}

const ALAW_SILENCE: u8 = 0xD5;
