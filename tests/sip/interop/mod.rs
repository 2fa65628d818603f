//! Real clients, each in cells of a matrix: codec x security x transport x family of addresses.
//!
//! | client | cells | what is seen in each |
//! |---|---|---|
//! | baresip | all 48, with packets of 10, 20, 30, 40 and 60 ms taking turns | call, PIN, audio both ways, hold, resume, hang-up (by the phone in every other, by us in the rest); in the 6 with Opus and SDES session refresh |
//! | baresip with keys by DTLS | 6: each transport in each family, every other one behind ICE | the same, and session refresh |
//! | baresip by way of a Kamailio with Record-Route | 6: each transport in each family, the same towards us | the same, and session refresh; answers to OPTIONS by Kamailio itself (`dialog`'s keep-alive); hang-up by Kamailio in every third |
//! | the same, and the Kamailio hides either side from the other (topoh) | 6: the same | the same |
//! | baresip by way of an Asterisk 22 | 6: each transport in each family towards us | the same, and session refresh: in every other by Asterisk, in the rest by us |
//! | linphonec | 6: each transport in each family | the same, and session refresh |
//! | sipp | 4: UDP and TCP in each family | 422, session refresh by re-INVITE and by UPDATE, hold in three spellings (`refresh`) |
//!
//! Six cells and a listener share a meeting. The listener hears whom it should, at the level it was sent
//! at, and not who is on hold; each cell hears the listener. Whose session is refreshed is heard and hears as before
//! afterwards; with `--ignored` that is asked of all 78. (baresip 1.0 records nothing more once it was on
//! hold: afterwards it is its own count of what it receives that tells.)

mod asterisk;
mod caller;
mod kamailio;
mod linphone;
mod refresh;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::baresip::{
    G722, LEVEL_ERROR_DB, OPUS, PCMA, PCMU, Phone, SENT_DBFS, SEPARATION_DB, Voice,
};
use crate::families::has_ipv6;
use crate::server::{Meeting, Server};
use asterisk::SwitchBoard;
use caller::Caller;
use kamailio::{ASKED, Proxy};
use linphone::Linphone;

/// Who waits for a sign of life waits for half of the shortest session that there is (RFC 4028 section 4), 45 s:
/// so only those of the last groups do, which have something of everything.
#[test]
fn every_client_in_every_cell_calls_holds_and_hangs_up() {
    call_in_all_cells(|number| number >= GROUPS_AT_ONCE);
}

/// `cargo test --test sip -- --ignored --nocapture outlives`
#[test]
#[ignore = "two minutes"]
fn every_call_in_every_cell_outlives_a_sign_of_life() {
    call_in_all_cells(|_| true);
}

fn call_in_all_cells(is_refreshed: fn(usize) -> bool) {
    let server = Server::of_both_families(
        "sip.trusted = [\"127.0.0.1\", \"::1\"]\nsip.session_timer = \"90s\"\npin.attempts = 10\n",
    );
    let began = Instant::now();
    let all: Vec<Cell> = cells()
        .filter(|cell| !cell.voice.ipv6 || has_ipv6())
        .collect();
    let ways = Ways {
        proxy: Proxy::start(&server, false),
        hiding: Proxy::start(&server, true),
        board: SwitchBoard::start(&server, &all),
    };
    let report = Mutex::new(Vec::new());
    let groups: Vec<(usize, &[Cell])> = all.chunks(TONES.len()).enumerate().collect();
    for some in groups.chunks(GROUPS_AT_ONCE) {
        thread::scope(|scope| {
            for (number, group) in some {
                let (server, report, ways) = (&server, &report, &ways);
                scope.spawn(move || {
                    let group = Group::start(server, ways, *number, group);
                    let mut told = group.run(is_refreshed(*number));
                    let mut report = report.lock().expect("nobody panics with it");
                    report.append(&mut told);
                });
            }
        });
    }
    let report = report.into_inner().expect("nobody panicked with it");
    for (name, steps) in &report {
        eprintln!("{name}: {steps}");
    }
    eprintln!("{} calls in {:?}", report.len(), began.elapsed());
    assert_eq!(report.len(), all.len());
    let failed: Vec<_> = report
        .iter()
        .filter(|(_, steps)| steps.contains("NOT"))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Baresip,
    Kamailio,
    HidingKamailio,
    Asterisk,
    Linphone,
}

