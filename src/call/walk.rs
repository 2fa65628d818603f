//! Random walks: whatever happens in whatever order, nothing panics, nothing hangs, every call
//! leaves exactly one record, and what the calls believe of a meeting is what the meeting knows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::booking::admission::{CallId, OrganisationId};
use crate::booking::{
    Admission, HangupBy, MeetingId, NoLine, NoLineWhy, ParticipantId, PinVerdict, Refusal, Role,
    SpokenDigits,
};
use crate::call::scenarios::{admission, arrival, clocks, past};
use crate::call::{
    Arrival, Call, CallInput, CallLimits, CallOutput, CallPhase, MutedBy, Outgoing, Past,
    Rejection, RoomNotice, RoomOutput, RoomRefusal, RoomTerms, RoomVerdict, Rooms, SeatState,
    WaitFor,
};
use crate::units::{Brand, BridgeId, Key, Language};

/// SplitMix64: the same walk from the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    fn pick<T: Clone>(&mut self, things: &[T]) -> T {
        things[self.roll(things.len() as u64) as usize].clone()
    }

    /// Milliseconds to hours, the short ones far more often.
    fn span(&mut self) -> Duration {
        let scale = self.pick(&[0, 50, 1_000, 5_000, 15_000, 120_000, 3_600_000]);
        Duration::from_millis(self.roll(scale + 1))
    }

    fn key(&mut self) -> Key {
        Key::from_char(self.pick(&['1', '2', '6', '6', '*', '*', '#', '#', '0', 'A'])).unwrap()
    }

    fn admission(&mut self, wall: Timestamp) -> Admission {
        let role = self.pick(&[
            Role::Guest,
            Role::Guest,
            Role::Host,
            Role::Listener,
            Role::Bridge,
        ]);
        let mut booked = admission(role);
        booked.meeting = MeetingId(Uuid::from_u128(u128::from(self.roll(2))));
        booked.opens_at = wall + Duration::from_secs(600) - self.span();
        booked.ends_at = self.one_in(2).then(|| wall + self.span());
        booked.capacity = self.one_in(2).then(|| self.roll(5) as u32);
        booked.wait_for_host = self.one_in(3);
        booked.mute_on_join = self.one_in(3);
        booked.guests_may_unmute = self.one_in(2);
        booked.sound.noise_suppression = self.one_in(4);
        booked.echo = self.one_in(8);
        booked
    }

    fn refusal(&mut self, wall: Timestamp) -> Refusal {
        match self.roll(9) {
            0 => Refusal::TooEarly {
                opens_at: Box::new(wall.to_zoned(jiff::tz::TimeZone::UTC)),
            },
            1 => Refusal::Ended,
            2 => Refusal::Cancelled,
            3 => Refusal::Unavailable,
            4 => Refusal::Unproven(SpokenDigits::new(self.roll(100) as u8)),
            5 => Refusal::NoLine(NoLine {
                why: NoLineWhy::Callers,
                organisation: OrganisationId(Uuid::from_u128(3)),
                brand: Brand::of("demo"),
                meeting: MeetingId(Uuid::from_u128(4)),
                occurrence: None,
                language: None,
            }),
            _ => Refusal::Wrong,
        }
    }

    fn verdict(&mut self, wall: Timestamp) -> PinVerdict {
        if self.one_in(3) {
            return PinVerdict::Refused(self.refusal(wall));
        }
        PinVerdict::Admitted(Box::new(self.admission(wall)))
    }

    fn notice(&mut self) -> RoomNotice {
        let participant = ParticipantId(Uuid::from_u128(7));
        let others = self.roll(3) as u32;
        self.pick(&[
            RoomNotice::Opened {
                participant,
                others,
                muted: others == 1,
            },
            RoomNotice::Wait(WaitFor::Host),
            RoomNotice::Wait(WaitFor::Start),
            RoomNotice::Refused(RoomRefusal::Full),
            RoomNotice::Alone,
            RoomNotice::Company,
            RoomNotice::HeadCount(others),
            RoomNotice::MutedByHost(true),
            RoomNotice::MutedByHost(false),
            RoomNotice::EndsIn { minutes: 5 },
            RoomNotice::Ended,
            RoomNotice::Removed,
        ])
    }

    /// Anything at all, whether it fits or not; endings are rare.
    fn input(&mut self, wall: Timestamp) -> CallInput {
        let participant = ParticipantId(Uuid::from_u128(7));
        match self.roll(43) {
            0..=2 => CallInput::Arrived(arrival("100", self.one_in(4).then_some("123456"))),
            3..=5 => CallInput::Answered,
            6..=9 => CallInput::SayFinished,
            10..=13 => CallInput::PinVerdict(self.verdict(wall)),
            14..=16 => {
                let (others, muted) = (self.roll(3) as u32, self.one_in(2));
                CallInput::RoomVerdict(RoomVerdict::Joined {
                    participant,
                    others,
                    muted,
                })
            }
            17 => CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Host)),
            18 => CallInput::RoomVerdict(RoomVerdict::Refused(RoomRefusal::Locked)),
            19..=22 => CallInput::Room(self.notice()),
            23 if self.one_in(3) => CallInput::HungUp,
            24 if self.one_in(3) => CallInput::Lost,
            25 if self.one_in(3) => CallInput::Drop(HangupBy::System),
            26 if self.one_in(3) => {
                CallInput::Unwanted(arrival("100", None), Rejection::UnknownNumber)
            }
            27 if self.one_in(3) => CallInput::Unsecured,
            40 | 41 => CallInput::PickedUp,
            42 if self.one_in(3) => CallInput::NotReached {
                q850: self.pick(&[17, 19, 21, 34]),
            },
            _ => CallInput::Key(self.key()),
        }
    }

    /// One in so many is called by us.
    fn outgoing(&mut self, n: u64, wall: Timestamp) -> Option<Box<Outgoing>> {
        let language = self.pick(&[None, Some(Language::Italian)]);
        self.one_in(n).then(|| {
            Box::new(Outgoing {
                admission: Box::new(self.admission(wall)),
                language,
            })
        })
    }
}

