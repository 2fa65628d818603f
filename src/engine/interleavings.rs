//! How a leg moves between threads, in all interleavings: the real control side and the real
//! threads, driven by their smallest steps in every order there is, with every choice of what is
//! asked. States that were seen before are not entered again.
//!
//! The control side's own steps (take events, take one thing back, pass on what waits) come in any
//! order here; `pump` has fewer. So a step between any two of its parts is covered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::control::State;
use super::port::RingSizes;
use super::thread::{Asked, Passing};
use super::*;
use crate::media::clip::Rendition;
use crate::media::codec::Codec;
use crate::media::command::LegSlot;
use crate::media::parameters::{MediaParameters, TelephoneEvent};
use crate::media::playback::SilenceFrames;
use crate::units::{BridgeId, LegId};

/// What the gateway may ask. Legs by the order of their calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ask {
    /// Another call: sockets and agreement.
    Call,
    /// Sockets only.
    Open,
    /// The first agreement, or a re-INVITE with another codec.
    Agree(usize),
    Join(usize, u64),
    Leave(usize),
    Echo(usize),
    Play(usize),
    Mute(usize),
    Close(usize),
}

/// One step of one of the parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Ask(Ask),
    /// A key is pressed at the phone of a leg.
    Press(usize),
    /// A thread carries out one command.
    Obey(usize),
    /// A thread fetches what its sockets have.
    Hear(usize),
    /// A thread tells what there was no room for before, as it does after each frame.
    Tell(usize),
    /// The control side takes a thread's events.
    Events(usize),
    /// The control side takes one thing back.
    Back(usize),
    /// The control side passes on what waits for room.
    Flush(usize),
}

/// Where an exploration begins and what may happen in it.
struct Scenario {
    begin: &'static [Ask],
    asks: &'static [Ask],
    asks_max: usize,
    presses: &'static [(usize, usize)],
    room: RingSizes,
    legs_max: usize,
}

struct Call {
    leg: LegId,
    phone: UdpSocket,
    to: SocketAddr,
    sequence: u16,
    agreed: Option<Codec>,
    /// Asked of the leg and not yet done.
    due: VecDeque<Asked>,
    /// In which bridge it is to be.
    bridge: Option<BridgeId>,
    pressed: usize,
    /// Of those, still in the socket.
    unheard: usize,
    told: usize,
    closing: bool,
    closed: bool,
}

struct World {
    control: Control,
    threads: Vec<MediaThread>,
    now: Instant,
    calls: Vec<Call>,
    clip: Arc<Rendition>,
    tokens: u32,
    asks_left: usize,
}

impl World {
    fn begin(scenario: &Scenario, silence: &Arc<SilenceFrames>, now: Instant) -> Self {
        let config = EngineConfig {
            address: "127.0.0.1".parse().unwrap(),
            ports: 23_600..=23_699,
            threads: 2,
            legs_max: scenario.legs_max,
            ..EngineConfig::default()
        };
        let (control, threads) = Control::sides(config, now, silence, scenario.room).unwrap();
        let mut world = Self {
            control,
            threads,
            now,
            calls: Vec::new(),
            clip: Arc::new(Rendition {
                codec: Codec::Pcmu,
                payload: vec![0xFF; 160].into(),
                frame_ends: vec![160].into(),
                pcm: vec![0; 160].into(),
            }),
            tokens: 0,
            asks_left: scenario.asks_max,
        };
        for ask in scenario.begin {
            world.ask(*ask);
            world.settle();
        }
        world
    }

    /// Runs to where nothing is left to be done.
    fn settle(&mut self) {
        while let Some(step) = self.inner_steps().first().copied() {
            self.take(step);
        }
    }

    /// All that may happen next.
    fn steps(&mut self, scenario: &Scenario) -> Vec<Step> {
        let mut steps = self.inner_steps();
        if self.asks_left > 0 {
            let possible = scenario.asks.iter().filter(|ask| self.is_possible(**ask));
            steps.extend(possible.map(|ask| Step::Ask(*ask)));
        }
        for (call, most) in scenario.presses {
            let call_state = self.calls.get(*call);
            if call_state.is_some_and(|call| call.pressed < *most && !call.closed) {
                steps.push(Step::Press(*call));
            }
        }
        steps
    }

