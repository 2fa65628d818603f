//! An Asterisk that exists only here, behind a connection that delays, reorders, hangs and breaks: whatever
//! happens, every caller's end is told once, and nothing of ours is left in Asterisk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ari::{AriEvent, Asked, CallerId, Dial, Endpoint, EndpointConfig, Transmit};
use crate::media::codec::Codec;
use crate::units::{DialplanPlace, Language};

/// xorshift64: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Default)]
struct FakeChannel {
    in_stasis: bool,
    /// Called, and not answered yet.
    rings: bool,
    variables: BTreeMap<String, String>,
}

/// Asterisk's side of the wire: what it keeps, and what it is about to say.
struct FakeAsterisk {
    dice: Dice,
    channels: BTreeMap<String, FakeChannel>,
    bridges: BTreeMap<String, BTreeSet<String>>,
    globals: BTreeMap<String, String>,
    /// Bridges with music in them, also such that are gone.
    music: BTreeSet<String>,
    /// Messages on their way, each with the time of its arrival.
    saying: Vec<(u64, String)>,
    connected: bool,
    hung: bool,
    /// REST comes by itself, on several connections: in order for each caller only.
    by_http: bool,
    /// Requests on their way to it then, each with the time of its arrival.
    asked: Vec<(u64, Asked)>,
    /// One request in so many is refused; 0: none.
    refuses: u64,
    /// It doesn't say that channels which ring are the application's.
    hides_ringing: bool,
    format: &'static str,
    left: Vec<(String, Option<String>)>,
    /// The extensions that some of them went on at.
    places: Vec<String>,
    /// What stood beside those who left.
    left_behind: Vec<Option<String>>,
}

