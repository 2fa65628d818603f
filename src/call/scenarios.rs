//! What callers live through, line by line of what they are promised: exact outputs, pushed clocks.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::booking::admission::{CallId, OrganisationId};
use crate::booking::{
    Admission, CallRecord, CallerNumber, Direction, HangupBy, MeetingId, NoLine, NoLineWhy,
    Outcome, ParticipantId, Pin, PinVerdict, Refusal, Role, SpokenDigits, Standing,
};
use crate::call::{
    Arrival, Call, CallInput, CallLimits, CallOutput, CallPhase, Called, MutedBy, Outgoing, Past,
    Phrase, Rejection, RoomNotice, RoomRefusal, RoomVerdict, Rooms, Route, SeatState, WaitFor,
};
use crate::media::treatment::SoundOptions;
use crate::units::{Brand, Key, Language, Voice};

/// A caller's telephone, with both clocks in its hand.
struct Phone {
    call: Call,
    now: Instant,
    wall: Timestamp,
    record: Option<CallRecord>,
}

const WALL: &str = "2026-03-02T09:00:00Z";

pub(super) fn clocks() -> (Instant, Timestamp) {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do to count from"
    )]
    let now = Instant::now();
    (now, WALL.parse().unwrap())
}

pub(super) fn admission(role: Role) -> Admission {
    Admission {
        meeting: MeetingId(Uuid::from_u128(1)),
        revision: 1,
        occurrence: "20260302T090000".parse().ok(),
        organisation: OrganisationId(Uuid::from_u128(2)),
        brand: Brand::of("demo"),
        role,
        name: None,
        opens_at: "2026-03-02T08:00:00Z".parse().unwrap(),
        ends_at: Some("2026-03-02T10:00:00Z".parse().unwrap()),
        overrun: Duration::from_secs(3_600),
        capacity: None,
        wait_for_host: false,
        mute_on_join: false,
        guests_may_unmute: true,
        language: None,
        sound: SoundOptions::default(),
        echo: false,
    }
}

pub(super) fn arrival(number: &str, pin: Option<&str>) -> Arrival {
    Arrival {
        kind: "sip",
        caller: CallerNumber::new("+390612345678"),
        number: number.to_owned(),
        voice: Voice::everybodys(Language::English),
        pin: pin.map(|pin| Pin::parse(pin).unwrap()),
        trusted: false,
        past: None,
        outgoing: None,
        trunk: Some("carrier".to_owned()),
        verstat: None,
        sip_call_id: Some("a84b4c76e66710".to_owned()),
        asterisk_channel: Some("1795253665.8".to_owned()),
    }
}

/// Where a caller of the meeting in `admission` was half an hour after he called.
pub(super) fn past(role: Role) -> Past {
    let at = |text: &str| text.parse().unwrap();
    Past {
        call: CallId(Uuid::from_u128(42)),
        meeting: MeetingId(Uuid::from_u128(1)),
        participant: PARTICIPANT,
        role,
        name: Some("Ada".to_owned()),
        state: SeatState::Joined,
        since: at("2026-03-02T08:31:00Z"),
        muted_by: None,
        may_unmute: true,
        hand: false,
        started_at: at("2026-03-02T08:30:00Z"),
        answered_at: at("2026-03-02T08:30:01Z"),
        pin_attempts: 2,
        called: None,
    }
}

const PARTICIPANT: ParticipantId = ParticipantId(Uuid::from_u128(7));

fn joined(others: u32, muted: bool) -> CallInput {
    CallInput::RoomVerdict(RoomVerdict::Joined {
        participant: PARTICIPANT,
        others,
        muted,
    })
}

fn opened(others: u32) -> CallInput {
    CallInput::Room(RoomNotice::Opened {
        participant: PARTICIPANT,
        others,
        muted: false,
    })
}

fn admitted(admission: Admission) -> CallInput {
    CallInput::PinVerdict(PinVerdict::Admitted(Box::new(admission)))
}

fn refused(refusal: Refusal) -> CallInput {
    CallInput::PinVerdict(PinVerdict::Refused(refusal))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Phone {
    fn new(limits: CallLimits) -> Self {
        let (now, wall) = clocks();
        let call = Call::new(CallId(Uuid::from_u128(42)), limits);
        Self {
            call,
            now,
            wall,
            record: None,
        }
    }

    /// Rung, answered and greeted; the greeting still plays.
    fn greeted(limits: CallLimits) -> Self {
        let mut phone = Self::new(limits);
        assert_eq!(
            phone.on(CallInput::Arrived(arrival("100", None))),
            ["answer"]
        );
        assert_eq!(phone.on(CallInput::Answered), ["say en Welcome EnterPin"]);
        phone
    }

    /// With an accepted PIN, before the room.
    fn admitted(admission: Admission) -> Self {
        let mut phone = Self::greeted(CallLimits::default());
        assert_eq!(phone.keys("123456#"), ["quiet", "look up 123456"]);
        assert_eq!(phone.on(admitted(admission)), ["enter"]);
        phone
    }

    /// In the meeting.
    fn joined(role: Role, others: u32) -> Self {
        let mut phone = Self::admitted(admission(role));
        phone.on(joined(others, false));
        phone
    }

    /// Answered, after another process has lost him; the bookings are asked about his meeting.
    fn returning(past: &Past) -> Self {
        let mut phone = Self::new(CallLimits {
            ring: secs(2),
            ..CallLimits::default()
        });
        let arrival = Arrival {
            past: Some(Box::new(past.clone())),
            ..arrival("100", Some("999999"))
        };
        assert_eq!(phone.on(CallInput::Arrived(arrival)), ["answer"]);
        let looked_up = format!("look up {}", past.meeting);
        assert_eq!(phone.on(CallInput::Answered), [looked_up]);
        phone
    }

    /// In the meeting again, after another process has lost him there.
    fn back(past: &Past, others: u32) -> Self {
        let mut phone = Self::returning(past);
        assert_eq!(phone.on(admitted(admission(past.role))), ["return"]);
        let muted = past.muted_by.is_some();
        let expected: &[&str] = if muted { &["mute on"] } else { &[] };
        assert_eq!(phone.on(joined(others, muted)), expected);
        phone
    }

    fn on(&mut self, input: CallInput) -> Vec<String> {
        self.call.handle_input(self.now, self.wall, input);
        self.drain()
    }

    fn keys(&mut self, keys: &str) -> Vec<String> {
        let keys = keys.chars().map(|key| Key::from_char(key).unwrap());
        keys.flat_map(|key| self.on(CallInput::Key(key))).collect()
    }

    fn said(&mut self) -> Vec<String> {
        self.on(CallInput::SayFinished)
    }

    /// Lets time pass; time-outs come when they are due, not a moment later.
    fn pass(&mut self, duration: Duration) -> Vec<String> {
        let end = self.now + duration;
        let mut outputs = Vec::new();
        while let Some(due) = self.call.poll_timeout().filter(|due| *due <= end) {
            self.move_to(due.max(self.now));
            self.call.handle_timeout(self.now, self.wall);
            outputs.extend(self.drain());
        }
        self.move_to(end);
        outputs
    }

    fn move_to(&mut self, then: Instant) {
        self.wall += then - self.now;
        self.now = then;
    }

    fn drain(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        while let Some(output) = self.call.poll_output() {
            assert!(self.record.is_none(), "the record comes last: {output:?}");
            outputs.push(describe(&output));
            if let CallOutput::Record(record) = output {
                self.record = Some(*record);
            }
        }
        outputs
    }

    fn record(&self) -> &CallRecord {
        self.record.as_ref().unwrap()
    }
}

fn describe(output: &CallOutput) -> String {
    let on = |on: &bool| if *on { "on" } else { "off" };
    match output {
        CallOutput::Ring => "ring".to_owned(),
        CallOutput::Answer => "answer".to_owned(),
        CallOutput::Reject(why) => format!("reject {why:?}"),
        CallOutput::Say { voice, phrases } => {
            let phrases: Vec<String> = phrases.iter().map(|phrase| format!("{phrase:?}")).collect();
            format!("say {} {}", voice.language, phrases.join(" "))
        }
        CallOutput::StopSaying => "quiet".to_owned(),
        CallOutput::Music(state) => format!("music {}", on(state)),
        CallOutput::LookUpPin { pin, standing } => match standing {
            Standing::Unknown => format!("look up {}", pin.expose()),
            Standing::Proven | Standing::Trusted => {
                format!("look up {} {standing:?}", pin.expose())
            }
        },
        CallOutput::Challenged(passed) => format!("passed {passed}"),
        CallOutput::LookUpPast(past) => format!("look up {}", past.meeting),
        CallOutput::LookUpInvited(_) => "look up his invitation".to_owned(),
        CallOutput::Dial => "dial".to_owned(),
        CallOutput::Enter(_) => "enter".to_owned(),
        CallOutput::Return { .. } => "return".to_owned(),
        CallOutput::Mute(state) => format!("mute {}", on(state)),
        CallOutput::AskHeadCount => "ask head count".to_owned(),
        CallOutput::Leave => "leave".to_owned(),
        CallOutput::HangUp { q850 } => format!("hang up {q850}"),
        CallOutput::Record(record) => format!(
            "record {} by {:?} {}",
            record.outcome.word(),
            record.hangup_by,
            record.q850
        ),
    }
}

// 1: dialling.

#[test]
fn emergency_numbers_are_never_answered() {
    for number in ["112", "+1 1 3", "urn:service:sos.police"] {
        let mut phone = Phone::new(CallLimits::default());
        let outputs = phone.on(CallInput::Arrived(arrival(number, Some("123456"))));
        assert_eq!(outputs, ["reject Emergency", "record error by System 1"]);
        assert_eq!(phone.record().number, number);
        assert_eq!(phone.on(CallInput::Answered), [""; 0]);
    }
}

#[test]
fn an_unwanted_call_is_rejected_and_recorded() {
    for (number, why, expected) in [
        (
            "100",
            Rejection::UnknownNumber,
            ["reject UnknownNumber", "record error by System 1"],
        ),
        (
            "100",
            Rejection::Overload,
            ["reject Overload", "record overload by System 42"],
        ),
        (
            "911",
            Rejection::Overload,
            ["reject Emergency", "record error by System 1"],
        ),
    ] {
        let mut phone = Phone::new(CallLimits::default());
        assert_eq!(
            phone.on(CallInput::Unwanted(arrival(number, None), why)),
            expected
        );
    }
}

#[test]
fn it_rings_as_long_as_configured() {
    let mut phone = Phone::new(CallLimits {
        ring: secs(2),
        ..CallLimits::default()
    });
    assert_eq!(phone.on(CallInput::Arrived(arrival("100", None))), ["ring"]);
    assert_eq!(phone.pass(Duration::from_millis(1_999)), [""; 0]);
    assert_eq!(phone.pass(Duration::from_millis(1)), ["answer"]);
}

#[test]
fn a_cancelled_call_leaves_a_record() {
    let mut phone = Phone::new(CallLimits {
        ring: secs(2),
        ..CallLimits::default()
    });
    phone.on(CallInput::Arrived(arrival("100", None)));
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["record no_input by Caller 16"]
    );
    assert_eq!(phone.record().answered_at, None);
    assert_eq!(phone.call.poll_timeout(), None);
}