    /// What happens of itself.
    fn inner_steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for thread in 0..self.threads.len() {
            if self.threads[thread].can_obey() {
                steps.push(Step::Obey(thread));
            }
            if self.has_to_hear(thread) {
                steps.push(Step::Hear(thread));
            }
            if self.has_to_tell(thread) {
                steps.push(Step::Tell(thread));
            }
            let port = self.control.port(thread);
            if !port.events_waiting().is_empty() {
                steps.push(Step::Events(thread));
            }
            if !port.returned_waiting().is_empty() {
                steps.push(Step::Back(thread));
            }
            if port.can_flush() {
                steps.push(Step::Flush(thread));
            }
        }
        steps
    }

    fn has_to_hear(&self, thread: usize) -> bool {
        self.threads[thread].residents().any(|(_, leg, _)| {
            self.calls
                .iter()
                .any(|call| call.leg == leg && call.unheard > 0)
        })
    }

    /// Does a leg hold a key for which there is room in the ring now?
    fn has_to_tell(&mut self, thread: usize) -> bool {
        let told: Vec<_> = (0..self.threads.len())
            .flat_map(|thread| self.control.port(thread).events_waiting())
            .collect();
        let holds = |call: &Call| {
            let in_rings = told.iter().filter(|key| **key == Some(call.leg)).count();
            call.pressed > call.unheard + call.told + in_rings
        };
        self.threads[thread].can_tell()
            && self.threads[thread]
                .residents()
                .any(|(_, leg, _)| self.calls.iter().any(|call| call.leg == leg && holds(call)))
    }

    fn is_possible(&self, ask: Ask) -> bool {
        match ask {
            Ask::Call | Ask::Open => self.control.legs() < self.control.legs_max(),
            Ask::Agree(n)
            | Ask::Join(n, _)
            | Ask::Leave(n)
            | Ask::Echo(n)
            | Ask::Play(n)
            | Ask::Mute(n)
            | Ask::Close(n) => self.calls.get(n).is_some_and(|call| !call.closed),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask(ask) => {
                self.asks_left -= 1;
                self.ask(ask);
            }
            Step::Press(call) => self.calls[call].press(),
            Step::Obey(thread) => self.obey(thread),
            Step::Hear(thread) => {
                self.threads[thread].hear(self.now);
                for call in &mut self.calls {
                    let lives = self.threads[thread]
                        .residents()
                        .any(|(_, leg, _)| leg == call.leg);
                    if lives {
                        call.unheard = 0;
                    }
                }
            }
            Step::Tell(thread) => self.threads[thread].tell_all(),
            Step::Events(thread) => self.control.hear_events(thread),
            Step::Back(thread) => self.control.take_one_back(thread),
            Step::Flush(thread) => self.control.port(thread).flush(),
        }
        self.read_events();
    }

    /// Who obeys is who was meant, and what it does is what comes next.
    fn obey(&mut self, thread: usize) {
        if let Some(Passing::Leg(slot, asked)) = self.threads[thread].next_command() {
            let leg = self.threads[thread].leg_at(slot);
            let call = self.calls.iter_mut().find(|call| Some(call.leg) == leg);
            let call = call.expect("a command reached an empty slot");
            call.did(asked);
        }
        assert!(self.threads[thread].step(self.now));
    }

    fn read_events(&mut self) {
        for event in self.control.collected() {
            match event {
                EngineEvent::Key { leg, key } => {
                    let call = self.call(leg);
                    assert!(!call.closed, "a key after the end");
                    assert_eq!(key.as_char(), digit(call.told), "keys in order, once each");
                    call.told += 1;
                }
                EngineEvent::LegClosed { leg, .. } => {
                    let call = self.call(leg);
                    assert!(!call.closed && call.closing, "closed once, and when asked");
                    call.closed = true;
                    call.due.clear();
                }
                EngineEvent::PlayFinished { leg, .. }
                | EngineEvent::MediaStarted { leg, .. }
                | EngineEvent::MediaLost { leg }
                | EngineEvent::Talking { leg, .. }
                | EngineEvent::Handshake { leg, .. }
                | EngineEvent::Report { leg, .. } => {
                    assert!(!self.call(leg).closed, "news after the end");
                }
            }
        }
    }

    fn call(&mut self, leg: LegId) -> &mut Call {
        let call = self.calls.iter_mut().find(|call| call.leg == leg);
        call.expect("an event of a leg that never was")
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Call => {
                self.open();
                self.agree(self.calls.len() - 1);
            }
            Ask::Open => self.open(),
            Ask::Agree(n) => self.agree(n),
            Ask::Join(n, bridge) => self.join(n, BridgeId(bridge)),
            Ask::Leave(n) => {
                let waiting = self.waiting_for(n);
                self.control.leave(self.calls[n].leg);
                self.calls[n].place(Asked::Leave, None, waiting);
            }
            Ask::Echo(n) => {
                let waiting = self.waiting_for(n);
                self.control.join(self.calls[n].leg, BridgeId(0), true);
                self.calls[n].place(Asked::Echo, None, waiting);
            }
            Ask::Play(n) => {
                self.tokens += 1;
                let items = vec![Arc::clone(&self.clip)];
                self.control.play(self.calls[n].leg, items, self.tokens);
                self.calls[n].is_asked(Asked::Play(self.tokens));
            }
            Ask::Mute(n) => {
                self.control.mute(self.calls[n].leg, true);
                self.calls[n].is_asked(Asked::Mute(true));
            }
            Ask::Close(n) => {
                self.calls[n].is_asked(Asked::Close);
                self.calls[n].closing = true;
                self.calls[n].bridge = None;
                self.control.close_leg(self.calls[n].leg);
            }
        }
        self.read_events();
    }

    fn join(&mut self, n: usize, bridge: BridgeId) {
        let waiting = self.waiting_for(n);
        self.control.join(self.calls[n].leg, bridge, false);
        let bridges = self.control.bridges_believed();
        let there = bridges.iter().find(|(id, ..)| *id == bridge);
        if self.calls[n].bridge != Some(bridge)
            && let Some((_, _, slot, _)) = there
        {
            self.calls[n].place(Asked::Join(*slot), Some(bridge), waiting);
        }
    }

    /// Commands that the control side keeps for a leg.
    fn waiting_for(&self, n: usize) -> usize {
        let believed = self.control.believed();
        let believed = believed.iter().find(|it| it.leg == self.calls[n].leg);
        match believed.map(|believed| &believed.state) {
            Some(State::Opened(waiting) | State::Moving(waiting)) => waiting.len(),
            Some(State::Living(_) | State::Closing) | None => 0,
        }
    }

    fn open(&mut self) {
        let opened = self.control.open_leg().unwrap();
        self.calls.push(Call {
            leg: opened.leg,
            phone: UdpSocket::bind("127.0.0.1:0").unwrap(),
            to: opened.rtp,
            sequence: 1,
            agreed: None,
            due: VecDeque::new(),
            bridge: None,
            pressed: 0,
            unheard: 0,
            told: 0,
            closing: false,
            closed: false,
        });
    }

    fn agree(&mut self, n: usize) {
        let call = &mut self.calls[n];
        let another = match call.agreed {
            Some(Codec::Pcmu) => Codec::Pcma,
            Some(Codec::Pcma | Codec::G722 | Codec::Opus) | None => Codec::Pcmu,
        };
        if call.agreed.replace(another).is_some() {
            call.is_asked(Asked::Update);
        }
        let parameters = call.parameters(another);
        self.control.connect_leg(call.leg, &parameters).unwrap();
    }

    /// Holds in every state.
    fn check(&mut self) {
        let mut places: HashMap<LegId, usize> = HashMap::new();
        for believed in self.control.believed() {
            if matches!(believed.state, State::Opened(_)) {
                *places.entry(believed.leg).or_default() += 1;
            }
        }
        for thread in 0..self.threads.len() {
            assert!(
                self.threads[thread].is_all_fitted(),
                "a leg came before what its bridge needs for it"
            );
            let mut slots: Vec<LegSlot> = self.control.port(thread).free_legs().to_vec();
            let mut found: Vec<(LegSlot, LegId)> = self.threads[thread]
                .residents()
                .map(|(slot, leg, _)| (slot, leg))
                .collect();
            for passing in self.passing(thread) {
                if let Passing::Adopt(slot, leg)
                | Passing::Closed(slot, leg)
                | Passing::Released(slot, leg) = passing
                {
                    found.push((slot, leg));
                }
            }
            for (slot, leg) in found {
                slots.push(slot);
                *places.entry(leg).or_default() += 1;
            }
            slots.sort_unstable();
            assert!(
                slots.windows(2).all(|pair| pair[0] != pair[1]),
                "a slot in two hands: {slots:?}"
            );
            assert_eq!(slots.len(), self.control.legs_max(), "a slot is lost");
        }
        let legs: Vec<_> = self.control.believed();
        assert!(
            places.values().all(|count| *count == 1),
            "a leg in two places: {places:?}"
        );
        assert_eq!(places.len(), legs.len(), "a leg in no place: {legs:?}");
    }

    fn passing(&mut self, thread: usize) -> Vec<Passing> {
        let mut passing = self.threads[thread].commands_waiting();
        let port = self.control.port(thread);
        passing.extend(port.backlog());
        passing.extend(port.returned_waiting());
        passing
    }

    /// Nothing is left to be done: what was asked is how it is.
    fn check_at_rest(&mut self) {
        let bridges = self.control.bridges_believed();
        for believed in self.control.believed() {
            let threads = &self.threads;
            let call = self.calls.iter().find(|call| call.leg == believed.leg);
            let call = call.expect("a leg that nobody called for");
            match believed.state {
                State::Living(slot) => {
                    assert!(call.due.is_empty(), "not done: {:?}", call.due);
                    assert_eq!(call.told, call.pressed, "a key was lost");
                    assert_eq!(believed.bridge, call.bridge);
                    let slot_of = |id| {
                        let entry = bridges.iter().find(|(bridge, ..)| *bridge == id);
                        let (_, thread, slot, _) = entry.expect("a bridge with members is there");
                        assert_eq!(
                            *thread, believed.thread,
                            "on another thread than its bridge"
                        );
                        *slot
                    };
                    let expected = (slot, call.leg, call.bridge.map(slot_of));
                    assert!(
                        threads[believed.thread]
                            .residents()
                            .any(|resident| resident == expected),
                        "{expected:?}"
                    );
                }
                State::Opened(_) => assert_eq!(call.agreed, None),
                State::Moving(_) | State::Closing => panic!("stuck: {believed:?}"),
            }
        }
        for thread in 0..self.threads.len() {
            let here: Vec<_> = self.threads[thread].bridges().collect();
            let members = |slot| {
                let bridge = here.iter().find(|(bridge, _)| *bridge == slot);
                bridge.map_or(0, |(_, members)| members.len())
            };
            let believed: Vec<_> = bridges.iter().filter(|(_, on, ..)| *on == thread).collect();
            assert_eq!(here.len(), believed.len(), "a bridge too many or too few");
            let alive = |(id, _, slot, count): &&(BridgeId, usize, _, usize)| {
                let opened = self.calls.iter().filter(|call| {
                    call.agreed.is_none() && !call.closed && call.bridge == Some(*id)
                });
                members(*slot) + opened.count() == *count
            };
            assert!(believed.iter().all(alive), "{believed:?} {here:?}");
        }
    }

    /// After the last call nothing is left of any.
    fn check_at_end(mut self) {
        for n in 0..self.calls.len() {
            if !self.calls[n].closing {
                self.ask(Ask::Close(n));
            }
        }
        self.settle();
        assert_eq!(self.control.legs(), 0);
        assert!(self.calls.iter().all(|call| call.closed));
        assert!(self.control.bridges_believed().is_empty());
        for thread in 0..self.threads.len() {
            assert!(self.passing(thread).is_empty());
            assert_eq!(self.threads[thread].bridges().count(), 0);
            let room = self.control.legs_max();
            let port = self.control.port(thread);
            assert_eq!(port.free_bridges().len(), 2 * room);
            assert_eq!((port.legs, port.bridges), (0, 0));
        }
        assert_eq!(Arc::strong_count(&self.clip), 1, "a recording is kept");
    }

    /// The state, in so far as it decides what can happen. Tokens differ between states that are
    /// the same otherwise.
    fn fingerprint(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let without_token = |asked: &Asked| match asked {
            Asked::Play(_) => Asked::Play(0),
            Asked::Release
            | Asked::Close
            | Asked::Update
            | Asked::StopPlaying
            | Asked::Music
            | Asked::Mute(_)
            | Asked::Sound
            | Asked::Rewire
            | Asked::Join(_)
            | Asked::Echo
            | Asked::Leave => *asked,
        };
        for mut believed in self.control.believed() {
            if let State::Opened(waiting) | State::Moving(waiting) = &mut believed.state {
                waiting
                    .iter_mut()
                    .for_each(|asked| *asked = without_token(asked));
            }
            believed.hash(&mut hasher);
        }
        self.control.bridges_believed().hash(&mut hasher);
        self.control.fitted().hash(&mut hasher);
        for thread in 0..self.threads.len() {
            let mut passing = self.threads[thread].commands_waiting();
            let commands = passing.len();
            let port = self.control.port(thread);
            passing.extend(port.backlog());
            for passing in &mut passing {
                if let Passing::Leg(_, asked) = passing {
                    *asked = without_token(asked);
                }
            }
            (commands, passing).hash(&mut hasher);
            port.returned_waiting().hash(&mut hasher);
            port.events_waiting().hash(&mut hasher);
            (port.free_legs(), port.free_bridges()).hash(&mut hasher);
            self.threads[thread]
                .residents()
                .for_each(|resident| resident.hash(&mut hasher));
            self.threads[thread]
                .bridges()
                .for_each(|bridge| bridge.hash(&mut hasher));
        }
        for call in &self.calls {
            call.due
                .iter()
                .for_each(|asked| without_token(asked).hash(&mut hasher));
            (call.leg, call.bridge, call.agreed, call.pressed, call.told).hash(&mut hasher);
            (call.closing, call.closed, call.unheard).hash(&mut hasher);
        }
        self.asks_left.hash(&mut hasher);
        hasher.finish()
    }
}

