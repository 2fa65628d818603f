//! When the PIN of a series opens, by the booked rules and by counting days by hand.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;
use crate::booking::admission::{MeetingId, OrganisationId, PinVerdict, Refusal, Role};
use crate::booking::meeting::{Meeting, MeetingOptions, Zone};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;

fn rome() -> TimeZone {
    TimeZone::get("Europe/Rome").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn local(text: &str) -> DateTime {
    text.parse().unwrap()
}

fn id(text: &str) -> RecurrenceId {
    text.parse().unwrap()
}

fn meeting(start: DateTime, minutes: i64, asked: &Repetitions) -> Result<Meeting, SeriesError> {
    let starts_at = rome().to_timestamp(start).unwrap();
    let ends_at = starts_at.checked_add(minutes.minutes()).unwrap();
    let zone = Zone::named("Europe/Rome").unwrap();
    let schedule = Schedule::new(starts_at, Some(ends_at), zone);
    let recurrence = Recurrence::new(asked, &schedule)?;
    let mut options = MeetingOptions::new("Series", schedule);
    options.recurrence = Some(recurrence);
    let pin = PinRecord {
        id: uuid::Uuid::nil(),
        pin: Pin::parse("4815162342").unwrap(),
        role: Role::Guest,
        label: None,
        occurrence: None,
    };
    Ok(Meeting {
        id: MeetingId(uuid::Uuid::nil()),
        organisation: OrganisationId(uuid::Uuid::nil()),
        organisation_name: "demo".to_owned(),
        options,
        room: None,
        pins: vec![pin],
        echo: false,
        cancelled_at: None,
        ended_at: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        revision: 1,
    })
}

fn series(rule: &str, start: &str) -> Meeting {
    let asked = Repetitions {
        rule: rule.to_owned(),
        ..Repetitions::default()
    };
    meeting(local(start), 60, &asked).unwrap()
}

fn verdict(meeting: &Meeting, now: &str) -> String {
    match meeting.verdict(at(now), &meeting.pins[0]) {
        PinVerdict::Admitted(admission) => format!("in {}", admission.occurrence.unwrap()),
        PinVerdict::Refused(Refusal::TooEarly { opens_at }) => format!("early {opens_at}"),
        PinVerdict::Refused(refusal) => format!("{refusal:?}"),
    }
}

fn edit(meeting: &mut Meeting, change: impl FnOnce(Series<'_>) -> Result<Recurrence, SeriesError>) {
    let changed = change(meeting.series().unwrap()).unwrap();
    meeting.options.recurrence = Some(changed);
}

#[test]
fn ten_in_rome_is_ten_in_rome_in_winter_and_summer() {
    let m = series("FREQ=WEEKLY", "2026-03-23T10:00:00");
    assert_eq!(
        verdict(&m, "2026-03-23T08:44:59Z"),
        "early 2026-03-23T09:45:00+01:00[Europe/Rome]"
    );
    assert_eq!(verdict(&m, "2026-03-23T08:45:00Z"), "in 20260323T100000");
    assert_eq!(
        verdict(&m, "2026-03-23T11:00:00Z"),
        "early 2026-03-30T09:45:00+02:00[Europe/Rome]"
    );
    assert_eq!(verdict(&m, "2026-03-30T07:45:00Z"), "in 20260330T100000");
    assert_eq!(verdict(&m, "2126-03-25T08:45:00Z"), "in 21260325T100000");
}

#[test]
fn a_start_that_the_clocks_skip_is_an_hour_later_and_one_they_repeat_is_the_first() {
    let m = series("FREQ=DAILY", "2026-03-28T02:30:00");
    let o = |m: &Meeting, name: &str| m.series().unwrap().occurrence(id(name)).unwrap();
    assert_eq!(
        o(&m, "20260329T023000").starts_at,
        at("2026-03-29T01:30:00Z")
    );
    assert_eq!(
        o(&m, "20261025T023000").starts_at,
        at("2026-10-25T00:30:00Z")
    );
    assert_eq!(o(&m, "20261025T023000").ends_at, at("2026-10-25T01:30:00Z"));
}

#[test]
fn a_time_that_the_clocks_show_for_the_second_time_is_no_time_of_a_series() {
    let m = series("FREQ=DAILY", "2026-10-20T10:00:00");
    let moved = |starts, ends| {
        let times = Some((at(starts), at(ends)));
        m.series().unwrap().moved(id("20261024T100000"), times)
    };
    let second = SeriesError::SecondTime(local("2026-10-25T02:30:00"));
    let (before, first, again) = (
        "2026-10-24T22:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
    );
    assert!(moved(before, first).is_ok());
    assert_eq!(moved(before, again), Err(second.clone()));
    assert_eq!(moved(again, "2026-10-25T03:00:00Z"), Err(second.clone()));
    let zone = Zone::named("Europe/Rome").unwrap();
    let ends = at(again).checked_add(1.hour()).unwrap();
    let schedule = Schedule::new(at(again), Some(ends), zone);
    let asked = Repetitions {
        rule: "FREQ=DAILY".to_owned(),
        ..Repetitions::default()
    };
    assert_eq!(Recurrence::new(&asked, &schedule), Err(second));
}

#[test]
fn a_cancelled_occurrence_is_told_at_its_time_and_the_next_one_opens() {
    let mut m = series("FREQ=DAILY;COUNT=3", "2026-06-01T10:00:00");
    edit(&mut m, |s| s.cancelled(id("20260602T100000"), true));
    assert_eq!(verdict(&m, "2026-06-02T08:00:00Z"), "Cancelled");
    assert_eq!(
        verdict(&m, "2026-06-02T12:00:00Z"),
        "early 2026-06-03T09:45:00+02:00[Europe/Rome]"
    );
    assert_eq!(verdict(&m, "2026-06-03T08:00:00Z"), "in 20260603T100000");
    assert_eq!(verdict(&m, "2026-06-03T10:00:00Z"), "Ended");
    edit(&mut m, |s| s.cancelled(id("20260602T100000"), false));
    assert_eq!(verdict(&m, "2026-06-02T08:00:00Z"), "in 20260602T100000");
}

#[test]
fn a_moved_occurrence_opens_at_its_new_time_only() {
    let mut m = series("FREQ=DAILY;COUNT=3", "2026-06-01T10:00:00");
    let to = (at("2026-06-05T13:00:00Z"), at("2026-06-05T14:00:00Z"));
    edit(&mut m, |s| s.moved(id("20260602T100000"), Some(to)));
    assert!(verdict(&m, "2026-06-02T08:00:00Z").starts_with("early 2026-06-03"));
    assert_eq!(verdict(&m, "2026-06-05T12:45:00Z"), "in 20260602T100000");
    assert_eq!(m.closes_at(), Some(at("2026-06-05T15:00:00Z")));
    let onto = (at("2026-06-03T08:59:00Z"), at("2026-06-03T09:30:00Z"));
    let refused = m.series().unwrap().moved(id("20260602T100000"), Some(onto));
    assert!(matches!(refused, Err(SeriesError::Overlap(_))));
}

#[test]
fn an_ended_occurrence_stays_closed_and_the_series_goes_on() {
    let mut m = series("FREQ=DAILY;COUNT=2", "2026-06-01T10:00:00");
    edit(&mut m, |s| {
        s.ended(id("20260601T100000"), at("2026-06-01T08:20:00Z"))
    });
    assert_eq!(verdict(&m, "2026-06-01T08:30:00Z"), "Ended");
    assert_eq!(
        m.state(at("2026-06-01T08:30:00Z"), false),
        crate::booking::MeetingState::Scheduled
    );
    assert_eq!(verdict(&m, "2026-06-02T08:30:00Z"), "in 20260602T100000");
}

#[test]
fn windows_that_touch_are_one_stay() {
    let asked = Repetitions {
        rule: "FREQ=DAILY;COUNT=1".to_owned(),
        added: [local("2026-06-01T11:30:00"), local("2026-06-01T14:00:00")].into(),
        ..Repetitions::default()
    };
    let m = meeting(local("2026-06-01T10:00:00"), 60, &asked).unwrap();
    let session = m.session(at("2026-06-01T08:30:00Z"));
    // 11:00 and an hour more reach into the 11:30 one, whose overrun ends at 13:30, before 13:45.
    assert_eq!(session.closes_at, Some(at("2026-06-01T11:30:00Z")));
    assert_eq!(verdict(&m, "2026-06-01T08:59:59Z"), "in 20260601T100000");
    assert_eq!(verdict(&m, "2026-06-01T09:20:00Z"), "in 20260601T113000");
}

#[test]
fn what_overlaps_or_leaves_nothing_is_refused() {
    let refused = |minutes, asked: Repetitions| {
        meeting(local("2026-06-01T10:00:00"), minutes, &asked).unwrap_err()
    };
    let daily = || Repetitions {
        rule: "FREQ=DAILY;COUNT=2".to_owned(),
        ..Repetitions::default()
    };
    assert!(matches!(
        refused(24 * 60 + 1, daily()),
        SeriesError::Overlap(_)
    ));
    let excluded = [local("2026-06-01T10:00:00"), local("2026-06-02T10:00:00")].into();
    assert_eq!(
        refused(
            60,
            Repetitions {
                excluded,
                ..daily()
            }
        ),
        SeriesError::AllExcluded
    );
    let many = (0..1_001).map(|n| local("2026-07-01T10:00:00").checked_add(n.days()).unwrap());
    let added = many.collect();
    assert_eq!(
        refused(60, Repetitions { added, ..daily() }),
        SeriesError::TooManyDates
    );
}

#[test]
fn single_changes_follow_a_series_that_moves_to_another_time_of_day() {
    let mut m = series("FREQ=DAILY", "2026-06-01T10:00:00");
    edit(&mut m, |s| s.cancelled(id("20260603T100000"), true));
    let was = m.options.schedule.clone();
    let zone = Zone::named("Europe/Rome").unwrap();
    let start = at("2026-06-02T14:00:00Z");
    let now = Schedule::new(start, Some(start.checked_add(1.hour()).unwrap()), zone);
    let before = m.options.recurrence.take().unwrap();
    let after = Recurrence::new(&before.shifted(&was, &now), &now).unwrap();
    let after = after.with_edits_of(&before, &was, &now);
    let kept = Series::of(&after, &now).unwrap();
    assert!(kept.occurrence(id("20260603T160000")).unwrap().cancelled);
    assert!(!kept.occurrence(id("20260604T160000")).unwrap().cancelled);
}

#[test]
fn what_is_kept_is_what_is_read_back() {
    let mut m = series(
        "FREQ=WEEKLY;BYDAY=MO,WE;UNTIL=20261231T090000Z",
        "2026-06-01T10:00:00",
    );
    let to = (at("2026-06-05T13:00:00Z"), at("2026-06-05T14:00:00Z"));
    edit(&mut m, |s| s.moved(id("20260603T100000"), Some(to)));
    let kept = m.options.recurrence.unwrap();
    let json = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Recurrence>(&json).unwrap(), kept);
}

/// How a series is made, both as a rule and as a test of days.
#[derive(Debug, Clone)]
struct Plan {
    start: DateTime,
    minutes: i64,
    early: u32,
    overrun: u32,
    pattern: Pattern,
    count: usize,
    excluded: Vec<usize>,
    cancelled: Vec<usize>,
    ended: Vec<(usize, i64)>,
    moved: Vec<(usize, i64, i64)>,
    added: Vec<(i64, i8)>,
}

#[derive(Debug, Clone)]
enum Pattern {
    Daily(i64),
    /// Every so many weeks, on the days of a mask (Monday is bit 0) and that of the start.
    Weekly(i64, u8),
    /// Every so many months, on the start's day.
    Monthly(i64),
}

fn plans() -> impl Strategy<Value = Plan> {
    let pattern = prop_oneof![
        (1..4_i64).prop_map(Pattern::Daily),
        (1..3_i64, 0..128_u8).prop_map(|(n, mask)| Pattern::Weekly(n, mask)),
        (1..3_i64).prop_map(Pattern::Monthly),
    ];
    let start = (0..28_i64, 0..24_i8, prop_oneof![Just(0_i8), Just(30)])
        .prop_map(|(day, hour, minute)| {
            let date: Date = "2026-03-05".parse().unwrap();
            date.checked_add(day.days())
                .unwrap()
                .to_datetime(Time::new(hour, minute, 0, 0).unwrap())
        })
        .prop_map(|local| {
            // Who books says an instant, so a series never begins at a time that the clocks skip.
            rome().to_datetime(instant(local))
        });
    let times = (1..240_i64, 0..180_u32, 0..300_u32);
    let some = |n| prop::collection::vec(0..250_usize, 0..n);
    let moved = prop::collection::vec((0..250_usize, -3_000..3_000_i64, 1..200_i64), 0..4);
    let ended = prop::collection::vec((0..250_usize, 0..300_i64), 0..3);
    let added = prop::collection::vec((-20..300_i64, 0..24_i8), 0..4);
    (
        start,
        times,
        pattern,
        1..250_usize,
        some(5),
        some(5),
        ended,
        moved,
        added,
    )
        .prop_map(
            |(
                start,
                (minutes, early, overrun),
                pattern,
                count,
                excluded,
                cancelled,
                ended,
                moved,
                added,
            )| Plan {
                start,
                minutes,
                early,
                overrun,
                pattern,
                count,
                excluded,
                cancelled,
                ended,
                moved,
                added,
            },
        )
}

impl Pattern {
    fn rule(&self, start: DateTime) -> String {
        match self {
            Self::Daily(n) => format!("FREQ=DAILY;INTERVAL={n}"),
            Self::Weekly(n, mask) => {
                let names = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
                let own = start.weekday().to_monday_zero_offset();
                let on = |day: &usize| (mask | 1 << own) >> day & 1 == 1;
                let days: Vec<&str> = (0..7).filter(on).map(|day| names[day]).collect();
                format!("FREQ=WEEKLY;INTERVAL={n};BYDAY={}", days.join(","))
            }
            Self::Monthly(n) => format!("FREQ=MONTHLY;INTERVAL={n}"),
        }
    }

    fn falls_on(&self, start: Date, date: Date) -> bool {
        let days = i64::from(date.since(start).unwrap().get_days());
        match self {
            Self::Daily(n) => days % n == 0,
            Self::Weekly(n, mask) => {
                let own = start.weekday().to_monday_zero_offset();
                let weeks = (days + i64::from(own)) / 7;
                let day = date.weekday().to_monday_zero_offset();
                weeks % n == 0 && (mask | 1 << own) >> day & 1 == 1
            }
            Self::Monthly(n) => {
                let months = i64::from(date.year() - start.year()) * 12
                    + i64::from(date.month() - start.month());
                date.day() == start.day() && months % n == 0
            }
        }
    }
}

/// A series that is booked, beside what was counted by hand: start, end and when it was ended.
struct Booked {
    meeting: Meeting,
    times: std::collections::BTreeMap<DateTime, (Timestamp, Timestamp, Timestamp)>,
}

impl Plan {
    /// The starts of its rule, found by walking over the days.
    fn starts(&self) -> Vec<DateTime> {
        let first = self.start.date();
        let days = (0..).map(|n: i64| first.checked_add(n.days()).unwrap());
        let fall = days
            .take_while(|date| date.year() < 2030)
            .filter(|date| self.pattern.falls_on(first, *date));
        fall.take(self.count)
            .map(|date| date.to_datetime(self.start.time()))
            .collect()
    }

    fn book(&self, starts: &[DateTime]) -> Booked {
        let first = self.start.date();
        let added = self.added.iter().map(|(day, hour)| {
            let date = first.checked_add(day.days()).unwrap();
            date.to_datetime(Time::new(*hour, 15, 0, 0).unwrap())
        });
        let excluded = self.excluded.iter().skip(1);
        let asked = Repetitions {
            rule: format!("{};COUNT={}", self.pattern.rule(self.start), self.count),
            excluded: excluded.map(|n| starts[n % starts.len()]).collect(),
            added: added.collect(),
        };
        // Where days were added that overlap others, or nothing is left, only the rule is booked.
        let bare = Repetitions {
            rule: asked.rule.clone(),
            ..Repetitions::default()
        };
        let book = |asked: &Repetitions| meeting(self.start, self.minutes, asked);
        let (mut meeting, asked) = match book(&asked) {
            Ok(meeting) => (meeting, asked),
            Err(_) => (book(&bare).unwrap(), bare),
        };
        meeting.options.early_join_minutes = self.early;
        meeting.options.overrun_minutes = self.overrun;
        let length = SignedDuration::from_mins(self.minutes);
        let all = starts.iter().copied().chain(asked.added);
        let times = all.filter(|s| !asked.excluded.contains(s)).map(|s| {
            let starts_at = instant(s);
            (s, (starts_at, starts_at + length, Timestamp::MAX))
        });
        let times = times.collect();
        Booked { meeting, times }
    }
}

impl Booked {
    fn series(&self) -> Series<'_> {
        self.meeting.series().unwrap()
    }

    fn keep(&mut self, changed: Recurrence) {
        self.meeting.options.recurrence = Some(changed);
    }

    fn move_by(&mut self, name: DateTime, by: i64, minutes: i64) {
        if !self.times.contains_key(&name) {
            return;
        }
        let starts = instant(name) + SignedDuration::from_mins(by);
        let ends = starts + SignedDuration::from_mins(minutes);
        let moved = self
            .series()
            .moved(RecurrenceId(name), Some((starts, ends)));
        if let Ok(changed) = moved {
            self.times.insert(name, (starts, ends, Timestamp::MAX));
            self.keep(changed);
        }
    }

    fn end(&mut self, name: DateTime, minutes: i64) {
        let Some(entry) = self.times.get_mut(&name) else {
            return;
        };
        let ended = entry.0 + SignedDuration::from_mins(minutes);
        entry.2 = ended;
        let changed = self.series().ended(RecurrenceId(name), ended).unwrap();
        self.keep(changed);
    }

    fn cancel(&mut self, name: DateTime) {
        if self.times.remove(&name).is_some() {
            let changed = self.series().cancelled(RecurrenceId(name), true).unwrap();
            self.keep(changed);
        }
    }

    fn windows(&self) -> Vec<(Timestamp, Timestamp)> {
        let margins = self.meeting.options.margins();
        let open = self.times.values().map(|(starts, ends, ended)| {
            let closes = *ends + margins.overrun;
            (*starts - margins.early, closes.min(*ended))
        });
        open.filter(|(opens, closes)| opens < closes).collect()
    }
}

