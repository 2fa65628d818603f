//! What happens within a call: offers, keys, refreshes.

use super::*;

#[test]
fn hold_and_resume_by_reinvite_are_told_and_answered() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.call();
    for cseq in [2, 3] {
        let branch = format!("z9hG4bKre{cseq}");
        let reinvite = with_body(
            &within("INVITE", cseq, &tag, &branch),
            "application/sdp",
            "v=0\r\nhold",
        );
        assert_eq!(statuses(&bench.udp(&reinvite)), ["100"]);
        assert!(matches!(
            bench.events().as_slice(),
            [SipEvent::Reinvite { sdp: Some(_), .. }]
        ));
        bench
            .endpoint
            .answer_reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\nheld"));
        let ok = bench.sent();
        assert_eq!(statuses(&ok), ["200"]);
        assert_eq!(to_tag(&ok[0]), tag);
        bench.udp(&within("ACK", cseq, &tag, &format!("z9hG4bKack{cseq}")));
        assert!(bench.events().is_empty());
    }
    // Without SDP: we offer, the answer comes with the ACK.
    bench.udp(&within("INVITE", 4, &tag, "z9hG4bKre4"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Reinvite { sdp: None, .. }]
    ));
    bench
        .endpoint
        .answer_reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\noffer"));
    bench.sent();
    bench.udp(&with_body(
        &within("ACK", 4, &tag, "z9hG4bKack4"),
        "application/sdp",
        "v=0\r\nanswer",
    ));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Acknowledged { sdp: Some(_), .. }]
    ));
    // An ACK that does not answer our offer is told as well: the media can't be known then.
    bench.udp(&within("INVITE", 40, &tag, "z9hG4bKre40"));
    bench.events();
    bench
        .endpoint
        .answer_reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\noffer"));
    bench.sent();
    bench.udp(&within("ACK", 40, &tag, "z9hG4bKack40"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Acknowledged { sdp: None, .. }]
    ));
    // Refused: the call goes on.
    bench.udp(&within("INVITE", 50, &tag, "z9hG4bKre5"));
    bench.events();
    bench.endpoint.reject_reinvite(bench.now, dialog, 488);
    assert_eq!(statuses(&bench.sent()), ["488"]);
    assert_eq!(bench.endpoint.counters().dialogs, 1);
}

#[test]
fn one_offer_at_a_time() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.call();
    let offer = within("INVITE", 2, &tag, "z9hG4bKre2");
    bench.udp(&with_body(&offer, "application/sdp", "v=0\r\n"));
    assert_eq!(bench.events().len(), 1);
    let second = bench.udp(&within("INVITE", 3, &tag, "z9hG4bKre3"));
    assert_eq!(statuses(&second), ["100", "500"]);
    assert_eq!(header(&second[1], "Retry-After"), Some("1"));
    let update = with_body(
        &within("UPDATE", 4, &tag, "z9hG4bKup4"),
        "application/sdp",
        "v=0\r\n",
    );
    assert_eq!(statuses(&bench.udp(&update)), ["500"]);
    bench
        .endpoint
        .answer_reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\n"));
    bench.sent();
    bench.udp(&within("ACK", 2, &tag, "z9hG4bKack2"));
    // Now one of ours is under way: glare.
    bench
        .endpoint
        .reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\nours"));
    assert_eq!(statuses(&bench.sent()), ["INVITE"]);
    assert_eq!(
        statuses(&bench.udp(&within("INVITE", 50, &tag, "z9hG4bKre5"))),
        ["100", "491"]
    );
    assert!(bench.events().is_empty());
}

