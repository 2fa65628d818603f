//! Calling people into meetings: may it be done, and is there room for one more.

use jiff::{SignedDuration, Timestamp};

use super::{BookingError, Bookings, new_id};
use crate::booking::admission::{Admission, CallId, PinVerdict, Role};
use crate::booking::change::FieldError;
use crate::booking::dial::DialRefusal;
use crate::booking::meeting::Meeting;
use crate::booking::privacy::CallerNumber;
use crate::booking::store::{DialClaim, DialTurn, StoreError};
use crate::units::Language;

/// A call that is asked for.
#[derive(Debug, Clone)]
pub struct DialRequest {
    /// Whom, as [`normalised`](crate::booking::dial::normalised) gives it.
    pub to: CallerNumber,
    /// One of our numbers, for him to see.
    pub from: Option<String>,
    /// What he becomes in the meeting.
    pub role: Role,
    /// What he is called there.
    pub name: Option<String>,
    /// What he is spoken to in; `None`: as the meeting says.
    pub language: Option<Language>,
}

/// A call that may be begun, and counts until it is over.
#[derive(Debug, Clone)]
pub struct DialPermit {
    /// The call.
    pub call: CallId,
    /// What he may who is called.
    pub admission: Box<Admission>,
    /// The number he sees, as configured.
    pub from: Option<String>,
}

impl Bookings {
    /// May somebody be called into this meeting now? If so the call counts from now on: until its record is kept,
    /// until [`Self::release_dial`], or until nobody has said for a while that it goes on
    /// ([`Self::extend_dials`]).
    ///
    /// # Errors
    /// [`BookingError::Dial`], [`BookingError::NotOpen`], [`BookingError::Invalid`] for a number to show that isn't
    /// the organisation's, or the store's.
    pub async fn permit_dial(
        &self,
        now: Timestamp,
        meeting: &Meeting,
        asked: &DialRequest,
    ) -> Result<DialPermit, BookingError> {
        let from = self.number_to_show(meeting, asked.from.as_deref())?;
        let verdict = meeting.grants(now, asked.role, asked.name.as_deref());
        let PinVerdict::Admitted(admission) = self.in_its_language(now, verdict).await else {
            return Err(BookingError::NotOpen);
        };
        let owner = self
            .store()
            .organisation_record(meeting.organisation)
            .await?;
        let rules = owner.ok_or(BookingError::NotFound)?.settings.dial;
        rules.allow(&asked.to).map_err(BookingError::Dial)?;
        let call = CallId(new_id(now)?);
        let claim = DialClaim {
            call,
            organisation: meeting.organisation,
            at: now,
            counts_until: later(now),
            at_once_max: rules.at_once_max(),
            per_hour_max: rules.per_hour_max(),
        };
        match self.store().claim_dial(claim).await? {
            DialTurn::Granted => Ok(DialPermit {
                call,
                admission,
                from,
            }),
            DialTurn::AtOnce => Err(BookingError::Dial(DialRefusal::AtOnce)),
            DialTurn::PerHour { first_at } => {
                let free_at = first_at.unwrap_or(now).saturating_add(HOUR);
                let wait = free_at.map_or(HOUR, |at| at.duration_since(now));
                let retry_seconds = u32::try_from(wait.as_secs()).unwrap_or(0).max(1);
                Err(BookingError::Dial(DialRefusal::PerHour { retry_seconds }))
            }
        }
    }

    /// The call was not begun after all.
    ///
    /// # Errors
    /// The store's.
    pub async fn release_dial(&self, call: CallId) -> Result<(), StoreError> {
        self.store().release_dial(call).await
    }

    /// These calls go on. To be said at least once a minute.
    ///
    /// # Errors
    /// The store's.
    pub async fn extend_dials(&self, now: Timestamp, calls: Vec<CallId>) -> Result<(), StoreError> {
        self.store().extend_dials(calls, later(now)).await
    }

    /// Who was called wants to come in: may he still?
    pub async fn admit_called(&self, now: Timestamp, invited: &Admission) -> PinVerdict {
        let (role, name) = (invited.role, invited.name.as_deref());
        self.readmit(now, invited.meeting, role, name).await
    }

    fn number_to_show(
        &self,
        meeting: &Meeting,
        asked: Option<&str>,
    ) -> Result<Option<String>, BookingError> {
        let Some(asked) = asked else { return Ok(None) };
        let numbers = self.numbers();
        let ours = numbers
            .find(asked)
            .filter(|number| number.serves(&meeting.organisation_name));
        match ours {
            Some(number) => Ok(Some(number.number.clone())),
            None => {
                let must =
                    "must be one of the numbers that the meeting is reached by (GET /v1/numbers)";
                let error = FieldError::new("from", "not_allowed", must);
                Err(BookingError::Invalid(vec![error]))
            }
        }
    }
}

fn later(now: Timestamp) -> Timestamp {
    now.saturating_add(COUNTS_ON).unwrap_or(Timestamp::MAX)
}

/// How long a call counts of which nothing is heard any more.
const COUNTS_ON: SignedDuration = SignedDuration::from_secs(180);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
