//! People who are called by way of a trunk: a real Asterisk that challenges every call and acknowledges what it says
//! early, and carriers of two sockets that want to know more than they may.

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asterisk::{Asterisk, text};
use crate::asterisk_life::{people, wait_until};
use crate::bare_phone::{BarePhone, Ear};
use crate::baresip::{
    LEVEL_ERROR_DB, PCMA, PCMU, Phone, SENT_DBFS, TALK, Voice, assert_they_heard_each_other,
};
use crate::dialling::{allow, dial, is_over, record_of};
use crate::outcomes::wait_for_participants;
use crate::ports::{port, ports};
use crate::server::{CALLER, Meeting, Server};
use crate::trunks::{PASSWORD, await_trunks, trunk};

#[test]
fn who_is_called_by_a_trunk_that_challenges_is_asked_and_in_and_heard() {
    let (asterisk, phone_port) = carrier();
    // The first trunk is there and takes no calls.
    let busy = Carrier::listening();
    let server = Server::start(&format!(
        "{}{}dial = \"sip:{{number}}@trunk.example\"\n",
        busy.trunk("busy", ""),
        trunk(&asterisk, "by-md5", "by-md5", PASSWORD, "udp"),
    ));
    server.remember(&[PASSWORD]);
    await_trunks(&server, &[("by-md5", 1), ("busy", 1)]);
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let mut first = Phone::calling(&server, &PCMA, server.sip_port, "1000");
    first.enter(&meeting);
    wait_for_participants(&server, &meeting.id, 1);

    asterisk.cli("pjsip set history on");
    let mut called = Phone::called(&server, &PCMU, CALLER, phone_port, true);
    let call = begin(
        &server,
        &key,
        &meeting,
        &json!({"to": CALLER, "name": "Anna"}),
    );
    let invite = busy.expect("INVITE");
    busy.reply(
        &invite,
        "503 Service Unavailable",
        "Retry-After: 300\r\n",
        "",
    );
    called.wait_for_call();
    // He hears the question, and isn't in until he says yes.
    sleep(Duration::from_secs(2));
    assert_eq!(people(&server, &meeting.id).len(), 1);
    called.write("1");
    wait_for_participants(&server, &meeting.id, 2);
    let history = asterisk.cli("pjsip show history");
    assert!(
        history.contains("PRACK"),
        "nothing was acknowledged early:\n{history}"
    );
    let anna = server.get(&format!("/v1/meetings/{}/participants", meeting.id));
    let anna = anna["items"][1].clone();
    assert_eq!((text(&anna["name"]), text(&anna["kind"])), ("Anna", "sip"));
    sleep(TALK);
    assert_they_heard_each_other(first, called);
    asterisk.assert_nothing_is_left();
    let record = record_of(&server, &call);
    assert_eq!(
        ["direction", "outcome", "kind", "trunk"].map(|name| text(&record[name])),
        ["out", "joined", "sip", "by-md5"],
        "{record}"
    );
    assert_eq!(text(&record["caller"]), "…5678");
    assert!(!text(&record["sip_call_id"]).is_empty(), "{record}");
}

#[test]
fn busy_no_answer_and_a_meeting_that_is_over_are_recorded_and_leave_nobody_ringing() {
    let (asterisk, phone_port) = carrier();
    let mut config = trunk(&asterisk, "by-md5", "by-md5", PASSWORD, "tcp");
    config.push_str("dial = \"sip:{number}@trunk.example\"\ndial_prefixes = [\"+39\"]\n");
    let server = Server::start(&format!("{config}[limits]\ndial_ring_seconds = 5\n"));
    server.remember(&[PASSWORD]);
    await_trunks(&server, &[("by-md5", 1)]);
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    for number in ["112", "+39112"] {
        assert_eq!(dial(&server, &key, &meeting, &json!({"to": number})).0, 403);
    }
    let outcome = |call: &str| {
        let record = record_of(&server, call);
        assert_eq!(record["participant_id"], Value::Null, "{record}");
        text(&record["outcome"]).to_owned()
    };
    let call = || begin(&server, &key, &meeting, &json!({"to": CALLER}));

    let mut away = Phone::called(&server, &PCMU, CALLER, phone_port, false);
    assert_eq!(outcome(&call()), "no_answer");
    asterisk.assert_nothing_is_left();
    let engaged = call();
    away.wait_for_ringing(2);
    away.write("b");
    assert_eq!(outcome(&engaged), "busy");
    let called_off = call();
    away.wait_for_ringing(3);
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    assert_eq!(outcome(&called_off), "ended");
    asterisk.assert_nothing_is_left();
    wait_until("counted no more", Duration::from_secs(5), || {
        server
            .metrics()
            .contains("voicebridge_legs{kind=\"sip\"} 0")
    });
}

