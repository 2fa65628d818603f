//! Strangers by the hundred: requests from many addresses that nobody has named to the node, and what they are
//! answered. All on the thread that runs it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::wire::Answer;

pub(crate) struct Crowd {
    hosts: Vec<UdpSocket>,
    server: SocketAddr,
    sent: u32,
    /// Calls that were answered, by their Call-ID: the host, and what it was told.
    taken: BTreeMap<String, (usize, Answer)>,
    pub(crate) answers: Answers,
}

/// What the strangers were told.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) sent: u32,
    /// How often to which method.
    pub(crate) by_status: BTreeMap<(String, u16), u32>,
    /// 503 that doesn't say when to come again.
    pub(crate) without_retry_after: u32,
}

impl Crowd {
    /// So many hosts, each at an address of its own.
    pub(crate) fn gather(hosts: u16, server_port: u16) -> Self {
        let host = |n: u16| {
            let [high, low] = n.to_be_bytes();
            let at = Ipv4Addr::new(127, FIRST_NETWORK + high, low, 7);
            let socket = UdpSocket::bind((at, 0)).expect("a port");
            socket.set_nonblocking(true).expect("set");
            socket
        };
        Self {
            hosts: (0..hosts).map(host).collect(),
            server: SocketAddr::from(([127, 0, 0, 1], server_port)),
            sent: 0,
            taken: BTreeMap::new(),
            answers: Answers::default(),
        }
    }

    /// So many requests a second, by these methods in turn.
    pub(crate) fn storm(&mut self, methods: &[&str], per_second: u32, time: Duration) {
        let began = Instant::now();
        let mut listened = began;
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
            while self.answers.sent < due {
                let method = methods[self.sent as usize % methods.len()];
                self.send_one(method);
            }
            if listened.elapsed() > BETWEEN_LOOKS {
                listened = Instant::now();
                self.listen();
            }
            std::thread::sleep(TURN);
        }
        std::thread::sleep(BETWEEN_LOOKS);
        self.listen();
    }

    fn send_one(&mut self, method: &str) {
        // Each host sends each method.
        let host = (self.sent / 4) as usize % self.hosts.len();
        let request = request(method, self.sent, &self.hosts[host]);
        self.sent += 1;
        self.answers.sent += 1;
        // What the kernel has no room for was one request less.
        let _sent = self.hosts[host].send_to(request.as_bytes(), self.server);
    }

    pub(crate) fn listen(&mut self) {
        let mut buffer = [0; 4_096];
        for (host, socket) in self.hosts.iter().enumerate() {
            while let Ok(length) = socket.recv(&mut buffer) {
                let answer = Answer(String::from_utf8_lossy(&buffer[..length]).into_owned());
                if self.answers.note(&answer) {
                    let call = answer.header("Call-ID").unwrap_or_default().to_owned();
                    self.taken.insert(call, (host, answer));
                }
            }
        }
    }

    /// Acknowledges and ends what was answered, not so fast that the node's socket has no room for it.
    pub(crate) fn leave(&mut self) {
        self.listen();
        for (host, answer) in std::mem::take(&mut self.taken).into_values() {
            for message in [answer.acknowledgement(), answer.following("BYE", 2, "")] {
                let sent = self.hosts[host].send_to(message.as_bytes(), self.server);
                sent.expect("sent");
            }
            std::thread::sleep(TURN);
        }
    }
}

impl Answers {
    /// Is it the 200 of a call?
    fn note(&mut self, answer: &Answer) -> bool {
        let method = answer.header("CSeq").unwrap_or_default();
        let method = method.rsplit(' ').next().unwrap_or_default().to_owned();
        let status = answer.status();
        let is_without = status == 503 && answer.header("Retry-After").is_none();
        self.without_retry_after += u32::from(is_without);
        let is_call = status == 200 && method == "INVITE";
        *self.by_status.entry((method, status)).or_default() += 1;
        is_call
    }

    /// Final answers to this method, by status.
    pub(crate) fn finals(&self, method: &str) -> BTreeMap<u16, u32> {
        let of = self.by_status.iter();
        of.filter(|((of, status), _)| of == method && *status >= 200)
            .map(|((_, status), count)| (*status, *count))
            .collect()
    }
}

fn request(method: &str, number: u32, from: &UdpSocket) -> String {
    let here = from.local_addr().expect("it is bound");
    let body = if method == "INVITE" { OFFER } else { "" };
    let kind = match method {
        "INVITE" => "Content-Type: application/sdp\r\n",
        "MESSAGE" => "Content-Type: text/plain\r\n",
        _ => "",
    };
    format!(
        "{method} sip:2{number:06}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {here};rport;branch=z9hG4bK{number}x{method}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{number}@{here}>;tag=s{number}\r\nTo: <sip:{number}@127.0.0.1>\r\n\
         Call-ID: stranger-{number}\r\nCSeq: 1 {method}\r\nContact: <sip:{number}@{here}>\r\n{kind}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// To a port that nobody listens at, and without audio: who isn't on this machine gets none before his ACK.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n\
    a=inactive\r\n";
/// Their addresses are 127.64.0.7 and so on.
const FIRST_NETWORK: u8 = 64;
const TURN: Duration = Duration::from_millis(1);
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
