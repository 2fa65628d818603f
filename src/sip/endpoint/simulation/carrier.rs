//! Calls of ours by a trunk, over the same bad link, to a carrier that challenges, forks, answers early and
//! reliably, changes its mind, and is sometimes somebody else: whatever happens, each call ends once, each answer is
//! acknowledged, no branch is left talking, and the credentials are for the trunk alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dice, *};
use crate::config::Secret;
use crate::sip::Credentials;

const TRUNK: &str = "192.0.2.50:5060";
const ROGUE: &str = "203.0.113.66:5060";
const T1: Duration = Duration::from_millis(500);

/// What one INVITE of ours meets.
#[derive(Default)]
struct Called {
    /// Which answers wait for their ACK, by To tag, and how often they were sent.
    open: BTreeMap<String, u32>,
    /// Branches that have said 200 and not yet been ended.
    talking: BTreeSet<String>,
    /// Reliable provisional answers that wait for their PRACK.
    early: BTreeSet<u32>,
    /// The branch that has answered early.
    early_tag: Option<String>,
    over: bool,
    accepted: bool,
}

/// The other side: as much of a carrier as asks something of us.
struct Carrier {
    dice: Dice,
    /// By Call-ID and CSeq of the INVITE.
    calls: BTreeMap<(String, String), (String, Called)>,
    tags: u32,
    leaks: u32,
    answered: u32,
}

/// Something on its way, or to be done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToUs {
        from: &'static str,
        text: String,
    },
    ToCarrier {
        rogue: bool,
        text: String,
    },
    Answer {
        call: (String, String),
    },
    Repeat {
        call: (String, String),
        tag: String,
        text: String,
    },
    RepeatEarly {
        call: (String, String),
        number: u32,
        text: String,
        left: u32,
    },
    Dial,
    HangUp(DialogId),
    Offer(DialogId),
}

struct Sky {
    now: Instant,
    endpoint: Endpoint,
    carrier: Carrier,
    dice: Dice,
    loss: u64,
    agenda: BTreeSet<(Instant, u64, Event)>,
    order: u64,
    /// Whether each call has ended, and whether it was up.
    heard: BTreeMap<DialogId, (u32, bool)>,
}

fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text
        .split("\r\n")
        .find(|line| line.starts_with(&format!("{name}: ")));
    line.map_or("", |line| &line[name.len() + 2..])
}

fn reply(request: &str, status: u16, tag: &str, lines: &str, body: &str) -> String {
    let to = value(request, "To").split(";tag=").next().unwrap();
    format!(
        "SIP/2.0 {status} X\r\nVia: {}\r\nFrom: {}\r\nTo: {to};tag={tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:b@192.0.2.50>\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        value(request, "Via"),
        value(request, "From"),
        value(request, "Call-ID"),
        value(request, "CSeq"),
        body.len(),
    )
}

fn key_of(text: &str) -> (String, String) {
    let number = value(text, "CSeq").split(' ').next().unwrap();
    (value(text, "Call-ID").to_owned(), number.to_owned())
}

impl Sky {
    fn new(seed: u64) -> Self {
        let config = EndpointConfig {
            udp_contacts: vec![PerFamily::both("192.0.2.1:5060".to_owned())],
            trunks: vec![TrunkSettings {
                credentials: Some(Credentials {
                    user: "gw".to_owned(),
                    password: Secret::new("canary"),
                }),
                realm: Some("ours".to_owned()),
                ..TrunkSettings::default()
            }],
            ..EndpointConfig::default()
        };
        let mut endpoint = Endpoint::new(config, seed);
        let now = Instant::now();
        endpoint.trunk_reached(now, TrunkId(0), flow(TRUNK), "192.0.2.1:5060");
        Self {
            now,
            endpoint,
            carrier: Carrier {
                dice: Dice(seed * 2 + 7),
                calls: BTreeMap::new(),
                tags: 0,
                leaks: 0,
                answered: 0,
            },
            dice: Dice(seed * 2 + 1),
            loss: seed % 5 * 8,
            agenda: BTreeSet::new(),
            order: 0,
            heard: BTreeMap::new(),
        }
    }

    fn plan(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.agenda.insert((self.now + after, self.order, event));
    }

    /// Over the link: lost, late, twice.
    fn cross(&mut self, event: &Event) {
        for _ in 0..=u64::from(self.dice.roll(10) == 0) {
            if self.dice.roll(100) >= self.loss {
                let delay = 5 + self.dice.roll(60) * self.dice.roll(10);
                self.plan(Duration::from_millis(delay), event.clone());
            }
        }
    }

    fn reach_us(&mut self, text: String) {
        self.cross(&Event::ToUs { from: TRUNK, text });
    }

