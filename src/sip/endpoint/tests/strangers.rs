//! Who calls by UDP without anybody's word for him: no more goes to him than came, until he shows that he is there.

use super::*;
use crate::sip::dialog::REQUESTS_BURST;

const OTHER: &str = "192.0.2.99:5060";

/// Somebody whose datagrams are counted, and what goes back to him.
struct Scales {
    bench: Bench,
    came: usize,
    went: usize,
}

impl Scales {
    fn new() -> Self {
        Self {
            bench: Bench::of_a_stranger(|_| {}),
            came: 0,
            went: 0,
        }
    }

    fn from(&mut self, peer: &str, message: &str) -> Vec<String> {
        self.came += message.len();
        let bytes = message.as_bytes();
        let now = self.bench.now;
        self.bench.endpoint.handle_datagram(now, udp(peer), bytes);
        let sent = self.bench.sent();
        self.weigh(&sent);
        sent
    }

    fn weigh(&mut self, sent: &[String]) {
        self.went += sent.iter().map(String::len).sum::<usize>();
        let (came, went) = (self.came, self.went);
        assert!(went <= came, "{went} bytes for {came}");
    }

    fn answer(&mut self, sdp_bytes: usize) -> (DialogId, Vec<String>) {
        let events = self.bench.events();
        let [SipEvent::Invite { dialog, invite }] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert!(invite.is_stranger);
        let (now, sdp) = (self.bench.now, "x".repeat(sdp_bytes));
        self.bench.endpoint.answer(now, *dialog, sdp.into());
        let sent = self.bench.sent();
        self.weigh(&sent);
        (*dialog, sent)
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        let sent: Vec<String> = self.bench.pass(time).into_iter().map(|(_, m)| m).collect();
        self.weigh(&sent);
        sent
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
                let sent = scales.bench.sent();
                scales.weigh(&sent);
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
fn where_an_answer_is_long_in_coming_who_asks_again_is_told_that_it_is() {
    let mut scales = Scales::new();
    scales.from(PEER, &long_invite());
    assert_eq!(statuses(&scales.from(PEER, &long_invite())), ["100"]);
    assert_eq!(statuses(&scales.answer(300).1), ["200"]);
}

#[test]
fn a_lost_ack_costs_nobody_his_call_whose_audio_has_come() {
    let mut scales = Scales::new();
    scales.from(PEER, &long_invite());
    let (dialog, sent) = scales.answer(300);
    let tag = to_tag(&sent[0]);
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
    let mut scales = Scales::new();
    scales.from(PEER, &long_invite());
    let (dialog, sent) = scales.answer(300);
    let tag = to_tag(&sent[0]);
    scales.from(PEER, &within("ACK", 1, &tag, "z9hG4bKack"));
    (scales.came, scales.went) = (0, 0);
    for cseq in 0..REQUESTS_BURST as u32 + 50 {
        let branch = format!("z9hG4bK{cseq}");
        scales.from(OTHER, &within("OPTIONS", 2 + cseq, &tag, &branch));
    }
    scales.bench.endpoint.hang_up(scales.bench.now, dialog, 16);
    let sent = scales.bench.sent();
    scales.weigh(&sent);
    scales.pass(LONG);
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