#[test]
fn a_call_that_is_never_acknowledged_is_given_up() {
    let mut phone = Phone::new(CallLimits::default());
    phone.on(CallInput::Arrived(arrival("100", None)));
    assert_eq!(phone.pass(secs(39)), [""; 0]);
    assert_eq!(
        phone.pass(secs(1)),
        ["hang up 102", "record error by Network 102"]
    );
}

// 2: the PIN.

#[test]
fn the_way_into_a_meeting() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.said(), [""; 0]);
    assert_eq!(phone.keys("123456"), [""; 0]);
    assert_eq!(phone.keys("#"), ["look up 123456"]);
    assert_eq!(phone.on(admitted(admission(Role::Guest))), ["enter"]);
    assert_eq!(phone.on(joined(3, false)), ["say en OthersPresent(3)"]);
    assert_eq!(phone.call.summary().phase, CallPhase::Joined);
    phone.pass(secs(60));
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["leave", "record joined by Caller 16"]
    );
    let record = phone.record();
    assert_eq!(record.started_at, WALL.parse().unwrap());
    assert_eq!(record.answered_at, Some(record.started_at));
    assert_eq!(record.ended_at, record.started_at + secs(60));
    assert_eq!(record.meeting, Some(MeetingId(Uuid::from_u128(1))));
    assert_eq!(
        record.organisation,
        Some(OrganisationId(Uuid::from_u128(2)))
    );
    assert_eq!(record.participant, Some(PARTICIPANT));
    assert_eq!((record.kind, record.number.as_str()), ("sip", "100"));
    assert_eq!(record.sip_call_id.as_deref(), Some("a84b4c76e66710"));
    assert_eq!(record.trunk.as_deref(), Some("carrier"));
    assert_eq!(record.asterisk_channel.as_deref(), Some("1795253665.8"));
    assert_eq!(record.pin_attempts, 1);
}

#[test]
fn the_first_key_stops_the_prompt_and_counts() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.keys("1"), ["quiet"]);
    assert_eq!(phone.keys("23456#"), ["look up 123456"]);
}

#[test]
fn keys_pressed_before_the_answer_is_acknowledged_count() {
    let mut phone = Phone::new(CallLimits::default());
    phone.on(CallInput::Arrived(arrival("100", None)));
    assert_eq!(phone.keys("123"), [""; 0]);
    assert_eq!(
        phone.on(CallInput::Answered),
        ["say en Welcome EnterPin", "quiet"]
    );
    assert_eq!(phone.keys("456#"), ["look up 123456"]);
}

#[test]
fn keys_that_no_telephone_has_do_nothing() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.keys("ABCD"), [""; 0]);
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["record no_input by Caller 16"]
    );
}

#[test]
fn star_starts_over() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.keys("999*123456#"), ["quiet", "look up 123456"]);
}

#[test]
fn after_star_the_prompt_comes_again_when_nothing_follows() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.keys("999*"), ["quiet"]);
    assert_eq!(phone.pass(Duration::from_millis(9_999)), [""; 0]);
    assert_eq!(phone.pass(Duration::from_millis(1)), ["say en EnterPin"]);
}

#[test]
fn four_seconds_after_a_digit_the_pin_is_complete() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("12345");
    phone.pass(Duration::from_millis(3_999));
    phone.keys("6");
    assert_eq!(phone.pass(Duration::from_millis(3_999)), [""; 0]);
    assert_eq!(phone.pass(Duration::from_millis(1)), ["look up 123456"]);
}

fn six_digits() -> CallLimits {
    CallLimits {
        pin_length_auto: Some(6),
        ..CallLimits::default()
    }
}

#[test]
fn the_longest_pin_needs_no_hash() {
    let mut phone = Phone::greeted(six_digits());
    assert_eq!(phone.keys("123456"), ["quiet", "look up 123456"]);
}

#[test]
fn a_shorter_pin_needs_hash_or_time() {
    let mut phone = Phone::greeted(six_digits());
    assert_eq!(phone.keys("12345#"), ["quiet", "look up 12345"]);
    let mut phone = Phone::greeted(six_digits());
    assert_eq!(phone.keys("12345"), ["quiet"]);
    assert_eq!(phone.pass(secs(4)), ["look up 12345"]);
}

#[test]
fn a_hash_soon_after_a_complete_pin_never_lands_in_the_meeting() {
    for (millis, swallowed) in [(0, true), (2_999, true), (3_000, false)] {
        let mut phone = Phone::greeted(six_digits());
        phone.keys("123456");
        phone.on(admitted(admission(Role::Guest)));
        phone.on(joined(1, false));
        phone.pass(Duration::from_millis(millis));
        phone.keys("#");
        // No command that begins with `#` is offered yet: the keypad itself is looked at.
        let half = format!("{:?}", phone.call).contains("half: None");
        assert_eq!(half, swallowed, "{millis} ms");
    }
}

#[test]
fn only_one_hash_is_swallowed_and_only_right_after_the_pin() {
    let mut phone = Phone::greeted(six_digits());
    phone.keys("123456");
    assert_eq!(
        phone.on(refused(Refusal::Wrong)),
        ["say en WrongPin EnterPin"]
    );
    assert_eq!(phone.keys("#"), [""; 0], "the late one, not even barge-in");
    assert_eq!(phone.keys("#"), ["quiet", "say en EnterPin"]);
    let mut phone = Phone::greeted(six_digits());
    phone.keys("123456");
    phone.on(refused(Refusal::Wrong));
    assert_eq!(phone.keys("1234#"), ["quiet", "look up 1234"]);
}

