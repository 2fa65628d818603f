//! Strangers by UDP who aren't on this machine: audio goes to nobody who didn't ask for it, and who never shows that he
//! is there takes no place from the others.

use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

use super::network::{NODE, TRUNK, in_a_network_of_its_own, stranger};
use crate::asterisk_life::wait_until;
use crate::server::Server;
use crate::switch::{Switch, Traffic};
use crate::wire::{Answer, OFFER, Target, Wire};

#[test]
fn where_a_stranger_has_his_audio_sent_none_goes_before_some_comes() {
    in_a_network_of_its_own(
        "attacks::strangers::where_a_stranger_has_his_audio_sent_none_goes_before_some_comes",
        have_audio_sent_elsewhere,
    );
}

fn have_audio_sent_elsewhere() {
    let server = Server::start_at(NODE, "");
    let mut caller = wire(&server, 1);
    let elsewhere = UdpSocket::bind((stranger(2), 0)).expect("a port");
    elsewhere.set_nonblocking(true).expect("set");
    let port = elsewhere.local_addr().expect("it is bound").port();
    let offer = OFFER
        .replace("IN IP4 127.0.0.1", &format!("IN IP4 {}", stranger(2)))
        .replace("m=audio 9", &format!("m=audio {port}"));
    let up = caller.call(&offer, &[&padding()]);
    let to = SocketAddr::from((NODE, audio_port(&up)));

    sleep(Duration::from_secs(1));
    assert!(heard(&elsewhere).is_empty(), "before he said anything");
    // Whoever calls may forge one as well.
    elsewhere.send_to(&audio(1), to).expect("sent");
    sleep(Duration::from_secs(1));
    let few = heard(&elsewhere);
    assert!((1..=PER_PACKET).contains(&few.len()), "{}", few.len());
    // What only he knows who has got them.
    let name = few[0].get(8..12).expect("the name of our stream");
    elsewhere.send_to(&report(name), to).expect("sent");
    sleep(Duration::from_secs(1));
    let all = heard(&elsewhere).len();
    assert!((40..=55).contains(&all), "{all} packets in a second");
    caller.hang_up(&up);
}

#[test]
fn a_phone_behind_a_nat_hears_all_of_it_though_it_is_silent() {
    in_a_network_of_its_own(
        "attacks::strangers::a_phone_behind_a_nat_hears_all_of_it_though_it_is_silent",
        call_from_behind_a_nat,
    );
}

fn call_from_behind_a_nat() {
    let server = Server::start_at(NODE, "");
    let mut caller = wire(&server, 1);
    let outside = UdpSocket::bind((stranger(1), 0)).expect("a port");
    outside.set_nonblocking(true).expect("set");
    let offer = OFFER.replace("IN IP4 127.0.0.1", "IN IP4 192.168.1.5");
    let up = caller.call(&offer, &[&padding()]);
    let to = SocketAddr::from((NODE, audio_port(&up)));
    for sequence in 1..=20 {
        outside.send_to(&audio(sequence), to).expect("sent");
        sleep(Duration::from_millis(20));
    }
    let _while_he_spoke = heard(&outside);
    let each: Vec<usize> = (0..6)
        .map(|_| {
            sleep(Duration::from_secs(1));
            heard(&outside).len()
        })
        .collect();
    assert!(each.iter().all(|all| (40..=60).contains(all)), "{each:?}");
    caller.hang_up(&up);
}

#[test]
fn strangers_who_do_not_acknowledge_take_a_quarter_of_the_calls_and_all_of_them_three() {
    in_a_network_of_its_own(
        "attacks::strangers::strangers_who_do_not_acknowledge_take_a_quarter_of_the_calls_and_all_of_them_three",
        take_all_calls,
    );
}

