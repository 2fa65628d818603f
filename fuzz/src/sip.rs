//! The SIP endpoint, whole: guard, parser, transactions, dialogs; offers and answers with their keys.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use voicebridge::config::{PerFamily, Secret};
use voicebridge::media::codec::Codec;
use voicebridge::media::parameters::Direction;
use voicebridge::sip::event::{ConnectionId, DialogId, Flow, SipEvent, StreamTransport, TrunkId};
use voicebridge::sip::sdes::{LocalKeys, RANDOM_BYTES};
use voicebridge::sip::sdp::{self, LocalMedia};
use voicebridge::sip::{Credentials, Endpoint, EndpointConfig, RegistrarSettings, TrunkSettings};

use super::{records, start};

/// Datagrams one after the other; `$TAG` in them is what we called the last dialog.
pub fn sip_datagrams(data: &[u8]) {
    let mut node = Node::new();
    for message in records(data).take(16) {
        node.datagram(message);
    }
    node.end();
}

/// One connection; the first byte says how it is cut into pieces.
pub fn sip_stream(data: &[u8]) {
    let (size, data) = data.split_first().unwrap_or((&0, &[]));
    let mut node = Node::new();
    for piece in data.chunks(1 + usize::from(*size)).take(4_096) {
        node.stream(piece);
    }
    node.end();
}

/// What a registrar answers: status, reason, header lines and body. Those that every answer has are put in.
pub fn sip_registrar(data: &[u8]) {
    let mut node = Node::new();
    let local = "198.51.100.1:5060";
    let (now, flow) = (node.now, node.peer());
    node.endpoint.trunk_reached(now, TrunkId(0), flow, local);
    for answer in records(data).take(8) {
        node.settle();
        let Some(request) = node.last_request.take() else {
            break;
        };
        let text = String::from_utf8_lossy(answer);
        let (status, more) = text.split_once("\r\n").unwrap_or((&text, "\r\n"));
        let repeated: String = request
            .split("\r\n")
            .filter(|line| {
                ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
                    .iter()
                    .any(|name| line.starts_with(name))
            })
            .map(|line| format!("{line}\r\n"))
            .collect();
        node.datagram(format!("SIP/2.0 {status}\r\n{repeated}{more}").as_bytes());
        node.pass(Duration::from_secs(40));
    }
    let now = node.now;
    node.endpoint.leave_trunks(now);
    node.pass(Duration::from_secs(120));
}

/// An offer, as it is answered with and without keys.
pub fn sdp_offers(data: &[u8]) {
    for keys in [None, keys(), keys().map(LocalKeys::required)] {
        let mut local = LocalMedia { keys, ..ours() };
        if let Ok((agreed, answer)) = sdp::answer(data, &local) {
            local.agreed(&agreed);
            let text = std::str::from_utf8(&answer).expect("what we write is text");
            assert!(text.starts_with("v=0\r\n") && text.ends_with("\r\n"));
            assert!(!text.contains("\r\n\r\n") && !text.contains('\0'));
            assert!(sdp::answer(data, &local).is_ok(), "once taken, taken again");
        }
    }
}

/// An answer to an offer of ours, with and without keys.
pub fn sdp_answers(data: &[u8]) {
    for keys in [None, keys(), keys().map(LocalKeys::required)] {
        let mut local = LocalMedia { keys, ..ours() };
        let _offer = sdp::offer(&local);
        if let Ok(agreed) = sdp::accept(data, &local) {
            local.agreed(&agreed);
            let _offer = sdp::offer(&local);
        }
    }
}

/// An endpoint with a peer who sends it anything, and a gateway that rings, answers, refuses or hangs up.
pub struct Node {
    endpoint: Endpoint,
    now: Instant,
    tag: String,
    last_request: Option<String>,
    open: Vec<DialogId>,
    told: usize,
    closed: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    #[must_use]
    pub fn new() -> Self {
        let registrar = RegistrarSettings {
            host_port: "sip.example.net".to_owned(),
            user: "node".to_owned(),
        };
        let credentials = Credentials {
            user: "node".to_owned(),
            password: Secret::new("secret"),
        };
        let mut config = EndpointConfig {
            udp_contacts: vec![contact()],
            tcp_contact: contact(),
            trunks: vec![TrunkSettings {
                peers: Vec::new(),
                trust_identity: true,
                registrar: Some(registrar),
                credentials: Some(credentials),
                ..TrunkSettings::default()
            }],
            ..EndpointConfig::default()
        };
        config.limits.source_invites_burst = 1e9;
        Self {
            endpoint: Endpoint::new(config, 1),
            now: start(),
            tag: "none".to_owned(),
            last_request: None,
            open: Vec::new(),
            told: 0,
            closed: false,
        }
    }

    fn peer(&self) -> Flow {
        let peer = SocketAddr::from(([192, 0, 2, 7], 5060));
        Flow::Udp { socket: 0, peer }
    }

