//! What repeats a meeting: a rule of RFC 5545 section 3.3.10, days left out, days added, and single
//! occurrences that were moved or cancelled.
//!
//! Everything here is civil time: "every Monday at ten" is what was agreed, and the zone says later which
//! instants that are. The calendar's arithmetic is the `rrule` crate's, which is given the civil times as
//! if they were universal, so that it never meets a change of clocks.
#![deny(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use rrule::RRuleSet;
use serde::{Deserialize, Serialize};

/// A series as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    pub(super) rule: Rule,
    pub(super) excluded: BTreeSet<DateTime>,
    pub(super) added: BTreeSet<DateTime>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) edits: BTreeMap<DateTime, Edit>,
    /// When its last occurrence ends; `None`: never. Written by `Series::settle`.
    pub(super) last_ends_at: Option<Timestamp>,
}

/// Names an occurrence of a series: when it was to start, as the clocks of its zone show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RecurrenceId(pub(super) DateTime);

/// What became of one occurrence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Edit {
    /// From when to when instead.
    pub(super) moved: Option<(DateTime, DateTime)>,
    /// It doesn't take place.
    pub(super) cancelled: bool,
    /// It was ended before its time.
    pub(super) ended_at: Option<Timestamp>,
}

/// A rule that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    /// As it was asked for, without `RRULE:`.
    text: String,
    /// What is expanded: without its end, and with what it takes from the first start spelt out, so that
    /// it can be expanded from anywhere.
    parts: String,
    frequency: Frequency,
    interval: i64,
    /// The last start there may be; `None`: endless. `COUNT` is turned into this.
    pub(super) until: Option<DateTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It can't be read.
    #[error("rule: must be a rule as of RFC 5545, such as FREQ=WEEKLY;BYDAY=MO;COUNT=10: {0}")]
    Malformed(String),
    /// Several times a day, or parts that aren't enforced.
    #[error("rule: {0} is not supported; a rule repeats daily, weekly, monthly or yearly")]
    NotSupported(String),
    /// More than can be meant.
    #[error(
        "rule: gives more than {OCCURRENCES_MAX} occurrences; leave COUNT and UNTIL out for an endless series"
    )]
    TooMany,
    /// It never happens.
    #[error("rule: gives no occurrence at or after starts_at")]
    Never,
    /// The first start isn't one of its own.
    #[error("rule: starts_at must be its first occurrence, which would be on {0}")]
    OtherFirst(DateTime),
}

impl Rule {
    /// Reads a rule for a meeting that first starts at `first`.
    pub(super) fn parse(text: &str, first: DateTime, zone: &TimeZone) -> Result<Self, RuleError> {
        let text = without_name(text.trim());
        let asked = Asked::read(text, zone)?;
        let mut rule = Self {
            parts: asked.parts(first),
            frequency: asked.frequency,
            interval: asked.interval,
            until: asked.until,
            text: text.to_ascii_uppercase(),
        };
        let mut starts = rule.expand(first, first)?;
        match starts.next() {
            None => return Err(RuleError::Never),
            Some(start) if start != first => return Err(RuleError::OtherFirst(start)),
            Some(_) => {}
        }
        let bounded = asked.count.is_some() || asked.until.is_some();
        if bounded {
            let wanted = asked.count.unwrap_or(usize::MAX).min(OCCURRENCES_MAX + 1);
            let rest: Vec<DateTime> = starts.take(wanted.saturating_sub(1)).collect();
            if rest.len() >= OCCURRENCES_MAX {
                return Err(RuleError::TooMany);
            }
            rule.until = Some(rest.last().copied().unwrap_or(first));
        }
        Ok(rule)
    }

    /// As it was asked for, without `RRULE:`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its starts from `from` on, in order, of a series that first starts at `first`. Starts shortly before
    /// `from`, however long ago `first` was.
    pub(super) fn starts(&self, first: DateTime, from: DateTime) -> impl Iterator<Item = DateTime> {
        // A rule that was read once is read again.
        self.expand(first, from).into_iter().flatten()
    }