/// Watches the outputs of one call.
#[derive(Default)]
struct Watch {
    answers: u32,
    enters: u32,
    leaves: u32,
    hang_ups: u32,
    records: u32,
    music: bool,
}

impl Watch {
    fn see(&mut self, call: &mut Call) {
        while let Some(output) = call.poll_output() {
            assert_eq!(
                self.records, 0,
                "nothing comes after the record: {output:?}"
            );
            assert!(
                self.hang_ups == 0 || matches!(output, CallOutput::Record(_)),
                "{output:?}"
            );
            match output {
                CallOutput::Answer => self.answers += 1,
                CallOutput::Enter(_) | CallOutput::Return { .. } => self.enters += 1,
                CallOutput::Leave => self.leaves += 1,
                CallOutput::HangUp { .. } => self.hang_ups += 1,
                CallOutput::Record(_) => self.records += 1,
                CallOutput::Music(on) => {
                    assert_ne!(self.music, on, "said once");
                    self.music = on;
                }
                CallOutput::Say { phrases, .. } => assert!(!phrases.is_empty()),
                CallOutput::Ring
                | CallOutput::Reject(_)
                | CallOutput::StopSaying
                | CallOutput::LookUpPin { .. }
                | CallOutput::Challenged(_)
                | CallOutput::LookUpPast(_)
                | CallOutput::LookUpInvited(_)
                | CallOutput::Dial
                | CallOutput::Mute(_)
                | CallOutput::AskHeadCount => {}
            }
            assert!(self.leaves <= self.enters && self.enters <= 1 && self.answers <= 1);
        }
    }
}