#[test]
fn who_is_called_is_asked_for_encryption_as_his_trunk_says() {
    let [secure, plain] = [port(), port()];
    let trunk = |name: &str, srtp: &str, prefix: &str, at: u16| {
        format!(
            "[[sip.trunk]]\nname = {name:?}\ndial = \"sip:{{number}}@127.0.0.1:{at}\"\nsrtp = {srtp:?}\ndial_prefixes = [{prefix:?}]\n"
        )
    };
    let server = Server::start(
        &[
            trunk("must", "require", "+391", secure),
            trunk("must-in-vain", "require", "+392", plain),
            trunk("may", "offer", "+393", plain),
        ]
        .concat(),
    );
    await_trunks(&server, &[("must", 1), ("must-in-vain", 1), ("may", 1)]);
    let key = allow(&server);
    let meeting = server.book(&json!({ "automatic_gain": false }));
    let mut first = Phone::calling(&server, &PCMA, server.sip_port, "1000");
    first.enter(&meeting);
    wait_for_participants(&server, &meeting.id, 1);
    let encrypts = Voice {
        encrypts: true,
        ..PCMU
    };
    for (voice, at, number, trunk) in [
        (encrypts, secure, "+39155500", "must"),
        (PCMU, plain, "+39355500", "may"),
    ] {
        let mut called = Phone::called(&server, &voice, number, at, true);
        let call = begin(&server, &key, &meeting, &json!({"to": number}));
        called.wait_for_call();
        sleep(Duration::from_secs(2));
        called.write("1");
        wait_for_participants(&server, &meeting.id, 2);
        let hears = |phone: &Phone, hz: f64| {
            let heard = phone.has_heard(1.5);
            heard.is_some_and(|heard| (heard.level_of(hz) - SENT_DBFS).abs() <= LEVEL_ERROR_DB)
        };
        wait_until("heard on both sides", Duration::from_secs(30), || {
            hears(&first, PCMU.tone_hz) && hears(&called, PCMA.tone_hz)
        });
        called.write("b");
        let record = record_of(&server, &call);
        assert_eq!(text(&record["outcome"]), "joined", "{record}");
        assert_eq!(text(&record["trunk"]), trunk, "{record}");
    }
    let mut refuses = Phone::called(&server, &PCMU, "+39255500", plain, true);
    let call = begin(&server, &key, &meeting, &json!({"to": "+39255500"}));
    assert_eq!(text(&record_of(&server, &call)["outcome"]), "error");
    let said = refuses.said();
    assert!(!said.contains("Call established"), "{said}");
    refuses.write("/quit\n");
}

#[test]
fn only_the_trunk_itself_and_only_for_its_realm_is_told_who_we_are() {
    let trunk = Carrier::listening();
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let credentials = format!("user = \"gw\"\npassword = {PASSWORD:?}\nrealm = \"ours\"\n");
    let server = Server::start(&trunk.trunk("carrier", &credentials));
    server.remember(&[PASSWORD]);
    await_trunks(&server, &[("carrier", 1)]);
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let challenge =
        |realm: &str| format!("WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"n\"\r\n");

    let call = begin(&server, &key, &meeting, &json!({"to": CALLER}));
    let invite = trunk.expect("INVITE");
    trunk.reply(&invite, "401 Unauthorized", &challenge("theirs"), "");
    trunk.expect("ACK");
    assert_eq!(text(&record_of(&server, &call)["outcome"]), "error");

    let call = begin(&server, &key, &meeting, &json!({"to": CALLER}));
    let invite = trunk.expect("INVITE");
    trunk.reply(&invite, "200 OK", "", &sdp());
    trunk.expect("ACK");
    server.delete(&format!("/v1/meetings/{}", meeting.id));
    let bye = trunk.expect("BYE");
    let asked = answer(&bye, "401 Unauthorized", &challenge("ours"), "");
    let to = ("127.0.0.1", server.sip_port);
    for _ in 0..3 {
        stranger.send_to(asked.as_bytes(), to).expect("sent");
    }
    // Nobody else having answered, it comes once more as it was; the trunk itself is told then.
    let again = trunk.expect("BYE");
    assert_eq!(again, bye);
    trunk.reply(&again, "401 Unauthorized", &challenge("ours"), "");
    let told = loop {
        let next = trunk.expect("BYE");
        if next != bye {
            break next;
        }
    };
    assert!(
        told.contains("Authorization: Digest username=\"gw\", realm=\"ours\""),
        "{told}"
    );
    trunk.reply(&told, "200 OK", "", "");
    assert_eq!(text(&record_of(&server, &call)["outcome"]), "ended");
    stranger.set_nonblocking(true).expect("set");
    let heard = stranger.recv(&mut [0; 1_500]);
    assert!(heard.is_err(), "the stranger was sent something");
}

