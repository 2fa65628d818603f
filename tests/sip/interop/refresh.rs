//! Session timers and hold, as sipp spells them out, by each transport and family that it speaks.

use std::thread;

use serde_json::json;

use crate::families::has_ipv6;
use crate::server::Server;
use crate::sipp::Scenario;

#[test]
fn sessions_are_refreshed_and_held_in_every_spelling() {
    let server = Server::of_both_families("");
    let meeting = server.book(&json!({}));
    thread::scope(|scope| {
        for (tcp, ipv6) in [(false, false), (true, false), (false, true), (true, true)] {
            if ipv6 && !has_ipv6() {
                continue;
            }
            let mut scenario = Scenario::new("uac-session-refresh")
                .key("pin", &meeting.guest)
                .patient();
            if tcp {
                scenario = scenario.tcp();
            }
            if ipv6 {
                scenario = scenario.ipv6();
            }
            let running = scenario.start(&server);
            scope.spawn(move || {
                running.finish(&format!("tcp {tcp}, IPv6 {ipv6}"));
            });
        }
    });
    for call in server.calls() {
        assert_eq!(call["outcome"], "joined", "{call}");
    }
}
