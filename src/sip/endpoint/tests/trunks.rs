//! Trunks on the wire: registration with credentials, what calls by them are believed, ways that break.

use std::time::Duration;

use super::*;
use crate::booking::CallerNumber;
use crate::config::Secret;
use crate::sip::event::{IncomingInvite, StreamTransport, TrunkState};
use crate::sip::{Credentials, Refused};

pub(super) const REGISTRAR: &str = "192.0.2.50:5060";

pub(super) fn with_trunk(trust_identity: bool) -> Bench {
    Bench::with(|config| {
        config.trunks = vec![TrunkSettings {
            peers: vec!["192.0.2.60/31".parse().unwrap()],
            trust_identity,
            registrar: Some(RegistrarSettings {
                host_port: "carrier.example".to_owned(),
                user: "gw".to_owned(),
            }),
            credentials: Some(Credentials {
                user: "gw".to_owned(),
                password: Secret::new("hunter2"),
            }),
            realm: None,
            ..TrunkSettings::default()
        }];
    })
}

pub(super) fn reach(bench: &mut Bench) -> Vec<String> {
    let now = bench.now;
    let flow = udp(REGISTRAR);
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), flow, "198.51.100.9:5060");
    bench.endpoint.handle_timeout(now);
    bench.sent()
}

/// The registrar's answer to a REGISTER of ours.
pub(super) fn answer(bench: &mut Bench, request: &str, status: &str, headers: &str) -> Vec<String> {
    let repeat = ["Via", "From", "To", "Call-ID", "CSeq"]
        .map(|name| format!("{name}: {}\r\n", header(request, name).unwrap()))
        .concat();
    let message = format!("SIP/2.0 {status}\r\n{repeat}{headers}Content-Length: 0\r\n\r\n");
    let now = bench.now;
    bench
        .endpoint
        .handle_datagram(now, udp(REGISTRAR), message.as_bytes());
    bench.endpoint.handle_timeout(now);
    bench.sent()
}

fn trunk_news(bench: &mut Bench) -> Vec<TrunkState> {
    let news = bench.events().into_iter().map(|event| {
        let SipEvent::Trunk { state, .. } = event else {
            panic!("{event:?}")
        };
        state
    });
    news.collect()
}

pub(super) const CHALLENGE: &str = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"abc\", qop=\"auth\", algorithm=SHA-256\r\n";

#[test]
fn it_registers_with_its_password_and_refreshes() {
    let mut bench = with_trunk(false);
    let sent = reach(&mut bench);
    let [first] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert!(
        first.starts_with("REGISTER sip:carrier.example SIP/2.0\r\n"),
        "{first}"
    );
    assert_eq!(header(first, "Contact"), Some("<sip:gw@198.51.100.1:5060>"));
    assert_eq!(header(first, "Authorization"), None);
    let sent = answer(&mut bench, first, "401 Unauthorized", CHALLENGE);
    let [second] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    let authorization = header(second, "Authorization").unwrap();
    assert!(authorization.contains("algorithm=SHA-256") && authorization.contains("nc=00000001"));
    assert!(
        authorization.contains("uri=\"sip:carrier.example\""),
        "{authorization}"
    );
    assert!(!second.contains("hunter2"));
    assert_eq!(header(second, "Call-ID"), header(first, "Call-ID"));
    assert_eq!(header(second, "CSeq"), Some("2 REGISTER"));
    let none = answer(
        &mut bench,
        second,
        "200 OK",
        "Contact: <sip:gw@198.51.100.1:5060>;expires=100\r\n",
    );
    assert_eq!(none, [""; 0]);
    assert_eq!(trunk_news(&mut bench), [TrunkState::Up]);
    let at = bench.endpoint.poll_timeout().unwrap();
    bench.now += Duration::from_secs(95);
    assert!(at < bench.now, "refreshed before it ends");
    bench.endpoint.handle_timeout(bench.now);
    let sent = bench.sent();
    let third = sent.last().unwrap();
    assert!(
        header(third, "Authorization")
            .unwrap()
            .contains("nc=00000002"),
        "{third}"
    );
    answer(&mut bench, third, "200 OK", "Expires: 100\r\n");
    assert_eq!(
        trunk_news(&mut bench),
        [],
        "what is known is not told again"
    );
}

