//! What went on in a period: counted from call records, day by day or month by month.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};

use crate::booking::admission::Outcome;

/// A stretch of time, its end not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// From then on.
    pub from: Timestamp,
    /// Until just before then.
    pub to: Timestamp,
}

/// What a period is cut into.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Local days.
    Day,
    /// Local months.
    Month,
}

/// A period that can't be counted in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPeriod {
    /// It ends before it begins, or as it does.
    #[error("must be after `from`")]
    Empty,
    /// More days than that at once take too long.
    #[error(
        "must be at most 100 days after `from`, by month at most 5 years, and else at most 366 days"
    )]
    TooLong,
}

/// What went on in a period. Calls belong to when they arrived.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    /// How many calls ended how.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Meetings, or occurrences of series, that somebody joined.
    pub meetings: u64,
    /// Most callers in meetings at once, from their calls' answer on.
    pub callers_peak: u64,
    /// Microseconds that calls took which joined, from answer to end.
    pub micros: u64,
    /// By the number that was dialled, the most used first, and not more than [`NUMBERS_MAX`].
    pub numbers: Vec<NumberUsage>,
    /// How well they heard.
    pub quality: QualityUsage,
}

/// What came by one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberUsage {
    /// As dialled.
    pub number: String,
    /// Calls that joined.
    pub joined: u64,
    /// Microseconds that they took.
    pub micros: u64,
}

/// The quality of those calls of which it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QualityUsage {
    /// How many.
    pub measured: u64,
    /// Lost packets of a million, all calls' added up.
    pub loss_ppm_sum: u64,
    /// How many lost at most so many of a million as [`LOSS_PPM`] says and more than the one before; the last: more.
    pub loss: [u64; LOSS_PPM.len() + 1],
    /// Hundredths of mean opinion scores, all calls' added up.
    pub mos_sum: u64,
    /// How many had at least the score that [`MOS_HUNDREDTHS`] says and less than the one before; the last: less.
    pub mos: [u64; MOS_HUNDREDTHS.len() + 1],
}

impl Period {
    /// Cut where local days or months begin; in one piece without a `step`.
    ///
    /// # Errors
    /// [`BadPeriod`].
    pub fn cut(self, step: Option<Step>, zone: &TimeZone) -> Result<Vec<Self>, BadPeriod> {
        if self.to <= self.from {
            return Err(BadPeriod::Empty);
        }
        let most = match step {
            None => 366.days(),
            Some(Step::Day) => 100.days(),
            Some(Step::Month) => 5.years(),
        };
        let begin = zone.to_datetime(self.from);
        let end = begin.checked_add(most).ok();
        if end.is_none_or(|end| zone.to_datetime(self.to) > end) {
            return Err(BadPeriod::TooLong);
        }
        let mut pieces = Vec::new();
        let mut rest = self;
        while let Some(next) = step.and_then(|step| step.next(zone, rest.from)) {
            if next <= rest.from || next >= rest.to {
                break;
            }
            let from = std::mem::replace(&mut rest.from, next);
            pieces.push(Self { from, to: next });
        }
        pieces.push(rest);
        Ok(pieces)
    }
}

impl Step {
    /// When the next one begins.
    fn next(self, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
        let today = zone.to_datetime(at).date();
        let (first, span): (Date, Span) = match self {
            Self::Day => (today, 1.day()),
            Self::Month => (today.first_of_month(), 1.month()),
        };
        let next = first.checked_add(span).ok()?;
        zone.to_timestamp(DateTime::from(next)).ok()
    }
}

impl Usage {
    /// All calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.outcomes.iter().map(|(_, count)| count).sum()
    }

    /// Calls that ended so.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        let ended = self.outcomes.iter().find(|(other, _)| *other == outcome);
        ended.map_or(0, |(_, count)| *count)
    }
}

/// Bounds of what is lost, of a million: nothing, 1 %, 3 %, 5 %.
pub const LOSS_PPM: [u32; 4] = [0, 10_000, 30_000, 50_000];
/// Bounds of mean opinion scores, in hundredths: what ITU-T G.107 annex B says of how users are content.
pub const MOS_HUNDREDTHS: [u32; 4] = [434, 403, 360, 310];
/// Most numbers that are told of in a period.
pub const NUMBERS_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(from: &str, to: &str, step: Option<Step>) -> Result<Vec<String>, BadPeriod> {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let rome = TimeZone::get("Europe/Rome").unwrap();
        let pieces = Period { from, to }.cut(step, &rome)?;
        let shown = |piece: &Period| format!("{} {}", piece.from, piece.to);
        Ok(pieces.iter().map(shown).collect())
    }

    #[test]
    fn a_period_is_cut_where_local_days_and_months_begin() {
        // The day of the change of clocks has 25 hours.
        assert_eq!(
            cut(
                "2026-10-24T12:00:00Z",
                "2026-10-26T00:00:00Z",
                Some(Step::Day)
            )
            .unwrap(),
            [
                "2026-10-24T12:00:00Z 2026-10-24T22:00:00Z",
                "2026-10-24T22:00:00Z 2026-10-25T23:00:00Z",
                "2026-10-25T23:00:00Z 2026-10-26T00:00:00Z",
            ]
        );
        assert_eq!(
            cut(
                "2026-10-31T23:00:00Z",
                "2026-12-31T23:00:00Z",
                Some(Step::Month)
            )
            .unwrap(),
            [
                "2026-10-31T23:00:00Z 2026-11-30T23:00:00Z",
                "2026-11-30T23:00:00Z 2026-12-31T23:00:00Z",
            ]
        );
        let whole = "2026-10-31T23:00:00Z 2026-12-31T23:00:00Z";
        assert_eq!(
            cut("2026-10-31T23:00:00Z", "2026-12-31T23:00:00Z", None).unwrap(),
            [whole]
        );
    }

    #[test]
    fn a_period_has_a_length() {
        let (from, later) = ("2026-01-01T00:00:00Z", "2026-04-12T00:00:00Z");
        assert_eq!(cut(from, from, None), Err(BadPeriod::Empty));
        assert_eq!(cut(later, from, None), Err(BadPeriod::Empty));
        assert_eq!(cut(from, later, Some(Step::Day)), Err(BadPeriod::TooLong));
        let days = cut(from, "2026-04-10T23:00:00Z", Some(Step::Day)).unwrap();
        assert_eq!(days.len(), 101, "the first and the last are cut short");
        assert_eq!(
            cut(from, "2032-01-01T00:00:00Z", Some(Step::Month)),
            Err(BadPeriod::TooLong)
        );
        assert!(cut(from, "2030-12-01T00:00:00Z", Some(Step::Month)).is_ok());
        assert_eq!(
            cut(from, "2027-02-01T00:00:00Z", None),
            Err(BadPeriod::TooLong)
        );
    }
}
