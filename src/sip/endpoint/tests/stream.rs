//! Calls over TCP.

use super::*;

fn over_tcp(text: &str) -> String {
    text.replace("SIP/2.0/UDP", "SIP/2.0/TCP")
}

#[test]
fn a_bad_message_costs_neither_the_connection_nor_its_other_calls() {
    let mut bench = Bench::new();
    let bad = over_tcp(&invite())
        .replace("CSeq: 1 INVITE", "CSeq: x")
        .replace("z9hG4bKinv", "z9hG4bKbad");
    let stream = format!("{bad}{}", over_tcp(&invite()));
    let sent = bench.tcp(stream.as_bytes());
    assert_eq!(statuses(&sent), ["400", "100"]);
    assert_eq!(bench.endpoint.poll_close(), None);
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let ok = bench.sent();
    assert_eq!(
        header(&ok[0], "Contact"),
        Some("<sip:198.51.100.1:5060;transport=tcp>")
    );
    bench.tcp(over_tcp(&within("ACK", 1, &to_tag(&ok[0]), "z9hG4bKack")).as_bytes());
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn a_call_over_tls_is_told_where_to_come_back_over_tls() {
    let mut bench = Bench::new();
    let over = StreamTransport::Tls;
    let flow = Flow::Stream {
        connection: TCP,
        peer: PEER.parse().unwrap(),
        over,
    };
    let secure = invite()
        .replace("SIP/2.0/UDP", "SIP/2.0/TLS")
        .replace("INVITE sip:", "INVITE sips:");
    bench
        .endpoint
        .handle_stream(bench.now, flow, secure.as_bytes());
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.sent();
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let ok = bench.sent();
    assert_eq!(
        header(&ok[0], "Contact"),
        Some("<sips:sip.example.org:5061;transport=tls>")
    );
    let ack = within("ACK", 1, &to_tag(&ok[0]), "z9hG4bKack");
    let ack = ack.replace("SIP/2.0/UDP", "SIP/2.0/TLS");
    bench
        .endpoint
        .handle_stream(bench.now, flow, ack.as_bytes());
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let bye = bench.sent();
    assert!(bye[0].starts_with("BYE "), "{bye:?}");
    assert!(header(&bye[0], "Via").is_some_and(|via| via.starts_with("SIP/2.0/TLS ")));
}

#[test]
fn keep_alives_are_answered_and_messages_may_come_in_any_pieces() {
    let mut bench = Bench::new();
    assert_eq!(bench.tcp(b"\r\n\r\n"), ["\r\n"]);
    let text = over_tcp(&invite());
    for byte in text.as_bytes().chunks(1) {
        bench.tcp(byte);
    }
    let events = bench.events();
    let [SipEvent::Invite { invite, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(invite.sdp.as_deref(), Some(&b"v=0\r\noffer"[..]));
}

#[test]
fn only_what_has_no_end_closes_the_connection() {
    for length in [
        "",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 1\r\nl: 2\r\n",
    ] {
        let mut bench = Bench::new();
        let text = over_tcp(&invite()).replace("Content-Length: 10\r\n", length);
        assert_eq!(statuses(&bench.tcp(text.as_bytes())), ["400"], "{length}");
        assert_eq!(bench.endpoint.poll_close(), Some(TCP));
        assert!(bench.tcp(over_tcp(&invite()).as_bytes()).is_empty());
        assert!(bench.events().is_empty());
    }
    let mut bench = Bench::new();
    assert!(bench.tcp(&[b'x'; 20_000]).is_empty());
    assert_eq!(bench.endpoint.poll_close(), Some(TCP));
    let mut bench = Bench::new();
    assert!(
        bench
            .tcp(b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
            .is_empty()
    );
    assert_eq!(bench.endpoint.poll_close(), Some(TCP));
}

#[test]
fn a_message_that_never_ends_closes_the_connection_after_ten_seconds() {
    let mut bench = Bench::new();
    bench.tcp(b"INVITE sip:100@198");
    bench.pass(Duration::from_millis(9_900));
    assert_eq!(bench.endpoint.poll_close(), None);
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.endpoint.poll_close(), Some(TCP));
    bench.endpoint.handle_closed(bench.now, TCP);
    bench.assert_empty_after(LONG);
}

#[test]
fn a_call_in_progress_outlives_its_connection_and_goes_on_over_the_next() {
    let mut bench = Bench::new();
    bench.tcp(over_tcp(&invite()).as_bytes());
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let tag = to_tag(&bench.sent()[0]);
    bench.tcp(over_tcp(&within("ACK", 1, &tag, "z9hG4bKack")).as_bytes());
    bench.events();
    bench.endpoint.handle_closed(bench.now, TCP);
    assert!(bench.events().is_empty());
    let next = another_connection();
    let info = over_tcp(&within("INFO", 2, &tag, "z9hG4bKi"));
    bench
        .endpoint
        .handle_stream(bench.now, next, info.as_bytes());
    assert_eq!(statuses(&bench.sent()), ["200"]);
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let bye = bench.endpoint.poll_transmit().unwrap();
    assert_eq!((bye.flow, &bye.bytes[..3]), (next, &b"BYE"[..]));
    bench.assert_empty_after(LONG);
}

fn another_connection() -> Flow {
    Flow::Stream {
        connection: ConnectionId(9),
        peer: PEER.parse().unwrap(),
        over: StreamTransport::Tcp,
    }
}

#[test]
fn without_a_connection_no_call_ends_for_want_of_our_sign_of_life() {
    let mut bench = Bench::with(|config| config.session_interval = Some(600));
    bench.tcp(over_tcp(&invite()).as_bytes());
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    let sdp = Bytes::from_static(b"v=0\r\nanswer");
    bench.endpoint.answer(bench.now, dialog, sdp);
    let ok = bench.sent().remove(0);
    assert_eq!(header(&ok, "Session-Expires"), Some("600;refresher=uas"));
    let tag = to_tag(&ok);
    bench.tcp(over_tcp(&within("ACK", 1, &tag, "z9hG4bKack")).as_bytes());
    bench.events();
    bench.endpoint.handle_closed(bench.now, TCP);
    let sent = bench.pass(Duration::from_secs(2_000));
    assert!(sent.is_empty(), "{sent:?}");
    assert!(bench.events().is_empty());
    // Once he is back he is asked again.
    let next = another_connection();
    let info = over_tcp(&within("INFO", 2, &tag, "z9hG4bKi"));
    let now = bench.now;
    bench.endpoint.handle_stream(now, next, info.as_bytes());
    assert_eq!(statuses(&bench.sent()), ["200"]);
    let sent = bench.pass(Duration::from_secs(101));
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].1.starts_with("INVITE sip:alice@"), "{sent:?}");
    bench.endpoint.hang_up(bench.now, dialog, 16);
    bench.assert_empty_after(LONG);
}

#[test]
fn without_a_connection_hanging_up_is_silent() {
    let mut bench = Bench::new();
    bench.tcp(over_tcp(&invite()).as_bytes());
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let tag = to_tag(&bench.sent()[0]);
    bench.tcp(over_tcp(&within("ACK", 1, &tag, "z9hG4bKack")).as_bytes());
    bench.endpoint.handle_closed(bench.now, TCP);
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert!(bench.sent().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn a_call_that_rings_is_lost_with_its_connection() {
    let mut bench = Bench::new();
    bench.tcp(over_tcp(&invite()).as_bytes());
    bench.events();
    bench.endpoint.handle_closed(bench.now, TCP);
    assert!(matches!(bench.events().as_slice(), [SipEvent::Lost { .. }]));
    bench.assert_empty_after(LONG);
}