impl Call {
    fn is_asked(&mut self, asked: Asked) {
        if !self.closing {
            self.due.push_back(asked);
        }
    }

    /// Of the places that wait for a leg on its way, with `waiting` commands, only the last counts.
    fn place(&mut self, asked: Asked, bridge: Option<BridgeId>, waiting: usize) {
        let held = self.due.split_off(self.due.len() - waiting);
        let kept = held.into_iter().filter(|earlier| !earlier.is_place());
        self.due.extend(kept);
        self.is_asked(asked);
        if !self.closing {
            self.bridge = bridge;
        }
    }

    /// A thread does something with the leg: what is due next.
    fn did(&mut self, asked: Asked) {
        if asked != Asked::Release {
            assert_eq!(self.due.pop_front(), Some(asked), "out of order");
        }
    }

    /// One packet of RFC 4733 that begins and ends a key.
    fn press(&mut self) {
        let event = digit(self.pressed).to_digit(10).unwrap() as u8;
        let mut packet = vec![0x80, 0x80 | 101];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 4_000).to_be_bytes());
        packet.extend([0, 0, 0, 7, event, 0x80 | 10, 0x03, 0x20]);
        self.phone.send_to(&packet, self.to).unwrap();
        self.sequence += 1;
        self.pressed += 1;
        self.unheard += 1;
    }

    fn parameters(&self, codec: Codec) -> MediaParameters {
        let phone = self.phone.local_addr().unwrap();
        MediaParameters {
            telephone_event: Some(TelephoneEvent {
                payload_type: 101,
                clock: 8_000,
            }),
            remote_rtcp: phone,
            ..MediaParameters::plain(codec, phone)
        }
    }
}

