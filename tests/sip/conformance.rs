//! What the RFCs ask of the called side, case by case, as bytes on the wire. The machines behind it have
//! their own tests beside them (`src/sip`); these hold for any target (see `wire::Target`).

use crate::wire::{OFFER, Target, Wire};

#[test]
fn requests_are_told_apart_and_answered_once_each() {
    let target = Target::find();
    an_invite_that_comes_again_is_the_same_call(&mut target.udp());
    an_invite_that_comes_by_two_ways_is_merged(&mut target.udp());
    a_cancel_is_answered_and_so_is_its_invite(&mut target.udp());
    a_refusal_is_repeated_until_its_ack(&mut target.udp());
    requests_for_no_call_are_481(&mut target.udp());
    an_old_request_in_a_call_is_refused(&mut target.udp());
    target.takes_a_call();
}

#[test]
fn extensions_are_used_as_their_rfcs_say() {
    let target = Target::find();
    provisional_answers_arrive_where_that_is_required(&mut target.udp(), target.server.is_some());
    unknown_extensions_are_refused_by_name(&mut target.udp());
    offers_are_answered_line_by_line(&mut target.udp());
    directions_are_mirrored_and_versions_counted(&mut target.udp());
    session_timers_are_agreed_on(&mut target.udp());
    keys_come_under_the_number_that_was_offered(&mut target.udp());
    keep_alives_are_answered_over_streams(&target);
    target.takes_a_call();
}

/// RFC 3261 section 17.2.1.
fn an_invite_that_comes_again_is_the_same_call(wire: &mut Wire) {
    let (invite, id) = wire.invite(OFFER, &[]);
    for _ in 0..3 {
        wire.send(invite.as_bytes());
    }
    let ok = wire.final_answer(&id);
    assert_eq!(ok.status(), 200, "{ok:?}");
    // Repeated until the ACK, always the same.
    for _ in 0..2 {
        assert_eq!(wire.final_answer(&id).0, ok.0);
    }
    wire.send(ok.acknowledgement().as_bytes());
    wire.send(invite.as_bytes());
    wire.catch_up(|answer| assert_eq!(answer.0, ok.0, "a second call"));
    wire.hang_up(&ok);
}

/// RFC 3261 section 8.2.2.2.
fn an_invite_that_comes_by_two_ways_is_merged(wire: &mut Wire) {
    let (invite, id) = wire.invite(OFFER, &[]);
    let other_way = invite.replace("branch=z9hG4bK", "branch=z9hG4bKother");
    wire.send(invite.as_bytes());
    wire.send(other_way.as_bytes());
    let merged = wire.wait_for("482", |answer| {
        answer.header("Call-ID") == Some(&id) && answer.status() == 482
    });
    wire.send(merged.acknowledgement().as_bytes());
    let ok = wire.wait_for("200", |answer| answer.status() == 200);
    wire.send(ok.acknowledgement().as_bytes());
    wire.hang_up(&ok);
}

/// RFC 3261 section 9.2: it may come too late.
fn a_cancel_is_answered_and_so_is_its_invite(wire: &mut Wire) {
    let (invite, id) = wire.invite(OFFER, &[]);
    let head = invite.split("Content-Type").next().expect("a head");
    let cancel = format!(
        "{}Content-Length: 0\r\n\r\n",
        head.replace("INVITE", "CANCEL")
    );
    // The branch is the INVITE's.
    let cancel = cancel.replace("-CANCEL\r\n", "-INVITE\r\n");
    wire.send(invite.as_bytes());
    wire.send(cancel.as_bytes());
    let (mut cancelled, mut answered) = (None, None);
    while cancelled.is_none() || answered.is_none() {
        let answer = wire.wait_for("both answers", |answer| answer.status() >= 200);
        if answer.is_final_of("CANCEL") {
            cancelled = Some(answer);
        } else if answer.is_final_of("INVITE") {
            answered = Some(answer);
        }
    }
    assert_eq!(cancelled.map(|answer| answer.status()), Some(200));
    let answered = answered.expect("waited for");
    wire.send(answered.acknowledgement().as_bytes());
    match answered.status() {
        487 => {}
        200 => wire.hang_up(&answered),
        _ => panic!("{answered:?}"),
    }
    wire.send(cancel.replace(&id, "nobodys").as_bytes());
    let unknown = wire.wait_for("481", |answer| answer.is_final_of("CANCEL"));
    assert_eq!(unknown.status(), 481);
}

