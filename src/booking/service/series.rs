//! Series: their occurrences listed, moved, cancelled, ended.

use jiff::Timestamp;

use super::meetings::{ATTEMPTS_MAX, expect_revision};
use super::{BookingError, Bookings};
use crate::booking::admission::MeetingId;
use crate::booking::change::{Change, FieldError, MeetingChange, refusal};
use crate::booking::key::ApiKey;
use crate::booking::meeting::{Meeting, MeetingOptions, MeetingState, kept};
use crate::booking::recurrence::{Recurrence, RecurrenceId};
use crate::booking::series::{Occurrence, Series, SeriesError};

/// What is asked of one occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OccurrenceChange {
    /// Another start; `None`: as it is.
    pub starts_at: Option<Timestamp>,
    /// Another end; `None`: as it is, or as long as it was where the start is another.
    pub ends_at: Option<Timestamp>,
    /// Cancelled, or not any more.
    pub cancelled: Option<bool>,
}

impl Bookings {
    /// Changes one occurrence of a series; the PINs stay.
    ///
    /// # Errors
    /// Most of [`BookingError`]; [`BookingError::NotFound`] also if the series has no such occurrence.
    pub async fn change_occurrence(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
        occurrence: RecurrenceId,
        change: OccurrenceChange,
        expected: Option<i64>,
    ) -> Result<(Meeting, Occurrence), BookingError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut meeting = self.meeting(key, id).await?;
            expect_revision(&meeting, expected)?;
            if meeting.cancelled_at.is_some() {
                return Err(BookingError::Cancelled);
            }
            if meeting.is_retired(now) {
                return Err(BookingError::Retired);
            }
            let series = meeting.series().ok_or(BookingError::NotFound)?;
            let changed = change.apply(series, occurrence)?;
            if meeting.options.recurrence.as_ref() != Some(&changed) {
                meeting.options.recurrence = Some(changed);
                if change.cancelled != Some(true) {
                    apart(now, &meeting.options)?;
                }
                match self.keep(now, meeting).await? {
                    Some(kept) => meeting = kept,
                    None => continue,
                }
            }
            let found = meeting.series().and_then(|s| s.occurrence(occurrence));
            let found = found.ok_or(BookingError::NotFound)?;
            return Ok((meeting, found));
        }
        Err(BookingError::Changed)
    }

    /// Ends a meeting before its time, by a host or the API: its PINs answer "ended" from now on. Of a
    /// series only the occurrence that is open. A permanent meeting, or one that is over or has not begun,
    /// is left as it is.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn end_meeting(&self, now: Timestamp, id: MeetingId) -> Result<(), BookingError> {
        for _ in 0..ATTEMPTS_MAX {
            let found = self.store().meeting(id).await?;
            let mut meeting = found.ok_or(BookingError::NotFound)?;
            let session = meeting.session(now);
            if session.ends_at.is_none() || session.phase != MeetingState::Open {
                return Ok(());
            }
            match (meeting.series(), session.occurrence) {
                (Some(series), Some(occurrence)) => {
                    let ended = series.ended(occurrence, kept(now)).map_err(invalid)?;
                    meeting.options.recurrence = Some(ended);
                }
                (Some(_) | None, _) => meeting.ended_at = Some(kept(now)),
            }
            if self.keep(now, meeting).await?.is_some() {
                return Ok(());
            }
        }
        Err(BookingError::Changed)
    }
}

impl OccurrenceChange {
    fn apply(self, series: Series<'_>, id: RecurrenceId) -> Result<Recurrence, BookingError> {
        let before = series.occurrence(id).ok_or(BookingError::NotFound)?;
        let cancelled = self.cancelled.unwrap_or(before.cancelled);
        let moved = self.starts_at.is_some() || self.ends_at.is_some();
        if cancelled && moved {
            let message = "a cancelled occurrence can't be moved; say cancelled: false with it";
            let error = FieldError::new("cancelled", "invalid", message);
            return Err(BookingError::Invalid(vec![error]));
        }
        if !moved {
            return series.cancelled(id, cancelled).map_err(invalid);
        }
        let starts_at = self.starts_at.map_or(before.starts_at, kept);
        let length = before.ends_at.duration_since(before.starts_at);
        let as_long = starts_at.saturating_add(length).unwrap_or(starts_at);
        let ends_at = match (self.starts_at, self.ends_at) {
            (_, Some(ends_at)) => kept(ends_at),
            (Some(_), None) => as_long,
            (None, None) => before.ends_at,
        };
        if ends_at <= starts_at {
            let error = FieldError::new("ends_at", "out_of_range", "must be after starts_at");
            return Err(BookingError::Invalid(vec![error]));
        }
        series
            .moved(id, Some((starts_at, ends_at)))
            .map_err(invalid)
    }
}

impl MeetingOptions {
    /// What became of single occurrences stays where the series is replaced by one that has them too.
    #[must_use]
    pub(super) fn with_edits_of(mut self, before: &Self) -> Self {
        if let (Some(recurrence), Some(old)) = (self.recurrence.take(), &before.recurrence) {
            self.recurrence = Some(recurrence.with_edits_of(old, &before.schedule, &self.schedule));
        }
        self
    }
}

/// Applies a change; a series that is asked for must not be over already.
pub(super) fn checked(
    now: Timestamp,
    change: MeetingChange,
    base: Option<&MeetingOptions>,
) -> Result<MeetingOptions, BookingError> {
    let asks_for_series = matches!(change.recurrence, Change::Set(_));
    let options = change.apply(base).map_err(BookingError::Invalid)?;
    if asks_for_series && options.closes_at().is_some_and(|closes| closes <= now) {
        let error = FieldError::new("recurrence", "out_of_range", "all its occurrences are over");
        return Err(BookingError::Invalid(vec![error]));
    }
    apart(now, &options)?;
    Ok(options)
}

pub(super) fn apart(now: Timestamp, options: &MeetingOptions) -> Result<(), BookingError> {
    let apart = options.expect_apart(now);
    apart.map_err(|error| BookingError::Invalid(vec![error]))
}

fn invalid(error: SeriesError) -> BookingError {
    BookingError::Invalid(vec![refusal(error)])
}
