//! Calls that come in.

use super::*;
use crate::booking::Pin;

#[test]
fn many_calls_leave_no_large_tables_behind() {
    let mut bench = Bench::with(|config| {
        config.limits.source_invites_burst = 1_000.0;
    });
    let calls = 300;
    for n in 0..calls {
        let other = invite()
            .replace("z9hG4bKinv", &format!("z9hG4bKinv{n}"))
            .replace("call1@", &format!("call{n}@"));
        bench.udp(&other);
        bench.now += Duration::from_millis(100);
    }
    let room = |bench: &Bench| {
        let endpoint = &bench.endpoint;
        endpoint.servers.capacity() + endpoint.dialogs.capacity() + endpoint.dialog_keys.capacity()
    };
    assert!(room(&bench) > 300, "{}", room(&bench));
    bench.endpoint.give_room_back();
    assert!(room(&bench) > 300, "what is in use stays");
    for event in bench.events() {
        let SipEvent::Invite { dialog, .. } = event else {
            panic!("{event:?}");
        };
        bench.endpoint.reject(bench.now, dialog, 486, None, None);
    }
    bench.assert_empty_after(LONG);
    assert!(room(&bench) > 300, "nothing shrinks by itself");
    bench.endpoint.give_room_back();
    assert_eq!(room(&bench), 0);
}

#[test]
fn a_call_is_answered_acknowledged_and_ended_by_the_caller() {
    let mut bench = Bench::new();
    let trying = bench.udp(&invite());
    assert_eq!(
        trying,
        ["SIP/2.0 100 Trying\r\n\
          Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKinv\r\n\
          From: \"Alice\" <sip:alice@192.0.2.7>;tag=af\r\n\
          To: <sip:100@198.51.100.1>\r\n\
          Call-ID: call1@192.0.2.7\r\n\
          CSeq: 1 INVITE\r\n\
          Content-Length: 0\r\n\r\n"]
    );
    let events = bench.events();
    let [SipEvent::Invite { dialog, invite }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (invite.number.as_str(), invite.caller.expose()),
        ("100", "alice")
    );
    assert_eq!(invite.sdp.as_deref(), Some(&b"v=0\r\noffer"[..]));
    assert_eq!(invite.source.to_string(), "192.0.2.7");
    assert_eq!(invite.local.unwrap().to_string(), "198.51.100.1");
    let dialog = *dialog;
    bench.endpoint.ring(bench.now, dialog);
    assert_eq!(statuses(&bench.sent()), ["180"]);
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0\r\nanswer"));
    let ok = bench.sent();
    assert_eq!(statuses(&ok), ["200"]);
    assert_eq!(header(&ok[0], "Contact"), Some("<sip:198.51.100.1:5060>"));
    assert_eq!(header(&ok[0], "Server"), None);
    assert!(ok[0].ends_with("Content-Length: 11\r\n\r\nv=0\r\nanswer"));
    let tag = to_tag(&ok[0]);
    assert!(bench.udp(&within("ACK", 1, &tag, "z9hG4bKack")).is_empty());
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Acknowledged { .. }]
    ));
    let bye = within("BYE", 2, &tag, "z9hG4bKbye").replace(
        "Contact:",
        "Reason: SIP;cause=200, Q.850;cause=16\r\nContact:",
    );
    assert_eq!(statuses(&bench.udp(&bye)), ["200"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Bye { q850: Some(16), .. }]
    ));
    // The same BYE again: the same answer, no second event.
    assert_eq!(statuses(&bench.udp(&bye)), ["200"]);
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn we_end_a_call_over_the_flow_it_came_by() {
    let mut bench = Bench::new();
    let (dialog, tag) = bench.call();
    bench.endpoint.hang_up(bench.now, dialog, 16);
    let bye = bench.sent();
    assert_eq!(statuses(&bye), ["BYE"]);
    assert!(bye[0].starts_with(
        "BYE sip:alice@192.0.2.7:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK"
    ));
    assert_eq!(
        header(&bye[0], "From").unwrap(),
        format!("<sip:100@198.51.100.1>;tag={tag}")
    );
    assert_eq!(
        header(&bye[0], "To").unwrap(),
        "\"Alice\" <sip:alice@192.0.2.7>;tag=af"
    );
    assert_eq!(header(&bye[0], "Reason"), Some("Q.850;cause=16"));
    // Repeated until answered; meanwhile the peer's own BYE is answered.
    assert_eq!(bench.pass(Duration::from_millis(600)).len(), 1);
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 2, &tag, "z9hG4bKcross"))),
        ["200"]
    );
    let ok = bye[0].split("\r\n").filter(|l| {
        ["Via", "From", "To:", "Call", "CSeq"]
            .iter()
            .any(|n| l.starts_with(n))
    });
    let ok = format!(
        "SIP/2.0 200 OK\r\n{}\r\n\r\n",
        ok.collect::<Vec<_>>().join("\r\n")
    );
    assert!(bench.udp(&ok).is_empty());
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn a_repeated_invite_is_absorbed_before_and_after_the_answer_and_after_the_ack() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    assert_eq!(statuses(&bench.udp(&invite())), ["100"]);
    bench.endpoint.ring(bench.now, dialog);
    bench.sent();
    assert_eq!(statuses(&bench.udp(&invite())), ["180"]);
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let tag = to_tag(&bench.sent()[0]);
    assert!(bench.udp(&invite()).is_empty());
    bench.udp(&within("ACK", 1, &tag, "z9hG4bKack"));
    assert_eq!(bench.events().len(), 1);
    assert!(bench.udp(&invite()).is_empty());
    assert!(bench.events().is_empty());
    assert_eq!(bench.endpoint.counters().duplicates, 4);
}