#[test]
fn a_silent_registrar_is_asked_again_and_the_registration_lapses() {
    let mut bench = with_trunk(false);
    let first = reach(&mut bench).remove(0);
    answer(&mut bench, &first, "200 OK", "Expires: 60\r\n");
    assert_eq!(trunk_news(&mut bench), [TrunkState::Up]);
    let mut asked = 0;
    for _ in 0..200 {
        bench.now += Duration::from_secs(1);
        bench.endpoint.handle_timeout(bench.now);
        asked += bench
            .sent()
            .iter()
            .filter(|m| m.starts_with("REGISTER"))
            .count();
    }
    let news = trunk_news(&mut bench);
    assert!(news.contains(&TrunkState::Lapsed), "{news:?}");
    assert!(
        news.contains(&TrunkState::Refused(Refused::Status(408))),
        "{news:?}"
    );
    assert!((20..60).contains(&asked), "{asked}");
}

#[test]
fn a_broken_connection_cuts_the_trunk_and_a_new_one_registers_anew() {
    let mut bench = with_trunk(false);
    let now = bench.now;
    let local = "198.51.100.9:5060";
    bench.endpoint.trunk_reached(now, TrunkId(0), tcp(), local);
    bench.endpoint.handle_timeout(now);
    let first = bench.sent().remove(0);
    assert!(first.contains("SIP/2.0/TCP"), "{first}");
    assert_eq!(
        header(&first, "Contact"),
        Some("<sip:gw@198.51.100.1:5060;transport=tcp>")
    );
    bench.endpoint.handle_closed(now, TCP);
    assert!(trunk_news(&mut bench).contains(&TrunkState::Cut));
    bench.now += Duration::from_secs(3_600);
    bench.endpoint.handle_timeout(bench.now);
    assert_eq!(bench.sent(), [""; 0], "there is no way to ask");
    assert_eq!(reach(&mut bench).len(), 1);
}

#[test]
fn who_refuses_and_hangs_up_is_left_in_peace_too() {
    let mut bench = with_trunk(false);
    let (now, local) = (bench.now, "198.51.100.9:5060");
    bench.endpoint.trunk_reached(now, TrunkId(0), tcp(), local);
    bench.endpoint.handle_timeout(now);
    let first = bench.sent().remove(0);
    answer(&mut bench, &first, "403 Forbidden", "Retry-After: 900\r\n");
    bench.endpoint.handle_closed(now, TCP);
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), udp(REGISTRAR), local);
    assert!(bench.pass(Duration::from_secs(899)).is_empty());
    assert!(!bench.pass(Duration::from_secs(2)).is_empty());
}

#[test]
fn another_way_doesnt_shorten_the_pause_after_a_refusal() {
    let mut bench = with_trunk(false);
    let first = reach(&mut bench).remove(0);
    answer(&mut bench, &first, "403 Forbidden", "Retry-After: 900\r\n");
    let refused = TrunkState::Refused(Refused::Status(403));
    assert_eq!(trunk_news(&mut bench), [refused]);
    let now = bench.now;
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), tcp(), "198.51.100.9:5060");
    assert!(bench.pass(Duration::from_secs(899)).is_empty());
    let sent = bench.pass(Duration::from_secs(2));
    assert!(sent[0].1.contains("SIP/2.0/TCP"), "{sent:?}");
    bench
        .endpoint
        .trunk_reached(bench.now, TrunkId(0), udp(REGISTRAR), "198.51.100.9:5060");
    assert_eq!(
        bench.endpoint.poll_close(),
        Some(TCP),
        "no connection piles up"
    );
}

#[test]
fn draining_takes_the_address_back() {
    let mut bench = with_trunk(false);
    let first = reach(&mut bench).remove(0);
    answer(&mut bench, &first, "200 OK", "Expires: 60\r\n");
    bench.endpoint.leave_trunks(bench.now);
    let last = bench.sent().remove(0);
    assert_eq!(header(&last, "Expires"), Some("0"));
    let challenged = answer(&mut bench, &last, "401 Unauthorized", CHALLENGE);
    assert_eq!(header(&challenged[0], "Expires"), Some("0"));
    answer(&mut bench, &challenged[0], "200 OK", "");
    bench.now += Duration::from_secs(3_600);
    bench.endpoint.handle_timeout(bench.now);
    assert_eq!(bench.sent(), [""; 0]);
}

/// An INVITE from a peer of the trunk, or from a stranger.
fn invite_from(bench: &mut Bench, peer: &str, request_user: &str) -> IncomingInvite {
    invite_with(bench, peer, request_user, "")
}