fn take_all_calls() {
    let server = Server::start_at(
        NODE,
        &format!(
            "limits.calls = {CALLS}\n[[sip.trunk]]\nname = \"carrier\"\npeers = [\"{TRUNK}\"]\n"
        ),
    );
    let mut silent: Vec<(Wire, Answer)> = (1..=SILENT).map(|n| invite(&server, n)).collect();
    let of_status = |calls: &[(Wire, Answer)], status| {
        let has = |(_, answer): &&(Wire, Answer)| answer.status() == status;
        calls.iter().filter(has).count()
    };
    assert_eq!(of_status(&silent, 200), usize::from(SILENT));
    assert_refused(&invite(&server, SILENT + 1).1);
    assert_a_call_by_the_trunk_is_answered(&server);

    for (wire, ok) in &mut silent {
        wire.send(ok.acknowledgement().as_bytes());
        wire.catch_up(|_| {});
    }
    let mut others = Vec::new();
    for number in SILENT + 1..=CALLS - CALLS / 4 {
        let (mut wire, ok) = invite(&server, number);
        assert_eq!(ok.status(), 200, "{}", ok.0);
        wire.send(ok.acknowledgement().as_bytes());
        wire.catch_up(|_| {});
        others.push((wire, ok));
    }
    assert_refused(&invite(&server, CALLS).1);
    assert_a_call_by_the_trunk_is_answered(&server);
    let refused = "voicebridge_admission_refused_total{reason=\"calls\"}";
    wait_until("counted", Duration::from_secs(5), || {
        server.metric(refused) == 2
    });
    for (mut wire, ok) in silent.into_iter().chain(others) {
        wire.hang_up(&ok);
    }
    wait_until("all are over", Duration::from_secs(5), || {
        server.metric("voicebridge_sip_dialogs") == 0
    });
}

/// By a stranger of his own, who hears the answer and says no more.
fn invite(server: &Server, number: u8) -> (Wire, Answer) {
    let mut wire = wire(server, number);
    let (invite, id) = wire.invite(OFFER, &[&padding()]);
    wire.send(invite.as_bytes());
    let answer = wire.final_answer(&id);
    (wire, answer)
}

fn wire(server: &Server, number: u8) -> Wire {
    let target = Target {
        address: SocketAddr::from((NODE, server.sip_port)),
        server: None,
    };
    target.udp_from(stranger(number))
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status(), 503, "{}", answer.0);
    assert!(answer.header("Retry-After").is_some(), "{}", answer.0);
}

fn assert_a_call_by_the_trunk_is_answered(server: &Server) {
    let one = Traffic {
        calls: 1,
        every: Duration::ZERO,
        held: Duration::ZERO,
        audio: "sendrecv",
    };
    let node = SocketAddr::from((NODE, server.sip_port));
    let brought = Switch::towards(node, TRUNK).bring(&one);
    assert_eq!(brought.answered.len(), 1, "{brought:?}");
}

/// So much that our answer is no longer.
fn padding() -> String {
    format!("Subject: {}", "x".repeat(1_000))
}

fn audio_port(ok: &Answer) -> u16 {
    let mut lines = ok.body().lines();
    let media = lines.find_map(|line| line.strip_prefix("m=audio "));
    let port = media.and_then(|line| line.split(' ').next()?.parse().ok());
    port.expect("a port in the answer")
}

fn heard(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2_000];
    let hear = || {
        let length = socket.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    };
    std::iter::from_fn(hear).collect()
}

/// 20 ms of PCMU.
fn audio(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend([9; 4]);
    packet.extend([0xff; 160]);
    packet
}

/// A receiver's report on that stream (RFC 3550 section 6.4.2).
fn report(stream: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    packet.extend([9; 4]);
    packet.extend(stream);
    packet.extend([0; 20]);
    packet
}

/// What one packet from there has sent there: three of its size, and a report may be due.
const PER_PACKET: usize = 4;
const CALLS: u8 = 40;
/// One more than a quarter, by when it is full.
const SILENT: u8 = CALLS / 4 + 1;