    fn run(&mut self) {
        for _ in 0..100_000 {
            let timer = self.endpoint.poll_timeout();
            let event = self.agenda.first().map(|(at, ..)| *at);
            let Some(next) = [timer, event].into_iter().flatten().min() else {
                return;
            };
            self.now = self.now.max(next);
            if timer.is_some_and(|at| at <= self.now) {
                self.endpoint.handle_timeout(self.now);
            }
            if event.is_some_and(|at| at <= self.now)
                && let Some((_, _, event)) = self.agenda.pop_first()
            {
                self.happen(event);
            }
            self.drain();
        }
        panic!("it never ends");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToUs { from, text } => {
                let now = self.now;
                self.endpoint
                    .handle_datagram(now, flow(from), text.as_bytes());
            }
            Event::ToCarrier { rogue, text } => self.carrier_hears(rogue, &text),
            Event::Answer { call } => self.answer(&call),
            Event::Repeat { call, tag, text } => self.repeat(call, tag, text),
            Event::RepeatEarly {
                call,
                number,
                text,
                left,
            } => {
                let waits = self.carrier.calls.get(&call);
                if left > 0 && waits.is_some_and(|(_, called)| called.early.contains(&number)) {
                    self.reach_us(text.clone());
                    let left = left - 1;
                    self.plan(
                        T1 * 2,
                        Event::RepeatEarly {
                            call,
                            number,
                            text,
                            left,
                        },
                    );
                }
            }
            Event::Dial => {
                let (now, target) = (self.now, "sip:1@carrier.example");
                let dialog = self
                    .endpoint
                    .invite_by(now, TrunkId(0), target, "<sip:gw@x>", b"v=0\r\n")
                    .unwrap();
                self.heard.insert(dialog, (0, false));
                if self.dice.roll(4) == 0 {
                    let after = Duration::from_millis(self.dice.roll(4_000));
                    self.plan(after, Event::HangUp(dialog));
                }
            }
            Event::HangUp(dialog) => {
                let (ended, _) = self.heard.get_mut(&dialog).unwrap();
                *ended = 1;
                self.endpoint.hang_up(self.now, dialog, 16);
            }
            Event::Offer(dialog) => {
                let sdp = Bytes::from_static(b"v=0\r\n");
                self.endpoint.reinvite(self.now, dialog, sdp);
            }
        }
    }

    fn drain(&mut self) {
        while let Some(Transmit { flow: to, bytes }) = self.endpoint.poll_transmit() {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let rogue = to == flow(ROGUE);
            self.cross(&Event::ToCarrier { rogue, text });
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.hear(&event);
        }
    }

    fn hear(&mut self, event: &SipEvent) {
        match event {
            SipEvent::Established { dialog, sdp } => {
                assert!(!sdp.is_empty(), "an answer that was given is known");
                let (ended, up) = self.heard.get_mut(dialog).unwrap();
                assert_eq!(*ended, 0, "{event:?}");
                if !std::mem::replace(up, true) {
                    let (offer, end) = (self.dice.roll(4_000), self.dice.roll(9_000));
                    self.plan(Duration::from_millis(offer), Event::Offer(*dialog));
                    self.plan(Duration::from_millis(end), Event::HangUp(*dialog));
                }
            }
            SipEvent::Failed { dialog, .. } | SipEvent::Lost { dialog } => {
                let (ended, _) = self.heard.get_mut(dialog).unwrap();
                *ended += 1;
                assert_eq!(*ended, 1, "{event:?}");
            }
            SipEvent::Provisional { .. }
            | SipEvent::OtherRealm { .. }
            | SipEvent::Refreshed { .. }
            | SipEvent::ReinviteFailed { .. } => {}
            SipEvent::Invite { .. }
            | SipEvent::Cancelled { .. }
            | SipEvent::Acknowledged { .. }
            | SipEvent::Reinvite { .. }
            | SipEvent::Info { .. }
            | SipEvent::Bye { .. }
            | SipEvent::Trunk { .. } => panic!("{event:?}"),
        }
    }

    fn carrier_hears(&mut self, rogue: bool, text: &str) {
        let method = text.split(' ').next().unwrap();
        let has_credentials = text.contains("uthorization: ");
        if rogue && has_credentials {
            self.carrier.leaks += 1;
        }
        match method {
            "ACK" => self.acknowledged(text),
            "PRACK" => {
                let number = value(text, "RAck").split(' ').next().unwrap();
                let number: u32 = number.parse().unwrap();
                for (_, called) in self.carrier.calls.values_mut() {
                    called.early.remove(&number);
                }
                self.reach_us(reply(text, 200, "x", "", ""));
            }
            "CANCEL" => self.cancelled(text),
            "INVITE" if value(text, "To").contains(";tag=") => {
                self.reinvited(text, has_credentials)
            }
            "INVITE" => self.invited(text, has_credentials),
            "BYE" => {
                if !has_credentials && self.carrier.dice.roll(3) == 0 {
                    return self.challenge(text, 401);
                }
                let tag = value(text, "To").rsplit(";tag=").next().unwrap();
                for (_, called) in self.carrier.calls.values_mut() {
                    called.talking.remove(tag);
                }
                self.reach_us(reply(text, 200, tag, "", ""));
            }
            other => panic!("{other}"),
        }
    }

    /// Mostly for our realm; else, or where a stranger mixes in, nobody may get anything for it.
    fn challenge(&mut self, request: &str, status: u16) {
        let name = if status == 407 {
            "Proxy-Authenticate"
        } else {
            "WWW-Authenticate"
        };
        let nonce = self.carrier.dice.roll(1_000_000);
        let lines = |realm| {
            format!("{name}: Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\"\r\n")
        };
        let tag = value(request, "To")
            .rsplit_once(";tag=")
            .map_or("ch", |(_, tag)| tag);
        let ours = reply(request, status, tag, &lines("ours"), "");
        if self.carrier.dice.roll(5) == 0 {
            self.cross(&Event::ToUs {
                from: ROGUE,
                text: ours,
            });
        } else {
            self.reach_us(ours);
        }
    }

    fn acknowledged(&mut self, text: &str) {
        let tag = value(text, "To").rsplit(";tag=").next().unwrap();
        if let Some((_, called)) = self.carrier.calls.get_mut(&key_of(text)) {
            called.open.remove(tag);
        }
    }

    fn cancelled(&mut self, text: &str) {
        self.reach_us(reply(text, 200, "x", "", ""));
        let call = key_of(text);
        let Some((invite, called)) = self.carrier.calls.get_mut(&call) else {
            return;
        };
        if !std::mem::replace(&mut called.over, true) {
            let answer = reply(invite, 487, "final", "", "");
            called.open.insert("final".to_owned(), 0);
            self.repeat(call, "final".to_owned(), answer);
        }
    }

    fn reinvited(&mut self, text: &str, has_credentials: bool) {
        let call = key_of(text);
        if self.carrier.calls.contains_key(&call) {
            return;
        }
        let mut called = Called {
            over: true,
            ..Called::default()
        };
        let tag = value(text, "To").rsplit(";tag=").next().unwrap().to_owned();
        called.open.insert(tag.clone(), 0);
        let still_up = self
            .carrier
            .calls
            .values()
            .any(|(_, other)| other.talking.contains(&tag));
        let (status, lines, body) = match self.carrier.dice.roll(4) {
            _ if !still_up => (481, String::new(), ""),
            0 if !has_credentials => (
                401,
                "WWW-Authenticate: Digest realm=\"ours\", nonce=\"re\"\r\n".to_owned(),
                "",
            ),
            1 => (491, String::new(), ""),
            _ => (200, String::new(), "v=0\r\n"),
        };
        self.carrier
            .calls
            .insert(call.clone(), (text.to_owned(), called));
        let answer = reply(text, status, &tag, &lines, body);
        self.repeat(call, tag, answer);
    }

    fn invited(&mut self, text: &str, has_credentials: bool) {
        let call = key_of(text);
        if self.carrier.calls.contains_key(&call) {
            return;
        }
        let fresh = (text.to_owned(), Called::default());
        self.carrier.calls.insert(call.clone(), fresh);
        if !has_credentials && self.carrier.dice.roll(4) > 0 {
            let status = if self.carrier.dice.roll(2) == 0 {
                401
            } else {
                407
            };
            if let Some((_, called)) = self.carrier.calls.get_mut(&call) {
                called.over = true;
            }
            let foreign = self.carrier.dice.roll(8) == 0;
            let name = if status == 407 {
                "Proxy-Authenticate"
            } else {
                "WWW-Authenticate"
            };
            let realm = if foreign { "theirs" } else { "ours" };
            let line = format!("{name}: Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\"\r\n");
            let answer = reply(text, status, "final", &line, "");
            if let Some((_, called)) = self.carrier.calls.get_mut(&call) {
                called.open.insert("final".to_owned(), 0);
            }
            return self.repeat(call, "final".to_owned(), answer);
        }
        assert!(
            !text.contains("realm=\"theirs\""),
            "told to a foreign realm"
        );
        self.reach_us(reply(text, 100, "", "", "").replace(";tag=", ""));
        if self.carrier.dice.roll(2) == 0 {
            let number = 1 + u32::try_from(self.carrier.dice.roll(1_000_000)).unwrap();
            let lines = format!("Require: 100rel\r\nRSeq: {number}\r\n");
            self.carrier.tags += 1;
            let tag = format!("e{}", self.carrier.tags);
            let early = reply(text, 183, &tag, &lines, "v=0\r\nearly");
            if let Some((_, called)) = self.carrier.calls.get_mut(&call) {
                called.early.insert(number);
                called.early_tag = Some(tag);
            }
            self.reach_us(early.clone());
            let again = Event::RepeatEarly {
                call: call.clone(),
                number,
                text: early,
                left: 20,
            };
            self.plan(T1, again);
        }
        let after = Duration::from_millis(self.carrier.dice.roll(6_000));
        self.plan(after, Event::Answer { call });
    }

    /// Busy, taken by one, or by two at once.
    fn answer(&mut self, call: &(String, String)) {
        let fate = self.carrier.dice.roll(6);
        let Some((invite, called)) = self.carrier.calls.get_mut(call) else {
            return;
        };
        // It answers only once what it said before has arrived.
        if called.over || !called.early.is_empty() {
            return;
        }
        called.over = true;
        let answers: Vec<(String, String)> = match fate {
            0 => vec![("final".to_owned(), reply(invite, 486, "final", "", ""))],
            1 => vec![("final".to_owned(), reply(invite, 503, "final", "", ""))],
            _ => {
                called.accepted = true;
                let early_tag = called.early_tag.clone();
                let branches = if fate == 2 { 2 } else { 1 };
                (0..branches)
                    .map(|n| {
                        self.carrier.tags += 1;
                        let tag = format!("b{}n{n}", self.carrier.tags);
                        match early_tag.clone().filter(|_| n == 0) {
                            Some(tag) => (tag.clone(), reply(invite, 200, &tag, "", "")),
                            None => (tag.clone(), reply(invite, 200, &tag, "", "v=0\r\nlate")),
                        }
                    })
                    .collect()
            }
        };
        for (tag, _) in &answers {
            called.open.insert(tag.clone(), 0);
            if called.accepted {
                called.talking.insert(tag.clone());
            }
        }
        self.carrier.answered += u32::from(called.accepted);
        for (tag, text) in answers {
            self.repeat(call.clone(), tag, text);
        }
    }

    /// A final answer until its ACK, for 32 s.
    fn repeat(&mut self, call: (String, String), tag: String, text: String) {
        let Some((_, called)) = self.carrier.calls.get_mut(&call) else {
            return;
        };
        let Some(sent) = called.open.get_mut(&tag) else {
            return;
        };
        *sent += 1;
        let (sent, wait) = (*sent, T1 * 2_u32.pow((*sent - 1).min(3)));
        if sent > 11 {
            // RFC 3261 section 13.3.1.4: it gives the call up by itself.
            called.open.remove(&tag);
            called.talking.remove(&tag);
            return;
        }
        self.reach_us(text.clone());
        self.plan(wait, Event::Repeat { call, tag, text });
    }
}

