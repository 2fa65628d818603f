//! The built program on ports of its own, and the API that a booking system would use.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ports::{port, ports};

/// A running node; ended and its log checked when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sip_port: u16,
    pub(crate) tls_port: u16,
    pub(crate) http_port: u16,
    pub(crate) key: String,
    media: u16,
    media_count: u16,
    secrets: std::sync::Mutex<Vec<String>>,
    log_level: &'static str,
}

/// A booked meeting.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    pub(crate) id: String,
    pub(crate) guest: String,
    pub(crate) host: String,
}

impl Server {
    /// Starts a node with the defaults and, after them, `extra` (TOML sections other than `sip.listen`,
    /// `http`, `media`, `node`).
    pub(crate) fn start(extra: &str) -> Self {
        Self::start_with_log(extra, "trace", &["127.0.0.1"], MEDIA_PORTS)
    }

    /// As [`Self::start`], for callers by IPv4 and IPv6.
    pub(crate) fn of_both_families(extra: &str) -> Self {
        Self::start_with_log(extra, "debug", &["0.0.0.0", "[::]"], MEDIA_PORTS)
    }

    /// As [`Self::start`], for more calls than there is room for in a log of everything.
    pub(crate) fn start_quiet(extra: &str) -> Self {
        Self::start_with_log(extra, "info", &["127.0.0.1"], MEDIA_PORTS)
    }

    /// As [`Self::start_quiet`], at another address of this machine.
    pub(crate) fn start_at(host: IpAddr, extra: &str) -> Self {
        Self::start_with_log(extra, "info", &[&host.to_string()], MEDIA_PORTS)
    }

    /// As [`Self::start_quiet`], with ports for the audio of so many calls at once.
    pub(crate) fn start_for(calls: u16, extra: &str) -> Self {
        open_many_files();
        Self::start_with_log(extra, "info", &["127.0.0.1"], 2 * calls)
    }

    fn start_with_log(
        extra: &str,
        log_level: &'static str,
        hosts: &[&str],
        media_count: u16,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [sip_port, tls_port, http_port] = [port(), port(), port()];
        write_certificate(folder.path());
        let media = ports(media_count);
        let listen: Vec<String> = hosts
            .iter()
            .flat_map(|host| {
                [("udp", sip_port), ("tcp", sip_port), ("tls", tls_port)]
                    .map(|(over, port)| format!("{over}:{host}:{port}"))
            })
            .collect();
        let address = match hosts {
            [one] => format!("media.address = {one:?}\n"),
            _ => String::new(),
        };
        let config = format!(
            "node.data_dir = {data:?}\nnode.drain_timeout = \"2s\"\n\
             sip.listen = {listen:?}\n\
             sip.tls.certificate = {certificate:?}\nsip.tls.key = {key:?}\n\
             http.listen = \"127.0.0.1:{http_port}\"\n\
             {address}media.ports = \"{media}-{last}\"\n{extra}\n",
            data = folder.path().join("data"),
            certificate = folder.path().join(CERTIFICATE),
            key = folder.path().join(CERTIFICATE_KEY),
            last = media + media_count - 1,
        );
        fs::write(folder.path().join("voicebridge.toml"), config).expect("config written");
        let key = create_key(
            folder.path(),
            &["--organisation", "test", "--role", "admin"],
        );
        let process = spawn(folder.path(), log_level);
        let server = Self {
            process,
            folder,
            sip_port,
            tls_port,
            http_port,
            key: key.clone(),
            media,
            media_count,
            secrets: vec![key].into(),
            log_level,
        };
        server.wait_until_ready();
        server
    }

