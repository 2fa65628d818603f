//! Calls that go out.

use super::by_trunk::{OURS, challenge, with_line, without_body};
use super::*;

const SDP: &[u8] = b"v=0\r\nours";

impl Bench {
    /// Calls; the dialog and the INVITE on the wire.
    pub(super) fn dial(&mut self) -> (DialogId, String) {
        let headers = [("X-Conf-PIN", "48151623")];
        let sdp = Some(Bytes::from_static(SDP));
        let dialog = self
            .endpoint
            .invite(
                self.now,
                udp(PEER),
                "sip:100@192.0.2.7",
                "<sip:probe@198.51.100.1>",
                sdp,
                &headers,
            )
            .unwrap();
        let sent = self.sent();
        assert_eq!(statuses(&sent), ["INVITE"]);
        (dialog, sent[0].clone())
    }

    fn established(&mut self) -> (DialogId, String, String) {
        let (dialog, invite) = self.dial();
        let ack = self.udp(&response(&invite, 200, "pt"));
        assert!(matches!(
            self.events().as_slice(),
            [SipEvent::Established { .. }]
        ));
        (dialog, invite, ack[0].clone())
    }
}

/// A peer's response to a request of ours.
pub(super) fn response(request: &str, status: u16, tag: &str) -> String {
    let tag = if tag.is_empty() {
        String::new()
    } else {
        format!(";tag={tag}")
    };
    let to = header(request, "To")
        .unwrap()
        .split(";tag=")
        .next()
        .unwrap();
    format!(
        "SIP/2.0 {status} Whatever\r\nVia: {}\r\nFrom: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:room@192.0.2.7:5070>\r\nContent-Length: 8\r\n\r\nv=0\r\npt\n",
        header(request, "Via").unwrap(),
        header(request, "From").unwrap(),
        header(request, "Call-ID").unwrap(),
        header(request, "CSeq").unwrap(),
    )
}

#[test]
fn a_call_goes_out_rings_is_answered_and_ended() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.dial();
    assert!(invite.starts_with(
        "INVITE sip:100@192.0.2.7 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK"
    ));
    assert_eq!(header(&invite, "To"), Some("<sip:100@192.0.2.7>"));
    assert_eq!(header(&invite, "X-Conf-PIN"), Some("48151623"));
    assert!(invite.ends_with("Content-Length: 9\r\n\r\nv=0\r\nours"));
    assert!(bench.udp(&response(&invite, 100, "")).is_empty());
    assert!(bench.events().is_empty());
    bench.udp(&response(&invite, 180, "pt"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Provisional { status: 180, .. }]
    ));
    let ack = bench.udp(&response(&invite, 200, "pt"));
    assert_eq!(statuses(&ack), ["ACK"]);
    assert!(ack[0].starts_with("ACK sip:room@192.0.2.7:5070 SIP/2.0\r\n"));
    assert_eq!(header(&ack[0], "CSeq"), Some("1 ACK"));
    assert_eq!(header(&ack[0], "To"), Some("<sip:100@192.0.2.7>;tag=pt"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Established { .. }]
    ));
    // The 200 again: the same ACK again, no event.
    assert_eq!(bench.udp(&response(&invite, 200, "pt")), ack);
    assert!(bench.events().is_empty());
    bench.endpoint.info(
        bench.now,
        dialog,
        "application/dtmf-relay",
        Bytes::from_static(b"Signal=1"),
    );
    let info = bench.sent();
    assert_eq!(header(&info[0], "CSeq"), Some("2 INFO"));
    bench.udp(&response(&info[0], 200, "pt"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let bye = bench.sent();
    assert_eq!(header(&bye[0], "CSeq"), Some("3 BYE"));
    bench.udp(&response(&bye[0], 200, "pt"));
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn the_peer_may_end_a_call_of_ours() {
    let mut bench = Bench::new();
    let (_, invite, _) = bench.established();
    let own_tag = header(&invite, "From")
        .unwrap()
        .rsplit_once(";tag=")
        .unwrap()
        .1;
    let bye = format!(
        "BYE sip:198.51.100.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKpb\r\n\
         From: <sip:100@192.0.2.7>;tag=pt\r\nTo: <sip:probe@198.51.100.1>;tag={own_tag}\r\nCall-ID: {}\r\n\
         CSeq: 77 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        header(&invite, "Call-ID").unwrap()
    );
    assert_eq!(statuses(&bench.udp(&bye)), ["200"]);
    assert!(matches!(bench.events().as_slice(), [SipEvent::Bye { .. }]));
    bench.assert_empty_after(LONG);
}

#[test]
fn a_refusal_is_acknowledged_the_invites_way() {
    let mut bench = Bench::new();
    let (_, invite) = bench.dial();
    let ack = bench.udp(&response(&invite, 486, "pt"));
    assert_eq!(statuses(&ack), ["ACK"]);
    assert!(ack[0].starts_with("ACK sip:100@192.0.2.7 SIP/2.0\r\n"));
    assert_eq!(header(&ack[0], "Via"), header(&invite, "Via"));
    assert_eq!(header(&ack[0], "To"), Some("<sip:100@192.0.2.7>;tag=pt"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed { status: 486, .. }]
    ));
    assert_eq!(bench.udp(&response(&invite, 486, "pt")), ack);
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn nobody_there_is_408() {
    let mut bench = Bench::new();
    bench.dial();
    assert_eq!(bench.pass(Duration::from_secs(33)).len(), 6);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed { status: 408, .. }]
    ));
    bench.assert_empty_after(LONG);
}

