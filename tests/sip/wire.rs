//! SIP as bytes, without a stack on our side: what tests of the protocol itself say and hear.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::Server;
use crate::sipp::Scenario;

/// Who is tested: the built program, or whom `VOICEBRIDGE_TEST_TARGET` names as `host:port`.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) server: Option<Server>,
}

impl Target {
    pub(crate) fn find() -> Self {
        if let Ok(named) = std::env::var(TARGET) {
            let mut found = named.to_socket_addrs().expect("host:port");
            let address = found.next().expect("an address");
            return Self {
                address,
                server: None,
            };
        }
        // Long enough to say that it rings.
        Self::of(Server::start("limits.ring_ms = 100"))
    }

    pub(crate) fn of(server: Server) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], server.sip_port)),
            server: Some(server),
        }
    }

    pub(crate) fn udp(&self) -> Wire {
        self.udp_from(if self.address.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        })
    }

    /// As [`Self::udp`], from one of this machine's addresses.
    pub(crate) fn udp_from(&self, from: IpAddr) -> Wire {
        let socket = UdpSocket::bind((from, 0)).expect("a socket");
        socket.connect(self.address).expect("a way there");
        socket.set_read_timeout(Some(STEP)).expect("a timeout");
        Wire::new(Way::Udp(socket))
    }

    pub(crate) fn tcp(&self) -> Wire {
        let stream = TcpStream::connect(self.address).expect("connected");
        stream.set_read_timeout(Some(STEP)).expect("a timeout");
        Wire::new(Way::Tcp(stream, Vec::new()))
    }

    /// An ordinary call is answered, and with our own server it gets into a meeting.
    pub(crate) fn takes_a_call(&self) {
        match &self.server {
            Some(server) => {
                let meeting = server.book(&json!({}));
                Scenario::new("uac-pin-in-header")
                    .key("pin", &meeting.guest)
                    .run(server);
            }
            None => {
                let wire = &mut self.udp();
                let call = wire.call("v=0", &[]);
                wire.hang_up(&call);
            }
        }
    }
}

/// One peer, by datagrams or over a stream.
pub(crate) struct Wire {
    way: Way,
    pub(crate) here: SocketAddr,
    pub(crate) closed: bool,
    /// Unlike any other's, in all tests of this process.
    number: u32,
    asked: u32,
}

enum Way {
    Udp(UdpSocket),
    /// With what was read beyond the last message.
    Tcp(TcpStream, Vec<u8>),
}

impl Wire {
    fn new(way: Way) -> Self {
        let here = match &way {
            Way::Udp(socket) => socket.local_addr(),
            Way::Tcp(stream, _) => stream.local_addr(),
        };
        Self {
            way,
            here: here.expect("bound"),
            closed: false,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            asked: 0,
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.way {
            Way::Udp(socket) => drop(socket.send(bytes)),
            // A stream may have been given up by the other side; what comes out of it tells.
            Way::Tcp(stream, _) => drop(stream.write_all(bytes)),
        }
    }

    /// The next message; nothing after a step of silence, or once the stream is closed.
    pub(crate) fn hear(&mut self) -> Option<Answer> {
        self.hear_bytes().map(Answer)
    }

    fn hear_bytes(&mut self) -> Option<String> {
        let mut buffer = [0; 65_535];
        let Way::Tcp(stream, rest) = &mut self.way else {
            let Way::Udp(socket) = &self.way else {
                return None;
            };
            let length = socket.recv(&mut buffer).ok()?;
            return Some(String::from_utf8_lossy(&buffer[..length]).into_owned());
        };
        loop {
            if let Some(message) = take_message(rest) {
                return Some(message);
            }
            match stream.read(&mut buffer) {
                Ok(0) => self.closed = true,
                Ok(length) => {
                    rest.extend_from_slice(&buffer[..length]);
                    continue;
                }
                Err(error) if is_silence(&error) => {}
                Err(_) => self.closed = true,
            }
            return None;
        }
    }

    /// What is said to these bytes: all that comes before the answer to a question asked right after them.
    pub(crate) fn answers_to(&mut self, bytes: &[u8]) -> Vec<Answer> {
        self.send(bytes);
        let mut heard = Vec::new();
        self.catch_up(|answer| heard.push(answer));
        heard
    }

    /// Asks, and waits for the answer: what was sent before has been looked at then.
    pub(crate) fn catch_up(&mut self, mut others: impl FnMut(Answer)) {
        self.asked += 1;
        let id = format!("asked-{}-{}", self.number, self.asked);
        let question = self.request("OPTIONS", 1, &id, "", "");
        let deadline = Instant::now() + PATIENCE;
        self.send(question.as_bytes());
        while !self.closed {
            assert!(Instant::now() < deadline, "nobody answers any more");
            match self.hear() {
                Some(answer) if answer.header("Call-ID") == Some(&id) => return,
                Some(answer) => others(answer),
                None if matches!(self.way, Way::Udp(_)) => self.send(question.as_bytes()),
                None => {}
            }
        }
    }

    /// Waits for what is wanted; all else is passed over.
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.closed {
            if let Some(answer) = self.hear().filter(&wanted) {
                return answer;
            }
        }
        panic!("{what} did not come");
    }