impl FakeAsterisk {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed | 1),
            channels: BTreeMap::new(),
            bridges: BTreeMap::new(),
            globals: BTreeMap::new(),
            music: BTreeSet::new(),
            saying: Vec::new(),
            connected: false,
            hung: false,
            by_http: false,
            asked: Vec::new(),
            refuses: 0,
            hides_ringing: false,
            format: "(ulaw)",
            left: Vec::new(),
            places: Vec::new(),
            left_behind: Vec::new(),
        }
    }

    fn say(&mut self, now: u64, message: &Value) {
        if self.connected {
            let at = now + self.dice.roll(20);
            self.saying.push((at, message.to_string()));
        }
    }

    fn snapshot(name: &str) -> Value {
        json!({
            "id": name, "name": "PJSIP/trunk-1", "state": "Up", "protocol_id": "abc@phone",
            "caller": {"name": "", "number": "0612345678"}, "language": "it", "creationtime": "now",
            "dialplan": {"context": "in", "exten": "7000", "priority": 1, "app_name": "Stasis",
                         "app_data": "vb,number=+39061,language=en,pin=48151623"},
            "channelvars": {"UNICASTRTP_LOCAL_ADDRESS": "192.0.2.9", "UNICASTRTP_LOCAL_PORT": "20002"},
        })
    }

    fn call(&mut self, now: u64, name: &str) {
        let channel = FakeChannel {
            in_stasis: true,
            ..FakeChannel::default()
        };
        self.channels.insert(name.to_owned(), channel);
        // Whom we call comes in without arguments: no dialplan sends him.
        let args = match super::endpoint::is_dialled(name) {
            true => Vec::new(),
            false => vec!["number=+39061", "language=en", "pin=48151623"],
        };
        self.say(
            now,
            &json!({"type": "StasisStart", "application": "vb", "timestamp": "x",
            "args": args, "channel": Self::snapshot(name)}),
        );
    }

    /// Who is called answers.
    fn pick_up(&mut self, now: u64, name: &str) {
        self.call(now, name);
    }

    /// Who is called can't be had.
    fn fail(&mut self, now: u64, name: &str, cause: u8) {
        self.channels.remove(name).unwrap();
        self.destroyed(now, name, cause);
    }

    fn destroyed(&mut self, now: u64, name: &str, cause: u8) {
        self.say(
            now,
            &json!({"type": "ChannelDestroyed", "cause": cause, "cause_txt": "x", "channel": Self::snapshot(name)}),
        );
    }

    fn end(&mut self, now: u64, name: &str) {
        if let Some(channel) = self.channels.remove(name) {
            self.bridges.values_mut().for_each(|bridge| {
                bridge.remove(name);
            });
            if channel.in_stasis {
                self.say(
                    now,
                    &json!({"type": "StasisEnd", "channel": Self::snapshot(name)}),
                );
            }
            if super::endpoint::is_dialled(name) {
                self.destroyed(now, name, 16);
            }
        }
    }

    /// Takes a request, now or when it has come through.
    fn take(&mut self, now: u64, asked: Asked) {
        if !self.by_http {
            self.handle(now, &asked.request.to_text(asked.id));
            return;
        }
        let before = self.asked.iter().filter(|(_, a)| a.whose == asked.whose);
        let earliest = before.map(|(at, _)| *at).max().unwrap_or(now);
        let at = earliest.max(now + self.dice.roll(10));
        self.asked.push((at, asked));
    }

    fn take_due(&mut self, now: u64) {
        let due = self.asked.extract_if(.., |(at, _)| *at <= now);
        for (_, asked) in due.collect::<Vec<_>>() {
            self.handle(now, &asked.request.to_text(asked.id));
        }
    }

    /// Takes a request, as its text came over the wire.
    fn handle(&mut self, now: u64, text: &str) {
        let request: Value = serde_json::from_str(text).unwrap();
        assert_eq!(request["type"], "RESTRequest");
        let uri = request["uri"].as_str().unwrap();
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let query: BTreeMap<&str, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, decode(value)))
            .collect();
        let path: Vec<String> = path.split('/').map(decode).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let refused = self.refuses > 0 && self.dice.roll(self.refuses) == 0;
        let (status, body) = if refused {
            (500, Value::Null)
        } else {
            self.obey(now, request["method"].as_str().unwrap(), &path, &query)
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.say(
            now,
            &json!({"type": "RESTResponse", "request_id": request["request_id"],
            "status_code": status, "reason_phrase": "", "message_body": body}),
        );
    }

    /// What it says that the application holds.
    fn application(&self) -> Value {
        let inside = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.in_stasis || channel.rings && !self.hides_ringing);
        let halves = |name: &String| {
            let far = super::endpoint::is_dialled(name).then(|| format!("{name};2"));
            [Some(name.clone()), far]
        };
        let names: Vec<_> = inside
            .flat_map(|(name, _)| halves(name))
            .flatten()
            .collect();
        json!({"name": "vb", "channel_ids": names, "bridge_ids": []})
    }

    fn ring(&mut self, name: &str, query: &BTreeMap<&str, String>) -> (u16, Value) {
        assert_eq!(query["endpoint"], "PJSIP/+39061@carrier");
        assert_eq!(query["timeout"], "33");
        let channel = FakeChannel {
            rings: true,
            ..FakeChannel::default()
        };
        self.channels.insert(name.to_owned(), channel);
        (200, Self::snapshot(name))
    }

    fn obey(
        &mut self,
        now: u64,
        method: &str,
        path: &[&str],
        query: &BTreeMap<&str, String>,
    ) -> (u16, Value) {
        match (method, path) {
            ("GET", ["asterisk", "ping"]) | ("PUT", ["applications", "vb", "eventFilter"]) => {
                (200, json!({}))
            }
            ("GET", ["applications", "vb"]) => (200, self.application()),
            ("POST", ["asterisk", "variable"]) => {
                let (name, value) = (&query["variable"], &query["value"]);
                self.globals.insert(name.clone(), value.clone());
                (204, Value::Null)
            }
            ("GET", ["asterisk", "variable"]) => match self.globals.get(&query["variable"]) {
                Some(value) => (200, json!({"value": value})),
                None => (404, Value::Null),
            },
            ("GET", ["bridges"]) => {
                let all: Vec<_> = self.bridges.keys().map(|id| json!({"id": id})).collect();
                (200, json!(all))
            }
            ("POST", ["bridges"]) => {
                assert_eq!(query["type"], "mixing,dtmf_events");
                self.bridges
                    .insert(query["bridgeId"].clone(), BTreeSet::new());
                (200, json!({"id": query["bridgeId"]}))
            }
            ("POST", ["bridges", id, "moh"]) => match self.bridges.contains_key(*id) {
                true => {
                    self.music.insert((*id).to_owned());
                    (204, Value::Null)
                }
                false => (404, Value::Null),
            },
            ("DELETE", ["bridges", id]) => match self.bridges.remove(*id) {
                Some(_) => (204, Value::Null),
                None => (404, Value::Null),
            },
            ("POST", ["bridges", id, "addChannel"]) => {
                let names: Vec<&str> = query["channel"].split(',').collect();
                let inside = |name: &&str| self.channels.get(*name).is_some_and(|c| c.in_stasis);
                if !names.iter().all(inside) {
                    return (422, Value::Null);
                }
                match self.bridges.get_mut(*id) {
                    Some(bridge) => {
                        bridge.extend(names.iter().map(|&name| name.to_owned()));
                        (204, Value::Null)
                    }
                    None => (404, Value::Null),
                }
            }
            ("POST", ["channels", "externalMedia"]) => self.make_media(now, &query["channelId"]),
            ("POST", ["channels", name]) => self.ring(name, query),
            (_, ["channels", name, rest @ ..]) => {
                self.obey_channel(now, (method, name, rest), query)
            }
            _ => panic!("{method} {path:?}"),
        }
    }

    /// As Asterisk 22 does, it takes a name for used where another one begins with it.
    fn make_media(&mut self, now: u64, name: &str) -> (u16, Value) {
        if self.channels.keys().any(|other| other.starts_with(name)) {
            return (500, Value::Null);
        }
        self.call(now, name);
        (200, Self::snapshot(name))
    }

    fn obey_channel(
        &mut self,
        now: u64,
        (method, name, rest): (&str, &str, &[&str]),
        query: &BTreeMap<&str, String>,
    ) -> (u16, Value) {
        let format = self.format;
        // The halves of a call go together.
        let name = name.strip_suffix(";2").unwrap_or(name);
        let Some(channel) = self.channels.get_mut(name) else {
            return (404, Value::Null);
        };
        match (method, rest) {
            ("GET", []) => (200, Self::snapshot(name)),
            ("DELETE", []) => {
                self.end(now, name);
                (204, Value::Null)
            }
            ("GET", ["variable"]) if !channel.in_stasis => (409, Value::Null),
            ("GET", ["variable"]) => match query["variable"].as_str() {
                "CHANNEL(audionativeformat)" => (200, json!({"value": format})),
                "DIALPLAN_EXISTS(desk,42,1)" => (200, json!({"value": "1"})),
                name if name.starts_with("DIALPLAN_EXISTS(") => (200, json!({"value": "0"})),
                name => match channel.variables.get(name) {
                    Some(value) => (200, json!({"value": value})),
                    None => (404, Value::Null),
                },
            },
            ("POST", ["variable"]) => {
                channel
                    .variables
                    .insert(query["variable"].clone(), query["value"].clone());
                (204, Value::Null)
            }
            ("POST", _) if !channel.in_stasis => (409, Value::Null),
            ("POST", ["answer" | "ring"]) => (204, Value::Null),
            ("POST", ["continue"]) => {
                let outcome = channel.variables.get("VOICEBRIDGE_OUTCOME").cloned();
                let past = channel.variables.get(PAST).cloned();
                self.places.extend(query.get("extension").cloned());
                self.left.push((name.to_owned(), outcome));
                self.left_behind.push(past);
                self.end(now, name);
                (204, Value::Null)
            }
            _ => panic!("{method} {rest:?}"),
        }
    }
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .unwrap()
        .into_owned()
}

