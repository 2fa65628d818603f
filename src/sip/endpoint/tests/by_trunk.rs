//! Calls that go out by a trunk: who is told the credentials, and what a carrier may ask for on the way.

use super::calling::response;
use super::trunks::{CHALLENGE, REGISTRAR, answer, reach, with_trunk};
use super::*;
use crate::config::Secret;
use crate::sip::Credentials;

const ROGUE: &str = "203.0.113.66:5060";
pub(super) const OURS: &str = "Digest realm=\"carrier\", nonce=\"n1\", qop=\"auth\"";

impl Bench {
    /// A trunk that has registered with its password.
    pub(super) fn registered() -> Self {
        let mut bench = with_trunk(false);
        let first = reach(&mut bench).remove(0);
        let second = answer(&mut bench, &first, "401 Unauthorized", CHALLENGE).remove(0);
        answer(&mut bench, &second, "200 OK", "Expires: 3600\r\n");
        bench.events();
        assert!(bench.endpoint.takes_calls(bench.now, TrunkId(0)));
        bench
    }

    /// A call by it; its dialog and the INVITE.
    pub(super) fn dial_by_trunk(&mut self) -> (DialogId, String) {
        let (target, from) = ("sip:+39061@carrier.example", "<sip:gw@carrier.example>");
        let begun = self
            .endpoint
            .invite_by(self.now, TrunkId(0), target, from, b"v=0\r\nours");
        let flow = self.endpoint.transmits.front().unwrap().flow;
        assert_eq!(
            flow,
            udp(REGISTRAR),
            "it goes to the trunk, whatever it is called"
        );
        let sent = self.sent();
        assert_eq!(statuses(&sent), ["INVITE"]);
        (begun.unwrap(), sent[0].clone())
    }

    fn hears_from(&mut self, peer: &str, message: &str) -> Vec<String> {
        let flow = udp(peer);
        self.endpoint
            .handle_datagram(self.now, flow, message.as_bytes());
        self.sent()
    }

    pub(super) fn hears_trunk(&mut self, message: &str) -> Vec<String> {
        self.hears_from(REGISTRAR, message)
    }

    /// A call by the trunk that is up, with its INVITE.
    fn up_by_trunk(&mut self) -> (DialogId, String) {
        let (dialog, invite) = self.dial_by_trunk();
        let sent = self.hears_trunk(&response(&invite, 200, "pt"));
        assert_eq!(statuses(&sent), ["ACK"]);
        assert!(matches!(
            self.events().as_slice(),
            [SipEvent::Established { .. }]
        ));
        (dialog, invite)
    }
}

pub(super) fn with_line(message: &str, line: &str) -> String {
    message.replacen("Contact:", &format!("{line}\r\nContact:"), 1)
}

pub(super) fn without_body(message: &str) -> String {
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    format!(
        "{}\r\n\r\n",
        head.replace("Content-Length: 8", "Content-Length: 0")
    )
}

pub(super) fn challenge(request: &str, status: u16, challenge: &str) -> String {
    let name = if status == 407 {
        "Proxy-Authenticate"
    } else {
        "WWW-Authenticate"
    };
    let challenged = without_body(&response(request, status, "ch"));
    with_line(&challenged, &format!("{name}: {challenge}"))
}

fn has_credentials(message: &str) -> bool {
    message.contains("uthorization: ")
}