fn flow(peer: &str) -> Flow {
    Flow::Udp {
        socket: 0,
        peer: peer.parse().unwrap(),
    }
}

#[test]
fn calls_by_a_trunk_end_once_and_leave_nobody_talking_whatever_the_carrier_and_the_network_do() {
    let (mut up, mut answered) = (0, 0);
    for seed in 1..=300 {
        let mut sky = Sky::new(seed);
        for call in 0..4 {
            sky.plan(Duration::from_millis(call * 900), Event::Dial);
        }
        sky.run();
        for (dialog, (ended, was_up)) in &sky.heard {
            assert_eq!(*ended, 1, "seed {seed}, {dialog:?}");
            up += u32::from(*was_up);
        }
        assert_eq!(sky.heard.len(), 4, "seed {seed}");
        assert_eq!(sky.carrier.leaks, 0, "seed {seed}");
        let counters = sky.endpoint.counters();
        assert_eq!(
            (counters.dialogs, counters.transactions),
            (0, 0),
            "seed {seed}"
        );
        assert_eq!(sky.endpoint.schedule.len(), 0, "seed {seed}");
        if sky.loss == 0 {
            answered += sky.carrier.answered;
            for (_, called) in sky.carrier.calls.values() {
                assert!(
                    called.talking.is_empty(),
                    "seed {seed}: {:?}",
                    called.talking
                );
                assert!(called.early.is_empty(), "seed {seed}: never acknowledged");
            }
        }
    }
    assert!(
        up > 300 && answered > 60,
        "{up} calls were up, {answered} answered"
    );
}