/// Both sides, the wire, and a gateway that answers everybody.
struct World {
    start: Instant,
    ms: u64,
    asterisk: FakeAsterisk,
    endpoint: Endpoint,
    /// Callers that arrived and have not ended.
    there: BTreeMap<CallerId, String>,
    up: BTreeSet<CallerId>,
    /// By channel: what stood beside a caller when he arrived.
    pasts: BTreeMap<String, Option<String>>,
    told: Vec<AriEvent>,
    arrived: u64,
    ended: u64,
    reachable: bool,
    /// Writes down where callers are.
    remembers: bool,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do to count from"
    )]
    fn new(seed: u64) -> Self {
        let start = Instant::now();
        let config = EndpointConfig {
            app: "vb".to_owned(),
            seed,
            take_over: Vec::new(),
        };
        Self {
            start,
            ms: 0,
            asterisk: FakeAsterisk::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            endpoint: Endpoint::new(start, config),
            there: BTreeMap::new(),
            up: BTreeSet::new(),
            pasts: BTreeMap::new(),
            told: Vec::new(),
            arrived: 0,
            ended: 0,
            reachable: true,
            remembers: true,
        }
    }

    /// The process is gone without a word, and another one starts.
    fn next_process(self, seed: u64) -> Self {
        let mut next = Self::new(seed);
        next.asterisk = self.asterisk;
        next.disconnect();
        next
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.ms)
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.ms += 1;
            self.deliver();
            if self
                .endpoint
                .poll_timeout()
                .is_some_and(|at| at <= self.now())
            {
                self.endpoint.handle_timeout(self.now());
            }
            self.settle();
        }
    }

    fn deliver(&mut self) {
        let ms = self.ms;
        if self.asterisk.hung {
            return;
        }
        self.asterisk.take_due(ms);
        let due = |(at, _): &mut (u64, String)| *at <= ms;
        let messages: Vec<_> = self.asterisk.saying.extract_if(.., due).collect();
        for (_, text) in messages {
            self.hear(&text);
            self.settle();
        }
    }

    fn hear(&mut self, text: &str) {
        let now = self.now();
        let said: Value = serde_json::from_str(text).unwrap();
        if !self.asterisk.by_http || said["type"] != "RESTResponse" {
            self.endpoint.handle_text(now, text);
            return;
        }
        let id = said["request_id"].as_str().unwrap().parse().unwrap();
        let status = said["status_code"].as_u64().unwrap() as u16;
        let body = said["message_body"].as_str().unwrap().to_owned();
        self.endpoint.handle_answer(now, id, Some(status), body);
    }

    fn settle(&mut self) {
        let now = self.now();
        loop {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                match transmit {
                    Transmit::Open if self.reachable => {
                        self.asterisk.connected = true;
                        self.endpoint.handle_opened(now);
                    }
                    Transmit::Open => self.endpoint.handle_closed(now),
                    Transmit::Ask(_) if self.asterisk.hung => {}
                    Transmit::Ask(asked) => self.asterisk.take(self.ms, asked),
                    Transmit::Close => self.disconnect(),
                }
            }
            let Some(event) = self.endpoint.poll_event() else {
                return;
            };
            self.told.push(event.clone());
            self.handle(now, event);
        }
    }

    fn handle(&mut self, now: Instant, event: AriEvent) {
        match event {
            AriEvent::Arrived {
                caller, incoming, ..
            } => {
                assert_eq!(incoming.number, "+39061");
                self.arrived += 1;
                self.pasts.insert(incoming.channel.clone(), incoming.past);
                self.there.insert(caller, incoming.channel);
                self.endpoint
                    .answer(now, caller, "192.0.2.1:20000".parse().unwrap());
            }
            AriEvent::Answered { caller } => {
                assert!(self.up.insert(caller), "answered twice");
                if self.remembers {
                    let past = format!("where {} is", self.there[&caller]);
                    self.endpoint.remember(now, caller, past);
                }
            }
            AriEvent::PickedUp { caller } => {
                let rtp = "192.0.2.1:20000".parse().unwrap();
                self.endpoint.answer(now, caller, rtp);
            }
            AriEvent::HungUp { caller }
            | AriEvent::TakenOver { caller }
            | AriEvent::NotReached { caller, .. } => self.over(caller),
            AriEvent::Lost { caller, .. } => {
                self.over(caller);
                self.endpoint.leave(now, caller, "error", None);
            }
            AriEvent::Replaced
            | AriEvent::NeighbourSilent { .. }
            | AriEvent::Connected
            | AriEvent::Disconnected
            | AriEvent::Media { .. }
            | AriEvent::Extension { .. }
            | AriEvent::Key { .. }
            | AriEvent::Hold { .. } => {}
        }
    }

    fn over(&mut self, caller: CallerId) {
        assert!(self.there.remove(&caller).is_some(), "ended twice");
        self.up.remove(&caller);
        self.ended += 1;
    }

    /// Calls somebody; the name of his channel.
    fn dial(&mut self) -> (CallerId, String) {
        let caller = self.endpoint.prepare_dial().unwrap();
        let channel = self.endpoint.channel(caller).unwrap().to_owned();
        self.there.insert(caller, channel.clone());
        self.arrived += 1;
        let dial = Dial {
            endpoint: "PJSIP/+39061@carrier".to_owned(),
            caller_id: None,
            timeout: Duration::from_secs(33),
        };
        let now = self.now();
        self.endpoint.dial(now, caller, &dial);
        self.settle();
        self.run(100);
        (caller, channel)
    }

    fn leave(&mut self, caller: CallerId, outcome: &'static str) {
        self.over(caller);
        self.endpoint.leave(self.now(), caller, outcome, None);
    }

    /// What is on the wire is lost; what Asterisk keeps stays.
    fn disconnect(&mut self) {
        self.asterisk.connected = false;
        self.asterisk.saying.clear();
        self.asterisk.asked.clear();
    }

    fn cut(&mut self) {
        self.disconnect();
        self.endpoint.handle_closed(self.now());
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.endpoint.callers(), 0);
        assert_eq!(self.arrived, self.ended);
        let left: Vec<_> = self.asterisk.channels.keys().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(
            self.asterisk.bridges.is_empty(),
            "{:?}",
            self.asterisk.bridges
        );
    }
}