#[test]
fn whatever_happens_a_call_ends_with_one_record() {
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let (mut now, mut wall) = clocks();
        let limits = CallLimits {
            ring: dice.pick(&[Duration::ZERO, Duration::from_secs(2)]),
            pin_length_auto: dice.pick(&[None, Some(6)]),
            ..CallLimits::default()
        };
        let mut call = Call::new(CallId(Uuid::from_u128(1)), limits);
        let mut watch = Watch::default();
        let arrives = Arrival {
            past: dice.one_in(4).then(|| Box::new(past(Role::Guest))),
            outgoing: dice.outgoing(3, wall),
            ..arrival("100", None)
        };
        call.handle_input(now, wall, CallInput::Arrived(arrives));
        for _ in 0..dice.roll(200) {
            let span = dice.span().min(Duration::from_secs(20));
            (now, wall) = (now + span, wall + span);
            let input = dice.input(wall);
            call.handle_input(now, wall, input);
            watch.see(&mut call);
            if dice.one_in(3) {
                call.handle_timeout(now, wall);
                watch.see(&mut call);
            }
        }
        let mut steps = 0;
        while let Some(due) = call.poll_timeout() {
            now = now.max(due);
            call.handle_timeout(now, wall);
            watch.see(&mut call);
            steps += 1;
            assert!(steps < 20, "seed {seed}: never stuck, never spinning");
        }
        watch.see(&mut call);
        assert_eq!(watch.records, 1, "seed {seed}");
        assert_eq!(call.summary().phase, CallPhase::Ended, "seed {seed}");
        call.handle_input(now, wall, dice.input(wall));
        watch.see(&mut call);
    }
}

/// One caller as the gateway sees him.
struct Leg {
    call: Call,
    bridge: Option<BridgeId>,
    echo: bool,
    music: bool,
    muted: bool,
    records: u32,
    /// He came back; whether he is alone is not said at once.
    back: bool,
}

/// Calls and rooms wired as the gateway wires them.
struct Gateway {
    dice: Dice,
    now: Instant,
    wall: Timestamp,
    rooms: Rooms,
    legs: BTreeMap<CallId, Leg>,
    live: BTreeMap<MeetingId, bool>,
}

impl Gateway {
    fn new(seed: u64) -> Self {
        let (now, wall) = clocks();
        let legs = BTreeMap::new();
        Self {
            dice: Dice(seed),
            now,
            wall,
            rooms: Rooms::new(),
            legs,
            live: BTreeMap::new(),
        }
    }

    fn dial(&mut self, n: u128) {
        let id = CallId(Uuid::from_u128(n));
        let call = Call::new(id, CallLimits::default());
        let leg = Leg {
            call,
            bridge: None,
            echo: false,
            music: false,
            muted: false,
            records: 0,
            back: false,
        };
        self.legs.insert(id, leg);
        let past = self.dice.one_in(6).then(|| Box::new(self.past(id)));
        let outgoing = self.dice.outgoing(5, self.wall);
        let arrives = Arrival {
            past,
            outgoing,
            ..arrival("100", Some("123456"))
        };
        self.input(id, CallInput::Arrived(arrives));
        self.input(id, CallInput::PickedUp);
        self.input(id, CallInput::Answered);
        self.input(id, CallInput::Key(Key::from_event(1).unwrap()));
    }

    fn past(&mut self, call: CallId) -> Past {
        let booked = self.dice.admission(self.wall);
        let muted = booked.role == Role::Listener || self.dice.one_in(3);
        Past {
            call,
            meeting: booked.meeting,
            participant: ParticipantId(call.0),
            state: self.dice.pick(&[SeatState::Joined, SeatState::Waiting]),
            muted_by: muted.then_some(MutedBy::Host),
            may_unmute: booked.role != Role::Listener,
            ..past(booked.role)
        }
    }

    fn input(&mut self, id: CallId, input: CallInput) {
        let Some(leg) = self.legs.get_mut(&id) else {
            return;
        };
        leg.call.handle_input(self.now, self.wall, input);
        self.settle();
    }

