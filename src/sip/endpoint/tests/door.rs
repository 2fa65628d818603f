//! What is refused at the door, and how.

use super::*;

/// The answer to one changed INVITE.
fn answer_to(from: &str, to: &str) -> Vec<String> {
    let mut bench = Bench::new();
    let text = invite();
    assert!(text.contains(from), "{from}");
    let sent = bench.udp(&text.replace(from, to));
    assert!(bench.events().is_empty(), "{to}");
    assert_eq!(bench.endpoint.counters().transactions, 0);
    sent
}

#[test]
fn bad_requests_get_the_right_status() {
    for (from, to, status) in [
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", "505"),
        ("CSeq: 1 INVITE", "CSeq: 1 BYE", "400"),
        ("CSeq: 1 INVITE", "CSeq: one INVITE", "400"),
        ("CSeq: 1 INVITE", "CSeq: 4294967296 INVITE", "400"),
        ("Call-ID: call1@192.0.2.7\r\n", "", "400"),
        ("To: <sip:100@198.51.100.1>\r\n", "", "400"),
        (
            "From: \"Alice\" <sip:alice",
            "From: \"Alice <sip:alice",
            "400",
        ),
        ("Contact: <sip:alice@192.0.2.7:5060>\r\n", "", "400"),
        ("Contact: <sip:alice@192.0.2.7:5060>", "Contact: *", "400"),
        ("Max-Forwards: 70", "Max-Forwards: 300", "400"),
        ("Content-Length: 10", "Content-Length: 11", "400"),
        (
            "Content-Length: 10",
            "Content-Length: 10\r\nContent-Length: 10",
            "400",
        ),
        ("Content-Length: 10", "Content-Length: 10\r\nl: 9", "400"),
        (
            "Content-Length: 10",
            "Content-Length: 18446744073709551615",
            "400",
        ),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 70\r\nno colon here",
            "400",
        ),
        (
            "INVITE sip:100@198.51.100.1 ",
            "INVITE  sip:100@198.51.100.1 ",
            "400",
        ),
        (
            "INVITE sip:100@198.51.100.1 ",
            "INVITE <sip:100@198.51.100.1> ",
            "400",
        ),
        (
            "INVITE sip:100@198.51.100.1 ",
            "INVITE http://198.51.100.1/ ",
            "416",
        ),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 70\r\nRequire: foobar, timer, 100rel",
            "420",
        ),
        ("application/sdp", "application/isup", "415"),
        (
            "application/sdp",
            "application/sdp\r\nContent-Encoding: gzip",
            "415",
        ),
    ] {
        assert_eq!(statuses(&answer_to(from, to)), [status], "{to}");
    }
}

#[test]
fn refusals_say_what_would_be_taken() {
    let sent = answer_to(
        "Max-Forwards: 70",
        "Max-Forwards: 70\r\nRequire: foobar, timer, 100rel",
    );
    assert_eq!(header(&sent[0], "Unsupported"), Some("foobar"));
    let sent = answer_to("application/sdp", "application/isup");
    assert_eq!(header(&sent[0], "Accept"), Some("application/sdp"));
}

#[test]
fn unwanted_methods_are_405_and_unknown_ones_501_with_allow() {
    for (method, status) in [
        ("REGISTER", "405"),
        ("SUBSCRIBE", "405"),
        ("NOTIFY", "405"),
        ("MESSAGE", "405"),
        ("PUBLISH", "405"),
        ("REFER", "405"),
        ("FOO", "501"),
        ("invite", "501"),
        ("!NV", "501"),
    ] {
        let mut bench = Bench::new();
        let sent = bench.udp(&invite().replace("INVITE", method));
        assert_eq!(statuses(&sent), [status], "{method}");
        assert_eq!(
            header(&sent[0], "Allow"),
            Some("INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK")
        );
        assert_eq!(
            header(&sent[0], "CSeq"),
            Some(format!("1 {method}").as_str())
        );
        assert_eq!(sent[0].matches(";tag=").count(), 2);
    }
}