#[test]
fn a_caller_comes_in_talks_presses_keys_and_goes_on_in_the_dialplan() {
    let mut world = World::new(1);
    world.asterisk.format = "(alaw)";
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(200);
    let (&caller, _) = world.there.first_key_value().unwrap();
    let [bridge] = world.asterisk.bridges.values().collect::<Vec<_>>()[..] else {
        panic!("one bridge");
    };
    assert_eq!(bridge.len(), 2, "caller and media: {bridge:?}");
    let key = json!({"type": "ChannelDtmfReceived", "digit": "#", "duration_ms": 100,
        "channel": FakeAsterisk::snapshot("c1")});
    let ms = world.ms;
    world.asterisk.say(ms, &key);
    world.run(100);
    world.leave(caller, "wrong_pin");
    world.run(200);
    assert_eq!(
        world.asterisk.left,
        [("c1".to_owned(), Some("wrong_pin".to_owned()))]
    );
    world.assert_nothing_is_left();
    let told = |wanted: fn(&AriEvent) -> bool| world.told.iter().filter(|e| wanted(e)).count();
    assert_eq!(
        told(|e| matches!(e, AriEvent::Key { key, .. } if key.as_char() == '#')),
        1
    );
    assert_eq!(
        told(
            |e| matches!(e, AriEvent::Media { codec: Codec::Pcma, remote, .. }
            if remote.to_string() == "192.0.2.9:20002")
        ),
        1
    );
    let AriEvent::Arrived { incoming, .. } = world
        .told
        .iter()
        .find(|e| matches!(e, AriEvent::Arrived { .. }))
        .unwrap()
    else {
        unreachable!()
    };
    assert_eq!(incoming.language, Some(Language::English));
    assert_eq!(incoming.channel_language, Some(Language::Italian));
    assert_eq!(incoming.pin.as_ref().unwrap().expose(), "48151623");
    assert_eq!(incoming.caller.expose(), "0612345678");
    assert_eq!(incoming.sip_call_id.as_deref(), Some("abc@phone"));
    let printed = format!("{:?}", world.told);
    assert!(
        !printed.contains("48151623") && !printed.contains("0612345678"),
        "{printed}"
    );
}

