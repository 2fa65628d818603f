//! People who are called: by a real Asterisk, at phones behind it.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asterisk::{Asterisk, text};
use crate::asterisk_life::{all_people, assert_back, people, wait_until};
use crate::baresip::{PCMA, PCMU, Phone, TALK, Voice, assert_they_heard_each_other};
use crate::outcomes::wait_for_participants;
use crate::ports::{port, ports};
use crate::server::{CALLER, Meeting, Server};

#[test]
fn who_is_called_and_presses_1_is_in_and_heard() {
    let asterisk = Asterisk::start();
    let at = port();
    let server = asterisk.that_dials(&format!("PJSIP/carrier/sip:{{number}}@127.0.0.1:{at}"), "");
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let number = format!("2{}", meeting.guest);
    let mut first = Phone::calling(&server, &PCMA, asterisk.sip, &number);
    first.dial();
    wait_for_participants(&server, &meeting.id, 1);

    let mut called = Phone::called(&server, &PCMU, CALLER, at, true);
    let asked = json!({"to": CALLER, "name": "Anna", "role": "guest", "language": "en"});
    let answer = dial(&server, &key, &meeting, &asked);
    assert_eq!(answer.0, 202, "{}", answer.1);
    called.wait_for_call();
    // He hears the question, and isn't in until he says yes.
    sleep(Duration::from_secs(2));
    assert_eq!(people(&server, &meeting.id).len(), 1);
    called.write("1");
    wait_for_participants(&server, &meeting.id, 2);
    let anna = server.get(&format!("/v1/meetings/{}/participants", meeting.id));
    let anna = anna["items"][1].clone();
    assert_eq!(
        (text(&anna["name"]), text(&anna["kind"])),
        ("Anna", "asterisk")
    );
    assert!(!text(&anna["number"]).contains(CALLER), "{anna}");
    sleep(TALK);
    assert_they_heard_each_other(first, called);
    asterisk.assert_nothing_is_left();
    let record = record_of(&server, text(&answer.1["call_id"]));
    assert_eq!(
        ["direction", "outcome", "kind"].map(|name| text(&record[name])),
        ["out", "joined", "asterisk"],
        "{record}"
    );
    assert_eq!(text(&record["caller"]), "…5678");
    assert_eq!(record["meeting_id"], meeting.id);
}

#[test]
fn who_does_not_press_1_is_never_in_and_what_may_not_be_dialled_is_not() {
    let asterisk = Asterisk::start();
    let at = port();
    asterisk.change("pjsip.conf", "127.0.0.1:5099", &format!("127.0.0.1:{at}"));
    asterisk.cli("module reload res_pjsip.so");
    let limits = "[limits]\npin_wait_seconds = 5\ndial_ring_seconds = 5";
    // By the context that ships.
    let server = asterisk.that_dials("Local/{number}@voicebridge-out", limits);
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let call = |meeting: &Meeting| {
        let (status, body) = dial(&server, &key, meeting, &json!({"to": CALLER}));
        assert_eq!(status, 202, "{body}");
        text(&body["call_id"]).to_owned()
    };
    let outcome = |call: &str| {
        let record = record_of(&server, call);
        assert_eq!(record["participant_id"], Value::Null, "{record}");
        text(&record["outcome"]).to_owned()
    };
    for (number, status) in [
        ("112", 403),
        ("+39112", 403),
        ("+4930123456", 403),
        ("+390612345678x", 422),
    ] {
        let (told, body) = dial(&server, &key, &meeting, &json!({"to": number}));
        assert_eq!(told, status, "{number}: {body}");
    }
    asterisk.assert_nothing_is_left();

    let mut machine = Phone::called(&server, &PCMU, CALLER, at, true);
    let answered = call(&meeting);
    machine.wait_for_call();
    wait_until("asked and let go", Duration::from_secs(20), || {
        assert!(people(&server, &meeting.id).is_empty(), "it is in");
        is_over(&server, &answered)
    });
    assert_eq!(outcome(&answered), "no_input");
    drop(machine);
    let mut unwilling = Phone::called(&server, &PCMU, CALLER, at, true);
    let unwanted = call(&meeting);
    unwilling.wait_for_call();
    sleep(Duration::from_secs(1));
    unwilling.write("2");
    assert_eq!(outcome(&unwanted), "declined");
    drop(unwilling);

    let mut away = Phone::called(&server, &PCMU, CALLER, at, false);
    assert_eq!(outcome(&call(&meeting)), "no_answer");
    let engaged = call(&meeting);
    away.wait_for_ringing(2);
    away.write("b");
    assert_eq!(outcome(&engaged), "busy");
    let called_off = call(&meeting);
    away.wait_for_ringing(3);
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    assert_eq!(outcome(&called_off), "ended");
    asterisk.assert_nothing_is_left();
    wait_until("counted no more", Duration::from_secs(5), || {
        server
            .metrics()
            .contains("voicebridge_legs{kind=\"asterisk\"} 0")
    });
}

