//! Keys by a handshake with the caller (DTLS-SRTP), behind his checks (ICE) or not, while somebody else tries
//! to be first at every port; and callers who come to no end with it.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::baresip::{PCMA, PCMU, Phone, TALK, Voice, assert_they_heard_each_other};
use crate::outcomes::wait_for_participants;
use crate::server::Server;
use crate::wire::Target;

/// A ClientHello whose only cipher is `TLS_NULL_WITH_NULL_NULL`.
fn null_hello() -> Vec<u8> {
    let mut body = vec![254, 253];
    body.extend([7; 32]);
    body.extend([0, 0, 0, 2, 0, 0, 1, 0]);
    let length = body.len() as u8;
    let mut message = vec![1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length];
    message.extend(body);
    let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, message.len() as u8];
    record.extend(message);
    record
}

/// Sends to all ports until it is told to stop; how many datagrams it was sent itself.
fn spray(server: &Server, stop: &AtomicBool) -> usize {
    let stranger = UdpSocket::bind("127.0.0.66:0").expect("a port");
    stranger.set_nonblocking(true).expect("set");
    let mut heard = 0;
    while !stop.load(Ordering::Relaxed) {
        for port in server.media_ports() {
            // Where nobody listens the kernel says so, at the next packet.
            let _refused = stranger.send_to(&null_hello(), ("127.0.0.1", port));
        }
        while stranger.recv_from(&mut [0; 2_000]).is_ok() {
            heard += 1;
        }
        sleep(Duration::from_millis(20));
    }
    heard
}

fn counted(server: &Server, metric: &str) -> u64 {
    let metrics = server.metrics();
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {metric}"))
}

#[test]
fn callers_whose_keys_come_by_a_handshake_hear_each_other_whoever_says_hello_first() {
    let server = Server::start_quiet("");
    let meeting = server.book(&json!({}));
    let by_handshake = |voice| Voice {
        shakes_hands: true,
        ..voice
    };
    let behind_checks = Voice {
        checks: true,
        ..by_handshake(PCMU)
    };
    let mut phones = [by_handshake(PCMA), behind_checks]
        .map(|voice| Phone::calling(&server, &voice, server.sip_port, "1000"));
    let (stop, all) = (AtomicBool::new(false), 6);
    thread::scope(|scope| {
        let stranger = scope.spawn(|| spray(&server, &stop));
        // Further ones come and go.
        for _ in 2..all {
            let mut phone = Phone::calling(&server, &by_handshake(PCMU), server.sip_port, "1000");
            phone.dial();
        }
        let [first, second] = &mut phones;
        let other = scope.spawn(|| second.enter(&meeting));
        first.enter(&meeting);
        let entered = other.join();
        stop.store(true, Ordering::Relaxed);
        entered.expect("it is in");
        assert_eq!(stranger.join().expect("it ended"), 0, "he is sent nothing");
    });
    wait_for_participants(&server, &meeting.id, 2);
    sleep(TALK);
    let [first, second] = phones;
    assert_they_heard_each_other(first, second);
    let ended = |result: &str| {
        counted(
            &server,
            &format!("voicebridge_handshakes_total{{result=\"{result}\"}}"),
        )
    };
    let results = ["completed", "timed_out", "refused", "unvouched", "too_many"].map(ended);
    assert_eq!(results, [all, 0, 0, 0, 0]);
    let dropped = "voicebridge_handshake_packets_dropped_total{reason=\"foreign\"}";
    assert!(counted(&server, dropped) > 0, "he was there");
    assert!(!server.log().contains("rtc_"), "strangers write the log");
}

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 40000 UDP/TLS/RTP/SAVP 8\r\na=rtcp-mux\r\na=setup:actpass\r\na=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n";

#[test]
fn who_comes_to_no_end_with_it_is_told_why_and_what_cant_be_made_is_refused() {
    let target = Target::find();
    let Some(server) = &target.server else { return };
    let mut wire = target.udp();
    for refused in [
        OFFER.replace("a=rtcp-mux\r\n", ""),
        OFFER.replace("sha-256", "sha-1"),
        OFFER.replace("UDP/TLS/RTP/SAVP", "UDP/DTLS/RTP/SAVP"),
    ] {
        let (invite, id) = wire.invite(&refused, &[]);
        wire.send(invite.as_bytes());
        let answer = wire.final_answer(&id);
        assert_eq!(answer.status(), 488);
        wire.send(answer.acknowledgement().as_bytes());
    }
    let known = 3;
    while server.calls().len() < known {
        sleep(Duration::from_millis(50));
    }
    let began = Instant::now();
    let answer = wire.call(OFFER, &[]);
    let body = answer.body();
    for line in [
        "UDP/TLS/RTP/SAVP 8\r\n",
        "a=fingerprint:sha-256 ",
        "a=setup:passive\r\n",
    ] {
        assert!(body.contains(line), "{body}");
    }
    while server.calls().len() == known {
        assert!(began.elapsed() < Duration::from_secs(60), "it goes on");
        // What comes meanwhile is a BYE, again and again.
        let _bye = wire.hear();
    }
    assert!(began.elapsed() >= Duration::from_secs(9));
    let record = server.call_after(known);
    assert_eq!(
        (&record["q850"], &record["hangup_by"]),
        (&json!(88), &json!("system")),
        "{record}"
    );
    let timed_out = "voicebridge_handshakes_total{result=\"timed_out\"}";
    assert_eq!(counted(server, timed_out), 1);
    assert!(server.log().contains("no keys for a call's audio"));
}