#[test]
fn a_caller_goes_on_at_an_extension_that_is_found_first() {
    let mut world = World::new(33);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    let (now, caller) = (world.now(), CallerId(1));
    let there = DialplanPlace::new("desk", "42", 1).unwrap();
    let elsewhere = DialplanPlace::new("desk", "43", 1).unwrap();
    world.endpoint.find_extension(now, caller, &elsewhere);
    world.endpoint.find_extension(now, caller, &there);
    world.run(100);
    let found = world.told.iter().filter_map(|event| {
        let AriEvent::Extension { exists, .. } = event else {
            return None;
        };
        Some(*exists)
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    assert_eq!(found, [Some(false), Some(true)]);
    // While the connection is away nothing is sent; he goes on there when it is back.
    world.asterisk.hung = true;
    world.over(caller);
    world.endpoint.leave(now, caller, "joined", Some(there));
    world.run(10_000);
    world.asterisk.hung = false;
    world.run(5_000);
    assert_eq!(world.asterisk.places, ["42"]);
    let left = ("c1".to_owned(), Some("joined".to_owned()));
    assert_eq!(world.asterisk.left, [left]);
    world.assert_nothing_is_left();
}

#[test]
fn who_waits_to_hear_of_an_extension_is_told_when_the_connection_is_lost() {
    let mut world = World::new(34);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    let (now, caller) = (world.now(), CallerId(1));
    let there = DialplanPlace::new("desk", "42", 1).unwrap();
    world.asterisk.hung = true;
    world.endpoint.find_extension(now, caller, &there);
    world.run(50);
    world.cut();
    world.run(50);
    let found = world.told.iter().filter_map(|event| {
        let AriEvent::Extension { caller, exists } = event else {
            return None;
        };
        Some((*caller, *exists))
    });
    assert_eq!(found.collect::<Vec<_>>(), [(caller, None)]);
    assert_eq!(world.up.len(), 1, "he himself stays");
}

#[test]
fn requests_for_one_caller_keep_their_order_whatever_they_are_about() {
    let mut world = World::new(31);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.asterisk.call(ms, "c2");
    world.run(300);
    let (now, callers) = (world.now(), world.up.clone());
    assert_eq!(callers.len(), 2);
    for caller in &callers {
        world.endpoint.leave(now, *caller, "joined", None);
    }
    let asked = std::iter::from_fn(|| world.endpoint.poll_transmit());
    let whose: Vec<_> = asked
        .filter_map(|transmit| match transmit {
            Transmit::Ask(asked) => Some(asked.whose.expect("somebody's")),
            Transmit::Open | Transmit::Close => None,
        })
        .collect();
    let each: Vec<u64> = callers.iter().map(|caller| caller.0).collect();
    let (first, second) = whose.split_at(whose.len() / 2);
    assert_eq!(
        first.len(),
        5,
        "state, outcome, on his way; media and bridge"
    );
    assert!(first.iter().all(|whose| *whose == each[0]));
    assert!(second.iter().all(|whose| *whose == each[1]));
}

#[test]
fn a_request_that_finds_no_way_ends_its_call_at_once_and_no_other() {
    let mut world = World::new(32);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    world.asterisk.hung = true;
    let (ms, now) = (world.ms, world.now());
    let arrival = json!({"type": "StasisStart", "args": ["number=+39061"],
        "channel": FakeAsterisk::snapshot("c2")});
    world.endpoint.handle_text(now, &arrival.to_string());
    let caller = CallerId(2);
    while world.endpoint.poll_event().is_some() {}
    let rtp = "192.0.2.1:20000".parse().unwrap();
    world.endpoint.answer(now, caller, rtp);
    let Some(Transmit::Ask(asked)) = world.endpoint.poll_transmit() else {
        panic!("the answer is asked for at {ms}");
    };
    world
        .endpoint
        .handle_answer(now, asked.id, None, String::new());
    let told: Vec<_> = std::iter::from_fn(|| world.endpoint.poll_event()).collect();
    assert!(
        matches!(told.as_slice(), [AriEvent::Lost { caller, status: None, .. }] if *caller == CallerId(2)),
        "{told:?}"
    );
    assert_eq!(world.endpoint.counters().unanswered, 1);
}

#[test]
fn a_phone_that_speaks_opus_is_transcoded_to_g722_and_counted() {
    let mut world = World::new(2);
    world.asterisk.format = "(opus)";
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(200);
    assert_eq!(world.up.len(), 1);
    assert_eq!(world.endpoint.counters().transcoded, 1);
    let g722 = |e: &AriEvent| {
        matches!(
            e,
            AriEvent::Media {
                codec: Codec::G722,
                ..
            }
        )
    };
    assert!(world.told.iter().any(g722));
}

#[test]
fn callers_stay_while_the_connection_is_away_and_leave_when_it_is_back() {
    let mut world = World::new(3);
    world.run(100);
    for name in ["stays", "hangs up meanwhile", "is sent away meanwhile"] {
        let ms = world.ms;
        world.asterisk.call(ms, name);
    }
    world.run(500);
    assert_eq!(world.up.len(), 3);
    world.reachable = false;
    world.cut();
    world.run(5_000);
    assert_eq!(world.up.len(), 3, "nothing is heard of a lost connection");
    let ms = world.ms;
    world.asterisk.end(ms, "hangs up meanwhile");
    let away = world
        .there
        .iter()
        .find(|(_, name)| *name == "is sent away meanwhile");
    let away = *away.unwrap().0;
    world.leave(away, "ended");
    world.reachable = true;
    world.run(3_000);
    assert_eq!(world.there.values().collect::<Vec<_>>(), ["stays"]);
    assert_eq!(
        world.asterisk.left,
        [(
            "is sent away meanwhile".to_owned(),
            Some("ended".to_owned())
        )]
    );
    assert_eq!(world.asterisk.bridges.len(), 1);
}

#[test]
fn an_asterisk_that_hangs_is_noticed_and_connected_to_again() {
    let mut world = World::new(4);
    world.run(100);
    let connections = world.endpoint.counters().connections;
    world.asterisk.hung = true;
    world.run(4_500);
    assert!(
        world
            .told
            .iter()
            .any(|e| matches!(e, AriEvent::Disconnected))
    );
    world.asterisk.hung = false;
    world.run(3_000);
    assert!(world.endpoint.is_connected());
    assert!(world.endpoint.counters().connections > connections);
}

#[test]
fn who_stays_hears_music_until_the_next_process_has_him() {
    let mut world = World::new(12);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    let ours: Vec<String> = world.asterisk.bridges.keys().cloned().collect();
    assert_eq!((ours.len(), world.asterisk.music.len()), (1, 0));
    let now = world.now();
    world.endpoint.play_music(now);
    world.run(100);
    assert!(world.asterisk.music.iter().eq(&ours));
    let mut world = world.next_process(13);
    world.run(500);
    assert_eq!(world.up.len(), 1);
    let silent = |bridge: &String| !world.asterisk.music.contains(bridge);
    assert_eq!(world.asterisk.bridges.len(), 1);
    assert!(world.asterisk.bridges.keys().all(silent));
}

#[test]
fn a_new_process_finds_the_callers_of_the_old_one_and_removes_its_remains() {
    let mut world = World::new(4);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    assert_eq!(world.asterisk.bridges.len(), 1);
    let ms = world.ms;
    world.asterisk.call(ms, "c2");
    world.run(5);
    let mut world = world.next_process(6);
    world.run(500);
    assert_eq!(world.up.len(), 2);
    assert_eq!(world.endpoint.counters().adopted, 2);
    assert_eq!(world.pasts["c1"].as_deref(), Some("where c1 is"));
    assert_eq!(world.pasts["c2"], None, "he was nowhere yet");
    assert_eq!(
        world.endpoint.counters().orphans,
        2,
        "a media channel and a bridge"
    );
    assert_eq!(world.asterisk.channels.len(), 4);
    assert_eq!(world.asterisk.bridges.len(), 2);
}

#[test]
fn a_hundred_callers_are_back_within_a_second_of_their_asterisk_s_time() {
    let mut world = World::new(11);
    world.run(100);
    for n in 0..100 {
        let ms = world.ms;
        world.asterisk.call(ms, &format!("c{n}"));
    }
    world.run(1_000);
    let mut world = world.next_process(12);
    world.run(1_000);
    assert_eq!(world.up.len(), 100);
    assert!(
        world
            .pasts
            .iter()
            .all(|(name, past)| past.as_ref() == Some(&format!("where {name} is")))
    );
    world.run(60_000);
    assert_eq!(
        (world.asterisk.channels.len(), world.asterisk.bridges.len()),
        (200, 100)
    );
    assert_eq!((world.arrived, world.ended), (100, 0));
}

#[test]
fn nothing_stands_beside_a_caller_who_goes_back_to_the_dialplan() {
    let mut world = World::new(13);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    let mut world = world.next_process(14);
    world.run(300);
    let (&caller, _) = world.there.first_key_value().unwrap();
    world.leave(caller, "joined");
    world.run(200);
    assert_eq!(world.asterisk.left_behind, [Some(String::new())]);
}

#[test]
fn what_changes_while_the_connection_is_away_is_written_down_when_it_is_back() {
    let mut world = World::new(15);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    world.reachable = false;
    world.cut();
    world.run(1_000);
    let (&caller, _) = world.there.first_key_value().unwrap();
    world
        .endpoint
        .remember(world.now(), caller, "muted".to_owned());
    world.run(9_000);
    assert_eq!(world.asterisk.channels["c1"].variables[PAST], "where c1 is");
    world.reachable = true;
    world.run(3_000);
    assert_eq!(world.asterisk.channels["c1"].variables[PAST], "muted");
    assert_eq!(
        world.up.len(),
        1,
        "ten seconds without it cost nobody anything"
    );
}

#[test]
fn an_asterisk_that_starts_anew_has_lost_its_callers_and_they_are_told_lost() {
    let mut world = World::new(16);
    world.run(100);
    for name in ["c1", "c2", "c3"] {
        let ms = world.ms;
        world.asterisk.call(ms, name);
    }
    world.run(300);
    world.reachable = false;
    world.cut();
    world.asterisk = FakeAsterisk::new(17);
    world.run(2_000);
    world.reachable = true;
    world.run(2_500);
    assert_eq!(world.ended, 3, "within five seconds");
    world.assert_nothing_is_left();
    let ms = world.ms;
    world.asterisk.call(ms, "c4");
    world.run(300);
    assert_eq!(world.up.len(), 1, "it goes on by itself");
}

#[test]
fn what_could_not_be_deleted_is_found_again_within_half_a_minute() {
    let mut world = World::new(18);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    let ms = world.ms;
    world.asterisk.refuses = 1;
    world.asterisk.end(ms, "c1");
    world.run(200);
    world.asterisk.refuses = 0;
    assert_eq!(
        (world.asterisk.channels.len(), world.asterisk.bridges.len()),
        (1, 1)
    );
    world.run(30_000);
    world.assert_nothing_is_left();
}

#[test]
fn of_two_processes_with_one_name_the_later_has_the_callers_and_the_earlier_is_silent() {
    let mut earlier = World::new(19);
    earlier.run(100);
    let ms = earlier.ms;
    earlier.asterisk.call(ms, "c1");
    earlier.run(300);
    let mut later = World::new(20);
    std::mem::swap(&mut earlier.asterisk, &mut later.asterisk);
    later.disconnect();
    earlier.asterisk.connected = true;
    earlier.asterisk.hung = true;
    later.run(500);
    assert_eq!(later.up.len(), 1);
    assert_eq!(later.pasts["c1"].as_deref(), Some("where c1 is"));
    let replaced = json!({"type": "ApplicationReplaced", "application": "vb"}).to_string();
    let now = earlier.now();
    earlier.endpoint.handle_text(now, &replaced);
    let (&caller, _) = earlier.there.first_key_value().unwrap();
    earlier
        .endpoint
        .remember(now, caller, "elsewhere".to_owned());
    earlier.endpoint.leave(now, caller, "error", None);
    assert_eq!(earlier.endpoint.poll_transmit(), None, "not a word");
    let now = now + Duration::from_secs(1);
    earlier.endpoint.handle_timeout(now);
    let Some(Transmit::Ask(asks)) = earlier.endpoint.poll_transmit() else {
        panic!("it asks whose the name is");
    };
    assert_eq!(earlier.endpoint.poll_transmit(), None);
    let owner = later.asterisk.globals["VOICEBRIDGE_OWNER_vb"].clone();
    let answer = json!({"type": "RESTResponse", "request_id": asks.id.to_string(),
        "status_code": 200, "message_body": json!({"value": owner}).to_string()});
    earlier.endpoint.handle_text(now, &answer.to_string());
    assert_eq!(earlier.endpoint.poll_transmit(), Some(Transmit::Close));
    assert_eq!(earlier.endpoint.poll_timeout(), None);
    assert_eq!(earlier.endpoint.callers(), 0);
}

/// Somebody connected under our name.
fn replace(world: &mut World, owner: Option<&str>) {
    if let Some(owner) = owner {
        let name = "VOICEBRIDGE_OWNER_vb".to_owned();
        world.asterisk.globals.insert(name, owner.to_owned());
    }
    let ms = world.ms;
    let replaced = json!({"type": "ApplicationReplaced", "application": "vb"});
    world.asterisk.say(ms, &replaced);
}

#[test]
fn who_is_replaced_by_another_lets_go_and_keeps_away() {
    let mut world = World::new(7);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    let asked = world.endpoint.counters().connections;
    replace(&mut world, Some("another"));
    world.run(60_000);
    assert!(world.told.iter().any(|e| matches!(e, AriEvent::Replaced)));
    assert_eq!(world.endpoint.counters().connections, asked);
    assert_eq!(world.asterisk.channels.len(), 2, "they are another's now");
}

#[test]
fn a_connection_of_our_own_that_comes_late_costs_nobody_anything() {
    let mut world = World::new(21);
    world.run(100);
    let ms = world.ms;
    world.asterisk.call(ms, "c1");
    world.run(300);
    for _ in 0..3 {
        replace(&mut world, None);
        world.run(1_500);
    }
    assert!(world.endpoint.is_connected());
    assert!(!world.told.iter().any(|e| matches!(e, AriEvent::Replaced)));
    assert_eq!(world.up.len(), 1);
    assert_eq!(world.asterisk.channels.len(), 2);
}

#[test]
fn what_cannot_be_read_is_counted_and_nothing_else() {
    let mut world = World::new(8);
    world.run(100);
    let before = world.endpoint.counters();
    for text in [
        "",
        "{",
        "[]",
        "{\"type\":\"StasisStart\"}",
        "{\"type\":7}",
        "\u{0}",
    ] {
        world.endpoint.handle_text(world.now(), text);
    }
    for text in [
        "{\"type\":\"PeerStatusChange\"}",
        "{\"type\":\"ChannelCreated\",\"channel\":{}}",
    ] {
        world.endpoint.handle_text(world.now(), text);
    }
    let stray = "{\"type\":\"RESTResponse\",\"request_id\":\"x\",\"status_code\":200}";
    world.endpoint.handle_text(world.now(), stray);
    let after = world.endpoint.counters();
    assert_eq!(after.malformed - before.malformed, 6);
    assert_eq!(after.ignored - before.ignored, 2);
    assert_eq!(after.stray - before.stray, 1);
}

/// Everything at once, for many seeds.
#[test]
fn whatever_happens_every_end_is_told_once_and_nothing_is_left() {
    for seed in 1..=120 {
        let mut world = World::new(seed);
        world.asterisk.by_http = seed > 60;
        let mut dice = Dice(seed.wrapping_mul(77) | 1);
        let mut calls = 0;
        for _ in 0..60 {
            trouble(&mut world, &mut dice, &mut calls);
            let pause = 1 + dice.roll(700);
            world.run(pause);
        }
        world.reachable = true;
        world.asterisk.hung = false;
        world.asterisk.refuses = 0;
        world.run(10_000);
        let ms = world.ms;
        let names: Vec<_> = world.there.values().cloned().collect();
        for name in names {
            world.asterisk.end(ms, &name);
        }
        world.run(50_000);
        world.assert_nothing_is_left();
        assert!(calls > 5, "seed {seed}");
    }
}

const PAST: &str = "VOICEBRIDGE_STATE";

fn trouble(world: &mut World, dice: &mut Dice, calls: &mut u64) {
    let ms = world.ms;
    match dice.roll(12) {
        0..=3 => {
            *calls += 1;
            world.asterisk.call(ms, &format!("c{calls}"));
        }
        4 | 5 => {
            if let Some(name) = world.there.values().next().cloned() {
                world.asterisk.end(ms, &name);
            }
        }
        6 | 7 => {
            if let Some(&caller) = world.up.first() {
                world.leave(caller, "joined");
            }
        }
        8 => world.cut(),
        9 => world.reachable = !world.reachable,
        10 => world.asterisk.hung = !world.asterisk.hung,
        _ => world.asterisk.refuses = [0, 0, 8][dice.roll(3) as usize],
    }
}

#[test]
fn whom_we_call_comes_in_when_he_answers_and_is_hung_up_on_instead_of_going_on_in_the_dialplan() {
    let mut world = World::new(31);
    world.run(100);
    let (caller, channel) = world.dial();
    assert!(world.up.is_empty(), "he is only rung");
    let ms = world.ms;
    world.asterisk.pick_up(ms, &channel);
    world.run(300);
    assert_eq!(world.up.len(), 1);
    world.leave(caller, "ended");
    world.run(300);
    assert!(world.asterisk.left.is_empty(), "{:?}", world.asterisk.left);
    world.assert_nothing_is_left();
}

#[test]
fn why_somebody_can_t_be_had_is_told_and_nothing_is_left_of_him() {
    let mut world = World::new(32);
    world.run(100);
    let (_, channel) = world.dial();
    let ms = world.ms;
    world.asterisk.fail(ms, &channel, 17);
    world.run(100);
    let busy = |event: &AriEvent| matches!(event, AriEvent::NotReached { q850: 17, .. });
    assert_eq!(world.told.iter().filter(|event| busy(event)).count(), 1);
    world.assert_nothing_is_left();
}

#[test]
fn who_is_rung_no_longer_is_wanted_stops_ringing() {
    let mut world = World::new(33);
    world.run(100);
    let (caller, _) = world.dial();
    world.leave(caller, "ended");
    world.run(300);
    world.assert_nothing_is_left();
}

#[test]
fn a_call_that_asterisk_refuses_is_lost_at_once() {
    let mut world = World::new(34);
    world.run(100);
    world.asterisk.refuses = 1;
    world.dial();
    world.asterisk.refuses = 0;
    let lost = |event: &AriEvent| {
        matches!(
            event,
            AriEvent::Lost {
                status: Some(500),
                ..
            }
        )
    };
    assert!(world.told.iter().any(lost));
    world.run(25_000);
    world.assert_nothing_is_left();
}

#[test]
fn who_rings_through_a_cut_connection_rings_on() {
    let mut world = World::new(35);
    world.run(100);
    let (caller, channel) = world.dial();
    world.cut();
    world.run(1_500);
    let ms = world.ms;
    world.asterisk.pick_up(ms, &channel);
    world.run(300);
    assert_eq!(world.up.len(), 1);
    world.leave(caller, "ended");
    world.run(300);
    world.assert_nothing_is_left();
    assert!(
        World::new(36).endpoint.prepare_dial().is_none(),
        "nobody is there to ask"
    );
}

#[test]
fn whoever_is_rung_or_asked_when_the_process_dies_is_let_go_and_who_is_in_stays() {
    for hides_ringing in [false, true] {
        let mut world = World::new(37);
        world.asterisk.hides_ringing = hides_ringing;
        world.run(100);
        let (_, is_in) = world.dial();
        let ms = world.ms;
        world.asterisk.pick_up(ms, &is_in);
        world.run(300);
        world.remembers = false;
        let (_, asked) = world.dial();
        let ms = world.ms;
        world.asterisk.pick_up(ms, &asked);
        world.run(300);
        let (_, rung) = world.dial();
        assert_eq!((world.up.len(), world.asterisk.channels.len()), (2, 5));

        let mut world = world.next_process(38);
        world.run(500);
        if hides_ringing {
            // Then it is found when he answers.
            let ms = world.ms;
            world.asterisk.pick_up(ms, &rung);
            world.run(100);
        }
        assert_eq!(world.there.values().collect::<Vec<_>>(), [&is_in]);
        assert!(world.pasts[&is_in].is_some());
        assert_eq!((world.up.len(), world.asterisk.channels.len()), (1, 2));
        assert_eq!(world.asterisk.bridges.len(), 1);
        let (&caller, _) = world.there.first_key_value().unwrap();
        world.leave(caller, "ended");
        world.run(300);
        assert!(world.asterisk.left.is_empty());
        world.assert_nothing_is_left();
    }
}

#[test]
fn whom_we_called_comes_back_from_the_dialplan_as_a_caller_like_any_other() {
    for (args, arrives) in [(vec!["number=+39061"], true), (vec![], false)] {
        let mut world = World::new(39);
        world.run(100);
        let now = world.now();
        let came = json!({"type": "StasisStart", "args": args,
            "channel": FakeAsterisk::snapshot("vb.dial.1-0000000001")});
        world.endpoint.handle_text(now, &came.to_string());
        let told: Vec<_> = std::iter::from_fn(|| world.endpoint.poll_event()).collect();
        let arrived = told
            .iter()
            .any(|told| matches!(told, AriEvent::Arrived { incoming, .. } if !incoming.dialled));
        assert_eq!(arrived, arrives, "{args:?}: {told:?}");
        assert_eq!(world.endpoint.counters().orphans, u64::from(!arrives));
    }
}
