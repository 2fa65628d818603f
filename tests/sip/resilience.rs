//! Garbage on the wire, the end of the process, and what is left afterwards.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::outcomes::wait_for_participants;
use crate::server::{Server, signal};
use crate::sipp::Scenario;

fn still_takes_a_call(server: &Server) {
    let meeting = server.book(&json!({}));
    Scenario::new("uac-pin-in-header")
        .key("pin", &meeting.guest)
        .run(server);
}

/// The answer to one request, sent again as RFC 3261 §17.1.2 has it until an answer comes.
fn ask(server: &Server, datagram: &[u8]) -> Option<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .expect("a timeout");
    let mut buffer = [0; 65_535];
    (0..7).find_map(|_| {
        socket
            .send_to(datagram, ("127.0.0.1", server.sip_port))
            .expect("sent");
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

pub(crate) fn options(extra: &str) -> String {
    format!(
        "OPTIONS sip:1000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bK-{}\r\n\
         From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:1000@127.0.0.1>\r\nCall-ID: {}\r\nCSeq: 1 OPTIONS\r\n{extra}\r\n",
        extra.len(),
        extra.len(),
    )
}

#[test]
fn oversized_and_garbled_messages_cost_nobody_a_call() {
    let server = Server::start("");
    let meeting = server.book(&json!({}));
    let call = Scenario::new("uac-right-pin")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);

    let many_headers = "X-Padding: 1\r\n".repeat(2_000);
    let long_header = format!("X-Padding: {}\r\n", "x".repeat(60_000));
    for oversized in [many_headers, long_header] {
        let answer = ask(&server, options(&oversized).as_bytes());
        assert!(answer.is_none_or(|a| a.starts_with("SIP/2.0 4") || a.starts_with("SIP/2.0 5")));
    }
    let mut state = 7_u32;
    for length in 0..600 {
        let garbage: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket
            .send_to(&garbage, ("127.0.0.1", server.sip_port))
            .expect("sent");
        let mut cut = options("").into_bytes();
        cut.truncate(length);
        socket
            .send_to(&cut, ("127.0.0.1", server.sip_port))
            .expect("sent");
    }
    let latin1 = [b"OPTIONS sip:1000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;rport;branch=z9hG4bKl\r\nFrom: \"Nicol\xf2\" <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:1000@127.0.0.1>\r\nCall-ID: latin\r\nCSeq: 1 OPTIONS\r\n\r\n".as_slice()].concat();
    assert!(ask(&server, &latin1).is_some_and(|a| a.starts_with("SIP/2.0 200")));

    call.finish("the call that was up meanwhile");
    still_takes_a_call(&server);
}

#[test]
fn one_bad_message_on_a_tcp_connection_does_not_cost_its_other_calls() {
    let server = Server::start("");
    let mut stream = TcpStream::connect(("127.0.0.1", server.sip_port)).expect("connected");
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout");
    let bad = "OPTIONS sip:1000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKbad\r\nnonsense\r\nContent-Length: 0\r\n\r\n";
    let good = options("Content-Length: 0\r\n").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    stream.write_all(bad.as_bytes()).expect("written");
    stream.write_all(good.as_bytes()).expect("written");
    let mut answers = String::new();
    let mut buffer = [0; 4_096];
    while !answers.contains("SIP/2.0 200") {
        let length = stream.read(&mut buffer).expect("the good one is answered");
        assert!(length > 0, "the connection was closed: {answers}");
        answers.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    still_takes_a_call(&server);
}

#[test]
fn sigterm_lets_calls_end_and_then_the_process_ends_by_itself() {
    let mut server = Server::start("");
    let meeting = server.book(&json!({}));
    let call = Scenario::new("uac-bye-lost")
        .key("pin", &meeting.guest)
        .start(&server);
    wait_for_participants(&server, &meeting.id, 1);
    signal(server.pid(), "TERM");
    std::thread::sleep(Duration::from_millis(300));
    Scenario::new("uac-node-full").run(&server);
    call.finish("the call that was up at SIGTERM: BYE at the end of the drain");
    let (took, success) = server.terminate();
    assert!(
        success && took < Duration::from_secs(10),
        "{took:?} {success}"
    );
    let checked = Command::new("sqlite3")
        .arg(server.database())
        .arg("PRAGMA integrity_check; SELECT outcome FROM calls;")
        .output()
        .expect("sqlite3 is installed (scripts/install-test-deps)");
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "ok\njoined\n");
}

#[test]
fn bookings_and_pins_survive_kill_9() {
    let mut server = Server::start("");
    let meeting = server.book(&json!({"external_id": "room 7"}));
    server.kill_and_restart();
    let after = server.get("/v1/meetings/by-external-id/room%207");
    assert_eq!(after["pins"]["guest"], meeting.guest.as_str());
    assert_eq!(after["pins"]["host"], meeting.host.as_str());
    Scenario::new("uac-right-pin")
        .key("pin", &meeting.host)
        .run(&server);
}
