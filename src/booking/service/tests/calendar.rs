//! A PIN opens its meeting exactly within the windows of what takes place: asked as a caller's is, over all four changes
//! of clocks of 2026 and 2027, and held against a calendar that counts its days one by one and knows by heart when
//! Rome's clocks are changed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestCaseError, TestRunner};

use super::{House, at, call_id, house_with};
use crate::booking::admission::{PinQuery, PinVerdict, Refusal, Role, Standing};
use crate::booking::change::{Change, MeetingChange, RecurrenceRequest};
use crate::booking::meeting::{Meeting, PinsPer};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::{CallerNumber, Pin};
use crate::booking::recurrence::RecurrenceId;
use crate::booking::service::{BookingError, BookingSettings, OccurrenceChange};

/// When Rome goes to summer time and back, in universal time; both happen at 01:00.
const CHANGES: [(&str, &str); 3] = [
    ("2026-03-29", "2026-10-25"),
    ("2027-03-28", "2027-10-31"),
    ("2028-03-26", "2028-10-29"),
];
/// Days are counted up to here, and nothing is asked about the last year.
const HORIZON: Date = Date::constant(2029, 1, 1);
const LAST_ASKED: Date = Date::constant(2027, 12, 31);
const BEGINNING: Date = Date::constant(2026, 2, 20);

/// When it is booked and changed: before all of it.
fn booked() -> Timestamp {
    at("2026-02-01T08:00:00Z")
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}

fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

/// A civil time of Rome as an instant: one that is skipped is an hour later, one that is repeated is the first.
fn instant(local: DateTime) -> Timestamp {
    let three = Time::constant(3, 0, 0, 0);
    let summer = CHANGES.iter().any(|(spring, autumn)| {
        day(spring).to_datetime(three) <= local && local < day(autumn).to_datetime(three)
    });
    let universal = local.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    universal - hours(if summer { 2 } else { 1 })
}

/// What Rome's clocks show at an instant.
fn shown(at: Timestamp) -> DateTime {
    let one = Time::constant(1, 0, 0, 0);
    let universal = |date: &str| {
        let local = day(date).to_datetime(one);
        local.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp()
    };
    let summer = CHANGES
        .iter()
        .any(|(spring, autumn)| universal(spring) <= at && at < universal(autumn));
    let later = at + hours(if summer { 2 } else { 1 });
    jiff::tz::TimeZone::UTC.to_datetime(later)
}

/// In the hour that the clocks show for the second time?
fn is_second_pass(at: Timestamp) -> bool {
    instant(shown(at)) != at
}

