//! Messages with something broken: no panic, no endless answer, nothing left behind, and the next call
//! is taken.

use super::*;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

const SPICES: [&[u8]; 16] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"\xff\xfe",
    b"\"",
    b"<",
    b">",
    b";",
    b",",
    b":",
    b"=",
    b"%",
    b"[",
    b"@",
    b"18446744073709551616",
];

fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len().max(1)).min(bytes.len());
        let end = (at + dice.roll(12)).min(bytes.len());
        match dice.roll(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, SPICES[dice.roll(SPICES.len())].iter().copied())),
            2 => {
                let copy = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, copy));
            }
            3 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            _ => bytes.truncate(at.max(20)),
        }
    }
}

#[test]
fn broken_messages_never_break_the_endpoint() {
    let mut bench = Bench::with(|config| config.limits.source_invites_burst = 1e9);
    let (dialog, tag) = bench.call();
    let seeds = [
        invite(),
        invite().replace("INVITE", "CANCEL"),
        with_body(&within("INVITE", 2, &tag, "z9hG4bKre"), "application/sdp", "v=0\r\n"),
        with_body(&within("INFO", 3, &tag, "z9hG4bKin"), "application/dtmf-relay", "Signal=1\r\n"),
        within("ACK", 2, &tag, "z9hG4bKak"),
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
         Call-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:x@y>\r\nRecord-Route: <sip:z;lr>\r\nSession-Expires: 90\r\n\r\n"
            .to_owned(),
    ];
    let mut dice = Dice(0x5EED);
    for round in 0..30_000 {
        let mut bytes = seeds[dice.roll(seeds.len())].clone().into_bytes();
        mutate(&mut dice, &mut bytes);
        if round % 3 == 0 {
            bench.endpoint.handle_stream(bench.now, tcp(), &bytes);
        } else {
            bench.endpoint.handle_datagram(bench.now, udp(PEER), &bytes);
        }
        let sent = std::iter::from_fn(|| bench.endpoint.poll_transmit()).count();
        assert!(sent <= 64, "{sent} messages for {bytes:?}");
        for event in bench.events() {
            if let SipEvent::Invite { dialog, .. } = event {
                bench.endpoint.hang_up(bench.now, dialog, 16);
            }
        }
        if bench.endpoint.poll_close().is_some() {
            bench.endpoint.handle_closed(bench.now, TCP);
        }
        bench.now += Duration::from_millis(20);
        bench.endpoint.handle_timeout(bench.now);
        while bench.endpoint.poll_transmit().is_some() {}
    }
    bench.endpoint.hang_up(bench.now, dialog, 16);
    bench.endpoint.handle_closed(bench.now, TCP);
    bench.pass(LONG);
    bench.endpoint.poll_close();
    bench.assert_empty_after(LONG);
    bench.ring();
}

#[test]
fn broken_answers_never_break_our_calls() {
    let mut bench = Bench::with(|config| {
        // Nobody repeats anything here; the time-outs come soon.
        config.timing.t1 = Duration::from_millis(20);
        config.ring_time_max = Duration::from_secs(1);
    });
    let mut dice = Dice(0xACE);
    let mut established = 0;
    for _ in 0..4_000 {
        let (dialog, request) = bench.dial();
        for status in [100, 183, [200, 302, 404, 487, 491, 603][dice.roll(6)]] {
            let text = calling::response(&request, status, "pt")
                .replace("Contact", "Record-Route: <sip:p1;lr>, <sip:p2>\r\nContact");
            let mut bytes = text.into_bytes();
            if dice.roll(3) > 0 {
                mutate(&mut dice, &mut bytes);
            }
            bench.endpoint.handle_datagram(bench.now, udp(PEER), &bytes);
        }
        for event in bench.events() {
            established += u32::from(matches!(event, SipEvent::Established { .. }));
        }
        bench.endpoint.reinvite(bench.now, dialog, Bytes::new());
        bench.endpoint.hang_up(bench.now, dialog, 16);
        bench.sent();
        bench.pass(Duration::from_millis(30));
    }
    assert!(established > 200, "{established}");
    bench.assert_empty_after(LONG);
}
