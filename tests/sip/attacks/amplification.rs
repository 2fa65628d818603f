//! What a forged address is sent: no more than was sent in its name.

#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::network::{NODE, in_a_network_of_its_own, stranger};
use crate::server::Server;
use crate::wire::OFFER;

#[test]
fn a_forged_address_is_sent_no_more_than_came_in_its_name() {
    in_a_network_of_its_own(
        "attacks::amplification::a_forged_address_is_sent_no_more_than_came_in_its_name",
        || measure(Duration::from_secs(5)),
    );
}

#[test]
#[ignore = "takes a minute: until the last answer has been repeated for the last time"]
fn a_forged_address_is_sent_no_more_within_forty_seconds_either() {
    in_a_network_of_its_own(
        "attacks::amplification::a_forged_address_is_sent_no_more_within_forty_seconds_either",
        || measure(Duration::from_secs(40)),
    );
}

fn measure(patience: Duration) {
    let server = Server::start_at(NODE, "");
    let victims: Vec<Victim> = questions(server.sip_port)
        .into_iter()
        .zip(1..)
        .map(|((what, question), host)| {
            // Each has one of his own, for what may be sent is counted by host.
            Victim::ask(what, &question, stranger(host), server.sip_port)
        })
        .collect();
    let began = Instant::now();
    let mut victims = victims;
    let mut again = AGAIN.iter().peekable();
    while began.elapsed() < patience {
        // As a phone does that hears nothing (RFC 3261 section 17.1.1.2).
        if again.next_if(|at| began.elapsed() >= **at).is_some() {
            let told = victims.iter_mut().filter(|victim| victim.what == REPEATED);
            told.for_each(|victim| victim.say(server.sip_port));
        }
        victims.iter_mut().for_each(Victim::listen);
        std::thread::sleep(Duration::from_millis(20));
    }
    for victim in &victims {
        println!("{victim:?}");
    }
    for victim in &victims {
        assert!(victim.sent_to <= victim.sent_by, "{victim:?}");
        assert_eq!(victim.audio, 0, "{victim:?}");
        if ANSWERED.contains(&victim.what) {
            assert!(victim.sent_to > 0, "not answered: {victim:?}");
        }
    }
}

/// In whose name something is sent.
#[derive(Debug)]
struct Victim {
    what: &'static str,
    question: String,
    sip: UdpSocket,
    rtp: UdpSocket,
    sent_by: usize,
    sent_to: usize,
    /// Bytes of audio that he was sent.
    audio: usize,
}

impl Victim {
    fn ask(what: &'static str, question: &str, host: IpAddr, port: u16) -> Self {
        let bind = || {
            let socket = UdpSocket::bind((host, 0)).expect("a port");
            socket.set_nonblocking(true).expect("set");
            socket
        };
        let (sip, rtp) = (bind(), bind());
        let at = |socket: &UdpSocket| socket.local_addr().expect("it is bound");
        let question = question
            .replace("HERE", &at(&sip).to_string())
            .replace("UNIQUE", &at(&sip).port().to_string())
            .replace("c=IN IP4 127.0.0.1", &format!("c=IN IP4 {host}"))
            .replace("m=audio 9", &format!("m=audio {}", at(&rtp).port()));
        let mut victim = Self {
            what,
            question,
            sip,
            rtp,
            sent_by: 0,
            sent_to: 0,
            audio: 0,
        };
        victim.say(port);
        victim
    }

    fn say(&mut self, port: u16) {
        let question = self.question.as_bytes();
        let sent = self.sip.send_to(question, SocketAddr::from((NODE, port)));
        self.sent_by += sent.expect("sent");
    }

    fn listen(&mut self) {
        let mut buffer = [0; 8_192];
        while let Ok(length) = self.sip.recv(&mut buffer) {
            self.sent_to += length;
        }
        while let Ok(length) = self.rtp.recv(&mut buffer) {
            self.audio += length;
        }
    }
}

