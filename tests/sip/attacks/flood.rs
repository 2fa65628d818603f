//! A flood of requests from many addresses.

#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::asterisk_life::wait_until;
use crate::crowd::{Answers, Crowd};
use crate::listeners::{Listeners, Stays};
use crate::server::Server;
use crate::switch::{Brought, Switch, Traffic};

/// A flood, and who is to notice nothing of it.
struct Flood {
    methods: &'static [&'static str],
    hosts: u16,
    per_second: u32,
    time: Duration,
    callers: usize,
    /// From one call by the trunk to the next.
    trunk_every: Duration,
    /// What `limits.calls` is.
    calls: u16,
    /// Until the end of what the strangers began, and of what the node remembers of it.
    whole: bool,
}

/// What the flood did.
#[derive(Debug)]
#[expect(dead_code, reason = "some are there to be printed")]
struct Effect {
    answers: Answers,
    /// What the node refused, by reason.
    refused: BTreeMap<String, u64>,
    trunk: Brought,
    stays: Stays,
    kib_before: u64,
    kib_most: u64,
    kib_after: u64,
    /// Of one core, while it lasted.
    node_busy: f64,
}

#[test]
fn a_flood_from_many_addresses_costs_no_call_and_no_call_by_a_trunk() {
    let flood = Flood {
        methods: &["INVITE", "REGISTER", "OPTIONS", "MESSAGE"],
        hosts: 500,
        per_second: 500,
        time: Duration::from_secs(6),
        callers: 4,
        trunk_every: Duration::from_millis(250),
        // Fewer than the strangers want.
        calls: 400,
        whole: false,
    };
    let server = flood.server();
    let effect = flood.run(&server, Duration::ZERO);
    println!("{effect:#?}");
    effect.check();
    assert_eq!(effect.answers.finals("REGISTER").keys().next(), Some(&405));
    let calls = ["voicebridge_sip_dialogs", "voicebridge_legs{kind=\"sip\"}"];
    wait_until("as before", Duration::from_secs(10), || {
        calls.iter().all(|name| server.metric(name) == 0)
    });
}

#[test]
#[ignore = "takes three minutes: a measurement, for a quiet machine"]
fn two_thousand_invites_a_second_for_a_minute_cost_no_call_and_no_call_by_a_trunk() {
    let flood = Flood {
        methods: &["INVITE"],
        hosts: 1_000,
        per_second: 2_000,
        time: Duration::from_secs(60),
        callers: 50,
        trunk_every: Duration::from_secs(1),
        calls: 1_000,
        whole: true,
    };
    let server = flood.server();
    let effect = flood.run(&server, Duration::from_secs(30));
    println!("{effect:#?}");
    effect.check();
    let late = effect.stays.late_beyond_the_machine();
    assert!(late < LATE_SHARE_MAX, "ticks were late: {late}");
    assert!(effect.refused.contains_key("newcomers"));
    // The last that were let in never acknowledged: 32 s until they are given up, and their BYEs 32 s later.
    let tables = ["voicebridge_sip_dialogs", "voicebridge_sip_transactions"];
    wait_until("empty", Duration::from_secs(70), || {
        sleep(Duration::from_secs(1));
        tables.iter().all(|name| server.metric(name) == 0)
    });
    sleep(GIVEN_BACK);
    let kib = server.resident_kib();
    println!("{kib} KiB when all is forgotten");
    let kept = kib.saturating_sub(effect.kib_before);
    assert!(kept <= BACK_KIB_MAX, "{kept} KiB were not given back");
}

impl Flood {
    /// A node with a trunk.
    fn server(&self) -> Server {
        let calls = self.calls;
        let config = format!(
            "limits.calls = {calls}\n[[sip.trunk]]\nname = \"carrier\"\npeers = [\"{TRUNK}\"]\n"
        );
        // Some more have ports: those that are being closed.
        Server::start_for(calls + calls / 5, &config)
    }

    /// Memory is looked at so long afterwards.
    fn run(&self, server: &Server, afterwards: Duration) -> Effect {
        let meeting = server.book(&json!({}));
        let listeners = Listeners::join(server, &meeting, self.callers);
        let kib_before = if self.whole {
            server.settled_kib()
        } else {
            server.resident_kib()
        };
        let traffic = Traffic {
            calls: (self.time.as_secs_f64() / self.trunk_every.as_secs_f64()) as u32,
            every: self.trunk_every,
            held: Duration::from_secs(1),
            audio: "sendrecv",
        };
        let switch = Switch::new(TRUNK, server.sip_port);
        let trunk = thread::spawn(move || switch.bring(&traffic));
        let mut crowd = Crowd::gather(self.hosts, server.sip_port);
        let (methods, per_second, time) = (self.methods, self.per_second, self.time);
        let leaves = !self.whole;
        let crowd = thread::spawn(move || {
            crowd.storm(methods, per_second, time);
            if leaves {
                crowd.leave();
            }
            crowd.answers
        });
        let (mut kib_most, began, cpu) = (0, Instant::now(), server.cpu());
        while !crowd.is_finished() || !trunk.is_finished() {
            kib_most = kib_most.max(server.resident_kib());
            sleep(Duration::from_millis(200));
        }
        let ended = Instant::now();
        let node_busy = (server.cpu() - cpu).as_secs_f64() / (ended - began).as_secs_f64();
        let answers = crowd.join().expect("the crowd ran to its end");
        let trunk = trunk.join().expect("the trunk ran to its end");
        let stays = listeners.finish(server);
        sleep((ended + afterwards).saturating_duration_since(Instant::now()));
        Effect {
            answers,
            refused: refused(server),
            trunk,
            stays,
            kib_before,
            kib_most,
            kib_after: server.resident_kib(),
            node_busy,
        }
    }
}

impl Effect {
    fn check(&self) {
        self.stays.expect_undisturbed();
        let answered = self.trunk.share_answered();
        assert!(answered >= ANSWERED_SHARE_MIN, "by the trunk: {answered}");
        assert_eq!(self.trunk.dropped, 0, "calls by the trunk were cut off");
        let finals = self.answers.finals("INVITE");
        for (status, times) in &finals {
            assert!([200, 503].contains(status), "{status} {times} times");
        }
        assert_eq!(self.answers.without_retry_after, 0, "when to come again");
        let counted = self.refused.contains_key("calls");
        assert!(counted || !finals.contains_key(&503), "{:?}", self.refused);
        let grown = self.kib_most.saturating_sub(self.kib_before);
        assert!(grown <= GROWTH_KIB_MAX, "memory grew by {grown} KiB");
    }
}

fn refused(server: &Server) -> BTreeMap<String, u64> {
    let metrics = server.metrics();
    let lines = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("voicebridge_admission_refused_total{reason=\""));
    let told = lines.filter_map(|line| line.split_once("\"} "));
    told.map(|(reason, times)| (reason.to_owned(), times.parse().expect("a number")))
        .filter(|(_, times)| *times > 0)
        .collect()
}

const TRUNK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const ANSWERED_SHARE_MIN: f64 = 0.95;
const GROWTH_KIB_MAX: u64 = 64 * 1_024;
const BACK_KIB_MAX: u64 = 16 * 1_024;
/// What is forgotten is given back to the system some seconds later.
const GIVEN_BACK: Duration = Duration::from_secs(12);
const LATE_SHARE_MAX: f64 = 0.001;