#[test]
fn a_lone_hash_asks_again_without_counting() {
    let mut phone = Phone::greeted(CallLimits::default());
    for _ in 0..8 {
        assert_eq!(phone.keys("#"), ["quiet", "say en EnterPin"]);
    }
    assert_eq!(phone.call.summary().pin_attempts, 0);
    assert_eq!(phone.keys("1234#"), ["quiet", "look up 1234"]);
}

#[test]
fn silence_is_asked_again_and_the_third_is_the_last() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.pass(secs(9)), [""; 0], "the prompt still plays");
    phone.said();
    assert_eq!(phone.pass(Duration::from_millis(9_999)), [""; 0]);
    assert_eq!(phone.pass(Duration::from_millis(1)), ["say en EnterPin"]);
    phone.said();
    assert_eq!(phone.pass(secs(10)), ["say en EnterPin"]);
    phone.said();
    assert_eq!(phone.pass(secs(10)), ["say en Goodbye"]);
    assert_eq!(
        phone.said(),
        ["hang up 102", "record no_input by System 102"]
    );
}

#[test]
fn ninety_seconds_are_enough_for_a_pin() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.said();
    for _ in 0..29 {
        phone.pass(secs(3));
        phone.keys("*");
    }
    assert_eq!(phone.pass(Duration::from_millis(2_999)), [""; 0]);
    assert_eq!(
        phone.pass(Duration::from_millis(1)),
        ["say en TimeLimit Goodbye"]
    );
    assert_eq!(
        phone.said(),
        ["hang up 102", "record no_input by System 102"]
    );
}

#[test]
fn a_prompt_that_never_finishes_does_not_hold_the_line() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(
        phone.pass(secs(101)),
        [
            "say en TimeLimit Goodbye",
            "hang up 102",
            "record no_input by System 102"
        ]
    );
}

#[test]
fn three_wrong_pins_are_a_goodbye() {
    let mut phone = Phone::greeted(CallLimits::default());
    for pin in ["111111", "222222"] {
        assert_eq!(
            phone.keys(&format!("{pin}#")),
            ["quiet".to_owned(), format!("look up {pin}")]
        );
        assert_eq!(
            phone.on(refused(Refusal::Wrong)),
            ["say en WrongPin EnterPin"]
        );
    }
    phone.keys("333333#");
    assert_eq!(
        phone.on(refused(Refusal::Wrong)),
        ["say en WrongPin Goodbye"]
    );
    assert_eq!(phone.keys("444444#"), [""; 0]);
    assert_eq!(
        phone.said(),
        ["hang up 16", "record wrong_pin by System 16"]
    );
    assert_eq!(phone.record().pin_attempts, 3);
    assert_eq!(phone.record().meeting, None);
}

#[test]
fn what_can_not_be_a_pin_is_a_wrong_pin() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.keys("123#"), ["quiet", "say en WrongPin EnterPin"]);
    assert_eq!(
        phone.keys("12345678901234567"),
        ["quiet"],
        "the seventeenth waits for its #"
    );
    assert_eq!(phone.keys("89012"), [""; 0]);
    assert_eq!(phone.pass(secs(4)), ["say en WrongPin EnterPin"]);
    assert_eq!(phone.keys("1#"), ["quiet", "say en WrongPin Goodbye"]);
    assert_eq!(phone.call.summary().pin_attempts, 3);
    assert_eq!(
        phone.said(),
        ["hang up 16", "record wrong_pin by System 16"]
    );
}

#[test]
fn who_gives_up_after_a_wrong_pin_had_a_wrong_pin() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("111111#");
    phone.on(refused(Refusal::Wrong));
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["record wrong_pin by Caller 16"]
    );
}

#[test]
fn who_hangs_up_while_keying_in_is_no_silent_caller() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("11");
    assert_eq!(phone.on(CallInput::HungUp), ["record error by Caller 16"]);
}

#[test]
fn a_pin_that_came_with_the_call_skips_the_prompt() {
    let mut phone = Phone::new(CallLimits::default());
    phone.on(CallInput::Arrived(arrival("100", Some("123456"))));
    assert_eq!(phone.on(CallInput::Answered), ["look up 123456"]);
    assert_eq!(
        phone.on(refused(Refusal::Wrong)),
        ["say en WrongPin EnterPin"]
    );
    for last in ["say en WrongPin EnterPin", "say en WrongPin Goodbye"] {
        phone.keys("111111#");
        assert_eq!(phone.on(refused(Refusal::Wrong)), [last]);
    }
}

fn unproven(digits: u8) -> CallInput {
    refused(Refusal::Unproven(SpokenDigits::new(digits)))
}

/// A caller who has keyed in a PIN and hears two digits.
fn challenged() -> Phone {
    let mut phone = Phone::greeted(six_digits());
    assert_eq!(phone.keys("123456"), ["quiet", "look up 123456"]);
    assert_eq!(phone.on(unproven(47)), ["say en KeyInDigits Digits(***)"]);
    phone
}

#[test]
fn who_keys_in_the_digits_that_he_hears_has_his_pin_looked_at() {
    let mut phone = challenged();
    // The hash of his PIN, and of the digits.
    assert_eq!(phone.keys("#"), [""; 0]);
    assert_eq!(
        phone.keys("47"),
        ["quiet", "passed true", "look up 123456 Proven"]
    );
    assert_eq!(phone.keys("#"), [""; 0]);
    assert_eq!(phone.on(admitted(admission(Role::Guest))), ["enter"]);
    assert_eq!(
        phone.on(joined(1, false)).first().unwrap(),
        "say en OthersPresent(1)"
    );
    phone.on(CallInput::HungUp);
    assert_eq!(phone.record().outcome, Outcome::Joined);
    assert_eq!(phone.record().pin_attempts, 1);
}

#[test]
fn who_has_shown_that_he_hears_is_not_asked_again_but_slowed() {
    let mut phone = challenged();
    phone.keys("47");
    let again = ["say en WrongPin EnterPin"];
    assert_eq!(phone.on(refused(Refusal::Wrong)), again);
    assert_eq!(phone.keys("222222"), ["quiet"]);
    assert_eq!(phone.pass(Duration::from_millis(1_999)), [""; 0]);
    assert_eq!(
        phone.pass(Duration::from_millis(1)),
        ["look up 222222 Proven"]
    );
    assert_eq!(phone.on(refused(Refusal::Wrong)), again);
    assert_eq!(phone.keys("333333"), ["quiet"]);
    assert_eq!(phone.pass(Duration::from_millis(3_999)), [""; 0]);
    assert_eq!(
        phone.pass(Duration::from_millis(1)),
        ["look up 333333 Proven"]
    );
    assert_eq!(
        phone.on(refused(Refusal::Wrong)),
        ["say en WrongPin Goodbye"]
    );
    phone.said();
    assert_eq!(phone.record().outcome, Outcome::WrongPin);
    assert_eq!(phone.record().pin_attempts, 3);
}

#[test]
fn what_a_slowed_caller_types_ahead_counts_in_the_meeting() {
    let mut phone = challenged();
    phone.keys("47");
    phone.on(refused(Refusal::Wrong));
    assert_eq!(phone.keys("222222*6"), ["quiet"]);
    assert_eq!(
        phone.pass(Duration::from_secs(2)),
        ["look up 222222 Proven"]
    );
    phone.on(admitted(admission(Role::Guest)));
    let told = phone.on(joined(1, false));
    assert!(
        told.iter().any(|output| output.contains("Mute")),
        "{told:?}"
    );
}

#[test]
fn three_times_other_digits_than_he_hears_are_a_goodbye_that_cost_no_guess() {
    let mut phone = challenged();
    assert_eq!(
        phone.keys("48"),
        ["quiet", "passed false", "look up 123456"]
    );
    // Other digits each time.
    assert_eq!(phone.on(unproven(5)), ["say en KeyInDigits Digits(***)"]);
    phone.said();
    assert_eq!(phone.keys("5"), [""; 0]);
    assert_eq!(
        phone.pass(secs(4)),
        ["passed false", "look up 123456"],
        "one digit is not both"
    );
    assert_eq!(phone.on(unproven(60)), ["say en KeyInDigits Digits(***)"]);
    phone.said();
    assert_eq!(phone.pass(secs(9)), [""; 0]);
    assert_eq!(
        phone.pass(secs(1)),
        ["passed false", "say en TryAgainLater Goodbye"]
    );
    phone.said();
    let record = phone.record();
    assert_eq!(
        (record.outcome, record.pin_attempts, record.hangup_by),
        (Outcome::ChallengeFailed, 1, HangupBy::System)
    );
}