/// The key that is pressed as the n-th.
fn digit(n: usize) -> char {
    char::from(b'1' + (n % 9) as u8)
}

/// Tells the way into a state in which something did not hold.
struct Trail(Vec<Step>);

impl Drop for Trail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}", self.0);
        }
    }
}

/// All states that can be reached; returns how many there are.
fn explore(scenario: &Scenario) -> usize {
    let silence = Arc::new(SilenceFrames::new().unwrap());
    let now = now();
    let mut seen = HashSet::new();
    let mut open = vec![Vec::new()];
    while let Some(way) = open.pop() {
        let mut trail = Trail(way);
        let mut world = World::begin(scenario, &silence, now);
        trail.0.iter().for_each(|step| world.take(*step));
        while seen.insert(world.fingerprint()) {
            world.check();
            if world.inner_steps().is_empty() {
                world.check_at_rest();
            }
            let steps = world.steps(scenario);
            let Some((first, others)) = steps.split_first() else {
                world.check_at_end();
                break;
            };
            for other in others {
                let way = trail.0.iter().chain([other]);
                open.push(way.copied().collect());
            }
            trail.0.push(*first);
            world.take(*first);
        }
    }
    seen.len()
}

#[expect(clippy::disallowed_methods, reason = "only a place to count from")]
fn now() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

