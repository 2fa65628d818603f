//! An invitation as iCalendar (RFC 5545), with its numbers as RFC 7986 section 5.11 has them.
//!
//! The content lines are written here: the `icalendar` crate puts a random `UID` and the present into every part
//! of a time zone, where they may not stand.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::{Invitation, Words, shown};
use crate::booking::admission::Role;
use crate::booking::meeting::{PinsPer, Schedule};
use crate::booking::privacy::Pin;
use crate::booking::recurrence::RecurrenceId;

/// A permanent meeting stands in no calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a permanent meeting has no time that a calendar could show")]
pub struct Timeless;

impl<'a> Invitation<'a> {
    /// The whole series with what became of its occurrences, or the one meeting. The same meeting later has the
    /// same `UID` and a higher `SEQUENCE`.
    ///
    /// # Errors
    /// [`Timeless`].
    pub fn calendar(&self) -> Result<String, Timeless> {
        let schedule = &self.meeting.options.schedule;
        let ends = schedule.ends_local().ok_or(Timeless)?;
        let zone = Zoned::of(schedule);
        let mut lines = Lines::default();
        for line in [
            "BEGIN:VCALENDAR",
            "VERSION:2.0",
            PRODID,
            "CALSCALE:GREGORIAN",
        ] {
            lines.add(line);
        }
        if zone.name.is_some() {
            time_zone(&mut lines, schedule, self.first(schedule));
        }
        self.event(
            &mut lines,
            &zone,
            (schedule.starts_local(), ends),
            |lines| {
                self.repeats(lines, &zone);
            },
        );
        for (id, starts, ends, pin) in self.by_themselves() {
            let one = Self {
                pin: pin.unwrap_or(self.pin),
                is_of_one: pin.is_some(),
                ..self.clone()
            };
            one.event(&mut lines, &zone, (starts, ends), |lines| {
                lines.add(&zone.line("RECURRENCE-ID", &[id]));
            });
        }
        lines.add("END:VCALENDAR");
        Ok(lines.0)
    }

    fn event(
        &self,
        lines: &mut Lines,
        zone: &Zoned<'_>,
        (starts, ends): (DateTime, DateTime),
        which: impl FnOnce(&mut Lines),
    ) {
        let meeting = self.meeting;
        let changed = universal(meeting.updated_at);
        lines.add("BEGIN:VEVENT");
        lines.add(&format!("UID:{}@voicebridge", meeting.id));
        lines.add(&format!("DTSTAMP:{changed}"));
        lines.add(&format!("LAST-MODIFIED:{changed}"));
        lines.add(&format!("SEQUENCE:{}", meeting.revision - 1));
        lines.add(&zone.line("DTSTART", &[starts]));
        lines.add(&zone.line("DTEND", &[ends]));
        which(lines);
        lines.add(&format!("SUMMARY:{}", text(&meeting.options.title)));
        lines.add(&format!("DESCRIPTION:{}", text(&self.how_to_dial())));
        for number in &self.numbers {
            if let Some(tap) = self.one_tap(number).filter(|_| self.has_its_pin()) {
                let label = parameter(&shown(number));
                let tap = tap.replace('#', "%23");
                lines.add(&format!(
                    "CONFERENCE;VALUE=URI;FEATURE=AUDIO,PHONE;LABEL={label};LANGUAGE={}:tel:{tap}",
                    number.language.unwrap_or(self.language).code()
                ));
            }
        }
        lines.add("END:VEVENT");
    }

    fn how_to_dial(&self) -> String {
        let words = Words::of(self.language);
        let numbers = self
            .numbers
            .iter()
            .map(|number| format!("  {}\n", shown(number)));
        let numbers: String = numbers.collect();
        let dial = match numbers.as_str() {
            "" => String::new(),
            numbers => format!("{}:\n{numbers}", words.dial),
        };
        if self.has_its_pin() {
            format!("{dial}{}: {} #", words.pin, self.grouped_pin())
        } else {
            format!("{dial}{}", words.each)
        }
    }

    /// Does the PIN open whatever this is about?
    fn has_its_pin(&self) -> bool {
        self.is_of_one || self.meeting.options.pins_per == PinsPer::Series
    }