#[test]
fn the_200_is_repeated_until_the_ack() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0\r\n"));
    let ok = bench.sent();
    let repeated = bench.pass(Duration::from_secs(8));
    assert_eq!(
        repeated.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [500, 1500, 3500, 7500]
    );
    assert!(repeated.iter().all(|(_, message)| *message == ok[0]));
    bench.udp(&within("ACK", 1, &to_tag(&ok[0]), "z9hG4bKack"));
    assert!(bench.pass(Duration::from_secs(60)).is_empty());
    assert_eq!(bench.events().len(), 1);
    assert_eq!(bench.endpoint.counters().dialogs, 1);
}

#[test]
fn without_an_ack_the_call_is_lost_and_ended_and_a_late_ack_changes_nothing() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0\r\n"));
    let tag = to_tag(&bench.sent()[0]);
    let sent = bench.pass(Duration::from_millis(32_100));
    assert_eq!(
        sent.last().map(|(at, message)| (*at, &message[..3])),
        Some((32_000, "BYE"))
    );
    assert!(matches!(bench.events().as_slice(), [SipEvent::Lost { .. }]));
    assert!(bench.udp(&within("ACK", 1, &tag, "z9hG4bKack")).is_empty());
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn cancel_is_answered_the_invite_ends_with_487_and_the_gateway_is_told() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    let cancel = invite()
        .replace("INVITE", "CANCEL")
        .replace("Content-Length: 10", "Content-Length: 0")
        .replace("v=0\r\noffer", "");
    let sent = bench.udp(&cancel);
    assert_eq!(statuses(&sent), ["200", "487"]);
    assert_eq!(header(&sent[0], "CSeq"), Some("1 CANCEL"));
    assert_eq!(header(&sent[1], "CSeq"), Some("1 INVITE"));
    assert_eq!(to_tag(&sent[0]), to_tag(&sent[1]));
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Cancelled { .. }]
    ));
    // The gateway's answer comes too late; the 487 is repeated until its ACK.
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    assert!(bench.sent().is_empty());
    assert_eq!(bench.pass(Duration::from_secs(1)).len(), 1);
    let ack = within("ACK", 1, &to_tag(&sent[1]), "z9hG4bKinv");
    assert!(bench.udp(&ack).is_empty());
    assert!(bench.pass(Duration::from_secs(4)).is_empty());
    assert_eq!(statuses(&bench.udp(&cancel)), ["200"]);
    bench.assert_empty_after(LONG);
}

