//! Somebody tries out what there is: extensions, numbers, PINs.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::json;

use crate::server::Server;
use crate::wire::{Answer, OFFER, Target, Wire};

#[test]
fn who_tries_out_extensions_learns_nothing_of_them() {
    let server = Server::start_quiet(NUMBER);
    let meeting = server.book(&json!({}));
    let not_ours = ["100", "1000", "admin", "9182736455", &meeting.guest];
    let anything = || not_ours.into_iter().chain(["+390612300"]);
    let mut wire = scanner(&server);
    for method in ["OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "PUBLISH"] {
        let told = anything().map(|user| ask(&mut wire, method, user).shape());
        expect_one(method, told.collect());
    }
    let told = not_ours.iter().map(|user| {
        let answer = ask(&mut wire, "INVITE", user);
        assert_eq!(answer.status(), 404, "{}", answer.0);
        answer.shape()
    });
    expect_one("INVITE", told.collect());
    assert_eq!(server.metric("voicebridge_legs{kind=\"sip\"}"), 0);
}

#[test]
fn whether_there_is_a_pin_is_not_told_by_the_answer_to_a_call_that_brings_it() {
    let server = Server::start_quiet(NUMBER);
    let meeting = server.book(&json!({}));
    server.remember(&["9182736455"]);
    let mut wire = scanner(&server);
    let told = ["9182736455", &meeting.guest, "1"].map(|pin| {
        let answer = ask(&mut wire, "INVITE", &format!("+390612300;pin={pin}"));
        assert_eq!(answer.status(), 200, "{}", answer.0);
        wire.hang_up(&answer);
        answer.shape()
    });
    expect_one("a PIN", told.into());
}

fn scanner(server: &Server) -> Wire {
    let address = SocketAddr::from(([127, 0, 0, 1], server.sip_port));
    let target = Target {
        address,
        server: None,
    };
    target.udp()
}

/// The final answer to a request for this user.
fn ask(wire: &mut Wire, method: &str, user: &str) -> Answer {
    let id = wire.new_id();
    let more = if method == "INVITE" {
        format!("Content-Type: application/sdp\r\n\r\n{OFFER}")
    } else {
        String::new()
    };
    let request = wire.request(method, 1, &id, "", &more);
    let request = request.replace("sip:1000@", &format!("sip:{user}@"));
    wire.send(request.as_bytes());
    let answer = wire.wait_for("an answer", |answer| {
        assert_no_banner(answer);
        answer.is_final_of(method) && answer.header("Call-ID") == Some(id.as_str())
    });
    if method == "INVITE" {
        wire.send(answer.acknowledgement().as_bytes());
    }
    answer
}

/// Who we are, and in which version, is nobody's business.
fn assert_no_banner(answer: &Answer) {
    for name in ["Server", "User-Agent", "Organization", "X-Powered-By"] {
        assert_eq!(answer.header(name), None, "{}", answer.0);
    }
    let said = answer.0.to_lowercase();
    assert!(!said.contains("voicebridge"), "{}", answer.0);
}

impl Answer {
    /// What can be told of it apart from what the request itself said and what differs from call to call.
    fn shape(&self) -> String {
        let of_the_call = [
            "via",
            "from",
            "to",
            "call-id",
            "cseq",
            "contact",
            "content-length",
        ];
        let line = |line: &str| {
            let name = line.split(':').next().unwrap_or_default().to_lowercase();
            if of_the_call.contains(&name.as_str()) {
                return name;
            }
            match line.split('=').next() {
                Some("o") => "o=".to_owned(),
                Some("m") => line.split(' ').skip(2).collect::<Vec<_>>().join(" "),
                _ => line.to_owned(),
            }
        };
        self.0.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn expect_one(what: &str, told: BTreeSet<String>) {
    assert_eq!(told.len(), 1, "{what}: {told:#?}");
}

/// The only one that is ours.
const NUMBER: &str = "[[number]]\nnumber = \"+390612300\"\nlanguage = \"it\"\n";