#[test]
fn star_has_the_digits_said_again() {
    let mut phone = challenged();
    assert_eq!(
        phone.keys("4*"),
        ["quiet", "say en KeyInDigits Digits(***)"]
    );
    assert_eq!(phone.keys("A"), [""; 0]);
    assert_eq!(phone.keys("47").last().unwrap(), "look up 123456 Proven");
}

#[test]
fn who_hangs_up_while_he_hears_digits_has_not_shown_that_he_hears() {
    let mut phone = challenged();
    phone.on(CallInput::HungUp);
    assert_eq!(phone.record().outcome, Outcome::ChallengeFailed);
    let mut phone = challenged();
    let last = phone.pass(secs(90));
    assert!(
        last.contains(&"say en TimeLimit Goodbye".to_owned()),
        "{last:?}"
    );
    phone.said();
    assert_eq!(phone.record().outcome, Outcome::ChallengeFailed);
}

#[test]
fn a_pin_that_a_trusted_peer_brings_is_told_apart_from_one_that_is_keyed_in() {
    let mut phone = Phone::new(six_digits());
    let arrival = Arrival {
        trusted: true,
        ..arrival("100", Some("123456"))
    };
    phone.on(CallInput::Arrived(arrival));
    assert_eq!(phone.on(CallInput::Answered), ["look up 123456 Trusted"]);
    phone.on(refused(Refusal::Wrong));
    assert_eq!(phone.keys("222222"), ["quiet", "look up 222222"]);
}

#[test]
fn keys_during_the_look_up_are_kept_for_the_meeting() {
    let mut phone = Phone::greeted(CallLimits::default());
    assert_eq!(phone.keys("123456#*"), ["quiet", "look up 123456"]);
    phone.on(admitted(admission(Role::Guest)));
    assert_eq!(phone.keys("6"), [""; 0]);
    assert_eq!(
        phone.on(joined(1, false)),
        ["say en OthersPresent(1)", "mute on", "say en Muted"]
    );
}

#[test]
fn keys_during_the_look_up_of_a_wrong_pin_are_forgotten() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("123456#");
    phone.keys(&"7".repeat(100));
    phone.on(refused(Refusal::Wrong));
    assert_eq!(phone.keys("123456#"), ["quiet", "look up 123456"]);
}

#[test]
fn no_more_than_thirty_two_keys_are_kept() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("123456#");
    phone.keys(&"1".repeat(30));
    phone.keys("*6*6");
    phone.on(admitted(admission(Role::Guest)));
    assert_eq!(
        phone.on(joined(1, false)),
        ["say en OthersPresent(1)", "mute on", "say en Muted"]
    );
}

#[test]
fn a_key_is_a_sign_of_life() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.said();
    phone.pass(secs(10));
    phone.said();
    phone.pass(secs(10));
    assert_eq!(phone.keys("1*"), ["quiet"]);
    assert_eq!(phone.pass(secs(10)), ["say en EnterPin"]);
    phone.said();
    assert_eq!(phone.pass(secs(10)), ["say en EnterPin"]);
}

#[test]
fn a_prompt_that_finishes_late_gives_no_more_time() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("1234");
    phone.pass(secs(3));
    phone.said();
    assert_eq!(phone.pass(secs(1)), ["look up 1234"]);
}

// 3: valid PINs at the wrong moment.

#[test]
fn refusals_are_told_and_recorded() {
    let opens_at = Box::new("2026-03-02T11:00[Europe/Rome]".parse().unwrap());
    let tomorrow = Box::new("2026-03-03T00:30[Europe/Rome]".parse().unwrap());
    let today = format!(
        "{:?}",
        Phrase::OpensAt {
            opens_at: Clone::clone(&opens_at),
            today: true
        }
    );
    let later = format!(
        "{:?}",
        Phrase::OpensAt {
            opens_at: Clone::clone(&tomorrow),
            today: false
        }
    );
    let cases = [
        (
            Refusal::TooEarly { opens_at },
            today.as_str(),
            "too_early",
            16,
        ),
        (
            Refusal::TooEarly { opens_at: tomorrow },
            later.as_str(),
            "too_early",
            16,
        ),
        (Refusal::Ended, "MeetingEnded", "ended", 16),
        (Refusal::Cancelled, "MeetingCancelled", "cancelled", 16),
        (Refusal::Unavailable, "TryAgainLater", "error", 41),
        (no_line(NoLineWhy::Callers), "LinesTaken", "full", 16),
        (no_line(NoLineWhy::Minutes), "MinutesUsedUp", "full", 16),
    ];
    for (refusal, phrase, outcome, q850) in cases {
        let mut phone = Phone::greeted(CallLimits::default());
        phone.keys("123456#");
        assert_eq!(
            phone.on(refused(refusal)),
            [format!("say en {phrase} Goodbye")]
        );
        let record = format!("record {outcome} by System {q850}");
        assert_eq!(phone.said(), [format!("hang up {q850}"), record]);
    }
}

fn no_line(why: NoLineWhy) -> Refusal {
    Refusal::NoLine(NoLine {
        why,
        organisation: OrganisationId(Uuid::from_u128(3)),
        brand: Brand::of("demo"),
        meeting: MeetingId(Uuid::from_u128(4)),
        occurrence: None,
        language: None,
    })
}

#[test]
fn the_room_s_refusals_are_told_and_recorded() {
    for (refusal, phrase, outcome) in [
        (RoomRefusal::Full, "MeetingFull", "full"),
        (RoomRefusal::Locked, "MeetingLocked", "locked"),
        (RoomRefusal::Ended, "MeetingEnded", "ended"),
        (
            RoomRefusal::NumberNotAllowed,
            "NumberNotAllowed",
            "number_not_allowed",
        ),
    ] {
        let mut phone = Phone::admitted(admission(Role::Guest));
        let verdict = CallInput::RoomVerdict(RoomVerdict::Refused(refusal));
        assert_eq!(phone.on(verdict), [format!("say en {phrase} Goodbye")]);
        let record = format!("record {outcome} by System 16");
        assert_eq!(phone.said(), ["hang up 16".to_owned(), record]);
        assert!(phone.record().meeting.is_some());
    }
}

#[test]
fn bookings_or_rooms_that_do_not_answer_are_an_apology() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("123456#");
    assert_eq!(phone.pass(secs(10)), ["say en TryAgainLater Goodbye"]);
    assert_eq!(phone.said(), ["hang up 41", "record error by System 41"]);
    let mut phone = Phone::admitted(admission(Role::Guest));
    assert_eq!(
        phone.pass(secs(10)),
        ["leave", "say en TryAgainLater Goodbye"]
    );
    assert_eq!(phone.on(joined(1, false)), [""; 0], "too late");
    assert_eq!(phone.said(), ["hang up 41", "record error by System 41"]);
}

// 4: joining and waiting.

#[test]
fn the_meeting_s_language_replaces_the_number_s() {
    let mut italian = admission(Role::Guest);
    italian.language = Some(Language::Italian);
    let mut phone = Phone::admitted(italian);
    assert_eq!(phone.call.voice().brand, Some(Brand::of("demo")));
    assert_eq!(phone.on(joined(1, false)), ["say it OthersPresent(1)"]);
}

#[test]
fn who_finds_no_line_is_told_so_by_the_organisation() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("123456#");
    assert_eq!(phone.call.voice().brand, None);
    phone.on(refused(no_line(NoLineWhy::Callers)));
    assert_eq!(phone.call.voice().brand, Some(Brand::of("demo")));
}

#[test]
fn the_only_participant_hears_so_and_music_until_somebody_comes() {
    let mut phone = Phone::admitted(admission(Role::Guest));
    assert_eq!(
        phone.on(joined(0, false)),
        ["say en OnlyParticipant", "music on"]
    );
    assert_eq!(
        phone.on(CallInput::Room(RoomNotice::Company)),
        ["music off"]
    );
    let alone = phone.on(CallInput::Room(RoomNotice::Alone));
    assert_eq!(alone, ["say en OnlyParticipant", "music on"]);
}