/// What calls come by that don't come directly.
struct Ways {
    proxy: Proxy,
    hiding: Proxy,
    board: SwitchBoard,
}

/// One call that is made.
#[derive(Debug, Clone, Copy)]
struct Cell {
    client: Client,
    voice: Voice,
}

impl Cell {
    fn name(&self) -> String {
        let Voice {
            codec,
            transport,
            ipv6,
            packet_ms,
            ..
        } = self.voice;
        format!(
            "{:?}, {}, {packet_ms} ms, {}, {}, IPv{}",
            self.client,
            codec.split('/').next().unwrap_or_default(),
            self.security(),
            transport.to_uppercase(),
            if ipv6 { 6 } else { 4 },
        )
    }
}

impl Cell {
    fn security(&self) -> &'static str {
        match self.voice {
            Voice { checks: true, .. } => "DTLS behind ICE",
            Voice {
                shakes_hands: true, ..
            } => "DTLS",
            Voice { encrypts: true, .. } => "SDES",
            _ => "RTP",
        }
    }
}

/// All by baresip, and the others in each transport and family, with codecs and security taking turns.
fn cells() -> impl Iterator<Item = Cell> {
    let codecs = [PCMU, PCMA, G722, OPUS];
    let ways = || {
        let transports = ["udp", "tcp", "tls"].into_iter();
        transports.flat_map(|transport| [false, true].map(|ipv6| (transport, ipv6)))
    };
    let cell = |client, codec: Voice, encrypts, (transport, ipv6)| Cell {
        client,
        voice: Voice {
            encrypts,
            transport,
            ipv6,
            ..codec
        },
    };
    let direct = codecs.into_iter().flat_map(move |codec| {
        let both = [false, true].into_iter();
        both.flat_map(move |encrypts| {
            ways().map(move |way| cell(Client::Baresip, codec, encrypts, way))
        })
    });
    let others = [
        Client::Kamailio,
        Client::Asterisk,
        Client::Linphone,
        Client::HidingKamailio,
    ];
    let others = others.into_iter();
    let others = others.enumerate().flat_map(move |(turn, client)| {
        ways().enumerate().map(move |(at, way)| {
            let codec = match codecs[(at + turn) % 4] {
                // What linphonec 5.1 encodes in G.722 is 6 dB quieter than what it was given.
                voice if voice.codec == G722.codec && client == Client::Linphone => PCMA,
                voice => voice,
            };
            cell(client, codec, (at + at / 2 + turn) % 2 == 0, way)
        })
    });
    let by_handshake = ways().enumerate().map(move |(at, way)| {
        let codec = Voice {
            shakes_hands: true,
            checks: at % 2 == at / 2 % 2,
            ..codecs[at % 4]
        };
        cell(Client::Baresip, codec, false, way)
    });
    direct
        .zip(PACKETS_MS.into_iter().cycle())
        .map(|(mut cell, packet_ms)| {
            // Opus has no frames of 30 ms.
            let has_it = packet_ms != 30 || cell.voice.codec != OPUS.codec;
            cell.voice.packet_ms = if has_it { packet_ms } else { 20 };
            cell
        })
        .chain(by_handshake)
        .chain(others)
}

/// Some cells in a meeting, and who listens to them.
struct Group<'a> {
    server: &'a Server,
    meeting: Meeting,
    listener: Phone,
    members: Vec<Member<'a>>,
    /// Who was in the meeting at the last look.
    present: Vec<Person>,
}

