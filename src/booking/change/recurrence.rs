//! What somebody asks to repeat.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

use super::{Change, FieldError, Wrong};
use crate::booking::meeting::{MeetingOptions, PinsPer, Schedule};
use crate::booking::recurrence::{Recurrence, RuleError};
use crate::booking::series::{Repetitions, SeriesError};

/// A series as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecurrenceRequest {
    /// The rule, with or without `RRULE:`.
    pub rule: String,
    /// Starts to leave out: RFC 3339, local times without an offset, or dates.
    pub excluded: Vec<String>,
    /// Starts to add, in the same forms.
    pub added: Vec<String>,
}

impl Wrong {
    pub(super) fn recurrence(
        &mut self,
        change: Change<RecurrenceRequest>,
        schedule: &Schedule,
        base: Option<&MeetingOptions>,
    ) -> Option<Recurrence> {
        let before = base.and_then(|base| Some((base.recurrence.as_ref()?, &base.schedule)));
        let asked = match (change, before) {
            (Change::Keep, Some((before, was))) if was == schedule => return Some(before.clone()),
            (Change::Keep, Some((before, was))) => Ok(before.shifted(was, schedule)),
            (Change::Keep, None) | (Change::Clear, _) => return None,
            (Change::Set(request), _) => request.read(schedule),
        };
        let made = asked.and_then(|asked| Recurrence::new(&asked, schedule).map_err(refusal));
        let kept = made.map(|made| match before {
            Some((before, was)) => made.with_edits_of(before, was, schedule),
            None => made,
        });
        kept.map_err(|error| self.0.push(error)).ok()
    }
}

impl Wrong {
    /// What one PIN opens is said when it is booked, and stays: a change never changes a PIN.
    pub(super) fn pins_per(
        &mut self,
        change: Change<String>,
        is_series: bool,
        base: Option<&MeetingOptions>,
    ) -> PinsPer {
        let before = base.map(|base| base.pins_per);
        let pins_per = match change {
            Change::Keep => before.unwrap_or_default(),
            Change::Clear => PinsPer::Series,
            Change::Set(word) => match word.as_str() {
                "series" => PinsPer::Series,
                "occurrence" => PinsPer::Occurrence,
                _ => {
                    self.add("pins_per", "invalid", "must be series or occurrence");
                    return PinsPer::Series;
                }
            },
        };
        if before.is_some_and(|before| before != pins_per) {
            self.add("pins_per", "invalid", PINS_STAY);
        } else if pins_per == PinsPer::Occurrence && !is_series && self.0.is_empty() {
            let must = "needs a recurrence: a meeting that takes place once has PINs of its own";
            self.add("pins_per", "invalid", must);
        }
        pins_per
    }
}

impl RecurrenceRequest {
    fn read(&self, schedule: &Schedule) -> Result<Repetitions, FieldError> {
        let dates = |name: &str, texts: &[String]| -> Result<BTreeSet<DateTime>, FieldError> {
            let read = |text: &String| start(text, schedule).ok_or_else(|| no_start(name));
            texts.iter().map(read).collect()
        };
        Ok(Repetitions {
            rule: self.rule.clone(),
            excluded: dates("excluded", &self.excluded)?,
            added: dates("added", &self.added)?,
        })
    }
}

/// What a refused series is answered with.
#[must_use]
pub fn refusal(error: SeriesError) -> FieldError {
    let code = match &error {
        SeriesError::Rule(RuleError::NotSupported(_)) => "not_supported",
        SeriesError::Rule(RuleError::Malformed(_)) | SeriesError::NoLength => "invalid",
        SeriesError::Rule(RuleError::TooMany | RuleError::Never | RuleError::OtherFirst(_))
        | SeriesError::AllExcluded
        | SeriesError::SecondTime(_)
        | SeriesError::TooManyDates
        | SeriesError::TooManyEdits
        | SeriesError::Overlap(_) => "out_of_range",
    };
    FieldError::new("recurrence", code, error.to_string())
}

/// A bare date is that day at the time of the series.
fn start(text: &str, schedule: &Schedule) -> Option<DateTime> {
    let local = if let Ok(date) = text.parse::<Date>()
        && text.len() == "2026-11-23".len()
    {
        date.to_datetime(schedule.starts_local().time())
    } else if let Ok(at) = text.parse::<Timestamp>() {
        schedule.civil(at)?
    } else {
        text.parse().ok()?
    };
    let possible = (2000..2200).contains(&local.year()) && local.subsec_nanosecond() == 0;
    possible.then_some(local)
}

/// Why what one PIN opens can't be changed.
pub const PINS_STAY: &str =
    "can't be changed, as a change never changes a PIN; book another meeting";

fn no_start(name: &str) -> FieldError {
    let message = format!(
        "{name}: must be times such as 2026-11-23T10:00:00+01:00, 2026-11-23T10:00:00 in the meeting's zone, or dates such as 2026-11-23"
    );
    FieldError::new("recurrence", "invalid", message)
}