    pub fn datagram(&mut self, bytes: &[u8]) {
        let (now, flow) = (self.now, self.peer());
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("$TAG") => {
                let text = text.replace("$TAG", &self.tag);
                self.endpoint.handle_datagram(now, flow, text.as_bytes());
            }
            Ok(_) | Err(_) => self.endpoint.handle_datagram(now, flow, bytes),
        }
        self.settle();
        self.pass(Duration::from_millis(100));
    }

    pub fn stream(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        let flow = Flow::Stream {
            connection: CONNECTION,
            peer: SocketAddr::from(([192, 0, 2, 8], 40_000)),
            over: StreamTransport::Tcp,
        };
        self.endpoint.handle_stream(self.now, flow, bytes);
        self.settle();
        self.pass(Duration::from_millis(1));
    }

    /// Lets all timers of this time run.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..TIMERS_MAX {
            let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.settle();
        }
        panic!("timers without end");
    }

    /// All calls end, and nothing is left of any.
    pub fn end(&mut self) {
        for dialog in std::mem::take(&mut self.open) {
            self.endpoint.hang_up(self.now, dialog, 16);
            self.settle();
        }
        self.endpoint.handle_closed(self.now, CONNECTION);
        self.settle();
        // The last 200 is repeated for 32 s, the BYE after it as long, and timers of the answers follow.
        self.pass(Duration::from_secs(300));
        let counters = self.endpoint.counters();
        let left = (counters.dialogs, counters.transactions);
        assert_eq!(left, (0, 0), "dialogs and transactions that stay");
    }

    /// The peer comes back with a new connection, where his was closed or holds part of a message.
    pub fn reopen(&mut self) {
        self.endpoint.handle_closed(self.now, CONNECTION);
        self.settle();
        self.closed = false;
    }

    /// One more INVITE is told.
    #[must_use]
    pub fn takes_a_call(&mut self) -> bool {
        let before = self.told;
        self.datagram(
            b"INVITE sip:100@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKlast-one\r\n\
              From: <sip:a@192.0.2.7>;tag=last\r\nTo: <sip:100@198.51.100.1>\r\nCall-ID: last-one\r\n\
              CSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.7>\r\nContent-Length: 0\r\n\r\n",
        );
        self.told == before + 1
    }

    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(transmit) = self.endpoint.poll_transmit() {
                self.note(&transmit.bytes);
            }
            while let Some(event) = self.endpoint.poll_event() {
                moved = true;
                self.hear(event);
            }
            if self.endpoint.poll_close().is_some() {
                moved = true;
                self.closed = true;
                self.endpoint.handle_closed(self.now, CONNECTION);
            }
            if !moved {
                return;
            }
        }
    }

    /// What we send is whole, and no line of it is broken by what we were sent.
    fn note(&mut self, sent: &Bytes) {
        if &sent[..] == b"\r\n" {
            return;
        }
        let text = std::str::from_utf8(sent).expect("what we write is text");
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        assert!(!head.replace("\r\n", "").contains(['\r', '\n', '\0']));
        if text.starts_with("SIP/2.0 ") {
            let to = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("To: "));
            if let Some((_, tag)) = to.and_then(|to| to.rsplit_once(";tag=")) {
                tag.clone_into(&mut self.tag);
            }
        } else {
            self.last_request = Some(text.to_owned());
        }
    }

    fn hear(&mut self, event: SipEvent) {
        let now = self.now;
        match event {
            SipEvent::Invite { dialog, .. } => {
                self.told += 1;
                self.open.push(dialog);
                if self.open.len() > OPEN_MAX {
                    let first = self.open.remove(0);
                    self.endpoint.hang_up(now, first, 16);
                }
                self.endpoint.ring(now, dialog);
                let sdp = Bytes::from_static(b"v=0\r\n");
                match self.told % 4 {
                    0 => self.endpoint.reject(now, dialog, 486, None, Some("busy")),
                    1 | 2 => self.endpoint.answer(now, dialog, sdp),
                    _ => {}
                }
            }
            SipEvent::Acknowledged { dialog, .. } => {
                if self.told.is_multiple_of(3) {
                    let sdp = Bytes::from_static(b"v=0\r\n");
                    self.endpoint.reinvite(now, dialog, sdp);
                }
            }
            SipEvent::Reinvite { dialog, sdp } => match sdp {
                Some(sdp) if sdp.len() % 2 == 1 => self.endpoint.reject_reinvite(now, dialog, 488),
                Some(_) | None => {
                    let sdp = Bytes::from_static(b"v=0\r\n");
                    self.endpoint.answer_reinvite(now, dialog, sdp);
                }
            },
            SipEvent::Cancelled { dialog }
            | SipEvent::Bye { dialog, .. }
            | SipEvent::Lost { dialog }
            | SipEvent::Failed { dialog, .. } => self.open.retain(|open| *open != dialog),
            SipEvent::Info {
                content_type, body, ..
            } => {
                let _key = voicebridge::sip::dtmf_info::parse(&content_type, &body);
            }
            SipEvent::Provisional { .. }
            | SipEvent::Established { .. }
            | SipEvent::Refreshed { .. }
            | SipEvent::OtherRealm { .. }
            | SipEvent::ReinviteFailed { .. }
            | SipEvent::Trunk { .. } => {}
        }
    }
}

fn ours() -> LocalMedia {
    LocalMedia {
        address: std::net::IpAddr::from([198, 51, 100, 1]),
        other: None,
        by_other: false,
        rtp_port: 20_000,
        codecs: vec![Codec::Opus, Codec::G722, Codec::Pcma, Codec::Pcmu],
        session_id: 7,
        session_version: 1,
        direction: Direction::SendRecv,
        prefer_own_order: false,
        keys: None,
        handshake: None,
    }
}

fn keys() -> Option<LocalKeys> {
    LocalKeys::new(&[7; RANDOM_BYTES])
}

const CONNECTION: ConnectionId = ConnectionId(3);
/// A gateway's callers don't stay for ever either.
const OPEN_MAX: usize = 100;
const TIMERS_MAX: usize = 20_000;

fn contact() -> PerFamily<String> {
    PerFamily::both("198.51.100.1:5060".to_owned())
}
