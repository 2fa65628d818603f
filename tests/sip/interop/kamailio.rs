//! A real Kamailio in front of a node, as a carrier or an SBC would be: it stays in the way by Record-Route, asks by
//! OPTIONS of its own whether calls are still there, can end them, and may hide who is behind it.

use std::time::Duration;

use crate::families::has_ipv6;
use crate::kamailio::{Kamailio, vouch_for};
use crate::ports::port;
use crate::server::Server;

/// A Kamailio that passes everything on to one node, by what it came by.
pub(super) struct Proxy {
    kamailio: Kamailio,
    tls: u16,
}

impl Proxy {
    /// `hides`: what either side is told of the other is masked.
    pub(super) fn start(server: &Server, hides: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (plain, tls) = (port(), port());
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
            "{listen}#!subst \"/@PLAIN@/{sip}/\"\n#!subst \"/@TLS@/{sips}/\"\n{MODULES}{hiding}{CONFIGURATION}",
            sip = server.sip_port,
            sips = server.tls_port,
            hiding = if hides { HIDING } else { "" },
        );
        Self {
            kamailio: Kamailio::start(folder, plain, &text),
            tls,
        }
    }

    pub(super) fn port(&self, transport: &str) -> u16 {
        match transport {
            "tls" => self.tls,
            _ => self.kamailio.plain,
        }
    }

    /// Has the proxy asked in the call from this number whether it is still there? Where that isn't answered, or by
    /// 481, it ends the call. (Its CSeq is an old one on purpose: 500 is the answer, RFC 3261 section 12.2.2.)
    pub(super) fn has_asked(&self, ends: &str) -> bool {
        let log = self.kamailio.log();
        let mut asked = log
            .lines()
            .filter_map(|line| line.split_once("asks in the call of "));
        asked.any(|(_, user)| user.trim().ends_with(ends))
    }

    /// Ends the call from this number in both directions.
    pub(super) fn end(&self, ends: &str) {
        let all = self.kamailio.ask(&["dlg.list"]);
        let (mut entry, mut id) = ("", "");
        for line in all.lines() {
            let Some((name, value)) = line.trim().split_once(": ") else {
                continue;
            };
            match name {
                "h_entry" => entry = value,
                "h_id" => id = value,
                "from_uri" if value.contains(&format!("{ends}@")) => {
                    let said = self.kamailio.ask(&["dlg.end_dlg", entry, id]);
                    assert!(!said.contains("error"), "{said}");
                    return;
                }
                _ => {}
            }
        }
        panic!("the proxy knows no call from {ends}: {all}");
    }
}

/// It asks no earlier than 30 s after the call was answered.
pub(super) const ASKED: Duration = Duration::from_secs(75);

const MODULES: &str = r#"
enable_tls=yes
loadmodule "tls.so"
loadmodule "dialog.so"
modparam("tls", "tls_method", "SSLv23")
modparam("tls", "certificate", "@FOLDER@/certificate.pem")
modparam("tls", "private_key", "@FOLDER@/key.pem")
modparam("dialog", "ka_timer", 2)
modparam("dialog", "ka_interval", 30)
"#;
const HIDING: &str = r#"
loadmodule "topoh.so"
modparam("topoh", "mask_key", "anything")
modparam("topoh", "mask_ip", "192.0.2.99")
"#;
const CONFIGURATION: &str = r#"
event_route[tm:local-request] {
    if (is_method("OPTIONS")) xlog("L_ERR", "asks in the call of $fU\n");
}
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
    if (is_method("INVITE")) {
        dlg_manage();
        dlg_set_property("ka-dst");
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