#[test]
fn cancel_waits_for_a_provisional_answer() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.dial();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert!(bench.sent().is_empty());
    let cancel = bench.udp(&response(&invite, 180, "pt"));
    assert_eq!(statuses(&cancel), ["CANCEL"]);
    assert_eq!(header(&cancel[0], "Via"), header(&invite, "Via"));
    assert_eq!(header(&cancel[0], "CSeq"), Some("1 CANCEL"));
    bench.udp(&response(&cancel[0], 200, "pt"));
    assert_eq!(statuses(&bench.udp(&response(&invite, 487, "pt"))), ["ACK"]);
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn a_200_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.dial();
    bench.udp(&response(&invite, 180, "pt"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(statuses(&bench.sent()), ["CANCEL"]);
    assert_eq!(
        statuses(&bench.udp(&response(&invite, 200, "pt"))),
        ["ACK", "BYE"]
    );
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Provisional { .. }]
    ));
    bench.assert_empty_after(LONG);
}

#[test]
fn a_cancel_without_effect_is_forgotten_in_time() {
    let mut bench = Bench::new();
    let (dialog, invite) = bench.dial();
    bench.udp(&response(&invite, 180, "pt"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    bench.events();
    bench.assert_empty_after(LONG);
    assert!(bench.events().is_empty());
}

#[test]
fn ringing_for_ever_is_given_up() {
    let mut bench = Bench::new();
    let (_, invite) = bench.dial();
    bench.udp(&response(&invite, 180, "pt"));
    bench.events();
    let sent = bench.pass(Duration::from_secs(240));
    assert_eq!(statuses(&[sent[0].1.clone()]), ["CANCEL"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed { status: 408, .. }]
    ));
    bench.assert_empty_after(LONG);
}

#[test]
fn the_second_branch_of_a_fork_is_acknowledged_and_ended() {
    let mut bench = Bench::new();
    let (dialog, invite, _) = bench.established();
    let sent = bench.udp(&response(&invite, 200, "other"));
    assert_eq!(statuses(&sent), ["ACK", "BYE"]);
    assert!(
        sent.iter()
            .all(|message| header(message, "To") == Some("<sip:100@192.0.2.7>;tag=other"))
    );
    assert_eq!(
        statuses(&bench.udp(&response(&invite, 200, "other"))),
        ["ACK"]
    );
    assert!(bench.events().is_empty());
    bench.udp(&response(&sent[1], 200, "other"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(
        header(&bench.sent()[0], "To"),
        Some("<sip:100@192.0.2.7>;tag=pt")
    );
    bench.assert_empty_after(LONG);
}

#[test]
fn an_offer_that_meets_one_of_the_peer_comes_again_later() {
    let mut bench = Bench::new();
    let (dialog, ..) = bench.established();
    bench
        .endpoint
        .reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\nhold"));
    let first = bench.sent();
    assert_eq!(
        statuses(&bench.udp(&response(&first[0], 491, "pt"))),
        ["ACK"]
    );
    let again = bench.pass(Duration::from_secs(5));
    let (at, second) = again
        .iter()
        .find(|(_, message)| message.starts_with("INVITE"))
        .unwrap();
    assert!((2100..4000).contains(at), "{at}");
    assert_eq!(header(second, "CSeq"), Some("3 INVITE"));
    assert_eq!(statuses(&bench.udp(&response(second, 200, "pt"))), ["ACK"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Established { .. }]
    ));
    // Refused for good: told, and the call goes on; unknown to the peer: lost.
    bench
        .endpoint
        .reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\nhold"));
    let third = bench.sent();
    bench.udp(&response(&third[0], 488, "pt"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::ReinviteFailed { status: 488, .. }]
    ));
    bench
        .endpoint
        .reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\nhold"));
    let fourth = bench.sent();
    assert_eq!(
        statuses(&bench.udp(&response(&fourth[0], 481, "pt"))),
        ["ACK", "BYE"]
    );
    assert!(matches!(bench.events().as_slice(), [SipEvent::Lost { .. }]));
    bench.assert_empty_after(LONG);
}

#[test]
fn an_acknowledgement_says_the_credentials_of_its_invite_again() {
    let mut bench = Bench::registered();
    let (dialog, first) = bench.dial_by_trunk();
    let second = bench.hears_trunk(&challenge(&first, 407, OURS)).remove(1);
    let given = header(&second, "Proxy-Authorization");
    assert!(given.is_some(), "{second}");
    let ack = bench.hears_trunk(&response(&second, 200, "pt"));
    assert_eq!(statuses(&ack), ["ACK"]);
    assert_eq!(header(&ack[0], "Proxy-Authorization"), given);
    assert_eq!(header(&ack[0], "Authorization"), None);
    assert_eq!(bench.hears_trunk(&response(&second, 200, "pt")), ack);
    let other = bench.hears_trunk(&response(&second, 200, "other"));
    assert_eq!(statuses(&other), ["ACK", "BYE"]);
    assert_eq!(header(&other[0], "Proxy-Authorization"), given);
    assert_eq!(header(&other[1], "Proxy-Authorization"), None);
    // Within the call too, and whoever asks for none is given none.
    for asks in [true, false] {
        let sdp = Bytes::from_static(b"v=0\r\nhold");
        bench.endpoint.reinvite(bench.now, dialog, sdp);
        let mut invite = bench.sent().remove(0);
        if asks {
            invite = bench.hears_trunk(&challenge(&invite, 401, OURS)).remove(1);
        }
        let given = header(&invite, "Authorization");
        assert_eq!(given.is_some(), asks, "{invite}");
        let ack = bench.hears_trunk(&response(&invite, 200, "pt"));
        assert_eq!(statuses(&ack), ["ACK"]);
        assert_eq!(header(&ack[0], "Authorization"), given);
        assert_eq!(bench.hears_trunk(&response(&invite, 200, "pt")), ack);
    }
}

#[test]
fn a_session_is_asked_for_longer_than_it_was_asked_for_before() {
    let mut bench = Bench::registered();
    bench.endpoint.config.session_interval = Some(600);
    let (_, first) = bench.dial_by_trunk();
    assert_eq!(header(&first, "Session-Expires"), Some("600;refresher=uas"));
    let small =
        |request: &str| with_line(&without_body(&response(request, 422, "pt")), "Min-SE: 900");
    let sent = bench.hears_trunk(&small(&first));
    assert_eq!(statuses(&sent), ["ACK", "INVITE"]);
    assert_eq!(
        header(&sent[1], "Session-Expires"),
        Some("900;refresher=uas")
    );
    // So long it was asked for now.
    assert_eq!(statuses(&bench.hears_trunk(&small(&sent[1]))), ["ACK"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed { status: 422, .. }]
    ));
}