#[derive(Debug, Clone)]
enum Pattern {
    Once,
    Daily(i64),
    /// Every so many weeks, on the days of a mask (Monday is bit 0) and that of the first.
    Weekly(i64, u8),
    /// Every so many months, on the first one's day.
    Monthly(i64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Never,
    Count(usize),
    /// That many days after the first.
    Days(i64),
}

/// A meeting as it is booked.
#[derive(Debug, Clone)]
struct Plan {
    first: DateTime,
    length: i64,
    early: i64,
    overrun: i64,
    pattern: Pattern,
    end: End,
    excluded: Vec<usize>,
    added: Vec<(i64, i64)>,
    edits: Vec<Edit>,
    ended: Vec<(usize, i64)>,
    anywhere: Vec<i64>,
}

/// What is done to it afterwards; occurrences are picked by a number, modulo how many there are.
#[derive(Debug, Clone)]
enum Edit {
    Move {
        which: usize,
        by: i64,
        length: i64,
    },
    Cancel(usize),
    Restore(usize),
    Title,
    Margins(i64, i64),
    Length(i64),
    /// To another time of day.
    Clock(i64),
    End(End),
}

fn plans() -> impl Strategy<Value = Plan> {
    let pattern = prop_oneof![
        1 => Just(Pattern::Once),
        3 => (1..4_i64).prop_map(Pattern::Daily),
        3 => (1..3_i64, 0..128_u8).prop_map(|(n, mask)| Pattern::Weekly(n, mask)),
        2 => (1..3_i64).prop_map(Pattern::Monthly),
    ];
    let first = (days(), clock()).prop_map(|(date, clock)| {
        let local = date.to_datetime(Time::midnight());
        // Who books says an instant: never a time that the clocks skip.
        shown(instant(local.checked_add(clock.minutes()).unwrap()))
    });
    let what = (first, length(), margin(), margin(), pattern, end());
    let changes = (
        prop::collection::vec(0..600_usize, 0..5),
        prop::collection::vec((-20..350_i64, clock()), 0..4),
        prop::collection::vec(edit(), 0..7),
        prop::collection::vec((0..600_usize, -30..300_i64), 0..3),
        prop::collection::vec(0..730 * 24 * 60_i64, 10),
    );
    (what, changes).prop_map(
        |(
            (first, length, early, overrun, pattern, end),
            (excluded, added, edits, ended, anywhere),
        )| Plan {
            first,
            length,
            early,
            overrun,
            pattern,
            end,
            excluded,
            added,
            edits,
            ended,
            anywhere,
        },
    )
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (0..600_usize, -3_000..3_000_i64, length())
            .prop_map(|(which, by, length)| Edit::Move { which, by, length }),
        3 => (0..600_usize).prop_map(Edit::Cancel),
        1 => (0..600_usize).prop_map(Edit::Restore),
        1 => Just(Edit::Title),
        1 => (margin(), margin()).prop_map(|(early, overrun)| Edit::Margins(early, overrun)),
        1 => length().prop_map(Edit::Length),
        1 => clock().prop_map(Edit::Clock),
        1 => end().prop_map(Edit::End),
    ]
}

/// Those on which the clocks are changed, those before them, and any.
fn days() -> impl Strategy<Value = Date> {
    prop_oneof![
        3 => (0..4_usize, -3..1_i64).prop_map(|(n, by)| {
            let (spring, autumn) = CHANGES[n / 2];
            let date = day(if n % 2 == 0 { spring } else { autumn });
            date.checked_add(by.days()).unwrap()
        }),
        2 => (10..300_i64).prop_map(|n| BEGINNING.checked_add(n.days()).unwrap()),
    ]
}

/// Minutes after midnight: mostly at night, when the clocks are changed.
fn clock() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => (0..5 * 60_i64).prop_map(|at| at / 15 * 15),
        1 => 0..24 * 60_i64,
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Never),
        (1..600_usize).prop_map(End::Count),
        (0..600_i64).prop_map(End::Days),
    ]
}

fn margin() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0_i64), Just(15), 0..300_i64]
}

fn length() -> impl Strategy<Value = i64> {
    prop_oneof![Just(60_i64), 1..300_i64]
}

/// What became of one occurrence.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    moved: Option<(Timestamp, Timestamp)>,
    cancelled: bool,
    ended: Option<Timestamp>,
}

/// When one is entered: from when, booked, until when.
#[derive(Debug, Clone, Copy)]
struct Window {
    name: DateTime,
    opens: Timestamp,
    starts: Timestamp,
    ends: Timestamp,
    closes: Timestamp,
}

/// The calendar that the bookings are held against.
#[derive(Debug, Clone)]
struct Calendar {
    first: DateTime,
    length: i64,
    early: i64,
    overrun: i64,
    pattern: Pattern,
    end: End,
    excluded: BTreeSet<DateTime>,
    added: BTreeSet<DateTime>,
    fates: BTreeMap<DateTime, Fate>,
    /// Each has PINs of its own.
    each: bool,
}

impl Calendar {
    fn new(plan: &Plan, pins_per: PinsPer) -> Self {
        let mut calendar = Self {
            first: plan.first,
            length: plan.length,
            early: plan.early,
            overrun: plan.overrun,
            pattern: plan.pattern.clone(),
            end: plan.end,
            excluded: BTreeSet::new(),
            added: BTreeSet::new(),
            fates: BTreeMap::new(),
            each: pins_per == PinsPer::Occurrence,
        };
        if calendar.is_series() {
            let by_rule = calendar.by_rule();
            let excluded = plan.excluded.iter().map(|n| by_rule[n % by_rule.len()]);
            calendar.excluded = excluded.collect();
            let midnight = plan.first.date().to_datetime(Time::midnight());
            let added = plan.added.iter().map(|(day, clock)| {
                let date = midnight.checked_add(day.days()).unwrap();
                date.checked_add(clock.minutes()).unwrap()
            });
            calendar.added = added.collect();
        }
        calendar
    }

