//! A switch that brings many calls from one socket, as trunks do: each is answered, held for a while and ended, and
//! how long the answers took is noted. All on the thread that runs it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::wire::Answer;

/// What a switch is to bring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) calls: u32,
    /// From one call to the next.
    pub(crate) every: Duration,
    /// From its answer to its end.
    pub(crate) held: Duration,
    /// The direction of its audio, as in SDP. None of it is ever sent.
    pub(crate) audio: &'static str,
}

/// What became of the calls.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    pub(crate) placed: u32,
    /// From each INVITE to its 200, from the shortest.
    pub(crate) answered: Vec<Duration>,
    pub(crate) refused: BTreeMap<u16, u32>,
    /// Nothing final came.
    pub(crate) unanswered: u32,
    /// Ended by their BYE, which was answered.
    pub(crate) ended: u32,
    /// Ended by the other side.
    pub(crate) dropped: u32,
    /// Answers that came again.
    pub(crate) repeated: u32,
    /// How late this switch itself was with a call, at most.
    pub(crate) latest: Duration,
}

pub(crate) struct Switch {
    sip: UdpSocket,
    /// Bound and never read: what comes is dropped where the kernel has no more room for it.
    audio: UdpSocket,
    here: SocketAddr,
    server: SocketAddr,
    name: String,
    calls: HashMap<u32, Call>,
    due: BinaryHeap<Reverse<(Instant, u32)>>,
    brought: Brought,
}

struct Call {
    /// When its INVITE or BYE went out first.
    asked: Instant,
    state: State,
    /// When what is to come next is due; what was due before no longer counts.
    due: Instant,
    to: String,
    /// What is sent again until it is answered.
    request: String,
    again: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Inviting,
    Ringing,
    Up,
    Leaving,
}

impl Switch {
    pub(crate) fn new(from: IpAddr, server_port: u16) -> Self {
        Self::towards(SocketAddr::from(([127, 0, 0, 1], server_port)), from)
    }

    pub(crate) fn towards(server: SocketAddr, from: IpAddr) -> Self {
        let sip = UdpSocket::bind((from, 0)).expect("a port");
        sip.set_nonblocking(true).expect("set");
        let here = sip.local_addr().expect("it is bound");
        Self {
            name: format!("switch-{}", here.port()),
            here,
            audio: UdpSocket::bind((from, 0)).expect("a port"),
            server,
            sip,
            calls: HashMap::new(),
            due: BinaryHeap::new(),
            brought: Brought::default(),
        }
    }

    /// Brings all that, until the last call is over.
    pub(crate) fn bring(mut self, traffic: &Traffic) -> Brought {
        let began = Instant::now();
        while self.brought.placed < traffic.calls || !self.calls.is_empty() {
            let now = Instant::now();
            let next = began + traffic.every * self.brought.placed;
            if self.brought.placed < traffic.calls && next <= now {
                self.brought.latest = self.brought.latest.max(now - next);
                self.place(now, traffic.audio);
            }
            while self.receive(traffic.held) {}
            self.see_to_what_is_due(Instant::now());
            std::thread::sleep(TURN);
        }
        self.brought.answered.sort_unstable();
        self.brought
    }