/// Somebody in a meeting, as the API shows him.
struct Person {
    /// His number, as far as it is shown.
    number: String,
    id: String,
}

struct Member<'a> {
    name: String,
    phone: Caller,
    /// The end of the number that it calls from.
    ends: String,
    tone_hz: f64,
    steps: Vec<&'static str>,
    missed: Option<String>,
    /// It calls by way of this one.
    proxy: Option<&'a Proxy>,
    /// It isn't told that its call is over: a Kamailio that ends one by itself doesn't know of the connection that a
    /// phone has opened to it.
    out_of_reach: bool,
}

impl Member<'_> {
    /// Who isn't answered is told of with the others.
    fn enter(&mut self, meeting: &Meeting) {
        let phone = AssertUnwindSafe(&mut self.phone);
        if catch_unwind(|| { phone }.enter(meeting)).is_err() {
            self.missed = Some(format!("NOT answered {}", self.phone.last_said()));
        }
    }
}

impl<'a> Group<'a> {
    fn start(server: &'a Server, ways: &'a Ways, number: usize, cells: &[Cell]) -> Self {
        let meeting = server.book(&json!({ "automatic_gain": false }));
        let listening = Voice {
            tone_hz: LISTENER_HZ,
            ..PCMU
        };
        let listener = Phone::calling(server, &listening, server.sip_port, "1000");
        let members = cells.iter().zip(TONES).enumerate();
        let members = members.map(|(place, (cell, (tone_hz, on_ms, off_ms)))| {
            let ends = format!("{:04}", 1 + number * TONES.len() + place);
            let user = format!("+390699{ends}");
            let voice = Voice {
                tone_hz,
                on_ms,
                off_ms,
                ..cell.voice
            };
            let direct = match voice.transport {
                "tls" => server.tls_port,
                _ => server.sip_port,
            };
            let proxy = match cell.client {
                Client::Kamailio => Some(&ways.proxy),
                Client::HidingKamailio => Some(&ways.hiding),
                Client::Baresip | Client::Asterisk | Client::Linphone => None,
            };
            let phone = match cell.client {
                Client::Baresip | Client::Kamailio | Client::HidingKamailio => {
                    let port = proxy.map_or(direct, |proxy| proxy.port(voice.transport));
                    Phone::calling_as(server, &voice, port, "1000", &user).into()
                }
                Client::Asterisk => ways.board.phone(server, &voice, &user).into(),
                Client::Linphone => Caller::Linphone(Linphone::start(&voice, direct, &user)),
            };
            Member {
                name: cell.name(),
                phone,
                ends,
                tone_hz,
                steps: Vec::new(),
                missed: None,
                proxy,
                out_of_reach: false,
            }
        });
        Self {
            server,
            meeting,
            listener,
            members: members.collect(),
            present: Vec::new(),
        }
    }