#[test]
fn requests_without_their_call_are_481() {
    for method in ["BYE", "INFO", "UPDATE", "CANCEL", "PRACK"] {
        let mut bench = Bench::new();
        assert_eq!(
            statuses(&bench.udp(&invite().replace("INVITE", method))),
            ["481"],
            "{method}"
        );
        assert_eq!(
            statuses(&bench.udp(&within(method, 5, "unknown", "z9hG4bKx"))),
            ["481"],
            "{method}"
        );
    }
}

#[test]
fn nothing_is_answered_to_acks_responses_and_garbage() {
    let mut bench = Bench::new();
    let ack = invite().replace("INVITE", "ACK");
    let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n";
    let without_via = invite().replace("Via:", "X:");
    for text in [
        &ack,
        response,
        &without_via,
        "",
        "\r\n\r\n",
        "\0\0",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "SIP/2.0 99 x\r\n\r\n",
    ] {
        assert!(bench.udp(text).is_empty(), "{text}");
    }
    assert!(bench.udp(&ack.replace("CSeq: 1", "CSeq: x")).is_empty());
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.counters().refused["stray response"], 1);
}

#[test]
fn options_say_what_we_can_and_pings_notice_a_drain() {
    let mut bench = Bench::new();
    // As a proxy pings, with the extras that all of them send.
    let options = invite()
        .replace("INVITE", "OPTIONS")
        .replace("Content-Type: application/sdp\r\nContent-Length: 10\r\n\r\nv=0\r\noffer", "User-Agent: a proxy with a name\r\nAccept: application/sdp, text/plain\r\nSupported: path, timer\r\nContent-Length: 0\r\n\r\n");
    let sent = bench.udp(&options);
    assert_eq!(statuses(&sent), ["200"]);
    assert_eq!(
        header(&sent[0], "Allow"),
        Some("INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK")
    );
    assert_eq!(header(&sent[0], "Accept"), Some("application/sdp"));
    assert_eq!(header(&sent[0], "Supported"), Some("timer, 100rel"));
    bench.endpoint.set_accepting(false);
    let sent = bench.udp(&options);
    assert_eq!(
        (statuses(&sent), header(&sent[0], "Retry-After")),
        (vec!["503".to_owned()], Some("10"))
    );
}

#[test]
fn max_forwards_zero_has_arrived_and_is_served() {
    // RFC 4475 section 3.3.11: only a proxy refuses it.
    let mut bench = Bench::new();
    assert_eq!(
        statuses(&bench.udp(&invite().replace("Max-Forwards: 70", "Max-Forwards: 0"))),
        ["100"]
    );
}

#[test]
fn a_second_way_to_us_is_a_loop() {
    let mut bench = Bench::new();
    bench.ring();
    assert_eq!(
        statuses(&bench.udp(&invite().replace("z9hG4bKinv", "z9hG4bKother"))),
        ["482"]
    );
    assert!(bench.events().is_empty());
}

#[test]
fn odd_but_valid_messages_are_calls() {
    for (from, to) in [
        ("From: \"Alice\"", "f: \"x <sip:ceo@bank.example>\""),
        ("From: \"Alice\"", "From: \"Jos\u{e9} \\\" \u{1}\""),
        ("Call-ID: ", "i : "),
        (
            "Contact: <sip:alice@192.0.2.7:5060>",
            "m:\r\n <sip:alice@192.0.2.7:5060>\r\n\t;expires=60",
        ),
        ("Content-Length: 10\r\n", ""),
        ("application/sdp", "Application/SDP;charset=utf-8"),
        ("Content-Type: application/sdp\r\n", ""),
    ] {
        let mut bench = Bench::new();
        assert_eq!(
            statuses(&bench.udp(&invite().replace(from, to))),
            ["100"],
            "{to}"
        );
        let events = bench.events();
        let [SipEvent::Invite { invite, .. }] = events.as_slice() else {
            panic!("{to}: {events:?}")
        };
        assert_eq!(invite.caller.expose(), "alice", "{to}");
        assert_eq!(invite.sdp.as_deref(), Some(&b"v=0\r\noffer"[..]), "{to}");
    }
}

