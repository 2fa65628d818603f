//! What the called side asks while an INVITE of ours rings there.

use super::by_trunk::with_line;
use super::calling::response;
use super::*;

/// A request of the branch of that tag, in the dialog of our INVITE.
fn asked(invite: &str, method: &str, cseq: u32, tag: &str) -> String {
    let from = header(invite, "From").unwrap();
    let own_tag = from.rsplit_once(";tag=").unwrap().1;
    let call_id = header(invite, "Call-ID").unwrap();
    format!(
        "{method} sip:198.51.100.1:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{method}{cseq}{tag}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:100@192.0.2.7>;tag={tag}\r\n\
         To: <sip:probe@198.51.100.1>;tag={own_tag}\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:room@192.0.2.7:5070>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn with_sdp(request: &str) -> String {
    with_body(request, "application/sdp", "v=0\r\nearly")
}

#[test]
fn what_the_called_side_asks_while_it_rings_does_not_end_the_call() {
    let mut bench = Bench::new();
    let (_, invite) = bench.dial();
    bench.udp(&response(&invite, 183, "pt"));
    bench.events();
    for (cseq, method, expected) in [
        (1, "UPDATE", &["200"][..]),
        (2, "OPTIONS", &["200"]),
        (3, "INFO", &["200"]),
        (4, "REFER", &["603"]),
        (5, "INVITE", &["100", "491"]),
        (6, "PRACK", &["481"]),
        (7, "BYE", &["481"]),
    ] {
        let sent = bench.udp(&asked(&invite, method, cseq, "pt"));
        assert_eq!(statuses(&sent), expected, "{method}");
    }
    let keys = with_body(&asked(&invite, "INFO", 8, "pt"), "text/plain", "1");
    assert_eq!(statuses(&bench.udp(&keys)), ["200"]);
    assert!(bench.events().is_empty(), "there is no call yet");
    let ack = bench.udp(&response(&invite, 200, "pt"));
    assert_eq!(statuses(&ack), ["ACK"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Established { .. }]
    ));
    // Its requests are counted on.
    for (cseq, expected) in [(8, "500"), (9, "200")] {
        let sent = bench.udp(&asked(&invite, "OPTIONS", cseq, "pt"));
        assert_eq!(statuses(&sent), [expected]);
    }
}

#[test]
fn a_refresh_while_it_rings_is_answered_and_starts_no_session_timer() {
    let mut bench = Bench::with(|config| config.session_interval = Some(90));
    let (_, invite) = bench.dial();
    bench.udp(&response(&invite, 180, "pt"));
    let lines = "Supported: timer\r\nSession-Expires: 90;refresher=uas";
    let update = with_line(&asked(&invite, "UPDATE", 1, "pt"), lines);
    let sent = bench.udp(&update);
    assert_eq!(statuses(&sent), ["200"]);
    assert_eq!(header(&sent[0], "Contact"), Some("<sip:198.51.100.1:5060>"));
    assert_eq!(header(&sent[0], "Session-Expires"), None);
    assert!(bench.pass(Duration::from_secs(150)).is_empty());
}

#[test]
fn an_offer_while_it_rings_is_for_later() {
    let mut bench = Bench::new();
    let (_, invite) = bench.dial();
    bench.udp(&response(&invite, 183, "pt"));
    // Ours isn't answered yet: what comes unreliably is no answer.
    let update = with_sdp(&asked(&invite, "UPDATE", 1, "pt"));
    let sent = bench.udp(&update);
    assert_eq!(statuses(&sent), ["491"]);
    let answer = with_line(&response(&invite, 183, "pt"), "Require: 100rel\r\nRSeq: 10");
    assert_eq!(statuses(&bench.udp(&answer)), ["PRACK"]);
    let update = with_sdp(&asked(&invite, "UPDATE", 2, "pt"));
    let sent = bench.udp(&update);
    assert_eq!(statuses(&sent), ["500"]);
    let seconds: u32 = header(&sent[0], "Retry-After").unwrap().parse().unwrap();
    assert!(seconds <= 10, "{seconds}");
    bench.events();
    let ack = bench.udp(&response(&invite, 200, "pt"));
    assert_eq!(statuses(&ack), ["ACK"]);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn each_branch_that_rings_counts_for_itself_and_who_does_not_ring_is_unknown() {
    let mut bench = Bench::new();
    let (_, invite) = bench.dial();
    bench.udp(&response(&invite, 180, "pt"));
    bench.udp(&response(&invite, 180, "other"));
    for (cseq, tag, expected) in [
        (7, "pt", "200"),
        (3, "other", "200"),
        (6, "pt", "500"),
        (4, "other", "200"),
        (1, "nobody", "481"),
    ] {
        let sent = bench.udp(&asked(&invite, "UPDATE", cseq, tag));
        assert_eq!(statuses(&sent), [expected], "{cseq} {tag}");
    }
    assert_eq!(statuses(&bench.udp(&response(&invite, 200, "pt"))), ["ACK"]);
    // The other branch's dialog isn't the call's.
    let sent = bench.udp(&asked(&invite, "UPDATE", 5, "other"));
    assert_eq!(statuses(&sent), ["481"]);
}
