//! Literal bytes in, literal bytes out, with a pushed clock.

#![allow(clippy::disallowed_methods)]

mod by_trunk;
mod called;
mod calling;
mod door;
mod early;
mod leaving;
mod midcall;
mod mutations;
mod proving;
mod reliable;
mod service_route;
mod strangers;
mod stream;
mod trunks;

use std::time::Duration;

use super::*;
use crate::config::PerFamily;
use crate::sip::event::StreamTransport;

/// An endpoint, a clock and what it has sent.
struct Bench {
    endpoint: Endpoint,
    now: Instant,
}

const PEER: &str = "192.0.2.7:5060";
const TCP: ConnectionId = ConnectionId(3);

fn udp(peer: &str) -> Flow {
    Flow::Udp {
        socket: 0,
        peer: peer.parse().unwrap(),
    }
}

fn tcp() -> Flow {
    Flow::Stream {
        connection: TCP,
        peer: PEER.parse().unwrap(),
        over: StreamTransport::Tcp,
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// Whose peer nothing speaks for.
    fn of_a_stranger(change: impl FnOnce(&mut EndpointConfig)) -> Self {
        Self::with(|config| {
            config.trusted.clear();
            change(config);
        })
    }

    fn with(change: impl FnOnce(&mut EndpointConfig)) -> Self {
        let mut config = EndpointConfig {
            udp_contacts: vec![PerFamily::both("198.51.100.1:5060".to_owned())],
            tcp_contact: PerFamily::both("198.51.100.1:5060".to_owned()),
            tls_contact: PerFamily::both("sip.example.org:5061".to_owned()),
            trusted: ["192.0.2.0/24", "2001:db8::/32"]
                .map(|network| network.parse().unwrap())
                .to_vec(),
            ..EndpointConfig::default()
        };
        change(&mut config);
        Self {
            endpoint: Endpoint::new(config, 1),
            now: Instant::now(),
        }
    }

    /// One datagram in; what it makes the endpoint send.
    fn udp(&mut self, message: &str) -> Vec<String> {
        self.endpoint
            .handle_datagram(self.now, udp(PEER), message.as_bytes());
        self.sent()
    }

    fn tcp(&mut self, bytes: &[u8]) -> Vec<String> {
        self.endpoint.handle_stream(self.now, tcp(), bytes);
        self.sent()
    }

    fn sent(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.endpoint.poll_transmit())
            .map(|transmit| String::from_utf8(transmit.bytes.to_vec()).unwrap())
            .collect()
    }

    fn events(&mut self) -> Vec<SipEvent> {
        std::iter::from_fn(|| self.endpoint.poll_event()).collect()
    }

    /// Lets time pass, timer by timer; what was sent when, in milliseconds from here.
    fn pass(&mut self, time: Duration) -> Vec<(u128, String)> {
        let (start, end) = (self.now, self.now + time);
        let mut all = Vec::new();
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            let at = (self.now - start).as_millis();
            all.extend(self.sent().into_iter().map(|message| (at, message)));
        }
        self.now = end;
        all
    }

    /// An INVITE that was told; its dialog.
    fn ring(&mut self) -> DialogId {
        let sent = self.udp(&invite());
        assert_eq!(statuses(&sent), ["100"]);
        match self.events().as_slice() {
            [SipEvent::Invite { dialog, .. }] => *dialog,
            other => panic!("{other:?}"),
        }
    }

    /// A call that is up; its dialog and our tag.
    fn call(&mut self) -> (DialogId, String) {
        let dialog = self.ring();
        self.endpoint
            .answer(self.now, dialog, Bytes::from_static(b"v=0\r\nanswer"));
        let sent = self.sent();
        assert_eq!(statuses(&sent), ["200"]);
        let tag = to_tag(&sent[0]);
        assert!(self.udp(&within("ACK", 1, &tag, "z9hG4bKack")).is_empty());
        assert!(matches!(
            self.events().as_slice(),
            [SipEvent::Acknowledged { sdp: None, .. }]
        ));
        (dialog, tag)
    }

    /// Nothing is left when all timers have run.
    fn assert_empty_after(&mut self, time: Duration) {
        self.pass(time);
        assert_eq!(
            (
                self.endpoint.counters.dialogs,
                self.endpoint.counters.transactions
            ),
            (0, 0)
        );
        assert!(self.endpoint.dialog_keys.is_empty() && self.endpoint.server_keys.is_empty());
        assert!(self.endpoint.client_keys.is_empty() && self.endpoint.merge_keys.is_empty());
        assert_eq!(self.endpoint.schedule.len(), 0);
    }
}

fn invite() -> String {
    "INVITE sip:100@198.51.100.1 SIP/2.0\r\n\
     Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bKinv\r\n\
     Max-Forwards: 70\r\n\
     From: \"Alice\" <sip:alice@192.0.2.7>;tag=af\r\n\
     To: <sip:100@198.51.100.1>\r\n\
     Call-ID: call1@192.0.2.7\r\n\
     CSeq: 1 INVITE\r\n\
     Contact: <sip:alice@192.0.2.7:5060>\r\n\
     Content-Type: application/sdp\r\n\
     Content-Length: 10\r\n\r\n\
     v=0\r\noffer"
        .to_owned()
}

/// A request in the dialog of `invite`.
fn within(method: &str, cseq: u32, tag: &str, branch: &str) -> String {
    format!(
        "{method} sip:198.51.100.1:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.7:5060;branch={branch}\r\n\
         Max-Forwards: 70\r\n\
         From: \"Alice\" <sip:alice@192.0.2.7>;tag=af\r\n\
         To: <sip:100@198.51.100.1>;tag={tag}\r\n\
         Call-ID: call1@192.0.2.7\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:alice@192.0.2.7:5060>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn with_body(request: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    request.replace(
        "Content-Length: 0\r\n\r\n",
        &format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

/// The status of each response, the method of each request.
fn statuses(sent: &[String]) -> Vec<String> {
    sent.iter()
        .map(|message| {
            let first = message.split(' ').next().unwrap();
            if first == "SIP/2.0" {
                message.split(' ').nth(1).unwrap().to_owned()
            } else {
                first.to_owned()
            }
        })
        .collect()
}

fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message
        .split("\r\n")
        .find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

fn to_tag(message: &str) -> String {
    header(message, "To")
        .unwrap()
        .rsplit_once(";tag=")
        .unwrap()
        .1
        .to_owned()
}

const LONG: Duration = Duration::from_secs(200);