fn instant(local: DateTime) -> Timestamp {
    rome().to_timestamp(local).unwrap()
}

/// From when to when each live occurrence may be entered.
fn windows(plan: &Plan) -> (Meeting, Vec<(Timestamp, Timestamp)>) {
    let starts = plan.starts();
    let pick = |n: usize| starts[n % starts.len()];
    let mut booked = plan.book(&starts);
    for (n, by, minutes) in &plan.moved {
        booked.move_by(pick(*n), *by, *minutes);
    }
    for (n, minutes) in &plan.ended {
        booked.end(pick(*n), *minutes);
    }
    for n in &plan.cancelled {
        booked.cancel(pick(*n));
    }
    let windows = booked.windows();
    (booked.meeting, windows)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Over both changes of clocks of 2026, with days left out, added, moved, cancelled and ended.
    #[test]
    fn the_pin_opens_exactly_within_the_window_of_a_live_occurrence(
        plan in plans(),
        anywhere in prop::collection::vec(0..300 * 24 * 60_i64, 20),
    ) {
        let (m, windows) = windows(&plan);
        let moment = SignedDuration::from_micros(1);
        let edges = windows.iter().flat_map(|(opens, closes)| {
            [*opens - moment, *opens, *opens + moment, *closes - moment, *closes, *closes + moment]
        });
        let start = at("2026-03-01T00:00:00Z");
        let anywhere = anywhere.iter().map(|minutes| start + SignedDuration::from_mins(*minutes));
        for now in edges.chain(anywhere).chain([at("2026-03-29T01:00:00Z"), at("2026-10-25T00:59:59Z")]) {
            let open = windows.iter().any(|(opens, closes)| *opens <= now && now < *closes);
            let session = m.session(now);
            match m.verdict(now, &m.pins[0]) {
                PinVerdict::Admitted(admission) => {
                    prop_assert!(open, "opens at {now}: {session:?}");
                    let over = admission.ends_at.unwrap() + SignedDuration::try_from(admission.overrun).unwrap();
                    prop_assert_eq!(Some(over), session.closes_at);
                    prop_assert!(now < over);
                }
                PinVerdict::Refused(Refusal::TooEarly { opens_at }) => {
                    prop_assert!(!open, "too early at {now}: {session:?}");
                    let opens_at = opens_at.timestamp();
                    let next = windows.iter().map(|(opens, _)| *opens).filter(|opens| *opens > now).min();
                    prop_assert!(next.is_none_or(|next| next <= opens_at), "{next:?} {opens_at}");
                }
                PinVerdict::Refused(refusal) => prop_assert!(!open, "{refusal:?} at {now}: {session:?}"),
            }
        }
        let last = windows.iter().map(|(_, closes)| *closes).max();
        prop_assert!(m.closes_at() >= last);
    }
}