    fn is_series(&self) -> bool {
        !matches!(self.pattern, Pattern::Once)
    }

    /// The starts of the rule: each day is asked whether it is one.
    fn by_rule(&self) -> Vec<DateTime> {
        let first = self.first.date();
        let mut starts = Vec::new();
        let mut date = first;
        while date < HORIZON {
            let days = i64::from(date.since(first).unwrap().get_days());
            let within = match self.end {
                End::Never => true,
                End::Count(count) => starts.len() < count,
                End::Days(last) => days <= last,
            };
            if !within {
                break;
            }
            if self.falls_on(days, date) {
                starts.push(date.to_datetime(self.first.time()));
            }
            date = date.tomorrow().unwrap();
        }
        starts
    }

    fn falls_on(&self, days: i64, date: Date) -> bool {
        let own = self.first.weekday().to_monday_zero_offset();
        match self.pattern {
            Pattern::Once => days == 0,
            Pattern::Daily(n) => days % n == 0,
            Pattern::Weekly(n, mask) => {
                let weeks = (days + i64::from(own)) / 7;
                let weekday = date.weekday().to_monday_zero_offset();
                weeks % n == 0 && (mask | 1 << own) >> weekday & 1 == 1
            }
            Pattern::Monthly(n) => {
                let months = i64::from(date.year() - self.first.year()) * 12
                    + i64::from(date.month() - self.first.month());
                date.day() == self.first.day() && months % n == 0
            }
        }
    }

    fn rule(&self) -> String {
        let rule = match self.pattern {
            Pattern::Once => unreachable!("it isn't asked for one"),
            Pattern::Daily(n) => format!("FREQ=DAILY;INTERVAL={n}"),
            Pattern::Weekly(n, mask) => {
                let own = self.first.weekday().to_monday_zero_offset();
                let names = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
                let on = (0..7).filter(|day| (mask | 1 << own) >> day & 1 == 1);
                let days: Vec<&str> = on.map(|day| names[day]).collect();
                format!("FREQ=WEEKLY;INTERVAL={n};BYDAY={}", days.join(","))
            }
            Pattern::Monthly(n) => format!("FREQ=MONTHLY;INTERVAL={n}"),
        };
        match self.end {
            End::Never => rule,
            End::Count(count) => format!("{rule};COUNT={count}"),
            End::Days(days) => {
                let last = self.first.date().checked_add(days.days()).unwrap();
                format!("{rule};UNTIL={}", last.strftime("%Y%m%d"))
            }
        }
    }

    /// All there are, whatever became of them.
    fn names(&self) -> BTreeSet<DateTime> {
        let all = self.by_rule().into_iter().chain(self.added.iter().copied());
        all.filter(|name| !self.excluded.contains(name)).collect()
    }

    fn pick(&self, n: usize) -> Option<DateTime> {
        let names = self.names();
        let n = n.checked_rem(names.len())?;
        names.into_iter().nth(n)
    }

    fn window(&self, name: DateTime) -> Window {
        let fate = self.fates.get(&name).copied().unwrap_or_default();
        let starts = instant(name);
        let (starts, ends) = fate
            .moved
            .unwrap_or((starts, starts + minutes(self.length)));
        let closes = ends + minutes(self.overrun);
        Window {
            name,
            opens: starts - minutes(self.early),
            starts,
            ends,
            closes: fate.ended.map_or(closes, |ended| ended.min(closes)),
        }
    }

    /// When it can be entered.
    fn windows(&self) -> Vec<Window> {
        let live = self.names().into_iter().filter(|name| {
            let fate = self.fates.get(name);
            !fate.is_some_and(|fate| fate.cancelled)
        });
        let windows = live.map(|name| self.window(name));
        windows.filter(|w| w.opens < w.closes).collect()
    }