    /// What came of each cell: the steps that it took, and what did not happen.
    fn run(mut self, is_refreshed: bool) -> Vec<(String, String)> {
        let meeting = self.meeting.clone();
        thread::scope(|scope| {
            scope.spawn(|| self.listener.enter(&meeting));
            for member in &mut self.members {
                scope.spawn(|| member.enter(&meeting));
            }
        });
        self.key_in_again();
        self.expect("call, PIN", |group, member| group.shows(member));
        self.expect("heard", |group, member| group.hears(member) == Some(true));
        self.expect("hears", |_, member| {
            member.phone.level(LISTENER_HZ).is_some_and(is_as_sent)
        });
        if is_refreshed {
            self.outlive_a_sign_of_life();
        }
        for member in &mut self.members {
            member.phone.hold(true);
        }
        self.expect("holds", |group, member| group.hears(member) == Some(false));
        for member in &mut self.members {
            member.phone.hold(false);
        }
        self.expect("heard again", |group, member| {
            group.hears(member) == Some(true)
        });
        self.expect("hears again", |_, member| member.phone.receives());
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            match member.proxy.filter(|_| place % 3 == 2) {
                Some(proxy) => {
                    proxy.end(&member.ends);
                    member.out_of_reach = member.name.contains(" TLS");
                }
                None if place % 2 == 0 => member.phone.hang_up(),
                None => self.hang_up_on(&self.members[place]),
            }
        }
        self.expect("hang-up", |group, member| {
            (member.out_of_reach || member.phone.is_over()) && !group.shows(member)
        });
        self.listener.write("b\n/quit\n");
        let told = self.members.into_iter().map(|member| {
            let steps = member.steps.join(", ");
            let missed = member
                .missed
                .map_or(String::new(), |missed| format!(", {missed}"));
            (member.name, steps + &missed)
        });
        told.collect()
    }

    /// By whoever of the two sees to it; nobody hears anything of it.
    fn outlive_a_sign_of_life(&mut self) {
        self.expect_of(
            SIGN_OF_LIFE,
            "refreshed",
            |_| true,
            |group, member| {
                let log = group.server.log();
                let entered = group.present_as(member).and_then(|person| {
                    let mut lines = log.lines();
                    lines.find(|line| {
                        line.contains(person.id.as_str()) && line.contains("to the meeting")
                    })
                });
                let call = entered.and_then(|line| {
                    let mut words = line.split_whitespace();
                    words.find(|word| word.starts_with("call="))
                });
                let mut signs = log.lines().filter(|line| line.contains("a sign of life"));
                call.is_some_and(|call| signs.any(|line| line.contains(call)))
            },
        );
        let by_proxy = |member: &Member| member.proxy.is_some();
        self.expect_of(ASKED, "asked by the proxy", by_proxy, |_, member| {
            member
                .proxy
                .is_some_and(|proxy| proxy.has_asked(&member.ends))
        });
        self.expect("heard after it", |group, member| {
            group.hears(member) == Some(true)
        });
        self.expect("hears after it", |_, member| {
            member.phone.level(LISTENER_HZ).is_some_and(is_as_sent)
        });
    }

    /// On a machine that is busy enough a phone swallows keys: whoever isn't in starts over.
    fn key_in_again(&mut self) {
        let keys = format!("*{}#", self.meeting.guest);
        for _ in 0..PIN_TRIES {
            let until = Instant::now() + PIN_PATIENCE;
            self.look();
            while Instant::now() < until && self.present.len() <= self.members.len() {
                sleep(LOOK);
                self.look();
            }
            let is_in = |ends: &str| {
                self.present
                    .iter()
                    .any(|person| person.number.ends_with(ends))
            };
            let listens = is_in(LISTENER_ENDS);
            thread::scope(|scope| {
                if !listens {
                    scope.spawn(|| self.listener.key_in(&keys));
                }
                for member in &mut self.members {
                    if member.missed.is_none() && !is_in(&member.ends) {
                        scope.spawn(|| member.phone.key_in(&keys));
                    }
                }
            });
        }
    }

    /// As the API tells of them.
    fn people(&self) -> Value {
        self.server
            .get(&format!("/v1/meetings/{}/participants", self.meeting.id))
    }

    /// Asks who is in the meeting.
    fn look(&mut self) {
        let people = self.people();
        let items = people["items"].as_array().cloned().unwrap_or_default();
        let joined = items.iter().filter(|item| item["state"] == "joined");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.present = joined
            .map(|item| Person {
                number: text(&item["number"]),
                id: text(&item["id"]),
            })
            .collect();
    }

    fn hang_up_on(&self, member: &Member) {
        if let Some(Person { id, .. }) = self.present_as(member) {
            self.server.delete(&format!(
                "/v1/meetings/{}/participants/{id}",
                self.meeting.id
            ));
        }
    }

    fn present_as(&self, member: &Member) -> Option<&Person> {
        let mut present = self.present.iter();
        present.find(|person| person.number.ends_with(&member.ends))
    }

    /// Waits until it is so for all; for whom it isn't, nothing more is asked.
    fn expect(&mut self, step: &'static str, is_so: impl Fn(&Self, &Member) -> bool) {
        self.expect_of(PATIENCE, step, |_| true, is_so);
    }

    /// The same, of those whom it concerns.
    fn expect_of(
        &mut self,
        patience: Duration,
        step: &'static str,
        concerns: impl Fn(&Member) -> bool,
        is_so: impl Fn(&Self, &Member) -> bool,
    ) {
        let deadline = Instant::now() + patience;
        loop {
            let open: Vec<usize> = (0..self.members.len())
                .filter(|at| self.members[*at].missed.is_none() && concerns(&self.members[*at]))
                .filter(|at| self.members[*at].steps.last() != Some(&step))
                .collect();
            if open.is_empty() {
                return;
            }
            if matches!(step, "call, PIN" | "hang-up") {
                self.look();
            }
            for at in open {
                if is_so(self, &self.members[at]) {
                    self.members[at].steps.push(step);
                } else if Instant::now() > deadline {
                    let told = self.tell(&self.members[at]);
                    self.members[at].missed = Some(format!("NOT {step} {told}"));
                }
            }
            sleep(LOOK);
        }
    }

    /// What both sides have to say of his call.
    fn tell(&self, member: &Member) -> String {
        let level = self.level(member);
        let said = member.phone.last_said();
        let people = self.people();
        let metrics = self.server.metrics();
        let refused = metrics.lines().filter(|line| {
            line.starts_with("voicebridge_media_packets_refused_total") && !line.ends_with(" 0")
        });
        let refused: Vec<&str> = refused.collect();
        format!("({level:.1?}) {said}\n{people:#}\n{refused:#?}")
    }

    fn level(&self, member: &Member) -> Option<f64> {
        Some(
            self.listener
                .has_heard(WINDOW_SECONDS)?
                .level_of(member.tone_hz),
        )
    }

    /// Does the listener hear it? `None`: neither quite nor not at all.
    fn hears(&self, member: &Member) -> Option<bool> {
        let level = self.level(member)?;
        let is_gone = level < SENT_DBFS - SEPARATION_DB;
        (is_as_sent(level) || is_gone).then_some(!is_gone)
    }

    /// Does the API show it in the meeting?
    fn shows(&self, member: &Member) -> bool {
        self.present_as(member).is_some()
    }
}