#[test]
fn a_trunks_challenge_is_answered_once_and_the_call_goes_on() {
    for (status, name) in [(401, "Authorization"), (407, "Proxy-Authorization")] {
        let mut bench = Bench::registered();
        let (dialog, first) = bench.dial_by_trunk();
        assert!(!has_credentials(&first));
        assert_eq!(header(&first, "Supported"), Some("timer, 100rel"));
        let sent = bench.hears_trunk(&challenge(&first, status, OURS));
        assert_eq!(statuses(&sent), ["ACK", "INVITE"]);
        let second = sent[1].clone();
        let given = header(&second, name).unwrap();
        assert!(given.contains("username=\"gw\"") && given.contains("nonce=\"n1\""));
        assert!(
            given.contains("uri=\"sip:+39061@carrier.example\""),
            "{given}"
        );
        assert_eq!(header(&second, "CSeq"), Some("2 INVITE"));
        for same in ["Call-ID", "From", "To", "Contact", "Content-Type"] {
            assert_eq!(header(&second, same), header(&first, same), "{same}");
        }
        assert_ne!(header(&second, "Via"), header(&first, "Via"));
        assert!(second.ends_with("\r\n\r\nv=0\r\nours"), "{second}");
        // The challenge again gets its ACK again, and nothing else.
        let again = bench.hears_trunk(&challenge(&first, status, OURS));
        assert_eq!(statuses(&again), ["ACK"]);
        bench.hears_trunk(&response(&second, 180, "pt"));
        let sent = bench.hears_trunk(&response(&second, 200, "pt"));
        assert_eq!(header(&sent[0], "CSeq"), Some("2 ACK"));
        bench.endpoint.hang_up(bench.now, dialog, 16);
        let bye = bench.sent().remove(0);
        let sent = bench.hears_trunk(&challenge(&bye, status, OURS));
        assert_eq!(statuses(&sent), ["BYE"]);
        assert!(has_credentials(&sent[0]), "{}", sent[0]);
        assert_eq!(header(&sent[0], "CSeq"), Some("4 BYE"));
        assert_eq!(header(&sent[0], "Reason"), header(&bye, "Reason"));
        bench.hears_trunk(&response(&sent[0], 200, "pt"));
        assert_eq!(bench.endpoint.counters.dialogs, 0);
    }
}

#[test]
fn credentials_that_are_not_taken_are_not_sent_a_second_time() {
    let mut bench = Bench::registered();
    let (_, first) = bench.dial_by_trunk();
    let second = bench.hears_trunk(&challenge(&first, 407, OURS)).remove(1);
    // An old nonce is no refusal.
    let stale = "Digest realm=\"carrier\", nonce=\"n2\", stale=true";
    let third = bench.hears_trunk(&challenge(&second, 407, stale)).remove(1);
    assert!(
        header(&third, "Proxy-Authorization")
            .unwrap()
            .contains("nonce=\"n2\"")
    );
    assert_eq!(third.matches("Proxy-Authorization").count(), 1, "{third}");
    let sent = bench.hears_trunk(&challenge(&third, 407, OURS));
    assert_eq!(statuses(&sent), ["ACK"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed {
            status: 407,
            heard: true,
            ..
        }]
    ));
}

