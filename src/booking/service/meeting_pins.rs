//! PINs of a meeting beside the two it is booked with: given to single people or machines, withdrawn,
//! replaced.

use std::collections::HashSet;

use jiff::Timestamp;
use uuid::Uuid;

use super::pins::ExplainError;
use super::{BookingError, Bookings, is_conflict, new_id};
use crate::booking::admission::{MeetingId, OrganisationId, Role};
use crate::booking::change::FieldError;
use crate::booking::key::{ApiKey, KeyRole, Permission};
use crate::booking::meeting::{Meeting, kept};
use crate::booking::pin::PinRecord;
use crate::booking::privacy::Pin;
use crate::booking::store::{Conflict, NewPin, PINS_AT_ONCE_MAX, PinChange, PinStep};

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
        let label = read_label(label)?;
        let meeting = self.with_pins(now, key, id).await?;
        let new = NewPin {
            id: new_id(now)?,
            role,
            label: Some(label),
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
    /// is begun by none, is asked of it. For admins: so many an hour and organisation, and a refusal counts as a wrong PIN
    /// in the failure budget, so that nobody's PIN is found out more easily than by calling. Whoever runs the platform
    /// imports more, and those that are shorter than new ones.
    ///
    /// # Errors
    /// Most of [`BookingError`], [`Conflict::PinTaken`] among them, and
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
        let new = NewPin {
            id: new_id(now).map_err(BookingError::from)?,
            role,
            label: Some(label),
            digits: Some(digits.clone()),
            occurrence: None,
        };
        let pin = new.id;
        let changed = self.take_over(now, key, &meeting, new, &digits).await?;
        let added = changed.pins.iter().find(|record| record.id == pin).cloned();
        let added = added.ok_or(BookingError::Changed)?;
        Ok((changed, added))
    }

    /// Whoever doesn't run the platform pays for a refusal like a caller for a wrong PIN: that it is taken tells him what
    /// a caller would hear of it.
    async fn take_over(
        &self,
        now: Timestamp,
        key: &ApiKey,
        meeting: &Meeting,
        new: NewPin,
        digits: &Pin,
    ) -> Result<Meeting, ExplainError> {
        let steps = vec![PinStep::Add(new)];
        if key.role == KeyRole::Platform {
            return Ok(self.change_pins(now, meeting, steps).await?);
        }
        let least = self.digits_of_new_pins(now, meeting.organisation).await;
        if digits.expose().len() < least {
            let must = format!(
                "must have {least} digits or more: a shorter one might begin others; a key of role platform imports those"
            );
            return Err(unfit("out_of_range", must).into());
        }
        let guess = self
            .pay_for_import(now, meeting.organisation, digits)
            .await?;
        let done = self.change_pins(now, meeting, steps).await;
        if matches!(&done, Err(BookingError::Store(error)) if is_conflict(error, Conflict::PinTaken))
        {
            guess.was_wrong();
        }
        Ok(done?)
    }

    /// As many as its organisation's have from now on, or as are configured, whichever is more.
    async fn digits_of_new_pins(&self, now: Timestamp, organisation: OrganisationId) -> usize {
        // Where they can't be read, no PIN can be given either.
        let settings = self.settings_of(now, organisation).await;
        let mint = &self.inner.mint;
        mint.under(settings.unwrap_or_default().pin)
            .length()
            .max(mint.length())
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

    /// Replaces all PINs of a meeting by new ones with the same roles and labels: not too many at once, so where that
    /// fails, the first of many may be new.
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

    async fn change_pins(
        &self,
        now: Timestamp,
        before: &Meeting,
        steps: Vec<PinStep>,
    ) -> Result<Meeting, BookingError> {
        let mut changed = None;
        for portion in portions(steps) {
            let step = self.take_steps(now, before, portion, None).await?;
            self.learn_pins(now, before, &step);
            changed = Some(step);
        }
        changed.ok_or(BookingError::NotFound)
    }

    /// What is to become of PINs, and for which revision, if it is due to that.
    pub(super) async fn take_steps(
        &self,
        now: Timestamp,
        before: &Meeting,
        steps: Vec<PinStep>,
        due_to: Option<i64>,
    ) -> Result<Meeting, BookingError> {
        let change = PinChange {
            meeting: before.id,
            at: kept(now),
            mint: self.inner.mint.clone(),
            steps,
            due_to,
        };
        let changed = self.counted(self.store().change_pins(change).await)?;
        changed.ok_or(BookingError::NotFound)
    }

    pub(super) fn learn_pins(&self, now: Timestamp, before: &Meeting, changed: &Meeting) {
        let left: HashSet<Uuid> = changed.pins.iter().map(|left| left.id).collect();
        for record in before.pins.iter().filter(|pin| !left.contains(&pin.id)) {
            self.inner.known.forget(&record.pin);
        }
        self.inner.known.learn_all(now, changed);
    }
}

/// As much of it as is done at once.
pub(super) fn portions(steps: Vec<PinStep>) -> impl Iterator<Item = Vec<PinStep>> {
    let mut steps = steps.into_iter();
    std::iter::from_fn(move || {
        let portion: Vec<PinStep> = steps.by_ref().take(PINS_AT_ONCE_MAX).collect();
        (!portion.is_empty()).then_some(portion)
    })
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
