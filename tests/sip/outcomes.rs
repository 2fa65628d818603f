//! Each scenario is named after what the caller lives through.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Server, in_seconds};
use crate::sipp::Scenario;

/// Runs a scenario, checks the call's record, and that the server still takes a call afterwards.
fn expect(server: &Server, scenario: Scenario<'_>, outcome: &str) -> Value {
    let known = server.calls().len();
    scenario.run(server);
    let record = server.call_after(known);
    assert_eq!(record["outcome"], outcome, "{record}");
    still_takes_a_call(server);
    record
}

fn still_takes_a_call(server: &Server) {
    let meeting = server.book(&json!({}));
    let known = server.calls().len();
    Scenario::new("uac-pin-in-header")
        .key("pin", &meeting.guest)
        .run(server);
    assert_eq!(server.call_after(known)["outcome"], "joined");
}

fn wrong(server: &Server) -> String {
    let pin = "9182736455".to_owned();
    server.remember(&[&pin]);
    pin
}

#[test]
fn the_right_pin_joins_over_udp_and_tcp() {
    let server = Server::start("");
    let meeting = server.book(&json!({}));
    for scenario in [
        Scenario::new("uac-right-pin"),
        Scenario::new("uac-right-pin").tcp(),
    ] {
        let record = expect(&server, scenario.key("pin", &meeting.guest), "joined");
        assert_eq!(record["meeting_id"], meeting.id.as_str());
        assert_eq!(record["pin_attempts"], 1);
        assert_eq!(record["hangup_by"], "caller");
        assert_eq!(record["caller"], "…5678");
    }
}

#[test]
fn a_pin_joins_however_it_is_given() {
    let server = Server::start("");
    let meeting = server.book(&json!({}));
    for name in [
        "uac-pin-without-hash",
        "uac-pin-during-prompt",
        "uac-pin-in-uri",
        "uac-pin-in-header",
    ] {
        expect(
            &server,
            Scenario::new(name).key("pin", &meeting.guest),
            "joined",
        );
    }
    let mut by_info = Scenario::new("uac-pin-by-info");
    for (position, digit) in meeting.guest.chars().enumerate() {
        by_info = by_info.key(&format!("digit{position}"), &digit.to_string());
    }
    expect(&server, by_info, "joined");
    // sipp paces its audio itself; where the machine makes it late within a tone, the key may be heard twice, or
    // not. Who is told so types again.
    let tones = format!("{}#", meeting.guest);
    let by_tones = || {
        let known = server.calls().len();
        Scenario::new("uac-pin-in-band")
            .in_band_keys(&tones)
            .run(&server);
        server.call_after(known)["outcome"] == "joined"
    };
    assert!(by_tones() || by_tones(), "not by tones, twice");
    still_takes_a_call(&server);
}

#[test]
fn a_longer_pin_is_taken_whole_from_the_second_in_which_it_is_given() {
    let server = Server::start("");
    let usual = server.book(&json!({}));
    let organisations = server.get("/v1/organisations");
    let id = organisations["items"][0]["id"].as_str().expect("our own");
    server.patch(
        &format!("/v1/organisations/{id}"),
        &json!({"pin_length": 12}),
    );
    let longer = server.book(&json!({}));
    assert_eq!((usual.guest.len(), longer.guest.len()), (10, 12));
    sleep(Duration::from_millis(1_500));
    let without_hash = Scenario::new("uac-pin-without-hash").key("pin", &longer.guest);
    let record = expect(&server, without_hash, "joined");
    assert_eq!(record["pin_attempts"], 1);
    let with_hash = Scenario::new("uac-right-pin").key("pin", &usual.guest);
    expect(&server, with_hash, "joined");
}

#[test]
fn three_wrong_pins_end_the_call_and_one_does_not() {
    let server = Server::start("");
    let meeting = server.book(&json!({}));
    let wrong = wrong(&server);
    let thrice = Scenario::new("uac-wrong-pin-thrice").key("wrong", &wrong);
    let record = expect(&server, thrice, "wrong_pin");
    assert_eq!(record["pin_attempts"], 3);
    assert_eq!(record["hangup_by"], "system");
    let once = Scenario::new("uac-wrong-pin-then-right")
        .key("wrong", &wrong)
        .key("pin", &meeting.guest);
    assert_eq!(expect(&server, once, "joined")["pin_attempts"], 2);
}

#[test]
fn who_keys_in_nothing_is_asked_again_and_then_let_go() {
    // He sends no audio either, which must not end his call before.
    let server = Server::start("limits.pin_wait_seconds = 30\nlimits.media_timeout_seconds = 60");
    expect(&server, Scenario::new("uac-no-digits"), "no_input");
}

#[test]
fn a_valid_pin_at_the_wrong_moment_is_answered_truthfully() {
    let server = Server::start("");
    let early = json!({"starts_at": in_seconds(7_200), "ends_at": in_seconds(10_800), "early_join_minutes": 10});
    let over = json!({"starts_at": in_seconds(-7_200), "ends_at": in_seconds(-3_600), "overrun_minutes": 0});
    for (more, outcome) in [(early, "too_early"), (over, "ended")] {
        let meeting = server.book(&more);
        expect(
            &server,
            Scenario::new("uac-refused-after-pin").key("pin", &meeting.guest),
            outcome,
        );
    }
    let meeting = server.book(&json!({}));
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    expect(
        &server,
        Scenario::new("uac-refused-after-pin").key("pin", &meeting.guest),
        "cancelled",
    );
}