#[test]
fn nobody_else_is_told_the_credentials() {
    let foreign = OURS.replace("carrier", "evil");
    // Another realm from the trunk; our realm from another address than the INVITE went to.
    for (peer, asks) in [(REGISTRAR, foreign.as_str()), (ROGUE, OURS)] {
        let mut bench = Bench::registered();
        let (_, invite) = bench.dial_by_trunk();
        let sent = bench.hears_from(peer, &challenge(&invite, 407, asks));
        assert!(
            !sent.iter().any(|message| has_credentials(message)),
            "{sent:?}"
        );
        let events = bench.events();
        if peer == ROGUE {
            // Whom the call went to may still take it.
            assert!(sent.is_empty() && events.is_empty());
            assert_eq!(
                statuses(&bench.hears_trunk(&response(&invite, 200, "pt"))),
                ["ACK"]
            );
        } else {
            let [
                SipEvent::OtherRealm { asked, ours, .. },
                SipEvent::Failed { status: 407, .. },
            ] = events.as_slice()
            else {
                panic!("{events:?}")
            };
            assert_eq!((asked.as_str(), ours.as_str()), ("evil", "carrier"));
        }
        for method in ["BYE", "INFO", "INVITE"] {
            let mut bench = Bench::registered();
            let (dialog, _) = bench.up_by_trunk();
            let (now, sdp) = (bench.now, Bytes::from_static(b"v=0\r\n"));
            match method {
                "BYE" => bench.endpoint.hang_up(now, dialog, 16),
                "INFO" => bench.endpoint.info(now, dialog, "text/plain", sdp),
                _ => bench.endpoint.reinvite(now, dialog, sdp),
            }
            let request = bench.sent().remove(0);
            assert!(request.starts_with(method));
            for status in [401, 407] {
                let sent = bench.hears_from(peer, &challenge(&request, status, asks));
                assert!(
                    !sent.iter().any(|message| has_credentials(message)),
                    "{sent:?}"
                );
            }
        }
    }
    // Nor does a request of his in the call have ours go to him.
    let mut bench = Bench::registered();
    let (dialog, invite) = bench.up_by_trunk();
    let tag = header(&invite, "From")
        .unwrap()
        .rsplit_once(";tag=")
        .unwrap()
        .1;
    let call_id = header(&invite, "Call-ID").unwrap();
    let options = format!(
        "OPTIONS sip:x@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP {ROGUE};branch=z9hG4bKmove\r\n\
         From: <sip:+39061@carrier.example>;tag=pt\r\nTo: <sip:gw@carrier.example>;tag={tag}\r\n\
         Call-ID: {call_id}\r\nCSeq: 5 OPTIONS\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(600)
    );
    assert_eq!(statuses(&bench.hears_from(ROGUE, &options)), ["200"]);
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let flow = bench.endpoint.transmits.front().unwrap().flow;
    assert_eq!(flow, udp(REGISTRAR));
    let bye = bench.sent().remove(0);
    let sent = bench.hears_from(ROGUE, &challenge(&bye, 401, OURS));
    assert_eq!(sent, [""; 0]);
}

#[test]
fn requests_within_a_call_are_sent_again_with_credentials_where_the_trunk_asks() {
    let mut bench = Bench::registered();
    let (dialog, _) = bench.up_by_trunk();
    let sdp = Bytes::from_static(b"v=0\r\nhold");
    bench.endpoint.reinvite(bench.now, dialog, sdp);
    let first = bench.sent().remove(0);
    let sent = bench.hears_trunk(&challenge(&first, 401, OURS));
    assert_eq!(statuses(&sent), ["ACK", "INVITE"]);
    assert!(has_credentials(&sent[1]) && sent[1].ends_with("v=0\r\nhold"));
    assert!(bench.events().is_empty());
    assert_eq!(
        statuses(&bench.hears_trunk(&response(&sent[1], 200, "pt"))),
        ["ACK"]
    );
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Established { .. }]
    ));
}

#[test]
fn a_call_whose_connection_was_lost_is_ended_by_the_trunks_next_one() {
    let mut bench = Bench::registered();
    let (dialog, _) = bench.up_by_trunk();
    bench.endpoint.dialogs.get_mut(&dialog).unwrap().flow = None;
    let next = udp("192.0.2.99:5060");
    bench
        .endpoint
        .trunk_reached(bench.now, TrunkId(0), next, "192.0.2.1:5060");
    bench.sent();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(bench.endpoint.transmits.front().unwrap().flow, next);
    assert_eq!(statuses(&bench.sent()), ["BYE"]);
}

#[test]
fn a_call_whose_own_connection_is_lost_goes_on_by_the_one_that_its_trunk_is_called_by() {
    let mut bench = Bench::registered();
    let (dialog, _) = bench.up_by_trunk();
    let own = Flow::Stream {
        connection: ConnectionId(9),
        peer: REGISTRAR.parse().unwrap(),
        over: StreamTransport::Tcp,
    };
    bench.endpoint.dialogs.get_mut(&dialog).unwrap().flow = Some(own);
    bench.endpoint.handle_closed(bench.now, ConnectionId(9));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert!(bench.endpoint.is_taking_leave());
    let way = bench.endpoint.way_to(TrunkId(0)).unwrap().0;
    assert_eq!(bench.endpoint.transmits.front().unwrap().flow, way);
    let bye = bench.sent();
    assert_eq!(statuses(&bye), ["BYE"]);
    bench.hears_trunk(&response(&bye[0], 200, "pt"));
    assert!(!bench.endpoint.is_taking_leave());
}