/// RFC 3261 section 17.2.1, timers G and H.
fn a_refusal_is_repeated_until_its_ack(wire: &mut Wire) {
    let only_g726 = OFFER.replace("AVP 0 8 101", "AVP 2");
    let (invite, id) = wire.invite(&only_g726, &[]);
    wire.send(invite.as_bytes());
    let of_the_call = |wire: &mut Wire| {
        wire.wait_for("488", |answer| {
            answer.header("Call-ID") == Some(&id) && answer.status() >= 200
        })
    };
    let refused = of_the_call(wire);
    assert_eq!(refused.status(), 488, "{refused:?}");
    assert_eq!(of_the_call(wire).0, refused.0);
    wire.send(refused.acknowledgement().as_bytes());
    // What was under way before the ACK was looked at comes before this.
    wire.catch_up(|_| {});
    for _ in 0..4 {
        let more = wire.hear();
        assert!(more.is_none(), "repeated after the ACK: {more:?}");
    }
}

/// RFC 3261 section 12.2.2; nobody answers an ACK.
fn requests_for_no_call_are_481(wire: &mut Wire) {
    for method in ["BYE", "INFO", "UPDATE", "INVITE", "PRACK"] {
        let id = wire.new_id();
        let request = wire.request(method, 1, &id, ";tag=unknown", "");
        let answers = wire.answers_to(request.as_bytes());
        assert_eq!(answers.len(), 1, "{method}: {answers:?}");
        assert_eq!(answers[0].status(), 481, "{method}");
    }
    let id = wire.new_id();
    let ack = wire.request("ACK", 1, &id, ";tag=unknown", "");
    assert!(wire.answers_to(ack.as_bytes()).is_empty());
}

/// RFC 3261 section 12.2.2: a lower CSeq is 500, one that skips numbers is fine.
fn an_old_request_in_a_call_is_refused(wire: &mut Wire) {
    let call = wire.call("v=0", &[]);
    for (cseq, status) in [(50, 200), (7, 500), (900, 200)] {
        let request = call.following("OPTIONS", cseq, "");
        wire.send(request.as_bytes());
        let answer = wire.wait_for("an answer", |answer| answer.is_final_of("OPTIONS"));
        assert_eq!(answer.status(), status, "{cseq}");
    }
    wire.hang_up(&call);
}

/// RFC 3262: every 18x to such an INVITE is numbered and repeated until its PRACK. None need come.
fn provisional_answers_arrive_where_that_is_required(wire: &mut Wire, is_ours: bool) {
    let (invite, id) = wire.invite(OFFER, &["Require: 100rel"]);
    wire.send(invite.as_bytes());
    let first = wire.wait_for("an answer", |answer| {
        answer.header("Call-ID") == Some(&id) && answer.status() > 100
    });
    assert!(!is_ours || first.status() == 180, "{first:?}");
    if first.status() < 200 {
        let rseq = first.header("RSeq").expect("a number").to_owned();
        assert_eq!(first.header("Require"), Some("100rel"));
        for (cseq, rack, status) in [
            (2, format!("{rseq} 999 INVITE"), 481),
            (3, format!("{rseq} 1 INVITE"), 200),
            (4, format!("{rseq} 1 INVITE"), 481),
        ] {
            let prack = first.following("PRACK", cseq, &format!("RAck: {rack}"));
            wire.send(prack.as_bytes());
            let answer = wire.wait_for("an answer", |answer| {
                answer.is_final_of("PRACK")
                    && answer.header("CSeq") == Some(&format!("{cseq} PRACK"))
            });
            assert_eq!(answer.status(), status, "{rack}");
        }
    }
    // It may have come already, and comes again until its ACK.
    let ok = wire.final_answer(&id);
    assert_eq!(ok.status(), 200, "{ok:?}");
    wire.send(ok.acknowledgement().as_bytes());
    wire.hang_up(&ok);
}

/// RFC 3261 section 8.2.2.3.
fn unknown_extensions_are_refused_by_name(wire: &mut Wire) {
    let (invite, _) = wire.invite(OFFER, &["Require: timer, foo, 100rel", "Require: bar"]);
    let answers = wire.answers_to(invite.as_bytes());
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].status(), 420);
    assert_eq!(answers[0].header("Unsupported"), Some("foo, bar"));
}

/// RFC 3264 section 6: as many lines as were offered, in their order, those not taken with port 0.
fn offers_are_answered_line_by_line(wire: &mut Wire) {
    let offer = OFFER.replace(
        "m=audio",
        "m=video 4 RTP/AVP 31\r\nm=image 6 udptl t38\r\nm=audio",
    ) + "m=audio 8 RTP/AVP 0\r\nm=application 10 TCP/BFCP *\r\n";
    let call = wire.call(&offer, &[]);
    let lines: Vec<Vec<&str>> = call
        .body()
        .lines()
        .filter_map(|line| Some(line.strip_prefix("m=")?.split(' ').collect()))
        .collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(kinds, ["video", "image", "audio", "audio", "application"]);
    let refused: Vec<bool> = lines.iter().map(|line| line[1] == "0").collect();
    assert_eq!(refused, [true, true, false, true, true]);
    wire.hang_up(&call);
}

