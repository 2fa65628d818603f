//! PINs of a meeting beside the two it is booked with: given to single people or machines, withdrawn,
//! replaced.

use jiff::Timestamp;
use uuid::Uuid;

use super::{BookingError, Bookings, new_id};
use crate::booking::admission::{MeetingId, Role};
use crate::booking::change::FieldError;
use crate::booking::key::ApiKey;
use crate::booking::meeting::{Meeting, kept};
use crate::booking::pin::PinRecord;
use crate::booking::store::{NewPin, PinChange, PinStep};

impl Bookings {
    /// The PINs of a meeting; none once they were released.
    ///
    /// # Errors
    /// [`BookingError::NotFound`], or the store's.
    pub async fn meeting_pins(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
    ) -> Result<Vec<PinRecord>, BookingError> {
        let meeting = self.meeting(key, id).await?;
        let retired = meeting.is_retired(now);
        Ok(if retired { Vec::new() } else { meeting.pins })
    }

    /// Gives a meeting one more PIN; its label names who or what comes in with it.
    ///
    /// # Errors
    /// Most of [`BookingError`].
    pub async fn add_pin(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
        role: Role,
        label: &str,
    ) -> Result<(Meeting, PinRecord), BookingError> {
        let meeting = self.with_pins(now, key, id).await?;
        let new = NewPin {
            id: new_id(now)?,
            role,
            label: Some(read_label(label)?),
        };
        let pin = new.id;
        let changed = self
            .change_pins(now, &meeting, vec![PinStep::Add(new)])
            .await?;
        let added = changed.pins.iter().find(|record| record.id == pin).cloned();
        let added = added.ok_or(BookingError::Changed)?;
        Ok((changed, added))
    }

    /// Withdraws a PIN: it is answered as one that never was, and belongs to nobody for the quarantine.
    /// Who is in with it stays.
    ///
    /// # Errors
    /// [`BookingError::NotFound`] also if the meeting has no such PIN, or not any more.
    pub async fn withdraw_pin(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
        pin: Uuid,
    ) -> Result<Meeting, BookingError> {
        let meeting = self.with_pins(now, key, id).await?;
        if !meeting.pins.iter().any(|record| record.id == pin) {
            return Err(BookingError::NotFound);
        }
        self.change_pins(now, &meeting, vec![PinStep::Withdraw(pin)])
            .await
    }

    /// Replaces all PINs of a meeting by new ones with the same roles and labels.
    ///
    /// # Errors
    /// Most of [`BookingError`].
    pub async fn rotate_pins(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
    ) -> Result<Meeting, BookingError> {
        let meeting = self.with_pins(now, key, id).await?;
        let replaced = meeting.pins.iter().map(|record| {
            let new = NewPin {
                id: new_id(now)?,
                role: record.role,
                label: record.label.clone(),
            };
            Ok(PinStep::Replace(record.id, new))
        });
        let steps = replaced.collect::<Result<_, BookingError>>()?;
        self.change_pins(now, &meeting, steps).await
    }

    /// A meeting whose PINs may be changed.
    async fn with_pins(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
    ) -> Result<Meeting, BookingError> {
        let meeting = self.meeting(key, id).await?;
        if meeting.cancelled_at.is_some() {
            Err(BookingError::Cancelled)
        } else if meeting.is_retired(now) {
            Err(BookingError::Retired)
        } else {
            Ok(meeting)
        }
    }

    async fn change_pins(
        &self,
        now: Timestamp,
        before: &Meeting,
        steps: Vec<PinStep>,
    ) -> Result<Meeting, BookingError> {
        let change = PinChange {
            meeting: before.id,
            at: kept(now),
            mint: self.inner.mint,
            steps,
        };
        let changed = self.store().change_pins(change).await?;
        let changed = changed.ok_or(BookingError::NotFound)?;
        for record in &before.pins {
            if !changed.pins.iter().any(|left| left.id == record.id) {
                self.inner.known.forget(&record.pin);
            }
        }
        self.inner.known.learn_all(now, &changed);
        Ok(changed)
    }
}

fn read_label(label: &str) -> Result<String, BookingError> {
    let label = label.trim();
    let fits = (1..=LABEL_CHARS_MAX).contains(&label.chars().count())
        && !label.chars().any(char::is_control);
    if fits {
        return Ok(label.to_owned());
    }
    let message =
        format!("must be 1 to {LABEL_CHARS_MAX} characters, none of them a control character");
    let error = FieldError::new("label", "invalid", message);
    Err(BookingError::Invalid(vec![error]))
}

/// As long as a participant's name may be.
const LABEL_CHARS_MAX: usize = 100;