    /// Would it be on at the same time as another one, were it on then?
    fn collides(&self, name: DateTime, starts: Timestamp, ends: Timestamp) -> bool {
        let others = self.names().into_iter().filter(|other| *other != name);
        let on = others.filter(|other| {
            let fate = self.fates.get(other).copied().unwrap_or_default();
            !fate.cancelled && fate.ended.is_none()
        });
        on.map(|other| self.window(other))
            .any(|other| other.starts < ends && starts < other.ends)
    }

    /// Can it be booked like this, as if nothing had become of single ones yet?
    fn is_possible(&self) -> bool {
        let plain = Self {
            fates: BTreeMap::new(),
            ..self.clone()
        };
        let names = plain.names();
        let mut before: Option<Window> = None;
        for window in names.iter().map(|name| plain.window(*name)) {
            if before.is_some_and(|before| before.ends > window.starts) {
                return false;
            }
            before = Some(window);
        }
        let last = before.map(|last| last.closes);
        last.is_some_and(|last| last > booked()) && self.is_apart()
    }

    /// Are there never two that can be entered at once? Asked of those with PINs of their own alone.
    fn is_apart(&self) -> bool {
        let mut windows = self.windows_as_booked();
        windows.sort_by_key(|window| (window.starts, window.name));
        let apart = |pair: &[Window]| pair[0].ends + minutes(self.overrun) <= pair[1].opens;
        !self.each || !self.is_series() || windows.windows(2).all(apart)
    }

    fn windows_as_booked(&self) -> Vec<Window> {
        let on = self.names().into_iter().filter(|name| {
            let fate = self.fates.get(name).copied().unwrap_or_default();
            !fate.cancelled && fate.ended.is_none()
        });
        on.map(|name| self.window(name)).collect()
    }
}

/// A meeting that is booked, beside what its calendar says.
struct Booked<'a> {
    house: &'a House,
    meeting: Meeting,
    calendar: Calendar,
    refused: u32,
}