    /// Ends the process without warning.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("waited");
    }

    /// Kills the process without warning and starts it again on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// After an end.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), self.log_level);
        self.wait_until_ready();
    }

    /// SIGTERM; how long the process took to end by itself, and whether it said success.
    pub(crate) fn terminate(&mut self) -> (Duration, bool) {
        let asked = Instant::now();
        signal(self.process.id(), "TERM");
        let status = self.process.wait().expect("waited");
        (asked.elapsed(), status.success())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if ureq::get(self.url("/readyz")).call().is_ok() {
                return;
            }
            sleep(Duration::from_millis(50));
        }
        panic!("not ready after a minute; log:\n{}", self.log());
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http_port)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let ask = || {
            ureq::get(self.url(path))
                .header("Authorization", format!("Bearer {}", self.key))
                .call()
        };
        // Without optimisation, encoding the first prompt can keep the gateway longer than the API waits.
        let busy =
            |answer: &Result<_, ureq::Error>| matches!(answer, Err(ureq::Error::StatusCode(503)));
        let mut answer = ask();
        for _ in 0..10 {
            if !busy(&answer) {
                break;
            }
            sleep(Duration::from_millis(200));
            answer = ask();
        }
        let mut answer = answer.expect("answered");
        answer.body_mut().read_json().expect("JSON")
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) {
        ureq::patch(self.url(path))
            .header("Authorization", format!("Bearer {}", self.key))
            .send_json(body)
            .expect("changed");
    }

    /// Status and problem code of a POST.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, String) {
        let asked = ureq::post(self.url(path))
            .config()
            .http_status_as_error(false)
            .build()
            .header("Authorization", format!("Bearer {}", self.key))
            .send_json(body);
        let mut answer = asked.expect("answered");
        let said: Value = answer.body_mut().read_json().unwrap_or_default();
        let code = said["code"].as_str().unwrap_or_default().to_owned();
        (answer.status().as_u16(), code)
    }

    /// What the API says to this, asked with this key.
    pub(crate) fn send(&self, method: &str, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let url = self.url(path);
        let request = match method {
            "PATCH" => agent.patch(url),
            _ => agent.post(url),
        };
        let mut answer = request
            .header("Authorization", format!("Bearer {key}"))
            .send_json(body)
            .expect("answered");
        let told = answer.body_mut().read_json().expect("JSON");
        (answer.status().as_u16(), told)
    }

    /// What `voicebridge check` says.
    pub(crate) fn check(&self) -> String {
        let output = program(self.folder.path(), &["check"]).output();
        let output = output.expect("check runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What this key is shown.
    pub(crate) fn get_by(&self, path: &str, key: &str) -> Value {
        let asked = ureq::get(self.url(path)).header("Authorization", format!("Bearer {key}"));
        let mut answer = asked.call().expect("answered");
        answer.body_mut().read_json().expect("JSON")
    }

    /// A key of its own.
    pub(crate) fn create_key(&self, options: &[&str]) -> String {
        let key = create_key(self.folder.path(), options);
        self.remember(&[&key]);
        key
    }

    /// Those that calls may get for their audio.
    pub(crate) fn media_ports(&self) -> impl Iterator<Item = u16> {
        (self.media..self.media + self.media_count).step_by(2)
    }

    pub(crate) fn metrics(&self) -> String {
        let mut answer = ureq::get(self.url("/metrics")).call().expect("answered");
        answer.body_mut().read_to_string().expect("text")
    }

    /// One of the figures that `/metrics` tell; 0 where it isn't told yet.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let all = self.metrics();
        let mut lines = all.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        resident_kib(self.pid())
    }

    /// User and system time so far: fields 14 and 15 of proc(5)'s stat, after the name in parentheses.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.map(|n| n.parse::<u32>().expect("a number")).sum();
        ticks * PROC_TICK
    }

    /// Once the prompts are ready, which are made in the background.
    pub(crate) fn settled_kib(&self) -> u64 {
        let mut before = 0;
        for _ in 0..30 {
            let now = self.resident_kib();
            if now.abs_diff(before) < 256 {
                return now;
            }
            before = now;
            sleep(Duration::from_secs(2));
        }
        before
    }

    pub(crate) fn delete(&self, path: &str) {
        ureq::delete(self.url(path))
            .header("Authorization", format!("Bearer {}", self.key))
            .call()
            .expect("deleted");
    }

    /// Books a meeting that is open now, with `more` on top.
    pub(crate) fn book(&self, more: &Value) -> Meeting {
        let now = jiff_now();
        let mut body = json!({
            "title": "Test", "timezone": "Europe/Rome",
            "starts_at": stamp(now - 600), "ends_at": stamp(now + 3_600),
        });
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let mut answer = ureq::post(self.url("/v1/meetings"))
            .header("Authorization", format!("Bearer {}", self.key))
            .send_json(&body)
            .expect("booked");
        let meeting: Value = answer.body_mut().read_json().expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let booked = Meeting {
            id: text(&meeting["id"]),
            guest: text(&meeting["pins"]["guest"]),
            host: text(&meeting["pins"]["host"]),
        };
        self.remember(&[&booked.guest, &booked.host]);
        booked
    }

    /// These must not appear in the log.
    pub(crate) fn remember(&self, secrets: &[&str]) {
        let mut all = self
            .secrets
            .lock()
            .expect("no test panics while holding it");
        all.extend(secrets.iter().map(|&s| s.to_owned()));
    }

    /// The record of the newest call that was not there before `known` records.
    pub(crate) fn call_after(&self, known: usize) -> Value {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let calls = self.calls();
            if calls.len() > known {
                return calls.first().cloned().expect("one at least");
            }
            assert!(Instant::now() < deadline, "no further call record");
            sleep(Duration::from_millis(50));
        }
    }

    /// All call records, the newest first.
    pub(crate) fn calls(&self) -> Vec<Value> {
        self.get("/v1/calls?limit=1000")["items"]
            .as_array()
            .expect("a list")
            .clone()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("data/voicebridge.db")
    }

    fn assert_log_is_clean(&self) {
        let log = self.log();
        for secret in self
            .secrets
            .lock()
            .expect("no test panics while holding it")
            .iter()
        {
            assert!(!log.contains(secret.as_str()), "a secret stands in the log");
        }
        assert!(!log.contains(CALLER), "a caller's number stands in the log");
        assert!(!log.contains("Signal="), "a key pressed stands in the log");
        assert!(!log.contains("inline:"), "a key of SRTP is in the log");
        assert!(!log.contains("panicked"), "something panicked:\n{log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().ok().flatten().is_none() {
            self.terminate();
        }
        if !std::thread::panicking() {
            self.assert_log_is_clean();
        } else {
            // The log helps whoever reads the failure.
            let log = self.log();
            let tail: Vec<&str> = log
                .lines()
                .rev()
                .filter(|l| !l.contains("TRACE"))
                .take(60)
                .collect();
            let _written = writeln!(
                std::io::stderr(),
                "server log, newest first:\n{}",
                tail.join("\n")
            );
        }
    }
}