#[test]
fn a_guest_waits_with_music() {
    let mut phone = Phone::admitted(admission(Role::Guest));
    let wait = CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Start));
    assert_eq!(phone.on(wait), ["say en WaitForStart", "music on"]);
    assert_eq!(
        phone.call.summary().phase,
        CallPhase::Waiting(WaitFor::Start)
    );
    assert_eq!(phone.keys("*6#*1"), [""; 0]);
    let wait = CallInput::Room(RoomNotice::Wait(WaitFor::Host));
    assert_eq!(phone.on(wait), ["say en WaitForHost"]);
    assert_eq!(
        phone.on(opened(2)),
        ["music off", "say en OthersPresent(2)"]
    );
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["leave", "record joined by Caller 16"]
    );
}

#[test]
fn waiting_may_be_in_vain() {
    let cases: [(RoomNotice, &[&str], &str); 3] = [
        (
            RoomNotice::Refused(RoomRefusal::Full),
            &["leave", "music off", "say en MeetingFull Goodbye"],
            "record full by System 16",
        ),
        (
            RoomNotice::Ended,
            &["leave", "music off", "say en MeetingEnded Goodbye"],
            "record ended by System 16",
        ),
        (
            RoomNotice::Removed,
            &["leave", "music off", "say en Goodbye"],
            "record lobby_denied by Host 16",
        ),
    ];
    for (notice, outputs, record) in cases {
        let mut phone = Phone::admitted(admission(Role::Guest));
        phone.on(CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Host)));
        assert_eq!(phone.on(CallInput::Room(notice)), outputs);
        assert_eq!(phone.said(), ["hang up 16", record]);
    }
}

// 5: keys in the meeting.

#[test]
fn star_six_mutes_and_unmutes() {
    let mut phone = Phone::joined(Role::Guest, 2);
    assert_eq!(phone.keys("*6"), ["mute on", "say en Muted"]);
    assert_eq!(phone.call.muted_by(), Some(MutedBy::Himself));
    assert_eq!(phone.keys("*6"), ["mute off", "say en Unmuted"]);
    assert_eq!(phone.call.muted_by(), None);
}

#[test]
fn star_hash_counts_heads_and_star_one_helps() {
    let mut phone = Phone::joined(Role::Guest, 2);
    assert_eq!(phone.keys("*#"), ["ask head count"]);
    let heads = phone.on(CallInput::Room(RoomNotice::HeadCount(3)));
    assert_eq!(heads, ["say en HeadCount(3)"]);
    assert_eq!(phone.keys("*1"), ["say en KeysHelp"]);
    let heads = phone.on(CallInput::Room(RoomNotice::HeadCount(0)));
    assert_eq!(heads, ["say en HeadCount(1)"], "he is there himself");
}

#[test]
fn other_commands_are_known_but_do_nothing_yet() {
    let mut phone = Phone::joined(Role::Host, 2);
    assert_eq!(phone.keys("*9*3#4#6#7#9*8##*5*7*4#5#3#0"), [""; 0]);
    assert_eq!(phone.keys("*6"), ["mute on", "say en Muted"]);
}

#[test]
fn half_a_command_expires() {
    let mut phone = Phone::joined(Role::Guest, 2);
    phone.keys("*");
    phone.pass(secs(3));
    assert_eq!(phone.keys("6"), [""; 0]);
}

#[test]
fn nobody_is_unmuted_from_afar() {
    let mut phone = Phone::joined(Role::Guest, 2);
    let mute = |on| CallInput::Room(RoomNotice::MutedByHost(on));
    assert_eq!(phone.on(mute(true)), ["mute on", "say en Muted"]);
    assert_eq!(phone.call.muted_by(), Some(MutedBy::Host));
    assert_eq!(phone.keys("*6"), ["say en UnmuteNotAllowed"]);
    assert_eq!(phone.on(mute(false)), ["mute on"], "still muted");
    assert_eq!(phone.call.muted_by(), Some(MutedBy::Himself));
    assert_eq!(phone.keys("*6"), ["mute off", "say en Unmuted"]);
    assert_eq!(phone.on(mute(false)), ["mute off"], "nothing to lift");
}

#[test]
fn who_joins_muted_may_or_may_not_unmute() {
    for (role, may_unmute, answer) in [
        (Role::Guest, true, ["mute off", "say en Unmuted"].as_slice()),
        (Role::Guest, false, &["say en UnmuteNotAllowed"]),
        (Role::Host, false, &["mute off", "say en Unmuted"]),
    ] {
        let mut booked = admission(role);
        booked.guests_may_unmute = may_unmute;
        let mut phone = Phone::admitted(booked);
        assert_eq!(
            phone.on(joined(1, true)),
            ["mute on", "say en OthersPresent(1) Muted"]
        );
        assert_eq!(phone.call.muted_by(), Some(MutedBy::Host));
        assert_eq!(phone.keys("*6"), answer, "{role:?}");
    }
}

#[test]
fn what_a_guest_muted_himself_he_may_unmute() {
    let mut booked = admission(Role::Guest);
    booked.guests_may_unmute = false;
    let mut phone = Phone::admitted(booked);
    phone.on(joined(1, false));
    phone.keys("*6");
    assert_eq!(phone.keys("*6"), ["mute off", "say en Unmuted"]);
}

#[test]
fn a_listener_is_always_muted() {
    let mut phone = Phone::admitted(admission(Role::Listener));
    assert_eq!(
        phone.on(joined(1, false)),
        ["mute on", "say en OthersPresent(1)"]
    );
    assert_eq!(phone.keys("*6"), ["say en UnmuteNotAllowed"]);
    assert_eq!(
        phone.on(CallInput::Room(RoomNotice::MutedByHost(false))),
        ["mute on"]
    );
    assert_eq!(phone.keys("*6"), ["say en UnmuteNotAllowed"]);
}

#[test]
fn a_host_muted_by_the_api_unmutes_himself() {
    let mut phone = Phone::joined(Role::Host, 1);
    phone.on(CallInput::Room(RoomNotice::MutedByHost(true)));
    assert_eq!(phone.keys("*6"), ["mute off", "say en Unmuted"]);
}

#[test]
fn a_machine_is_told_nothing_and_commands_nothing() {
    let mut phone = Phone::admitted(admission(Role::Bridge));
    assert_eq!(phone.on(joined(0, false)), [""; 0]);
    assert_eq!(phone.keys("*6*1*#"), [""; 0]);
    for notice in [
        RoomNotice::Company,
        RoomNotice::Alone,
        RoomNotice::EndsIn { minutes: 5 },
    ] {
        assert_eq!(phone.on(CallInput::Room(notice)), [""; 0]);
    }
    let ended = phone.on(CallInput::Room(RoomNotice::Ended));
    assert_eq!(ended, ["leave", "hang up 16", "record joined by System 16"]);
}

#[test]
fn in_the_echo_meeting_nothing_disturbs_the_echo() {
    let mut echo = admission(Role::Guest);
    echo.echo = true;
    let mut phone = Phone::admitted(echo);
    assert_eq!(phone.on(joined(0, false)), [""; 0]);
    assert_eq!(
        phone.pass(secs(30 * 60)),
        ["leave", "say en TimeLimit Goodbye"]
    );
}

// 7: limits and the end.

#[test]
fn the_end_is_announced_and_said() {
    let mut phone = Phone::joined(Role::Guest, 2);
    let minutes = phone.on(CallInput::Room(RoomNotice::EndsIn { minutes: 5 }));
    assert_eq!(minutes, ["say en EndsInMinutes(5)"]);
    let ended = phone.on(CallInput::Room(RoomNotice::Ended));
    assert_eq!(ended, ["leave", "say en EndsNow Goodbye"]);
    assert_eq!(phone.said(), ["hang up 16", "record joined by System 16"]);
}

#[test]
fn whoever_is_removed_hears_goodbye() {
    let mut phone = Phone::joined(Role::Guest, 2);
    let removed = phone.on(CallInput::Room(RoomNotice::Removed));
    assert_eq!(removed, ["leave", "say en Goodbye"]);
    assert_eq!(phone.said(), ["hang up 16", "record joined by Host 16"]);
}

#[test]
fn thirty_minutes_of_waiting_are_enough() {
    let mut phone = Phone::admitted(admission(Role::Guest));
    phone.on(CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Start)));
    phone.pass(secs(15 * 60));
    phone.on(CallInput::Room(RoomNotice::Wait(WaitFor::Host)));
    assert_eq!(
        phone.pass(secs(15 * 60 - 1)),
        [""; 0],
        "the host's wait is the same wait"
    );
    assert_eq!(
        phone.pass(secs(1)),
        ["leave", "music off", "say en TimeLimit Goodbye"]
    );
    assert_eq!(
        phone.said(),
        ["hang up 102", "record too_early by System 102"]
    );
}