    /// A request of ours. `to` is what follows the address in To; `more` are header lines and, after an
    /// empty line, a body.
    pub(crate) fn request(
        &self,
        method: &str,
        cseq: u32,
        id: &str,
        to: &str,
        more: &str,
    ) -> String {
        let branch = format!("z9hG4bK{id}-{cseq}-{method}");
        self.request_by(&branch, method, cseq, id, to, more)
    }

    pub(crate) fn request_by(
        &self,
        branch: &str,
        method: &str,
        cseq: u32,
        id: &str,
        to: &str,
        more: &str,
    ) -> String {
        let (here, transport) = (self.here, self.transport());
        let (headers, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
        let headers = match headers {
            "" => String::new(),
            some => format!("{}\r\n", some.trim_end()),
        };
        format!(
            "{method} sip:1000@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} {here};rport;branch={branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@{here}>;tag=f{id}\r\nTo: <sip:1000@127.0.0.1>{to}\r\n\
             Call-ID: {id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{here}>\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    const fn transport(&self) -> &'static str {
        match self.way {
            Way::Udp(_) => "UDP",
            Way::Tcp(..) => "TCP",
        }
    }

    /// A new Call-ID.
    pub(crate) fn new_id(&mut self) -> String {
        self.asked += 1;
        format!("call-{}-{}", self.number, self.asked)
    }

    /// An INVITE with this offer and these header lines; its Call-ID too.
    pub(crate) fn invite(&mut self, offer: &str, headers: &[&str]) -> (String, String) {
        let id = self.new_id();
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let more = match offer {
            "" => lines,
            offer => format!("{lines}Content-Type: application/sdp\r\n\r\n{offer}"),
        };
        (self.request("INVITE", 1, &id, "", &more), id)
    }

    /// The final answer to an INVITE, acknowledged where it is a refusal.
    pub(crate) fn final_answer(&mut self, id: &str) -> Answer {
        let answer = self.wait_for("the final answer to an INVITE", |answer| {
            answer.header("Call-ID") == Some(id) && answer.is_final_of("INVITE")
        });
        if answer.status() >= 300 {
            self.send(answer.acknowledgement().as_bytes());
        }
        answer
    }

    /// A call that is up: its 200, acknowledged. `"v=0"` stands for an ordinary offer.
    pub(crate) fn call(&mut self, offer: &str, headers: &[&str]) -> Answer {
        let offer = if offer == "v=0" { OFFER } else { offer };
        let (invite, id) = self.invite(offer, headers);
        self.send(invite.as_bytes());
        let answer = self.final_answer(&id);
        assert_eq!(answer.status(), 200, "{}", answer.0);
        self.send(answer.acknowledgement().as_bytes());
        answer
    }

    /// Ends a call; what it was answered is its 200.
    pub(crate) fn hang_up(&mut self, ok: &Answer) {
        let bye = ok.following("BYE", BYE_CSEQ, "");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.closed {
            self.send(bye.as_bytes());
            while let Some(answer) = self.hear() {
                if answer.is_final_of("BYE") {
                    assert_eq!(answer.status(), 200, "{}", answer.0);
                    return;
                }
                // It had not heard our ACK.
                if answer.is_final_of("INVITE") {
                    self.send(ok.acknowledgement().as_bytes());
                }
            }
        }
        panic!("a BYE was not answered");
    }
}

/// A response.
#[derive(Debug, Clone)]
pub(crate) struct Answer(pub(crate) String);

impl Answer {
    /// 0 for what is no response.
    pub(crate) fn status(&self) -> u16 {
        let status = self.0.strip_prefix("SIP/2.0 ");
        status
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        head.split("\r\n").skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            let found = found.trim();
            (found.eq_ignore_ascii_case(name) || Some(found) == compact(name)).then(|| value.trim())
        })
    }

    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(crate) fn is_final_of(&self, method: &str) -> bool {
        self.status() >= 200
            && self
                .header("CSeq")
                .is_some_and(|cseq| cseq.ends_with(method))
    }

