//! Who calls by UDP without anybody's word for him: no more goes to him than came, until he shows that he is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::sip::dialog::REQUESTS_BURST;

const OTHER: &str = "192.0.2.99:5060";

/// What comes from each address, and what goes there.
struct Scales {
    bench: Bench,
    came: BTreeMap<SocketAddr, usize>,
    went: BTreeMap<SocketAddr, usize>,
}

impl Scales {
    fn new() -> Self {
        Self {
            bench: Bench::of_a_stranger(|_| {}),
            came: BTreeMap::new(),
            went: BTreeMap::new(),
        }
    }

    /// A call that is answered; its dialog and our tag.
    fn answered() -> (Self, DialogId, String) {
        let mut scales = Self::new();
        scales.from(PEER, &long_invite());
        let (dialog, sent) = scales.answer(300);
        let tag = to_tag(&sent[0]);
        (scales, dialog, tag)
    }

    fn from(&mut self, peer: &str, message: &str) -> Vec<String> {
        let flow = udp(peer);
        let came = self.came.entry(flow.peer()).or_default();
        *came = came.saturating_add(message.len());
        let now = self.bench.now;
        self.bench
            .endpoint
            .handle_datagram(now, flow, message.as_bytes());
        self.sent()
    }

    /// Weighed.
    fn sent(&mut self) -> Vec<String> {
        let transmits = std::iter::from_fn(|| self.bench.endpoint.poll_transmit());
        let mut messages = Vec::new();
        for transmit in transmits {
            let peer = transmit.flow.peer();
            let went = self.went.entry(peer).or_default();
            *went += transmit.bytes.len();
            let came = self.came.get(&peer).copied().unwrap_or(0);
            assert!(*went <= came, "{went} bytes to {peer} for {came}");
            messages.push(String::from_utf8(transmit.bytes.to_vec()).unwrap());
        }
        messages
    }

    fn answer(&mut self, sdp_bytes: usize) -> (DialogId, Vec<String>) {
        let events = self.bench.events();
        let [SipEvent::Invite { dialog, invite }] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert!(invite.is_stranger);
        let (now, sdp) = (self.bench.now, "x".repeat(sdp_bytes));
        self.bench.endpoint.answer(now, *dialog, sdp.into());
        let sent = self.sent();
        (*dialog, sent)
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.bench.now + time;
        let mut all = Vec::new();
        while let Some(at) = self.bench.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.bench.now = self.bench.now.max(at);
            self.bench.endpoint.handle_timeout(self.bench.now);
            all.extend(self.sent());
        }
        self.bench.now = end;
        all
    }
}

/// As long as a telephone's.
fn long_invite() -> String {
    let subject = "o".repeat(500);
    invite().replace(
        "Max-Forwards",
        &format!("Subject: {subject}\r\nMax-Forwards"),
    )
}

/// An answer of the peer to a request of ours.
fn answer_to(request: &str, status: &str) -> String {
    let kept = ["Via", "From", "To", "Call-ID", "CSeq"];
    let lines = kept.map(|name| format!("{name}: {}\r\n", header(request, name).unwrap()));
    format!(
        "SIP/2.0 {status}\r\n{}Content-Length: 0\r\n\r\n",
        lines.concat()
    )
}

#[test]
fn whom_the_configuration_is_told_of_later_is_no_stranger_any_more_and_again() {
    let mut bench = Bench::new();
    let flow = udp("203.0.113.7:5060");
    assert!(!bench.endpoint.is_trusted(flow));
    let network = "203.0.113.0/24".parse().unwrap();
    bench.endpoint.set_trusted(vec![network]);
    assert!(bench.endpoint.is_trusted(flow));
    bench.endpoint.set_trusted(Vec::new());
    assert!(!bench.endpoint.is_trusted(flow));
}

#[test]
fn nothing_that_a_stranger_sends_brings_more_than_it_weighs_however_long_one_waits() {
    let kinds = [
        invite(),
        invite()
            .replace("CSeq: 1 INVITE", "CSeq: 1 OPTIONS")
            .replace("INVITE ", "OPTIONS "),
        invite().replace("INVITE", "REGISTER"),
        invite().replace("INVITE", "MESSAGE"),
        invite().replace("INVITE", "FOO"),
        invite().replace("INVITE", "BYE"),
        invite().replace("INVITE", "CANCEL"),
        invite().replace("INVITE", "ACK"),
        invite().replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        invite().replace("Max-Forwards", "Require: 100rel\r\nMax-Forwards"),
        within("BYE", 2, "none", "z9hG4bKb"),
        "\r\n\r\n".to_owned(),
        "OPTIONS sip:a SIP/2.0\r\n\r\n".to_owned(),
        "SIP/2.0 200 OK\r\n\r\n".to_owned(),
    ];
    for kind in kinds {
        let mut scales = Scales::new();
        for repeat in 0..3 {
            scales.from(PEER, &kind);
            for event in scales.bench.events() {
                let SipEvent::Invite { dialog, .. } = event else {
                    continue;
                };
                let now = scales.bench.now;
                scales.bench.endpoint.ring(now, dialog);
                scales
                    .bench
                    .endpoint
                    .answer(now, dialog, vec![b'x'; 300].into());
                scales.sent();
            }
            scales.pass(Duration::from_millis(300 * repeat));
        }
        scales.pass(LONG);
        assert_eq!(scales.bench.endpoint.counters().dialogs, 0, "{kind}");
    }
}