    /// Drains everybody until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            let mut answers = Vec::new();
            let ids: Vec<CallId> = self.legs.keys().copied().collect();
            for id in ids {
                while let Some(output) = self.legs.get_mut(&id).unwrap().call.poll_output() {
                    answers.extend(self.perform(id, output).map(|input| (id, input)));
                }
            }
            while let Some(output) = self.rooms.poll_output() {
                answers.extend(self.perform_room(output));
            }
            if answers.is_empty() {
                return;
            }
            for (id, input) in answers {
                let leg = self.legs.get_mut(&id).unwrap();
                leg.call.handle_input(self.now, self.wall, input);
            }
        }
    }

    fn perform(&mut self, id: CallId, output: CallOutput) -> Option<CallInput> {
        let (now, wall) = (self.now, self.wall);
        let leg = self.legs.get_mut(&id).unwrap();
        assert_eq!(leg.records, 0, "{output:?}");
        match output {
            CallOutput::LookUpPin { .. } => {
                return Some(CallInput::PinVerdict(self.dice.verdict(wall)));
            }
            CallOutput::LookUpPast(past) => {
                let admission = Admission {
                    meeting: past.meeting,
                    role: past.role,
                    echo: false,
                    ..self.dice.admission(wall)
                };
                return Some(CallInput::PinVerdict(PinVerdict::Admitted(Box::new(
                    admission,
                ))));
            }
            CallOutput::LookUpInvited(_) => {
                return Some(CallInput::PinVerdict(self.dice.verdict(wall)));
            }
            CallOutput::Return { admission, past } => {
                leg.back = true;
                let verdict = self.rooms.restore(now, wall, id, &past, &admission);
                return Some(CallInput::RoomVerdict(verdict));
            }
            CallOutput::Enter(admission) => {
                let participant = ParticipantId(id.0);
                let verdict = self.rooms.enter(now, wall, id, participant, &admission);
                return Some(CallInput::RoomVerdict(verdict));
            }
            CallOutput::Leave => self.rooms.leave(now, wall, id),
            CallOutput::AskHeadCount => {
                let people = self
                    .rooms
                    .head_count(id)
                    .expect("only those who are in ask");
                return Some(CallInput::Room(RoomNotice::HeadCount(people)));
            }
            CallOutput::Mute(muted) => {
                leg.muted = muted;
                self.rooms.set_muted(id, leg.call.muted_by());
            }
            CallOutput::Music(on) => leg.music = on,
            CallOutput::Record(_) => leg.records += 1,
            CallOutput::Dial
            | CallOutput::Ring
            | CallOutput::Answer
            | CallOutput::Reject(_)
            | CallOutput::Say { .. }
            | CallOutput::StopSaying
            | CallOutput::Challenged(_)
            | CallOutput::HangUp { .. } => {}
        }
        None
    }

    fn perform_room(&mut self, output: RoomOutput) -> Option<(CallId, CallInput)> {
        match output {
            RoomOutput::Notice { call, notice } => return Some((call, CallInput::Room(notice))),
            RoomOutput::JoinBridge {
                call, bridge, echo, ..
            } => {
                let leg = self.legs.get_mut(&call).unwrap();
                assert_eq!(leg.bridge.replace(bridge), None, "in one bridge at a time");
                leg.echo = echo;
            }
            RoomOutput::Sound { call, .. } => {
                assert!(
                    self.legs[&call].bridge.is_some(),
                    "only who is in has a voice"
                );
            }
            RoomOutput::LeaveBridge { call } => {
                let left = self.legs.get_mut(&call).unwrap().bridge.take();
                assert!(left.is_some(), "he was in");
            }
            RoomOutput::PlayToBridge { bridge, .. } => {
                let hears = self.legs.values().any(|leg| leg.bridge == Some(bridge));
                assert!(hears, "there is somebody to hear it");
            }
            RoomOutput::MeetingStarted { meeting } => {
                assert_ne!(self.live.insert(meeting, true), Some(true));
            }
            RoomOutput::MeetingEnded { meeting } => {
                assert_eq!(self.live.insert(meeting, false), Some(true));
            }
        }
        None
    }

    fn anything(&mut self, step: u128) {
        let span = self.dice.span().min(Duration::from_secs(300));
        self.move_on(span);
        let ids: Vec<CallId> = self.legs.keys().copied().collect();
        let id = if ids.is_empty() {
            CallId(Uuid::nil())
        } else {
            self.dice.pick(&ids)
        };
        let booked = self.dice.admission(self.wall);
        let participant = ParticipantId(id.0);
        match self.dice.roll(20) {
            0..=7 => self.dial(step),
            8 | 9 => self.input(id, CallInput::HungUp),
            10..=13 => {
                let key = self.dice.key();
                self.input(id, CallInput::Key(key));
            }
            14 => self.input(id, CallInput::SayFinished),
            15 => self.rooms.update(
                self.now,
                self.wall,
                booked.meeting,
                RoomTerms::from(&booked),
            ),
            16 if self.dice.one_in(4) => {
                self.rooms.end(booked.meeting);
            }
            17 => {
                let muted = self.dice.one_in(2);
                // He may be in the other meeting or in none.
                let _ = self
                    .rooms
                    .set_muted_by_host(booked.meeting, participant, muted);
            }
            18 => {
                let _ = self.rooms.remove(booked.meeting, participant);
            }
            _ if self.dice.one_in(5) => {
                let jump = self.dice.span();
                self.wall = if self.dice.one_in(2) {
                    self.wall + jump
                } else {
                    self.wall - jump
                };
            }
            _ => {}
        }
        self.settle();
    }

    fn move_on(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(due) = self.due().filter(|due| *due <= end) {
            let then = due.max(self.now);
            self.wall += then - self.now;
            self.now = then;
            self.rooms.handle_timeout(self.now, self.wall);
            self.settle();
            for leg in self.legs.values_mut() {
                leg.call.handle_timeout(self.now, self.wall);
            }
            self.settle();
        }
        self.wall += end - self.now;
        self.now = end;
    }

    fn due(&self) -> Option<Instant> {
        let calls = self.legs.values().filter_map(|leg| leg.call.poll_timeout());
        calls.chain(self.rooms.poll_timeout()).min()
    }

    /// What must hold whenever everything has settled.
    fn check(&self) {
        for leg in self.legs.values() {
            let seen = leg.call.summary();
            let is_in = seen.phase == CallPhase::Joined;
            assert_eq!(leg.bridge.is_some(), is_in, "{seen:?}");
            assert_eq!(
                leg.records,
                u32::from(seen.phase == CallPhase::Ended),
                "{seen:?}"
            );
            if !is_in {
                continue;
            }
            assert_eq!(leg.muted, seen.muted_by.is_some(), "{seen:?}");
            let here = self
                .legs
                .values()
                .filter(|other| other.bridge == leg.bridge)
                .count();
            assert_eq!(self.rooms.head_count(seen.id), Some(here as u32));
            let person = seen.role != Some(Role::Bridge);
            if !leg.back {
                assert_eq!(leg.music, here == 1 && person && !leg.echo, "{seen:?}");
            }
            if let Some(meeting) = seen.meeting.filter(|_| !leg.echo) {
                let mut seats = self.rooms.participants(meeting).iter();
                let seat = seats
                    .find(|seat| seat.call == seen.id)
                    .expect("he has a seat");
                assert_eq!(seat.muted_by, seen.muted_by);
                assert_eq!(self.rooms.bridge(meeting), leg.bridge);
            }
        }
    }
}

#[test]
fn calls_and_rooms_agree_whatever_happens() {
    let mut joined = 0;
    for seed in 0..1_000 {
        let mut gateway = Gateway::new(seed);
        for step in 1..80 {
            gateway.anything(step);
            gateway.check();
        }
        joined += gateway
            .legs
            .values()
            .filter(|leg| leg.bridge.is_some())
            .count();
        // Nobody does anything any more: the limits alone must empty the house.
        gateway.move_on(Duration::from_secs(14 * 3_600));
        gateway.check();
        assert!(
            gateway.legs.values().all(|leg| leg.records == 1),
            "seed {seed}"
        );
        assert_eq!(gateway.due(), None, "seed {seed}");
        assert_eq!(gateway.rooms.live_meetings().count(), 0);
    }
    assert!(joined > 500, "the walk gets people into meetings: {joined}");
}