    /// The rule, and what is left out of it and added to it.
    fn repeats(&self, lines: &mut Lines, zone: &Zoned<'_>) {
        let Some(recurrence) = &self.meeting.options.recurrence else {
            return;
        };
        let rule = recurrence.repetitions().rule;
        let until = recurrence.rule.until.and_then(|until| {
            let until = zone.rules.to_timestamp(until).ok()?;
            Some(universal(until))
        });
        let parts = rule
            .split(';')
            .map(|part| match (&until, part.starts_with("UNTIL=")) {
                // With a zone it is to be universal, however it was asked for.
                (Some(until), true) => format!("UNTIL={until}"),
                (Some(_) | None, _) => part.to_owned(),
            });
        let rule: Vec<String> = parts.collect();
        lines.add(&format!("RRULE:{}", rule.join(";")));
        let cancelled = recurrence.edits.iter().filter(|(_, edit)| edit.cancelled);
        let mut excluded = recurrence.excluded.clone();
        excluded.extend(cancelled.map(|(id, _)| *id));
        for (name, dates) in [("EXDATE", &excluded), ("RDATE", &recurrence.added)] {
            let dates: Vec<DateTime> = dates.iter().copied().collect();
            if !dates.is_empty() {
                lines.add(&zone.line(name, &dates));
            }
        }
    }

    /// When the first of all its occurrences begins: days may be added, and occurrences moved, to before the series.
    fn first(&self, schedule: &Schedule) -> Timestamp {
        let recurrence = self.meeting.options.recurrence.as_ref();
        let added = recurrence.into_iter().flat_map(|r| r.added.iter().copied());
        let moved = self.by_themselves().map(|(_, starts, ..)| starts);
        let all = added.chain(moved);
        let all = all.filter_map(|at| schedule.time_zone().to_timestamp(at).ok());
        all.chain([schedule.starts_at()])
            .min()
            .unwrap_or(schedule.starts_at())
    }

    /// Occurrences that differ from what the rule says, by their time or as they have PINs of their own: which, from
    /// when to when, and by which PIN.
    fn by_themselves(
        &self,
    ) -> impl Iterator<Item = (DateTime, DateTime, DateTime, Option<&'a Pin>)> + use<'a> {
        let meeting = self.meeting;
        let zone = meeting.options.schedule.time_zone();
        let recurrence = meeting.options.recurrence.as_ref();
        let edits = recurrence.into_iter().flat_map(|r| r.edits.iter());
        let moved = edits.filter(|(_, edit)| edit.moved.is_some());
        let own = meeting.pins.iter().filter_map(|pin| pin.occurrence);
        let which: BTreeSet<RecurrenceId> =
            moved.map(|(id, _)| RecurrenceId(*id)).chain(own).collect();
        which.into_iter().filter_map(move |id| {
            let one = meeting.series()?.occurrence(id)?;
            let pin = match meeting.options.pins_per {
                PinsPer::Series => None,
                PinsPer::Occurrence => meeting.pin_to(Role::Guest, Some(id)),
            };
            let (starts, ends) = (
                zone.to_datetime(one.starts_at),
                zone.to_datetime(one.ends_at),
            );
            (!one.cancelled).then_some((id.local(), starts, ends, pin))
        })
    }
}

/// How times are written.
struct Zoned<'a> {
    /// `None`: universal time.
    name: Option<&'a str>,
    rules: &'a TimeZone,
}

impl<'a> Zoned<'a> {
    fn of(schedule: &'a Schedule) -> Self {
        let name = schedule.zone_name();
        Self {
            name: (name != "UTC").then_some(name),
            rules: schedule.time_zone(),
        }
    }

    fn line(&self, name: &str, times: &[DateTime]) -> String {
        let (zone, mark) = match self.name {
            Some(zone) => (format!(";TZID={}", parameter(zone)), ""),
            None => (String::new(), "Z"),
        };
        let times: Vec<String> = times.iter().map(|&time| local(time) + mark).collect();
        format!("{name}{zone}:{}", times.join(","))
    }
}

/// Content lines, folded after at most 75 bytes (RFC 5545 section 3.1).
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: &str) {
        let mut room = LINE_BYTES_MAX;
        for c in line.chars() {
            if c.len_utf8() > room {
                self.0.push_str("\r\n ");
                room = LINE_BYTES_MAX - 1;
            }
            self.0.push(c);
            room -= c.len_utf8();
        }
        self.0.push_str("\r\n");
    }
}

/// When the clocks of a zone are changed to what, for a meeting.
#[derive(PartialEq, Eq, Clone)]
struct Observance {
    summer: bool,
    from: Offset,
    to: Offset,
    name: String,
}

/// A `VTIMEZONE` that is right from the first start on: as rules where the changes follow one, for ever, else as
/// dates, for ten years from the first start.
fn time_zone(lines: &mut Lines, schedule: &Schedule, first: Timestamp) {
    let zone = schedule.time_zone();
    lines.add("BEGIN:VTIMEZONE");
    lines.add(&format!("TZID:{}", schedule.zone_name()));
    let mut groups: Vec<(Observance, Vec<DateTime>)> = Vec::new();
    for (observance, onset) in changes(zone, first) {
        match groups.iter_mut().find(|(other, _)| *other == observance) {
            Some((_, onsets)) => onsets.push(onset),
            None => groups.push((observance, vec![onset])),
        }
    }
    if groups.is_empty() {
        let offset = zone.to_offset(first);
        let always = Observance {
            summer: false,
            from: offset,
            to: offset,
            name: zone.to_offset_info(first).abbreviation().to_owned(),
        };
        groups.push((always, vec![DateTime::constant(1970, 1, 1, 0, 0, 0, 0)]));
    }
    for (observance, onsets) in &groups {
        observance.write(lines, onsets);
    }
    lines.add("END:VTIMEZONE");
}

