//! What strangers write into messages, for whoever reads the log.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::asterisk::text;
use crate::dialling::{allow, dial, record_of};
use crate::server::{CALLER, Server};
use crate::trunk_calls::Carrier;
use crate::trunks::await_trunks;
use crate::wire::{OFFER, Target};

#[test]
fn nobody_writes_into_the_log_that_people_read() {
    let log = log_of_everything("text");
    for line in log.lines() {
        let stamped = line.starts_with("20") && line.as_bytes().get(10) == Some(&b'T');
        assert!(stamped, "a line without a stamp: {line:?}");
    }
    assert_unharmed(&log);
}

#[test]
fn nobody_writes_into_the_log_that_machines_read() {
    let log = log_of_everything("json");
    for line in log.lines() {
        let read: Result<Value, _> = serde_json::from_str(line);
        assert!(read.is_ok_and(|line| line.is_object()), "{line:?}");
    }
    assert_unharmed(&log);
}

/// With everything logged that can be, and everything tried.
fn log_of_everything(format: &str) -> String {
    let trunk = Carrier::listening();
    let credentials = "user = \"gw\"\npassword = \"not-told-to-anybody\"\nrealm = \"ours\"\n";
    let server = Server::start(&format!(
        "log.format = \"{format}\"\n{}",
        trunk.trunk("carrier", credentials)
    ));
    by_callers(&server);
    by_a_trunk(&server, &trunk);
    server.log()
}

fn by_callers(server: &Server) {
    let address = SocketAddr::from(([127, 0, 0, 1], server.sip_port));
    for evil in EVIL.iter().map(|&evil| evil.to_owned()).chain([long()]) {
        let target = Target {
            address,
            server: None,
        };
        for mut wire in [target.udp(), target.tcp()] {
            let offer = OFFER.replace("s=-", &format!("s={evil}"));
            let lines = [
                format!("User-Agent: {evil}"),
                format!("Subject: folded\r\n {evil}"),
                format!("Reason: Q.850;cause=16;text=\"{evil}\""),
                format!("P-Asserted-Identity: \"{evil}\" <sip:1@x>"),
                format!("X-Conf-PIN: {evil}"),
            ];
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let (invite, _) = wire.invite(&offer, &lines);
            let named = invite.replace("From: <", &format!("From: \"{evil}\" <"));
            let called = invite.replace("Call-ID: ", &format!("Call-ID: {evil}"));
            let dialled = invite.replace("sip:1000@", &format!("sip:{}@", escaped(&evil)));
            let unheard = invite.replace("INVITE", &evil);
            for message in [named, called, dialled, unheard] {
                for answer in wire.answers_to(message.as_bytes()) {
                    if answer.is_final_of("INVITE") {
                        wire.send(answer.acknowledgement().as_bytes());
                    }
                    if answer.status() == 200 {
                        let reason = format!("Reason: SIP;cause=200;text=\"{evil}\"");
                        wire.send(answer.following("BYE", 2, &reason).as_bytes());
                    }
                }
                if wire.closed {
                    wire = target.tcp();
                }
            }
        }
    }
}

fn by_a_trunk(server: &Server, trunk: &Carrier) {
    server.remember(&["not-told-to-anybody"]);
    await_trunks(server, &[("carrier", 1)]);
    let key = allow(server);
    let meeting = server.book(&json!({}));
    for evil in EVIL {
        for (status, lines) in [
            (
                "401 Unauthorized".to_owned(),
                format!("WWW-Authenticate: Digest realm=\"{evil}\", nonce=\"n\"\r\n"),
            ),
            (
                format!("486 {evil}"),
                format!("Warning: 399 x \"{evil}\"\r\nServer: {evil}\r\n"),
            ),
        ] {
            let (told, body) = dial(server, &key, &meeting, &json!({"to": CALLER}));
            assert_eq!(told, 202, "{body}");
            let invite = trunk.expect("INVITE");
            trunk.reply(&invite, &status, &lines, "");
            // What isn't understood as an answer is as good as none.
            trunk.reply(&invite, "486 Busy Here", "", "");
            record_of(server, text(&body["call_id"]));
        }
    }
}

fn assert_unharmed(log: &str) {
    let control = log.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "a control character is in the log");
    for line in log.lines() {
        assert!(!line.starts_with("2001-"), "a line was forged: {line}");
        assert!(
            line.len() < LINE_BYTES_MAX,
            "{} bytes in a line",
            line.len()
        );
    }
}

/// Every byte as `%hh`.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn long() -> String {
    "%s%n".repeat(800)
}

/// A terminal's colours and titles, line breaks of every kind, and what formats a text where it is taken for a format.
const EVIL: &[&str] = &[
    "\x1b[2J\x1b[31mred\x1b]0;title\x07",
    "x\r\n 2001-01-01T00:00:00.000000Z  WARN FORGED",
    "x\n2001-01-01T00:00:00.000000Z  WARN FORGED",
    "x\r2001-01-01T00:00:00.000000Z  WARN FORGED",
    "x\\\n2001-01-01T00:00:00.000000Z  WARN FORGED",
    "x\u{85}2001-01-01T00:00:00.000000Z  WARN FORGED\u{9b}31m",
    "x\0y\x08\x08\x08z\x7f",
    "%s%n%x {} {0} ${jndi:ldap://127.0.0.1/x}",
    "\",\"level\":\"ERROR\",\"message\":\"FORGED",
];
/// More than anything that is logged needs.
const LINE_BYTES_MAX: usize = 2_000;