impl Booked<'_> {
    async fn patch(&mut self, change: MeetingChange, after: Calendar) -> Result<(), TestCaseError> {
        let (bookings, id) = (&self.house.bookings, self.meeting.id);
        let patched = bookings.patch_meeting(booked(), &self.house.key, id, change, None);
        match patched.await {
            Ok(meeting) => {
                self.expect_pins_kept(&meeting)?;
                self.calendar = after;
            }
            Err(BookingError::Invalid(errors)) => {
                prop_assert!(!after.is_possible(), "{errors:?} {after:?}");
                self.refused += 1;
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
        Ok(())
    }

    /// A change takes no PIN away. It may give some: a series that goes on for longer has more occurrences.
    fn expect_pins_kept(&self, changed: &Meeting) -> Result<(), TestCaseError> {
        for before in &self.meeting.pins {
            let kept = changed.pins.iter().find(|after| after.id == before.id);
            let same = kept.is_some_and(|kept| kept.pin == before.pin && kept.role == before.role);
            prop_assert!(same, "{before:?} {kept:?}");
        }
        let opens: BTreeSet<_> = changed.pins.iter().map(opened_by).collect();
        prop_assert_eq!(opens.len(), changed.pins.len());
        let given = changed.pins.len() - self.meeting.pins.len();
        prop_assert!(given == 0 || self.calendar.each && self.calendar.is_series());
        Ok(())
    }

    async fn occurrence(
        &mut self,
        name: DateTime,
        change: OccurrenceChange,
        fate: Fate,
        is_possible: bool,
    ) -> Result<(), TestCaseError> {
        let mut after = self.calendar.clone();
        after.fates.insert(name, fate);
        let is_possible = is_possible && (fate.cancelled || after.is_apart());
        let (bookings, id) = (&self.house.bookings, self.meeting.id);
        let (key, name_of_it) = (&self.house.key, RecurrenceId(name));
        let changed = bookings.change_occurrence(booked(), key, id, name_of_it, change, None);
        match changed.await {
            Ok(_) => {
                prop_assert!(is_possible, "{name} {change:?} {:?}", self.calendar);
                self.calendar.fates.insert(name, fate);
            }
            Err(BookingError::Invalid(errors)) => {
                prop_assert!(!is_possible, "{name} {errors:?} {:?}", self.calendar);
                self.refused += 1;
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
        Ok(())
    }

    async fn edit(&mut self, edit: &Edit) -> Result<(), TestCaseError> {
        let mut after = self.calendar.clone();
        let set = |at: Timestamp| Change::Set(at.to_string());
        let starts = instant(after.first);
        let mut change = MeetingChange::default();
        match *edit {
            Edit::Title => change.title = Change::Set("Other".to_owned()),
            Edit::Margins(early, overrun) => {
                (after.early, after.overrun) = (early, overrun);
                change.early_join_minutes = Change::Set(early);
                change.overrun_minutes = Change::Set(overrun);
            }
            Edit::Length(length) => {
                after.length = length;
                change.ends_at = set(starts + minutes(length));
            }
            Edit::Clock(clock) => {
                let midnight = after.first.date().to_datetime(Time::midnight());
                let moved = midnight.checked_add(clock.minutes()).unwrap();
                after.move_to(shown(instant(moved)));
                let starts = instant(after.first);
                change.starts_at = set(starts);
                change.ends_at = set(starts + minutes(after.length));
            }
            Edit::End(end) if after.is_series() => {
                after.end = end;
                let names = after.names();
                after.fates.retain(|name, _| names.contains(name));
                change.recurrence = Change::Set(request(&after));
            }
            Edit::End(_) => return Ok(()),
            Edit::Move { which, by, length } => return self.move_one(which, by, length).await,
            Edit::Cancel(which) => return self.cancel(which, true).await,
            Edit::Restore(which) => return self.cancel(which, false).await,
        }
        self.patch(change, after).await
    }

    async fn move_one(&mut self, which: usize, by: i64, length: i64) -> Result<(), TestCaseError> {
        let Some(name) = self
            .calendar
            .pick(which)
            .filter(|_| self.calendar.is_series())
        else {
            return Ok(());
        };
        let starts = instant(name) + minutes(by);
        let ends = starts + minutes(length);
        // A calendar can't name the second of two equal times.
        let is_possible = !self.calendar.collides(name, starts, ends)
            && !is_second_pass(starts)
            && !is_second_pass(ends);
        let change = OccurrenceChange {
            starts_at: Some(starts),
            ends_at: Some(ends),
            cancelled: Some(false),
        };
        let fate = Fate {
            moved: Some((starts, ends)),
            ..Fate::default()
        };
        self.occurrence(name, change, fate, is_possible).await
    }

    async fn cancel(&mut self, which: usize, cancelled: bool) -> Result<(), TestCaseError> {
        let Some(name) = self
            .calendar
            .pick(which)
            .filter(|_| self.calendar.is_series())
        else {
            return Ok(());
        };
        let before = self.calendar.fates.get(&name).copied().unwrap_or_default();
        let window = self.calendar.window(name);
        let is_possible = cancelled || !self.calendar.collides(name, window.starts, window.ends);
        let change = OccurrenceChange {
            cancelled: Some(cancelled),
            ..OccurrenceChange::default()
        };
        let fate = Fate {
            cancelled,
            ..before
        };
        self.occurrence(name, change, fate, is_possible).await
    }

    /// Ends the one that is on, where it is clear which that is.
    async fn end(&mut self, which: usize, after: i64) -> Result<(), TestCaseError> {
        let Some(name) = self
            .calendar
            .pick(which)
            .filter(|_| self.calendar.is_series())
        else {
            return Ok(());
        };
        let now = self.calendar.window(name).starts + minutes(after);
        let windows = self.calendar.windows();
        let open = |w: &&Window| w.opens < now && now < w.closes;
        let on: Vec<DateTime> = windows.iter().filter(open).map(|w| w.name).collect();
        if let [name] = on[..] {
            let ended = self.house.bookings.end_meeting(now, self.meeting.id).await;
            prop_assert_eq!(ended, Ok(()));
            self.calendar.fates.entry(name).or_default().ended = Some(now);
        }
        Ok(())
    }

    /// Asks by the PINs of single occurrences, at the edges of their windows and while others are open.
    async fn ask_each(&self, tally: &Tally) -> Result<(), TestCaseError> {
        let (house, calendar) = (self.house, &self.calendar);
        let now = house.bookings.meeting(&house.key, self.meeting.id).await;
        let now = now.map_err(|error| TestCaseError::fail(error.to_string()))?;
        // What was ended was so at its time, and what was long over then lost its PINs.
        let later = calendar.fates.values().any(|fate| fate.ended.is_some());
        for before in &self.meeting.pins {
            let after = now.pins.iter().find(|after| after.id == before.id);
            let same = after.map_or(later, |after| after.pin == before.pin);
            prop_assert!(same, "{before:?} {after:?}");
        }
        let names = calendar.names();
        let of = |name: DateTime| {
            let own = |occurrence: RecurrenceId| occurrence.local() == name;
            let mut guests = now.pins.iter().filter(|pin| pin.role == Role::Guest);
            guests.find(|pin| pin.occurrence.is_some_and(own))
        };
        let horizon = booked() + hours(24 * 300);
        let near = names.iter().take(90);
        for name in near.filter(|name| !later && instant(**name) < horizon) {
            prop_assert!(of(*name).is_some(), "{name} has no PIN: {calendar:?}");
        }
        let windows = calendar.windows();
        let second = SignedDuration::from_secs(1);
        let with_pins: Vec<DateTime> = names.iter().copied().filter(|n| of(*n).is_some()).collect();
        for (n, name) in with_pins.iter().enumerate() {
            let touched = calendar.fates.contains_key(name);
            if !touched && n % (with_pins.len() / 5 + 1) != 0 {
                continue;
            }
            let Some(record) = of(*name) else { continue };
            let own = calendar.window(*name);
            let live = windows.iter().any(|window| window.name == *name);
            let edges = [own.opens, own.starts, own.closes, instant(*name)];
            let edges = edges
                .into_iter()
                .flat_map(|edge| [edge - second, edge, edge + second]);
            let others = windows
                .iter()
                .step_by(windows.len() / 3 + 1)
                .map(|w| w.starts);
            for at in edges.chain(others) {
                tally.asked.set(tally.asked.get() + 1);
                let is_in = self.is_in(&record.pin, at, tally.asked.get()).await;
                let open = live && own.opens <= at && at < own.closes;
                prop_assert_eq!(is_in, open, "{} at {}: {:?}", name, at, calendar);
            }
        }
        Ok(())
    }

    async fn is_in(&self, pin: &Pin, now: Timestamp, caller: u64) -> bool {
        let query = PinQuery {
            call: call_id(),
            pin: pin.clone(),
            number: None,
            caller: CallerNumber::new(&format!("+39{caller}")),
            standing: Standing::Unknown,
        };
        let verdict = self.house.bookings.resolve_pin(now, query).await;
        matches!(verdict, PinVerdict::Admitted(_))
    }

    /// Asks as a caller would, and compares.
    async fn ask(
        &self,
        now: Timestamp,
        caller: u64,
        windows: &[Window],
    ) -> Result<(), TestCaseError> {
        let query = PinQuery {
            call: call_id(),
            pin: self.meeting.pins[0].pin.clone(),
            number: None,
            caller: CallerNumber::new(&format!("+39{caller}")),
            standing: Standing::Unknown,
        };
        let open = |w: &&Window| w.opens <= now && now < w.closes;
        let mut on = windows.iter().filter(open);
        match self.house.bookings.resolve_pin(now, query).await {
            PinVerdict::Admitted(admission) => {
                let name = admission.occurrence.map(RecurrenceId::local);
                let named = on.any(|w| !self.calendar.is_series() || name == Some(w.name));
                prop_assert!(named, "open at {now} as {name:?}: {:?}", self.calendar);
            }
            PinVerdict::Refused(Refusal::TooEarly { opens_at }) => {
                prop_assert!(on.next().is_none(), "too early at {now}");
                let next = windows.iter().map(|w| w.opens).filter(|opens| *opens > now);
                prop_assert_eq!(next.min(), Some(opens_at.timestamp()), "at {}", now);
            }
            PinVerdict::Refused(Refusal::Unavailable) => prop_assert!(false, "not looked at"),
            PinVerdict::Refused(refusal) => {
                prop_assert!(
                    on.next().is_none(),
                    "{refusal:?} at {now}: {:?}",
                    self.calendar
                );
            }
        }
        Ok(())
    }
}

impl Calendar {
    /// As a whole, on the same day: days that were added and single changes go along.
    fn move_to(&mut self, first: DateTime) {
        let by = first.duration_since(self.first);
        let moved = |local: &DateTime| local.checked_add(by).unwrap();
        self.excluded = self.excluded.iter().map(moved).collect();
        self.added = self.added.iter().map(moved).collect();
        self.fates = self
            .fates
            .iter()
            .map(|(name, fate)| (moved(name), *fate))
            .collect();
        self.first = first;
    }

    /// The moments that matter: the edges of all windows near a change of clocks or of what became of single ones,
    /// and of some others, each with the second before it and the one after it.
    fn moments(&self, anywhere: &[i64]) -> Vec<Timestamp> {
        let near_change = |at: Timestamp| {
            let near = |date: &str| {
                let at_one = day(date).to_datetime(Time::constant(1, 0, 0, 0));
                at.duration_since(instant(at_one)).abs() < hours(40)
            };
            CHANGES
                .iter()
                .any(|(spring, autumn)| near(spring) || near(autumn))
        };
        let all: Vec<Window> = self
            .names()
            .into_iter()
            .map(|name| self.window(name))
            .collect();
        let last = all.len().saturating_sub(1);
        let picked = all.iter().enumerate().filter(|(n, w)| {
            let some = n % (all.len() / 8 + 1) == 0 || *n == last;
            some || near_change(w.starts) || self.fates.contains_key(&w.name)
        });
        let edges = picked.flat_map(|(_, w)| [w.opens, w.starts, w.closes, instant(w.name)]);
        let second = SignedDuration::from_secs(1);
        let mut moments: Vec<Timestamp> = edges
            .flat_map(|edge| [edge - second, edge, edge + second])
            .collect();
        let beginning = instant(BEGINNING.to_datetime(Time::midnight()));
        moments.extend(anywhere.iter().map(|after| beginning + minutes(*after)));
        let last = instant(LAST_ASKED.to_datetime(Time::midnight()));
        moments.retain(|moment| *moment < last);
        moments.sort();
        moments.dedup();
        moments
    }
}

fn opened_by(pin: &PinRecord) -> (bool, Option<DateTime>) {
    (
        pin.role == Role::Host,
        pin.occurrence.map(RecurrenceId::local),
    )
}

fn request(calendar: &Calendar) -> RecurrenceRequest {
    let texts = |dates: &BTreeSet<DateTime>| dates.iter().map(DateTime::to_string).collect();
    RecurrenceRequest {
        rule: calendar.rule(),
        excluded: texts(&calendar.excluded),
        added: texts(&calendar.added),
    }
}

/// Books it; `None`: it can't be booked, and that is so.
async fn book<'a>(
    house: &'a House,
    plan: &Plan,
    pins_per: PinsPer,
) -> Result<Option<Booked<'a>>, TestCaseError> {
    let calendar = Calendar::new(plan, pins_per);
    let starts = instant(calendar.first);
    let set = |at: Timestamp| Change::Set(at.to_string());
    let asked = MeetingChange {
        title: Change::Set("Series".to_owned()),
        starts_at: set(starts),
        ends_at: set(starts + minutes(calendar.length)),
        timezone: Change::Set("Europe/Rome".to_owned()),
        early_join_minutes: Change::Set(calendar.early),
        overrun_minutes: Change::Set(calendar.overrun),
        recurrence: if calendar.is_series() {
            Change::Set(request(&calendar))
        } else {
            Change::Keep
        },
        pins_per: match pins_per {
            PinsPer::Occurrence if calendar.is_series() => Change::Set("occurrence".to_owned()),
            PinsPer::Series | PinsPer::Occurrence => Change::Keep,
        },
        ..MeetingChange::default()
    };
    let created = house
        .bookings
        .create_meeting(booked(), &house.organisation, asked, None);
    match created.await {
        Ok((meeting, _)) => Ok(Some(Booked {
            house,
            meeting,
            calendar,
            refused: 0,
        })),
        Err(BookingError::Invalid(errors)) => {
            prop_assert!(!calendar.is_possible(), "{errors:?} {calendar:?}");
            Ok(None)
        }
        Err(other) => {
            prop_assert!(false, "{other}");
            Ok(None)
        }
    }
}

/// How much was really looked at.
#[derive(Default)]
struct Tally {
    booked: Cell<u32>,
    edited: Cell<u32>,
    refused: Cell<u32>,
    asked: Cell<u64>,
}

async fn hold_against_its_calendar(
    house: &House,
    tally: &Tally,
    pins_per: PinsPer,
    plan: &Plan,
) -> Result<(), TestCaseError> {
    let Some(mut booked) = book(house, plan, pins_per).await? else {
        return Ok(());
    };
    for edit in &plan.edits {
        booked.edit(edit).await?;
    }
    for (which, after) in &plan.ended {
        booked.end(*which, *after).await?;
    }
    if pins_per == PinsPer::Occurrence && booked.calendar.is_series() {
        booked.ask_each(tally).await?;
    } else {
        let windows = booked.calendar.windows();
        for now in booked.calendar.moments(&plan.anywhere) {
            tally.asked.set(tally.asked.get() + 1);
            booked.ask(now, tally.asked.get(), &windows).await?;
        }
    }
    tally.booked.set(tally.booked.get() + 1);
    let edits = u32::try_from(plan.edits.len()).unwrap();
    tally.edited.set(tally.edited.get() + edits);
    tally.refused.set(tally.refused.get() + booked.refused);
    Ok(())
}

#[test]
fn a_pin_opens_exactly_within_the_windows_of_what_takes_place() {
    hold_many(PinsPer::Series, 64, 2_000);
}

#[test]
fn a_pin_of_one_occurrence_opens_that_one_whatever_became_of_it_and_no_other() {
    hold_many(PinsPer::Occurrence, 24, 500);
}

fn hold_many(pins_per: PinsPer, cases: u32, asked_min: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Retired PINs are wrong ones, and many are asked about.
    let settings = BookingSettings {
        failure_budget: u32::MAX / 10,
        ..BookingSettings::default()
    };
    let house = runtime.block_on(house_with(settings));
    let tally = Tally::default();
    // `PROPTEST_CASES` asks for more.
    let usual = ProptestConfig::default();
    let more = std::env::var_os("PROPTEST_CASES").is_some();
    let mut runner = TestRunner::new(ProptestConfig {
        cases: if more { usual.cases } else { cases },
        failure_persistence: None,
        ..usual
    });
    let run = runner.run(&plans(), |plan| {
        runtime.block_on(hold_against_its_calendar(&house, &tally, pins_per, &plan))
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
    let (booked, edited) = (tally.booked.get(), tally.edited.get());
    assert!(
        booked > cases / 2 && tally.refused.get() * 2 < edited,
        "{booked} {edited} {}",
        tally.refused.get()
    );
    assert!(tally.asked.get() > asked_min, "{}", tally.asked.get());
}

#[test]
fn the_calendar_of_this_test_agrees_with_the_zone() {
    let rome = jiff::tz::TimeZone::get("Europe/Rome").unwrap();
    let start = at("2026-02-20T00:00:00Z");
    for n in 0..740 * 24 * 4 {
        let now = start + minutes(n * 15);
        assert_eq!(shown(now), rome.to_datetime(now), "{now}");
    }
    assert_eq!(
        instant(day("2026-03-29").at(2, 30, 0, 0)),
        at("2026-03-29T01:30:00Z")
    );
    assert_eq!(
        instant(day("2026-10-25").at(2, 30, 0, 0)),
        at("2026-10-25T00:30:00Z")
    );
}