/// The change before that, and those of the years after it.
fn changes(zone: &TimeZone, first: Timestamp) -> impl Iterator<Item = (Observance, DateTime)> {
    let until = first.saturating_add(TOLD_FOR).unwrap_or(Timestamp::MAX);
    let before = zone.preceding(first).next();
    let after = zone
        .following(first)
        .take_while(move |change| change.timestamp() < until);
    before.into_iter().chain(after).map(move |change| {
        let at = change.timestamp();
        let just_before = at
            .saturating_sub(SignedDuration::from_secs(1))
            .unwrap_or(at);
        let from = zone.to_offset(just_before);
        let observance = Observance {
            summer: change.dst().is_dst(),
            from,
            to: change.offset(),
            name: change.abbreviation().to_owned(),
        };
        (observance, from.to_datetime(at))
    })
}

impl Observance {
    fn write(&self, lines: &mut Lines, onsets: &[DateTime]) {
        let kind = if self.summer { "DAYLIGHT" } else { "STANDARD" };
        let Some((first, others)) = onsets.split_first() else {
            return;
        };
        lines.add(&format!("BEGIN:{kind}"));
        lines.add(&format!("DTSTART:{}", local(*first)));
        if let Some(rule) = yearly(onsets) {
            lines.add(&format!("RRULE:{rule}"));
        } else if !others.is_empty() {
            let dates: Vec<String> = others.iter().map(|&at| local(at)).collect();
            lines.add(&format!("RDATE:{}", dates.join(",")));
        }
        lines.add(&format!("TZOFFSETFROM:{}", difference(self.from)));
        lines.add(&format!("TZOFFSETTO:{}", difference(self.to)));
        lines.add(&format!("TZNAME:{}", text(&self.name)));
        lines.add(&format!("END:{kind}"));
    }
}

/// The rule that these follow, if there is one: each year in the same month on the same or the last such day.
fn yearly(onsets: &[DateTime]) -> Option<String> {
    let (first, _) = onsets
        .split_first()
        .filter(|(_, others)| others.len() >= 3)?;
    let alike = |a: &DateTime| {
        (a.month(), a.weekday(), a.time()) == (first.month(), first.weekday(), first.time())
    };
    let years = onsets
        .iter()
        .zip(first.year()..)
        .all(|(onset, year)| onset.year() == year);
    let nth = |at: &DateTime| (at.day() - 1) / 7 + 1;
    let is_last = |at: &DateTime| at.day() + 7 > at.days_in_month();
    let place = if onsets.iter().all(is_last) {
        -1
    } else {
        Some(nth(first)).filter(|n| onsets.iter().all(|onset| nth(onset) == *n))?
    };
    let weekdays = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
    let weekday = usize::try_from(first.weekday().to_monday_zero_offset()).ok()?;
    let day = weekdays
        .get(weekday)
        .filter(|_| years && onsets.iter().all(alike))?;
    Some(format!(
        "FREQ=YEARLY;BYMONTH={};BYDAY={place}{day}",
        first.month()
    ))
}

fn local(at: DateTime) -> String {
    at.strftime("%Y%m%dT%H%M%S").to_string()
}

fn universal(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn difference(offset: Offset) -> String {
    let seconds = offset.seconds();
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let mut text = format!("{sign}{:02}{:02}", seconds / 3_600, seconds / 60 % 60);
    if seconds % 60 != 0 {
        // Writing to a text can't fail.
        let _written = write!(text, "{:02}", seconds % 60);
    }
    text
}

/// RFC 5545 section 3.3.11.
fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | ';' | ',' => safe.extend(['\\', c]),
            '\n' => safe.push_str("\\n"),
            other if other.is_control() => {}
            other => safe.push(other),
        }
    }
    safe
}

/// A parameter's value, in quotes; a quote can't stand in it.
fn parameter(text: &str) -> String {
    let plain: String = text
        .chars()
        .filter(|c| !c.is_control() && *c != '"')
        .collect();
    let quoted = plain.contains([':', ';', ',']);
    if quoted {
        format!("\"{plain}\"")
    } else {
        plain
    }
}

const LINE_BYTES_MAX: usize = 75;
const PRODID: &str = "PRODID:-//voicebridge//voicebridge//EN";
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(24 * 366 * 10);