#[test]
fn a_storm_of_offers_changes_media_once_a_second() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.call();
    let mut told = 0;
    for cseq in 2..302 {
        let update = with_body(
            &within("UPDATE", cseq, &tag, &format!("z9hG4bKup{cseq}")),
            "application/sdp",
            "v=0\r\n",
        );
        bench.udp(&update);
        if let [SipEvent::Reinvite { .. }] = bench.events().as_slice() {
            told += 1;
            bench
                .endpoint
                .answer_reinvite(bench.now, dialog, Bytes::from_static(b"v=0\r\n"));
            assert_eq!(statuses(&bench.sent()), ["200"]);
        }
        bench.pass(Duration::from_millis(10));
    }
    assert_eq!(told, 5 + 2);
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 999, &tag, "z9hG4bKbye"))),
        ["200"]
    );
    bench.assert_empty_after(LONG);
}

#[test]
fn update_without_sdp_is_a_refresh() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.call();
    let update = within("UPDATE", 2, &tag, "z9hG4bKup").replace(
        "Contact: <sip:alice@192.0.2.7:5060>",
        "Contact: <sip:alice@192.0.2.8:5070>",
    );
    assert_eq!(statuses(&bench.udp(&update)), ["200"]);
    assert!(bench.events().is_empty());
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let bye = bench.sent();
    assert!(
        bye[0].starts_with("BYE sip:alice@192.0.2.8:5070 SIP/2.0\r\n"),
        "{}",
        bye[0]
    );
}

#[test]
fn other_requests_in_the_call() {
    let mut bench = Bench::new();
    let (_, tag) = bench.call();
    let info = with_body(
        &within("INFO", 2, &tag, "z9hG4bKi"),
        "application/dtmf-relay",
        "Signal=5\r\n",
    );
    assert_eq!(statuses(&bench.udp(&info)), ["200"]);
    let events = bench.events();
    let [
        SipEvent::Info {
            content_type, body, ..
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(
        (content_type.as_str(), &body[..]),
        ("application/dtmf-relay", &b"Signal=5\r\n"[..])
    );
    assert_eq!(statuses(&bench.udp(&info)), ["200"]);
    assert!(bench.events().is_empty());
    let options = bench.udp(&within("OPTIONS", 3, &tag, "z9hG4bKo"));
    assert_eq!(statuses(&options), ["200"]);
    assert_eq!(
        header(&options[0], "Allow"),
        Some("INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK")
    );
    assert_eq!(
        statuses(&bench.udp(&within("REFER", 4, &tag, "z9hG4bKr"))),
        ["603"]
    );
    for (at, (method, status)) in [
        ("NOTIFY", "405"),
        ("MESSAGE", "405"),
        ("SUBSCRIBE", "405"),
        ("PUBLISH", "405"),
        ("NONSENSE", "501"),
    ]
    .into_iter()
    .enumerate()
    {
        let request = within(method, 10 + at as u32, &tag, "z9hG4bKx");
        // As long as a telephone's: a stranger's gets no longer answer.
        let request = request.replace("Contact", "User-Agent: a telephone of today\r\nContact");
        let sent = bench.udp(&request);
        assert_eq!(statuses(&sent), [status], "{method}");
        assert!(header(&sent[0], "Allow").is_some());
    }
}

#[test]
fn numbers_may_be_skipped_but_not_run_backwards() {
    let mut bench = Bench::new();
    let (_, tag) = bench.call();
    assert_eq!(
        statuses(&bench.udp(&within("OPTIONS", 9, &tag, "z9hG4bKo"))),
        ["200"]
    );
    assert_eq!(
        statuses(&bench.udp(&within("INFO", 8, &tag, "z9hG4bKlow"))),
        ["500"]
    );
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 50, "wrong", "z9hG4bKw"))),
        ["481"]
    );
    assert_eq!(
        statuses(&bench.udp(&within("INVITE", 50, "wrong", "z9hG4bKw2"))),
        ["481"]
    );
    assert!(
        bench
            .udp(&within("ACK", 50, "wrong", "z9hG4bKw3"))
            .is_empty()
    );
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 900, &tag, "z9hG4bKbye"))),
        ["200"]
    );
    assert!(matches!(bench.events().as_slice(), [SipEvent::Bye { .. }]));
    bench.assert_empty_after(LONG);
}