#[test]
fn cancel_that_crosses_the_200_has_no_effect_and_a_stray_one_is_481() {
    let mut bench = Bench::new();
    let cancel = invite().replace("INVITE", "CANCEL");
    assert_eq!(statuses(&bench.udp(&cancel)), ["481"]);
    let (_, tag) = bench.call();
    assert_eq!(statuses(&bench.udp(&cancel)), ["200"]);
    assert!(bench.events().is_empty());
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 2, &tag, "z9hG4bKb"))),
        ["200"]
    );
    bench.assert_empty_after(LONG);
}

#[test]
fn a_refused_call_gets_its_status_retry_after_and_warning() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench
        .endpoint
        .reject(bench.now, dialog, 503, Some(7), Some("no \"room\"\r\nX: y"));
    let sent = bench.sent();
    assert_eq!(statuses(&sent), ["503"]);
    assert_eq!(header(&sent[0], "Retry-After"), Some("7"));
    assert_eq!(
        header(&sent[0], "Warning"),
        Some("399 198.51.100.1:5060 \"no roomX: y\"")
    );
    bench.endpoint.reject(bench.now, dialog, 486, None, None);
    assert!(bench.sent().is_empty() && bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn hanging_up_says_why_in_each_state() {
    for (q850, status) in [(17, "486"), (1, "404"), (34, "503"), (16, "480")] {
        let mut bench = Bench::new();
        let dialog = bench.ring();
        bench.endpoint.hang_up(bench.now, dialog, q850);
        assert_eq!(statuses(&bench.sent()), [status]);
        bench.assert_empty_after(LONG);
    }
}

#[test]
fn a_bye_of_ours_waits_for_the_ack() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let tag = to_tag(&bench.sent()[0]);
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert!(bench.sent().is_empty());
    let sent = bench.udp(&within("ACK", 1, &tag, "z9hG4bKack"));
    assert_eq!(statuses(&sent), ["BYE"]);
    assert!(bench.events().is_empty());
    bench.assert_empty_after(LONG);
}

#[test]
fn bye_before_the_answer_ends_the_invite_too() {
    let mut bench = Bench::new();
    let dialog = bench.ring();
    bench.endpoint.ring(bench.now, dialog);
    let tag = to_tag(&bench.sent()[0]);
    let sent = bench.udp(&within("BYE", 2, &tag, "z9hG4bKbye"));
    assert_eq!(statuses(&sent), ["200", "487"]);
    assert!(matches!(
        bench.events().as_slice(),
        [SipEvent::Bye { q850: None, .. }]
    ));
    bench.assert_empty_after(LONG);
}

