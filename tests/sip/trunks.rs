//! Trunks: voicebridge registers with a real Asterisk, is called by way of it, and finds it again after
//! its restart.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::asterisk::Asterisk;
use crate::server::Server;
use crate::sipp::Scenario;

#[test]
fn it_registers_with_both_digests_is_called_and_survives_the_registrars_restart() {
    let asterisk = Asterisk::start();
    let trunks = [
        trunk(&asterisk, "by-md5", "by-md5", PASSWORD, "udp"),
        trunk(&asterisk, "by-sha-256", "by-sha-256", PASSWORD, "tcp"),
        trunk(&asterisk, "stranger", "by-md5", "not-the-password", "udp"),
    ];
    let server = Server::start(&trunks.concat());
    server.remember(&[PASSWORD, "not-the-password"]);
    let meeting = server.book(&json!({}));
    await_trunks(
        &server,
        &[("by-md5", 1), ("by-sha-256", 1), ("stranger", 0)],
    );
    assert!(
        asterisk
            .cli("pjsip show contacts")
            .contains("by-sha-256/sip:by-sha-256@127.0.0.1")
    );
    call(&asterisk, &server, &meeting.guest, "5000");
    call(&asterisk, &server, &meeting.guest, "6000");
    let refused = "user and password are not taken";
    assert!(server.log().contains(refused), "{}", server.log());

    asterisk.signal("KILL");
    await_trunks(&server, &[("by-sha-256", 0)]);
    asterisk.start_again();
    await_trunks(&server, &[("by-md5", 1), ("by-sha-256", 1)]);
    call(&asterisk, &server, &meeting.guest, "6000");
}

#[test]
fn a_trunk_brings_its_numbers_only_and_leaves_when_the_node_drains() {
    let asterisk = Asterisk::start();
    let own = "numbers = [\"+3906555\"]\n";
    let mut server = Server::start(&format!(
        "{}{own}",
        trunk(&asterisk, "by-md5", "by-md5", PASSWORD, "udp")
    ));
    server.remember(&[PASSWORD]);
    let meeting = server.book(&json!({}));
    await_trunks(&server, &[("by-md5", 1)]);
    let known = server.calls().len();
    Scenario::new("uac-right-pin")
        .key("pin", &meeting.guest)
        .number("5003906555")
        .by(asterisk.sip)
        .run(&server);
    assert_eq!(server.call_after(known)["outcome"], "joined");
    Scenario::new("uac-emergency")
        .number("5003906556")
        .by(asterisk.sip)
        .run(&server);
    let refused = server.call_after(known + 1);
    assert_ne!(refused["outcome"], "joined", "{refused}");
    assert!(asterisk.cli("pjsip show contacts").contains("by-md5/sip"));
    server.terminate();
    assert!(!asterisk.cli("pjsip show contacts").contains("by-md5/sip"));
}

pub(crate) fn trunk(
    asterisk: &Asterisk,
    name: &str,
    user: &str,
    password: &str,
    transport: &str,
) -> String {
    format!(
        "[[sip.trunk]]\nname = {name:?}\nregistrar = \"127.0.0.1:{}\"\nuser = {user:?}\npassword = {password:?}\ntransport = {transport:?}\n",
        asterisk.sip
    )
}

/// A caller dials the Asterisk, which sends him on by its trunk to us.
fn call(asterisk: &Asterisk, server: &Server, pin: &str, number: &str) {
    let known = server.calls().len();
    Scenario::new("uac-right-pin")
        .key("pin", pin)
        .number(number)
        .by(asterisk.sip)
        .run(server);
    let call = server.call_after(known);
    assert_eq!(call["outcome"], "joined", "{call}");
    assert_eq!(call["number"], "000", "{call}");
    assert!(
        call["trunk"]
            .as_str()
            .is_some_and(|trunk| trunk.starts_with("by-")),
        "{call}"
    );
}

/// Waits until the metrics say of each trunk whether it is up.
pub(crate) fn await_trunks(server: &Server, wanted: &[(&str, u8)]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = server.metrics();
        let stands = |(name, up): &(&str, u8)| {
            metrics.contains(&format!("voicebridge_trunk_up{{name=\"{name}\"}} {up}"))
        };
        if wanted.iter().all(stands) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{wanted:?}\n{metrics}\n{}",
            server.log()
        );
        sleep(Duration::from_millis(100));
    }
}

pub(crate) const PASSWORD: &str = "canary-of-the-trunk";