#[test]
fn the_peer_refreshes_the_session_and_the_call_ends_when_it_does_not() {
    let mut bench = Bench::new();
    let timed = invite().replace(
        "Content-Type",
        "Supported: timer, 100rel\r\nSession-Expires: 600\r\nContent-Type",
    );
    bench.udp(&timed);
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let ok = bench.sent();
    assert_eq!(header(&ok[0], "Session-Expires"), Some("600;refresher=uac"));
    assert_eq!(header(&ok[0], "Require"), Some("timer"));
    let tag = to_tag(&ok[0]);
    bench.udp(&within("ACK", 1, &tag, "z9hG4bKack"));
    bench.events();
    bench.pass(Duration::from_secs(500));
    let refresh = within("UPDATE", 2, &tag, "z9hG4bKup").replace(
        "Contact",
        "Supported: timer\r\nSession-Expires: 600;refresher=uac\r\nContact",
    );
    let sent = bench.udp(&refresh);
    assert_eq!(
        header(&sent[0], "Session-Expires"),
        Some("600;refresher=uac")
    );
    assert!(bench.pass(Duration::from_secs(567)).is_empty());
    let sent = bench.pass(Duration::from_secs(1));
    assert_eq!(
        sent.iter().map(|(at, message)| (*at, &message[..3])).next(),
        Some((1000, "BYE"))
    );
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Refreshed { .. }, SipEvent::Lost { .. }]
    ));
    bench.assert_empty_after(LONG);
}

#[test]
fn we_refresh_the_session_where_the_peer_wants_that_or_knows_no_timers() {
    for (headers, peer_knows) in [
        (
            "Supported: timer\r\nSession-Expires: 600;refresher=uas",
            true,
        ),
        ("Session-Expires: 600", false),
    ] {
        let mut bench = Bench::new();
        let more = format!("Allow: INVITE, BYE, UPDATE\r\n{headers}\r\nContent-Type");
        bench.udp(&invite().replace("Content-Type", &more));
        let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
            panic!()
        };
        bench.endpoint.answer(bench.now, dialog, Bytes::new());
        let ok = bench.sent().remove(0);
        assert_eq!(header(&ok, "Session-Expires"), Some("600;refresher=uas"));
        assert_eq!(header(&ok, "Require"), None, "{peer_knows}");
        bench.udp(&within("ACK", 1, &to_tag(&ok), "z9hG4bKack"));
        bench.events();
        assert!(bench.pass(Duration::from_millis(299_900)).is_empty());
        let sent = bench.pass(Duration::from_millis(200));
        let update = &sent[0].1;
        assert!(update.starts_with("UPDATE "), "{update}");
        assert_eq!(header(update, "Session-Expires"), Some("600;refresher=uac"));
        // Refused for being too short, then taken.
        let answer = |update: &str, status: &str, more: &str| {
            let repeat = ["Via", "From", "To", "Call-ID", "CSeq"]
                .map(|name| format!("{name}: {}\r\n", header(update, name).unwrap()));
            let repeat = repeat.concat();
            format!("SIP/2.0 {status}\r\n{repeat}{more}Content-Length: 0\r\n\r\n")
        };
        let again = bench.udp(&answer(update, "422 Too Small", "Min-SE: 900\r\n"));
        assert_eq!(
            header(&again[0], "Session-Expires"),
            Some("900;refresher=uac")
        );
        bench.udp(&answer(
            &again[0],
            "200 OK",
            "Session-Expires: 900;refresher=uac\r\n",
        ));
        assert!(bench.pass(Duration::from_secs(449)).is_empty());
        // This one nobody answers: the call is over.
        let sent = bench.pass(Duration::from_secs(34));
        assert!(sent[0].1.starts_with("UPDATE "));
        assert!(sent.last().unwrap().1.starts_with("BYE "));
        assert!(matches!(
            bench.events().as_slice(),
            [SipEvent::Refreshed { .. }, SipEvent::Lost { .. }]
        ));
        bench.assert_empty_after(LONG);
    }
}