#[test]
fn a_telephone_is_answered_at_once_and_as_anybody_from_its_ack_on() {
    let mut scales = Scales::new();
    assert!(scales.from(PEER, &long_invite()).is_empty(), "100 can wait");
    let (dialog, sent) = scales.answer(300);
    assert_eq!(statuses(&sent), ["200"]);
    let tag = to_tag(&sent[0]);
    scales.from(PEER, &within("ACK", 1, &tag, "z9hG4bKack"));
    let mut bench = scales.bench;
    bench.events();
    let sent = bench.udp(&within("INVITE", 2, &tag, "z9hG4bKre"));
    assert_eq!(statuses(&sent), ["100"]);
    bench
        .endpoint
        .answer_reinvite(bench.now, dialog, vec![b'x'; 2000].into());
    assert_eq!(statuses(&bench.sent()), ["200"]);
    assert!(bench.udp(&within("ACK", 2, &tag, "z9hG4bKac2")).is_empty());
    bench.endpoint.hang_up(bench.now, dialog, 16);
    assert_eq!(bench.pass(LONG).len(), 11, "BYE is repeated");
}

#[test]
fn an_answer_that_weighs_more_than_its_invite_comes_when_that_comes_again() {
    let mut scales = Scales::new();
    scales.from(PEER, &invite());
    let (_, sent) = scales.answer(250);
    assert!(sent.is_empty());
    assert!(scales.pass(Duration::from_millis(500)).is_empty());
    let sent = scales.from(PEER, &invite());
    assert_eq!(statuses(&sent), ["200"]);
    assert_eq!(header(&sent[0], "Allow"), None, "in few words");
    let tag = header(&sent[0], "t")
        .and_then(|to| to.rsplit_once(";tag="))
        .unwrap()
        .1;
    scales.from(PEER, &within("ACK", 1, tag, "z9hG4bKack"));
    assert!(matches!(
        scales.bench.events()[..],
        [SipEvent::Acknowledged { .. }]
    ));
}

#[test]
fn what_answers_an_invite_is_told_to_nobody_who_repeats_it_from_elsewhere() {
    let mut scales = Scales::new();
    scales.from(PEER, &long_invite());
    let cancel = long_invite().replace("INVITE", "CANCEL");
    for message in [long_invite(), cancel.clone()] {
        assert!(scales.from(OTHER, &message).is_empty());
    }
    assert_eq!(statuses(&scales.answer(300).1), ["200"]);
    for message in [long_invite(), cancel] {
        assert!(scales.from(OTHER, &message).is_empty());
        // Nor by a connection, which he can't have made up.
        let flow = Flow::Stream {
            connection: TCP,
            peer: OTHER.parse().unwrap(),
            over: StreamTransport::Tcp,
        };
        let now = scales.bench.now;
        let endpoint = &mut scales.bench.endpoint;
        endpoint.handle_stream(now, flow, message.as_bytes());
        assert!(scales.sent().is_empty());
    }
    assert_eq!(
        scales.bench.endpoint.counters().refused["repeated from elsewhere"],
        6
    );
}

#[test]
fn to_who_may_be_made_up_nothing_goes_by_itself() {
    for refused in [false, true] {
        let mut scales = Scales::new();
        for _ in 0..5 {
            scales.from(PEER, &long_invite());
        }
        let dialog = match scales.bench.events().as_slice() {
            [SipEvent::Invite { dialog, .. }] => *dialog,
            other => panic!("{other:?}"),
        };
        let (now, endpoint) = (scales.bench.now, &mut scales.bench.endpoint);
        if refused {
            endpoint.reject(now, dialog, 404, None, None);
        } else {
            endpoint.answer(now, dialog, Bytes::from_static(b"v=0"));
        }
        assert_eq!(scales.sent().len(), 1);
        assert_eq!(scales.from(PEER, &long_invite()).len(), 1, "he asks again");
        assert!(scales.pass(LONG).is_empty(), "refused: {refused}");
        scales.bench.assert_empty_after(LONG);
    }
}