#[test]
fn after_kill_9_who_was_rung_or_asked_is_let_go_and_who_was_in_stays() {
    let mut asterisk = Asterisk::start();
    asterisk.more = "leave_to = [\"moved\"]";
    let first = ports(10);
    asterisk.change("extensions.conf", "PHONES", &first.to_string());
    asterisk.cli("dialplan reload");
    let mut server = asterisk.that_dials("Local/{number}@phones", "");
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let number = |digit: u16| format!("+39061234567{digit}");
    let phone = |digit: u16, answers: bool| {
        let voice = Voice {
            tone_hz: 0.0,
            ..PCMU
        };
        Phone::called(&server, &voice, &number(digit), first + 2 * digit, answers)
    };
    let (mut joins, mut asked, mut rung) = (phone(0, true), phone(1, true), phone(2, false));
    for digit in 0..3 {
        server.remember(&[&number(digit)]);
        let (status, body) = dial(
            &server,
            &key,
            &meeting,
            &json!({"to": number(digit), "name": "Anna"}),
        );
        assert_eq!(status, 202, "{body}");
    }
    joins.wait_for_call();
    sleep(Duration::from_secs(1));
    joins.write("1");
    wait_for_participants(&server, &meeting.id, 1);
    asked.wait_for_call();
    rung.wait_for_ringing(1);
    let meetings = [meeting];
    let before = all_people(&server, &meetings);
    server.kill_and_restart();
    assert_back(&server, &meetings, &before, "after kill -9");
    // Two halves of a call by Local, the phone, and the media.
    asterisk.assert_channels_and_bridges(4, 2);
    // He can be sent on like any participant by Asterisk.
    let (meeting, person) = (&meetings[0].id, text(&before[0][0]["id"]));
    let path = format!("/v1/meetings/{meeting}/participants/{person}/move");
    let moved = server.post(&path, &json!({"context": "moved", "extension": "42"}));
    assert_eq!(moved, (204, String::new()));
    wait_until("sent on", Duration::from_secs(5), || {
        let channels = asterisk.cli("core show channels concise");
        channels.matches("!moved!42!").count() == 1
    });
    joins.write("b");
    asterisk.assert_nothing_is_left();
    wait_until("one record", Duration::from_secs(5), || {
        server.calls().len() == 1
    });
    let record = server.calls()[0].clone();
    assert_eq!(
        (text(&record["direction"]), text(&record["outcome"])),
        ("out", "joined")
    );
    assert_eq!(text(&record["caller"]), "…5670");
}

/// Lets the organisation dial Italian numbers, and gives a key that may.
pub(crate) fn allow(server: &Server) -> String {
    let platform = server.create_key(&["--organisation", "test", "--role", "platform"]);
    let all = server.get("/v1/organisations");
    let path = format!("/v1/organisations/{}", text(&all["items"][0]["id"]));
    let (status, body) = server.send(
        "PATCH",
        &path,
        &platform,
        &json!({"dial_prefixes": ["+39"]}),
    );
    assert_eq!(status, 200, "{body}");
    server.create_key(&[
        "--organisation",
        "test",
        "--role",
        "operator",
        "--scope",
        "dial",
    ])
}

pub(crate) fn dial(server: &Server, key: &str, meeting: &Meeting, body: &Value) -> (u16, Value) {
    let path = format!("/v1/meetings/{}/dial", meeting.id);
    server.send("POST", &path, key, body)
}

pub(crate) fn is_over(server: &Server, call: &str) -> bool {
    server.calls().iter().any(|record| record["id"] == call)
}

pub(crate) fn record_of(server: &Server, call: &str) -> Value {
    wait_until("over", Duration::from_secs(20), || is_over(server, call));
    let mut calls = server.calls().into_iter();
    calls
        .find(|record| record["id"] == call)
        .expect("it is over")
}