#[test]
fn session_timers_are_as_asked_for_and_refused_where_too_short() {
    for (headers, expected) in [
        (
            "Supported: timer\r\nSession-Expires: 600;refresher=uas",
            Some("600;refresher=uas"),
        ),
        ("Session-Expires: 600", Some("600;refresher=uas")),
        ("Supported: timer", None),
        (
            "Require: timer\r\nSession-Expires: 1800",
            Some("1800;refresher=uac"),
        ),
    ] {
        let mut bench = Bench::new();
        bench.udp(&invite().replace("Content-Type", &format!("{headers}\r\nContent-Type")));
        let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
            panic!()
        };
        bench.endpoint.answer(bench.now, dialog, Bytes::new());
        assert_eq!(
            header(&bench.sent()[0], "Session-Expires"),
            expected,
            "{headers}"
        );
    }
    let mut bench = Bench::new();
    let sent =
        bench.udp(&invite().replace("Content-Type", "Supported: timer\r\nx: 30\r\nContent-Type"));
    assert_eq!(
        (statuses(&sent), header(&sent[0], "Min-SE")),
        (vec!["422".to_owned()], Some("90"))
    );
}

/// A call whose peer says only this of itself, where we want a sign of life every ten minutes; its second request.
fn first_sign_of_life(headers: &str) -> (Bench, DialogId, String) {
    let mut bench = Bench::with(|config| config.session_interval = Some(600));
    bench.udp(&invite().replace("Content-Type", &format!("{headers}Content-Type")));
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0\r\nanswer"));
    let ok = bench.sent().remove(0);
    assert_eq!(header(&ok, "Session-Expires"), Some("600;refresher=uas"));
    assert_eq!(header(&ok, "Require"), None);
    bench.udp(&within("ACK", 1, &to_tag(&ok), "z9hG4bKack"));
    bench.events();
    assert!(bench.pass(Duration::from_millis(299_900)).is_empty());
    let sent = bench.pass(Duration::from_millis(200)).remove(0).1;
    assert_eq!(header(&sent, "Session-Expires"), Some("600;refresher=uac"));
    (bench, dialog, sent)
}

fn answer_to(request: &str, status: &str, more: &str) -> String {
    let repeat = ["Via", "From", "To", "Call-ID", "CSeq"]
        .map(|name| format!("{name}: {}\r\n", header(request, name).unwrap()));
    let repeat = repeat.concat();
    format!("SIP/2.0 {status}\r\n{repeat}{more}\r\n")
}

#[test]
fn who_knows_neither_timers_nor_update_is_asked_by_what_stands_already() {
    let (mut bench, call, invite) = first_sign_of_life("");
    assert!(invite.starts_with("INVITE sip:alice@"), "{invite}");
    assert!(invite.ends_with("\r\n\r\nv=0\r\nanswer"), "{invite}");
    let ok = "Contact: <sip:alice@192.0.2.7:5060>\r\nContent-Length: 4\r\n";
    let sent = bench.udp(&(answer_to(&invite, "200 OK", ok) + "v=0\n"));
    assert!(sent[0].starts_with("ACK "), "{sent:?}");
    match bench.events().as_slice() {
        [
            SipEvent::Refreshed { dialog },
            SipEvent::Established { sdp, .. },
        ] => {
            assert_eq!((*dialog, sdp.as_ref()), (call, &b"v=0\n"[..]));
        }
        other => panic!("{other:?}"),
    }
    // The next one it won't have, by which it tells that it is there; the one after nobody answers.
    let again = bench.pass(Duration::from_secs(301)).remove(0).1;
    bench.udp(&answer_to(&again, "500 Busy", "Content-Length: 0\r\n"));
    assert!(bench.pass(Duration::from_secs(299)).is_empty());
    let sent = bench.pass(Duration::from_secs(60));
    assert!(sent[0].1.starts_with("INVITE "), "{sent:?}");
    assert!(sent.last().unwrap().1.starts_with("BYE "), "{sent:?}");
    assert!(matches!(bench.events().last(), Some(SipEvent::Lost { .. })));
    bench.assert_empty_after(LONG);
}

