//! How many calls a second the node sets up. A trunk brings them by UDP, at a number that nobody has configured: it is
//! answered at once with the question for a PIN, and the call is ended by its caller.

#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::server::Server;
use crate::switch::{Brought, Switch, Traffic};

#[test]
fn twenty_calls_a_second_are_all_answered_and_ended() {
    let server = node(200);
    let brought = Switch::new(TRUNK, server.sip_port).bring(&Traffic {
        calls: 60,
        every: Duration::from_millis(50),
        held: Duration::from_millis(500),
        audio: "sendrecv",
    });
    expect_no_failure(&brought);
}

#[test]
#[ignore = "takes a minute and both cores: a measurement, for a quiet machine"]
fn five_hundred_calls_a_second() {
    let server = node(3_000);
    warm_up(&server);
    stay_on(0, &server.pid().to_string());
    let (cpu, again) = (server.cpu(), server.metric(AGAIN));
    let port = server.sip_port;
    let traffic = Traffic {
        calls: 500 * 60,
        every: Duration::from_millis(2),
        held: Duration::from_secs(2),
        audio: "sendrecv",
    };
    let switch = thread::spawn(move || {
        let me = std::fs::read_link("/proc/thread-self").expect("proc is mounted");
        let me = me
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a number")
            .to_owned();
        stay_on(1, &me);
        Switch::new(TRUNK, port).bring(&traffic)
    });
    let brought = switch.join().expect("the switch ran to its end");
    let (cpu, again) = (server.cpu() - cpu, server.metric(AGAIN) - again);
    let [half, most] = [0.5, 0.99].map(|share| brought.percentile(share));
    println!(
        "{} calls: answered after {half:?} (p50), {most:?} (p99), {:?} at most; refused {:?}, unanswered {}, cut off {}, \
         ended {}; sent again by the node {again}, by it a second time {}; {cpu:?} of processor time, {:?} a call; the \
         switch itself was late by up to {:?}",
        brought.placed,
        brought.percentile(1.0),
        brought.refused,
        brought.unanswered,
        brought.dropped,
        brought.ended,
        brought.repeated,
        cpu / brought.placed,
        brought.latest,
    );
    expect_no_failure(&brought);
    assert_eq!((again, brought.repeated), (0, 0), "sent again");
    assert!(most <= ANSWER_MAX, "answered too late: {most:?}");
}

/// With room for so many calls, and a trunk.
fn node(calls: u16) -> Server {
    Server::start_for(
        calls,
        &format!(
            "media.threads = 1\nlimits.calls = {calls}\n[[sip.trunk]]\nname = \"carrier\"\npeers = [\"{TRUNK}\"]\n"
        ),
    )
}

/// Until the recordings are ready, which are made for the first call.
fn warm_up(server: &Server) {
    let one = Traffic {
        calls: 1,
        every: Duration::ZERO,
        held: Duration::from_secs(1),
        audio: "sendrecv",
    };
    Switch::new(TRUNK, server.sip_port).bring(&one);
    server.settled_kib();
}

/// Binds all threads of a process, or one thread, to one core.
fn stay_on(core: usize, id: &str) {
    let bound = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), id])
        .output();
    let bound = bound.expect("taskset is there, with util-linux");
    assert!(bound.status.success(), "{bound:?}");
}

fn expect_no_failure(brought: &Brought) {
    assert!(brought.refused.is_empty(), "{:?}", brought.refused);
    assert_eq!((brought.unanswered, brought.dropped), (0, 0));
    assert_eq!(brought.answered.len() as u32, brought.placed);
    assert_eq!(brought.ended, brought.placed);
}

const TRUNK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const AGAIN: &str = "voicebridge_sip_retransmissions_total";
const ANSWER_MAX: Duration = Duration::from_millis(50);