fn is_as_sent(level: f64) -> bool {
    (level - SENT_DBFS).abs() <= LEVEL_ERROR_DB
}

/// What RFC 3551 lets phones choose from, and what they do choose.
const PACKETS_MS: [u32; 5] = [20, 10, 30, 40, 60];
/// Frequencies, bursts and pauses. No two keep time with each other, nor with the listener: who sends in the rhythm of
/// what he is sent returns an echo, as far as anybody can tell, and is damped.
const TONES: [(f64, u32, u32); 6] = [
    (500.0, 450, 302),
    (1_050.0, 387, 258),
    (1_850.0, 339, 226),
    (2_150.0, 266, 178),
    (2_500.0, 240, 160),
    (2_900.0, 218, 146),
];
/// So that other tests have something of the machine too.
const GROUPS_AT_ONCE: usize = 7;
/// The end of the number that listeners call from.
const LISTENER_ENDS: &str = "5678";
const PIN_PATIENCE: Duration = Duration::from_secs(5);
const PIN_TRIES: u32 = 5;
const LISTENER_HZ: f64 = 3_150.0;
/// Bursts and pauses of all are shorter.
const WINDOW_SECONDS: f64 = 1.5;
const LOOK: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(30);
/// Due 45 s after the call was answered.
const SIGN_OF_LIFE: Duration = Duration::from_secs(75);
