//! What calls that are up take of the node's memory, and that all of it comes back.

#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::net::{IpAddr, Ipv4Addr};
use std::thread::{self, sleep};
use std::time::Duration;

use voicebridge::engine::{Control, EngineConfig};
use voicebridge::media::codec::Codec;
use voicebridge::media::parameters::{Direction, MediaParameters};

use crate::asterisk_life::wait_until;
use crate::ports::ports;
use crate::server::{Server, resident_kib};
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
    let leg = leg_bytes(5_000);
    println!(
        "{before} KiB before, {up} with 5,000 calls, {after} after them: {call} bytes a call, of which its audio {leg}"
    );
    let signalling = call.saturating_sub(leg);
    assert!(signalling <= SIGNALLING_BYTES_MAX, "a dialog: {signalling}");
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

/// What one leg of so many takes in which nothing is heard, in this process as in the node.
fn leg_bytes(legs: u16) -> u64 {
    let first = ports(2 * legs);
    let config = EngineConfig {
        address: [127, 0, 0, 1].into(),
        ports: first..=first + 2 * legs - 1,
        legs_max: legs.into(),
        busy_max: 1.0,
        ..EngineConfig::default()
    };
    let mut control = Control::start(config).expect("it starts");
    let before = resident_kib(std::process::id());
    for _ in 0..legs {
        let leg = control.open_leg().expect("a leg").leg;
        let nowhere = ([127, 0, 0, 1], 9).into();
        let parameters = MediaParameters {
            direction: Direction::Inactive,
            ..MediaParameters::plain(Codec::Pcma, nowhere)
        };
        let connected = control.connect_leg(leg, &parameters);
        connected.expect("a leg that is there");
        control.pump();
        while control.poll_event().is_some() {}
    }
    sleep(Duration::from_secs(1));
    let kib = resident_kib(std::process::id()).saturating_sub(before);
    kib * 1_024 / u64::from(legs)
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
const SIGNALLING_BYTES_MAX: u64 = 32 * 1_024;
const LEFT_KIB_MAX: u64 = 16 * 1_024;
