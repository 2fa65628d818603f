//! A real Kamailio in front of a node, as a carrier or an SBC would be: it stays in the way by Record-Route.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::families::has_ipv6;
use crate::ports::port;
use crate::server::{CERTIFICATE, Server, signal};

/// A Kamailio that passes everything on to one node, by what it came by.
pub(super) struct Proxy {
    process: Child,
    folder: tempfile::TempDir,
    plain: u16,
    tls: u16,
}

impl Proxy {
    pub(super) fn start(server: &Server) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (plain, tls) = (port(), port());
        let path = folder.path().display();
        let hosts = if has_ipv6() {
            &["127.0.0.1", "[::1]"][..]
        } else {
            &["127.0.0.1"]
        };
        let listen: String = hosts
            .iter()
            .map(|host| {
                format!("listen=udp:{host}:{plain}\nlisten=tcp:{host}:{plain}\nlisten=tls:{host}:{tls}\n")
            })
            .collect();
        vouch_for(server, folder.path());
        let text = format!(
            "#!KAMAILIO\n{listen}\
             #!subst \"/@PLAIN@/{sip}/\"\n#!subst \"/@TLS@/{sips}/\"\n\
             {CONFIGURATION_HEAD}\
             modparam(\"tls\", \"certificate\", \"{path}/certificate.pem\")\n\
             modparam(\"tls\", \"private_key\", \"{path}/key.pem\")\n{CONFIGURATION}",
            sip = server.sip_port,
            sips = server.tls_port,
        );
        fs::write(folder.path().join("kamailio.cfg"), text).expect("written");
        let output = File::create(folder.path().join("log")).expect("made");
        let process = Command::new("kamailio")
            .args(["-DD", "-E", "-m", "32", "-f"])
            .arg(folder.path().join("kamailio.cfg"))
            .args(["-w", &path.to_string(), "-Y", &path.to_string()])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("made"))
            .stderr(output)
            .spawn()
            .expect("kamailio is installed (scripts/install-test-deps)");
        let proxy = Self {
            process,
            folder,
            plain,
            tls,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", tls)).is_err() {
            assert!(Instant::now() < deadline, "{}", proxy.log());
            sleep(Duration::from_millis(100));
        }
        proxy
    }

    pub(super) fn port(&self, transport: &str) -> u16 {
        match transport {
            "tls" => self.tls,
            _ => self.plain,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        signal(self.process.id(), "TERM");
        let _ended = self.process.wait();
        if std::thread::panicking() {
            eprintln!("kamailio: {}", self.log());
        }
    }
}

/// A certificate of its own. Phones trust what stands in the node's file, which the node itself has read already.
fn vouch_for(server: &Server, folder: &Path) {
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
    let all = server.folder.path().join(CERTIFICATE);
    let both = fs::read_to_string(&all).expect("read")
        + &fs::read_to_string(folder.join("certificate.pem")).expect("read");
    fs::write(all, both).expect("written");
}

const CONFIGURATION_HEAD: &str = r#"
debug=2
log_stderror=yes
children=2
tcp_children=2
# Its default, epoll, fails in some containers.
tcp_poll_method=poll
enable_tls=yes
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/aarch64-linux-gnu/kamailio/modules/"
loadmodule "tls.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "sl.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "nathelper.so"
modparam("tls", "tls_method", "SSLv23")
"#;
const CONFIGURATION: &str = r#"
request_route {
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    # Phones can only be reached over the connection that they opened.
    if (is_method("INVITE|UPDATE")) add_contact_alias();
    if (has_totag()) {
        if (loose_route()) {
            handle_ruri_alias();
            t_relay();
            exit;
        }
        if (is_method("ACK") && t_check_trans()) t_relay();
        if (!is_method("ACK")) sl_send_reply("404", "Not here");
        exit;
    }
    record_route();
    # The request line stays as it was dialled.
    if ($proto == "tls") {
        if (af == INET6) $du = "sip:[::1]:@TLS@;transport=tls"; else $du = "sip:127.0.0.1:@TLS@;transport=tls";
    } else {
        if (af == INET6) $du = "sip:[::1]:@PLAIN@;transport=" + $proto; else $du = "sip:127.0.0.1:@PLAIN@;transport=" + $proto;
    }
    t_relay();
}
"#;