#[test]
fn a_trunk_that_falls_silent_is_shown_and_not_called_by() {
    let trunk = Carrier::listening();
    let server = Server::start(&trunk.trunk("carrier", "qualify_frequency = 1\n"));
    let platform = server.create_key(&["--organisation", "test", "--role", "platform"]);
    let standing = || server.get_by("/v1/trunks", &platform)["items"][0].clone();
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let question = trunk.expect("OPTIONS");
    trunk.reply(&question, "404 Not Found", "", "");
    wait_until("it is shown to answer", Duration::from_secs(10), || {
        standing()["reachable"] == true
    });
    let shown = standing();
    assert_eq!(
        (text(&shown["name"]), &shown["up"]),
        ("carrier", &json!(true))
    );
    assert!(
        shown["round_trip_ms"].as_f64().is_some_and(|ms| ms > 0.0),
        "{shown}"
    );
    // Its next questions find nobody.
    await_trunks(&server, &[("carrier", 0)]);
    assert_eq!(standing()["reachable"], false);
    let (status, body) = dial(&server, &key, &meeting, &json!({"to": CALLER}));
    assert_eq!((status, text(&body["code"])), (503, "no_line"), "{body}");
    // The first that is heard may be one from before, repeated.
    wait_until(
        "it is shown to answer again",
        Duration::from_secs(20),
        || {
            let question = trunk.expect("OPTIONS");
            trunk.reply(&question, "200 OK", "", "");
            standing()["reachable"] == true
        },
    );
    await_trunks(&server, &[("carrier", 1)]);
    let log = server.log();
    assert!(
        log.contains("it answers no more") && log.contains("it answers "),
        "{log}"
    );
}

#[test]
fn a_trunk_has_no_more_calls_than_it_may_both_ways_together() {
    let trunk = Carrier::listening();
    let one = "peers = [\"127.0.0.1\"]\ncalls = 1\n";
    let server = Server::start(&trunk.trunk("carrier", one));
    let platform = server.create_key(&["--organisation", "test", "--role", "platform"]);
    let calls = || server.get_by("/v1/trunks", &platform)["items"][0]["calls"].clone();
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    await_trunks(&server, &[("carrier", 1)]);
    let ear = Ear::new();
    let call_in = || BarePhone::try_to_dial(&ear, server.sip_port, "1000", "39061", "");
    let busy = || {
        call_in()
            .err()
            .is_some_and(|status| status.starts_with("486 "))
    };

    let caller = BarePhone::dial(&ear, server.sip_port, "1000", "39061", "");
    assert!(busy());
    let asked = json!({"to": CALLER});
    let (status, body) = dial(&server, &key, &meeting, &asked);
    assert_eq!((status, text(&body["code"])), (503, "no_line"), "{body}");
    wait_until("it is shown", Duration::from_secs(10), || calls() == 1);
    caller.hang_up();
    wait_until("its line is free", Duration::from_secs(10), || calls() == 0);

    let call = begin(&server, &key, &meeting, &asked);
    let invite = trunk.expect("INVITE");
    assert!(busy());
    trunk.reply(&invite, "486 Busy Here", "", "");
    wait_until("it is over", Duration::from_secs(10), || {
        is_over(&server, &call)
    });
    BarePhone::dial(&ear, server.sip_port, "1000", "39061", "").hang_up();
    let refused = "voicebridge_admission_refused_total{reason=\"calls_per_trunk\"} 2";
    wait_until("both are counted", Duration::from_secs(10), || {
        server.metrics().contains(refused)
    });
}

#[test]
fn a_call_that_meets_another_request_is_tried_once_more_and_then_no_more() {
    let trunk = Carrier::listening();
    let server = Server::start(&trunk.trunk("carrier", ""));
    await_trunks(&server, &[("carrier", 1)]);
    let key = allow(&server);
    let meeting = server.book(&json!({}));
    let call = begin(&server, &key, &meeting, &json!({"to": CALLER}));
    let first = trunk.expect("INVITE");
    trunk.reply(&first, "491 Request Pending", "", "");
    trunk.expect("ACK");
    let second = trunk.expect("INVITE");
    let id = |request: &str| {
        let line = request.lines().find(|line| line.starts_with("Call-ID:"));
        line.map(ToOwned::to_owned)
    };
    assert_ne!(id(&first), id(&second));
    trunk.reply(&second, "491 Request Pending", "", "");
    assert_eq!(text(&record_of(&server, &call)["outcome"]), "error");
}

