//! A real Kamailio, whatever it is there for.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ports::port;
use crate::server::{Server, signal};

/// A running one with a configuration of its own.
pub(crate) struct Kamailio {
    process: Child,
    folder: tempfile::TempDir,
    /// Where it listens, by UDP and TCP at first.
    pub(crate) plain: u16,
}

impl Kamailio {
    /// Starts one in this folder, with what comes after the addresses, modules and settings that all have.
    pub(crate) fn start(folder: tempfile::TempDir, plain: u16, configuration: &str) -> Self {
        let text = format!("#!KAMAILIO\n{HEAD}{configuration}").replace("@FOLDER@", &path(&folder));
        fs::write(folder.path().join("kamailio.cfg"), text).expect("written");
        let mut kamailio = Self {
            process: spawn(&folder),
            folder,
            plain,
        };
        kamailio.wait_until_ready();
        kamailio
    }

    /// Ends all of its processes without warning.
    pub(crate) fn kill(&mut self) {
        let group = format!("-{}", self.process.id());
        let sent = Command::new("kill").args(["-KILL", "--", &group]).status();
        assert!(sent.is_ok_and(|status| status.success()), "not killed");
        self.process.wait().expect("waited");
    }

    /// After an end.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.folder);
        self.wait_until_ready();
    }

    /// What it says to a command.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let socket = format!("unix:{}/ctl", path(&self.folder));
        let asked = Command::new("kamcmd")
            .args(["-s", &socket])
            .args(command)
            .output()
            .expect("kamcmd is of Kamailio's package");
        String::from_utf8_lossy(&asked.stdout).into_owned()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.plain)).is_err() {
            assert!(Instant::now() < deadline, "{}", self.log());
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(self.process.id(), "TERM");
            let _ended = self.process.wait();
        }
        if std::thread::panicking() {
            eprintln!("kamailio: {}", self.log());
        }
    }
}

/// One that phones and trunks register with, by this algorithm of digest; it asks for a password too who calls
/// somebody else than the trunk by a number that begins with 5 or 6.
pub(crate) fn registrar(algorithm: &str, trunk: &str, password: &str) -> Kamailio {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plain = port();
    let text = format!(
        "listen=udp:127.0.0.1:{plain}\nlisten=tcp:127.0.0.1:{plain}\n\
         #!subst \"/@TRUNK@/{trunk}/\"\n#!subst \"/@PASSWORD@/{password}/\"\n\
         modparam(\"auth\", \"algorithm\", \"{algorithm}\")\n{REGISTRAR}"
    );
    // Settings come after the modules that they are for.
    let text = format!(
        "loadmodule \"usrloc.so\"\nloadmodule \"registrar.so\"\nloadmodule \"auth.so\"\n{text}"
    );
    Kamailio::start(folder, plain, &text)
}

/// A certificate of its own. Phones trust what stands in the node's file, which the node itself has read already.
pub(crate) fn vouch_for(server: &Server, folder: &Path) {
    let made = Command::new("openssl")
        .current_dir(folder)
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1,IP:::1",
        ])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .output();
    let made = made.expect("openssl is there: PostgreSQL's package needs it too");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let all = server.folder.path().join(crate::server::CERTIFICATE);
    let both = fs::read_to_string(&all).expect("read")
        + &fs::read_to_string(folder.join("certificate.pem")).expect("read");
    fs::write(all, both).expect("written");
}

/// In a group of its own: it forks.
fn spawn(folder: &tempfile::TempDir) -> Child {
    let output = File::options()
        .create(true)
        .append(true)
        .open(folder.path().join("log"))
        .expect("made");
    let path = path(folder);
    Command::new("kamailio")
        .args(["-DD", "-E", "-m", "32", "-f"])
        .arg(folder.path().join("kamailio.cfg"))
        .args(["-w", &path, "-Y", &path])
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("made"))
        .stderr(output)
        .process_group(0)
        .spawn()
        .expect("kamailio is installed (scripts/install-test-deps)")
}

fn path(folder: &tempfile::TempDir) -> String {
    folder.path().display().to_string()
}

const HEAD: &str = r#"
debug=2
log_stderror=yes
children=2
tcp_children=2
# Its default, epoll, fails in some containers.
tcp_poll_method=poll
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/aarch64-linux-gnu/kamailio/modules/"
loadmodule "ctl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "sl.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "nathelper.so"
modparam("ctl", "binrpc", "unix:@FOLDER@/ctl")
"#;
const REGISTRAR: &str = r#"
modparam("registrar", "max_expires", 60)
request_route {
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    if (has_totag()) {
        if (loose_route()) {
            t_relay();
            exit;
        }
        if (is_method("ACK") && t_check_trans()) t_relay();
        if (!is_method("ACK")) sl_send_reply("404", "Not here");
        exit;
    }
    if (is_method("OPTIONS")) {
        sl_send_reply("200", "OK");
        exit;
    }
    if (is_method("REGISTER")) {
        if (!pv_www_authenticate("trunk.example", "@PASSWORD@", "0")) {
            www_challenge("trunk.example", "1");
            exit;
        }
        save("location");
        exit;
    }
    record_route();
    if ($rU =~ "^[56]") {
        $var(number) = $(rU{s.substr,1,0});
        $rU = "@TRUNK@";
        if (!lookup("location")) {
            sl_send_reply("404", "Not Found");
            exit;
        }
        $rU = $var(number);
        t_relay();
        exit;
    }
    if (!pv_proxy_authenticate("trunk.example", "@PASSWORD@", "0")) {
        proxy_challenge("trunk.example", "1");
        exit;
    }
    consume_credentials();
    if (!lookup("location")) {
        sl_send_reply("404", "Not Found");
        exit;
    }
    t_relay();
}
"#;