#[test]
fn a_sign_of_life_that_met_an_offer_says_what_was_agreed_meanwhile() {
    let (mut bench, dialog, invite) = first_sign_of_life("");
    let refusal = answer_to(&invite, "491 Request Pending", "Content-Length: 0\r\n");
    assert_eq!(statuses(&bench.udp(&refusal)), ["ACK"]);
    let (_, tag) = header(&invite, "From")
        .unwrap()
        .rsplit_once(";tag=")
        .unwrap();
    let offer = within("INVITE", 2, tag, "z9hG4bKre2");
    let sent = bench.udp(&with_body(&offer, "application/sdp", "v=0\r\nhold"));
    assert_eq!(statuses(&sent), ["100"]);
    let held = Bytes::from_static(b"v=0\r\nheld");
    bench.endpoint.answer_reinvite(bench.now, dialog, held);
    assert_eq!(statuses(&bench.sent()), ["200"]);
    bench.udp(&within("ACK", 2, tag, "z9hG4bKack2"));
    let sent = bench.pass(Duration::from_secs(3));
    let again = &sent[0].1;
    assert!(again.starts_with("INVITE sip:alice@"), "{again}");
    assert!(again.ends_with("\r\n\r\nv=0\r\nheld"), "{again}");
}

#[test]
fn who_refuses_the_update_that_it_allows_is_asked_by_reinvite() {
    let (mut bench, _, update) = first_sign_of_life("Allow: INVITE, BYE, UPDATE\r\n");
    assert!(update.starts_with("UPDATE "), "{update}");
    let refusal = answer_to(&update, "501 Not Implemented", "Content-Length: 0\r\n");
    let sent = bench.udp(&refusal);
    assert!(sent[0].starts_with("INVITE "), "{sent:?}");
    let short = "Min-SE: 1200\r\nContent-Length: 0\r\n";
    let sent = bench.udp(&answer_to(&sent[0], "422 Too Small", short));
    assert_eq!(statuses(&sent), ["ACK", "INVITE"]);
    assert_eq!(
        header(&sent[1], "Session-Expires"),
        Some("1200;refresher=uac")
    );
}

#[test]
fn a_cancelled_reinvite_leaves_the_call_as_it_was() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.call();
    bench.udp(&within("INVITE", 2, &tag, "z9hG4bKre"));
    bench.events();
    let sent = bench.udp(&within("CANCEL", 2, &tag, "z9hG4bKre"));
    assert_eq!(statuses(&sent), ["200", "487"]);
    assert!(bench.events().is_empty());
    bench
        .endpoint
        .answer_reinvite(bench.now, dialog, Bytes::new());
    assert!(bench.sent().is_empty());
    bench.udp(&within("ACK", 2, &tag, "z9hG4bKre"));
    bench.udp(&within("INVITE", 3, &tag, "z9hG4bKre3"));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Reinvite { .. }]
    ));
}

#[test]
fn one_call_can_not_fill_the_memory_with_requests() {
    let mut bench = Bench::new();
    let (_, tag) = bench.call();
    let mut answers = std::collections::BTreeMap::<String, u32>::new();
    for cseq in 2..2002 {
        let sent = bench.udp(&within("OPTIONS", cseq, &tag, &format!("z9hG4bK{cseq}")));
        *answers.entry(statuses(&sent)[0].clone()).or_default() += 1;
        bench.pass(Duration::from_millis(1));
    }
    assert_eq!((answers["200"], answers["500"]), (139, 1861));
    assert!(bench.endpoint.counters().transactions < 200);
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 3000, &tag, "z9hG4bKbye"))),
        ["200"]
    );
    bench.assert_empty_after(LONG);
}