#[test]
fn another_connection_to_a_trunk_takes_what_is_up_and_leaves_what_rings_its_own() {
    let mut bench = Bench::registered();
    let over = |connection| Flow::Stream {
        connection: ConnectionId(connection),
        peer: REGISTRAR.parse().unwrap(),
        over: StreamTransport::Tcp,
    };
    let by = |bench: &mut Bench, connection| {
        let now = bench.now;
        bench
            .endpoint
            .trunk_reached(now, TrunkId(0), over(connection), "192.0.2.1:5060");
        bench.endpoint.closes.drain(..).collect::<Vec<_>>()
    };
    let (up, _) = bench.up_by_trunk();
    assert_eq!(by(&mut bench, 1), []);
    bench.endpoint.dialogs.get_mut(&up).unwrap().flow = Some(over(1));
    // Nobody needs the former one.
    assert_eq!(by(&mut bench, 2), [ConnectionId(1)]);
    assert_eq!(bench.endpoint.dialogs[&up].flow, Some(over(2)));
    let target = "sip:+39061@carrier.example";
    let (now, from) = (bench.now, "<sip:gw@carrier.example>");
    let rings = bench
        .endpoint
        .invite_by(now, TrunkId(0), target, from, b"v=0\r\nours");
    let rings = rings.unwrap();
    assert_eq!(by(&mut bench, 3), []);
    assert_eq!(bench.endpoint.dialogs[&rings].flow, Some(over(2)));
    assert_eq!(bench.endpoint.dialogs[&up].flow, Some(over(3)));
}

#[test]
fn a_call_called_off_before_a_word_of_the_trunk_is_taken_back_after_its_first() {
    let mut bench = Bench::registered();
    let (dialog, invite) = bench.dial_by_trunk();
    bench.pass(Duration::from_secs(2));
    bench.sent();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    bench.pass(Duration::from_secs(7));
    bench.sent();
    let sent = bench.hears_trunk(&response(&invite, 180, "pt"));
    assert_eq!(statuses(&sent), ["CANCEL"]);
}

#[test]
fn without_a_registrar_only_the_configured_realm_counts() {
    for (realm, answered) in [
        (Some("carrier"), true),
        (Some("other"), false),
        (None, false),
    ] {
        let mut bench = Bench::with(|config| {
            config.trunks = vec![TrunkSettings {
                credentials: Some(Credentials {
                    user: "gw".to_owned(),
                    password: Secret::new("hunter2"),
                }),
                realm: realm.map(ToOwned::to_owned),
                ..TrunkSettings::default()
            }];
        });
        let (now, local) = (bench.now, "198.51.100.9:5060");
        assert!(
            !bench.endpoint.takes_calls(now, TrunkId(0)),
            "no way leads there"
        );
        bench
            .endpoint
            .trunk_reached(now, TrunkId(0), udp(REGISTRAR), local);
        assert!(bench.endpoint.takes_calls(now, TrunkId(0)));
        assert!(
            bench.endpoint.trunk_of(udp(REGISTRAR)).is_none(),
            "calls from there are a stranger's, unless it is among the peers"
        );
        let (_, invite) = bench.dial_by_trunk();
        let sent = bench.hears_trunk(&challenge(&invite, 401, OURS));
        assert_eq!(
            sent.iter().any(|message| has_credentials(message)),
            answered,
            "{realm:?}"
        );
        assert!(!sent.iter().any(|message| message.contains("hunter2")));
    }
}