    fn expand(
        &self,
        first: DateTime,
        from: DateTime,
    ) -> Result<impl Iterator<Item = DateTime> + use<>, RuleError> {
        let from = from.max(first);
        let anchor = self.anchor(first, from).strftime("%Y%m%dT%H%M%SZ");
        let set = format!("DTSTART:{anchor}\nRRULE:{}", self.parts);
        let set: RRuleSet = set
            .parse()
            .map_err(|error: rrule::RRuleError| RuleError::Malformed(error.to_string()))?;
        let last = self.until.unwrap_or(LAST_START).min(LAST_START);
        let starts = set.limit().into_iter().map_while(|at| {
            let at = Timestamp::from_second(at.timestamp()).ok()?;
            Some(TimeZone::UTC.to_datetime(at))
        });
        Ok(starts
            .skip_while(move |&start| start < from)
            .take_while(move |&start| start <= last))
    }

    /// Where to expand from to reach `from` soon: the beginning of a period in which the rule applies.
    fn anchor(&self, first: DateTime, from: DateTime) -> DateTime {
        let periods = |elapsed: i64| (elapsed / self.interval - 1).max(0) * self.interval;
        let (date, time) = (first.date(), first.time());
        let days = from.duration_since(first).as_hours() / 24;
        let anchor = match self.frequency {
            Frequency::Daily => date.checked_add(periods(days).days()),
            Frequency::Weekly => date.checked_add((periods(days / 7) * 7).days()),
            Frequency::Monthly => {
                let months = i64::from(from.year() - first.year()) * 12
                    + i64::from(from.month() - first.month());
                date.first_of_month().checked_add(periods(months).months())
            }
            Frequency::Yearly => {
                let years = i64::from(from.year() - first.year());
                date.first_of_year().checked_add(periods(years).years())
            }
        };
        anchor.unwrap_or(date).to_datetime(time)
    }
}

/// The parts of a rule.
struct Asked {
    frequency: Frequency,
    interval: i64,
    count: Option<usize>,
    until: Option<DateTime>,
    /// `WKST` and `BY…`, checked by the crate.
    others: Vec<(String, String)>,
}

