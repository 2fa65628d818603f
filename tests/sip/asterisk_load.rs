//! Many callers by a real Asterisk, one after the other: how long each waits for the first word, and that
//! nothing of them stays behind.

use std::time::Duration;

use crate::asterisk::Asterisk;
use crate::asterisk_life::wait_until;
use crate::server::Server;
use crate::sipp::Scenario;

#[test]
fn a_hundred_callers_by_asterisk_soon_hear_the_greeting_and_leave_nothing_behind() {
    let took = call(100);
    // The machine that runs all tests at once is no measure.
    assert!(took.share_within("0.25") >= 0.5, "{took:?}");
    assert!(took.share_within("2.0") >= 0.99, "{took:?}");
}

#[test]
#[ignore = "a measurement for a quiet machine; --ignored --nocapture shows its figures"]
fn a_thousand_callers_by_asterisk_hear_the_greeting_within_thirty_milliseconds() {
    let took = call(1_000);
    assert!(took.share_within("0.03") >= 0.5, "{took:?}");
    assert!(took.share_within("0.15") >= 0.99, "{took:?}");
}

/// Places so many calls, 25 a second, each of two seconds.
fn call(calls: u32) -> Took {
    let asterisk = Asterisk::start();
    let server = asterisk.server("");
    let running = Scenario::new("uac-listens")
        .number("7100")
        .calls(calls)
        .rate(25)
        .by(asterisk.sip)
        .start(&server);
    running.finish("answered and ended as asked");
    asterisk.assert_nothing_is_left();
    wait_until("all records kept", Duration::from_secs(5), || {
        let records = server.calls();
        let by_asterisk = records.iter().filter(|record| record["kind"] == "asterisk");
        by_asterisk.count() == calls as usize
    });
    wait_until("all legs closed", Duration::from_secs(2), || {
        let metrics = server.metrics();
        metrics.contains("voicebridge_legs{kind=\"asterisk\"} 0\n")
            && metrics.contains("voicebridge_legs{kind=\"sip\"} 0\n")
    });
    let took = Took::of(&server);
    eprintln!("{took:?}");
    assert_eq!(took.calls, f64::from(calls), "all heard the greeting");
    took
}

/// `voicebridge_call_setup_seconds` of callers by Asterisk.
#[derive(Debug)]
struct Took {
    calls: f64,
    seconds: f64,
    /// Upper bound, and how many were not above it.
    within: Vec<(String, f64)>,
}

impl Took {
    fn of(server: &Server) -> Self {
        let metrics = server.metrics();
        let mut took = Self {
            calls: 0.0,
            seconds: 0.0,
            within: Vec::new(),
        };
        let lines = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("voicebridge_call_setup_seconds_"));
        for line in lines.filter(|line| line.contains("kind=\"asterisk\"")) {
            let (what, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.parse().expect("a number");
            if what.starts_with("count") {
                took.calls = value;
            } else if what.starts_with("sum") {
                took.seconds = value;
            } else {
                let bound = what
                    .split("le=\"")
                    .nth(1)
                    .and_then(|le| le.split('"').next());
                took.within
                    .push((bound.expect("a bound").to_owned(), value));
            }
        }
        took
    }

    fn share_within(&self, bound: &str) -> f64 {
        let within = self.within.iter().find(|(le, _)| le == bound);
        within.unwrap_or_else(|| panic!("{bound} in {self:?}")).1 / self.calls
    }
}