#[test]
fn an_invite_without_sdp_gets_our_offer_and_its_answer_comes_with_the_ack() {
    let mut bench = Bench::new();
    let bare = invite().replace(
        "Content-Type: application/sdp\r\nContent-Length: 10\r\n\r\nv=0\r\noffer",
        "Content-Length: 0\r\n\r\n",
    );
    bench.udp(&bare);
    let events = bench.events();
    let [SipEvent::Invite { dialog, invite }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(invite.sdp, None);
    bench
        .endpoint
        .answer(bench.now, *dialog, Bytes::from_static(b"v=0\r\noffer"));
    let tag = to_tag(&bench.sent()[0]);
    bench.udp(&with_body(
        &within("ACK", 1, &tag, "z9hG4bKack"),
        "application/sdp",
        "v=0\r\nanswer",
    ));
    let events = bench.events();
    let [SipEvent::Acknowledged { sdp: Some(sdp), .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(&sdp[..], b"v=0\r\nanswer");
}

#[test]
fn record_routes_come_back_in_the_answer_and_lead_our_requests() {
    let mut bench = Bench::new();
    let routed = invite().replace(
        "Content-Type",
        "Record-Route: <sip:p1.example;lr>, <sip:p2.example;lr>\r\nContent-Type",
    );
    bench.udp(&routed);
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    let ok = bench.sent();
    assert_eq!(
        header(&ok[0], "Record-Route"),
        Some("<sip:p1.example;lr>, <sip:p2.example;lr>")
    );
    bench.udp(&within("ACK", 1, &to_tag(&ok[0]), "z9hG4bKack"));
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert!(
        bench.sent()[0].contains("Route: <sip:p1.example;lr>\r\nRoute: <sip:p2.example;lr>\r\n")
    );
}

#[test]
fn without_an_advertised_address_the_caller_is_told_what_it_dialled() {
    let mut bench = Bench::with(|config| {
        config.udp_contacts = vec![PerFamily::both("0.0.0.0:5060".to_owned())]
    });
    let dialog = bench.ring();
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    assert_eq!(
        header(&bench.sent()[0], "Contact"),
        Some("<sip:198.51.100.1>")
    );
}

#[test]
fn behind_a_proxy_that_left_the_request_line_alone_the_proxy_is_told_our_own_address() {
    let told = |text: &str| {
        let mut bench = Bench::with(|config| {
            config.udp_contacts = vec![PerFamily::both("0.0.0.0:5070".to_owned())];
            config.own_address = Some(|_| Some("198.51.100.9".parse().unwrap()));
        });
        bench.udp(text);
        let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
            panic!()
        };
        bench.endpoint.answer(bench.now, dialog, Bytes::new());
        header(&bench.sent()[0], "Contact").unwrap().to_owned()
    };
    assert_eq!(told(&invite()), "<sip:198.51.100.1>");
    let own = "<sip:198.51.100.9:5070>";
    let stays = "Record-Route: <sip:p1.example;lr>\r\nMax-Forwards";
    assert_eq!(told(&invite().replace("Max-Forwards", stays)), own);
    let leaves = "Via: SIP/2.0/UDP 203.0.113.1;branch=z9hG4bKx\r\nMax-Forwards";
    assert_eq!(told(&invite().replace("Max-Forwards", leaves)), own);
}

#[test]
fn the_pin_comes_by_uri_or_header_and_prints_as_stars() {
    for (from, to) in [
        (
            "sip:100@198.51.100.1 SIP",
            "sip:100@198.51.100.1;pin=48151623 SIP",
        ),
        (
            "sip:100@198.51.100.1 SIP",
            "sip:100;pin=48151623@198.51.100.1 SIP",
        ),
        ("Max-Forwards", "X-Conf-PIN: 48151623\r\nMax-Forwards"),
    ] {
        let mut bench = Bench::new();
        bench.udp(&invite().replace(from, to));
        let events = bench.events();
        let [SipEvent::Invite { invite, .. }] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(invite.pin.as_ref().map(Pin::expose), Some("48151623"));
        assert_eq!(invite.number, "100");
        assert!(!format!("{events:?}").contains("48151623"));
        assert!(!format!("{:?}", invite.caller).contains("alice"));
    }
}

#[test]
fn tel_uris_and_ipv6_are_calls_like_others() {
    let mut bench = Bench::new();
    bench.udp(
        &invite()
            .replace("INVITE sip:100@198.51.100.1", "INVITE tel:+390612345")
            .replace("<sip:alice@192.0.2.7>;tag", "<tel:+39333>;tag"),
    );
    let events = bench.events();
    let [SipEvent::Invite { invite: told, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(
        (told.number.as_str(), told.caller.expose()),
        ("+390612345", "+39333")
    );
    let mut bench = Bench::with(|config| {
        config.udp_contacts = vec![PerFamily {
            v4: "198.51.100.1:5060".to_owned(),
            v6: "[2001:db8::1]:5060".to_owned(),
        }];
    });
    let text = invite()
        .replace("198.51.100.1", "[2001:db8::1]")
        .replace("192.0.2.7:5060", "[2001:db8::7]:5060;rport");
    let text = text.replace(
        "<sip:alice@[2001:db8::7]:5060;rport>",
        "<sip:alice@[2001:db8::7]>",
    );
    bench
        .endpoint
        .handle_datagram(bench.now, udp("[2001:db8::7]:6000"), text.as_bytes());
    let sent = bench.sent();
    assert_eq!(statuses(&sent), ["100"]);
    assert_eq!(
        header(&sent[0], "Via"),
        Some("SIP/2.0/UDP [2001:db8::7]:5060;branch=z9hG4bKinv;received=2001:db8::7;rport=6000")
    );
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    assert_eq!(
        header(&bench.sent()[0], "Contact"),
        Some("<sip:[2001:db8::1]:5060>")
    );
}

#[test]
fn one_socket_tells_peers_of_either_family_its_address_of_that_one() {
    for (peer, expected) in [
        ("192.0.2.7:5060", "<sip:198.51.100.1:5060>"),
        ("[::ffff:192.0.2.7]:5060", "<sip:198.51.100.1:5060>"),
        ("[2001:db8::7]:5060", "<sip:[2001:db8::1]:5060>"),
    ] {
        let mut bench = Bench::with(|config| {
            config.udp_contacts = vec![PerFamily {
                v4: "198.51.100.1:5060".to_owned(),
                v6: "[2001:db8::1]:5060".to_owned(),
            }];
        });
        let text = invite();
        bench
            .endpoint
            .handle_datagram(bench.now, udp(peer), text.as_bytes());
        bench.sent();
        let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
            panic!("no call from {peer}")
        };
        bench.endpoint.answer(bench.now, dialog, Bytes::new());
        assert_eq!(header(&bench.sent()[0], "Contact"), Some(expected));
    }
}

#[test]
fn a_tel_call_without_an_advertised_address_is_told_the_hop_it_was_routed_to() {
    let mut bench = Bench::with(|config| config.udp_contacts.clear());
    let tel = invite()
        .replace("INVITE sip:100@198.51.100.1", "INVITE tel:100")
        .replace("Contact", "Route: <sip:198.51.100.9:5070;lr>\r\nContact");
    bench.udp(&tel);
    let Some(SipEvent::Invite { dialog, .. }) = bench.events().pop() else {
        panic!()
    };
    bench.endpoint.answer(bench.now, dialog, Bytes::new());
    assert_eq!(
        header(&bench.sent()[0], "Contact"),
        Some("<sip:198.51.100.9:5070>")
    );
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_log_at_any_level_holds_a_pin_a_number_or_a_message() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        // Tests beside this one may find the log lines first, while nobody listens, and switch them off.
        for _ in 0..20 {
            tracing::callsite::rebuild_interest_cache();
            let mut bench = Bench::new();
            let secret = invite().replace("Max-Forwards", "X-Conf-PIN: 48151623\r\nMax-Forwards");
            bench.udp(&secret);
            for (from, to) in [
                ("CSeq: 1 INVITE", "CSeq: x"),
                ("Max-Forwards: 70", "Require: x"),
                ("INVITE", "MESSAGE"),
                (" SIP/2.0\r\nVia", " SIP/9.0\r\nVia"),
                ("sip:100@", "ftp:100@"),
                ("From: \"Alice\"", "From: \"Alice"),
                (";branch", ";bran\0ch"),
                ("application/sdp", "text/plain"),
            ] {
                bench.udp(&secret.replace("z9hG4bKinv", "z9hG4bKbad").replace(from, to));
                bench.tcp(secret.replace(from, to).as_bytes());
            }
            bench.tcp(&[b'4'; 70_000]);
            let (_, tag) = (bench.events(), "x");
            bench.udp(&with_body(
                &within("INFO", 2, tag, "z9hG4bKi"),
                "application/dtmf-relay",
                "Signal=5",
            ));
            bench.pass(LONG);
            if !log.0.lock().unwrap().is_empty() {
                break;
            }
        }
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("malformed") && text.contains(PEER), "{text}");
    for secret in [
        "48151623", "alice", "Alice", "100@", "Signal", "call1", "CSeq", "@198",
    ] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