/// RFC 3264 sections 6.1 and 8.
fn directions_are_mirrored_and_versions_counted(wire: &mut Wire) {
    let call = wire.call("v=0", &[]);
    let mut last = version(call.body());
    for (cseq, theirs, ours) in [
        (2, "sendonly", "recvonly"),
        (3, "inactive", "inactive"),
        (4, "sendrecv", "sendrecv"),
    ] {
        let offer = format!(
            "{}a={theirs}\r\n",
            OFFER.replace("1 1 IN", &format!("1 {cseq} IN"))
        );
        let more = format!("Content-Type: application/sdp\r\n\r\n{offer}");
        wire.send(call.following("INVITE", cseq, &more).as_bytes());
        let answer = wire.wait_for("an answer to a re-INVITE", |answer| {
            answer.is_final_of("INVITE") && answer.header("CSeq") == Some(&format!("{cseq} INVITE"))
        });
        wire.send(answer.acknowledgement().as_bytes());
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert!(
            answer.body().contains(&format!("a={ours}\r\n")),
            "{answer:?}"
        );
        let now = version(answer.body());
        assert_eq!((&now.0, now.1), (&last.0, last.1 + 1), "{answer:?}");
        last = now;
    }
    wire.hang_up(&call);
}

/// The id of the session, and which version of it this is.
fn version(sdp: &str) -> (String, u64) {
    let origin = sdp.lines().find_map(|line| line.strip_prefix("o="));
    let words: Vec<&str> = origin.expect("an origin").split(' ').collect();
    (words[1].to_owned(), words[2].parse().expect("a number"))
}

/// RFC 4028 sections 6 to 9.
fn session_timers_are_agreed_on(wire: &mut Wire) {
    let (invite, _) = wire.invite(OFFER, &["Supported: timer", "Session-Expires: 60"]);
    let answers = wire.answers_to(invite.as_bytes());
    assert_eq!(answers.len(), 1, "{answers:?}");
    let least: u32 = answers[0]
        .header("Min-SE")
        .and_then(|least| least.parse().ok())
        .expect("the least that is taken");
    assert_eq!(answers[0].status(), 422);
    let again = format!("Session-Expires: {least};refresher=uac");
    let call = wire.call(
        "v=0",
        &["Supported: timer", &again, &format!("Min-SE: {least}")],
    );
    let agreed = call.header("Session-Expires").expect("an interval");
    let (seconds, refresher) = agreed.split_once(';').expect("who refreshes");
    assert_eq!(seconds.parse::<u32>().ok(), Some(least));
    assert_eq!(refresher, "refresher=uac");
    wire.hang_up(&call);
}

/// RFC 4733 section 2.4, RFC 3264 section 6.1.
fn keys_come_under_the_number_that_was_offered(wire: &mut Wire) {
    let offer = OFFER
        .replace("AVP 0 8 101", "AVP 9 8 97")
        .replace("rtpmap:101", "rtpmap:97");
    let call = wire.call(&offer, &[]);
    let line = call.body().lines().find(|line| line.starts_with("m=audio"));
    let formats: Vec<&str> = line.expect("audio").split(' ').skip(3).collect();
    assert!(formats.contains(&"97"), "{formats:?}");
    let mapped = "a=rtpmap:97 telephone-event/8000";
    assert!(call.body().contains(mapped), "{}", call.body());
    wire.hang_up(&call);
}

/// RFC 5626 section 4.4.1; by datagrams neither these nor STUN (section 4.4.2, which we don't offer).
fn keep_alives_are_answered_over_streams(target: &Target) {
    let mut stream = target.tcp();
    for _ in 0..3 {
        stream.send(b"\r\n\r\n");
        let pong = stream.wait_for("the answer to a keep-alive", |_| true);
        assert_eq!(pong.0, "\r\n");
    }
    stream.catch_up(|other| panic!("{other:?}"));
    let mut datagrams = target.udp();
    let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    for keep_alive in [&b"\r\n\r\n"[..], b"\r\n", b"\0", &stun] {
        let answers = datagrams.answers_to(keep_alive);
        assert!(answers.is_empty(), "{answers:?}");
    }
}
