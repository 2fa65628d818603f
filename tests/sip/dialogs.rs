//! What calls that are up take of the node's memory, and that all of it comes back.

#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::net::{IpAddr, Ipv4Addr};
use std::thread::{self, sleep};
use std::time::Duration;

use crate::asterisk_life::wait_until;
use crate::server::Server;
use crate::switch::{Switch, Traffic};

#[test]
fn two_hundred_dialogs_leave_nothing_behind() {
    let server = node(200);
    hold(&server, 200, Duration::from_millis(5));
    let calls = ["voicebridge_sip_dialogs", "voicebridge_legs{kind=\"sip\"}"];
    wait_until("all are over", Duration::from_secs(5), || {
        calls.iter().all(|name| server.metric(name) == 0)
    });
    // Of each its INVITE and its BYE, for 32 s.
    assert_eq!(server.metric("voicebridge_sip_transactions"), 400);
}

#[test]
#[ignore = "takes two minutes: a measurement, for a quiet machine"]
fn five_thousand_dialogs() {
    let server = node(5_000);
    // The recordings are there then.
    hold(&server, 1, Duration::ZERO);
    let before = server.settled_kib();
    let up = hold(&server, 5_000, Duration::from_millis(4));
    wait_until_empty(&server);
    sleep(GIVEN_BACK);
    let after = server.resident_kib();
    let call = up.saturating_sub(before) * 1_024 / 5_000;
    println!("{before} KiB before, {up} with 5,000 calls, {after} after them: {call} bytes a call");
    assert!(call <= CALL_BYTES_MAX, "a call takes {call} bytes");
    let left = after.saturating_sub(before);
    assert!(left <= LEFT_KIB_MAX, "{left} KiB are kept");
}

/// So many calls are up at once, without audio, and then ended; how much memory the node had while they were.
fn hold(server: &Server, calls: u16, every: Duration) -> u64 {
    let all_placed_after = every * u32::from(calls);
    let traffic = Traffic {
        calls: calls.into(),
        every,
        held: all_placed_after + PLATEAU,
        audio: "inactive",
    };
    let port = server.sip_port;
    let switch = thread::spawn(move || Switch::new(TRUNK, port).bring(&traffic));
    sleep(all_placed_after + PLATEAU / 2);
    assert_eq!(server.metric("voicebridge_sip_dialogs"), u64::from(calls));
    let up = server.resident_kib();
    let brought = switch.join().expect("the switch ran to its end");
    assert_eq!(brought.ended, u32::from(calls), "{brought:?}");
    up
}

/// What comes again is known for 32 s (RFC 3261 section 17.2.2).
fn wait_until_empty(server: &Server) {
    let tables = [
        "voicebridge_sip_dialogs",
        "voicebridge_sip_transactions",
        "voicebridge_legs{kind=\"sip\"}",
    ];
    let left = || tables.map(|name| server.metric(name));
    for _ in 0..45 {
        sleep(Duration::from_secs(1));
        if left() == [0; 3] {
            return;
        }
    }
    panic!("not empty: {tables:?} {:?}", left());
}

fn node(calls: u16) -> Server {
    let room = calls + calls / 10;
    Server::start_for(
        room,
        &format!(
            "limits.calls = {room}\nlimits.pin_wait_seconds = 3600\n\
             [[sip.trunk]]\nname = \"carrier\"\npeers = [\"{TRUNK}\"]\n"
        ),
    )
}

const TRUNK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// For which all calls stay up together.
const PLATEAU: Duration = Duration::from_secs(4);
/// What many calls took is given back to the system when they are forgotten, and some seconds later.
const GIVEN_BACK: Duration = Duration::from_secs(12);
const CALL_BYTES_MAX: u64 = 32 * 1_024;
const LEFT_KIB_MAX: u64 = 16 * 1_024;