#[test]
fn a_call_that_goes_on_from_elsewhere_is_found_there_and_hung_up() {
    let (mut scales, dialog, tag) = Scales::answered();
    // Its proxy doesn't stay in the way: the telephone itself acknowledges.
    let asked = scales.from(OTHER, &within("ACK", 1, &tag, "z9hG4bKack"));
    assert_eq!(statuses(&asked), ["OPTIONS"]);
    let answer = |status: &str| answer_to(&asked[0], status);
    scales.from(OTHER, &answer("200 OK"));
    scales.bench.pass(Duration::from_secs(120));
    scales.bench.endpoint.hang_up(scales.bench.now, dialog, 16);
    assert_eq!(statuses(&scales.bench.sent()), ["BYE"]);
    assert_eq!(scales.bench.pass(LONG).len(), 10, "and repeated");
}

#[test]
fn who_knows_nothing_of_the_call_isnt_its_peer() {
    let (mut scales, dialog, tag) = Scales::answered();
    let asked = scales.from(OTHER, &within("ACK", 1, &tag, "z9hG4bKack"));
    let unknown = answer_to(&asked[0], "481 Call/Transaction Does Not Exist");
    scales.from(OTHER, &unknown);
    // Who was told the tag has got it, whoever repeats it.
    scales.came.insert(udp(PEER).peer(), usize::MAX);
    scales.bench.endpoint.hang_up(scales.bench.now, dialog, 16);
    assert_eq!(statuses(&scales.sent()), ["BYE"]);
    let went = scales.went[&udp(OTHER).peer()];
    assert_eq!(statuses(&scales.pass(LONG)), vec!["BYE"; 10]);
    assert_eq!(scales.went[&udp(OTHER).peer()], went, "to him");
}

#[test]
fn who_calls_on_from_elsewhere_is_answered_before_he_is_asked() {
    let (mut scales, _, tag) = Scales::answered();
    scales.from(PEER, &within("ACK", 1, &tag, "z9hG4bKack"));
    let filled =
        |message: String| message.replace("Contact", &format!("X: {}\r\nContact", "x".repeat(600)));
    let asks = filled(within("OPTIONS", 2, &tag, "z9hG4bK2"));
    assert_eq!(statuses(&scales.from(OTHER, &asks)), ["200", "OPTIONS"]);
    let asks = filled(within("OPTIONS", 3, &tag, "z9hG4bK3"));
    assert_eq!(
        statuses(&scales.from(OTHER, &asks)),
        ["200"],
        "he was asked"
    );
}

#[test]
fn where_transactions_run_short_strangers_calls_wait_and_end() {
    let mut bench = Bench::of_a_stranger(|config| config.limits.transactions = 40);
    bench.udp(&long_invite());
    let dialog = match bench.events().as_slice() {
        [SipEvent::Invite { dialog, .. }] => *dialog,
        other => panic!("{other:?}"),
    };
    bench
        .endpoint
        .answer(bench.now, dialog, Bytes::from_static(b"v=0"));
    let tag = to_tag(&bench.sent()[0]);
    bench.udp(&within("ACK", 1, &tag, "z9hG4bKack"));
    let ask = |n| within("OPTIONS", n, &tag, &format!("z9hG4bK{n}"));
    let answers: Vec<String> = (2..60).flat_map(|n| bench.udp(&ask(n))).collect();
    let taken = answers
        .iter()
        .filter(|answer| answer.starts_with("SIP/2.0 200"))
        .count();
    assert_eq!(taken, 29, "30 with the INVITE's");
    let refused = answers.last().unwrap();
    assert!(refused.starts_with("SIP/2.0 500") && header(refused, "Retry-After").is_some());
    assert_eq!(
        statuses(&bench.udp(&within("BYE", 60, &tag, "z9hG4bKbye"))),
        ["200"]
    );
}

#[test]
fn an_answer_that_must_arrive_is_paid_for_like_all_others() {
    let mut scales = Scales::new();
    let required = long_invite().replace("Max-Forwards", "Require: 100rel\r\nMax-Forwards");
    scales.from(PEER, &required);
    let dialog = match scales.bench.events().as_slice() {
        [SipEvent::Invite { dialog, .. }] => *dialog,
        other => panic!("{other:?}"),
    };
    let now = scales.bench.now;
    scales.bench.endpoint.ring(now, dialog);
    let rings = scales.sent();
    assert_eq!(statuses(&rings), ["180"]);
    let rseq = header(&rings[0], "RSeq").unwrap();
    let prack = within("PRACK", 2, &to_tag(&rings[0]), "z9hG4bKpr");
    let prack = prack.replace("Contact", &format!("RAck: {rseq} 1 INVITE\r\nContact"));
    assert_eq!(statuses(&scales.from(PEER, &prack)), ["200"]);
    // It showed that he is there.
    scales
        .bench
        .endpoint
        .answer(now, dialog, vec![b'x'; 3_000].into());
    assert_eq!(statuses(&scales.bench.sent()), ["200"]);
}