#[test]
fn what_one_called_party_s_server_can_t_keeps_no_other_call_from_the_trunk() {
    let mut bench = Bench::registered();
    let (_, invite) = bench.dial_by_trunk();
    let refusal = without_body(&response(&invite, 500, "pt"));
    bench.hears_trunk(&with_line(&refusal, "Retry-After: 30"));
    let events = bench.events();
    let [
        SipEvent::Failed {
            status: 500, pause, ..
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(*pause, Some(Duration::from_secs(30)));
    assert!(bench.endpoint.takes_calls(bench.now, TrunkId(0)));
}

#[test]
fn routes_are_followed_in_reverse_and_strict_ones_strictly() {
    for (route, uri, expected) in [
        (
            "<sip:p1;lr>, <sip:p2;lr>",
            "sip:room@192.0.2.7:5070",
            "Route: <sip:p2;lr>\r\nRoute: <sip:p1;lr>\r\n",
        ),
        (
            "<sip:p1;lr>, <sip:p2>",
            "sip:p2",
            "Route: <sip:p1;lr>\r\nRoute: <sip:room@192.0.2.7:5070>\r\n",
        ),
    ] {
        let mut bench = Bench::new();
        let (_, invite) = bench.dial();
        let ok = response(&invite, 200, "pt")
            .replace("Contact", &format!("Record-Route: {route}\r\nContact"));
        let ack = bench.udp(&ok);
        assert!(
            ack[0].starts_with(&format!("ACK {uri} SIP/2.0\r\n")),
            "{}",
            ack[0]
        );
        assert!(ack[0].contains(expected), "{}", ack[0]);
    }
}

#[test]
fn what_can_not_be_written_is_not_sent() {
    let mut bench = Bench::new();
    let now = bench.now;
    let mut dial = |target: &str, from: &str, headers: &[(&str, &str)]| {
        bench
            .endpoint
            .invite(now, udp(PEER), target, from, None, headers)
            .unwrap_err()
    };
    assert_eq!(
        dial("sip:a@b\r\nX: y", "<sip:a@b>", &[]),
        InviteError::Target
    );
    assert_eq!(dial("tel:100", "<sip:a@b>", &[]), InviteError::Target);
    assert_eq!(dial("sip:a@b", "nobody", &[]), InviteError::From);
    assert_eq!(
        dial("sip:a@b", "<sip:a@b>", &[("X", "a\r\nY: z")]),
        InviteError::Header
    );
    assert_eq!(
        dial("sip:a@b", "<sip:a@b>", &[("X Y", "a")]),
        InviteError::Header
    );
}

#[test]
fn a_lost_connection_fails_a_call_that_is_not_up() {
    let mut bench = Bench::new();
    bench
        .endpoint
        .invite(
            bench.now,
            tcp(),
            "sip:100@192.0.2.7",
            "<sip:p@198.51.100.1>",
            None,
            &[],
        )
        .unwrap();
    bench.endpoint.handle_closed(bench.now, TCP);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Failed { status: 503, .. }]
    ));
    bench.sent();
    bench.assert_empty_after(LONG);
}