#[test]
fn thirty_minutes_alone_are_enough() {
    let mut phone = Phone::joined(Role::Guest, 0);
    phone.pass(secs(29 * 60));
    phone.on(CallInput::Room(RoomNotice::Company));
    assert_eq!(phone.pass(secs(60 * 60)), [""; 0]);
    phone.on(CallInput::Room(RoomNotice::Alone));
    assert_eq!(phone.pass(secs(30 * 60 - 1)), [""; 0], "counted anew");
    assert_eq!(
        phone.pass(secs(1)),
        ["leave", "music off", "say en TimeLimit Goodbye"]
    );
    assert_eq!(phone.said(), ["hang up 102", "record joined by System 102"]);
}

#[test]
fn twelve_hours_are_a_long_call() {
    let mut phone = Phone::joined(Role::Guest, 2);
    assert_eq!(phone.pass(secs(12 * 3_600 - 1)), [""; 0]);
    assert_eq!(phone.pass(secs(1)), ["leave", "say en TimeLimit Goodbye"]);
    assert_eq!(
        phone.pass(secs(10)),
        ["hang up 102", "record joined by System 102"]
    );
}

// 8: leaving.

#[test]
fn a_goodbye_lasts_ten_seconds_at_most() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("123456#");
    phone.on(refused(Refusal::Ended));
    assert_eq!(phone.pass(Duration::from_millis(9_999)), [""; 0]);
    let end = phone.pass(Duration::from_millis(1));
    assert_eq!(end, ["hang up 16", "record ended by System 16"]);
}

#[test]
fn hanging_up_during_the_goodbye_keeps_the_reason() {
    let mut phone = Phone::greeted(CallLimits::default());
    phone.keys("123456#");
    phone.on(refused(Refusal::Cancelled));
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["record cancelled by Caller 16"]
    );
}

#[test]
fn a_call_cut_short_ends_at_once_in_every_state() {
    let arrive = || {
        let mut phone = Phone::new(CallLimits {
            ring: secs(2),
            ..CallLimits::default()
        });
        phone.on(CallInput::Arrived(arrival("100", None)));
        phone
    };
    let waiting = || {
        let mut phone = Phone::admitted(admission(Role::Guest));
        phone.on(CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Host)));
        phone
    };
    type MakePhone<'a> = &'a dyn Fn() -> Phone;
    let states: [(&str, MakePhone<'_>, bool, Outcome); 6] = [
        (
            "new",
            &|| Phone::new(CallLimits::default()),
            false,
            Outcome::Error,
        ),
        ("ringing", &arrive, false, Outcome::Error),
        (
            "greeted",
            &|| Phone::greeted(CallLimits::default()),
            false,
            Outcome::Error,
        ),
        (
            "entering",
            &|| Phone::admitted(admission(Role::Guest)),
            true,
            Outcome::Error,
        ),
        ("waiting", &waiting, true, Outcome::TooEarly),
        (
            "joined",
            &|| Phone::joined(Role::Guest, 1),
            true,
            Outcome::Joined,
        ),
    ];
    let ends = [
        (CallInput::Lost, HangupBy::Network, 102),
        (CallInput::Unsecured, HangupBy::System, 88),
        (CallInput::Drop(HangupBy::System), HangupBy::System, 31),
        (CallInput::Drop(HangupBy::Host), HangupBy::Host, 16),
    ];
    for (name, make, in_room, outcome) in states {
        for (input, by, q850) in &ends {
            let mut phone = make();
            let mut expected = vec![format!("hang up {q850}")];
            expected.push(format!("record {} by {by:?} {q850}", outcome.word()));
            if in_room {
                expected.insert(0, "leave".to_owned());
            }
            assert_eq!(phone.on(input.clone()), expected, "{name}");
            assert_eq!(phone.on(input.clone()), [""; 0], "{name}, over");
            assert_eq!(phone.on(CallInput::HungUp), [""; 0], "{name}, over");
        }
    }
}

#[test]
fn no_digit_of_a_pin_is_ever_printed() {
    let limits = CallLimits {
        ring: secs(1),
        ..CallLimits::default()
    };
    let mut phone = Phone::new(limits);
    let mut seen = Vec::new();
    let mut see = |phone: &Phone| seen.push(format!("{:?} {:?}", phone.call, phone.call.summary()));
    phone.on(CallInput::Arrived(arrival("100", Some("73737373"))));
    see(&phone);
    phone.pass(secs(1));
    see(&phone);
    phone.on(CallInput::Answered);
    see(&phone);
    phone.on(refused(Refusal::Wrong));
    phone.call.handle_input(
        phone.now,
        phone.wall,
        CallInput::Key(Key::from_char('7').unwrap()),
    );
    phone.keys("3737373");
    see(&phone);
    phone
        .call
        .handle_input(phone.now, phone.wall, CallInput::Key(Key::HASH));
    see(&phone);
    phone.drain();
    phone.keys("73737373");
    see(&phone);
    phone.on(admitted(admission(Role::Guest)));
    phone.keys("*73737373");
    see(&phone);
    phone.on(joined(0, false));
    phone.keys("*");
    see(&phone);
    phone.on(CallInput::HungUp);
    see(&phone);
    for text in seen {
        for secret in ["73737373", "'7'", "7, 3", "Key(7", "612345678"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

// 7: after the process was lost that held the call.

#[test]
fn who_comes_back_after_a_loss_hears_nothing_of_it_and_has_one_record() {
    let mut phone = Phone::back(&past(Role::Guest), 3);
    assert_eq!(phone.call.muted_by(), None);
    assert_eq!(phone.keys("*6"), ["mute on", "say en Muted"]);
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["leave", "record joined by Caller 16"]
    );
    let record = phone.record();
    assert_eq!(record.id, CallId(Uuid::from_u128(42)));
    assert_eq!(record.started_at, "2026-03-02T08:30:00Z".parse().unwrap());
    assert_eq!(
        record.answered_at,
        "2026-03-02T08:30:01Z".parse().ok(),
        "when he was answered first"
    );
    assert_eq!(record.participant, Some(PARTICIPANT));
    assert_eq!(record.pin_attempts, 2);
}

#[test]
fn who_was_muted_comes_back_muted_and_may_do_what_he_might() {
    for (by, may_unmute, after) in [
        (MutedBy::Host, false, vec!["say en UnmuteNotAllowed"]),
        (MutedBy::Host, true, vec!["mute off", "say en Unmuted"]),
        (MutedBy::Himself, true, vec!["mute off", "say en Unmuted"]),
    ] {
        let was = Past {
            muted_by: Some(by),
            may_unmute,
            ..past(Role::Guest)
        };
        let mut phone = Phone::back(&was, 1);
        assert_eq!(phone.call.muted_by(), Some(by));
        assert_eq!(phone.keys("*6"), after);
    }
}

#[test]
fn the_first_who_comes_back_is_given_music_only_when_nobody_follows() {
    let mut phone = Phone::back(&past(Role::Guest), 0);
    assert_eq!(phone.pass(secs(4)), [""; 0]);
    assert_eq!(phone.on(CallInput::Room(RoomNotice::Company)), [""; 0]);
    assert_eq!(phone.pass(secs(3_000)), [""; 0]);

    let mut phone = Phone::back(&past(Role::Guest), 0);
    assert_eq!(phone.pass(secs(5)), ["music on"]);
    assert_eq!(
        phone.on(CallInput::Room(RoomNotice::Company)),
        ["music off"]
    );

    let mut phone = Phone::back(&past(Role::Guest), 0);
    let lonely = phone.pass(secs(30 * 60));
    assert_eq!(
        lonely,
        ["music on", "leave", "music off", "say en TimeLimit Goodbye"]
    );
}

#[test]
fn who_waited_goes_on_waiting_without_being_told_again() {
    let mut phone = Phone::new(CallLimits::default());
    let was = Past {
        state: SeatState::Waiting,
        ..past(Role::Guest)
    };
    let arrival = Arrival {
        past: Some(Box::new(was)),
        ..arrival("100", None)
    };
    phone.on(CallInput::Arrived(arrival));
    phone.on(CallInput::Answered);
    phone.on(admitted(admission(Role::Guest)));
    let waits = CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Host));
    assert_eq!(phone.on(waits), ["music on"]);
    assert_eq!(
        phone.on(opened(1)),
        ["music off", "say en OthersPresent(1)"]
    );
}