    fn place(&mut self, now: Instant, audio: &str) {
        let number = self.brought.placed;
        self.brought.placed += 1;
        let (ip, port) = (
            self.here.ip(),
            self.audio.local_addr().expect("bound").port(),
        );
        let offer = format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\na={audio}\r\n"
        );
        let request = self.request("INVITE", number, 1, "", &offer);
        self.send(&request);
        let call = Call {
            asked: now,
            state: State::Inviting,
            due: now,
            to: String::new(),
            request,
            again: T1,
        };
        self.calls.insert(number, call);
        self.wait(number, now + T1);
    }

    /// Looks after a call then, and not before.
    fn wait(&mut self, number: u32, until: Instant) {
        if let Some(call) = self.calls.get_mut(&number) {
            call.due = until;
            self.due.push(Reverse((until, number)));
        }
    }

    fn receive(&mut self, held: Duration) -> bool {
        let mut buffer = [0; 4_096];
        let Ok(length) = self.sip.recv(&mut buffer) else {
            return false;
        };
        let now = Instant::now();
        let message = Answer(String::from_utf8_lossy(&buffer[..length]).into_owned());
        let Some(number) = self.number_of(&message) else {
            return true;
        };
        if message.status() == 0 {
            self.take_request(number, &message);
        } else if message.is_final_of("INVITE") {
            self.take_final(now, number, &message, held);
        } else if message.is_final_of("BYE") {
            if self.calls.remove(&number).is_some() {
                self.brought.ended += 1;
            }
        } else if let Some(call) = self.calls.get_mut(&number)
            && call.state == State::Inviting
        {
            call.state = State::Ringing;
        }
        true
    }

    fn number_of(&self, message: &Answer) -> Option<u32> {
        let id = message.header("Call-ID")?;
        id.strip_prefix(&self.name)?.strip_prefix('-')?.parse().ok()
    }

    fn take_final(&mut self, now: Instant, number: u32, answer: &Answer, held: Duration) {
        let is_yes = answer.status() < 300;
        let to = answer.header("To").unwrap_or_default();
        let acknowledgement = if is_yes {
            self.request("ACK", number, 1, to, "")
        } else {
            answer.acknowledgement()
        };
        self.send(&acknowledgement);
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        if !matches!(call.state, State::Inviting | State::Ringing) {
            self.brought.repeated += 1;
            return;
        }
        if is_yes {
            self.brought.answered.push(now - call.asked);
            call.state = State::Up;
            call.to = to.to_owned();
            self.wait(number, now + held);
        } else {
            *self.brought.refused.entry(answer.status()).or_default() += 1;
            self.calls.remove(&number);
        }
    }

    /// The other side ends a call.
    fn take_request(&mut self, number: u32, request: &Answer) {
        let kept = ["Via", "From", "To", "Call-ID", "CSeq"];
        let headers: String = kept
            .map(|name| format!("{name}: {}\r\n", request.header(name).unwrap_or_default()))
            .concat();
        self.send(&format!(
            "SIP/2.0 200 OK\r\n{headers}Content-Length: 0\r\n\r\n"
        ));
        if request.0.starts_with("BYE") && self.calls.remove(&number).is_some() {
            self.brought.dropped += 1;
        }
    }

    /// Requests that aren't answered go out again (RFC 3261 sections 17.1.1.2 and 17.1.2.2), calls that were held end.
    fn see_to_what_is_due(&mut self, now: Instant) {
        while let Some(Reverse((at, number))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            let Some(call) = self.calls.get(&number).filter(|call| call.due == at) else {
                continue;
            };
            match call.state {
                State::Up => self.leave(now, number),
                _ if now - call.asked > PATIENCE => {
                    self.brought.unanswered += u32::from(call.state != State::Leaving);
                    self.calls.remove(&number);
                }
                State::Ringing => self.wait(number, now + T1),
                State::Inviting | State::Leaving => self.send_again(now, number),
            }
        }
    }

    fn send_again(&mut self, now: Instant, number: u32) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.again *= 2;
        let (request, again) = (call.request.clone(), call.again);
        self.send(&request);
        self.wait(number, now + again);
    }

    fn leave(&mut self, now: Instant, number: u32) {
        let to = self.calls.get(&number).map(|call| call.to.clone());
        let request = self.request("BYE", number, 2, &to.unwrap_or_default(), "");
        self.send(&request);
        if let Some(call) = self.calls.get_mut(&number) {
            call.state = State::Leaving;
            call.asked = now;
            call.request = request;
            call.again = T1;
        }
        self.wait(number, now + T1);
    }

    /// `to`: as it was answered.
    fn request(&self, method: &str, number: u32, cseq: u32, to: &str, body: &str) -> String {
        let (here, name, server) = (self.here, &self.name, self.server);
        let (uri, content) = (
            format!("sip:{MENU}@{server}"),
            if body.is_empty() {
                ""
            } else {
                "Content-Type: application/sdp\r\n"
            },
        );
        let to = if to.is_empty() {
            format!("<{uri}>")
        } else {
            to.to_owned()
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bK{name}-{number}-{method}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{here}>;tag={number}\r\nTo: {to}\r\nCall-ID: {name}-{number}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:{name}@{here}>\r\n{content}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn send(&self, message: &str) {
        // What the kernel has no room for is sent again, like what is lost on the way.
        let _sent = self.sip.send_to(message.as_bytes(), self.server);
    }
}

impl Brought {
    /// How long the answers took that all but this share of them were faster than.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let last = self.answered.len().saturating_sub(1);
        let at = (share * last as f64).round() as usize;
        self.answered.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn share_answered(&self) -> f64 {
        self.answered.len() as f64 / f64::from(self.placed)
    }
}

/// Any number that isn't in the configuration is answered at once with the question for a PIN.
const MENU: &str = "1000";
/// How often what came and what is due is looked at.
const TURN: Duration = Duration::from_micros(250);
/// RFC 3261's estimate of a round trip.
const T1: Duration = Duration::from_millis(500);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(8);