    fn cseq(&self) -> &str {
        let cseq = self.header("CSeq").unwrap_or_default();
        cseq.split_whitespace().next().unwrap_or_default()
    }

    /// The ACK to this final answer (RFC 3261 sections 13.2.2.4 and 17.1.1.3).
    pub(crate) fn acknowledgement(&self) -> String {
        if self.status() < 300 {
            return self.following("ACK", self.cseq().parse().unwrap_or(1), "");
        }
        let via = self.header("Via").unwrap_or_default();
        self.request("ACK", self.cseq(), via, "")
    }

    /// A further request in the dialog that this 200 made.
    pub(crate) fn following(&self, method: &str, cseq: u32, more: &str) -> String {
        let via = self.header("Via").unwrap_or_default();
        let sent_by = via.split(';').next().unwrap_or_default();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let via = format!("{sent_by};rport;branch=z9hG4bKfollowing-{number}");
        self.request(method, &cseq.to_string(), &via, more)
    }

    fn request(&self, method: &str, cseq: &str, via: &str, more: &str) -> String {
        let of = |name| self.header(name).unwrap_or_default();
        let (headers, body) = more.split_once("\r\n\r\n").unwrap_or((more, ""));
        let headers = match headers {
            "" => String::new(),
            some => format!("{}\r\n", some.trim_end()),
        };
        format!(
            "{method} sip:127.0.0.1 SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@127.0.0.1:9>\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            of("From"),
            of("To"),
            of("Call-ID"),
            body.len()
        )
    }
}

fn compact(name: &str) -> Option<&'static str> {
    let (_, short) = [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i")]
        .into_iter()
        .find(|(long, _)| *long == name)?;
    Some(short)
}

/// The first whole message of a stream, or a keep-alive's answer.
fn take_message(stream: &mut Vec<u8>) -> Option<String> {
    if stream.starts_with(b"\r\n") {
        stream.drain(..2);
        return Some("\r\n".to_owned());
    }
    let head = stream.windows(4).position(|four| four == b"\r\n\r\n")?;
    let answer = Answer(String::from_utf8_lossy(&stream[..head]).into_owned());
    let length = answer.header("Content-Length").or(answer.header("l"));
    let body: usize = length.and_then(|l| l.parse().ok()).unwrap_or(0);
    let whole = head + 4 + body;
    (stream.len() >= whole)
        .then(|| String::from_utf8_lossy(&stream.drain(..whole).collect::<Vec<_>>()).into_owned())
}

fn is_silence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut)
}

pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 9 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
const TARGET: &str = "VOICEBRIDGE_TEST_TARGET";
const STEP: Duration = Duration::from_millis(500);
/// Without optimisation, and with others busy, encoding the first prompt takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const BYE_CSEQ: u32 = 2_147_000_000;
static NUMBERS: AtomicU32 = AtomicU32::new(1);