impl Asked {
    fn read(text: &str, zone: &TimeZone) -> Result<Self, RuleError> {
        let malformed = |why: &str| RuleError::Malformed(why.to_owned());
        if text.len() > RULE_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let mut parts = BTreeMap::new();
        for part in text.split(';') {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| malformed("a part has no '='"))?;
            let (name, value) = (name.to_ascii_uppercase(), value.to_ascii_uppercase());
            let harmless = |b: u8| b.is_ascii_alphanumeric() || b"+-,".contains(&b);
            if value.is_empty() || !value.bytes().all(harmless) {
                return Err(malformed("a value can't be read"));
            }
            if parts.insert(name, value).is_some() {
                return Err(malformed("a part is there twice"));
            }
        }
        let frequency = match parts.remove("FREQ").as_deref() {
            Some("DAILY") => Frequency::Daily,
            Some("WEEKLY") => Frequency::Weekly,
            Some("MONTHLY") => Frequency::Monthly,
            Some("YEARLY") => Frequency::Yearly,
            Some(other @ ("HOURLY" | "MINUTELY" | "SECONDLY")) => {
                return Err(RuleError::NotSupported(format!("FREQ={other}")));
            }
            Some(_) | None => return Err(malformed("FREQ is missing or unknown")),
        };
        let interval = parts.remove("INTERVAL").map_or(Ok(1), |text| {
            let fits = text.parse().ok().filter(|n| (1..=INTERVAL_MAX).contains(n));
            fits.ok_or_else(|| malformed("INTERVAL must be 1 to 1,000"))
        })?;
        let count = parts.remove("COUNT").map(|text| {
            let fits = text.parse().ok().filter(|&n: &usize| n > 0);
            fits.ok_or_else(|| malformed("COUNT must be a whole number above 0"))
        });
        let until = parts.remove("UNTIL").map(|text| {
            until(&text, zone).ok_or_else(|| malformed("UNTIL must be like 20261231T225959Z"))
        });
        let (count, until) = (count.transpose()?, until.transpose()?);
        if count.is_some() && until.is_some() {
            return Err(malformed("COUNT and UNTIL exclude each other"));
        }
        if let Some(name) = parts.keys().find(|name| !PARTS.contains(&name.as_str())) {
            let shown = name.chars().filter(|c| !c.is_control()).take(20).collect();
            return Err(RuleError::NotSupported(shown));
        }
        let others = parts.into_iter().collect();
        Ok(Self {
            frequency,
            interval,
            count,
            until,
            others,
        })
    }

    /// Without its end, and with what it would take from its first start spelt out.
    fn parts(&self, first: DateTime) -> String {
        let has = |name: &str| self.others.iter().any(|(other, _)| other == name);
        let (frequency, implied) = match self.frequency {
            Frequency::Daily => ("DAILY", String::new()),
            Frequency::Weekly => ("WEEKLY", String::new()),
            Frequency::Monthly if has("BYDAY") || has("BYMONTHDAY") => ("MONTHLY", String::new()),
            Frequency::Monthly => ("MONTHLY", format!(";BYMONTHDAY={}", first.day())),
            Frequency::Yearly if has("BYDAY") || has("BYMONTHDAY") || has("BYYEARDAY") => {
                ("YEARLY", String::new())
            }
            Frequency::Yearly if has("BYWEEKNO") => {
                let days = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
                let day = usize::try_from(first.weekday().to_monday_zero_offset()).ok();
                let day = day.and_then(|day| days.get(day)).copied();
                ("YEARLY", format!(";BYDAY={}", day.unwrap_or("MO")))
            }
            Frequency::Yearly if has("BYMONTH") => {
                ("YEARLY", format!(";BYMONTHDAY={}", first.day()))
            }
            Frequency::Yearly => {
                let (month, day) = (first.month(), first.day());
                ("YEARLY", format!(";BYMONTH={month};BYMONTHDAY={day}"))
            }
        };
        let others: String = self
            .others
            .iter()
            .map(|(n, v)| format!(";{n}={v}"))
            .collect();
        format!(
            "FREQ={frequency};INTERVAL={}{others}{implied}",
            self.interval
        )
    }
}

impl RecurrenceId {
    /// When it was to start, as the clocks of the meeting's zone show it.
    #[must_use]
    pub const fn local(self) -> DateTime {
        self.0
    }
}

impl fmt::Display for RecurrenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.strftime("%Y%m%dT%H%M%S").fmt(f)
    }
}

impl From<RecurrenceId> for String {
    fn from(id: RecurrenceId) -> Self {
        id.to_string()
    }
}

/// What is no recurrence id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a recurrence id is a local time such as 20261123T100000")]
pub struct BadRecurrenceId;

impl FromStr for RecurrenceId {
    type Err = BadRecurrenceId;

    fn from_str(text: &str) -> Result<Self, BadRecurrenceId> {
        basic(text).map(Self).ok_or(BadRecurrenceId)
    }
}

impl TryFrom<String> for RecurrenceId {
    type Error = BadRecurrenceId;

    fn try_from(text: String) -> Result<Self, BadRecurrenceId> {
        text.parse()
    }
}

/// A local time of the basic form: 20261123T100000.
fn basic(text: &str) -> Option<DateTime> {
    let plain = |(at, b): (usize, u8)| {
        if at == 8 {
            b == b'T'
        } else {
            b.is_ascii_digit()
        }
    };
    let fits = text.len() == 15 && text.bytes().enumerate().all(plain);
    fits.then(|| text.parse().ok()).flatten()
}

