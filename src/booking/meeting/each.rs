//! Series whose occurrences have PINs of their own: what such a PIN opens, which are to be given and which to be taken
//! back.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Meeting, MeetingOptions, MeetingState, QUARANTINE, Session, after};
use crate::booking::admission::Role;
use crate::booking::change::FieldError;
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;
use crate::booking::recurrence::RecurrenceId;
use crate::booking::series::{Occurrence, Series};

/// What one PIN of a meeting opens.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PinsPer {
    /// All of it.
    #[default]
    Series,
    /// One occurrence.
    Occurrence,
}

impl Meeting {
    /// What a PIN of this occurrence finds at `now`; `None`: one that opens all of them.
    #[must_use]
    pub fn session_of(&self, now: Timestamp, occurrence: Option<RecurrenceId>) -> Session {
        let Some(id) = occurrence else {
            return self.session(now);
        };
        if self.cancelled_at.is_some() || self.ended_at.is_some() {
            return self.whole(now);
        }
        let Some(found) = self.series().and_then(|series| series.occurrence(id)) else {
            // The series was changed, and it is none of its occurrences any more.
            return Session {
                phase: MeetingState::Cancelled,
                ..self.whole(now)
            };
        };
        let margins = self.options.margins();
        let (opens_at, closes_at) = (margins.opens(&found), margins.closes(&found));
        let phase = if found.cancelled {
            MeetingState::Cancelled
        } else if closes_at <= now {
            MeetingState::Ended
        } else if now < opens_at {
            MeetingState::Scheduled
        } else {
            MeetingState::Open
        };
        Session {
            phase,
            occurrence: Some(id),
            opens_at,
            starts_at: found.starts_at,
            ends_at: Some(found.ends_at),
            closes_at: Some(closes_at),
        }
    }

    /// The PIN of a role, without a name of its own, that opens what a session is about.
    #[must_use]
    pub fn pin_to(&self, role: Role, occurrence: Option<RecurrenceId>) -> Option<&Pin> {
        let occurrence = match self.options.pins_per {
            PinsPer::Series => None,
            PinsPer::Occurrence => occurrence,
        };
        self.unnamed(role, occurrence).map(|record| &record.pin)
    }

    /// Is this PIN lost to it, as all of it or as its occurrence has been over for so long?
    #[must_use]
    pub fn has_lost(&self, now: Timestamp, pin: &PinRecord) -> bool {
        self.is_retired(now) || self.is_past(now, pin)
    }

    /// Occurrences that are to have PINs by now and don't: those of the next year, at most [`AHEAD_MAX`], and the
    /// next one in any case.
    #[must_use]
    pub fn occurrences_without_pins(&self, now: Timestamp) -> Vec<RecurrenceId> {
        if self.options.pins_per == PinsPer::Series || self.cancelled_at.is_some() {
            return Vec::new();
        }
        let Some(series) = self.series() else {
            return Vec::new();
        };
        let upcoming = series.occurrences(now, Timestamp::MAX, AHEAD_MAX);
        let horizon = after(now, AHEAD);
        let near = |(n, o): &(usize, &Occurrence)| *n == 0 || o.starts_at < horizon;
        let near = upcoming.iter().enumerate().take_while(near);
        near.map(|(_, occurrence)| occurrence.id)
            .filter(|id| self.unnamed(Role::Guest, Some(*id)).is_none())
            .collect()
    }

    /// PINs whose occurrence has been over for so long that they open and tell nothing any more.
    #[must_use]
    pub fn pins_of_the_past(&self, now: Timestamp) -> Vec<Uuid> {
        let past = self.pins.iter().filter(|pin| self.is_past(now, pin));
        past.map(|pin| pin.id).collect()
    }

    /// Lets PINs go along where the series was changed as a whole: each belongs to what became of its occurrence.
    pub(in crate::booking) fn let_pins_follow(&mut self, before: &MeetingOptions) {
        if self.options.pins_per == PinsPer::Series || self.options.schedule == before.schedule {
            return;
        }
        let mut pins = std::mem::take(&mut self.pins);
        if let (Some(series), Some(was)) = (self.series(), before.series()) {
            for pin in &mut pins {
                let became = pin.occurrence.and_then(|id| series.became(id, was));
                pin.occurrence = became.or(pin.occurrence);
            }
        }
        self.pins = pins;
    }

    fn unnamed(&self, role: Role, occurrence: Option<RecurrenceId>) -> Option<&PinRecord> {
        self.pins
            .iter()
            .find(|p| p.role == role && p.label.is_none() && p.occurrence == occurrence)
    }

    fn is_past(&self, now: Timestamp, pin: &PinRecord) -> bool {
        let Some(id) = pin.occurrence else {
            return false;
        };
        let found = self.series().and_then(|series| series.occurrence(id));
        let over = found.map_or(self.updated_at, |o| self.options.margins().closes(&o));
        after(over, QUARANTINE) <= now
    }
}

impl MeetingOptions {
    fn series(&self) -> Option<Series<'_>> {
        Series::of(self.recurrence.as_ref()?, &self.schedule)
    }

    /// Occurrences with PINs of their own must not be open at the same time: they would be one meeting, in which
    /// people find themselves who have no PIN for it.
    ///
    /// # Errors
    /// Which one comes too soon.
    pub(in crate::booking) fn expect_apart(&self, now: Timestamp) -> Result<(), FieldError> {
        let Some(series) = self
            .series()
            .filter(|_| self.pins_per == PinsPer::Occurrence)
        else {
            return Ok(());
        };
        match series.too_close(now, self.margins()) {
            None => Ok(()),
            Some(id) => {
                let message = format!(
                    "the occurrence of {id} could be entered while the one before it may still go on; with PINs for each, overrun_minutes and early_join_minutes must fit between them"
                );
                Err(FieldError::new("pins_per", "out_of_range", message))
            }
        }
    }
}

/// So far ahead occurrences have their PINs.
const AHEAD: SignedDuration = SignedDuration::from_hours(24 * 366);
/// And at most so many.
pub const AHEAD_MAX: usize = 100;