fn invite_with(bench: &mut Bench, peer: &str, request_user: &str, headers: &str) -> IncomingInvite {
    let asserted = "P-Asserted-Identity: \"A, B\" <sip:anna@carrier.example>, <tel:+39055111>\r\n";
    invite_saying(bench, peer, request_user, &format!("{asserted}{headers}"))
}

fn invite_saying(
    bench: &mut Bench,
    peer: &str,
    request_user: &str,
    headers: &str,
) -> IncomingInvite {
    let message = format!(
        "INVITE sip:{request_user}@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP {peer};branch=z9hG4bK{request_user}{peer}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:anonymous@anonymous.invalid>;tag=1\r\nTo: <sip:+39061234@carrier.example>\r\n\
         Call-ID: {peer}{request_user}\r\nCSeq: 1 INVITE\r\nContact: <sip:{peer}>\r\n\
         {headers}Content-Length: 0\r\n\r\n"
    );
    let now = bench.now;
    bench
        .endpoint
        .handle_datagram(now, udp(peer), message.as_bytes());
    let told = bench.endpoint.poll_event();
    let Some(SipEvent::Invite { invite, .. }) = told else {
        panic!("{told:?}")
    };
    *invite
}

#[test]
fn a_number_dialled_before_a_diversion_is_told_by_trusted_trunks_only() {
    let two =
        "Diversion: <sip:+39062222@x>;reason=no-answer, <tel:+39061111>;reason=unconditional\r\n";
    let history = "History-Info: <sip:+39063333@x?Reason=SIP%3Bcause%3D302>;index=1\r\n\
         History-Info: <sip:+39064444@x>;index=1.1\r\n";
    for (headers, expected) in [
        ("", None),
        (two, Some("+39061111")),
        (history, Some("+39063333")),
        (&[two, history].concat(), Some("+39063333")),
        ("History-Info: nonsense\r\n", None),
    ] {
        for trusted in [true, false] {
            let mut bench = with_trunk(trusted);
            let told = invite_with(&mut bench, "192.0.2.61:5060", "+39069999", headers);
            assert_eq!(told.number, "+39069999");
            let expected = expected.filter(|_| trusted);
            assert_eq!(told.diverted_from.as_deref(), expected, "{headers}");
        }
    }
}

#[test]
fn who_does_not_want_to_be_known_is_not_told_of() {
    for (headers, is_known) in [
        ("Privacy: id\r\n", false),
        ("Privacy: header; user;critical\r\n", false),
        ("Privacy: none\r\n", true),
        ("Privacy: session\r\n", true),
    ] {
        let mut bench = with_trunk(true);
        let told = invite_with(&mut bench, "192.0.2.61:5060", "+39069999", headers);
        assert!(
            (told.caller == CallerNumber::new("+39055111")) == is_known,
            "{headers}"
        );
        assert!(told.caller.is_withheld() != is_known, "{headers}");
    }
}

#[test]
fn what_a_trunk_says_is_believed_as_far_as_configured() {
    for trusted in [true, false] {
        let mut bench = with_trunk(trusted);
        reach(&mut bench);
        let by_peer = invite_from(&mut bench, "192.0.2.61:5060", "+39069999");
        assert_eq!(by_peer.trunk, Some(TrunkId(0)));
        assert_eq!(by_peer.number, "+39069999");
        let expected = if trusted { "+39055111" } else { "anonymous" };
        assert!(
            by_peer.caller == CallerNumber::new(expected),
            "trusted: {trusted}"
        );
        let by_registrar = invite_from(&mut bench, REGISTRAR, "gw");
        assert_eq!(by_registrar.trunk, Some(TrunkId(0)));
        assert_eq!(
            by_registrar.number, "+39061234",
            "the dialled number stands in To"
        );
        let stranger = invite_from(&mut bench, "192.0.2.62:5060", "gw");
        assert_eq!((stranger.trunk, stranger.number.as_str()), (None, "gw"));
        assert!(stranger.caller == CallerNumber::new("anonymous"));
    }
}

/// A trunk that is asked every so many seconds whether it is there.
fn asked(every: u64) -> Bench {
    let mut bench = Bench::with(|config| {
        config.trunks = vec![TrunkSettings {
            qualify: Some(QualifySettings {
                every: Duration::from_secs(every),
                uri: "sip:carrier.example".to_owned(),
            }),
            ..TrunkSettings::default()
        }];
    });
    let now = bench.now;
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), udp(REGISTRAR), "198.51.100.9:5060");
    bench
}

fn takes_calls(bench: &Bench) -> bool {
    bench.endpoint.takes_calls(bench.now, TrunkId(0))
}