/// The number all scenarios call from, as in their From.
pub(crate) const CERTIFICATE: &str = "certificate.pem";
pub(crate) const CERTIFICATE_KEY: &str = "certificate-key.pem";
pub(crate) const CALLER: &str = "+390612345678";

fn spawn(folder: &Path, log_level: &str) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("log file");
    program(folder, &["serve"])
        .env("RUST_LOG", log_level)
        .stdout(log.try_clone().expect("log file"))
        .stderr(log)
        .spawn()
        .expect("the server starts")
}

/// A certificate for this machine that vouches for itself; another one each time.
pub(crate) fn write_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1", "::1"].map(str::to_owned))
        .expect("a certificate");
    fs::write(folder.join(CERTIFICATE), made.cert.pem()).expect("written");
    fs::write(
        folder.join(CERTIFICATE_KEY),
        made.signing_key.serialize_pem(),
    )
    .expect("written");
}

fn create_key(folder: &Path, options: &[&str]) -> String {
    let output = program(folder, &[&["key", "create"], options].concat())
        .stderr(Stdio::inherit())
        .output()
        .expect("key create runs");
    assert!(output.status.success(), "key create failed");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

/// The built program with the folder's configuration.
fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_voicebridge"));
    command
        .args(arguments)
        .arg("--config")
        .arg(folder.join("voicebridge.toml"))
        .current_dir(folder);
    command
}

pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "signal not sent");
}

fn jiff_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub(crate) fn stamp(second: i64) -> String {
    jiff::Timestamp::from_second(second)
        .expect("in range")
        .to_string()
}

/// Of one process.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    kib.expect("a number")
}

/// This process, and the nodes that it starts from now on, may have as many files open as the system lets them.
pub(crate) fn open_many_files() {
    // SAFETY: both calls are given a whole `rlimit`, which the first one fills in and the second one reads.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

pub(crate) fn in_seconds(offset: i64) -> String {
    stamp(jiff_now() + offset)
}

/// What Linux counts times in that it tells in /proc.
const PROC_TICK: Duration = Duration::from_millis(10);
/// Enough for 210 calls: the load test has 200.
const MEDIA_PORTS: u16 = 420;