#[test]
fn over_a_connection_nobody_is_made_up() {
    let mut bench = Bench::of_a_stranger(|_| {});
    assert_eq!(
        statuses(&bench.tcp(invite().replace("UDP", "TCP").as_bytes())),
        ["100"]
    );
    let events = bench.events();
    let [SipEvent::Invite { dialog, invite }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert!(invite.is_stranger);
    bench
        .endpoint
        .answer(bench.now, *dialog, vec![b'x'; 3_000].into());
    assert_eq!(statuses(&bench.sent()), ["200"]);
}

#[test]
fn a_lost_ack_costs_nobody_his_call_whose_audio_has_come() {
    let (scales, dialog, tag) = Scales::answered();
    let mut bench = scales.bench;
    assert!(bench.pass(Duration::from_secs(1)).is_empty());
    bench.endpoint.heard(dialog);
    let again = bench.pass(Duration::from_secs(3));
    assert_eq!(statuses(&[again[0].1.clone()]), ["200"]);
    bench.udp(&within("ACK", 1, &tag, "z9hG4bKack"));
    assert!(matches!(
        bench.events()[..],
        [SipEvent::Acknowledged { .. }]
    ));
}

#[test]
fn a_tag_that_comes_from_somebody_elses_address_shows_nothing_of_him() {
    let (mut scales, dialog, tag) = Scales::answered();
    scales.from(PEER, &within("ACK", 1, &tag, "z9hG4bKack"));
    // He has shown that he is there; the other one hasn't.
    scales.came.insert(udp(PEER).peer(), usize::MAX);
    for cseq in 0..REQUESTS_BURST as u32 + 50 {
        let branch = format!("z9hG4bK{cseq}");
        scales.from(OTHER, &within("OPTIONS", 2 + cseq, &tag, &branch));
    }
    scales.bench.endpoint.hang_up(scales.bench.now, dialog, 16);
    scales.sent();
    assert_eq!(statuses(&scales.pass(LONG)), vec!["BYE"; 10], "to him");
}

#[test]
fn strangers_all_together_have_a_limit_that_trusted_peers_are_not_held_to() {
    let mut bench = Bench::of_a_stranger(|config| {
        config.limits.newcomers_burst = 40.0;
        config.limits.newcomers_per_second = 10.0;
        config.trusted = vec!["198.18.0.0/16".parse().unwrap()];
    });
    let mut round = 0;
    let mut taken = |bench: &mut Bench, network: &str, calls: u8| {
        let mut taken = 0;
        round += 1;
        for call in 0..calls {
            let unique = format!("{round}.{network}{call}@");
            let text = long_invite()
                .replace("call1@", &unique)
                .replace("z9hG4bKinv", &format!("z9hG4bK{unique}"));
            let peer = format!("{network}{call}:5060");
            bench
                .endpoint
                .handle_datagram(bench.now, udp(&peer), text.as_bytes());
            let sent = bench.sent();
            if sent.is_empty() || statuses(&sent) == ["100"] {
                taken += 1;
            } else {
                assert_eq!(header(&sent[0], "Retry-After"), Some("10"));
            }
        }
        taken
    };
    assert_eq!(taken(&mut bench, "203.0.113.", 100), 40);
    assert_eq!(bench.endpoint.counters().refused["newcomers"], 60);
    assert_eq!(taken(&mut bench, "198.18.0.", 100), 100);
    bench.now += Duration::from_secs(1);
    assert_eq!(taken(&mut bench, "203.0.113.", 100), 10);
}

#[test]
fn the_last_quarter_of_the_room_is_for_trusted_peers() {
    type Room = fn(&mut SipLimits) -> &mut usize;
    for room in [(|limits| &mut limits.dialogs) as Room, |limits| {
        &mut limits.transactions
    }] {
        let mut bench = Bench::of_a_stranger(|config| {
            *room(&mut config.limits) = 8;
            config.trusted = vec!["198.18.0.0/16".parse().unwrap()];
        });
        let mut call = |peer: &str, n: u8| {
            let text = long_invite()
                .replace("call1@", &format!("{n}@"))
                .replace("z9hG4bKinv", &format!("z9hG4bK{n}"));
            bench
                .endpoint
                .handle_datagram(bench.now, udp(peer), text.as_bytes());
            statuses(&bench.sent())
        };
        let strangers: Vec<bool> = (0..8).map(|n| call(PEER, n) != ["503"]).collect();
        assert_eq!(
            strangers,
            [true, true, true, true, true, true, false, false]
        );
        let trusted: Vec<bool> = (8..12)
            .map(|n| call("198.18.0.1:5060", n) != ["503"])
            .collect();
        assert_eq!(trusted, [true, true, false, false]);
    }
}