#[test]
fn a_trunk_that_answers_whatever_is_there_and_is_asked_again_after_its_time() {
    let mut bench = asked(60);
    bench.endpoint.handle_timeout(bench.now);
    let sent = bench.sent();
    assert_eq!(statuses(&sent), ["OPTIONS"]);
    assert!(sent[0].starts_with("OPTIONS sip:carrier.example SIP/2.0\r\n"));
    assert_eq!(bench.endpoint.reach(TrunkId(0)), None);
    bench.now += Duration::from_millis(40);
    answer(&mut bench, &sent[0], "404 Not Found", "");
    let round_trip = Duration::from_millis(40);
    assert_eq!(
        trunk_news(&mut bench),
        [TrunkState::Reachable { round_trip }]
    );
    let since = bench.now;
    let again = bench.pass(Duration::from_secs(60));
    let [(at, second)] = again.as_slice() else {
        panic!("{again:?}")
    };
    assert_eq!(*at, 59_960);
    assert_ne!(header(second, "Call-ID"), header(&sent[0], "Call-ID"));
    bench.now += Duration::from_millis(20);
    let (second, now) = (second.clone(), bench.now);
    answer(&mut bench, &second, "401 Unauthorized", CHALLENGE);
    assert_eq!(trunk_news(&mut bench), [], "that is no news");
    let reach = bench.endpoint.reach(TrunkId(0)).unwrap();
    assert_eq!((reach.answers, reach.since), (true, since));
    assert!(reach.round_trip.unwrap() <= now - since);
    assert!(bench.sent().is_empty(), "credentials are for calls");
}

#[test]
fn a_trunk_that_says_nothing_for_3_s_is_given_no_calls_until_it_answers_again() {
    let mut bench = asked(60);
    assert!(takes_calls(&bench), "nothing is known against it");
    bench.pass(Duration::from_millis(2_999));
    assert_eq!(trunk_news(&mut bench), []);
    bench.pass(Duration::from_secs(40));
    assert_eq!(trunk_news(&mut bench), [TrunkState::Unreachable]);
    assert!(!takes_calls(&bench));
    let asked_again = bench.pass(Duration::from_secs(25));
    assert_eq!(trunk_news(&mut bench), []);
    let (_, last) = asked_again.last().unwrap().clone();
    answer(&mut bench, &last, "200 OK", "");
    assert!(matches!(
        trunk_news(&mut bench).as_slice(),
        [TrunkState::Reachable { .. }]
    ));
    assert!(takes_calls(&bench));
    bench.pass(Duration::from_secs(100));
    assert_eq!(trunk_news(&mut bench), [TrunkState::Unreachable]);
}

#[test]
fn that_another_address_of_a_trunk_is_silent_too_is_told_and_the_same_one_only_once() {
    let mut bench = asked(60);
    bench.pass(Duration::from_secs(4));
    assert_eq!(trunk_news(&mut bench), [TrunkState::Unreachable]);
    let mut reached = |peer: &str| {
        let (now, local) = (bench.now, "198.51.100.9:5060");
        bench
            .endpoint
            .trunk_reached(now, TrunkId(0), udp(peer), local);
        assert!(!takes_calls(&bench), "nothing speaks for it yet");
        bench.pass(Duration::from_secs(4));
        trunk_news(&mut bench)
    };
    assert_eq!(reached(REGISTRAR), []);
    assert_eq!(reached("192.0.2.51:5060"), [TrunkState::Unreachable]);
    assert_eq!(reached("192.0.2.51:5060"), []);
    assert_eq!(reached(REGISTRAR), [TrunkState::Unreachable]);
}

#[test]
fn who_is_asked_more_often_than_that_has_3_s_too() {
    let mut bench = asked(1);
    let sent = bench.pass(Duration::from_millis(2_999));
    assert_eq!(trunk_news(&mut bench), []);
    bench.pass(Duration::from_millis(1));
    assert_eq!(trunk_news(&mut bench), [TrunkState::Unreachable]);
    bench.pass(Duration::from_secs(20));
    assert_eq!(trunk_news(&mut bench), []);
    // A late answer to any of them is one.
    answer(&mut bench, &sent[0].1, "200 OK", "");
    assert!(matches!(
        trunk_news(&mut bench).as_slice(),
        [TrunkState::Reachable { .. }]
    ));
}

fn over(last: u8) -> Flow {
    Flow::Stream {
        connection: ConnectionId(u64::from(last)),
        peer: std::net::SocketAddr::from(([192, 0, 2, last], 5060)),
        over: StreamTransport::Tcp,
    }
}