#[test]
fn invalid_utf_8_costs_nothing() {
    let mut bench = Bench::new();
    let bytes = invite().into_bytes();
    let at = bytes.windows(5).position(|w| w == b"Alice").unwrap();
    let bytes = [&bytes[..at], b"Jos\xe9", &bytes[at + 5..]].concat();
    bench.endpoint.handle_datagram(bench.now, udp(PEER), &bytes);
    assert_eq!(statuses(&bench.sent()), ["100"]);
    assert_eq!(bench.events().len(), 1);
}

#[test]
fn too_much_of_anything_is_refused_and_the_next_call_is_taken() {
    let mut bench = Bench::new();
    let many = invite().replace(
        "Max-Forwards: 70\r\n",
        &format!("Max-Forwards: 70\r\n{}", "X: y\r\n".repeat(200)),
    );
    let many = many.replace("X: y\r\nFrom", "From");
    assert_eq!(statuses(&bench.udp(&many)), ["400"]);
    let long = invite().replace(
        "Content-Length: 10\r\n\r\nv=0\r\noffer",
        &format!("X: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(9000)),
    );
    assert_eq!(statuses(&bench.udp(&long)), ["513"]);
    assert!(bench.events().is_empty());
    bench.ring();
}

#[test]
fn an_answer_to_a_stranger_is_never_longer_than_the_request() {
    let tiny = "BYE sip:x SIP/2.0\r\nv:SIP/2.0/UDP h;rport;branch=z9hG4bKt\r\nf:<sip:a@b>;tag=1\r\nt:<sip:c@d>\r\ni:1\r\nCSeq:1 BYE\r\n\r\n";
    let stranger = || Bench::of_a_stranger(|_| {});
    let mut bench = stranger();
    assert!(bench.udp(tiny).is_empty());
    assert_eq!(bench.endpoint.counters().refused["more than came"], 1);
    assert_eq!(statuses(&Bench::new().udp(tiny)), ["481"]);
    for method in ["OPTIONS", "REGISTER", "BYE", "FOO", "SUBSCRIBE"] {
        for extra in ["", "X: some more bytes\r\n", "Require: a, b, c\r\n"] {
            let text = tiny
                .replace("BYE", method)
                .replace("i:1\r\n", &format!("i:1\r\n{extra}"));
            let sent = stranger().udp(&text);
            let sent: usize = sent.iter().map(String::len).sum();
            assert!(
                sent <= text.len(),
                "{sent} bytes for {}: {text}",
                text.len()
            );
        }
    }
    // A flood of one refused request gets one answer each, and nothing by itself.
    let unwanted = invite().replace("INVITE", "MESSAGE");
    for _ in 0..50 {
        let sent = bench.udp(&unwanted);
        assert!(sent.len() == 1 && sent[0].len() <= unwanted.len());
    }
    assert!(bench.pass(LONG).is_empty());
}

#[test]
fn a_source_has_its_share_of_new_calls_and_a_trusted_one_has_no_limit() {
    let flood = |bench: &mut Bench, count: u32| {
        let mut taken = 0;
        for call in 0..count {
            let text = invite()
                .replace("z9hG4bKinv", &format!("z9hG4bK{call}"))
                .replace("call1@", &format!("{call}@"));
            let sent = bench.udp(&text);
            match sent.first() {
                Some(refusal) if refusal.starts_with("SIP/2.0 503") => {
                    assert_eq!(header(refusal, "Retry-After"), Some("10"));
                }
                Some(_) | None => taken += 1,
            }
        }
        taken
    };
    let small = |config: &mut EndpointConfig| {
        config.limits.source_invites_burst = 5.0;
        config.limits.source_invites_per_second = 1.0;
    };
    let mut bench = Bench::of_a_stranger(small);
    assert_eq!(flood(&mut bench, 50), 5);
    assert_eq!(bench.endpoint.counters().refused["source rate"], 45);
    let mut bench = Bench::with(small);
    assert_eq!(flood(&mut bench, 50), 50);
    let mut bench = Bench::with(|config| config.limits.dialogs = 7);
    assert_eq!(flood(&mut bench, 50), 7);
    let mut bench = Bench::with(|config| config.limits.transactions = 8);
    assert_eq!(flood(&mut bench, 50), 8);
}

#[test]
fn a_full_or_draining_endpoint_still_serves_the_calls_it_has() {
    let mut bench = Bench::with(|config| config.limits.dialogs = 1);
    let (dialog, tag) = bench.call();
    bench.endpoint.set_accepting(false);
    let other = invite()
        .replace("z9hG4bKinv", "z9hG4bKnew")
        .replace("call1@", "call2@");
    assert_eq!(statuses(&bench.udp(&other)), ["503"]);
    bench.udp(&within("INVITE", 2, &tag, "z9hG4bKre"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Reinvite { .. }]
    ));
    bench
        .endpoint
        .answer_reinvite(bench.now, dialog, Bytes::new());
    assert_eq!(statuses(&bench.sent()), ["200"]);
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 3, &tag, "z9hG4bKbye"))),
        ["200"]
    );
}