/// Universal times become local ones of the zone; a bare date holds until its end.
fn until(text: &str, zone: &TimeZone) -> Option<DateTime> {
    if let Some(universal) = text.strip_suffix('Z') {
        let at = TimeZone::UTC.to_timestamp(basic(universal)?).ok()?;
        return Some(zone.to_datetime(at));
    }
    basic(text).or_else(|| basic(&format!("{text}T235959")))
}

fn without_name(text: &str) -> &str {
    match text.get(..6) {
        Some(name) if name.eq_ignore_ascii_case("RRULE:") => text.get(6..).unwrap_or_default(),
        Some(_) | None => text,
    }
}

/// How far apart two civil times are.
pub(super) fn shift(from: DateTime, to: DateTime) -> SignedDuration {
    to.duration_since(from)
}

/// Most occurrences of a series that ends: ten years of days. One that doesn't end may have any number.
pub const OCCURRENCES_MAX: usize = 3_660;
const RULE_BYTES_MAX: usize = 512;
const INTERVAL_MAX: i64 = 1_000;
const PARTS: [&str; 7] = [
    "WKST",
    "BYDAY",
    "BYMONTH",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYSETPOS",
];
/// Nothing starts later; times are kept up to the year 2200.
const LAST_START: DateTime = DateTime::constant(2199, 12, 30, 0, 0, 0, 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn rome() -> TimeZone {
        TimeZone::get("Europe/Rome").unwrap()
    }

    fn at(text: &str) -> DateTime {
        text.parse().unwrap()
    }

    fn parse(rule: &str, first: &str) -> Result<Rule, RuleError> {
        Rule::parse(rule, at(first), &rome())
    }

    fn days(rule: &str, first: &str, n: usize) -> Vec<String> {
        let starts = parse(rule, first).unwrap();
        let starts = starts.starts(at(first), at(first)).take(n);
        starts.map(|start| start.date().to_string()).collect()
    }

    #[test]
    fn a_rule_means_what_rfc_5545_says() {
        let first = "2026-01-05T10:00:00";
        assert_eq!(
            days("RRULE:FREQ=WEEKLY;BYDAY=MO,TH;COUNT=3", first, 9),
            ["2026-01-05", "2026-01-08", "2026-01-12"]
        );
        assert_eq!(
            days("freq=monthly;byday=1MO", first, 3),
            ["2026-01-05", "2026-02-02", "2026-03-02"]
        );
        assert_eq!(
            days("FREQ=MONTHLY;UNTIL=20260405T080000Z", first, 9),
            ["2026-01-05", "2026-02-05", "2026-03-05", "2026-04-05"]
        );
        assert_eq!(
            days("FREQ=DAILY;UNTIL=20260106", first, 9),
            ["2026-01-05", "2026-01-06"]
        );
        assert_eq!(
            days("FREQ=MONTHLY", "2026-01-31T10:00:00", 3),
            ["2026-01-31", "2026-03-31", "2026-05-31"]
        );
        assert_eq!(
            days("FREQ=YEARLY;COUNT=2", "2028-02-29T10:00:00", 9),
            ["2028-02-29", "2032-02-29"]
        );
        assert_eq!(
            days(
                "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
                "2026-01-30T10:00:00",
                2
            ),
            ["2026-01-30", "2026-02-27"]
        );
    }

    #[test]
    fn what_is_absurd_or_misspelt_is_refused() {
        let first = "2026-01-05T10:00:00";
        let refused = |rule: &str| parse(rule, first).unwrap_err();
        for bad in [
            "",
            "FREQ",
            "FREQ=",
            "FREQ=SOMETIMES",
            "BYDAY=MO",
            "FREQ=DAILY;FREQ=DAILY",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;INTERVAL=0",
            "FREQ=DAILY;INTERVAL=1001",
            "FREQ=DAILY;COUNT=2;UNTIL=20270101",
            "FREQ=DAILY;UNTIL=tomorrow",
            "FREQ=WEEKLY;BYDAY=XX",
            "FREQ=MONTHLY;BYMONTHDAY=32",
            "FREQ=DAILY\nEXDATE:20260105T100000Z",
            "FREQ=WEEKLY;BYDAY=MO\u{e9}",
            "RRULE:RRULE:FREQ=DAILY",
        ] {
            let error = refused(bad);
            assert!(matches!(error, RuleError::Malformed(_)), "{bad}: {error:?}");
        }
        for later in [
            "FREQ=HOURLY",
            "FREQ=DAILY;BYHOUR=9,17",
            "FREQ=DAILY;BYEASTER=1",
        ] {
            assert!(
                matches!(refused(later), RuleError::NotSupported(_)),
                "{later}"
            );
        }
        assert_eq!(refused("FREQ=DAILY;COUNT=10000"), RuleError::TooMany);
        assert_eq!(refused("FREQ=DAILY;UNTIL=21000101"), RuleError::TooMany);
        assert_eq!(
            refused("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"),
            RuleError::Never
        );
        assert_eq!(refused("FREQ=DAILY;UNTIL=20251231"), RuleError::Never);
        assert_eq!(
            refused("FREQ=WEEKLY;BYDAY=TU"),
            RuleError::OtherFirst(at("2026-01-06T10:00:00"))
        );
        assert!(parse("FREQ=DAILY;COUNT=3660", first).is_ok());
        assert_eq!(refused("FREQ=DAILY;COUNT=3661"), RuleError::TooMany);
    }

    #[test]
    fn expanded_from_anywhere_a_rule_gives_the_same() {
        let first = at("2024-02-29T10:00:00");
        for rule in [
            "FREQ=DAILY",
            "FREQ=DAILY;INTERVAL=3;BYMONTH=1,2,3",
            "FREQ=WEEKLY",
            "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TH,SU,MO",
            "FREQ=WEEKLY;INTERVAL=5;BYDAY=TH,FR",
            "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=29,31",
            "FREQ=MONTHLY;BYMONTHDAY=-1",
            "FREQ=MONTHLY;BYDAY=-1TH;BYSETPOS=1",
            "FREQ=YEARLY",
            "FREQ=YEARLY;BYMONTH=2,7",
            "FREQ=YEARLY;BYYEARDAY=60,-1",
            "FREQ=YEARLY;BYWEEKNO=9,20",
            "FREQ=YEARLY;INTERVAL=2;BYMONTH=2;BYDAY=-1TH",
        ] {
            let rule = Rule::parse(rule, first, &rome()).unwrap_or_else(|e| panic!("{rule}: {e}"));
            let end = at("2033-01-01T00:00:00");
            let all: Vec<DateTime> = rule.starts(first, first).take_while(|s| *s < end).collect();
            assert!(all.len() > 1, "{rule:?}");
            for days in (0..3_000).step_by(37) {
                let from = first.checked_add(days.days()).unwrap();
                let expected: Vec<_> = all.iter().copied().filter(|s| *s >= from).collect();
                let found: Vec<_> = rule.starts(first, from).take_while(|s| *s < end).collect();
                assert_eq!(found, expected, "{rule:?} from {from}");
            }
        }
    }

    #[test]
    fn recurrence_ids_are_local_times_of_the_basic_form() {
        let id: RecurrenceId = "20261123T100000".parse().unwrap();
        assert_eq!(id.to_string(), "20261123T100000");
        assert_eq!(id.local(), at("2026-11-23T10:00:00"));
        for bad in [
            "",
            "2026-11-23T10:00:00",
            "20261123T100000Z",
            "20261323T100000",
            "20261123 100000",
            "+0261123T100000",
        ] {
            assert!(bad.parse::<RecurrenceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn until_is_told_in_the_zone_of_the_meeting() {
        // 23:30 in Rome is 22:30 universal: the last day counts.
        assert_eq!(
            days(
                "FREQ=DAILY;UNTIL=20260106T223000Z",
                "2026-01-05T23:30:00",
                9
            ),
            ["2026-01-05", "2026-01-06"]
        );
    }
}