#[test]
fn a_provisional_answer_that_wants_it_is_acknowledged_once_and_in_its_turn() {
    let mut bench = Bench::registered();
    let (_, invite) = bench.dial_by_trunk();
    let reliable = |number: u32, tag: &str| {
        let lines = format!("Require: 100rel\r\nRSeq: {number}\r\nRecord-Route: <sip:edge;lr>");
        with_line(&response(&invite, 183, tag), &lines)
    };
    let sent = bench.hears_trunk(&reliable(10, "pt"));
    assert_eq!(statuses(&sent), ["PRACK"]);
    let prack = &sent[0];
    assert!(
        prack.starts_with("PRACK sip:room@192.0.2.7:5070 SIP/2.0\r\n"),
        "{prack}"
    );
    assert_eq!(header(prack, "RAck"), Some("10 1 INVITE"));
    assert_eq!(header(prack, "CSeq"), Some("2 PRACK"));
    assert_eq!(
        header(prack, "To"),
        Some("<sip:+39061@carrier.example>;tag=pt")
    );
    assert_eq!(header(prack, "Route"), Some("<sip:edge;lr>"));
    assert_eq!(
        bench.hears_trunk(&reliable(10, "pt")),
        [""; 0],
        "the same again"
    );
    assert_eq!(
        bench.hears_trunk(&reliable(12, "pt")),
        [""; 0],
        "one is missing"
    );
    let sent = bench.hears_trunk(&reliable(11, "pt"));
    assert_eq!(header(&sent[0], "RAck"), Some("11 1 INVITE"));
    // Another branch of a fork counts for itself.
    let sent = bench.hears_trunk(&reliable(70, "other"));
    assert_eq!(header(&sent[0], "RAck"), Some("70 1 INVITE"));
    // One that isn't reliable wants nothing.
    assert_eq!(bench.hears_trunk(&response(&invite, 180, "pt")), [""; 0]);
    bench.events();
    // The description came with the 183 and needn't come again.
    let sent = bench.hears_trunk(&without_body(&response(&invite, 200, "pt")));
    assert_eq!(statuses(&sent), ["ACK"]);
    assert_eq!(header(&sent[0], "CSeq"), Some("1 ACK"));
    let events = bench.events();
    let [SipEvent::Established { sdp, dialog }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(sdp.as_ref(), b"v=0\r\npt\n");
    bench.endpoint.hang_up(bench.now, *dialog, 16);
    let bye = bench.sent().remove(0);
    assert_eq!(header(&bye, "CSeq"), Some("5 BYE"));
}

#[test]
fn a_session_that_is_too_short_for_them_is_asked_for_longer() {
    let mut bench = Bench::registered();
    let (_, first) = bench.dial_by_trunk();
    assert_eq!(
        header(&first, "Session-Expires"),
        Some("1800;refresher=uas")
    );
    let small = with_line(&without_body(&response(&first, 422, "pt")), "Min-SE: 3600");
    let sent = bench.hears_trunk(&small);
    assert_eq!(statuses(&sent), ["ACK", "INVITE"]);
    assert_eq!(
        header(&sent[1], "Session-Expires"),
        Some("3600;refresher=uas")
    );
    assert_eq!(header(&sent[1], "Min-SE"), Some("3600"));
    assert_eq!(sent[1].matches("Session-Expires").count(), 1);
    let absurd = with_line(
        &without_body(&response(&sent[1], 422, "pt")),
        "Min-SE: 999999",
    );
    assert_eq!(statuses(&bench.hears_trunk(&absurd)), ["ACK"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed { status: 422, .. }]
    ));
}

#[test]
fn the_answer_says_who_gives_signs_of_life() {
    for (expires, allow, expected) in [
        ("90;refresher=uac", "INVITE, UPDATE", Some("UPDATE")),
        ("90;refresher=uas", "INVITE", Some("BYE")),
        ("90;refresher=uac", "INVITE", Some("INVITE")),
    ] {
        let mut bench = Bench::registered();
        let (_, invite) = bench.dial_by_trunk();
        let lines = format!("Session-Expires: {expires}\r\nAllow: {allow}");
        bench.hears_trunk(&with_line(&response(&invite, 200, "pt"), &lines));
        bench.events();
        let sent = bench.pass(Duration::from_secs(89));
        let first = sent
            .first()
            .map(|(_, message)| statuses(std::slice::from_ref(message))[0].clone());
        assert_eq!(first.as_deref(), expected, "{expires} {allow}");
    }
}