#[test]
fn calls_from_everywhere_that_the_registrar_s_name_leads_to_are_the_trunk_s() {
    let mut bench = with_trunk(false);
    reach(&mut bench);
    bench.events();
    let other = "192.0.2.70:9999";
    assert_eq!(invite_from(&mut bench, other, "1").trunk, None);
    let addresses = ["192.0.2.50", "192.0.2.70"].map(|ip| ip.parse().unwrap());
    bench.endpoint.trunk_located(TrunkId(0), &addresses);
    assert_eq!(invite_from(&mut bench, other, "2").trunk, Some(TrunkId(0)));
    bench.endpoint.trunk_located(TrunkId(0), &addresses[..1]);
    assert_eq!(invite_from(&mut bench, other, "3").trunk, None);
    // Of a trunk that is only called by nobody is believed.
    let mut bench = asked(60);
    bench.endpoint.trunk_located(TrunkId(0), &addresses);
    assert_eq!(invite_from(&mut bench, other, "1").trunk, None);
}

#[test]
fn another_server_is_told_of_us_at_once_and_what_the_one_before_does_counts_no_more() {
    let mut bench = with_trunk(false);
    let (now, local) = (bench.now, "198.51.100.9:5060");
    let sent = reach(&mut bench);
    assert_eq!(statuses(&sent), ["REGISTER"]);
    bench.pass(Duration::from_secs(20));
    let here = bench.now;
    bench
        .endpoint
        .trunk_reached(here, TrunkId(0), udp("192.0.2.51:5060"), local);
    bench.endpoint.handle_timeout(here);
    assert_eq!(statuses(&bench.sent()), ["REGISTER"]);
    // The first one's time is up, the second one's isn't.
    let until = now + Duration::from_secs(40);
    bench.pass(until - here);
    assert_eq!(trunk_news(&mut bench), []);
    bench.pass(Duration::from_secs(20));
    let refused = TrunkState::Refused(Refused::Status(408));
    assert_eq!(trunk_news(&mut bench), [refused]);
    // Who is refused for his password isn't let in by another door.
    let here = bench.now;
    bench
        .endpoint
        .trunk_reached(here, TrunkId(0), udp(REGISTRAR), local);
    bench.endpoint.handle_timeout(here);
    let sent = bench.sent();
    let again = answer(&mut bench, &sent[0], "401 Unauthorized", CHALLENGE);
    answer(&mut bench, &again[0], "401 Unauthorized", CHALLENGE);
    bench.events();
    let here = bench.now;
    bench
        .endpoint
        .trunk_reached(here, TrunkId(0), udp("192.0.2.51:5060"), local);
    bench.endpoint.handle_timeout(here);
    assert_eq!(statuses(&bench.sent()), [""; 0]);
}

#[test]
fn a_connection_to_another_server_is_left_to_the_calls_that_it_has() {
    let mut bench = with_trunk(false);
    let (now, local) = (bench.now, "198.51.100.9:5060");
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), over(50), local);
    bench
        .endpoint
        .trunk_reached(now, TrunkId(0), over(51), local);
    assert_eq!(bench.endpoint.poll_close(), Some(ConnectionId(50)));
}

#[test]
fn what_the_network_says_of_a_number_is_told_of_trusted_trunks_only() {
    use crate::booking::Verstat::{Failed, NotValidated, Passed};
    let asserted = |value: &str| format!("P-Asserted-Identity: {value}\r\n");
    for (headers, expected) in [
        (
            asserted("<tel:+39055111;verstat=TN-Validation-Passed>"),
            Some(Passed),
        ),
        (
            asserted("<sip:+39055111;verstat=TN-Validation-Failed@x;user=phone>"),
            Some(Failed),
        ),
        (
            asserted("<sip:+39055111@x;verstat=no-tn-validation>"),
            Some(NotValidated),
        ),
        (
            asserted("<sip:+39055111@x>;verstat=TN-Validation-Passed"),
            Some(Passed),
        ),
        (
            asserted("\";verstat=TN-Validation-Passed\" <sip:1@x>"),
            None,
        ),
        (asserted("<tel:+39055111;verstat=perhaps>"), None),
        (String::new(), None),
    ] {
        for trusted in [true, false] {
            let mut bench = with_trunk(trusted);
            let told = invite_saying(&mut bench, "192.0.2.61:5060", "+39069999", &headers);
            assert_eq!(told.verstat, expected.filter(|_| trusted), "{headers}");
        }
    }
}
