//! PINs of a meeting beside the two it is booked with: given to single people or machines, withdrawn,
//! replaced.

use jiff::Timestamp;
use uuid::Uuid;

use super::pins::ExplainError;
use super::{BookingError, Bookings, new_id};
use crate::booking::admission::{MeetingId, Role};
use crate::booking::change::FieldError;
use crate::booking::key::{ApiKey, KeyRole, Permission};
use crate::booking::meeting::{Meeting, kept};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;
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
            digits: None,
            occurrence: None,
        };
        let pin = new.id;
        let changed = self
            .change_pins(now, &meeting, vec![PinStep::Add(new)])
            .await?;
        let added = changed.pins.iter().find(|record| record.id == pin).cloned();
        let added = added.ok_or(BookingError::Changed)?;
        Ok((changed, added))
    }

    /// Gives a meeting a PIN that people know already, however it is made; only that it is or begins no other one, and
    /// is begun by none, is asked of it. For admins, whose tries are limited so that a refusal finds nobody's PIN out;
    /// whoever runs the platform imports more, and those that are shorter than others.
    ///
    /// # Errors
    /// Most of [`BookingError`], [`Conflict::PinTaken`](crate::booking::store::Conflict::PinTaken) among them, and
    /// [`ExplainError::TooOften`].
    pub async fn import_pin(
        &self,
        now: Timestamp,
        key: &ApiKey,
        id: MeetingId,
        (role, label): (Role, &str),
        digits: &str,
    ) -> Result<(Meeting, PinRecord), ExplainError> {
        if !key.role.may(Permission::Manage) {
            return Err(BookingError::Forbidden.into());
        }
        let label = read_label(label)?;
        let digits = Pin::parse(digits).map_err(|bad| unfit("invalid", bad.to_string()))?;
        let meeting = self.with_pins(now, key, id).await?;
        if key.role != KeyRole::Platform {
            let longest = self.pin_lengths().last().copied();
            if longest.is_some_and(|longest| digits.expose().len() < longest) {
                let longest = longest.unwrap_or_default();
                let must = format!(
                    "must have {longest} digits or more: a shorter one might begin others; a key of role platform imports those"
                );
                return Err(unfit("out_of_range", must).into());
            }
            self.count_import(now, key)?;
        }
        let new = NewPin {
            id: new_id(now).map_err(BookingError::from)?,
            role,
            label: Some(label),
            digits: Some(digits),
            occurrence: None,
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
                digits: None,
                occurrence: record.occurrence,
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

    pub(super) async fn change_pins(
        &self,
        now: Timestamp,
        before: &Meeting,
        steps: Vec<PinStep>,
    ) -> Result<Meeting, BookingError> {
        let change = PinChange {
            meeting: before.id,
            at: kept(now),
            mint: self.inner.mint.clone(),
            steps,
        };
        let changed = self.counted(self.store().change_pins(change).await)?;
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

fn unfit(code: &'static str, must: String) -> BookingError {
    BookingError::Invalid(vec![FieldError::new("pin", code, must)])
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