const PLENTY: RingSizes = RingSizes {
    commands: 64,
    events: 64,
    returned: 64,
};

/// As little as there may be: every command waits for the one before it.
const SCARCE: RingSizes = RingSizes {
    commands: 1,
    events: 1,
    returned: 2,
};

#[test]
fn a_leg_that_moves_is_in_one_place_and_obeys_all_that_it_is_asked_in_order() {
    let states = explore(&Scenario {
        begin: &[Ask::Call, Ask::Call, Ask::Join(0, 1)],
        asks: &[
            Ask::Join(1, 1),
            Ask::Join(1, 2),
            Ask::Leave(1),
            Ask::Play(1),
            Ask::Close(1),
            Ask::Close(0),
        ],
        asks_max: 3,
        presses: &[(1, 2)],
        room: PLENTY,
        legs_max: 2,
    });
    assert!(states > 10_000, "{states} states");
}

#[test]
fn a_new_call_in_a_reused_place_is_never_taken_for_the_one_before() {
    let states = explore(&Scenario {
        begin: &[Ask::Call, Ask::Call, Ask::Join(0, 1)],
        asks: &[
            Ask::Join(1, 1),
            Ask::Agree(1),
            Ask::Close(1),
            Ask::Call,
            Ask::Play(2),
            Ask::Join(2, 1),
        ],
        asks_max: 5,
        presses: &[(1, 1), (2, 1)],
        room: PLENTY,
        legs_max: 2,
    });
    assert!(states > 2_500, "{states} states");
}

#[test]
fn what_is_asked_of_a_call_before_its_answer_is_done_after_it() {
    let states = explore(&Scenario {
        begin: &[Ask::Call, Ask::Open, Ask::Join(0, 1)],
        asks: &[
            Ask::Join(1, 1),
            Ask::Leave(1),
            Ask::Echo(1),
            Ask::Mute(1),
            Ask::Agree(1),
            Ask::Close(1),
        ],
        asks_max: 4,
        presses: &[(1, 1)],
        room: PLENTY,
        legs_max: 2,
    });
    assert!(states > 2_500, "{states} states");
}

#[test]
fn with_no_room_in_the_rings_all_arrives_later_and_in_order() {
    let states = explore(&Scenario {
        begin: &[Ask::Call, Ask::Call, Ask::Join(0, 1)],
        asks: &[
            Ask::Join(1, 1),
            Ask::Join(1, 2),
            Ask::Play(1),
            Ask::Close(1),
        ],
        asks_max: 3,
        presses: &[(1, 2)],
        room: SCARCE,
        legs_max: 2,
    });
    assert!(states > 2_500, "{states} states");
}