#[test]
fn a_message_with_every_allowed_oddity_is_understood() {
    let text = "INVITE sip:100@198.51.100.1;unknown SIP/2.0\r\nTO :\r\n sip:100@198.51.100.1\r\n\
        from   : \"J \\\\\\\"\"       <sip:alice@192.0.2.7>\r\n  ;\r\n  tag = af\r\nMaX-fOrWaRdS: 0068\r\n\
        call-id: odd\r\ncseq: 0001\r\n  INVITE\r\nVia  : SIP  /   2.0\r\n /udp\r\n    192.0.2.7;branch=oldstyle\r\n\
        s :\r\nUnusual: ;;,,;;,;\r\nv:  SIP  / 2.0  / TCP     p.example   ;\r\n  branch  =   z9hG4bKx  ,\r\n\
        \x20SIP  /    2.0   / UNKNOWN  q.example\r\nm:\"Quoted \\\"<\\\"\" <sip:alice@192.0.2.7> ; new =\r\n  value ; q = 0.33\r\n\
        Content-Type: application/sdp\r\nContent-Length   : 0010\r\n\r\nv=0\r\noffer";
    let mut bench = Bench::new();
    let sent = bench.udp(text);
    assert_eq!(statuses(&sent), ["100"]);
    assert_eq!(
        header(&sent[0], "Via"),
        Some("SIP  /   2.0 /udp 192.0.2.7;branch=oldstyle")
    );
    let events = bench.events();
    let [SipEvent::Invite { dialog, invite }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (invite.number.as_str(), invite.caller.expose()),
        ("100", "alice")
    );
    // RFC 2543 branches: the duplicate is still found.
    assert_eq!(statuses(&bench.udp(text)), ["100"]);
    assert!(bench.events().is_empty());
    bench.endpoint.answer(bench.now, *dialog, Bytes::new());
    let tag = to_tag(&bench.sent()[0]);
    let ack = within("ACK", 1, &tag, "oldstyle").replace("call1@192.0.2.7", "odd");
    assert!(bench.udp(&ack).is_empty());
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Acknowledged { .. }]
    ));
}

#[test]
fn the_smallest_proper_request_is_answered_and_one_of_this_host_in_any_case() {
    let small = "OPTIONS sip:1000@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.77:5060;rport;branch=z9hG4bKl\r\n\
        Max-Forwards: 70\r\nFrom: <sip:a@192.0.2.77>;tag=1\r\nTo: <sip:1000@192.0.2.1>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n";
    let mut bench = Bench::of_a_stranger(|_| {});
    let sent = bench.udp(small);
    assert_eq!(statuses(&sent), ["200"]);
    assert_eq!(
        header(&sent[0], "v"),
        Some("SIP/2.0/UDP 192.0.2.77:5060;branch=z9hG4bKl;received=192.0.2.7;rport=5060")
    );
    assert!(sent[0].ends_with("\r\nl: 0\r\n\r\n") && sent[0].len() <= small.len());
    let bytes = small.replace("Max-Forwards: 70\r\n", "");
    assert!(bench.udp(&bytes).is_empty());
    bench
        .endpoint
        .handle_datagram(bench.now, udp("127.0.0.1:9"), bytes.as_bytes());
    let sent = bench.sent();
    assert_eq!(
        (statuses(&sent), header(&sent[0], "Accept")),
        (vec!["200".to_owned()], Some("application/sdp"))
    );
}