#[test]
fn who_waited_and_finds_the_meeting_open_comes_in_like_everybody_else() {
    for (role, muted_by, told, after) in [
        (
            Role::Guest,
            None,
            vec!["say en OthersPresent(2)"],
            vec!["mute on", "say en Muted"],
        ),
        (
            Role::Guest,
            Some(MutedBy::Host),
            vec!["mute on", "say en OthersPresent(2) Muted"],
            vec!["say en UnmuteNotAllowed"],
        ),
        // His mute was lifted while he waited.
        (
            Role::Guest,
            Some(MutedBy::Himself),
            vec!["mute on", "say en OthersPresent(2) Muted", "mute on"],
            vec!["mute off", "say en Unmuted"],
        ),
        (
            Role::Listener,
            Some(MutedBy::Host),
            vec!["mute on", "say en OthersPresent(2)"],
            vec!["say en UnmuteNotAllowed"],
        ),
    ] {
        let mut phone = Phone::returning(&Past {
            state: SeatState::Waiting,
            muted_by,
            ..past(role)
        });
        let booked = Admission {
            guests_may_unmute: false,
            ..admission(role)
        };
        assert_eq!(phone.on(admitted(booked)), ["return"]);
        assert_eq!(phone.on(joined(2, muted_by.is_some())), told);
        assert_eq!(phone.keys("*6"), after);
        phone.on(CallInput::HungUp);
        let record = phone.record();
        assert_eq!(record.outcome, Outcome::Joined);
        assert_eq!(record.participant, Some(PARTICIPANT));
    }
    // What he keyed in meanwhile is for the meeting.
    let mut phone = Phone::returning(&Past {
        state: SeatState::Waiting,
        ..past(Role::Guest)
    });
    assert_eq!(phone.keys("*6"), [""; 0]);
    phone.on(admitted(admission(Role::Guest)));
    assert_eq!(
        phone.on(joined(0, false)),
        [
            "say en OnlyParticipant",
            "music on",
            "mute on",
            "say en Muted"
        ]
    );
}

#[test]
fn who_comes_back_while_the_bookings_are_away_hears_music_until_they_answer() {
    let half = Duration::from_millis(500);
    let asks = [format!("look up {}", past(Role::Guest).meeting)];
    let mut phone = Phone::returning(&past(Role::Guest));
    assert!(phone.call.is_on_his_way_back());
    assert_eq!(phone.on(refused(Refusal::Unavailable)), ["music on"]);
    assert_eq!(phone.pass(Duration::from_millis(499)), [""; 0]);
    assert_eq!(phone.pass(Duration::from_millis(1)), asks);
    assert_eq!(phone.pass(secs(10)), asks, "that was never answered");
    assert_eq!(phone.on(refused(Refusal::Unavailable)), [""; 0]);
    assert_eq!(phone.keys("*6"), [""; 0]);
    assert_eq!(phone.pass(half), asks);
    assert_eq!(
        phone.on(admitted(admission(Role::Guest))),
        ["music off", "return"]
    );
    assert!(phone.call.is_on_his_way_back());
    assert_eq!(phone.on(joined(2, false)), ["mute on", "say en Muted"]);
    assert!(!phone.call.is_on_his_way_back());
    assert_eq!(phone.pass(secs(3_600)), [""; 0]);

    // One that waits goes on with the music of his meeting.
    let mut phone = Phone::returning(&Past {
        state: SeatState::Waiting,
        ..past(Role::Guest)
    });
    phone.on(refused(Refusal::Unavailable));
    phone.on(admitted(admission(Role::Guest)));
    let waits = CallInput::RoomVerdict(RoomVerdict::Wait(WaitFor::Host));
    assert_eq!(phone.on(waits), ["music on"]);
}

#[test]
fn who_comes_back_is_sent_away_when_the_bookings_were_away_for_a_minute() {
    let half = Duration::from_millis(500);
    let asks = [format!("look up {}", past(Role::Guest).meeting)];
    let mut phone = Phone::returning(&past(Role::Guest));
    assert_eq!(phone.on(refused(Refusal::Unavailable)), ["music on"]);
    for _ in 0..119 {
        assert_eq!(phone.pass(half), asks);
        assert_eq!(phone.on(refused(Refusal::Unavailable)), [""; 0]);
    }
    assert_eq!(
        phone.pass(half),
        ["music off", "say en TryAgainLater Goodbye"]
    );
    assert_eq!(phone.said(), ["hang up 41", "record error by System 41"]);

    // A machine is told nothing, and plays no music into its meeting.
    let mut phone = Phone::returning(&past(Role::Bridge));
    assert_eq!(phone.on(refused(Refusal::Unavailable)), [""; 0]);
    phone.pass(secs(59));
    assert_eq!(
        phone.pass(secs(1)),
        ["hang up 41", "record error by System 41"]
    );
}

#[test]
fn whose_meeting_is_over_meanwhile_is_told_so() {
    for (refusal, said, outcome) in [
        (Refusal::Cancelled, "MeetingCancelled", "cancelled"),
        (Refusal::Ended, "MeetingEnded", "ended"),
    ] {
        let mut phone = Phone::new(CallLimits::default());
        let arrival = Arrival {
            past: Some(Box::new(past(Role::Guest))),
            ..arrival("100", None)
        };
        phone.on(CallInput::Arrived(arrival));
        phone.on(CallInput::Answered);
        assert_eq!(
            phone.on(refused(refusal)),
            [format!("say en {said} Goodbye")]
        );
        let end = phone.said();
        assert!(end[1].starts_with(&format!("record {outcome}")), "{end:?}");
    }
}

#[test]
fn a_call_is_not_longer_for_having_been_lost_and_found() {
    let mut was = past(Role::Guest);
    was.answered_at = "2026-03-01T22:00:00Z".parse().unwrap();
    let mut phone = Phone::back(&was, 1);
    assert_eq!(phone.pass(secs(3_599)), [""; 0]);
    assert_eq!(
        phone.pass(secs(1)),
        ["leave", "say en TimeLimit Goodbye"],
        "eleven of twelve hours were over"
    );
}

#[test]
fn what_is_written_down_of_a_caller_is_where_he_is() {
    let mut phone = Phone::new(CallLimits::default());
    let mut rooms = Rooms::new();
    let mut enter = |phone: &Phone, admission: &Admission| {
        let id = CallId(Uuid::from_u128(42));
        rooms.enter(phone.now, phone.wall, id, PARTICIPANT, admission);
        rooms.seat(id).unwrap().clone()
    };
    let seat = enter(&phone, &admission(Role::Guest));
    assert_eq!(phone.call.past(&seat), None);
    phone.on(CallInput::Arrived(arrival("100", Some("123456"))));
    phone.on(CallInput::Answered);
    assert_eq!(phone.call.past(&seat), None, "his PIN is not known yet");
    phone.on(admitted(admission(Role::Guest)));
    phone.on(joined(1, false));
    phone.keys("*6");
    let written = phone.call.past(&seat).unwrap();
    let expected = Past {
        name: None,
        since: phone.wall,
        started_at: phone.wall,
        answered_at: phone.wall,
        muted_by: Some(MutedBy::Himself),
        pin_attempts: 1,
        ..past(Role::Guest)
    };
    assert_eq!(written, expected);
    phone.on(CallInput::Room(RoomNotice::Ended));
    assert_eq!(phone.call.past(&seat), None, "he is being told goodbye");
}

// We call.

/// Whom we call, and what he is to say yes to.
fn outgoing() -> Outgoing {
    Outgoing {
        admission: Box::new(admission(Role::Guest)),
        language: None,
    }
}

impl Phone {
    /// One that is being rung.
    fn rung(outgoing: Outgoing) -> Self {
        let mut phone = Self::new(CallLimits::default());
        let arrival = Arrival {
            kind: "asterisk",
            outgoing: Some(Box::new(outgoing)),
            ..arrival("+390600", None)
        };
        assert_eq!(phone.on(CallInput::Arrived(arrival)), ["dial"]);
        phone
    }

    /// One that has answered, and hears what it is about.
    fn asked(outgoing: Outgoing) -> Self {
        let mut phone = Self::rung(outgoing);
        assert_eq!(phone.on(CallInput::PickedUp), ["answer"]);
        assert_eq!(phone.on(CallInput::Answered), ["say en Invited"]);
        phone
    }

