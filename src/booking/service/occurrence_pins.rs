//! PINs of single occurrences: given with the booking and with every change, as far ahead as is sensible, and from then
//! on by a job; taken back 30 days after their occurrence.

use std::sync::atomic::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::meeting_pins::portions;
use super::meetings::BOTH_ROLES;
use super::{BookingError, Bookings, new_id};
use crate::booking::admission::Role;
use crate::booking::meeting::{Meeting, PinsPer, QUARANTINE};
use crate::booking::pin::PinRecord;
use crate::booking::recurrence::RecurrenceId;
use crate::booking::store::{NewPin, PinStep, StoreError};

/// What the job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OccurrencePins {
    /// PINs that were given.
    pub given: u64,
    /// PINs that were taken back.
    pub withdrawn: u64,
}

impl Bookings {
    /// Gives occurrences that came near enough their PINs, and takes those of long past ones back. To be called once
    /// an hour or so, by any number of nodes; does at most so much at once that the store has time for others.
    ///
    /// # Errors
    /// The store's.
    pub async fn tend_occurrence_pins(
        &self,
        now: Timestamp,
    ) -> Result<OccurrencePins, BookingError> {
        let mut done = OccurrencePins::default();
        let mut after = None;
        // Also after its end there are PINs to be taken back.
        let margin = QUARANTINE + SignedDuration::from_hours(24);
        let not_over_by = now.saturating_sub(margin).unwrap_or(now);
        while done.given + done.withdrawn < AT_ONCE_MAX {
            let store = self.store();
            let found = store.series_with_occurrence_pins(not_over_by, after, PAGE);
            let page = found.await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for meeting in page {
                match self.tend(now, &meeting, &mut done).await {
                    // This one can't have more, or is gone; the others can.
                    Err(
                        error @ (BookingError::Store(StoreError::Conflict(_))
                        | BookingError::NotFound),
                    ) => {
                        tracing::warn!(meeting = %meeting.id, %error, "occurrences get no PINs");
                    }
                    tended => drop(tended?),
                }
            }
        }
        Ok(done)
    }

    /// PINs of single occurrences that were given since start.
    #[must_use]
    pub fn occurrence_pins_given(&self) -> u64 {
        self.inner.occurrence_pins.load(Ordering::Relaxed)
    }

    /// The PINs that a meeting is booked with.
    pub(super) fn new_pins(
        &self,
        now: Timestamp,
        meeting: &Meeting,
        roles: &[Role],
    ) -> Result<Vec<NewPin>, BookingError> {
        let occurrences: Vec<Option<RecurrenceId>> = match meeting.options.pins_per {
            PinsPer::Series => vec![None],
            PinsPer::Occurrence => {
                let ahead = meeting.occurrences_without_pins(now);
                ahead.into_iter().map(Some).collect()
            }
        };
        let each = occurrences.into_iter().flat_map(|occurrence| {
            let of_it = roles.iter().map(move |&role| (role, occurrence));
            of_it.collect::<Vec<_>>()
        });
        each.map(|(role, occurrence)| {
            Ok(NewPin {
                id: new_id(now)?,
                role,
                label: None,
                digits: None,
                occurrence,
            })
        })
        .collect()
    }

    /// A meeting that was changed just now, with PINs for occurrences that it has now. Where they can't be given, the
    /// job does it later.
    pub(super) async fn with_occurrence_pins(&self, now: Timestamp, meeting: Meeting) -> Meeting {
        let mut done = OccurrencePins::default();
        match self.tend(now, &meeting, &mut done).await {
            Ok(Some(changed)) => changed,
            Ok(None) => meeting,
            Err(error) => {
                tracing::warn!(meeting = %meeting.id, %error, "occurrences get their PINs later");
                meeting
            }
        }
    }

    /// `None`: there is nothing to do.
    async fn tend(
        &self,
        now: Timestamp,
        meeting: &Meeting,
        done: &mut OccurrencePins,
    ) -> Result<Option<Meeting>, BookingError> {
        if meeting.options.pins_per == PinsPer::Series || meeting.is_retired(now) {
            return Ok(None);
        }
        let new = self.new_pins(now, meeting, &BOTH_ROLES)?;
        let past = meeting.pins_of_the_past(now);
        if new.is_empty() && (past.is_empty() || past.len() == meeting.pins.len()) {
            return Ok(None);
        }
        let mut changed = meeting.clone();
        // First what makes room, and by itself: it is done also if no more can be given.
        let withdrawals = past.chunks(WITHDRAWN_AT_ONCE_MAX).map(|some| {
            let some = some.iter().map(|&pin| PinStep::Withdraw(pin));
            some.collect::<Vec<PinStep>>()
        });
        for portion in withdrawals {
            let count = portion.len() as u64;
            changed = self.take_due(now, meeting, portion).await?;
            done.withdrawn += count;
        }
        for portion in portions(new.into_iter().map(PinStep::Add).collect()) {
            let count = portion.len() as u64;
            changed = self.take_due(now, meeting, portion).await?;
            self.add_occurrence_pins(count);
            done.given += count;
        }
        self.learn_pins(now, meeting, &changed);
        Ok(Some(changed))
    }

    async fn take_due(
        &self,
        now: Timestamp,
        meeting: &Meeting,
        steps: Vec<PinStep>,
    ) -> Result<Meeting, BookingError> {
        let due_to = Some(meeting.revision);
        self.take_steps(now, meeting, steps, due_to).await
    }

    /// Counts those among PINs that a meeting was booked with.
    pub(super) fn count_occurrence_pins(&self, given: &[PinRecord]) {
        let of_one = given.iter().filter(|pin| pin.occurrence.is_some());
        self.add_occurrence_pins(of_one.count() as u64);
    }

    fn add_occurrence_pins(&self, given: u64) {
        let all = &self.inner.occurrence_pins;
        all.fetch_add(given, Ordering::Relaxed);
    }
}

/// They take no lock of their own.
const WITHDRAWN_AT_ONCE_MAX: usize = 250;
const PAGE: u32 = 100;
/// PINs that one run gives and takes back, but for the last page.
const AT_ONCE_MAX: u64 = 20_000;