#[test]
fn a_full_meeting_takes_nobody_more() {
    let server = Server::start("");
    let meeting = server.book(&json!({"capacity": 1}));
    let first = Scenario::new("uac-bye-lost")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);
    let known = server.calls().len();
    Scenario::new("uac-refused-after-pin")
        .key("pin", &meeting.guest)
        .run(&server);
    assert_eq!(server.call_after(known)["outcome"], "full");
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    first.finish("the one who was in, when the meeting is cancelled");
}

#[test]
fn an_organisation_without_a_free_line_takes_nobody_more_and_cuts_nobody_off() {
    let server = Server::start("");
    let platform = server.create_key(&["--organisation", "portal", "--role", "platform"]);
    let own = server.get("/v1/organisations");
    let id = own["items"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/organisations/{id}");
    let allow = |quotas: &Value| {
        let (status, answer) = server.send("PATCH", &path, &platform, quotas);
        assert_eq!(status, 200, "{answer}");
    };
    allow(&json!({"callers_max": 1}));
    let meeting = server.book(&json!({}));
    let first = Scenario::new("uac-bye-lost")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);
    let used = server.get(&format!("{path}/usage"));
    assert_eq!(used["callers"], json!({"used": 1, "most": 1}));
    for quotas in [json!({}), json!({"callers_max": 9, "minutes_per_month": 0})] {
        allow(&quotas);
        let known = server.calls().len();
        Scenario::new("uac-refused-after-pin")
            .key("pin", &meeting.guest)
            .run(&server);
        let record = server.call_after(known);
        assert_eq!(
            (&record["outcome"], &record["meeting_id"]),
            (&json!("full"), &json!(meeting.id)),
            "{record}"
        );
        wait_for_participants(&server, &meeting.id, 1);
    }
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    first.finish("the one who was in, when the meeting is cancelled");
}

#[test]
fn a_full_node_says_so_and_when_to_try_again() {
    let server = Server::start("limits.calls = 1");
    let meeting = server.book(&json!({}));
    let first = Scenario::new("uac-right-pin")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);
    Scenario::new("uac-node-full").run(&server);
    first.finish("the call that was there before");
    server.call_after(1);
    still_takes_a_call(&server);
}

#[test]
fn calls_end_and_change_as_sip_says() {
    let server = Server::start("limits.ring_ms = 1000\nlimits.media_timeout_seconds = 5");
    let meeting = server.book(&json!({}));
    let record = expect(
        &server,
        Scenario::new("uac-cancel-while-ringing"),
        "no_input",
    );
    assert_eq!(record["hangup_by"], "caller");
    let record = expect(
        &server,
        Scenario::new("uac-bye-lost").key("pin", &meeting.guest),
        "joined",
    );
    assert_eq!(record["hangup_by"], "network");
    expect(
        &server,
        Scenario::new("uac-retransmitted-invite").key("pin", &meeting.guest),
        "joined",
    );
}

#[test]
fn offers_and_answers_may_come_in_any_order() {
    let server = Server::start("");
    let meeting = server.book(&json!({}));
    for name in ["uac-reinvite-hold-resume", "uac-invite-without-sdp"] {
        expect(
            &server,
            Scenario::new(name).key("pin", &meeting.guest),
            "joined",
        );
    }
}

#[test]
fn the_answer_is_repeated_until_it_is_acknowledged() {
    let server = Server::start("");
    let meeting = server.book(&json!({}));
    let known = server.calls().len();
    let counted = Scenario::new("uac-late-ack")
        .key("pin", &meeting.guest)
        .run(&server);
    // After 0.5 and 1.5 s (RFC 3261 section 13.3.1.4); the ACK comes after 2.2 s.
    assert_eq!(counted.retransmissions_of("200"), 2);
    assert_eq!(server.call_after(known)["outcome"], "joined");
    still_takes_a_call(&server);
}

#[test]
fn a_call_without_an_ack_is_given_up() {
    let server = Server::start("");
    let record = expect(&server, Scenario::new("uac-no-ack"), "error");
    assert_eq!(record["hangup_by"], "network");
}

#[test]
fn what_is_not_understood_gets_the_right_refusal() {
    let server = Server::start("");
    for name in ["uac-unknown-method", "uac-require-unknown", "uac-options"] {
        Scenario::new(name).run(&server);
        Scenario::new(name).tcp().run(&server);
        still_takes_a_call(&server);
    }
    expect(
        &server,
        Scenario::new("uac-emergency").number("112"),
        "error",
    );
    expect(&server, Scenario::new("uac-no-common-codec"), "error");
}

pub(crate) fn wait_for_participants(server: &Server, meeting: &str, wanted: usize) {
    for _ in 0..200 {
        let people = server.get(&format!("/v1/meetings/{meeting}/participants"));
        let joined = people["items"].as_array().map_or(0, |items| {
            items
                .iter()
                .filter(|item| item["state"] == "joined")
                .count()
        });
        if joined == wanted {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("not {wanted} participants after 20 s");
}