    fn assert_out(&self) {
        let record = self.record();
        assert_eq!(record.direction, Direction::Out);
        assert_eq!(record.meeting, Some(MeetingId(Uuid::from_u128(1))));
        assert_eq!(
            record.organisation,
            Some(OrganisationId(Uuid::from_u128(2)))
        );
        assert_eq!(record.caller.expose(), "+390612345678");
        assert_eq!(
            (record.number.as_str(), record.pin_attempts),
            ("+390600", 0)
        );
    }
}

#[test]
fn whom_we_call_is_in_once_he_presses_1_and_like_everybody_else_then() {
    for early in [true, false] {
        let mut phone = Phone::asked(outgoing());
        let mut said = vec!["quiet", "look up his invitation"];
        if !early {
            assert_eq!(phone.on(CallInput::SayFinished), [""; 0]);
            said.remove(0);
        }
        assert_eq!(phone.keys("1"), said);
        assert_eq!(phone.on(admitted(admission(Role::Guest))), ["enter"]);
        assert_eq!(phone.on(joined(1, false)), ["say en OthersPresent(1)"]);
        assert_eq!(phone.keys("*6"), ["mute on", "say en Muted"]);
        assert_eq!(
            phone.on(CallInput::HungUp),
            ["leave", "record joined by Caller 16"]
        );
        phone.assert_out();
        assert!(phone.record().answered_at.is_some());
    }
}

#[test]
fn whom_we_call_is_spoken_to_as_was_asked_also_in_a_meeting_that_speaks_otherwise() {
    let mut italian = admission(Role::Guest);
    italian.language = Some(Language::Italian);
    for (language, said) in [
        (None, "say it OthersPresent(1)"),
        (Some(Language::English), "say en OthersPresent(1)"),
    ] {
        let mut phone = Phone::asked(Outgoing {
            language,
            ..outgoing()
        });
        phone.keys("1");
        phone.on(admitted(italian.clone()));
        assert_eq!(phone.on(joined(1, false)), [said]);
    }
}

#[test]
fn whoever_presses_another_key_stays_out() {
    for key in ["2", "0", "*", "#", "9"] {
        let mut phone = Phone::asked(outgoing());
        assert_eq!(phone.keys(key), ["quiet", "say en Goodbye"]);
        assert_eq!(phone.keys("1"), [""; 0], "it is too late");
        assert_eq!(phone.said(), ["hang up 16", "record declined by System 16"]);
        phone.assert_out();
    }
}

#[test]
fn a_machine_that_answers_is_asked_three_times_and_never_in() {
    let mut phone = Phone::asked(outgoing());
    for _ in 0..2 {
        phone.on(CallInput::SayFinished);
        assert_eq!(phone.pass(secs(10)), ["say en Invited"]);
    }
    phone.on(CallInput::SayFinished);
    assert_eq!(phone.pass(secs(10)), ["say en Goodbye"]);
    assert_eq!(
        phone.said(),
        ["hang up 102", "record no_input by System 102"]
    );
    phone.assert_out();

    // One to which the prompt is never heard to its end.
    let mut phone = Phone::asked(outgoing());
    assert_eq!(phone.pass(secs(89)), [""; 0]);
    assert_eq!(phone.pass(secs(1)), ["say en Goodbye"]);
}

#[test]
fn keys_before_the_question_are_no_answer() {
    let mut phone = Phone::rung(outgoing());
    assert_eq!(phone.keys("1"), [""; 0]);
    phone.on(CallInput::PickedUp);
    assert_eq!(phone.keys("1"), [""; 0]);
    assert_eq!(phone.on(CallInput::Answered), ["say en Invited"]);
    assert_eq!(phone.call.summary().phase, CallPhase::Pin);
}

#[test]
fn the_way_that_a_call_took_at_last_is_recorded() {
    let mut phone = Phone::rung(outgoing());
    let by = |trunk: &str| {
        CallInput::GoesBy(Route {
            kind: "sip",
            trunk: Some(trunk.to_owned()),
            sip_call_id: Some(format!("id-{trunk}")),
            asterisk_channel: None,
        })
    };
    phone.on(by("first"));
    phone.on(by("second"));
    phone.on(CallInput::PickedUp);
    phone.on(by("third"));
    phone.on(CallInput::HungUp);
    let record = phone.record();
    assert_eq!(
        (record.kind, record.trunk.as_deref()),
        ("sip", Some("second"))
    );
    assert_eq!(record.sip_call_id.as_deref(), Some("id-second"));
    phone.assert_out();
}

#[test]
fn who_can_t_be_had_is_recorded_with_the_reason() {
    for (q850, record) in [
        (17, "record busy by Caller 17"),
        (19, "record no_answer by Caller 19"),
        (18, "record no_answer by Caller 18"),
        (21, "record declined by Caller 21"),
        (1, "record error by Network 1"),
        (34, "record error by Network 34"),
    ] {
        let mut phone = Phone::rung(outgoing());
        assert_eq!(phone.on(CallInput::NotReached { q850 }), [record]);
        phone.assert_out();
        assert_eq!(phone.record().answered_at, None);
    }
    let mut phone = Phone::rung(outgoing());
    assert_eq!(phone.pass(Duration::from_millis(24_999)), [""; 0]);
    assert_eq!(
        phone.pass(Duration::from_millis(1)),
        ["hang up 19", "record no_answer by System 19"]
    );
    let mut phone = Phone::rung(outgoing());
    assert_eq!(
        phone.on(CallInput::Lost),
        ["hang up 102", "record error by Network 102"]
    );
}

#[test]
fn whoever_hangs_up_while_he_is_asked_was_never_in() {
    let mut phone = Phone::asked(outgoing());
    assert_eq!(
        phone.on(CallInput::HungUp),
        ["record no_input by Caller 16"]
    );
    phone.assert_out();
    let mut phone = Phone::rung(outgoing());
    phone.on(CallInput::PickedUp);
    assert_eq!(phone.on(CallInput::HungUp), ["record error by Caller 16"]);
    let mut phone = Phone::asked(outgoing());
    phone.keys("1");
    assert_eq!(phone.on(CallInput::HungUp), ["record error by Caller 16"]);
}

#[test]
fn a_meeting_that_ends_calls_off_who_is_rung_or_asked() {
    let ended = || CallInput::Room(RoomNotice::Ended);
    let called_off = ["hang up 16", "record ended by System 16"];
    let mut phone = Phone::rung(outgoing());
    assert_eq!(phone.on(ended()), called_off);
    let mut phone = Phone::rung(outgoing());
    phone.on(CallInput::PickedUp);
    assert_eq!(phone.on(ended()), called_off);
    let mut phone = Phone::asked(outgoing());
    assert_eq!(phone.on(ended()), ["say en MeetingEnded Goodbye"]);
    assert_eq!(phone.said(), called_off);

    // As booked, while it rings: nobody says so.
    let mut soon_over = outgoing();
    soon_over.admission.overrun = Duration::ZERO;
    soon_over.admission.ends_at = Some("2026-03-02T09:00:07Z".parse().unwrap());
    let mut phone = Phone::rung(soon_over);
    assert_eq!(phone.pass(Duration::from_millis(6_999)), [""; 0]);
    assert_eq!(phone.pass(Duration::from_millis(1)), called_off);

    // And while he makes up his mind.
    let mut phone = Phone::asked(outgoing());
    phone.keys("1");
    assert_eq!(
        phone.on(refused(Refusal::Ended)),
        ["say en MeetingEnded Goodbye"]
    );
}

#[test]
fn an_emergency_number_is_not_even_rung() {
    for number in ["112", "+39112", "0112"] {
        let mut phone = Phone::new(CallLimits::default());
        let arrival = Arrival {
            outgoing: Some(Box::new(outgoing())),
            caller: CallerNumber::new(number),
            ..arrival("+390600", None)
        };
        let outputs = phone.on(CallInput::Arrived(arrival));
        assert_eq!(outputs, ["reject Emergency", "record error by System 1"]);
    }
}

#[test]
fn whom_we_called_is_that_also_for_the_process_that_finds_him() {
    let was = Past {
        called: Some(Called {
            number: CallerNumber::new("+390687654321"),
            shown: "+390600".to_owned(),
        }),
        ..past(Role::Guest)
    };
    let mut phone = Phone::back(&was, 1);
    phone.on(CallInput::HungUp);
    let record = phone.record();
    assert_eq!(
        (record.direction, record.caller.expose()),
        (Direction::Out, "+390687654321")
    );
    assert_eq!(record.number, "+390600");
}