#[test]
fn check_says_of_each_trunk_whether_it_would_work() {
    let asterisk = Asterisk::start();
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let server = Server::start(
        &[
            trunk(&asterisk, "good", "by-md5", PASSWORD, "udp"),
            trunk(&asterisk, "stranger", "by-md5", "not-the-password", "tcp"),
            Carrier(nobody).trunk("silent", ""),
        ]
        .concat(),
    );
    server.remember(&[PASSWORD, "not-the-password"]);
    await_trunks(&server, &[("good", 1)]);
    let contacts = || asterisk.cli("pjsip show contacts");
    let before = contacts();
    let said = server.check();
    let line = |name: &str| {
        let line = said
            .lines()
            .find(|line| line.contains(&format!("trunk {name}:")));
        line.unwrap_or_else(|| panic!("{said}"))
    };
    assert!(
        line("good").starts_with("ok ") && line("good").ends_with("would register"),
        "{said}"
    );
    assert!(line("good").contains("answers OPTIONS after"), "{said}");
    assert!(
        line("stranger").contains("user and password are not taken"),
        "{said}"
    );
    assert!(line("silent").contains("doesn't answer OPTIONS"), "{said}");
    let lost = |text: &str| text.matches("sip:by-md5@").count();
    assert_eq!(
        lost(&contacts()),
        lost(&before),
        "it has changed what the registrar knows"
    );
}

/// An Asterisk that is a trunk, and the port of the phone behind it that has the number `CALLER`.
fn carrier() -> (Asterisk, u16) {
    let asterisk = Asterisk::start();
    let first = ports(18);
    asterisk.change("extensions.conf", "PHONES", &first.to_string());
    asterisk.cli("dialplan reload");
    (asterisk, first + 16)
}

fn begin(server: &Server, key: &str, meeting: &Meeting, asked: &Value) -> String {
    let (status, body) = dial(server, key, meeting, asked);
    assert_eq!(status, 202, "{body}");
    let call = text(&body["call_id"]).to_owned();
    assert!(!is_over(server, &call));
    call
}

/// A carrier of one socket.
pub(crate) struct Carrier(UdpSocket);

impl Carrier {
    pub(crate) fn listening() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", port())).expect("a port");
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).expect("set");
        Self(socket)
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }

    /// Of what has come by now, and wasn't asked for yet.
    pub(crate) fn has_heard_nothing_of(&self, method: &str) -> bool {
        self.0.set_nonblocking(true).expect("set");
        let mut buffer = [0; 8_192];
        while let Ok(length) = self.0.recv(&mut buffer) {
            if buffer[..length].starts_with(method.as_bytes()) {
                return false;
            }
        }
        self.0.set_nonblocking(false).expect("set");
        true
    }

    /// The trunk that leads here.
    pub(crate) fn trunk(&self, name: &str, more: &str) -> String {
        let here = self.0.local_addr().expect("it is bound");
        format!("[[sip.trunk]]\nname = {name:?}\ndial = \"sip:{{number}}@{here}\"\n{more}")
    }

    /// The next request of this method; what comes again meanwhile is passed over.
    pub(crate) fn expect(&self, method: &str) -> String {
        let mut buffer = [0; 8_192];
        loop {
            let (length, from) = self.0.recv_from(&mut buffer).expect("it comes");
            self.0.connect(from).expect("connected");
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let for_foreign_realm = message.contains("realm=\"theirs\"");
            assert!(!for_foreign_realm, "{message}");
            if message.starts_with(method) {
                return message;
            }
        }
    }

    pub(crate) fn reply(&self, request: &str, status: &str, lines: &str, body: &str) {
        let sent = self.0.send(answer(request, status, lines, body).as_bytes());
        sent.expect("sent");
    }
}

fn answer(request: &str, status: &str, lines: &str, body: &str) -> String {
    let value = |name: &str| {
        let line = request.lines().find(|line| line.starts_with(name));
        line.expect("it has it").to_owned()
    };
    let to = value("To:");
    let tag = if to.contains(";tag=") {
        ""
    } else {
        ";tag=carrier"
    };
    let content = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    let contact = if lines.contains("Contact:") {
        ""
    } else {
        "Contact: <sip:carrier@127.0.0.1:9>\r\n"
    };
    format!(
        "SIP/2.0 {status}\r\n{}\r\n{}\r\n{to}{tag}\r\n{}\r\n{}\r\n{contact}\
         {lines}{content}Content-Length: {}\r\n\r\n{body}",
        value("Via:"),
        value("From:"),
        value("Call-ID:"),
        value("CSeq:"),
        body.len(),
    )
}

pub(crate) fn sdp() -> String {
    let media = port();
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {media} RTP/AVP 8\r\n"
    )
}
