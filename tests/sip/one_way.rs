//! A caller whose audio doesn't get through, and somebody who sends to his port, as an operator sees them.

use std::net::UdpSocket;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asterisk_life::wait_until;
use crate::bare_phone::{BarePhone, Ear};
use crate::outcomes::wait_for_participants;
use crate::server::Server;

#[test]
fn a_caller_of_whom_nothing_is_heard_is_told_of_and_so_is_who_sends_in_his_place() {
    let server = Server::start_quiet("");
    let meeting = server.book(&json!({}));
    let ear = Ear::new();
    let mut phone = BarePhone::dial(&ear, server.sip_port, "1000", "491", "");
    phone.press(&format!("{}#", meeting.guest));
    wait_for_participants(&server, &meeting.id, 1);
    let people = || server.get(&format!("/v1/meetings/{}/participants", meeting.id));
    let one_way = || people()["items"][0]["quality"]["one_way"] == Value::Bool(true);
    let counted = |line: &str| server.metrics().lines().any(|said| said == line);
    let stranger = UdpSocket::bind("127.0.0.66:0").expect("a port");
    stranger.set_nonblocking(true).expect("set");
    for sequence in 0..300_u16 {
        stranger
            .send_to(&audio(sequence), ("127.0.0.1", phone.audio_port))
            .expect("sent");
        if sequence % 10 == 9 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    wait_until("one way", PATIENCE, one_way);
    wait_until("counted", PATIENCE, || {
        counted("voicebridge_one_way_audio_total 1")
    });
    let refused = "voicebridge_media_packets_refused_total{reason=\"foreign\"} 300";
    wait_until("refused", PATIENCE, || counted(refused));
    assert!(
        stranger.recv(&mut [0; 2_000]).is_err(),
        "he is sent nothing"
    );
    let log = server.log();
    for line in [
        "no audio comes from a caller",
        "packets from elsewhere, or by another key",
    ] {
        assert_eq!(log.matches(line).count(), 1, "{line}");
    }
    wait_until("heard again", PATIENCE, || {
        phone.speak();
        !one_way()
    });
    assert!(counted("voicebridge_one_way_audio_total 1"));
    phone.hang_up();
    let record = server.call_after(0);
    assert_eq!(record["quality"]["one_way"], false, "{record}");
}

/// 20 ms of PCMA.
fn audio(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend([9; 4]);
    packet.extend([0x55; 160]);
    packet
}

/// For what takes ten seconds, on a busy machine somewhat more.
const PATIENCE: Duration = Duration::from_secs(60);
