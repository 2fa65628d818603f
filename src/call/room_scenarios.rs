//! What happens between the people of a meeting: exact outputs, pushed clocks.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::booking::admission::CallId;
use crate::booking::{Admission, MeetingId, ParticipantId, Role};
use crate::call::scenarios::{admission, clocks, past};
use crate::call::{
    MutedBy, NoSuchParticipant, Past, Phrase, RoomNotice, RoomOutput, RoomTerms, RoomVerdict,
    Rooms, SeatState,
};
use crate::units::Language;

/// A node's meetings with both clocks in hand. Booked: 08:00 to 10:00, over at 11:00; it is 09:00.
struct Node {
    rooms: Rooms,
    now: Instant,
    wall: Timestamp,
}

const MEETING: MeetingId = MeetingId(Uuid::from_u128(1));

fn call(n: u128) -> CallId {
    CallId(Uuid::from_u128(n))
}

fn participant(n: u128) -> ParticipantId {
    ParticipantId(Uuid::from_u128(1_000 + n))
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

fn guest() -> Admission {
    admission(Role::Guest)
}

fn host() -> Admission {
    admission(Role::Host)
}

fn with(mut admission: Admission, change: impl FnOnce(&mut Admission)) -> Admission {
    change(&mut admission);
    admission
}

fn awaiting_host(role: Role) -> Admission {
    with(admission(role), |booked| booked.wait_for_host = true)
}

fn starting_late(role: Role) -> Admission {
    with(admission(role), |booked| {
        booked.opens_at = "2026-03-02T09:10:00Z".parse().unwrap()
    })
}

impl Node {
    fn new() -> Self {
        let (now, wall) = clocks();
        Self {
            rooms: Rooms::new(),
            now,
            wall,
        }
    }

    fn enter(&mut self, n: u128, admission: &Admission) -> Vec<String> {
        let verdict = self
            .rooms
            .enter(self.now, self.wall, call(n), participant(n), admission);
        self.drain_with(n, verdict)
    }

    fn come_back(&mut self, n: u128, state: SeatState, admission: &Admission) -> Vec<String> {
        let past = Past {
            participant: participant(n),
            state,
            ..past(admission.role)
        };
        let verdict = self
            .rooms
            .restore(self.now, self.wall, call(n), &past, admission);
        self.drain_with(n, verdict)
    }

    fn drain_with(&mut self, n: u128, verdict: RoomVerdict) -> Vec<String> {
        let mut outputs = self.drain();
        outputs.push(match verdict {
            RoomVerdict::Joined {
                participant: id,
                others,
                muted,
            } => {
                assert_eq!(id, participant(n));
                format!(
                    "joined others={others}{}",
                    if muted { " muted" } else { "" }
                )
            }
            RoomVerdict::Wait(wait_for) => format!("wait {wait_for:?}"),
            RoomVerdict::Refused(refusal) => format!("refused {refusal:?}"),
        });
        outputs
    }

    fn leave(&mut self, n: u128) -> Vec<String> {
        self.rooms.leave(self.now, self.wall, call(n));
        self.drain()
    }

    fn update(&mut self, booked: &Admission) -> Vec<String> {
        self.rooms
            .update(self.now, self.wall, MEETING, RoomTerms::from(booked));
        self.drain()
    }

    /// Lets time pass; time-outs come when they are due, not a moment later.
    fn pass(&mut self, duration: Duration) -> Vec<String> {
        let end = self.now + duration;
        let mut outputs = Vec::new();
        while let Some(due) = self.rooms.poll_timeout().filter(|due| *due <= end) {
            self.move_to(due.max(self.now));
            self.rooms.handle_timeout(self.now, self.wall);
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
        std::iter::from_fn(|| self.rooms.poll_output())
            .map(|output| describe(&output))
            .collect()
    }

    fn seats(&self) -> Vec<(u128, SeatState)> {
        let seats = self.rooms.participants(MEETING).iter();
        seats
            .map(|seat| (seat.call.0.as_u128(), seat.state))
            .collect()
    }
}

fn describe(output: &RoomOutput) -> String {
    let n = |call: &CallId| call.0.as_u128();
    match output {
        RoomOutput::Notice {
            call,
            notice: RoomNotice::Opened { others, muted, .. },
        } => {
            let muted = if *muted { " muted" } else { "" };
            format!("{}: opened others={others}{muted}", n(call))
        }
        RoomOutput::Notice { call, notice } => format!("{}: {notice:?}", n(call)),
        RoomOutput::JoinBridge {
            call, bridge, echo, ..
        } => {
            format!(
                "{} into {}{}",
                n(call),
                bridge.0,
                if *echo { " echo" } else { "" }
            )
        }
        RoomOutput::Sound { call, sound } => format!("{} gain={}", n(call), sound.automatic_gain),
        RoomOutput::LeaveBridge { call } => format!("{} out", n(call)),
        RoomOutput::PlayToBridge {
            bridge,
            phrase: tone @ (Phrase::JoinTone | Phrase::LeaveTone),
            ..
        } => format!("{} hears {tone:?}", bridge.0),
        RoomOutput::PlayToBridge {
            bridge,
            phrase,
            voice,
        } => {
            let brand = voice.brand.as_ref().expect("the meeting's");
            let (bridge, language) = (bridge.0, voice.language);
            format!(
                "{bridge} hears {phrase:?} {language} of {}",
                brand.organisation()
            )
        }
        RoomOutput::MeetingStarted { .. } => "started".to_owned(),
        RoomOutput::MeetingEnded { .. } => "ended".to_owned(),
    }
}

#[test]
fn people_come_and_go() {
    let mut node = Node::new();
    assert_eq!(
        node.enter(1, &guest()),
        ["started", "1 into 1", "joined others=0"]
    );
    assert_eq!(
        node.enter(2, &guest()),
        [
            "1: Company",
            "1 hears JoinTone",
            "2 into 1",
            "joined others=1"
        ]
    );
    node.pass(minutes(1));
    assert_eq!(
        node.enter(3, &guest()),
        ["1 hears JoinTone", "3 into 1", "joined others=2"]
    );
    assert_eq!(node.rooms.head_count(call(2)), Some(3));
    node.pass(minutes(1));
    assert_eq!(node.leave(1), ["1 out", "1 hears LeaveTone"]);
    node.pass(minutes(1));
    assert_eq!(node.leave(3), ["3 out", "1 hears LeaveTone", "2: Alone"]);
    assert_eq!(node.leave(2), ["2 out", "ended"]);
    assert_eq!(node.leave(2), [""; 0]);
    assert_eq!(node.rooms.poll_timeout(), None);
    assert_eq!(
        node.enter(1, &guest()),
        ["started", "1 into 2", "joined others=0"],
        "a new bridge"
    );
}

#[test]
fn meetings_do_not_meet() {
    let mut node = Node::new();
    node.enter(1, &guest());
    let other = with(guest(), |booked| {
        booked.meeting = MeetingId(Uuid::from_u128(9))
    });
    assert_eq!(
        node.enter(2, &other),
        ["started", "2 into 2", "joined others=0"]
    );
    assert_eq!(
        node.rooms.live_meetings().collect::<Vec<_>>(),
        [MEETING, other.meeting]
    );
    assert_eq!(node.rooms.bridge(MEETING).map(|bridge| bridge.0), Some(1));
}

#[test]
fn a_crowd_is_one_tone_a_second() {
    let mut node = Node::new();
    node.enter(1, &guest());
    node.enter(2, &guest());
    node.pass(Duration::from_millis(999));
    assert_eq!(node.enter(3, &guest()), ["3 into 1", "joined others=2"]);
    node.pass(Duration::from_millis(1));
    assert_eq!(node.leave(3), ["3 out", "1 hears LeaveTone"]);
}

#[test]
fn machines_come_and_go_without_a_tone() {
    let mut node = Node::new();
    node.enter(1, &guest());
    let machine = admission(Role::Bridge);
    assert_eq!(
        node.enter(2, &machine),
        ["1: Company", "2 into 1", "joined others=1"]
    );
    assert_eq!(node.leave(2), ["2 out", "1: Alone"]);
}

#[test]
fn a_full_meeting_takes_nobody_in() {
    let full = with(guest(), |booked| booked.capacity = Some(2));
    let mut node = Node::new();
    node.enter(1, &full);
    node.enter(2, &full);
    assert_eq!(node.enter(3, &full), ["refused Full"]);
    node.leave(1);
    assert_eq!(node.enter(3, &full).last().unwrap(), "joined others=1");
    let larger = with(guest(), |booked| booked.capacity = Some(3));
    node.update(&larger);
    assert_eq!(node.enter(4, &larger).last().unwrap(), "joined others=2");
    assert_eq!(
        node.enter(5, &with(guest(), |booked| booked.capacity = Some(0))),
        ["refused Full"]
    );
    assert_eq!(
        node.rooms.participants(MEETING).len(),
        3,
        "nobody is thrown out"
    );
}

#[test]
fn nothing_is_left_of_a_meeting_that_took_nobody_in() {
    let mut node = Node::new();
    assert_eq!(
        node.enter(1, &with(host(), |booked| booked.capacity = Some(0))),
        ["refused Full"]
    );
    assert_eq!(node.rooms.poll_timeout(), None);
}

#[test]
fn guests_wait_for_the_start() {
    let mut node = Node::new();
    assert_eq!(node.enter(1, &starting_late(Role::Guest)), ["wait Start"]);
    assert_eq!(node.enter(2, &starting_late(Role::Guest)), ["wait Start"]);
    assert_eq!(node.rooms.head_count(call(1)), None);
    assert_eq!(node.rooms.live_meetings().count(), 0);
    assert_eq!(
        node.seats(),
        [(1, SeatState::Waiting), (2, SeatState::Waiting)]
    );
    assert_eq!(node.pass(minutes(10) - Duration::from_millis(1)), [""; 0]);
    assert_eq!(
        node.pass(Duration::from_millis(1)),
        [
            "started",
            "1 into 1",
            "1: opened others=1",
            "2 into 1",
            "2: opened others=1",
            "1 hears JoinTone"
        ]
    );
    assert_eq!(
        node.rooms.participants(MEETING)[0].since,
        "2026-03-02T09:10:00Z".parse().unwrap()
    );
}

#[test]
fn the_first_of_one_is_alone_at_the_start() {
    let mut node = Node::new();
    node.enter(1, &starting_late(Role::Guest));
    assert_eq!(
        node.pass(minutes(10)),
        ["started", "1 into 1", "1: opened others=0"]
    );
}

#[test]
fn a_host_opens_early_for_all() {
    let mut node = Node::new();
    node.enter(1, &starting_late(Role::Guest));
    assert_eq!(
        node.enter(2, &starting_late(Role::Host)),
        [
            "started",
            "1 into 1",
            "1: opened others=1",
            "2 into 1",
            "1 hears JoinTone",
            "joined others=1"
        ]
    );
    node.pass(minutes(1));
    let late = node.enter(3, &starting_late(Role::Guest));
    assert_eq!(late.last().unwrap(), "joined others=2");
    node.leave(2);
    assert_eq!(
        node.pass(minutes(9)),
        [""; 0],
        "the start is no event any more"
    );
}

#[test]
fn guests_wait_for_the_host_whose_leaving_ends_nothing() {
    let mut node = Node::new();
    assert_eq!(node.enter(1, &awaiting_host(Role::Guest)), ["wait Host"]);
    assert_eq!(node.enter(2, &awaiting_host(Role::Listener)), ["wait Host"]);
    assert_eq!(node.leave(2), [""; 0]);
    let opened = node.enter(3, &awaiting_host(Role::Host));
    assert_eq!(opened.last().unwrap(), "joined others=1");
    node.pass(minutes(1));
    assert_eq!(node.leave(3), ["3 out", "1 hears LeaveTone", "1: Alone"]);
    let next = node.enter(4, &awaiting_host(Role::Guest));
    assert_eq!(next.last().unwrap(), "joined others=1");
}

#[test]
fn after_the_start_the_host_is_still_waited_for() {
    let booked = |role| {
        with(awaiting_host(role), |booked| {
            booked.opens_at = starting_late(role).opens_at
        })
    };
    let mut node = Node::new();
    assert_eq!(node.enter(1, &booked(Role::Guest)), ["wait Start"]);
    assert_eq!(node.pass(minutes(10)), ["1: Wait(Host)"]);
    assert_eq!(node.enter(2, &booked(Role::Guest)), ["wait Host"]);
    assert_eq!(
        node.enter(3, &booked(Role::Host)).last().unwrap(),
        "joined others=2"
    );
}

#[test]
fn those_who_wait_keep_no_host_out() {
    let booked = |role| with(awaiting_host(role), |booked| booked.capacity = Some(2));
    let mut node = Node::new();
    node.enter(1, &booked(Role::Guest));
    node.enter(2, &booked(Role::Guest));
    assert_eq!(node.enter(3, &booked(Role::Guest)), ["refused Full"]);
    assert_eq!(
        node.enter(4, &booked(Role::Host)),
        [
            "2: Refused(Full)",
            "started",
            "1 into 1",
            "1: opened others=1",
            "4 into 1",
            "1 hears JoinTone",
            "joined others=1"
        ]
    );
    assert_eq!(
        node.seats(),
        [(1, SeatState::Joined), (4, SeatState::Joined)]
    );
    assert_eq!(node.leave(2), [""; 0], "he has no seat any more");
}

#[test]
fn a_changed_booking_opens_the_room_at_once() {
    let mut node = Node::new();
    node.enter(1, &awaiting_host(Role::Guest));
    assert_eq!(
        node.update(&guest()),
        ["started", "1 into 1", "1: opened others=0"]
    );
    let mut node = Node::new();
    node.enter(1, &starting_late(Role::Guest));
    let later = with(guest(), |booked| {
        booked.opens_at = "2026-03-02T09:30:00Z".parse().unwrap()
    });
    assert_eq!(node.update(&later), [""; 0]);
    assert_eq!(node.pass(minutes(29)), [""; 0]);
    assert_eq!(node.update(&awaiting_host(Role::Guest)), ["1: Wait(Host)"]);
    assert_eq!(node.update(&later), ["1: Wait(Start)"]);
    assert_eq!(
        node.pass(minutes(1)),
        ["started", "1 into 1", "1: opened others=0"]
    );
}

#[test]
fn a_meeting_runs_over_and_ends_then() {
    let mut node = Node::new();
    node.enter(1, &guest());
    node.enter(2, &guest());
    assert_eq!(node.pass(minutes(115) - Duration::from_millis(1)), [""; 0]);
    let five = node.pass(Duration::from_millis(1));
    assert_eq!(
        five,
        ["1: EndsIn { minutes: 5 }", "2: EndsIn { minutes: 5 }"]
    );
    let one = node.pass(minutes(4));
    assert_eq!(
        one,
        ["1: EndsIn { minutes: 1 }", "2: EndsIn { minutes: 1 }"]
    );
    assert_eq!(
        node.pass(minutes(1)),
        ["1 out", "1: Ended", "2 out", "2: Ended", "ended"]
    );
    assert_eq!(node.leave(1), [""; 0]);
    assert_eq!(node.enter(3, &guest()), ["refused Ended"]);
}

#[test]
fn a_meeting_with_a_language_hears_its_end_together() {
    let italian = with(guest(), |booked| booked.language = Some(Language::Italian));
    let mut node = Node::new();
    node.enter(1, &italian);
    assert_eq!(
        node.pass(minutes(115)),
        ["1 hears EndsInMinutes(5) it of demo"]
    );
    node.pass(Duration::from_millis(4_999));
    let joined = node.enter(2, &italian);
    assert_eq!(joined.last().unwrap(), "joined others=1");
    let hears = |what: &String| what.contains("hears");
    assert!(
        !joined.iter().any(hears),
        "words are not cut off: {joined:?}"
    );
    node.pass(Duration::from_millis(1));
    assert_eq!(node.leave(2).iter().filter(|what| hears(what)).count(), 1);
}

#[test]
fn a_permanent_meeting_never_ends() {
    let mut node = Node::new();
    node.enter(1, &with(guest(), |booked| booked.ends_at = None));
    assert_eq!(node.rooms.poll_timeout(), None);
}

#[test]
fn the_longest_booking_is_no_trouble() {
    let mut node = Node::new();
    let endless = with(guest(), |booked| {
        booked.ends_at = Some(Timestamp::MAX);
        booked.overrun = Duration::MAX;
    });
    assert_eq!(node.enter(1, &endless).last().unwrap(), "joined others=0");
    let never = with(starting_late(Role::Guest), |booked| {
        booked.opens_at = Timestamp::MAX
    });
    node.leave(1);
    assert_eq!(node.enter(1, &never), ["wait Start"]);
}

#[test]
fn a_meeting_made_longer_is_announced_anew() {
    let longer = with(guest(), |booked| {
        booked.ends_at = Some("2026-03-02T10:30:00Z".parse().unwrap())
    });
    let mut node = Node::new();
    node.enter(1, &guest());
    node.pass(minutes(116));
    assert_eq!(node.update(&longer), [""; 0]);
    assert_eq!(node.pass(minutes(28)), [""; 0]);
    assert_eq!(node.pass(minutes(1)), ["1: EndsIn { minutes: 5 }"]);
    let over = with(guest(), |booked| {
        booked.ends_at = Some("2026-03-02T09:00:00Z".parse().unwrap())
    });
    assert_eq!(node.update(&over), [""; 0]);
    assert_eq!(node.pass(Duration::ZERO), ["1 out", "1: Ended", "ended"]);
}

#[test]
fn newer_terms_come_with_the_next_caller() {
    let mut node = Node::new();
    node.enter(1, &guest());
    let permanent = with(guest(), |booked| booked.ends_at = None);
    node.enter(2, &permanent);
    assert_eq!(node.rooms.poll_timeout(), None);
}

#[test]
fn an_answer_that_was_on_its_way_while_the_booking_changed_does_not_change_it_back() {
    let mut node = Node::new();
    node.enter(1, &guest());
    let permanent = with(guest(), |booked| {
        booked.revision = 2;
        booked.ends_at = None;
    });
    node.update(&permanent);
    assert_eq!(node.enter(2, &guest()).last().unwrap(), "joined others=1");
    assert_eq!(node.rooms.poll_timeout(), None);
}

#[test]
fn a_jump_of_the_wall_clock_ends_nothing_early() {
    let mut node = Node::new();
    node.enter(1, &guest());
    node.wall += minutes(600);
    assert_eq!(node.pass(minutes(114)), [""; 0]);
    assert_eq!(node.enter(2, &guest()).last().unwrap(), "joined others=1");
    assert_eq!(
        node.pass(minutes(5)).len(),
        4,
        "both are told of the last 5 minutes and the last"
    );
    assert_eq!(node.pass(minutes(1)).last().unwrap(), "ended");
}

#[test]
fn a_wall_clock_set_back_keeps_the_meeting_open() {
    let mut node = Node::new();
    node.enter(1, &guest());
    node.wall -= minutes(30);
    assert_eq!(node.pass(minutes(144)), [""; 0]);
    assert_eq!(node.pass(minutes(6)).last().unwrap(), "ended");
}

#[test]
fn a_meeting_is_ended_for_all() {
    let mut node = Node::new();
    node.enter(1, &guest());
    node.enter(2, &guest());
    assert_eq!(node.rooms.end(MEETING), 2);
    assert_eq!(
        node.drain(),
        ["1 out", "1: Ended", "2 out", "2: Ended", "ended"]
    );
    assert_eq!(node.rooms.end(MEETING), 0);
    node.enter(1, &awaiting_host(Role::Guest));
    assert_eq!(node.rooms.end(MEETING), 1);
    assert_eq!(node.drain(), ["1: Ended"], "it was never live");
}

#[test]
fn everybody_hears_only_himself_in_the_echo_meeting() {
    let echo = with(guest(), |booked| {
        booked.echo = true;
        booked.capacity = Some(1);
    });
    let mut node = Node::new();
    assert_eq!(node.enter(1, &echo), ["1 into 1 echo", "joined others=0"]);
    assert_eq!(node.enter(2, &echo), ["2 into 2 echo", "joined others=0"]);
    assert_eq!(node.rooms.head_count(call(1)), Some(1));
    assert_eq!(node.rooms.live_meetings().count(), 0);
    assert_eq!(node.rooms.participants(MEETING), []);
    assert_eq!(node.rooms.poll_timeout(), None);
    assert_eq!(node.leave(1), ["1 out"]);
    assert_eq!(node.leave(1), [""; 0]);
}

#[test]
fn who_enters_twice_has_one_seat() {
    let mut node = Node::new();
    node.enter(1, &guest());
    node.enter(2, &guest());
    node.enter(1, &guest());
    assert_eq!(
        node.seats(),
        [(2, SeatState::Joined), (1, SeatState::Joined)]
    );
}

#[test]
fn guests_and_listeners_may_come_in_muted() {
    for (role, mute_on_join, expected) in [
        (Role::Guest, true, Some(MutedBy::Host)),
        (Role::Guest, false, None),
        (Role::Host, true, None),
        (Role::Listener, false, Some(MutedBy::Host)),
        (Role::Bridge, true, None),
    ] {
        let mut node = Node::new();
        node.enter(
            1,
            &with(admission(role), |booked| booked.mute_on_join = mute_on_join),
        );
        assert_eq!(
            node.rooms.participants(MEETING)[0].muted_by,
            expected,
            "{role:?}"
        );
    }
}

#[test]
fn participants_are_steered_by_their_id() {
    let mut node = Node::new();
    node.enter(
        1,
        &with(guest(), |booked| booked.name = Some("Anna".to_owned())),
    );
    let anna = participant(1);
    assert_eq!(
        node.rooms.participants(MEETING)[0].name.as_deref(),
        Some("Anna")
    );
    node.rooms
        .rename(MEETING, anna, Some("Anna B.".to_owned()))
        .unwrap();
    node.rooms.set_hand(MEETING, anna, true).unwrap();
    node.rooms.set_muted_by_host(MEETING, anna, true).unwrap();
    assert_eq!(node.drain(), ["1: MutedByHost(true)"]);
    node.rooms.set_muted(call(1), Some(MutedBy::Host));
    let seat = &node.rooms.participants(MEETING)[0];
    assert_eq!(seat.name.as_deref(), Some("Anna B."));
    assert_eq!((seat.hand, seat.muted_by), (true, Some(MutedBy::Host)));
    node.rooms.remove(MEETING, anna).unwrap();
    assert_eq!(node.drain(), ["1: Removed"]);
    let stranger = participant(2);
    assert_eq!(node.rooms.remove(MEETING, stranger), Err(NoSuchParticipant));
    let elsewhere = MeetingId(Uuid::from_u128(9));
    assert_eq!(
        node.rooms.rename(elsewhere, anna, None),
        Err(NoSuchParticipant)
    );
}

#[test]
fn who_is_muted_while_he_waits_comes_in_muted() {
    let mut node = Node::new();
    node.enter(1, &awaiting_host(Role::Guest));
    node.rooms
        .set_muted_by_host(MEETING, participant(1), true)
        .unwrap();
    let opened = node.enter(2, &awaiting_host(Role::Host));
    assert!(
        opened.contains(&"1: opened others=1 muted".to_owned()),
        "{opened:?}"
    );
    assert!(!opened.contains(&"1: MutedByHost(false)".to_owned()));
}

#[test]
fn who_is_muted_and_freed_while_he_waits_may_unmute_himself() {
    let mut node = Node::new();
    node.enter(1, &awaiting_host(Role::Guest));
    node.rooms
        .set_muted_by_host(MEETING, participant(1), true)
        .unwrap();
    node.rooms
        .set_muted_by_host(MEETING, participant(1), false)
        .unwrap();
    let opened = node.enter(2, &awaiting_host(Role::Host));
    assert!(
        opened.contains(&"1: MutedByHost(false)".to_owned()),
        "{opened:?}"
    );
}

// After the process was lost.

#[test]
fn those_who_come_back_are_in_whatever_stands_for_newcomers_and_no_tone_is_heard() {
    let mut node = Node::new();
    let booked = with(awaiting_host(Role::Guest), |booked| {
        booked.capacity = Some(2);
    });
    assert_eq!(node.enter(9, &booked), ["wait Host"]);
    let first = node.come_back(1, SeatState::Joined, &booked);
    assert_eq!(
        first,
        [
            "started",
            "9 into 1",
            "9: opened others=1",
            "1 into 1",
            "1 hears JoinTone",
            "joined others=1"
        ]
    );
    assert_eq!(
        node.come_back(2, SeatState::Joined, &booked),
        ["2 into 1", "joined others=2"],
        "he had a seat"
    );
    assert_eq!(node.enter(3, &booked), ["refused Full"]);
    let seat = node.rooms.seat(call(2)).unwrap();
    assert_eq!(seat.since, "2026-03-02T08:31:00Z".parse().unwrap());
    assert_eq!(seat.name.as_deref(), Some("Ada"));
    assert_eq!(node.rooms.call_of(MEETING, participant(2)), Some(call(2)));
}

#[test]
fn who_waited_comes_back_waiting_and_nobody_comes_back_to_what_is_over() {
    let mut node = Node::new();
    let booked = awaiting_host(Role::Guest);
    assert_eq!(
        node.come_back(1, SeatState::Waiting, &booked),
        ["wait Host"]
    );
    node.pass(minutes(121));
    let over = node.come_back(2, SeatState::Joined, &booked);
    assert_eq!(over.last().unwrap(), "refused Ended");
}

#[test]
fn who_waited_and_finds_it_open_when_he_comes_back_is_heard_coming_in() {
    let mut node = Node::new();
    node.enter(1, &guest());
    assert_eq!(
        node.come_back(2, SeatState::Waiting, &guest()),
        [
            "1: Company",
            "1 hears JoinTone",
            "2 into 1",
            "joined others=1"
        ]
    );
    let seat = node.rooms.seat(call(2)).unwrap();
    assert_eq!((seat.state, seat.since), (SeatState::Joined, node.wall));
}