/// Everything that a stranger may ask.
fn questions(port: u16) -> Vec<(&'static str, String)> {
    let mut all = about_calls(port);
    all.extend(about_nothing(port));
    all
}

fn about_calls(port: u16) -> Vec<(&'static str, String)> {
    let with = |more: &str, body: &str| {
        let more = format!("Contact: <sip:a@HERE>\r\n{more}");
        request(port, "INVITE", &more, body)
    };
    let nothing_in_common = OFFER.replace("0 8 101", "97").replace("telephone", "x");
    let wishes = "Supported: timer, 100rel\r\nSession-Expires: 90\r\n";
    let sdp = "Content-Type: application/sdp\r\n";
    let emergency = with("", OFFER).replace("sip:1@", "sip:112@");
    vec![
        ("INVITE", with("", OFFER)),
        (REPEATED, with("", OFFER)),
        ("INVITE without SDP", with("", "")),
        ("INVITE that supports everything", with(wishes, OFFER)),
        (
            "INVITE with nothing in common",
            with("", &nothing_in_common),
        ),
        ("INVITE for an emergency", emergency),
        ("INVITE that requires", with("Require: x\r\n", OFFER)),
        ("INVITE with SDP that is none", with(sdp, "v=0\r\nx")),
        ("INVITE without Contact", request(port, "INVITE", "", OFFER)),
        ("INVITE of a call that goes on", within(port, "INVITE")),
        ("BYE of no call", within(port, "BYE")),
        ("BYE without a tag", request(port, "BYE", "", "")),
        ("CANCEL of nothing", request(port, "CANCEL", "", "")),
        ("ACK of nothing", within(port, "ACK")),
    ]
}

fn about_nothing(port: u16) -> Vec<(&'static str, String)> {
    let plain = |method: &str| request(port, method, "", "");
    let compact = [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i")];
    let compact = compact
        .iter()
        .fold(plain("OPTIONS"), |text, (long, short)| {
            text.replace(&format!("\n{long}:"), &format!("\n{short}:"))
        });
    let lies = request(port, "OPTIONS", "Content-Length: 99\r\n", "");
    let answer = plain("INVITE")
        .split_once("\r\n")
        .map(|(_, head)| format!("SIP/2.0 200 OK\r\n{head}"));
    vec![
        ("OPTIONS", plain("OPTIONS")),
        ("OPTIONS, compact", compact),
        ("REGISTER", plain("REGISTER")),
        ("MESSAGE", request(port, "MESSAGE", "", "hello")),
        ("SUBSCRIBE", plain("SUBSCRIBE")),
        ("an unknown method", plain("FROBNICATE")),
        ("without Call-ID", plain("OPTIONS").replace("Call-ID", "X")),
        ("without CSeq", plain("INVITE").replace("CSeq", "X")),
        ("a length that lies", lies),
        ("an answer", answer.expect("a line")),
        ("no SIP", "hello\r\n\r\n".to_owned()),
        ("a keep-alive", "\r\n\r\n".to_owned()),
        (
            "a start line alone",
            format!("OPTIONS sip:{NODE} SIP/2.0\r\n\r\n"),
        ),
    ]
}

fn request(port: u16, method: &str, more: &str, body: &str) -> String {
    format!(
        "{method} sip:1@{NODE}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP HERE;branch=z9hG4bKUNIQUE\r\n\
         From: <sip:a@b>;tag=1\r\nTo: <sip:1@b>\r\nCall-ID: UNIQUE\r\nCSeq: 1 {method}\r\n{more}\r\n{body}"
    )
}

fn within(port: u16, method: &str) -> String {
    request(port, method, "", "").replace("<sip:1@b>", "<sip:1@b>;tag=2")
}

const REPEATED: &str = "INVITE that is repeated";
const AGAIN: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1_500)];
/// Those that have to be heard, or nobody could call.
const ANSWERED: [&str; 3] = [REPEATED, "OPTIONS", "REGISTER"];
