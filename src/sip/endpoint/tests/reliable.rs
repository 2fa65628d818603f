//! 100rel as the called side (RFC 3262).

use super::*;

/// An INVITE whose caller requires that a 180 arrives, and its 180.
fn ringing(bench: &mut Bench) -> (DialogId, String) {
    bench.udp(&required(&invite()));
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!("no INVITE was told")
    };
    bench.endpoint.ring(bench.now, dialog);
    let sent = bench.sent();
    assert_eq!(statuses(&sent), ["180"]);
    (dialog, sent[0].clone())
}

fn required(invite: &str) -> String {
    invite.replace("Content-Type", "Require: 100rel\r\nContent-Type")
}

fn prack(cseq: u32, tag: &str, rack: &str) -> String {
    within("PRACK", cseq, tag, &format!("z9hG4bKprack{cseq}"))
        .replace("Content-Length", &format!("RAck: {rack}\r\nContent-Length"))
}

#[test]
fn a_180_that_must_arrive_is_repeated_until_its_prack() {
    let mut bench = Bench::new();
    let (dialog, rings) = ringing(&mut bench);
    assert_eq!(header(&rings, "Require"), Some("100rel"));
    let rseq = header(&rings, "RSeq").unwrap().to_owned();
    let tag = to_tag(&rings);
    let times: Vec<u128> = bench
        .pass(Duration::from_secs(4))
        .into_iter()
        .map(|(at, again)| {
            assert_eq!(again, rings);
            at
        })
        .collect();
    assert_eq!(times, [500, 1500, 3500]);
    bench.endpoint.ring(bench.now, dialog);
    assert!(bench.sent().is_empty(), "one at a time");
    for (cseq, rack) in [
        (2, format!("{rseq} 2 INVITE")),
        (3, "4294967296 1 INVITE".to_owned()),
        (4, format!("{rseq} 1 UPDATE")),
        (5, String::new()),
    ] {
        let sent = bench.udp(&prack(cseq, &tag, &rack));
        assert_eq!(statuses(&sent), ["481"], "{rack}");
    }
    let fits = format!("{rseq} 1 INVITE");
    assert_eq!(statuses(&bench.udp(&prack(6, &tag, &fits))), ["200"]);
    assert!(bench.pass(Duration::from_secs(40)).is_empty());
    assert_eq!(statuses(&bench.udp(&prack(7, &tag, &fits))), ["481"]);
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0"));
    let ok = bench.sent();
    assert_eq!(statuses(&ok), ["200"]);
    assert!(bench.udp(&within("ACK", 1, &tag, "z9hG4bKack")).is_empty());
}

#[test]
fn the_final_answer_ends_the_repeating_and_a_late_prack_is_taken() {
    let mut bench = Bench::new();
    let (dialog, rings) = ringing(&mut bench);
    let (rseq, tag) = (header(&rings, "RSeq").unwrap().to_owned(), to_tag(&rings));
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0"));
    assert_eq!(statuses(&bench.sent()), ["200"]);
    bench.udp(&within("ACK", 1, &tag, "z9hG4bKack"));
    assert!(bench.pass(Duration::from_secs(40)).is_empty());
    let late = prack(2, &tag, &format!("{rseq} 1 INVITE"));
    assert_eq!(statuses(&bench.udp(&late)), ["200"]);
}

#[test]
fn without_a_prack_the_call_is_refused_and_nothing_is_left_of_it() {
    let mut bench = Bench::new();
    let (_, rings) = ringing(&mut bench);
    let sent: Vec<String> = bench.pass(LONG).into_iter().map(|(_, sent)| sent).collect();
    assert_eq!(sent.iter().filter(|sent| **sent == rings).count(), 6);
    assert!(statuses(&sent).contains(&"504".to_owned()));
    assert!(matches!(bench.events().as_slice(), [SipEvent::Lost { .. }]));
    bench.assert_empty_after(LONG);
}

#[test]
fn who_leaves_the_offer_to_us_is_not_told_that_it_rings() {
    let mut bench = Bench::new();
    let bare = invite()
        .replace("Content-Type: application/sdp\r\n", "Require: 100rel\r\n")
        .replace(
            "Content-Length: 10\r\n\r\nv=0\r\noffer",
            "Content-Length: 0\r\n\r\n",
        );
    bench.udp(&bare);
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!("no INVITE was told")
    };
    bench.endpoint.ring(bench.now, dialog);
    assert!(bench.sent().is_empty());
}

#[test]
fn who_only_supports_it_rings_as_ever() {
    let mut bench = Bench::new();
    bench.udp(&required(&invite()).replace("Require", "Supported"));
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!("no INVITE was told")
    };
    bench.endpoint.ring(bench.now, dialog);
    let sent = bench.sent();
    assert_eq!(header(&sent[0], "RSeq"), None);
    assert_eq!(header(&sent[0], "Require"), None);
    assert!(bench.pass(Duration::from_secs(10)).is_empty());
}