#[test]
fn a_trunk_that_wants_no_calls_for_a_while_is_given_none() {
    let mut bench = Bench::registered();
    let (_, invite) = bench.dial_by_trunk();
    let busy = with_line(
        &without_body(&response(&invite, 503, "pt")),
        "Retry-After: 30",
    );
    bench.hears_trunk(&busy);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed {
            status: 503,
            heard: true,
            ..
        }]
    ));
    assert!(!bench.endpoint.takes_calls(bench.now, TrunkId(0)));
    bench.pass(Duration::from_secs(30));
    assert!(bench.endpoint.takes_calls(bench.now, TrunkId(0)));
}

#[test]
fn a_trunk_that_says_nothing_is_given_up_soon_and_what_it_says_late_is_taken_back() {
    let mut bench = Bench::registered();
    let (_, invite) = bench.dial_by_trunk();
    bench.pass(Duration::from_secs(9));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed {
            status: 408,
            heard: false,
            ..
        }]
    ));
    let sent = bench.hears_trunk(&response(&invite, 180, "pt"));
    assert_eq!(statuses(&sent), ["CANCEL"]);
    let sent = bench.hears_trunk(&response(&invite, 200, "pt"));
    assert_eq!(statuses(&sent), ["ACK", "BYE"]);
    assert!(bench.events().is_empty());
    // One that rings may ring on.
    let mut bench = Bench::registered();
    let (_, invite) = bench.dial_by_trunk();
    bench.hears_trunk(&response(&invite, 100, ""));
    bench.pass(Duration::from_secs(60));
    assert!(bench.events().is_empty());
}

#[test]
fn who_hangs_up_before_the_challenge_calls_nobody() {
    let mut bench = Bench::registered();
    let (dialog, invite) = bench.dial_by_trunk();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let sent = bench.hears_trunk(&challenge(&invite, 407, OURS));
    assert_eq!(statuses(&sent), ["ACK"]);
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.counters.dialogs, 0);
}

#[test]
fn a_trunk_that_challenges_and_then_says_nothing_is_given_up_as_soon_as_one_that_says_nothing() {
    let mut bench = Bench::registered();
    let (_, invite) = bench.dial_by_trunk();
    bench.hears_trunk(&challenge(&invite, 407, OURS));
    bench.pass(Duration::from_millis(7_999));
    assert!(bench.events().is_empty());
    bench.pass(Duration::from_millis(1));
    let told = bench.events();
    assert!(
        matches!(
            told.as_slice(),
            [SipEvent::Failed {
                status: 408,
                heard: false,
                ..
            }]
        ),
        "{told:?}"
    );
}

#[test]
fn a_proxy_with_a_realm_of_its_own_is_answered_for_that_and_the_registrar_for_its() {
    let mut bench = Bench::with(|config| {
        config.trunks = vec![TrunkSettings {
            credentials: Some(Credentials {
                user: "gw".to_owned(),
                password: Secret::new("hunter2"),
            }),
            realm: Some("registrar".to_owned()),
            dial_realm: Some("carrier".to_owned()),
            ..TrunkSettings::default()
        }];
    });
    let (now, local) = (bench.now, "192.0.2.1:5060");
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), udp(REGISTRAR), local);
    let (_, invite) = bench.dial_by_trunk();
    let again = bench.hears_trunk(&challenge(&invite, 407, OURS));
    assert!(
        again.iter().any(|message| has_credentials(message)),
        "{again:?}"
    );
    let (_, invite) = bench.dial_by_trunk();
    let registrars = OURS.replace("carrier", "registrar");
    let again = bench.hears_trunk(&challenge(&invite, 407, &registrars));
    assert!(
        !again.iter().any(|message| has_credentials(message)),
        "{again:?}"
    );
}
