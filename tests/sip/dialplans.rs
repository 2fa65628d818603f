//! Every file that ships for Asterisk, loaded into a real one, and every extension in it called.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::asterisk::Asterisk;
use crate::sipp::Scenario;

#[test]
fn the_shipped_files_load_without_a_complaint_and_every_extension_leads_where_it_says() {
    let asterisk = Asterisk::start();
    let server = asterisk.server("");
    let meeting = server.book(&json!({}));
    // What an operator fills in.
    for (file, from, to) in [
        ("extensions.conf", "1234567890", meeting.guest.as_str()),
        ("extensions.conf", "1234567890", meeting.guest.as_str()),
        (
            "extensions.conf",
            "voicebridge-two",
            "voicebridge-voicebridge",
        ),
        ("pjsip.conf", ":5062", &format!(":{}", server.sip_port)),
    ] {
        asterisk.change(file, from, to);
    }
    asterisk.cli("module reload res_pjsip.so");
    asterisk.cli("dialplan reload");
    assert!(
        asterisk
            .cli("pjsip show endpoint voicebridge")
            .contains("rfc4733")
    );
    let complaints = asterisk.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let keyed_in = ["7100", "7101", "7103", "7104", "+3906", "7000"];
    let straight = ["7102", "7001"];
    let calls: Vec<_> = keyed_in
        .iter()
        .map(|number| {
            Scenario::new("uac-right-pin")
                .key("pin", &meeting.guest)
                .number(number)
        })
        .chain(straight.iter().map(|number| {
            Scenario::new("uac-pin-in-header")
                .key("pin", "0")
                .number(number)
        }))
        .map(|scenario| scenario.by(asterisk.sip).start(&server))
        .collect();
    for (call, number) in calls.into_iter().zip(keyed_in.iter().chain(&straight)) {
        call.finish(number);
    }
    asterisk.assert_nothing_is_left();
    crate::asterisk_life::wait_until("all records kept", Duration::from_secs(5), || {
        server.calls().len() == 8
    });
    let mut numbers: Vec<(String, &str)> = Vec::new();
    let records = server.calls();
    for record in &records {
        assert_eq!(record["outcome"], "joined", "{record}");
        numbers.push((text(&record["number"]), kind_of(record)));
    }
    numbers.sort();
    let by_ari =
        ["+3906", "7100", "7101", "7102", "7103", "7104"].map(|n| (n.to_owned(), "asterisk"));
    let mut expected: Vec<_> = by_ari.into_iter().collect();
    expected.extend(["7000", "7001"].map(|n| (n.to_owned(), "sip")));
    expected.sort();
    assert_eq!(numbers, expected);
}

#[test]
fn who_calls_while_no_node_is_there_rings_until_one_is() {
    let asterisk = Asterisk::start();
    let mut server = asterisk.server("");
    let meeting = server.book(&json!({}));
    server.terminate();
    let call = Scenario::new("uac-right-pin")
        .key("pin", &meeting.guest)
        .number("7100")
        .by(asterisk.sip)
        .start(&server);
    std::thread::sleep(Duration::from_secs(3));
    server.start_again();
    call.finish("answered once a node was there");
    assert_eq!(server.call_after(0)["outcome"], "joined");
    asterisk.assert_nothing_is_left();
}

#[test]
fn where_no_node_comes_callers_meet_in_asterisk_or_are_told_so_after_half_a_minute() {
    let asterisk = Asterisk::start();
    let mut server = asterisk.server("");
    server.terminate();
    let told = Scenario::new("uac-stays")
        .key("pin", "0")
        .number("7100")
        .by(asterisk.sip)
        .start(&server);
    let meets = Scenario::new("uac-listens")
        .number("7104")
        .by(asterisk.sip)
        .start(&server);
    crate::asterisk_life::wait_until("in a conference", Duration::from_secs(2), || {
        asterisk.cli("confbridge list").contains("emergency-7104")
    });
    meets.finish("answered by Asterisk's own conference");
    let started = Instant::now();
    told.finish("answered, told, and hung up on");
    assert!(started.elapsed() > Duration::from_secs(20), "it waits");
    asterisk.assert_nothing_is_left();
    server.start_again();
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn kind_of(record: &Value) -> &str {
    record["kind"].as_str().unwrap_or_default()
}
